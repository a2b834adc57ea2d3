"""Who gets in at a listener, and what the others get: nothing."""

from __future__ import annotations

import ipaddress
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.net.admission import Admission, is_local, parse_networks
from drachtwist.net.protocol import DrachtioListenerFactory, DrachtioProtocol
from drachtwist.net.tls import TlsOptions
from drachtwist.wire.frames import FrameDecoder, encode_frame
from drachtwist.wire.session import ApplicationSession
from tests.certificates import identity

AT_HOME = IPv4Address("TCP", "10.1.2.3", 40000)
ABROAD = IPv4Address("TCP", "192.0.2.1", 40000)
OPTIONS = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n"


class Handler:
    """Counts what connections report."""

    def __init__(self) -> None:
        self.reports: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *about: self.reports.append(name)


class TcpTransport(StringTransport):
    """One that can be tuned."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def setTcpKeepAlive(self, enabled: bool) -> None:
        pass


class AdmissionTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.handler = Handler()
        self.said: list[str] = []
        hear: Any = self._hear
        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def _hear(self, event: Any) -> None:
        if event.get("log_namespace", "").startswith("drachtwist.net.admission"):
            self.said.append(event["log_format"].format(**event))

    def admission(self, *allow: str, most: int | None = 1000, factory: Any = None) -> Admission:
        """Make what lets in a drachtio server, or whatever a factory is for."""
        if factory is None:
            handler: Any = self.handler
            factory = DrachtioListenerFactory(
                lambda: ApplicationSession("cymru"), handler, self.clock
            )
        return Admission(factory, parse_networks(allow), self.clock, max_waiting=most)

    def connect(self, admission: Any, address: Any = AT_HOME) -> tuple[Any, StringTransport]:
        """Connect from somewhere."""
        made = admission.buildProtocol(address)
        transport = TcpTransport(peerAddress=address)
        made.makeConnection(transport)
        return made, transport


class AllowTests(AdmissionTestCase):
    def test_nobody_else(self) -> None:
        """Who is somewhere else is closed before a byte is sent, and counted."""
        admission = self.admission("10.0.0.0/8", "2001:db8::/32")
        for address, good in (
            (AT_HOME, True),
            (ABROAD, False),
            (IPv4Address("TCP", "11.0.0.0", 1), False),
            (IPv6Address("TCP", "2001:db8::7", 1), True),
            (IPv6Address("TCP", "2001:db9::7", 1), False),
            (IPv6Address("TCP", "::ffff:10.0.0.1", 1), True),
            (IPv6Address("TCP", "::ffff:192.0.2.1", 1), False),
            (IPv6Address("TCP", "fe80::1%eth0", 1), False),
            (UNIXAddress("/run/app.sock"), True),
        ):
            before = admission.refused
            _, transport = self.connect(admission, address)
            self.assertEqual(b"cymru" in transport.value(), good, address)
            self.assertEqual(bool(transport.value()), good, address)
            self.assertEqual(transport.disconnecting, not good, address)
            self.assertEqual(admission.refused - before, not good, address)

    def test_anybody(self) -> None:
        """Without networks everybody gets in."""
        _, transport = self.connect(self.admission(), ABROAD)
        self.assertIn(b"cymru", transport.value())

    def test_tls(self) -> None:
        """Over TLS nothing is sent either, not even a part of the handshake."""
        me = identity()
        creator = TlsOptions(key=me.key, certificate=me.certificate).server_context()
        factory = TLSMemoryBIOFactory(creator, False, self.admission("10.0.0.0/8"))
        _, transport = self.connect(factory, ABROAD)
        self.assertEqual((transport.value(), transport.disconnecting), (b"", True))
        _, transport = self.connect(factory, AT_HOME)
        self.assertFalse(transport.disconnecting)

    def test_other_protocols(self) -> None:
        """Any protocol can stand behind it."""
        admission = self.admission("10.0.0.0/8", most=None, factory=Factory.forProtocol(Protocol))
        self.assertIs(type(self.connect(admission, AT_HOME)[0]), Protocol)
        self.assertTrue(self.connect(admission, ABROAD)[1].disconnecting)

    def test_log(self) -> None:
        """A line a minute tells of them, and how many there were."""
        admission = self.admission("10.0.0.0/8")
        for _ in range(100):
            self.connect(admission, ABROAD)
            self.clock.advance(1)
        self.assertEqual(len(self.said), 2)
        self.assertEqual("192.0.2.1 is not allowed to connect", self.said[0])
        self.assertIn("(and 59 more since", self.said[1])
        self.assertEqual(admission.refused, 100)

    def test_nonsense(self) -> None:
        """Who is let in and sends nonsense is told of once a minute, too, and not at length."""
        said: list[str] = []

        def hear(event: Any) -> None:
            if event.get("cause") == "broken_frames":
                said.append(event["log_format"].format(**event))

        globalLogPublisher.addObserver(cast(Any, hear))
        self.addCleanup(globalLogPublisher.removeObserver, cast(Any, hear))
        admission = self.admission()
        for _ in range(100):
            link, transport = self.connect(admission)
            link.dataReceived(b"x" * 100_000)
            self.assertTrue(transport.disconnecting)
            link.connectionLost(Failure(ConnectionDone()))
            self.clock.advance(1)
        self.assertEqual(len(said), 2)
        self.assertTrue(all(len(line) < 1000 for line in said))
        self.assertIn("(and 59 more since", said[1])

    def test_networks(self) -> None:
        """What is no network is refused when it is given."""
        found = parse_networks(["10.0.0.0/8", " ::1 "])
        self.assertEqual(found, (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1")))
        for wrong in ("localhost", "10.0.0.1/8", "10.0.0.0/33", "", "10.0.0.0/8 x"):
            self.assertRaises(LocalProtocolError, parse_networks, [wrong])
        self.assertRaises(LocalProtocolError, parse_networks, "10.0.0.0/8")

    def test_from_outside(self) -> None:
        """What can be reached from this machine alone is known."""
        for host, local in (
            ("127.0.0.1", True),
            ("127.1.2.3", True),
            ("::1", True),
            ("0.0.0.0", False),
            ("::", False),
            ("192.0.2.1", False),
        ):
            kind = IPv6Address if ":" in host else IPv4Address
            self.assertEqual(is_local(kind("TCP", host, 1)), local, host)
        self.assertTrue(is_local(UNIXAddress("/run/app.sock")))


class WaitingTests(AdmissionTestCase):
    """Connections that have not brought a request."""

    def bring(self, link: DrachtioProtocol, transport: StringTransport) -> None:
        """Let a server accept the secret and bring a request."""
        [frame] = FrameDecoder().feed(transport.value())
        message_id = frame.split(b"|")[0]
        link.dataReceived(
            encode_frame(b"1|response|%b|OK|udp/192.0.2.1:5060" % message_id)
            + encode_frame(b"i|sip|network|1|udp|h|1|t|x||\r\n" + OPTIONS)
        )

    def test_so_many(self) -> None:
        """So many may wait; a further one is closed before a byte is sent."""
        admission = self.admission(most=3)
        for _ in range(3):
            self.assertTrue(self.connect(admission)[1].value())
        _, transport = self.connect(admission)
        self.assertEqual((transport.value(), transport.disconnecting), (b"", True))
        self.assertEqual((admission.crowded_out, admission.waiting), (1, 3))
        self.assertEqual(len(self.said), 1)

    def test_the_oldest_makes_room(self) -> None:
        """One that has waited long makes room: a server brings its request at once."""
        admission = self.admission(most=2)
        old, new = self.connect(admission)[1], self.connect(admission)[1]
        self.clock.advance(5)
        self.assertTrue(self.connect(admission)[1].value())
        self.assertEqual((old.disconnecting, new.disconnecting), (True, False))
        self.assertEqual(admission.waiting, 2)

    def test_gone(self) -> None:
        """Those that are gone wait no longer."""
        admission = self.admission(most=1)
        for _ in range(5):
            link, transport = self.connect(admission)
            self.assertTrue(transport.value())
            link.connectionLost(Failure(ConnectionDone()))
        self.assertEqual((admission.crowded_out, admission.waiting), (0, 0))
        self.assertEqual(self.handler.reports, ["link_down"] * 5)

    def test_requests(self) -> None:
        """Those that brought a request do not count; their handler is the application itself."""
        admission = self.admission(most=1)
        for _ in range(3):
            link, transport = self.connect(admission)
            self.assertTrue(transport.value())
            self.bring(link, transport)
            self.assertIs(link.handler, self.handler)
        self.assertEqual(self.handler.reports, ["link_up", "delivered"] * 3)
        self.assertEqual((admission.crowded_out, admission.waiting), (0, 0))
