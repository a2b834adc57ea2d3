"""Ladder diagrams: who sent what to whom, as text in a terminal.

A :class:`Ladder` has a lifeline for each party and a rung for each message, which runs between
neighbours. It fits the width it is given: labels are cut where a rung is too short for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["ASCII", "UNICODE", "Ladder", "Rung", "Strokes"]

_TIME = 9
"""Columns that the time takes, with the blanks around it."""
_MIN_GAP = 22
_MAX_GAP = 58


@dataclass(frozen=True, slots=True)
class Strokes:
    """The characters that a ladder is drawn with."""

    life: str
    line: str
    left: str
    right: str
    cut: str


UNICODE = Strokes("│", "─", "◀", "▶", "…")
ASCII = Strokes("|", "-", "<", ">", "~")


@dataclass(frozen=True, slots=True)
class Rung:
    """One message, or a remark.

    :param time: seconds since the first one.
    :param source: the number of the party that sent it.
    :param target: the number of its neighbour who got it; the same number for a remark.
    :param label: what it is.
    :param colour: an ANSI colour number, say 32 for green; 0 for none.
    """

    time: float
    source: int
    target: int
    label: str
    colour: int = 0


@dataclass(slots=True)
class Ladder:
    """A diagram that grows from top to bottom.

    :param parties: for each party its name, and a second line (an address, say).
    :param width: columns of the terminal.
    :param colour: whether escape sequences for colours may be used.
    """

    parties: Sequence[tuple[str, str]]
    width: int = 80
    strokes: Strokes = UNICODE
    colour: bool = False
    gap: int = field(init=False)
    """Columns from one lifeline to the next."""

    def __post_init__(self) -> None:
        room = (self.width - _TIME - 1) // max(len(self.parties) - 1, 1)
        self.gap = max(_MIN_GAP, min(_MAX_GAP, room))

    def head(self) -> list[str]:
        """Return the lines above the first rung: the titles and the lifelines."""
        titles = [self._titles([party[line] for party in self.parties]) for line in (0, 1)]
        if self.colour:
            titles = [_paint(titles[0], 1), _paint(titles[1], 2)]
        return [line for line in titles if line.strip()] + [self._lifelines()]

    def draw(self, rung: Rung) -> str:
        """Return the line of one rung."""
        time = f"{rung.time:{_TIME - 2}.3f}  "
        if rung.source == rung.target and rung.source and rung.source == len(self.parties) - 1:
            # There is nothing to the right of the last lifeline.
            end = self._column(rung.source) - _TIME
            before = self._lifelines()[_TIME:][: end - self.gap + 2].ljust(end - self.gap + 2)
            text = self._cut(rung.label, self.gap - 4)
            text = text.rjust(end - len(before) - 1)
            return self._dim(time) + before + self._painted(text, rung) + " " + self.strokes.life
        if rung.source == rung.target:
            at = self._column(rung.source) - _TIME + 2
            room = max(self.width - _TIME - at, 8)
            before = self._lifelines()[_TIME:][:at].ljust(at)
            return self._dim(time) + before + self._painted(self._cut(rung.label, room), rung)
        first, last = sorted((rung.source, rung.target))
        start, end = self._column(first) - _TIME, self._column(last) - _TIME
        line = self._lifelines()[_TIME:].ljust(end + 1)
        inner = end - start - 1
        label = f" {self._cut(rung.label, inner - 5)} "
        arrow = label.center(inner - 1, self.strokes.line)
        if rung.source < rung.target:
            arrow += self.strokes.right
        else:
            arrow = self.strokes.left + arrow
        return (
            self._dim(time) + line[: start + 1] + self._painted(arrow, rung) + line[end:]
        ).rstrip()

    def foot(self) -> list[str]:
        """Return the lines below the last rung."""
        return [self._lifelines()]

    def _column(self, party: int) -> int:
        return _TIME + party * self.gap

    def _lifelines(self) -> str:
        line = ""
        for party in range(len(self.parties)):
            line = line.ljust(self._column(party)) + self.strokes.life
        return line

    def _titles(self, texts: list[str]) -> str:
        """Put a text over each lifeline: the outer ones flush with theirs, the others centred."""
        line = ""
        last = len(texts) - 1
        for party, text in enumerate(texts):
            room = self.gap // 2 if party in (0, last) else self.gap - 2
            text = self._cut(text, max(room, 12))
            shift = 0 if party == 0 else len(text) - 1 if party == last else len(text) // 2
            start = max(self._column(party) - shift, len(line) + (1 if line else 0))
            line = line.ljust(start) + text
        return line.rstrip()

    def _cut(self, text: str, room: int) -> str:
        """Cut a label where it is too long, and whatever could upset a terminal."""
        text = "".join(char if char.isprintable() else "?" for char in text)
        return text if len(text) <= room else text[: max(room - 1, 0)] + self.strokes.cut

    def _painted(self, text: str, rung: Rung) -> str:
        return _paint(text, rung.colour) if self.colour and rung.colour else text

    def _dim(self, text: str) -> str:
        return _paint(text, 2) if self.colour else text


def _paint(text: str, number: int) -> str:
    return f"\x1b[{number}m{text}\x1b[0m"
