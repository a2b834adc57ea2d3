"""Too much to do, and how long answers take."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from drachtwist import Request, Response
from drachtwist.middleware import ResponseTime, Timing, UnderPressure
from drachtwist.middleware.load import resident_memory
from tests.middleware.requests import MiddlewareTestCase


class UnderPressureTests(MiddlewareTestCase):
    def test_lag(self) -> None:
        """When the reactor is late new requests are refused, until it is not late any more."""
        pressure = UnderPressure(max_lag=0.5, retry_after=7)
        self.use(pressure)
        self.assertEqual(self.ask().status, 200)
        self.clock.advance(3)  # a second was due
        refused = self.ask()
        self.assertEqual((refused.status, refused.get("Retry-After")), (503, "7"))
        self.assertEqual((pressure.reason, pressure.lag), ("lag", 2.0))
        self.clock.advance(1)
        self.assertEqual((self.ask().status, pressure.reason), (200, ""))
        pressure.stop()

    def test_memory(self) -> None:
        """Too much memory is too much; it is looked at once for each interval."""
        sizes = [100, 300, 100]
        pressure = UnderPressure(max_lag=None, max_memory=200, memory=lambda: sizes.pop(0))
        self.use(pressure)
        found = []
        for _ in range(3):
            found.append(self.ask().status)
            found.append(self.ask().status)
            self.clock.advance(1)
        self.assertEqual(found, [200, 200, 503, 503, 200, 200])

    def test_pending(self) -> None:
        """So many requests are worked on at a time, and no more."""
        gates: list[Deferred[None]] = []

        @self.srf.use
        def unused(req: Request, res: Response, next: Any) -> Any:
            return next()

        pressure = UnderPressure(max_lag=None, max_pending=1)
        self.srf.use(pressure)

        @self.srf.message
        async def slow(req: Request, res: Response) -> None:
            gate: Deferred[None] = Deferred()
            gates.append(gate)
            await gate
            res.send(200)

        self.whole.pump()
        self.send("MESSAGE")
        self.assertEqual(self.ask("MESSAGE").status, 503)
        gates[0].callback(None)
        self.assertEqual(self.whole.heads(), ["200 MESSAGE"])
        self.assertEqual(pressure.pending, 0)

    def test_real_memory(self) -> None:
        """The memory of this process is between one megabyte and a terabyte."""
        self.assertTrue(1 << 20 < resident_memory() < 1 << 40)


class ResponseTimeTests(MiddlewareTestCase):
    def test_reported(self) -> None:
        """Each final response is reported, with method, status and seconds, and only those."""
        seen: list[Timing] = []
        self.srf.use(ResponseTime(lambda timing, req: seen.append(timing), header="X-Time"))
        kept: list[Response] = []
        self.srf.invite(lambda req, res: kept.append(res))
        self.use()
        self.send("INVITE")
        kept[0].send(180)
        self.clock.advance(0.25)
        kept[0].send(486)
        answer = self.whole.sent()[-1]
        self.assertEqual(seen, [Timing("INVITE", 486, 0.25)])
        self.assertEqual(answer.get("X-Time"), "250.0")

    def test_cancelled(self) -> None:
        """A caller who gives up counts as 487."""
        seen: list[Timing] = []
        self.srf.use(ResponseTime(lambda timing, req: seen.append(timing)))
        self.srf.invite(lambda req, res: None)
        self.whole.pump()
        self.send("INVITE", call="c")
        self.send("CANCEL", call="c")
        self.assertEqual([(one.method, one.status) for one in seen], [("INVITE", 487)])
