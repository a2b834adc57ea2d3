"""A call without an offer of the caller's, whose callee makes one before it answers.

The callee's offer is in a reliable provisional response, and what answers it is in the PRACK of
that response (RFC 3262 section 5); the caller answers in his own PRACK (RFC 6337 section 2.2).
"""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Dialog, LocalProtocolError, SipError
from drachtwist.sip import Request as SipRequest
from tests.app.doubles import Bench
from tests.app.test_b2bua import ANSWER, OFFER, A, B, B2buaTestCase
from tests.server.doubles import head, request
from tests.whole import TARGET

MEDIA = "c=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0 8\r\n"
OTHER = "v=0\r\no=carol 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"
SUPPORTED = "Supported: 100rel, timer\n"


class LateOfferTestCase(B2buaTestCase):
    """A call that comes without an offer."""

    def rings(
        self, extra: str = SUPPORTED, sdp: str = ANSWER, **options: Any
    ) -> tuple[SipRequest, list[SipRequest]]:
        """Call B, who makes an offer reliably.

        :returns: the INVITE for B, and what B got for its response.
        """
        self.bridging = self.bridge(extra, "", **options)
        self.invite = self.invite_b()
        return self.invite, self.offers(sdp)

    def offers(self, sdp: str, tag: str = "b", number: int = 7) -> list[SipRequest]:
        """Let B make an offer, or repeat it.

        :returns: what B got for it.
        """
        reliable = {"Require": "100rel", "RSeq": str(number)}
        self.whole.respond(self.invite, 183, tag=tag, headers=reliable, body=sdp)
        self.told, to_b = self.split()
        if self.told:
            self.answer = self.told[-1]
        return to_b

    def prack_from_a(self, body: str = "", number: int = 2) -> list[SipRequest]:
        """Let A acknowledge the response, with a description.

        :returns: what B got for it.
        """
        extra = f"RAck: {self.answer.get('RSeq')} 1 INVITE\n"
        if body:
            extra += "Content-Type: application/sdp\n"
        self.from_a("PRACK", number, extra, body)
        self.told, to_b = self.split()
        self.assertEqual(head(self.told.pop(0)), "200 PRACK")
        return to_b

    def answers(self, body: str = "") -> None:
        """Let B answer the call, and A acknowledge it."""
        self.whole.respond(self.invite, 200, body=body)
        a, b = self.split()
        self.to_b_then = [head(one) for one in b]
        [self.answer] = a
        self.assertEqual(head(self.answer), "200 INVITE")
        self.ack_from_a()


