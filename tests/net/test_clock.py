"""Machines with deadlines on a reactor's clock."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.net.clock import DeadlineClock
from drachtwist.transactions import Effect, Machine, NonInviteClient, Timing, Transmit
from tests.transactions.messages import kinds, request


class DeadlineClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = Clock()
        self.seen: list[tuple[float, str]] = []
        self.clock = DeadlineClock(self.time, self.perform)

    def perform(self, machine: Machine, effects: list[Effect]) -> None:
        self.seen += [(self.time.seconds(), kind) for kind in kinds(effects)]

    def start(self, method: str = "OPTIONS") -> NonInviteClient:
        machine = NonInviteClient(request(method))
        machine.start(self.clock.seconds())
        self.clock.watch(machine)
        return machine

    def test_schedule(self) -> None:
        """A machine is told the time at each of its deadlines; then nothing is armed."""
        self.start()
        self.time.pump([0.25] * 200)
        self.assertEqual(
            [when for when, kind in self.seen if kind == "send OPTIONS"],
            [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5],
        )
        self.assertEqual(self.seen[-2:], [(32.0, "TimedOut"), (32.0, "Terminated")])
        self.assertEqual((self.time.getDelayedCalls(), len(self.clock)), ([], 0))

    def test_one_call_for_many(self) -> None:
        """A thousand machines need one delayed call."""
        machines = []
        for _ in range(1000):
            machines.append(self.start())
            self.time.advance(0.0001)
        self.assertEqual(len(self.time.getDelayedCalls()), 1)
        self.assertEqual(len(self.clock), 1000)
        for machine in machines:
            machine.abandon()
            self.clock.watch(machine)
        self.time.advance(1)
        self.assertEqual((self.seen, self.time.getDelayedCalls()), ([], []))

    def test_nearer_deadline(self) -> None:
        """A deadline before the armed one is kept."""
        self.start()
        early = NonInviteClient(request("BYE"), timing=Timing(request_step=0.125))
        early.start(0.0)
        self.clock.watch(early)
        self.time.advance(0.125)
        self.assertEqual(self.seen, [(0.125, "send BYE")])
        self.assertEqual(len(self.time.getDelayedCalls()), 1)
        self.time.pump([0.25, 0.125])
        self.assertEqual(self.seen[1:], [(0.375, "send BYE"), (0.5, "send OPTIONS")])

    def test_stood_still(self) -> None:
        """What was answered while the reactor stood still is not repeated, whatever else is."""
        answered, other = self.start(), self.start("INFO")

        def read_socket() -> None:
            answered.abandon()
            self.clock.watch(answered)

        self.time.callLater(0.8, read_socket)
        self.time.advance(1.0)
        self.assertEqual(self.seen, [(1.0, "send INFO")])
        self.time.advance(1.0)
        self.assertEqual(self.seen[1:], [(2.0, "send INFO")])
        other.abandon()

    def test_forgotten(self) -> None:
        """A forgotten machine is not told any more; stopping forgets all."""
        self.clock.forget(self.start())
        self.start()
        self.clock.stop()
        self.time.advance(40)
        self.assertEqual((self.seen, self.time.getDelayedCalls()), ([], []))

    def test_failure(self) -> None:
        """Effects that fail are logged and stop nothing."""
        done: list[bytes] = []

        def perform(machine: Machine, effects: list[Effect]) -> None:
            for effect in effects:
                if isinstance(effect, Transmit):
                    done.append(effect.data)
            raise ZeroDivisionError

        self.clock = DeadlineClock(self.time, perform)
        self.start()
        self.start()
        self.time.advance(0.5)
        self.time.advance(1)
        self.assertEqual(len(done), 4)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)
