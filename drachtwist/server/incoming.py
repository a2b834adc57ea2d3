"""A request of the network, from its arrival until nothing can happen to it any more."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

from drachtwist.net.sip.flows import Flow
from drachtwist.server.amplification import Amplification
from drachtwist.server.clients import AppLink
from drachtwist.server.dialogs import Dialog
from drachtwist.server.ports import Carriers
from drachtwist.server.proxy.known_calls import KnownCall
from drachtwist.sip.fields import Address
from drachtwist.sip.message import Request
from drachtwist.sip.replies import ReplyHead
from drachtwist.transactions.machine import Effect, Machine, Terminated, TimedOut, Transmit
from drachtwist.transactions.matching import MergeKey, ServerKey
from drachtwist.transactions.retransmission import AnswerRepeater, ProvisionalRepeater
from drachtwist.transactions.server import InviteServer, NonInviteServer
from drachtwist.transactions.timer import Timer
from drachtwist.wire.session import new_id

__all__ = ["Forwarder", "Incoming", "Reply", "ServerSide"]


class Sending(Protocol):
    """What sends responses."""

    @property
    def amplification(self) -> Amplification:
        """What keeps track of who receives what is sent."""

    @property
    def carriers(self) -> Carriers:
        """What sends."""


class ServerSide(Protocol):
    """Who deals with requests of the network: the UAS core."""

    @property
    def core(self) -> Sending:
        """What sends."""

    def forget(self, incoming: Incoming) -> None:
        """Forget a transaction."""

    def expired(self, incoming: Incoming) -> None:
        """An application let its time pass."""

    def unconfirmed(self, incoming: Incoming) -> None:
        """The ACK of a 2xx, or the PRACK of a provisional response, did not come."""


class Forwarder(Protocol):
    """What forwards a request: the proxy's response context."""

    @property
    def known(self) -> KnownCall | None:
        """The call that it makes, if the proxy stays in it."""

    def caller_cancelled(self, cancel: Request) -> None:
        """The caller gave up, and was answered."""

    def let_go(self) -> None:
        """Let go of the targets when nothing can happen to them any more."""


class Reply(NamedTuple):
    """A response of an application, complete."""

    status: int
    raw: bytes
    rseq: int
    """Its RSeq, 0 when it has none."""
    silent: bool
    """Whether its PRACK is answered here."""
    body: bytes
    session: tuple[int, bool] | None
    """The session timer that it agrees on: the interval, and whether the server refreshes."""


