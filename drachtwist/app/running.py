"""Running what applications write: plain functions, functions that return Deferreds, coroutines.

A failure that was dealt with forgets the frames that it came through. Those of callers hold on to
it, so that all of them would wait for the collector otherwise, which takes its time when there are
many calls. What a log says of a failure stays.

A coroutine is stepped here rather than by ``Deferred.fromCoroutine``: most handlers finish without
ever waiting, or wait once, and are then done at the price of a function call. Each coroutine has
its own context, so that a context variable set by the handler of one call is not seen by another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from types import CoroutineType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from drachtwist.errors import (
    CommandRefused,
    ConnectionFailed,
    ConnectionLost,
    RemoteProtocolError,
    SipError,
)

__all__ = ["Outcome", "already_failed", "forget_frames", "settle", "started"]

Done = Callable[["Failure | None"], object]

_T = TypeVar("_T")

# What calls come to, and nobody's slip: where it was raised says nothing.
_OUTCOMES = (CommandRefused, ConnectionFailed, ConnectionLost, RemoteProtocolError, SipError)


def settle(result: Any, done: Done) -> bool:
    """Wait for what a handler returned.

    :param result: a coroutine, Deferred or other awaitable; anything else is over already.
    :param done: called once it is over, with the failure if there was one. It is not called for
        what is over, and well, before this function returns.
    :returns: whether it is over.
    """
    if type(result) is CoroutineType:
        context = copy_context()
        try:
            awaited = context.run(result.send, None)
        except StopIteration:
            return True
        except BaseException:
            _tell(done, _caught())
            return True
        _Stepper(result, context, done).wait(awaited)
        return False
    if isinstance(result, Deferred):
        result.addCallbacks(lambda _: done(None), lambda failure: _tell(done, failure))
        return False
    if isinstance(result, Awaitable):
        return settle(_await(result), done)
    return True


class Outcome(Deferred[_T]):
    """A Deferred that may have failed already when it is awaited.

    Twisted raises such a failure in a frame that knows it, so that the two hold on to each other;
    here it is thrown in, as one that comes later is.
    """

    def __iter__(self) -> Generator[Deferred[_T], None, _T]:
        """Wait for it."""
        if self.called and not self.paused and isinstance(self.result, Failure):
            yield self
        return (yield from super().__iter__())

    __await__ = __iter__


def already_failed(error: Exception) -> Outcome[Any]:
    """Return what has failed already."""
    outcome: Outcome[Any] = Outcome()
    outcome.errback(Failure(error))
    return outcome


def started(coroutine: Coroutine[Any, Any, _T]) -> Deferred[_T]:
    """Run a coroutine, as ``Deferred.fromCoroutine`` does; what a call came to leaves no frames."""
    return Deferred.fromCoroutine(coroutine).addErrback(_without_frames)


def _without_frames(failure: Failure) -> Failure:
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


def _tell(done: Done, failure: Failure) -> None:
    done(failure)
    forget_frames(failure)


async def _await(awaitable: Awaitable[object]) -> object:
    return await awaitable


def _caught() -> Failure:
    """Make a failure of the exception being handled, unless it must end the process."""
    failure = Failure()
    if isinstance(failure.value, (KeyboardInterrupt, SystemExit)):
        failure.raiseException()
    return failure


class _Stepper:
    """Runs one coroutine that had to wait."""

    __slots__ = ("_context", "_coroutine", "_done")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], context: Context, done: Done) -> None:
        self._coroutine = coroutine
        self._context = context
        self._done = done

    def wait(self, awaited: object) -> None:
        if isinstance(awaited, Deferred):
            awaited.addCallbacks(self._resume, self._throw)
        else:
            # An asyncio future, say; Deferred.fromFuture is the way to await that.
            self._throw(Failure(TypeError(f"a handler can only await Deferreds, not {awaited!r}")))

    def _resume(self, value: object) -> None:
        try:
            awaited = self._context.run(self._coroutine.send, value)
        except StopIteration:
            self._done(None)
        except BaseException:
            _tell(self._done, _caught())
        else:
            self.wait(awaited)

    def _throw(self, failure: Failure) -> None:
        try:
            awaited = self._context.run(failure.throwExceptionIntoGenerator, self._coroutine)
        except StopIteration:
            self._done(None)
        except BaseException:
            _tell(self._done, _caught())
        else:
            self.wait(awaited)
