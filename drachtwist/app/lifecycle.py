"""What an application opens before it serves, and closes when it has stopped.

Database pools, web ports and timers belong to an application: they are there before the first
request comes, and until the last call is over. So what was added here runs before anything is
connected or listened on, and again when everything is closed; if it fails at first, nothing is.

All of it runs in one coroutine, from the start to the end: what is entered in a task of asyncio
must often be left in the same one.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from drachtwist.app.outcomes import started
from drachtwist.errors import StartFailed
from drachtwist.net import tasks
from drachtwist.net.logs import Logger
from drachtwist.net.observers import Observers

__all__ = ["Lifecycle"]

_log = Logger(namespace="drachtwist.app.lifecycle")


class Life(Enum):
    """How far an application is."""

    IDLE = "it has not started, or has stopped"
    STARTING = "what it needs is being opened"
    STARTED = "it may serve"
    STOPPING = "what it needed is being closed"


TRANSITIONS: Mapping[Life, Mapping[Life, str]] = {
    Life.IDLE: {Life.STARTING: "start() is called, or it is to connect or listen"},
    Life.STARTING: {
        Life.STARTED: "everything is open",
        Life.IDLE: "something failed, or stop() is called",
    },
    Life.STARTED: {Life.STOPPING: "stop() is called, and everything is disconnected"},
    Life.STOPPING: {Life.IDLE: "everything is closed"},
}
"""Which state may follow which, and when."""


class Lifecycle:
    """What is opened and closed, and where that stands.

    :param reactor: gives the reactor.
    """

    def __init__(self, reactor: Callable[[], Any]) -> None:
        self._reactor = reactor
        self._enter: list[Callable[[AsyncExitStack], Awaitable[None]]] = []
        self._on_stop: list[Callable[[], Any]] = []
        self._life = Life.IDLE
        self._running: Deferred[None] | None = None
        self._leaving: Deferred[None] | None = None
        self._timer: Any = None
        self._until_started: Observers[None] = Observers()
        self._until_over: Observers[None] = Observers()

    @property
    def is_ready(self) -> bool:
        """Whether the application may serve: it has started, or there is nothing to start."""
        return self._life is Life.STARTED or not (self._enter or self._on_stop)

    def add_start(self, handler: Callable[[], Any]) -> None:
        """Call one more handler when it starts."""

        async def enter(stack: AsyncExitStack) -> None:
            with _named(handler):
                await _result(handler())

        self._enter.append(enter)

    def add_stop(self, handler: Callable[[], Any]) -> None:
        """Call one more handler when it stops."""
        self._on_stop.append(handler)

    def add_lifespan(self, function: Callable[[], Any]) -> None:
        """Enter one more context when it starts, and leave it when it stops."""
        make = asynccontextmanager(function) if inspect.isasyncgenfunction(function) else function

        async def enter(stack: AsyncExitStack) -> None:
            with _named(function):
                manager = make()
                if not hasattr(manager, "__aenter__"):
                    raise TypeError(
                        "a lifespan is an async function with one yield, or a function that"
                        f" returns an async context manager, not {manager!r}"
                    )
                await stack.enter_async_context(manager)

        self._enter.append(enter)

    def start(self) -> Deferred[None]:
        """Open everything.

        :returns: fires when it is open. Fails with :exc:`StartFailed`, and with what was cancelled.
        """
        if self.is_ready:
            return succeed(None)
        tasks.look()
        waiting = self._until_started.wait()
        if self._life is Life.IDLE:
            self._go(Life.STARTING)
            reactor = self._reactor()
            if isinstance(reactor, ReactorBase) and (
                not reactor.running or (tasks.is_active and tasks.running() is None)
            ):
                # The process may be about to go into the background, and asyncio's loop to run.
                self._timer = reactor.callLater(0, self._begin)
            else:
                self._begin()
        return waiting

    def stop(self) -> Deferred[None]:
        """Close everything; what is being opened is cancelled.

        :returns: fires when it is closed; failures are logged.
        """
        if self._life is Life.IDLE:
            return succeed(None)
        waiting = self._until_over.wait()
        if self._life is Life.STARTED:
            assert self._leaving is not None, "it waits for that"
            self._go(Life.STOPPING)
            self._leaving.callback(None)
        elif self._running is not None:
            self._running.cancel()
        elif self._timer is not None:
            self._timer.cancel()
            self._over(Failure(StartFailed("it was stopped before")))
        return waiting

    # Inside

    def _go(self, life: Life) -> None:
        assert life in TRANSITIONS[self._life], f"{life} does not follow {self._life}"
        self._life = life

    def _begin(self) -> None:
        self._timer = None
        self._running = running = started(self._live())
        running.addBoth(self._over)

    async def _live(self) -> None:
        async with AsyncExitStack() as stack:
            for enter in self._enter:
                await enter(stack)
            self._go(Life.STARTED)
            leaving: Deferred[None] = Deferred()
            self._leaving = leaving
            self._until_started.fire(None)
            await leaving
            for handler in self._on_stop:
                try:
                    await _result(handler())
                except Exception:
                    _log.failure("{name} failed", name=_name(handler))

    def _over(self, result: Any) -> None:
        life = self._life
        self._running = self._leaving = None
        self._go(Life.IDLE)
        if isinstance(result, Failure):
            error: Any = result.value
            if life is Life.STARTING:
                self._until_started.fail(lambda: error)
            else:
                _log.failure("the application did not stop in good order", result)
        self._until_over.fire(None)


class _named:
    """Says whose failure it is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = _name(function)

    def __enter__(self) -> None:
        """Begin; nothing has failed so far."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, CancelledError):
            tasks.explain(error)
            raise StartFailed(f"{self._name} failed: {type(error).__name__}: {error}") from error


def _name(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", None) or repr(function)
    return str(name).rpartition("<locals>.")[2]


async def _result(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value
