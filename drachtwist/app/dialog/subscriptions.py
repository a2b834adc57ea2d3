"""What is subscribed to in a dialog (RFC 6665).

A dialog that a SUBSCRIBE made may carry several subscriptions, each with a package and perhaps an
id (section 4.4.1). The first is that of the SUBSCRIBE; others come when the application accepts a
SUBSCRIBE in the dialog. Servers forget the dialog with the first that is terminated.
"""

from __future__ import annotations

__all__ = ["Subscriptions", "key_of"]


class Subscriptions:
    """The subscriptions of a dialog.

    :param event: the Event header of what made the dialog.
    """

    __slots__ = ("_keys",)

    def __init__(self, event: str | None) -> None:
        self._keys = [key_of(event)]

    @property
    def keys(self) -> tuple[str, ...]:
        """Package and id of each, ``presence`` or ``presence;id=2``, the first one first."""
        return tuple(self._keys)

    def has(self, event: str | None) -> bool:
        """Return whether there is one to this event."""
        return key_of(event) in self._keys

    def accept(self, event: str | None) -> None:
        """Note that one was accepted."""
        key = key_of(event)
        if key not in self._keys:
            self._keys.append(key)


def key_of(event: str | None) -> str:
    """Name a subscription: its package, and the id if there is one (RFC 6665 section 4.4.1)."""
    package, *params = [part.strip() for part in (event or "").split(";")]
    ids = [param for param in params if param.lower().startswith("id=")]
    return ";".join([package, *ids[:1]])
