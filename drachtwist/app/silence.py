"""Who was silent for too long: one delayed call for all of those that may be silent equally long.

Nearly every call rings, and hardly any rings for minutes: a delayed call for each would be made,
put off and cancelled for nothing. As all have the same time, whoever was heard last is given up
last. The delayed call stays when nobody is waited for any more, since the next is soon to ring; it
goes when its time has come, or with the connection.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Silence"]


class _Listened(Protocol):
    def silent_too_long(self) -> None:
        """Nothing was heard for as long as is waited."""


class Silence:
    """The time that has passed since each of many was heard.

    :param clock: what deadlines hang on.
    :param seconds: how long anybody may be silent.
    """

    __slots__ = ("_call", "_clock", "_seconds", "_until")

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        # The deadlines, in their order.
        self._until: dict[_Listened, float] = {}
        self._call: IDelayedCall | None = None

    def heard(self, who: _Listened) -> None:
        """Wait for somebody, from now on."""
        self._until.pop(who, None)
        self._until[who] = self._clock.seconds() + self._seconds
        if self._call is None:
            self._call = self._clock.callLater(self._seconds, self._look)

    def forget(self, who: _Listened) -> None:
        """Wait for somebody no longer; it is no error if nobody did."""
        self._until.pop(who, None)

    def close(self) -> None:
        """Wait for nobody any more."""
        self._until.clear()
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    def _look(self) -> None:
        self._call = None
        now = self._clock.seconds()
        late = []
        for who, until in self._until.items():
            if until > now:
                self._call = self._clock.callLater(until - now, self._look)
                break
            late.append(who)
        for who in late:
            del self._until[who]
        for who in late:
            who.silent_too_long()
