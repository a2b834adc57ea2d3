"""A request from the network, and the ways to answer it.

:class:`Request` is a :class:`drachtwist.sip.Request` that knows how it came: addresses, ids, the
connection. :class:`Response` is the answer to it. What is known about the exchange (was a final
response sent, has the caller given up) is kept with the request, so that the two need not hold on
to each other once it is over.

Every response is confirmed by the server, with the message as it was sent, or refused. The refusal
"unknown transaction" means that the caller has gone: he cancelled, or his connection broke.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredLock, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app import states
from drachtwist.app.interfaces import AnyHandler
from drachtwist.app.links import Handed, LinkState, Server, fail_later
from drachtwist.app.running import already_failed, settle, started
from drachtwist.app.strangers import names
from drachtwist.errors import CommandRefused, ConnectionLost, LocalProtocolError, SipError
from drachtwist.sip import grammar
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.message import METHODS, encode_response
from drachtwist.sip.options import RELIABLE, lists_option
from drachtwist.sip.registry import is_legible
from drachtwist.wire.commands import Answer

if TYPE_CHECKING:
    from drachtwist.app.early import EarlyDialog
    from drachtwist.app.srf import Srf
    from drachtwist.net.protocol import DrachtioProtocol

__all__ = ["ReceivedResponse", "Request", "Response"]

_log = Logger(namespace="drachtwist.app.exchange")

UNKNOWN_TRANSACTION = "unknown transaction"
"""Part of the refusal that means: the caller has gone."""

SUBSCRIPTION = 3600
"""Seconds of a subscription that does not say how long it is to last."""

_TRANSPORT_CLOSED = "transport for response has been shutdown"

_PRACK_TIMEOUT = 33.0
"""Seconds after which a PRACK will not come any more: 64 times T1, after which the server says so,
and one more."""

_UPDATE_TIMEOUT = 32.0
"""Seconds after which nobody waits for the answer to an UPDATE any more: 64 times T1."""

_REQUIRE = re.compile(rb"^Require[ \t]*:.*", re.IGNORECASE | re.MULTILINE)
_TAG = re.compile(re.escape(RELIABLE.encode()), re.IGNORECASE)

_STATUSES = {b"%d " % status: status for status in range(100, 700)}
_METHODS = {method.encode("ascii"): method for method in METHODS}


class _More:
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
        "prack_timer",
        "queue",
        "send_lock",
        "shares_transaction",
        "state",
        "unpracked",
        "update",
        "update_timer",
        "waiting",
    )

    def __init__(self) -> None:
        self.locals: dict[str, Any] | None = None
        self.cancel: Request | None = None
        self.on_cancel: list[Callable[[Request | None], Any]] = []
        self.waiting: list[Deferred[Request | None]] = []
        self.on_update: Callable[[Request, Response], Any] | None = None
        # Asked before a response is sent, one response at a time.
        self.on_send: list[Callable[[Response, int], Any]] = []
        self.send_lock: DeferredLock | None = None
        # The state that was told of last (see states).
        self.state = ""
        # Told of the final response: the request, status and body.
        self.on_final: Callable[[Request, int, bytes | str | None], None] | None = None
        # Completes the headers of a 2xx, called with the request and them.
        self.complete: Callable[[Request, HeadersLike], HeadersLike] | None = None
        # The early dialog, and reliable provisional responses.
        self.early: EarlyDialog | None = None
        self.early_id = ""
        self.early_raw = b""
        self.unpracked: Callable[[Request], Any] | bool = False
        self.prack_timer: IDelayedCall | None = None
        self.queue: list[Callable[[], None]] = []
        # The UPDATE in the early dialog that is not answered yet.
        self.update: Request | None = None
        self.update_timer: IDelayedCall | None = None
        # It came with the transaction id of another request, as an UPDATE in an early dialog does.
        self.shares_transaction = False


class _Received:
    """How a message came."""

    __slots__ = ()

    _state: LinkState
    # The tokens of the leading line, or that line while nobody looks.
    _tokens: Sequence[str]

    def _token(self, index: int) -> str:
        tokens = self._tokens
        if type(tokens) is str:
            tokens = tokens.split("|")
        return tokens[index] if index < len(tokens) else ""

    @property
    def link(self) -> DrachtioProtocol:
        """The connection that the message came over."""
        return self._state.link

    @property
    def srf(self) -> Srf:
        """The application that the message came to."""
        return self._state.srf

    @property
    def server(self) -> Server:
        """The server that the message came from."""
        return self._state.server

    @property
    def source(self) -> str:
        """``network``, or ``application`` for requests that the server made by itself."""
        return self._token(2)

    @property
    def protocol(self) -> str:
        """``udp``, ``tcp`` (also for WebSockets), ``tls``, or empty (for an ACK)."""
        return self._token(4)

    @property
    def source_address(self) -> str:
        """The address of the sender; empty for responses that the server made up."""
        return self._token(5)

    @property
    def source_port(self) -> int:
        """The port of the sender; 5060 when the server did not say."""
        port = grammar.decimal(self._token(6))
        return 5060 if port is None else port

    @property
    def stack_time(self) -> str:
        """When the server got the message: ``HH:MM:SS.uuuuuu``, UTC."""
        return self._token(7)

    @property
    def stack_txn_id(self) -> str:
        """The server's name of the transaction."""
        return self._token(8)

    @property
    def stack_dialog_id(self) -> str:
        """The server's name of the dialog; empty outside of dialogs."""
        return self._token(9)

    @property
    def received_on(self) -> str:
        """``host:port`` where a new request arrived, otherwise empty."""
        host = self._token(10)
        return f"{host}:{self._token(11)}" if host else ""

    @property
    def session_token(self) -> str:
        """The session token of older servers; empty with the current ones."""
        return self._token(12)


