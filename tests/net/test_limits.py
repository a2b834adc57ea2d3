"""What a peer may cost the transports: connections, and what is kept of unfinished messages."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.logger import ILogObserver, LogEvent, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from drachtwist.net.alerts import Alerts
from drachtwist.net.census import Census, source_of
from drachtwist.net.gate import Refused
from drachtwist.net.logs import Logger
from drachtwist.net.sip.flows import Limits, Listener, Target
from drachtwist.net.sip.transports import SipTransports
from tests.net.test_siptransports import Recorder, options

PING = b"\r\n\r\n"


class Cut(StringTransport):
    """A connection that remembers how it ended."""

    aborted = False

    def abortConnection(self) -> None:
        """Remember it."""
        self.aborted = True
        super().abortConnection()


class LimitsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.recorder = Recorder()

    def transports(self, **limits: Any) -> SipTransports:
        """Make transports that keep some limits."""
        transports = SipTransports(self.clock, self.recorder, limits=Limits(**limits))
        self.factory = transports.gate(Listener("tcp", "192.0.2.1", 5060))
        return transports

    def connect(self, host: str = "192.0.2.7", port: int = 4000) -> tuple[Any, Cut]:
        """Let somebody connect."""
        kind = IPv6Address if ":" in host else IPv4Address
        address = kind("TCP", host, port)
        stream: Any = self.factory.buildProtocol(address)
        transport = Cut(peerAddress=address)
        stream.makeConnection(transport)
        return stream, transport

    def lose(self, stream: Any) -> None:
        """Let a connection go."""
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        stream.connectionLost(Failure(ConnectionDone()))


class ConnectionTests(LimitsCase):
    def test_total(self) -> None:
        """There are only so many connections; one that goes makes room for another."""
        transports = self.transports(connections=2)
        first, _ = self.connect("192.0.2.7")
        self.connect("192.0.2.8")
        refused, transport = self.connect("192.0.2.9")
        self.assertIsInstance(refused, Refused)
        self.assertTrue(transport.aborted)
        self.assertEqual(transports.alerts.counts, {"connections": 1})
        self.lose(first)
        self.assertFalse(self.connect("192.0.2.9")[1].aborted)

    def test_per_source(self) -> None:
        """One address cannot take all of them; of IPv6 it is the first half of one."""
        for mine, also_mine, others in (
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1"),
        ):
            transports = self.transports(connections=9, connections_per_source=2)
            first, _ = self.connect(mine)
            self.connect(also_mine)
            self.assertTrue(self.connect(also_mine)[1].aborted)
            self.assertFalse(self.connect(others)[1].aborted)
            self.assertEqual(transports.alerts.counts, {"connections_per_source": 1})
            self.lose(first)
            self.assertFalse(self.connect(mine)[1].aborted)

    @given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60))
    def test_census(self, doings: list[tuple[bool, int]]) -> None:
        """The counts are right whoever comes and goes, and nothing is kept of who is gone."""
        census = Census(6, 3)
        there: list[str] = []
        for comes, number in doings:
            host = f"192.0.2.{number}"
            if comes:
                problem = census.problem(host)
                self.assertEqual(problem is None, len(there) < 6 and there.count(host) < 3)
                if problem is None:
                    census.enter(host)
                    there.append(host)
            elif host in there:
                census.leave(host)
                there.remove(host)
            self.assertEqual(census.present, len(there))
        for host in there:
            census.leave(host)
        self.assertEqual((census.present, census._sources), (0, {}))

    def test_sources(self) -> None:
        """An address of IPv4 that is written as one of IPv6 is the same source."""
        self.assertEqual(source_of("::ffff:192.0.2.7"), "192.0.2.7")
        self.assertEqual(source_of("2001:db8::1"), source_of("2001:db8::2%eth0"))
        self.assertEqual(source_of("no address:"), "no address:")


class ReuseTests(LimitsCase):
    def test_newest(self) -> None:
        """A connection that is made anew, while an old one still closes, is used from then on."""
        transports = self.transports()
        transports.listeners = [Listener("tcp", "192.0.2.1", 5060)]
        target = Target("tcp", "192.0.2.7", 5060)
        old = transports.flow_to(target)
        self.assertEqual(transports.flow_to(target), old)
        transports.close(old)
        new = transports.flow_to(target)
        self.assertNotEqual(new, old)
        self.assertEqual(transports.flow_to(target), new)
        self.assertEqual(transports.open_flow("tcp", "192.0.2.7", 5060), new)
        self.assertEqual(len(self.clock.tcpClients), 2)


class IdleTests(LimitsCase):
    """How long a connection stays of which nothing is heard."""

    def setUp(self) -> None:
        """Let the reactor's time be another than the one that deadlines hang on."""
        super().setUp()
        self.steady = Clock()

    def transports(self, **limits: Any) -> SipTransports:
        """Make transports whose reactor believes that it is another day."""
        transports = super().transports(**limits)
        transports.clock = self.steady
        self.clock.advance(1e9)
        return transports

    def pings(self, stream: Any, seconds: int) -> None:
        """Let nothing but pings come, one in ten seconds."""
        for _ in range(seconds // 10):
            stream.dataReceived(PING)
            self.steady.advance(10)

    def test_pings_alone(self) -> None:
        """Who only pings has some time, but not for ever."""
        self.transports(first_message=60, idle=600)
        stream, transport = self.connect()
        self.pings(stream, 580)
        self.assertFalse(transport.disconnecting)
        self.pings(stream, 50)
        self.assertTrue(transport.disconnecting)

    def test_nothing(self) -> None:
        """Who says nothing has less."""
        self.transports(first_message=60, idle=600)
        _, transport = self.connect()
        for _ in range(8):
            self.steady.advance(10)
        self.assertTrue(transport.disconnecting)

    def test_does_not_let_go(self) -> None:
        """A connection whose peer does not read what there is left is cut in the end."""
        self.transports(message_timeout=16)
        stream, transport = self.connect()
        stream.dataReceived(options())
        stream.close()
        for _ in range(30):
            self.assertFalse(self.steady.seconds() < 16 and transport.aborted)
            self.steady.advance(1)
        self.assertTrue(transport.aborted)

    def test_pings_and_a_message(self) -> None:
        """A phone that pings stays, and is closed some time after its last ping."""
        self.transports(first_message=60, idle=1800)
        stream, transport = self.connect()
        stream.dataReceived(options())
        self.pings(stream, 6000)
        self.assertFalse(transport.disconnecting)
        for _ in range(160):
            self.steady.advance(10)
        self.assertFalse(transport.disconnecting)
        for _ in range(30):
            self.steady.advance(10)
        self.assertTrue(transport.disconnecting)


class OutgoingTests(LimitsCase):
    """How many connections are made."""

    def flow_to(self, transports: SipTransports, port: int) -> Any:
        """Send to a port, over a connection that is made for it."""
        listener = Listener("tcp", "192.0.2.1", 5060)
        flow = transports.flow_to(Target("tcp", "192.0.2.7", port), listener)
        transports.send(flow, options())
        return flow

    def test_too_many(self) -> None:
        """What is one too many fails, and disturbs nothing that is in use."""
        transports = self.transports(outgoing=2)
        flows = [self.flow_to(transports, port) for port in (1, 2, 3)]
        self.assertEqual(len(self.clock.connectors), 2)
        self.clock.advance(0)
        self.assertEqual([flow for flow, *_ in self.recorder.failures], flows[2:])
        self.assertEqual([transports.is_open(flow) for flow in flows], [True, True, False])
        self.assertEqual(transports.alerts.counts, {"outgoing": 1})
        self.connect()  # who connects has room of his own
        self.assertEqual(transports.connections, 3)

    def test_unused(self) -> None:
        """Of those that were not used for a while the oldest makes room."""
        transports = self.transports(outgoing=2)
        first, second = (self.flow_to(transports, port) for port in (1, 2))
        for _, _, factory, *_ in self.clock.tcpClients:
            stream: Any = factory.buildProtocol(None)
            stream.makeConnection(Cut())
        self.clock.advance(20)
        transports.send(first, options())
        self.clock.advance(29)
        third = self.flow_to(transports, 3)
        self.clock.advance(0)
        self.assertEqual(self.recorder.failures, [])
        opened = [transports.is_open(flow) for flow in (first, second, third)]
        self.assertEqual(opened, [True, False, True])


class MessageTests(LimitsCase):
    def test_begun(self) -> None:
        """A message that is begun has seconds to end, whatever came before it."""
        transports = self.transports(message_timeout=16.0)
        stream, transport = self.connect()
        stream.dataReceived(PING)
        for _ in range(3):
            stream.dataReceived(b"OPTIONS sip:a@b SIP/2.0\r\nX: " + b"x" * 1000)
            self.clock.advance(4)
            self.assertFalse(transport.aborted)
        self.clock.advance(4)
        self.assertTrue(transport.aborted)
        self.assertEqual(transports.alerts.counts, {"message_timeout": 1})

    def test_websocket(self) -> None:
        """So it is over WebSockets, pings or not."""
        from wsproto import ConnectionType, WSConnection
        from wsproto import events as ws

        transports = self.transports(message_timeout=16.0)
        self.factory = transports.gate(Listener("ws", "192.0.2.1", 5060))
        stream, transport = self.connect()
        client = WSConnection(ConnectionType.CLIENT)
        stream.dataReceived(client.send(ws.Request("h", "/", subprotocols=["sip"])))
        client.receive_data(transport.value())
        list(client.events())
        stream.dataReceived(client.send(ws.TextMessage("OPTIONS", message_finished=False)))
        for _ in range(3):
            self.clock.advance(4)
            stream.dataReceived(client.send(ws.Ping()))
            self.assertFalse(transport.aborted)
        self.clock.advance(4)
        self.assertTrue(transport.aborted)
        self.assertEqual(transports.alerts.counts, {"message_timeout": 1})

    def test_one_after_the_other(self) -> None:
        """Each message has its own time: messages without a gap between them cut nobody off."""
        self.transports(message_timeout=16.0)
        stream, transport = self.connect()
        data = options()
        stream.dataReceived(data[:40])
        for _ in range(20):
            self.clock.advance(4)
            stream.dataReceived(data[40:] + data[:40])
        self.assertFalse(transport.aborted)
        self.assertEqual(len(self.recorder.messages), 20)
        stream.dataReceived(data[40:])
        self.clock.pump([4.0] * 30)
        self.assertFalse(transport.aborted)

    def test_all_together(self) -> None:
        """All unfinished messages have one limit; who began first is cut off for the others."""
        transports = self.transports(buffers=10_000, message=8_000)
        connected = [self.connect(port=4000 + number) for number in range(4)]
        streams = [connected[number] for number in (2, 0, 3, 1)]  # not as they came
        for stream, _ in streams:
            self.clock.advance(0.5)
            stream.dataReceived(b"OPTIONS sip:a@b SIP/2.0\r\nX: " + b"x" * 3000)
        self.assertEqual([one.aborted for _, one in streams], [True, False, False, False])
        self.assertEqual(transports.alerts.counts, {"buffers": 1})
        for stream, _ in streams[1:]:
            stream.dataReceived(b"\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(transports._buffered, 0)
        for stream, _ in streams:
            self.lose(stream)
        self.assertEqual((transports._buffered, transports.connections), (0, 0))


class AlertTests(SynchronousTestCase):
    def test_once_a_minute(self) -> None:
        """There is a line for each cause and minute, and a number that counts them all."""
        clock = Clock()
        lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            lines.append(formatEvent(event))

        alerts = Alerts(Logger(namespace="test", observer=observe), clock.seconds)
        for _ in range(120):
            alerts.note("flood", "{peer} floods", peer="192.0.2.7")
            alerts.note("guess", "{peer} guesses", peer="192.0.2.8")
            clock.advance(1)
        self.assertEqual(alerts.counts, {"flood": 120, "guess": 120})
        self.assertEqual(
            lines,
            [
                "192.0.2.7 floods",
                "192.0.2.8 guesses",
                "192.0.2.7 floods (and 59 more since the last line about flood)",
                "192.0.2.8 guesses (and 59 more since the last line about guess)",
            ],
        )
