"""What a transport does to the topmost Via (RFC 3261 section 18.2, RFC 3581).

The edit is made in the received bytes, so that nothing else of the message changes.
"""

from __future__ import annotations

import re

from drachtwist.sip.fields import Via
from drachtwist.sip.locating import DEFAULT_PORTS, Hop, is_address

__all__ = ["note_source", "response_hop"]

_VIA = re.compile(
    rb"\n(?:via|v)[ \t]*:[ \t,]*((?:[^\",\r\n]+|\"(?:[^\"\\]|\\.)*\"|\r?\n[ \t])*)",
    re.IGNORECASE | re.DOTALL,
)
_SENT_BY = re.compile(
    rb"\s*[^\s/]+\s*/\s*[^\s/]+\s*/\s*[^\s/]+\s+(\[[^\]]*\]|[^\s:;]+)[^;]*", re.DOTALL
)
_RPORT = re.compile(rb";\s*rport\s*(?:=[^;]*)?(?=;|\Z)", re.IGNORECASE)
_RECEIVED = re.compile(rb";\s*received\s*=[^;]*(?=;|\Z)", re.IGNORECASE)


def note_source(raw: bytes, host: str, port: int) -> bytes:
    """Write down in a request where it came from.

    ``rport`` is always added or filled in, also when it was not asked for, as a drachtio server
    does; ``received`` when the sender calls itself something else, or wrote one itself.

    :param raw: a request, or the start of it with its headers.
    :returns: the request with its topmost Via completed; as it was if it has none that is legible.
    """
    end = raw.find(b"\r\n\r\n")
    found = _VIA.search(raw, 0, len(raw) if end < 0 else end)
    if found is None:
        return raw
    value = found[1].rstrip()
    sent_by = _SENT_BY.match(value)
    if sent_by is None:
        return raw
    source = host.partition("%")[0].encode("ascii")
    params = value[sent_by.end() :]
    rport = b";rport=%d" % port
    noted, count = _RPORT.subn(rport, params, count=1)
    if not count:
        noted += rport
    received = b";received=" + source
    if _RECEIVED.search(noted) is not None:
        noted = _RECEIVED.sub(received, noted, count=1)
    elif sent_by[1].strip(b"[]").lower() != source.lower():
        noted += received
    start = found.start(1)
    return b"".join((raw[: start + sent_by.end()], noted, raw[start + len(value) :]))


def response_hop(via: Via) -> Hop:
    """Say where a response goes when no connection is known for it.

    RFC 3261 section 18.2.2, RFC 3581, and RFC 3263 section 5 for names.

    :param via: the topmost Via of the response.
    """
    protocol = via.transport.lower()
    host = via.received or via.host
    port = via.port
    if protocol == "udp":
        maddr = via.params.get("maddr")
        if maddr:
            host = maddr
        elif via.rport:
            port = via.rport
    elif protocol in ("ws", "wss") and via.rport:
        port = via.rport  # only the connection that is there leads to a browser
    host = host.strip("[]")
    numeric = is_address(host)
    return Hop(
        protocol,
        host,
        DEFAULT_PORTS.get(protocol, 5060) if port is None else port,
        numeric,
        open=False,
        has_port=port is not None,
        name=None if numeric else host,
    )
