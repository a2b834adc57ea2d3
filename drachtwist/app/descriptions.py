"""Session descriptions that pass through an application: made for the other side, perhaps later."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from drachtwist import sip
from drachtwist.app.option_types import SDP_BEGINS
from drachtwist.sip.headers import Headers, HeadersLike

if TYPE_CHECKING:
    pass

__all__ = ["keep_type", "resolve", "typed"]


async def resolve(value: Any, *args: Any) -> Any:
    """Return what a value, an awaitable, or a function of either kind becomes."""
    if callable(value):
        value = value(*args)
    if isinstance(value, Deferred | Awaitable):
        value = await value
    return value


def typed(headers: HeadersLike, message: sip.Message, body: Any) -> HeadersLike:
    """Return headers that say what a body is which is passed on as it came, if that is not seen.

    :param message: has its type.
    :param body: servers see what one is that begins as a session description does.
    """
    if not body or body[:3] in SDP_BEGINS:
        return headers
    given = Headers(headers)
    keep_type(given, message, body)
    return given.items()


def keep_type(headers: Headers, message: sip.Message, body: bytes | str) -> None:
    """Take over the Content-Type of a message whose body is passed on.

    :param body: what is sent; nothing is set for an empty one.
    """
    kind = message.get("Content-Type")
    if body and kind is not None and not headers.has("Content-Type"):
        headers.set("Content-Type", kind)
