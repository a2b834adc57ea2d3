"""Asks phones behind a NAT for a sign of life, so that the way to them stays open.

A NAT forgets who talks to whom after half a minute or more of silence over UDP. An OPTIONS in
between, sent where calls would go, keeps it from that; what the phone answers does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from drachtwist.errors import DrachtwistError
from drachtwist.middleware.bindings import Binding
from drachtwist.net.logs import Logger

if TYPE_CHECKING:
    from drachtwist.app.srf import Srf

__all__ = ["KeepAlive"]

_log = Logger(namespace="drachtwist.middleware.keepalive")


class KeepAlive:
    """Sends OPTIONS to bindings, as long as they last.

    :param every: seconds between two to the same phone.
    :param now: tells the time that bindings expire by.
    """

    def __init__(self, every: float, now: Callable[[], float]) -> None:
        self._every = every
        self._now = now
        self._timers: dict[str, tuple[IDelayedCall, ...]] = {}

    def watch(self, srf: Srf, aor: str, bindings: Iterable[Binding]) -> None:
        """Keep the way to these bindings of an address of record open, and to no others of it.

        :param srf: the application that asks.
        """
        for timer in self._timers.pop(aor, ()):
            if timer.active():
                timer.cancel()
        timers = tuple(self._later(srf, aor, one) for one in bindings if one.behind_nat)
        if timers:
            self._timers[aor] = timers

    def _later(self, srf: Srf, aor: str, binding: Binding) -> IDelayedCall:
        return srf.clock.callLater(self._every, self._ask, srf, aor, binding)

    def _ask(self, srf: Srf, aor: str, binding: Binding) -> None:
        others = tuple(timer for timer in self._timers.pop(aor, ()) if timer.active())
        if binding.expires_at > self._now() and srf.links:
            try:
                srf.request(binding, method="OPTIONS").addErrback(self._failed, binding)
            except DrachtwistError as error:
                self._failed(Failure(error), binding)
            others = (*others, self._later(srf, aor, binding))
        if others:
            self._timers[aor] = others

    def _failed(self, failure: Failure, binding: Binding) -> None:
        _log.debug("no sign of life of {uri}: {error}", uri=binding.uri, error=failure.value)
