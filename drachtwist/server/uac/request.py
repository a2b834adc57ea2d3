"""A request of this side, from the command until nothing can happen to it any more.

It is sent to one place after the other, if it has to be (:mod:`~drachtwist.server.attempts`), and
ends with one final response: that of the peer, or one that is made up here when nobody answers. The
application is told of it, and of the provisional ones above 100.

An INVITE (:mod:`~drachtwist.server.uac.invite`) and a SUBSCRIBE
(:mod:`~drachtwist.server.uac.subscribe`) make dialogs, and are more. What the server sends by
itself is nobody's: its CANCEL, and the BYE of a call that it ends (:class:`OwnRequest`).
"""

from __future__ import annotations

import re
from typing import ClassVar, Protocol

from drachtwist.net.sip.flows import Flow
from drachtwist.server.attempts import Attempted, SentState
from drachtwist.server.checks import carries_session, has_more_hops
from drachtwist.server.clients import AppLink
from drachtwist.server.compose import new_tag, readdressed, via_of
from drachtwist.server.dialogs import Dialog, refresh_target
from drachtwist.server.owncontact import NOBODY, own_contact
from drachtwist.server.roles import Core
from drachtwist.sip.encoding import joined, status_line
from drachtwist.sip.message import Request, Response
from drachtwist.sip.replies import ReplyHead
from drachtwist.transactions.client import InviteClient, NonInviteClient
from drachtwist.transactions.machine import (
    Deliver,
    Effect,
    Machine,
    Terminated,
    TimedOut,
    Transmit,
    TransportFailed,
)
from drachtwist.transactions.matching import ClientKey
from drachtwist.wire import reports
from drachtwist.wire.session import new_id

__all__ = ["ClientSide", "OwnRequest", "SentRequest", "echo"]

_FINDING = SentState.FINDING
_SENT = SentState.SENT
_PROGRESSING = SentState.PROGRESSING
_OVER = SentState.OVER
_UNDER_WAY = (_FINDING, _SENT, _PROGRESSING)


class ClientSide(Protocol):
    """What a request needs of the UAC core."""

    @property
    def core(self) -> Core:
        """What joins the roles."""
        ...

    def conclude(self, sent: SentRequest) -> None:
        """Let nobody cancel a request any more, nor take it for a dialog to come."""

    def accepted_for_nobody(self, dialog: Dialog) -> None:
        """Deal with a dialog that was accepted, and whose application is gone."""


