"""A request of the application, outside of dialogs or to make one, with all its repetitions.

What the application asks for is one request; what is sent may be several. A challenge is answered
with the same request and credentials (:mod:`~drachtwist.app.authentication`), a redirect is
followed to the next contact (:mod:`~drachtwist.app.redirects`), and each is a transaction of its
own. :class:`ClientRequest` is where they are one: it has a state (:class:`State`), and in the end
one outcome, a final response or what came instead.

That somebody gave up (``cancelled``) is a fact besides the state. A request may be cancelled at any
moment: before the server has named its transaction the CANCEL waits for that name, between a
challenge and its answer the answer is not sent. Only an INVITE is cancelled (RFC 3261 section 9.1),
and what the callee says to it is still the outcome: a 200 may have crossed the CANCEL. When a
server says nothing at all the outcome is a 487 made here.

An INVITE that rings has early dialogs (:mod:`~drachtwist.app.ringing`). Reliable provisional
responses are acknowledged here with a PRACK (RFC 3262), which may bear an answer that the
application takes its time to make.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from drachtwist.app import dialog_info
from drachtwist.app.authentication import Auth, Challenged, Realms, place_of, source_of
from drachtwist.app.cancelling import Cancel
from drachtwist.app.connection import Connection
from drachtwist.app.early import EarlyDialog
from drachtwist.app.handlers import settle
from drachtwist.app.outcomes import started
from drachtwist.app.outgoing_request import OutgoingRequest
from drachtwist.app.received import ReceivedResponse, make_received_response
from drachtwist.app.redirects import Redirects
from drachtwist.app.request import Request
from drachtwist.app.results import Result
from drachtwist.app.ringing import Ringing
from drachtwist.app.targets import check_request, with_contact
from drachtwist.app.validation import BAR, names
from drachtwist.errors import (
    CommandRefused,
    ConnectionLost,
    LocalProtocolError,
    SipError,
)
from drachtwist.net.logs import Logger
from drachtwist.sip.encoding import encode_request
from drachtwist.sip.headers import Headers, HeadersLike
from drachtwist.sip.sdp import description_of
from drachtwist.sip.targets import split_target
from drachtwist.wire.commands import Answer

__all__ = [
    "TRANSITIONS",
    "ClientRequest",
    "PendingRequest",
    "State",
    "send_request",
]

_log = Logger()


class State(Enum):
    """Where a request of the application is."""

    PREPARED = "nothing was sent"
    SENDING = "the server has it, and has not named its transaction"
    SENT = "it waits for a final response"
    RINGING = "it does, and there are early dialogs"
    CHALLENGED = "the answer to a challenge is being made"
    OVER = "there is an outcome"

    __hash__ = object.__hash__  # there is one of each; Enum's own takes a call


_REPEATED = "to the next contact of a redirect"

# They are asked for with every message; up to Python 3.11 a look into an Enum takes a call.
_PREPARED, _SENDING, _SENT, _RINGING, _CHALLENGED, _OVER = State

TRANSITIONS: Mapping[State, Mapping[State, str]] = {
    State.PREPARED: {State.SENDING: "send", State.OVER: "the connection is gone"},
    State.SENDING: {
        State.SENT: "the server sent it; now it may be cancelled",
        State.OVER: "the server refuses to send it, and no contact is left; connection lost",
    },
    State.SENT: {
        State.RINGING: "1xx of an INVITE, with a To tag",
        State.CHALLENGED: "401, 407",
        State.SENDING: _REPEATED,
        State.OVER: "a final response; silence behind a CANCEL; connection lost",
    },
    State.RINGING: {
        State.CHALLENGED: "401, 407",
        State.SENDING: _REPEATED,
        State.OVER: "as in SENT; BYE of the callee; 240 s of silence",
    },
    State.CHALLENGED: {
        State.SENDING: "again, with credentials",
        State.OVER: "there are none, it was cancelled, or the connection is lost",
    },
    State.OVER: {},
}
"""Which state may follow which, and why. Where the server refuses to send it to one contact and
another is left, SENDING begins anew."""


class PendingRequest(Result[ReceivedResponse]):
    """A request that was sent: fires with its final response, whichever it is.

    Cancelling it, also by ``addTimeout``, cancels an INVITE; of another request only nobody waits
    for the response any more.
    """

    request: OutgoingRequest | None = None
    """The request as the server sent it; None until it has."""

    def __init__(self, client: ClientRequest) -> None:
        super().__init__(lambda _: client.cancel())
        self._cancel_request = client.cancel

    def cancel_request(self, headers: HeadersLike = None) -> None:
        """Cancel an INVITE (RFC 3261 section 9.1), and wait for what comes of it.

        :param headers: headers of the CANCEL, Reason for example.
        """
        self._cancel_request(headers)


class ClientRequest:
    """A request on its way, with all repetitions of it.

    :param state: the connection to send it on.
    :param method: the method.
    :param uri: whom it is for, with the headers that it wants (RFC 3261 section 19.1.5).
    :param headers: of the application.
    :param body: of the application.
    :param proxy: a SIP URI to send it to, instead of ``uri``.
    :param auth: what answers challenges; without it they are the outcome.
    :param follow_redirects: try the contacts of a 3xx; otherwise it is the outcome.
    :param keep_uri_on_redirect: with the same Request-URI.
    :param on_request: called with each request as the server sent it.
    :param on_provisional: called with each provisional response; see ``create_uac``.
    :param on_update: answers UPDATEs of the callee before the final response.
    """

    __slots__ = (
        "_cancel",
        "_cancel_headers",
        "_follow",
        "_given",
        "_keep_uri",
        "_proxy",
        "_redirects",
        "_ringing",
        "_route",
        "_transaction_id",
        "_waiting",
        "at",
        "body",
        "cancelled",
        "challenged",
        "headers",
        "method",
        "on_behalf",
        "on_bye",
        "on_final",
        "on_provisional",
        "on_request",
        "on_update",
        "outcome",
        "request",
        "shows_number",
        "state",
        "told",
        "uri",
    )

    def __init__(
        self,
        state: Connection,
        method: str,
        uri: str,
        *,
        headers: HeadersLike = None,
        body: bytes | str = b"",
        proxy: str = "",
        auth: Auth | None = None,
        follow_redirects: bool = False,
        keep_uri_on_redirect: bool = False,
        on_request: Callable[[OutgoingRequest], Any] | None = None,
        on_provisional: Callable[[ReceivedResponse], Any] | None = None,
        on_update: Callable[..., Any] | None = None,
    ) -> None:
        self.at = _PREPARED
        """Where it is."""
        self.state = state
        """The connection."""
        self.method = method
        # The application's own, and once it was repeated what was added.
        self.headers: HeadersLike = headers
        self._given: HeadersLike = headers
        self.uri = uri
        if "?" in uri or ";" in uri:
            self._aim(uri)
        self.body = body
        self._route = self._proxy = proxy
        self.on_behalf: Request | None = None
        """The caller whom it is placed for, if it is one leg of a call."""
        self.shows_number = False
        """Whether its Contact is one that we wrote, with the number of who calls."""
        self.challenged = None if auth is None else Challenged(Realms(auth))
        """What it takes to answer challenges, if there are credentials."""
        self._follow = follow_redirects
        self._keep_uri = keep_uri_on_redirect
        self._redirects: Redirects | None = None
        self.on_request = on_request
        self.on_provisional = on_provisional
        self.on_update = on_update
        self.on_final: Callable[[ReceivedResponse | Exception], None] | None = None
        """Called with the outcome."""
        self.on_bye: Callable[[], None] | None = None
        """Called when the callee ends the call before it has answered."""
        self.request: OutgoingRequest | None = None
        """The request as it was sent last."""
        self.cancelled = False
        """Whether somebody gave up."""
        self._cancel_headers: HeadersLike = None
        # Once it was sent.
        self._cancel: Cancel | None = None
        self._transaction_id = ""
        # While it rings.
        self._ringing: Ringing | None = None
        self.told = ""
        """The state of the call that was told of last (see dialog_info)."""
        self.outcome: ReceivedResponse | Exception | None = None
        self._waiting: list[Result[ReceivedResponse]] = []

    def _enter(self, at: State) -> None:
        assert at is self.at or at in TRANSITIONS[self.at], f"{self.at} does not become {at}"
        self.at = at

    @property
    def over(self) -> bool:
        """Whether there is an outcome."""
        return self.at is _OVER

    @property
    def sent(self) -> bool:
        """Whether the request was ever handed to the server."""
        return self.at is not _PREPARED

    def _aim(self, target: str) -> None:
        """Go to a URI, with the headers that it wants (RFC 3261 section 19.1.5)."""
        self.uri, added = split_target(target)
        if added:
            joined = Headers(self.headers)
            joined.add_missing(added)
            self.headers = joined.items()

    def give(self, headers: HeadersLike) -> None:
        """Take other headers than it was made with."""
        self.headers = self._given = headers

    def wait(self, deferred: PendingRequest | None = None) -> Deferred[ReceivedResponse]:
        """Wait for the outcome.

        :param deferred: fire this one.
        """
        waiting: Result[ReceivedResponse] = Result() if deferred is None else deferred
        if self.outcome is None:
            self._waiting.append(waiting)
        elif isinstance(self.outcome, Exception):
            waiting.errback(self.outcome)
        else:
            waiting.callback(self.outcome)
        return waiting

    def send(self) -> None:
        """Send the request.

        :raises LocalProtocolError: for what cannot be sent as one well-formed message.
        """
        headers = self.headers
        challenged = self.challenged
        if challenged is not None:
            realms = challenged.realms
            if not self.sent:
                realms.adopt(self.state.owner.nonces.find(self._place, realms.auth))
            headers = realms.joined(headers, self.method, self.uri, self.body)
        if self.shows_number:
            headers = with_contact(headers, self._route or self.uri)
        message = encode_request(self.method, self.uri, headers, self.body, typed=True)
        state = self.state
        if self.method == "REGISTER" or self.uri[:3].lower() != "sip":
            check_request(state, self.method, self.uri, headers)
        self._transaction_id = ""
        if self._ringing is not None:
            self._ringing.repeat()
        state.use()
        try:
            state.link.send_message("", "", message, self, self._route)
        except ConnectionLost as error:
            state.clock.callLater(0, self._end, error)
        except LocalProtocolError:
            state.release()
            raise
        else:
            self._enter(_SENDING)
            state.unconfirmed += 1

    @property
    def _place(self) -> str:
        """Who asks for credentials: nonces are theirs."""
        return place_of(self._route or self.uri)

    # Cancelling

    def cancel(self, headers: HeadersLike = None) -> None:
        """Cancel the request at the next opportunity."""
        if self.cancelled or self.over:
            return
        self.cancelled = True
        self._cancel_headers = headers
        if self._transaction_id:
            self._send_cancel()

    def _send_cancel(self) -> None:
        if self._cancel is not None or self.method != "INVITE":
            return
        self._cancel = Cancel(self.state.clock, self._forgotten)
        request = self.request
        message = encode_request(
            "CANCEL", self.uri if request is None else request.uri, self._cancel_headers, typed=True
        )
        self._cancel.send(self.state.link, self._transaction_id, message)

    def _forgotten(self) -> None:
        """Nobody ends what was cancelled."""
        self.state.requests.pop(self._transaction_id, None)
        self._end(SipError(487, "Request Terminated"))

    # What the link reports

    def answered(self, answer: Answer) -> None:
        """The server sent the request, or refused to."""
        state = self.state
        if not answer.ok:
            state.unconfirm()
            self._unsent(CommandRefused(answer.text))
            return
        self._enter(_SENT)
        self._transaction_id = answer.transaction_id
        request = OutgoingRequest.from_bytes(answer.raw)
        request._method = self.method
        request._state = state
        request._tokens = answer.tokens
        request._client = self
        request.res = None
        self.request = request
        if self.on_behalf is not None and state.owner.trace is not None:
            state.owner.trace.relate(
                self.on_behalf.get("Call-ID") or "", request.get("Call-ID") or ""
            )
        if self.challenged is not None:
            self.challenged.request = request
        if self.state.events.dialog_state.handlers:
            self.report("trying")
        if self.on_request is not None:
            request._call(self.on_request, request)
        if self.cancelled:
            self._send_cancel()
        state.confirm(self._transaction_id, self)

    def _unsent(self, error: CommandRefused | LocalProtocolError) -> None:
        """Try another contact, if there is one, since the request cannot be sent."""
        redirects = self._redirects
        if redirects is None or self.cancelled:
            self._end(error)
        elif redirects:
            self._next_target(redirects, redirects.refusal)
        else:
            self._end(redirects.refusal)

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away before the server said anything."""
        self._end(reason)

    def link_down(self, reason: ConnectionLost) -> None:
        """The connection went away before the final response."""
        self._end(reason)

    def hang_up(self) -> None:
        """Cancel an INVITE that is not answered, since the application stops."""
        if self.method == "INVITE":
            self.cancel()

    def responded(self, tokens: Sequence[str], raw: bytes) -> None:
        """A response came."""
        response = make_received_response(self.state, tokens, raw)
        if raw.startswith(b"1", 8):
            self._provisional(response)
            return
        status = response.status
        self.state.requests.pop(self._transaction_id, None)
        redirects = self._redirects
        if status in (401, 407) and self._may_answer():
            self._challenged(response)
        elif 300 <= status < 400 and self._follow and not self.cancelled:
            self._redirected(response)
        elif 300 <= status < 600 and redirects and not self.cancelled:
            self._next_target(redirects, response)
        else:
            self._end(response)

    # Provisional responses

    def _provisional(self, response: ReceivedResponse) -> None:
        """Tell the application, and acknowledge what is reliable."""
        number = None
        dialog_id = response.stack_dialog_id
        # Nothing of a response can have shifted the name, unless there is a bar in it.
        is_named = dialog_id and (BAR not in response.raw or names(dialog_id, response))
        if self.method == "INVITE" and response.status > 100 and is_named:
            number = response.reliable_number
            ringing = self._rings(response, dialog_id)
            if number is not None:
                if ringing.is_repeated(number, response):
                    return
                early = self.early_dialog(response.to_tag or "")
                early.session.received(description_of(response), in_response=True)
        if response.status > 100 and self.state.events.dialog_state.handlers:
            self.report("early" if response.to_tag is not None else "proceeding", response)
        result = None
        if self.on_provisional is not None and self.request is not None:
            try:
                result = self.on_provisional(response)
            except Exception:
                _log.failure(
                    "a provisional handler failed, Call-ID {call_id}",
                    call_id=response.get("Call-ID"),
                )
        if number is not None:
            self._prack_with(response, result)
        elif result is not None:
            settle(result, partial(_provisional_done, response))

    def _rings(self, response: ReceivedResponse, dialog_id: str) -> Ringing:
        """Know the early dialog that a provisional response makes, and wait no longer than that."""
        ringing = self._ringing
        if ringing is None:
            ringing = self._ringing = Ringing(self.state, self.body)
        if self.at is not _RINGING:
            self._enter(_RINGING)
        if ringing.rings(response, dialog_id):
            self.state.calling[dialog_id] = self
        # Most have no body, which the last bytes show.
        if not response.raw.endswith(b"\r\n\r\n") and response.body:
            self.early_dialog(response.to_tag or "")
        self.state.ringing.heard(self)
        return ringing

    def silent_too_long(self) -> None:
        """Nothing was heard for longer than any server waits: it has forgotten the INVITE."""
        self.cancel({"Reason": 'SIP;cause=408;text="Request Timeout"'})
        self._end(SipError(408, "Request Timeout"))

    @property
    def rings(self) -> bool:
        """Whether there is an early dialog."""
        return self._ringing is not None and not self.over

    def early_dialog(self, tag: str = "") -> EarlyDialog:
        """Return the early dialog with whom rings.

        :param tag: the To tag of one that rang; otherwise the last one that did.
        """
        assert self._ringing is not None and self.request is not None, "nobody rings"
        realms = None if self.challenged is None else self.challenged.realms
        return self._ringing.early_dialog(tag, self.request, realms)

    def early_of(self, response: ReceivedResponse) -> EarlyDialog | None:
        """Return the early dialog with whom a response is from, if it said anything there."""
        return None if self._ringing is None else self._ringing.early_of(response)

    def hung_up(self, tag: str) -> None:
        """The callee ended an early dialog with a BYE, which is answered.

        :param tag: whose; when others ring too, only that one is over.
        """
        if self._ringing is not None and self._ringing.stops(tag):
            return
        if self.on_bye is not None:
            self.on_bye()
        else:
            self.cancel()
            self._end(SipError(487, "Request Terminated"))

    def report(
        self,
        name: str,
        response: ReceivedResponse | None = None,
        *,
        event: str = "",
        status: int = 0,
    ) -> None:
        """Tell those who watch what has become of a call, once for each state."""
        if self.method != "INVITE" or self.request is None or self.told == name:
            return
        if name == "trying" and self.told:
            return  # it was repeated, with credentials or elsewhere
        self.told = name
        if response is not None:
            status = response.status
        dialog_info.report(
            self.state.events.dialog_state.emit,
            name,
            self.request,
            dialog_info.INITIATOR,
            response,
            event=event,
            status=status,
        )

    def _prack_with(self, response: ReceivedResponse, result: Any) -> None:
        """Acknowledge a reliable response with what a handler returned, perhaps later."""
        if isinstance(result, Deferred):
            waiting: Deferred[Any] = result
        elif isinstance(result, Awaitable):
            waiting = started(result)
        else:
            self._prack(response, result if isinstance(result, bytes | str) else None)
            return
        waiting.addCallbacks(lambda sdp: self._prack(response, sdp), self._prack_failed)

    def _prack_failed(self, failure: Failure) -> None:
        _log.failure(
            "no answer for a reliable provisional response, Call-ID {call_id}",
            failure,
            call_id=None if self.request is None else self.request.get("Call-ID"),
        )
        self.cancel()

    def _prack(self, response: ReceivedResponse, sdp: bytes | str | None) -> None:
        """Acknowledge a reliable provisional response (RFC 3262 section 4)."""
        if self.over:
            return  # the answer was made for a call that is over meanwhile
        self.early_dialog(response.to_tag or "").acknowledge(response, sdp)

    # Challenges

    def _may_answer(self) -> bool:
        challenged = self.challenged
        return challenged is not None and challenged.may_answer() and not self.cancelled

    def _challenged(self, response: ReceivedResponse) -> None:
        """Answer a challenge, if there are credentials."""
        self._enter(_CHALLENGED)
        request, challenged = self.request, self.challenged
        assert request is not None and challenged is not None
        made = challenged.answer(response, self.state.owner.nonces, self._place)

        def answered(found: bool) -> None:
            if not found:
                self._end(response)
            elif self.cancelled:
                self._end(SipError(487, "Request Terminated", response))
            else:
                self._repeat(request, response)

        def failed(failure: Failure) -> None:
            error = failure.value
            self._end(error if isinstance(error, Exception) else response)

        made.addCallback(answered).addErrback(failed)

    def _repeat(self, request: OutgoingRequest, response: ReceivedResponse) -> None:
        """Send the request again, with credentials, to where the challenge came from."""
        repeated = Headers(self.headers)
        for name in ("From", "Call-ID"):
            repeated.set(name, request.get(name) or "")
        repeated.set("CSeq", f"{request.cseq.number + 1} {self.method}")
        self.headers = repeated.items()
        if response.source_address:
            self._route = source_of(response)
        self._again()

    def _again(self) -> None:
        try:
            self.send()
        except LocalProtocolError as error:
            self._unsent(error)
        else:
            self.state.release()

    # Redirects

    def _redirected(self, response: ReceivedResponse) -> None:
        """Try the contacts of a redirect, the best first."""
        redirects = self._redirects
        if redirects is None:
            redirects = self._redirects = Redirects(routed=bool(self._proxy))
        if redirects.add(response, {self._route, self.uri}):
            self._next_target(redirects, response)
        else:
            self._end(response)

    def _next_target(self, redirects: Redirects, response: ReceivedResponse) -> None:
        """Try the next contact.

        :param response: what came last: the outcome if none of those that are left can be tried.
        """
        target = redirects.next(response)
        fresh = Headers(self._given)
        for name in ("Call-ID", "CSeq", "Authorization", "Proxy-Authorization", "Route"):
            fresh.remove(name)
        self.headers = fresh.items()
        if self._keep_uri:
            self._route = target
        else:
            self._aim(target)
            self._route = "" if self.uri[:3].lower() == "sip" else self._proxy
        if self.challenged is not None:
            self.challenged.move()
        self._again()

    # The end

    def forget(self) -> None:
        """Forget who was to be told: what knows us must not be known by us."""
        self.on_final = self.on_bye = self.on_request = None
        self.on_provisional = self.on_update = None
        if self._waiting:
            self._waiting = []

    def _end(self, outcome: ReceivedResponse | Exception) -> None:
        """Come to an outcome, and tell everybody."""
        if self.at is _OVER:
            return
        self._enter(_OVER)
        self.outcome = outcome
        state, ringing = self.state, self._ringing
        if ringing is not None:
            for dialog_id in ringing.ids:
                state.calling.pop(dialog_id, None)
            state.ringing.forget(self)
        if self._cancel is not None:
            self._cancel.stop()
            self._cancel = None
        failure = outcome if isinstance(outcome, Exception) else None
        if self.request is not None and failure is None:
            self.request.res = outcome  # type: ignore[assignment]
        on_final, self.on_final = self.on_final, None
        if on_final is not None:
            on_final(outcome)
        if ringing is not None:
            ringing.end(answered=failure is None and outcome.status == 200)  # type: ignore[union-attr]
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                if each.called:
                    continue  # cancelled: nobody waits any more
                if failure is None:
                    each.callback(outcome)  # type: ignore[arg-type]
                else:
                    call_id = None if self.request is None else self.request.get("Call-ID")
                    each.fail(failure, partial(_log_failure, self.method, self.uri, call_id))
        # What knows us must not be known by us any more: cycles would wait to be collected.
        self.request = None
        if self.challenged is not None:
            self.challenged.request = None
        self.forget()
        state.release()


