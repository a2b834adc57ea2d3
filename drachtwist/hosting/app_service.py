"""An application as a process, on servers elsewhere or on one in the same process.

What stops the process, with exit status 1 and a line that says why: an application that cannot be
imported or made, a port that cannot be opened, and a refused secret once there is no other server
to serve. A server that cannot be reached does not: it is tried again for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import Deferred, FirstError, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from drachtwist.app.srf import Srf
from drachtwist.errors import (
    AuthenticationError,
    DrachtwistError,
    LocalProtocolError,
    StartFailed,
)
from drachtwist.hosting.collector import Collector
from drachtwist.hosting.loading import ApplicationError, make_application
from drachtwist.hosting.process import give_up, reload_on_sighup, stop_on_sigterm
from drachtwist.hosting.tracing import Tracing
from drachtwist.net import tasks
from drachtwist.net.admission import Admission
from drachtwist.net.endpoints import (
    Connect,
    Endpoint,
    Listen,
    connect_to,
)
from drachtwist.net.logs import Logger
from drachtwist.net.protocol import DrachtioProtocol
from drachtwist.net.service import InboundConnection
from drachtwist.net.tasks import from_coroutine
from drachtwist.net.waiting import either
from drachtwist.server.config import ServerConfig
from drachtwist.tracing.trace import Trace

if TYPE_CHECKING:
    from drachtwist.server.service import DrachtioServer

__all__ = ["ApplicationService", "Note", "Settings"]

EXPECTED = (ApplicationError, DrachtwistError, OSError, CannotListenError)
"""What keeps an application from starting, and says enough without a traceback."""


class Note(NamedTuple):
    """What an operator should know about the settings."""

    level: Any
    """One of :class:`~twisted.logger.LogLevel`."""
    text: str


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """What a command line asks for; it holds the secret, and so is not shown."""

    app: str | None
    """What the user called the application; None when there is only the web callback."""
    secret: str
    """The secret of all servers."""
    tags: tuple[str, ...] | None
    """Tags instead of the application's own."""
    drain: float
    """Seconds that calls get to end by themselves."""
    endpoints: tuple[Endpoint, ...]
    """Servers to connect to, and ports to listen on."""
    server: ServerConfig | None
    """The server in this process, when there are no endpoints."""
    routing: Listen | None = None
    """Where servers ask what to do with new requests."""
    routing_app: str | None = None
    """What the user called the function that answers them."""
    notes: tuple[Note, ...] = ()
    """What is said when it starts."""
    reread: Callable[[], ServerConfig] | None = None
    """Reads the settings of the server in this process again, as far as they may change."""


