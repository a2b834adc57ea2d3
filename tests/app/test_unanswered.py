"""Handlers that end without an answer are named, once that is certain."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Dialog, Request, Response
from drachtwist.app.unanswered import describe
from tests.app.doubles import OFFER
from tests.server.doubles import request
from tests.whole import Whole


def forgets(req: Request, res: Response) -> None:
    """Do nothing."""


class UnansweredTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Start an application."""
        self.whole = Whole()
        self.srf = self.whole.srf

    def warnings(self, seconds: float, count: int = 1, method: str = "INVITE") -> list[str]:
        """Let calls come, and time pass; give the warnings."""
        self.whole.pump()
        with capturedLogs() as logs:
            for number in range(count):
                self.whole.receive(request(method, call=f"c{number}", body=OFFER), 32070)
            self.whole.pass_time(seconds)
        return [
            formatEvent(one)
            for one in logs
            if one["log_level"] is LogLevel.warn and "nothing was sent" in one["log_format"]
        ]

    def test_named(self) -> None:
        """By name, file and line, with the Call-ID, after 32 seconds, and not before."""
        self.srf.invite(forgets)
        self.assertEqual(self.warnings(31), [])
        [line] = self.warnings(3)[:1]
        here = f"forgets ({__file__}:{forgets.__code__.co_firstlineno})"
        self.assertEqual(
            line,
            f"the handler {here} of INVITE has ended, and nothing was sent for 32 s: the caller"
            " still waits, Call-ID c0",
        )

    def test_async(self) -> None:
        """So is one that awaited something, and one that awaited nothing."""
        waiting: Deferred[None] = Deferred()

        @self.srf.invite
        async def later(req: Request, res: Response) -> None:
            if req.get("Call-ID") == "c0":
                await waiting

        lines = self.warnings(60, 2)
        self.assertEqual(len(lines), 1)
        self.assertIn("Call-ID c1", lines[0])
        with capturedLogs() as logs:
            waiting.callback(None)
            self.whole.pass_time(40)
        # The server has sent the caller away meanwhile.
        self.assertEqual([one for one in logs if "nothing was sent" in one["log_format"]], [])

    def test_answered(self) -> None:
        """Not those that answered, rang, or let somebody else answer later."""
        later: list[Response] = []

        def answers(req: Request, res: Response) -> None:
            number = int((req.get("Call-ID") or "")[1:])
            if number == 0:
                res.send(486)
            elif number == 1:
                res.send(180)
            elif number == 2:
                later.append(res)
            elif number == 3:
                self.srf.create_uas(req, res, local_sdp=OFFER).addErrback(lambda _: None)
            else:
                self.srf.proxy_request(req, "sip:x@127.0.0.1:9")

        self.srf.invite(answers)
        self.assertEqual(self.warnings(20, 5), [])
        later[0].send(486)
        with capturedLogs() as logs:
            self.whole.pass_time(60)
        self.assertEqual([one for one in logs if "nothing was sent" in one["log_format"]], [])

    def test_given_up(self) -> None:
        """Nor those whose caller has gone."""
        self.srf.invite(forgets)
        self.whole.pump()
        self.whole.receive(request("INVITE", body=OFFER), 32070)
        self.whole.receive(request("CANCEL", branch="INVITE-1"), 32070)
        with capturedLogs() as logs:
            self.whole.pass_time(60)
        self.assertEqual([one for one in logs if "nothing was sent" in one["log_format"]], [])

    def test_middleware(self) -> None:
        """It is the one who had the request last: middleware that handed it on is not to blame."""

        def first(req: Request, res: Response, next: Callable[..., Any]) -> None:
            if req.method == "INVITE":
                next()

        self.srf.use(first)
        self.srf.invite(forgets)
        self.srf.options(forgets)
        [line] = self.warnings(33)
        self.assertIn("the handler forgets (", line)
        [line] = self.warnings(40, method="OPTIONS")
        self.assertIn(".first (", line)

    def test_middleware_waits(self) -> None:
        """And while the handler behind it is at work, nobody is to blame."""
        waiting: Deferred[None] = Deferred()

        @self.srf.use
        def first(req: Request, res: Response, next: Callable[..., Any]) -> None:
            next()

        @self.srf.invite
        async def works(req: Request, res: Response) -> None:
            await waiting

        self.assertEqual(self.warnings(60), [])

    def test_often(self) -> None:
        """One line a minute for each handler; one delayed call for all of them."""
        self.srf.invite(forgets)
        before = len(self.whole.clock.getDelayedCalls())
        self.whole.pump()
        for number in range(50):
            self.whole.receive(request("INVITE", call=f"x{number}", body=OFFER), 32070)
        names = [str(one) for one in self.whole.clock.getDelayedCalls()]
        self.assertEqual(sum("Unanswered" in one for one in names), 1, (before, names))
        self.assertEqual(len(self.warnings(40)), 1)
        with capturedLogs():
            self.whole.pass_time(60)
        names = [str(one) for one in self.whole.clock.getDelayedCalls()]
        self.assertEqual(sum("Unanswered" in one for one in names), 0)

    def test_in_a_dialog(self) -> None:
        """A handler of a dialog is named too."""

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            dialog: Dialog = await self.srf.create_uas(req, res, local_sdp=OFFER)
            dialog.on_info(forgets)

        self.whole.pump()
        self.whole.receive(request("INVITE", body=OFFER), 32070)
        [answered] = [one for one in self.whole.sent() if getattr(one, "status", 0) == 200]
        tag = (answered.get("To") or "").rpartition("tag=")[2]
        self.whole.receive(request("ACK", to_tag=tag), 32070)
        with capturedLogs() as logs:
            self.whole.receive(request("INFO", number=2, to_tag=tag), 32070)
            self.whole.pass_time(33)
        [event] = [one for one in logs if "nothing was sent" in one["log_format"]]
        self.assertEqual((event["method"], event["call_id"]), ("INFO", "c1"))

    def test_names(self) -> None:
        """A handler is called what its author calls it."""

        class Called:
            def __call__(self, req: Request, res: Response) -> None:
                """Do nothing."""

            def method(self, req: Request, res: Response) -> None:
                """Do nothing."""

        @functools.wraps(forgets)
        def wrapping(req: Request, res: Response) -> None:
            """Do nothing."""

        for handler, name in (
            (forgets, "forgets ("),
            (functools.partial(forgets), "forgets ("),
            (wrapping, "forgets ("),
            (Called(), "Called.__call__ ("),
            (Called().method, "Called.method ("),
            (print, "print"),
        ):
            self.assertIn(name, describe(handler))
