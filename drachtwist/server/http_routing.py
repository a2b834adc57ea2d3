"""What a web application is told of a new request when it is asked (protocol.md 7.2)."""

from __future__ import annotations

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow
from drachtwist.sip.fields import Address
from drachtwist.sip.message import Request
from drachtwist.sip.uri import SipUri, TelUri, Uri
from drachtwist.wire.decisions import RoutingQuery

__all__ = ["query_of"]


def query_of(request: Request, flow: Flow) -> RoutingQuery:
    """Tell a web application about a request ; what cannot be read is empty."""
    uri = request.uri
    domain = user = ""
    params: dict[str, str] = {}
    try:
        parsed = Uri.parse(uri)
    except MessageError:
        parsed = None
    if isinstance(parsed, SipUri):
        domain, user = parsed.address, parsed.user or ""
        for name, value in parsed.params.pairs:
            # A value with another '=' in it gets lost, as in the real server.
            params[name] = "" if value is None or "=" in value else value
    elif isinstance(parsed, TelUri):
        user = parsed.number
    content_type = (request.get("Content-Type") or "").partition(";")[0].strip()
    return RoutingQuery(
        request.method,
        domain=domain,
        protocol=flow.reported,
        source_address=flow.remote_host,
        from_user=_user(request.get("From")),
        to_user=_user(request.get("To")),
        uri_user=user,
        content_type=content_type,
        uri=uri,
        uri_params=params,
    )


def _user(text: str | None) -> str:
    try:
        uri = Address.parse(text or "").parsed_uri
    except MessageError:
        return ""
    if isinstance(uri, SipUri):
        return uri.user or ""
    return uri.number if isinstance(uri, TelUri) else ""
