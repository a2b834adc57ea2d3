"""Tags and routes of calls, whoever chose them: an application on a real server core."""

from __future__ import annotations

from drachtwist import sip
from drachtwist.sip import Response as SipResponse
from tests.app.calling import ANSWER, OFFER, A, CallTestCase
from tests.server.doubles import request

LOOSE = "<sip:127.0.0.1:32080;lr>"
STRICT = "<sip:127.0.0.1:32081>"


class TagTests(CallTestCase):
    def test_of_the_application(self) -> None:
        """The To tag that an application writes into its first response is the dialog's."""
        req, res = self.ring()
        res.send(183, headers={"To": f"{req.get('To')};tag=mine"})
        [ringing] = self.whole.sent()
        self.assertEqual(ringing.to.tag, "mine")
        accepting = self.srf.create_uas(req, res, local_sdp=ANSWER)
        [self.answer] = [one for one in self.whole.sent() if isinstance(one, SipResponse)]
        self.assertEqual((self.answer.status, self.answer.to.tag), (200, "mine"))
        dialog = self.successResultOf(accepting)
        self.assertEqual(dialog.local.tag, "mine")
        self.from_a("ACK", 1)
        self.from_a("BYE", 2)
        self.assertEqual(self.whole.heads(), ["200 BYE"])
        self.assertIsNotNone(dialog.ended)

    def test_of_a_refusal(self) -> None:
        """So it is with one response only."""
        req, res = self.ring()
        res.send(486, headers={"To": f"{req.get('To')};tag=mine"})
        [refusal] = self.whole.sent()
        self.assertEqual(refusal.to.tag, "mine")


class RouteTests(CallTestCase):
    def routed(self, routes: list[str]) -> sip.Request:
        """Take a call through proxies; give the BYE of the application."""
        extra = "\n".join(f"Record-Route: {route}" for route in routes)
        self.whole.receive(request("INVITE", extra=extra, body=OFFER), A)
        self.whole.sent()
        req, res = self.kept[-1]
        accepting = self.srf.create_uas(req, res, local_sdp=ANSWER)
        [self.answer] = [one for one in self.whole.sent() if isinstance(one, SipResponse)]
        self.from_a("ACK", 1)
        self.successResultOf(accepting).destroy()
        return self.whole.request()

    def test_loose(self) -> None:
        """Loose routers are named in the Route, and the peer in the Request-URI."""
        bye = self.routed([LOOSE, STRICT])
        self.assertEqual(bye.uri, f"sip:alice@127.0.0.1:{A}")
        self.assertEqual(bye.get_all("Route"), [LOOSE, STRICT])

    def test_strict(self) -> None:
        """A strict router is the Request-URI, and the peer the end of the Route (12.2.1.1)."""
        bye = self.routed([STRICT, LOOSE])
        self.assertEqual(bye.uri, "sip:127.0.0.1:32081")
        self.assertEqual(bye.get_all("Route"), [LOOSE, f"<sip:alice@127.0.0.1:{A}>"])
