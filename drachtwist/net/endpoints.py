r"""Endpoint strings: where an application connects to, or where it listens.

=======================================  =======================================================
``tcp:host:9022``, ``tls:host:9023``     connect to a server (inbound connection)
``unix:/path``, ``client:...``           connect, through any client endpoint Twisted knows
``tcp:9022``, ``tls:9023``               listen for servers (outbound connections)
``server:...``                           listen, through any server endpoint Twisted knows
=======================================  =======================================================

Digits only behind the prefix mean: listen. Arguments follow as ``:name=value``: ``interface=`` for
listeners, ``timeout=`` and ``bindAddress=`` for connections, and for TLS ``privateKey=``,
``certKey=``, ``chain=``, ``ca=``, ``verify=no``, ``serverName=``, ``minimum=1.3``, ``ciphers=``,
``dhParameters=`` and ``verifyClients=yes``. A colon inside a value is written ``\:``, as everywhere
in Twisted.

Twisted's own ``tls:`` server strings mean something else (they would read ``tls:9023`` as a
directory of certificates), so these strings never reach Twisted's parser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Union

from twisted.internet.abstract import isIPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    SSL4ServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    clientFromString,
    quoteStringArgument,
    serverFromString,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from drachtwist.errors import LocalProtocolError
from drachtwist.net.tls import TlsOptions

__all__ = ["Connect", "EndpointError", "Listen", "connect_to", "listen_on", "parse_endpoint"]

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


@dataclass(frozen=True, slots=True)
class Listen:
    """Listen for servers: outbound connections, in drachtio's words."""

    endpoint: IStreamServerEndpoint
    text: str
    """The endpoint as a string, for messages; it holds no secret."""
    tls: bool


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
    return Connect(wrapClientTLS(tls.client_creator(host), plain), text, True)


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
    if tls is not None:
        endpoint: IStreamServerEndpoint = SSL4ServerEndpoint(
            reactor, port, tls.server_context(), backlog, interface
        )
        return Listen(endpoint, text, True)
    if isIPv6Address(interface):
        return Listen(TCP6ServerEndpoint(reactor, port, backlog, interface), text, False)
    return Listen(TCP4ServerEndpoint(reactor, port, backlog, interface), text, False)


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
            _refuse_others(text, named)
            return listen_on(reactor, _port(positional[0]), interface, options, backlog=backlog)
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
    raise EndpointError(text, "not an endpoint")


def _client(reactor: Any, description: str, text: str) -> Connect:
    try:
        endpoint = clientFromString(reactor, description)
    except Exception as error:
        raise EndpointError(text, f"no client endpoint ({error})") from None
    return Connect(endpoint, text, description.startswith(("ssl:", "tls:")))


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
    port = int(text)
    if not 0 <= port < 65536:
        raise ValueError(f"port {port} is not 0 to 65535")
    return port


def _tls_options(named: dict[str, str], defaults: TlsOptions | None) -> TlsOptions:
    given: dict[str, Any] = {
        ours: named.pop(theirs) for theirs, ours in _TLS_ARGUMENTS.items() if theirs in named
    }
    for theirs, ours, default in (
        ("verify", "verify", "yes"),
        ("verifyClients", "verify_clients", "no"),
    ):
        value = named.pop(theirs, default).lower()
        if value not in _YES | _NO:
            raise ValueError(f"{theirs}={value}: yes or no")
        given[ours] = value in _YES
    return TlsOptions(**given).with_defaults(defaults)


def _refuse_others(text: str, named: dict[str, str]) -> None:
    if named:
        raise EndpointError(text, f"unknown argument {', '.join(sorted(named))}")
