"""What a command shows: lines, and messages as the rungs of a ladder that grows."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from drachtwist.cli.parsing import shown_width
from drachtwist.tracing.ladder import ASCII, UNICODE, Ladder, Rung
from drachtwist.tracing.messages import Passed

__all__ = ["Picture", "Screen", "printable"]

_BLUE, _GREEN, _YELLOW, _RED, _GREY = 36, 32, 33, 31, 2
_US, _PEER = 0, 1


class Screen:
    """Where lines are shown.

    :param out: standard output unless given.
    :param quiet: show no line but warnings.
    """

    def __init__(
        self, out: TextIO | None = None, errors: TextIO | None = None, *, quiet: bool = False
    ) -> None:
        self._out = sys.stdout if out is None else out
        self._errors = sys.stderr if errors is None else errors
        self._quiet = quiet
        self._encoding = getattr(self._out, "encoding", None) or "ascii"
        self.strokes = UNICODE if self._encoding.lower().startswith("utf") else ASCII
        self.colour = self._out.isatty() and "NO_COLOR" not in os.environ
        self.width = shown_width()

    def say(self, text: str = "") -> None:
        """Show a line."""
        if self._quiet:
            return
        try:
            print(self._writable(text), file=self._out, flush=True)
        except BrokenPipeError:
            self._quiet = True  # nobody reads it any more

    def warn(self, text: str) -> None:
        """Show a warning."""
        self._out.flush()
        print(self._writable(text), file=self._errors, flush=True)

    def _writable(self, text: str) -> str:
        return text.encode(self._encoding, "replace").decode(self._encoding)

    def paint(self, text: str, colour: int) -> str:
        """Colour a text, where there are colours."""
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour else text


class Picture:
    """The ladder of what passes, drawn as it passes.

    :param peer: what the other side is called.
    :param whole: show whole messages below their rungs.
    """

    def __init__(self, screen: Screen, peer: str, *, whole: bool = False) -> None:
        self._screen = screen
        self._peer = peer
        self._whole = whole
        self._ladder: Ladder | None = None
        self._start = self._last = 0.0
        self._address = ""

    def passed(self, message: Passed) -> None:
        """Draw a message."""
        way = message.way
        self._last = message.time
        address = _address(way.remote_host, way.remote_port)
        ladder = self._ladder
        if ladder is None:
            self._start = message.time
            self._address = address
            own = f"{_address(way.local_host, way.local_port)}, {way.protocol.upper()}"
            ladder = self._ladder = Ladder(
                [("drachtwist", own), (self._peer, address)],
                min(self._screen.width, 80),
                self._screen.strokes,
                self._screen.colour,
            )
            for line in ladder.head():
                self._screen.say(line)
        label = message.summary
        if address != self._address:
            label += f" ({'to' if message.sent else 'from'} {address})"
        ends = (_US, _PEER) if message.sent else (_PEER, _US)
        self._rung(Rung(message.time - self._start, *ends, label, _colour(message.status)))
        if self._whole:
            for line in message.text.splitlines():
                self._screen.say(self._screen.paint(f"      {printable(line)}", _GREY))

    def remark(self, text: str) -> None:
        """Write something beside the ladder, in the moment of the last message."""
        if self._ladder is None:
            self._screen.say(text)
        else:
            self._rung(Rung(self._last - self._start, _US, _US, text, _YELLOW))

    def close(self) -> None:
        """Draw the end."""
        if self._ladder is not None:
            for line in self._ladder.foot():
                self._screen.say(line)
            self._ladder = None

    def _rung(self, rung: Rung) -> None:
        assert self._ladder is not None, "there is one by now"
        self._screen.say(self._ladder.draw(rung))


def _colour(status: int) -> int:
    if not status:
        return _BLUE
    if status < 200:
        return _YELLOW
    return _GREEN if status < 300 else _RED


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def printable(text: str) -> str:
    """Take out of a peer's text what could upset a terminal."""
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in text)
