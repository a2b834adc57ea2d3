"""Many calls: the kit is fast enough for tests with thousands of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.testing import Network
from tests.testing.applications import answering

CALLS = 1_000


class VolumeTests(SynchronousTestCase):
    def test_a_thousand_calls(self) -> None:
        """A thousand calls at a time go through; the work grows with their number, and no faster.

        Counted are the steps of the clock, which do not depend on the machine. What it takes in
        seconds stands in docs/testing.md.
        """
        turns = {}
        for calls in (CALLS // 10, CALLS):
            with Network() as net:
                net.serve(answering())
                alice = net.phone("alice")
                made = [alice.invite("sales") for _ in range(calls)]
                self.assertEqual({call.state for call in made}, {"up"})
                net.advance(60)
                for call in made:
                    call.hang_up()
                net.assert_idle()
                turns[calls] = net.clock.turns
        self.assertLess(turns[CALLS], 12 * turns[CALLS // 10])
        self.assertLess(turns[CALLS], 20 * CALLS)
