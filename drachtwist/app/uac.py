"""Requests of the application outside of dialogs, and those that make dialogs.

One engine, :class:`Asking`, sends the request, answers challenges, follows redirects, acknowledges
reliable provisional responses, and cancels; :class:`Calling` makes a dialog of the answer.

A request may be cancelled at any moment: before it is sent, before the server has named its
transaction, between a challenge and the request that answers it. A 200 that crosses the CANCEL is
acknowledged and ended with a BYE.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app import states
from drachtwist.app.challenges import Auth, Challenged, Realms, place_of
from drachtwist.app.connection import Connection
from drachtwist.app.dialog import Dialog
from drachtwist.app.early import EarlyDialog, target_of
from drachtwist.app.early_session import EarlySession
from drachtwist.app.handlers import run_handler, settle
from drachtwist.app.interfaces import SdpSource
from drachtwist.app.outcomes import Outcome, started
from drachtwist.app.reaching import Target, way_to
from drachtwist.app.received import Received, ReceivedResponse, make_received_response
from drachtwist.app.response import UNKNOWN_TRANSACTION
from drachtwist.app.results import Result
from drachtwist.app.strangers import names
from drachtwist.app.targets import can_be_called, check_request, complete_uri, with_contact
from drachtwist.errors import (
    CommandRefused,
    ConnectionLost,
    LocalProtocolError,
    MessageError,
    RemoteProtocolError,
    SipError,
)
from drachtwist.net.logs import Logger
from drachtwist.sip.encoding import encode_request
from drachtwist.sip.headers import Headers, HeadersLike
from drachtwist.sip.numbers import sip_uri
from drachtwist.sip.sdp import description_of
from drachtwist.sip.targets import by_preference, split_target
from drachtwist.wire.commands import Answer

if TYPE_CHECKING:
    from drachtwist.app.srf import Srf

__all__ = [
    "Asking",
    "Calling",
    "OutgoingRequest",
    "PendingCall",
    "PendingRequest",
    "prepare_uac",
]

_log = Logger(namespace="drachtwist.app.uac")

MAX_HOPS = 4
"""How many redirects are followed."""
RING_CEILING = 240.0
"""Seconds without a response after which a call that rang is given up.

