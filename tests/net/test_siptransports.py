"""SIP over real sockets on the loopback address."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import protocol, reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import CannotListenError, ConnectError, ConnectionRefusedError
from twisted.internet.task import Clock, deferLater
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.net.contacts import Contact
from drachtwist.net.sip.flows import Flow, Limits, Listener, Target
from drachtwist.net.sip.listening import check_contact
from drachtwist.net.sip.transports import SipTransports
from drachtwist.net.tls import TlsOptions
from drachtwist.sip.message import Request, Response
from drachtwist.sip.stream import Malformed
from tests.certificates import identity

_reactor = cast(Any, reactor)
LOCALHOST = "127.0.0.1"


def options(via: str = "SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKa", body: str = "") -> bytes:
    return (
        "OPTIONS sip:bob@127.0.0.1 SIP/2.0\r\n"
        f"Via: {via}\r\n"
        "From: <sip:alice@127.0.0.1>;tag=a\r\nTo: <sip:bob@127.0.0.1>\r\n"
        "Call-ID: c1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def ok() -> bytes:
    return options().replace(b"OPTIONS sip:bob@127.0.0.1 SIP/2.0", b"SIP/2.0 200 OK", 1)


class Recorder:
    """Keeps what it is told; ``when(n)`` fires once there are n things of a kind."""

    def __init__(self) -> None:
        self.messages: list[tuple[Request | Response, Flow, int]] = []
        self.malformed: list[tuple[Malformed, Flow, int]] = []
        self.failures: list[tuple[Flow, Exception, bytes]] = []
        self.closed: list[tuple[Flow, Exception | None]] = []
        self.on_message: Callable[[Request | Response, Flow], object] = lambda *_: None
        self.on_malformed: Callable[[Malformed, Flow], object] = lambda *_: None
        self._waiting: list[tuple[list[Any], int, Deferred[None]]] = []

    def when(self, what: list[Any], count: int = 1) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self._waiting.append((what, count, waiting))
        self._check()
        return waiting.addTimeout(10, _reactor)

    def _check(self) -> None:
        for entry in list(self._waiting):
            if len(entry[0]) >= entry[1]:
                self._waiting.remove(entry)
                entry[2].callback(None)

    def sip_received(self, message: Request | Response, flow: Flow, size: int) -> None:
        self.messages.append((message, flow, size))
        try:
            self.on_message(message, flow)
        finally:
            self._check()

    def sip_malformed(self, bad: Malformed, flow: Flow, size: int) -> None:
        self.malformed.append((bad, flow, size))
        self.on_malformed(bad, flow)
        self._check()

    def sip_send_failed(self, flow: Flow, error: Exception, data: bytes) -> None:
        self.failures.append((flow, error, data))
        self._check()

    def sip_closed(self, flow: Flow, error: Exception | None) -> None:
        self.closed.append((flow, error))
        self._check()


class Peer(protocol.Protocol):
    """A plain TCP client that keeps what it gets."""

    def __init__(self) -> None:
        self.got = b""
        self.lost: Deferred[None] = Deferred()
        self._waiting: list[tuple[bytes, Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        for entry in list(self._waiting):
            if entry[0] in self.got:
                self._waiting.remove(entry)
                entry[1].callback(None)

    def when(self, text: bytes) -> Deferred[None]:
        waiting: Deferred[None] = Deferred()
        self._waiting.append((text, waiting))
        self.dataReceived(b"")
        return waiting.addTimeout(10, _reactor)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(None)


class ClockedReactor:
    """The real reactor with the time of a Clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.seconds = self.clock.seconds
        self.callLater = self.clock.callLater

    def __getattr__(self, name: str) -> Any:
        return getattr(_reactor, name)


