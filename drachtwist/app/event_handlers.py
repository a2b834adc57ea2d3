"""The face of an application for who wants to be told of its events; see :mod:`.events`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from twisted.internet.interfaces import IAddress

from drachtwist.app.call_records import CallRecord, CallSummary
from drachtwist.app.dialog_info import DialogState
from drachtwist.app.events import CDR_EVENTS, Events
from drachtwist.app.router import Router
from drachtwist.errors import LocalProtocolError
from drachtwist.net.protocol import DrachtioProtocol

__all__ = ["EventHandlers"]

# What is returned as it was given, for decorators: a handler, by what it is told.
_OnLink = TypeVar("_OnLink", bound=Callable[[DrachtioProtocol], object])
_OnError = TypeVar("_OnError", bound=Callable[[Exception], object])
_OnSeconds = TypeVar("_OnSeconds", bound=Callable[[float], object])
_OnAddress = TypeVar("_OnAddress", bound=Callable[[IAddress], object])
_OnCallRecord = TypeVar("_OnCallRecord", bound=Callable[[CallRecord], object])
_OnCallSummary = TypeVar("_OnCallSummary", bound=Callable[[CallSummary], object])
_OnDialogState = TypeVar("_OnDialogState", bound=Callable[[DialogState], object])


class EventHandlers(Router):
    """An application, as far as what it tells is concerned."""

    _events: Events

    def on_connect(self, handler: _OnLink) -> _OnLink:
        """Call a handler with each connection, of either kind, once the server accepted us."""
        return self._events.connect.add(handler)

    def on_ready(self, handler: _OnLink) -> _OnLink:
        """Call a handler with each connection that we made, once the server took our routes.

        From then on it hands over requests; before, they are refused if nobody else is there.
        """
        return self._events.ready.add(handler)

    def on_close(self, handler: _OnLink) -> _OnLink:
        """Call a handler with each connection that was up and is gone."""
        return self._events.close.add(handler)

    def on_error(self, handler: _OnError) -> _OnError:
        """Call a handler with the error when connecting or listening fails; repeats are spared."""
        return self._events.error.add(handler)

    def on_reconnecting(self, handler: _OnSeconds) -> _OnSeconds:
        """Call a handler with the seconds until the next attempt to connect."""
        return self._events.reconnecting.add(handler)

    def on_listening(self, handler: _OnAddress) -> _OnAddress:
        """Call a handler with the address of each listener that is bound."""
        return self._events.listening.add(handler)

    def on_cdr(self, event: str) -> Callable[[_OnCallRecord], _OnCallRecord]:
        """Decorate a handler of call detail records: it gets a :class:`CallRecord`.

        :param event: ``attempt``, ``start`` or ``stop``. There may be several handlers for each.
        :raises LocalProtocolError: for any other event.
        """
        if event not in CDR_EVENTS:
            raise LocalProtocolError(f"no CDR event: {event!r}")

        def decorate(handler: _OnCallRecord) -> _OnCallRecord:
            self._events.cdr[event].add(handler)
            self._changed()
            return handler

        return decorate

    def on_call_summary(self, handler: _OnCallSummary) -> _OnCallSummary:
        """Call a handler with a :class:`CallSummary` when a call is over.

        It joins the call detail records of the call, with durations. The server then reports all of
        them to this application.
        """
        self._events.call_summary.add(handler)
        self._changed()
        return handler

    def on_dialog_state(self, handler: _OnDialogState) -> _OnDialogState:
        """Call a handler with a :class:`DialogState` for each state of each call (RFC 4235)."""
        return self._events.dialog_state.add(handler)
