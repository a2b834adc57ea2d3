"""The configuration file of drachtio servers, ``drachtio.conf.xml``, as it is.

Every element and attribute that the real server reads is either obeyed here, or reported as a
:class:`Finding` that says why it is not; so is whatever the real server would pass over without a
word, a misspelt element for instance. What cannot be understood at all (no XML, a port that is no
number) is a :exc:`~drachtwist.errors.ConfigError` with the line it stands on.

The file may come from anywhere, so it is read with care: it must not be long, must not be deeply
nested, and must not declare entities or a document type, which nobody needs here and which XML
bombs are made of.

The table :data:`ELEMENTS` is the whole grammar. Of an element that is given twice the first one
counts, as in the real server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from drachtwist.errors import ConfigError, LocalProtocolError
from drachtwist.net.logs import LEVELS
from drachtwist.server.config import RequestHandler
from drachtwist.server.limits import ABOUT, read_limit
from drachtwist.server.spammers import ACTIONS, Spammers

__all__ = ["ELEMENTS", "ConfigFile", "FileContact", "Finding"]

MAX_SIZE = 1 << 20
"""Bytes that a configuration file may have."""

_MAX_DEPTH = 16

_LOG = "twistd writes the log: use its --logfile, --syslog and --logger"
_REDIS = "there is no blacklist; use a firewall"

ELEMENTS: dict[str, str] = {
    "admin": "",
    "admin@port": "",
    "admin@tls-port": "",
    "admin@secret": "",
    "admin@tcp-keepalive": "",
    "admin@orphan-grace": "",
    "admin@max-orphans": "",
    "admin@tls": "the real server does not use it either: give tls-port",
    "request-handlers": "",
    "request-handlers/request-handler": "",
    "request-handlers/request-handler@sip-method": "",
    "request-handlers/request-handler@http-method": "",
    "request-handlers/request-handler@verify-peer": "",
    "sip": "",
    "sip/contact": "",
    "sip/contacts": "",
    "sip/contacts/contact": "",
    "sip/contacts/contact@external-ip": "",
    "sip/contacts/contact@local-net": "",
    "sip/contacts/contact@dns-names": "",
    "sip/outbound-proxy": "",
    "sip/udp-mtu": "",
    "sip/mtu-size": "the real server does not know it either: it is called udp-mtu",
    "sip/udp-buffer-size": "",
    "sip/tls": "",
    "sip/tls/key-file": "",
    "sip/tls/cert-file": "",
    "sip/tls/chain-file": "",
    "sip/tls/dh-param": "",
    "sip/tls/min-tls-version": "",
    "sip/tls/verify-peers": "",
    "sip/tls/peer-ca": "",
    "sip/timers": "",
    "sip/timers/t1": "",
    "sip/timers/t2": "",
    "sip/timers/t4": "",
    "sip/timers/t1x64": "",
    "sip/session-timers": "",
    "sip/session-timers@default-refresher": "",
    "sip/spammers": "",
    "sip/spammers@action": "",
    "sip/spammers@tcp-action": "",
    "sip/spammers/header": "",
    "sip/spammers/header@name": "",
    "sip/spammers/header/*": "",
    "sip/reject-register-with-no-realm": "",
    "sip/aggressive-nat-detection": "",
    "sip/user-agent-options-auto-respond": "",
    "sip/blacklist": _REDIS,
    "sip/capture-server": "",
    "sip/capture-server@port": "",
    "sip/capture-server@id": "",
    "sip/capture-server@hep-version": "",
    "cdrs": "",
    "limits": "",
    **{f"limits/{name.replace('_', '-')}": "" for name in ABOUT},
    "monitoring": "",
    "monitoring/prometheus": "",
    "monitoring/prometheus@port": "",
    "logging": "",
    "logging/loglevel": "",
    "logging/sofia-loglevel": "there is no Sofia stack in it",
    "logging/console": "use twistd -n",
    "logging/syslog": _LOG,
    "logging/file": _LOG,
}
"""Elements and attributes by their path: why they are not supported, or nothing if they are.

