"""Messages as the server writes them: what the application gave, completed and put in order.

An application writes as little as it likes; it may copy From, To, Call-ID and CSeq or leave them
out. What belongs to the dialog or the transaction is always the server's own here: the real server
lets an application overwrite it, which only ever breaks calls. Headers come out in a fixed order,
those that SIP knows first, in their usual spelling, then Content-Length, then all others as they
were written.

Text is split at CRLF; a lone CR or LF that an application smuggles into a line becomes a blank, and
so does a NUL that is no quoted pair, so that no header can be injected behind the server's back.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple
from uuid import uuid4

from drachtwist.errors import MessageError
from drachtwist.sip.fields import Address, RAck, SessionExpires, parse_expires, parse_integer
from drachtwist.sip.grammar import COMPACT_FORMS, is_token

__all__ = [
    "Draft",
    "Field",
    "encode",
    "in_brackets",
    "new_branch",
    "new_call_id",
    "new_tag",
    "read_draft",
    "readdressed",
    "via_of",
    "with_host",
]

# Known headers behind CSeq, in the order in which they are written.
_KNOWN = """
Contact RSeq RAck Request-Disposition Accept-Contact Reject-Contact Expires Date Retry-After
Timestamp Min-Expires Subject Priority Call-Info Organization Server User-Agent In-Reply-To Accept
Accept-Encoding Accept-Language Allow Require Supported Unsupported Event Allow-Events
Subscription-State Proxy-Authenticate Proxy-Authentication-Info Proxy-Authorization Authorization
WWW-Authenticate Authentication-Info Error-Info Warning Refer-To Referred-By Replaces
Session-Expires Min-SE Path Service-Route Reason Security-Client Security-Server Security-Verify
Privacy SIP-ETag SIP-If-Match P-Asserted-Identity P-Preferred-Identity Remote-Party-ID
MIME-Version Content-Type Content-Encoding Content-Language Content-Disposition
""".split()
_ORDER = {name.lower(): (order, name) for order, name in enumerate(_KNOWN)}
_AUTHENTICATION = frozenset(
    order for order, name in _ORDER.values() if name.endswith(("-Authenticate", "Authorization"))
)
_LENGTH = len(_KNOWN)
_UNKNOWN = _LENGTH + 1

# Headers that are never taken over from an application.
_OURS = frozenset(("via", "route", "record-route", "rseq", "content-length", "proxy-require"))
# Headers that have a place of their own in a draft.
_APART = frozenset(("from", "to", "call-id", "cseq", "max-forwards"))
# Of these the last one counts.
_SINGLE = frozenset(
    (
        "expires",
        "retry-after",
        "subject",
        "organization",
        "server",
        "user-agent",
        "event",
        "subscription-state",
        "refer-to",
        "referred-by",
        "session-expires",
        "min-se",
        "min-expires",
        "content-type",
        "rack",
        "date",
        "replaces",
    )
)
_CHECKS: dict[str, Callable[[str], object]] = {
    "max-forwards": parse_integer,
    "expires": parse_expires,
    "min-expires": parse_integer,
    "contact": Address.parse_list,
    "rack": RAck.parse,
    "session-expires": SessionExpires.parse,
    "min-se": SessionExpires.parse,
    "refer-to": Address.parse_with_headers,
}

_TOP_VIA = re.compile(rb"\r\nVia: [^\r]*")
_CONTACT = re.compile(rb"\r\nContact: [^\r]*")
_BREAKERS = re.compile(r"[\r\n]+|(?<!\\)\0+")
_LOCALHOST = re.compile(r"(?<=[@:])localhost(?::\d+)?(?![\w.\-])")
_QUOTED_OR_COMMA = re.compile(r'("(?:[^"\\]|\\.)*(?:"|\\?$))|,[ \t]*')
_LEARNT_LIMIT = 1024
_learnt: dict[str, tuple[int, str, str]] = {}


class Field(NamedTuple):
    """One header line; sorting puts it in its place."""

    order: int
    name: str
    value: str


def new_tag() -> str:
    """Make a tag that nobody can guess."""
    return os.urandom(8).hex()


def new_call_id() -> str:
    """Make a Call-ID that nobody can guess, of the length that a real server's have."""
    return str(uuid4())


def new_branch() -> str:
    """Make a branch for a client transaction."""
    return "z9hG4bK" + os.urandom(9).hex()


def via_of(protocol: str, local: str, branch: str) -> str:
    """Write the Via of a request of ours.

    :param local: our address and port.
    """
    rport = ";rport" if protocol == "udp" else ""
    return f"SIP/2.0/{protocol.upper()} {local}{rport};branch={branch}"


def readdressed(raw: bytes, via: str, contact: str | None = None) -> bytes:
    """Replace the Via of a request of ours, and its Contact if there is another one.

    :param contact: says where we are reached.
    """
    head, gap, body = raw.partition(b"\r\n\r\n")
    head = _TOP_VIA.sub(f"\r\nVia: {via}".encode(), head, count=1)
    if contact is not None:
        line = f"\r\nContact: {contact}".encode("utf-8", "surrogateescape")
        head = _CONTACT.sub(lambda found: line, head, count=1)
    return head + gap + body


def with_host(value: str, host: str) -> str:
    """Put the server's own address where an application wrote ``localhost``."""
    return _LOCALHOST.sub(host, value) if "localhost" in value else value


def in_brackets(address: str) -> str | None:
    """Return an address with its URI in brackets, and whatever parameters it had behind them.

    :returns: None when it is no address.
    """
    try:
        parsed = Address.parse(address)
    except MessageError:
        return None
    if parsed.is_wildcard:
        return None
    return str(parsed) if "<" in address else f"<{parsed.uri}>{parsed.params}"


