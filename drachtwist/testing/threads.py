"""Threads that are none: what a database pool wants done in one is done at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.enterprise.adbapi import ConnectionPool
from twisted.python.failure import Failure

__all__ = ["ThisThread", "without_threads"]


class ThisThread:
    """Stands in for a :class:`twisted.python.threadpool.ThreadPool`."""

    def start(self) -> None:
        """Do nothing: this thread runs."""

    def stop(self) -> None:
        """Do nothing: this thread goes on."""

    def callInThreadWithCallback(
        self, told: Callable[[bool, Any], object], function: Callable[..., Any], *a: Any, **kw: Any
    ) -> None:
        """Call a function now, and tell what became of it."""
        try:
            result = function(*a, **kw)
        except Exception:
            told(False, Failure())
        else:
            told(True, result)


def without_threads(function: Callable[..., Any]) -> None:
    """Take the threads of a database pool that is about to start.

    :param function: what a reactor is to call when it runs.
    """
    pool = getattr(function, "__self__", None)
    if isinstance(pool, ConnectionPool):
        pool.threadpool = cast(Any, ThisThread())
