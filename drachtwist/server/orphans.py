"""What becomes of the work of an application that is gone.

Killed, crashed or cut off, an application leaves requests that it was about to answer, calls that
it placed, and calls that are up. The real server tells the network nothing; then phones ring, and
calls are up, with nobody to end them. Here:

====================================  ============================================================
a new request that nobody touched     goes to the next application that wants it, three of them at
                                      most; otherwise 503, or 480 when an application was connected
                                      to for it alone, with Retry-After
an INVITE that rings                  480 with a Reason
a request in a dialog                 200 to a BYE or PRACK, otherwise 500 with Retry-After, after
                                      which the dialog goes on (RFC 5057 section 5.1)
an INVITE of the application          cancelled, with a Reason; who accepts all the same gets ACK
                                      and BYE
a call that the application placed,   ACK and BYE at once
and did not acknowledge
a call that is up                     waits for somebody to take it: the application that comes
                                      back, or another, owns it from its first request in it, be it
                                      a BYE. When nobody does in time, it gets a BYE with a Reason
a subscription                        waits as well, and is forgotten then: the next request in it
                                      is answered 481, which ends it (RFC 6665)
a proxied call                        goes on; it is nobody's
====================================  ============================================================

Of too many that wait the oldest are ended early. BYEs go out in batches, so that the end of a
thousand calls does not hold up the others.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Protocol

from drachtwist.net.clock import DeadlineClock
from drachtwist.server.clients import AppLink
from drachtwist.server.config import ServerConfig
from drachtwist.server.dialogs import Dialog, Dialogs
from drachtwist.sip.status import reason_value
from drachtwist.transactions.machine import Effect, Machine

__all__ = ["GONE", "MOST_HAND_OVERS", "REASON", "RETRY_AFTER", "Orphans"]

GONE = "Application gone"
REASON = reason_value(503, GONE)
"""Why something ends whose application is gone."""

RETRY_AFTER = "Retry-After: 5"

MOST_HAND_OVERS = 3
"""How many applications a new request is given to in turn: it may be what ends them."""

_NEVER = float("inf")
_BATCH = 50
_PAUSE = 0.05
_UNCONFIRMED = 1.0
"""Seconds until a call is looked at again whose 2xx is not acknowledged yet."""


class Ending(Protocol):
    """What ends the calls of applications that are gone: the UAC core."""

    def cancel_pending(self, dialog: Dialog) -> None:
        """Cancel the INVITEs of this side in a dialog."""

    def bye(self, dialog: Dialog, reason: str, cause: int = 200) -> None:
        """End a dialog."""


class Forgetting(Protocol):
    """What forgets dialogs: the UAS core."""

    def end(self, dialog: Dialog) -> None:
        """Forget a dialog."""


class OrphanCore(Protocol):
    """What is needed of the server for that."""

    @property
    def config(self) -> ServerConfig:
        """The settings."""
        ...

    @property
    def clock(self) -> DeadlineClock:
        """The time."""
        ...

    @property
    def dialogs(self) -> Dialogs:
        """The dialogs."""
        ...

    @property
    def uac(self) -> Ending:
        """What ends calls."""
        ...

    @property
    def uas(self) -> Forgetting:
        """What forgets them."""
        ...


class Orphans(Machine):
    """Dialogs whose application is gone, the one that waits for longest first.

    :param core: the server.
    """

    __slots__ = ("_core", "_waiting", "claimed", "ended", "left", "lost")

    def __init__(self, core: OrphanCore) -> None:
        super().__init__()
        self._core = core
        self._waiting: dict[Dialog, float] = {}
        self.lost = 0
        """Dialogs that lost their application so far; each of them is one of the next three, or
        waits."""
        self.claimed = 0
        """Dialogs that another connection took."""
        self.left = 0
        """Dialogs that ended meanwhile: the peer hung up, or the session expired."""
        self.ended = 0
        """Dialogs that the server ended."""

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def __contains__(self, dialog: object) -> bool:
        """Return whether a dialog waits."""
        return dialog in self._waiting

    def add(self, dialog: Dialog) -> None:
        """Let a dialog wait for somebody to take it."""
        config = self._core.config
        self._core.dialogs.hand_to(dialog, None)
        self.lost += 1
        now = self._core.clock.seconds()
        grace = config.orphan_grace
        self._waiting[dialog] = _NEVER if grace is None else now + grace
        while len(self._waiting) > config.max_orphans:
            self._end(next(iter(self._waiting)))
        self._arm()

    def claim(self, dialog: Dialog, link: AppLink) -> None:
        """Let a dialog be a connection's own from now on, if it waits."""
        if self._waiting.pop(dialog, None) is not None:
            self.claimed += 1
            self._core.dialogs.hand_to(dialog, link)

    def over(self, dialog: Dialog) -> None:
        """Note that a dialog is over."""
        if self._waiting.pop(dialog, None) is not None:
            self.left += 1

    def tick(self, now: float) -> list[Effect]:
        """End those whose time is over, a few at a time."""
        ended = unconfirmed = 0
        for dialog in list(takewhile(lambda one: self._waiting[one] <= now, self._waiting)):
            if dialog.answers is not None:
                # No BYE before the ACK (RFC 3261 section 15), which has a deadline of its own.
                unconfirmed += 1
            elif ended == _BATCH:
                break
            else:
                self._end(dialog)
                ended += 1
        self._arm(now + (_PAUSE if ended or not unconfirmed else _UNCONFIRMED))
        return []

    def _arm(self, earliest: float = 0.0) -> None:
        """Set the deadline of the one that waits for longest."""
        dialog = next(iter(self._waiting), None)
        if dialog is None or self._waiting[dialog] == _NEVER:
            self.deadline = None
        else:
            self.deadline = max(earliest, self._waiting[dialog])
        self._core.clock.watch(self)

    def _end(self, dialog: Dialog) -> None:
        """End a dialog that nobody took."""
        del self._waiting[dialog]
        self.ended += 1
        core = self._core
        if dialog.method == "INVITE":
            core.uac.cancel_pending(dialog)
            core.uac.bye(dialog, GONE, cause=503)
        core.uas.end(dialog)
