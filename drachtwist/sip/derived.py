"""Requests that are made of another: the ACK of a failure, the CANCEL, what an application is told.

An ACK or CANCEL goes the way of its INVITE: it has the same Request-URI, topmost Via, Routes, From,
Call-ID and number (RFC 3261 sections 9.1 and 17.1.1.3).
"""

from __future__ import annotations

from collections.abc import Iterable

from drachtwist.sip.encoding import encode_request, joined, request_line
from drachtwist.sip.fields import Via
from drachtwist.sip.message import Request, Response
from drachtwist.sip.replies import ReplyHead

__all__ = ["cancel_for", "cancel_received", "failure_ack", "headers_like", "hung_up"]


def headers_like(invite: Request, method: str, to: str | None = None) -> list[tuple[str, object]]:
    """Return the headers of a request that goes the way of another.

    :param invite: the other, as it was sent.
    :param to: what To says, if not what it says there.
    """
    via = Via.parse_list(invite.get("Via") or "")[0]
    headers: list[tuple[str, object]] = [("Via", via)]
    headers += [("Route", route) for route in invite.get_all("Route")]
    headers += [
        ("Max-Forwards", 70),
        ("From", invite.get("From")),
        ("To", to or invite.get("To")),
        ("Call-ID", invite.get("Call-ID")),
        ("CSeq", f"{invite.cseq.number} {method}"),
    ]
    return headers


def failure_ack(invite: Request, response: Response) -> bytes:
    """Write the ACK to a response from 300 on (RFC 3261 section 17.1.1.3).

    :param invite: the INVITE as it was sent.
    """
    return encode_request("ACK", invite.uri, headers_like(invite, "ACK", response.get("To")))


def cancel_for(invite: Request) -> Request:
    """Make the CANCEL of a request (RFC 3261 section 9.1).

    It has the Via, and so the branch, of what it cancels; headers like Reason may be added.

    :param invite: the INVITE as it was sent.
    """
    return Request("CANCEL", invite.uri, headers_like(invite, "CANCEL"))


def cancel_received(invite: Request, reasons: Iterable[str] = ()) -> bytes:
    """Write the CANCEL that the caller would have sent, for an application that is told of one.

    :param invite: the INVITE as it was received.
    :param reasons: values of Reason (RFC 3326).
    """
    lines = ReplyHead(invite).lines()
    lines[-1] = f"CSeq: {invite.cseq.number} CANCEL"
    lines += [f"Reason: {reason}" for reason in reasons]
    return joined(request_line("CANCEL", invite.uri), lines)


def hung_up(invite: Request, to_tag: str, uri: str, reason: str) -> bytes:
    """Write the BYE of the called side, for an application that is told that its call ended.

    :param invite: the INVITE as it was received.
    :param to_tag: the tag of the called side.
    :param uri: where the caller is.
    :param reason: the value of Reason (RFC 3326).
    """
    lines = [
        f"From: {invite.get('To')};tag={to_tag}",
        f"To: {invite.get('From')}",
        f"Call-ID: {invite.call_id}",
        f"CSeq: {invite.cseq.number + 1} BYE",
        f"Reason: {reason}",
    ]
    return joined(request_line("BYE", uri), lines)
