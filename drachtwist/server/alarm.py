"""A deadline of the server's own, among those of the transactions."""

from __future__ import annotations

from typing import Any

from drachtwist.transactions.machine import TIMED_OUT, Effect, Machine

__all__ = ["Alarm"]


class Alarm(Machine):
    """A deadline of the server's own.

    :param owner: its ``react`` is called.
    """

    __slots__ = ()

    def __init__(self, owner: Any, at: float) -> None:
        super().__init__()
        self.owner = owner
        self.deadline = at

    def tick(self, now: float) -> list[Effect]:
        """Take note of the time."""
        if self.deadline is None or now < self.deadline:
            return []
        self.deadline = None
        return [TIMED_OUT]
