"""How an offer of the peer is answered, in a call that is up.

An offer of the peer comes in a re-INVITE or an UPDATE. Unless the application has a handler for it,
it is answered with what we described last, the directions turned round (RFC 3264 section 6), and
with 488 when the two have no codec in common. What it says holds once it is accepted. There is one
offer at a time (RFC 3261 section 14.2, RFC 3311 section 5.2): one that meets ours gets 491, one
that overtakes another of the peer's 500 and Retry-After. Embedded servers see to that themselves,
real ones let them through.
"""

from __future__ import annotations

from drachtwist.app import session_timers
from drachtwist.app.dialog.parts import DialogParts
from drachtwist.app.request import Request
from drachtwist.app.response import come_again
from drachtwist.sip.encoding import encoded_body
from drachtwist.sip.headers import Headers, HeadersLike
from drachtwist.sip.sdp import Sdp, answer_with, description_of

__all__ = ["take"]


def take(dialog: DialogParts, req: Request, method: str) -> None:
    """Answer a re-INVITE or UPDATE of the peer, or let the application do so."""
    offer = description_of(req)
    refusal = _in_the_way(dialog, method, offer)
    if refusal == 491:
        req.res.send(491)
        return
    if refusal == 500:
        come_again(req)
        return
    if method == "INVITE":
        dialog._need_reinvites().asked(req)
    extras = req._extended()
    extras.complete = lambda it, headers: _complete(dialog, it, headers)
    described = Sdp(offer)
    event = _event_of(dialog, described) if offer else ""
    held = described.is_hold if offer else dialog.is_on_hold
    # What it says holds once it is accepted.
    extras.on_final = lambda it, status, body: _answered(dialog, it, status, body, offer, held)
    handlers = dialog._handlers_of(method)
    if handlers and (method == "UPDATE" or not dialog._handlers_of(event)):
        dialog._run(handlers, req)
    else:
        _answer(dialog, req, offer, described, event)


def _in_the_way(dialog: DialogParts, method: str, offer: bytes) -> int:
    """Return the status that refuses a request which crosses another INVITE; 0 when none does."""
    reinvites = dialog._reinvites
    if method == "INVITE":
        if dialog._owes_ack or (reinvites is not None and reinvites.is_under_way):
            return 491
        return 500 if reinvites is not None and reinvites.is_asked else 0
    if not offer:
        return 0
    if reinvites is not None and reinvites.is_sent:
        return 491
    return 500 if dialog._owes_ack or (reinvites is not None and reinvites.is_asked) else 0


def _complete(dialog: DialogParts, req: Request, headers: HeadersLike) -> HeadersLike:
    """Let a 2xx say where our side is, and what holds of the session timer from now on."""
    headers = session_timers.complete_answer(dialog, req, headers)
    contact = dialog.local.contact
    if not contact:
        return headers
    given = Headers(headers)
    given.add_missing({"Contact": contact})  # RFC 3311 section 5.2
    return given.items()


def _event_of(dialog: DialogParts, described: Sdp) -> str:
    """Name what an offer changes: ``refresh``, ``hold``, ``unhold``, or empty."""
    if _repeats(described, dialog.remote.sdp):
        return "refresh"
    held, was_held = described.is_hold, dialog.is_on_hold
    if held and not was_held:
        return "hold"
    return "unhold" if was_held and not held else ""


def _answer(dialog: DialogParts, req: Request, offer: bytes, described: Sdp, event: str) -> None:
    """Answer with what we described last, and tell those who want to know of such changes."""
    session = dialog._need_session()
    own = session.own
    if own is None:
        session.own = own = dialog.local.sdp
    body = own if req.method == "INVITE" else b""
    if offer and own:
        ours = Sdp(own)
        made = answer_with(ours, described)
        if described.carries_media and ours.carries_media and not made.carries_media:
            req.res.send(488)  # the session stays as it is (RFC 3261 section 14.2)
            return
        body = bytes(made)
    headers = {}
    if body:
        headers["Content-Type"] = "application/sdp"
    req.res.send(200, headers=headers, body=body)
    session.own = own  # what the application described, not what was made of it
    if event:
        dialog._tell(event, req)


def _answered(
    dialog: DialogParts,
    req: Request,
    status: int,
    body: bytes | str | None,
    offer: bytes,
    held: bool,
) -> None:
    """A re-INVITE or UPDATE of the peer got its final response.

    :param offer: of the peer.
    :param held: whether it puts the media on hold.
    """
    if status >= 300:
        if dialog._reinvites is not None:
            dialog._reinvites.confirmed()
        return
    if req.method == "INVITE" and dialog._reinvites is not None:
        dialog._reinvites.accepted(req)
    session = dialog._need_session()
    if offer:
        session.remote = offer
        dialog.is_on_hold = held
    if body:
        session.local = session.own = encoded_body(body)


def _repeats(described: Sdp, before: bytes) -> bool:
    """Return whether a description says by its origin that it is the one before."""
    origin = described.value("o")
    if origin is None or f"o={origin}".encode("utf-8", "surrogateescape") not in before:
        return False
    return described.is_refresh_of(Sdp(before))
