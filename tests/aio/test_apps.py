"""Applications with asyncio in them, in processes: under twistd, under uvicorn, on their own."""

from __future__ import annotations

import json
import sqlite3
import sys
from io import BytesIO
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.web.client import Agent, FileBodyProducer
from twisted.web.resource import Resource
from twisted.web.server import Site

from drachtwist import SipError
from drachtwist.demo.phone import Phone
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from tests.aio.cases import need_new_asyncio
from tests.interop.peers import InteropTestCase, Peer, free_port
from tests.test_examples import EXAMPLES, Person
from tests.web import body_of

UVICORN = """
import logging
from contextlib import asynccontextmanager
from fastapi import FastAPI
from drachtwist import aio
from lookup import srf

logging.basicConfig(level=logging.INFO)
srf.on_ready(lambda link: logging.getLogger("app").info("it is ready"))

@asynccontextmanager
async def lifespan(api):
    async with aio.serving(srf, "tcp:127.0.0.1:%d", secret="cymru"):
        yield

api = FastAPI(lifespan=lifespan)
"""


class Directory(Resource):
    """Knows where people are."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.people: dict[str, tuple[str, float]] = {}

    def render_GET(self, request: Any) -> bytes:
        """Say where somebody is."""
        found = self.people.get(request.path.decode().lstrip("/"))
        if found is None:
            request.setResponseCode(404)
            return b""
        return json.dumps(dict(zip(("uri", "ring_for"), found, strict=True))).encode()


class AppTestCase(InteropTestCase):
    def setUp(self) -> None:
        """Need what the examples need."""
        super().setUp()
        need_new_asyncio()

    async def server(self, admin: int | None = 0) -> DrachtioServer:
        """Start a server."""
        config = ServerConfig(admin_port=admin, contacts=("sip:127.0.0.1:0;transport=udp",))
        server = DrachtioServer(config, reactor)
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        return server

    async def person(self, name: str) -> Person:
        """Let somebody come."""
        from drachtwist import Srf

        srf, server = Srf(), await self.server()
        person = Person(name, srf, server)
        self.addCleanup(srf.stop)
        connection = srf.connect(f"tcp:127.0.0.1:{server.admin_port}", secret="cymru")
        await connection.when_ready()
        return person

    async def until(self, holds: Any) -> None:
        """Wait until something holds; the timeout of the test ends that."""
        while not holds():
            await deferLater(cast(Any, reactor), 0.005)

    def uvicorn(self, app: str, port: int, **environment: str) -> Peer:
        """Start uvicorn."""
        return self.spawn(
            f"uvicorn {app}",
            *(sys.executable, "-m", "uvicorn", "--port", str(port), "--app-dir", str(EXAMPLES)),
            app,
            **environment,
        )


class LookupTests(AppTestCase):
    async def prepare(self) -> Person:
        """Have a directory, and somebody in it."""
        directory = Directory()
        port = cast(Any, reactor).listenTCP(0, Site(directory), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.database = self.directory / "calls.sqlite"
        self.environment = {
            "DIRECTORY": f"http://127.0.0.1:{port.getHost().port}",
            "DATABASE": str(self.database),
        }
        bob = await self.person("bob")
        directory.people.update({"100": (bob.uri, 60), "102": (bob.uri, 0.3)})
        return bob

    async def calls_work(self, bob: Person, peer: Peer, sip: int) -> None:
        """Call through the application: somebody, nobody, and somebody who does not answer."""
        phone = Phone(("127.0.0.1", sip), "alice", clock=reactor)
        listening = cast(Any, reactor).listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        call = await phone.call(f"sip:100@127.0.0.1:{sip}")
        await peer.when_prints("100 is in a call")
        await call.hang_up()
        await bob.calls[0].when_ended()
        with sqlite3.connect(self.database) as database:
            self.assertEqual(database.execute("select * from calls").fetchall(), [("alice", "100")])
        self.assertEqual(await self.refused(phone.call(f"sip:101@127.0.0.1:{sip}")), 404)
        bob.status = 180
        self.assertEqual(await self.refused(phone.call(f"sip:102@127.0.0.1:{sip}")), 480)
        await self.until(lambda: len(bob.requests) == 2 and bob.requests[-1].canceled)

    async def refused(self, calling: Deferred[Any]) -> int:
        """Give the status of a refusal."""
        error = await self.assertFailure(calling, SipError)
        return cast(int, error.status)

    async def test_under_twistd(self) -> None:
        """The application is hosted by twistd, on the asyncio reactor."""
        bob = await self.prepare()
        sip = free_port()
        peer = self.spawn(
            "twistd --reactor=asyncio",
            *(sys.executable, "-c", "from twisted.scripts.twistd import run; run()"),
            *("--reactor=asyncio", "-n", "--pidfile=", "drachtio"),
            *("--app", str(EXAMPLES / "lookup.py")),
            *("--contact", f"sip:127.0.0.1:{sip};transport=udp"),
            **self.environment,
        )
        await peer.when_prints("connected")
        self.assertIn(b"the database is open", peer.output)
        await self.calls_work(bob, peer, sip)
        peer.kill("TERM")
        self.assertEqual(await peer.ended, 0, str(peer))
        self.assertIn(b"the database is closed", peer.output)
        for word in (b"Traceback", b"never", b"pending", b"Unhandled"):
            self.assertNotIn(word, peer.output)

    async def test_under_uvicorn(self) -> None:
        """The same application runs in the loop of a web server."""
        bob, server = await self.prepare(), await self.server()
        assert server.admin_port is not None
        Path(self.directory, "wrapped.py").write_text(UVICORN % server.admin_port)
        peer = self.uvicorn("wrapped:api", free_port(), **self.environment)
        await peer.when_prints("Uvicorn running on")
        await peer.when_prints("it is ready")
        sip = int(server.sip_addresses[0].rpartition(":")[2])
        await self.calls_work(bob, peer, sip)
        peer.kill("TERM")
        await peer.ended
        self.assertIn(b"Application shutdown complete", peer.output, str(peer))
        for word in (b"Traceback", b"never", b"pending", b"Unhandled"):
            self.assertNotIn(word, peer.output)


class ClickToCallTests(AppTestCase):
    async def ask(self, method: str, url: str, **about: str) -> tuple[int, str]:
        """Ask the web server."""
        response = await Agent(reactor).request(
            method.encode(),
            url.encode(),
            bodyProducer=FileBodyProducer(BytesIO(json.dumps(about).encode())) if about else None,
            headers=None if not about else _json(),
        )
        return response.code, (await body_of(response)).decode()

    async def test_page(self) -> None:
        """Two people are connected by a click, and parted by another; refusals are told."""
        ann, bob = await self.person("ann"), await self.person("bob")
        server = await self.server()
        port = free_port()
        peer = self.uvicorn(
            "click_to_call:api", port, DRACHTIO=f"tcp:127.0.0.1:{server.admin_port}"
        )
        await peer.when_prints("Uvicorn running on")
        base = f"http://127.0.0.1:{port}"
        self.assertIn("<form", (await self.ask("GET", f"{base}/"))[1])
        where = f"{base}/calls"
        status, text = await self.ask("POST", where, caller=ann.uri, callee=bob.uri)
        self.assertEqual((status, json.loads(text)), (201, {"call": 1}), str(peer))
        await ann.calls[0].when_acked()
        self.assertEqual(ann.calls[0].remote.sdp.decode(), bob.sdp)
        self.assertEqual((await self.ask("DELETE", f"{where}/1"))[0], 204)
        await ann.calls[0].when_ended()
        await bob.calls[0].when_ended()
        self.assertEqual((await self.ask("DELETE", f"{where}/1"))[0], 404)
        bob.status = 486
        self.assertEqual((await self.ask("POST", where, caller=ann.uri, callee=bob.uri))[0], 502)
        await ann.calls[1].when_ended()
        self.assertEqual((await self.ask("POST", where, caller="x y", callee=bob.uri))[0], 422)
        peer.kill("TERM")
        await peer.ended
        self.assertIn(b"Application shutdown complete", peer.output, str(peer))
        self.assertNotIn(b"Traceback", peer.output)


def _json() -> Any:
    from twisted.web.http_headers import Headers

    return Headers({"Content-Type": ["application/json"]})


FACTORY = """
import asyncio

