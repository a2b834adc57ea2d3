"""What a contact says about where to listen, and the sockets for that.

Contacts are URIs as drachtio has them: ``sip:127.0.0.1:5060;transport=udp,tcp``. Their hosts are
addresses, names with an address, or ``*`` for all addresses of the machine.
"""

from __future__ import annotations

import errno
import socket
from importlib.util import find_spec
from ipaddress import ip_address

from twisted.internet.error import CannotListenError

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.net.contacts import Contact
from drachtwist.net.sip.flows import PROTOCOLS, WEBSOCKETS, Listener
from drachtwist.net.udp import listening_socket
from drachtwist.sip.uri import SipUri, Uri

__all__ = ["bind_all", "check_address", "check_contact", "nearness", "read_contact"]

_DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 5060, "wss": 5061}
# Port 0 has to be free for UDP and TCP alike.
_PORT_ATTEMPTS = 32


def check_address(host: str) -> None:
    """See that a host is an address.

    :raises LocalProtocolError: for a name.
    """
    try:
        ip_address(host)
    except ValueError:
        raise LocalProtocolError(f"not an address: {host!r}") from None


def check_contact(contact: str | Contact) -> list[str]:
    """Check a contact without listening on it.

    :returns: its transports.
    :raises LocalProtocolError: when it cannot be listened on.
    """
    contact = Contact(contact) if isinstance(contact, str) else contact
    host, _, protocols = read_contact(contact.uri)
    check_external(contact, host)
    return protocols


def check_external(contact: Contact, host: str) -> None:
    """See that an external address is of the family of the host that it stands for.

    :raises LocalProtocolError: if not.
    """
    external = contact.external_ip
    if external is not None and host != "*" and (":" in external) != (":" in host):
        raise LocalProtocolError(f"{host} and {external} cannot stand for each other: {contact}")


def read_contact(contact: str) -> tuple[str, int, list[str]]:
    """Take a contact apart.

    :returns: host (``*`` for all addresses), port (0 for any that is free), transports.
    :raises LocalProtocolError: for what cannot be listened on.
    """
    try:
        # A "*" is no host, and a comma belongs to no parameter of a URI.
        uri = Uri.parse(contact.replace(":*", ":all.invalid", 1).replace(",", "+"))
    except MessageError as error:
        raise LocalProtocolError(f"not a contact: {contact!r} ({error})") from None
    if not isinstance(uri, SipUri):
        raise LocalProtocolError(f"not a sip: or sips: URI: {contact!r}")
    transport = uri.transport
    if transport is None:
        transport = "tls" if uri.secure else "udp+tcp"
    protocols: list[str] = []
    for name in transport.split("+"):
        if name not in PROTOCOLS:
            raise LocalProtocolError(f"transport {name!r} is not supported: {contact!r}")
        if name == "ws" and uri.secure:
            name = "wss"
        if name not in protocols:
            protocols.append(name)
    streams = [name for name in protocols if name != "udp"]
    if uri.port and len(streams) > 1:
        raise LocalProtocolError(
            f"{' and '.join(streams)} cannot have one port: give each a contact, not {contact!r}"
        )
    if WEBSOCKETS.intersection(protocols) and find_spec("wsproto") is None:
        raise LocalProtocolError(
            f"WebSockets need another package, pip install 'drachtwist[websocket]': {contact!r}"
        )
    port = uri.port
    if port is None:
        port = _DEFAULT_PORT[protocols[0]]
    if uri.address == "all.invalid":
        return "*", port, protocols
    return _address_of(uri.address), port, protocols


def _address_of(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise LocalProtocolError(f"{host!r} has no address: {error}") from None
    # The first, but one of IPv4 if there is any, as most SIP still is.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return str(found[0][4][0])


def bind_all(
    hosts: list[str], port: int, protocols: list[str], backlog: int
) -> list[tuple[str, str, socket.socket]]:
    """Bind a socket for each transport and host.

    :param port: 0 for any that is free, the same one for UDP and one of the others.
    :returns: transport, host and socket of each.
    :raises CannotListenError: when one cannot be bound; then none is.
    """
    attempts = _PORT_ATTEMPTS if port == 0 else 1
    streams = [name for name in protocols if name != "udp"]
    # One of them may have the port of UDP, the others cannot.
    apart = [name for name in streams if name != ("tcp" if "tcp" in streams else streams[0])]
    while True:
        attempts -= 1
        bound: list[tuple[str, str, socket.socket]] = []
        ports: dict[str, int] = {}
        try:
            # Streams first: the ports that they find free are the rarer ones.
            for name in sorted(protocols, key=lambda name: name == "udp"):
                for host in hosts:
                    sharing = name if name in apart else ""
                    wanted = ports.get(sharing, port)
                    kind = socket.SOCK_DGRAM if name == "udp" else socket.SOCK_STREAM
                    sock = listening_socket(kind, host, wanted, backlog)
                    bound.append((name, host, sock))
                    ports[sharing] = sock.getsockname()[1]
        except CannotListenError as error:
            for _, _, sock in bound:
                sock.close()
            taken = getattr(error.socketError, "errno", None) == errno.EADDRINUSE
            if not attempts or not taken:
                raise
        else:
            return sorted(bound, key=lambda entry: protocols.index(entry[0]))


def has_ipv6() -> bool:
    """Say whether the machine has addresses of IPv6."""
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def nearness(listener: Listener, other: str) -> tuple[bool, bool, int, bool]:
    """Rank one of our addresses by how near it is to a peer's; the highest is the nearest.

    :param other: the peer's address; empty for somebody far away.
    """
    mine = listener.bound_toward(other)
    contact = listener.contact
    external = contact.external_ip is not None
    try:
        here, there = ip_address(mine), ip_address(other)
    except ValueError:
        return (not mine.startswith("127."), False, 0, external)
    return (
        here.is_loopback == there.is_loopback or not here.is_loopback,
        contact.is_inside(other, mine, listener.wildcard),
        (here.max_prefixlen - (int(here) ^ int(there)).bit_length()) // 8,
        external,
    )
