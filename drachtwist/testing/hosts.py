"""Machines of a network in memory: each is a reactor to what runs on it.

A :class:`Host` has one address. What listens there is found by what connects from any other; all
hosts share the time. It is what ``Srf(reactor=...)`` gets, or a web client, or a web server that an
application opens: ``listenTCP`` and ``connectTCP`` never reach a socket.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.base import BaseConnector, ReactorBase
from twisted.internet.error import CannotListenError, ConnectionRefusedError
from twisted.internet.interfaces import (
    IConnector,
    IHostnameResolver,
    IListeningPort,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from drachtwist.testing.clock import SimulatedClock
from drachtwist.testing.streams import MemoryTransport, address, join
from drachtwist.testing.threads import without_threads

__all__ = ["Host", "Internet", "Port"]

_FIRST_FREE = 49152


class Internet:
    """What all hosts share: time, names, and who listens where."""

    def __init__(self) -> None:
        self.clock = SimulatedClock()
        self.ports: dict[tuple[str, int], Port] = {}
        """Who takes in connections."""
        self.names: dict[str, str] = {}
        """The address of each name, in lower case."""
        self.connections: list[MemoryTransport] = []
        """The ends that connected, of the connections that are up."""
        self.on_connected: list[Callable[[MemoryTransport, MemoryTransport, Port], object]] = []
        """Told of each new connection: the end that connects, the other one, and the port."""
        self.thread = threading.get_ident()

    def resolve(self, name: str) -> str | None:
        """Return the address of a name, or the address that it is."""
        if ":" in name or name.replace(".", "").isdigit():
            return name
        if name.lower() == "localhost":
            return "127.0.0.1"
        return self.names.get(name.lower().rstrip("."))

    def connected(self, near: MemoryTransport, far: MemoryTransport, port: Port) -> None:
        """Note a new connection."""
        self.connections.append(near)
        for told in self.on_connected:
            told(near, far, port)

    def find(self, host: str, port: int) -> Port | None:
        """Find who listens at an address."""
        return self.ports.get((host, port))


@implementer(IListeningPort)
class Port:
    """Takes in connections.

    :param factory: makes a protocol for each.
    """

    def __init__(self, net: Internet, host: str, port: int, factory: Any) -> None:
        self._net = net
        self.host = host
        self.port = port
        self.factory = factory
        self.is_open = False

    def startListening(self) -> None:
        """Take in connections from now on.

        :raises CannotListenError: when the port is taken.
        """
        if (self.host, self.port) in self._net.ports:
            raise CannotListenError(self.host, self.port, OSError("the address is in use"))
        self._net.ports[self.host, self.port] = self
        self.is_open = True
        self.factory.doStart()

    def stopListening(self) -> None:
        """Take in no more."""
        if self.is_open:
            self.is_open = False
            del self._net.ports[self.host, self.port]
            self.factory.doStop()

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return where it listens."""
        return address(self.host, self.port)


class _Attempt:
    """An attempt to connect, as a connector sees it; then the connection."""

    def __init__(self, connector: _Connector, internet: Internet) -> None:
        self._connector: _Connector | None = connector
        self._internet = internet
        self._transport: MemoryTransport | None = None
        internet.clock.soon(self._connect)

    def failIfNotConnected(self, error: Exception) -> None:
        """Give up."""
        connector, self._connector = self._connector, None
        if connector is not None and self._transport is None:
            connector.connectionFailed(Failure(error))

    def loseConnection(self) -> None:
        """Close."""
        if self._transport is not None:
            self._transport.loseConnection()

    def _connect(self) -> None:
        connector = self._connector
        if connector is None:
            return
        here, there = connector.here, connector.getDestination()
        port = self._internet.find(there.host, there.port)
        taken = None if port is None else port.factory.buildProtocol(here)
        if port is None or taken is None:
            self.failIfNotConnected(ConnectionRefusedError())
            return
        protocol: Any = connector.buildProtocol(there)
        if protocol is None:
            self.failIfNotConnected(ConnectionRefusedError())
            return
        clock = self._internet.clock
        near, far = MemoryTransport(clock, here, there), MemoryTransport(clock, there, here)
        self._transport = near
        near.on_lost = self._lost
        self._internet.connected(near, far, port)
        join(near, protocol, far, taken)

    def _lost(self, reason: Failure) -> None:
        connector, near = self._connector, self._transport
        if connector is not None and near is not None:
            self._internet.connections.remove(near)
            connector.connectionLost(reason)


