"""The tables of the machines are what the machines do: every change is in them, and only such."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.transactions.client import InviteClient, NonInviteClient
from drachtwist.transactions.machine import State
from drachtwist.transactions.server import InviteServer, NonInviteServer
from tests.transactions.messages import request, response

Event = Callable[[Any, float], object]
STATUSES = (100, 180, 200, 302, 486, 503, 603)


def _late(machine: Any, now: float) -> None:
    machine.tick(now if machine.deadline is None else machine.deadline)


def _ended(machine: Any, now: float) -> None:
    """Let so much time pass that whatever is waited for is over."""
    for _ in range(20):
        _late(machine, now)


COMMON: list[Event] = [
    _late,
    _ended,
    lambda machine, now: machine.transport_failed(now),
    lambda machine, now: machine.abandon(),
]
CLIENTS: list[Event] = [
    *COMMON,
    *(
        lambda machine, now, status=status: machine.receive(response(machine.request, status), now)
        for status in STATUSES
    ),
    lambda machine, now: machine.cancel(now) if isinstance(machine, InviteClient) else None,
]
SERVERS: list[Event] = [
    *COMMON,
    *(
        lambda machine, now, status=status: machine.respond(response(machine.request, status), now)
        for status in STATUSES
    ),
    lambda machine, now: machine.receive(machine.request, now),
    lambda machine, now: machine.receive(request("ACK"), now),
]


def changes(kind: Any, method: str, events: list[Event]) -> set[tuple[State, State]]:
    """Let everything happen, three times in a row in every order; collect how the state changes."""
    seen: set[tuple[State, State]] = set()
    for reliable in (False, True):
        for chosen in itertools.product(events, repeat=3):
            machine = kind(request(method), reliable=reliable)
            if events is CLIENTS:
                machine.start(0.0)
            for at, event in enumerate(chosen):
                before = machine.state
                event(machine, at * 0.1)
                if machine.state is not before:
                    seen.add((before, machine.state))
    return seen


class TableTests(SynchronousTestCase):
    def test_tables(self) -> None:
        """What can happen is in the table, and what is in the table happens."""
        for make, method, events in (
            (InviteClient, "INVITE", CLIENTS),
            (NonInviteClient, "OPTIONS", CLIENTS),
            (InviteServer, "INVITE", SERVERS),
            (NonInviteServer, "OPTIONS", SERVERS),
        ):
            kind: Any = make
            seen = changes(kind, method, events)
            table = {
                (before, after)
                for before, following in kind.TRANSITIONS.items()
                for after in following
            }
            self.assertEqual(seen, table, kind.__name__)
            self.assertTrue(all(why for rest in kind.TRANSITIONS.values() for why in rest.values()))

    def test_nothing_else(self) -> None:
        """A change that no table has is refused."""
        machine = InviteClient(request())
        self.assertRaises(AssertionError, machine._become, State.CONFIRMED)
