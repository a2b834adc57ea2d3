"""A name server on loopback that has one zone, ``example.test``."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.names import dns
from twisted.names.authority import FileAuthority
from twisted.names.server import DNSServerFactory

from tests.interop.peers import free_port

ZONE = b"example.test"


class Authority(FileAuthority):
    """Knows the records of the zone, and what it was asked."""

    def __init__(self, records: dict[str, list[Any]], nothing: int) -> None:
        super().__init__("")
        start: Any = dns.Record_SOA(mname=ZONE, minimum=nothing, expire=nothing, ttl=nothing)
        known: Any = {name.encode(): found for name, found in records.items()}
        self.soa: Any = (ZONE, start)
        self.records: Any = known
        self.asked: list[str] = []

    def _lookup(self, name: bytes, cls: int, type: int, timeout: Any = None) -> Any:
        self.asked.append(f"{dns.QUERY_TYPES[type]} {name.decode()}")
        return super()._lookup(name, cls, type, timeout)


class _Datagrams(dns.DNSDatagramProtocol):
    """Cuts answers short that are too long for a datagram, which Twisted's does not."""

    def writeMessage(self, message: dns.Message, address: tuple[str, int]) -> None:
        message.maxSize = 512
        super().writeMessage(message, address)


class NameServer:
    """Serves the zone over UDP and TCP.

    :param records: by name, as ``twisted.names`` has them.
    :param nothing: for how many seconds there is nothing where there is nothing.
    """

    def __init__(self, records: dict[str, list[Any]], nothing: int = 60) -> None:
        self.authority = Authority(records, nothing)
        self._factory = factory = DNSServerFactory([self.authority])
        factory.noisy = False
        self.port = free_port()
        network = cast(Any, reactor)
        where = "127.0.0.1"
        self._ports = [
            network.listenTCP(self.port, factory, interface=where),
            network.listenUDP(self.port, _Datagrams(factory), interface=where),
        ]

    @property
    def address(self) -> tuple[str, int]:
        """Where it is."""
        return "127.0.0.1", self.port

    @property
    def asked(self) -> list[str]:
        """What it was asked so far."""
        return self.authority.asked

    def stop(self) -> Deferred[Any]:
        """Close its ports, and the connections that nobody has closed yet."""
        for protocol in list(self._factory.connections):
            protocol.transport.abortConnection()
        return gatherResults([maybeDeferred(port.stopListening) for port in self._ports])


def a(address: str, ttl: int = 60) -> Any:
    """Write an A record."""
    return dns.Record_A(address, ttl)


def srv(target: str, port: int, *, priority: int = 1, weight: int = 0, ttl: int = 60) -> Any:
    """Write an SRV record."""
    return dns.Record_SRV(priority, weight, port, target.encode(), ttl)


def naptr(service: str, replacement: str, *, order: int = 1) -> Any:
    """Write a NAPTR record that leads to SRV records."""
    return dns.Record_NAPTR(order, 1, b"s", service.encode(), b"", replacement.encode(), 60)
