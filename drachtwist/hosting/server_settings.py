"""The settings of the embedded server, put together from wherever each of them is said.

A flag wins over its environment variable, that over the configuration file, and that over the
default: as with the real server, and with its one exception, the web application to ask.
"""

from __future__ import annotations

import dataclasses
from collections.abc import MutableMapping
from typing import Any

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.python import usage

from drachtwist.errors import ConfigError, LocalProtocolError
from drachtwist.hosting.process import read_secret
from drachtwist.hosting.server_flags import DEFAULT_SECRET
from drachtwist.hosting.server_sources import Sources, decimal
from drachtwist.net.logs import LEVELS
from drachtwist.net.sip.listening import check_contact
from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import SERVER_TIMING, Contact, RequestHandler, ServerConfig
from drachtwist.server.configfile import ConfigFile, oldest_tls
from drachtwist.server.limits import ABOUT, ServerLimits, open_files, read_limit
from drachtwist.tracing.hep import PORT as HOMER_PORT
from drachtwist.transactions.timing import Timing

__all__ = ["DEFAULT_CONTACT", "Settings"]

FILE_SECRET = "admin"
"""The secret that goes with a configuration file which names none, as with the real server."""

DEFAULT_CONTACT = "sip:127.0.0.1:5060;transport=udp,tcp"

FILE_CONTACT = "sip:*;transport=udp,tcp"
"""The contact that goes with a configuration file which names none."""