class OfferTests(LateOfferTestCase):
    def test_answered_in_the_prack(self) -> None:
        """A's PRACK has the answer, and so has that of the application."""
        _, to_b = self.rings()
        self.assertEqual(to_b, [])  # there is no answer yet
        [ringing] = self.told
        self.assertEqual((ringing.status, ringing.text), (183, ANSWER))
        self.assertEqual((ringing.get("Require"), ringing.has("RSeq")), ("100rel", True))
        [prack] = self.prack_from_a(OFFER)
        self.assertEqual((prack.method, prack.text), ("PRACK", OFFER))
        self.assertEqual(prack.get("Content-Type"), "application/sdp")
        self.assertEqual(prack.get("RAck"), "7 1 INVITE".replace("1", str(self.invite.cseq.number)))
        self.whole.respond(prack, 200)
        self.answers()
        self.assertEqual(self.to_b_then, ["ACK"])
        self.assertEqual(self.answer.text, "")  # all is agreed on
        uas, uac = self.successResultOf(self.bridging)
        self.assertEqual((uas.local.sdp, uas.remote.sdp), (ANSWER.encode(), OFFER.encode()))
        self.assertEqual((uac.local.sdp, uac.remote.sdp), (OFFER.encode(), ANSWER.encode()))
        self.assertEqual(self.split(), ([], []))

    def test_repeated_in_the_200(self) -> None:
        """What B repeats in its 200 is no offer any more."""
        self.rings()
        [prack] = self.prack_from_a(OFFER)
        self.whole.respond(prack, 200)
        self.answers(ANSWER)
        self.assertEqual((self.to_b_then, self.answer.text), (["ACK"], ""))
        self.successResultOf(self.bridging)

    def test_response_repeated(self) -> None:
        """B repeats its response while A takes its time, to no effect."""
        self.rings()
        self.assertEqual((self.offers(ANSWER), self.told), ([], []))
        self.assertEqual([head(one) for one in self.prack_from_a(OFFER)], ["PRACK"])

    def test_hooks(self) -> None:
        """Both descriptions are made by the application, which may take its time."""
        made: Deferred[str] = Deferred()
        seen: list[Any] = []

        def for_b(sdp: bytes, message: Any) -> Any:
            seen.append((sdp, message.method))
            return made if sdp else sdp

        self.rings(local_sdp_a=lambda sdp, response: OTHER, local_sdp_b=for_b)
        self.assertEqual(self.told[0].text, OTHER)
        self.assertEqual(self.prack_from_a(OFFER), [])
        made.callback(OTHER)
        [prack] = self.to_b()
        self.assertEqual((prack.method, prack.text), ("PRACK", OTHER))
        self.assertEqual(seen, [(b"", "INVITE"), (OFFER.encode(), "PRACK")])

    def test_handler_answers(self) -> None:
        """An answer of the application's handler is used, whatever A says later."""
        _, to_b = self.rings(on_provisional=lambda response: OTHER)
        self.assertEqual([(one.method, one.text) for one in to_b], [("PRACK", OTHER)])

    def test_handler_takes_its_time(self) -> None:
        """A handler that answers nothing leaves it to A, also when it does so later."""
        waiting: Deferred[None] = Deferred()
        self.rings(on_provisional=lambda response: waiting)
        self.assertEqual(self.prack_from_a(OFFER), [])
        waiting.callback(None)
        self.assertEqual([one.text for one in self.to_b()], [OFFER])

    def test_no_answer(self) -> None:
        """A PRACK of A without an answer leaves it to the ACK."""
        self.rings()
        [prack] = self.prack_from_a()
        self.assertEqual((prack.method, prack.text), ("PRACK", ""))
        self.whole.respond(prack, 200)
        self.answers()
        self.assertEqual(self.answer.text, ANSWER)

    def test_ringing_goes_on(self) -> None:
        """What B describes again behind it is acknowledged at once, and offers nothing."""
        self.rings()
        [prack] = self.prack_from_a(OFFER)
        self.whole.respond(prack, 200)
        to_b = self.offers(ANSWER, number=8)
        self.assertEqual([(one.method, one.text) for one in to_b], [("PRACK", "")])

    def test_cancelled(self) -> None:
        """A gives up before it has answered: B is cancelled, and nothing is left."""
        self.rings()
        self.whole.receive(request("CANCEL"), A)
        a, b = self.split()
        self.assertEqual([head(one) for one in a], ["200 CANCEL", "487 INVITE"])
        self.assertEqual([head(one) for one in b], ["CANCEL"])
        self.whole.respond(self.invite, 487)
        self.failureResultOf(self.bridging, SipError)

    def test_prack_never_comes(self) -> None:
        """A is given up by the server, and B with it."""
        self.rings()
        to_b: list[str] = []
        for _ in range(70):
            self.whole.clock.advance(0.5)
            to_b += [head(one) for one in self.split()[1]]
        self.assertEqual(to_b[:1], ["CANCEL"])
        self.whole.respond(self.invite, 487)
        self.failureResultOf(self.bridging, SipError)

    def test_failing_hook(self) -> None:
        """An answer that cannot be made ends the call, and is logged."""

        def for_b(sdp: bytes, message: Any) -> Any:
            return 1 / 0 if sdp else sdp

        self.rings(local_sdp_b=for_b)
        self.assertEqual([head(one) for one in self.prack_from_a(OFFER)], ["CANCEL"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.whole.respond(self.invite, 487)
        self.split()
        self.failureResultOf(self.bridging, SipError)

    def test_offer_that_cannot_be_passed(self) -> None:
        """One that A cannot be given is acknowledged without an answer."""

        def for_a(sdp: bytes, message: Any) -> Any:
            raise ZeroDivisionError

        _, to_b = self.rings(local_sdp_a=for_a)
        self.assertEqual([(one.method, one.text) for one in to_b], [("PRACK", "")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_update_of_b(self) -> None:
        """B changes what it offered before it answers: it gets A's answer again."""
        self.rings(sdp=ANSWER + MEDIA)
        [prack] = self.prack_from_a(OFFER + MEDIA)
        self.whole.respond(prack, 200)
        changed = ANSWER.replace("bob 1 1", "bob 1 2") + MEDIA
        lines = [
            "UPDATE sip:127.0.0.1:32060 SIP/2.0",
            "Via: SIP/2.0/UDP 127.0.0.1:32071;branch=z9hG4bK-update",
            f"From: {self.invite.get('To')};tag=b",
            f"To: {self.invite.get('From')}",
            f"Call-ID: {self.invite.get('Call-ID')}",
            "CSeq: 5 UPDATE",
            "Max-Forwards: 70",
            f"Contact: <{TARGET}>",
            "Content-Type: application/sdp",
            f"Content-Length: {len(changed)}",
        ]
        self.whole.receive("\n".join(lines) + "\n\n" + changed, B)
        [answer] = self.to_b()
        self.assertEqual((head(answer), answer.text), ("200 UPDATE", OFFER + MEDIA))
        self.answers()
        [change] = self.to_a()  # what B changed, once A may be asked
        self.assertEqual((head(change), change.text), ("INVITE", changed))


class ForkedTests(LateOfferTestCase):
    """Several callees make offers: A has one of them."""

    def test_the_other_answers(self) -> None:
        """Another one gets A's answer as far as it fits, and A its description in the end."""
        self.rings(sdp=ANSWER + MEDIA)
        [prack] = self.prack_from_a(OFFER + MEDIA)
        self.whole.respond(prack, 200)
        other = OTHER + MEDIA.replace("0 8", "8")
        [prack] = self.offers(other, tag="c")
        self.assertEqual([one.text for one in self.told], [""])
        self.assertIn("m=audio 4000 RTP/AVP 8\r\n", prack.text)
        self.assertIn("o=alice", prack.text)
        self.whole.respond(prack, 200)
        self.prack_from_a(number=3)
        self.whole.respond(self.invite, 200, tag="c")
        a, _ = self.split()
        [self.answer] = a
        self.assertEqual(self.answer.text, "")
        self.ack_from_a()
        [change] = self.to_a()
        self.assertEqual((head(change), change.text), ("INVITE", other))
        _, uac = self.successResultOf(self.bridging)
        self.assertEqual(uac.remote.sdp, other.encode())

    def test_both_wait(self) -> None:
        """A has not answered the first yet: the second waits too."""
        self.rings(sdp=ANSWER + MEDIA)
        self.assertEqual(self.offers(OTHER + MEDIA, tag="c", number=90), [])
        pracks = self.prack_from_a(OFFER + MEDIA)
        self.assertEqual([one.method for one in pracks], ["PRACK", "PRACK"])
        self.assertEqual({one.to.tag for one in pracks}, {"b", "c"})
        self.assertEqual([(one.status, one.text) for one in self.told], [(183, "")])


class UnreliableCallerTests(LateOfferTestCase):
    """A knows no reliable responses, so that there is no PRACK for an answer."""

    def test_answer_in_the_ack(self) -> None:
        """A has the offer in the 200, and its ACK answers it, though B's 200 describes nothing."""
        _, to_b = self.rings(extra="")
        [prack] = to_b
        self.assertEqual((prack.method, prack.text), ("PRACK", ""))
        self.whole.respond(prack, 200)
        self.whole.respond(self.invite, 200)
        [self.answer] = self.to_a()
        self.assertEqual(self.answer.text, ANSWER)
        self.ack_from_a(OFFER)
        [ack] = self.to_b()
        self.assertEqual((ack.method, ack.text), ("ACK", OFFER))
        uas, uac = self.successResultOf(self.bridging)
        self.assertEqual(uac.remote.sdp, ANSWER.encode())
        self.assertEqual(uas.remote.sdp, OFFER.encode())

    def test_kept_from_a(self) -> None:
        """So it is when A is not told that it rings."""
        _, to_b = self.rings(pass_provisional_responses=False)
        self.assertEqual([one.text for one in to_b], [""])
        self.whole.respond(to_b[0], 200)
        self.whole.respond(self.invite, 200)
        [self.answer] = self.to_a()
        self.ack_from_a(OFFER)
        self.assertEqual([one.text for one in self.to_b()], [OFFER])


class OwnPrackTests(LateOfferTestCase):
    """A changes its mind in the PRACK: B had answered its offer reliably."""

    def rings_with_offer(self) -> None:
        self.bridging = self.bridge(SUPPORTED, OFFER)
        self.invite = self.invite_b()
        [prack] = self.offers(ANSWER)
        self.whole.respond(prack, 200)

    def changes(self) -> SipRequest:
        """Let A make another offer in its PRACK."""
        extra = f"RAck: {self.answer.get('RSeq')} 1 INVITE\nContent-Type: application/sdp\n"
        self.from_a("PRACK", 2, extra, OTHER)
        [update] = self.to_b()
        assert isinstance(update, SipRequest)
        return update

    def test_passed_as_update(self) -> None:
        """B is asked with an UPDATE, and its answer is in the response to the PRACK."""
        self.rings_with_offer()
        update = self.changes()
        self.assertEqual((update.method, update.text), ("UPDATE", OTHER))
        changed = ANSWER.replace("bob 1 1", "bob 1 2")
        self.whole.respond(update, 200, body=changed)
        [answer] = self.to_a()
        self.assertEqual((head(answer), answer.text), ("200 PRACK", changed))

    def test_refused(self) -> None:
        """B's refusal is A's, and both stay with what they had."""
        self.rings_with_offer()
        self.whole.respond(self.changes(), 488)
        self.assertEqual([head(one) for one in self.to_a()], ["488 PRACK"])
        self.answers()
        uas, uac = self.successResultOf(self.bridging)
        self.assertEqual((uas.remote.sdp, uac.local.sdp), (OFFER.encode(), OFFER.encode()))


class RealServerTests(SynchronousTestCase):
    """As a real server delivers it."""

    headers: ClassVar[dict[str, str]] = {
        "To": "<sip:bob@127.0.0.1>;tag=b",
        "Require": "100rel",
        "RSeq": "7",
        "Contact": f"<{TARGET}>",
    }

    def offered(self, **options: Any) -> tuple[Any, str, Deferred[Dialog]]:
        """Call somebody who makes an offer.

        :returns: the server, the transaction, and the call.
        """
        bench = Bench()
        server = bench.connect()
        calling: Deferred[Dialog] = bench.srf.create_uac("sip:bob@127.0.0.1", **options)
        txn = server.confirm(server.one())
        self.respond(server, txn, 183, self.headers, ANSWER)
        return server, txn, calling

    def respond(
        self, server: Any, txn: str, status: int, headers: dict[str, str], body: str = ""
    ) -> None:
        """Let the callee respond."""
        options = {"dialog_id": "c1;from-tag=a", "method": "INVITE"}
        server.respond(txn, status, headers=headers, body=body, **options)

    def answer(self, server: Any, txn: str) -> None:
        """Let the callee answer, and describe nothing."""
        headers = {name: self.headers[name] for name in ("To", "Contact")}
        self.respond(server, txn, 200, headers)

    def test_unanswered_offer(self) -> None:
        """An offer that no PRACK has answered is for the ACK, though the 200 describes nothing."""
        server, txn, calling = self.offered()
        server.confirm(server.one())
        self.answer(server, txn)
        dialog = self.successResultOf(calling)
        self.assertEqual(dialog.remote.sdp, ANSWER.encode())
        self.assertEqual(server.heads(), [])
        dialog.ack(OFFER)
        self.assertEqual(server.one().request.text, OFFER)

    def test_no_body_in_a_prack(self) -> None:
        """It sends a PRACK without its body, so that the answer is kept for the ACK."""
        server, txn, calling = self.offered(on_provisional=lambda response: OFFER)
        sent = server.one()
        self.assertEqual((sent.request.text, sent.request.get("Content-Type")), ("", None))
        server.confirm(sent)
        self.answer(server, txn)
        dialog = self.successResultOf(calling)
        ack = server.one().request
        self.assertEqual((ack.method, ack.text), ("ACK", OFFER))
        self.assertEqual((dialog.local.sdp, dialog.remote.sdp), (OFFER.encode(), ANSWER.encode()))
        self.assertRaises(LocalProtocolError, dialog.ack, OFFER)

    def test_a_later_version(self) -> None:
        """The application may say which version sends it."""
        bench = Bench()
        bench.srf.set("prack-bodies-since", "0.9.10")
        server = bench.connect()
        bench.srf.create_uac("sip:bob@127.0.0.1", on_provisional=lambda response: OFFER)
        txn = server.confirm(server.one())
        self.respond(server, txn, 183, self.headers, ANSWER)
        self.assertEqual(server.one().request.text, OFFER)
