"""Reading messages from the network, with the checks that RFC 3261 and RFC 4475 want.

* :func:`parse_message` looks at the start line, for messages that a drachtio server delivers;
* :func:`parse_datagram` looks at everything that has to be seen to before a message from the
  network is acted upon; :func:`check_head` does that for messages out of a stream.

What looks at nothing is ``from_bytes`` of :class:`~drachtwist.sip.message.Request` and
:class:`~drachtwist.sip.message.Response`.
"""

from __future__ import annotations

import re
from typing import Any

from drachtwist.errors import MessageError
from drachtwist.sip import grammar
from drachtwist.sip.fields import parse_integer
from drachtwist.sip.headers import header_key
from drachtwist.sip.message import Request, Response
from drachtwist.sip.registry import METHODS
from drachtwist.sip.uri import SipUri

__all__ = ["check_head", "parse_datagram", "parse_message", "read_leniently"]

_RESPONSE_START = b"SIP/"
_STRICT_REQUEST_LINE = re.compile(rf"({grammar.TOKEN}) ([^ \t<>]+) [sS][iI][pP]/([0-9]+\.[0-9]+)")


def parse_message(raw: bytes) -> Request | Response:
    """Read a message by its start line; the headers are looked at when asked for.

    :raises MessageError: when the start line is that of no message.
    """
    message: Request | Response
    if raw[:4].upper() == _RESPONSE_START:
        message = Response.from_bytes(raw)
    else:
        message = Request.from_bytes(raw)
    message._read_line()
    return message


def read_leniently(data: bytes) -> Request | Response | None:
    """Read what must not be processed, to answer it; None when even its start is illegible."""
    try:
        return parse_message(data)
    except MessageError:
        return None


# Headers that make no sense twice, of those that somebody acts upon.
_ONCE = {
    header_key(name): name
    for name in (
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Max-Forwards",
        "Content-Length",
        "Content-Type",
        "Expires",
        "Event",
        "Session-Expires",
        "RSeq",
        "RAck",
        "Subject",
    )
}


# Headers that have to be legible, in the order in which they are looked at.
_NEEDED = ("CSeq", "From", "To", "Via")
_CHECKED = (*_NEEDED, "Contact", "Max-Forwards", "Content-Length")


def parse_datagram(raw: bytes) -> Request | Response:
    """Read a message from the network, checking what every element has to check.

    The body is cut to what Content-Length says, and octets behind it are dropped (RFC 3261
    section 18.3).

    :raises MessageError: when the message must not be processed; its ``status`` is that of the
        response due, if the message was a request.
    """
    raw = raw.lstrip(b"\r\n")
    end = raw.find(b"\r\n\r\n")
    if end < 0:
        raise MessageError("the header section has no end")
    message = parse_message(raw)
    check_head(message, raw[: end + 4])
    length = message.get("Content-Length")
    if length is not None:
        size = parse_integer(length)
        available = len(raw) - end - 4
        if size > available:
            raise MessageError(f"Content-Length is {size}, but {available} octets came")
        if size < available:
            message._raw = raw[: end + 4 + size]
    return message


def check_head(message: Request | Response, head: bytes) -> None:
    """Check a start line and headers as :func:`parse_datagram` does.

    :param head: the message up to and with the empty line.
    :raises MessageError: when the message must not be processed.
    """
    if isinstance(message, Request):
        _check_request_line(message)
    elif message.version != "2.0":
        raise MessageError(f"SIP version {message.version}", 505)
    ends = head.count(b"\r\n")
    if head.count(b"\n") != ends or head.count(b"\r") != ends:
        raise MessageError("a line ends with CR or LF only")
    if grammar.has_bare_nul(head):
        raise MessageError("a NUL outside of a quoted pair")
    headers = message.headers
    bad = headers.malformed_lines()
    if bad:
        raise MessageError(f"not a header field: {bad[0]!r}")
    twice = headers.first_twice(_ONCE)
    if twice is not None:
        raise MessageError(f"more than one {twice}")
    if not message.call_id:
        raise MessageError("empty Call-ID")
    parsed: dict[str, Any] = {}
    name = ""
    try:
        for name in _CHECKED:
            parsed[name] = message.get_parsed_header(name)
    except MessageError as error:
        raise MessageError(str(error), error.status, name) from error
    for name in _NEEDED:
        if parsed[name] is None:
            raise MessageError(f"no {name} header")
    cseq = parsed["CSeq"]
    if isinstance(message, Request) and cseq.method != message.method:
        status = 400 if message.method in METHODS else 501
        raise MessageError(f"{message.method} with the CSeq of {cseq.method}", status)
    hops = parsed["Max-Forwards"]
    if hops is not None and hops > 255:
        raise MessageError(f"Max-Forwards of {hops}", header="Max-Forwards")


def _check_request_line(message: Request) -> None:
    if message.version != "2.0":
        raise MessageError(f"SIP version {message.version}", 505)
    if _STRICT_REQUEST_LINE.fullmatch(message._received_line()) is None:
        raise MessageError("superfluous blanks or brackets in the request line")
    uri = message.request_uri
    if isinstance(uri, SipUri) and uri.headers:
        raise MessageError("headers in the Request-URI")
