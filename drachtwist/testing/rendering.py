"""The ladder of what passed in a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drachtwist.errors import MessageError
from drachtwist.sip.message import Request, Response
from drachtwist.testing.history import Passed
from drachtwist.tracing.ladder import UNICODE, Ladder, Rung

__all__ = ["label", "ladder"]

_COLUMN = 34
_LEAST = 80


def label(message: Request | Response | None, data: bytes) -> str:
    """Write a message in short; of what cannot be read the first line."""
    try:
        if isinstance(message, Request):
            text = message.method
        elif message is not None:
            text = f"{message.status} {message.reason} ({message.cseq.method})"
        else:
            return _first_line(data)
    except MessageError:
        return _first_line(data)
    body = message.body
    return text + (" [sdp]" if body.startswith(b"v=0") else " [body]" if body else "")


def _first_line(data: bytes) -> str:
    return data.partition(b"\r\n")[0].decode("utf-8", "replace")


def ladder(entries: Sequence[Passed], names: Mapping[str, str], began: float) -> str:
    """Draw what passed.

    :param names: the name of each host.
    :param began: when the network began.
    """
    hosts: list[str] = []
    for entry in entries:
        for host, _ in (entry.source, entry.target):
            if host and host not in hosts:
                hosts.append(host)
    if not hosts:
        return "(nothing was sent)"
    parties = [(names.get(host, host), host) for host in hosts]
    drawing = Ladder(parties, width=max(_LEAST, 10 + _COLUMN * (len(parties) - 1)), strokes=UNICODE)
    lines = drawing.head()
    for entry in entries:
        text = entry.data.decode("utf-8", "replace") if entry.remark else ""
        if not entry.remark:
            text = label(entry.message, entry.data)
            if entry.fate:
                text += f" <{entry.fate}>"
        source = hosts.index(entry.source[0]) if entry.source[0] else 0
        target = hosts.index(entry.target[0]) if entry.target[0] else source
        lines.append(drawing.draw(Rung(entry.time - began, source, target, text)))
    return "\n".join(lines + drawing.foot())
