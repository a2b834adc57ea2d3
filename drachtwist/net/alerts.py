"""Lines for an operator to alert on: one for each cause and minute, however often it happens.

What strangers do can fill a disk when each time is a line in the log. So the first time is told at
once, what follows within a minute is only counted, and the next line says how many there were. The
numbers are kept, too, for whoever shows them (:mod:`drachtwist.server.metrics`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drachtwist.net.logs import Logger

__all__ = ["EVERY", "Alerts"]

EVERY = 60.0
"""Seconds between two lines for the same cause."""


class Alerts:
    """Counts by cause, and writes of each at most once a minute.

    :param log: where to.
    :param seconds: the time.
    """

    __slots__ = ("_log", "_quiet_until", "_seconds", "_untold", "counts")

    def __init__(self, log: Logger, seconds: Callable[[], float]) -> None:
        self._log = log
        self._seconds = seconds
        self._quiet_until: dict[str, float] = {}
        self._untold: dict[str, int] = {}
        self.counts: dict[str, int] = {}
        """How often each cause was noted since the start."""

    def note(self, cause: str, text: str, **fields: Any) -> None:
        """Note something, and write of it unless that was done within the last minute.

        :param cause: a constant word; there is one line a minute, and one number, for each.
        :param text: the line, a format in the way of :mod:`twisted.logger`. It is a constant, too.
        :param fields: what is put into the line, shortened where it is long.
        """
        self.counts[cause] = self.counts.get(cause, 0) + 1
        now = self._seconds()
        if now < self._quiet_until.get(cause, float("-inf")):
            self._untold[cause] = self._untold.get(cause, 0) + 1
            return
        self._quiet_until[cause] = now + EVERY
        untold = self._untold.pop(cause, 0)
        if untold:
            text += " (and {untold} more since the last line about {cause})"
        self._log.warn(text, **fields, cause=cause, untold=untold)
