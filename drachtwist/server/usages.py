"""What a dialog knows of the requests in it, whoever deals with them.

Requests that came are the UAS core's, those that were sent the UAC core's. Here is what both have
to know of each other's to see what crosses (RFC 3261 sections 14 and 15, RFC 3311), and no more.
"""

from __future__ import annotations

from typing import Protocol

from drachtwist.net.sip.flows import Flow
from drachtwist.sip.message import Request
from drachtwist.transactions.machine import Machine

__all__ = ["ClientUsage", "Refreshing", "ServerUsage", "Unconfirmed"]


class ServerUsage(Protocol):
    """A request of the peer: see :class:`~drachtwist.server.incoming.Incoming`."""

    @property
    def method(self) -> str:
        """Its method."""
        ...

    @property
    def request(self) -> Request:
        """The request."""
        ...

    @property
    def flow(self) -> Flow:
        """Which way it came."""
        ...


class ClientUsage(Protocol):
    """A request of this side: see :class:`~drachtwist.server.uac.request.SentRequest`."""

    @property
    def method(self) -> str:
        """Its method."""
        ...

    @property
    def offers(self) -> bool:
        """Whether it waits for the answer to a session description."""
        ...


class Unconfirmed(Protocol):
    """An INVITE of this side that was accepted: see
    :class:`~drachtwist.server.uac.invite.SentInvite`.
    """

    def confirmed(self) -> None:
        """Note that the application has sent the ACK."""

    def acknowledge(self) -> None:
        """Send the ACK in its place."""


class Refreshing(Machine):
    """What ends a dialog that is not refreshed: see
    :class:`~drachtwist.server.sessions.SessionTimer`.
    """

    __slots__ = ("ours",)

    ours: bool
    """Whether the server refreshes."""
