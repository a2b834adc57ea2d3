"""Handlers of what comes in a dialog, by method, or by what a request means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

from drachtwist.app.handlers import AnyHandler
from drachtwist.app.interfaces import AnyRequestHandler, AnyTold
from drachtwist.app.mistakes import no_handler, no_method
from drachtwist.app.request import Request

__all__ = ["Listener"]


class Listener:
    """Has handlers for the requests of a peer."""

    __slots__ = ()

    # By method, or by name of the event ("hold", ...), which is in lower case; None for none.
    _handlers: dict[str, tuple[Callable[..., Any], ...]] | None

    @overload
    def on_request(self, method: str) -> Callable[[AnyRequestHandler], AnyRequestHandler]: ...

    @overload
    def on_request(self, method: str, handler: AnyRequestHandler) -> AnyRequestHandler: ...

    def on_request(self, method: str, handler: Any = None) -> Any:
        """Call a handler, with (req, res), for each request of a method; it has to answer.

        Without a handler it decorates one: ``@dialog.on_request("FOO")``.

        The handlers of INVITE (:meth:`on_modify`) and UPDATE see what changes the session; they
        are not asked when :meth:`on_hold`, :meth:`on_unhold` or :meth:`on_refresh` fits better.
        """
        if not isinstance(method, str):
            raise no_method(method)
        if handler is None:
            return lambda handler: self._add(method.upper(), handler)
        return self._add(method.upper(), handler)

    def on_info(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle INFO requests: ``handler(req, res)``."""
        return self._add("INFO", handler)

    def on_message(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle MESSAGE requests: ``handler(req, res)``."""
        return self._add("MESSAGE", handler)

    def on_notify(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle NOTIFY requests: ``handler(req, res)``."""
        return self._add("NOTIFY", handler)

    def on_options(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle OPTIONS requests: ``handler(req, res)``."""
        return self._add("OPTIONS", handler)

    def on_prack(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle PRACK requests: ``handler(req, res)``."""
        return self._add("PRACK", handler)

    def on_publish(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle PUBLISH requests: ``handler(req, res)``."""
        return self._add("PUBLISH", handler)

    def on_refer(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle REFER requests: ``handler(req, res)``."""
        return self._add("REFER", handler)

    def on_subscribe(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle SUBSCRIBE requests that keep a subscription alive: ``handler(req, res)``."""
        return self._add("SUBSCRIBE", handler)

    def on_unsubscribe(self, handler: AnyTold) -> AnyTold:
        """Call ``handler(req)`` when the peer ends a subscription, which is accepted already.

        A last NOTIFY is due (:meth:`destroy` sends it).
        """
        return self._add("unsubscribe", handler)

    def on_update(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle UPDATE requests: ``handler(req, res)``."""
        return self._add("UPDATE", handler)

    def on_modify(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle re-INVITEs: ``handler(req, res)``."""
        return self._add("INVITE", handler)

    def on_refresh(self, handler: AnyTold) -> AnyTold:
        """Call ``handler(req)`` for re-INVITEs that change nothing, which are accepted already."""
        return self._add("refresh", handler)

    def on_hold(self, handler: AnyTold) -> AnyTold:
        """Call ``handler(req)`` when the peer wants no media, which is accepted already."""
        return self._add("hold", handler)

    def on_unhold(self, handler: AnyTold) -> AnyTold:
        """Call ``handler(req)`` when the peer wants media again, which is accepted already."""
        return self._add("unhold", handler)

    def _need_handlers(self) -> dict[str, tuple[Callable[..., Any], ...]]:
        raise NotImplementedError

    def _add(self, event: str, handler: AnyHandler) -> AnyHandler:
        if not callable(handler):
            raise no_handler(handler)
        handlers = self._need_handlers()
        handlers[event] = (*handlers.get(event, ()), handler)
        return handler

    def _handlers_of(self, event: str) -> tuple[Callable[..., Any], ...]:
        return () if self._handlers is None else self._handlers.get(event, ())

    def _tell(self, event: str, req: Request) -> None:
        """Call handlers that answer nothing; a failure of theirs is logged."""
        for handler in self._handlers_of(event):
            req._call(handler, req)
