"""An application's requests find their way by a name server, and reach peers on real sockets."""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet import reactor
from twisted.names import dns
from twisted.trial.unittest import TestCase

from drachtwist import SipError, Srf
from drachtwist.demo.phone import Phone
from drachtwist.net.names import Names
from drachtwist.net.sip.flows import Flow
from drachtwist.net.sip.transports import SipTransports
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.message import Request, Response
from drachtwist.transactions.timing import Timing
from tests.interop.peers import free_port
from tests.nameserver import NameServer, a, naptr, srv

SDP = "v=0\r\no=a 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
LONG = SDP + "a=x:" + "y" * 1300 + "\r\n"


class Peer:
    """Answers all requests, over UDP, TCP or both."""

    def __init__(self, test: TestCase, transport: str, port: int = 0, status: int = 200) -> None:
        self.status = status
        self.seen: list[str] = []
        self.transports = SipTransports(cast(Any, reactor), self)
        [listener, *_] = self.transports.listen(f"sip:127.0.0.1:{port};transport={transport}")
        self.port = listener.port
        test.addCleanup(self.transports.stop)

    def sip_received(self, message: Request | Response, flow: Flow, size: int) -> None:
        """Answer a request."""
        if not isinstance(message, Request):
            return
        self.seen.append(f"{flow.protocol} {message.method}")
        if message.method == "ACK":
            return
        response = Response(self.status)
        for name in ("Via", "From", "To", "Call-ID", "CSeq"):
            for value in message.get_all(name):
                response.add(name, value)
        if message.to.tag is None:
            response.set("To", f"{message.get('To')};tag=peer")
        response.set("Contact", f"<sip:bob@127.0.0.1:{self.port}>")
        if message.method == "INVITE":
            response.set("Content-Type", "application/sdp")
            response.body = SDP.encode()
        self.transports.send(flow, bytes(response))

    def sip_malformed(self, bad: Any, flow: Flow, size: int) -> None:
        """Pass it over."""

    def sip_send_failed(self, flow: Flow, error: Exception, data: bytes) -> None:
        """Pass it over."""

    def sip_closed(self, flow: Flow, error: Exception | None) -> None:
        """Pass it over."""


