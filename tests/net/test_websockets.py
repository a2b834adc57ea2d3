"""SIP over WebSockets on real sockets, with a client of wsproto and with ourselves."""

from __future__ import annotations

import socket
import sys
from typing import Any, cast
from unittest import mock

from twisted.internet import protocol, reactor
from twisted.internet.defer import inlineCallbacks
from twisted.internet.error import ConnectError, ConnectionRefusedError
from twisted.internet.task import deferLater
from wsproto import events as ws

from drachtwist.errors import LocalProtocolError
from drachtwist.net.sip.flows import Flow, Limits, Target
from drachtwist.net.sip.listening import check_contact
from drachtwist.net.sip.transports import SipTransports
from drachtwist.net.tls import TlsOptions
from drachtwist.sip.message import Request
from tests.certificates import identity
from tests.net.test_siptransports import (
    LOCALHOST,
    ClockedReactor,
    Recorder,
    TransportsCase,
    ok,
    options,
)
from tests.websocket import WebSocketPeer, connect, leave

_reactor = cast(Any, reactor)
WS = "sip:127.0.0.1:0;transport=ws"
BROWSER = "SIP/2.0/WS df7jal23ls0d.invalid;branch=z9hG4bKa"


def message(body: str = "") -> str:
    return options(BROWSER, body).decode()


class WebSocketsCase(TransportsCase):
    @inlineCallbacks
    def client(self, transports: SipTransports, **how: Any) -> Any:
        """Connect a client to the first address."""
        listener = transports.listeners[0]
        peer: WebSocketPeer = yield connect(listener.port, listener.host, **how)
        self.addCleanup(leave, peer)
        return peer


