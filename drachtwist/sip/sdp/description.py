"""A whole session description."""

from __future__ import annotations

import re
from collections.abc import Iterable

from drachtwist.errors import LocalProtocolError, SdpError
from drachtwist.sip.sdp.sections import Section, checked_text, text_of
from drachtwist.sip.sdp.session import SessionPart
from drachtwist.sip.sdp.streams import Media
from drachtwist.sip.sdp.values import Connection, Direction, Origin, receives

__all__ = ["Sdp"]

_LINES = re.compile(r"[^\n]*\n|[^\n]+")
_OF_TRANSPORT = ("ice-ufrag", "ice-pwd", "ice-options", "fingerprint", "setup", "tls-id", "crypto")
"""What a session may say for all its streams, and a stream cannot do without."""


class Sdp(Section):
    """A session description. It is what it was parsed from, to the octet, but for what is edited.

    The views of the session's part are those of this object; each stream in :attr:`media` has the
    same ones.
    """

    __slots__ = ("_media", "_session")

    _order = "vosiuepcbtrzka"

    def __init__(self, text: str | bytes = "") -> None:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "surrogateescape")
        lines = _LINES.findall(text)
        is_bare = bool(lines) and lines[0][-1:] == "\n" and lines[0][-2:] not in ("\r\n", "\n")
        starts = [at for at, line in enumerate(lines) if line.startswith("m=")]
        ends = [*starts, len(lines)]
        self._session = session = SessionPart(lines[: ends[0]], "\n" if is_bare else "\r\n")
        super().__init__(session._lines)
        self._media: list[Media] = []
        for start, end in zip(starts, ends[1:], strict=True):
            self._append(Media(session, lines[start:end]))

    @classmethod
    def parse(cls, text: str | bytes) -> Sdp:
        """Read a description; what is odd behind its first line is kept as it is.

        Nothing is an empty description, which a message without one has.

        :raises SdpError: when it does not begin with the version, so that it is none (RFC 8866
            section 5); ``Sdp(text)`` takes any text.
        """
        made = cls(text)
        if text and not (made._lines and made._lines[0].startswith("v=")):
            raise SdpError("no session description: there is no v= line at its beginning", 1)
        return made

    def __str__(self) -> str:
        parts = ["".join(self._lines)]
        parts += ["".join(media._lines) for media in self._media]
        return "".join(parts)

    def __bytes__(self) -> bytes:
        return str(self).encode("utf-8", "surrogateescape")

    def __repr__(self) -> str:
        return f"<Sdp {self.value('o') or '?'}, {len(self._media)} streams>"

    # As for the session's part, whose lines are those of this object.

    def _number(self, at: int) -> int:
        return self._session._number(at)

    def _changed(self) -> None:
        self._session._changed()

    def _place_of_address(self) -> int | None:
        return self._session._place_of_address()

    def _end(self) -> str:
        return self._session._end()

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
        """Return whether origin and version say that nothing has changed since."""
        now, then = self.value("o"), before.value("o")
        if now is None or then is None or now.split() != then.split():
            return False
        try:
            return bool(self.origin)
        except SdpError:
            return False

    @property
    def connection(self) -> Connection | None:
        """Where to send streams that do not say it themselves; None when it is not said.

        :raises SdpError: when the line cannot be read.
        """
        return self._session.connection

    @connection.setter
    def connection(self, connection: Connection | str | None) -> None:
        self._session.connection = connection

    @property
    def direction(self) -> Direction | None:
        """The direction of streams that do not say it themselves; None when it is not said."""
        return self._session.direction

    # The streams

    @property
    def media(self) -> list[Media]:
        """The streams, in their order."""
        return list(self._media)

    def streams(self, kind: str) -> list[Media]:
        """Return the streams of a kind that are not rejected."""
        return [one for one in self._media if one.kind == kind and not one.is_rejected]

    def add_media(self, line: str | Media, attributes: Iterable[str] = ()) -> Media:
        """Add a stream at the end.

        :param line: ``audio 49170 RTP/AVP 0``; or a stream, also of another description, which is
            copied with what its session says of it: address, direction, ICE and keys.
        :param attributes: further attributes, ``rtpmap:0 PCMU/8000``.
        :returns: the new stream.
        :raises LocalProtocolError: for text with CR, LF or NUL, and for what is no media line.
        """
        if isinstance(line, Media):
            media = self._copy(line)
        else:
            media = Media(self._session, [f"m={checked_text(line)}{self._end()}"])
        if media._legible() is None:
            raise LocalProtocolError(f"not a media line: {media._text(0)!r}")
        media._lines += [f"a={checked_text(one)}{self._end()}" for one in attributes]
        last = self._media[-1] if self._media else self
        last._close(len(last._lines))
        self._append(media)
        self._changed()
        return media

    def _append(self, media: Media) -> None:
        self._media.append(media)
        self._session._streams.append(media._lines)

    def _copy(self, stream: Media) -> Media:
        """Copy a stream, perhaps of another description."""
        end = self._end()
        media = Media(self._session, [text_of(line) + end for line in stream._lines])
        there = stream._sdp
        if there is self._session:
            return media
        address = there.value("c")
        if address is not None and media._find("c") is None:
            media._put("c", address)
        direction = there.direction
        if media._stated() is None and direction is not None:
            media._state(direction)
        said = {name for name, _ in stream.attributes}
        for name, value in there.attributes:
            if name in _OF_TRANSPORT and name not in said:
                media.add(name, value)
        return media

    def remove_media(self, media: Media) -> None:
        """Take a stream out; only for a description that was not sent (see :meth:`Media.reject`).

        :raises LocalProtocolError: when it is not one of these streams.
        """
        if media not in self._media:
            raise LocalProtocolError("the stream is not part of this description")
        at = self._media.index(media)
        del self._media[at], self._session._streams[at]
        self._changed()

    # All streams at once

    @property
    def is_hold(self) -> bool:
        """Whether whoever wrote this wants no media: no stream is to be sent to him.

        Beside streams of RTP others do not count: a channel for data goes on while a call is held.
        """
        live = [one for one in self._media if one._is_live()]
        counted = [one for one in live if one.is_rtp] or live
        return bool(counted) and not any(receives(one.wanted) for one in counted)

    @property
    def carries_media(self) -> bool:
        """Whether there is a stream that is not rejected."""
        return any(one._is_live() for one in self._media)

    def set_direction(self, direction: Direction) -> None:
        """Set the direction of all streams that are not rejected."""
        for one in self._media:
            if one._is_live():
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
            if one._is_live():
                one.port = 9
                one.direction = "inactive"
