"""Dialogs: who talks to whom, with which tags, numbers and route.

A dialog has the name that applications know it by: the Call-ID and the tag in the From of the
request that made it, whichever side the server was on. The server as the called party (``uas``)
finds it by the From tag of what the peer sends, as the calling party (``uac``) by the To tag. The
two are kept apart, so that a call which the server places to itself is two dialogs of one name. A
request of an application that names both is for the one whose tag it has in its From, or else for
that of the application (:meth:`Dialogs.meant`).

What the first exchange settled stays: the route set and the Contact of this side. The remote
target, and with it where packets go, follows the Contact of the requests that refresh it, once they
are accepted (RFC 3261 section 12.2, RFC 3311, RFC 6665).
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import WEBSOCKETS, Flow
from drachtwist.server.usages import ClientUsage, Refreshing, ServerUsage, Unconfirmed
from drachtwist.sip.fields import Address
from drachtwist.sip.locating import Hop, hop_of
from drachtwist.sip.message import Request, Response
from drachtwist.sip.targets import request_uri_of
from drachtwist.sip.uri import SipUri

if TYPE_CHECKING:
    from drachtwist.server.clients import AppLink
    from drachtwist.server.compose import Draft

__all__ = [
    "Dialog",
    "DialogState",
    "Dialogs",
    "contact_of_flow",
    "dialog_id",
    "refresh_target",
    "uri_of",
]

_REFRESHING = {"INVITE": ("INVITE", "UPDATE"), "SUBSCRIBE": ("SUBSCRIBE", "NOTIFY")}


def dialog_id(call_id: str, tag: str) -> str:
    """Return the name of a dialog.

    :param tag: the one in the From of the request that makes it; may be empty.
    """
    return f"{call_id};from-tag={tag}"


class DialogState(enum.Enum):
    """How far a dialog is acknowledged (RFC 3261 section 12)."""

    EARLY = "the request that makes it is not finally answered"
    ACCEPTED = "the peer has accepted; the application's ACK is to come"
    CROSSED = "the peer has accepted what was cancelled; it ends as soon as it is acknowledged"
    CONFIRMED = "it is acknowledged, or the peer asked for it, or it is a subscription"

    __hash__ = object.__hash__  # there is one of each; Enum's own takes a call


TRANSITIONS: Mapping[DialogState, Mapping[DialogState, str]] = {
    DialogState.EARLY: {
        DialogState.ACCEPTED: "2xx to our INVITE",
        DialogState.CROSSED: "2xx to our INVITE, for which a CANCEL is under way",
        DialogState.CONFIRMED: "2xx to the peer's INVITE, or to a SUBSCRIBE",
    },
    DialogState.ACCEPTED: {DialogState.CONFIRMED: "ACK of the application"},
    DialogState.CROSSED: {DialogState.CONFIRMED: "ACK of the application; a BYE follows"},
    DialogState.CONFIRMED: {},
}
"""What leads from a state to another. Any of them may be the last: it is over when the table of
dialogs does not know it any more (:meth:`Dialogs.knows`)."""


class Dialog:
    """An established dialog, or an early one that a reliable response made usable."""

    __slots__ = (
        "answers",
        "asked",
        "call_id",
        "contact",
        "flow",
        "hop",
        "id",
        "invite_ack",
        "invite_seq",
        "is_uas",
        "link",
        "local",
        "local_tag",
        "method",
        "open",
        "origin",
        "peer_seq",
        "remote",
        "remote_tag",
        "routes",
        "sdp",
        "seq",
        "state",
        "target",
        "timer",
        "told",
        "unconfirmed",
    )

    id: str
    link: AppLink | None
    """The application that owns it; None when it is gone. See :meth:`Dialogs.hand_to`."""
    method: str
    """``INVITE`` or ``SUBSCRIBE``: what made it."""
    is_uas: bool
    """Whether the peer asked for it."""
    state: DialogState
    """How far it is acknowledged."""
    call_id: str
    local: str
    """The From of our requests, with our tag."""
    remote: str
    """The To of our requests, with the peer's tag."""
    local_tag: str
    remote_tag: str
    seq: int
    """The CSeq of the last request of this side."""
    peer_seq: int
    """The highest CSeq of the peer's requests, 0 before the first one."""
    invite_seq: int | None
    """The CSeq of the last INVITE of this side."""
    invite_ack: bytes | None
    """The last ACK that the application sent, to be repeated."""
    target: str
    """The URI of the peer's Contact."""
    routes: list[str]
    """The route set, the next hop first."""
    contact: str
    """The Contact of this side."""
    told: str
    """The Contact that the application was told, if it was before it was known which way to go."""
    flow: Flow | None
    """Where packets go; None when a name has to be looked up first."""
    hop: Hop | None
    """Where packets go when there is no flow, or it is closed."""
    unconfirmed: Unconfirmed | None
    """The last INVITE of this side that was accepted, until its ACK."""
    origin: ServerUsage | None
    """The INVITE that made it."""
    answers: ServerUsage | None
    """The INVITE whose 200 waits for its ACK."""
    open: list[ServerUsage]
    """Requests of the peer that the application has not answered."""
    sdp: bytes
    """The session description that the application sent last."""
    timer: Refreshing | None
    """The session timer, if there is one."""
    asked: list[ClientUsage]
    """Requests of the application that have no final response."""

    def __init__(self) -> None:
        self.link = None
        self.remote_tag = ""
        self.state = DialogState.EARLY
        self.unconfirmed = None
        self.seq = 0
        self.peer_seq = 0
        self.invite_seq = None
        self.invite_ack = None
        self.flow = None
        self.hop = None
        self.origin = None
        self.answers = None
        self.sdp = b""
        self.told = ""
        self.timer = None
        self.open = []
        self.asked = []

    @property
    def early(self) -> bool:
        """Whether the request that makes it is not finally answered."""
        return self.state is DialogState.EARLY

    def become(self, state: DialogState) -> None:
        """Change the state, to itself or to one that may follow."""
        known = self.state
        assert state is known or state in TRANSITIONS[known], f"{known} does not become {state}"
        self.state = state

    def is_refreshed_by(self, method: str) -> bool:
        """Return whether requests of a method refresh its remote target."""
        return method in _REFRESHING[self.method]

    def __repr__(self) -> str:
        return f"<Dialog {'uas' if self.is_uas else 'uac'} {self.method} {self.id}>"