class TransportsCase(TestCase):
    def transports(
        self, contact: str | None = None, **options: Any
    ) -> tuple[SipTransports, Recorder]:
        recorder = Recorder()
        transports = SipTransports(_reactor, recorder, **options)
        self.addCleanup(transports.stop)
        if contact is not None:
            transports.listen(contact)
        return transports, recorder

    def stop_all(self, transports: SipTransports, clocked: ClockedReactor) -> Deferred[None]:
        stopped = transports.stop()
        clocked.clock.advance(10)
        return stopped

    def both(
        self, contact: str = "sip:127.0.0.1:0;transport=udp,tcp", **options: Any
    ) -> tuple[SipTransports, Recorder, SipTransports, Recorder]:
        return (*self.transports(contact, **options), *self.transports(contact, **options))

    def target(self, transports: SipTransports, name: str) -> Target:
        listener = self.listener(transports, name)
        return Target(name, listener.host, listener.port)

    def listener(self, transports: SipTransports, name: str) -> Listener:
        return next(each for each in transports.listeners if each.protocol == name)

    def peer(self, transports: SipTransports, name: str = "tcp") -> Deferred[Peer]:
        made: Deferred[Peer] = Deferred()

        class Factory(protocol.ClientFactory):
            noisy = False

            def buildProtocol(self, addr: Any) -> Peer:
                peer = Peer()
                _reactor.callLater(0, made.callback, peer)
                return peer

        listener = self.listener(transports, name)
        connector = _reactor.connectTCP(listener.host, listener.port, Factory())
        self.addCleanup(connector.disconnect)
        return made

    def udp_socket(self, port: int = 0) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(bound.close)
        bound.bind((LOCALHOST, port))
        bound.settimeout(5)
        return bound


