"""The ACK of a 2xx: a request in the dialog that has no transaction (RFC 3261 section 13.2.2.4).

It is the application's, which may answer an offer with it. The server sends one by itself where the
application gives none, and repeats the last one for whoever repeats his 2xx.
"""

from __future__ import annotations

from drachtwist.net.sip.flows import Flow
from drachtwist.server.compose import Draft, new_branch, readdressed, via_of
from drachtwist.server.dialogs import Dialog
from drachtwist.server.roles import Core
from drachtwist.server.uac.reaching import elsewhere, local_of, way_of
from drachtwist.server.uac.writing import write_in_dialog
from drachtwist.sip.message import Request

__all__ = ["acknowledge", "acknowledge_again", "send_ack"]


def send_ack(core: Core, dialog: Dialog, draft: Draft, number: int) -> tuple[Request, Flow | None]:
    """Write the ACK of a 2xx, and send it where the dialog leads.

    It is kept for repeats, unless there was an INVITE since.

    :param number: the CSeq of the INVITE.
    :returns: the ACK, and which way it went; None if that is not known yet.
    """
    branch = new_branch()
    last = number == dialog.invite_seq
    hop, flow = way_of(core, dialog)
    request: Request | None = None
    taken: Flow | None = None

    def write(flow: Flow) -> bytes:
        nonlocal request, taken
        taken = flow
        request = write_in_dialog(dialog, branch, flow.protocol, flow.local, "ACK", number, draft)
        if last:
            dialog.invite_ack = request.raw
        return request.raw

    if flow is not None:
        core.ways.send_over(flow, write, elsewhere(dialog, flow))
    elif hop is not None:
        core.ways.send(hop, write)
    if request is None:
        # Nobody knows yet where it goes.
        protocol, local = local_of(core, hop, None)
        request = write_in_dialog(dialog, branch, protocol, local, "ACK", number, draft)
        if last:
            dialog.invite_ack = request.raw
    return request, taken


def acknowledge(core: Core, dialog: Dialog, invite: Request) -> None:
    """Send the ACK to the 2xx of an INVITE by ourselves."""
    draft = Draft("", b"")
    # Its proxies want the credentials of the INVITE (RFC 3261 section 13.2.2.4).
    for name in ("Proxy-Authorization", "Authorization"):
        for value in invite.get_all(name):
            draft.add(name, value)
    send_ack(core, dialog, draft, invite.cseq.number)


def acknowledge_again(core: Core, dialog: Dialog) -> None:
    """Send the last ACK of a dialog once more."""
    ack = dialog.invite_ack
    if ack is None:
        return
    hop, flow = way_of(core, dialog)
    if flow is not None:
        core.carriers.send(flow, ack)
    elif hop is not None:
        branch = Request.from_bytes(ack).vias[0].branch or new_branch()
        core.ways.send(
            hop,
            lambda flow: readdressed(ack, via_of(flow.protocol, flow.local, branch)),
        )
