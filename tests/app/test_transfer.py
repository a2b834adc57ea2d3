"""Transfers: REFER both ways, its NOTIFYs, and Replaces."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    ConnectionLost,
    Dialog,
    LocalProtocolError,
    MessageError,
    Progress,
    Referral,
    Request,
    Response,
    SipError,
    accept_refer,
    find_replaced_dialog,
    transfer,
)
from drachtwist.sip import Request as SipRequest
from tests.app.calling import ANSWER, OFFER, A, CallTestCase
from tests.app.doubles import Bench
from tests.server.doubles import request
from tests.whole import TARGET

ACTIVE = "Event: refer\nSubscription-State: active;expires=60\nContent-Type: message/sipfrag\n"
OVER = ACTIVE.replace("active;expires=60", "terminated;reason=noresource")


class TransferTests(CallTestCase):
    def refer(self, target: str | Dialog = "sip:carol@example.net") -> Deferred[Progress]:
        """Transfer the call of a phone, which accepts that."""
        self.dialog = self.answered()
        self.seen: list[Progress] = []
        transferring = transfer(self.dialog, target, on_progress=self.seen.append)
        self.sent = self.whole.request()
        self.whole.respond(self.sent, 202, port=A)
        return transferring

    def test_blind(self) -> None:
        """REFER names the target and who refers; each NOTIFY is answered; 200 is success."""
        transferring = self.refer()
        self.assertEqual(self.sent.method, "REFER")
        self.assertEqual(self.sent.get("Refer-To"), "<sip:carol@example.net>")
        self.assertIn("Referred-By", [name for name, _ in self.sent.headers.items()])
        self.from_a("NOTIFY", 2, ACTIVE, "SIP/2.0 180 Ringing\n")
        self.assertEqual(self.whole.heads(), ["200 NOTIFY"])
        self.assertNoResult(transferring)
        self.from_a("NOTIFY", 3, OVER, "SIP/2.0 200 OK\n")
        self.assertEqual(self.successResultOf(transferring), Progress(200, "OK"))
        self.assertEqual(self.seen, [Progress(180, "Ringing"), Progress(200, "OK")])
        self.assertTrue(self.dialog.connected)

    def test_target_refuses(self) -> None:
        """When the target refuses, the transfer fails with its status, and the call goes on."""
        transferring = self.refer()
        self.from_a("NOTIFY", 2, OVER, "SIP/2.0 486 Busy Here\n")
        failure = self.failureResultOf(transferring, SipError)
        self.assertEqual(failure.value.status, 486)
        self.assertTrue(self.dialog.connected)

    def test_peer_refuses(self) -> None:
        """A peer that does not want to be transferred answers the REFER so."""
        self.dialog = self.answered()
        transferring = transfer(self.dialog, TARGET)
        self.whole.respond(self.whole.request(), 603, port=A)
        self.assertEqual(self.failureResultOf(transferring, SipError).value.status, 603)

    def test_peer_hangs_up(self) -> None:
        """A peer that hangs up before it told the outcome leaves it open, but not for ever."""
        transferring = self.refer()
        self.from_a("BYE", 2)
        self.assertEqual(self.successResultOf(transferring), Progress(0, ""))

    def test_silence(self) -> None:
        """Without any news the transfer fails with 408 when its time is over."""
        transferring = self.refer()
        self.whole.clock.advance(180)
        self.assertEqual(self.failureResultOf(transferring, SipError).value.status, 408)
        self.from_a("NOTIFY", 2, OVER, "SIP/2.0 200 OK\n")
        self.assertEqual(self.whole.heads(), ["200 NOTIFY"])

    def test_link_lost(self) -> None:
        """The loss of the connection ends the waiting with a typed error."""
        transferring = self.refer()
        self.whole.lose()
        self.failureResultOf(transferring, ConnectionLost)

    def test_other_notify(self) -> None:
        """A NOTIFY of something else is for the handlers of the dialog."""
        transferring = self.refer()
        others: list[str] = []

        @self.dialog.on_notify
        def notify(req: Request, res: Response) -> None:
            others.append(req.get("Event") or "")
            res.send(200)

        self.from_a("NOTIFY", 2, ACTIVE.replace("refer", "talk"), "")
        self.assertEqual(others, ["talk"])
        self.assertNoResult(transferring)

    def test_notify_of_another(self) -> None:
        """Of two transfers in one dialog each has the news with the number of its own REFER."""
        first = self.refer()
        first_id = f"refer;id={self.sent.cseq.number}"
        second = transfer(self.dialog, "sip:dave@example.net")
        sent = self.whole.request()
        self.whole.respond(sent, 202, port=A)
        second_id = f"refer;id={sent.cseq.number}"
        self.from_a("NOTIFY", 2, OVER.replace("refer", second_id), "SIP/2.0 200 OK\n")
        self.assertEqual(self.successResultOf(second), Progress(200, "OK"))
        self.assertNoResult(first)
        self.from_a("NOTIFY", 3, OVER.replace("refer", first_id), "SIP/2.0 486 Busy Here\n")
        self.assertEqual(self.failureResultOf(first, SipError).value.status, 486)
        self.whole.sent()
        self.whole.pass_time(40)
        self.assertEqual(self.whole.clock.getDelayedCalls(), [])  # no time limit is left over

    def test_attended(self) -> None:
        """An attended transfer names the other dialog, seen by its peer, in Replaces."""
        calling = self.srf.create_uac(TARGET, local_sdp=OFFER)
        self.whole.respond(self.whole.request(), 200, tag="carol", body=ANSWER)
        other = self.successResultOf(calling)
        self.whole.sent()
        self.refer(other)
        to = self.sent.get("Refer-To") or ""
        self.assertTrue(to.startswith("<sip:bob@127.0.0.1:32071?Replaces="), to)
        self.assertIn(f"{other.call_id}%3Bto-tag%3Dcarol%3Bfrom-tag%3D{other.local.tag}>", to)

    def test_dialog_over(self) -> None:
        """A call that is over cannot be transferred."""
        dialog = self.answered()
        self.from_a("BYE", 2)
        with self.assertRaises(LocalProtocolError):
            transfer(dialog, TARGET)


class ReferralTests(CallTestCase):
    def referred(self, refer_to: str, extra: str = "") -> Referral:
        """Let the phone send a REFER, which is accepted."""
        self.dialog = self.answered()
        found: list[Referral] = []

        @self.dialog.on_refer
        def refer(req: Request, res: Response) -> None:
            found.append(accept_refer(self.dialog, req, res))

        self.from_a("REFER", 2, f"Refer-To: {refer_to}\n{extra}")
        return found[0]

    def notified(self) -> list[tuple[str, str]]:
        """Take the NOTIFYs for the phone, and answer them."""
        found = []
        for one in self.whole.sent():
            if isinstance(one, SipRequest) and one.method == "NOTIFY":
                found.append((one.text.strip(), one.get("Subscription-State") or ""))
                self.whole.respond(one, 200, port=A)
            else:
                self.others.append(one)
        return found

    def setUp(self) -> None:
        """Keep what else is sent."""
        super().setUp()
        self.others: list[SipRequest | object] = []

    def test_followed(self) -> None:
        """The target is called with Referred-By; the peer hears of 100, 180 and 200."""
        referral = self.referred(f"<{TARGET}>", "Referred-By: <sip:alice@example.net>\n")
        self.assertEqual((referral.target, referral.replaces), (TARGET, None))
        self.assertEqual(self.notified(), [("SIP/2.0 100 Trying", "active;expires=180")])
        following = referral.follow(local_sdp=OFFER)
        invite = self.whole.request()
        self.assertEqual(invite.get("Referred-By"), "<sip:alice@example.net>")
        self.whole.respond(invite, 180)
        self.assertEqual([text for text, _ in self.notified()], ["SIP/2.0 180 Whatever"])
        self.whole.respond(invite, 200, body=ANSWER)
        self.assertEqual(
            self.notified(), [("SIP/2.0 200 Whatever", "terminated;reason=noresource")]
        )
        self.assertTrue(self.successResultOf(following).connected)

    def notifies(self) -> list[SipRequest]:
        """Take the NOTIFYs for the phone, and leave them without an answer."""
        sent = [one for one in self.whole.sent() if isinstance(one, SipRequest)]
        self.others += [one for one in sent if one.method != "NOTIFY"]
        return [one for one in sent if one.method == "NOTIFY"]

    def followed(self) -> tuple[SipRequest, Deferred[Dialog]]:
        """Let the target answer before the phone has said anything to its first NOTIFY."""
        referral = self.referred(f"<{TARGET}>")
        [first] = self.notifies()
        following = referral.follow(local_sdp=OFFER)
        invite = self.whole.request()
        self.whole.respond(invite, 180)
        self.whole.respond(invite, 200, body=ANSWER)
        self.assertTrue(self.successResultOf(following).connected)
        self.assertEqual(self.notifies(), [])
        return first, following

    def test_one_after_the_other(self) -> None:
        """A slow peer hears of each step when it has answered the one before, then of our BYE."""
        notify, _ = self.followed()
        ending = self.dialog.destroy()
        for text in ("180 Whatever", "200 Whatever"):
            self.assertEqual(self.notifies(), [])
            self.whole.respond(notify, 200, port=A)
            [notify] = self.notifies()
            self.assertEqual(notify.text.strip(), f"SIP/2.0 {text}")
        self.others.clear()
        self.whole.respond(notify, 500, port=A)
        bye = self.whole.request()
        self.assertEqual(bye.method, "BYE")
        self.assertNoResult(ending)
        self.whole.respond(bye, 200, port=A)
        ended = self.successResultOf(ending)
        assert ended is not None
        self.assertEqual(ended.status, 200)

    def test_peer_never_answers(self) -> None:
        """A peer that never answers a NOTIFY is told nothing more, and can be hung up on."""
        self.followed()
        ending = self.dialog.destroy()
        sent = self.whole.pass_time(32)
        self.assertEqual({what for _, what in sent[:-1]}, {"NOTIFY"})
        self.assertEqual(sent[-1], (32.0, "BYE"))
        self.assertNoResult(ending)

    def test_peer_hangs_up_untold(self) -> None:
        """A peer that hangs up is told nothing more, and our BYE is not sent either."""
        notify, _ = self.followed()
        ending = self.dialog.destroy()
        self.from_a("BYE", 3)
        self.assertIsNone(self.successResultOf(ending))
        self.whole.respond(notify, 200, port=A)
        self.assertEqual(self.notifies(), [])
        requests = [one.method for one in self.others if isinstance(one, SipRequest)]
        self.assertNotIn("BYE", requests)

    def test_malformed_reason(self) -> None:
        """What cannot be sent is refused at once, also when its turn has not come."""
        referral = self.referred(f"<{TARGET}>")
        [first] = self.notifies()
        self.dialog._tell_peer({"Event": "refer"}, "")
        with self.assertRaises(LocalProtocolError):
            self.dialog._tell_peer({"Ev\r\nent": "refer"}, "")
        self.whole.respond(first, 200, port=A)
        self.assertEqual(len(self.notifies()), 1)
        self.assertFalse(referral.over)

    def test_refused(self) -> None:
        """The peer hears of a refusal too, which is the last that it hears."""
        referral = self.referred(f"<{TARGET}>")
        self.notified()
        following = referral.follow(local_sdp=OFFER)
        self.whole.respond(self.whole.request(), 486)
        self.assertEqual(
            self.notified(), [("SIP/2.0 486 Whatever", "terminated;reason=noresource")]
        )
        self.failureResultOf(following, SipError)
        referral.notify(200)
        self.assertEqual(self.notified(), [])

    def test_replaces(self) -> None:
        """Replaces in Refer-To becomes the header of the INVITE."""
        escaped = "abc%40host%3Bto-tag%3D1%3Bfrom-tag%3D2"
        referral = self.referred(f"<{TARGET}?Replaces={escaped}>")
        self.assertEqual(str(referral.replaces), "abc@host;to-tag=1;from-tag=2")
        self.notified()
        referral.follow(local_sdp=OFFER).addErrback(lambda failure: failure.trap(SipError))
        invite = self.whole.request()
        self.assertEqual(invite.get("Replaces"), "abc@host;to-tag=1;from-tag=2")
        self.assertEqual(invite.uri, TARGET)

    def test_without_refer_to(self) -> None:
        """A REFER that names nobody is answered 400, once, and the call goes on."""
        dialog = self.answered()

        @dialog.on_refer
        def refer(req: Request, res: Response) -> None:
            with self.assertRaises(MessageError):
                accept_refer(dialog, req, res)

        self.from_a("REFER", 2)
        self.assertEqual(self.whole.heads(), ["400 REFER"])
        self.assertTrue(dialog.connected)


class UnreachableTargetTests(SynchronousTestCase):
    def test_server_refuses(self) -> None:
        """A target that the server cannot send to is the peer's mistake: 503, and it is told."""
        bench = Bench()
        outcomes: list[Failure] = []

        @bench.srf.invite
        async def answer(req: Request, res: Response) -> None:
            dialog = await bench.srf.create_uas(req, res, local_sdp=ANSWER)

            @dialog.on_refer
            def refer(req: Request, res: Response) -> None:
                accept_refer(dialog, req, res).follow().addErrback(outcomes.append)

        server = bench.connect()
        name = server.establish()
        server.ask("REFER", dialog_id=name, number=2, headers={"Refer-To": "<sip:a@nowhere>"})
        accepted, trying, invite = server.take()
        self.assertEqual([accepted.head, trying.head, invite.head], ["202", "NOTIFY", "INVITE"])
        server.confirm(accepted)
        server.respond(server.confirm(trying), 200, method="NOTIFY")
        server.refuse(invite, "Server error: cannot resolve")
        bench.settle()
        [outcome] = outcomes
        error = outcome.value
        assert isinstance(error, SipError)
        self.assertEqual(error.status, 503)
        told = server.one().request
        self.assertEqual(told.text.strip(), "SIP/2.0 503 Service Unavailable")


