"""The CANCEL of an INVITE of ours (RFC 3261 section 9.1).

A CANCEL says that nobody wants an answer any more; what becomes of the INVITE is said by its final
response, usually a 487, or a 200 that crossed the CANCEL. A peer may send none, and a server may
have forgotten the INVITE. So it counts as ended 40 s behind the CANCEL, and 2 s behind the server's
word that it knows no such transaction, in which time a response that was under way still comes.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall

from drachtwist.app.ports import Clock
from drachtwist.errors import ConnectionLost
from drachtwist.net.protocol import DrachtioProtocol
from drachtwist.wire.commands import Answer

__all__ = ["Cancel"]

SILENCE = 40.0
"""Seconds after which a cancelled INVITE counts as ended although no server said so."""

GRACE = 2.0
"""The same when the server does not know it."""


class Cancel:
    """A CANCEL, which is a command of its own.

    :param clock: tells how long the INVITE is waited for.
    :param on_silence: called when nothing ends the INVITE.
    """

    __slots__ = ("_clock", "_on_silence", "_timer")

    def __init__(self, clock: Clock, on_silence: Callable[[], None]) -> None:
        self._clock = clock
        self._on_silence: Callable[[], None] | None = on_silence
        self._timer: IDelayedCall | None = None

    def send(self, link: DrachtioProtocol, transaction_id: str, message: bytes) -> None:
        """Send it.

        :param transaction_id: of the INVITE.
        """
        try:
            link.send_message(transaction_id, "", message, self)
        except ConnectionLost:
            return  # which the INVITE knows otherwise
        self._timer = self._clock.callLater(SILENCE, self._waited_long_enough)

    def stop(self) -> None:
        """Stop, since the INVITE has its outcome."""
        timer, self._timer = self._timer, None
        self._on_silence = None
        if timer is not None and timer.active():
            timer.cancel()

    def _waited_long_enough(self) -> None:
        self._timer = None
        if self._on_silence is not None:
            self._on_silence()

    # What the link reports

    def answered(self, answer: Answer) -> None:
        """The server sent it, or knows no such transaction: the final response was on its way."""
        if answer.is_of_nothing and self._timer is not None:
            self._timer.reset(GRACE)

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away, which the INVITE knows otherwise."""
