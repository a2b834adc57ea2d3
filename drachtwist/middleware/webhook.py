"""The web callback: answer a server's question about a new request with a Python function.

A drachtio server with a request handler asks a web application what to do with each request. Here
is that application, ready made: a :mod:`twisted.web` resource around one function::

    from drachtwist.middleware.webhook import RoutingResource, reject, route

    def where(query):
        if query.to_user == "closed":
            return reject(480)
        return route("10.32.100.2:9023", tls=True)

    resource = RoutingResource(where)

The function gets a :class:`~drachtwist.wire.decisions.RoutingQuery` and returns one of the
decisions below, at once, as a Deferred, or from a coroutine. A server gives up after three seconds.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Union

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http import BAD_REQUEST, INTERNAL_SERVER_ERROR
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from drachtwist.app.outcomes import deferred_of
from drachtwist.errors import MessageError
from drachtwist.net.logs import Logger
from drachtwist.sip.message import Request as SipRequest
from drachtwist.sip.parsing import parse_message
from drachtwist.wire.decisions import (
    AppAddress,
    Decision,
    ProxyTo,
    Redirect,
    Reject,
    RouteTo,
    RoutingQuery,
    format_decision,
)

__all__ = [
    "RoutingFunction",
    "RoutingQuery",
    "RoutingResource",
    "proxy",
    "redirect",
    "reject",
    "route",
]

RoutingFunction = Callable[
    [RoutingQuery], Union[Decision, "Deferred[Decision]", Awaitable[Decision]]
]
"""What decides about a request; see :class:`RoutingResource` for a second argument."""


def reject(status: int, reason: str | None = None) -> Reject:
    """Refuse the request.

    :param status: 300 to 699.
    :param reason: the phrase; the standard one when absent.
    """
    return Reject(status, reason)


def redirect(*contacts: str) -> Redirect:
    """Answer ``302 Moved`` with these contacts: URIs or name-addrs."""
    return Redirect(contacts)


def proxy(
    destinations: str | Iterable[str],
    *,
    record_route: bool = False,
    follow_redirects: bool = True,
    simultaneous: bool = False,
    provisional_timeout: float | str = "5s",
    final_timeout: float | str = "",
) -> ProxyTo:
    """Let the server proxy the request by itself.

    :param destinations: one SIP URI, or several in order.
    :param record_route: stay in the path of the dialog.
    :param simultaneous: ring all destinations at once.
    :param provisional_timeout: how long a destination may be silent: seconds, or text such as
        ``"1500ms"`` or ``"2s"``.
    :param final_timeout: likewise until the final response (real servers do not apply it).
    """
    return ProxyTo(
        (destinations,) if isinstance(destinations, str) else tuple(destinations),
        record_route,
        follow_redirects,
        simultaneous,
        _interval(provisional_timeout),
        _interval(final_timeout),
    )


def route(uri: str | None = None, *, tag: str | None = None, tls: bool = False) -> RouteTo:
    """Hand the request to an application.

    :param uri: ``host:port`` where the application listens; the server connects to it.
    :param tag: instead: any application connected to the server with this tag.
    :param tls: connect with TLS. ``;transport=tls`` at the end of the uri means the same.
    :raises RemoteProtocolError: for a uri that is not ``host:port``.
    """
    if uri is None:
        return RouteTo(tag=tag)
    address = AppAddress.parse(uri)
    return RouteTo(AppAddress(address.host, address.port, address.tls or tls))


def _interval(value: float | str) -> str:
    return value if isinstance(value, str) else f"{round(value * 1000)}ms"


class RoutingResource(Resource):
    """Answers GET and POST, at any path below it, by asking one function.

    A function that takes two arguments gets the SIP request as the second: the whole
    :class:`~drachtwist.sip.message.Request` where the server sends it (``http-method="POST"``),
    otherwise None.

    A function that raises is logged, and answered with status 500 and no decision: the caller gets
    ``500 Server Internal Error``.
    """

    isLeaf = True
    _log = Logger()

    def __init__(self, decide: Callable[..., object]) -> None:
        super().__init__()
        self._decide = decide
        self._with_message = _takes_two(decide)

    def render_GET(self, request: Request) -> int:
        """Answer a query without a body."""
        return self._answer(request, None)

    def render_POST(self, request: Request) -> int | bytes:
        """Answer a query whose body is the SIP request."""
        assert request.content is not None
        body = request.content.read()
        message = None
        if body:
            try:
                parsed = parse_message(body)
            except MessageError as error:
                request.setResponseCode(BAD_REQUEST)
                return f"the body is no SIP request: {error}\n".encode()
            if isinstance(parsed, SipRequest):
                message = parsed
        return self._answer(request, message)

    def _answer(self, request: Request, message: SipRequest | None) -> int:
        # Only the URL: a real server may label the body of a POST as a form, which it is not.
        _, _, text = request.uri.partition(b"?")
        query = RoutingQuery.parse(text.decode("utf-8", "surrogateescape"))
        arguments = (query, message) if self._with_message else (query,)
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)
        decided = deferred_of(self._decide, *arguments)

        def finish(decision: object) -> None:
            if not isinstance(decision, (Reject, Redirect, ProxyTo, RouteTo)):
                raise TypeError(f"not a routing decision: {decision!r}")
            body = format_decision(decision)
            if not gone:
                request.setHeader(b"content-type", b"application/json")
                request.write(body)
                request.finish()

        def fail(failure: Failure) -> None:
            self._log.failure(
                "no decision about {method} {uri}", failure, method=query.method, uri=query.uri
            )
            if not gone:
                request.setResponseCode(INTERNAL_SERVER_ERROR)
                request.finish()

        decided.addCallback(finish).addErrback(fail)
        return NOT_DONE_YET


def _takes_two(decide: Callable[..., object]) -> bool:
    """Return whether a function takes a second argument by position, with a default or without."""
    try:
        parameters = inspect.signature(decide).parameters.values()
    except (TypeError, ValueError):
        return False
    if any(one.kind is one.VAR_POSITIONAL for one in parameters):
        return True
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = [one for one in parameters if one.kind in positional]
    # A default that is not None is a constant bound to a name, not a place for a request.
    return len(taken) > 1 and taken[1].default in (inspect.Parameter.empty, None)
