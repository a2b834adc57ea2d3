"""The requests of this side as they are sent, written of what an application gave.

Outside of dialogs the application may choose From, To, Call-ID and CSeq; what it leaves out is made
up (RFC 3261 section 8.1.1). In a dialog all of that is the dialog's own (section 12.2.1.1).
"""

from __future__ import annotations

import os

from drachtwist.errors import MessageError
from drachtwist.server.compose import (
    Draft,
    encode,
    in_brackets,
    new_call_id,
    new_tag,
    via_of,
    with_host,
)
from drachtwist.server.dialogs import Dialog
from drachtwist.server.owncontact import NOBODY, own_contact
from drachtwist.server.uac.request import SentRequest
from drachtwist.sip.derived import headers_like
from drachtwist.sip.encoding import request_line
from drachtwist.sip.fields import Address, CSeq, leads_loosely
from drachtwist.sip.message import Request

__all__ = ["write_cancel", "write_in_dialog", "write_new"]


def write_new(sent: SentRequest, draft: Draft, uri: str, local: str, protocol: str) -> str | None:
    """Write a request outside of dialogs; say what is wrong with it, if anything."""
    method = sent.method
    apart = draft.apart
    default = f"<sip:{local}>"
    contact = None if draft.contact == "*" else draft.contact  # of a REGISTER: nobody's From
    if method in ("INVITE", "SUBSCRIBE"):
        sent.contact = contact or NOBODY
    elif contact is not None and sum(not one.order for one in draft.fields) == 1:
        sent.contact = contact
    else:
        draft.change_contacts(lambda one: own_contact(one, "udp", local, secure=False))
    if sent.contact is not None:
        sent.told = sent.contact_over(protocol, local)
        draft.replace_contact(sent.told)
    if contact is not None and in_brackets(contact) is None:
        contact = None  # several are nobody's From either
    from_ = with_host(apart.get("from") or contact or default, local)
    sender = in_brackets(from_)
    if sender is None:
        return "Error creating leg"
    tag = Address.parse(sender).tag
    if not tag:
        tag = new_tag()
        sender = f"{sender};tag={tag}"
    # Parameters of a SIP URI are those of the header here, as in the real server.
    to = with_host(apart.get("to") or (uri if uri[:3].lower() == "sip" else f"<{uri}>"), local)
    sent.call_id = apart.get("call-id") or new_call_id()
    if "|" in sent.call_id or "|" in tag:
        return "a Call-ID or tag with a bar"
    sent.from_tag = tag
    sent.request = _write(
        sent.branch,
        protocol,
        local,
        request_line(method, uri),
        [f"Route: {one}" for one in draft.routes],
        [
            f"Max-Forwards: {apart.get('max-forwards', '70')}",
            f"From: {sender}",
            f"To: {in_brackets(to) or to}",
            f"Call-ID: {sent.call_id}",
            f"CSeq: {_number(apart.get('cseq'), method)} {method}",
        ],
        draft,
    )
    return None


def _number(given: str | None, method: str) -> int:
    """Return the number that an application gave in a CSeq, or another if it gave none."""
    number = 0
    if given is not None:
        try:
            number = CSeq.parse(f"{given.split()[0]} {method}").number
        except (MessageError, IndexError):
            pass
    return number or 1 + int.from_bytes(os.urandom(3), "big")


def write_in_dialog(
    dialog: Dialog,
    branch: str,
    protocol: str,
    local: str,
    method: str,
    number: int,
    draft: Draft,
) -> Request:
    """Write a request in a dialog (RFC 3261 section 12.2.1.1)."""
    target = dialog.target
    routes = dialog.routes
    if routes and not leads_loosely(routes[0]):
        # A strict router takes the place of the target, which goes to the end of the route.
        routes = [*routes[1:], f"<{target}>"]
        try:
            target = Address.parse(dialog.routes[0]).uri
        except MessageError:
            pass
    return _write(
        branch,
        protocol,
        local,
        request_line(method, target),
        [f"Route: {route}" for route in routes],
        [
            f"Max-Forwards: {draft.apart.get('max-forwards', '70')}",
            f"From: {dialog.local}",
            f"To: {dialog.remote}",
            f"Call-ID: {dialog.call_id}",
            f"CSeq: {number} {method}",
        ],
        draft,
    )


def write_cancel(invite: Request, draft: Draft | None) -> bytes:
    """Write the CANCEL of an INVITE (RFC 3261 section 9.1).

    :param draft: further headers, and a body, of the application.
    """
    fields = [] if draft is None else [one for one in draft.fields if one.name != "Contact"]
    lines = [f"{name}: {value}" for name, value in headers_like(invite, "CANCEL")]
    body = b"" if draft is None else draft.body
    return encode(request_line("CANCEL", invite.uri), lines, fields, body)


def _write(
    branch: str,
    protocol: str,
    local: str,
    start: str,
    routes: list[str],
    lines: list[str],
    draft: Draft,
) -> Request:
    via = f"Via: {via_of(protocol, local, branch)}"
    return Request.from_bytes(encode(start, [via, *routes, *lines], draft.fields, draft.body))