from drachtwist import Srf


async def make_srf():
    await asyncio.sleep(0.01)
    srf = Srf()
    srf.on_start(begin)
    return srf


async def begin():
    print("begins in", type(asyncio.current_task()).__name__)
    raise OSError("no disk")
"""


class FactoryTests(AppTestCase):
    async def test_factory(self) -> None:
        """What makes an application, and what it needs, may await asyncio; its failure is told."""
        Path(self.directory, "made.py").write_text(FACTORY)
        peer = self.spawn(
            "twist --reactor=asyncio",
            *(
                sys.executable,
                "-c",
                "from twisted.application.twist._twist import Twist; Twist.main()",
            ),
            *("--reactor=asyncio", "drachtio", "--app", "made.py:make_srf"),
        )
        self.assertEqual(await peer.ended, 1, str(peer))
        self.assertIn(b"begins in Task", peer.output, str(peer))
        self.assertIn(b"cannot start: begin failed: OSError: no disk", peer.output)
        self.assertNotIn(b"Traceback", peer.output)


PROGRAM = """
import asyncio
import sys
import threading

from drachtwist import Srf, aio

srf = Srf()
srf.on_stop(lambda: print("stopped"))
ready = asyncio.Event()
srf.on_ready(lambda link: ready.set())


async def main():
    for _ in range(2):
        # A name: asking for it takes threads.
        async with aio.serving(srf, f"tcp:localhost:{sys.argv[1]}", secret="cymru"):
            ready.clear()
            await ready.wait()
            print("ready")
        print("threads:", [one.name for one in threading.enumerate() if "Pool" in one.name])


asyncio.run(main())
"""


class ProgramTests(AppTestCase):
    async def test_alone(self) -> None:
        """A program that runs its own loop serves, stops, begins anew and ends."""
        server = await self.server()
        peer = self.spawn("a program", sys.executable, "-c", PROGRAM, str(server.admin_port))
        self.assertEqual(await peer.ended, 0, str(peer))
        lines = peer.output.decode().splitlines()
        self.assertEqual(lines, ["ready", "stopped", "threads: []"] * 2)
