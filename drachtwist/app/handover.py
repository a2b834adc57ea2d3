"""Handing out both dialogs of a call, so that nothing is missed of what came meanwhile.

While a call with two sides is made, the side that is up first may already ask for something. What
it asks waits (:meth:`Dialog.hold_requests`) until the application has both dialogs, and whatever it
does with them at once is done: handlers that are added up to its first ``await`` see everything.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from drachtwist.app.outcomes import Outcome, started

__all__ = ["hand_out"]


class Holding(Protocol):
    """A dialog whose requests wait."""

    def release_requests(self) -> None:
        """Let them in."""


Both = TypeVar("Both", bound=Iterable[Holding])


def hand_out(making: Coroutine[Any, Any, Both]) -> Deferred[Both]:
    """Hand out what is being made, and then let requests in.

    :param making: makes both dialogs, whose requests wait.
    """
    made: Deferred[Both] = started(making)
    handed: Deferred[Both] = Outcome(lambda _: made.cancel())

    def done(both: Both) -> None:
        handed.callback(both)
        for dialog in both:
            dialog.release_requests()

    def failed(failure: Failure) -> None:
        if not handed.called:
            handed.errback(failure)

    made.addCallbacks(done, failed)
    return handed
