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
from typing import Any

from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from drachtwist.errors import AuthenticationError, ConnectionFailed, DrachtwistError
from drachtwist.net.endpoints import Connect, Listen
from drachtwist.net.protocol import DrachtioClientFactory, DrachtioListenerFactory, DrachtioProtocol
from drachtwist.net.tls import describe_tls_failure

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
        """Give the wait, in seconds, after so many failures in a row."""
        full: float = min(self._cap, self._initial * 2 ** min(max(failures - 1, 0), 30))
        return full * (0.5 + self._jitter() / 2)


class InboundConnection(Service):
    """A connection to a server that comes back by itself.

    :param connect: where to.
    :param factory: makes the protocol of each attempt.
    :param back_off: the wait after failures.
    :param retry_refused: keep trying after a refused secret too (with the longest wait), for
        servers whose secret is about to be changed.
    :param on_error: told of each failed attempt, except when it is the same as the one before.
    :param on_reconnecting: told, with the wait in seconds, that another attempt follows.
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
    ) -> None:
        self._connect = connect
        self._back_off = BackOff() if back_off is None else back_off
        self._retry_refused = retry_refused
        self._on_error = on_error
        self._on_reconnecting = on_reconnecting
        self._last_error = ""
        self._refused = False
        self._watching = False
        self._clock = clock
        self._ended: Exception | None = None
        self._waiting: list[Deferred[DrachtioProtocol]] = []
        self.link: DrachtioProtocol | None = None
        """The connection while it is up."""
        self._client = ClientService(
            connect.endpoint,
            factory,
            retryPolicy=self._wait,
            clock=clock,
            prepareConnection=self._prepare,
        )

    def __repr__(self) -> str:
        return f"<InboundConnection {self._connect.text} {'up' if self.link else 'down'}>"

    @property
    def endpoint(self) -> str:
        """Where it connects to, as an endpoint string."""
        return self._connect.text

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._connect.tls

    def startService(self) -> None:
        """Begin to connect."""
        if not self.running:
            super().startService()
            self._client.startService()
            self._watch_attempt()

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
        return succeed(None)

    def when_connected(self) -> Deferred[DrachtioProtocol]:
        """Wait for the connection to be up.

        :returns: the link, at once when it is up. Fails with :exc:`AuthenticationError` when the
            server refuses the secret, with :exc:`ConnectionFailed` when the connection is stopped.
        """
        if self.link is not None:
            return succeed(self.link)
        if self._ended is not None:
            return fail(self._ended)
        waiting: Deferred[DrachtioProtocol] = Deferred(self._forget)
        self._waiting.append(waiting)
        return waiting

    # Inside

    def _forget(self, waiting: Deferred[DrachtioProtocol]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _prepare(self, link: Any) -> Deferred[None]:
        """Take part in one attempt: it succeeds when the server accepts the secret."""
        ready: Deferred[None] = Deferred()

        def up(link: DrachtioProtocol) -> None:
            self.link = link
            self._last_error = ""
            waiting, self._waiting = self._waiting, []
            if not ready.called:
                ready.callback(None)
            for waiter in waiting:
                waiter.callback(link)

        def closed(link: DrachtioProtocol, error: Exception) -> None:
            if self.link is link:
                self.link = None
            if not ready.called:
                ready.errback(error)

        link.on_up = up
        link.on_closed = closed
        return ready

    def _watch_attempt(self) -> None:
        """Be told when the current attempt fails; ClientService forgets such waiters then."""
        if self.running and not self._watching:
            self._watching = True
            self._client.whenConnected(failAfterFailures=1).addCallbacks(
                self._attempt_succeeded, self._attempt_failed
            )

    def _attempt_succeeded(self, link: object) -> None:
        self._watching = False

    def _attempt_failed(self, failure: Failure) -> None:
        self._watching = False
        if not self.running:
            return
        error = failure.value
        if not isinstance(error, DrachtwistError):
            what = describe_tls_failure(error) or failure.getErrorMessage()
            error = ConnectionFailed(f"cannot connect to {self._connect.text}: {what}")
        text = str(error)
        if text != self._last_error:
            self._last_error = text
            self._log.warn("{endpoint}: {error}", endpoint=self._connect.text, error=error)
            if self._on_error is not None:
                self._on_error(error)
        if isinstance(error, AuthenticationError):
            self._refused = True
            if not self._retry_refused:
                super().stopService()
                self._end(error)
                self._client.stopService()
                return
        self._watch_attempt()

    def _wait(self, failures: int) -> float:
        # ClientService asks when a connection was lost and when an attempt failed.
        delay = self._back_off(1 << 10 if self._refused else failures)
        self._refused = False
        if self.running:
            # Not at once: ClientService is in the middle of changing its state.
            self._clock.callLater(0, self._watch_attempt)
            if self._on_reconnecting is not None:
                self._on_reconnecting(delay)
        return delay

    def _end(self, error: Exception) -> None:
        self._ended = error
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.errback(error)


class OutboundListener(Service):
    """Waits for servers to connect.

    :param listen: where.
    :param factory: makes the protocol of each connection.
    """

    _log = Logger()

    def __init__(self, listen: Listen, factory: DrachtioListenerFactory) -> None:
        self._listen = listen
        self._factory = factory
        self._pending: Deferred[IListeningPort] | None = None
        self._port: IListeningPort | None = None
        self._error: Exception | None = None
        self._waiting: list[Deferred[IAddress]] = []

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
    def address(self) -> IAddress | None:
        """The address that is bound, None while nothing is."""
        return None if self._port is None else self._port.getHost()

    def startService(self) -> None:
        """Begin to listen."""
        if self.running:
            return
        super().startService()
        self._error = None
        self._pending = self._listen.endpoint.listen(self._factory)
        self._pending.addCallbacks(self._bound, self._failed)

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

    def when_listening(self) -> Deferred[IAddress]:
        """Wait for the port to be bound.

        :returns: the address, at once when it is. Fails with :exc:`ConnectionFailed` when it cannot
            be bound.
        """
        if self._port is not None:
            return succeed(self._port.getHost())
        if self._error is not None:
            return fail(self._error)
        waiting: Deferred[IAddress] = Deferred(self._forget)
        self._waiting.append(waiting)
        return waiting

    def _forget(self, waiting: Deferred[IAddress]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)

    def _bound(self, port: IListeningPort) -> None:
        if not self.running:
            port.stopListening()
            return
        self._port = port
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(port.getHost())

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
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.errback(error)
