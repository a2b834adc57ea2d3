"""A request of an application, from the command until nothing can happen to it any more."""

from __future__ import annotations

from typing import Any, Protocol

from drachtwist.net.sip.flows import Flow
from drachtwist.server.attempts import Attempted, Attempting, SentState
from drachtwist.server.checks import carries_session, has_more_hops
from drachtwist.server.clients import AppLink
from drachtwist.server.compose import readdressed, via_of
from drachtwist.server.dialogs import Dialog
from drachtwist.server.incoming import Incoming
from drachtwist.server.owncontact import NOBODY, own_contact
from drachtwist.server.usages import Refreshing
from drachtwist.sip.message import Request, Response
from drachtwist.transactions.machine import (
    Deliver,
    Effect,
    Machine,
    RingTimedOut,
    SendCancel,
    Terminated,
    TimedOut,
    Transmit,
    TransportFailed,
)
from drachtwist.transactions.timer import Timer
from drachtwist.wire.session import new_id

__all__ = ["ClientSide", "Outgoing"]


class Asking(Attempting, Protocol):
    """What attempts need, and what learns whether connections are dead."""

    def timed_out(self, flow: Flow | None) -> None:
        """Take note that nobody answered over a flow."""


class ClientSide(Protocol):
    """Who deals with requests of applications: the UAC core."""

    @property
    def core(self) -> Asking:
        """What sends."""

    def begin(self, outgoing: Outgoing) -> None:
        """Send a request whose way is known, and answer the command."""

    def responded(self, outgoing: Outgoing, message: Any) -> None:
        """Do what follows from a response."""

    def invent(self, outgoing: Outgoing, status: int, phrase: str | None = None) -> None:
        """Make up the final response that does not come."""

    def send_cancel(self, outgoing: Outgoing) -> None:
        """Send the CANCEL that waited."""

    def give_up(self, outgoing: Outgoing) -> None:
        """Cancel an INVITE that rings for too long."""

    def overdue(self, outgoing: Outgoing) -> None:
        """End what waited for long enough."""

    def lost(self, outgoing: Attempted) -> None:
        """Fail a request that did not reach its peer."""

    def forget(self, outgoing: Outgoing) -> None:
        """Forget a transaction."""


