"""A whole session description."""

from __future__ import annotations

import re
from collections.abc import Iterable

from drachtwist.errors import LocalProtocolError, SdpError
from drachtwist.sip.sdp.sections import Section, checked_text
from drachtwist.sip.sdp.streams import Media, _written
from drachtwist.sip.sdp.values import Connection, Direction, Origin, receives

__all__ = ["Sdp"]

_LINES = re.compile(r"[^\n]*\n|[^\n]+")


class Sdp(Section):
    """A session description. It is what it was parsed from, to the octet, but for what is edited.

    The views of the session's part are those of this object; each stream in :attr:`media` has the
    same ones.
    """

    __slots__ = ("_ending", "_media")

    _order = "vosiuepcbtrzka"

    def __init__(self, text: str | bytes = "") -> None:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        lines = _LINES.findall(text)
        self._ending = "\n" if lines and re.search(r"[^\r]\n\Z", lines[0]) else "\r\n"
        starts = [at for at, line in enumerate(lines) if line.startswith("m=")]
        ends = [*starts, len(lines)]
        super().__init__(lines[: ends[0]])
        self._media = [
            Media(self, lines[start:end]) for start, end in zip(starts, ends[1:], strict=True)
        ]

    @classmethod
    def parse(cls, text: str | bytes) -> Sdp:
        """Read a description. Any text will do: what is odd is kept as it is."""
        return cls(text)

    def __str__(self) -> str:
        parts = ["".join(self._lines)]
        parts += ["".join(media._lines) for media in self._media]
        return "".join(parts)

    def __bytes__(self) -> bytes:
        return str(self).encode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        return f"<Sdp {self.value('o') or '?'}, {len(self._media)} streams>"

    def _number(self, at: int) -> int:
        return at + 1

    def _first_line(self, media: Media) -> int:
        at = len(self._lines) + 1
        for one in self._media:
            if one is media:
                break
            at += len(one._lines)
        return at

    def _end(self) -> str:
        return self._ending

    # The session

    @property
    def origin(self) -> Origin:
        """Who made it, and which version it is.

        :raises SdpError: when there is none, or it cannot be read.
        """
        at = self._find("o")
        if at is None:
            raise SdpError("there is no o= line", None)
        try:
            return Origin.parse(self._text(at))
        except SdpError as error:
            raise SdpError(error.text, self._number(at)) from None

    @origin.setter
    def origin(self, origin: Origin) -> None:
        self._put("o", str(origin))

    def bump_version(self) -> None:
        """Say that something has changed (RFC 3264 section 8).

        :raises SdpError: as :attr:`origin` does.
        """
        old = self.origin
        self.origin = Origin(
            old.username, old.session_id, old.version + 1, old.nettype, old.addrtype, old.address
        )

    def is_refresh_of(self, before: Sdp) -> bool:
        """Whether origin and version say that nothing has changed since."""
        try:
            return self.origin == before.origin
        except SdpError:
            return False

    @property
    def connection(self) -> Connection | None:
        """Where to send streams that do not say it themselves; None when it is not said.

        :raises SdpError: when the line cannot be read.
        """
        return self._connection()

    @connection.setter
    def connection(self, connection: Connection | str | None) -> None:
        self._put("c", None if connection is None else _written(connection))

    @property
    def direction(self) -> Direction | None:
        """The direction of streams that do not say it themselves; None when it is not said."""
        return self._stated()

    # The streams

    @property
    def media(self) -> list[Media]:
        """The streams, in their order."""
        return list(self._media)

    def streams(self, kind: str) -> list[Media]:
        """Give the streams of a kind that are not rejected."""
        return [one for one in self._media if one.kind == kind and not one.is_rejected]

    def add_media(self, line: str, attributes: Iterable[str] = ()) -> Media:
        """Add a stream at the end.

        :param line: ``audio 49170 RTP/AVP 0``.
        :param attributes: its attributes, ``rtpmap:0 PCMU/8000``.
        :raises LocalProtocolError: for text with CR, LF or NUL.
        """
        last = self._media[-1] if self._media else self
        last._close(len(last._lines))
        lines = [f"m={checked_text(line)}{self._ending}"]
        lines += [f"a={checked_text(one)}{self._ending}" for one in attributes]
        media = Media(self, lines)
        try:
            media._parts()
        except SdpError as error:
            raise LocalProtocolError(error.text) from None
        self._media.append(media)
        return media

    def remove_media(self, media: Media) -> None:
        """Take a stream out; only for a description that was not sent (see :meth:`Media.reject`).

        :raises LocalProtocolError: when it is not one of these streams.
        """
        if media not in self._media:
            raise LocalProtocolError("the stream is not part of this description")
        self._media.remove(media)

    # All streams at once

    @property
    def is_hold(self) -> bool:
        """Whether whoever wrote this wants no media: no stream is to be sent to him."""
        wanted = [one.wanted for one in self._media if not _rejected(one)]
        return bool(wanted) and not any(map(receives, wanted))

    def set_direction(self, direction: Direction) -> None:
        """Give all streams that are not rejected a direction."""
        for one in self._media:
            if not _rejected(one):
                one.direction = direction

    def hold(self) -> None:
        """Want no media any more: all streams become inactive, and the version goes up."""
        self.set_direction("inactive")
        self.bump_version()

    def unhold(self) -> None:
        """Want media again: all streams go both ways, and the version goes up."""
        self.set_direction("sendrecv")
        self.bump_version()

    def keep_codecs(self, *names: str) -> None:
        """Drop all codecs but these from all streams; see :meth:`Media.keep_codecs`."""
        for one in self._media:
            one.keep_codecs(*names)

    def drop_codecs(self, *names: str) -> None:
        """Drop these codecs from all streams; see :meth:`Media.keep_codecs`."""
        for one in self._media:
            one.drop_codecs(*names)

    def prefer_codecs(self, *names: str) -> None:
        """Put these codecs first in all streams."""
        for one in self._media:
            one.prefer_codecs(*names)

    def rewrite_address(self, address: str, *, origin: bool = False) -> None:
        """Let all media go to another address.

        :param address: an IP address.
        :param origin: put it into the o= line too.
        :raises LocalProtocolError: when it is no IP address.
        :raises SdpError: when the o= line cannot be read, if it is wanted.
        """
        connection = Connection.to(address)
        found = False
        for part in (self, *self._media):
            if part._find("c") is not None:
                part._put("c", str(connection))
                found = found or part is self
        if not found and any(one._find("c") is None for one in self._media):
            self.connection = connection
        if origin:
            old = self.origin
            self.origin = Origin(
                old.username, old.session_id, old.version, "IN", connection.addrtype, address
            )

    def black_hole(self) -> None:
        """Let all media go nowhere: 0.0.0.0, port 9, inactive (RFC 3725, RFC 3264 section 8.4)."""
        self.rewrite_address("0.0.0.0")
        for one in self._media:
            if not _rejected(one):
                one.port = 9
                one.direction = "inactive"


def _rejected(media: Media) -> bool:
    try:
        return media.is_rejected
    except SdpError:
        return True
