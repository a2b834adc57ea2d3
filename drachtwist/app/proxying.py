"""Letting the server forward a request, and what it reports of that."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app.answer_state import AnswerState
from drachtwist.app.connection import Server
from drachtwist.app.destinations import Target, path_of, place_of
from drachtwist.app.mistakes import no_request
from drachtwist.app.option_types import check_options
from drachtwist.app.outcomes import already_failed
from drachtwist.app.request import Request
from drachtwist.app.targets import (
    OTHER_SCHEMES,
    can_be_called,
    complete_uri,
    is_embedded,
    survives,
)
from drachtwist.errors import (
    CommandRefused,
    ConnectionLost,
    LocalProtocolError,
    SipError,
)
from drachtwist.net.tasks import Awaited
from drachtwist.sip.encoding import encode_request
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.status import reason_phrase
from drachtwist.sip.targets import request_uri_of, with_route
from drachtwist.wire.commands import Answer, Proxy, TransactionId

__all__ = ["ProxyResponse", "ProxyResult", "ProxyTarget", "proxy_request"]

MAX_DESTINATIONS = 10
"""A real server garbles its messages with more of them, and dies of many (protocol.md 1.3)."""

_PROXIED = AnswerState.PROXIED
_GRACE = 40.0
"""Seconds, behind the caller's CANCEL, after which a silent server is not waited for any longer."""
_SECURE = frozenset(("tls", "wss"))
_USUAL_HEADERS = (dict, list, type(None))
_USUAL_WAY = (False, True)
_DURATION = re.compile(r"(\d+)(ms|s)")


@dataclass(frozen=True, slots=True)
class ProxyResponse:
    """A final response of a target."""

    time: str
    """When the server got it: ``HH:MM:SS.uuuuuu``, UTC."""
    status: int
    message: sip.Response


@dataclass(slots=True)
class ProxyTarget:
    """What came from one address."""

    address: str
    port: int
    protocol: str
    responses: list[ProxyResponse] = field(default_factory=list)


@dataclass(slots=True)
class ProxyResult:
    """What became of a request that was proxied."""

    connected: bool = False
    """Whether a target accepted it."""
    final_status: int | None = None
    """The last status that the server reported; None when no target answered finally. In a forked
    failure the caller may have got another one."""
    final_response: sip.Response | None = None
    responses: list[ProxyTarget] = field(default_factory=list)
    """The targets that answered finally, in order of their first response."""
    cancelled: bool = False
    """Whether the caller gave up."""


def proxy_request(
    req: Request,
    destinations: Target | Sequence[Target] | None = None,
    *,
    forking: str = "sequential",
    record_route: bool = False,
    follow_redirects: bool = False,
    provisional_timeout: float | str | None = None,
    final_timeout: float | str | None = None,
    headers: HeadersLike = None,
    full_response: bool = True,
) -> Deferred[ProxyResult]:
    """Forward a request; see :meth:`drachtwist.app.srf.Srf.proxy_request`."""
    if (
        type(destinations) is not str
        or type(headers) not in _USUAL_HEADERS
        or type(record_route) is not bool
        or (follow_redirects, full_response) != _USUAL_WAY
        or provisional_timeout is not None
        or final_timeout is not None
    ):
        check_options(
            destinations=destinations,
            headers=headers,
            record_route=record_route,
            follow_redirects=follow_redirects,
            full_response=full_response,
            provisional_timeout=provisional_timeout,
            final_timeout=final_timeout,
        )
    try:
        state = req._state
    except AttributeError as error:
        raise no_request("proxy_request", error, req) from None
    # A Route says where to, whatever the target is.
    others = req.has("Route") and survives(state, OTHER_SCHEMES)
    if destinations is None:
        if not can_be_called(req.uri, routed=others):
            # The caller's choice, not the application's mistake.
            return already_failed(SipError(416, reason_phrase(416)))
        destinations = [req.uri]
    elif isinstance(destinations, str) or not isinstance(destinations, Sequence):
        destinations = [destinations]
    ways = [_way_to(one, others, is_embedded(state.server.version)) for one in destinations]
    targets = _served(ways, state.server)
    if not targets or len(targets) > MAX_DESTINATIONS:
        raise LocalProtocolError(f"1 to {MAX_DESTINATIONS} destinations, not {len(targets)}")
    if forking not in ("sequential", "serial", "simultaneous"):
        raise LocalProtocolError(f"forking is 'sequential' or 'simultaneous', not {forking!r}")
    message = encode_request(req.method, targets[0], headers, typed=True)
    command = Proxy(
        TransactionId(req.stack_txn_id),
        tuple(targets),
        record_route=record_route,
        full_response=full_response,
        follow_redirects=follow_redirects,
        simultaneous=forking == "simultaneous",
        provisional_timeout=duration(provisional_timeout),
        final_timeout=duration(final_timeout),
        message=message,
    )
    proxying = _Proxying(req)
    proxying.send(bytes(command))
    return proxying.deferred


