"""``twistd drachtio-server``: the embedded server in a process of its own.

It is told what to do as the real server is: by flags, by environment variables, by a
``drachtio.conf.xml``, and by defaults where none of them says anything, in this order. Whatever it
cannot do is accepted, so that a command line or a file need not be changed, and reported when it
starts. ``--check-config`` shows what comes of it all, and does not start anything.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.python import usage

from drachtwist.errors import ConfigError, LocalProtocolError
from drachtwist.hosting.collector import NO_FREEZE, Collector
from drachtwist.hosting.command_line import CommandLine
from drachtwist.hosting.process import read_secret
from drachtwist.hosting.server_service import ServerService, describe
from drachtwist.net.sip.listening import check_contact
from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import SERVER_TIMING, Contact, RequestHandler, ServerConfig
from drachtwist.server.configfile import (
    ConfigFile,
    FileContact,
    Finding,
    oldest_tls,
)
from drachtwist.server.limits import (
    ABOUT,
    ServerLimits,
    describe_limit,
    open_files,
    read_limit,
)
from drachtwist.sip.grammar import is_token
from drachtwist.transactions.timing import Timing
from drachtwist.version import VERSION

__all__ = ["Options", "makeService"]

DEFAULT_SECRET = "cymru"
"""Everybody's secret, for servers that only this machine can reach."""

FILE_SECRET = "admin"
"""The secret that goes with a configuration file which names none, as with the real server."""

DEFAULT_CONTACT = "sip:127.0.0.1:5060;transport=udp,tcp"

FILE_CONTACT = "sip:*;transport=udp,tcp"
"""The contact that goes with a configuration file which names none."""

DEFAULT_FILE = "/etc/drachtio.conf.xml"
"""Where the real server looks for its configuration."""

_TWISTD_LOG = "twistd writes the log: use its --logfile, --syslog and --logger"
_REDIS = "there is no blacklist"
_HOMER = "nothing is captured"

VALUES_NOT_OBEYED = {
    "user": "use twistd --uid and --gid",
    "loglevel": _TWISTD_LOG,
    "sofia-loglevel": "there is no Sofia stack in it",
    "homer": _HOMER,
    "homer-id": _HOMER,
    "blacklist-redis-address": _REDIS,
    "blacklist-redis-port": _REDIS,
    "blacklist-redis-key": _REDIS,
    "blacklist-redis-sentinels": _REDIS,
    "blacklist-redis-master": _REDIS,
    "blacklist-redis-password": _REDIS,
    "blacklist-refresh-secs": _REDIS,
}
"""Flags with a value that are accepted and reported, and why they are not obeyed."""

SWITCHES_NOT_OBEYED = {
    "daemon": "twistd runs in the background unless it is told -n",
    "stdout": "use twistd -n",
    "memory-debug": "Python manages the memory",
    "globally-readable-logs": "use twistd --umask",
}
"""The same for flags without a value."""

_SHORT = {"user": "u", "loglevel": "l", "sofia-loglevel": "s", "homer": "y", "homer-id": "z"}

VARIABLES = {
    "file": "CONFIG_FILE_PATH",
    "address": "ADMIN_ADDRESS",
    "port": "ADMIN_TCP_PORT",
    "tls-port": "ADMIN_TLS_PORT",
    "secret": "SECRET",
    "key-file": "TLS_KEY_FILE",
    "cert-file": "TLS_CERT_FILE",
    "chain-file": "TLS_CHAIN_FILE",
    "dh-param": "TLS_DH_PARAM_FILE",
    "min-tls-version": "MIN_TLS_VERSION",
    "tls-cipherlist": "TLS_CIPHER_LIST",
    "mtu": "UDP_MTU",
    "tcp-keepalive-interval": "TCP_KEEPALIVE_INTERVAL",
    "orphan-grace": "ORPHAN_GRACE",
    "max-orphans": "MAX_ORPHANS",
    "user-agent-options-auto-respond": "USER_AGENT_OPTIONS_AUTO_RESPOND",
    "prometheus-scrape-port": "PROMETHEUS_SCRAPE_PORT",
    **{f"limit-{name.replace('_', '-')}": f"LIMIT_{name.upper()}" for name in ABOUT},
}
"""Environment variables, without ``DRACHTIO_``, that stand in for flags that are not given."""

