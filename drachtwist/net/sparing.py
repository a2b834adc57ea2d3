"""Lines of the log that strangers can cause: one for many."""

from __future__ import annotations

from typing import Any

__all__ = ["Sparing"]


class Sparing:
    """Says when it is time for a line.

    :param clock: the reactor, or a Clock.
    :param every: seconds between two lines.
    """

    __slots__ = ("_clock", "_count", "_every", "_next", "total")

    def __init__(self, clock: Any, every: float = 60.0) -> None:
        self._clock = clock
        self._every = every
        self._next = float("-inf")
        self._count = 0
        self.total = 0
        """How often it happened, ever."""

    def happened(self) -> int:
        """Count an event.

        :returns: how many there were since the last line, this one included, if it is time for
            another line; 0 if it is not.
        """
        self.total += 1
        self._count += 1
        now = self._clock.seconds()
        if now < self._next:
            return 0
        self._next = now + self._every
        count, self._count = self._count, 0
        return count
