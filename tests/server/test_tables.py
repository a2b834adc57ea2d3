"""The tables that the machines of the server go by are what happens, no more and no less."""

from __future__ import annotations

import unittest
from collections.abc import Mapping
from enum import Enum
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.server.attempts import SentState
from drachtwist.server.proxy import response_context
from drachtwist.server.proxy.branch import Branch
from drachtwist.server.proxy.response_context import ResponseContext
from drachtwist.server.uac.invite import SentInvite
from drachtwist.server.uac.request import SentRequest
from drachtwist.server.uas import invite
from drachtwist.server.uas.invite import Invite, InviteState

Change = tuple[Enum, Enum]

# Tests in which all of it happens.
INVITES = (
    "test_invite",
    "test_uas.AnswerTests.test_no_ack",
    "test_uas.CancelTests",
    "test_uas.NewRequestTests",
    "test_uas.ReliableTests",
    "test_reliable",
    "test_decisions.DecisionTests",
    "test_proxying.RefusalTests",
)
SENT = (
    "test_sent",
    "test_uac.CallingTests",
    "test_forked.UnacknowledgedTests",
    "test_ways.FailOverTests",
    "test_ways.InDialogTests",
)
SEARCHES = (
    "test_proxying.RefusalTests",
    "test_proxying.LateTests",
    "test_search",
    "test_ways.ProxyTests",
)


def _pairs(table: Mapping[Any, Any]) -> set[Change]:
    return {(before, after) for before, rest in table.items() for after in rest}


class TableTests(SynchronousTestCase):
    def changes(self, kind: Any, attribute: str, method: str, tests: tuple[str, ...]) -> Any:
        """Run other tests; give how the state of a kind of object changed meanwhile.

        :param attribute: which has the state.
        :param method: that changes it.
        """
        seen: set[Change] = set()
        change = getattr(kind, method)

        def watched(machine: Any, state: Any) -> None:
            before = getattr(machine, attribute)
            change(machine, state)
            if before is not state and type(machine) is kind:
                seen.add((before, state))

        self.patch(kind, method, watched)
        names = [f"tests.server.{name}" for name in tests]
        outcome = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromNames(names).run(outcome)
        self.assertTrue(outcome.wasSuccessful() and outcome.testsRun, str(outcome.errors))
        return seen

    def test_invites(self) -> None:
        """An INVITE of the network, from its arrival to its ACK."""
        seen = self.changes(Invite, "state", "become", INVITES)
        self.assertEqual(seen, _pairs(invite.TRANSITIONS))

    def test_sent_invites(self) -> None:
        """An INVITE of ours, with all the places that its name leads to."""
        self.assertEqual(
            self.changes(SentInvite, "state", "enter", SENT), _pairs(SentInvite.TRANSITIONS)
        )

    def test_sent_requests(self) -> None:
        """Any other request of ours."""
        self.assertEqual(
            self.changes(SentRequest, "state", "enter", SENT), _pairs(SentRequest.TRANSITIONS)
        )

    def test_targets(self) -> None:
        """A target of what is forwarded."""
        self.assertEqual(
            self.changes(Branch, "state", "enter", SEARCHES), _pairs(Branch.TRANSITIONS)
        )

    def test_searches(self) -> None:
        """A request that is forwarded."""
        seen = self.changes(ResponseContext, "state", "_become", SEARCHES)
        self.assertEqual(seen, _pairs(response_context.TRANSITIONS))

    def test_nothing_else(self) -> None:
        """A change that the table does not have is refused."""
        sent = SentInvite.__new__(SentInvite)
        sent.state = SentState.OVER
        self.assertRaises(AssertionError, sent.enter, SentState.ACCEPTED)
        one = Invite.__new__(Invite)
        one.state = InviteState.CONFIRMED
        self.assertRaises(AssertionError, one.become, InviteState.EARLY)
