"""Tests of those who wait for one fact."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.net.observers import Observers


class ObserversTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Let three wait."""
        self.observers: Observers[int] = Observers()
        self.waiting = [self.observers.wait() for _ in range(3)]

    def test_fire(self) -> None:
        """All get the result, each in a Deferred of its own; who comes later waits anew."""
        self.waiting[0].addCallback(lambda number: number + 1)
        self.observers.fire(5)
        self.assertEqual([self.successResultOf(one) for one in self.waiting], [6, 5, 5])
        self.assertEqual(len(self.observers), 0)
        later = self.observers.wait()
        self.assertNoResult(later)
        self.observers.fire(7)
        self.assertEqual(self.successResultOf(later), 7)

    def test_fail(self) -> None:
        """Each gets a failure of its own."""
        self.observers.fail(ZeroDivisionError)
        failures = [self.failureResultOf(one, ZeroDivisionError) for one in self.waiting]
        self.assertEqual(len({id(failure.value) for failure in failures}), 3)

    def test_cancelled(self) -> None:
        """Who waits no longer is forgotten, and hurts nobody."""
        self.waiting[1].cancel()
        self.failureResultOf(self.waiting[1], CancelledError)
        self.assertEqual(len(self.observers), 2)
        self.observers.fire(5)
        self.assertEqual(self.successResultOf(self.waiting[2]), 5)

    def test_cancelled_by_another(self) -> None:
        """One may cancel another while all are told: it has its failure, and nothing breaks."""

        def cancel_last(_: int) -> None:
            self.waiting[2].cancel()

        self.waiting[0].addCallback(cancel_last)
        self.observers.fire(5)
        self.failureResultOf(self.waiting[2], CancelledError)
        self.assertEqual(self.successResultOf(self.waiting[1]), 5)

    def test_waiting_while_told(self) -> None:
        """Who asks while all are told waits for the next time."""
        late: list[Deferred[int]] = []
        self.waiting[0].addCallback(lambda _: late.append(self.observers.wait()))
        self.observers.fire(5)
        [waiting] = late
        self.assertNoResult(waiting)
