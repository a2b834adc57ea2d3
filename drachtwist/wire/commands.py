"""The messages of the drachtio protocol, in both directions, as values.

An application sends *commands*: :class:`Authenticate`, :class:`AddRoute`, :class:`RemoveRoute`,
:class:`Ping`, :class:`SendMessage` and :class:`Proxy`. A server sends *events*: :class:`Delivery`
(a SIP message), :class:`Answer` (to a command) and :class:`Cdr`. Both ends share this module: what
one formats the other parses. A payload is a first line of tokens separated by ``|``, and for some
kinds CRLF and a SIP message behind it.

A line that cannot be understood becomes :class:`Malformed`. Missing tokens count as empty, because
older servers send fewer of them. Text passes unchanged in both directions: bytes that are not UTF-8
survive as surrogates.

:class:`Delivery` and :class:`Answer` are made for every message of every call. They keep the split
line and look into it when asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NewType, Union

from drachtwist.errors import LocalProtocolError
from drachtwist.sip.grammar import decimal
from drachtwist.wire.reports import (
    ADDRESS,
    CONTINUE,
    DIALOG_ID,
    DONE,
    LOCAL_ADDRESS,
    LOCAL_PORT,
    PORT,
    PROTOCOL,
    SESSION_TOKEN,
    SIZE,
    SOURCE,
    TIME,
    TRANSACTION_ID,
    delivery,
)

__all__ = [
    "AddRoute",
    "Answer",
    "Authenticate",
    "Cdr",
    "Command",
    "Delivery",
    "DialogId",
    "Event",
    "Malformed",
    "MessageId",
    "Ping",
    "Proxy",
    "RemoveRoute",
    "SendMessage",
    "TransactionId",
    "check_tags",
    "parse_command",
    "parse_event",
]

MessageId = NewType("MessageId", str)
"""Names a command, so that its answers can be found; any text without ``|``."""

TransactionId = NewType("TransactionId", str)
"""The server's name of a SIP transaction."""

DialogId = NewType("DialogId", str)
"""The server's name of a dialog: opaque, although it looks like ``<Call-ID>;from-tag=<tag>``."""

UNSOLICITED = TransactionId("unsolicited")
"""The transaction id of requests that the server made itself; they cannot be answered."""

_LINE_BREAKERS = re.compile(r"[|\r\n\0]")
_TAG = re.compile(r"[a-zA-Z0-9\-_+@:]{1,32}")
_MAX_TAGS = 20


