"""URIs as SIP meets them: ``sip:``, ``sips:``, ``tel:``, and any other scheme untouched.

All parts are kept as they were written, escapes included, so ``str()`` gives back what was
parsed; ``user_text`` and ``Params.text`` resolve the escapes. ``==`` compares the parts as
written, :meth:`SipUri.equivalent` follows the rules of RFC 3261 section 19.1.4 (which are not
transitive, hence no ``==``).

Phones register Contacts that the grammar does not know: with a semicolon that no parameter follows,
a colon that no port follows, or a parameter in quotes. What they mean is clear, so they are read.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field, replace
from typing import Union

from drachtwist.errors import MessageError
from drachtwist.sip import grammar
from drachtwist.sip.params import NO_URI_HEADERS, NO_URI_PARAMS, UriHeaders, UriParams

__all__ = ["AnyUri", "OtherUri", "SipUri", "TelUri", "Uri", "is_sip_uri", "normal_user"]

_SIP = re.compile(
    r'([sS][iI][pP][sS]?):(?:([^@:\s<>"\0]*)(?::([^@\s<>"\0]*))?@)?'
    r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.\-_]+)(?::([0-9]*))?"
    r'((?:;[^\s;?<>"\0]*(?:"[^\s<>"\0]*"[^\s;?<>"\0]*)*)*)(\?[^\s<>"\0]*)?'
)
_TEL = re.compile(r'([tT][eE][lL]):([+0-9A-Fa-f*#\-.()]+)((?:;[^\s;?<>"\0]*)*)')
_OTHER = re.compile(r'([A-Za-z][A-Za-z0-9+.\-]*):([^\s<>"\0]+)')
_SEPARATORS = str.maketrans("", "", "-.()")
_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_ENDS_ADDRESS = frozenset("]0123456789")
# The reserved ones, and what cannot stand in a URI otherwise.
_KEPT_ESCAPED = frozenset((*b';/?:@&=+$,%<>"', *range(0x21), *range(0x7F, 0x100)))
_ALONE_MATTERS = frozenset(("user", "ttl", "method", "maddr", "transport"))


class Uri:
    """What all URIs share; :meth:`parse` is where they come from."""

    __slots__ = ()

    scheme: str

    @staticmethod
    def parse(text: str) -> AnyUri:
        """Read a URI.

        :raises MessageError: when the text is no URI, or a ``sip:`` or ``sips:`` URI that breaks
            its grammar, such as an IPv6 address without brackets, or one that is no address.
        """
        found = _SIP.fullmatch(text)
        if found is not None:
            scheme, user, password, host, port, params, headers = found.groups()
            if host[-1] in _ENDS_ADDRESS and _is_impossible(host):
                raise MessageError(f"no such address: {text!r}")
            uri = SipUri(
                scheme,
                user,
                password,
                host,
                int(port) if port and len(port) < 6 else None,
                UriParams._trusted(params) if params else NO_URI_PARAMS,
                UriHeaders._trusted(headers) if headers else NO_URI_HEADERS,
            )
            if port is not None and (port[:1] in "0" or len(port) > 4):
                uri = uri._with_port_as_written(port, text)
            return uri
        found = _TEL.fullmatch(text)
        if found is not None:
            return TelUri(found[1], found[2], UriParams._trusted(found[3]))
        found = _OTHER.fullmatch(text)
        if found is None or found[1].lower() in ("sip", "sips", "tel"):
            raise MessageError(f"bad URI: {text!r}")
        return OtherUri(found[1], found[2])


@dataclass(frozen=True, slots=True)
class SipUri(Uri):
    """A ``sip:`` or ``sips:`` URI (RFC 3261 section 19.1)."""

    scheme: str
    user: str | None
    password: str | None
    host: str
    """The host; an IPv6 address keeps its brackets, :attr:`address` is without."""
    port: int | None = None
    params: UriParams = NO_URI_PARAMS
    headers: UriHeaders = NO_URI_HEADERS
    # The whole as it was written, where the port has another spelling than its number.
    _written: str | None = field(init=False, default=None, repr=False, compare=False)

    def _with_port_as_written(self, port: str, text: str) -> SipUri:
        number = port.lstrip("0")
        if len(number) > 5 or int(number or "0") > 65535:
            raise MessageError(f"port out of range: {text!r}")
        uri = replace(self, port=int(number or "0") if port else None)
        if number != port or not port:
            object.__setattr__(uri, "_written", text)
        return uri

    @property
    def secure(self) -> bool:
        """Whether the scheme is ``sips``."""
        return len(self.scheme) == 4

    @property
    def address(self) -> str:
        """The host without the brackets of an IPv6 address."""
        return self.host[1:-1] if self.host[:1] == "[" else self.host

    @property
    def family(self) -> str:
        """The kind of host: ``ipv4``, ``ipv6`` or ``name``."""
        if self.host[:1] == "[":
            return "ipv6"
        parts = self.host.split(".")
        if len(parts) == 4 and all(
            len(p) < 4 and grammar.decimal(p, 255) is not None for p in parts
        ):
            return "ipv4"
        return "name"

    @property
    def user_text(self) -> str | None:
        """The user part with its escapes resolved."""
        return None if self.user is None else grammar.unescape(self.user)

    @property
    def transport(self) -> str | None:
        """The ``transport`` parameter in lower case, if there is one."""
        value = self.params.get("transport")
        return None if value is None else value.lower()

    def equivalent(self, other: AnyUri) -> bool:
        """Compare as RFC 3261 section 19.1.4 does.

        ``transport`` in only one of the two makes a difference, as in that section's examples.
        """
        if not isinstance(other, SipUri):
            return False
        if (
            self.scheme.lower() != other.scheme.lower()
            or self.host.lower() != other.host.lower()
            or self.port != other.port
            or _normal(self.user) != _normal(other.user)
            or _normal(self.password) != _normal(other.password)
        ):
            return False
        mine, theirs = _folded(self.params), _folded(other.params)
        for name in mine.keys() | theirs.keys():
            if name in mine and name in theirs:
                if mine[name] != theirs[name]:
                    return False
            elif name in _ALONE_MATTERS:
                return False
        return sorted(_header_pairs(self.headers)) == sorted(_header_pairs(other.headers))

    def __str__(self) -> str:
        if self._written is not None:
            return self._written
        port = "" if self.port is None else f":{self.port}"
        if self.user is None:
            return f"{self.scheme}:{self.host}{port}{self.params}{self.headers}"
        password = "" if self.password is None else f":{self.password}"
        return f"{self.scheme}:{self.user}{password}@{self.host}{port}{self.params}{self.headers}"


@dataclass(frozen=True, slots=True)
class TelUri(Uri):
    """A ``tel:`` URI (RFC 3966)."""

    scheme: str
    number: str
    """The number as written, with its visual separators; ``+`` in front means global."""
    params: UriParams = NO_URI_PARAMS

    @property
    def context(self) -> str | None:
        """The ``phone-context`` of a local number."""
        return self.params.get("phone-context")

    def equivalent(self, other: AnyUri) -> bool:
        """Compare as RFC 3966 section 4 does: visual separators and case do not count."""
        if not isinstance(other, TelUri):
            return False

        def digits(number: str) -> str:
            return number.translate(_SEPARATORS).lower()

        return digits(self.number) == digits(other.number) and (
            _folded(self.params) == _folded(other.params)
        )

    def __str__(self) -> str:
        return f"{self.scheme}:{self.number}{self.params}"


@dataclass(frozen=True, slots=True)
class OtherUri(Uri):
    """A URI of a scheme that SIP gives no meaning to."""

    scheme: str
    rest: str
    """What follows the first colon."""

    def equivalent(self, other: AnyUri) -> bool:
        """Compare exactly, but for the case of the scheme."""
        return (
            isinstance(other, OtherUri)
            and self.scheme.lower() == other.scheme.lower()
            and self.rest == other.rest
        )

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


AnyUri = Union[SipUri, TelUri, OtherUri]  # noqa: UP007 - evaluated on Python 3.10
"""What :meth:`Uri.parse` returns."""


def is_sip_uri(text: str) -> bool:
    """Return whether a text is a ``sip:`` or ``sips:`` URI, as a request can be sent to."""
    try:
        return isinstance(Uri.parse(text), SipUri)
    except MessageError:
        return False


def _is_impossible(host: str) -> bool:
    """Return whether a host has the looks of an address, and is none."""
    if host[0] == "[":
        try:
            # Three colons came out of the grammar of RFC 3261 (RFC 5118 section 4.10).
            socket.inet_pton(socket.AF_INET6, host[1:-1].replace(":::", "::", 1))
        except OSError:
            return True
        return False
    parts = host.split(".")
    if len(parts) < 2 or not all(map(str.isdecimal, parts)):
        return False  # a name, which may end with a digit
    return len(parts) != 4 or any(len(part) > 3 or int(part) > 255 for part in parts)


def normal_user(user: str) -> str:
    """Return a user part without the escapes that make no difference."""
    return _normal(user) or ""


def _normal(text: str | None) -> str | None:
    """Resolve the escapes that make no difference; what was a URI still is one."""
    if text is None or "%" not in text:
        return text

    def resolved(found: re.Match[str]) -> str:
        code = int(found[1], 16)
        return found[0].upper() if code in _KEPT_ESCAPED else chr(code)

    return _ESCAPE.sub(resolved, text)


def _folded(params: UriParams) -> dict[str, str]:
    folded: dict[str, str] = {}
    for name, value in params.pairs:
        folded.setdefault((_normal(name) or "").lower(), (_normal(value) or "").lower())
    return folded


def _header_pairs(headers: UriHeaders) -> list[tuple[str, str]]:
    return [((_normal(n) or "").lower(), _normal(v) or "") for n, v in headers.pairs]
