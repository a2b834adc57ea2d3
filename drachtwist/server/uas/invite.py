"""An INVITE of the network, from its arrival to its ACK: the INVITE server usage.

Its transaction (:mod:`~drachtwist.transactions.server`) knows what was sent. Here is what the call
knows: who has it, what the application has said to it, and what the server owes the caller. By
itself the server repeats what has to be acknowledged, a 2xx and a reliable provisional response
(:mod:`~drachtwist.transactions.retransmission`), and gives the call up when that does not happen.

What collides, and who wins:

* A CANCEL and the application's answer: what reaches the server first. An INVITE that has its 2xx
  is not cancelled any more (RFC 3261 section 9.2), one that is cancelled is refused with 487, and
  an answer that comes later is told so.
* Two responses and a PRACK. While a reliable response waits for its PRACK, what the application
  sends below 300 waits too (RFC 3262 section 3), a 2xx for the answer to an UPDATE as well. The
  application need not know: for it they are sent. So there are two truths in HOLDING: the
  application has accepted, the caller still hears it ring. What ends it there is told to the
  application as the end of a call, with a BYE, and not as a CANCEL. Refusals never wait.
* A caller who gives up before there is an application: the one that is being connected to, or that
  a web application will name, gets the INVITE all the same, and the CANCEL behind it.

In a dialog an INVITE goes the same way, but never rings: see
:mod:`~drachtwist.server.uas.in_dialog`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Protocol

from drachtwist.net.sip.flows import Flow
from drachtwist.server.dialogs import Dialog, contact_of
from drachtwist.server.incoming import Incoming, ServerSide
from drachtwist.server.roles import Core
from drachtwist.server.uas.dialog_creation import establish
from drachtwist.server.uas.early_call import EarlyCall, Reply
from drachtwist.sip.derived import cancel_received, hung_up
from drachtwist.sip.message import Request
from drachtwist.transactions.machine import Machine
from drachtwist.transactions.retransmission import AnswerRepeater, ProvisionalRepeater, Repeater
from drachtwist.wire.commands import UNSOLICITED

__all__ = ["TRANSITIONS", "Invite", "InviteState"]

_CANCELLED = 'SIP;cause=487;text="cancelled before the PRACK came"'
_LEFT = 'SIP;cause=487;text="The caller left"'
_PRACK_TIMEOUT = 'SIP;cause=504;text="PRACK timeout"'


class InviteState(enum.Enum):
    """Where an INVITE of the network is."""

    SEARCHING = "no application has it yet"
    WITHDRAWN = "it was cancelled meanwhile; the application that is found is told both"
    OFFERED = "an application has it, and has not answered with more than 100"
    EARLY = "it was answered with provisional responses"
    AWAITING_PRACK = "the last of them is reliable, and repeated until its PRACK comes"
    HOLDING = "the application has accepted, but the 2xx waits for a PRACK or the end of an UPDATE"
    ACCEPTED = "the 2xx is repeated until its ACK comes"
    CONFIRMED = "the ACK came"
    REFUSED = "it was refused"
    PROXIED = "it is forwarded, and what comes of that is the answer"
    ENDED = "nobody waits for anything any more"

    __hash__ = object.__hash__  # there is one of each; Enum's own takes a call


_CONNECTION_GONE = "the application answers, but the connection of the caller is gone"
_GIVEN_UP = "300-699; CANCEL or BYE; the application is gone"

TRANSITIONS: Mapping[InviteState, Mapping[InviteState, str]] = {
    InviteState.SEARCHING: {
        InviteState.OFFERED: "an application gets it",
        InviteState.PROXIED: "a web application wants it forwarded",
        InviteState.EARLY: "a web application answers 1xx",
        InviteState.ACCEPTED: "a web application accepts it",
        InviteState.WITHDRAWN: "CANCEL",
        InviteState.REFUSED: "something is wrong with it; there is no application for it; 64 s",
    },
    InviteState.WITHDRAWN: {InviteState.REFUSED: "an application gets it, and its CANCEL"},
    InviteState.OFFERED: {
        InviteState.EARLY: "101-199",
        InviteState.AWAITING_PRACK: "101-199, reliable",
        InviteState.ACCEPTED: "2xx",
        InviteState.PROXIED: "the application wants it forwarded",
        InviteState.REFUSED: "300-699; CANCEL; the application is gone; 64 s",
        InviteState.ENDED: _CONNECTION_GONE,
    },
    InviteState.EARLY: {
        InviteState.AWAITING_PRACK: "101-199, reliable",
        InviteState.HOLDING: "2xx, while an UPDATE of the caller is not answered",
        InviteState.ACCEPTED: "2xx",
        InviteState.REFUSED: _GIVEN_UP,
        InviteState.ENDED: _CONNECTION_GONE,
    },
    InviteState.AWAITING_PRACK: {
        InviteState.EARLY: "PRACK; what has waited is sent",
        InviteState.HOLDING: "2xx",
        InviteState.REFUSED: f"{_GIVEN_UP}; no PRACK in 32 s",
        InviteState.ENDED: _CONNECTION_GONE,
    },
    InviteState.HOLDING: {
        InviteState.ACCEPTED: "PRACK, or the UPDATE is over: the 2xx is sent",
        InviteState.REFUSED: f"{_GIVEN_UP}; no PRACK in 32 s",
        InviteState.ENDED: _CONNECTION_GONE,
    },
    InviteState.ACCEPTED: {
        InviteState.CONFIRMED: "ACK",
        InviteState.ENDED: "no ACK in 32 s: BYE; the call ends; the 2xx of a later INVITE is sent",
    },
    InviteState.CONFIRMED: {},
    InviteState.REFUSED: {},
    InviteState.PROXIED: {InviteState.REFUSED: "CANCEL, or it must not be forwarded"},
    InviteState.ENDED: {},
}
"""What leads from a state to another."""


class InviteSide(ServerSide, Protocol):
    """What an INVITE needs of the UAS core."""

    @property
    def core(self) -> Core:
        """The whole."""
        ...

    @property
    def early(self) -> dict[str, Invite]:
        """INVITEs that were answered with provisional responses only, by dialog id."""
        ...

    def close(self, incoming: Incoming) -> None:
        """Let no application answer a request any more."""

    def refuse(
        self,
        incoming: Incoming,
        status: int,
        reason: str | None = None,
        *,
        record: bool = True,
        lines: Sequence[str] = (),
    ) -> None:
        """Answer a request without an application."""

    def end(self, dialog: Dialog) -> None:
        """Forget a dialog."""


class Invite(Incoming):
    """An INVITE of the network."""

    __slots__ = ("answer", "call", "cancel", "state")

    side: InviteSide
    state: InviteState
    """Where it is."""
    cancel: tuple[int, bytes] | None
    """WITHDRAWN: how many bytes the CANCEL had, and the CANCEL."""
    call: EarlyCall | None
    """EARLY, AWAITING_PRACK, HOLDING: what there is besides."""
    answer: AnswerRepeater | None
    """ACCEPTED: what repeats the 2xx."""

    def __init__(self, side: InviteSide, request: Request, method: str, flow: Flow, size: int):
        super().__init__(side, request, method, flow, size)
        self.state = InviteState.SEARCHING
        self.cancel = None
        self.call = None
        self.answer = None

    def become(self, state: InviteState) -> None:
        """Change the state, to itself or to one that may follow."""
        known = self.state
        assert state is known or state in TRANSITIONS[known], f"{known} does not become {state}"
        self.state = state

    # What applications do

    def given(self) -> None:
        """Note that an application has it now; tell that one if the caller gave up meanwhile."""
        if self.state is InviteState.WITHDRAWN:
            cancel, self.cancel = self.cancel, None
            assert cancel is not None
            self.become(InviteState.REFUSED)
            self._tell_cancelled(*cancel, "")
        else:
            self.become(InviteState.OFFERED)

    def begin_ringing(self) -> EarlyCall:
        """Begin what there is of a call that rings."""
        self.call = call = EarlyCall()
        return call

    @property
    def held(self) -> bytes:
        """HOLDING: the 2xx that waits."""
        assert self.call is not None and self.call.queue
        return self.call.queue[-1].raw

    def hold(self, reply: Reply) -> None:
        """Let a response of the application wait."""
        assert self.call is not None, "nothing to wait for"
        self.call.hold(reply)
        if reply.status >= 200:
            self.become(InviteState.HOLDING)

    def responds(self, status: int, raw: bytes, rseq: int, now: float, *, record: bool) -> None:
        """Do what comes with a response that is about to be sent.

        :param rseq: its RSeq, 0 when it has none.
        :param record: whether a refusal is one of the application, for the records of calls.
        """
        if status >= 300:
            self._leave_early()
            if self.state is not InviteState.WITHDRAWN:
                self.become(InviteState.REFUSED)
            if record and not self.refreshes:
                reason = "call-canceled" if status == 487 else "call-rejected"
                self.side.core.record("stop", "application", raw, reason)
        elif status >= 200:
            self._accept(raw, now)
        elif status > 100 and not self.refreshes:
            self._ring(raw, rseq, now)

    def _ring(self, raw: bytes, rseq: int, now: float) -> None:
        """Note a provisional response; repeat it when it has to be acknowledged."""
        uas = self.side
        call = self.call or self.begin_ringing()
        uas.early.setdefault(self.dialog_id, self)
        if rseq:
            core = uas.core
            call.unconfirmed = repeater = ProvisionalRepeater(
                raw, now, rseq, timing=core.timing, repeat=not self.flow.reliable
            )
            repeater.owner = self
            core.clock.watch(repeater)
        if self.state is not InviteState.HOLDING:
            self.become(InviteState.AWAITING_PRACK if rseq else InviteState.EARLY)

    def _accept(self, raw: bytes, now: float) -> None:
        """Begin the dialog, and repeat the 2xx until its ACK comes."""
        core = self.side.core
        call = self._leave_early()
        dialog = self.dialog
        initial = not self.refreshes
        if initial:
            dialog = establish(core, self, raw, call)
        assert dialog is not None
        # The real server repeats that of a re-INVITE only when asked; but the 200 may get lost.
        earlier = dialog.answers
        if isinstance(earlier, Invite):
            earlier.give_up_answer()
        dialog.answers = self
        self.answer = repeater = AnswerRepeater(
            raw, now, timing=core.timing, repeat=not self.flow.reliable
        )
        repeater.owner = self
        core.clock.watch(repeater)
        self.become(InviteState.ACCEPTED)
        if initial:
            core.record("start", "application", raw, "uas")

    def _leave_early(self) -> EarlyCall | None:
        """Note that the call rings no more; return what there was of it."""
        call, self.call = self.call, None
        if call is not None:
            if call.unconfirmed is not None:
                self._stop(call.unconfirmed)
            early = self.side.early
            if early.get(self.dialog_id) is self:
                del early[self.dialog_id]
        return call

    def connection_gone(self) -> None:
        """Note that nothing reaches the caller any more, who connected for this."""
        self._leave_early()
        self.become(InviteState.ENDED)

    # What callers do

    def acknowledged(self) -> None:
        """Stop repeating the 2xx: its ACK came."""
        self._stop_answer()
        self.become(InviteState.CONFIRMED)
        self.side.close(self)

    def give_up_answer(self) -> None:
        """Stop repeating the 2xx: nobody waits for its ACK any more."""
        self._stop_answer()
        self.become(InviteState.ENDED)

    def provisional_acknowledged(self) -> None:
        """Stop repeating a reliable response: its PRACK came."""
        call = self.call
        assert call is not None and call.unconfirmed is not None
        self._stop(call.unconfirmed)
        call.unconfirmed = None
        call.offering = False
        if self.state is not InviteState.HOLDING:
            self.become(InviteState.EARLY)

    def cancelled(self, cancel: Request, size: int) -> None:
        """End it for a CANCEL that came before the final response (RFC 3261 section 9.2).

        :param size: how many bytes the CANCEL had.
        """
        uas = self.side
        state, status = self.state, self.transaction.status
        if state is InviteState.SEARCHING:
            self.cancel = (size, cancel.raw)
            self.become(InviteState.WITHDRAWN)
        uas.refuse(self, 487, record=False)
        record = uas.core.record
        if self.proxied is not None:
            record("stop", "application", self.request.raw, "call-rejected")
            self.proxied.caller_cancelled(cancel)
            return
        if self.refreshes:
            return
        record("stop", "network", self.request.raw, "call-canceled")
        if state is InviteState.HOLDING:
            self._tell_ended(_CANCELLED)
        elif state is InviteState.SEARCHING:
            pass  # who gets it is told then
        elif status == 0:
            self._tell_cancelled(size, cancel.raw, "")
        else:
            self._tell_cancelled(self.size, cancel.raw, self.dialog_id)

    def left(self, bye: Request) -> None:
        """End it for a BYE that came before the final response (RFC 3261 section 15.1.2)."""
        holding = self.state is InviteState.HOLDING
        self.side.refuse(self, 487)
        if holding:
            self._tell_ended(_LEFT)
        else:
            self.tell_given_up(self.dialog_id, *bye.get_all("Reason"))

    # What does not happen

    def timed_out(self, machine: Machine) -> None:
        """Do what follows when nothing came of what was waited for."""
        if machine is self.answer:
            self._not_acknowledged()
        elif self.call is not None and machine is self.call.unconfirmed:
            self._provisional_not_acknowledged()
        else:
            super().timed_out(machine)

    def _not_acknowledged(self) -> None:
        """End the call: its ACK did not come (RFC 3261 section 13.3.1.4)."""
        uas, dialog = self.side, self.dialog
        assert dialog is not None
        self.answer = None
        self.become(InviteState.ENDED)
        uas.close(self)
        dialog.answers = None
        uas.core.uac.bye(dialog, "ACK timeout")
        uas.end(dialog)

    def _provisional_not_acknowledged(self) -> None:
        """Refuse the INVITE: a PRACK did not come (RFC 3262 section 3)."""
        assert self.call is not None
        self.call.unconfirmed = None
        holding = self.state is InviteState.HOLDING
        self.side.refuse(self, 504)
        if holding:
            self._tell_ended(_PRACK_TIMEOUT)
        else:
            self.tell_given_up(self.dialog_id, _PRACK_TIMEOUT)

    def _stop_answer(self) -> None:
        repeater, self.answer = self.answer, None
        if repeater is not None:
            self._stop(repeater)

    def _stop(self, repeater: Repeater) -> None:
        repeater.confirm()
        self.side.core.clock.watch(repeater)

    # What applications are told

    def _tell_cancelled(self, size: int, raw: bytes, name: str) -> None:
        flow = self.flow
        self.side.core.deliver(
            self.link,
            size,
            flow.reported,
            flow.remote_host,
            flow.remote_port,
            self.id,
            name,
            raw,
        )

    def tell_given_up(self, name: str, *reasons: str) -> None:
        """Tell an application that it is over without a CANCEL.

        That looks as if the caller had cancelled, which every application understands.
        """
        self._tell_cancelled(0, cancel_received(self.request, reasons), name)

    def _tell_ended(self, reason: str) -> None:
        """End a call for an application that takes it for accepted: its 200 was never sent."""
        request, flow = self.request, self.flow
        contact = contact_of(request)
        uri = f"sip:{flow.remote}" if contact is None else contact.uri
        raw = hung_up(request, self.to_tag, uri, reason)
        self.side.core.deliver(
            self.link,
            len(raw),
            flow.reported,
            flow.local_host,
            flow.local_port,
            UNSOLICITED,
            self.dialog_id,
            raw,
            source="application",
        )
