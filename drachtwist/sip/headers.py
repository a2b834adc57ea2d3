"""Header fields: an ordered, case-blind multimap over the bytes they came in.

A received message is looked up far more often than it is taken apart: an application asks for two
or three of a dozen headers. So ``get``, ``get_all`` and ``has`` search the bytes of the header
section, with one precompiled pattern for each name (several times faster than a table is made),
and a table of fields is made only when somebody iterates or changes something. Both find the same:
a line that starts with the name, blanks and a colon is the field, with the continuation lines
behind it, and the search ends where the header section does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Union

from drachtwist.errors import DrachtwistError, LocalProtocolError
from drachtwist.sip import grammar

__all__ = ["HeaderValue", "Headers", "HeadersLike", "header_key"]

HeaderValue = Union[str, int, Sequence[str], object]  # noqa: UP007 - evaluated on Python 3.10
"""A value to set: text, a number, any value of :mod:`drachtwist.sip.fields` (its ``str()`` is
taken), or a list of these for several lines of the same header."""

HeadersLike = Union[  # noqa: UP007 - evaluated on Python 3.10
    Mapping[str, HeaderValue], Iterable[tuple[str, HeaderValue]], None
]
"""Headers as callers may give them: a mapping, pairs of names and values, or nothing."""

_LONG_TO_COMPACT = {long: compact for compact, long in grammar.COMPACT_FORMS.items()}
_PATTERNS: dict[str, re.Pattern[bytes]] = {}
_PATTERNS_LIMIT = 1024
_NEVER = re.compile(rb"(?!)")
_FEW = 64
"""As many fields are looked through; of more there is an index."""

# Their str() is never what was meant.
_NO_VALUES = (bytes, bytearray, bool, dict)
_STRIPPED = " \t\r\n"

# One field: key (long name in lower case), name as spelled, unfolded value, and the line as it
# was read without its line end, None when it was set here.
_Field = tuple[str, str, str, Union[str, None]]  # noqa: UP007 - evaluated on Python 3.10


def header_key(name: str) -> str:
    """Return the name under which a header is known: long form, lower case."""
    key = name.lower()
    return grammar.COMPACT_FORMS.get(key, key)


def _pattern(name: str) -> re.Pattern[bytes] | None:
    """Make the pattern that finds a header, and remember it; None when there is no more room.

    Making one takes far longer than a look into the table.
    """
    if len(_PATTERNS) >= _PATTERNS_LIMIT:
        return None
    key = header_key(name)
    if not grammar.is_token(key):
        return _NEVER  # no field has such a name
    names = re.escape(key)
    if key in _LONG_TO_COMPACT:
        names = f"(?:{names}|{_LONG_TO_COMPACT[key]})"
    pattern = re.compile(
        rb"\n%b[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)" % names.encode("ascii"), re.IGNORECASE
    )
    _PATTERNS[name] = pattern
    return pattern


def _text(value: bytes) -> str:
    """Decode, unfold and strip what stands behind the colon."""
    text = value.decode("utf-8", "surrogateescape").strip(_STRIPPED)
    return grammar.unfold(text) if "\n" in text else text


def checked_name(name: str) -> str:
    """Return the name of a header that is to be sent.

    :raises LocalProtocolError: when it is no token.
    """
    if not isinstance(name, str) or not grammar.is_token(name):
        raise LocalProtocolError(f"not a header name: {name!r}")
    return name


def checked_value(value: object, name: str = "") -> str:
    """Return the text of a header value that is to be sent.

    :param name: of the header.
    :raises LocalProtocolError: when it holds CR, LF or NUL.
    """
    if value is None or isinstance(value, _NO_VALUES):
        given = "None" if value is None else type(value).__name__
        what = f"the value of the header {name!r}" if name else "a header value"
        raise LocalProtocolError(f"{what} is text or a number, not {given}")
    text = value if type(value) is str else str(value)
    if grammar.has_line_break(text):
        raise LocalProtocolError(f"line break or NUL in a header value: {text!r}")
    return text


def checked_lines(value: object, name: str = "") -> list[str]:
    """Return the texts of a header's lines: several for a list or tuple, otherwise one.

    :param name: of the header.
    :raises LocalProtocolError: when one of them holds CR, LF or NUL.
    """
    if isinstance(value, (list, tuple)):
        return [checked_value(item, name) for item in value]
    return [checked_value(value, name)]


def no_headers(headers: object, error: Exception) -> Exception:
    """Make the error of who gives something else than headers.

    :param error: what came of it, which stays when it says what is wrong.
    """
    if isinstance(error, DrachtwistError) or _are_headers(headers):
        return error
    given = type(headers).__name__
    return LocalProtocolError(
        f"headers takes a mapping of names to values, or pairs of them, not {given}"
    )


def _are_headers(given: object) -> bool:
    """Return whether these are headers, whatever is wrong with them."""
    if isinstance(given, list | tuple):
        return all(isinstance(one, list | tuple) and len(one) == 2 for one in given)
    return isinstance(given, Mapping | Headers) or (
        isinstance(given, Iterable) and not isinstance(given, str | bytes)
    )


class Headers:
    """The header fields of a message, in order, with spelling and repeats kept.

    Names are compared blind to case, and the compact forms are the same as the long ones.

    :param headers: what to start with.
    :raises LocalProtocolError: for a name that is no token, or a value with CR, LF or NUL.
    """

    __slots__ = ("_changed", "_end", "_fields", "_index", "_raw")

    _raw: bytes
    # Where the last header line ends in the bytes.
    _end: int
    _fields: list[_Field] | None
    # The fields by key, made when there are many; None when it would have to be made anew.
    _index: dict[str, list[_Field]] | None
    _changed: bool

    def __init__(self, headers: HeadersLike = None) -> None:
        self._raw = b""
        self._end = 0
        self._changed = True
        self._index = None
        self._fields = fields = []
        if headers is None:
            return
        pairs: Any = headers.items() if isinstance(headers, Mapping) else headers
        try:
            for name, value in pairs:
                key = header_key(checked_name(name))
                if type(value) is str and not grammar.has_line_break(value):
                    fields.append((key, name, value, None))
                else:
                    for text in checked_lines(value, name):
                        fields.append((key, name, text, None))
        except (TypeError, ValueError) as error:
            raise no_headers(headers, error) from None

    @classmethod
    def from_bytes(cls, raw: bytes) -> Headers:
        """Wrap a received message.

        :param raw: a message from its start line on, or only its head; what follows the first
            empty line is never looked at.
        """
        self = cls.__new__(cls)
        self._raw = raw
        end = raw.find(b"\r\n\r\n")
        if end < 0:
            end = raw.find(b"\n\n")
            if end < 0:
                end = len(raw)
        self._end = end
        self._fields = self._index = None
        self._changed = False
        return self

    # Looking

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of a header, unfolded and without surrounding blanks."""
        if self._fields is None:
            pattern = _PATTERNS.get(name) or _pattern(name)
            if pattern is not None:
                found = pattern.search(self._raw, 0, self._end)
                return default if found is None else _text(found[1])
        for field in self._of(name):
            return field[2]
        return default

    def has(self, name: str) -> bool:
        """Return whether the header is there."""
        if self._fields is None:
            pattern = _PATTERNS.get(name) or _pattern(name)
            if pattern is not None:
                return pattern.search(self._raw, 0, self._end) is not None
        return bool(self._of(name))

    def get_all(self, name: str) -> list[str]:
        """Return the values of a header, one for each line it has."""
        if self._fields is None:
            pattern = _PATTERNS.get(name) or _pattern(name)
            if pattern is not None:
                return [_text(value) for value in pattern.findall(self._raw, 0, self._end)]
        return [field[2] for field in self._of(name)]

    def get_name(self, name: str) -> str | None:
        """Return the spelling in which the header's first field has its name."""
        for field in self._of(name):
            return field[1]
        return None

    def items(self) -> list[tuple[str, str]]:
        """Return all names, as spelled, with their values, in order."""
        fields = self._read()
        return [(name, value) for _, name, value, _ in fields if name]

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names in order, repeated ones as often as they stand there."""
        return iter([name for name, _ in self.items()])

    def __len__(self) -> int:
        return len(self.items())

    def __eq__(self, other: object) -> bool:
        """Compare names (blind to case and compact forms) and values, in order."""
        if not isinstance(other, Headers):
            return NotImplemented
        return [(header_key(n), v) for n, v in self.items()] == [
            (header_key(n), v) for n, v in other.items()
        ]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"

    # Changing

    def set(self, name: str, value: HeaderValue) -> None:
        """Replace all fields of a header, at the place of the first; at the end when it is new.

        An empty list removes the header.

        :raises LocalProtocolError: for a name that is no token, or a value with CR, LF or NUL.
        """
        key = header_key(checked_name(name))
        new = [(key, name, text, None) for text in checked_lines(value)]
        fields = self._for_change()
        at = next((i for i, field in enumerate(fields) if field[0] == key), len(fields))
        fields[at:] = new + [field for field in fields[at:] if field[0] != key]

    def add(self, name: str, value: HeaderValue) -> None:
        """Add fields at the end.

        :raises LocalProtocolError: for a name that is no token, or a value with CR, LF or NUL.
        """
        key = header_key(checked_name(name))
        new = [(key, name, text, None) for text in checked_lines(value)]
        self._for_change().extend(new)

    def add_missing(self, headers: HeadersLike) -> None:
        """Add the fields of the headers that are not there yet, with all lines that they have.

        :raises LocalProtocolError: for a name that is no token, or a value with CR, LF or NUL.
        """
        there = {field[0] for field in self._read()}
        new = Headers(headers)._read()
        self._for_change().extend(field for field in new if field[0] not in there)

    def replace(self, headers: HeadersLike) -> None:
        """Put headers, with all lines that they have, in place of those with the same names.

        :raises LocalProtocolError: for a name that is no token, or a value with CR, LF or NUL.
        """
        new = Headers(headers)._read()
        names = {field[0] for field in new}
        fields = self._for_change()
        fields[:] = [field for field in fields if field[0] not in names] + new

    def prepend(self, name: str, value: HeaderValue) -> None:
        """Add fields in front of those with the same name; at the very top when it is new.

        :raises LocalProtocolError: for a name that is no token, or a value with CR, LF or NUL.
        """
        key = header_key(checked_name(name))
        new = [(key, name, text, None) for text in checked_lines(value)]
        fields = self._for_change()
        at = next((i for i, field in enumerate(fields) if field[0] == key), 0)
        fields[at:at] = new

    def remove(self, name: str) -> None:
        """Remove all fields of a header; it is no error when there are none."""
        key = header_key(name)
        if self.has(name):
            fields = self._for_change()
            fields[:] = [field for field in fields if field[0] != key]

    def copy(self) -> Headers:
        """Make independent headers of the same content and spelling."""
        new = Headers.__new__(Headers)
        new._raw, new._end = self._raw, self._end
        new._changed = self._changed
        new._index = None
        new._fields = None if self._fields is None else list(self._fields)
        return new

    # The table

    def _of(self, name: str) -> list[_Field]:
        """Return the fields of a header."""
        key = header_key(name)
        if not key:
            return []  # what stands under no name is no field
        fields = self._read()
        if len(fields) <= _FEW:
            return [field for field in fields if field[0] == key]
        index = self._index
        if index is None:
            self._index = index = {}
            for field in fields:
                index.setdefault(field[0], []).append(field)
        return index.get(key, [])

    def _for_change(self) -> list[_Field]:
        fields = self._read()
        self._changed = True
        self._index = None
        return fields

    def _read(self) -> list[_Field]:
        if self._fields is None:
            self._fields = self._table()
        return self._fields

    def _table(self) -> list[_Field]:
        """Take the lines apart; one that is no field keeps its place under no name."""
        fields: list[_Field] = []
        lines = self._raw[: self._end].decode("utf-8", "surrogateescape").split("\n")
        at, end = 1, len(lines)  # behind the start line
        while at < end:
            first = at
            at += 1
            while at < end and lines[at][:1] in (" ", "\t"):
                at += 1
            line = lines[first] if at == first + 1 else "\n".join(lines[first:at])
            if line[-1:] == "\r":
                line = line[:-1]
            name, colon, value = line.partition(":")
            name = name.rstrip(" \t")
            if colon and grammar.is_token(name):
                value = value.strip(_STRIPPED)
                if "\n" in value:
                    value = grammar.unfold(value)
                fields.append((header_key(name), name, value, line))
            else:
                fields.append(("", "", line, line))
        return fields

    def set_length(self, length: int) -> None:
        """Set the Content-Length, unless it says so already."""
        value = str(length)
        fields = self._read()
        found = [field for field in fields if field[0] == "content-length"]
        if len(found) == 1 and found[0][2] == value:
            return
        if found:
            self.set(found[0][1], value)
        else:
            self._for_change().append(("content-length", "Content-Length", value, None))

    def first_twice(self, names: Mapping[str, str]) -> str | None:
        """Return the first of some names that has more than one field; None when none has.

        :param names: by :func:`header_key`.
        """
        seen: set[str] = set()
        for field in self._read():
            key = field[0]
            if key in names:
                if key in seen:
                    return names[key]
                seen.add(key)
        return None

    def malformed_lines(self) -> list[str]:
        """Return the lines that are no header field at all."""
        fields = self._read()
        return [value for key, _, value, _ in fields if not key]

    def lines(self) -> list[str]:
        """Return the fields as lines to be sent, those that nobody changed as they were read."""
        fields = self._read()
        return [f"{name}: {value}" if line is None else line for _, name, value, line in fields]
