"""Applications in a loop that is somebody else's, and plain tasks of asyncio."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from drachtwist import (
    ConnectionFailed,
    Request,
    Response,
    SipError,
    Srf,
    StartFailed,
    aio,
)
from drachtwist.net import tasks
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from tests.aio.cases import AsyncioTestCase
from tests.app.doubles import OFFER
from tests.whole import TARGET


class PlainTaskTests(AsyncioTestCase):
    def plain(self, coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
        """Run a coroutine as a task that knows nothing of Deferreds."""
        return Deferred.fromFuture(asyncio.ensure_future(coroutine))

    async def test_ours(self) -> None:
        """What the package hands out is awaited as it is."""

        async def ask() -> None:
            self.seen.append((await self.srf.request(TARGET, method="OPTIONS")).status)
            try:
                await self.srf.create_uac(TARGET, local_sdp=OFFER)
            except SipError as error:
                self.seen.append(error.status)

        asking = self.plain(ask())
        await self.turn()
        self.whole.respond(self.asked("OPTIONS"), 200)
        await self.turn()
        self.whole.respond(self.asked("INVITE"), 603)
        await asking
        self.assertEqual(self.seen, [200, 603])

    async def test_wait(self) -> None:
        """Other Deferreds, and coroutines that await them, are waited for by name."""

        async def both() -> str:
            await asyncio.sleep(0)
            return await deferLater(reactor, 0, lambda: "coroutine")

        async def ask() -> None:
            self.seen.append(await aio.wait(deferLater(reactor, 0, lambda: "deferred")))
            self.seen.append(await aio.wait(both()))

        await self.plain(ask())
        self.assertEqual(self.seen, ["deferred", "coroutine"])

    async def test_wait_goes_on_at_once(self) -> None:
        """A coroutine that is waited for goes on in the same breath as a Deferred."""
        waiting: Deferred[None] = Deferred()

        async def slow() -> None:
            await waiting
            self.seen.append("went on")

        async def ask() -> None:
            await aio.wait(slow())

        asking = self.plain(ask())
        await self.turn()
        waiting.callback(None)
        self.assertEqual(self.seen, ["went on"])
        await asking

    async def test_cancelling(self) -> None:
        """Who is cancelled cancels what it waits for."""
        gone: list[str] = []
        waiting: Deferred[None] = Deferred(lambda _: gone.append("deferred"))

        async def slow() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                gone.append("coroutine")

        found = [
            asyncio.ensure_future(self._await(one)) for one in (aio.wait(waiting), aio.wait(slow()))
        ]
        await self.turn()
        for one in found:
            one.cancel()
        await self.turn()
        self.assertEqual(gone, ["deferred", "coroutine"])
        self.assertTrue(all(one.cancelled() for one in found))

    async def _await(self, future: asyncio.Future[None]) -> None:
        await future

    async def test_failing(self) -> None:
        """Failures are raised."""

        async def fails() -> None:
            raise KeyError("x")

        await self.assertFailure(self.plain(self._await(aio.wait(fails()))), KeyError)

    async def test_coroutines_of_twisted(self) -> None:
        """A coroutine that Twisted runs may go on in the step of a plain task, and await there."""
        waiting: Deferred[None] = Deferred()

        async def twisted() -> None:
            await waiting
            self.seen.append((await self.srf.request(TARGET, method="OPTIONS")).status)

        async def ask() -> None:
            waiting.callback(None)
            await asyncio.sleep(0)

        running = Deferred.fromCoroutine(twisted())
        await self.plain(ask())
        self.whole.respond(self.asked("OPTIONS"), 200)
        await running
        self.assertEqual(self.seen, [200])

    async def test_stopping(self) -> None:
        """An application can be stopped from there."""

        async def stop() -> None:
            await self.srf.stop()

        stopping = self.plain(stop())
        await self.turn()
        self.whole.pass_time(20)
        await stopping


class ServingTests(AsyncioTestCase):
    async def server(self) -> str:
        """Start a server; give the endpoint for applications."""
        config = ServerConfig(admin_port=0, contacts=("sip:127.0.0.1:0;transport=udp",))
        server = DrachtioServer(config, reactor)
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        return f"tcp:127.0.0.1:{server.admin_port}"

    def application(self) -> Srf:
        """Make an application that notes when it begins and ends."""
        srf = Srf()
        srf.on_start(lambda: self.seen.append("start"))
        srf.on_stop(lambda: self.seen.append("stop"))
        srf.options(lambda req, res: res.send(200))
        return srf

    async def test_serving(self) -> None:
        """The application lives as long as the block."""
        endpoint, srf = await self.server(), self.application()

        async def main() -> None:
            async with aio.serving(srf, endpoint, secret="cymru") as same:
                self.assertIs(same, srf)
                self.seen.append("block")
                [connection] = srf._connections.endpoints.made
                await connection.when_ready()
                self.seen.append(len(srf.links))

        for _ in range(2):
            await aio_deferred(main())
            self.assertEqual(self.seen, ["start", "block", 1, "stop"])
            self.assertEqual(srf.links, [])
            self.seen.clear()

    async def test_in_a_plain_task(self) -> None:
        """The same in a task of asyncio's, which is cancelled."""
        endpoint, srf = await self.server(), self.application()

        async def main() -> None:
            async with aio.serving(srf, endpoint, secret="cymru"):
                await asyncio.Event().wait()

        task = asyncio.ensure_future(main())
        await self.until(lambda: srf.links)
        task.cancel()
        await self.until(task.done)
        self.assertEqual(self.seen, ["start", "stop"])
        self.assertEqual(srf.links, [])

    async def test_no_start(self) -> None:
        """What cannot start, and a port that cannot be opened, end it."""
        srf = self.application()

        @srf.on_start
        async def bad() -> None:
            await asyncio.sleep(0)
            raise KeyError("x")

        async def main(*endpoints: str) -> None:
            async with aio.serving(srf, *endpoints, secret="cymru"):
                self.seen.append("block")

        await self.assertFailure(aio_deferred(main("tcp:127.0.0.1:9")), StartFailed)
        srf = self.application()
        await self.assertFailure(
            aio_deferred(main("tcp:9023:interface=192.0.2.1")), ConnectionFailed
        )
        self.assertEqual(self.seen, ["start", "start", "stop"])
        self.flushLoggedErrors()

    async def test_handlers_end(self) -> None:
        """Handlers that still run at the end are cancelled."""

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                self.seen.append("cancelled")

        async def main() -> None:
            async with aio.reactor_running():
                self.ask()
                await asyncio.sleep(0)

        task = asyncio.ensure_future(main())
        await self.until(task.done)
        self.assertEqual(self.seen, ["cancelled"])
        self.assertEqual(tasks._tasks, set())

    async def test_blocks(self) -> None:
        """Blocks may lie in each other."""

        async def main() -> None:
            async with aio.reactor_running() as running:
                self.assertIs(running, reactor)
                async with aio.reactor_running():
                    pass
                self.assertTrue(running.running)

        await aio_deferred(main())

    def test_logging(self) -> None:
        """What Twisted logs has its name, its level and its traceback in Python's logging."""
        found: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.emit = found.append  # type: ignore[assignment, method-assign]
        logger = logging.getLogger("drachtwist.x")
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        event = {
            "log_namespace": "drachtwist.x",
            "log_level": LogLevel.warn,
            "log_format": "{a} %s",
            "a": 1,
        }
        aio._log(event)
        aio._log({**event, "log_level": LogLevel.info})
        aio._log({**event, "log_level": LogLevel.critical, "log_failure": Failure(KeyError("k"))})
        self.assertEqual([one.levelname for one in found], ["WARNING", "CRITICAL"])
        self.assertEqual(found[0].getMessage(), "1 %s")
        self.assertEqual(found[1].exc_info and found[1].exc_info[0], KeyError)


def aio_deferred(coroutine: Coroutine[Any, Any, None]) -> Deferred[None]:
    """Run a plain task; give what it comes to."""
    return Deferred.fromFuture(asyncio.ensure_future(coroutine))
