"""``drachtwist register``: register a phone, and stay registered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.cli.call import SDP
from drachtwist.cli.line import (
    Line,
    add_line_options,
    advice,
    explained,
    outcome_of,
    own_address,
    prepare,
)
from drachtwist.cli.outcomes import Exit
from drachtwist.cli.parsing import Parser, count
from drachtwist.cli.picture import printable
from drachtwist.cli.reactors import Leave, pause, run_on_reactor
from drachtwist.errors import DrachtwistError, MessageError
from drachtwist.sip.uri import SipUri, Uri

__all__ = ["main", "read", "stay"]

EXPIRES = 300
EARLY = 0.8
"""How much of the time that was granted passes until it registers again."""
AGAIN = 30.0
"""Seconds until it tries again, when nobody answered."""


def main(words: Sequence[str]) -> int:
    """Register."""
    options = read(words)
    return run_on_reactor(lambda reactor, leave: stay(reactor, options, leave))


def read(words: Sequence[str]) -> Any:
    """Read the words of the command.

    :raises CommandError: when they cannot be understood.
    """
    parser = Parser(
        "register",
        """
        Register an address, and stay registered until Ctrl-C, which removes it again. Calls
        that come are drawn; they get 486 unless --answer takes them.

        The exit status is 0 when it was registered, 3 to 6 when that was refused with a 3xx
        to 6xx, 7 when nobody answered at first.
        """,
        (
            "drachtwist register sip:bob@example.net --auth bob:mellon",
            "drachtwist register sip:bob@127.0.0.1 --auth bob:mellon --answer",
            "drachtwist register sip:bob@example.net --proxy sip:192.0.2.7 --once",
        ),
    )
    parser.add_argument("uri", metavar="URI", help="the address that calls are to come to")
    parser.add_argument(
        "--expires",
        metavar="SECONDS",
        type=count,
        default=EXPIRES,
        help=f"how long it is wanted for; {EXPIRES} unless given",
    )
    parser.add_argument(
        "--once", action="store_true", help="register, and leave it: do not refresh or remove it"
    )
    parser.add_argument("--remove", action="store_true", help="remove all contacts, and end")
    parser.add_argument("--answer", action="store_true", help="answer calls that come")
    add_line_options(parser)
    options = parser.parse_args(words)
    if options.caller is None:
        options.caller = options.uri if "@" in options.uri else None
    prepare(parser, options)
    try:
        parsed = Uri.parse(options.uri)
    except MessageError as error:
        parser.error(str(error))
    if not isinstance(parsed, SipUri) or not parsed.user:
        parser.error(f"{options.uri} has no user: sip:bob@example.net")
    options.address = parsed
    return options


async def stay(reactor: Any, options: Any, leave: Leave) -> int:
    """Register, and stay registered until that is no more wanted.

    :param options: what :func:`read` returned.
    :returns: the exit status.
    :raises CommandError: when it could not be registered.
    """
    return await _Phone(reactor, options, leave).stay()


class _Phone:
    """What is registered."""

    def __init__(self, reactor: Any, options: Any, leave: Leave) -> None:
        self._reactor = reactor
        self._options = options
        self._leave = leave
        self._address: SipUri = options.address
        self._wait = AGAIN
        self._line = Line(reactor, options, options.uri.partition(";")[0], draws=True)
        self._line.srf.invite(self._called)
        self._line.srf.options(self._asked)

    async def stay(self) -> int:
        """Register, and again, until Ctrl-C."""
        line, options = self._line, self._options
        await line.open()
        try:
            if options.remove:
                return await self._register(0, "*")
            exit = await self._register(options.expires)
            if exit or options.once:
                return exit
            line.picture.remark("Ctrl-C removes it")
            asked = self._leave.when_asked()
            while not self._leave.asked:
                await pause(self._reactor, self._wait, asked)
                if not self._leave.asked:
                    await self._refresh()
            return await self._register(0)
        finally:
            await line.close()
            line.picture.close()

    async def _refresh(self) -> None:
        try:
            exit = await self._register(self._options.expires)
        except Exception as error:
            self._line.screen.warn(str(error))
            exit = Exit.NO_ANSWER
        if exit:
            self._wait = AGAIN

    async def _register(self, expires: int, contact: str = "") -> int:
        """Send a REGISTER.

        :returns: the exit status that goes with its response.
        """
        line, options, address = self._line, self._options, self._address
        # The server puts its own address in the place of "localhost".
        contact = contact or f"<sip:{address.user}@localhost>"
        registrar = str(replace(address, user=None, password=None))
        try:
            response = await line.srf.request(
                registrar,
                method="REGISTER",
                headers=[
                    ("From", options.caller),
                    ("To", f"<{options.uri}>"),
                    ("Contact", contact),
                    ("Expires", str(expires)),
                    *options.headers,
                ],
                proxy=options.proxy,
                auth=line.auth,
            )
        except DrachtwistError as error:
            raise line.failed(*explained(error, registrar)) from None
        exit = outcome_of(response)
        if exit is Exit.NO_ANSWER:
            text = f"no answer from {registrar} ({response.status} {response.reason})"
            raise line.failed(text, exit)
        if exit:
            text = printable(f"{response.status} {response.reason}") + advice(response)
            raise line.failed(f"{registrar}: {text}", exit)
        granted = self._granted(response, expires)
        self._wait = max(EARLY * granted, 1.0)
        line.picture.remark(f"registered for {granted} s" if expires else "registered no more")
        return Exit.OK

    def _granted(self, response: Any, wanted: int) -> int:
        """Return the seconds that the registrar grants to what was asked for."""
        mine = [one for one in response.contacts if self._is_mine(one.uri)]
        for found in mine:
            expires = found.params.get("expires")
            if expires is not None and expires.isdigit() and len(expires) < 10:
                return int(expires)
        expires = response.get("Expires") or ""
        return int(expires) if expires.isdigit() and len(expires) < 10 else wanted

    def _is_mine(self, uri: str) -> bool:
        transports = self._line.server.transports
        ports = {one.port for one in transports.listeners} if transports is not None else set()
        try:
            parsed = Uri.parse(uri)
        except MessageError:
            return False
        return isinstance(parsed, SipUri) and parsed.port in ports

    # What comes

    def _asked(self, req: Request, res: Response) -> None:
        res.send(200)

    async def _called(self, req: Request, res: Response) -> None:
        line = self._line
        if not self._options.answer:
            res.send(486)
            return
        host = own_address(f"sip:{req.source_address}")
        sdp = SDP.format(host=host, family="IP6" if ":" in host else "IP4")
        res.send(180)
        call = await line.srf.create_uas(req, res, local_sdp=sdp)
        await call.when_ended()
