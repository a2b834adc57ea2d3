"""The server as a proxy: an application hands a request back, and the server forwards it.

A stateful proxy as in RFC 3261 section 16, told what to do as drachtio's ``proxy`` command tells
it, and telling the application what it saw: each final response of a target, then ``done``. It
keeps to the RFC where the real server does not: every target is tried, failures are repeated until
they are acknowledged, a 6xx ends the search, the final timeout counts, and there always is a
``done``.

A request that goes in a circle ends when it has no hops left (483), as with the real server. One
that is about to be sent to more than one target may multiply on its way round, so there the proxy
looks for itself among the Vias, and answers 482 (RFC 5393). It counts as the same request only with
the same Request-URI and Routes: to come back for somebody else is no circle.

A request may say how many branches it may have at a time, here and further on (Max-Breadth, RFC
5393). Each target gets its part of that; those for whom none is left wait until others have ended.

Requests in the dialogs of such calls, if the proxy asked to stay in them (Record-Route), are
forwarded without any state. Only calls that were proxied here are: this is no open relay. Which
these are is in :mod:`~drachtwist.server.passing`.
"""

from __future__ import annotations

import enum
import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import WEBSOCKETS, Flow
from drachtwist.net.sip.via import response_hop
from drachtwist.server.attempts import Attempted, Spent
from drachtwist.server.checks import breadth_of, has_hops_left, has_more_hops, unknown_extensions
from drachtwist.server.compose import encode, new_branch, new_tag, read_draft, via_of, with_host
from drachtwist.server.dialogs import contact_of, uri_of
from drachtwist.server.incoming import Forwarder, Incoming
from drachtwist.server.neighbours import is_adjacent, is_behind_nat, routes_left
from drachtwist.server.orphans import RETRY_AFTER
from drachtwist.server.passing import KnownCall, KnownCalls
from drachtwist.server.registered import has_no_address, place_of
from drachtwist.server.roles import Core
from drachtwist.sip import grammar
from drachtwist.sip.derived import cancel_for
from drachtwist.sip.encoding import joined, request_line, status_line
from drachtwist.sip.fields import Address, parse_integer
from drachtwist.sip.locating import hop_of
from drachtwist.sip.message import Request, Response
from drachtwist.sip.registry import is_legible
from drachtwist.sip.replies import rank, via_lines
from drachtwist.sip.status import reason_phrase
from drachtwist.sip.targets import by_preference, request_uri_of
from drachtwist.sip.uri import SipUri, Uri
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
from drachtwist.wire.commands import Proxy, TransactionId
from drachtwist.wire.decisions import ProxyTo
from drachtwist.wire.reports import DONE, passed_on

if TYPE_CHECKING:
    from drachtwist.server.clients import AppLink

__all__ = ["Proxied", "Proxying"]

_TIME = re.compile(r"([0-9]+)(ms|s)")
_STATELESS = "z9hG4bKst"
_REPLACED = frozenset(
    """
    subject expires user-agent content-type session-expires min-se organization referred-by
    """.split()
)
_CHALLENGING = (401, 407)
_ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'
_UNDER_WAY = (State.CALLING, State.TRYING, State.PROCEEDING)
_TAKING_2XX = (State.PROCEEDING, State.ACCEPTED)
# Targets beyond these are ignored, as are those of endless redirects.
_MAX_TARGETS = 32


class ContextState(enum.Enum):
    """Where a request is that is being forwarded (RFC 3261 section 16, "response context")."""

    SEARCHING = "targets are asked, and none has accepted"
    GIVEN_UP = "the caller left; what was asked is being cancelled"
    ANSWERED = "the caller has a final response, or the first 2xx; another 2xx still goes to him"
    ENDED = "the caller left, and nobody is asked any more"

    __hash__ = object.__hash__  # there is one of each; Enum's own takes a call


TRANSITIONS: Mapping[ContextState, Mapping[ContextState, str]] = {
    ContextState.SEARCHING: {
        ContextState.ANSWERED: "a 2xx; or nobody is left, and the best refusal goes to the caller",
        ContextState.GIVEN_UP: "CANCEL, or BYE before an answer",
    },
    ContextState.GIVEN_UP: {
        ContextState.ANSWERED: "a 2xx crosses the CANCEL",
        ContextState.ENDED: "nobody is asked any more",
    },
    ContextState.ANSWERED: {},
    ContextState.ENDED: {},
}
"""What leads from a state to another."""

