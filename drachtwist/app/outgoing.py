"""Requests of the application on their way: the server's answer first, responses then.

The server answers every command with the id of the transaction it began; responses come as
messages of that transaction. A real server delivers nothing more in a dialog's transaction once it
delivered a provisional response other than 100, so that the final one has to be made up here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app.authentication import Challenged, credentials_of
from drachtwist.app.connection import Connection
from drachtwist.app.dialog_table import Ends
from drachtwist.app.received import ReceivedResponse, made_up_response, make_received_response
from drachtwist.app.results import Result
from drachtwist.errors import CommandRefused, ConnectionLost, SipError
from drachtwist.net.logs import Logger
from drachtwist.sip.encoding import encode_request
from drachtwist.sip.headers import HeadersLike
from drachtwist.wire.commands import Answer
from drachtwist.wire.reports import TRANSACTION_ID

if TYPE_CHECKING:
    from collections.abc import Sequence

    from drachtwist.app.request import Request

__all__ = ["DialogRequest", "send_ack"]

AskEnds = Callable[[], Ends]
"""Gives the From and To of our requests in a dialog, for when its id does not say which it is."""

_log = Logger(namespace="drachtwist.app.outgoing")

WITH_CONTACT = frozenset(("INVITE", "NOTIFY", "UPDATE"))
"""Requests in a dialog that say where their sender is (RFC 3261 section 12.2.1.1, RFC 3311 section
5.1, RFC 6665 section 4.1.3). Into a SUBSCRIBE and a REFER servers write that themselves."""

PLACEHOLDER = "sip:placeholder"
"""The Request-URI of requests in a dialog: the server puts the remote target there."""

_NO_DIALOG = "unable to find dialog"
_SILENCE = 32.0
"""Seconds after which a request counts as unanswered (64 times T1)."""


# Requests that say nothing but their method, as most do.
_PLAIN = {
    method: encode_request(method, PLACEHOLDER) for method in ("ACK", "BYE", "INFO", "OPTIONS")
}


def encode_in_dialog(
    method: str, headers: HeadersLike, body: bytes | str, uri: str = PLACEHOLDER
) -> bytes:
    """Write a request in a dialog.

    :param uri: the Request-URI, for a server that knows no remote target.
    :raises LocalProtocolError: for what cannot be sent as one well-formed message.
    """
    if headers is None and not body and uri is PLACEHOLDER:
        plain = _PLAIN.get(method)
        if plain is not None:
            return plain
    return encode_request(method, uri, headers, body, typed=True)


def with_ends(headers: HeadersLike, ends: Ends) -> HeadersLike:
    """Add the From and To that say whose request it is, as they are in the dialog."""
    joined = sip.Headers(headers)
    for name, value in zip(("From", "To"), ends, strict=True):
        if not joined.has(name):
            joined.add(name, value)
    return joined.items()


class DialogRequest:
    """A request in a dialog.

    :param state: the connection.
    :param dialog_id: the dialog.
    :param method: the method.
    :param is_last: it is to end the dialog: that there is none gives None, not a failure.
    :param ends: From and To of our side, asked for when both sides are here.
    """

    __slots__ = (
        "_dialog_id",
        "_ends",
        "_is_last",
        "_timer",
        "_transaction_id",
        "challenged",
        "contact",
        "deferred",
        "early_target",
        "method",
        "over",
        "sent",
        "state",
    )

    def __init__(
        self,
        state: Connection,
        dialog_id: str,
        method: str,
        is_last: bool = False,
        *,
        ends: AskEnds | None = None,
    ) -> None:
        self._ends = ends
        self.state = state
        self.method = method
        self._is_last = is_last
        self._dialog_id = dialog_id
        self._transaction_id = ""
        self._timer: IDelayedCall | None = None
        self.deferred: Result[Any] = Result()
        self.contact = ""
        """Where our side is, for a request that says so if its own headers do not."""
        self.early_target = ""
        """The Request-URI in an early dialog, whose target a server may not know."""
        self.sent = b""
        """The request as the server sent it last."""
        self.challenged: Challenged | None = None
        """What it takes to answer challenges, if there are credentials."""
        self.over: Callable[[ReceivedResponse | Exception], None] | None = None
        """Called with the final response, or with what came instead, before the Deferred fires."""

    def send(self, headers: HeadersLike, body: bytes | str) -> DialogRequest:
        """Send the request.

        :raises LocalProtocolError: for what cannot be sent as one well-formed message.
        """
        challenged = self.challenged
        if challenged is not None:
            challenged.headers, challenged.body = headers, body
            realms = challenged.realms
            headers = realms.joined(headers, self.method, realms.uri, body)
        if self.contact:
            joined = sip.Headers(headers)
            joined.add_missing({"Contact": self.contact})
            headers = joined.items()
        state = self.state
        if self._ends is not None and state.is_ambiguous(self._dialog_id):
            headers = with_ends(headers, self._ends())
        uri = self.early_target or PLACEHOLDER
        message = encode_in_dialog(self.method, headers, body, uri)
        state.use()
        try:
            state.link.send_message("", self._dialog_id, message, self)
        except ConnectionLost as error:
            # In a moment, so that the caller can listen first.
            state.clock.callLater(0, self._end, error)
        else:
            state.unconfirmed += 1
        return self

    def skip(self, error: Exception) -> None:
        """Do not send it any more: the dialog is over."""
        self.state.use()
        self._end(error)

    # What the link reports

    def answered(self, answer: Answer) -> None:
        """The server sent the request, or refused to."""
        state = self.state
        if answer.ok:
            self._transaction_id = answer.transaction_id
            self.sent = answer.raw
            if self.challenged is not None:
                self.challenged.request = sip.Request.from_bytes(answer.raw)
            state.confirm(self._transaction_id, self)
            return
        state.unconfirm()
        error: Exception = CommandRefused(answer.text)
        if _NO_DIALOG in answer.text and self.early_target:
            error = CommandRefused(f"the server sends nothing in this early dialog: {answer.text}")
        elif _NO_DIALOG in answer.text:
            error = SipError(481, "Call/Transaction Does Not Exist")
        self._end(error)

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away before the server said anything."""
        self._end(reason)

    def responded(self, tokens: Sequence[str], raw: bytes) -> None:
        """A response came."""
        response = make_received_response(self.state, tokens, raw)
        if raw.startswith(b"1", 8):
            if self._timer is None:
                self._timer = self.state.clock.callLater(_SILENCE, self.give_up)
            return
        self.state.requests.pop(self._transaction_id, None)
        challenged = self.challenged
        if challenged is not None and raw[8:11] in (b"401", b"407") and challenged.may_answer():
            challenged.answer(response).addCallbacks(
                lambda answered: self._repeat(response, answered), self._unanswered
            )
            return
        self._end(response)

    def _repeat(self, response: ReceivedResponse, answered: bool) -> None:
        """Send the request again, with credentials."""
        challenged = self.challenged
        assert challenged is not None, "there was a challenge"
        if not answered:
            self._end(response)
            return
        self.send(challenged.headers, challenged.body)
        self.state.release()

    def _unanswered(self, failure: Failure) -> None:
        """There are no credentials, because asking for them failed."""
        error = failure.value
        self._end(error if isinstance(error, Exception) else RuntimeError(str(error)))

    def link_down(self, reason: ConnectionLost) -> None:
        """The connection went away before a final response came."""
        self._end(reason)

    def hang_up(self) -> None:
        """Go on, although the application stops."""

    def give_up(self) -> None:
        """Wait no longer."""
        self.state.requests.pop(self._transaction_id, None)
        self._end(made_up_response(self.state, 408, "Request Timeout"))

    def give_up_later(self) -> None:
        """Wait a little for what may still come, since the dialog is over."""
        if self._timer is None:
            self._timer = self.state.clock.callLater(_SILENCE, self.give_up)

    def terminate(self) -> None:
        """Fail: the dialog is over, and the server forgot this request with it."""
        if self.state.requests.pop(self._transaction_id, None) is not None:
            self._end(SipError(487, "Request Terminated"))

    # Inside

    def _end(self, result: ReceivedResponse | Exception) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        over, self.over = self.over, None
        if over is not None:
            over(result)
        if isinstance(result, Exception):
            unheard = partial(_log_failure, self.method, self._dialog_id)
            if self._is_last and isinstance(result, SipError):
                unheard(result)  # nobody else learns of it
                self.deferred.callback(None)
            else:
                self.deferred.fail(result, unheard)
        else:
            self.deferred.callback(result)
        self.state.release()

    @property
    def dialog_id(self) -> str:
        """The dialog of the request."""
        return self._dialog_id


