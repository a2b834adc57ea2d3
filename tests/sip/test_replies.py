"""What is written of a request: heads of its responses, and requests that are made of it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.sip.derived import cancel_for, cancel_received, failure_ack, hung_up
from drachtwist.sip.encoding import joined, request_line, status_line
from drachtwist.sip.message import Request, Response
from drachtwist.sip.replies import ReplyHead, via_lines

INVITE = Request.from_bytes(
    b"INVITE sip:bob@b SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP p:1;branch=z9hG4bKp, SIP/2.0/UDP q;branch=z9hG4bKq\r\n"
    b"v: SIP/2.0/TCP a;branch=z9hG4bKa\r\n"
    b"Record-Route: <sip:p;lr>\r\nRecord-Route: <sip:q;lr>\r\n"
    b"Route: <sip:x;lr>, <sip:y;lr>\r\n"
    b"t: <sip:bob@b>\r\nFrom: A <sip:a@a>;tag=1\r\nCall-ID: c\r\nCSeq: 7 INVITE\r\n\r\n"
)
VIAS = [
    "Via: SIP/2.0/UDP p:1;branch=z9hG4bKp, SIP/2.0/UDP q;branch=z9hG4bKq",
    "Via: SIP/2.0/TCP a;branch=z9hG4bKa",
]


class ReplyTests(SynchronousTestCase):
    def test_head(self) -> None:
        """Vias come as they are, in their lines; the To tag and the Record-Routes where wanted."""
        head = ReplyHead(INVITE)
        rest = ["Call-ID: c", "CSeq: 7 INVITE"]
        plain = [*VIAS, "From: A <sip:a@a>;tag=1", "To: <sip:bob@b>", *rest]
        self.assertEqual(via_lines(INVITE), VIAS)
        self.assertEqual(head.lines(), plain)
        self.assertEqual(head.lines("2"), [*plain[:3], "To: <sip:bob@b>;tag=2", *rest])
        routes = ["Record-Route: <sip:p;lr>", "Record-Route: <sip:q;lr>"]
        self.assertEqual(
            head.lines("2", routes=True),
            [*VIAS, *routes, plain[2], "To: <sip:bob@b>;tag=2", *rest],
        )
        self.assertEqual(head.lines(), plain)  # nothing was added to what is kept
        self.assertEqual(ReplyHead(INVITE, "sip:x").lines("2")[3], "To: sip:x;tag=2")

    def test_nothing_there(self) -> None:
        """What the request does not have, the response does not have either."""
        self.assertEqual(ReplyHead(Request("OPTIONS", "sip:a")).lines("x", routes=True), [])

    def test_start_lines(self) -> None:
        """A status has its phrase, one that is given, or that of its class."""
        self.assertEqual(status_line(486), "SIP/2.0 486 Busy Here")
        self.assertEqual(status_line(486, "Gone fishing"), "SIP/2.0 486 Gone fishing")
        self.assertEqual(status_line(486, ""), "SIP/2.0 486 ")
        self.assertEqual(status_line(499), "SIP/2.0 499 Bad Request")
        self.assertEqual(request_line("BYE", "sip:a"), "BYE sip:a SIP/2.0")
        raw = joined(status_line(200), ["X: \udcff"], b"body")
        self.assertEqual(raw, b"SIP/2.0 200 OK\r\nX: \xff\r\nContent-Length: 4\r\n\r\nbody")


class DerivedTests(SynchronousTestCase):
    def test_ack_and_cancel(self) -> None:
        """They go the way of the INVITE: its first Via alone, its Routes, its number."""
        refusal = Response(486, headers={"To": "<sip:bob@b>;tag=2"})
        for made, method, to in (
            (Request.from_bytes(failure_ack(INVITE, refusal)), "ACK", "<sip:bob@b>;tag=2"),
            (cancel_for(INVITE), "CANCEL", "<sip:bob@b>"),
        ):
            self.assertEqual((made.method, made.uri), (method, "sip:bob@b"))
            self.assertEqual(made.get_all("Via"), ["SIP/2.0/UDP p:1;branch=z9hG4bKp"])
            self.assertEqual(made.get_all("Route"), ["<sip:x;lr>, <sip:y;lr>"])
            self.assertEqual(made.get("To"), to)
            self.assertEqual(made.get("From"), INVITE.get("From"))
            self.assertEqual((made.call_id, str(made.cseq)), ("c", f"7 {method}"))

    def test_told(self) -> None:
        """An application is told of a CANCEL as the caller would have sent it, and why."""
        told = Request.from_bytes(cancel_received(INVITE, ["SIP;cause=480"]))
        self.assertEqual(
            (told.method, told.uri, str(told.cseq)), ("CANCEL", INVITE.uri, "7 CANCEL")
        )
        self.assertEqual([f"Via: {via}" for via in told.get_all("Via")], VIAS)
        self.assertEqual(told.get_all("Reason"), ["SIP;cause=480"])

    def test_hung_up(self) -> None:
        """And of a BYE as the called side would have sent it."""
        told = Request.from_bytes(hung_up(INVITE, "2", "sip:a@c", "SIP;cause=487"))
        self.assertEqual((told.method, told.uri, str(told.cseq)), ("BYE", "sip:a@c", "8 BYE"))
        self.assertEqual((told.from_tag, told.to_tag), ("2", "1"))
        self.assertEqual((told.from_.uri, told.to.uri), ("sip:bob@b", "sip:a@a"))
