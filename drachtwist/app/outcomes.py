"""What calls come to, without anything that holds on to itself in a circle.

An exception knows the frames that it came through, and one of these often knows the exception: the
frame of whoever raises or throws it, or a caller of that. All of them would wait for the collector
then, which takes its time when there are many calls. So a failure that was dealt with forgets its
frames; what a log says of it stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from drachtwist.errors import (
    CommandRefused,
    ConnectionFailed,
    ConnectionLost,
    RemoteProtocolError,
    SipError,
)
from drachtwist.net import tasks
from drachtwist.net.tasks import Awaited

__all__ = ["Outcome", "already_failed", "deferred_of", "forget_frames", "started"]

_T = TypeVar("_T")

# They are nobody's slip: where they were raised says nothing.
_OUTCOMES = (CommandRefused, ConnectionFailed, ConnectionLost, RemoteProtocolError, SipError)


class Outcome(Awaited[_T]):
    """A Deferred that may have failed already when it is awaited.

    Twisted raises such a failure in a frame that knows it; here it is thrown in, as one that comes
    later is.
    """

    def __await__(self) -> Generator[Deferred[_T], None, _T]:
        """Wait for it."""
        if (
            self.called
            and not self.paused
            and isinstance(self.result, Failure)
            and not (tasks.is_active and tasks.is_in_plain_task())
        ):
            return self._thrown_in()
        return self._wait()

    def _thrown_in(self) -> Generator[Deferred[_T], None, _T]:
        yield self
        return (yield from Deferred.__iter__(self))


def already_failed(error: Exception) -> Outcome[Any]:
    """Return what has failed already."""
    outcome: Outcome[Any] = Outcome()
    outcome.errback(Failure(error))
    return outcome


def started(awaitable: Awaitable[_T]) -> Deferred[_T]:
    """Run a coroutine as ``Deferred.fromCoroutine`` does; what a call came to keeps no frames.

    :param awaitable: a coroutine, or anything else that can be awaited.
    """
    coroutine = awaitable if isinstance(awaitable, Coroutine) else _await(awaitable)
    running = Deferred.fromCoroutine if not tasks.is_active else tasks.from_coroutine
    return running(coroutine).addErrback(_without_frames)


def deferred_of(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Call a function that may be a coroutine function, or return a Deferred, or fail.

    :returns: what it comes to.
    """
    tasks.look()
    try:
        result = function(*args)
    except Exception:
        return fail(tasks.caught())
    if isinstance(result, Deferred):
        return result
    return started(result) if isinstance(result, Awaitable) else succeed(result)


async def _await(awaitable: Awaitable[_T]) -> _T:
    return await awaitable


def _without_frames(failure: Failure) -> Failure:
    tasks.explain(failure.value)
    if isinstance(failure.value, _OUTCOMES):
        forget_frames(failure)
    return failure


def forget_frames(failure: Failure) -> None:
    """Let a failure that was dealt with forget the frames that it came through.

    It can still be logged: it keeps the names and lines.
    """
    failure.cleanFailure()
    seen: set[int] = set()
    errors: list[BaseException | None] = [failure.value]
    while errors:
        error = errors.pop()
        if error is not None and id(error) not in seen:
            seen.add(id(error))
            error.__traceback__ = None
            errors += (error.__context__, error.__cause__)