class ListeningTests(TransportsCase):
    def test_port_0_is_one_port(self) -> None:
        """Port 0 is a free port, the same for UDP and TCP."""
        transports, _ = self.transports("sip:127.0.0.1:0;transport=udp,tcp")
        udp, tcp = transports.listeners
        self.assertEqual((udp.protocol, tcp.protocol), ("udp", "tcp"))
        self.assertEqual(udp.port, tcp.port)
        self.assertEqual(str(udp), f"udp/127.0.0.1:{udp.port}")
        self.assertTrue(tcp.reliable and not udp.reliable)

    @inlineCallbacks
    def test_taken_port(self) -> Any:
        """When one of several addresses is taken nothing is listened on."""
        finder, _ = self.transports("sip:127.0.0.1:0;transport=udp,tcp")
        port = finder.listeners[0].port
        yield finder.stop()
        taken = self.udp_socket(port)
        transports, _ = self.transports()
        contact = f"sip:127.0.0.1:{port};transport=tcp,udp"
        self.assertRaises(CannotListenError, transports.listen, contact)
        self.assertEqual(transports.listeners, [])
        taken.close()
        self.assertEqual(len(transports.listen(contact)), 2)

    def test_name(self) -> None:
        """A contact may name a host."""
        transports, _ = self.transports("sip:localhost:0;transport=udp")
        self.assertEqual(transports.listeners[0].host, LOCALHOST)

    def test_contacts_that_are_none(self) -> None:
        """A contact that cannot be listened on is refused with its text."""
        transports, _ = self.transports()
        for contact in (
            "127.0.0.1:5060",
            "tel:+123",
            "sip:127.0.0.1;transport=sctp",
            "sip:127.0.0.1:0;transport=tls",
            "sip:no.such.host.invalid:0",
        ):
            error = self.assertRaises(LocalProtocolError, transports.listen, contact)
            self.assertTrue(str(error))
        self.assertEqual(transports.listeners, [])

    def test_streams_of_one_port(self) -> None:
        """Several streams cannot have one port, but one of them and UDP can."""
        for transport, refused in (("tcp,ws", True), ("udp,tcp,ws", True), ("udp,tcp", False)):
            contact = f"sip:127.0.0.1:5060;transport={transport}"
            if refused:
                error = self.assertRaises(LocalProtocolError, check_contact, contact)
                self.assertIn("cannot have one port", str(error))
            else:
                self.assertEqual(check_contact(contact), ["udp", "tcp"])

    @inlineCallbacks
    def test_all_addresses(self) -> Any:
        """A ``*`` listens everywhere; a flow names the address that the peer sees."""
        transports, recorder = self.transports("sip:*:0;transport=udp,tcp")
        ports = {listener.port for listener in transports.listeners}
        self.assertEqual(len(ports), 1)
        self.assertTrue(all(listener.wildcard for listener in transports.listeners))
        client = self.udp_socket()
        client.sendto(options(), (LOCALHOST, ports.pop()))
        yield recorder.when(recorder.messages)
        flow = recorder.messages[0][1]
        self.assertEqual(
            (flow.local_host, flow.local_port), (LOCALHOST, transports.listeners[0].port)
        )

    def test_nearest_address(self) -> None:
        """Of several addresses the one nearest to the peer is used."""
        transports, _ = self.transports("sip:127.0.0.1:0;transport=udp")
        transports.listen("sip:127.0.9.1:0;transport=udp")
        first, second = transports.listeners
        self.assertIs(transports.listener_for("udp", "127.0.0.2"), first)
        self.assertIs(transports.listener_for("udp", "127.0.9.77"), second)
        self.assertIsNone(transports.listener_for("tcp", "127.0.0.1"))
        self.assertIsNone(transports.listener_for("udp", "::1"))
        self.assertRaises(LocalProtocolError, transports.flow_to, Target("tcp", LOCALHOST, 5060))

    def test_external_address_of_another_family(self) -> None:
        """An IPv4 address cannot stand for an IPv6 one."""
        transports, _ = self.transports()
        contact = Contact("sip:127.0.0.1:0", "2001:db8::1")
        self.assertRaises(LocalProtocolError, transports.listen, contact)
        self.assertEqual(transports.listeners, [])

    def test_external_address_of_all(self) -> None:
        """A contact on all addresses has the external one for all of them, in its own family."""
        transports, _ = self.transports()
        listeners = transports.listen(Contact("sip:*:0;transport=udp", "192.0.2.9"))
        for listener in listeners:
            far = listener.host_toward("2001:db8:9::1" if listener.ipv6 else "198.51.100.1")
            self.assertEqual(far == "192.0.2.9", not listener.ipv6)
        self.assertEqual(listeners[0].address_toward(""), f"192.0.2.9:{listeners[0].port}")
        self.assertEqual(listeners[0].host_toward(LOCALHOST), LOCALHOST)

    def test_backlog(self) -> None:
        """So many connections may wait to be accepted, and hardly any more."""
        if sys.platform != "linux":
            self.skipTest("other systems count otherwise")
        for backlog, expected in ((1, 2), (4, 5)):
            transports, _ = self.transports("sip:127.0.0.1:0;transport=tcp", backlog=backlog)
            waiting = []
            for _ in range(8):
                one = socket.socket()
                self.addCleanup(one.close)
                one.setblocking(False)
                one.connect_ex((LOCALHOST, transports.listeners[0].port))
                waiting.append(one)
            _, up, _ = select.select([], waiting, [], 0)
            self.assertEqual(len(up), expected)

    def test_udp_buffers(self) -> None:
        """UDP sockets get the buffers that are wanted; when they do not, that is said."""
        transports, _ = self.transports("sip:127.0.0.1:0;transport=udp", udp_buffer=16384)
        [channel] = transports._channels.values()
        bound: Any = cast(Any, channel)._socket._socket
        usual, _ = self.transports("sip:127.0.0.1:0;transport=udp")
        [channel] = usual._channels.values()
        default: Any = cast(Any, channel)._socket._socket
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            got = bound.getsockopt(socket.SOL_SOCKET, option)
            self.assertIn(got, (16384, 2 * 16384))
            self.assertNotEqual(got, default.getsockopt(socket.SOL_SOCKET, option))
        said: list[Any] = []
        hear: Any = said.append
        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        self.transports("sip:127.0.0.1:0;transport=udp", udp_buffer=(1 << 30) - 1)
        self.assertTrue(any("the system gives" in (one["log_format"] or "") for one in said))

    def test_names_are_no_targets(self) -> None:
        """A target is an address; a name would make everybody wait for the resolver."""
        transports, _ = self.transports("sip:127.0.0.1:0;transport=udp,tcp")
        for name in ("udp", "tcp"):
            self.assertRaises(
                LocalProtocolError, transports.send_to, Target(name, "example.invalid", 1), b"x"
            )


