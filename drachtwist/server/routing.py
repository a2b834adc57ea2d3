"""Which application gets a new request.

A request handler for the method, or for all methods, is used always; only what has none is shared
among the applications that connected and asked for the verb.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Union

from drachtwist.server.clients import AppLink, Clients
from drachtwist.server.config import RequestHandler
from drachtwist.wire.decisions import AppAddress

__all__ = ["OFFERED", "Ask", "Connect", "Give", "Nobody", "Router"]

OFFERED = frozenset(
    ("INVITE", "REGISTER", "MESSAGE", "OPTIONS", "INFO", "NOTIFY", "SUBSCRIBE", "PUBLISH")
)
"""The methods that applications may be given outside of a dialog."""


@dataclass(frozen=True, slots=True)
class Give:
    """Give the request to a connected application."""

    link: AppLink


@dataclass(frozen=True, slots=True)
class Connect:
    """Connect to an application, and give it the request once it has authenticated."""

    address: AppAddress


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask a web application what to do."""

    handler: RequestHandler


@dataclass(frozen=True, slots=True)
class Nobody:
    """Refuse the request: nobody wants it."""


Choice = Union[Give, Connect, Ask, Nobody]  # noqa: UP007 - evaluated on Python 3.10

_NOBODY = Nobody()


class Router:
    """Chooses an application.

    :param handlers: whom to ask or connect to; the first one for a method counts.
    :param clients: who is connected.
    """

    __slots__ = ("_choices", "_clients", "_handlers")

    def __init__(self, handlers: Iterable[RequestHandler], clients: Clients) -> None:
        self._clients = clients
        self._handlers: dict[str, RequestHandler] = {}
        self._choices: dict[str, Connect | Ask] = {}
        for handler in handlers:
            if handler.method not in self._handlers:
                found = Ask(handler) if handler.address is None else Connect(handler.address)
                self._choices[handler.method] = found
                self._handlers[handler.method] = handler

    def handler_for(self, method: str) -> RequestHandler | None:
        """Return who decides about new requests of this method, if anybody but the applications."""
        return self._handlers.get(method) or self._handlers.get("*")

    def choose(self, method: str) -> Choice:
        """Choose who gets a new request of this method."""
        if self._choices:
            found = self._choices.get(method) or self._choices.get("*")
            if found is not None:
                return found
        link = self._clients.pick(method.lower())
        return _NOBODY if link is None else Give(link)
