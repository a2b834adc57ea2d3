"""What becomes of the work of an application that is gone."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.orphans import MOST_HAND_OVERS
from drachtwist.sip.message import Request, Response
from drachtwist.wire.decisions import Reject, RouteTo
from tests.server.doubles import Bench, Link, request
from tests.server.test_uac import TARGET, CallingTestCase, reply
from tests.server.test_uas import SDP, ServerTestCase, transaction

GRACE = 60
REASON = 'SIP;cause=503;text="Application gone"'


class OrphanTestCase(ServerTestCase):
    """A server with one application that will be gone."""

    def last(self) -> Any:
        """Give what was sent last, and only that since."""
        return self.bench.take()[-1]

    def refusal(self, status: int) -> Response:
        """See that the last that was sent is such a refusal, which says when to come again."""
        answer = self.last()
        self.assertEqual(answer.status, status)
        self.assertTrue((answer.get("Retry-After") or "").isdigit(), answer)
        response: Response = answer
        return response


class NewRequestTests(OrphanTestCase):
    """New requests that it had."""

    def test_handed_on(self) -> None:
        """A request that nobody has touched goes to the next application that wants it."""
        for method in ("INVITE", "MESSAGE", "REGISTER", "SUBSCRIBE"):
            with self.subTest(method=method):
                app = self.bench.link(method.lower())
                other = self.bench.link(method.lower())
                self.app.close()
                self.bench.receive(request(method, call=method))
                [frame] = app.take()
                app.close()
                [again] = other.take()
                self.assertEqual(transaction(again), transaction(frame))
                self.assertEqual(again.partition("\r\n")[2], frame.partition("\r\n")[2])
                self.bench.take()
                other.answer(transaction(again), "SIP/2.0 486 Busy Here")
                self.assertEqual(self.bench.heads(), [f"486 {method}"])
                other.close()

    def test_nobody_else(self) -> None:
        """When there is no other it is refused at once."""
        for method in ("INVITE", "OPTIONS"):
            self.setUp()
            self.offered(request(method))
            self.app.close()
            self.refusal(503)
            self.nothing_left()

    def test_not_for_others(self) -> None:
        """Who does not want such requests does not get it."""
        other = self.bench.link("options")
        self.offered(request("INVITE"))
        self.app.close()
        self.refusal(503)
        self.assertEqual(other.take(), [])

    def test_deadly(self) -> None:
        """A request that ends every application that gets it does not end all of them."""
        self.app.close()
        apps = [self.bench.link("invite") for _ in range(MOST_HAND_OVERS + 2)]
        self.bench.receive(request("INVITE"))
        for _ in range(MOST_HAND_OVERS):
            [victim] = [app for app in apps if app.take()]
            victim.close()
            apps.remove(victim)
        self.refusal(503)
        self.assertEqual([app.take() for app in apps], [[], []])

    def test_touched(self) -> None:
        """One that was answered with anything is not given to another."""
        other = self.bench.link("invite")
        for response in ("SIP/2.0 100 Trying", "SIP/2.0 180 Ringing"):
            self.setUp()
            invite = self.offered(request("INVITE"))
            self.app.answer(invite, response)
            self.app.close()
            self.assertEqual(self.refusal(480).get("Reason"), REASON)
            self.assertEqual(other.take(), [])

    def test_ringing(self) -> None:
        """An INVITE that rings is refused, and repeats the refusal until it is acknowledged."""
        self.ringing()
        self.app.close()
        self.assertEqual(self.refusal(480).get("Reason"), REASON)
        self.assertIn((0.5, "480 INVITE"), self.seen(1))
        self.nothing_left()

    def test_waits_for_a_prack(self) -> None:
        """So is one whose 200 waits for a PRACK: nobody would own that call."""
        invite = self.offered(request("INVITE", extra="Supported: 100rel", body=SDP))
        self.app.answer(invite, "SIP/2.0 183 Session Progress\r\nRequire: 100rel")
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.bench.take()
        self.app.close()
        self.refusal(480)
        self.nothing_left()

    def test_others_go_on(self) -> None:
        """What another application has stays as it is."""
        other = self.bench.link("publish")
        invite, _ = self.ringing()
        self.bench.receive(request("PUBLISH", call="c2"))
        self.assertEqual(len(other.take()), 1)
        other.close()
        self.assertEqual(self.bench.heads(), ["503 PUBLISH"])
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 INVITE"])

    def test_cancelled(self) -> None:
        """A CANCEL that comes behind the refusal is answered."""
        self.ringing()
        self.app.close()
        self.bench.take()
        self.bench.receive(request("CANCEL"))
        self.assertEqual(self.bench.heads(), ["200 CANCEL"])

    def test_tag(self) -> None:
        """One that was routed by a tag goes to another with this tag only."""
        bench = Bench(request_handlers=(RequestHandler("http://127.0.0.1:1"),))
        links = []
        for tags in ("a", "b", "a"):
            link = bench.link()
            link.command(f"authenticate|cymru|{tags}")
            link.command("route|invite")
            links.append(link)
        bench.receive(request("INVITE"))
        [incoming] = bench.asked
        bench.core.decided(incoming, RouteTo(None, "a"))
        [first] = [link for link in links if link.take()]
        first.close()
        links.remove(first)
        [second] = [link for link in links if link.take()]
        self.assertEqual(second.protocol.tags, ("a",))
        second.close()
        [answer] = [one for one in bench.take() if isinstance(one, Response) and one.status > 100]
        self.assertEqual(answer.status, 480)

    def test_dialled(self) -> None:
        """An application that was connected to for the request alone has no successor."""
        bench = Bench(request_handlers=(RequestHandler("tcp://127.0.0.1:1"),))
        bench.link("invite")
        bench.receive(request("INVITE"))
        link = bench.dial()
        self.assertEqual(len(link.command("authenticate|cymru|")), 2)
        link.close()
        *_, answer = bench.take()
        assert isinstance(answer, Response)
        self.assertEqual((answer.status, answer.has("Retry-After")), (480, True))


class InDialogTests(OrphanTestCase):
    """Requests in its calls."""

    def asked(self, method: str, number: int = 2) -> Response:
        """Let the peer ask when the application is gone."""
        self.bench.receive(request(method, number=number, to_tag=self.tag))
        *_, answer = self.bench.take()
        assert isinstance(answer, Response)
        return answer

    def test_handed_over(self) -> None:
        """What it had and did not answer is answered: a BYE with 200."""
        for method, status in (("BYE", 200), ("INFO", 500), ("INVITE", 500), ("UPDATE", 500)):
            with self.subTest(method=method):
                self.setUp()
                tag = self.up()
                self.offered(request(method, number=2, to_tag=tag))
                self.bench.take()
                self.app.close()
                answer = self.last()
                self.assertEqual(answer.status, status)
                self.assertEqual(answer.has("Retry-After"), status == 500)

    def test_in_early_dialog(self) -> None:
        """So is what came while it rang."""
        invite = self.offered(request("INVITE", extra="Supported: 100rel", body=SDP))
        self.app.answer(invite, "SIP/2.0 183 Ringing\r\nRequire: 100rel")
        ringing = self.last()
        rack = f"RAck: {ringing.get('RSeq')} 1 INVITE"
        self.offered(request("PRACK", number=2, to_tag=ringing.to.tag, extra=rack))
        self.app.close()
        self.assertEqual(sorted(self.bench.heads()), ["200 PRACK", "480 INVITE"])
        self.nothing_left()

    def test_later(self) -> None:
        """What comes while the call waits is answered so that the call goes on."""
        self.tag = self.up()
        self.app.close()
        for number, method in enumerate(("INFO", "INVITE", "OPTIONS", "UPDATE"), 2):
            answer = self.asked(method, number)
            self.assertEqual((answer.status, answer.has("Retry-After")), (500, True), method)
        self.assertEqual(len(self.bench.core.dialogs), 1)

    def test_hung_up(self) -> None:
        """A peer who hangs up is told that it worked, and the call is over."""
        self.tag = self.up()
        self.app.close()
        self.assertEqual(self.asked("BYE").status, 200)
        self.assertEqual(len(self.bench.core.orphans), 0)
        self.assertEqual(self.bench.core.orphans.left, 1)
        self.nothing_left()

    def test_record(self) -> None:
        """That is a normal end for the records."""
        bench = Bench(cdrs=True)
        app = bench.link("invite")
        other = bench.link("cdr:stop")
        bench.receive(request("INVITE"))
        app.answer(transaction(app.take()[0]), "SIP/2.0 200 OK")
        *_, answer = bench.take()
        app.close()
        bench.receive(request("BYE", number=2, to_tag=answer.to.tag or ""))
        [record] = other.take()
        self.assertIn("|normal-release\r\nBYE ", record)


class CallTests(OrphanTestCase):
    """Calls that are up."""

    def test_grace(self) -> None:
        """A call that nobody takes gets a BYE with a Reason, when its grace is over."""
        self.up()
        self.app.close()
        self.assertEqual(self.seen(GRACE - 1), [])
        self.bench.clock.advance(1)
        bye = self.last()
        self.assertEqual((bye.method, bye.get("Reason")), ("BYE", REASON))
        self.bench.receive(reply(bye, 200))
        self.assertEqual(self.bench.core.orphans.ended, 1)
        self.nothing_left()

    def test_taken(self) -> None:
        """Whoever sends in it owns it from then on."""
        tag = self.up()
        self.app.close()
        other = self.bench.link()
        other.ask("c1;from-tag=a", "INFO sip:placeholder SIP/2.0")
        self.bench.receive(reply(self.last(), 200))
        other.take()
        self.assertEqual(self.seen(2 * GRACE), [])
        self.bench.receive(request("INFO", number=2, to_tag=tag))
        self.assertIn("\r\nINFO ", other.take()[0])
        self.assertEqual(self.bench.core.orphans.claimed, 1)

    def test_taken_from_the_living(self) -> None:
        """An owner that is there keeps its call, whoever sends in it."""
        tag = self.up()
        other = self.bench.link()
        other.ask("c1;from-tag=a", "INFO sip:placeholder SIP/2.0")
        self.bench.receive(request("INFO", number=2, to_tag=tag))
        self.assertEqual(len(self.app.take()), 1)

    def test_ended(self) -> None:
        """The application that comes back may end it."""
        self.up()
        self.app.close()
        again = self.bench.link("invite")
        again.ask("c1;from-tag=a", "BYE sip:placeholder SIP/2.0")
        self.bench.receive(reply(self.last(), 200))
        self.assertEqual(self.seen(2 * GRACE), [])
        self.nothing_left()

    def test_lost_again(self) -> None:
        """Who took it may be gone as well."""
        self.up()
        self.app.close()
        self.seen(GRACE - 1)
        other = self.bench.link()
        other.ask("c1;from-tag=a", "OPTIONS sip:placeholder SIP/2.0")
        self.bench.receive(reply(self.last(), 200))
        other.close()
        self.assertEqual(self.seen(GRACE - 1), [])
        self.assertEqual([what for _, what in self.seen(1)], ["BYE"])

    def test_before_the_ack(self) -> None:
        """No BYE goes out before the ACK came (RFC 3261 section 15)."""
        self.bench = Bench(orphan_grace=1)
        self.app = self.bench.link("invite")
        _, tag = self.answered()
        self.app.close()
        self.assertNotIn("BYE", [what for _, what in self.seen(10)])
        self.bench.receive(request("ACK", branch="ack", to_tag=tag))
        self.assertEqual([what for _, what in self.seen(1.5)][:1], ["BYE"])
        self.assertEqual(self.bench.core.orphans.ended, 1)

    def test_never_acknowledged(self) -> None:
        """A call whose ACK never comes ends as always."""
        self.answered()
        self.app.close()
        [bye] = [when for when, what in self.seen(33) if what == "BYE"][:1]
        self.assertEqual(bye, 32.0)
        self.nothing_left()

    def test_too_many(self) -> None:
        """Of too many the oldest are ended early."""
        self.bench = Bench(max_orphans=2)
        self.app = self.bench.link("invite")
        for call in ("c1", "c2", "c3"):
            invite = self.offered(request("INVITE", call=call))
            self.app.answer(invite, "SIP/2.0 200 OK")
            tag = self.last().to.tag
            self.bench.receive(request("ACK", call=call, branch="ack", to_tag=tag))
            self.app.take()
        self.app.close()
        [bye] = self.bench.take()
        self.assertEqual((bye.get("Call-ID"), len(self.bench.core.orphans)), ("c1", 2))

    def test_many(self) -> None:
        """The end of many calls leaves room for others in between."""
        self.bench = Bench(orphan_grace=0)
        self.app = self.bench.link("invite")
        for at in range(200):
            invite = self.offered(request("INVITE", call=f"c{at}"))
            self.app.answer(invite, "SIP/2.0 200 OK")
            tag = self.last().to.tag
            self.bench.receive(request("ACK", call=f"c{at}", branch="ack", to_tag=tag))
            self.app.take()
        self.app.close()
        byes: list[int] = []
        while sum(byes) < 200:
            self.bench.clock.advance(0.05)
            byes.append(len([one for one in self.bench.take() if isinstance(one, Request)]))
            self.assertLess(len(byes), 20)
        self.assertLess(max(byes), 100)

    def test_for_ever(self) -> None:
        """With no limit of the grace a call waits for as long as it takes."""
        self.bench = Bench(orphan_grace=None)
        self.app = self.bench.link("invite")
        self.up()
        self.app.close()
        self.assertEqual(self.seen(36_000, 60), [])
        self.assertEqual(len(self.bench.core.orphans), 1)

    def test_subscription(self) -> None:
        """A subscription is forgotten, so that its next request ends it."""
        subscribe = self.offered(request("SUBSCRIBE", extra="Event: presence"))
        self.app.answer(subscribe, "SIP/2.0 202 Accepted")
        tag = self.last().to.tag
        self.app.close()
        again = request("SUBSCRIBE", number=2, to_tag=tag, extra="Event: presence")
        self.bench.receive(again)
        self.refusal(500)
        self.assertEqual(self.seen(GRACE), [])
        self.bench.receive(request("NOTIFY", number=3, to_tag=tag, extra="Event: presence"))
        self.assertEqual(self.bench.heads(), ["503 NOTIFY"])
        self.nothing_left()

    def test_web_application(self) -> None:
        """A call that a web application answered by itself has no owner either."""
        bench = Bench(request_handlers=(RequestHandler("http://127.0.0.1:1"),), orphan_grace=5)
        bench.receive(request("INVITE"))
        [incoming] = bench.asked
        bench.core.decided(incoming, Reject(200))
        *_, answer = bench.take()
        assert isinstance(answer, Response)
        bench.receive(request("ACK", branch="ack", to_tag=answer.to.tag or ""))
        bench.clock.advance(5)
        self.assertEqual(bench.heads(), ["BYE"])

    def test_settings(self) -> None:
        """The settings are checked."""
        for settings in ({"orphan_grace": -1}, {"max_orphans": -1}):
            self.assertRaises(LocalProtocolError, ServerConfig, **settings)


class CallingOrphanTests(CallingTestCase):
    """Calls that it placed."""

    def test_cancelled(self) -> None:
        """Its INVITEs are cancelled, with a Reason."""
        invite = self.ask()
        self.respond(invite, 180)
        self.app.close()
        [cancel] = self.bench.take()
        assert isinstance(cancel, Request)
        self.assertEqual((cancel.method, cancel.get("Reason")), ("CANCEL", REASON))
        self.bench.receive(reply(cancel, 200), port=32071)
        self.bench.receive(reply(invite, 487), port=32071)
        self.assertEqual(self.bench.heads(), ["ACK"])
        self.nothing_left()

    def test_cancelled_when_it_rings(self) -> None:
        """One that nobody has answered with anything is cancelled as soon as that is allowed."""
        invite = self.ask()
        self.app.close()
        self.assertEqual(self.bench.take(), [])
        self.bench.receive(reply(invite, 100), port=32071)
        self.assertEqual(self.bench.heads(), ["CANCEL"])

    def test_looked_up(self) -> None:
        """One whose name is being looked up is not sent."""
        self.app.command("sip||\r\nINVITE sip:bob@example.net SIP/2.0\r\n\r\n")
        self.app.close()
        self.bench.answer_all({("A", "example.net"): ()})
        self.assertEqual(self.bench.take(), [])
        self.nothing_left()

    def test_accepted_all_the_same(self) -> None:
        """Who accepts a call that nobody owns any more is hung up on."""
        invite = self.ask()
        self.respond(invite, 180)
        self.app.close()
        self.bench.take()
        self.bench.receive(reply(invite, 200), port=32071)
        ack, bye = self.bench.take()
        assert isinstance(ack, Request)
        assert isinstance(bye, Request)
        self.assertEqual((ack.method, bye.method, bye.get("Reason")), ("ACK", "BYE", REASON))
        self.bench.receive(reply(bye, 200), port=32071)
        self.nothing_left()

    def test_not_acknowledged(self) -> None:
        """A call that it had not acknowledged is ended at once."""
        invite = self.ask()
        self.respond(invite, 200)
        self.app.close()
        ack, bye = self.bench.take()
        assert isinstance(bye, Request)
        self.assertEqual((self.request(ack).method, bye.method), ("ACK", "BYE"))
        self.bench.receive(reply(bye, 200), port=32071)
        self.nothing_left()

    def test_reinvite_not_acknowledged(self) -> None:
        """A re-INVITE that it had not acknowledged is, and the call waits."""
        dialog = self.up()
        for late in (False, True):
            self.app.ask(dialog, "INVITE sip:placeholder SIP/2.0")
            asked = self.request(self.bench.take()[-1])
            if late:
                break
            self.respond(asked, 200)
            self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
            self.bench.take()
        self.app.close()
        self.bench.receive(reply(asked, 200), port=32071)
        self.assertEqual(self.bench.heads(), ["ACK"])
        self.assertEqual(self.seen(GRACE - 1), [])
        self.assertEqual([what for _, what in self.seen(1)], ["BYE"])

    def test_early_dialog(self) -> None:
        """One that rings reliably goes with its INVITE."""
        invite = self.ask(extra="Supported: 100rel")
        self.respond(invite, 183, extra="Require: 100rel\nRSeq: 1")
        self.app.close()
        self.assertEqual(self.bench.heads(), ["CANCEL"])
        self.bench.receive(reply(invite, 487), port=32071)
        self.nothing_left()

    def test_up(self) -> None:
        """A call that is up waits, and is ended."""
        self.up()
        self.app.close()
        self.assertEqual(self.seen(GRACE - 1), [])
        [(_, what)] = self.seen(1)
        self.assertEqual(what, "BYE")
        self.nothing_left()

    def test_reinvite_under_way(self) -> None:
        """A re-INVITE of its that is under way at the end is cancelled."""
        dialog = self.up()
        self.app.ask(dialog, "INVITE sip:placeholder SIP/2.0")
        asked = self.request(self.bench.take()[-1])
        self.respond(asked, 180)
        self.app.close()
        self.assertEqual([what for _, what in self.seen(GRACE)], ["CANCEL", "BYE"])

    def test_subscription_accepted_late(self) -> None:
        """A subscription that is accepted too late is forgotten in time."""
        subscribe = self.ask("SUBSCRIBE", extra="Event: presence")
        self.app.close()
        self.bench.receive(reply(subscribe, 202), port=32071)
        self.assertEqual(len(self.bench.core.orphans), 1)
        self.seen(GRACE)
        self.nothing_left()

    def test_proxied(self) -> None:
        """A proxied call goes on."""
        app = self.bench.link("invite")
        self.bench.receive(request("INVITE"))
        [frame] = app.take()
        app.command(
            f"proxy|{transaction(frame)}|remainInDialog|fullResponse|followRedirects|serial||"
            f"|{TARGET}\r\nINVITE {TARGET} SIP/2.0\r\n\r\n"
        )
        app.close()
        invite = self.request(self.bench.take()[-1])
        self.bench.receive(reply(invite, 200), port=32071)
        self.assertEqual(self.bench.heads(), ["200 INVITE"])

    def nothing_left(self) -> None:
        """Let two minutes pass, and see that nothing is remembered."""
        self.seen(120)
        counts = self.bench.core.counts()
        counts.pop("applications")
        self.assertEqual(set(counts.values()), {0}, counts)


class OtherLinkTests(SynchronousTestCase):
    """Whose work it is."""

    def test_nothing_to_do(self) -> None:
        """An application that had nothing leaves nothing behind, not even a line in the log."""
        bench = Bench(clock=Clock())
        link: Link = bench.link("invite")
        link.close()
        self.assertEqual((bench.take(), bench.clock.getDelayedCalls()), ([], []))

    def test_bridged(self) -> None:
        """Both sides of a call that an application bridged are hung up on."""
        bench = Bench()
        app = bench.link("invite")
        bench.receive(request("INVITE"))
        invite = transaction(app.take()[0])
        app.command(f"sip||\r\nINVITE {TARGET} SIP/2.0\r\n\r\n")
        out = bench.take()[-1]
        assert isinstance(out, Request)
        bench.receive(reply(out, 200), port=32071)
        [told] = app.take()
        app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        app.answer(invite, "SIP/2.0 200 OK")
        answer = bench.take()[-1]
        bench.receive(request("ACK", branch="ack", to_tag=answer.to.tag or ""))
        app.close()
        bench.clock.advance(GRACE)
        byes = bench.take()
        self.assertEqual(
            sorted((one.call_id, one.get("Reason")) for one in byes),
            sorted([("c1", REASON), (out.call_id, REASON)]),
        )
