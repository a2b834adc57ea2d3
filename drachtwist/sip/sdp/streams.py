"""One stream of a session description: its m= line and what follows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from drachtwist.errors import LocalProtocolError, SdpError
from drachtwist.sip.sdp.sections import Section, checked_text
from drachtwist.sip.sdp.values import (
    STATIC_CODECS,
    Codec,
    Connection,
    Direction,
    direction_of,
    receives,
    sends,
)

if TYPE_CHECKING:
    from drachtwist.sip.sdp.description import Sdp

__all__ = ["Format", "Media", "codec_named", "written_format"]

Format = str | int | Codec
"""A format to write: a payload type, a codec, or the name of one that has a static type."""

# Kind, blanks, port, number of ports, blanks, protocol, formats.
_MEDIA = re.compile(r"([^\s/]+)([ \t]+)([0-9]{1,5})(?:/([0-9]{1,5}))?([ \t]+)(\S+)(.*)").fullmatch
_ZERO_PORT = re.compile(r"\S+[ \t]+0+(?:/[0-9]*)?(?:[ \t]|$)").match
_PAYLOAD = re.compile(r"a=(?:rtpmap|fmtp|rtcp-fb|imageattr|framesize):[ \t]*([0-9]+)(?![0-9])").match
_APT = re.compile(r"(?:^|[;\s])apt=([0-9]+)").search


class Media(Section):
    """One stream of a description.

    What the stream does not say itself it takes from the session: direction and connection.
    """

    __slots__ = ("_sdp",)

    _order = "micbka"
    _sdp: Sdp

    def __init__(self, sdp: Sdp, lines: list[str]) -> None:
        super().__init__(lines)
        self._sdp = sdp

    def __repr__(self) -> str:
        return f"<Media {self.lines[0]}>"

    def _number(self, at: int) -> int:
        return self._sdp._number_of(self) + at

    def _end(self) -> str:
        return self._sdp._end()

    # The m= line

    def _line(self) -> re.Match[str]:
        found = _MEDIA(self._text(0))
        if found is None:
            raise SdpError(f"not a media description: {self._text(0)!r}", self._number(0))
        return found

    @property
    def kind(self) -> str:
        """``audio``, ``video``, ``image``, ``application``, ``message``; lower case.

        Empty when the line has nothing, so this can always be asked for.
        """
        return (self._text(0).split() or [""])[0].lower()

    @property
    def port(self) -> int:
        """The port; 0 for a stream that is rejected.

        :raises SdpError: when the line cannot be read; when assigned
            :class:`~drachtwist.errors.LocalProtocolError` for what is no port.
        """
        port = int(self._line()[3])
        if port > 65535:
            raise SdpError(f"not a port: {port}", self._number(0))
        return port

    @port.setter
    def port(self, port: int) -> None:
        if not 0 <= port <= 65535:
            raise LocalProtocolError(f"not a port: {port}")
        found = self._line()
        count = f"/{found[4]}" if found[4] and port else ""
        self._replace(
            0, "m", f"{found[1]}{found[2]}{port:d}{count}{found[5]}{found[6]}{found[7]}"
        )

    @property
    def port_count(self) -> int:
        """How many ports, or pairs of ports for RTP, the stream takes: 1 unless it says more.

        :raises SdpError: when the line cannot be read.
        """
        return int(self._line()[4] or 1)

    @property
    def protocol(self) -> str:
        """The transport protocol, such as ``RTP/AVP``.

        :raises SdpError: when the line cannot be read.
        """
        return self._line()[6]

    @protocol.setter
    def protocol(self, protocol: str) -> None:
        if not protocol or any(each.isspace() for each in protocol):
            raise LocalProtocolError(f"not a transport protocol: {protocol!r}")
        found = self._line()
        count = f"/{found[4]}" if found[4] else ""
        self._replace(
            0, "m", f"{found[1]}{found[2]}{found[3]}{count}{found[5]}{protocol}{found[7]}"
        )

    @property
    def formats(self) -> list[str]:
        """The formats: payload types for RTP, for others what the protocol says.

        :raises SdpError: when the line cannot be read.
        """
        return self._line()[7].split()

    @formats.setter
    def formats(self, formats: Iterable[str]) -> None:
        words = [checked_text(each) for each in formats]
        if not words or any(not word or word.split() != [word] for word in words):
            raise LocalProtocolError(f"not formats of a stream: {words!r}")
        text = self._text(0)
        head = text[: len(text) - len(self._line()[7])]
        self._replace(0, "m", f"{head} {' '.join(words)}")

    @property
    def is_rtp(self) -> bool:
        """Whether the formats are payload types.

        :raises SdpError: when the m= line cannot be read.
        """
        return "RTP" in self.protocol.upper().split("/")

    @property
    def is_rejected(self) -> bool:
        """Whether the port is 0: the stream is refused, or over (RFC 3264 sections 6 and 8.2).

        A stream that only shares another one's port is not (``a=bundle-only``, RFC 9143).
        """
        return _ZERO_PORT(self._text(0)) is not None and not self.has("bundle-only")

    def reject(self) -> None:
        """Refuse the stream, or end it: port 0, and out of the groups of the session.

        :raises SdpError: when the m= line cannot be read.
        """
        self.port = 0
        self.remove("bundle-only")
        name = self.get("mid")
        if name:
            self._sdp._ungroup(name)

    # Where and whether media go

    @property
    def connection(self) -> Connection | None:
        """Where to send media: what the stream says, or else the session; None if neither does.

        Assigning sets what the stream says, and None removes that.

        :raises SdpError: when the line cannot be read.
        """
        return self._connection() or self._sdp._connection()

    @connection.setter
    def connection(self, connection: Connection | None) -> None:
        self._put("c", None if connection is None else str(connection))

    @property
    def direction(self) -> Direction:
        """The direction that is stated here, or for the session, or else ``sendrecv``."""
        return self._stated() or self._sdp.direction

    @direction.setter
    def direction(self, direction: Direction) -> None:
        if self._stated() is not None or self._sdp.direction != direction:
            self._state(direction)

    @property
    def wanted_direction(self) -> Direction:
        """The direction, with a connection to 0.0.0.0 taken as "do not send to me"."""
        nowhere = self._is_nowhere()
        if nowhere is None:
            nowhere = self._sdp._is_nowhere()
        direction = self.direction
        return direction_of(sends(direction), receives(direction) and not nowhere)

    @property
    def is_hold(self) -> bool:
        """Whether whoever wrote this wants to receive nothing (RFC 3264 section 8.4)."""
        return not receives(self.wanted_direction)

    # Codecs

    def rtpmap(self, payload: str | int) -> Codec | None:
        """Give what a payload type stands for, from the rtpmap or the static types.

        :returns: None when neither knows it.
        :raises SdpError: when the rtpmap cannot be read.
        """
        payload = str(payload)
        for at, name, value in self._attributes():
            if name == "rtpmap" and (value.split() or [""])[0] == payload:
                try:
                    return Codec.parse(value)
                except SdpError as error:
                    raise SdpError(error.text, self._number(at)) from None
        return STATIC_CODECS.get(payload)

    def fmtp(self, payload: str | int) -> str | None:
        """Give the parameters of a format as they are written, None when there are none."""
        for value in self.get_all("fmtp"):
            words = value.split(None, 1)
            if words and words[0] == str(payload):
                return words[1] if len(words) > 1 else ""
        return None

    def set_fmtp(self, payload: str | int, parameters: str | None) -> None:
        """Set the parameters of a format.

        :param parameters: as they are to be written, None to remove them.
        """
        places = [
            at
            for at, name, value in self._attributes()
            if name == "fmtp" and value.split()[:1] == [str(payload)]
        ]
        if parameters is None:
            for at in reversed(places):
                del self._lines[at]
        elif places:
            self._replace(places[0], "a", f"fmtp:{payload} {parameters}")
        else:
            self.add("fmtp", f"{payload} {parameters}")

    @property
    def codecs(self) -> list[Codec]:
        """The formats of an RTP stream, the preferred one first; none for other streams.

        A format that nothing explains has an empty name.

        :raises SdpError: when the m= line or an rtpmap cannot be read.
        """
        if not self.is_rtp:
            return []
        found = []
        for payload in self.formats:
            codec = self.rtpmap(payload) or Codec(payload, "", 0)
            fmtp = self.fmtp(payload)
            if fmtp:
                codec = Codec(payload, codec.name, codec.rate, codec.channels, fmtp)
            found.append(codec)
        return found

    def add_codec(self, codec: Codec) -> None:
        """Offer one more codec, as the least preferred one.

        :raises LocalProtocolError: when the stream has its payload type already.
        """
        formats = self.formats
        if codec.payload in formats:
            raise LocalProtocolError(f"payload type {codec.payload} is taken")
        self.formats = [*formats, codec.payload]
        self._explain(codec)

    def _explain(self, codec: Codec) -> None:
        self.add("rtpmap", str(codec))
        if codec.fmtp:
            self.add("fmtp", f"{codec.payload} {codec.fmtp}")

    def keep_codecs(self, *names: str) -> None:
        """Keep only these codecs.

        The others go with the lines that are about them, and what repairs them goes too. A stream
        that has nothing left but keys and silence is rejected. Streams that are not RTP have no
        codecs, and stay.

        :param names: as for :meth:`Codec.matches`.
        :raises SdpError: when the m= line or an rtpmap cannot be read.
        """
        self._keep(lambda codec: any(map(codec.matches, names)))

    def drop_codecs(self, *names: str) -> None:
        """Remove these codecs; otherwise as :meth:`keep_codecs`."""
        self._keep(lambda codec: not any(map(codec.matches, names)))

    def prefer_codecs(self, *names: str) -> None:
        """Move these codecs to the front, in this order; the others keep theirs.

        :raises SdpError: when the m= line or an rtpmap cannot be read.
        """
        codecs = self.codecs
        if not codecs:
            return

        def rank(codec: Codec) -> int:
            return next((at for at, name in enumerate(names) if codec.matches(name)), len(names))

        ordered = sorted(codecs, key=rank)
        if ordered != codecs:
            self.formats = [codec.payload for codec in ordered]

    def _keep(self, wanted: Callable[[Codec], bool]) -> None:
        if self.is_rejected:
            return
        codecs = self.codecs
        kept = [codec for codec in codecs if wanted(codec)]
        alive = {codec.payload for codec in kept}
        kept = [codec for codec in kept if _repaired(codec) in (None, *alive)]
        if len(kept) == len(codecs):
            return
        if all(codec.is_auxiliary for codec in kept) and not all(
            codec.is_auxiliary for codec in codecs
        ):
            kept = []
        if not kept:
            self.reject()
            return
        self.formats = [codec.payload for codec in kept]
        gone = {codec.payload for codec in codecs} - {codec.payload for codec in kept}
        self._lines[:] = [line for line in self._lines if _payload(line) not in gone]


def _payload(line: str) -> str | None:
    """Give the payload type that a line is about."""
    found = _PAYLOAD(line)
    return None if found is None else found[1]


def _repaired(codec: Codec) -> str | None:
    """Give the payload type that a format sends again (RFC 4588)."""
    found = _APT(codec.fmtp) if codec.name.lower() == "rtx" else None
    return None if found is None else found[1]


def codec_named(name: str) -> Codec:
    """Give the codec that has a static payload type.

    :raises LocalProtocolError: when there is none of that name.
    """
    for codec in STATIC_CODECS.values():
        if codec.matches(name):
            return codec
    raise LocalProtocolError(f"no static payload type for {name!r}: say which with a Codec")


def written_format(each: Format, is_rtp: bool) -> tuple[str, Codec | None]:
    """Give the word for the m= line, and the codec to explain.

    :raises LocalProtocolError: when there is no such format.
    """
    if isinstance(each, Codec):
        return each.payload, each
    text = str(each)
    if not is_rtp or text.isdecimal():
        return text, STATIC_CODECS.get(text) if is_rtp else None
    codec = codec_named(text)
    return codec.payload, codec
