"""Results that are handed out to many who never look at them.

Most callers of ``res.send(200)`` drop what it returns. It fires all the same; but a failure that
nobody took must neither be lost nor end as "Unhandled error in Deferred".
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from drachtwist.app.outcomes import Outcome

__all__ = ["Receipt", "Result", "fail_later", "references"]

_T = TypeVar("_T")


class Result(Outcome[_T]):
    """A Deferred that tells a function of its failure if it is thrown away with it."""

    _unheard: Callable[[Exception], object] | None = None
    _error: Exception | None = None

    def fail(self, error: Exception, unheard: Callable[[Exception], object]) -> None:
        """Fire with an error.

        :param unheard: called with it if nobody takes it; it must not know this Deferred.
        """
        self._error, self._unheard = error, unheard
        self.errback(Failure(error))

    def __del__(self) -> None:
        if self._error is not None:
            self.addErrback(self._thrown_away)

    def _thrown_away(self, failure: Failure) -> Failure | None:
        error, unheard = self._error, self._unheard
        if error is None or unheard is None or failure.value is not error:
            return failure  # of what somebody did with it
        unheard(error)
        return None


references: Callable[[object], int] = getattr(sys, "getrefcount", lambda _: sys.maxsize)
"""How many know an object; many, where that is not counted."""


class Receipt(Result[_T]):
    """A Result that is handed out with every response, and nearly always dropped at once.

    Whoever is to fire it can see that nobody would learn of it: nobody listens, and nobody else
    has it (:data:`references`).
    """

    is_heard = False
    """Whether anybody ever listened."""

    def addCallbacks(self, *args: Any, **kwargs: Any) -> Any:
        """Listen."""
        self.is_heard = True
        return super().addCallbacks(*args, **kwargs)

    def addCallback(self, *args: Any, **kwargs: Any) -> Any:
        """Listen."""
        self.is_heard = True
        return super().addCallback(*args, **kwargs)

    def addErrback(self, *args: Any, **kwargs: Any) -> Any:
        """Listen."""
        self.is_heard = True
        return super().addErrback(*args, **kwargs)

    def addBoth(self, *args: Any, **kwargs: Any) -> Any:
        """Listen."""
        self.is_heard = True
        return super().addBoth(*args, **kwargs)


def fail_later(
    clock: IReactorTime,
    deferred: Deferred[Any],
    error: Exception,
    unheard: Callable[[Exception], object] | None = None,
) -> None:
    """Fail a Deferred in a moment, so that its new owner can listen first.

    :param unheard: what to do with the error when nobody takes it; see :meth:`Result.fail`.
    """

    def fail() -> None:
        if deferred.called:
            return  # the connection was lost meanwhile, or the caller has gone
        if unheard is not None and isinstance(deferred, Result):
            deferred.fail(error, unheard)
        else:
            deferred.errback(Failure(error))

    clock.callLater(0, fail)
