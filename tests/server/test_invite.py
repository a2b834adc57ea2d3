"""An INVITE of the network as a machine: what follows from what crosses, and when it is over."""

from __future__ import annotations

from drachtwist.server.config import RequestHandler
from drachtwist.server.uas.invite import Invite, InviteState
from drachtwist.sip.message import Response
from drachtwist.wire.decisions import Reject
from tests.server.doubles import Bench, request
from tests.server.test_uas import SDP, ServerTestCase, transaction

OFFER = "Content-Type: application/sdp"
SESSION = f"\r\n{OFFER}\r\n\r\nv=0 "


class InviteTestCase(ServerTestCase):
    def progress(self, invite: str, rest: str = "\r\n\r\n") -> Response:
        """Let the application respond reliably; give that response."""
        self.app.command(f"sip|{invite}|\r\nSIP/2.0 183 Progress\r\nRequire: 100rel{rest}")
        last = self.bench.take()[-1]
        assert isinstance(last, Response)
        return last

    def prack(self, progress: Response, number: int = 2, body: str = "") -> str:
        """Let the caller acknowledge it; give the transaction id."""
        extra = f"RAck: {progress.get('RSeq')} 1 INVITE\n{OFFER if body else ''}"
        tag = progress.to.tag or ""
        return self.offered(request("PRACK", number=number, to_tag=tag, extra=extra, body=body))

    def state(self, invite: str) -> InviteState:
        """Give where an INVITE is that may be answered."""
        found = self.bench.core.uas.open[invite]
        assert isinstance(found, Invite)
        return found.state


