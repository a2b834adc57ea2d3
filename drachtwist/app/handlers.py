"""Running what applications write: plain functions, functions that return Deferreds, coroutines.

A coroutine is stepped here rather than by ``Deferred.fromCoroutine``: most handlers finish without
ever waiting, or wait once, and are then done at the price of a function call. Each coroutine has
its own context, so that a context variable set by the handler of one call is not seen by another.
Under the asyncio reactor it is a task (:mod:`drachtwist.net.tasks`).
"""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context, copy_context
from types import CoroutineType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app.outcomes import forget_frames
from drachtwist.errors import ConnectionLost
from drachtwist.net import tasks
from drachtwist.net.logs import Logger

__all__ = ["AnyHandler", "call_logged", "run_handler", "settle"]

_log = Logger()

AnyHandler = TypeVar("AnyHandler", bound=Callable[..., Any])
"""A handler that is returned as it was given, for decorators."""

Done = Callable[["Failure | None"], object]


def settle(result: Any, done: Done) -> bool:
    """Wait for what a handler returned.

    :param result: a coroutine, Deferred or other awaitable; anything else is over already.
    :param done: called once it is over, with the failure if there was one. It is not called for
        what is over, and well, before this function returns.
    :returns: whether it is over.
    """
    if type(result) is CoroutineType:
        if tasks.is_active:
            loop = tasks.running()
            if loop is not None:
                return _settle_in_task(result, loop, done)
        context = copy_context()
        try:
            awaited = context.run(result.send, None)
        except StopIteration:
            return True
        except BaseException:
            _tell(done, tasks.caught())
            return True
        _Stepper(result, context, done).wait(awaited)
        return False
    if isinstance(result, Deferred):
        result.addCallbacks(lambda _: done(None), lambda failure: _tell(done, failure))
        return False
    if isinstance(result, Awaitable):
        return settle(_await(result), done)
    return True


def _settle_in_task(
    coroutine: Coroutine[Any, Any, Any], loop: AbstractEventLoop, done: Done
) -> bool:
    """Run a coroutine as a task of asyncio."""
    waits = False

    def succeeded(_: object) -> None:
        if waits:
            done(None)

    driven = tasks.run_in_task(coroutine, loop, succeeded, lambda failure: _tell(done, failure))
    waits = not driven.is_over
    return not waits


def call_logged(what: str, handler: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Run a handler whose failure can only be logged.

    :param what: what the handler is for, as the log names it.
    """

    def done(failure: Failure | None) -> None:
        if failure is not None:
            _log.failure("a handler of the {what} failed", failure, what=what)

    try:
        result = handler(*args, **kwargs)
    except Exception:
        _tell(done, Failure())
    else:
        if result is not None:
            settle(result, done)


def _tell(done: Done, failure: Failure) -> None:
    """Tell of a failure, which is dealt with then."""
    done(failure)
    forget_frames(failure)


async def _await(awaitable: Awaitable[object]) -> object:
    return await awaitable


def run_handler(request: sip.Request, handler: Callable[..., Any], *args: Any) -> None:
    """Run a handler of a request whose failure can only be logged."""

    def done(failure: Failure | None) -> None:
        if failure is None:
            return
        if failure.check(ConnectionLost) is not None:
            _log.info(
                "a handler of {method} was cut short: {error}, Call-ID {call_id}",
                method=request.method,
                error=failure.value,
                call_id=request.get("Call-ID"),
            )
            return
        _log.failure(
            "a handler of {method} failed, Call-ID {call_id}",
            failure,
            method=request.method,
            call_id=request.get("Call-ID"),
        )

    try:
        result = handler(*args)
    except Exception:
        _tell(done, Failure())
    else:
        if result is not None:
            settle(result, done)


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
            self._throw(Failure(tasks.refusal(awaited)))

    def _resume(self, value: object) -> None:
        try:
            awaited = self._context.run(self._coroutine.send, value)
        except StopIteration:
            self._done(None)
        except BaseException:
            _tell(self._done, tasks.caught())
        else:
            self.wait(awaited)

    def _throw(self, failure: Failure) -> None:
        try:
            awaited = self._context.run(failure.throwExceptionIntoGenerator, self._coroutine)
        except StopIteration:
            self._done(None)
        except BaseException:
            _tell(self._done, tasks.caught())
        else:
            self.wait(awaited)
