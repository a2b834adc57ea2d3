"""An application with one call that a phone began: what many tests begin with."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Dialog, Request, Response, couple
from drachtwist.sip import Request as SipRequest
from drachtwist.sip import Response as SipResponse
from tests.server.doubles import request
from tests.whole import TARGET, Whole

A = 32070
OFFER = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"
ANSWER = "v=0\r\no=bob 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"


class CallTestCase(SynchronousTestCase):
    """Has an application that keeps the calls that come."""

    settings: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        """Connect the application."""
        self.whole = self.make()
        self.srf = self.whole.srf
        self.kept: list[tuple[Request, Response]] = []

        @self.srf.invite
        def keep(req: Request, res: Response) -> None:
            self.kept.append((req, res))

        self.whole.pump()

    def make(self) -> Whole:
        """Make the application and the server."""
        return Whole(self.settings)

    def ring(self, extra: str = "") -> tuple[Request, Response]:
        """Let a call come."""
        self.whole.receive(request("INVITE", extra=extra, body=OFFER), A)
        self.whole.sent()
        return self.kept[-1]

    def answered(self, **options: Any) -> Dialog:
        """Let a call come, and answer it."""
        req, res = self.ring()
        accepting = self.srf.create_uas(req, res, local_sdp=ANSWER, **options)
        [self.answer] = [one for one in self.whole.sent() if isinstance(one, SipResponse)]
        self.from_a("ACK", 1)
        return self.successResultOf(accepting)

    def bridged(self) -> SipRequest:
        """Let a call come, and connect it with another one.

        :returns: the INVITE of that one.
        """
        req, res = self.ring()
        bridging = self.srf.create_b2bua(req, res, TARGET)
        invite = self.whole.request()
        self.whole.respond(invite, 200, body=ANSWER)
        [self.answer] = [one for one in self.whole.sent() if isinstance(one, SipResponse)]
        self.from_a("ACK", 1)
        both = self.successResultOf(bridging)
        couple(both.uas, both.uac)
        self.whole.sent()
        return invite

    def from_a(self, method: str, number: int, extra: str = "", body: str = "") -> None:
        """Let the phone send a request in the dialog."""
        answer = self.answer
        lines = [
            f"{method} sip:127.0.0.1:32060 SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{A};branch=z9hG4bK-{method}-{number}",
            f"From: {answer.get('From')}",
            f"To: {answer.get('To')}",
            f"Call-ID: {answer.get('Call-ID')}",
            f"CSeq: {number} {method}",
            "Max-Forwards: 70",
            f"Contact: <sip:alice@127.0.0.1:{A}>",
            *extra.splitlines(),
            f"Content-Length: {len(body)}",
        ]
        self.whole.receive("\n".join(lines) + "\n\n" + body, A)
