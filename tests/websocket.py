"""A WebSocket client for tests, made of wsproto: nothing of ours is in it."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import protocol, reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol, wrapClientTLS
from wsproto import ConnectionType, WSConnection
from wsproto import events as ws

from drachtwist.net.tls import TlsOptions

_reactor = cast(Any, reactor)


class WebSocketPeer(protocol.Protocol):
    """One connection; keeps what it gets."""

    def __init__(self, host: str, subprotocols: list[str]) -> None:
        self._request = ws.Request(host=host, target="/", subprotocols=subprotocols)
        self._websocket = WSConnection(ConnectionType.CLIENT)
        self._piece: Any = None
        self.up: Deferred[WebSocketPeer] = Deferred()
        """Fires when the handshake is done; fails with AssertionError when it is refused."""
        self.lost: Deferred[None] = Deferred()
        """Fires when the connection is gone."""
        self.messages: list[str | bytes] = []
        """What came, as text or as bytes."""
        self.pongs: list[bytes] = []
        self.closed: int | None = None
        """The code of the close frame that came."""
        self.answers_close = True
        self._waiting: list[tuple[str, Deferred[str]]] = []

    def connectionMade(self) -> None:
        """Ask for the upgrade."""
        self.write(self._websocket.send(self._request))

    def write(self, data: bytes) -> None:
        """Write octets."""
        cast(Any, self.transport).write(data)

    def send(self, message: str | bytes) -> None:
        """Send a message: text or binary."""
        kind: Any = ws.TextMessage if isinstance(message, str) else ws.BytesMessage
        self.write(self._websocket.send(kind(message)))

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping."""
        self.write(self._websocket.send(ws.Ping(payload)))

    def close(self, code: int = 1000) -> None:
        """Begin the closing handshake."""
        self.write(self._websocket.send(ws.CloseConnection(code)))

    def when(self, text: str) -> Deferred[str]:
        """Wait for a message with a text in it; it is taken."""
        waiting: Deferred[str] = Deferred()
        self._waiting.append((text, waiting))
        self._check()
        return waiting.addTimeout(10, _reactor)

    def _check(self) -> None:
        for entry in list(self._waiting):
            for message in self.messages:
                found = message if isinstance(message, str) else message.decode("latin-1")
                if entry[0] in found:
                    self._waiting.remove(entry)
                    self.messages.remove(message)
                    entry[1].callback(found)
                    break

    def dataReceived(self, data: bytes) -> None:
        """Take in octets."""
        self._websocket.receive_data(data)
        for event in self._websocket.events():
            if isinstance(event, ws.AcceptConnection):
                self.up.callback(self)
            elif isinstance(event, ws.RejectConnection):
                self.up.errback(AssertionError(f"refused with {event.status_code}"))
            elif isinstance(event, (ws.TextMessage, ws.BytesMessage)):
                self._piece = event.data if self._piece is None else self._piece + event.data
                if event.message_finished:
                    self.messages.append(self._piece)
                    self._piece = None
            elif isinstance(event, ws.Pong):
                self.pongs.append(bytes(event.payload))
            elif isinstance(event, ws.Ping):
                self.write(self._websocket.send(event.response()))
            elif isinstance(event, ws.CloseConnection):
                self.closed = int(event.code)
                if self.answers_close and self._websocket.state.name == "REMOTE_CLOSING":
                    self.write(self._websocket.send(event.response()))
        self._check()

    def connectionLost(self, reason: Any = None) -> None:
        """The connection is gone."""
        if not self.up.called:
            self.up.errback(AssertionError("closed"))
        self.lost.callback(None)


def connect(
    port: int,
    host: str = "127.0.0.1",
    *,
    ca: bytes | None = None,
    subprotocols: tuple[str, ...] = ("sip",),
    kind: type[WebSocketPeer] = WebSocketPeer,
) -> Deferred[WebSocketPeer]:
    """Open a WebSocket.

    :param ca: the certificate to trust, for one over TLS.
    :param kind: what to make of it.
    """
    endpoint: Any = HostnameEndpoint(_reactor, host, port)
    if ca is not None:
        endpoint = wrapClientTLS(TlsOptions(ca=ca).client_creator(host), endpoint)
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    peer = kind(shown, list(subprotocols))
    made: Deferred[WebSocketPeer] = connectProtocol(endpoint, peer)
    return made.addCallback(lambda _: peer.up)


def leave(peer: WebSocketPeer) -> Deferred[None]:
    """Cut a connection, if it is still there, and wait until it is gone."""
    if not peer.lost.called:
        cast(Any, peer.transport).abortConnection()
    return peer.lost
