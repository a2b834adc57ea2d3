"""Where SIP is served, and by which addresses and names that place is known elsewhere.

Behind a NAT nobody outside reaches the address that a socket is bound to, and nobody inside needs
any other. Which side a peer is on follows from its address alone: it is inside when it is in the
local network of the contact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from drachtwist.errors import LocalProtocolError

__all__ = ["Contact"]

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.\-]*[A-Za-z0-9])?\.?")

# RFC 1918, RFC 6598, RFC 3927; RFC 4193, RFC 4291.
_PRIVATE = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "fc00::/7",
        "fe80::/10",
    )
)


@dataclass(frozen=True, slots=True)
class Contact:
    """An address to serve SIP on, with what others know it by.

    :raises LocalProtocolError: when one of the values is not what it should be.
    """

    uri: str
    """``sip:HOST:PORT;transport=udp,tcp``, as
    :meth:`~drachtwist.net.sip.transports.SipTransports.listen` reads it."""
    external_ip: str | None = None
    """The address that peers outside of the local network are told, with the same port. It counts
    for bound addresses of its own kind, IPv4 or IPv6."""
    local_net: str | None = None
    """The local network: ``10.0.0.0/8``. When it is not given, peers are inside that have an
    address of the same private block as the bound one, so all of 10.0.0.0/8 for 10.1.2.3; for a
    contact on all addresses, those on this machine too."""
    dns_names: tuple[str, ...] = ()
    """Names that stand for this server in URIs, if the port is that of the contact."""
    _network: IPv4Network | IPv6Network | None = field(
        init=False, repr=False, compare=False, default=None
    )

    def __post_init__(self) -> None:
        names = self.dns_names
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise LocalProtocolError(f"dns_names is a list, not {names!r}")
        names = tuple(names)
        for name in names:
            if not isinstance(name, str) or _NAME.fullmatch(name) is None:
                raise LocalProtocolError(f"not a DNS name: {name!r}")
        object.__setattr__(self, "dns_names", tuple(name.lower().rstrip(".") for name in names))
        if self.external_ip is not None:
            object.__setattr__(self, "external_ip", _external(self.external_ip))
        if self.local_net is not None:
            try:
                network = ip_network(self.local_net, strict=False)
            except ValueError:
                raise LocalProtocolError(
                    f"not a network: {self.local_net!r} (10.0.0.0/8 would be one)"
                ) from None
            object.__setattr__(self, "_network", network)

    def is_inside(self, remote: str, own: str, everywhere: bool = False) -> bool:
        """Return whether a peer is in the local network.

        :param remote: its address; what is no address is outside.
        :param own: our address that it would see if there were no NAT.
        :param everywhere: whether the contact is bound to all addresses.
        """
        try:
            there, here = ip_address(remote), ip_address(own)
        except ValueError:
            return False
        if self._network is not None:
            return there in self._network
        # Who binds to a loopback address alone has something on this machine that forwards.
        if everywhere and there.is_loopback:
            return True
        return any(there in block and here in block for block in _PRIVATE)

    def host_toward(self, remote: str, own: str, everywhere: bool = False) -> str:
        """Return our address as a peer sees it; the parameters are those of :meth:`is_inside`."""
        external = self.external_ip
        if external is None or (":" in external) != (":" in own):
            return own
        return own if self.is_inside(remote, own, everywhere) else external

    def __str__(self) -> str:
        said = []
        if self.external_ip is not None:
            said.append(f"external {self.external_ip}")
        if self.local_net is not None:
            said.append(f"local {self.local_net}")
        if self.dns_names:
            said.append(f"names {' '.join(self.dns_names)}")
        return f"{self.uri} ({', '.join(said)})" if said else self.uri


def _external(text: str) -> str:
    try:
        address = ip_address(text.strip("[]"))
    except (ValueError, AttributeError):
        raise LocalProtocolError(f"not an external IP address: {text!r}") from None
    if address.is_unspecified or address.is_multicast:
        raise LocalProtocolError(f"nobody can be reached at {text!r}")
    return str(address)
