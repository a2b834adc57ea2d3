"""What the peer of a dialog is told in NOTIFYs, one after the other."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from drachtwist.app.outgoing import encode_in_dialog
from drachtwist.app.received import ReceivedResponse
from drachtwist.errors import DrachtwistError
from drachtwist.net.observers import Observers
from drachtwist.sip.headers import HeadersLike

__all__ = ["NotifyQueue"]


class Sender(Protocol):
    """The dialog, as far as it sends requests."""

    def _new_request(self, method: str, /) -> Any:
        """Make a request that is sent later."""
        ...

    def _send(self, request: Any, headers: HeadersLike, body: bytes | str, /) -> Any:
        """Send a NOTIFY that was queued."""
        ...


class NotifyQueue:
    """NOTIFYs of one dialog, each of which is sent once the peer has answered the one before.

    It would have to refuse one that a later one has overtaken (RFC 3261 section 12.2.2), and each
    that comes behind the BYE. When one is not answered at all those behind it are not sent.
    """

    __slots__ = ("_dialog", "_queue", "_until_empty")

    def __init__(self, dialog: Sender) -> None:
        self._dialog = dialog
        self._queue: deque[tuple[HeadersLike, str]] = deque()  # the first is on its way
        self._until_empty: Observers[None] = Observers()

    @property
    def is_empty(self) -> bool:
        """Whether the peer has answered everything."""
        return not self._queue

    def when_empty(self) -> Deferred[None]:
        """Wait until it has; fails when the dialog ends first."""
        if self.is_empty:
            return succeed(None)
        return self._until_empty.wait()

    def send(self, headers: HeadersLike, body: str) -> None:
        """Send a NOTIFY when its turn has come.

        :raises LocalProtocolError: for what cannot be sent as one well-formed message.
        """
        encode_in_dialog("NOTIFY", headers, body)
        self._queue.append((headers, body))
        if len(self._queue) == 1:
            self._send_next()

    def give_up(self, error: Exception) -> None:
        """Tell the peer nothing more, since the dialog is over."""
        self._queue.clear()
        self._until_empty.fail(lambda: error)

    def _send_next(self) -> None:
        request = self._dialog._new_request("NOTIFY")
        request.over = self._answered
        headers, body = self._queue[0]
        self._dialog._send(request, headers, body)
        # That the peer has hung up meanwhile is nobody's fault.
        request.deferred.addErrback(lambda failure: failure.trap(DrachtwistError))

    def _answered(self, result: ReceivedResponse | Exception) -> None:
        if self._queue:
            self._queue.popleft()
        if isinstance(result, Exception) or result.status in (408, 481):
            self._queue.clear()  # nobody listens any more (RFC 6665 section 4.2.2)
        if self._queue:
            self._send_next()
            return
        self._until_empty.fire(None)
