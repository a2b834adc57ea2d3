"""Requests that may take several attempts.

A request to a name that got nowhere goes to the next of the places that
:mod:`~drachtwist.sip.locating` finds (RFC 3263 section 4.3, RFC 3261 sections 8.1.3.1 and 16.7), as
a new transaction with a new branch. It got nowhere when it could not be sent, when nobody answered
it in time, or when it was answered 503. After a provisional response above 100 there is no further
attempt: somebody works on the request, and maybe a telephone rings. A request that was cancelled
gets none either; that is a fact besides the state, since it may happen in any (:class:`SentState`).
Who is waiting learns of the last attempt only; if there were several, and none
was answered, of ``503 DNS Error``, as with the real server.

A request that is too long for UDP goes over TCP (see :mod:`~drachtwist.server.ways`). If the
connection cannot be made, or breaks, it goes to the same address over UDP.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Protocol

from drachtwist.errors import LocalProtocolError
from drachtwist.net.clock import DeadlineClock
from drachtwist.net.sip.flows import Flow, Target
from drachtwist.server.compose import new_branch
from drachtwist.server.ports import Carriers
from drachtwist.server.ways import Way, Ways, target_of
from drachtwist.sip.locating import Hop
from drachtwist.sip.message import Response
from drachtwist.transactions.client import InviteClient, NonInviteClient
from drachtwist.transactions.layer import TransactionLayer
from drachtwist.transactions.machine import Effect, Machine, State, Terminated, Transmit
from drachtwist.transactions.matching import ClientKey

__all__ = ["Attempted", "SentState", "Spent"]


class SentState(enum.Enum):
    """Where a request is that this side sends, for itself or as a proxy."""

    FINDING = "the next place is being looked for: nobody has it"
    SENT = "somebody has it, and has said no more than 100"
    PROGRESSING = "there was a response of 101 to 199: it goes to no other place"
    ACCEPTED = "there was a 2xx"
    CONFIRMED = "there was a 2xx, and its ACK is sent"
    OVER = "it is refused, or nobody answers"

    __hash__ = object.__hash__  # there is one of each; Enum's own takes a call


_FINDING = SentState.FINDING
_SENT = SentState.SENT


class Attempting(Protocol):
    """What an attempt needs of the server."""

    @property
    def carriers(self) -> Carriers:
        """What sends."""
        ...

    @property
    def ways(self) -> Ways:
        """What finds where to."""
        ...

    @property
    def transactions(self) -> TransactionLayer[Any, Any]:
        """Where transactions are known."""
        ...

    @property
    def clock(self) -> DeadlineClock:
        """The time."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether the server has stopped."""
        ...


class Transacting:
    """Whatever has a client transaction."""

    __slots__ = ("core", "flow", "key", "machine", "source")

    core: Attempting
    flow: Flow | None
    """Which way it goes."""
    machine: InviteClient | NonInviteClient | None
    key: ClientKey | None
    source: tuple[Flow, int] | None
    """Where the response at hand came from, and how many bytes it had."""

    def awaits(self, response: Response) -> bool:
        """Return whether a response to it goes where this one does: to us, or through us."""
        raise NotImplementedError

    def react(self, machine: Machine, effects: list[Effect]) -> None:
        """Do what a machine wants done."""
        raise NotImplementedError

    def lost(self) -> None:
        """Note that what was sent did not reach its peer."""
        machine = self.machine
        if machine is not None:
            failed = machine.transport_failed(self.core.clock.seconds())
            self.core.transactions.run(machine, failed)


