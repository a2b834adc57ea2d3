"""Thousands of deadlines, one alarm.

A heap with lazy entries: most machines move their deadline away before it comes, so a machine has
at most one entry, which stays where it is as long as it is not too late, and is looked at again
when it comes up. A machine that is done gives its memory back at once.

Machines that only wait for their end (``lingers``) end together, at whole seconds: half a minute
behind each call something ends, and to be woken for each one by itself costs more than the end.
"""

from __future__ import annotations

import heapq
import math
from typing import Any

from drachtwist.transactions.machine import Machine

__all__ = ["Deadlines"]

# Dead entries are swept out when they outnumber the living, but not for a handful.
_SWEEP_FROM = 512


class Deadlines:
    """Knows which machine has to be told the time, and when."""

    __slots__ = ("_dead", "_heap", "_number")

    def __init__(self) -> None:
        # [when, number, machine or None]; the number keeps machines from being compared.
        self._heap: list[list[Any]] = []
        self._number = 0
        self._dead = 0

    def __len__(self) -> int:
        """Return how many machines are watched."""
        return len(self._heap) - self._dead

    def watch(self, machine: Machine) -> float | None:
        """Note a machine's deadline; to be called whenever it may have changed.

        A machine without a deadline is forgotten.

        :returns: when it is to be told the time; None when nobody has to be woken for that who was
            not before.
        """
        deadline = machine.deadline
        entry = machine._entry
        if deadline is None:
            if entry is not None:
                self.forget(machine)
            return None
        if machine.lingers:
            deadline = float(math.ceil(deadline))
        if entry is not None:
            if entry[0] <= deadline:
                return None
            self.forget(machine)
        self._number += 1
        machine._entry = entry = [deadline, self._number, machine]
        heapq.heappush(self._heap, entry)
        return deadline

    def forget(self, machine: Machine) -> None:
        """Do not watch a machine any more."""
        entry = machine._entry
        if entry is None:
            return
        machine._entry = entry[2] = None
        self._dead += 1
        if self._dead >= _SWEEP_FROM and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2] is not None]
            heapq.heapify(self._heap)
            self._dead = 0

    def next(self) -> float | None:
        """Return when the earliest is due, which is when :meth:`due` wants to be called."""
        heap = self._heap
        while heap:
            entry = heap[0]
            machine = entry[2]
            if machine is None:
                heapq.heappop(heap)
                self._dead -= 1
                continue
            deadline = _due(machine)
            if deadline is None or deadline <= entry[0]:
                break
            # It moved away meanwhile: nobody need be woken for that.
            entry[0] = deadline
            heapq.heapreplace(heap, entry)
        return heap[0][0] if heap else None

    def due(self, now: float) -> list[Machine]:
        """Take out the machines whose deadline has come, the earliest first.

        Whoever ticks them has to :meth:`watch` them again afterwards.
        """
        heap = self._heap
        found: list[Machine] = []
        while heap and heap[0][0] <= now:
            entry = heap[0]
            machine = entry[2]
            if machine is None:
                heapq.heappop(heap)
                self._dead -= 1
                continue
            deadline = _due(machine)
            if deadline is not None and deadline > now:
                # It moved away meanwhile; the entry follows it.
                entry[0] = deadline
                heapq.heapreplace(heap, entry)
                continue
            heapq.heappop(heap)
            machine._entry = None
            if deadline is not None:
                found.append(machine)
        return found


def _due(machine: Machine) -> float | None:
    """Say when a machine is to be told the time."""
    deadline = machine.deadline
    if deadline is not None and machine.lingers:
        return float(math.ceil(deadline))
    return deadline
