"""How often the reactor is woken by the deadlines of transactions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response
from tests.server.doubles import Bench, request
from tests.whole import TARGET, Whole

STEP = 0.02
"""Seconds between two calls, in which the clock stands still."""


class CountingClock(Clock):
    """A clock that counts how often it calls."""

    wake_ups = 0

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: Any, **kw: Any
    ) -> IDelayedCall:
        """Call something later."""
        return super().callLater(delay, self._wake, callable, args, kw)

    def _wake(self, callable: Callable[..., Any], args: Any, kw: Any) -> None:
        self.wake_ups += 1
        callable(*args, **kw)


class FinishedTests(SynchronousTestCase):
    """Transactions that are over but for repeats end together."""

    def test_asked(self) -> None:
        """A thousand answered requests, one after the other, are forgotten in a few turns."""
        clock = CountingClock()
        bench = Bench(clock)
        app = bench.link("options")
        for number in range(1000):
            bench.receive(request("OPTIONS", call=f"c{number}"))
            [frame] = app.take()
            app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
            bench.take()
            clock.advance(STEP)
        self.assertEqual(bench.core.counts()["server_transactions"], 1000)
        self.pass_time(clock, 34.0)
        self.assertEqual(bench.core.counts()["server_transactions"], 0)
        self.assertLessEqual(clock.wake_ups, 25)

    def pass_time(self, clock: Clock, seconds: float) -> None:
        """Let time pass in steps as small as those between calls."""
        for _ in range(round(seconds / STEP)):
            clock.advance(STEP)

    def test_exact(self) -> None:
        """What is repeated is repeated to the instant."""
        clock = CountingClock()
        clock.advance(0.123)
        bench = Bench(clock)
        app = bench.link("invite")
        bench.receive(request("INVITE"))
        [frame] = app.take()
        app.answer(frame.split("|")[8], "SIP/2.0 486 Busy Here")
        bench.take()
        clock.advance(0.499)
        self.assertEqual(bench.heads(), [])
        clock.advance(0.001)
        self.assertEqual(bench.heads(), ["486 INVITE"])

    def test_calls(self) -> None:
        """Of a thousand calls of both kinds the same is true, and of what need not be repeated."""
        clock = CountingClock()
        whole = Whole(clock=clock)

        @whole.srf.invite
        async def answer(req: Request, res: Response) -> None:
            await whole.srf.create_uas(req, res, local_sdp="v=0\r\n")

        whole.pump()
        clock.wake_ups = 0
        for number in range(500):
            name = f"c{number}"
            whole.receive(request("INVITE", call=name), 32070)
            tag = next(one for one in whole.sent() if getattr(one, "status", 0) == 200).to.tag or ""
            whole.receive(request("ACK", call=name, to_tag=tag, branch="a"), 32070)
            clock.advance(STEP)
            whole.receive(request("BYE", call=name, number=2, to_tag=tag), 32070)
            whole.sent()
            whole.srf.create_uac(TARGET, local_sdp="v=0\r\n").addCallback(
                lambda dialog: dialog.destroy()
            )
            invite = whole.request()
            clock.advance(STEP)
            whole.respond(invite, 200, body="v=0\r\n")
            [bye] = [one for one in whole.sent() if getattr(one, "method", "") == "BYE"]
            assert not isinstance(bye, Response)
            whole.respond(bye, 200)  # type: ignore[arg-type]
            whole.sent()
        self.pass_time(clock, 34.0)
        counts = whole.server.core.counts()
        self.assertEqual((counts["server_transactions"], counts["client_transactions"]), (0, 0))
        # In 54 seconds: one for each, and as many again for what was answered before its time.
        self.assertLessEqual(clock.wake_ups, 2 * 54)
