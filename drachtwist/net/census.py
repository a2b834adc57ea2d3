"""How many connections there are: in total, and from each source.

A source is an address; of IPv6 it is the first 64 bits, since whoever has one address of those has
all of them (RFC 6177).
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address

from drachtwist.net.alerts import Alerts

__all__ = ["Census", "Turnstile", "source_of"]


def source_of(host: str) -> str:
    """Return whom a connection from an address counts for."""
    if ":" not in host:
        return host
    try:
        address = IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped
    if mapped is not None:
        return str(mapped)
    return str(IPv6Address(int(address) >> 64 << 64)) + "/64"


class Census:
    """Counts connections against two limits.

    :param total: how many there may be.
    :param per_source: how many of one source.
    """

    __slots__ = ("_sources", "per_source", "present", "total")

    def __init__(self, total: int, per_source: int) -> None:
        self.total = total
        self.per_source = per_source
        self.present = 0
        """How many there are."""
        self._sources: dict[str, int] = {}

    def problem(self, host: str) -> str | None:
        """Say which limit keeps a connection out: ``total``, ``source``, or None for neither."""
        if self.present >= self.total:
            return "total"
        return "source" if self.has_enough(host) else None

    def has_enough(self, host: str) -> bool:
        """Return whether there may be no more of the source of an address."""
        return self._sources.get(source_of(host), 0) >= self.per_source

    def heaviest(self) -> str | None:
        """Return the source that has the most, of several the one that came first."""
        return max(self._sources, key=self._sources.__getitem__, default=None)

    def enter(self, host: str) -> None:
        """Count a connection."""
        source = source_of(host)
        self.present += 1
        self._sources[source] = self._sources.get(source, 0) + 1

    def leave(self, host: str) -> None:
        """Count a connection no longer."""
        source = source_of(host)
        self.present -= 1
        left = self._sources[source] - 1
        if left:
            self._sources[source] = left
        else:
            del self._sources[source]


class Turnstile(Census):
    """Counts connections against two limits, and tells an operator of those that are too many.

    :param total: how many there may be.
    :param per_source: how many of one source.
    :param alerts: where that is noted.
    :param cause: what it is noted as; for a source with ``_per_source`` behind it.
    :param what: what they are, for the line in the log: ``connections of phones``.
    :param make_room: closes one of them for another when there are too many all together; None if
        it is the new one that has to go.
    """

    __slots__ = ("_alerts", "_cause", "_make_room", "_what")

    def __init__(
        self,
        total: int,
        per_source: int,
        alerts: Alerts,
        cause: str,
        what: str,
        make_room: Callable[[], object] | None = None,
    ) -> None:
        super().__init__(total, per_source)
        self._alerts = alerts
        self._cause = cause
        self._what = what
        self._make_room = make_room

    def refuses(self, host: str) -> bool:
        """Say whether another connection from an address would be one too many; note it."""
        problem = self.problem(host)
        if problem == "total" and self._make_room is not None:
            if self.has_enough(host):
                problem = "source"
            else:
                self._alerts.note(
                    self._cause,
                    "one of {most} {what} has to make room for {peer}",
                    peer=host,
                    most=self.total,
                    what=self._what,
                )
                self._make_room()
                return False
        if problem == "total":
            self._alerts.note(
                self._cause,
                "{peer} is refused: there are {most} {what}",
                peer=host,
                most=self.total,
                what=self._what,
            )
        elif problem == "source":
            self._alerts.note(
                f"{self._cause}_per_source",
                "{peer} is refused: it has {most} {what}",
                peer=host,
                most=self.per_source,
                what=self._what,
            )
        return problem is not None
