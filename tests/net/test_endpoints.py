"""Tests of endpoint strings."""

from __future__ import annotations

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.net.endpoints import (
    Connect,
    EndpointError,
    Listen,
    parse_endpoint,
    to_connect,
    to_listen,
)
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
            ("client:tls:127.0.0.1:9023", Connect, True),
            (r"client:tls:a.example:9023:endpoint=tcp\:10.0.0.1\:9023", Connect, True),
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
            "client:ssl:127.0.0.1:9023",
            "client:tls:127.0.0.1",
            "client:tls:127.0.0.1:9023:color=blue",
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

    def test_who_may_connect(self) -> None:
        """Networks and names say who gets in; what is neither is refused."""
        reactor = MemoryReactorClock()

        def listen(text: str) -> Listen:
            parsed = parse_endpoint(reactor, text, self.tls)
            assert isinstance(parsed, Listen)
            return parsed

        self.assertFalse(listen("tcp:9022").is_guarded)
        self.assertFalse(listen("tls:9023").is_guarded)
        several = listen(r"tcp:9022:allow=10.0.0.0/8,192.0.2.1,2001\:db8\:\:/32:maxWaiting=7")
        self.assertEqual(
            [str(one) for one in several.allow], ["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]
        )
        self.assertEqual((several.is_guarded, several.max_waiting), (True, 7))
        for value, names in (
            ("yes", ()),
            ("sip.example,192.0.2.1", ("sip.example", "192.0.2.1")),
        ):
            clients = listen(f"tls:9023:verifyClients={value}")
            assert clients.credentials is not None
            self.assertTrue(clients.is_guarded)
            self.assertEqual(clients.credentials.options.client_names, names)
        for text in (
            "tcp:9022:allow=everybody",
            "tcp:9022:allow=10.0.0.1/8",
            "tcp:9022:maxWaiting=0",
            "tcp:9022:maxWaiting=many",
            "tls:9023:verifyClients=a b",
            "tcp:host:9022:allow=10.0.0.0/8",
        ):
            self.assertRaises(LocalProtocolError, parse_endpoint, reactor, text, self.tls)

    def test_anything(self) -> None:
        """Endpoints of Twisted are taken as they are, each for its own direction."""
        reactor = MemoryReactorClock()
        client, server = TCP4ClientEndpoint(reactor, "a", 1), TCP4ServerEndpoint(reactor, 1)
        made = to_connect(reactor, client)
        self.assertEqual((made.endpoint, made.text), (client, "TCP4ClientEndpoint"))
        self.assertIs(to_connect(reactor, made), made)
        waiting = to_listen(reactor, server, allow=["10.0.0.0/8"])
        self.assertEqual((waiting.endpoint, waiting.is_guarded), (server, True))
        self.assertIs(to_listen(reactor, waiting, allow=["192.0.2.1"]), waiting)
        wrong: Any
        for wrong in (server, "tcp:9022", 9022, None):
            self.assertRaises(LocalProtocolError, to_connect, reactor, wrong)
        for wrong in (client, "tcp:a:9022", 9022, None):
            self.assertRaises(LocalProtocolError, to_listen, reactor, wrong)
        self.assertRaises(LocalProtocolError, to_listen, reactor, server, allow="10.0.0.0/8")

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
