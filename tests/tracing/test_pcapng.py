"""Files that Wireshark opens: read by tshark where it is installed, and by ourselves."""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.tracing import Passed, Place, Trace
from drachtwist.tracing.messages import call_id_of
from drachtwist.tracing.pcapng import PcapngSink, read_pcapng, write_pcapng
from tests.tracing.test_trace import OFFER
from tests.tracing.tshark import fields_of, tshark

NOON = 1_800_000_000.25


def text(start: str, call_id: str = "c1", cseq: str = "1 INVITE", body: str = "") -> bytes:
    lines = [
        start,
        "Via: SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKa",
        "From: <sip:alice@example.net>;tag=a",
        "To: <sip:bob@example.net>",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq}",
        *(["Content-Type: application/sdp"] if body else []),
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def call(protocol: str, local: tuple[str, int], remote: tuple[str, int]) -> list[Passed]:
    """Write a call of four messages over a transport."""
    place = Place(protocol, *remote, *local)
    return [
        Passed(NOON + at, sent, place, raw, b"c1")
        for at, sent, raw in (
            (0.0, False, text("INVITE sip:bob@example.net SIP/2.0", body=OFFER)),
            (0.1, True, text("SIP/2.0 180 Ringing")),
            (0.2, True, text("SIP/2.0 200 OK", body=OFFER)),
            (0.3, False, text("ACK sip:bob@example.net SIP/2.0", cseq="1 ACK")),
        )
    ]


CALLS = {
    "udp": call("udp", ("192.0.2.9", 5060), ("192.0.2.1", 5070)),
    "odd ports": call("udp", ("127.0.0.1", 41234), ("127.0.0.1", 35672)),
    "tcp": call("tcp", ("192.0.2.9", 5060), ("192.0.2.1", 49152)),
    "ipv6": call("udp", ("2001:db8::9", 5060), ("2001:db8::1", 5060)),
    "ipv6 tcp": call("tcp", ("2001:db8::9", 5062), ("2001:db8::1", 40000)),
    "tls": call("tls", ("192.0.2.9", 5061), ("192.0.2.1", 49153)),
    "ws": call("ws", ("192.0.2.9", 80), ("192.0.2.1", 49154)),
    "wss": call("wss", ("192.0.2.9", 443), ("192.0.2.1", 49155)),
    "wss to": call("wss", ("192.0.2.9", 443), ("192.0.2.1", 443)),
}


class PcapngCase(SynchronousTestCase):
    def file(self, messages: list[Passed]) -> str:
        """Write messages to a file, as they pass."""
        path: str = self.mktemp()
        sink = PcapngSink(path)
        for one in messages:
            sink.passed(one)
        sink.close()
        sink.passed(messages[0])  # which does nothing any more
        sink.close()
        return path


class TsharkTests(PcapngCase):
    def test_every_transport(self) -> None:
        """All messages of all transports are SIP to tshark, in order, with checksums that hold."""
        messages = [one for name in CALLS for one in CALLS[name]]
        for number, one in enumerate(messages):
            messages[number] = one._replace(time=NOON + number)
        checks = [
            part for name in ("ip", "udp", "tcp") for part in ("-o", f"{name}.check_checksum:TRUE")
        ]
        path = self.file(messages)
        fields = ("sip.Method", "sip.Status-Code", "sip.Call-ID", "frame.time_epoch", "sdp.owner")
        owner = "alice 1 1 IN IP4 127.0.0.1"
        self.assertEqual(
            fields_of(path, fields, *checks),
            [
                line
                for at in range(0, len(messages), 4)
                for line in (
                    ["INVITE", "", "c1", f"{NOON + at:.9f}", owner],
                    ["", "180", "c1", f"{NOON + at + 1:.9f}", ""],
                    ["", "200", "c1", f"{NOON + at + 2:.9f}", owner],
                    ["ACK", "", "c1", f"{NOON + at + 3:.9f}", ""],
                )
            ],
        )
        problems = "_ws.expert.severity >= warning || _ws.malformed"
        self.assertEqual(tshark(path, "-Y", problems, *checks), [])
        data = bytearray(Path(path).read_bytes())
        data[data.index(b"sip:bob")] ^= 1
        Path(path).write_bytes(data)
        self.assertEqual(len(tshark(path, "-Y", problems, *checks)), 1)  # which would be seen

    def test_long_message(self) -> None:
        """A message that no packet holds is several segments, and put together again."""
        [first, *_] = CALLS["tcp"]
        body = "v=0\r\n" + "a=x:" + "y" * 150_000 + "\r\n"
        long = first._replace(raw=text("INVITE sip:b@x SIP/2.0", "long", body=body))
        path = self.file([long, *CALLS["tcp"]])
        seen = fields_of(path, ["sip.Call-ID"])
        self.assertEqual(seen, [["long"], ["c1"], ["c1"], ["c1"], ["c1"]])
        self.assertEqual([one.raw for one in read_pcapng(path)], [long.raw, *raws("tcp")])


