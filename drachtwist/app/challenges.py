"""Answering the challenges to requests of ours (RFC 3261 section 22, RFC 7616, RFC 8760)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Union

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from drachtwist import sip
from drachtwist.app.exchange import ReceivedResponse
from drachtwist.errors import MessageError
from drachtwist.sip import digest

__all__ = ["Auth", "Challenged", "Credentials", "Nonces", "answer_challenges", "place_of"]

_log = Logger(namespace="drachtwist.app.challenges")

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
    return uri.rpartition("@")[2].partition(";")[0].partition("?")[0].lower()


class _Kept:
    """A challenge that was answered, and how often its nonce was used."""

    __slots__ = ("challenge", "count", "uri")

    def __init__(self, challenge: digest.Challenge, uri: str) -> None:
        self.challenge = challenge
        self.count = 1
        self.uri = uri


class Nonces:
    """Challenges that were answered: the next request answers them before it is asked to.

    That saves a round trip (RFC 7616 section 3.6). When the nonce is too old meanwhile, the new
    challenge is answered as any other. Only credentials that are given as such are used so, not
    those of functions, which want to see the challenge.
    """

    def __init__(self) -> None:
        self._places: OrderedDict[tuple[str, Any], dict[tuple[str, str], _Kept]] = OrderedDict()

    def keep(
        self, place: str, auth: Auth, header: str, challenge: digest.Challenge, uri: str
    ) -> None:
        """Note a challenge that is being answered."""
        if callable(auth):
            return
        key = (place, auth)
        self._places.setdefault(key, {})[header, challenge.realm] = _Kept(challenge, uri)
        self._places.move_to_end(key)
        while len(self._places) > MAX_PLACES:
            self._places.popitem(last=False)

    def headers(
        self, place: str, auth: Auth, method: str, uri: str | None, body: bytes | str
    ) -> list[tuple[str, str]]:
        """Give the headers that answer what was asked before; none when nothing was.

        :param uri: the Request-URI; that of the last request if None.
        """
        if callable(auth) or not self._places:
            return []
        kept = self._places.get((place, auth))
        if kept is None:
            return []
        self._places.move_to_end((place, auth))
        username, password = auth
        found = []
        for (header, _), one in kept.items():
            one.count += 1
            made = digest.answer(
                one.challenge,
                username=username,
                password=password,
                method=method,
                uri=one.uri if uri is None else uri,
                body=body if isinstance(body, bytes) else body.encode("utf-8", "surrogateescape"),
                nonce_count=one.count,
            )
            found.append((header, str(made)))
        return found

    def forget(self, place: str, auth: Auth) -> None:
        """Answer nothing there before it is asked: the credentials were wrong."""
        if not callable(auth):
            self._places.pop((place, auth), None)


class Challenged:
    """A request that may be challenged: what it takes to send it again.

    :param auth: the credentials.
    """

    __slots__ = ("answered", "auth", "body", "count", "headers", "request")

    def __init__(self, auth: Auth) -> None:
        self.auth = auth
        self.headers: Any = None
        self.body: bytes | str = b""
        self.request: sip.Request | None = None
        """As it was sent last."""
        self.answered: set[str] = set()
        self.count = 0

    def may_answer(self) -> bool:
        """Whether another challenge is to be answered."""
        return self.request is not None and self.count < _MAX_CHALLENGES

    def answer(
        self, response: ReceivedResponse, nonces: Nonces, place: str
    ) -> Deferred[list[tuple[str, str]]]:
        """Answer a challenge; see :func:`answer_challenges`."""
        assert self.request is not None, "asked may_answer before"
        self.count += 1
        return answer_challenges(
            self.auth, self.request, response, self.answered, nonces=nonces, place=place
        )


def answer_challenges(
    auth: Auth,
    request: sip.Request,
    response: ReceivedResponse,
    answered: set[str],
    uri: str | None = None,
    *,
    nonces: Nonces | None = None,
    place: str = "",
) -> Deferred[list[tuple[str, str]]]:
    """Answer the challenges of a response.

    Of several challenges for a realm the strongest that is known here is answered. One that was
    answered before is not answered again, unless only its nonce was too old.

    :param answered: the challenges that were answered; added to.
    :param nonces: where to keep the challenges for further requests.
    :param place: who sent them.
    :returns: the headers to send; none when there is nothing more to try.
    """
    return Deferred.fromCoroutine(
        _answer_challenges(auth, request, response, answered, uri, nonces, place)
    )


async def _answer_challenges(
    auth: Auth,
    request: sip.Request,
    response: ReceivedResponse,
    answered: set[str],
    uri: str | None,
    nonces: Nonces | None,
    place: str,
) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    for asked, given in _CHALLENGES.items():
        by_realm: dict[str, list[digest.Challenge]] = {}
        for text in response.get_all(asked):
            try:
                for challenge in digest.Challenge.parse_list(text):
                    if challenge.is_digest:
                        by_realm.setdefault(challenge.realm, []).append(challenge)
            except MessageError as error:
                _log.info("a challenge cannot be read: {error}", error=error)
        for realm, challenges in by_realm.items():
            best = digest.choose(challenges)
            if best is None:
                continue
            key = f"{asked} {realm}"
            if key in answered and not best.stale:
                if nonces is not None:
                    nonces.forget(place, auth)
                return []
            answered.add(key)
            credentials: Any = auth(realm, request, response) if callable(auth) else auth
            if isinstance(credentials, Deferred | Awaitable):
                credentials = await credentials
            if credentials is None:
                continue
            username, password = credentials
            made = digest.answer(
                best,
                username=username,
                password=password,
                method=request.method,
                uri=request.uri if uri is None else uri,
                body=request.body,
            )
            headers.append((given, str(made)))
            if nonces is not None:
                nonces.keep(place, auth, given, best, request.uri if uri is None else uri)
    return headers
