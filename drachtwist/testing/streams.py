"""Connections in memory: two ends, whose octets arrive in order and a moment later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, ITransport
from twisted.python.failure import Failure
from zope.interface import implementer

from drachtwist.testing.clock import SimulatedClock

__all__ = ["MemoryTransport", "Watcher", "address", "join"]

Watcher = Callable[["MemoryTransport", bytes], bytes]
"""Sees what an end writes, and gives what arrives at the other."""


def address(host: str, port: int) -> IPv4Address | IPv6Address:
    """Return the address of an end of a connection."""
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


@implementer(ITransport, IConsumer)
class MemoryTransport:
    """One end of a connection.

    :param clock: what carries the octets.
    :param here: its address.
    :param there: the address of the other end.
    """

    def __init__(self, clock: SimulatedClock, here: Any, there: Any) -> None:
        self._clock = clock
        self._here = here
        self._there = there
        self._written: list[bytes] = []
        self._unread: list[bytes] = []
        self._reading = True
        self._posted = False
        self._closes = False
        self.protocol: Any = None
        self.other: MemoryTransport
        self.connected = True
        self.disconnecting = False
        self.watcher: Watcher | None = None
        self.on_lost: Callable[[Failure], object] | None = None

    # ITransport, IConsumer

    def write(self, data: bytes) -> None:
        """Send octets."""
        if self.connected and not self.disconnecting:
            self._written.append(data)
            self._post()

    def writeSequence(self, data: Any) -> None:
        """Send octets."""
        self.write(b"".join(data))

    def loseConnection(self, connDone: Any = None) -> None:
        """Close when all is written."""
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self._closes = True
            self._post()

    def abortConnection(self) -> None:
        """Close at once."""
        if self.connected:
            self.disconnecting = True
            self._written.clear()
            self._clock.soon(self._lost, ConnectionAborted())
            self._clock.soon(self.other._lost, ConnectionAborted())

    def getPeer(self) -> Any:
        """Return the address of the other end."""
        return self._there

    def getHost(self) -> Any:
        """Return the address of this end."""
        return self._here

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Take octets from a producer; this end is never full."""
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """Take octets from a producer no more."""

    def pauseProducing(self) -> None:
        """Let what comes in wait."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Let it wait no more."""
        self._reading = True
        if self._unread:
            self._clock.soon(self._read)

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: nothing is delayed here."""

    def getTcpNoDelay(self) -> bool:
        """Return that nothing is delayed."""
        return True

    # Inside

    def _post(self) -> None:
        if not self._posted:
            self._posted = True
            self._clock.soon(self._carry)

    def _carry(self) -> None:
        self._posted = False
        if not self.connected:
            return
        written, self._written = self._written, []
        data = b"".join(written)
        if data and self.watcher is not None:
            data = self.watcher(self, data)
        if data:
            self.other._unread.append(data)
            self.other._read()
        if self._closes and self.connected:
            self.other._lost(ConnectionDone())
            self._lost(ConnectionDone())

    def _read(self) -> None:
        if self.connected and self._reading and self._unread:
            unread, self._unread = self._unread, []
            self.protocol.dataReceived(b"".join(unread))

    def deliver(self, data: bytes) -> None:
        """Let octets come in that the other end has not written."""
        self._unread.append(data)
        self._clock.soon(self._read)

    def lose(self, error: Exception) -> None:
        """Break the connection: both ends learn it."""
        for end in (self, self.other):
            self._clock.soon(end._lost, error)

    def _lost(self, error: Exception) -> None:
        if self.connected:
            self._reading = True
            self._read()
            self.connected = False
            protocol, self.protocol = self.protocol, None
            reason = Failure(error)
            protocol.connectionLost(reason)
            if self.on_lost is not None:
                self.on_lost(reason)


def join(near: MemoryTransport, client: Any, far: MemoryTransport, server: Any) -> None:
    """Connect two protocols.

    :param client: the protocol that connects, over ``near``.
    :param server: the one that takes in, over ``far``.
    """
    near.other, far.other = far, near
    near.protocol, far.protocol = client, server
    server.makeConnection(far)
    client.makeConnection(near)
