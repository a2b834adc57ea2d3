"""Answers to offers (RFC 3264 sections 6 and 8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from drachtwist.sip.sdp.description import Sdp
from drachtwist.sip.sdp.streams import Media
from drachtwist.sip.sdp.values import Codec, Direction, mirrored

if TYPE_CHECKING:
    from drachtwist.sip.message import Message

__all__ = ["answer", "repeat_answer", "sdp_of"]


def sdp_of(message: Message) -> Sdp | None:
    """Give the session description that a message carries, alone or as a part of its body.

    What is done to it changes the message only when it is assigned: ``message.body = bytes(sdp)``.

    :returns: None when there is none.
    :raises MessageError: when the body is not what its type says.
    """
    body = message.body
    if not body:
        return None
    kind = message.content_type
    if kind is None:
        return Sdp.parse(body) if body.startswith(b"v=") else None
    if kind.essence == "application/sdp":
        return Sdp.parse(body)
    if kind.type != "multipart":
        return None
    for part in message.parts:
        if part.content_type.essence == "application/sdp":
            return Sdp.parse(part.body)
    return None


def answer(
    offer: Sdp | str | bytes,
    address: str,
    port: int | Mapping[str, int],
    *,
    codecs: Iterable[str] | None = None,
    direction: Direction = "sendrecv",
    protocols: Iterable[str] = ("RTP/AVP", "RTP/AVPF"),
    session_id: str | int | None = None,
    version: int = 1,
) -> Sdp:
    """Make an answer: as many streams as were offered, in their order (RFC 3264 section 6).

    The first stream of each kind that is wanted is accepted, with the codecs that both sides have
    and their parameters as offered, in the order of the offer. All others are rejected.

    :param offer: what the other side wants.
    :param address: our IP address.
    :param port: our port for audio, or ports by the kind of stream.
    :param codecs: those that we know, as for :meth:`Codec.matches`; all unless given.
    :param direction: what we would do.
    :param protocols: those that we speak.
    :param session_id: a number for the session, a random one unless given.
    :param version: how often the session has changed; count it up in later answers.
    :raises SdpError: when an m= line or an rtpmap of the offer cannot be read.
    :raises LocalProtocolError: for an address or a port that is none.
    """
    if not isinstance(offer, Sdp):
        offer = Sdp.parse(offer)
    ports = dict(port) if isinstance(port, Mapping) else {"audio": port}
    known = None if codecs is None else tuple(codecs)
    spoken = {each.upper() for each in protocols}
    ours = Sdp.make(address, session_id=session_id, version=version)
    timing = offer.value("t")
    if timing is not None:
        ours._put("t", timing)  # It has to be the same.
    for medium in offer.media:
        here = 0
        if not medium.is_rejected and medium.protocol.upper() in spoken:
            common = _common(medium, known)
            if common:
                here = ports.pop(medium.kind, 0)
        if not here:
            ours.add_media(medium.kind, 0, medium.formats[:1] or ["0"], medium.protocol).remove(
                "rtpmap"
            )
            continue
        formats: list[Codec] | list[str] = common if medium.is_rtp else medium.formats
        stream = ours.add_media(medium.kind, here, formats, medium.protocol)
        stream.direction = mirrored(medium.wanted_direction, direction)
    return ours


def _common(medium: Media, known: tuple[str, ...] | None) -> list[Codec]:
    """Give the codecs of a stream that we know, if there is one that carries media."""
    offered = medium.codecs
    if known is None:
        return offered
    found = [codec for codec in offered if any(map(codec.matches, known))]
    return found
