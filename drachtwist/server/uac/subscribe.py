"""A SUBSCRIBE of this side, and the end of its subscription (RFC 6665).

A NOTIFY may come before the answer to its SUBSCRIBE (section 4.1.2.4): it waits until that is
there. A subscription that the application ends has one more NOTIFY to come; the real server keeps
one for ever whose last NOTIFY never comes, here it has its time (Timer N).
"""

from __future__ import annotations

from drachtwist.server.clients import AppLink
from drachtwist.server.dialogs import Dialog, DialogState
from drachtwist.server.incoming import Incoming
from drachtwist.server.uac.dialog import make_dialog
from drachtwist.server.uac.request import ClientSide, SentRequest
from drachtwist.sip.message import Response
from drachtwist.transactions.timer import Timer

__all__ = ["SentSubscribe"]

_MAX_HELD = 8
"""How many NOTIFYs may wait for the answer to a SUBSCRIBE."""


class SentSubscribe(SentRequest):
    """A SUBSCRIBE, until nothing can happen to it any more."""

    __slots__ = ("_alarm", "_held")

    _alarm: Timer | None
    """When the last NOTIFY has to be there."""
    _held: list[Incoming] | None
    """NOTIFYs that came before the answer."""

    def __init__(self, side: ClientSide, link: AppLink | None, method: str = "SUBSCRIBE") -> None:
        super().__init__(side, link, method)
        self._alarm = None
        self._held = None

    def hold(self, incoming: Incoming) -> bool:
        """Let a NOTIFY wait for the answer; say whether there is room for it."""
        if self._held is None:
            self._held = []
        if len(self._held) >= _MAX_HELD:
            return False
        self._held.append(incoming)
        return True

    def accepted(self, response: Response) -> None:
        """Make the subscription, or refresh it."""
        dialog = self.dialog
        super().accepted(response)
        if (dialog is None or dialog.early) and response.status in (200, 202):
            side = self.instead or self.source[0]
            make_dialog(self.core, self, response, side, DialogState.CONFIRMED)

    def settled(self, status: int) -> None:
        """End a subscription that was to end, and let in the NOTIFYs that waited."""
        super().settled(status)
        dialog = self.dialog
        if (
            dialog is not None
            and dialog.method == "SUBSCRIBE"
            and not dialog.is_uas
            and (self.request.get("Expires") or "").strip() == "0"
        ):
            self._unsubscribed(dialog, status)
        held, self._held = self._held, None
        for incoming in held or ():
            self.core.uas.admit(incoming)

    def _unsubscribed(self, dialog: Dialog, status: int) -> None:
        """End a subscription with its last NOTIFY, which has its time to come."""
        core = self.core
        if status < 300:
            self._alarm = alarm = Timer(self, core.clock.seconds() + core.timing.lifetime)
            core.clock.watch(alarm)
        elif status not in (401, 407):
            core.uas.end(dialog)

    def overdue(self) -> None:
        """End the subscription: its last NOTIFY did not come."""
        self._alarm = None
        if self.dialog is not None:
            self.core.uas.end(self.dialog)
