"""Answering the challenges to requests of ours (RFC 3261 section 22, RFC 7616, RFC 8760).

Several may ask: proxies one behind the other, all that a forking proxy has tried, and who is called
in the end. Each has a realm of its own. What one was answered is kept for what follows, so that the
others let the repetition pass: one answer for each header and realm (:class:`Realms`), for the
retry, and for the requests in the dialog that comes of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Union

from twisted.internet.defer import Deferred

from drachtwist import sip
from drachtwist.app.outcomes import started
from drachtwist.app.received import ReceivedResponse
from drachtwist.errors import MessageError
from drachtwist.net.logs import Logger
from drachtwist.sip import digest
from drachtwist.sip.encoding import encoded_body
from drachtwist.sip.headers import HeadersLike

__all__ = [
    "Auth",
    "Challenged",
    "Credentials",
    "Nonces",
    "Realms",
    "credentials_of",
    "place_of",
    "source_of",
]

_log = Logger(namespace="drachtwist.app.authentication")

Credentials = tuple[str, str]
"""A user name and a password."""

Auth = Union[  # noqa: UP007 - evaluated on Python 3.10
    Credentials,
    Callable[
        [str, sip.Request, ReceivedResponse],
        "Credentials | Awaitable[Credentials | None] | Deferred[Credentials | None] | None",
    ],
]
"""Credentials, or a function that gives them for a realm, the request and the challenge: now, or
later, or None when it has none."""

_CHALLENGES = {"WWW-Authenticate": "Authorization", "Proxy-Authenticate": "Proxy-Authorization"}
_MAX_CHALLENGES = 4


MAX_PLACES = 1_000
"""How many servers' nonces are kept; those that were not used for longest are forgotten."""


def place_of(uri: str) -> str:
    """Name who asks for credentials: host and port of a SIP URI."""
    _, user, host = uri.rpartition("@")
    where = host if user else uri.partition(":")[2]
    return where.partition(";")[0].partition("?")[0].lower()


def source_of(response: ReceivedResponse) -> str:
    """Return the URI of where a challenge came from: its answer goes there."""
    host = response.source_address
    host = f"[{host}]" if ":" in host else host
    protocol = response.protocol
    via = (response.get("Via") or "").upper()
    if via.startswith(("SIP/2.0/WS ", "SIP/2.0/WSS ")):
        protocol = via[8:11].strip().lower()  # the server says TCP of a WebSocket
    transport = f";transport={protocol}" if protocol != "udp" else ""
    return f"sip:{host}:{response.source_port}{transport}"


def credentials_of(invite: bytes) -> list[tuple[str, str]]:
    """Return the headers that the ACK of a 2xx repeats of its INVITE (RFC 3261 section 13.2.2.4).

    :param invite: the INVITE as it was sent.
    """
    if b"uthorization:" not in invite:  # as servers write it
        return []
    headers = sip.Headers.from_bytes(invite)
    return [(name, value) for name in _CHALLENGES.values() for value in headers.get_all(name)]


class Kept:
    """A challenge that was answered, with what, and how often its nonce was used."""

    __slots__ = ("_challenge", "_count", "_password", "_username")

    def __init__(self, challenge: digest.Challenge, credentials: Credentials) -> None:
        self._challenge = challenge
        self._username, self._password = credentials
        self._count = 0

    def answer(self, method: str, uri: str, body: bytes) -> str:
        """Answer the challenge once more."""
        self._count += 1
        made = digest.answer(
            self._challenge,
            username=self._username,
            password=self._password,
            method=method,
            uri=uri,
            body=body,
            nonce_count=self._count,
        )
        return str(made)


Answers = dict[tuple[str, str], Kept]
"""What was answered, by header and realm."""


class Realms:
    """What was answered in a request and its repetitions, or in a dialog.

    :param auth: the credentials.
    """

    __slots__ = ("_kept", "auth", "uri")

    def __init__(self, auth: Auth) -> None:
        self.auth = auth
        self.uri = ""
        """The Request-URI of the requests in a dialog."""
        self._kept: Answers = {}

    def __bool__(self) -> bool:
        """Return whether anything was answered."""
        return bool(self._kept)

    def adopt(self, kept: Mapping[tuple[str, str], Kept]) -> None:
        """Answer what was asked for before."""
        self._kept.update(kept)

    def joined(self, headers: HeadersLike, method: str, uri: str, body: bytes | str) -> HeadersLike:
        """Return the headers of a request with all answers, in place of the application's."""
        if not self._kept:
            return headers
        octets = encoded_body(body)
        joined = sip.Headers(headers)
        joined.replace(
            [(header, kept.answer(method, uri, octets)) for (header, _), kept in self._kept.items()]
        )
        return joined.items()


