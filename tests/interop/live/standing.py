"""A reactor for servers whose transactions are never late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock

from drachtwist.net.clock import DeadlineClock

__all__ = ["StandingReactor"]


class StandingReactor:
    """The reactor, but for the time of SIP transactions: that stands still until it is moved.

    So nothing is repeated, and nothing times out, because a machine is busy.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.clock = Clock()
        """What tells transactions the time."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def seconds(self) -> float:
        """Give the time, which begins with 0."""
        return self.clock.seconds()

    def callLater(self, delay: float, call: Callable[..., object], *args: Any, **named: Any) -> Any:
        """Call a function later: deadlines of transactions by the clock, anything else really."""
        stands = isinstance(getattr(call, "__self__", None), DeadlineClock)
        clock = self.clock if stands else self._reactor
        return clock.callLater(delay, call, *args, **named)
