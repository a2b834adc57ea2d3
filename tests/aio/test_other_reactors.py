"""What is said to those who await asyncio under a reactor that is not asyncio's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiosqlite
import httpx
from twisted.internet import reactor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from twisted.web.test.requesthelper import DummyRequest

from drachtwist import Request, Response, aio
from drachtwist.middleware.webhook import RoutingResource
from tests.app.doubles import OFFER
from tests.server.doubles import request
from tests.whole import TARGET, Whole

FLAG = "twistd --reactor=asyncio"


async def sleep() -> None:
    """Wait as asyncio does."""
    await asyncio.sleep(0.01)


async def yield_once() -> None:
    """Let others run."""
    await asyncio.sleep(0)


async def fetch() -> None:
    """Ask a web server."""
    async with httpx.AsyncClient() as client:
        await client.get("http://127.0.0.1:9/")


async def query() -> None:
    """Ask a database."""
    async with aiosqlite.connect(":memory:"):
        pass


async def wait() -> None:
    """Wait for a future."""
    loop = asyncio.new_event_loop()
    try:
        await loop.create_future()
    finally:
        loop.close()


class OtherReactorTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application to a server."""
        if isinstance(reactor, AsyncioSelectorReactor):
            raise SkipTest("for the other reactors")
        # Some libraries ask for a loop where none runs, and Python makes one that nobody closes.
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        self.addCleanup(loop.close)
        self.addCleanup(asyncio.set_event_loop, None)
        self.whole = Whole()
        self.srf = self.whole.srf

    def said(self) -> str:
        """Give the text of the one failure that was logged."""
        [failure] = self.flushLoggedErrors()
        return str(failure.value)

    def test_handlers(self) -> None:
        """A handler that awaits asyncio is answered 500, and the log names the flag."""
        what: list[Callable[[], Any]] = [sleep, yield_once, fetch, query, wait]

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            await what[-1]()

        self.whole.pump()
        while what:
            self.whole.receive(request("OPTIONS", call=f"c{len(what)}"))
            self.assertEqual(self.whole.heads(), ["500 OPTIONS"])
            self.assertIn(FLAG, self.said(), what[-1])
            what.pop()

    def test_plain_handlers(self) -> None:
        """A plain function that wants a task is told the same."""

        @self.srf.options
        def handler(req: Request, res: Response) -> None:
            waiting = sleep()
            try:
                asyncio.get_running_loop().create_task(waiting)
            finally:
                waiting.close()

        self.whole.pump()
        self.whole.receive(request("OPTIONS"))
        self.assertIn(FLAG, self.said())

    def test_descriptions(self) -> None:
        """What makes a session description fails with it too."""

        async def offer() -> str:
            await wait()
            return OFFER

        failure = self.failureResultOf(self.srf.create_uac(TARGET, local_sdp=offer))
        self.assertIn(FLAG, failure.getErrorMessage())

    def test_questions_of_servers(self) -> None:
        """What answers the questions of servers is told in the log."""

        async def decide(query: Any) -> Any:
            await sleep()

        asked: Any = DummyRequest([b""])
        asked.uri = b"/?method=INVITE"
        RoutingResource(decide).render(asked)
        self.assertEqual(asked.responseCode, 500)
        self.assertIn(FLAG, self.said())

    def test_in_a_loop_of_its_own(self) -> None:
        """A loop that Twisted does not use is no good for it, and that is said."""

        async def main() -> None:
            async with aio.serving(self.srf):
                pass

        error = self.assertRaises(RuntimeError, asyncio.run, main())
        self.assertIn("Twisted uses", str(error))
        self.assertIn("drachtwist.aio.install()", str(error))
