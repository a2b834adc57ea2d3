"""Early dialogs: what comes, and what may be sent, between a 1xx and the final response.

Most of this runs with the application and the embedded server together. Where a real server behaves
otherwise (protocol.md 5.6 and 10), a double plays it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    CommandRefused,
    Dialog,
    LocalProtocolError,
    ReceivedResponse,
    Request,
    Response,
    SipError,
)
from drachtwist.sip import Request as SipRequest
from drachtwist.sip import Response as SipResponse
from tests.app.calling import A, CallTestCase
from tests.app.doubles import ANSWER, OFFER, Bench
from tests.server.doubles import request
from tests.whole import TARGET, Whole

DIALOG = "c1;from-tag=a"


class RealServerTestCase(SynchronousTestCase):
    """A server that delivers an UPDATE under the name of the INVITE of ours that it crosses.

    It takes an answer without CSeq for one to the INVITE, and does not survive that.
    """

    def setUp(self) -> None:
        """Call somebody who rings."""
        self.bench = Bench()
        self.srf = self.bench.srf

    def rings(self, **options: Any) -> Deferred[Dialog]:
        """Connect, call, and let it ring."""
        self.server = self.bench.connect()
        calling = self.srf.create_uac("sip:bob@127.0.0.1", local_sdp=OFFER, **options)
        self.txn = self.server.confirm(self.server.one())
        headers = {"To": "<sip:bob@127.0.0.1>;tag=b"}
        self.server.respond(self.txn, 180, headers=headers, dialog_id=DIALOG, method="INVITE")
        return calling

    def update(self, method: str = "UPDATE", number: int = 7, **options: Any) -> None:
        """Let the callee ask in the early dialog."""
        options.setdefault("headers", {"From": "<sip:bob@127.0.0.1>;tag=b"})
        self.server.ask(method, transaction_id=self.txn, dialog_id=DIALOG, number=number, **options)

    def answer(self, method: str = "UPDATE", number: int = 7) -> int:
        """Give the status of the answer, which says what it answers."""
        sent = self.server.one()
        self.assertEqual(sent.transaction_id, self.txn)
        self.assertEqual(sent.response.get("CSeq"), f"{number} {method}")
        return sent.response.status


class RealServerUpdateTests(RealServerTestCase):
    """An UPDATE of the callee, or of a caller."""

    def test_nobody_handles_it(self) -> None:
        """While the offer of our INVITE is not answered, an offer of theirs gets 491."""
        calling = self.rings()
        self.update(body=ANSWER)
        self.assertEqual(self.answer(), 491)
        self.assertNoResult(calling)

    def test_without_offer(self) -> None:
        """An UPDATE that offers nothing is accepted."""
        self.rings()
        self.update()
        self.assertEqual(self.answer(), 200)

    def test_handler_of_the_call(self) -> None:
        """``on_update`` is called, and what it sends answers the UPDATE."""
        seen: list[str] = []

        def on_update(req: Request, res: Response) -> None:
            seen.append(req.text)
            res.send(200, body=OFFER)

        calling = self.rings(on_update=on_update)
        self.update(body=ANSWER)
        self.assertEqual(self.answer(), 200)
        self.assertEqual(seen, [ANSWER])
        self.assertNoResult(calling)

    def test_handler_of_the_application(self) -> None:
        """So does what a handler of the method sends, whatever it is."""
        self.srf.update(lambda req, res: res.send(488))
        self.rings()
        self.update(body=ANSWER)
        self.assertEqual(self.answer(), 488)

    def test_middleware(self) -> None:
        """So does what middleware sends."""
        self.srf.use(lambda req, res, next: res.send(403))
        self.rings()
        self.update(body=ANSWER)
        self.assertEqual(self.answer(), 403)

    def test_handler_fails(self) -> None:
        """So does the 500 for a handler that fails."""
        self.srf.update(lambda req, res: 1 / 0)
        self.rings()
        self.update(body=ANSWER)
        self.assertEqual(self.answer(), 500)
        self.flushLoggedErrors(ZeroDivisionError)

    def test_when_stopping(self) -> None:
        """So does what is answered while the application stops."""
        calling = self.rings()
        self.srf.stop(drain=10)
        self.server.heads()
        self.update(body=ANSWER)
        self.assertEqual(self.answer(), 491)
        self.assertNoResult(calling)

    def test_any_method(self) -> None:
        """Whatever comes under the name of another request: the answer says what it is for."""
        self.rings()
        for number, method in enumerate(("INFO", "FOO", "SUBSCRIBE"), 8):
            self.update(method, number)
            self.assertLess(self.answer(method, number), 502)

    def test_answered_in_a_dialog(self) -> None:
        """One that waited while the call was accepted is still told apart from the INVITE."""
        waiting: list[Response] = []
        calling = self.rings(on_update=lambda req, res: waiting.append(res))
        self.update(body=ANSWER)
        self.server.respond(
            self.txn,
            200,
            headers={"To": "<sip:bob@127.0.0.1>;tag=b", "Contact": "<sip:bob@127.0.0.1>"},
            dialog_id=DIALOG,
            method="INVITE",
            body=ANSWER,
        )
        self.successResultOf(calling)
        self.assertEqual(self.server.heads(), ["ACK"])
        waiting[0].send(200, body=OFFER)
        self.assertEqual(self.answer(), 200)

    def test_caller_updates(self) -> None:
        """The other way round: an UPDATE of a caller under the name of his INVITE."""
        kept: list[tuple[Request, Response]] = []
        self.srf.invite(lambda req, res: kept.append((req, res)))
        self.srf.use(lambda req, res, next: res.send(403) if req.method == "UPDATE" else next())
        self.server = self.bench.connect()
        self.txn = self.server.invite()
        kept[0][1].send(183, body=ANSWER)
        self.server.confirm(self.server.one(), DIALOG)
        self.update(headers={}, body=OFFER)
        self.assertEqual(self.answer(), 403)
        self.assertFalse(kept[0][1].finished)


EARLY = ("INFO", "OPTIONS", "MESSAGE", "NOTIFY", "PUBLISH", "REFER", "UPDATE")


class CrossingUpdateTests(RealServerTestCase):
    def test_second(self) -> None:
        """An UPDATE before the one before is answered has to come again later."""
        self.rings(on_update=lambda req, res: None)
        self.update()
        self.assertEqual(self.server.heads(), [])
        self.update(number=8)
        self.assertEqual(self.answer(number=8), 500)

    def test_refused(self) -> None:
        """An UPDATE of ours that is refused changes nothing of what was agreed on."""
        seen: list[ReceivedResponse] = []
        self.rings(on_provisional=seen.append)
        early = seen[0].early_dialog
        assert early is not None
        early.session.received(ANSWER.encode(), in_response=True)
        early.update(body=OFFER.replace("1001 1 ", "1001 2 "))
        txn = self.server.confirm(self.server.one())
        self.server.respond(txn, 488, method="UPDATE", dialog_id=DIALOG)
        self.assertEqual(early.local_sdp, OFFER.encode())

    def test_hint(self) -> None:
        """What an unreliable response describes counts when the 200 says nothing."""
        calling = self.rings()
        contact = {"To": "<sip:bob@127.0.0.1>;tag=b", "Contact": "<sip:bob@127.0.0.1>"}
        for status, body in ((183, ANSWER), (200, "")):
            self.server.respond(
                self.txn,
                status,
                method="INVITE",
                dialog_id=DIALOG,
                headers=contact,
                body=body,
            )
        self.assertEqual(self.successResultOf(calling).remote.sdp, ANSWER.encode())


class CallerTests(CallTestCase):
    """A caller whom the application lets hear that it rings."""

    def rings(self, status: int = 180, extra: str = "", **options: Any) -> None:
        """Let a call come, and ring."""
        self.req, self.res = self.ring(extra)
        self.res.send(status, **options)
        self.answer = self.last_response()

    def last_response(self) -> SipResponse:
        """Take the last response that was sent."""
        found = [one for one in self.whole.sent() if isinstance(one, SipResponse)]
        return found[-1]

    def reliably(self, body: str = ANSWER) -> None:
        """Let a call ring reliably, with a session description."""
        self.rings(183, "Supported: 100rel", headers={"Require": "100rel"}, body=body)
        self.from_a("PRACK", 2, f"RAck: {self.answer.get('RSeq')} 1 INVITE")
        self.assertEqual(self.whole.heads(), ["200 PRACK"])

    def test_nobody_handles_it(self) -> None:
        """Requests in the early dialog are answered, never with 481, which ends the call."""
        self.rings()
        for number, method in enumerate(EARLY, 2):
            self.from_a(method, number)
            self.assertEqual(self.whole.heads(), [f"200 {method}"])
        self.from_a("FOO", 20)
        self.assertEqual(self.whole.heads(), ["501 FOO"])
        self.assertFalse(self.res.finished)

    def test_handled(self) -> None:
        """Handlers of the application see them."""
        seen: list[str] = []

        def handle(req: Request, res: Response) -> None:
            seen.append(req.method)
            res.send(202)

        for method in EARLY:
            self.srf.use(method, handle)
        self.rings()
        for number, method in enumerate(EARLY, 2):
            self.from_a(method, number)
            self.assertEqual(self.whole.heads(), [f"202 {method}"])
        self.assertEqual(seen, list(EARLY))

    def test_handled_in_the_dialog(self) -> None:
        """Handlers of the early dialog see them first."""
        self.srf.info(lambda req, res: res.send(403))
        self.rings()
        early = self.req.early_dialog
        assert early is not None
        seen: list[str] = []

        @early.on_info
        def digit(req: Request, res: Response) -> None:
            seen.append(req.text)
            res.send(200)

        self.from_a("INFO", 2, "Content-Type: application/dtmf-relay", "Signal=5")
        self.assertEqual((self.whole.heads(), seen), (["200 INFO"], ["Signal=5"]))

    def test_hangs_up(self) -> None:
        """A BYE before the answer gets 200, the INVITE 487, and the application a CANCEL."""
        self.rings()
        seen: list[Request | None] = []
        self.req.on_cancel(seen.append)
        self.from_a("BYE", 2, 'Reason: Q.850;cause=16;text="bye"')
        self.assertEqual(self.whole.heads(), ["200 BYE", "487 INVITE"])
        [cancel] = seen
        assert cancel is not None
        self.assertEqual(cancel.get("Reason"), 'Q.850;cause=16;text="bye"')
        self.assertTrue(self.res.finished)
        self.assertTrue(self.srf.idle)

    def test_hangs_up_after_prack(self) -> None:
        """So it is behind a reliable response."""
        self.reliably()
        seen: list[Request | None] = []
        self.req.on_cancel(seen.append)
        self.from_a("BYE", 3)
        self.assertEqual(sorted(self.whole.heads()), ["200 BYE", "487 INVITE"])
        self.assertEqual(len(seen), 1)
        self.assertTrue(self.srf.idle)

    def test_hangs_up_while_the_200_waits(self) -> None:
        """A 200 that waits for a PRACK, which never comes: the dialog ends."""
        self.rings(183, "Supported: 100rel", headers={"Require": "100rel"}, body=ANSWER)
        accepting = self.srf.create_uas(self.req, self.res, local_sdp=ANSWER)
        self.assertNoResult(accepting)
        self.from_a("BYE", 2)
        self.assertEqual(sorted(self.whole.heads()), ["200 BYE", "487 INVITE"])
        self.assertEqual(self.failureResultOf(accepting, SipError).value.status, 487)
        self.whole.pass_time(40, 1.0)
        self.assertTrue(self.srf.idle)

    def test_leaves_while_b_rings(self) -> None:
        """The call to B of a caller that leaves is cancelled."""
        req, res = self.ring()
        bridging = self.srf.create_b2bua(req, res, TARGET)
        invite = self.whole.request()
        self.whole.respond(invite, 180)
        self.answer = self.last_response()
        self.from_a("BYE", 2)
        self.assertIn("CANCEL", self.whole.heads())
        self.whole.respond(invite, 487)
        self.assertEqual(self.failureResultOf(bridging, SipError).value.status, 487)
        self.whole.pass_time(40, 1.0)
        self.assertTrue(self.srf.idle)

    def test_send(self) -> None:
        """The application asks in the early dialog, with numbers that go on in the call."""
        self.rings()
        early = self.req.early_dialog
        assert early is not None
        for number, method in enumerate(("INFO", "NOTIFY", "OPTIONS", "MESSAGE", "UPDATE"), 2):
            sending = early.request(method, headers={"Event": "talk"})
            asked = self.whole.request()
            self.assertEqual((asked.method, asked.cseq.number), (method, number))
            self.assertEqual(asked.uri, f"sip:alice@127.0.0.1:{A}")
            self.assertEqual(asked.get("To"), self.req.get("From"))
            self.assertEqual(asked.get("From"), self.answer.get("To"))
            self.whole.respond(asked, 200)
            self.assertEqual(self.successResultOf(sending).status, 200)
        accepting = self.srf.create_uas(self.req, self.res, local_sdp=ANSWER)
        self.assertEqual(self.last_response().get("To"), self.answer.get("To"))
        self.from_a("ACK", 1)
        dialog = self.successResultOf(accepting)
        self.assertTrue(early.over)
        self.failureResultOf(early.info(), SipError)
        info = dialog.info()
        asked = self.whole.request()
        self.assertEqual(asked.cseq.number, 7)
        self.whole.respond(asked, 200)
        self.successResultOf(info)

    def test_answered_while_asking(self) -> None:
        """What was asked before the answer may be answered behind it."""
        self.rings()
        early = self.req.early_dialog
        assert early is not None
        sending = early.info()
        asked = self.whole.request()
        self.srf.create_uas(self.req, self.res, local_sdp=ANSWER)
        self.from_a("ACK", 1)
        self.whole.heads()
        self.whole.respond(asked, 200)
        self.assertEqual(self.successResultOf(sending).status, 200)

    def test_refused_while_asking(self) -> None:
        """When the call ends, whoever asked learns what became of it."""
        self.rings()
        early = self.req.early_dialog
        assert early is not None
        sending = early.info()
        self.whole.request()
        self.res.send(486)
        self.whole.pass_time(33)
        self.assertEqual(self.successResultOf(sending).status, 408)

    def test_update_is_remembered(self) -> None:
        """What a caller changed before the answer is what the dialog knows."""
        self.reliably()
        self.req.on_update(lambda req, res: res.send(200, body=ANSWER.replace("77 1", "77 2")))
        self.from_a("UPDATE", 3, "Content-Type: application/sdp", OFFER.replace("1001 1", "1001 2"))
        self.assertEqual(self.whole.heads(), ["200 UPDATE"])
        accepting = self.srf.create_uas(self.req, self.res)
        self.whole.sent()
        self.from_a("ACK", 1)
        dialog = self.successResultOf(accepting)
        self.assertEqual(dialog.remote.sdp, OFFER.replace("1001 1", "1001 2").encode())
        self.assertEqual(dialog.local.sdp, ANSWER.replace("77 1", "77 2").encode())

    def test_reliable_answer_is_remembered(self) -> None:
        """What was described in a reliable response is ours when the 200 says nothing."""
        self.reliably()
        accepting = self.srf.create_uas(self.req, self.res)
        self.whole.sent()
        self.from_a("ACK", 1)
        dialog = self.successResultOf(accepting)
        self.assertEqual(dialog.local.sdp, ANSWER.encode())
        self.assertEqual(dialog.remote.sdp, self.req.body)

    def test_offer_when_all_is_answered(self) -> None:
        """An UPDATE that nobody handles is accepted once the first offer was answered."""
        self.reliably()
        self.from_a("UPDATE", 3, "Content-Type: application/sdp", OFFER.replace("1001 1", "1001 2"))
        [answer] = self.whole.sent()
        assert isinstance(answer, SipResponse)
        self.assertEqual((answer.status, answer.text), (200, ANSWER))

    def test_option_tags_are_case_blind(self) -> None:
        """``Require: 100REL`` is reliable for both halves: one of them holds the 200."""
        self.rings(183, "Supported: 100rel", headers={"Require": "100REL"}, body=ANSWER)
        self.assertTrue(self.answer.has("RSeq"))
        accepting = self.srf.create_uas(self.req, self.res, local_sdp=ANSWER)
        self.assertEqual(self.whole.heads(), [])
        self.assertNoResult(accepting)
        self.from_a("PRACK", 2, f"RAck: {self.answer.get('RSeq')} 1 INVITE")
        self.assertEqual(self.whole.heads(), ["200 PRACK", "200 INVITE"])
        self.successResultOf(accepting)

    def test_not_listed(self) -> None:
        """A tag that only begins like it is another one."""
        self.rings(183, "Supported: 100relay", body=ANSWER)
        sending = self.res.send(183, headers={"Require": "100relay"})
        self.assertFalse(self.last_response().has("RSeq"))
        self.successResultOf(sending)


class CalleeTests(SynchronousTestCase):
    """Somebody whom the application calls, and who rings."""

    def setUp(self) -> None:
        """Connect the application."""
        self.whole = Whole()
        self.srf = self.whole.srf
        self.seen: list[ReceivedResponse] = []

    def rings(self, status: int = 180, body: str = "", **options: Any) -> None:
        """Call, and let it ring."""
        extra = options.pop("extra", None)
        options.setdefault("on_provisional", lambda response: self.seen.append(response))
        options.setdefault("local_sdp", OFFER)
        self.calling = self.srf.create_uac(TARGET, **options)
        self.invite = self.whole.request()
        self.whole.respond(self.invite, status, headers=extra, body=body)

    def reliably(self, body: str = ANSWER, **options: Any) -> None:
        """Let it ring reliably, and answer the PRACK."""
        self.rings(183, body, extra={"Require": "100rel", "RSeq": "1"}, **options)
        self.prack = self.whole.request()
        self.whole.respond(self.prack, 200)

    def from_b(
        self, method: str, number: int, body: str = "", tag: str = "b", extra: str = ""
    ) -> list[str]:
        """Let the callee ask in the early dialog; give what was sent then."""
        lines = [
            f"{method} sip:127.0.0.1:32060 SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:32071;branch=z9hG4bK-b-{method}-{number}-{tag}",
            f"From: {self.invite.get('To')};tag={tag}",
            f"To: {self.invite.get('From')}",
            f"Call-ID: {self.invite.call_id}",
            f"CSeq: {number} {method}",
            "Contact: <sip:bob@127.0.0.1:32071>",
            *extra.splitlines(),
        ]
        if body:
            lines.append("Content-Type: application/sdp")
        lines.append(f"Content-Length: {len(body)}")
        self.whole.receive("\n".join(lines) + "\n\n" + body)
        return self.whole.heads()

    def up(self, body: str = ANSWER, tag: str = "b") -> Dialog:
        """Let the callee answer."""
        self.whole.respond(self.invite, 200, body=body, tag=tag)
        self.assertIn("ACK", self.whole.heads())
        return self.successResultOf(self.calling)

    def test_nobody_handles_it(self) -> None:
        """Requests in the early dialog are answered, never with 481."""
        self.rings()
        for number, method in enumerate(EARLY, 1):
            self.assertEqual(self.from_b(method, number), [f"200 {method}"])
        self.assertEqual(self.from_b("FOO", 20), ["501 FOO"])
        self.assertEqual(self.from_b("UPDATE", 21, ANSWER), ["491 UPDATE"])
        self.up()

    def test_handled(self) -> None:
        """Handlers of the application see them."""
        for method in EARLY:
            self.srf.use(method, lambda req, res: res.send(202))
        self.rings()
        for number, method in enumerate(EARLY, 1):
            self.assertEqual(self.from_b(method, number), [f"202 {method}"])

    def test_offer_when_all_is_answered(self) -> None:
        """An UPDATE that nobody handles is accepted once the first offer was answered."""
        self.reliably()
        self.assertEqual(self.from_b("UPDATE", 1, ANSWER.replace("77 1", "77 2")), ["200 UPDATE"])
        dialog = self.up("")
        self.assertEqual(dialog.remote.sdp, ANSWER.replace("77 1", "77 2").encode())

    def test_second_update(self) -> None:
        """While one UPDATE is not answered, the next one has to come again."""
        waiting: list[Response] = []
        self.rings(on_update=lambda req, res: waiting.append(res))
        self.assertEqual(self.from_b("UPDATE", 1), [])
        self.assertEqual(self.from_b("UPDATE", 2), ["500 UPDATE"])
        waiting[0].send(200)
        self.assertEqual(self.whole.heads(), ["200 UPDATE"])

    def test_hangs_up(self) -> None:
        """A BYE of the callee before the answer: 200, and the call has failed with 487."""
        self.rings()
        self.assertIn("200 BYE", self.from_b("BYE", 1))
        self.assertEqual(self.failureResultOf(self.calling, SipError).value.status, 487)
        self.whole.respond(self.invite, 487)
        self.whole.pass_time(80, 1.0)
        self.assertTrue(self.srf.idle)

    def test_hangs_up_reliably(self) -> None:
        """So it is behind a reliable response, also when nothing follows."""
        self.reliably()
        self.assertIn("200 BYE", self.from_b("BYE", 1))
        self.assertEqual(self.failureResultOf(self.calling, SipError).value.status, 487)
        self.whole.pass_time(120, 1.0)
        self.assertTrue(self.srf.idle)

    def test_answers_all_the_same(self) -> None:
        """A 200 behind the BYE is acknowledged and ended."""
        self.rings()
        self.from_b("BYE", 1)
        self.failureResultOf(self.calling, SipError)
        self.whole.respond(self.invite, 200, body=ANSWER)
        heads = self.whole.heads()
        self.assertLess(heads.index("ACK"), heads.index("BYE"))

    def test_one_of_several_hangs_up(self) -> None:
        """When others ring too, the call goes on."""
        self.rings()
        self.whole.respond(self.invite, 180, tag="c")
        self.assertIn("200 BYE", self.from_b("BYE", 1))
        self.assertNoResult(self.calling)
        self.assertEqual(self.up(tag="c").remote.tag, "c")

    def test_send(self) -> None:
        """The application asks in the early dialog, with numbers that go on in the call."""
        self.rings()
        early = self.seen[0].early_dialog
        assert early is not None
        number = self.invite.cseq.number
        sending = early.notify(headers={"Event": "talk", "Subscription-State": "active"})
        asked = self.whole.request()
        self.assertEqual((asked.method, asked.cseq.number), ("NOTIFY", number + 1))
        self.assertEqual((asked.uri, asked.get("Event")), (TARGET, "talk"))
        self.assertEqual(asked.to.tag, "b")
        self.whole.respond(asked, 200)
        self.assertEqual(self.successResultOf(sending).status, 200)
        dialog = self.up()
        self.assertTrue(early.over)
        self.assertIsNone(self.seen[0].early_dialog)
        dialog.info()
        self.assertEqual(self.whole.request().cseq.number, number + 2)

    def test_update(self) -> None:
        """An offer may be sent when the one before was answered, and its answer counts."""
        self.reliably()
        early = self.seen[0].early_dialog
        assert early is not None
        updating = early.update(body=OFFER.replace("1001 1", "1001 2"))
        with self.assertRaises(LocalProtocolError):
            early.update(body=OFFER)
        asked = self.whole.request()
        self.assertEqual(self.from_b("UPDATE", 1, ANSWER), ["491 UPDATE"])
        self.whole.respond(asked, 488)
        self.assertEqual(self.successResultOf(updating).status, 488)
        self.assertEqual(early.local_sdp, OFFER.encode())
        self.assertEqual(self.from_b("UPDATE", 2, ANSWER), ["200 UPDATE"])

    def test_update_counts(self) -> None:
        """What an UPDATE of ours has led to is what the dialog knows, whatever the 200 repeats."""
        self.reliably()
        early = self.seen[0].early_dialog
        assert early is not None
        updating = early.update(body=OFFER.replace("1001 1", "1001 2"))
        self.whole.respond(self.whole.request(), 200, body=ANSWER.replace("77 1", "77 2"))
        self.assertEqual(self.successResultOf(updating).status, 200)
        dialog = self.up(ANSWER)
        self.assertEqual(dialog.local.sdp, OFFER.replace("1001 1", "1001 2").encode())
        self.assertEqual(dialog.remote.sdp, ANSWER.replace("77 1", "77 2").encode())

    def test_update_too_early(self) -> None:
        """An offer while the INVITE's is not answered is not sent."""
        self.rings()
        early = self.seen[0].early_dialog
        assert early is not None
        with self.assertRaises(LocalProtocolError):
            early.update(body=OFFER)
        for method in ("BYE", "INVITE", "ACK", "CANCEL", "PRACK"):
            with self.assertRaises(LocalProtocolError):
                early.request(method)
        self.assertEqual(self.whole.heads(), [])

    def test_reliable_answer_is_remembered(self) -> None:
        """The answer in a reliable response counts when the 200 says nothing."""
        self.reliably()
        dialog = self.up("")
        self.assertEqual((dialog.local.sdp, dialog.remote.sdp), (OFFER.encode(), ANSWER.encode()))

    def test_answer_of_another(self) -> None:
        """But not when somebody else answers."""
        self.reliably()
        dialog = self.up("", tag="c")
        self.assertEqual(dialog.remote.sdp, b"")

    def test_offer_in_reliable_response(self) -> None:
        """An offer in a reliable response is answered in the PRACK; the ACK owes nothing."""
        self.reliably(local_sdp=None, on_provisional=lambda response: OFFER)
        self.assertEqual(self.prack.text, OFFER)
        dialog = self.up(ANSWER)
        self.assertEqual((dialog.local.sdp, dialog.remote.sdp), (OFFER.encode(), ANSWER.encode()))

    def test_bridged_to_a_caller_without_100rel(self) -> None:
        """The caller gets B's session description in the 200, although B's 200 has none."""
        kept: list[tuple[Request, Response]] = []
        self.srf.invite(lambda req, res: kept.append((req, res)))
        self.whole.pump()
        self.whole.receive(request("INVITE", body=OFFER, extra="Content-Type: application/sdp"), A)
        self.whole.sent()
        self.srf.create_b2bua(*kept[0], TARGET)
        invite = self.whole.request()
        headers = {"Require": "100rel", "RSeq": "1"}
        self.whole.respond(invite, 183, headers=headers, body=ANSWER)
        [prack] = [one for one in self.whole.sent() if isinstance(one, SipRequest)]
        self.whole.respond(prack, 200)
        self.whole.respond(invite, 200)
        [answer] = [
            one for one in self.whole.sent() if isinstance(one, SipResponse) and one.status == 200
        ]
        self.assertEqual(answer.text, ANSWER)


