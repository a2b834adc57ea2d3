"""Where servers are, and where they come to: what an application connects to and listens on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import (
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from drachtwist.app.events import Events
from drachtwist.app.lifecycle import Lifecycle
from drachtwist.app.mistakes import said
from drachtwist.app.option_types import check_connecting
from drachtwist.errors import ConnectionFailed, LocalProtocolError, StartFailed
from drachtwist.net import tasks
from drachtwist.net.endpoints import (
    Connect,
    Listen,
    connect_to,
    listen_on,
    to_connect,
    to_listen,
)
from drachtwist.net.logs import Logger
from drachtwist.net.protocol import (
    DrachtioClientFactory,
    DrachtioListenerFactory,
    LinkHandler,
)
from drachtwist.net.service import InboundConnection, OutboundListener
from drachtwist.net.tls import TlsOptions
from drachtwist.wire.commands import check_tags
from drachtwist.wire.session import ApplicationSession

__all__ = ["ServerEndpoints"]

_log = Logger(namespace="drachtwist.app.server_endpoints")


class Owner(Protocol):
    """What is known of the application."""

    tags: Sequence[str]
    """What servers may know it by, unless an endpoint says otherwise."""
    events: Events
    handler: LinkHandler
    """Told what the connections report."""
    routes: tuple[str, ...]
    """What the servers that it connects to are asked for."""

    lifecycle: Lifecycle
    """What has to be there first."""

    @property
    def reactor(self) -> Any:
        """The reactor."""
        ...

    @property
    def clock(self) -> IReactorTime:
        """What deadlines hang on."""
        ...


class ServerEndpoints:
    """The services that connect, and those that listen.

    :param owner: the application.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.made: list[InboundConnection] = []
        """What connects to servers, and again when the connection is lost."""
        self.listeners: list[OutboundListener] = []
        """What waits for servers."""
        self._start_failed: Exception | None = None

    def connect(
        self,
        endpoint: str | Connect | IStreamClientEndpoint | None,
        *,
        secret: str,
        host: str,
        port: int,
        tls: TlsOptions | bool | None,
        tags: Sequence[str] | None,
        back_off: Callable[[int], float] | None,
        retry_refused: bool,
        ping_interval: float | None,
        pong_timeout: float,
    ) -> InboundConnection:
        """Connect to a server; see :meth:`drachtwist.app.srf.Srf.connect`."""
        check_connecting(
            secret=secret,
            tls=tls,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
        )
        if endpoint is None:
            check_connecting(host=host, port=port)
        reactor = self._owner.reactor
        tasks.look()
        options = (TlsOptions() if tls is True else tls) or None
        if endpoint is None:
            where = connect_to(reactor, host, port, options)
        else:
            where = to_connect(reactor, endpoint, options)
        wanted = self._owner.tags if tags is None else check_tags(tags)

        def session() -> ApplicationSession:
            return ApplicationSession(
                secret,
                wanted,
                self._owner.routes,
                ping_interval=ping_interval,
                pong_timeout=pong_timeout,
            )

        connection = InboundConnection(
            where,
            DrachtioClientFactory(session, self._owner.handler, self._owner.clock),
            clock=self._owner.clock,
            back_off=back_off,
            retry_refused=retry_refused,
            on_error=self._owner.events.error.emit,
            on_reconnecting=self._owner.events.reconnecting.emit,
            on_ready=self._owner.events.ready.emit,
        )
        self.made.append(connection)
        if not self._owner.lifecycle.is_ready:
            self._when_started(connection)
        elif isinstance(reactor, ReactorBase) and not reactor.running:
            # What else the program starts before the reactor runs, a server say, comes first; and
            # nothing is open when the process puts itself into the background.
            reactor.callWhenRunning(self._begin, connection)
        else:
            connection.startService()
        return connection

    def _begin(self, connection: InboundConnection) -> None:
        if connection in self.made and not connection.ended:
            connection.startService()

    def _begin_to_listen(self, listener: OutboundListener) -> None:
        if listener in self.listeners:
            listener.startService()
            listener.when_listening().addCallbacks(
                self._owner.events.listening.emit,
                lambda failure: self._owner.events.error.emit(failure.value),
            )

    def _when_started(self, service: InboundConnection | OutboundListener) -> None:
        """Begin once everything is there that the application needs."""

        def begin(_: None) -> None:
            if isinstance(service, InboundConnection):
                self._begin(service)
            else:
                self._begin_to_listen(service)

        def failed(failure: Failure) -> None:
            error: Any = failure.value
            if failure.check(StartFailed) is None:
                service.give_up(ConnectionFailed("the application was stopped"))
                return
            service.give_up(error)
            if self._start_failed is not error:  # which all are told of
                self._start_failed = error
                cause = Failure(error.__cause__)
                _log.failure("the application cannot start: {error}", cause, error=error)
                self._owner.events.error.emit(error)

        self._owner.lifecycle.start().addCallbacks(begin, failed)

    def listen(
        self,
        endpoint: str | Listen | IStreamServerEndpoint | None,
        *,
        secret: str,
        host: str,
        port: int,
        tls: TlsOptions | None,
        allow: Iterable[str],
        tags: Sequence[str] | None,
        ping_interval: float | None,
        pong_timeout: float,
    ) -> OutboundListener:
        """Listen for servers; see :meth:`drachtwist.app.srf.Srf.listen`."""
        check_connecting(secret=secret, ping_interval=ping_interval, pong_timeout=pong_timeout)
        if tls is not None and not isinstance(tls, TlsOptions):
            raise LocalProtocolError(f"tls takes TlsOptions, not {said(tls)}")
        if endpoint is None:
            check_connecting(host=host, port=port)
        reactor = self._owner.reactor
        tasks.look()
        if endpoint is None:
            endpoint = listen_on(reactor, port, host, tls)
        where = to_listen(reactor, endpoint, tls, allow)
        wanted = self._owner.tags if tags is None else check_tags(tags)

        def session() -> ApplicationSession:
            # No routes: the server brings the request it has, and shares no others.
            return ApplicationSession(
                secret, wanted, ping_interval=ping_interval, pong_timeout=pong_timeout
            )

        listener = OutboundListener(
            where,
            DrachtioListenerFactory(session, self._owner.handler, self._owner.clock),
            self._owner.clock,
        )
        self.listeners.append(listener)
        if self._owner.lifecycle.is_ready:
            self._begin_to_listen(listener)
        else:
            self._when_started(listener)
        return listener

    def reload_tls(self) -> list[LocalProtocolError]:
        """Read the TLS files again; see :meth:`drachtwist.app.srf.Srf.reload_tls`."""
        problems = []
        services: list[InboundConnection | OutboundListener] = [*self.made, *self.listeners]
        for one in services:
            if one.credentials is None:
                continue
            try:
                one.credentials.reload()
            except LocalProtocolError as error:
                problems.append(error)
                _log.error(
                    "{endpoint}: what was read before is kept: {error}",
                    endpoint=one.endpoint,
                    error=error,
                )
        return problems

    async def stop_listening(self) -> None:
        """Close the ports; connections that are up stay."""
        await DeferredList([one.stop() for one in self.listeners], consumeErrors=True)
        self.listeners.clear()

    def stop_connecting(self) -> Deferred[Any]:
        """Close the connections that were made, and make no more.

        :returns: fires when they are gone.
        """
        closing = [connection.stop() for connection in self.made]
        self.made.clear()
        return DeferredList(closing, consumeErrors=True)
