"""Recordings: what applications and servers said to each other, frame by frame.

A recording is a file of JSON lines, one for each thing that happened on a connection:

=========  ========================================================================================
``t``      seconds since it began
``conn``   the number of the connection, from 1 on
``from``   ``app`` or ``server``: who did it
``event``  ``open``, ``frame``, ``bytes`` (octets that are no frame), ``close``
``len``    how many octets the frame has
``frame``  its payload; ``bytes`` has the octets
=========  ========================================================================================

Real drachtio servers and Node's client have been recorded in the same form. Octets that are no
UTF-8 are written as lone surrogates, as Python has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from drachtwist.wire.frames import FrameDecoder

__all__ = ["Line", "Recorder", "read_recording"]

_ANY_LENGTH = 1 << 30


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened on a connection."""

    time: float
    """Seconds since the recording began."""
    connection: int
    sender: str
    """``app`` or ``server``."""
    event: str
    """``open``, ``frame``, ``bytes`` or ``close``; what else stands there is not played."""
    frame: bytes = b""
    """The payload of a frame, or octets that are none."""


def read_recording(path: str | Path) -> tuple[Line, ...]:
    """Read a recording.

    :raises ValueError: for a file that is none; it says which line cannot be read.
    """
    lines = []
    with open(path, encoding="utf-8") as file:
        for number, text in enumerate(file, 1):
            try:
                item = json.loads(text)
                lines.append(
                    Line(
                        float(item.get("t", 0.0)),
                        int(item.get("conn", 0)),
                        str(item["from"]),
                        str(item["event"]),
                        str(item.get("frame") or item.get("bytes") or "").encode(
                            "utf-8", "surrogateescape"
                        ),
                    )
                )
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f"{path}, line {number}: no part of a recording ({error})"
                ) from None
    return tuple(lines)


class Recorder:
    """Writes a recording.

    :param path: the file, which is written anew.
    :param seconds: tells the time.
    """

    def __init__(self, path: str | Path, seconds: Callable[[], float]) -> None:
        self._file: TextIO = Path(path).open("w", encoding="utf-8")  # noqa: SIM115 - see close
        self._seconds = seconds
        self._began = seconds()
        self._count = 0

    def connection(self) -> int:
        """Return the number of a new connection."""
        self._count += 1
        return self._count

    def note(self, connection: int, sender: str, event: str, **more: Any) -> None:
        """Write one line."""
        if self._file.closed:
            return
        time = round(self._seconds() - self._began, 6)
        item = {"t": time, "conn": connection, "from": sender, "event": event, **more}
        self._file.write(json.dumps(item) + "\n")

    def tap(self, connection: int, sender: str) -> Callable[[bytes], None]:
        """Return what takes in the octets of one direction of a connection."""
        decoder = FrameDecoder(_ANY_LENGTH, 10)

        def take(data: bytes) -> None:
            for frame in decoder.feed(data):
                self.note(connection, sender, "frame", len=len(frame), frame=_text(frame))
            if decoder.error is not None:
                self.note(connection, sender, "bytes", bytes=_text(data))

        return take

    def close(self) -> None:
        """End the recording."""
        self._file.close()


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
