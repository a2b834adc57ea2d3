"""The response to a request: a draft until it is sent, then the server's business.

:class:`Response` collects headers and a body, and is sent as often as there is something to say: a
provisional response, or several, and one final one. What goes out is bytes, made then; each is a
:class:`Sending` until the server has confirmed it, with the message as it was sent, or refused it.
The refusal "unknown transaction" means that the caller has gone: he cancelled, or his connection
broke.

On its way out a response passes, in this order: the hooks of :meth:`Response.on_send`, which may
take their time; the queue of what has to wait for a PRACK or for the answer to an UPDATE
(:mod:`~drachtwist.app.response_queue`); the connection. Whether there is still somebody to answer
is asked anew behind each.
"""

from __future__ import annotations

import random
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.logger import LogLevel

from drachtwist import sip
from drachtwist.app.answer_state import AnswerState
from drachtwist.app.interfaces import AnySendHook
from drachtwist.app.mistakes import no_handler, said
from drachtwist.app.outcomes import started
from drachtwist.app.results import Receipt, fail_later, references
from drachtwist.app.validation import names
from drachtwist.errors import CommandRefused, ConnectionLost, LocalProtocolError, SipError
from drachtwist.net.logs import Logger
from drachtwist.sip.encoding import checked_status, encode_response
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.options import RELIABLE, lists_option
from drachtwist.sip.registry import is_legible
from drachtwist.sip.status import reason_phrase
from drachtwist.wire.commands import Answer
from drachtwist.wire.reports import TRANSACTION_ID

if TYPE_CHECKING:
    from drachtwist.app.request import Request
    from drachtwist.app.srf import Srf
    from drachtwist.net.protocol import DrachtioProtocol

__all__ = ["ANSWERED_OK", "Response", "Sending", "answer_ok", "come_again", "make_response"]

_log = Logger(namespace="drachtwist.app.response")

_UNKNOWN_TRANSACTION = "unknown transaction"
_OPEN = AnswerState.OPEN

SUBSCRIPTION = 3600
"""Seconds of a subscription that does not say how long it is to last."""

_TRANSPORT_CLOSED = "transport for response has been shutdown"

_REQUIRE = re.compile(rb"^Require[ \t]*:.*", re.IGNORECASE | re.MULTILINE)
_TAG = re.compile(re.escape(RELIABLE.encode()), re.IGNORECASE)


