"""How a Contact says where its owner is reached.

It names the transport of the message that it is in, and is a ``sips:`` URI where the request was
for one (RFC 3261 sections 8.1.1.8 and 12.1.1, RFC 3263 section 4.1).
"""

from __future__ import annotations

from dataclasses import replace

from drachtwist.errors import MessageError
from drachtwist.sip.fields import Address
from drachtwist.sip.params import UriParams
from drachtwist.sip.uri import SipUri

__all__ = ["reached_over"]


def reached_over(contact: str, protocol: str, *, secure: bool) -> str:
    """Write a Contact for a message that takes a transport.

    :param contact: one that names a transport already keeps it.
    :param protocol: the transport: ``udp``, ``tcp``, ``tls``, ``ws`` or ``wss``.
    :param secure: whether a ``sips:`` URI was asked for.
    """
    try:
        address = Address.parse(contact)
        uri = address.parsed_uri
    except MessageError:
        return contact
    if not isinstance(uri, SipUri):
        return contact
    changed = uri
    if (secure or protocol == "wss") and not uri.secure:
        changed = replace(changed, scheme="sips")
    transport = {"wss": "ws", "tls": "" if changed.secure else "tls"}.get(protocol, protocol)
    if transport not in ("", "udp") and uri.transport is None:
        changed = replace(
            changed, params=UriParams._trusted(f"{changed.params};transport={transport}")
        )
    if changed is uri:
        return contact
    return str(replace(address, uri=str(changed)))