class Outgoing(Attempted):
    """A request of an application, until nothing can happen to it any more."""

    TRANSITIONS = {
        SentState.FINDING: {SentState.SENT: "there is a place to send it to"},
        SentState.SENT: {
            SentState.FINDING: "silence, 503, or it could not be sent: the next place",
            SentState.PROGRESSING: "101-199",
        },
        SentState.PROGRESSING: {},
    }

    __slots__ = (
        "alarm",
        "answered",
        "call_id",
        "cancel",
        "contact",
        "dialog",
        "dialog_id",
        "ended",
        "forks",
        "from_tag",
        "held",
        "id",
        "link",
        "message_id",
        "method",
        "named",
        "protocol",
        "refresh",
        "request",
        "rung",
        "secure",
        "side",
        "source",
        "tags",
        "told",
        "written",
    )

    id: str
    """What applications call its transaction."""
    method: str
    link: AppLink | None
    """The application that asked; None for what the server sends by itself."""
    message_id: str
    """The command that it came with, until that is answered."""
    dialog: Dialog | None
    """The dialog that it is in, or that it made."""
    dialog_id: str
    """What applications call the dialog; empty outside of dialogs."""
    request: Request
    """As it is sent, or would be if its name had an address."""
    contact: str | None
    """The Contact as the application wrote it, of a request that has one outside of dialogs."""
    named: bool
    """Whether the application has named the transport."""
    secure: bool
    """Whether it is for a ``sips:`` URI."""
    told: str
    """The Contact that the application was told first."""
    written: bool
    """Whether it was written for the flow that it takes first."""
    protocol: str
    """The transport, as frames name it."""
    call_id: str
    from_tag: str
    ended: bool
    """Whether the application was told a final response."""
    source: tuple[Flow, int]
    """Where the response at hand came from, and how many bytes it had."""
    answered: bool
    """Whether a reliable provisional response answered its offer."""
    forks: dict[str, Dialog] | None
    """The calls that others accepted too, by their To tags."""
    alarm: Timer | None
    """When the ACK has to be there."""
    refresh: Refreshing | None
    """The session timer that it is to satisfy, when the server sends it by itself."""
    cancel: bytes | None
    """The CANCEL that waits for a provisional response."""
    rung: dict[str, tuple[Response, Flow]] | None
    """The reliable responses to this INVITE, by RSeq, if several that ring sent one."""
    tags: set[str] | None
    """The To tags of those that ring."""
    held: list[Incoming] | None
    """NOTIFYs that came before the answer to this SUBSCRIBE."""

    def __init__(self, side: ClientSide, link: AppLink | None, method: str) -> None:
        super().__init__(side.core)
        self.side = side
        self.id = new_id()
        self.link = link
        self.message_id = ""
        self.method = method
        self.dialog = None
        self.dialog_id = ""
        self.protocol = "unknown"
        self.call_id = ""
        self.from_tag = ""
        self.ended = False
        self.cancel = None
        self.rung = None
        self.tags = None
        self.held = None
        self.answered = False
        self.forks = None
        self.alarm = None
        self.refresh = None
        self.written = True
        self.contact = None
        self.secure = self.named = False
        self.told = ""

    @property
    def rang(self) -> bool:
        """Whether there was a provisional response above 100."""
        return self.state is SentState.PROGRESSING

    def write(self, flow: Flow) -> int:
        """Write into the request which way it goes, unless that was known when it was written."""
        if self.written:
            self.written = False
            return len(self.request.raw)
        via = via_of(flow.protocol, flow.local, self.branch)
        contact = None
        if self.dialog is None and self.contact is not None:
            # TCP that only the length of the request wants is nothing to be reached by.
            side = self.instead or flow
            contact = self.contact_over(side.protocol, side.local)
        self.request = Request.from_bytes(readdressed(self.request.raw, via, contact))
        return len(self.request.raw)

    def contact_over(self, protocol: str, local: str) -> str:
        """Write the Contact for a way that the request takes.

        An application that names the transport of the request may name it there as well; as the
        real server, ours then leaves that to it.
        """
        assert self.contact is not None, "it has one"
        shown = "udp" if self.named and self.contact != NOBODY else protocol
        return own_contact(self.contact, shown, local, secure=self.secure)

    def start(self) -> None:
        """Begin the transaction."""
        self.side.begin(self)

    def failed(self, status: int, response: Response | None, phrase: str | None = None) -> None:
        """Tell the application what became of it."""
        if response is not None:
            self.side.responded(self, response)
        else:
            self.side.invent(self, status, phrase)

    def awaits(self, response: Response) -> bool:
        """Whether a response ends here (RFC 3261 section 8.1.3.3)."""
        return not has_more_hops(response)

    @property
    def offers(self) -> bool:
        """Whether it waits for the answer to a session description."""
        if self.method not in ("INVITE", "UPDATE") or self.answered:
            return False
        return carries_session(self.request)

    def react(self, machine: Machine, effects: list[Effect]) -> None:
        """Do what the machine wants done."""
        side = self.side
        for effect in effects:
            kind = type(effect)
            if kind is Transmit:
                assert self.flow is not None
                if not side.core.carriers.send(self.flow, effect.data):  # type: ignore[union-attr]
                    side.lost(self)
                    return
            elif kind is Deliver:
                side.responded(self, effect.message)  # type: ignore[union-attr]
            elif kind is SendCancel:
                side.send_cancel(self)
            elif kind is RingTimedOut:
                side.give_up(self)
            elif kind is TimedOut:
                if machine is self.alarm:
                    self.alarm = None
                    side.overdue(self)
                else:
                    side.core.timed_out(self.flow)
                    self.unreached(408)
            elif kind is TransportFailed:
                self.unreached(503)
            elif kind is Terminated and machine is self.machine:
                side.forget(self)
