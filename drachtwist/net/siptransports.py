"""SIP over UDP, TCP, TLS and WebSockets: messages come in with a flow, and go out over a flow or
to an address.

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
import sys
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from ipaddress import ip_address
from typing import Any, Protocol, Union, cast

from twisted.internet import protocol
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError, ConnectError, ConnectionAborted
from twisted.internet.interfaces import IAddress, IDelayedCall, IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.net.alerts import Alerts
from drachtwist.net.census import Turnstile
from drachtwist.net.contacts import Contact
from drachtwist.net.gate import Gate
from drachtwist.net.logs import Logger
from drachtwist.net.steady import steady
from drachtwist.net.streams import ENCRYPTED, Outgoing, Stream, lenient
from drachtwist.net.tls import Credentials, PemSource, TlsOptions
from drachtwist.net.udp import UdpSocket, listening_socket
from drachtwist.net.vias import note_source
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_datagram
from drachtwist.sip.stream import Malformed
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

PROTOCOLS = ("udp", "tcp", "tls", "ws", "wss")
"""What can be listened on."""
WEBSOCKETS = frozenset(("ws", "wss"))
"""Those of them that are WebSockets (RFC 7118), for which the package wsproto is needed."""

_DEFAULT_PORT = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 5060, "wss": 5061}
# Port 0 has to be free for UDP and TCP alike.
_PORT_ATTEMPTS = 32
# How long closing connections may take before they are cut.
_GRACE = 1.0
_REMEMBERED_PEERS = 4096
# Addresses of nobody (RFC 5737, RFC 3849), which packets would leave this machine for.
_FAR = {False: "192.0.2.1", True: "2001:db8::1"}
_NOTHING_SAID = Contact("")


@dataclass(frozen=True, slots=True)
class Listener:
    """An address that SIP is received on."""

    protocol: str
    """``udp``, ``tcp``, ``tls``, ``ws`` or ``wss``."""
    host: str
    """The address without brackets; ``0.0.0.0`` or ``::`` when it is all addresses."""
    port: int
    contact: Contact = field(default=_NOTHING_SAID, repr=False)
    """What it was made from."""
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

    def bound_toward(self, remote: str) -> str:
        """Give the address of this machine that a peer sees when no NAT is in between.

        :param remote: the peer's address; empty for somebody far away.
        """
        if not self.wildcard:
            return self.host
        return _local_address(remote or _FAR[self.ipv6], self.host)

    def host_toward(self, remote: str) -> str:
        """Give our own address as a peer sees it, which may be the external one."""
        own = self.bound_toward(remote)
        if self.contact.external_ip is None:
            return own
        return self.contact.host_toward(remote, own, self.wildcard)

    def address_toward(self, remote: str) -> str:
        """Give our own address and port as a peer sees it."""
        return f"{_bracketed(self.host_toward(remote))}:{self.port}"

    def is_named(self, host: str) -> bool:
        """Whether a host is an address or a name of ours.

        :param host: in lower case, without brackets.
        """
        contact = self.contact
        if host in (self.host, contact.external_ip) or host in contact.dns_names:
            return True
        if host == "localhost":
            return self.host in ("127.0.0.1", "0.0.0.0", "::1")
        try:
            host = str(ip_address(host))  # those of IPv6 may be spelt in many ways
        except ValueError:
            return False
        if host in (self.host, contact.external_ip):
            return True
        return self.wildcard and self.ipv6 == (":" in host) and host == self.bound_toward(host)

    def __str__(self) -> str:
        return f"{self.protocol}/{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Flow:
    """One way to a peer and back.

    Two flows are equal when messages over them take the same socket to the same address.
    """

    protocol: str
    """``udp``, ``tcp``, ``tls``, ``ws`` or ``wss``."""
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
    def reported(self) -> str:
        """The transport as applications are told: WebSockets are ``tcp``, as by the real server."""
        return "tcp" if self.protocol in WEBSOCKETS else self.protocol

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
    """The SIP domain that a TLS certificate has to be for, if not the address."""
    secure: bool = False
    """Whether a ``sips:`` URI led here: then the certificate is verified, unless that is switched
    off."""

    def __str__(self) -> str:
        return f"{self.protocol}/{_bracketed(self.host)}:{self.port}"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a peer may cost; times in seconds, sizes in bytes."""

    message: int = 2 << 20
    """The longest message on a stream."""
    connections: int = 4096
    """How many incoming connections there may be; a further one is closed at once."""
    connections_per_source: int = 1024
    """How many of them may come from one address (IPv6: from the first 64 bits of one)."""
    unsent: int = 4 << 20
    """How much may wait for one connection before it is cut."""
    unsent_timeout: float = 30.0
    """How long the peer of a connection may read nothing of what waits before it is cut."""
    message_timeout: float = 16.0
    """How long a message on a stream may take, from its first octet to its last."""
    buffers: int = 64 << 20
    """How much there may be of messages that are not complete, on all streams together; whoever
    began first is cut off when it is more."""
    idle: float = 1800.0
    """How long a connection may stay without a message or keep-alive in any direction, or with
    keep-alives alone."""
    first_message: float = 60.0
    """How long an incoming connection may stay without its first message or keep-alive; what TLS
    and WebSockets do before that has to be done by then."""
    connect: float = 30.0
    """How long connecting may take, with what TLS and WebSockets do for it."""


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


