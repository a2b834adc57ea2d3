"""A session description: the session's part and its streams."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable

from drachtwist.errors import LocalProtocolError, SdpError
from drachtwist.sip.sdp.sections import Section
from drachtwist.sip.sdp.streams import Format, Media, written_format
from drachtwist.sip.sdp.values import Connection, Direction, Origin, family_of

__all__ = ["Sdp"]

_CODEC = ("utf-8", "surrogateescape")
_LINES = re.compile(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+")
# The version, with what is before and behind it. A user name may have blanks, which it must not.
_VERSION = re.compile(r"(.*?[ \t])([0-9]{1,20})((?:[ \t]+[^ \t]+){3}[ \t]*)").fullmatch
_RTCP = re.compile(r"([0-9]+)[ \t]+IN[ \t]+IP[46][ \t]+\S+").fullmatch
_SOUND_AND_PICTURE = ("audio", "video")


class Sdp(Section):
    """A session description that keeps every line it is not asked to change.

    Edits of the whole return the description, so that they can be chained::

        offer = Sdp.parse(body).keep_codecs("PCMU", "telephone-event").hold().bump_version()

    None of them changes the version in the o= line unless it says so, as the number belongs to
    whoever made the description.
    """

    __slots__ = ("_streams",)

    _order = "vosiuepcbtrzka"
    _streams: list[Media]

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def parse(cls, text: str | bytes) -> Sdp:
        """Read a description; nothing is checked before it is asked for, so this never fails."""
        if not isinstance(text, str):
            text = bytes(text).decode(*_CODEC)
        lines: list[str] = []
        sdp = cls(lines)
        streams = sdp._streams
        for line in _LINES.findall(text):
            if line.startswith("m="):
                lines = []
                streams.append(Media(sdp, lines))
            lines.append(line)
        return sdp

    @classmethod
    def make(
        cls,
        address: str,
        *,
        username: str = "-",
        session_id: str | int | None = None,
        version: int = 1,
        name: str = "-",
    ) -> Sdp:
        """Make a description without streams.

        :param address: the IP address, for origin and connection.
        :param session_id: a number for the session, a random one unless given.
        :raises LocalProtocolError: when the address is none, or a value does not fit in a line.
        """
        family = family_of(address)
        if session_id is None:
            session_id = secrets.randbits(62)
        sdp = cls.parse(f"v=0\r\no=\r\ns=\r\nc=IN {family} {address}\r\nt=0 0\r\n")
        sdp.origin = Origin(username, str(session_id), version, "IN", family, address)
        sdp._put("s", name)
        return sdp

    def __init__(self, lines: list[str]) -> None:
        super().__init__(lines)
        self._streams = []

    def copy(self) -> Sdp:
        """Give another description with the same lines."""
        return Sdp.parse(str(self))

    def __str__(self) -> str:
        return "".join(line for part in (self, *self._streams) for line in part._lines)

    def __bytes__(self) -> bytes:
        return str(self).encode(*_CODEC)

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Sdp) else NotImplemented

    def __repr__(self) -> str:
        return f"<Sdp of {len(self._streams)} streams>"

    def _number(self, at: int) -> int:
        return at + 1

    def _number_of(self, medium: Media) -> int:
        """Give the number of a stream's first line."""
        number = len(self._lines) + 1
        for each in self._streams:
            if each is medium:
                break
            number += len(each._lines)
        return number

    def _end(self) -> str:
        """Give new lines the end that the first one has."""
        for part in (self, *self._streams):
            for line in part._lines:
                end = line[len(line.rstrip("\r\n")) :]
                if end:
                    return end
        return "\r\n"

    # The session

    @property
    def origin(self) -> Origin | None:
        """Who made the session; None when there is no o= line, and None removes it.

        :raises SdpError: when the line cannot be read.
        """
        at = self._find("o")
        if at is None:
            return None
        try:
            return Origin.parse(self._text(at))
        except SdpError as error:
            raise SdpError(error.text, at + 1) from None

    @origin.setter
    def origin(self, origin: Origin | None) -> None:
        self._put("o", None if origin is None else str(origin))

    def bump_version(self) -> Sdp:
        """Count the version in the o= line up by one: what follows has changed.

        :raises SdpError: when there is no such line, or it cannot be read.
        """
        at = self._find("o")
        if at is None:
            raise SdpError("no o= line")
        found = _VERSION(self._text(at))
        if found is None:
            raise SdpError(f"not an origin: {self._text(at)!r}", at + 1)
        self._replace(at, "o", f"{found[1]}{int(found[2]) + 1}{found[3]}")
        return self

    def is_refresh_of(self, earlier: Sdp) -> bool:
        """Whether session and version are those of an earlier description (RFC 3264 section 8).

        Nothing has changed then, and a re-INVITE with this only keeps the call alive.

        :raises SdpError: when one of the o= lines cannot be read.
        """
        before, after = earlier.origin, self.origin
        return (
            before is not None
            and after is not None
            and before.is_same_session(after)
            and before.version == after.version
        )

    @property
    def connection(self) -> Connection | None:
        """Where to send the media of streams that do not say it; None removes it.

        :raises SdpError: when the line cannot be read.
        """
        return self._connection()

    @connection.setter
    def connection(self, connection: Connection | None) -> None:
        self._put("c", None if connection is None else str(connection))

    @property
    def direction(self) -> Direction:
        """The direction of streams that do not state one; absent means ``sendrecv``."""
        return self._stated() or "sendrecv"

    @direction.setter
    def direction(self, direction: Direction) -> None:
        self._state(direction)

    # The streams

    @property
    def media(self) -> tuple[Media, ...]:
        """All streams, the rejected ones too, in their order."""
        return tuple(self._streams)

    def media_of(self, kind: str) -> list[Media]:
        """Give the streams of a kind that are not rejected."""
        return [medium for medium in self._live() if medium.kind == kind]

    def _live(self) -> list[Media]:
        return [medium for medium in self._streams if not medium.is_rejected]

    def add_media(
        self, kind: str, port: int, formats: Iterable[Format], protocol: str = "RTP/AVP"
    ) -> Media:
        """Add a stream behind the others.

        :param formats: payload types, codecs, or names of codecs with a static payload type; for
            protocols other than RTP the words that they use.
        :raises LocalProtocolError: for anything that would not be one well-formed line.
        """
        is_rtp = "RTP" in protocol.upper().split("/")
        written = [written_format(each, is_rtp) for each in formats]
        if not kind or kind.split() != [kind]:
            raise LocalProtocolError(f"not a kind of media: {kind!r}")
        end = self._end()
        medium = Media(self, [f"m={kind} 0 RTP/AVP{end}"])
        medium.protocol = protocol
        medium.formats = [word for word, _ in written]
        medium.port = port
        for _, codec in written:
            if codec is not None:
                medium._explain(codec)
        last = self._streams[-1] if self._streams else self
        last._close(len(last._lines))
        self._streams.append(medium)
        return medium

    def remove_media(self, medium: Media) -> None:
        """Remove a stream and all its lines.

        That is for a first offer: later ones have as many streams as were ever offered, and those
        that are over are rejected (RFC 3264 section 8).

        :raises LocalProtocolError: when it is none of this description.
        """
        for at, each in enumerate(self._streams):
            if each is medium:
                del self._streams[at]
                return
        raise LocalProtocolError("not a stream of this description")

    def _ungroup(self, name: str) -> None:
        """Take a stream out of the groups (RFC 9143 section 7.3.3)."""
        for at, attribute, value in reversed(list(self._attributes())):
            words = value.split()
            if attribute == "group" and name in words[1:]:
                left = [word for word in words[1:] if word != name]
                if left:
                    self._replace(at, "a", f"group:{' '.join([words[0], *left])}")
                else:
                    del self._lines[at]

    def remove_attributes(self, *names: str) -> Sdp:
        """Remove all attributes of these names, of the session and of every stream."""
        for part in (self, *self._streams):
            part.remove(*names)
        return self

    # Hold

    @property
    def is_hold(self) -> bool:
        """Whether whoever wrote this wants to hear and see nothing.

        That is so when every stream of sound and picture that is not rejected is ``sendonly`` or
        ``inactive`` (RFC 3264 section 8.4), or has the connection 0.0.0.0, as in RFC 2543. Where
        there is neither sound nor picture, all streams count.
        """
        live = self._live()
        media = [each for each in live if each.kind in _SOUND_AND_PICTURE] or live
        return bool(media) and all(each.is_hold for each in media)

    def set_direction(self, direction: Direction) -> Sdp:
        """Give a direction to every stream that is not rejected.

        :raises LocalProtocolError: when it is none.
        """
        for medium in self._live():
            medium.direction = direction
        return self

    def hold(self) -> Sdp:
        """Ask to be sent nothing: ``sendrecv`` becomes ``sendonly``, ``recvonly`` ``inactive``."""
        for medium in self._live():
            if medium.direction == "sendrecv":
                medium.direction = "sendonly"
            elif medium.direction == "recvonly":
                medium.direction = "inactive"
        return self

    def unhold(self) -> Sdp:
        """Let media go both ways again.

        What had one direction only before it was held gets it with :meth:`set_direction`.
        """
        return self.set_direction("sendrecv")

    # Codecs

    def keep_codecs(self, *names: str, kind: str = "") -> Sdp:
        """Keep only these codecs; see :meth:`Media.keep_codecs`.

        :param kind: only in streams of this kind, such as ``audio``.
        :raises SdpError: when an m= line or an rtpmap cannot be read.
        """
        return self._each(kind, lambda medium: medium.keep_codecs(*names))

    def drop_codecs(self, *names: str, kind: str = "") -> Sdp:
        """Remove these codecs; see :meth:`Media.drop_codecs`."""
        return self._each(kind, lambda medium: medium.drop_codecs(*names))

    def prefer_codecs(self, *names: str, kind: str = "") -> Sdp:
        """Move these codecs to the front; see :meth:`Media.prefer_codecs`."""
        return self._each(kind, lambda medium: medium.prefer_codecs(*names))

    def _each(self, kind: str, edit: Callable[[Media], None]) -> Sdp:
        for medium in self._live():
            if not kind or medium.kind == kind:
                edit(medium)
        return self

    # Addresses

    def rewrite_address(
        self,
        address: str,
        port: int | Callable[[Media], int] | None = None,
        *,
        origin: bool = False,
    ) -> Sdp:
        """Send the media somewhere else, to a relay for example.

        Every c= line gets the address, except for 0.0.0.0, which means hold. ICE candidates stay:
        take them out with :meth:`remove_attributes` where the peers shall not go round the relay.

        :param address: the IP address; its family follows from it.
        :param port: the port of the first stream, each further one getting one that is higher by
            2 for each port it has; or a function that gives the port of a stream.
        :param origin: whether the o= line gets the address, too.
        :raises LocalProtocolError: when it is no IP address, or there is no such port.
        :raises SdpError: when an m= line cannot be read, and a port is given.
        """
        new = Connection.to(address)
        if port is not None:
            self._rewrite_ports(port)
        for part in (self, *self._streams):
            for at in part._all("c"):
                if part._text(at).split()[2:] not in (["0.0.0.0"], ["::"]):
                    part._replace(at, "c", str(new))
            for at, name, value in list(part._attributes()):
                found = _RTCP(value) if name == "rtcp" else None
                if found is not None:
                    part._replace(at, "a", f"rtcp:{found[1]} {new}")
        if self._find("c") is None and any(each._find("c") is None for each in self._streams):
            self._put("c", str(new))
        if origin:
            at_origin = self.origin
            if at_origin is not None:
                username, session_id = at_origin.username, at_origin.session_id
                self.origin = Origin(
                    username, session_id, at_origin.version, "IN", new.addrtype, address
                )
        return self

    def _rewrite_ports(self, port: int | Callable[[Media], int]) -> None:
        for medium in self._live():
            count = medium.port_count
            medium.port = port(medium) if callable(port) else port
            # The next higher port, unless something else is said (RFC 3605).
            medium.remove("rtcp")
            if not callable(port):
                port += 2 * count

    def black_hole(self) -> Sdp:
        """Make this an offer that can be answered and brings no media (RFC 3725 section 4).

        Every stream is inactive, at port 9 of 0.0.0.0 (or of ``::`` where IPv6 is spoken).
        """
        self.set_direction("inactive")
        for medium in self._live():
            medium.port = 9
            medium.remove("rtcp")
        for part in (self, *self._streams):
            for at in part._all("c"):
                part._replace(at, "c", "IN IP6 ::" if "IP6" in part._text(at) else "IN IP4 0.0.0.0")
        if self._find("c") is None:
            self._put("c", "IN IP4 0.0.0.0")
        return self
