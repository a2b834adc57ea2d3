"""``twistd drachtio-server``: the embedded server in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python import usage
from twisted.python.failure import Failure

from drachtwist.errors import DrachtwistError, LocalProtocolError
from drachtwist.net.tls import TlsOptions
from drachtwist.processes import give_up, read_secret, stop_on_sigterm
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.version import VERSION

__all__ = ["Options", "makeService"]

DEFAULT_SECRET = "cymru"
"""Everybody's secret, for servers that only this machine can reach."""

DEFAULT_CONTACT = "sip:127.0.0.1:5060;transport=udp,tcp"

ELSEWHERE = {
    "file": "give flags, no configuration file is read",
    "f": "give flags, no configuration file is read",
    "daemon": "twistd runs in the background unless it is told -n",
    "user": "use twistd --uid and --gid",
    "u": "use twistd --uid and --gid",
    "stdout": "use twistd -n",
    "loglevel": "use twistd --logfile and --logger",
    "l": "use twistd --logfile and --logger",
    "sofia-loglevel": "there is no Sofia stack in it",
    "s": "there is no Sofia stack in it",
    "min-tls-version": "TLS 1.2 is the oldest that is spoken",
    "dh-param": "Diffie-Hellman parameters are chosen by OpenSSL",
    "memory-debug": "Python manages the memory",
    "globally-readable-logs": "use twistd --umask",
}
"""Flags of the real server that have another home."""

MISSING = frozenset(
    """
    external-ip x local-net n dns-name d tls-cipherlist mtu tcp-keepalive-interval
    aggressive-nat-detection disable-nat-detection always-send-180 reject-register-with-no-realm
    user-agent-options-auto-respond prometheus-scrape-port blacklist-redis-address
    blacklist-redis-port blacklist-redis-key blacklist-redis-sentinels blacklist-redis-master
    blacklist-redis-password blacklist-refresh-secs homer y homer-id z
    """.split()
)
"""Flags of the real server for things that this one cannot do."""


