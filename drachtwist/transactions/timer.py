"""One deadline, among those of the transactions."""

from __future__ import annotations

from typing import Any

from drachtwist.transactions.machine import TIMED_OUT, Effect, Machine

__all__ = ["Timer"]


class Timer(Machine):
    """One deadline of whoever runs the machines.

    :param owner: who is told that it has come.
    :param at: seconds on the clock that all machines share.
    """

    __slots__ = ()

    def __init__(self, owner: Any, at: float) -> None:
        super().__init__()
        self.owner = owner
        self.deadline = at

    def tick(self, now: float) -> list[Effect]:
        """Note the time; once, at the deadline, this returns that it has come."""
        if self.deadline is None or now < self.deadline:
            return []
        self.deadline = None
        return [TIMED_OUT]
