"""Answering the challenges to requests of ours (RFC 3261 section 22, RFC 7616, RFC 8760)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Union

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from drachtwist import sip
from drachtwist.app.exchange import ReceivedResponse
from drachtwist.errors import MessageError
from drachtwist.sip import digest

__all__ = ["Auth", "Challenged", "Credentials", "answer_challenges"]

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

    def answer(self, response: ReceivedResponse) -> Deferred[list[tuple[str, str]]]:
        """Answer a challenge; see :func:`answer_challenges`."""
        assert self.request is not None, "asked may_answer before"
        self.count += 1
        return answer_challenges(self.auth, self.request, response, self.answered)


def answer_challenges(
    auth: Auth,
    request: sip.Request,
    response: ReceivedResponse,
    answered: set[str],
    uri: str | None = None,
) -> Deferred[list[tuple[str, str]]]:
    """Answer the challenges of a response.

    Of several challenges for a realm the strongest that is known here is answered. One that was
    answered before is not answered again, unless only its nonce was too old.

    :param answered: the challenges that were answered; added to.
    :returns: the headers to send; none when there is nothing more to try.
    """
    return Deferred.fromCoroutine(_answer_challenges(auth, request, response, answered, uri))


async def _answer_challenges(
    auth: Auth,
    request: sip.Request,
    response: ReceivedResponse,
    answered: set[str],
    uri: str | None,
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
    return headers
