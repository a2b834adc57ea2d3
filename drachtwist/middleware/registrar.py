"""Registrations (RFC 3261 section 10): reading them, keeping them, finding people.

:func:`parse_registration` reads a REGISTER; :class:`Registrar` answers them and keeps the bindings
in a store, which is memory unless another :class:`ILocationStore` is given. Changes of one address
of record happen one after the other, also when the store takes its time.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import Interface, implementer

from drachtwist import sip
from drachtwist.app.exchange import Request, Response
from drachtwist.app.interfaces import Next
from drachtwist.errors import MessageError
from drachtwist.middleware.digest import authenticated_user
from drachtwist.sip.fields import parse_expires
from drachtwist.sip.uri import is_sip_uri

__all__ = [
    "Binding",
    "ContactBinding",
    "ILocationStore",
    "MemoryLocationStore",
    "Registrar",
    "Registration",
    "RegistrationError",
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
    """The Path headers (RFC 3327)."""

    @property
    def is_query(self) -> bool:
        """Whether it only asks which bindings there are."""
        return not self.contacts and not self.is_wildcard


def address_of_record(uri: str) -> str:
    """Give a SIP URI in the form that addresses of record are compared in.

    :raises MessageError: when it is no SIP URI.
    """
    parsed = sip.Uri.parse(uri)
    if not isinstance(parsed, sip.SipUri):
        raise MessageError(f"no SIP URI: {uri!r}")
    user = parsed.user_text
    at = "" if user is None else f"{user}@"
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
    path = tuple(req.get_all("Path"))
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
                int(reg_id) if reg_id.isascii() and reg_id.isdigit() else None,
            )
        )
    return Registration(aor, tuple(found), False, call_id, cseq, path)


def _seconds(text: str | None, default: int) -> int:
    """Read a number of seconds; what cannot be read counts as the default (section 10.3)."""
    try:
        return default if text is None else parse_expires(text)
    except MessageError:
        return default


@dataclass(frozen=True, slots=True)
class Binding:
    """Where somebody can be reached."""

    uri: str
    """The URI that the phone gave."""
    expires_at: float
    """Seconds on the application's clock."""
    q: float | None
    call_id: str
    cseq: int
    path: tuple[str, ...] = ()
    instance: str | None = None
    reg_id: int | None = None
    source: str = ""
    """``address:port`` that the REGISTER came from."""
    protocol: str = ""
    """``udp``, ``tcp`` or ``tls``: how it came."""

    def is_for(self, contact: ContactBinding) -> bool:
        """Whether a Contact means this binding: the same phone, or the same URI."""
        if contact.instance and contact.reg_id is not None:
            return self.instance == contact.instance and self.reg_id == contact.reg_id
        if self.uri == contact.uri:
            return True
        try:
            return sip.Uri.parse(self.uri).equivalent(sip.Uri.parse(contact.uri))
        except MessageError:
            return False


class ILocationStore(Interface):
    """Keeps bindings; every method may return a Deferred."""

    def find(aor: str) -> Any:
        """Give the bindings of an address of record: a list of :class:`Binding`."""

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
        """Give the bindings of an address of record."""
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
        address of record; by default when the user part is his name.
    :param on_change: called with the address of record and its bindings after each change.
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
        may_register: Callable[[str | None, str], bool] | None = None,
        on_change: Callable[[str, list[Binding]], Any] | None = None,
    ) -> None:
        self.store = MemoryLocationStore() if store is None else store
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
        self._clock: IReactorTime | None = None

    async def __call__(self, req: Request, res: Response, next: Next) -> None:
        """Answer a REGISTER; hand everything else on."""
        if req.method != "REGISTER":
            next()
            return
        self._clock = req.srf.clock
        try:
            registration = parse_registration(req, **self._times)
            self._check(req, registration)
            bindings = await self._one_by_one(registration, req)
        except RegistrationError as error:
            res.send(error.status, error.reason, error.headers)
            return
        if not res.finished:
            now = self._clock.seconds()
            headers: dict[str, Any] = {"Contact": [_written(one, now) for one in bindings]}
            if registration.path:
                headers["Path"] = list(registration.path)
            res.send(200, headers={name: value for name, value in headers.items() if value})

    async def find(self, aor: str) -> list[Binding]:
        """Give the bindings of an address of record, the best first.

        :param aor: a SIP URI.
        :raises MessageError: when it is none.
        """
        found = await _result(self.store.find(address_of_record(aor)))
        now = self._clock.seconds() if self._clock is not None else 0.0
        alive = [one for one in found if one.expires_at > now]
        return sorted(alive, key=lambda one: -(1.0 if one.q is None else one.q))

    def _check(self, req: Request, registration: Registration) -> None:
        host = registration.aor.partition(":")[2].rpartition("@")[2]
        if self._domains is not None and host not in self._domains:
            raise RegistrationError(404)
        if not self._may_register(authenticated_user(req), registration.aor):
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
        now = req.srf.clock.seconds()
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
                bindings.append(
                    Binding(
                        contact.uri,
                        now + contact.expires,
                        contact.q,
                        registration.call_id,
                        registration.cseq,
                        registration.path,
                        contact.instance,
                        contact.reg_id,
                        f"{req.source_address}:{req.source_port}",
                        req.protocol,
                    )
                )
        if len(bindings) > self._max_contacts:
            raise RegistrationError(403, "Too Many Contacts")
        await _result(self.store.save(registration.aor, bindings))
        if self._on_change is not None:
            req._call(self._on_change, registration.aor, list(bindings))
        return bindings


async def _result(value: Any) -> Any:
    return await value if isinstance(value, Deferred) else value


def _own_name_only(user: str | None, aor: str) -> bool:
    return user is None or aor.partition(":")[2].rpartition("@")[0] == user


def _written(binding: Binding, now: float) -> str:
    """Write a binding as a Contact of the answer."""
    q = "" if binding.q is None else f";q={binding.q:g}"
    left = max(int(binding.expires_at - now + 0.5), 0)
    return f"<{binding.uri}>{q};expires={left}"
