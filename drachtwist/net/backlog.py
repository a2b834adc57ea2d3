"""What was written to a connection and waits until its peer reads.

Twisted's transports tell a producer when their buffer is full and when it is empty again, and keep
whatever is written meanwhile without a limit. So here nothing is: it waits in a queue of our own,
whose length says how far behind the peer is, and goes on in pieces. A peer that reads, however far
behind it is, is told from one that does not by this: a piece is read within some seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITransport
from zope.interface import implementer

__all__ = ["PIECE", "Backlog", "Backlogged"]

PIECE = 1 << 16
"""Bytes that are given to the transport at a time, about as many as it keeps before it is full."""


class Backlog:
    """Writes as fast as a peer reads.

    :param transport: where to.
    :param most: bytes that may wait.
    :param cut: called once when that is too little (``"unread"``), or when the peer has read
        nothing for too long (``"stalled"``); what waits is gone by then.
    :param clock: the reactor, or a Clock; nobody has to read without one.
    :param patience: seconds in which the peer has to read a piece.
    """

    __slots__ = (
        "_clock",
        "_cut",
        "_offset",
        "_patience",
        "_queue",
        "_since",
        "_timer",
        "_transport",
        "gone",
        "most",
        "paused",
        "waits",
    )

    def __init__(
        self,
        transport: ITransport,
        most: int,
        cut: Callable[[str], object],
        clock: IReactorTime | None = None,
        patience: float = 0.0,
    ) -> None:
        self._transport = transport
        self._cut: Callable[[str], object] | None = cut
        self._clock = clock if patience else None
        self._patience = patience
        self._queue: deque[bytes] = deque()
        self._offset = 0  # what of the first one was written
        self._timer: IDelayedCall | None = None
        self._since = 0.0
        self.most = most
        self.waits = 0
        """How many bytes wait."""
        self.paused = False
        """Whether the peer does not read as fast as it is written to."""
        self.gone = False
        """Whether nothing is kept any more: the connection is closing."""

    def write(self, data: bytes) -> None:
        """Write, now or when the peer has read what was written before."""
        if self.gone:
            return
        if not self.paused and len(data) <= PIECE:
            self._transport.write(data)
            return
        self._queue.append(data)
        self.waits += len(data)
        if not self.paused:
            self._pump()
        if self.waits > self.most:
            self._give_up("unread")

    def flush(self) -> None:
        """Hand everything to the transport, which is about to close the connection."""
        queue, offset = self._queue, self._offset
        if queue and not self.gone:
            queue[0] = queue[0][offset:]
            self._transport.write(b"".join(queue))
        self.forget()

    def forget(self) -> None:
        """Keep nothing: the connection is gone."""
        self.gone = True
        self._cut = None  # it knows us, and is not to wait for the collector
        self._queue.clear()
        self.waits = self._offset = 0
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()

    # What the transport tells

    def pause(self) -> None:
        """Note that its buffer is full."""
        self.paused = True
        clock = self._clock
        if clock is not None and not self.gone:
            self._since = clock.seconds()
            if self._timer is None:
                self._timer = clock.callLater(self._patience, self._look)

    def resume(self) -> None:
        """Note that it is empty."""
        self.paused = False
        self._pump()

    def _pump(self) -> None:
        queue = self._queue
        while queue and not self.paused:
            piece: Any = queue[0]
            end = self._offset + PIECE
            if end < len(piece):
                piece = piece[self._offset : end]
                self._offset = end
            else:
                if self._offset:
                    piece = piece[self._offset :]
                    self._offset = 0
                queue.popleft()
            self.waits -= len(piece)
            self._transport.write(piece)

    def _look(self) -> None:
        """See whether anything was read since the buffer was full."""
        self._timer = None
        clock = self._clock
        if not self.paused or clock is None:
            return
        left = self._since + self._patience - clock.seconds()
        if left > 0:
            self._timer = clock.callLater(left, self._look)
        else:
            self._give_up("stalled")

    def _give_up(self, why: str) -> None:
        cut = self._cut
        if cut is not None:
            self.forget()
            cut(why)


@implementer(IPushProducer)
class Backlogged:
    """A protocol whose :class:`Backlog` learns from the transport how fast its peer reads."""

    _backlog: Backlog | None
    """There is one while the connection is open."""

    def pauseProducing(self) -> None:
        """Note that the peer does not read as fast as it is written to."""
        if self._backlog is not None:
            self._backlog.pause()

    def resumeProducing(self) -> None:
        """Note that the peer has read what the transport had."""
        if self._backlog is not None:
            self._backlog.resume()

    def stopProducing(self) -> None:
        """Note that the connection is gone, which comes otherwise too."""
