"""Deferreds that are handed out to many who never look at them."""

from __future__ import annotations

import gc

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.app.results import Result
from drachtwist.errors import ConnectionLost


class ResultTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Remember what nobody took."""
        self.unheard: list[Exception] = []
        self.error = ConnectionLost("gone")

    def failed(self) -> Result[None]:
        """Give one that fails when it is thrown away, if nobody takes the error."""
        handed: Result[None] = Result()
        handed.fail(self.error, self.unheard.append)
        return handed

    def test_thrown_away(self) -> None:
        """What nobody takes is told once, and is no unhandled error besides."""
        self.failed()
        gc.collect()
        self.assertEqual(self.unheard, [self.error])
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_taken(self) -> None:
        """Whoever listens has the error for himself, before it fires and long after."""
        early: Result[None] = Result()
        taken: list[object] = []
        early.addErrback(lambda failure: taken.append(failure.value))
        early.fail(self.error, self.unheard.append)
        late = self.failed()
        late.addErrback(lambda failure: taken.append(failure.value))
        del early, late
        gc.collect()
        self.assertEqual((taken, self.unheard), ([self.error] * 2, []))

    def test_returned_from_a_callback(self) -> None:
        """Somebody who hands it on to another Deferred listens too, though never by a method."""
        one: list[Result[None]] = [Result()]
        outer: Deferred[None] = Deferred()
        outer.addCallback(lambda _: one[0])
        outer.callback(None)
        one[0].fail(self.error, self.unheard.append)
        one.clear()
        self.assertIs(self.failureResultOf(outer).value, self.error)
        self.assertEqual(self.unheard, [])

    def test_error_of_a_listener(self) -> None:
        """What a listener does wrong is reported as Twisted does it."""
        handed = self.failed()

        def broken(failure: Failure) -> None:
            raise KeyError("a listener's fault")

        handed.addErrback(broken)
        del handed
        gc.collect()
        self.assertEqual(self.unheard, [])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_success(self) -> None:
        """What succeeds has nothing to tell."""
        handed: Result[int] = Result()
        handed.callback(1)
        del handed
        gc.collect()
        self.assertEqual(self.unheard, [])
