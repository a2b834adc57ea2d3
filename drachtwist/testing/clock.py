"""Time that passes when it is told to, and what is under way without taking any.

The :class:`SimulatedClock` is a Twisted ``Clock`` whose delayed calls lie in a heap, so that
thousands of calls may have their timers. What takes no time, a datagram say, does not go through
it: :meth:`SimulatedClock.soon` puts it into a queue, which :meth:`SimulatedClock.settle` empties in
order. So nothing is ever called from within what caused it, as with a real network.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.base import DelayedCall
from twisted.internet.task import Clock

from drachtwist.net.logs import Logger

__all__ = ["NeverSettles", "SimulatedClock"]

MOST_TURNS = 1_000_000
"""Steps without any time passing after which nobody believes in an end of them."""


_LEAST = 1e-6
"""Seconds that a delay has at least, if it is one."""


class NeverSettles(AssertionError):
    """Something goes round and round without any time passing."""


class SimulatedClock(Clock):
    """A Clock for many delayed calls, and for what takes no time."""

    _log = Logger()

    def __init__(self) -> None:
        super().__init__()
        # (when, number, call); what was cancelled or moved stays until its time comes.
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._number = 0
        self._queue: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._settling = False
        self.turns = 0
        """How many steps were done: messages, reads, and delayed calls."""

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kw: object
    ) -> DelayedCall:
        """Call something in some seconds."""
        # A rest of time that is lost in rounding would come again and again without any passing.
        when = self.rightNow + (max(delay, _LEAST) if delay > 0 else 0.0)
        call = DelayedCall(when, callable, args, kw, _ignore, self._moved, self.seconds)
        self._moved(call)
        return call

    def _moved(self, call: DelayedCall) -> None:
        self._number += 1
        heapq.heappush(self._heap, (call.time, self._number, call))

    def getDelayedCalls(self) -> list[DelayedCall]:
        """Return what is waited for, the next first."""
        found = [call for when, _, call in sorted(self._heap) if _is_meant_for(call, when)]
        return sorted(found, key=lambda call: call.getTime())

    def next_time(self) -> float | None:
        """Return when the next delayed call is due; None if there is none."""
        heap = self._heap
        while heap:
            when, _, call = heap[0]
            if not _is_meant_for(call, when):
                heapq.heappop(heap)
            elif call.delayed_time:
                heapq.heappop(heap)
                call.activate_delay()
                self._moved(call)
            else:
                return when
        return None

    def soon(self, what: Callable[..., object], *args: Any) -> None:
        """Do something that takes no time, after what is under way already."""
        self._queue.append((what, args))

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way, and nothing due."""
        when = self.next_time()
        return not self._queue and (when is None or when > self.rightNow)

    def settle(self) -> None:
        """Do all that takes no time; nothing from within itself.

        :raises NeverSettles: when that does not end.
        """
        if self._settling:
            return
        self._settling = True
        most = self.turns + MOST_TURNS
        queue = self._queue
        try:
            while True:
                while queue:
                    what, args = queue.popleft()
                    self.turns += 1
                    what(*args)
                    if self.turns > most:
                        raise NeverSettles(f"{most} messages were sent without any time passing")
                when = self.next_time()
                if when is None or when > self.rightNow:
                    return
                self._call_next()
                if self.turns > most:
                    raise NeverSettles("a delayed call is made again and again at once")
        finally:
            self._settling = False

    def _call_next(self) -> None:
        _, _, call = heapq.heappop(self._heap)
        self.turns += 1
        call.called = 1
        try:
            call.func(*call.args, **call.kw)
        except Exception:
            self._log.failure("a delayed call failed: {what}", what=_name(call.func))

    def advance(self, amount: float) -> None:
        """Let time pass, and do what is due, each thing at its own time."""
        if self._settling:
            raise AssertionError("time passes already: this was called from within it")
        self.settle()
        until = self.rightNow + amount
        while True:
            when = self.next_time()
            if when is None or when > until:
                break
            self.rightNow = max(when, self.rightNow)
            self.settle()
        self.rightNow = until


def _ignore(call: DelayedCall) -> None:
    """Leave what was cancelled where it is."""


def _is_meant_for(call: DelayedCall, when: float) -> bool:
    return not call.cancelled and not call.called and call.time == when


def _name(what: Any) -> str:
    """Name a function as one finds it in the source."""
    what = getattr(what, "func", what)
    module, name = getattr(what, "__module__", ""), getattr(what, "__qualname__", "")
    return f"{module}.{name}" if name else repr(what)
