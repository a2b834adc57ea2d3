"""See the SIP: what passes is kept for a while, drawn as ladders, written to files, sent to Homer.

======================================  ==========================================================
:mod:`~drachtwist.net.tap`              where it is seen, at the sockets and at the links
:mod:`~drachtwist.tracing.trace`        who looks there, and whom it tells
:mod:`~drachtwist.tracing.messages`     one message that passed
:mod:`~drachtwist.tracing.ring`         the last calls
:mod:`~drachtwist.tracing.recent`       the last messages, cheaper
:mod:`~drachtwist.tracing.watch`        calls that end, shown
:mod:`~drachtwist.tracing.pcapng`       a file for Wireshark
:mod:`~drachtwist.tracing.hep`          Homer
:mod:`~drachtwist.tracing.hiding`       what is shown to nobody
:mod:`~drachtwist.tracing.calls`        a call, drawn
:mod:`~drachtwist.tracing.ladder`       the lines of a drawing
======================================  ==========================================================
"""

from __future__ import annotations

from drachtwist.tracing.calls import draw_call, draw_messages
from drachtwist.tracing.ladder import ASCII, UNICODE, Ladder, Rung, Strokes
from drachtwist.tracing.messages import Passed, Place
from drachtwist.tracing.recent import Recent
from drachtwist.tracing.ring import Ring
from drachtwist.tracing.trace import Sink, Trace

__all__ = [
    "ASCII",
    "UNICODE",
    "Ladder",
    "Passed",
    "Place",
    "Recent",
    "Ring",
    "Rung",
    "Sink",
    "Strokes",
    "Trace",
    "draw_call",
    "draw_messages",
]
