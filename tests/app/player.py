"""Plays recordings of a real server to applications.

Each recording is played four times: with each frame in a read of its own, with the frames that came
together in one read, with all that the server sent up to the application's next word in one, and
cut into small pieces.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Srf, testing
from drachtwist.testing.player import READS, message_of
from tests.transcripts import transcript

__all__ = ["Player", "ReplayTestCase", "message_of", "session"]


def session(version: int = 1, port: int = 32500) -> str:
    """Give the session description of the application."""
    return "\r\n".join(
        [
            "v=0",
            f"o=app 77 {version} IN IP4 127.0.0.1",
            "s=-",
            "c=IN IP4 127.0.0.1",
            "t=0 0",
            f"m=audio {port} RTP/AVP 0 101",
            "a=rtpmap:0 PCMU/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=sendrecv",
            "",
        ]
    )


class Player(testing.Player):
    """Plays one recording of those in tests/data to an application of its own.

    :param reads: how frames are put into reads: ``single``, ``together``, ``batched``, ``cut``.
    """

    def __init__(self, test: SynchronousTestCase, number: int, reads: str) -> None:
        self.test = test
        self.number = number
        super().__init__(transcript(number), Srf(), reads=reads)


Application = Callable[["Player"], "Callable[[], None] | None"]


class ReplayTestCase(SynchronousTestCase):
    """Plays recordings."""

    maxDiff = None

    def play(self, number: int, application: Application) -> None:
        """Play a recording to new copies of an application, in all kinds of reads."""
        for reads in READS:
            player = Player(self, number, reads)
            check = application(player)
            player.play()
            self.assertGreater(player.compared, 0)
            if check is not None:
                check()
            player.stop()
            self.assertEqual(self.flushLoggedErrors(), [])
