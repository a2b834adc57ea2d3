"""Ask a web application what to do with a request (the HTTP form of a request handler).

The question is the query string of a GET or a POST, which also carries the SIP message; the answer
is a JSON object. Like a real server this one ignores the HTTP status and the Content-Type, follows
redirects, connects within two seconds and gives up after three. Connections are kept and used
again. Certificates of ``https:`` are verified, always. What a web application may cost is bounded:
the time, the answer, and all that comes around it (:mod:`drachtwist.server.bounded`).
"""

from __future__ import annotations

import re
from base64 import b64encode
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    FileBodyProducer,
    HTTPConnectionPool,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from drachtwist.errors import RemoteProtocolError
from drachtwist.net.tls import Credentials, TlsOptions, describe_tls_failure
from drachtwist.server.bounded import BoundedEndpoints
from drachtwist.server.hiding import without_password
from drachtwist.wire.decisions import ANSWER_LIMIT, Decision, RoutingQuery, parse_decision

__all__ = ["CONNECT_TIMEOUT", "TIMEOUT", "WebAsker"]

CONNECT_TIMEOUT = 2.0
"""Seconds that connecting to the web application may take."""

TIMEOUT = 3.0
"""Seconds that the whole answer may take."""

REDIRECTS = 5
"""How often in a row a redirect is followed."""

MESSAGE_LIMIT = 16_384
"""Bytes of the SIP message that a POST carries at most."""

_URL = re.compile(r"(https?://)(?:([^/?#]*)@)?([^/?#@].*)")


class WebAsker:
    """Asks one web application.

    :param reactor: makes the connections and keeps the time.
    :param url: ``http://`` or ``https://``, maybe with ``user:password@``; the query is put behind
        it.
    :param post: send the SIP message along, as the body of a POST.
    :param agent: the value of the User-Agent header.
    :param credentials: whom to trust; the system's authorities unless given.
    """

    def __init__(
        self,
        reactor: Any,
        url: str,
        *,
        post: bool = False,
        agent: str = "",
        credentials: Credentials | None = None,
    ) -> None:
        found = _URL.fullmatch(url)
        if found is None:
            raise ValueError(f"not an http or https URL: {without_password(url)}")
        scheme, login, rest = found.groups()
        self._reactor = reactor
        self._url = f"{scheme}{rest}".encode()
        self._login: bytes | None = None
        if login is not None:
            user, _, password = login.partition(":")
            plain = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
            self._login = b"Basic " + b64encode(plain)
        self._post = post
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 64
        # Without this the pool repeats a request by itself on a fresh connection when a kept one
        # was closed meanwhile, which is just what is wanted here.
        self._pool.retryAutomatically = True
        policy = _Policy(Credentials(TlsOptions()) if credentials is None else credentials)
        endpoints = BoundedEndpoints(reactor, policy, CONNECT_TIMEOUT)
        self._agent = Agent.usingEndpointFactory(reactor, endpoints, self._pool)
        self._headers = {b"Accept": [b"application/json"]}
        if agent:
            self._headers[b"User-Agent"] = [agent.encode("utf-8")]

    def __repr__(self) -> str:
        return f"<WebAsker {self._url.decode('utf-8', 'replace')}>"

    def ask(self, query: RoutingQuery, message: bytes = b"") -> Deferred[Decision]:
        """Ask about one request.

        :param message: the SIP message, for a POST.
        :returns: the decision. Fails with :exc:`RemoteProtocolError` when there is none: the web
            application cannot be reached, is too slow, or answers nonsense.
        """
        url = b"%b/?%b" % (self._url, query.encode().encode("ascii", "surrogateescape"))
        asking = Deferred.fromCoroutine(self._ask(url, message))
        asking.addTimeout(TIMEOUT, self._reactor)
        return asking.addCallbacks(parse_decision, self._failed)

    async def _ask(self, url: bytes, message: bytes) -> bytes:
        """Return the answer, wherever redirects lead."""
        post = self._post
        for _ in range(REDIRECTS + 1):
            response: Any
            try:
                response = await self._request(url, post, message)
            except ResponseNeverReceived as error:
                # Maybe a kept connection that was closed meanwhile; the agent sees to that only
                # for a GET.
                if not post or any(reason.check(CancelledError) for reason in error.reasons):
                    raise
                response = await self._request(url, post, message)
            body = _Body()
            response.deliverBody(body)
            answer = await body.done
            location = response.headers.getRawHeaders(b"Location", [b""])[0]
            if response.code not in (301, 302, 303, 307, 308) or not location:
                return answer
            secure = url.startswith(b"https:")
            url = urljoin(url, location)
            if secure and not url.startswith(b"https:"):
                raise RemoteProtocolError(f"it redirects from https to {location!r}")
            if not url.startswith((b"http://", b"https://")):
                raise RemoteProtocolError(f"it redirects to {location!r}")
            # As web browsers do.
            post = post and response.code > 303
        raise RemoteProtocolError("it redirects for ever")

    def _request(self, url: bytes, post: bool, message: bytes) -> Deferred[Any]:
        headers = Headers(self._headers)
        if self._login is not None and _origin(url) == _origin(self._url):
            headers.setRawHeaders(b"Authorization", [self._login])
        asking: Deferred[Any]
        if not post:
            asking = self._agent.request(b"GET", url, headers)
            return asking
        headers.setRawHeaders(b"Content-Type", [b"text/plain; charset=UTF-8"])
        body = FileBodyProducer(BytesIO(message[:MESSAGE_LIMIT]))
        asking = self._agent.request(b"POST", url, headers, body)
        return asking

    def close(self) -> Deferred[None]:
        """Close the connections that were kept."""
        closing: Deferred[None] = self._pool.closeCachedConnections()
        return closing

    def _failed(self, failure: Failure) -> Decision:
        error: Any = failure.value
        if isinstance(error, (ResponseFailed, ResponseNeverReceived)) and error.reasons:
            causes = [reason.value for reason in error.reasons]
            plain = [
                one for one in causes if isinstance(one, (RemoteProtocolError, CancelledError))
            ]
            error = (plain or causes)[-1]
        what = describe_tls_failure(error, "its", "name it with application_ca or --app-ca")
        if isinstance(error, (CancelledError, ConnectingCancelledError, DeferredTimeoutError)):
            what = "too slow"
        what = what or str(error) or type(error).__name__
        raise RemoteProtocolError(f"no answer of {self._url.decode('utf-8', 'replace')}: {what}")


@implementer(IPolicyForHTTPS)
class _Policy:
    """Verifies web applications as all other peers."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Make what connects to a host."""
        return self._credentials.client_creator(hostname.decode("ascii"), verify=True)


def _origin(url: bytes) -> tuple[bytes, bytes]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


class _Body(Protocol):
    """Collects an answer; one that is too long, or that nobody waits for, is read no further."""

    def __init__(self) -> None:
        self.done: Deferred[bytes] = Deferred(lambda _: self._drop())
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        """Take a piece of the answer."""
        # A byte over the limit shows that it is over.
        self._data += data[: ANSWER_LIMIT + 1 - len(self._data)]
        if len(self._data) > ANSWER_LIMIT:
            self._drop()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Hand out the answer, if it is complete; fail if the connection broke."""
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss) or len(self._data) > ANSWER_LIMIT:
            self.done.callback(self._data)
        else:
            self.done.errback(reason)

    def _drop(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()
