"""Creation of dialogs that peers asked for (RFC 3261 section 12.1.1)."""

from __future__ import annotations

from drachtwist.server.compose import in_brackets
from drachtwist.server.dialogs import (
    Dialog,
    DialogState,
    contact_of,
    contact_of_flow,
    place_uas,
    record_routes,
    uri_of,
)
from drachtwist.server.incoming import Incoming
from drachtwist.server.roles import Core
from drachtwist.server.uas.early_call import EarlyCall
from drachtwist.sip.message import Request
from drachtwist.sip.targets import request_uri_of

__all__ = ["early_dialog", "establish"]


def early_dialog(core: Core, invite: Incoming, call: EarlyCall) -> Dialog:
    """Return the dialog that an application may ask in before it has answered."""
    if call.dialog is None:
        call.dialog = dialog = Dialog()
        dialog.contact = contact_of_flow(invite.flow)
        _fill(core, dialog, invite, call)
    return call.dialog


def establish(core: Core, incoming: Incoming, raw: bytes, call: EarlyCall | None = None) -> Dialog:
    """Begin the dialog of an INVITE or SUBSCRIBE that is accepted.

    :param raw: the 2xx.
    :param call: what there was of it before, if anything.
    """
    dialog = None if call is None else call.dialog
    if dialog is None:
        dialog = Dialog()
    dialog.become(DialogState.CONFIRMED)
    _fill(core, dialog, incoming, call)
    head = Request.from_bytes(raw)
    dialog.contact = head.get("Contact") or contact_of_flow(incoming.flow)
    incoming.dialog = dialog
    core.dialogs.add(dialog)
    if dialog.link is None or dialog.link not in core.clients:
        core.orphans.add(dialog)
    return dialog


def _fill(core: Core, dialog: Dialog, incoming: Incoming, call: EarlyCall | None) -> None:
    """Fill a dialog with what the request says that makes it."""
    request = incoming.request
    dialog.id = incoming.dialog_id
    dialog.is_uas = True
    dialog.method = incoming.method
    dialog.link = incoming.link
    dialog.call_id = request.call_id
    to = request.get("To") or ""
    dialog.local = f"{in_brackets(to) or to};tag={incoming.to_tag}"
    remote = request.get("From") or ""
    dialog.remote = in_brackets(remote) or remote
    dialog.local_tag = incoming.to_tag
    dialog.remote_tag = incoming.from_tag
    number = request.cseq.number
    dialog.seq = max(number, dialog.seq)
    dialog.peer_seq = number if call is None else max(number, call.peer_seq)
    contact, flow = contact_of(request), incoming.flow
    if call is not None and call.target is not None:
        contact, flow = call.target
    if contact is None:
        dialog.target = uri_of(flow.protocol, flow.remote)
    else:
        dialog.target = request_uri_of(contact.uri)
    dialog.routes = record_routes(request)
    dialog.origin = incoming
    dialog.flow = None
    place_uas(dialog, flow, contact, core.config.nat_detection)
