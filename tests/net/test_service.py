"""Tests of connections that last, over real sockets where a socket matters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import reactor as installed_reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from drachtwist.errors import AuthenticationError, ConnectionFailed, ConnectionLost
from drachtwist.net.admission import parse_networks
from drachtwist.net.endpoints import Connect, Listen, connect_to, listen_on
from drachtwist.net.protocol import (
    DrachtioClientFactory,
    DrachtioListenerFactory,
    DrachtioProtocol,
    DrachtioServerFactory,
    DrachtioServerProtocol,
)
from drachtwist.net.service import BackOff, InboundConnection, OutboundListener
from drachtwist.net.tls import TlsOptions
from drachtwist.wire.commands import Answer, Cdr, Delivery
from drachtwist.wire.session import ApplicationSession, Commanded, ServerSession
from tests.certificates import identity

reactor: Any = installed_reactor


class _Port:
    """A port that is bound."""

    stopped = 0

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 9022)

    def stopListening(self) -> None:
        self.stopped += 1


class _Opening:
    """An endpoint that takes its time.

    :param canceller: what it does when it is given up.
    """

    def __init__(self, canceller: Callable[[Deferred[Any]], object] | None = None) -> None:
        self.given_up = 0
        self._canceller = canceller

    def listen(self, factory: Any) -> Deferred[Any]:
        self.opening: Deferred[Any] = Deferred(self._cancelled)
        return self.opening

    def _cancelled(self, opening: Deferred[Any]) -> None:
        self.given_up += 1
        if self._canceller is not None:
            self._canceller(opening)


class StoppedListeningTests(SynchronousTestCase):
    """What is begun is given up by whoever stops, and says nothing afterwards."""

    def listener(self, endpoint: _Opening) -> OutboundListener:
        """Make a listener that begins to listen."""
        factory = DrachtioListenerFactory(lambda: ApplicationSession("cymru"), Recorder(), Clock())
        listener = OutboundListener(
            Listen(cast(Any, endpoint), "tcp:9022", False), factory, Clock()
        )
        listener.startService()
        return listener

    def said(self) -> list[str]:
        """Collect what is logged as an error or warning from now on."""
        said: list[str] = []

        def hear(event: Any) -> None:
            if event["log_level"] in (LogLevel.warn, LogLevel.error):
                said.append(event["log_format"])

        observer: Any = hear
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return said

    def test_given_up(self) -> None:
        """A port that is being opened is given up, and that is no error."""
        said = self.said()
        endpoint = _Opening()
        listener = self.listener(endpoint)
        waiting = listener.when_listening()
        self.successResultOf(listener.stopService())
        self.assertEqual(endpoint.given_up, 1)
        self.failureResultOf(waiting, ConnectionFailed)
        error = self.failureResultOf(listener.when_listening(), ConnectionFailed)
        self.assertIn("stopped", error.getErrorMessage())
        self.assertEqual(said, [])

    def test_opened_all_the_same(self) -> None:
        """One that cannot be given up any more is closed as soon as it is open."""
        port = _Port()
        listener = self.listener(_Opening(lambda opening: opening.callback(port)))
        waiting = listener.when_listening()
        self.successResultOf(listener.stopService())
        self.assertEqual(port.stopped, 1)
        self.assertIsNone(listener.address)
        self.failureResultOf(waiting, ConnectionFailed)

    def test_open(self) -> None:
        """One that is open is closed once."""
        port = _Port()
        endpoint = _Opening()
        listener = self.listener(endpoint)
        endpoint.opening.callback(port)
        self.assertEqual(self.successResultOf(listener.when_listening()), port.getHost())
        self.successResultOf(listener.stopService())
        self.assertEqual((port.stopped, endpoint.given_up), (1, 0))

    def test_failed(self) -> None:
        """Before that, an error is told: in the log, and to whoever waits, now or later."""
        said = self.said()
        endpoint = _Opening()
        listener = self.listener(endpoint)
        waiting = listener.when_listening()
        endpoint.opening.errback(OSError("busy"))
        for each in (waiting, listener.when_listening()):
            self.assertIn("busy", self.failureResultOf(each, ConnectionFailed).getErrorMessage())
        self.assertEqual(len(said), 1)
        self.successResultOf(listener.stopService())


class Recorder:
    """Keeps what links report, in order."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.waiting: list[tuple[str, Deferred[Any]]] = []

    def note(self, kind: str, value: Any) -> None:
        """Keep an event, and wake who waits for one like it."""
        self.events.append((kind, value))
        for item in [item for item in self.waiting if item[0] == kind]:
            self.waiting.remove(item)
            item[1].callback(value)

    def next(self, kind: str) -> Deferred[Any]:
        """Wait for the next event of a kind."""
        waiting: Deferred[Any] = Deferred()
        self.waiting.append((kind, waiting))
        return waiting

    def link_up(self, link: DrachtioProtocol) -> None:
        self.note("up", link)

    def link_down(self, link: DrachtioProtocol, reason: Exception) -> None:
        self.note("down", reason)

    def delivered(self, link: DrachtioProtocol, delivery: Delivery) -> None:
        self.note("delivered", delivery)

    def cdr(self, link: DrachtioProtocol, cdr: Cdr) -> None:
        self.note("cdr", cdr)

    def signed(self, link: DrachtioServerProtocol) -> None:
        self.note("signed", link)

    def wrong_secret(self, link: DrachtioServerProtocol) -> None:
        """Do nothing."""

    def broken(self, link: DrachtioServerProtocol, error: Exception) -> None:
        """Do nothing."""

    def unread(self, link: DrachtioServerProtocol, why: str) -> None:
        """Do nothing."""

    def commanded(self, link: DrachtioServerProtocol, event: Commanded) -> None:
        self.note("commanded", event.command)
        link.answer(event.message_id, "OK")

    def opened(self, link: DrachtioServerProtocol) -> None:
        pass

    def gone(self, link: DrachtioServerProtocol) -> None:
        self.note("gone", link)


