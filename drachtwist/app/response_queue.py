"""Responses to an INVITE that have to wait, and for what.

Two things hold a response back:

* **A PRACK.** A reliable provisional response is repeated until its PRACK comes, and nothing but
  a 100 is sent before (RFC 3262 section 3; a real server garbles a second reliable one, and does
  not survive a 2xx with an answer). The server gives up after 64 times T1.
* **The answer to an UPDATE** in the early dialog. A real server takes an answer that comes behind
  the 2xx of the INVITE for one to the INVITE (protocol.md 5.6), so that 2xx waits. An application
  that never answers its UPDATE holds the call up for 32 s at most.

Whatever ends the INVITE (the caller has gone, the connection is lost) lets everything go: each
response then finds out by itself that it cannot be sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall

from drachtwist.app.ports import Clock

__all__ = ["ResponseQueue"]

PRACK_TIMEOUT = 33.0
"""Seconds after which a PRACK will not come any more: 64 times T1, after which the server says so,
and one more."""

UPDATE_TIMEOUT = 32.0
"""Seconds after which nobody waits for the answer to an UPDATE any more: 64 times T1."""


class _Answerable(Protocol):
    """An UPDATE."""

    @property
    def is_open(self) -> bool:
        """Whether it has no final response."""
        ...


class ResponseQueue:
    """The responses of one INVITE that wait.

    :param clock: tells when to wait no longer.
    """

    __slots__ = (
        "_clock",
        "_prack_timer",
        "_sends",
        "_update",
        "_update_timer",
        "awaits_prack",
        "on_prack",
    )

    awaits_prack: bool
    """Whether a reliable provisional response has no PRACK yet."""

    on_prack: Callable[..., Any] | None
    """The handler of the PRACK that is waited for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sends: list[Callable[[], None]] = []
        self.awaits_prack = False
        self.on_prack = None
        self._prack_timer: IDelayedCall | None = None
        self._update: _Answerable | None = None
        self._update_timer: IDelayedCall | None = None

    def holds(self, status: int) -> bool:
        """Return whether a response of this status has to wait now.

        A 100 never does, and a refusal waits for a PRACK only.
        """
        if status <= 100:
            return False
        return self.awaits_prack or (200 <= status < 300 and self.is_blocked)

    @property
    def is_blocked(self) -> bool:
        """Whether a PRACK, or the answer to an UPDATE, is missing."""
        return self.awaits_prack or (self._update is not None and self._update.is_open)

    def add(self, send: Callable[[], None], late: Callable[[], None]) -> None:
        """Let a response wait.

        :param send: sends it.
        :param late: called when the answer to an UPDATE has taken too long.
        """
        self._sends.append(send)
        if self._update is not None and self._update_timer is None:
            self._update_timer = self._clock.callLater(UPDATE_TIMEOUT, late)

    def await_prack(self, handler: Callable[..., Any] | None, late: Callable[[], None]) -> None:
        """Hold back what comes, because a reliable response was sent.

        :param handler: of the PRACK.
        :param late: called when the PRACK has taken too long.
        """
        self.awaits_prack = True
        self.on_prack = handler
        self._prack_timer = self._clock.callLater(PRACK_TIMEOUT, late)

    def prack_over(self) -> None:
        """Wait for no PRACK any more."""
        self.on_prack = None
        self.awaits_prack = False
        timer, self._prack_timer = self._prack_timer, None
        _cancel(timer)

    def await_answer(self, update: _Answerable) -> None:
        """Hold back a 2xx until an UPDATE is answered."""
        self._update = update

    def update_over(self) -> None:
        """Wait for the answer to no UPDATE any more."""
        self._update = None
        timer, self._update_timer = self._update_timer, None
        _cancel(timer)

    def release(self, may_send: Callable[[], bool]) -> None:
        """Send what waited, as far as nothing is in the way any more.

        :param may_send: whether there is still somebody to send a response to, which is asked
            before each; when there is not, nothing waits.
        """
        while self._sends:
            if may_send() and self.is_blocked:
                return
            self._sends.pop(0)()


def _cancel(timer: IDelayedCall | None) -> None:
    """Cancel a timer if it runs."""
    if timer is not None and timer.active():
        timer.cancel()