class SentRequest(Attempted):
    """A request of this side, until nothing can happen to it any more."""

    TRANSITIONS = {
        _FINDING: {
            _SENT: "there is a place to send it to",
            _OVER: "there is none, or none is left",
        },
        _SENT: {
            _FINDING: "silence, 503, or it could not be sent: the next place",
            _PROGRESSING: "101-199",
            _OVER: "200-699, silence, or it could not be sent",
        },
        _PROGRESSING: {_OVER: "200-699, silence, or the connection breaks"},
        _OVER: {},
    }

    __slots__ = (
        "call_id",
        "contact",
        "dialog",
        "dialog_id",
        "from_tag",
        "id",
        "link",
        "message_id",
        "method",
        "named",
        "protocol",
        "request",
        "secure",
        "side",
        "told",
        "written",
    )

    transaction: ClassVar[type[InviteClient] | type[NonInviteClient]] = NonInviteClient
    """The kind of its transactions."""

    core: Core
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
    source: tuple[Flow, int]  # pyright: ignore[reportIncompatibleVariableOverride]
    """Where the response at hand came from, and how many bytes it had."""

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
        self.written = True
        self.contact = None
        self.secure = self.named = False
        self.told = ""

    @property
    def is_under_way(self) -> bool:
        """Whether there is no final response."""
        return self.state in _UNDER_WAY

    @property
    def rang(self) -> bool:
        """Whether the last that was heard was a provisional response above 100."""
        return self.state is _PROGRESSING

    @property
    def offers(self) -> bool:
        """Whether it waits for the answer to a session description."""
        return self.method == "UPDATE" and carries_session(self.request)

    # On the way

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
        """Answer the command, now that it is known which way the request goes, and send it."""
        flow = self.flow
        assert flow is not None
        first = self.protocol == "unknown"
        self.protocol = flow.reported
        self.answer_command()
        self.transact(flow)
        if first and self.method == "BYE" and self.dialog is not None:
            self.core.record("stop", "application", self.request.raw, "normal-release")

    def transact(self, flow: Flow) -> None:
        """Begin a transaction."""
        core = self.core
        origin = None if self.dialog is None else self.dialog.origin
        if origin is not None:
            core.amplification.suspect(flow, origin.flow)
        kind = self.transaction
        machine = kind(self.request, reliable=flow.reliable, timing=core.timing)
        machine.owner = self
        self.machine = machine
        self.key = key = ClientKey(f"{self.branch} {self.method}")
        core.transactions.clients[key] = self
        core.transactions.run(machine, machine.start(core.clock.seconds()))

    def answer_command(self) -> None:
        """Answer the command with the request as it was sent, if that was not done yet.

        As with the real server that may be before it is known which way it goes.
        """
        message_id = self.message_id
        if self.link is not None and message_id:
            self.message_id = ""
            echo(self.core, self.link, message_id, self.id, self.request.raw, self.flow)

    def react(self, machine: Machine, effects: list[Effect]) -> None:
        """Do what the machine wants done."""
        for effect in effects:
            kind = type(effect)
            if kind is Transmit:
                assert self.flow is not None
                if not self.core.carriers.send(self.flow, effect.data):  # type: ignore[union-attr]
                    self.lost()
                    return
            elif kind is Deliver:
                self.responded(effect.message)  # type: ignore[union-attr, arg-type]
            elif kind is TimedOut:
                if machine is self.machine:
                    self.core.timed_out(self.flow)
                    self.unreached(408)
                else:
                    self.overdue()
            elif kind is TransportFailed:
                self.unreached(503)
            elif kind is Terminated:
                if machine is self.machine:
                    self.forget()
            else:
                self.wanted(effect)

    def wanted(self, effect: Effect) -> None:
        """Do what only the transaction of an INVITE wants done."""

    def overdue(self) -> None:
        """Note that the time has come for which something was waited."""

    def forget(self) -> None:
        """Forget the transaction, and let it go: nothing may be left to the collector."""
        core = self.core
        if self.key is not None:
            core.transactions.clients.pop(self.key, None)
        self.side.conclude(self)
        if self.machine is not None:
            core.clock.forget(self.machine)
            self.machine.owner = None
        dialog = self.dialog
        if dialog is not None and self in dialog.asked:
            dialog.asked.remove(self)  # one that nobody waited for

    # What becomes of it

    def awaits(self, response: Response) -> bool:
        """Return whether a response ends here (RFC 3261 section 8.1.3.3)."""
        return not has_more_hops(response)

    def responded(self, response: Response) -> None:
        """Do what follows from a response, and hand it to the application."""
        status = response.status
        if status == 100:
            return
        if self.state not in _UNDER_WAY:
            self.responded_again(response)
            return
        if status < 200:
            self.progress(response)
        elif status < 300:
            self.accepted(response)
        elif status == 503 and self.way is not None:
            self.unreached(status, response)
            return
        else:
            self.refused(response)
        self.tell(response)

    def responded_again(self, response: Response) -> None:
        """Look at a response behind the final one."""

    def progress(self, response: Response) -> None:
        """Note that somebody works on it."""
        if self.state is _SENT:
            self.enter(_PROGRESSING)

    def accepted(self, response: Response) -> None:
        """Do what a 2xx does."""
        self.end(_OVER)
        if self.dialog is not None:
            self.refresh_target(self.dialog, response)

    def refused(self, response: Response) -> None:
        """Do what a refusal does."""
        self.end(_OVER)

    def tell(self, response: Response) -> None:
        """Hand a response to the application, and look what it ends if it is final."""
        flow, size = self.source
        self.core.deliver(
            self.link,
            size,
            flow.reported,
            flow.remote_host,
            flow.remote_port,
            self.id,
            self.dialog_id,
            response.raw,
        )
        status = response.status
        if status >= 200:
            self.settled(status)
            link = self.link
            if (
                status < 300
                and self.dialog is not None
                and link is not None
                and link not in self.core.clients
            ):
                self.side.accepted_for_nobody(self.dialog)

    def refresh_target(self, dialog: Dialog, response: Response) -> None:
        """Go where the Contact of a 2xx says from now on (RFC 3261 section 12.2.1.2)."""
        if dialog.is_refreshed_by(self.method):
            nat = self.core.config.nat_detection
            refresh_target(dialog, response, self.instead or self.source[0], nat)

    def end(self, state: SentState) -> None:
        """Have a final response: there are no further attempts, and nobody can cancel it."""
        self.enter(state)
        self.way = None
        self.side.conclude(self)

    def failed(self, status: int, response: Response | None, phrase: str | None = None) -> None:
        """Tell the application what became of the last attempt."""
        if response is not None:
            self.responded(response)
        else:
            self.invent(status, phrase)

    def invent(self, status: int, phrase: str | None = None) -> None:
        """Make up the final response that does not come, and tell the application."""
        self.answer_command()
        self.way = None
        if self.state in _UNDER_WAY:
            self.end(_OVER)
            self.tell_invented(status, phrase)
            self.settled(status)

    def tell_invented(self, status: int, phrase: str | None) -> None:
        """Tell the application a final response that is made up."""
        request = self.request
        to, tag = request.get("To") or "", ""
        if request.to_tag is None:
            to, tag = _bare(to), new_tag()
        raw = joined(status_line(status, phrase), ReplyHead(request, to).lines(tag))
        self.refusal_made(raw)
        self.core.deliver(self.link, 0, self.protocol, "", 0, self.id, self.dialog_id, raw)

    def refusal_made(self, raw: bytes) -> None:
        """Note that a refusal was made up."""

    def settled(self, status: int) -> None:
        """Do what a final response does to the dialog of the request."""
        dialog = self.dialog
        if dialog is None:
            return
        if self in dialog.asked:
            dialog.asked.remove(self)
        if self.method == "BYE":
            if status not in (401, 407):
                self.core.uas.end(dialog)
        elif (
            self.method == "NOTIFY"
            and dialog.method == "SUBSCRIBE"
            and dialog.is_uas
            and self.request.subscription_is_over
        ):
            self.core.uas.end(dialog)