def _learn(name: str) -> tuple[int, str, str] | None:
    """Find the place, key and spelling of a header name; None for what is none."""
    if not is_token(name):
        return None
    key = name.lower()
    key = COMPACT_FORMS.get(key, key)
    if key in _OURS:
        found = (-1, key, name)
    elif key in _APART:
        found = (-2, key, name)
    else:
        order, spelling = _ORDER.get(key, (_UNKNOWN, name))
        found = (order, key, spelling)
    if len(_learnt) < _LEARNT_LIMIT:
        _learnt[name] = found
    return found


class Draft:
    """A message as an application wrote it."""

    __slots__ = ("apart", "body", "contact", "fields", "keys", "routes", "start")

    def __init__(self, start: str, body: bytes) -> None:
        self.start = start
        """The start line."""
        self.body = body
        self.fields: list[Field] = []
        """Headers that are passed on."""
        self.keys: set[str] = set()
        """Which of them there are: names in lower case."""
        self.apart: dict[str, str] = {}
        """From, To, Call-ID, CSeq and Max-Forwards, by name in lower case."""
        self.contact: str | None = None
        """The value of Contact; it is among the fields too."""
        self.routes: list[str] = []
        """The values of Route, which count only where the application says where to send."""

    def value(self, key: str) -> str | None:
        """Return the value of a header that is passed on, by its known name in lower case."""
        if key not in self.keys:
            return None
        order, name = _ORDER.get(key, (_UNKNOWN, key))
        for field in self.fields:
            if field.order == order and (order != _UNKNOWN or field.name.lower() == name):
                return field.value
        return None

    def values(self, key: str) -> list[str]:
        """Return the values of all lines of a known header, by its name in lower case."""
        order, _ = _ORDER[key]
        return [field.value for field in self.fields if field.order == order]

    def add(self, name: str, value: str) -> None:
        """Add a header that is known."""
        order, spelling = _ORDER[name.lower()]
        self.keys.add(name.lower())
        self.fields.append(Field(order, spelling, value))

    def change_contacts(self, change: Callable[[str], str]) -> None:
        """Write another value in each line of Contact; the last one is :attr:`contact`."""
        for at, field in enumerate(self.fields):
            if field.order == 0:
                self.contact = change(field.value)
                self.fields[at] = field._replace(value=self.contact)

    def replace_contact(self, value: str) -> None:
        """Write another Contact."""
        self.fields = [field for field in self.fields if field.order]
        self.contact = value
        self.add("Contact", value)

    def complete_type(self) -> bool:
        """See to the Content-Type.

        :returns: False when there is a body whose type nobody knows.
        """
        if not self.body or "content-type" in self.keys:
            return True
        if self.body.startswith(b"v=0"):
            self.add("Content-Type", "application/sdp")
            return True
        return False


def read_draft(message: bytes, *, checked: bool) -> Draft:
    """Take apart what an application wrote.

    :param checked: drop the first header that has no valid value and all behind it, as the real
        server does with requests.
    """
    head, _, body = message.partition(b"\r\n\r\n")
    text = head.decode("utf-8", "surrogateescape")
    start, *lines = text.split("\r\n")
    if "\0" in text or text.count("\n") != len(lines) or text.count("\r") != len(lines):
        start = _BREAKERS.sub(" ", start)
        lines = [_BREAKERS.sub(" ", line) for line in lines]
    draft = Draft(start, body)
    if "\r\n " in text or "\r\n\t" in text:
        lines = _unfolded(lines)
    fields = draft.fields
    keys = draft.keys
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            continue
        name = name.rstrip(" \t")
        value = value.strip(" \t")
        found = _learnt.get(name) or _learn(name)
        if found is None:
            continue
        order, key, spelling = found
        if order == -1:
            if key == "route":
                draft.routes.append(value)
            continue
        if checked and key in _CHECKS:
            try:
                _CHECKS[key](value)
            except MessageError:
                break
        if order == -2:
            draft.apart[key] = value
            continue
        if key in keys and key in _SINGLE:
            fields[:] = [field for field in fields if field.order != order]
        keys.add(key)
        if order == 0:
            draft.contact = value
        if order in _AUTHENTICATION:
            value = _spaced(value)
        fields.append(Field(order, spelling, value))
    return draft


def _unfolded(lines: list[str]) -> list[str]:
    """Put folded lines behind those that they belong to."""
    whole: list[list[str]] = []
    for line in lines:
        if line[:1] not in (" ", "\t"):
            whole.append([line])
        elif whole and (more := line.strip()):
            whole[-1].append(more)
    return [" ".join(parts) for parts in whole]


def _spaced(value: str) -> str:
    """Write a blank behind each comma outside of quotes, as the real server does."""
    return _QUOTED_OR_COMMA.sub(lambda found: found[1] or ", ", value)


def encode(start: str, lines: list[str], fields: list[Field], body: bytes) -> bytes:
    """Write a message.

    :param lines: complete header lines that come first.
    :param fields: headers, in any order.
    """
    out = [start, *lines]
    length = f"Content-Length: {len(body)}"
    if fields:
        placed = False
        for order, name, value in sorted(fields, key=_place):
            if not placed and order > _LENGTH:
                out.append(length)
                placed = True
            out.append(f"{name}: {value}")
        if not placed:
            out.append(length)
    else:
        out.append(length)
    out.append("\r\n")
    return "\r\n".join(out).encode("utf-8", "surrogateescape") + body


def _place(field: Field) -> int:
    return field[0]