class Sink:
    """Keeps the answers to a command."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.lost: ConnectionLost | None = None

    def answered(self, answer: Answer) -> None:
        self.answers.append(answer)

    def link_lost(self, reason: ConnectionLost) -> None:
        self.lost = reason


class BackOffTests(SynchronousTestCase):
    def test_capped_and_spread(self) -> None:
        """The wait doubles up to a cap, and half of it is random."""
        low = BackOff(1.0, 30.0, lambda: 0.0)
        high = BackOff(1.0, 30.0, lambda: 1.0)
        self.assertEqual([high(n) for n in (1, 2, 3, 6, 7, 1000)], [1, 2, 4, 30, 30, 30])
        self.assertEqual([low(n) for n in (1, 2, 1000)], [0.5, 1, 15])


class FakeEndpoint:
    """An endpoint whose attempts the test decides; not a double of ours but of the network."""

    def __init__(self) -> None:
        self.attempts: list[tuple[Any, Deferred[Any]]] = []

    def connect(self, factory: Any) -> Deferred[Any]:
        attempt: Deferred[Any] = Deferred()
        self.attempts.append((factory, attempt))
        return attempt


class ReconnectTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a connection over a network that the test decides about."""
        from twisted.internet.testing import StringTransport

        self.transport_class = StringTransport
        self.clock = Clock()
        self.endpoint = FakeEndpoint()
        self.errors: list[Exception] = []
        self.delays: list[float] = []
        self.connection = InboundConnection(
            Connect(self.endpoint, "tcp:server:9022", False),  # type: ignore[arg-type]
            DrachtioClientFactory(
                lambda: ApplicationSession("cymru"),
                Recorder(),
                self.clock,
            ),
            clock=self.clock,
            back_off=BackOff(1.0, 8.0, lambda: 1.0),
            on_error=self.errors.append,
            on_reconnecting=self.delays.append,
        )
        self.connection.startService()

    def accept(self) -> Any:
        """Let the newest attempt succeed; give the protocol."""
        factory, attempt = self.endpoint.attempts[-1]
        made = factory.buildProtocol(None)
        self.transport = self.transport_class()
        made.makeConnection(self.transport)
        attempt.callback(made)
        return made

    def answer(self, made: Any, *tokens: str) -> None:
        """Answer the authentication."""
        sent = self.transport.value()
        message_id = sent.split(b"#", 1)[1].split(b"|")[0].decode()
        payload = "|".join(["i", "response", message_id, *tokens]).encode()
        made.dataReceived(b"%d#%b" % (len(payload), payload))

    def test_waits_grow_and_are_reset_by_authentication_only(self) -> None:
        """A server that accepts connections and drops them is not hammered."""
        for _ in range(5):
            made = self.accept()
            made.connectionLost(Failure(ConnectionLost("dropped")))
            self.clock.advance(self.delays[-1])
        self.assertEqual(self.delays, [1, 2, 4, 8, 8])
        self.assertEqual(len(self.errors), 1)
        made = self.accept()
        self.answer(made, "OK", "udp/h:1", "v0.9.10")
        self.assertIsNotNone(self.connection.link)
        made.connectionLost(Failure(ConnectionLost("dropped")))
        self.assertIsNone(self.connection.link)
        self.assertEqual(self.delays[-1], 1)

    def test_refused_connections(self) -> None:
        """Each kind of failure is reported once, while the attempts go on."""
        for _ in range(3):
            self.endpoint.attempts[-1][1].errback(ConnectionRefusedError("refused"))
            self.clock.advance(self.delays[-1])
        self.assertEqual(self.delays, [1, 2, 4])
        [error] = self.errors
        self.assertIsInstance(error, ConnectionFailed)
        self.assertIn("tcp:server:9022", str(error))

    def test_wrong_secret(self) -> None:
        """A refused secret is reported once, ends the attempts, and fails who waits."""
        waiting = self.connection.when_connected()
        made = self.accept()
        self.answer(made, "NO", "incorrect secret")
        made.connectionLost(Failure(ConnectionLost("closed")))
        self.clock.advance(1000)
        self.assertEqual(len(self.endpoint.attempts), 1)
        [error] = self.errors
        self.assertIsInstance(error, AuthenticationError)
        self.failureResultOf(waiting, AuthenticationError)
        self.failureResultOf(self.connection.when_connected(), AuthenticationError)

    def test_stopped(self) -> None:
        """Whoever waits when the connection is stopped gets an error, not silence."""
        waiting = self.connection.when_connected()
        self.connection.stop()
        self.failureResultOf(waiting, ConnectionFailed)

    def test_stopped_while_it_connects(self) -> None:
        """An attempt that is given up, or closed, because it stops is no error."""
        self.connection.stop()
        [(_, attempt)] = self.endpoint.attempts
        self.assertTrue(attempt.called)
        self.assertEqual((self.errors, self.delays), ([], []))

    def test_stopped_while_it_authenticates(self) -> None:
        """So is a connection that is closed before the server took the secret."""
        made = self.accept()
        self.connection.stop()
        self.assertTrue(self.transport.disconnecting)
        made.connectionLost(Failure(ConnectionLost("closed")))
        self.clock.advance(100)
        self.assertEqual((self.errors, self.delays), ([], []))
        self.assertEqual(len(self.endpoint.attempts), 1)