class Incoming:
    """A request of the network, from its arrival until nothing can happen to it any more."""

    __slots__ = (
        "_head",
        "alarm",
        "arrival",
        "cancelled",
        "described",
        "dialled",
        "dialog",
        "dialog_id",
        "early_dialog",
        "flow",
        "from_tag",
        "hand_overs",
        "id",
        "is_open",
        "key",
        "link",
        "method",
        "offering",
        "peer_seq",
        "pracked",
        "proxied",
        "queue",
        "refreshes",
        "reliable",
        "repeater",
        "request",
        "rseq",
        "side",
        "silent",
        "size",
        "tag",
        "target",
        "to_tag",
        "transaction",
        "update",
    )

    id: str
    """What applications call its transaction."""
    key: ServerKey
    arrival: MergeKey | None
    """What copies of it that took another way have in common, as long as they are refused."""
    method: str
    request: Request
    from_tag: str
    """The tag in its From; may be empty."""
    flow: Flow
    size: int
    """How many bytes were received."""
    transaction: InviteServer | NonInviteServer
    link: AppLink | None
    """The application that has it."""
    dialled: bool
    """Whether the application was connected to for it."""
    tag: str | None
    """The tag that the application has to have; None for any application."""
    hand_overs: int
    """How many applications it was given to."""
    dialog: Dialog | None
    """The dialog that it is in, or that it made."""
    dialog_id: str
    """What applications call the dialog; empty outside of dialogs."""
    refreshes: bool
    """Whether it came inside a dialog or early dialog."""
    to_tag: str
    """The tag of our responses; empty until the first one."""
    is_open: bool
    """Whether the application may still answer it."""
    alarm: Timer | None
    repeater: AnswerRepeater | ProvisionalRepeater | None
    reliable: bool
    """Whether all provisional responses are made reliable, since the caller requires it."""
    rseq: int
    """The RSeq of the last reliable response."""
    pracked: bool
    """Whether a PRACK was handed to the application."""
    silent: bool
    """Whether the PRACK of the last reliable response is answered here."""
    queue: deque[Reply] | None
    """Responses that wait for a PRACK."""
    cancelled: tuple[int, bytes] | None
    """The CANCEL that came before the application had the request."""
    proxied: Forwarder | None
    """What forwards it, once an application asked for that."""
    early_dialog: Dialog | None
    """The dialog that the application asks in before it answered, if it does."""
    described: bool
    """Whether a response had a session description."""
    offering: bool
    """Whether that was an offer, which no PRACK has answered."""
    update: Incoming | None
    """The last UPDATE before the answer to an INVITE."""
    peer_seq: int
    """The highest CSeq of what came in the early dialog of an INVITE, 0 before the first."""
    target: tuple[Address, Flow] | None
    """The Contact of an UPDATE that was accepted before the INVITE, and where it came from."""

    def __init__(self, side: ServerSide, request: Request, method: str, flow: Flow, size: int):
        self.side = side
        self.request = request
        self.method = method
        self.flow = flow
        self.size = size
        self.id = new_id()
        self.arrival = None
        self.link = None
        self.dialled = False
        self.tag = None
        self.hand_overs = 0
        self.dialog = None
        self.dialog_id = ""
        self.refreshes = False
        self.to_tag = ""
        self.is_open = True
        self.alarm = None
        self.repeater = None
        self.reliable = False
        self.rseq = 0
        self.pracked = False
        self.silent = False
        self.queue = None
        self.cancelled = None
        self.proxied = None
        self.early_dialog = None
        self.described = False
        self.offering = False
        self.update = None
        self.peer_seq = 0
        self.target = None
        self._head: ReplyHead | None = None

    @property
    def untouched(self) -> bool:
        """Whether it is a new request that nobody has answered with anything."""
        return not self.refreshes and self.transaction.status == 0 and self.is_open

    def has_to_wait(self, status: int) -> bool:
        """Whether a response to an INVITE has to wait for a PRACK, or for the answer to an UPDATE.

        A 2xx that overtakes the latter would make the offer in the UPDATE one in the dialog.
        """
        update = self.update
        return status < 300 and (
            type(self.repeater) is ProvisionalRepeater
            or (status >= 200 and update is not None and update.transaction.status < 200)
        )

    @property
    def accepted(self) -> bool:
        """Whether a 2xx waits, for a PRACK or an UPDATE, which for the application was sent."""
        return any(200 <= reply.status < 300 for reply in self.queue or ())

    def lines(self, status: int) -> list[str]:
        """Return the header lines that every response starts with."""
        head = self._head
        if head is None:
            self._head = head = ReplyHead(self.request)
        if status <= 100 or not self.to_tag:
            return head.lines()
        makes_dialog = status < 300 and self.method in ("INVITE", "SUBSCRIBE")
        return head.lines(self.to_tag, routes=makes_dialog)

    def react(self, machine: Machine, effects: list[Effect]) -> None:
        """Do what a machine wants done."""
        side = self.side
        for effect in effects:
            kind = type(effect)
            if kind is Transmit:
                core = side.core
                if self.to_tag:
                    core.amplification.tagged(self.flow, self.to_tag)
                core.carriers.send(self.flow, effect.data)  # type: ignore[union-attr]
            elif kind is Terminated:
                if machine is self.transaction:
                    side.forget(self)
            elif kind is TimedOut:
                if machine is self.alarm:
                    self.alarm = None
                    side.expired(self)
                elif machine is self.repeater:
                    side.unconfirmed(self)