def check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return the tags of a connection as a tuple.

    :param tags: at most 20, each of 1 to 32 characters out of ``[a-zA-Z0-9-_+@:]``.
    :raises LocalProtocolError: when they are not.
    """
    if isinstance(tags, str):
        raise LocalProtocolError(f"tags are a list of texts, not the text {tags!r}")
    if isinstance(tags, Mapping):
        raise LocalProtocolError(f"tags are a list of texts, not {tags!r}")
    if len(tags) > _MAX_TAGS:
        raise LocalProtocolError(f"{len(tags)} tags, over the {_MAX_TAGS} that are allowed")
    for tag in tags:
        if not isinstance(tag, str) or _TAG.fullmatch(tag) is None:
            raise LocalProtocolError(
                f"not a tag: {tag!r} (1 to 32 characters out of a-z A-Z 0-9 - _ + @ :)"
            )
    return tuple(tags)


def _token(text: str) -> str:
    if _LINE_BREAKERS.search(text):
        raise LocalProtocolError(f"'|', line break or NUL in {text!r}")
    return text


def _encode(line: str) -> bytes:
    return line.encode("utf-8", "surrogateescape")


# Application to server


@dataclass(frozen=True, slots=True)
class Authenticate:
    """``authenticate``: show the secret, and say which tags this application has."""

    secret: str
    tags: tuple[str, ...] = ()

    def __bytes__(self) -> bytes:
        return _encode(f"authenticate|{_token(self.secret)}|{','.join(map(_token, self.tags))}")

    def __repr__(self) -> str:
        return f"Authenticate(secret=<hidden>, tags={self.tags!r})"


@dataclass(frozen=True, slots=True)
class AddRoute:
    """``route``: ask for new requests of a method, or for CDRs."""

    verb: str
    """A method in lower case, or ``cdr:attempt``, ``cdr:start``, ``cdr:stop``."""

    def __bytes__(self) -> bytes:
        return _encode(f"route|{_token(self.verb)}")


@dataclass(frozen=True, slots=True)
class RemoveRoute:
    """``remove_route``: a real server then forgets **all** routes of the connection."""

    verb: str = ""

    def __bytes__(self) -> bytes:
        return _encode(f"remove_route|{_token(self.verb)}")


@dataclass(frozen=True, slots=True)
class Ping:
    """``ping``: is anybody there?"""

    def __bytes__(self) -> bytes:
        return b"ping"


@dataclass(frozen=True, slots=True)
class SendMessage:
    """``sip``: send a SIP message.

    Which of the ids are given says what it is: a transaction id for a response, and for the CANCEL
    of an INVITE; a dialog id for a request in a dialog; neither for a new request.
    """

    message: bytes
    transaction_id: TransactionId = TransactionId("")
    dialog_id: DialogId = DialogId("")
    route: str = ""
    """A SIP URI to send a new request to, instead of to its Request-URI."""

    def __bytes__(self) -> bytes:
        line = f"sip|{_token(self.transaction_id)}|{_token(self.dialog_id)}"
        if self.route:
            line += f"|{_token(self.route)}"
        return b"%b\r\n%b" % (_encode(line), self.message)


@dataclass(frozen=True, slots=True)
class Proxy:
    """``proxy``: let the server forward a request that nobody answered yet."""

    transaction_id: TransactionId
    destinations: tuple[str, ...]
    record_route: bool = False
    full_response: bool = True
    follow_redirects: bool = False
    simultaneous: bool = False
    provisional_timeout: str = ""
    """``"1500ms"`` or ``"2s"``; empty for none."""
    final_timeout: str = ""
    message: bytes = b""
    """A start line, whose contents do not matter, and headers to add."""

    def __bytes__(self) -> bytes:
        tokens = [
            "proxy",
            self.transaction_id,
            "remainInDialog" if self.record_route else "",
            "fullResponse" if self.full_response else "",
            "followRedirects" if self.follow_redirects else "",
            "simultaneous" if self.simultaneous else "serial",
            self.provisional_timeout,
            self.final_timeout,
            *self.destinations,
        ]
        line = _encode("|".join(map(_token, tokens)))
        return b"%b\r\n%b" % (line, self.message) if self.message else line


@dataclass(frozen=True, slots=True)
class Malformed:
    """A frame that means nothing: what was read, and what is wrong with it."""

    payload: bytes
    problem: str


Command = Union[  # noqa: UP007 - evaluated on Python 3.10
    Authenticate, AddRoute, RemoveRoute, Ping, SendMessage, Proxy, Malformed
]
"""What an application may send."""


def parse_command(payload: bytes) -> tuple[MessageId, Command]:
    """Read a frame that an application sent.

    :returns: its message id, empty when it has none, and the command.
    """
    line, _, message = payload.partition(b"\r\n")
    tokens = line.decode("utf-8", "surrogateescape").split("|")
    message_id = MessageId(tokens[0])
    if len(tokens) < 2:
        return message_id, Malformed(payload, "Invalid message format")
    kind = tokens[1]
    size = len(tokens)
    if kind == "sip":
        if size < 4:
            return message_id, Malformed(payload, "Invalid message format")
        return message_id, SendMessage(
            message,
            TransactionId(tokens[2]),
            DialogId(tokens[3]),
            tokens[4] if size > 4 else "",
        )
    if kind == "ping":
        return message_id, Ping()
    if kind == "authenticate":
        if size < 3:
            return message_id, Malformed(payload, "incorrect secret")
        tags = tuple(tokens[3].split(",")) if size > 3 and tokens[3] else ()
        return message_id, Authenticate(tokens[2], tags)
    if kind == "route":
        if size < 3:
            return message_id, Malformed(payload, "Invalid message format")
        return message_id, AddRoute(tokens[2])
    if kind == "remove_route":
        return message_id, RemoveRoute(tokens[2] if size > 2 else "")
    if kind == "proxy":
        if size < 9:
            return message_id, Malformed(
                payload, "Invalid proxy request: not enough information provided"
            )
        return message_id, Proxy(
            TransactionId(tokens[2]),
            tuple(tokens[9:]),
            tokens[3] == "remainInDialog",
            tokens[4] == "fullResponse",
            tokens[5] == "followRedirects",
            tokens[6] == "simultaneous",
            tokens[7],
            tokens[8],
            message,
        )
    return message_id, Malformed(payload, "Unknown message type")


# Server to application


class Delivery:
    """A SIP message that the server hands to the application.

    :param tokens: the first line, split; tokens 0 and 1 are the frame's id and ``sip``.
    :param raw: the SIP message.
    """

    __slots__ = ("raw", "tokens")

    def __init__(self, tokens: Sequence[str], raw: bytes) -> None:
        self.tokens = tokens
        self.raw = raw

    @classmethod
    def make(
        cls,
        frame_id: str,
        source: str,
        size: int,
        protocol: str,
        address: str,
        port: int,
        time: str,
        transaction_id: str,
        dialog_id: str,
        raw: bytes,
        received_on: tuple[str, int] | None = None,
    ) -> Delivery:
        """Build one, as a server does. ``received_on`` belongs on new requests only."""
        came_to = "" if received_on is None else f"{received_on[0]}|{received_on[1]}|"
        written = delivery(
            frame_id,
            source,
            size,
            protocol,
            address,
            port,
            time,
            transaction_id,
            dialog_id,
            b"",
            came_to,
        )
        line = written.removesuffix(b"\r\n")
        return cls(line.decode("utf-8", "surrogateescape").split("|"), raw)

    def _at(self, index: int) -> str:
        tokens = self.tokens
        return tokens[index] if index < len(tokens) else ""

    @property
    def source(self) -> str:
        """``network``, or ``application`` for requests that the server made itself."""
        return self._at(SOURCE)

    @property
    def size(self) -> int:
        """Bytes of the message on the wire, not of :attr:`raw`; 0 when the server made it up."""
        return _number(self._at(SIZE))

    @property
    def protocol(self) -> str:
        """``udp``, ``tcp``, ``tls``, ``unknown``, or empty (every ACK)."""
        return self._at(PROTOCOL)

    @property
    def address(self) -> str:
        """The peer's address, or empty."""
        return self._at(ADDRESS)

    @property
    def port(self) -> int:
        """The peer's port, or 0."""
        return _number(self._at(PORT))

    @property
    def time(self) -> str:
        """``HH:MM:SS.uuuuuu``, UTC."""
        return self._at(TIME)

    @property
    def transaction_id(self) -> TransactionId:
        """The transaction that the message belongs to."""
        return TransactionId(self._at(TRANSACTION_ID))

    @property
    def dialog_id(self) -> DialogId:
        """The dialog that the message belongs to, or empty."""
        return DialogId(self._at(DIALOG_ID))

    @property
    def received_on(self) -> str:
        """``host:port`` where a new request arrived, otherwise empty."""
        tokens = self.tokens
        return f"{tokens[LOCAL_ADDRESS]}:{self._at(LOCAL_PORT)}" if self._at(LOCAL_ADDRESS) else ""

    @property
    def session_token(self) -> str:
        """What older servers sent as the last token."""
        return self._at(SESSION_TOKEN)

    def __bytes__(self) -> bytes:
        return b"%b\r\n%b" % (_encode("|".join(self.tokens)), self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delivery) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Delivery {'|'.join(self.tokens[2:])} {self.raw[:40]!r}>"


