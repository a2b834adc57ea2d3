"""Digest authentication of incoming requests (RFC 3261 section 22, RFC 7616, RFC 8760).

Nonces are not remembered: each carries the time at which it was made, and a keyed hash. What is
remembered, of so many nonces, is which counts were used, so that nobody can send the same
credentials twice. A nonce that is too old, or that was used like this before, costs an honest
client one more round trip (``stale=true``), and no question for the password.

A name that nobody has takes as much work as a wrong password, and gets the same answer.

Phones of today know MD5, and some nothing else: they refuse a response as soon as one of its
challenges has an algorithm that they do not know. So MD5 alone is the default. Where more is
offered (:data:`STRONG`), whoever comes back without credentials could use none of it, and is asked
with the last algorithm alone.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.defer import Deferred

from drachtwist import sip
from drachtwist.app.interfaces import Next
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.middleware.cred import DigestCredentials, check_checker, is_let_in
from drachtwist.middleware.daytime import time_of_day
from drachtwist.middleware.outside import may_refuse
from drachtwist.net.logs import Logger
from drachtwist.sip import digest

__all__ = ["STRONG", "DigestAuth", "Ha1", "Lookup", "authenticated_user"]

_log = Logger(namespace="drachtwist.middleware.digest")

STRONG = ("SHA-256", "MD5")
"""For ``DigestAuth(algorithms=...)``: SHA-256 for those who know it, MD5 for all others."""

_REMEMBERED = 86_400.0
"""Seconds for which it is known who did not answer a stronger challenge."""

_WINDOW = 64
"""How far the count of a nonce may lag behind the highest: requests overtake each other."""

_NOBODY = secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class Ha1:
    """What is kept of a password: the hash of name, realm and password, by algorithm.

    :func:`drachtwist.sip.digest.make_ha1` makes these.
    """

    hashes: Mapping[str, str]

    def for_algorithm(self, algorithm: str) -> str | None:
        """Return the hash for an algorithm; that of its ``-sess`` form is the same."""
        name = algorithm.upper().removesuffix("-SESS")
        return next((value for key, value in self.hashes.items() if key.upper() == name), None)


Secret = Union[str, Ha1, None]  # noqa: UP007 - evaluated on Python 3.10
Lookup = Callable[[str, str], "Secret | Awaitable[Secret] | Deferred[Secret]"]
"""Gives the password (or its hash) of a user name in a realm, now or later; None for nobody."""


def authenticated_user(req: Request) -> str | None:
    """Return the name that a request was let in with; None when nobody asked."""
    found = req.locals.get("authenticated_user")
    return found if isinstance(found, str) else None


class _Used:
    """The counts of one nonce that were used: the highest, and which of those below it."""

    __slots__ = ("highest", "seen")

    def __init__(self) -> None:
        self.highest = 0
        self.seen = 0

    def take(self, count: int) -> bool:
        """Use a count; False when it was used before, or may have been."""
        if count > self.highest:
            shift = count - self.highest
            self.seen = ((self.seen << shift) | 1) & ((1 << _WINDOW) - 1) if shift < _WINDOW else 1
            self.highest = count
            return True
        behind = self.highest - count
        if behind >= _WINDOW or self.seen >> behind & 1:
            return False
        self.seen |= 1 << behind
        return True


class DigestAuth:
    """Lets only those in who know their password.

    A request that is let in carries the name: :func:`authenticated_user`.

    :param realm: what the password is for; clients show it to people. With several tenants a
        function of the request, which gives None for a request that is nobody's (403).
    :param lookup: gives the password of a user name, see :data:`Lookup`; or a checker of
        ``twisted.cred`` that takes ``IUsernameHashedPassword`` or ``IUsernameDigestHash``.
    :param algorithms: what to offer: one, or several with the strongest first, as :data:`STRONG`.
        Of several, phones that know only MD5 may refuse all; they are let in when they try again,
        usually after half a minute.
    :param qop: ``auth``, or ``auth-int`` to have bodies covered too.
    :param proxy: challenge as a proxy does, with 407, instead of with 401.
    :param nonce_lifetime: seconds that a nonce can be used.
    :param key: what nonces are signed with, so that several processes accept each other's; each
        then has a memory of used counts of its own. Random unless given.
    :param max_nonces: how many nonces are remembered, those over count as too old; and how many
        clients that did not answer a stronger challenge.
    :param methods: which methods to ask for credentials; all if None.
    :param check_uri: refuse (400) credentials for another URI than that of the request. Proxies
        on the way may have rewritten it (RFC 3261 section 22.4), so this is for where there are
        none.
    :param on_failure: called with the request and the user name when credentials were wrong.
    :raises LocalProtocolError: for an algorithm or protection that is unknown here, and a checker
        that wants the password itself.
    """

    def __init__(
        self,
        realm: str | Callable[[Request], str | None],
        lookup: Lookup | ICredentialsChecker,
        *,
        algorithms: str | Sequence[str] = "MD5",
        qop: Iterable[str] = ("auth",),
        proxy: bool = False,
        nonce_lifetime: float = 300.0,
        key: bytes | None = None,
        max_nonces: int = 10_000,
        methods: Iterable[str] | None = None,
        check_uri: bool = False,
        on_failure: Callable[[Request, str], Any] | None = None,
    ) -> None:
        if not isinstance(realm, str) and not callable(realm):
            raise LocalProtocolError(
                f"realm takes text, or a function of the request, not {type(realm).__name__}"
            )
        self.realm = realm
        if not callable(lookup) and not ICredentialsChecker.providedBy(lookup):
            given = "None" if lookup is None else type(lookup).__name__
            raise LocalProtocolError(
                f"lookup takes a function, or a checker of twisted.cred, not {given}"
            )
        if ICredentialsChecker.providedBy(lookup):
            check_checker(lookup)
        self._lookup = lookup
        self._algorithms = (algorithms,) if isinstance(algorithms, str) else tuple(algorithms)
        self._qop = tuple(qop)
        for algorithm in self._algorithms:
            if algorithm.upper().removesuffix("-SESS") not in digest.ALGORITHMS:
                raise LocalProtocolError(f"unknown digest algorithm {algorithm!r}")
        if not self._algorithms or not self._qop or set(self._qop) - {"auth", "auth-int"}:
            raise LocalProtocolError("there must be an algorithm, and qop auth or auth-int")
        self._status = 407 if proxy else 401
        self._asking = "Proxy-Authenticate" if proxy else "WWW-Authenticate"
        self._giving = "Proxy-Authorization" if proxy else "Authorization"
        self._nonces = digest.Nonces(nonce_lifetime, key)
        self._used: OrderedDict[str, _Used] = OrderedDict()
        self._max_nonces = max_nonces
        # Who was asked with several algorithms, and when; and whether he came back without
        # credentials, so that he is asked with the last one from then on.
        self._unanswered: OrderedDict[tuple[str, ...], tuple[float, bool]] = OrderedDict()
        # Of nonces made before this nobody knows any more which counts were used.
        self._horizon = -1
        self._methods = None if methods is None else {method.upper() for method in methods}
        self._check_uri = check_uri
        self._on_failure = on_failure

    async def __call__(self, req: Request, res: Response, next: Next) -> None:
        """Ask for credentials, or look at them."""
        if not may_refuse(req) or (self._methods is not None and req.method not in self._methods):
            next()
            return
        realm = self.realm if isinstance(self.realm, str) else self.realm(req)
        if realm is None:
            res.send(403)
            return
        now = time_of_day(req.srf.clock)
        try:
            credentials = self._credentials(req, realm)
        except MessageError:
            res.send(400, f"Bad {self._giving} Header")
            return
        if credentials is None:
            self._challenge(res, realm, now, self._answerable(req, now))
            return
        if self._check_uri and not _same_uri(credentials.uri, req.uri):
            res.send(400, "Credentials For Another URI")
            return
        offered = self._answerable(req, now, came=True)
        if not self._nonces.is_ours(credentials.nonce):
            self._challenge(res, realm, now, offered)
            return
        if not await self._is_right(credentials, req, realm):
            _log.info(
                "wrong credentials of {user} from {peer}, Call-ID {call_id}",
                user=credentials.username,
                peer=req.source_address,
                call_id=req.get("Call-ID"),
            )
            if self._on_failure is not None:
                req._call(self._on_failure, req, credentials.username)
            if not res.finished:
                self._challenge(res, realm, now, offered)
            return
        if not self._nonces.is_fresh(credentials.nonce, now) or not self._is_first(credentials):
            self._challenge(res, realm, now, offered, stale=True)
            return
        req.locals["authenticated_user"] = credentials.username
        next()

    def _answerable(self, req: Request, now: float, *, came: bool = False) -> tuple[str, ...]:
        """Choose the algorithms that a client may be asked with.

        :param came: whether it brings credentials, so that it knows at least one of them.
        """
        algorithms = self._algorithms
        if len(algorithms) < 2:
            return algorithms
        call = "" if req.method == "REGISTER" else req.get("Call-ID") or ""
        try:
            who = (req.method, req.from_.uri, req.source_address, call)
        except MessageError:
            return algorithms
        known = self._unanswered.pop(who, None)
        if known is not None and now - known[0] > _REMEMBERED:
            known = None
        if came:
            if known is not None and known[1]:
                self._unanswered[who] = (now, True)
                return algorithms[-1:]
            return algorithms
        while len(self._unanswered) >= self._max_nonces:
            self._unanswered.popitem(last=False)
        self._unanswered[who] = (now, known is not None)
        return algorithms if known is None else algorithms[-1:]

    def _credentials(self, req: Request, realm: str) -> digest.Credentials | None:
        """Find the credentials for our realm."""
        for text in req.get_all(self._giving):
            for credentials in digest.Credentials.parse_list(text):
                if credentials.is_digest and credentials.realm == realm:
                    return credentials
        return None

    async def _is_right(self, credentials: digest.Credentials, req: Request, realm: str) -> bool:
        if ICredentialsChecker.providedBy(self._lookup):
            offered = {algorithm.upper() for algorithm in self._algorithms}
            if credentials.algorithm.upper() not in offered or credentials.qop not in self._qop:
                return False
            proof = DigestCredentials(credentials, method=req.method, body=req.body)
            return await is_let_in(self._lookup, proof)
        found: Any = self._lookup(credentials.username, realm)
        if isinstance(found, Deferred | Awaitable):
            found = await found
        offered = {algorithm.upper() for algorithm in self._algorithms}
        algorithm = credentials.algorithm
        possible = algorithm.upper() in offered and credentials.qop in self._qop
        secret: dict[str, str] = {"password": _NOBODY}
        if isinstance(found, Ha1):
            ha1 = found.for_algorithm(algorithm)
            if ha1 is not None:
                secret = {"ha1": ha1}
        elif found is not None:
            secret = {"password": str(found)}
        is_right = digest.verify(credentials, method=req.method, body=req.body, **secret)
        return is_right and possible and secret.get("password") != _NOBODY

    def _is_first(self, credentials: digest.Credentials) -> bool:
        """Return whether this count of the nonce is used for the first time."""
        nonce = credentials.nonce
        used = self._used.get(nonce)
        if used is None:
            if _stamp(nonce) <= self._horizon:
                return False
            while len(self._used) >= self._max_nonces:
                gone, _ = self._used.popitem(last=False)
                self._horizon = max(self._horizon, _stamp(gone))
            used = self._used[nonce] = _Used()
        return used.take(credentials.nonce_count or 0)

    def _challenge(
        self,
        res: Response,
        realm: str,
        now: float,
        algorithms: tuple[str, ...],
        *,
        stale: bool = False,
    ) -> None:
        nonce = self._nonces.make(now)
        challenges = [
            str(
                digest.Challenge.digest(
                    realm, nonce, algorithm=algorithm, qop=self._qop, stale=stale
                )
            )
            for algorithm in algorithms
        ]
        res.send(self._status, headers={self._asking: challenges})


def _stamp(nonce: str) -> int:
    """Return the time at which a nonce of ours was made, in milliseconds."""
    return int(nonce.partition(".")[0], 16)


def _same_uri(given: str, requested: str) -> bool:
    if given == requested:
        return True
    try:
        return sip.Uri.parse(given).equivalent(sip.Uri.parse(requested))
    except MessageError:
        return False
