"""How SIP reaches a peer and comes from one: flows, where they begin, and what is told of them.

A :class:`Flow` is one way to a peer and back; a :class:`Listener` is an address of ours that flows
begin at, a :class:`Target` one of somebody else that they lead to. Whoever deals with SIP is a
:class:`SipHandler`; the sockets and connections report to :class:`Reports`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol

from drachtwist.net.alerts import Alerts
from drachtwist.net.contacts import Contact
from drachtwist.net.tap import SipTap
from drachtwist.sip.message import Request, Response
from drachtwist.sip.stream import Malformed

__all__ = ["Flow", "Limits", "Listener", "Reports", "SipHandler", "Target"]

PROTOCOLS = ("udp", "tcp", "tls", "ws", "wss")
"""What can be listened on."""
WEBSOCKETS = frozenset(("ws", "wss"))
"""Those of them that are WebSockets (RFC 7118), for which the package wsproto is needed."""

ENCRYPTED = frozenset(("tls", "wss"))
"""The transports that need a key and a certificate to listen."""

_REMEMBERED_PEERS = 4096
# Addresses of nobody (RFC 5737, RFC 3849), which packets would leave this machine for.
_FAR = {False: "192.0.2.1", True: "2001:db8::1"}
_NOTHING_SAID = Contact("")


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that SIP is received on."""

    protocol: str
    """``udp``, ``tcp``, ``tls``, ``ws`` or ``wss``."""
    host: str
    """The address without brackets; ``0.0.0.0`` or ``::`` when it is all addresses."""
    port: int
    contact: Contact = field(default=_NOTHING_SAID, repr=False)
    """What it was made from."""
    channel: int = 0

    @property
    def wildcard(self) -> bool:
        """Whether this is all addresses of the machine."""
        return self.host in ("0.0.0.0", "::")

    @property
    def reliable(self) -> bool:
        """Whether the transport loses nothing."""
        return self.protocol != "udp"

    @property
    def ipv6(self) -> bool:
        """Whether the address is one of IPv6."""
        return ":" in self.host

    def bound_toward(self, remote: str) -> str:
        """Return the address of this machine that a peer sees when no NAT is in between.

        :param remote: the peer's address; empty for somebody far away.
        """
        if not self.wildcard:
            return self.host
        return _local_address(remote or _FAR[self.ipv6], self.host)

    def host_toward(self, remote: str) -> str:
        """Return our own address as a peer sees it, which may be the external one."""
        own = self.bound_toward(remote)
        if self.contact.external_ip is None:
            return own
        return self.contact.host_toward(remote, own, self.wildcard)

    def address_toward(self, remote: str) -> str:
        """Return our own address and port as a peer sees it."""
        return f"{bracketed(self.host_toward(remote))}:{self.port}"

    def is_named(self, host: str) -> bool:
        """Return whether a host is an address or a name of ours.

        :param host: in lower case, without brackets.
        """
        contact = self.contact
        if host in (self.host, contact.external_ip) or host in contact.dns_names:
            return True
        if host == "localhost":
            return self.host in ("127.0.0.1", "0.0.0.0", "::1")
        try:
            host = str(ip_address(host))  # those of IPv6 may be spelt in many ways
        except ValueError:
            return False
        if host in (self.host, contact.external_ip):
            return True
        return self.wildcard and self.ipv6 == (":" in host) and host == self.bound_toward(host)

    def __str__(self) -> str:
        return f"{self.protocol}/{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Flow:
    """One way to a peer and back.

    Two flows are equal when messages over them take the same socket to the same address.
    """

    protocol: str
    """``udp``, ``tcp``, ``tls``, ``ws`` or ``wss``."""
    remote_host: str
    """The peer's address, without brackets."""
    remote_port: int
    channel: int
    """The number of the socket (UDP) or the connection (streams); never used twice."""
    local_host: str = field(compare=False)
    """Our address as the peer sees it."""
    local_port: int = field(compare=False)
    """The port that we listen on with this transport, also when we opened the connection."""
    listener: Listener = field(compare=False, repr=False)

    @property
    def reliable(self) -> bool:
        """Whether the transport loses nothing."""
        return self.protocol != "udp"

    @property
    def reported(self) -> str:
        """The transport as applications are told: WebSockets are ``tcp``, as by the real server."""
        return "tcp" if self.protocol in WEBSOCKETS else self.protocol

    @property
    def local(self) -> str:
        """Our address and port."""
        return f"{bracketed(self.local_host)}:{self.local_port}"

    @property
    def remote(self) -> str:
        """The peer's address and port."""
        return f"{bracketed(self.remote_host)}:{self.remote_port}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send."""

    protocol: str
    host: str
    """An address, without brackets."""
    port: int
    name: str | None = None
    """The SIP domain that a TLS certificate has to be for, if not the address."""
    secure: bool = False
    """Whether a ``sips:`` URI led here: then the certificate is verified, unless that is switched
    off."""

    def __str__(self) -> str:
        return f"{self.protocol}/{bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may cost; times in seconds, sizes in bytes."""

    message: int = 2 << 20
    """The longest message on a stream."""
    connections: int = 4096
    """How many incoming connections there may be; a further one is closed at once."""
    connections_per_source: int = 1024
    """How many of them may come from one address (IPv6: from the first 64 bits of one)."""
    outgoing: int = 4096
    """How many connections may be made; for a further one another that is not used is closed."""
    unsent: int = 4 << 20
    """How much may wait for one connection before it is cut."""
    unsent_timeout: float = 30.0
    """How long the peer of a connection may read nothing of what waits before it is cut."""
    message_timeout: float = 16.0
    """How long a message on a stream may take, from its first octet to its last."""
    buffers: int = 64 << 20
    """How much there may be of messages that are not complete, on all streams together; whoever
    began first is cut off when it is more."""
    idle: float = 1800.0
    """How long a connection may stay without a message or keep-alive in any direction, or with
    keep-alives alone."""
    first_message: float = 60.0
    """How long an incoming connection may stay without its first message or keep-alive; what TLS
    and WebSockets do before that has to be done by then."""
    connect: float = 30.0
    """How long connecting may take, with what TLS and WebSockets do for it."""


