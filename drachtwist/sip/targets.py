"""Where requests are sent to because somebody else says so: a contact, a redirect.

A URI may carry a method and headers for a request that somebody makes of it. They are not part of
its Request-URI (RFC 3261 section 19.1.1, table 1). Of the headers those are taken that change
nothing about who sends the request, and where it goes (section 19.1.5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip.fields import Address
from drachtwist.sip.grammar import has_line_break, unescape
from drachtwist.sip.registry import is_legible

__all__ = [
    "by_preference",
    "request_uri_of",
    "split_headers",
    "split_route",
    "split_target",
    "with_route",
]

_TAKEN = frozenset(
    """
    subject priority replaces join reason history-info diversion user-to-user accept-contact
    reject-contact request-disposition
    """.split()
)
_METHOD = re.compile(";method=[^;?]*", re.IGNORECASE)
_QVALUE = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


def request_uri_of(uri: str) -> str:
    """Return the Request-URI of a request for a URI."""
    if "?" not in uri and ";" not in uri:
        return uri
    return split_target(uri)[0]


def split_target(uri: str) -> tuple[str, list[tuple[str, str]]]:
    """Return the Request-URI of a request for a URI, and the headers that go into the request."""
    if uri[:3].lower() != "sip":
        return uri, []
    bare, headers = split_headers(uri)
    user, at, rest = bare.rpartition("@")
    return user + at + _METHOD.sub("", rest), [*_headers(headers)]


def with_route(uri: str, routes: Iterable[str]) -> str:
    """Let a URI say which way leads there, in a Route header (section 19.1.1).

    Only a server that was told so by its own application should go it (section 19.1.5).

    :raises LocalProtocolError: when they are no text that can be sent.
    """
    try:
        value = quote(", ".join(routes), safe="", errors="surrogateescape")
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"no Route: {error}") from None
    return f"{uri}?Route={value}"


def split_route(uri: str) -> tuple[str, list[Address] | None]:
    """Return the Request-URI of a request for a URI, and the way to it.

    :returns: the way is None when the URI does not say it.
    :raises MessageError: when it cannot be read.
    """
    if uri[:3].lower() != "sip":
        return uri, None
    bare, headers = split_headers(uri)
    routes: list[Address] | None = None
    for item in headers.split("&"):
        name, equals, value = item.partition("=")
        if equals and name.lower() == "route":
            text = unescape(value)
            if has_line_break(text):
                raise MessageError("a line break in a Route")
            routes = [*(routes or ()), *Address.parse_list(text)]
    return request_uri_of(bare), routes


def split_headers(uri: str) -> tuple[str, str]:
    """Return a URI without its headers, and the headers, as they are escaped."""
    user, at, rest = uri.partition("@")  # a question mark may be part of a user part
    if not at:
        user, rest = "", uri
    rest, _, headers = rest.partition("?")
    return user + at + rest, headers


def _headers(text: str) -> Iterable[tuple[str, str]]:
    for item in text.split("&"):
        name, equals, value = item.partition("=")
        value = unescape(value)
        if not equals or name.lower() not in _TAKEN or has_line_break(value):
            continue
        if is_legible(name, value):
            yield name, value


def by_preference(contacts: Iterable[Address]) -> list[Address]:
    """Return contacts the best first: by their ``q``, equal ones in their order.

    ``*``, which is nobody, is left out; a ``q`` that is no number counts as the least.
    """
    return sorted((one for one in contacts if not one.is_wildcard), key=_q, reverse=True)


def _q(contact: Address) -> float:
    text = contact.params.get("q")
    if text is None:
        return 1.0
    return float(text) if _QVALUE.fullmatch(text) is not None else 0.0
