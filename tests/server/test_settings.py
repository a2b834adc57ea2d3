"""Settings that change how requests are treated."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.message import Request, Response
from drachtwist.wire.frames import encode_frame
from tests.server.doubles import Bench, Link, request
from tests.server.test_uac import TARGET, reply

PROXY = "sip:127.0.0.1:32099"


def transaction(link: Link) -> str:
    """Give the transaction id of the only delivery."""
    [frame] = link.take()
    return frame.split("|")[8]


class SettingTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """What makes no sense is refused at once."""
        for name, value in (
            ("default_refresher", "both"),
            ("nat_detection", "maybe"),
            ("outbound_proxy", "tel:1"),
            ("outbound_proxy", "::"),
            ("listen_backlog", 0),
            ("listen_backlog", 1001),
            ("udp_buffer_size", 0),
        ):
            settings = {name: value}
            self.assertRaises(LocalProtocolError, ServerConfig, **settings)

    def test_register_at_an_address(self) -> None:
        """A REGISTER for an IPv4 address is refused, if that is wanted; one for a domain is not."""
        bench = Bench(reject_register_with_no_realm=True)
        app = bench.link("register", "options")
        bench.receive(request("REGISTER"))
        self.assertEqual(bench.heads(), ["403 REGISTER"])
        self.assertEqual(app.take(), [])
        text = request("REGISTER", call="c2")
        bench.receive(text.replace("sip:app@127.0.0.1:32060 SIP", "sip:1.example SIP", 1))
        bench.receive(request("OPTIONS"))
        self.assertEqual(len(app.take()), 2)
        bench = Bench()
        app = bench.link("register")
        bench.receive(request("REGISTER"))
        self.assertEqual(len(app.take()), 1)

    def test_options_of_a_prober(self) -> None:
        """OPTIONS with exactly the given User-Agent are answered without an application."""
        bench = Bench(options_user_agent="prober/1")
        app = bench.link("options", "message")
        bench.receive(request("OPTIONS", extra="User-Agent: prober/1"))
        self.assertEqual(bench.heads(), ["200 OPTIONS"])
        self.assertEqual(app.take(), [])
        bench.receive(request("OPTIONS", call="c2", extra="User-Agent: prober/12"))
        bench.receive(request("OPTIONS", call="c3"))
        bench.receive(request("MESSAGE", call="c4", extra="User-Agent: prober/1"))
        self.assertEqual(len(app.take()), 3)

    def test_always_180(self) -> None:
        """Every new INVITE rings at once; later responses have the same To tag."""
        bench = Bench(always_send_180=True)
        app = bench.link("invite")
        bench.receive(request("INVITE"))
        _, ringing = bench.take()
        assert isinstance(ringing, Response)
        self.assertEqual(ringing.status, 180)
        app.answer(transaction(app), "SIP/2.0 200 OK")
        [answer] = bench.take()
        assert isinstance(answer, Response)
        self.assertEqual((answer.status, answer.to.tag), (200, ringing.to.tag))

    def test_default_refresher(self) -> None:
        """It counts when the caller names none."""
        for refresher, theirs, expected in (
            (None, "", None),
            ("uac", "", "120;refresher=uac"),
            ("uas", "", "120;refresher=uas"),
            ("uas", ";refresher=uac", "120;refresher=uac"),
        ):
            bench = Bench(default_refresher=refresher)
            app = bench.link("invite")
            bench.receive(request("INVITE", extra=f"Session-Expires: 120{theirs}"))
            app.answer(transaction(app), "SIP/2.0 200 OK")
            self.assertEqual(bench.take()[-1].get("Session-Expires"), expected)


class OutboundProxyTests(SynchronousTestCase):
    def test_requests(self) -> None:
        """New requests go to the proxy, with their own Request-URI, unless they name a route."""
        bench = Bench(outbound_proxy=PROXY)
        app = bench.link("invite")
        app.command(f"sip||\r\nOPTIONS {TARGET} SIP/2.0\r\n\r\n")
        [(flow, raw)] = bench.wire.sent
        self.assertEqual(flow.remote_port, 32099)
        self.assertTrue(raw.startswith(f"OPTIONS {TARGET} SIP/2.0".encode()))
        bench.wire.sent.clear()
        app.command(f"sip|||sip:127.0.0.1:32098\r\nOPTIONS {TARGET} SIP/2.0\r\n\r\n")
        [(flow, _)] = bench.wire.sent
        self.assertEqual(flow.remote_port, 32098)

    def test_proxied(self) -> None:
        """So do requests that are proxied."""
        bench = Bench(outbound_proxy=PROXY)
        app = bench.link("options")
        bench.receive(request("OPTIONS"))
        app.command(
            f"proxy|{transaction(app)}|remainInDialog|fullResponse|followRedirects|serial"
            f"|1s|9s|{TARGET}\r\n"
        )
        flow, raw = bench.wire.sent[-1]
        self.assertEqual(flow.remote_port, 32099)
        self.assertTrue(raw.startswith(f"OPTIONS {TARGET} SIP/2.0".encode()))


class NatTests(SynchronousTestCase):
    def bye_goes_to(self, detection: str, contact: str, extra: str = "") -> int:
        """Let a caller with a Contact come up over UDP; give the port that a BYE goes to."""
        bench = Bench(nat_detection=detection)
        app = bench.link("invite")
        text = request("INVITE", extra=extra)
        bench.receive(text.replace("Contact: <sip:alice@127.0.0.1:32070>", f"Contact: {contact}"))
        [frame] = app.take()
        app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
        answer = bench.take()[-1]
        bench.receive(request("ACK", branch="ack", to_tag=answer.to.tag or ""))
        [frame] = app.take()
        app.ask(frame.split("|")[9], "BYE sip:x SIP/2.0")
        flow, raw = bench.wire.sent[-1]
        self.assertTrue(raw.startswith(b"BYE "))
        return flow.remote_port

    def test_contact_elsewhere(self) -> None:
        """A Contact elsewhere is believed only without detection."""
        contact = "<sip:alice@127.0.0.1:32077>"
        self.assertEqual(self.bye_goes_to("usual", contact), 32070)
        self.assertEqual(self.bye_goes_to("aggressive", contact), 32070)
        self.assertEqual(self.bye_goes_to("off", contact), 32077)

    def test_nat_parameter(self) -> None:
        """``nat=yes`` in a Record-Route is believed by aggressive detection only."""
        contact = "<sip:alice@127.0.0.1:32070>"
        route = "Record-Route: <sip:127.0.0.1:32077;lr;nat=yes>"
        self.assertEqual(self.bye_goes_to("usual", contact, route), 32077)
        self.assertEqual(self.bye_goes_to("aggressive", contact, route), 32070)

    def outgoing(self, detection: str, contact: str) -> int:
        """Let a callee with a Contact answer over UDP; give the port that the BYE goes to."""
        bench = Bench(nat_detection=detection)
        app = bench.link("invite")
        app.command(f"sip||\r\nINVITE {TARGET} SIP/2.0\r\n\r\n")
        invite = bench.take()[-1]
        assert isinstance(invite, Request)
        text = reply(invite, 200).replace(f"Contact: <{TARGET}>", f"Contact: {contact}")
        bench.receive(text, port=32071)
        frames = app.take()
        app.ask(frames[-1].split("|")[9], "BYE sip:x SIP/2.0")
        flow, raw = bench.wire.sent[-1]
        self.assertTrue(raw.startswith(b"BYE "), raw)
        return flow.remote_port

    def test_callee(self) -> None:
        """The same goes for those who are called."""
        self.assertEqual(self.outgoing("off", "<sip:bob@127.0.0.1:32078>"), 32078)
        self.assertEqual(self.outgoing("aggressive", "<sip:bob@127.0.0.1:32078;nat=yes>"), 32071)


class TimeoutTests(SynchronousTestCase):
    """Connections whose peer answers nothing (``max_timeouts``)."""

    def ask(self, bench: Bench, app: Link, port: int = 32071, protocol: str = "tcp") -> Request:
        """Let an application ask over a connection."""
        parameter = ";transport=tcp" if protocol == "tcp" else ""
        app.command(f"sip||\r\nOPTIONS sip:bob@127.0.0.1:{port}{parameter} SIP/2.0\r\n\r\n")
        sent = bench.take()[-1]
        assert isinstance(sent, Request)
        return sent

    def test_closed(self) -> None:
        """After so many requests in a row without any response the connection is closed."""
        bench = Bench(max_timeouts=3)
        app = bench.link()
        flow = bench.wire.flow("127.0.0.1", 32071, "tcp")
        for _ in range(3):
            self.assertTrue(bench.wire.is_open(flow))
            self.ask(bench, app)
            bench.clock.advance(33)
        self.assertFalse(bench.wire.is_open(flow))
        bench.core.sip_closed(flow, None)
        self.assertEqual(bench.core.timeouts, {})

    def test_any_response_counts(self) -> None:
        """A response in between lets the count begin again; other connections do not matter."""
        bench = Bench(max_timeouts=2)
        app = bench.link()
        flow = bench.wire.flow("127.0.0.1", 32071, "tcp")
        for _ in range(2):
            self.ask(bench, app)
            self.ask(bench, app, 32072)
            bench.clock.advance(33)
            asked = self.ask(bench, app)
            bench.receive(reply(asked, 404), port=32071, protocol="tcp")
        self.assertTrue(bench.wire.is_open(flow))
        self.assertFalse(bench.wire.is_open(bench.wire.flow("127.0.0.1", 32072, "tcp")))

    def test_never(self) -> None:
        """Usually none is closed; UDP has none to close."""
        for settings, protocol in (({}, "tcp"), ({"max_timeouts": 1}, "udp")):
            bench = Bench(**settings)  # type: ignore[arg-type]
            app = bench.link()
            for _ in range(3):
                self.ask(bench, app, protocol=protocol)
                bench.clock.advance(33)
            self.assertEqual(bench.wire.closed, set())
            self.assertEqual(bench.core.timeouts, {})

    def test_proxied(self) -> None:
        """Requests that are forwarded count too."""
        bench = Bench(max_timeouts=1)
        app = bench.link("options")
        bench.receive(request("OPTIONS"))
        app.command(
            f"proxy|{transaction(app)}|remainOutOfDialog|fullResponse|followRedirects|serial"
            "|0s|0s|sip:bob@127.0.0.1:32071;transport=tcp\r\n"
        )
        bench.clock.advance(33)
        self.assertFalse(bench.wire.is_open(bench.wire.flow("127.0.0.1", 32071, "tcp")))


class LocalDomainTests(SynchronousTestCase):
    def test_own_domain(self) -> None:
        """The domain and those below it stand for the server; others do not."""
        core = Bench(local_domain="Sip.Example").core
        for uri, own in (
            ("sip:a@sip.example", True),
            ("sip:a@pbx.sip.example:5080", True),
            ("sip:a@othersip.example", False),
            ("sip:a@example", False),
            ("tel:1", False),
        ):
            self.assertIs(core.is_own(uri), own, uri)
        self.assertFalse(Bench().core.is_own("sip:a@sip.example"))


class _Greeter(Protocol):
    """Shows a secret, and waits for the answer."""

    def __init__(self) -> None:
        self.answered: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(encode_frame(b"1|authenticate|cymru|", limit=100))

    def dataReceived(self, data: bytes) -> None:
        if not self.answered.called:
            self.answered.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)


class KeepAliveTests(TestCase):
    timeout = 30

    async def probes(self, seconds: int) -> tuple[bool, int]:
        """Say whether and how often the server probes a connection of an application."""
        server = DrachtioServer(
            ServerConfig(
                admin_port=0, contacts=("sip:127.0.0.1:0;transport=udp",), tcp_keepalive=seconds
            ),
            reactor,
        )
        server.startService()
        await server.when_listening()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", server.admin_port or 0)
        client = await connectProtocol(endpoint, _Greeter())
        await client.answered
        [link] = server._links
        transport: Any = link.transport
        handle = transport.getHandle()
        on = handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        interval = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        await server.stopService()
        await client.gone
        return bool(on), interval

    async def test_interval(self) -> None:
        """Idle applications are probed as often as is wanted."""
        self.assertEqual(await self.probes(20), (True, 20))

    async def test_off(self) -> None:
        """Or not at all."""
        on, _ = await self.probes(0)
        self.assertFalse(on)
