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

import itertools
import socket
import sys
from dataclasses import replace
from functools import partial
from typing import Any, Union, cast

from twisted.internet import protocol
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectError, ConnectionAborted
from twisted.internet.interfaces import IAddress, IDelayedCall, IOpenSSLClientConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory

from drachtwist.errors import LocalProtocolError
from drachtwist.net.alerts import Alerts
from drachtwist.net.census import Turnstile
from drachtwist.net.contacts import Contact
from drachtwist.net.gate import Gate
from drachtwist.net.logs import Logger
from drachtwist.net.sip.datagrams import Datagrams
from drachtwist.net.sip.flows import (
    ENCRYPTED,
    WEBSOCKETS,
    Flow,
    Limits,
    Listener,
    SipHandler,
    Target,
)
from drachtwist.net.sip.listening import (
    bind_all,
    check_address,
    check_external,
    has_ipv6,
    nearness,
    read_contact,
)
from drachtwist.net.sip.stream import Outgoing, Stream
from drachtwist.net.steady import steady
from drachtwist.net.tap import SipTap
from drachtwist.net.tls import Credentials, PemSource, TlsOptions
from drachtwist.net.udp import DatagramHandler, DatagramSocket, UdpSocket
from drachtwist.sip.message import Request, Response
from drachtwist.sip.stream import Malformed

__all__ = ["SipTransports"]

# How long closing connections may take before they are cut.
_GRACE = 1.0
_REMEMBERED_PEERS = 4096
_Channel = Union[Datagrams, Stream]  # noqa: UP007 - evaluated on Python 3.10


UNUSED = 32.0
"""Seconds without any use from which on a connection that we made may be closed for another."""


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
        self.tap: SipTap | None = None
        """Who looks at what passes, if anybody does."""
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
        host, port, protocols = read_contact(contact.uri)
        check_external(contact, host)
        if ENCRYPTED.intersection(protocols) and self._tls is None:
            raise LocalProtocolError(f"TLS needs a key and a certificate: {contact.uri}")
        if ENCRYPTED.intersection(protocols) and self._credentials is None:
            self._credentials = self._read_credentials()
        hosts = [host]
        if host == "*":
            hosts = ["0.0.0.0", "::"] if has_ipv6() else ["0.0.0.0"]
        listeners = []
        for name, where, sock in self.bind(hosts, port, protocols):
            listener = Listener(
                name, where, sock.getsockname()[1], contact, channel=next(self._numbers)
            )
            listeners.append(listener)
            if name == "udp":
                opening = partial(self.open_datagrams, sock)
                self._channels[listener.channel] = Datagrams(self, listener, opening)
            else:
                self._ports.append(self.open_streams(sock, self.gate(listener)))
        self.listeners += listeners
        return listeners

    # What sockets are made of; an in-memory network has others.

    def bind(self, hosts: list[str], port: int, protocols: list[str]) -> list[tuple[str, str, Any]]:
        """Bind a socket for each transport and host, as :func:`bind_all` does."""
        return [*bind_all(hosts, port, protocols, self._backlog)]

    def open_datagrams(self, bound: Any, handler: DatagramHandler) -> DatagramSocket:
        """Receive datagrams over a socket that was bound."""
        if self._udp_buffer is not None:
            self._set_buffers(bound, self._udp_buffer)
        return UdpSocket(self.reactor, bound, handler)

    def open_streams(self, bound: Any, gate: Gate) -> Any:
        """Take in connections over a socket that was bound; return the port."""
        with bound:  # the reactor makes a copy
            return self.reactor.adoptStreamPort(bound.fileno(), bound.family, gate)

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
        return max(found, key=lambda one: nearness(one, host))

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send over a flow.

        :returns: False when its connection is gone; then the handler is not called.
        """
        channel = self._channels.get(flow.channel)
        if channel is None:
            return False
        return channel.send(flow, data)

    def is_open(self, flow: Flow) -> bool:
        """Return whether a flow can still be sent over."""
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
            if not isinstance(channel, Datagrams):
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
        check_address(target.host)
        is_one_too_many = self._has_no_room()
        stream = self.new_stream(listener, target, incoming=False)
        if is_one_too_many:
            error = ConnectError(string="there are too many connections to phones")
            self.reactor.callLater(0, stream.failed, error)
            return stream
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

    def _has_no_room(self) -> bool:
        """Say whether no more connections may be made; what nobody uses makes room for one."""
        most = self.limits.outgoing
        if self._stream_count - self._incoming.present < most:
            return False
        made = [
            one
            for one in self._channels.values()
            if isinstance(one, Stream) and not one.incoming and one.usable
        ]
        idle = min(made, key=lambda one: one.last_use, default=None)
        if idle is not None and self.clock.seconds() - idle.last_use >= UNUSED:
            idle.close()
            return False
        self.alerts.note("outgoing", "there are {most} connections to phones", most=most)
        return True

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
        """Note a connection."""
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
            from drachtwist.net.sip.websocket import WebSocketStream  # not loaded unless wanted

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
        """Note how much a stream has of a message that is not complete.

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
