"""What all machines of this package share: a state, a deadline, and effects that they return.

A machine owns no socket and no clock. It is told what happened and what time it is, and returns
what should be done, in order. It says in ``deadline`` when it wants to be told the time again;
:class:`~drachtwist.transactions.deadlines.Deadlines` watches many of them.

Bytes to send are made once: a repeat is the same object again.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Union

from drachtwist.sip.message import Request, Response
from drachtwist.transactions.timing import Timing

__all__ = [
    "RING_TIMED_OUT",
    "SEND_CANCEL",
    "TERMINATED",
    "TIMED_OUT",
    "TRANSPORT_FAILED",
    "Deliver",
    "Effect",
    "Machine",
    "RingTimedOut",
    "SendCancel",
    "State",
    "Terminated",
    "TimedOut",
    "Transaction",
    "Transmit",
    "TransportFailed",
]


class State(enum.Enum):
    """Where a transaction is (RFC 3261 section 17, RFC 6026 section 8)."""

    CALLING = "calling"
    """INVITE client: no response yet."""
    TRYING = "trying"
    """Other than INVITE: no response yet."""
    PROCEEDING = "proceeding"
    """Provisional responses at most; an INVITE server starts here."""
    COMPLETED = "completed"
    """A final response (for an INVITE: 300 to 699), whose repeats are dealt with."""
    CONFIRMED = "confirmed"
    """INVITE server: the ACK came, its repeats are absorbed."""
    ACCEPTED = "accepted"
    """INVITE: a 2xx, of which there may be more (RFC 6026)."""
    TERMINATED = "terminated"
    """Over; the machine may be forgotten."""

    __hash__ = object.__hash__  # there is one of each; Enum's own takes a call


# Asked for with every message; up to Python 3.11 a look into an Enum takes a call.
_TERMINATED = State.TERMINATED


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send these bytes to the other end of the transaction."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand this message to whoever owns the transaction."""

    message: Request | Response


@dataclass(frozen=True, slots=True)
class TimedOut:
    """What was waited for did not come: a response, or the ACK or PRACK to one of ours."""


@dataclass(frozen=True, slots=True)
class RingTimedOut:
    """A called party rings for too long (Timer C); the INVITE should be cancelled."""


@dataclass(frozen=True, slots=True)
class SendCancel:
    """Now is the time to send the CANCEL for this INVITE, in a transaction of its own."""


@dataclass(frozen=True, slots=True)
class TransportFailed:
    """What was sent did not reach the other end."""


@dataclass(frozen=True, slots=True)
class Terminated:
    """The machine is done; always the last effect, and given once."""


Effect = Union[  # noqa: UP007 - evaluated on Python 3.10
    Transmit, Deliver, TimedOut, RingTimedOut, SendCancel, TransportFailed, Terminated
]
"""What a machine wants done."""

# They carry nothing, so one of each is enough.
TIMED_OUT = TimedOut()
RING_TIMED_OUT = RingTimedOut()
SEND_CANCEL = SendCancel()
TRANSPORT_FAILED = TransportFailed()
TERMINATED = Terminated()


class Machine:
    """Something with a deadline.

    Whoever runs machines may subclass this for timers of its own.
    """

    __slots__ = ("_entry", "deadline", "lingers", "owner")

    deadline: float | None
    """When :meth:`tick` wants to be called, None for never."""
    lingers: bool
    """Whether it only waits for its end, so that nobody sees it come up to a second late."""
    owner: Any
    """Free for whoever runs the machine; not touched here."""
    # Where Deadlines has it.
    _entry: list[Any] | None

    def __init__(self) -> None:
        self.deadline = None
        self.lingers = False
        self.owner = None
        self._entry = None

    def tick(self, now: float) -> list[Effect]:
        """Note the time; a call before the deadline does nothing.

        :param now: seconds on the clock that all calls share.
        """
        raise NotImplementedError


class Transaction(Machine):
    """What the four transactions of RFC 3261 section 17 share.

    Each says in :attr:`TRANSITIONS` which state may follow which, and why; a change that is not
    among them is a mistake of this package. ``docs/architecture.md`` shows them.
    """

    __slots__ = ("_give_up_at", "_interval", "_repeat_at", "reliable", "state", "timing")

    TRANSITIONS: ClassVar[Mapping[State, Mapping[State, str]]]
    """What leads from a state to another."""
    state: State
    """Where the transaction is."""
    # When everything ends; when the next repeat is due, and the interval before it.
    _give_up_at: float | None
    _repeat_at: float | None
    _interval: float

    def __init__(self, state: State, timing: Timing, reliable: bool) -> None:
        super().__init__()
        self.state = state
        self.timing = timing
        self.reliable = reliable
        self._give_up_at = self._repeat_at = None
        self._interval = 0.0

    def _wait(self, repeat_at: float | None, give_up_at: float | None) -> None:
        self._repeat_at = repeat_at
        self._give_up_at = give_up_at
        if repeat_at is None or (give_up_at is not None and give_up_at <= repeat_at):
            self.deadline = give_up_at
        else:
            self.deadline = repeat_at

    def _become(self, state: State) -> None:
        """Change the state, to itself or to one that may follow."""
        assert state is self.state or state in self.TRANSITIONS[self.state], (self.state, state)
        self.state = state

    def _terminate(self) -> None:
        self._become(_TERMINATED)
        self._repeat_at = self._give_up_at = self.deadline = None

    def _linger(self, state: State, until: float | None) -> list[Effect]:
        """Stay in a state that only absorbs repeats; not at all where there can be none."""
        if until is None:
            self._terminate()
            return [TERMINATED]
        self._become(state)
        self.lingers = True
        self._wait(None, until)
        return []

    def abandon(self) -> list[Effect]:
        """End at once, without a word to the other side."""
        if self.state is _TERMINATED:
            return []
        self._terminate()
        return [TERMINATED]
