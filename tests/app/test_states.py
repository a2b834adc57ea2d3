"""Watching calls: their states, their records, and the responses that go out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar
from xml.etree import ElementTree

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import CallSummary, DialogState, Response, SipError, dialog_info
from drachtwist.sip import Response as SipResponse
from drachtwist.wire.commands import Cdr
from tests.app.calling import ANSWER, OFFER, CallTestCase
from tests.server.doubles import head, request
from tests.whole import TARGET


class StateTests(CallTestCase):
    def setUp(self) -> None:
        """Watch the calls."""
        super().setUp()
        self.seen: list[DialogState] = []
        self.srf.on_dialog_state(self.seen.append)

    def states(self) -> list[tuple[str, str, str]]:
        """Give state, event and direction of what was seen."""
        return [(one.state, one.event, one.direction) for one in self.seen]

    def test_called(self) -> None:
        """A call that comes, rings, is answered and ended is reported in these states."""
        req, res = self.ring()
        res.send(180)
        res.send(180)
        self.whole.pump()
        self.srf.create_uas(req, res, local_sdp=ANSWER)
        answers = [one for one in self.whole.sent() if isinstance(one, SipResponse)]
        self.answer = answers[-1]
        self.from_a("ACK", 1)
        self.from_a("BYE", 2)
        self.assertEqual(
            self.states(),
            [
                ("trying", "", "recipient"),
                ("early", "", "recipient"),
                ("confirmed", "", "recipient"),
                ("terminated", "remote-bye", "recipient"),
            ],
        )
        self.assertEqual(len({one.id for one in self.seen}), 1)
        self.assertEqual(self.seen[-1].local_tag, self.answer.to.tag)

    def test_refused(self) -> None:
        """A refusal ends the call before it began."""
        _, res = self.ring()
        res.send(486)
        self.whole.pump()
        self.assertEqual(self.states()[-1], ("terminated", "rejected", "recipient"))
        self.assertEqual(self.seen[-1].status, 486)

    def test_cancelled(self) -> None:
        """So does the caller who gives up."""
        self.ring()
        self.whole.receive(request("CANCEL"), 32070)
        self.assertEqual(self.states()[-1], ("terminated", "cancelled", "recipient"))

    def test_calling(self) -> None:
        """A call of our own has the same states, and one without a tag in between."""
        calling = self.srf.create_uac(TARGET, local_sdp=OFFER)
        invite = self.whole.request()
        self.whole.respond(invite, 100)
        self.whole.respond(invite, 180)
        self.whole.respond(invite, 200, body=ANSWER)
        self.successResultOf(calling).destroy()
        self.whole.sent()
        bye_pending = self.states()
        self.assertEqual(
            bye_pending,
            [
                ("trying", "", "initiator"),
                ("early", "", "initiator"),
                ("confirmed", "", "initiator"),
            ],
        )

    def test_calling_refused(self) -> None:
        """A call of ours that is refused is reported as rejected."""
        calling = self.srf.create_uac(TARGET, local_sdp=OFFER)
        self.whole.respond(self.whole.request(), 404)
        self.failureResultOf(calling, SipError)
        self.assertEqual(self.states()[-1], ("terminated", "rejected", "initiator"))

    def test_link_lost(self) -> None:
        """A lost connection ends all calls."""
        self.ring()
        self.whole.lose()
        self.assertEqual(self.states()[-1], ("terminated", "error", "recipient"))


class DialogInfoTests(SynchronousTestCase):
    def test_document(self) -> None:
        """The document is well-formed, whatever is in the names."""
        state = DialogState(
            "terminated", "rejected", "recipient", 486, 'a"<&@b', "1", "2", "sip:b", "sip:a&b"
        )
        text = dialog_info("sip:bob@example.net", 3, [state])
        root = ElementTree.fromstring(text)
        space = "{urn:ietf:params:xml:ns:dialog-info}"
        self.assertEqual((root.get("version"), root.get("state")), ("3", "full"))
        [dialog] = root.findall(f"{space}dialog")
        self.assertEqual(dialog.get("call-id"), 'a"<&@b')
        found = dialog.find(f"{space}state")
        assert found is not None
        self.assertEqual((found.text, found.get("code")), ("terminated", "486"))


class SummaryTests(CallTestCase):
    settings: ClassVar[dict[str, Any]] = {"cdrs": True}

    def setUp(self) -> None:
        """Want summaries."""
        super().setUp()
        self.seen: list[CallSummary] = []
        self.srf.on_call_summary(self.seen.append)
        self.whole.pump()

    def test_call(self) -> None:
        """A call that is over has one summary, with its records and durations."""
        self.answered()
        self.whole.pass_time(30)
        self.from_a("BYE", 2)
        [summary] = self.seen
        self.assertTrue(summary.answered)
        self.assertEqual(summary.reason, "normal-release")
        self.assertEqual(summary.call_id, self.answer.get("Call-ID"))
        assert summary.attempt is not None and summary.stop is not None
        self.assertEqual([one.event for one in summary.starts], ["start"])
        self.assertIsNotNone(summary.duration)
        self.assertTrue(summary.caller.startswith("sip:"), summary.caller)

    def test_refused(self) -> None:
        """A refused call was not answered, and lasted no time."""
        _, res = self.ring()
        res.send(486)
        self.whole.pump()
        [summary] = self.seen
        self.assertEqual((summary.answered, summary.duration), (False, 0.0))
        self.assertEqual(summary.reason, "call-rejected")

    def test_midnight(self) -> None:
        """A call over midnight lasts as long as any other."""
        self.answered()
        self.from_a("BYE", 2)
        [summary] = self.seen
        assert summary.attempt is not None and summary.stop is not None
        summary.attempt._cdr = _at(summary.attempt._cdr, "23:59:40.000000")
        summary.starts[0]._cdr = _at(summary.starts[0]._cdr, "23:59:50.500000")
        summary.stop._cdr = _at(summary.stop._cdr, "00:00:10.000000")
        self.assertAlmostEqual(summary.duration or 0.0, 19.5)
        self.assertAlmostEqual(summary.setup_time or 0.0, 10.5)

    def test_link_lost(self) -> None:
        """What is known of a call is told when the connection is lost."""
        self.answered()
        self.whole.lose()
        [summary] = self.seen
        self.assertEqual((summary.answered, summary.reason), (True, "link-lost"))
        self.assertIsNone(summary.duration)


def _at(cdr: Cdr, time: str) -> Cdr:
    return replace(cdr, time=time)


class OnSendTests(CallTestCase):
    def test_headers(self) -> None:
        """A handler may add headers to each response before it goes out."""
        _, res = self.ring()

        @res.on_send
        def mark(response: Response, status: int) -> None:
            response.set("X-Status", str(status))

        res.send(180)
        res.send(486)
        ringing, refusal = self.whole.sent()
        self.assertEqual((ringing.get("X-Status"), refusal.get("X-Status")), ("180", "486"))

    def test_waits(self) -> None:
        """A response waits for its handler, and those behind it wait for their turn."""
        _, res = self.ring()
        gates: list[Deferred[None]] = []

        @res.on_send
        def wait(response: Response, status: int) -> Deferred[None]:
            gates.append(Deferred())
            return gates[-1]

        res.send(180)
        res.send(486)
        self.assertEqual(self.whole.heads(), [])
        gates[0].callback(None)
        self.assertEqual(self.whole.heads(), ["180 INVITE"])
        gates[1].callback(None)
        self.assertEqual(self.whole.heads(), ["486 INVITE"])

    def test_accepting(self) -> None:
        """The 200 of create_uas is asked about too."""
        req, res = self.ring()

        @res.on_send
        async def mark(response: Response, status: int) -> None:
            response.set("X-Status", str(status))

        accepting = self.srf.create_uas(req, res, local_sdp=ANSWER)
        [answer] = self.whole.sent()
        self.assertEqual((head(answer), answer.get("X-Status")), ("200 INVITE", "200"))
        self.successResultOf(accepting)

    def test_failing(self) -> None:
        """A handler that fails is logged, and the response goes out."""
        _, res = self.ring()

        @res.on_send
        def fail(response: Response, status: int) -> None:
            raise RuntimeError("no")

        res.send(486)
        self.assertEqual(self.whole.heads(), ["486 INVITE"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