class Nonces:
    """Challenges that were answered: the next request answers them before it is asked to.

    That saves a round trip (RFC 7616 section 3.6). When the nonce is too old meanwhile, the new
    challenge is answered as any other. Only credentials that are given as such are used so, not
    those of functions, which want to see the challenge.
    """

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[str, Any], Answers] = OrderedDict()

    def keep(self, place: str, auth: Auth, kept: Answers) -> None:
        """Note challenges that are being answered."""
        if callable(auth):
            return
        key = (place, auth)
        self._places.setdefault(key, {}).update(kept)
        self._places.move_to_end(key)
        while len(self._places) > MAX_PLACES:
            self._places.popitem(last=False)

    def find(self, place: str, auth: Auth) -> Answers:
        """Return what was answered there before; nothing when nobody has asked."""
        if callable(auth) or not self._places:
            return {}
        kept = self._places.get((place, auth))
        if kept is None:
            return {}
        self._places.move_to_end((place, auth))
        return kept

    def forget(self, place: str, auth: Auth) -> None:
        """Answer nothing there before it is asked: the credentials were wrong."""
        if not callable(auth):
            self._places.pop((place, auth), None)


class Challenged:
    """A request that may be challenged: what it takes to send it again.

    :param realms: what was answered in its dialog, or nothing yet.
    """

    __slots__ = ("_answered", "_count", "body", "headers", "realms", "request")

    def __init__(self, realms: Realms) -> None:
        self.realms = realms
        self.headers: HeadersLike = None
        """Those of the application."""
        self.body: bytes | str = b""
        self.request: sip.Request | None = None
        """As it was sent last."""
        # Header and realm of what was asked for since the request was sent for the first time.
        self._answered: set[tuple[str, str]] = set()
        self._count = 0

    def may_answer(self) -> bool:
        """Return whether another challenge is to be answered."""
        return self.request is not None and self._count < _MAX_CHALLENGES

    def move(self) -> None:
        """Go to somebody else, who is told nothing of what others were."""
        self.realms = Realms(self.realms.auth)
        self._answered = set()

    def answer(
        self, response: ReceivedResponse, nonces: Nonces | None = None, place: str = ""
    ) -> Deferred[bool]:
        """Answer the challenges of a response, with what :attr:`realms` gives from now on.

        Of several challenges for a realm the strongest that is known here is answered. One that was
        answered before is not answered again, unless only its nonce was too old.

        :param nonces: where to keep the challenges for further requests.
        :param place: who sent them.
        :returns: whether there is anything more to try.
        """
        return started(self._answer(response, nonces, place))

    async def _answer(self, response: ReceivedResponse, nonces: Nonces | None, place: str) -> bool:
        request = self.request
        assert request is not None, "asked may_answer before"
        self._count += 1
        auth = self.realms.auth
        found: Answers = {}
        for header, realm, challenge in _challenges(response):
            key = (header, realm)
            if key in self._answered and not challenge.stale:
                # A wrong password. Behind a proxy that forks there may be others who take theirs.
                if nonces is not None:
                    nonces.forget(place, auth)
                continue
            self._answered.add(key)
            credentials: Any = auth(realm, request, response) if callable(auth) else auth
            if isinstance(credentials, Deferred | Awaitable):
                credentials = await credentials
            if credentials is not None:
                found[key] = Kept(challenge, credentials)
        self.realms.adopt(found)
        self.realms.uri = request.uri
        if nonces is not None and found:
            nonces.keep(place, auth, found)
        return bool(found)


def _challenges(response: ReceivedResponse) -> list[tuple[str, str, digest.Challenge]]:
    """Return the challenge to answer for each header of credentials and realm."""
    found = []
    for asking, giving in _CHALLENGES.items():
        by_realm: dict[str, list[digest.Challenge]] = {}
        for text in response.get_all(asking):
            try:
                for challenge in digest.Challenge.parse_list(text):
                    if challenge.is_digest:
                        by_realm.setdefault(challenge.realm, []).append(challenge)
            except MessageError as error:
                _log.info("a challenge cannot be read: {error}", error=error)
        for realm, challenges in by_realm.items():
            best = digest.choose(challenges)
            if best is not None:
                found.append((giving, realm, best))
    return found
