"""A part of a session description: the lines of the session, or those of one stream."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from drachtwist.errors import LocalProtocolError, SdpError
from drachtwist.sip.grammar import TOKEN
from drachtwist.sip.sdp.values import Connection, Direction, as_direction

__all__ = ["Section", "checked_text", "text_of"]

_ENDS = "\r\n"
_NAME = re.compile(TOKEN).fullmatch
_BANDWIDTH = re.compile(r"([^\s:]+):[ \t]*([0-9]{1,18})[ \t]*").fullmatch


def checked_text(text: str) -> str:
    """Return text that may stand in a line.

    :raises LocalProtocolError: when it holds CR, LF or NUL.
    """
    if "\r" in text or "\n" in text or "\0" in text:
        raise LocalProtocolError(f"not one line: {text!r}")
    return text


def text_of(line: str) -> str:
    """Return a line without its end."""
    return line.rstrip(_ENDS)


class Section:
    """What the session's part and those of the streams have in common.

    Attributes are handled as the headers of a message are: :meth:`get`, :meth:`get_all`,
    :meth:`set`, :meth:`add`, :meth:`remove`.
    """

    __slots__ = ("_lines",)

    # Each with its end.
    _lines: list[str]
    # The order that lines have, by their letters.
    _order: str

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    # Lines

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines, without their ends."""
        return tuple(map(text_of, self._lines))

    def value(self, letter: str) -> str | None:
        """Return what the first line of a kind holds, such as the session's name for ``s``."""
        at = self._find(letter)
        return None if at is None else self._text(at)

    def _number(self, at: int) -> int:
        """Return the number that a line has in the description, from 1."""
        raise NotImplementedError

    def _end(self) -> str:
        """Return the end that a new line gets."""
        raise NotImplementedError

    def _changed(self) -> None:
        """Forget what was found out about the lines."""
        raise NotImplementedError

    def _all(self, letter: str) -> list[int]:
        start = letter + "="
        return [at for at, line in enumerate(self._lines) if line.startswith(start)]

    def _find(self, letter: str) -> int | None:
        start = letter + "="
        for at, line in enumerate(self._lines):
            if line.startswith(start):
                return at
        return None

    def _text(self, at: int) -> str:
        """Return what a line holds."""
        return self._lines[at].rstrip(_ENDS)[2:]

    def _replace(self, at: int, letter: str, text: str) -> None:
        """Exchange a line; its end stays."""
        line = self._lines[at]
        end = line[len(line.rstrip(_ENDS)) :]
        self._lines[at] = f"{letter}={checked_text(text)}{end}"
        self._changed()

    def _delete(self, places: Iterable[int]) -> None:
        """Take lines out."""
        gone = set(places)
        if gone:
            # In place: a description shares them with its session's part.
            self._lines[:] = [line for at, line in enumerate(self._lines) if at not in gone]
            self._changed()

    def _insert(self, letter: str, text: str) -> None:
        """Add a line behind those that precede it (RFC 8866 section 5)."""
        before = self._order[: self._order.index(letter) + 1]
        lines = self._lines
        at = len(lines)
        while at > 0 and not (lines[at - 1][0] in before and lines[at - 1][1:2] == "="):
            at -= 1
        self._close(at)
        lines.insert(at, f"{letter}={checked_text(text)}{self._end()}")
        self._changed()

    def _close(self, at: int) -> None:
        """See to it that the line before a place has an end."""
        if at > 0 and self._lines[at - 1][-1] not in _ENDS:
            self._lines[at - 1] += self._end()
            self._changed()

    def _put(self, letter: str, text: str | None) -> None:
        """Set, exchange or remove the first line of a kind."""
        at = self._find(letter)
        if text is None:
            if at is not None:
                self._delete([at])
        elif at is None:
            self._insert(letter, text)
        else:
            self._replace(at, letter, text)

    # Attributes

    def _attributes(self) -> Iterator[tuple[int, str, str]]:
        for at, line in enumerate(self._lines):
            if line.startswith("a="):
                name, _, value = line[2:].partition(":")
                yield at, name.strip(), value.strip()

    @property
    def attributes(self) -> list[tuple[str, str]]:
        """Names and values of all attributes; the value is empty where there is none."""
        return [(name, value) for _, name, value in self._attributes()]

    def get(self, name: str) -> str | None:
        """Return the value of the first attribute of a name, None when there is none."""
        return next((value for _, each, value in self._attributes() if each == name), None)

    def get_all(self, name: str) -> list[str]:
        """Return the values of all attributes of a name."""
        return [value for _, each, value in self._attributes() if each == name]

    def has(self, name: str) -> bool:
        """Return whether there is an attribute of a name."""
        return self.get(name) is not None

    def set(self, name: str, value: str = "") -> None:
        """Replace an attribute, or add it; others of its name are removed.

        :raises LocalProtocolError: for a name that is no token, or a value with CR, LF or NUL.
        """
        text = _attribute(name, value)
        places = [at for at, each, _ in self._attributes() if each == name]
        if not places:
            self._insert("a", text)
            return
        self._replace(places[0], "a", text)
        self._delete(places[1:])

    def add(self, name: str, value: str = "") -> None:
        """Add an attribute behind the others.

        :raises LocalProtocolError: for a name that is no token, or a value with CR, LF or NUL.
        """
        self._insert("a", _attribute(name, value))

    def remove(self, *names: str) -> None:
        """Remove all attributes of these names."""
        self._delete(at for at, name, _ in self._attributes() if name in names)

    # Bandwidth

    @property
    def bandwidths(self) -> dict[str, int]:
        """The bandwidths by type: kilobits per second for ``AS`` and ``CT``.

        :raises SdpError: when one of them cannot be read.
        """
        found: dict[str, int] = {}
        for at in self._all("b"):
            match = _BANDWIDTH(self._text(at))
            if match is None:
                raise SdpError(f"not a bandwidth: {self._text(at)!r}", self._number(at))
            found.setdefault(match[1], int(match[2]))
        return found

    def set_bandwidth(self, kind: str, value: int | None) -> None:
        """Set a bandwidth (RFC 8866 section 5.8).

        :param kind: ``AS``, ``CT``, ``TIAS``, ``RS``, ``RR``.
        :param value: in kbit/s for ``AS`` and ``CT``, in bit/s for the others (RFC 3890, RFC 3556);
            None to remove what is said.
        :raises LocalProtocolError: when the kind is no token.
        """
        if _NAME(kind) is None:
            raise LocalProtocolError(f"not a type of bandwidth: {kind!r}")
        places = [at for at in self._all("b") if self._text(at).split(":")[0].strip() == kind]
        if value is None:
            self._delete(places)
        elif places:
            self._replace(places[0], "b", f"{kind}:{value:d}")
        else:
            self._insert("b", f"{kind}:{value:d}")

    # Connection and direction

    def _place_of_address(self) -> int | None:
        return self._find("c")

    def _connection(self) -> Connection | None:
        at = self._place_of_address()
        if at is None:
            return None
        try:
            return Connection.parse(self._text(at))
        except SdpError as error:
            raise SdpError(error.text, self._number(at)) from None

    def _is_nowhere(self) -> bool | None:
        """Return whether the address asks for no media; None when there is no address."""
        at = self._find("c")
        if at is None:
            return None
        try:
            return Connection.parse(self._text(at)).is_nowhere
        except SdpError:
            return False

    def _stated(self) -> Direction | None:
        """Return the direction that the section states, None when it does not."""
        for line in self._lines:
            if line.startswith("a="):
                found = as_direction(line[2:].strip())
                if found is not None:
                    return found
        return None

    def _state(self, direction: Direction) -> None:
        """State a direction, in the place of another one if there is one.

        :raises LocalProtocolError: when it is none.
        """
        if as_direction(direction) is None:
            raise LocalProtocolError(f"not a direction: {direction!r}")
        for at, name, _ in self._attributes():
            if as_direction(name) is not None:
                if name != direction:
                    self._replace(at, "a", direction)
                return
        self._insert("a", direction)


def _attribute(name: str, value: str) -> str:
    if _NAME(name) is None:
        raise LocalProtocolError(f"not an attribute's name: {name!r}")
    return f"{name}:{value}" if value else name
