"""``twistd drachtio``: an application, on servers elsewhere or on one in the same process.

What stops the process, with exit status 1 and a line that says why: an application that cannot be
imported or made, a port that cannot be opened, and a refused secret once there is no other server
to serve. A server that cannot be reached does not: it is tried again for ever.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.application.service import Service
from twisted.internet.defer import Deferred, FirstError, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger, LogLevel
from twisted.python import usage
from twisted.python.failure import Failure

from drachtwist.app.srf import Srf
from drachtwist.collector import NO_FREEZE, Collector
from drachtwist.errors import (
    AuthenticationError,
    DrachtwistError,
    LocalProtocolError,
)
from drachtwist.loading import ApplicationError, load_application, make_application
from drachtwist.net.admission import Admission
from drachtwist.net.endpoints import (
    Connect,
    Endpoint,
    Listen,
    connect_to,
    lacks_identity,
    parse_endpoint,
    to_listen,
)
from drachtwist.net.protocol import DrachtioProtocol
from drachtwist.net.selfsigned import identity_at_hand
from drachtwist.net.service import InboundConnection
from drachtwist.net.tls import TlsOptions
from drachtwist.net.waiting import either
from drachtwist.processes import give_up, read_secret, reload_on_sighup, stop_on_sigterm
from drachtwist.server.config import ServerConfig
from drachtwist.version import VERSION
from drachtwist.wire.commands import check_tags

if TYPE_CHECKING:
    from drachtwist.server.service import DrachtioServer

__all__ = ["Options", "makeService"]

DEFAULT_APP = "app.py"
"""The application that nobody named."""

DEFAULT_CONTACT = "sip:127.0.0.1:5060;transport=udp,tcp"

EXPECTED = (ApplicationError, DrachtwistError, OSError, CannotListenError)
"""What keeps an application from starting, and says enough without a traceback."""


class Options(usage.Options):
    """Flags: which application, which servers, and how to leave."""

    synopsis = "[--app APPLICATION] [options]"

    longdesc = """
        Host a SIP application. Without --endpoint a server is started in the same process, where
        phones call in at --contact. Each --endpoint is a drachtio server to connect to
        (tcp:HOST:9022, tls:HOST:9023), or a port where servers connect for every new request
        (tcp:9022, tls:9023:privateKey=KEY.pem:certKey=CERT.pem). Example:

        twistd -n drachtio --app hello.py --endpoint tcp:sip.example:9022 --secret-file secret.txt
    """

    optParameters = [
        [
            "app",
            "a",
            None,
            "The application: module:attribute or file.py:attribute, where the attribute is an Srf"
            " or a function that returns one; 'srf' if it is left out. app.py in the current"
            " directory unless given.",
        ],
        [
            "secret",
            "s",
            None,
            "The secret of the servers. Other users of this machine can read it in the list of"
            " processes: better use --secret-file or DRACHTIO_SECRET.",
        ],
        ["secret-file", None, None, "A file whose first line is the secret."],
        [
            "tls-key",
            None,
            None,
            "Private key (PEM) for tls: endpoints that name none. Those that listen take server.key"
            " and server.crt of the current directory unless given, or make a certificate that is"
            " good for one run.",
        ],
        ["tls-cert", None, None, "Certificate (PEM) for tls: endpoints that name none."],
        ["tls-chain", None, None, "Further certificates to send along (PEM)."],
        [
            "tls-ca",
            None,
            None,
            "Certificates to trust (PEM) instead of the system's authorities; a self-signed"
            " certificate of a server is trusted by naming it here.",
        ],
        [
            "routing",
            None,
            None,
            "A port where servers ask over HTTP what to do with new requests: tcp:PORT or tls:PORT."
            " --routing-app answers them; --app may then be left out.",
        ],
        [
            "routing-app",
            None,
            None,
            "What answers them: module:attribute or file.py:attribute, a function of the query; see"
            " drachtwist.app.routing.",
        ],
        [
            "drain",
            "d",
            "0",
            "Seconds that calls get to end by themselves after SIGTERM or Ctrl-C, before they are"
            " sent a BYE; a second signal sends it at once, a third one waits for nothing.",
        ],
    ]

    optFlags = [NO_FREEZE]

    compData = usage.Completions(
        optActions={
            name: usage.CompleteFiles()
            for name in ("app", "secret-file", "tls-key", "tls-cert", "tls-chain", "tls-ca")
        }
    )

    environment: Mapping[str, str] = os.environ

    def __init__(self) -> None:
        super().__init__()
        self["endpoints"] = []
        self["tags"] = []
        self["contacts"] = []
        self["allowed"] = []
        self["settings"] = None
        self._notes: list[Note] = []
        self._own: TlsOptions | None = None

    def opt_endpoint(self, text: str) -> None:
        """A server to connect to (tcp:HOST:PORT, tls:HOST:PORT), or a port to listen on.

        Listening is tcp:PORT or tls:PORT. May be repeated; client:... and server:... take any
        other endpoint that Twisted knows.
        """
        self["endpoints"].append(text)

    opt_e = opt_endpoint

    def opt_allow(self, network: str) -> None:
        """Where servers may connect from (10.0.0.0/8, 192.0.2.1), for ports to listen on.

        May be repeated; without it anybody may connect, and is shown the secret.
        """
        self["allowed"].append(network)

    def opt_tag(self, tag: str) -> None:
        """A tag that servers know this application by, instead of those that it has itself.

        May be repeated.
        """
        self["tags"].append(tag)

    opt_t = opt_tag

    def opt_contact(self, uri: str) -> None:
        """Where the server in this process serves SIP, like sip:192.0.2.1:5060;transport=udp,tcp.

        May be repeated; sip:127.0.0.1:5060;transport=udp,tcp unless given.
        """
        self["contacts"].append(uri)

    opt_c = opt_contact

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"drachtwist {VERSION}")
        raise SystemExit(0)

    opt_v = opt_version

    def parseArgs(self, *words: str) -> None:
        """Refuse words that belong to no flag."""
        if words:
            hint = ""
            if self["app"] is None:
                hint = f" An application is named with --app {words[0]}."
            raise usage.UsageError(f"what is {words[0]!r}? All settings are flags.{hint}")

    def postOptions(self) -> None:
        """Make the settings."""
        secret = read_secret(self["secret"], self["secret-file"], self.environment)
        # It is not left where a traceback or a dump of the options would show it.
        self["secret"] = None
        if (self["routing"] is None) != (self["routing-app"] is None):
            raise usage.UsageError("--routing and --routing-app belong together")
        if self["app"] is None and self["routing"] is None:
            if not os.path.isfile(DEFAULT_APP):
                raise usage.UsageError(
                    "which application? --app module:attribute or --app file.py names it; there is"
                    f" no {DEFAULT_APP} here"
                )
            self["app"] = DEFAULT_APP
            self._notes.append(
                Note(LogLevel.info, f"the application is {DEFAULT_APP} of {os.getcwd()}")
            )
        tls = TlsOptions(
            key=self["tls-key"],
            certificate=self["tls-cert"],
            chain=self["tls-chain"],
            ca=self["tls-ca"],
        )
        if (tls.key is None) != (tls.certificate is None):
            raise usage.UsageError("--tls-key and --tls-cert belong together")
        try:
            tags = check_tags(self["tags"]) if self["tags"] else None
            if tls.has_identity:
                tls.server_context()
            endpoints: tuple[Endpoint, ...] = ()
            server = None
            routing = self._routing(tls)
            listens = routing is not None or any(_listens(one) for one in self["endpoints"])
            if self["allowed"] and not listens:
                raise usage.UsageError("--allow is for ports to listen on, and there is none")
            if self["app"] is None:
                if self["endpoints"] or self["contacts"]:
                    raise usage.UsageError("--endpoint and --contact are for an application: --app")
                secret = secret or ""
            elif self["endpoints"]:
                endpoints = self._endpoints(tls)
                if secret is None:
                    raise usage.UsageError(
                        "the servers have a secret: give it with --secret-file, DRACHTIO_SECRET"
                        " or --secret"
                    )
            else:
                # Nobody has to type the secret of a server that only this process uses.
                secret = secret or secrets.token_urlsafe(24)
                server = self._server(secret, tls)
        except LocalProtocolError as error:
            raise usage.UsageError(str(error)) from None
        self["settings"] = Settings(
            self["app"],
            secret,
            tags,
            self._drain(),
            endpoints,
            server,
            routing,
            self["routing-app"],
            tuple(self._notes),
        )

    def _routing(self, tls: TlsOptions) -> Listen | None:
        if self["routing"] is None:
            return None
        endpoint = self._endpoint(self["routing"], tls)
        if not isinstance(endpoint, Listen):
            raise usage.UsageError(
                f"--routing {self['routing']!r} is nothing to listen on: tcp:8080 or tls:8443"
            )
        return endpoint

    def _endpoint(self, text: str, tls: TlsOptions) -> Endpoint:
        from twisted.internet import reactor

        if lacks_identity(text) and not tls.has_identity:
            if self._own is None:
                self._own, about, made = identity_at_hand(Path.cwd())
                self._notes.append(Note(LogLevel.warn if made else LogLevel.info, about))
            tls = tls.with_defaults(self._own)
        endpoint = parse_endpoint(reactor, text, tls)
        if isinstance(endpoint, Listen):
            return to_listen(reactor, endpoint, allow=self["allowed"])
        return endpoint

    def _endpoints(self, tls: TlsOptions) -> tuple[Endpoint, ...]:
        if self["contacts"]:
            raise usage.UsageError(
                "--contact is for the server in this process, and with --endpoint there is none"
            )
        return tuple(self._endpoint(text, tls) for text in self["endpoints"])

    def _server(self, secret: str, tls: TlsOptions) -> ServerConfig:
        return ServerConfig(
            admin_host="127.0.0.1",
            admin_port=0,
            secret=secret,
            contacts=tuple(self["contacts"]) or (DEFAULT_CONTACT,),
            tls=tls if tls.has_identity else None,
        )

    def _drain(self) -> float:
        try:
            seconds = float(self["drain"])
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise usage.UsageError(f"--drain {self['drain']!r} is no number of seconds")
        return seconds


def _listens(text: str) -> bool:
    """Whether an endpoint string is one to listen on."""
    prefix, _, rest = text.partition(":")
    return prefix == "server" or rest.partition(":")[0].isdigit()


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
        self.srf: Srf | None = None
        """The application, once it is made."""
        self.collector: Collector | None = None
        """What keeps Python's collector from stopping the process."""
        self.server: DrachtioServer | None = None
        """The server in this process, if there is one."""

    def startService(self) -> None:
        """Make the application, open the ports, and connect."""
        super().startService()
        for note in self._settings.notes:
            self._log.emit(note.level, "{note}", note=note.text)
        stop_on_sigterm(self._reactor, self.hurry)
        reload_on_sighup(self._reactor, self.reload)
        if self.collector is not None:
            self.collector.start()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._failed)

    def stopService(self) -> Deferred[Any]:
        """Take no new calls, let those that are up end, hang up, and close everything."""
        super().stopService()
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
        self._hurried = Deferred()
        return Deferred.fromCoroutine(self._stop())

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
            problems += self.server.reload()
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

    async def _start(self) -> None:
        settings = self._settings
        if settings.routing is not None:
            await self._listen_for_questions(settings.routing)
        if settings.app is None:
            return
        made = make_application(self._found, settings.app)
        self.srf = srf = await made if isinstance(made, Deferred) else made
        srf.on_ready(self.ready)
        srf.on_close(self._closed)
        endpoints = settings.endpoints
        if settings.server is not None:
            endpoints = (await self._serve(settings.server),)
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

        from drachtwist.app.routing import RoutingResource

        site = Site(RoutingResource(self._decide))
        gate = Admission(site, where.allow, self._reactor, name="questions of servers")
        self._web = await where.endpoint.listen(gate)
        address: Any = self._web.getHost()
        self._reactor.callWhenRunning(
            self._log.info,
            "listening for questions of servers on {kind}://{host}:{port}",
            kind="https" if where.tls else "http",
            host=address.host,
            port=address.port,
        )

    async def _serve(self, config: ServerConfig) -> Connect:
        from drachtwist.server.service import DrachtioServer

        self.server = server = DrachtioServer(config, self._reactor)
        server.startService()
        await server.when_listening()
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
            give_up(self._reactor, problem)

    def _failed(self, failure: Failure) -> None:
        if not self.running:
            return
        known = failure.check(*EXPECTED) is not None
        problem = failure.getErrorMessage()
        if failure.check(ApplicationError) is None:
            problem = f"the application cannot start: {problem}"
        give_up(self._reactor, problem, None if known else failure)


def makeService(options: Options) -> Service:
    """Import the application, and make the service that twistd runs.

    :raises SystemExit: with status 1, when the application cannot be imported.
    """
    from twisted.internet import reactor

    settings: Settings = options["settings"]
    found = decide = None
    try:
        if settings.app is not None:
            found = load_application(settings.app)
        if settings.routing_app is not None:
            decide = load_application(settings.routing_app)
            if isinstance(decide, Srf):
                raise ApplicationError(f"{settings.routing_app} is an Srf, not a function")
    except ApplicationError as error:
        raise SystemExit(str(error)) from None
    service = ApplicationService(settings, found, reactor, decide)
    if not options["no-freeze"]:
        service.collector = Collector(reactor, lambda: service.srf is None or service.srf.idle)
    return service


def _first(failure: Failure) -> Failure:
    """Give what went wrong, out of a list of waits."""
    error = failure.value
    return error.subFailure if isinstance(error, FirstError) else failure


def _address(link: DrachtioProtocol) -> str:
    peer: Any = link.peer
    host, port = getattr(peer, "host", None), getattr(peer, "port", None)
    if host is None:
        return str(peer)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
