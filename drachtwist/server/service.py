"""The embedded server as a service: sockets for phones, ports for applications."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, ITCPTransport
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from drachtwist.errors import LocalProtocolError
from drachtwist.net.alerts import Alerts
from drachtwist.net.gate import Gate
from drachtwist.net.logs import Logger
from drachtwist.net.names import Names, name_server
from drachtwist.net.observers import Observers
from drachtwist.net.protocol import DrachtioServerFactory, DrachtioServerProtocol
from drachtwist.net.sip.transports import SipTransports
from drachtwist.net.steady import steady
from drachtwist.net.tasks import Awaited, from_coroutine, look
from drachtwist.net.tls import Credentials, TlsOptions, describe_tls_failure
from drachtwist.net.waiting import either
from drachtwist.server.applications import Applications, described
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.core import ServerCore
from drachtwist.server.door import Door
from drachtwist.server.incoming import Incoming
from drachtwist.server.metrics import Metrics
from drachtwist.sip.locating import Question, Records
from drachtwist.tracing.hep import HepSink
from drachtwist.tracing.recent import Recent
from drachtwist.tracing.trace import Trace
from drachtwist.wire.decisions import AppAddress
from drachtwist.wire.session import Commanded, ServerSession

__all__ = ["DrachtioServer"]

_CLIENT_REMEDY = "see verify_clients of TlsOptions"


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
        self._applications: Applications | None = None
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
        # What the admin port for TLS shows.
        self._admin_tls: Credentials | None = None
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
        self._applications = applications = Applications(
            self.core, self.reactor, self.clock, self.alerts, limits.dialled, self._dialing_factory
        )
        self._look(self.transports)
        try:
            applications.tls = Credentials(_toward_applications(config))
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
        if self._applications is not None:
            self._applications.stop()
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
        if self._applications is not None:
            for closed in self._applications.close():
                await either(closed, leaving)
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
        if self._applications is not None and self._applications.tls is not None:
            attempt(self._applications.tls.reload, _toward_applications(config))
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
        if not link.outbound:
            self._door.entered(link)
        elif self._applications is not None:
            self._applications.dialled.add(link)

    def signed(self, link: DrachtioServerProtocol) -> None:
        """Admit an application that showed the right secret."""
        self._door.signed(link)
        if self._applications is not None:
            self._applications.signed(link)
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
        self._door.left(link)
        applications = self._applications
        if applications is not None and applications.gone(link) and self._listening:
            self.alerts.note(
                "no_secret",
                "the application at {peer} is gone before it showed the secret: {error}",
                peer=link.peer,
                error=described(link.loss),
            )
        elif (problem := describe_tls_failure(link.loss, "its", _CLIENT_REMEDY)) is not None:
            self.alerts.note(
                "application_tls", "{peer} does not get in: {error}", peer=link.peer, error=problem
            )
        if self.core is not None:
            self.core.gone(link)

    def connect(self, address: AppAddress, incoming: Incoming) -> None:
        """Connect to an application for a request."""
        assert self._applications is not None
        self._applications.connect(address, incoming)

    def ask(self, handler: RequestHandler, incoming: Incoming) -> None:
        """Ask a web application about a request."""
        assert self._applications is not None
        self._applications.ask(handler, incoming)

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
