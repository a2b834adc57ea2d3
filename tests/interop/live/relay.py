"""As in the recordings: a relay that writes down what passes, and a routing web server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.transcripts import Line

__all__ = ["Log", "Relay", "RoutingServer"]


class Log:
    """What happened so far, in the order the relay saw it."""

    def __init__(self, reactor: Any) -> None:
        self.lines: list[Line] = []
        self.connections = 0
        self._reactor = reactor
        self._began = reactor.seconds()
        self._waiting: list[tuple[Callable[[], bool], Deferred[bool]]] = []

    def write(self, sender: str, event: str, connection: int = 0, **rest: Any) -> None:
        """Write a line."""
        time = self._reactor.seconds() - self._began
        self.lines.append(Line(time, connection, sender, event, **rest))
        for item in [item for item in self._waiting if item[0]()]:
            self._waiting.remove(item)
            item[1].callback(True)

    def until(self, condition: Callable[[], bool], seconds: float) -> Deferred[bool]:
        """Wait for something to have happened.

        :returns: whether it has; False after so many seconds.
        """
        result: Deferred[bool] = Deferred()
        if condition():
            result.callback(True)
            return result
        item = (condition, result)

        def give_up() -> None:
            self._waiting.remove(item)
            result.callback(False)

        timer = self._reactor.callLater(seconds, give_up)

        def done(value: bool) -> bool:
            if timer.active():
                timer.cancel()
            return value

        self._waiting.append(item)
        return result.addCallback(done)


class _Splitter:
    """Cuts what one side of a connection sends into frames; broken framing is raw from there on."""

    def __init__(self) -> None:
        self._rest = b""
        self._broken = False

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        if self._broken:
            return [("bytes", data)]
        self._rest += data
        found = []
        while self._rest:
            digits, mark, rest = self._rest.partition(b"#")
            if (mark and not digits.isdigit()) or (not mark and not digits[:6].isdigit()):
                self._broken = True
                found.append(("bytes", self._rest))
                break
            if not mark or len(rest) < int(digits):
                break
            found.append(("frame", rest[: int(digits)]))
            self._rest = rest[int(digits) :]
        return found


class _Half(Protocol):
    """One of the two connections that make one."""

    def __init__(self, log: Log, side: str) -> None:
        self.log = log
        self.side = side
        self.number = 0
        self.other: _Half | None = None
        self.closed = False
        self._splitter = _Splitter()

    def pair(self, other: _Half) -> None:
        """Let this one and another be two ends of one connection."""
        self.other, other.other = other, self
        other.number = self.number

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.setTcpNoDelay(True)  # so that what is written has arrived

    def dataReceived(self, data: bytes) -> None:
        for event, payload in self._splitter.feed(data):
            self.log.write(self.side, event, self.number, frame=payload)
        assert self.other is not None and self.other.transport is not None
        self.other.transport.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        other = self.other
        if not self.closed:
            self.closed = True
            self.log.write(self.side, "close", self.number)
        if other is not None:
            other.closed = True
            if other.transport is not None:
                other.transport.loseConnection()


class Relay(Factory):
    """Passes connections on.

    :param opener: the side that connects to the relay: ``app`` or ``server``.
    :param target: the endpoint of the other side.
    """

    noisy = False

    def __init__(self, log: Log, opener: str, target: Any) -> None:
        self._log = log
        self._opener = opener
        self._target = target
        self.halves: set[_Half] = set()

    def buildProtocol(self, addr: IAddress | None) -> _Near:
        return _Near(self, self._log, self._opener)

    def reach(self) -> Deferred[_Half]:
        """Connect to the other side."""
        side = "server" if self._opener == "app" else "app"
        target: Deferred[_Half] = self._target.connect(
            Factory.forProtocol(lambda: _Half(self._log, side))
        )
        return target


class _Near(_Half):
    """The side that connected."""

    def __init__(self, relay: Relay, log: Log, side: str) -> None:
        super().__init__(log, side)
        self._relay = relay

    def connectionMade(self) -> None:
        super().connectionMade()
        transport: Any = self.transport
        self._relay.halves.add(self)
        self.log.connections += 1
        self.number = self.log.connections
        self.log.write(self.side, "open", self.number)
        transport.pauseProducing()

        def reached(far: _Half) -> None:
            self.pair(far)
            if self.closed:
                assert far.transport is not None
                far.transport.loseConnection()
            else:
                transport.resumeProducing()

        self._relay.reach().addCallbacks(reached, lambda _: transport.abortConnection())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._relay.halves.discard(self)
        super().connectionLost(reason)


class RoutingServer(Resource):
    """The routing web server: gives one answer after the other, a status and a body.

    When it has given all, it hangs up.
    """

    isLeaf = True

    def __init__(self, log: Log, answers: list[tuple[int, str]]) -> None:
        super().__init__()
        self._log = log
        self._answers = iter(answers)

    def render(self, request: Request) -> bytes | int:
        answer = next(self._answers, None)
        if answer is None:
            request.loseConnection()
            return NOT_DONE_YET
        status, body = answer
        query = request.uri.partition(b"?")[2].decode("ascii")
        self._log.write("http", "request", query=query)
        request.setResponseCode(status)
        request.setHeader(b"content-type", b"application/json")
        self._log.write("http", "response", status=status, body=body)
        return body.encode("utf-8")