class CrossingTests(InviteTestCase):
    def test_cancel_after_a_refusal(self) -> None:
        """A CANCEL that meets a refusal gets its 200, and the application nothing more."""
        invite = self.offered(request("INVITE"))
        self.app.answer(invite, "SIP/2.0 486 Busy Here")
        self.bench.take()
        self.bench.receive(request("CANCEL"))
        self.assertEqual((self.bench.heads(), self.app.take()), (["200 CANCEL"], []))

    def test_cancel_after_a_100(self) -> None:
        """A 100 of the application counts as a response: its CANCEL names the dialog then."""
        invite = self.offered(request("INVITE"))
        self.app.answer(invite, "SIP/2.0 100 Trying")
        self.assertIs(self.state(invite), InviteState.OFFERED)
        self.bench.receive(request("CANCEL"))
        [frame] = self.app.take()
        self.assertIn(f"|{invite}|c1;from-tag=a|\r\nCANCEL ", frame)

    def test_cancel_before_a_prack(self) -> None:
        """What waited for a PRACK is not repeated behind the 487."""
        self.bench.confirm()
        invite = self.offered(request("INVITE", extra="Supported: 100rel"))
        self.progress(invite)
        self.bench.receive(request("CANCEL"))
        self.bench.receive(request("ACK", branch="INVITE-1"))
        self.app.take()
        self.bench.take()
        self.assertEqual(self.seen(40), [])
        self.assertEqual(self.app.take(), [])

    def test_offers_cross_while_it_rings(self) -> None:
        """An UPDATE of the caller that crosses one of the application gets 491, with an offer."""
        invite = self.offered(request("INVITE", extra=f"Supported: 100rel\n{OFFER}", body=SDP))
        progress = self.progress(invite, f"{SESSION}answer")
        tag = progress.to.tag or ""
        self.app.answer(self.prack(progress), "SIP/2.0 200 OK")
        self.app.command(f"sip||c1;from-tag=a\r\nUPDATE sip:placeholder SIP/2.0{SESSION}ours")
        self.bench.take()
        self.bench.receive(request("UPDATE", number=3, to_tag=tag, extra=OFFER, body=SDP))
        self.assertEqual(self.bench.heads(), ["491 UPDATE"])
        self.offered(request("UPDATE", number=4, to_tag=tag))

    def test_bye_behind_a_prack(self) -> None:
        """The application answers it, in no dialog any more; if it does not, the server does."""
        for answers in (True, False):
            self.setUp()
            invite = self.offered(request("INVITE", extra="Supported: 100rel"))
            progress = self.progress(invite)
            self.app.answer(self.prack(progress), "SIP/2.0 200 OK")
            self.bench.take()
            self.bench.receive(request("BYE", number=3, to_tag=progress.to.tag or ""))
            self.assertEqual(self.bench.heads(), ["487 INVITE"])
            self.bench.receive(request("ACK", branch="INVITE-1"))
            bye, cancel = self.app.take()
            self.assertIn("\r\nCANCEL ", cancel)
            if answers:
                [echo] = self.app.answer(transaction(bye), "SIP/2.0 200 OK")
                self.assertIn(f"|{transaction(bye)}|||Msg sent:|", echo)
                self.assertEqual(self.bench.heads(), ["200 BYE"])
            else:
                self.assertEqual(self.seen(33), [(32.0, "500 BYE")])

    def test_bye_says_why(self) -> None:
        """Why a caller leaves before the answer is told the application, as of a CANCEL."""
        _, tag = self.ringing()
        reason = 'Reason: SIP;cause=480;text="Off"'
        self.bench.receive(request("BYE", number=2, to_tag=tag, extra=reason))
        [frame] = self.app.take()
        self.assertIn("\r\nCANCEL ", frame)
        self.assertIn(f"\r\n{reason}\r\n", frame)

    def test_bye_behind_a_prack_meets_a_200_that_waits(self) -> None:
        """It is answered here: what the application is told is the end of a call, once."""
        invite = self.offered(request("INVITE", extra="Supported: 100rel"))
        first = self.progress(invite)
        self.app.answer(self.prack(first), "SIP/2.0 200 OK")
        self.progress(invite)
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertIs(self.state(invite), InviteState.HOLDING)
        self.bench.take()
        self.bench.receive(request("BYE", number=3, to_tag=first.to.tag or ""))
        self.assertEqual(self.bench.heads(), ["200 BYE", "487 INVITE"])
        [frame] = self.app.take()
        self.assertIn("|unsolicited|c1;from-tag=a|\r\nBYE ", frame)
        self.assertIn('text="The caller left"', frame)

    def test_ringing_does_not_wait_for_an_update(self) -> None:
        """A 2xx waits for the answer to an UPDATE, a provisional response does not."""
        invite, tag = self.ringing()
        self.bench.receive(request("UPDATE", number=2, to_tag=tag))
        self.app.take()
        self.app.answer(invite, "SIP/2.0 180 Ringing")
        self.assertEqual(self.bench.heads(), ["180 INVITE"])

    def test_accepted_twice(self) -> None:
        """While a 200 waits, a second one is not sent behind it: the first is shown again."""
        for second in ("200 Again", "183 Progress"):
            self.setUp()
            invite = self.offered(request("INVITE", extra="Supported: 100rel"))
            progress = self.progress(invite)
            self.app.answer(invite, "SIP/2.0 200 First")
            [echo] = self.app.answer(invite, f"SIP/2.0 {second}")
            self.assertIn("|OK|", echo)
            self.assertIn("\r\nSIP/2.0 200 First\r\n", echo)
            self.bench.take()
            self.prack(progress)
            self.assertEqual([one.reason for one in self.responses()], ["First"])
            self.assertEqual(len(self.bench.core.dialogs), 1)
            self.assertEqual(self.bench.core.uas.early, {})
            self.bench.receive(request("ACK", branch="ack", to_tag=progress.to.tag or ""))
            self.assertEqual({what for _, what in self.seen(33)} - {"200 INVITE"}, set())

    def responses(self) -> list[Response]:
        """Take the responses that were sent."""
        return [one for one in self.bench.take() if isinstance(one, Response)]

    def test_refused_while_a_200_waits(self) -> None:
        """A refusal does not wait, not even for a 200 that the application gave before."""
        invite = self.offered(request("INVITE", extra="Supported: 100rel"))
        self.progress(invite)
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.app.answer(invite, "SIP/2.0 486 Busy Here")
        self.assertEqual(self.bench.heads(), ["486 INVITE"])
        self.assertIs(self.state(invite), InviteState.REFUSED)

    def test_second_offer_of_an_application(self) -> None:
        """Only the first description to an INVITE without one is an offer."""
        invite = self.offered(request("INVITE", extra="Supported: 100rel"))
        first = self.progress(invite, f"{SESSION}offer")
        self.app.answer(self.prack(first, body=SDP), "SIP/2.0 200 OK")
        self.progress(invite, f"{SESSION}same")
        tag = first.to.tag or ""
        self.offered(request("UPDATE", number=3, to_tag=tag, extra=OFFER, body=SDP))