class ReplacesTests(CallTestCase):
    def invite(self, replaces: str) -> Request:
        """Let somebody else call, with Replaces."""
        text = request("INVITE", branch="other", extra="Replaces: @@\n", body=OFFER)
        text = text.replace(self.answer.get("Call-ID") or "", "other").replace("@@", replaces)
        self.whole.receive(text, A)
        self.whole.sent()
        return self.kept[-1][0]

    def test_found(self) -> None:
        """The dialog is found that its peer would name so."""
        dialog = self.answered()
        named = f"{dialog.call_id};to-tag={dialog.local.tag};from-tag={dialog.remote.tag}"
        self.assertIs(find_replaced_dialog(self.srf, self.invite(named)), dialog)

    def test_not_found(self) -> None:
        """Tags the wrong way round name no dialog."""
        dialog = self.answered()
        named = f"{dialog.call_id};to-tag={dialog.remote.tag};from-tag={dialog.local.tag}"
        self.assertIsNone(find_replaced_dialog(self.srf, self.invite(named)))

    def test_early_only(self) -> None:
        """Who asks for a dialog that rings does not get one that is up (RFC 3891 section 3)."""
        dialog = self.answered()
        named = f"{dialog.call_id};to-tag={dialog.local.tag};from-tag={dialog.remote.tag}"
        self.assertIsNone(find_replaced_dialog(self.srf, self.invite(f"{named};early-only")))

    def test_none(self) -> None:
        """An ordinary call replaces nothing."""
        req, _ = self.ring()
        self.assertIsNone(find_replaced_dialog(self.srf, req))

    def test_malformed(self) -> None:
        """A header without both tags, or two headers, are no Replaces."""
        self.answered()
        for text in (
            "a@b",
            "a@b;to-tag=1",
            "a@b;to-tag=1;from-tag=2\nReplaces: a;to-tag=1;from-tag=2",
        ):
            with self.subTest(text=text), self.assertRaises(MessageError):
                find_replaced_dialog(self.srf, self.invite(text))