class Settings:
    """What was said, and the settings that come of it.

    :param flags: what the command line says; its secret is taken out, so that no dump shows it.
    :param said: the same, and the environment.
    :param file: the configuration file; an empty one if there is none.
    :param path: where that was read.
    """

    def __init__(
        self, flags: MutableMapping[str, Any], said: Sources, file: ConfigFile, path: str | None
    ) -> None:
        self._flags = flags
        self._said = said
        self._file = file
        self._path = path

    def config(self) -> ServerConfig:
        """Put all settings together, and report what is not obeyed.

        :raises UsageError: for what no server can be told.
        :raises LocalProtocolError: for a contact, a TLS file or whatever else cannot be used.
        """
        self._said.note_what_is_not_obeyed()
        address = self._said.text("address") or self._file.admin_address or "127.0.0.1"
        if not (isIPAddress(address) or isIPv6Address(address)):
            raise usage.UsageError(f"--address {address!r} is no IP address")
        secret = self._secret(address)
        port = self._said.number("port", 65535, self._file.admin_port)
        tls_port = self._said.number("tls-port", 65535, self._file.admin_tls_port)
        tls = self._tls()
        if tls_port and not tls.has_identity:
            raise usage.UsageError("--tls-port needs --key-file and --cert-file")
        handlers = self._handlers()
        port = 9022 if port is None else port
        if not port and not tls_port and not handlers:
            raise usage.UsageError(
                "no application can reach this server, nor be reached: give --port, --tls-port"
                " or --http-handler"
            )
        host, scrape = self._prometheus()
        keepalive = self._said.number("tcp-keepalive-interval", 32767, self._file.tcp_keepalive)
        grace = self._said.number("orphan-grace", (1 << 31) - 1, self._file.orphan_grace)
        orphans = self._said.number("max-orphans", (1 << 31) - 1, self._file.max_orphans)
        nat = "usual"
        if self._flags["disable-nat-detection"]:
            nat = "off"
        elif self._said.switch(
            "aggressive-nat-detection",
            "AGRESSIVE_NAT_DETECTION",
            self._file.aggressive_nat_detection,
        ):
            nat = "aggressive"
        refresher = self._file.default_refresher
        homer, homer_port = self._homer()
        return ServerConfig(
            admin_host=address,
            admin_port=port or None,
            admin_tls_port=tls_port or None,
            secret=secret,
            request_handlers=handlers,
            tls=tls,
            verify_applications=bool(self._flags["verify-applications"] or self._flags["app-ca"]),
            application_ca=self._flags["app-ca"],
            peer_ca=self._flags["peer-ca"] or self._file.peer_ca,
            verify_sips=self._whom_to_verify() != "none",
            contacts=self._contacts(tls),
            timing=_timing(self._file),
            orphan_grace=60.0 if grace is None else float(grace),
            max_orphans=10_000 if orphans is None else orphans,
            cdrs=bool(self._flags["cdrs"] or self._file.cdrs),
            outbound_proxy=self._file.outbound_proxy,
            name_servers=self._flags["name-servers"],
            udp_mtu=self._said.number("mtu", 65535, self._file.udp_mtu) or 0,
            default_refresher=None if refresher == "none" else refresher,
            nat_detection=nat,
            spammers=self._file.spammers,
            reject_register_with_no_realm=self._said.switch(
                "reject-register-with-no-realm",
                "REJECT_REGISTER_WITH_NO_REALM",
                self._file.reject_register_with_no_realm,
            ),
            options_user_agent=self._said.text("user-agent-options-auto-respond")
            or self._file.options_user_agent,
            always_send_180=bool(self._flags["always-send-180"]),
            extensions=self._flags["extensions"],
            local_domain=self._said.variable("LOCAL_DOMAIN"),
            udp_buffer_size=self._file.udp_buffer_size,
            listen_backlog=self._said.variable_number("TPORT_QUEUESIZE", 1000) or 512,
            max_timeouts=self._said.variable_number("TPORT_MAX_CONSECUTIVE_TIMEOUTS", 1000),
            tcp_keepalive=45 if keepalive is None else keepalive,
            prometheus_host=host,
            prometheus_port=scrape,
            limits=self._limits(),
            log_level=self._level(),
            log_calls=True,
            capture_host=homer,
            capture_port=homer_port,
            capture_id=self._said.number("homer-id", (1 << 32) - 1, self._file.capture_id) or 0,
        )

    def reread(self, config: ServerConfig) -> ServerConfig:
        """Return settings with what may change while the server runs, the rest as it was.

        That is where TLS files are and what they are for, and the list of spammers.

        :raises LocalProtocolError: when a TLS file cannot be used.
        """
        return dataclasses.replace(
            config,
            tls=self._tls(),
            peer_ca=self._flags["peer-ca"] or self._file.peer_ca,
            spammers=self._file.spammers,
        )

    def _level(self) -> str:
        """Return what is logged."""
        text = self._said.text("loglevel")
        if text is None:
            return self._file.loglevel or "info"
        if text.lower() not in LEVELS:
            raise usage.UsageError(
                f"{self._said.origin('loglevel')} {text!r} is none of {', '.join(LEVELS)}"
            )
        return text.lower()

    def _homer(self) -> tuple[str | None, int]:
        """Return the host that captures, and its port."""
        text = self._said.text("homer")
        if text is None:
            return self._file.capture_host, self._file.capture_port or HOMER_PORT
        host, found, number = text.rpartition(":")
        if not found or "]" in number:
            host, number = text, ""
        given = self._said.variable_number("HOMER_PORT", 65535) or HOMER_PORT
        port = decimal(number, 65535) if number else given
        host = host.strip("[]")
        if not port or not host:
            raise usage.UsageError(f"{self._said.origin('homer')} {text!r} is not HOST:PORT")
        return host, port

    def _limits(self) -> ServerLimits:
        """Put the limits together; report those that the system does not leave room for."""
        given = dict(self._file.limits)
        origins = {name: f"limits/{name.replace('_', '-')}" for name in given}
        for name in ABOUT:
            flag = f"limit-{name.replace('_', '-')}"
            text = self._said.text(flag)
            if text is None:
                continue
            origins[name] = self._said.origin(flag)
            try:
                given[name] = read_limit(name, text)
            except LocalProtocolError as error:
                raise usage.UsageError(f"{origins[name]} {error}") from None
        files = open_files()
        for name in ("connections", "applications"):
            if given.get(name, 0) >= files:
                self._said.note(origins[name], f"this process may open only {files} files")
        return ServerLimits(**given)  # type: ignore[arg-type]

    def _secret(self, address: str) -> str:
        secret = read_secret(
            self._flags["secret"], self._flags["secret-file"], self._said.environment
        )
        # It is not left where a traceback or a dump of the options would show it.
        self._flags["secret"] = None
        if secret is None and self._file.secret is not None:
            secret = read_secret(self._file.secret, None, {})
        if secret is not None:
            return secret
        if not (address.startswith("127.") or address == "::1"):
            raise usage.UsageError(
                f"other machines can reach {address}: give a secret with --secret-file,"
                " DRACHTIO_SECRET or --secret, or in the configuration file"
            )
        return FILE_SECRET if self._path else DEFAULT_SECRET

    def _tls(self) -> TlsOptions:
        tls = TlsOptions(
            key=self._said.text("key-file") or self._file.key_file,
            certificate=self._said.text("cert-file") or self._file.cert_file,
            chain=self._said.text("chain-file") or self._file.chain_file,
            verify=self._whom_to_verify() == "all",
            minimum=self._oldest_tls(),
            ciphers=self._said.text("tls-cipherlist"),
            dh_parameters=self._said.text("dh-param") or self._file.dh_param,
            verify_clients=self._said.variable("TLS_VERIFY_CLIENT_CERT") == "1",
        )
        if tls.has_identity:
            tls.server_context()
        for ca in (self._flags["app-ca"], self._flags["peer-ca"] or self._file.peer_ca):
            if ca is not None:
                TlsOptions(ca=ca).client_creator("localhost")
        return tls

    def _whom_to_verify(self) -> str:
        """Return ``all``, ``sips`` or ``none``; the real server takes whoever is there."""
        if self._flags["verify-peers"]:
            return "all"
        return "none" if self._flags["no-verify-sips"] else self._file.verify_peers or "sips"

    def _oldest_tls(self) -> str:
        text = self._said.text("min-tls-version")
        if text is None:
            return oldest_tls(self._file.min_tls_version or "1.2")[0]
        version, problem = oldest_tls(text)
        if problem is not None:
            self._said.note(self._said.origin("min-tls-version"), problem)
        return version

    def _handlers(self) -> tuple[RequestHandler, ...]:
        # Here alone the variable wins over the flag, as with the real server.
        uri = self._said.variable("HTTP_HANDLER_URI")
        if uri is not None:
            if self._flags["http-handler"] is not None:
                self._said.note("--http-handler", "DRACHTIO_HTTP_HANDLER_URI wins over it")
            return (RequestHandler(uri),)
        if self._flags["http-handler"] is None:
            if self._flags["http-method"] is not None:
                self._said.note("--http-method", "it does nothing without --http-handler")
            return self._file.request_handlers
        return (
            RequestHandler(
                self._flags["http-handler"], http_method=self._flags["http-method"] or "GET"
            ),
        )

    def _contacts(self, tls: TlsOptions) -> tuple[str | Contact, ...]:
        given = self._flags["contacts"] or self._file.contacts
        if not given:
            return (FILE_CONTACT if self._path else DEFAULT_CONTACT,)
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

    def _prometheus(self) -> tuple[str, int | None]:
        text = self._said.text("prometheus-scrape-port")
        if text is None:
            return self._file.prometheus_address or "127.0.0.1", self._file.prometheus_port or None
        host, _, number = text.rpartition(":")
        host = host.strip("[]") or "127.0.0.1"
        port = decimal(number, 65535)
        if port is None or not (isIPAddress(host) or isIPv6Address(host)):
            raise usage.UsageError(
                f"{self._said.origin('prometheus-scrape-port')} {text!r} is not [ADDRESS:]PORT"
            )
        return host, port or None


def _timing(file: ConfigFile) -> Timing:
    given = {name: getattr(file, name) for name in ("t1", "t2", "t4", "t1x64")}
    given = {name: value for name, value in given.items() if value is not None}
    if "t1" in given:
        given["request_step"] = 2 * given["t1"]
    return dataclasses.replace(SERVER_TIMING, **given)