_Channel = Union["_Datagrams", Stream]


class SipTransports:
    """All sockets and connections that carry SIP.

    :param reactor: a reactor with ``IReactorFDSet``, ``IReactorTCP`` and ``IReactorSocket``.
    :param tls: key and certificate to listen on TLS with; whether, by the word of whom, the
        certificates of peers that are connected to are verified.
    :param peer_ca: by the word of whom, if not of those that ``tls`` names.
    :param verify_sips: verify at least those that ``sips:`` URIs lead to (RFC 3261 section 26.3.1).
    :param backlog: how many incoming connections may wait for each listener.
    :param udp_buffer: bytes that the system is to keep for each UDP socket and direction.
    :param alerts: where it is noted that a limit was reached.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        handler: SipHandler,
        *,
        tls: TlsOptions | None = None,
        peer_ca: PemSource = None,
        verify_sips: bool = True,
        limits: Limits | None = None,
        backlog: int = 512,
        udp_buffer: int | None = None,
        alerts: Alerts | None = None,
    ) -> None:
        self.reactor = reactor
        self.clock = steady(reactor)
        self.alerts = Alerts(self._log, self.clock.seconds) if alerts is None else alerts
        """Where it is noted that a limit was reached."""
        self.handler = handler
        self.limits = Limits() if limits is None else limits
        self.listeners: list[Listener] = []
        """What is listened on, in the order of the contacts."""
        self._tls = tls
        self._peer_ca = peer_ca
        self._verify_sips = verify_sips
        # What listeners show, and what is used to connect; there are both or none.
        self._credentials: tuple[Credentials, Credentials] | None = None
        self._backlog = backlog
        self._udp_buffer = udp_buffer
        self._numbers = itertools.count(1)
        self._channels: dict[int, _Channel] = {}
        self._ports: list[Any] = []
        self._streams: dict[Target, Stream] = {}
        self._stream_count = 0
        self._incoming = Turnstile(
            self.limits.connections,
            self.limits.connections_per_source,
            self.alerts,
            "connections",
            "connections of phones",
        )
        self._buffered = 0
        self._sweep: IDelayedCall | None = None
        self._stopped: Deferred[None] | None = None
        self._stopping = False

    # Listening

    def listen(self, contact: str | Contact) -> list[Listener]:
        """Listen as a contact says: ``sip:127.0.0.1:5060;transport=udp,tcp``.

        The host is an address, a name with an address, or ``*`` for all addresses. Port 0 is any
        free port, the same for UDP and TCP. Without ``transport`` it is UDP and TCP, for a
        ``sips:`` URI TLS, and ``ws`` in such a URI is ``wss``.

        :returns: the new ones of :attr:`listeners`.
        :raises LocalProtocolError: for a contact that says something else, TLS without a key, or
            WebSockets without the package that they need.
        :raises CannotListenError: when an address cannot be had; then nothing is listened on.
        """
        contact = Contact(contact) if isinstance(contact, str) else contact
        host, port, protocols = _parse_contact(contact.uri)
        _check_external(contact, host)
        if ENCRYPTED.intersection(protocols) and self._tls is None:
            raise LocalProtocolError(f"TLS needs a key and a certificate: {contact.uri}")
        if ENCRYPTED.intersection(protocols) and self._credentials is None:
            self._credentials = self._read_credentials()
        hosts = [host]
        if host == "*":
            hosts = ["0.0.0.0", "::"] if _has_ipv6() else ["0.0.0.0"]
        bound = _bind_all(hosts, port, protocols, self._backlog)
        listeners = []
        for name, where, sock in bound:
            listener = Listener(
                name, where, sock.getsockname()[1], contact, channel=next(self._numbers)
            )
            listeners.append(listener)
            if name == "udp":
                if self._udp_buffer is not None:
                    self._set_buffers(sock, self._udp_buffer)
                self._channels[listener.channel] = _Datagrams(self, listener, sock)
                continue
            with sock:  # the reactor makes a copy
                self._ports.append(
                    self.reactor.adoptStreamPort(sock.fileno(), sock.family, self.gate(listener))
                )
        self.listeners += listeners
        return listeners

    def gate(self, listener: Listener) -> Gate:
        """Make what takes in the connections to an address that is listened on."""
        factory: Any = _StreamFactory(self, listener)
        if listener.protocol in ENCRYPTED:
            assert self._credentials is not None, "read before anything listens"
            creator = self._credentials[0].server_creator()
            factory = TLSMemoryBIOFactory(creator, False, factory)
        return Gate(factory, self._keeps_out, f"SIP over {listener.protocol}")

    def _keeps_out(self, address: Any) -> bool:
        return self._incoming.refuses(address.host)

    def _read_credentials(self) -> tuple[Credentials, Credentials]:
        tls = self._tls
        assert tls is not None, "checked by listen"
        peers = tls if self._peer_ca is None else replace(tls, ca=self._peer_ca)
        return Credentials(tls, listens=True), Credentials(replace(peers, client_names=()))

    def reload_tls(self, tls: TlsOptions | None = None, peer_ca: PemSource = None) -> None:
        """Read keys and certificates again, for connections made from now on.

        :param tls: where they are now; as before if None, and then so is ``peer_ca``.
        :param peer_ca: as in the constructor.
        :raises LocalProtocolError: when one of them cannot be used; then nothing changes.
        """
        before = self._tls, self._peer_ca
        if tls is not None:
            self._tls, self._peer_ca = tls, peer_ca
        if self._credentials is None:
            return  # nothing is encrypted
        listening, connecting = self._credentials
        try:
            fresh = self._read_credentials()
        except LocalProtocolError:
            self._tls, self._peer_ca = before
            raise
        # Listeners have what they show by its name.
        listening.take(fresh[0])
        connecting.take(fresh[1])

    def _set_buffers(self, bound: socket.socket, size: int) -> None:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            bound.setsockopt(socket.SOL_SOCKET, option, size)
            given = bound.getsockopt(socket.SOL_SOCKET, option)
            if sys.platform == "linux":
                given //= 2  # it counts its own use too
            if given < size:
                self._log.warn(
                    "the system gives UDP buffers of {given} bytes instead of {size}"
                    " (on Linux see net.core.rmem_max and wmem_max)",
                    given=given,
                    size=size,
                )

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
                if isinstance(channel, Stream):
                    streams.append(channel)
                    waiting.append(channel.when_gone)
                    channel.close()
                else:
                    del self._channels[channel.listener.channel]
                    channel.close()
            self._finish(waiting, streams)
        return self._stopped

    def cut(self) -> None:
        """Cut all connections, without waiting for what was sent."""
        for channel in list(self._channels.values()):
            if isinstance(channel, Stream):
                channel.cut(ConnectionAborted())

    def _finish(self, waiting: list[Deferred[Any]], streams: list[Stream]) -> None:
        stopped = self._stopped
        assert stopped is not None
        left = len(waiting)
        if not left:
            stopped.callback(None)
            return

        def cut() -> None:
            for stream in streams:
                stream.cut(ConnectionAborted())

        timer = self.clock.callLater(_GRACE, cut)

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

        One of the same family: never a loopback address for another machine if there is any other;
        then one in the same local network, then the one with the most leading octets in common
        with the peer's, then one that is known outside by an external address, then the first.

        :param host: the peer's address; empty, for an unknown one of IPv4.
        """
        ipv6 = ":" in host
        found = [one for one in self.listeners if one.protocol == protocol and one.ipv6 == ipv6]
        if len(found) < 2:
            return found[0] if found else None
        return max(found, key=lambda one: _nearness(one, host))

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
        if (stream is None or not stream.usable) and target.secure and target.name is None:
            # A peer that connected from this very address: there is no name that it could lack.
            known = self._streams.get(replace(target, secure=False))
            stream = known if known is not None and known.incoming else None
        if stream is None or not stream.usable:
            stream = self._connect(target, listener, timeout)
        return stream.flow

    def open_flow(self, protocol: str, host: str, port: int) -> Flow | None:
        """Find the connection whose other end has this address, whoever opened it."""
        stream = self._streams.get(Target(protocol, host, port))
        return stream.flow if stream is not None and stream.usable else None

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
        if isinstance(channel, Stream):
            channel.close()

    @property
    def connections(self) -> int:
        """How many connections there are, with those that are being made."""
        return self._stream_count

    # Streams

    def _connect(self, target: Target, listener: Listener, timeout: float | None) -> Stream:
        _check_address(target.host)
        stream = self.new_stream(listener, target, incoming=False)
        factory: Any = Outgoing(stream)
        if target.protocol in ENCRYPTED:
            factory = TLSMemoryBIOFactory(self._creator_for(target), True, factory)
        stream.connector = self.reactor.connectTCP(
            target.host,
            target.port,
            factory,
            timeout=self.limits.connect if timeout is None else timeout,
            bindAddress=None if listener.wildcard else (listener.host, 0),
        )
        return stream

    def _creator_for(self, target: Target) -> IOpenSSLClientConnectionCreator:
        """Make what starts TLS with a peer."""
        assert self._credentials is not None, "there is a listener of the kind"
        connecting = self._credentials[1]
        # A WebSocket is HTTPS, and its host is none of SIP's domains.
        return connecting.client_creator(
            target.name or target.host,
            sip=target.protocol == "tls",
            verify=connecting.options.verify or (target.secure and self._verify_sips),
        )

    def not_verified(self, target: Target, problem: str) -> None:
        """Tell the operator that there is no TLS with a peer."""
        self.alerts.note(
            "unverified_peers",
            "no TLS connection to {peer} ({name}): {problem}",
            peer=str(target),
            name=target.name or target.host,
            problem=problem,
        )

    def new_stream(self, listener: Listener, target: Target, *, incoming: bool) -> Stream:
        """Take note of a connection."""
        flow = Flow(
            target.protocol,
            target.host,
            target.port,
            next(self._numbers),
            listener.host_toward(target.host),
            listener.port,
            listener,
        )
        kind = Stream
        if target.protocol in WEBSOCKETS:
            from drachtwist.net.websockets import WebSocketStream  # not loaded unless wanted

            kind = WebSocketStream
        stream = kind(self, flow, target, incoming=incoming)
        self._stream_count += 1
        if incoming:
            self._incoming.enter(target.host)
        self._channels[stream.flow.channel] = stream
        # A connection that we made is preferred: its peer listens on that port.
        if not stream.incoming or stream.target not in self._streams:
            self._streams[stream.target] = stream
        if self._sweep is None and not self._stopping:
            self._sweep = self.clock.callLater(self._sweep_interval(), self._close_idle)
        return stream

    def remove_stream(self, stream: Stream) -> None:
        """Forget a connection."""
        if self._channels.pop(stream.flow.channel, None) is None:
            return
        self._stream_count -= 1
        self.buffered(stream, 0)
        if stream.incoming:
            self._incoming.leave(stream.target.host)
        if self._streams.get(stream.target) is stream:
            del self._streams[stream.target]
        if not self._stream_count and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _sweep_interval(self) -> float:
        limits = self.limits
        return min(limits.idle, limits.first_message, limits.message_timeout) / 4

    def _close_idle(self) -> None:
        self._sweep = None
        now = self.clock.seconds()
        for channel in list(self._channels.values()):
            if isinstance(channel, Stream):
                channel.close_if_idle(now)
        if self._stream_count:
            self._sweep = self.clock.callLater(self._sweep_interval(), self._close_idle)

    def buffered(self, stream: Stream, octets: int) -> None:
        """Take note of how much a stream has of a message that is not complete.

        When that is too much on all of them together, those that began first are cut off.
        """
        self._buffered += octets - stream.held
        stream.held = octets
        most = self.limits.buffers
        if self._buffered <= most:
            return
        found = [one for one in self._channels.values() if isinstance(one, Stream) and one.held]
        found.sort(key=lambda one: one.begun or 0.0)
        for one in found:
            if self._buffered <= most:
                break
            self.alerts.note(
                "buffers",
                "{peer} is cut off: more than {most} bytes of messages that are not complete",
                peer=one.flow.remote,
                most=most,
            )
            self._buffered -= one.held
            one.held = 0
            one.cut(ConnectError(string="too much is kept of messages that are not complete"))

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
            bad = Malformed(data, error, lenient(data))
            self._transports.malformed(bad, flow, size)
        else:
            self._transports.received(message, flow, size)

    def datagram_refused(self, data: bytes, host: str, port: int, error: Exception) -> None:
        self._transports.send_failed(self.flow(host, port), error, data)


