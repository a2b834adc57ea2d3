"""The timers of RFC 3261 table 4."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.transactions.timing import DEFAULT_TIMING, Timing


class TimingTests(SynchronousTestCase):
    def test_table_4(self) -> None:
        """The defaults are those of RFC 3261 and RFC 6026."""
        timing = DEFAULT_TIMING
        self.assertEqual((timing.t1, timing.t2, timing.t4), (0.5, 4.0, 5.0))
        for name, seconds in {
            **dict.fromkeys("aeg", 0.5),
            **dict.fromkeys("bdfhjlm", 32.0),
            **dict.fromkeys("ik", 5.0),
            "c": None,
        }.items():
            self.assertEqual(getattr(timing, name), seconds, name)

    def test_life_of_a_transaction(self) -> None:
        """64 times T1 may be set apart from T1."""
        timing = Timing(t1=0.2, t1x64=10.0)
        self.assertEqual({timing.b, timing.d, timing.f, timing.h, timing.j, timing.l}, {10.0})

    def test_first_step(self) -> None:
        """The first step of requests may differ from T1, that of responses does not."""
        timing = Timing(request_step=1.0, ring=185.0)
        self.assertEqual((timing.a, timing.e, timing.g, timing.c), (1.0, 1.0, 0.5, 185.0))

    def test_times_that_make_no_sense(self) -> None:
        """Zero and negative times are refused."""
        for bad in ({"t1": 0}, {"t2": -1}, {"ring": 0}, {"t1x64": float("nan")}):
            self.assertRaises(LocalProtocolError, Timing, **bad)
