"""Who may connect to the ports for applications, and for how long without the secret.

Strangers reach these ports too, so until the secret is shown a connection is worth little: there
are few of them, fewer from each address, and they have seconds. When there are too many of
different addresses, the oldest one of the address that has the most makes room for the new one: an
application shows the secret in no time, and whoever only sits there would keep it out. What is up
is never closed for what is not.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from drachtwist.net.alerts import Alerts
from drachtwist.net.census import Turnstile, source_of
from drachtwist.net.protocol import DrachtioServerProtocol
from drachtwist.server.limits import ServerLimits

__all__ = ["Door"]


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
        self._all = Turnstile(
            limits.applications,
            limits.applications,
            alerts,
            "applications",
            "connections to the admin ports",
        )
        self._strangers = Turnstile(
            limits.strangers,
            limits.strangers_per_source,
            alerts,
            "strangers",
            "connections to the admin ports without the secret",
            self._make_room,
        )
        self._inside: dict[DrachtioServerProtocol, str] = {}
        self._waiting: dict[DrachtioServerProtocol, IDelayedCall] = {}

    def refuses(self, address: Any) -> bool:
        """Say whether another connection from an address would be one too many; note it."""
        host = str(getattr(address, "host", ""))
        # A stranger that makes room does so in both.
        return (self._required and self._strangers.refuses(host)) or self._all.refuses(host)

    def _make_room(self) -> None:
        """Close a connection that lacks the secret."""
        heaviest = self._strangers.heaviest()
        for link in self._waiting:
            if source_of(self._inside[link]) == heaviest:
                self.left(link)  # it counts no longer
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
