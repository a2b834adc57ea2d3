"""The bytes of a message without the message: what answers most requests.

What is checked here is what makes a text one well-formed message: names are tokens, no value brings
a line of its own, the status is one. Values are looked at only when that is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip import grammar
from drachtwist.sip.fields import Address
from drachtwist.sip.headers import (
    HeadersLike,
    checked_name,
    checked_value,
    header_key,
    no_headers,
)
from drachtwist.sip.registry import LISTS, METHODS, SINGLES
from drachtwist.sip.status import REASONS, reason_phrase
from drachtwist.sip.uri import AnyUri

__all__ = ["encode_request", "encode_response", "joined", "request_line", "status_line"]

_URI_TO_SEND = re.compile(r"[^\s<>\0]+").fullmatch


class _Reader:
    """Reads the values of a header.

    :param parse: refuses what it should not hold.
    """

    __slots__ = ("legible", "parse")

    def __init__(self, parse: Callable[[str], Any]) -> None:
        self.parse = parse
        self.legible: set[str] = set()
        """Values that were looked at and are what they should be. By value, not by line: texts of
        the application know their hashes already."""


_KNOWN_NAMES: dict[str, _Reader | bool] = {}
"""Header names that were checked, and what reads their values, or whether they are to be written at
all; Content-Length is not."""
_KNOWN_NAMES_LIMIT = 1024
_READERS: dict[str, _Reader] = {}
"""By long name in lower case, of the few headers whose values are read."""
_MOST_KEPT = 64
_LONGEST_KEPT = 200
_CHECKS: dict[Any, Callable[[str], Any]] = {
    Address.parse: Address.check,
    Address.parse_list: Address.check_list,
}
"""What is cheaper than a reader."""

_STATUS_LINES = {code: f"SIP/2.0 {code} {phrase}" for code, phrase in REASONS.items()}


def status_line(status: int, reason: str | None = None) -> str:
    """Write the first line of a response.

    :param reason: the phrase, that of the status unless given.
    """
    if reason is None:
        line = _STATUS_LINES.get(status)
        if line is not None:
            return line
        reason = reason_phrase(status)
    return f"SIP/2.0 {status} {reason}"


def request_line(method: str, uri: str) -> str:
    """Write the first line of a request."""
    return f"{method} {uri} SIP/2.0"


def joined(start: str, lines: Iterable[str], body: bytes = b"") -> bytes:
    """Write a message of lines that are known to be well-formed; Content-Length comes last."""
    text = "\r\n".join([start, *lines, f"Content-Length: {len(body)}", "\r\n"])
    return text.encode("utf-8", "surrogateescape") + body


def encode_response(
    status: int,
    reason: str | None = None,
    headers: HeadersLike = None,
    body: bytes | str = b"",
    *,
    typed: bool = False,
) -> bytes:
    """Write a response; the same bytes as ``bytes(Response(...))``, without the message.

    :param typed: refuse values, given as text, that are not what their headers should hold.
    :raises LocalProtocolError: for anything that would not be one well-formed message.
    """
    start = _STATUS_LINES.get(status) if reason is None else None
    if start is None:
        checked_status(status)
        if reason is not None and not isinstance(reason, str):
            raise LocalProtocolError(
                f"a reason is text, not {type(reason).__name__}; headers and a body are given by"
                " name: send(status, headers=..., body=...)"
            )
        start = status_line(status, reason)
    return _encode(start, headers, body, typed)


def encode_request(
    method: str,
    uri: str | AnyUri,
    headers: HeadersLike = None,
    body: bytes | str = b"",
    *,
    typed: bool = False,
) -> bytes:
    """Write a request; the same bytes as ``bytes(Request(...))``, without the message.

    :param typed: refuse values, given as text, that are not what their headers should hold.
    :raises LocalProtocolError: for anything that would not be one well-formed message.
    """
    start = request_line(checked_method(method), checked_uri(uri))
    return _encode(start, headers, body, typed)


def _encode(start: str, headers: HeadersLike, body: bytes | str, typed: bool) -> bytes:
    lines = [start]
    if headers is not None:
        pairs: Any = headers
        if type(headers) is dict or (type(headers) is not list and isinstance(headers, Mapping)):
            pairs = headers.items()
        try:
            for name, value in pairs:
                write = _KNOWN_NAMES.get(name)
                if write is None:
                    write = _learn_name(name)
                if write is False:
                    continue
                if type(value) is str:
                    lines.append(f"{name}: {value}")
                    if typed and write is not True and value not in write.legible:
                        _check_typed(name, value, write)
                elif isinstance(value, (list, tuple)):
                    lines += [f"{name}: {checked_value(item, name)}" for item in value]
                    if typed and write is not True:
                        for item in value:
                            _check_typed(name, str(item), write)
                else:
                    lines.append(f"{name}: {checked_value(value, name)}")
        except (TypeError, ValueError) as error:
            raise no_headers(headers, error) from None
    if type(body) is not bytes:
        body = encoded_body(body)
    lines.append(f"Content-Length: {len(body)}")
    text = "\r\n".join(lines)
    # One look at the whole: more line ends than we wrote mean that a value brought its own.
    ends = len(lines) - 1
    if (
        text.count("\n") != ends
        or text.count("\r") != ends
        or ("\0" in text and any(map(grammar.has_line_break, lines)))
    ):
        raise LocalProtocolError(f"line break or NUL in {_culprit(lines)!r}")
    return text.encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def _culprit(lines: list[str]) -> str:
    return next(line for line in lines if grammar.has_line_break(line))


def _check_typed(name: str, value: str, reader: _Reader) -> None:
    """Refuse a value that servers cannot read: they would drop it, and all headers behind it."""
    try:
        reader.parse(value.strip(" \t"))
    except MessageError as error:
        if not grammar.has_line_break(value):
            raise LocalProtocolError(f"{name}: {value}: {error}") from None
    else:
        # An application writes the same Allow, and often the same From, again and again.
        if len(value) <= _LONGEST_KEPT:
            if len(reader.legible) >= _MOST_KEPT:
                reader.legible.clear()
            reader.legible.add(value)


def _learn_name(name: str) -> _Reader | bool:
    key = header_key(checked_name(name))
    write: _Reader | bool = True
    parse = SINGLES.get(key) or LISTS.get(key)
    if key == "content-length":
        write = False
    elif parse is not None:
        write = _READERS.setdefault(key, _Reader(_CHECKS.get(parse, parse)))
    if len(_KNOWN_NAMES) < _KNOWN_NAMES_LIMIT:
        _KNOWN_NAMES[name] = write
    return write


def encoded_body(body: bytes | str) -> bytes:
    """Return a body as bytes; text becomes UTF-8.

    :raises LocalProtocolError: for what is neither text nor bytes.
    """
    if isinstance(body, str):
        return body.encode("utf-8", "surrogateescape")
    # bytes have __bytes__ since Python 3.11.
    if isinstance(body, bytes | bytearray | memoryview) or hasattr(body, "__bytes__"):
        return bytes(body)
    raise LocalProtocolError(f"a body is text or bytes, not {type(body).__name__}")


def checked_method(method: str) -> str:
    """Return a method.

    :raises LocalProtocolError: for what is no token.
    """
    if method not in METHODS and not grammar.is_token(method):
        raise LocalProtocolError(f"not a method: {method!r}")
    return method


def checked_uri(uri: str | AnyUri) -> str:
    """Return a Request-URI as text.

    :raises LocalProtocolError: for what would end the request line, or begin a header.
    """
    text = str(uri)
    if not _URI_TO_SEND(text):
        raise LocalProtocolError(f"not a URI to send: {text!r}")
    return text


def checked_status(status: int) -> int:
    """Return a status code.

    :raises LocalProtocolError: for what is not from 100 to 699.
    """
    if not isinstance(status, int) or isinstance(status, bool) or not 100 <= status <= 699:
        raise LocalProtocolError(f"a status is a number from 100 to 699, not {status!r}")
    return status


def checked_reason(reason: str) -> str:
    """Return a reason phrase.

    :raises LocalProtocolError: for one with a line break or NUL.
    """
    if grammar.has_line_break(reason):
        raise LocalProtocolError(f"line break or NUL in the reason: {reason!r}")
    return reason
