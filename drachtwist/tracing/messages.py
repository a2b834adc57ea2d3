"""One SIP message that passed, and what a ladder says of it.

What is read here comes from the network as it is: nothing of it is trusted to be SIP, and each look
takes time in proportion to its length at most.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from drachtwist.net.tap import Way
from drachtwist.tracing.hiding import without_secrets

__all__ = ["Passed", "Place", "call_id_of", "end_of_head", "header_of", "session_of", "summary_of"]

_USUAL = b"\r\nCall-ID: "
_CALL_ID = re.compile(rb"\n(?:call-id|i)[ \t]*:[ \t]*(?:\r?\n[ \t]+)?([^\s]*)", re.IGNORECASE)
_HEAD_END = re.compile(rb"\n\r?\n")
_ORIGIN = re.compile(rb"\no=[^\r\n]*")
_METHOD = re.compile(rb"([A-Za-z0-9.!%*_+`'~-]+) ")


@dataclass(frozen=True, slots=True)
class Place:
    """Between whom a message passed, for whoever has no flow: a link, a file, a test."""

    protocol: str
    remote_host: str
    """Empty when nobody knows: a server does not tell where it sends a request to."""
    remote_port: int
    local_host: str
    local_port: int


class Passed(NamedTuple):
    """A message that passed."""

    time: float
    """When, in seconds since the epoch."""
    sent: bool
    """Whether it was sent; otherwise it came in."""
    way: Way
    """Between whom: a :class:`~drachtwist.net.sip.flows.Flow` or a :class:`Place`."""
    raw: bytes
    """The message."""
    call_id: bytes
    """Its Call-ID; empty when there is none."""
    number: int = 0
    """Its place among all that passed, which tells apart those of one moment."""

    @property
    def source(self) -> tuple[str, int]:
        """The address and port that it came from."""
        way = self.way
        if self.sent:
            return way.local_host, way.local_port
        return way.remote_host, way.remote_port

    @property
    def target(self) -> tuple[str, int]:
        """The address and port that it went to."""
        way = self.way
        if self.sent:
            return way.remote_host, way.remote_port
        return way.local_host, way.local_port

    @property
    def text(self) -> str:
        """The message as text; octets that are no UTF-8 are surrogates."""
        return self.raw.decode("utf-8", "surrogateescape")

    @property
    def method(self) -> str:
        """The method of a request; empty for a response, and for what is no message."""
        return method_of(self.raw)

    @property
    def status(self) -> int:
        """The status of a response; 0 for a request, and for what is no message."""
        return status_of(self.raw)

    @property
    def summary(self) -> str:
        """What a ladder says of it: ``INVITE sip:bob@example.net``, ``200 OK``."""
        return summary_of(self.raw)


def call_id_of(raw: bytes) -> bytes:
    """Return the Call-ID of what may be a message; empty when there is none."""
    start = raw.find(_USUAL)
    if start >= 0:
        start += len(_USUAL)
        end = raw.find(b"\r", start)
        value = raw[start:end] if end >= 0 else raw[start:]
        if value:
            return value.rstrip()
    found = _CALL_ID.search(raw, 0, end_of_head(raw))
    return b"" if found is None else found[1]


def end_of_head(raw: bytes) -> int:
    """Return where the head of what may be a message ends: behind its last line."""
    found = _HEAD_END.search(raw)
    return len(raw) if found is None else found.start() + 1


def header_of(raw: bytes, name: bytes) -> str:
    """Return the first header of a name, on one line; empty when there is none.

    :param name: the name in full; short forms are not looked for.
    """
    pattern = rb"\n" + re.escape(name) + rb"[ \t]*:[ \t]*([^\r\n]*)"
    found = re.compile(pattern, re.IGNORECASE).search(raw, 0, end_of_head(raw))
    return "" if found is None else found[1].decode("utf-8", "replace").strip()


def session_of(raw: bytes) -> bytes:
    """Return the origin line of the session description, which names the session (RFC 4566 5.2)."""
    head = _HEAD_END.search(raw)
    if head is None:
        return b""
    found = _ORIGIN.search(raw, head.start())
    return b"" if found is None else found[0][1:]


def _first_line(raw: bytes) -> bytes:
    end = raw.find(b"\n")
    return (raw if end < 0 else raw[:end]).rstrip(b"\r")


def method_of(raw: bytes) -> str:
    """Return the method of a request; empty for what is none."""
    found = _METHOD.match(raw)
    return "" if found is None or raw[:4].upper() == b"SIP/" else found[1].decode("ascii")


def status_of(raw: bytes) -> int:
    """Return the status of a response; 0 for what is none."""
    status = raw[8:11]
    return int(status) if raw[:4].upper() == b"SIP/" and status.isdigit() else 0


def summary_of(raw: bytes) -> str:
    """Return the first line for people, with a mark when there is a session description."""
    line = _first_line(raw)
    text = line.decode("utf-8", "replace")
    if raw[:4].upper() == b"SIP/":
        text = text[8:].strip()
        method = header_of(raw, b"CSeq").rpartition(" ")[2]
        if method and method != "INVITE":
            text += f" ({method})"
    else:
        text = text.rpartition(" SIP/")[0] or text
        # Of an address, what is no parameter says enough, and a password is nobody's business.
        text = without_secrets(text.partition(";")[0])
    return f"{text} [SDP]" if b"\nv=0" in raw and session_of(raw) else text
