"""The structured header values of SIP, as frozen values with ``parse(text)`` and ``str(value)``.

A value that was parsed writes itself exactly as it was read; one that was made, or changed with
:func:`dataclasses.replace`, is written in the usual form. Parameters that nobody here knows are
kept in order and spelling. All ``parse`` methods take text without line breaks (messages unfold
what they hand out) and raise :class:`~drachtwist.errors.MessageError`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import ClassVar, TypeVar

from drachtwist.errors import MessageError
from drachtwist.sip import grammar
from drachtwist.sip.params import NO_PARAMS, Params
from drachtwist.sip.uri import AnyUri, SipUri, Uri

__all__ = [
    "Address",
    "CSeq",
    "Event",
    "MediaType",
    "RAck",
    "Reason",
    "Replaces",
    "SessionExpires",
    "SubscriptionState",
    "Valued",
    "Via",
    "is_terminated",
    "leads_loosely",
    "session_interval",
    "tag_of",
]

_V = TypeVar("_V", bound="Valued")
_WS = grammar.WS
# Blanks in front belong to the plain name: two places for them would be tried in all combinations.
_NAME_ADDR = re.compile(
    rf'(?:{_WS}({grammar.QUOTED}){_WS}|([^"<>,;\r\n\0]*))<([^<>\r\n\0]*)>({grammar.PARAMS}){_WS}',
    re.DOTALL,
)
# One of those, as most are written. It is found faster: nothing of it is kept, and no blanks are
# looked for between its parts.
_USUAL_ADDRESS = re.compile(
    r'(?:"[^"\\\r\n\0]*" ?|[^"<>,;\r\n\0]*)<[^<>:\r\n\0]*:[^<>\r\n\0]*>'
    rf'(?:;{grammar.TOKEN}(?:=(?:"[^"\\\r\n\0]*"|[^\s;,"<>\0]*))?)*'
).fullmatch
_ADDR_SPEC = re.compile(
    rf'{_WS}([A-Za-z][A-Za-z0-9+.\-]*:[^\s<>,;?"\0]+)({grammar.PARAMS}){_WS}', re.DOTALL
)
_VIA = re.compile(
    rf"{_WS}({grammar.TOKEN}){_WS}/{_WS}({grammar.TOKEN}){_WS}/{_WS}({grammar.TOKEN})[ \t]+"
    rf"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.\-_]+){_WS}(?::{_WS}([0-9]{{1,5}}))?({grammar.PARAMS}){_WS}",
    re.DOTALL,
)
_CSEQ = re.compile(rf"{_WS}([0-9]+)[ \t]+({grammar.TOKEN}){_WS}")
_RACK = re.compile(rf"{_WS}([0-9]+)[ \t]+([0-9]+)[ \t]+({grammar.TOKEN}){_WS}")
_VALUED = re.compile(rf'{_WS}([^\s;,"<>\0]+)({grammar.PARAMS}){_WS}', re.DOTALL)
_MEDIA_TYPE = re.compile(
    rf'{_WS}([^\s;,"<>/\0]+{_WS}/{_WS}[^\s;,"<>\0]+)({grammar.PARAMS}){_WS}', re.DOTALL
)
# A Call-ID may hold quotes and brackets (RFC 3261 section 25.1, "word").
_CALL_ID = re.compile(rf"{_WS}([^\s;,\0]+)({grammar.PARAMS}){_WS}", re.DOTALL)
_WITH_HEADERS = re.compile(rf"{_WS}([A-Za-z][A-Za-z0-9+.\-]*:[^\s<>?\0]+\?[^\s<>\0]*){_WS}")
_COMMAS = re.compile(r"[ \t,]*")
_SKIPPED = (",", " ", "\t")
_LONGEST_DATE = 64
"""Characters; ``Sunday, 06-Nov-94 08:49:37 GMT`` has half of that."""
_MAX_NUMBER = 2**31 - 1

_set = object.__setattr__


@dataclass(frozen=True, slots=True)
class Address:
    """A name-addr or addr-spec with parameters: From, To, Contact, Route, Refer-To, ..."""

    display: str | None
    """The display name without quotes; None when there is none, ``""`` when it is ``""``."""
    uri: str
    """The URI as it was written."""
    params: Params = NO_PARAMS
    """The parameters of the header (those inside ``<>`` belong to the URI)."""
    _written: str | None = field(init=False, default=None, repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read one address.

        :raises MessageError: when the text is none, or more than one.
        """
        address, end = cls._scan(text, 0)
        if end != len(text):
            raise MessageError(f"bad address: {text!r}")
        return address

    @classmethod
    def parse_list(cls, text: str) -> list[Address]:
        """Read a comma-separated list of addresses; empty items vanish.

        :raises MessageError: when anything in it is no address, or there is none.
        """
        addresses: list[Address] = []
        at = _skip_commas(text, 0) if text.startswith(_SKIPPED) else 0
        while at < len(text) or not addresses:
            address, end = cls._scan(text, at)
            addresses.append(address)
            if end == len(text):
                break
            if text[end] != ",":
                raise MessageError(f"bad address: {text!r}")
            at = _skip_commas(text, end)
        return addresses

    @classmethod
    def check(cls, text: str) -> None:
        """Refuse what :meth:`parse` refuses; in what is written most it makes no value.

        :raises MessageError: when the text is no address, or more than one.
        """
        if _USUAL_ADDRESS(text) is None:
            cls.parse(text)

    @classmethod
    def check_list(cls, text: str) -> None:
        """Refuse what :meth:`parse_list` refuses; in what is written most it makes no values.

        :raises MessageError: when anything in it is no address, or there is none.
        """
        if _USUAL_ADDRESS(text) is None:
            cls.parse_list(text)

    @classmethod
    def parse_with_headers(cls, text: str) -> Address:
        """Read one address, whose URI may have headers without standing in brackets.

        So Refer-To comes from some phones (RFC 3515 section 2.1 asks for the brackets). All that
        stands behind the question mark belongs to the URI then.

        :raises MessageError: when the text is none, or more than one.
        """
        found = None if "<" in text else _WITH_HEADERS.fullmatch(text)
        if found is None:
            return cls.parse(text)
        address = cls(None, found[1])
        _set(address, "_written", text.strip(" \t"))
        return address

    @classmethod
    def _scan(cls, text: str, at: int) -> tuple[Address, int]:
        found = _NAME_ADDR.match(text, at)
        if found is not None:
            quoted, plain, uri, params = found.groups()
            if quoted is not None:
                display: str | None = grammar.unquote(quoted)
            else:
                display = plain.strip() or None
            uri = uri.strip(" \t")
            if ":" not in uri:
                raise MessageError(f"bad address: {text!r}")
        else:
            found = _ADDR_SPEC.match(text, at)
            if found is not None:
                display = None
                uri, params = found.groups()
            elif text.strip(" \t") == "*":
                display, uri, params = None, "*", ""
            else:
                raise MessageError(f"bad address: {text!r}")
        address = cls(display, uri, Params._trusted(params) if params else NO_PARAMS)
        end = len(text) if found is None else found.end()
        _set(address, "_written", text[at:end].strip(" \t"))
        return address, end

    @property
    def parsed_uri(self) -> AnyUri:
        """The URI taken apart.

        :raises MessageError: when it is no valid URI.
        """
        return Uri.parse(self.uri)

    @property
    def tag(self) -> str | None:
        """The ``tag`` parameter."""
        return self.params.get("tag")

    @property
    def is_loose(self) -> bool:
        """Whether this, as a Route, leads to a loose router (RFC 3261 section 16.6, step 6).

        What cannot be read is taken for one: nearly all are.
        """
        try:
            uri = self.parsed_uri
        except MessageError:
            return True
        return isinstance(uri, SipUri) and "lr" in uri.params

    @property
    def is_wildcard(self) -> bool:
        """Whether this is the ``*`` of ``Contact: *`` (RFC 3261 section 10.2.2)."""
        return self.uri == "*"

    def __str__(self) -> str:
        if self._written is not None:
            return self._written
        if self.uri == "*":
            return "*"
        if self.display is None:
            return f"<{self.uri}>{self.params}"
        return f"{grammar.quote(self.display)} <{self.uri}>{self.params}"


