"""The ports for applications among strangers, and the end of a server whose peers are silent."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.task import Clock, deferLater
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import ServerConfig
from drachtwist.server.limits import ServerLimits
from drachtwist.server.service import DrachtioServer
from drachtwist.wire.frames import encode_frame
from tests.certificates import identity
from tests.server.doubles import Bench, head, request
from tests.server.test_service import _Reader

_reactor = cast(Any, reactor)


class LogTests(TestCase):
    async def test_names(self) -> None:
        """The log calls what listens by what it is for, and speaks of none of our classes."""
        lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            lines.append(formatEvent(event) or "")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        me = identity()
        config = ServerConfig(
            admin_port=0,
            admin_tls_port=0,
            contacts=("sip:127.0.0.1:0;transport=udp,tcp", "sips:127.0.0.1:0"),
            tls=TlsOptions(key=me.key, certificate=me.certificate),
        )
        server = DrachtioServer(config, reactor)
        server.startService()
        await server.when_listening()
        await cast(Any, server.stopService())
        starts = [line.partition(" starting on ")[0] for line in lines if " starting on " in line]
        expected = [
            f"{who} over {how}" for who in ("SIP", "applications") for how in ("tcp", "tls")
        ]
        self.assertEqual(starts, expected)
        self.assertEqual([line for line in lines if "Factory" in line or "<" in line], [])


class DoorCase(TestCase):
    timeout = 30

    async def serve(self, limits: ServerLimits, **options: Any) -> DrachtioServer:
        """Start a server whose deadlines hang on a Clock."""
        self.clock = Clock()
        config = ServerConfig(
            admin_port=0,
            contacts=("sip:127.0.0.1:0;transport=udp",),
            limits=limits,
            **options,
        )
        self.server = server = DrachtioServer(config, reactor, self.clock)
        server.startService()
        self.addCleanup(self.stop)
        await server.when_listening()
        return server

    def stop(self) -> Deferred[None]:
        """Stop the server, whoever is silent."""
        stopped = self.server.stopService()
        self.server.hurry()
        return stopped

    async def connect(self, port: int | None, host: str = "127.0.0.1") -> _Reader:
        """Connect to a port, from an address."""
        assert port is not None
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port, bindAddress=(host, 0))
        reader: _Reader = await connectProtocol(endpoint, _Reader())
        return reader

    async def until(self, what: Any) -> None:
        """Let the reactor turn until something is so."""
        while not what():
            await deferLater(_reactor, 0)

    def say(self, reader: _Reader, text: str) -> None:
        """Send a frame."""
        cast(Any, reader.transport).write(encode_frame(text.encode()))


class DoorTests(DoorCase):
    async def test_silent_strangers(self) -> None:
        """Who does not show the secret has ten seconds, with TLS or without; who did, stays."""
        mine = identity()
        tls = TlsOptions(key=mine.key, certificate=mine.certificate)
        server = await self.serve(ServerLimits(), admin_tls_port=0, tls=tls)
        silent = await self.connect(server.admin_port)
        unfinished = await self.connect(server.admin_tls_port)
        cast(Any, unfinished.transport).write(b"\x16\x03\x01")
        known = await self.connect(server.admin_port)
        self.say(known, "m|authenticate|cymru")
        await known.until(b"|OK|")
        await self.until(lambda: len(server._links) == 3)
        self.clock.advance(9.9)
        self.assertEqual(len(server._links), 3)
        self.clock.advance(0.1)
        await silent.gone
        await unfinished.gone
        await self.until(lambda: len(server._links) == 1)
        self.say(known, "m|ping")
        await known.until(b"|OK|pong")
        self.assertEqual(server.alerts.counts, {"secret_timeout": 2})

    async def test_few_strangers(self) -> None:
        """There are only so many strangers from one address, and in total; no application counts
        among them, and each that leaves makes room.
        """
        server = await self.serve(ServerLimits(strangers=3, strangers_per_source=2))
        known = [await self.connect(server.admin_port) for _ in range(2)]
        for one in known:
            self.say(one, "m|authenticate|cymru")
            await one.until(b"|OK|")
        strangers = [await self.connect(server.admin_port) for _ in range(2)]
        await self.until(lambda: len(server._links) == 4)
        refused = await self.connect(server.admin_port)
        await refused.gone
        self.assertEqual(server.alerts.counts, {"strangers_per_source": 1})
        cast(Any, strangers[0].transport).loseConnection()
        await strangers[0].gone
        await self.until(lambda: len(server._links) == 3)
        another = await self.connect(server.admin_port)
        self.say(another, "m|authenticate|cymru")
        await another.until(b"|OK|")

    async def test_strangers_of_many_addresses(self) -> None:
        """Strangers of many addresses that fill what there is keep no application out."""
        limits = ServerLimits(strangers=6, strangers_per_source=3, applications=9)
        server = await self.serve(limits)
        port = server.admin_port
        strangers = [await self.connect(port, f"127.0.0.{2 + number // 2}") for number in range(6)]
        await self.until(lambda: len(server._links) == 6)
        for number in range(3):
            known = await self.connect(port, "127.0.0.9")
            self.say(known, "m|authenticate|cymru")
            await known.until(b"|OK|")
            # Of those that have the most the first one has to go.
            await strangers[2 * number].gone
            strangers.append(await self.connect(port, f"127.0.0.{10 + number}"))
        await self.until(lambda: len(server._links) == 9)
        self.assertEqual(server.alerts.counts, {"strangers": 3})
        # Those that are on their way out count for nothing.
        more = [await self.connect(port, f"127.0.1.{number}") for number in range(6)]
        await self.until(lambda: server.alerts.counts["strangers"] == 9)
        for one in more:
            cast(Any, one.transport).loseConnection()
        self.assertNotIn("applications", server.alerts.counts)

    async def test_all_together(self) -> None:
        """All connections to the admin ports together have a limit, too."""
        server = await self.serve(ServerLimits(applications=1))
        known = await self.connect(server.admin_port)
        self.say(known, "m|authenticate|cymru")
        await known.until(b"|OK|")
        refused = await self.connect(server.admin_port)
        await refused.gone
        self.assertEqual(server.alerts.counts, {"applications": 1})
        self.say(known, "m|ping")
        await known.until(b"|OK|pong")

    async def test_long_frame(self) -> None:
        """Before the secret no long frame is waited for; behind it, it is."""
        server = await self.serve(ServerLimits())
        stranger = await self.connect(server.admin_port)
        cast(Any, stranger.transport).write(b"4097#m|authenticate|")
        await stranger.gone
        self.assertEqual(server.alerts.counts, {"broken_frames": 1})
        known = await self.connect(server.admin_port)
        long = b"m|sip||x\r\n" + bytes(8000)
        cast(Any, known.transport).write(encode_frame(b"m|authenticate|cymru") + b"8010#")
        await known.until(b"|OK|")
        cast(Any, known.transport).write(long)
        await known.until(b"|NOK|")

    async def test_wrong_secrets(self) -> None:
        """A wrong secret waits a second for its answer, and there is one line a minute about it."""
        lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        server = await self.serve(ServerLimits())
        guessers = [await self.connect(server.admin_port) for _ in range(5)]
        for one in guessers:
            self.say(one, "m|authenticate|guess")
        await self.until(lambda: server.alerts.counts.get("wrong_secret") == 5)
        self.clock.advance(0.9)
        self.assertEqual([one.data for one in guessers], [b""] * 5)
        self.clock.advance(0.2)
        for one in guessers:
            await one.gone
            self.assertIn(b"|NO|incorrect secret", one.data)
        told = [line for line in lines if "wrong secret" in line]
        self.assertEqual(len(told), 1)
        self.assertIn("127.0.0.1", told[0])

    def test_of_open_files(self) -> None:
        """However few files may be open, some are left for what is up."""
        for files in (64, 256, 1024, 65536, 1 << 20):
            limits = ServerLimits().settled(files)
            together = limits.connections + limits.applications + limits.outgoing
            self.assertLess(together, files * 9 // 10)
            self.assertLessEqual(limits.strangers_per_source * 2, limits.strangers)
            self.assertLess(limits.strangers, limits.applications)
            self.assertLess(limits.connections_per_source, limits.connections)
            limits = ServerLimits().settled(files, dials=True)
            together = limits.connections + limits.applications + limits.outgoing
            together += limits.dialled
            self.assertLess(together, files * 9 // 10)
        given = ServerLimits(connections=7, connections_per_source=7, strangers=5).settled(256)
        self.assertEqual(
            (given.connections, given.connections_per_source, given.strangers), (7, 7, 5)
        )


class StopTests(DoorCase):
    async def test_silent_peers(self) -> None:
        """A server stops although a peer of the TLS port says nothing after its handshake."""
        mine = identity()
        tls = TlsOptions(key=mine.key, certificate=mine.certificate)
        for hurried in (False, True):
            server = await self.serve(ServerLimits(stop=5.0), admin_tls_port=0, tls=tls)
            assert server.admin_tls_port is not None
            creator = TlsOptions(verify=False).client_creator("localhost")
            endpoint: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", server.admin_tls_port)
            reader: _Reader = await connectProtocol(wrapClientTLS(creator, endpoint), _Reader())
            cast(Any, reader.transport).write(encode_frame(b"m|authenticate|cymru"))
            await reader.until(b"|OK|")
            # From now on it neither reads nor answers.
            raw: Any = reader.transport
            raw.transport.pauseProducing()
            stopped = server.stopService()
            await deferLater(_reactor, 0.05)
            self.assertFalse(stopped.called)
            if hurried:
                server.hurry()
            else:
                self.clock.advance(5)
            await stopped
            raw.transport.resumeProducing()
            await reader.gone

    async def test_peer_that_does_not_read(self) -> None:
        """Nor does an application keep it that does not read what waits for it."""
        server = await self.serve(ServerLimits(stop=5.0))
        reader = await self.connect(server.admin_port)
        self.say(reader, "m|authenticate|cymru")
        await reader.until(b"|OK|")
        cast(Any, reader.transport).pauseProducing()
        [link] = server._links
        while not link.paused:
            link.send(bytes(1 << 20))
            await deferLater(_reactor, 0)
        stopped = server.stopService()
        await deferLater(_reactor, 0)
        self.assertFalse(stopped.called)
        self.clock.advance(5)
        await stopped
        cast(Any, reader.transport).resumeProducing()
        await reader.gone


class UnreadTests(SynchronousTestCase):
    """Applications that do not read."""

    def setUp(self) -> None:
        self.bench = Bench(limits=ServerLimits(unread=10_000))

    def ring(self, number: int, size: int = 0) -> None:
        """Let a message come."""
        self.bench.receive(request("MESSAGE", call=f"c{number}", body="x" * size))

    def test_passed_over(self) -> None:
        """One that does not read is passed over as long as others do."""
        slow, quick = self.bench.link("message"), self.bench.link("message")
        for number in range(4):
            self.ring(number)
        self.assertEqual((len(slow.take()), len(quick.take())), (2, 2))
        slow.protocol.pauseProducing()
        for number in range(4, 8):
            self.ring(number)
        self.assertEqual((len(slow.take()), len(quick.take())), (0, 4))
        slow.protocol.resumeProducing()
        for number in range(8, 12):
            self.ring(number)
        self.assertEqual((len(slow.take()), len(quick.take())), (2, 2))

    def test_nobody_reads(self) -> None:
        """When nobody reads they wait: that is better than to be refused."""
        slow = self.bench.link("message")
        slow.protocol.pauseProducing()
        self.ring(1)
        self.assertEqual(self.bench.heads(), [])
        slow.protocol.resumeProducing()
        self.assertEqual(len(slow.take()), 1)

    def test_behind(self) -> None:
        """Who is far behind gets nothing new, and is not cut for that."""
        slow = self.bench.link("message")
        slow.protocol.pauseProducing()
        for number in range(9):
            self.ring(number, 4000)
        answers = self.bench.take()
        self.assertEqual([head(one) for one in answers], ["503 MESSAGE"] * 7)
        self.assertEqual({one.get("Retry-After") for one in answers}, {"5"})
        self.assertEqual(self.bench.core.alerts.counts, {"behind": 7})
        self.assertEqual(self.bench.unread_links, [])
        slow.protocol.resumeProducing()
        self.assertEqual(len(slow.take()), 2)
        self.ring(10)
        self.assertEqual(len(slow.take()), 1)

    def test_cut(self) -> None:
        """A connection for which too much waits is cut, and nothing more is kept for it."""
        slow = self.bench.link("invite")
        self.bench.receive(request("INVITE"))
        slow.answer(slow.take()[0].split("|")[8], "SIP/2.0 200 OK")
        tag = self.bench.take()[-1].to.tag or ""
        slow.protocol.pauseProducing()
        for number in range(2, 5):
            self.bench.receive(request("INFO", number=number, to_tag=tag, body="x" * 4000))
        self.assertTrue(slow.transport.disconnecting)
        self.assertEqual(self.bench.unread_links, [(slow.protocol, "unread")])
        slow.protocol.resumeProducing()
        self.assertEqual(slow.take(), [])

    def test_stalled(self) -> None:
        """So is one that reads nothing at all."""
        slow = self.bench.link("message")
        slow.protocol.pauseProducing()
        self.ring(1)
        self.bench.clock.advance(31)
        self.assertTrue(slow.transport.disconnecting)
        self.assertEqual(self.bench.unread_links, [(slow.protocol, "stalled")])

    def test_reads_now_and_then(self) -> None:
        """What was read does not count any more."""
        slow = self.bench.link("message")
        for number in range(9):
            slow.protocol.pauseProducing()
            self.ring(number, 4000)
            slow.protocol.resumeProducing()
        self.assertFalse(slow.transport.disconnecting)
        self.assertEqual(len(slow.take()), 9)
