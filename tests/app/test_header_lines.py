"""Headers in several lines, which say the same as one line with commas (RFC 3261 section 7.3.1)."""

from __future__ import annotations

from drachtwist import LocalProtocolError, SipError, accept_refer, transfer
from drachtwist.app.bridged_headers import chosen_headers
from drachtwist.sip import Headers
from drachtwist.sip import Request as SipRequest
from tests.app.calling import CallTestCase
from tests.app.test_b2bua import ANSWER, B2buaTestCase

DIVERSIONS = ["<sip:a@x>;reason=no-answer", "<sip:b@x>;reason=user-busy"]
WARNINGS = ['399 x "one"', '399 x "two"']


def lines(name: str, values: list[str]) -> str:
    """Write a header in several lines."""
    return "\n".join(f"{name}: {value}" for value in values)


class MissingTests(B2buaTestCase):
    def test_all_lines_or_none(self) -> None:
        """Headers that are completed get all lines of what they lack, none of what they have."""
        headers = Headers({"X-A": "mine"})
        headers.add_missing([("x-a", "1"), ("X-B", "1"), ("m", "<sip:a@b>"), ("x-b", "2")])
        expected = [("X-A", "mine"), ("X-B", "1"), ("m", "<sip:a@b>"), ("x-b", "2")]
        self.assertEqual(headers.items(), expected)
        headers.add_missing({"Contact": "<sip:c@d>", "X-C": ["1", "2"]})
        self.assertEqual(headers.items(), [*expected, ("X-C", "1"), ("X-C", "2")])
        self.assertRaises(LocalProtocolError, headers.add_missing, {"X-D": "a\nb"})


class BridgedLinesTests(B2buaTestCase):
    def test_request(self) -> None:
        """B gets all lines of a header of A, in order."""
        extra = (
            lines("Diversion", DIVERSIONS)
            + "\n"
            + lines("History-Info", ["<sip:a@x>", "<sip:b@x>"])
        )
        self.bridge(extra, proxy_request_headers=["all"])
        invite = self.invite_b()
        self.assertEqual(invite.get_all("Diversion"), DIVERSIONS)
        self.assertEqual(invite.get_all("History-Info"), ["<sip:a@x>", "<sip:b@x>"])

    def test_own_header_stands(self) -> None:
        """What the application writes takes the place of all lines of A."""
        self.bridge(
            lines("Diversion", DIVERSIONS),
            headers={"Diversion": "<sip:c@x>"},
            proxy_request_headers=["Diversion"],
        )
        self.assertEqual(self.invite_b().get_all("Diversion"), ["<sip:c@x>"])

    def test_response(self) -> None:
        """A gets all lines of a header of B: of what rings, and of what answers."""
        identities = ["<sip:+1@x>", "<tel:+1>"]
        bridging = self.bridge(proxy_response_headers=["P-Asserted-Identity"])
        invite = self.invite_b()
        self.whole.respond(invite, 180, headers={"P-Asserted-Identity": identities})
        [ringing] = self.to_a()
        self.assertEqual(ringing.get_all("P-Asserted-Identity"), identities)
        self.whole.respond(invite, 200, headers={"P-Asserted-Identity": identities}, body=ANSWER)
        [answer], _ = self.split()
        self.assertEqual(answer.get_all("P-Asserted-Identity"), identities)
        self.successResultOf(bridging)

    def test_refusal(self) -> None:
        """A gets all warnings."""
        bridging = self.bridge(proxy_response_headers=["Warning"])
        self.whole.respond(self.invite_b(), 488, headers={"Warning": WARNINGS})
        [refusal], _ = self.split()
        self.assertEqual(refusal.get_all("Warning"), WARNINGS)
        self.failureResultOf(bridging, SipError)

    def test_redirect(self) -> None:
        """A gets all contacts of a redirect."""
        contacts = ["<sip:c@127.0.0.1>;q=0.5", "<sip:d@127.0.0.1>"]
        bridging = self.bridge()
        self.whole.respond(self.invite_b(), 302, headers={"Contact": contacts})
        [refusal], _ = self.split()
        self.assertEqual((refusal.status, refusal.get_all("Contact")), (302, contacts))
        self.failureResultOf(bridging, SipError)


class TransferLinesTests(CallTestCase):
    def test_refer(self) -> None:
        """What the application writes of a REFER goes out in as many lines."""
        call = self.answered()
        transfer(call, "sip:c@127.0.0.1", headers={"X-Note": ["1", "2"]})
        self.assertEqual(self.whole.request().get_all("X-Note"), ["1", "2"])

    def test_follow(self) -> None:
        """A header that the application writes takes the place of what the REFER brought."""
        call = self.answered()
        referrals = []
        call.on_refer(lambda req, res: referrals.append(accept_refer(call, req, res)))
        extra = "Refer-To: <sip:c@127.0.0.1:32072>\nReferred-By: <sip:alice@x>"
        self.from_a("REFER", 2, extra)
        self.whole.sent()
        [referral] = referrals
        referral.follow(headers={"X-Note": ["1", "2"]})
        [invite] = [one for one in self.whole.sent() if (one.get("CSeq") or "").endswith("INVITE")]
        assert isinstance(invite, SipRequest)
        self.assertEqual(invite.get_all("X-Note"), ["1", "2"])
        self.assertEqual(invite.get_all("Referred-By"), ["<sip:alice@x>"])


class ChoiceTests(B2buaTestCase):
    def test_order(self) -> None:
        """Chosen headers come in the order of the message, however they are named, once each."""
        message = SipRequest(
            "INVITE", "sip:x@y", [("X-B", "1"), ("X-A", "2"), ("x-b", "3"), ("Subject", "s")]
        )
        expected = [("x-b", "1"), ("X-A", "2"), ("x-b", "3")]
        self.assertEqual(chosen_headers(message, ["X-A", "x-b", "X-B"]), expected)

    def test_but(self) -> None:
        """``-Name`` takes a header away wherever it stands in the list."""
        message = SipRequest("INVITE", "sip:x@y", [("X-A", "1"), ("X-B", "2"), ("s", "3")])
        left = [("X-B", "2")]
        self.assertEqual(chosen_headers(message, ["X-A", "X-B", "-x-a"]), left)
        self.assertEqual(chosen_headers(message, ["-X-A", "X-A", "X-B"]), left)
        self.assertEqual(chosen_headers(message, ["-X-A", "all", "-Subject"]), left)

    def test_more_than_all(self) -> None:
        """What belongs to one side alone goes along when it is named."""
        message = SipRequest("INVITE", "sip:x@y", [("k", "a"), ("X-A", "1"), ("Expires", "3")])
        self.assertEqual(chosen_headers(message, ["all"]), [("X-A", "1"), ("Expires", "3")])
        expected = [("Supported", "a"), ("X-A", "1"), ("Expires", "3")]
        self.assertEqual(chosen_headers(message, ["all", "Supported"]), expected)
