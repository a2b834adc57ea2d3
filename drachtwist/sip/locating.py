"""Where a request for a URI goes (RFC 3263 section 4), as questions to the DNS and their answers.

:func:`hop_of` reads off a URI what it says by itself: transport, host and port. If the host is an
address that is all there is to it. If it is a name, :func:`search` asks for records and gives the
places where the server may be, the best one first.

======================  =================================================
what the URI gives      what is asked
======================  =================================================
a port                  addresses
a transport, no port    SRV of the transport, else addresses
neither                 NAPTR, else SRV of each transport, else addresses
======================  =================================================

A transport that nobody offers here is never chosen, and a ``sips:`` URI only takes TLS. The first
transport whose SRV records lead anywhere is the one; the records of others are not tried behind
them, since each silent server costs half a minute. An SRV record with the target ``.`` says that
there is no such service; then addresses are not asked for either.

Addresses are asked for in the families that the transport is listened on with: A records first,
since most of SIP still is IPv4 and an ACK, which gets no answer, has one attempt only. The AAAA
records are asked for when those have failed.

An answer that makes no sense is one without records; nothing here raises because of one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Union

from drachtwist.sip.params import NO_URI_PARAMS
from drachtwist.sip.uri import SipUri

__all__ = [
    "Hop",
    "Naptr",
    "Place",
    "Question",
    "Records",
    "Search",
    "Srv",
    "hop_of",
    "is_address",
    "search",
    "shuffled",
]

DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 80, "wss": 443}

_SERVICES = {
    "sip+d2u": "udp",
    "sip+d2t": "tcp",
    "sips+d2t": "tls",
    "sip+d2w": "ws",
    "sips+d2w": "wss",
}
_SRV_PREFIX = {
    "udp": "_sip._udp",
    "tcp": "_sip._tcp",
    "tls": "_sips._tcp",
    "ws": "_sip._ws",
    "wss": "_sips._ws",
}
# An answer may have thousands of records; nobody tries so many, and each may be one more question.
_MOST_SERVICES = 8
_MOST_SERVERS = 64
_SECURE = {"ws": "wss", "wss": "wss"}


class Hop(NamedTuple):
    """Where a URI leads."""

    protocol: str
    """The transport; if the URI left it open, the one to take when the DNS does not say more."""
    host: str
    """The host, or whatever ``maddr`` names instead; without brackets."""
    port: int
    """The port; if the URI left it open, that of the transport."""
    numeric: bool
    """Whether the host is an address."""
    open: bool = False
    """Whether the URI left the transport open."""
    has_port: bool = True
    """Whether the URI has a port."""
    secure: bool = False
    """Whether it is a ``sips:`` URI."""
    name: str | None = None
    """The host of the URI, if that is a name or not where it leads to: what a certificate has to be
    for."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked for."""

    kind: str
    """``A``, ``AAAA``, ``SRV`` or ``NAPTR``."""
    name: str
    """In lower case, without a dot at the end."""


@dataclass(frozen=True, slots=True)
class Srv:
    """A server of a service (RFC 2782)."""

    priority: int
    weight: int
    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Naptr:
    """A service of a domain (RFC 3403)."""

    order: int
    preference: int
    flags: str
    service: str
    regexp: str
    replacement: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server may be."""

    protocol: str
    host: str
    """An address."""
    port: int


Records = Sequence[Union[Srv, Naptr, str]]  # noqa: UP007 - evaluated on Python 3.10
"""The records of an answer, those of another kind left out; addresses are text."""

Search = Generator[Union[Place, "tuple[Question, ...]"], "Sequence[Records]", None]
"""Yield a :class:`Place`, or questions; those want a list of as many answers to be sent in."""


@lru_cache(1024)
def is_address(host: str) -> bool:
    """Return whether a host is an IP address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def hop_of(uri: SipUri, protocol: str | None = None) -> Hop:
    """Say where a URI leads.

    :param protocol: the transport for a URI that names none; UDP unless given. With ``sips:`` it
        is TLS, whatever either of them says, or WebSockets over it.
    """
    asked = maddr = None
    if uri.params is not NO_URI_PARAMS:
        asked = uri.transport
        maddr = uri.params.text("maddr")
    chosen = asked or protocol or "udp"
    secure = uri.secure
    if secure:
        chosen = _SECURE.get(asked or "", "tls")
    host = uri.address
    numeric = is_address(host)
    name = None if numeric and not maddr else host
    if maddr:
        host = maddr.strip("[]")
        numeric = is_address(host)
    port = uri.port
    return Hop(
        chosen,
        host,
        DEFAULT_PORTS.get(chosen, 5060) if port is None else port,
        numeric,
        asked is None,
        port is not None,
        secure,
        name,
    )