class ApplicationService(Service):
    """The application, and its own server if it has one, as twistd starts and stops them.

    :param settings: see :class:`Settings`.
    :param found: the application, or a function that makes it; None for none.
    :param decide: what answers the questions of servers, if anything does.
    """

    _log = Logger(namespace="drachtwist")

    def __init__(self, settings: Settings, found: Any, reactor: Any, decide: Any = None) -> None:
        self._settings = settings
        self._found = found
        self._decide = decide
        self._web: IListeningPort | None = None
        self._reactor = reactor
        self._starting: Deferred[None] | None = None
        self._hurried: Deferred[None] | None = None
        self._connections = 0
        self.failed = False
        """Whether it could not do what it was started for, and ends the process."""
        self.srf: Srf | None = None
        """The application, once it is made."""
        self.collector: Collector | None = None
        """What keeps Python's collector from stopping the process."""
        self.server: DrachtioServer | None = None
        """The server in this process, if there is one."""
        self.tracing: Tracing | None = None
        """What is done with the messages that pass."""

    def startService(self) -> None:
        """Make the application, open the ports, and connect."""
        super().startService()
        for note in self._settings.notes:
            self._log.emit(note.level, "{note}", note=note.text)
        stop_on_sigterm(self._reactor, self.hurry)
        reload_on_sighup(self._reactor, self.reload)
        if self.collector is not None:
            self.collector.start()
        if self.tracing is not None:
            self.tracing.start()
        self._starting = from_coroutine(self._start())
        self._starting.addErrback(self._failed)

    def stopService(self) -> Deferred[Any]:
        """Take no new calls, let those that are up end, hang up, and close everything."""
        super().stopService()
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
        self._hurried = Deferred()
        return from_coroutine(self._stop())

    def hurry(self) -> None:
        """Stop faster: calls that are given time are hung up, or else nothing is waited for."""
        if self.srf is not None and self.srf.draining:
            self._log.warn("hanging up; another signal does not wait for that")
            self.srf.stop()
        elif self._hurried is not None and not self._hurried.called:
            self._log.warn("stopping at once")
            self._hurried.callback(None)

    def reload(self) -> None:
        """Read TLS files again; calls and connections stay as they are."""
        problems: list[LocalProtocolError] = []
        if self.srf is not None:
            problems += self.srf.reload_tls()
        if self.server is not None:
            problems += self._reload_server(self.server)
        routing = self._settings.routing
        if routing is not None and routing.credentials is not None:
            try:
                routing.credentials.reload()
            except LocalProtocolError as error:
                problems.append(error)
                self._log.error("what was read before is kept: {error}", error=error)
        if not problems:
            self._log.info("read again: keys, certificates, authorities")

    # Inside

    def _reload_server(self, server: DrachtioServer) -> list[LocalProtocolError]:
        reread = self._settings.reread
        try:
            config = None if reread is None else reread()
        except LocalProtocolError as error:
            self._log.error("everything stays as it was: {error}", error=error)
            return [error]
        return server.reload(config)

    async def _start(self) -> None:
        settings = self._settings
        tasks.look()
        if tasks.is_active and tasks.running() is None:
            await deferLater(self._reactor, 0)  # whose loop is about to run
        if settings.routing is not None:
            await self._listen_for_questions(settings.routing)
        if settings.app is None:
            return
        made = make_application(self._found, settings.app)
        self.srf = srf = await made if isinstance(made, Deferred) else made
        srf._is_hosted()
        srf.on_ready(self.ready)
        srf.on_close(self._closed)
        await srf.start()
        endpoints = settings.endpoints
        trace = None
        if self.tracing is not None:
            trace = self.tracing.use(srf.trace if srf.is_traced else None)
        if settings.server is not None:
            endpoints = (await self._serve(settings.server, trace),)
        if trace is not None:
            srf.trace = trace
        listening = []
        self._connections = sum(isinstance(endpoint, Connect) for endpoint in endpoints)
        # A refused secret ends the process only when nothing else is left to do.
        if len(endpoints) > self._connections:
            self._connections += 1
        for endpoint in endpoints:
            if isinstance(endpoint, Connect):
                connection = srf.connect(endpoint, secret=settings.secret, tags=settings.tags)
                connection.when_connected().addErrback(self._refused, connection)
            else:
                listener = srf.listen(endpoint, secret=settings.secret, tags=settings.tags)
                listening.append(listener.when_listening().addCallback(self._listening, endpoint))
        await gatherResults(listening, consumeErrors=True).addErrback(_first)

    async def _listen_for_questions(self, where: Listen) -> None:
        from twisted.web.server import Site

        from drachtwist.middleware.webhook import RoutingResource

        site = Site(RoutingResource(self._decide))
        gate = Admission(site, where.allow, self._reactor, name="questions of servers")
        self._web = port = await where.endpoint.listen(gate)
        address: Any = port.getHost()
        self._reactor.callWhenRunning(
            self._log.info,
            "listening for questions of servers on {kind}://{host}:{port}",
            kind="https" if where.tls else "http",
            host=address.host,
            port=address.port,
        )

    async def _serve(self, config: ServerConfig, trace: Trace | None) -> Connect:
        from drachtwist.server.service import DrachtioServer

        self.server = server = DrachtioServer(config, self._reactor)
        server.trace = trace
        listening = server.when_listening()  # asked for first, so that it is told here alone
        server.startService()
        await listening
        assert server.admin_port is not None, "the configuration asks for one"
        return connect_to(self._reactor, "127.0.0.1", server.admin_port)

    async def _stop(self) -> None:
        hurried = self._hurried
        assert hurried is not None, "set by stopService"
        if self._web is not None:
            await maybeDeferred(self._web.stopListening)
        if self.srf is not None:
            drain = self._settings.drain
            if drain and not self.srf.idle:
                self._log.info("calls have {seconds:g} s to end by themselves", seconds=drain)
            await either(self.srf.stop(drain=drain), hurried)
        if self.server is not None:
            await either(self.server.stopService(), hurried)
        if self.collector is not None:
            self.collector.stop()
        await either(tasks.stop_all(), hurried)
        if self.tracing is not None:
            self.tracing.stop()

    # What happens

    def ready(self, link: DrachtioProtocol) -> None:
        """Say that a server will give us requests."""
        if self.running:
            self._log.info(
                "connected to {server}; SIP on {sip}",
                server="the server in this process" if self.server else _address(link),
                sip=", ".join(link.host_ports) or "no address",
            )

    def _closed(self, link: DrachtioProtocol) -> None:
        if not link.outbound and self.running:
            self._log.warn("lost {server}; trying again", server=_address(link))

    def _listening(self, address: Any, endpoint: Endpoint) -> None:
        # Whoever reads it may take it for the sign that the process is up, and can be stopped.
        self._reactor.callWhenRunning(self._say_listening, address, endpoint)

    def _say_listening(self, address: Any, endpoint: Endpoint) -> None:
        self._log.info(
            "listening for servers on {kind} {host}:{port}",
            kind="tls" if endpoint.tls else "tcp",
            host=getattr(address, "host", address),
            port=getattr(address, "port", ""),
        )

    def _refused(self, failure: Failure, connection: InboundConnection) -> None:
        if failure.check(AuthenticationError) is None:
            return  # it was stopped, as everything is
        self._connections -= 1
        problem = f"{connection.endpoint}: {failure.getErrorMessage()}"
        if self._connections or not self.running:
            self._log.error("{problem}; not tried again", problem=problem)
        else:
            self.failed = True
            give_up(self._reactor, problem)

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return
        problem = failure.getErrorMessage()
        error = failure.value
        if isinstance(error, StartFailed):
            failure = Failure(error.__cause__)
        known = failure.check(*EXPECTED) is not None
        if failure.check(ApplicationError) is None:
            problem = f"the application cannot start: {problem}"
        if failure.check(CannotListenError) is not None and self._settings.server is not None:
            problem = f"{problem.rstrip('.')}; --contact takes another port"
        self.failed = True
        give_up(self._reactor, problem, None if known else failure)


def _first(failure: Failure) -> Failure:
    """Return what went wrong, out of a list of waits."""
    error = failure.value
    return error.subFailure if isinstance(error, FirstError) else failure


def _address(link: DrachtioProtocol) -> str:
    peer: Any = link.peer
    host, port = getattr(peer, "host", None), getattr(peer, "port", None)
    if host is None:
        return str(peer)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
