"""The command ``drachtwist``: ``drachtwist demo`` shows a call."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from drachtwist.version import VERSION

__all__ = ["main"]


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port number (0 to 65535)")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="drachtwist",
        description="SIP applications in Python, on Twisted.",
        epilog="Applications are hosted by twistd: see 'twistd drachtio --help' and"
        " 'twistd drachtio-server --help'.",
    )
    parser.add_argument("--version", action="version", version=f"drachtwist {VERSION}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="start a server and an application, and call it",
        description="Start the embedded server and an example application under twistd, place a"
        " SIP call to it over UDP, print the call as a ladder diagram, and stay up for calls from"
        " any softphone.",
    )
    demo.add_argument(
        "--port",
        type=_port,
        default=None,
        help="the port to serve SIP on; 5060 if it is free, or else any free one; 0 for any",
    )
    demo.add_argument("--once", action="store_true", help="stop after the call")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    :param arguments: what follows the name of the command; from the command line if None.
    :returns: the exit status.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 2
    from drachtwist.demo.demo import run

    return run(options.port, once=options.once)


if __name__ == "__main__":
    sys.exit(main())
