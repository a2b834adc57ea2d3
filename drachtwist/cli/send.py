"""``drachtwist send``: send a single request, such as a MESSAGE."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from drachtwist.cli.line import Line, add_line_options, prepare
from drachtwist.cli.options import send_once
from drachtwist.cli.parsing import Parser
from drachtwist.cli.reactors import Leave, run_on_reactor
from drachtwist.sip.grammar import is_token

__all__ = ["main", "read", "send"]


def main(words: Sequence[str]) -> int:
    """Send a request."""
    options = read(words)
    return run_on_reactor(lambda reactor, leave: send(reactor, options, leave))


def read(words: Sequence[str]) -> Any:
    """Read the words of the command.

    :raises CommandError: when they cannot be understood.
    """
    parser = Parser(
        "send",
        """
        Send a single request outside of calls, and show the response. The exit status is 0
        for a 2xx, 3 to 6 for a 3xx to 6xx, 7 when there was none.
        """,
        (
            "drachtwist send sip:bob@127.0.0.1 --method MESSAGE --body 'the soup is ready'",
            "drachtwist send sip:bob@127.0.0.1 --method NOTIFY -H 'Event: check-sync'"
            " -H 'Subscription-State: terminated'",
            "drachtwist send sip:bob@127.0.0.1 --method PUBLISH --body-file state.xml"
            " --type application/pidf+xml -H 'Event: presence'",
        ),
    )
    parser.add_argument("uri", metavar="URI", help="whom; sip: may be left out")
    parser.add_argument(
        "-m", "--method", default="MESSAGE", help="of the request; MESSAGE unless given"
    )
    body = parser.add_mutually_exclusive_group()
    body.add_argument("-b", "--body", metavar="TEXT", help="what it says")
    body.add_argument("--body-file", metavar="FILE", help="the file that has it; - for the input")
    parser.add_argument(
        "--type",
        metavar="TYPE",
        default="text/plain",
        help="the Content-Type of the body; text/plain unless given",
    )
    add_line_options(parser)
    options = parser.parse_args(words)
    prepare(parser, options)
    options.method = options.method.upper()
    if not is_token(options.method):
        parser.error(f"--method: {options.method!r} is no method")
    if options.method in ("INVITE", "ACK", "CANCEL"):
        parser.error(f"--method: {options.method} is no request for itself; see drachtwist call")
    options.content = _content(parser, options)
    return options


def _content(parser: Parser, options: Any) -> bytes:
    if options.body is not None:
        return str(options.body).encode("utf-8", "surrogateescape")
    if options.body_file is None:
        return b""
    try:
        if options.body_file == "-":
            return sys.stdin.buffer.read()
        return Path(options.body_file).read_bytes()
    except OSError as error:
        parser.error(f"--body-file: cannot read {options.body_file}: {error.strerror}")


async def send(reactor: Any, options: Any, leave: Leave) -> int:
    """Send the request.

    :param options: what :func:`read` returned.
    :returns: the exit status.
    :raises CommandError: when there was no answer.
    """
    content = options.content
    line = Line(reactor, options, options.uri.partition(";")[0], draws=False)
    await line.open()
    headers = [("Content-Type", options.type)] if content else []
    try:
        return await send_once(line, options, options.method, leave, headers=headers, body=content)
    finally:
        await line.close()
        line.picture.close()
