"""The embedded server as a service: sockets for phones, ports for applications."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    wrapClientTLS,
)
from twisted.internet.error import CannotListenError, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IListeningPort, ITCPTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.net.alerts import Alerts
from drachtwist.net.gate import Gate
from drachtwist.net.logs import Logger
from drachtwist.net.names import Names, name_server
from drachtwist.net.observers import Observers
from drachtwist.net.protocol import DrachtioServerFactory, DrachtioServerProtocol
from drachtwist.net.sip.flows import Flow
from drachtwist.net.sip.transports import SipTransports
from drachtwist.net.steady import steady
from drachtwist.net.tasks import Awaited, from_coroutine, look
from drachtwist.net.tls import Credentials, TlsOptions, describe_tls_failure
from drachtwist.net.waiting import either
from drachtwist.server.asking import WebAsker
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.core import ServerCore
from drachtwist.server.door import Door
from drachtwist.server.incoming import Incoming
from drachtwist.server.metrics import Metrics
from drachtwist.server.orphans import RETRY_AFTER
from drachtwist.sip.fields import Address
from drachtwist.sip.locating import Question, Records
from drachtwist.sip.message import Request
from drachtwist.sip.uri import SipUri, TelUri, Uri
from drachtwist.tracing.hep import HepSink
from drachtwist.tracing.recent import Recent
from drachtwist.tracing.trace import Trace
from drachtwist.wire.decisions import AppAddress, RoutingQuery
from drachtwist.wire.session import Commanded, ServerSession

__all__ = ["DrachtioServer", "query_of"]

CONNECT_TIMEOUT = 30.0
"""Seconds that connecting to an application may take."""

_CLIENT_REMEDY = "see verify_clients of TlsOptions"
_REMEDY = "see verify_applications and application_ca, or --app-ca"


class DrachtioServer(Service):
    """A drachtio server for one machine.

    :param config: its settings.
    :param reactor: the reactor; the usual one unless given.
    :param clock: what deadlines hang on; the reactor's calls on a time that nobody can set, unless
        given.
    """

    _log = Logger()

    # What reaches phones, and the DNS; a server in memory has others.
    make_transports: Callable[..., SipTransports] = SipTransports
    make_names: Callable[..., Names] = Names

    def __init__(
        self, config: ServerConfig | None = None, reactor: Any = None, clock: Any = None
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.config = ServerConfig() if config is None else config
        self.reactor = reactor
        self.clock = steady(reactor) if clock is None else clock
        self.alerts = Alerts(self._log, self.clock.seconds)
        """What an operator is told of, and how often it happened."""
        self.limits = self.config.limits
        """What peers may cost; while the server runs, what was left open is settled."""
        self.transports: SipTransports | None = None
        self.names: Names | None = None
        self.core: ServerCore | None = None
        self.trace: Trace | None = None
        """What sees all SIP that passes, if it was given before the start."""
        self._homer: HepSink | None = None
        self.admin_port: int | None = None
        """The TCP port that applications connect to, once it is open."""
        self.admin_tls_port: int | None = None
        """The same with TLS."""
        self.prometheus_port: int | None = None
        """The port that numbers are served on, once it is open."""
        self._ports: list[IListeningPort] = []
        self._links: set[DrachtioServerProtocol] = set()
        self._pending: set[Deferred[Any]] = set()
        self._dialled: set[DrachtioServerProtocol] = set()
        self._door = Door(self.limits.settled(), self.clock, self.alerts, required=True)
        self._factory = DrachtioServerFactory(
            self._new_session,
            self,
            clock=self.clock,
            unread=self.limits.unread,
            patience=self.limits.unread_timeout,
            secret_delay=self.limits.secret_delay,
        )
        self._dialing_factory = DrachtioServerFactory(
            self._new_session,
            self,
            outbound=True,
            unread=self.limits.unread,
            patience=self.limits.unread_timeout,
            clock=self.clock,
        )
        # Fires when nobody is waited for any more, once the server stops.
        self._leaving: Deferred[None] | None = None
        # Connections that the server made, until the application shows the secret.
        self._unsigned: dict[DrachtioServerProtocol, IDelayedCall] = {}
        # What the admin port for TLS shows, and what is used to connect to applications.
        self._admin_tls: Credentials | None = None
        self._application_tls: Credentials | None = None
        self._askers: dict[RequestHandler, WebAsker] = {}
        self._outcome: Failure | None = None
        self._begun = False
        self._listening = False
        self._waiting: Observers[None] = Observers()

    def __repr__(self) -> str:
        return f"<DrachtioServer {', '.join(self.sip_addresses) or 'stopped'}>"

    @property
    def sip_addresses(self) -> tuple[str, ...]:
        """Where SIP is served: ``udp/127.0.0.1:5060`` and so on."""
        if self.transports is None:
            return ()
        return tuple(str(listener) for listener in self.transports.listeners)

    def when_listening(self) -> Deferred[None]:
        """Wait until all ports are open.

        :returns: fails with what keeps a port from being opened, an ``OSError``,
            :exc:`~twisted.internet.error.CannotListenError` or
            :exc:`~drachtwist.errors.LocalProtocolError`.
        """
        if self._outcome is None and not self._listening:
            return self._waiting.wait()
        result: Deferred[None] = Awaited()
        if self._outcome is None:
            result.callback(None)
        else:
            result.errback(self._outcome)
        return result

    # Service

    def privilegedStartService(self) -> None:
        """Open all ports, before privileges are given up."""
        super().privilegedStartService()
        self._begin()

    def startService(self) -> None:
        """Open all ports; a port that cannot be opened is told by :meth:`when_listening`, and
        logged if nobody has asked there.
        """
        super().startService()
        look()
        self._begin()

    def _begin(self) -> None:
        if self._begun:
            return
        self._begun = True
        self._outcome = None
        config = self.config
        self.limits = limits = config.limits.settled(dials=bool(config.request_handlers))
        self._door = Door(limits, self.clock, self.alerts, config.require_authentication)
        self.names = self.make_names(
            self.reactor, [name_server(one) for one in config.name_servers]
        )
        # The core and what carries its messages know each other.
        self.transports = self.make_transports(
            self.reactor,
            None,
            tls=config.tls,
            peer_ca=config.peer_ca,
            verify_sips=config.verify_sips,
            backlog=config.listen_backlog,
            udp_buffer=config.udp_buffer_size,
            limits=limits.of_transports(),
            alerts=self.alerts,
        )
        self.core = ServerCore(config, self.transports, self, self.clock, alerts=self.alerts)
        self.transports.handler = self.core
        self._look(self.transports)
        try:
            self._application_tls = Credentials(_toward_applications(config))
            for contact in config.contacts:
                self.transports.listen(contact)
        except (OSError, CannotListenError, LocalProtocolError):
            self._settle(Failure())
            return
        steps: list[tuple[str, int]] = []
        if config.admin_port is not None:
            steps.append(("admin_port", config.admin_port))
        if config.admin_tls_port is not None:
            steps.append(("admin_tls_port", config.admin_tls_port))
        opened = self._open(steps)
        opened.addCallbacks(lambda _: self._settle(None), self._settle)

    def _look(self, transports: SipTransports) -> None:
        """Let somebody see what passes, if anybody is to."""
        config, trace = self.config, self.trace
        if config.capture_host is not None:
            if trace is None:
                trace = self.trace = Trace(Recent(0))
            self._homer = HepSink(
                self.reactor,
                config.capture_host,
                config.capture_port,
                config.capture_id,
                self.alerts,
            )
            trace.add(self._homer)
        if trace is not None:
            trace.at_sockets = True
            transports.tap = trace

    async def _open_all(self, steps: list[tuple[str, int]]) -> None:
        host = self.config.admin_host
        kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
        for name, number in steps:
            factory: Any = self._factory
            carrier = "tcp"
            if name == "admin_tls_port":
                carrier = "tls"
                self._admin_tls = Credentials(self.config.tls or TlsOptions(), listens=True)
                factory = TLSMemoryBIOFactory(self._admin_tls.server_creator(), False, factory)
            factory = Gate(factory, self._door.refuses, f"applications over {carrier}")
            interface = "" if host in ("*", "0.0.0.0") else host
            port = await kind(self.reactor, number, interface=interface).listen(factory)
            self._ports.append(port)
            setattr(self, name, port.getHost().port)
        if self.core is not None and self.core.metrics is not None:
            await self._open_metrics(self.core.metrics)

    async def _open_metrics(self, metrics: Metrics) -> None:
        from drachtwist.server.scraping import listen  # not loaded unless wanted

        config = self.config
        port: Any = await listen(
            self.reactor, config.prometheus_host, config.prometheus_port or 0, metrics
        )
        self._ports.append(port)
        self.prometheus_port = port.getHost().port

    def _open(self, steps: list[tuple[str, int]]) -> Deferred[None]:
        return from_coroutine(self._open_all(steps))

    def _settle(self, outcome: Failure | None) -> None:
        self._outcome = outcome
        self._listening = outcome is None
        if outcome is None:
            self._waiting.fire(None)
        elif self._waiting:
            error = outcome.value
            assert isinstance(error, Exception), "what a coroutine fails with"
            self._waiting.fail(lambda: error)
        else:
            # Whoever asks later learns it too; but in a .tac file, say, nobody does.
            self._log.error("the server cannot start: {error}", error=outcome.getErrorMessage())

    def stopService(self) -> Deferred[None]:
        """Close all ports and connections; calls are not ended, as by the real server.

        Applications in the same parent that are being stopped, and so are hanging up on their
        calls, are waited for.
        Connections that their peers do not let end are cut after a while (``stop`` of
        :class:`~drachtwist.server.limits.ServerLimits`), or when :meth:`hurry` is called.
        """
        super().stopService()
        self._begun = False
        return from_coroutine(self._stop())

    async def _stop(self) -> None:
        leaving: Deferred[None] = Deferred()
        self._leaving = leaving
        leaving.addCallback(self._cut)
        siblings: Any = self.parent or ()
        for other in siblings:
            # An SrfService, of whose module nothing is known here.
            stopping = getattr(other, "stopping", None)
            if isinstance(stopping, Deferred):
                await either(_without_taking(stopping), leaving)
        await self._close(leaving)

    def hurry(self) -> None:
        """Wait for no peer any more: a stop that is under way ends at once."""
        leaving = self._leaving
        if leaving is not None and not leaving.called:
            leaving.callback(None)

    def _cut(self, _: None) -> None:
        """Cut what does not end by itself."""
        left = list(self._links)
        if left:
            self._log.warn("{count} connections to applications are cut", count=len(left))
        for link in left:
            link.abort()
        if self.transports is not None:
            self.transports.cut()

    async def _close(self, leaving: Deferred[None]) -> None:
        timer = self.clock.callLater(self.limits.stop, self.hurry)
        try:
            await self._close_all(leaving)
        finally:
            self._leaving = None
            if timer.active():
                timer.cancel()

    async def _close_all(self, leaving: Deferred[None]) -> None:
        self._listening = False
        if self.core is not None:
            self.core.stop()
        for pending in list(self._pending):
            pending.cancel()
        if self.names is not None:
            await either(self.names.stop(), leaving)
        ports, self._ports = self._ports, []
        for port in ports:
            await either(maybeDeferred(port.stopListening), leaving)
        self.admin_port = self.admin_tls_port = self.prometheus_port = None
        for link in list(self._links):
            link.close()
        for link in list(self._links):
            await either(link.when_gone(), leaving)
        askers, self._askers = self._askers, {}
        for asker in askers.values():
            await either(asker.close(), leaving)
        if self.transports is not None:
            stopped = self.transports.stop()
            if leaving.called:
                self.transports.cut()
            await stopped
            self.transports = None
        if self._homer is not None:
            if self.trace is not None:
                self.trace.remove(self._homer)
            self._homer.close()
            self._homer = None

    def reload(self, config: ServerConfig | None = None) -> list[LocalProtocolError]:
        """Read keys, certificates and authorities again, for connections made from now on.

        Calls and connections stay as they are. A file that cannot be used is reported in the log,
        and what was read before is kept.

        :param config: where the files are now, and the list of spammers; of other settings nothing
            is taken. As before if None.
        :returns: what could not be used.
        """
        if config is not None:
            self.config = replace(
                self.config,
                tls=config.tls,
                peer_ca=config.peer_ca,
                application_ca=config.application_ca,
                spammers=config.spammers,
            )
            if self.core is not None:
                self.core.config = self.config
        config = self.config
        problems: list[LocalProtocolError] = []

        def attempt(what: Callable[..., None], *about: Any) -> None:
            try:
                what(*about)
            except LocalProtocolError as error:
                problems.append(error)
                self._log.error("what was read before is kept: {error}", error=error)

        if self._admin_tls is not None:
            attempt(self._admin_tls.reload, config.tls or TlsOptions())
        if self._application_tls is not None:
            attempt(self._application_tls.reload, _toward_applications(config))
        if self.transports is not None:
            attempt(self.transports.reload_tls, config.tls, config.peer_ca)
        return problems

    # Connections to applications

    def _new_session(self) -> ServerSession:
        # TCP before UDP, as the real server tells them.
        listeners = [] if self.transports is None else sorted(self.transports.listeners, key=str)
        return ServerSession(
            self.config.secret,
            [f"{one.protocol}/{one.address_toward('')}" for one in listeners],
            self.config.version,
            [str(one) for one in listeners],
            stranger_limit=self.limits.secret_frame,
            require_authentication=self.config.require_authentication,
        )

    def opened(self, link: DrachtioServerProtocol) -> None:
        """Take note of a connection."""
        self._links.add(link)
        keep_alive(link.transport, self.config.tcp_keepalive)
        if link.outbound:
            self._dialled.add(link)
        else:
            self._door.entered(link)

    def signed(self, link: DrachtioServerProtocol) -> None:
        """Admit an application that showed the right secret."""
        self._door.signed(link)
        self._no_longer_unsigned(link)
        if self.core is not None:
            self.core.signed(link)

    def wrong_secret(self, link: DrachtioServerProtocol) -> None:
        """Report who guesses secrets, or was given another one."""
        self.alerts.note("wrong_secret", "{peer} shows a wrong secret", peer=link.peer)

    def broken(self, link: DrachtioServerProtocol, error: Exception) -> None:
        """Report an application whose frames cannot be read."""
        self.alerts.note(
            "broken_frames",
            "closing the connection to {peer}: {error}",
            peer=link.peer,
            error=error,
        )

    def unread(self, link: DrachtioServerProtocol, why: str) -> None:
        """Report an application that leaves too much unread, or reads nothing."""
        if why == "unread":
            self.alerts.note(
                "unread",
                "the connection of the application at {peer} is cut: it left {most} bytes unread",
                peer=link.peer,
                most=self.limits.unread,
            )
        else:
            self.alerts.note(
                "stalled",
                "the connection of the application at {peer} is cut: it read nothing for"
                " {seconds:g} s",
                peer=link.peer,
                seconds=self.limits.unread_timeout,
            )

    def commanded(self, link: DrachtioServerProtocol, event: Commanded) -> None:
        """Carry out the command of an application."""
        if self.core is not None:
            self.core.commanded(link, event)

    def gone(self, link: DrachtioServerProtocol) -> None:
        """Let go of an application whose connection is gone."""
        self._links.discard(link)
        self._dialled.discard(link)
        self._door.left(link)
        if self._no_longer_unsigned(link) and self._listening:
            self.alerts.note(
                "no_secret",
                "the application at {peer} is gone before it showed the secret: {error}",
                peer=link.peer,
                error=self._described(link.loss),
            )
        elif (problem := describe_tls_failure(link.loss, "its", _CLIENT_REMEDY)) is not None:
            self.alerts.note(
                "application_tls", "{peer} does not get in: {error}", peer=link.peer, error=problem
            )
        if self.core is not None:
            self.core.gone(link)

    def _no_longer_unsigned(self, link: DrachtioServerProtocol) -> bool:
        """Wait for the secret no longer; say whether that was waited for."""
        patience = self._unsigned.pop(link, None)
        if patience is None:
            return False
        if patience.active():
            patience.cancel()
        return True

    def connect(self, address: AppAddress, incoming: Incoming) -> None:
        """Connect to an application for a request."""
        core = self.core
        assert core is not None
        if self._dials_too_much(incoming):
            return
        endpoint: Any = HostnameEndpoint(
            self.reactor, address.host or "127.0.0.1", address.port, timeout=CONNECT_TIMEOUT
        )
        if address.tls:
            assert self._application_tls is not None, "it is read at the start"
            handler = core.router.handler_for(incoming.method)
            verify = self.config.verify_applications or (
                handler is not None and handler.verify_peer
            )
            try:
                creator = self._application_tls.client_creator(
                    address.host or "localhost", verify=verify
                )
            except LocalProtocolError as error:
                self._no_application(address, error)
                core.unreachable(incoming)
                return
            endpoint = wrapClientTLS(creator, endpoint)
        connecting = endpoint.connect(self._dialing_factory)
        self._pending.add(connecting)

        def settled(result: Any) -> Any:
            self._pending.discard(connecting)
            return result

        def connected(link: DrachtioServerProtocol) -> None:
            # Over TLS the protocol is wrapped.
            link = getattr(link, "wrappedProtocol", link)
            if core.stopped:
                link.close()
                return
            # Later nobody waits for it any more.
            patience = self.config.answer_within
            self._unsigned[link] = self.clock.callLater(patience, link.abort)
            core.expect(link, incoming)

        def failed(failure: Failure) -> None:
            if not core.stopped:
                self._no_application(address, self._described(failure.value))
                core.unreachable(incoming, 500 if failure.check(DNSLookupError) else 480)

        connecting.addBoth(settled)
        connecting.addCallbacks(connected, failed)
        connecting.addErrback(
            lambda failure: self._log.failure(
                "connecting to {to} made us fail", failure, to=address
            )
        )

    def _dials_too_much(self, incoming: Incoming) -> bool:
        """Refuse a request that nobody more may be connected to for; say whether it is."""
        most = self.limits.dialled
        if len(self._pending) + len(self._dialled) < most:
            return False
        self.alerts.note(
            "dialled", "{most} connections were made for requests: new ones get 503", most=most
        )
        assert self.core is not None
        if incoming.is_open:
            self.core.uas.refuse(incoming, 503, lines=(RETRY_AFTER,))
        return True

    def _no_application(self, address: AppAddress, why: object) -> None:
        self.alerts.note(
            "no_application", "no application at {address}: {error}", address=address, error=why
        )

    def _described(self, error: BaseException | None) -> str:
        found = describe_tls_failure(error, "the application's", _REMEDY)
        return found or str(error) or type(error).__name__

    def ask(self, handler: RequestHandler, incoming: Incoming) -> None:
        """Ask a web application about a request."""
        core = self.core
        assert core is not None
        if self._dials_too_much(incoming):
            return
        asker = self._askers.get(handler)
        if asker is None:
            self._askers[handler] = asker = WebAsker(
                self.reactor,
                handler.uri,
                post=handler.http_method == "POST",
                agent=f"Drachtio/{self.config.version.partition('+')[0]}",
                credentials=self._application_tls,
            )
        request = incoming.request
        asking = asker.ask(query_of(request, incoming.flow), request.raw)
        self._pending.add(asking)

        def settled(result: Any) -> Any:
            self._pending.discard(asking)
            return result

        def failed(failure: Failure) -> None:
            if not core.stopped:
                self.alerts.note(
                    "no_decision",
                    "{uri} does not decide: {error}",
                    uri=str(handler),
                    error=failure.getErrorMessage(),
                )
                core.decided(incoming, None)

        asking.addBoth(settled)
        asking.addCallbacks(lambda decision: core.decided(incoming, decision), failed)
        asking.addErrback(
            lambda failure: self._log.failure(
                "a decision of {uri} made us fail", failure, uri=str(handler)
            )
        )

    def look_up(self, question: Question, told: Callable[[Records | None], object]) -> None:
        """Find the answer to a question of the core."""
        assert self.names is not None
        self.names.look_up(question, told)

    def full_names(self, host: str) -> Sequence[str]:
        """Return what a name may stand for."""
        assert self.names is not None
        return self.names.full_names(host)


def _without_taking(waiting: Deferred[Any]) -> Deferred[None]:
    """Wait for what others wait for too."""
    over: Deferred[None] = Deferred()

    def fire(result: Any) -> Any:
        over.callback(None)
        return result

    waiting.addBoth(fire)
    return over


def _toward_applications(config: ServerConfig) -> TlsOptions:
    """Say how to connect to applications; whether they are verified depends."""
    own = config.tls or TlsOptions()
    return replace(own, ca=config.application_ca, server_name=None, client_names=())


def keep_alive(transport: Any, seconds: int) -> None:
    """Let the system look whether the peer of an idle connection is still there.

    :param seconds: between two looks; 0 for no looks at all.
    """
    while isinstance(transport, TLSMemoryBIOProtocol):
        transport = transport.transport
    if not ITCPTransport.providedBy(transport):
        return
    transport.setTcpKeepAlive(seconds > 0)
    get_handle = getattr(transport, "getHandle", None)
    if seconds <= 0 or get_handle is None:
        return
    handle = get_handle()
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return  # Twisted takes sockets of the file system for TCP too
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, name):
            handle.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), seconds)


def query_of(request: Request, flow: Flow) -> RoutingQuery:
    """Tell a web application about a request (protocol.md 7.2); what cannot be read is empty."""
    uri = request.uri
    domain = user = ""
    params: dict[str, str] = {}
    try:
        parsed = Uri.parse(uri)
    except MessageError:
        parsed = None
    if isinstance(parsed, SipUri):
        domain, user = parsed.address, parsed.user or ""
        for name, value in parsed.params.pairs:
            # A value with another '=' in it gets lost, as in the real server.
            params[name] = "" if value is None or "=" in value else value
    elif isinstance(parsed, TelUri):
        user = parsed.number
    content_type = (request.get("Content-Type") or "").partition(";")[0].strip()
    return RoutingQuery(
        request.method,
        domain=domain,
        protocol=flow.reported,
        source_address=flow.remote_host,
        from_user=_user(request.get("From")),
        to_user=_user(request.get("To")),
        uri_user=user,
        content_type=content_type,
        uri=uri,
        uri_params=params,
    )


def _user(text: str | None) -> str:
    try:
        uri = Address.parse(text or "").parsed_uri
    except MessageError:
        return ""
    if isinstance(uri, SipUri):
        return uri.user or ""
    return uri.number if isinstance(uri, TelUri) else ""
