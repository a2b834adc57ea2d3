"""Telephone numbers in URIs: the user part of ``sip:`` and ``sips:``, the number of ``tel:``.

Only the URI says who somebody is; a display name says whatever its owner likes (RFC 3261
section 20.20).
"""

from __future__ import annotations

import re
from urllib.parse import quote

from drachtwist.errors import MessageError
from drachtwist.sip.uri import TelUri, Uri

__all__ = ["number_of", "sip_uri"]

_SEPARATORS = str.maketrans("", "", "-.()")
_OF_A_USER = "-_.!~*'()&=+$,;?/%"
"""What a user part may have besides letters and digits, and what is escaped already."""
_NEEDS_NO_ESCAPE = re.compile(r"[A-Za-z0-9+]+").fullmatch


def number_of(uri: str) -> str:
    """Return the user part of a SIP URI without parameters and password, or the number of ``tel:``.

    A number is given without its visual separators, which mean nothing (RFC 3966 section 5.1.1).

    :returns: as it is written, escapes included; empty when there is none.
    """
    scheme, _, rest = uri.partition(":")
    scheme = scheme.lower()
    if scheme in ("sip", "sips"):
        user, at, _ = rest.partition("@")
        return user.partition(";")[0].partition(":")[0] if at else ""
    if scheme == "tel":
        try:
            parsed = Uri.parse(uri)
        except MessageError:
            return ""
        if isinstance(parsed, TelUri):
            return parsed.number.translate(_SEPARATORS)
    return ""


def sip_uri(number: str | None, host: str) -> str:
    """Write the SIP URI of a number at a host; without a user part if there is none.

    :param number: what a user part cannot have is escaped.
    """
    if not number:
        return f"sip:{host}"
    if not _NEEDS_NO_ESCAPE(number):
        number = quote(number, _OF_A_USER, errors="surrogateescape")
    return f"sip:{number}@{host}"
