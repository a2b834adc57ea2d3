"""SIP over UDP, TCP and TLS: messages come in with a flow, and go out over a flow or to an address.

A :class:`Flow` says where a message came from and which socket or connection it came over; sending
to it answers over the same. :meth:`SipTransports.send_to` finds or makes a flow to an address: UDP
has one for each peer, streams reuse a connection to the same address. A message for a connection
that is not up yet waits, and when it cannot be sent the handler learns it, with the reason:
a refused or broken connection at once, an unreachable UDP port as soon as the system tells (on
Linux; elsewhere it is silence).

Nobody is harmed by another's mistakes: a stream that cannot be read on is closed, one that is not
read by its peer is closed when too much waits for it, idle connections are closed, and there are
only so many of them.

Names are not resolved here: targets are addresses.
"""

from __future__ import annotations

import errno
import itertools
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol, Union, cast

from twisted.internet import protocol
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IDelayedCall,
    IHandshakeListener,
    IPushProducer,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.net.tls import TlsOptions, describe_tls_failure
from drachtwist.net.udp import UdpSocket, listening_socket
from drachtwist.net.vias import note_source
from drachtwist.sip.message import Request, Response, parse_datagram, parse_message
from drachtwist.sip.stream import KeepAlive, Malformed, StreamParser
from drachtwist.sip.uri import SipUri, Uri

__all__ = [
    "Flow",
    "Limits",
    "Listener",
    "SipHandler",
    "SipTransports",
    "Target",
    "check_contact",
]

PROTOCOLS = ("udp", "tcp", "tls")
"""What can be listened on."""

_DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061}
# Port 0 has to be free for UDP and TCP alike.
_PORT_ATTEMPTS = 32
# How long closing connections may take before they are cut.
_GRACE = 1.0
_REMEMBERED_PEERS = 4096


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that SIP is received on."""

    protocol: str
    """``udp``, ``tcp`` or ``tls``."""
    host: str
    """The address without brackets; ``0.0.0.0`` or ``::`` when it is all addresses."""
    port: int
    contact: str = ""
    """The text that it was made from."""
    channel: int = 0

    @property
    def wildcard(self) -> bool:
        """Whether this is all addresses of the machine."""
        return self.host in ("0.0.0.0", "::")

    @property
    def reliable(self) -> bool:
        """Whether the transport loses nothing."""
        return self.protocol != "udp"

    @property
    def ipv6(self) -> bool:
        """Whether the address is one of IPv6."""
        return ":" in self.host

    def host_toward(self, remote: str) -> str:
        """Give our own address as a peer sees it."""
        return _local_address(remote, self.host) if self.wildcard else self.host

    def __str__(self) -> str:
        return f"{self.protocol}/{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Flow:
    """One way to a peer and back.

    Two flows are equal when messages over them take the same socket to the same address.
    """

    protocol: str
    """``udp``, ``tcp`` or ``tls``."""
    remote_host: str
    """The peer's address, without brackets."""
    remote_port: int
    channel: int
    """The number of the socket (UDP) or the connection (streams); never used twice."""
    local_host: str = field(compare=False)
    """Our address as the peer sees it."""
    local_port: int = field(compare=False)
    """The port that we listen on with this transport, also when we opened the connection."""
    listener: Listener = field(compare=False, repr=False)

    @property
    def reliable(self) -> bool:
        """Whether the transport loses nothing."""
        return self.protocol != "udp"

    @property
    def local(self) -> str:
        """Our address and port."""
        return f"{_bracketed(self.local_host)}:{self.local_port}"

    @property
    def remote(self) -> str:
        """The peer's address and port."""
        return f"{_bracketed(self.remote_host)}:{self.remote_port}"


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send."""

    protocol: str
    host: str
    """An address, without brackets."""
    port: int
    name: str | None = None
    """The host name that a TLS certificate has to carry, if not the address."""

    def __str__(self) -> str:
        return f"{self.protocol}/{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may cost; times in seconds, sizes in bytes."""

    message: int = 2 << 20
    """The longest message on a stream."""
    connections: int = 4096
    """How many connections there may be; a further incoming one is closed at once."""
    unsent: int = 4 << 20
    """How much may wait for one connection before it is cut."""
    idle: float = 1800.0
    """How long a connection may stay without a message or keep-alive in any direction."""
    first_message: float = 60.0
    """How long an incoming connection may stay without its first message or keep-alive."""
    connect: float = 30.0
    """How long connecting may take."""


