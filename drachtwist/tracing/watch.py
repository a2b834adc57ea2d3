"""Calls that end, shown: their ladders in the log, and of those that failed the messages too.

What passes says when a call ends: a final response that refuses its INVITE, or a BYE. Legs that
belong together are shown together once all have ended, or a few seconds after the first has. One
timer looks after all of them, while there are any.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from drachtwist.net.logs import Logger
from drachtwist.tracing.calls import WIDTH
from drachtwist.tracing.hiding import without_secrets
from drachtwist.tracing.ladder import UNICODE, Strokes
from drachtwist.tracing.messages import Passed, header_of
from drachtwist.tracing.trace import Drawn, Trace

__all__ = ["CallWatch", "is_failure"]

EVERY = 1.0
"""Seconds between two looks."""
SETTLES = 1.0
"""Seconds after the end in which what belongs to it still comes: the ACK, the answer to a BYE."""
PATIENCE = 10.0
"""Seconds that a leg which has ended waits for those that have not."""
AT_ONCE = 20
"""Calls that are shown in one look; of more it is told how many there were."""
MOST = 10_000
"""Calls that are watched at a time."""

_ORDINARY = frozenset((401, 403, 404, 407, 410, 480, 484, 486, 487, 491, 600, 603, 604, 606, 607))
"""Refusals that are no fault of anybody's: what people and routing say."""


def is_failure(status: int) -> bool:
    """Return whether a final status says that something went wrong; somebody may have said no."""
    return status >= 400 and status not in _ORDINARY


class _Call:
    """What is known of a leg."""

    __slots__ = ("answered", "ended", "status")

    def __init__(self) -> None:
        self.answered = False
        self.ended: float | None = None
        self.status = 0


class CallWatch:
    """Shows calls as they end.

    :param trace: what keeps their messages.
    :param clock: the reactor, or a Clock.
    :param width: columns of a ladder.
    """

    _log = Logger(namespace="drachtwist.trace")

    def __init__(
        self,
        trace: Trace,
        clock: IReactorTime,
        *,
        width: int = WIDTH,
        strokes: Strokes = UNICODE,
        colour: bool = False,
    ) -> None:
        self._trace = trace
        self._clock = clock
        self._how: dict[str, Any] = {"width": width, "strokes": strokes, "colour": colour}
        self._calls: dict[bytes, _Call] = {}
        self._ended: dict[bytes, _Call] = {}
        self._timer: IDelayedCall | None = None

    def passed(self, message: Passed) -> None:
        """Take note of a message."""
        raw, call_id = message.raw, message.call_id
        call = self._calls.get(call_id)
        if call is None:
            if raw[:7] != b"INVITE " or not call_id:
                return
            while len(self._calls) >= MOST:  # those that began longest ago will not be shown
                oldest = next(iter(self._calls))
                del self._calls[oldest]
                self._ended.pop(oldest, None)
            self._calls[call_id] = _Call()
            return
        if raw[:7] == b"INVITE ":
            # With credentials, or to another place: it goes on.
            if not call.answered and self._ended.pop(call_id, None) is not None:
                call.ended, call.status = None, 0
        elif raw[:4] == b"BYE ":
            self._end(call_id, call, 0)
        else:
            status = message.status
            if status >= 200 and not call.answered:
                method = header_of(raw, b"CSeq").rpartition(" ")[2]
                if method != "INVITE":
                    return
                if status < 300:
                    call.answered = True
                else:
                    self._end(call_id, call, status)

    def _end(self, call_id: bytes, call: _Call, status: int) -> None:
        if call.ended is None:
            call.ended, call.status = self._clock.seconds(), status
            self._ended[call_id] = call
            if self._timer is None:
                self._timer = self._clock.callLater(EVERY, self._look)

    def close(self) -> None:
        """Show what has ended, and watch no more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self._show_all(float("-inf"), float("-inf"))
        self._calls.clear()

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        self._show_all(now - SETTLES, now - PATIENCE)
        if self._ended:
            self._timer = self._clock.callLater(EVERY, self._look)

    def _show_all(self, settled: float, patient: float) -> None:
        """Show the calls that have ended.

        :param settled: when one has to have ended to be shown with its other legs.
        :param patient: when one has to have ended to be shown without.
        """
        final = settled == float("-inf")
        shown = left_out = 0
        for call_id in list(self._ended):
            call = self._ended.get(call_id)
            if call is None or call.ended is None:
                continue  # shown with another
            legs = [one.encode("utf-8", "surrogateescape") for one in self._legs(call_id)]
            known = [self._calls[one] for one in legs if one in self._calls]
            if not final:
                ended = [one.ended for one in known if one.ended is not None]
                if max(ended, default=call.ended) > settled:
                    continue
                if len(ended) < len(known) and call.ended > patient:
                    continue
            for one in legs:
                self._calls.pop(one, None)
                self._ended.pop(one, None)
            if shown < AT_ONCE:
                shown += 1
                self._show(call_id.decode("utf-8", "surrogateescape"), known)
            else:
                left_out += 1
        if left_out:
            self._log.info("{count} more calls ended, and are not drawn", count=left_out)

    def _legs(self, call_id: bytes) -> list[str]:
        return self._trace.ring.related(call_id) or [call_id.decode("utf-8", "surrogateescape")]

    def _show(self, call_id: str, legs: list[_Call]) -> None:
        drawn = self._trace.ladder(call_id, **self._how)
        if not drawn:
            return  # pushed out meanwhile
        status = max((one.status for one in legs), default=0)
        if is_failure(status):
            texts = [_shown(one) for one in self._trace.messages(call_id)]
            self._log.warn(
                "the call {call_id} failed with {status}\n{drawn}",
                call_id=call_id,
                status=status,
                drawn=Drawn("\n".join([drawn, *texts])),
            )
        else:
            self._log.info(
                "the call {call_id} is over\n{drawn}", call_id=call_id, drawn=Drawn(drawn)
            )


def _shown(one: Passed) -> str:
    """Write a message for people: no secrets, and nothing that a terminal would obey."""
    (source, source_port), (target, target_port) = one.source, one.target
    text = without_secrets(one.raw.decode("utf-8", "replace")).replace("\r\n", "\n").rstrip()
    text = "".join(char if char.isprintable() or char == "\n" else "?" for char in text)
    head = f"--- {one.way.protocol} {source}:{source_port} to {target}:{target_port}"
    return "\n".join([head, *(f"    {line}" for line in text.split("\n"))])
