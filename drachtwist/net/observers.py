"""Deferreds that wait for one fact.

Each who asks gets a Deferred of its own, so that none can spoil the result of another; and who
cancels his waits no longer, and is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from drachtwist.net.tasks import Awaited

__all__ = ["Observers"]

T = TypeVar("T")


class Observers(list["Deferred[T]"]):
    """Those who wait for a fact: a list, which is empty for most facts, and costs little then."""

    __slots__ = ()

    def wait(self) -> Deferred[T]:
        """Wait.

        :returns: what :meth:`fire` is called with; it fails with what :meth:`fail` is.
        """
        waiting: Deferred[T] = Awaited(self._forget)
        self.append(waiting)
        return waiting

    def fire(self, result: T) -> None:
        """Tell all who wait now, in the order in which they came."""
        for waiter in self._taken():
            if not waiter.called:  # cancelled by one that was told before it
                waiter.callback(result)

    def fail(self, make_error: Callable[[], Exception]) -> None:
        """Tell all who wait now that it will not be.

        :param make_error: makes the failure of each: they keep frames, and must not share them.
        """
        for waiter in self._taken():
            if not waiter.called:
                waiter.errback(Failure(make_error()))

    def _taken(self) -> list[Deferred[T]]:
        waiting = self[:]
        self.clear()
        return waiting

    def _forget(self, waiting: Deferred[T]) -> None:
        if waiting in self:
            self.remove(waiting)
