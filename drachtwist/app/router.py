"""Handlers in a row: which of them sees a request, and what happens when one fails.

A :class:`Router` collects handlers. The handlers that may see a method are picked out once, when
the first such request comes, with those of mounted routers in their places. The number of arguments
tells the kinds apart:

=================================  ================================================================
``handler(req, res)``              ends the chain
``handler(req, res, next)``        may hand the request on with ``next()``, or ``next(error)``
``handler(error, req, res, next)`` sees only requests whose handler raised or called
                                   ``next(error)``; of these, those of its own router
=================================  ================================================================
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Union, overload

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from drachtwist.app.answer_state import AnswerState
from drachtwist.app.handlers import settle
from drachtwist.app.interfaces import AnyChained, Handler
from drachtwist.app.mistakes import no_handler, no_method
from drachtwist.errors import LocalProtocolError
from drachtwist.net.logs import Logger
from drachtwist.net.tasks import Awaited
from drachtwist.sip import grammar

if TYPE_CHECKING:
    from drachtwist.app.request import Request
    from drachtwist.app.response import Response

__all__ = ["Chain", "Ender", "Router", "arity"]

_Function = Callable[..., Any]

# A layer: the method it is for ("*" for all), and a function or router.
_Layer = tuple[str, "_Function | Router"]

# A step of a chain: the function, how many arguments it takes, and the first step of the router
# that it belongs to.
_Step = tuple[_Function, int, int]

_PLAIN, _MIDDLEWARE, _ERROR = 2, 3, 4
_OPEN = AnswerState.OPEN
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def arity(handler: _Function) -> int:
    """Count the arguments that a handler wants.

    :raises LocalProtocolError: when it cannot be a handler.
    """
    if not callable(handler):
        raise no_handler(handler)
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except (TypeError, ValueError):
        return _PLAIN
    wanted = 0
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            return max(wanted, _MIDDLEWARE)
        if parameter.kind in _POSITIONAL and (
            parameter.default is parameter.empty or parameter.name == "next"
        ):
            wanted += 1
    if wanted not in (_PLAIN, _MIDDLEWARE, _ERROR):
        name = getattr(handler, "__name__", None) or repr(handler)
        arguments = "1 argument" if wanted == 1 else f"{wanted} arguments"
        raise LocalProtocolError(
            f"{name}() takes {arguments}: a handler takes (req, res), (req, res, next)"
            " or (error, req, res, next)"
        )
    return wanted


_AnyLayer = TypeVar("_AnyLayer", bound="Handler | Router")
_More = Union["Handler", "Router", list[Any], tuple[Any, ...]]


class Router:
    """A row of handlers that can be mounted in another, or in an :class:`~drachtwist.app.srf.Srf`.

    ::

        admin = Router()

        @admin.options
        def alive(req, res):
            res.send(200)

        srf.use(admin)
    """

    def __init__(self) -> None:
        self._layers: list[_Layer] = []
        self._mounted_in: list[Router] = []

    @overload
    def use(self, method: str, /) -> Callable[[AnyChained], AnyChained]: ...

    @overload
    def use(self, method: str, handler: _AnyLayer, /, *more: _More) -> _AnyLayer: ...

    @overload
    def use(self, handler: _AnyLayer, /, *more: _More) -> _AnyLayer: ...

    @overload
    def use(self, *handlers: _More) -> Handler | Router: ...

    @overload
    def use(self, method: str, handler: _More, /, *more: _More) -> Handler | Router: ...

    def use(self, *args: Any) -> Any:
        """Add handlers: ``use(handler, ...)`` for all methods, ``use(method, handler, ...)``.

        A handler for all methods makes no server send any: it sees what other handlers are there
        for. An object that ends the chain for some methods names them in an attribute ``handles``,
        and is there for these, as :class:`~drachtwist.middleware.Registrar` is.

        :param args: functions, other routers, or lists of these; before them, perhaps, a method in
            any case.
        :returns: the first handler; with nothing but a method a decorator, as :meth:`on_request`.
        :raises LocalProtocolError: for what cannot be a handler, or is no method.
        """
        method = "*"
        if args and isinstance(args[0], str):
            method, args = args[0].upper(), args[1:]
            if method != "*" and not grammar.is_token(method):
                raise LocalProtocolError(f"not a method: {method!r}")
            if not args:
                return self.on_request(method)
        handlers = list(_flat(args))
        if not handlers:
            raise LocalProtocolError("no handler given")
        for handler in handlers:
            if isinstance(handler, Router):
                if handler is self or self in handler._below():
                    raise LocalProtocolError("a router cannot be mounted in itself")
                handler._mounted_in.append(self)
            else:
                arity(handler)
            wanted = getattr(handler, "handles", None) if method == "*" else None
            self._layers += [(name.upper(), handler) for name in wanted or (method,)]
        self._changed()
        return handlers[0]

    def on_request(self, method: str) -> Callable[[AnyChained], AnyChained]:
        """Decorate the handler of a method, of any name.

        :raises LocalProtocolError: when it is no method.
        """
        if not isinstance(method, str):
            raise no_method(method)

        def decorate(handler: AnyChained) -> AnyChained:
            self.use(method, handler)
            return handler

        return decorate

    def ack(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle ACKs that belong to no dialog object."""
        self.use("ACK", handler, *more)
        return handler

    def bye(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle BYEs that belong to no dialog object."""
        self.use("BYE", handler, *more)
        return handler

    def cancel(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Do nothing: a CANCEL goes to the INVITE it is for (:meth:`Request.on_cancel`)."""
        self.use("CANCEL", handler, *more)
        return handler

    def info(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle INFO requests outside of dialogs."""
        self.use("INFO", handler, *more)
        return handler

    def invite(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle new calls."""
        self.use("INVITE", handler, *more)
        return handler

    def message(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle instant messages outside of dialogs."""
        self.use("MESSAGE", handler, *more)
        return handler

    def notify(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle NOTIFY requests outside of dialogs."""
        self.use("NOTIFY", handler, *more)
        return handler

    def options(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle OPTIONS requests outside of dialogs."""
        self.use("OPTIONS", handler, *more)
        return handler

    def prack(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle PRACKs, which are answered with 200 otherwise."""
        self.use("PRACK", handler, *more)
        return handler

    def publish(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle PUBLISH requests."""
        self.use("PUBLISH", handler, *more)
        return handler

    def refer(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle REFER requests outside of dialogs."""
        self.use("REFER", handler, *more)
        return handler

    def register(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle registrations."""
        self.use("REGISTER", handler, *more)
        return handler

    def subscribe(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle new subscriptions."""
        self.use("SUBSCRIBE", handler, *more)
        return handler

    def update(self, handler: _AnyLayer, *more: _More) -> _AnyLayer:
        """Handle UPDATE requests that belong to no dialog object."""
        self.use("UPDATE", handler, *more)
        return handler

    @property
    def layers(self) -> tuple[tuple[str, Callable[..., Any] | Router], ...]:
        """What was added, in order: the method (``*`` for all), and the handler or router."""
        return tuple(self._layers)

    # Inside

    def _below(self) -> set[Router]:
        """Return the routers mounted in this one, at any depth."""
        found: set[Router] = set()
        for _, handler in self._layers:
            if isinstance(handler, Router):
                found |= {handler} | handler._below()
        return found

    def _changed(self) -> None:
        """See to it that the change reaches whoever runs the handlers."""
        for router in self._mounted_in:
            router._changed()

    def _methods(self) -> set[str]:
        """Return the methods that have handlers of their own."""
        methods: set[str] = set()
        for method, handler in self._layers:
            if isinstance(handler, Router):
                methods |= handler._methods() if method == "*" else {method}
            else:
                methods.add(method)
        return methods - {"*"}

    def _steps(self, method: str, base: int = 0) -> list[_Step]:
        """Pick the handlers that may see a method.

        :param base: how many steps stand before those of this router.
        """
        steps: list[_Step] = []
        for wanted, handler in self._layers:
            if wanted not in ("*", method):
                continue
            if isinstance(handler, Router):
                steps += handler._steps(method, base + len(steps))
            else:
                steps.append((handler, arity(handler), base))
        return steps


def _flat(handlers: Any) -> Iterator[Any]:
    for handler in handlers:
        if isinstance(handler, (list, tuple)):
            yield from _flat(handler)
        else:
            yield handler


class Ender(Protocol):
    """What happens to requests that the handlers of a chain left unanswered."""

    def unhandled(self, req: Request, res: Response) -> None:
        """No handler took the request."""

    def failed(self, req: Request, res: Response, failure: Failure) -> None:
        """A handler failed, and no error handler took it."""

    def left_open(self, req: Request, handler: Callable[..., Any]) -> None:
        """Report a handler that ended, though nothing was sent nor handed to another one."""


class Chain:
    """The handlers that see the requests of one method.

    :param steps: the handlers in order.
    :param ender: what happens when nobody takes the request.
    """

    __slots__ = ("_ender", "_only", "steps")

    _log = Logger()

    def __init__(self, steps: list[_Step], ender: Ender) -> None:
        self.steps = tuple(steps)
        self._ender = ender
        # The common case, a single handler that takes (req, res), needs nothing but the call.
        self._only = steps[0][0] if len(steps) == 1 and steps[0][1] == _PLAIN else None

    @property
    def is_empty(self) -> bool:
        """Whether no handler, but error handlers at most, will see the request."""
        return all(step[1] == _ERROR for step in self.steps)

    def run(self, req: Request, res: Response) -> None:
        """Offer a request to the handlers."""
        only = self._only
        if only is None:
            self._run(0, req, res)
            return
        try:
            result = only(req, res)
        except Exception:
            self._failed(0, req, res, Failure())
            return
        if result is not None:
            self._wait(result, 0, req, res, None)
        elif req._answer is _OPEN and not res.status:
            self._ender.left_open(req, only)

    def _run(self, index: int, req: Request, res: Response) -> Deferred[None] | None:
        """Offer a request to the handlers from a step on.

        :returns: fires when the handler is done; None when it is already.
        """
        steps = self.steps
        size = len(steps)
        while index < size and steps[index][1] == _ERROR:
            index += 1
        if index == size:
            self._ender.unhandled(req, res)
            return None
        handler, arity, _ = steps[index]
        following = None
        try:
            if arity == _PLAIN:
                result = handler(req, res)
            else:
                following = _Next(self, index, req, res)
                result = handler(req, res, following)
        except Exception:
            return self._failed(index, req, res, Failure())
        if result is not None:
            return self._wait(result, index, req, res, Awaited(), following)
        self._ended(index, req, res, following)
        return None

    def _ended(self, index: int, req: Request, res: Response, following: _Next | None) -> None:
        """A handler has ended, and well.

        :param following: what it was given to hand the request on with.
        """
        if req._answer is _OPEN and not res.status and not (following and following.called):
            self._ender.left_open(req, self.steps[index][0])

    def _failed(
        self, index: int, req: Request, res: Response, failure: Failure
    ) -> Deferred[None] | None:
        """Offer the failure of a step to the error handlers behind it."""
        steps = self.steps
        for at in range(index + 1, len(steps)):
            handler, arity, first = steps[at]
            # A router's error handlers take the errors of its own handlers.
            if arity == _ERROR and first <= index:
                try:
                    result = handler(failure.value, req, res, _Next(self, at, req, res))
                except Exception:
                    return self._failed(at, req, res, Failure())
                return None if result is None else self._wait(result, at, req, res, Awaited())
        self._ender.failed(req, res, failure)
        return None

    def _wait(
        self,
        result: Any,
        index: int,
        req: Request,
        res: Response,
        over: Deferred[None] | None,
        following: _Next | None = None,
    ) -> Deferred[None] | None:
        """Wait for what a handler returned."""
        waiting = _Waiting(self, index, req, res, over, following)
        if not settle(result, waiting.done):
            waiting.hold()
            return over
        if not waiting.failed and req._answer is _OPEN:
            self._ended(index, req, res, following)
        # A coroutine that failed at once may have left an error handler waiting.
        return over if waiting.failed and over is not None and not over.called else None


class _Waiting:
    """A handler that is not done yet; meanwhile the connection of its request stays open."""

    __slots__ = ("_chain", "_following", "_held", "_index", "_over", "_req", "_res", "failed")

    _chain: Chain

    def __init__(
        self,
        chain: Chain,
        index: int,
        req: Request,
        res: Response,
        over: Deferred[None] | None,
        following: _Next | None,
    ) -> None:
        self._following = following
        self._chain = chain
        self._index = index
        self._req = req
        self._res = res
        self._over = over
        self._held = False
        self.failed = False

    def hold(self) -> None:
        if self._chain is not None:
            self._held = True
            self._req._state.use()

    def done(self, failure: Failure | None) -> None:
        chain, over = self._chain, self._over
        self._chain = None  # type: ignore[assignment]
        if failure is not None:
            self.failed = True
            further = chain._failed(self._index, self._req, self._res, failure)
            if further is not None and over is not None:
                further.chainDeferred(over)
                over = None
        elif self._req._answer is _OPEN:
            chain._ended(self._index, self._req, self._res, self._following)
        if over is not None:
            over.callback(None)
        if self._held:
            self._req._state.release()


class _Next:
    """Hands a request on; what middleware gets as ``next``."""

    __slots__ = ("_chain", "_index", "_req", "_res", "called")

    def __init__(self, chain: Chain, index: int, req: Request, res: Response) -> None:
        self._chain = chain
        self._index = index
        self._req = req
        self._res = res
        self.called = False

    def __call__(self, error: BaseException | None = None) -> Deferred[None]:
        chain, req, res = self._chain, self._req, self._res
        if self.called:
            chain._log.warn(
                "next() was called twice for {method}, Call-ID {call_id}",
                method=req.method,
                call_id=req.get("Call-ID"),
            )
            return succeed(None)
        self.called = True
        over = None
        if error is not None:
            over = chain._failed(self._index, req, res, Failure(error))
        elif not res.finished:
            over = chain._run(self._index + 1, req, res)
        return succeed(None) if over is None else over
