"""Twisted protocols around the two ends of a drachtio connection.

:class:`DrachtioProtocol` is the application's end, in both modes: it connected to a server
(*inbound*, from :class:`DrachtioClientFactory`), or a server connected to it (*outbound*, from
:class:`DrachtioListenerFactory`). :class:`DrachtioServerProtocol` is a server's end. Framing,
authentication, routes, pings and answers are decided in :mod:`drachtwist.wire.session`; here bytes
and time move.

Whatever is sent while received bytes are being worked on leaves in a single write when that is
done: a busy connection would otherwise spend more time in system calls than on messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast

from twisted.internet import protocol
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IReactorTime,
    ISSLTransport,
    ITCPTransport,
)
from twisted.python.failure import Failure

from drachtwist.errors import AuthenticationError, ConnectionLost, DrachtwistError
from drachtwist.net.alerts import Alerts
from drachtwist.net.backlog import Backlog, Backlogged
from drachtwist.net.logs import Logger
from drachtwist.net.observers import Observers
from drachtwist.net.tap import FrameTap
from drachtwist.net.tls import describe_tls_failure
from drachtwist.wire.commands import Answer, Cdr, Delivery, Malformed, MessageId
from drachtwist.wire.session import (
    ApplicationSession,
    Authenticated,
    Broken,
    Commanded,
    ServerSession,
    SessionState,
    Signed,
    WrongSecret,
)

__all__ = [
    "AnswerSink",
    "DrachtioClientFactory",
    "DrachtioListenerFactory",
    "DrachtioProtocol",
    "DrachtioServerFactory",
    "DrachtioServerProtocol",
    "LinkHandler",
    "ServerLinkHandler",
]


UNREAD = 16 << 20
"""Bytes that an application may leave unread, unless told otherwise."""


# Asked for with every message; up to Python 3.11 a look into an Enum takes a call.
_AUTHENTICATED, _CLOSED = SessionState.AUTHENTICATED, SessionState.CLOSED


class AnswerSink(Protocol):
    """Waits for the answers to one command."""

    def answered(self, answer: Answer) -> None:
        """An answer came; a proxy command may get several."""

    def link_lost(self, reason: ConnectionLost) -> None:
        """No answer will come."""


class LinkHandler(Protocol):
    """Takes what the connections of an application report. A link is a DrachtioProtocol."""

    def link_up(self, link: DrachtioProtocol) -> None:
        """The server accepted the secret."""

    def link_down(self, link: DrachtioProtocol, reason: Exception) -> None:
        """The connection is gone; also reported for links that never came up."""

    def delivered(self, link: DrachtioProtocol, delivery: Delivery) -> None:
        """A SIP message came."""

    def cdr(self, link: DrachtioProtocol, cdr: Cdr) -> None:
        """A call detail record came."""


class _Clocked(protocol.Protocol):
    """Keeps one delayed call armed for the next deadline."""

    _clock: IReactorTime
    _timer: IDelayedCall | None = None
    _timer_at = 0.0

    def _arm(self, deadline: float | None) -> None:
        """See to it that :meth:`_on_timer` runs at the deadline, or not at all.

        A deadline that moves away, as it does with every read, leaves the call where it is; it
        then finds out that it is early.
        """
        timer = self._timer
        if timer is not None:
            if deadline is not None and self._timer_at <= deadline:
                return
            timer.cancel()
            self._timer = None
        if deadline is not None:
            self._timer_at = deadline
            delay = max(0.0, deadline - self._clock.seconds())
            self._timer = self._clock.callLater(delay, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._on_timer()

    def _on_timer(self) -> None:
        raise NotImplementedError


class DrachtioProtocol(_Clocked):
    """The application's end of a connection to a drachtio server.

    :param session: secret, tags, routes and limits.
    :param handler: told of everything that happens.
    :param outbound: the server opened the connection, for one request.
    :param clock: the reactor, or a Clock.
    :param alerts: where it is noted that a server sends what cannot be read.
    """

    _log = Logger()

    outbound: bool
    """Whether the server opened the connection."""

    uses: int
    """Transactions and dialogs of an outbound connection that are not over, kept by the application
    layer, which closes the connection when nothing uses it any more."""

    def __init__(
        self,
        session: ApplicationSession,
        handler: LinkHandler,
        *,
        outbound: bool,
        clock: IReactorTime,
        alerts: Alerts | None = None,
    ) -> None:
        self.session = session
        self.outbound = outbound
        self.uses = 0
        self._alerts = Alerts(self._log, clock.seconds) if alerts is None else alerts
        self.handler = handler
        """Told of everything that happens."""
        self._clock = clock
        self._corked = False
        self._lost = "the connection is closed"
        self._error: Exception | None = None
        self.tap: FrameTap | None = None
        """Who looks at the frames that pass, if anybody does."""
        self.on_up: Callable[[DrachtioProtocol], None] | None = None
        self.on_routed: Callable[[DrachtioProtocol], None] | None = None
        """Called once, when the server has taken the routes."""
        self.on_closed: Callable[[DrachtioProtocol, Exception], None] | None = None

    def __repr__(self) -> str:
        mode = "outbound" if self.outbound else "inbound"
        return f"<DrachtioProtocol {mode} {self.session.state.value} {self.peer}>"

    # Facts

    @property
    def peer(self) -> IAddress | None:
        """The server's address on this connection."""
        return None if self.transport is None else self.transport.getPeer()

    @property
    def authenticated(self) -> bool:
        """Whether the connection is up: the server accepted the secret."""
        return self.session.state is _AUTHENTICATED

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.session.state is _CLOSED

    @property
    def host_ports(self) -> tuple[str, ...]:
        """``proto/host:port`` of each SIP transport of the server, as seen from outside."""
        return self.session.host_ports

    @property
    def local_host_ports(self) -> tuple[str, ...]:
        """The addresses that the server's SIP transports are bound to."""
        return self.session.local_host_ports

    @property
    def server_version(self) -> str:
        """The server's version string, empty before authentication."""
        return self.session.version

    # Commands

    def command(self, command: bytes, sink: AnswerSink | None) -> MessageId:
        """Send a command.

        :param command: all that stands behind ``<message id>|``.
        :param sink: told of the answer, or of the loss of the connection.
        :raises FrameTooLarge: when the server could not receive it; nothing was sent.
        :raises ConnectionLost: when the connection is closed.
        """
        session = self.session
        if session.state is _CLOSED:
            raise ConnectionLost(self._lost)
        message_id = session.command(command, sink)
        if self.tap is not None:
            line, _, message = command.partition(b"\r\n")
            self.tap.frame_passed(self, line.decode("utf-8", "surrogateescape"), message, True)
        if not self._corked:
            self._flush()
        return message_id

    def send_message(
        self,
        transaction_id: str,
        dialog_id: str,
        message: bytes,
        sink: AnswerSink | None,
        route: str = "",
    ) -> MessageId:
        """Send a SIP message; see :class:`drachtwist.wire.commands.SendMessage`."""
        line = f"sip|{transaction_id}|{dialog_id}"
        if route:
            line += f"|{route}"
        session = self.session
        if session.state is _CLOSED:
            raise ConnectionLost(self._lost)
        message_id = session.send_message(line, message, sink)
        if self.tap is not None:
            self.tap.frame_passed(self, line, message, True)
        if not self._corked:
            self._flush()
        return message_id

    def set_routes(self, verbs: Iterable[str]) -> None:
        """Want new requests of exactly these verbs, now and after every authentication."""
        self.session.set_routes(verbs)
        self._flush_unless_corked()

    def add_route(self, verb: str) -> None:
        """Want new requests of this verb too."""
        self.session.add_route(verb)
        self._flush_unless_corked()

    def remove_route(self, verb: str) -> None:
        """Want new requests of this verb no longer."""
        self.session.remove_route(verb)
        self._flush_unless_corked()

    def close(self) -> None:
        """Close the connection once everything was written."""
        if self.transport is not None:
            self._flush()
            self.transport.loseConnection()

    def abort(self) -> None:
        """Close the connection at once."""
        transport = cast(Any, self.transport)
        if transport is not None:
            (getattr(transport, "abortConnection", None) or transport.loseConnection)()

    # Twisted's side

    def connectionMade(self) -> None:
        """The connection is open; the application speaks first."""
        assert self.transport is not None
        _tune(self.transport)
        self.session.start(self._clock.seconds())
        self._flush()
        self._arm(self.session.deadline)

    def dataReceived(self, data: bytes) -> None:
        """Work on what came; write all that is sent meanwhile at once."""
        self._corked = True
        try:
            self._work(self.session.receive(data, self._clock.seconds()))
            on_routed = self.on_routed
            if on_routed is not None and self.session.routed:
                self.on_routed = None
                on_routed(self)
        finally:
            self._corked = False
            self._flush()
        deadline = self.session.deadline
        if deadline is not None and (self._timer is None or deadline < self._timer_at):
            self._arm(deadline)

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Everything that waits for an answer fails."""
        self._arm(None)
        error = self._error or ConnectionLost(self._described(reason))
        self._error = error
        self._lost = str(error)
        for sink in self.session.connection_lost():
            try:
                # To each its own: the frames that it is raised in know who was told.
                sink.link_lost(ConnectionLost(self._lost))
            except Exception:
                self._log.failure("failed to tell of the loss of {peer}", peer=self.peer)
        try:
            self.handler.link_down(self, error)
        except Exception:
            self._log.failure("failed to handle the loss of {peer}", peer=self.peer)
        if self.on_closed is not None:
            self.on_closed(self, error)

    # Inside

    def _described(self, reason: Failure) -> str:
        """Say why the connection is gone, and what may be wrong when it never came up."""
        text = describe_tls_failure(reason.value) or reason.getErrorMessage()
        if self.session.state is not SessionState.AUTHENTICATING:
            return text
        encrypted = ISSLTransport.providedBy(self.transport)
        hint = "speak plain TCP (tcp:)" if encrypted else "want TLS (tls:)"
        return f"{text.rstrip('.')}, before the server accepted the secret; may that port {hint}?"

    def _work(self, events: Sequence[object]) -> None:
        handler = self.handler
        tap = self.tap
        for event in events:
            # One handler that fails must not take the other messages of this read along.
            try:
                if tap is not None:
                    _show(tap, self, event)
                if type(event) is Delivery:
                    handler.delivered(self, event)
                elif type(event) is tuple:
                    event[0].answered(event[1])
                elif isinstance(event, Cdr):
                    handler.cdr(self, event)
                elif isinstance(event, Authenticated):
                    handler.link_up(self)
                    if self.on_up is not None:
                        self.on_up(self)
                elif isinstance(event, Malformed):
                    self._alerts.note(
                        "bad_frames",
                        "ignoring a frame of {peer}: {problem}",
                        peer=self.peer,
                        problem=event.problem,
                    )
                elif isinstance(event, Broken):
                    self._break(event.error)
            except Exception:
                self._log.failure("failed to handle a message of {peer}", peer=self.peer)

    def _break(self, error: DrachtwistError) -> None:
        self._error = error
        if isinstance(error, AuthenticationError) and not self.outbound:
            self.abort()  # whoever connects tells of it
            return
        self._alerts.note(
            "broken_frames",
            "closing the connection to {peer}: {error}",
            peer=self.peer,
            error=error,
        )
        self.abort()

    def _on_timer(self) -> None:
        self._work(self.session.tick(self._clock.seconds()))
        self._flush()
        self._arm(self.session.deadline)

    def _flush_unless_corked(self) -> None:
        if not self._corked:
            self._flush()

    def _flush(self) -> None:
        data = self.session.data_to_send()
        if data and self.transport is not None:
            self.transport.write(data)


SessionMaker = Callable[[], ApplicationSession]
"""Makes the state of a new connection: every connection starts afresh."""


class _ApplicationFactory(protocol.Factory):
    """Makes the application's end of connections.

    :param make_session: gives secret, tags and routes of each connection.
    :param handler: told of everything that happens.
    :param clock: the reactor, or a Clock.
    """

    noisy = False
    outbound = False

    def __init__(
        self, make_session: SessionMaker, handler: LinkHandler, clock: IReactorTime
    ) -> None:
        self._make_session = make_session
        self._handler = handler
        self._clock = clock
        self._alerts = Alerts(DrachtioProtocol._log, clock.seconds)

    def buildProtocol(self, addr: IAddress | None) -> DrachtioProtocol:
        """Make the protocol of one connection."""
        link = DrachtioProtocol(
            self._make_session(),
            self._handler,
            outbound=self.outbound,
            clock=self._clock,
            alerts=self._alerts,
        )
        link.factory = self
        return link


class DrachtioClientFactory(_ApplicationFactory):
    """Makes inbound connections: for a client endpoint, to a server."""


class DrachtioListenerFactory(_ApplicationFactory):
    """Makes outbound connections: for a server endpoint, where servers connect to."""

    outbound = True


# The server's end


class ServerLinkHandler(Protocol):
    """Takes what the connections of a server report. A link is a DrachtioServerProtocol."""

    def opened(self, link: DrachtioServerProtocol) -> None:
        """The connection is open."""

    def signed(self, link: DrachtioServerProtocol) -> None:
        """The application showed the right secret; its answer is on the way."""

    def wrong_secret(self, link: DrachtioServerProtocol) -> None:
        """The application showed another secret; its answer waits a while."""

    def broken(self, link: DrachtioServerProtocol, error: Exception) -> None:
        """What the application sends cannot be read; the connection will be closed."""

    def unread(self, link: DrachtioServerProtocol, why: str) -> None:
        """The application leaves too much unread, or reads nothing; the connection is cut.

        :param why: ``unread`` or ``stalled``.
        """

    def commanded(self, link: DrachtioServerProtocol, event: Commanded) -> None:
        """The application sent a command that has to be carried out and answered."""

    def gone(self, link: DrachtioServerProtocol) -> None:
        """The connection is gone."""


class DrachtioServerProtocol(Backlogged, protocol.Protocol):
    """A server's end of a connection to an application.

    What an application does not read waits here. While anything does, :attr:`paused` says so;
    beyond a limit, or when the application reads nothing at all, the connection is cut.

    :param session: secret, version and addresses of the server.
    :param handler: carries the commands out.
    :param outbound: the server opened the connection, for one request.
    :param unread: bytes that the application may leave unread.
    :param clock: the reactor, or a Clock; needed for a delay, and to see who reads nothing.
    :param patience: seconds in which an application has to read something; 0 for any time.
    :param secret_delay: seconds that a wrong secret waits for its answer.
    """

    _log = Logger()

    def __init__(
        self,
        session: ServerSession,
        handler: ServerLinkHandler,
        *,
        outbound: bool = False,
        unread: int = UNREAD,
        clock: IReactorTime | None = None,
        secret_delay: float = 0.0,
        patience: float = 0.0,
    ) -> None:
        self.session = session
        self.outbound = outbound
        self._unread = unread
        self._patience = patience
        self._backlog: Backlog | None = None
        self._clock = clock
        self._secret_delay = secret_delay
        self._delayed: IDelayedCall | None = None
        self._losing = False
        self._handler = handler
        self._corked = False
        self.connected_now = False
        self.loss: BaseException | None = None
        """Why the connection is gone, once it is."""
        self._until_gone: Observers[None] = Observers()

    def __repr__(self) -> str:
        return f"<DrachtioServerProtocol tags={self.session.tags} {self.peer}>"

    @property
    def peer(self) -> IAddress | None:
        """The application's address on this connection."""
        return None if self.transport is None else self.transport.getPeer()

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that the application gave."""
        return self.session.tags

    @property
    def paused(self) -> bool:
        """Whether the application does not read as fast as it is written to."""
        return self._backlog is not None and self._backlog.paused

    @property
    def behind(self) -> bool:
        """Whether it is so far behind that it should get nothing new."""
        backlog = self._backlog
        return backlog is not None and backlog.waits > backlog.most // 2

    def send(self, payload: bytes) -> None:
        """Send a frame."""
        self.session.send(payload)
        self._flush_unless_corked()

    def answer(self, message_id: str, verdict: str, *tokens: str, raw: bytes = b"") -> None:
        """Answer a command."""
        self.session.answer(message_id, verdict, *tokens, raw=raw)
        self._flush_unless_corked()

    def refuse(self, message_id: str, text: str) -> None:
        """Answer ``NO``, and close the connection."""
        self.session.refuse(message_id, text)
        self._flush_unless_corked()

    def close(self) -> None:
        """Close the connection once everything was written."""
        if self.transport is not None:
            self._flush()
            self._lose()

    def abort(self) -> None:
        """Close the connection at once."""
        if self.transport is not None:
            cast(Any, self.transport).abortConnection()

    def _lose(self) -> None:
        assert self.transport is not None
        if not self._losing:
            self._losing = True
            if self._backlog is not None:
                self._backlog.flush()
            # A producer would keep it from closing.
            cast(Any, self.transport).unregisterProducer()
            self.transport.loseConnection()

    def when_gone(self) -> Deferred[None]:
        """Wait until the connection is gone."""
        return self._until_gone.wait() if self.connected_now else succeed(None)

    # Twisted's side

    def connectionMade(self) -> None:
        """The connection is open; the application speaks first."""
        assert self.transport is not None
        self.connected_now = True
        _tune(self.transport)
        self._backlog = Backlog(
            self.transport, self._unread, self._cut, self._clock, self._patience
        )
        cast(Any, self.transport).registerProducer(self, True)
        self._handler.opened(self)

    def dataReceived(self, data: bytes) -> None:
        """Carry out what came; write all answers that are ready by then at once."""
        self._corked = True
        try:
            for event in self.session.receive(data):
                try:
                    if isinstance(event, Commanded):
                        self._handler.commanded(self, event)
                    elif isinstance(event, Signed):
                        self._handler.signed(self)
                    elif isinstance(event, WrongSecret):
                        self._delay()
                        self._handler.wrong_secret(self)
                    else:
                        self._handler.broken(self, event.error)
                except Exception:
                    self._log.failure("failed to handle a command of {peer}", peer=self.peer)
        finally:
            self._corked = False
            self._flush()

    def connectionLost(self, reason: Failure = protocol.connectionDone) -> None:
        """Tell the server."""
        self.connected_now = False
        if self._backlog is not None:
            self._backlog.forget()
        if self._delayed is not None and self._delayed.active():
            self._delayed.cancel()
        self.loss = reason.value
        self._handler.gone(self)
        self._until_gone.fire(None)

    def _flush_unless_corked(self) -> None:
        if not self._corked:
            self._flush()

    def _delay(self) -> None:
        """Let whoever guesses secrets wait for the next try; nothing more is read of him."""
        if self._clock is not None and self._secret_delay:
            cast(Any, self.transport).pauseProducing()
            self._delayed = self._clock.callLater(self._secret_delay, self._flush)

    def _flush(self) -> None:
        transport = self.transport
        if transport is None or (self._delayed is not None and self._delayed.active()):
            return
        data = self.session.data_to_send()
        if data and self._backlog is not None:
            self._backlog.write(data)
        if self.session.closing:
            self._lose()

    def _cut(self, why: str) -> None:
        self.connected_now = False
        self._handler.unread(self, why)
        self.abort()


class DrachtioServerFactory(protocol.Factory):
    """Makes a server's end of connections: for an admin port, or to reach an application.

    :param make_session: gives the state of each connection.
    :param handler: carries the commands out.
    :param options: those of :class:`DrachtioServerProtocol`.
    """

    noisy = False

    def __init__(
        self,
        make_session: Callable[[], ServerSession],
        handler: ServerLinkHandler,
        **options: Any,
    ) -> None:
        self._make_session = make_session
        self._handler = handler
        self.options = options

    def buildProtocol(self, addr: IAddress | None) -> DrachtioServerProtocol:
        """Make the protocol of one connection."""
        link = DrachtioServerProtocol(self._make_session(), self._handler, **self.options)
        link.factory = self
        return link


def _show(tap: FrameTap, link: DrachtioProtocol, event: object) -> None:
    """Let somebody look at what came."""
    if type(event) is tuple:
        event = event[1]
    if isinstance(event, (Delivery, Answer)):
        tap.frame_passed(link, event.tokens, event.raw, False)


def _tune(transport: object) -> None:
    """Send small frames at once, and let the kernel notice peers that vanished."""
    # The UNIX sockets of older Twisted say that they are TCP too.
    if ITCPTransport.providedBy(transport) and not isinstance(transport.getHost(), UNIXAddress):
        transport.setTcpNoDelay(True)
        transport.setTcpKeepAlive(True)
