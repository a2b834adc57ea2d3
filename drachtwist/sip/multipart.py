"""Multipart bodies, both ways (RFC 2046 section 5.1, RFC 5621)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from drachtwist.errors import LocalProtocolError, MessageError
from drachtwist.sip.fields import MediaType, Valued
from drachtwist.sip.headers import Headers, HeadersLike

__all__ = ["Part", "decode", "encode", "inner_parts"]

_DEPTH = 4
"""How deep parts in parts are looked into."""

_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_BOUNDARY = re.compile(r"[A-Za-z0-9'()+_,\-./:=? ]{0,69}[A-Za-z0-9'()+_,\-./:=?]").fullmatch


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a multipart body."""

    headers: Headers
    body: bytes
    # Whether a blank line stands between the two, or in front of the body.
    _apart: bool = field(init=False, default=True, repr=False, compare=False)

    @classmethod
    def make(
        cls,
        content_type: str,
        body: bytes | str,
        headers: HeadersLike = None,
        disposition: str = "",
    ) -> Part:
        """Make a part to send.

        :param content_type: the media type of the part.
        :param disposition: the Content-Disposition, none if empty.
        :raises LocalProtocolError: for headers with CR, LF or NUL.
        """
        all_headers = Headers({"Content-Type": content_type})
        if disposition:
            all_headers.add("Content-Disposition", disposition)
        for name, value in Headers(headers).items():
            all_headers.add(name, value)
        if isinstance(body, str):
            body = body.encode("utf-8", "surrogateescape")
        return cls(all_headers, body)

    @property
    def content_type(self) -> MediaType:
        """The media type; ``text/plain`` when the part does not say (RFC 2046 section 5.2).

        :raises MessageError: when what it says is no media type.
        """
        text = self.headers.get("Content-Type")
        return MediaType("text/plain") if text is None else MediaType.parse(text)

    @property
    def disposition(self) -> Valued | None:
        """The Content-Disposition.

        :raises MessageError: when it cannot be read.
        """
        text = self.headers.get("Content-Disposition")
        return None if text is None else Valued.parse(text)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "surrogateescape")


def decode(body: bytes, boundary: str) -> list[Part]:
    """Take a multipart body apart.

    Preamble and epilogue are dropped, as they mean nothing. The last boundary may lack its dashes,
    or be missing: what is there is there.

    :param boundary: the ``boundary`` parameter of the Content-Type.
    :raises MessageError: when the boundary is not found.
    """
    delimiter = re.compile(
        rb"(?:\A|\r?\n)--%b(--)?[ \t]*(?:\r?\n|\Z)"
        % re.escape(boundary.encode("utf-8", "surrogateescape"))
    )
    found = delimiter.search(body)
    if found is None or not boundary:
        raise MessageError("no multipart boundary in the body")
    parts: list[Part] = []
    while found[1] is None:
        start = found.end()
        # Step back to the line end, which also starts the next delimiter if the part is empty.
        following = delimiter.search(body, start - 1 if body[start - 1 : start] == b"\n" else start)
        if following is None:
            if body[start:].strip():
                parts.append(_part(body[start:]))
            break
        parts.append(_part(body[start : max(start, following.start())]))
        found = following
    return parts


def inner_parts(parts: Iterable[Part], depth: int = _DEPTH) -> Iterator[Part]:
    """Yield parts one after the other, those of multipart ones in their places.

    A multipart one that cannot be taken apart, or that lies too deep, is given as it is.

    :param depth: how deep to look.
    """
    for part in parts:
        try:
            kind = part.content_type
            if kind.type == "multipart" and kind.boundary is not None and depth:
                yield from inner_parts(decode(part.body, kind.boundary), depth - 1)
                continue
        except MessageError:
            pass
        yield part


def _part(data: bytes) -> Part:
    """Split a part into headers and body; it may lack either, or both, and the line between."""
    if data[:2] == b"\r\n":
        return Part(Headers(), data[2:])
    if data[:1] == b"\n":
        return Part(Headers(), data[1:])
    for blank in (b"\r\n\r\n", b"\n\n"):
        at = data.find(blank)
        if at >= 0:
            break
    else:
        at, blank = len(data), b""
    if not blank:
        part = Part(Headers(), data)
        if _FIELD.match(data) is not None:
            part = Part(Headers.from_bytes(b"\r\n" + data), b"")
        object.__setattr__(part, "_apart", False)
        return part
    # Headers skips a start line, so give it one.
    return Part(Headers.from_bytes(b"\r\n%b%b" % (data[:at], blank)), data[at + len(blank) :])


def encode(parts: Iterable[Part], boundary: str | None = None) -> tuple[str, bytes]:
    """Put parts together.

    :param boundary: what to separate them with; random unless given.
    :returns: the boundary, and the body.
    :raises LocalProtocolError: for a boundary that is not allowed or that occurs in a part.
    """
    parts = list(parts)
    if not parts:
        raise LocalProtocolError("a multipart body needs a part")
    if boundary is None:
        boundary = secrets.token_hex(16)
    elif _BOUNDARY(boundary) is None:
        raise LocalProtocolError(f"not a multipart boundary: {boundary!r}")
    mark = b"--%b" % boundary.encode("ascii")
    chunks: list[bytes] = []
    for part in parts:
        if mark in part.body:
            raise LocalProtocolError(f"the boundary {boundary!r} occurs in a part")
        head = "\r\n".join(part.headers.lines()).encode("utf-8", "surrogateescape")
        chunks.append(b"%b\r\n%b\r\n\r\n%b\r\n" % (mark, head, part.body))
        if not part._apart and not (head and part.body):
            chunks[-1] = b"%b\r\n%b%b\r\n" % (mark, head, part.body)
        elif not head:
            chunks[-1] = b"%b\r\n\r\n%b\r\n" % (mark, part.body)
    chunks.append(mark + b"--\r\n")
    return boundary, b"".join(chunks)
