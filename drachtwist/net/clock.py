"""Where machines with deadlines meet the reactor: one armed call, however many there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from drachtwist.net.logs import Logger
from drachtwist.transactions.deadlines import Deadlines
from drachtwist.transactions.machine import Effect, Machine

__all__ = ["DeadlineClock"]

_LATE = 0.05
"""Seconds behind a deadline from which on the reactor stood still."""


class DeadlineClock:
    """Tells machines the time when their deadline comes.

    A reactor that stood still (the machine was busy, or asleep) calls what is due before it reads
    its sockets, where the answers may have been waiting. So deadlines that come late wait for one
    turn more: nothing is repeated, and nobody given up, that has answered meanwhile.

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
        self._put_off = False

    def __len__(self) -> int:
        """Return how many machines are watched."""
        return len(self._deadlines)

    def seconds(self) -> float:
        """Return the time that machines are to be told."""
        now: float = self._clock.seconds()
        return now

    def watch(self, machine: Machine) -> None:
        """Note a machine's deadline; to be called whenever it may have changed."""
        when = self._deadlines.watch(machine)
        if when is not None and (self._call is None or when < self._armed_for):
            self._arm(when)

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
        if self._clock.seconds() - self._armed_for > _LATE and not self._put_off:
            self._put_off = True
            self._call = self._clock.callLater(0.0, self._fire)
            return
        self._put_off = False
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
