"""What the headers of a message tell about who is next to the server, as a proxy.

Routes that are left lead on (RFC 3261 section 16.6). Whoever is next to us, with no other proxy in
between, and says to be where he is not, is behind a NAT.
"""

from __future__ import annotations

from collections.abc import Callable

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow
from drachtwist.sip.fields import Address
from drachtwist.sip.locating import is_address
from drachtwist.sip.message import Request, Response
from drachtwist.sip.uri import SipUri

__all__ = ["away", "is_adjacent", "is_behind_nat", "routes_left"]


def routes_left(request: Request, is_own: Callable[[str], bool]) -> list[Address]:
    """Return the Route of a request without what led here (section 16.4).

    That is its top, whatever it says, as in the real server: a name of ours may not be known here.
    Two are ours where the two sides reach us at different addresses.
    """
    try:
        routes: list[Address] = request.get_parsed_header("Route") or []
    except MessageError:
        return []
    return away(routes[1:], is_own)


def away(routes: list[Address], is_own: Callable[[str], bool]) -> list[Address]:
    """Return routes without those at the front that lead here."""
    own = 0
    while own < len(routes) and is_own(routes[own].uri):
        own += 1
    return routes[own:]


def is_adjacent(message: Request | Response, is_own: Callable[[str], bool]) -> bool:
    """Return whether whose Contact a message has sent it to us without another proxy in between."""
    try:
        recorded: list[Address] = message.get_parsed_header("Record-Route") or []
        if isinstance(message, Request):
            return not recorded and len(message.vias) == 1
    except MessageError:
        return False
    # Those behind us are above us.
    return bool(recorded) and is_own(recorded[0].uri)


def is_behind_nat(contact: Address | None, flow: Flow, detection: str) -> bool:
    """Return whether a Contact is an address that messages do not come from.

    :param flow: where they come from.
    :param detection: the setting ``nat_detection``.
    """
    if detection == "off" or contact is None:
        return False
    try:
        uri = contact.parsed_uri
    except MessageError:
        return False
    if not isinstance(uri, SipUri) or not is_address(uri.address):
        return False
    if uri.address != flow.remote_host:
        return True
    # Over a stream nobody listens where he sends from.
    return not flow.reliable and (uri.port or 5060) != flow.remote_port
