"""What phones say of their sound, and who would hear whom.

There is no sound. What matters to an application that only signals is whether the session
descriptions that it passes on lead the two ends to each other: so each call has a port of its own,
and who is at the other end of a call is found by the address in the description that it got.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Union

from drachtwist.errors import MessageError, SdpError
from drachtwist.sip.message import Message
from drachtwist.sip.sdp import Media, Sdp, answer, sdp_of
from drachtwist.sip.sdp.values import receives, sends

__all__ = [
    "DIGITS",
    "OwnSdp",
    "answer_to",
    "event_format",
    "goes",
    "offer_of",
    "place_of",
    "sdp_in",
]

DIGITS = "0123456789*#ABCD"
"""The keys of a phone (RFC 4733 section 3.2)."""

OwnSdp = Union[str, bytes, Sdp, Callable[[Any], "str | bytes | Sdp"], None]  # noqa: UP007
"""A session description, or a function of the call that writes one."""

CODECS = ("PCMU", "PCMA", "telephone-event")


def offer_of(name: str, host: str, port: int, version: int, direction: str = "sendrecv") -> str:
    """Write what a phone offers: PCMU, PCMA, and keys as RFC 4733 events."""
    lines = [
        "v=0",
        f"o={name} 1 {version} IN {'IP6' if ':' in host else 'IP4'} {host}",
        "s=-",
        f"c=IN {'IP6' if ':' in host else 'IP4'} {host}",
        "t=0 0",
        f"m=audio {port} RTP/AVP 0 8 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:8 PCMA/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=fmtp:101 0-15",
        f"a={direction}",
    ]
    return "\r\n".join([*lines, ""])


def answer_to(
    offer: Sdp, name: str, host: str, port: int, version: int, direction: Any = "sendrecv"
) -> str:
    """Answer an offer with what a phone can do."""
    ports = [port + 2 * number for number, _ in enumerate(offer.media)]
    made = answer(offer, host, ports=ports, codecs=CODECS, willing=direction, version=version)
    return str(made)


def sdp_in(message: Message) -> Sdp | None:
    """Return the session description of a message; None if it has none that can be read."""
    if not message.body:
        return None
    try:
        return sdp_of(message)
    except MessageError:
        return None


def _sound(sdp: Sdp | None) -> Media | None:
    """Return the first stream that is wanted."""
    if sdp is None:
        return None
    try:
        return next((one for one in sdp.media if not one.is_rejected), None)
    except SdpError:
        return None


def place_of(sdp: Sdp | None) -> tuple[str, int] | None:
    """Return where sound is to be sent: host and port; None for nowhere."""
    stream = _sound(sdp)
    if sdp is None or stream is None:
        return None
    try:
        connection = stream.connection
        return None if connection is None else (connection.address, stream.port)
    except SdpError:
        return None


def goes(local: Sdp | None, remote: Sdp | None) -> bool:
    """Return whether sound goes out, by what both sides have said."""
    mine, theirs = _sound(local), _sound(remote)
    if mine is None or theirs is None:
        return False
    return sends(mine.direction) and receives(theirs.direction)


def event_format(sdp: Sdp | None) -> str | None:
    """Return the payload type of ``telephone-event`` (RFC 4733); None if it is not there."""
    stream = _sound(sdp)
    if stream is None:
        return None
    for codec in stream.codecs:
        if codec.name.lower() == "telephone-event":
            return codec.payload
    return None