VARIABLES_NOT_OBEYED = {
    "LOGLEVEL": _TWISTD_LOG,
    "SOFIA_LOGLEVEL": "there is no Sofia stack in it",
    "CONSOLE_LOGGING": "use twistd -n",
    "MEMORY_DEBUG": "Python manages the memory",
    "HOMER_ADDRESS": _HOMER,
    "HOMER_PORT": _HOMER,
    "HOMER_ID": _HOMER,
    "BLACKLIST_REDIS_ADDRESS": _REDIS,
    "BLACKLIST_REDIS_SENTINELS": _REDIS,
    "BLACKLIST_REDIS_MASTER": _REDIS,
    "BLACKLIST_REDIS_PASSWORD": _REDIS,
    "BLACKLIST_REDIS_PORT": _REDIS,
    "BLACKLIST_REDIS_KEY": _REDIS,
    "BLACKLIST_REDIS_REFRESH_SECS": _REDIS,
    "PRESERVE_HEADER_NAMES": "headers that SIP knows are written in their usual spelling,"
    " all others as the application spells them",
}
"""Environment variables that are accepted and reported."""


class Options(CommandLine):
    """Flags, named as those of the real server where it has them."""

    name = "drachtio-server"
    synopsis = "[options]"
    longdesc = """
        Serve SIP to phones and the drachtio protocol to applications. Flags, environment variables
        and the configuration file are those of the drachtio server; flags win over variables,
        variables over the file.
    """
    examples = (
        "twist drachtio-server --contact 'sip:127.0.0.1:5060;transport=udp,tcp' --port 9022",
        "twist drachtio-server --file drachtio.conf.xml --check-config",
        "twistd -n --pidfile= drachtio-server --address 192.0.2.7 --secret-file secret.txt",
    )

    optParameters = [
        [
            "file",
            "f",
            None,
            f"Configuration file; {DEFAULT_FILE} unless given, if there is one.",
        ],
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
            "a",
            None,
            "Ask a web application what to do with every new request (http://... or https://...),"
            " or connect to an application for it (tcp://host:port or tls://host:port).",
        ],
        ["http-method", "m", None, "GET or POST, which takes the SIP message along."],
        ["key-file", None, None, "Private key for TLS (PEM)."],
        ["cert-file", None, None, "Certificate for TLS (PEM)."],
        ["chain-file", None, None, "Further certificates to send along (PEM)."],
        ["dh-param", None, None, "Diffie-Hellman parameters for old clients of TLS (PEM)."],
        ["min-tls-version", None, None, "Oldest TLS to speak: 1.2, unless 1.3 is given."],
        ["tls-cipherlist", None, None, "Ciphers that TLS 1.2 may use, as OpenSSL writes them."],
        [
            "app-ca",
            None,
            None,
            "Certificates to trust when connecting to applications (PEM), instead of the system's"
            " authorities. Goes with --verify-applications, and switches it on.",
        ],
        [
            "peer-ca",
            None,
            None,
            "Certificates to trust when connecting to SIP peers over TLS (PEM), instead of the"
            " system's authorities.",
        ],
        ["mtu", None, None, "Longest request over UDP in bytes; 1300 unless given."],
        [
            "tcp-keepalive-interval",
            None,
            None,
            "Seconds between two probes of an idle application; 45 unless given, 0 for none.",
        ],
        [
            "orphan-grace",
            None,
            None,
            "Seconds that a call goes on whose application is gone, unless another takes it; 60"
            " unless given.",
        ],
        [
            "max-orphans",
            None,
            None,
            "How many such calls there may be; of more the oldest are ended. 10000 unless given.",
        ],
        [
            "user-agent-options-auto-respond",
            None,
            None,
            "The User-Agent whose OPTIONS are answered 200 without an application.",
        ],
        [
            "prometheus-scrape-port",
            None,
            None,
            "Serve numbers for Prometheus on this port ([ADDRESS:]PORT; 127.0.0.1 unless given).",
        ],
        *[
            [f"limit-{name.replace('_', '-')}", None, None, f"Limit: {describe_limit(name)}."]
            for name in ABOUT
        ],
        *[
            [name, _SHORT.get(name), None, f"Accepted, not obeyed: {why}."]
            for name, why in VALUES_NOT_OBEYED.items()
        ],
    ]

    optFlags = [
        ["noconfig", None, "Read no configuration file."],
        ["check-config", None, "Show the settings and what is wrong with them, and exit."],
        ["cdrs", None, "Send call detail records to the applications that routed them."],
        ["aggressive-nat-detection", None, "Believe nat=yes in a Contact or Record-Route."],
        ["disable-nat-detection", None, "Believe every Contact."],
        ["verify-applications", None, "Verify the certificates of applications over TLS."],
        ["verify-peers", None, "Verify the certificates of all SIP peers that it connects to."],
        ["no-verify-sips", None, "Do not verify even those of sips: peers, as the real server."],
        ["always-send-180", None, "Answer every new INVITE 180 at once."],
        ["reject-register-with-no-realm", None, "Refuse a REGISTER for an IPv4 address."],
        NO_FREEZE,
        *[
            [name, None, f"Accepted, not obeyed: {why}."]
            for name, why in SWITCHES_NOT_OBEYED.items()
        ],
    ]

    compData = usage.Completions(
        optActions={
            name: usage.CompleteFiles()
            for name in (
                "file",
                "key-file",
                "cert-file",
                "chain-file",
                "dh-param",
                "app-ca",
                "peer-ca",
            )
        }
    )

    environment: Mapping[str, str] = os.environ
    default_file: str | None = DEFAULT_FILE

    def __init__(self) -> None:
        super().__init__()
        self["contacts"] = []
        self["extensions"] = []
        self["name-servers"] = []
        self["config"] = None
        self["findings"] = []
        self["read"] = None

    # Flags

    def opt_contact(self, uri: str) -> None:
        """Where to serve SIP, like sip:192.0.2.1:5060;transport=udp,tcp.

        May be repeated; sip:127.0.0.1:5060;transport=udp,tcp unless given.
        """
        self["contacts"].append(FileContact(uri))

    opt_c = opt_contact

    def opt_external_ip(self, address: str) -> None:
        """Address that peers outside are told, for the contact before it."""
        self._about_contact("external-ip", "external_ip", address)

    opt_x = opt_external_ip

    def opt_local_net(self, network: str) -> None:
        """Network that is inside (10.0.0.0/8), for the contact before it."""
        self._about_contact("local-net", "local_net", network)

    opt_n = opt_local_net

    def opt_dns_name(self, name: str) -> None:
        """Name of this server, for the contact before it; may be repeated."""
        self._about_contact("dns-name", "dns_names", name)

    opt_d = opt_dns_name

    def opt_name_server(self, address: str) -> None:
        """Address of a name server, with :PORT if it is not 53; may be repeated.

        Those of the system unless given.
        """
        self["name-servers"].append(address)

    def _about_contact(self, flag: str, name: str, value: str) -> None:
        if not self["contacts"]:
            raise usage.UsageError(f"--{flag} has to follow the --contact that it is for")
        contact = self["contacts"][-1]
        given: Any = value
        if name == "dns_names":
            given = (*contact.dns_names, value)
        elif getattr(contact, name):
            raise usage.UsageError(f"--{flag} is given twice for {contact.uri}")
        self["contacts"][-1] = dataclasses.replace(contact, **{name: given})

    def opt_extension(self, tag: str) -> None:
        """Extension that callers may require though nobody registered it; * for any.

        May be repeated. Requests that require others are answered 420.
        """
        if tag != "*" and not is_token(tag):
            raise usage.UsageError(f"--extension {tag!r} is no option tag")
        self["extensions"].append(tag)

    def opt_version(self) -> NoReturn:
        """Print the version and exit."""
        print(f"drachtwist {VERSION}")
        raise SystemExit(0)

    opt_v = opt_version

    def opt_h(self) -> None:
        """Print this and exit."""
        self.opt_help()

    def parseArgs(self, *words: str) -> None:
        """Refuse words that belong to no flag."""
        if words:
            raise usage.UsageError(f"what is {words[0]!r}? All settings are flags.")

    def postOptions(self) -> None:
        """Make the settings; show them, if that is wanted, and exit."""
        if not self["check-config"]:
            self._settle()
            return
        try:
            self._settle()
        except usage.UsageError as error:
            print(f"the configuration cannot be used: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        for line in describe(self["config"], self["read"], self["findings"]):
            print(line)
        raise SystemExit(0)

    # Settings

    def _settle(self) -> None:
        try:
            file = self._read_file()
            self["config"] = self._config(file)
        except LocalProtocolError as error:
            raise usage.UsageError(str(error)) from None

    def _read_file(self) -> ConfigFile:
        """Read the configuration file, if there is one."""
        if self["noconfig"]:
            return ConfigFile()
        path = self._text("file")
        if path is None:
            path = self.default_file
            if path is None or not os.path.exists(path):
                return ConfigFile()
        file = ConfigFile.read(path)
        self["read"] = path
        self["findings"] += file.findings
        return file

    def _config(self, file: ConfigFile) -> ServerConfig:
        """Put the settings together: flags, variables, file, defaults."""
        self._note_what_is_not_obeyed()
        address = self._text("address") or file.admin_address or "127.0.0.1"
        if not (isIPAddress(address) or isIPv6Address(address)):
            raise usage.UsageError(f"--address {address!r} is no IP address")
        secret = self._secret(file, address)
        port = self._number("port", 65535, file.admin_port)
        tls_port = self._number("tls-port", 65535, file.admin_tls_port)
        tls = self._tls(file)
        if tls_port and not tls.has_identity:
            raise usage.UsageError("--tls-port needs --key-file and --cert-file")
        handlers = self._handlers(file)
        port = 9022 if port is None else port
        if not port and not tls_port and not handlers:
            raise usage.UsageError(
                "no application can reach this server, nor be reached: give --port, --tls-port"
                " or --http-handler"
            )
        host, scrape = self._prometheus(file)
        keepalive = self._number("tcp-keepalive-interval", 32767, file.tcp_keepalive)
        grace = self._number("orphan-grace", (1 << 31) - 1, file.orphan_grace)
        orphans = self._number("max-orphans", (1 << 31) - 1, file.max_orphans)
        nat = "usual"
        if self["disable-nat-detection"]:
            nat = "off"
        elif self._switch(
            "aggressive-nat-detection", "AGRESSIVE_NAT_DETECTION", file.aggressive_nat_detection
        ):
            nat = "aggressive"
        refresher = file.default_refresher
        return ServerConfig(
            admin_host=address,
            admin_port=port or None,
            admin_tls_port=tls_port or None,
            secret=secret,
            request_handlers=handlers,
            tls=tls,
            verify_applications=bool(self["verify-applications"] or self["app-ca"]),
            application_ca=self["app-ca"],
            peer_ca=self["peer-ca"] or file.peer_ca,
            verify_sips=self._whom_to_verify(file) != "none",
            contacts=self._contacts(file, tls),
            timing=_timing(file),
            orphan_grace=60.0 if grace is None else float(grace),
            max_orphans=10_000 if orphans is None else orphans,
            cdrs=bool(self["cdrs"] or file.cdrs),
            outbound_proxy=file.outbound_proxy,
            name_servers=self["name-servers"],
            udp_mtu=self._number("mtu", 65535, file.udp_mtu) or 0,
            default_refresher=None if refresher == "none" else refresher,
            nat_detection=nat,
            spammers=file.spammers,
            reject_register_with_no_realm=self._switch(
                "reject-register-with-no-realm",
                "REJECT_REGISTER_WITH_NO_REALM",
                file.reject_register_with_no_realm,
            ),
            options_user_agent=self._text("user-agent-options-auto-respond")
            or file.options_user_agent,
            always_send_180=bool(self["always-send-180"]),
            extensions=self["extensions"],
            local_domain=self._variable("LOCAL_DOMAIN"),
            udp_buffer_size=file.udp_buffer_size,
            listen_backlog=self._variable_number("TPORT_QUEUESIZE", 1000) or 512,
            max_timeouts=self._variable_number("TPORT_MAX_CONSECUTIVE_TIMEOUTS", 1000),
            tcp_keepalive=45 if keepalive is None else keepalive,
            prometheus_host=host,
            prometheus_port=scrape,
            limits=self._limits(file),
        )

    def _limits(self, file: ConfigFile) -> ServerLimits:
        """Put the limits together; report those that the system does not leave room for."""
        given = dict(file.limits)
        origins = {name: f"limits/{name.replace('_', '-')}" for name in given}
        for name in ABOUT:
            flag = f"limit-{name.replace('_', '-')}"
            text = self._text(flag)
            if text is None:
                continue
            origins[name] = self._origin(flag)
            try:
                given[name] = read_limit(name, text)
            except LocalProtocolError as error:
                raise usage.UsageError(f"{origins[name]} {error}") from None
        files = open_files()
        for name in ("connections", "applications"):
            if given.get(name, 0) >= files:
                self._note(origins[name], f"this process may open only {files} files")
        return ServerLimits(**given)  # type: ignore[arg-type]

    def _secret(self, file: ConfigFile, address: str) -> str:
        secret = read_secret(self["secret"], self["secret-file"], self.environment)
        # It is not left where a traceback or a dump of the options would show it.
        self["secret"] = None
        if secret is None and file.secret is not None:
            secret = read_secret(file.secret, None, {})
        if secret is not None:
            return secret
        if not (address.startswith("127.") or address == "::1"):
            raise usage.UsageError(
                f"other machines can reach {address}: give a secret with --secret-file,"
                " DRACHTIO_SECRET or --secret, or in the configuration file"
            )
        return FILE_SECRET if self["read"] else DEFAULT_SECRET

    def _tls(self, file: ConfigFile) -> TlsOptions:
        tls = TlsOptions(
            key=self._text("key-file") or file.key_file,
            certificate=self._text("cert-file") or file.cert_file,
            chain=self._text("chain-file") or file.chain_file,
            verify=self._whom_to_verify(file) == "all",
            minimum=self._oldest_tls(file),
            ciphers=self._text("tls-cipherlist"),
            dh_parameters=self._text("dh-param") or file.dh_param,
            verify_clients=self._variable("TLS_VERIFY_CLIENT_CERT") == "1",
        )
        if tls.has_identity:
            tls.server_context()
        for ca in (self["app-ca"], self["peer-ca"] or file.peer_ca):
            if ca is not None:
                TlsOptions(ca=ca).client_creator("localhost")
        return tls

    def _whom_to_verify(self, file: ConfigFile) -> str:
        """Return ``all``, ``sips`` or ``none``; the real server takes whoever is there."""
        if self["verify-peers"]:
            return "all"
        return "none" if self["no-verify-sips"] else file.verify_peers or "sips"

    def reread(self) -> ServerConfig:
        """Read again what may change while the server runs.

        That is where TLS files are and what they are for, and the list of spammers.

        :raises ConfigError: when the configuration file cannot be understood.
        :raises LocalProtocolError: when a TLS file cannot be used.
        """
        file = self._read_file()
        tls = self._tls(file)
        config: ServerConfig = self["config"]
        return dataclasses.replace(
            config,
            tls=tls,
            peer_ca=self["peer-ca"] or file.peer_ca,
            spammers=file.spammers,
        )

    def _oldest_tls(self, file: ConfigFile) -> str:
        text = self._text("min-tls-version")
        if text is None:
            return oldest_tls(file.min_tls_version or "1.2")[0]
        version, problem = oldest_tls(text)
        if problem is not None:
            self._note(self._origin("min-tls-version"), problem)
        return version

    def _handlers(self, file: ConfigFile) -> tuple[RequestHandler, ...]:
        # Here alone the variable wins over the flag, as with the real server.
        uri = self._variable("HTTP_HANDLER_URI")
        if uri is not None:
            if self["http-handler"] is not None:
                self._note("--http-handler", "DRACHTIO_HTTP_HANDLER_URI wins over it")
            return (RequestHandler(uri),)
        if self["http-handler"] is None:
            if self["http-method"] is not None:
                self._note("--http-method", "it does nothing without --http-handler")
            return file.request_handlers
        return (RequestHandler(self["http-handler"], http_method=self["http-method"] or "GET"),)

    def _contacts(self, file: ConfigFile, tls: TlsOptions) -> tuple[str | Contact, ...]:
        given = self["contacts"] or file.contacts
        if not given:
            return (FILE_CONTACT if self["read"] else DEFAULT_CONTACT,)
        contacts = []
        for one in given:
            try:
                contact = Contact(
                    one.uri, one.external_ip or None, one.local_net or None, one.dns_names
                )
                protocols = check_contact(contact)
            except LocalProtocolError as error:
                raise ConfigError(str(error), one.line) from None
            if {"tls", "wss"}.intersection(protocols) and not tls.has_identity:
                raise ConfigError(f"no key and certificate for {one.uri}", one.line)
            contacts.append(contact)
        return tuple(contacts)

    def _prometheus(self, file: ConfigFile) -> tuple[str, int | None]:
        text = self._text("prometheus-scrape-port")
        if text is None:
            return file.prometheus_address or "127.0.0.1", file.prometheus_port or None
        host, _, number = text.rpartition(":")
        host = host.strip("[]") or "127.0.0.1"
        port = _decimal(number, 65535)
        if port is None or not (isIPAddress(host) or isIPv6Address(host)):
            raise usage.UsageError(
                f"{self._origin('prometheus-scrape-port')} {text!r} is not [ADDRESS:]PORT"
            )
        return host, port or None

    # Where settings come from

    def _variable(self, name: str) -> str | None:
        return self.environment.get(f"DRACHTIO_{name}") or None

    def _text(self, flag: str) -> str | None:
        value: str | None = self[flag]
        return value if value is not None else self._variable(VARIABLES[flag])

    def _number(self, flag: str, most: int, otherwise: int | None) -> int | None:
        text = self._text(flag)
        if text is None:
            return otherwise
        number = _decimal(text, most)
        if number is None:
            what = "port number" if "port" in flag else "number"
            raise usage.UsageError(f"{self._origin(flag)} {text!r} is no {what} (0 to {most})")
        return number

    def _variable_number(self, name: str, most: int) -> int:
        text = self._variable(name)
        number = 0 if text is None else _decimal(text, most)
        if number is None:
            raise usage.UsageError(f"DRACHTIO_{name} {text!r} is no number (0 to {most})")
        return number

    def _switch(self, flag: str, variable: str, otherwise: bool | None) -> bool:
        return bool(self[flag] or self._variable(variable) == "1" or otherwise)

    def _origin(self, flag: str) -> str:
        return f"--{flag}" if self[flag] is not None else f"DRACHTIO_{VARIABLES[flag]}"

    def _note(self, setting: str, problem: str) -> None:
        self["findings"].append(Finding(setting, problem))

    def _note_what_is_not_obeyed(self) -> None:
        for name, why in (VALUES_NOT_OBEYED | SWITCHES_NOT_OBEYED).items():
            if self[name]:
                self._note(f"--{name}", f"not supported: {why}")
        for name, why in VARIABLES_NOT_OBEYED.items():
            if self._variable(name) is not None:
                self._note(f"DRACHTIO_{name}", f"not supported: {why}")


def _decimal(text: str, most: int) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) > most:
        return None
    return int(text)


def _timing(file: ConfigFile) -> Timing:
    given = {name: getattr(file, name) for name in ("t1", "t2", "t4", "t1x64")}
    given = {name: value for name, value in given.items() if value is not None}
    if "t1" in given:
        given["request_step"] = 2 * given["t1"]
    return dataclasses.replace(SERVER_TIMING, **given)


def makeService(options: Options) -> Service:
    """Make the service that twistd runs."""
    from twisted.internet import reactor

    service = ServerService(
        options["config"], reactor, options["read"], options["findings"], options.reread
    )
    if not options["no-freeze"]:
        # Only our own code makes anything here, and leaves nothing to it: once a day will do.
        service.collector = Collector(reactor, lambda: service.is_idle, anyway=86400.0)
    return service
