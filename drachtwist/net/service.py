"""Connections that last: reconnecting to servers, and listening for them.

:class:`InboundConnection` keeps one connection to a server. After a loss or a failure it tries
again, after a delay that doubles up to a cap and is spread at random, so that a fleet does not
come back in step. Only a successful authentication resets the delay: a server that accepts
connections and drops them is not hammered. A refused secret is reported once and ends the attempts:
it will not become right by itself.

:class:`OutboundListener` waits for servers to connect, one connection for each request.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, cast

from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import ClientFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from drachtwist.errors import AuthenticationError, ConnectionFailed
from drachtwist.net.admission import Admission, is_local
from drachtwist.net.endpoints import Connect, Listen
from drachtwist.net.logs import Logger
from drachtwist.net.observers import Observers
from drachtwist.net.protocol import DrachtioClientFactory, DrachtioListenerFactory, DrachtioProtocol
from drachtwist.net.tls import Credentials, describe_tls_failure

__all__ = ["BackOff", "InboundConnection", "OutboundListener"]


class BackOff:
    """How long to wait before the next attempt.

    :param initial: seconds after the first failure.
    :param cap: the longest wait, in seconds.
    :param jitter: gives a number from 0 to 1; the wait is spread over its upper half with it.
    """

    def __init__(
        self,
        initial: float = 0.5,
        cap: float = 30.0,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._initial = initial
        self._cap = cap
        self._jitter = jitter

    def __call__(self, failures: int) -> float:
        """Return the wait, in seconds, after so many failures in a row."""
        full: float = min(self._cap, self._initial * 2 ** min(max(failures - 1, 0), 30))
        return full * (0.5 + self._jitter() / 2)


class _QuietClient(ClientService):
    """Says nothing of its attempts: we do, and know which endpoint that is, and when it is none."""

    _log = Logger(observer=cast(Any, lambda event: None))


class InboundConnection(Service):
    """A connection to a server that comes back by itself.

    :param connect: where to.
    :param factory: makes the protocol of each attempt.
    :param back_off: the wait after failures.
    :param retry_refused: keep trying after a refused secret too (with the longest wait), for
        servers whose secret is about to be changed.
    :param on_error: told of each failed attempt, except when it is the same as the one before.
    :param on_reconnecting: told, with the wait in seconds, that another attempt follows.
    :param on_ready: told of the connection each time that the server took the routes.
    """

    _log = Logger()

    def __init__(
        self,
        connect: Connect,
        factory: DrachtioClientFactory,
        *,
        clock: Any,
        back_off: Callable[[int], float] | None = None,
        retry_refused: bool = False,
        on_error: Callable[[Exception], None] | None = None,
        on_reconnecting: Callable[[float], None] | None = None,
        on_ready: Callable[[DrachtioProtocol], None] | None = None,
    ) -> None:
        self._on_ready = on_ready
        self._connect = connect
        self._back_off = BackOff() if back_off is None else back_off
        self._retry_refused = retry_refused
        self._on_error = on_error
        self._on_reconnecting = on_reconnecting
        self._last_error = ""
        self._failures = 0
        self._clock = clock
        self._ended: Exception | None = None
        self._until_connected: Observers[DrachtioProtocol] = Observers()
        self._until_ready: Observers[DrachtioProtocol] = Observers()
        self._ready = False
        self._is_refused = False
        self.link: DrachtioProtocol | None = None
        """The connection while it is up."""
        # The service's own prepareConnection is not used: a connection that closes while it is
        # being prepared leaves ClientService without a transition to make. So it counts an open
        # connection as success, and what to wait is counted here.
        self._client = _QuietClient(
            _Reporting(connect.endpoint, self._attempt_failed),
            _Watched(factory, self._up, self._routed, self._closed),
            retryPolicy=self._wait,
            clock=clock,
        )

    def __repr__(self) -> str:
        return f"<InboundConnection {self._connect.text} {'up' if self.link else 'down'}>"

    @property
    def endpoint(self) -> str:
        """Where it connects to, as an endpoint string."""
        return self._connect.text

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted; with an endpoint that was made elsewhere that is not
        seen before it is up.
        """
        if self.link is not None:
            return ISSLTransport.providedBy(self.link.transport)
        return self._connect.tls

    @property
    def credentials(self) -> Credentials | None:
        """What TLS uses, if it is ours."""
        return self._connect.credentials

    def startService(self) -> None:
        """Begin to connect."""
        if not self.running:
            super().startService()
            self._client.startService()

    def stopService(self) -> Deferred[Any]:
        """Disconnect, and connect no more.

        :returns: fires when the connection is gone.
        """
        super().stopService()
        self._end(ConnectionFailed("the connection was stopped"))
        return self._client.stopService()

    def stop(self) -> Deferred[Any]:
        """Disconnect, and connect no more; taken out of its parent service too."""
        if self.parent is not None:
            parent: Any = self.parent
            self.parent = None
            parent.removeService(self)
        if self.running:
            return self.stopService()
        if self._ended is None:
            self._end(ConnectionFailed("the connection was stopped"))
        return succeed(None)

    def give_up(self, error: Exception) -> None:
        """Give up before it began, since something else has failed."""
        if self._ended is None:
            self._end(error)

    @property
    def ended(self) -> bool:
        """Whether it was given up, or stopped."""
        return self._ended is not None

    def when_connected(self) -> Deferred[DrachtioProtocol]:
        """Wait for the connection to be up: the server accepted the secret.

        It may not have heard yet which requests are wanted; see :meth:`when_ready`.

        :returns: the link, at once when it is up. Fails with :exc:`AuthenticationError` when the
            server refuses the secret, with :exc:`ConnectionFailed` when the connection is stopped.
        """
        if self.link is not None:
            return succeed(self.link)
        if self._ended is not None:
            return fail(self._ended)
        return self._until_connected.wait()

    def when_ready(self) -> Deferred[DrachtioProtocol]:
        """Wait until the server hands over requests: it took the routes of the application.

        :returns: as :meth:`when_connected`.
        """
        if self.link is not None and self._ready:
            return succeed(self.link)
        if self._ended is not None:
            return fail(self._ended)
        return self._until_ready.wait()

    # Inside

    def _up(self, link: DrachtioProtocol) -> None:
        self.link = link
        self._failures = 0
        self._last_error = ""
        self._until_connected.fire(link)

    def _routed(self, link: DrachtioProtocol) -> None:
        if self.link is not link:
            return
        self._ready = True
        if self._on_ready is not None:
            self._on_ready(link)
        self._until_ready.fire(link)

    def _closed(self, link: DrachtioProtocol, error: Exception) -> None:
        if self.link is link:
            self.link = None
            self._ready = False
        elif self.running:
            self._report(error)
            if isinstance(error, AuthenticationError):
                self._failures = 1 << 10
                if not self._retry_refused:
                    self._is_refused = True
                    # Not at once: ClientService is yet to learn of the loss.
                    self._clock.callLater(0, self._give_up, error)

    def _attempt_failed(self, failure: Failure) -> None:
        if self.running:
            what = describe_tls_failure(failure.value) or failure.getErrorMessage()
            self._report(ConnectionFailed(f"cannot connect to {self._connect.text}: {what}"))

    def _report(self, error: Exception) -> None:
        text = str(error)
        if text != self._last_error:
            self._last_error = text
            self._log.warn("{endpoint}: {error}", endpoint=self._connect.text, error=error)
            if self._on_error is not None:
                self._on_error(error)

    def _give_up(self, error: Exception) -> None:
        if self.running:
            super().stopService()
            self._client.stopService()
            self._end(error)

    def _wait(self, attempts: int) -> float:
        self._failures += 1
        delay = self._back_off(self._failures)
        if self.running and not self._is_refused:
            self._log.info(
                "{endpoint}: trying again in {seconds:.0f} s",
                endpoint=self._connect.text,
                seconds=delay,
            )
            if self._on_reconnecting is not None:
                self._on_reconnecting(delay)
        return delay

    def _end(self, error: Exception) -> None:
        self._ended = error
        self._until_connected.fail(lambda: error)
        self._until_ready.fail(lambda: error)


