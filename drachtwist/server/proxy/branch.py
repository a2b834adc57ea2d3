"""A target that a request is forwarded to: one place of it after the other, until it has answered.

What a target answers, and that it let its time pass, is told to the response context
(:mod:`~drachtwist.server.proxy.response_context`), which decides what comes of it. A target has two
terms: one for any response at all, and one for the final one. Either is for all of its places.

It is cancelled as soon as it has responded with anything (RFC 3261 section 9.1). One that was, or
that has had its time, may accept all the same. That it was cancelled is a fact besides its state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from drachtwist.net.sip.flows import Flow
from drachtwist.server.attempts import Attempted, SentState, Spent
from drachtwist.server.checks import has_more_hops
from drachtwist.server.compose import new_branch
from drachtwist.server.incoming import Incoming
from drachtwist.server.proxy.forwarding import Forwarding
from drachtwist.server.roles import Core
from drachtwist.sip.derived import cancel_for
from drachtwist.sip.fields import Address
from drachtwist.sip.message import Request, Response
from drachtwist.sip.status import reason_value
from drachtwist.transactions.client import InviteClient, NonInviteClient
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
from drachtwist.transactions.matching import ClientKey
from drachtwist.transactions.timer import Timer

__all__ = ["PENDING", "Branch"]

PENDING = (SentState.FINDING, SentState.SENT, SentState.PROGRESSING)
"""The states of a target that the search waits for."""
_UNDER_WAY = (State.CALLING, State.TRYING, State.PROCEEDING)


class Searching(Protocol):
    """Whom a target belongs to: the response context."""

    @property
    def core(self) -> Core:
        """What sends."""
        ...

    @property
    def incoming(self) -> Incoming:
        """The request that is forwarded."""
        ...

    @property
    def mark(self) -> str:
        """What its branches end with."""
        ...

    @property
    def forwarding(self) -> Forwarding:
        """What writes the request as it is forwarded."""
        ...

    @property
    def provisional_timeout(self) -> float | None:
        """Seconds within which a target has to respond at all."""
        ...

    @property
    def final_timeout(self) -> float | None:
        """Seconds within which a target has to respond finally."""
        ...

    def responded(self, branch: Branch, response: Response, /) -> None:
        """Take in a response."""

    def refused(self, branch: Branch, response: Response) -> None:
        """Take in a refusal, behind which there are no further attempts."""

    def ended(self, branch: Branch, status: int, raw: bytes | None = None) -> None:
        """Take note that a target is out."""

    def late(self, branch: Branch) -> None:
        """Take note that a target let its time pass."""

    def let_go(self) -> None:
        """Let go of the targets when nothing can happen to them any more."""


class Branch(Attempted):
    """A target that the request was sent to."""

    TRANSITIONS = {
        SentState.FINDING: {
            SentState.SENT: "there is a place to send it to",
            SentState.OVER: "there is none, or the search ends first",
        },
        SentState.SENT: {
            SentState.FINDING: "silence, 503, or it could not be sent: the next place",
            SentState.PROGRESSING: "101-199",
            SentState.ACCEPTED: "2xx",
            SentState.OVER: "300-699, it cannot be reached, or has had its time",
        },
        SentState.PROGRESSING: {
            SentState.ACCEPTED: "2xx",
            SentState.OVER: "300-699, or it has had its time",
        },
        SentState.OVER: {SentState.ACCEPTED: "2xx of one that has had its time"},
        SentState.ACCEPTED: {},
    }

    __slots__ = (
        "alarm",
        "breadth",
        "call",
        "limit",
        "method",
        "path",
        "reasons",
        "request",
        "started",
        "uri",
    )

    core: Core

    def __init__(
        self,
        call: Searching,
        uri: str,
        path: Sequence[Address] | None,
        breadth: int | None,
    ) -> None:
        self.call = call
        super().__init__(call.core)
        self.uri = uri
        self.path = path
        """The Path that leads to it (RFC 3327), None if there is none."""
        self.breadth = breadth
        """Its part of the Max-Breadth, None if there is none."""
        self.method = call.incoming.method
        self.request: Request | None = None
        self.source: tuple[Flow, int] | None = None
        self.started = False
        """Whether there was any attempt."""
        self.alarm: Timer | None = None
        """When there has to be any response."""
        self.limit: Timer | None = None
        """When there has to be a final one."""
        self.reasons: list[str] = []
        """Why it was cancelled."""

    @property
    def is_pending(self) -> bool:
        """Whether the search waits for it."""
        return self.state in PENDING

    @property
    def is_busy(self) -> bool:
        """Whether it counts against Max-Breadth."""
        return self.is_pending or (self.machine is not None and self.machine.state in _UNDER_WAY)

    @property
    def is_over(self) -> bool:
        """Whether nothing can happen to it any more."""
        return not self.is_pending and (
            self.machine is None or self.machine.state is State.TERMINATED
        )

    def next_branch(self) -> str:
        """Make a branch that tells the request when it comes back."""
        return f"{new_branch()}.{self.call.mark}"

    def write(self, flow: Flow) -> int:
        """Write the request for a flow."""
        self.request = self.call.forwarding.write(self, flow)
        return len(self.request.raw)

    def start(self) -> None:
        """Begin the transaction of an attempt."""
        call = self.call
        core = call.core
        flow, request = self.flow, self.request
        assert flow is not None and request is not None
        core.amplification.suspect(flow, call.incoming.flow)
        kind: Any = InviteClient if self.method == "INVITE" else NonInviteClient
        self.machine = machine = kind(request, reliable=flow.reliable, timing=core.proxying.timing)
        machine.owner = self
        self.key = ClientKey(f"{self.branch} {self.method}")
        core.transactions.clients[self.key] = self
        now = core.clock.seconds()
        if not self.started:
            self.started = True
            if self.method == "INVITE":
                core.record("attempt", "application", request.raw)
                if call.provisional_timeout is not None:
                    self.alarm = self._alarm(now + call.provisional_timeout)
            if call.final_timeout is not None:
                self.limit = self._alarm(now + call.final_timeout)
        core.transactions.run(machine, machine.start(now))

    def _alarm(self, at: float) -> Timer:
        alarm = Timer(self, at)
        self.core.clock.watch(alarm)
        return alarm

    def responded(self) -> None:
        """Take note of any response."""
        if self.alarm is not None:
            self.core.clock.forget(self.alarm)
            self.alarm = None

    def end(self, state: SentState) -> None:
        """Let it be over for the search: it is accepted or refused, or has had its time."""
        if self.state is not state:
            self.enter(state)
        self.responded()
        if self.limit is not None:
            self.core.clock.forget(self.limit)
            self.limit = None

    def cancel(self, reasons: list[str]) -> None:
        """Cancel what was sent, as soon as there is any response to it.

        :param reasons: what the target is told (RFC 3326).
        """
        if self.cancelled:
            return
        self.cancelled = True
        self.reasons = reasons
        machine = self.machine
        if isinstance(machine, InviteClient):
            core = self.core
            core.transactions.run(machine, machine.cancel(core.clock.seconds()))
        elif machine is None:
            self.way = None
            self.enter(SentState.OVER)

    def _send_cancel(self) -> None:
        core = self.core
        assert self.request is not None and self.flow is not None
        cancel = cancel_for(self.request)
        if self.reasons:
            cancel.set("Reason", self.reasons)
            cancel = Request.from_bytes(bytes(cancel))
        machine = NonInviteClient(cancel, reliable=self.flow.reliable, timing=core.timing)
        Spent(core, self.flow, ClientKey(f"{self.branch} CANCEL"), machine)
        core.transactions.run(machine, machine.start(core.clock.seconds()))

    def failed(self, status: int, response: Response | None, phrase: str | None = None) -> None:
        """Take in what became of it."""
        if response is not None:
            self.call.refused(self, response)
        else:
            self.call.ended(self, status)

    def awaits(self, response: Response) -> bool:
        """Return whether a response goes on from here (RFC 3261 section 16.7, step 3)."""
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
                    self.lost()
                    return
            elif kind is Deliver:
                call.responded(self, effect.message)  # type: ignore[union-attr, arg-type]
            elif kind is SendCancel:
                self._send_cancel()
            elif kind is RingTimedOut:
                self.cancel([reason_value(408)])
            elif kind is TimedOut:
                call.core.timed_out(self.flow)
                self.unreached(408)
            elif kind is TransportFailed:
                self.unreached(503)
            elif kind is Terminated and machine is self.machine:
                call.core.transactions.clients.pop(self.key, None)  # type: ignore[arg-type]
                machine.owner = None
                call.let_go()
