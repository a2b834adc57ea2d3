"""An INVITE of this side: the INVITE client usage (RFC 3261 sections 13.2 and 14.1).

It goes from one place to the next until somebody responds with more than a 100. From then on it
rings (PROGRESSING): each that rings may have an early dialog, and there is no further attempt. The
first 2xx makes the call (ACCEPTED), and is the application's to acknowledge (CONFIRMED); whoever
accepts as well gets an ACK and a BYE (:mod:`~drachtwist.server.uac.forks`). Anything else is the
end (OVER).

That it is cancelled is a fact besides the state, since it may happen in any of the first three. A
CANCEL must not go out before there is a response (section 9.1), so it waits for one; what is on its
way to nobody is over at once. A 2xx may cross the CANCEL: the application gets it, and when it has
acknowledged, or after 32 s without an ACK, the call is ended with a BYE.

When the application lets the 2xx wait for its ACK too long, the server acknowledges by itself and
ends the call. It does so at once for an application that is gone.

A re-INVITE has no early dialogs, and changes the dialog that it is in; one that a session timer
sends (:class:`Refresh`) is the server's own.
"""

from __future__ import annotations

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow
from drachtwist.server.attempts import SentState
from drachtwist.server.checks import carries_session
from drachtwist.server.clients import AppLink
from drachtwist.server.dialogs import Dialog, DialogState
from drachtwist.server.uac.acks import acknowledge, acknowledge_again
from drachtwist.server.uac.dialog import make_dialog
from drachtwist.server.uac.forks import MAX_FORKS, Forks
from drachtwist.server.uac.request import ClientSide, OwnRequest, SentRequest
from drachtwist.server.uac.writing import write_cancel
from drachtwist.server.usages import Refreshing
from drachtwist.sip.message import Request, Response
from drachtwist.transactions.client import InviteClient
from drachtwist.transactions.machine import Effect, RingTimedOut, SendCancel
from drachtwist.transactions.timer import Timer

__all__ = ["RACE", "Refresh", "SentInvite"]

RACE = "ACK-BYE due to cancel race condition"
"""Why a call ends that was accepted when it had been cancelled."""

_SENT = SentState.SENT
_PROGRESSING = SentState.PROGRESSING
_ACCEPTED = SentState.ACCEPTED
_OVER = SentState.OVER


class Ringing:
    """What there is of an INVITE while it rings."""

    __slots__ = ("answered", "reliable", "tags")

    def __init__(self) -> None:
        self.answered = False
        """Whether a reliable provisional response answered its offer."""
        self.reliable: dict[str, tuple[Response, Flow]] = {}
        """The reliable responses, by RSeq, and where each came from."""
        self.tags: set[str] = set()
        """The To tags of those that ring."""


