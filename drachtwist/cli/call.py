"""``drachtwist call``: call somebody, and draw the call."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from drachtwist.app.dialog import Dialog
from drachtwist.cli.line import Line, add_line_options, explained, outcome_of, own_address, prepare
from drachtwist.cli.outcomes import Exit
from drachtwist.cli.parsing import Parser, seconds
from drachtwist.cli.picture import printable
from drachtwist.cli.reactors import Leave, pause, run_on_reactor
from drachtwist.errors import DrachtwistError, SipError
from drachtwist.net.waiting import either

__all__ = ["SDP", "main", "place", "read"]

SDP = (
    "v=0\r\n"
    "o=drachtwist 1 1 IN {family} {host}\r\n"
    "s=-\r\n"
    "c=IN {family} {host}\r\n"
    "t=0 0\r\n"
    "m=audio 9 RTP/AVP 0 8 101\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
)
"""What is offered; 9 is the port that discards what it gets."""

KEYS = "0123456789*#ABCD"
PAUSE = 0.3
"""Seconds between two keys."""
RING = 60.0
GRACE = 1.0
"""Seconds that a CANCEL has for its effect."""
HOLD = 2.0


def main(words: Sequence[str]) -> int:
    """Call somebody."""
    options = read(words)
    return run_on_reactor(lambda reactor, leave: place(reactor, options, leave))


def read(words: Sequence[str]) -> Any:
    """Read the words of the command.

    :raises CommandError: when they cannot be understood.
    """
    parser = Parser(
        "call",
        """
        Call somebody, draw each message as it passes, and stay in the call until one side
        hangs up: Ctrl-C does it here. There is no sound, only signalling; what is offered is
        a session description that leads nowhere, unless --sdp has another one.

        The exit status is 0 for a call that was answered, 3 to 6 for one that was refused
        with a 3xx to 6xx, 7 when nobody answered, 130 when Ctrl-C came before the answer.
        """,
        (
            "drachtwist call sip:hello@127.0.0.1:5060",
            "drachtwist call sip:menu@127.0.0.1 --dtmf '12#' --duration 5",
            "drachtwist call sip:bob@example.net --auth alice:secret --hold 3",
            "drachtwist call 'sip:bob@192.0.2.7;transport=tcp' --timeout 10 -q || echo nobody",
        ),
    )
    parser.add_argument("uri", metavar="URI", help="whom; sip: may be left out")
    parser.add_argument(
        "--dtmf",
        metavar="KEYS",
        type=_keys,
        default="",
        help="keys to press once connected, each an INFO; a comma is a second's pause",
    )
    parser.add_argument(
        "--hold",
        metavar="SECONDS",
        type=seconds,
        nargs="?",
        const=HOLD,
        help=f"put the other side on hold for so long ({HOLD:g} unless given), and take it back",
    )
    parser.add_argument(
        "--duration",
        metavar="SECONDS",
        type=seconds,
        help="hang up so long after the answer, and after --dtmf and --hold",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=seconds,
        default=RING,
        help=f"give up when nobody has answered by then; {RING:g} unless given",
    )
    parser.add_argument("--sdp", metavar="FILE", help="the session description to offer")
    parser.add_argument(
        "--redirects", action="store_true", help="call where a 3xx points to, instead of ending"
    )
    add_line_options(parser)
    options = parser.parse_args(words)
    prepare(parser, options)
    options.offer = _offer(parser, options)
    return options


async def place(reactor: Any, options: Any, leave: Leave) -> int:
    """Call somebody, and wait for the end of the call.

    :param options: what :func:`read` returned.
    :returns: the exit status.
    :raises CommandError: when there was no call.
    """
    return await _Call(reactor, options, leave).place()


def _keys(text: str) -> str:
    wrong = next((key for key in text.upper() if key not in KEYS + ","), None)
    if wrong is not None:
        raise argparse.ArgumentTypeError(f"{wrong!r} is no key: {KEYS}")
    return text.upper()


def _offer(parser: Parser, options: Any) -> str:
    if options.sdp is not None:
        try:
            return Path(options.sdp).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            parser.error(f"--sdp: cannot read {options.sdp}: {error}")
    host = own_address(options.proxy or options.uri)
    return SDP.format(host=host, family="IP6" if ":" in host else "IP4")


class _Call:
    """One call, from the INVITE to the BYE."""

    def __init__(self, reactor: Any, options: Any, leave: Leave) -> None:
        self._options = options
        self._leave = leave
        self._reactor = reactor
        self._line = Line(reactor, options, options.uri.partition(";")[0], draws=True)
        self._refused: Exit | None = None
        self._given_up = False

    async def place(self) -> int:
        """Call, and say how it went."""
        line, options = self._line, self._options
        await line.open()
        start = line.srf.clock.seconds()
        try:
            call = await self._answered()
            connected = line.srf.clock.seconds()
            if options.duration is None:
                line.picture.remark("connected; Ctrl-C hangs up")
            ended = await self._talk(call)
        finally:
            await line.close(hurry=self._given_up)
            line.picture.close()
        now = line.srf.clock.seconds()
        line.screen.say(
            f"answered after {connected - start:.2f} s, connected for {now - connected:.2f} s;"
            f" {ended}"
        )
        return Exit.OK if self._refused is None else self._refused

    async def _answered(self) -> Dialog:
        """Wait for the answer.

        :raises CommandError: when there is none.
        """
        options, line = self._options, self._line
        clock = line.srf.clock
        late = False
        grace: Any = None
        calls: list[Dialog] = []
        problems: list[Failure] = []
        over: Deferred[None] = Deferred()
        try:
            calling = line.srf.create_uac(
                options.uri,
                local_sdp=options.offer,
                headers=line.headers,
                proxy=options.proxy,
                auth=line.auth,
                follow_redirects=options.redirects,
            )
        except DrachtwistError as error:
            raise line.failed(*explained(error, options.uri)) from None

        def give_up(_: object = None) -> None:
            # Who has said nothing yet cannot be sent a CANCEL, and may never say anything.
            nonlocal grace
            if calls or problems or grace is not None:
                return
            reason = 'SIP;cause=408;text="Request Timeout"' if late else None
            calling.cancel_request({"Reason": reason} if reason else None)
            grace = clock.callLater(GRACE, enough)

        def enough() -> None:
            self._given_up = True
            over.callback(None)

        def timeout() -> None:
            nonlocal late
            late = True
            give_up()

        timer = clock.callLater(options.timeout, timeout)
        self._leave.when_asked().addCallback(give_up)
        await either(calling.addCallbacks(calls.append, problems.append), over)
        for one in (timer, grace):
            if one is not None and one.active():
                one.cancel()
        if calls:
            return calls[0]
        if self._leave.asked:
            raise line.failed("given up", Exit.INTERRUPTED)
        if late:
            text = f"{options.uri} did not answer within {options.timeout:g} s"
            raise line.failed(text, Exit.NO_ANSWER)
        raise line.failed(*explained(problems[0].value, options.uri))

    async def _talk(self, call: Dialog) -> str:
        """Do in the call what was asked for.

        :returns: who ended it.
        """
        hurry: Deferred[None] = Deferred()

        def hurried(_: object) -> None:
            if not hurry.called:
                hurry.callback(None)

        call.when_ended().addCallback(hurried)
        self._leave.when_asked().addCallback(hurried)
        try:
            await self._act(call, hurry)
        except DrachtwistError:
            if call.connected:
                raise
        if call.connected:
            await call.destroy()
            return "hung up here"
        return "the other side hung up"

    async def _act(self, call: Dialog, hurry: Deferred[None]) -> None:
        options = self._options
        for key in options.dtmf:
            if not await self._pause(1.0 if key == "," else PAUSE, hurry):
                return
            if key != ",":
                await self._press(call, key)
        if options.hold is not None:
            await self._modify(call, "hold")
            if not await self._pause(options.hold, hurry):
                return
            await self._modify(call, "unhold")
        if options.duration is not None:
            await self._pause(options.duration, hurry)
            return
        if not hurry.called:
            await hurry

    async def _pause(self, time: float, hurry: Deferred[None]) -> bool:
        """Wait; say whether the call goes on."""
        await pause(self._reactor, time, hurry)
        return not hurry.called

    async def _press(self, call: Dialog, key: str) -> None:
        response = await call.info(
            headers={"Content-Type": "application/dtmf-relay"},
            body=f"Signal={key}\r\nDuration=160\r\n",
        )
        if response.status >= 300:
            self._refuse(f"the key {key} is refused: {response.status} {response.reason}", response)

    async def _modify(self, call: Dialog, how: str) -> None:
        try:
            await call.modify(how)
        except SipError as error:
            self._refuse(
                f"{how} is refused: {error.status} {error.reason}", error.response or error
            )

    def _refuse(self, text: str, response: Any) -> None:
        self._line.screen.warn(printable(text))
        if self._refused is None:
            self._refused = outcome_of(response)
