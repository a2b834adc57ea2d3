"""Parameters: ``;name=value`` lists, and the ``?name=value`` headers of URIs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip import grammar

__all__ = ["NO_PARAMS", "Params", "UriHeaders"]

_FEW = 8
"""As many parameters are looked through; of more there is an index."""

_P = TypeVar("_P", bound="Params")
_PARAM = re.compile(grammar.PARAM, re.DOTALL)
_PARAMS = re.compile(grammar.PARAMS + grammar.WS, re.DOTALL)
_VALUE = re.compile(rf'{grammar.QUOTED}|[^\s;,"<>\0]*', re.DOTALL)


class Params(Mapping[str, "str | None"]):
    """An ordered, case-blind mapping of parameter names to values; immutable.

    A parameter without ``=`` has the value None. Values stand as they were written, quotes and
    escapes included; :meth:`text` gives the meaning. Of a repeated name the first one counts, and
    all of them survive ``str()``.

    :param pairs: a mapping or pairs of names and values; numbers are written in decimal.
    :raises LocalProtocolError: for a name or value that cannot be written in a header.
    """

    __slots__ = ("_index", "_pairs", "_written")

    _pairs: tuple[tuple[str, str | None], ...] | None
    _written: str | None
    # The first value of each name in lower case. It is missing until there are many parameters and
    # somebody looks for one: then every look at all of them would be a look for each.
    _index: dict[str, str | None]

    def __init__(
        self, pairs: Mapping[str, str | int | None] | Iterable[tuple[str, str | int | None]] = ()
    ) -> None:
        items: Any = pairs.items() if isinstance(pairs, Mapping) else pairs
        self._pairs = given = tuple((n, None if v is None else str(v)) for n, v in items)
        self._written = None
        for name, value in given:
            self._check(name, value)

    @staticmethod
    def _check(name: str, value: str | None) -> None:
        if not grammar.is_token(name):
            raise LocalProtocolError(f"not a parameter name: {name!r}")
        if value is not None and (grammar.has_line_break(value) or _VALUE.fullmatch(value) is None):
            raise LocalProtocolError(f"not a parameter value, quote it: {value!r}")

    @classmethod
    def parse(cls: type[_P], text: str) -> _P:
        """Read ``;a=1;b``; blanks around separators are allowed.

        :raises MessageError: when the text is something else.
        """
        found = _PARAMS.match(text)
        if found is None or found.end() != len(text):
            raise MessageError(f"bad parameters: {text!r}")
        return cls._trusted(text)

    @classmethod
    def _trusted(cls: type[_P], text: str) -> _P:
        """Wrap text that a pattern has matched already; it is split when somebody looks."""
        self = cls.__new__(cls)
        self._pairs = None if text else ()
        self._written = text
        return self

    @property
    def pairs(self) -> tuple[tuple[str, str | None], ...]:
        """All parameters in order, repeated ones included, spelled as they were."""
        if self._pairs is None:
            self._pairs = self._split(self._written or "")
        return self._pairs

    @staticmethod
    def _split(text: str) -> tuple[tuple[str, str | None], ...]:
        pairs: Any = [found.groups() for found in _PARAM.finditer(text)]
        return tuple(pairs)

    def _indexed(self) -> dict[str, str | None]:
        """Return the first value of each name."""
        try:
            return self._index
        except AttributeError:
            index: dict[str, str | None] = {}
            self._index = index
            for key, value in self.pairs:
                index.setdefault(key.lower(), value)
            return index

    def __getitem__(self, name: str) -> str | None:
        name = name.lower()
        pairs = self.pairs
        if len(pairs) > _FEW:
            return self._indexed()[name]
        for key, value in pairs:
            if key.lower() == name:
                return value
        raise KeyError(name)

    def get(  # type: ignore[override]  # narrower than Mapping's, which takes any default
        self, name: str, default: str | None = None
    ) -> str | None:
        """Return the value of a parameter; None also when it has none."""
        name = name.lower()
        pairs = self.pairs
        if len(pairs) > _FEW:
            return self._indexed().get(name, default)
        for key, value in pairs:
            if key.lower() == name:
                return value
        return default

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        name = name.lower()
        pairs = self.pairs
        if len(pairs) > _FEW:
            return name in self._indexed()
        return any(key.lower() == name for key, _ in pairs)

    def __iter__(self) -> Iterator[str]:
        seen = set()
        for key, _ in self.pairs:
            if key.lower() not in seen:
                seen.add(key.lower())
                yield key

    def __len__(self) -> int:
        return len(self._indexed())

    def text(self, name: str) -> str | None:
        """Return the value of a parameter without quotes and backslashes, or None."""
        value = self.get(name)
        return None if value is None else grammar.unquote(value)

    def with_(self: _P, name: str, value: str | int | None = None) -> _P:
        """Copy with one parameter set: in its old place, or at the end.

        :raises LocalProtocolError: for a name or value that cannot be written in a header.
        """
        key = name.lower()
        new: tuple[str, str | int | None] = (name, value)
        pairs: list[tuple[str, str | int | None]] = []
        placed = False
        for pair in self.pairs:
            if pair[0].lower() != key:
                pairs.append(pair)
            elif not placed:
                pairs.append(new)
                placed = True
        if not placed:
            pairs.append(new)
        return type(self)(pairs)

    def without(self: _P, name: str) -> _P:
        """Copy without a parameter."""
        name = name.lower()
        return type(self)([pair for pair in self.pairs if pair[0].lower() != name])

    def __eq__(self, other: object) -> bool:
        """Compare names blind to case, values exactly, whatever the order."""
        if not isinstance(other, Params):
            return NotImplemented
        return sorted(
            ((n.lower(), v is not None, v or "") for n, v in self.pairs),
        ) == sorted(((n.lower(), v is not None, v or "") for n, v in other.pairs))

    def __hash__(self) -> int:
        return hash(frozenset((name.lower(), value) for name, value in self.pairs))

    def __str__(self) -> str:
        if self._written is None:
            self._written = self._write(self.pairs)
        return self._written

    @staticmethod
    def _write(pairs: Iterable[tuple[str, str | None]]) -> str:
        return "".join([f";{n}" if v is None else f";{n}={v}" for n, v in pairs])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"


class UriParams(Params):
    """Parameters of a URI: escapes instead of quotes."""

    __slots__ = ()

    @staticmethod
    def _check(name: str, value: str | None) -> None:
        if not name or _NOT_IN_URI_PARAM(name) or (value and not _URI_VALUE(value)):
            raise LocalProtocolError(f"not a URI parameter, escape it: {name!r}={value!r}")

    @staticmethod
    def _split(text: str) -> tuple[tuple[str, str | None], ...]:
        pairs: list[tuple[str, str | None]] = []
        items = text.split(";") if '"' not in text else _URI_PARAM.findall(text)
        for item in items:
            if item:
                name, equals, value = item.partition("=")
                pairs.append((name, value if equals else None))
        return tuple(pairs)

    def text(self, name: str) -> str | None:
        """Return the value of a parameter with its escapes resolved, or None."""
        value = self.get(name)
        return None if value is None else grammar.unescape(value)


class UriHeaders(UriParams):
    """The header fields that a SIP URI carries after its ``?``, escaped as they stand."""

    __slots__ = ()

    @staticmethod
    def _split(text: str) -> tuple[tuple[str, str | None], ...]:
        pairs: list[tuple[str, str | None]] = []
        for item in text[1:].split("&"):
            name, equals, value = item.partition("=")
            pairs.append((name, value if equals else None))
        return tuple(pairs)

    @staticmethod
    def _write(pairs: Iterable[tuple[str, str | None]]) -> str:
        joined = "&".join([n if v is None else f"{n}={v}" for n, v in pairs])
        return f"?{joined}" if joined else ""


_NOT_IN_URI_PARAM = re.compile(r'[\s;?&=<>"\0]').search
# In quotes, as some phones have them, more may stand.
_URI_VALUE = re.compile(r'[^\s;?&=<>"\0]*|"[^\s<>"\0]*"').fullmatch
_URI_PARAM = re.compile(r'(?:[^;"]|"[^"]*")+')

NO_PARAMS = Params()
"""What a value without parameters has."""
NO_URI_PARAMS = UriParams()
NO_URI_HEADERS = UriHeaders()