class FindingTests(TestCase):
    timeout = 30

    async def connect(self, records: dict[str, list[Any]], **settings: Any) -> Srf:
        """Start a name server, a server that asks it, and an application."""
        self.names = NameServer(records)
        self.addCleanup(self.names.stop)
        settings.setdefault("name_servers", (f"127.0.0.1:{self.names.port}",))
        config = ServerConfig(
            admin_port=0, contacts=("sip:127.0.0.1:0;transport=udp,tcp",), **settings
        )
        self.server = DrachtioServer(config, reactor)
        self.server.startService()
        self.addCleanup(self.server.stopService)
        await self.server.when_listening()
        srf = Srf()
        self.addCleanup(srf.stop)
        link = srf.connect(f"tcp:127.0.0.1:{self.server.admin_port}", secret="cymru")
        await link.when_connected()
        return srf

    def servers(self, *ports: int) -> dict[str, list[Any]]:
        """Write the records of a domain whose servers are at these ports, in this order."""
        return {
            "example.test": [naptr("SIP+D2U", "_sip._udp.example.test")],
            "_sip._udp.example.test": [
                srv(f"s{at}.example.test", port, priority=at) for at, port in enumerate(ports)
            ],
            **{f"s{at}.example.test": [a("127.0.0.1")] for at in range(len(ports))},
        }

    async def test_short_name(self) -> None:
        """A name without a dot is looked for in the domains of the system."""
        peer = Peer(self, "udp")
        srf = await self.connect({"proxy.example.test": [a("127.0.0.1")]})
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("nameserver 127.0.0.1\nsearch none.example.test example.test\n")
        self.patch(dns, "PORT", self.names.port)
        self.server.names = Names(reactor, resolv_conf=path)
        dialog = await srf.create_uac(f"sip:bob@proxy:{peer.port}", local_sdp=SDP)
        await dialog.destroy()
        self.assertEqual(peer.seen, ["udp INVITE", "udp ACK", "udp BYE"])
        self.assertEqual(self.names.asked, ["A proxy.none.example.test", "A proxy.example.test"])

    async def test_refused_then_answered(self) -> None:
        """NAPTR, SRV, A; nobody listens at the first server, and the second one takes the call."""
        peer = Peer(self, "udp")
        srf = await self.connect(self.servers(free_port(), peer.port))
        dialog = await srf.create_uac("sip:bob@example.test", local_sdp=SDP)
        await dialog.destroy()
        self.assertEqual(peer.seen, ["udp INVITE", "udp ACK", "udp BYE"])
        self.assertEqual(
            self.names.asked,
            [
                "NAPTR example.test",
                "SRV _sip._udp.example.test",
                "A s0.example.test",
                "A s1.example.test",
            ],
        )
        # The second call needs no answers of the name server.
        await (await srf.create_uac("sip:bob@example.test", local_sdp=SDP)).destroy()
        self.assertEqual(len(self.names.asked), 4)

    async def test_silent_then_answered(self) -> None:
        """A server that says nothing is given up in the end."""
        silent = socket.socket(type=socket.SOCK_DGRAM)
        self.addCleanup(silent.close)
        silent.bind(("127.0.0.1", 0))
        peer = Peer(self, "udp")
        records = self.servers(silent.getsockname()[1], peer.port)
        srf = await self.connect(records, timing=Timing(t1=0.1, t1x64=1.0))
        dialog = await srf.create_uac("sip:bob@example.test", local_sdp=SDP)
        await dialog.destroy()
        self.assertEqual(peer.seen[0], "udp INVITE")

    async def test_unavailable_then_answered(self) -> None:
        """So is one that answers 503."""
        first, second = Peer(self, "udp", status=503), Peer(self, "udp")
        srf = await self.connect(self.servers(first.port, second.port))
        dialog = await srf.create_uac("sip:bob@example.test", local_sdp=SDP)
        await dialog.destroy()
        self.assertEqual(first.seen, ["udp INVITE", "udp ACK"])
        self.assertEqual(second.seen, ["udp INVITE", "udp ACK", "udp BYE"])

    async def test_phone(self) -> None:
        """A phone is found by an SRV record alone."""
        phone = Phone(("127.0.0.1", 0), clock=reactor)
        port = cast(Any, reactor).listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        records = self.servers(port.getHost().port)
        del records["example.test"]
        srf = await self.connect(records)
        phone.server = ("127.0.0.1", int(self.server.sip_addresses[0].rpartition(":")[2]))
        response = await srf.request("sip:bob@example.test", method="OPTIONS")
        self.assertEqual(response.status, 200)

    async def test_nobody(self) -> None:
        """All refused; no such domain; no name server: the application is told 503 each time."""
        srf = await self.connect(self.servers(free_port(), free_port()))
        for name in ("example.test", "nothing.test"):
            error: Any = await self.assertFailure(
                srf.create_uac(f"sip:bob@{name}", local_sdp=SDP), SipError
            )
            self.assertEqual((error.status, error.response.reason), (503, "DNS Error"))
        await self.names.stop()
        error = await self.assertFailure(
            srf.create_uac("sip:bob@other.test", local_sdp=SDP), SipError
        )
        self.assertEqual((error.status, error.response.reason), (503, "DNS Error"))

    async def test_hosts_file(self) -> None:
        """The name of this machine itself needs no name server."""
        peer = Peer(self, "udp")
        srf = await self.connect({})
        dialog = await srf.create_uac(f"sip:bob@localhost:{peer.port}", local_sdp=SDP)
        await dialog.destroy()
        self.assertEqual(self.names.asked, [])

    async def test_long(self) -> None:
        """A long INVITE goes over TCP; ACK and BYE are short."""
        peer = Peer(self, "udp,tcp")
        srf = await self.connect({})
        dialog = await srf.create_uac(f"sip:bob@127.0.0.1:{peer.port}", local_sdp=LONG)
        await dialog.destroy()
        self.assertEqual(peer.seen, ["tcp INVITE", "udp ACK", "udp BYE"])

    async def test_long_without_tcp(self) -> None:
        """Where no TCP is listened on it goes over UDP, and the next one does so at once."""
        peer = Peer(self, "udp")
        srf = await self.connect({"example.test": [a("127.0.0.1")]})
        for host in ("example.test", "127.0.0.1"):
            dialog = await srf.create_uac(f"sip:bob@{host}:{peer.port}", local_sdp=LONG)
            await dialog.destroy()
        self.assertEqual(peer.seen, ["udp INVITE", "udp ACK", "udp BYE"] * 2)
