"""Tests of asking a web application, over real HTTP."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import protocol
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.util import Redirect

from drachtwist.errors import RemoteProtocolError
from drachtwist.net.tls import Credentials, TlsOptions
from drachtwist.server.asking import TIMEOUT, WebAsker
from drachtwist.wire.decisions import Decision, Reject, RoutingQuery
from tests.certificates import identity
from tests.server.phones import has_ipv6

reactor: Any = installed_reactor
BUSY = b'{"action": "reject", "data": {"status": 486}}'


class Page(Resource):
    """Answers everything by a function."""

    isLeaf = True

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        super().__init__()
        self._answer = answer

    def render(self, request: Request) -> Any:
        """Answer any method."""
        return self._answer(request)


def saying(body: bytes, request: Request) -> bytes:
    """Answer with a text, whatever is asked."""
    return body


class TimedReactor:
    """The real reactor, but the test says how late it is."""

    def __init__(self) -> None:
        self.clock = Clock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.clock if name in ("callLater", "seconds") else reactor, name)


class Closer(protocol.Factory):
    """A web server that closes each connection early.

    :param after: how many requests it answers on each.
    :param length: what it says that its answers have.
    :param leave: close the connection behind the answer.
    """

    noisy = False

    def __init__(
        self, after: int, length: int = len(BUSY), body: bytes = BUSY, *, leave: bool = False
    ) -> None:
        self.after = after
        self.reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (length, body)
        self.leave = leave
        self.connections = 0
        self.answered: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> protocol.Protocol:
        """Take a connection."""
        self.connections += 1
        return _Closing(self)


class _Closing(protocol.Protocol):
    def __init__(self, closer: Closer) -> None:
        self.closer = closer
        self.count = 0

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        if b"\r\n\r\n" not in data:
            return
        self.count += 1
        if self.count > self.closer.after:
            transport.loseConnection()
            return
        transport.write(self.closer.reply)
        if self.closer.leave:
            transport.loseConnection()
        if not self.closer.answered.called:
            self.closer.answered.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        if not self.closer.gone.called:
            self.closer.gone.callback(None)


class Flood(protocol.Factory):
    """A web server that answers without an end.

    :param start: what the answer begins with.
    :param more: what it goes on with, again and again, until the connection is gone.
    """

    noisy = False

    def __init__(self, start: bytes, more: bytes) -> None:
        self.start = start
        self.more = more
        self.gone: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> protocol.Protocol:
        """Take a connection."""
        return _Flooding(self)


class _Flooding(protocol.Protocol):
    def __init__(self, flood: Flood) -> None:
        self.flood = flood

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        if b"\r\n\r\n" in data:
            transport.write(self.flood.start)
            transport.registerProducer(self, streaming=False)

    def resumeProducing(self) -> None:
        transport: Any = self.transport
        transport.write(self.flood.more * (1 + 16_384 // len(self.flood.more)))

    def stopProducing(self) -> None:
        """Go on until the connection is gone."""

    def connectionLost(self, reason: Any = None) -> None:
        self.flood.gone.callback(None)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


class WebAskerTests(TestCase):
    timeout = 20

    async def serve(self, root: Resource) -> str:
        """Run a web server; give its URL."""
        port = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}"

    async def ask(
        self, url: str, message: bytes = b"", clock: Any = reactor, **options: Any
    ) -> Decision:
        """Ask about an INVITE."""
        asker = WebAsker(clock, url, **options)
        try:
            return await asker.ask(RoutingQuery("INVITE", uri="sip:bob@a"), message)
        finally:
            await asker.close()

    async def test_get(self) -> None:
        """The question is the query; path and keys are those of a real server."""
        seen: list[Any] = []

        def answer(request: Request) -> bytes:
            seen.append((request.method, request.uri, request.getHeader("accept")))
            return BUSY

        url = await self.serve(Page(answer))
        self.assertEqual(await self.ask(f"{url}/inv"), Reject(486))
        [(method, uri, accept)] = seen
        self.assertEqual((method, accept), (b"GET", "application/json"))
        self.assertTrue(uri.startswith(b"/inv/?method=INVITE&domain=&"), uri)
        self.assertTrue(uri.endswith(b"&uri=sip%3abob%40a"), uri)

    async def test_post(self) -> None:
        """A POST carries the SIP message, as text."""
        seen: list[Any] = []

        def answer(request: Request) -> bytes:
            assert request.content is not None
            seen.append((request.getHeader("content-type"), request.content.read()))
            return BUSY

        url = await self.serve(Page(answer))
        await self.ask(url, b"INVITE sip:bob@a SIP/2.0\r\n\r\n", post=True)
        self.assertEqual(seen, [("text/plain; charset=UTF-8", b"INVITE sip:bob@a SIP/2.0\r\n\r\n")])

    async def test_status_is_ignored(self) -> None:
        """A 404 with a decision is a decision, as for a real server."""

        def answer(request: Request) -> bytes:
            request.setResponseCode(404)
            return BUSY

        self.assertEqual(await self.ask(await self.serve(Page(answer))), Reject(486))

    async def test_redirects_are_followed(self) -> None:
        """A redirect leads to the answer."""
        root = Resource()
        root.putChild(b"new", Page(lambda request: BUSY))
        old = Redirect(b"/new")
        old.isLeaf = True
        root.putChild(b"old", old)
        self.assertEqual(await self.ask(await self.serve(root) + "/old"), Reject(486))

    async def test_redirected_post(self) -> None:
        """A POST that is redirected goes on as a GET, as a browser and a real server do."""
        seen: list[bytes] = []

        def answer(request: Request) -> bytes:
            seen.append(request.method)
            return BUSY

        root = Resource()
        root.putChild(b"new", Page(answer))
        old = Redirect(b"/new")
        old.isLeaf = True
        root.putChild(b"old", old)
        url = await self.serve(root)
        self.assertEqual(await self.ask(f"{url}/old", b"INVITE", post=True), Reject(486))
        self.assertEqual(seen, [b"GET"])

    async def test_redirected_out_of_tls(self) -> None:
        """What was asked over TLS is never asked in the clear, whatever a redirect says."""
        me = identity()
        seen: list[Request] = []

        def answer(request: Request) -> bytes:
            seen.append(request)
            return BUSY

        plain = await self.serve(Page(answer))
        away = Redirect(f"{plain}/".encode())
        away.isLeaf = True
        context = TlsOptions(key=me.key, certificate=me.certificate).server_context()
        port = reactor.listenSSL(0, Site(away), context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        credentials = Credentials(TlsOptions(ca=me.certificate))
        with self.assertRaisesRegex(RemoteProtocolError, "redirects from https to"):
            await self.ask(f"https://127.0.0.1:{port.getHost().port}", credentials=credentials)
        self.assertEqual(seen, [])

    async def test_redirected_for_ever(self) -> None:
        """Redirects that lead nowhere are an error."""
        old = Redirect(b"/")
        old.isLeaf = True
        with self.assertRaises(RemoteProtocolError):
            await self.ask(await self.serve(old))

    async def test_login(self) -> None:
        """User and password of the URL are shown as a web browser does, and never written down."""
        seen: list[Any] = []

        def answer(request: Request) -> bytes:
            seen.append((request.getUser(), request.getPassword(), request.uri))
            return BUSY

        url = (await self.serve(Page(answer))).replace("//", "//us%3aer:ses%40me@")
        self.assertEqual(await self.ask(f"{url}/inv"), Reject(486))
        [(user, password, uri)] = seen
        self.assertEqual((user, password), (b"us", b"er:ses@me"))
        self.assertTrue(uri.startswith(b"/inv/?method="))
        self.assertNotIn("ses", repr(WebAsker(reactor, url)))

    async def test_ipv6(self) -> None:
        """The web application may be at an IPv6 address."""
        if not has_ipv6():
            self.skipTest("no IPv6 here")
        site = Site(Page(partial(saying, BUSY)))
        port = reactor.listenTCP(0, site, interface="::1")
        self.addCleanup(port.stopListening)
        self.assertEqual(await self.ask(f"http://[::1]:{port.getHost().port}"), Reject(486))

    async def test_closed_without_an_answer(self) -> None:
        """Who closes without an answer does not decide."""
        for post in (False, True):
            closer = Closer(after=0)
            with self.assertRaises(RemoteProtocolError):
                await self.ask(self.raw(closer), post=post)

    async def test_kept_connection_that_was_closed(self) -> None:
        """A kept connection that the other side closed meanwhile makes no difference."""
        for post in (False, True):
            closer = Closer(after=1)
            asker = WebAsker(reactor, self.raw(closer), post=post)
            for _ in range(3):
                decision = await asker.ask(RoutingQuery("INVITE"), b"INVITE")
                self.assertEqual(decision, Reject(486))
            await asker.close()
            self.assertEqual(closer.connections, 3)

    async def test_half_an_answer(self) -> None:
        """An answer that breaks off is none."""
        closer = Closer(after=1, length=len(BUSY) + 1, leave=True)
        with self.assertRaises(RemoteProtocolError):
            await self.ask(self.raw(closer))

    async def test_endless_answer(self) -> None:
        """What is longer than an answer may be is not read to its end."""
        closer = Closer(after=1, length=1 << 30, body=b"x" * 20_000)
        with self.assertRaises(RemoteProtocolError) as caught:
            await self.ask(self.raw(closer))
        self.assertIn("over 16384", str(caught.exception))
        await closer.gone

    async def test_endless(self) -> None:
        """Whatever comes without an end is not waited for: not even the three seconds."""
        for what, start, more in (
            ("responses", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            ("responses", b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
            ("bytes", OK, b"X-More: and more\r\n"),
            ("bytes", OK + b"X-More: 1\r\n", b" folded\r\n"),
            ("bytes", CHUNKED, b"1;x=" + b"y" * 500 + b"\r\nz\r\n"),
            ("over 16384", CHUNKED, b"1\r\nx\r\n"),
            ("over 16384", OK + b"\r\n", b"x"),
            ("bytes|TRAILER", CHUNKED + b"1\r\nx\r\n0\r\n", b"X-More: and more\r\n"),
            ("", b"", b"nonsense"),
            ("", b"", b"\r\n"),
            ("", OK, b"x"),
            ("", CHUNKED, b"0"),
        ):
            flood = Flood(start, more)
            timed = TimedReactor()  # whose time stands still
            with self.assertRaisesRegex(RemoteProtocolError, what) as caught:
                await self.ask(self.raw(flood), clock=timed)
            self.assertLess(len(str(caught.exception)), 300)
            await flood.gone

    async def test_interim_responses(self) -> None:
        """A few of them are passed over, also when they come byte by byte."""
        closer = Closer(after=1)
        closer.reply = b"HTTP/1.1 100 Continue\r\n\r\n" * 10 + closer.reply
        self.assertEqual(await self.ask(self.raw(closer)), Reject(486))

    async def test_endless_on_a_kept_connection(self) -> None:
        """What a connection brought before counts for nothing."""
        closer = Closer(after=100, length=10_000, body=BUSY + b" " * (10_000 - len(BUSY)))
        asker = WebAsker(reactor, self.raw(closer))
        for _ in range(50):
            self.assertEqual(await asker.ask(RoutingQuery("INVITE")), Reject(486))
        await asker.close()
        self.assertEqual(closer.connections, 1)

    async def test_slow_head(self) -> None:
        """The three seconds are for the head, too, however slowly it comes."""
        for start in (b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"X-More: 1\r\n"):
            timed = TimedReactor()
            closer = Closer(after=1)
            closer.reply = start
            closer.answered.addCallback(partial(self.let_pass, timed.clock))
            with self.assertRaisesRegex(RemoteProtocolError, "too slow"):
                await self.ask(self.raw(closer), clock=timed)
            await closer.gone

    def let_pass(self, clock: Clock, _: None) -> None:
        """Let the time for an answer pass, once what came was looked at."""
        reactor.callLater(0, clock.advance, TIMEOUT)

    async def test_slow_body(self) -> None:
        """The three seconds are for the whole answer; then the connection is closed."""
        timed = TimedReactor()
        closer = Closer(after=1, length=100)
        closer.answered.addCallback(lambda _: reactor.callLater(0, timed.clock.advance, TIMEOUT))
        with self.assertRaises(RemoteProtocolError):
            await self.ask(self.raw(closer), clock=timed)
        await closer.gone

    async def test_certificates(self) -> None:
        """A certificate has to be signed by somebody who is trusted, for the host that is asked."""
        me = identity()
        context = TlsOptions(key=me.key, certificate=me.certificate).server_context()
        site = Site(Page(partial(saying, BUSY)))
        port = reactor.listenSSL(0, site, context, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"https://127.0.0.1:{port.getHost().port}"
        trusting = Credentials(TlsOptions(ca=me.certificate))
        self.assertEqual(await self.ask(url, credentials=trusting), Reject(486))
        for wrong in (None, Credentials(TlsOptions(ca=identity("other.example").certificate))):
            with self.assertRaises(RemoteProtocolError) as caught:
                await self.ask(url, credentials=wrong)
            self.assertIn("certificate", str(caught.exception))

    def raw(self, closer: protocol.Factory) -> str:
        """Run a server that closes connections; give its URL."""
        port = reactor.listenTCP(0, closer, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return f"http://127.0.0.1:{port.getHost().port}"

    async def test_no_decision(self) -> None:
        """Nonsense, too much, silence and a closed port are errors of one kind."""
        for body in (b"", b"hello", b"{}", b"x" * 20_000):
            url = await self.serve(Page(partial(saying, body)))
            with self.assertRaises(RemoteProtocolError):
                await self.ask(url)
        port = reactor.listenTCP(0, Site(Resource()), interface="127.0.0.1")
        number = port.getHost().port
        await port.stopListening()
        with self.assertRaises(RemoteProtocolError) as caught:
            await self.ask(f"http://127.0.0.1:{number}")
        self.assertIn(str(number), str(caught.exception))

    async def test_too_slow(self) -> None:
        """After three seconds there is no decision."""
        timed = TimedReactor()

        def answer(request: Request) -> int:
            reactor.callLater(0, timed.clock.advance, TIMEOUT)
            request.notifyFinish().addErrback(lambda failure: None)
            return NOT_DONE_YET

        url = await self.serve(Page(answer))
        with self.assertRaises(RemoteProtocolError):
            await self.ask(url, clock=timed)

    async def test_connections_are_kept(self) -> None:
        """Two questions one after the other share a connection."""
        peers = []

        def answer(request: Request) -> bytes:
            peers.append(request.getClientAddress())
            return BUSY

        asker = WebAsker(reactor, await self.serve(Page(answer)))
        for _ in range(2):
            await asker.ask(RoutingQuery("INVITE"))
        await asker.close()
        self.assertEqual(peers[0], peers[1])

    def test_other_schemes(self) -> None:
        """Only http and https URLs can be asked."""
        self.assertRaises(ValueError, WebAsker, reactor, "ftp://127.0.0.1/")