class SipHandler(Protocol):
    """What :class:`SipTransports` calls; what it raises is logged and harms nobody."""

    def sip_received(self, message: Request | Response, flow: Flow, size: int) -> None:
        """Take in a message that may be processed.

        :param message: a request has ``rport`` and maybe ``received`` in its topmost Via.
        :param size: how many octets were received, before that.
        """

    def sip_malformed(self, bad: Malformed, flow: Flow, size: int) -> None:
        """Learn of something that must not be processed.

        ``bad.message`` is a lenient reading, if there is one, to answer from. A stream that
        cannot be read on is closed after this, with what was sent meanwhile.
        """

    def sip_send_failed(self, flow: Flow, error: Exception, data: bytes) -> None:
        """Learn that a message did not reach its peer; never called from within a send.

        :param flow: what the sending gave or was given.
        :param data: the message; for UDP maybe only its first few hundred octets.
        """

    def sip_closed(self, flow: Flow, error: Exception | None) -> None:
        """Learn that a connection is gone.

        :param error: why, or None when either side closed it in the orderly way.
        """


_Channel = Union["_Datagrams", "_Stream"]


class SipTransports:
    """All sockets and connections that carry SIP.

    :param reactor: a reactor with ``IReactorFDSet``, ``IReactorTCP`` and ``IReactorSocket``.
    :param tls: key and certificate to listen on TLS with, and what to trust.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        handler: SipHandler,
        *,
        tls: TlsOptions | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.reactor = reactor
        self.handler = handler
        self.limits = Limits() if limits is None else limits
        self.listeners: list[Listener] = []
        """What is listened on, in the order of the contacts."""
        self._tls = tls
        self._numbers = itertools.count(1)
        self._channels: dict[int, _Channel] = {}
        self._ports: list[Any] = []
        self._streams: dict[Target, _Stream] = {}
        self._stream_count = 0
        self._sweep: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self._stopping = False

    # Listening

    def listen(self, contact: str) -> list[Listener]:
        """Listen as a contact says: ``sip:127.0.0.1:5060;transport=udp,tcp``.

        The host is an address, a name with an address, or ``*`` for all addresses. Port 0 is any
        free port, the same for UDP and TCP. Without ``transport`` it is UDP and TCP, for a
        ``sips:`` URI TLS.

        :returns: the new ones of :attr:`listeners`.
        :raises LocalProtocolError: for a contact that says something else, or TLS without a key.
        :raises CannotListenError: when an address cannot be had; then nothing is listened on.
        """
        host, port, protocols = _parse_contact(contact)
        if "tls" in protocols and self._tls is None:
            raise LocalProtocolError(f"TLS needs a key and a certificate: {contact}")
        hosts = [host]
        if host == "*":
            hosts = ["0.0.0.0", "::"] if _has_ipv6() else ["0.0.0.0"]
        bound = _bind_all(hosts, port, protocols)
        listeners = []
        for name, where, sock in bound:
            listener = Listener(
                name, where, sock.getsockname()[1], contact, channel=next(self._numbers)
            )
            listeners.append(listener)
            if name == "udp":
                self._channels[listener.channel] = _Datagrams(self, listener, sock)
                continue
            factory: Any = _StreamFactory(self, listener)
            if name == "tls":
                assert self._tls is not None
                factory = TLSMemoryBIOFactory(self._tls.server_context(), False, factory)
            with sock:  # the reactor makes a copy
                self._ports.append(
                    self.reactor.adoptStreamPort(sock.fileno(), sock.family, factory)
                )
        self.listeners += listeners
        return listeners

    def stop(self) -> Deferred[None]:
        """Close everything; what was sent is still delivered, for a second at most."""
        if self._stopped is None:
            self._stopping = True
            self._stopped = Deferred()
            if self._sweep is not None:
                self._sweep.cancel()
                self._sweep = None
            ports, self._ports = self._ports, []
            self.listeners = []
            waiting = [maybeDeferred(port.stopListening) for port in ports]
            streams = []
            for channel in list(self._channels.values()):
                if isinstance(channel, _Stream):
                    streams.append(channel)
                    waiting.append(channel.when_gone)
                    channel.close()
                else:
                    del self._channels[channel.listener.channel]
                    channel.close()
            self._finish(waiting, streams)
        return self._stopped

    def _finish(self, waiting: list[Deferred[Any]], streams: list[_Stream]) -> None:
        stopped = self._stopped
        assert stopped is not None
        left = len(waiting)
        if not left:
            stopped.callback(None)
            return

        def cut() -> None:
            for stream in streams:
                stream.cut(ConnectionAborted())

        timer = self.reactor.callLater(_GRACE, cut)

        def one_less(_: object) -> None:
            nonlocal left
            left -= 1
            if not left:
                if timer.active():
                    timer.cancel()
                stopped.callback(None)

        for each in waiting:
            each.addBoth(one_less)

    # Sending

    def listener_for(self, protocol: str, host: str) -> Listener | None:
        """Choose our address for talking to another; None when the transport is not offered.

        An address of the same family that has the most leading bits in common with the peer's;
        to another machine never the loopback address if there is any other.
        """
        best: Listener | None = None
        best_rank = (-1, -1)
        for listener in self.listeners:
            if listener.protocol == protocol and listener.ipv6 == (":" in host):
                if best is None and len(self.listeners) == 1:
                    return listener
                rank = _nearness(listener.host_toward(host), host)
                if rank > best_rank:
                    best, best_rank = listener, rank
        return best

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send over a flow.

        :returns: False when its connection is gone; then the handler is not called.
        """
        channel = self._channels.get(flow.channel)
        if channel is None:
            return False
        return channel.send(flow, data)

    def is_open(self, flow: Flow) -> bool:
        """Whether a flow can still be sent over."""
        channel = self._channels.get(flow.channel)
        return channel is not None and channel.usable

    def flow_to(
        self, target: Target, listener: Listener | None = None, timeout: float | None = None
    ) -> Flow:
        """Find or make the flow to an address; a stream starts to connect.

        :param listener: which of our addresses to use, if not the nearest.
        :param timeout: how many seconds connecting may take, if not as long as usual.
        :raises LocalProtocolError: when the transport is not offered, or there is no address.
        """
        if listener is None:
            listener = self.listener_for(target.protocol, target.host)
        if listener is None or self._stopping:
            raise LocalProtocolError(f"no transport for {target}")
        if target.protocol == "udp":
            channel = self._channels.get(listener.channel)
            if not isinstance(channel, _Datagrams):
                raise LocalProtocolError(f"{listener} is closed")
            return channel.flow(target.host, target.port)
        stream = self._streams.get(target)
        if stream is None or not stream.usable:
            stream = self._connect(target, listener, timeout)
        return stream.flow

    def send_to(self, target: Target, data: bytes, listener: Listener | None = None) -> Flow:
        """Send to an address.

        :param listener: which of our addresses to use, if not the nearest.
        :returns: the flow that it takes; failures will be told with the same.
        :raises LocalProtocolError: when the transport is not offered, or there is no address.
        """
        flow = self.flow_to(target, listener)
        self.send(flow, data)
        return flow

    def close(self, flow: Flow) -> None:
        """Close the connection of a flow; nothing for UDP."""
        channel = self._channels.get(flow.channel)
        if isinstance(channel, _Stream):
            channel.close()

    @property
    def connections(self) -> int:
        """How many connections there are, with those that are being made."""
        return self._stream_count

    # Streams

    def _connect(self, target: Target, listener: Listener, timeout: float | None) -> _Stream:
        _check_address(target.host)
        stream = _Stream(self, listener, target, incoming=False)
        self.add_stream(stream)
        factory: Any = _Outgoing(stream)
        if target.protocol == "tls":
            options = self._tls if self._tls is not None else TlsOptions()
            creator = options.client_creator(target.name or target.host)
            factory = TLSMemoryBIOFactory(creator, True, factory)
        stream.connector = self.reactor.connectTCP(
            target.host,
            target.port,
            factory,
            timeout=self.limits.connect if timeout is None else timeout,
            bindAddress=None if listener.wildcard else (listener.host, 0),
        )
        return stream

    def add_stream(self, stream: _Stream) -> None:
        """Take note of a connection."""
        self._stream_count += 1
        self._channels[stream.flow.channel] = stream
        # A connection that we made is preferred: its peer listens on that port.
        if not stream.incoming or stream.target not in self._streams:
            self._streams[stream.target] = stream
        if self._sweep is None and not self._stopping:
            self._sweep = self.reactor.callLater(self._sweep_interval(), self._close_idle)

    def remove_stream(self, stream: _Stream) -> None:
        """Forget a connection."""
        if self._channels.pop(stream.flow.channel, None) is None:
            return
        self._stream_count -= 1
        if self._streams.get(stream.target) is stream:
            del self._streams[stream.target]
        if not self._stream_count and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def next_channel(self) -> int:
        """Give a number that was not used yet."""
        return next(self._numbers)

    def _sweep_interval(self) -> float:
        return min(self.limits.idle, self.limits.first_message) / 4

    def _close_idle(self) -> None:
        self._sweep = None
        now = self.reactor.seconds()
        for channel in list(self._channels.values()):
            if isinstance(channel, _Stream):
                channel.close_if_idle(now)
        if self._stream_count:
            self._sweep = self.reactor.callLater(self._sweep_interval(), self._close_idle)

    # What came in

    def received(self, message: Request | Response, flow: Flow, size: int) -> None:
        """Hand a message up."""
        try:
            self.handler.sip_received(message, flow, size)
        except Exception:
            self._log.failure("a message from {peer} made us fail", peer=flow.remote)

    def malformed(self, bad: Malformed, flow: Flow, size: int) -> None:
        """Hand up what is no message."""
        try:
            self.handler.sip_malformed(bad, flow, size)
        except Exception:
            self._log.failure("a bad message from {peer} made us fail", peer=flow.remote)

    def send_failed(self, flow: Flow, error: Exception, data: bytes) -> None:
        """Hand up that a message did not arrive."""
        try:
            self.handler.sip_send_failed(flow, error, data)
        except Exception:
            self._log.failure("an unreachable {peer} made us fail", peer=flow.remote)

    def closed(self, flow: Flow, error: Exception | None) -> None:
        """Hand up that a connection is gone."""
        try:
            self.handler.sip_closed(flow, error)
        except Exception:
            self._log.failure("the lost connection of {peer} made us fail", peer=flow.remote)


