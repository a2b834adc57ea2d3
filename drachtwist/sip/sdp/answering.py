"""Answering an offer (RFC 3264 section 6), and finding the description in a message."""

from __future__ import annotations

from collections.abc import Sequence

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip.message import Message
from drachtwist.sip.multipart import inner_parts
from drachtwist.sip.sdp.description import Sdp
from drachtwist.sip.sdp.streams import _OF_FORMAT
from drachtwist.sip.sdp.values import Direction, family_of, mirrored

__all__ = ["answer", "sdp_of"]


def sdp_of(message: Message) -> Sdp | None:
    """Give the session description of a message, also one among several parts; None without one."""
    body = message.body
    if body.startswith(b"v=0"):
        return Sdp(body)  # whatever its type says, if that can be read at all
    try:
        parts = message.parts
    except MessageError:
        return None
    for part in inner_parts(parts):
        try:
            if part.content_type.essence == "application/sdp":
                return Sdp(part.body)
        except MessageError:
            continue  # another part may be legible
    return None


def answer(
    offer: Sdp,
    address: str,
    *,
    ports: Sequence[int],
    codecs: Sequence[str] = ("PCMU", "PCMA", "telephone-event"),
    willing: Direction = "sendrecv",
    session_id: str = "1",
    version: int = 1,
) -> Sdp:
    """Answer an offer: as many streams, in the same order, with the codecs that both know.

    :param address: the IP address for our media.
    :param ports: a port for each stream that is accepted; what there is no port for is rejected.
    :param codecs: what we know, in any case; the order is that of the offer.
    :param willing: which way our media may go.
    :param session_id: of the o= line.
    :param version: of the o= line.
    :raises LocalProtocolError: for what is no IP address.
    :raises SdpError: when a stream of the offer cannot be read.
    """
    family = family_of(address)
    end = offer._end()
    lines = [
        "v=0",
        f"o=- {session_id} {version} IN {family} {address}",
        "s=-",
        f"c=IN {family} {address}",
        f"t={offer.value('t') or '0 0'}",
    ]
    made = Sdp("".join(line + end for line in lines))
    free = list(ports)
    for stream in offer.media:
        common = [codec for codec in stream.codecs if any(codec.matches(name) for name in codecs)]
        refused = stream.is_rejected or all(codec.is_auxiliary for codec in common) or not free
        if refused:
            formats = " ".join(stream.formats) or "0"
            made.add_media(f"{stream.kind} 0 {stream.protocol} {formats}")
            continue
        port = free.pop(0)
        if not 0 < port <= 65535:
            raise LocalProtocolError(f"not a port: {port!r}")
        payloads = [codec.payload for codec in common]
        kept = [
            f"{name}:{value}"
            for name, value in stream.attributes
            if name in _OF_FORMAT[:2] and value.split(None, 1)[:1] and value.split()[0] in payloads
        ]
        media = made.add_media(f"{stream.kind} {port} {stream.protocol} {' '.join(payloads)}", kept)
        media.direction = mirrored(stream.wanted, willing)
    return made
