"""The connections of an application: made, waited for, kept in a table, drained, closed.

There are two kinds. To some servers the application connects itself, and again whenever the
connection is lost; it offers them routes. Others connect to it, for one request each; such a
connection is closed a moment after the last transaction and dialog on it is over, unless it is
held. What lives on one that is up is in its :class:`~drachtwist.app.connection.Connection`.

Stopping has two steps (:class:`Phase`). First nothing new is taken: routes are withdrawn and
listeners closed, while calls may end by themselves for as long as the application gives them. Then
what is left is ended, and once the peers have answered, or had their time, everything is closed.
Afterwards the application may connect and listen again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IReactorTime,
)

from drachtwist.app.authentication import Nonces
from drachtwist.app.connection import CURRENT, Connection
from drachtwist.app.dialog_table import DialogIndex, Ends
from drachtwist.app.early import EarlyDialogs
from drachtwist.app.events import Events
from drachtwist.app.keeping import Keeper
from drachtwist.app.lifecycle import Lifecycle
from drachtwist.app.outgoing import Farewell
from drachtwist.app.server_endpoints import ServerEndpoints
from drachtwist.errors import ConnectionFailed, ConnectionLost, LocalProtocolError
from drachtwist.net.logs import Logger
from drachtwist.net.observers import Observers
from drachtwist.net.protocol import (
    DrachtioProtocol,
    LinkHandler,
)
from drachtwist.net.steady import steady
from drachtwist.net.tap import FrameTap
from drachtwist.net.tasks import from_coroutine
from drachtwist.tracing.trace import Trace

__all__ = ["MAX_ORPHANS", "STOP_TIMEOUT", "UNUSED_TIMEOUT", "Connections", "Phase"]

_log = Logger(namespace="drachtwist.app.connections")

MAX_ORPHANS = 10_000
"""Dialogs that are remembered for each server when the connection is lost; the newest are kept."""

UNUSED_TIMEOUT = 64.0
"""Seconds after which a server has forgotten the request that it opened a connection for."""

STOP_TIMEOUT = 5.0
"""Seconds that the peers have to answer the BYEs of an application that stops."""


class Phase(Enum):
    """How far an application has come with stopping."""

    RUNNING = "it takes requests"
    LEAVING = "nothing new is taken; what there is may end by itself"
    CLOSING = "what there is is ended"


# They are asked for with every message; up to Python 3.11 a look into an Enum takes a call.
_RUNNING, _CLOSING = Phase.RUNNING, Phase.CLOSING

TRANSITIONS: Mapping[Phase, Mapping[Phase, str]] = {
    Phase.RUNNING: {Phase.LEAVING: "stop() is called"},
    Phase.LEAVING: {
        Phase.CLOSING: "all calls have ended, or had the time that they were given",
        Phase.RUNNING: "stopping fails, which is logged",
    },
    Phase.CLOSING: {Phase.RUNNING: "every connection is closed"},
}
"""Which phase may follow which, and when; nothing is skipped when there are no calls."""


class Connections:
    """All connections of an application, and what they share.

    :param srf: the application, which requests and dialogs show as theirs.
    :param reactor: the reactor; the global one when it is needed first, if None.
    :param tags: what servers may know the application by, unless a connection has its own.
    :param events: told of what happens.
    :param settings: those of the application.
    :param on_phase: called when the phase has changed, except to :attr:`Phase.CLOSING`.
    :param keep_calls: seconds that calls wait for a lost connection; None for not at all.
    :raises LocalProtocolError: for a time that is none.
    """

    handler: LinkHandler
    """Told what the connections report: the dispatcher, which passes on what belongs here."""

    def __init__(
        self,
        srf: Any,
        reactor: Any,
        tags: Sequence[str],
        events: Events,
        settings: dict[str, Any],
        on_phase: Callable[[], None],
        keep_calls: float | None = None,
    ) -> None:
        self.srf = srf
        self.events = events
        self.settings = settings
        self.early_dialogs = EarlyDialogs()
        self.dialogs: DialogIndex[Any] = DialogIndex()
        """The dialogs of all connections."""
        self.nonces = Nonces()
        """Challenges that were answered, of all connections."""
        self.table: dict[DrachtioProtocol, Connection] = {}
        """The connections that are up, the oldest first."""
        self.phase = _RUNNING
        self.routes: tuple[str, ...] = ()
        """What the servers that we connect to are asked for."""
        self.tags = tags
        self._reactor = reactor
        self._clock: IReactorTime | None = None
        self._on_phase = on_phase
        self.endpoints = ServerEndpoints(self)
        """What connects, and what listens."""
        self.trace: Trace | None = None
        """Who is told which Call-IDs belong to one call, if anybody is."""
        self._tap: FrameTap | None = None
        # Dialogs that outlived their connection, by server.
        self._orphans: dict[tuple[str, ...], list[tuple[str, Ends | None]]] = {}
        self.lifecycle = Lifecycle(lambda: self.reactor)
        """What is opened before anything is connected, and closed behind that."""
        self._keeper = Keeper(keep_calls, self.dialogs, lambda: self.clock, self._part)
        self._draining: Deferred[None] | None = None
        self._until_idle: Observers[None] = Observers()
        self._until_gone: Observers[None] = Observers()
        self._until_stopped: Observers[None] = Observers()

    @property
    def reactor(self) -> Any:
        """The reactor."""
        if self._reactor is None:
            from twisted.internet import reactor

            self._reactor = reactor
        return self._reactor

    @property
    def clock(self) -> IReactorTime:
        """What deadlines hang on: see :attr:`drachtwist.app.srf.Srf.clock`."""
        if self._clock is None:
            self._clock = steady(self.reactor)
        return self._clock

    def run_on(self, reactor: Any) -> Any:
        """Go by another reactor from now on.

        :param reactor: None for the global one, when it is needed.
        :returns: the one before; None if that was not needed yet.
        :raises LocalProtocolError: when there are connections that hang on the one before.
        """
        if self.table or self.endpoints.made or self.endpoints.listeners:
            raise LocalProtocolError("the application is connected: its reactor stays")
        before, self._reactor, self._clock = self._reactor, reactor, None
        return before

    def offer(self, routes: tuple[str, ...]) -> None:
        """Ask the servers that we connect to for other requests from now on.

        :param routes: the methods in small letters, and ``cdr:attempt`` and the like.
        """
        if routes == self.routes:
            return
        self.routes = routes
        for state in self.table.values():
            if not state.link.outbound:
                state.link.set_routes(routes)

    def look(self, tap: FrameTap | None) -> None:
        """Let somebody look at the frames of all connections, or nobody."""
        self._tap = tap
        for link in self.table:
            link.tap = tap

    # Up and down

    def link_up(self, link: DrachtioProtocol) -> None:
        """A server accepted us."""
        link.tap = self._tap
        state = self.table[link] = Connection(self, link)
        if link.outbound:
            if not self.endpoints.listeners and self.phase is not Phase.LEAVING:
                link.close()  # too late, we have stopped
                return
            state.idle_call = self.clock.callLater(UNUSED_TIMEOUT, self._close_unused, state)
        else:
            link.set_routes(self.routes)  # they may have changed meanwhile
        self._keeper.give_back(state)
        # Whoever is still in a call of the connection that was lost would stay in it for ever.
        for dialog_id, ends in self._orphans.pop(link.host_ports, ()):
            Farewell(state, dialog_id, ends).send()
        self.events.connect.emit(link)

    def link_down(self, link: DrachtioProtocol, reason: Exception) -> bool:
        """A connection is gone: so are its transactions and dialogs.

        :returns: whether it was up.
        """
        state = self.table.pop(link, None)
        if state is None:
            return False
        if state.idle_call is not None and state.idle_call.active():
            state.idle_call.cancel()
        if not state.leaving:
            self._keeper.take(state, str(reason))
            self._remember(state, state.dialogs)
        state.lost(str(reason))
        return True

    def link_gone(self, link: DrachtioProtocol) -> None:
        """Everybody whom a lost connection concerned knows."""
        self.events.close.emit(link)
        self._check_idle()
        if not self.table:
            self._until_gone.fire(None)

    def _remember(self, state: Connection, dialogs: Iterable[Any]) -> None:
        """Remember the calls that a server may still be in, to end them when it is there again."""
        orphans = [
            (dialog.id, dialog._ends() if state.is_ambiguous(dialog.id) else None)
            for dialog in dialogs
            if dialog.dialog_type == "INVITE"
        ]
        if orphans:
            kept = self._orphans.setdefault(state.link.host_ports, [])
            kept += orphans
            del kept[:-MAX_ORPHANS]

    def _part(self, state: Connection, dialogs: Iterable[Any]) -> None:
        """End calls that a server may still be in, at once if it is there."""
        if state.link in self.table:
            for dialog in dialogs:
                Farewell(state, dialog.id).send()
        else:
            self._remember(state, dialogs)

    def find(self, of: Any) -> Connection:
        """Find the connection to send on.

        :param of: something with a ``link``; None for that of the request being handled if a server
            made it, otherwise the first one that we made, otherwise the only one.
        :raises ConnectionFailed: when there is none.
        :raises ConnectionLost: when it is gone.
        :raises LocalProtocolError: when servers have made several, and it may be any of them.
        """
        table = self.table
        if of is not None:
            state = table.get(getattr(of, "link", of))
            if state is None:
                raise ConnectionLost("the connection is gone")
            return state
        current = CURRENT.get()
        if current is not None and table.get(current.link) is current:
            return current
        for state in table.values():
            if not state.link.outbound:
                return state
        if len(table) > 1:
            raise LocalProtocolError(
                "several servers have connected: say which with link= (a request, a dialog, ...)"
            )
        for state in table.values():
            return state
        raise ConnectionFailed("there is no connection to a server")

    # Outbound connections, used and unused

    def end(self, link: DrachtioProtocol) -> None:
        """Close an outbound connection once everything is written."""
        state = self.table.get(link)
        if state is not None and link.outbound:
            state.leaving = True
            link.close()

    def hold(self, link: DrachtioProtocol) -> None:
        """Keep a connection open although nothing uses it."""
        state = self.table.get(link)
        if state is not None:
            state.held = True

    def release(self, link: DrachtioProtocol) -> None:
        """Undo :meth:`hold`."""
        state = self.table.get(link)
        if state is not None:
            state.held = False
            if state.is_idle:
                self.unused(state)

    def unused(self, state: Connection) -> None:
        """Nothing uses a connection any more."""
        if state.link.outbound and not state.held and state.link in self.table:
            # Not at once: what came in the same read may use it again.
            self.clock.callLater(0, self._close_unused, state)
        if self._until_idle:
            self._check_idle()

    def _close_unused(self, state: Connection) -> None:
        if state.idle_call is not None and not state.idle_call.active():
            state.idle_call = None
        if state.is_idle and not state.held and state.link in self.table:
            state.link.close()

    # The end

    @property
    def is_stopping(self) -> bool:
        """Whether nothing new is taken."""
        return self.phase is not _RUNNING

    @property
    def is_closing(self) -> bool:
        """Whether what there is is ended."""
        return self.phase is _CLOSING

    @property
    def is_draining(self) -> bool:
        """Whether calls are given time to end by themselves."""
        return self._draining is not None

    @property
    def is_idle(self) -> bool:
        """Whether no transaction and no dialog is open."""
        return not self._keeper and all(state.is_idle for state in self.table.values())

    def stop(self, drain: float) -> Deferred[None]:
        """Take nothing new, end what there is, close everything.

        :param drain: seconds that calls get to end by themselves; without any, the time that an
            earlier call gave them is over.
        :returns: fires when everything is closed.
        """
        over = self._until_stopped.wait()
        draining = self._draining
        if draining is not None and not drain:
            self._until_idle.remove(draining)
            draining.callback(None)
        if self.phase is _RUNNING:
            self._enter(Phase.LEAVING)
            from_coroutine(self._stop(drain)).addErrback(
                lambda failure: _log.failure("failed to stop", failure)
            ).addCallback(self._stopped)
        return over

    async def _stop(self, drain: float) -> None:
        self._on_phase()
        await self.endpoints.stop_listening()
        if drain > 0 and not self.is_idle:
            self._draining = self._idle_within(drain)
            await self._draining
            self._draining = None
        self._enter(_CLOSING)
        self._keeper.give_up()
        for state in list(self.table.values()):
            state.hang_up()
        await self._idle_within(STOP_TIMEOUT)
        closing = self.endpoints.stop_connecting()
        for state in list(self.table.values()):
            state.leaving = True
            state.link.close()
        timer = self.clock.callLater(STOP_TIMEOUT, self._abort)
        await closing
        if self.table:
            await self._until_gone.wait()
        if timer.active():
            timer.cancel()
        await self.lifecycle.stop()

    def _enter(self, phase: Phase) -> None:
        assert phase in TRANSITIONS[self.phase], f"{phase} does not follow {self.phase}"
        self.phase = phase

    def _abort(self) -> None:
        """Close connections that cannot be closed in order: nobody reads what was written."""
        for link in list(self.table):
            link.abort()

    def _stopped(self, _: object) -> None:
        self._enter(_RUNNING)
        self._on_phase()
        self._until_stopped.fire(None)

    def _idle_within(self, seconds: float) -> Deferred[None]:
        """Wait until no transaction and no dialog is open, but not for ever."""
        if self.is_idle:
            return succeed(None)
        idle = self._until_idle.wait()

        def give_up() -> None:
            if idle in self._until_idle:
                self._until_idle.remove(idle)
                idle.callback(None)

        timer = self.clock.callLater(seconds, give_up)

        def over(_: None) -> None:
            if timer.active():
                timer.cancel()

        return idle.addCallback(over)

    def _check_idle(self) -> None:
        if self._until_idle and self.is_idle:
            self._until_idle.fire(None)