_SEARCHING = ContextState.SEARCHING
_GIVEN_UP = ContextState.GIVEN_UP


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

    def __init__(self, call: Proxied, uri: str, breadth: int | None) -> None:
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
        self.request = self.call.forwarded(self, flow)
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
                call.responded(self, effect.message)  # type: ignore[union-attr]
            elif kind is SendCancel:
                call.send_cancel(self)
            elif kind is RingTimedOut:
                call.cancel(self, [_because(408)])
            elif kind is TimedOut:
                call.core.timed_out(self.flow)
                self.unreached(408)
            elif kind is TransportFailed:
                self.unreached(503)
            elif kind is Terminated and machine is self.machine:
                call.core.uac.transactions.pop(self.key, None)  # type: ignore[arg-type]
                machine.owner = None
                call.let_go()


class Proxied:
    """A request that is being proxied."""

    def __init__(
        self, core: Core, incoming: Incoming, link: AppLink, message_id: str, command: Proxy
    ) -> None:
        self.core = core
        self.incoming = incoming
        self.mark = core.proxying.mark(incoming.request)
        """What the branches of all its targets end with."""
        self.known: KnownCall | None = None
        """The call that it makes, if the proxy stays in it."""
        self._link = link
        self._message_id = message_id
        self._command = command
        self._targets: list[str] = [request_uri_of(one) for one in command.destinations]
        self._routes = routes_left(incoming.request, core.is_own)
        self._tried = 0
        self.breadth = breadth_of(incoming.request)
        """How many branches there may be at a time; None for no limit."""
        self._too_narrow = False
        self.branches: list[Branch] = []
        self._best: list[tuple[int, bytes | None]] = []
        self.state = ContextState.SEARCHING
        """Where the search is."""
        self._done = False
        self._provisional = _seconds(command.provisional_timeout)
        self._final = _seconds(command.final_timeout)

    def _become(self, state: ContextState) -> None:
        """Change the state, to one that may follow."""
        assert state in TRANSITIONS[self.state], f"{self.state} does not become {state}"
        self.state = state

    # Targets

    def begin(self) -> bool:
        """Try the first target, or all of them; say whether anything is under way."""
        if self._command.simultaneous:
            while self._next():
                pass
        else:
            self._next()
        return bool(self._pending())

    def _pending(self) -> list[Branch]:
        return [one for one in self.branches if not one.final]

    def _next(self) -> bool:
        """Try the next target; say whether there was one that can be reached."""
        while self._targets and self._tried < _MAX_TARGETS:
            breadth = None if self.breadth is None else self._part(self.breadth)
            self._too_narrow = breadth == 0
            if self._too_narrow:
                return False
            self._tried += 1
            if self._send(self._targets.pop(0), breadth):
                return True
        return False

    def _part(self, breadth: int) -> int:
        """Return the next target's part of the Max-Breadth; 0 while others have all of it."""
        free = breadth - sum(one.breadth or 0 for one in self.branches if one.is_busy)
        return max(free // len(self._targets), min(free, 1))

    def _send(self, destination: str, breadth: int | None) -> bool:
        core = self.core
        known = None
        proxy = core.config.outbound_proxy
        if proxy is None and self._routes:
            proxy = self._routes[0].uri
        if proxy is None:
            known = core.registered.find(destination)
        if known is not None and (core.carriers.is_open(known) or has_no_address(destination)):
            branch = Branch(self, destination, breadth)
            self.branches.append(branch)
            if core.carriers.is_open(known):
                branch.set_out(known, None)
                return True
            self.ended(branch, 410)
            return True
        try:
            uri = Uri.parse(destination if proxy is None else proxy)
        except MessageError:
            return False
        if not isinstance(uri, SipUri):
            return False
        hop = hop_of(uri, core.default_protocol())
        if not core.offers(hop.protocol):
            return False
        branch = Branch(self, destination, breadth)
        self.branches.append(branch)
        if not branch.go(hop):
            self.branches.remove(branch)
            return False
        return True

    def start(self, branch: Branch) -> None:
        """Begin the transaction of an attempt."""
        core = self.core
        flow, request = branch.flow, branch.request
        assert flow is not None and request is not None
        core.amplification.suspect(flow, self.incoming.flow)
        kind: Any = InviteClient if branch.method == "INVITE" else NonInviteClient
        timing = core.proxying.timing
        branch.machine = machine = kind(request, reliable=flow.reliable, timing=timing)
        machine.owner = branch
        branch.key = ClientKey(f"{branch.branch} {branch.method}")
        core.uac.transactions[branch.key] = branch
        now = core.clock.seconds()
        if not branch.started:
            branch.started = True
            if branch.method == "INVITE":
                core.record("attempt", "application", request.raw)
                if self._provisional is not None:
                    branch.alarm = self._set(branch, now + self._provisional)
            if self._final is not None:
                branch.limit = self._set(branch, now + self._final)
        self._run(branch, machine.start(now))

    def _set(self, branch: Branch, at: float) -> Timer:
        alarm = Timer(branch, at)
        self.core.watch(alarm)
        return alarm

    def _run(self, branch: Branch, effects: list[Effect]) -> None:
        assert branch.machine is not None
        if effects:
            branch.react(branch.machine, effects)
        self.core.watch(branch.machine)

    def forwarded(self, branch: Branch, flow: Flow) -> Request:
        """Write the request as it is forwarded (RFC 3261 section 16.6)."""
        request = self.incoming.request
        # TCP that only the length of this request wants is nothing to route by.
        side = branch.instead or flow
        own = [f"<{uri_of(side.protocol, side.local)};lr>"]
        back = self.incoming.flow
        if (back.protocol, back.local) != (side.protocol, side.local):
            # Each side has to find the address that it can reach first (RFC 5658).
            own.append(f"<{uri_of(back.protocol, back.local)};lr>")
        uri = request.uri
        if self.core.is_own(uri) or branch.uri[:3].lower() != "sip":
            uri = branch.uri
        routes = [str(one) for one in self._routes]
        if routes and not self._routes[0].is_loose:
            # A strict router wants its own name in front (section 16.6, step 6).
            routes = [*routes[1:], f"<{uri}>"]
            uri = self._routes[0].uri
        added = read_draft(self._command.message, checked=True) if self._command.message else None
        replaced = set()
        if added is not None:
            replaced = {one.name.lower() for one in added.fields if one.name.lower() in _REPLACED}
        lines = [f"Via: {via_of(flow.protocol, flow.local, branch.branch)}"]
        lines += via_lines(request)
        stays = self._command.record_route and branch.method != "REGISTER"
        if stays:
            lines += [f"Record-Route: {one}" for one in own]
        at = len(lines)
        if self._command.record_route and branch.method == "REGISTER":
            lines.append(f"Path: {own[0]}")
        lines += [f"Route: {one}" for one in routes]
        hops = "70"
        for name, value in _headers_behind_via(request, 0):
            key = name.lower()
            if key == "route":
                continue
            if key == "max-forwards":
                hops = str(max(_number(value) - 1, 0))
            elif key == "max-breadth" and branch.breadth is not None:
                lines.append(f"{name}: {branch.breadth}")
            elif key not in replaced and key != "content-length" and key != "l":
                lines.append(f"{name}: {value}")
        lines.insert(at, f"Max-Forwards: {hops}")
        fields = []
        for one in () if added is None else added.fields:
            if one.name == "P-Asserted-Identity":
                one = one._replace(value=with_host(one.value, flow.local))
            if one.name != "Contact":
                fields.append(one)
        start = request_line(branch.method, uri)
        return Request.from_bytes(encode(start, lines, fields, request.body))

    # What targets answer

    def responded(self, branch: Branch, message: Any) -> None:
        """A target responded."""
        response: Response = message
        status = response.status
        if not branch.ringing:
            branch.ringing = True
            self._clear(branch, "alarm")
        if status == 100:
            return
        if status < 300 and self.known is not None and branch.source is not None:
            # The Contact of a redirect is somebody else's.
            adjacent = is_adjacent(response, self.core.is_own)
            self.core.proxying.learn(self.known, response, branch.source[0], adjacent)
        if status < 200:
            branch.rang = True
            if self.state is _SEARCHING:
                self._forward(status, _without_top_via(response))
            return
        if status < 300:
            self._succeeded(branch, response, status)
            return
        if branch.final:
            return
        if status == 503 and branch.way is not None:
            branch.unreached(status, response)
            return
        self.refused(branch, response)

    def refused(self, branch: Branch, response: Response) -> None:
        """A target refused."""
        status = response.status
        flow, size = branch.source or (branch.flow, 0)
        assert flow is not None
        self._tell(flow, size, response.raw)
        if branch.method == "INVITE":
            reason = "call-canceled" if status == 487 else "call-rejected"
            self.core.record("stop", "network", response.raw, reason)
        if 300 <= status < 400 and self._command.follow_redirects and self.state is _SEARCHING:
            try:
                found = by_preference(response.contacts)
            except MessageError:
                found = []
            contacts = [request_uri_of(one.uri) for one in found]
            if contacts:
                self._targets[:0] = contacts
                branch.final = status
                self._clear_all(branch)
                if self._command.simultaneous:
                    while self._targets and self._next():
                        pass
                    self._go_on()
                else:
                    self._go_on()
                return
        self.ended(branch, status, _without_top_via(response))

    def _succeeded(self, branch: Branch, response: Response, status: int) -> None:
        """A target accepted: so does the proxy, and the others are cancelled."""
        first = self.state is _SEARCHING or self.state is _GIVEN_UP
        again = 200 <= branch.final < 300  # one that was given up may accept all the same
        branch.final = status
        self._clear_all(branch)
        if first:
            self._become(ContextState.ANSWERED)
        if not again:
            if branch.method == "INVITE":
                self.core.record("start", "network", response.raw, "proxy-uac")
            if first:
                flow, size = branch.source or (branch.flow, 0)
                assert flow is not None
                self._tell(flow, size, response.raw)
                self._finish()
        if self.known is not None:
            self.core.proxying.calls.took(self.known, response)
        raw = _without_top_via(response)
        if branch.method in ("REGISTER", "SUBSCRIBE") and status in (200, 202):
            self.core.registered.passed(self.incoming.request, self.incoming.flow, raw)
        if first and branch.method == "INVITE":
            self.core.record("start", "application", raw, "proxy-uas")
        self._forward(status, raw)
        self._targets.clear()
        if first:
            for other in self._pending():
                self.cancel(other, [_ELSEWHERE])

    def ended(self, branch: Branch, status: int, raw: bytes | None = None) -> None:
        """A target is out: it refused, or could not be reached."""
        if branch.final:
            return
        branch.final = status
        self._clear_all(branch)
        self._best.append((status, raw))
        if status >= 600:
            self._targets.clear()
            for other in self._pending():
                self.cancel(other, [_because(status)])
        self._go_on()
        self.let_go()

    def let_go(self) -> None:
        """Let go of the targets when nothing can happen to them any more.

        They know the call, so that all would wait for the collector otherwise.
        """
        if self.incoming.proxied is not self and all(one.is_over for one in self.branches):
            self.branches.clear()

    def _go_on(self) -> None:
        if self.state is _GIVEN_UP and not self._pending():
            self._become(ContextState.ENDED)
            self._finish()
        if self.state is not _SEARCHING:
            return
        if self._too_narrow and self._command.simultaneous:
            while self._next():
                pass
        # One after the other: each end is the turn of the next one.
        if not self._pending() and self._next():
            return
        if not self._pending():
            self.fail()

    def fail(self) -> None:
        """Answer the caller with the best of what targets answered (section 16.7)."""
        self._become(ContextState.ANSWERED)
        if self._too_narrow and self._targets:
            status, raw = 440, None
        elif self._best:
            status, raw = max(self._best, key=lambda one: rank(one[0]))
            if raw is not None and status in _CHALLENGING:
                raw = self._with_challenges(raw)
        else:
            status, raw = 500, None
        if raw is None and status == 503:
            status = 500  # RFC 3261 section 16.7: nobody else should shun this proxy for it
        self._refuse(status, raw)
        self._finish()

    def _with_challenges(self, chosen: bytes) -> bytes:
        """Add the challenges of all other targets to a 401 or 407 (section 16.7, step 7)."""
        added = [
            (name, value)
            for status, raw in self._best
            if raw is not None and raw is not chosen and status in _CHALLENGING
            for name in ("WWW-Authenticate", "Proxy-Authenticate")
            for value in Response.from_bytes(raw).get_all(name)
        ]
        if not added:
            return chosen
        response = Response.from_bytes(chosen)
        for name, value in added:
            response.add(name, value)
        return bytes(response)

    def late(self, branch: Branch) -> None:
        """A target let its time pass."""
        if branch.final:
            return
        self.cancel(branch, [_because(408)])
        self.ended(branch, 408)

    # The caller

    def caller_cancelled(self, cancel: Request) -> None:
        """The caller gave up, and was answered."""
        if self.state is not _SEARCHING:
            return
        self._become(_GIVEN_UP)
        self._targets.clear()
        reasons = [one for one in cancel.get_all("Reason") if is_legible("Reason", one)]
        for branch in self._pending():
            self.cancel(branch, reasons)
        self._go_on()

    def cancel(self, branch: Branch, reasons: list[str]) -> None:
        """Cancel what was sent to a target, as soon as it has responded with anything.

        :param reasons: what the target is told (RFC 3326).
        """
        machine = branch.machine
        if branch.cancelled:
            return
        branch.cancelled = True
        branch.reasons = reasons
        if isinstance(machine, InviteClient):
            self._run(branch, machine.cancel(self.core.clock.seconds()))
        elif machine is None:
            branch.way = None
            branch.final = 487

    def send_cancel(self, branch: Branch) -> None:
        """Send the CANCEL for a target."""
        core = self.core
        assert branch.request is not None and branch.flow is not None
        cancel = cancel_for(branch.request)
        if branch.reasons:
            cancel.set("Reason", branch.reasons)
            cancel = Request.from_bytes(bytes(cancel))
        machine = NonInviteClient(cancel, reliable=branch.flow.reliable, timing=core.timing)
        owner = Spent(core, branch.flow, ClientKey(f"{branch.branch} CANCEL"), machine)
        effects = machine.start(core.clock.seconds())
        owner.react(machine, effects)
        core.watch(machine)

    def _forward(self, status: int, raw: bytes) -> None:
        """Send a response to the caller."""
        if raw == self.incoming.transaction.last_response:
            # Whoever was called has his own reasons to repeat it: the caller did not ask for that.
            self.core.amplification.repeat(self._send_back, status, raw)
        else:
            self._send_back(status, raw)

    def _send_back(self, status: int, raw: bytes) -> None:
        incoming = self.incoming
        transaction = incoming.transaction
        if incoming.request.to_tag is None:
            self.core.amplification.passed(incoming.flow, raw)
        if not 200 <= status < 300:
            if self.state is _GIVEN_UP or self.state is ContextState.ENDED:
                return
        elif incoming.method == "INVITE" and transaction.state not in _TAKING_2XX:
            # The INVITE was refused, with 487 perhaps, or its transaction is gone; a call that is
            # accepted is the caller's to end all the same (RFC 3261 section 16.7, steps 5 and 9).
            self.core.carriers.send(incoming.flow, raw)
            return
        effects = transaction.respond_bytes(status, raw, self.core.clock.seconds())
        incoming.react(transaction, effects)
        self.core.watch(transaction)

    def _refuse(self, status: int, raw: bytes | None) -> None:
        incoming = self.incoming
        if raw is None:
            if not incoming.to_tag:
                incoming.to_tag = new_tag()
            raw = joined(status_line(status), incoming.lines(status))
        if incoming.method == "INVITE":
            reason = "call-canceled" if status == 487 else "call-rejected"
            self.core.record("stop", "application", raw, reason)
        self._forward(status, raw)

    # The application

    def _tell(self, flow: Flow, size: int, raw: bytes) -> None:
        if self._done or not self._command.full_response:
            return
        self._link.answer(
            self._message_id,
            "OK",
            *passed_on(
                size,
                flow.reported,
                flow.remote_host,
                flow.remote_port,
                self.core.time_of_day(),
            ),
            raw=_joined_vias(raw),
        )

    def _finish(self) -> None:
        if not self._done:
            self._done = True
            if self._command.full_response:
                self._link.answer(self._message_id, "OK", DONE)

    def _clear(self, branch: Branch, name: str) -> None:
        alarm = getattr(branch, name)
        if alarm is not None:
            setattr(branch, name, None)
            self.core.clock.forget(alarm)

    def _clear_all(self, branch: Branch) -> None:
        self._clear(branch, "alarm")
        self._clear(branch, "limit")


class _Nobody:
    """Stands in for an application where there is none."""

    tags: tuple[str, ...] = ()
    paused = behind = False

    def send(self, payload: bytes) -> None:
        """Send nothing."""

    def answer(self, message_id: str, verdict: str, *tokens: str, raw: bytes = b"") -> None:
        """Answer nobody."""

    def refuse(self, message_id: str, text: str) -> None:
        """Refuse nobody."""


class Proxying:
    """The server as a proxy."""

    __slots__ = ("_key", "calls", "core", "timing")

    def __init__(self, core: Core) -> None:
        self.core = core
        # The real server waits T1 here, unlike in what it sends for applications.
        self.timing = replace(core.timing, request_step=None)
        self._key = os.urandom(16)
        self.calls = KnownCalls(core.clock, core.timing, core.limits.proxied_calls)
        """Those whose requests may pass."""

    def count(self) -> int:
        """Count the requests that are being proxied."""
        return sum(
            one.proxied is not None and one.transaction.status < 200
            for one in self.core.uas.transactions.values()
        )

    def begin(self, link: AppLink, message_id: str, command: Proxy) -> None:
        """Carry out a ``proxy`` command."""
        core = self.core
        incoming = core.uas.open.get(command.transaction_id)
        if incoming is None or not incoming.untouched:
            text = f"Unknown transaction id: {command.transaction_id}".replace("|", " ")
            link.answer(message_id, "NOK", text)
            return
        call = Proxied(core, incoming, link, message_id, command)
        core.uas.taken(incoming, call)
        refusal = self._refusal(incoming.request, call.breadth)
        if refusal is None and (len(command.destinations) > 1 or command.follow_redirects):
            refusal = self._circle(incoming.request, call.mark)
        if refusal is None and command.record_route and self.calls.is_full(incoming.request):
            core.alerts.note("proxied_calls", "too many proxied calls are known: new ones get 503")
            refusal = 503, "too many calls", [RETRY_AFTER]
        if refusal is not None:
            status, why, lines = refusal
            core.uas.refuse(incoming, status, lines=lines)
            text = f"Rejected with {status} {reason_phrase(status)} due to {why}"
            link.answer(message_id, "NOK", text.replace("|", " "))
            return
        if command.record_route:
            call.known = self.calls.begun(incoming.request)
            if call.known is not None:
                request = incoming.request
                adjacent = is_adjacent(request, core.is_own)
                self.learn(call.known, request, incoming.flow, adjacent)
        if not call.begin() and not call.branches:
            call._done = True
            core.uas.refuse(incoming, 500)
            link.answer(message_id, "NOK", "error proxying request to ")
        elif not command.full_response:
            call._done = True
            link.answer(message_id, "OK", DONE)

    def mark(self, request: Request) -> str:
        """Return what tells a request that comes back unchanged (RFC 5393 section 4.2)."""
        parts = [request.uri, request.call_id, request.from_.tag or "", str(request.cseq.number)]
        for name in ("Route", "Proxy-Require", "Proxy-Authorization"):
            parts += request.get_all(name)
        text = "\n".join(parts).encode("utf-8", "surrogateescape")
        return hashlib.blake2b(text, digest_size=8, key=self._key).hexdigest()

    def _refusal(self, request: Request, breadth: int | None) -> tuple[int, str, list[str]] | None:
        """Say why a request must not be forwarded, if so (RFC 3261 section 16.3).

        :param breadth: its Max-Breadth, if it has one.
        :returns: status, reason, and header lines.
        """
        if not has_hops_left(request):
            return 483, "Max-Forwards value of 0", []
        if breadth == 0:
            return 440, "Max-Breadth value of 0", []
        known = self.core.config.extensions
        unknown = ", ".join(unknown_extensions(request, "Proxy-Require", known))
        if unknown:
            return 420, f"Proxy-Require of {unknown}", [f"Unsupported: {unknown}"]
        return None

    def _circle(self, request: Request, mark: str) -> tuple[int, str, list[str]] | None:
        """The same for one that was here before, and would multiply."""
        if any((via.branch or "").endswith(mark) for via in request.vias):
            return 482, "a Via of this server", []
        return None

    def forward(self, incoming: Incoming, decision: ProxyTo) -> None:
        """Proxy a request because a web application decided so; nobody is told what comes of it."""
        command = Proxy(
            TransactionId(incoming.id),
            decision.destinations,
            record_route=decision.record_route,
            full_response=False,
            follow_redirects=decision.follow_redirects,
            simultaneous=decision.simultaneous,
            provisional_timeout=decision.provisional_timeout,
            final_timeout=decision.final_timeout,
        )
        self.begin(_Nobody(), "", command)

    def stop(self) -> None:
        """Forget everything."""
        self.calls.clear()

    def over(self, call: Forwarder) -> None:
        """Note that the transaction of a request that was proxied is gone."""
        call.let_go()
        if call.known is not None:
            self.calls.settled(call.known)

    def learn(
        self, known: KnownCall, message: Request | Response, flow: Flow, adjacent: bool
    ) -> None:
        """Take note of how somebody in a call is reached whose Contact leads nowhere.

        That is a browser, since nobody can connect to one, and whoever is behind a NAT.

        :param adjacent: whether there is no other proxy in between.
        """
        contact = contact_of(message)
        if flow.protocol not in WEBSOCKETS:
            nat = self.core.config.nat_detection
            if not adjacent or not is_behind_nat(contact, flow, nat):
                return
        key = None if contact is None else place_of(contact.uri)
        if key is not None:
            known.places = {**(known.places or {}), key: flow}

    # Requests in dialogs

    def passes(self, request: Request, flow: Flow) -> bool:
        """Forward a request in the dialog of a call that was proxied; say whether it is one."""
        if not self.calls or not request.has("Route"):
            return False
        call = self.calls.find(request.get("Call-ID") or "")
        if call is None:
            return False
        try:
            routes: list[Address] = request.get_parsed_header("Route") or []
            if request.to_tag is None or not routes[0].is_loose:
                return False
            if not self.core.is_own(routes[0].uri):
                return False
            # There are two of ours where the two sides reach us at different addresses.
            own = 1
            while own < len(routes) and self.core.is_own(routes[own].uri):
                own += 1
            following = routes[own].uri if len(routes) > own else request.uri
            uri = Uri.parse(following)
        except (MessageError, IndexError):
            return False
        if not isinstance(uri, SipUri):
            return False
        refusal = self._refusal(request, breadth_of(request))
        if refusal is not None:
            status, _, lines = refusal
            self.core.send_away(request, flow, status, lines=lines)
            return True
        self.calls.passed(call, request)
        if request.method == "BYE":
            plain = Request.from_bytes(request.raw)
            plain.remove("Route")
            self.core.record("stop", "network", bytes(plain), "normal-release")
        known = None if call.places is None else call.places.get(place_of(following) or "")
        if known is not None and not self.core.carriers.is_open(known):
            moved = self.core.registered.find(following)
            # To one behind a NAT a new connection may do; to a browser it never does.
            known = moved or (known if known.protocol in WEBSOCKETS else None)
        if known is None:
            hop = hop_of(uri, self.core.default_protocol())
            self.core.ways.send(hop, self._passing(request, own))
        elif self.core.carriers.is_open(known):
            self.core.ways.send_over(known, self._passing(request, own), None)
        else:
            self.core.send_away(request, flow, 410)
        return True

    def _passing(self, request: Request, own: int) -> Callable[[Flow], bytes]:
        """Return what writes a request as it is forwarded.

        :param own: how many of its Route values are this server's.
        """
        core = self.core
        via = request.get("Via") or ""
        # Repeats have to look alike, and so have the CANCEL and ACK (RFC 3261 section 16.11).
        digest = hashlib.sha1(f"{via} {request.cseq.number}".encode("utf-8", "replace"))
        branch = _STATELESS + digest.hexdigest()[:20]
        lines = via_lines(request)
        for name, value in _headers_behind_via(request, own):
            key = name.lower()
            if key == "max-forwards":
                lines.append(f"{name}: {max(_number(value) - 1, 0)}")
            elif key not in ("content-length", "l"):
                lines.append(f"{name}: {value}")
        if not request.has("Max-Forwards"):
            lines.append("Max-Forwards: 70")
        start = request_line(request.method, request.uri)
        recorded = request.method != "BYE"

        def write(flow: Flow) -> bytes:
            nonlocal recorded
            own = f"Via: {via_of(flow.protocol, flow.local, branch)}"
            raw = joined(start, [own, *lines], request.body)
            if not recorded:
                recorded = True
                core.record("stop", "application", raw, "normal-release")
            return raw

        return write

    def returns(self, response: Response) -> bool:
        """Send the response to such a request back; say whether it is one."""
        call = self.calls.find(response.get("Call-ID") or "")
        if call is None:
            return False
        try:
            vias = response.vias
            if len(vias) < 2 or not (vias[0].branch or "").startswith(_STATELESS):
                return False
            self.calls.answered(call, response)
        except MessageError:
            return False
        raw = _without_top_via(response)
        via = vias[1]
        hop = response_hop(via)
        if hop.numeric and hop.protocol != "udp" and via.rport:
            # Its other end is what was noted in the Via then; where the sender listens may be
            # elsewhere.
            flow = self.core.carriers.open_flow(hop.protocol, hop.host, via.rport)
            if flow is not None:
                self.core.carriers.send(flow, raw)
                return True
        self.core.ways.send(hop, lambda flow: raw)
        return True


def _number(text: str) -> int:
    try:
        return parse_integer(text)
    except MessageError:
        return 70


def _seconds(text: str) -> float | None:
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    number = grammar.decimal(found[1])
    return number / (1000 if found[2] == "ms" else 1) if number else None


def _because(status: int) -> str:
    """Write the Reason of a status."""
    return f'SIP;cause={status};text="{reason_phrase(status)}"'


def _headers_behind_via(request: Request, routes: int) -> list[tuple[str, str]]:
    """Return the headers but for Via, without the topmost values of Route.

    :param routes: how many of these.
    """
    found = []
    for name, value in request.headers.items():
        key = name.lower()
        if key in ("via", "v"):
            continue
        if key == "route" and routes:
            try:
                values = Address.parse_list(value)
            except MessageError:
                values = []
            rest = values[routes:]
            routes -= len(values) - len(rest)
            if not rest:
                continue
            value = ", ".join(str(one) for one in rest)
        found.append((name, value))
    return found


def _without_top_via(response: Response) -> bytes:
    """Take the proxy's own Via away."""
    lines = [f"Via: {via}" for via in response.vias[1:]]
    for name, value in response.headers.items():
        if name.lower() not in ("via", "v", "content-length", "l"):
            lines.append(f"{name}: {value}")
    return joined(status_line(response.status, response.reason), lines, response.body)


def _joined_vias(raw: bytes) -> bytes:
    """Write all Via values into one line, as the real server reports responses."""
    response = Response.from_bytes(raw)
    vias = response.get_all("Via")
    if len(vias) < 2:
        return raw
    head, gap, body = raw.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    kept = []
    for line in lines:
        name = line.partition(b":")[0].strip().lower()
        if name in (b"via", b"v"):
            if vias:
                kept.append(("Via: " + ", ".join(vias)).encode("utf-8", "surrogateescape"))
                vias = []
            continue
        kept.append(line)
    return b"\r\n".join(kept) + gap + body
