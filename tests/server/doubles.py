"""The server's core between a network and applications that are only memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from drachtwist.errors import LocalProtocolError
from drachtwist.net.contacts import Contact
from drachtwist.net.protocol import DrachtioServerProtocol
from drachtwist.net.sip.flows import Flow, Listener, Target
from drachtwist.net.tap import SipTap
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.core import ServerCore
from drachtwist.server.incoming import Incoming
from drachtwist.sip.locating import Question, Records
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_message
from drachtwist.wire.decisions import AppAddress
from drachtwist.wire.frames import FrameDecoder, encode_frame
from drachtwist.wire.session import Commanded, ServerSession

PORT = 32060
"""Where the server serves SIP, as in the recordings."""
HOST = "127.0.0.1"


class Wire:
    """Carries SIP nowhere, but remembers it."""

    def __init__(
        self,
        host: str = HOST,
        contact: Contact | None = None,
        protocols: Sequence[str] = ("udp", "tcp"),
    ) -> None:
        self.host = host
        contact = Contact("") if contact is None else contact
        self.listeners = [Listener(name, host, PORT, contact) for name in protocols]
        self.sent: list[tuple[Flow, bytes]] = []
        self.closed: set[Flow] = set()
        self.tap: SipTap | None = None

    def flow(self, host: str, port: int, protocol: str = "udp") -> Flow:
        """Give the flow to a peer."""
        listener = next(one for one in self.listeners if one.protocol == protocol)
        channel = 1 if protocol == "udp" else port
        own = listener.host_toward(host)
        return Flow(protocol, host, port, channel, own, PORT, listener)

    def send(self, flow: Flow, data: bytes) -> bool:
        """Remember a message."""
        if flow in self.closed:
            return False
        self.sent.append((flow, data))
        if self.tap is not None:
            self.tap.sip_passed(flow, data, True)
        return True

    def close(self, flow: Flow) -> None:
        """Close a flow."""
        self.closed.add(flow)

    def is_open(self, flow: Flow) -> bool:
        """Whether the flow was not closed."""
        return flow not in self.closed

    def flow_to(
        self, target: Target, listener: Listener | None = None, timeout: float | None = None
    ) -> Flow:
        """Give the flow to an address."""
        if all(one.protocol != target.protocol for one in self.listeners):
            raise LocalProtocolError(f"no transport for {target}")
        return self.flow(target.host, target.port, target.protocol)

    def open_flow(self, protocol: str, host: str, port: int) -> Flow | None:
        """Say that a connection is open unless it was closed."""
        flow = self.flow(host, port, protocol)
        return None if flow in self.closed else flow

    def listener_for(self, protocol: str, host: str) -> Listener | None:
        """Give our address."""
        return next((one for one in self.listeners if one.protocol == protocol), None)


class Link:
    """A connection of an application: frames in, frames out."""

    def __init__(self, bench: Bench, protocol: DrachtioServerProtocol) -> None:
        self.protocol = protocol
        self.transport = StringTransport()
        self._decoder = FrameDecoder()
        self._bench = bench
        protocol.makeConnection(self.transport)

    def send(self, payload: bytes) -> None:
        """Send a frame to the server."""
        self.protocol.dataReceived(encode_frame(payload, limit=1 << 20))

    def take(self) -> list[str]:
        """Take the frames that the server sent since."""
        data = self.transport.value()
        self.transport.clear()
        return [frame.decode("utf-8", "surrogateescape") for frame in self._decoder.feed(data)]

    def close(self) -> None:
        """Lose the connection."""
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        if self.transport.producer is not None:
            self.transport.unregisterProducer()  # as real ones do
        self.protocol.connectionLost(Failure(ConnectionDone()))

    # What an application does

    def command(self, text: str, name: str = "m") -> list[str]:
        """Send a command, and give all that comes back."""
        self.send(f"{name}|{text}".encode())
        return self.take()

    def answer(self, transaction_id: str, message: str) -> list[str]:
        """Send a response, and give what comes back."""
        return self.command(f"sip|{transaction_id}|\r\n{message}\r\n\r\n")

    def ask(self, dialog_id: str, message: str) -> list[str]:
        """Send a request, and give what comes back."""
        return self.command(f"sip||{dialog_id}\r\n{message}\r\n\r\n")


class Bench:
    """A core, a Clock, a wire and as many applications as wanted."""

    def __init__(
        self,
        clock: Clock | None = None,
        host: str = HOST,
        contact: Contact | None = None,
        protocols: Sequence[str] = ("udp", "tcp"),
        **settings: Any,
    ) -> None:
        self.clock = Clock() if clock is None else clock
        self.wire = Wire(host, contact, protocols)
        settings.setdefault("require_authentication", False)
        self.config = ServerConfig(**settings)
        self.core = ServerCore(self.config, self.wire, self, self.clock, wall=lambda: 0.0)
        self.wanted: list[tuple[AppAddress, Incoming]] = []
        self.asked: list[Incoming] = []
        self.unread_links: list[tuple[DrachtioServerProtocol, str]] = []
        """The applications that left too much unread, or read nothing."""
        self.zone: dict[tuple[str, str], Records] | None = None
        """Records by kind and name; None for a DNS that lets everybody wait."""
        self.looked_up: list[tuple[Question, Callable[[Records | None], object]]] = []
        """The questions that nobody has answered."""
        self.domains: list[str] = []
        """What is put behind names."""

    # The connector

    def connect(self, address: AppAddress, incoming: Incoming) -> None:
        """Remember that an application was wanted."""
        self.wanted.append((address, incoming))

    def ask(self, handler: RequestHandler, incoming: Incoming) -> None:
        """Remember that a web application was asked."""
        self.asked.append(incoming)

    def look_up(self, question: Question, told: Callable[[Records | None], object]) -> None:
        """Answer from the zone, or remember what was asked."""
        if self.zone is not None:
            told(self.zone.get((question.kind, question.name), ()))
        else:
            self.looked_up.append((question, told))

    def full_names(self, host: str) -> list[str]:
        """Put the domains behind a name without a dot."""
        return [*([] if "." in host else [f"{host}.{one}" for one in self.domains]), host]

    def answer_all(self, zone: dict[tuple[str, str], Records]) -> list[str]:
        """Answer all questions, also those that come of it; give them."""
        asked = []
        while self.looked_up:
            question, told = self.looked_up.pop(0)
            asked.append(f"{question.kind} {question.name}")
            told(zone.get((question.kind, question.name), ()))
        return asked

    # The handler of links

    def opened(self, link: DrachtioServerProtocol) -> None:
        """A connection is open."""

    def signed(self, link: DrachtioServerProtocol) -> None:
        """An application showed the secret."""
        self.core.signed(link)

    def wrong_secret(self, link: DrachtioServerProtocol) -> None:
        """An application showed another secret."""

    def broken(self, link: DrachtioServerProtocol, error: Exception) -> None:
        """An application sends what is no frame."""

    def unread(self, link: DrachtioServerProtocol, why: str) -> None:
        """An application leaves too much unread."""
        self.unread_links.append((link, why))

    def commanded(self, link: DrachtioServerProtocol, event: Commanded) -> None:
        """An application sent a command."""
        self.core.commanded(link, event)

    def gone(self, link: DrachtioServerProtocol) -> None:
        """A connection is gone."""
        self.core.gone(link)

    # What tests do

    def session(self) -> ServerSession:
        """Make the state of a connection."""
        addresses = [f"{kind}/{self.wire.host}:{PORT}" for kind in ("tcp", "udp")]
        return ServerSession(
            self.config.secret,
            addresses,
            self.config.version,
            require_authentication=self.config.require_authentication,
        )

    def link(self, *verbs: str, outbound: bool = False) -> Link:
        """Connect an application that routes some verbs."""
        protocol = DrachtioServerProtocol(
            self.session(),
            self,
            outbound=outbound,
            unread=self.config.limits.unread,
            clock=self.clock,
            patience=self.config.limits.unread_timeout,
        )
        link = Link(self, protocol)
        if verbs:
            link.command("authenticate|cymru|")
            for verb in verbs:
                link.command(f"route|{verb}")
        return link

    def dial(self) -> Link:
        """Make the connection that the server wants."""
        _, incoming = self.wanted.pop(0)
        link = self.link(outbound=True)
        self.core.expect(link.protocol, incoming)
        return link

    def receive(
        self,
        text: str | bytes,
        port: int = 32070,
        protocol: str = "udp",
        size: int | None = None,
        host: str = HOST,
    ) -> None:
        """Let a message come from the network; lines may end in LF alone."""
        raw = text if isinstance(text, bytes) else sip(text)
        flow = self.wire.flow(host, port, protocol)
        if self.wire.tap is not None:
            self.wire.tap.sip_passed(flow, raw, False)
        self.core.sip_received(parse_message(raw), flow, len(raw) if size is None else size)

    def confirm(self, port: int = 32070, host: str = HOST) -> None:
        """Let a phone be one that has shown that it receives us: all repeats go there."""
        self.core.amplification.confirm(self.wire.flow(host, port))

    def take(self) -> list[Request | Response]:
        """Take what was sent to the network since."""
        sent, self.wire.sent = self.wire.sent, []
        return [parse_message(data) for _, data in sent]

    def heads(self) -> list[str]:
        """Take what was sent to the network since, in short: statuses, and methods."""
        return [head(message) for message in self.take()]


def head(message: Request | Response) -> str:
    """Give ``200 INVITE`` for a response, and the method of a request."""
    if isinstance(message, Request):
        return message.method
    return f"{message.status} {message.cseq.method}"


def sip(text: str) -> bytes:
    """Make a message out of lines."""
    lines, _, body = text.partition("\n\n")
    return ("\r\n".join(lines.strip("\n").split("\n")) + "\r\n\r\n" + body).encode()


def request(
    method: str,
    *,
    call: str = "c1",
    number: int = 1,
    branch: str = "",
    to_tag: str = "",
    from_tag: str = "a",
    port: int = 32070,
    extra: str = "",
    body: str = "",
) -> str:
    """Write a request of a caller."""
    tag = f";tag={to_tag}" if to_tag else ""
    kind = f"{method}-{number}" if method not in ("CANCEL",) else f"INVITE-{number}"
    lines = [
        f"{method} sip:app@{HOST}:{PORT} SIP/2.0",
        f"Via: SIP/2.0/UDP {HOST}:{port};branch=z9hG4bK{call}-{branch or kind};rport={port}",
        f'From: "Alice" <sip:alice@{HOST}:{port}>;tag={from_tag}',
        f"To: <sip:app@{HOST}:{PORT}>{tag}",
        f"Call-ID: {call}",
        f"CSeq: {number} {method}",
        f"Contact: <sip:alice@{HOST}:{port}>",
        "Max-Forwards: 70",
        *[line for line in extra.split("\n") if line],
        f"Content-Length: {len(body)}",
    ]
    return "\n".join(lines) + "\n\n" + body
