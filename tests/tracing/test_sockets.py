"""A server whose SIP is seen: calls over UDP, TCP and a WebSocket, for Wireshark and for Homer."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred

from drachtwist import Srf
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.tracing import Trace
from drachtwist.tracing.pcapng import PcapngSink, read_pcapng
from tests.server.phones import ServerCase
from tests.tracing.test_hep import decoded
from tests.tracing.tshark import fields_of

CALL = ["INVITE", "100", "200", "ACK", "BYE", "200"]
TRANSPORTS = ("udp", "tcp", "ws")


class ServerTests(ServerCase):
    def test_calls(self) -> Deferred[None]:
        """Each message of each call is there once, for tshark and for the decoder of HEP."""
        return Deferred.fromCoroutine(self._calls())

    async def _calls(self) -> None:
        from twisted.internet import reactor

        homer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(homer.close)
        homer.bind(("127.0.0.1", 0))
        homer.setblocking(False)
        config = ServerConfig(
            admin_port=0,
            contacts=[f"sip:127.0.0.1:0;transport={name}" for name in TRANSPORTS],  # type: ignore
            capture_host="127.0.0.1",
            capture_port=homer.getsockname()[1],
            capture_id=101,
        )
        server = DrachtioServer(config, reactor)
        server.trace = trace = Trace()
        path = self.mktemp()
        trace.add(PcapngSink(path))
        self.addCleanup(trace.close)
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        assert server._homer is not None
        await server._homer.when_ready
        srf = Srf()
        self.answering(srf)
        await self.connect(srf, server)
        call_ids = []
        for at, name in enumerate(TRANSPORTS):
            phone = self.talker(f"sip:127.0.0.1:0;transport={name}", server, at)
            port = server.transports.listeners[at].port if server.transports else 0
            invite, answer = await phone.call(f"sip:app@127.0.0.1:{port};transport={name}")
            await phone.hang_up(invite, answer)
            call_ids.append(invite.call_id)
        self.assertEqual(trace.call_ids, call_ids)
        expected = [[call_id, head] for call_id in call_ids for head in CALL]
        found = fields_of(path, ("sip.Call-ID", "sip.Method", "sip.Status-Code"))
        self.assertEqual([[call_id, one or two] for call_id, one, two in found], expected)
        self.assertEqual(
            [one.way.protocol for one in read_pcapng(path)],
            [name for name in TRANSPORTS for _ in CALL],
        )
        found_by_hep = decoded(received(homer))
        heads = [head(one) for one in found_by_hep]
        self.assertEqual(heads, [one for _, one in expected])
        self.assertEqual({one["rcinfo"]["captureId"] for one in found_by_hep}, {101})
        homers = server._homer
        await server.stopService()
        self.assertIsNone(server._homer)
        self.assertNotIn(homers, trace._sinks)


def received(homer: socket.socket) -> list[bytes]:
    """Take what came."""
    packets = []
    while True:
        try:
            packets.append(homer.recv(70_000))
        except BlockingIOError:
            return packets


def head(found: dict[str, Any]) -> str:
    """Say in a word what a message is."""
    import base64

    words = base64.b64decode(found["payload"]).split(b"\r\n")[0].decode().split(" ")
    return words[1] if words[0] == "SIP/2.0" else words[0]
