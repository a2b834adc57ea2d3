"""The dialogs of a connection, by id and role.

A server names a dialog by Call-ID and the From tag of the request that made it, in both roles. An
application that calls itself through one server has two dialogs of one id, therefore, and so have
the two ends of a call that is forwarded to where it came from. What tells them apart is which side
of the dialog the server is on (RFC 3261 section 12): ``uas``, the called one, or ``uac``.

A frame does not name the role, but its message does: what the calling side of a dialog sends has
the tag of the id in its From, what the called side sends has another one there. And where a request
of ours could mean either dialog, From and To say which; a server that does not look at them (the
real one) sends them as they are, so that the right side gets the request all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Literal, Protocol, TypeVar

from drachtwist import sip
from drachtwist.errors import MessageError

__all__ = ["DialogTable", "Ends", "Role", "role_of"]

Role = Literal["uas", "uac"]
"""Which side of a dialog the application is on: it was called, or it called."""

Ends = tuple[str, str]
"""The From and To of our requests in a dialog."""

_TAG = b";from-tag="
_GAP = b"\r\n\r\n"
_SEMICOLON = ord(";")


def role_of(dialog_id: str, raw: bytes, by_server: bool) -> Role | None:
    """Say which of the dialogs of an id a request belongs to.

    :param raw: the request.
    :param by_server: the server sent it to the peer, and only tells us.
    :returns: None for an id that is not made as servers of today make them.
    """
    name = dialog_id.encode("utf-8", "surrogateescape")
    at = name.rfind(_TAG)
    if at < 0:
        return None
    return "uac" if _is_from(raw, name[at + 6 :]) == by_server else "uas"


def _is_from(raw: bytes, tag: bytes) -> bool:
    """Whether the From of a request has this tag.

    Nearly always it is written ``From: ...;tag=...`` on one line, where a look is enough.

    :param tag: the parameter, ``tag=...``.
    """
    start = raw.find(b"\r\nFrom: ")
    end = raw.find(b"\r\n", start + 8)
    if start >= 0 and end >= 0 and raw[end + 2 : end + 3] > b" " and raw.find(_GAP, 0, end) < 0:
        if raw.endswith(tag, start, end) and raw[end - len(tag) - 1] == _SEMICOLON and tag[4:]:
            return True
        if tag[4:].lower() not in raw[start:end].lower():
            return False
    try:
        found = sip.Request.from_bytes(raw).from_.tag or ""
    except MessageError:
        return False
    return found.encode("utf-8", "surrogateescape").lower() == tag[4:].lower()


class Identified(Protocol):
    """What is found by id and role: a dialog."""

    id: str
    type: Role


D = TypeVar("D", bound=Identified)


class DialogTable(Generic[D]):
    """The dialogs of a connection."""

    __slots__ = ("_tables", "shared")

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, D]] = {"uas": {}, "uac": {}}
        self.shared: set[str] = set()
        """The ids that two dialogs have, or had, of which one is left."""

    def __len__(self) -> int:
        return sum(map(len, self._tables.values()))

    def __iter__(self) -> Iterator[D]:
        for table in self._tables.values():
            yield from table.values()

    def add(self, dialog: D) -> None:
        """Make a dialog known."""
        self._tables[dialog.type][dialog.id] = dialog
        if all(dialog.id in table for table in self._tables.values()):
            self.shared.add(dialog.id)

    def remove(self, dialog: D) -> None:
        """Forget a dialog; it is no error when it is not known."""
        table = self._tables[dialog.type]
        if table.get(dialog.id) is dialog:
            del table[dialog.id]
            if self.shared and not any(dialog.id in one for one in self._tables.values()):
                self.shared.discard(dialog.id)

    def get(self, dialog_id: str, role: str | None = None) -> D | None:
        """Find a dialog.

        :param role: ``uas`` or ``uac``; either if None, the called side first.
        """
        if role is not None:
            return self._tables[role].get(dialog_id)
        return self._tables["uas"].get(dialog_id) or self._tables["uac"].get(dialog_id)
