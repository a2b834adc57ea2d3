"""The dialogs of the server: found by name and role, and by the application that has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.server.clients import AppLink
from drachtwist.server.dialogs import Dialog, Dialogs
from tests.server.doubles import Bench, request
from tests.steps import steps_of


def dialog(name: str, link: object, *, is_uas: bool = True) -> Dialog:
    """Make a dialog."""
    made = Dialog()
    made.id, made.link, made.is_uas = name, cast(AppLink, link), is_uas
    return made


class OfLinkTests(SynchronousTestCase):
    """The dialogs of a connection."""

    def setUp(self) -> None:
        """Have two applications."""
        self.dialogs = Dialogs()
        self.ours: Any = object()
        self.theirs: Any = object()

    def names(self, link: Any) -> list[str]:
        """Return the names of the dialogs that an application has."""
        return [one.id for one in self.dialogs.of_link(link)]

    def test_own(self) -> None:
        """Each application has its own, in both roles, the oldest first."""
        for name, link, is_uas in (
            ("a", self.ours, False),
            ("b", self.theirs, True),
            ("c", self.ours, True),
        ):
            self.dialogs.add(dialog(name, link, is_uas=is_uas))
        self.assertEqual(self.names(self.ours), ["a", "c"])
        self.assertEqual(self.names(self.theirs), ["b"])
        self.assertEqual(self.names(object()), [])

    def test_removed(self) -> None:
        """One that is over is nobody's, and one that is not known is no error."""
        made = dialog("a", self.ours)
        self.dialogs.remove(made)
        self.dialogs.add(made)
        self.dialogs.remove(made)
        self.assertEqual((self.names(self.ours), len(self.dialogs)), ([], 0))

    def test_handed(self) -> None:
        """One that an application takes over is its own from then on."""
        made = dialog("a", self.ours)
        self.dialogs.add(made)
        self.dialogs.hand_to(made, None)
        self.assertEqual((self.names(self.ours), made.link), ([], None))
        self.dialogs.hand_to(made, self.theirs)
        self.assertEqual((self.names(self.theirs), made.link), (["a"], self.theirs))

    def test_handed_unknown(self) -> None:
        """One that is not known is kept by nobody."""
        made = dialog("a", self.ours)
        self.dialogs.hand_to(made, self.theirs)
        self.assertEqual((self.names(self.theirs), made.link), ([], self.theirs))

    def test_replaced(self) -> None:
        """A dialog that takes the place of another of the same name leaves it to nobody."""
        self.dialogs.add(dialog("a", self.ours))
        self.dialogs.add(dialog("a", self.theirs))
        self.assertEqual((self.names(self.ours), self.names(self.theirs)), ([], ["a"]))

    def steps(self, others: int, act: Callable[[], object]) -> int:
        """Count the steps of something, while others have many dialogs."""
        for number in range(others):
            self.dialogs.add(dialog(f"other-{number}", self.theirs))
        return steps_of(act)

    def test_no_more_work_for_many(self) -> None:
        """To find those of a connection takes no longer when others have twenty thousand."""

        def find() -> None:
            self.assertEqual(self.dialogs.of_link(self.ours), [])

        few = self.steps(20, find)
        self.assertEqual(self.steps(20_000, find), few)


class ClosedTests(SynchronousTestCase):
    """An application goes while others have calls."""

    def steps(self, calls: int) -> int:
        """Count the steps that it takes to close a connection without calls."""
        bench = Bench()
        app = bench.link("invite")
        for number in range(calls):
            made = dialog(f"{number};from-tag=a", app.protocol)
            made.method, made.call_id = "INVITE", str(number)
            bench.core.dialogs.add(made)
        other = bench.link("message")
        return steps_of(other.close)

    def test_closed(self) -> None:
        """It is the same for twenty calls as for twenty thousand."""
        self.assertEqual(self.steps(20_000), self.steps(20))

    def test_calls_of_each(self) -> None:
        """The calls of the application that goes wait for somebody; those of others go on."""
        bench = Bench()
        first, second = bench.link("invite"), bench.link("invite")
        for name, app in (("c1", first), ("c2", second)):
            bench.receive(request("INVITE", call=name))
            [frame] = app.take()
            app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
        first.close()
        [waiting] = bench.core.dialogs.named("c1;from-tag=a")
        [going] = bench.core.dialogs.named("c2;from-tag=a")
        self.assertIn(waiting, bench.core.orphans)
        self.assertNotIn(going, bench.core.orphans)
