"""A request of the application as the server sent it, with what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from drachtwist import sip
from drachtwist.app.connection import Connection
from drachtwist.app.handlers import run_handler
from drachtwist.app.received import Received, ReceivedResponse
from drachtwist.sip.headers import HeadersLike

__all__ = ["OutgoingRequest"]


class _Client(Protocol):
    """Sends a request, with all its repetitions."""

    def wait(self) -> Deferred[ReceivedResponse]:
        """Wait for the outcome."""
        ...

    def cancel(self, headers: HeadersLike = None) -> None:
        """Send CANCEL, with further headers."""


class OutgoingRequest(Received, sip.Request):
    """A request of the application, as the server sent it."""

    __slots__ = ("_client", "_state", "_tokens", "res")

    res: ReceivedResponse | None
    """The final response, once there is one."""

    _state: Connection
    _tokens: Sequence[str]
    _client: _Client

    def _token(self, index: int) -> str:
        # The answer to a command has two tokens more in front, and no dialog id.
        tokens = self._tokens
        return tokens[index + 2] if index < 9 and len(tokens) > index + 2 else ""

    @property
    def response(self) -> Deferred[ReceivedResponse]:
        """Wait for the final response; a failure is a response too.

        :returns: fails with :exc:`ConnectionLost` when the connection goes away, and with
            :exc:`CommandRefused` when the server does not send the request.
        """
        return self._client.wait()

    def cancel(self, headers: HeadersLike = None) -> None:
        """Cancel an INVITE (RFC 3261 section 9.1); nothing happens when it has its final response.

        :param headers: headers of the CANCEL, Reason for example.
        """
        self._client.cancel(headers)

    def _call(self, handler: Callable[..., Any], *args: Any) -> None:
        """Run a handler whose failure can only be logged."""
        run_handler(self, handler, *args)