class UdpTests(TransportsCase):
    @inlineCallbacks
    def test_there_and_back(self) -> Any:
        """A request arrives with its flow, and the response goes back over it."""
        a, at_a, b, at_b = self.both("sip:127.0.0.1:0;transport=udp")
        sent = a.send_to(self.target(b, "udp"), options())
        yield at_b.when(at_b.messages)
        message, flow, size = at_b.messages[0]
        self.assertIsInstance(message, Request)
        self.assertEqual(size, len(options()))
        self.assertEqual((flow.protocol, flow.remote_port), ("udp", a.listeners[0].port))
        self.assertEqual(flow.local, f"127.0.0.1:{b.listeners[0].port}")
        self.assertFalse(flow.reliable)
        self.assertTrue(b.send(flow, ok()))
        yield at_a.when(at_a.messages)
        message, flow, _ = at_a.messages[0]
        self.assertIsInstance(message, Response)
        self.assertEqual(flow, sent)
        self.assertEqual(bytes(message), ok())

    @inlineCallbacks
    def test_source_is_noted(self) -> Any:
        """``rport`` is added to the topmost Via, and nothing else is changed."""
        transports, recorder = self.transports("sip:127.0.0.1:0;transport=udp")
        client = self.udp_socket()
        client.sendto(options(), (LOCALHOST, transports.listeners[0].port))
        yield recorder.when(recorder.messages)
        port = client.getsockname()[1]
        expected = options(f"SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKa;rport={port}")
        self.assertEqual(bytes(recorder.messages[0][0]), expected)

    @inlineCallbacks
    def test_keep_alives_and_garbage(self) -> Any:
        """Line ends are ignored, garbage is told, and the next message is served."""
        transports, recorder = self.transports("sip:127.0.0.1:0;transport=udp")
        client = self.udp_socket()
        where = (LOCALHOST, transports.listeners[0].port)
        for data in (b"\r\n\r\n", b"\r\n", b"\0", b"", b"\xff\xfe rubbish", options()):
            client.sendto(data, where)
        bad = options().replace(b"CSeq: 1 OPTIONS", b"CSeq: 1 INVITE")
        client.sendto(bad, where)
        client.sendto(b"\r\n" + options() + b"trailing", where)
        yield recorder.when(recorder.messages, 2)
        self.assertEqual(len(recorder.malformed), 2)
        self.assertIsNone(recorder.malformed[0][0].message)
        lenient = recorder.malformed[1][0].message
        assert isinstance(lenient, Request)
        self.assertIn(";rport=", lenient.get("Via") or "")
        self.assertEqual(recorder.messages[1][0].body, b"")

    @inlineCallbacks
    def test_refused_port(self) -> Any:
        """Where the system tells of unreachable ports, so are we, and the socket goes on."""
        a, at_a, b, at_b = self.both("sip:127.0.0.1:0;transport=udp")
        channel = cast(Any, a)._channels[a.listeners[0].channel]
        if not channel._socket.reports_refusals:
            self.skipTest("this system does not report refused datagrams")
        gone = self.udp_socket()
        port = gone.getsockname()[1]
        gone.close()
        flow = a.send_to(Target("udp", LOCALHOST, port), options())
        # Sent before the error was read: it must not be lost for it.
        for _ in range(5):
            a.send_to(self.target(b, "udp"), options())
        yield at_a.when(at_a.failures)
        failed, error, data = at_a.failures[0]
        self.assertEqual(failed, flow)
        self.assertIsInstance(error, ConnectionRefusedError)
        self.assertTrue(data and options().startswith(data))
        yield at_b.when(at_b.messages, 5)
        b.send(at_b.messages[0][1], ok())
        yield at_a.when(at_a.messages)

    @inlineCallbacks
    def test_too_large(self) -> Any:
        """A message that no datagram can carry is told at once, but not from within the call."""
        a, at_a, b, _ = self.both("sip:127.0.0.1:0;transport=udp")
        a.send_to(self.target(b, "udp"), bytes(70_000))
        self.assertEqual(at_a.failures, [])
        yield at_a.when(at_a.failures)
        self.assertEqual(len(at_a.failures[0][2]), 70_000)

    @inlineCallbacks
    def test_failing_handler(self) -> Any:
        """A handler that raises does not end the service."""
        transports, recorder = self.transports("sip:127.0.0.1:0;transport=udp")
        recorder.on_message = lambda *_: 1 / 0
        client = self.udp_socket()
        for _ in range(2):
            client.sendto(options(), (LOCALHOST, transports.listeners[0].port))
        yield recorder.when(recorder.messages, 2)
        yield deferLater(_reactor, 0)  # told from within the handler, which fails after that
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)