def leads_loosely(route: str) -> bool:
    """Say whether a value of Route leads to a loose router; see :attr:`Address.is_loose`."""
    if route.endswith(";lr>"):  # as nearly all are written
        return True
    try:
        return Address.parse(route).is_loose
    except MessageError:
        return True


def tag_of(text: str | None) -> str | None:
    """Return the tag of a From or To; None when it has none, or cannot be read."""
    # Hardly any value without a tag has the letters of the word, so the rest is rare.
    if text is None or "tag" not in text.lower():
        return None
    try:
        return Address.parse(text).tag
    except MessageError:
        return None


@dataclass(frozen=True, slots=True)
class Via:
    """One hop that a request took (RFC 3261 section 20.42)."""

    transport: str
    host: str
    """The host; an IPv6 address keeps its brackets."""
    port: int | None = None
    params: Params = NO_PARAMS
    protocol: str = "SIP"
    version: str = "2.0"
    _written: str | None = field(init=False, default=None, repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Via:
        """Read one hop.

        :raises MessageError: when the text is none, or more than one.
        """
        via, end = cls._scan(text, 0)
        if end != len(text):
            raise MessageError(f"bad Via: {text!r}")
        return via

    @classmethod
    def parse_list(cls, text: str) -> list[Via]:
        """Read a comma-separated list of hops, the latest first; empty items vanish.

        :raises MessageError: when anything in it is no hop, or there is none.
        """
        vias: list[Via] = []
        at = _skip_commas(text, 0) if text.startswith(_SKIPPED) else 0
        while at < len(text) or not vias:
            via, end = cls._scan(text, at)
            vias.append(via)
            if end == len(text):
                break
            if text[end] != ",":
                raise MessageError(f"bad Via: {text!r}")
            at = _skip_commas(text, end)
        return vias

    @classmethod
    def _scan(cls, text: str, at: int) -> tuple[Via, int]:
        found = _VIA.match(text, at)
        if found is None:
            raise MessageError(f"bad Via: {text!r}")
        protocol, version, transport, host, digits, params = found.groups()
        port = None if digits is None else int(digits)
        if port is not None and port > 65535:
            raise MessageError(f"port out of range: {text!r}")
        via = cls(
            transport,
            host,
            port,
            Params._trusted(params) if params else NO_PARAMS,
            protocol,
            version,
        )
        _set(via, "_written", found[0].strip(" \t"))
        return via, found.end()

    @property
    def branch(self) -> str | None:
        """The ``branch`` parameter, which names the transaction."""
        return self.params.get("branch")

    @property
    def received(self) -> str | None:
        """The address that the request came from, without brackets, when somebody noted it."""
        value = self.params.get("received")
        return None if value is None else value.strip("[]")

    @property
    def rport(self) -> int | None:
        """The port that the request came from, when somebody noted it (RFC 3581)."""
        value = self.params.get("rport")
        return None if value is None else grammar.decimal(value, 65535)

    @property
    def wants_rport(self) -> bool:
        """Whether the sender asked for the source port to be noted (RFC 3581 section 4)."""
        return "rport" in self.params

    def __str__(self) -> str:
        if self._written is not None:
            return self._written
        port = "" if self.port is None else f":{self.port}"
        return f"{self.protocol}/{self.version}/{self.transport} {self.host}{port}{self.params}"


@dataclass(frozen=True, slots=True)
class CSeq:
    """A sequence number and its method (RFC 3261 section 20.16)."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq:
        """Read a CSeq value.

        :raises MessageError: when the text is none, or the number is 2**31 or more.
        """
        found = _CSEQ.fullmatch(text)
        if found is None:
            raise MessageError(f"bad CSeq: {text!r}")
        return cls(_number(found[1], "CSeq"), found[2])

    def __str__(self) -> str:
        return f"{self.number} {self.method}"


@dataclass(frozen=True, slots=True)
class RAck:
    """Which reliable provisional response a PRACK is for (RFC 3262 section 7.2)."""

    rseq: int
    cseq: int
    method: str

    @classmethod
    def parse(cls, text: str) -> RAck:
        """Read a RAck value.

        :raises MessageError: when the text is none.
        """
        found = _RACK.fullmatch(text)
        if found is None:
            raise MessageError(f"bad RAck: {text!r}")
        return cls(_number(found[1], "RAck", 2**32 - 1), _number(found[2], "RAck"), found[3])

    def __str__(self) -> str:
        return f"{self.rseq} {self.cseq} {self.method}"


@dataclass(frozen=True, slots=True)
class Valued:
    """A word with parameters: the shape of many headers."""

    value: str
    params: Params = NO_PARAMS
    _written: str | None = field(init=False, default=None, repr=False, compare=False)
    _pattern: ClassVar[re.Pattern[str]] = _VALUED

    @classmethod
    def parse(cls: type[_V], text: str) -> _V:
        """Read one value.

        :raises MessageError: when the text is none, or more than one.
        """
        value, end = cls._scan(text, 0)
        if end != len(text):
            raise MessageError(f"bad {cls.__name__}: {text!r}")
        return value

    @classmethod
    def parse_list(cls: type[_V], text: str) -> list[_V]:
        """Read a comma-separated list; an empty text is an empty list.

        :raises MessageError: when anything in it is no such value.
        """
        return [cls.parse(item) for item in grammar.split_commas(text)]

    @classmethod
    def _scan(cls: type[_V], text: str, at: int) -> tuple[_V, int]:
        found = cls._pattern.match(text, at)
        if found is None:
            raise MessageError(f"bad {cls.__name__}: {text!r}")
        value = cls(found[1], Params._trusted(found[2]) if found[2] else NO_PARAMS)
        value._check()
        _set(value, "_written", found[0].strip(" \t"))
        return value, found.end()

    def _check(self) -> None:
        """Refuse a value that the class has no room for."""

    def __str__(self) -> str:
        return f"{self.value}{self.params}" if self._written is None else self._written


@dataclass(frozen=True, slots=True)
class MediaType(Valued):
    """A Content-Type, or an item of Accept (RFC 3261 section 20.15)."""

    _pattern: ClassVar[re.Pattern[str]] = _MEDIA_TYPE

    def _check(self) -> None:
        if " " in self.value or "\t" in self.value:  # around the slash
            _set(self, "value", "".join(self.value.split()))

    @property
    def type(self) -> str:
        """The part before the slash, in lower case."""
        return self.value.partition("/")[0].lower()

    @property
    def subtype(self) -> str:
        """The part after the slash, in lower case."""
        return self.value.partition("/")[2].lower()

    @property
    def essence(self) -> str:
        """``type/subtype`` in lower case."""
        return self.value.lower()

    @property
    def boundary(self) -> str | None:
        """What separates the parts of a multipart body."""
        return self.params.text("boundary")


@dataclass(frozen=True, slots=True)
class Event(Valued):
    """An event package, with its ``id`` (RFC 6665 section 8.2.1)."""

    @property
    def package(self) -> str:
        """The name of the package and its templates."""
        return self.value

    @property
    def id(self) -> str | None:
        """What tells several subscriptions in one dialog apart."""
        return self.params.get("id")


@dataclass(frozen=True, slots=True)
class SubscriptionState(Valued):
    """The state of a subscription (RFC 6665 section 8.2.3)."""

    @property
    def state(self) -> str:
        """``active``, ``pending``, ``terminated`` or an extension, in lower case."""
        return self.value.lower()

    @property
    def reason(self) -> str | None:
        """Why the subscription ended."""
        return self.params.get("reason")

    @property
    def expires(self) -> int | None:
        """Seconds that the subscription has left."""
        return _seconds(self.params.get("expires"))

    @property
    def retry_after(self) -> int | None:
        """Seconds to wait before subscribing again."""
        return _seconds(self.params.get("retry-after"))


def is_terminated(text: str | None) -> bool:
    """Return whether a Subscription-State says that the subscription is over."""
    if text is None:
        return False
    try:
        return SubscriptionState.parse(text).state == "terminated"
    except MessageError:
        return False


@dataclass(frozen=True, slots=True)
class Reason(Valued):
    """Why a request was sent (RFC 3326)."""

    @property
    def protocol(self) -> str:
        """Whose codes ``cause`` is one of: ``SIP``, ``Q.850``, ..."""
        return self.value

    @property
    def cause(self) -> int | None:
        """The code."""
        return _seconds(self.params.get("cause"))

    @property
    def text(self) -> str | None:
        """The explanation, without its quotes."""
        return self.params.text("text")


@dataclass(frozen=True, slots=True)
class Replaces(Valued):
    """The dialog that a new one takes the place of (RFC 3891); Join and Target-Dialog alike."""

    _pattern: ClassVar[re.Pattern[str]] = _CALL_ID

    @property
    def call_id(self) -> str:
        """The Call-ID of that dialog."""
        return self.value

    @property
    def to_tag(self) -> str | None:
        """The tag of the side that receives this."""
        return self.params.get("to-tag") or self.params.get("local-tag")

    @property
    def from_tag(self) -> str | None:
        """The tag of the other side."""
        return self.params.get("from-tag") or self.params.get("remote-tag")

    @property
    def early_only(self) -> bool:
        """Whether only a dialog that was not answered may be replaced."""
        return "early-only" in self.params


@dataclass(frozen=True, slots=True)
class SessionExpires(Valued):
    """The session timer (RFC 4028), or another number of seconds with parameters."""

    def _check(self) -> None:
        if _seconds(self.value) is None:
            raise MessageError(f"not a number of seconds: {self.value!r}")

    @property
    def seconds(self) -> int:
        """The interval."""
        return int(self.value)

    @property
    def refresher(self) -> str | None:
        """Who refreshes the session: ``uac`` or ``uas``, in lower case."""
        refresher = self.params.get("refresher")
        return None if refresher is None else refresher.lower()


def session_interval(text: str | None) -> tuple[int, str | None] | None:
    """Read the seconds and the refresher of a Session-Expires, or the seconds of its relatives.

    :returns: the interval, and ``uac``, ``uas`` or None; None when there is no legible header.
    """
    if text is None:
        return None
    try:
        found = SessionExpires.parse(text)
    except MessageError:
        return None
    return found.seconds, found.refresher


def parse_integer(text: str) -> int:
    """Read a header that is one number: Max-Forwards, Expires, Content-Length, RSeq, ...

    :raises MessageError: when the text is anything else, or the number is 2**32 or more.
    """
    return _number(text.strip(" \t"), "number", 2**32 - 1)


def parse_expires(text: str) -> int:
    """Read an Expires header: seconds, also where a date says when, as in RFC 2543.

    :returns: the seconds from now on; 0 for a date that is past.
    :raises MessageError: when the text is neither.
    """
    try:
        return parse_integer(text)
    except MessageError:
        if len(text) > _LONGEST_DATE:
            raise
        try:
            then = parsedate_to_datetime(text).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            raise MessageError(f"bad number or date: {text!r}") from None
        return min(max(round(then - time.time()), 0), 2**32 - 1)


def parse_tokens(text: str) -> list[str]:
    """Read a comma-separated list of words: Allow, Supported, Require, ..."""
    return list(_tokens(text))


def _tokens(text: str) -> Iterator[str]:
    for item in text.split(","):
        item = item.strip(" \t")
        if item:
            yield item


def _skip_commas(text: str, at: int) -> int:
    """Return where the next item of a list begins."""
    found = _COMMAS.match(text, at)
    return at if found is None else found.end()


def _number(digits: str, what: str, limit: int = _MAX_NUMBER) -> int:
    value = grammar.decimal(digits, limit)
    if value is not None:
        return value
    if digits.isascii() and digits.isdigit():
        raise MessageError(f"{what} out of range: {digits[:40]}")
    raise MessageError(f"bad {what}: {digits!r}")


def _seconds(text: str | None) -> int | None:
    """Read an optional number of a parameter; what is none reads as None."""
    return None if text is None or len(text) > 10 else grammar.decimal(text, 10**10)
