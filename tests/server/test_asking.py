"""Tests of asking a web application, over real HTTP."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet import reactor as installed_reactor
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.util import Redirect

from drachtwist.errors import RemoteProtocolError
from drachtwist.server.asking import TIMEOUT, WebAsker
from drachtwist.wire.decisions import Decision, Reject, RoutingQuery

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
