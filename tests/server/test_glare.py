"""Requests in a dialog that cross each other, or come out of order.

RFC 3261 sections 12.2.2 and 14.2, RFC 3311 section 5.2.
"""

from __future__ import annotations

from drachtwist.sip.message import Request, Response
from tests.server.doubles import head, request
from tests.server.test_uac import CallingTestCase, reply
from tests.server.test_uas import SDP, ServerTestCase, transaction

OFFER = "Content-Type: application/sdp"
DIALOG = "c1;from-tag=a"
WITH_OFFER = "\r\nContent-Type: application/sdp\r\n\r\nv=0"


class GlareTests(ServerTestCase):
    """A call that is up; the caller's requests have the numbers from 2 on."""

    def setUp(self) -> None:
        """Let a call come up."""
        super().setUp()
        self.tag = self.up()

    def peer(self, method: str, number: int, *, offer: bool = False, branch: str = "") -> None:
        """Let the caller ask in the dialog."""
        extra, body = (OFFER, SDP) if offer else ("", "")
        text = request(
            method, number=number, to_tag=self.tag, extra=extra, body=body, branch=branch
        )
        self.bench.receive(text)

    def ask(self, message: str) -> Request:
        """Let the application ask in the dialog."""
        self.app.command(f"sip||{DIALOG}\r\n{message}\r\n\r\n")
        sent = self.bench.take()[-1]
        assert isinstance(sent, Request)
        return sent

    def refusal(self) -> Response:
        """Give the final response that was sent, which no application was asked for."""
        self.assertEqual(self.app.take(), [])
        answers = [one for one in self.bench.take() if isinstance(one, Response)]
        return answers[-1]

    def assert_for_now(self) -> None:
        """See that the peer is asked to come again within ten seconds."""
        refusal = self.refusal()
        self.assertEqual(refusal.status, 500)
        self.assertTrue(0 <= int(refusal.get("Retry-After") or "-1") <= 10)

    def test_invites_cross(self) -> None:
        """While an INVITE of the application is under way, one of the peer gets 491."""
        invite = self.ask("INVITE sip:placeholder SIP/2.0")
        self.peer("INVITE", 2, offer=True)
        self.assertEqual(self.refusal().status, 491)
        self.bench.receive(reply(invite, 180))
        self.app.take()
        self.peer("INVITE", 3, offer=True)
        self.assertEqual(self.refusal().status, 491)
        self.bench.receive(reply(invite, 491))
        self.app.take()
        self.bench.take()
        self.peer("INVITE", 4, offer=True)
        [frame] = self.app.take()
        self.app.answer(transaction(frame), "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["100 INVITE", "200 INVITE"])

    def test_invite_crosses_an_offer(self) -> None:
        """An INVITE gets 491 while an offer is under way in an UPDATE, also one without."""
        update = self.ask(f"UPDATE sip:placeholder SIP/2.0{WITH_OFFER}")
        for number, offer in ((2, False), (3, True)):
            self.peer("INVITE", number, offer=offer)
            self.assertEqual(self.refusal().status, 491)
        self.bench.receive(reply(update, 200))
        self.app.take()
        self.bench.take()
        self.peer("INVITE", 4)
        self.assertEqual(len(self.app.take()), 1)

    def test_update_crosses_an_offer(self) -> None:
        """So does an UPDATE with an offer, but not one without."""
        asked = self.ask(f"INVITE sip:placeholder SIP/2.0{WITH_OFFER}")
        self.peer("UPDATE", 2, offer=True)
        self.assertEqual(self.refusal().status, 491)
        self.peer("UPDATE", 3)
        [frame] = self.app.take()
        self.app.answer(transaction(frame), "SIP/2.0 200 OK")
        self.bench.receive(reply(asked, 488))
        self.app.take()
        self.peer("UPDATE", 4, offer=True)
        self.assertEqual(len(self.app.take()), 1)

    def test_invite_crosses_an_update(self) -> None:
        """An INVITE that meets an UPDATE with an offer gets 491; one without does not matter."""
        asked = self.ask(f"UPDATE sip:placeholder SIP/2.0{WITH_OFFER}")
        self.peer("INVITE", 2, offer=True)
        self.assertEqual(self.refusal().status, 491)
        self.peer("UPDATE", 3, offer=True)
        self.assertEqual(self.refusal().status, 491)
        self.bench.receive(reply(asked, 200))
        self.app.take()
        self.ask("UPDATE sip:placeholder SIP/2.0")
        self.peer("INVITE", 4, offer=True)
        self.assertEqual(len(self.app.take()), 1)

    def test_second_invite(self) -> None:
        """While the peer's INVITE is not answered, the next one has to wait."""
        self.peer("INVITE", 2, offer=True)
        [first] = self.app.take()
        self.peer("INVITE", 3, offer=True)
        self.assert_for_now()
        self.peer("UPDATE", 4, offer=True)
        self.assert_for_now()
        self.app.answer(transaction(first), "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 INVITE"])
        self.peer("INVITE", 5, offer=True)
        self.assertEqual(len(self.app.take()), 1)

    def test_second_update(self) -> None:
        """So it is with UPDATE, with an offer or without; other requests may come together."""
        self.peer("UPDATE", 2)
        [first] = self.app.take()
        self.peer("UPDATE", 3)
        self.assert_for_now()
        for number in (4, 5):
            self.peer("INFO", number)
        self.assertEqual(len(self.app.take()), 2)
        self.app.answer(transaction(first), "SIP/2.0 200 OK")
        self.bench.take()
        self.peer("UPDATE", 6)
        self.assertEqual(len(self.app.take()), 1)

    def test_cancelled(self) -> None:
        """An INVITE that was cancelled is out of the way."""
        self.peer("INVITE", 2)
        self.app.take()
        self.bench.receive(request("CANCEL", number=2, to_tag=self.tag))
        self.assertEqual(self.bench.heads(), ["100 INVITE", "200 CANCEL", "487 INVITE"])
        self.peer("INVITE", 3)
        self.assertEqual(len(self.app.take()), 1)

    def test_application_may_ask(self) -> None:
        """What the application asks is its own business: it may send a second INVITE."""
        first = self.ask("INVITE sip:placeholder SIP/2.0")
        second = self.ask("INVITE sip:placeholder SIP/2.0")
        self.assertEqual(second.cseq.number, first.cseq.number + 1)

    def test_out_of_order(self) -> None:
        """A request with a lower number than the last one gets 500."""
        self.peer("INFO", 5)
        self.peer("INFO", 7)
        self.assertEqual(len(self.app.take()), 2)
        self.peer("INFO", 6)
        refusal = self.refusal()
        self.assertEqual((refusal.status, refusal.has("Retry-After")), (500, False))
        self.peer("INFO", 0)
        self.assertEqual(self.refusal().status, 500)
        self.peer("INFO", 7, branch="another")
        self.assertEqual(len(self.app.take()), 1)

    def test_acknowledged_late(self) -> None:
        """An ACK has the number of its INVITE, however many requests came meanwhile."""
        self.peer("INVITE", 2)
        [first] = self.app.take()
        self.app.answer(transaction(first), "SIP/2.0 200 OK")
        self.peer("INFO", 9)
        self.app.take()
        self.bench.take()
        self.peer("ACK", 2, branch="ack2")
        self.assertEqual(len(self.app.take()), 1)