class Request(_Received, sip.Request):
    """A request from the network."""

    __slots__ = ("_final", "_more", "_res", "_state", "_tokens", "canceled")

    # The final response that was sent or that somebody else sent; 0 while there is none.
    _final: int
    _more: _More | None
    # Only while a final response may be sent: the two would keep each other alive otherwise.
    _res: Response | None

    canceled: bool
    """Whether the caller has given up."""

    @property
    def res(self) -> Response:
        """The way to answer this request."""
        res = self._res
        if res is None:
            res = _make_response(self)
            if self._final:
                res._status = self._final
            elif not self._state.link.closed:
                self._res = res
        return res

    @property
    def locals(self) -> dict[str, Any]:
        """What the handlers of this request want to tell each other."""
        more = self._extended()
        if more.locals is None:
            more.locals = {}
        return more.locals

    def _extended(self) -> _More:
        if self._more is None:
            self._more = _More()
        return self._more

    @property
    def early_dialog(self) -> EarlyDialog | None:
        """What may be said to the caller before the INVITE is answered.

        None before a provisional response other than 100 was confirmed by the server, and again
        when there is a final one.
        """
        more = self._more
        if more is None or not more.early_id or self._final >= 200:
            return None
        return self.srf._early_dialog(self)

    def on_cancel(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler when the caller gives up before the INVITE was answered.

        It gets the CANCEL (or the BYE, in an early dialog), or None when the server only said that
        the transaction is gone, or the connection to the server is lost. One that is added too late
        is called at once.
        """
        if self.canceled or (not self._final and self._state.link.closed):
            self._call(handler, self._more.cancel if self._more else None)
        else:
            self._extended().on_cancel.append(handler)
        return handler

    def when_cancelled(self) -> Deferred[Request | None]:
        """Wait for the caller to give up.

        :returns: the CANCEL; None when the request was answered instead. Fails with
            :exc:`ConnectionLost` when the connection goes away.
        """
        if self.canceled:
            return succeed(self._more.cancel if self._more else None)
        if self._final:
            return succeed(None)
        if self._state.link.closed:
            return already_failed(ConnectionLost("the connection of the request is gone"))
        self._state.invites.setdefault(self._token(8), self)  # it is told of a lost connection
        waiting: Deferred[Request | None] = Deferred(self._forget)
        self._extended().waiting.append(waiting)
        return waiting

    def _forget(self, waiting: Deferred[Request | None]) -> None:
        if self._more is not None and waiting in self._more.waiting:
            self._more.waiting.remove(waiting)

    def on_update(self, handler: AnyHandler) -> AnyHandler:
        """Handle UPDATE requests that come before this INVITE is answered.

        The handler takes (req, res). Without one they are answered as RFC 3311 section 5.2 wants:
        an offer with 491 while one of ours is not answered, with 500 and Retry-After while one of
        the caller's is not, anything else with 200.
        """
        if not self._final:
            self._extended().on_update = handler
        return handler

    # Inside

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
        if not self._final and state.srf._event_handlers.get("dialog state"):
            self._report("terminated", event="cancelled")
        pending = state.invites.pop(self._token(8), None)
        if pending is not None and self._more is not None and self._more.shares_transaction:
            pending._cancelled(cancel)  # the INVITE that it came with is over
        if not self._final:
            self._final = 487
            self._res = None
            state.release()
        more = self._more
        if more is None:
            if cancel is not None:
                self._extended().cancel = cancel
            return
        more.cancel = cancel
        self._drop_early()
        handlers, more.on_cancel = more.on_cancel, []
        more.on_update = None
        for handler in handlers:
            self._call(handler, cancel)
        self._tell(cancel)

    def _answered_finally(self) -> None:
        """A final response is on its way, and confirmed."""
        state = self._state
        more = self._more
        if more is None:
            state.invites.pop(self._token(8), None)
        elif not more.shares_transaction:
            state.invites.pop(self._token(8), None)
            self._drop_early()
            more.on_cancel = []
            more.on_update = None
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
        more = self._extended()
        if self.method == "INVITE" and not self._has_to_tag() and more.state != name:
            more.state = name
            states.report(
                self.srf, name, self, states.RECIPIENT, response, event=event, status=status
            )

    def _tell(self, result: Request | None) -> None:
        more = self._more
        if more is not None and more.waiting:
            waiting, more.waiting = more.waiting, []
            for waiter in waiting:
                waiter.callback(result)

    def _drop_early(self) -> None:
        more = self._more
        if more is not None:
            if more.early_id:
                self._state.early.pop(more.early_id, None)
                more.early_id = ""
            early, more.early = more.early, None
            if early is not None:
                early.end(answered=200 <= self._final < 300)
            self._flush_queue()
            self._update_late()

    def _await_prack(self, on_prack: Callable[[Request], Any] | None) -> None:
        """Send nothing more before the PRACK came, or had its time."""
        more = self._extended()
        more.unpracked = on_prack or True
        more.prack_timer = self._state.srf.clock.callLater(_PRACK_TIMEOUT, self._flush_queue)

    def _flush_queue(self) -> None:
        """Send what waited for a PRACK, up to the next reliable response."""
        more = self._more
        if more is not None:
            more.unpracked = False
            timer, more.prack_timer = more.prack_timer, None
            if timer is not None and timer.active():
                timer.cancel()
            self._send_waiting()

    def _send_waiting(self) -> None:
        """Send what waited, as far as nothing is in the way any more."""
        more = self._extended()
        while more.queue:
            if not self._final and not self._state.link.closed and self._has_to_wait():
                return
            more.queue.pop(0)()

    def _has_to_wait(self) -> bool:
        """Whether a response has to wait for a PRACK, or for the answer to an UPDATE."""
        more = self._more
        if more is None:
            return False
        return bool(more.unpracked) or (more.update is not None and not more.update._final)

    def _update_came(self, update: Request) -> None:
        """Note an UPDATE in the early dialog: no 2xx may overtake its answer.

        The real server would take the answer for one to the INVITE (protocol.md 5.6).
        """
        self._extended().update = update
        update._extended().on_final = lambda *_: self._update_late()

    def _await_update(self) -> None:
        """See to it that what waits for the answer to an UPDATE does not wait for ever."""
        more = self._extended()
        if more.update is not None and more.update_timer is None:
            more.update_timer = self._state.srf.clock.callLater(_UPDATE_TIMEOUT, self._update_late)

    def _update_late(self) -> None:
        """Wait no longer for the answer to an UPDATE."""
        more = self._extended()
        more.update = None
        timer, more.update_timer = more.update_timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self._send_waiting()

    def _link_lost(self, reason: ConnectionLost) -> None:
        """The connection is gone, and with it every way to answer."""
        if self._state.srf._event_handlers.get("dialog state"):
            self._report("terminated", event="error")
        more = self._more
        if more is not None:
            handlers, more.on_cancel = more.on_cancel, []
            for handler in handlers:
                self._call(handler, None)
            waiting, more.waiting = more.waiting, []
            for waiter in waiting:
                waiter.errback(Failure(reason))
            self._flush_queue()
            self._update_late()
        self._res = None

    def _compact(self) -> None:
        """Keep less while nobody looks; for requests that are kept as long as a dialog lasts."""
        tokens = self._tokens
        if type(tokens) is not str:
            self._tokens = "|".join(tokens)
        self._headers = None if not self._is_changed() else self._headers

    def _is_changed(self) -> bool:
        return self._headers is not None and self._headers._changed


def run_handler(request: sip.Request, handler: Callable[..., Any], *args: Any) -> None:
    """Run a handler of a request whose failure can only be logged."""

    def done(failure: Failure | None) -> None:
        if failure is None:
            return
        if failure.check(ConnectionLost) is not None:
            _log.info(
                "a handler of {method} was cut short: {error}, Call-ID {call_id}",
                method=request.method,
                error=failure.value,
                call_id=request.get("Call-ID"),
            )
            return
        _log.failure(
            "a handler of {method} failed, Call-ID {call_id}",
            failure,
            method=request.method,
            call_id=request.get("Call-ID"),
        )

    try:
        result = handler(*args)
    except Exception:
        done(Failure())
    else:
        if result is not None:
            settle(result, done)


def make_request(state: LinkState, tokens: Sequence[str], raw: bytes) -> Request:
    """Wrap a request as the server delivered it; nothing of it is parsed."""
    self = Request.__new__(Request)
    self._raw = raw
    self._headers = self._body = self._uri = self._version = None
    self._method = _METHODS.get(raw[: raw.find(b" ")])
    self._changed_line = False
    self._state = state
    self._tokens = tokens
    self._final = 0
    self._more = self._res = None
    self.canceled = False
    if tokens[8] in state.requests or tokens[8] in state.invites:
        # Another request has this transaction id: the answer has to say what it is for.
        self._more = _More()
        self._more.shares_transaction = True
    return self


class ReceivedResponse(_Received, sip.Response):
    """A response from the network to a request of ours."""

    __slots__ = ("_state", "_tokens")

    @property
    def early_dialog(self) -> EarlyDialog | None:
        """What may be said to whom this provisional response is from, before the call is answered.

        None for any other response, for one without a To tag, and when the INVITE has its final
        response.
        """
        return self.srf._early_dialog_of(self)


def make_received_response(state: LinkState, tokens: Sequence[str], raw: bytes) -> ReceivedResponse:
    """Wrap a response as the server delivered it."""
    self = ReceivedResponse.__new__(ReceivedResponse)
    self._raw = raw
    self._headers = self._body = self._reason = self._version = None
    self._status = _STATUSES.get(raw[8:12])  # None for an odd line, which is read when asked for
    self._changed_line = False
    self._state = state
    self._tokens = tokens
    return self


def made_up_response(state: LinkState, status: int, reason: str) -> ReceivedResponse:
    """Make a response in place of one that will not come, as servers do for silent peers."""
    raw = encode_response(status, reason)
    return make_received_response(
        state, ["", "sip", "application", "0", "", "", "0", "", "", ""], raw
    )


class Response(sip.Response):
    """The way to answer a request.

    Headers and a body that are set on it go out with every response that is sent; those given to
    :meth:`send` only with that one, and in place of those.
    """

    __slots__ = ("req",)

    req: Request
    """The request to be answered."""

    @property  # type: ignore[misc]
    def status(self) -> int:
        """The status that was sent last; 0 before anything was."""
        return self._status or 0

    @property
    def finished(self) -> bool:
        """Whether nothing more can be sent: a final response was, or the caller has gone."""
        return self.req._final != 0

    @property
    def final_response_sent(self) -> bool:
        """Whether nothing more can be sent, as :attr:`finished`."""
        return self.req._final != 0

    @property
    def headers_sent(self) -> bool:
        """Whether nothing more can be sent, as :attr:`finished`."""
        return self.req._final != 0

    @property
    def link(self) -> DrachtioProtocol:
        """The connection that the request came over."""
        return self.req._state.link

    @property
    def srf(self) -> Srf:
        """The application that the request came to."""
        return self.req._state.srf

    @property
    def locals(self) -> dict[str, Any]:
        """What the handlers of this request want to tell each other, as ``req.locals``."""
        return self.req.locals

    def __repr__(self) -> str:
        return f"<Response {self.status or 'to be sent'} to {self.req!r}>"

    def send(
        self,
        status: int,
        reason: str | None = None,
        headers: HeadersLike = None,
        body: bytes | str | None = None,
        *,
        on_prack: Callable[[Request], Any] | None = None,
    ) -> Deferred[sip.Response]:
        """Send a response.

        The server supplies Via, From, To, Call-ID, CSeq and Contact, and Content-Type for SDP.
        A provisional response with ``Require: 100rel`` is reliable; while its PRACK has not come,
        further responses wait (a real server garbles or does not survive them), for 33 s at most.

        :param status: 100 to 699.
        :param reason: the phrase, the usual one if None.
        :param headers: further headers.
        :param body: text is sent as UTF-8.
        :param on_prack: called with the PRACK of a reliable provisional response.
        :returns: the response as it was sent. Fails with :exc:`SipError` 487 when the caller has
            cancelled, with :exc:`CommandRefused` when the server refuses, with
            :exc:`ConnectionLost`, and with :exc:`LocalProtocolError` after a final response. A
            failure that nobody listens to is logged.
        :raises LocalProtocolError: for what cannot be sent as one well-formed message, and for a
            provisional response to anything but a new INVITE, which servers turn into a 500.
        """
        req = self.req
        if status < 200:
            if req.method != "INVITE" or req._token(9):
                raise LocalProtocolError(f"only a new INVITE has provisional responses: {status}")
            if not (headers is None or isinstance(headers, (Mapping, list))):
                headers = list(headers)  # it is looked at twice
        sending = Sending(self, status)
        more = req._more
        if more is not None and more.on_send:

            def send() -> None:
                try:
                    self._begin(sending, status, reason, headers, body, on_prack)
                except LocalProtocolError as error:
                    sending.fail_later(error)

            self._after_hooks(status, send)
        else:
            self._begin(sending, status, reason, headers, body, on_prack)
        return sending.deferred

    def on_send(self, handler: AnyHandler) -> AnyHandler:
        """Ask a handler before each response that the application sends.

        It gets this object and the status, may set headers and a body, and may take its time: what
        it returns is awaited, and the response, as those behind it, waits so long. One that fails
        is logged, and the response goes out all the same.
        """
        self.req._extended().on_send.append(handler)
        return handler

    def _after_hooks(self, status: int, send: Callable[[], None]) -> None:
        """Send a response once the handlers of :meth:`on_send` have seen it."""
        more = self.req._extended()
        if more.send_lock is None:
            more.send_lock = DeferredLock()

        async def prepared() -> None:
            for hook in tuple(more.on_send):
                try:
                    result = hook(self, status)
                    if isinstance(result, Deferred | Awaitable):
                        await result
                except Exception:
                    _log.failure(
                        "a handler failed before {status} was sent, Call-ID {call_id}",
                        status=status,
                        call_id=self.req.get("Call-ID"),
                    )
            send()

        more.send_lock.run(lambda: started(prepared())).addErrback(
            lambda failure: _log.failure("a response could not be sent", failure)
        )

    def _begin(
        self,
        sending: Sending,
        status: int,
        reason: str | None,
        headers: HeadersLike,
        body: bytes | str | None,
        on_prack: Callable[[Request], Any] | None,
    ) -> None:
        """Send a response now, or when its turn comes."""
        req = self.req
        message = self._encode(status, reason, headers, body)
        reliable = status < 200 and _is_reliable(status, self, headers)
        if reliable:
            message = _with_known_tag(message)
        more = req._more
        if req._final:
            sending.fail_later(_not_sent(req))
        elif more is not None and (
            (more.unpracked and status > 100) or (200 <= status < 300 and req._has_to_wait())
        ):
            more.queue.append(lambda: self._send_queued(message, sending, reliable, on_prack, body))
            req._await_update()
        else:
            sent = self._transmit(message, sending)
            if more is not None and more.on_final is not None and status >= 200 and sent:
                more.on_final(req, status, body)
            if reliable and sent:
                self._sent_reliably(message, on_prack)

    def _encode(
        self,
        status: int,
        reason: str | None,
        headers: HeadersLike,
        body: bytes | str | None,
    ) -> bytes:
        if body is None:
            body = self._body
            if body is None:
                body = b""
        more = self.req._more
        if self._headers is not None or (more is not None and more.shares_transaction):
            headers = self._all_headers(headers, bool(body))
        if more is not None and more.complete is not None and 200 <= status < 300:
            headers = more.complete(self.req, headers)
        if 200 <= status < 300 and self.req.method == "SUBSCRIBE":
            headers = _with_expires(self.req, headers)
        return encode_response(status, reason, headers, body, typed=True)

    def _all_headers(self, headers: HeadersLike, has_body: bool) -> HeadersLike:
        """Join the headers that were set with those given."""
        given = sip.Headers(headers)
        joined = sip.Headers()
        if self._headers is not None:
            for name, value in self._headers.items():
                if not given.has(name):
                    joined.add(name, value)
        for name, value in given.items():
            joined.add(name, value)
        if self.req._more is not None and self.req._more.shares_transaction:
            # The server tells by this line that it is not the INVITE that is answered.
            if not joined.has("CSeq"):
                joined.add("CSeq", self.req.get("CSeq"))
            if has_body and not joined.has("Content-Type"):
                joined.add("Content-Type", "application/sdp")
        return joined.items()

    def _transmit(self, message: bytes, sending: Any) -> bool:
        """Hand a response to the server.

        :returns: whether the connection is still there.
        """
        req = self.req
        status: int = sending.status
        try:
            req._state.link.send_message(req._token(8), "", message, sending)
        except ConnectionLost as error:
            sending.fail_later(error)
            return False
        self._status = status
        if status >= 200:
            req._final = status
            req._res = None
        return True

    def _send_queued(
        self,
        message: bytes,
        sending: Sending,
        reliable: bool,
        on_prack: Callable[[Request], Any] | None,
        body: bytes | str | None,
    ) -> None:
        """Send what waited for a PRACK, or for the answer to an UPDATE."""
        if self.req._final:
            sending.fail_later(_not_sent(self.req))
            return
        try:
            sent = self._transmit(message, sending)
        except LocalProtocolError as error:
            sending.fail_later(error)
        else:
            more = self.req._more
            if more is not None and more.on_final is not None and sending.status >= 200 and sent:
                more.on_final(self.req, sending.status, body)
            if reliable and sent:
                self._sent_reliably(message, on_prack)

    def _sent_reliably(self, message: bytes, on_prack: Callable[[Request], Any] | None) -> None:
        """Note what a reliable response describes, and send nothing more before its PRACK."""
        req = self.req
        sdp = message.partition(b"\r\n\r\n")[2]
        req.srf._early_dialog(req).session.sent(sdp, in_response=True)
        req._await_prack(on_prack)


def _with_known_tag(message: bytes) -> bytes:
    """Write the tag of reliable responses in small letters, as a real server looks for it."""
    known = RELIABLE.encode()
    head, gap, body = message.partition(b"\r\n\r\n")
    return _REQUIRE.sub(lambda line: _TAG.sub(known, line[0]), head) + gap + body


def _with_expires(req: Request, headers: HeadersLike) -> HeadersLike:
    """Say how long a subscription lasts: as long as it was asked for (RFC 6665 section 3.1.1)."""
    asked = (req.get("Expires") or "").strip()
    if asked == "0":
        return headers  # it is over, as everybody knows who sent that
    joined = sip.Headers(headers)
    joined.add_missing({"Expires": asked if is_legible("Expires", asked) else str(SUBSCRIPTION)})
    return joined.items()


def _make_response(req: Request) -> Response:
    self = Response.__new__(Response)
    self._raw = b""
    self._headers = self._body = self._status = self._reason = None
    self._version = "2.0"
    self._changed_line = False
    self.req = req
    return self


def _not_sent(req: Request) -> Exception:
    if req.canceled:
        return SipError(487, "Request Terminated")
    return LocalProtocolError("the request has its final response already")


def _is_reliable(status: int, res: Response, headers: HeadersLike) -> bool:
    if status == 100 or (headers is None and res._headers is None):
        return False
    joined = sip.Headers(res._all_headers(headers, False))
    return lists_option(joined.get_all("Require"), RELIABLE)


class Sending:
    """A response that the server has not confirmed yet."""

    __slots__ = ("deferred", "res", "status")

    def __init__(self, res: Response, status: int) -> None:
        self.res = res
        self.status = status
        self.deferred: Handed[sip.Response] = Handed()

    def answered(self, answer: Answer) -> None:
        """The server sent the response, or refused to."""
        req = self.res.req
        if answer.tokens[3] == "OK":
            if req._state.srf._event_handlers.get("dialog state"):
                self._report(req, answer)
            if self.status >= 200:
                req._answered_finally()
            elif self.status > 100 and not req._final:
                self._ring(req, answer)
            self.deferred.callback(sip.Response.from_bytes(answer.raw))
            return
        text = answer.text
        if UNKNOWN_TRANSACTION in text:
            req._cancelled(None)
        if self.status >= 200:
            req._answered_finally()
        else:
            req._flush_queue()  # no PRACK comes for what was not sent
        error = SipError(487, "Request Terminated") if req.canceled else CommandRefused(text)
        refused = partial(_log_unsent, req, self.status, CommandRefused(text))
        self.deferred.fail(error, lambda _: refused())

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away before the server said anything."""
        self.deferred.fail(reason, partial(_log_unsent, self.res.req, self.status))

    def fail_later(self, error: Exception) -> None:
        """Fail in a moment: nothing was sent."""
        req = self.res.req
        fail_later(req._state, self.deferred, error, partial(_log_unsent, req, self.status))

    def _ring(self, req: Request, answer: Answer) -> None:
        """Know the early dialog that a provisional response made."""
        more = req._extended()
        dialog_id = answer.dialog_id
        if dialog_id and not more.early_id and names(dialog_id, req):
            more.early_id = dialog_id
            more.early_raw = answer.raw
            req._state.early[dialog_id] = req
            if more.early is not None:
                more.early.id = dialog_id

    def _report(self, req: Request, answer: Answer) -> None:
        """Tell those who watch the states of calls."""
        status = self.status
        if 100 < status < 200:
            req._report("early", sip.Response.from_bytes(answer.raw), status=status)
        elif status >= 300:
            req._report("terminated", event="rejected", status=status)


def _log_unsent(req: Request, status: int, error: Exception) -> None:
    """Log a failure that nobody listens to."""
    # A caller that has gone, and a server that has, are routine; anything else is a fault.
    routine = isinstance(error, (ConnectionLost, SipError)) or (
        isinstance(error, CommandRefused)
        and (UNKNOWN_TRANSACTION in error.text or _TRANSPORT_CLOSED in error.text)
    )
    _log.emit(
        LogLevel.info if routine else LogLevel.warn,
        "the response {status} to {method} was not sent: {error}, Call-ID {call_id}",
        status=status,
        method=req.method,
        error=error,
        call_id=req.get("Call-ID"),
    )


class Automatic:
    """A response that the framework sent by itself; nobody waits for it."""

    __slots__ = ("_req",)

    def __init__(self, req: Request) -> None:
        self._req = req

    def answered(self, answer: Answer) -> None:
        """The server sent the response, or refused to, which makes no difference."""
        self._req._state.release()

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away, which the request knows otherwise."""


OK = encode_response(200)
"""The answer to a BYE."""


def answer_ok(req: Request) -> None:
    """Answer a request in a dialog with a plain 200, without further ado."""
    if req._more is not None and req._more.shares_transaction:
        req.res.send(200)
        return
    req._final = 200
    try:
        req._state.link.send_message(req._tokens[8], "", OK, Automatic(req))
    except ConnectionLost:
        pass
