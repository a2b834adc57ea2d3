"""Requests in dialogs: they are numbered, written, and sent where the dialog leads."""

from __future__ import annotations

from drachtwist.server.compose import Draft
from drachtwist.server.dialogs import Dialog
from drachtwist.server.roles import Core
from drachtwist.server.uac.reaching import elsewhere, local_of, way_of
from drachtwist.server.uac.request import SentRequest
from drachtwist.server.uac.writing import write_in_dialog
from drachtwist.sip.locating import Hop

__all__ = ["dispatch", "send_in_dialog", "set_off"]


def send_in_dialog(
    core: Core, sent: SentRequest, dialog: Dialog, draft: Draft, message_id: str
) -> None:
    """Number, write and send a request in a dialog.

    :param message_id: the command that it came with; empty if there is none.
    """
    sent.dialog = dialog
    sent.call_id = dialog.call_id
    sent.from_tag = dialog.local_tag
    dialog.seq += 1
    if sent.method == "INVITE":
        dialog.invite_seq = dialog.seq
        dialog.invite_ack = None
    dialog.asked.append(sent)
    dispatch(core, sent, dialog, draft, message_id)


def dispatch(core: Core, sent: SentRequest, dialog: Dialog, draft: Draft, message_id: str) -> None:
    """Write a request with the number of the dialog, and send it to the peer."""
    hop, flow = way_of(core, dialog)
    protocol, local = local_of(core, hop, flow)
    sent.request = write_in_dialog(
        dialog, sent.branch, protocol, local, sent.method, dialog.seq, draft
    )
    if flow is not None:
        sent.message_id = message_id
        sent.set_out(flow, elsewhere(dialog, flow))
    elif hop is not None:
        set_off(sent, hop, message_id)
    else:
        sent.message_id = message_id
        sent.invent(503)


def set_off(sent: SentRequest, hop: Hop, message_id: str) -> None:
    """Send a request to an address or a name, and answer the command."""
    sent.message_id = message_id
    sent.written = hop.numeric
    if not sent.go(hop):
        sent.invent(503)
    # As the real server, also before it is known where it goes.
    sent.answer_command()
