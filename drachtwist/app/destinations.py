"""Whom to call: a URI, or somebody who registered, with the way that leads there.

A phone behind a NAT registers an address that leads nowhere from outside. What a registrar keeps of
it (:class:`drachtwist.middleware.Binding`) knows where it came from; it is taken wherever a URI is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Union

from drachtwist import sip
from drachtwist.sip.headers import HeadersLike

__all__ = ["Reachable", "Target", "is_target", "path_of", "place_of", "way_to"]


class Reachable(Protocol):
    """Somebody who can be reached, and how."""

    @property
    def uri(self) -> str:
        """The Request-URI."""
        ...

    @property
    def route(self) -> str:
        """A SIP URI to send requests to instead of :attr:`uri`; empty when that will do."""
        ...

    @property
    def path(self) -> Sequence[str]:
        """The Route of requests, the next hop first (RFC 3327)."""
        ...

    @property
    def place(self) -> str:
        """One URI for both, for proxies: they send requests where their Request-URI says, unless
        they are told of a Path.
        """
        ...


Target = Union[str, Reachable]  # noqa: UP007 - evaluated on Python 3.10
"""Whom to call: a URI, or a :class:`Reachable`."""


def is_target(value: object) -> bool:
    """Return whether this is somebody to call."""
    return isinstance(value, str) or all(
        hasattr(value, name) for name in ("uri", "route", "path", "place")
    )


def way_to(target: Target, proxy: str, headers: HeadersLike) -> tuple[str, str, HeadersLike]:
    """Return the Request-URI, where to send the request, and its headers.

    :param proxy: where the application wants it sent; it knows better.
    """
    if isinstance(target, str):
        return target, proxy, headers
    if proxy or not target.route:
        return target.uri, proxy, headers
    if target.path:
        joined = sip.Headers(headers)
        joined.set("Route", list(target.path))
        headers = joined.items()
    return target.uri, target.route, headers


def path_of(target: Target) -> Sequence[str]:
    """Return the Path that a proxy sends requests along; empty when they go straight."""
    return () if isinstance(target, str) or not target.route else target.path


def place_of(target: Target) -> str:
    """Return what a proxy sends requests to."""
    return target if isinstance(target, str) else target.place
