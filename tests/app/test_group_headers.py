"""What goes along when several are called, and when all of them refuse."""

from __future__ import annotations

from typing import Any

from drachtwist import SipError
from drachtwist.app.forking import hunt, simring
from drachtwist.sip import Request as SipRequest
from tests.app.test_forking import ANSWER, OFFER, URIS, A, ForkingTestCase
from tests.server.doubles import request


class GroupTestCase(ForkingTestCase):
    def setUp(self) -> None:
        """Let a call come with some headers."""
        super().setUp()
        extra = "Diversion: <sip:a@x>\nDiversion: <sip:b@x>\nX-A: 1"
        self.whole.receive(request("INVITE", call="c2", extra=extra, body=OFFER), A)
        self.whole.heads()
        self.req, self.res = self.kept[-1]

    OPTIONS: Any = {
        "headers": lambda req: {"X-B": req.get("X-A")},
        "proxy_request_headers": ["all", "-X-A"],
        "response_headers": lambda response: {"X-C": str(response.status)},
        "proxy_response_headers": ["Warning", "P-Asserted-Identity"],
    }


class HeaderTests(GroupTestCase):
    def sees(self, invite: SipRequest) -> None:
        """See that an INVITE has what was chosen."""
        self.assertEqual(invite.get_all("Diversion"), ["<sip:a@x>", "<sip:b@x>"])
        self.assertEqual((invite.get("X-A"), invite.get("X-B")), (None, "1"))

    def test_simring(self) -> None:
        """All who are called at once get the same, and the caller what was chosen of theirs."""
        calling = simring(self.srf, self.req, self.res, URIS, **self.OPTIONS)
        invites = {port: found[0] for port, found in self.sent().items()}
        for invite in invites.values():
            self.sees(invite)
        identity = {"P-Asserted-Identity": ["<sip:b@x>", "<tel:+1>"], "X-D": "1"}
        self.respond(invites[32071], 180, 32071, headers=identity)
        [ringing] = self.sent()[A]
        self.assertEqual(ringing.get_all("P-Asserted-Identity"), ["<sip:b@x>", "<tel:+1>"])
        self.assertEqual((ringing.get("X-C"), ringing.get("X-D")), ("180", None))
        self.respond(invites[32072], 200, 32072, headers=identity, body=ANSWER)
        [answer] = self.sent()[A]
        self.assertEqual(answer.get_all("P-Asserted-Identity"), ["<sip:b@x>", "<tel:+1>"])
        self.assertEqual(answer.get("X-C"), "200")
        self.successResultOf(calling)

    def test_simring_refused(self) -> None:
        """The refusal of the caller has them too, and what belongs to it."""
        calling = simring(self.srf, self.req, self.res, URIS[:1], **self.OPTIONS)
        [invite] = self.sent()[32071]
        self.respond(invite, 302, 32071, headers={"Contact": ["<sip:c@x>", "<sip:d@x>"]})
        [refusal] = self.sent()[A]
        self.assertEqual(refusal.get_all("Contact"), ["<sip:c@x>", "<sip:d@x>"])
        self.assertEqual(refusal.get("X-C"), "302")
        self.assertEqual(self.failed(calling), 302)

    def test_hunt(self) -> None:
        """Those who are called one after the other get the same, and so does the caller."""
        calling = hunt(self.srf, self.req, self.res, URIS[:2], **self.OPTIONS)
        [invite] = self.sent()[32071]
        self.sees(invite)
        self.respond(invite, 488, 32071, headers={"Warning": ['399 x "a"', '399 x "b"']})
        [invite] = self.sent()[32072]
        self.sees(invite)
        self.respond(invite, 503, 32072)
        [refusal] = self.sent()[A]
        self.assertEqual((refusal.status, refusal.get("X-C")), (488, "488"))
        self.assertEqual(refusal.get_all("Warning"), ['399 x "a"', '399 x "b"'])
        self.assertEqual(self.failed(calling), 488)

    def test_quiet(self) -> None:
        """A group may ring without the caller hearing it, as one may who is called alone."""
        for call in (simring, hunt):
            given: Any = call
            given(self.srf, self.req, self.res, URIS[:1], pass_provisional_responses=False)
            [invite] = self.sent()[32071]
            self.respond(invite, 180, 32071)
            self.assertEqual(self.sent(), {})
            self.setUp()


