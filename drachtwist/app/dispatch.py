"""Where a message from a server goes, and what is answered when nobody takes it.

A SIP message goes, in this order, to the transaction it belongs to (a response, a CANCEL), to its
dialog, or to the handlers of its method. What nobody takes is answered:

====================================================  ==========================================
ACK                                                   nothing, there is no answer to an ACK
PRACK                                                 200
CANCEL                                                nothing, the server has answered it
a request in a dialog that is not known (To tag)      481
what comes before the INVITE is answered              see :mod:`drachtwist.app.early`
anything, while the application stops                 503 with Retry-After
a method without any handler, while others have some  405 with Allow (RFC 3261 section 8.2.1)
anything else                                         404
====================================================  ==========================================

drachtio-srf answers 404 also where 405 and 481 stand here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.python.failure import Failure

from drachtwist.app import early
from drachtwist.app.call_records import CallRecord, Correlator
from drachtwist.app.connection import CURRENT, Connection
from drachtwist.app.connections import Connections
from drachtwist.app.events import Events
from drachtwist.app.request import Request, make_request
from drachtwist.app.response import Response
from drachtwist.app.router import Chain, Router
from drachtwist.app.unanswered import Unanswered
from drachtwist.app.validation import BAR, problem_of, without_nuls
from drachtwist.errors import ConnectionLost, SipError
from drachtwist.net.alerts import Alerts
from drachtwist.net.logs import Logger
from drachtwist.net.protocol import DrachtioProtocol
from drachtwist.net.tasks import explain
from drachtwist.wire.commands import Cdr, Delivery
from drachtwist.wire.reports import DIALOG_ID, SOURCE, TRANSACTION_ID

__all__ = ["NEVER_OFFERED", "Dispatcher"]

_log = Logger(namespace="drachtwist.app.dispatch")

NEVER_OFFERED = frozenset({"ACK", "BYE", "CANCEL", "PRACK", "REFER", "UPDATE"})
"""Methods that a server never offers outside of dialogs: a route for them does nothing."""

_NUL = 0

_FOR_AN_INVITE = frozenset({"ACK", "CANCEL"})
"""Methods that are about another request, in a dialog or not."""

_MAX_CHAINS = 64
"""Methods whose handlers are kept picked out: methods come from the network."""


class Dispatcher:
    """Takes what the connections of an application report.

    :param router: the handlers.
    :param connections: the connections, which learn first which of them are up.
    :param events: told of call detail records and states of calls.
    :param end_failed_calls: end calls whose handler fails once they are up.
    """

    def __init__(
        self, router: Router, connections: Connections, events: Events, *, end_failed_calls: bool
    ) -> None:
        self._router = router
        self._connections = connections
        self._table = connections.table
        self._events = events
        self._end_failed_calls = end_failed_calls
        self._chains: dict[str, Chain] = {}
        self._correlator = Correlator()
        self._alerts: Alerts | None = None
        self._unanswered = Unanswered(lambda: connections.clock, lambda: connections.trace)

    def changed(self) -> None:
        """Pick the handlers of each method out anew: there are others, or the application stops."""
        self._chains.clear()

    def chain(self, method: str) -> Chain:
        """Return the handlers that see the requests of a method."""
        chain = self._chains.get(method)
        if chain is None:
            # Who stops takes nothing new.
            refused = self._connections.is_stopping and method not in NEVER_OFFERED
            chain = Chain([] if refused else self._router._steps(method), self)
            if len(self._chains) < _MAX_CHAINS:
                self._chains[method] = chain
        return chain

    # What the connections report

    def link_up(self, link: DrachtioProtocol) -> None:
        """A server accepted us."""
        connections = self._connections
        if not link.outbound and not connections.routes and not connections.is_stopping:
            self._say_nothing_comes(link)
        connections.link_up(link)

    def _say_nothing_comes(self, link: DrachtioProtocol) -> None:
        """Say that a server has nothing to hand over: no handler is there for any method."""
        if self._router._layers:
            _log.warn(
                "no requests will come from {peer}: there is middleware for all methods, but no"
                " handler that asks for one (srf.invite, srf.use('invite', ...))",
                peer=link.peer,
            )
        else:
            _log.info("no requests will come from {peer}: there are no handlers", peer=link.peer)

    def link_down(self, link: DrachtioProtocol, reason: Exception) -> None:
        """A connection is gone: so are its transactions and dialogs."""
        if not self._connections.link_down(link, reason):
            return
        for summary in self._correlator.lose(link):
            self._events.call_summary.emit(summary)
        self._connections.link_gone(link)

    def delivered(self, link: DrachtioProtocol, delivery: Delivery) -> None:
        """A SIP message came."""
        state = self._table[link]
        tokens = delivery.tokens
        raw = delivery.raw
        if raw.startswith(b"SIP/2.0 "):
            if _NUL in raw:
                raw = without_nuls(raw)
            request = state.requests.get(tokens[TRANSACTION_ID])
            if request is not None:
                request.responded(tokens, raw)
            else:
                state.stray(tokens, raw)
            return
        # Hardly ever; problem_of says of what. Looking for a number takes a fifth of the time.
        if (BAR in raw or _NUL in raw) and self._refused(state, tokens, raw):
            return
        # Servers of old send fewer tokens.
        dialog_id = tokens[DIALOG_ID] if len(tokens) > DIALOG_ID else ""
        by_server = tokens[SOURCE] == "application"
        if dialog_id:
            dialog = state.dialogs.find(dialog_id, raw, by_server, state.calling)
            if dialog is not None:
                dialog._delivered(state, tokens, raw)
                return
            if state.farewells and _is_for_farewell(state, dialog_id, tokens, raw):
                return
        if by_server and not raw.startswith(b"CANCEL "):
            # A BYE of the server's own, for a dialog that is not known any more: no answer.
            return
        req = make_request(state, tokens, raw)
        method = req.method
        if method == "INVITE":
            if not dialog_id:
                state.invites[tokens[TRANSACTION_ID]] = req
                if state.events.dialog_state.handlers:
                    req._report("trying")
        elif (dialog_id or method in _FOR_AN_INVITE) and self._is_told(
            state, req, method, dialog_id
        ):
            return
        link.uses += 1
        if state.idle_call is not None:
            state.idle_call.cancel()
            state.idle_call = None
        chain = self._chains.get(method) or self.chain(method)
        res = req.res
        if not link.outbound:
            chain.run(req, res)
            return
        # What the handler sends goes to the server that brought the request.
        token = CURRENT.set(state)
        try:
            chain.run(req, res)
        finally:
            CURRENT.reset(token)

    def _is_told(self, state: Connection, req: Request, method: str, dialog_id: str) -> bool:
        """Tell the INVITE, or the early dialog, that a request is for.

        :returns: whether that was all there is to do.
        """
        if method == "CANCEL":
            invite = state.invites.get(req._tokens[TRANSACTION_ID])
            req._not_to_be_answered()  # the server has answered it
            if invite is not None:
                invite._cancelled(req)
            return True
        if method == "ACK":
            req._not_to_be_answered()
            self.chain(method).run(req, req.res)
            return True
        return bool(dialog_id) and early.take(self, state, req, method, dialog_id)

    def _refused(self, state: Connection, tokens: Any, raw: bytes) -> bool:
        """Answer a request that nobody is asked about; say whether it is one."""
        req = make_request(state, tokens, raw)
        problem = problem_of(req)
        if problem is None:
            return False
        if self._alerts is None:
            self._alerts = Alerts(_log, self._connections.clock.seconds)
        self._alerts.note(
            "refused_requests",
            "{method} from {peer} is refused: {problem}, Call-ID {call_id}",
            method=req.method,
            peer=req.source_address,
            problem=problem,
            call_id=req.get("Call-ID"),
        )
        if req.method not in ("ACK", "CANCEL") and tokens[SOURCE] != "application":
            state.use()
            req.res.send(400, problem)
        return True

    def cdr(self, link: DrachtioProtocol, cdr: Cdr) -> None:
        """A call detail record came."""
        event = self._events.cdr.get(cdr.event)
        summarised = self._events.call_summary.handlers
        if not summarised and (event is None or not event.handlers):
            return
        record = CallRecord(cdr, link)
        if event is not None:
            event.emit(record)
        if summarised:
            summary = self._correlator.add(record)
            if summary is not None:
                self._events.call_summary.emit(summary)

    # What happens to requests that the handlers leave

    def unhandled(self, req: Request, res: Response) -> None:
        """Answer a request that no handler took."""
        if res.finished:
            return
        method = req.method
        dialog_id = req.stack_dialog_id
        invite = None
        if dialog_id:
            invite = early.find(req._state, req, dialog_id)
        if invite is not None and method != "BYE":
            dialog = early.dialog_of(invite, req)
            if method == "PRACK":
                dialog.answer_prack(res)
            else:
                dialog.answer(req)
        elif method == "PRACK":
            res.send(200)
        elif dialog_id or req.to_tag is not None:
            res.send(481)
        elif self._connections.is_stopping:
            res.send(503, headers={"Retry-After": "5"})
        else:
            methods = self._router._methods()
            if methods and self.chain(method).is_empty:
                res.send(405, headers={"Allow": ", ".join(sorted(methods))})
            else:
                res.send(404)

    def left_open(self, req: Request, handler: Callable[..., Any]) -> None:
        """See to it that a handler is named which has ended and answers nothing."""
        self._unanswered.add(req, handler)

    def failed(self, req: Request, res: Response, failure: Failure) -> None:
        """Answer a request whose handler failed, and log it."""
        error = failure.value
        call_id = req.get("Call-ID")
        method = req.method
        if req.canceled and isinstance(error, (SipError, ConnectionLost)):
            _log.info("{method} was cancelled, Call-ID {call_id}", method=method, call_id=call_id)
            return
        if isinstance(error, ConnectionLost):
            _log.warn(
                "{method} was not handled: {error}, Call-ID {call_id}",
                method=method,
                error=error,
                call_id=call_id,
            )
        else:
            explain(error)
            _log.failure(
                "the handler of {method} failed, Call-ID {call_id}",
                failure,
                method=method,
                call_id=call_id,
            )
            trace = self._connections.trace
            if trace is not None and not isinstance(error, SipError):
                trace.call_failed(call_id or "", f"the handler of {method} failed")
        if not res.finished and not req.link.closed:
            # A refusal that the handler let pass is passed on.
            status = 500
            if isinstance(error, SipError) and 400 <= error.status <= 699:
                status = error.status
            res.send(status)
        elif method == "INVITE" and self._end_failed_calls:
            _end_call(req)


def _is_for_farewell(state: Connection, dialog_id: str, tokens: Sequence[str], raw: bytes) -> bool:
    """Hand a request to what is left of its dialog; say whether there is anything."""
    farewell = state.farewells.get(dialog_id)
    if farewell is None:
        return False
    if tokens[SOURCE] != "application":
        farewell.crossed(make_request(state, tokens, raw))
    return True


def _end_call(invite: Request) -> None:
    """End the call that an INVITE began: whoever was to do that has failed."""
    name = f"{invite.get('Call-ID')};from-tag={invite.from_tag or ''}"
    dialog = invite._state.dialogs.get(name, "uas")
    if dialog is None or dialog.req is not invite:
        return
    for each in (dialog, dialog.other):
        if each is not None and each.connected:
            each.destroy({"Reason": 'SIP;cause=500;text="The application failed"'})
