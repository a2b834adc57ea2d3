"""The transaction layer: who owns what, and who hears of what a machine wants done."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import MessageError
from drachtwist.sip.derived import cancel_for
from drachtwist.sip.message import Request
from drachtwist.transactions.client import NonInviteClient
from drachtwist.transactions.deadlines import Deadlines
from drachtwist.transactions.layer import TransactionLayer
from drachtwist.transactions.machine import Effect, Machine, Transmit
from drachtwist.transactions.matching import server_key
from tests.transactions.messages import request


class User:
    """A transaction user that only remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Machine, list[Effect]]] = []

    def react(self, machine: Machine, effects: list[Effect]) -> None:
        """Remember it."""
        self.told.append((machine, effects))


class LayerTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a layer, and a request of ours."""
        self.deadlines = Deadlines()
        self.layer: TransactionLayer[Any, Any] = TransactionLayer(self.deadlines)
        self.user = User()
        self.machine = NonInviteClient(request("OPTIONS"))
        self.machine.owner = self.user

    def test_run(self) -> None:
        """The owner is told at once, and the deadline is watched from then on."""
        self.layer.run(self.machine, self.machine.start(0.0))
        [(machine, effects)] = self.user.told
        self.assertIs(machine, self.machine)
        self.assertEqual(effects, [Transmit(bytes(request("OPTIONS")))])
        self.assertEqual(self.deadlines.next(), self.machine.deadline)

    def test_nothing_wanted(self) -> None:
        """Where nothing is to be done nobody is told, but the deadline may have changed."""
        self.layer.run(self.machine, self.machine.start(0.0))
        self.machine.abandon()
        self.layer.run(self.machine, [])
        self.assertEqual((len(self.user.told), len(self.deadlines)), (1, 0))

    def test_nobody_owns_it(self) -> None:
        """What nobody owns any more is told nobody."""
        self.machine.owner = None
        self.layer.run(self.machine, self.machine.start(0.0))
        self.assertEqual(self.user.told, [])

    def known(self, one: Request) -> User:
        """Let somebody have a request that came."""
        user = self.layer.servers[server_key(one)] = User()
        return user

    def test_cancel(self) -> None:
        """A CANCEL finds the request of its branch, an INVITE before any other method."""
        message = self.known(request("MESSAGE"))
        cancel = cancel_for(request("MESSAGE"))
        self.assertIs(self.layer.cancelled_by(cancel), message)
        invite = self.known(request("INVITE"))
        self.assertIs(self.layer.cancelled_by(cancel), invite)

    def test_cancel_of_nothing(self) -> None:
        """One of another branch finds nothing, and one without a Via cannot be read."""
        self.known(request("INVITE"))
        cancel = cancel_for(request("INVITE"))
        cancel.set("Via", "SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKother")
        self.assertIsNone(self.layer.cancelled_by(cancel))
        cancel.remove("Via")
        self.assertRaises(MessageError, self.layer.cancelled_by, cancel)

    def test_clear(self) -> None:
        """Nothing is known any more."""
        self.known(request("INVITE"))
        self.layer.clear()
        self.assertEqual((self.layer.servers, self.layer.clients), ({}, {}))
