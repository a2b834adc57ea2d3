"""Connections that carry SIP: what waits for them, goes over them and comes out of them."""

from __future__ import annotations

from typing import Any, Protocol, cast

from twisted.internet import protocol
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost, TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IConnector,
    IHandshakeListener,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from drachtwist.net.backlog import Backlog, Backlogged
from drachtwist.net.sip.flows import ENCRYPTED, Flow, Reports, Target
from drachtwist.net.sip.via import note_source
from drachtwist.net.tls import describe_tls_failure
from drachtwist.sip.message import Request
from drachtwist.sip.parsing import read_leniently
from drachtwist.sip.stream import KeepAlive, Malformed, StreamEvent, StreamParser

__all__ = ["Outgoing", "Stream", "StreamReports"]


class StreamReports(Reports, Protocol):
    """What a connection needs of the whole, besides what every socket needs."""

    def not_verified(self, target: Target, problem: str) -> None:
        """Tell the operator that there is no TLS with a peer."""

    def remove_stream(self, stream: Stream) -> None:
        """Forget a connection."""

    def buffered(self, stream: Stream, octets: int) -> None:
        """Note how much a connection has of a message that is not complete."""


@implementer(IHandshakeListener)
class Stream(Backlogged, protocol.Protocol):
    """One TCP or TLS connection, from the first wish to have it."""

    def __init__(
        self, transports: StreamReports, flow: Flow, target: Target, *, incoming: bool
    ) -> None:
        self._transports = transports
        self.flow = flow
        self.target = target
        self.incoming = incoming
        self.connector: IConnector | None = None
        self.usable = True
        self.when_gone: Deferred[None] = Deferred()
        self._parser = StreamParser(transports.limits.message)
        # What waits for the connection to come up, None once it has.
        self._waiting: list[bytes] | None = []
        self._waiting_octets = 0
        self._backlog: Backlog | None = None
        self._spoken = False  # whether there was a message
        self._pinged = False
        self.last_use: float = transports.clock.seconds()
        """When something was sent or received, keep-alives of strangers aside."""
        self.held = 0
        """How many octets there are of a message that is not complete."""
        self.begun: float | None = None
        """When that message began; None when there is none."""
        self._error: Exception | None = None

    # Sending

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send, now or once the connection is up; say whether it can be at all."""
        if not self.usable:
            return False
        if self._waiting is not None:
            self._waiting_octets += len(data)
            if self._waiting_octets > self._transports.limits.unsent:
                transports = self._transports
                error = ConnectError(string="too much waits for the connection")
                transports.reactor.callLater(0, transports.send_failed, self.flow, error, data)
            else:
                self._waiting.append(data)
            return True
        if self._spoken or not self.incoming:
            self.last_use = self._transports.clock.seconds()
        tap = self._transports.tap
        if tap is not None and data[:2] != b"\r\n":  # an answer to a ping
            tap.sip_passed(flow, data, True)
        self._write(data)
        if not self.usable:  # it was one too many
            transports = self._transports
            transports.reactor.callLater(0, transports.send_failed, self.flow, self._error, data)
        return True

    def _write(self, data: bytes) -> None:
        """Write a message."""
        self._put(data)

    def _put(self, data: bytes) -> None:
        """Write octets, as fast as the peer reads."""
        assert self._backlog is not None
        self._backlog.write(data)

    def _does_not_read(self, why: str) -> None:
        transports = self._transports
        limits = transports.limits
        if why == "unread":
            problem = f"it left {limits.unsent} bytes unread"
        else:
            problem = f"it read nothing for {limits.unsent_timeout:g} s"
        transports.alerts.note(
            "unsent", "{peer} is cut off: {problem}", peer=self.flow.remote, problem=problem
        )
        self.cut(ConnectError(string=problem))

    def close(self) -> None:
        """Close when all is written."""
        self.usable = False
        self.last_use = self._transports.clock.seconds()
        if self.transport is not None:
            if self._backlog is not None:
                self._backlog.flush()
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
        if not self.usable:
            if now - self.last_use >= limits.message_timeout:
                self.cut(TimeoutError(string="the peer does not let the connection be closed"))
            return
        if self.incoming and not self._spoken and not self._pinged:
            allowed = limits.first_message
        else:
            allowed = limits.idle if self._waiting is None else limits.connect
        if self.begun is not None and now - self.begun >= limits.message_timeout:
            self._transports.alerts.note(
                "message_timeout",
                "{peer} is cut off: a message that it began {seconds:g} s ago is not complete",
                peer=self.flow.remote,
                seconds=now - self.begun,
            )
            self.cut(TimeoutError(string="a message did not come to its end"))
            return
        if now - self.last_use < allowed:
            return
        if self._waiting is None:
            self.close()
        else:
            self.cut(TimeoutError(string="the connection does not come up"))

    # What Twisted calls

    def connectionMade(self) -> None:
        """Note that there is a connection."""
        transport = cast(Any, self.transport)
        try:
            transport.setTcpNoDelay(True)
            transport.setTcpKeepAlive(True)
        except (AttributeError, OSError):
            pass  # gone already, or a transport without
        limits = self._transports.limits
        self._backlog = Backlog(
            transport,
            limits.unsent,
            self._does_not_read,
            self._transports.clock,
            limits.unsent_timeout,
        )
        transport.registerProducer(self, True)
        if not self.usable:
            transport.abortConnection()
        elif self.target.protocol not in ENCRYPTED:
            self.established()

    def handshakeCompleted(self) -> None:
        """Note that TLS is up."""
        self.established()

    def established(self) -> None:
        """Note that octets can be sent and received."""
        self._up()

    def _up(self) -> None:
        waiting, self._waiting = self._waiting, None
        for data in waiting or ():
            self.send(self.flow, data)

    def dataReceived(self, data: bytes) -> None:
        """Take in octets."""
        parser = self._parser
        pings = 0
        for event in parser.feed(data):
            if not self.usable:
                return
            if isinstance(event, KeepAlive):
                pings += 1
                continue
            if pings:
                self.pinged(pings)
                pings = 0
            self.take(event)
        if pings:
            self.pinged(pings)
        if parser.error is not None:
            self.close()
        elif self.usable:
            self.keep(parser.pending)

    def keep(self, octets: int) -> None:
        """Note how much there is of a message that is not complete."""
        if not octets:
            self.begun = None
        elif self.begun is None:
            self.begun = self._transports.clock.seconds()
        if octets != self.held:
            self._transports.buffered(self, octets)

    def pinged(self, count: int) -> None:
        """Answer so many pings, all at once."""
        self.alive()
        self.send(self.flow, b"\r\n" * count)

    def alive(self) -> None:
        """Note that the peer is there; that keeps up a connection that has had a message."""
        self._pinged = True
        if self._spoken:
            self.last_use = self._transports.clock.seconds()

    def take(self, event: StreamEvent) -> None:
        """Hand up what came."""
        transports, flow = self._transports, self.flow
        self.begun = None
        if isinstance(event, KeepAlive):
            self.pinged(1)
            return
        self.last_use = transports.clock.seconds()
        self._spoken = True
        if transports.tap is not None:
            transports.tap.sip_passed(flow, event.raw, False)
        if isinstance(event, Malformed):
            transports.malformed(self._completed(event), flow, len(event.raw))
        elif isinstance(event, Request):
            raw = bytes(event)
            noted = note_source(raw, flow.remote_host, flow.remote_port)
            transports.received(Request.from_bytes(noted), flow, len(raw))
        else:
            transports.received(event, flow, len(event.raw))

    def _completed(self, bad: Malformed) -> Malformed:
        if not isinstance(bad.message, Request):
            return bad
        noted = note_source(bad.raw, self.flow.remote_host, self.flow.remote_port)
        return Malformed(noted, bad.error, read_leniently(noted))

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Note that the connection is gone."""
        error: Exception | None = self._error
        if self._backlog is not None:
            self._backlog.forget()
        if error is None and not reason.check(ConnectionDone):
            error = cast(Exception, reason.value)
        if self._waiting is not None:
            self.failed(error or ConnectionLost())
            return
        self._gone()
        self._transports.closed(self.flow, error)

    def failed(self, error: Exception) -> None:
        """Note that the connection could not be made."""
        if self._error is not None:
            error = self._error
        text = describe_tls_failure(error, "the peer's", "see peer_ca, or --peer-ca")
        if text is not None:
            if not self.incoming:
                self._transports.not_verified(self.target, text)
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


class Outgoing(protocol.ClientFactory):
    """Makes one connection."""

    noisy = False

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def buildProtocol(self, addr: IAddress | None) -> protocol.Protocol:
        """Return what takes the connection."""
        return self._stream

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        """Note that the connection could not be made."""
        error = reason.value
        if reason.check(TimeoutError):
            error = TimeoutError(string="the peer does not accept the connection")
        self._stream.failed(cast(Exception, error))
