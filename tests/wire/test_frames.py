"""Tests of framing."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import FrameError, FrameTooLarge
from drachtwist.wire.frames import MAX_PAYLOAD, FrameDecoder, encode_frame


def decoded(decoder: FrameDecoder, data: bytes, size: int) -> list[bytes]:
    """Feed data in slices, and give all frames."""
    frames = []
    for at in range(0, len(data), size):
        frames += decoder.feed(data[at : at + size])
    return frames


class FrameDecoderTests(SynchronousTestCase):
    @given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 50))
    def test_slicing_does_not_matter(self, payloads: list[bytes], size: int) -> None:
        """The same frames come out however TCP happened to cut the stream."""
        decoder = FrameDecoder()
        self.assertEqual(decoded(decoder, b"".join(map(encode_frame, payloads)), size), payloads)
        self.assertIsNone(decoder.error)

    @given(st.lists(st.binary(max_size=30)), st.integers(1, 50))
    def test_garbage_is_one_error(self, pieces: list[bytes], size: int) -> None:
        """Arbitrary bytes raise nothing; they end in frames, an error, or patience."""
        decoder = FrameDecoder(limit=1000)
        for frame in decoded(decoder, b"".join(pieces), size):
            self.assertLessEqual(len(frame), 1000)
        if decoder.error is not None:
            self.assertIsInstance(decoder.error, FrameError)
            self.assertEqual(decoder.feed(b"1#x"), [])

    def test_bytes_not_characters(self) -> None:
        """The length counts bytes of UTF-8."""
        payload = "é🎉".encode()
        self.assertEqual(encode_frame(payload), b"6#" + payload)
        self.assertEqual(FrameDecoder().feed(b"6#" + payload + b"1#x"), [payload, b"x"])

    def test_leading_zeros(self) -> None:
        """Leading zeros are accepted."""
        self.assertEqual(FrameDecoder().feed(b"00006#x|ping"), [b"x|ping"])

    def test_empty_frames_are_ignored(self) -> None:
        """An empty frame is nothing, and what follows it is read."""
        self.assertEqual(FrameDecoder().feed(b"0#0#1#x"), [b"x"])

    def test_what_is_no_length(self) -> None:
        """Whatever is no decimal length is an error, and the frames in front of it are kept."""
        for garbage in (b"#x", b"\r\n", b"-5#x", b"GET / HTTP/1.1", b" 1#x", b"1x#", b"\x00"):
            decoder = FrameDecoder()
            self.assertEqual(decoder.feed(b"1#a1#b" + garbage), [b"a", b"b"], garbage)
            self.assertIsInstance(decoder.error, FrameError, garbage)

    def test_too_many_digits(self) -> None:
        """A length of more digits than allowed is an error before its end is seen."""
        decoder = FrameDecoder(max_digits=5)
        self.assertEqual(decoder.feed(b"12345"), [])
        self.assertIsNone(decoder.error)
        decoder.feed(b"6")
        self.assertIsInstance(decoder.error, FrameError)

    def test_limit(self) -> None:
        """A frame over the limit is an error as soon as its length is known."""
        decoder = FrameDecoder(limit=10)
        self.assertEqual(decoder.feed(b"10#0123456789"), [b"0123456789"])
        decoder.feed(b"11#")
        self.assertIsInstance(decoder.error, FrameError)

    def test_linear_time(self) -> None:
        """A frame ten times as long takes about ten times as long, not a hundred times."""

        def cost(size: int) -> float:
            data = encode_frame(bytes(size), None)
            best = 1e9
            for _ in range(3):
                decoder = FrameDecoder(limit=1 << 30)
                began = time.process_time()
                frames = decoded(decoder, data, 64)
                best = min(best, time.process_time() - began)
                self.assertEqual(len(frames), 1)
            return best

        self.assertLess(cost(2_000_000) / max(cost(200_000), 1e-4), 40)

    def test_encoder_limit(self) -> None:
        """What a real server could not receive is refused; other servers may take more."""
        self.assertEqual(len(encode_frame(bytes(MAX_PAYLOAD))), MAX_PAYLOAD + 6)
        error = self.assertRaises(FrameTooLarge, encode_frame, bytes(MAX_PAYLOAD + 1))
        self.assertEqual((error.size, error.limit), (MAX_PAYLOAD + 1, MAX_PAYLOAD))
        self.assertEqual(encode_frame(bytes(99_999), None)[:6], b"99999#")