@implementer(IStreamClientEndpoint)
class _Reporting:
    """An endpoint that tells why it could not connect."""

    def __init__(self, endpoint: IStreamClientEndpoint, failed: Callable[[Failure], None]) -> None:
        self._endpoint = endpoint
        self._failed = failed

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect, and report a failure before the service hears of it."""

        def fail(failure: Failure) -> Failure:
            self._failed(failure)
            return failure

        connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
        return connecting.addErrback(fail)


class _Watched(ClientFactory):
    """Makes protocols that report to a connection."""

    noisy = False

    def __init__(
        self,
        factory: DrachtioClientFactory,
        up: Callable[[DrachtioProtocol], None],
        routed: Callable[[DrachtioProtocol], None],
        closed: Callable[[DrachtioProtocol, Exception], None],
    ) -> None:
        self._factory = factory
        self._up = up
        self._routed = routed
        self._closed = closed

    def buildProtocol(self, addr: IAddress | None) -> DrachtioProtocol:
        """Make the protocol of one attempt."""
        link = self._factory.buildProtocol(addr)
        link.on_up = self._up
        link.on_routed = self._routed
        link.on_closed = self._closed
        return link


class OutboundListener(Service):
    """Waits for servers to connect.

    :param listen: where, and who may connect.
    :param factory: makes the protocol of each connection.
    :param clock: the reactor, or a Clock.
    """

    _log = Logger()

    def __init__(self, listen: Listen, factory: DrachtioListenerFactory, clock: Any = None) -> None:
        if clock is None:
            from twisted.internet import reactor as clock
        self._listen = listen
        self._admission = Admission(factory, listen.allow, clock, max_waiting=listen.max_waiting)
        self._pending: Deferred[IListeningPort] | None = None
        self._port: IListeningPort | None = None
        self._error: Exception | None = None
        self._until_bound: Observers[IAddress] = Observers()

    def __repr__(self) -> str:
        return f"<OutboundListener {self._listen.text} {'up' if self._port else 'down'}>"

    @property
    def endpoint(self) -> str:
        """Where it listens, as an endpoint string."""
        return self._listen.text

    @property
    def tls(self) -> bool:
        """Whether the connections are encrypted."""
        return self._listen.tls

    @property
    def credentials(self) -> Credentials | None:
        """What TLS uses, if it is ours."""
        return self._listen.credentials

    @property
    def refused(self) -> int:
        """How many connections were closed because of where they came from."""
        return self._admission.refused

    @property
    def crowded_out(self) -> int:
        """How many connections were closed because too many brought no request."""
        return self._admission.crowded_out

    @property
    def address(self) -> IAddress | None:
        """The address that is bound, None while nothing is."""
        return None if self._port is None else self._port.getHost()

    def startService(self) -> None:
        """Begin to listen."""
        if self.running:
            return
        super().startService()
        self._error = None
        self._pending = pending = self._listen.endpoint.listen(self._admission)
        pending.addCallbacks(self._bound, self._failed)

    def stopService(self) -> Deferred[Any]:
        """Listen no more; connections that are open stay.

        :returns: fires when the port is free.
        """
        super().stopService()
        pending, self._pending = self._pending, None
        port, self._port = self._port, None
        if pending is not None and port is None:
            pending.cancel()
        self._tell(ConnectionFailed("the listener was stopped"))
        stopping: Any = None if port is None else port.stopListening()
        return stopping if isinstance(stopping, Deferred) else succeed(None)

    def stop(self) -> Deferred[Any]:
        """Listen no more; taken out of its parent service too."""
        if self.parent is not None:
            parent: Any = self.parent
            self.parent = None
            parent.removeService(self)
        if self.running:
            return self.stopService()
        return succeed(None)

    def give_up(self, error: Exception) -> None:
        """Give up before it began, since something else has failed."""
        self._tell(error)

    def when_listening(self) -> Deferred[IAddress]:
        """Wait for the port to be bound.

        :returns: the address, at once when it is. Fails with :exc:`ConnectionFailed` when it cannot
            be bound.
        """
        if self._port is not None:
            return succeed(self._port.getHost())
        if self._error is not None:
            return fail(self._error)
        return self._until_bound.wait()

    def _bound(self, port: IListeningPort) -> None:
        if not self.running:
            port.stopListening()
            return
        self._port = port
        address = port.getHost()
        if not self._listen.is_guarded and not is_local(address):
            self._log.warn(
                "whoever connects to {endpoint} from outside of this machine is shown the secret:"
                " name those who may with allow= (--allow), or ask for certificates with"
                " verifyClients=",
                endpoint=self._listen.text,
            )
        self._until_bound.fire(address)

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return
        error = ConnectionFailed(
            f"cannot listen on {self._listen.text}: {failure.getErrorMessage()}"
        )
        self._log.error("{error}", error=error)
        self._tell(error)

    def _tell(self, error: Exception) -> None:
        self._error = error
        self._until_bound.fail(lambda: error)
