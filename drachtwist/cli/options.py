"""``drachtwist options``: ask whether somebody is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from drachtwist.cli.line import Line, add_line_options, advice, explained, outcome_of, prepare
from drachtwist.cli.outcomes import CommandError, Exit
from drachtwist.cli.parsing import Parser, count, seconds
from drachtwist.cli.picture import printable
from drachtwist.cli.reactors import Leave, pause, run_on_reactor
from drachtwist.errors import DrachtwistError
from drachtwist.net.waiting import either

__all__ = ["ask", "main", "read", "send_once"]

SHOWN = ("Allow", "Supported", "Accept", "User-Agent", "Server")
"""Headers that say what the other side can do."""


def main(words: Sequence[str]) -> int:
    """Ask whether somebody is there."""
    options = read(words)
    return run_on_reactor(lambda reactor, leave: ask(reactor, options, leave))


def read(words: Sequence[str]) -> Any:
    """Read the words of the command.

    :raises CommandError: when they cannot be understood.
    """
    parser = Parser(
        "options",
        """
        Send OPTIONS, and show the response: how long it took, and what the other side says
        that it can do. The exit status is that of the last response: 0 for a 2xx, 3 to 6 for
        a 3xx to 6xx, 7 when there was none.
        """,
        (
            "drachtwist options sip:127.0.0.1:5060",
            "drachtwist options 'sip:example.net;transport=tls' -v",
            "drachtwist options sip:192.0.2.7 --count 0 --interval 30",
        ),
    )
    parser.add_argument("uri", metavar="URI", help="whom; sip: may be left out")
    parser.add_argument(
        "-c",
        "--count",
        metavar="TIMES",
        type=count,
        default=1,
        help="ask so often; 0 for until Ctrl-C; 1 unless given",
    )
    parser.add_argument(
        "-i",
        "--interval",
        metavar="SECONDS",
        type=seconds,
        default=1.0,
        help="seconds from one to the next; 1 unless given",
    )
    add_line_options(parser)
    options = parser.parse_args(words)
    prepare(parser, options)
    return options


async def ask(reactor: Any, options: Any, leave: Leave) -> int:
    """Ask as often as is wanted.

    :param options: what :func:`read` returned.
    :returns: the exit status.
    :raises CommandError: when there was no answer.
    """
    line = Line(reactor, options, options.uri.partition(";")[0], draws=False)
    await line.open()
    asked: Deferred[None] = leave.when_asked()
    exit: int = Exit.OK
    times = 0
    try:
        while not options.count or times < options.count:
            if times:
                await pause(reactor, options.interval, asked)
                if leave.asked:
                    break
            times += 1
            shows = SHOWN if times == 1 else ()
            try:
                exit = await send_once(line, options, "OPTIONS", leave, shows=shows)
            except CommandError as error:
                if error.exit is Exit.INTERRUPTED and times > 1:
                    break  # the last answer is what counts
                raise
    finally:
        await line.close()
        line.picture.close()
    return exit


async def send_once(
    line: Line,
    options: Any,
    method: str,
    leave: Leave,
    *,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    shows: Sequence[str] = (),
) -> int:
    """Send one request, and say what came back.

    :param shows: headers of the response that are shown.
    :returns: the exit status that goes with it.
    :raises CommandError: when nothing came.
    """
    start = line.srf.clock.seconds()
    try:
        asking = line.srf.request(
            options.uri,
            method=method,
            headers=[*line.headers, *headers],
            body=body,
            proxy=options.proxy,
            auth=line.auth,
        )
        over: Deferred[None] = leave.when_asked()
        answers: list[Any] = []
        asking.addCallback(answers.append)
        problem: list[Any] = []
        asking.addErrback(problem.append)
        await either(asking, over)
        if problem:
            problem[0].raiseException()
        if not answers:
            raise line.failed("given up", Exit.INTERRUPTED)
    except DrachtwistError as error:
        raise line.failed(*explained(error, options.uri)) from None
    [response] = answers
    exit = outcome_of(response)
    if exit is Exit.NO_ANSWER:
        text = f"no answer from {options.uri} ({response.status} {response.reason})"
        raise line.failed(text, exit)
    took = line.srf.clock.seconds() - start
    where = response.source_address
    host = f"[{where}]" if ":" in where else where
    line.screen.say(
        printable(f"{response.status} {response.reason}")
        + f" in {1000 * took:.1f} ms from {host}:{response.source_port} ({response.protocol})"
        + advice(response)
    )
    for name in shows:
        for value in response.get_all(name):
            line.screen.say(f"  {name}: {printable(value)}")
    if response.body and not options.verbose:
        for text in response.text.splitlines():
            line.screen.say(f"  {printable(text)}")
    return exit
