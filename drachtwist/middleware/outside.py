"""Which requests middleware may refuse."""

from __future__ import annotations

from drachtwist.app.request import Request
from drachtwist.errors import MessageError

__all__ = ["may_refuse"]

_NEVER = frozenset({"ACK", "CANCEL"})


def may_refuse(req: Request) -> bool:
    """Return whether a request begins something: it is outside of dialogs, and can be answered."""
    if req.method in _NEVER:
        return False
    try:
        return not req.to.tag
    except MessageError:
        return True
