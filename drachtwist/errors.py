"""Every exception that drachtwist raises, and every failure that its Deferreds carry.

::

    DrachtwistError
    +-- LocalProtocolError        the caller's slip: nothing was sent
    |   +-- FrameTooLarge         a command that the server could not receive
    |   +-- ConfigError           a configuration file that cannot be used
    +-- RemoteProtocolError       the peer's fault
    |   +-- FrameError            bytes that are no frame
    |   +-- MessageError          text that is no SIP message, or a header that has no valid value
    |   |   +-- SdpError          a line of a session description that cannot be read
    |   +-- CommandRefused        the server's NOK or NO to a command
    +-- ConnectionFailed
    |   +-- AuthenticationError   the server refused the secret
    |   +-- ConnectionLost        the link went away while something was pending on it
    +-- SipError                  a final response that is a failure
    +-- StartFailed               what the application needs could not be opened
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = [
    "AuthenticationError",
    "CommandRefused",
    "ConfigError",
    "ConnectionFailed",
    "ConnectionLost",
    "DrachtwistError",
    "FrameError",
    "FrameTooLarge",
    "LocalProtocolError",
    "MessageError",
    "RemoteProtocolError",
    "SdpError",
    "SipError",
    "StartFailed",
]

SHOWN = 300
"""Characters of a text that are shown at most, in an error or a line of the log."""


def shorten(text: str) -> str:
    """Leave out the middle of a text that is longer than :data:`SHOWN`, and say how much that is.

    What stands around a value that a peer wrote is mostly at the start or at the end.
    """
    if len(text) <= SHOWN:
        return text
    note = f" ...{len(text) - SHOWN} more characters... "
    ends = SHOWN - len(note)
    return f"{text[: ends * 2 // 3]}{note}{text[-(ends - ends * 2 // 3) :]}"


class DrachtwistError(Exception):
    """The root of all errors of this package.

    What it says has at most :data:`SHOWN` characters, however long a value is that it quotes.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*[shorten(one) if isinstance(one, str) else one for one in args])


class StartFailed(DrachtwistError):
    """Something that an application opens before it serves has failed.

    The text says what, and ``__cause__`` is the failure itself.
    """


class LocalProtocolError(DrachtwistError, ValueError):
    """The caller asked for something that must not be sent; nothing was sent."""


class FrameTooLarge(LocalProtocolError):
    """A command longer than the server can receive (protocol.md 1.3).

    :param size: bytes of the payload.
    :param limit: bytes that are allowed.
    """

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"a frame of {size} bytes is over the limit of {limit}")
        self.size = size
        self.limit = limit


class ConfigError(LocalProtocolError):
    """A configuration file that cannot be read or understood.

    :param problem: what is wrong.
    :param line: the line that it stands on.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem if line is None else f"{problem} (line {line})")
        self.problem = problem
        self.line = line


class RemoteProtocolError(DrachtwistError):
    """The peer broke the protocol, or refused what it was asked."""


class FrameError(RemoteProtocolError):
    """Bytes that do not start with a valid frame length, or a frame over the limit."""


class MessageError(RemoteProtocolError, ValueError):
    """Text that cannot be read as a SIP message, header value or URI.

    :param text: what is wrong.
    :param status: the response that RFC 3261 wants for it (400 unless something fits better).
    :param header: the header that is bad, if it is one.
    """

    def __init__(self, text: str, status: int = 400, header: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.header = header

    @property
    def phrase(self) -> str | None:
        """The phrase of a 400 that names the header; None for the usual one."""
        return None if self.header is None else f"Bad {self.header} Header"


class SdpError(MessageError):
    """A line of a session description cannot be read.

    :param text: what is wrong.
    :param line: the number of the line, from 1; None when it is missing.
    """

    def __init__(self, text: str, line: int | None = None) -> None:
        super().__init__(text if line is None else f"line {line}: {text}")
        self.text = text
        self.line = line


class CommandRefused(RemoteProtocolError):
    """The server answered a command with ``NOK`` (the connection stays) or ``NO`` (it closes).

    :param text: the server's own words (protocol.md 4.5).
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class ConnectionFailed(DrachtwistError):
    """A connection could not be made, authenticated or kept."""


class AuthenticationError(ConnectionFailed):
    """The server refused our secret (protocol.md 2.1)."""


class ConnectionLost(ConnectionFailed):
    """The link to the server went away before what was asked could be answered."""


class FailedResponse(Protocol):
    """What :attr:`SipError.response` offers: a :class:`drachtwist.sip.Response`, or part of one.

    It is spelt out here since errors know nothing of what is built on them.
    """

    @property
    def status(self) -> int:
        """The status code."""
        ...

    @property
    def reason(self) -> str:
        """The reason phrase."""
        ...

    @property
    def contacts(self) -> list[Any]:
        """The Contacts: where a redirect leads, as :class:`drachtwist.sip.Address`."""
        ...

    @property
    def body(self) -> bytes:
        """The body."""
        ...

    @property
    def text(self) -> str:
        """The body as text."""
        ...

    def get(self, name: str) -> str | None:
        """Return the first value of a header; None when it is not there."""
        ...

    def get_all(self, name: str) -> list[str]:
        """Return the value of each line of a header."""
        ...

    def has(self, name: str) -> bool:
        """Say whether a header is there."""
        ...

    def get_parsed_header(self, name: str) -> Any:
        """Return the typed view of a header; None when it is not there."""
        ...


class SipError(DrachtwistError):
    """A request ended with a final response that is not a success.

    :param status: the status code, 300 to 699.
    :param reason: the reason phrase.
    :param response: the response itself, if one was received.
    """

    def __init__(
        self, status: int, reason: str = "", response: FailedResponse | None = None
    ) -> None:
        super().__init__(f"{status} {reason}".rstrip())
        self.status = status
        self.reason = reason
        self.response = response
