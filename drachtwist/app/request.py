"""A request from the network, and what becomes of the answer to it.

:class:`Request` is a :class:`drachtwist.sip.Request` that knows how it came: addresses, ids, the
connection, and what has become of its answer (:mod:`~drachtwist.app.answer_state`).

What is known about the exchange is kept here, and the response to be sent
(:class:`~drachtwist.app.response.Response`) is kept only as long as there is none, so that the two
need not hold on to each other once it is over. What only few requests need (handlers of a CANCEL,
an early dialog, responses that wait) is in :class:`RequestExtras`, made when it is needed first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app import dialog_info
from drachtwist.app.answer_state import TRANSITIONS, AnswerState
from drachtwist.app.connection import Connection
from drachtwist.app.handlers import run_handler
from drachtwist.app.interfaces import AnyRequestHandler, AnyToldOfEnd
from drachtwist.app.mistakes import no_handler
from drachtwist.app.outcomes import already_failed
from drachtwist.app.received import Received
from drachtwist.app.response import Response, make_response
from drachtwist.app.response_queue import ResponseQueue
from drachtwist.errors import ConnectionLost, LocalProtocolError, SipError
from drachtwist.net.tasks import Awaited
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.registry import METHODS
from drachtwist.wire.reports import TRANSACTION_ID

if TYPE_CHECKING:
    from drachtwist.app.early import EarlyDialog

__all__ = ["Request", "make_request"]

_METHODS = {method.encode("ascii"): method for method in METHODS}


_OPEN = AnswerState.OPEN
_ANSWERED = AnswerState.ANSWERED
_PROXIED = AnswerState.PROXIED


class RequestExtras:
    """What only few requests need."""

    __slots__ = (
        "cancel",
        "complete",
        "early",
        "early_id",
        "early_raw",
        "locals",
        "on_cancel",
        "on_final",
        "on_send",
        "on_update",
        "queue",
        "send_lock",
        "shares_transaction",
        "told",
        "waiting",
        "watch",
    )

    def __init__(self) -> None:
        self.locals: dict[str, Any] | None = None
        # What names the handler that ended without an answer; told of the end of the request.
        self.watch: Any = None
        self.cancel: Request | None = None
        self.on_cancel: list[Callable[[Request | None], Any]] = []
        self.waiting: list[Deferred[Request | None]] = []
        self.on_update: Callable[[Request, Response], Any] | None = None
        # Asked before a response is sent, one response at a time.
        self.on_send: list[Callable[[Response, int], Any]] = []
        self.send_lock: DeferredLock | None = None
        # The state of the call that was told of last (see dialog_info).
        self.told = ""
        # Told of the final response: the request, status and body.
        self.on_final: Callable[[Request, int, bytes | str | None], None] | None = None
        # Completes the headers of a 2xx, called with the request and them.
        self.complete: Callable[[Request, HeadersLike], HeadersLike] | None = None
        # The early dialog; its id once the server confirmed what made it, and that response.
        self.early: EarlyDialog | None = None
        self.early_id = ""
        self.early_raw = b""
        # What has to wait for a PRACK, or for the answer to an UPDATE; None while nothing does.
        self.queue: ResponseQueue | None = None
        # It came with the transaction id of another request, as an UPDATE in an early dialog does.
        self.shares_transaction = False


class Request(Received, sip.Request):
    """A request from the network."""

    __slots__ = ("_answer", "_extras", "_final_status", "_res", "_state", "_tokens", "canceled")

    _answer: AnswerState
    # The status of the final response, whoever sent it; 0 while there is none.
    _final_status: int
    _extras: RequestExtras | None
    # Only while a final response may be sent: the two would keep each other alive otherwise.
    _res: Response | None

    canceled: bool
    """Whether the caller has given up."""

    @property
    def res(self) -> Response:
        """The way to answer this request."""
        res = self._res
        if res is None:
            res = make_response(self, self._final_status)
            if self._answer is _OPEN and not self._state.is_lost:
                self._res = res
        return res

    @property
    def locals(self) -> dict[str, Any]:
        """What the handlers of this request want to tell each other."""
        extras = self._extended()
        if extras.locals is None:
            extras.locals = {}
        return extras.locals

    @property
    def early_dialog(self) -> EarlyDialog | None:
        """What may be said to the caller before the INVITE is answered.

        None before a provisional response other than 100 was confirmed by the server, and again
        when there is a final one.
        """
        extras = self._extras
        if (
            extras is None
            or not extras.early_id
            or not (self._answer is _OPEN or self._answer is _PROXIED)
        ):
            return None
        early: EarlyDialog = self._state.owner.early_dialogs.of_caller(self)
        return early

    def on_cancel(self, handler: AnyToldOfEnd) -> AnyToldOfEnd:
        """Call a handler when the caller gives up before the INVITE was answered.

        It gets the CANCEL (or the BYE, in an early dialog), or None when the server only said that
        the transaction is gone, or the connection to the server is lost. One that is added too late
        is called at once.
        """
        if not callable(handler):
            raise no_handler(handler)
        if self.canceled or (self._answer is _OPEN and self._state.link.closed):
            self._call(handler, self._extras.cancel if self._extras else None)
        else:
            self._extended().on_cancel.append(handler)
        return handler

    def when_cancelled(self) -> Deferred[Request | None]:
        """Wait for the caller to give up.

        :returns: the CANCEL; None when the request was answered instead. Fails with
            :exc:`ConnectionLost` when the connection goes away.
        """
        if self.canceled:
            return succeed(self._extras.cancel if self._extras else None)
        if self._answer is not _OPEN:
            return succeed(None)
        if self._state.link.closed:
            return already_failed(ConnectionLost("the connection of the request is gone"))
        # As INVITEs are, it is told of a lost connection.
        self._state.invites.setdefault(self._token(TRANSACTION_ID), self)
        waiting: Deferred[Request | None] = Awaited(self._forget)
        self._extended().waiting.append(waiting)
        return waiting

    def _forget(self, waiting: Deferred[Request | None]) -> None:
        if self._extras is not None and waiting in self._extras.waiting:
            self._extras.waiting.remove(waiting)

    def on_update(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle UPDATE requests that come before this INVITE is answered.

        The handler takes (req, res). Without one they are answered as RFC 3311 section 5.2 wants:
        an offer with 491 while one of ours is not answered, with 500 and Retry-After while one of
        the caller's is not, anything else with 200.
        """
        if not callable(handler):
            raise no_handler(handler)
        if self._answer is _OPEN:
            self._extended().on_update = handler
        return handler

    # Inside: the state of the answer

    @property
    def is_open(self) -> bool:
        """Whether there is no final response, and nobody but the application is to send one."""
        return self._answer is _OPEN

    def _settle(self, answer: AnswerState, status: int) -> None:
        """Note who answers, or that nobody does.

        :param status: of the final response, or what stands for one that will never be.
        """
        assert answer in TRANSITIONS[self._answer], f"{self._answer} does not become {answer}"
        self._answer = answer
        self._final_status = status
        self._res = None

    def _answered(self, status: int) -> None:
        """A final response was handed to the server."""
        # Nearly always it was open, which needs no look into the table.
        assert self._answer is _OPEN or _ANSWERED in TRANSITIONS[self._answer], (
            f"{self._answer} does not become answered"
        )
        self._answer = _ANSWERED
        self._final_status = status
        self._res = None

    def _not_to_be_answered(self) -> None:
        """There is no response to this: an ACK, a CANCEL, a request of the server's own."""
        self._settle(AnswerState.UNANSWERABLE, 200)

    def _why_not_sent(self) -> Exception:
        """Make the failure of a response that came too late."""
        if self.canceled:
            return SipError(487, "Request Terminated")
        return LocalProtocolError("the request has its final response already")

    def _shares_transaction(self) -> bool:
        """Return whether it came with the transaction id of another request."""
        return self._extras is not None and self._extras.shares_transaction

    # Inside

    def _extended(self) -> RequestExtras:
        if self._extras is None:
            self._extras = RequestExtras()
        return self._extras

    def _call(self, handler: Callable[..., Any], *args: Any) -> None:
        """Run a handler whose failure can only be logged."""
        run_handler(self, handler, *args)

    def _invite(self) -> Request:
        return self

    def _cancelled(self, cancel: Request | None) -> None:
        """The caller gave up."""
        if self.canceled:
            return
        self.canceled = True
        state = self._state
        is_open = self._answer is _OPEN
        if is_open and state.events.dialog_state.handlers:
            self._report("terminated", event="cancelled")
        if is_open and state.events.calls is not None:
            state.events.calls.cancelled(self, cancel)
        pending = state.invites.pop(self._token(TRANSACTION_ID), None)
        if pending is not None and self._shares_transaction():
            pending._cancelled(cancel)  # the INVITE that it came with is over
        if self._answer is _OPEN:
            self._settle(AnswerState.CANCELLED, 487)
            state.release()
        extras = self._extras
        if extras is None:
            if cancel is not None:
                self._extended().cancel = cancel
            return
        if extras.watch is not None:
            extras.watch.forget(self)
        extras.cancel = cancel
        self._drop_early()
        handlers, extras.on_cancel = extras.on_cancel, []
        extras.on_update = None
        for handler in handlers:
            self._call(handler, cancel)
        self._tell(cancel)

    def _answered_finally(self) -> None:
        """Note that a final response is on its way, and confirmed."""
        state = self._state
        extras = self._extras
        if extras is None or not extras.shares_transaction:
            tokens = self._tokens
            name = self.stack_txn_id if type(tokens) is str else tokens[TRANSACTION_ID]
            state.invites.pop(name, None)
        if extras is not None and extras.watch is not None:
            extras.watch.forget(self)
        if extras is not None and not extras.shares_transaction:
            self._drop_early()
            extras.on_cancel = []
            extras.on_update = None
            self._tell(None)
        state.release()

    def _report(
        self,
        name: str,
        response: sip.Response | None = None,
        *,
        event: str = "",
        status: int = 0,
    ) -> None:
        """Tell those who watch what has become of a call, once for each state."""
        extras = self._extended()
        if self.method == "INVITE" and self.to_tag is None and extras.told != name:
            extras.told = name
            dialog_info.report(
                self._state.events.dialog_state.emit,
                name,
                self,
                dialog_info.RECIPIENT,
                response,
                event=event,
                status=status,
            )

    def _tell(self, result: Request | None) -> None:
        extras = self._extras
        if extras is not None and extras.waiting:
            waiting, extras.waiting = extras.waiting, []
            for waiter in waiting:
                waiter.callback(result)

    def _drop_early(self) -> None:
        """End the early dialog, if there is one."""
        extras = self._extras
        if extras is None:
            return
        if extras.early_id:
            self._state.early.pop(extras.early_id, None)
            extras.early_id = ""
        early, extras.early = extras.early, None
        if early is not None:
            early.end(answered=self._answer is _ANSWERED and 200 <= self._final_status < 300)
        self._let_go()

    def _link_lost(self, reason: ConnectionLost) -> None:
        """The connection is gone, and with it every way to answer."""
        if self._state.events.dialog_state.handlers:
            self._report("terminated", event="error")
        if self._state.events.calls is not None:
            self._state.events.calls.lost(self, reason)
        extras = self._extras
        if extras is not None:
            if extras.watch is not None:
                extras.watch.forget(self)
            handlers, extras.on_cancel = extras.on_cancel, []
            for handler in handlers:
                self._call(handler, None)
            waiting, extras.waiting = extras.waiting, []
            for waiter in waiting:
                waiter.errback(Failure(reason))
            self._let_go()
        self._res = None

    # Inside: responses that wait

    def _queue(self) -> ResponseQueue:
        """Return the responses that wait."""
        extras = self._extended()
        if extras.queue is None:
            extras.queue = ResponseQueue(self._state.clock)
        return extras.queue

    def _holds(self, status: int) -> bool:
        """Return whether a response has to wait for a PRACK, or for the answer to an UPDATE."""
        extras = self._extras
        return extras is not None and extras.queue is not None and extras.queue.holds(status)

    def _may_send(self) -> bool:
        """Return whether there is still somebody to send a response to."""
        return self._answer is _OPEN and not self._state.link.closed

    def _hold(self, send: Callable[[], None]) -> None:
        """Send a response when nothing is in the way any more."""
        self._queue().add(send, self._update_over)

    def _await_prack(self, on_prack: Callable[[Request], Any] | None) -> None:
        """Send nothing more before the PRACK came, or had its time."""
        self._queue().await_prack(on_prack, self._prack_over)

    def _prack_over(self) -> None:
        """Wait no longer for a PRACK: send what waited, up to the next reliable response."""
        queue = self._extras.queue if self._extras is not None else None
        if queue is not None:
            queue.prack_over()
            queue.release(self._may_send)

    def _update_came(self, update: Request) -> None:
        """Note an offer, in an UPDATE or a PRACK: no 2xx may overtake its answer."""
        self._queue().await_answer(update)
        extras = update._extended()
        told = extras.on_final

        def answered(it: Request, status: int, body: bytes | str | None) -> None:
            if told is not None:
                told(it, status, body)
            self._update_over()

        extras.on_final = answered

    def _update_over(self) -> None:
        """Wait no longer for the answer to an UPDATE."""
        queue = self._extras.queue if self._extras is not None else None
        if queue is not None:
            queue.update_over()
            queue.release(self._may_send)

    def _let_go(self) -> None:
        """Let nothing wait any more."""
        self._prack_over()
        self._update_over()

    # Inside: for requests that are kept as long as a dialog lasts

    def _compact(self) -> None:
        """Keep less while nobody looks."""
        tokens = self._tokens
        if type(tokens) is not str:
            self._tokens = "|".join(tokens)
        self._headers = None if not self._is_changed() else self._headers

    def _is_changed(self) -> bool:
        return self._headers is not None and self._headers._changed


def make_request(state: Connection, tokens: Sequence[str], raw: bytes) -> Request:
    """Wrap a request as the server delivered it; nothing of it is parsed."""
    self = Request.__new__(Request)
    self._raw = raw
    self._headers = self._body = self._uri = self._version = None
    self._method = _METHODS.get(raw[: raw.find(b" ")])
    self._changed_line = False
    self._state = state
    self._tokens = tokens
    self._answer = _OPEN
    self._final_status = 0
    self._extras = self._res = None
    self.canceled = False
    transaction_id = tokens[TRANSACTION_ID]
    if transaction_id in state.requests or transaction_id in state.invites:
        # Another request has this transaction id: the answer has to say what it is for.
        self._extras = RequestExtras()
        self._extras.shares_transaction = True
    return self