def search(hop: Hop, offered: Mapping[str, Sequence[str]], random: Callable[[], float]) -> Search:
    """Look for the places that a name leads to, the best one first.

    :param hop: what a URI says; its host is a name.
    :param offered: for each transport that can be used the kinds of addresses, ``A`` and ``AAAA``,
        in the order in which they are wanted.
    :param random: gives numbers from 0 to 1, but not 1; it distributes requests by weight.
    """
    name = hop.host.lower().rstrip(".")
    if hop.has_port:
        yield from _addresses(hop.protocol, name, hop.port, offered)
        return
    protocols = [hop.protocol]
    if hop.open:
        (found,) = yield (Question("NAPTR", name),)
        for protocol, entry in _services(found, hop.secure, offered):
            replacement = entry.replacement.lower().rstrip(".")
            if entry.flags.lower() == "a":
                yield from _addresses(protocol, replacement, DEFAULT_PORTS[protocol], offered)
                return
            (answer,) = yield (Question("SRV", replacement),)
            servers = _servers(answer)
            if servers:
                yield from _ordered(protocol, servers, offered, random)
                return
        if not hop.secure:
            # Which of them there are is asked at once.
            protocols += [one for one in ("udp", "tcp") if one in offered and one != hop.protocol]
    answers = yield tuple(Question("SRV", f"{_prefix(one)}.{name}") for one in protocols)
    for protocol, answer in zip(protocols, answers, strict=True):
        servers = _servers(answer)
        if servers:
            yield from _ordered(protocol, servers, offered, random)
            return
    if not any(isinstance(record, Srv) for answer in answers for record in answer):
        yield from _addresses(hop.protocol, name, hop.port, offered)


def _prefix(protocol: str) -> str:
    return _SRV_PREFIX.get(protocol, f"_sip._{protocol}")


def _services(
    records: Records, secure: bool, offered: Mapping[str, Sequence[str]]
) -> list[tuple[str, Naptr]]:
    """Return the services that can be used, the best one first."""
    found = []
    for record in records:
        if not isinstance(record, Naptr) or record.regexp or not record.replacement.strip("."):
            continue
        protocol = _SERVICES.get(record.service.lower())
        if protocol not in offered or record.flags.lower() not in ("s", "a"):
            continue
        assert protocol is not None
        if not secure or protocol in ("tls", "wss"):
            found.append((protocol, record))
    found.sort(key=lambda one: (one[1].order, one[1].preference))
    return found[:_MOST_SERVICES]


def _servers(records: Records) -> list[Srv]:
    found = [record for record in records if isinstance(record, Srv) and record.target.strip(".")]
    if len(found) > _MOST_SERVERS:
        found.sort(key=lambda record: record.priority)
    return found[:_MOST_SERVERS]


def _ordered(
    protocol: str,
    servers: list[Srv],
    offered: Mapping[str, Sequence[str]],
    random: Callable[[], float],
) -> Search:
    for server in shuffled(servers, random):
        target = server.target.lower().rstrip(".")
        yield from _addresses(protocol, target, server.port, offered)


def _addresses(protocol: str, name: str, port: int, offered: Mapping[str, Sequence[str]]) -> Search:
    if is_address(name):
        yield Place(protocol, name, port)  # against RFC 2782, but it is clear what is meant
        return
    for kind in offered.get(protocol, ()):
        (found,) = yield (Question(kind, name),)
        for address in found:
            if isinstance(address, str):
                yield Place(protocol, address, port)


def shuffled(servers: Sequence[Srv], random: Callable[[], float]) -> list[Srv]:
    """Put servers in the order in which they are to be tried (RFC 2782).

    The lowest priority comes first; of equal ones each is the next with a probability that is
    proportional to its weight. Those of weight 0 have a small chance before others, and equal
    chances among themselves.
    """
    order: list[Srv] = []
    for priority in sorted({server.priority for server in servers}):
        left = [server for server in servers if server.priority == priority]
        if len(left) > 1:
            chance = {id(server): random() for server in left}
            left.sort(key=lambda server: (server.weight > 0, chance[id(server)]))
        while len(left) > 1:
            mark = int(random() * (1 + sum(server.weight for server in left)))
            at = 0
            while mark > left[at].weight:
                mark -= left[at].weight
                at += 1
            order.append(left.pop(at))
        order += left
    return order
