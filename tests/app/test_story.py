"""What the log says of a call when it is over: one line, whoever ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from twisted.logger import LogEvent, LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Dialog, Request, Response, couple, simring
from drachtwist.errors import SipError
from drachtwist.sip.message import Request as SipRequest
from drachtwist.tracing.story import AT_ONCE, Story, party_of
from tests.server.doubles import request
from tests.whole import TARGET, Whole

OFFER = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
ALICE = "sip:alice@127.0.0.1:32070"
APP = "sip:app@127.0.0.1:32060"


class StoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Start an application and a server."""
        self.whole = Whole()
        self.whole.srf.log_calls = True
        self.dialogs: list[Dialog] = []
        self.events: list[LogEvent] = []

    @contextmanager
    def told(self) -> Iterator[list[str]]:
        """Collect what is told of calls, each with its level."""
        lines: list[str] = []
        with capturedLogs() as logs:
            yield lines
        self.events = [one for one in logs if one["log_namespace"] == "drachtwist.calls"]
        lines += [f"{one['log_level'].name}: {formatEvent(one)}" for one in self.events]

    def invite(self, handler: Callable[[Request, Response], object], call: str = "c1") -> str:
        """Let a call come; give the tag of the 200, if it is answered."""
        self.whole.srf.invite(handler)
        self.whole.pump()
        self.whole.receive(request("INVITE", call=call, body=OFFER), 32070)
        return self.tag()

    def tag(self) -> str:
        for one in self.whole.sent():
            if getattr(one, "status", 0) == 200:
                return (one.get("To") or "").rpartition("tag=")[2]
        return ""

    async def answer(self, req: Request, res: Response) -> None:
        """Answer a call."""
        self.dialogs.append(await self.whole.srf.create_uas(req, res, local_sdp=OFFER))

    async def bridge(self, req: Request, res: Response) -> None:
        """Connect a caller."""
        pair = await self.whole.srf.create_b2bua(req, res, TARGET)
        self.dialogs += pair
        couple(*pair)


class EndedTests(StoryCase):
    def up(self) -> str:
        """Let a call be up for 12 seconds; give the tag of our side."""
        tag = self.invite(self.answer)
        self.whole.receive(request("ACK", to_tag=tag), 32070)
        self.whole.pass_time(12)
        return tag

    def test_by_the_caller(self) -> None:
        """Who called whom, how long it was, who ended it, and its Call-ID."""
        tag = self.up()
        with self.told() as lines:
            self.whole.receive(request("BYE", number=2, to_tag=tag), 32070)
        [line] = lines
        self.assertRegex(
            line,
            rf"^info: call from {ALICE} to {APP} was ended by the caller after 1[0-2]\.\d s,"
            " Call-ID c1$",
        )
        [event] = self.events
        self.assertEqual((event["call_id"], event["caller"], event["callee"]), ("c1", ALICE, APP))
        self.assertEqual(event["ended_by"], "the caller")

    def test_by_the_application(self) -> None:
        """The BYE is on its way, and answered."""
        self.up()
        with self.told() as lines:
            self.dialogs[0].destroy()
            self.whole.respond(self.whole.request(), 200, port=32070)
        [line] = lines
        self.assertIn("was ended by the application after 1", line)

    def test_connection_lost(self) -> None:
        """What nobody wanted is a warning, and says why."""
        self.up()
        with self.told() as lines:
            self.whole.lose()
        [line] = lines
        self.assertRegex(line, f"^warn: call from {ALICE} to {APP} failed: .* after .*Call-ID c1$")

    def test_subscription(self) -> None:
        """A subscription is no call."""

        @self.whole.srf.subscribe
        async def subscribe(req: Request, res: Response) -> None:
            self.dialogs.append(await self.whole.srf.create_uas(req, res))

        self.whole.pump()
        self.whole.receive(request("SUBSCRIBE", extra="Event: presence"), 32070)
        with self.told() as lines:
            self.whole.lose()
        self.assertEqual((len(self.dialogs), lines), (1, []))


