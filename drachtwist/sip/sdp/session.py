"""The session's part of a description: what it says of all its streams.

Streams know it, and it knows none of them; only the description knows both. So nothing holds on to
itself in a circle, and a description is freed as soon as nobody has it or a stream of it.
"""

from __future__ import annotations

from drachtwist.sip.sdp.sections import Section
from drachtwist.sip.sdp.streams import _written
from drachtwist.sip.sdp.values import Connection, Direction

__all__ = ["SessionPart"]


class _Facts:
    """What the session's part says of the streams, found out once."""

    __slots__ = ("address", "direction", "has_ice", "nowhere", "starts")

    def __init__(self, session: SessionPart) -> None:
        self.address = session._find("c")
        self.direction: Direction | None = session._stated()
        self.nowhere = bool(session._is_nowhere())
        self.has_ice = session.has("ice-ufrag")
        self.starts: dict[int, int] | None = None
        """The first line of each stream; only errors need them."""


class SessionPart(Section):
    """The lines before the first stream.

    :param lines: they, each with its end.
    :param ending: the end of lines that are added.
    """

    __slots__ = ("_ending", "_known", "_streams")

    _order = "vosiuepcbtrzka"

    def __init__(self, lines: list[str], ending: str) -> None:
        super().__init__(lines)
        self._ending = ending
        self._known: _Facts | None = None
        # The lines of each stream, by which they are told apart.
        self._streams: list[list[str]] = []

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
        return self._facts().direction

    def _number(self, at: int) -> int:
        return at + 1

    def _end(self) -> str:
        return self._ending

    def _facts(self) -> _Facts:
        facts = self._known
        if facts is None:
            self._known = facts = _Facts(self)
        return facts

    def _changed(self) -> None:
        self._known = None

    def _place_of_address(self) -> int | None:
        return self._facts().address

    def _first_line(self, media: Section) -> int:
        facts = self._facts()
        if facts.starts is None:
            facts.starts = {}
            at = len(self._lines) + 1
            for lines in self._streams:
                facts.starts[id(lines)] = at
                at += len(lines)
        return facts.starts.get(id(media._lines), 1)