class AcknowledgedTests(InviteTestCase):
    def test_another_number(self) -> None:
        """An ACK with another CSeq is not that of the 200, which is repeated."""
        self.bench.confirm()
        _, tag = self.answered()
        self.bench.receive(request("ACK", number=2, branch="ack", to_tag=tag))
        self.assertEqual(self.seen(1), [(0.5, "200 INVITE")])

    def test_closed(self) -> None:
        """Behind the ACK, a BYE or a timeout no application can answer the INVITE any more."""
        for method in ("ACK", "BYE", ""):
            self.setUp()
            invite, tag = self.answered()
            self.assertIs(self.state(invite), InviteState.ACCEPTED)
            if method:
                self.bench.receive(request(method, number=1, branch="b", to_tag=tag))
            else:
                self.seen(33)
            self.assertNotIn(invite, self.bench.core.uas.open, method)
            self.assertEqual(self.bench.core.uas.early, {})

    def test_hung_up_before_the_ack(self) -> None:
        """A caller who hangs up without an ACK gets the 200 to the INVITE no more."""
        self.bench.confirm()
        _, tag = self.answered()
        bye = self.offered(request("BYE", number=2, to_tag=tag))
        self.app.answer(bye, "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 BYE"])
        self.assertEqual(self.seen(33), [])
        self.nothing_left()

    def test_reinvite_takes_the_place(self) -> None:
        """The 200 of a re-INVITE is repeated, that of the INVITE before it no more."""
        self.bench.confirm()
        _, tag = self.answered()
        invite = self.offered(request("INVITE", number=2, to_tag=tag, body=SDP))
        self.app.answer(invite, "SIP/2.0 200 Second")
        self.bench.take()
        self.bench.clock.advance(1)
        self.bench.clock.advance(1)
        reasons = {one.reason for one in self.bench.take() if isinstance(one, Response)}
        self.assertEqual(reasons, {"Second"})

    def test_reinvite_never_rings(self) -> None:
        """A provisional response to a re-INVITE begins no early dialog."""
        _, tag = self.answered()
        again = self.offered(request("INVITE", number=2, to_tag=tag, body=SDP))
        self.app.answer(again, "SIP/2.0 180 Ringing")
        self.assertIs(self.state(again), InviteState.OFFERED)
        self.assertEqual(self.bench.core.uas.early, {})

    def test_ack_of_a_reinvite(self) -> None:
        """The ACK of a re-INVITE has a transaction id of its own, that of an INVITE has not."""
        first, tag = self.answered()
        self.bench.receive(request("ACK", branch="ack", to_tag=tag))
        self.assertEqual(transaction(self.app.take()[0]), first)
        again = self.offered(request("INVITE", number=2, to_tag=tag, body=SDP))
        self.app.answer(again, "SIP/2.0 200 OK")
        self.bench.receive(request("ACK", number=2, branch="ack2", to_tag=tag))
        self.assertNotEqual(transaction(self.app.take()[0]), again)

    def test_numbers_go_on(self) -> None:
        """What came while it rang counts for the order of requests in the dialog."""
        invite, tag = self.ringing()
        self.app.answer(self.offered(request("UPDATE", number=5, to_tag=tag)), "SIP/2.0 200 OK")
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.bench.receive(request("ACK", branch="ack", to_tag=tag))
        self.app.take()
        self.bench.take()
        self.bench.receive(request("INFO", number=4, to_tag=tag))
        self.assertEqual(self.bench.heads(), ["500 INFO"])


class SameNameTests(InviteTestCase):
    """Two INVITEs of one Call-ID and From tag, which would be dialogs of one name."""

    def second(self) -> tuple[str, str]:
        """Let the second one ring; give its transaction id, and our tag."""
        return self.ringing(number=7, branch="second")

    def test_first_is_refused(self) -> None:
        """The first one has the early dialog, until it is over; then the other may."""
        first, tag = self.ringing()
        second, _ = self.second()
        self.update(8, tag)
        self.app.answer(second, "SIP/2.0 486 Busy Here")
        self.update(9, tag)
        self.app.answer(first, "SIP/2.0 486 Busy Here")
        self.assertEqual(self.bench.core.uas.early, {})
        _, other = self.ringing(number=10, branch="third")
        self.update(11, other)

    def update(self, number: int, tag: str) -> None:
        """Let the caller send an UPDATE, which has to find its call."""
        update = self.offered(request("UPDATE", number=number, to_tag=tag))
        self.app.answer(update, "SIP/2.0 200 OK")

    def test_both_accepted(self) -> None:
        """The second one is refused by the server, since there is a dialog of its name."""
        first, _ = self.ringing()
        second, _ = self.second()
        self.app.answer(first, "SIP/2.0 200 OK")
        self.bench.take()
        [answer] = self.app.answer(second, "SIP/2.0 200 OK")
        self.assertIn("|NOK|dialog already exists, rejecting this request", answer)
        self.assertEqual(self.bench.heads(), ["480 INVITE"])