class _Datagrams:
    """One UDP socket."""

    usable = True

    def __init__(self, transports: SipTransports, listener: Listener, bound: socket.socket) -> None:
        self._transports = transports
        self.listener = listener
        self._flows: dict[tuple[str, int], Flow] = {}
        self._socket = UdpSocket(transports.reactor, bound, self)

    def flow(self, host: str, port: int) -> Flow:
        """Give the flow to a peer."""
        flow = self._flows.get((host, port))
        if flow is None:
            _check_address(host)  # sendto would wait for the resolver
            if len(self._flows) >= _REMEMBERED_PEERS:
                self._flows.clear()
            listener = self.listener
            flow = self._flows[host, port] = Flow(
                "udp",
                host,
                port,
                listener.channel,
                listener.host_toward(host),
                listener.port,
                listener,
            )
        return flow

    def send(self, flow: Flow, data: bytes) -> bool:
        error = self._socket.send(data, flow.remote_host, flow.remote_port)
        if error is not None:
            transports = self._transports
            transports.reactor.callLater(0, transports.send_failed, flow, error, data)
        return True

    def close(self) -> None:
        self._socket.close()

    def datagram_received(self, data: bytes, host: str, port: int) -> None:
        size = len(data)
        data = data.lstrip(b"\r\n")
        if not data.strip(b"\0 \t"):
            return  # a keep-alive
        flow = self.flow(host, port)
        if data[:4].upper() != b"SIP/":
            data = note_source(data, host, port)
        try:
            message = parse_datagram(data)
        except MessageError as error:
            bad = Malformed(data, error, _lenient(data))
            self._transports.malformed(bad, flow, size)
        else:
            self._transports.received(message, flow, size)

    def datagram_refused(self, data: bytes, host: str, port: int, error: Exception) -> None:
        self._transports.send_failed(self.flow(host, port), error, data)


