"""The server on real sockets."""

from __future__ import annotations

import socket
from typing import Any, cast

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Protocol
from twisted.trial.unittest import SynchronousTestCase, TestCase

from drachtwist.demo.phone import Phone
from drachtwist.errors import SipError
from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.parsing import parse_datagram
from tests.certificates import identity
from tests.server.doubles import Bench, request


class _Reader(Protocol):
    """Keeps what it reads."""

    def __init__(self) -> None:
        self.data = b""
        self.waiting: list[tuple[bytes, Deferred[bytes]]] = []
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        for item in list(self.waiting):
            if item[0] in self.data:
                self.waiting.remove(item)
                item[1].callback(self.data)

    def connectionLost(self, reason: Any = None) -> None:
        self.gone.callback(None)

    def until(self, text: bytes) -> Deferred[bytes]:
        """Wait for some bytes."""
        waiting: Deferred[bytes] = Deferred()
        self.waiting.append((text, waiting))
        self.dataReceived(b"")
        return waiting


class ServiceTests(TestCase):
    timeout = 30

    async def serve(self, **options: Any) -> DrachtioServer:
        """Start a server on free ports."""
        options.setdefault("admin_port", 0)
        options.setdefault("contacts", ("sip:127.0.0.1:0;transport=udp,tcp",))
        server = DrachtioServer(ServerConfig(**options), reactor)
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        return server

    async def connect(self, server: DrachtioServer) -> _Reader:
        """Connect to the admin port."""
        assert server.admin_port is not None
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", server.admin_port)
        reader: _Reader = await connectProtocol(endpoint, _Reader())
        self.addCleanup(self.leave, reader)
        return reader

    def leave(self, reader: _Reader) -> Deferred[None]:
        """Close a connection."""
        assert reader.transport is not None
        cast(Any, reader.transport).loseConnection()
        return reader.gone

    def phone(self, server: DrachtioServer) -> Phone:
        """Make a phone for the server."""
        port = int(server.sip_addresses[0].rpartition(":")[2])
        phone = Phone(("127.0.0.1", port), clock=reactor)
        listening = cast(Any, reactor).listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return phone

    async def test_taken_port(self) -> None:
        """A port that somebody has is a failure of when_listening, and stopping works after it."""
        taken = socket.socket(type=socket.SOCK_DGRAM)
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        contact = f"sip:127.0.0.1:{taken.getsockname()[1]};transport=udp"
        server = DrachtioServer(ServerConfig(admin_port=0, contacts=(contact,)), reactor)
        server.startService()
        self.addCleanup(server.stopService)
        failure = None
        try:
            await server.when_listening()
        except (CannotListenError, OSError) as error:
            failure = error
        self.assertIsNotNone(failure)

    async def test_needs_the_secret(self) -> None:
        """Without the secret no command is carried out."""
        server = await self.serve(secret="right")
        for text in (b"10#m|route|foo", b"20#m|authenticate|wrong", b"16#x|remove_route|a"):
            reader = await self.connect(server)
            cast(Any, reader.transport).write(text)
            await reader.gone
            self.assertIn(b"|NO|", reader.data)
            reader.gone = Deferred()
            reader.gone.callback(None)

    async def test_garbage_harms_nobody(self) -> None:
        """One connection's garbage closes that one; another is served on, and so are phones."""
        server = await self.serve()
        good = await self.connect(server)
        bad = await self.connect(server)
        cast(Any, good.transport).write(b"20#m|authenticate|cymru")
        await good.until(b"|OK|")
        cast(Any, bad.transport).write(b"GET / HTTP/1.1\r\n\r\n")
        await bad.gone
        bad.gone = Deferred()
        bad.gone.callback(None)
        cast(Any, good.transport).write(b"15#m|route|options6#p|ping")
        await good.until(b"|OK|pong")
        phone = self.phone(server)
        assert phone.transport is not None
        for junk in (
            b"",
            b"\r\n\r\n",
            b"hello",
            b"OPTIONS sip:a SIP/2.0\r\n\r\n",
            bytes(range(256)),
        ):
            phone.transport.write(junk, phone.server)
        asking = phone.request("OPTIONS", f"sip:app@127.0.0.1:{phone.server[1]}")
        text = await good.until(b"\r\nOPTIONS ")
        transaction = text.rpartition(b"|sip|network|")[2].split(b"|")[5].decode()
        answer = f"m|sip|{transaction}|\r\nSIP/2.0 200 OK\r\n\r\n".encode()
        cast(Any, good.transport).write(b"%d#%b" % (len(answer), answer))
        response = await asking
        self.assertEqual(response.status, 200)

    async def test_nobody(self) -> None:
        """Without an application a call is refused."""
        server = await self.serve()
        phone = self.phone(server)
        error: Any = await self.assertFailure(phone.call("sip:a@127.0.0.1"), SipError)
        self.assertEqual(error.status, 503)

    async def test_tls(self) -> None:
        """SIP is served over TLS too, and whom it is served to is told the transport."""
        me = identity()
        server = await self.serve(
            contacts=("sip:127.0.0.1:0;transport=tls",),
            tls=TlsOptions(key=me.key, certificate=me.certificate),
        )
        [address] = server.sip_addresses
        app = await self.connect(server)
        cast(Any, app.transport).write(b"20#m|authenticate|cymru15#m|route|options")
        await app.until(address.encode())
        await app.until(b"|m|OK")
        port = int(address.rpartition(":")[2])
        options = TlsOptions(ca=me.certificate).client_creator("127.0.0.1")
        endpoint = wrapClientTLS(options, TCP4ClientEndpoint(reactor, "127.0.0.1", port))
        phone: _Reader = await connectProtocol(endpoint, _Reader())
        self.addCleanup(self.leave, phone)
        text = request("OPTIONS").replace("SIP/2.0/UDP", "SIP/2.0/TLS").encode()
        cast(Any, phone.transport).write(text.replace(b"\n", b"\r\n"))
        delivery = await app.until(b"\r\nOPTIONS ")
        self.assertIn(b"|sip|network|", delivery)
        tokens = delivery.rpartition(b"|sip|network|")[2].split(b"|")
        self.assertEqual(tokens[1], b"tls")
        answer = f"m|sip|{tokens[5].decode()}|\r\nSIP/2.0 200 OK\r\n\r\n".encode()
        cast(Any, app.transport).write(b"%d#%b" % (len(answer), answer))
        await phone.until(b"SIP/2.0 200 OK\r\n")

    async def test_certificates_of_clients(self) -> None:
        """Phones and applications come in with a certificate that is vouched for, or not at all."""
        me, friend, stranger = identity(), identity("friend"), identity("stranger")
        server = await self.serve(
            contacts=("sip:127.0.0.1:0;transport=tls",),
            admin_tls_port=0,
            tls=TlsOptions(
                key=me.key,
                certificate=me.certificate,
                ca=friend.certificate,
                verify_clients=True,
                verify=False,
            ),
        )
        sip = int(server.sip_addresses[0].rpartition(":")[2])
        text = request("OPTIONS").replace("SIP/2.0/UDP", "SIP/2.0/TLS").replace("\n", "\r\n")
        for port, says, answer in (
            (sip, text.encode(), b"SIP/2.0 503 "),
            (server.admin_tls_port, b"20#m|authenticate|cymru", b"|m|OK|"),
        ):
            for who in (friend, stranger, None):
                options = TlsOptions(verify=False)
                if who is not None:
                    options = TlsOptions(who.key, who.certificate, verify=False)
                endpoint = wrapClientTLS(
                    options.client_creator("127.0.0.1"),
                    TCP4ClientEndpoint(reactor, "127.0.0.1", port or 0),
                )
                client: _Reader = await connectProtocol(endpoint, _Reader())
                cast(Any, client.transport).write(says)
                if who is friend:
                    await client.until(answer)
                    await self.leave(client)
                else:
                    await client.gone
                    self.assertEqual(client.data, b"")

    async def test_start_again(self) -> None:
        """A server that was stopped can be started again."""
        server = await self.serve()
        await server.stopService()
        self.assertEqual((server.sip_addresses, server.admin_port), ((), None))
        server.startService()
        await server.when_listening()
        phone = self.phone(server)
        await self.assertFailure(phone.call("sip:a@127.0.0.1"), SipError)

    async def test_stop_with_connections(self) -> None:
        """Stopping closes the connections of applications."""
        server = await self.serve()
        readers = [await self.connect(server) for _ in range(3)]
        cast(Any, readers[0].transport).write(b"20#m|authenticate|cymru")
        await readers[0].until(b"|OK|")
        await server.stopService()
        await gatherResults([reader.gone for reader in readers])
        for reader in readers:
            reader.gone = Deferred()
            reader.gone.callback(None)


