"""What a dialog asks of its re-INVITEs, which know it in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request

__all__ = ["OpenInvites"]


class OpenInvites(Protocol):
    """The re-INVITEs of either side; see :class:`drachtwist.app.dialog.reinvites.Reinvites`."""

    @property
    def is_idle(self) -> bool:
        """Whether none of either side is under way, nor waits."""
        ...

    @property
    def is_sent(self) -> bool:
        """Whether one of ours has no final response."""
        ...

    @property
    def is_under_way(self) -> bool:
        """Whether one of ours has no final response, or is sent as soon as it may be."""
        ...

    @property
    def is_asked(self) -> bool:
        """Whether one of the peer is not answered."""
        ...

    @property
    def due(self) -> Request | None:
        """The one of the peer that is not confirmed; None when there is none."""
        ...

    def add(self, modification: Any) -> Deferred[ReceivedResponse]:
        """Send one of ours when its turn comes."""
        ...

    def confirmed(self) -> None:
        """Send what waits, if nothing is in its way any more."""

    def asked(self, req: Request) -> None:
        """Note that the peer sent one."""

    def accepted(self, req: Request) -> None:
        """Note that one of the peer was accepted, and is to be confirmed."""

    def is_confirmed_by(self, ack: Request) -> bool:
        """Return whether an ACK is that of the one which is to be confirmed."""
        ...

    def take_ack(self, ack: Request) -> None:
        """Note that the one of the peer is confirmed."""

    def when_confirmed(self) -> Deferred[Request]:
        """Wait for the ACK of the peer's that was accepted last."""
        ...

    def stop(self) -> None:
        """Send nothing any more, since the dialog is over."""

    def close(self, make_error: Callable[[], Exception]) -> None:
        """Tell those who wait that nothing comes of it."""
