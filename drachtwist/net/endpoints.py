r"""Endpoint strings: where an application connects to, or where it listens.

=======================================  =======================================================
``tcp:host:9022``, ``tls:host:9023``     connect to a server (inbound connection)
``unix:/path``, ``client:...``           connect, through any client endpoint Twisted knows
``tcp:9022``, ``tls:9023``               listen for servers (outbound connections)
``server:...``                           listen, through any server endpoint Twisted knows
=======================================  =======================================================

Digits only behind the prefix mean: listen. Arguments follow as ``:name=value``: ``interface=``,
``backlog=``, ``allow=10.0.0.0/8,192.0.2.1`` and ``maxWaiting=`` for listeners, ``timeout=`` and
``bindAddress=`` for connections, and for TLS ``privateKey=``, ``certKey=``, ``chain=``, ``ca=``,
``verify=no``, ``serverName=``, ``minimum=1.3``, ``ciphers=``, ``dhParameters=`` and
``verifyClients=yes``, or the names that clients may have: ``verifyClients=sip.example,192.0.2.1``.
A colon inside a value is written ``\:``, as everywhere in Twisted.

``client:tls:...`` has Twisted's arguments, and verifies as ``tls:`` does. ``client:ssl:...``, which
verifies no name, is refused.

Twisted's own ``tls:`` server strings mean something else (they would read ``tls:9023`` as a
directory of certificates), so these strings never reach Twisted's parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Union

from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    clientFromString,
    quoteStringArgument,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from drachtwist.errors import LocalProtocolError
from drachtwist.net.admission import MAX_WAITING, Network, parse_networks
from drachtwist.net.tls import Credentials, TlsOptions

__all__ = [
    "Connect",
    "EndpointError",
    "Listen",
    "connect_to",
    "listen_on",
    "parse_endpoint",
    "to_connect",
    "to_listen",
]

RIGHT_FORMS = (
    "to connect to a server: tcp:HOST:9022 or tls:HOST:9023;"
    " to listen for servers: tcp:9022 or tls:9023:privateKey=KEY.pem:certKey=CERT.pem"
)


class EndpointError(LocalProtocolError):
    """A string that is no endpoint; the text shows the two right forms."""

    def __init__(self, text: str, problem: str) -> None:
        super().__init__(f"{problem}: {text!r} ({RIGHT_FORMS})")


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to a server: an inbound connection, in drachtio's words."""

    endpoint: IStreamClientEndpoint
    text: str
    """The endpoint as a string, for messages; it holds no secret."""
    tls: bool
    credentials: Credentials | None = field(default=None, repr=False)
    """What TLS uses, if it is ours."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen for servers: outbound connections, in drachtio's words."""

    endpoint: IStreamServerEndpoint
    text: str
    """The endpoint as a string, for messages; it holds no secret."""
    tls: bool
    credentials: Credentials | None = field(default=None, repr=False)
    """What TLS uses, if it is ours."""
    allow: tuple[Network, ...] = ()
    """Where those have to be who connect; anywhere if there is nothing in it."""
    max_waiting: int = MAX_WAITING
    """How many connections may be without a request."""

    @property
    def is_guarded(self) -> bool:
        """Whether not everybody gets in, as far as can be seen."""
        tls = None if self.credentials is None else self.credentials.options
        return bool(self.allow) or (tls is not None and tls.verify_clients)


Endpoint = Union[Connect, Listen]  # noqa: UP007 - evaluated on Python 3.10


def connect_to(
    reactor: Any,
    host: str,
    port: int,
    tls: TlsOptions | None = None,
    *,
    timeout: float = 30.0,
    bind_address: str | None = None,
) -> Connect:
    """Make the endpoint that connects to a server.

    :param host: name or address, IPv4 or IPv6.
    :param tls: use TLS, with these options.
    :param timeout: seconds that connecting may take.
    :raises LocalProtocolError: when TLS files cannot be used.
    """
    plain = HostnameEndpoint(
        reactor, host, port, timeout, None if bind_address is None else bind_address.encode()
    )
    text = f"{'tls' if tls else 'tcp'}:{quoteStringArgument(host)}:{port}"
    if tls is None:
        return Connect(plain, text, False)
    return _over_tls(plain, host, text, tls)


def _over_tls(plain: IStreamClientEndpoint, host: str, text: str, tls: TlsOptions) -> Connect:
    credentials = Credentials(tls)
    endpoint = wrapClientTLS(credentials.client_creator(host), plain)
    return Connect(endpoint, text, True, credentials)