class Dialogs:
    """All dialogs, by name and role, and by application."""

    __slots__ = ("_of_links", "_uac", "_uas")

    def __init__(self) -> None:
        self._uas: dict[str, Dialog] = {}
        self._uac: dict[str, Dialog] = {}
        # A connection that closes must not look at those of all others. In order.
        self._of_links: dict[AppLink, dict[Dialog, None]] = {}

    def __len__(self) -> int:
        return len(self._uas) + len(self._uac)

    def add(self, dialog: Dialog) -> None:
        """Make a dialog known."""
        table = self._uas if dialog.is_uas else self._uac
        before = table.get(dialog.id)
        if before is not None:
            self._leave(before)
        table[dialog.id] = dialog
        self._join(dialog)

    def remove(self, dialog: Dialog) -> None:
        """Forget a dialog; it is no error when it is not known."""
        if self.knows(dialog):
            del (self._uas if dialog.is_uas else self._uac)[dialog.id]
            dialog.unconfirmed = None
            self._leave(dialog)

    def hand_to(self, dialog: Dialog, link: AppLink | None) -> None:
        """Let a dialog be an application's own from now on, or nobody's."""
        known = self.knows(dialog)
        if known:
            self._leave(dialog)
        dialog.link = link
        if known:
            self._join(dialog)

    def _join(self, dialog: Dialog) -> None:
        if dialog.link is not None:
            self._of_links.setdefault(dialog.link, {})[dialog] = None

    def _leave(self, dialog: Dialog) -> None:
        link = dialog.link
        if link is not None:
            own = self._of_links.get(link, {})
            own.pop(dialog, None)
            if not own:
                self._of_links.pop(link, None)

    def named(self, name: str) -> list[Dialog]:
        """Find the dialogs of a name: none, one, or both sides of a call to ourselves."""
        found = (self._uas.get(name), self._uac.get(name))
        return [dialog for dialog in found if dialog is not None]

    def meant(self, dialogs: list[Dialog], link: AppLink, draft: Draft) -> Dialog:
        """Say which of two dialogs of a name a request of an application is for.

        That is the one whose tag it has in its From, if it says so much. Otherwise it is one of the
        application's own, or else one that nobody else has; an ACK is for what waits for one.
        """
        try:
            tag = Address.parse(draft.apart.get("from", "")).tag
        except MessageError:
            tag = None
        ack = draft.start.startswith("ACK ")

        def rank(dialog: Dialog) -> tuple[bool, bool, bool, bool]:
            return (
                tag is not None and dialog.local_tag == tag,
                dialog.link is link,
                dialog.link is None,
                ack and dialog.unconfirmed is not None,
            )

        return max(dialogs, key=rank)

    def uas(self, name: str) -> Dialog | None:
        """Find a dialog that a peer asked for."""
        return self._uas.get(name)

    def knows(self, dialog: Dialog) -> bool:
        """Return whether a dialog is there and goes on."""
        return (self._uas if dialog.is_uas else self._uac).get(dialog.id) is dialog

    def of_request(self, call_id: str, from_tag: str, to_tag: str | None) -> Dialog | None:
        """Find the dialog that a request of a peer is for.

        A request without To tag is taken as one in the dialog that its sender asked for.
        """
        dialog = self._uas.get(dialog_id(call_id, from_tag))
        if dialog is not None and (to_tag is None or to_tag == dialog.local_tag):
            return dialog
        if to_tag is None:
            return None
        dialog = self._uac.get(dialog_id(call_id, to_tag))
        if dialog is not None and dialog.remote_tag == from_tag:
            return dialog
        return None

    def established(self) -> tuple[int, int]:
        """Count the established ones: those that peers asked for, and those that we asked for."""
        uas, uac = (
            sum(not dialog.early for dialog in table.values()) for table in (self._uas, self._uac)
        )
        return uas, uac

    def of_link(self, link: AppLink) -> list[Dialog]:
        """Return the dialogs of an application, the oldest first."""
        return list(self._of_links.get(link, ()))