class EarlyTests(ServerTestCase):
    def test_second_invite(self) -> None:
        """An INVITE in a call that still rings has to wait."""
        _, tag = self.ringing()
        self.bench.receive(request("INVITE", number=2, to_tag=tag))
        _, refusal = self.bench.take()
        assert isinstance(refusal, Response)
        self.assertEqual((refusal.status, refusal.has("Retry-After")), (500, True))

    def test_out_of_order(self) -> None:
        """While it rings too, a request with a lower number than the last one gets 500."""
        invite, tag = self.ringing(number=5)
        self.bench.take()

        def asks(method: str, number: int) -> bool:
            """Let the caller ask; say whether the application sees it, or see it refused."""
            self.bench.receive(request(method, number=number, to_tag=tag))
            frames, answers = self.app.take(), self.bench.take()
            if not frames:
                [refusal] = answers
                self.assertEqual(head(refusal), f"500 {method}")
                self.assertFalse(refusal.has("Retry-After"))
            return bool(frames)

        self.assertFalse(asks("INFO", 4))
        self.assertTrue(asks("INFO", 7))
        self.assertFalse(asks("UPDATE", 6))
        self.assertFalse(asks("BYE", 6))
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 INVITE"])
        self.assertFalse(asks("UPDATE", 6))
        self.bench.receive(request("ACK", number=5, branch="ack", to_tag=tag))
        self.assertEqual(len(self.app.take()), 1)
        self.assertTrue(asks("INFO", 8))

    def test_second_update(self) -> None:
        """So has an UPDATE while another one is not answered."""
        _, tag = self.ringing()
        update = self.offered(request("UPDATE", number=2, to_tag=tag))
        self.bench.receive(request("UPDATE", number=3, to_tag=tag))
        [refusal] = self.bench.take()
        assert isinstance(refusal, Response)
        self.assertEqual((refusal.status, refusal.has("Retry-After")), (500, True))
        self.app.answer(update, "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 UPDATE"])
        self.offered(request("UPDATE", number=4, to_tag=tag))

    def rings(self, extra: str = "", body: str = "", reliably: bool = False) -> Response:
        """Let a call come, and ring with a session description; give that response."""
        text = request("INVITE", extra=f"Supported: 100rel\n{extra}", body=body)
        invite = self.offered(text)
        lines = "Require: 100rel\r\n" if reliably else ""
        answer = f"SIP/2.0 183 Progress\r\n{lines}Content-Type: application/sdp\r\n\r\nv=0"
        self.app.command(f"sip|{invite}|\r\n{answer}")
        response = self.bench.take()[-1]
        assert isinstance(response, Response)
        return response

    def update(self, tag: str, number: int) -> list[str]:
        """Let the caller send an UPDATE with an offer; give the answer, if it was refused."""
        self.bench.receive(request("UPDATE", number=number, to_tag=tag, extra=OFFER, body=SDP))
        answers = [one for one in self.bench.take() if isinstance(one, Response)]
        self.assertEqual(len(self.app.take()), 1 - len(answers))
        return [f"{one.status} {'later' if one.has('Retry-After') else ''}" for one in answers]

    def test_offer_not_answered(self) -> None:
        """An offer that comes before the answer to that of the INVITE has to wait."""
        invite = self.offered(request("INVITE", extra=OFFER, body=SDP))
        self.app.answer(invite, "SIP/2.0 180 Ringing")
        ringing = self.bench.take()[-1]
        assert isinstance(ringing, Response)
        tag = ringing.to.tag or ""
        self.assertEqual(self.update(tag, 2), ["500 later"])
        self.app.command(
            f"sip|{invite}|\r\nSIP/2.0 183 Progress\r\nContent-Type: application/sdp\r\n\r\nv=0"
        )
        self.app.take()
        self.bench.take()
        self.assertEqual(self.update(tag, 3), [])

    def test_our_offer_not_answered(self) -> None:
        """While an offer of ours waits for its PRACK, an UPDATE with another one gets 491."""
        ringing = self.rings(reliably=True)
        tag = ringing.to.tag or ""
        self.assertEqual(self.update(tag, 2), ["491 "])
        rack = f"RAck: {ringing.get('RSeq')} 1 INVITE\n{OFFER}"
        self.offered(request("PRACK", number=3, to_tag=tag, extra=rack, body=SDP))
        self.assertEqual(self.update(tag, 4), [])

    def test_our_answer(self) -> None:
        """A reliable answer is no offer, and a description that is not reliable is none either."""
        tag = self.rings(OFFER, SDP, reliably=True).to.tag or ""
        self.assertEqual(self.update(tag, 2), [])
        self.setUp()
        tag = self.rings().to.tag or ""
        self.assertEqual(self.update(tag, 2), [])


