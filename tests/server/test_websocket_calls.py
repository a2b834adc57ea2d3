"""Calls of a browser, on real sockets: a client of wsproto, the server, and an application."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Sequence
from typing import Any, cast

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

import drachtwist
from drachtwist import Dialog, SipError, Srf
from drachtwist.demo.phone import Phone
from drachtwist.middleware import Registrar
from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_message
from tests.certificates import identity
from tests.websocket import WebSocketPeer, connect, leave

SDP = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
_numbers = itertools.count(1)


class Browser:
    """A SIP client behind a WebSocket, as RFC 7118 has it: its host has no address."""

    host = "df7jal23ls0d.invalid"

    def __init__(self, peer: WebSocketPeer, secure: bool) -> None:
        self.peer = peer
        self.transport = "WSS" if secure else "WS"
        self.contact = f"<sip:joe@{self.host};transport=ws>"

    def ask(
        self,
        method: str,
        uri: str,
        *,
        call: str,
        to: str = "",
        sender: str = "<sip:joe@example.com>;tag=joe",
        body: str = "",
        number: int = 1,
        routes: Sequence[str] = (),
    ) -> None:
        """Send a request."""
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/{self.transport} {self.host};branch=z9hG4bK{next(_numbers)}",
            "Max-Forwards: 70",
            *[f"Route: {route}" for route in routes],
            f"From: {sender}",
            f"To: {to or '<sip:joe@example.com>'}",
            f"Call-ID: {call}",
            f"CSeq: {number} {method}",
            f"Contact: {self.contact}",
            *(["Content-Type: application/sdp"] if body else []),
            "Expires: 60",
        ]
        self.peer.send("\r\n".join(lines) + "\r\n\r\n" + body)

    def answer(
        self, request: Request, status: int = 200, body: str = "", lines: Sequence[str] = ()
    ) -> None:
        """Answer a request."""
        lines = [f"SIP/2.0 {status} Whatever", *lines]
        lines += [f"Via: {via}" for via in request.get_all("Via")]
        routes = request.get_all("Record-Route")
        lines += [f"Record-Route: {route}" for route in routes]
        lines += [f"{name}: {request.get(name)}" for name in ("From", "Call-ID", "CSeq")]
        to = request.get("To") or ""
        lines.append(f"To: {to}" if "tag=" in to else f"To: {to};tag=joe")
        lines += [f"Contact: {self.contact}", *(["Content-Type: application/sdp"] if body else [])]
        self.peer.send("\r\n".join(lines) + "\r\n\r\n" + body)

    async def request(self, method: str) -> Request:
        """Wait for a request."""
        message = parse_message((await self.peer.when(f"{method} sip")).encode())
        assert isinstance(message, Request)
        return message

    async def response(self, method: str) -> Response:
        """Wait for a final response."""
        while True:
            message = parse_message((await self.peer.when(f" {method}\r\n")).encode())
            assert isinstance(message, Response), message
            if message.status >= 200:
                return message


class WebSocketCase(TestCase):
    timeout = 30
    host = "127.0.0.1"

    @property
    def shown(self) -> str:
        """The address as URIs have it."""
        return f"[{self.host}]" if ":" in self.host else self.host

    async def start(self, *transports: str) -> tuple[DrachtioServer, Srf, Registrar]:
        """Start a server and an application that keeps registrations."""
        mine = identity(self.host)
        self.certificate = mine.certificate
        config = ServerConfig(
            admin_port=0,
            contacts=tuple(f"sip:{self.shown}:0;transport={name}" for name in transports),
            tls=TlsOptions(key=mine.key, certificate=mine.certificate),
        )
        server = DrachtioServer(config, reactor)
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        srf, registrar = Srf(), Registrar()
        srf.use("register", registrar)
        self.addCleanup(srf.stop)
        connection = srf.connect(f"tcp:127.0.0.1:{server.admin_port}", secret="cymru")
        link = await connection.when_connected()
        self.assertEqual(sorted(link.host_ports), sorted(server.sip_addresses))
        return server, srf, registrar

    async def ready(self, srf: Srf) -> None:
        """Wait until the server knows the routes: it answers commands in their order."""
        asking = srf.request(f"sip:{self.shown}:9", method="OPTIONS")
        asking.addErrback(lambda failure: failure.trap(SipError))
        await asking

    def port(self, server: DrachtioServer, name: str) -> int:
        """Give the port of a transport."""
        [address] = [one for one in server.sip_addresses if one.startswith(f"{name}/")]
        return int(address.rpartition(":")[2])

    async def browser(self, server: DrachtioServer, name: str) -> Browser:
        """Connect a browser."""
        trusted = self.certificate if name == "wss" else None
        peer = await connect(self.port(server, name), self.host, ca=trusted)
        self.addCleanup(leave, peer)
        return Browser(peer, name == "wss")

    async def register(self, browser: Browser) -> None:
        """Let a browser register."""
        browser.ask("REGISTER", "sip:example.com", call=f"r{next(_numbers)}")
        accepted = await browser.response("REGISTER")
        self.assertEqual(accepted.status, 200, accepted)
        self.assertIn("joe@df7jal23ls0d.invalid", accepted.get("Contact") or "")


class WebSocketCallTests(WebSocketCase):
    async def calls(self, name: str) -> None:
        """Register, be called and hang up each way; call, and hang up each way."""
        server, srf, registrar = await self.start("udp", name)
        taken: list[Dialog] = []

        @srf.invite
        async def called(req: drachtwist.Request, res: drachtwist.Response) -> None:
            self.assertEqual(req.protocol, "tcp")
            taken.append(await srf.create_uas(req, res, local_sdp=SDP))

        await self.ready(srf)
        browser = await self.browser(server, name)
        await self.register(browser)
        [place] = await registrar.find("sip:joe@example.com")
        for hangs_up in ("application", "browser"):
            calling = srf.create_uac(place.uri, local_sdp=SDP)
            invite = await browser.request("INVITE")
            self.assertEqual((invite.uri, invite.text), (place.uri, SDP))
            browser.answer(invite, 180)
            browser.answer(invite, 200, SDP)
            call = await calling
            await browser.request("ACK")
            if hangs_up == "application":
                ending = call.destroy()
                browser.answer(await browser.request("BYE"))
                await ending
            else:
                sender = f"{invite.get('To')};tag=joe"
                contact = invite.contacts[0].uri
                browser.ask(
                    "BYE",
                    contact,
                    call=invite.call_id,
                    to=invite.get("From") or "",
                    sender=sender,
                )
                self.assertEqual((await browser.response("BYE")).status, 200)
                await call.when_ended()
        for hangs_up in ("application", "browser"):
            name_of_call = f"c{next(_numbers)}"
            bob = "<sip:bob@example.com>"
            browser.ask("INVITE", "sip:bob@example.com", call=name_of_call, to=bob, body=SDP)
            answer = await browser.response("INVITE")
            self.assertEqual((answer.status, answer.text), (200, SDP))
            uri, to = answer.contacts[0].uri, answer.get("To") or ""
            scheme = "sips" if name == "wss" else "sip"
            self.assertTrue(uri.startswith(f"{scheme}:") and uri.endswith(";transport=ws"), uri)
            browser.ask("ACK", uri, call=name_of_call, to=to)
            call = taken.pop()
            await call.when_acked()
            if hangs_up == "application":
                ending = call.destroy()
                ended = await browser.request("BYE")
                self.assertEqual(ended.uri, "sip:joe@df7jal23ls0d.invalid;transport=ws")
                browser.answer(ended)
                await ending
            else:
                browser.ask("BYE", uri, call=name_of_call, to=to, number=2)
                self.assertEqual((await browser.response("BYE")).status, 200)
                await call.when_ended()
        browser.peer.close()
        await browser.peer.lost
        error: Any = await self.assertFailure(srf.create_uac(place.uri, local_sdp=SDP), SipError)
        self.assertEqual(error.status, 410)

    async def test_ws(self) -> None:
        """Over a WebSocket."""
        await self.calls("ws")

    async def test_wss(self) -> None:
        """Over a WebSocket with TLS."""
        await self.calls("wss")

    async def test_challenged(self) -> None:
        """A browser that asks the application for a password gets it over its connection."""
        for name in ("ws", "wss"):
            server, srf, registrar = await self.start("udp", name)
            browser = await self.browser(server, name)
            await self.register(browser)
            [place] = await registrar.find("sip:joe@example.com")
            calling = srf.create_uac(place.uri, local_sdp=SDP, auth=("app", "secret"))
            invite = await browser.request("INVITE")
            browser.answer(invite, 401, lines=['WWW-Authenticate: Digest realm="a", nonce="n"'])
            await browser.request("ACK")
            again = await browser.request("INVITE")
            self.assertIn('username="app"', again.get("Authorization") or "")
            browser.answer(again, 200, SDP)
            call = await calling
            await browser.request("ACK")
            ending = call.destroy()
            browser.answer(await browser.request("BYE"))
            await ending

    async def test_short_body(self) -> None:
        """A message that is shorter than its Content-Length is answered 400, as over UDP."""
        server, _, _ = await self.start("ws")
        browser = await self.browser(server, "ws")
        browser.ask("OPTIONS", "sip:example.com", call="whole")
        self.assertEqual((await browser.response("OPTIONS")).status, 503)
        text = (
            "OPTIONS sip:example.com SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bKs\r\n"
            "From: <sip:a@b>;tag=a\r\nTo: <sip:c@d>\r\nCall-ID: short\r\nCSeq: 1 OPTIONS\r\n"
        )
        browser.peer.send(f"{text}Content-Length: 5\r\n\r\nbody")
        answer = await browser.response("OPTIONS")
        self.assertEqual((answer.status, answer.call_id), (400, "short"))


class WebSocketCallIpv6Tests(WebSocketCallTests):
    """The same over IPv6."""

    host = "::1"

    def setUp(self) -> None:
        """Skip where the machine has no IPv6."""
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            self.skipTest(f"no IPv6 here: {error}")


class WebSocketProxyTests(WebSocketCase):
    async def proxy(self, name: str) -> tuple[DrachtioServer, Browser, Srf, list[str]]:
        """Start a server that forwards calls to whoever has registered."""
        server, srf, registrar = await self.start("udp", name)
        elsewhere: list[str] = []

        @srf.invite
        async def forward(req: drachtwist.Request, res: drachtwist.Response) -> None:
            places = [place.uri for place in await registrar.find(req.uri)]
            await srf.proxy_request(req, places or elsewhere, record_route=True)

        await self.ready(srf)
        browser = await self.browser(server, name)
        await self.register(browser)
        return server, browser, srf, elsewhere

    async def test_phone_calls(self) -> None:
        """A phone with UDP calls a browser through the proxy, and hangs up."""
        for name in ("ws", "wss"):
            server, browser, _, _ = await self.proxy(name)
            phone = Phone((self.host, self.port(server, "udp")), clock=reactor)
            listening = cast(Any, reactor).listenUDP(0, phone, interface=self.host)
            self.addCleanup(listening.stopListening)
            calling = phone.call("sip:joe@example.com", sdp=SDP)
            invite = await browser.request("INVITE")
            browser.answer(invite, 180)
            browser.answer(invite, 200, SDP)
            call = await calling
            await browser.request("ACK")
            pressing = call.press("5")
            browser.answer(await browser.request("INFO"))
            await pressing
            ending = call.hang_up()
            browser.answer(await browser.request("BYE"))
            await ending

    async def test_browser_calls(self) -> None:
        """A browser calls a phone with UDP through the proxy, and the phone hangs up."""
        for name in ("ws", "wss"):
            _, browser, _, elsewhere = await self.proxy(name)
            phone_server, phone, _ = await self.start("udp")
            taken: list[Dialog] = []

            @phone.invite
            async def ring(
                req: drachtwist.Request, res: drachtwist.Response, phone: Srf = phone
            ) -> None:
                taken.append(await phone.create_uas(req, res, local_sdp=SDP))  # noqa: B023

            await self.ready(phone)
            elsewhere.append(f"sip:ann@{self.host}:{self.port(phone_server, 'udp')}")
            call_id = f"c{next(_numbers)}"
            ann = "<sip:ann@example.com>"
            browser.ask("INVITE", "sip:ann@example.com", call=call_id, to=ann, body=SDP)
            answer = await browser.response("INVITE")
            self.assertEqual((answer.status, answer.text), (200, SDP))
            routes = answer.get_all("Record-Route")[::-1]
            self.assertEqual(len(routes), 2)
            to, uri = answer.get("To") or "", answer.contacts[0].uri
            browser.ask("ACK", uri, call=call_id, to=to, routes=routes)
            [call] = taken
            await call.when_acked()
            browser.ask("INFO", uri, call=call_id, to=to, routes=routes, number=2)
            self.assertEqual((await browser.response("INFO")).status, 200)
            ending = call.destroy()
            browser.answer(await browser.request("BYE"))
            await ending
