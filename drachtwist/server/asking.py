"""Ask a web application what to do with a request (the HTTP form of a request handler).

The question is the query string of a GET or a POST, which also carries the SIP message; the answer
is a JSON object. Like a real server this one ignores the HTTP status and the Content-Type, follows
redirects, connects within two seconds and gives up after three. Connections are kept and used
again. Certificates of ``https:`` are verified, always.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    FileBodyProducer,
    HTTPConnectionPool,
    RedirectAgent,
    ResponseDone,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from drachtwist.errors import RemoteProtocolError
from drachtwist.net.tls import PemSource, trust_root
from drachtwist.wire.decisions import ANSWER_LIMIT, Decision, RoutingQuery, parse_decision

__all__ = ["CONNECT_TIMEOUT", "TIMEOUT", "WebAsker"]

CONNECT_TIMEOUT = 2.0
"""Seconds that connecting to the web application may take."""

TIMEOUT = 3.0
"""Seconds that the whole answer may take."""

MESSAGE_LIMIT = 16_384
"""Bytes of the SIP message that a POST carries at most."""


class WebAsker:
    """Asks one web application.

    :param reactor: makes the connections and keeps the time.
    :param url: ``http://`` or ``https://``; the query is put behind it.
    :param post: send the SIP message along, as the body of a POST.
    :param agent: the value of the User-Agent header.
    :param ca: whom to trust, instead of the system's authorities.
    """

    def __init__(
        self,
        reactor: Any,
        url: str,
        *,
        post: bool = False,
        agent: str = "",
        ca: PemSource = None,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"not an http or https URL: {url!r}")
        self._reactor = reactor
        self._url = url.encode("utf-8")
        self._post = post
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 64
        # Without this the pool repeats a request by itself on a fresh connection when a kept one
        # was closed meanwhile, which is just what is wanted here.
        self._pool.retryAutomatically = True
        policy = BrowserLikePolicyForHTTPS(trust_root(ca))
        self._agent = RedirectAgent(
            Agent(reactor, policy, connectTimeout=CONNECT_TIMEOUT, pool=self._pool),
            redirectLimit=5,
        )
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
        headers = Headers(self._headers)
        body = None
        if self._post:
            headers.setRawHeaders(b"Content-Type", [b"text/plain; charset=UTF-8"])
            body = FileBodyProducer(BytesIO(message[:MESSAGE_LIMIT]))
        asking: Deferred[Any] = self._agent.request(
            b"POST" if self._post else b"GET", url, headers, body
        )
        asking.addCallback(_read)
        asking.addTimeout(TIMEOUT, self._reactor)
        asking.addCallbacks(parse_decision, self._failed)
        return asking

    def close(self) -> Deferred[None]:
        """Close the connections that were kept."""
        closing: Deferred[None] = self._pool.closeCachedConnections()
        return closing

    def _failed(self, failure: Failure) -> None:
        if failure.check(RemoteProtocolError):
            failure.raiseException()
        what = failure.getErrorMessage() or type(failure.value).__name__
        if failure.check(ConnectingCancelledError):
            what = "too slow"
        raise RemoteProtocolError(f"no answer of {self._url.decode('utf-8', 'replace')}: {what}")


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
        """The answer is complete, or the connection broke."""
        if self.done.called:
            return
        if reason.check(ResponseDone, PotentialDataLoss) or len(self._data) > ANSWER_LIMIT:
            self.done.callback(self._data)
        else:
            self.done.errback(reason)

    def _drop(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _read(response: IResponse) -> Deferred[bytes]:
    body = _Body()
    response.deliverBody(body)
    return body.done
