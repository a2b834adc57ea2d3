"""WebSocket connections that carry SIP: :class:`~drachtwist.sip.websocket.SipWebSocket` on a
:class:`~drachtwist.net.sip.stream.Stream`.

It is up once the WebSocket handshake is done, and is closed as RFC 6455 section 7 wants it: each
side says so, and then the connection goes.
"""

from __future__ import annotations

from twisted.internet.error import ConnectError, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from drachtwist.net.sip.flows import Flow, Target
from drachtwist.net.sip.stream import Stream, StreamReports
from drachtwist.sip.websocket import Ended, Heard, Opened, SipWebSocket

__all__ = ["WebSocketStream"]

_CLOSING = 10.0
"""How long the peer may take to do its part of the closing handshake."""


class WebSocketStream(Stream):
    """One WebSocket connection, with or without TLS, from the first wish to have it."""

    def __init__(
        self, transports: StreamReports, flow: Flow, target: Target, *, incoming: bool
    ) -> None:
        super().__init__(transports, flow, target, incoming=incoming)
        host = f"[{target.host}]" if ":" in target.host else target.host
        server = None if incoming else f"{target.name or host}:{target.port}"
        self._websocket = SipWebSocket(transports.limits.message, server)
        self._closing: IDelayedCall | None = None

    def established(self) -> None:
        """Note that the handshake may begin."""
        self._answer(self._websocket.begin())

    def _write(self, data: bytes) -> None:
        super()._write(self._websocket.encode(data))

    def _answer(self, data: bytes) -> None:
        """Write what is no message; of that too there may not wait too much."""
        if data:
            self._put(data)

    def close(self) -> None:
        """Close when all is written and the peer has agreed, or takes too long to."""
        farewell = self._websocket.close()
        if self.usable and farewell:
            self.usable = False
            self.last_use = self._transports.clock.seconds()
            self._answer(farewell)
            late = TimeoutError(string="the peer does not close the WebSocket")
            self._closing = self._transports.clock.callLater(_CLOSING, self.cut, late)
        elif self._closing is None:
            super().close()

    def dataReceived(self, data: bytes) -> None:
        """Take in octets."""
        websocket = self._websocket
        for event in websocket.feed(data):
            if isinstance(event, Ended):
                self._answer(event.answer)
                if event.refusal is not None:
                    self.cut(ConnectError(string=event.refusal))
                else:
                    super().close()
            elif not self.usable:
                continue  # it only has to end
            elif isinstance(event, Opened):
                self._answer(event.answer)
                self._up()
            elif isinstance(event, Heard):
                self.alive()
                self._answer(event.answer)
            else:
                self.take(event)
        if websocket.error is not None:
            self.close()
        elif self.usable:
            self.keep(websocket.pending)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Note that the connection is gone."""
        if self._closing is not None and self._closing.active():
            self._closing.cancel()
        super().connectionLost(reason)
