"""Reliable provisional responses, and what is negotiated in early dialogs (RFC 3262, RFC 3311)."""

from __future__ import annotations

from drachtwist.sip.message import Response
from tests.server.doubles import request
from tests.server.test_uas import SDP, ServerTestCase, transaction

SESSION = "\r\nContent-Type: application/sdp\r\n\r\nv=0 "
OFFER = "Content-Type: application/sdp"


class ReliableTests(ServerTestCase):
    def progress(self, invite: str, message: str = "183 Progress", rest: str = "") -> Response:
        """Let the application respond reliably."""
        rest = rest or "\r\n\r\n"
        self.app.command(f"sip|{invite}|\r\nSIP/2.0 {message}\r\nRequire: 100rel{rest}")
        return self.response()

    def response(self) -> Response:
        """Give the last response that was sent."""
        last = self.bench.take()[-1]
        assert isinstance(last, Response)
        return last

    def prack(self, progress: Response, number: int = 2, body: str = "", branch: str = "") -> None:
        """Let the caller acknowledge it."""
        extra = f"RAck: {progress.get('RSeq')} 1 INVITE"
        if body:
            extra += f"\n{OFFER}"
        tag = progress.to.tag or ""
        text = request("PRACK", number=number, to_tag=tag, extra=extra, body=body, branch=branch)
        self.bench.receive(text)

    def supported(self, extra: str = "Supported: 100rel") -> str:
        """Let a call come whose caller knows reliable responses; give its transaction id."""
        invite = self.offered(request("INVITE", extra=f"{extra}\n{OFFER}", body=SDP))
        self.bench.take()
        return invite

    def test_schedule(self) -> None:
        """It is repeated with doubling intervals, without the limit of T2."""
        self.bench.confirm()
        self.progress(self.supported())
        times = [when for when, what in self.seen(31.5) if what == "183 INVITE"]
        self.assertEqual(times, [0.5, 1.5, 3.5, 7.5, 15.5, 31.5])

    def test_numbers(self) -> None:
        """Each has the next number, and goes out when the one before is acknowledged."""
        invite = self.supported()
        first = self.progress(invite)
        [echo] = self.app.command(
            f"sip|{invite}|\r\nSIP/2.0 180 Ringing\r\nRequire: 100rel\r\n\r\n"
        )
        self.assertIn("|OK|", echo)
        self.assertEqual(self.bench.take(), [])
        self.prack(first)
        second = self.response()
        self.assertEqual(second.status, 180)
        self.assertEqual(int(second.get("RSeq") or 0), int(first.get("RSeq") or 0) + 1)

    def test_offer_in_prack(self) -> None:
        """A PRACK may have an offer; the application's answer is in the response to it."""
        invite = self.supported()
        self.prack(self.progress(invite), body="v=0 again")
        [frame] = self.app.take()
        self.assertTrue(frame.endswith("v=0 again"))
        self.assertEqual(frame.split("|")[9], "c1;from-tag=a")
        self.app.command(f"sip|{transaction(frame)}|\r\nSIP/2.0 200 OK{SESSION}answer")
        answer = self.response()
        self.assertEqual((answer.cseq.method, answer.text), ("PRACK", "v=0 answer"))
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 INVITE"])

    def test_repeated_prack(self) -> None:
        """A PRACK that comes again gets the application's answer again."""
        progress = self.progress(self.supported())
        self.prack(progress)
        [frame] = self.app.take()
        self.prack(progress)
        self.app.answer(transaction(frame), "SIP/2.0 200 OK")
        self.prack(progress)
        self.assertEqual(self.bench.heads(), ["200 PRACK", "200 PRACK"])
        self.assertEqual(self.app.take(), [])

    def test_wrong_prack(self) -> None:
        """A PRACK for something else is refused, and ends no repeats."""
        invite = self.supported()
        progress = self.progress(invite)
        for number, rack in enumerate(("1 1 INVITE", "x", f"{progress.get('RSeq')} 2 INVITE"), 2):
            tag = progress.to.tag or ""
            text = request("PRACK", number=number, to_tag=tag, extra=f"RAck: {rack}")
            self.bench.receive(text)
            self.assertEqual(self.bench.heads(), ["481 PRACK"])
        self.assertEqual(self.seen(1), [(0.5, "183 INVITE")])
        self.assertEqual(self.app.take(), [])

    def test_method_twice(self) -> None:
        """What follows what a PRACK is for does no harm: some phones write the method twice."""
        invite = self.supported()
        progress = self.progress(invite)
        rack = f"RAck: {progress.get('RSeq')} 1 INVITE INVITE"
        tag = progress.to.tag or ""
        self.bench.receive(request("PRACK", number=2, to_tag=tag, extra=rack))
        [frame] = self.app.take()
        self.assertIn("PRACK sip:", frame)

    def test_required_by_the_caller(self) -> None:
        """When the caller requires it, the server makes all reliable, and answers the PRACK."""
        invite = self.supported("Require: 100rel")
        self.app.answer(invite, "SIP/2.0 180 Ringing")
        progress = self.response()
        self.assertEqual((progress.get("Require"), progress.has("RSeq")), ("100rel", True))
        self.prack(progress)
        self.assertEqual((self.bench.heads(), self.app.take()), (["200 PRACK"], []))

    def test_failure_does_not_wait(self) -> None:
        """A failure goes out at once, and ends the repeats of the response before it."""
        invite = self.supported()
        self.progress(invite)
        self.app.answer(invite, "SIP/2.0 486 Busy Here")
        self.assertEqual(self.bench.heads(), ["486 INVITE"])
        self.assertEqual(self.seen(1), [(0.5, "486 INVITE")])

    def test_update(self) -> None:
        """After the PRACK the session may be changed by UPDATE, before the call is answered."""
        invite = self.supported()
        progress = self.progress(invite, rest=f"{SESSION}answer")
        self.prack(progress)
        [frame] = self.app.take()
        self.app.answer(transaction(frame), "SIP/2.0 200 OK")
        self.bench.take()
        tag = progress.to.tag or ""
        update = request("UPDATE", number=3, to_tag=tag, extra=OFFER, body="v=0 held")
        self.bench.receive(update)
        [frame] = self.app.take()
        self.assertTrue(frame.endswith("v=0 held"))
        self.assertNotEqual(transaction(frame), invite)
        self.app.command(f"sip|{transaction(frame)}|\r\nSIP/2.0 200 OK{SESSION}answer")
        answer = self.response()
        self.assertEqual((answer.cseq.method, answer.text), ("UPDATE", "v=0 answer"))
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertEqual(self.response().to.tag, tag)