def raws(name: str) -> list[bytes]:
    return [one.raw for one in CALLS[name]]


class FileTests(PcapngCase):
    def test_there_and_back(self) -> None:
        """What was written is read: messages, times, directions, real transports and addresses."""
        for name, messages in CALLS.items():
            found = read_pcapng(self.file(messages))
            self.assertEqual([one.raw for one in found], raws(name))
            for one, was in zip(found, messages, strict=True):
                self.assertEqual((one.sent, one.way, one.call_id), (was.sent, was.way, b"c1"))
                self.assertAlmostEqual(one.time, was.time, places=6)

    def test_owner_only(self) -> None:
        """Nobody else may read it."""
        path = self.file(CALLS["udp"])
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)

    def test_as_it_passes(self) -> None:
        """What passed is in the file although nobody has closed it."""
        path = self.mktemp()
        trace = Trace()
        sink = PcapngSink(path)
        trace.add(sink)
        trace.sip_passed(CALLS["udp"][0].way, CALLS["udp"][0].raw, False)
        self.assertEqual([one.raw for one in read_pcapng(path)], raws("udp")[:1])
        trace.close()

    def test_cut_short(self) -> None:
        """Of a file whose end is missing what is there is read, wherever it was cut."""
        data = write_pcapng(CALLS["tcp"])
        path = self.mktemp()
        for end in range(28, len(data), 7):
            Path(path).write_bytes(data[:end])
            found = read_pcapng(path)
            self.assertEqual([one.raw for one in found], raws("tcp")[: len(found)])

    def test_garbage(self) -> None:
        """What is no such file is refused, and octets that are wrong harm nobody."""
        path = self.mktemp()
        Path(path).write_bytes(b"hello")
        self.assertRaises(LocalProtocolError, read_pcapng, path)
        self.assertRaises(OSError, read_pcapng, path + "x")
        data = write_pcapng(CALLS["udp"])
        for at in range(4, len(data), 3):
            Path(path).write_bytes(data[:at] + b"\xff" + data[at + 1 :])
            read_pcapng(path)

    def test_unknown_addresses(self) -> None:
        """What was seen at a link lacks addresses: it is written, and read, all the same."""
        place = Place("", "", 0, "127.0.0.1", 5060)
        raw = raws("udp")[0]
        found = read_pcapng(self.file([Passed(NOON, True, place, raw, b"c1")]))
        self.assertEqual([(one.raw, one.sent) for one in found], [(raw, True)])

    def test_of_others(self) -> None:
        """A classic capture on Ethernet, without directions, is looked at from the busy end."""
        path = self.mktemp()
        records = b""
        for number, (name, sent) in enumerate((("udp", False), ("odd ports", True))):
            one = CALLS[name][0]
            ends = (("192.0.2.9", 5060), ("192.0.2.1", 5070 + number))
            source, target = ends if sent else ends[::-1]
            udp = struct.pack(">HHHH", source[1], target[1], 8 + len(one.raw), 0) + one.raw
            hosts = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
            ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + hosts + udp
            frame = bytes(12) + b"\x08\x00" + ip
            records += struct.pack("<IIII", 1000 + number, 500_000, len(frame), len(frame)) + frame
        arp = bytes(12) + b"\x08\x06" + bytes(28)
        records += struct.pack("<IIII", 1, 0, len(arp), len(arp)) + arp
        Path(path).write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records)
        found = read_pcapng(path)
        self.assertEqual([(one.time, one.sent) for one in found], [(1000.5, False), (1001.5, True)])
        self.assertEqual({one.way.local_port for one in found}, {5060})
        self.assertEqual([call_id_of(one.raw) for one in found], [b"c1", b"c1"])
