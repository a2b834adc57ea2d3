"""Where people can be reached, and what keeps that.

A :class:`Binding` is one place of one address of record, with the way that leads there. A phone
behind a NAT says where it is in its own network; from outside it can be reached only where its
REGISTER came from, and over the connection that it made. Requests take a Path if the REGISTER had
one (RFC 3327): then a proxy at the edge knows the rest.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zope.interface import Interface, implementer

from drachtwist import sip
from drachtwist.errors import MessageError

__all__ = ["Binding", "ILocationStore", "MemoryLocationStore", "is_behind_nat"]


@dataclass(frozen=True, slots=True)
class Binding:
    """Where somebody can be reached; may be called as it is, in place of a URI."""

    uri: str
    """The URI that the phone gave."""
    expires_at: float
    """When, in seconds since 1970; on the clock of the application where that is a made-up one."""
    q: float | None
    call_id: str
    cseq: int
    path: tuple[str, ...] = ()
    """The Path that the REGISTER took, one address an item, the next hop first (RFC 3327)."""
    instance: str | None = None
    reg_id: int | None = None
    source: str = ""
    """``address:port`` that the REGISTER came from; an IPv6 address stands in brackets."""
    protocol: str = ""
    """``udp``, ``tcp`` (also for WebSockets) or ``tls``: how it came."""
    behind_nat: bool = False
    """Whether the URI leads nowhere from here."""

    @property
    def route(self) -> str:
        """Where requests are sent to instead of :attr:`uri`; empty when that is the way.

        It is the way too for a phone that registered over a connection: servers know that
        connection under the URI.
        """
        if self.path:
            try:
                return sip.Address.parse(self.path[0]).uri
            except MessageError:
                return ""
        if self.behind_nat and self.protocol == "udp" and self.source:
            return f"sip:{self.source}"
        return ""

    @property
    def place(self) -> str:
        """The URI that a proxy sends requests to, and writes into them (not for a Path)."""
        if not self.behind_nat or not self.source:
            return self.uri
        try:
            parsed = sip.Uri.parse(self.uri)
        except MessageError:
            return self.uri
        if not isinstance(parsed, sip.SipUri) or parsed.host.lower().endswith(".invalid"):
            return self.uri  # a server knows the connection of a browser under its name
        host, _, port = self.source.rpartition(":")
        params = parsed.params.without("maddr")
        if self.protocol in ("tcp", "tls"):
            params = params.with_("transport", self.protocol)
        user = "" if parsed.user is None else f"{parsed.user}@"
        return f"{parsed.scheme}:{user}{host}:{port}{params}"

    def is_for(self, contact: Any) -> bool:
        """Return whether a :class:`ContactBinding` means this: the same phone, or the same URI."""
        if contact.instance and contact.reg_id is not None:
            return bool(self.instance == contact.instance and self.reg_id == contact.reg_id)
        if self.uri == contact.uri:
            return True
        try:
            return sip.Uri.parse(self.uri).equivalent(sip.Uri.parse(contact.uri))
        except MessageError:
            return False


def is_behind_nat(req: Any, uri: str) -> bool:
    """Return whether a phone says that it is somewhere else than where its REGISTER came from.

    That is so when it calls itself something else in its Via, or registers a private address while
    it comes from a public one. What came through a proxy says nothing of the phone.

    :param req: the REGISTER.
    :param uri: the Contact.
    """
    try:
        vias = req.vias
        contact = sip.Uri.parse(uri)
    except MessageError:
        return False
    if len(vias) != 1 or not isinstance(contact, sip.SipUri):
        return False
    source = req.source_address
    if contact.address == source and (contact.port or 5060) == req.source_port:
        return False
    calls_itself: str = vias[0].host.strip("[]")
    if calls_itself != source:
        return True
    return _is_private(contact.address) and not _is_private(source)


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


class ILocationStore(Interface):
    """Keeps bindings. Every method may return a Deferred, or be ``async def``.

    What has expired may be kept, and given: it does not count.
    """

    def find(aor: str) -> Any:
        """Return the bindings of an address of record: a list of :class:`Binding`.

        :param aor: in the form of :func:`address_of_record`.
        """

    def save(aor: str, bindings: Sequence[Binding]) -> Any:
        """Keep these bindings of an address of record, and no others; none when there are none."""


@implementer(ILocationStore)
class MemoryLocationStore:
    """Keeps bindings in memory, until they expire.

    :param max_aors: addresses of record to keep; when there are more, the one that was not saved
        for longest is forgotten.
    """

    def __init__(self, max_aors: int = 100_000) -> None:
        self._max = max_aors
        self._kept: OrderedDict[str, tuple[Binding, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, aor: str) -> list[Binding]:
        """Return the bindings of an address of record."""
        return list(self._kept.get(aor, ()))

    def save(self, aor: str, bindings: Sequence[Binding]) -> None:
        """Keep these bindings."""
        if not bindings:
            self._kept.pop(aor, None)
            return
        self._kept[aor] = tuple(bindings)
        self._kept.move_to_end(aor)
        while len(self._kept) > self._max:
            self._kept.popitem(last=False)

    def purge(self, now: float) -> None:
        """Forget what has expired."""
        for aor in [
            aor for aor, kept in self._kept.items() if all(one.expires_at <= now for one in kept)
        ]:
            del self._kept[aor]
