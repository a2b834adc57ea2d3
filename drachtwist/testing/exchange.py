"""A request of a phone, and what came back."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from drachtwist.net.observers import Observers
from drachtwist.sip.message import Request, Response
from drachtwist.testing.errors import PhoneError

__all__ = ["Exchange"]


class Exchange:
    """A request that a phone sent; awaiting it gives the final response.

    :param request: the request.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        """As it was sent last: with credentials, if somebody asked for them."""
        self.responses: list[Response] = []
        """Everything that came back, the challenges too."""
        self.timed_out = False
        """Whether nobody answered in time."""
        self._until_over: Observers[Response] = Observers()
        self._over = False

    def __repr__(self) -> str:
        return f"<Exchange {self.request.method} {self.status or 'pending'}>"

    @property
    def response(self) -> Response | None:
        """The final response; None while there is none."""
        return self.responses[-1] if self._over and self.responses else None

    @property
    def status(self) -> int | None:
        """The status of the final response; 408 when nobody answered, None while that is open."""
        if self.timed_out:
            return 408
        return self.responses[-1].status if self._over and self.responses else None

    @property
    def over(self) -> bool:
        """Whether there is a final response, or there will be none."""
        return self._over

    def when_over(self) -> Deferred[Response]:
        """Wait for the final response, whatever its status.

        :returns: fails with :exc:`PhoneError` when nobody answers.
        """
        if self.timed_out:
            return fail(self._silence())
        if self._over:
            return succeed(self.responses[-1])
        return self._until_over.wait()

    def __await__(self) -> Generator[Deferred[Response], Any, Response]:
        return self.when_over().__await__()

    # What the phone tells

    def end(self) -> None:
        """Note that there is a final response."""
        self._over = True
        self._until_over.fire(self.responses[-1])

    def give_up(self) -> None:
        """Fail, since nobody answers."""
        self._over = self.timed_out = True
        self._until_over.fail(self._silence)

    def _silence(self) -> PhoneError:
        return PhoneError(f"nobody answered the {self.request.method}")
