"""What both plugins do about tracing: flags, files, and what is shown when somebody asks.

Without any flag the last messages are kept (:class:`~drachtwist.tracing.recent.Recent`), so that
the ladder of a call that failed is there: the log has it where a handler failed, and SIGUSR2 has
the last calls shown.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from types import FrameType
from typing import Any, NamedTuple

from twisted.python.usage import UsageError

from drachtwist.net.logs import Logger
from drachtwist.net.steady import steady
from drachtwist.tracing.pcapng import PcapngSink
from drachtwist.tracing.recent import Recent
from drachtwist.tracing.ring import CALLS, OCTETS, Ring
from drachtwist.tracing.trace import Trace
from drachtwist.tracing.watch import CallWatch

__all__ = ["FLAGS", "PARAMETERS", "TraceSettings", "Tracing", "open_trace", "trace_settings"]

PARAMETERS = [
    [
        "trace-file",
        None,
        None,
        "A file (pcapng, for Wireshark and sngrep) that all SIP is written to as it passes; it is"
        " overwritten. It has everything in it, so nobody else may read it.",
    ],
    [
        "trace-memory",
        None,
        None,
        f"Bytes of the last messages that are kept for the ladders of calls that fail; {OCTETS}"
        " unless given, 0 for none.",
    ],
]
FLAGS = [
    [
        "trace",
        None,
        "Log the ladder of every call when it is over, and the messages of those that failed.",
    ],
]

_SHOWN = 20
"""Calls that are shown when somebody asks for the last ones."""


class TraceSettings(NamedTuple):
    """What a command line says about tracing."""

    calls: bool = False
    """Whether calls are drawn as they end."""
    file: str | None = None
    octets: int = OCTETS


def trace_settings(options: Mapping[str, Any]) -> TraceSettings:
    """Read the flags.

    :raises UsageError: for a number that is none.
    """
    octets = OCTETS
    text = options["trace-memory"]
    if text is not None:
        if not (text.isascii() and text.isdigit() and len(text) < 12):
            raise UsageError(f"--trace-memory {text!r} is no number of bytes")
        octets = int(text)
    return TraceSettings(bool(options["trace"]), options["trace-file"], octets)


def open_trace(settings: TraceSettings | None, reactor: Any) -> Tracing:
    """Begin to trace.

    :raises SystemExit: with a line that says why, when the file cannot be written.
    """
    try:
        return Tracing(settings or TraceSettings(), reactor)
    except OSError as error:
        path = settings.file if settings is not None else None
        raise SystemExit(f"cannot write {path}: {error.strerror or error}") from None


class Tracing:
    """Keeps, draws and writes what passes in a process.

    :param reactor: the reactor.
    :raises OSError: when the file cannot be written.
    """

    _log = Logger(namespace="drachtwist.trace")

    def __init__(self, settings: TraceSettings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._file = None if settings.file is None else PcapngSink(settings.file)
        self.trace: Trace | None = None
        """What sees the messages, once it is used; None when nothing is to be done with them."""

    def use(self, trace: Trace | None = None) -> Trace | None:
        """Do with messages what the settings say.

        :param trace: what sees them already, if anything does.
        :returns: what sees them; None when nothing is to be done with them.
        """
        settings = self._settings
        if trace is None and (settings.calls or settings.file or settings.octets):
            if settings.calls:
                trace = Trace(Ring(4 * CALLS, max(settings.octets, OCTETS)))
            else:
                trace = Trace(Recent(settings.octets))
        self.trace = trace
        if trace is not None:
            if settings.calls:
                trace.add(CallWatch(trace, steady(self._reactor)))
            if self._file is not None:
                trace.add(self._file)
                self._log.info("all SIP is written to {path}", path=settings.file)
        return trace

    def start(self) -> None:
        """Show the last calls on SIGUSR2."""
        if hasattr(signal, "SIGUSR2"):
            self._reactor.callWhenRunning(signal.signal, signal.SIGUSR2, self._asked)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        self._reactor.callFromThread(self.show)

    def show(self) -> None:
        """Log the ladders of the last calls."""
        trace = self.trace
        if trace is None:
            return
        shown: set[str] = set()
        ring = trace.ring.sorted() if isinstance(trace.ring, Recent) else trace.ring
        drawn: list[str] = []
        for call_id in reversed(ring.call_ids):
            if call_id not in shown and len(drawn) < _SHOWN:
                shown.update(ring.related(call_id))
                drawn.append(call_id)
        self._log.info("the last {count} calls:", count=len(drawn))
        for call_id in reversed(drawn):
            trace.show(call_id)

    def stop(self) -> None:
        """Show and write what is left, and close."""
        if self.trace is not None:
            self.trace.close()
