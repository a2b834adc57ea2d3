"""Coroutines that await Deferreds and what asyncio has, when Twisted runs on asyncio's loop.

There a coroutine of an application is a task of asyncio, so that ``asyncio.timeout``, task groups
and the libraries that are built on them find what they look for. What it awaits of asyncio's it
awaits like any other task. What it awaits of Twisted's the task knows nothing of: it waits for one
future, and the coroutine is stepped here, as soon as a Deferred fires. So a coroutine begins in the
same breath as the function that runs it, and goes on in the same breath as what it waited for, as
under all reactors: handlers that are added up to the next ``await`` miss nothing.

A coroutine is in one of five states (:class:`_State`). While it waits for a Deferred, cancelling
the task cancels the Deferred.

Plain tasks, those of a web framework say, know nothing of Deferreds. In them an :class:`Awaited`
gives a future for itself; everything that the package hands out is one.

None of this is there under another reactor (:func:`look`), and nothing is paid for it.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio.events import _get_running_loop
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from enum import Enum
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from twisted.internet import defer
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

__all__ = [
    "NEEDS_ASYNCIO",
    "Awaited",
    "Driven",
    "as_future",
    "caught",
    "explain",
    "from_coroutine",
    "is_future",
    "is_in_plain_task",
    "look",
    "name_results",
    "refusal",
    "run_in_task",
    "running",
    "stop_all",
    "switch",
]

_T = TypeVar("_T")

NEEDS_ASYNCIO = (
    "asyncio and what is built on it need Twisted's asyncio reactor:"
    " twistd --reactor=asyncio -n drachtio --app ..."
)
"""What somebody has to know who awaits something of asyncio's under another reactor."""

# What is said where there is no loop: by asyncio, by anyio and sniffio.
_NO_LOOP_TEXTS = (
    "no running event loop",
    "await wasn't used with future",
    "There is no current event",
)
_NO_LOOP_ERRORS = ("AsyncLibraryNotFoundError", "NoEventLoopError")

_LOOP_CALLS = asyncio.Handle._run.__code__
_TWISTED_STEPS = getattr(getattr(defer, "_inlineCallbacks", None), "__code__", None)

is_active = False
"""Whether the reactor is asyncio's."""

_tasks: set[asyncio.Task[None]] = set()
"""Those that run coroutines here: nobody else holds on to them."""


_MISSING = (
    "it is the Deferred of a result that may come later. Is an 'await' missing in front of what"
    " gave it?"
)


class Awaited(Deferred[_T]):
    """A Deferred that tasks of asyncio can await too, under the asyncio reactor.

    Who takes it for its result is told so.
    """

    # Replaced by look().
    _wait = Deferred.__iter__

    if not TYPE_CHECKING:  # type checkers find it out by themselves
        __await__ = Deferred.__iter__

        def __iter__(self) -> NoReturn:
            """Refuse to be unpacked: only waiting gives the result."""
            raise TypeError(f"{type(self).__name__!r} object is not iterable: {_MISSING}")


class _NotYet:
    """Stands where a result has an attribute, and its Deferred none.

    Not ``__getattr__``, with which Python takes longer for every attribute of a Deferred.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        kind, name = type(instance).__name__, self._name
        raise AttributeError(f"{kind!r} object has no attribute {name!r}: {_MISSING}")


def name_results(*kinds: type) -> None:
    """Tell who takes an :class:`Awaited` for one of these that it has to be awaited."""
    names = {name for kind in kinds for name in dir(kind) if not name.startswith("_")}
    for name in names:
        if not hasattr(Awaited, name):
            setattr(Awaited, name, _NotYet(name))


def look() -> None:
    """See whether the reactor is asyncio's."""
    module = sys.modules.get("twisted.internet.asyncioreactor")
    reactor = sys.modules.get("twisted.internet.reactor")
    if is_active or module is None or not isinstance(reactor, module.AsyncioSelectorReactor):
        return
    switch(True)


