"""What the application layer knows about each connection: its dialogs and open transactions."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from drachtwist.app.dialogs import DialogTable
from drachtwist.app.outcomes import Outcome
from drachtwist.app.ports import PendingInvite, PendingRequest

if TYPE_CHECKING:
    from drachtwist.app.events import Events
    from drachtwist.app.request import Request
    from drachtwist.app.srf import Srf
    from drachtwist.app.uac import Asking
    from drachtwist.net.protocol import DrachtioProtocol

__all__ = ["Handed", "LinkState", "Server"]

CURRENT: ContextVar[LinkState | None] = ContextVar("drachtwist_link", default=None)
"""The outbound connection whose request is being handled, also by what its handler awaits."""

_T = TypeVar("_T")

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


class Handed(Outcome[_T]):
    """A Deferred that is handed out to many who never look at it.

    Most callers of ``res.send(200)`` drop what it returns. It fires all the same; but a failure
    that nobody took when it is thrown away ends in a useful line of the log, instead of as
    "Unhandled error in Deferred".
    """

    _unheard: Callable[[Exception], object] | None = None
    _error: Exception | None = None

    def fail(self, error: Exception, unheard: Callable[[Exception], object]) -> None:
        """Fire with an error.

        :param unheard: called with it if nobody takes it; it must not know this Deferred.
        """
        self._error, self._unheard = error, unheard
        self.errback(Failure(error))

    def __del__(self) -> None:
        if self._error is not None:
            self.addErrback(self._thrown_away)

    def _thrown_away(self, failure: Failure) -> Failure | None:
        error, unheard = self._error, self._unheard
        if error is None or unheard is None or failure.value is not error:
            return failure  # of what somebody did with it
        unheard(error)
        return None


class LinkState:
    """The dialogs and transactions of one connection.

    :param srf: whose connection it is.
    :param link: the connection.
    :param events: who is told of what.
    """

    __slots__ = (
        "calling",
        "dialogs",
        "early",
        "events",
        "held",
        "idle_call",
        "invites",
        "leaving",
        "link",
        "requests",
        "server",
        "srf",
        "strays",
        "unconfirmed",
    )

    def __init__(self, srf: Srf, link: DrachtioProtocol, events: Events) -> None:
        self.srf = srf
        self.events = events
        self.link = link
        self.server = Server(
            str(getattr(link.peer, "host", "")),
            link.host_ports,
            link.local_host_ports,
            link.server_version,
        )
        self.dialogs = DialogTable()
        self.invites: dict[str, PendingInvite] = {}
        """INVITEs from the network without a confirmed final response, by transaction id; other
        requests when somebody has to learn that the connection was lost."""
        self.early: dict[str, Request] = {}
        """INVITEs from the network that were answered provisionally, by dialog id."""
        self.calling: dict[str, Asking] = {}
        """INVITEs of ours that were answered provisionally, by dialog id."""
        self.requests: dict[str, PendingRequest] = {}
        """Requests of ours without a final response, by transaction id."""
        self.unconfirmed = 0
        """Requests of ours whose transaction id is not known yet."""
        self.strays: dict[str, list[tuple[Any, bytes]]] = {}
        """Responses to those, by transaction id."""
        self.held = False
        """The connection stays open although nothing uses it."""
        self.leaving = False
        """The application closes the connection by itself."""
        self.idle_call: IDelayedCall | None = None

    def use(self) -> None:
        """Something began that needs the connection."""
        self.link.uses += 1

    def release(self) -> None:
        """Something that needed the connection is over."""
        link = self.link
        link.uses -= 1
        if not link.uses:
            self.srf._unused(self)

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

    def is_ambiguous(self, dialog_id: str) -> bool:
        """Whether both sides of a call have this dialog id here, which is a call to oneself."""
        dialogs = self.dialogs
        return dialog_id in dialogs.shared or (
            (dialog_id in self.early or dialog_id in self.calling)
            and (dialog_id in self.early or dialogs.get(dialog_id, "uas") is not None)
            and (dialog_id in self.calling or dialogs.get(dialog_id, "uac") is not None)
        )

    def confirm(self, transaction_id: str, request: PendingRequest) -> None:
        """The server named the transaction of a request of ours."""
        self.unconfirmed -= 1
        self.requests[transaction_id] = request
        if self.strays:
            for tokens, raw in self.strays.pop(transaction_id, ()):
                request.responded(tokens, raw)

    def unconfirm(self) -> None:
        """The server refused a request of ours."""
        self.unconfirmed -= 1

    def stray(self, tokens: Any, raw: bytes) -> bool:
        """Keep a response that may have overtaken the answer that names its transaction."""
        if not self.unconfirmed or len(self.strays) >= _MAX_STRAYS:
            return False
        self.strays.setdefault(tokens[8], []).append((tokens, raw))
        return True


def fail_later(
    state: LinkState,
    deferred: Deferred[Any],
    error: Exception,
    unheard: Callable[[Exception], object] | None = None,
) -> None:
    """Fail a Deferred in a moment, so that its new owner can listen first.

    :param unheard: what to do with the error when nobody takes it; see :meth:`Handed.fail`.
    """

    def fail() -> None:
        if deferred.called:
            return  # the connection was lost meanwhile, or the caller has gone
        if unheard is not None and isinstance(deferred, Handed):
            deferred.fail(error, unheard)
        else:
            deferred.errback(Failure(error))

    state.srf.clock.callLater(0, fail)
