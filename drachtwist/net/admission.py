"""Who gets in at a listener.

In drachtio's protocol an application shows its secret to whoever connects, as the first thing that
is said. So a listener may name those who are let in, by their addresses: others are closed before a
byte is sent to them. And of those who were let in only so many may wait without having brought a
request: a server brings one at once.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any, Union

from twisted.internet.interfaces import IAddress, IProtocolFactory

from drachtwist.errors import LocalProtocolError
from drachtwist.net.alerts import Alerts
from drachtwist.net.gate import Gate
from drachtwist.net.logs import Logger
from drachtwist.net.protocol import DrachtioProtocol, LinkHandler
from drachtwist.wire.commands import Cdr, Delivery

__all__ = ["MAX_WAITING", "Admission", "Network", "is_local", "parse_networks"]

MAX_WAITING = 256
"""How many connections may wait for their first request, unless something else is said."""

PATIENCE = 5.0
"""Seconds after which a connection without a request makes room for another one."""

_STRANGERS = "strangers"
_CROWD = "connections without a request"

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]  # noqa: UP007 - for Python 3.10


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read networks and addresses: ``10.0.0.0/8``, ``192.0.2.1``, ``2001:db8::/32``.

    :raises LocalProtocolError: for what is neither, or has bits behind its network.
    """
    if isinstance(texts, str):
        raise LocalProtocolError(f"networks are a list, not {texts!r}")
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text.strip()))
        except ValueError as error:
            raise LocalProtocolError(f"no network or address: {error}") from None
    return tuple(found)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    # A socket for both families tells of IPv4 like that.
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped


def is_local(address: Any) -> bool:
    """Return whether an address that is listened on can be reached from this machine alone."""
    host = getattr(address, "host", None)
    if host is None:
        return True  # a socket of the file system
    found = _address(host)
    return found is not None and found.is_loopback


class Admission(Gate):
    """The gate of those who know the secret, or are about to be shown it.

    :param factory: makes the protocols of those who are let in.
    :param allow: where they may be; anywhere if there is nothing in it. Those who come through the
        file system are let in by it.
    :param clock: the reactor, or a Clock.
    :param max_waiting: how many of those that ``factory`` makes, then
        :class:`~drachtwist.net.protocol.DrachtioProtocol`, may be without a request; None for any
        number of any kind.
    """

    _log = Logger()

    def __init__(
        self,
        factory: IProtocolFactory,
        allow: tuple[Network, ...],
        clock: Any,
        *,
        max_waiting: int | None = None,
        name: str = "servers",
    ) -> None:
        super().__init__(factory, self._keeps_out, name)
        self._allow = allow
        self._clock = clock
        self._max_waiting = max_waiting
        self._alerts = Alerts(self._log, clock.seconds)
        # Connections without a request, the oldest first, and since when.
        self._waiting: dict[DrachtioProtocol, float] = {}

    @property
    def refused(self) -> int:
        """How many connections were closed because of where they came from."""
        return self._alerts.counts.get(_STRANGERS, 0)

    @property
    def crowded_out(self) -> int:
        """How many connections were closed because too many brought no request."""
        return self._alerts.counts.get(_CROWD, 0)

    @property
    def waiting(self) -> int:
        """How many connections are without a request."""
        return len(self._waiting)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make the protocol of one connection."""
        link = super().buildProtocol(addr)
        if self._max_waiting is not None and isinstance(link, DrachtioProtocol):
            self._waiting[link] = self._clock.seconds()
            link.handler = _Newcomer(self, link.handler)
        return link

    # Inside

    def _keeps_out(self, addr: Any) -> bool:
        if self._allow and not self._is_allowed(addr):
            self._alerts.note(
                _STRANGERS, "{peer} is not allowed to connect", peer=getattr(addr, "host", addr)
            )
            return True
        most = self._max_waiting
        return most is not None and len(self._waiting) >= most and not self._make_room(addr)

    def _is_allowed(self, addr: Any) -> bool:
        host = getattr(addr, "host", None)
        if host is None:
            return True
        address = _address(host)
        return address is not None and any(address in network for network in self._allow)

    def _make_room(self, addr: Any) -> bool:
        """Close the connection that has waited longest, if that was long enough."""
        self._alerts.note(
            _CROWD,
            "{waiting} connections have brought no request, so one is closed; the last one is from"
            " {peer}",
            waiting=len(self._waiting),
            peer=getattr(addr, "host", addr),
        )
        oldest = next(iter(self._waiting))
        if self._clock.seconds() - self._waiting[oldest] < PATIENCE:
            return False
        del self._waiting[oldest]
        oldest.abort()
        return True

    def settled(self, link: DrachtioProtocol) -> None:
        """Wait for nothing more from a connection: it brought a request, or is gone."""
        self._waiting.pop(link, None)


class _Newcomer:
    """Stands before the handler of a connection until that has brought a request."""

    def __init__(self, admission: Admission, handler: LinkHandler) -> None:
        self._admission = admission
        self._handler = handler

    def link_up(self, link: DrachtioProtocol) -> None:
        """The server accepted the secret."""
        self._handler.link_up(link)

    def link_down(self, link: DrachtioProtocol, reason: Exception) -> None:
        """The connection is gone."""
        self._admission.settled(link)
        self._handler.link_down(link, reason)

    def delivered(self, link: DrachtioProtocol, delivery: Delivery) -> None:
        """A SIP message came."""
        if link.handler is self:
            link.handler = self._handler
            self._admission.settled(link)
        self._handler.delivered(link, delivery)

    def cdr(self, link: DrachtioProtocol, cdr: Cdr) -> None:
        """A call detail record came."""
        self._handler.cdr(link, cdr)