class SipHandler(Protocol):
    """What :class:`SipTransports` calls; what it raises is logged and harms nobody."""

    def sip_received(self, message: Request | Response, flow: Flow, size: int) -> None:
        """Take in a message that may be processed.

        :param message: a request has ``rport`` and maybe ``received`` in its topmost Via.
        :param size: how many octets were received, before that.
        """

    def sip_malformed(self, bad: Malformed, flow: Flow, size: int) -> None:
        """Note something that must not be processed.

        ``bad.message`` is a lenient reading, if there is one, to answer from. A stream that
        cannot be read on is closed after this, with what was sent meanwhile.
        """

    def sip_send_failed(self, flow: Flow, error: Exception, data: bytes) -> None:
        """Note that a message did not reach its peer; never called from within a send.

        :param flow: what the sending gave or was given.
        :param data: the message; for UDP maybe only its first few hundred octets.
        """

    def sip_closed(self, flow: Flow, error: Exception | None) -> None:
        """Note that a connection is gone.

        :param error: why, or None when either side closed it in the orderly way.
        """


class Reports(Protocol):
    """What sockets and connections need of the whole: settings, and somebody to tell."""

    reactor: Any
    clock: Any
    """The reactor, with a time that nobody can set."""
    alerts: Alerts
    limits: Limits
    tap: SipTap | None
    """Who looks at what passes, if anybody does."""

    def received(self, message: Request | Response, flow: Flow, size: int) -> None:
        """Hand a message up."""

    def malformed(self, bad: Malformed, flow: Flow, size: int) -> None:
        """Hand up what is no message."""

    def send_failed(self, flow: Flow, error: Exception, data: bytes) -> None:
        """Hand up that a message did not arrive."""

    def closed(self, flow: Flow, error: Exception | None) -> None:
        """Hand up that a connection is gone."""


def bracketed(host: str) -> str:
    """Write a host as URIs do: an address of IPv6 in brackets."""
    return f"[{host}]" if ":" in host else host


_local_addresses: dict[str, str] = {}


def _local_address(remote: str, otherwise: str) -> str:
    """Ask the system which of our addresses a peer would see; nothing is sent for that."""
    known = _local_addresses.get(remote)
    if known is None:
        family = socket.AF_INET6 if ":" in remote else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((remote, 9))
                known = str(probe.getsockname()[0])
        except OSError:
            return otherwise
        if len(_local_addresses) >= _REMEMBERED_PEERS:
            _local_addresses.clear()
        _local_addresses[remote] = known
    return known
