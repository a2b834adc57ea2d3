"""Answering an offer (RFC 3264 section 6), and finding the description in a message.

An answer is made anew (:func:`answer`), repeats what was described before (:func:`answer_with`), or
refuses everything (:func:`refuse`). In each case it has as many streams as the offer, in the same
order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip.message import Message
from drachtwist.sip.multipart import inner_parts
from drachtwist.sip.sdp.description import Sdp
from drachtwist.sip.sdp.streams import _OF_FORMAT, Media, payload_of
from drachtwist.sip.sdp.values import AUXILIARY, Direction, family_of, mirrored

__all__ = ["answer", "answer_with", "description_of", "refuse", "sdp_of"]


def sdp_of(message: Message) -> Sdp | None:
    """Return the session description of a message, also of one part; None when it has none."""
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


def description_of(message: Message) -> bytes:
    """Return the session description of a message, as it is; empty without one."""
    body = message.body
    if not body or body.startswith(b"v="):
        return body
    found = sdp_of(message)
    return b"" if found is None else bytes(found)


def answer(
    offer: Sdp,
    address: str,
    *,
    ports: Sequence[int],
    codecs: Sequence[str] = ("PCMU", "PCMA", "telephone-event"),
    willing: Direction = "sendrecv",
    session_id: str = "1",
    version: int = 1,
    secure: Callable[[Media], Iterable[str]] | None = None,
) -> Sdp:
    """Answer an offer: as many streams, in the same order, with the codecs that both know.

    Streams that nobody could connect are rejected: those without a common codec, those for which no
    port is left, and those that need keys (``RTP/SAVP``, ``UDP/TLS/RTP/SAVPF``) or a connection
    (``TCP/RTP/AVP``), unless ``secure`` gives them.

    :param address: the IP address for our media.
    :param ports: a port for each stream that is accepted; what there is no port for is rejected.
    :param codecs: what we know, in any case; the order is that of the offer.
    :param willing: which way our media may go.
    :param session_id: of the o= line.
    :param version: of the o= line.
    :param secure: called with each stream of the offer that is more than RTP over UDP, gives the
        attributes of its answer that let it work: ``crypto`` (RFC 4568), or ``fingerprint`` and
        ``setup`` (RFC 5763) with those of ICE, ``rtcp-mux``, ``candidate``; nothing rejects it.
    :raises LocalProtocolError: for what is no IP address, for no port, and for attributes that
        cannot work: without a key, or without ICE although it is offered with a fingerprint.
    :raises SdpError: when a stream of the offer cannot be read.
    """
    family = family_of(address)
    made = _head(offer, session_id, version, family, address)
    free = deque(ports)
    for stream in offer.media:
        common = [codec for codec in stream.codecs if any(codec.matches(name) for name in codecs)]
        extra: list[str] = []
        works = not stream.is_rejected and bool(free)
        works = works and not all(codec.is_auxiliary for codec in common)
        if works and stream.protocol.upper() not in _PLAIN:
            extra = [] if secure is None else list(secure(stream))
            works = bool(extra)
            if works:
                _check_keys(stream, extra)
        if not works:
            _add_rejected(made, stream)
            continue
        port = free.popleft()
        if not 0 < port <= 65535:
            raise LocalProtocolError(f"not a port: {port!r}")
        payloads = [codec.payload for codec in common]
        known = set(payloads)
        kept = [
            f"{name}:{_one_line(value)}"
            for name, value in stream.attributes
            if name in _OF_FORMAT[:2] and payload_of(value) in known
        ]
        media = made.add_media(f"{stream.kind} {port} {stream.protocol} {' '.join(payloads)}", kept)
        _keep_mid(media, stream)
        for text in extra:
            name, _, value = text.partition(":")
            media.add(name, value)
        media.direction = mirrored(stream.wanted, willing)
    return made


_PLAIN = frozenset(("RTP/AVP", "RTP/AVPF"))
"""The transports that need nothing but an address and a port."""


def _check_keys(stream: Media, attributes: list[str]) -> None:
    """See that a stream can work with what the caller gives for it.

    :raises LocalProtocolError: when it cannot.
    """
    names = {text.partition(":")[0] for text in attributes}
    missing = ""
    protocol = stream.protocol.upper().split("/")
    if "TLS" in protocol and "fingerprint" not in names:
        missing = "a fingerprint"
    elif not {"SAVP", "SAVPF"}.isdisjoint(protocol) and names.isdisjoint(("crypto", "fingerprint")):
        missing = "crypto or fingerprint"
    elif "fingerprint" in names and (stream.has("ice-ufrag") or stream._sdp.has("ice-ufrag")):
        missing = "" if {"ice-ufrag", "ice-pwd"} <= names else "ice-ufrag and ice-pwd"
    if missing:
        raise LocalProtocolError(f"{stream.protocol} cannot work without {missing}")


def answer_with(local: Sdp, offer: Sdp) -> Sdp:
    """Answer an offer with what was described before, as for a re-INVITE that holds.

    Each stream of the offer is answered with that of ours that is of its kind and transport, in the
    same place if possible. Codecs that the offer lacks are dropped, and directions turned round;
    all else stays as it is, to the octet. What ours does not have is rejected.

    :param local: our last description, as the application gave it; what describes no session is
        given back.
    :param offer: the peer's new one. A stream whose line cannot be read is rejected.
    """
    made = Sdp()
    made._session._ending = local._end()
    made._lines[:] = local._lines
    for stream, ours in zip(offer.media, _partners(local.media, offer.media), strict=True):
        media = (
            None
            if ours is None or not stream._is_live()
            else Media(made._session, list(ours._lines))
        )
        if media is None or not _keep_common(media, stream):
            _add_rejected(made, stream)
            continue
        media._close(len(media._lines))
        made._append(media)
        _keep_mid(media, stream)
        before = ours.direction if ours is not None else media.direction
        after = mirrored(stream.wanted, before)
        if after != before:
            media.direction = after
    if made._media:
        made._close(len(made._lines))
        _regroup(made)
    return made


def _partners(ours: Sequence[Media], theirs: Sequence[Media]) -> list[Media | None]:
    """Find the stream of ours that answers each of theirs."""
    keys = [_kind_of(stream) for stream in theirs]
    found: list[Media | None] = [None] * len(theirs)
    free: dict[tuple[str, str], deque[Media]] = {}
    for at, stream in enumerate(ours):
        key = _kind_of(stream)
        if key is None:
            continue
        if at < len(theirs) and keys[at] == key:
            found[at] = stream
        else:
            free.setdefault(key, deque()).append(stream)
    if free:
        for at, wanted in enumerate(keys):
            if found[at] is None and wanted is not None and free.get(wanted):
                found[at] = free[wanted].popleft()
    return found


def _kind_of(stream: Media) -> tuple[str, str] | None:
    parts = stream._legible()
    return None if parts is None else (parts[0].lower(), parts[3].upper())


def _keep_common(media: Media, stream: Media) -> bool:
    """Drop the formats that the peer does not offer; say whether the stream still carries media."""
    if not media._is_live():
        return False
    if media.is_rtp:
        known = set(stream._encodings().values())
        ours = media._encodings()
        kept = {payload for payload, encoding in ours.items() if encoding in known}
        if len(kept) < len(ours):
            media._filter(lambda codec: codec.payload in kept)
            return bool(kept) and media._is_live()
        return not all(ours[payload][0] in AUXILIARY for payload in kept)
    offered = {name.lower() for name in stream.formats}
    common = [name for name in media.formats if name.lower() in offered]
    if len(common) != len(media.formats):
        media._write(formats=common)
    return bool(common)


def _regroup(made: Sdp) -> None:
    """Let groups name the streams as the answer does, without those that are rejected."""
    groups = [(at, value) for at, name, value in made._attributes() if name == "group"]
    if not groups:
        return
    known = {one.get("mid") for one in made._media if one._is_live()}
    for at, value in groups:
        kind, *members = value.split() or ("",)
        kept = [member for member in members if member in known]
        if kept != members:
            made._replace(at, "a", " ".join([f"group:{kind}", *kept]))


def refuse(offer: Sdp, address: str = "127.0.0.1") -> Sdp:
    """Answer an offer with a refusal of all its streams.

    :param address: of the o= and c= lines.
    :raises LocalProtocolError: for what is no IP address.
    """
    made = _head(offer, "1", 1, family_of(address), address)
    for stream in offer.media:
        _add_rejected(made, stream)
    return made


def _head(offer: Sdp, session_id: str, version: int, family: str, address: str) -> Sdp:
    lines = [
        "v=0",
        f"o=- {session_id} {version} IN {family} {address}",
        "s=-",
        f"c=IN {family} {address}",
        f"t={_one_line(offer.value('t') or '0 0')}",
    ]
    return Sdp("".join(f"{line}\r\n" for line in lines))


def _add_rejected(made: Sdp, stream: Media) -> None:
    """Reject a stream in its place, as far as its line can be read (RFC 3264 section 6)."""
    words = _one_line(stream._text(0)).split()
    kind, _, protocol, *formats = words + ["audio", "0", "RTP/AVP", "0"][len(words) :]
    line = f"{kind} 0 {protocol} {' '.join(formats)}"
    _keep_mid(made.add_media(line), stream)


def _keep_mid(media: Media, stream: Media) -> None:
    """Name a stream as the offer does (RFC 5888 section 9.1)."""
    name = stream.get("mid")
    if name and media.get("mid") != name:
        media.set("mid", _one_line(name))


def _one_line(text: str) -> str:
    """Return text of the peer without what would end the line."""
    return text.replace("\r", " ").replace("\0", "")
