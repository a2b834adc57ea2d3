"""What a proxy knows while it searches for whoever accepts a request.

A request may say how many branches it may have at a time, here and further on (Max-Breadth, RFC
5393). Each target gets its part of that; those for whom none is left wait until others have ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from drachtwist.server.proxy.best_response import Refused

__all__ = ["Search"]

_MAX_TARGETS = 32
"""Targets beyond these are ignored, as are those of endless redirects."""


class Asked(Protocol):
    """A target that the request was sent to."""

    @property
    def breadth(self) -> int | None:
        """Its part of the Max-Breadth, None if there is none."""
        ...

    @property
    def is_busy(self) -> bool:
        """Whether it counts against Max-Breadth."""
        ...


class Search:
    """The targets that were not asked yet, and what became of the others.

    :param targets: the first one first.
    :param breadth: how many branches there may be at a time; None for no limit.
    """

    __slots__ = ("_breadth", "_tried", "refused", "targets", "too_narrow")

    def __init__(self, targets: Sequence[str], breadth: int | None) -> None:
        self.targets = [*targets]
        """Those that were not asked yet."""
        self.refused: list[Refused] = []
        """What became of the others."""
        self.too_narrow = False
        """Whether the next target waits for its part of the Max-Breadth."""
        self._breadth = breadth
        self._tried = 0

    def next(self, asked: Iterable[Asked]) -> tuple[str, int | None] | None:
        """Take the next target, and its part of the Max-Breadth.

        :param asked: those that were.
        :returns: None when there is no target that may be asked now.
        """
        if not self.targets or self._tried >= _MAX_TARGETS:
            return None
        part = None
        if self._breadth is not None:
            free = self._breadth - sum(one.breadth or 0 for one in asked if one.is_busy)
            part = max(free // len(self.targets), min(free, 1))
            self.too_narrow = part == 0
            if self.too_narrow:
                return None
        self._tried += 1
        return self.targets.pop(0), part
