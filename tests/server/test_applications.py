"""Applications that the server connects to: those that cannot be had, and those that can."""

from __future__ import annotations

import re
from typing import Any, cast

from twisted.internet import protocol
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.error import TimeoutError
from twisted.internet.task import Clock, deferLater
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from drachtwist import Request, Response, Srf
from drachtwist.errors import LocalProtocolError
from drachtwist.middleware import webhook as routing
from drachtwist.net.tls import TlsOptions
from drachtwist.server.applications import CONNECT_TIMEOUT
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.limits import ServerLimits
from drachtwist.server.service import DrachtioServer
from drachtwist.wire.decisions import parse_decision
from tests.certificates import identity
from tests.server.doubles import Bench, request
from tests.server.phones import ServerCase, Talker, has_ipv6

reactor: Any = installed_reactor
ME = identity()


class ClockedReactor:
    """The real reactor with the time of a Clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.seconds = self.clock.seconds
        self.callLater = self.clock.callLater

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class Stranger(protocol.ServerFactory):
    """Takes connections, and is no application.

    :param says: what it says to the first bytes, or at once.
    :param at_once: say it at once.
    :param leaves: close then.
    """

    noisy = False

    def __init__(self, says: bytes = b"", *, at_once: bool = False, leaves: bool = False) -> None:
        self.says = says
        self.at_once = at_once
        self.leaves = leaves
        self.got = b""
        self.came: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> protocol.Protocol:
        """Take a connection."""
        return _Strange(self)


class _Strange(protocol.Protocol):
    def __init__(self, stranger: Stranger) -> None:
        self._stranger = stranger

    def connectionMade(self) -> None:
        if self._stranger.at_once:
            self._say()
        if not self._stranger.came.called:
            self._stranger.came.callback(None)

    def _say(self) -> None:
        transport: Any = self.transport
        transport.write(self._stranger.says)
        if self._stranger.leaves:
            transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        self._stranger.got += data
        if not self._stranger.at_once:
            self._say()

    def connectionLost(self, reason: Any = None) -> None:
        if not self._stranger.gone.called:
            self._stranger.gone.callback(None)


class _Case(ServerCase):
    def setUp(self) -> None:
        """Listen to what the operator is told."""
        self.said: list[str] = []
        hear: Any = self._hear
        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def _hear(self, event: Any) -> None:
        if event.get("log_namespace", "").startswith("drachtwist"):
            self.said.append(event["log_format"].format(**event))

    def listen(self, factory: Any, interface: str = "127.0.0.1") -> int:
        """Listen for servers; give the port."""
        port = reactor.listenTCP(0, factory, interface=interface)
        self.addCleanup(port.stopListening)
        return cast(int, port.getHost().port)

    def stranger(self, *, tls: bool = False, **options: Any) -> Stranger:
        """Start somebody who is no application."""
        stranger = Stranger(**options)
        factory: Any = stranger
        if tls:
            context = TlsOptions(key=ME.key, certificate=ME.certificate).server_context()
            factory = TLSMemoryBIOFactory(context, False, stranger)
        self.port = self.listen(factory)
        return stranger

    async def application(
        self, tls: TlsOptions | None = None, host: str = "127.0.0.1", secret: str = "cymru"
    ) -> Srf:
        """Start an application that answers OPTIONS 200 and calls."""
        srf = Srf()

        @srf.options
        def answer(req: Request, res: Response) -> None:
            res.send(200)

        listener = srf.listen(port=0, host=host, secret=secret, tls=tls)
        self.addCleanup(srf.stop)
        address: Any = await listener.when_listening()
        self.port = address.port
        return srf

    async def phone(self, uri: str, verify_peer: bool = False, **settings: Any) -> Talker:
        """Start a server that leads requests to an application; give a phone for it."""
        handler = RequestHandler(uri.replace("PORT", str(self.port)), verify_peer=verify_peer)
        settings.setdefault("contacts", ("sip:127.0.0.1:0;transport=udp",))
        self.server = await self.serve(admin_port=None, request_handlers=(handler,), **settings)
        return self.talker("sip:127.0.0.1:0;transport=udp", self.server)

    async def status(self, uri: str, **settings: Any) -> int:
        """Give the status that a caller gets."""
        phone = await self.phone(uri, **settings)
        asked = phone.ask("OPTIONS", f"sip:a@{phone.server.host}")  # type: ignore[union-attr]
        status = (await phone.response(asked)).status
        await self.server.stopService()
        return status

    def was_said(self, words: str) -> None:
        """Check that the operator was told something."""
        self.assertTrue(any(words in line for line in self.said), (words, self.said))


class CertificateTests(_Case):
    """Applications over TLS."""

    async def test_not_verified(self) -> None:
        """Without verification any certificate will do, whether the server has one or not."""
        await self.application(TlsOptions(key=ME.key, certificate=ME.certificate))
        own = identity("sip.example")
        for tls in (
            None,
            TlsOptions(key=own.key, certificate=own.certificate),
            TlsOptions(key=own.key, certificate=own.certificate, ca=own.certificate),
        ):
            for host in ("127.0.0.1", "localhost"):
                self.assertEqual(await self.status(f"tls://{host}:PORT", tls=tls), 200)

    async def test_verified(self) -> None:
        """An application that is trusted, under the name that was asked for, is accepted."""
        await self.application(TlsOptions(key=ME.key, certificate=ME.certificate))
        for host in ("127.0.0.1", "localhost"):
            uri = f"tls://{host}:PORT"
            ca = ME.certificate
            self.assertEqual(
                await self.status(uri, verify_applications=True, application_ca=ca), 200
            )
            self.assertEqual(await self.status(uri, verify_peer=True, application_ca=ca), 200)

    async def test_refused(self) -> None:
        """One that nobody trusts, or that is for another name, is not; the caller gets 480."""
        await self.application(TlsOptions(key=ME.key, certificate=ME.certificate))
        for settings in ({"verify_applications": True}, {"verify_peer": True}):
            self.said.clear()
            self.assertEqual(await self.status("tls://127.0.0.1:PORT", **settings), 480)
            self.was_said("the application's certificate is not trusted (see verify_applications")
        other = identity("other.example")
        await self.application(TlsOptions(key=other.key, certificate=other.certificate))
        status = await self.status(
            "tls://127.0.0.1:PORT", verify_applications=True, application_ca=other.certificate
        )
        self.assertEqual(status, 480)
        self.was_said("the application's certificate is for another name")

    async def test_names_are_sent(self) -> None:
        """The name of the application is sent along, an address is not."""
        names: list[Any] = []
        options = TlsOptions(key=ME.key, certificate=ME.certificate).server_context()
        options.getContext().set_tlsext_servername_callback(
            lambda connection: names.append(connection.get_servername())
        )
        stranger = Stranger(b"x", at_once=True, leaves=True)
        self.port = self.listen(TLSMemoryBIOFactory(options, False, stranger))
        for host in ("localhost", "127.0.0.1"):
            for settings in ({}, {"verify_applications": True}):
                await self.status(f"tls://{host}:PORT", **settings)
        self.assertEqual(names, [b"localhost", b"localhost", None, None])

    async def test_shows_its_own(self) -> None:
        """A server that has a certificate shows it to an application that asks for one."""
        own = identity("sip.example")
        await self.application(
            TlsOptions(
                key=ME.key, certificate=ME.certificate, ca=own.certificate, verify_clients=True
            )
        )
        tls = TlsOptions(key=own.key, certificate=own.certificate)
        self.assertEqual(await self.status("tls://127.0.0.1:PORT", tls=tls), 200)
        self.assertEqual(await self.status("tls://127.0.0.1:PORT"), 480)

    async def test_routed(self) -> None:
        """What a web application leads to is verified if its handler says so."""
        await self.application(TlsOptions(key=ME.key, certificate=ME.certificate))
        app = self.port

        def decide(query: Any) -> Any:
            return routing.route(f"127.0.0.1:{app}", tls=True)

        self.port = self.listen(Site(routing.RoutingResource(decide)))
        uri = "http://127.0.0.1:PORT"
        self.assertEqual(await self.status(uri), 200)
        self.assertEqual(await self.status(uri, verify_peer=True), 480)
        self.assertEqual(
            await self.status(uri, verify_peer=True, application_ca=ME.certificate), 200
        )

    async def test_no_tls_at_all(self) -> None:
        """An application that does not speak TLS cannot be had; the caller gets 480."""
        self.stranger(says=b"hello\r\n")
        self.assertEqual(await self.status("tls://127.0.0.1:PORT"), 480)
        self.was_said("is gone before it showed the secret: TLS failed")

    async def test_names_that_are_none(self) -> None:
        """A name that no certificate can carry is no reason to fail."""
        self.port = 4000
        name = f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 63}.{'e' * 63}"
        for settings in ({}, {"verify_applications": True}):
            self.assertIn(await self.status(f"tls://{name}:PORT", **settings), (480, 500))

    def test_authorities(self) -> None:
        """Authorities that cannot be read are a failure of the start."""
        server = DrachtioServer(
            ServerConfig(admin_port=0, application_ca=b"nothing", contacts=("sip:127.0.0.1:0",)),
            reactor,
        )
        server.startService()
        self.addCleanup(server.stopService)
        self.failureResultOf(server.when_listening(), LocalProtocolError)


class ManyTests(_Case):
    """A flood of requests does not use up all connections that there may be."""

    def setUp(self) -> None:
        """Know who was connected to."""
        super().setUp()
        self.asked: DeferredQueue[Any] = DeferredQueue()

    async def flood(self, uri: str) -> None:
        """Let three requests come, of which two may be asked about; then these are over."""
        phone = await self.phone(uri, limits=ServerLimits(dialled=2))
        uri = f"sip:a@{phone.server.host}"  # type: ignore[union-attr]
        *others, third = (phone.ask("MESSAGE", uri) for _ in range(3))
        response = await phone.response(third)
        self.assertEqual((response.status, response.get("Retry-After")), (503, "5"))
        self.assertEqual(self.server.alerts.counts, {"dialled": 1})
        for _ in others:
            transport = await self.asked.get()
            transport.abortConnection()
        for one in others:
            self.assertIn((await phone.response(one)).status, (480, 500))
        phone.ask("MESSAGE", uri)
        await self.asked.get()
        self.assertEqual(self.server.alerts.counts["dialled"], 1)

    async def test_applications(self) -> None:
        """Those that are connected to."""
        asked = self.asked

        class Silent(protocol.Protocol):
            def connectionMade(self) -> None:
                asked.put(self.transport)

        self.port = self.listen(protocol.Factory.forProtocol(Silent))
        await self.flood("tcp://127.0.0.1:PORT")

    async def test_web_applications(self) -> None:
        """Those that are asked."""
        asked = self.asked

        class Silent(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> Any:
                asked.put(request.transport)
                return NOT_DONE_YET

        self.port = self.listen(Site(Silent()))
        await self.flood("http://127.0.0.1:PORT")


class FailureTests(_Case):
    """Protocol.md 7.6, line by line, as far as applications are concerned."""

    async def test_refused(self) -> None:
        """Nobody listens there: 480, over TCP and TLS."""
        port = reactor.listenTCP(0, Stranger(), interface="127.0.0.1")
        self.port = port.getHost().port
        await port.stopListening()
        for scheme in ("tcp", "tls"):
            self.assertEqual(await self.status(f"{scheme}://127.0.0.1:PORT"), 480)
        self.was_said(f"no application at 127.0.0.1:{self.port}")

    async def test_no_address(self) -> None:
        """The name has no address: 500."""
        self.port = 4000
        self.assertEqual(await self.status("tcp://no.such.host.invalid:PORT"), 500)
        self.was_said("no application at no.such.host.invalid:4000")

    async def test_wrong_secret(self) -> None:
        """An application with another secret is sent away, and the caller gets 480."""
        srf = await self.application(secret="other")
        srf.on_error(lambda error: None)
        self.assertEqual(await self.status("tcp://127.0.0.1:PORT"), 480)
        self.was_said("is gone before it showed the secret")

    async def test_closes(self) -> None:
        """One that closes before it has shown the secret: 480."""
        self.stranger(at_once=True, leaves=True)
        self.assertEqual(await self.status("tcp://127.0.0.1:PORT"), 480)

    async def test_garbage(self) -> None:
        """One that says something else: 480."""
        self.stranger(says=b"220 mail.example ESMTP\r\n", at_once=True)
        self.assertEqual(await self.status("tcp://127.0.0.1:PORT"), 480)

    async def test_host_that_is_empty(self) -> None:
        """Without a host it is this machine."""
        await self.application()
        app = self.port

        def decide(query: Any) -> Any:
            return routing.route(f":{app}")

        self.port = self.listen(Site(routing.RoutingResource(decide)))
        self.assertEqual(await self.status("http://127.0.0.1:PORT"), 200)

    async def test_ipv6(self) -> None:
        """Applications may listen on IPv6, over TCP and TLS."""
        if not has_ipv6():
            self.skipTest("no IPv6 here")
        await self.application(host="::1")
        for host in ("::1", "[::1]"):
            self.assertEqual(await self.status(f"tcp://{host}:PORT"), 200)
        me = identity("::1")
        await self.application(TlsOptions(key=me.key, certificate=me.certificate), "::1")
        self.assertEqual(
            await self.status(
                "tls://[::1]:PORT", verify_applications=True, application_ca=me.certificate
            ),
            200,
        )

    async def silent(self, uri: str, stranger: Stranger) -> None:
        """An application that never shows the secret: after 64 seconds nobody waits any more."""
        clocked = ClockedReactor()
        handler = RequestHandler(uri.replace("PORT", str(self.port)))
        config = ServerConfig(
            admin_port=None,
            contacts=("sip:127.0.0.1:0;transport=udp",),
            request_handlers=(handler,),
        )
        server = DrachtioServer(config, clocked)
        server.startService()
        phone = self.talker("sip:127.0.0.1:0;transport=udp", server)
        phone.ask("INVITE", "sip:a@127.0.0.1")
        await stranger.came
        applications: Any = server._applications
        while not applications.unsigned:
            await deferLater(reactor, 0)
        core: Any = server.core
        clocked.clock.advance(63)
        self.assertEqual(core.counts()["open_requests"], 1)
        self.assertFalse(stranger.gone.called)
        clocked.clock.advance(1)
        clocked.clock.advance(1)
        self.assertEqual(core.counts()["open_requests"], 0)
        await stranger.gone
        stopped = server.stopService()
        clocked.clock.advance(10)
        await stopped
        self.assertEqual(clocked.clock.getDelayedCalls(), [])

    async def test_never_authenticates(self) -> None:
        """The connection is closed, and the request forgotten."""
        await self.silent("tcp://127.0.0.1:PORT", self.stranger())

    async def test_handshake_never_ends(self) -> None:
        """So it is over TLS, when the other side says nothing at all."""
        await self.silent("tls://127.0.0.1:PORT", self.stranger())

    async def test_handshake_ends_but_nothing_follows(self) -> None:
        """And when it does say something, but not who it is."""
        await self.silent("tls://127.0.0.1:PORT", self.stranger(tls=True))

    async def test_black_hole(self) -> None:
        """An address that swallows everything: 480 while the request is still known."""
        self.assertLess(CONNECT_TIMEOUT, ServerConfig().answer_within)
        clocked = ClockedReactor()
        wanted: Deferred[None] = Deferred()

        def connect(host: str, port: int, factory: Any, timeout: float, **options: Any) -> Any:
            error = Failure(TimeoutError())
            clocked.callLater(timeout, factory.clientConnectionFailed, None, error)
            reactor.callLater(0, wanted.callback, None)
            return _Nowhere()

        clocked.connectTCP = connect  # type: ignore[attr-defined]
        config = ServerConfig(
            admin_port=None,
            contacts=("sip:127.0.0.1:0;transport=udp",),
            request_handlers=(RequestHandler("tcp://127.0.0.1:9"),),
        )
        server = DrachtioServer(config, clocked)
        server.startService()
        phone = self.talker("sip:127.0.0.1:0;transport=udp", server)
        asked = phone.ask("OPTIONS", "sip:a@127.0.0.1")
        await wanted
        core: Any = server.core
        clocked.clock.advance(CONNECT_TIMEOUT - 1)
        self.assertEqual(core.counts()["open_requests"], 1)
        clocked.clock.advance(2)
        self.assertEqual((await phone.response(asked)).status, 480)
        stopped = server.stopService()
        clocked.clock.advance(10)
        await stopped

    async def web(self, body: bytes, code: int = 200) -> int:
        """Give the status that a caller gets for an answer of a web application."""

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> bytes:
                request.setResponseCode(code)
                return body

        self.port = self.listen(Site(Page()))
        return await self.status("http://127.0.0.1:PORT")

    async def test_web_answers(self) -> None:
        """Whatever is no decision: 500. The status of HTTP does not count."""
        for body in (
            b"",
            b"no JSON",
            b"[]",
            b'{"action": "dance", "data": {}}',
            b'{"action": "route", "data": {}}',
            b'{"action": "route", "data": {"uri": 4000}}',
            b'{"action": "route", "data": {"uri": "127.0.0.1"}}',
            b'{"action": "reject", "data": {"status": "486"}}',
            b'{"action": "redirect", "data": {"contact": "://"}}',
            b'{"action": "redirect", "data": {"contact": [1]}}',
            b'{"action": "proxy", "data": {"destination": []}}',
            b'{"action": "proxy", "data": {"destination": "tel:1"}}',
            b'{"x": "' + b"x" * 20_000 + b'"}',
        ):
            self.assertEqual(await self.web(body), 500, body[:60])
        busy = b'{"action": "reject", "data": {"status": 486}}'
        self.assertEqual(await self.web(busy, 404), 486)
        self.assertEqual(await self.web(b'{"action": "route", "data": {"tag": "red"}}'), 480)

    async def test_web_refused(self) -> None:
        """A web application that is not there: 500."""
        port = reactor.listenTCP(0, Stranger(), interface="127.0.0.1")
        self.port = port.getHost().port
        await port.stopListening()
        self.assertEqual(await self.status("http://127.0.0.1:PORT"), 500)
        self.was_said("does not decide: no answer of http://127.0.0.1")

    async def test_web_is_no_web(self) -> None:
        """Something else listens there: 500."""
        self.stranger(says=b"220 mail.example ESMTP\r\n")
        self.assertEqual(await self.status("http://127.0.0.1:PORT"), 500)
        self.assertEqual(await self.status("https://127.0.0.1:PORT"), 500)

    async def test_stopped_meanwhile(self) -> None:
        """What a server that stops gives up is no failure of an application: nothing is said."""
        begun: Deferred[None] = Deferred()

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> int:
                request.notifyFinish().addErrback(lambda failure: None)
                reactor.callLater(0, begun.callback, None)
                return NOT_DONE_YET

        def connect(host: str, port: int, factory: Any, timeout: float, **options: Any) -> Any:
            reactor.callLater(0, begun.callback, None)
            return _Nowhere()

        for uri in ("tcp://127.0.0.1:9", f"http://127.0.0.1:{self.listen(Site(Page()))}"):
            begun = Deferred()
            clocked = ClockedReactor()
            if uri.startswith("tcp"):
                clocked.connectTCP = connect  # type: ignore[attr-defined]
            config = ServerConfig(
                admin_port=None,
                contacts=("sip:127.0.0.1:0;transport=udp",),
                request_handlers=(RequestHandler(uri),),
            )
            server = DrachtioServer(config, clocked)
            server.startService()
            phone = self.talker("sip:127.0.0.1:0;transport=udp", server)
            phone.ask("OPTIONS", "sip:a@127.0.0.1")
            await begun
            stopped = server.stopService()
            clocked.clock.advance(10)
            await stopped
            for words in ("no application at", "does not decide", "made us fail"):
                self.assertFalse([line for line in self.said if words in line], uri)

    async def test_web_silent(self) -> None:
        """A web application that says nothing: 500 after three seconds."""
        clocked = ClockedReactor()
        asked: Deferred[None] = Deferred()

        class Page(Resource):
            isLeaf = True

            def render_GET(self, request: Any) -> int:
                request.notifyFinish().addErrback(lambda failure: None)
                asked.callback(None)
                return NOT_DONE_YET

        port = self.listen(Site(Page()))
        config = ServerConfig(
            admin_port=None,
            contacts=("sip:127.0.0.1:0;transport=udp",),
            request_handlers=(RequestHandler(f"http://127.0.0.1:{port}"),),
        )
        server = DrachtioServer(config, clocked)
        server.startService()
        phone = self.talker("sip:127.0.0.1:0;transport=udp", server)
        request = phone.ask("OPTIONS", "sip:a@127.0.0.1")
        await asked
        clocked.clock.advance(2.9)
        core: Any = server.core
        self.assertEqual(core.counts()["open_requests"], 1)
        clocked.clock.advance(0.2)
        self.assertEqual((await phone.response(request)).status, 500)
        stopped = server.stopService()
        clocked.clock.advance(10)
        await stopped


class _Nowhere:
    """A connection that never comes up."""

    def stopConnecting(self) -> None:
        """Give up."""

    def disconnect(self) -> None:
        """Give up."""


class CancelTests(SynchronousTestCase):
    """A CANCEL at every moment before an application has the request (protocol.md 7.6)."""

    def setUp(self) -> None:
        """A server that asks a web application about INVITEs."""
        self.bench = Bench(request_handlers=(RequestHandler("http://127.0.0.1:4000"),))

    def invite(self) -> None:
        """Let a call come."""
        self.bench.receive(request("INVITE"))
        self.assertEqual(self.bench.heads(), ["100 INVITE"])

    def cancel(self) -> None:
        """Let the caller give up: he is answered at once."""
        self.bench.receive(request("CANCEL"))
        self.assertEqual(self.bench.heads(), ["200 CANCEL", "487 INVITE"])
        self.bench.receive(request("ACK", branch="INVITE-1"))

    def decide(self, text: str) -> None:
        """Let the web application decide."""
        [incoming] = self.bench.asked
        self.bench.core.decided(incoming, parse_decision(text.encode()))

    def told(self) -> None:
        """Check that the application that comes is told of the call and its end, and may answer."""
        link = self.bench.dial()
        ok, invite, cancel = link.command("authenticate|cymru|")
        self.assertIn("|OK|", ok)
        self.assertIn("\r\nINVITE ", invite)
        self.assertIn("\r\nCANCEL ", cancel)
        self.assertEqual(invite.split("|")[8], cancel.split("|")[8])
        [answer] = link.answer(invite.split("|")[8], "SIP/2.0 200 OK")
        self.assertIn("|NOK|Response not sent due to unknown transaction", answer)
        self.assertEqual(self.bench.heads(), [])

    def test_during_the_query(self) -> None:
        """While the web application thinks."""
        self.invite()
        self.cancel()
        self.decide('{"action": "route", "data": {"uri": "127.0.0.1:3001"}}')
        self.told()

    def test_while_connecting(self) -> None:
        """While the application is being connected to."""
        self.invite()
        self.decide('{"action": "route", "data": {"uri": "127.0.0.1:3001"}}')
        self.cancel()
        self.told()

    def test_during_authentication(self) -> None:
        """While the application has not shown the secret."""
        self.invite()
        self.decide('{"action": "route", "data": {"uri": "127.0.0.1:3001"}}')
        link = self.bench.dial()
        self.cancel()
        _, invite, cancel = link.command("authenticate|cymru|")
        self.assertTrue("\r\nINVITE " in invite and "\r\nCANCEL " in cancel)

    def test_then_nobody(self) -> None:
        """When no application comes then, the caller is not answered again."""
        self.invite()
        self.decide('{"action": "route", "data": {"uri": "127.0.0.1:3001"}}')
        self.cancel()
        _, incoming = self.bench.wanted.pop()
        self.bench.core.unreachable(incoming)
        self.assertEqual(self.bench.heads(), [])

    def test_lost_during_authentication(self) -> None:
        """Nor when the application is lost before it shows the secret; else he gets 480."""
        for cancelled in (True, False):
            self.setUp()
            self.invite()
            self.decide('{"action": "route", "data": {"uri": "127.0.0.1:3001"}}')
            link = self.bench.dial()
            if cancelled:
                self.cancel()
            link.close()
            self.assertEqual(self.bench.heads(), [] if cancelled else ["480 INVITE"])

    def test_other_decisions(self) -> None:
        """Refusals, redirections and targets come too late."""
        for text in (
            '{"action": "reject", "data": {"status": 404}}',
            '{"action": "redirect", "data": {"contact": "sip:a@127.0.0.9"}}',
            '{"action": "proxy", "data": {"destination": "sip:a@127.0.0.9"}}',
            '{"action": "route", "data": {"tag": "red"}}',
        ):
            self.setUp()
            self.invite()
            self.cancel()
            self.decide(text)
            self.bench.clock.advance(1)
            self.assertEqual(
                [head for head in self.bench.heads() if not re.match("487|200", head)], []
            )

    def test_by_tag(self) -> None:
        """A call that is routed to a connected application by its tag is told with its CANCEL."""
        link = self.bench.link()
        link.command("authenticate|cymru|red")
        link.command("route|invite")
        self.invite()
        self.cancel()
        self.decide('{"action": "route", "data": {"tag": "red"}}')
        invite, cancel = link.take()
        self.assertTrue("\r\nINVITE " in invite and "\r\nCANCEL " in cancel)

    def test_forgotten(self) -> None:
        """After 64 seconds without an application the caller gets 480; one that comes, nothing."""
        self.invite()
        self.decide('{"action": "route", "data": {"uri": "127.0.0.1:3001"}}')
        link = self.bench.dial()
        self.bench.clock.advance(63.9)
        self.assertEqual(self.bench.core.counts()["open_requests"], 1)
        self.bench.clock.advance(0.2)
        self.assertEqual(self.bench.core.counts()["open_requests"], 0)
        self.assertEqual(self.bench.heads(), ["480 INVITE"])
        [ok] = link.command("authenticate|cymru|")
        self.assertIn("|OK|", ok)


del _Case
