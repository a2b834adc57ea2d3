"""What waits until a peer reads."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.abstract import FileDescriptor
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from drachtwist.net.backlog import PIECE, Backlog


class Socket(FileDescriptor):
    """Twisted's own buffering, before a peer that reads as much as it is told to."""

    def __init__(self) -> None:
        reactor: Any = MemoryReactor()
        super().__init__(reactor)
        self.connected = True
        self.room = 0
        self.read = b""

    def writeSomeData(self, data: bytes) -> int:
        """Write what there is room for."""
        taken = bytes(data[: self.room])
        self.room -= len(taken)
        self.read += taken
        return len(taken)

    def take(self, octets: int) -> None:
        """Let the peer read."""
        self.room += octets
        while self.room and self.buffered:
            self.doWrite()

    @property
    def buffered(self) -> int:
        """How much Twisted keeps."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen


@implementer(IPushProducer)
class Producer:
    """Tells the backlog what the transport tells."""

    def __init__(self, backlog: Backlog) -> None:
        self.pauseProducing = backlog.pause
        self.resumeProducing = backlog.resume

    def stopProducing(self) -> None:
        """Do nothing."""


class BacklogTests(SynchronousTestCase):
    def begin(self, most: int = 10 * PIECE) -> None:
        """Open a connection."""
        self.clock = Clock()
        self.socket = Socket()
        self.cuts: list[str] = []
        transport: Any = self.socket
        self.backlog = Backlog(transport, most, self.cuts.append, self.clock, 30.0)
        self.socket.registerProducer(Producer(self.backlog), True)

    @given(
        st.lists(
            st.tuples(st.integers(0, 3 * PIECE), st.integers(0, 3 * PIECE)), min_size=1, max_size=20
        )
    )
    def test_nothing_is_lost(self, steps: list[tuple[int, int]]) -> None:
        """Everything comes in order, however it is written and read."""
        self.begin(100 * PIECE)
        written = b""
        for number, (writes, reads) in enumerate(steps):
            data = bytes([number + 1]) * writes
            written += data
            self.backlog.write(data)
            self.socket.take(reads)
            self.assertLess(self.socket.buffered, 3 * PIECE)
            self.assertEqual(
                self.backlog.waits + self.socket.buffered + len(self.socket.read), len(written)
            )
        self.backlog.flush()
        self.socket.take(len(written))
        self.assertEqual(self.socket.read, written)
        self.assertEqual((self.cuts, self.clock.getDelayedCalls()), ([], []))

    def test_behind_but_reading(self) -> None:
        """Who reads as fast as is written, but is behind, is never cut."""
        self.begin()
        for _ in range(5):
            self.backlog.write(b"x" * PIECE)
        for _ in range(500):
            self.backlog.write(b"x" * PIECE)
            self.socket.take(PIECE)
            self.clock.advance(1)
        self.assertTrue(self.backlog.paused)
        self.assertEqual(self.cuts, [])

    def test_too_much(self) -> None:
        """Beyond the limit it is cut, once, and nothing is kept."""
        self.begin()
        for _ in range(30):
            self.backlog.write(b"x" * PIECE)
            self.assertLessEqual(self.backlog.waits, 10 * PIECE)
        self.assertEqual((self.cuts, self.backlog.waits), (["unread"], 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reads_nothing(self) -> None:
        """Who has read nothing for the time that is given is cut, whether more is written or not.

        A byte now and then is not enough.
        """
        for reads in (0, 1):
            self.begin()
            self.backlog.write(b"x" * 2 * PIECE)
            for _ in range(29):
                self.socket.take(reads)
                self.clock.advance(1)
            self.assertEqual(self.cuts, [])
            self.clock.advance(2)
            self.assertEqual((self.cuts, self.backlog.waits), (["stalled"], 0))
            self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reads_slowly(self) -> None:
        """Who reads slowly is not."""
        self.begin(100 * PIECE)
        self.backlog.write(b"x" * 50 * PIECE)
        for _ in range(600):
            self.socket.take(PIECE // 12)
            self.clock.advance(1)
        self.assertEqual(self.cuts, [])

    def test_gone(self) -> None:
        """When the connection is gone nothing waits, and nobody looks."""
        self.begin()
        self.backlog.write(b"x" * 5 * PIECE)
        self.backlog.forget()
        self.backlog.write(b"x" * 50 * PIECE)
        self.clock.advance(60)
        self.assertEqual((self.backlog.waits, self.cuts), (0, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])