class CallerTests(CallingTestCase):
    """The application calls."""

    def peer(self, invite: Request, method: str, number: int, *, offer: bool = False) -> None:
        """Let the called party ask in the dialog."""
        extra, body = (OFFER, SDP) if offer else ("", "")
        tag = invite.from_.tag or ""
        text = request(
            method,
            call=invite.call_id,
            number=number,
            from_tag="b",
            to_tag=tag,
            extra=extra,
            body=body,
        )
        self.bench.receive(text, port=32071)

    def test_not_answered_yet(self) -> None:
        """While the call is not accepted, its INVITE is under way; an offer in it may be not."""
        [self.echo] = self.app.command(
            f"sip||\r\nINVITE sip:bob@127.0.0.1:32071 SIP/2.0{WITH_OFFER}"
        )
        invite = self.request(self.bench.take()[-1])
        self.respond(invite, 183, extra="Require: 100rel\nRSeq: 7")
        self.peer(invite, "UPDATE", 1, offer=True)
        self.assertEqual(self.bench.heads(), ["491 UPDATE"])
        self.respond(invite, 183, extra=f"Require: 100rel\nRSeq: 8\n{OFFER}", body="v=0")
        self.peer(invite, "UPDATE", 2, offer=True)
        self.assertEqual(len(self.app.take()), 1)
        self.peer(invite, "INVITE", 3, offer=True)
        self.assertEqual(self.bench.heads(), ["100 INVITE", "491 INVITE"])

    def test_ringing_without_a_dialog(self) -> None:
        """So it is while the call only rings, without any reliable response."""
        self.app.command(f"sip||\r\nINVITE sip:bob@127.0.0.1:32071 SIP/2.0{WITH_OFFER}")
        invite = self.request(self.bench.take()[-1])
        self.respond(invite, 180)
        self.peer(invite, "UPDATE", 1, offer=True)
        self.assertEqual((self.bench.heads(), self.app.take()), (["491 UPDATE"], []))
        self.peer(invite, "UPDATE", 2)
        self.assertEqual(len(self.app.take()), 1)

    def test_ringing_without_an_offer(self) -> None:
        """An INVITE without an offer is crossed by none, whoever of those that ring has one."""
        self.app.command("sip||\r\nINVITE sip:bob@127.0.0.1:32071 SIP/2.0\r\n\r\n")
        invite = self.request(self.bench.take()[-1])
        self.respond(invite, 183, tag="z", extra="Require: 100rel\nRSeq: 7")
        self.respond(invite, 180)
        self.peer(invite, "UPDATE", 1, offer=True)
        self.assertEqual((self.bench.heads(), len(self.app.take())), ([], 1))

    def test_bye_without_ringing(self) -> None:
        """Who has not rung has no call to leave."""
        self.app.command("sip||\r\nINVITE sip:bob@127.0.0.1:32071 SIP/2.0\r\n\r\n")
        invite = self.request(self.bench.take()[-1])
        self.peer(invite, "BYE", 1)
        self.assertEqual((self.bench.heads(), self.app.take()), (["481 BYE"], []))

    def test_numbers_of_the_peer(self) -> None:
        """The peer may begin with any number."""
        invite = self.ask()
        [told] = self.respond(invite, 200)
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        for number, taken in ((3, 1), (2, 0), (4, 1)):
            self.peer(invite, "INFO", number)
            self.assertEqual(len(self.app.take()), taken)

    def test_refresh_meets_the_application(self) -> None:
        """A session refresh of the server keeps its number, whatever is asked meanwhile."""
        invite = self.ask()
        timer = "Session-Expires: 100;refresher=uac"
        [told] = self.respond(invite, 200, extra=timer)
        dialog = told.split("|")[9]
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        self.bench.clock.advance(56)
        refresh = self.request(self.bench.take()[0])
        self.peer(invite, "INVITE", 1, offer=True)
        self.assertEqual(self.bench.heads(), ["100 INVITE", "491 INVITE"])
        self.app.ask(dialog, "INVITE sip:placeholder SIP/2.0")
        own = self.request(self.bench.take()[0])
        self.assertEqual(own.cseq.number, refresh.cseq.number + 1)
        for _ in range(2):
            self.assertEqual(self.respond(refresh, 200, extra=timer), [])
            [ack] = self.bench.take()
            self.assertEqual((head(ack), ack.cseq.number), ("ACK", refresh.cseq.number))
        self.assertEqual(len(self.respond(own, 200)), 1)
        self.respond(own, 200)
        self.assertEqual(self.bench.take(), [])
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        [first] = self.bench.take()
        self.assertEqual(first.cseq.number, own.cseq.number)
        self.respond(own, 200)
        self.assertEqual([bytes(one) for one in self.bench.take()], [bytes(first)])