What is below an element that is not supported goes with it; ``*`` is any name."""

TLS_VERSIONS = ("1", "1.0", "1.1", "1.2", "1.3")

_YES = frozenset(("1", "yes", "true", "on"))


@dataclass(frozen=True, slots=True)
class Finding:
    """A setting that is not obeyed."""

    setting: str
    """The path of an element, a flag or an environment variable."""
    problem: str
    line: int | None = None
    """Where it stands in the configuration file."""

    def __str__(self) -> str:
        place = "" if self.line is None else f"line {self.line}: "
        return f"{place}{self.setting}: {self.problem}"


@dataclass(frozen=True, slots=True)
class FileContact:
    """An address to serve SIP on, with what is said about it."""

    uri: str
    external_ip: str = ""
    """The address that peers outside of the local network are told."""
    local_net: str = ""
    """The local network: ``10.0.0.0/8``."""
    dns_names: tuple[str, ...] = ()
    """Names of this server."""
    line: int | None = None


class _Node:
    """An element."""

    __slots__ = ("attributes", "children", "line", "name", "parts")

    def __init__(self, name: str, attributes: dict[str, str], line: int) -> None:
        self.name = name
        self.attributes = attributes
        self.line = line
        self.parts: list[str] = []
        self.children: list[_Node] = []

    @property
    def text(self) -> str:
        """Its text, without blanks around it."""
        return "".join(self.parts).strip()

    def all(self, name: str) -> Iterator[_Node]:
        """Return its children of a name."""
        return (child for child in self.children if child.name == name)

    def find(self, path: str) -> _Node | None:
        """Return the first element at a path."""
        node: _Node | None = self
        for name in path.split("/"):
            if node is None:
                return None
            node = next(node.all(name), None)
        return node


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a configuration file says; None for what it leaves open."""

    admin_address: str | None = None
    admin_port: int | None = None
    admin_tls_port: int | None = None
    secret: str | None = field(default=None, repr=False)
    tcp_keepalive: int | None = None
    orphan_grace: int | None = None
    """Not in the real server, as the next."""
    max_orphans: int | None = None
    request_handlers: tuple[RequestHandler, ...] = ()
    contacts: tuple[FileContact, ...] = ()
    outbound_proxy: str | None = None
    udp_mtu: int | None = None
    key_file: str | None = None
    cert_file: str | None = None
    chain_file: str | None = None
    dh_param: str | None = None
    min_tls_version: str | None = None
    """What it says, whether it is obeyed or not; see :func:`oldest_tls`."""
    verify_peers: str | None = None
    """Which SIP peers' certificates are verified: ``all``, ``sips`` or ``none``."""
    peer_ca: str | None = None
    udp_buffer_size: int | None = None
    t1: float | None = None
    """Seconds, as the other timers."""
    t2: float | None = None
    t4: float | None = None
    t1x64: float | None = None
    default_refresher: str | None = None
    spammers: Spammers | None = None
    reject_register_with_no_realm: bool | None = None
    aggressive_nat_detection: bool | None = None
    options_user_agent: str | None = None
    cdrs: bool | None = None
    prometheus_address: str | None = None
    prometheus_port: int | None = None
    loglevel: str | None = None
    """``notice``, ``error``, ``warning``, ``info`` or ``debug``."""
    capture_host: str | None = None
    """Homer: its address or name."""
    capture_port: int | None = None
    capture_id: int | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    """The limits that it sets, by their names; not in the real server."""
    findings: tuple[Finding, ...] = ()

    @classmethod
    def read(cls, path: str | Path) -> ConfigFile:
        """Read a file.

        :raises ConfigError: when it cannot be read or understood.
        """
        try:
            with open(path, "rb") as file:
                data = file.read(MAX_SIZE + 1)
        except OSError as error:
            raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
        try:
            return cls.parse(data)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error.problem}", error.line) from None

    @classmethod
    def parse(cls, data: bytes) -> ConfigFile:
        """Read the bytes of a file.

        :raises ConfigError: when they cannot be understood.
        """
        root = _tree(data)
        if root.name != "drachtio":
            raise ConfigError(f"the outermost element is <{root.name}>, not <drachtio>", root.line)
        return _Reader(root).file()


