"""An application on a server, and phones, all in memory: only sockets and time are made up.

Several applications may share a server, and what the server sends to itself may come back to it
(:class:`Hairpin`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from drachtwist import Srf
from drachtwist.net.endpoints import Connect
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_message
from tests.app.doubles import Transport
from tests.server.doubles import HOST, PORT, Link, head
from tests.server.doubles import Bench as ServerBench

TARGET = "sip:bob@127.0.0.1:32071"


class Whole:
    """An application that is connected to a server.

    :param settings: of the server, and its host.
    :param clock: shared with others.
    :param server: one that has applications already.
    :param options: of the :class:`Srf`.
    """

    def __init__(
        self,
        settings: dict[str, Any] | None = None,
        clock: Clock | None = None,
        server: ServerBench | None = None,
        **options: Any,
    ) -> None:
        if server is None:
            server = ServerBench(Clock() if clock is None else clock, **(settings or {}))
        self.server = server
        self.clock = server.clock
        self.srf = Srf(reactor=self.clock, **options)
        self.is_down = False
        self.link: Link
        endpoint: Any = self
        self.srf.connect(Connect(endpoint, "memory", False), secret="cymru", ping_interval=None)
        self.clock.advance(0)
        self.pump()

    # The endpoint

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect the application to the server, unless it is down."""
        if self.is_down:
            return fail(ConnectionRefusedError())
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9022))
        self.transport = Transport(self.clock)
        self.transport.protocol = protocol
        self.protocol = protocol
        self.link = self.server.link()
        protocol.makeConnection(self.transport)
        return succeed(protocol)

    # Time and frames

    def pump(self) -> None:
        """Carry frames both ways until there are none."""
        while True:
            to_server, to_app = self.transport.value(), self.link.transport.value()
            if not to_server and not to_app:
                return
            self.transport.clear()
            self.link.transport.clear()
            if to_server:
                self.link.protocol.dataReceived(to_server)
            if to_app:
                self.protocol.dataReceived(to_app)

    def pass_time(self, seconds: float, step: float = 0.5) -> list[tuple[float, str]]:
        """Let time pass; give what was sent to the network, and when."""
        found = []
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            self.clock.advance(step)
            self.pump()
            found += [(self.clock.seconds(), head(one)) for one in self.server.take()]
        return found

    def lose(self) -> None:
        """Lose the connection."""
        self.link.close()
        self.transport.lose()

    # Phones

    def sent(self) -> list[Request | Response]:
        """Take what was sent to the network since."""
        self.pump()
        return self.server.take()

    def heads(self) -> list[str]:
        """Take what was sent to the network since, in short."""
        return [head(message) for message in self.sent()]

    def request(self) -> Request:
        """Take the only request that was sent since."""
        found = self.sent()
        [request] = [one for one in found if isinstance(one, Request)]
        return request

    def request_after_ack(self) -> Request:
        """Take the request that was sent behind the ACK of a failure."""
        found = [one for one in self.sent() if isinstance(one, Request)]
        assert [one.method for one in found][:1] == ["ACK"], found
        [_, request] = found
        return request

    def receive(self, text: str, port: int = 32071) -> None:
        """Let a message come from a phone."""
        self.server.receive(text, port)
        self.pump()

    def respond(
        self,
        request: Request,
        status: int,
        *,
        tag: str = "b",
        headers: Mapping[str, str | list[str]] | None = None,
        body: str = "",
        port: int = 32071,
    ) -> None:
        """Let a phone respond to a request.

        :param headers: a list stands for several lines.
        """
        lines = [f"SIP/2.0 {status} Whatever"]
        lines += [f"Via: {via}" for via in request.get_all("Via")]
        to = request.get("To") or ""
        if status > 100 and "tag=" not in to:
            to += f";tag={tag}"
        lines += [
            f"From: {request.get('From')}",
            f"To: {to}",
            f"Call-ID: {request.get('Call-ID')}",
            f"CSeq: {request.get('CSeq')}",
        ]
        given: dict[str, str | list[str]] = {"Contact": f"<sip:bob@127.0.0.1:{port}>"}
        given.update(headers or {})
        if body:
            given.setdefault("Content-Type", "application/sdp")
        for name, values in given.items():
            lines += [f"{name}: {one}" for one in ([values] if isinstance(values, str) else values)]
        lines.append(f"Content-Length: {len(body)}")
        self.receive("\n".join(lines) + "\n\n" + body, port)


class Hairpin:
    """Applications on one server that call each other, or themselves, through it.

    :param applications: how many.
    :param settings: of the server.
    """

    def __init__(self, applications: int = 1, settings: dict[str, Any] | None = None) -> None:
        first = Whole(settings)
        self.server = first.server
        self.clock = first.clock
        self.sites = [
            first,
            *[Whole(server=first.server) for _ in range(applications - 1)],
        ]

    def turn(self) -> list[Request | Response]:
        """Carry everything that is under way; give what went to phones."""
        out: list[Request | Response] = []
        wire = self.server.wire
        busy = True
        while busy:
            for site in self.sites:
                site.pump()
            sent, wire.sent = wire.sent, []
            busy = bool(sent)
            for flow, data in sent:
                message = parse_message(data)
                if (flow.remote_host, flow.remote_port) == (HOST, PORT):
                    self.server.core.sip_received(message, flow, len(data))
                else:
                    out.append(message)
        return out

    def heads(self) -> list[str]:
        """Carry everything; give what went to phones in short."""
        return [head(message) for message in self.turn()]

    def receive(self, text: str, port: int = 32070) -> list[str]:
        """Let a message come from a phone, and give what went to phones in short."""
        self.server.receive(text, port)
        return self.heads()

    def pass_time(self, seconds: float, step: float = 0.5) -> list[str]:
        """Let time pass, and give what went to phones in short."""
        found = []
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            self.clock.advance(step)
            found += self.heads()
        return found
