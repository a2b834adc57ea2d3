"""Who may connect to the ports for applications, and for how long without the secret.

Strangers reach these ports too, so until the secret is shown a connection is worth little: there
are few of them, fewer from each address, and they have seconds. When there are too many of
different addresses, the oldest one of the address that has the most makes room for the new one: an
application shows the secret in no time, and whoever only sits there would keep it out. What is up
is never closed for what is not.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import protocol
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime

from drachtwist.net.alerts import Alerts
from drachtwist.net.census import Census, source_of
from drachtwist.net.protocol import DrachtioServerProtocol
from drachtwist.net.streams import Refused
from drachtwist.server.limits import ServerLimits

__all__ = ["AdmissionFactory", "Door"]


class Door:
    """Counts the connections to the admin ports, and ends those that do not show the secret.

    :param limits: settled ones.
    :param clock: the reactor, or a Clock.
    :param required: whether the secret has to be shown at all.
    """

    def __init__(
        self, limits: ServerLimits, clock: IReactorTime, alerts: Alerts, required: bool
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._alerts = alerts
        self._required = required
        self._all = Census(limits.applications, limits.applications)
        self._strangers = Census(limits.strangers, limits.strangers_per_source)
        self._inside: dict[DrachtioServerProtocol, str] = {}
        self._waiting: dict[DrachtioServerProtocol, IDelayedCall] = {}

    def refuses(self, host: str) -> bool:
        """Whether another connection from an address would be one too many; that is noted."""
        limits = self._limits
        if self._all.problem(host) is not None:
            self._alerts.note(
                "applications",
                "{peer} is refused: there are {most} connections to the admin ports",
                peer=host,
                most=limits.applications,
            )
            return True
        problem = self._strangers.problem(host) if self._required else None
        if problem == "total":
            self._alerts.note(
                "strangers",
                "{most} connections to the admin ports lack the secret, so one is closed; the last"
                " one is from {peer}",
                peer=host,
                most=limits.strangers,
            )
            self._make_room()
            return False
        if problem == "source":
            self._alerts.note(
                "strangers_per_source",
                "{peer} is refused: {most} of its connections to the admin ports lack the secret",
                peer=host,
                most=limits.strangers_per_source,
            )
        return problem is not None

    def _make_room(self) -> None:
        """Close a connection that lacks the secret."""
        heaviest = self._strangers.heaviest()
        for link in self._waiting:
            if source_of(self._inside[link]) == heaviest:
                self.signed(link)  # it counts no longer
                link.abort()
                return

    def entered(self, link: DrachtioServerProtocol) -> None:
        """Take note of a connection."""
        host = str(getattr(link.peer, "host", ""))
        self._inside[link] = host
        self._all.enter(host)
        if self._required:
            self._strangers.enter(host)
            self._waiting[link] = self._clock.callLater(
                self._limits.secret_timeout, self._late, link
            )

    def signed(self, link: DrachtioServerProtocol) -> None:
        """Take note that a connection showed the right secret."""
        waiting = self._waiting.pop(link, None)
        if waiting is not None:
            self._strangers.leave(self._inside[link])
            if waiting.active():
                waiting.cancel()

    def left(self, link: DrachtioServerProtocol) -> None:
        """Take note that a connection is gone."""
        self.signed(link)
        host = self._inside.pop(link, None)
        if host is not None:
            self._all.leave(host)

    def _late(self, link: DrachtioServerProtocol) -> None:
        self._alerts.note(
            "secret_timeout",
            "{peer} is cut off: it did not show the secret within {seconds:g} s",
            peer=link.peer,
            seconds=self._limits.secret_timeout,
        )
        link.abort()


class AdmissionFactory(protocol.ServerFactory):
    """Lets connections in, or closes them before a byte is read or TLS begins.

    :param factory: takes those that are let in.
    """

    noisy = False

    def __init__(self, door: Door, factory: protocol.Factory) -> None:
        self._door = door
        self._factory = factory

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Give what takes the connection."""
        if self._door.refuses(str(getattr(addr, "host", ""))):
            return Refused()
        return self._factory.buildProtocol(addr)