class FakePort:
    """A port that is open, until it is told otherwise."""

    def __init__(self) -> None:
        self.stopped = 0

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", "127.0.0.1", 9023)

    def stopListening(self) -> None:
        self.stopped += 1


class OpeningEndpoint:
    """An endpoint that takes its time to listen, as one that asks for a certificate first does.

    :param port: opened all the same when it is cancelled; nothing is if None.
    """

    def __init__(self, port: FakePort | None = None) -> None:
        self.cancelled = 0
        self._port = port

    def listen(self, factory: Any) -> Deferred[Any]:
        return Deferred(self._cancel)

    def _cancel(self, opening: Deferred[Any]) -> None:
        self.cancelled += 1
        if self._port is not None:
            opening.callback(self._port)


class StoppedListenerTests(SynchronousTestCase):
    """A listener that is stopped while its port is being opened."""

    def stop(self, endpoint: OpeningEndpoint) -> list[Any]:
        """Start and stop a listener; return what was logged as an error."""
        logged: list[Any] = []
        observer: Any = logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        factory = DrachtioListenerFactory(lambda: ApplicationSession("cymru"), Recorder(), Clock())
        where: Any = endpoint
        listener = OutboundListener(Listen(where, "memory", False), factory, Clock())
        listener.startService()
        waiting = listener.when_listening()
        self.successResultOf(listener.stop())
        self.assertIn("stopped", str(self.failureResultOf(waiting, ConnectionFailed).value))
        self.assertIsNone(listener.address)
        return [one for one in logged if one["log_level"] >= LogLevel.warn]

    def test_given_up(self) -> None:
        """The attempt is given up, which is no error."""
        endpoint = OpeningEndpoint()
        self.assertEqual(self.stop(endpoint), [])
        self.assertEqual(endpoint.cancelled, 1)

    def test_open_all_the_same(self) -> None:
        """A port that is open in the same moment is closed again."""
        port = FakePort()
        self.assertEqual(self.stop(OpeningEndpoint(port)), [])
        self.assertEqual(port.stopped, 1)


