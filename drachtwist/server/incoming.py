"""A request of the network, from its arrival until nothing can happen to it any more.

What is here all of them have. What an INVITE has in addition, and which states it goes through, is
in :mod:`~drachtwist.server.uas.invite`.
"""

from __future__ import annotations

from typing import Protocol

from drachtwist.net.sip.flows import Flow
from drachtwist.server.amplification import Amplification
from drachtwist.server.clients import AppLink
from drachtwist.server.dialogs import Dialog
from drachtwist.server.ports import Carriers
from drachtwist.server.proxy.known_calls import KnownCall
from drachtwist.sip.message import Request
from drachtwist.sip.replies import ReplyHead
from drachtwist.transactions.machine import Effect, Machine, Terminated, TimedOut, Transmit
from drachtwist.transactions.matching import MergeKey, ServerKey
from drachtwist.transactions.server import InviteServer, NonInviteServer
from drachtwist.transactions.timer import Timer
from drachtwist.wire.session import new_id

__all__ = ["Carrying", "Forwarder", "Incoming", "ServerSide"]


class Carrying(Protocol):
    """What carries responses to peers, and requests to applications."""

    @property
    def amplification(self) -> Amplification:
        """What keeps track of who receives what is sent."""
        ...

    @property
    def carriers(self) -> Carriers:
        """What sends."""
        ...

    def deliver(
        self,
        link: AppLink | None,
        size: int,
        protocol: str,
        host: str,
        port: int,
        transaction_id: str,
        dialog: str,
        raw: bytes,
        tail: str = "",
        source: str = "network",
    ) -> None:
        """Hand a SIP message to an application."""


class ServerSide(Protocol):
    """Who deals with requests of the network: the UAS core."""

    @property
    def core(self) -> Carrying:
        """What carries."""
        ...

    def forget(self, incoming: Incoming) -> None:
        """Forget a transaction."""

    def expired(self, incoming: Incoming) -> None:
        """An application let its time pass."""


class Forwarder(Protocol):
    """What forwards a request: the proxy's response context."""

    @property
    def known(self) -> KnownCall | None:
        """The call that it makes, if the proxy stays in it."""
        ...

    def caller_cancelled(self, cancel: Request) -> None:
        """The caller gave up, and was answered."""

    def let_go(self) -> None:
        """Let go of the targets when nothing can happen to them any more."""


class Incoming:
    """A request of the network, from its arrival until nothing can happen to it any more."""

    __slots__ = (
        "_head",
        "alarm",
        "arrival",
        "dialled",
        "dialog",
        "dialog_id",
        "flow",
        "from_tag",
        "hand_overs",
        "id",
        "is_open",
        "key",
        "link",
        "method",
        "proxied",
        "refreshes",
        "request",
        "side",
        "size",
        "tag",
        "to_tag",
        "transaction",
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
    """When somebody has to have answered it at the latest."""
    proxied: Forwarder | None
    """What forwards it, once an application asked for that."""

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
        self.proxied = None
        self._head: ReplyHead | None = None

    @property
    def untouched(self) -> bool:
        """Whether it is a new request that nobody has answered with anything."""
        return not self.refreshes and self.transaction.status == 0 and self.is_open

    def lines(self, status: int) -> list[str]:
        """Return the header lines that every response starts with."""
        head = self._head
        if head is None:
            self._head = head = ReplyHead(self.request)
        if status <= 100 or not self.to_tag:
            return head.lines()
        makes_dialog = status < 300 and self.method in ("INVITE", "SUBSCRIBE")
        return head.lines(self.to_tag, routes=makes_dialog)

    def hand_over(self) -> None:
        """Hand it to the application whose dialog it is in."""
        flow = self.flow
        self.side.core.deliver(
            self.link,
            self.size,
            flow.reported,
            flow.remote_host,
            flow.remote_port,
            self.id,
            self.dialog_id,
            self.request.raw,
        )

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
                self.timed_out(machine)

    def timed_out(self, machine: Machine) -> None:
        """Do what follows when nothing came of what was waited for."""
        if machine is self.alarm:
            self.alarm = None
            self.side.expired(self)