class _StreamFactory(protocol.ServerFactory):
    """Takes in connections."""

    noisy = False

    def __init__(self, transports: SipTransports, listener: Listener) -> None:
        self._transports = transports
        self._listener = listener

    def buildProtocol(self, addr: IAddress | None) -> protocol.Protocol:
        transports = self._transports
        peer = cast(Any, addr)
        target = Target(self._listener.protocol, peer.host, peer.port)
        return transports.new_stream(self._listener, target, incoming=True)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# Addresses


def _check_address(host: str) -> None:
    try:
        ip_address(host)
    except ValueError:
        raise LocalProtocolError(f"not an address: {host!r}") from None


def check_contact(contact: str | Contact) -> list[str]:
    """Check a contact without listening on it.

    :returns: its transports.
    :raises LocalProtocolError: when it cannot be listened on.
    """
    contact = Contact(contact) if isinstance(contact, str) else contact
    host, _, protocols = _parse_contact(contact.uri)
    _check_external(contact, host)
    return protocols


def _check_external(contact: Contact, host: str) -> None:
    external = contact.external_ip
    if external is not None and host != "*" and (":" in external) != (":" in host):
        raise LocalProtocolError(f"{host} and {external} cannot stand for each other: {contact}")


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
        if name == "ws" and uri.secure:
            name = "wss"
        if name not in protocols:
            protocols.append(name)
    streams = [name for name in protocols if name != "udp"]
    if uri.port and len(streams) > 1:
        raise LocalProtocolError(
            f"{' and '.join(streams)} cannot have one port: give each a contact, not {contact!r}"
        )
    if WEBSOCKETS.intersection(protocols) and find_spec("wsproto") is None:
        raise LocalProtocolError(
            f"WebSockets need another package, pip install 'drachtwist[websocket]': {contact!r}"
        )
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
    hosts: list[str], port: int, protocols: list[str], backlog: int
) -> list[tuple[str, str, socket.socket]]:
    """Bind a socket for each transport and host."""
    attempts = _PORT_ATTEMPTS if port == 0 else 1
    streams = [name for name in protocols if name != "udp"]
    # One of them may have the port of UDP, the others cannot.
    apart = [name for name in streams if name != ("tcp" if "tcp" in streams else streams[0])]
    while True:
        attempts -= 1
        bound: list[tuple[str, str, socket.socket]] = []
        ports: dict[str, int] = {}
        try:
            # Streams first: the ports that they find free are the rarer ones.
            for name in sorted(protocols, key=lambda name: name == "udp"):
                for host in hosts:
                    sharing = name if name in apart else ""
                    wanted = ports.get(sharing, port)
                    kind = socket.SOCK_DGRAM if name == "udp" else socket.SOCK_STREAM
                    sock = listening_socket(kind, host, wanted, backlog)
                    bound.append((name, host, sock))
                    ports[sharing] = sock.getsockname()[1]
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


def _nearness(listener: Listener, other: str) -> tuple[bool, bool, int, bool]:
    """Rank one of our addresses by how near it is to a peer's."""
    mine = listener.bound_toward(other)
    contact = listener.contact
    external = contact.external_ip is not None
    try:
        here, there = ip_address(mine), ip_address(other)
    except ValueError:
        return (not mine.startswith("127."), False, 0, external)
    return (
        here.is_loopback == there.is_loopback or not here.is_loopback,
        contact.is_inside(other, mine, listener.wildcard),
        (here.max_prefixlen - (int(here) ^ int(there)).bit_length()) // 8,
        external,
    )
