"""``drachtwist demo``: start a server and an example application, and call it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drachtwist.cli.parsing import Parser, port

__all__ = ["main", "read"]


def main(words: Sequence[str]) -> int:
    """Show a call; see :func:`drachtwist.demo.demo.run`."""
    options = read(words)
    from drachtwist.demo.demo import run

    return run(options.port, once=options.once)


def read(words: Sequence[str]) -> Any:
    """Read the words of the command.

    :raises CommandError: when they cannot be understood.
    """
    parser = Parser(
        "demo",
        """
        Start the embedded server and an example application under twistd, place a SIP call
        to it over UDP, print the call as a ladder diagram, and stay up for calls from any
        softphone.
        """,
        ("drachtwist demo", "drachtwist demo --once --port 0"),
    )
    parser.add_argument(
        "--port",
        type=port,
        help="the port to serve SIP on; 5060 if it is free, or else any free one; 0 for any",
    )
    parser.add_argument("--once", action="store_true", help="stop after the call")
    return parser.parse_args(words)