# Where packets go


def uri_of(protocol: str, address: str) -> str:
    """Write the URI of an address; SIP has no ``transport=wss`` (RFC 7118 section 5.2.2)."""
    if protocol == "udp":
        return f"sip:{address}"
    if protocol == "wss":
        return f"sips:{address};transport=ws"
    return f"sip:{address};transport={protocol}"


def contact_of_flow(flow: Flow, *, secure: bool = False) -> str:
    """Return the Contact of this side of a flow.

    :param secure: whether a ``sips:`` URI was asked for.
    """
    if secure and flow.protocol == "tls":
        return f"<sips:{flow.local}>"
    return f"<{uri_of(flow.protocol, flow.local)}>"


def record_routes(message: Request | Response) -> list[str]:
    """Return the Record-Route values in order, as they were written."""
    try:
        addresses = message.get_parsed_header("Record-Route")
    except MessageError:
        return []
    return [str(address) for address in addresses or ()]


def contact_of(message: Request | Response) -> Address | None:
    """Return the first Contact, None when there is no legible one."""
    try:
        found: list[Address] | None = message.get_parsed_header("Contact")
    except MessageError:
        return None
    return found[0] if found and not found[0].is_wildcard else None


def _sip_uri(address: Address | None) -> SipUri | None:
    if address is None:
        return None
    try:
        uri = address.parsed_uri
    except MessageError:
        return None
    return uri if isinstance(uri, SipUri) else None


