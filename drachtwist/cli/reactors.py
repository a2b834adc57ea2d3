"""Work that needs a reactor, and how Ctrl-C ends it: once in good order, twice at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogLevel, formatEvent, globalLogBeginner
from twisted.python.failure import Failure
from zope.interface import provider

from drachtwist.cli.outcomes import CommandError, Exit
from drachtwist.cli.picture import Screen
from drachtwist.net.observers import Observers
from drachtwist.net.steady import steady
from drachtwist.net.waiting import either

__all__ = ["Leave", "pause", "run_on_reactor"]

_T = TypeVar("_T")


class Leave:
    """Whether Ctrl-C was pressed, or SIGTERM came."""

    def __init__(self) -> None:
        self.asked = False
        """Whether it was."""
        self._until_asked: Observers[None] = Observers()

    def when_asked(self) -> Deferred[None]:
        """Wait for it."""
        waiting: Deferred[None] = Deferred()
        if self.asked:
            waiting.callback(None)
            return waiting
        return self._until_asked.wait()

    def ask(self) -> None:
        """Ask whoever works to come to an end."""
        if not self.asked:
            self.asked = True
            self._until_asked.fire(None)


def run_on_reactor(work: Callable[[Any, Leave], Coroutine[Any, Any, _T]]) -> _T:
    """Run the reactor until some work is done.

    The first Ctrl-C is told to the work, which ends when it likes; the second one ends it.

    :param work: called with the reactor, and with what tells of Ctrl-C.
    :returns: what it returned.
    :raises CommandError: when it was ended before it was done.
    """
    from twisted.internet import reactor as found

    reactor: Any = found
    leave = Leave()
    results: list[_T | Failure] = []

    def done(result: _T | Failure) -> None:
        results.append(result)
        if reactor.running:
            reactor.stop()

    def interrupted() -> None:
        if leave.asked and reactor.running:
            reactor.stop()
        leave.ask()

    def handle(number: int, frame: FrameType | None) -> None:
        reactor.callFromThread(interrupted)

    def start() -> None:
        # The reactor installs its own handlers when it starts.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, handle)
        Deferred.fromCoroutine(work(reactor, leave)).addBoth(done)

    globalLogBeginner.beginLoggingTo([_warn], redirectStandardIO=False, discardBuffer=True)
    reactor.callWhenRunning(start)
    reactor.run()
    if not results:
        raise CommandError("interrupted", Exit.INTERRUPTED)
    [result] = results
    if isinstance(result, Failure):
        result.raiseException()
        raise AssertionError("it raises")
    return result


async def pause(reactor: Any, seconds: float, until: Deferred[None]) -> None:
    """Wait for a while, or until something has happened.

    :param until: it may be waited for again.
    """
    if until.called:
        return
    waiting: Deferred[None] = Deferred()
    timer = steady(reactor).callLater(seconds, waiting.callback, None)
    await either(waiting, until)
    if timer.active():
        timer.cancel()


@provider(ILogObserver)
def _warn(event: Any) -> None:
    """Show what the log warns of; everything else of it is not for those who type commands."""
    if event.get("log_level", LogLevel.info) < LogLevel.warn:
        return
    text = formatEvent(event)
    failure = event.get("log_failure")
    if failure is not None:
        text += f"\n{failure.getTraceback()}"
    Screen().warn(text)
