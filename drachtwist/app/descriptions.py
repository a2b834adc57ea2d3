"""Session descriptions that pass through an application: made for the other side, perhaps later."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from drachtwist import sip
from drachtwist.sip.headers import Headers

if TYPE_CHECKING:
    pass

__all__ = ["SdpHook", "keep_type", "resolve"]

SdpHook = Any
"""A session description, something awaitable that becomes one, or a function that gives either
when it is called with the other side's description and message."""


async def resolve(value: Any, *args: Any) -> Any:
    """Return what a value, an awaitable, or a function of either kind becomes."""
    if callable(value):
        value = value(*args)
    if isinstance(value, Deferred | Awaitable):
        value = await value
    return value


def keep_type(headers: Headers, message: sip.Message, body: bytes | str) -> None:
    """Take over the Content-Type of a message whose body is passed on.

    :param body: what is sent; nothing is set for an empty one.
    """
    kind = message.get("Content-Type")
    if body and kind is not None and not headers.has("Content-Type"):
        headers.set("Content-Type", kind)
