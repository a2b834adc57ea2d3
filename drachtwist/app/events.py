"""What an application may be told of besides requests, and who wants to be told.

An :class:`Event` is one kind of fact: a connection is up, a call is over. It may have any number
of handlers, plain functions, functions that return Deferreds, or coroutine functions; what they
return is not used, and a failure of theirs is logged and hurts nobody else. The parts of the
application layer emit an event without knowing who listens; where the fact is costly to find out,
they look at :attr:`Event.handlers` first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, ParamSpec

from twisted.internet.interfaces import IAddress

from drachtwist.app.call_records import CallRecord, CallSummary
from drachtwist.app.dialog_info import DialogState
from drachtwist.app.handlers import AnyHandler, call_logged
from drachtwist.app.mistakes import no_handler
from drachtwist.app.ports import CallTeller
from drachtwist.net.protocol import DrachtioProtocol

__all__ = ["CDR_EVENTS", "Event", "Events"]

P = ParamSpec("P")

CDR_EVENTS = ("attempt", "start", "stop")
"""The kinds of call detail records."""


class Event(Generic[P]):
    """One kind of fact, and the handlers that are called with each.

    :param what: how the log names it.
    """

    __slots__ = ("_what", "handlers")

    def __init__(self, what: str) -> None:
        self._what = what
        self.handlers: tuple[Callable[..., Any], ...] = ()
        """Who is called; empty when nobody wants to know."""

    def add(self, handler: AnyHandler) -> AnyHandler:
        """Call one more handler from now on.

        :returns: the handler, for decorators.
        """
        if not callable(handler):
            raise no_handler(handler)
        self.handlers += (handler,)
        return handler

    def emit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Call all handlers, in the order in which they were added.

        A handler may add another one, for the next time.
        """
        for handler in self.handlers:
            call_logged(self._what, handler, *args, **kwargs)


class Events:
    """The events of an application."""

    def __init__(self) -> None:
        self.calls: CallTeller | None = None
        """Who writes in the log what has become of calls."""
        self.connect: Event[[DrachtioProtocol]] = Event("connect event")
        """A server accepted us."""
        self.ready: Event[[DrachtioProtocol]] = Event("ready event")
        """A server took our routes."""
        self.close: Event[[DrachtioProtocol]] = Event("close event")
        """A connection that was up is gone."""
        self.error: Event[[Exception]] = Event("error event")
        """Connecting or listening failed."""
        self.reconnecting: Event[[float]] = Event("reconnecting event")
        """Seconds until the next attempt to connect."""
        self.listening: Event[[IAddress]] = Event("listening event")
        """A listener is bound."""
        self.dialog_state: Event[[DialogState]] = Event("dialog state event")
        """What a call has come to (RFC 4235)."""
        self.call_summary: Event[[CallSummary]] = Event("call summary event")
        """A call is over."""
        self.cdr: dict[str, Event[[CallRecord]]] = {
            event: Event(f"{event} record") for event in CDR_EVENTS
        }
        """Call detail records, by kind."""
