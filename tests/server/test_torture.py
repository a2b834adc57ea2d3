"""The torture messages of RFC 4475 and RFC 5118, sent to a running server over real sockets.

What the manifest wants of a parser, or of whoever matches transactions, is the server's to do. What
it wants of an application (415, 416, 420, ...) is not: there any answer will do, as long as there
is one. After each message the server serves a call.
"""

from __future__ import annotations

import os
import re
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from drachtwist import DrachtwistError, Request, Response, Srf
from drachtwist.phone import Phone
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from tests.sip.test_torture import MESSAGES, octets

_STATUS = re.compile(rb"^SIP/2\.0 ([0-9]{3}) ", re.M)
_FINAL = re.compile(rb"^SIP/2\.0 [2-6][0-9]{2} ", re.M)
_PORTS = re.compile(rb":[ \t]*([0-9]{1,5})(?=[;, \t\r\n])")
_MULTICAST = b"maddr"
_OTHERWISE_ON_STREAMS = frozenset({"dblreq", "inv2543"})

HERE = f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
"""An address of this machine's own, so that responses to any port can be received."""


class _Ear(DatagramProtocol):
    """Hears what comes to one port."""

    def __init__(self, heard: list[bytes]) -> None:
        self.heard = heard

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.heard.append(datagram)


class _Stream(Protocol):
    """Hears what comes over a connection."""

    def __init__(self) -> None:
        self.heard = b""
        self.gone: Deferred[None] = Deferred()
        self.is_gone = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.is_gone = True
        self.gone.callback(None)


def wanted(entry: dict[str, Any], transport: str) -> tuple[set[int], bool, bool]:
    """Give the statuses that are right, whether any answer is, and whether silence is."""
    statuses: set[int] = set()
    anything = silence = False
    kind = "udp" if transport == "udp" else "stream"
    for element in entry["element"]:
        if element.get("transport", kind) != kind:
            continue
        action = element["action"]
        if action == "respond":
            statuses.update(element["status"])
            # Not the server's but the application's to say.
            anything = anything or element["role"] != "any" or entry["layer"] == "application"
        elif action == "process":
            anything = True
        else:
            silence = True
    if entry["lenient_accept"] or not entry["element"]:
        anything = True
    if not entry["element"]:
        silence = True
    return statuses, anything, silence


class TortureTests(TestCase):
    timeout = 60

    async def start(self) -> None:
        """Start a server, an application that answers everything, and a phone."""
        config = ServerConfig(admin_port=0, contacts=("sip:127.0.0.1:0;transport=udp,tcp",))
        self.server = DrachtioServer(config, reactor)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        await self.server.when_listening()
        self.port = int(self.server.sip_addresses[0].rpartition(":")[2])
        srf = Srf()
        self.addCleanup(srf.stop)

        @srf.invite
        async def answer(req: Request, res: Response) -> None:
            if req.called_number == "service":
                await srf.create_uas(req, res, local_sdp="v=0\r\n")
            else:
                res.send(486)

        for method in ("options", "register", "message", "publish", "notify", "subscribe", "info"):
            getattr(srf, method)(lambda req, res: res.send(200))
        link = srf.connect(f"tcp:127.0.0.1:{self.server.admin_port}", secret="cymru")
        await link.when_connected()
        # Commands are carried out in order: behind an answer the routes are there.
        asking = srf.request("sip:127.0.0.1:9", method="OPTIONS")
        await asking.addErrback(lambda failure: failure.trap(DrachtwistError))
        self.phone = Phone(("127.0.0.1", self.port), clock=reactor)
        listening = cast(Any, reactor).listenUDP(0, self.phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        await self.call()

    async def call(self) -> None:
        """See that the server serves a call."""
        call = await self.phone.call(f"sip:service@127.0.0.1:{self.port}")
        await call.hang_up()

    def judge(self, entry: dict[str, Any], transport: str, heard: bytes, closed: bool) -> None:
        """Compare what was heard with what is wanted."""
        name = f"{entry['name']} over {transport}"
        found = {int(status) for status in _STATUS.findall(heard)}
        finals = {status for status in found if status >= 200}
        statuses, anything, silence = wanted(entry, transport)
        if entry["kind"] == "response":
            self.assertEqual(found, set(), name)
        elif anything:
            # Where one message ends is said otherwise on a stream, which may be garbage then.
            lost = closed and entry["name"] in _OTHERWISE_ON_STREAMS
            self.assertTrue(finals or silence or lost or _MULTICAST in octets(entry), name)
        elif statuses:
            self.assertTrue(finals and finals <= statuses, f"{name}: {found}, not {statuses}")
        else:
            # Silence, or an error on the stream before it is closed.
            self.assertTrue(closed or finals <= {400}, f"{name}: {found}")

    async def test_udp(self) -> None:
        """Every message as a datagram."""
        await self.start()
        heard: list[bytes] = []
        ports = {5060, 5061}
        for entry in MESSAGES:
            ports.update(int(port) for port in _PORTS.findall(octets(entry)) if int(port) < 65536)
        listen = cast(Any, reactor).listenUDP
        ears = {}
        for port in sorted(ports - {0}):
            ears[port] = listen(port, _Ear(heard), interface=HERE, maxPacketSize=65536)
            self.addCleanup(ears[port].stopListening)
        for entry in MESSAGES:
            heard.clear()
            ears[5060].write(octets(entry), ("127.0.0.1", self.port))
            await self.call()
            self.judge(entry, "udp", b"".join(heard), False)

    async def test_tcp(self) -> None:
        """Every message on a connection of its own."""
        await self.start()
        for entry in MESSAGES:
            endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
            stream: _Stream = await connectProtocol(endpoint, _Stream())
            transport = cast(Any, stream.transport)
            transport.write(octets(entry))
            await self.call()
            for _ in range(400):
                # Connections and datagrams overtake each other.
                if stream.is_gone or _FINAL.search(stream.heard):
                    break
                statuses, anything, silence = wanted(entry, "tcp")
                if silence or entry["kind"] == "response" or not (statuses or anything):
                    break
                await deferLater(cast(Any, reactor), 0.005)
            self.judge(entry, "tcp", stream.heard, stream.is_gone)
            transport.loseConnection()
            await stream.gone
