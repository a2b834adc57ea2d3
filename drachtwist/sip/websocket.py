"""SIP over WebSockets (RFC 7118), without the connection: octets in, events and octets out.

Both ends are here: the one that is asked for an upgrade to the subprotocol ``sip``, and the one
that asks for it. After that each WebSocket message, text or binary, is one SIP message, which ends
where the WebSocket message ends: Content-Length may be missing. A message of CRLF CRLF is a ping of
RFC 5626; WebSocket's own pings are answered here. What we send goes out as text, or as binary when
it is no UTF-8.

What comes out does not depend on how the octets were cut. No peer can make this raise: whatever
breaks RFC 6455 ends the connection, with an HTTP error before the upgrade and with a close frame
after it. The Origin of a web page is not looked at, and nothing is compressed.

This needs the package wsproto, and is loaded only where WebSockets are wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Union

from wsproto import ConnectionType, WSConnection
from wsproto import events as ws
from wsproto.connection import Connection, ConnectionState
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import RemoteProtocolError

from drachtwist.errors import MessageError
from drachtwist.sip.parsing import parse_datagram, read_leniently
from drachtwist.sip.stream import KeepAlive, Malformed, StreamEvent

__all__ = ["Ended", "Heard", "Opened", "SipWebSocket", "WebSocketEvent"]

SUBPROTOCOL = "sip"
HANDSHAKE_LIMIT = 16384
"""Octets that the head of an HTTP request or response may have."""

_HEAD_END = b"\r\n\r\n"
_UPGRADE = re.compile(rb"\nupgrade[ \t]*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Opened:
    """The handshake is done: messages may be sent."""

    answer: bytes
    """What has to be written first, as it is."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A sign of life that is no message."""

    answer: bytes
    """What has to be written, as it is; may be empty."""


@dataclass(frozen=True, slots=True)
class Ended:
    """Nothing comes any more, and nothing can be sent: the connection has to be closed."""

    answer: bytes
    """What has to be written before that, as it is; may be empty."""
    refusal: str | None = None
    """Why the handshake that we asked for failed."""


WebSocketEvent = Union[StreamEvent, Opened, Heard, Ended]  # noqa: UP007 - Python 3.10
"""What comes out of a WebSocket connection."""