def _log_failure(method: str, dialog_id: str, error: Exception) -> None:
    """Log a failure that nobody listens to."""
    _log.info(
        "{method} in dialog {dialog_id} failed: {error}",
        method=method,
        dialog_id=dialog_id,
        error=error,
        call_id=_call_id(dialog_id),
    )


def _call_id(dialog_id: str) -> str:
    """Return the Call-ID in a name of a dialog."""
    return dialog_id.partition(";from-tag=")[0]


class _AckSent:
    """Listens to the answer to an ACK."""

    __slots__ = ("_dialog_id",)

    def __init__(self, dialog_id: str) -> None:
        self._dialog_id = dialog_id

    def answered(self, answer: Answer) -> None:
        """The server sent the ACK, or refused to: then there was nothing to acknowledge."""
        if not answer.ok:
            _log.debug(
                "ACK in dialog {dialog_id} refused: {text}",
                dialog_id=self._dialog_id,
                text=answer.text,
                call_id=_call_id(self._dialog_id),
            )

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away, which the dialog knows otherwise."""


def send_ack(
    state: Connection,
    dialog_id: str,
    headers: HeadersLike = None,
    body: bytes | str = b"",
    *,
    ends: AskEnds | None = None,
    invite: bytes = b"",
) -> None:
    """Acknowledge the 200 to an INVITE.

    :param ends: as of :class:`DialogRequest`.
    :param invite: the INVITE as it was sent: the ACK has its credentials.
    :raises LocalProtocolError: for what cannot be sent as one well-formed message.
    """
    credentials = credentials_of(invite)
    if credentials:
        joined = sip.Headers(headers)
        joined.add_missing(credentials)
        headers = joined.items()
    if ends is not None and state.is_ambiguous(dialog_id):
        headers = with_ends(headers, ends())
    message = encode_in_dialog("ACK", headers, body)
    try:
        state.link.send_message("", dialog_id, message, _AckSent(dialog_id))
    except ConnectionLost:
        pass


class Farewell:
    """A BYE for a dialog that outlived its connection; nobody waits for it.

    Until it is answered the server hands over what the peer sends in the dialog.

    :param ends: From and To of our side, when the id alone does not say which side that is.
    """

    __slots__ = ("_dialog_id", "_ends", "_state")

    def __init__(self, state: Connection, dialog_id: str, ends: Ends | None = None) -> None:
        self._state = state
        self._dialog_id = dialog_id
        self._ends = ends

    def send(self) -> None:
        """Send the BYE."""
        headers: HeadersLike = {"Reason": 'SIP;cause=503;text="Connection to the application lost"'}
        if self._ends is not None:
            headers = with_ends(headers, self._ends)
        message = encode_request("BYE", PLACEHOLDER, headers)
        try:
            self._state.link.send_message("", self._dialog_id, message, self)
        except ConnectionLost:
            return
        self._state.use()
        self._state.unconfirmed += 1
        self._state.farewells[self._dialog_id] = self

    def crossed(self, req: Request) -> None:
        """Answer a request of the peer that crossed the BYE (RFC 3261 section 15.1)."""
        if req.method not in ("ACK", "CANCEL"):
            self._state.use()
            req.res.send(200 if req.method == "BYE" else 481)

    def answered(self, answer: Answer) -> None:
        """The server sent the BYE, or does not know the dialog any more."""
        if answer.ok:
            self._state.confirm(answer.transaction_id, self)
        else:
            self._state.unconfirm()
            self._over()

    def responded(self, tokens: Any, raw: bytes) -> None:
        """The peer answered."""
        if not raw.startswith(b"1", 8):
            self._state.requests.pop(tokens[TRANSACTION_ID], None)
            self._over()

    def _over(self) -> None:
        """Nothing more comes in the dialog."""
        if self._state.farewells.get(self._dialog_id) is self:
            del self._state.farewells[self._dialog_id]
        self._state.release()

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away again."""

    def link_down(self, reason: ConnectionLost) -> None:
        """The connection went away again."""

    def hang_up(self) -> None:
        """Go on, although the application stops."""
