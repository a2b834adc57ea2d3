"""Waiting for one of two things."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

__all__ = ["either"]


def either(first: Deferred[Any], second: Deferred[None]) -> Deferred[None]:
    """Wait for one of two; a failure of the first counts as its end.

    :param first: waited for by nobody else.
    :param second: it may be waited for again.
    """
    if second.called:
        first.addErrback(lambda _: None)
        return succeed(None)
    over: Deferred[None] = Deferred()

    def fire(result: Any) -> Any:
        if not over.called:
            over.callback(None)
        return None if isinstance(result, Failure) else result

    first.addBoth(fire)
    second.addBoth(fire)
    return over
