"""One connection that is up, and what lives on it: dialogs, and transactions that are open.

A frame names its transaction or dialog by an id that means something on its connection only; the
tables here tell whose it is. Whatever needs the connection is counted (:meth:`Connection.use`,
:meth:`Connection.release`), so that one which a server made for a single request can be closed when
nothing uses it any more.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from drachtwist.app.dialog_table import DialogIndex, DialogTable
from drachtwist.app.events import Events
from drachtwist.app.ports import EndedDialog, PendingInvite, PendingRequest
from drachtwist.app.silence import Silence
from drachtwist.errors import ConnectionLost
from drachtwist.net.protocol import DrachtioProtocol
from drachtwist.tracing.trace import Trace
from drachtwist.wire.reports import TRANSACTION_ID

__all__ = ["CURRENT", "Connection", "Owner", "Server"]

CURRENT: ContextVar[Connection | None] = ContextVar("drachtwist_link", default=None)
"""The outbound connection whose request is being handled, also by what its handler awaits."""

# Responses that came before the answer that names their transaction: a server hardly ever does
# that, and the answer then follows at once.
_MAX_STRAYS = 32


@dataclass(frozen=True, slots=True)
class Server:
    """The server at the other end of a connection."""

    address: str
    """Its address on this connection."""
    host_ports: tuple[str, ...]
    """``proto/host:port`` of each of its SIP transports, as seen from outside."""
    local_host_ports: tuple[str, ...]
    """The addresses that its SIP transports are bound to."""
    version: str
    """Its version, ``v0.9.10`` or the like."""


class Owner(Protocol):
    """What a connection needs of the application that it belongs to."""

    srf: Any
    """The application, as handlers know it."""
    handler: Any
    """The dispatcher."""
    events: Events
    settings: dict[str, Any]
    trace: Trace | None
    """Who is told which Call-IDs belong to one call, if anybody is."""
    early_dialogs: Any
    """Finds the early dialogs of calls."""
    dialogs: DialogIndex[Any]
    """Those of all connections."""
    nonces: Any
    """Challenges that were answered, of all connections."""

    @property
    def clock(self) -> IReactorTime:
        """What deadlines hang on."""
        ...

    @property
    def is_closing(self) -> bool:
        """Whether everything that is open is ended."""
        ...

    def unused(self, state: Connection, /) -> None:
        """Nothing uses a connection any more."""


RING_CEILING = 240.0
"""Seconds without a response after which a call that rang is given up.

That is Timer C (RFC 3261 section 16.6), which is longer than 3 minutes. Servers end a call that
rings in silence after 217 s; but a real one forgets the INVITE, and says nothing more, when the
callee ends it with a BYE.
"""


class Connection:
    """The dialogs and transactions of one connection.

    :param owner: whose connection it is.
    :param link: the protocol that speaks to the server.
    """

    __slots__ = (
        "calling",
        "clock",
        "dialogs",
        "early",
        "events",
        "farewells",
        "held",
        "idle_call",
        "invites",
        "is_lost",
        "leaving",
        "link",
        "owner",
        "requests",
        "ringing",
        "server",
        "strays",
        "unconfirmed",
    )

    def __init__(self, owner: Owner, link: DrachtioProtocol) -> None:
        self.owner = owner
        self.clock = owner.clock
        self.events = owner.events
        self.link = link
        self.server = Server(
            str(getattr(link.peer, "host", "")),
            link.host_ports,
            link.local_host_ports,
            link.server_version,
        )
        self.dialogs: DialogTable[Any] = DialogTable(owner.dialogs)
        self.invites: dict[str, PendingInvite] = {}
        """INVITEs from the network without a confirmed final response, by transaction id; other
        requests when somebody has to learn that the connection was lost."""
        self.early: dict[str, Any] = {}
        """INVITEs from the network (:class:`~drachtwist.Request`) that were answered provisionally,
        by dialog id."""
        self.calling: dict[str, Any] = {}
        """INVITEs of ours that were answered provisionally, by dialog id."""
        self.ringing = Silence(owner.clock, RING_CEILING)
        """How long INVITEs of ours have rung since the last response."""
        self.requests: dict[str, PendingRequest] = {}
        """Requests of ours without a final response, by transaction id."""
        self.farewells: dict[str, EndedDialog] = {}
        """BYEs for dialogs of earlier connections, by dialog id."""
        self.unconfirmed = 0
        """Requests of ours whose transaction id is not known yet."""
        self.strays: dict[str, list[tuple[Any, bytes]]] = {}
        """Responses to those, by transaction id."""
        self.is_lost = False
        """Whether the connection is gone, and everything was told of it."""
        self.held = False
        """The connection stays open although nothing uses it."""
        self.leaving = False
        """The application closes the connection by itself."""
        self.idle_call: IDelayedCall | None = None
        """Closes an outbound connection that brings no request."""

    def use(self) -> None:
        """Note that something began which needs the connection."""
        self.link.uses += 1

    def release(self) -> None:
        """Note that something is over which needed the connection."""
        link = self.link
        link.uses -= 1
        if not link.uses:
            self.owner.unused(self)

    @property
    def is_idle(self) -> bool:
        """Whether no transaction and no dialog is open."""
        return not self.link.uses

    def hang_up(self) -> None:
        """End whatever is open: calls that were not answered, dialogs, calls of our own."""
        for pending in list(self.invites.values()):
            req = pending._invite()
            if not req.res.finished:
                req.res.send(503)
        for request in list(self.requests.values()):
            request.hang_up()
        for dialog in list(self.dialogs):
            dialog.destroy()

    def lost(self, reason: str) -> None:
        """The connection is gone: all that is open fails, dialogs end.

        Each gets an error of its own: the frames that it is raised in know who was told.
        """
        self.is_lost = True
        requests, self.requests = self.requests, {}
        for request in requests.values():
            request.link_down(ConnectionLost(reason))
        invites, self.invites = self.invites, {}
        for invite in invites.values():
            invite._link_lost(ConnectionLost(reason))
        for dialog in list(self.dialogs):
            dialog._link_lost(ConnectionLost(reason))
        self.ringing.close()
        # They know the connection, which nothing is looked for on any more.
        self.early.clear()
        self.calling.clear()

    def is_ambiguous(self, dialog_id: str) -> bool:
        """Return whether both sides of a call, one to oneself, have this dialog id here."""
        dialogs = self.dialogs
        return dialog_id in dialogs.shared or (
            (dialog_id in self.early or dialog_id in self.calling)
            and (dialog_id in self.early or dialogs.get(dialog_id, "uas") is not None)
            and (dialog_id in self.calling or dialogs.get(dialog_id, "uac") is not None)
        )

    def confirm(self, transaction_id: str, request: PendingRequest) -> None:
        """Note the transaction that the server gave a request of ours."""
        self.unconfirmed -= 1
        self.requests[transaction_id] = request
        if self.strays:
            for tokens, raw in self.strays.pop(transaction_id, ()):
                request.responded(tokens, raw)

    def unconfirm(self) -> None:
        """Note that the server refused a request of ours."""
        self.unconfirmed -= 1

    def stray(self, tokens: Any, raw: bytes) -> bool:
        """Keep a response that may have overtaken the answer that names its transaction."""
        if not self.unconfirmed or len(self.strays) >= _MAX_STRAYS:
            return False
        self.strays.setdefault(tokens[TRANSACTION_ID], []).append((tokens, raw))
        return True
