"""What to do with a request: the question that a server asks a web application, and its answer.

A drachtio server that is configured with a request handler asks it over HTTP about every new
request, and obeys the JSON object that comes back. Both ends live here as values, without any I/O:
:class:`RoutingQuery` is the question, :data:`Decision` the answer. The embedded server formats
questions and parses answers; the web resource of the application side does the opposite.

The answer's full form is ``{"action": ..., "data": {...}}``. drachtio's documentation also shows a
short form, ``{"uri": "10.32.100.2:808;transport=tls"}``, which the real server 0.9.10 does not
understand; it is read as a route here, and never written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Union
from urllib.parse import parse_qsl, quote

from drachtwist.errors import LocalProtocolError, RemoteProtocolError
from drachtwist.sip.grammar import decimal

__all__ = [
    "ANSWER_LIMIT",
    "AppAddress",
    "Decision",
    "ProxyTo",
    "Redirect",
    "Reject",
    "RouteTo",
    "RoutingQuery",
    "format_decision",
    "parse_decision",
]

ANSWER_LIMIT = 16_384
"""The longest answer that a server reads, in bytes."""

_ADDRESS = re.compile(r"(.*):([0-9]+)(?:;transport=([A-Za-z]+))?(?:[\s/].*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class AppAddress:
    """Where an application listens for outbound connections."""

    host: str
    """A name or an address; empty for this machine. IPv6 addresses carry no brackets."""
    port: int
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> AppAddress:
        """Read ``host:port`` with an optional ``;transport=tcp`` or ``;transport=tls``.

        A path or a blank behind it, with whatever follows, counts for nothing. Two things are read
        more kindly than by the real server: brackets around an IPv6 address, and capitals in the
        transport (there they silently mean plain TCP, and the secret would travel in the clear).

        :raises RemoteProtocolError: when it is something else, or the port is not 1 to 65535.
        """
        match = _ADDRESS.fullmatch(text)
        if match is None:
            raise RemoteProtocolError(f"not host:port[;transport=tcp|tls]: {text!r}")
        host, port, transport = match[1], decimal(match[2], 65535), (match[3] or "tcp").lower()
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if (
            transport not in ("tcp", "tls")
            or not port
            or re.search(r"[\s/@\[\]\ud800-\udfff]", host)
            or any(len(label) > 63 for label in host.split("."))
            or ".." in host
        ):
            raise RemoteProtocolError(f"not host:port[;transport=tcp|tls]: {text!r}")
        return cls(host, port, transport == "tls")

    def __str__(self) -> str:
        return f"{self.host}:{self.port}{';transport=tls' if self.tls else ''}"


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer the request with a response."""

    status: int
    """100 to 699; a provisional one leaves the request open, which is rarely meant."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Redirect:
    """Answer the request with ``302 Moved`` and these contacts."""

    contacts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProxyTo:
    """Let the server proxy the request, without any application."""

    destinations: tuple[str, ...]
    record_route: bool = False
    follow_redirects: bool = True
    simultaneous: bool = False
    provisional_timeout: str = "5s"
    final_timeout: str = ""


@dataclass(frozen=True, slots=True)
class RouteTo:
    """Hand the request to an application: to an address, or to one connected with a tag."""

    address: AppAddress | None = None
    tag: str | None = None


Decision = Union[Reject, Redirect, ProxyTo, RouteTo]  # noqa: UP007 - evaluated on Python 3.10
"""What a web application may decide about a request."""


@dataclass(frozen=True, slots=True)
class RoutingQuery:
    """What the server tells the web application about a new request."""

    method: str
    domain: str = ""
    """Host of the Request-URI, without port."""
    protocol: str = ""
    """``udp``, ``tcp`` or ``tls``; WebSocket traffic counts as ``tcp``."""
    source_address: str = ""
    """The sender's IP address."""
    from_user: str = ""
    to_user: str = ""
    uri_user: str = ""
    content_type: str = ""
    """Content-Type without parameters."""
    uri: str = ""
    """The whole Request-URI."""
    uri_params: Mapping[str, str] = field(default_factory=dict)
    """The parameters of the Request-URI, without values as empty text."""

    def encode(self) -> str:
        """Return the query string, with the keys and the order of a real server.

        Parameters of the URI that have the name of another key are left out: what a caller writes
        must not pass for what the server knows about him. The whole URI has them all the same.
        """
        pairs = [(key, getattr(self, name)) for key, name in _QUERY_KEYS]
        pairs += [pair for pair in self.uri_params.items() if pair[0].lower() not in _RESERVED]
        return "&".join([f"{_escape(key)}={_escape(value)}" for key, value in pairs])

    @classmethod
    def parse(cls, text: str) -> RoutingQuery:
        """Read a query string; of a key that stands there twice the first value counts.

        A real server writes its own keys first, and the parameters of the URI behind them as the
        caller wrote them.
        """
        arguments: dict[str, str] = {}
        for key, value in parse_qsl(text, keep_blank_values=True, errors="surrogateescape"):
            arguments.setdefault(key, value)
        return cls.decode(arguments)

    @classmethod
    def decode(cls, arguments: Mapping[str, str]) -> RoutingQuery:
        """Make a query of decoded URL arguments; keys that are missing count as empty."""
        known = {name: arguments.get(key, "") for key, name in _QUERY_KEYS}
        keys = {key for key, _ in _QUERY_KEYS}
        others = {key: value for key, value in arguments.items() if key not in keys}
        return cls(uri_params=others, **known)


