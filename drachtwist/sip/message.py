"""SIP messages: requests and responses, received or made here.

A received message is its bytes: nothing is parsed until somebody asks, and one that nobody changed
serialises as exactly what came in. ``from_bytes`` looks at nothing at all; what looks at more is in
:mod:`~drachtwist.sip.parsing`. Whoever only needs the bytes of a message finds
:mod:`~drachtwist.sip.encoding`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, TypeVar

from drachtwist.errors import MessageError
from drachtwist.sip import multipart
from drachtwist.sip.encoding import (
    checked_method,
    checked_reason,
    checked_status,
    checked_uri,
    encoded_body,
)
from drachtwist.sip.fields import Address, CSeq, MediaType, Via, is_terminated, tag_of
from drachtwist.sip.headers import (
    Headers,
    HeadersLike,
    HeaderValue,
    header_key,
)
from drachtwist.sip.numbers import number_of
from drachtwist.sip.options import RELIABLE, lists_option
from drachtwist.sip.registry import LISTS, METHODS, SINGLES
from drachtwist.sip.status import reason_phrase
from drachtwist.sip.uri import AnyUri, Uri

__all__ = [
    "Message",
    "Request",
    "Response",
]

_METHODS = {method.encode("ascii"): method for method in METHODS}

_M = TypeVar("_M", bound="Message")
_RQ = TypeVar("_RQ", bound="Request")
_RS = TypeVar("_RS", bound="Response")

_CODEC = ("utf-8", "surrogateescape")

STATUSES = {b"%d " % status: status for status in range(100, 700)}
"""Status codes by what stands for them in a start line."""
_RSEQ = re.compile(rb"\nRSeq[ \t]*:", re.IGNORECASE).search
_VERSION = re.compile(r"[sS][iI][pP]/([0-9]+\.[0-9]+)").fullmatch
_STATUS_LINE = re.compile(r"[sS][iI][pP]/([0-9]+\.[0-9]+)[ \t]+([0-9]+)(?:[ \t]([^\r\n]*))?")


class Message:
    """What requests and responses have in common."""

    __slots__ = ("_body", "_changed_line", "_headers", "_raw", "_version")

    # The bytes that were received, b"" for a message made here; stale once something changed.
    _raw: bytes
    # Of the start line, read when asked for.
    _version: str | None
    _changed_line: bool
    _headers: Headers | None
    # None while the body is that of the received bytes.
    _body: bytes | None

    @classmethod
    def from_bytes(cls: type[_M], raw: bytes) -> _M:
        """Wrap the bytes of one message; nothing is checked before it is asked for.

        :param raw: start line, headers, empty line and body, to the last byte.
        """
        raise NotImplementedError("use Request or Response")

    # Headers

    @property
    def headers(self) -> Headers:
        """The header fields; changing them changes the message."""
        headers = self._headers
        if headers is None:
            self._headers = headers = Headers.from_bytes(self._raw)
        return headers

    def get(self, name: str) -> str | None:
        """Return the first value of a header, unfolded; None when the header is not there."""
        headers = self._headers
        if headers is None:
            self._headers = headers = Headers.from_bytes(self._raw)
        return headers.get(name)

    def get_all(self, name: str) -> list[str]:
        """Return the values of a header, one for each line it has."""
        return self.headers.get_all(name)

    def has(self, name: str) -> bool:
        """Return whether the header is there."""
        headers = self._headers
        if headers is None:
            self._headers = headers = Headers.from_bytes(self._raw)
        return headers.has(name)

    def get_header_name(self, name: str) -> str | None:
        """Return how the message spells the name of a header; None when it is not there."""
        return self.headers.get_name(name)

    def set(self, name: str, value: HeaderValue) -> None:
        """Replace a header, or add it at the end.

        :raises LocalProtocolError: for a name that is no token, or a value with CR, LF or NUL.
        """
        self.headers.set(name, value)

    def add(self, name: str, value: HeaderValue) -> None:
        """Add header lines at the end.

        :raises LocalProtocolError: for a name that is no token, or a value with CR, LF or NUL.
        """
        self.headers.add(name, value)

    def remove(self, name: str) -> None:
        """Remove all lines of a header."""
        self.headers.remove(name)

    def get_parsed_header(self, name: str) -> Any:
        """Return the typed view of a header.

        That is an :class:`~drachtwist.sip.fields.Address` for From, To, Refer-To and the like; a
        list of them for Contact, Route, P-Asserted-Identity and the like; lists of
        :class:`~drachtwist.sip.fields.Via`, challenges, credentials or words; a number; and so on
        by header. A header that has no typed view is given as text.

        :returns: None when the header is not there; lists cover all lines of the header.
        :raises MessageError: when the value is not what the header should hold.
        """
        key = header_key(name)
        parse_list = LISTS.get(key)
        if parse_list is not None:
            values = self.headers.get_all(key)
            if len(values) == 1:
                return parse_list(values[0])
            if not values:
                return None
            return [item for value in values for item in parse_list(value)]
        text = self.get(key)
        if text is None:
            return None
        parse = SINGLES.get(key)
        return text if parse is None else parse(text)

    def _required(self, name: str) -> Any:
        value = self.get_parsed_header(name)
        if value is None:
            raise MessageError(f"no {name} header")
        return value

    @property
    def call_id(self) -> str:
        """The Call-ID.

        :raises MessageError: when there is none.
        """
        value = self.get("Call-ID")
        if value is None:
            raise MessageError("no Call-ID header")
        return value

    @property
    def cseq(self) -> CSeq:
        """The CSeq.

        :raises MessageError: when there is none, or a bad one.
        """
        return self._required("CSeq")  # type: ignore[no-any-return]

    @property
    def from_(self) -> Address:
        """The From header.

        :raises MessageError: when there is none, or a bad one.
        """
        return self._required("From")  # type: ignore[no-any-return]

    @property
    def to(self) -> Address:
        """The To header.

        :raises MessageError: when there is none, or a bad one.
        """
        return self._required("To")  # type: ignore[no-any-return]

    @property
    def from_tag(self) -> str | None:
        """The tag in From; None when there is none, or From cannot be read."""
        return tag_of(self.get("From"))

    @property
    def to_tag(self) -> str | None:
        """The tag in To; None when there is none, or To cannot be read.

        A request that has one belongs to a dialog (RFC 3261 section 12.2).
        """
        return tag_of(self.get("To"))

    def requires(self, option: str) -> bool:
        """Say whether Require lists an option tag (RFC 3261 section 20.32).

        :param option: the tag in lower case.
        """
        return self._lists("Require", option)

    def supports(self, option: str) -> bool:
        """Say whether Supported or Require lists an option tag: what is required is supported.

        :param option: the tag in lower case.
        """
        return self._lists("Supported", option) or self._lists("Require", option)

    def _lists(self, name: str, option: str) -> bool:
        return self.has(name) and lists_option(self.get_all(name), option)

    @property
    def subscription_is_over(self) -> bool:
        """Whether Subscription-State says that the subscription ended (RFC 6665 section 4.1.3)."""
        return is_terminated(self.get("Subscription-State"))

    @property
    def vias(self) -> list[Via]:
        """All Via values, the topmost first.

        :raises MessageError: when there is none, or a bad one.
        """
        return self._required("Via")  # type: ignore[no-any-return]

    @property
    def contacts(self) -> list[Address]:
        """All Contact values; none when there is no Contact header.

        :raises MessageError: when one of them is no address.
        """
        return self.get_parsed_header("Contact") or []

    # Body

    @property
    def body(self) -> bytes:
        """The body. Text that is assigned is encoded as UTF-8; Content-Length follows by itself."""
        if self._body is not None:
            return self._body
        return self._raw[self._body_start() :]

    @body.setter
    def body(self, body: bytes | str) -> None:
        self._body = encoded_body(body)
        self.headers.set_length(len(self._body))

    def _body_start(self) -> int:
        at = self._raw.find(b"\r\n\r\n")  # ends the head before any bare LF does
        if at >= 0:
            return at + 4
        at = self._raw.find(b"\n\n")
        return at + 2 if at >= 0 else len(self._raw)

    @property
    def text(self) -> str:
        """The body as text; bytes that are no UTF-8 become surrogates, as os.fsdecode does it."""
        return self.body.decode(*_CODEC)

    @property
    def content_type(self) -> MediaType | None:
        """The Content-Type, None when there is none.

        :raises MessageError: when it cannot be read.
        """
        return self.get_parsed_header("Content-Type")  # type: ignore[no-any-return]

    @property
    def parts(self) -> list[multipart.Part]:
        """The parts of a multipart body; a body of another type is the only part.

        :raises MessageError: when the body is not what its type says.
        """
        body = self.body
        kind = self.content_type
        if kind is None or kind.type != "multipart":
            if not body:
                return []
            headers = Headers()
            for name in ("Content-Type", "Content-Disposition", "Content-ID"):
                value = self.get(name)
                if value is not None:
                    headers.add(name, value)
            return [multipart.Part(headers, body)]
        if kind.boundary is None:
            raise MessageError("a multipart type without a boundary")
        return multipart.decode(body, kind.boundary)

    def set_parts(self, parts: Iterable[multipart.Part], subtype: str = "mixed") -> None:
        """Make the body a multipart one, and set the Content-Type accordingly.

        :raises LocalProtocolError: when there are no parts.
        """
        boundary, body = multipart.encode(parts)
        self.set("Content-Type", f"multipart/{subtype};boundary={boundary}")
        self.body = body

    # What drachtio applications like to know

    @property
    def calling_number(self) -> str:
        """The user part of P-Asserted-Identity, or else of From; empty when there is none.

        Of several a SIP URI counts before a ``tel:`` number, which is given without separators.
        """
        return self.caller[0]

    @property
    def calling_name(self) -> str:
        """The quoted display name of P-Asserted-Identity, or else of From; or empty.

        One without a number does not count.
        """
        return self.caller[1]

    @property
    def caller(self) -> tuple[str, str]:
        """:attr:`calling_number` and :attr:`calling_name`, for the price of one."""
        number = name = ""
        is_sip = False
        for one in self._identities():
            found = number_of(one.uri)
            if not found:
                continue
            if not number or (not is_sip and one.uri[:3].lower() == "sip"):
                number, is_sip = found, one.uri[:3].lower() == "sip"
            if not name and one.display and str(one).startswith('"'):
                name = one.display
        return number, name

    def _identities(self) -> list[Address]:
        """Return who it is that calls, as the network says, or else as he does."""
        found = []
        for text in self.get_all("P-Asserted-Identity") or self.get_all("From")[:1]:
            try:
                found += Address.parse_list(text)
            except MessageError:
                continue  # it tells nobody
        return found

    @property
    def called_number(self) -> str:
        """The user part of the Request-URI, without parameters; empty when there is none."""
        return ""

    @property
    def can_form_dialog(self) -> bool:
        """Whether this is an INVITE or SUBSCRIBE outside of any dialog."""
        return False

    # Serialising

    @property
    def raw(self) -> bytes:
        """The bytes that were received, whatever changed since; empty for a message made here."""
        return self._raw

    def _start_line(self) -> str | None:
        """Return the start line to send, None while it is the one that was received."""
        raise NotImplementedError

    def __bytes__(self) -> bytes:
        """Serialise; Content-Length is that of the body in bytes."""
        headers = self._headers
        start = self._start_line()
        if start is None and self._body is None and (headers is None or not headers._changed):
            return self._raw
        if start is None:
            start = self._received_line()
        headers = self.headers
        body = self.body
        headers.set_length(len(body))
        head = "\r\n".join([start, *headers.lines(), "\r\n"])
        return head.encode(*_CODEC) + body

    def _received_line(self) -> str:
        raw = self._raw
        end = raw.find(b"\n")
        line = raw if end < 0 else raw[:end]
        return line.rstrip(b"\r").decode(*_CODEC)

    def _read_line(self) -> None:
        """Read the parts of the start line that nobody has read or changed yet."""
        raise NotImplementedError

    def _complete_line(self) -> None:
        """Read what is not read yet, since the received line no longer counts."""
        if self._version is None:
            self._read_line()
        self._changed_line = True

    @property
    def version(self) -> str:
        """The SIP version, ``2.0``.

        :raises MessageError: when the start line cannot be read.
        """
        if self._version is None:
            self._read_line()
            assert self._version is not None
        return self._version

    def __str__(self) -> str:
        return bytes(self).decode(*_CODEC)


class Request(Message):
    """A request.

    :param method: the method.
    :param uri: the Request-URI, as text or as a value of :mod:`drachtwist.sip.uri`.
    :param headers: the headers; Content-Length comes by itself.
    :param body: the body; text is encoded as UTF-8.
    :raises LocalProtocolError: for anything that would not be one well-formed message.
    """

    __slots__ = ("_method", "_uri")

    # Read from the start line when asked for.
    _method: str | None
    _uri: str | None

    def __init__(
        self,
        method: str,
        uri: str | AnyUri,
        headers: HeadersLike = None,
        body: bytes | str = b"",
    ) -> None:
        self._raw = b""
        self._method = checked_method(method)
        self._uri = checked_uri(uri)
        self._version = "2.0"
        self._changed_line = True
        self._headers = Headers(headers)
        self._body = body = encoded_body(body)
        self._headers.set_length(len(body))

    @classmethod
    def from_bytes(cls: type[_RQ], raw: bytes) -> _RQ:
        """Wrap the bytes of one request; nothing is checked before it is asked for.

        :param raw: start line, headers, empty line and body, to the last byte.
        """
        self = cls.__new__(cls)
        self._raw = raw
        self._headers = self._body = self._method = self._uri = self._version = None
        self._changed_line = False
        return self

    def _read_line(self) -> None:
        line = self._received_line()
        # Read leniently: blanks in the Request-URI or at the end of the line do not stop us here.
        method, _, rest = line.strip(" \t").partition(" ")
        uri, _, version = rest.rpartition(" ")
        uri = uri.strip(" \t")
        found = _VERSION(version)
        if found is None or not method or not uri:
            raise MessageError(f"bad request line: {line!r}")
        if self._method is None:
            self._method = method
        if self._uri is None:
            self._uri = uri
        self._version = found[1]

    @property
    def method(self) -> str:
        """The method, in the case that it has on the wire.

        :raises MessageError: when the start line cannot be read; also when assigned
            :class:`~drachtwist.errors.LocalProtocolError` for what is no token.
        """
        method = self._method
        if method is None:
            raw = self._raw
            method = _METHODS.get(raw[: raw.find(b" ")])
            if method is None:
                self._read_line()
                method = self._method
                assert method is not None
            self._method = method
        return method

    @method.setter
    def method(self, method: str) -> None:
        self._complete_line()
        self._method = checked_method(method)

    @property
    def uri(self) -> str:
        """The Request-URI as it is written.

        :raises MessageError: when the start line cannot be read; also when assigned
            :class:`~drachtwist.errors.LocalProtocolError` for what cannot be sent.
        """
        if self._uri is None:
            self._read_line()
            assert self._uri is not None
        return self._uri

    @uri.setter
    def uri(self, uri: str | AnyUri) -> None:
        self._complete_line()
        self._uri = checked_uri(uri)

    @property
    def request_uri(self) -> AnyUri:
        """The Request-URI taken apart.

        :raises MessageError: when it is no valid URI.
        """
        return Uri.parse(self.uri)

    def get_parsed_uri(self) -> AnyUri:
        """Return the Request-URI taken apart, as :attr:`request_uri` does.

        :raises MessageError: when it is no valid URI.
        """
        return Uri.parse(self.uri)

    @property
    def is_new_invite(self) -> bool:
        """Whether this is an INVITE outside of any dialog."""
        return self.method == "INVITE" and self.to_tag is None

    @property
    def can_form_dialog(self) -> bool:
        """Whether this is an INVITE or SUBSCRIBE outside of any dialog."""
        return self.method in ("INVITE", "SUBSCRIBE") and self.to_tag is None

    @property
    def called_number(self) -> str:
        """The user part of the Request-URI, without parameters; empty when there is none.

        Of ``tel:`` the number, without separators.
        """
        return number_of(self.uri)

    def _start_line(self) -> str | None:
        if not self._changed_line:
            return None
        return f"{self._method} {self._uri} SIP/{self._version}"

    def __repr__(self) -> str:
        try:
            return f"<{type(self).__name__} {self.method} {self.uri}>"
        except MessageError:
            return f"<{type(self).__name__} unreadable>"


class Response(Message):
    """A response.

    :param status: the status code, 100 to 699.
    :param reason: the reason phrase, the usual one if None.
    :param headers: the headers; Content-Length comes by itself.
    :param body: the body; text is encoded as UTF-8.
    :raises LocalProtocolError: for anything that would not be one well-formed message.
    """

    __slots__ = ("_reason", "_status")

    # Read from the start line when asked for.
    _status: int | None
    _reason: str | None

    def __init__(
        self,
        status: int,
        reason: str | None = None,
        headers: HeadersLike = None,
        body: bytes | str = b"",
    ) -> None:
        self._raw = b""
        self._status = checked_status(status)
        self._reason = reason_phrase(status) if reason is None else checked_reason(reason)
        self._version = "2.0"
        self._changed_line = True
        self._headers = Headers(headers)
        self._body = body = encoded_body(body)
        self._headers.set_length(len(body))

    @classmethod
    def from_bytes(cls: type[_RS], raw: bytes) -> _RS:
        """Wrap the bytes of one response; nothing is checked before it is asked for.

        :param raw: start line, headers, empty line and body, to the last byte.
        """
        self = cls.__new__(cls)
        self._raw = raw
        self._headers = self._body = self._status = self._reason = self._version = None
        self._changed_line = False
        return self

    def _read_line(self) -> None:
        line = self._received_line()
        found = _STATUS_LINE.fullmatch(line)
        if found is None:
            raise MessageError(f"bad status line: {line!r}")
        if len(found[2]) != 3 or not 100 <= int(found[2]) <= 699:
            raise MessageError(f"bad status code: {line!r}")
        if self._status is None:
            self._status = int(found[2])
        if self._reason is None:
            self._reason = found[3] or ""
        self._version = found[1]

    @property
    def status(self) -> int:
        """The status code.

        :raises MessageError: when the start line cannot be read; also when assigned
            :class:`~drachtwist.errors.LocalProtocolError` for what is not from 100 to 699.
        """
        if self._status is None:
            raw = self._raw
            if raw.startswith(b"SIP/2.0 "):  # the line as nearly everybody writes it
                self._status = STATUSES.get(raw[8:12])
            if self._status is None:
                self._read_line()
                assert self._status is not None
        return self._status

    @status.setter
    def status(self, status: int) -> None:
        self._complete_line()
        self._status = checked_status(status)

    @property
    def reason(self) -> str:
        """The reason phrase, which may be empty.

        :raises MessageError: when the start line cannot be read; also when assigned
            :class:`~drachtwist.errors.LocalProtocolError` for what cannot be sent.
        """
        if self._reason is None:
            self._read_line()
            assert self._reason is not None
        return self._reason

    @reason.setter
    def reason(self, reason: str) -> None:
        self._complete_line()
        self._reason = checked_reason(reason)

    @property
    def reliable_number(self) -> str | None:
        """The RSeq of a reliable provisional response; None for any other response.

        It has one, and requires ``100rel`` (RFC 3262 section 3).
        """
        # Hardly any response has one, so a look at the bytes is enough for most.
        raw = self._raw
        if (raw and _RSEQ(raw) is None) or not 100 < self.status < 200:
            return None
        number = self.get("RSeq")
        if not number or not self.requires(RELIABLE):
            return None
        return number.strip() or None

    def _start_line(self) -> str | None:
        if not self._changed_line:
            return None
        return f"SIP/{self._version} {self._status} {self._reason}"

    def __repr__(self) -> str:
        try:
            return f"<{type(self).__name__} {self.status} {self.reason}>"
        except MessageError:
            return f"<{type(self).__name__} unreadable>"