_WORDS = st.sampled_from(
    [
        b"SIP/2.0 ",
        b"INVITE ",
        b"OPTIONS sip:a@b SIP/2.0\r\n",
        b"Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKx\r\n",
        b"From: <sip:a@b>;tag=1\r\n",
        b"To: <sip:a@b>\r\n",
        b"Call-ID: x\r\n",
        b"CSeq: 1 INVITE\r\n",
        b"CSeq: 1 OPTIONS\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"Content-Length: 5\r\n",
        b"|",
        b"sip",
        b"proxy",
        b"route",
        b"m",
        b"authenticate|cymru",
        b"200 OK",
        b"\0",
    ]
)
_TEXTS = st.lists(st.one_of(_WORDS, st.binary(max_size=8)), max_size=14).map(b"".join)


class ArbitraryTests(SynchronousTestCase):
    """Whatever bytes come, from either side, others are served on."""

    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(_TEXTS, min_size=1, max_size=4))
    def test_application(self, texts: list[bytes]) -> None:
        """No command of an application harms another application."""
        bench = Bench()
        other = bench.link("options")
        link = bench.link()
        for text in texts:
            link.send(b"m|" + text)
        raw = bench.link()
        raw.protocol.dataReceived(b"".join(texts))
        bench.take()
        bench.receive(request("OPTIONS"))
        self.assertEqual(len(other.take()), 1)
        self.assertEqual(self.flushLoggedErrors(), [])

    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(_TEXTS, min_size=1, max_size=4))
    def test_network(self, texts: list[bytes]) -> None:
        """No message of the network harms another."""
        bench = Bench()
        other = bench.link("options", "invite")
        for text in texts:
            try:
                message = parse_datagram(text)
            except ValueError:
                continue
            bench.core.sip_received(message, bench.wire.flow("127.0.0.1", 5060), len(text))
        bench.clock.advance(100)
        other.take()
        bench.receive(request("OPTIONS", call="last"))
        self.assertEqual(len(other.take()), 1)
        self.assertEqual(self.flushLoggedErrors(), [])
