"""Tests of endpoint strings."""

from __future__ import annotations

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.net.endpoints import Connect, EndpointError, Listen, parse_endpoint
from drachtwist.net.tls import TlsOptions
from tests.certificates import identity


class ParseEndpointTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make TLS options that work."""
        me = identity()
        self.tls = TlsOptions(key=me.key, certificate=me.certificate, ca=me.certificate)

    def test_which_mode(self) -> None:
        """Digits only mean listening, a host and a port mean connecting."""
        for text, kind, tls in (
            ("tcp:127.0.0.1:9022", Connect, False),
            ("tls:drachtio.example.com:9023", Connect, True),
            ("tcp:localhost:9022:timeout=5", Connect, False),
            (r"tcp:\:\:1:9022", Connect, False),
            ("tcp:[::1]:9022", Connect, False),
            ("tls:10.0.0.1:9023:serverName=a.example:verify=yes", Connect, True),
            ("unix:/run/drachtio.sock", Connect, False),
            ("client:unix:/run/drachtio.sock", Connect, False),
            ("client:tcp:127.0.0.1:9022", Connect, False),
            ("tcp:9022", Listen, False),
            ("tcp:0:interface=127.0.0.1", Listen, False),
            ("tls:9023", Listen, True),
            (r"tls:9023:interface=\:\:1", Listen, True),
            ("server:tcp:9022", Listen, False),
            ("server:unix:/run/app.sock", Listen, False),
            ("server:haproxy:tcp:9022", Listen, False),
        ):
            endpoint = parse_endpoint(MemoryReactorClock(), text, self.tls)
            self.assertIs(type(endpoint), kind, text)
            self.assertEqual(endpoint.tls, tls, text)

    def test_neither_form(self) -> None:
        """Anything else is refused, and the error shows both right forms."""
        for text in (
            "",
            "tcp",
            "tcp:",
            "9022",
            "127.0.0.1:9022",
            "udp:9022",
            "tcp::9022",
            "tcp:host:port",
            "tcp:host:9022:more",
            "tcp:70000",
            "tcp:host:70000",
            "tcp:9022:color=blue",
            "tls:9023:verify=maybe",
            "tcp:host:9022:timeout=soon",
            "server:nonsense",
            "client:",
            "client:nonsense:1",
        ):
            error = self.assertRaises(
                EndpointError, parse_endpoint, MemoryReactorClock(), text, self.tls
            )
            self.assertIn("tcp:HOST:9022", str(error), text)
            self.assertIn("tls:9023:privateKey=", str(error), text)

    def test_tls_needs_an_identity(self) -> None:
        """Listening with TLS without key and certificate is refused, clearly."""
        error = self.assertRaises(
            LocalProtocolError, parse_endpoint, MemoryReactorClock(), "tls:9023"
        )
        self.assertIn("private key and a certificate", str(error))

    def test_files(self) -> None:
        """Keys and certificates come from files, and a missing file is named."""
        me = identity()
        key, certificate = self.mktemp(), self.mktemp()
        with open(key, "wb") as file:
            file.write(me.key)
        with open(certificate, "wb") as file:
            file.write(me.certificate)
        text = f"tls:9023:privateKey={key}:certKey={certificate}"
        self.assertTrue(parse_endpoint(MemoryReactorClock(), text).tls)
        error = self.assertRaises(
            LocalProtocolError,
            parse_endpoint,
            MemoryReactorClock(),
            f"tls:9023:privateKey={key}:certKey=/does/not/exist",
        )
        self.assertIn("/does/not/exist", str(error))

    def test_where_it_listens(self) -> None:
        """The port and interface of the string are those that get bound."""
        reactor = MemoryReactorClock()
        from twisted.internet.protocol import Factory

        listening = parse_endpoint(reactor, "tcp:9022:interface=127.0.0.1")
        assert isinstance(listening, Listen)
        self.successResultOf(listening.endpoint.listen(Factory()))
        self.assertEqual(reactor.tcpServers[0][0], 9022)
        self.assertEqual(reactor.tcpServers[0][3], "127.0.0.1")

    def test_key_is_hidden(self) -> None:
        """The private key does not show in the repr."""
        self.assertNotIn("PRIVATE KEY", repr(self.tls))