class SentInvite(SentRequest):
    """An INVITE, until nothing can happen to it any more."""

    TRANSITIONS = {
        SentState.FINDING: {
            _SENT: "there is a place to send it to",
            _OVER: "there is none, none is left, or it is cancelled",
        },
        _SENT: {
            SentState.FINDING: "silence, 503, or it could not be sent: the next place",
            _PROGRESSING: "101-199",
            _ACCEPTED: "2xx",
            _OVER: "300-699, silence, or it could not be sent",
        },
        _PROGRESSING: {
            _ACCEPTED: "2xx",
            _OVER: "300-699, 64*T1 after a CANCEL, or the connection breaks",
        },
        _ACCEPTED: {SentState.CONFIRMED: "ACK of the application, or ours where it gives none"},
        SentState.CONFIRMED: {},
        _OVER: {},
    }

    __slots__ = ("_alarm", "_forks", "_ringing", "_waiting_cancel")

    transaction = InviteClient

    _ringing: Ringing | None
    """What there is while it rings."""
    _waiting_cancel: bytes | None
    """The CANCEL that waits for a provisional response."""
    _alarm: Timer | None
    """When the ACK has to be there, once the transaction is gone."""
    _forks: Forks | None
    """The calls that others accepted too."""

    def __init__(self, side: ClientSide, link: AppLink | None, method: str = "INVITE") -> None:
        super().__init__(side, link, method)
        self._ringing = None
        self._waiting_cancel = None
        self._alarm = None
        self._forks = None

    @property
    def offers(self) -> bool:
        """Whether it waits for the answer to a session description."""
        answered = self._ringing is not None and self._ringing.answered
        return not answered and carries_session(self.request)

    @property
    def is_forming(self) -> bool:
        """Whether a 2xx makes a dialog of it."""
        return self.dialog is None or self.dialog.early

    # It rings

    def progress(self, response: Response) -> None:
        """Make the early dialog of a call that rings (RFC 3261 section 12.1.2).

        The real server makes it of reliable responses only; as there, one of these is not given up
        for one that is not.
        """
        ringing = self._ringing
        if ringing is None:
            self._ringing = ringing = Ringing()
            self.enter(_PROGRESSING)
        reliable = response.reliable_number is not None
        if reliable and carries_session(response):
            ringing.answered = True
        dialog = self.dialog
        if dialog is not None and not dialog.early:
            return
        tag = response.to_tag
        if tag and len(ringing.tags) < MAX_FORKS:
            ringing.tags.add(tag)
        side = self.instead or self.source[0]
        if reliable:
            # Of several that ring each gets its PRACK.
            if len(ringing.reliable) < MAX_FORKS:
                ringing.reliable[(response.get("RSeq") or "").strip()] = (response, side)
        elif ringing.reliable or not tag:
            return
        make_dialog(self.core, self, response, side, DialogState.EARLY)

    def turn_to(self, rseq: str) -> bool:
        """Let the early dialog be with whom a PRACK is for; say whether that is known.

        :param rseq: the number of the response.
        """
        ringing = self._ringing
        rung = None if ringing is None else ringing.reliable.get(rseq)
        if rung is None:
            return False
        make_dialog(self.core, self, *rung, DialogState.EARLY)
        return True

    def left(self, tag: str) -> None:
        """Cancel it when a callee who rang has sent a BYE; not if others ring too.

        The real server forgets such an INVITE, so that the application waits for ever.
        """
        tags = set() if self._ringing is None else self._ringing.tags
        tags.discard(tag)
        if not tags and not self.cancelled:
            self.cancel()

    # It is cancelled

    def cancel(self, raw: bytes | None = None) -> bool:
        """Cancel it as soon as that is allowed; say whether that was now.

        :param raw: the CANCEL, if not the usual one.
        """
        self.cancelled = True
        self._waiting_cancel = write_cancel(self.request, None) if raw is None else raw
        machine = self.machine
        if isinstance(machine, InviteClient):
            core = self.core
            core.transactions.run(machine, machine.cancel(core.clock.seconds()))
        return self._waiting_cancel is None

    def wanted(self, effect: Effect) -> None:
        """Send the CANCEL that waited; cancel what rings for too long."""
        kind = type(effect)
        if kind is SendCancel:
            self._send_cancel()
        elif kind is RingTimedOut:
            self.cancel()

    def _send_cancel(self) -> None:
        raw, self._waiting_cancel = self._waiting_cancel, None
        flow = self.flow
        if raw is None or flow is None:
            return
        cancel = OwnRequest(self.side, "CANCEL")
        cancel.request = Request.from_bytes(raw)
        cancel.branch = self.branch
        cancel.flow = flow
        cancel.enter(_SENT)
        cancel.transact(flow)

    # It is answered

    def end(self, state: SentState) -> None:
        """Have a final response: nobody rings any more."""
        super().end(state)
        self._ringing = None

    def accepted(self, response: Response) -> None:
        """Make the call, or change it."""
        self.end(_ACCEPTED)
        core = self.core
        dialog = self.dialog
        forming = dialog is None or dialog.early
        if forming:
            side = self.instead or self.source[0]
            state = DialogState.CROSSED if self.cancelled else DialogState.ACCEPTED
            dialog = make_dialog(core, self, response, side, state)
            dialog.sdp = self.request.body
        else:
            assert dialog is not None
            self.refresh_target(dialog, response)
            dialog.sdp = self.request.body or dialog.sdp
        dialog.unconfirmed = self
        core.sessions.answered(dialog, response)
        if forming:
            core.record("start", "network", response.raw, "uac")

    def refused(self, response: Response) -> None:
        """Note that there is no call."""
        self.end(_OVER)
        if self.is_forming:
            reason = "call-canceled" if response.status == 487 else "call-rejected"
            self.core.record("stop", "network", response.raw, reason)

    def refusal_made(self, raw: bytes) -> None:
        """Note that there is no call, since nobody answers."""
        if self.is_forming:
            self.core.record("stop", "network", raw, "call-rejected")

    def settled(self, status: int) -> None:
        """End the early dialog of an INVITE that is refused."""
        super().settled(status)
        dialog = self.dialog
        if status >= 300 and dialog is not None and dialog.early:
            self.core.uas.end(dialog)

    # It is acknowledged

    def confirmed(self) -> None:
        """Note that the ACK is sent."""
        if self.state is _ACCEPTED:
            self.enter(SentState.CONFIRMED)
        if self._alarm is not None:
            self.core.clock.forget(self._alarm)
            self._alarm = None
        if self.dialog is not None and self.dialog.unconfirmed is self:
            self.dialog.unconfirmed = None

    def acknowledge(self) -> None:
        """Send the ACK by ourselves."""
        self.confirmed()
        assert self.dialog is not None, "it was accepted"
        acknowledge(self.core, self.dialog, self.request)

    def forget(self) -> None:
        """Forget the transaction; wait a while longer for an ACK that is still to come."""
        super().forget()
        dialog = self.dialog
        if dialog is None or dialog.unconfirmed is not self:
            return
        core = self.core
        more = core.config.answer_within - core.timing.lifetime
        if dialog.state is DialogState.CROSSED or more <= 0:
            self._hang_up(dialog)  # it was cancelled anyway
            return
        self._alarm = alarm = Timer(self, core.clock.seconds() + more)
        core.clock.watch(alarm)

    def overdue(self) -> None:
        """End the call: the application did not give the ACK."""
        self._alarm = None
        if self.dialog is not None and self.dialog.unconfirmed is self:
            self._hang_up(self.dialog)

    def _hang_up(self, dialog: Dialog) -> None:
        crossed = dialog.state is DialogState.CROSSED
        self.acknowledge()
        self.core.uac.bye(dialog, RACE if crossed else "ACK timeout")
        self.core.uas.end(dialog)

    def responded_again(self, response: Response) -> None:
        """Acknowledge a 2xx that was repeated, with the ACK that was given; end one of another."""
        dialog = self.dialog
        if not 200 <= response.status < 300 or dialog is None:
            return
        try:
            tag = response.to.tag or ""
            forked = tag != dialog.remote_tag and self.request.to.tag is None
        except MessageError:
            return
        if forked:
            if self._forks is None:
                self._forks = Forks()
            self._forks.accepted(self, tag, response, self.instead or self.source[0])
        elif dialog.invite_seq == self.request.cseq.number:
            acknowledge_again(self.core, dialog)
        else:
            self.repeated_late()

    def repeated_late(self) -> None:
        """Note that a 2xx was repeated when there was another INVITE since."""


class Refresh(SentInvite):
    """A re-INVITE of a session timer: the application is not told."""

    __slots__ = ("_final", "_timer")

    _final: Response | None
    """The final response; None when it was made up."""

    def __init__(self, side: ClientSide, timer: Refreshing) -> None:
        super().__init__(side, None)
        self._timer = timer
        self._final = None

    def accepted(self, response: Response) -> None:
        """Go on with the call."""
        self.end(_ACCEPTED)
        assert self.dialog is not None, "it is in one"
        self.refresh_target(self.dialog, response)

    def tell(self, response: Response) -> None:
        """Tell nobody; only the final response counts."""
        if response.status >= 200:
            self._final = response
            self.settled(response.status)

    def tell_invented(self, status: int, phrase: str | None) -> None:
        """Tell nobody."""

    def settled(self, status: int) -> None:
        """Acknowledge, and tell the session timer what became of it."""
        super().settled(status)
        dialog = self.dialog
        if dialog is None or not self.core.dialogs.knows(dialog):
            return
        if status < 300:
            self.acknowledge()
        self.core.sessions.refreshed(dialog, self._timer, status, self._final)

    def repeated_late(self) -> None:
        """Acknowledge it: it is this side's alone."""
        self.acknowledge()
