"""Requests of peers in established dialogs, and the end of dialogs (RFC 3261 sections 12.2.2, 15).

The server looks after what the application need not: the order of the requests, what crosses
(:mod:`~drachtwist.server.uas.glare`), session intervals that are too short, and dialogs whose
application is gone. Everything else is handed to the owner of the dialog. A BYE and the last NOTIFY
of a subscription end the dialog at once, whatever the application answers; what it has not answered
by then is answered 500 for it.
"""

from __future__ import annotations

from drachtwist.server.dialogs import Dialog
from drachtwist.server.incoming import Incoming
from drachtwist.server.roles import Forming
from drachtwist.server.uas.glare import crossing, crossing_while_ringing
from drachtwist.server.uas.invite import Invite, InviteState
from drachtwist.server.uas.responses import Responses
from drachtwist.server.uas.transactions import ServerTransactions
from drachtwist.transactions.server import trying

__all__ = ["InDialog"]


class InDialog:
    """What peers ask in dialogs.

    :param table: the requests.
    :param responses: what answers them.
    """

    __slots__ = ("core", "responses", "table")

    def __init__(self, table: ServerTransactions, responses: Responses) -> None:
        self.core = table.core
        self.table = table
        self.responses = responses

    def received(self, incoming: Incoming, dialog: Dialog, to_tag: str | None) -> None:
        """Look at a request in a dialog."""
        if incoming.key not in self.table.transactions:
            self.table.register(incoming)
        incoming.refreshes = True
        if self._is_refused(incoming, dialog, to_tag):
            return
        method = incoming.method
        core = self.core
        if dialog.link is None or dialog.link not in core.clients:
            self._answer_for_gone(incoming, dialog)
            return
        incoming.link = dialog.link
        incoming.dialog = dialog
        incoming.dialog_id = dialog.id
        if method == "BYE":
            self._bye(incoming, dialog)
        elif _is_last_notify(incoming, dialog):
            incoming.hand_over()
            self.end(dialog)
        else:
            dialog.open.append(incoming)
            if isinstance(incoming, Invite):
                incoming.become(InviteState.OFFERED)
            incoming.hand_over()

    def _is_refused(self, incoming: Incoming, dialog: Dialog, to_tag: str | None) -> bool:
        """Refuse what no application is bothered with; say whether it is."""
        method = incoming.method
        request = incoming.request
        core = self.core
        refuse = self.responses.refuse
        if method == "INVITE":
            core.carriers.send(incoming.flow, trying(request))
            if to_tag is None:
                refuse(incoming, 491)
                return True
        elif to_tag is None:
            incoming.to_tag = dialog.local_tag
        number = request.cseq.number
        if number < dialog.peer_seq:
            refuse(incoming, 500)
            return True
        dialog.peer_seq = number
        if self.responses.requires_too_much(incoming):
            return True
        if method not in ("INVITE", "UPDATE"):
            return False
        if method == "INVITE" and not request.has("Contact"):
            refuse(incoming, 400, "Bad Request")
        elif status := crossing(incoming, dialog):
            self.responses.refuse_crossing(incoming, status)
        elif core.sessions.is_too_short(request):
            # RFC 4028 section 6
            refuse(incoming, 422, lines=(f"Min-SE: {core.sessions.minimum}",))
        else:
            return False
        return True

    def admit(self, incoming: Incoming) -> None:
        """Look again at a NOTIFY that came before the answer to its SUBSCRIBE.

        It does overtake that answer, and is as good as it (RFC 6665 section 4.1.3).
        """
        request = incoming.request
        dialog = self.core.dialogs.of_request(request.call_id, incoming.from_tag, request.to.tag)
        if dialog is None:
            self.responses.refuse(incoming, 481)
        else:
            self.received(incoming, dialog, request.to.tag)

    def received_while_forming(self, incoming: Incoming, outgoing: Forming) -> bool:
        """Look at a request of somebody whom an application asks, and who has not answered.

        :returns: whether it can be one.
        """
        method = incoming.method
        core = self.core
        if outgoing.method == "SUBSCRIBE":
            if method != "NOTIFY" or not core.uac.hold(outgoing, incoming):
                return False
            self.table.register(incoming)
            return True
        if not (outgoing.rang if method == "BYE" else method != "INVITE"):
            return False
        self.table.register(incoming)
        incoming.refreshes = True
        if self.responses.requires_too_much(incoming):
            return True
        if crossing_while_ringing(incoming, outgoing):
            self.responses.refuse(incoming, 491)
            return True
        incoming.link = outgoing.link
        incoming.dialog_id = outgoing.dialog_id
        incoming.hand_over()
        if method == "BYE":
            incoming.dialog_id = ""
            self.table.set_alarm(incoming, core.timing.lifetime)
            core.uac.left(outgoing, incoming.from_tag)
        return True

    def _bye(self, bye: Incoming, dialog: Dialog) -> None:
        """End a dialog, and what rings in it."""
        core = self.core
        bye.hand_over()
        self.end(dialog)
        bye.dialog_id = ""
        self.table.set_alarm(bye, core.timing.lifetime)
        outgoing = core.uac.forming(dialog.id) if dialog.early else None
        if outgoing is not None:
            core.uac.left(outgoing, bye.from_tag)
        else:
            core.record("stop", "network", bye.request.raw, "normal-release")

    def _answer_for_gone(self, incoming: Incoming, dialog: Dialog) -> None:
        """Answer a request in a dialog whose application is gone, and end the dialog if it does."""
        ends = incoming.method == "BYE" or _is_last_notify(incoming, dialog)
        if ends:
            self.end(dialog)
            if incoming.method == "BYE":
                self.core.record("stop", "network", incoming.request.raw, "normal-release")
        self.responses.answer_for_gone(incoming, ends=ends)

    def end(self, dialog: Dialog) -> None:
        """Forget a dialog; what the application has not answered in it is answered 500."""
        core = self.core
        core.dialogs.remove(dialog)
        core.sessions.end(dialog)
        if dialog.link is None:
            core.orphans.over(dialog)
        invite = dialog.answers
        if isinstance(invite, Invite):
            dialog.answers = None
            invite.give_up_answer()
            self.table.close(invite)
        dialog.origin = None
        for incoming in [one for one in dialog.open if isinstance(one, Incoming)]:
            self.responses.refuse(incoming, 500)
        dialog.open.clear()


def _is_last_notify(incoming: Incoming, dialog: Dialog) -> bool:
    """Return whether a request ends the subscription that a dialog is."""
    return (
        incoming.method == "NOTIFY"
        and dialog.method == "SUBSCRIBE"
        and incoming.request.subscription_is_over
    )