def first_hop(routes: list[str], target: Address | None, protocol: str) -> Hop | None:
    """Say where the first route, or else the target, leads."""
    address = target
    if routes:
        try:
            address = Address.parse(routes[0])
        except MessageError:
            return None
    uri = _sip_uri(address)
    return None if uri is None else hop_of(uri, protocol)


def _place_behind_nat(dialog: Dialog, flow: Flow) -> None:
    """Send packets back to where the peer's come from, but through the routes that there are."""
    dialog.flow = flow
    if not dialog.routes:
        dialog.hop = None


def place_uas(dialog: Dialog, flow: Flow, contact: Address | None, nat: str = "usual") -> None:
    """Decide where the packets of a dialog go that a peer asked for.

    Over a stream that is its connection. Over UDP the route set decides; without one, and when the
    Contact names another address than the request came from, a NAT is in between.

    :param nat: how it is looked for; see ``nat_detection`` of
        :class:`~drachtwist.server.config.ServerConfig`.
    """
    dialog.hop = first_hop(dialog.routes, contact, flow.protocol)
    if flow.reliable:
        dialog.flow = flow
        return
    if nat == "aggressive" and _says_nat(dialog, contact):
        _place_behind_nat(dialog, flow)
        return
    if dialog.routes or (nat == "off" and dialog.hop is not None):
        return
    uri = _sip_uri(contact)
    if (
        uri is None
        or uri.address != flow.remote_host
        or (uri.port is not None and uri.port != flow.remote_port)
    ):
        dialog.flow = flow
        dialog.hop = None
    elif uri.port == flow.remote_port and dialog.hop is not None and dialog.hop.protocol == "udp":
        dialog.flow = flow


def place_uac(dialog: Dialog, flow: Flow, contact: Address | None, nat: str = "usual") -> None:
    """Decide where the packets of a dialog go that we asked for.

    Over a WebSocket that is its connection, whatever the Contact says: nobody can open another one
    to a browser.

    :param flow: where the response came from that made it.
    :param nat: as of :func:`place_uas`.
    """
    dialog.hop = first_hop(dialog.routes, contact, flow.protocol)
    if flow.protocol in WEBSOCKETS:
        dialog.flow = flow
        return
    if nat == "aggressive" and _says_nat(dialog, contact):
        _place_behind_nat(dialog, flow)
        return
    if nat == "off" and dialog.hop is not None:
        return
    if dialog.routes:
        if dialog.hop is not None and _is_private(dialog.hop.host):
            dialog.flow = flow
        return
    uri = _sip_uri(contact)
    if uri is None or uri.address != flow.remote_host:
        dialog.flow = flow
        dialog.hop = None
    elif dialog.hop is not None and (dialog.hop.protocol, dialog.hop.host, dialog.hop.port) == (
        flow.protocol,
        flow.remote_host,
        flow.remote_port,
    ):
        dialog.flow = flow


def refresh_target(
    dialog: Dialog, message: Request | Response, flow: Flow, nat: str = "usual"
) -> None:
    """Let a dialog go where the Contact of a message says, if it has one.

    :param message: a request that was accepted, or the response that accepts it.
    :param flow: where it came from.
    :param nat: as of :func:`place_uas`.
    """
    contact = contact_of(message)
    if contact is None:
        return
    dialog.target = request_uri_of(contact.uri)
    dialog.flow = None
    place = place_uas if dialog.is_uas else place_uac
    place(dialog, flow, contact, nat)


def _says_nat(dialog: Dialog, contact: Address | None) -> bool:
    said = ([] if contact is None else [str(contact)]) + dialog.routes[:1]
    return any(";nat=yes" in text.lower() for text in said)


_PRIVATE = tuple(
    ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
)


def _is_private(host: str) -> bool:
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return any(address in network for network in _PRIVATE)
