"""A call, drawn: its messages as the rungs of a ladder, both legs of a B2BUA side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from drachtwist.tracing.ladder import UNICODE, Ladder, Rung, Strokes
from drachtwist.tracing.messages import Passed
from drachtwist.tracing.ring import Ring

__all__ = ["draw_call", "draw_messages"]

WIDTH = 100
"""Columns of a ladder, unless told otherwise."""
_GREEN, _RED, _BLUE, _YELLOW = 32, 31, 34, 33
_US = 1
"""The lifeline of whoever saw the messages, between the one that began and the others."""


def draw_call(
    ring: Ring,
    call_id: str,
    *,
    width: int = WIDTH,
    strokes: Strokes = UNICODE,
    colour: bool = False,
) -> str:
    """Draw the call that a Call-ID belongs to.

    :returns: the lines; empty when nothing is kept of it.
    """
    return draw_messages(ring.messages(call_id), width=width, strokes=strokes, colour=colour)


def draw_messages(
    messages: Sequence[Passed],
    *,
    remarks: Iterable[tuple[float, str]] = (),
    width: int = WIDTH,
    strokes: Strokes = UNICODE,
    colour: bool = False,
) -> str:
    """Draw messages that somebody in the middle saw; empty without any.

    Left is the peer of the first message, then we, then the other peers in the order in which they
    appear; each address is one lifeline.

    :param messages: in order of time.
    :param remarks: what else happened, with the time as the messages have it.
    """
    if not messages:
        return ""
    remotes = _remotes(messages)
    peers: dict[tuple[str, int], int] = {}
    names: list[str] = []
    own = ""
    for one, key in zip(messages, remotes, strict=True):
        way = one.way
        if key not in peers:
            peers[key] = len(peers) + 1 if peers else 0
            names.append(way.protocol.upper())
        own = own or _address(way.local_host, way.local_port)
    parties = [(name, _address(*key)) for name, key in zip(names, peers, strict=True)]
    parties.insert(_US, ("us", own))
    ladder = Ladder(parties, width, strokes, colour)
    lines = ladder.head()
    start = messages[0].time
    left = [*remarks]
    for one, key in zip(messages, remotes, strict=True):
        while left and left[0][0] <= one.time:
            at, text = left.pop(0)
            lines.append(ladder.draw(Rung(at - start, _US, _US, text, _YELLOW)))
        peer = peers[key]
        source, target = (_US, peer) if one.sent else (peer, _US)
        lines.append(ladder.draw(Rung(one.time - start, source, target, one.summary, _colour(one))))
    for at, text in left:
        lines.append(ladder.draw(Rung(at - start, _US, _US, text, _YELLOW)))
    return "\n".join([*lines, *ladder.foot()])


def _colour(one: Passed) -> int:
    status = one.status
    if not status:
        return _BLUE
    return _GREEN if status < 300 else _RED


def _remotes(messages: Sequence[Passed]) -> list[tuple[str, int]]:
    """Return the peer of each message; whom a request went to that is unknown, its answer tells."""
    known: dict[bytes, tuple[str, int]] = {}
    for one in messages:
        if one.way.remote_host:
            known.setdefault(one.call_id, (one.way.remote_host, one.way.remote_port))
    return [
        (one.way.remote_host, one.way.remote_port)
        if one.way.remote_host
        else known.get(one.call_id, ("?", 0))
        for one in messages
    ]


def _address(host: str, port: int) -> str:
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
