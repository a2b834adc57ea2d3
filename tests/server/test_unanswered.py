"""A call that its application never answers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response
from tests.server.doubles import Bench, request
from tests.server.test_uas import ServerTestCase
from tests.whole import Whole


class UnansweredTests(ServerTestCase):
    def test_other_requests(self) -> None:
        """Other requests are forgotten without a word: nobody waits for them any more."""
        options = self.offered(request("OPTIONS"))
        self.assertEqual((self.seen(70), self.app.take()), ([], []))
        [answer] = self.app.answer(options, "SIP/2.0 200 OK")
        self.assertIn("|NOK|Response not sent due to unknown transaction", answer)
        self.nothing_left()

    def test_application_gone(self) -> None:
        """The caller is answered at once when the application is gone."""
        self.offered(request("INVITE"))
        self.bench.take()
        self.app.close()
        self.assertEqual(self.bench.heads(), ["503 INVITE"])

    def test_ringing(self) -> None:
        """Once it rings there is no limit."""
        self.ringing()
        self.assertEqual((self.seen(600), self.app.take()), ([], []))

    def test_record(self) -> None:
        """It counts as a call that was rejected."""
        bench = Bench(cdrs=True)
        app = bench.link("invite", "cdr:stop")
        bench.receive(request("INVITE"))
        app.take()
        bench.clock.advance(64)
        self.assertIn("|call-rejected\r\nSIP/2.0 480 ", app.take()[0])


class ApplicationTests(SynchronousTestCase):
    def test_told(self) -> None:
        """A handler that does something else for too long learns that the call is over."""
        whole = Whole()
        told: list[str | None] = []

        @whole.srf.invite
        async def handler(req: Request, res: Response) -> None:
            cancel = await req.when_cancelled()
            told.append(None if cancel is None else cancel.get("Reason"))

        whole.pump()
        whole.receive(request("INVITE"), 32070)
        self.assertEqual(whole.heads(), ["100 INVITE"])
        self.assertEqual(whole.pass_time(64), [(64.0, "480 INVITE")])
        self.assertEqual(told, ['SIP;cause=480;text="No answer of the application"'])