class OwnRequest(SentRequest):
    """A CANCEL or BYE that the server sends by itself: nobody is told what becomes of it."""

    __slots__ = ()

    def __init__(self, side: ClientSide, method: str) -> None:
        super().__init__(side, None, method)

    def responded(self, response: Response) -> None:
        """Be satisfied with any final response."""
        if response.status >= 200 and self.state is not _OVER:
            self.end(_OVER)

    def tell_invented(self, status: int, phrase: str | None) -> None:
        """Tell nobody."""


def echo(
    core: Core,
    link: AppLink,
    message_id: str,
    transaction_id: str,
    raw: bytes,
    flow: Flow | None,
    size: int | None = None,
) -> None:
    """Answer a command with the request as it was sent.

    :param flow: which way it went; None while that is not known.
    :param size: its bytes, if not all that there are.
    """
    if flow is None:
        # As the real server: which way it goes is not known yet.
        raw = re.sub(rb"\r\nVia: [^\r]*", b"", raw, count=1)
        size, protocol, host, port = 0, "unknown", "", 0
    else:
        size = len(raw) if size is None else size
        protocol, host, port = flow.reported, flow.remote_host, flow.remote_port
        if flow.protocol == "udp":
            host, port = flow.local_host, flow.local_port
    tokens = reports.echo(size, protocol, host, port, core.time_of_day(), transaction_id)
    link.answer(message_id, "OK", *tokens, raw=raw)


def _bare(address: str) -> str:
    """Write an address without brackets, as the real server does in what it makes up."""
    found = re.fullmatch(r"<([^>]*)>(.*)", address)
    return address if found is None else f"{found[1]}{found[2]}"