@implementer(IHandshakeListener, IPushProducer)
class _Stream(protocol.Protocol):
    """One TCP or TLS connection, from the first wish to have it."""

    def __init__(
        self, transports: SipTransports, listener: Listener, target: Target, *, incoming: bool
    ) -> None:
        self._transports = transports
        self.target = target
        self.incoming = incoming
        self.connector: IConnector | None = None
        self.flow = Flow(
            target.protocol,
            target.host,
            target.port,
            transports.next_channel(),
            listener.host_toward(target.host),
            listener.port,
            listener,
        )
        self.usable = True
        self.when_gone: Deferred[None] = Deferred()
        self._parser = StreamParser(transports.limits.message)
        # What waits for the connection to come up, None once it has.
        self._waiting: list[bytes] | None = []
        # How much was written since the peer ceased to read.
        self._unsent = 0
        self._paused = False
        self._spoken = False
        self._last_use: float = transports.reactor.seconds()
        self._error: Exception | None = None

    # Sending

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send, now or once the connection is up; say whether it can be at all."""
        if not self.usable:
            return False
        if self._waiting is not None or self._paused:
            self._unsent += len(data)
            if self._unsent > self._transports.limits.unsent:
                transports = self._transports
                error = ConnectError(string="too much waits for the connection")
                transports.reactor.callLater(0, transports.send_failed, self.flow, error, data)
                if self._paused:
                    self.cut(error)
                return True
            if self._waiting is not None:
                self._waiting.append(data)
                return True
        self._last_use = self._transports.reactor.seconds()
        assert self.transport is not None
        self.transport.write(data)
        return True

    def close(self) -> None:
        """Close when all is written."""
        self.usable = False
        if self.transport is not None:
            # A producer would keep it from closing.
            cast(Any, self.transport).unregisterProducer()
            self.transport.loseConnection()
        elif self.connector is not None:
            self.connector.disconnect()

    def cut(self, error: Exception) -> None:
        """Close at once.

        :param error: what the handler is told.
        """
        self.usable = False
        self._error = error
        if self.transport is not None:
            cast(Any, self.transport).abortConnection()
        elif self.connector is not None:
            self.connector.disconnect()

    def close_if_idle(self, now: float) -> None:
        """Close when nothing has happened for too long."""
        limits = self._transports.limits
        if self.incoming and not self._spoken:
            allowed = limits.first_message
        else:
            allowed = limits.idle if self._waiting is None else limits.connect
        if now - self._last_use < allowed:
            return
        if self._waiting is None:
            self.close()
        else:
            self.cut(TimeoutError(string="the connection does not come up"))

    # What Twisted calls

    def connectionMade(self) -> None:
        transport = cast(Any, self.transport)
        try:
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        except (AttributeError, OSError):
            pass  # gone already, or a transport without
        transport.registerProducer(self, True)
        if not self.usable:
            transport.abortConnection()
        elif self.target.protocol != "tls":
            self._up()

    def handshakeCompleted(self) -> None:
        """Learn that TLS is up."""
        self._up()

    def _up(self) -> None:
        waiting, self._waiting = self._waiting, None
        self._unsent = 0
        for data in waiting or ():
            self.send(self.flow, data)

    def pauseProducing(self) -> None:
        """Learn that the peer does not read as fast as we write."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Learn that the peer has read."""
        self._paused = False
        self._unsent = 0

    def stopProducing(self) -> None:
        """Learn that the connection is gone, which comes otherwise too."""

    def dataReceived(self, data: bytes) -> None:
        transports, flow = self._transports, self.flow
        parser = self._parser
        for event in parser.feed(data):
            if not self.usable:
                return
            self._last_use = transports.reactor.seconds()
            self._spoken = True
            if isinstance(event, KeepAlive):
                self.send(flow, b"\r\n")
            elif isinstance(event, Malformed):
                transports.malformed(self._completed(event), flow, len(event.raw))
            elif isinstance(event, Request):
                raw = bytes(event)
                noted = note_source(raw, flow.remote_host, flow.remote_port)
                transports.received(Request.from_bytes(noted), flow, len(raw))
            else:
                transports.received(event, flow, len(event.raw))
        if parser.error is not None:
            self.close()

    def _completed(self, bad: Malformed) -> Malformed:
        if not isinstance(bad.message, Request):
            return bad
        noted = note_source(bad.raw, self.flow.remote_host, self.flow.remote_port)
        return Malformed(noted, bad.error, _lenient(noted))

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        error: Exception | None = self._error
        if error is None and not reason.check(ConnectionDone):
            error = cast(Exception, reason.value)
        if self._waiting is not None:
            self.failed(error or ConnectionLost())
            return
        self._gone()
        self._transports.closed(self.flow, error)

    def failed(self, error: Exception) -> None:
        """Learn that the connection could not be made."""
        if self._error is not None:
            error = self._error
        text = describe_tls_failure(error)
        if text is not None:
            error = ConnectError(string=text)
        waiting, self._waiting = self._waiting or [], []
        self._gone()
        for data in waiting:
            self._transports.send_failed(self.flow, error, data)

    def _gone(self) -> None:
        self.usable = False
        self._transports.remove_stream(self)
        if not self.when_gone.called:
            self.when_gone.callback(None)


