"""A stream of a session description: its m= line, and the lines that follow it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal

from drachtwist.errors import LocalProtocolError, SdpError
from drachtwist.sip.sdp.ports import Session
from drachtwist.sip.sdp.sections import Section
from drachtwist.sip.sdp.values import (
    RTPMAP,
    STATIC_CODECS,
    STATIC_ENCODINGS,
    Codec,
    Connection,
    Direction,
    direction_of,
    encoding_of,
    receives,
    sends,
)

__all__ = ["Media"]

_MEDIA = re.compile(
    r"([^\s\0]+)[ \t]+([0-9]{1,5})(?:/([0-9]{1,5}))?[ \t]+([^\s\0]+)((?:[ \t]+[^\s\0]+)*)[ \t]*"
).fullmatch
# Kind, port, number of ports, protocol, formats.
_Parts = tuple[str, str, "str | None", str, "list[str]"]
_OF_FORMAT = ("rtpmap", "fmtp", "rtcp-fb")
_REPAIRED = re.compile(r"\bapt=([0-9]+)").search


class Media(Section):
    """A stream. It belongs to its :class:`Sdp`: edits are edits of that."""

    __slots__ = ("_line", "_sdp")

    _order = "micbka"

    def __init__(self, sdp: Session, lines: list[str]) -> None:
        super().__init__(lines)
        self._sdp = sdp
        # The parts of the m= line, once they were read; False while they were not.
        self._line: _Parts | Literal[False] | None = False

    def __repr__(self) -> str:
        return f"<Media {self._text(0)}>"

    def _number(self, at: int) -> int:
        return self._sdp._first_line(self) + at

    def _end(self) -> str:
        return self._sdp._end()

    def _changed(self) -> None:
        self._line = False
        self._sdp._changed()

    # The m= line

    def _legible(self) -> _Parts | None:
        """Return the parts of the m= line, None when it cannot be read."""
        line = self._line
        if line is False:
            line = None
            found = _MEDIA(self._text(0))
            if found is not None and int(found[2]) <= 65535:
                kind, port, count, protocol, formats = found.groups()
                line = kind, port, count, protocol, formats.split()
            self._line = line
        return line

    def _parts(self) -> _Parts:
        parts = self._legible()
        if parts is None:
            raise SdpError(f"not a media line: {self._lines[0].rstrip()!r}", self._number(0))
        return parts

    def _is_live(self) -> bool:
        """Return whether the stream is wanted, and its m= line can be read."""
        parts = self._legible()
        return parts is not None and (int(parts[1]) != 0 or self.has("bundle-only"))

    def _write(self, port: int | None = None, formats: Iterable[str] | None = None) -> None:
        kind, old, count, protocol, present = self._parts()
        number = old if port is None else str(port)
        several = f"/{count}" if count and number != "0" else ""
        joined = " ".join(present if formats is None else formats)
        self._replace(0, "m", f"{kind} {number}{several} {protocol} {joined}".rstrip())

    @property
    def kind(self) -> str:
        """``audio``, ``video``, ``image``, ``message``, ...

        :raises SdpError: when the m= line cannot be read; so do the others.
        """
        return self._parts()[0]

    @property
    def port(self) -> int:
        """The port; 0 when the stream is rejected, or not offered any more."""
        return int(self._parts()[1])

    @port.setter
    def port(self, port: int) -> None:
        if not 0 <= port <= 65535:
            raise LocalProtocolError(f"not a port: {port!r}")
        self._write(port)

    @property
    def port_count(self) -> int:
        """How many ports, as in ``49170/2``."""
        return int(self._parts()[2] or 1)

    @property
    def protocol(self) -> str:
        """``RTP/AVP``, ``UDP/TLS/RTP/SAVPF``, ``udptl``, ..."""
        return self._parts()[3]

    @property
    def formats(self) -> list[str]:
        """The formats: payload types for RTP, the first the one that is liked best."""
        return list(self._parts()[4])

    @property
    def is_rejected(self) -> bool:
        """Whether the stream is not wanted; one that is ``bundle-only`` is (RFC 9143 section 6)."""
        return self.port == 0 and not self.has("bundle-only")

    @property
    def is_rtp(self) -> bool:
        """Whether the formats are payload types."""
        return "RTP" in self.protocol.upper().split("/")

    def reject(self) -> None:
        """Want the stream no more; the line stays, since streams are told apart by their place."""
        self.remove("bundle-only")
        self._write(0)

    # Connection and direction

    @property
    def connection(self) -> Connection | None:
        """Where to send the stream: its own address, or that of the session.

        :raises SdpError: when the line cannot be read.
        """
        return self._connection() or self._sdp.connection

    @connection.setter
    def connection(self, connection: Connection | str | None) -> None:
        self._put("c", None if connection is None else _written(connection))

    @property
    def direction(self) -> Direction:
        """The direction: its own, or that of the session, or ``sendrecv``."""
        return self._stated() or self._sdp.direction or "sendrecv"

    @direction.setter
    def direction(self, direction: Direction) -> None:
        self._state(direction)

    @property
    def wanted(self) -> Direction:
        """The direction, with the address 0.0.0.0 taken as "send me nothing" (RFC 3264 8.4).

        Where ICE finds the addresses, that one is a placeholder (RFC 8829 section 5.2.1); of a
        stream that is no RTP it says nothing either.
        """
        direction = self.direction
        if not receives(direction) or not self._goes_nowhere():
            return direction
        return direction_of(sends(direction), False)

    def _goes_nowhere(self) -> bool:
        nowhere = self._is_nowhere()
        if nowhere is None:
            nowhere = self._sdp._facts().nowhere
        if not nowhere or self._sdp._facts().has_ice or not _names_rtp(self._text(0)):
            return False
        return not any(name in ("ice-ufrag", "bundle-only") for _, name, _ in self._attributes())

    # Codecs

    @property
    def codecs(self) -> list[Codec]:
        """The formats of an RTP stream, with what is known of each; nothing for others."""
        if not self.is_rtp:
            return []
        named: dict[str, Codec] = {}
        for text in self.get_all("rtpmap"):
            try:
                codec = Codec.parse(text)
            except SdpError:
                continue
            named.setdefault(codec.payload, codec)
        fmtps: dict[str, str] = {}
        for text in self.get_all("fmtp"):
            payload, _, rest = text.partition(" ")
            fmtps.setdefault(payload, rest.strip())
        found = []
        for payload in self.formats:
            known = named.get(payload) or STATIC_CODECS.get(payload) or Codec(payload, "")
            fmtp = fmtps.get(payload, "")
            found.append(Codec(payload, known.name, known.rate, known.channels, fmtp))
        return found

    def _encodings(self) -> dict[str, tuple[str, int, int]]:
        """Return what tells encodings apart, by payload type; as :attr:`codecs`, but faster."""
        named: dict[str, tuple[str, int, int]] = {}
        for line in self._lines:
            if line.startswith("a=rtpmap:"):
                found = RTPMAP(line[9:].strip())
                if found is not None:
                    named.setdefault(found[1], encoding_of(found[2], found[3], found[4]))
        return {
            payload: named.get(payload) or STATIC_ENCODINGS.get(payload) or (payload, 8000, 1)
            for payload in self.formats
        }

    def keep_codecs(self, *names: str) -> None:
        """Drop all codecs but these; a stream without any that carries media is rejected.

        :param names: ``PCMU``, ``opus/48000``, ``telephone-event``, in any case.
        """
        self._filter(lambda codec: any(codec.matches(name) for name in names))

    def drop_codecs(self, *names: str) -> None:
        """Drop these codecs; see :meth:`keep_codecs`."""
        self._filter(lambda codec: not any(codec.matches(name) for name in names))

    def prefer_codecs(self, *names: str) -> None:
        """Put these codecs first, in this order."""
        codecs = self.codecs
        if not codecs:
            return

        def rank(codec: Codec) -> int:
            return next((at for at, name in enumerate(names) if codec.matches(name)), len(names))

        self._write(formats=[codec.payload for codec in sorted(codecs, key=rank)])

    def _filter(self, wanted: Callable[[Codec], bool]) -> None:
        codecs = self.codecs if self._is_live() else []
        if not codecs:
            return
        payloads = {codec.payload for codec in codecs if wanted(codec)}
        kept = []
        for codec in codecs:
            if codec.payload in payloads:
                # What repairs or protects a format that is gone has nothing left to do.
                found = _REPAIRED(codec.fmtp)
                if found is not None and found[1] not in payloads:
                    payloads.discard(codec.payload)
                else:
                    kept.append(codec)
        if all(codec.is_auxiliary for codec in kept):
            self.reject()
            return
        if len(kept) == len(codecs):
            return
        self._write(formats=[codec.payload for codec in kept])
        gone = {codec.payload for codec in codecs} - payloads
        self._delete(
            at
            for at, name, value in self._attributes()
            if name in _OF_FORMAT and payload_of(value) in gone
        )


def payload_of(value: str) -> str:
    """Return the payload type that an rtpmap, fmtp or rtcp-fb attribute is about."""
    return value.split(None, 1)[0] if value else ""


def _names_rtp(line: str) -> bool:
    words = line.split(None, 3)
    return len(words) > 2 and "RTP" in words[2].upper().split("/")


def _written(connection: Connection | str) -> str:
    return str(Connection.to(connection) if isinstance(connection, str) else connection)
