"""Which command it is: ``drachtwist COMMAND ...``.

A command is imported when it is asked for, so that help comes at once and a reactor can still be
chosen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from drachtwist.cli.outcomes import CommandError, Exit
from drachtwist.hosting.command_line import nearest
from drachtwist.version import VERSION

__all__ = ["COMMANDS", "help_text", "main"]

COMMANDS = {
    "new": "make a project: an application with tests, a README and a Dockerfile",
    "run": "run an application with a server of its own, and draw its calls",
    "check": "import an application, and list what it handles and what is missing",
    "call": "call somebody, and draw the call",
    "options": "ask whether somebody is there",
    "register": "register a phone, and stay registered",
    "send": "send a single request, such as a MESSAGE",
    "ladder": "draw the calls in a capture file",
    "demo": "start a server and an example application, and call it",
}
"""What there is, and what it is for; each is a module of this package."""

_EXAMPLES = """\
examples:
  drachtwist new shop && cd shop && drachtwist run
  drachtwist call sip:hello@127.0.0.1:5060
  drachtwist COMMAND --help

exit status:
  0 it worked; 1 it could not be done here; 2 wrong usage; 3, 4, 5, 6 the answer is
  a 3xx, 4xx, 5xx, 6xx; 7 nobody answered; 130 interrupted

Applications in production are hosted by twist or twistd: see 'twist drachtio --help'
and 'twist drachtio-server --help'.
"""


def help_text() -> str:
    """Return what ``drachtwist --help`` shows."""
    lines = ["usage: drachtwist COMMAND ...", "", "SIP applications in Python, on Twisted.", ""]
    lines.append("commands:")
    lines += [f"  {name.ljust(10)}{about}" for name, about in COMMANDS.items()]
    return "\n".join([*lines, "", _EXAMPLES.rstrip("\n")])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    :param arguments: what follows the name of the program; from the command line if None.
    :returns: the exit status, one of :class:`~drachtwist.cli.outcomes.Exit`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except CommandError as error:
        sys.stdout.flush()
        print(error, file=sys.stderr)
        return error.exit
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read has gone; nothing can be written any more, at the end of the process neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILED


def _run(words: list[str]) -> int:
    if not words:
        print(help_text())
        return Exit.USAGE
    name, *rest = words
    if name in ("-h", "--help", "help"):
        if name == "help" and rest and rest[0] in COMMANDS:
            return _run([rest[0], "--help"])
        print(help_text())
        return Exit.OK
    if name in ("-V", "--version"):
        print(f"drachtwist {VERSION}")
        return Exit.OK
    if name not in COMMANDS:
        meant = nearest(name, COMMANDS)
        hint = f"did you mean {meant}?" if meant else f"there are {', '.join(COMMANDS)}"
        raise CommandError(f"drachtwist: there is no command {name!r}; {hint}", Exit.USAGE)
    status: int = import_module(f"drachtwist.cli.{name}").main(rest)
    return status
