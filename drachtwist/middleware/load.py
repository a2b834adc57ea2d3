"""How busy the application is, and how long its answers take."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from drachtwist.app.interfaces import Next
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.middleware.outside import may_refuse

__all__ = ["ResponseTime", "Timing", "UnderPressure"]


def resident_memory() -> int:
    """Return the bytes of memory that the process has now; its peak where that is not known."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # pragma: no cover - not Linux
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class UnderPressure:
    """Refuses new requests, with 503 and Retry-After, while there is too much to do.

    :param max_lag: seconds that the reactor may be late; None for any. It is measured while
        requests come.
    :param max_memory: bytes of resident memory; None for any.
    :param max_pending: requests whose handlers are not done; None for any.
    :param retry_after: seconds after which to ask again.
    :param interval: seconds between two measurements.
    :param memory: gives the bytes of memory in use.
    """

    def __init__(
        self,
        *,
        max_lag: float | None = 0.5,
        max_memory: int | None = None,
        max_pending: int | None = None,
        retry_after: int = 5,
        interval: float = 1.0,
        memory: Callable[[], int] = resident_memory,
    ) -> None:
        self._max_lag = max_lag
        self._max_memory = max_memory
        self._max_pending = max_pending
        self._retry_after = retry_after
        self._interval = interval
        self._memory = memory
        self._probe: IDelayedCall | None = None
        self._due = 0.0
        self._measured: float | None = None
        self.lag = 0.0
        """Seconds that the reactor was late when it was measured last."""
        self.memory = 0
        """Bytes of memory when it was measured last."""
        self.pending = 0
        """Requests whose handlers are not done."""

    @property
    def reason(self) -> str:
        """What there is too much of: ``lag``, ``memory`` or ``pending``; empty when all is well."""
        if self._max_lag is not None and self.lag > self._max_lag:
            return "lag"
        if self._max_memory is not None and self.memory > self._max_memory:
            return "memory"
        if self._max_pending is not None and self.pending >= self._max_pending:
            return "pending"
        return ""

    def stop(self) -> None:
        """Measure no more."""
        if self._probe is not None and self._probe.active():
            self._probe.cancel()
        self._probe = None

    def __call__(self, req: Request, res: Response, next: Next) -> Any:
        """Refuse a request, or count it."""
        self._measure(req.srf.clock)
        if self.reason and may_refuse(req):
            res.send(503, headers={"Retry-After": str(self._retry_after)})
            return None
        self.pending += 1
        done: Deferred[None] = next()
        return done.addBoth(self._done)

    def _done(self, result: Any) -> Any:
        self.pending -= 1
        return result

    def _measure(self, clock: IReactorTime) -> None:
        now = clock.seconds()
        if self._measured is None or now - self._measured >= self._interval:
            self._measured = now
            if self._max_memory is not None:
                self.memory = self._memory()
        if self._probe is None and self._max_lag is not None:
            self._due = now + self._interval
            self._probe = clock.callLater(self._interval, self._arrived, clock)

    def _arrived(self, clock: IReactorTime) -> None:
        self._probe = None
        self.lag = max(clock.seconds() - self._due, 0.0)
        if self.reason == "lag":
            self._measure(clock)  # requests are refused: nobody else looks whether it is over


@dataclass(frozen=True, slots=True)
class Timing:
    """How long an answer took."""

    method: str
    status: int
    """The final status; 487 when the caller gave up."""
    seconds: float
    """From the request to the final response."""


class ResponseTime:
    """Tells how long each final response took.

    :param report: called with a :class:`Timing` and the request.
    :param header: the name of a header to put the milliseconds into; none if empty.
    """

    def __init__(
        self, report: Callable[[Timing, Request], Any] | None = None, *, header: str = ""
    ) -> None:
        self._report = report
        self._header = header

    def __call__(self, req: Request, res: Response, next: Next) -> Any:
        """Wait for the final response."""
        if req.method in ("ACK", "CANCEL"):
            return next()
        clock = req.srf.clock
        begun = clock.seconds()

        def tell(status: int) -> None:
            if self._report is not None:
                timing = Timing(req.method, status, clock.seconds() - begun)
                req._call(self._report, timing, req)

        def sending(response: Response, status: int) -> None:
            if status >= 200:
                if self._header:
                    response.set(self._header, f"{(clock.seconds() - begun) * 1000:.1f}")
                tell(status)

        res.on_send(sending)
        if req.method == "INVITE":
            req.on_cancel(lambda cancel: tell(487))
        return next()
