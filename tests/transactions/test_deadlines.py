"""Many deadlines, one alarm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.transactions.deadlines import Deadlines
from drachtwist.transactions.machine import Effect, Machine


class Alarm(Machine):
    __slots__ = ("name",)

    def __init__(self, name: int, deadline: float | None = None) -> None:
        super().__init__()
        self.name = name
        self.deadline = deadline

    def tick(self, now: float) -> list[Effect]:
        self.deadline = None
        return []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 9), st.integers(0, 100)),
        st.tuples(st.just("clear"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("forget"), st.integers(0, 9), st.just(0)),
        st.tuples(st.just("pass"), st.just(0), st.integers(0, 100)),
    ),
    max_size=60,
)


class DeadlinesTests(SynchronousTestCase):
    def test_in_order(self) -> None:
        """Machines come out when they are due, the earliest first."""
        deadlines = Deadlines()
        for name, when in enumerate((5.0, 1.0, 3.0)):
            deadlines.watch(Alarm(name, when))
        self.assertEqual(deadlines.next(), 1.0)
        self.assertEqual([each.deadline for each in deadlines.due(3.0)], [1.0, 3.0])
        self.assertEqual((deadlines.next(), len(deadlines)), (5.0, 1))

    def test_moved_away(self) -> None:
        """A deadline that moved away costs nothing until its old time comes."""
        deadlines = Deadlines()
        alarm = Alarm(1, 1.0)
        deadlines.watch(alarm)
        alarm.deadline = 9.0
        deadlines.watch(alarm)
        self.assertEqual(len(deadlines), 1)
        self.assertEqual(deadlines.due(2.0), [])
        self.assertEqual(deadlines.next(), 9.0)
        self.assertEqual(deadlines.due(9.0), [alarm])

    def test_moved_away_is_nobodys_turn(self) -> None:
        """Nobody has to be woken for the old time of one that moved away."""
        deadlines = Deadlines()
        alarm = Alarm(1, 1.0)
        deadlines.watch(alarm)
        alarm.deadline = 9.0
        self.assertEqual(deadlines.next(), 9.0)
        self.assertEqual(deadlines.due(8.9), [])
        self.assertEqual(deadlines.due(9.0), [alarm])

    def test_lingering(self) -> None:
        """What waits for its end alone is called at whole seconds, all together, never early."""
        deadlines = Deadlines()
        alarms = [Alarm(name, 32.1 + name / 10) for name in range(9)]
        for alarm in alarms:
            alarm.lingers = True
            self.assertEqual(deadlines.watch(alarm), 33.0)
        exact = Alarm(9, 32.05)
        self.assertEqual(deadlines.watch(exact), 32.05)
        self.assertEqual((deadlines.due(32.99), deadlines.next()), ([exact], 33.0))
        self.assertEqual(deadlines.due(33.0), alarms)
        self.assertEqual((deadlines.next(), len(deadlines)), (None, 0))

    def test_lingering_later(self) -> None:
        """One that lingers from now on leaves its old, exact time."""
        deadlines = Deadlines()
        alarm = Alarm(1, 0.5)
        deadlines.watch(alarm)
        alarm.deadline, alarm.lingers = 32.2, True
        self.assertIsNone(deadlines.watch(alarm))
        self.assertEqual((deadlines.due(1.0), deadlines.next()), ([], 33.0))
        self.assertEqual(deadlines.due(33.0), [alarm])

    def test_moved_nearer(self) -> None:
        """A deadline that moved nearer counts."""
        deadlines = Deadlines()
        alarm = Alarm(1, 9.0)
        deadlines.watch(alarm)
        alarm.deadline = 1.0
        deadlines.watch(alarm)
        self.assertEqual((deadlines.next(), len(deadlines)), (1.0, 1))
        self.assertEqual(deadlines.due(10.0), [alarm])

    def test_memory_is_given_back(self) -> None:
        """Ten thousand machines that end early leave nothing behind."""
        deadlines = Deadlines()
        machines = [Alarm(number, 32.0) for number in range(10_000)]
        for machine in machines:
            deadlines.watch(machine)
        for machine in machines:
            machine.deadline = None
            deadlines.watch(machine)
        self.assertEqual(len(deadlines), 0)
        self.assertLess(len(deadlines._heap), 1000)
        self.assertIsNone(deadlines.next())

    @given(STEPS)
    def test_against_a_plain_list(self, steps: list[tuple[str, int, int]]) -> None:
        """Whatever is set, moved and forgotten, exactly those that are due come out."""
        deadlines = Deadlines()
        alarms = [Alarm(number) for number in range(10)]
        watched: set[int] = set()
        now = 0.0
        for what, name, number in steps:
            alarm = alarms[name]
            if what == "set":
                alarm.deadline = now + number
                deadlines.watch(alarm)
                watched.add(name)
            elif what == "clear":
                alarm.deadline = None
                deadlines.watch(alarm)
                watched.discard(name)
            elif what == "forget":
                deadlines.forget(alarm)
                watched.discard(name)
            else:
                now += number
                expected = {n for n in watched if (alarms[n].deadline or 0.0) <= now}
                due = deadlines.due(now)
                self.assertEqual({machine.name for machine in due}, expected)  # type: ignore[attr-defined]
                watched -= expected
            self.assertEqual(len(deadlines), len(watched))
            upcoming = deadlines.next()
            if watched:
                assert upcoming is not None
                self.assertLessEqual(upcoming, min(alarms[n].deadline or 0.0 for n in watched))
            else:
                self.assertIsNone(upcoming)
