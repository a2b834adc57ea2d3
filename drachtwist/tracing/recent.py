"""The last messages, kept without a look at them: cheap enough to be always on.

There is room for so many octets, and the oldest go first, whatever they belong to. Only when
somebody asks for a call are they sorted, into a :class:`~drachtwist.tracing.ring.Ring`.
"""

from __future__ import annotations

from collections import deque

from drachtwist.net.tap import Way
from drachtwist.tracing.messages import Passed, call_id_of
from drachtwist.tracing.ring import OCTETS, OVERHEAD, Kept, Ring

__all__ = ["Recent"]

_MOST_RELATIONS = 1024


class Recent:
    """Keeps the last messages.

    :param octets: how many octets, all messages together; what is kept along with each counts too.
    """

    def __init__(self, octets: int = OCTETS) -> None:
        self._most = octets
        self._messages: deque[tuple[float, bool, Way, bytes, int]] = deque()
        self._relations: deque[tuple[str, ...]] = deque(maxlen=_MOST_RELATIONS)
        self.octets = 0
        """How many octets are kept."""

    def __len__(self) -> int:
        return len(self._messages)

    def keep(self, time: float, sent: bool, way: Way, raw: bytes, number: int) -> None:
        """Keep a message."""
        messages = self._messages
        messages.append((time, sent, way, raw, number))
        octets = self.octets + len(raw) + OVERHEAD
        while octets > self._most:
            octets -= len(messages.popleft()[3]) + OVERHEAD
        self.octets = octets

    def relate(self, *call_ids: str) -> None:
        """Note that Call-IDs belong to one call."""
        self._relations.append(call_ids)

    def sorted(self) -> Ring:
        """Return what is kept by calls."""
        ring = Ring(calls=len(self._messages) * 4 or 1, octets=self._most * 5)
        for time, sent, way, raw, number in self._messages:
            ring.add(Passed(time, sent, way, raw, call_id_of(raw), number))
        for call_ids in self._relations:
            ring.relate(*call_ids)
        return ring

    @property
    def call_ids(self) -> list[str]:
        """As :attr:`Ring.call_ids <drachtwist.tracing.ring.Ring.call_ids>`."""
        return self.sorted().call_ids

    def find(self, call_id: str | bytes) -> Kept | None:
        """As :meth:`Ring.find <drachtwist.tracing.ring.Ring.find>`."""
        return self.sorted().find(call_id)

    def related(self, call_id: str | bytes) -> list[str]:
        """As :meth:`Ring.related <drachtwist.tracing.ring.Ring.related>`."""
        return self.sorted().related(call_id)

    def messages(self, call_id: str | bytes) -> list[Passed]:
        """As :meth:`Ring.messages <drachtwist.tracing.ring.Ring.messages>`."""
        return self.sorted().messages(call_id)

    def clear(self) -> None:
        """Forget everything."""
        self._messages.clear()
        self._relations.clear()
        self.octets = 0