class Answer:
    """The server's answer to a command.

    :param tokens: the first line, split; token 2 is the command's message id, token 3 the verdict.
    :param raw: the SIP message as it was sent (or received, while proxying), or nothing.
    """

    __slots__ = ("ok", "raw", "tokens")

    ok: bool
    """Whether the command was carried out."""

    def __init__(self, tokens: Sequence[str], raw: bytes = b"") -> None:
        self.tokens = tokens
        self.raw = raw
        try:
            self.ok = tokens[3] == "OK"
        except IndexError:
            self.ok = False

    def _at(self, index: int) -> str:
        tokens = self.tokens
        return tokens[index] if index < len(tokens) else ""

    @property
    def message_id(self) -> MessageId:
        """Whose answer it is."""
        return MessageId(self._at(2))

    @property
    def verdict(self) -> str:
        """``OK``; ``NOK``: refused; ``NO``: refused, and the server closes the connection."""
        return self._at(3)

    @property
    def text(self) -> str:
        """What stands behind the verdict: the reason of a refusal, ``pong``, ``done``."""
        return "|".join(self.tokens[4:])

    @property
    def is_of_nothing(self) -> bool:
        """Whether it refuses what is about a transaction that the server does not know any more."""
        return not self.ok and "unknown transaction" in self.text

    @property
    def is_continue(self) -> bool:
        """One more response of a proxied request; more answers follow."""
        return self._at(12) == CONTINUE

    @property
    def is_done(self) -> bool:
        """The last answer to a proxy command."""
        return self._at(4) == DONE

    @property
    def size(self) -> int:
        """Bytes of the message on the wire; 0 when it has not left yet."""
        return _number(self._at(5))

    @property
    def protocol(self) -> str:
        """``udp``, ``tcp``, ``tls``, ``unknown`` or empty."""
        return self._at(6)

    @property
    def address(self) -> str:
        """An address of the transport: local over udp, otherwise the peer's."""
        return self._at(7)

    @property
    def port(self) -> int:
        """The port that belongs to :attr:`address`."""
        return _number(self._at(8))

    @property
    def time(self) -> str:
        """``HH:MM:SS.uuuuuu``, UTC."""
        return self._at(9)

    @property
    def origin(self) -> tuple[str, str, int, str]:
        """:attr:`protocol`, :attr:`address`, :attr:`port` and :attr:`time` at once."""
        tokens = self.tokens
        if len(tokens) < 10:
            return self.protocol, self.address, self.port, self.time
        return tokens[6], tokens[7], _number(tokens[8]), tokens[9]

    @property
    def transaction_id(self) -> TransactionId:
        """The transaction of the message that was sent."""
        tokens = self.tokens
        return tokens[10] if len(tokens) > 10 else ""  # type: ignore[return-value]

    @property
    def dialog_id(self) -> DialogId:
        """The dialog of a response that was sent, or empty."""
        # Requests have "Msg sent:" in this place; responses have it two tokens later.
        return DialogId(self._at(11) if len(self.tokens) > 13 else "")

    def __bytes__(self) -> bytes:
        line = _encode("|".join(self.tokens))
        return b"%b\r\n%b" % (line, self.raw) if self.raw else line

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Answer) and bytes(self) == bytes(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<Answer {'|'.join(self.tokens[2:])} {self.raw[:40]!r}>"


@dataclass(frozen=True, slots=True)
class Cdr:
    """A call detail record."""

    event: str
    """``attempt``, ``start`` or ``stop``."""
    source: str
    """``network`` or ``application``."""
    time: str
    detail: str
    """The role on ``start`` (``uas``, ``uac``, ``proxy-uas``, ``proxy-uac``), the reason on
    ``stop`` (``normal-release``, ``call-rejected``, ...), empty on ``attempt``."""
    message: bytes
    frame_id: str = ""

    def __bytes__(self) -> bytes:
        line = f"{self.frame_id}|cdr:{self.event}|{self.source}|{self.time}"
        if self.detail:
            line += f"|{self.detail}"
        return b"%b\r\n%b" % (_encode(line), self.message)


Event = Union[Delivery, Answer, Cdr, Malformed]  # noqa: UP007 - evaluated on Python 3.10
"""What a server may send."""


def parse_event(payload: bytes) -> Event:
    """Read a frame that a server sent."""
    line, _, raw = payload.partition(b"\r\n")
    tokens = line.decode("utf-8", "surrogateescape").split("|")
    size = len(tokens)
    if size > 3:
        kind = tokens[1]
        if kind == "response":
            return Answer(tokens, raw)
        if kind == "sip":
            if size > 8 and raw:
                return Delivery(tokens, raw)
            return Malformed(payload, "a delivery without transaction or message")
        if kind.startswith("cdr:"):
            detail = tokens[4] if size > 4 else ""
            return Cdr(kind[4:], tokens[2], tokens[3], detail, raw, tokens[0])
    return Malformed(payload, "neither sip, response nor cdr")


def _number(text: str) -> int:
    """Read a decimal number; what is none counts as 0."""
    return decimal(text.strip(), 10**9 - 1) or 0
