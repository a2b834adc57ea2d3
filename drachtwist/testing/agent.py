"""How a phone sends and receives: transactions over datagrams or connections in memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from drachtwist.errors import MessageError
from drachtwist.net.clock import DeadlineClock
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_datagram
from drachtwist.sip.stream import StreamParser
from drachtwist.sip.uri import SipUri, Uri
from drachtwist.testing.datagrams import Datagrams
from drachtwist.testing.history import Address, History
from drachtwist.testing.hosts import Host
from drachtwist.testing.links import Link, Message
from drachtwist.transactions.client import InviteClient, NonInviteClient
from drachtwist.transactions.machine import (
    Deliver,
    Effect,
    Machine,
    SendCancel,
    TimedOut,
    Transaction,
    Transmit,
)
from drachtwist.transactions.matching import (
    cancelled_key,
    client_key,
    request_client_key,
    server_key,
)
from drachtwist.transactions.server import InviteServer, NonInviteServer

__all__ = ["Agent", "ClientTransaction", "ServerTransaction"]


class ClientTransaction:
    """A request that is on its way.

    :param told: gets each response, or None when nobody answers.
    """

    def __init__(
        self,
        agent: Agent,
        machine: InviteClient | NonInviteClient,
        target: Address,
        told: Callable[[Response | None], object],
    ) -> None:
        self.machine = machine
        self._agent = agent
        self._target = target
        self._told = told
        self.on_cancel: Callable[[], object] | None = None
        machine.owner = self

    def react(self, effects: list[Effect]) -> None:
        """Do what the machine wants."""
        for effect in effects:
            if isinstance(effect, Transmit):
                self._agent.transmit(effect.data, self._target)
            elif isinstance(effect, Deliver):
                assert isinstance(effect.message, Response)
                self._told(effect.message)
            elif isinstance(effect, TimedOut):
                self._told(None)
            elif isinstance(effect, SendCancel) and self.on_cancel is not None:
                self.on_cancel()
        self._agent.watch(self.machine)

    def cancel(self) -> None:
        """Cancel the INVITE, as soon as that is allowed."""
        assert isinstance(self.machine, InviteClient)
        self.react(self.machine.cancel(self._agent.seconds()))


class ServerTransaction:
    """A request that came, and where its answer goes."""

    def __init__(
        self, agent: Agent, machine: InviteServer | NonInviteServer, target: Address
    ) -> None:
        self.machine = machine
        self.request = machine.request
        self.on_ack: Callable[[Request], object] | None = None
        self._agent = agent
        self._target = target
        machine.owner = self

    @property
    def answered(self) -> bool:
        """Whether a final response was sent."""
        return self.machine.status >= 200

    def send(self, response: Response) -> None:
        """Send a response."""
        self.react(self.machine.respond(response, self._agent.seconds()))

    def react(self, effects: list[Effect]) -> None:
        """Do what the machine wants."""
        for effect in effects:
            if isinstance(effect, Transmit):
                self._agent.transmit(effect.data, self._target)
            elif isinstance(effect, Deliver) and self.on_ack is not None:
                assert isinstance(effect.message, Request)
                self.on_ack(effect.message)
        self._agent.watch(self.machine)


class User:
    """Whom an agent tells what came."""

    def requested(self, request: Request, transaction: ServerTransaction | None) -> None:
        """Take in a new request; an ACK to a 2xx has no transaction."""
        raise NotImplementedError

    def cancelled(self, transaction: ServerTransaction) -> None:
        """Note that the caller gave up."""
        raise NotImplementedError

    def answered_again(self, response: Response) -> None:
        """Take in a 2xx that belongs to no transaction any more."""
        raise NotImplementedError

    def passes(self, message: Message) -> bool:
        """Return whether to look at a message at all."""
        raise NotImplementedError


class Agent:
    """The transactions of a phone.

    :param host: its machine.
    :param port: where it listens.
    :param transport: ``udp`` or ``tcp``.
    :param user: told what comes.
    """

    def __init__(
        self,
        host: Host,
        port: int,
        transport: str,
        datagrams: Datagrams,
        history: History,
        user: User,
        *,
        automatic: bool,
    ) -> None:
        self._host = host
        self.where: Address = (host.host, port)
        self.transport = transport
        self.link = Link()
        self.automatic = automatic
        self._datagrams = datagrams
        self._history = history
        self._user = user
        self._deadlines = DeadlineClock(host, self._perform)
        self.seconds = self._deadlines.seconds
        self._numbers = itertools.count(1)
        self._clients: dict[str, ClientTransaction] = {}
        self._servers: dict[str, ServerTransaction] = {}
        self._streams: dict[Address, _Stream] = {}
        self.received: list[Message] = []
        self._sent: list[bytes] = []
        self._port: Any = None
        if transport == "udp":
            datagrams.receivers[self.where] = self
            datagrams.links[self.where] = self.link
        else:
            self._port = host.listenTCP(port, _Factory(self), interface=host.host)

    # The wire

    def transmit(self, data: bytes, target: Address) -> None:
        """Send octets."""
        self._sent.append(data)
        if self.transport == "udp":
            self._datagrams.send(data, self.where, target)
            return
        stream = self._streams.get(target)
        if stream is None:
            stream = self._streams[target] = _Stream(self)
            self._host.connectTCP(*target, _Factory(self, stream))
        stream.send(data)

    @property
    def sent(self) -> list[Message]:
        """Every message that was sent, also again; what is none is left out."""
        found: list[Message] = []
        for data in self._sent:
            try:
                found.append(parse_datagram(data))
            except MessageError:
                continue
        return found

    def datagram_received(self, data: bytes, host: str, port: int) -> None:
        """Take in a datagram."""
        data = data.lstrip(b"\r\n")
        if not data.strip(b"\0 \t"):
            return  # a keep-alive
        # Not checked in whole: what a phone needs of it, it reads, and the rest is for the test.
        kind = Response if data.startswith(b"SIP/") else Request
        self.take(kind.from_bytes(data), (host, port))

    def take(self, message: Message, source: Address) -> None:
        """Take in a message."""
        self.received.append(message)
        if not self.automatic:
            return
        try:
            if not self._user.passes(message):
                return
            if isinstance(message, Response):
                self._take_response(message)
            else:
                self._take_request(message, source)
        except MessageError as error:
            self._history.remark(self.where, f"not understood: {error}")

    def known(self, stream: _Stream, target: Address) -> None:
        """Note a connection that somebody made."""
        self._streams.setdefault(target, stream)

    def gone(self, stream: _Stream) -> None:
        """Forget a connection."""
        for target, one in list(self._streams.items()):
            if one is stream:
                del self._streams[target]

    def close(self) -> None:
        """Leave the network."""
        self._deadlines.stop()
        if self.transport == "udp":
            self._datagrams.receivers.pop(self.where, None)
            self._datagrams.links.pop(self.where, None)
        elif self._port is not None:
            self._port.stopListening()
            for stream in list(self._streams.values()):
                stream.close()

    @property
    def connections(self) -> int:
        """How many connections are up."""
        return len(self._streams)

    # Transactions

    def via(self) -> str:
        """Write a Via with a new branch."""
        branch = f"z9hG4bK{self._host.name}{next(self._numbers)}"
        host, port = self.where
        host = f"[{host}]" if ":" in host else host
        return f"SIP/2.0/{self.transport.upper()} {host}:{port};branch={branch};rport"

    def ask(
        self, request: Request, target: Address, told: Callable[[Response | None], object]
    ) -> ClientTransaction:
        """Send a request, whose topmost Via is ours."""
        kind = InviteClient if request.method == "INVITE" else NonInviteClient
        machine = kind(request, reliable=self.transport != "udp")
        transaction = ClientTransaction(self, machine, target, told)
        self._clients[request_client_key(request)] = transaction
        transaction.react(machine.start(self.seconds()))
        return transaction

    def watch(self, machine: Machine) -> None:
        """Watch a machine's deadline."""
        self._deadlines.watch(machine)
        if isinstance(machine, Transaction) and machine.deadline is None:
            self._forget(machine)

    def forget(self, machine: Machine) -> None:
        """Watch a machine no more."""
        self._deadlines.forget(machine)

    def _forget(self, machine: Transaction) -> None:
        if machine.state.value != "terminated":
            return
        request: Request = machine.request  # type: ignore[attr-defined]
        if isinstance(machine, InviteClient | NonInviteClient):
            self._clients.pop(request_client_key(request), None)
        else:
            self._servers.pop(server_key(request), None)

    def _perform(self, machine: Machine, effects: list[Effect]) -> None:
        machine.owner.react(effects)

    def _take_response(self, response: Response) -> None:
        transaction = self._clients.get(client_key(response))
        if transaction is not None:
            transaction.react(transaction.machine.receive(response, self.seconds()))
        elif response.cseq.method == "INVITE" and 200 <= response.status < 300:
            self._user.answered_again(response)

    def _take_request(self, request: Request, source: Address) -> None:
        key = server_key(request)
        found = self._servers.get(key)
        if found is not None:
            found.react(found.machine.receive(request, self.seconds()))
            return
        if request.method == "ACK":
            self._user.requested(request, None)
            return
        kind = InviteServer if request.method == "INVITE" else NonInviteServer
        machine = kind(request, reliable=self.transport != "udp")
        transaction = self._servers[key] = ServerTransaction(
            self, machine, self._answer_to(request, source)
        )
        if request.method == "CANCEL":
            invite = self._servers.get(cancelled_key(request))
            transaction.send(reply(request, 481 if invite is None else 200))
            if invite is not None and not invite.answered:
                self._user.cancelled(invite)
            return
        self._user.requested(request, transaction)

    def _answer_to(self, request: Request, source: Address) -> Address:
        """Return where the answers to a request go: back where it came from (RFC 3581)."""
        via = request.vias[0]
        if self.transport == "udp" and "rport" not in via.params and via.port:
            return source[0], via.port
        return source

    @property
    def transactions(self) -> int:
        """How many transactions are not over."""
        return len(self._clients) + len(self._servers)


