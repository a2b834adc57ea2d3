"""Who was silent for too long."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.app.silence import Silence


class _One:
    def __init__(self, name: str, late: list[str], silence: Silence) -> None:
        self.name, self._late, self._silence = name, late, silence

    def silent_too_long(self) -> None:
        self._late.append(self.name)
        self._silence.forget(self)


class SilenceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.silence = Silence(self.clock, 10.0)
        self.late: list[str] = []

    def one(self, name: str) -> _One:
        """Make somebody who was heard."""
        made = _One(name, self.late, self.silence)
        self.silence.heard(made)
        return made

    def test_each_has_his_time(self) -> None:
        """Each is given up when his time has passed since he was heard last; one call does it."""
        first = self.one("first")
        self.clock.advance(3.0)
        self.one("second")
        self.clock.advance(3.0)
        self.silence.heard(first)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(6.9)
        self.assertEqual(self.late, [])
        self.clock.advance(0.1)
        self.assertEqual(self.late, ["second"])
        self.clock.advance(3.0)
        self.assertEqual(self.late, ["second", "first"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_forgotten(self) -> None:
        """Nobody is given up whom nobody waits for; the next one has his whole time."""
        first, second = self.one("first"), self.one("second")
        self.silence.forget(first)
        self.silence.forget(first)
        self.silence.forget(second)
        self.clock.advance(3.0)
        self.one("third")
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(9.9)
        self.assertEqual(self.late, [])
        self.clock.advance(0.1)
        self.assertEqual(self.late, ["third"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_left(self) -> None:
        """The delayed call goes with its time when nobody is left, and with the connection."""
        self.silence.forget(self.one("first"))
        self.clock.advance(10.0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.one("second")
        self.silence.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(20.0)
        self.assertEqual(self.late, [])

    def test_at_the_same_time(self) -> None:
        """What one of several does when he is given up does not hold up the others."""
        made = [self.one(str(number)) for number in range(3)]
        self.clock.advance(10.0)
        self.assertEqual(self.late, [one.name for one in made])