class TcpTests(TransportsCase):
    @inlineCallbacks
    def test_there_and_back(self) -> Any:
        """Messages wait for the connection, come in order, and are answered over it."""
        a, at_a, b, at_b = self.both()
        target = self.target(b, "tcp")
        flows = [a.send_to(target, options(body=text)) for text in ("one", "two", "three")]
        self.assertEqual(len(set(flows)), 1)
        yield at_b.when(at_b.messages, 3)
        self.assertEqual([m.body for m, _, _ in at_b.messages], [b"one", b"two", b"three"])
        flow = at_b.messages[0][1]
        self.assertTrue(flow.reliable)
        self.assertEqual(flow.local_port, target.port)
        self.assertIn(f";rport={flow.remote_port}", at_b.messages[0][0].get("Via") or "")
        b.send(flow, ok())
        yield at_a.when(at_a.messages)
        self.assertEqual(at_a.messages[0][1], flows[0])
        self.assertEqual((a.connections, b.connections), (1, 1))

    @inlineCallbacks
    def test_connection_is_reused(self) -> Any:
        """A request to the address that a connection came from takes that connection."""
        a, at_a, b, at_b = self.both()
        a.send_to(self.target(b, "tcp"), options())
        yield at_b.when(at_b.messages)
        flow = at_b.messages[0][1]
        again = b.send_to(Target("tcp", flow.remote_host, flow.remote_port), options())
        self.assertEqual(again, flow)
        yield at_a.when(at_a.messages)
        self.assertEqual((a.connections, b.connections), (1, 1))

    @inlineCallbacks
    def test_closed_flow(self) -> Any:
        """A closed connection is told to both; the next request makes a new one."""
        a, at_a, b, at_b = self.both()
        target = self.target(b, "tcp")
        flow = a.send_to(target, options())
        yield at_b.when(at_b.messages)
        b.close(at_b.messages[0][1])
        yield at_a.when(at_a.closed)
        yield at_b.when(at_b.closed)
        self.assertEqual(at_a.closed, [(flow, None)])
        self.assertEqual(at_b.closed, [(at_b.messages[0][1], None)])
        self.assertFalse(a.is_open(flow))
        self.assertFalse(a.send(flow, options()))
        again = a.send_to(target, options())
        self.assertNotEqual(again, flow)
        yield at_b.when(at_b.messages, 2)

    @inlineCallbacks
    def test_refused(self) -> Any:
        """Each message that waited for a refused connection is told, with the reason."""
        a, at_a = self.transports("sip:127.0.0.1:0;transport=tcp")
        with socket.socket() as gone:
            gone.bind((LOCALHOST, 0))
            port = gone.getsockname()[1]
        target = Target("tcp", LOCALHOST, port)
        flow = a.send_to(target, b"one")
        a.send_to(target, b"two")
        self.assertEqual(at_a.failures, [])
        yield at_a.when(at_a.failures, 2)
        self.assertEqual([(f, d) for f, _, d in at_a.failures], [(flow, b"one"), (flow, b"two")])
        self.assertIsInstance(at_a.failures[0][1], ConnectionRefusedError)
        self.assertEqual((a.connections, at_a.closed), (0, []))

    @inlineCallbacks
    def test_reset(self) -> Any:
        """A connection that is reset is told with the reason."""
        transports, recorder = self.transports("sip:127.0.0.1:0;transport=tcp")
        peer = yield self.peer(transports)
        peer.transport.write(options())
        yield recorder.when(recorder.messages)
        peer.transport.abortConnection()
        yield recorder.when(recorder.closed)
        self.assertIsNotNone(recorder.closed[0][1])

    @inlineCallbacks
    def test_slices_and_keep_alives(self) -> Any:
        """Messages may be cut anywhere, and a double CRLF is answered with a CRLF."""
        transports, recorder = self.transports("sip:127.0.0.1:0;transport=tcp")
        peer = yield self.peer(transports)
        data = b"\r\n\r\n" + options(body="hello") + b"\r\n\r\n" + options()
        for at in range(0, len(data), 50):
            peer.transport.write(data[at : at + 50])
            yield deferLater(_reactor, 0)
        yield recorder.when(recorder.messages, 2)
        yield peer.when(b"\r\n\r\n")
        self.assertEqual(peer.got, b"\r\n\r\n")

    @inlineCallbacks
    def test_garbage_harms_nobody_else(self) -> Any:
        """A stream that cannot be read on is answered and closed; others go on."""
        transports, recorder = self.transports("sip:127.0.0.1:0;transport=tcp")
        recorder.on_malformed = lambda bad, flow: transports.send(flow, b"SIP/2.0 400 Bad\r\n\r\n")
        good = yield self.peer(transports)
        good.transport.write(options()[:80])
        bad = yield self.peer(transports)
        bad.transport.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + options())
        yield bad.lost
        self.assertIn(b"400", bad.got)
        self.assertEqual(recorder.messages, [])
        good.transport.write(options()[80:])
        yield recorder.when(recorder.messages)
        self.assertEqual(len(recorder.malformed), 1)

    @inlineCallbacks
    def test_bad_message_does_not_end_the_stream(self) -> Any:
        """A message that is wrong but has an end is told, and the next one is served."""
        transports, recorder = self.transports("sip:127.0.0.1:0;transport=tcp")
        peer = yield self.peer(transports)
        bad = options().replace(b"CSeq: 1 OPTIONS", b"CSeq: 1 INVITE")
        peer.transport.write(bad + options())
        yield recorder.when(recorder.messages)
        told, _, size = recorder.malformed[0]
        self.assertEqual(size, len(bad))
        assert told.message is not None
        self.assertIn(";rport=", told.message.get("Via") or "")

    @inlineCallbacks
    def test_long_message(self) -> Any:
        """A message over the limit is told with 513, and its connection closed."""
        transports, recorder = self.transports(
            "sip:127.0.0.1:0;transport=tcp", limits=Limits(message=1000)
        )
        peer = yield self.peer(transports)
        peer.transport.write(options(body="x" * 2000))
        yield peer.lost
        self.assertEqual(recorder.malformed[0][0].error.status, 513)

    @inlineCallbacks
    def test_too_many_connections(self) -> Any:
        """A connection too many is closed at once, and there is room again later."""
        transports, recorder = self.transports(
            "sip:127.0.0.1:0;transport=tcp", limits=Limits(connections=1)
        )
        first = yield self.peer(transports)
        first.transport.write(options())
        yield recorder.when(recorder.messages)
        second = yield self.peer(transports)
        yield second.lost
        first.transport.loseConnection()
        yield recorder.when(recorder.closed)
        third = yield self.peer(transports)
        third.transport.write(options())
        yield recorder.when(recorder.messages, 2)

    @inlineCallbacks
    def test_peer_that_does_not_read(self) -> Any:
        """A connection whose peer does not read is cut when too much waits for it."""
        transports, recorder = self.transports(
            "sip:127.0.0.1:0;transport=tcp", limits=Limits(unsent=1 << 20)
        )
        peer = yield self.peer(transports)
        peer.transport.write(options())
        yield recorder.when(recorder.messages)
        peer.transport.pauseProducing()
        flow = recorder.messages[0][1]
        sent = 0
        while transports.send(flow, bytes(100_000)) and sent < 50_000_000:
            sent += 100_000
            yield deferLater(_reactor, 0)
        self.assertLess(sent, 50_000_000)
        yield recorder.when(recorder.closed)
        self.assertIsInstance(recorder.closed[0][1], ConnectError)
        self.assertEqual(len(recorder.failures), 1)

    @inlineCallbacks
    def test_time_to_connect(self) -> Any:
        """A connection may be given less time than usual to come up."""
        allowed: list[float] = []

        class Connecting(ClockedReactor):
            def connectTCP(self, *where: Any, timeout: float, **how: Any) -> Any:
                allowed.append(timeout)
                return _reactor.connectTCP(*where, timeout=timeout, **how)

        clocked = Connecting()
        transports = SipTransports(clocked, Recorder())
        self.addCleanup(lambda: self.stop_all(transports, clocked))
        [listener] = transports.listen("sip:127.0.0.1:0;transport=tcp")
        with socket.socket() as other:
            other.bind((LOCALHOST, 0))
            other.listen()
            transports.flow_to(Target("tcp", LOCALHOST, listener.port), timeout=4)
            flow = transports.flow_to(Target("tcp", *other.getsockname()))
        self.assertEqual(allowed, [4, 30])
        self.assertTrue(transports.is_open(flow))
        yield self.peer(transports)

    @inlineCallbacks
    def test_idle_connections(self) -> Any:
        """A connection that says nothing is closed sooner than one that once did."""
        clocked = ClockedReactor()
        recorder = Recorder()
        transports = SipTransports(
            clocked, recorder, limits=Limits(idle=1000.0, first_message=100.0)
        )
        self.addCleanup(lambda: self.stop_all(transports, clocked))
        transports.listen("sip:127.0.0.1:0;transport=tcp")
        silent = yield self.peer(transports)
        speaker = yield self.peer(transports)
        speaker.transport.write(options())
        yield recorder.when(recorder.messages)
        clocked.clock.pump([25.0] * 5)
        yield silent.lost
        flow = recorder.messages[0][1]
        self.assertTrue(transports.is_open(flow))
        clocked.clock.pump([25.0] * 30)
        self.assertTrue(transports.is_open(flow))
        transports.send(flow, ok())
        clocked.clock.pump([25.0] * 20)
        self.assertTrue(transports.is_open(flow))
        clocked.clock.pump([25.0] * 25)
        self.assertFalse(transports.is_open(flow))
        yield speaker.lost
        yield recorder.when(recorder.closed, 2)
        self.assertEqual((transports.connections, clocked.clock.getDelayedCalls()), (0, []))

    @inlineCallbacks
    def test_stop(self) -> Any:
        """Stopping delivers what was sent, then closes everything; nothing is sent afterwards."""
        transports, recorder = self.transports("sip:127.0.0.1:0;transport=udp,tcp")
        target = self.target(transports, "tcp")
        peer = yield self.peer(transports)
        peer.transport.write(options())
        yield recorder.when(recorder.messages)
        flow = recorder.messages[0][1]
        transports.send(flow, b"farewell")
        yield transports.stop()
        yield peer.lost
        self.assertEqual(peer.got, b"farewell")
        self.assertFalse(transports.send(flow, b"late"))
        self.assertRaises(LocalProtocolError, transports.send_to, target, b"late")
        with socket.socket() as again:
            self.assertRaises(OSError, again.connect, (LOCALHOST, target.port))

    @inlineCallbacks
    def test_stop_while_connecting(self) -> Any:
        """A connection that is being made is given up, and its messages are told."""
        a, at_a, b, _ = self.both("sip:127.0.0.1:0;transport=tcp")
        a.send_to(self.target(b, "tcp"), b"never")
        yield a.stop()
        self.assertEqual(len(at_a.failures), 1)
        self.assertEqual(a.connections, 0)


