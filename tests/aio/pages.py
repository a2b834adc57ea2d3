"""The examples of the page about asyncio, each as it stands there, on the asyncio reactor."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import httpx
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.web.resource import Resource
from twisted.web.server import Site

from drachtwist import Srf
from drachtwist.demo.phone import Phone
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from tests.aio.cases import AsyncioTestCase, need_new_asyncio
from tests.interop.peers import free_port
from tests.test_docs import Example, example
from tests.test_examples import Person


class Text(Resource):
    """Says the same to everybody."""

    isLeaf = True

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def render_GET(self, request: Any) -> bytes:
        """Say it."""
        return self.text.encode()


class AsyncioPageTests(AsyncioTestCase):
    def setUp(self) -> Any:
        """Need what the examples need."""
        begun = super().setUp()
        need_new_asyncio()
        return begun

    def load(self, name: str, changes: dict[str, str], module: str = "example") -> Example:
        """Load an example."""
        loaded = Example(example(name), module, changes)
        self.addCleanup(loaded.srf.stop)
        return loaded

    async def server(self) -> DrachtioServer:
        """Start a server."""
        config = ServerConfig(admin_port=0, contacts=("sip:127.0.0.1:0;transport=udp",))
        server = DrachtioServer(config, reactor)
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        return server

    def connect(self, srf: Srf, server: DrachtioServer) -> Deferred[Any]:
        """Connect an application."""
        connection = srf.connect(f"tcp:127.0.0.1:{server.admin_port}", secret="cymru")
        return connection.when_ready()

    async def person(self, name: str) -> Person:
        """Let somebody come, who takes messages too."""
        srf, server = Srf(), await self.server()
        person = Person(name, srf, server)
        srf.options(lambda req, res: res.send(200))
        srf.message(lambda req, res: res.send(202))
        srf.notify(lambda req, res: res.send(202))
        self.addCleanup(srf.stop)
        await self.connect(srf, server)
        return person

    def phone(self, server: DrachtioServer) -> Phone:
        """Make a phone."""
        port = int(server.sip_addresses[0].rpartition(":")[2])
        phone = Phone(("127.0.0.1", port), "alice", clock=reactor)
        listening = cast(Any, reactor).listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return phone

    def uri(self, server: DrachtioServer, user: str = "bob") -> str:
        """Give an address at a server."""
        return f"sip:{user}@{server.sip_addresses[0].partition('/')[2]}"

    def plain(self, coroutine: Any) -> Deferred[Any]:
        """Run a coroutine as a plain task."""
        return Deferred.fromFuture(asyncio.ensure_future(coroutine))

    async def test_awaiting(self) -> None:
        """A web server says where a call goes, while a gateway is asked whether it is alive."""
        bob = await self.person("bob")
        port = cast(Any, reactor).listenTCP(0, Site(Text(bob.uri)), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        changes = {
            "http://127.0.0.1:8080": f"http://127.0.0.1:{port.getHost().port}",
            "sip:127.0.0.1:5090": bob.uri.replace("bob@", ""),
        }
        loaded, server = self.load("awaiting", changes), await self.server()
        await self.connect(loaded.srf, server)
        call = await self.phone(server).call(self.uri(server))
        said = await loaded.when_says("is in a call")
        self.assertEqual(said, "bob is in a call, the gateway says 200")
        await call.hang_up()
        await bob.calls[0].when_ended()

    async def test_plain_tasks(self) -> None:
        """The tasks of a group wait, and send messages."""
        bob = await self.person("bob")
        loaded = self.load("plain-tasks", {"127.0.0.1:5090": bob.uri.partition("@")[2]})
        server = await self.server()
        await self.connect(loaded.srf, server)
        response = await self.phone(server).request("MESSAGE", self.uri(server))
        self.assertEqual((response.status, loaded.said), (200, ["[202, 202]"]))

    async def test_in_a_web_framework(self) -> None:
        """An endpoint sends a message while the framework runs."""
        bob, server = await self.person("bob"), await self.server()
        changes = {
            "127.0.0.1:9022": f"127.0.0.1:{server.admin_port}",
            "127.0.0.1:5090": bob.uri.partition("@")[2],
        }
        loaded = self.load("in-a-web-framework", changes)
        api = loaded.names["api"]

        async def run() -> None:
            async with api.router.lifespan_context(api):
                [connection] = loaded.srf._connections.endpoints.made
                await connection.when_ready()
                async with httpx.AsyncClient(
                    transport=httpx.ASGITransport(api), base_url="http://x"
                ) as client:
                    answer = await client.post("/messages/bob", params={"text": "Hi"})
                self.seen.append((answer.status_code, answer.json()))

        await self.plain(run())
        self.assertEqual(self.seen, [(200, {"status": 202})])
        self.assertEqual(loaded.srf.links, [])

    async def test_asyncio_run(self) -> None:
        """The program serves until it is interrupted."""
        server = await self.server()
        loaded = self.load("asyncio-run", {"127.0.0.1:9022": f"127.0.0.1:{server.admin_port}"})
        task = asyncio.ensure_future(loaded.names["main"]())
        await loaded.when_says("serving")
        [connection] = loaded.srf._connections.endpoints.made
        await connection.when_ready()
        response = await self.phone(server).request("OPTIONS", self.uri(server))
        self.assertEqual(response.status, 200)
        task.cancel()
        await self.until(task.done)
        self.assertEqual(loaded.srf.links, [])

    async def test_web_framework_inside(self) -> None:
        """The page lists the calls, and is gone with the application."""
        port = free_port()
        loaded = self.load("web-framework-inside", {"port=8000": f"port={port}"})
        server = await self.server()
        await self.connect(loaded.srf, server)

        async def listed() -> Any:
            async with httpx.AsyncClient() as client:
                while True:
                    try:
                        return (await client.get(f"http://127.0.0.1:{port}/calls")).json()
                    except httpx.ConnectError:
                        await asyncio.sleep(0.01)

        self.assertEqual(await self.plain(listed()), [])
        call = await self.phone(server).call(self.uri(server))
        self.assertEqual(await self.plain(listed()), ["alice"])
        await call.hang_up()
        await self.until(lambda: not loaded.names["calls"])
        await loaded.srf.stop()
        await self.assertFailure(
            self.plain(httpx.AsyncClient().get(f"http://127.0.0.1:{port}/calls")),
            httpx.ConnectError,
        )
