"""Calls whose connection to the server is lost, and that wait for it to come back.

The server of this package keeps the calls of an application that is gone for a while, and lets them
be anybody's who sends the first request in them. So each call gets an OPTIONS when the connection
is there again (RFC 3261 section 11): with it the call is the application's own as before. It also
finds out whether the phone is still in it. Other servers forget whose calls they are, and refuse
what phones send in them; calls on these end with the connection.

A call is kept if nothing is under way in it whose outcome would never be known: the INVITE that
made it, a re-INVITE, its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from drachtwist.app.connection import Connection
from drachtwist.app.dialog_table import DialogIndex, DialogTable
from drachtwist.app.ports import Clock
from drachtwist.app.targets import is_embedded
from drachtwist.errors import ConnectionLost, LocalProtocolError

__all__ = ["Keeper", "Loss"]

_NOT_IN_IT = (408, 481)
"""Answers after which there is no dialog any more (RFC 3261 section 12.2.1.2)."""


class Loss:
    """A lost connection, and its calls.

    :param of: the connection.
    :param dialogs: the calls, which belong to no other table.
    :param reason: why it is lost.
    """

    __slots__ = ("dialogs", "of", "reason", "timer")

    def __init__(self, of: Connection, dialogs: DialogTable[Any], reason: str) -> None:
        self.of = of
        self.dialogs = dialogs
        self.reason = reason
        self.timer: IDelayedCall | None = None


class Keeper:
    """Has the calls of connections that may come back.

    :param seconds: that they wait; None for none at all.
    :param index: of all dialogs, which has these too.
    :param clock: gives what they wait on.
    :param part: called with a connection and dialogs that end there although the server may still
        have them.
    :raises LocalProtocolError: for a time that is none.
    """

    def __init__(
        self,
        seconds: float | None,
        index: DialogIndex[Any],
        clock: Callable[[], Clock],
        part: Callable[[Connection, Iterable[Any]], None],
    ) -> None:
        if seconds is not None and (not isinstance(seconds, int | float) or not seconds > 0):
            raise LocalProtocolError(f"keep_calls is a number of seconds, not {seconds!r}")
        self._seconds = seconds
        self._index = index
        self._clock = clock
        self._part = part
        self._losses: list[Loss] = []

    def __bool__(self) -> bool:
        """Return whether any call waits."""
        return bool(self._losses)

    def take(self, state: Connection, reason: str) -> None:
        """Take calls from a connection that is lost; it knows them no more."""
        link = state.link
        if self._seconds is None or link.outbound or not is_embedded(link.server_version):
            return
        # What both sides of a call to oneself have in common could be mixed up.
        found = [
            dialog
            for dialog in state.dialogs
            if dialog._is_settled and not state.is_ambiguous(dialog.id)
        ]
        if not found:
            return
        loss = Loss(state, DialogTable(self._index), reason)
        for dialog in found:
            state.dialogs.remove(dialog)
            loss.dialogs.add(dialog)
        loss.timer = self._clock().callLater(self._seconds, self._too_late, loss)
        self._losses.append(loss)

    def give_back(self, state: Connection) -> None:
        """Hand calls to a connection to the server that they are on."""
        mine = [one for one in self._losses if one.of.link.host_ports == state.link.host_ports]
        for loss in mine:
            self._drop(loss)
            for dialog in list(loss.dialogs):
                loss.dialogs.remove(dialog)
                dialog._moved(state)
                if dialog.connected:
                    self._ask(state, dialog)
                else:  # it was to be ended meanwhile
                    self._end(state, dialog, loss.reason)

    def give_up(self) -> None:
        """Wait no more."""
        for loss in list(self._losses):
            self._too_late(loss)

    def _drop(self, loss: Loss) -> None:
        self._losses.remove(loss)
        if loss.timer is not None and loss.timer.active():
            loss.timer.cancel()

    def _too_late(self, loss: Loss) -> None:
        self._drop(loss)
        self._part(loss.of, loss.dialogs)
        for dialog in list(loss.dialogs):
            loss.dialogs.remove(dialog)
            dialog._link_lost(ConnectionLost(loss.reason))

    def _ask(self, state: Connection, dialog: Any) -> None:
        """Let the server know whose call it is, and find out whether the phone is in it."""

        def answered(response: Any) -> None:
            if response.status in _NOT_IN_IT and dialog.connected:
                self._end(state, dialog, f"the peer answered {response.status} {response.reason}")

        def failed(failure: Any) -> None:
            if not failure.check(ConnectionLost) and dialog.connected:
                self._end(state, dialog, f"the server does not know it any more: {failure.value}")

        dialog.options().addCallbacks(answered, failed)

    def _end(self, state: Connection, dialog: Any, text: str) -> None:
        self._part(state, [dialog])
        dialog._link_lost(ConnectionLost(text))