class TlsTests(TransportsCase):
    @inlineCallbacks
    def test_there_and_back(self) -> Any:
        """TLS is TCP with a certificate, which the client checks."""
        mine = identity()
        tls = TlsOptions(key=mine.key, certificate=mine.certificate, ca=mine.certificate)
        a, at_a, b, at_b = self.both("sips:127.0.0.1:0", tls=tls)
        flow = a.send_to(self.target(b, "tls"), options("SIP/2.0/TLS 127.0.0.1;branch=z9hG4bKa"))
        yield at_b.when(at_b.messages)
        self.assertEqual(at_b.messages[0][1].protocol, "tls")
        b.send(at_b.messages[0][1], ok())
        yield at_a.when(at_a.messages)
        self.assertEqual(at_a.messages[0][1], flow)

    @inlineCallbacks
    def test_untrusted(self) -> Any:
        """A certificate that is not trusted fails what waited, with a reason that says so."""
        mine, other = identity(), identity("other.invalid")
        tls = TlsOptions(key=mine.key, certificate=mine.certificate, ca=other.certificate)
        a, at_a, b, at_b = self.both("sips:127.0.0.1:0", tls=tls)
        a.send_to(self.target(b, "tls"), options())
        yield at_a.when(at_a.failures)
        self.assertIn("not trusted", str(at_a.failures[0][1]))
        self.assertEqual((at_a.closed, at_b.messages), ([], []))

    @inlineCallbacks
    def test_no_tls_at_all(self) -> Any:
        """Who speaks no TLS is closed, and nobody is told of a connection that never was."""
        mine = identity()
        transports, recorder = self.transports(
            "sips:127.0.0.1:0", tls=TlsOptions(key=mine.key, certificate=mine.certificate)
        )
        peer = yield self.peer(transports, "tls")
        peer.transport.write(options())
        yield peer.lost
        self.assertEqual((recorder.messages, recorder.closed), ([], []))