def listen_on(
    reactor: Any,
    port: int,
    interface: str = "",
    tls: TlsOptions | None = None,
    *,
    backlog: int = 128,
) -> Listen:
    """Make the endpoint that listens for servers.

    :param port: 0 for any free port.
    :param interface: the address to listen on; empty for all IPv4 addresses.
    :param tls: use TLS, with this key and certificate.
    :raises LocalProtocolError: when TLS has no key and certificate.
    """
    text = f"{'tls' if tls else 'tcp'}:{port}"
    if interface:
        text += f":interface={quoteStringArgument(interface)}"
    plain: IStreamServerEndpoint
    if isIPv6Address(interface):
        plain = TCP6ServerEndpoint(reactor, port, backlog, interface)
    else:
        plain = TCP4ServerEndpoint(reactor, port, backlog, interface)
    if tls is None:
        return Listen(plain, text, False)
    credentials = Credentials(tls, listens=True)
    return Listen(_TlsServerEndpoint(plain, credentials), text, True, credentials)


@implementer(IStreamServerEndpoint)
class _TlsServerEndpoint:
    """Listens with TLS."""

    def __init__(self, plain: IStreamServerEndpoint, credentials: Credentials) -> None:
        self._plain = plain
        self._creator = credentials.server_creator()

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen, and make each connection a TLS one before the protocol sees it."""
        return self._plain.listen(TLSMemoryBIOFactory(self._creator, False, protocolFactory))


def to_connect(
    reactor: Any, endpoint: str | Connect | IStreamClientEndpoint, tls: TlsOptions | None = None
) -> Connect:
    """Make a :class:`Connect` of whatever says where to connect to.

    :param tls: see :func:`parse_endpoint`.
    :raises LocalProtocolError: for what does not, or is an endpoint to listen on.
    """
    if isinstance(endpoint, str):
        parsed = parse_endpoint(reactor, endpoint, tls)
        if not isinstance(parsed, Connect):
            raise LocalProtocolError(f"an endpoint to listen on: {endpoint!r}")
        return parsed
    if isinstance(endpoint, Connect):
        return endpoint
    if IStreamClientEndpoint.providedBy(endpoint):
        # Whether TLS is inside is not seen before there is a connection.
        return Connect(endpoint, type(endpoint).__name__.strip("_"), False)
    raise LocalProtocolError(f"no endpoint to connect to: {endpoint!r}{_hint(endpoint)}")


def to_listen(
    reactor: Any,
    endpoint: str | Listen | IStreamServerEndpoint,
    tls: TlsOptions | None = None,
    allow: Iterable[str] = (),
) -> Listen:
    """Make a :class:`Listen` of whatever says where to listen.

    :param tls: see :func:`parse_endpoint`.
    :param allow: networks that may connect, if the endpoint names none.
    :raises LocalProtocolError: for what does not, or is an endpoint to connect to.
    """
    listen: Listen
    if isinstance(endpoint, str):
        parsed = parse_endpoint(reactor, endpoint, tls)
        if not isinstance(parsed, Listen):
            raise LocalProtocolError(f"an endpoint to connect to: {endpoint!r}")
        listen = parsed
    elif isinstance(endpoint, Listen):
        listen = endpoint
    elif IStreamServerEndpoint.providedBy(endpoint):
        listen = Listen(endpoint, type(endpoint).__name__.strip("_"), False)
    else:
        raise LocalProtocolError(f"no endpoint to listen on: {endpoint!r}{_hint(endpoint)}")
    networks = parse_networks(allow)
    return listen if listen.allow or not networks else replace(listen, allow=networks)


def _hint(endpoint: object) -> str:
    """Say how to write what others write as an object."""
    if isinstance(endpoint, Mapping):
        return "; host and port are given by name: host=..., port=..."
    return ""


_TLS_ARGUMENTS = {
    "privateKey": "key",
    "certKey": "certificate",
    "chain": "chain",
    "ca": "ca",
    "serverName": "server_name",
    "minimum": "minimum",
    "ciphers": "ciphers",
    "dhParameters": "dh_parameters",
}
_NO = frozenset({"no", "false", "0", "off"})
_YES = frozenset({"yes", "true", "1", "on"})


def parse_endpoint(reactor: Any, text: str, tls: TlsOptions | None = None) -> Endpoint:
    """Read an endpoint string.

    :param tls: defaults for TLS endpoints: what the string does not say.
    :raises EndpointError: when it is none.
    :raises LocalProtocolError: when TLS files are missing or cannot be used.
    """
    prefix, colon, rest = text.partition(":")
    if not colon or not rest:
        raise EndpointError(text, "not an endpoint")
    if prefix == "client":
        return _client(reactor, rest, text)
    if prefix == "unix":
        return _client(reactor, text, text)
    if prefix == "server":
        try:
            return Listen(serverFromString(reactor, rest), text, rest.startswith(("ssl:", "tls:")))
        except Exception as error:
            raise EndpointError(text, f"no server endpoint ({error})") from None
    if prefix not in ("tcp", "tls"):
        raise EndpointError(text, "not an endpoint")
    positional, named = _arguments(rest)
    try:
        options = _tls_options(named, tls) if prefix == "tls" else None
        if len(positional) == 1 and re.fullmatch(r"\d+", positional[0]):
            interface = named.pop("interface", "")
            backlog = int(named.pop("backlog", "128"))
            allow = parse_networks(filter(None, named.pop("allow", "").split(",")))
            max_waiting = int(named.pop("maxWaiting", MAX_WAITING))
            if max_waiting < 1:
                raise ValueError("maxWaiting is 1 or more")
            _refuse_others(text, named)
            port = _port(positional[0])
            listen = listen_on(reactor, port, interface, options, backlog=backlog)
            return replace(listen, allow=allow, max_waiting=max_waiting)
        if len(positional) == 2 and positional[0]:
            timeout = float(named.pop("timeout", "30"))
            bind_address = named.pop("bindAddress", None)
            _refuse_others(text, named)
            return connect_to(
                reactor,
                positional[0].strip("[]"),
                _port(positional[1]),
                options,
                timeout=timeout,
                bind_address=bind_address,
            )
    except LocalProtocolError:
        raise
    except ValueError as error:
        raise EndpointError(text, f"not an endpoint ({error})") from None
    if len(positional) == 1:
        raise EndpointError(text, "not an endpoint (the port is missing)")
    raise EndpointError(text, "not an endpoint")


def lacks_identity(text: str) -> bool:
    """Return whether an endpoint string listens with TLS and names no key or no certificate."""
    prefix, _, rest = text.partition(":")
    if prefix != "tls":
        return False
    positional, named = _arguments(rest)
    listens = len(positional) == 1 and positional[0].isdigit()
    return listens and not {"privateKey", "certKey"}.intersection(named)


def _client(reactor: Any, description: str, text: str) -> Connect:
    prefix, _, rest = description.partition(":")
    if prefix == "ssl":
        raise EndpointError(text, "it would not verify the server's name, tls: does")
    try:
        if prefix == "tls":
            return _twisted_tls(reactor, rest, text)
        endpoint = clientFromString(reactor, description)
    except LocalProtocolError:
        raise
    except Exception as error:
        raise EndpointError(text, f"no client endpoint ({error})") from None
    return Connect(endpoint, text, False)


def _twisted_tls(reactor: Any, rest: str, text: str) -> Connect:
    """Read the arguments of Twisted's ``tls:`` client strings."""
    positional, named = _arguments(rest)
    if len(positional) != 2:
        raise ValueError("client:tls:HOST:PORT")
    host, port = positional[0].strip("[]"), _port(positional[1])
    timeout = float(named.pop("timeout", "30"))
    bind_address = named.pop("bindAddress", None)
    certificate = named.pop("certificate", None)
    key = named.pop("privateKey", certificate)
    roots = named.pop("trustRoots", None)
    inner = named.pop("endpoint", None)
    _refuse_others(text, named)
    ca = (
        None
        if roots is None
        else b"".join(path.read_bytes() + b"\n" for path in sorted(Path(roots).glob("*.pem")))
    )
    tls = TlsOptions(key=key, certificate=certificate, ca=ca)
    if inner is not None:
        return _over_tls(clientFromString(reactor, inner), host, text, tls)
    made = connect_to(reactor, host, port, tls, timeout=timeout, bind_address=bind_address)
    return replace(made, text=text)