class _StreamFactory(protocol.ServerFactory):
    """Takes in connections."""

    noisy = False
    _log = Logger()

    def __init__(self, transports: SipTransports, listener: Listener) -> None:
        self._transports = transports
        self._listener = listener

    def buildProtocol(self, addr: IAddress | None) -> protocol.Protocol:
        transports = self._transports
        if transports.connections >= transports.limits.connections:
            self._log.warn("too many connections, {peer} is refused", peer=addr)
            return _Refused()
        peer = cast(Any, addr)
        target = Target(self._listener.protocol, peer.host, peer.port)
        stream = _Stream(transports, self._listener, target, incoming=True)
        transports.add_stream(stream)
        return stream


class _Refused(protocol.Protocol):
    """A connection too many."""

    def connectionMade(self) -> None:
        cast(Any, self.transport).abortConnection()


class _Outgoing(protocol.ClientFactory):
    """Makes one connection."""

    noisy = False

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream

    def buildProtocol(self, addr: IAddress | None) -> protocol.Protocol:
        return self._stream

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        error = reason.value
        if reason.check(TimeoutError):
            error = TimeoutError(string="the peer does not accept the connection")
        self._stream.failed(cast(Exception, error))


def _lenient(data: bytes) -> Request | Response | None:
    try:
        return parse_message(data)
    except MessageError:
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# Addresses


