"""Transfers, as phones see them: whom a REFER names, and how ours goes (RFC 3515)."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from drachtwist.sip.fields import Address
from drachtwist.sip.message import Request

__all__ = ["fragment_status", "referred_to", "with_replaces"]

_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9]{2})(?: |\r|$)")


def fragment_status(request: Request) -> int | None:
    """Return the status in the body of a NOTIFY of a transfer; None if it has none."""
    found = _STATUS_LINE.match(request.text)
    return None if found is None else int(found[1])


def referred_to(request: Request) -> tuple[str, dict[str, str]]:
    """Return the URI that a REFER names, and the headers that it wants there.

    :raises MessageError: when it names none.
    """
    target, _, query = Address.parse(request.get("Refer-To") or "").uri.partition("?")
    headers = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        headers[name] = unquote(value)
    return target, headers


def with_replaces(uri: str, call_id: str, to_tag: str, from_tag: str) -> str:
    """Put into a URI which call the new one takes over (RFC 3891 section 6.1)."""
    replaced = f"{call_id};to-tag={to_tag};from-tag={from_tag}"
    return f"{uri}?Replaces={quote(replaced, safe='')}"
