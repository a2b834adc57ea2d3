"""The Contact of this side: an application writes ``localhost`` for our address, or nothing."""

from __future__ import annotations

from drachtwist.errors import MessageError
from drachtwist.server.compose import in_brackets, with_host
from drachtwist.sip.fields import Address
from drachtwist.sip.reachability import reached_over
from drachtwist.sip.uri import SipUri, Uri

__all__ = ["NOBODY", "like_contact", "own_contact"]

NOBODY = "<sip:localhost>"
"""The Contact of an application that writes none."""


def own_contact(contact: str, protocol: str, local: str, *, secure: bool) -> str:
    """Write a Contact for a way that a message takes; one that is not ours is only put in brackets.

    :param contact: as the application wrote it.
    :param protocol: the transport.
    :param local: our address and port.
    :param secure: whether the request is for a ``sips:`` URI.
    """
    written = with_host(contact, local)
    if written == contact:
        return in_brackets(contact) or contact
    return reached_over(in_brackets(written) or written, protocol, secure=secure)


def like_contact(contact: str, ours: str) -> str:
    """Write a Contact for a dialog whose Contact is known.

    :param contact: as the application wrote it.
    :param ours: the Contact of this side of the dialog.
    """
    try:
        uri = Uri.parse(Address.parse(ours).uri)
    except MessageError:
        return contact
    if not isinstance(uri, SipUri):
        return contact
    port = "" if uri.port is None else f":{uri.port}"
    protocol = uri.transport or ("tls" if uri.secure else "udp")
    if protocol == "ws" and uri.secure:
        protocol = "wss"
    return own_contact(contact, protocol, f"{uri.host}{port}", secure=uri.secure)
