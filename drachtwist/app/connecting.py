"""The face of an application for who connects it, and starts and stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from drachtwist.app.connections import Connections
from drachtwist.app.dialog import Dialog
from drachtwist.app.handlers import AnyHandler
from drachtwist.app.option_types import check_connecting
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.app.router import Router
from drachtwist.errors import LocalProtocolError
from drachtwist.net.endpoints import Connect, Listen
from drachtwist.net.protocol import DrachtioProtocol
from drachtwist.net.service import InboundConnection, OutboundListener
from drachtwist.net.tls import TlsOptions

__all__ = ["Connecting"]

# Returned as it was given, for decorators.
_OnNothing = TypeVar("_OnNothing", bound=Callable[[], object])


class Connecting(Router):
    """An application, as far as its connections are concerned, and its life with them."""

    _connections: Connections

    def connect(
        self,
        endpoint: str | Connect | IStreamClientEndpoint | None = None,
        *,
        secret: str,
        host: str = "127.0.0.1",
        port: int = 9022,
        tls: TlsOptions | bool | None = None,
        tags: Sequence[str] | None = None,
        back_off: Callable[[int], float] | None = None,
        retry_refused: bool = False,
        ping_interval: float | None = 15.0,
        pong_timeout: float = 10.0,
    ) -> InboundConnection:
        """Connect to a server, and again whenever the connection is lost.

        :param endpoint: ``tcp:host:9022``, ``tls:host:9023`` or another client endpoint, as text or
            any ``IStreamClientEndpoint``; otherwise ``host`` and ``port`` count.
        :param secret: the server's secret.
        :param tls: use TLS; for ``tls:`` endpoints, what the string does not say.
        :param tags: instead of those of the application.
        :param back_off: gives the seconds to wait after so many failures in a row.
        :param retry_refused: keep trying after the secret was refused.
        :param ping_interval: seconds of silence after which the server is asked whether it is
            there; None for never.
        :param pong_timeout: seconds after which an unanswered ping means a dead connection.
        :returns: the connection: ``when_connected()``, ``when_ready()``, ``stop()``.
        :raises LocalProtocolError: for an endpoint that is none, or one to listen on.
        """
        return self._connections.endpoints.connect(
            endpoint,
            secret=secret,
            host=host,
            port=port,
            tls=tls,
            tags=tags,
            back_off=back_off,
            retry_refused=retry_refused,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
        )

    def listen(
        self,
        endpoint: str | Listen | IStreamServerEndpoint | None = None,
        *,
        secret: str,
        host: str = "",
        port: int = 9023,
        tls: TlsOptions | None = None,
        allow: Iterable[str] = (),
        tags: Sequence[str] | None = None,
        ping_interval: float | None = 15.0,
        pong_timeout: float = 10.0,
    ) -> OutboundListener:
        """Listen for servers, which connect for one request each.

        Such a connection is closed when the last transaction and dialog on it is over, unless
        :meth:`hold_session` forbids it, and by :meth:`end_session`.

        :param endpoint: ``tcp:9022``, ``tls:9023:privateKey=...:certKey=...`` or another server
            endpoint, as text or any ``IStreamServerEndpoint``; otherwise ``host`` (an address; all
            when empty) and ``port`` count.
        :param secret: the secret of the servers that connect.
        :param tls: key and certificate; for ``tls:`` endpoints, what the string does not say.
        :param allow: networks and addresses that servers may connect from, ``10.0.0.0/8``, unless
            the endpoint names some; all others are closed before a byte is sent to them. Whoever
            gets in is shown the secret.
        :param tags: instead of those of the application.
        :param ping_interval: as for :meth:`connect`.
        :param pong_timeout: as for :meth:`connect`.
        :returns: the listener: ``when_listening()``, ``address``, ``stop()``.
        :raises LocalProtocolError: for an endpoint that is none, or one to connect to, and for TLS
            without key and certificate.
        """
        return self._connections.endpoints.listen(
            endpoint,
            secret=secret,
            host=host,
            port=port,
            tls=tls,
            allow=allow,
            tags=tags,
            ping_interval=ping_interval,
            pong_timeout=pong_timeout,
        )

    def reload_tls(self) -> list[LocalProtocolError]:
        """Read the TLS files of all connections and listeners again, for later connections.

        Connections that are up, and the calls on them, stay as they are. A file that cannot be used
        is reported in the log, and what was read before is kept.

        :returns: what could not be used.
        """
        return self._connections.endpoints.reload_tls()

    def end_session(self, of: Request | Response | ReceivedResponse | Dialog) -> None:
        """Close the outbound connection of a message or dialog, once everything is written.

        A connection that the application made itself stays as it is. Dialogs that are up are let
        go: the peers stay in their calls at a real server; the embedded one ends these after its
        ``orphan_grace``.
        """
        self._connections.end(of.link)

    def hold_session(self, of: Request | Response | ReceivedResponse | Dialog) -> None:
        """Keep an outbound connection open although nothing uses it."""
        self._connections.hold(of.link)

    def release_session(self, of: Request | Response | ReceivedResponse | Dialog) -> None:
        """Undo :meth:`hold_session`."""
        self._connections.release(of.link)

    def stop(self, drain: float = 0.0) -> Deferred[None]:
        """Stop: take no new requests, end the calls, close all connections.

        New requests that are on their way already are answered 503, and so are, in the end, calls
        that were not answered. Calls that are up get a BYE, whose answer is waited for a little.
        Afterwards the application may connect and listen again.

        Another call while calls are given time to end by themselves gives them no more, if it has
        no ``drain``.

        :param drain: seconds that the calls get to end by themselves.
        :returns: fires when everything is closed.
        """
        check_connecting(drain=drain)
        return self._connections.stop(drain)

    @property
    def routes(self) -> tuple[str, ...]:
        """What the servers that we connect to are asked for: methods in small letters, and
        ``cdr:attempt`` and the like.
        """
        return self._connections.routes

    @property
    def draining(self) -> bool:
        """Whether :meth:`stop` was called, and calls are given time to end by themselves."""
        return self._connections.is_draining

    @property
    def links(self) -> list[DrachtioProtocol]:
        """The connections that are up, the oldest first."""
        return list(self._connections.table)

    @property
    def idle(self) -> bool:
        """Whether no transaction and no dialog is open."""
        return self._connections.is_idle

    # Its life

    def on_start(self, handler: _OnNothing) -> _OnNothing:
        """Call a handler, without arguments, before anything is connected or listened on.

        The handlers are called in the order in which they were added, each when the one before it
        is done. If one fails, the application does not start: see :meth:`start`.
        """
        self._connections.lifecycle.add_start(handler)
        return handler

    def on_stop(self, handler: _OnNothing) -> _OnNothing:
        """Call a handler, without arguments, when the application has stopped: all is closed.

        The handlers are called in the order in which they were added, each when the one before it
        is done; failures are logged. Nothing is called of an application that did not start.
        """
        self._connections.lifecycle.add_stop(handler)
        return handler

    def lifespan(self, function: AnyHandler) -> AnyHandler:
        """Have something around the application, from before it starts until it has stopped.

        It begins as a handler of :meth:`on_start` would, in order with these. It ends, the last one
        first, behind the handlers of :meth:`on_stop`; also when a later one cannot begin.

        :param function: an async function with one ``yield``, or a function without parameters that
            returns an async context manager.
        """
        self._connections.lifecycle.add_lifespan(function)
        return function

    def start(self) -> Deferred[None]:
        """Begin what :meth:`on_start` and :meth:`lifespan` added.

        :meth:`connect` and :meth:`listen` wait for that by themselves; who calls it first learns of
        failures before.

        :returns: fires when everything has begun, at once if it has already. Fails with
            :exc:`StartFailed`, whose ``__cause__`` is what failed.
        """
        return self._connections.lifecycle.start()
