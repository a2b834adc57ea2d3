"""The cookbook: each of its applications does what the page says, as it stands there, in memory."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from typing import Any

from twisted.python import threadpool
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.testing import SipTests
from tests.test_docs import Example, blocks, example, prose


class ThisThread:
    """Stands in for the threads of a database pool: what they are to do is done at once."""

    def __init__(self, least: int, most: int) -> None:
        self.started = False

    def start(self) -> None:
        """Begin."""
        self.started = True

    def stop(self) -> None:
        """End."""
        self.started = False

    def callInThreadWithCallback(
        self, told: Callable[[bool, Any], object], function: Callable[..., Any], *a: Any, **kw: Any
    ) -> None:
        """Call a function, and tell what became of it."""
        try:
            result = function(*a, **kw)
        except Exception:
            told(False, Failure())
        else:
            told(True, result)


class CookbookTests(SipTests, SynchronousTestCase):
    def cook(self, name: str, **changes: str) -> Example:
        """Load an application of the page, and give it a server."""
        loaded = Example(example(f"cookbook-{name}"), f"cookbook_{name}", changes)
        self.sip.serve(loaded.srf)
        return loaded

    def people(self, *names: str, **options: Any) -> list[Any]:
        """Give phones to some people, each at a name of its own: ``bob.example.net``."""
        phones = [self.sip.phone(name, **options) for name in names]
        for phone in phones:
            self.sip.host(f"{phone.name}.example.net", phone)
        return phones

    # A menu

    def test_cookbook_menu(self) -> None:
        """The key chooses the desk; others are passed over."""
        self.cook("menu")
        ann, sales, repairs = self.people("ann", "sales", "repairs")
        call = ann.invite("menu")
        call.press("7")
        call.press("2")
        repairs.ring()
        repairs.answer()
        self.assertEqual(sales.calls, [])
        self.assertTrue(call.talks_to(repairs.call))
        repairs.hang_up()
        self.assertEqual(call.ended_by, "peer")
        self.sip.assert_idle()

    def test_no_key(self) -> None:
        """Who presses nothing, or whom the desk refuses, is hung up on."""
        self.cook("menu")
        ann, sales = self.people("ann", "sales")
        call = ann.invite("menu")
        self.sip.advance(9.9)
        self.assertTrue(call.up)
        self.sip.advance(0.2)
        self.assertEqual(call.ended_by, "peer")
        sales.answers = 486
        call = ann.invite("menu")
        call.press("1")
        self.assertEqual((sales.call.status, call.ended_by), (486, "peer"))
        self.sip.assert_idle()

    def test_caller_leaves_the_menu(self) -> None:
        """When the caller hangs up, the desk stops ringing, or is not called at all."""
        self.cook("menu")
        ann, sales = self.people("ann", "sales")
        ann.invite("menu").hang_up()
        call = ann.invite("menu")
        call.press("1")
        sales.ring()
        call.hang_up()
        self.assertEqual((sales.call.status, len(sales.calls)), (487, 1))
        self.sip.assert_idle()

    # A ring group

    def test_cookbook_ring_group(self) -> None:
        """The members of a group ring; the one that answers is written down."""
        self.patch(threadpool, "ThreadPool", ThisThread)
        path = self.mktemp()
        ann, bob, carol = self.people("ann", "bob", "carol")
        loaded = self.cook("ring-group", **{"phones.sqlite": path})
        db = sqlite3.connect(path)
        self.addCleanup(db.close)
        members = [("sales", f"sip:{name}@{name}.example.net") for name in ("bob", "carol")]
        with db:
            db.executemany("insert into members values (?, ?)", members)
        self.assertEqual(ann.invite("nobody").status, 404)
        call = ann.invite("sales")
        bob.ring()
        carol.answer()
        self.assertEqual(bob.call.status, 487)
        self.assertTrue(call.talks_to(carol.call))
        self.assertEqual(db.execute("select * from answered").fetchall(), [("sales", carol.uri)])
        call.hold()
        self.assertTrue(carol.call.on_hold)
        call.hang_up()
        self.assertTrue(carol.call.over)
        call = ann.invite("sales")
        bob.ring()
        self.sip.advance(20)
        self.assertEqual((call.over, bob.call.status), (True, 487))
        self.assertEqual(len(db.execute("select * from answered").fetchall()), 1)
        self.sip.assert_idle()
        pool = loaded.srf.locals["db"]
        self.assertTrue(pool.threadpool.started)
        self.sip.run(loaded.srf.stop())
        self.assertFalse(pool.threadpool.started)

    # Prepaid

    def test_cookbook_prepaid(self) -> None:
        """A call ends with its credit, and both sides are told why."""
        loaded = self.cook("prepaid")
        ann, carrier = self.people("ann", "carrier", answers=200)
        call = ann.invite("4711")
        self.assertEqual(carrier.call.invite.uri, "sip:4711@carrier.example.net")
        self.assertEqual(ann.invite("4712").status, 402)
        self.sip.advance(59.9)
        self.assertTrue(call.up)
        self.sip.advance(0.2)
        for one in (call, carrier.call):
            self.assertEqual(one.ended_by, "peer")
            self.assertIn("Credit used up", one.requests[-1].get("Reason"))
        self.assertEqual(loaded.names["credit"], {"ann": 0})
        self.assertEqual(ann.invite("4711").status, 402)
        self.sip.assert_idle()

    def test_credit_comes_back(self) -> None:
        """What was not used is there for the next call; a refusal costs nothing."""
        loaded = self.cook("prepaid")
        ann, carrier = self.people("ann", "carrier")
        call = ann.invite("4711")
        self.sip.advance(5)
        carrier.answer()
        self.sip.advance(20)
        call.hang_up()
        self.assertEqual(loaded.names["credit"], {"ann": 20})
        carrier.answers = 486
        self.assertEqual(ann.invite("4711").status, 486)
        self.assertEqual(loaded.names["credit"], {"ann": 20})
        self.sip.assert_idle()


class PageTests(SynchronousTestCase):
    def test_each_compares(self) -> None:
        """Each entry has one application, of a size that can be read, and says what Node needs."""
        entries = re.split(r"^## ", page().read_text("utf-8"), flags=re.M)[1:]
        applications = [block for block in blocks() if block.page == page()]
        self.assertEqual(len(entries), len(applications))
        for entry, block in zip(entries, applications, strict=True):
            self.assertIn(block.text, entry)
            self.assertIn("\ndrachtio-srf: ", entry)
            lines = [line for line in block.text.splitlines() if line.strip()]
            self.assertLessEqual(len(lines), 45, block.name)
            self.assertLessEqual(max(map(len, lines)), 100, block.name)
        self.assertIn("drachtio-srf", prose(page()))


def page() -> Any:
    """Return where the page is."""
    return example("cookbook-menu").page