class Attempted(Transacting):
    """A request that is sent to one place after the other, if it has to be."""

    __slots__ = (
        "branch",
        "cancelled",
        "instead",
        "reason",
        "state",
        "way",
    )

    TRANSITIONS: ClassVar[Mapping[SentState, Mapping[SentState, str]]]
    """What leads from a state to another."""

    state: SentState
    branch: str
    """The branch of this attempt."""
    cancelled: bool
    """Whether it is to be cancelled."""
    way: Way | None
    """Where else it may go, if it is for a name and has no final response."""
    instead: Flow | None
    """The UDP flow that it would have taken, if it goes over TCP because it is long."""
    reason: tuple[int, Response | None]
    """What became of the last attempt: the status, and the response if there was one."""

    def __init__(self, core: Attempting) -> None:
        self.core = core
        self.branch = self.next_branch()
        self.flow = None
        self.machine = None
        self.key = None
        self.cancelled = False
        self.state = _FINDING
        self.way = None
        self.instead = None
        self.reason = (503, None)

    def enter(self, state: SentState) -> None:
        """Change the state, to one that may follow."""
        assert state in self.TRANSITIONS[self.state], f"{self.state} does not become {state}"
        self.state = state

    # What is different for each kind

    def next_branch(self) -> str:
        """Make the branch of an attempt."""
        return new_branch()

    def write(self, flow: Flow) -> int:
        """Write the request for a flow; say how many bytes it has."""
        raise NotImplementedError

    def start(self) -> None:
        """Begin the transaction, over :attr:`flow`."""
        raise NotImplementedError

    def failed(self, status: int, response: Response | None, phrase: str | None = None) -> None:
        """Note that there are no further attempts.

        :param status: what became of the last one.
        :param response: the response, if there was one.
        :param phrase: the reason phrase, if not the usual one.
        """
        raise NotImplementedError

    # What is the same

    def go(self, hop: Hop) -> bool:
        """Send it to an address, or to the places that a name leads to.

        :returns: False for an address that no transport leads to; then nothing was done.
        """
        if not hop.numeric:
            self.way = self.core.ways.of(hop)
            self.find()
            return True
        try:
            flow = self.core.carriers.flow_to(target_of(hop))
        except LocalProtocolError:
            return False
        self.set_out(flow, hop)
        return True

    def find(self) -> None:
        """Send it to the next place that its name leads to."""
        way = self.way
        assert way is not None
        way.next(partial(self._found, way))

    def _found(self, way: Way, target: Target | None) -> None:
        """Send it to a place that was found, if it is still to be sent."""
        if self.way is not way or self.core.stopped:
            return
        if target is None or self.cancelled:
            self.way = None
            self._give_up(way.tried)
            return
        try:
            flow = self.core.carriers.flow_to(target)
        except LocalProtocolError:
            way.next(partial(self._found, way))
        else:
            self.set_out(flow, way.hop)

    def _give_up(self, tried: int) -> None:
        status, response = self.reason
        if self.cancelled:
            self.failed(487, None)
        elif tried == 1 or response is not None:
            self.failed(status, response)
        else:
            self.failed(503, None, "DNS Error")

    def set_out(self, flow: Flow, hop: Hop | None) -> None:
        """Send it over a flow, or over TCP if it is too long for that.

        :param hop: what led to the flow; None for no other transport.
        """
        ways = self.core.ways
        size = self.write(flow)
        if size > ways.limit and hop is not None:
            tcp = ways.over_tcp(hop, flow, size)
            if tcp is not None:
                self.instead, flow = flow, tcp
                self.write(flow)
        self.flow = flow
        self.enter(_SENT)
        self.start()

    def unreached(self, status: int, response: Response | None = None) -> None:
        """Note that an attempt came to nothing, and make another one where that may help.

        :param status: 408 when nobody answered in time, 503 when it could not be sent.
        :param response: a 503 that was received.
        """
        self.reason = (status, response)
        instead, self.instead = self.instead, None
        if self.state is _SENT and not self.cancelled:
            if instead is not None and status == 503 and response is None:
                assert self.flow is not None
                self.core.ways.unreachable(self.flow)
                self._leave()
                self.set_out(instead, None)
                return
            if self.way is not None:
                self._leave()
                self.find()
                return
        self.way = None
        self.failed(status, response)

    def _leave(self) -> None:
        """Leave a transaction behind, so that another one can begin."""
        machine, key, flow = self.machine, self.key, self.flow
        assert machine is not None and key is not None and flow is not None
        self.machine = self.key = self.flow = None
        self.enter(_FINDING)
        self.branch = self.next_branch()
        if machine.state is State.COMPLETED:
            Spent(self.core, flow, key, machine)
        else:
            self.core.transactions.clients.pop(key, None)


class Spent(Transacting):
    """Owns a client transaction whose outcome nobody waits for, until it is over.

    Repeats are sent, and repeated failures acknowledged, as usual.
    """

    __slots__ = ()

    def __init__(self, core: Attempting, flow: Flow, key: ClientKey, machine: Any) -> None:
        self.core = core
        self.flow = flow
        self.key = key
        self.machine = machine
        self.source = None
        machine.owner = self
        core.transactions.clients[key] = self

    def awaits(self, response: Response) -> bool:
        """Return False: a response goes nowhere."""
        return True

    def react(self, machine: Machine, effects: list[Effect]) -> None:
        """Do what the machine wants done."""
        for effect in effects:
            if type(effect) is Transmit:
                assert self.flow is not None
                self.core.carriers.send(self.flow, effect.data)
            elif type(effect) is Terminated:
                if self.key is not None:
                    self.core.transactions.clients.pop(self.key, None)
                machine.owner = None  # nothing may be left to the collector