class RankedTests(GroupTestCase):
    """All rank refusals by RFC 3261 section 16.7."""

    CASES = (
        ((486, 302), 302),
        ((500, 408), 408),
        ((408, 404), 404),
        ((404, 407), 407),
        ((503, 500), 500),
        ((484, 404), 484),
        ((404, 486), 404),
        ((500, 603), 603),
    )

    def test_simring(self) -> None:
        """Of those who were called at once."""
        for statuses, best in self.CASES:
            calling = simring(self.srf, self.req, self.res, URIS[:2])
            sent = self.sent()
            for port, status in zip((32071, 32072), statuses, strict=True):
                self.respond(sent[port][0], status, port)
            self.assertEqual(self.heads(), {A: [f"{best} INVITE"]})
            self.assertEqual(self.failed(calling), best)
            self.setUp()

    def test_hunt(self) -> None:
        """Of those who were called one after the other."""
        for statuses, best in self.CASES:
            calling = hunt(self.srf, self.req, self.res, URIS[:2])
            for port, status in zip((32071, 32072), statuses, strict=True):
                [invite] = self.sent()[port]
                self.respond(invite, status, port)
            self.assertEqual(self.heads(), {A: [f"{best} INVITE"]})
            self.assertEqual(self.failed(calling), best)
            self.setUp()

    def test_proxy(self) -> None:
        """Of those to whom the server has forwarded."""
        for statuses, best in self.CASES:
            proxying = self.srf.proxy_request(self.req, URIS[:2], forking="simultaneous")
            sent = self.sent()
            for port, status in zip((32071, 32072), statuses, strict=True):
                self.respond(sent[port][0], status, port)
            self.assertEqual(self.heads(), {A: [f"{best} INVITE"]}, statuses)
            self.successResultOf(proxying)
            self.setUp()

    def test_challenges(self) -> None:
        """A proxy hands on the challenges of all who have one (section 16.7, step 7)."""
        proxying = self.srf.proxy_request(self.req, URIS, forking="simultaneous")
        sent = self.sent()
        asked = [
            (401, {"WWW-Authenticate": 'Digest realm="a", nonce="n"'}),
            (407, {"Proxy-Authenticate": ['Digest realm="b", nonce="n"', 'Digest realm="c"']}),
            (401, {"WWW-Authenticate": 'Digest realm="d", nonce="n"'}),
        ]
        for port, (status, headers) in zip((32071, 32072, 32073), asked, strict=True):
            self.respond(sent[port][0], status, port, headers=headers)
        [refusal] = self.sent()[A]
        self.assertEqual(refusal.status, 401)
        self.assertEqual(
            refusal.get_all("WWW-Authenticate"),
            ['Digest realm="a", nonce="n"', 'Digest realm="d", nonce="n"'],
        )
        self.assertEqual(
            refusal.get_all("Proxy-Authenticate"),
            ['Digest realm="b", nonce="n"', 'Digest realm="c"'],
        )
        self.successResultOf(proxying)

    def test_an_error_of_the_caller(self) -> None:
        """What the caller gave up is a 487, whatever others have said."""
        calling = simring(self.srf, self.req, self.res, URIS[:2])
        sent = self.sent()
        self.respond(sent[32071][0], 486, 32071)
        self.respond(sent[32072][0], 180, 32072)
        self.sent()
        self.whole.receive(request("CANCEL", call="c2"), A)
        self.sent()
        self.respond(sent[32072][0], 487, 32072)
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 487)
