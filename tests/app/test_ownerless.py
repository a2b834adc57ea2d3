"""Nothing stays up that nobody can end: lost connections, failed handlers, refused BYEs."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import ConnectionLost, Dialog, Request, Response, SipError, Srf
from drachtwist.app import connections
from drachtwist.sip import Request as SipRequest
from tests.app.calling import ANSWER, OFFER, A, CallTestCase
from tests.app.doubles import Bench
from tests.server.doubles import request
from tests.whole import TARGET, Whole

DIALOG = "c1;from-tag=a"


class LostLinkTests(CallTestCase):
    """The connection is lost while a call rings."""

    def test_told(self) -> None:
        """A handler with an open INVITE is told that there is nobody to answer any more."""
        req, res = self.ring()
        res.send(180)
        self.whole.sent()
        told: list[Any] = []
        req.on_cancel(told.append)
        waiting = req.when_cancelled()
        self.whole.lose()
        self.assertEqual(told, [None])
        self.failureResultOf(waiting, ConnectionLost)
        req.on_cancel(told.append)
        self.assertEqual(told, [None, None])

    def test_answered(self) -> None:
        """Not when it was answered: then the dialog tells."""
        req, _ = self.ring()
        told: list[Any] = []
        req.on_cancel(told.append)
        accepting = self.srf.create_uas(req, req.res, local_sdp=ANSWER)
        self.whole.sent()
        self.successResultOf(accepting)
        self.whole.lose()
        req.on_cancel(told.append)
        self.assertEqual(told, [])

    def test_unpracked(self) -> None:
        """A 200 that waits for a PRACK fails once."""
        req, res = self.ring("Supported: 100rel")
        res.send(183, headers={"Require": "100rel"}, body=ANSWER)
        self.whole.sent()
        accepting = self.srf.create_uas(req, res, local_sdp=ANSWER)
        self.whole.sent()
        self.whole.lose()
        self.whole.clock.advance(0)
        self.failureResultOf(accepting, ConnectionLost)


class FailedHandlerTests(SynchronousTestCase):
    """A handler fails behind ``create_uas``."""

    def failing(self, **options: Any) -> tuple[list[str], Dialog]:
        """Let it fail, and give what the phone hears."""
        whole = Whole(**options)
        made: list[Dialog] = []
        trouble: Deferred[None] = Deferred()

        @whole.srf.invite
        async def handler(req: Request, res: Response) -> None:
            made.append(await whole.srf.create_uas(req, res, local_sdp=ANSWER))
            await trouble

        whole.pump()
        whole.receive(request("INVITE", body=OFFER), A)
        *_, answer = whole.sent()
        whole.receive(request("ACK", to_tag=answer.to.tag or "", branch="ack"), A)
        trouble.errback(ValueError("a slip"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        sent = whole.sent()
        for one in sent:
            if isinstance(one, SipRequest):
                self.assertIn("SIP;cause=500", one.get("Reason") or "")
        return [one.method for one in sent if isinstance(one, SipRequest)], made[0]

    def test_ended(self) -> None:
        """The call is ended with a BYE, which says why."""
        heads, dialog = self.failing()
        self.assertEqual((heads, dialog.connected), (["BYE"], False))

    def test_kept(self) -> None:
        """Unless that is not wanted."""
        heads, dialog = self.failing(end_failed_calls=False)
        self.assertEqual((heads, dialog.connected), ([], True))

    def test_in_dialog(self) -> None:
        """A handler of a request in the call that fails ends nothing."""
        whole = Whole()

        @whole.srf.invite
        async def handler(req: Request, res: Response) -> None:
            call = await whole.srf.create_uas(req, res, local_sdp=ANSWER)

            @call.on_info
            def info(req: Request, res: Response) -> None:
                raise ValueError("a slip")

        whole.pump()
        whole.receive(request("INVITE", body=OFFER), A)
        *_, answer = whole.sent()
        whole.receive(request("ACK", to_tag=answer.to.tag or "", branch="ack"), A)
        whole.receive(request("INFO", number=2, to_tag=answer.to.tag or ""), A)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(whole.heads(), ["500 INFO"])

    def test_both_sides(self) -> None:
        """A call that was made with two sides is ended on both, coupled or not."""
        whole = Whole()

        @whole.srf.invite
        async def handler(req: Request, res: Response) -> None:
            await whole.srf.create_b2bua(req, res, TARGET)
            raise ValueError("a slip")

        whole.pump()
        whole.receive(request("INVITE", body=OFFER), A)
        *_, invite = whole.sent()
        assert isinstance(invite, SipRequest)
        whole.respond(invite, 200, body=ANSWER)
        found = whole.sent()
        [answer] = [one for one in found if not isinstance(one, SipRequest)]
        whole.receive(request("ACK", to_tag=answer.to.tag or "", branch="ack"), A)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        found += whole.sent()
        byes = [one for one in found if isinstance(one, SipRequest) and one.method == "BYE"]
        self.assertEqual({one.to.uri for one in byes}, {TARGET, f"sip:alice@127.0.0.1:{A}"})


class ForgottenCallsTests(SynchronousTestCase):
    """Calls outlive the connection that they were made over."""

    def test_ended_on_the_next_one(self) -> None:
        """They are ended once the server is there again: as many as are remembered, the newest."""
        self.patch(connections, "MAX_ORPHANS", 2)
        bench = Bench()

        @bench.srf.invite
        async def answer(req: Request, res: Response) -> None:
            await bench.srf.create_uas(req, res, local_sdp=ANSWER)

        server = bench.connect(back_off=lambda failures: 1.0)
        for number in range(3):
            server.establish(f"c{number}")
        server.lose()
        bench.pass_time(1)
        bench.settle()
        sent = bench.servers[-1].take()
        self.assertEqual([one.head for one in sent], ["BYE", "BYE"])
        self.assertEqual([one.dialog_id for one in sent], ["c1;from-tag=a", "c2;from-tag=a"])


class RefusedTests(SynchronousTestCase):
    """The real server refuses everything in a dialog whose peer it cannot reach."""

    def setUp(self) -> None:
        """Take a call."""
        self.bench = Bench()
        self.dialogs: list[Dialog] = []

        @self.bench.srf.invite
        async def answer(req: Request, res: Response) -> None:
            self.dialogs.append(await self.bench.srf.create_uas(req, res, local_sdp=ANSWER))

        self.server = self.bench.connect()
        self.txn = self.server.invite()
        self.server.confirm(self.server.one(), DIALOG)
        self.server.ask("ACK", dialog_id=DIALOG, transaction_id=self.txn)
        [self.dialog] = self.dialogs

    def test_no_route(self) -> None:
        """A BYE that cannot be sent ends the dialog here."""
        for text in (
            "Server error: unable to find route",
            "Server error: unable to find dialog for dialog id provided",
        ):
            with self.subTest(text=text):
                self.setUp()
                over = self.dialog.destroy()
                over.addErrback(lambda failure: None)
                self.server.refuse(self.server.one(), text)
                self.assertIsNotNone(self.dialog.ended)
                self.assertFalse(self.dialog.connected)
                self.assertTrue(self.bench.srf.idle)

    def test_other_refusal(self) -> None:
        """One that is refused for what it says leaves the dialog up."""
        over = self.dialog.destroy(body="x")
        over.addErrback(lambda failure: None)
        self.server.refuse(self.server.one(), "Server error: missing content-type")
        self.assertTrue(self.dialog.connected)


class NoContactTests(SynchronousTestCase):
    """Without a Contact the real server reaches nobody, not even with a BYE."""

    def test_called(self) -> None:
        """An INVITE without one is not accepted."""
        whole = Whole()
        failures: list[Any] = []

        @whole.srf.invite
        def handler(req: Request, res: Response) -> None:
            whole.srf.create_uas(req, res, local_sdp=ANSWER).addErrback(failures.append)

        whole.pump()
        text = request("INVITE", body=OFFER)
        whole.receive("\n".join(one for one in text.split("\n") if "Contact" not in one), A)
        self.assertEqual(whole.heads(), ["100 INVITE", "400 INVITE"])
        [failure] = failures
        self.assertEqual(failure.value.status, 400)
        self.assertTrue(whole.srf.idle)

    def test_calling(self) -> None:
        """A call that is accepted without one is ended as well as can be, and fails."""
        whole = Whole()
        whole.pump()
        srf: Srf = whole.srf
        calling = srf.create_uac(TARGET, local_sdp=OFFER)
        invite = whole.request()
        lines = ["SIP/2.0 200 OK", f"Via: {invite.get('Via')}", f"From: {invite.get('From')}"]
        lines += [f"To: {invite.get('To')};tag=b", f"Call-ID: {invite.get('Call-ID')}"]
        lines += [f"CSeq: {invite.get('CSeq')}", "Content-Length: 0"]
        whole.receive("\n".join(lines) + "\n\n", 32071)
        error: Any = self.failureResultOf(calling, SipError).value
        self.assertEqual(error.status, 500)
        self.assertEqual(whole.heads(), ["ACK", "BYE"])
