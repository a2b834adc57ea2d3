"""The time of day, for what outlives the process or is shared by several.

An application's own time begins at some moment that nobody else knows; registrations in a database,
and nonces that several processes accept, go by the time of day. Where time is made up, as in tests,
there is no other.
"""

from __future__ import annotations

import time

from twisted.internet.base import ReactorBase
from twisted.internet.interfaces import IReactorTime

from drachtwist.net.steady import SteadyClock

__all__ = ["time_of_day"]


def time_of_day(clock: IReactorTime | None) -> float:
    """Return the seconds since 1970, or what a made-up clock says.

    :param clock: that of the application.
    """
    if clock is None or isinstance(clock, ReactorBase | SteadyClock):
        return time.time()
    return clock.seconds()
