"""What comes in a dialog, and who takes it.

A request is for a handler of the application if there is one, otherwise it is answered here; the
table stands at :mod:`drachtwist.app.dialog`. Two things come first. The requests of a dialog that
nobody has yet wait, but for a BYE (:meth:`Dialog.hold_requests`). And what the server sends by
itself, which is a BYE when it gave up the call, must not be answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.python.failure import Failure

from drachtwist.app.answer_state import AnswerState
from drachtwist.app.connection import Connection
from drachtwist.app.dialog import offers
from drachtwist.app.dialog.ending import reason_text
from drachtwist.app.dialog.parts import DialogParts
from drachtwist.app.dialog.state import DialogEnd
from drachtwist.app.handlers import settle
from drachtwist.app.request import Request, make_request
from drachtwist.app.response import ANSWERED_OK, answer_ok
from drachtwist.sip.sdp import description_of
from drachtwist.wire.reports import SOURCE

__all__ = ["deliver", "handle", "run"]

_OPEN = AnswerState.OPEN
_REMOTE = DialogEnd.REMOTE


def deliver(dialog: DialogParts, state: Connection, tokens: Sequence[str], raw: bytes) -> None:
    """Take a request of the peer, or one of the server's own."""
    if raw.startswith(b"ACK "):
        if not dialog._acked and dialog._is_plain and raw.endswith(b"\r\n\r\n"):
            dialog._acked = True
        else:
            _take_ack(dialog, make_request(state, tokens, raw))
        return
    req = make_request(state, tokens, raw)
    if tokens[SOURCE] == "application":
        req._not_to_be_answered()
        if req.method == "BYE":
            dialog._over(DialogEnd.SERVER, req, reason_text(req))
        return
    state.link.uses += 1
    traffic = dialog._traffic
    if traffic is not None and traffic.held is not None and req.method != "BYE":
        traffic.held.append(req)
        return
    handle(dialog, req)


def handle(dialog: DialogParts, req: Request) -> None:
    """Hand a request to whom it is for, or answer it."""
    method = req.method
    if method == "BYE":
        answer_ok(req)
        dialog._over(_REMOTE, req)
    elif method in ("INVITE", "UPDATE"):
        offers.take(dialog, req, method)
    elif method == "SUBSCRIBE":
        _take_subscribe(dialog, req)
    elif method == "CANCEL":
        req._not_to_be_answered()  # the server has answered it
        dialog._state.release()
    elif method == "NOTIFY" and _is_of_a_referral(dialog, req):
        answer_ok(req)
    else:
        handlers = dialog._handlers_of(method)
        if handlers:
            run(dialog, handlers, req)
        elif method in ANSWERED_OK:
            answer_ok(req)
        else:
            req.res.send(501)
        if method == "NOTIFY" and dialog.dialog_type == "SUBSCRIBE" and req.subscription_is_over:
            dialog._over(_REMOTE, req)


def run(dialog: DialogParts, handlers: Sequence[Callable[..., Any]], req: Request) -> None:
    """Run handlers that have to answer a request; when one fails, 500 is the answer."""
    res = req.res
    dispatcher = dialog._state.owner.handler
    for handler in handlers:

        def done(failure: Failure | None, handler: Callable[..., Any] = handler) -> None:
            if failure is not None:
                dispatcher.failed(req, res, failure)
            elif req._answer is _OPEN and not res.status:
                dispatcher.left_open(req, handler)

        try:
            result = handler(req, res)
        except Exception:
            done(Failure())
        else:
            if result is None or settle(result, done):
                done(None)


def _take_ack(dialog: DialogParts, ack: Request) -> None:
    """Note the ACK, and the answer in it if the offer was ours."""
    first = not dialog._acked
    dialog._acked = True
    ack._not_to_be_answered()
    reinvites = dialog._reinvites
    confirms = reinvites is not None and reinvites.is_confirmed_by(ack)
    if (first or confirms) and ack.body:
        dialog._need_session().remote = description_of(ack)
    if first and dialog._ending is not None:
        dialog._ending.acked.fire(ack)
    if confirms and reinvites is not None:
        reinvites.take_ack(ack)
    dialog._tell("ACK", ack)
    if dialog._reinvites is not None:
        dialog._reinvites.confirmed()


def _take_subscribe(dialog: DialogParts, req: Request) -> None:
    """Keep a subscription alive, or end it."""
    if (req.get("Expires") or "").strip() == "0":
        req.res.send(202)
        dialog._tell("unsubscribe", req)
        return
    event = req.get("Event")
    handlers = dialog._handlers_of("SUBSCRIBE")
    if handlers:

        def answered(_: Request, status: int, body: bytes | str | None) -> None:
            if status < 300:
                dialog._subscribed().accept(event)

        req._extended().on_final = answered
        run(dialog, handlers, req)
    elif dialog._subscribed().has(event):
        req.res.send(200)
    else:
        req.res.send(489)


def _is_of_a_referral(dialog: DialogParts, req: Request) -> bool:
    """Take a NOTIFY that tells what became of a REFER of ours."""
    traffic = dialog._traffic
    if traffic is None or not traffic.referrals:
        return False
    event = (req.get("Event") or "").partition(";")[0]
    if event.strip().lower() != "refer":
        return False
    return any(referral.notified(req) for referral in tuple(traffic.referrals))
