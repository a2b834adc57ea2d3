"""TLS for phones that speak TCP only: a relay between a plain connection and an encrypted one.

SIPp as Debian builds it has no TLS. What it sends and gets goes through here unchanged, so its
messages have to say TLS by themselves (see :func:`tests.interop.phones.spoken`).
"""

from __future__ import annotations

from typing import Any, cast

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    optionsForClientTLS,
    trustRootFromCertificates,
)

from tests.certificates import identity

_reactor: Any = reactor


class Relay:
    """Listens on a port, and connects each connection with one of its own.

    :param listening: ``listenTCP``, or ``listenSSL`` with its context.
    :param connecting: ``connectTCP``, or ``connectSSL`` with its context.
    :param to: the port to connect to.
    :param port: the port to listen on; 0 for any free one.
    """

    def __init__(
        self, listening: tuple[Any, ...], connecting: tuple[Any, ...], to: int, port: int = 0
    ) -> None:
        listen, *context = listening
        self._connect, *self._context = connecting
        self._to = to
        self._ends: set[_End] = set()
        self._empty: Deferred[None] | None = None
        factory = Factory.forProtocol(lambda: _Near(self))
        self._port = listen(port, factory, *context, interface="127.0.0.1")
        self.port: int = self._port.getHost().port
        """Where it listens."""

    @classmethod
    def before_server(cls, to: int) -> Relay:
        """Take plain connections of a phone to a TLS port, whose certificate has to be ours."""
        trusted = trustRootFromCertificates([Certificate.loadPEM(identity().certificate)])
        context = optionsForClientTLS("127.0.0.1", trustRoot=trusted)
        return cls((_reactor.listenTCP,), (_reactor.connectSSL, context), to)

    @classmethod
    def before_phone(cls, to: int, port: int) -> Relay:
        """Take TLS connections of a server on a port to a phone."""
        me = identity()
        key: Any = load_pem_private_key(me.key, None)
        certificate: Any = load_pem_x509_certificate(me.certificate)
        context = CertificateOptions(key, certificate)
        return cls((_reactor.listenSSL, context), (_reactor.connectTCP,), to, port)

    async def stop(self) -> None:
        """Close everything."""
        await maybeDeferred(self._port.stopListening)
        if self._ends:
            self._empty = Deferred()
            for end in list(self._ends):
                end.abort()
            await self._empty

    def opened(self, end: _End) -> None:
        """A connection is there; each one that came gets one that goes."""
        self._ends.add(end)
        if isinstance(end, _Near):
            self._connect("127.0.0.1", self._to, _Onward(self, end), *self._context)

    def is_open(self, end: _End) -> bool:
        """Whether a connection is still there."""
        return end in self._ends

    def closed(self, end: _End) -> None:
        """A connection is gone."""
        self._ends.discard(end)
        if not self._ends and self._empty is not None:
            empty, self._empty = self._empty, None
            empty.callback(None)


class _Onward(ClientFactory):
    """Makes the connection that goes on."""

    noisy = False

    def __init__(self, relay: Relay, near: _Near) -> None:
        self._relay = relay
        self._near = near

    def buildProtocol(self, address: Any) -> Protocol:
        """It is open."""
        return _Far(self._relay, self._near)

    def clientConnectionFailed(self, connector: Any, reason: Any) -> None:
        """There is nobody."""
        self._near.abort()


class _End(Protocol):
    """One of two connections; what comes too early for the other waits."""

    other: _End | None = None

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._early: list[bytes] = []

    def connectionMade(self) -> None:
        """It is open."""
        self._relay.opened(self)

    def join(self, other: _End) -> None:
        """Pass everything on from now on."""
        self.other = other
        early, self._early = self._early, []
        for data in early:
            cast(Any, other.transport).write(data)

    def dataReceived(self, data: bytes) -> None:
        """Pass it on."""
        if self.other is None:
            self._early.append(data)
        else:
            cast(Any, self.other.transport).write(data)

    def connectionLost(self, reason: Any = None) -> None:
        """What one side closes is closed on the other."""
        self._relay.closed(self)
        if self.other is not None:
            cast(Any, self.other.transport).loseConnection()

    def abort(self) -> None:
        """Close at once."""
        cast(Any, self.transport).abortConnection()


class _Near(_End):
    """A connection that came."""


class _Far(_End):
    """The connection that goes on from there."""

    def __init__(self, relay: Relay, near: _Near) -> None:
        super().__init__(relay)
        self._near = near

    def connectionMade(self) -> None:
        """Now both are open."""
        super().connectionMade()
        if not self._relay.is_open(self._near):
            self.abort()
            return
        self.join(self._near)
        self._near.join(self)
