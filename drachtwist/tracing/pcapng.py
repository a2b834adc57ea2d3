"""Messages in a file that Wireshark, tshark and sngrep open, and out of one.

A file is a section of pcapng (draft-ietf-opsawg-pcapng) with one interface of raw IP packets
(LINKTYPE_RAW). Each message is a UDP datagram, or a segment of a TCP connection whose sequence
numbers are made up, with the direction in its flags. What came over TLS or a WebSocket is written
as what was in it, plain SIP over TCP: our port is then 5060, which such programs take for SIP
whatever they think of the real one, and a comment has the transport and both addresses.

Messages are written as they are: passwords are in digests, as on the wire, and session keys in the
clear. So the file is for its owner alone.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from drachtwist.errors import LocalProtocolError
from drachtwist.net.tap import Way
from drachtwist.tracing.messages import Passed, Place, call_id_of

__all__ = ["PcapngSink", "read_pcapng", "write_pcapng"]

_SECTION, _INTERFACE, _PACKET, _SIMPLE = 0x0A0D0D0A, 1, 6, 3
_MAGIC = 0x1A2B3C4D
_RAW_IP, _ETHERNET, _COOKED, _LOOPBACK = 101, 1, 113, 0
_COMMENT, _FLAGS, _RESOLUTION = 1, 2, 9
_INBOUND, _OUTBOUND = 1, 2
_UDP, _TCP = 17, 6
_SIP_PORT = 5060
_LONGEST = 65535
"""Octets of the longest packet; a longer message is several segments."""
_MOST_CONNECTIONS = 4096
_HIDDEN = frozenset(("tls", "ws", "wss"))
_ABOUT = re.compile(r"(udp|tcp|tls|ws|wss) (\S+) (\d{1,5}) (\S+) (\d{1,5})")


class PcapngSink:
    """Writes what passes to a file, message by message; nothing is left in a buffer.

    :param path: the file, which is overwritten; only its owner may read it.
    :raises OSError: when it cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file: BinaryIO | None = os.fdopen(descriptor, "wb", buffering=0)
        self._packets = _Packets()
        self._file.write(_head())

    def passed(self, message: Passed) -> None:
        """Write a message."""
        if self._file is not None:
            self._file.write(self._packets.blocks(message))

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def write_pcapng(messages: list[Passed]) -> bytes:
    """Write messages as the octets of a file."""
    packets = _Packets()
    return _head() + b"".join(packets.blocks(one) for one in messages)


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _head() -> bytes:
    section = struct.pack("<IHHq", _MAGIC, 1, 0, -1)
    interface = struct.pack("<HHI", _RAW_IP, 0, 0) + _option(_RESOLUTION, b"\x06") + _option(0, b"")
    return _block(_SECTION, section) + _block(_INTERFACE, interface)


class _Packets:
    """Makes packets of messages."""

    def __init__(self) -> None:
        # How many octets each end of a connection has sent.
        self._sent: dict[tuple[str, int, str, int], int] = {}

    def blocks(self, message: Passed) -> bytes:
        """Return the blocks of a message."""
        way = message.way
        ours, theirs = _ends(way)
        source, target = (ours, theirs) if message.sent else (theirs, ours)
        payloads = [message.raw]
        if way.protocol != "udp" or len(message.raw) > _LONGEST - 48:
            size = _LONGEST - 60
            raw = message.raw
            payloads = [raw[at : at + size] for at in range(0, len(raw), size)] or [b""]
        options = _option(
            _FLAGS, struct.pack("<I", _OUTBOUND if message.sent else _INBOUND)
        ) + _option(_COMMENT, _about(way).encode("utf-8", "replace"))
        made = []
        for payload in payloads:
            if way.protocol == "udp":
                packet = _ip(_UDP, source, target, _datagram(source, target, payload))
            else:
                packet = _ip(_TCP, source, target, self._segment(source, target, payload))
            made.append(_packet(message.time, packet, options))
        return b"".join(made)

    def _segment(self, source: tuple[str, int], target: tuple[str, int], payload: bytes) -> bytes:
        sent = self._sent
        if len(sent) > _MOST_CONNECTIONS:
            sent.clear()
        here, there = (*source, *target), (*target, *source)
        at, acknowledged = sent.get(here, 1), sent.get(there, 1)
        sent[here] = (at + len(payload)) & 0xFFFFFFFF
        head = struct.pack(
            ">HHIIBBHHH", source[1], target[1], at, acknowledged, 5 << 4, 0x18, 0xFFFF, 0, 0
        )
        summed = _checksum(_pseudo(source, target, _TCP, 20 + len(payload)) + head + payload)
        return head[:16] + struct.pack(">H", summed) + head[18:] + payload


def _packet(time: float, packet: bytes, options: bytes) -> bytes:
    stamp = int(time * 1e6)
    body = struct.pack(
        "<IIIII", 0, stamp >> 32 & 0xFFFFFFFF, stamp & 0xFFFFFFFF, len(packet), len(packet)
    )
    body += packet + bytes(-len(packet) % 4) + options + _option(0, b"")
    return _block(_PACKET, body)


