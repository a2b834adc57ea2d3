"""Which of the refusals of its targets a proxy passes on (RFC 3261 section 16.7, steps 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence

from drachtwist.sip.message import Response
from drachtwist.sip.replies import rank

__all__ = ["Refused", "best_response"]

Refused = tuple[int, bytes | None]
"""What became of a target: the status, and the response if there was one."""

_CHALLENGING = (401, 407)


def best_response(refused: Sequence[Refused]) -> Refused:
    """Return the best of what became of the targets.

    A challenge has those of all others with it, since the caller may have credentials for them too.
    Where nobody can be reached that is a 500: with a 503 the proxy itself would be shunned.
    """
    if not refused:
        return 500, None
    status, raw = max(refused, key=lambda one: rank(one[0]))
    if raw is None:
        return (500 if status == 503 else status), None
    if status in _CHALLENGING:
        raw = _with_challenges(raw, refused)
    return status, raw


def _with_challenges(chosen: bytes, refused: Sequence[Refused]) -> bytes:
    added = [
        (name, value)
        for status, raw in refused
        if raw is not None and raw is not chosen and status in _CHALLENGING
        for name in ("WWW-Authenticate", "Proxy-Authenticate")
        for value in Response.from_bytes(raw).get_all(name)
    ]
    if not added:
        return chosen
    response = Response.from_bytes(chosen)
    for name, value in added:
        response.add(name, value)
    return bytes(response)
