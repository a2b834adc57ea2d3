"""What applications may plug in: the shapes of handlers and of session descriptions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Optional, Protocol, TypeVar, Union

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

    from drachtwist.app.request import Request
    from drachtwist.app.response import Response

__all__ = [
    "ErrorHandler",
    "Handler",
    "HandlerResult",
    "Middleware",
    "Next",
    "RequestHandler",
    "SdpHook",
    "SdpSource",
]

HandlerResult = Union["Awaitable[object]", "Deferred[Any]", object]
"""What a handler may return: anything. A Deferred or an awaitable is waited for, so that its
failure is seen; everything else is ignored."""


class Next(Protocol):
    """Hands a request on to the next handler of the chain."""

    def __call__(self, error: BaseException | None = None) -> Deferred[None]:
        """Go on.

        :param error: hand this error to the next error handler instead.
        :returns: fires when the handler that was handed the request is done; it never fails.
        """
        ...


class RequestHandler(Protocol):
    """Answers a request."""

    def __call__(self, req: Request, res: Response, /) -> HandlerResult:
        """Take a request, and the way to answer it."""
        ...


class Middleware(Protocol):
    """Looks at a request, and may hand it on."""

    def __call__(self, req: Request, res: Response, next: Next, /) -> HandlerResult:
        """Take a request, the way to answer it, and the way to hand it on."""
        ...


class ErrorHandler(Protocol):
    """Takes requests whose handler failed."""

    def __call__(
        self, error: Exception, req: Request, res: Response, next: Next, /
    ) -> HandlerResult:
        """Take an error, and the request with it."""
        ...


Handler = Union[RequestHandler, Middleware, ErrorHandler]  # noqa: UP007 - evaluated on Python 3.10
"""What :meth:`drachtwist.Router.use` takes; the number of arguments tells which it is."""

AnyRequestHandler = TypeVar("AnyRequestHandler", bound=RequestHandler)
"""A handler of requests, which is returned as it was given, for decorators."""
AnyChained = TypeVar("AnyChained", bound=Handler)
"""A handler of any of the three kinds, likewise."""
AnyTold = TypeVar("AnyTold", bound=Callable[["Request"], object])
"""A handler that is told of a request that needs no answer of its, likewise."""
AnyToldOfEnd = TypeVar("AnyToldOfEnd", bound=Callable[[Optional["Request"]], object])
"""A handler that is told of a request, or with None that there is none, likewise."""
AnySendHook = TypeVar("AnySendHook", bound=Callable[["Response", int], object])
"""A handler that is asked before a response is sent, likewise."""

Sdp = Union[bytes, str, None]  # noqa: UP007 - evaluated on Python 3.10
SdpSource = Union[Sdp, Callable[[], "Sdp | Awaitable[Sdp] | Deferred[Sdp]"], "Awaitable[Sdp]"]
"""A session description, something awaitable that becomes one, or a function of no arguments that
gives either."""

_M = TypeVar("_M", contravariant=True)
SdpHook = Union[
    Sdp, "Awaitable[Sdp]", Callable[[bytes, _M], "Sdp | Awaitable[Sdp] | Deferred[Sdp]"]
]
"""A session description, something awaitable that becomes one, or a function that gives either when
it is called with the other side's description and the message that had it."""