class RealServerTests(RealServerTestCase):
    """What a real server does otherwise in early dialogs."""

    def test_silent_bye(self) -> None:
        """A call that the server has forgotten is given up, four minutes after the last sign."""
        calling = self.rings()
        self.bench.pass_time(239)
        headers = {"To": "<sip:bob@127.0.0.1>;tag=b"}
        self.server.respond(self.txn, 180, headers=headers, dialog_id=DIALOG, method="INVITE")
        self.bench.pass_time(239)
        self.assertNoResult(calling)
        self.bench.pass_time(2)
        [cancel] = self.server.take()
        self.assertEqual(cancel.head, "CANCEL")
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 408)
        self.server.refuse(cancel, f"unable to cancel unknown transaction id: {self.txn}")
        self.bench.pass_time(100)
        self.assertTrue(self.srf.idle)

    def test_bye_and_nothing_else(self) -> None:
        """Behind a reliable response the BYE is delivered, and the INVITE never ends."""
        calling = self.rings()
        self.reliable_response("Contact: <sip:bob@127.0.0.1:5>")
        prack = self.server.confirm(self.server.one())
        self.server.respond(prack, 200, dialog_id=DIALOG, method="PRACK")
        headers = {"From": "<sip:bob@127.0.0.1>;tag=b"}
        self.server.ask("BYE", dialog_id=DIALOG, headers=headers)
        bye, cancel = self.server.take()
        self.assertEqual((bye.head, cancel.head), ("200", "CANCEL"))
        self.server.confirm(bye)
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 487)
        self.server.refuse(cancel, f"unable to cancel unknown transaction id: {self.txn}")
        self.bench.pass_time(3)
        self.assertTrue(self.srf.idle)

    def reliable_response(self, extra: str = "") -> None:
        """Let it ring reliably."""
        headers = {"To": "<sip:bob@127.0.0.1>;tag=b", "Require": "100rel", "RSeq": "3"}
        if extra:
            name, _, value = extra.partition(": ")
            headers[name] = value
        headers["CSeq"] = "1 INVITE"
        self.server.respond(self.txn, 183, headers=headers, dialog_id=DIALOG, method="INVITE")

    def test_prack_without_contact(self) -> None:
        """Without a Contact in the reliable response, the PRACK goes where the INVITE went."""
        self.rings()
        self.reliable_response()
        prack = self.server.one()
        self.assertEqual(prack.request.uri, "sip:bob@127.0.0.1")
        self.assertEqual(prack.request.get("RAck"), "3 1 INVITE")

    def test_prack_with_contact(self) -> None:
        """With one, it goes there."""
        self.rings()
        self.reliable_response("Contact: <sip:bob@127.0.0.1:5;x=y>;z")
        self.assertEqual(self.server.one().request.uri, "sip:bob@127.0.0.1:5;x=y")

    def test_prack_with_odd_contact(self) -> None:
        """With one that nobody can read, where the INVITE went."""
        self.rings()
        self.reliable_response("Contact: <<<>")
        self.assertEqual(self.server.one().request.uri, "sip:bob@127.0.0.1")

    def test_reliable_as_the_server_reads_it(self) -> None:
        """``Require: 100REL`` is written as the server knows it, which looks for ``100rel``."""
        kept: list[tuple[Request, Response]] = []
        self.srf.invite(lambda req, res: kept.append((req, res)))
        self.server = self.bench.connect()
        self.server.invite()
        kept[0][1].send(183, headers={"Require": "timer, 100REL", "X-A": "100REL"}, body="100REL")
        sent = self.server.one().response
        self.assertEqual((sent.get("Require"), sent.get("X-A")), ("timer, 100rel", "100REL"))
        self.assertEqual(sent.text, "100REL")

    def test_nothing_is_sent_here(self) -> None:
        """That the server sends nothing in the early dialog is a clear error."""
        early: list[Any] = []
        self.rings(on_provisional=lambda response: early.append(response.early_dialog))
        sending = early[0].info()
        self.server.refuse(
            self.server.one(), "Server error: unable to find dialog for dialog id provided"
        )
        error = self.failureResultOf(sending, CommandRefused).value
        self.assertIn("early dialog", str(error))