def _ends(way: Way) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return the addresses and ports of both ends, as they are written."""
    ours, theirs = (way.local_host, way.local_port), (way.remote_host, way.remote_port)
    if way.protocol in _HIDDEN:
        ours = (ours[0], _SIP_PORT)
        if theirs[1] <= _SIP_PORT + 1:
            theirs = (theirs[0], theirs[1] + 10000)
    return ours, theirs


def _about(way: Way) -> str:
    local, remote = way.local_host or "?", way.remote_host or "?"
    return f"{way.protocol or '?'} {local} {way.local_port} {remote} {way.remote_port}"


def _address(host: str, wide: bool) -> bytes:
    """Return the octets of an address; of what is none those of nobody."""
    family = socket.AF_INET6 if wide else socket.AF_INET
    try:
        return socket.inet_pton(family, host.partition("%")[0])
    except OSError:
        return bytes(16 if wide else 4)


def _is_wide(source: tuple[str, int], target: tuple[str, int]) -> bool:
    return ":" in source[0] or ":" in target[0]


def _pseudo(source: tuple[str, int], target: tuple[str, int], kind: int, size: int) -> bytes:
    wide = _is_wide(source, target)
    ends = _address(source[0], wide) + _address(target[0], wide)
    return ends + (struct.pack(">II", size, kind) if wide else struct.pack(">HH", kind, size))


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    total = sum(memoryview(data + bytes(len(data) % 2)).cast("H"))
    total = (total >> 16) + (total & 0xFFFF)
    total += total >> 16
    while total >> 16:
        total = (total >> 16) + (total & 0xFFFF)
    return socket.htons(~total & 0xFFFF)


def _datagram(source: tuple[str, int], target: tuple[str, int], payload: bytes) -> bytes:
    size = 8 + len(payload)
    head = struct.pack(">HHHH", source[1], target[1], size, 0)
    summed = _checksum(_pseudo(source, target, _UDP, size) + head + payload) or 0xFFFF
    return head[:6] + struct.pack(">H", summed) + payload


def _ip(kind: int, source: tuple[str, int], target: tuple[str, int], payload: bytes) -> bytes:
    wide = _is_wide(source, target)
    ends = _address(source[0], wide) + _address(target[0], wide)
    if wide:
        return struct.pack(">IHBB", 6 << 28, len(payload), kind, 64) + ends + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, kind, 0) + ends
    return head[:10] + struct.pack(">H", _checksum(head)) + head[12:] + payload


# Reading


def read_pcapng(path: str | os.PathLike[str]) -> list[Passed]:
    """Read the SIP messages of a file, in the order in which they were written.

    Files of other programs are read too, pcapng and pcap, with UDP and TCP in IP on Ethernet, Linux
    "cooked" captures, and raw IP. Where a packet does not say its direction, the end that takes
    part in most packets is the one that is looked from.

    :raises LocalProtocolError: for what is no such file.
    :raises OSError: when it cannot be read.
    """
    data = Path(path).read_bytes()
    if data[:4] in (b"\x0a\x0d\x0d\x0a",):
        packets = list(_pcapng(data))
    elif data[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"M<\xb2\xa1", b"\xa1\xb2<M"):
        packets = list(_pcap(data))
    else:
        raise LocalProtocolError(f"{path} is no pcapng or pcap file")
    return _messages(packets)


_Found = tuple[float, str, "tuple[str, int]", "tuple[str, int]", bytes, int, str]
"""Time, transport, source, target, payload, direction (0 when it is not known), comment."""


def _pcapng(data: bytes) -> Iterator[_Found]:
    order, at = "<", 0
    links: list[tuple[int, float]] = []
    while at + 12 <= len(data):
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order = "<" if data[at + 8 : at + 12] == struct.pack("<I", _MAGIC) else ">"
            links = []
        kind, length = struct.unpack_from(f"{order}II", data, at)
        if length < 12 or at + length > len(data):
            return  # the end is missing: whoever wrote it was cut short
        body = data[at + 8 : at + length - 4]
        at += length
        if kind == _INTERFACE and len(body) >= 8:
            link = struct.unpack_from(f"{order}H", body)[0]
            options = _options(body[8:], order)
            step = options.get(_RESOLUTION, b"\x06")[0]
            links.append((link, 2.0 ** -(step & 127) if step & 128 else 10.0**-step))
        elif kind == _PACKET and len(body) >= 20:
            which, high, low, kept = struct.unpack_from(f"{order}IIII", body)
            if which >= len(links):
                continue
            options = _options(body[20 + kept + -kept % 4 :], order)
            flags = options.get(_FLAGS, b"")
            direction = struct.unpack(f"{order}I", flags)[0] & 3 if len(flags) == 4 else 0
            link, unit = links[which]
            comment = options.get(_COMMENT, b"").decode("utf-8", "replace")
            found = _read_packet(link, body[20 : 20 + kept])
            if found is not None:
                yield ((high << 32 | low) * unit, *found, direction, comment)


def _options(data: bytes, order: str) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from(f"{order}HH", data, at)
        if code == 0:
            break
        found.setdefault(code, data[at + 4 : at + 4 + size])
        at += 4 + size + -size % 4
    return found


def _pcap(data: bytes) -> Iterator[_Found]:
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"M<\xb2\xa1") else ">"
    unit = 1e-9 if data[:4] in (b"M<\xb2\xa1", b"\xa1\xb2<M") else 1e-6
    if len(data) < 24:
        return
    link = struct.unpack_from(f"{order}I", data, 20)[0] & 0xFFFF
    at = 24
    while at + 16 <= len(data):
        seconds, parts, kept = struct.unpack_from(f"{order}III", data, at)
        found = _read_packet(link, data[at + 16 : at + 16 + kept])
        at += 16 + kept
        if found is not None:
            yield (seconds + parts * unit, *found, 0, "")


def _read_packet(
    link: int, data: bytes
) -> tuple[str, tuple[str, int], tuple[str, int], bytes] | None:
    """Return transport, ends and payload of a packet; None for what is neither UDP nor TCP."""
    at = {_RAW_IP: 0, 12: 0, _ETHERNET: 14, _COOKED: 16, _LOOPBACK: 4, 276: 20}.get(link)
    if at is None:
        return None
    if link == _ETHERNET:
        while data[at - 2 : at] == b"\x81\x00":  # in a VLAN
            at += 4
    packet = data[at:]
    if len(packet) < 20:
        return None
    if packet[0] >> 4 == 4:
        kind, head = packet[9], (packet[0] & 15) * 4
        hosts = [socket.inet_ntop(socket.AF_INET, packet[at : at + 4]) for at in (12, 16)]
        end = int.from_bytes(packet[2:4], "big") or len(packet)
    elif packet[0] >> 4 == 6 and len(packet) >= 40:
        kind, head = packet[6], 40
        hosts = [socket.inet_ntop(socket.AF_INET6, packet[at : at + 16]) for at in (8, 24)]
        end = 40 + int.from_bytes(packet[4:6], "big")
    else:
        return None
    segment = packet[head:end]
    if len(segment) < 8 or kind not in (_UDP, _TCP):
        return None
    ports = struct.unpack_from(">HH", segment)
    source, target = (hosts[0], ports[0]), (hosts[1], ports[1])
    if kind == _UDP:
        return "udp", source, target, segment[8:]
    if len(segment) < 20:
        return None
    return "tcp", source, target, segment[(segment[12] >> 4) * 4 :]


_MESSAGE = re.compile(rb"(?:SIP/2\.0 \d{3}|[A-Z]{3,12} \S{1,2000} SIP/2\.0\r?\n)")
_LENGTH = re.compile(rb"\n(?:content-length|l)[ \t]*:[ \t]*(\d{1,7})", re.IGNORECASE)


def _messages(packets: list[_Found]) -> list[Passed]:
    """Make messages of packets: TCP is put together again."""
    counts: dict[tuple[str, int], int] = {}
    for _, _, source, target, *_ in packets:
        for end in (source, target):
            counts[end] = counts.get(end, 0) + 1
    streams: dict[tuple[tuple[str, int], tuple[str, int]], bytes] = {}
    found: list[Passed] = []
    for time, transport, source, target, payload, direction, comment in packets:
        if transport == "udp":
            texts = [payload] if _MESSAGE.match(payload) else []
        else:
            key = (source, target)
            texts, streams[key] = _cut(streams.get(key, b"") + payload)
        sent = direction == _OUTBOUND if direction else counts[source] > counts[target]
        ours, theirs = (source, target) if sent else (target, source)
        place = Place(transport, *theirs, *ours)
        about = _ABOUT.fullmatch(comment)
        if about is not None:
            protocol, local, local_port, remote, remote_port = about.groups()
            place = Place(protocol, remote, int(remote_port), local, int(local_port))
        found += [
            Passed(time, sent, place, text, call_id_of(text), len(found) + number)
            for number, text in enumerate(texts)
        ]
    return found


def _cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Cut a stream into messages; return them, and what there is of the next one."""
    texts: list[bytes] = []
    while True:
        data = data.lstrip(b"\r\n")
        end = data.find(b"\r\n\r\n")
        if end < 0 or not _MESSAGE.match(data):
            # What is no SIP is none further on either.
            return texts, data if _could_begin(data) else b""
        length = _LENGTH.search(data, 0, end + 2)
        end += 4 + (int(length[1]) if length is not None else 0)
        if length is None:
            end = len(data)  # in a WebSocket it may be missing: the packet is the message
        if len(data) < end:
            return texts, data
        texts.append(data[:end])
        data = data[end:]


def _could_begin(data: bytes) -> bool:
    return len(data) < 1 << 20 and (_MESSAGE.match(data) is not None or len(data) < 64)
