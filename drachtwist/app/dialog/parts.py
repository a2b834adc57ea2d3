"""What the parts of a dialog ask of it, beyond what it is.

Its end (:mod:`.ending`), what comes in (:mod:`.incoming`), offers of the peer (:mod:`.offers`) and
re-INVITEs (:mod:`.reinvites`) know a dialog as this; only its face (:mod:`.face`), where all of it
meets, knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from drachtwist.app.dialog.core import DialogCore
from drachtwist.app.dialog.listener import Listener
from drachtwist.app.dialog.ports import OpenInvites
from drachtwist.app.dialog.state import DialogEnd
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.session_timers import SessionTimer
from drachtwist.sip.headers import HeadersLike

__all__ = ["DialogParts"]


class DialogParts(DialogCore, Listener):
    """A dialog, as its parts see it."""

    __slots__ = ()

    def ack(self, sdp: bytes | str = b"", *, headers: HeadersLike = None) -> None:
        """Send the ACK that is owed."""
        raise NotImplementedError

    def _need_reinvites(self) -> OpenInvites:
        """Return the re-INVITEs; make them, if there were none so far."""
        raise NotImplementedError

    def _run(self, handlers: Sequence[Callable[..., Any]], req: Request, /) -> None:
        """Run handlers that have to answer a request."""
        raise NotImplementedError

    def _last_answered(self, result: ReceivedResponse | Exception, /) -> None:
        """Note what came of the request that was to end the dialog."""
        raise NotImplementedError

    def _over(self, end: DialogEnd, req: Request | None = None, text: str = "", /) -> None:
        """End the dialog."""
        raise NotImplementedError

    @property
    def _timer(self) -> SessionTimer | None:
        """What was agreed on about the session timer; None for no timer."""
        raise NotImplementedError

    @_timer.setter
    def _timer(self, timer: SessionTimer | None) -> None:
        raise NotImplementedError
