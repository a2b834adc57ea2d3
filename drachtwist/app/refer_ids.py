"""The ids of REFERs that a B2BUA passes on.

A NOTIFY says which REFER of its dialog it is about: by the number of that REFER's CSeq, which is
the ``id`` of the event (RFC 3515 section 2.4.6). When a REFER is passed on to another dialog it
gets another number there, and what comes back about it must name the first one again: baresip
answers 481 to a NOTIFY about a REFER that it did not send, and gives the transfer up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from drachtwist.app.received import ReceivedResponse
from drachtwist.errors import MessageError
from drachtwist.net.observers import Observers
from drachtwist.sip.fields import Event

__all__ = ["ReferIds"]


class ReferIds:
    """The REFERs that were passed on from one dialog to another, by their numbers in both."""

    __slots__ = ("_back", "_on", "_pending", "_until_answered")

    def __init__(self) -> None:
        self._on: dict[str, str] = {}
        self._back: dict[str, str] = {}
        self._pending = 0
        self._until_answered: Observers[None] = Observers()

    @contextmanager
    def passing(self, number: int) -> Iterator[Callable[[ReceivedResponse | None], None]]:
        """Pass a REFER on; what is told about it waits until the response to it was passed back.

        :param number: its CSeq number where it came from.
        :returns: a function to be called with the response from where it went to, if there is one,
            which tells the number there.
        """

        def answered(response: ReceivedResponse | None) -> None:
            if response is not None and response.status < 300:
                there = str(response.cseq.number)
                self._on[str(number)] = there
                self._back[there] = str(number)

        self._pending += 1
        try:
            yield answered
        finally:
            self._pending -= 1
            self._until_answered.fire(None)

    async def back(self, event: str) -> str:
        """Return the Event of a NOTIFY as it is known where the REFER came from.

        A NOTIFY may overtake the response to the REFER: it waits until that is there.

        :param event: the value of the header; one that is not about a REFER passed on stays as it
            is.
        """
        number = _refer_id(event)
        if number is None:
            return event
        while number not in self._back and self._pending:
            await self._until_answered.wait()
        return _renamed(event, number, self._back)

    def on(self, event: str) -> str:
        """Return the Event of a SUBSCRIBE as it is known where the REFER went to."""
        number = _refer_id(event)
        return event if number is None else _renamed(event, number, self._on)


def _refer_id(event: str) -> str | None:
    try:
        parsed = Event.parse(event)
    except MessageError:
        return None
    return parsed.id if parsed.package.lower() == "refer" else None


def _renamed(event: str, number: str, names: Mapping[str, str]) -> str:
    return f"refer;id={names[number]}" if number in names else event
