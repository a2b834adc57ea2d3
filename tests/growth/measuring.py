"""How the time that a reader takes grows with what it reads.

Time is that of the processor in this process alone, the least of several runs, without the garbage
collector: other programs on the machine change little of it. A time below :data:`HARMLESS` is never
judged, whatever it grows by, and what looks bad is measured again before it is called so.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from tests.growth.readers import Reader

__all__ = ["COUNTED", "HARMLESS", "MOST", "SMALL", "Shape", "growth", "quiet", "seconds"]

SMALL = 4096
"""Octets of the shorter of the two texts that are compared."""

MOST = 1.3
"""The exponent of growth that is still taken as proportional: 1 but for the noise."""

HARMLESS = 0.01
"""Seconds that the longer text may take in any case."""

_ROUNDS = 20
"""How often what looks bad is measured before it is called so."""
_RUNS = 5


COUNTED = "{n}"
"""Stands for a number that is another one each time, in what is repeated."""


class Shape(NamedTuple):
    """Text with a part that can be repeated as often as wanted."""

    prefix: str
    repeated: str
    suffix: str

    def of(self, size: int) -> str:
        """Write it with about so many characters."""
        count = max((size - len(self.prefix) - len(self.suffix)) // len(self.repeated), 1)
        if COUNTED not in self.repeated:
            return f"{self.prefix}{self.repeated * count}{self.suffix}"
        middle = "".join([self.repeated.replace(COUNTED, str(at)) for at in range(count)])
        return f"{self.prefix}{middle[:size]}{self.suffix}"

    def __str__(self) -> str:
        return f"{self.prefix!r} + n * {self.repeated!r} + {self.suffix!r}"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the garbage collector out of what is measured."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def seconds(read: Callable[[Any], object], text: Any) -> float:
    """Give the processor's time for one run."""
    begin = time.process_time()
    read(text)
    return time.process_time() - begin


def growth(reader: Reader, shape: Shape) -> tuple[float, float]:
    """Give the exponent with which the time grows, and the time for the longest text."""
    read, largest = reader.run, reader.largest
    steps = math.log(largest / SMALL)
    long, short = reader.write(shape.of(largest)), reader.write(shape.of(SMALL))
    low = high = float("inf")
    size = SMALL
    while size < largest:  # step by step, so that a bad one is not waited for
        spent = seconds(read, reader.write(shape.of(size)))
        low = min(low, spent) if size == SMALL else low
        if spent > 0.5 and spent > low * (size / SMALL) ** 1.5:
            return math.log(spent / low, size / SMALL), spent
        size *= 4
    exponent = float("inf")
    for _ in range(_ROUNDS):
        # Both of a round at the same time: whatever else runs on the machine slows down both.
        low = min(seconds(read, short) for _ in range(_RUNS))
        high = min(high, seconds(read, long))
        exponent = min(exponent, math.log(high / low) / steps) if high > HARMLESS else 0.0
        if exponent < MOST:
            break
    return exponent, high
