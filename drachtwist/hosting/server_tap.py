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
from twisted.python import usage

from drachtwist.errors import LocalProtocolError
from drachtwist.hosting.collector import Collector
from drachtwist.hosting.command_line import CommandLine
from drachtwist.hosting.server_flags import DEFAULT_FILE, FLAGS, PARAMETERS
from drachtwist.hosting.server_service import ServerService, describe
from drachtwist.hosting.server_settings import Settings
from drachtwist.hosting.server_sources import Sources
from drachtwist.hosting.tracing import open_trace, trace_settings
from drachtwist.net.logs import set_level
from drachtwist.server.config import ServerConfig
from drachtwist.server.configfile import ConfigFile, FileContact
from drachtwist.sip.grammar import is_token
from drachtwist.version import VERSION

__all__ = ["Options", "makeService"]


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

    optParameters = PARAMETERS
    optFlags = FLAGS
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
        self["tracing"] = None

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
        """Refuse words that belong to no flag.

        :raises UsageError: when there are some.
        """
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
        self["tracing"] = trace_settings(self)
        try:
            self["config"] = self._settings().config()
        except LocalProtocolError as error:
            raise usage.UsageError(str(error)) from None

    def _settings(self) -> Settings:
        said = Sources(self, self.environment, self["findings"])
        return Settings(self, said, self._read_file(said), self["read"])

    def _read_file(self, said: Sources) -> ConfigFile:
        """Read the configuration file, if there is one."""
        if self["noconfig"]:
            return ConfigFile()
        path = said.text("file")
        if path is None:
            path = self.default_file
            if path is None or not os.path.exists(path):
                return ConfigFile()
        file = ConfigFile.read(path)
        self["read"] = path
        self["findings"] += file.findings
        return file

    def reread(self) -> ServerConfig:
        """Read again what may change while the server runs: TLS files, the list of spammers.

        :raises ConfigError: when the configuration file cannot be understood.
        :raises LocalProtocolError: when a TLS file cannot be used.
        """
        return self._settings().reread(self["config"])


def makeService(options: Options) -> Service:
    """Make the service that twistd runs."""
    from twisted.internet import reactor

    service = ServerService(
        options["config"], reactor, options["read"], options["findings"], options.reread
    )
    service.tracing = open_trace(options["tracing"], reactor)
    set_level(options["config"].log_level)
    if not options["no-freeze"]:
        # Only our own code makes anything here, and leaves nothing to it: once a day will do.
        service.collector = Collector(reactor, lambda: service.is_idle, anyway=86400.0)
    return service
