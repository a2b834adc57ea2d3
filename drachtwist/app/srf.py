"""Srf, the SIP resource framework: connections in, handlers in the middle, dialogs out.

:class:`Srf` is the face of an application: what it offers is done behind it.

=====================================  ===========================================================
:mod:`~drachtwist.app.router`          handlers, middleware, mounted applications
:mod:`~drachtwist.app.connections`     connections that are made and waited for, and their end
:mod:`~drachtwist.app.dispatch`        which transaction, dialog or handler gets a message
:mod:`~drachtwist.app.events`          what else the application may be told of
=====================================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)

from drachtwist.app.authentication import Auth
from drachtwist.app.b2bua import B2bua, create_b2bua
from drachtwist.app.call_records import CallRecord, CallSummary
from drachtwist.app.client_request import (
    ClientRequest,
    PendingRequest,
    send_request,
)
from drachtwist.app.connections import Connections
from drachtwist.app.destinations import Target, way_to
from drachtwist.app.dialog import Dialog
from drachtwist.app.dialog_info import DialogState
from drachtwist.app.dialog_table import Role
from drachtwist.app.dispatch import NEVER_OFFERED, Dispatcher
from drachtwist.app.ended_calls import EndedCalls
from drachtwist.app.events import CDR_EVENTS, Events
from drachtwist.app.handlers import AnyHandler
from drachtwist.app.interfaces import SdpHook, SdpSource
from drachtwist.app.mistakes import misplaced_options
from drachtwist.app.option_types import check_connecting, check_options
from drachtwist.app.outgoing_request import OutgoingRequest
from drachtwist.app.proxying import ProxyResult, proxy_request
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.app.router import Router
from drachtwist.app.targets import complete_uri
from drachtwist.app.uac import PendingCall, prepare_uac
from drachtwist.app.uas import create_uas
from drachtwist.errors import LocalProtocolError
from drachtwist.net.endpoints import Connect, Listen
from drachtwist.net.protocol import DrachtioProtocol
from drachtwist.net.service import InboundConnection, OutboundListener
from drachtwist.net.tls import TlsOptions
from drachtwist.sip.headers import HeadersLike
from drachtwist.tracing.story import Story
from drachtwist.tracing.trace import Trace
from drachtwist.wire.commands import check_tags

__all__ = ["CallRecord", "Srf"]

# What is returned as it was given, for decorators: a handler, by what it is told.
_OnNothing = TypeVar("_OnNothing", bound=Callable[[], object])
_OnLink = TypeVar("_OnLink", bound=Callable[[DrachtioProtocol], object])
_OnError = TypeVar("_OnError", bound=Callable[[Exception], object])
_OnSeconds = TypeVar("_OnSeconds", bound=Callable[[float], object])
_OnAddress = TypeVar("_OnAddress", bound=Callable[[IAddress], object])
_OnCallRecord = TypeVar("_OnCallRecord", bound=Callable[[CallRecord], object])
_OnCallSummary = TypeVar("_OnCallSummary", bound=Callable[[CallSummary], object])
_OnDialogState = TypeVar("_OnDialogState", bound=Callable[[DialogState], object])


class Srf(Router):
    """A SIP application.

    :param tags: what servers may know this application by: at most 20 words of at most 32
        characters.
    :param reactor: the reactor; the global one when it is needed first, if None.
    :param end_failed_calls: end a call with a BYE when the handler of its INVITE fails behind
        :meth:`create_uas`, and the other side of it if it is bridged; otherwise it stays up.
    :param keep_calls: seconds that calls go on for when the connection to the server is lost, so
        that they are there when it comes back; None for not at all. It has to be a server of this
        package that the application connects to, and whose ``orphan_grace`` is longer.
    :raises LocalProtocolError: for bad tags, and for a time that is none.
    """

    locals: dict[str, Any]
    """What the handlers of this application want to tell each other."""

    def __init__(
        self,
        tags: Sequence[str] = (),
        *,
        reactor: Any = None,
        end_failed_calls: bool = True,
        keep_calls: float | None = None,
    ) -> None:
        super().__init__()
        self.tags = check_tags(tags)
        self.locals = {}
        self._settings: dict[str, Any] = {}
        self._withdrawn: set[str] = set()
        self._events = Events()
        self._log_calls: bool | None = None
        self._connections = Connections(
            self, reactor, self.tags, self._events, self._settings, self._changed, keep_calls
        )
        self._dispatcher = Dispatcher(
            self, self._connections, self._events, end_failed_calls=end_failed_calls
        )
        self._connections.handler = self._dispatcher

    def __repr__(self) -> str:
        return f"<Srf {len(self._connections.table)} connections>"

    @property
    def clock(self) -> IReactorTime:
        """What deadlines hang on: the reactor's calls on a time that nobody can set, or the Clock
        that stands in for the reactor.
        """
        return self._connections.clock

    @property
    def log_calls(self) -> bool:
        """Whether there is a line in the log for each call when it is over: who, whom, how long,
        and how it ended. Under ``twistd`` there is, unless this is set to False.
        """
        return self._events.calls is not None

    @log_calls.setter
    def log_calls(self, wanted: bool) -> None:
        self._log_calls = wanted
        # The reactor is not needed before a call is over.
        calls = EndedCalls(Story(lambda: self.clock.seconds())) if wanted else None
        self._events.calls = calls

    def _is_hosted(self) -> None:
        """Somebody reads the log."""
        if self._log_calls is None:
            self.log_calls = True

    @property
    def is_traced(self) -> bool:
        """Whether :attr:`trace` was used, or set: otherwise nothing is kept."""
        return self._connections.trace is not None

    @property
    def trace(self) -> Trace:
        """The SIP of this application: the messages of the last calls, and their ladders.

        From the first use of it on, what passes is kept in a ring. Set it to have another one; one
        that is at the sockets of a server in the same process does not see the connections of the
        application, where everything would pass a second time.
        """
        trace = self._connections.trace
        if trace is None:
            trace = self._connections.trace = Trace()
            self._connections.look(trace)
        return trace

    @trace.setter
    def trace(self, trace: Trace | None) -> None:
        self._connections.trace = trace
        self._connections.look(None if trace is None or trace.at_sockets else trace)

    @property
    def reactor(self) -> Any:
        """The reactor, for what is no matter of time: endpoints of web sites, say."""
        return self._connections.reactor

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

    # Settings

    def set(self, name: str, value: Any) -> None:
        """Keep a setting of the application under a name."""
        self._settings[name] = value

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting of the application."""
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
        *misplaced: NoReturn,
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
        if misplaced:
            raise misplaced_options("create_uas", misplaced)
        return create_uas(req, res, local_sdp=local_sdp, headers=headers)

    def create_uac(
        self,
        uri: Target,
        *misplaced: NoReturn,
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
        if misplaced:
            raise misplaced_options("create_uac", misplaced)
        if local_sdp is not None and type(local_sdp) is not str and type(local_sdp) is not bytes:
            check_options(local_sdp=local_sdp)
        return prepare_uac(
            self._connections,
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
        *misplaced: NoReturn,
        local_sdp_a: SdpHook[ReceivedResponse] = None,
        local_sdp_b: SdpHook[Request] = None,
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
        if misplaced:
            raise misplaced_options("create_b2bua", misplaced)
        return create_b2bua(
            self._connections,
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
        *misplaced: NoReturn,
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
        :param record_route: stay in the way of the further requests of the dialog; of a REGISTER,
            in that of requests for who registers (RFC 3327).
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
        if misplaced:
            raise misplaced_options("proxy_request", misplaced)
        return proxy_request(
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
        *misplaced: NoReturn,
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
        if misplaced:
            raise misplaced_options("request", misplaced)
        check_options(
            uri=uri,
            method=method,
            headers=headers,
            body=body,
            proxy=proxy,
            auth=auth,
            on_request=on_request,
            on_provisional=on_provisional,
        )
        method = method.upper()
        if method in ("ACK", "CANCEL"):
            raise LocalProtocolError(f"{method} gets no response: it is no request for itself")
        address, proxy, headers = way_to(uri, proxy, headers)
        client = ClientRequest(
            self._connections.find(link),
            method,
            complete_uri(address, bool(proxy)),
            headers=headers,
            body=body,
            proxy=proxy,
            auth=auth,
            on_provisional=on_provisional,
        )
        return send_request(client, on_request)

    def find_dialog_by_id(self, dialog_id: str, *, type: Role | None = None) -> Dialog | None:
        """Return the dialog that the servers know by an id, the oldest of several.

        :param type: ``uas`` or ``uac``: which of the two that an application has when it calls
            itself through a server; either if None, the called side first.
        :returns: None when there is none.
        """
        found: Dialog | None = self._connections.dialogs.find(dialog_id, type)
        return found

    def find_dialog_by_call_id_and_from_tag(
        self, call_id: str, tag: str, *, type: Role | None = None
    ) -> Dialog | None:
        """Return the dialog with this Call-ID whose first request had this tag in its From.

        :param type: as for :meth:`find_dialog_by_id`.
        """
        return self.find_dialog_by_id(f"{call_id};from-tag={tag}", type=type)

    # Events

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

    def on_connect(self, handler: _OnLink) -> _OnLink:
        """Call a handler with each connection, of either kind, once the server accepted us."""
        return self._events.connect.add(handler)

    def on_ready(self, handler: _OnLink) -> _OnLink:
        """Call a handler with each connection that we made, once the server took our routes.

        From then on it hands over requests; before, they are refused if nobody else is there.
        """
        return self._events.ready.add(handler)

    def on_close(self, handler: _OnLink) -> _OnLink:
        """Call a handler with each connection that was up and is gone."""
        return self._events.close.add(handler)

    def on_error(self, handler: _OnError) -> _OnError:
        """Call a handler with the error when connecting or listening fails; repeats are spared."""
        return self._events.error.add(handler)

    def on_reconnecting(self, handler: _OnSeconds) -> _OnSeconds:
        """Call a handler with the seconds until the next attempt to connect."""
        return self._events.reconnecting.add(handler)

    def on_listening(self, handler: _OnAddress) -> _OnAddress:
        """Call a handler with the address of each listener that is bound."""
        return self._events.listening.add(handler)

    def on_cdr(self, event: str) -> Callable[[_OnCallRecord], _OnCallRecord]:
        """Decorate a handler of call detail records: it gets a :class:`CallRecord`.

        :param event: ``attempt``, ``start`` or ``stop``. There may be several handlers for each.
        :raises LocalProtocolError: for any other event.
        """
        if event not in CDR_EVENTS:
            raise LocalProtocolError(f"no CDR event: {event!r}")

        def decorate(handler: _OnCallRecord) -> _OnCallRecord:
            self._events.cdr[event].add(handler)
            self._changed()
            return handler

        return decorate

    def on_call_summary(self, handler: _OnCallSummary) -> _OnCallSummary:
        """Call a handler with a :class:`CallSummary` when a call is over.

        It joins the call detail records of the call, with durations. The server then reports all of
        them to this application.
        """
        self._events.call_summary.add(handler)
        self._changed()
        return handler

    def on_dialog_state(self, handler: _OnDialogState) -> _OnDialogState:
        """Call a handler with a :class:`DialogState` for each state of each call (RFC 4235)."""
        return self._events.dialog_state.add(handler)

    # Inside

    def _changed(self) -> None:
        self._dispatcher.changed()
        super()._changed()
        routes: list[str] = []
        if not self._connections.is_stopping:
            offered = self._methods() - NEVER_OFFERED - self._withdrawn
            routes += [method.lower() for method in sorted(offered)]
            summarised = bool(self._events.call_summary.handlers)
            routes += [
                f"cdr:{name}"
                for name, event in self._events.cdr.items()
                if summarised or event.handlers
            ]
        self._connections.offer(tuple(routes))
