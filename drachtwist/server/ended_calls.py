"""What the server's log says of calls that are over, where no application in the process does.

It goes by what call detail records are written of. A server does not know which calls an
application has connected: each leg is a call, and told when it ends.
"""

from __future__ import annotations

from collections.abc import Callable

from drachtwist.sip.fields import tag_of
from drachtwist.tracing.messages import call_id_of, header_of, status_of
from drachtwist.tracing.story import Story

__all__ = ["MOST", "EndedCalls"]

MOST = 50_000
"""Calls that are remembered; of more, those that began longest ago are told of without a length."""


class _Call:
    """What is remembered of a call."""

    __slots__ = ("invite", "since", "source")

    def __init__(self, invite: bytes, source: str, since: float) -> None:
        self.invite = invite
        self.source = source
        self.since = since
        """When it was sent, and once it is answered, when that was."""


class EndedCalls:
    """Tells of calls that are over.

    :param seconds: the time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._story = Story(seconds)
        self._calls: dict[bytes, _Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def recorded(self, kind: str, source: str, raw: bytes) -> None:
        """Take note of what a call detail record is about.

        :param kind: ``attempt``, ``start`` or ``stop``.
        :param source: ``network`` or ``application``: who did it.
        :param raw: the INVITE, the 200, or what ended the call.
        """
        call_id = call_id_of(raw)
        calls = self._calls
        call = calls.get(call_id)
        now = self._seconds()
        if kind == "attempt":
            if call is None:  # else it is forwarded
                while len(calls) >= MOST:
                    del calls[next(iter(calls))]
                calls[call_id] = _Call(raw, source, now)
        elif kind == "start":
            if call is not None:
                call.since = now
        elif call is not None:
            status = status_of(raw)
            if raw[:7] == b"INVITE ":  # the caller gave up before anybody had answered
                del calls[call_id]
                self._story.refused(call.invite, 487, "", now - call.since)
            elif not status:
                del calls[call_id]
                self._story.over(call.invite, _who(call, source, raw), now - call.since)
            elif source != call.source:  # else one of those whom it was forwarded to refused
                del calls[call_id]
                self._story.refused(call.invite, status, "", now - call.since)


def _who(call: _Call, source: str, bye: bytes) -> str:
    """Say who sent a BYE, and why, if it says that."""
    by = _sender(call, source, bye)
    reason = header_of(bye, b"Reason")
    return f"{by} ({reason})" if reason else by


def _sender(call: _Call, source: str, bye: bytes) -> str:
    if source == "application":
        return "the application"
    caller, sender = header_of(call.invite, b"From"), header_of(bye, b"From")
    return "the caller" if tag_of(sender) == tag_of(caller) else "the callee"
