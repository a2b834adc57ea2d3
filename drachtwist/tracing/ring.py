"""The last calls: what is needed to draw one that nobody had asked about.

Messages are kept by Call-ID, as they came, and are not looked into. There is room for so many
Call-IDs and so many octets; whoever was silent longest goes first. Of one call the first and the
last messages are kept: how it began, and how it ended. What begins with another method than INVITE
has a quarter of the room, so that registrations and the like push no calls out.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

from drachtwist.tracing.messages import Passed, session_of

__all__ = ["CALLS", "OCTETS", "Ring"]

CALLS = 256
"""Call-IDs that are kept unless told otherwise."""
OCTETS = 4 << 20
"""Octets of messages that are kept unless told otherwise."""
_FIRST = 48
_LAST = 48
OVERHEAD = 400
"""Octets that a message costs besides itself."""


class Kept:
    """What is kept of a Call-ID."""

    __slots__ = ("call_id", "first", "group", "last", "left_out", "octets", "session")

    def __init__(self, call_id: bytes) -> None:
        self.call_id = call_id
        self.first: list[Passed] = []
        self.last: deque[Passed] | None = None
        self.left_out = 0
        """How many messages in the middle were not kept."""
        self.octets = 0
        self.group: set[bytes] | None = None
        """The Call-IDs that belong together, this one among them; None when it is alone."""
        self.session: bytes = b""
        """What names its session until somebody answers, if nobody calls on yet."""

    def __iter__(self) -> Iterator[Passed]:
        yield from self.first
        yield from self.last or ()


class _Table:
    """Call-IDs with their messages, the one that was silent longest first."""

    def __init__(self, calls: int, octets: int) -> None:
        self.most = calls
        self.most_octets = octets
        self.octets = 0
        self.kept: OrderedDict[bytes, Kept] = OrderedDict()


class Ring:
    """Keeps the messages of the last calls.

    :param calls: how many Call-IDs.
    :param octets: how many octets, all messages together; what is kept along with each message
        counts too.
    """

    def __init__(self, calls: int = CALLS, octets: int = OCTETS) -> None:
        self._calls = _Table(calls, octets)
        self._others = _Table(max(calls // 4, 1), octets // 4)
        # Callers whose session descriptions may be passed on, by what names the session.
        self._sessions: dict[bytes, bytes | None] = {}

    def __len__(self) -> int:
        return len(self._calls.kept) + len(self._others.kept)

    @property
    def octets(self) -> int:
        """How many octets are kept."""
        return self._calls.octets + self._others.octets

    @property
    def call_ids(self) -> list[str]:
        """The Call-IDs of what began with an INVITE, those that were silent longest first."""
        return [_text(call_id) for call_id in self._calls.kept]

    def add(self, passed: Passed) -> None:
        """Keep a message."""
        call_id = passed.call_id
        table = self._calls
        kept = table.kept.get(call_id)
        if kept is None:
            raw = passed.raw
            if raw[:7] != b"INVITE ":
                table = self._others
                kept = table.kept.get(call_id)
            if kept is None:
                kept = table.kept[call_id] = Kept(call_id)
                if table is self._calls:
                    self._compare_sessions(kept, passed)
        table.kept.move_to_end(call_id)
        octets = len(passed.raw) + OVERHEAD
        if len(kept.first) < _FIRST:
            kept.first.append(passed)
        else:
            last = kept.last
            if last is None:
                last = kept.last = deque()
            elif len(last) >= _LAST:
                octets -= len(last.popleft().raw) + OVERHEAD
                kept.left_out += 1
            last.append(passed)
        kept.octets += octets
        table.octets += octets
        while table.octets > table.most_octets or len(table.kept) > table.most:
            self._drop(table)
            if not table.kept:
                break

    def _drop(self, table: _Table) -> None:
        call_id, kept = table.kept.popitem(last=False)
        table.octets -= kept.octets
        if kept.group is not None:
            kept.group.discard(call_id)
        if kept.session and self._sessions.get(kept.session) in (call_id, None):
            self._sessions.pop(kept.session, None)

    def _compare_sessions(self, kept: Kept, passed: Passed) -> None:
        """Find out whether a call goes on as another one, with the caller's session description.

        That is so when an INVITE leaves with the description of the only one that came with it.
        """
        session = session_of(passed.raw)
        if not session:
            return
        sessions = self._sessions
        if not passed.sent:
            # Two that use the same name cannot be told apart, as long as they are here.
            sessions[session] = None if session in sessions else kept.call_id
            kept.session = session
            return
        other = sessions.get(session)
        if other is not None:
            self._relate(other, kept.call_id)

    def relate(self, *call_ids: str) -> None:
        """Note that Call-IDs belong to one call: they are drawn together."""
        encoded = [call_id.encode("utf-8", "surrogateescape") for call_id in call_ids]
        for other in encoded[1:]:
            self._relate(encoded[0], other)

    def _relate(self, one: bytes, other: bytes) -> None:
        first, second = self._find(one), self._find(other)
        if first is None or second is None or first is second:
            return
        group = first.group or {one}
        group |= second.group or {other}
        for call_id in group:
            kept = self._find(call_id)
            if kept is not None:
                kept.group = group

    def _find(self, call_id: bytes) -> Kept | None:
        return self._calls.kept.get(call_id) or self._others.kept.get(call_id)

    def find(self, call_id: str | bytes) -> Kept | None:
        """Return what is kept of a Call-ID; None when it is gone, or never was there."""
        if isinstance(call_id, str):
            call_id = call_id.encode("utf-8", "surrogateescape")
        return self._find(call_id)

    def related(self, call_id: str | bytes) -> list[str]:
        """Return all Call-IDs of the call that one belongs to, that which began first first."""
        kept = self.find(call_id)
        if kept is None:
            return []
        group = [found for one in kept.group or {kept.call_id} if (found := self._find(one))]
        group.sort(key=lambda one: _place(one.first[0]))
        return [_text(one.call_id) for one in group]

    def messages(self, call_id: str | bytes) -> list[Passed]:
        """Return the messages of the call that a Call-ID belongs to, in order of time."""
        found: list[Passed] = []
        for each in self.related(call_id):
            kept = self.find(each)
            if kept is not None:
                found += kept
        found.sort(key=_place)
        return found

    def clear(self) -> None:
        """Forget everything."""
        for table in (self._calls, self._others):
            table.kept.clear()
            table.octets = 0
        self._sessions.clear()


def _place(passed: Passed) -> tuple[float, int]:
    return passed.time, passed.number


def _text(call_id: bytes) -> str:
    return call_id.decode("utf-8", "surrogateescape")
