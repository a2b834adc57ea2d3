"""The applications that are connected, and what each of them wants.

Requests are shared by registrations, not by connections: whoever routed a verb twice gets two turns
per round. ``remove_route`` takes all registrations of a connection away, whatever verb it names,
as the real server does; applications count on neither, but see the effects of both.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

__all__ = ["AppLink", "Clients"]


class AppLink(Protocol):
    """A connection to an application, as the server's core sees it."""

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that the application gave."""
        ...

    @property
    def paused(self) -> bool:
        """Whether it does not read as fast as it is written to."""
        ...

    @property
    def behind(self) -> bool:
        """Whether it is so far behind that it should get nothing new."""
        ...

    def send(self, payload: bytes) -> None:
        """Send a frame."""

    def answer(self, message_id: str, verdict: str, *tokens: str, raw: bytes = b"") -> None:
        """Answer a command."""

    def refuse(self, message_id: str, text: str) -> None:
        """Answer ``NO``, and close the connection."""


class Clients:
    """Which connections there are, and whose turn it is for a verb."""

    __slots__ = ("_links", "_turns")

    def __init__(self) -> None:
        # Connections do anything but compare equal; they are told apart by identity.
        self._links: set[AppLink] = set()
        self._turns: dict[str, deque[AppLink]] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __contains__(self, link: object) -> bool:
        """Return whether the connection is alive."""
        return link in self._links

    def add(self, link: AppLink) -> None:
        """Take note of a connection; commands count before authentication too."""
        self._links.add(link)

    def remove(self, link: AppLink) -> None:
        """Forget a connection that is gone."""
        self._links.discard(link)
        self.unroute(link)

    def route(self, link: AppLink, verb: str) -> None:
        """Register a verb; nothing checks that it exists, and capitals never match."""
        self._turns.setdefault(verb, deque()).append(link)

    def unroute(self, link: AppLink) -> None:
        """Forget all registrations of a connection."""
        for verb in list(self._turns):
            left = deque(item for item in self._turns[verb] if item is not link)
            if left:
                self._turns[verb] = left
            else:
                del self._turns[verb]

    def pick(self, verb: str, tag: str | None = None) -> AppLink | None:
        """Say whose turn it is, and move on.

        One that is slower than it is written to is passed over, unless all are; one that is far
        behind gets nothing.

        :param tag: only connections with this tag.
        """
        turns = self._turns.get(verb)
        if turns is None:
            return None
        otherwise = None
        for _ in range(len(turns)):
            link = turns[0]
            turns.rotate(-1)
            if tag is None or tag in link.tags:
                if not link.paused:
                    return link
                if otherwise is None and not link.behind:
                    otherwise = link
        return otherwise

    def are_behind(self, verb: str) -> bool:
        """Return whether there are some who want it, but all of them are far behind."""
        turns = self._turns.get(verb, ())
        return bool(turns) and all(link.behind for link in turns)
