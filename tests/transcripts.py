"""Recordings of a real drachtio server talking with the Node reference client."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from drachtwist.testing import recording

DIRECTORY = Path(__file__).parent / "data" / "transcripts"


@dataclass(frozen=True)
class Line(recording.Line):
    """One thing that happened on a connection.

    Its sender may be ``http`` too, for what was asked of the routing web server: the events
    ``request`` and ``response``.
    """

    query: str = ""
    body: str = ""
    status: int = 0


@cache
def transcript(number: int) -> tuple[Line, ...]:
    """Load a recording by its number."""
    [path] = DIRECTORY.glob(f"{number:02d}-*.jsonl")
    lines = []
    with path.open(encoding="utf-8") as file:
        for text in file:
            item = json.loads(text)
            lines.append(
                Line(
                    item.get("t", 0.0),
                    item.get("conn", 0),
                    item["from"],
                    item["event"],
                    (item.get("frame") or item.get("bytes") or "").encode("utf-8"),
                    item.get("query") or "",
                    item.get("body") or "",
                    item.get("status") or 0,
                )
            )
    return tuple(lines)


def connections(number: int) -> dict[int, list[Line]]:
    """Give a recording's lines for each of its connections."""
    found: dict[int, list[Line]] = {}
    for line in transcript(number):
        if line.connection:
            found.setdefault(line.connection, []).append(line)
    return found


def numbers() -> list[int]:
    """Give the numbers of all recordings."""
    return sorted(int(path.name[:2]) for path in DIRECTORY.glob("*.jsonl"))
