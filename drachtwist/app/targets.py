"""Whom an application names, and what a server can be asked to send to.

A real server dies of some requests (protocol.md 4.2, 10). They are refused here, unless the server
says that it is of a version that is known to survive them, which the application may set, or is the
embedded one. Of a PRACK it only drops the body.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from drachtwist import sip
from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip.headers import Headers, HeadersLike
from drachtwist.sip.locating import is_address
from drachtwist.sip.reachability import reached_over
from drachtwist.sip.targets import request_uri_of

if TYPE_CHECKING:
    from drachtwist.app.connection import Connection

__all__ = [
    "OTHER_SCHEMES",
    "PRACK_BODIES",
    "WILDCARD_CONTACT",
    "check_request",
    "complete_uri",
    "is_embedded",
    "referred_to",
    "survives",
]

OTHER_SCHEMES = "other-schemes-since"
"""The setting with the first version of a server that survives requests to ``tel:`` and the like;
unset as long as none is known."""
WILDCARD_CONTACT = "wildcard-contact-since"
"""The same for a REGISTER with ``Contact: *``."""
PRACK_BODIES = "prack-bodies-since"
"""The same for a version that sends the body of a PRACK."""

_EMBEDDED = "+drachtwist"
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})\.(\d{1,9})")
_SIP = re.compile("sips?:", re.IGNORECASE)
_OTHER = re.compile("(?:tel|urn|im|pres):", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
# A host with a port looks like a scheme with something behind it.
_PORT = re.compile(r"[^@:;]+:\d{1,5}(?:;|$)")
_NUMBER = re.compile(r"[+\d][\d\-.()#*]*")


@lru_cache(maxsize=1024)  # most applications call few places
def complete_uri(uri: str, others: bool = False) -> str:
    """Add the scheme to a URI that has none, for ``bob@example.net``.

    :param others: whether URIs of the other schemes of SIP will do, such as ``tel:`` and ``urn:``.
    :raises LocalProtocolError: for what is no URI to send a request to.
    """
    if not _SIP.match(uri):
        if not uri or uri.isspace():
            raise LocalProtocolError(f"no SIP URI: {uri!r}")
        if _has_scheme(uri):
            if others and _OTHER.match(uri):
                return _checked(uri)
            raise LocalProtocolError(
                f"nobody knows where to send {uri!r} without a proxy= (sip:user@host is clear)"
            )
        if _NUMBER.fullmatch(uri) and not is_address(uri):
            raise LocalProtocolError(f"a number without a domain: {uri!r} (sip:{uri}@host)")
        uri = f"sip:{uri}"
    return _checked(uri)


def _has_scheme(uri: str) -> bool:
    if _OTHER.match(uri):
        return True
    return _SCHEME.match(uri.partition("@")[0]) is not None and not _PORT.match(uri)


def _checked(uri: str) -> str:
    try:
        sip.Uri.parse(uri)
    except MessageError as error:
        raise LocalProtocolError(f"no SIP URI: {error}") from None
    return uri


def referred_to(target: str) -> str:
    """Return the URI for the Refer-To of a transfer.

    :param target: a URI of any scheme, or an address with one in brackets.
    :raises LocalProtocolError: for what is neither.
    """
    if "<" in target:
        try:
            target = sip.Address.parse(target).uri
        except MessageError as error:
            raise LocalProtocolError(f"no target of a transfer: {error}") from None
    return _checked(target) if _has_scheme(target) else complete_uri(target)


def can_be_called(uri: str, *, routed: bool) -> bool:
    """Return whether a contact of a redirect is of any use.

    :param routed: whether the request goes to a proxy.
    """
    try:
        parsed = sip.Uri.parse(request_uri_of(uri))
    except MessageError:
        return False
    return isinstance(parsed, sip.SipUri) or (routed and _OTHER.match(uri) is not None)


def with_contact(headers: HeadersLike, where: str) -> HeadersLike:
    """Let the Contact that we wrote say how we are reached.

    Servers do that where they choose the transport, and where there is no Contact; one that the
    application has written says what it wants.

    :param where: the URI that a request is sent to.
    """
    if "transport=" not in where.lower() and where[:5].lower() != "sips:":
        return headers
    given = Headers(headers)
    try:
        uri = sip.Uri.parse(where)
    except MessageError:
        return headers
    if isinstance(uri, sip.SipUri):
        contact = given.get("Contact") or ""
        over = reached_over(contact, uri.transport or "udp", secure=uri.secure)
        given.set("Contact", over)
    return given.items()


def check_request(state: Connection, method: str, uri: str, headers: HeadersLike) -> None:
    """See that the server survives a request.

    :raises LocalProtocolError: if it may not.
    """
    if uri[:3].lower() != "sip":
        _check(state, OTHER_SCHEMES, f"a request to {uri!r}")
    if method != "REGISTER" or headers is None:
        return
    if any(value.strip() == "*" for value in Headers(headers).get_all("Contact")):
        _check(state, WILDCARD_CONTACT, "a REGISTER with Contact: *")


def is_embedded(version: str) -> bool:
    """Return whether a server is one of this package."""
    return version.endswith(_EMBEDDED)


def survives(state: Connection, setting: str) -> bool:
    """Return whether a server is known to survive what a setting is about."""
    version = state.server.version
    since = state.owner.settings.get(setting)
    if is_embedded(version):
        return True
    return since is not None and _numbers(version) >= _numbers(str(since))


def _check(state: Connection, setting: str, what: str) -> None:
    if survives(state, setting):
        return
    version = state.server.version
    raise LocalProtocolError(
        f"drachtio server {version} may die of {what}: set {setting!r} to the first version "
        "that survives it"
    )


def _numbers(version: str) -> tuple[int, ...]:
    found = _VERSION.match(version)
    return () if found is None else tuple(map(int, found.groups()))
