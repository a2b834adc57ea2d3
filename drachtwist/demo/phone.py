"""A small SIP phone on a UDP socket, for the demo and the examples. It has no sound.

It calls, sends requests in the call and hangs up; it answers what it is sent. Messages that get no
answer are sent again (RFC 3261 sections 17.1.1.2 and 17.1.2.2), and a repeated 200 is acknowledged
again (section 13.2.2.4).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol

from drachtwist.errors import MessageError, SipError
from drachtwist.net.observers import Observers
from drachtwist.sip import Request, Response, parse_datagram
from drachtwist.sip.headers import Headers, HeadersLike

__all__ = ["Call", "Phone"]

T1 = 0.5
T2 = 4.0
GIVE_UP = 64 * T1

Watcher = Callable[[bool, "Request | Response"], object]
"""Told of each message: whether it was sent (or else received), and the message."""

SDP = (
    "v=0\r\n"
    "o=phone 1 1 IN IP4 {host}\r\n"
    "s=-\r\n"
    "c=IN IP4 {host}\r\n"
    "t=0 0\r\n"
    "m=audio 9 RTP/AVP 0 8 101\r\n"
    "a=rtpmap:101 telephone-event/8000\r\n"
)
"""What the phone offers; 9 is the port that discards what it gets."""


class Phone(DatagramProtocol):
    """A user agent for one server.

    :param server: host and port of the server that all requests go to; the host is an address.
    :param user: the user part of the phone's own address.
    :param name: the name that it shows.
    :param watcher: told of each message that is sent or received.
    """

    def __init__(
        self,
        server: tuple[str, int],
        user: str = "phone",
        name: str = "A phone",
        *,
        clock: Any,
        watcher: Watcher | None = None,
    ) -> None:
        self.server = server
        self.user = user
        self.name = name
        self._clock = clock
        self._watcher = watcher
        self._pending: dict[tuple[str, str], _Asking] = {}
        self._calls: dict[str, Call] = {}

    @property
    def address(self) -> str:
        """``host:port`` of the socket."""
        assert self.transport is not None, "the phone must listen before it can call"
        host = self.transport.getHost()
        return f"{host.host}:{host.port}"

    @property
    def uri(self) -> str:
        """The phone's own address."""
        return f"sip:{self.user}@{self.address}"

    def call(
        self,
        uri: str,
        *,
        headers: HeadersLike = None,
        sdp: str | None = None,
        on_provisional: Callable[[Response], object] | None = None,
    ) -> Deferred[Call]:
        """Call somebody.

        :param sdp: the offer, the phone's own if None.
        :param on_provisional: called with each provisional response.
        :returns: the call, once it was answered and that was acknowledged. Fails with
            :exc:`SipError` when it was not answered.
        """
        call = Call(self, uri)
        self._calls[call.call_id] = call
        body = SDP.format(host=self.address.rpartition(":")[0]) if sdp is None else sdp
        fields = {"Contact": f"<{self.uri}>", "Content-Type": "application/sdp"}
        request = call._make("INVITE", fields, headers, body)

        def answered(response: Response) -> Call:
            call._answered(request, response)
            return call

        return self._ask(request, on_provisional).addCallback(answered)

    def request(self, method: str, uri: str, *, headers: HeadersLike = None) -> Deferred[Response]:
        """Send a request outside of calls, OPTIONS say.

        :returns: the final response. Fails with :exc:`SipError` when it is no success.
        """
        return self._ask(Call(self, uri)._make(method, {"Contact": f"<{self.uri}>"}, headers, b""))

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Take a message."""
        try:
            message = parse_datagram(datagram)
            key = (message.vias[0].branch or "", message.cseq.method)
            call_id = message.call_id
        except MessageError:
            return
        if self._watcher is not None:
            self._watcher(False, message)
        call = self._calls.get(call_id)
        if isinstance(message, Request):
            self._answer(message, call)
        elif key in self._pending:
            self._pending[key].responded(message)
        elif call is not None and key[1] == "INVITE" and message.status < 300 and call.ack:
            self._send(call.ack)

    # Inside

    def _ask(
        self, request: Request, on_provisional: Callable[[Response], object] | None = None
    ) -> Deferred[Response]:
        asking = _Asking(self, request, on_provisional)
        key = (request.vias[0].branch or "", request.method)
        self._pending[key] = asking

        def over(result: Any) -> Any:
            del self._pending[key]
            return result

        asking.start()
        return asking.result.addBoth(over)

    def _send(self, message: Request | Response) -> None:
        if self.transport is None:
            return
        if self._watcher is not None:
            self._watcher(True, message)
        self.transport.write(bytes(message), self.server)

    def _answer(self, request: Request, call: Call | None) -> None:
        if request.method == "ACK":
            return
        known = call is not None
        response = Response(200 if known or request.method == "OPTIONS" else 481)
        for name in ("Via", "From", "To", "Call-ID", "CSeq"):
            for value in request.get_all(name):
                response.add(name, value)
        response.set("Contact", f"<{self.uri}>")
        self._send(response)
        if call is not None:
            call._requested(request)


class Call:
    """A call, once it was answered."""

    def __init__(self, phone: Phone, uri: str) -> None:
        self._phone = phone
        self._target = uri
        self._local = f'"{phone.name}" <{phone.uri}>;tag={secrets.token_hex(4)}'
        self._remote = f"<{uri}>"
        self._routes: list[str] = []
        self._number = 0
        self._until_ended: Observers[Request | None] = Observers()
        self.call_id = f"{secrets.token_hex(8)}@{phone.address.rpartition(':')[0]}"
        self.answer: Response | None = None
        """The response that answered it."""
        self.ack: Request | None = None
        """The ACK that was sent."""
        self.requests: list[Request] = []
        """What the other side sent in the call."""
        self.over = False
        """Whether one side has hung up."""

    def request(
        self, method: str, headers: HeadersLike = None, body: str = ""
    ) -> Deferred[Response]:
        """Send a request in the call.

        :returns: the final response. Fails with :exc:`SipError` when it is no success.
        """
        fields = {"Contact": f"<{self._phone.uri}>"}
        return self._phone._ask(self._make(method, fields, headers, body))

    def press(self, key: str, milliseconds: int = 160) -> Deferred[Response]:
        """Press a key: an INFO as many phones send it."""
        body = f"Signal={key}\r\nDuration={milliseconds}\r\n"
        return self.request("INFO", {"Content-Type": "application/dtmf-relay"}, body)

    def hang_up(self) -> Deferred[Response]:
        """End the call."""
        self._end(None)
        return self.request("BYE")

    def when_ended(self) -> Deferred[Request | None]:
        """Wait for the end.

        :returns: the other side's BYE; None when this side hung up.
        """
        if not self.over:
            return self._until_ended.wait()
        bye = self.requests[-1] if self.requests else None
        return succeed(bye if bye is not None and bye.method == "BYE" else None)

    # Inside

    def _make(
        self, method: str, fields: dict[str, str], headers: HeadersLike, body: bytes | str
    ) -> Request:
        if method != "ACK":
            self._number += 1
        request = Request(
            method,
            self._target,
            [
                ("Via", f"SIP/2.0/UDP {self._phone.address};branch={_branch()};rport"),
                ("Max-Forwards", "70"),
                *(("Route", route) for route in self._routes),
                ("From", self._local),
                ("To", self._remote),
                ("Call-ID", self.call_id),
                ("CSeq", f"{self._number} {method}"),
                ("User-Agent", "drachtwist phone"),
                *fields.items(),
            ],
            body,
        )
        for name, value in Headers(headers).items():
            request.set(name, value)
        return request

    def _answered(self, invite: Request, response: Response) -> None:
        self.answer = response
        self._remote = response.get("To") or self._remote
        self._routes = [str(route) for route in response.get_parsed_header("Record-Route") or ()]
        self._routes.reverse()
        if response.contacts:
            self._target = response.contacts[0].uri
        self.ack = self._make("ACK", {}, None, b"")
        self.ack.set("CSeq", f"{invite.cseq.number} ACK")
        self._phone._send(self.ack)

    def _requested(self, request: Request) -> None:
        self.requests.append(request)
        if request.method == "BYE":
            self._end(request)

    def _end(self, bye: Request | None) -> None:
        if not self.over:
            self.over = True
            self._until_ended.fire(bye)


class _Asking:
    """A request that waits for its final response."""

    def __init__(
        self, phone: Phone, request: Request, on_provisional: Callable[[Response], object] | None
    ) -> None:
        self._phone = phone
        self._request = request
        self._on_provisional = on_provisional
        self._interval = T1
        self._again: IDelayedCall | None = None
        self._give_up: IDelayedCall | None = None
        self.result: Deferred[Response] = Deferred(lambda _: self._stop())

    def start(self) -> None:
        self._phone._send(self._request)
        self._again = self._phone._clock.callLater(self._interval, self._repeat)
        self._give_up = self._phone._clock.callLater(GIVE_UP, self._timed_out)

    def responded(self, response: Response) -> None:
        if response.status < 200:
            if self._request.method == "INVITE":
                self._stop()
            if self._on_provisional is not None:
                self._on_provisional(response)
            return
        self._stop()
        if response.status < 300:
            self.result.callback(response)
            return
        if self._request.method == "INVITE":
            self._phone._send(self._ack_of_failure(response))
        self.result.errback(SipError(response.status, response.reason, response))

    def _ack_of_failure(self, response: Response) -> Request:
        """Acknowledge a failure: the ACK belongs to the transaction (section 17.1.1.3)."""
        names = ("Via", "Max-Forwards", "From", "Call-ID")
        headers = [(name, self._request.get(name) or "") for name in names]
        headers.append(("To", response.get("To") or ""))
        headers.append(("CSeq", f"{self._request.cseq.number} ACK"))
        return Request("ACK", self._request.uri, headers)

    def _repeat(self) -> None:
        limit = GIVE_UP if self._request.method == "INVITE" else T2
        self._interval = min(2 * self._interval, limit)
        self._again = self._phone._clock.callLater(self._interval, self._repeat)
        self._phone._send(self._request)

    def _timed_out(self) -> None:
        self._stop()
        self.result.errback(SipError(408, "Request Timeout"))

    def _stop(self) -> None:
        for timer in (self._again, self._give_up):
            if timer is not None and timer.active():
                timer.cancel()


def _branch() -> str:
    return f"z9hG4bK{secrets.token_hex(8)}"
