"""The end of a dialog: how it is brought about, and what becomes of what is under way.

Between the wish of the application and the end lies :attr:`State.ENDING`. A BYE waits there for the
ACK of a call that we answered (RFC 3261 section 15: the peer may not know of the dialog yet; it
would refuse the BYE, and hear the 200 later), and for the answers to what the peer is told of a
transfer. The way back exists: the server may refuse to send the BYE, and a peer that wants
credentials for it (401, 407) is still in the call, which servers keep.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, succeed

from drachtwist import sip
from drachtwist.app import dialog_info
from drachtwist.app.answer_state import AnswerState
from drachtwist.app.bridged_headers import reasons_of
from drachtwist.app.dialog.parts import DialogParts
from drachtwist.app.dialog.state import DialogEnd, State, why_over
from drachtwist.app.outgoing import encode_in_dialog
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.errors import CommandRefused, ConnectionLost
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.sdp import Sdp, refuse

__all__ = ["is_settled", "last_answered", "over", "reason_text", "send_last"]

_UP, _ENDING, _ENDED = State
_LOCAL = DialogEnd.LOCAL
_CHALLENGES = (401, 407)

_UNREACHABLE = "unable to find"
"""Part of the refusals (of a route, of the dialog) after which nobody can end a dialog."""


def send_last(
    dialog: DialogParts, method: str, headers: HeadersLike, body: bytes | str, or_none: bool
) -> Deferred[Any]:
    """Send the request that ends a dialog, when its time has come.

    :param or_none: that there is no dialog any more gives None, not a failure.
    """
    request = dialog._new_request(method, or_none)
    request.over = dialog._last_answered
    if method == "BYE" and dialog._owes_ack:
        # The peer must not be left without it (RFC 3261 section 13.2.2.4).
        encode_in_dialog(method, headers, body)
        offer = dialog._last_offer()
        dialog.ack(bytes(refuse(Sdp(offer))) if offer else b"")
    if method == "BYE" and _must_wait(dialog):
        encode_in_dialog(method, headers, body)  # what cannot be sent is refused now
        _may_end(dialog).addCallbacks(
            lambda _: request.send(headers, body), lambda failure: request.skip(failure.value)
        )
    else:
        request.send(headers, body)
    if dialog._stage is _UP:
        dialog._enter(_ENDING)
    if dialog._ending is not None and dialog._ending.is_awaited:
        dialog._ending.begun(reasons_in(headers))
    return request.deferred


def _must_wait(dialog: DialogParts) -> bool:
    """Return whether an ACK, or the answer to what the peer is told, has to come before a BYE."""
    if dialog._traffic is None and (dialog._acked or dialog.type == "uac"):
        return False  # as nearly always
    if dialog._state.owner.is_closing:
        return False
    return dialog._is_unacked() or not _has_told(dialog)


def _has_told(dialog: DialogParts) -> bool:
    traffic = dialog._traffic
    return traffic is None or traffic.notifies is None or traffic.notifies.is_empty


def _may_end(dialog: DialogParts) -> Deferred[None]:
    """Wait for what has to come before a BYE."""
    if dialog._is_unacked():
        acked = dialog._need_ending().acked.wait()
        return acked.addCallback(lambda _: _may_end(dialog))
    traffic = dialog._traffic
    if traffic is None or traffic.notifies is None:
        return succeed(None)
    return traffic.notifies.when_empty()


def last_answered(dialog: DialogParts, result: ReceivedResponse | Exception) -> None:
    """The request that was to end a dialog is over."""
    if isinstance(result, ReceivedResponse):
        # The server keeps the dialog of a call, so that the BYE can be repeated with credentials.
        still_up = result.status in _CHALLENGES and dialog.dialog_type == "INVITE"
    else:
        still_up = isinstance(result, CommandRefused) and _UNREACHABLE not in result.text
    if still_up:
        if dialog._stage is _ENDING:
            dialog._enter(_UP)
        if dialog._ending is not None:
            dialog._ending.destroyed.fire(None)
    elif not isinstance(result, ConnectionLost):
        over(dialog, _LOCAL)


def over(dialog: DialogParts, end: DialogEnd, req: Request | None = None, text: str = "") -> None:
    """A dialog is over: tell everybody, and let go of everything.

    :param req: the BYE or NOTIFY that ended it.
    :param text: what else is known about the cause.
    """
    if dialog._end is not None:
        return
    dialog._end = end
    dialog._end_request = req
    dialog._enter(_ENDED)
    state = dialog._state
    state.dialogs.remove(dialog)
    on_destroy, dialog._on_destroy = dialog._on_destroy, ()
    if text:
        dialog._need_ending().text = text
    waiting = dialog._ending
    if waiting is not None or dialog._traffic is not None or dialog._reinvites is not None:
        _give_up(dialog, end)
    if state.events.dialog_state.handlers and dialog.dialog_type == "INVITE":
        _report(dialog, end)
    calls = state.events.calls
    if calls is not None:
        calls.dialog_over(dialog, end)
    waiting = dialog._ending
    if waiting is not None and waiting.is_awaited:
        waiting.begun(reasons_of(req))
    if end is not _LOCAL:
        teller = dialog.req if req is None else req
        for handler in on_destroy:
            teller._call(handler, req)
    dialog._handlers = None
    dialog._other = None
    waiting = dialog._ending
    if waiting is not None:
        if waiting.ended:
            ended = dialog.ended
            assert ended is not None
            waiting.ended.fire(ended)
        if waiting.destroyed:
            waiting.destroyed.fire(None)
    state.release()


def is_settled(dialog: DialogParts) -> bool:
    """Return whether a call is up, and nothing under way that a lost connection would hide."""
    reinvites, traffic = dialog._reinvites, dialog._traffic
    return (
        dialog.connected
        and dialog.dialog_type == "INVITE"
        and not dialog._owes_ack
        and not dialog._is_unacked()
        and (reinvites is None or reinvites.is_idle)
        and (traffic is None or (traffic.held is None and not traffic.referrals))
        and _has_told(dialog)
    )


def _give_up(dialog: DialogParts, end: DialogEnd) -> None:
    """Fail whatever waits in the dialog, as nothing gets an answer any more."""
    reinvites, traffic = dialog._reinvites, dialog._traffic
    if traffic is not None:
        for referral in tuple(traffic.referrals):
            referral.dialog_over(end)
        held, traffic.held = traffic.held, None
        for req in held or ():
            req._settle(AnswerState.DROPPED, 481)
            dialog._state.release()
    if reinvites is not None:
        reinvites.stop()
    if traffic is not None:
        for request in list(traffic.requests):
            request.give_up_later()
    if dialog._ending is not None and dialog._ending.acked:
        dialog._ending.acked.fail(partial(why_over, end))
    if reinvites is not None:
        reinvites.close(partial(why_over, end))
        dialog._reinvites = None  # they know the dialog
    if traffic is not None and traffic.notifies is not None:
        notifies, traffic.notifies = traffic.notifies, None  # it knows the dialog
        notifies.give_up(why_over(end))


def _report(dialog: DialogParts, end: DialogEnd) -> None:
    """Tell those who watch the states of calls."""
    event = {DialogEnd.REMOTE: "remote-bye", _LOCAL: "local-bye"}.get(end, "error")
    is_called = dialog.type == "uas"
    dialog_info.report(
        dialog._state.events.dialog_state.emit,
        "terminated",
        dialog.req,
        dialog_info.RECIPIENT if is_called else dialog_info.INITIATOR,
        dialog._local_response() if is_called else dialog.res,
        event=event,
    )


def reason_text(request: Request) -> str:
    """Return the text of the Reason in a BYE of the server's own, however it is written."""
    reason = request.get("Reason") or ""
    _, found, rest = reason.partition('text="')
    return rest.partition('"')[0] if found else reason


def reasons_in(headers: HeadersLike) -> HeadersLike:
    """Return the Reason headers of those that an application gave; None when there are none."""
    given = [("Reason", value) for value in sip.Headers(headers).get_all("Reason")]
    return given or None