_QUERY_KEYS = (
    ("method", "method"),
    ("domain", "domain"),
    ("protocol", "protocol"),
    ("source_address", "source_address"),
    ("fromUser", "from_user"),
    ("toUser", "to_user"),
    ("uriUser", "uri_user"),
    ("contentType", "content_type"),
    ("uri", "uri"),
)
# Halves of characters have no UTF-8: JSON can write them (RFC 8259 section 8.2), and octets of a
# caller that are none become such.
_UNSENDABLE = re.compile("[\r\n\0\ud800-\udfff]")
_RESERVED = frozenset(key.lower() for key, _ in _QUERY_KEYS)


def _escape(value: str) -> str:
    """Percent-code all but unreserved characters, with small hex digits."""
    coded = quote(value.encode("utf-8", "surrogateescape"), safe="")
    return re.sub("%[0-9A-F]{2}", lambda found: found[0].lower(), coded)


def parse_decision(body: bytes) -> Decision:
    """Read the answer of a web application.

    :raises RemoteProtocolError: for anything that a server answers with a 500.
    """
    if len(body) > ANSWER_LIMIT:
        raise RemoteProtocolError(f"the answer has {len(body)} bytes, over {ANSWER_LIMIT}")
    try:
        answer = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RemoteProtocolError(f"the answer is not JSON: {error}") from None
    if not isinstance(answer, dict):
        raise RemoteProtocolError("the answer is not a JSON object")
    action, data = answer.get("action"), answer.get("data")
    if action is None and data is None and isinstance(answer.get("uri"), str):
        return RouteTo(AppAddress.parse(answer["uri"]))
    if not isinstance(action, str) or not isinstance(data, dict):
        raise RemoteProtocolError("the answer needs a text 'action' and an object 'data'")
    reader = _READERS.get(action)
    if reader is None:
        raise RemoteProtocolError(f"unknown action {action!r}")
    return reader(data)


def _reject(data: Mapping[str, Any]) -> Decision:
    status, reason = data.get("status"), data.get("reason")
    if type(status) is not int or not 100 <= status <= 699:
        raise RemoteProtocolError(f"'status' must be a number from 100 to 699, not {status!r}")
    if not isinstance(reason, str) or _UNSENDABLE.search(reason):
        reason = None
    return Reject(status, reason)


def _redirect(data: Mapping[str, Any]) -> Decision:
    return Redirect(_texts(data, "contact"))


def _proxy(data: Mapping[str, Any]) -> Decision:
    destinations = _texts(data, "destination")
    if not destinations:
        raise RemoteProtocolError("'destination' is empty")

    def typed(key: str, kind: type, default: Any) -> Any:
        value = data.get(key)
        return value if isinstance(value, kind) else default

    return ProxyTo(
        destinations,
        record_route=typed("recordRoute", bool, False),
        follow_redirects=typed("followRedirects", bool, True),
        simultaneous=typed("simultaneous", bool, False),
        provisional_timeout=typed("provisionalTimeout", str, "5s"),
        final_timeout=typed("finalTimeout", str, ""),
    )


def _route(data: Mapping[str, Any]) -> Decision:
    uri, tag = data.get("uri"), data.get("tag")
    if isinstance(uri, str):
        return RouteTo(AppAddress.parse(uri))
    if isinstance(tag, str) and not _UNSENDABLE.search(tag):
        return RouteTo(tag=tag)
    raise RemoteProtocolError("a route needs a text 'uri' or 'tag'")


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = data.get(key)
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(
        isinstance(item, str) and "|" not in item and not _UNSENDABLE.search(item)
        for item in values
    ):
        raise RemoteProtocolError(f"{key!r} must be a text or a list of texts")
    return tuple(values)


_READERS = {"reject": _reject, "redirect": _redirect, "proxy": _proxy, "route": _route}


def format_decision(decision: Decision) -> bytes:
    """Write an answer exactly as a real server wants it.

    :raises LocalProtocolError: for a decision that no server could obey.
    """
    data: dict[str, Any]
    if isinstance(decision, Reject):
        if type(decision.status) is not int or not 100 <= decision.status <= 699:
            raise LocalProtocolError(f"not a status: {decision.status!r}")
        action, data = "reject", {"status": decision.status}
        if decision.reason is not None:
            _refuse_unsendable([decision.reason])
            data["reason"] = decision.reason
    elif isinstance(decision, Redirect):
        _refuse_unsendable(decision.contacts)
        action, data = "redirect", {"contact": list(decision.contacts)}
    elif isinstance(decision, ProxyTo):
        if not decision.destinations:
            raise LocalProtocolError("a proxy decision needs a destination")
        _refuse_unsendable(decision.destinations)
        action = "proxy"
        data = {
            "destination": list(decision.destinations),
            "recordRoute": decision.record_route,
            "followRedirects": decision.follow_redirects,
            "simultaneous": decision.simultaneous,
            "provisionalTimeout": decision.provisional_timeout,
        }
        if decision.final_timeout:
            data["finalTimeout"] = decision.final_timeout
    else:
        action = "route"
        if decision.address is not None:
            data = {"uri": str(decision.address)}
        elif decision.tag is not None:
            _refuse_unsendable([decision.tag])
            data = {"tag": decision.tag}
        else:
            raise LocalProtocolError("a route needs an address or a tag")
    body = json.dumps({"action": action, "data": data}, ensure_ascii=False).encode("utf-8")
    if len(body) > ANSWER_LIMIT:
        raise LocalProtocolError(f"the answer has {len(body)} bytes, over {ANSWER_LIMIT}")
    return body


def _refuse_unsendable(texts: Sequence[str]) -> None:
    for text in texts:
        if _UNSENDABLE.search(text):
            raise LocalProtocolError(f"line break, NUL or what is no text in {text!r}")
