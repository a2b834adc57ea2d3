"""Which requests of dialogs may pass through here: those of calls that the server has proxied.

A call, or a subscription, is known from when it is proxied with Record-Route, and as long as it is
being set up or goes on:

* of one that nobody accepts nothing is left when its transaction is gone;
* one that somebody accepts is over with the BYE, a subscription with the NOTIFY that says so; if
  several accepted it, with that of the last one. It is known for another 64*T1, for what is
  repeated. A BYE that is challenged (401, 407) does not count;
* one in which nothing passes for 128*T1 after it was accepted, not even an ACK, is over too;
* one in which nothing passes for a day is forgotten, since its end may never be seen.

There are only so many, and none is forgotten for a new one.
"""

from __future__ import annotations

from collections import OrderedDict

from drachtwist.errors import MessageError
from drachtwist.net.clock import DeadlineClock
from drachtwist.net.sip.flows import Flow
from drachtwist.sip.message import Request, Response
from drachtwist.transactions.machine import Effect, Machine
from drachtwist.transactions.timing import Timing

__all__ = ["KnownCall", "KnownCalls"]

IDLE = 86400.0
"""Seconds without any request after which a call is forgotten."""

# Further ones that accept a call are not known.
_MAX_FORKS = 32
_MAKING_DIALOGS = ("INVITE", "SUBSCRIBE")


class KnownCall(Machine):
    """A call that is known; it has a deadline from when it is accepted."""

    __slots__ = ("accepted", "id", "is_over", "method", "pending", "places", "seen", "used")

    accepted: tuple[str, ...]
    """The To tags of those who accepted it and have not ended it."""
    id: str
    """Its Call-ID."""
    is_over: bool
    """Whether it has ended, and is known for what is repeated only."""
    method: str
    """What made it: ``INVITE`` or ``SUBSCRIBE``."""
    pending: int
    """How many requests that make it are being proxied."""
    places: dict[str, Flow] | None
    """The WebSockets of those in it that have one, by user, host and port of their Contact."""
    seen: tuple[str, ...]
    """The To tags of all who accepted it."""
    used: float | None
    """When a request in its dialog passed last; None for not since it was accepted."""

    def __init__(self, calls: KnownCalls, call_id: str, method: str) -> None:
        super().__init__()
        self.owner = calls
        self.lingers = True  # its deadlines are minutes, and days
        self.id = call_id
        self.is_over = False
        self.method = method
        self.accepted = self.seen = ()
        self.pending = 0
        self.places = None
        self.used = None

    def tick(self, now: float) -> list[Effect]:
        """Forget it, unless it is in use."""
        if self.is_over or self.used is None or now >= self.used + IDLE:
            self.owner.forget(self)
        else:
            self.deadline = self.used + IDLE
        return []


class KnownCalls:
    """The calls that are known.

    :param clock: what runs their deadlines.
    :param most: how many are known at most.
    """

    __slots__ = ("_calls", "_clock", "_most", "_timing")

    def __init__(self, clock: DeadlineClock, timing: Timing, most: int) -> None:
        self._clock = clock
        self._timing = timing
        self._most = most
        # The one that was used least lately first.
        self._calls: OrderedDict[str, KnownCall] = OrderedDict()

    def __len__(self) -> int:
        return len(self._calls)

    def find(self, call_id: str) -> KnownCall | None:
        """Find a call by its Call-ID."""
        return self._calls.get(call_id)

    def clear(self) -> None:
        """Forget all."""
        self._calls.clear()

    def forget(self, call: KnownCall) -> None:
        """Forget a call."""
        if self._calls.get(call.id) is call:
            del self._calls[call.id]
        call.deadline = None
        self._clock.forget(call)

    # How a call is set up

    def begun(self, request: Request) -> KnownCall | None:
        """Take note of a request that is proxied; None if it makes no dialog."""
        if request.method not in _MAKING_DIALOGS:
            return None
        call_id = request.call_id
        call = self._calls.get(call_id)
        if call is None:
            call = KnownCall(self, call_id, request.method)
        elif call.is_over:
            call.is_over = False
            call.accepted = ()
        call.pending += 1
        self._keep(call)
        return call

    def took(self, call: KnownCall, response: Response) -> None:
        """Take note of a 2xx that a target of the call sent."""
        try:
            tag = response.to.tag or ""
        except MessageError:
            return
        if tag not in call.seen and len(call.seen) < _MAX_FORKS:
            if not call.accepted:
                call.used = None
            call.seen = (*call.seen, tag)
            call.accepted = (*call.accepted, tag)
            self._keep(call)
            call.is_over = False
            self._set(call, 2 * self._timing.lifetime)

    def settled(self, call: KnownCall) -> None:
        """Take note that the transaction of a request is gone that :meth:`begun` was told of."""
        call.pending -= 1
        if not call.pending and not call.accepted and not call.is_over:
            self.forget(call)

    def is_full(self, request: Request) -> bool:
        """Return whether there is no room for the call of a request that is to be proxied.

        What is known is never forgotten for it: a flood of new calls would take away the BYEs of
        those that are up.
        """
        return (
            len(self._calls) >= self._most
            and request.method in _MAKING_DIALOGS
            and request.call_id not in self._calls
        )

    def _keep(self, call: KnownCall) -> None:
        """Keep a call, behind those that were used before it."""
        self._calls[call.id] = call
        self._calls.move_to_end(call.id)

    def _set(self, call: KnownCall, after: float) -> None:
        call.deadline = self._clock.seconds() + after
        self._clock.watch(call)

    # How it ends

    def passed(self, call: KnownCall, request: Request) -> None:
        """Take note of a request in the dialog of a call."""
        call.used = self._clock.seconds()
        self._calls.move_to_end(call.id)
        if self._ends(call, request) and call.accepted and not self._others(call, request):
            self._over(call)

    def _ends(self, call: KnownCall, request: Request) -> bool:
        if call.method == "INVITE":
            return request.method == "BYE"
        return request.method == "NOTIFY" and request.subscription_is_over

    def _others(self, call: KnownCall, message: Request | Response) -> tuple[str, ...]:
        """Return who accepted a call, but for the one in whose dialog a message is."""
        ends = (message.from_.tag or "", message.to.tag or "")
        return tuple(one for one in call.accepted if one not in ends)

    def answered(self, call: KnownCall, response: Response) -> None:
        """Take note of a response to a request in the dialog of a call.

        :raises MessageError: when a header that counts is missing or bad.
        """
        status = response.status
        if status < 200 or call.method != "INVITE" or response.cseq.method != "BYE":
            return
        if status in (401, 407):
            if call.is_over:
                call.is_over = False
                self._set(call, IDLE)
        elif call.is_over:
            call.accepted = ()
        else:
            call.accepted = self._others(call, response)
            if not call.accepted:
                self._over(call)

    def _over(self, call: KnownCall) -> None:
        call.is_over = True
        self._set(call, self._timing.lifetime)
