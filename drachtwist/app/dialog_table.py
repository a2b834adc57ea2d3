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

from collections.abc import Container, Iterator
from typing import Generic, Literal, Protocol, TypeVar

from drachtwist import sip
from drachtwist.errors import MessageError

__all__ = ["DialogIndex", "DialogTable", "Ends", "Role", "role_of"]

Role = Literal["uas", "uac"]
"""Which side of a dialog the application is on: it was called, or it called."""

Ends = tuple[str, str]
"""The From and To of our requests in a dialog."""

_TAG = b";from-tag="
_GAP = b"\r\n\r\n"


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
    return "uac" if _is_from(raw, name[at + len(_TAG) :]) == by_server else "uas"


def _is_from(raw: bytes, tag: bytes) -> bool:
    """Return whether the From of a message has this tag.

    Nearly always it is written ``From: ...;tag=...`` on one line, where a look is enough.
    """
    start = raw.find(b"\r\nFrom: ")
    end = raw.find(b"\r\n", start + 8)
    if start >= 0 and end >= 0 and raw[end + 2 : end + 3] > b" " and raw.find(_GAP, 0, end) < 0:
        if tag and raw.endswith(b";tag=" + tag, start, end):
            return True
        if tag.lower() not in raw[start:end].lower():
            return False
    try:
        found = sip.Request.from_bytes(raw).from_.tag or ""
    except MessageError:
        return False
    return found.encode("utf-8", "surrogateescape").lower() == tag.lower()


class Identified(Protocol):
    """What is found by id and role: a dialog."""

    id: str
    type: Role


D = TypeVar("D", bound=Identified)


class DialogIndex(Generic[D]):
    """The dialogs of all connections, by id; there may be one for each call."""

    __slots__ = ("_dialogs",)

    def __init__(self) -> None:
        # Nearly always there is one of an id; several are those of a call that comes back here.
        self._dialogs: dict[str, D | list[D]] = {}

    def add(self, dialog: D) -> None:
        """Make a dialog known."""
        found = self._dialogs.get(dialog.id)
        if found is None:
            self._dialogs[dialog.id] = dialog
        elif isinstance(found, list):
            found.append(dialog)
        else:
            self._dialogs[dialog.id] = [found, dialog]

    def remove(self, dialog: D) -> None:
        """Forget a dialog; it is no error when it is not known."""
        found = self._dialogs.get(dialog.id)
        if found is dialog:
            del self._dialogs[dialog.id]
        elif isinstance(found, list) and dialog in found:
            found.remove(dialog)
            if len(found) == 1:
                self._dialogs[dialog.id] = found[0]

    def find(self, dialog_id: str, role: str | None = None) -> D | None:
        """Find a dialog, the oldest of several.

        :param role: ``uas`` or ``uac``; either if None, the called side first.
        """
        found = self._dialogs.get(dialog_id)
        several: list[D] = found if isinstance(found, list) else [] if found is None else [found]
        for wanted in ("uas", "uac") if role is None else (role,):
            for dialog in several:
                if dialog.type == wanted:
                    return dialog
        return None


class DialogTable(Generic[D]):
    """The dialogs of a connection.

    :param index: that of all connections, which has these too.
    """

    __slots__ = ("_everywhere", "_index", "_uac", "_uas", "shared")

    def __init__(self, index: DialogIndex[D] | None = None) -> None:
        self._index: DialogIndex[D] = DialogIndex() if index is None else index
        self._everywhere = self._index._dialogs
        self._uas: dict[str, D] = {}
        self._uac: dict[str, D] = {}
        self.shared: set[str] = set()
        """The ids that two dialogs have, or had, of which one is left."""

    def __len__(self) -> int:
        return len(self._uas) + len(self._uac)

    def __iter__(self) -> Iterator[D]:
        yield from self._uas.values()
        yield from self._uac.values()

    def add(self, dialog: D) -> None:
        """Make a dialog known."""
        if dialog.type == "uas":
            mine, others = self._uas, self._uac
        else:
            mine, others = self._uac, self._uas
        id = dialog.id
        before = mine.get(id)
        if before is not None:
            self._index.remove(before)
        mine[id] = dialog
        # As nearly always it is the only one of its id; the index does the rest.
        if self._everywhere.setdefault(id, dialog) is not dialog:
            self._index.add(dialog)
        if id in others:
            self.shared.add(id)

    def remove(self, dialog: D) -> None:
        """Forget a dialog; it is no error when it is not known."""
        if dialog.type == "uas":
            mine, others = self._uas, self._uac
        else:
            mine, others = self._uac, self._uas
        id = dialog.id
        if mine.get(id) is dialog:
            del mine[id]
            if self._everywhere.get(id) is dialog:
                del self._everywhere[id]
            else:
                self._index.remove(dialog)
            if self.shared and id not in others:
                self.shared.discard(id)

    def get(self, dialog_id: str, role: str | None = None) -> D | None:
        """Find a dialog.

        :param role: ``uas`` or ``uac``; either if None, the called side first.
        """
        if role is None:
            return self._uas.get(dialog_id) or self._uac.get(dialog_id)
        return (self._uas if role == "uas" else self._uac).get(dialog_id)

    def find(
        self, dialog_id: str, raw: bytes, by_server: bool, calling: Container[str]
    ) -> D | None:
        """Find the dialog that a request belongs to; see :func:`role_of`.

        Where nobody calls himself it is the only one of that id, and its message is not looked at.
        A calling side alone is no sign of that: what comes may be for a called one that has ended.
        A called side alone is, as its dialog begins before that of the calling side.

        :param calling: the ids of the calls of ours that ring.
        """
        called = self._uas.get(dialog_id)
        if called is not None and dialog_id not in self.shared and dialog_id not in calling:
            return called
        if called is None and dialog_id not in self._uac:
            return None
        return self.get(dialog_id, role_of(dialog_id, raw, by_server))
