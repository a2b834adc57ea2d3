"""Deadlines do not care what somebody does to the clock of the machine."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

import drachtwist
from drachtwist.net.protocol import DrachtioProtocol
from drachtwist.net.steady import SteadyClock, _Watch, steady
from drachtwist.wire.session import ApplicationSession
from tests.app.doubles import Transport
from tests.server.doubles import Bench, request

HOUR = 3600.0


class Machine:
    """A machine whose clock can be set: a reactor by the time of day, and a steady time."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.reactor.rightNow = 1.7e9
        self.now = 100.0
        self.clock = SteadyClock(self.reactor, lambda: self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.reactor.advance(seconds)

    def set_clock(self, by: float) -> None:
        """Set the clock of the machine; the reactor calls what is due by it."""
        self.reactor.rightNow += by
        self.reactor.advance(0)

    def notice(self) -> None:
        """Let the watch look."""
        self.clock.jumped()


class Nobody:
    """Handles nothing."""

    def link_up(self, link: DrachtioProtocol) -> None:
        """Do nothing."""

    def link_down(self, link: DrachtioProtocol, reason: Exception) -> None:
        """Do nothing."""

    def delivered(self, link: DrachtioProtocol, delivery: Any) -> None:
        """Do nothing."""

    def cdr(self, link: DrachtioProtocol, cdr: Any) -> None:
        """Do nothing."""


class SteadyClockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.machine = Machine()
        self.called: list[str] = []

    def later(self, delay: float, name: str) -> Any:
        """Wait for something."""
        return self.machine.clock.callLater(delay, self.called.append, name)

    def test_interface(self) -> None:
        """It is what Twisted takes for a clock."""
        verifyObject(IReactorTime, self.machine.clock)

    def test_set_forward(self) -> None:
        """A clock that is set forward by an hour makes nothing due."""
        self.later(64, "expired")
        self.machine.set_clock(HOUR)
        self.machine.advance(63.9)
        self.assertEqual(self.called, [])
        self.machine.advance(0.1)
        self.assertEqual(self.called, ["expired"])

    def test_set_back(self) -> None:
        """A clock that is set back by an hour delays nothing, once that was noticed."""
        self.later(64, "expired")
        self.machine.set_clock(-HOUR)
        self.machine.notice()
        self.machine.advance(63.9)
        self.assertEqual(self.called, [])
        self.machine.advance(0.2)
        self.assertEqual(self.called, ["expired"])

    def test_noticed(self) -> None:
        """The watch notices that the clock was set, either way, and nothing else."""
        machine = self.machine
        heard: list[Callable[[], None]] = []
        fake: Any = machine.reactor
        fake.callFromThread = heard.append
        watch = _Watch(fake, machine.clock, fake.seconds, lambda: machine.now)
        machine.advance(1000)
        watch.look()
        self.assertEqual(heard, [])
        for by in (HOUR, -HOUR):
            machine.set_clock(by)
            watch.look()
            watch.look()
            self.assertEqual(heard, [machine.clock.jumped])
            heard.clear()

    def test_cancel_and_move(self) -> None:
        """Calls can be cancelled, put off and brought forward."""
        gone, later, sooner = self.later(1, "gone"), self.later(1, "later"), self.later(9, "sooner")
        gone.cancel()
        later.delay(2)
        sooner.reset(2)
        self.machine.advance(1.5)
        self.assertEqual(self.called, [])
        self.machine.advance(0.5)
        self.assertEqual(self.called, ["sooner"])
        self.machine.advance(1)
        self.assertEqual(self.called, ["sooner", "later"])
        self.assertRaises(AlreadyCancelled, gone.cancel)
        self.assertRaises(AlreadyCalled, later.cancel)
        self.assertEqual(self.machine.reactor.getDelayedCalls(), [])

    def test_nothing_left(self) -> None:
        """When nothing is waited for any more, nothing is left with the reactor."""
        calls = [self.later(delay, "x") for delay in range(1, 600)]
        for call in calls:
            call.cancel()
        self.assertEqual(self.machine.reactor.getDelayedCalls(), [])
        self.assertEqual(self.machine.clock.getDelayedCalls(), [])

    def test_failure(self) -> None:
        """A call that fails is logged, and keeps no other one from being made."""
        self.machine.clock.callLater(1, {}.__getitem__, "nothing")
        self.later(1, "other")
        self.machine.advance(1)
        self.assertEqual(self.called, ["other"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["later", "cancel", "delay", "reset", "advance"]),
                st.integers(0, 9),
                st.integers(0, 6),
            ),
            max_size=40,
        )
    )
    def test_as_a_clock(self, doings: list[tuple[str, int, int]]) -> None:
        """It does what a Clock of Twisted does, in the same order."""
        machine, plain = Machine(), Clock()
        found: tuple[list[int], list[int]] = ([], [])
        calls: list[tuple[Any, Any]] = []
        for what, number, seconds in doings:
            if what == "advance":
                for _ in range(seconds):
                    machine.advance(1)
                    plain.advance(1)
                self.assertEqual(sorted(found[0]), sorted(found[1]))
                continue
            if what == "later":
                name = len(calls)
                calls.append(
                    (
                        machine.clock.callLater(seconds, found[0].append, name),
                        plain.callLater(seconds, found[1].append, name),
                    )
                )
                continue
            if number < len(calls) and calls[number][0].active():
                for one in calls[number]:
                    if what == "cancel":
                        one.cancel()
                    elif what == "delay":
                        one.delay(seconds)
                    else:
                        one.reset(seconds)
        self.assertEqual(
            sum(one.active() for one, _ in calls), len(machine.clock.getDelayedCalls())
        )


