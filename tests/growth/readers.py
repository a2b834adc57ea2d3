"""Everything public that reads what a peer wrote, with samples of what it reads.

Samples are well-formed text. Shapes are made of them by putting n times something at every place
where a word begins or ends; see :meth:`Reader.shapes`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from drachtwist.errors import DrachtwistError, RemoteProtocolError
from tests.growth.measuring import Shape

__all__ = ["REPEATED", "Reader", "look"]

REPEATED = (
    *' \ta1"\\,;<>()[{=%:@/?&|*\0é\udc80',
    "\r\n",
    "\n",
    "\r\n ",
    "\r\n\r\n",
    "\r\nX: y",
    "\r\nX{n}: y",
    "\r\nVia: SIP/2.0/UDP h",
    "\\a",
    '"a" ',
    ", ",
    "a, ",
    "a b,",
    "t{n},",
    "a=b, ",
    "p{n}=b,",
    "; ",
    ";a",
    ";p{n}=1",
    ';a="b"',
    "<a>",
    "()",
    "a ",
    "%41",
    "&p{n}=b",
    "a:b@",
    "sip:;",
    "sip:a@b,",
    "<sip:a@b>,",
    "1.",
    "--",
)
"""What is put into samples again and again."""

_EDGE = re.compile(r"\b|(?<=\W)(?=\W)")


@dataclass(frozen=True)
class Reader:
    """Something that reads what a peer wrote."""

    name: str
    read: Callable[[Any], object]
    samples: tuple[str, ...]
    binary: bool = False
    """Whether it reads octets; samples are text all the same."""
    largest: int = 1 << 16
    """Octets of the longest text that it is tried with."""
    places: int = 8
    """At how many places of each sample something is put, at most."""
    more: tuple[str, ...] = ()
    """What is repeated besides :data:`REPEATED`."""
    only: tuple[str, ...] = ()
    """What is repeated instead."""
    suffixes: tuple[str | None, ...] = (None, "x")
    """What stands behind: None for the rest of the sample."""
    errors: tuple[type[Exception], ...] = field(default=(RemoteProtocolError,))
    """What it may raise."""

    def write(self, text: str) -> Any:
        """Give what is to be read."""
        return text.encode("utf-8", "surrogateescape") if self.binary else text

    def run(self, given: Any) -> None:
        """Read, and look at all of what comes out."""
        try:
            look(self.read(given))
        except self.errors:
            pass

    def shapes(self) -> Iterator[Shape]:
        """Give all shapes, those with the same repeated part together."""
        for repeated in self.only or (*REPEATED, *self.more):
            for sample in self.samples:
                edges = sorted({found.start() for found in _EDGE.finditer(sample)} | {0})
                step = max(len(edges) // self.places, 1)
                for at in [*edges[::step], len(sample)]:
                    for suffix in self.suffixes:
                        rest = sample[at:] if suffix is None else suffix
                        yield Shape(sample[:at], repeated, rest)


_PLAIN = (str, bytes, int, float, bool, type(None))


def look(value: object) -> None:
    """Look at everything that a value has to show, and at what that has to show."""
    if isinstance(value, _PLAIN):
        return
    if isinstance(value, Mapping):
        for each in (*dict(value).values(), *value.items()):
            look(each)
        len(value)
    elif isinstance(value, Iterable) and isinstance(value, (list, tuple, Iterator)):
        for each in value:
            look(each)
        return
    for name in _properties(type(value)):
        try:
            found = getattr(value, name)
        except RemoteProtocolError:
            continue
        look(found)
    str(value), repr(value)
    if value != value:
        raise AssertionError(f"unlike itself: {value!r}")
    try:
        hash(value)
    except TypeError:
        pass  # it changes, or holds something that does


_KNOWN: dict[type, tuple[str, ...]] = {}


def _properties(kind: type) -> tuple[str, ...]:
    """Name what can be asked of values of a kind, if it is one of ours."""
    if kind not in _KNOWN:
        names = []
        if kind.__module__.startswith("drachtwist.") and not issubclass(kind, DrachtwistError):
            for name in dir(kind):
                if name[0] != "_" and isinstance(getattr(kind, name), property):
                    names.append(name)
            if is_dataclass(kind):
                names += [one for one in kind.__dataclass_fields__ if one[0] != "_"]
        _KNOWN[kind] = tuple(names)
    return _KNOWN[kind]
