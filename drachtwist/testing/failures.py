"""Failures that were logged while a network was there: a test that has some does not pass."""

from __future__ import annotations

from typing import Any

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from drachtwist.testing.history import History

__all__ = ["LoggedFailures"]


@implementer(ILogObserver)
class LoggedFailures:
    """Collects what is logged as a failure, and puts remarks into the history.

    :param history: gets a remark for each warning and failure.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self.failures: list[Failure] = []

    def begin(self) -> None:
        """Listen to the log."""
        globalLogPublisher.addObserver(self)

    def end(self) -> None:
        """Listen no more."""
        globalLogPublisher.removeObserver(self)

    def __call__(self, event: LogEvent) -> None:
        """Take note of an event."""
        failure = event.get("log_failure")
        if failure is None and event.get("isError"):
            failure = event.get("failure")
        if isinstance(failure, Failure):
            self.failures.append(failure)
            text = f"{failure.type.__name__ if failure.type else 'Error'}: {failure.value}"
            self._history.remark(("", 0), text)
        elif event.get("log_level") in (LogLevel.warn, LogLevel.error, LogLevel.critical):
            self._history.remark(("", 0), formatEvent(event))

    def flush(self, *kinds: Any) -> list[Failure]:
        """Take the failures of some kinds, or all of them."""
        found = [one for one in self.failures if not kinds or one.check(*kinds)]
        self.failures[:] = [one for one in self.failures if one not in found]
        return found

    def text(self) -> str:
        """Describe the failures that are left."""
        return "\n".join(one.getTraceback() for one in self.failures)
