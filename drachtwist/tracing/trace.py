"""Who looks at both taps: what passes is kept in a ring, and told to those who want it."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from drachtwist.net.logs import Logger
from drachtwist.net.tap import Way
from drachtwist.tracing.calls import WIDTH, draw_messages
from drachtwist.tracing.ladder import UNICODE, Strokes
from drachtwist.tracing.messages import Passed, Place, call_id_of
from drachtwist.tracing.recent import Recent
from drachtwist.tracing.ring import Ring
from drachtwist.wire.reports import ADDRESS, PORT, PROTOCOL, SOURCE

__all__ = ["Drawn", "Sink", "Trace"]

BETWEEN = 10.0
"""Seconds between two calls that are shown because something failed in them."""
_MOST_REMARKS = 256


class Drawn:
    """Text that the log takes as it is, however long, over several lines."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text


class Sink(Protocol):
    """Is told of each message as it passes."""

    def passed(self, message: Passed) -> None:
        """Take note of a message; what this raises is logged once, and the sink is told no more."""

    def close(self) -> None:
        """Finish: nothing comes any more."""


class Trace:
    """Sees the messages that pass: put it where a tap is.

    It is a tap for sockets (``SipTransports.tap``) and for links (``DrachtioProtocol.tap``). One
    that sees both would see everything twice.

    :param ring: where messages are kept: a new :class:`~drachtwist.tracing.ring.Ring` if None, or
        a :class:`~drachtwist.tracing.recent.Recent`, which costs less as long as nobody asks.
    :param seconds: gives the time of day, in seconds since the epoch.
    """

    _log = Logger(namespace="drachtwist.trace")

    at_sockets = False
    """Whether it sees the sockets of a server; an application there need not show it its links."""

    def __init__(
        self, ring: Ring | Recent | None = None, seconds: Callable[[], float] = time.time
    ) -> None:
        self.ring = Ring() if ring is None else ring
        """What is kept of the last calls."""
        self._keep = self.ring.keep if isinstance(self.ring, Recent) else None
        self.seconds = seconds
        self._shown = float("-inf")
        self._numbers = itertools.count(1)
        self._remarks: deque[tuple[float, str, str]] = deque(maxlen=_MOST_REMARKS)
        self._sinks: list[Sink] = []

    # Who is told

    def add(self, sink: Sink) -> None:
        """Tell somebody of each message from now on."""
        self._sinks.append(sink)

    def remove(self, sink: Sink) -> None:
        """Tell somebody no more; nothing happens when that was not done anyway."""
        # Not the same list: it may be gone through at this moment.
        self._sinks = [one for one in self._sinks if one is not sink]

    def close(self) -> None:
        """Close all who are told, and tell them no more."""
        sinks, self._sinks = self._sinks, []
        for sink in sinks:
            sink.close()

    # What is seen

    def sip_passed(self, way: Way, raw: bytes, sent: bool) -> None:
        """Look at a message: :class:`~drachtwist.net.tap.SipTap`."""
        now, number = self.seconds(), next(self._numbers)
        if self._keep is not None:
            self._keep(now, sent, way, raw, number)
            if not self._sinks:
                return
        passed = Passed(now, sent, way, raw, call_id_of(raw), number)
        if self._keep is None:
            self.ring.add(passed)  # type: ignore[union-attr]
        for sink in self._sinks:
            self._tell(sink, passed)

    def frame_passed(self, link: Any, line: str | Sequence[str], raw: bytes, sent: bool) -> None:
        """Look at a frame: :class:`~drachtwist.net.tap.FrameTap`.

        Only what came is of use: a message that the application sends comes back in the answer, as
        it left the server.
        """
        if sent or not raw or isinstance(line, str):
            return
        answers = line[1] == "response"
        first = SOURCE + 2 if answers else SOURCE
        if len(line) <= PORT + first - SOURCE:
            return
        # What the server made by itself is told like what it was asked to send.
        leaves = line[first] == "application"
        at = first - SOURCE
        protocol, host, port = line[PROTOCOL + at], line[ADDRESS + at], _number(line[PORT + at])
        if leaves and raw[:4] != b"SIP/":
            host, port = "", 0  # of a request it is the server's own; where it goes is not told
        self.sip_passed(Place(protocol, host, port, *_own(link)), raw, leaves)

    def relate(self, *call_ids: str) -> None:
        """Note that Call-IDs belong to one call: they are drawn together."""
        self.ring.relate(*call_ids)

    def remark(self, call_id: str, text: str) -> None:
        """Note something that happened in a call: it stands in its ladder, and is no message.

        :param text: a few words.
        """
        self._remarks.append((self.seconds(), call_id, text))

    def _tell(self, sink: Sink, passed: Passed) -> None:
        try:
            sink.passed(passed)
        except Exception:
            self.remove(sink)
            self._log.failure("{sink} fails, and is told no more", sink=type(sink).__name__)

    # What is shown

    def ladder(
        self,
        call_id: str,
        *,
        width: int = WIDTH,
        strokes: Strokes = UNICODE,
        colour: bool = False,
    ) -> str:
        """Draw the call that a Call-ID belongs to; empty when nothing is kept of it."""
        ring = self.ring.sorted() if isinstance(self.ring, Recent) else self.ring
        call_ids = ring.related(call_id)
        remarks = [(at, text) for at, one, text in self._remarks if one in call_ids]
        return draw_messages(
            ring.messages(call_id), remarks=remarks, width=width, strokes=strokes, colour=colour
        )

    def show(self, call_id: str) -> None:
        """Log the ladder of a call, if anything is kept of it."""
        drawn = self.ladder(call_id)
        if drawn:
            self._log.info("the call {call_id}\n{drawn}", call_id=call_id, drawn=Drawn(drawn))

    def call_failed(self, call_id: str, why: str) -> None:
        """Note that a call failed for a reason that no message says, and show it.

        That is done once in a while at most: what happens again and again is seen then, too.

        :param why: a few words.
        """
        self.remark(call_id, why)
        now = self.seconds()
        if abs(now - self._shown) >= BETWEEN:
            self._shown = now
            self.show(call_id)

    def messages(self, call_id: str) -> list[Passed]:
        """Return the messages of the call that a Call-ID belongs to, in order of time."""
        return self.ring.messages(call_id)

    @property
    def call_ids(self) -> list[str]:
        """The Call-IDs of the calls that are kept, those that were silent longest first."""
        return self.ring.call_ids


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 6 else 0


def _own(link: Any) -> tuple[str, int]:
    """Return the address of the server's first SIP transport, as it tells it."""
    for one in link.host_ports:
        host, _, port = one.partition("/")[2].rpartition(":")
        return host.strip("[]"), _number(port)
    return "", 0
