"""The values that lines of a session description hold."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal, cast

from drachtwist.errors import LocalProtocolError, SdpError

__all__ = [
    "AUXILIARY",
    "RTPMAP",
    "STATIC_CODECS",
    "STATIC_ENCODINGS",
    "Codec",
    "Connection",
    "Direction",
    "Origin",
    "as_direction",
    "direction_of",
    "encoding_of",
    "family_of",
    "mirrored",
    "receives",
    "sends",
]

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
"""Which way media go, as whoever wrote the description sees it (RFC 8866 section 6.7)."""

_DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")

# RFC 8866 section 9: what could not be written again.
_NOT_IN_LINE = re.compile("[\r\n\0]").search
_NUMBER = re.compile(r"[0-9]{1,20}").fullmatch
RTPMAP = re.compile(r"([0-9]{1,3})[ \t]+([^\s/]+)/([0-9]{1,9})(?:/([^\s/]+))?").fullmatch


def as_direction(text: str) -> Direction | None:
    """Return the direction that an attribute names, None when it is about something else."""
    return cast(Direction, text) if text in _DIRECTIONS else None


def sends(direction: Direction) -> bool:
    """Return whether who says this wants to send."""
    return direction in ("sendrecv", "sendonly")


def receives(direction: Direction) -> bool:
    """Return whether who says this wants to receive."""
    return direction in ("sendrecv", "recvonly")


def direction_of(sending: bool, receiving: bool) -> Direction:
    """Return the direction of who sends, receives, does both or neither."""
    if sending:
        return "sendrecv" if receiving else "sendonly"
    return "recvonly" if receiving else "inactive"


def mirrored(offered: Direction, willing: Direction = "sendrecv") -> Direction:
    """Return the direction to answer with (RFC 3264 section 6.1).

    :param offered: what the other side wants.
    :param willing: what we would do.
    """
    return direction_of(receives(offered) and sends(willing), sends(offered) and receives(willing))


def family_of(address: str) -> str:
    """Return the address type of an IP address, ``IP4`` or ``IP6``.

    :raises LocalProtocolError: when it is no IP address.
    """
    try:
        return f"IP{ipaddress.ip_address(address).version}"
    except ValueError:
        raise LocalProtocolError(f"not an IP address: {address!r}") from None


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made a session, and how often it has changed since: the value of an o= line."""

    username: str
    session_id: str
    version: int
    nettype: str = "IN"
    addrtype: str = "IP4"
    address: str = "127.0.0.1"

    @classmethod
    def parse(cls, text: str) -> Origin:
        """Read what follows ``o=``; a user name with blanks, which is none, is taken as one.

        :raises SdpError: when it is no origin.
        """
        words = text.rsplit(None, 5)
        if len(words) != 6 or _NUMBER(words[2]) is None or _NOT_IN_LINE(text):
            raise SdpError(f"not an origin: {text!r}")
        username, session_id, version, nettype, addrtype, address = words
        return cls(username, session_id, int(version), nettype, addrtype, address)

    def is_same_session(self, other: Origin) -> bool:
        """Return whether both are of one session, whatever the versions (RFC 8866 section 5.2)."""
        return self._session() == other._session()

    def _session(self) -> tuple[str, ...]:
        return (self.username, self.session_id, self.nettype, self.addrtype, self.address)

    def __str__(self) -> str:
        return (
            f"{self.username} {self.session_id} {self.version} "
            f"{self.nettype} {self.addrtype} {self.address}"
        )