class RealSocketTests(TestCase):
    """A server's end and an application's end over loopback."""

    timeout = 20

    def setUp(self) -> None:
        """Make recorders for both ends."""
        self.app, self.server = Recorder(), Recorder()
        me = identity()
        self.server_tls = TlsOptions(key=me.key, certificate=me.certificate)
        self.trusting = TlsOptions(ca=me.certificate)

    async def serve(self, tls: TlsOptions | None = None, port: int = 0) -> int:
        """Run an admin port; give its number."""
        factory = DrachtioServerFactory(
            lambda: ServerSession("cymru", ["udp/127.0.0.1:5060"], "v0.9.10"), self.server
        )
        self.port: Any = await listen_on(reactor, port, "127.0.0.1", tls).endpoint.listen(factory)
        self.addCleanup(self.port.stopListening)
        bound: Any = self.port.getHost()
        return int(bound.port)

    def connect(
        self, port: int, tls: TlsOptions | None = None, secret: str = "cymru"
    ) -> InboundConnection:
        """Connect to it."""
        connection = InboundConnection(
            connect_to(reactor, "127.0.0.1", port, tls),
            DrachtioClientFactory(
                lambda: ApplicationSession(secret, ["blue"], ["invite"]), self.app, reactor
            ),
            clock=reactor,
            back_off=BackOff(0.01, 0.05),
            on_error=lambda error: self.app.note("error", error),
        )
        self.addCleanup(connection.stop)
        connection.startService()
        return connection

    async def test_tcp_and_tls(self) -> None:
        """Commands and answers travel over both, and the tags are known."""
        for tls, trusting in ((None, None), (self.server_tls, self.trusting)):
            connection = self.connect(await self.serve(tls), trusting)
            link = await connection.when_connected()
            sink = Sink()
            link.send_message("", "", b"OPTIONS sip:a@b SIP/2.0\r\n\r\n", sink)
            await self.server.next("commanded")
            while not sink.answers:
                await deferLater(reactor, 0)
            self.assertTrue(sink.answers[0].ok)
            signed = [value for kind, value in self.server.events if kind == "signed"]
            self.assertEqual(signed[-1].tags, ("blue",))
            await connection.stop()

    async def test_untrusted_certificate(self) -> None:
        """A certificate that is not trusted is refused, with words that say so."""
        connection = self.connect(await self.serve(self.server_tls), TlsOptions())
        error = await self.app.next("error")
        self.assertIn("not trusted", str(error))
        self.assertIn("--tls-ca", str(error))
        await connection.stop()
        self.assertEqual([kind for kind, _ in self.server.events if kind == "signed"], [])

    async def test_tls_to_a_plain_port(self) -> None:
        """Who speaks TLS to a port that does not is told so."""
        connection = self.connect(await self.serve(), self.trusting)
        error = await self.app.next("error")
        self.assertIn("plain TCP", str(error))
        await connection.stop()

    async def test_plain_to_a_tls_port(self) -> None:
        """Who speaks plainly to a port of TLS is told so."""
        connection = self.connect(await self.serve(self.server_tls))
        error = await self.app.next("error")
        self.assertIn("TLS", str(error))
        await connection.stop()

    async def test_certificate_of_another_name(self) -> None:
        """A trusted certificate for another name is refused too."""
        options = TlsOptions(ca=self.trusting.ca, server_name="other.example")
        connection = self.connect(await self.serve(self.server_tls), options)
        error = await self.app.next("error")
        self.assertIn("another name", str(error))
        await connection.stop()

    async def test_unverified(self) -> None:
        """Verification can be switched off by name."""
        connection = self.connect(await self.serve(self.server_tls), TlsOptions(verify=False))
        link = await connection.when_connected()
        self.assertTrue(link.authenticated)
        await connection.stop()

    async def test_wrong_secret(self) -> None:
        """A wrong secret fails who waits."""
        connection = self.connect(await self.serve(), secret="wrong")
        with self.assertRaises(AuthenticationError):
            await connection.when_connected()
        await connection.stop()

    async def test_server_comes_back(self) -> None:
        """After the server died and came back the connection is up again, TLS still TLS."""
        number = await self.serve(self.server_tls)
        connection = self.connect(number, self.trusting)
        link = await connection.when_connected()
        sink = Sink()
        down = self.app.next("down")
        await self.port.stopListening()
        [served] = [value for kind, value in self.server.events if kind == "signed"]
        served.transport.abortConnection()
        link.send_message("", "", b"OPTIONS sip:a@b SIP/2.0\r\n\r\n", sink)
        await down
        self.assertIsInstance(sink.lost, ConnectionLost)
        signed = self.server.next("signed")
        await self.serve(self.server_tls, number)
        again = await signed
        self.assertTrue(connection.tls)
        self.assertEqual(again.transport.getPeerCertificate(), None)
        await connection.when_connected()
        await connection.stop()

    async def test_outbound(self) -> None:
        """Servers connect to a listener, over TCP and TLS; the application speaks first."""
        for tls, creator in ((None, None), (self.server_tls, self.trusting)):
            listener = OutboundListener(
                listen_on(reactor, 0, "127.0.0.1", tls),
                DrachtioListenerFactory(
                    lambda: ApplicationSession("cymru", ["blue"]), self.app, reactor
                ),
            )
            listener.startService()
            address: Any = await listener.when_listening()
            factory = DrachtioServerFactory(
                lambda: ServerSession("cymru", ["udp/127.0.0.1:5060"], "v0.9.10"),
                self.server,
                outbound=True,
            )
            signed, up = self.server.next("signed"), self.app.next("up")
            target = connect_to(reactor, "127.0.0.1", address.port, creator)
            await target.endpoint.connect(factory)
            served, link = await signed, await up
            gone = self.server.next("gone")
            self.assertTrue(link.outbound)
            self.assertEqual(served.tags, ("blue",))
            link.close()
            await gone
            await listener.stop()

    async def test_warning(self) -> None:
        """One warning tells that strangers are shown the secret, where that can be."""
        ca = identity("drachtio.example")
        clients = dataclasses.replace(self.server_tls, ca=ca.certificate, verify_clients=True)
        allow = parse_networks(["10.0.0.0/8"])
        said: list[str] = []

        def hear(event: Any) -> None:
            if event["log_level"] is LogLevel.warn and "endpoint" in event:
                said.append(event["log_format"].format(**event))

        observer: Any = hear
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for where, warned in (
            (listen_on(reactor, 0, "127.0.0.1"), False),
            (listen_on(reactor, 0, ""), True),
            (listen_on(reactor, 0, "", self.server_tls), True),
            (listen_on(reactor, 0, "", clients), False),
            (dataclasses.replace(listen_on(reactor, 0, ""), allow=allow), False),
        ):
            said.clear()
            listener = OutboundListener(
                where,
                DrachtioListenerFactory(lambda: ApplicationSession("cymru"), self.app, reactor),
            )
            listener.startService()
            await listener.when_listening()
            await listener.stop()
            self.assertEqual(len(said), warned, where)
            if warned:
                self.assertIn("is shown the secret", said[0])
                self.assertIn("--allow", said[0])

    async def test_port_in_use(self) -> None:
        """A port that cannot be bound is an error for who waits."""
        number = await self.serve()
        listener = OutboundListener(
            listen_on(reactor, number, "127.0.0.1"),
            DrachtioListenerFactory(lambda: ApplicationSession("cymru"), self.app, reactor),
        )
        listener.startService()
        with self.assertRaises(ConnectionFailed):
            await listener.when_listening()
        await listener.stop()

    async def test_garbage(self) -> None:
        """A peer that sends garbage loses its connection; the others never notice."""
        number = await self.serve()
        good = self.connect(number)
        link = await good.when_connected()
        from twisted.internet.endpoints import connectProtocol
        from twisted.internet.protocol import Protocol

        class Garbage(Protocol):
            gone: Deferred[None]

            def connectionMade(self) -> None:
                self.gone = Deferred()
                assert self.transport is not None
                self.transport.write(b"GET / HTTP/1.1\r\n\r\n")

            def connectionLost(self, reason: Any = None) -> None:
                self.gone.callback(None)

        bad = await connectProtocol(connect_to(reactor, "127.0.0.1", number).endpoint, Garbage())
        await bad.gone
        sink = Sink()
        link.send_message("", "", b"OPTIONS sip:a@b SIP/2.0\r\n\r\n", sink)
        while not sink.answers:
            await deferLater(reactor, 0)
        self.assertTrue(link.authenticated)
        await good.stop()
