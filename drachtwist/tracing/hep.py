"""Messages sent to Homer: HEP version 3, one datagram for each (the HEP3 network protocol).

A packet is the magic, its length, and chunks: vendor, type, length, value; those here are all of
the generic vendor 0. Messages go as they are, with whatever secrets SIP shows; whoever runs Homer
sees them anyway. Nothing is waited for and nothing comes back: what does not arrive is lost.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostResolution, IResolutionReceiver
from zope.interface import implementer

from drachtwist.net.alerts import Alerts
from drachtwist.net.logs import Logger
from drachtwist.tracing.messages import Passed

__all__ = ["PORT", "HepSink", "encode_hep"]

PORT = 9060
"""Where Homer listens, unless told otherwise."""

_SIP = 1
_TCP, _UDP = 6, 17
_LONGEST = 65507
"""Octets of the longest datagram."""


def encode_hep(message: Passed, capture_id: int = 0, node: str = "") -> bytes:
    """Write a message as a HEP3 packet.

    :param capture_id: the number that Homer knows the sender by, 0 to 4294967295.
    :param node: the name that it knows it by; none when it is empty.
    """
    (source, source_port), (target, target_port) = message.source, message.target
    wide = ":" in source or ":" in target
    family = socket.AF_INET6 if wide else socket.AF_INET
    seconds = int(message.time)
    chunks = [
        _chunk(1, b"\x0a" if wide else b"\x02"),
        _chunk(2, bytes([_UDP if message.way.protocol == "udp" else _TCP])),
        _chunk(5 if wide else 3, _address(family, source)),
        _chunk(6 if wide else 4, _address(family, target)),
        _chunk(7, struct.pack(">H", source_port)),
        _chunk(8, struct.pack(">H", target_port)),
        _chunk(9, struct.pack(">I", seconds & 0xFFFFFFFF)),
        _chunk(10, struct.pack(">I", int((message.time - seconds) * 1e6))),
        _chunk(11, bytes([_SIP])),
        _chunk(12, struct.pack(">I", capture_id)),
    ]
    if message.call_id:
        chunks.append(_chunk(17, message.call_id))  # what belongs together
    if node:
        chunks.append(_chunk(19, node.encode("utf-8")))
    head = b"".join(chunks)
    chunks.append(_chunk(15, message.raw[: _LONGEST - len(head) - 12]))
    body = b"".join(chunks)
    return b"HEP3" + struct.pack(">H", len(body) + 6) + body


def _chunk(kind: int, value: bytes) -> bytes:
    return struct.pack(">HHH", 0, kind, len(value) + 6) + value


def _address(family: int, host: str) -> bytes:
    try:
        return socket.inet_pton(family, host.partition("%")[0])
    except OSError:
        if family == socket.AF_INET6 and host:
            return socket.inet_pton(family, f"::ffff:{host}") if _is_ipv4(host) else bytes(16)
        return bytes(16 if family == socket.AF_INET6 else 4)


def _is_ipv4(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except OSError:
        return False
    return True


class HepSink:
    """Sends what passes to Homer.

    :param reactor: what looks the name up, once; what passes before it is known is not sent.
    :param host: an address or a name.
    :param capture_id: the number that Homer knows the sender by.
    :param alerts: where it is noted that nothing can be sent.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        host: str,
        port: int = PORT,
        capture_id: int = 0,
        alerts: Alerts | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._capture_id = capture_id
        self._alerts = Alerts(self._log, reactor.seconds) if alerts is None else alerts
        self._socket: socket.socket | None = None
        self._closed = False
        self.when_ready: Deferred[None] = Deferred()
        """Fires when the address is known, or cannot be found out."""
        reactor.nameResolver.resolveHostName(_Receiver(self._found), host, port)

    def passed(self, message: Passed) -> None:
        """Send a message."""
        if self._socket is None:
            return
        try:
            self._socket.send(encode_hep(message, self._capture_id))
        except OSError as error:
            if not isinstance(error, (BlockingIOError, InterruptedError)):
                self._fails(error)

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _found(self, addresses: list[Any]) -> None:
        if not self._closed:
            if addresses:
                self._connect(addresses[0].host)
            else:
                self._fails(OSError("there is no such host"))
        self.when_ready.callback(None)

    def _connect(self, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        connected = socket.socket(family, socket.SOCK_DGRAM)
        connected.setblocking(False)
        try:
            connected.connect((host, self._port))
        except OSError as error:
            connected.close()
            self._fails(error)
            return
        self._socket = connected

    def _fails(self, error: OSError) -> None:
        self._alerts.note(
            "homer",
            "what passes does not reach Homer at {host}:{port}: {error}",
            host=self._host,
            port=self._port,
            error=error.strerror or str(error),
        )


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects the addresses of a name."""

    def __init__(self, told: Any) -> None:
        self._told = told
        self._addresses: list[Any] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Note that it is looked for."""

    def addressResolved(self, address: Any) -> None:
        """Note an address."""
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        """Tell what was found."""
        self._told(self._addresses)