class SipWebSocket:
    """One end of a WebSocket connection.

    :param limit: octets that a message may have.
    :param host: host and port of the server, when this is the client's end.
    """

    __slots__ = (
        "_client",
        "_closing",
        "_connection",
        "_ended",
        "_error",
        "_head",
        "_host",
        "_limit",
        "_message",
        "_searched",
        "_websocket",
    )

    def __init__(self, limit: int = 1 << 20, host: str | None = None) -> None:
        self._limit = limit
        self._host = host
        self._client = host is not None
        kind = ConnectionType.SERVER if host is None else ConnectionType.CLIENT
        self._websocket = WSConnection(kind)
        # There is one once the handshake is done.
        self._connection: Connection | None = None
        self._head = bytearray()
        self._searched = 0
        self._message = bytearray()
        self._error: MessageError | None = None
        self._closing = False
        self._ended = False

    @property
    def error(self) -> MessageError | None:
        """Why no message comes out any more; :meth:`close` should be sent."""
        return self._error

    @property
    def pending(self) -> int:
        """Octets of a handshake or a message that is not complete yet."""
        return len(self._head if self._connection is None else self._message)

    def begin(self) -> bytes:
        """Return what a client's end has to write first."""
        if self._host is None:
            return b""
        return self._websocket.send(
            ws.Request(host=self._host, target="/", subprotocols=[SUBPROTOCOL])
        )

    def encode(self, message: bytes) -> bytes:
        """Return the octets that carry a message; the connection has to be open."""
        assert self._connection is not None, "no handshake yet"
        event: ws.Event
        try:
            event = ws.TextMessage(message.decode())
        except UnicodeDecodeError:
            event = ws.BytesMessage(message)
        return bytes(self._connection.send(event))

    def close(self) -> bytes:
        """Begin the closing handshake; :class:`Ended` follows when the peer does its part.

        :returns: what has to be written; nothing when the connection is not open, in which case
            nothing follows either.
        """
        connection = self._connection
        if connection is None or connection.state is not ConnectionState.OPEN:
            return b""
        self._closing = True
        code = CloseReason.NORMAL_CLOSURE
        if self._error is not None:
            code = CloseReason.MESSAGE_TOO_BIG
        return bytes(connection.send(ws.CloseConnection(code)))

    def feed(self, data: bytes) -> Iterator[WebSocketEvent]:
        """Take in octets; what comes out has to be read to its end.

        Each event comes before anything behind it is looked at, so that it can be answered.

        :returns: what is complete now; behind :class:`Ended` there is nothing.
        """
        if self._ended:
            return
        if self._connection is None:
            head = self._head
            head += data
            end = head.find(_HEAD_END, max(0, self._searched - 3), HANDSHAKE_LIMIT)
            if end < 0:
                self._searched = len(head)
                if len(head) >= HANDSHAKE_LIMIT:
                    yield from self._refuse(431, "too long for a WebSocket handshake")
                return
            data = bytes(head[end + 4 :])
            del head[end + 4 :]
            yield from self._accepted() if self._client else self._accept()
            if self._connection is None:
                return
        self._connection.receive_data(data)
        for event in self._connection.events():
            yield from self._take(self._connection, event)
            if self._ended:
                return

    # The handshake

    def _accept(self) -> list[WebSocketEvent]:
        """Look at a complete request for an upgrade."""
        head = bytes(self._head)
        try:
            self._websocket.receive_data(head)
            [request] = self._websocket.events()
        except RemoteProtocolError as error:
            if not _UPGRADE.search(head) and head.startswith(b"GET "):
                return self._refuse(426, "only WebSockets are served here")
            hint = error.event_hint
            version = isinstance(hint, ws.RejectConnection) and hint.status_code == 426
            return self._refuse(426 if version else 400, str(error))
        except ValueError:
            return self._refuse(400, "a header that has no valid value")
        assert isinstance(request, ws.Request)
        if SUBPROTOCOL not in request.subprotocols:
            return self._refuse(400, f"no WebSocket of the subprotocol {SUBPROTOCOL!r}")
        if any(
            name in (b"content-length", b"transfer-encoding") for name, _ in request.extra_headers
        ):
            return self._refuse(400, "a WebSocket handshake with a body")
        answer = self._websocket.send(ws.AcceptConnection(subprotocol=SUBPROTOCOL))
        self._connection = self._websocket.connection
        return [Opened(answer)]

    def _refuse(self, status: int, problem: str) -> list[WebSocketEvent]:
        """End the connection without an upgrade."""
        self._ended = True
        if self._client:
            return [Ended(b"", problem)]
        phrase = HTTPStatus(status).phrase
        lines = [f"HTTP/1.1 {status} {phrase}", "Connection: close"]
        if status == 426:
            lines[1:] = ["Connection: close, upgrade", "Upgrade: websocket"]
            lines.append("Sec-WebSocket-Version: 13")
        body = f"{phrase}: {problem}\n"
        lines += ["Content-Type: text/plain", f"Content-Length: {len(body)}", "", body]
        answer = "\r\n".join(lines).encode("ascii", "replace")
        return [Malformed(bytes(self._head), MessageError(problem), None), Ended(answer)]

    def _accepted(self) -> list[WebSocketEvent]:
        """Look at the complete head of the response to our request for an upgrade."""
        try:
            self._websocket.receive_data(bytes(self._head))
            answer = next(self._websocket.events())
        except (RemoteProtocolError, ValueError) as error:
            return self._refuse(0, f"the WebSocket handshake failed: {error}")
        if isinstance(answer, ws.RejectConnection):
            return self._refuse(0, f"the WebSocket handshake was answered {answer.status_code}")
        if not isinstance(answer, ws.AcceptConnection) or answer.subprotocol != SUBPROTOCOL:
            return self._refuse(0, "the peer does not speak SIP over WebSocket")
        self._connection = self._websocket.connection
        return [Opened(b"")]

    # Afterwards

    def _take(self, connection: Connection, event: ws.Event) -> Iterator[WebSocketEvent]:
        if isinstance(event, ws.CloseConnection):
            yield from self._close(connection, event)
        elif self._closing or self._error is not None:
            pass  # the peer does not know yet
        elif isinstance(event, (ws.TextMessage, ws.BytesMessage)):
            yield from self._gather(event)
        elif isinstance(event, ws.Ping):
            yield Heard(bytes(connection.send(event.response())))
        else:
            yield Heard(b"")

    def _close(self, connection: Connection, event: ws.CloseConnection) -> Iterator[WebSocketEvent]:
        """Look at the end: a close frame, or something that must not be."""
        answer: ws.Event = event.response()
        if connection.state is ConnectionState.OPEN:
            text = event.code == CloseReason.INVALID_FRAME_PAYLOAD_DATA
            problem = f"not a WebSocket frame: {'no UTF-8' if text else event.reason}"
            yield Malformed(b"", MessageError(problem), None)
            answer = ws.CloseConnection(event.code)
        self._ended = True
        said = self._closing or connection.state is ConnectionState.CLOSED
        yield Ended(b"" if said else bytes(connection.send(answer)))

    def _gather(self, event: ws.TextMessage | ws.BytesMessage) -> Iterator[WebSocketEvent]:
        """Take in a piece of a message."""
        message = self._message
        message += event.data.encode() if isinstance(event, ws.TextMessage) else event.data
        if len(message) > self._limit:
            self._error = MessageError(f"a message of more than {self._limit} octets", 513)
            head = bytes(message[: self._limit])
            end = head.find(_HEAD_END)
            head = head if end < 0 else head[: end + 4]
            message.clear()
            yield Malformed(head, self._error, read_leniently(head))
        elif event.message_finished:
            raw = bytes(message)
            message.clear()
            yield _read(raw)


def _read(raw: bytes) -> WebSocketEvent:
    """Say what a message is."""
    if not raw.strip(b"\r\n\0 \t"):
        return KeepAlive() if raw == _HEAD_END else Heard(b"")
    try:
        return parse_datagram(raw)
    except MessageError as error:
        return Malformed(raw, error, read_leniently(raw))
