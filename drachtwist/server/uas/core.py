"""Where every request of the network comes in: which transaction, which dialog, or a new one?

A new request gets a server transaction at once, and is looked at where its kind belongs: in an
established dialog (:mod:`~drachtwist.server.uas.in_dialog`), in a call that rings
(:mod:`~drachtwist.server.uas.early`), outside (:mod:`~drachtwist.server.uas.new_requests`), or as a
CANCEL (:mod:`~drachtwist.server.uas.cancel`). Responses of applications come in here as well.

Which of several things that cross wins: whatever reaches the server first. A response that comes
after the CANCEL is refused, a CANCEL that comes after the 200 is answered 481.
"""

from __future__ import annotations

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow
from drachtwist.server.dialogs import Dialog, dialog_id
from drachtwist.server.incoming import Incoming
from drachtwist.server.orphans import RETRY_AFTER
from drachtwist.server.roles import Core
from drachtwist.server.uas.cancel import answer_cancel
from drachtwist.server.uas.early import EarlyDialogs
from drachtwist.server.uas.in_dialog import InDialog
from drachtwist.server.uas.invite import Invite
from drachtwist.server.uas.new_requests import NewRequests
from drachtwist.server.uas.responses import Responses
from drachtwist.server.uas.transactions import ServerTransactions
from drachtwist.sip.message import Request
from drachtwist.transactions.matching import ServerKey, cancelled_key, merge_key, server_key
from drachtwist.wire.session import new_id

__all__ = ["UserAgentServer"]


