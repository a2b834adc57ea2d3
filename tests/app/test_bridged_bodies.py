"""Bodies that are more than a session description, on their way through a bridged call."""

from __future__ import annotations

from typing import Any

from drachtwist import hunt, simring
from tests.app.test_b2bua import ANSWER, OFFER, A, B2buaTestCase
from tests.server.doubles import head, request
from tests.whole import TARGET

MULTIPART = (
    f"--x\r\nContent-Type: application/sdp\r\n\r\n{OFFER}\r\n--x\r\n"
    "Content-Type: application/pidf+xml\r\n\r\n<p/>\r\n--x--\r\n"
)
MIXED = "multipart/mixed;boundary=x"
SDP = "application/sdp"


class BodyTests(B2buaTestCase):
    def bodies(self, place: Any) -> None:
        """See what passes, with the function that calls somebody."""
        for number, (kind, body) in enumerate(((MIXED, MULTIPART), (SDP, f"\r\n{OFFER}"))):
            text = request("INVITE", call=f"c{number}", extra=f"Content-Type: {kind}", body=body)
            self.whole.receive(text, A)
            self.to_a()
            bridging = place(*self.kept[-1])
            invite = self.invite_b()
            self.assertEqual((invite.get("Content-Type"), invite.text), (kind, body))
            # Some begin like that, and others understand it.
            odd = f"\r\n{ANSWER}"
            self.whole.respond(invite, 200, headers={"Content-Type": SDP}, body=odd)
            a, b = self.split()
            self.assertEqual([head(one) for one in b], ["ACK"])
            [answer] = a
            self.assertEqual((answer.get("Content-Type"), answer.text), (SDP, odd))
            self.successResultOf(bridging)

    def test_b2bua(self) -> None:
        """They pass as they are, with their type."""
        self.bodies(lambda req, res: self.srf.create_b2bua(req, res, TARGET))

    def test_hunt(self) -> None:
        """So they do to one of several."""
        self.bodies(lambda req, res: hunt(self.srf, req, res, [TARGET]))

    def test_simring(self) -> None:
        """And to all of several."""
        self.bodies(lambda req, res: simring(self.srf, req, res, [TARGET]))

    def test_own_description(self) -> None:
        """What the application puts in its place has its own type."""
        self.whole.receive(request("INVITE", extra=f"Content-Type: {MIXED}", body=MULTIPART), A)
        self.to_a()
        self.srf.create_b2bua(*self.kept[-1], TARGET, local_sdp_b=OFFER)
        invite = self.invite_b()
        self.assertEqual((invite.get("Content-Type"), invite.text), (SDP, OFFER))
