"""Frames: a decimal byte count, ``#``, and that many bytes of payload.

Two facts about the real server shape this module. It cannot receive a payload of more than 12,228
bytes: the connection then stays open and is never read again, so such frames are refused before
they leave. And an incomplete frame of more than about 4,000 bytes may be overwritten by bytes that
follow it, so longer frames travel alone (the session sees to that).
"""

from __future__ import annotations

from drachtwist.errors import FrameError, FrameTooLarge

__all__ = [
    "DEFAULT_LIMIT",
    "LONE_PAYLOAD",
    "MAX_PAYLOAD",
    "FrameDecoder",
    "encode_frame",
]

MAX_PAYLOAD = 12_228
"""Bytes of the longest payload that a real server can receive."""

LONE_PAYLOAD = 4_000
"""Bytes above which a payload must not be followed by anything until it was answered."""

DEFAULT_LIMIT = 1 << 20
"""Bytes of the longest payload that a decoder accepts unless told otherwise."""

_PREFIX_DIGITS = 20


def encode_frame(payload: bytes, limit: int | None = MAX_PAYLOAD) -> bytes:
    """Put the length in front of a payload.

    :param limit: bytes that the receiver can take; None for no limit.
    :raises FrameTooLarge: when the payload is longer.
    """
    size = len(payload)
    if limit is not None and size > limit:
        raise FrameTooLarge(size, limit)
    return b"%d#%b" % (size, payload)


_TLS = (b"\x15\x03", b"\x16\x03")
"""How an alert and a handshake begin."""


class FrameDecoder:
    """Cuts a byte stream into payloads, however TCP happened to slice it.

    It takes time linear in the bytes fed: the pieces of a long payload are kept and joined once.
    A malformed prefix is final. The payloads in front of it are still returned, :attr:`error` is
    set, and whatever is fed afterwards is ignored: a stream that lost its framing cannot be found
    back into.

    :param limit: bytes of the longest payload to accept.
    :param max_digits: digits of the longest length to accept. A real server takes five.
    """

    __slots__ = ("_head", "_missing", "_pieces", "_size", "error", "limit", "max_digits")

    def __init__(self, limit: int = DEFAULT_LIMIT, max_digits: int = _PREFIX_DIGITS) -> None:
        self.limit = limit
        self.max_digits = max_digits
        self.error: FrameError | None = None
        self._head = b""  # an incomplete length
        self._pieces: list[bytes] = []  # an incomplete payload ...
        self._missing = 0  # ... the bytes it lacks ...
        self._size = 0  # ... and those it will have

    @property
    def announced(self) -> int:
        """Bytes that the payload will have that is not complete; 0 when there is none."""
        return self._size if self._missing else 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they were read; return the payloads that they complete.

        Empty frames (``0#``) are ignored, as a real server does.
        """
        frames: list[bytes] = []
        at = 0
        if self._missing:
            size = len(data)
            if size < self._missing:
                self._pieces.append(data)
                self._missing -= size
                return frames
            at = self._missing
            self._pieces.append(data[:at])
            frames.append(b"".join(self._pieces))
            self._pieces = []
            self._missing = 0
        elif self._head:
            data = self._head + data
            self._head = b""
        if self.error is not None:
            return frames
        size = len(data)
        reach = self.max_digits + 1
        while at < size:
            mark = data.find(b"#", at, at + reach)
            if mark < 0:
                rest = data[at : at + reach]
                if len(rest) < reach and rest.isdigit():
                    self._head = rest
                else:
                    self._fail(rest)
                break
            digits = data[at:mark]
            if not digits.isdigit():
                self._fail(data[at : mark + 1])
                break
            length = int(digits)
            start = mark + 1
            at = start + length
            if length > self.limit:
                self.error = FrameError(f"a frame of {length} bytes is over {self.limit}")
                break
            if at <= size:
                if length:
                    frames.append(data[start:at])
            else:
                self._pieces = [data[start:]]
                self._missing = at - size
                self._size = length
                break
        return frames

    def _fail(self, prefix: bytes) -> None:
        text = f"not a frame length: {prefix!r}"
        if prefix[:2] in _TLS:
            text = "the peer speaks TLS, and this connection is plain TCP (tls: in place of tcp:?)"
        self.error = FrameError(text)
