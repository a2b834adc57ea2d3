"""Time that nobody can set, and delayed calls on it.

Reactors of Twisted go by the time of day. When somebody sets the clock of the machine forward by an
hour, all their delayed calls are due at once, and every call that rings is given up; when it is set
back, nothing is repeated or given up for an hour. Deadlines of protocols are durations, so they
hang on ``time.monotonic``: :class:`SteadyClock` keeps its own calls on it and has the reactor wake
it for the earliest of them. A wake-up that comes early is put off. One that would come late,
because the reactor's clock was set back, is asked for again: a thread compares the two clocks twice
a second, since nothing in the reactor's own time would find out.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from drachtwist.net.logs import Logger

__all__ = ["SteadyClock", "steady"]

_LOOK_EVERY = 0.5
"""Seconds between two comparisons of the clocks."""

_JUMP = 0.25
"""Seconds that the time of day has to jump by to be seen."""

# Dead entries are swept out when they outnumber the living, but not for a handful.
_SWEEP_FROM = 256


@implementer(IReactorTime)
class SteadyClock:
    """Delayed calls whose time nobody can set.

    :param reactor: what calls; its time may jump.
    :param monotonic: the time to go by.
    """

    _log = Logger()

    def __init__(self, reactor: Any, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._reactor = reactor
        self._monotonic = monotonic
        # (when, number, call): the number keeps calls from being compared. What was cancelled or
        # moved stays until its time comes, or until it outnumbers the rest.
        self._heap: list[tuple[float, int, DelayedCall]] = []
        self._number = 0
        self._living = 0
        self._armed: IDelayedCall | None = None
        self._armed_for = 0.0

    def seconds(self) -> float:
        """Return the time, in seconds since some moment."""
        return self._monotonic()

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> IDelayedCall:
        """Call something in some seconds, as the method of a reactor does."""
        when = self._monotonic() + delay
        call = DelayedCall(when, callable, args, kw, self._cancelled, self._moved, self._monotonic)
        self._living += 1
        self._push(call)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """Return the calls that are waited for."""
        return [call for when, _, call in self._heap if _is_meant_for(call, when)]

    def jumped(self) -> None:
        """Ask the reactor again for the next wake-up, since its clock was set."""
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None
            self._arm()

    # Inside

    def _push(self, call: DelayedCall) -> None:
        self._number += 1
        heap = self._heap
        heapq.heappush(heap, (call.time, self._number, call))
        if len(heap) > _SWEEP_FROM and len(heap) > 2 * self._living:
            self._heap = [entry for entry in heap if _is_meant_for(entry[2], entry[0])]
            heapq.heapify(self._heap)
        if self._armed is None or call.time < self._armed_for:
            self._arm()

    def _cancelled(self, call: DelayedCall) -> None:
        self._living -= 1
        if not self._living:
            self._heap.clear()
            if self._armed is not None:
                self._armed.cancel()
                self._armed = None

    def _moved(self, call: DelayedCall) -> None:
        """Note that a call is to come earlier; its old entry is dead."""
        self._push(call)

    def _arm(self) -> None:
        """See to it that the reactor wakes us for the first entry."""
        if not self._living:
            self._heap.clear()
            return
        when = self._heap[0][0]
        if self._armed is not None:
            if self._armed_for <= when:
                return
            self._armed.cancel()
        self._armed_for = when
        self._armed = self._reactor.callLater(max(0.0, when - self._monotonic()), self._fire)

    def _fire(self) -> None:
        self._armed = None
        now = self._monotonic()
        heap = self._heap
        due: list[tuple[float, DelayedCall]] = []
        while heap and heap[0][0] <= now:
            when, _, call = heapq.heappop(heap)
            if not _is_meant_for(call, when):
                continue
            if call.delayed_time:
                call.activate_delay()
                self._push(call)
            else:
                due.append((when, call))
        for when, call in due:
            # One of those before may have cancelled it, or moved it.
            if not _is_meant_for(call, when):
                continue
            if call.delayed_time:
                call.activate_delay()
                self._push(call)
                continue
            call.called = 1
            self._living -= 1
            try:
                call.func(*call.args, **call.kw)
            except Exception:
                self._log.failure("a delayed call failed: {delayed!r}", delayed=call)
        self._arm()


def _is_meant_for(call: DelayedCall, when: float) -> bool:
    """Return whether a call lives, and is still meant for the time of its entry, or for later."""
    return not call.cancelled and not call.called and call.time == when


_clocks: WeakKeyDictionary[Any, SteadyClock] = WeakKeyDictionary()


def steady(reactor: Any) -> Any:
    """Return a clock for the deadlines of protocols: one that nobody can set.

    :param reactor: a reactor. A ``Clock`` of tests, and whatever else has a time of its own, is
        returned as it is.
    """
    if not isinstance(reactor, ReactorBase):
        return reactor
    clock = _clocks.get(reactor)
    if clock is None:
        _clocks[reactor] = clock = SteadyClock(reactor)
        _Watch(reactor, clock).begin()
    return clock


class _Watch:
    """Finds out when the time of day was set, by comparing it with the steady one."""

    def __init__(
        self,
        reactor: Any,
        clock: SteadyClock,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()
        self._over = threading.Event()

    def begin(self) -> None:
        """Begin once the reactor runs: a process that puts itself into the background would leave
        the thread behind.
        """
        self._reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        self._reactor.addSystemEventTrigger("after", "shutdown", self._over.set)
        threading.Thread(target=self._run, name="drachtwist-clock", daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(_LOOK_EVERY):
            self.look()

    def look(self) -> None:
        """Compare the clocks once."""
        offset = self._wall() - self._monotonic()
        if abs(offset - self._offset) >= _JUMP:
            self._offset = offset
            self._reactor.callFromThread(self._clock.jumped)