def switch(active: bool) -> bool:
    """Let coroutines be tasks of the loop that runs, or not.

    :returns: what was before.
    """
    global is_active
    before, is_active = is_active, active
    kind: Any = Awaited
    kind._wait = kind.__await__ = _wait_anywhere if active else Deferred.__iter__
    return before


def running() -> asyncio.AbstractEventLoop | None:
    """Return the loop, if it is running; there are no tasks before and behind that."""
    return _get_running_loop() if is_active else None


def is_in_plain_task() -> bool:
    """Return whether who awaits is a task of asyncio that knows nothing of Deferreds."""
    loop = running()
    task = None if loop is None else asyncio.current_task(loop)
    return task is not None and task not in _tasks and not _is_stepped_by_twisted()


def _is_stepped_by_twisted() -> bool:
    """Return whether Twisted runs the coroutine, which may go on in the step of some task.

    Nobody says so but the stack: that of a step begins where the loop calls.
    """
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code is not _LOOP_CALLS:
        if frame.f_code is _TWISTED_STEPS:
            return True
        frame = frame.f_back
    return False


def _wait_anywhere(self: Awaited[_T]) -> Any:
    """Wait for a Deferred, in whatever coroutine this is."""
    if (self.called and not self.paused) or not is_in_plain_task():
        return Deferred.__iter__(self)
    return as_future(self).__await__()


