"""Named fragments of the SIP grammar (RFC 3261 section 25.1), as regular expression source.

Values are unfolded before any of these see them, so linear white space is blanks and tabs. The
fragments are somewhat wider than the grammar where real phones are (a parameter value may hold
any character that cannot be mistaken for a separator, and a semicolon may stand without one behind
it); they are never narrower.

Hostile text must not cost more than time in proportion to its length. So ``PARAMS`` only ever
stands at the end of a pattern that is used with ``match``: a blank behind ``=`` fits in two places,
which does not matter as long as nothing behind it can fail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = [
    "COMPACT_FORMS",
    "PARAM",
    "PARAMS",
    "QUOTED",
    "TOKEN",
    "WS",
    "decimal",
    "has_bare_nul",
    "has_line_break",
    "is_token",
    "quote",
    "split_commas",
    "unescape",
    "unfold",
    "unquote",
]

TOKEN_CHARS = r"A-Za-z0-9\-.!%*_+`'~"
TOKEN = rf"[{TOKEN_CHARS}]+"
WS = r"[ \t]*"
# Of NUL, and of the line breaks that a value unfolded from a message cannot have, only a quoted
# pair may hold the former (RFC 3261 section 25.1, RFC 4475 section 3.1.1.2).
QUOTED = r'"[^"\\\r\n\0]*(?:\\[^\r\n][^"\\\r\n\0]*)*"'
# A repeated group may not contain a choice that could match the same text in two ways.
PARAM = rf';{WS}({TOKEN}){WS}(?:={WS}({QUOTED}|[^\s;,"<>\0]*))?'
PARAMS = rf'(?:{WS};(?:{WS}{TOKEN}(?:{WS}={WS}(?:{QUOTED}|[^\s;,"<>\0]*))?)?)*'

COMPACT_FORMS = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}
"""The compact header names registered with IANA, and the lower-case long names."""

is_token = re.compile(TOKEN).fullmatch
"""Match when the whole text is a token (RFC 3261 section 25.1)."""

has_line_break = re.compile(r"[\r\n]|(?<!\\)\0").search
"""Match when the text holds CR, LF or a NUL that is no quoted pair, which never enter a header."""

# Those may be folded, so lines may end in them.
_QUOTED_STRINGS = re.compile(rb'"[^"\\\0]*(?:\\[^\r\n][^"\\\0]*)*"')
_PAIR = re.compile(r"\\(.)", re.DOTALL)
_TO_ESCAPE = re.compile(r'(["\\])')
_ESCAPES = re.compile("((?:%[0-9A-Fa-f]{2})+)")
_LIST_ITEM = re.compile(rf"(?:{QUOTED}|<[^<>]*>|[^,\"<])+", re.DOTALL)


def has_bare_nul(head: bytes) -> bool:
    """Return whether start line and headers hold a NUL elsewhere than in a quoted pair.

    Only there it may stand (RFC 3261 section 25.1, RFC 4475 section 3.1.1.2).
    """
    return b"\0" in head and b"\0" in _QUOTED_STRINGS.sub(b"", head)


def decimal(text: str, most: int = 2**32 - 1) -> int | None:
    """Read a number that a peer wrote in decimal, of the digits that SIP knows (``0`` to ``9``).

    :returns: None for anything else, and for what is greater than ``most``, however long it is:
        ``int()`` takes digits of any script, and refuses thousands of them with an error of its
        own.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    if len(digits) > 19:
        return None
    value = int(digits or "0")
    return value if value <= most else None


def unfold(value: str) -> str:
    """Join a folded value: each line break with the blanks around it becomes one blank."""
    if "\n" not in value:
        return value
    first, *rest = value.split("\n")
    return " ".join([first.rstrip(" \t\r"), *[line.strip(" \t\r") for line in rest]])


def quote(text: str) -> str:
    """Write text as a quoted-string."""
    return '"' + _TO_ESCAPE.sub(r"\\\1", text) + '"'


def unquote(text: str) -> str:
    """Return the meaning of a quoted-string; anything else is returned as it is."""
    if len(text) > 1 and text[0] == '"' and text[-1] == '"':
        inner = text[1:-1]
        return _PAIR.sub(r"\1", inner) if "\\" in inner else inner
    return text


def unescape(text: str) -> str:
    """Resolve the ``%hh`` escapes of a URI; a percent sign that is no escape stays."""
    if "%" not in text:
        return text
    return _ESCAPES.sub(_decoded, text)


def _decoded(found: re.Match[str]) -> str:
    return bytes.fromhex(found[0].replace("%", "")).decode("utf-8", "surrogateescape")


def split_commas(text: str) -> Iterator[str]:
    """Split a list value at the commas outside quotes and angle brackets; empty items vanish."""
    at = 0
    end = len(text)
    while at < end:
        found = _LIST_ITEM.match(text, at)
        if found is None:
            # A comma without an item before it, or a quote or bracket that nothing closes.
            if text[at] == ",":
                at += 1
                continue
            item, at = text[at:], end
        else:
            item, at = found[0], found.end()
            if at < end and text[at] != ",":
                item, at = item + text[at:], end
        item = item.strip(" \t")
        if item:
            yield item
