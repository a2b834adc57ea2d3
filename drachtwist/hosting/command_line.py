"""Command lines of the plugins of ``twistd``: help that can be read, and errors that can be found.

Twisted prints all options when one of them is wrong, and the error in front of them or behind them.
Here an error is the last line, behind the option that it is about, and the exit status is 2; so it
is where ``twistd`` or ``twist`` read the options. A program that reads them itself gets the
:exc:`~twisted.python.usage.UsageError`, as ever.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from twisted.python import usage

__all__ = ["BAD_USAGE", "CommandLine", "nearest"]

BAD_USAGE = 2
"""The exit status for a command line that cannot be understood."""

_OPTION = re.compile(r"--[a-z0-9][a-z0-9-]*")
_UNKNOWN = re.compile(r"option (-\S+) not recognized")
_MARGIN = 2
_HANGING = 24


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Return the word that was probably meant; None when there is none like it."""
    found = get_close_matches(word, list(words), n=1, cutoff=0.75)
    return found[0] if found else None


class CommandLine(usage.Options):
    """Options of a plugin; what its docstrings and descriptions say is shown without their margins.

    ``longdesc`` is shown above the options, and ``examples`` below them, line by line.
    """

    name = ""
    """What the plugin is called."""
    longdesc = ""
    examples: Sequence[str] = ()

    def __init__(self) -> None:
        super().__init__()
        for option, text in self.docs.items():
            self.docs[option] = " ".join((text or "").split())

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read a command line.

        :raises UsageError: when it cannot be understood, and nobody else reads options around it.
        :raises SystemExit: with status 2, when ``twistd`` or ``twist`` does.
        """
        words = sys.argv[1:] if options is None else list(options)
        try:
            try:
                super().parseOptions(words)
            except usage.UsageError as error:
                raise usage.UsageError(self._explained(str(error))) from None
        except usage.UsageError as error:
            if self.parent is None:
                raise
            print(self.complaint(str(error)), file=sys.stderr)
            raise SystemExit(BAD_USAGE) from None

    def complaint(self, problem: str) -> str:
        """Return what is said about an error: the option that it is about, and it as the last line.

        :param problem: one line.
        """
        lines = []
        for found in _OPTION.findall(problem):
            if found[2:] in self.docs and found != "--help":
                lines = [*self._about(found[2:]), ""]
                break
        return "\n".join([*lines, f"{self._called()}: {problem}"])

    def getUsage(self, width: int | None = None) -> str:
        """Write everything down for people."""
        width = width or int(os.environ.get("COLUMNS", "80"))
        parts = []
        for paragraph in inspect.cleandoc(self.longdesc).split("\n\n"):
            parts += [*textwrap.wrap(" ".join(paragraph.split()), width), ""]
        parts.append("Options:")
        for option in sorted({name.rstrip("=") for name in self.longOpt}):
            parts += self._about(option, width)
        if self.examples:
            parts += ["", "Examples:", *(f"  {line}" for line in self.examples)]
        return "\n".join(["", *parts, ""])

    @property
    def elsewhere(self) -> Sequence[tuple[str, str]]:
        """Options that somebody else has: a name, and a sentence about it."""
        return ()

    # Inside

    def _called(self) -> str:
        """Return how the command was called."""
        program = os.path.basename(sys.argv[0]) if self.parent is not None else ""
        return " ".join(filter(None, (program, self.name)))

    def _about(self, option: str, width: int = 80) -> list[str]:
        """Return the lines about an option."""
        short = next(
            (key for key, long in self.synonyms.items() if long == option and len(key) == 1), ""
        )
        spelled = f"-{short}, --{option}" if short else f"    --{option}"
        if f"{option}=" in self.longOpt:
            spelled += "="
        head = " " * _MARGIN + spelled
        text = self.docs.get(option, "")
        default = self.defaults.get(option)
        if f"{option}=" in self.longOpt and default is not None:
            text += f" [default: {default}]"
        margin = " " * _HANGING
        lines = textwrap.wrap(text, width, initial_indent=margin, subsequent_indent=margin)
        if lines and len(head) < _HANGING - 1:
            lines[0] = head.ljust(_HANGING) + lines[0].lstrip()
            return lines
        return [head, *lines]

    def _explained(self, problem: str) -> str:
        """Say what was meant, where Twisted says only that it does not know an option."""
        unknown = _UNKNOWN.search(problem)
        if unknown is None:
            return problem
        option = unknown[1]
        for name, where in self.elsewhere:
            if option == f"--{name}":
                return where
        meant = nearest(option, [f"--{name.rstrip('=')}" for name in self.longOpt])
        hint = f"; did you mean {meant}?" if meant else f"; {self.name or 'see'} --help lists all"
        return f"there is no option {option}{hint}"
