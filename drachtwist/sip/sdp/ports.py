"""What a stream needs of the description that it belongs to, so that it need not know the whole."""

from __future__ import annotations

from typing import Protocol

from drachtwist.sip.sdp.sections import Section
from drachtwist.sip.sdp.values import Connection, Direction

__all__ = ["Session", "SessionFacts"]


class SessionFacts(Protocol):
    """What the session's part of a description says of all its streams."""

    @property
    def nowhere(self) -> bool:
        """Whether the address is nobody's."""
        ...

    @property
    def has_ice(self) -> bool:
        """Whether there are credentials of ICE."""
        ...


class Session(Protocol):
    """What a stream asks of the description that it belongs to."""

    @property
    def connection(self) -> Connection | None:
        """Where to send streams that do not say it themselves."""
        ...

    @property
    def direction(self) -> Direction | None:
        """The direction of streams that do not say it themselves."""
        ...

    @property
    def attributes(self) -> list[tuple[str, str]]:
        """The attributes of the session's part."""
        ...

    def value(self, letter: str) -> str | None:
        """Return the value of a line of the session's part."""
        ...

    def has(self, name: str) -> bool:
        """Say whether the session's part has an attribute."""
        ...

    def _facts(self) -> SessionFacts:
        """Return what the session's part says of all streams."""
        ...

    def _first_line(self, media: Section) -> int:
        """Return the number of a stream's first line, from 1."""
        ...

    def _end(self) -> str:
        """Return how lines end."""
        ...

    def _changed(self) -> None:
        """Forget what was found out."""