class Options(usage.Options):
    """Flags, named as those of the real server where it has them."""

    synopsis = "[options]"

    longdesc = """
        Serve SIP to phones and the drachtio protocol to applications. The flags have the names that
        the drachtio server gives them, and so have the variables of the environment that stand in
        for flags that are not given: DRACHTIO_ADMIN_ADDRESS, DRACHTIO_ADMIN_TCP_PORT,
        DRACHTIO_ADMIN_TLS_PORT, DRACHTIO_SECRET, DRACHTIO_HTTP_HANDLER_URI, DRACHTIO_TLS_KEY_FILE,
        DRACHTIO_TLS_CERT_FILE, DRACHTIO_TLS_CHAIN_FILE. Example:

        twistd -n drachtio-server --contact 'sip:127.0.0.1:5060;transport=udp,tcp'
        --port 9022 --secret-file secret.txt
    """

    optParameters = [
        ["address", None, None, "Address of the admin ports; 127.0.0.1 unless given."],
        ["port", "p", None, "Admin port for TCP; 9022 unless given, 0 for none."],
        ["tls-port", None, None, "Admin port for TLS; needs --key-file and --cert-file."],
        [
            "secret",
            None,
            None,
            "What applications have to show. Other users of this machine can read it in the list"
            " of processes: better use --secret-file or DRACHTIO_SECRET. Without any it is"
            f" '{DEFAULT_SECRET}', which is refused unless the address is that of this machine"
            " itself.",
        ],
        ["secret-file", None, None, "A file whose first line is the secret."],
        [
            "http-handler",
            None,
            None,
            "Ask a web application what to do with every new request (http://... or https://...),"
            " or connect to an application for it (tcp://host:port or tls://host:port).",
        ],
        ["http-method", None, None, "GET or POST, which takes the SIP message along."],
        ["key-file", None, None, "Private key for TLS (PEM)."],
        ["cert-file", None, None, "Certificate for TLS (PEM)."],
        ["chain-file", None, None, "Further certificates to send along (PEM)."],
    ]

    optFlags = [
        ["noconfig", None, "Accepted, and always so: no configuration file is read."],
        ["cdrs", None, "Send call detail records to the applications that routed them."],
    ]

    compData = usage.Completions(
        optActions={name: usage.CompleteFiles() for name in ("key-file", "cert-file", "chain-file")}
    )

    environment: Mapping[str, str] = os.environ

    def __init__(self) -> None:
        super().__init__()
        self["contacts"] = []
        self["config"] = None

    def opt_contact(self, uri: str) -> None:
        """Where to serve SIP, like sip:192.0.2.1:5060;transport=udp,tcp.

        May be repeated; sip:127.0.0.1:5060;transport=udp,tcp unless given.
        """
        self["contacts"].append(uri)

    opt_c = opt_contact

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"drachtwist {VERSION}")
        raise SystemExit(0)

    opt_v = opt_version

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line; refuse what only the real server has, in clear words."""
        for word in options or ():
            flag = word.partition("=")[0]
            name = flag.lstrip("-")
            if not flag.startswith("-") or (len(name) > 1) != flag.startswith("--"):
                continue
            if name in ELSEWHERE:
                raise usage.UsageError(f"{flag} is not a flag here: {ELSEWHERE[name]}")
            if name in MISSING:
                raise usage.UsageError(
                    f"{flag} is a flag of the real drachtio server, and this one cannot do it"
                )
        super().parseOptions(options)

    def parseArgs(self, *words: str) -> None:
        """Refuse words that belong to no flag."""
        if words:
            raise usage.UsageError(f"what is {words[0]!r}? All settings are flags.")

    def postOptions(self) -> None:
        """Make the settings."""
        secret = read_secret(self["secret"], self["secret-file"], self.environment)
        # It is not left where a traceback or a dump of the options would show it.
        self["secret"] = None
        address = self._setting("address", "ADMIN_ADDRESS") or "127.0.0.1"
        if not (isIPAddress(address) or isIPv6Address(address)):
            raise usage.UsageError(f"--address {address!r} is no IP address")
        if secret is None:
            if not (address.startswith("127.") or address == "::1"):
                raise usage.UsageError(
                    f"other machines can reach {address}: give a secret with --secret-file,"
                    " DRACHTIO_SECRET or --secret"
                )
            secret = DEFAULT_SECRET
        port = self._port("port", "ADMIN_TCP_PORT", 9022)
        tls_port = self._port("tls-port", "ADMIN_TLS_PORT", 0)
        tls = TlsOptions(
            key=self._setting("key-file", "TLS_KEY_FILE"),
            certificate=self._setting("cert-file", "TLS_CERT_FILE"),
            chain=self._setting("chain-file", "TLS_CHAIN_FILE"),
            # As the real server: whoever it is told to connect to is taken for the application.
            verify=False,
        )
        if tls_port and not tls.has_identity:
            raise usage.UsageError("--tls-port needs --key-file and --cert-file")
        handler = self._setting("http-handler", "HTTP_HANDLER_URI")
        http_method = self["http-method"] or "GET"
        if not port and not tls_port and not handler:
            raise usage.UsageError(
                "no application can reach this server, nor be reached: give --port, --tls-port"
                " or --http-handler"
            )
        try:
            if tls.has_identity:
                tls.server_context()
            handlers = (RequestHandler(handler, http_method=http_method),) if handler else ()
            self["config"] = ServerConfig(
                admin_host=address,
                admin_port=port or None,
                admin_tls_port=tls_port or None,
                secret=secret,
                request_handlers=handlers,
                tls=tls,
                cdrs=bool(self["cdrs"]),
                contacts=tuple(self["contacts"]) or (DEFAULT_CONTACT,),
            )
        except LocalProtocolError as error:
            raise usage.UsageError(str(error)) from None

    def _setting(self, name: str, variable: str) -> str | None:
        value: str | None = self[name]
        return value if value is not None else self.environment.get(f"DRACHTIO_{variable}") or None

    def _port(self, name: str, variable: str, default: int) -> int:
        text = self._setting(name, variable)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or int(text) > 65535:
            raise usage.UsageError(f"--{name} {text!r} is no port number (0 to 65535)")
        return int(text)


class ServerService(Service):
    """The server, as twistd starts and stops it."""

    _log = Logger(namespace="drachtwist")

    def __init__(self, config: ServerConfig, reactor: Any) -> None:
        from drachtwist.server.service import DrachtioServer

        self._reactor = reactor
        self.server = DrachtioServer(config, reactor)

    def startService(self) -> None:
        """Open the ports; a port that cannot be opened ends the process."""
        super().startService()
        stop_on_sigterm(self._reactor)
        self.server.startService()
        self.server.when_listening().addCallbacks(self._opened, self._failed)

    def stopService(self) -> Deferred[Any]:
        """Close the ports."""
        super().stopService()
        return self.server.stopService()

    def _opened(self, _: object) -> None:
        # Whoever reads it may take it for the sign that the process is up, and can be stopped.
        self._reactor.callWhenRunning(self._listening)

    def _listening(self) -> None:
        self._log.info(
            "listening: SIP on {sip}; applications on {admin}",
            sip=", ".join(self.server.sip_addresses),
            admin=", ".join(
                f"{kind}:{port}"
                for kind, port in (
                    ("tcp", self.server.admin_port),
                    ("tls", self.server.admin_tls_port),
                )
                if port
            )
            or "no port",
        )

    def _failed(self, failure: Failure) -> None:
        known = failure.check(DrachtwistError, OSError, CannotListenError) is not None
        problem = f"the server cannot start: {failure.getErrorMessage()}"
        give_up(self._reactor, problem, None if known else failure)


def makeService(options: Options) -> Service:
    """Make the service that twistd runs."""
    from twisted.internet import reactor

    return ServerService(options["config"], reactor)