def _arguments(rest: str) -> tuple[list[str], dict[str, str]]:
    """Split at the colons that are not escaped, into plain and named arguments."""
    positional: list[str] = []
    named: dict[str, str] = {}
    for part in re.split(r"(?<!\\):", rest) if "[" not in rest else _bracketed(rest):
        name, equals, value = part.partition("=")
        if equals and name.isidentifier():
            named[name] = _unescape(value)
        else:
            positional.append(_unescape(part))
    return positional, named


def _bracketed(rest: str) -> list[str]:
    """Split where an IPv6 address in brackets keeps its colons."""
    return [part for part in re.findall(r"(?:\[[^\]]*\]|\\.|[^:\\])+", rest) if part]


def _unescape(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        raise ValueError(f"the port {text!r} is no number") from None
    if not 0 <= port < 65536:
        raise ValueError(f"port {port} is not 0 to 65535")
    return port


def _tls_options(named: dict[str, str], defaults: TlsOptions | None) -> TlsOptions:
    given: dict[str, Any] = {
        ours: named.pop(theirs) for theirs, ours in _TLS_ARGUMENTS.items() if theirs in named
    }
    value = named.pop("verify", "yes").lower()
    if value not in _YES | _NO:
        raise ValueError(f"verify={value}: yes or no")
    given["verify"] = value in _YES
    clients = named.pop("verifyClients", "no")
    if clients.lower() in _YES | _NO:
        given["verify_clients"] = clients.lower() in _YES
    else:
        given["client_names"] = clients.split(",")
    return TlsOptions(**given).with_defaults(defaults)


def _refuse_others(text: str, named: dict[str, str]) -> None:
    if named:
        raise EndpointError(text, f"unknown argument {', '.join(sorted(named))}")