class UpdateTests(ServerTestCase):
    """A 2xx to the INVITE, while an UPDATE in the early dialog is not answered."""

    def pending(self) -> tuple[str, str]:
        """Let a call ring, and an UPDATE come; give both transaction ids."""
        invite = self.offered(request("INVITE", extra=OFFER, body=SDP))
        self.app.command(f"sip|{invite}|\r\nSIP/2.0 183 Progress{SESSION}early")
        [*_, progress] = self.bench.take()
        tag = progress.to.tag or ""
        self.bench.receive(request("UPDATE", number=2, to_tag=tag, extra=OFFER, body=SDP))
        [frame] = self.app.take()
        self.assertIn("\r\nUPDATE ", frame)
        return invite, transaction(frame)

    def test_waits(self) -> None:
        """The 200 waits for the answer to the UPDATE; for the application it is sent."""
        for status in (200, 488):
            self.setUp()
            invite, update = self.pending()
            [echo] = self.app.answer(invite, "SIP/2.0 200 OK")
            self.assertIn("|OK|", echo)
            self.assertEqual(self.bench.heads(), [])
            self.app.answer(update, f"SIP/2.0 {status} Whatever")
            self.assertEqual(self.bench.heads(), [f"{status} UPDATE", "200 INVITE"])

    def test_never_answered(self) -> None:
        """It waits no longer than anybody waits for the answer to an UPDATE."""
        invite, _ = self.pending()
        self.app.answer(invite, "SIP/2.0 200 OK")
        found = self.seen(32.0)
        self.assertEqual(found, [(32.0, "200 INVITE")])

    def test_cancelled(self) -> None:
        """When the caller gives up meanwhile, the application is told of the end of the call."""
        invite, update = self.pending()
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.bench.receive(request("CANCEL"))
        self.assertEqual(self.bench.heads(), ["200 CANCEL", "487 INVITE"])
        [frame] = self.app.take()
        self.assertIn("|unsolicited|c1;from-tag=a|", frame)
        self.app.answer(update, "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 UPDATE"])