class ConnectionTests(InviteTestCase):
    """The caller's connection is gone when the application answers."""

    def test_any_time(self) -> None:
        """The call is over, however far it was, and nothing of it is left."""
        reliable = "183 Progress\r\nRequire: 100rel"
        for given in ((), ("180 Ringing",), (reliable,), (reliable, "200 OK")):
            self.setUp()
            text = request("INVITE", extra="Supported: 100rel")
            invite = self.offered(text, protocol="tcp")
            for response in given:
                self.app.answer(invite, f"SIP/2.0 {response}")
            self.bench.wire.close(self.bench.wire.flow("127.0.0.1", 32070, "tcp"))
            [answer] = self.app.answer(invite, "SIP/2.0 486 Busy Here")
            self.assertIn("|NOK|", answer)
            self.assertEqual(self.bench.core.uas.early, {})
            self.assertEqual(self.app.take(), [])
            self.nothing_left()

    def test_update(self) -> None:
        """An UPDATE that cannot be answered holds up no 200, and ends no call."""
        invite, tag = self.ringing()
        update = self.offered(request("UPDATE", number=2, to_tag=tag), protocol="tcp")
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertEqual(self.bench.take(), [])
        self.bench.wire.close(self.bench.wire.flow("127.0.0.1", 32070, "tcp"))
        [answer] = self.app.answer(update, "SIP/2.0 200 OK")
        self.assertIn("|NOK|", answer)
        self.assertEqual(self.bench.heads(), ["200 INVITE"])


class RecordTests(ServerTestCase):
    """What is written of a call."""

    def setUp(self) -> None:
        """Connect somebody who wants records."""
        super().setUp()
        self.bench = Bench(cdrs=True)
        self.app = self.bench.link("invite")
        self.records = self.bench.link("cdr:attempt", "cdr:start", "cdr:stop")

    def written(self) -> list[str]:
        """Take the records: what, whose, and why."""
        heads = [frame.partition("\r\n")[0].split("|") for frame in self.records.take()]
        return [" ".join([one[1], one[2], *one[4:]]) for one in heads]

    def test_reinvite_refused(self) -> None:
        """A re-INVITE that is refused ends no call."""
        tag = self.up()
        again = self.offered(request("INVITE", number=2, to_tag=tag, body=SDP))
        self.written()
        self.app.answer(again, "SIP/2.0 488 Not Acceptable Here")
        self.assertEqual(self.written(), [])

    def test_cancelled_at_the_proxy(self) -> None:
        """A call that is cancelled while it is forwarded is written as one that was refused."""
        invite = self.offered(request("INVITE"))
        way = "|fullResponse||serial|||sip:bob@127.0.0.1:32071"
        self.app.command(f"proxy|{invite}|{way}\r\n")
        self.written()
        self.bench.receive(request("CANCEL"))
        self.assertEqual(self.written(), ["cdr:stop application call-rejected"])


class WebTests(ServerTestCase):
    """A web application answers by itself."""

    def asked(self) -> Bench:
        """Let an INVITE come that a web application is asked about."""
        bench = Bench(request_handlers=(RequestHandler("http://127.0.0.1:1"),))
        bench.receive(request("INVITE"))
        return bench

    def test_rings(self) -> None:
        """A provisional response of it leaves the INVITE open; the caller may give up."""
        bench = self.asked()
        bench.core.decided(bench.asked[0], Reject(180))
        self.assertEqual(bench.heads(), ["100 INVITE", "180 INVITE"])
        bench.receive(request("CANCEL"))
        self.assertEqual(bench.heads(), ["200 CANCEL", "487 INVITE"])
        self.assertEqual(bench.core.uas.early, {})
