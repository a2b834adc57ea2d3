"""The transaction layer: which transaction a message is for, and who is told what comes of it.

It lies between the transport and the *transaction users*, as RFC 3261 section 5 calls them: each
owner of a transaction. A machine of this package knows messages and the time; what it wants done
its owner does (:meth:`Owner.react`), be it at once, because of a message, or later, because of its
deadline, which a clock watches (:class:`~drachtwist.transactions.deadlines.Deadlines`).

Transactions are found by the keys of :mod:`~drachtwist.transactions.matching`:

* A request of a server transaction is a repeat, or the ACK of a failure (section 17.2.3).
* A CANCEL is a transaction of its own, and names that of another request (section 9.2).
* A request that has everything but the branch in common with one that is here came by another way
  as well, and is refused with 482 (section 8.2.2.2).
* A response is for the client transaction of its branch and method (section 17.1.3).

What no transaction is known for is the business of its users: an ACK to a 2xx belongs to a dialog.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from drachtwist.sip.message import Request
from drachtwist.transactions.machine import Effect, Machine
from drachtwist.transactions.matching import (
    ClientKey,
    MergeKey,
    ServerKey,
    cancelled_key,
    cancelled_keys,
)

__all__ = ["Owner", "TransactionLayer"]


class Owner(Protocol):
    """Whoever has a transaction: the ``owner`` of its machine."""

    def react(self, machine: Machine, effects: list[Effect]) -> None:
        """Do what the machine wants done.

        :param effects: in order, and not empty.
        """


class Clock(Protocol):
    """What watches deadlines."""

    def watch(self, machine: Machine) -> object:
        """Note a machine's deadline; to be called whenever it may have changed."""


Server = TypeVar("Server", bound=Owner)
Client = TypeVar("Client", bound=Owner)


class TransactionLayer(Generic[Server, Client]):
    """All transactions of a node, by their keys, with their owners.

    :param clock: what watches their deadlines.
    """

    __slots__ = ("_clock", "arrivals", "clients", "servers")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.servers: dict[ServerKey, Server] = {}
        """Who has the requests whose repeats have to be recognised."""
        self.clients: dict[ClientKey, Client] = {}
        """Who has the requests whose responses have to be recognised."""
        self.arrivals: dict[MergeKey, Server] = {}
        """Who has the requests of which copies may come that took another way."""

    def run(self, machine: Machine, effects: list[Effect]) -> None:
        """Have its owner do what a machine wants done, and note its next deadline.

        Nothing is done for one that nobody owns any more.
        """
        owner: Owner | None = machine.owner
        if effects and owner is not None:
            owner.react(machine, effects)
        self._clock.watch(machine)  # also of one that has failed: it may have to repeat

    def cancelled_by(self, cancel: Request) -> Server | None:
        """Find who has what a CANCEL is for; its CSeq does not say which method that has.

        :raises MessageError: see :func:`~drachtwist.transactions.matching.server_key`.
        """
        servers = self.servers
        found = servers.get(cancelled_key(cancel))
        if found is None:
            others = map(servers.get, cancelled_keys(cancel))
            found = next((one for one in others if one is not None), None)
        return found

    def clear(self) -> None:
        """Forget all transactions, without a word to anybody."""
        self.servers.clear()
        self.clients.clear()
        self.arrivals.clear()