class Response(sip.Message):
    """The way to answer a request.

    Headers and a body that are set on it go out with every response that is sent; those given to
    :meth:`send` only with that one, and in place of those.
    """

    __slots__ = ("req", "status")

    req: Request
    """The request to be answered."""

    status: int
    """The status that was sent last; 0 before anything was."""

    @property
    def reason(self) -> str:
        """The usual phrase of :attr:`status`; empty before anything was sent."""
        return reason_phrase(self.status) if self.status else ""

    @property
    def finished(self) -> bool:
        """Whether nothing more can be sent: a final response was, or the caller has gone."""
        return self.req._answer is not _OPEN

    @property
    def final_response_sent(self) -> bool:
        """Whether nothing more can be sent, as :attr:`finished`."""
        return self.req._answer is not _OPEN

    @property
    def headers_sent(self) -> bool:
        """Whether nothing more can be sent, as :attr:`finished`."""
        return self.req._answer is not _OPEN

    @property
    def link(self) -> DrachtioProtocol:
        """The connection that the request came over."""
        return self.req._state.link

    @property
    def srf(self) -> Srf:
        """The application that the request came to."""
        srf: Srf = self.req._state.owner.srf
        return srf

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
        try:
            is_provisional = status < 200
        except TypeError:
            is_provisional = checked_status(status) < 200  # which says what a status is
        if is_provisional:
            if on_prack is not None and not callable(on_prack):
                raise LocalProtocolError(f"on_prack takes a function, not {said(on_prack)}")
            if req.method != "INVITE" or req._token(9):
                raise LocalProtocolError(f"only a new INVITE has provisional responses: {status}")
            if not (headers is None or isinstance(headers, (Mapping, list))):
                headers = list(headers)  # it is looked at twice
        sending = Sending(self, status)
        extras = req._extras
        if extras is not None and extras.on_send:

            def send() -> None:
                try:
                    self._begin(sending, status, reason, headers, body, on_prack)
                except LocalProtocolError as error:
                    sending.fail_later(error)

            self._after_hooks(status, send)
        else:
            self._begin(sending, status, reason, headers, body, on_prack)
        return sending.deferred

    def on_send(self, handler: AnySendHook) -> AnySendHook:
        """Ask a handler before each response that the application sends.

        It gets this object and the status, may set headers and a body, and may take its time: what
        it returns is awaited, and the response, as those behind it, waits so long. One that fails
        is logged, and the response goes out all the same.
        """
        if not callable(handler):
            raise no_handler(handler)
        self.req._extended().on_send.append(handler)
        return handler

    def _after_hooks(self, status: int, send: Callable[[], None]) -> None:
        """Send a response once the handlers of :meth:`on_send` have seen it."""
        extras = self.req._extended()
        if extras.send_lock is None:
            extras.send_lock = DeferredLock()

        async def prepared() -> None:
            for hook in tuple(extras.on_send):
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

        extras.send_lock.run(lambda: started(prepared())).addErrback(
            lambda failure: _log.failure(
                "a response could not be sent, Call-ID {call_id}",
                failure,
                call_id=self.req.get("Call-ID"),
            )
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
        if req._answer is not _OPEN:
            sending.fail_later(req._why_not_sent())
        elif req._extras is None and not reliable:
            self._transmit(message, sending)  # most responses: nobody else waits for them
        elif req._holds(status):
            req._hold(lambda: self._send_held(message, sending, reliable, on_prack, body))
        else:
            self._send_now(message, sending, reliable, on_prack, body)

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
        extras = self.req._extras
        if self._headers is not None or (extras is not None and extras.shares_transaction):
            headers = self._all_headers(headers, bool(body))
        if extras is not None and extras.complete is not None and 200 <= status < 300:
            headers = extras.complete(self.req, headers)
        # The slot has it, but for odd request lines.
        if 200 <= status < 300 and (self.req._method or self.req.method) == "SUBSCRIBE":
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
        if self.req._shares_transaction():
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
        tokens = req._tokens
        # No call of a property for what stands there, unless the request keeps less meanwhile.
        transaction_id = req.stack_txn_id if type(tokens) is str else tokens[TRANSACTION_ID]
        try:
            req._state.link.send_message(transaction_id, "", message, sending)
        except ConnectionLost as error:
            sending.fail_later(error)
            return False
        self.status = status
        if status >= 200:
            req._answered(status)
        return True

    def _send_now(
        self,
        message: bytes,
        sending: Sending,
        reliable: bool,
        on_prack: Callable[[Request], Any] | None,
        body: bytes | str | None,
    ) -> None:
        """Send what has to wait no longer, and tell those who wait for it."""
        if not self._transmit(message, sending):
            return
        extras = self.req._extras
        if extras is not None and extras.on_final is not None and sending.status >= 200:
            extras.on_final(self.req, sending.status, body)
        if reliable:
            self._sent_reliably(message, on_prack)

    def _send_held(
        self,
        message: bytes,
        sending: Sending,
        reliable: bool,
        on_prack: Callable[[Request], Any] | None,
        body: bytes | str | None,
    ) -> None:
        """Send what waited for a PRACK, or for the answer to an UPDATE."""
        if not self.req.is_open:
            sending.fail_later(self.req._why_not_sent())
            return
        try:
            self._send_now(message, sending, reliable, on_prack, body)
        except LocalProtocolError as error:
            sending.fail_later(error)

    def _sent_reliably(self, message: bytes, on_prack: Callable[[Request], Any] | None) -> None:
        """Note what a reliable response describes, and send nothing more before its PRACK."""
        req = self.req
        sdp = message.partition(b"\r\n\r\n")[2]
        req._state.owner.early_dialogs.of_caller(req).session.sent(sdp, in_response=True)
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


def make_response(req: Request, status: int = 0) -> Response:
    """Make the draft of the response to a request.

    :param status: of the response that was sent already, if one was.
    """
    self = Response.__new__(Response)
    self._raw = b""
    self._headers = self._body = None
    self.status = status
    self.req = req
    return self


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
        self.deferred: Receipt[sip.Response] = Receipt()

    def answered(self, answer: Answer) -> None:
        """The server sent the response, or refused to."""
        req = self.res.req
        if answer.ok:
            if req._state.events.dialog_state.handlers:
                self._report(req, answer)
            if self.status >= 200:
                calls = req._state.events.calls
                if self.status >= 300 and calls is not None:
                    calls.refused(req, self.status, answer.time)
                req._answered_finally()
            elif self.status > 100 and req._answer is _OPEN:
                self._ring(req, answer)
            # Most callers drop it, and then there is nobody to make a message for.
            if self.deferred.is_heard or references(self.deferred) > _OURS_ALONE:
                self.deferred.callback(sip.Response.from_bytes(answer.raw))
            return
        text = answer.text
        if answer.is_of_nothing:
            req._cancelled(None)
        if self.status >= 200:
            req._answered_finally()
        else:
            req._prack_over()  # no PRACK comes for what was not sent
        error = SipError(487, "Request Terminated") if req.canceled else CommandRefused(text)
        refused = partial(_log_unsent, req, self.status, CommandRefused(text))
        self.deferred.fail(error, lambda _: refused())

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away before the server said anything."""
        self.deferred.fail(reason, partial(_log_unsent, self.res.req, self.status))

    def fail_later(self, error: Exception) -> None:
        """Fail in a moment: nothing was sent."""
        req = self.res.req
        fail_later(req._state.clock, self.deferred, error, partial(_log_unsent, req, self.status))

    def _ring(self, req: Request, answer: Answer) -> None:
        """Know the early dialog that a provisional response made."""
        extras = req._extended()
        dialog_id = answer.dialog_id
        if dialog_id and not extras.early_id and names(dialog_id, req):
            extras.early_id = dialog_id
            extras.early_raw = answer.raw
            req._state.early[dialog_id] = req
            if extras.early is not None:
                extras.early.id = dialog_id

    def _report(self, req: Request, answer: Answer) -> None:
        """Tell those who watch the states of calls."""
        status = self.status
        if 100 < status < 200:
            req._report("early", sip.Response.from_bytes(answer.raw), status=status)
        elif status >= 300:
            req._report("terminated", event="rejected", status=status)


def _ours_alone() -> int:
    """Count who knows a Deferred that only its :class:`Sending` has."""
    sending = Sending.__new__(Sending)
    sending.deferred = Receipt()
    return references(sending.deferred)


_OURS_ALONE = _ours_alone()


def _log_unsent(req: Request, status: int, error: Exception) -> None:
    """Log a failure that nobody listens to."""
    # A caller that has gone, and a server that has, are routine; anything else is a fault.
    routine = isinstance(error, (ConnectionLost, SipError)) or (
        isinstance(error, CommandRefused)
        and (_UNKNOWN_TRANSACTION in error.text or _TRANSPORT_CLOSED in error.text)
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

ANSWERED_OK = frozenset({"INFO", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER"})
"""Methods that are answered 200 in a dialog when nobody handles them."""


def answer_ok(req: Request) -> None:
    """Answer a request in a dialog with a plain 200, without further ado."""
    if req._extras is not None and req._extras.shares_transaction:
        req.res.send(200)
        return
    req._answered(200)
    try:
        req._state.link.send_message(req._tokens[TRANSACTION_ID], "", OK, Automatic(req))
    except ConnectionLost:
        pass


def come_again(req: Request) -> None:
    """Let a peer that was too early try again, within ten seconds.

    That is what becomes of an offer while another one of the peer's is not answered (RFC 3261
    section 14.2, RFC 3311 section 5.2).
    """
    req.res.send(500, headers={"Retry-After": str(random.randint(0, 10))})
