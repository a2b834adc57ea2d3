"""An application whose servers are memory: real frames on both sides, and a Clock.

:class:`Bench` has the application and makes connections; :class:`Server` is the far end of one. It
authenticates by itself and confirms routes; what else the application sends is for the test to look
at (:meth:`Server.take`) and to answer (:meth:`Server.confirm`, :meth:`Server.refuse`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from drachtwist import Srf, sip
from drachtwist.net.endpoints import Connect, Listen
from drachtwist.wire.commands import Command, SendMessage, parse_command
from drachtwist.wire.frames import FrameDecoder, encode_frame

HOST_PORTS = "tcp/127.0.0.1:32060,udp/127.0.0.1:32060"
VERSION = "v0.9.10-1-g9c2dd4cb6a"

OFFER = (
    "v=0\r\no=alice 1001 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 32400 RTP/AVP 0\r\na=sendrecv\r\n"
)
ANSWER = (
    "v=0\r\no=app 77 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 32500 RTP/AVP 0\r\na=sendrecv\r\n"
)


class Transport(StringTransport):
    """A connection that closes a moment after it was asked to."""

    def __init__(self, clock: Clock, port: int = 9022) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", "127.0.0.1", port))
        self.clock = clock
        self.protocol: Any = None
        self.writes = 0
        self.is_stuck = False

    def write(self, data: bytes) -> None:
        """Keep what was written, and count how often."""
        self.writes += 1
        super().write(data)

    def loseConnection(self) -> None:
        """Close, but let what was read be worked on first."""
        if not self.disconnecting:
            super().loseConnection()
            if not self.is_stuck:
                self.clock.callLater(0, self.lose)

    def abortConnection(self) -> None:
        """Close, whatever is still to be written."""
        self.disconnecting = True
        self.clock.callLater(0, self.lose)

    def lose(self, error: Exception | None = None) -> None:
        """Tell the protocol that the connection is gone."""
        if self.connected:
            self.connected = False
            protocol, self.protocol = self.protocol, None  # as real ones do
            protocol.connectionLost(Failure(error or ConnectionDone()))


@dataclass(frozen=True)
class Sent:
    """A command of the application."""

    id: str
    command: Command
    payload: bytes

    @property
    def text(self) -> str:
        """All that stands behind the id."""
        return self.payload.partition(b"|")[2].decode("utf-8", "surrogateescape")

    @property
    def message(self) -> SendMessage:
        """The command, which has to be one with a SIP message."""
        assert isinstance(self.command, SendMessage), self.command
        return self.command

    @property
    def transaction_id(self) -> str:
        """The transaction that the message names."""
        return self.message.transaction_id

    @property
    def dialog_id(self) -> str:
        """The dialog that the message names."""
        return self.message.dialog_id

    @property
    def response(self) -> sip.Response:
        """The response that was sent."""
        assert self.message.message.startswith(b"SIP/2.0 "), self.text
        return sip.Response.from_bytes(self.message.message)

    @property
    def request(self) -> sip.Request:
        """The request that was sent."""
        assert not self.message.message.startswith(b"SIP/2.0 "), self.text
        return sip.Request.from_bytes(self.message.message)

    @property
    def head(self) -> str:
        """The command in short: ``200``, ``BYE``, or the whole text of one without a message."""
        if not isinstance(self.command, SendMessage):
            return self.text
        if self.command.message.startswith(b"SIP/2.0 "):
            return str(self.response.status)
        return self.request.method


class Server:
    """The far end of a connection."""

    def __init__(self, bench: Bench, protocol: Any, *, host_ports: str = HOST_PORTS) -> None:
        self.protocol = protocol
        self.transport = Transport(bench.clock)
        self.transport.protocol = protocol
        self.host_ports = host_ports
        self.secret: str | None = None
        self.tags: list[str] = []
        self.routes: list[str] = []
        self.left: list[Sent] = []
        self._bench = bench
        self._decoder = FrameDecoder()
        self._together: list[bytes] | None = None
        self._count = 0
        self._messages: dict[str, sip.Request] = {}
        protocol.makeConnection(self.transport)

    # What the application sends

    def frames(self) -> list[bytes]:
        """Take what was sent since, as it is."""
        data = self.transport.value()
        self.transport.clear()
        return self._decoder.feed(data)

    def take(self) -> list[Sent]:
        """Take what was sent since, except what every server answers alike."""
        taken, self.left = self.left, []
        for payload in self.frames():
            message_id, command = parse_command(payload)
            sent = Sent(message_id, command, payload)
            kind, _, rest = sent.text.partition("|")
            if kind == "authenticate":
                self.secret, _, tags = rest.partition("|")
                self.tags = [tag for tag in tags.split(",") if tag]
                self.reply(sent, f"OK|{self.host_ports}|{VERSION}|{self.host_ports}")
                taken += self.take()
            elif kind == "route":
                self.routes.append(rest)
                self.reply(sent, "OK")
            elif kind == "remove_route":
                self.routes.clear()  # all of them, as real servers do
                self.reply(sent, "OK")
            elif kind == "ping":
                self.reply(sent, "OK|pong")
            else:
                taken.append(sent)
        return taken

    def one(self) -> Sent:
        """Take the only command that was sent since."""
        taken = self.take()
        assert len(taken) == 1, f"not one command: {[sent.text for sent in taken]}"
        return taken[0]

    def heads(self) -> list[str]:
        """Take what was sent since, in short."""
        return [sent.head for sent in self.take()]

    # What the server sends

    def send(self, payload: str | bytes) -> None:
        """Send a frame."""
        data = payload.encode("utf-8", "surrogateescape") if isinstance(payload, str) else payload
        frame = encode_frame(data, limit=None)
        if self._together is not None:
            self._together.append(frame)
        else:
            self.protocol.dataReceived(frame)

    @contextmanager
    def in_one_read(self) -> Iterator[None]:
        """Let all that is sent meanwhile arrive in a single read."""
        frames: list[bytes] = []
        self._together = frames
        try:
            yield
        finally:
            self._together = None
        self.protocol.dataReceived(b"".join(frames))

    def reply(self, sent: Sent, text: str) -> None:
        """Answer a command."""
        self.send(f"{self._name('r')}|response|{sent.id}|{text}")

    def refuse(self, sent: Sent, text: str) -> None:
        """Answer a command with NOK."""
        self.reply(sent, f"NOK|{text}")

    def gone(self, sent: Sent) -> None:
        """Say that the transaction of a response is over."""
        self.refuse(sent, "Response not sent due to unknown transaction")

    def confirm(self, sent: Sent, dialog_id: str = "") -> str:
        """Say that a message was sent; the answer names the transaction.

        :param dialog_id: of the dialog that a response made.
        :returns: the transaction id.
        """
        message = sent.message
        head = "OK|application|300|udp|127.0.0.1|32070|01:02:03.000004"
        if message.message.startswith(b"SIP/2.0 "):
            transaction: str = message.transaction_id
            request = self._messages.get(transaction)
            echo = sip.Response.from_bytes(message.message)
            if request is not None:
                for name in ("Via", "From", "Call-ID", "CSeq"):
                    echo.set(name, request.get(name) or "")
                to = request.get("To") or ""
                echo.set("To", to if ";tag=" in to else f"{to};tag=app")
                if echo.status < 300 and not echo.has("Contact"):
                    echo.set("Contact", "<sip:127.0.0.1:32060>")
            line = f"{head}|{transaction}|{dialog_id}||Msg sent:|"
            raw = bytes(echo)
        else:
            transaction = self._name("t")
            line = f"{head}|{transaction}|Msg sent:|"
            raw = message.message
        text = f"{self._name('r')}|response|{sent.id}|{line}\r\n".encode()
        self.send(text + raw)
        return transaction

    def ask(
        self,
        method: str,
        *,
        headers: Mapping[str, str | None] | None = None,
        body: str = "",
        call: str = "c1",
        dialog_id: str = "",
        transaction_id: str = "",
        number: int = 1,
        source: str = "network",
        uri: str = "sip:app@127.0.0.1:32060",
    ) -> str:
        """Send a request of the network.

        :returns: its transaction id.
        """
        transaction_id = transaction_id or self._name("t")
        tag = ";tag=app" if dialog_id else ""
        message = sip.Request(method, uri)
        message.set("Via", f"SIP/2.0/UDP 127.0.0.1:32070;branch=z9hG4bK-{transaction_id}")
        ends = ['"Alice" <sip:alice@127.0.0.1:32070>;tag=a', f"<sip:app@127.0.0.1:32060>{tag}"]
        if source == "application":
            ends.reverse()  # a request of the server's own goes the other way
        message.set("From", ends[0])
        message.set("To", ends[1])
        message.set("Call-ID", call)
        message.set("CSeq", f"{number} {method}")
        message.set("Contact", "<sip:alice@127.0.0.1:32070>")
        if body:
            message.set("Content-Type", "application/sdp")
        for name, value in (headers or {}).items():
            if value is None:
                message.headers.remove(name)
            else:
                message.set(name, value)
        message.body = body
        protocol = "" if method == "ACK" else "udp"
        if method != "CANCEL":
            self._messages[transaction_id] = message
        line = f"{self._name('m')}|sip|{source}|400|{protocol}|127.0.0.1|32070|01:02:03.000004|"
        line += f"{transaction_id}|{dialog_id}|"
        if not dialog_id:
            line += "127.0.0.1|32060|"
        self.send(f"{line}\r\n".encode() + bytes(message))
        return transaction_id

    def invite(self, **options: Any) -> str:
        """Send a new INVITE with an offer."""
        options.setdefault("body", OFFER)
        return self.ask("INVITE", **options)

    def cancel(self, transaction_id: str, **options: Any) -> None:
        """Send the CANCEL of an INVITE, which the server has answered."""
        self.ask("CANCEL", transaction_id=transaction_id, **options)

    def respond(
        self,
        transaction_id: str,
        status: int,
        *,
        headers: dict[str, str] | None = None,
        body: str = "",
        dialog_id: str = "",
        method: str = "INFO",
    ) -> None:
        """Send the response of a peer to a request of the application."""
        message = sip.Response(status)
        message.set("CSeq", f"2 {method}")
        call, _, tag = dialog_id.rpartition(";from-tag=")
        message.set("Call-ID", call or "c1")
        if call:
            message.set("From", f"<sip:app@127.0.0.1>;tag={tag}")
        for name, value in (headers or {}).items():
            message.set(name, value)
        message.body = body
        line = f"{self._name('m')}|sip|network|300|udp|127.0.0.1|32070|01:02:03.000004|"
        self.send(f"{line}{transaction_id}|{dialog_id}|\r\n".encode() + bytes(message))

    def lose(self) -> None:
        """Lose the connection."""
        self.transport.lose()

    @property
    def closed(self) -> bool:
        """Whether the application has closed the connection."""
        return self.transport.disconnecting

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    # Both, for the usual

    def establish(self, call: str = "c1", **options: Any) -> str:
        """Call the application, which answers by :meth:`Srf.create_uas`, up to the ACK.

        :returns: the dialog id.
        """
        transaction_id = self.invite(call=call, **options)
        dialog_id = f"{call};from-tag=a"
        with self.in_one_read():
            self.confirm(self.one(), dialog_id)
            self.ask("ACK", call=call, dialog_id=dialog_id, transaction_id=transaction_id)
        return dialog_id


class Endpoint:
    """Both kinds of endpoint: where connections are made, and where they are waited for."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.factories: list[IProtocolFactory] = []
        self.refusing = False
        self.stopped = 0

    def connect(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Connect, which is known a moment later."""
        connecting: Deferred[Any] = Deferred()

        def connected() -> None:
            if self.refusing:
                connecting.errback(ConnectionRefusedError())
                return
            protocol: Any = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9022))
            # ClientService wraps protocols; the wrapper passes all on.
            self._bench.servers.append(Server(self._bench, protocol))
            connecting.callback(protocol)

        self._bench.clock.callLater(0, connected)
        return connecting

    def listen(self, factory: IProtocolFactory) -> Deferred[Any]:
        """Remember who waits for connections."""
        self.factories.append(factory)
        listening: Deferred[Any] = Deferred()
        listening.callback(self)
        return listening

    # IListeningPort

    def getHost(self) -> IPv4Address:
        """Give the address."""
        return IPv4Address("TCP", "127.0.0.1", 9023)

    def stopListening(self) -> None:
        """Remember that nobody waits any more."""
        self.stopped += 1
        self.factories.clear()


class Bench:
    """An application, and the servers it has met."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.srf = Srf(reactor=self.clock, **options)
        self.servers: list[Server] = []
        self.endpoint = Endpoint(self)

    def connect(self, **options: Any) -> Server:
        """Connect the application to a server, up to the routes."""
        options.setdefault("secret", "cymru")
        options.setdefault("ping_interval", None)
        endpoint: Any = self.endpoint
        self.connection = self.srf.connect(Connect(endpoint, "memory", False), **options)
        self.settle()
        return self.servers[-1]

    def listen(self, **options: Any) -> None:
        """Let the application wait for servers."""
        options.setdefault("secret", "cymru")
        endpoint: Any = self.endpoint
        self.listener = self.srf.listen(Listen(endpoint, "memory", False), **options)

    def dial(self) -> Server:
        """Connect a server to the application."""
        protocol: Any = self.endpoint.factories[0].buildProtocol(
            IPv4Address("TCP", "127.0.0.1", 9022)
        )
        server = Server(self, protocol)
        self.servers.append(server)
        self.settle()
        return server

    def settle(self) -> None:
        """Let what is due happen, and authenticate new connections."""
        self.clock.advance(0)
        for server in self.servers:
            if server.secret is None and server.transport.connected:
                server.left = server.take()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in one step."""
        self.clock.advance(seconds)
