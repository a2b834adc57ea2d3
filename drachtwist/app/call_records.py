"""Call detail records that belong together: one summary for each call.

Servers report an attempt, perhaps a start, and a stop; of a proxied call for each side and target.
What they have in common is the Call-ID. A call is over when somebody hung up, the caller gave up,
or every attempt has its stop. The times carry no date: a call may last up to a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drachtwist import sip
from drachtwist.errors import MessageError

if TYPE_CHECKING:
    from drachtwist.net.protocol import DrachtioProtocol
    from drachtwist.wire.commands import Cdr

__all__ = ["CallRecord", "CallSummary", "Correlator"]

MAX_OPEN = 10_000
"""How many calls of a connection are remembered; the oldest is given up for a new one."""

_DAY = 86_400.0


class CallRecord:
    """A call detail record of the server.

    :param cdr: the record as it came.
    :param link: the connection that it came over.
    """

    __slots__ = ("_cdr", "link", "message")

    def __init__(self, cdr: Cdr, link: DrachtioProtocol) -> None:
        self._cdr = cdr
        self.link = link
        """The connection that the record came over."""
        self.message = sip.parse_message(cdr.message)
        """The INVITE, the 200, or the message that ended the call."""

    @property
    def event(self) -> str:
        """``attempt``, ``start`` or ``stop``."""
        return self._cdr.event

    @property
    def source(self) -> str:
        """``network`` or ``application``: who sent the message."""
        return self._cdr.source

    @property
    def time(self) -> str:
        """When: ``HH:MM:SS.uuuuuu``, UTC."""
        return self._cdr.time

    @property
    def role(self) -> str:
        """On ``start``: ``uas``, ``uac``, ``proxy-uas`` or ``proxy-uac``; otherwise empty."""
        return self._cdr.detail if self._cdr.event == "start" else ""

    @property
    def reason(self) -> str:
        """On ``stop``: ``normal-release``, ``call-rejected``, ...; otherwise empty."""
        return self._cdr.detail if self._cdr.event == "stop" else ""

    def __repr__(self) -> str:
        return f"<CallRecord {self.event} {self._cdr.detail}>"


def _seconds(time: str) -> float | None:
    """Read ``HH:MM:SS.uuuuuu``."""
    try:
        hours, minutes, seconds = time.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None


def _between(first: CallRecord | None, then: CallRecord | None) -> float | None:
    if first is None or then is None:
        return None
    begin, end = _seconds(first.time), _seconds(then.time)
    if begin is None or end is None:
        return None
    return (end - begin) % _DAY


@dataclass(frozen=True, slots=True)
class CallSummary:
    """A whole call, from the records of the server."""

    call_id: str
    attempt: CallRecord | None
    """None when the application began to listen in the middle of the call."""
    starts: tuple[CallRecord, ...]
    """None of them when it was not answered."""
    stop: CallRecord | None
    """None when the connection to the server was lost meanwhile."""

    @property
    def answered(self) -> bool:
        """Whether somebody answered."""
        return bool(self.starts)

    @property
    def reason(self) -> str:
        """As the server says, ``normal-release`` and the like; ``link-lost`` when it did not."""
        return "link-lost" if self.stop is None else self.stop.reason

    @property
    def setup_time(self) -> float | None:
        """Seconds from the INVITE to the answer, or the refusal; None when they are not known."""
        return _between(self.attempt, self.starts[0] if self.starts else self.stop)

    @property
    def duration(self) -> float | None:
        """Seconds from the answer to the end; 0 for a call that was not answered, None when they
        are not known.
        """
        return _between(self.starts[0], self.stop) if self.starts else 0.0

    @property
    def caller(self) -> str:
        """The URI of who called; empty when it cannot be read."""
        return self._uri("from_")

    @property
    def called(self) -> str:
        """The URI of who was called; empty when it cannot be read."""
        return self._uri("to")

    def _uri(self, side: str) -> str:
        for record in (self.attempt, *self.starts, self.stop):
            if record is not None:
                try:
                    return str(getattr(record.message, side).uri)
                except MessageError:
                    continue
        return ""


class _Open:
    __slots__ = ("attempt", "attempts", "starts")

    def __init__(self, attempt: CallRecord | None) -> None:
        self.attempt = attempt
        self.attempts = 0
        self.starts: list[CallRecord] = []


class Correlator:
    """Joins the records of each connection."""

    def __init__(self) -> None:
        self._open: dict[Any, dict[str, _Open]] = {}

    def add(self, record: CallRecord) -> CallSummary | None:
        """Take a record.

        :returns: the whole call when this was its last record.
        """
        calls = self._open.setdefault(record.link, {})
        call_id = record.message.get("Call-ID") or ""
        if record.event == "stop":
            call = calls.get(call_id)
            if call is None:
                return None  # the other side of a proxied call, or one that we know nothing of
            call.attempts -= 1
            gave_up = record.reason == "call-canceled" and record.source == "network"
            if call.attempts > 0 and record.reason != "normal-release" and not gave_up:
                return None  # a target refused; others may accept
            del calls[call_id]
            return CallSummary(call_id, call.attempt, tuple(call.starts), record)
        call = calls.get(call_id)
        if call is None:
            while len(calls) >= MAX_OPEN:
                del calls[next(iter(calls))]
            call = calls[call_id] = _Open(record if record.event == "attempt" else None)
        if record.event == "attempt":
            call.attempts += 1
        else:
            call.starts.append(record)
        return None

    def lose(self, link: Any) -> Iterator[CallSummary]:
        """Return the calls of a connection that was lost."""
        for call_id, call in self._open.pop(link, {}).items():
            yield CallSummary(call_id, call.attempt, tuple(call.starts), None)
