"""Who calls, as the called party is told."""

from __future__ import annotations

from drachtwist import simring
from drachtwist.sip import Request as SipRequest
from tests.app.test_b2bua import OFFER, A, B2buaTestCase
from tests.server.doubles import request
from tests.whole import TARGET

US = "127.0.0.1:32060"


class BridgedCallerTests(B2buaTestCase):
    def invited(self, sender: str, extra: str = "", *, ring: bool = False) -> SipRequest:
        """Let a call come of somebody; give the INVITE for B."""
        text = request("INVITE", call=f"c{len(self.kept)}", extra=extra, body=OFFER)
        lines = [
            f"From: {sender};tag=a" if line.startswith("From:") else line
            for line in text.split("\n")
        ]
        self.whole.receive("\n".join(lines), A)
        self.to_a()
        req, res = self.kept[-1]
        if ring:
            simring(self.srf, req, res, [TARGET])
        else:
            self.srf.create_b2bua(req, res, TARGET)
        return self.invite_b()

    def test_number(self) -> None:
        """The number goes on, wherever it stood; who has none is an address without a user."""
        for sender, extra, told in (
            ("<tel:+12015550123>", "", f"sip:+12015550123@{US}"),
            ("<tel:+1-201-555-0123>", "", f"sip:+12015550123@{US}"),
            ("<sip:192.0.2.1>", "", f"sip:{US}"),
            ("<sip:alice@x>", "P-Asserted-Identity: <tel:+1>", f"sip:+1@{US}"),
            ('"sip:4433@evil" <sip:alice@x>', "", f"sip:alice@{US}"),
            ("<SIPS:alice@x>", "", f"sip:alice@{US}"),
            ('"A" <tel:*#31#>', "", f"sip:*%2331%23@{US}"),
        ):
            for ring in (False, True):
                invite = self.invited(sender, extra, ring=ring)
                self.assertEqual(invite.from_.uri, told, sender)
                self.assertEqual(invite.contacts[0].uri, told, sender)

    def test_name_without_a_number(self) -> None:
        """A name goes on without a number too."""
        self.srf.create_uac(TARGET, calling_name="The dentist", calling_number="")
        invite = self.whole.request()
        self.assertEqual(invite.from_.display, "The dentist")
        self.assertEqual(invite.from_.uri, f"sip:{US}")

    def test_called_number(self) -> None:
        """The number in To is that of the application, escaped where it has to be."""
        self.srf.create_uac(TARGET, called_number="#31")
        self.assertEqual(self.whole.request().to.uri, f"sip:%2331@{US}")