class ServerTests(SynchronousTestCase):
    """A server and an application while somebody sets the clock of their machine."""

    def setUp(self) -> None:
        self.machine = Machine()
        clock: Any = self.machine.clock
        self.bench = Bench(clock)

    def test_ringing_call(self) -> None:
        """A pending INVITE is not given up when the clock is set forward by an hour, but in time,
        also when it is set back.
        """
        self.bench.link("invite")
        self.bench.receive(request("INVITE"))
        self.assertEqual(self.bench.heads(), ["100 INVITE"])
        self.machine.set_clock(HOUR)
        self.machine.advance(10)
        self.assertEqual(self.bench.heads(), [])
        self.machine.set_clock(-2 * HOUR)
        self.machine.notice()
        self.machine.advance(53)
        self.assertEqual(self.bench.heads(), [])
        self.machine.advance(1.1)
        self.assertEqual(self.bench.heads(), ["480 INVITE"])

    def test_awaited_pong(self) -> None:
        """A connection whose ping is not answered yet is not given up for dead, but in time."""
        clock: Any = self.machine.clock
        session = ApplicationSession("cymru", ping_interval=15.0)
        link = DrachtioProtocol(session, Nobody(), outbound=False, clock=clock)
        transport = Transport(clock)
        transport.protocol = link
        far = self.bench.link()
        link.makeConnection(transport)
        far.protocol.dataReceived(transport.value())
        link.dataReceived(far.transport.value())
        self.assertTrue(link.authenticated)
        transport.clear()
        self.machine.advance(15.1)
        self.assertIn(b"|ping", transport.value())
        self.machine.set_clock(HOUR)
        self.assertFalse(transport.disconnecting)
        self.machine.advance(10.1)
        self.assertTrue(transport.disconnecting)


class SourceTests(SynchronousTestCase):
    def test_nobody_asks_a_reactor(self) -> None:
        """Nothing takes the time from a reactor, nor has it call something later than now."""
        root = Path(drachtwist.__file__).parent
        found = []
        for path in sorted(root.rglob("*.py")):
            if path.name == "steady.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                where = ast.unparse(node.func.value)
                if not where.rpartition(".")[2].strip("_").endswith("reactor"):
                    continue
                at_once = node.args and ast.unparse(node.args[0]) in ("0", "0.0")
                if node.func.attr == "seconds" or (node.func.attr == "callLater" and not at_once):
                    found.append(f"{path.relative_to(root)}:{node.lineno} {ast.unparse(node)}")
        self.assertEqual(found, [])


class ReactorTests(TestCase):
    timeout = 10

    def test_real(self) -> None:
        """A reactor has one steady clock; a Clock of tests is steady enough."""
        self.assertIs(steady(reactor), steady(reactor))
        self.assertIsInstance(steady(reactor), SteadyClock)
        clock = Clock()
        self.assertIs(steady(clock), clock)
        self.assertIs(steady(steady(reactor)), steady(reactor))

    def test_calls(self) -> Deferred[None]:
        """On a real reactor calls are made, and leave nothing behind."""
        called: Deferred[None] = Deferred()
        steady(reactor).callLater(0, called.callback, None)
        return called
