"""What every request is looked at for before anybody acts upon it (RFC 3261 sections 8.2 and 16.3).

An extension that a caller requires is refused only when nobody can know it: an application may
implement any registered one, and those that the settings name.
"""

from __future__ import annotations

from collections.abc import Set

from drachtwist.errors import MessageError
from drachtwist.sip.fields import parse_expires, parse_integer
from drachtwist.sip.message import Request, Response
from drachtwist.sip.registry import OPTION_TAGS, URI_SCHEMES

__all__ = [
    "ANY",
    "bad_header",
    "breadth_of",
    "carries_session",
    "has_hops_left",
    "has_more_hops",
    "scheme_is_known",
    "unknown_extensions",
]

ANY = "*"
"""Stands for all extensions in the settings."""


def scheme_is_known(request: Request) -> bool:
    """Return whether the scheme of the Request-URI is one that SIP uses; otherwise it is a 416."""
    uri = request.uri
    return uri.startswith("sip:") or uri.partition(":")[0].lower() in URI_SCHEMES


def unknown_extensions(request: Request, name: str, known: Set[str]) -> list[str]:
    """Return the option tags of a header that are neither registered nor among the known ones.

    :param name: ``Require`` or ``Proxy-Require``.
    :param known: in lower case.
    """
    if not request.has(name):
        return []  # as in most
    tags: list[str] = request.get_parsed_header(name) or []
    return [tag for tag in tags if tag.lower() not in OPTION_TAGS and tag.lower() not in known]


def has_hops_left(request: Request) -> bool:
    """Return whether a request may be forwarded; otherwise it is a 483."""
    hops = _limit(request, "Max-Forwards")
    return hops is None or hops > 0


def breadth_of(request: Request) -> int | None:
    """Return how many branches a request may have at a time (RFC 5393); None for no limit."""
    return _limit(request, "Max-Breadth")


def _limit(request: Request, name: str) -> int | None:
    text = request.get(name)
    if text is None:
        return None
    try:
        return parse_integer(text)
    except MessageError:
        return None


def has_more_hops(response: Response) -> bool:
    """Return whether a response has further Vias below the topmost one."""
    vias = response.get_all("Via")
    return len(vias) > 1 or ("," in vias[0] and len(response.vias) > 1)


def carries_session(message: Request | Response) -> bool:
    """Return whether a message has a session description, which is an offer or an answer."""
    if not message.body:
        return False
    kind = (message.get("Content-Type") or "").lower()
    return kind.startswith(("application/sdp", "multipart/"))


def bad_header(request: Request) -> str | None:
    """Say which header of a new request is bad, of those that every server looks at.

    :returns: the phrase of the 400, None when there is nothing to complain about.
    """
    text = request.get("Expires")
    expires = None
    if text is not None:
        try:
            expires = parse_expires(text)
        except MessageError:
            return "Bad Expires Header"
    if request.method == "REGISTER" and "*" in (request.get("Contact") or ""):
        try:
            if any(contact.is_wildcard for contact in request.contacts) and expires != 0:
                return "Bad Request"
        except MessageError:
            return "Bad Contact Header"
    return None