class Ipv6Tests(TransportsCase):
    @inlineCallbacks
    def test_udp_and_tcp(self) -> Any:
        """IPv6 works as IPv4 does; addresses in flows have no brackets, in texts they have."""
        try:
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            self.skipTest(f"no IPv6 here: {error}")
        a, at_a, b, at_b = self.both("sip:[::1]:0;transport=udp,tcp")
        self.assertEqual(str(b.listeners[0]), f"udp/[::1]:{b.listeners[0].port}")
        for count, name in enumerate(("udp", "tcp"), 1):
            sent = options(f"SIP/2.0/{name.upper()} [::1]:5060;branch=z9hG4bKa")
            a.send_to(self.target(b, name), sent)
            yield at_b.when(at_b.messages, count)
            message, flow, _ = at_b.messages[-1]
            self.assertEqual(flow.remote_host, "::1")
            self.assertEqual(flow.local, f"[::1]:{b.listeners[0].port}")
            self.assertTrue((message.get("Via") or "").endswith(f";rport={flow.remote_port}"))
            b.send(flow, ok())
            yield at_a.when(at_a.messages, count)


class FlowTests(SynchronousTestCase):
    def test_equality(self) -> None:
        """Flows are equal when they take the same socket to the same address."""
        listener = Listener("udp", "0.0.0.0", 5060)
        one = Flow("udp", "192.0.2.1", 5060, 7, "192.0.2.9", 5060, listener)
        two = Flow("udp", "192.0.2.1", 5060, 7, "192.0.2.8", 5060, listener)
        three = Flow("udp", "192.0.2.1", 5060, 8, "192.0.2.9", 5060, listener)
        self.assertEqual({one, two}, {one})
        self.assertNotEqual(one, three)
        self.assertEqual(one.remote, "192.0.2.1:5060")