def oldest_tls(text: str) -> tuple[str, str | None]:
    """Return the oldest version of TLS to speak, for what somebody wants.

    :returns: ``1.2`` or ``1.3``, and why it is not what was wanted, if so.
    """
    if text in ("1.2", "1.3"):
        return text, None
    if text in TLS_VERSIONS:
        return "1.2", "not supported: TLS 1.2 is the oldest that is spoken"
    return "1.2", f"{text!r} is none of {', '.join(TLS_VERSIONS)}"


def _tree(data: bytes) -> _Node:
    if len(data) > MAX_SIZE:
        raise ConfigError(f"more than {MAX_SIZE} bytes are no configuration")
    parser = expat.ParserCreate()
    parser.buffer_text = True
    stack = [_Node("", {}, 0)]

    def refuse(*about: Any) -> None:
        raise ConfigError(
            "a document type or entity is declared, which is not allowed", parser.CurrentLineNumber
        )

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > _MAX_DEPTH:
            raise ConfigError("nested too deeply", parser.CurrentLineNumber)
        node = _Node(name, attributes, parser.CurrentLineNumber)
        stack[-1].children.append(node)
        stack.append(node)

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: stack.pop()
    parser.CharacterDataHandler = lambda text: stack[-1].parts.append(text)
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ConfigError(f"no XML: {expat.errors.messages[error.code]}", error.lineno) from None
    except (LookupError, ValueError) as error:
        # An encoding that nobody knows.
        raise ConfigError(f"no XML: {error}", 1) from None
    return stack[0].children[0]


