"""Packages that are built on asyncio, together with calls, in one handler."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Any, cast

import aiosqlite
import httpx
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from zope.interface import implementer

from drachtwist import Request, Response, SipError
from drachtwist.middleware import (
    Binding,
    DigestAuth,
    ILocationStore,
    MemoryLocationStore,
    Registrar,
)
from drachtwist.net import tasks
from drachtwist.sip import digest
from tests.aio.cases import AsyncioTestCase, TaskGroup, need_new_asyncio, timeout
from tests.app.doubles import ANSWER, OFFER
from tests.whole import TARGET


class Rights(Resource):
    """Says who may call; about some it never says anything."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.came: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def render_GET(self, request: Any) -> Any:
        """Answer."""
        if request.path == b"/slow":
            request.notifyFinish().addErrback(lambda _: self.gone.callback(None))
            self.came.callback(None)
            return NOT_DONE_YET
        return b'{"allowed": true}'


class PackagesTests(AsyncioTestCase):
    def setUp(self) -> Any:
        """Serve a page, and keep a database."""
        begun = super().setUp()
        self.rights = Rights()
        site = Site(self.rights)
        port = cast(Any, reactor).listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}"
        self.database = self.mktemp()
        return begun

    async def test_everything_in_one_handler(self) -> None:
        """A call is let through when a web server and a database say so, in time."""
        need_new_asyncio()

        @self.srf.invite
        async def handler(req: Request, res: Response) -> None:
            async with (
                timeout(10),
                httpx.AsyncClient() as client,
                aiosqlite.connect(self.database) as db,
            ):
                await db.execute("create table calls (caller text, status int)")
                answer, asked, slept = await asyncio.gather(
                    client.get(f"{self.url}/alice"),
                    self.srf.request(TARGET, method="OPTIONS"),
                    self.later(),
                )
                self.seen += [answer.json(), asked.status, slept]
                async with TaskGroup() as group:
                    calling = group.create_task(self.call())
                    group.create_task(asyncio.sleep(0))
                uac = calling.result()
                await db.execute("insert into calls values (?, ?)", (req.calling_number, 200))
                await db.commit()
                uas = await self.srf.create_uas(req, res, local_sdp=uac.remote.sdp)
                rows = await db.execute_fetchall("select * from calls")
                self.seen.append([tuple(row) for row in rows])
                await uas.when_ended()
                await uac.destroy()
                self.seen.append("over")

        self.ask("INVITE", body=OFFER, extra="Content-Type: application/sdp")
        self.whole.respond(await self.next_asked("OPTIONS"), 202)
        self.whole.respond(await self.next_asked("INVITE"), 200, body=ANSWER)
        await self.until(lambda: len(self.seen) == 4)
        ok = next(one for one in self.whole.sent() if one.get("CSeq") == "1 INVITE")
        tag = (ok.get("To") or "").partition("tag=")[2]
        self.ask("ACK", to_tag=tag)
        self.ask("BYE", to_tag=tag, number=2)
        self.whole.respond(await self.next_asked("BYE"), 200)
        await self.until(lambda: len(self.seen) == 5)
        expected = [{"allowed": True}, 202, "slept", [("alice", 200)], "over"]
        self.assertEqual(self.seen, expected)
        await self.until(lambda: not tasks._tasks)

    def later(self) -> asyncio.Future[str]:
        """Wait as Twisted does, where asyncio waits."""
        return tasks.as_future(deferLater(reactor, 0, lambda: "slept"))

    async def call(self) -> Any:
        """Call somebody, in a task that knows nothing of Deferreds."""
        return await self.srf.create_uac(TARGET, local_sdp=OFFER)

    async def next_sent(self) -> Any:
        """Take what a phone is sent next."""
        found: list[Any] = []

        def came() -> bool:
            found.extend(self.whole.sent())
            return bool(found)

        await self.until(came)
        return found[0]

    async def next_asked(self, method: str) -> Any:
        """Take the next request of a method that a phone is sent."""
        found: list[Any] = []

        def came() -> bool:
            found.extend(one for one in self.whole.sent() if getattr(one, "method", "") == method)
            return bool(found)

        await self.until(came)
        return found[0]

    async def test_a_slow_web_server(self) -> None:
        """A request that takes too long is broken off, and the call goes on."""
        need_new_asyncio()

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            try:
                async with httpx.AsyncClient() as client, timeout(None) as limit:
                    loop = asyncio.get_running_loop()
                    self.rights.came.addCallback(lambda _: limit.reschedule(loop.time()))
                    await client.get(f"{self.url}/slow")
            except TimeoutError:
                self.seen.append("late")
            res.send(200)

        self.ask()
        await self.until(lambda: self.seen)
        await self.rights.gone
        self.assertIn("200 OPTIONS", self.whole.heads())

    async def test_timeouts_of_their_own(self) -> None:
        """What a library raises, about its own timeouts too, comes to the handler."""

        @self.srf.options
        async def handler(req: Request, res: Response) -> None:
            try:
                async with httpx.AsyncClient(timeout=httpx.Timeout(None, read=0.05)) as client:
                    await client.get(f"{self.url}/slow")
            except httpx.ReadTimeout:
                raise SipError(408) from None

        self.ask()
        await self.rights.gone
        await self.turn()
        self.flushLoggedErrors(SipError)
        self.assertEqual(self.whole.heads(), ["408 OPTIONS"])

    async def test_stores(self) -> None:
        """Passwords and registrations may be kept in a database."""
        with sqlite3.connect(self.database) as db:
            db.execute("create table users (name text, password text)")
            db.execute("insert into users values ('app', 'secret')")
            db.execute("create table bindings (aor text, contact text)")

        async def password(user: str, realm: str) -> Any:
            async with aiosqlite.connect(self.database) as db:
                cursor = await db.execute("select password from users where name = ?", (user,))
                row = await cursor.fetchone()
                return row and row[0]

        @implementer(ILocationStore)
        class Store(MemoryLocationStore):
            async def save(self, aor: str, bindings: Sequence[Binding]) -> None:  # type: ignore[override]
                MemoryLocationStore.save(self, aor, bindings)
                async with aiosqlite.connect(database) as db:
                    for one in bindings:
                        await db.execute("insert into bindings values (?, ?)", (aor, one.uri))
                    await db.commit()

        database = self.database
        self.srf.use("register", DigestAuth("r", password), Registrar(Store()))
        self.whole.pump()
        self.ask("REGISTER")
        await self.turn()
        [challenge] = self.whole.sent()
        asked = digest.Challenge.parse(challenge.get("WWW-Authenticate") or "")
        answer = digest.answer(
            asked,
            username="app",
            password="secret",
            method="REGISTER",
            uri="sip:app@127.0.0.1:32060",
        )
        self.ask("REGISTER", number=2, extra=f"Authorization: {answer}\nExpires: 60")
        self.assertEqual((await self.next_sent()).get("CSeq"), "2 REGISTER")
        await self.until(lambda: not tasks._tasks)
        with sqlite3.connect(self.database) as db:
            rows = db.execute("select contact from bindings").fetchall()
        self.assertEqual(rows, [("sip:alice@127.0.0.1:32070",)])
