"""Connections to web applications that read only so much of an answer.

``twisted.web`` reads interim responses (``100 Continue``), header lines, chunks and trailers for as
long as they come, and whoever waits only for the end of it all pays for each of them. So what is
received since a request was written is counted, and a connection on which that is more than a
decision can be is cut; the request on it fails with the reason.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import connectionDone
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from drachtwist.errors import RemoteProtocolError
from drachtwist.wire.decisions import ANSWER_LIMIT

__all__ = ["INTERIM_LIMIT", "RECEIVED_LIMIT", "BoundedEndpoints"]

RECEIVED_LIMIT = 65_536 + 8 * ANSWER_LIMIT
"""Bytes that are received for one request at most, everything included: a head, and the longest
answer in chunks of a byte each."""

INTERIM_LIMIT = 16
"""How many responses may come for one request, interim ones (RFC 9110 section 15.2) included."""

_START = b"\nHTTP/"


class _Bounded(ProtocolWrapper):
    """Stands between a connection and what speaks HTTP on it."""

    def __init__(self, factory: Any, wrapped: Any) -> None:
        super().__init__(factory, wrapped)
        self._problem: RemoteProtocolError | None = None
        self._begin()

    def _begin(self) -> None:
        self._received = self._responses = 0
        # What came last, as far as it may be the first half of a start.
        self._end = b"\n"

    def write(self, data: bytes) -> None:
        """Send a request, or a part of it: what comes from now on is for that."""
        self._begin()
        super().write(data)

    def writeSequence(self, data: Any) -> None:
        """Send a request, or a part of it."""
        self._begin()
        super().writeSequence(data)

    def dataReceived(self, data: bytes) -> None:
        """Count what came, and hand it on."""
        if self._problem is not None:
            return
        self._received += len(data)
        data_with_end = self._end + data
        self._responses += data_with_end.count(_START)
        self._end = data_with_end[1 - len(_START) :]
        if self._received > RECEIVED_LIMIT:
            self._problem = RemoteProtocolError(
                f"it answers with more than {RECEIVED_LIMIT} bytes, header lines included"
            )
        elif self._responses > INTERIM_LIMIT:
            self._problem = RemoteProtocolError(
                f"it sends more than {INTERIM_LIMIT} responses to one request, 100s included"
            )
        if self._problem is None:
            super().dataReceived(data)
        else:
            transport: Any = self.transport
            transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Hand on that the connection is gone, and why."""
        if self._problem is not None:
            reason = Failure(self._problem)
        super().connectionLost(reason)


class _Factory(WrappingFactory):
    noisy = False
    protocol = _Bounded


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, endpoint: IStreamClientEndpoint) -> None:
        self._endpoint = endpoint

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Connect, and give the protocol of the factory."""
        connecting: Deferred[Any] = self._endpoint.connect(_Factory(factory))
        return connecting.addCallback(lambda bounded: bounded.wrappedProtocol)


@implementer(IAgentEndpointFactory)
class BoundedEndpoints:
    """Makes such connections for an :class:`~twisted.web.client.Agent`.

    :param policy: says whom to trust.
    :param timeout: seconds that connecting may take.
    """

    def __init__(self, reactor: Any, policy: IPolicyForHTTPS, timeout: float) -> None:
        self._reactor = reactor
        self._policy = policy
        self._timeout = timeout

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """Make the endpoint for a URL."""
        endpoint: Any = HostnameEndpoint(
            self._reactor, uri.host.decode("ascii"), uri.port, timeout=self._timeout
        )
        if uri.scheme == b"https":
            creator = self._policy.creatorForNetloc(uri.host, uri.port)
            endpoint = wrapClientTLS(creator, endpoint)
        return _Endpoint(endpoint)