def _check_address(host: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        raise LocalProtocolError(f"not an address: {host!r}") from None


def check_contact(contact: str) -> list[str]:
    """Check a contact without listening on it.

    :returns: its transports.
    :raises LocalProtocolError: when it cannot be listened on.
    """
    return _parse_contact(contact)[2]


def _parse_contact(contact: str) -> tuple[str, int, list[str]]:
    """Take a contact apart: host, port and transports."""
    try:
        # A "*" is no host, and a comma belongs to no parameter of a URI.
        uri = Uri.parse(contact.replace(":*", ":all.invalid", 1).replace(",", "+"))
    except MessageError as error:
        raise LocalProtocolError(f"not a contact: {contact!r} ({error})") from None
    if not isinstance(uri, SipUri):
        raise LocalProtocolError(f"not a sip: or sips: URI: {contact!r}")
    transport = uri.transport
    if transport is None:
        transport = "tls" if uri.secure else "udp+tcp"
    protocols: list[str] = []
    for name in transport.split("+"):
        if name not in PROTOCOLS:
            raise LocalProtocolError(f"transport {name!r} is not supported: {contact!r}")
        if name not in protocols:
            protocols.append(name)
    port = uri.port
    if port is None:
        port = _DEFAULT_PORT[protocols[0]]
    if uri.address == "all.invalid":
        return "*", port, protocols
    return _address_of(uri.address), port, protocols


def _address_of(host: str) -> str:
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise LocalProtocolError(f"{host!r} has no address: {error}") from None
    # The first, but one of IPv4 if there is any, as most SIP still is.
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    return str(found[0][4][0])


def _bind_all(
    hosts: list[str], port: int, protocols: list[str]
) -> list[tuple[str, str, socket.socket]]:
    """Bind a socket for each transport and host."""
    attempts = _PORT_ATTEMPTS if port == 0 else 1
    while True:
        attempts -= 1
        bound: list[tuple[str, str, socket.socket]] = []
        shared = port
        try:
            # Streams first: the ports that they find free are the rarer ones.
            for name in sorted(protocols, key=lambda name: name == "udp"):
                for host in hosts:
                    # TLS cannot share a port with TCP.
                    wanted = port if name == "tls" and "tcp" in protocols else shared
                    kind = socket.SOCK_DGRAM if name == "udp" else socket.SOCK_STREAM
                    sock = listening_socket(kind, host, wanted)
                    bound.append((name, host, sock))
                    if shared == 0 and (name != "tls" or "tcp" not in protocols):
                        shared = sock.getsockname()[1]
        except CannotListenError as error:
            for _, _, sock in bound:
                sock.close()
            taken = getattr(error.socketError, "errno", None) == errno.EADDRINUSE
            if not attempts or not taken:
                raise
        else:
            return sorted(bound, key=lambda entry: protocols.index(entry[0]))


def _has_ipv6() -> bool:
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


_local_addresses: dict[str, str] = {}


def _local_address(remote: str, otherwise: str) -> str:
    """Ask the system which of our addresses a peer would see; nothing is sent for that."""
    known = _local_addresses.get(remote)
    if known is None:
        family = socket.AF_INET6 if ":" in remote else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((remote, 9))
                known = str(probe.getsockname()[0])
        except OSError:
            return otherwise
        if len(_local_addresses) >= _REMEMBERED_PEERS:
            _local_addresses.clear()
        _local_addresses[remote] = known
    return known


def _nearness(mine: str, other: str) -> tuple[int, int]:
    """Rank one of our addresses by how near it is to a peer's."""
    try:
        here, there = ip_address(mine), ip_address(other)
    except ValueError:
        return (0, 0)
    bits = here.max_prefixlen - (int(here) ^ int(there)).bit_length()
    return (int(here.is_loopback == there.is_loopback or not here.is_loopback), bits)
