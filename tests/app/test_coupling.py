"""The end of one side of a call is the end of the other, whoever brings it about; and in time."""

from __future__ import annotations

from typing import Any

from drachtwist import SipError, couple
from drachtwist.sip import Request as SipRequest
from tests.app.test_b2bua import ANSWER, B2buaTestCase
from tests.server.doubles import head
from tests.whole import TARGET


class CoupledTests(B2buaTestCase):
    def heads(self) -> tuple[list[str], list[str]]:
        """Take what was sent to both sides, in short."""
        a, b = self.split()
        return [head(one) for one in a], [head(one) for one in b]

    def test_application_ends_one(self) -> None:
        """Both peers get their BYE at once, though the first one never answers his."""
        for side in (0, 1):
            both = self.up()
            couple(*both)
            ending = tuple(both)[side].destroy({"Reason": 'SIP;cause=402;text="No credit"'})
            a, b = self.split()
            self.assertEqual([head(one) for one in (*a, *b)], ["BYE", "BYE"])
            for bye in (*a, *b):
                self.assertEqual(bye.get_all("Reason"), ['SIP;cause=402;text="No credit"'])
            self.whole.pass_time(70)
            self.successResultOf(ending)
            self.assertTrue(self.srf.idle)
            self.setUp()

    def test_a_request_that_ends(self) -> None:
        """So it is with ``bye()``."""
        uas, uac = self.up()
        couple(uas, uac)
        uas.bye()
        self.assertEqual(self.heads(), (["BYE"], ["BYE"]))

    def test_ended_before(self) -> None:
        """One that is over, or being ended, when they are coupled, ends the other too."""
        for answered in (False, True):
            uas, uac = self.up()
            uas.destroy()
            [bye], _ = self.split()
            if answered:
                self.whole.respond(bye, 200, port=32070)
                self.assertIsNotNone(uas.ended)
            couple(uas, uac)
            self.assertEqual(self.heads(), ([], ["BYE"]))
            self.setUp()

    def test_all_reasons(self) -> None:
        """A Reason in several lines passes whole (RFC 3326: one for each protocol)."""
        uas, uac = self.up()
        couple(uas, uac)
        reasons = ["SIP;cause=200", 'Q.850;cause=16;text="Terminated"']
        self.from_a("BYE", extra="\n".join(f"Reason: {one}" for one in reasons))
        _, [bye] = self.split()
        self.assertEqual(bye.get_all("Reason"), reasons)

    def test_illegible_reason(self) -> None:
        """One that cannot be read keeps nobody in the call."""
        uas, uac = self.up()
        couple(uas, uac)
        self.from_a("BYE", extra="Reason: ;;")
        _, [bye] = self.split()
        self.assertEqual((bye.method, bye.get("Reason")), ("BYE", None))

    def test_both_at_once(self) -> None:
        """Each gets one BYE, whatever crosses."""
        uas, uac = self.up()
        couple(uas, uac)
        uas.destroy()
        uac.destroy()
        self.assertEqual(self.heads(), (["BYE"], ["BYE"]))
        self.from_a("BYE")
        self.assertEqual(self.heads(), (["200 BYE"], []))

    def test_cancel_with_reasons(self) -> None:
        """The CANCEL of a caller hands on all his reasons too."""
        from tests.server.doubles import request

        bridging = self.bridge()
        invite = self.invite_b()
        self.whole.respond(invite, 180)
        self.split()
        reasons = ["SIP;cause=200", "Q.850;cause=16"]
        extra = "\n".join(f"Reason: {one}" for one in reasons)
        self.whole.receive(request("CANCEL", extra=extra), 32070)
        _, [cancel] = self.split()
        self.assertEqual(cancel.get_all("Reason"), reasons)
        self.whole.respond(invite, 487)
        self.failureResultOf(bridging, SipError)


class TimeoutTests(B2buaTestCase):
    def test_silent_after_ringing(self) -> None:
        """A caller hears at once that nobody answered in time, whatever the callee does then."""
        bridging = self.bridge(timeout=10)
        invite = self.invite_b()
        self.whole.respond(invite, 180)
        self.to_a()
        sent = self.whole.pass_time(10)
        self.assertEqual(
            [(at, what) for at, what in sent if what != "180 INVITE"][:2],
            [
                (10.0, "CANCEL"),
                (10.0, "408 INVITE"),
            ],
        )
        self.assertEqual(self.failureResultOf(bridging, SipError).value.status, 408)
        self.whole.pass_time(100)
        self.assertTrue(self.srf.idle)

    def test_answers_too_late(self) -> None:
        """Who answers all the same is acknowledged, and hung up on."""
        bridging = self.bridge(timeout=10)
        invite = self.invite_b()
        self.whole.respond(invite, 180)
        self.whole.pass_time(10)
        self.failureResultOf(bridging, SipError)
        self.whole.respond(invite, 200, body=ANSWER)
        _, b = self.split()
        self.assertEqual([head(one) for one in b], ["ACK", "BYE"])
        self.whole.respond(b[1], 200)
        self.whole.pass_time(100)
        self.assertTrue(self.srf.idle)

    def test_alone(self) -> None:
        """So it is without a caller."""
        calling: Any = self.srf.create_uac(TARGET, local_sdp=ANSWER, timeout=3)
        invite = self.whole.request()
        assert isinstance(invite, SipRequest)
        self.whole.respond(invite, 180)
        self.whole.pass_time(3)
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 408)
