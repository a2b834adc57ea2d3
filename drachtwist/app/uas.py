"""Establishing dialogs.

Answering an INVITE has one of three outcomes, and only one of them. The server confirms the 200:
there is a dialog, handed out in the same breath, so that its handlers are in place before the next
message is looked at. The caller gives up first: :exc:`SipError` 487, as for a call of ours that is
refused. The connection goes away: :exc:`ConnectionLost`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app.answer_state import AnswerState
from drachtwist.app.dialog import Dialog
from drachtwist.app.interfaces import Sdp, SdpSource
from drachtwist.app.mistakes import no_request
from drachtwist.app.option_types import SDP_BEGINS, check_description, check_options
from drachtwist.app.outcomes import Outcome, already_failed, started
from drachtwist.app.outgoing import Farewell
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.app.results import fail_later
from drachtwist.app.validation import names
from drachtwist.errors import (
    CommandRefused,
    ConnectionLost,
    LocalProtocolError,
    RemoteProtocolError,
    SipError,
)
from drachtwist.sip.headers import HeadersLike
from drachtwist.wire.commands import Answer
from drachtwist.wire.reports import TRANSACTION_ID

__all__ = ["create_uas", "refuse_unreachable"]


_OPEN = AnswerState.OPEN
_USUAL_SDP = (str, bytes, type(None))
_USUAL_HEADERS = (dict, list, type(None))


def create_uas(
    req: Request,
    res: Response,
    *,
    local_sdp: SdpSource = None,
    headers: HeadersLike = None,
) -> Deferred[Dialog]:
    """Accept an INVITE or SUBSCRIBE; see :meth:`drachtwist.app.srf.Srf.create_uas`."""
    try:
        method = req.method
    except AttributeError as error:
        raise no_request("create_uas", error, req, res) from None
    if method not in ("INVITE", "SUBSCRIBE"):
        raise LocalProtocolError(f"a {method} makes no dialog")
    if type(local_sdp) not in _USUAL_SDP or type(headers) not in _USUAL_HEADERS:
        check_options(local_sdp=local_sdp, headers=headers)
    if req._answer is not _OPEN:
        return already_failed(req._why_not_sent())
    if req._raw.find(b"\nContact:") < 0:  # "in" raises and drops an error first
        unreachable = refuse_unreachable(req, res)
        if unreachable is not None:
            return already_failed(unreachable)
    accepting = _Accepting(res, 200 if method == "INVITE" else 202, headers)
    req._state.invites[req._token(TRANSACTION_ID)] = accepting
    if local_sdp is None or type(local_sdp) in (str, bytes):
        accepting.send(cast(Sdp, local_sdp))
    else:
        accepting.wait(local_sdp)
    return accepting.deferred


def refuse_unreachable(req: Request, res: Response) -> SipError | None:
    """Answer an INVITE without Contact 400 (RFC 3261 section 8.1.1.8); return the failure then.

    Nothing can be sent in a dialog without one: servers have no route, not for a BYE either.
    """
    if not req.is_open or req.method != "INVITE" or b"\nContact:" in req.raw or req.has("Contact"):
        return None
    res.send(400, "Missing Contact Header")
    return SipError(400, "Missing Contact Header")


class _Accepting:
    """A request that is being accepted."""

    __slots__ = ("_headers", "deferred", "res", "status")

    def __init__(self, res: Response, status: int, headers: HeadersLike) -> None:
        self.res = res
        self.status = status
        self._headers = headers
        self.deferred: Deferred[Dialog] = Outcome()

    def wait(self, local_sdp: SdpSource) -> None:
        """Send the response once there is a session description."""
        try:
            made: Any = local_sdp() if callable(local_sdp) else local_sdp
        except Exception:
            self.deferred.errback(Failure())
            return
        if isinstance(made, Deferred):
            waiting = made
        elif isinstance(made, Awaitable):
            waiting = started(made)
        else:
            self.send(made)
            return

        def failed(failure: Failure) -> None:
            if not self.deferred.called:
                self.deferred.errback(failure)

        waiting.addCallback(self.send).addErrback(failed)

    def send(self, sdp: Sdp) -> None:
        """Send the response."""
        res = self.res
        req = res.req
        if self.deferred.called:
            return  # cancelled, in either sense, while we waited
        if req._answer is not _OPEN:
            self.deferred.errback(req._why_not_sent())
            return
        if req._extras is not None and req._extras.on_send:
            res._after_hooks(self.status, lambda: self._after_hooks(sdp))
        else:
            self._send(sdp)

    def _after_hooks(self, sdp: Sdp) -> None:
        try:
            if not self.deferred.called:
                self._send(sdp)
        except LocalProtocolError as error:
            self._fail(error)

    def _send(self, sdp: Sdp) -> None:
        res = self.res
        req = res.req
        if sdp and sdp[:3] not in SDP_BEGINS:
            check_description(sdp, res._all_headers(self._headers, True))
        message = res._encode(self.status, None, self._headers, sdp)
        self._headers = None
        if req._extras is not None and req._holds(self.status):
            req._hold(lambda: self._transmit(message))
        else:
            res._transmit(message, self)

    def _transmit(self, message: bytes) -> None:
        if self.deferred.called:
            return
        if not self.res.req.is_open:
            self.deferred.errback(self.res.req._why_not_sent())
            return
        try:
            self.res._transmit(message, self)
        except LocalProtocolError as error:
            self._fail(error)

    # What the link reports

    def answered(self, answer: Answer) -> None:
        """The server sent the response, or refused to."""
        req = self.res.req
        state = req._state
        deferred = self.deferred
        if answer.ok:
            dialog_id = answer.dialog_id
            if dialog_id and not names(dialog_id, req):
                # It may be somebody else's, so it is not ended either.
                self._fail(RemoteProtocolError(f"not the name of this dialog: {dialog_id!r}"))
                req._answered_finally()
                return
            if dialog_id and not deferred.called:
                dialog = Dialog(state, dialog_id, "uas", req, answer.raw)
                state.dialogs.add(dialog)
                state.link.uses += 1
                if state.events.dialog_state.handlers:
                    req._report("confirmed", dialog._local_response(), status=self.status)
                if req._extras is not None and req._extras.early is not None:
                    req._extras.early.session.hand_over(dialog, dialog._local_response().body)
                req._answered_finally()
                req._compact()
                deferred.callback(dialog)
                if state.owner.is_closing:
                    dialog.destroy()
                return
            if dialog_id:
                # Nobody wants the dialog any more; but its other side may be one of ours.
                sent = sip.Response.from_bytes(answer.raw)
                ends = (sent.get("To") or "", sent.get("From") or "")
                twin = state.dialogs.get(dialog_id, "uac")
                Farewell(state, dialog_id, None if twin is None else ends).send()
            else:
                self._fail(CommandRefused("the server has made no dialog of the response"))
            req._answered_finally()
            return
        if answer.is_of_nothing:
            req._cancelled(None)
            self._fail(SipError(487, "Request Terminated"))
        else:
            self._fail(CommandRefused(answer.text))
        req._answered_finally()

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away before the server said anything."""
        self._fail(reason)

    def fail_later(self, error: Exception) -> None:
        """Fail in a moment: nothing was sent."""
        fail_later(self.res.req._state.clock, self.deferred, error)

    # What becomes of the INVITE meanwhile

    def _invite(self) -> Request:
        return self.res.req

    def _cancelled(self, cancel: Request | None) -> None:
        self.res.req._cancelled(cancel)
        self._fail(SipError(487, "Request Terminated"))

    def _link_lost(self, reason: ConnectionLost) -> None:
        self.res.req._link_lost(reason)
        self._fail(reason)

    def _fail(self, error: Exception) -> None:
        if not self.deferred.called:
            self.deferred.errback(Failure(error))
