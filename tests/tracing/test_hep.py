"""HEP3: decoded by hep-js, which others wrote, and sent over real sockets."""

from __future__ import annotations

import base64
import json
import socket
import struct
import subprocess
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase, TestCase

from drachtwist.tracing import Passed, Place, Trace
from drachtwist.tracing.hep import HepSink, encode_hep
from tests.interop.peers import need_node
from tests.tracing.test_pcapng import CALLS, NOON, raws

_reactor = cast(Any, reactor)

_SCRIPT = """
const hep = require('hep-js');
const lines = require('fs').readFileSync(0, 'utf8').split('\\n').filter(Boolean);
for (const line of lines) {
  const found = hep.decapsulate(Buffer.from(line, 'base64'));
  found.payload = Buffer.from(found.payload).toString('base64');
  console.log(JSON.stringify(found));
}
"""


def decoded(packets: list[bytes]) -> list[dict[str, Any]]:
    """Let hep-js decode packets."""
    lines = "\n".join(base64.b64encode(one).decode() for one in packets)
    done = subprocess.run(
        [need_node("hep-js"), "-e", _SCRIPT],
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def chunks(packet: bytes) -> dict[int, bytes]:
    """Cut a packet into its chunks."""
    assert packet[:4] == b"HEP3" and struct.unpack(">H", packet[4:6]) == (len(packet),)
    found, at = {}, 6
    while at < len(packet):
        vendor, kind, size = struct.unpack_from(">HHH", packet, at)
        assert vendor == 0
        found[kind] = packet[at + 6 : at + size]
        at += size
    assert at == len(packet)
    return found


class EncodingTests(SynchronousTestCase):
    def test_decoded_by_others(self) -> None:
        """Another's decoder finds who sent what to whom, when, over which transport."""
        names = ("udp", "tcp", "ipv6", "ws")
        packets = [encode_hep(one, 101) for name in names for one in CALLS[name]]
        found = decoded(packets)
        self.assertEqual(len(found), 16)
        for name, at in zip(names, range(0, 16, 4), strict=True):
            first, second = found[at]["rcinfo"], found[at + 1]["rcinfo"]
            way = CALLS[name][0].way
            host = way.remote_host.replace("2001:db8::", "2001:db8:0:0:0:0:0:")
            self.assertEqual(
                (first["srcPort"], first["dstPort"]), (way.remote_port, way.local_port), name
            )
            self.assertEqual(
                (second["srcPort"], second["dstPort"]), (way.local_port, way.remote_port)
            )
            if name != "ipv6":
                self.assertEqual((first["srcIp"], first["dstIp"]), (host, way.local_host))
            self.assertEqual(first["protocolFamily"], 10 if name == "ipv6" else 2)
            self.assertEqual(first["protocol"], 17 if way.protocol == "udp" else 6)
            self.assertEqual((first["timeSeconds"], first["timeUseconds"]), (int(NOON), 250_000))
            self.assertEqual((first["payloadType"], first["captureId"]), (1, 101))
            self.assertEqual(
                [base64.b64decode(one["payload"]) for one in found[at : at + 4]], raws(name)
            )

    def test_addresses(self) -> None:
        """Both families, mixed ones, and what is no address, are octets of the right number."""
        for local, remote, expected in (
            ("192.0.2.9", "192.0.2.1", {3: "192.0.2.1", 4: "192.0.2.9"}),
            ("2001:db8::9", "2001:db8::1", {5: "2001:db8::1", 6: "2001:db8::9"}),
            ("2001:db8::9", "192.0.2.1", {5: "::ffff:192.0.2.1", 6: "2001:db8::9"}),
            ("192.0.2.9", "", {3: "0.0.0.0", 4: "192.0.2.9"}),
            ("::", "", {5: "::", 6: "::"}),
            ("::", "nobody", {5: "::", 6: "::"}),
        ):
            place = Place("udp", remote, 1, local, 2)
            found = chunks(encode_hep(Passed(1.5, False, place, b"x", b"")))
            for kind, address in expected.items():
                family = socket.AF_INET if kind < 5 else socket.AF_INET6
                self.assertEqual(found[kind], socket.inet_pton(family, address))
            self.assertNotIn(17, found)

    def test_names(self) -> None:
        """The Call-ID goes along as what belongs together, and the node if it has a name."""
        found = chunks(encode_hep(CALLS["udp"][0], 7, "edge-1"))
        self.assertEqual((found[17], found[19], found[12]), (b"c1", b"edge-1", b"\0\0\0\7"))

    def test_too_long(self) -> None:
        """What no datagram holds is cut."""
        packet = encode_hep(CALLS["tcp"][0]._replace(raw=b"x" * 70_000))
        self.assertEqual(len(packet), 65507)
        self.assertEqual(set(chunks(packet)[15]), {ord("x")})


class SendingTests(TestCase):
    def homer(self) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.addCleanup(bound.close)
        bound.bind(("127.0.0.1", 0))
        bound.settimeout(10)
        return bound

    @inlineCallbacks
    def test_sent(self) -> Any:
        """What passes is sent to a name, until the sink is closed."""
        homer = self.homer()
        sink = HepSink(_reactor, "localhost", homer.getsockname()[1], 101)
        trace = Trace(seconds=lambda: NOON)
        trace.add(sink)
        one = CALLS["udp"][0]
        sink.passed(one)  # too early
        yield sink.when_ready
        trace.sip_passed(one.way, one.raw, False)
        found = chunks(homer.recv(70_000))
        self.assertEqual((found[15], found[12]), (one.raw, b"\0\0\0\x65"))
        trace.close()
        sink.passed(one)
        homer.setblocking(False)
        self.assertRaises(BlockingIOError, homer.recv, 70_000)

    @inlineCallbacks
    def test_nobody_there(self) -> Any:
        """A Homer that does not listen, and a name that nobody has, are told once a minute."""
        homer = self.homer()
        port = homer.getsockname()[1]
        homer.close()
        with capturedLogs() as logs:
            sink = HepSink(_reactor, "127.0.0.1", port)
            yield sink.when_ready
            for _ in range(100):
                sink.passed(CALLS["udp"][0])
            sink.close()
            nowhere = HepSink(_reactor, "nobody.invalid", port)
            yield nowhere.when_ready
            nowhere.passed(CALLS["udp"][0])
            nowhere.close()
        told = [event for event in logs if "reach Homer" in event["log_format"]]
        self.assertEqual([event["host"] for event in told], ["127.0.0.1", "nobody.invalid"])

    @inlineCallbacks
    def test_closed_early(self) -> Any:
        """A sink that is closed before its address is known stays closed."""
        sink = HepSink(_reactor, "localhost", 9060)
        sink.close()
        yield sink.when_ready
        sink.passed(CALLS["udp"][0])
