"""What a user agent server repeats by itself, outside of any transaction.

* The 2xx to an INVITE, until its ACK comes (RFC 3261 section 13.3.1.4): T1 later, then twice as
  long each time up to T2.
* A reliable provisional response, until its PRACK comes (RFC 3262 section 3): T1 later, then twice
  as long each time without a limit.

Both give up after 64*T1. Then the owner ends the call: with a BYE, or with a 5xx to the INVITE.
"""

from __future__ import annotations

from drachtwist.transactions.machine import (
    TERMINATED,
    TIMED_OUT,
    Effect,
    Machine,
    Transmit,
)
from drachtwist.transactions.timing import DEFAULT_TIMING, Timing

__all__ = ["AnswerRepeater", "ProvisionalRepeater", "Repeater"]


class Repeater(Machine):
    """Repeats bytes until somebody confirms them.

    :param data: what the transaction has sent already.
    :param now: when it was sent.
    :param repeat: whether to repeat at all, or only to wait for the confirmation.
    """

    __slots__ = ("_data", "_give_up_at", "_interval", "_limit", "_repeat_at")

    def __init__(self, data: bytes, now: float, timing: Timing, repeat: bool, limit: float) -> None:
        super().__init__()
        self._data = data
        self._interval = timing.t1
        self._limit = limit
        self._give_up_at: float = now + timing.lifetime
        self._repeat_at: float | None = now + timing.t1 if repeat else None
        self.deadline = self._give_up_at if self._repeat_at is None else self._repeat_at

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self.deadline is None

    def confirm(self) -> list[Effect]:
        """Stop: the ACK or PRACK came, or nobody waits for it any more."""
        if self.deadline is None:
            return []
        self.deadline = self._repeat_at = None
        return [TERMINATED]

    def stop_repeating(self) -> None:
        """Go on waiting for the confirmation, but repeat nothing more."""
        if self.deadline is not None:
            self._repeat_at = None
            self.deadline = self._give_up_at

    def tick(self, now: float) -> list[Effect]:
        """Note the time."""
        if self.deadline is None or now < self.deadline:
            return []
        if now >= self._give_up_at:
            self.deadline = self._repeat_at = None
            return [TIMED_OUT, TERMINATED]
        self._interval = min(2 * self._interval, self._limit)
        self._repeat_at = now + self._interval
        self.deadline = min(self._repeat_at, self._give_up_at)
        return [Transmit(self._data)]


class AnswerRepeater(Repeater):
    """Repeats a 2xx until :meth:`confirm` tells that its ACK came.

    RFC 3261 wants this over every transport, since a hop behind the first may be UDP. A drachtio
    server repeats over UDP only: ``repeat=False`` for the others.

    :param data: the 2xx, which the transaction has sent already.
    :param now: when it was sent.
    """

    __slots__ = ()

    def __init__(
        self,
        data: bytes,
        now: float,
        *,
        timing: Timing = DEFAULT_TIMING,
        repeat: bool = True,
    ) -> None:
        super().__init__(data, now, timing, repeat, timing.t2)


class ProvisionalRepeater(Repeater):
    """Repeats a reliable provisional response until :meth:`confirm` tells that its PRACK came.

    :param data: the response, which the transaction has sent already.
    :param now: when it was sent.
    :param rseq: its RSeq.
    """

    __slots__ = ("rseq",)

    def __init__(
        self,
        data: bytes,
        now: float,
        rseq: int,
        *,
        timing: Timing = DEFAULT_TIMING,
        repeat: bool = True,
    ) -> None:
        super().__init__(data, now, timing, repeat, timing.lifetime)
        self.rseq = rseq