class UserAgentServer(ServerTransactions):
    """The server as the one who is asked: the UAS core."""

    __slots__ = (
        "_early_dialogs",
        "_in_dialog",
        "_new",
        "_responses",
        "abandoned",
        "admit",
        "answer",
        "decided",
        "early_dialog",
        "end",
        "expired",
        "give",
        "refuse",
        "taken",
    )

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._responses = responses = Responses(self)
        self._early_dialogs = EarlyDialogs(self, responses)
        self._in_dialog = InDialog(self, responses)
        self._new = NewRequests(self, responses)
        # What others want of the parts, without a step in between.
        self.answer = responses.answer
        self.refuse = responses.refuse
        self.early_dialog = self._early_dialogs.named
        self.admit = self._in_dialog.admit
        self.end = self._in_dialog.end
        self.give = self._new.give
        self.decided = self._new.decided
        self.taken = self._new.taken
        self.expired = self._new.expired
        self.abandoned = self._new.abandoned

    def received(self, request: Request, flow: Flow, size: int) -> None:
        """Take in a request."""
        method = request.method
        try:
            key = server_key(request)
            if method == "ACK":
                self._ack(request, key, flow, size)
                return
            known = self.transactions.get(key)
            if known is not None:
                core = self.core
                machine = known.transaction
                core.transactions.run(machine, machine.receive(request, core.clock.seconds()))
                return
            if method == "CANCEL":
                self._cancel(request, key, flow, size)
                return
            call_id = request.call_id
            from_tag = request.from_.tag or ""
            to_tag = request.to.tag
            if "|" in call_id or "|" in from_tag:
                self._refuse_name(request, "From" if "|" in from_tag else "Call-ID", flow)
                return
            arrival = merge_key(request, from_tag) if to_tag is None else None
        except MessageError as error:
            self.core.complain(flow, error)
            return
        if arrival in self._arrivals:
            if not self._refused_for_load(request, flow):
                self._merged(request, key, flow, size)
            return
        dialog = self.core.dialogs.of_request(call_id, from_tag, to_tag)
        if dialog is None:
            if to_tag is not None and self.core.proxying.stateless.passes(request, flow):
                return
            if self._spam(request, flow):
                return
        incoming = (Invite if method == "INVITE" else Incoming)(self, request, method, flow, size)
        incoming.key = key
        incoming.arrival = arrival
        incoming.from_tag = from_tag
        if dialog is not None:
            if not self._refused_for_load(request, flow, dialog, of_a_call=True):
                self._in_dialog.received(incoming, dialog, to_tag)
        elif to_tag is not None:
            self._in_call_to_be(incoming, call_id, to_tag)
        elif not self._refused_for_load(request, flow):
            self._new.received(incoming, None)

    def _in_call_to_be(self, incoming: Incoming, call_id: str, to_tag: str) -> None:
        """Look at a request that is in a dialog, but none that is established."""
        request, flow = incoming.request, incoming.flow
        early = self.early.get(dialog_id(call_id, incoming.from_tag))
        if early is not None and early.to_tag == to_tag:
            if not self._refused_for_load(request, flow, of_a_call=True):
                self._early_dialogs.received(incoming, early)
            return
        outgoing = self.core.uac.forming(dialog_id(call_id, to_tag))
        if self._refused_for_load(request, flow, of_a_call=outgoing is not None):
            return
        if outgoing is not None and self._in_dialog.received_while_forming(incoming, outgoing):
            return
        if not self._refused_for_load(request, flow):
            self._new.received(incoming, to_tag)

    def _refused_for_load(
        self, request: Request, flow: Flow, dialog: Dialog | None = None, *, of_a_call: bool = False
    ) -> bool:
        """Send a request away if there are too many; say whether it is (RFC 3261 section 8.2.7).

        What belongs to a call may fill as much again, so that a flood of others does not harm it;
        and beyond that a BYE still ends its dialog, of which there is one for each.

        :param dialog: the one that it is in, if there is one.
        :param of_a_call: whether it belongs to a call, one that is being set up too.
        """
        core = self.core
        limits = core.limits
        most = 2 if of_a_call else 1
        if (
            len(self.transactions) < most * limits.transactions
            and self.held < most * limits.transaction_bytes
        ):
            return False
        if dialog is not None and _is_sure_to_end(dialog, request):
            return False
        core.alerts.note(
            "transactions",
            "too many transactions: new requests get 503, the last from {peer}",
            peer=flow.remote_host,
        )
        core.send_away(request, flow, 503, lines=(RETRY_AFTER,))
        return True

    def _refuse_name(self, request: Request, header: str, flow: Flow) -> None:
        """Refuse a Call-ID or tag that would shift the tokens of frames, and name another's dialog.

        Nothing is remembered of it: a repeat gets the same answer again.
        """
        self.core.complain(flow, MessageError(f"a bar in the {header} of {request.method}"))
        self.core.send_away(request, flow, 400, f"Bad {header} Header")

    def _merged(self, request: Request, key: ServerKey, flow: Flow, size: int) -> None:
        """Refuse a request that came here before, by another way (RFC 3261 section 8.2.2.2)."""
        method = request.method
        incoming = (Invite if method == "INVITE" else Incoming)(self, request, method, flow, size)
        incoming.key = key
        self.register(incoming)
        self.refuse(incoming, 482, record=False)

    def _spam(self, request: Request, flow: Flow) -> bool:
        """Do away with a request of a spammer, without a transaction; say whether it was one."""
        core = self.core
        spammers = core.config.spammers
        found = None if spammers is None else spammers.find(request)
        if found is None or spammers is None:
            return False
        core.complain(flow, MessageError(f"a spammer, by its {found}"), "spammers")
        if spammers.rejects(reliable=flow.reliable):
            core.send_away(request, flow, 603, "Decline")
        return True

    def _ack(self, request: Request, key: ServerKey, flow: Flow, size: int) -> None:
        """Look at an ACK: it ends the repeats of a response, and belongs to a dialog if 2xx."""
        core = self.core
        known = self.transactions.get(key)
        if known is not None and known.transaction.status >= 300:
            self.close(known)
            machine = known.transaction
            core.transactions.run(machine, machine.receive(request, core.clock.seconds()))
            return
        call_id = request.call_id
        dialog = core.dialogs.of_request(call_id, request.from_.tag or "", request.to.tag)
        if dialog is None:
            core.proxying.stateless.passes(request, flow)
            return
        transaction_id = ""
        invite = dialog.answers
        if isinstance(invite, Invite) and invite.request.cseq.number == request.cseq.number:
            dialog.answers = None
            if not invite.refreshes:
                transaction_id = invite.id
            invite.acknowledged()
        core.deliver(
            dialog.link,
            size,
            "",
            flow.remote_host,
            flow.remote_port,
            transaction_id or new_id(),
            dialog.id,
            request.raw,
        )

    def _cancel(self, request: Request, key: ServerKey, flow: Flow, size: int) -> None:
        """Find what a CANCEL is for."""
        if cancelled_key(request) not in self.transactions and self._spam(request, flow):
            return
        found = self.core.transactions.cancelled_by(request)
        if found is None and (
            self.core.proxying.stateless.passes(request, flow)
            or self._refused_for_load(request, flow)
        ):
            return
        cancel = Incoming(self, request, "CANCEL", flow, size)
        cancel.key = key
        self.register(cancel)
        answer_cancel(self._responses, cancel, found)


def _is_sure_to_end(dialog: Dialog, request: Request) -> bool:
    """Return whether a request is a BYE that nothing can be wrong with."""
    return (
        request.method == "BYE"
        and request.cseq.number >= dialog.peer_seq
        and not request.has("Require")
    )
