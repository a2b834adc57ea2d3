"""Messages out of a byte stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.sip.message import Request, Response
from drachtwist.sip.stream import KeepAlive, Malformed, StreamEvent, StreamParser

HEADERS = {
    "Via": "SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1",
    "From": "<sip:a@b>;tag=1",
    "To": "<sip:c@d>",
    "Call-ID": "x@y",
    "CSeq": "1 INFO",
}
INFO = bytes(Request("INFO", "sip:a@b", HEADERS, b"\r\n\r\nbody\r\n\r\n"))
OK = bytes(Response(200, headers=HEADERS))
BAD = INFO.replace(b"1 INFO", b"1 BYE ")
UNREADABLE = INFO.replace(b"SIP/2.0\r\n", b"SIP/X\r\n")
ENDLESS = INFO.replace(b"Content-Length", b"Content-Lengsh")
PING = b"\r\n\r\n"

pieces = st.sampled_from([INFO, OK, BAD, UNREADABLE, PING, b"\r\n", b"\n", b"\r", b"x", ENDLESS])


def plain(event: StreamEvent) -> tuple[str, bytes, str]:
    if isinstance(event, KeepAlive):
        return ("ping", b"", "")
    if isinstance(event, Malformed):
        return ("malformed", event.raw, str(event.error))
    return (type(event).__name__, bytes(event), "")


def fed(data: bytes, size: int, limit: int = 2000) -> tuple[list[tuple[str, bytes, str]], str]:
    parser = StreamParser(limit)
    events: list[StreamEvent] = []
    for at in range(0, len(data), size):
        events += parser.feed(data[at : at + size])
    return [plain(event) for event in events], str(parser.error)


class StreamTests(SynchronousTestCase):
    def test_messages_and_pings(self) -> None:
        """Messages are separated by Content-Length; a double CRLF between them is a ping."""
        events, error = fed(INFO + PING + b"\r\n" + OK + INFO + PING + PING, 10_000)
        self.assertEqual(
            [kind for kind, _, _ in events],
            ["Request", "ping", "Response", "Request", "ping", "ping"],
        )
        self.assertEqual(events[0][1], INFO)
        self.assertEqual(events[2][1], OK)
        self.assertEqual(error, "None")

    @given(st.lists(pieces, max_size=6).map(b"".join), st.integers(1, 60))
    def test_slicing_does_not_matter(self, data: bytes, size: int) -> None:
        """The same comes out however TCP happened to cut the stream."""
        self.assertEqual(fed(data, size), fed(data, len(data) or 1))

    @given(st.binary(max_size=300), st.integers(1, 50))
    def test_any_bytes(self, data: bytes, size: int) -> None:
        """Whatever arrives, nothing is raised, and slicing does not matter either."""
        self.assertEqual(fed(data, size, 64), fed(data, len(data) or 1, 64))
        self.assertEqual(fed(INFO + data, size), fed(INFO + data, len(data) + len(INFO)))

    def test_bad_message_does_not_stop_the_stream(self) -> None:
        """A message whose end is known is refused by itself, with what an answer needs."""
        parser = StreamParser()
        bad, unreadable, good = parser.feed(BAD + UNREADABLE + INFO)
        assert isinstance(bad, Malformed) and isinstance(unreadable, Malformed)
        self.assertEqual((bad.raw, bad.error.status), (BAD, 400))
        assert bad.message is not None
        self.assertEqual(bad.message.call_id, "x@y")
        self.assertIsNone(unreadable.message)
        self.assertIsInstance(good, Request)
        self.assertIsNone(parser.error)

    def test_no_length_is_fatal(self) -> None:
        """Without a usable Content-Length nothing that follows can be understood."""
        for old, new in (
            (b"Content-Length: 12", b"Content-Length: -1"),
            (b"Content-Length: 12", b"Content-Length: x"),
            (b"Content-Length: 12", b"Content-Length:"),
            (b"Content-Length: 12", b"Content-Length: 12\r\nl: 13"),
            (b"Content-Length: 12\r\n", b""),
        ):
            self.assertIn(old, INFO)
            parser = StreamParser()
            events = parser.feed(OK + INFO.replace(old, new) + OK)
            self.assertEqual(len(events), 2)
            fatal = events[1]
            assert isinstance(fatal, Malformed) and fatal.message is not None
            self.assertEqual(fatal.message.call_id, "x@y")
            self.assertIs(parser.error, fatal.error)
            self.assertEqual(parser.feed(OK), [])
            self.assertEqual(parser.pending, 0)

    def test_limit(self) -> None:
        """Neither a head nor a body may be longer than the limit."""
        size = len(INFO)
        self.assertEqual(len(StreamParser(size).feed(INFO)), 1)
        parser = StreamParser(size - 1)
        (event,) = parser.feed(INFO)
        assert isinstance(event, Malformed)
        self.assertEqual(event.error.status, 513)
        endless = StreamParser(100)
        self.assertEqual(endless.feed(b"INFO sip:a SIP/2.0\r\nX: " + b"x" * 76), [])
        (event,) = endless.feed(b"x")
        assert isinstance(event, Malformed)
        self.assertEqual(event.error.status, 513)
        self.assertIsNotNone(endless.error)

    def test_waiting(self) -> None:
        """An incomplete message waits, and it is known how much of it there is."""
        parser = StreamParser()
        self.assertEqual(parser.feed(INFO[:-1]), [])
        self.assertEqual(parser.pending, len(INFO) - 1)
        self.assertEqual(len(parser.feed(INFO[-1:])), 1)
        self.assertEqual(parser.pending, 0)

    def test_looks_at_octets_a_bounded_number_of_times(self) -> None:
        """Neither a long head nor a long body is searched again with every octet that comes.

        The searches are counted, not timed: what a subclass of bytearray is asked to look through.
        """
        looked = 0

        class Counting(bytearray):
            def find(self, sub: bytes, start: int = 0, end: int = 2**62) -> int:  # type: ignore[override]
                nonlocal looked
                looked += min(end, len(self)) - start
                return super().find(sub, start, end)

        parser = StreamParser()
        parser._buffer = Counting()
        message = bytes(Request("INFO", "sip:a@b", {**HEADERS, "X": "y" * 5000}, b"z" * 5000))
        events = [
            event for at in range(len(message)) for event in parser.feed(message[at : at + 1])
        ]
        self.assertEqual([bytes(e) for e in events if isinstance(e, Request)], [message])
        self.assertLess(looked, 5 * len(message))
