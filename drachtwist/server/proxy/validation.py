"""What is looked at before a request is forwarded (RFC 3261 section 16.3).

A request that goes in a circle ends when it has no hops left (483), as with the real server. One
that is about to be sent to more than one target may multiply on its way round, so there the proxy
looks for itself among the Vias, and answers 482 (RFC 5393). It counts as the same request only with
the same Request-URI and Routes: to come back for somebody else is no circle.
"""

from __future__ import annotations

import hashlib
from collections.abc import Set

from drachtwist.server.checks import has_hops_left, unknown_extensions
from drachtwist.sip.message import Request

__all__ = ["Refusal", "came_back", "mark_of", "refusal_of"]

Refusal = tuple[int, str, list[str]]
"""Why a request is not forwarded: status, reason, and header lines."""


def mark_of(request: Request, key: bytes) -> str:
    """Return what tells a request that comes back unchanged (RFC 5393 section 4.2).

    :param key: known to this server alone.
    """
    parts = [request.uri, request.call_id, request.from_.tag or "", str(request.cseq.number)]
    for name in ("Route", "Proxy-Require", "Proxy-Authorization"):
        parts += request.get_all(name)
    text = "\n".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=8, key=key).hexdigest()


def refusal_of(request: Request, breadth: int | None, known: Set[str]) -> Refusal | None:
    """Say why a request must not be forwarded, if so.

    :param breadth: its Max-Breadth, if it has one.
    :param known: the extensions that a proxy may be required to know, in lower case.
    """
    if not has_hops_left(request):
        return 483, "Max-Forwards value of 0", []
    if breadth == 0:
        return 440, "Max-Breadth value of 0", []
    unknown = ", ".join(unknown_extensions(request, "Proxy-Require", known))
    if unknown:
        return 420, f"Proxy-Require of {unknown}", [f"Unsupported: {unknown}"]
    return None


def came_back(request: Request, mark: str) -> Refusal | None:
    """Say why a request must not be forwarded that was here before, and would multiply."""
    if any((via.branch or "").endswith(mark) for via in request.vias):
        return 482, "a Via of this server", []
    return None