class _Future(asyncio.Future[_T]):
    """What becomes of a Deferred."""

    _deferred: Deferred[Any] | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the Deferred too."""
        if not super().cancel(msg):
            return False
        deferred, self._deferred = self._deferred, None
        if deferred is not None:
            deferred.cancel()
        return True


def as_future(deferred: Deferred[_T]) -> asyncio.Future[_T]:
    """Make a future of a Deferred, in the loop that runs; cancelling it cancels the Deferred."""
    future: _Future[_T] = _Future(loop=asyncio.get_running_loop())

    def succeeded(result: _T) -> None:
        future._deferred = None
        if not future.done():
            future.set_result(result)

    def failed(failure: Failure) -> None:
        future._deferred = None
        error: Any = failure.value
        if not future.done():
            future.set_exception(error)

    future._deferred = deferred
    deferred.addCallbacks(succeeded, failed)
    return future


def is_future(awaited: object) -> bool:
    """Return whether something that a coroutine waits for is a future of asyncio."""
    return getattr(awaited, "_asyncio_future_blocking", None) is not None


# What a coroutine has come to


class _State(Enum):
    """What a coroutine does."""

    RUNS = "it is being stepped, or will be at the next step of the task"
    WAITS = "it waits for a Deferred, and the task for our future"
    NEXT = "it waits for something of asyncio's that the task does not know yet"
    OVER = "it has returned or failed; the task does not know yet"
    GONE = "the task is over too"


_RUNS, _WAITS, _NEXT, _OVER, _GONE = _State


def from_coroutine(coroutine: Coroutine[Any, Any, _T]) -> Deferred[_T]:
    """Run a coroutine, as ``Deferred.fromCoroutine`` does, or as a task.

    :returns: what it comes to; cancelling it cancels what the coroutine waits for.
    """
    loop = running()
    if loop is None:
        return Deferred.fromCoroutine(coroutine)
    driven: Driven | None = None
    outcome: Awaited[_T] = Awaited(lambda _: None if driven is None else driven.cancel())

    def succeeded(result: _T) -> None:
        if not outcome.called:
            outcome.callback(result)

    def failed(failure: Failure) -> None:
        if not outcome.called:
            outcome.errback(failure)

    driven = run_in_task(coroutine, loop, succeeded, failed)
    return outcome


def run_in_task(
    coroutine: Coroutine[Any, Any, _T],
    loop: asyncio.AbstractEventLoop,
    succeeded: Callable[[_T], object],
    failed: Callable[[Failure], object],
) -> Driven:
    """Run a coroutine, at once and as far as it gets without waiting.

    :param loop: it is running.
    :param succeeded: called with what it returns, perhaps before this function returns.
    :param failed: called with its failure, perhaps before this function returns.
    """
    driven = Driven(coroutine, loop, succeeded, failed)
    driven.begin()
    return driven


class Driven(Coroutine[Any, Any, None]):
    """A coroutine, as its task sees it."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop,
        succeeded: Callable[[Any], object],
        failed: Callable[[Failure], object],
    ) -> None:
        self._coroutine = coroutine
        self._context: Context = copy_context()
        self._loop = loop
        self._succeeded: Callable[[Any], object] = succeeded
        self._failed: Callable[[Failure], object] = failed
        self._state = _RUNS
        self._was_cancelled = False
        # While it waits for a Deferred: that, its number, what the task waits for meanwhile, and
        # what it had to say already.
        self._deferred: Deferred[Any] | None = None
        self._number = 0
        self._future: _Future[None] | None = None
        self._at_once: tuple[Callable[[Any], Any], Any] | None = None
        self._adds = False
        # What the task is to wait for next.
        self._next: Any = None
        # Not by the factory of the loop, which may begin it.
        self.task: asyncio.Task[None] = asyncio.Task(self, loop=loop)
        _tasks.add(self.task)

    def __getattr__(self, name: str) -> Any:
        # Whoever looks at the coroutine of a task looks at ours: cr_running, __name__, ...
        if name.startswith(("cr_", "__")):
            return getattr(self._coroutine, name)
        raise AttributeError(name)

    @property
    def is_over(self) -> bool:
        """Whether it has returned or failed."""
        return self._state is _OVER or self._state is _GONE

    def begin(self) -> None:
        """Run it as far as it gets."""
        self._go_on(self._coroutine.send, None)

    def cancel(self) -> None:
        """Cancel what it waits for; a Deferred says itself how that fails."""
        if self._state is _WAITS and self._deferred is not None:
            self._deferred.cancel()
        elif not self.is_over:
            self.task.cancel()

    def forget(self) -> None:
        """Cancel it, and tell nobody what it comes to."""
        self._succeeded = self._failed = lambda _: None
        self.task.cancel()

    # What the task does with it

    def __await__(self) -> Generator[Any, Any, None]:
        """Complete the interface; nobody awaits it."""
        raise TypeError("it belongs to a task")

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    def send(self, value: object) -> Any:
        """Take a step, and return what to wait for."""
        state = self._state
        if state is _RUNS:
            self._run(self._coroutine.send, None)
            state = self._state
        if state is _WAITS:
            future = self._future = _Future(loop=self._loop)
            future._deferred = self._deferred
            future._asyncio_future_blocking = True
            return future
        if state is _NEXT:
            awaited, self._next = self._next, None
            self._state = _RUNS
            return awaited
        self._state = _GONE
        task = self.task
        del self.task
        _tasks.discard(task)
        if self._was_cancelled:
            raise asyncio.CancelledError
        raise StopIteration

    def throw(self, error: Any, value: Any = None, traceback: Any = None) -> Any:
        """Take a step with a failure of what was waited for, or because it is cancelled."""
        state = self._state
        if state is _NEXT:
            awaited, self._next = self._next, None
            # The task would have cancelled it, had it known.
            if awaited is not None and awaited.cancel(*error.args):
                self._next = awaited
                return self.send(None)
        elif state is _WAITS:
            deferred, self._deferred = self._deferred, None
            self._number += 1
            future, self._future = self._future, None
            if deferred is not None and (future is None or not future.cancelled()):
                deferred.cancel()
        elif state is not _RUNS:
            return self.send(None)
        self._run(self._coroutine.throw, error)
        return self.send(None)

    # Steps

    def _go_on(self, step: Callable[[Any], Any], argument: Any) -> None:
        """Take steps in the name of the task, which waits."""
        loop = self._loop
        task = self.task
        if _get_running_loop() is not loop:  # it is being stopped
            self._run(step, argument)
        else:
            other = asyncio.current_task(loop)
            if other is not None:
                _leave_task(loop, other)
            _enter_task(loop, task)
            try:
                self._run(step, argument)
            finally:
                _leave_task(loop, task)
                if other is not None:
                    _enter_task(loop, other)
                self._tell_task()
            return
        self._tell_task()

    def _tell_task(self) -> None:
        """Let the task wait on, for the Deferred that came next, or no longer."""
        future = self._future
        if future is not None:
            if self._state is _WAITS:
                future._deferred = self._deferred
            else:
                self._future = future._deferred = None
                if not future.done():
                    future.set_result(None)

    def _run(self, step: Callable[[Any], Any], argument: Any) -> None:
        """Take steps until it has to wait, or is over."""
        self._state = _RUNS
        run = self._context.run
        while True:
            try:
                awaited = run(step, argument)
            except StopIteration as stop:
                self._state = _OVER
                self._succeeded(stop.value)
                return
            except BaseException as error:
                self._state = _OVER
                self._was_cancelled = isinstance(error, asyncio.CancelledError)
                self._failed(caught())
                return
            if isinstance(awaited, Deferred):
                self._deferred = awaited
                self._number = number = self._number + 1
                self._state = _WAITS
                self._adds = True
                awaited.addCallbacks(
                    partial(self._fired, number), partial(self._deferred_failed, number)
                )
                self._adds = False
                if self._at_once is None:
                    return
                step, argument = self._at_once
                self._at_once = None
                self._state = _RUNS
            elif awaited is None or is_future(awaited):
                self._next = awaited
                self._state = _NEXT
                return
            else:
                step = self._coroutine.throw
                argument = refusal(awaited)

    def _fired(self, number: int, result: object) -> None:
        self._resume(number, self._coroutine.send, result)

    def _deferred_failed(self, number: int, failure: Failure) -> None:
        self._resume(number, failure.throwExceptionIntoGenerator, self._coroutine)

    def _resume(self, number: int, step: Callable[[Any], Any], argument: Any) -> None:
        """Go on behind a Deferred, unless that was given up."""
        if number != self._number or self._state is not _WAITS:
            return
        future = self._future
        if future is not None and future.cancelled():
            return
        self._deferred = None
        if self._adds:
            self._at_once = (step, argument)
        else:
            self._go_on(step, argument)


