"""Requests of scanners and other pests, known by what they write about themselves.

They are dealt with before anything is remembered of them: refused with a 603 that no transaction
repeats, or passed over in silence. The real server always refuses, whatever it is told; here
``discard`` is obeyed, since silence is what a scanner learns least from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip.message import Request
from drachtwist.sip.uri import SipUri

__all__ = ["ACTIONS", "Spammers"]

ACTIONS = ("reject", "discard")
"""What can be done about them."""


@dataclass(frozen=True, slots=True)
class Spammers:
    """What spammers are known by.

    :raises LocalProtocolError: for another header or action.
    """

    LOOKED_AT: ClassVar[frozenset[str]] = frozenset(("user-agent", "to", "from"))
    """The headers that can be looked at: the whole ``User-Agent``, and the user in the URI of
    ``To`` and ``From``."""

    headers: tuple[tuple[str, tuple[str, ...]], ...]
    """Names of headers, each with what a spammer's value has in it; case matters."""
    action: str = "discard"
    """``reject`` or ``discard``, over UDP."""
    tcp_action: str = "discard"
    """The same over connections."""

    def __post_init__(self) -> None:
        headers = []
        for name, patterns in self.headers:
            if name.lower() not in self.LOOKED_AT:
                raise LocalProtocolError(f"spammers are not known by {name!r}")
            if isinstance(patterns, str) or not isinstance(patterns, Iterable):
                raise LocalProtocolError(f"the values of {name} are a list, not {patterns!r}")
            headers.append((name.lower(), tuple(one for one in patterns if one)))
        object.__setattr__(self, "headers", tuple(headers))
        for action in (self.action, self.tcp_action):
            if action not in ACTIONS:
                raise LocalProtocolError(f"spammers are met with reject or discard, not {action!r}")

    def find(self, request: Request) -> str | None:
        """Return what betrays the sender of a request; None when nothing does."""
        for name, patterns in self.headers:
            value = _value(request, name)
            if value and any(pattern in value for pattern in patterns):
                return f"{name}: {value}"
        return None

    def rejects(self, *, reliable: bool) -> bool:
        """Return whether they get a response.

        :param reliable: whether the request came over a connection.
        """
        return (self.tcp_action if reliable else self.action) == "reject"


def _value(request: Request, name: str) -> str | None:
    if name == "user-agent":
        return request.get("User-Agent")
    try:
        uri = (request.from_ if name == "from" else request.to).parsed_uri
    except MessageError:
        return None
    return uri.user if isinstance(uri, SipUri) else None
