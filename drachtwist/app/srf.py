"""Srf, the SIP resource framework: connections in, handlers in the middle, dialogs out.

An :class:`Srf` has any number of connections to any number of servers, of both kinds: those it
makes (:meth:`Srf.connect`) and those that servers make to it (:meth:`Srf.listen`). A SIP message
goes, in this order, to the transaction it belongs to (a response, a CANCEL), to its dialog, or to
the handlers of its method. What nobody takes is answered:

====================================================  ==========================================
ACK                                                   nothing, there is no answer to an ACK
PRACK                                                 200
CANCEL                                                nothing, the server has answered it
a request in a dialog that is not known (To tag)      481
what comes before the INVITE is answered              see :mod:`drachtwist.app.early`
a method without any handler, while others have some  405 with Allow (RFC 3261 section 8.2.1)
anything else                                         404
====================================================  ==========================================

drachtio-srf answers 404 also where 405 and 481 stand here.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.interfaces import (
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app import calls, early
from drachtwist.app.b2bua import B2bua, SdpHook, create_b2bua
from drachtwist.app.call_records import CallRecord, CallSummary, Correlator
from drachtwist.app.chain import Chain, Ender, Router
from drachtwist.app.challenges import Auth, Nonces
from drachtwist.app.dialog import Dialog
from drachtwist.app.dialogs import Ends, Role, role_of
from drachtwist.app.early import EarlyDialog
from drachtwist.app.early_session import EarlySession
from drachtwist.app.events import CDR_EVENTS, Events
from drachtwist.app.handlers import AnyHandler
from drachtwist.app.interfaces import SdpSource
from drachtwist.app.links import CURRENT, LinkState
from drachtwist.app.outgoing import PLACEHOLDER, Farewell
from drachtwist.app.proxying import ProxyResult, proxy_request
from drachtwist.app.reaching import Target, way_to
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request, make_request
from drachtwist.app.response import Response
from drachtwist.app.strangers import is_suspect, problem_of, without_nuls
from drachtwist.app.targets import complete_uri
from drachtwist.app.uac import (
    Asking,
    OutgoingRequest,
    PendingCall,
    PendingRequest,
    find_state,
    prepare_uac,
)
from drachtwist.errors import ConnectionLost, LocalProtocolError, MessageError, SipError
from drachtwist.net.endpoints import (
    Connect,
    Listen,
    connect_to,
    listen_on,
    to_connect,
    to_listen,
)
from drachtwist.net.protocol import (
    DrachtioClientFactory,
    DrachtioListenerFactory,
    DrachtioProtocol,
)
from drachtwist.net.service import InboundConnection, OutboundListener
from drachtwist.net.steady import steady
from drachtwist.net.tls import TlsOptions
from drachtwist.sip.headers import HeadersLike
from drachtwist.wire.commands import Cdr, Delivery, check_tags
from drachtwist.wire.session import ApplicationSession

__all__ = ["CallRecord", "Srf"]

_log = Logger(namespace="drachtwist.app.srf")

_NEVER_OFFERED = frozenset({"ACK", "BYE", "CANCEL", "PRACK", "REFER", "UPDATE"})
"""Methods that a server never offers outside of dialogs: a route for them does nothing."""

_MAX_ORPHANS = 10_000

UNUSED_TIMEOUT = 64.0
"""Seconds after which a server has forgotten the request that it opened a connection for."""

STOP_TIMEOUT = 5.0
"""Seconds that the peers have to answer the BYEs of an application that stops."""


class Srf(Router, Ender):
    """A SIP application.

    :param tags: what servers may know this application by: at most 20 words of at most 32
        characters.
    :param reactor: the reactor; the global one when it is needed first, if None.
    :param end_failed_calls: end a call with a BYE when the handler of its INVITE fails behind
        :meth:`create_uas`, and the other side of it if it is bridged; otherwise it stays up.
    :raises LocalProtocolError: for bad tags.
    """

    locals: dict[str, Any]
    """What the handlers of this application want to tell each other."""

    def __init__(
        self, tags: Sequence[str] = (), *, reactor: Any = None, end_failed_calls: bool = True
    ) -> None:
        super().__init__()
        self._end_failed_calls = end_failed_calls
        self.tags = check_tags(tags)
        self.locals = {}
        self._settings: dict[str, Any] = {}
        self._reactor = reactor
        self._clock: IReactorTime | None = None
        self._states: dict[DrachtioProtocol, LinkState] = {}
        self._chains: dict[str, Chain] = {}
        self._verbs: tuple[str, ...] = ()
        self._withdrawn: set[str] = set()
        self._connections: list[InboundConnection] = []
        self._listeners: list[OutboundListener] = []
        self._events = Events()
        self._correlator = Correlator()
        self._nonces = Nonces()
        # Dialogs that outlived their connection, by server.
        self._orphans: dict[tuple[str, ...], list[tuple[str, Ends | None]]] = {}
        self._stopping = False  # nothing new is taken
        self._closing = False  # what there was is ended
        self._draining: Deferred[None] | None = None
        self._when_idle: list[Deferred[None]] = []
        self._when_gone: list[Deferred[None]] = []
        self._when_stopped: list[Deferred[None]] = []

    def __repr__(self) -> str:
        return f"<Srf {len(self._states)} connections>"

    @property
    def clock(self) -> IReactorTime:
        """What deadlines hang on: the reactor's calls on a time that nobody can set, or the Clock
        that stands in for the reactor.
        """
        if self._clock is None:
            self._clock = steady(self._get_reactor())
        return self._clock

    def _get_reactor(self) -> Any:
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        return self._reactor

    # Connections

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
        reactor = self._get_reactor()
        options = _tls_options(tls)
        if endpoint is None:
            where = connect_to(reactor, host, port, options)
        else:
            where = to_connect(reactor, endpoint, options)
        wanted = self.tags if tags is None else check_tags(tags)

        def session() -> ApplicationSession:
            return ApplicationSession(
                secret,
                wanted,
                self._verbs,
                ping_interval=ping_interval,
                pong_timeout=pong_timeout,
            )

        connection = InboundConnection(
            where,
            DrachtioClientFactory(session, self, self.clock),
            clock=self.clock,
            back_off=back_off,
            retry_refused=retry_refused,
            on_error=lambda error: self._events.error.emit(error),
            on_reconnecting=lambda delay: self._events.reconnecting.emit(delay),
            on_ready=lambda link: self._events.ready.emit(link),
        )
        self._connections.append(connection)
        if isinstance(reactor, ReactorBase) and not reactor.running:
            # What else the program starts before the reactor runs, a server say, comes first; and
            # nothing is open when the process puts itself into the background.
            reactor.callWhenRunning(self._begin, connection)
        else:
            connection.startService()
        return connection

    def _begin(self, connection: InboundConnection) -> None:
        if connection in self._connections and not connection.ended:
            connection.startService()

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
        reactor = self._get_reactor()
        if endpoint is None:
            endpoint = listen_on(reactor, port, host, tls)
        where = to_listen(reactor, endpoint, tls, allow)
        wanted = self.tags if tags is None else check_tags(tags)

        def session() -> ApplicationSession:
            # No routes: the server brings the request it has, and shares no others.
            return ApplicationSession(
                secret, wanted, ping_interval=ping_interval, pong_timeout=pong_timeout
            )

        listener = OutboundListener(
            where, DrachtioListenerFactory(session, self, self.clock), self.clock
        )
        self._listeners.append(listener)
        listener.startService()
        listener.when_listening().addCallbacks(
            lambda address: self._events.listening.emit(address),
            lambda failure: self._events.error.emit(failure.value),
        )
        return listener

    def reload_tls(self) -> list[LocalProtocolError]:
        """Read the TLS files of all connections and listeners again, for later connections.

        Connections that are up, and the calls on them, stay as they are. A file that cannot be used
        is reported in the log, and what was read before is kept.

        :returns: what could not be used.
        """
        problems = []
        services: list[InboundConnection | OutboundListener] = [
            *self._connections,
            *self._listeners,
        ]
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

    def end_session(self, of: Request | Response | ReceivedResponse | Dialog) -> None:
        """Close the outbound connection of a message or dialog, once everything is written.

        A connection that the application made itself stays as it is. Dialogs that are up are let
        go: the peers stay in their calls at a real server; the embedded one ends these after its
        ``orphan_grace``.
        """
        state = self._states.get(of.link)
        if state is not None and state.link.outbound:
            state.leaving = True
            state.link.close()

    def hold_session(self, of: Request | Response | ReceivedResponse | Dialog) -> None:
        """Keep an outbound connection open although nothing uses it."""
        state = self._states.get(of.link)
        if state is not None:
            state.held = True

    def release_session(self, of: Request | Response | ReceivedResponse | Dialog) -> None:
        """Undo :meth:`hold_session`."""
        state = self._states.get(of.link)
        if state is not None:
            state.held = False
            if state.is_idle:
                self._unused(state)

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
        over: Deferred[None] = Deferred()
        self._when_stopped.append(over)
        draining = self._draining
        if draining is not None and not drain:
            self._when_idle.remove(draining)
            draining.callback(None)
        if not self._stopping:
            self._stopping = True
            Deferred.fromCoroutine(self._stop(drain)).addErrback(
                lambda failure: _log.failure("failed to stop", failure)
            ).addCallback(self._stopped)
        return over

    async def _stop(self, drain: float) -> None:
        self._changed()
        await DeferredList([one.stop() for one in self._listeners], consumeErrors=True)
        self._listeners.clear()
        if drain > 0 and not self.idle:
            idle = self._until_idle(drain)
            self._draining = idle
            await idle
            self._draining = None
        self._closing = True
        for state in list(self._states.values()):
            state.hang_up()
        await self._until_idle(STOP_TIMEOUT)
        closing = [connection.stop() for connection in self._connections]
        self._connections.clear()
        for state in list(self._states.values()):
            state.leaving = True
            state.link.close()
        timer = self.clock.callLater(STOP_TIMEOUT, self._abort)
        await DeferredList(closing, consumeErrors=True)
        if self._states:
            gone: Deferred[None] = Deferred()
            self._when_gone.append(gone)
            await gone
        if timer.active():
            timer.cancel()

    def _abort(self) -> None:
        """Close connections that cannot be closed in order: nobody reads what was written."""
        for link in list(self._states):
            link.abort()

    def _stopped(self, _: object) -> None:
        self._stopping = self._closing = False
        self._changed()
        waiting, self._when_stopped = self._when_stopped, []
        for waiter in waiting:
            waiter.callback(None)

    def _until_idle(self, seconds: float) -> Deferred[None]:
        """Wait until no transaction and no dialog is open, but not for ever."""
        if self.idle:
            return succeed(None)
        idle: Deferred[None] = Deferred()
        self._when_idle.append(idle)

        def give_up() -> None:
            if idle in self._when_idle:
                self._when_idle.remove(idle)
                idle.callback(None)

        timer = self.clock.callLater(seconds, give_up)

        def over(_: None) -> None:
            if timer.active():
                timer.cancel()

        return idle.addCallback(over)

    @property
    def draining(self) -> bool:
        """Whether :meth:`stop` was called, and calls are given time to end by themselves."""
        return self._draining is not None

    @property
    def links(self) -> list[DrachtioProtocol]:
        """The connections that are up, the oldest first."""
        return list(self._states)

    @property
    def idle(self) -> bool:
        """Whether no transaction and no dialog is open."""
        return all(state.is_idle for state in self._states.values())

    # Settings

    def set(self, name: str, value: Any) -> None:
        """Keep a setting of the application under a name."""
        self._settings[name] = value

    def get(self, name: str, default: Any = None) -> Any:
        """Give a setting of the application."""
        return self._settings.get(name, default)

    def unregister_for_messages(self, method: str) -> None:
        """Want no new requests of a method for now, although it has handlers.

        What comes all the same is handled.
        """
        self._withdrawn.add(method.upper())
        self._changed()

    def reregister_for_messages(self, method: str) -> None:
        """Undo :meth:`unregister_for_messages`."""
        self._withdrawn.discard(method.upper())
        self._changed()

    # Dialogs

    def create_uas(
        self,
        req: Request,
        res: Response,
        *,
        local_sdp: SdpSource = None,
        headers: HeadersLike = None,
    ) -> Deferred[Dialog]:
        """Accept an INVITE with 200, or a SUBSCRIBE with 202.

        :param local_sdp: the session description (or other body), something awaitable that becomes
            one, or a function that gives either; it is asked for once.
        :param headers: further headers of the response.
        :returns: the dialog, as soon as the server sent the response; the ACK is not waited for
            (:meth:`Dialog.when_acked`). Fails with :exc:`SipError` 487 when the caller gives up
            first, with :exc:`CommandRefused` when the server refuses the response, with
            :exc:`ConnectionLost`, with whatever ``local_sdp`` fails with (the request can still be
            answered then), and with :exc:`LocalProtocolError` after a final response.
        :raises LocalProtocolError: for other methods, and for what cannot be sent as one
            well-formed message.
        """
        return calls.create_uas(req, res, local_sdp=local_sdp, headers=headers)

    def create_uac(
        self,
        uri: Target,
        *,
        method: str = "INVITE",
        headers: HeadersLike = None,
        local_sdp: SdpSource = None,
        proxy: str = "",
        auth: Auth | None = None,
        calling_number: str | None = None,
        calling_name: str | None = None,
        called_number: str | None = None,
        follow_redirects: bool = False,
        keep_uri_on_redirect: bool = False,
        no_ack: bool = False,
        timeout: float | None = None,
        on_request: Callable[[OutgoingRequest], Any] | None = None,
        on_provisional: Callable[[ReceivedResponse], Any] | None = None,
        on_update: Callable[[Request, Response], Any] | None = None,
        link: Any = None,
    ) -> PendingCall:
        """Call somebody, or subscribe to something.

        Cancelling the Deferred sends CANCEL, at whatever moment; so ``addTimeout`` works. Its
        :meth:`~drachtwist.PendingCall.cancel_request` takes headers, such as a Reason. A 200 that
        crosses it is acknowledged and ended with a BYE.

        :param uri: whom; ``sip:`` may be left out. Or a :class:`~drachtwist.middleware.Binding`,
            which knows the way to a phone that registered. ``tel:`` and ``urn:`` take a ``proxy``.
            Headers in the URI go into the request, those that do no harm (RFC 3261 section 19.1.5).
        :param method: ``INVITE`` or ``SUBSCRIBE``.
        :param headers: further headers. The server supplies what is missing.
        :param local_sdp: the offer, or a source of it as for :meth:`create_uas`. Without one the
            200 has the offer, and :meth:`Dialog.ack` takes the answer.
        :param proxy: a SIP URI to send the request to, instead of to ``uri``.
        :param auth: user name and password, or a function that gives them for a realm, the request
            and the challenge. Each challenge is answered once, and each realm that has asked is
            answered in what follows, in the dialog too.
        :param calling_number: the user part of From and Contact; none when it is empty.
        :param calling_name: the display name of From.
        :param called_number: the user part of To.
        :param follow_redirects: call the contacts of a 3xx, the best first, four times at most.
        :param keep_uri_on_redirect: send the same Request-URI there.
        :param no_ack: leave the ACK to :meth:`Dialog.ack`.
        :param timeout: seconds until the call is cancelled, and fails with :exc:`SipError` 408 at
            once, whatever the callee does then.
        :param on_request: called with each request as it was sent; it can be cancelled with
            headers.
        :param on_provisional: called with each provisional response. A reliable one is acknowledged
            with what this returns, a session description or None, or something awaitable.
        :param on_update: answers UPDATEs that come before the final response; without it they are
            answered 500 with Retry-After.
        :param link: what tells the connection: a request, a dialog or a connection. The first one
            that the application made unless given.
        :returns: the dialog. Fails with :exc:`SipError` for a final response that is no success,
            with :exc:`CommandRefused` when the server does not send the request, with
            :exc:`ConnectionLost`.
        :raises ConnectionFailed: when there is no connection.
        :raises LocalProtocolError: for what cannot be sent as one well-formed message.
        """
        return prepare_uac(
            self,
            uri,
            method=method,
            headers=headers,
            proxy=proxy,
            auth=auth,
            calling_number=calling_number,
            calling_name=calling_name,
            called_number=called_number,
            follow_redirects=follow_redirects,
            keep_uri_on_redirect=keep_uri_on_redirect,
            no_ack=no_ack,
            timeout=timeout,
            on_request=on_request,
            on_provisional=on_provisional,
            on_update=on_update,
            link=link,
        ).start(local_sdp)

    def create_b2bua(
        self,
        req: Request,
        res: Response,
        uri: Target,
        *,
        local_sdp_a: SdpHook = None,
        local_sdp_b: SdpHook = None,
        headers: HeadersLike | Callable[[Request], HeadersLike] = None,
        response_headers: HeadersLike | Callable[[ReceivedResponse], HeadersLike] = None,
        proxy_request_headers: Sequence[str] = (),
        proxy_response_headers: Sequence[str] = (),
        pass_failure: bool = True,
        pass_provisional_responses: bool = True,
        proxy: str = "",
        auth: Auth | None = None,
        calling_number: str | None = None,
        calling_name: str | None = None,
        called_number: str | None = None,
        follow_redirects: bool = False,
        keep_uri_on_redirect: bool = False,
        timeout: float | None = None,
        on_request: Callable[[OutgoingRequest], Any] | None = None,
        on_provisional: Callable[[ReceivedResponse], Any] | None = None,
        on_uac: Callable[[Dialog], Any] | None = None,
        link: Any = None,
    ) -> Deferred[B2bua]:
        """Connect a caller with somebody else, as two dialogs.

        The caller hears what the called party does: it rings, sends early media, refuses. When the
        caller gives up, the other call is cancelled, with his Reason. Use
        :func:`~drachtwist.couple` so that the end of one dialog is the end of the other.

        :param uri: whom to call, as for :meth:`create_uac`.
        :param local_sdp_a: what the caller gets instead of the called party's session description:
            a value, something awaitable, or a function of that description and its message, which
            may return a Deferred or be ``async``.
        :param local_sdp_b: what the called party gets instead of the caller's, likewise.
        :param headers: further headers for the called party, or a function of the request.
        :param response_headers: further headers for the caller, or a function of the response.
        :param proxy_request_headers: names of headers that are passed on to the called party;
            ``all``, and ``-Name`` for exceptions; :data:`~drachtwist.HIDE_TOPOLOGY` and
            :data:`~drachtwist.HIDE_IDENTITY` are such lists.
        :param proxy_response_headers: the same for the caller.
        :param pass_failure: answer the caller with a refusal; otherwise the request stays open for
            another attempt.
        :param pass_provisional_responses: let the caller hear that it rings.
        :param on_uac: called with the dialog of the called party before the caller is answered.

        All others are those of :meth:`create_uac`.

        :returns: the dialogs ``uas`` and ``uac``. Fails as :meth:`create_uac` and
            :meth:`create_uas` do.
        :raises LocalProtocolError: for what cannot be sent as one well-formed message.
        """
        return create_b2bua(
            self,
            req,
            res,
            uri,
            local_sdp_a=local_sdp_a,
            local_sdp_b=local_sdp_b,
            headers=headers,
            response_headers=response_headers,
            proxy_request_headers=proxy_request_headers,
            proxy_response_headers=proxy_response_headers,
            pass_failure=pass_failure,
            pass_provisional_responses=pass_provisional_responses,
            proxy=proxy,
            auth=auth,
            calling_number=calling_number,
            calling_name=calling_name,
            called_number=called_number,
            follow_redirects=follow_redirects,
            keep_uri_on_redirect=keep_uri_on_redirect,
            timeout=timeout,
            on_request=on_request,
            on_provisional=on_provisional,
            on_uac=on_uac,
            link=link,
        )

    def proxy_request(
        self,
        req: Request,
        destinations: Target | Sequence[Target] | None = None,
        *,
        forking: str = "sequential",
        record_route: bool = False,
        follow_redirects: bool = False,
        provisional_timeout: float | str | None = None,
        final_timeout: float | str | None = None,
        headers: HeadersLike = None,
        full_response: bool = True,
    ) -> Deferred[ProxyResult]:
        """Let the server forward a request that was not answered yet; it answers the caller too.

        :param destinations: SIP URIs, at most ten; ``sip:`` may be left out. Or a
            :class:`~drachtwist.middleware.Binding`, or several. The Request-URI if None.
        :param forking: ``sequential`` (one after the other) or ``simultaneous``.
        :param record_route: stay in the way of the further requests of the dialog.
        :param follow_redirects: try the contacts of a 3xx.
        :param provisional_timeout: seconds (or ``"1500ms"``, ``"2s"``) that a target has for its
            first response.
        :param final_timeout: the same for its final response; a real server does not obey it.
        :param headers: headers to add.
        :param full_response: wait for what the targets answer; otherwise the result is there, and
            empty, as soon as the request was sent.
        :returns: what the targets answered. Fails with :exc:`CommandRefused` when the server cannot
            forward the request, with :exc:`ConnectionLost`, with :exc:`LocalProtocolError` or
            :exc:`SipError` 487 when it was answered or cancelled before, and with
            :exc:`SipError` 416 when the Request-URI, which nobody replaces, is no SIP URI.
        :raises LocalProtocolError: for destinations and times that are none.
        """
        return proxy_request(
            self,
            req,
            destinations,
            forking=forking,
            record_route=record_route,
            follow_redirects=follow_redirects,
            provisional_timeout=provisional_timeout,
            final_timeout=final_timeout,
            headers=headers,
            full_response=full_response,
        )

    def request(
        self,
        uri: Target,
        *,
        method: str,
        headers: HeadersLike = None,
        body: bytes | str = b"",
        proxy: str = "",
        auth: Auth | None = None,
        on_request: Callable[[OutgoingRequest], Any] | None = None,
        on_provisional: Callable[[ReceivedResponse], Any] | None = None,
        link: Any = None,
    ) -> PendingRequest:
        """Send a request outside of any dialog: OPTIONS, MESSAGE, REGISTER, ...

        Parameters are those of :meth:`create_uac`.

        :returns: the request, which can be cancelled, and waited for: it fires with the final
            response, a refusal is a result too. Fails with :exc:`CommandRefused` and
            :exc:`ConnectionLost`.
        :raises ConnectionFailed: when there is no connection.
        :raises LocalProtocolError: for what cannot be sent as one well-formed message.
        """
        method = method.upper()
        if method in ("ACK", "CANCEL"):
            raise LocalProtocolError(f"{method} gets no response: it is no request for itself")
        address, proxy, headers = way_to(uri, proxy, headers)
        asking = Asking(
            self,
            find_state(self, link),
            method,
            complete_uri(address, bool(proxy)),
            headers=headers,
            body=body,
            proxy=proxy,
            auth=auth,
            on_provisional=on_provisional,
        )
        pending = PendingRequest(asking)

        # Weakly: whether anybody keeps it tells whether anybody listens.
        kept = weakref.ref(pending)

        def sent(request: OutgoingRequest) -> Any:
            there = kept()
            if there is not None:
                there.request = request
            return None if on_request is None else on_request(request)

        asking._on_request = sent
        asking.wait(pending)
        try:
            asking.send()
        except LocalProtocolError:
            asking.forget()
            raise
        return pending

    def find_dialog_by_id(self, dialog_id: str, *, type: Role | None = None) -> Dialog | None:
        """Give the dialog that the servers know by an id; None when there is none.

        :param type: ``uas`` or ``uac``: which of the two that an application has when it calls
            itself through a server; either if None.
        """
        for state in self._states.values():
            dialog = state.dialogs.get(dialog_id, type)
            if dialog is not None:
                return dialog
        return None

    def find_dialog_by_call_id_and_from_tag(
        self, call_id: str, tag: str, *, type: Role | None = None
    ) -> Dialog | None:
        """Give the dialog with this Call-ID whose first request had this tag in its From.

        :param type: as for :meth:`find_dialog_by_id`.
        """
        return self.find_dialog_by_id(f"{call_id};from-tag={tag}", type=type)

    # Events

    def on_connect(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler with each connection, of either kind, once the server accepted us."""
        return self._events.connect.add(handler)

    def on_ready(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler with each connection that we made, once the server took our routes.

        From then on it hands over requests; before, they are refused if nobody else is there.
        """
        return self._events.ready.add(handler)

    def on_close(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler with each connection that was up and is gone."""
        return self._events.close.add(handler)

    def on_error(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler with the error when connecting or listening fails; repeats are spared."""
        return self._events.error.add(handler)

    def on_reconnecting(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler with the seconds until the next attempt to connect."""
        return self._events.reconnecting.add(handler)

    def on_listening(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler with the address of each listener that is bound."""
        return self._events.listening.add(handler)

    def on_cdr(self, event: str) -> Callable[[AnyHandler], AnyHandler]:
        """Decorate a handler of call detail records: it gets a :class:`CallRecord`.

        :param event: ``attempt``, ``start`` or ``stop``. There may be several handlers for each.
        :raises LocalProtocolError: for any other event.
        """
        if event not in CDR_EVENTS:
            raise LocalProtocolError(f"no CDR event: {event!r}")

        def decorate(handler: AnyHandler) -> AnyHandler:
            self._events.cdr[event].add(handler)
            self._changed()
            return handler

        return decorate

    def on_call_summary(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler with a :class:`CallSummary` when a call is over.

        It joins the call detail records of the call, with durations. The server then reports all of
        them to this application.
        """
        self._events.call_summary.add(handler)
        self._changed()
        return handler

    def on_dialog_state(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler with a :class:`DialogState` for each state of each call (RFC 4235)."""
        return self._events.dialog_state.add(handler)

    # What the connections report

    def link_up(self, link: DrachtioProtocol) -> None:
        """A server accepted us."""
        state = self._states[link] = LinkState(self, link, self._events)
        if link.outbound:
            if not self._listeners and (self._closing or not self._stopping):
                link.close()  # too late, we have stopped
                return
            state.idle_call = self.clock.callLater(UNUSED_TIMEOUT, self._close_unused, state)
        else:
            link.set_routes(self._verbs)  # they may have changed meanwhile
            if not self._verbs and not self._stopping:
                self._say_nothing_comes(link)
        # Whoever is still in a call of the connection that was lost would stay in it for ever.
        for dialog_id, ends in self._orphans.pop(link.host_ports, ()):
            Farewell(state, dialog_id, ends).send()
        self._events.connect.emit(link)

    def _say_nothing_comes(self, link: DrachtioProtocol) -> None:
        """Say that a server has nothing to hand over: no handler is there for any method."""
        if self._layers:
            _log.warn(
                "no requests will come from {peer}: there is middleware for all methods, but no"
                " handler that asks for one (srf.invite, srf.use('invite', ...))",
                peer=link.peer,
            )
        else:
            _log.info("no requests will come from {peer}: there are no handlers", peer=link.peer)

    def link_down(self, link: DrachtioProtocol, reason: Exception) -> None:
        """A connection is gone: so are its transactions and dialogs."""
        state = self._states.pop(link, None)
        if state is None:
            return
        if state.idle_call is not None and state.idle_call.active():
            state.idle_call.cancel()
        text = str(reason)
        orphans = [
            (dialog.id, dialog._ends() if state.is_ambiguous(dialog.id) else None)
            for dialog in state.dialogs
            if dialog.dialog_type == "INVITE"
        ]
        if orphans and not state.leaving:
            kept = self._orphans.setdefault(link.host_ports, [])
            kept += orphans
            del kept[:-_MAX_ORPHANS]
        requests, state.requests = state.requests, {}
        for request in requests.values():
            request.link_down(ConnectionLost(text))
        invites, state.invites = state.invites, {}
        for invite in invites.values():
            invite._link_lost(ConnectionLost(text))
        for dialog in list(state.dialogs):
            dialog._link_lost(ConnectionLost(text))
        # They know the connection, which nothing is looked up on any more.
        state.early.clear()
        state.calling.clear()
        for summary in self._correlator.lose(link):
            self._events.call_summary.emit(summary)
        self._events.close.emit(link)
        self._check_idle()
        if not self._states:
            waiting, self._when_gone = self._when_gone, []
            for waiter in waiting:
                waiter.callback(None)

    def delivered(self, link: DrachtioProtocol, delivery: Delivery) -> None:
        """A SIP message came."""
        state = self._states[link]
        tokens = delivery.tokens
        raw = delivery.raw
        suspect = is_suspect(raw)
        if raw.startswith(b"SIP/2.0 "):
            if suspect:
                raw = without_nuls(raw)
            request = state.requests.get(tokens[8])
            if request is not None:
                request.responded(tokens, raw)
            else:
                state.stray(tokens, raw)
            return
        if suspect and self._refused(state, tokens, raw):
            return
        dialog_id = tokens[9] if len(tokens) > 9 else ""  # servers of old send fewer
        role = None
        if dialog_id:
            role = role_of(dialog_id, raw, tokens[2] == "application")
            dialog = state.dialogs.get(dialog_id, role)
            if dialog is not None:
                dialog._delivered(state, tokens, raw)
                return
        if tokens[2] == "application" and not raw.startswith(b"CANCEL "):
            # A BYE of the server's own, for a dialog that is not known any more: no answer.
            return
        req = make_request(state, tokens, raw)
        method = req.method
        if method == "INVITE":
            if not dialog_id:
                state.invites[tokens[8]] = req
                if state.events.dialog_state.handlers:
                    req._report("trying")
        elif method == "CANCEL":
            invite = state.invites.get(tokens[8])
            req._not_to_be_answered()  # the server has answered it
            if invite is not None:
                invite._cancelled(req)
            return
        elif method == "ACK":
            req._not_to_be_answered()
            self._chain(method).run(req, req.res)
            return
        elif dialog_id and early.take(self, state, req, method, dialog_id, role):
            return
        link.uses += 1
        if state.idle_call is not None:
            state.idle_call.cancel()
            state.idle_call = None
        chain = self._chains.get(method)
        if chain is None:
            chain = self._chain(method)
        res = req.res
        if not link.outbound:
            chain.run(req, res)
            return
        # What the handler sends goes to the server that brought the request.
        token = CURRENT.set(state)
        try:
            chain.run(req, res)
        finally:
            CURRENT.reset(token)

    def _refused(self, state: LinkState, tokens: Any, raw: bytes) -> bool:
        """Answer a request that nobody is asked about; say whether it is one."""
        req = make_request(state, tokens, raw)
        problem = problem_of(req)
        if problem is None:
            return False
        _log.warn(
            "{method} from {address} is refused: {problem}",
            method=req.method,
            address=req.source_address,
            problem=problem,
        )
        if req.method not in ("ACK", "CANCEL") and tokens[2] != "application":
            state.use()
            req.res.send(400, problem)
        return True

    def cdr(self, link: DrachtioProtocol, cdr: Cdr) -> None:
        """A call detail record came."""
        event = self._events.cdr.get(cdr.event)
        summarised = self._events.call_summary.handlers
        if not summarised and (event is None or not event.handlers):
            return
        record = CallRecord(cdr, link)
        if event is not None:
            event.emit(record)
        if summarised:
            summary: CallSummary | None = self._correlator.add(record)
            if summary is not None:
                self._events.call_summary.emit(summary)

    def _early_dialog(self, req: Request) -> EarlyDialog:
        """Return the early dialog of a caller, which begins with his INVITE."""
        extras = req._extended()
        if extras.early is None:
            session = EarlySession(remote=req.body)
            extras.early = EarlyDialog(req._state, "uas", req, session)
            extras.early.id = extras.early_id
        if extras.early_raw and not extras.early.ends[0]:
            sent = sip.Response.from_bytes(extras.early_raw)
            extras.early.ends = (sent.get("To") or "", sent.get("From") or "")
            extras.early.target = early.target_of(req) or PLACEHOLDER
        return extras.early

    def _early_dialog_of(self, response: ReceivedResponse) -> EarlyDialog | None:
        """Return the early dialog with whom a provisional response is from."""
        asking = response._state.calling.get(response.stack_dialog_id)
        if asking is None or not 100 < response.status < 200 or not asking.rings:
            return None
        try:
            tag = response.to.tag
        except MessageError:
            return None
        return asking.early_dialog(tag) if tag else None

    # What happens to requests that the handlers leave

    def unhandled(self, req: Request, res: Response) -> None:
        """Answer a request that no handler took."""
        if res.finished:
            return
        method = req.method
        dialog_id = req.stack_dialog_id
        invite = None
        if dialog_id:
            invite = early.find(req._state, req, dialog_id, role_of(dialog_id, req.raw, False))
        if invite is not None and method != "BYE":
            dialog = early.dialog_of(self, invite, req)
            if method == "PRACK":
                dialog.answer_prack(res)
            else:
                dialog.answer(req)
        elif method == "PRACK":
            res.send(200)
        elif dialog_id or req.to_tag is not None:
            res.send(481)
        elif self._stopping:
            res.send(503, headers={"Retry-After": "5"})
        elif self._chain(method).is_empty and self._methods():
            res.send(405, headers={"Allow": ", ".join(sorted(self._methods()))})
        else:
            res.send(404)

    def failed(self, req: Request, res: Response, failure: Failure) -> None:
        """Answer a request whose handler failed, and log it."""
        error = failure.value
        call_id = req.get("Call-ID")
        method = req.method
        if req.canceled and isinstance(error, (SipError, ConnectionLost)):
            _log.info("{method} was cancelled, Call-ID {call_id}", method=method, call_id=call_id)
            return
        if isinstance(error, ConnectionLost):
            _log.warn(
                "{method} was not handled: {error}, Call-ID {call_id}",
                method=method,
                error=error,
                call_id=call_id,
            )
        else:
            _log.failure(
                "the handler of {method} failed, Call-ID {call_id}",
                failure,
                method=method,
                call_id=call_id,
            )
        if not res.finished and not req.link.closed:
            # A refusal that the handler let pass is passed on.
            status = 500
            if isinstance(error, SipError) and 400 <= error.status <= 699:
                status = error.status
            res.send(status)
        elif method == "INVITE" and self._end_failed_calls:
            self._end_call(req)

    def _end_call(self, invite: Request) -> None:
        """End the call that an INVITE began: whoever was to do that has failed."""
        name = f"{invite.get('Call-ID')};from-tag={invite.from_tag or ''}"
        dialog = invite._state.dialogs.get(name, "uas")
        if dialog is None or dialog.req is not invite:
            return
        for each in (dialog, dialog.other):
            if each is not None and each.connected:
                each.destroy({"Reason": 'SIP;cause=500;text="The application failed"'})

    # Inside

    def _chain(self, method: str) -> Chain:
        chain = self._chains.get(method)
        if chain is None:
            # Who stops takes nothing new.
            refused = self._stopping and method not in _NEVER_OFFERED
            chain = Chain([] if refused else self._steps(method), self)
            if len(self._chains) < 64:  # methods come from the network
                self._chains[method] = chain
        return chain

    def _changed(self) -> None:
        self._chains.clear()
        super()._changed()
        verbs = []
        if not self._stopping:
            offered = self._methods() - _NEVER_OFFERED - self._withdrawn
            verbs += [method.lower() for method in sorted(offered)]
            summarised = bool(self._events.call_summary.handlers)
            verbs += [
                f"cdr:{name}"
                for name, event in self._events.cdr.items()
                if summarised or event.handlers
            ]
        if tuple(verbs) != self._verbs:
            self._verbs = tuple(verbs)
            for state in self._states.values():
                if not state.link.outbound:
                    state.link.set_routes(self._verbs)

    def _unused(self, state: LinkState) -> None:
        """Nothing uses a connection any more."""
        if state.link.outbound and not state.held and state.link in self._states:
            # Not at once: what came in the same read may use it again.
            self.clock.callLater(0, self._close_unused, state)
        if self._when_idle:
            self._check_idle()

    def _close_unused(self, state: LinkState) -> None:
        if state.idle_call is not None and not state.idle_call.active():
            state.idle_call = None
        if state.is_idle and not state.held and state.link in self._states:
            state.link.close()

    def _check_idle(self) -> None:
        if self._when_idle and self.idle:
            waiting, self._when_idle = self._when_idle, []
            for waiter in waiting:
                waiter.callback(None)


def _tls_options(tls: TlsOptions | bool | None) -> TlsOptions | None:
    if tls is True:
        return TlsOptions()
    return tls or None
