"""Handlers that ended without an answer, and nobody else gave one: the commonest mistake.

A handler may end long before the answer is sent, by what it has left behind. So it is named only
when nothing at all was sent for as long as the caller's transaction lasts. One delayed call looks
after all of them, and comes rarely.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from drachtwist.app.request import Request
from drachtwist.net.alerts import Alerts
from drachtwist.net.logs import Logger
from drachtwist.tracing.trace import Trace

__all__ = ["SECONDS", "Unanswered", "describe"]

_log = Logger(namespace="drachtwist.app.unanswered")

SECONDS = 32.0
"""How long nothing was sent when a handler is named: 64 times T1, as transactions last."""

_EVERY = 8.0
"""Seconds between two looks, at least."""
_MOST = 2048
"""Requests that are looked after; of more, those that wait longest are not named."""


class Unanswered:
    """The requests whose handlers have ended, while nothing was sent.

    :param clock: gives what deadlines hang on, when it is needed first.
    :param trace: gives what knows the ladders of calls, if there is one.
    """

    def __init__(
        self, clock: Callable[[], IReactorTime], trace: Callable[[], Trace | None]
    ) -> None:
        self._clock = clock
        self._trace = trace
        # In the order of their deadlines.
        self._waiting: dict[int, tuple[float, Request, Callable[..., Any]]] = {}
        self._alerts: Alerts | None = None
        self._call: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, req: Request, handler: Callable[..., Any]) -> None:
        """Look after a request from now on, until it has its final response."""
        clock, waiting = self._clock(), self._waiting
        while len(waiting) >= _MOST:
            self._let_go(next(iter(waiting.values()))[1])
        req._extended().watch = self
        waiting[id(req)] = (clock.seconds() + SECONDS, req, handler)
        if self._call is None:
            self._call = clock.callLater(SECONDS, self._look)

    def forget(self, req: Request) -> None:
        """Look after a request no longer: it is over."""
        self._let_go(req)
        call = self._call
        if not self._waiting and call is not None:
            self._call = None
            call.cancel()

    def _let_go(self, req: Request) -> None:
        self._waiting.pop(id(req), None)
        req._extended().watch = None

    def _look(self) -> None:
        clock = self._clock()
        now, waiting = clock.seconds(), self._waiting
        self._call = None
        late = []
        for until, req, handler in waiting.values():
            if until > now:
                self._call = clock.callLater(max(until - now, _EVERY), self._look)
                break
            late.append((req, handler))
        for req, handler in late:
            self._let_go(req)
            if not req.res.status:
                self._name(req, handler)

    def _name(self, req: Request, handler: Callable[..., Any]) -> None:
        if self._alerts is None:
            self._alerts = Alerts(_log, self._clock().seconds)
        name, call_id = describe(handler), req.get("Call-ID") or ""
        self._alerts.note(
            name,
            "the handler {handler} of {method} has ended, and nothing was sent for {seconds:g} s:"
            " the caller still waits, Call-ID {call_id}",
            handler=name,
            method=req.method,
            seconds=SECONDS,
            call_id=call_id,
        )
        trace = self._trace()
        if trace is not None:
            trace.call_failed(call_id, f"{name} has sent nothing")


def describe(handler: Callable[..., Any]) -> str:
    """Name a handler, and where it is: ``answer (/srv/app.py:12)``."""
    found: Any = handler
    while isinstance(found, partial):
        found = found.func
    found = inspect.unwrap(found)
    if not hasattr(found, "__code__") and not hasattr(found, "__qualname__"):
        found = type(found).__call__  # an object that can be called
    name = getattr(found, "__qualname__", None) or repr(found)
    code = getattr(found, "__code__", None)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})" if code is not None else str(name)
