"""The dialog that a response makes (RFC 3261 sections 12.1.2 and 13.2.2.4)."""

from __future__ import annotations

from drachtwist.net.sip.flows import Flow
from drachtwist.server.compose import in_brackets
from drachtwist.server.dialogs import (
    Dialog,
    DialogState,
    contact_of,
    contact_of_flow,
    place_uac,
    record_routes,
)
from drachtwist.server.roles import Core
from drachtwist.server.uac.request import SentRequest
from drachtwist.sip.message import Response
from drachtwist.sip.targets import request_uri_of

__all__ = ["dialog_with", "make_dialog"]


def make_dialog(
    core: Core, sent: SentRequest, response: Response, flow: Flow, state: DialogState
) -> Dialog:
    """Make the dialog of a request, or let it be with whom the response is from.

    :param flow: where the response came from.
    """
    dialog = sent.dialog
    if dialog is None:
        sent.dialog = dialog = _new_dialog(sent, flow)
        core.dialogs.add(dialog)
        if state is DialogState.EARLY:
            dialog.asked.append(sent)
    elif not core.dialogs.knows(dialog):
        # A BYE ended it: of one that rang, and others still do; or it crossed the 2xx, which wants
        # its ACK all the same.
        core.dialogs.add(dialog)
    dialog.become(state)
    _meet(core, dialog, sent, response, flow)
    return dialog


def dialog_with(core: Core, sent: SentRequest, response: Response, flow: Flow) -> Dialog:
    """Make a dialog with somebody else who accepted; nobody gets to know it."""
    dialog = _new_dialog(sent, flow)
    dialog.become(DialogState.ACCEPTED)
    _meet(core, dialog, sent, response, flow)
    return dialog


def _new_dialog(sent: SentRequest, flow: Flow) -> Dialog:
    """Make a dialog of this side alone."""
    request = sent.request
    dialog = Dialog()
    dialog.id = sent.dialog_id
    dialog.is_uas = False
    dialog.method = sent.method
    dialog.link = sent.link
    dialog.call_id = sent.call_id
    dialog.local = request.get("From") or ""
    dialog.local_tag = sent.from_tag
    dialog.seq = request.cseq.number
    dialog.contact = request.get("Contact") or contact_of_flow(flow)
    dialog.told = sent.told
    if sent.method == "INVITE":
        dialog.invite_seq = dialog.seq
    return dialog


def _meet(core: Core, dialog: Dialog, sent: SentRequest, response: Response, flow: Flow) -> None:
    """Take from a response who the peer is, and how to reach it."""
    to = response.get("To") or ""
    dialog.remote = in_brackets(to) or to
    tag = response.to_tag or ""
    if tag != dialog.remote_tag:
        dialog.remote_tag = tag
        dialog.peer_seq = 0
    contact = contact_of(response)
    dialog.routes = record_routes(response)[::-1]
    dialog.target = sent.request.uri if contact is None else request_uri_of(contact.uri)
    dialog.flow = None
    place_uac(dialog, flow, contact, core.config.nat_detection)
    if contact is None and not dialog.routes:
        dialog.flow = flow
