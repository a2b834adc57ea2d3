"""SIP over a byte stream: messages and keep-alives out of TCP or TLS.

RFC 3261 section 18.3 makes Content-Length the only thing that separates messages, so a message
without a usable one, or a head that does not end, leaves nothing to continue with: the parser stops
for good and the connection has to be closed. A message whose end is known but that must not be
processed comes out as :class:`Malformed`, and the stream goes on.

What comes out does not depend on how the stream was cut. For that reason a single CRLF between
messages, which RFC 5626 uses as pong, is swallowed: only with the next octet is it certain that it
was not half a ping. Each octet is looked at a bounded number of times.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Union

from drachtwist.errors import MessageError
from drachtwist.sip.fields import parse_integer
from drachtwist.sip.headers import Headers
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import check_head, parse_message

__all__ = ["KeepAlive", "Malformed", "StreamEvent", "StreamParser"]

_HEAD_END = b"\r\n\r\n"
# Many pings are looked at together: somebody may send nothing else.
_PINGS = re.compile(b"(?:\r\n\r\n)+")


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """A ping, CRLF CRLF, which is answered with CRLF (RFC 5626 section 3.5.1)."""


@dataclass(frozen=True, slots=True)
class Malformed:
    """A message that must not be processed."""

    raw: bytes
    error: MessageError
    """What is wrong; its ``status`` is that of the response due, if this was a request."""
    message: Request | Response | None
    """A lenient reading to answer from, None when even the start line cannot be read."""


_KEEP_ALIVE = KeepAlive()

StreamEvent = Union[Request, Response, KeepAlive, Malformed]  # noqa: UP007 - Python 3.10
"""What comes out of a stream."""


class StreamParser:
    """Cuts a byte stream into messages.

    :param limit: octets that a message may have, head and body together.
    """

    __slots__ = ("_body_size", "_buffer", "_error", "_head_size", "_limit", "_searched")

    def __init__(self, limit: int = 1 << 20) -> None:
        self._limit = limit
        self._buffer = bytearray()
        # How far the end of the head was searched for; the size of head and body once known.
        self._searched = 0
        self._head_size = 0
        self._body_size = 0
        self._error: MessageError | None = None

    @property
    def error(self) -> MessageError | None:
        """Why nothing comes out any more; the connection should be closed."""
        return self._error

    @property
    def pending(self) -> int:
        """Octets of a message that is not complete yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Take in octets.

        After a fatal error the list ends with a :class:`Malformed`, :attr:`error` is set, and
        whatever else is fed is thrown away.

        :returns: what is complete now.
        """
        events: list[StreamEvent] = []
        if self._error is not None:
            return events
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while at < len(buffer):
                if not self._head_size:
                    if buffer[at] in b"\r\n":
                        skipped = self._between(at, events)
                        if skipped == 0:
                            break
                        at += skipped
                        continue
                    if not self._find_head(at):
                        break
                size = self._head_size + self._body_size
                if len(buffer) - at < size:
                    break
                events.append(self._message(bytes(buffer[at : at + size])))
                at += size
                self._searched = self._head_size = self._body_size = 0
        except MessageError as error:
            self._error = error
            events.append(self._fatal(bytes(buffer[at:]), error))
            at = len(buffer)
        if at:
            del buffer[:at]
        return events

    def _between(self, at: int, events: list[StreamEvent]) -> int:
        """Take line ends between messages; say how many octets, 0 when more are needed."""
        buffer = self._buffer
        pings = _PINGS.match(buffer, at)
        if pings is not None:
            size = pings.end() - at
            events += [_KEEP_ALIVE] * (size // 4)
            return size
        if _HEAD_END.startswith(buffer[at : at + 4]):
            return 0
        return 1 if buffer[at] == 0x0A or buffer[at + 1] != 0x0A else 2

    def _find_head(self, at: int) -> bool:
        """Look for the end of the head that starts at ``at``, and for the size of its body."""
        buffer = self._buffer
        end = buffer.find(_HEAD_END, at + max(0, self._searched - 3), at + self._limit)
        if end < 0:
            self._searched = len(buffer) - at
            if self._searched >= self._limit:
                raise MessageError(f"a head of more than {self._limit} octets", 513)
            return False
        head_size = end + 4 - at
        headers = Headers.from_bytes(bytes(buffer[at : at + head_size]))
        lengths = headers.get_all("Content-Length")
        if len(lengths) != 1:
            raise MessageError(f"{len(lengths)} Content-Length headers on a stream")
        body_size = parse_integer(lengths[0])
        if head_size + body_size > self._limit:
            raise MessageError(f"a message of more than {self._limit} octets", 513)
        self._head_size, self._body_size = head_size, body_size
        return True

    def _message(self, raw: bytes) -> StreamEvent:
        message: Request | Response | None = None
        try:
            message = parse_message(raw)
            check_head(message, raw[: self._head_size])
        except MessageError as error:
            return Malformed(raw, error, message)
        return message

    def _fatal(self, raw: bytes, error: MessageError) -> Malformed:
        end = raw.find(_HEAD_END, 0, self._limit)
        raw = raw[: end + 4] if end >= 0 else raw[: self._limit]
        try:
            message = parse_message(raw)
        except MessageError:
            return Malformed(raw, error, None)
        return Malformed(raw, error, message)