class _Stream(Protocol):
    """A connection of a phone."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._parser = StreamParser()
        self._waiting: list[bytes] = []
        self._peer: Address = ("", 0)

    def connectionMade(self) -> None:
        """Send what waited."""
        peer: Any = self.transport and self.transport.getPeer()
        self._peer = (peer.host, peer.port)
        self._agent.known(self, self._peer)
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.send(data)

    def send(self, data: bytes) -> None:
        """Send a message, now or when the connection is up."""
        if self.transport is None:
            self._waiting.append(data)
        else:
            self.transport.write(data)

    def close(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        """Take in octets."""
        for event in self._parser.feed(data):
            if isinstance(event, Request | Response):
                self._agent.take(event, self._peer)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """Note that it is gone."""
        self._agent.gone(self)


class _Factory(Factory):
    """Makes the connections of a phone."""

    noisy = False

    def __init__(self, agent: Agent, stream: _Stream | None = None) -> None:
        self._agent = agent
        self._stream = stream

    def buildProtocol(self, addr: Any) -> Any:
        """Return the connection that was wanted, or one for somebody who connects."""
        stream, self._stream = self._stream, None
        return stream or _Stream(self._agent)

    def startedConnecting(self, connector: Any) -> None:
        """An attempt begins."""

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """Nobody takes in connections there."""
        if self._stream is not None:
            self._agent.gone(self._stream)

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        """It is gone."""


def reply(request: Request, status: int, reason: str | None = None, to_tag: str = "") -> Response:
    """Make the response to a request: what RFC 3261 section 8.2.6 wants copied is."""
    response = Response(status, reason)
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        for value in request.get_all(name):
            response.add(name, value)
    if to_tag and not request.to_tag:
        response.set("To", f"{request.get('To')};tag={to_tag}")
    return response


def address_in(uri: str, resolve: Callable[[str], str | None]) -> Address | None:
    """Return where a URI leads; None when that is not known."""
    try:
        parsed = Uri.parse(uri)
    except MessageError:
        return None
    if not isinstance(parsed, SipUri):
        return None
    host = resolve(parsed.address)
    return None if host is None else (host, parsed.port or 5060)
