"""A target that a request is forwarded to, one place of it after the other.

What a target answers, and how long it takes, is told to the response context
(:mod:`~drachtwist.server.proxy.response_context`), which decides what comes of it.
"""

from __future__ import annotations

from typing import Protocol

from drachtwist.net.sip.flows import Flow
from drachtwist.server.attempts import Attempted
from drachtwist.server.checks import has_more_hops
from drachtwist.server.compose import new_branch
from drachtwist.server.incoming import Incoming
from drachtwist.server.proxy.forwarding import Forwarding
from drachtwist.server.roles import Core
from drachtwist.sip.message import Request, Response
from drachtwist.sip.status import reason_value
from drachtwist.transactions.machine import (
    Deliver,
    Effect,
    Machine,
    RingTimedOut,
    SendCancel,
    State,
    Terminated,
    TimedOut,
    Transmit,
    TransportFailed,
)
from drachtwist.transactions.timer import Timer

__all__ = ["Branch"]

_UNDER_WAY = (State.CALLING, State.TRYING, State.PROCEEDING)


class Searching(Protocol):
    """Whom a target belongs to: the response context."""

    @property
    def core(self) -> Core:
        """What sends."""

    @property
    def incoming(self) -> Incoming:
        """The request that is forwarded."""

    @property
    def mark(self) -> str:
        """What its branches end with."""

    @property
    def forwarding(self) -> Forwarding:
        """What writes the request as it is forwarded."""

    def start(self, branch: Branch) -> None:
        """Begin the transaction of an attempt."""

    def responded(self, branch: Branch, response: Response) -> None:
        """Take in a response."""

    def refused(self, branch: Branch, response: Response) -> None:
        """Take in a refusal, behind which there are no further attempts."""

    def ended(self, branch: Branch, status: int, raw: bytes | None = None) -> None:
        """Take note that a target is out."""

    def late(self, branch: Branch) -> None:
        """Take note that a target let its time pass."""

    def cancel(self, branch: Branch, reasons: list[str]) -> None:
        """Cancel what was sent to a target."""

    def send_cancel(self, branch: Branch) -> None:
        """Send the CANCEL for a target."""

    def let_go(self) -> None:
        """Let go of the targets when nothing can happen to them any more."""


class Branch(Attempted):
    """A target that the request was sent to."""

    __slots__ = (
        "alarm",
        "breadth",
        "call",
        "final",
        "limit",
        "method",
        "reasons",
        "request",
        "ringing",
        "source",
        "started",
        "uri",
    )

    def __init__(self, call: Searching, uri: str, breadth: int | None) -> None:
        self.call = call
        super().__init__(call.core)
        self.uri = uri
        self.breadth = breadth
        """Its part of the Max-Breadth, None if there is none."""
        self.method = call.incoming.method
        self.request: Request | None = None
        self.source: tuple[Flow, int] | None = None
        self.final: int = 0
        """The status that it ended with; 0 while it did not."""
        self.ringing = False
        """Whether there was any response."""
        self.started = False
        """Whether there was any attempt."""
        self.alarm: Timer | None = None
        self.limit: Timer | None = None
        self.reasons: list[str] = []
        """Why it was cancelled."""

    @property
    def is_busy(self) -> bool:
        """Whether it counts against Max-Breadth."""
        return not self.final or (self.machine is not None and self.machine.state in _UNDER_WAY)

    @property
    def is_over(self) -> bool:
        """Whether nothing can happen to it any more."""
        return self.final != 0 and (self.machine is None or self.machine.state is State.TERMINATED)

    def next_branch(self) -> str:
        """Make a branch that tells the request when it comes back."""
        return f"{new_branch()}.{self.call.mark}"

    def write(self, flow: Flow) -> int:
        """Write the request for a flow."""
        self.request = self.call.forwarding.write(self, flow)
        return len(self.request.raw)

    def start(self) -> None:
        """Begin the transaction."""
        self.call.start(self)

    def failed(self, status: int, response: Response | None, phrase: str | None = None) -> None:
        """Take in what became of it."""
        if response is not None:
            self.call.refused(self, response)
        else:
            self.call.ended(self, status)

    def awaits(self, response: Response) -> bool:
        """Whether a response goes on from here (RFC 3261 section 16.7, step 3)."""
        return has_more_hops(response)

    def react(self, machine: Machine, effects: list[Effect]) -> None:
        """Do what a machine wants done."""
        call = self.call
        if machine is self.alarm:
            self.alarm = None
            call.late(self)
            return
        if machine is self.limit:
            self.limit = None
            call.late(self)
            return
        for effect in effects:
            kind = type(effect)
            if kind is Transmit:
                assert self.flow is not None
                if not call.core.carriers.send(self.flow, effect.data):  # type: ignore[union-attr]
                    call.core.uac.lost(self)
                    return
            elif kind is Deliver:
                call.responded(self, effect.message)  # type: ignore[union-attr, arg-type]
            elif kind is SendCancel:
                call.send_cancel(self)
            elif kind is RingTimedOut:
                call.cancel(self, [reason_value(408)])
            elif kind is TimedOut:
                call.core.timed_out(self.flow)
                self.unreached(408)
            elif kind is TransportFailed:
                self.unreached(503)
            elif kind is Terminated and machine is self.machine:
                call.core.uac.transactions.pop(self.key, None)  # type: ignore[arg-type]
                machine.owner = None
                call.let_go()
