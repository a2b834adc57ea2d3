"""A request that is being forwarded: the response context (RFC 3261 section 16).

It knows whom the request is for, has it sent to them (:mod:`~drachtwist.server.proxy.branch`), one
after the other or all at once, and decides what the caller gets of what they answer:

* the first 2xx goes to the caller, and the others are cancelled; any further 2xx goes to him too;
* a 6xx ends the search: who was not asked is not, who was is cancelled;
* when nobody is left, he gets the best of the refusals
  (:mod:`~drachtwist.server.proxy.best_response`);
* a redirect is followed if the application wants that, its contacts before the targets that are
  left;
* whoever lets his time pass is cancelled, and counts as if he had answered 408.

When the caller gives up he was answered 487 already. What was asked is cancelled, and what comes of
it concerns nobody but for a 2xx: a call that is accepted is the caller's to end.

What there is only while it searches is in :mod:`~drachtwist.server.proxy.search`, and goes with it.

The application learns of each final response, as it came, and in the end that it is done.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow
from drachtwist.server.attempts import SentState
from drachtwist.server.compose import new_tag
from drachtwist.server.incoming import Incoming
from drachtwist.server.neighbours import away, is_adjacent, routes_left
from drachtwist.server.proxy.best_response import best_response
from drachtwist.server.proxy.branch import PENDING, Branch
from drachtwist.server.proxy.forwarding import Forwarding, joined_vias, without_top_via
from drachtwist.server.proxy.known_calls import KnownCall
from drachtwist.server.proxy.search import Search
from drachtwist.server.registered import has_no_address
from drachtwist.server.roles import Core
from drachtwist.sip import grammar
from drachtwist.sip.encoding import joined, status_line
from drachtwist.sip.locating import hop_of
from drachtwist.sip.message import Request, Response
from drachtwist.sip.registry import is_legible
from drachtwist.sip.status import reason_value
from drachtwist.sip.targets import by_preference, request_uri_of, split_route
from drachtwist.sip.uri import SipUri, Uri
from drachtwist.transactions.machine import State
from drachtwist.wire.commands import Proxy
from drachtwist.wire.reports import DONE, passed_on

if TYPE_CHECKING:
    from drachtwist.server.clients import AppLink

__all__ = ["TRANSITIONS", "ContextState", "ResponseContext"]

_TIME = re.compile(r"([0-9]+)(ms|s)")
_ELSEWHERE = reason_value(200, "Call completed elsewhere")
_TAKING_2XX = (State.PROCEEDING, State.ACCEPTED)


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


class ResponseContext:
    """A request that is being proxied."""

    def __init__(
        self,
        core: Core,
        incoming: Incoming,
        link: AppLink,
        message_id: str,
        command: Proxy,
        mark: str,
        breadth: int | None,
    ) -> None:
        self.core = core
        self.incoming = incoming
        self.mark = mark
        """What the branches of all its targets end with."""
        self.known: KnownCall | None = None
        """The call that it makes, if the proxy stays in it."""
        self._link = link
        self._message_id = message_id
        self._command = command
        self._routes = routes = routes_left(incoming.request, core.is_own)
        self.forwarding = Forwarding(incoming.request, incoming.flow, routes, command, core.is_own)
        """What writes the request as it is forwarded."""
        self.branches: list[Branch] = []
        """The targets that were asked."""
        self.state = ContextState.SEARCHING
        """Where the search is."""
        self._search: Search | None = Search(command.destinations, breadth)
        self.told = False
        """Whether the application has all that it gets."""
        self.provisional_timeout = _seconds(command.provisional_timeout)
        self.final_timeout = _seconds(command.final_timeout)

    def _become(self, state: ContextState) -> None:
        """Change the state, to one that may follow."""
        assert state in TRANSITIONS[self.state], f"{self.state} does not become {state}"
        self.state = state
        self._search = None  # none of them is SEARCHING

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
        return [one for one in self.branches if one.state in PENDING]

    def _next(self) -> bool:
        """Try the next target; say whether there was one that can be reached."""
        search = self._search
        while search is not None:
            target = search.next(self.branches)
            if target is None:
                return False
            if self._send(*target):
                return True
        return False

    def _send(self, destination: str, breadth: int | None) -> bool:
        core = self.core
        known = None
        try:
            destination, path = split_route(destination)
        except MessageError:
            return False
        if path is not None:
            path = away(path, core.is_own)
        proxy = core.config.outbound_proxy
        routes = self._routes or path
        if proxy is None and routes:
            proxy = routes[0].uri
        if proxy is None:
            known = core.registered.find(destination)
        if known is not None and (core.carriers.is_open(known) or has_no_address(destination)):
            branch = Branch(self, destination, path, breadth)
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
        branch = Branch(self, destination, path, breadth)
        self.branches.append(branch)
        if not branch.go(hop):
            self.branches.remove(branch)
            return False
        return True

    # What targets answer

    def responded(self, branch: Branch, message: Any) -> None:
        """A target responded."""
        response: Response = message
        status = response.status
        branch.responded()
        if status == 100:
            return
        if status < 300 and self.known is not None and branch.source is not None:
            # The Contact of a redirect is somebody else's.
            adjacent = is_adjacent(response, self.core.is_own)
            self.core.proxying.learn(self.known, response, branch.source[0], adjacent)
        if status < 200:
            if branch.state is SentState.SENT:
                branch.enter(SentState.PROGRESSING)
            if self.state is _SEARCHING:
                self._forward(status, without_top_via(response))
            return
        if status < 300:
            self._succeeded(branch, response, status)
            return
        if not branch.is_pending:
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
        search = self._search
        if search is not None and 300 <= status < 400 and self._command.follow_redirects:
            try:
                found = by_preference(response.contacts)
            except MessageError:
                found = []
            if found:
                search.targets[:0] = [request_uri_of(one.uri) for one in found]
                branch.end(SentState.OVER)
                if self._command.simultaneous:
                    while self._next():
                        pass
                self._go_on()
                return
        self.ended(branch, status, without_top_via(response))

    def _succeeded(self, branch: Branch, response: Response, status: int) -> None:
        """A target accepted: so does the proxy, and the others are cancelled."""
        first = self.state is _SEARCHING or self.state is _GIVEN_UP
        again = branch.state is SentState.ACCEPTED
        branch.end(SentState.ACCEPTED)
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
        raw = without_top_via(response)
        if branch.method in ("REGISTER", "SUBSCRIBE") and status in (200, 202):
            self.core.registered.passed(self.incoming.request, self.incoming.flow, raw)
        if first and branch.method == "INVITE":
            self.core.record("start", "application", raw, "proxy-uas")
        self._forward(status, raw)
        if first:
            for other in self._pending():
                other.cancel([_ELSEWHERE])

    def ended(self, branch: Branch, status: int, raw: bytes | None = None) -> None:
        """A target is out: it refused, or could not be reached."""
        if not branch.is_pending:
            return
        branch.end(SentState.OVER)
        if self._search is not None:
            self._search.refused.append((status, raw))
        if status >= 600:
            if self._search is not None:
                self._search.targets.clear()
            for other in self._pending():
                other.cancel([reason_value(status)])
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
        search = self._search
        if search is None:
            return
        if search.too_narrow and self._command.simultaneous:
            while self._next():
                pass
        # One after the other: each end is the turn of the next one.
        if not self._pending() and self._next():
            return
        if not self._pending():
            self._answer_with_best(search)

    def _answer_with_best(self, search: Search) -> None:
        """Answer the caller with the best of what targets answered."""
        self._become(ContextState.ANSWERED)
        if search.too_narrow and search.targets:
            status, raw = 440, None
        else:
            status, raw = best_response(search.refused)
        self._refuse(status, raw)
        self._finish()

    def late(self, branch: Branch) -> None:
        """A target let its time pass."""
        if not branch.is_pending:
            return
        if branch.machine is None:
            branch.way = None  # its next place is being looked for: nobody has it
        else:
            branch.cancel([reason_value(408)])
        self.ended(branch, 408)

    # The caller

    def caller_cancelled(self, cancel: Request) -> None:
        """The caller gave up, and was answered."""
        if self.state is not _SEARCHING:
            return
        self._become(_GIVEN_UP)
        reasons = [one for one in cancel.get_all("Reason") if is_legible("Reason", one)]
        for branch in self._pending():
            branch.cancel(reasons)
        self._go_on()

    # What the caller gets

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
        accepts = 200 <= status < 300 and incoming.method == "INVITE"
        if accepts and transaction.state not in _TAKING_2XX:
            # The INVITE was refused, with 487 perhaps, or its transaction is gone; a call that is
            # accepted is the caller's to end all the same (RFC 3261 section 16.7, steps 5 and 9).
            self.core.carriers.send(incoming.flow, raw)
            return
        core = self.core
        effects = transaction.respond_bytes(status, raw, core.clock.seconds())
        core.transactions.run(transaction, effects)

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
        if self.told or not self._command.full_response:
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
            raw=joined_vias(raw),
        )

    def _finish(self) -> None:
        if not self.told:
            self.told = True
            if self._command.full_response:
                self._link.answer(self._message_id, "OK", DONE)


def _seconds(text: str) -> float | None:
    found = _TIME.fullmatch(text)
    if found is None:
        return None
    number = grammar.decimal(found[1])
    return number / (1000 if found[2] == "ms" else 1) if number else None