@dataclass(frozen=True, slots=True)
class Connection:
    """Where to send media: the value of a c= line."""

    address: str
    addrtype: str = "IP4"
    nettype: str = "IN"
    scope: str = ""
    """What follows the address of a multicast group: time to live, number of addresses."""

    @classmethod
    def parse(cls, text: str) -> Connection:
        """Read what follows ``c=``.

        :raises SdpError: when it is no connection.
        """
        words = text.split()
        if len(words) != 3 or _NOT_IN_LINE(text):
            raise SdpError(f"not a connection: {text!r}")
        nettype, addrtype, address = words
        address, _, scope = address.partition("/")
        return cls(address, addrtype, nettype, scope)

    @classmethod
    def to(cls, address: str) -> Connection:
        """Make the connection of an IP address; the family follows from it.

        :raises LocalProtocolError: when it is no IP address.
        """
        return cls(address, family_of(address))

    @property
    def is_nowhere(self) -> bool:
        """Whether this is an address that asks for no media (RFC 3264 section 8.4).

        That is 0.0.0.0 or ::, however they are written, or a name that cannot exist, as RFC 6157
        section 5.1 has it for IPv6.
        """
        return not self.address.strip("0.:") or self.address.lower().endswith(".invalid")

    def __str__(self) -> str:
        scope = f"/{self.scope}" if self.scope else ""
        return f"{self.nettype} {self.addrtype} {self.address}{scope}"


def encoding_of(name: str, rate: str, channels: str | None) -> tuple[str, int, int]:
    """Return what tells encodings apart: the name in lower case, clock rate and channels.

    What follows the rate is a number of channels for audio only.
    """
    count = int(channels) if channels is not None and _NUMBER(channels) else 1
    return name.lower(), int(rate), count


@dataclass(frozen=True, slots=True)
class Codec:
    """A media format of an RTP stream, with what rtpmap and fmtp say of it."""

    payload: str
    """The payload type, as the m= line has it."""
    name: str
    """The encoding's name; empty when nothing says what the payload type stands for."""
    rate: int = 8000
    """The clock rate."""
    channels: int = 1
    fmtp: str = ""
    """The format's parameters, as they are written."""

    @classmethod
    def parse(cls, text: str) -> Codec:
        """Read the value of an rtpmap attribute.

        :raises SdpError: when it is none.
        """
        found = RTPMAP(text)
        if found is None:
            raise SdpError(f"not an rtpmap: {text!r}")
        _, rate, channels = encoding_of(found[2], found[3], found[4])
        return cls(found[1], found[2], rate, channels)

    def matches(self, wanted: str) -> bool:
        """Return whether a name means this codec.

        :param wanted: ``opus``, ``opus/48000`` or ``opus/48000/2``; case does not matter.
        """
        words = wanted.lower().split("/")
        return words == [self.name.lower(), str(self.rate), str(self.channels)][: len(words)]

    @property
    def is_auxiliary(self) -> bool:
        """Whether this carries no media of its own: keys, silence, repairs."""
        return self.name.lower() in AUXILIARY

    def __str__(self) -> str:
        channels = f"/{self.channels}" if self.channels != 1 else ""
        return f"{self.payload} {self.name}/{self.rate}{channels}"


AUXILIARY = frozenset("telephone-event tone cn rtx red ulpfec flexfec flexfec-03 parityfec".split())
"""Encodings that carry no media of their own."""

STATIC_CODECS = {
    codec.payload: codec
    for codec in map(
        Codec.parse,
        """
        0 PCMU/8000,3 GSM/8000,4 G723/8000,5 DVI4/8000,6 DVI4/16000,7 LPC/8000,8 PCMA/8000,
        9 G722/8000,10 L16/44100/2,11 L16/44100,12 QCELP/8000,13 CN/8000,14 MPA/90000,
        15 G728/8000,16 DVI4/11025,17 DVI4/22050,18 G729/8000,25 CelB/90000,26 JPEG/90000,
        28 nv/90000,31 H261/90000,32 MPV/90000,33 MP2T/90000,34 H263/90000
        """.replace("\n        ", "")
        .strip()
        .split(","),
    )
}
"""The payload types that need no rtpmap (RFC 3551 section 6)."""

STATIC_ENCODINGS = {
    codec.payload: (codec.name.lower(), codec.rate, codec.channels)
    for codec in STATIC_CODECS.values()
}