def send_request(
    client: ClientRequest, on_request: Callable[[OutgoingRequest], Any] | None
) -> PendingRequest:
    """Send a request that somebody waits for, or does not.

    :param on_request: called with the request as the server sent it.
    :raises LocalProtocolError: for what cannot be sent as one well-formed message.
    """
    pending = PendingRequest(client)

    # Weakly: whether anybody keeps it tells whether anybody listens.
    kept = weakref.ref(pending)

    def sent(request: OutgoingRequest) -> Any:
        there = kept()
        if there is not None:
            there.request = request
        return None if on_request is None else on_request(request)

    client.on_request = sent
    client.wait(pending)
    try:
        client.send()
    except LocalProtocolError:
        client.forget()
        raise
    return pending


def _log_failure(method: str, uri: str, call_id: str | None, error: Exception) -> None:
    """Log a failure that nobody listens to.

    :param call_id: of the request; None when it was not sent.
    """
    _log.info(
        "{method} to {uri} failed: {error}, Call-ID {call_id}",
        method=method,
        uri=uri,
        error=error,
        call_id=call_id,
    )


def _provisional_done(response: ReceivedResponse, failure: Failure | None) -> None:
    if failure is not None:
        _log.failure(
            "a provisional handler failed, Call-ID {call_id}",
            failure,
            call_id=response.get("Call-ID"),
        )