That is Timer C (RFC 3261 section 16.6), which is longer than 3 minutes. Servers end a call that
rings in silence after 217 s; but a real one forgets the INVITE, and says nothing more, when the
callee ends it with a BYE.
"""
_CANCEL_TIMEOUT = 40.0
"""Seconds after which a cancelled request counts as ended although no server said so."""
_CANCEL_GRACE = 2.0
"""The same when the server does not know the request."""


class OutgoingRequest(Received, sip.Request):
    """A request of the application, as the server sent it."""

    __slots__ = ("_asking", "_state", "_tokens", "res")

    res: ReceivedResponse | None
    """The final response, once there is one."""

    _state: Connection
    _tokens: Sequence[str]
    _asking: Asking

    def _token(self, index: int) -> str:
        # The answer to a command has two tokens more in front, and no dialog id.
        tokens = self._tokens
        return tokens[index + 2] if index < 9 and len(tokens) > index + 2 else ""

    @property
    def response(self) -> Deferred[ReceivedResponse]:
        """Wait for the final response; a failure is a response too.

        :returns: fails with :exc:`ConnectionLost` when the connection goes away, and with
            :exc:`CommandRefused` when the server does not send the request.
        """
        return self._asking.wait()

    def cancel(self, headers: HeadersLike = None) -> None:
        """Cancel an INVITE (RFC 3261 section 9.1); nothing happens when it has its final response.

        :param headers: headers of the CANCEL, Reason for example.
        """
        self._asking.cancel(headers)

    def _call(self, handler: Callable[..., Any], *args: Any) -> None:
        """Run a handler whose failure can only be logged."""
        run_handler(self, handler, *args)


class PendingRequest(Result[ReceivedResponse]):
    """A request that was sent: fires with its final response, whichever it is.

    Cancelling it, also by ``addTimeout``, cancels an INVITE; of another request only nobody waits
    for the response any more.
    """

    request: OutgoingRequest | None = None
    """The request as the server sent it; None until it has."""

    def __init__(self, asking: Asking) -> None:
        super().__init__(lambda _: asking.cancel())
        self._cancel_request = asking.cancel

    def cancel_request(self, headers: HeadersLike = None) -> None:
        """Cancel an INVITE (RFC 3261 section 9.1), and wait for what comes of it.

        :param headers: headers of the CANCEL, Reason for example.
        """
        self._cancel_request(headers)


def _log_failure(method: str, uri: str, error: Exception) -> None:
    """Log a failure that nobody listens to."""
    _log.info("{method} to {uri} failed: {error}", method=method, uri=uri, error=error)


class Asking:
    """A request on its way, with all repetitions of it.

    :param srf: whose request it is.
    :param state: the connection to send it on.
    """

    __slots__ = (
        "_cancel_headers",
        "_cancel_sent",
        "_ceiling",
        "_early",
        "_early_ids",
        "_follow",
        "_given",
        "_hops",
        "_keep_uri",
        "_on_provisional",
        "_on_request",
        "_on_update",
        "_pracked",
        "_proxy",
        "_refusal",
        "_route",
        "_rung",
        "_state_name",
        "_targets",
        "_timer",
        "_transaction_id",
        "_tried",
        "_waiting",
        "body",
        "cancelled",
        "challenged",
        "headers",
        "method",
        "on_bye",
        "on_final",
        "outcome",
        "over",
        "request",
        "sent",
        "shows_number",
        "srf",
        "state",
        "uri",
    )

    def __init__(
        self,
        srf: Srf,
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
        self.srf = srf
        self.state = state
        self.method = method
        # The application's own, and once it was repeated what was added.
        self.headers: HeadersLike = headers
        self._given: HeadersLike = headers
        self.uri = uri
        if "?" in uri or ";" in uri:
            self._aim(uri)
        self.body = body
        self._route = self._proxy = proxy
        self.challenged = None if auth is None else Challenged(Realms(auth))
        """What it takes to answer challenges, if there are credentials."""
        self._follow = follow_redirects
        self._keep_uri = keep_uri_on_redirect
        self._on_request = on_request
        self._on_provisional = on_provisional
        self._on_update = on_update
        # The early dialogs: their names, the last To of each that rings, and handles by To tag.
        self._early_ids: list[str] | None = None
        self._rung: dict[str, ReceivedResponse] | None = None
        self._early: dict[str, EarlyDialog] | None = None
        self._ceiling: IDelayedCall | None = None
        self._state_name = ""
        self.request: OutgoingRequest | None = None
        """The request as it was sent last."""
        self.on_final: Callable[[ReceivedResponse | Exception], None] | None = None
        """Called with the outcome."""
        self.on_bye: Callable[[], None] | None = None
        """Called when the callee ends the call before it has answered."""
        self.cancelled = False
        self.over = False
        self.outcome: ReceivedResponse | Exception | None = None
        self._waiting: list[Result[ReceivedResponse]] = []
        self._cancel_headers: HeadersLike = None
        self._cancel_sent = False
        self._transaction_id = ""
        self.shows_number = False
        """Whether its Contact is one that we wrote, with the number of who calls."""
        self.sent = False
        """Whether the request was ever handed to the server."""
        self._hops = 0
        self._refusal: ReceivedResponse | None = None
        self._targets: list[str] = []
        self._tried: list[str] = []
        self._pracked: set[str] | None = None
        self._timer: IDelayedCall | None = None

    def _aim(self, target: str) -> None:
        """Go to a URI, with the headers that it wants (RFC 3261 section 19.1.5)."""
        self.uri, added = split_target(target)
        if added:
            joined = Headers(self.headers)
            joined.add_missing(added)
            self.headers = joined.items()

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
        self._pracked = None
        state.use()
        try:
            state.link.send_message("", "", message, self, self._route)
        except ConnectionLost as error:
            state.clock.callLater(0, self._end, error)
        except LocalProtocolError:
            state.release()
            raise
        else:
            self.sent = True
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
        if self._cancel_sent or self.method != "INVITE":
            return
        self._cancel_sent = True
        request = self.request
        message = encode_request(
            "CANCEL", self.uri if request is None else request.uri, self._cancel_headers, typed=True
        )
        try:
            self.state.link.send_message(self._transaction_id, "", message, _CancelSent(self))
        except ConnectionLost:
            return
        self._timer = self.state.clock.callLater(_CANCEL_TIMEOUT, self._forgotten)

    def cancel_refused(self) -> None:
        """The server knows no such INVITE: what it has not said by now, it will never say."""
        if self._timer is not None and self._timer.active():
            self._timer.reset(_CANCEL_GRACE)

    def _forgotten(self) -> None:
        """Nobody ends what was cancelled."""
        self._timer = None
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
        self._transaction_id = answer.transaction_id
        request = OutgoingRequest.from_bytes(answer.raw)
        request._method = self.method
        request._state = state
        request._tokens = answer.tokens
        request._asking = self
        request.res = None
        self.request = request
        if self.challenged is not None:
            self.challenged.request = request
        if self.state.events.dialog_state.handlers:
            self.report("trying")
        if self._on_request is not None:
            request._call(self._on_request, request)
        if self.cancelled:
            self._send_cancel()
        state.confirm(self._transaction_id, self)

    def _unsent(self, error: CommandRefused | LocalProtocolError) -> None:
        """The request cannot be sent; there may be another contact to try."""
        if self._refusal is None or self.cancelled:
            self._end(error)
        elif self._targets:
            self._next_target(self._refusal)
        else:
            self._end(self._refusal)

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away before the server said anything."""
        self._end(reason)

    def link_down(self, reason: ConnectionLost) -> None:
        """The connection went away before the final response."""
        self._end(reason)

    def hang_up(self) -> None:
        """The application stops: an INVITE that is not answered is cancelled."""
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
        if status in (401, 407) and self._may_answer():
            self._challenged(response)
        elif 300 <= status < 400 and self._follow and not self.cancelled:
            self._redirected(response)
        elif 300 <= status < 600 and self._targets and not self.cancelled:
            self._next_target(response)
        else:
            self._end(response)

    # Provisional responses

    def _provisional(self, response: ReceivedResponse) -> None:
        dialog_id = response.stack_dialog_id
        reliable = False
        if self.method == "INVITE" and response.status > 100 and names(dialog_id, response):
            rseq = response.reliable_number
            reliable = rseq is not None
            self._rings(response, dialog_id)
        if reliable:
            to = response.get("To") or ""
            key = f"{rseq} {to}"
            if self._pracked is None:
                self._pracked = set()
            if key in self._pracked:
                return  # it was repeated
            self._pracked.add(key)
            self.early_dialog(_tag_of(response)).session.received(
                description_of(response), in_response=True
            )
        if response.status > 100 and self.state.events.dialog_state.handlers:
            has_tag = response.to_tag is not None
            self.report("early" if has_tag else "proceeding", response)
        result = None
        if self._on_provisional is not None and self.request is not None:
            try:
                result = self._on_provisional(response)
            except Exception:
                _log.failure(
                    "a provisional handler failed, Call-ID {call_id}",
                    call_id=response.get("Call-ID"),
                )
        if not reliable:
            if result is not None:
                settle(result, self._provisional_done)
            return
        if result is None or isinstance(result, bytes | str):
            self._prack(response, result)
        elif isinstance(result, Deferred):
            result.addCallbacks(lambda sdp: self._prack(response, sdp), self._prack_failed)
        elif isinstance(result, Awaitable):
            waiting: Deferred[Any] = started(_await(result))
            waiting.addCallbacks(lambda sdp: self._prack(response, sdp), self._prack_failed)
        else:
            self._prack(response, None)

    def _rings(self, response: ReceivedResponse, dialog_id: str) -> None:
        """Know the early dialog that a provisional response makes, and wait no longer than that."""
        if self._early_ids is None:
            self._early_ids = []
            self._rung = {}
        if dialog_id not in self._early_ids:
            self._early_ids.append(dialog_id)
            self.state.calling[dialog_id] = self
        assert self._rung is not None
        to = response.get("To") or ""
        self._rung.pop(to, None)
        self._rung[to] = response  # the last one is last
        if response.body:
            self.early_dialog(_tag_of(response))
        if self._ceiling is None:
            self._ceiling = self.state.clock.callLater(RING_CEILING, self._rang_too_long)
        else:
            self._ceiling.reset(RING_CEILING)

    def _rang_too_long(self) -> None:
        """Nothing was heard for longer than any server waits: it has forgotten the INVITE."""
        self._ceiling = None
        self.cancel({"Reason": 'SIP;cause=408;text="Request Timeout"'})
        self._end(SipError(408, "Request Timeout"))

    def early_dialog(self, tag: str = "") -> EarlyDialog:
        """Return the early dialog with whom rings.

        :param tag: the To tag of one that rang; otherwise the last one that did.
        """
        rung = list((self._rung or {}).values())
        response = next((one for one in reversed(rung) if _tag_of(one) == tag), None)
        if response is None:
            response = rung[-1]
            tag = _tag_of(response)
        if self._early is None:
            self._early = {}
        early = self._early.get(tag)
        if early is None:
            assert self.request is not None, "a response comes behind the answer"
            body = self.body if isinstance(self.body, bytes) else _encoded(self.body)
            session = EarlySession(local=body)
            realms = None if self.challenged is None else self.challenged.realms
            early = EarlyDialog(self.state, "uac", self.request, session, realms)
            early.id = response.stack_dialog_id
            self._early[tag] = early
        early.ends = (early.req.get("From") or "", response.get("To") or "")
        early.target = target_of(response) or early.req.uri
        if not early.session.settled:
            early.session.hint = description_of(response) or early.session.hint
        return early

    @property
    def rings(self) -> bool:
        """Whether there is an early dialog."""
        return bool(self._rung)

    def early_of(self, response: ReceivedResponse) -> EarlyDialog | None:
        """Return the early dialog with whom a response is from, if it said anything there."""
        return self._early.get(_tag_of(response)) if self._early else None

    def hung_up(self, tag: str) -> None:
        """The callee ended an early dialog with a BYE, which is answered.

        :param tag: whose; when others ring too, only that one is over.
        """
        rung = self._rung or {}
        if len(rung) > 1 and any(_tag_of(one) == tag for one in rung.values()):
            for to in [to for to, one in rung.items() if _tag_of(one) == tag]:
                del rung[to]
            early = (self._early or {}).pop(tag, None)
            if early is not None:
                early.end(answered=False)
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
        if self.method != "INVITE" or self.request is None or self._state_name == name:
            return
        if name == "trying" and self._state_name:
            return  # it was repeated, with credentials or elsewhere
        self._state_name = name
        if response is not None:
            status = response.status
        states.report(
            self.state.events.dialog_state.emit,
            name,
            self.request,
            states.INITIATOR,
            response,
            event=event,
            status=status,
        )

    def _provisional_done(self, failure: Failure | None) -> None:
        if failure is not None:
            _log.failure("a provisional handler failed", failure)

    def _prack_failed(self, failure: Failure) -> None:
        _log.failure("no answer for a reliable provisional response", failure)
        self.cancel()

    def _prack(self, response: ReceivedResponse, sdp: bytes | str | None) -> None:
        """Acknowledge a reliable provisional response (RFC 3262 section 4)."""
        if self.over:
            return  # the answer was made for a call that is over meanwhile
        try:
            cseq = response.cseq
        except MessageError:
            return
        headers = [("RAck", f"{response.get('RSeq')} {cseq.number} {cseq.method}")]
        if sdp:
            headers.append(("Content-Type", "application/sdp"))
        early = self.early_dialog(_tag_of(response))
        request = early.prepare("PRACK")
        if sdp:
            session = early.session
            session.sent(sdp if isinstance(sdp, bytes) else _encoded(sdp), in_response=False)
            over = request.over

            def answered(result: ReceivedResponse | Exception) -> None:
                if isinstance(result, ReceivedResponse) and session.offering:
                    session.received(description_of(result), in_response=False)
                if over is not None:
                    over(result)

            request.over = answered
        request.send(headers, sdp or b"")

    # Challenges

    def _may_answer(self) -> bool:
        challenged = self.challenged
        return challenged is not None and challenged.may_answer() and not self.cancelled

    def _challenged(self, response: ReceivedResponse) -> None:
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
            host = response.source_address
            host = f"[{host}]" if ":" in host else host
            protocol = response.protocol
            via = (response.get("Via") or "").upper()
            if via.startswith(("SIP/2.0/WS ", "SIP/2.0/WSS ")):
                protocol = via[8:11].strip().lower()  # the server says TCP of a WebSocket
            transport = f";transport={protocol}" if protocol != "udp" else ""
            self._route = f"sip:{host}:{response.source_port}{transport}"
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
        """Try the contacts of a redirect, the best first (RFC 3261 section 8.1.3.4)."""
        self._hops += 1
        try:
            contacts = by_preference(response.contacts)
        except MessageError:
            contacts = []
        tried = {self._route, self.uri, *self._tried}
        targets = [
            one.uri
            for one in contacts
            if one.uri not in tried and can_be_called(one.uri, routed=bool(self._proxy))
        ]
        self._tried += targets
        # Those that are left of a redirect before come behind.
        self._targets = targets + self._targets
        if self._hops > MAX_HOPS or not self._targets:
            self._end(response)
            return
        self._next_target(response)

    def _next_target(self, response: ReceivedResponse) -> None:
        """Try the next contact.

        :param response: what came last: the outcome if none of those that are left can be tried.
        """
        self._refusal = response
        target = self._targets.pop(0)
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
        self.on_final = self.on_bye = None
        self._on_request = self._on_provisional = self._on_update = None
        self._waiting = []

    def _end(self, outcome: ReceivedResponse | Exception) -> None:
        if self.over:
            return
        self.over = True
        self.outcome = outcome
        for dialog_id in self._early_ids or ():
            self.state.calling.pop(dialog_id, None)
        for timer in (self._timer, self._ceiling):
            if timer is not None and timer.active():
                timer.cancel()
        self._timer = self._ceiling = None
        if self.request is not None and not isinstance(outcome, Exception):
            self.request.res = outcome
        on_final, self.on_final = self.on_final, None
        if on_final is not None:
            on_final(outcome)
        early, self._early, self._rung = self._early, None, None
        for dialog in (early or {}).values():
            dialog.end(answered=not isinstance(outcome, Exception) and outcome.status == 200)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if each.called:
                continue  # cancelled: nobody waits any more
            if not isinstance(outcome, Exception):
                each.callback(outcome)
            else:
                each.fail(outcome, partial(_log_failure, self.method, self.uri))
        # What knows us must not be known by us any more: cycles would wait to be collected.
        self.request = None
        if self.challenged is not None:
            self.challenged.request = None
        self.forget()
        self.state.release()


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _tag_of(response: ReceivedResponse) -> str:
    return response.to_tag or ""


