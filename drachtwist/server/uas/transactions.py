"""The server transactions: which requests of the network there are, and who may answer them.

A request is in here from its arrival until its transaction is over, so that repeats of it are
recognised. Applications may answer those that are open; an INVITE also after its final response,
until the ACK comes, since they are told then that it was sent. Those that were answered with
provisional responses only can be found by their dialog.
"""

from __future__ import annotations

from typing import Any

from drachtwist.server.givingback import FLOOD, GivingBack
from drachtwist.server.incoming import Incoming
from drachtwist.server.roles import Core
from drachtwist.server.uas.invite import Invite
from drachtwist.transactions.server import InviteServer, NonInviteServer
from drachtwist.transactions.timer import Timer

__all__ = ["ServerTransactions"]


class ServerTransactions:
    """The tables of the UAS core."""

    __slots__ = ("_arrivals", "core", "early", "giving_back", "held", "open", "transactions")

    def __init__(self, core: Core) -> None:
        self.core = core
        self.held = 0
        """Bytes of all requests whose repeats have to be recognised."""
        self.giving_back = GivingBack(core.clock, lambda: self.held)
        self.transactions = core.transactions.servers
        """All requests whose repeats have to be recognised."""
        self._arrivals = core.transactions.arrivals
        self.open: dict[str, Incoming] = {}
        """The requests that applications may answer, by transaction id."""
        self.early: dict[str, Invite] = {}
        """INVITEs that were answered with provisional responses only, by dialog id."""

    def stop(self) -> None:
        """Forget everything."""
        self.held = 0
        self.open.clear()
        self.early.clear()

    def register(self, incoming: Incoming) -> None:
        """Begin the transaction of a request."""
        kind: Any = InviteServer if incoming.method == "INVITE" else NonInviteServer
        incoming.transaction = transaction = kind(
            incoming.request, reliable=incoming.flow.reliable, timing=self.core.timing
        )
        transaction.owner = incoming
        self.transactions[incoming.key] = incoming
        self.held += incoming.size
        if self.held >= FLOOD:
            self.giving_back.began()
        self.open[incoming.id] = incoming
        if incoming.arrival is not None:
            self._arrivals[incoming.arrival] = incoming

    def close(self, incoming: Incoming) -> None:
        """Let no application answer a request any more."""
        if incoming.is_open:
            incoming.is_open = False
            self.open.pop(incoming.id, None)

    def let_copies_in(self, incoming: Incoming) -> None:
        """Take what has everything but the branch in common with a request for another one."""
        if incoming.arrival is not None:
            self._arrivals.pop(incoming.arrival, None)
            incoming.arrival = None

    def set_alarm(self, incoming: Incoming, after: float | None) -> None:
        """Say how long somebody may take to answer a request.

        :param after: seconds; None for any time.
        """
        clock = self.core.clock
        if incoming.alarm is not None:
            clock.forget(incoming.alarm)
            incoming.alarm = None
        if after is not None:
            incoming.alarm = alarm = Timer(incoming, clock.seconds() + after)
            clock.watch(alarm)

    def forget(self, incoming: Incoming) -> None:
        """Forget a transaction, and let it go: nothing may be left to the collector."""
        if incoming.is_open:
            self.close(incoming)
        if incoming.arrival is not None:
            self.let_copies_in(incoming)
        if incoming.alarm is not None:
            self.set_alarm(incoming, None)
        self.core.clock.forget(incoming.transaction)
        incoming.transaction.owner = None
        known = self.transactions.pop(incoming.key, None)
        if known is not None:
            self.held -= known.size
        proxied, incoming.proxied = incoming.proxied, None
        if proxied is not None:
            self.core.proxying.over(proxied)
