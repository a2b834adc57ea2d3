"""An application with middleware, and a phone that sends it requests."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response
from drachtwist.sip import Response as SipResponse
from tests.server.doubles import request
from tests.whole import Whole


class MiddlewareTestCase(SynchronousTestCase):
    """Has an application that answers 200 to what its middleware lets through."""

    def setUp(self) -> None:
        """Connect the application."""
        self.whole = Whole()
        self.srf = self.whole.srf
        self.clock = self.whole.clock
        self.passed: list[Request] = []
        self._number = 0

    def use(self, *middleware: Any) -> None:
        """Put middleware in front of handlers that answer 200."""
        for one in middleware:
            self.srf.use(one)
        for method in ("invite", "options", "register", "message"):
            getattr(self.srf, method)(self.accept)
        self.whole.pump()

    def accept(self, req: Request, res: Response) -> None:
        """Accept what came through."""
        self.passed.append(req)
        res.send(200)

    def ask(
        self, method: str = "OPTIONS", extra: str = "", body: str = "", **options: Any
    ) -> SipResponse:
        """Send a request, and give the final response."""
        self.send(method, extra, body, **options)
        answers = [one for one in self.whole.sent() if isinstance(one, SipResponse)]
        return answers[-1]

    def send(self, method: str, extra: str = "", body: str = "", **options: Any) -> None:
        """Send a request."""
        self._number += 1
        options.setdefault("call", f"m{self._number}")
        self.whole.receive(request(method, extra=extra, body=body, **options), 32070)
