"""What the server's log says of calls that are over: a line for each, whoever they went through."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response
from drachtwist.server import ended_calls
from tests.app.doubles import OFFER
from tests.server.doubles import request
from tests.whole import TARGET, Whole

ALICE = "sip:alice@127.0.0.1:32070"
APP = "sip:app@127.0.0.1:32060"


class StoryTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Start a server that tells of calls."""
        self.whole = Whole({"log_calls": True})
        self.lines: list[str] = []

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Collect what is told of calls, each with its level."""
        with capturedLogs() as logs:
            yield
        self.lines += [
            f"{one['log_level'].name}: {formatEvent(one)}"
            for one in logs
            if one["log_namespace"] == "drachtwist.calls"
        ]

    def tag(self) -> str:
        """Give the tag of the 200 that a caller got."""
        for one in self.whole.sent():
            if getattr(one, "status", 0) == 200:
                return (one.get("To") or "").rpartition("tag=")[2]
        return ""

    def comes(self, handler: object) -> None:
        """Let a call come."""
        self.whole.srf.invite(handler)  # type: ignore[type-var]
        self.whole.pump()
        self.whole.receive(request("INVITE", body=OFFER), 32070)

    def test_answered(self) -> None:
        """It was up since the 200, and the caller ended it."""

        async def answer(req: Request, res: Response) -> None:
            self.whole.clock.advance(5)  # so long it rings
            await self.whole.srf.create_uas(req, res, local_sdp=OFFER)

        self.comes(answer)
        tag = self.tag()
        self.whole.receive(request("ACK", to_tag=tag), 32070)
        self.whole.pass_time(12)
        with self.telling():
            self.whole.receive(request("BYE", number=2, to_tag=tag), 32070)
        expected = (
            f"info: call from {ALICE} to {APP} was ended by the caller after 12.0 s, Call-ID c1"
        )
        self.assertEqual(self.lines, [expected])
        assert self.whole.server.core.calls is not None
        self.assertEqual(len(self.whole.server.core.calls), 0)

    def test_refused(self) -> None:
        """A refusal of the application is one of the call."""
        for status, words in ((486, "info: "), (500, "warn: ")):
            self.setUp()
            with self.telling():
                self.comes(lambda req, res, status=status: res.send(status) and None)
            [line] = self.lines
            self.assertIn(f" {status} ", line)
            self.assertTrue(line.startswith(words))

    def test_given_up(self) -> None:
        """A caller who hangs up before he is answered."""
        self.comes(lambda req, res: res.send(180) and None)
        with self.telling():
            self.whole.receive(request("CANCEL", branch="INVITE-1"), 32070)
        [line] = self.lines
        self.assertIn("was given up: 487 Request Terminated", line)

    def test_placed(self) -> None:
        """A call of an application that is refused, and one that the callee ends."""
        calling = self.whole.srf.create_uac(TARGET, local_sdp=OFFER)
        with self.telling():
            self.whole.respond(self.whole.request(), 503)
        calling.addErrback(lambda _: None)
        [line] = self.lines
        self.assertRegex(line, "^warn: call from .* to sip:bob@127.0.0.1:32071 failed with 503 ")

    def test_proxied(self) -> None:
        """A call that is forwarded to two is one; the BYE of the callee is known by its tag."""

        async def forward(req: Request, res: Response) -> None:
            targets = ["sip:a@127.0.0.1:32071", "sip:b@127.0.0.1:32072"]
            await self.whole.srf.proxy_request(req, targets, record_route=True)

        with self.telling():
            self.comes(forward)
            self.whole.respond(self.whole.request(), 486)
            second = self.whole.request_after_ack()
            self.whole.respond(second, 200, port=32072, body=OFFER)
        self.assertEqual(self.lines, [])
        self.whole.sent()
        route = second.get("Record-Route") or ""
        bye = "\n".join(
            [
                "BYE sip:alice@127.0.0.1:32070 SIP/2.0",
                "Via: SIP/2.0/UDP 127.0.0.1:32072;branch=z9hG4bKbye",
                f"Route: {route}",
                f"From: {second.get('To')};tag=b",
                f"To: {second.get('From')}",
                "Call-ID: c1",
                "CSeq: 1 BYE",
                "Max-Forwards: 70",
                'Reason: Q.850;cause=16;text="enough"',
                "Content-Length: 0",
            ]
        )
        with self.telling():
            self.whole.receive(bye + "\n\n", 32072)
        [line] = self.lines
        self.assertIn('was ended by the callee (Q.850;cause=16;text="enough") after', line)

    def test_bounded(self) -> None:
        """Calls that never end are not remembered for ever."""
        self.patch(ended_calls, "MOST", 10)
        calls = ended_calls.EndedCalls(lambda: 0.0)
        for number in range(100):
            calls.recorded(
                "attempt", "network", f"INVITE x SIP/2.0\r\nCall-ID: {number}\r\n\r\n".encode()
            )
        self.assertEqual(len(calls), 10)

    def test_off(self) -> None:
        """A server in the process of its application leaves it to that."""
        self.whole = Whole()
        with self.telling():
            self.comes(lambda req, res: res.send(486) and None)
        self.assertEqual(self.lines, [])
