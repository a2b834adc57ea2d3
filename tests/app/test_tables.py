"""The tables that the machines of the application go by are what happens, no more and no less."""

from __future__ import annotations

import unittest
from collections.abc import Mapping
from enum import Enum
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.app import answer_state, client_request
from drachtwist.app.client_request import ClientRequest
from drachtwist.app.dialog import Dialog, reinvites, state
from drachtwist.app.dialog.reinvites import Reinvites
from drachtwist.app.request import Request

Change = tuple[Enum, Enum]

# Tests in which all of it happens.
CALLS = (
    "test_lost",
    "test_uac.CallTests.test_reliable",
    "test_uac.CallTests.test_server_refuses",
    "test_uac.DigestTests",
    "test_uac.RedirectTests",
    "test_dialog.EndTests.test_destroy",
    "test_dialog.EndTests.test_destroy_refused",
    "test_dialog.EndTests.test_bye",
)
REINVITES = ("test_dialog.ModifyTests", "test_reinvites.TurnTests")
ANSWERS = (
    "test_dialog.IncomingTests.test_queue",
    "test_exchange.CancelTests",
    "test_proxying.InviteTests",
    "test_calls.CrossingTests",
    "test_calls.LateEventTests",
)


def _pairs(table: Mapping[Any, Any]) -> set[Change]:
    return {(before, after) for before, rest in table.items() for after in rest}


class TableTests(SynchronousTestCase):
    def changes(self, kind: Any, attribute: str, methods: str, tests: tuple[str, ...]) -> Any:
        """Run other tests; give how the state of a kind of object changed meanwhile.

        :param attribute: which has the state.
        :param methods: that change it.
        """
        seen: set[Change] = set()

        def watched(method: Any) -> Any:
            def changing(machine: Any, *args: Any) -> Any:
                before = getattr(machine, attribute)
                result = method(machine, *args)
                after = getattr(machine, attribute)
                if before is not after:
                    seen.add((before, after))
                return result

            return changing

        for name in methods.split():
            self.patch(kind, name, watched(getattr(kind, name)))
        names = [f"tests.app.{name}" for name in tests]
        outcome = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromNames(names).run(outcome)
        self.assertTrue(outcome.wasSuccessful() and outcome.testsRun, str(outcome.errors))
        return seen

    def test_requests_of_ours(self) -> None:
        """A request, with all its repetitions."""
        seen = self.changes(ClientRequest, "at", "_enter", CALLS)
        self.assertEqual(seen, _pairs(client_request.TRANSITIONS))

    def test_dialogs(self) -> None:
        """A dialog, up to its end."""
        seen = self.changes(Dialog, "_stage", "_enter", CALLS)
        self.assertEqual(seen, _pairs(state.TRANSITIONS))

    def test_reinvites(self) -> None:
        """A re-INVITE of ours."""
        seen = self.changes(Reinvites, "turn", "_enter", REINVITES)
        self.assertEqual(seen, _pairs(reinvites.TRANSITIONS))

    def test_answers(self) -> None:
        """The answer to a request."""
        seen = self.changes(Request, "_answer", "_settle _answered", ANSWERS)
        self.assertEqual(seen, _pairs(answer_state.TRANSITIONS))