class NotAnsweredTests(StoryCase):
    def test_refused(self) -> None:
        """What people and routing say is routine; what went wrong is a warning."""
        for status, expected in (
            (
                486,
                "info: call from {} to {} was refused with 486 Busy Here after 0.0 s, Call-ID c1",
            ),
            (
                503,
                "warn: call from {} to {} failed with 503 Service Unavailable after 0.0 s,"
                " Call-ID c1",
            ),
        ):
            self.setUp()
            with self.told() as lines:
                self.invite(lambda req, res, status=status: res.send(status))  # type: ignore
            self.assertEqual(lines, [expected.format(ALICE, APP)])
            self.assertEqual(self.events[0]["status"], status)

    def test_handler_failed(self) -> None:
        """A handler that fails is a call that failed."""

        def fail(req: Request, res: Response) -> None:
            raise ValueError

        with self.told() as lines:
            self.invite(fail)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        [line] = lines
        self.assertIn("warn: call from", line)
        self.assertIn("failed with 500", line)

    def test_given_up(self) -> None:
        """A caller who hangs up before he is answered."""
        self.invite(lambda req, res: res.send(180) and None)
        with self.told() as lines:
            self.whole.receive(request("CANCEL", branch="INVITE-1"), 32070)
        [line] = lines
        self.assertIn("was given up: 487 Request Terminated", line)
        self.assertTrue(line.startswith("info: "))

    def test_nobody_there(self) -> None:
        """The connection is lost while it rings."""
        self.invite(lambda req, res: res.send(180) and None)
        with self.told() as lines:
            self.whole.lose()
        [line] = lines
        self.assertRegex(line, "^warn: call from .* failed: ")

    def test_re_invite(self) -> None:
        """A change of a call that is refused is the end of nothing."""
        tag = self.invite(self.answer)
        self.whole.receive(request("ACK", to_tag=tag), 32070)
        self.dialogs[0].on_modify(lambda req, res: res.send(488) and None)
        with self.told() as lines:
            self.whole.receive(request("INVITE", number=2, to_tag=tag, body=OFFER), 32070)
            self.whole.pump()
        self.assertEqual(lines, [])


class TwoLegsTests(StoryCase):
    def invite(self, handler: Callable[[Request, Response], object], call: str = "c1") -> str:
        """Let a call come, and whom it is for answer."""
        self.whole.srf.invite(handler)
        self.whole.pump()
        self.whole.receive(request("INVITE", call=call, body=OFFER), 32070)
        self.out = self.whole.request()
        return ""

    def test_answered(self) -> None:
        """It is one call, told once, whichever leg ends first."""
        for by in ("the caller", "the callee"):
            self.setUp()
            self.invite(self.bridge)
            self.whole.respond(self.out, 200, body=OFFER)
            tag = self.tag()
            self.whole.receive(request("ACK", to_tag=tag), 32070)
            with self.told() as lines:
                if by == "the caller":
                    self.whole.receive(request("BYE", number=2, to_tag=tag), 32070)
                    self.whole.respond(self.whole.request(), 200)
                else:
                    self.whole.receive(self.bye(), 32071)
                    self.whole.respond(self.whole.request(), 200, port=32070)
            [line] = lines
            other = self.out.get("Call-ID") or ""
            self.assertIn(f"call from {ALICE} to {APP} was ended by {by}", line)
            self.assertTrue(line.endswith(f", Call-ID c1 (other leg {other})"), line)
            self.assertEqual([one.connected for one in self.dialogs], [False, False])

    def bye(self) -> str:
        """Write the BYE of the callee."""
        lines = [
            f"BYE {(self.out.get('Contact') or '').strip('<>')} SIP/2.0",
            "Via: SIP/2.0/UDP 127.0.0.1:32071;branch=z9hG4bKbye",
            f"From: {self.out.get('To')};tag=b",
            f"To: {self.out.get('From')}",
            f"Call-ID: {self.out.get('Call-ID')}",
            "CSeq: 1 BYE",
            "Max-Forwards: 70",
            "Content-Length: 0",
        ]
        return "\n".join(lines) + "\n\n"

    def test_refused(self) -> None:
        """What becomes of the caller is told, and not the leg that was placed for him."""
        with self.told() as lines:
            self.invite(self.bridge)
            self.whole.respond(self.out, 486)
            self.whole.pump()
        [line] = lines
        self.assertIn(f"call from {ALICE} to {APP} was refused with 486 ", line)
        self.assertEqual(len(self.flushLoggedErrors(SipError)), 1)  # the handler let it pass

    def test_rung_at_once(self) -> None:
        """So it is for those of whom one answers."""

        async def ring(req: Request, res: Response) -> None:
            targets = ["sip:b@127.0.0.1:32071", "sip:c@127.0.0.1:32072"]
            self.dialogs += await simring(self.whole.srf, req, res, targets)

        with self.told() as lines:
            self.whole.srf.invite(ring)
            self.whole.pump()
            self.whole.receive(request("INVITE", body=OFFER), 32070)
            for one in self.whole.sent():
                if isinstance(one, SipRequest) and one.method == "INVITE":
                    self.whole.respond(one, 486)
        [line] = lines
        self.assertIn(" 486 ", line)
        self.assertEqual(len(self.flushLoggedErrors(SipError)), 1)


