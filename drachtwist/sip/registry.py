"""Which headers have which typed view, and which names SIP knows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from drachtwist.errors import MessageError
from drachtwist.sip.digest import AuthenticationInfo, Challenge, Credentials
from drachtwist.sip.fields import (
    Address,
    CSeq,
    Event,
    MediaType,
    RAck,
    Reason,
    Replaces,
    SessionExpires,
    SubscriptionState,
    Valued,
    Via,
    parse_expires,
    parse_integer,
    parse_tokens,
)
from drachtwist.sip.grammar import COMPACT_FORMS

__all__ = ["LISTS", "METHODS", "OPTION_TAGS", "SINGLES", "URI_SCHEMES", "is_legible"]

_COMMENT = re.compile(r"\([^()]*\)")


def _retry_after(text: str) -> SessionExpires:
    """Read a Retry-After, whose comment is for people."""
    return SessionExpires.parse(_COMMENT.sub("", text))


SINGLES: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("from", "to", "reply-to", "remote-party-id"), Address.parse),
    **dict.fromkeys(("refer-to", "referred-by"), Address.parse_with_headers),
    "expires": parse_expires,
    **dict.fromkeys(
        ("content-length", "max-forwards", "min-expires", "rseq", "max-breadth"), parse_integer
    ),
    **dict.fromkeys(("session-expires", "min-se"), SessionExpires.parse),
    **dict.fromkeys(("replaces", "join", "target-dialog"), Replaces.parse),
    "authentication-info": AuthenticationInfo.parse,
    "proxy-authentication-info": AuthenticationInfo.parse,
    "content-disposition": Valued.parse,
    "content-type": MediaType.parse,
    "cseq": CSeq.parse,
    "event": Event.parse,
    "rack": RAck.parse,
    "retry-after": _retry_after,
    "subscription-state": SubscriptionState.parse,
}
"""Headers of one value, by key, and what reads it."""

LISTS: dict[str, Callable[[str], list[Any]]] = {
    **dict.fromkeys(
        (
            "contact",
            "route",
            "record-route",
            "path",
            "service-route",
            "p-asserted-identity",
            "p-preferred-identity",
            "p-associated-uri",
            "diversion",
            "history-info",
        ),
        Address.parse_list,
    ),
    **dict.fromkeys(
        ("allow", "supported", "require", "proxy-require", "unsupported", "allow-events"),
        parse_tokens,
    ),
    **dict.fromkeys(("www-authenticate", "proxy-authenticate"), Challenge.parse_list),
    **dict.fromkeys(("authorization", "proxy-authorization"), Credentials.parse_list),
    "accept": MediaType.parse_list,
    "accept-contact": Valued.parse_list,
    "reason": Reason.parse_list,
    "via": Via.parse_list,
}
"""Headers of several values, by key, and what reads one line of them."""


def is_legible(name: str, value: str) -> bool:
    """Return whether a value is what a header should hold; any is of one without a typed view."""
    key = name.lower()
    key = COMPACT_FORMS.get(key, key)
    parse = SINGLES.get(key) or LISTS.get(key)
    if parse is None:
        return True
    try:
        parse(value)
    except MessageError:
        return False
    return True


METHODS = (
    "ACK",
    "BYE",
    "CANCEL",
    "INFO",
    "INVITE",
    "MESSAGE",
    "NOTIFY",
    "OPTIONS",
    "PRACK",
    "PUBLISH",
    "REFER",
    "REGISTER",
    "SUBSCRIBE",
    "UPDATE",
)
"""The registered methods."""


OPTION_TAGS = frozenset(
    """
    100rel 199 answermode early-session eventlist explicitsub from-change geolocation-http
    geolocation-sip gin gruu histinfo ice join multiple-refer norefersub nosub outbound path policy
    precondition pref privacy recipient-list-invite recipient-list-message recipient-list-subscribe
    record-aware replaces resource-priority sdp-anat sec-agree siprec tdialog timer trickle-ice uui
    """.split()
)
"""The extensions that Require, Proxy-Require and Supported may name, in lower case: the registry
"Option Tags" of the IANA's Session Initiation Protocol (SIP) Parameters, as of 2021 (RFC 8840)."""

URI_SCHEMES = frozenset(("sip", "sips", "tel", "urn", "im", "pres"))
"""The schemes that a Request-URI of SIP may have, in lower case: RFC 3261, RFC 3966, RFC 5031
(``urn:service:sos``), RFC 3428 and RFC 3856."""
