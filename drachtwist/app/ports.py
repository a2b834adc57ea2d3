"""What the parts of the application layer need of each other, by what it does.

A part that takes one of these instead of the whole (:class:`~drachtwist.app.srf.Srf`, a connection
with all its tables) says what it depends on, and can be tried without the rest. What is public for
applications (``req.srf``, ``dialog.link``) keeps its full type; only those faces know it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall

from drachtwist.errors import ConnectionLost
from drachtwist.wire.commands import Answer

__all__ = [
    "CallTeller",
    "Clock",
    "CommandListener",
    "ConnectionFinder",
    "EndedDialog",
    "PendingInvite",
    "PendingRequest",
]


class CallTeller(Protocol):
    """Tells an operator what has become of calls; see :mod:`drachtwist.app.ended_calls`."""

    def dialog_over(self, dialog: Any, end: Any) -> None:
        """A call that was up is over."""

    def refused(self, req: Any, status: int, time: str, reason: str = "") -> None:
        """An INVITE was refused."""

    def cancelled(self, req: Any, cancel: Any) -> None:
        """A caller gave up."""

    def lost(self, req: Any, reason: Exception) -> None:
        """The connection of an INVITE that was not answered is gone."""

    def not_placed(self, client: Any, error: Exception) -> None:
        """A call of the application came to nothing."""


class Clock(Protocol):
    """Runs something later."""

    def callLater(self, delay: float, callable: Any, *args: Any, **kw: Any) -> IDelayedCall:
        """Call a function after so many seconds."""
        ...


class CommandListener(Protocol):
    """Waits for the server's answer to one command."""

    def answered(self, answer: Answer) -> None:
        """The server did what it was told, or refused to."""

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away first."""


class ConnectionFinder(Protocol):
    """Knows over which connection to send."""

    def find(self, of: Any) -> Any:
        """Return the connection that something belongs to; see ``Connections.find``."""
        ...


class EndedDialog(Protocol):
    """A dialog that is not known any more, while its BYE is under way."""

    def crossed(self, req: Any) -> None:
        """A request of the peer came in it."""


class PendingInvite(Protocol):
    """A request from the network that has no confirmed final response yet."""

    def _invite(self) -> Any:
        """Return the request itself."""
        ...

    def _cancelled(self, cancel: Any) -> None:
        """The caller gave up: with a CANCEL, with a BYE, or None when only the server says so."""

    def _link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away."""


class PendingRequest(Protocol):
    """A request of ours that waits for its final response."""

    def responded(self, tokens: Sequence[str], raw: bytes) -> None:
        """A response came.

        :param tokens: of the frame's first line.
        :param raw: the response.
        """

    def link_down(self, reason: ConnectionLost) -> None:
        """The connection went away."""

    def hang_up(self) -> None:
        """Give up what can be given up, since the application stops."""