class PlacedTests(StoryCase):
    def place(self) -> SipRequest:
        """Call somebody."""
        self.calling = self.whole.srf.create_uac(TARGET, local_sdp=OFFER)
        return self.whole.request()

    def test_refused(self) -> None:
        """A call of ours that nobody is waited for by."""
        with self.told() as lines:
            self.whole.respond(self.place(), 404)
        self.failureResultOf(self.calling, SipError)
        [line] = lines
        self.assertRegex(
            line, "^info: call from .* to sip:bob@127.0.0.1:32071 was refused with 404 "
        )

    def test_ended(self) -> None:
        """And one that is answered, and ended."""
        self.whole.respond(self.place(), 200, body=OFFER)
        call = self.successResultOf(self.calling)
        self.whole.sent()
        with self.told() as lines:
            call.destroy()
            self.whole.respond(self.whole.request(), 200)
        [line] = lines
        self.assertIn("was ended by the application after 0.0 s", line)


class LimitTests(SynchronousTestCase):
    def test_so_many_a_second(self) -> None:
        """Beyond that they are counted, and told with the next line."""
        now = [0.0]
        story = Story(lambda: now[0])
        invite = b"INVITE x SIP/2.0\r\nCall-ID: c\r\n\r\n"
        with capturedLogs() as logs:
            for _ in range(AT_ONCE + 50):
                story.over(invite, "nobody")
            now[0] = 1.0
            story.refused(invite, 486)
            story.failed(invite, "no")
        self.assertEqual(len(logs), AT_ONCE + 2)
        self.assertIn("; 50 more calls were over in between", formatEvent(logs[-2]))
        self.assertNotIn("more calls", formatEvent(logs[-1]))
        self.assertEqual(logs[-1]["log_level"], LogLevel.warn)

    def test_parties(self) -> None:
        """Of From and To what is no parameter; whatever else stands there harms nobody."""
        for value, expected in (
            (b'"A" <sip:a@b;x=y>;tag=1', "sip:a@b"),
            (b"sip:a@b;tag=1", "sip:a@b"),
            (b"<sip:a:pw@b:5060>", "sip:a:(hidden)@b:5060"),
            (b"<tel:+123>", "tel:+123"),
            (b"<", ""),
            (b"\xff", "\ufffd"),
        ):
            message = b"INVITE x SIP/2.0\r\nf : " + value + b"\r\nTO:" + value + b"\r\n\r\n"
            self.assertEqual(party_of(message, caller=True), expected)
            self.assertEqual(party_of(message, caller=False), expected)
        self.assertEqual(party_of(b"INVITE x SIP/2.0\r\n\r\nFrom: x", caller=True), "nobody")