class ServerTests(WebSocketsCase):
    @inlineCallbacks
    def test_there_and_back(self) -> Any:
        """A request arrives with its flow and where it came from, and is answered over it."""
        transports, recorder = self.transports(WS)
        port = transports.listeners[0].port
        self.assertEqual(str(transports.listeners[0]), f"ws/127.0.0.1:{port}")
        peer = yield self.client(transports)
        peer.send(message())
        yield recorder.when(recorder.messages)
        request, flow, size = recorder.messages[0]
        assert isinstance(request, Request)
        self.assertEqual(size, len(message()))
        noted = f"{BROWSER};rport={flow.remote_port};received=127.0.0.1"
        self.assertEqual(request.get("Via"), noted)
        self.assertEqual((flow.protocol, flow.reported, flow.reliable), ("ws", "tcp", True))
        self.assertEqual(flow.local, f"127.0.0.1:{port}")
        transports.send(flow, ok())
        transports.send(flow, b"SIP/2.0 200 \xff\r\n\r\n")
        yield peer.when("200 OK")
        yield peer.when("200 \xff")
        self.assertTrue(transports.is_open(flow))

    @inlineCallbacks
    def test_kinds(self) -> Any:
        """Binary messages are messages too; what is none is told and harms no other."""
        transports, recorder = self.transports(WS)
        peer = yield self.client(transports)
        for each in ("rubbish", message().encode(), "", message("ö")):
            peer.send(each)
        yield recorder.when(recorder.messages, 2)
        self.assertEqual(len(recorder.malformed), 1)
        bad = message().replace("CSeq: 1 OPTIONS", "CSeq: 1 INVITE")
        peer.send(bad)
        yield recorder.when(recorder.malformed, 2)
        lenient = recorder.malformed[1][0].message
        assert lenient is not None
        self.assertIn(";rport=", lenient.get("Via") or "")

    @inlineCallbacks
    def test_over_tls(self) -> Any:
        """``wss`` is the same over TLS, also written as ``sips`` with ``ws``."""
        mine = identity()
        for contact in ("sip:127.0.0.1:0;transport=wss", "sips:127.0.0.1:0;transport=ws"):
            transports, recorder = self.transports(
                contact, tls=TlsOptions(key=mine.key, certificate=mine.certificate)
            )
            peer = yield self.client(transports, ca=mine.certificate)
            peer.send(message())
            yield recorder.when(recorder.messages)
            flow = recorder.messages[0][1]
            self.assertEqual((flow.protocol, flow.reported), ("wss", "tcp"))
            transports.send(flow, ok())
            yield peer.when("200 OK")
            peer.close()
            yield peer.lost
            yield recorder.when(recorder.closed)
            self.assertEqual(recorder.closed, [(flow, None)])

    @inlineCallbacks
    def test_ipv6(self) -> Any:
        """So it is over IPv6."""
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            self.skipTest(f"no IPv6 here: {error}")
        mine = identity("::1")
        tls = TlsOptions(key=mine.key, certificate=mine.certificate)
        for name, trusted in (("ws", None), ("wss", mine.certificate)):
            transports, recorder = self.transports(f"sip:[::1]:0;transport={name}", tls=tls)
            peer = yield self.client(transports, ca=trusted)
            peer.send(message())
            yield recorder.when(recorder.messages)
            request, flow, _ = recorder.messages[0]
            self.assertEqual((flow.protocol, flow.remote_host), (name, "::1"))
            self.assertTrue((request.get("Via") or "").endswith(";received=::1"))
            transports.send(flow, ok())
            yield peer.when("200 OK")

    @inlineCallbacks
    def test_no_upgrade(self) -> Any:
        """Who does not ask for SIP over a WebSocket gets an HTTP error, and is told of."""
        transports, recorder = self.transports(WS)
        listener = transports.listeners[0]
        for count, (data, status) in enumerate(
            (
                (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 426 "),
                (options(), b"HTTP/1.1 400 "),
                (b"GET /" + b"a" * 20_000, b"HTTP/1.1 431 "),
            ),
            1,
        ):
            peer = yield self.peer(transports, "ws")
            peer.transport.write(data)
            yield peer.lost
            self.assertTrue(peer.got.startswith(status), peer.got)
            self.assertEqual(len(recorder.malformed), count)
        refused = connect(listener.port, subprotocols=("chat",))
        yield self.assertFailure(refused, AssertionError)
        self.assertEqual((recorder.messages, recorder.closed), ([], []))
        self.assertEqual(transports.connections, 0)

    @inlineCallbacks
    def test_keep_alives(self) -> Any:
        """A double CRLF is answered with a CRLF, and a ping with a pong."""
        transports, recorder = self.transports(WS)
        peer = yield self.client(transports)
        peer.send("\r\n")
        peer.ping(b"still there?")
        peer.send("\r\n\r\n")
        yield peer.when("\r\n")
        self.assertEqual((peer.messages, peer.pongs), ([], [b"still there?"]))
        self.assertEqual((recorder.messages, recorder.malformed), ([], []))

    @inlineCallbacks
    def test_long_message(self) -> Any:
        """A message over the limit is told with 513, which can be sent, then closed with 1009."""
        transports, recorder = self.transports(WS, limits=Limits(message=1000))
        recorder.on_malformed = lambda _, flow: transports.send(flow, b"SIP/2.0 513 Too Large")
        peer = yield self.client(transports)
        peer.send(message("x" * 100_000))
        yield peer.lost
        self.assertEqual((peer.messages, peer.closed), (["SIP/2.0 513 Too Large"], 1009))
        self.assertEqual([bad.error.status for bad, _, _ in recorder.malformed], [513])
        yield recorder.when(recorder.closed)
        self.assertIsNone(recorder.closed[0][1])

    @inlineCallbacks
    def test_violation(self) -> Any:
        """An unmasked frame ends the connection with 1002, and no other."""
        transports, recorder = self.transports(WS)
        other = yield self.client(transports)
        peer = yield self.client(transports)
        peer.write(b"\x81\x05hello")
        yield peer.lost
        self.assertEqual(peer.closed, 1002)
        yield recorder.when(recorder.closed)
        self.assertEqual(len(recorder.malformed), 1)
        other.send(message())
        yield recorder.when(recorder.messages)

    @inlineCallbacks
    def test_closed_by_the_peer(self) -> Any:
        """The closing handshake is done, and the flow is told as closed in the orderly way."""
        transports, recorder = self.transports(WS)
        peer = yield self.client(transports)
        peer.send(message())
        yield recorder.when(recorder.messages)
        flow = recorder.messages[0][1]
        peer.close(1001)
        yield peer.lost
        self.assertEqual(peer.closed, 1001)
        yield recorder.when(recorder.closed)
        self.assertEqual(recorder.closed, [(flow, None)])
        self.assertFalse(transports.send(flow, ok()))

    @inlineCallbacks
    def test_reset(self) -> Any:
        """A connection that breaks without a word is told with the reason."""
        transports, recorder = self.transports(WS)
        peer = yield self.client(transports)
        peer.send(message())
        yield recorder.when(recorder.messages)
        peer.transport.abortConnection()
        yield recorder.when(recorder.closed)
        self.assertIsNotNone(recorder.closed[0][1])

    @inlineCallbacks
    def test_last_words(self) -> Any:
        """What came before the peer closed, or broke the rules, is answered all the same."""
        transports, recorder = self.transports(WS)
        recorder.on_message = lambda _, flow: transports.send(flow, ok())
        for last, code in ((b"\x88\x82key.h\x8d", 1000), (b"\x81\x00", 1002)):
            peer = yield self.client(transports)
            # All in one piece.
            data = peer._websocket.send(ws.TextMessage(message()))
            peer.write(data + last)
            yield peer.lost
            self.assertEqual((len(peer.messages), peer.closed), (1, code))
        yield recorder.when(recorder.closed, 2)

    @inlineCallbacks
    def test_closed_by_us(self) -> Any:
        """What was sent is delivered; what still comes is not looked at."""
        transports, recorder = self.transports(WS)
        peer = yield self.client(transports)
        peer.send(message())
        yield recorder.when(recorder.messages)
        flow = recorder.messages[0][1]
        transports.send(flow, b"farewell")
        transports.close(flow)
        self.assertFalse(transports.is_open(flow))
        peer.send(message())
        yield peer.lost
        self.assertEqual((peer.messages, peer.closed), (["farewell"], 1000))
        yield recorder.when(recorder.closed)
        self.assertEqual((recorder.closed, len(recorder.messages)), ([(flow, None)], 1))

    @inlineCallbacks
    def test_peer_that_does_not_close(self) -> Any:
        """A peer that does not answer our closing is cut after a while."""
        clocked = ClockedReactor()
        recorder = Recorder()
        transports = SipTransports(clocked, recorder)
        self.addCleanup(lambda: self.stop_all(transports, clocked))
        transports.listen(WS)
        peer = yield self.client(transports)
        peer.answers_close = False
        peer.send(message())
        yield recorder.when(recorder.messages)
        transports.close(recorder.messages[0][1])
        while peer.closed is None:
            yield deferLater(_reactor, 0)
        clocked.clock.advance(9.9)
        self.assertEqual((recorder.closed, transports.connections), ([], 1))
        clocked.clock.advance(0.2)
        yield peer.lost
        yield recorder.when(recorder.closed)
        self.assertEqual((peer.closed, transports.connections), (1000, 0))
        self.assertEqual(clocked.clock.getDelayedCalls(), [])

    @inlineCallbacks
    def test_idle_connections(self) -> Any:
        """Who does not finish the handshake, or says nothing after it, is closed; pings count, of
        one who has said something.
        """
        clocked = ClockedReactor()
        recorder = Recorder()
        limits = Limits(idle=100.0, first_message=100.0)
        transports = SipTransports(clocked, recorder, limits=limits)
        self.addCleanup(lambda: self.stop_all(transports, clocked))
        transports.listen(WS)
        slow = yield self.peer(transports, "ws")
        slow.transport.write(b"GET / HTTP/1.1\r\n")
        silent = yield self.client(transports)
        alive = yield self.client(transports)
        alive.send(message())
        yield recorder.when(recorder.messages)
        for _ in range(6):
            alive.pongs.clear()
            alive.ping()
            while not alive.pongs:
                yield deferLater(_reactor, 0)
            clocked.clock.advance(25.0)
        yield slow.lost
        yield silent.lost
        self.assertEqual((silent.closed, slow.got), (1000, b""))
        self.assertFalse(alive.lost.called)
        clocked.clock.pump([25.0] * 4)
        yield alive.lost
        self.assertEqual(recorder.failures, [])

    @inlineCallbacks
    def test_peer_that_does_not_read(self) -> Any:
        """A peer that does not read is cut, whether we send to it or it only pings."""
        for pings in (False, True):
            transports, recorder = self.transports(WS, limits=Limits(unsent=1 << 20))
            peer = yield self.client(transports)
            peer.send(message())
            yield recorder.when(recorder.messages)
            flow = recorder.messages[0][1]
            peer.transport.pauseProducing()
            turns = 0
            while transports.is_open(flow) and turns < 100_000:
                turns += 1
                if pings:
                    for _ in range(200):
                        peer.ping(b"x" * 125)
                else:
                    transports.send(flow, bytes(100_000))
                yield deferLater(_reactor, 0)
            yield recorder.when(recorder.closed)
            self.assertIsInstance(recorder.closed[0][1], ConnectError)
            self.assertEqual(len(recorder.failures), not pings)

    @inlineCallbacks
    def test_stop(self) -> Any:
        """Stopping delivers what was sent, and closes all; also what is in its handshake."""
        transports, recorder = self.transports(WS)
        peer = yield self.client(transports)
        raw = yield self.peer(transports, "ws")
        peer.send(message())
        yield recorder.when(recorder.messages)
        transports.send(recorder.messages[0][1], b"farewell")
        yield transports.stop()
        yield peer.lost
        yield raw.lost
        self.assertEqual((peer.messages, peer.closed), (["farewell"], 1000))


class ClientTests(WebSocketsCase):
    @inlineCallbacks
    def test_there_and_back(self) -> Any:
        """We open WebSockets too; messages wait for the handshake, and the connection is reused."""
        mine = identity()
        tls = TlsOptions(key=mine.key, certificate=mine.certificate, ca=mine.certificate)
        for name in ("ws", "wss"):
            a, at_a, b, at_b = self.both(f"sip:127.0.0.1:0;transport={name}", tls=tls)
            target = self.target(b, name)
            flows = [a.send_to(target, options(body=text)) for text in ("one", "two", "three")]
            self.assertEqual(len(set(flows)), 1)
            yield at_b.when(at_b.messages, 3)
            self.assertEqual([m.body for m, _, _ in at_b.messages], [b"one", b"two", b"three"])
            back = at_b.messages[0][1]
            self.assertEqual(back.protocol, name)
            b.send(back, ok())
            yield at_a.when(at_a.messages)
            self.assertEqual(at_a.messages[0][1], flows[0])
            again = b.send_to(Target(name, back.remote_host, back.remote_port), options())
            self.assertEqual(again, back)
            yield at_a.when(at_a.messages, 2)
            self.assertEqual((a.connections, b.connections), (1, 1))
            a.close(flows[0])
            yield at_a.when(at_a.closed)
            yield at_b.when(at_b.closed)
            self.assertEqual((at_a.closed, at_b.closed), ([(flows[0], None)], [(back, None)]))

    @inlineCallbacks
    def test_refused_connection(self) -> Any:
        """Where nobody listens each message is told as not sent."""
        a, at_a = self.transports(WS)
        with socket.socket() as gone:
            gone.bind((LOCALHOST, 0))
            port = gone.getsockname()[1]
        flow = a.send_to(Target("ws", LOCALHOST, port), b"one")
        yield at_a.when(at_a.failures)
        self.assertEqual(at_a.failures[0][0], flow)
        self.assertIsInstance(at_a.failures[0][1], ConnectionRefusedError)

    @inlineCallbacks
    def refusal(self, answer: bytes) -> Any:
        """Have a handshake answered; give the reason that is told."""

        class Answering(protocol.Protocol):
            def dataReceived(self, data: bytes) -> None:
                cast(Any, self.transport).write(answer)
                if not answer:
                    cast(Any, self.transport).loseConnection()

        factory = protocol.Factory.forProtocol(Answering)
        factory.noisy = False
        port = _reactor.listenTCP(0, factory, interface=LOCALHOST)
        self.addCleanup(port.stopListening)
        a, at_a = self.transports(WS)
        a.send_to(Target("ws", LOCALHOST, port.getHost().port), b"one")
        yield at_a.when(at_a.failures)
        self.assertEqual((at_a.failures[0][2], at_a.closed, a.connections), (b"one", [], 0))
        return str(at_a.failures[0][1])

    @inlineCallbacks
    def test_refused_handshake(self) -> Any:
        """A peer that does not want, does not know WebSockets or hangs up fails what waited."""
        reason = yield self.refusal(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        self.assertIn("answered 403", reason)
        reason = yield self.refusal(b"SIP/2.0 400 Bad Request\r\n\r\n")
        self.assertIn("handshake failed", reason)
        yield self.refusal(b"")

    @inlineCallbacks
    def test_stop_while_connecting(self) -> Any:
        """A WebSocket that is being made is given up, and its messages are told."""
        a, at_a, b, _ = self.both(WS)
        a.send_to(self.target(b, "ws"), b"never")
        yield a.stop()
        self.assertEqual((len(at_a.failures), a.connections), (1, 0))


class ContactTests(WebSocketsCase):
    def test_ports(self) -> None:
        """A WebSocket may have the port of UDP; port 0 gives each stream transport its own."""
        transports, _ = self.transports("sip:127.0.0.1:0;transport=udp,tcp,ws")
        udp, tcp, ws = transports.listeners
        self.assertEqual(udp.port, tcp.port)
        self.assertNotEqual(tcp.port, ws.port)
        transports, _ = self.transports("sip:127.0.0.1:0;transport=ws,udp")
        ws, udp = transports.listeners
        self.assertEqual(udp.port, ws.port)

    def test_one_port_for_two(self) -> None:
        """Two stream transports with one port are refused."""
        error = self.assertRaises(
            LocalProtocolError, check_contact, "sip:127.0.0.1:5060;transport=tcp,ws"
        )
        self.assertIn("tcp and ws cannot have one port", str(error))

    def test_no_key(self) -> None:
        """``wss`` needs a key and a certificate, as TLS does."""
        transports, _ = self.transports()
        for contact in ("sip:127.0.0.1:0;transport=wss", "sips:127.0.0.1:0;transport=ws"):
            self.assertRaises(LocalProtocolError, transports.listen, contact)

    def test_without_the_package(self) -> None:
        """Without wsproto a contact says which package is missing; others are served."""
        patch = mock.patch.dict(sys.modules, {"wsproto": None})
        patch.start()
        self.addCleanup(patch.stop)
        transports, _ = self.transports("sip:127.0.0.1:0;transport=udp,tcp")
        for call in (transports.listen, check_contact):
            error = self.assertRaises(LocalProtocolError, call, WS)
            self.assertIn("drachtwist[websocket]", str(error))

    def test_no_listener(self) -> None:
        """Without a WebSocket contact there are no WebSockets to others either."""
        transports, _ = self.transports("sip:127.0.0.1:0;transport=udp,tcp")
        target = Target("ws", LOCALHOST, 80)
        self.assertRaises(LocalProtocolError, transports.send_to, target, b"x")


class ReportedTests(WebSocketsCase):
    def test_reported(self) -> None:
        """Applications are told TCP of a WebSocket, and what it is of all others."""
        transports, _ = self.transports("sip:127.0.0.1:0;transport=udp")
        listener = transports.listeners[0]
        shown = {
            name: Flow(name, LOCALHOST, 1, 1, LOCALHOST, 2, listener).reported
            for name in ("udp", "tcp", "tls", "ws", "wss")
        }
        expected = {"udp": "udp", "tcp": "tcp", "tls": "tls", "ws": "tcp", "wss": "tcp"}
        self.assertEqual(shown, expected)
