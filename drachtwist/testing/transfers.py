"""Transfers, as phones see them: following a REFER, and hearing how ours goes (RFC 3515)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from drachtwist.errors import MessageError
from drachtwist.sip.fields import Address
from drachtwist.sip.message import Request

if TYPE_CHECKING:
    from drachtwist.testing.call import Call

__all__ = ["follow", "fragment_status"]

_STATUS_LINE = re.compile(r"SIP/2\.0 ([1-6][0-9]{2})(?: |\r|$)")


def fragment_status(request: Request) -> int | None:
    """Return the status in the body of a NOTIFY of a transfer; None if it is about something else.
    """
    found = _STATUS_LINE.match(request.text)
    return None if found is None else int(found[1])


def follow(call: Call, request: Request) -> None:
    """Call whom a REFER names, and tell who sent it how that goes."""
    phone = call.phone
    try:
        uri = Address.parse(request.get("Refer-To") or "").uri
    except MessageError as error:
        phone.remark(f"cannot follow: {error}")
        return
    target, _, query = uri.partition("?")
    headers = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        headers[name] = unquote(value)

    def tell(status: int, reason: str, over: bool) -> None:
        if call.over:
            return
        state = "terminated;reason=noresource" if over else "active;expires=60"
        call.request(
            "NOTIFY",
            headers={"Event": "refer", "Subscription-State": state},
            body=f"SIP/2.0 {status} {reason}\r\n",
            content_type="message/sipfrag;version=2.0",
        )

    def ended(_: object) -> None:
        tell(other.status or 408, "Whatever", True)

    tell(100, "Trying", False)
    other = phone.invite(target, headers=headers)
    other.when_answered().addCallbacks(lambda _: tell(200, "OK", True), ended)