class _Reader:
    """Makes settings out of a tree, and takes note of what is strange."""

    __slots__ = ("findings", "root")

    def __init__(self, root: _Node) -> None:
        self.root = root
        self.findings: list[Finding] = []
        for name in root.attributes:
            self.note(f"@{name}", "unknown attribute", root)
        self._check(root, "")
        if root.text:
            self.note("drachtio", "text that belongs to no element", root)

    def note(self, setting: str, problem: str, node: _Node) -> None:
        """Take note of a setting that is not obeyed."""
        self.findings.append(Finding(setting, problem, node.line))

    # What is strange, whatever it says

    def _check(self, parent: _Node, prefix: str) -> None:
        seen: set[str] = set()
        anything = f"{prefix}*" in ELEMENTS
        for node in parent.children:
            path = f"{prefix}{node.name}"
            why = "" if anything else ELEMENTS.get(path)
            if why is None:
                self.note(path, "unknown element", node)
                continue
            repeats = anything or path in (
                "request-handlers/request-handler",
                "sip/contacts/contact",
                "sip/spammers/header",
            )
            if not repeats and node.name in seen:
                self.note(path, "given twice, the first one counts", node)
                continue
            seen.add(node.name)
            if why:
                self.note(path, f"not supported: {why}", node)
                continue
            for name in node.attributes:
                about = None if anything else ELEMENTS.get(f"{path}@{name}")
                if about is None:
                    self.note(f"{path}@{name}", "unknown attribute", node)
                elif about:
                    self.note(f"{path}@{name}", f"not supported: {about}", node)
            self._check(node, f"{path}/")

    # Values

    def text(self, path: str) -> str | None:
        """Return the text or attribute at a path; None when it is missing or empty."""
        path, _, attribute = path.partition("@")
        node = self.root.find(path)
        if node is None:
            return None
        if attribute:
            return node.attributes.get(attribute, "").strip() or None
        return node.text or None

    def line(self, path: str) -> int | None:
        """Return the line of an element."""
        node = self.root.find(path.partition("@")[0])
        return None if node is None else node.line

    def number(self, path: str, most: int = (1 << 31) - 1) -> int | None:
        """Return the number at a path."""
        text = self.text(path)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= most):
            raise ConfigError(
                f"{path} has to be a number from 0 to {most}, not {text!r}", self.line(path)
            )
        return int(text)

    def switch(self, path: str) -> bool | None:
        """Return the yes or no at a path; whatever is no yes is a no, as in the real server."""
        text = self.text(path)
        if text is None:
            return None
        if text.lower() not in _YES | {"0", "no", "false", "off"}:
            node = self.root.find(path)
            assert node is not None
            self.note(path, f"neither yes nor no: {text!r}, taken for no", node)
        return text.lower() in _YES

    def seconds(self, path: str) -> float | None:
        """Return the milliseconds at a path, in seconds."""
        number = self.number(path)
        if number == 0:
            raise ConfigError(f"{path} has to be more than 0", self.line(path))
        return None if number is None else number / 1000

    def choice(self, path: str, allowed: tuple[str, ...], otherwise: str) -> str | None:
        """Return the word at a path; one that is not allowed is reported."""
        text = self.text(path)
        if text is None:
            return None
        if text.lower() in allowed:
            return text.lower()
        node = self.root.find(path.partition("@")[0])
        assert node is not None
        self.note(path, f"{text!r} is none of {', '.join(allowed)}; taken for {otherwise}", node)
        return otherwise

    def file(self) -> ConfigFile:
        """Return all settings.

        :raises ConfigError: for a value that cannot be understood.
        """
        if self.root.find("admin") is None:
            raise ConfigError("there is no <admin>, which is required", self.root.line)
        node = self.root.find("sip/tls/min-tls-version")
        if node is not None:
            problem = oldest_tls(node.text)[1]
            if problem is not None:
                self.note("sip/tls/min-tls-version", problem, node)
        return ConfigFile(
            admin_address=self.text("admin"),
            admin_port=self.number("admin@port", 65535),
            admin_tls_port=self.number("admin@tls-port", 65535),
            secret=self.text("admin@secret"),
            tcp_keepalive=self.number("admin@tcp-keepalive", 32767),
            orphan_grace=self.number("admin@orphan-grace"),
            max_orphans=self.number("admin@max-orphans"),
            request_handlers=self.handlers(),
            contacts=self.contacts(),
            outbound_proxy=self.text("sip/outbound-proxy"),
            udp_mtu=self.number("sip/udp-mtu", 65535),
            key_file=self.text("sip/tls/key-file"),
            cert_file=self.text("sip/tls/cert-file"),
            chain_file=self.text("sip/tls/chain-file"),
            dh_param=self.text("sip/tls/dh-param"),
            min_tls_version=None if node is None else node.text,
            verify_peers=self.choice("sip/tls/verify-peers", ("all", "sips", "none"), "all"),
            peer_ca=self.text("sip/tls/peer-ca"),
            udp_buffer_size=self.number("sip/udp-buffer-size") or None,
            t1=self.seconds("sip/timers/t1"),
            t2=self.seconds("sip/timers/t2"),
            t4=self.seconds("sip/timers/t4"),
            t1x64=self.seconds("sip/timers/t1x64"),
            default_refresher=self.choice(
                "sip/session-timers@default-refresher", ("none", "uac", "uas"), "none"
            ),
            spammers=self.spammers(),
            reject_register_with_no_realm=self.switch("sip/reject-register-with-no-realm"),
            aggressive_nat_detection=self.switch("sip/aggressive-nat-detection"),
            options_user_agent=self.text("sip/user-agent-options-auto-respond"),
            cdrs=self.switch("cdrs"),
            prometheus_address=self.text("monitoring/prometheus"),
            prometheus_port=self.prometheus_port(),
            loglevel=self.choice("logging/loglevel", LEVELS, "info"),
            capture_host=self.capture_host(),
            capture_port=self.number("sip/capture-server@port", 65535),
            capture_id=self.number("sip/capture-server@id", (1 << 32) - 1),
            limits=self.limits(),
            findings=tuple(sorted(self.findings, key=lambda one: one.line or 0)),
        )

    def prometheus_port(self) -> int | None:
        """Return the port that numbers are served on."""
        node = self.root.find("monitoring/prometheus")
        port = self.number("monitoring/prometheus@port", 65535)
        if node is not None and port is None:
            self.note("monitoring/prometheus", "no port, so nothing is served", node)
        return port

    def capture_host(self) -> str | None:
        """Return who captures; what wants another version than 3 gets that."""
        node = self.root.find("sip/capture-server")
        version = self.text("sip/capture-server@hep-version")
        if node is not None and version not in (None, "3"):
            self.note("sip/capture-server@hep-version", f"{version!r} is not 3, taken for 3", node)
        return self.text("sip/capture-server")

    def limits(self) -> dict[str, float]:
        """Return the limits that are set."""
        found = {}
        for name in ABOUT:
            path = f"limits/{name.replace('_', '-')}"
            text = self.text(path)
            if text is None:
                continue
            try:
                found[name] = read_limit(name, text)
            except LocalProtocolError as error:
                raise ConfigError(f"{path} {error}", self.line(path)) from None
        return found

    def contacts(self) -> tuple[FileContact, ...]:
        """Return the addresses to serve SIP on; the old form wins over the new one."""
        several = self.root.find("sip/contacts")
        single = self.root.find("sip/contact")
        if single is not None:
            if several is not None:
                self.note("sip/contacts", "not read, since there is a sip/contact", several)
            return (FileContact(single.text, line=single.line),) if single.text else ()
        found = []
        for node in several.all("contact") if several is not None else ():
            if not node.text:
                raise ConfigError("sip/contacts/contact is empty", node.line)
            names = node.attributes.get("dns-names", "").replace(",", " ").replace(";", " ")
            found.append(
                FileContact(
                    node.text,
                    node.attributes.get("external-ip", "").strip(),
                    node.attributes.get("local-net", "").strip(),
                    tuple(names.split()),
                    node.line,
                )
            )
        return tuple(found)

    def handlers(self) -> tuple[RequestHandler, ...]:
        """Return who decides about new requests."""
        parent = self.root.find("request-handlers")
        found: list[RequestHandler] = []
        path = "request-handlers/request-handler"
        for node in parent.all("request-handler") if parent is not None else ():
            http_method = node.attributes.get("http-method", "GET")
            if http_method not in ("GET", "POST"):
                self.note(f"{path}@http-method", f"{http_method!r} is taken for GET", node)
                http_method = "GET"
            method = node.attributes.get("sip-method", "*").strip() or "*"
            verify = node.attributes.get("verify-peer", "").strip().lower() in _YES
            try:
                handler = RequestHandler(node.text, method, http_method, verify)
            except LocalProtocolError as error:
                raise ConfigError(str(error), node.line) from None
            if any(one.method == handler.method for one in found):
                self.note(path, f"a second one for {handler.method}, the first one counts", node)
                continue
            found.append(handler)
        return tuple(found)

    def spammers(self) -> Spammers | None:
        """Return what spammers are known by, if anything."""
        parent = self.root.find("sip/spammers")
        if parent is None:
            return None
        path = "sip/spammers/header"
        headers: dict[str, tuple[str, ...]] = {}
        for node in parent.all("header"):
            name = node.attributes.get("name", "").strip().lower()
            patterns = tuple(child.text for child in node.children if child.text)
            if not name:
                self.note(path, "it has no name, so it is not looked at", node)
            elif name not in Spammers.LOOKED_AT:
                self.note(path, f"{name!r} is not looked at, as by the real server", node)
            elif name in headers:
                self.note(path, f"a second one for {name}, the first one counts", node)
            elif not patterns:
                self.note(path, "it has no values, so it matches nothing", node)
            else:
                headers[name] = patterns
        action = self.choice("sip/spammers@action", ACTIONS, "discard")
        tcp_action = self.choice("sip/spammers@tcp-action", ACTIONS, "discard")
        if not headers:
            return None
        return Spammers(tuple(headers.items()), action or "discard", tcp_action or "discard")
