"""The cookbook: each of its applications does what the page says, as it stands there, in memory."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from typing import Any

from twisted.python import threadpool
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Srf
from drachtwist.server.config import RequestHandler
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

    # A registrar

    def test_cookbook_registrar(self) -> None:
        """A phone behind a NAT is called there, kept awake, and forgotten when it is gone."""
        self.cook("registrar")
        self.sip.host("example.net", self.sip.server())
        [ann] = self.people("ann", password="open-sesame", domain="example.net")
        [bob] = self.people("bob", password="wrong", domain="example.net")
        inside = "<sip:bob@192.168.1.5:5060>"
        agent_via = bob.agent.via
        self.patch(bob, "via", lambda: agent_via().replace(bob.host.host, "192.168.1.5"))
        self.assertIn(bob.register(contact=inside).status, (401, 403))
        self.assertEqual(ann.invite(bob).status, 480)
        bob.password = "mellon"
        registered = bob.register(contact=inside, expires=3600)
        self.assertEqual(registered.status, 200)
        self.assertIn("60", registered.response.get("Contact"))
        bob.replies["OPTIONS"] = 200
        self.sip.advance(51)
        self.assertEqual([one.method for one in bob.requests], ["OPTIONS", "OPTIONS"])
        call = ann.invite(bob)
        bob.ring()
        bob.answer(headers={"Contact": inside})
        self.assertTrue(call.talks_to(bob.call) and bob.call.acked)
        call.hang_up()
        self.assertEqual(bob.call.ended_by, "peer")
        self.sip.advance(61)
        self.assertEqual(ann.invite(bob).status, 480)
        self.sip.assert_idle()

    def test_strangers_call_nobody(self) -> None:
        """Without a password nobody calls, and a scanner gets no answer that helps him."""
        self.cook("registrar")
        [eve] = self.people("eve")
        self.assertEqual(eve.invite("bob").status, 401)
        scanner = {"User-Agent": "friendly-scanner"}
        self.assertEqual(eve.invite("bob", headers=scanner).status, 403)
        self.sip.assert_idle()

    # Transfers

    def test_cookbook_transfers(self) -> None:
        """Blind: the target is called; when he refuses, the two go on talking."""
        self.cook("transfers")
        ann, bob, carol = self.people("ann", "bob", "carol")
        call = ann.invite("bob")
        bob.answer()
        carol.answers = 486
        bob.refer("sip:carol@carol.example.net")
        self.assertEqual(bob.call.transfer[-1], 486)
        self.assertTrue(call.talks_to(bob.call))
        carol.answers = (180, 200)
        bob.refer("sip:carol@carol.example.net")
        self.assertEqual(bob.call.transfer[-1], 200)
        self.assertTrue(call.talks_to(carol.call))
        self.assertEqual(bob.call.ended_by, "peer")
        carol.hang_up()
        self.assertEqual(call.ended_by, "peer")
        self.sip.assert_idle()

    def test_attended_transfer(self) -> None:
        """Attended: who was asked and who was waiting talk to each other; both calls are free."""
        loaded = self.cook("transfers")
        ann, bob, carol = self.people("ann", "bob", "carol")
        call = ann.invite("bob")
        bob.answer()
        first = bob.call
        first.hold()
        asking = bob.invite("carol")
        carol.answer()
        self.assertTrue(asking.talks_to(carol.call))
        first.refer("carol", replaces=asking)
        self.assertEqual(first.transfer[-1], 200)
        self.assertTrue(call.talks_to(carol.call))
        self.assertTrue(first.over and asking.over)
        self.assertEqual(len(loaded.names["partner"]), 2)
        call.hang_up()
        self.assertEqual(carol.call.ended_by, "peer")
        self.assertEqual(loaded.names["partner"], {})
        self.sip.assert_idle()

    def test_transfer_to_no_call(self) -> None:
        """A call that the switch does not have cannot be replaced: the two go on talking."""
        self.cook("transfers")
        ann, bob = self.people("ann", "bob")
        call = ann.invite("bob")
        bob.answer()
        bob.refer("sip:x@carol.example.net?Replaces=nothing%3Bto-tag%3D1%3Bfrom-tag%3D2")
        self.assertEqual(bob.call.transfer[-1], 481)
        self.assertTrue(call.talks_to(bob.call))
        call.hang_up()
        self.sip.assert_idle()

    def test_transferred_one_hangs_up(self) -> None:
        """When who is transferred hangs up meanwhile, the target rings no more."""
        loaded = self.cook("transfers")
        ann, bob, carol = self.people("ann", "bob", "carol")
        call = ann.invite("bob")
        bob.answer()
        bob.refer("sip:carol@carol.example.net")
        carol.ring()
        call.hang_up()
        self.assertEqual(carol.call.status, 487)
        self.assertTrue(bob.call.over)
        self.assertEqual(loaded.names["partner"], {})
        self.sip.assert_idle()

    def test_transferring_one_hangs_up(self) -> None:
        """Who transfers may hang up at once; when the target refuses then, nobody is left."""
        loaded = self.cook("transfers")
        ann, bob, carol = self.people("ann", "bob", "carol")
        for final in (200, 486):
            call = ann.invite("bob")
            bob.answer()
            bob.refer("sip:carol@carol.example.net")
            bob.hang_up()
            self.assertTrue(call.up)
            if final == 200:
                carol.answer()
                self.assertTrue(call.talks_to(carol.call))
                call.hang_up()
            else:
                carol.refuse(final)
            self.assertTrue(call.over and carol.call.over)
            self.assertEqual(loaded.names["partner"], {})
        self.sip.assert_idle()

    def test_two_transfers_at_once(self) -> None:
        """Who is being transferred is not transferred again meanwhile."""
        self.cook("transfers")
        ann, bob, carol = self.people("ann", "bob", "carol")
        call = ann.invite("bob")
        bob.answer()
        bob.refer("sip:carol@carol.example.net")
        self.assertEqual(bob.refer("sip:carol@carol.example.net").status, 491)
        self.assertEqual(call.refer("sip:carol@carol.example.net").status, 491)
        carol.answer()
        self.assertTrue(call.talks_to(carol.call))
        call.hang_up()
        self.assertEqual(len(carol.calls), 1)
        self.sip.assert_idle()

    def test_transfer_to_nobody(self) -> None:
        """A REFER that names nobody is refused, and all is as before."""
        self.cook("transfers")
        ann, bob = self.people("ann", "bob")
        call = ann.invite("bob")
        bob.answer()
        self.assertEqual(bob.call.request("REFER").status, 400)
        self.assertTrue(call.talks_to(bob.call))
        call.hang_up()
        self.sip.assert_idle()

    # Trunks

    def test_cookbook_trunks(self) -> None:
        """What one trunk cannot, the other one does; a busy one called is busy."""
        loaded = self.cook("trunks")
        ann, gold, silver = self.people("ann", "gold", "silver")
        gold.answers, silver.answers = 503, 200
        call = ann.invite("4711")
        self.assertEqual(gold.call.status, 503)
        self.assertTrue(call.talks_to(silver.call))
        call.hang_up()
        gold.answers = 486
        self.assertEqual(ann.invite("4711").status, 486)
        self.assertEqual(len(silver.calls), 1)
        self.sip.run(loaded.srf.stop())
        self.sip.assert_idle()

    def test_dead_trunk(self) -> None:
        """A trunk that is silent is left out, and used again when it is back."""
        loaded = self.cook("trunks")
        ann, gold, silver = self.people("ann", "gold", "silver", replies={"OPTIONS": 200})
        gold.answers = silver.answers = 200
        gold.link.cut()
        self.sip.advance(63)
        self.assertEqual(loaded.names["down"], {"gold.example.net"})
        call = ann.invite("4711")
        self.assertTrue(call.talks_to(silver.call))
        call.hang_up()
        gold.link.restore()
        self.sip.until(lambda: not loaded.names["down"], within=90)
        call = ann.invite("4711")
        self.assertTrue(call.talks_to(gold.call))
        call.hang_up()
        self.sip.run(loaded.srf.stop())
        self.sip.assert_idle()

    # Tenants

    def test_cookbook_tenants(self) -> None:
        """Each domain has its application; others have none."""
        self.sip.server(request_handlers=(RequestHandler("http://router:8080/"),))
        loaded = self.cook("tenants")
        self.sip.machine("router").listenTCP(8080, loaded.names["site"])
        other = Srf(tags=["globex"])
        other.invite(lambda req, res: res.send(486))
        self.sip.serve(other)
        [ann] = self.people("ann")
        calls = [ann.invite(f"sip:1@{name}.example.net") for name in ("acme", "globex", "x")]
        self.sip.until(lambda: all(call.response for call in calls))
        self.assertEqual([call.status for call in calls], [200, 486, 404])
        calls[0].hang_up()
        self.assertTrue(calls[0].over)

    # Presence

    def test_cookbook_presence(self) -> None:
        """A watcher hears the state at once and when it changes, until his time is over."""
        loaded = self.cook("presence")
        ann, bob = self.people("ann", "bob")
        self.assertEqual(ann.subscribe("bob", "presence", expires=60).status, 202)
        self.assertEqual(ann.requests[-1].text, "")
        state = "<presence/>"
        published = bob.request("PUBLISH", "bob", headers={"Event": "presence"}, body=state)
        self.assertEqual((published.status, ann.requests[-1].text), (200, state))
        self.sip.advance(60)
        self.assertIn("terminated", ann.requests[-1].get("Subscription-State"))
        self.assertEqual(loaded.names["watchers"], {})
        self.sip.assert_idle()

    def test_watching_once(self) -> None:
        """Who subscribes for no time at all hears the state, and that this is all."""
        loaded = self.cook("presence")
        [ann] = self.people("ann")
        self.assertEqual(ann.subscribe("bob", "other").status, 489)
        self.assertEqual(ann.subscribe("bob", "presence", expires=0).status, 202)
        self.sip.advance(1)
        self.assertIn("terminated", ann.requests[-1].get("Subscription-State"))
        self.assertEqual(loaded.names["watchers"], {})
        self.sip.assert_idle()

    def test_refreshing(self) -> None:
        """A subscription that is kept alive lasts; one that is ended is over at once."""
        loaded = self.cook("presence")
        [ann] = self.people("ann")
        first = ann.subscribe("bob", "presence", expires=60)

        def again(number: int, expires: int) -> None:
            to = first.response.get("To")
            same = {"To": to, "From": first.request.get("From"), "CSeq": f"{number} SUBSCRIBE"}
            same["Call-ID"] = first.request.get("Call-ID")
            ann.subscribe("bob", "presence", expires=expires, headers=same)

        self.sip.advance(50)
        again(2, 60)
        self.sip.advance(50)
        self.assertEqual(len(ann.requests), 2)
        again(3, 0)
        self.assertIn("terminated", ann.requests[-1].get("Subscription-State"))
        self.assertEqual(loaded.names["watchers"], {})
        self.sip.assert_idle()

    # Click to call

    def test_cookbook_click(self) -> None:
        """Two people are connected; when the second does not want to, the first is free again."""
        loaded = self.cook("click")
        ann, bob = self.people("ann", "bob")
        ann.answers = bob.answers = 200
        body = "caller=sip:ann@ann.example.net&callee=sip:bob@bob.example.net"
        form = {"Content-Type": "application/x-www-form-urlencoded"}

        def click() -> tuple[int, str]:
            response = self.sip.fetch(
                "http://app:8080/calls", method="POST", body=body, headers=form
            )
            return response.status, response.text

        self.assertEqual(click(), (200, "they are talking\n"))
        self.assertTrue(ann.call.talks_to(bob.call))
        bob.hang_up()
        self.assertEqual(ann.call.ended_by, "peer")
        bob.answers = 486
        self.assertEqual(click()[0], 502)
        self.assertEqual(ann.call.ended_by, "peer")
        self.sip.run(loaded.srf.stop())
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
            self.assertLessEqual(len(lines), 65, block.name)
            self.assertLessEqual(max(map(len, lines)), 100, block.name)
        self.assertIn("drachtio-srf", prose(page()))


def page() -> Any:
    """Return where the page is."""
    return example("cookbook-menu").page
