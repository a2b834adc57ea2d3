"""Srf, the SIP resource framework: connections in, handlers in the middle, dialogs out.

:class:`Srf` is the face of an application: what it offers is done behind it.

=====================================  ===========================================================
:mod:`~drachtwist.app.router`          handlers, middleware, mounted applications
:mod:`~drachtwist.app.connecting`      connect, listen, start, stop
:mod:`~drachtwist.app.connections`     connections that are made and waited for, and their end
:mod:`~drachtwist.app.dispatch`        which transaction, dialog or handler gets a message
:mod:`~drachtwist.app.event_handlers`  what else the application may be told of
=====================================  ===========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IReactorTime,
)

from drachtwist.app.authentication import Auth
from drachtwist.app.b2bua import B2bua, create_b2bua
from drachtwist.app.call_records import CallRecord
from drachtwist.app.client_request import (
    ClientRequest,
    PendingRequest,
    send_request,
)
from drachtwist.app.connecting import Connecting
from drachtwist.app.connections import Connections
from drachtwist.app.destinations import Target, way_to
from drachtwist.app.dialog import Dialog
from drachtwist.app.dialog_table import Role
from drachtwist.app.dispatch import NEVER_OFFERED, Dispatcher
from drachtwist.app.ended_calls import EndedCalls
from drachtwist.app.event_handlers import EventHandlers
from drachtwist.app.events import Events
from drachtwist.app.interfaces import SdpHook, SdpSource
from drachtwist.app.mistakes import misplaced_options
from drachtwist.app.option_types import check_options
from drachtwist.app.outgoing_request import OutgoingRequest
from drachtwist.app.proxying import ProxyResult, proxy_request
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.app.targets import complete_uri
from drachtwist.app.uac import PendingCall, prepare_uac
from drachtwist.app.uas import create_uas
from drachtwist.errors import LocalProtocolError
from drachtwist.net.tasks import name_results
from drachtwist.sip.headers import HeadersLike
from drachtwist.tracing.story import Story
from drachtwist.tracing.trace import Trace
from drachtwist.wire.commands import check_tags

__all__ = ["CallRecord", "Srf"]

# What the Deferreds stand for that are handed out.
name_results(Dialog, B2bua, ReceivedResponse, ProxyResult)


class Srf(Connecting, EventHandlers):
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
