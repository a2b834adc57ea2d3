"""Which transaction a message belongs to (RFC 3261 sections 17.1.3, 17.2.3 and 9.2).

Keys are strings, made to be looked up in a dict. A branch that starts with the magic cookie is
unique, so for a request the branch, the sent-by next to it (two clients may choose the same
branch) and the method are enough; an ACK has the key of its INVITE. Peers of RFC 2543 choose any
branch or none: for them it takes Request-URI, From tag, Call-ID, CSeq number and the whole topmost
Via. The To tag, which section 17.2.3 names too, is left out: it tells nothing in addition, and
without it the ACK to a failure, which carries the tag of our response, has the key of the INVITE.

An ACK to a 2xx has a branch of its own, so its key is not found and the dialog has to say whose it
is. Some peers use the branch of the INVITE all the same; the transaction in ACCEPTED hands that up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NewType

from drachtwist.errors import MessageError
from drachtwist.sip.fields import Via
from drachtwist.sip.message import Request, Response
from drachtwist.sip.registry import METHODS

__all__ = [
    "MAGIC_COOKIE",
    "ClientKey",
    "MergeKey",
    "ServerKey",
    "cancelled_key",
    "cancelled_keys",
    "client_key",
    "merge_key",
    "request_client_key",
    "server_key",
]

MAGIC_COOKIE = "z9hG4bK"
"""How every branch of RFC 3261 starts."""

ServerKey = NewType("ServerKey", str)
"""Names a server transaction."""
ClientKey = NewType("ClientKey", str)
"""Names a client transaction."""
MergeKey = NewType("MergeKey", str)
"""Names a request however it came here (RFC 3261 section 8.2.2.2)."""

# The topmost Via as nearly everybody writes it; anything else goes the long way. In group 2 is
# no quote, so a ";branch=" in it is no part of a quoted string.
_TOP_VIA = re.compile(r"SIP/2\.0/[A-Za-z]+ ([^;, \t\"]+)((?:;[^,\"]*)?)(?:,|\Z)")
_BRANCH = re.compile(r";[ \t]*branch[ \t]*=[ \t]*([^; \t]+)", re.IGNORECASE)


def server_key(request: Request) -> ServerKey:
    """Return the key of the server transaction that a request is for, or starts.

    :raises MessageError: when it has no Via, or another header that counts is missing or bad.
    """
    method = request.method
    return _server_key(request, "INVITE" if method == "ACK" else method)


def cancelled_key(cancel: Request) -> ServerKey:
    """Return the key of the INVITE that a CANCEL is for (RFC 3261 section 9.2).

    :raises MessageError: as :func:`server_key` does.
    """
    return _server_key(cancel, "INVITE")


def cancelled_keys(cancel: Request) -> Iterator[ServerKey]:
    """Return the keys of all that a CANCEL may be for; its CSeq does not say which method that is.

    :raises MessageError: as :func:`server_key` does.
    """
    return (_server_key(cancel, method) for method in METHODS if method not in ("ACK", "CANCEL"))


def _server_key(request: Request, method: str) -> ServerKey:
    branch, sent_by = _top_via(request)
    if branch is not None and branch.startswith(MAGIC_COOKIE) and len(branch) > 7:
        return ServerKey(f"{branch} {sent_by} {method}")
    via = str(_long_way(request))
    tag = request.from_.tag or ""
    return ServerKey(
        f"2543 {request.call_id} {request.cseq.number} {method} {tag} {request.uri} {via}"
    )


def client_key(response: Response) -> ClientKey:
    """Return the key of the client transaction that a response is for.

    :raises MessageError: when it has no Via with a branch, or no CSeq.
    """
    branch, _ = _top_via(response)
    if branch is None:
        raise MessageError("a response without the branch of its request")
    return ClientKey(f"{branch} {response.cseq.method}")


def request_client_key(request: Request) -> ClientKey:
    """Return the key under which the responses to a request of our own will be looked for.

    :raises MessageError: when it has no Via with a branch.
    """
    branch, _ = _top_via(request)
    if branch is None:
        raise MessageError("a request without a branch")
    return ClientKey(f"{branch} {request.method}")


def merge_key(request: Request, from_tag: str | None = None) -> MergeKey:
    """Return what copies of one request have in common that took different ways.

    :param from_tag: the tag in its From, for those who have read that already.
    :raises MessageError: when From, Call-ID or CSeq is missing or bad.
    """
    if from_tag is None:
        from_tag = request.from_.tag or ""
    return MergeKey(f"{request.call_id} {request.get('CSeq')} {from_tag}")


def _top_via(message: Request | Response) -> tuple[str | None, str]:
    """Return the branch and the sent-by of the topmost Via."""
    text = message.get("Via")
    if text is None:
        raise MessageError("no Via")
    found = _TOP_VIA.match(text)
    if found is not None:
        sent_by, params = found.groups()
        branch = _BRANCH.search(params)
        return (None if branch is None else branch[1]), sent_by.lower()
    via = _long_way(message)
    port = "" if via.port is None else f":{via.port}"
    return via.branch, f"{via.host}{port}".lower()


def _long_way(message: Request | Response) -> Via:
    return Via.parse_list(message.get("Via") or "")[0]
