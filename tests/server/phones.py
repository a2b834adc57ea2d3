"""Phones on real sockets that do what a test says, message by message."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from drachtwist import Request as AppRequest
from drachtwist import Response as AppResponse
from drachtwist import Srf
from drachtwist.errors import ConnectionLost
from drachtwist.net.protocol import DrachtioProtocol
from drachtwist.net.sip.flows import Flow, Target
from drachtwist.net.sip.transports import SipTransports
from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.message import Request, Response
from drachtwist.sip.stream import Malformed
from drachtwist.wire.commands import Answer, Ping

__all__ = ["ServerCase", "Talker", "has_ipv6", "ready"]

Message = Request | Response


class Talker:
    """A phone.

    :param contact: where it listens; its first transport is the one that it uses.
    :param server: where it sends to.
    """

    def __init__(
        self, contact: str, server: Target | None = None, tls: TlsOptions | None = None
    ) -> None:
        self.transports = SipTransports(reactor, self, tls=tls)
        self.listener = self.transports.listen(contact)[0]
        self.protocol = self.listener.protocol
        self.address = self.listener.address_toward("")
        self.server = server
        self.patience = 10.0
        """Seconds that a message has to come."""
        self.flow: Flow | None = None
        """How the last message came."""
        self._unread: list[tuple[Message, Flow]] = []
        self._waiting: list[tuple[Callable[[Message], bool], Deferred[Any]]] = []

    @property
    def uri(self) -> str:
        """Its own address."""
        parameter = "" if self.protocol == "udp" else f";transport={self.protocol}"
        return f"sip:phone@{self.address}{parameter}"

    # What it sends

    def make(
        self,
        method: str,
        uri: str,
        *,
        call: str = "",
        number: int = 1,
        from_: str = "",
        to: str = "",
        routes: tuple[str, ...] = (),
        body: str = "",
    ) -> Request:
        """Write a request."""
        headers = [
            ("Via", f"SIP/2.0/{self.protocol.upper()} {self.address};branch={_branch()};rport"),
            ("Max-Forwards", "70"),
            *[("Route", route) for route in routes],
            ("From", from_ or f"<{self.uri}>;tag={secrets.token_hex(4)}"),
            ("To", to or f"<{uri}>"),
            ("Call-ID", call or secrets.token_hex(8)),
            ("CSeq", f"{number} {method}"),
            ("Contact", f"<{self.uri}>"),
        ]
        return Request(method, uri, headers, body)

    def send(self, message: Message, target: Target | None = None) -> None:
        """Send to the server, or to somewhere else."""
        target = target or self.server
        assert target is not None
        self.transports.send_to(target, bytes(message))

    def ask(self, method: str, uri: str, **options: Any) -> Request:
        """Send a request to the server."""
        request = self.make(method, uri, **options)
        self.send(request)
        return request

    def answer(self, request: Request, status: int, *, tag: str = "", body: str = "") -> None:
        """Answer a request, the way that it came."""
        response = Response(status, body=body)
        for name in ("Via", "Record-Route", "From", "To", "Call-ID", "CSeq"):
            for value in request.get_all(name):
                if name == "To" and "tag=" not in value:
                    value += f";tag={tag or 'callee'}"
                response.add(name, value)
        response.add("Contact", f"<{self.uri}>")
        assert self.flow is not None
        self.transports.send(self.flow, bytes(response))

    def acknowledge(self, invite: Request, answer: Response) -> None:
        """Send the ACK of a 2xx."""
        self.send(self.inside("ACK", invite, answer, invite.cseq.number))

    def inside(
        self,
        method: str,
        invite: Request,
        answer: Response,
        number: int,
        routes: tuple[str, ...] | None = None,
    ) -> Request:
        """Write a request in the dialog that this phone's INVITE made.

        :param routes: instead of those that the answer says.
        """
        if routes is None:
            recorded = answer.get_parsed_header("Record-Route") or ()
            routes = tuple(str(one) for one in recorded)[::-1]
        return self.make(
            method,
            answer.contacts[0].uri,
            call=invite.call_id,
            number=number,
            from_=invite.get("From") or "",
            to=answer.get("To") or "",
            routes=routes,
        )

    # What it does

    async def call(self, uri: str) -> tuple[Request, Response]:
        """Call somebody who answers; give the INVITE and the answer."""
        invite = self.ask("INVITE", uri, body="v=0\r\n")
        answer = await self.response(invite)
        assert answer.status == 200, answer
        self.acknowledge(invite, answer)
        return invite, answer

    async def hang_up(
        self,
        invite: Request,
        answer: Response,
        routes: tuple[str, ...] | None = None,
        number: int = 2,
    ) -> None:
        """End a call that this phone began."""
        bye = self.inside("BYE", invite, answer, number, routes)
        self.send(bye)
        response = await self.response(bye)
        assert response.status == 200, response

    async def pick_up(self) -> Request:
        """Answer a call, and wait for the ACK; give the INVITE."""
        invite = await self.request("INVITE")
        self.answer(invite, 200, body="v=0\r\n")
        return invite

    # What it receives

    async def request(self, method: str) -> Request:
        """Wait for a request."""
        return cast(
            Request,
            await self._when(lambda one: isinstance(one, Request) and one.method == method),
        )

    async def response(self, request: Request) -> Response:
        """Wait for the final response to a request."""
        return cast(
            Response,
            await self._when(
                lambda one: (
                    isinstance(one, Response)
                    and one.status >= 200
                    and one.vias[0].branch == request.vias[0].branch
                )
            ),
        )

    def _when(self, wanted: Callable[[Message], bool]) -> Deferred[Message]:
        waiting: Deferred[Message] = Deferred()
        waiting.addTimeout(self.patience, cast(Any, reactor))
        self._waiting.append((wanted, waiting))
        self._hand_out()
        return waiting

    def _hand_out(self) -> None:
        for entry in list(self._waiting):
            wanted, waiting = entry
            for item in self._unread:
                if wanted(item[0]):
                    self._unread.remove(item)
                    self._waiting.remove(entry)
                    self.flow = item[1]
                    waiting.callback(item[0])
                    break

    # What the transports call

    def sip_received(self, message: Message, flow: Flow, size: int) -> None:
        """Take a message."""
        self._unread.append((message, flow))
        self._hand_out()

    def sip_malformed(self, bad: Malformed, flow: Flow, size: int) -> None:
        """A server never sends such a thing."""
        raise bad.error

    def sip_send_failed(self, flow: Flow, error: Exception, data: bytes) -> None:
        """Whoever waits for the answer times out."""

    def sip_closed(self, flow: Flow, error: Exception | None) -> None:
        """A connection is gone."""


class ServerCase(TestCase):
    """Has servers and phones."""

    timeout = 30

    async def serve(self, **options: Any) -> DrachtioServer:
        """Start a server."""
        options.setdefault("admin_port", 0)
        server = DrachtioServer(ServerConfig(**options), reactor)
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        return server

    async def connect(self, srf: Srf, server: DrachtioServer) -> DrachtioProtocol:
        """Connect an application that has its handlers; wait until the server knows its routes."""
        self.addCleanup(srf.stop)
        connection = srf.connect(f"tcp:127.0.0.1:{server.admin_port}", secret="cymru")
        link = await connection.when_connected()
        await ready(link)
        return link

    async def call_phone(self, srf: Srf, phone: Talker) -> list[Request]:
        """Let an application call a phone, and hang up; give INVITE, ACK and BYE."""
        calling = srf.create_uac(phone.uri, local_sdp="v=0\r\n")
        seen = [await phone.pick_up()]
        call = await calling
        seen.append(await phone.request("ACK"))
        ending = call.destroy()
        seen.append(await phone.request("BYE"))
        phone.answer(seen[-1], 200)
        await ending
        return seen

    def answering(self, srf: Srf) -> None:
        """Let an application answer calls."""

        @srf.invite
        async def answer(req: AppRequest, res: AppResponse) -> None:
            call = await srf.create_uas(req, res, local_sdp="v=0\r\n")
            await call.when_ended()

    def forwarding(self, srf: Srf, phone: Talker) -> None:
        """Let an application forward calls to a phone, and stay in them."""

        @srf.invite
        async def forward(req: AppRequest, res: AppResponse) -> None:
            await srf.proxy_request(req, phone.uri, record_route=True)

    def talker(
        self,
        contact: str,
        server: DrachtioServer | None = None,
        at: int = 0,
        tls: TlsOptions | None = None,
    ) -> Talker:
        """Make a phone.

        :param at: which of the addresses of the server it sends to.
        """
        target = None
        if server is not None:
            assert server.transports is not None
            listener = server.transports.listeners[at]
            target = Target(listener.protocol, listener.host, listener.port)
        phone = Talker(contact, target, tls)
        self.addCleanup(phone.transports.stop)
        return phone


class _Pong:
    """Waits for the answer to a ping."""

    def __init__(self) -> None:
        self.deferred: Deferred[None] = Deferred()

    def answered(self, answer: Answer) -> None:
        """It came."""
        self.deferred.callback(None)

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection is gone."""
        self.deferred.errback(reason)


def has_ipv6() -> bool:
    """Whether this machine has IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _branch() -> str:
    return f"z9hG4bK{secrets.token_hex(8)}"


async def ready(link: DrachtioProtocol) -> None:
    """Wait until a server knows the routes of an application: commands are carried out in order."""
    pong = _Pong()
    link.command(bytes(Ping()), pong)
    await pong.deferred
