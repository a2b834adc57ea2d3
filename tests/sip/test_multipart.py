"""Multipart bodies."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip.headers import Headers
from drachtwist.sip.multipart import Part, decode, encode


class MultipartTests(SynchronousTestCase):
    def test_decode(self) -> None:
        """Preamble and epilogue vanish, parts keep their headers and octets."""
        parts = decode(
            b"preamble\r\n--b\r\nContent-Type: application/sdp\r\nContent-Disposition: session;"
            b"handling=required\r\n\r\nv=0\r\n\r\n--b  \r\n\r\nplain\r\n--b\r\nX: y\r\n\r\n\r\n"
            b"--b--\r\nepilogue\r\n--b\r\n",
            "b",
        )
        self.assertEqual([part.body for part in parts], [b"v=0\r\n", b"plain", b""])
        self.assertEqual(parts[0].content_type.essence, "application/sdp")
        disposition = parts[0].disposition
        assert disposition is not None
        self.assertEqual(disposition.value, "session")
        self.assertEqual(parts[1].content_type.essence, "text/plain")
        self.assertIsNone(parts[1].disposition)
        self.assertEqual(parts[2].headers.items(), [("X", "y")])

    def test_bare_line_feeds(self) -> None:
        """Some senders end lines with LF only."""
        (part,) = decode(b"--b\nX: y\n\na\nb\n--b--\n", "b")
        self.assertEqual((part.headers.get("X"), part.text), ("y", "a\nb"))

    def test_headers_only(self) -> None:
        """A part may end with its headers, or have nothing at all."""
        parts = decode(b"--b\r\nX: y\r\n--b\r\n--b--", "b")
        self.assertEqual([(p.headers.get("X"), p.body) for p in parts], [("y", b""), (None, b"")])

    def test_refused(self) -> None:
        """A body that does not begin is none."""
        for body in (b"", b"no boundary", b"x--b--", b"--bb--\r\n"):
            self.assertRaises(MessageError, decode, body, "b")
        self.assertRaises(MessageError, decode, b"--\r\n\r\n----", "")
        self.assertEqual(decode(b"--b--", "b"), [])

    def test_encode(self) -> None:
        """Parts are written with their headers between boundaries."""
        boundary, body = encode(
            [Part.make("text/plain", "ü", {"X": "y"}, "render"), Part(Headers(), b"raw")], "b"
        )
        self.assertEqual(boundary, "b")
        self.assertEqual(
            body,
            b"--b\r\nContent-Type: text/plain\r\nContent-Disposition: render\r\nX: y\r\n\r\n"
            b"\xc3\xbc\r\n--b\r\n\r\nraw\r\n--b--\r\n",
        )

    def test_boundaries(self) -> None:
        """A boundary is chosen afresh, or checked."""
        part = Part.make("text/plain", "has --inside")
        self.assertNotEqual(encode([part])[0], encode([part])[0])
        for boundary in ("inside", "", "a\r\nb", "x" * 71, "a "):
            self.assertRaises(LocalProtocolError, encode, [part], boundary)
        self.assertRaises(LocalProtocolError, encode, [])

    @given(st.lists(st.tuples(st.binary(max_size=30), st.booleans()), min_size=1, max_size=4))
    def test_round_trip(self, bodies: list[tuple[bytes, bool]]) -> None:
        """Any octets come back as they went in."""
        parts = [
            Part.make("application/octet-stream", body) if typed else Part(Headers(), body)
            for body, typed in bodies
        ]
        boundary, body = encode(parts)
        self.assertEqual(decode(body, boundary), parts)

    @given(st.lists(st.sampled_from([b"--b", b"--", b"\r\n", b"\n", b"X: y", b" "]), max_size=12))
    def test_any_bytes(self, pieces: list[bytes]) -> None:
        """Whatever the body, its parts are found inside it or it is refused."""
        body = b"".join(pieces)
        assume(body)
        try:
            parts = decode(body, "b")
        except MessageError:
            return
        self.assertTrue(all(part.body in body for part in parts))
