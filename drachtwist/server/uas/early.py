"""Requests of a caller whose INVITE is not finally answered: in the early dialog of a call.

There are four. A PRACK ends the repeats of a reliable response, and lets out what waited for it
(RFC 3262). An UPDATE changes the session before it is agreed on (RFC 3311); until it is answered
the 2xx waits. A BYE ends the call as a CANCEL does (RFC 3261 section 15.1.2). An INVITE is too
early. Anything else is the application's.
"""

from __future__ import annotations

from drachtwist.server.dialogs import Dialog
from drachtwist.server.incoming import Incoming
from drachtwist.server.uas.dialog_creation import early_dialog
from drachtwist.server.uas.early_call import EarlyCall
from drachtwist.server.uas.glare import crossing_before_answer
from drachtwist.server.uas.invite import Invite, InviteState
from drachtwist.server.uas.responses import Responses
from drachtwist.server.uas.transactions import ServerTransactions
from drachtwist.transactions.server import trying

__all__ = ["EarlyDialogs"]


class EarlyDialogs:
    """The calls of peers that are not finally answered, and what comes in them.

    :param table: the requests.
    :param responses: what answers them.
    """

    __slots__ = ("core", "responses", "table")

    def __init__(self, table: ServerTransactions, responses: Responses) -> None:
        self.core = table.core
        self.table = table
        self.responses = responses

    def named(self, name: str) -> Dialog | None:
        """Return the dialog of a caller whose INVITE is not finally answered; None without one."""
        invite = self.table.early.get(name)
        if invite is None or invite.call is None:
            return None
        return early_dialog(self.core, invite, invite.call)

    def received(self, incoming: Incoming, invite: Invite) -> None:
        """Look at a request of the caller."""
        call = invite.call
        assert call is not None, "it is among those that ring"
        method = incoming.method
        self.table.register(incoming)
        incoming.refreshes = True
        number = incoming.request.cseq.number
        if number < (call.peer_seq or invite.request.cseq.number):
            self.responses.refuse(incoming, 500)
            return
        call.peer_seq = number
        if self.responses.requires_too_much(incoming):
            return
        if method == "PRACK":
            self._prack(incoming, invite, call)
        elif method == "BYE":
            self._bye(incoming, invite, call)
        elif method == "INVITE":
            self.core.carriers.send(incoming.flow, trying(incoming.request))
            self.responses.put_off(incoming)
        elif method != "UPDATE" or self._may_update(incoming, invite, call):
            incoming.link = invite.link
            incoming.dialog_id = invite.dialog_id
            incoming.hand_over()

    def _prack(self, prack: Incoming, invite: Invite, call: EarlyCall) -> None:
        """Look at a PRACK for a response to an INVITE (RFC 3262 section 3)."""
        if not call.is_confirmed_by(prack.request, invite.request.cseq.number):
            self.responses.refuse(prack, 481)
            return
        invite.provisional_acknowledged()
        if call.silent:
            self.responses.refuse(prack, 200)
        else:
            call.pracked = True
            prack.link = invite.link
            prack.dialog_id = invite.dialog_id
            prack.hand_over()
        self.responses.release(invite)

    def _bye(self, bye: Incoming, invite: Invite, call: EarlyCall) -> None:
        """End a call that its caller leaves before it is answered.

        The application hears what it hears of every caller that gives up. Behind a PRACK it gets
        the BYE too, as from the real server, and answers that.
        """
        if call.pracked and invite.state is not InviteState.HOLDING:
            bye.link = invite.link
            bye.dialog_id = invite.dialog_id
            bye.hand_over()
            bye.dialog_id = ""
            self.table.set_alarm(bye, self.core.timing.lifetime)
        else:
            self.responses.refuse(bye, 200)
        invite.left(bye.request)

    def _may_update(self, update: Incoming, invite: Invite, call: EarlyCall) -> bool:
        """Refuse an UPDATE that crosses something; otherwise the 2xx waits for its answer."""
        status = crossing_before_answer(update, invite, call)
        if status:
            self.responses.refuse_crossing(update, status)
        else:
            call.update = update
            self.table.set_alarm(update, self.core.timing.lifetime)
        return not status
