"""Applications and servers as services of real processes: ``twist``, ``twistd``, ``.tac`` files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.web.client import Agent

from drachtwist import SipError
from drachtwist.demo.phone import Phone
from tests.interop.peers import InteropTestCase, Peer, free_port
from tests.web import body_of

ROOT = Path(__file__).parent.parent.parent
TWIST = "import sys; from twisted.application.twist._twist import Twist; Twist.main()"
TWISTD = "from twisted.scripts.twistd import run; run()"
CALLS = '''
from twisted.application.service import MultiService, Service
from twisted.application.internet import StreamServerEndpointService
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.python import usage
from twisted.web.server import Site
from twisted.web.resource import Resource

from drachtwist import Srf, SrfService
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer

srf = Srf()
srf.options(lambda req, res: res.send(200))
server = DrachtioServer(
    ServerConfig(admin_port=@ADMIN@, contacts=["sip:127.0.0.1:@SIP@;transport=udp"])
)

@srf.invite
async def answer(req, res):
    call = await srf.create_uas(req, res, local_sdp=req.body)
    await call.when_ended()
    print("ended while the server is", "gone" if server.transports is None else "up", flush=True)

class Says(Service):
    def __init__(self, name):
        self.setName(name)

    def startService(self):
        super().startService()
        print("starting", self.name, flush=True)

    def stopService(self):
        print("stopping", self.name, flush=True)
        return super().stopService()

class Hello(Resource):
    isLeaf = True

    def render_GET(self, request):
        return b"hello"

class Options(usage.Options):
    """None."""

def together(parent):
    endpoint = TCP4ServerEndpoint(reactor, @HTTP@, interface="127.0.0.1")
    for service in (
        Says("first"),
        StreamServerEndpointService(endpoint, Site(Hello())),
        server,
        Says("second"),
        SrfService(srf, "tcp:127.0.0.1:@ADMIN@", secret="cymru"),
        Says("third"),
    ):
        service.setServiceParent(parent)
    return parent

def makeService(options):
    return together(MultiService())
'''
TAC = """
from twisted.application.service import Application
application = together(Application("calls"))
"""
QUIET = """
from drachtwist.hosting.process import stop_on_sigterm
stop_on_sigterm(reactor)
"""
PLUGIN = """
from twisted.application.service import ServiceMaker
calls = ServiceMaker("calls", "ourcalls", "Our calls.", "ourcalls")
"""


class HostingTestCase(InteropTestCase):
    """Programs that are called and stopped."""

    def setUp(self) -> None:
        super().setUp()
        self.sip, self.admin, self.http = free_port(), free_port(), free_port()

    def phone(self) -> Phone:
        """Make a phone."""
        phone = Phone(("127.0.0.1", self.sip), clock=reactor)
        listening = cast(Any, reactor).listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return phone

    async def serving(self, phone: Phone, peer: Peer) -> None:
        """Wait until the application answers: the server refuses until it has connected."""
        while True:
            try:
                answer = await phone.request("OPTIONS", f"sip:a@127.0.0.1:{self.sip}")
            except SipError as error:
                self.assertIn(error.status, (408, 480, 503), str(peer))
                await deferLater(cast(Any, reactor), 0.05)
            else:
                self.assertEqual(answer.status, 200)
                return

    async def fetch(self, path: str, method: bytes = b"GET") -> tuple[int, bytes]:
        """Ask the web site."""
        url = f"http://127.0.0.1:{self.http}{path}".encode()
        answer = await Agent(reactor).request(method, url)
        return answer.code, await body_of(answer)


class ServiceTests(HostingTestCase):
    """Services of ours among others, in a program of somebody else."""

    def write(self, name: str, text: str) -> str:
        """Write a file of the program, with its ports."""
        path = Path(self.directory, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        for mark, port in (("@SIP@", self.sip), ("@ADMIN@", self.admin), ("@HTTP@", self.http)):
            text = text.replace(mark, str(port))
        path.write_text(text)
        return str(path)

    async def check(self, peer: Peer, status: int) -> None:
        """See that all are served, that a call is hung up on, and that they stop in order."""
        phone = self.phone()
        await peer.when_prints("starting third")
        await self.serving(phone, peer)
        self.assertEqual(await self.fetch("/"), (200, b"hello"))
        call = await phone.call(f"sip:a@127.0.0.1:{self.sip}")
        peer.kill("TERM")
        bye = await call.when_ended()
        self.assertEqual(getattr(bye, "method", None), "BYE")
        self.assertEqual(await peer.ended, status, str(peer))
        said = peer.output.decode()
        steps = [
            *("starting first", "starting second", "starting third"),
            *("stopping third", "stopping second", "stopping first"),
            "ended while the server is up",
        ]
        at = [said.find(step) for step in steps]
        self.assertNotIn(-1, at, said)
        self.assertEqual(at, sorted(at), said)
        self.assertNotIn("Traceback", said)

    async def test_plugin(self) -> None:
        """In a plugin of one's own, under ``twist`` and under ``twistd``.

        Both end themselves with the signal that stopped them, unless the program sees to it.
        """
        self.write("twisted/plugins/ourcalls_plugin.py", PLUGIN)
        for program, status, more in (
            (("twist", "--log-format=text"), -15, ""),
            (("twistd", "-n", "--pidfile="), -15, ""),
            (("twist", "--log-format=text"), 0, QUIET),
            (("twistd", "-n", "--pidfile="), 0, QUIET),
        ):
            self.sip, self.admin, self.http = free_port(), free_port(), free_port()
            self.write("ourcalls.py", CALLS + more)
            source = TWIST if program[0] == "twist" else TWISTD
            peer = self.spawn(
                " ".join(program),
                *(sys.executable, "-c", source, *program[1:], "ourcalls"),
                PYTHONPATH=f"{ROOT}:{self.directory}",
                PYTHONDONTWRITEBYTECODE="1",
            )
            await self.check(peer, status)

    async def test_tac(self) -> None:
        """In a ``.tac`` file."""
        for status, more in ((-15, ""), (0, QUIET)):
            self.sip, self.admin, self.http = free_port(), free_port(), free_port()
            path = self.write(f"calls{status}.tac", CALLS + TAC + more)
            await self.check(self.twistd("-y", path), status)


class PluginTests(HostingTestCase):
    """The plugins of the package under ``twist``, which has no daemon and no pid file."""

    async def test_twist(self) -> None:
        """They serve, stop in good order, and end with status 0."""
        app = Path(self.directory, "app.py")
        app.write_text(
            "from drachtwist import Srf\nsrf = Srf()\n"
            "srf.options(lambda req, res: res.send(200))\n"
            "@srf.invite\nasync def answer(req, res):\n"
            "    await srf.create_uas(req, res, local_sdp=req.body)\n"
        )

        def twist(*words: str) -> Peer:
            return self.spawn(
                f"twist {' '.join(words)}",
                *(sys.executable, "-c", TWIST, "--log-format=text", *words),
                PYTHONPATH=str(ROOT),
                DRACHTIO_SECRET="right-one",
            )

        contact = ("--contact", f"sip:127.0.0.1:{self.sip};transport=udp")
        alone = [twist("drachtio", "--app", str(app), *contact)]
        for peers in (alone, None):
            if peers is None:
                peers = [
                    twist("drachtio-server", "--port", str(self.admin), *contact),
                    twist("drachtio", "--app", str(app), "-e", f"tcp:127.0.0.1:{self.admin}"),
                ]
            phone = self.phone()
            await peers[-1].when_prints("connected")
            await self.serving(phone, peers[-1])
            call = await phone.call(f"sip:a@127.0.0.1:{self.sip}")
            for peer in reversed(peers):
                peer.kill("TERM")
                self.assertEqual(await peer.ended, 0, str(peer))
            bye = await call.when_ended()
            self.assertEqual(getattr(bye, "method", None), "BYE")


class SwitchboardTests(HostingTestCase):
    """The example with klein."""

    async def test_switchboard(self) -> None:
        """The site lists the calls and ends them, in the process of application and server."""
        peer = self.twistd(
            *("-y", str(ROOT / "docs" / "examples" / "switchboard.py")),
            HTTP_PORT=str(self.http),
            ADMIN_PORT=str(self.admin),
            CONTACT=f"sip:127.0.0.1:{self.sip};transport=udp",
        )
        phone = self.phone()
        await peer.when_prints("starting up")
        while True:
            try:
                call = await phone.call(f"sip:a@127.0.0.1:{self.sip}")
                break
            except SipError as error:
                self.assertIn(error.status, (408, 480, 503), str(peer))
                await deferLater(cast(Any, reactor), 0.05)
        code, body = await self.fetch("/calls")
        self.assertEqual(code, 200, body)
        [number] = json.loads(body)
        self.assertEqual((await self.fetch("/calls/77", b"DELETE"))[0], 404)
        self.assertEqual((await self.fetch(f"/calls/{number}", b"DELETE"))[0], 204)
        bye = await call.when_ended()
        self.assertEqual(getattr(bye, "method", None), "BYE")
        self.assertEqual(await self.fetch("/calls"), (200, b"{}"))
        peer.kill("TERM")
        self.assertEqual(await peer.ended, -15, str(peer))
        self.assertNotIn(b"Traceback", peer.output)