class _Connector(BaseConnector):
    """Connects to an address, once or again."""

    def __init__(self, host: Host, there: Any, factory: Any, timeout: float, here: Any) -> None:
        super().__init__(factory, timeout, cast(Any, host))
        self._host = host
        self._there = there
        self.here = here

    def _makeTransport(self) -> Any:
        return _Attempt(self, self._host.internet)

    def getDestination(self) -> Any:
        """Return where it leads."""
        return self._there


@implementer(
    IReactorTime, IReactorTCP, IReactorPluggableNameResolver, IReactorFromThreads, IHostnameResolver
)
class Host:
    """A machine, which is a reactor to what runs on it.

    :param name: what messages call it.
    :param host: its address.
    """

    running = True

    def __init__(self, internet: Internet, name: str, host: str) -> None:
        self.internet = internet
        self.name = name
        self.host = host
        self._free = itertools.count(_FIRST_FREE)
        clock = internet.clock
        self.seconds = clock.seconds
        self.callLater = clock.callLater
        self.getDelayedCalls = clock.getDelayedCalls

    def __repr__(self) -> str:
        return f"<Host {self.name} {self.host}>"

    # IReactorTCP

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Port:
        """Take in connections.

        :raises CannotListenError: when somebody else does there.
        """
        if interface in ("", "0.0.0.0", "::", "127.0.0.1"):
            interface = self.host
        if isinstance(getattr(factory, "reactor", None), ReactorBase):
            factory.reactor = self  # web servers go by the real one unless they are told
        opened = Port(self.internet, interface, port or next(self._free), factory)
        opened.startListening()
        return opened

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30,
        bindAddress: tuple[str, int] | None = None,
    ) -> IConnector:
        """Connect to an address, or a name that is known."""
        found = self.internet.resolve(host)
        if found == "127.0.0.1":
            found = self.host
        here = address(self.host, next(self._free))
        connector = _Connector(self, address(found or host, port), factory, timeout, here)
        connector.connect()
        return cast(IConnector, connector)

    # IReactorPluggableNameResolver, IHostnameResolver

    @property
    def nameResolver(self) -> Host:
        """What finds the addresses of names: those of the network."""
        return self

    def installNameResolver(self, resolver: Any) -> Any:
        """Refuse another one: names of a network in memory have their addresses there."""
        raise NotImplementedError("names are given their addresses by Network.host()")

    def resolveHostName(
        self,
        resolutionReceiver: Any,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Any = None,
        transportSemantics: str = "TCP",
    ) -> Any:
        """Find the address of a name."""
        found = self.internet.resolve(hostName)
        resolutionReceiver.resolutionBegan(self)
        if found is not None:
            resolutionReceiver.addressResolved(address(found, portNumber))
        resolutionReceiver.resolutionComplete()
        return resolutionReceiver

    # What applications also ask of a reactor

    def callWhenRunning(self, callable: Any, *args: Any, **kw: Any) -> None:
        """Call something now: it runs."""
        without_threads(callable)
        callable(*args, **kw)

    def addSystemEventTrigger(
        self, phase: str, event: str, callable: Any, *a: Any, **kw: Any
    ) -> Any:
        """Take note of nothing: a network ends without a reactor that stops."""

    def removeSystemEventTrigger(self, trigger: Any) -> None:
        """Do nothing."""

    def callFromThread(self, callable: Any, *args: Any, **kw: Any) -> None:
        """Call something in turn.

        :raises RuntimeError: in another thread, where it is too late for that.
        """
        if threading.get_ident() != self.internet.thread:
            raise RuntimeError("threads and a network in memory do not go together")
        self.internet.clock.soon(lambda: callable(*args, **kw))
