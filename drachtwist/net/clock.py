"""Where machines with deadlines meet the reactor: one armed call, however many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from drachtwist.transactions.deadlines import Deadlines
from drachtwist.transactions.machine import Effect, Machine

__all__ = ["DeadlineClock"]


class DeadlineClock:
    """Tells machines the time when their deadline comes.

    :param clock: the reactor, or a ``Clock``.
    :param perform: what does the effects that a machine returns; a failure of it is logged.
    """

    _log = Logger()

    def __init__(self, clock: Any, perform: Callable[[Machine, list[Effect]], object]) -> None:
        self._clock = clock
        self._perform = perform
        self._deadlines = Deadlines()
        self._call: IDelayedCall | None = None
        self._armed_for = 0.0

    def __len__(self) -> int:
        """How many machines are watched."""
        return len(self._deadlines)

    def seconds(self) -> float:
        """Give the time that machines are to be told."""
        now: float = self._clock.seconds()
        return now

    def watch(self, machine: Machine) -> None:
        """Take note of a machine's deadline; to be called whenever it may have changed."""
        self._deadlines.watch(machine)
        deadline = machine.deadline
        if deadline is not None and (self._call is None or deadline < self._armed_for):
            self._arm(deadline)

    def forget(self, machine: Machine) -> None:
        """Do not watch a machine any more."""
        self._deadlines.forget(machine)

    def stop(self) -> None:
        """Forget all machines."""
        self._deadlines = Deadlines()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _arm(self, when: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._armed_for = when
        self._call = self._clock.callLater(max(0.0, when - self._clock.seconds()), self._fire)

    def _fire(self) -> None:
        self._call = None
        # A reactor may call a little early by its own clock; what is due then is due now.
        now = max(self._clock.seconds(), self._armed_for)
        try:
            for machine in self._deadlines.due(now):
                try:
                    effects = machine.tick(now)
                    self._deadlines.watch(machine)
                    self._perform(machine, effects)
                except Exception:
                    self._log.failure("the deadline of {machine!r} made us fail", machine=machine)
        finally:
            when = self._deadlines.next()
            if when is not None and (self._call is None or when < self._armed_for):
                self._arm(when)
