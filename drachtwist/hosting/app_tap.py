"""``twistd drachtio``: the flags of a process that hosts an application.

What it then does is in :mod:`drachtwist.hosting.app_service`.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from twisted.application.service import Service
from twisted.logger import LogLevel
from twisted.python import usage

from drachtwist.app.srf import Srf
from drachtwist.errors import (
    LocalProtocolError,
)
from drachtwist.hosting.app_service import ApplicationService, Note, Settings
from drachtwist.hosting.collector import NO_FREEZE, Collector
from drachtwist.hosting.command_line import CommandLine
from drachtwist.hosting.inner_server import inner_config, server_option_names
from drachtwist.hosting.loading import ApplicationError, load_application
from drachtwist.hosting.process import read_secret
from drachtwist.hosting.server_settings import DEFAULT_CONTACT
from drachtwist.hosting.tracing import FLAGS, PARAMETERS, open_trace, trace_settings
from drachtwist.net.endpoints import (
    Endpoint,
    Listen,
    lacks_identity,
    parse_endpoint,
    to_listen,
)
from drachtwist.net.selfsigned import identity_at_hand
from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import ServerConfig
from drachtwist.version import VERSION
from drachtwist.wire.commands import check_tags

__all__ = ["DEFAULT_CONTACT", "Options", "makeService"]

DEFAULT_APP = "app.py"
"""The application that nobody named."""


class Options(CommandLine):
    """Flags: which application, which servers, and how to leave."""

    name = "drachtio"
    synopsis = "[--app APPLICATION] [options]"
    longdesc = """
        Host a SIP application. Without --endpoint a server is started in the same process, where
        phones call in at --contact. Each --endpoint is a drachtio server to connect to
        (tcp:HOST:9022, tls:HOST:9023), or a port where servers connect for every new request
        (tcp:9022, tls:9023:privateKey=KEY.pem:certKey=CERT.pem).
    """
    examples: Sequence[str] = (
        "twist drachtio --app hello.py",
        "twist drachtio --app hello.py --contact 'sip:192.0.2.7:5060;transport=udp,tcp'",
        "twistd -n --pidfile= drachtio --app hello.py \\",
        "    --endpoint tcp:sip.example:9022 --secret-file secret.txt",
    )

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
            "server-config",
            None,
            None,
            "Settings of the server in this process: a drachtio.conf.xml. Its admin ports, secret"
            " and request handlers do not count, as the application is here; flags win over it.",
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
            " drachtwist.middleware.webhook.",
        ],
        [
            "drain",
            "d",
            "0",
            "Seconds that calls get to end by themselves after SIGTERM or Ctrl-C, before they are"
            " sent a BYE; a second signal sends it at once, a third one waits for nothing.",
        ],
        *PARAMETERS,
    ]

    optFlags = [NO_FREEZE, *FLAGS]

    compData = usage.Completions(
        optActions={
            name: usage.CompleteFiles()
            for name in (
                "app",
                "secret-file",
                "server-config",
                "tls-key",
                "tls-cert",
                "tls-chain",
                "tls-ca",
            )
        }
    )

    environment: Mapping[str, str] = os.environ

    @property
    def elsewhere(self) -> Sequence[tuple[str, str]]:
        """The options of the server, which some take for ours."""
        own = {name.rstrip("=") for name in self.longOpt}
        return [
            (
                name,
                f"--{name} is an option of 'twist drachtio-server'; the server in this process has"
                " its settings from --server-config",
            )
            for name in server_option_names() - own
        ]

    def __init__(self) -> None:
        super().__init__()
        self["endpoints"] = []
        self["tags"] = []
        self["contacts"] = []
        self["allowed"] = []
        self["settings"] = None
        self["tracing"] = None
        self._notes: list[Note] = []
        self._server_words: list[str] = []
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
        self._server_words += ["--contact", uri]

    opt_c = opt_contact

    def opt_external_ip(self, address: str) -> None:
        """Address that peers outside are told, for the --contact before it."""
        self._server_words += ["--external-ip", address]

    opt_x = opt_external_ip

    def opt_local_net(self, network: str) -> None:
        """Network that is inside (10.0.0.0/8), for the --contact before it."""
        self._server_words += ["--local-net", network]

    def opt_dns_name(self, name: str) -> None:
        """Name of this server, for the --contact before it; may be repeated."""
        self._server_words += ["--dns-name", name]

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"drachtwist {VERSION}")
        raise SystemExit(0)

    opt_v = opt_version

    def parseArgs(self, *words: str) -> None:
        """Refuse words that belong to no flag.

        :raises UsageError: when there are some.
        """
        if words:
            hint = ""
            if self["app"] is None:
                hint = f" An application is named with --app {words[0]}."
            raise usage.UsageError(f"what is {words[0]!r}? All settings are flags.{hint}")

    def postOptions(self) -> None:
        """Make the settings.

        :raises UsageError: when they cannot be used.
        """
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
            reread = None
            listens = routing is not None or any(_listens(one) for one in self["endpoints"])
            if self["allowed"] and not listens:
                raise usage.UsageError("--allow is for ports to listen on, and there is none")
            if self["app"] is None:
                if self["endpoints"] or self._is_served:
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
                server, reread = self._server(secret, tls)
        except LocalProtocolError as error:
            raise usage.UsageError(str(error)) from None
        self["tracing"] = trace_settings(self)
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
            reread,
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
        if self._is_served:
            flag = self._server_words[0] if self._server_words else "--server-config"
            raise usage.UsageError(
                f"{flag} is for the server in this process, and with --endpoint there is none"
            )
        return tuple(self._endpoint(text, tls) for text in self["endpoints"])

    @property
    def _is_served(self) -> bool:
        """Whether something is said about the server in this process."""
        return bool(self._server_words or self["server-config"])

    def _server(
        self, secret: str, tls: TlsOptions
    ) -> tuple[ServerConfig, Callable[[], ServerConfig]]:
        config, findings, reread = inner_config(
            self["server-config"], self._server_words, secret, tls
        )
        self._notes += [Note(LogLevel.warn, f"not obeyed: {finding}") for finding in findings]
        return config, reread

    def _drain(self) -> float:
        try:
            seconds = float(self["drain"])
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < float("inf"):
            raise usage.UsageError(f"--drain {self['drain']!r} is no number of seconds")
        return seconds


def _listens(text: str) -> bool:
    """Return whether an endpoint string is one to listen on."""
    prefix, _, rest = text.partition(":")
    return prefix == "server" or rest.partition(":")[0].isdigit()


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
    service.tracing = open_trace(options["tracing"], reactor)
    if not options["no-freeze"]:
        service.collector = Collector(reactor, lambda: service.srf is None or service.srf.idle)
    return service