def _way_to(target: Target, others: bool, embedded: bool) -> tuple[str, str]:
    """Return a destination as the server is told of it, and the URI of the next hop there.

    An embedded server is told of a Path as of a Route that the URI wants (RFC 3261 section 19.1.1);
    nobody else's URI has one here. A real server goes where the Request-URI says.

    :raises LocalProtocolError: for what is no URI to send a request to.
    """
    path = path_of(target) if embedded else ()
    if not path or isinstance(target, str):
        place = request_uri_of(complete_uri(place_of(target), others))
        return place, place
    uri = request_uri_of(complete_uri(target.uri, others))
    return with_route(uri, path), target.route


def _served(ways: list[tuple[str, str]], server: Server) -> list[str]:
    """Leave out destinations that the server has no transport for.

    A real one would never try another one behind them, and never answer (protocol.md 6.1).

    :param ways: destinations and their next hops.
    :raises LocalProtocolError: when nothing is left.
    """
    if _may_serve_tls(server.host_ports):
        return [one for one, _ in ways]
    found = [one for one, hop in ways if hop[:5].lower() != "sips:"]
    if ways and not found:
        raise LocalProtocolError(f"the server serves no TLS, so it cannot reach {ways[0][1]}")
    return found


@lru_cache(64)
def _may_serve_tls(host_ports: tuple[str, ...]) -> bool:
    """Return whether a server has a transport that is encrypted, or does not say which it has."""
    served = {one.partition("/")[0] for one in host_ports}
    return not served or bool(served & _SECURE)


def duration(time: float | str | None) -> str:
    """Write a time as servers read it.

    :param time: seconds, or ``"1500ms"``, ``"2s"``; None for none.
    :raises LocalProtocolError: for anything else.
    """
    if time is None:
        return ""
    if isinstance(time, str):
        if _DURATION.fullmatch(time) is None:
            raise LocalProtocolError(f"not a time: {time!r} (seconds, '1500ms' or '2s')")
        return time
    if not 0 < time < 1e6:
        raise LocalProtocolError(f"not a time: {time!r} (more than 0 seconds)")
    return f"{round(time * 1000)}ms"


class _Proxying:
    """A request that the server forwards."""

    __slots__ = ("_result", "_timer", "deferred", "req")

    def __init__(self, req: Request) -> None:
        self.req = req
        self.deferred: Deferred[ProxyResult] = Awaited()
        self._result = ProxyResult()
        self._timer: IDelayedCall | None = None

    def send(self, command: bytes) -> None:
        """Hand the command to the server."""
        req = self.req
        state = req._state
        if not req.is_open:
            state.clock.callLater(0, self._end, req._why_not_sent())
            return
        try:
            state.link.command(command, self)
        except ConnectionLost as error:
            state.clock.callLater(0, self._end, error)
            return
        req.on_cancel(self._cancelled)
        # Only one of us answers the caller now.
        req._settle(_PROXIED, 100)

    # What the link reports

    def answered(self, answer: Answer) -> None:
        """The server reports."""
        if not answer.ok:
            self._release()
            self._end(CommandRefused(answer.text))
            return
        if not answer.is_continue:
            self._release()
            self._end(self._result)
            return
        message = sip.Response.from_bytes(answer.raw)
        protocol, address, port, time = answer.origin
        result = self._result
        for target in result.responses:
            if (target.address, target.port) == (address, port):
                break
        else:
            target = ProxyTarget(address, port, protocol)
            result.responses.append(target)
        status = message.status
        target.responses.append(ProxyResponse(time, status, message))
        result.final_status = status
        result.final_response = message
        result.connected = result.connected or 200 <= status < 300

    def link_lost(self, reason: ConnectionLost) -> None:
        """The connection went away; the server goes on alone."""
        self._end(reason)

    # Inside

    def _cancelled(self, cancel: Any) -> None:
        """The caller gave up; a real server does not always say so in the end."""
        self._result.cancelled = True
        if self._timer is None and not self.deferred.called:
            self._timer = self.req._state.clock.callLater(_GRACE, self._give_up)

    def _give_up(self) -> None:
        self._release()
        self._end(self._result)

    def _release(self) -> None:
        req = self.req
        if req._answer is _PROXIED:
            req._answered(self._result.final_status or 408)
            req._answered_finally()

    def _end(self, outcome: ProxyResult | Exception) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if self.deferred.called:
            return
        if isinstance(outcome, Exception):
            self.deferred.errback(Failure(outcome))
        else:
            self.deferred.callback(outcome)
