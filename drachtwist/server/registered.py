"""Which connection leads to a client that registered over one.

A client behind TCP, TLS or a WebSocket can often be reached only over the connection that it made
itself. When an application accepts its REGISTER (or SUBSCRIBE), the server remembers the connection
under user and host of the Contact, for as long as the response says.
"""

from __future__ import annotations

from collections.abc import Callable

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow
from drachtwist.sip.fields import parse_expires
from drachtwist.sip.message import Request, Response
from drachtwist.sip.uri import SipUri, Uri

__all__ = ["Registered", "has_no_address", "place_of"]

_SWEEP_EVERY = 30.0
"""Seconds between two looks for what has expired."""

METHODS = frozenset(("INVITE", "OPTIONS", "NOTIFY", "MESSAGE"))
"""The requests of applications that take such a connection."""


class Registered:
    """The connections of registered clients.

    :param seconds: gives the time.
    """

    __slots__ = ("_flows", "_seconds", "_sweep_at")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._flows: dict[str, tuple[Flow, float]] = {}
        self._sweep_at = 0.0

    def __len__(self) -> int:
        return len(self._flows)

    def accepted(self, request: Request, flow: Flow, raw: bytes) -> None:
        """Take note of a response that accepts a registration or subscription.

        :param raw: the response as it was sent.
        """
        if not flow.reliable:
            return
        try:
            contacts = request.contacts
        except MessageError:
            return
        key = _key(contacts[0].uri) if contacts and not contacts[0].is_wildcard else None
        if key is None:
            return
        now = self._seconds()
        self._sweep(now)
        expires = _expires(Response.from_bytes(raw))
        if expires > 0:
            self._flows[key] = (flow, now + expires)
        else:
            self._flows.pop(key, None)

    def passed(self, request: Request, flow: Flow, raw: bytes) -> None:
        """Take note of such a response that a server behind this one gave to a browser.

        :param raw: the response as it was sent.
        """
        try:
            contacts = request.contacts
        except MessageError:
            return
        if contacts and has_no_address(contacts[0].uri):
            self.accepted(request, flow, raw)

    def find(self, uri: str) -> Flow | None:
        """Find the connection that leads to a URI; port and parameters do not count."""
        if not self._flows:
            return None
        found = self._flows.get(_key(uri) or "")
        if found is None:
            return None
        if found[1] <= self._seconds():
            self._sweep(self._seconds())
            return None
        return found[0]

    def _sweep(self, now: float) -> None:
        if now >= self._sweep_at:
            self._sweep_at = now + _SWEEP_EVERY
            self._flows = {key: one for key, one in self._flows.items() if one[1] > now}


def has_no_address(uri: str) -> bool:
    """Return whether a host can have no address, as those that browsers give (RFC 7118)."""
    key = _key(uri)
    return key is not None and key.endswith(".invalid")


def place_of(uri: str) -> str | None:
    """Return user, host and port of a URI, which tell two on a host apart; None if it is no SIP."""
    parsed = _sip_uri(uri)
    return None if parsed is None else f"{_key_of(parsed)}:{parsed.port or ''}"


def _key(uri: str) -> str | None:
    """Return what a connection is remembered under; None for a URI that is none of SIP."""
    parsed = _sip_uri(uri)
    return None if parsed is None else _key_of(parsed)


def _key_of(uri: SipUri) -> str:
    return f"{uri.user or ''}@{uri.host.lower()}"


def _sip_uri(uri: str) -> SipUri | None:
    try:
        parsed = Uri.parse(uri)
    except MessageError:
        return None
    return parsed if isinstance(parsed, SipUri) else None


def _expires(response: Response) -> int:
    """Return the seconds that a response grants: of its first Contact, or else of Expires."""
    try:
        contacts = response.contacts
        text = contacts[0].params.get("expires") if contacts else None
        if text is None:
            text = response.get("Expires")
        return 0 if text is None else parse_expires(text)
    except MessageError:
        return 0
