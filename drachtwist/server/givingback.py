"""Memory that a flood took goes back to the system when the flood is over.

C libraries keep what was freed for later, and what is scattered between things that live longer
they keep for ever: after 15,000 messages of 20 kB the process stayed at 400 MB, with nothing in it.
glibc gives it back when it is asked to, which takes some milliseconds. It is asked once, when the
requests of a flood are forgotten; where there is another C library nothing happens.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import TYPE_CHECKING

from drachtwist.transactions.machine import Effect, Machine

if TYPE_CHECKING:
    from drachtwist.net.clock import DeadlineClock

__all__ = ["FLOOD", "GivingBack", "give_back"]

FLOOD = 16 << 20
"""Bytes of requests that are a flood."""

LOOK_EVERY = 10.0
"""Seconds between two looks whether it is over."""


def give_back() -> bool:
    """Ask the C library to give back what is free; say whether it could be asked."""
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # pragma: no cover - not glibc
        return False
    trim(0)
    return True


class GivingBack(Machine):
    """Waits for the end of a flood.

    :param held: says how many bytes of requests there are.
    :param trim: gives memory back.
    """

    __slots__ = ("_clock", "_held", "_trim", "waits")

    def __init__(
        self,
        clock: DeadlineClock,
        held: Callable[[], int],
        trim: Callable[[], object] = give_back,
    ) -> None:
        super().__init__()
        self._clock = clock
        self._held = held
        self._trim = trim
        self.waits = False
        """Whether there is, or was, a flood whose memory was not given back."""

    def began(self) -> None:
        """Note that there is a flood."""
        if not self.waits:
            self.waits = True
            self._look_at(self._clock.seconds() + LOOK_EVERY)

    def tick(self, now: float) -> list[Effect]:
        """See whether it is over."""
        if self._held() > FLOOD // 16:
            self.deadline = now + LOOK_EVERY
        else:
            self.deadline = None
            self.waits = False
            self._trim()
        return []

    def _look_at(self, when: float) -> None:
        self.deadline = when
        self._clock.watch(self)
