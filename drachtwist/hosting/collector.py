"""Python's collector, kept from stopping a process that has many calls.

A full collection looks at all objects of a process, and nothing else happens meanwhile: with many
calls that takes about as long as peers wait before they repeat what they sent (T1). Nothing that a
call leaves behind needs the collector here, so it would look for next to nothing. Therefore what
has survived the small collections is frozen (:func:`gc.freeze`) as soon as there is enough of it to
make a full one long. It is freed like everything else when nobody has it, but not looked at again.

Only what holds on to itself in a circle stays when it was frozen before it was given up; code of an
application may well make such things. So all is thawed for one full collection when there are no
calls, whom that could keep waiting, and once in a while in any case.

It is a matter of the whole process, so only those that are there for nothing else do it: those of
the two plugins of twistd. In other programs it can be had with ``Collector(reactor).start()``.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall

__all__ = ["NO_FREEZE", "Collector"]

NO_FREEZE = ["no-freeze", None, "Leave Python's collector as it is."]
"""The flag of both plugins."""

ENOUGH = 5
"""Collections of the middle generation after which what has survived is frozen: some ten thousand
new objects. The full one would come after ten."""

LOOK_EVERY = 60.0
"""Seconds between two looks whether there are no calls."""


class Collector:
    """Freezes what survives, as long as it runs.

    :param clock: the reactor, or a Clock.
    :param is_idle: says whether there are no calls.
    :param anyway: seconds after which there is a full collection although there are calls; it takes
        as long as there are many.
    """

    def __init__(
        self,
        clock: Any,
        is_idle: Callable[[], bool] = lambda: False,
        anyway: float = 3600.0,
    ) -> None:
        self._clock = clock
        self._is_idle = is_idle
        self._anyway = anyway
        self._look = LoopingCall(self._thaw)
        self._look.clock = clock
        # Since when something is frozen that may be in the way of the collector.
        self._frozen_at: float | None = None

    def start(self) -> None:
        """Freeze what there is, which is code for the most part, and look after collections."""
        if not self._look.running:
            gc.collect()
            gc.freeze()
            gc.callbacks.append(self._collected)
            self._look.start(LOOK_EVERY, now=False)

    def stop(self) -> None:
        """Thaw everything, and leave the collector alone."""
        if self._look.running:
            self._look.stop()
            gc.callbacks.remove(self._collected)
            gc.unfreeze()
            self._frozen_at = None

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        """Note that a collection begins, or is over."""
        if phase == "stop" and info["generation"] == 1 and gc.get_count()[2] >= ENOUGH:
            gc.freeze()
            if self._frozen_at is None:
                self._frozen_at = self._clock.seconds()

    def _thaw(self) -> None:
        """Look at everything once, if it is time for that."""
        frozen_at = self._frozen_at
        if frozen_at is None:
            return
        if self._is_idle() or self._clock.seconds() - frozen_at >= self._anyway:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._frozen_at = None if self._is_idle() else self._clock.seconds()
