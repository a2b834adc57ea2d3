"""Registrations (RFC 3261 section 10): reading them, keeping them, finding people.

:func:`parse_registration` reads a REGISTER; :class:`Registrar` answers them and keeps the bindings
in a store, which is memory unless another :class:`ILocationStore` is given. Changes of one address
of record happen one after the other, also when the store takes its time. What a binding is, and how
a phone behind a NAT is reached, is in :mod:`~drachtwist.middleware.bindings`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IReactorTime

from drachtwist import sip
from drachtwist.app.interfaces import Next
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.app.srf import Srf
from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.middleware.bindings import (
    Binding,
    ILocationStore,
    MemoryLocationStore,
    is_behind_nat,
)
from drachtwist.middleware.daytime import time_of_day
from drachtwist.middleware.digest import authenticated_user
from drachtwist.middleware.keepalive import KeepAlive
from drachtwist.net.logs import Logger
from drachtwist.sip import grammar
from drachtwist.sip.fields import parse_expires
from drachtwist.sip.uri import is_sip_uri, normal_user

__all__ = [
    "Binding",
    "ContactBinding",
    "ILocationStore",
    "MemoryLocationStore",
    "Registrar",
    "Registration",
    "RegistrationError",
    "address_of_record",
    "parse_registration",
]

_log = Logger(namespace="drachtwist.middleware.registrar")


class RegistrationError(MessageError):
    """A REGISTER that cannot be obeyed: ``status``, ``reason`` and ``headers`` are the answer."""

    def __init__(
        self, status: int, reason: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(reason or str(status))
        self.status = status
        self.reason = reason
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class ContactBinding:
    """One Contact of a REGISTER."""

    uri: str
    expires: int
    """Seconds; 0 to be removed."""
    q: float | None
    instance: str | None
    """The ``+sip.instance`` of the phone (RFC 5626)."""
    reg_id: int | None


@dataclass(frozen=True, slots=True)
class Registration:
    """A REGISTER that was read."""

    aor: str
    """The address of record, ``sip:user@host``, in the form to compare."""
    contacts: tuple[ContactBinding, ...]
    is_wildcard: bool
    """``Contact: *``: remove all bindings."""
    call_id: str
    cseq: int
    path: tuple[str, ...]
    """The Path, one address an item (RFC 3327)."""

    @property
    def is_query(self) -> bool:
        """Whether it only asks which bindings there are."""
        return not self.contacts and not self.is_wildcard


def address_of_record(uri: str) -> str:
    """Return a SIP URI in the form in which addresses of record compare (RFC 3261 section 10.3).

    That is scheme, user and host: no port, no parameters, no escapes that make no difference.

    :raises MessageError: when it is no SIP URI.
    """
    parsed = sip.Uri.parse(uri)
    if not isinstance(parsed, sip.SipUri):
        raise MessageError(f"no SIP URI: {uri!r}")
    at = "" if parsed.user is None else f"{normal_user(parsed.user)}@"
    return f"{parsed.scheme.lower()}:{at}{parsed.host.lower()}"


def parse_registration(
    req: sip.Request,
    *,
    min_expires: int = 60,
    default_expires: int = 3600,
    max_expires: int = 86_400,
) -> Registration:
    """Read a REGISTER (RFC 3261 section 10.3).

    :param min_expires: seconds; a shorter time, but for 0, is refused with 423.
    :param default_expires: seconds when the phone says none.
    :param max_expires: seconds; a longer time is cut.
    :raises RegistrationError: 400 for what cannot be read, 423 for a time that is too short.
    """
    name = "To"
    try:
        aor = address_of_record(req.to.uri)
        name = "CSeq"
        cseq = req.cseq.number
        name = "Contact"
        contacts = req.contacts
        for contact in contacts:
            if not contact.is_wildcard:
                sip.Uri.parse(contact.uri)
    except MessageError as error:
        raise RegistrationError(400, f"Bad {name} Header") from error
    call_id = req.get("Call-ID") or ""
    try:
        path = tuple(map(str, req.get_parsed_header("Path") or ()))
    except MessageError as error:
        raise RegistrationError(400, "Bad Path Header") from error
    overall = _seconds(req.get("Expires"), default_expires)
    if any(contact.is_wildcard for contact in contacts):
        if len(contacts) > 1 or overall != 0 or req.get("Expires") is None:
            raise RegistrationError(400, "Contact * Must Be Alone With Expires 0")
        return Registration(aor, (), True, call_id, cseq, path)
    found = []
    for contact in contacts:
        params = contact.params
        expires = _seconds(params.get("expires"), overall)
        if 0 < expires < min_expires:
            raise RegistrationError(423, None, {"Min-Expires": str(min_expires)})
        try:
            q = None if params.get("q") is None else float(params.get("q") or "")
        except ValueError:
            q = None
        reg_id = params.get("reg-id") or ""
        found.append(
            ContactBinding(
                contact.uri,
                min(expires, max_expires),
                q if q is None or 0 <= q <= 1 else None,
                params.text("+sip.instance"),
                grammar.decimal(reg_id),
            )
        )
    return Registration(aor, tuple(found), False, call_id, cseq, path)


def _seconds(text: str | None, default: int) -> int:
    """Read a number of seconds; what cannot be read counts as the default (section 10.3)."""
    try:
        return default if text is None else parse_expires(text)
    except MessageError:
        return default


class Registrar:
    """Answers REGISTER, as middleware: ``srf.use(registrar)`` or ``srf.register(registrar)``.

    Behind a :class:`~drachtwist.middleware.DigestAuth`, people may register only what carries their
    own name.

    :param store: where the bindings are kept; memory if None.
    :param domains: the hosts that it is responsible for; others get 404. All if None.
    :param min_expires: seconds, see :func:`parse_registration`.
    :param default_expires: likewise.
    :param max_expires: likewise.
    :param max_contacts: how many bindings each address of record may have; 403 for more.
    :param may_register: says whether an authenticated user (None when nobody asked) may register an
        address of record, now or later; by default when the user part is his name.
    :param on_change: called with the address of record, as the phone wrote it, and its bindings
        after each change. :func:`address_of_record` gives the form in which they are kept.
    :param behind_nat: says for a REGISTER and a Contact of it whether the phone can be reached only
        where the REGISTER came from; :func:`is_behind_nat` if None.
    :param nat_expires: seconds, instead of ``max_expires``, for phones behind a NAT: those that
        register again before their NAT forgets them need nothing else. It may be shorter than
        ``min_expires``.
    :param nat_keep_alive: seconds after which such phones are sent an OPTIONS, again and again.
    :param clock: tells the time in place of the time of day; that of the application if None.
    """

    handles = ("REGISTER",)
    """The methods that it answers, so that ``srf.use(registrar)`` is enough to get them."""

    def __init__(
        self,
        store: Any = None,
        *,
        domains: Iterable[str] | None = None,
        min_expires: int = 60,
        default_expires: int = 3600,
        max_expires: int = 86_400,
        max_contacts: int = 10,
        may_register: Callable[[str | None, str], Any] | None = None,
        on_change: Callable[[str, list[Binding]], Any] | None = None,
        behind_nat: Callable[[Request, str], bool] | None = None,
        nat_expires: int | None = None,
        nat_keep_alive: float | None = None,
        clock: IReactorTime | None = None,
    ) -> None:
        self.store = MemoryLocationStore() if store is None else store
        for name, seconds in (
            ("min_expires", min_expires),
            ("default_expires", default_expires),
            ("max_expires", max_expires),
        ):
            if not isinstance(seconds, int) or isinstance(seconds, bool):
                given = type(seconds).__name__
                raise LocalProtocolError(f"{name} takes a number of seconds, not {given}")
        self._domains = None if domains is None else {domain.lower() for domain in domains}
        self._times = {
            "min_expires": min_expires,
            "default_expires": default_expires,
            "max_expires": max_expires,
        }
        self._max_contacts = max_contacts
        self._may_register = may_register or _own_name_only
        self._on_change = on_change
        self._locks: dict[str, tuple[DeferredLock, int]] = {}
        self._clock = clock
        self._srf: Srf | None = None
        self._behind_nat = behind_nat or is_behind_nat
        self._nat_expires = nat_expires
        self._keep_alive: KeepAlive | None = None
        if nat_keep_alive is not None:
            self._keep_alive = KeepAlive(nat_keep_alive, self._now)

    async def __call__(self, req: Request, res: Response, next: Next) -> None:
        """Answer a REGISTER; hand everything else on."""
        if req.method != "REGISTER":
            next()
            return
        self._srf = req.srf
        try:
            registration = parse_registration(req, **self._times)
            await self._check(req, registration)
            bindings = await self._one_by_one(registration, req)
        except RegistrationError as error:
            res.send(error.status, error.reason, error.headers)
            return
        if not res.finished:
            now = self._now()
            headers: dict[str, Any] = {"Contact": [_written(one, now) for one in bindings]}
            if registration.path:
                headers["Path"] = req.get_all("Path")
            if _keeps_flow(req, registration):
                headers["Require"] = ["outbound"]
            res.send(200, headers={name: value for name, value in headers.items() if value})

    async def find(self, aor: str) -> list[Binding]:
        """Return the bindings of an address of record: the best first, then the latest.

        :param aor: a SIP URI, in any spelling.
        :raises MessageError: when it is none.
        """
        found = await _result(self.store.find(address_of_record(aor)))
        now = self._now()
        alive = [one for one in found if one.expires_at > now]
        return sorted(alive, key=lambda one: (-(1.0 if one.q is None else one.q), -one.expires_at))

    def _now(self) -> float:
        """Return the time of day, which is the same after a restart, unless time is made up."""
        clock = self._clock
        if clock is None and self._srf is not None:
            clock = self._srf.clock  # not kept: an application may go by another one later
        return time_of_day(clock)

    async def _check(self, req: Request, registration: Registration) -> None:
        # As many to be removed as to be added; each is compared with each binding.
        if len(registration.contacts) > 2 * self._max_contacts:
            raise RegistrationError(403, "Too Many Contacts")
        host = registration.aor.partition(":")[2].rpartition("@")[2]
        if self._domains is not None and host not in self._domains:
            raise RegistrationError(404)
        if not await _result(self._may_register(authenticated_user(req), registration.aor)):
            raise RegistrationError(403)

    async def _one_by_one(self, registration: Registration, req: Request) -> list[Binding]:
        """Change an address of record when nobody else does."""
        aor = registration.aor
        lock, users = self._locks.get(aor, (DeferredLock(), 0))
        self._locks[aor] = (lock, users + 1)
        await lock.acquire()
        try:
            return await self._change(registration, req)
        finally:
            _, users = self._locks[aor]
            if users > 1:
                self._locks[aor] = (lock, users - 1)
            else:
                del self._locks[aor]
            lock.release()

    async def _change(self, registration: Registration, req: Request) -> list[Binding]:
        now = self._now()
        found = await _result(self.store.find(registration.aor))
        bindings = [one for one in found if one.expires_at > now]
        if registration.is_query:
            return bindings
        for one in bindings:
            # A request that was overtaken changes nothing, not even in part (section 10.3).
            concerned = registration.is_wildcard or any(map(one.is_for, registration.contacts))
            late = one.call_id == registration.call_id and registration.cseq <= one.cseq
            if concerned and late:
                raise RegistrationError(500, "Out Of Order")
        if registration.is_wildcard:
            bindings = []
        for contact in registration.contacts:
            bindings = [one for one in bindings if not one.is_for(contact)]
            if contact.expires and is_sip_uri(contact.uri):  # nobody can be called elsewhere
                behind_nat = self._behind_nat(req, contact.uri)
                expires = contact.expires
                if behind_nat and self._nat_expires is not None:
                    expires = min(expires, self._nat_expires)
                bindings.append(
                    Binding(
                        contact.uri,
                        now + expires,
                        contact.q,
                        registration.call_id,
                        registration.cseq,
                        registration.path,
                        contact.instance,
                        contact.reg_id,
                        _source(req),
                        req.protocol,
                        behind_nat,
                    )
                )
        if len(bindings) > self._max_contacts:
            raise RegistrationError(403, "Too Many Contacts")
        await _result(self.store.save(registration.aor, bindings))
        if self._on_change is not None:
            req._call(self._on_change, req.to.uri, list(bindings))
        if self._keep_alive is not None:
            self._keep_alive.watch(req.srf, registration.aor, bindings)
        return bindings


async def _result(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value


def _own_name_only(user: str | None, aor: str) -> bool:
    parsed = sip.Uri.parse(aor)
    assert isinstance(parsed, sip.SipUri), "an address of record"
    return user is None or parsed.user_text == user


def _source(req: Request) -> str:
    host = req.source_address
    return f"[{host}]:{req.source_port}" if ":" in host else f"{host}:{req.source_port}"


def _keeps_flow(req: Request, registration: Registration) -> bool:
    """Return whether the server keeps the connection that a phone made, as RFC 5626 has it.

    It does for streams, and only without a proxy in between, which would have to do that.
    """
    return (
        req.protocol in ("tcp", "tls")
        and not registration.path
        and len(req.get_all("Via")) == 1
        and any(one.instance and one.reg_id is not None for one in registration.contacts)
        and "outbound" in map(str.lower, req.get_parsed_header("Supported") or ())
    )


def _written(binding: Binding, now: float) -> str:
    """Write a binding as a Contact of the answer."""
    q = "" if binding.q is None else f";q={binding.q:g}"
    left = max(int(binding.expires_at - now + 0.5), 0)
    return f"<{binding.uri}>{q};expires={left}"