class _CancelSent:
    """Listens to the answer to a CANCEL."""

    __slots__ = ("_asking",)

    def __init__(self, asking: Asking) -> None:
        self._asking = asking

    def answered(self, answer: Answer) -> None:
        """The server sent it, or knows no such transaction: the final response was on its way."""
        if not answer.ok and UNKNOWN_TRANSACTION in answer.text:
            self._asking.cancel_refused()

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away, which the request knows otherwise."""


async def _await(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def calling_headers(
    headers: HeadersLike,
    calling_number: str | None,
    calling_name: str | None,
    called_number: str | None,
) -> list[tuple[str, Any]]:
    """Complete headers by who calls whom."""
    if headers is None:
        joined: list[tuple[str, Any]] = []
    else:
        is_mapping = type(headers) is dict or isinstance(headers, Mapping)
        joined = list(headers.items()) if is_mapping else list(headers)  # type: ignore
    named = {name.lower() for name, _ in joined}
    # Nobody's From and Contact are the server's own.
    if calling_number or calling_name:
        uri = sip_uri(calling_number, "localhost")
        if not named & _FROM:
            sender: Any = f"<{uri}>"
            if calling_name and '"' not in calling_name and "\\" not in calling_name:
                sender = f'"{calling_name}" <{uri}>'
            elif calling_name:
                sender = sip.Address(calling_name, uri)
            joined.append(("From", sender))
        if calling_number and not named & _CONTACT:
            joined.append(("Contact", f"<{uri}>"))
    if called_number is not None and not named & _TO:
        joined.append(("To", f"<{sip_uri(called_number, 'localhost')}>"))
    return joined


_FROM = frozenset(("from", "f"))
_TO = frozenset(("to", "t"))
_CONTACT = frozenset(("contact", "m"))


def prepare_uac(
    srf: Srf,
    uri: Target,
    *,
    method: str = "INVITE",
    headers: HeadersLike = None,
    calling_number: str | None = None,
    calling_name: str | None = None,
    called_number: str | None = None,
    no_ack: bool = False,
    timeout: float | None = None,
    auth: Auth | None = None,
    link: Any = None,
    proxy: str = "",
    follow_redirects: bool = False,
    keep_uri_on_redirect: bool = False,
    on_request: Callable[[OutgoingRequest], Any] | None = None,
    on_provisional: Callable[[ReceivedResponse], Any] | None = None,
    on_update: Callable[..., Any] | None = None,
) -> Calling:
    """Make a call that waits for :meth:`Calling.start`.

    The parameters are those of :meth:`drachtwist.app.srf.Srf.create_uac`.
    """
    method = method.upper()
    if method not in ("INVITE", "SUBSCRIBE"):
        raise LocalProtocolError(f"a {method} makes no dialog")
    address, proxy, headers = way_to(uri, proxy, headers)
    joined = calling_headers(headers, calling_number, calling_name, called_number)
    asking = Asking(
        srf,
        srf._connections.find(link),
        method,
        complete_uri(address, bool(proxy)),
        headers=joined,
        proxy=proxy,
        auth=auth,
        follow_redirects=follow_redirects,
        keep_uri_on_redirect=keep_uri_on_redirect,
        on_request=on_request,
        on_provisional=on_provisional,
        on_update=on_update,
    )
    ours = ("Contact", f"<{sip_uri(calling_number, 'localhost')}>")
    asking.shows_number = bool(calling_number) and ours in joined
    return Calling(asking, no_ack, timeout, auth)


class PendingCall(Outcome[Dialog]):
    """A call that was placed: fires with its dialog.

    Cancelling it, also by ``addTimeout``, cancels the INVITE, and nobody waits any more.
    """

    def __init__(self, calling: Calling) -> None:
        super().__init__(_cancel_call)
        # Weakly, since it knows us: it is kept by what it waits for, up to the end.
        self._calling = weakref.ref(calling)

    def cancel_request(self, headers: HeadersLike = None) -> None:
        """Cancel the INVITE (RFC 3261 section 9.1), and wait for what comes of it.

        :param headers: headers of the CANCEL, Reason for example (RFC 3326).
        """
        calling = self._calling()
        if calling is not None:
            calling.give_up(headers)
        elif not self.called:
            self.errback(SipError(487, "Request Terminated"))


def _cancel_call(pending: Deferred[Dialog]) -> None:
    """Nobody waits for a call any more."""
    calling = pending._calling() if isinstance(pending, PendingCall) else None
    if calling is not None:
        calling.cancel()


class Calling:
    """A dialog in the making."""

    __slots__ = (
        "__weakref__",
        "_auth",
        "_given_up",
        "_no_ack",
        "_timeout",
        "_timer",
        "asking",
        "deferred",
    )

    def __init__(
        self, asking: Asking, no_ack: bool, timeout: float | None, auth: Auth | None
    ) -> None:
        self.asking = asking
        self._no_ack = no_ack
        self._auth = auth
        self._timeout = timeout
        self._timer: IDelayedCall | None = None
        self._given_up = False
        self.deferred = PendingCall(self)

    def start(self, local_sdp: SdpSource) -> PendingCall:
        """Send the request as soon as there is a session description."""
        if local_sdp is None or type(local_sdp) in (bytes, str):
            self._send(local_sdp)  # type: ignore[arg-type]
            return self.deferred
        made: Any = local_sdp() if callable(local_sdp) else local_sdp
        if isinstance(made, Deferred | Awaitable):
            waiting = made if isinstance(made, Deferred) else started(_await(made))

            def failed(failure: Failure) -> None:
                if not self.deferred.called:
                    self.deferred.errback(failure)

            waiting.addCallback(self._send).addErrback(failed)
        else:
            self._send(made)
        return self.deferred

    def _send(self, sdp: bytes | str | None) -> None:
        asking = self.asking
        if self._given_up or self.deferred.called:
            asking.forget()
            return
        asking.body = sdp or b""
        asking.on_final = self._final
        asking.on_bye = self._hung_up
        try:
            asking.send()
        except LocalProtocolError:
            asking.forget()
            raise
        if self._timeout is not None and not asking.over:
            clock = asking.state.clock
            self._timer = clock.callLater(self._timeout, self._timeout_reached)

    def _timeout_reached(self) -> None:
        """Fail at once; the rest is done behind it, as when nobody waits any more."""
        self._timer = None
        self.asking.cancel({"Reason": 'SIP;cause=408;text="Request Timeout"'})
        self._fail(SipError(408, "Request Timeout"))

    def give_up(self, headers: HeadersLike = None) -> None:
        """Cancel the call; the Deferred fails when it is over.

        :param headers: headers of the CANCEL.
        """
        if self.asking.request is None and not self.asking.sent:
            self._given_up = True
            self._fail(SipError(487, "Request Terminated"))
        self.asking.cancel(headers)

    def cancel(self) -> None:
        """Nobody waits any more: the Deferred fails at once, the rest is done behind it."""
        self._given_up = True
        self.asking.cancel()

    def _hung_up(self) -> None:
        """The callee ended the call before it has answered; what may still come is done behind."""
        self._given_up = True
        self.asking.cancel()
        self._fail(SipError(487, "Request Terminated"))

    def _final(self, outcome: ReceivedResponse | Exception) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        asking = self.asking
        if isinstance(outcome, Exception):
            self._fail(outcome)
            return
        status = outcome.status
        established = status == 200 or (status == 202 and asking.method == "SUBSCRIBE")
        if not established:
            self._fail(SipError(status, outcome.reason, outcome))
            return
        request = asking.request
        assert request is not None, "a response comes behind the answer"
        state = asking.state
        if not names(outcome.stack_dialog_id, outcome):
            text = f"not the name of this dialog: {outcome.stack_dialog_id!r}"
            self._fail(RemoteProtocolError(text))
            return
        dialog = Dialog(state, outcome.stack_dialog_id, "uac", request, request.raw)
        request.res = outcome
        state.dialogs.add(dialog)
        state.link.uses += 1
        dialog.auth = self._auth
        if asking.challenged is not None and asking.challenged.realms:
            realms = asking.challenged.realms
            realms.uri = dialog.remote.uri
            dialog._need_traffic().realms = realms
        if asking.state.events.dialog_state.handlers:
            asking.report("confirmed", outcome)
        invite = asking.method == "INVITE"
        late = invite and not asking.body and bool(outcome.body)
        early = asking.early_of(outcome)
        if early is not None:
            early.session.hand_over(dialog, description_of(outcome))
            late = late and not early.session.settled
        if asking.cancelled or self.deferred.called:
            # The 200 crossed our CANCEL.
            if late:
                dialog._owes_ack = True  # which refuses the offer, and is sent first
            elif invite:
                dialog._send_ack()
            dialog.destroy()
            self._fail(SipError(487, "Request Terminated", outcome))
            return
        if invite and not outcome.has("Contact"):
            # Nothing can be sent in it, not to everybody at least: it is ended as well as can be.
            dialog._acked = True
            dialog._send_ack()
            dialog.destroy()
            self._fail(SipError(500, "Missing Contact Header", outcome))
            return
        if invite:
            dialog._acked = True  # there is none to wait for
            if late or self._no_ack:
                dialog._owes_ack = True
            else:
                dialog._send_ack()
        self.deferred.callback(dialog)

    def _fail(self, error: Exception) -> None:
        asking = self.asking
        if asking.state.events.dialog_state.handlers and asking._state_name != "confirmed":
            status = error.status if isinstance(error, SipError) else 0
            event = {0: "error", 408: "timeout", 487: "cancelled"}.get(status, "rejected")
            asking.report("terminated", event=event, status=status)
        if not self.deferred.called:
            self.deferred.errback(Failure(error))