def stop_all() -> Deferred[Any]:
    """Cancel all coroutines that still run, but the one that asks for that.

    :returns: fires when they have ended.
    """
    loop = running()
    others = _tasks - {None if loop is None else asyncio.current_task(loop)}
    for task in others:
        driven: Any = task.get_coro()
        driven.forget()
    return DeferredList([Deferred.fromFuture(task) for task in others], consumeErrors=True)


# Everywhere


def caught() -> Failure:
    """Make a failure of the exception being handled, unless it must end the process."""
    failure = Failure()
    if isinstance(failure.value, (KeyboardInterrupt, SystemExit)):
        failure.raiseException()
    explain(failure.value)
    return failure


def explain(error: BaseException | None) -> None:
    """Say in an error which reactor is needed, if it is about asyncio's loop that is not there."""
    text = str(error)
    if (
        error is not None
        and not is_active
        and (
            type(error).__name__ in _NO_LOOP_ERRORS
            or (type(error) is RuntimeError and text.startswith(_NO_LOOP_TEXTS))
        )
    ):
        error.args = (f"{text.rstrip('.')}: {NEEDS_ASYNCIO}",)


def refusal(awaited: object) -> TypeError:
    """Make the error of who awaits what cannot be awaited here."""
    text = f"a coroutine can only await Deferreds, not {awaited!r}"
    if is_active:
        text = f"a coroutine can only await Deferreds and what asyncio has, not {awaited!r}"
        if is_future(awaited):
            text = f"{awaited!r} cannot be awaited here: asyncio's loop does not run"
    elif awaited is None or is_future(awaited):  # None is asyncio.sleep(0)
        text += f": {NEEDS_ASYNCIO}"
    return TypeError(text)
