"""Both ends of a drachtio connection as state machines, without any I/O.

Bytes that were read go into ``receive``, which returns what happened; bytes to be written come out
of ``data_to_send``; ``tick`` is to be called at ``deadline``. An :class:`ApplicationSession` is the
application's end, whoever opened the connection; a :class:`ServerSession` the server's.

What an application's session sees to:

*Authentication* comes first. Commands may be given before it succeeded; they wait for it.

*Routes* are sent after every authentication, each verb once: a server that gets one twice gives
this connection two turns per round. ``remove_route`` makes a real server forget all routes of a
connection, whichever verb it names, so the remaining ones are sent again behind it.

*Answers* are matched by message id only; they may come in any order. Each command has a waiter,
which this module hands back with the answer and never looks into. The responses of a proxied
request (``continue``) leave their waiter in place.

*Long frames.* A real server may overwrite an unfinished frame of more than about 4,000 bytes with
the bytes behind it. So a long frame leaves only when the server has certainly read all that was
sent before, and nothing follows it until its answer came. Waiting for the answers of all earlier
commands would be simpler, but a proxy command may stay without one for ever; so a ping is sent as
a fence: frames are read in order, and its pong proves that those before it were read.

*Pings* are sent when the link was idle for an interval. A pong that does not come in time, or
anything else that keeps a due ping from leaving, means that the link is dead.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from hmac import compare_digest
from typing import Any, Union

from drachtwist.errors import (
    AuthenticationError,
    ConnectionLost,
    FrameError,
    FrameTooLarge,
    LocalProtocolError,
    RemoteProtocolError,
)
from drachtwist.wire.commands import (
    AddRoute,
    Answer,
    Authenticate,
    Cdr,
    Command,
    Delivery,
    Malformed,
    MessageId,
    Ping,
    RemoveRoute,
    check_tags,
    parse_command,
    parse_event,
)
from drachtwist.wire.frames import (
    DEFAULT_LIMIT,
    LONE_PAYLOAD,
    MAX_PAYLOAD,
    FrameDecoder,
)

__all__ = [
    "ApplicationSession",
    "Authenticated",
    "Broken",
    "Commanded",
    "ServerSession",
    "SessionState",
    "Signed",
    "WrongSecret",
    "new_id",
]


_HEX = [f"{number:02x}" for number in range(256)]


def _ids() -> Iterator[str]:
    """Make unique ids of the shape of a UUID, with fresh randomness once per 65,536 of them."""
    while True:
        noise = os.urandom(14).hex()
        prefix = f"{noise[:8]}-{noise[8:12]}-4{noise[13:16]}-a{noise[17:20]}-{noise[20:]}"
        for high in _HEX:
            start = prefix + high
            for low in _HEX:
                yield start + low


new_id = _ids().__next__
"""Return an id of 36 characters that this process has not used before."""


class SessionState(Enum):
    """How far a connection has come."""

    NEW = "new"
    AUTHENTICATING = "authenticating"
    AUTHENTICATED = "authenticated"
    CLOSED = "closed"


# Asked for with every message; up to Python 3.11 a look into an Enum takes a call.
_AUTHENTICATED, _CLOSED = SessionState.AUTHENTICATED, SessionState.CLOSED


# What an application's session reports, besides Delivery and Cdr.


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The server accepted the secret."""

    host_ports: tuple[str, ...]
    """``proto/host:port`` of each SIP transport, as seen from outside."""
    version: str
    """The server's version, empty when it did not say."""
    local_host_ports: tuple[str, ...]
    """The addresses that the transports are bound to."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The connection must be closed: the peer lost its framing, is dead, or refused the secret."""

    error: AuthenticationError | RemoteProtocolError | ConnectionLost


Answered = tuple[Any, Answer]
"""The waiter of a command, and an answer to it."""

SessionEvent = Union[Delivery, Cdr, Malformed, Authenticated, Broken, Answered]  # noqa: UP007

_VERSION = re.compile(r"v?([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})")
_FIRST_WITH_PING = (0, 8, 2)


class _Own(Enum):
    """Waiters of commands that the session sends by itself."""

    AUTHENTICATE = "authenticate"
    ROUTE = "route"
    PING = "ping"
    FENCE = "fence"


class ApplicationSession:
    """The application's end of one connection.

    :param secret: the server's secret.
    :param tags: tags of this application (see :func:`drachtwist.wire.commands.check_tags`).
    :param routes: verbs to route once authenticated.
    :param limit: bytes of the longest frame to accept.
    :param max_payload: bytes of the longest command; None for a server without a limit.
    :param lone_payload: bytes above which a command travels alone; None for never.
    :param ping_interval: seconds of silence after which a ping is sent; None for never.
    :param pong_timeout: seconds that a pong may take before the link counts as dead.
    :raises LocalProtocolError: for bad tags.
    """

    __slots__ = (
        "_can_ping",
        "_deadline",
        "_decoder",
        "_fenced",
        "_lone",
        "_lone_payload",
        "_max_payload",
        "_out",
        "_pending",
        "_ping_interval",
        "_pinged",
        "_pong_timeout",
        "_queue",
        "_routes",
        "_secret",
        "_unrouted",
        "heard",
        "host_ports",
        "local_host_ports",
        "state",
        "tags",
        "version",
    )

    def __init__(
        self,
        secret: str,
        tags: Sequence[str] = (),
        routes: Iterable[str] = (),
        *,
        limit: int = DEFAULT_LIMIT,
        max_payload: int | None = MAX_PAYLOAD,
        lone_payload: int | None = LONE_PAYLOAD,
        ping_interval: float | None = 15.0,
        pong_timeout: float = 10.0,
    ) -> None:
        self._secret = secret
        self.tags = check_tags(tags)
        self._routes = dict.fromkeys(routes)
        self._unrouted = 0  # commands about routes that were not answered
        self._decoder = FrameDecoder(limit)
        self._max_payload = max_payload
        self._lone_payload = 1 << 62 if lone_payload is None else lone_payload
        self._ping_interval = ping_interval
        self._pong_timeout = pong_timeout
        self.state = SessionState.NEW
        self.host_ports: tuple[str, ...] = ()
        self.local_host_ports: tuple[str, ...] = ()
        self.version = ""
        self._pending: dict[str, Any] = {}
        self._out: list[bytes] = []
        self._queue: deque[tuple[str, bytes]] = deque()  # commands that may not leave yet
        self._lone = ""  # id of the long command that is on its way
        self._fenced = False  # a fence is on its way
        self._can_ping = True
        self.heard = 0.0
        """When something was read last."""
        self._pinged: float | None = None  # when the pong that is awaited was asked for
        self._deadline: float | None = None

    # What the shell calls

    def start(self, now: float) -> None:
        """Authenticate, now that the connection is open; the application speaks first."""
        self.state = SessionState.AUTHENTICATING
        self.heard = now
        # An unanswered authentication is as dead a link as an unanswered ping.
        self._pinged = now
        self._set_deadline()
        message_id = new_id()
        self._pending[message_id] = _Own.AUTHENTICATE
        payload = b"%b|%b" % (message_id.encode(), bytes(Authenticate(self._secret, self.tags)))
        self._out.append(b"%d#%b" % (len(payload), payload))

    def receive(self, data: bytes, now: float) -> list[SessionEvent]:
        """Take bytes that were read; return what they mean, in order.

        After :class:`Broken` nothing more comes.
        """
        events: list[SessionEvent] = []
        if self.state is _CLOSED:
            return events
        self.heard = now
        pending = self._pending
        for payload in self._decoder.feed(data):
            line, _, raw = payload.partition(b"\r\n")
            tokens = line.decode("utf-8", "surrogateescape").split("|")
            size = len(tokens)
            if size > 9 and tokens[1] == "sip" and raw:
                events.append(Delivery(tokens, raw))
            elif size > 3 and tokens[1] == "response":
                answer = Answer(tokens, raw)
                message_id = tokens[2]
                if size > 12 and tokens[12] == "continue":
                    waiter = pending.get(message_id)
                else:
                    waiter = pending.pop(message_id, None)
                if message_id == self._lone:
                    self._lone = ""
                    self._pump()
                if type(waiter) is _Own:
                    if not self._own_answer(waiter, answer, now, events):
                        return events
                elif waiter is not None:
                    events.append((waiter, answer))
            else:
                event = parse_event(payload)
                if isinstance(event, (Delivery, Cdr, Malformed)):
                    events.append(event)
        error = self._decoder.error
        if error is not None:
            self.state = _CLOSED
            events.append(Broken(error))
        return events

    def data_to_send(self) -> bytes:
        """Return, once, all bytes that are to be written now."""
        out = self._out
        if not out:
            return b""
        data = b"".join(out) if len(out) > 1 else out[0]
        out.clear()
        return data

    @property
    def deadline(self) -> float | None:
        """When :meth:`tick` wants to be called."""
        return self._deadline

    def tick(self, now: float) -> list[SessionEvent]:
        """Look at the time: send a ping that is due, or give a dead link up."""
        if self.state is _CLOSED or self._deadline is None:
            return []
        if self._pinged is not None:
            # Reckoned as the deadline is: a difference may be less by a rounding, for ever.
            if now >= self._pinged + self._pong_timeout:
                what = "ping" if self.state is _AUTHENTICATED else "authentication"
                self.state = _CLOSED
                self._deadline = None
                text = f"no answer to the {what} within {self._pong_timeout:g} s"
                return [Broken(ConnectionLost(text))]
        elif self._ping_interval is not None and now >= self.heard + self._ping_interval:
            self._pinged = now
            self._send(bytes(Ping()), _Own.PING)
        self._set_deadline()
        return []

    def connection_lost(self) -> list[Any]:
        """The connection is gone.

        :returns: the waiters whose answers will never come.
        """
        self.state = _CLOSED
        self._deadline = None
        waiters = [waiter for waiter in self._pending.values() if type(waiter) is not _Own]
        self._pending.clear()
        self._queue.clear()
        self._out.clear()
        return [waiter for waiter in waiters if waiter is not None]

    # Commands

    def command(self, command: bytes, waiter: Any) -> MessageId:
        """Send a command, at once or as soon as it may leave.

        :param command: all that stands behind ``<message id>|``.
        :param waiter: given back with each answer, and by :meth:`connection_lost`.
        :raises FrameTooLarge: when the server could not receive it.
        :raises LocalProtocolError: when the connection is closed, or a proxy command is longer
            than a server takes.
        """
        return self._send(command, waiter)

    def send_message(self, line: str, message: bytes, waiter: Any) -> MessageId:
        """Send a command with a SIP message; :meth:`command` without copying the message.

        :param line: what stands before the message, without the line end.
        """
        message_id = new_id()
        start = f"{message_id}|{line}\r\n".encode("utf-8", "surrogateescape")
        size = len(start) + len(message)
        if (
            size > self._lone_payload
            or self._queue
            or self._lone
            or self.state is not _AUTHENTICATED
        ):
            return self._send(start[len(message_id) + 1 :] + message, waiter)
        self._pending[message_id] = waiter
        self._out += (b"%d#" % size, start, message)
        return message_id  # type: ignore[return-value]

    def set_routes(self, verbs: Iterable[str]) -> None:
        """Want exactly these verbs."""
        wanted = dict.fromkeys(verbs)
        if wanted.keys() >= self._routes.keys():
            for verb in wanted:
                self.add_route(verb)
        else:
            self._routes = wanted
            self._replace_routes()

    def add_route(self, verb: str) -> None:
        """Ask for a verb, unless it was asked for already."""
        if verb in self._routes:
            return
        self._routes[verb] = None
        if self.state is _AUTHENTICATED:
            self._send_route(AddRoute(verb))

    def remove_route(self, verb: str) -> None:
        """Want a verb no longer."""
        if self._routes.pop(verb, self) is self:
            return
        self._replace_routes()

    @property
    def routed(self) -> bool:
        """Whether the server has taken, or refused, all routes that are wanted."""
        return self.state is _AUTHENTICATED and not self._unrouted

    @property
    def can_ping(self) -> bool:
        """Whether the server knows ``ping``."""
        return self._can_ping

    def ping(self, waiter: Any) -> MessageId:
        """Send a ping whose pong goes to the waiter."""
        return self._send(bytes(Ping()), waiter)

    @property
    def pending(self) -> int:
        """Commands of the application that wait for an answer."""
        return sum(type(waiter) is not _Own for waiter in self._pending.values())

    # Inside

    def _send_route(self, command: AddRoute | RemoveRoute) -> None:
        self._unrouted += 1
        self._send(bytes(command), _Own.ROUTE)

    def _replace_routes(self) -> None:
        if self.state is _AUTHENTICATED:
            self._send_route(RemoveRoute(next(iter(self._routes), "all")))
            for verb in self._routes:
                self._send_route(AddRoute(verb))

    def _send(self, command: bytes, waiter: Any) -> MessageId:
        if self.state is _CLOSED:
            raise LocalProtocolError("the connection is closed")
        message_id = new_id()
        payload = b"%b|%b" % (message_id.encode(), command)
        size = len(payload)
        if size > self._lone_payload:
            if self._max_payload is not None and size > self._max_payload:
                raise FrameTooLarge(size, self._max_payload)
            if command.startswith(b"proxy|"):
                raise LocalProtocolError(
                    f"a proxy command of {size} bytes: no server takes more than 1,023 bytes of"
                    " headers and ten destinations of 255 bytes"
                )
        self._pending[message_id] = waiter
        if self._queue or self._lone or size > self._lone_payload or not self._may_send():
            self._queue.append((message_id, payload))
            self._pump()
        else:
            self._out.append(b"%d#%b" % (size, payload))
        return MessageId(message_id)

    def _may_send(self) -> bool:
        return self.state is _AUTHENTICATED

    def _pump(self) -> None:
        """Let queued commands go as far as they may."""
        queue = self._queue
        if not self._may_send():
            return
        while queue and not self._lone and not self._fenced:
            message_id, payload = queue[0]
            if len(payload) > self._lone_payload:
                if len(self._pending) > len(queue):
                    # Something was sent that is not answered yet.
                    if self._can_ping:
                        self._fence()
                    return
                self._lone = message_id
            queue.popleft()
            self._out.append(b"%d#%b" % (len(payload), payload))

    def _fence(self) -> None:
        self._fenced = True
        message_id = new_id()
        self._pending[message_id] = _Own.FENCE
        payload = b"%b|ping" % message_id.encode()
        self._out.append(b"%d#%b" % (len(payload), payload))

    def _own_answer(
        self, waiter: _Own, answer: Answer, now: float, events: list[SessionEvent]
    ) -> bool:
        """Act on the answer to a command of our own; return whether the connection lives."""
        if waiter is _Own.FENCE:
            self._fenced = False
            # The pong proves that everything before the fence was read.
            message_id, payload = self._queue.popleft()
            self._lone = message_id
            self._out.append(b"%d#%b" % (len(payload), payload))
        elif waiter is _Own.ROUTE:
            self._unrouted -= 1
        elif waiter is _Own.PING:
            self._pinged = None
            self._set_deadline()
        elif waiter is _Own.AUTHENTICATE:
            self._pinged = None
            if not answer.ok:
                self.state = _CLOSED
                self._deadline = None
                text = f"the server refused the secret: {answer.text or answer.verdict}"
                events.append(Broken(AuthenticationError(text)))
                return False
            self.state = _AUTHENTICATED
            greeting = _greeting(*answer.tokens[4:7])
            self.host_ports, self.version, self.local_host_ports, self._can_ping = greeting
            self._set_deadline()
            waiting, self._queue = self._queue, deque()
            for verb in self._routes:
                self._send_route(AddRoute(verb))
            self._queue.extend(waiting)
            self._pump()
            events.append(Authenticated(self.host_ports, self.version, self.local_host_ports))
        return True

    def _set_deadline(self) -> None:
        if self._pinged is not None:
            self._deadline = self._pinged + self._pong_timeout
        elif self._ping_interval is not None and self._can_ping:
            self._deadline = self.heard + self._ping_interval
        else:
            self._deadline = None


# A server says the same to every connection that it makes.
@lru_cache(maxsize=64)
def _greeting(
    host_ports: str = "", version: str = "", local_host_ports: str = ""
) -> tuple[tuple[str, ...], str, tuple[str, ...], bool]:
    """Read what stands behind the OK to an authentication; older servers say less."""
    found = _VERSION.match(version)
    can_ping = found is None or tuple(map(int, found.groups())) >= _FIRST_WITH_PING
    return _listed(host_ports), version, _listed(local_host_ports), can_ping


def _listed(text: str) -> tuple[str, ...]:
    return tuple(item for item in text.split(",") if item)


# The server's end


@dataclass(frozen=True, slots=True)
class Signed:
    """The application showed the right secret."""

    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Commanded:
    """The application sent a command that the server has to carry out and answer."""

    message_id: MessageId
    command: Command


@dataclass(frozen=True, slots=True)
class WrongSecret:
    """The application showed another secret; it is told, and the connection is to be closed."""


# The union is evaluated on Python 3.10.
ServerSessionEvent = Union[Signed, WrongSecret, Commanded, Broken]  # noqa: UP007


_MOST_TAGS = 1024
"""How many tags of a connection count; those of drachtio-srf are 20 at most."""


class ServerSession:
    """The server's end of one connection: framing, authentication, pings and refusals.

    Like the real server it executes commands of applications that never authenticated; whoever can
    reach the port is trusted, unless ``require_authentication`` is set.

    :param secret: what applications must show.
    :param host_ports: ``proto/host:port`` of each SIP transport.
    :param version: the server's version string, ``v<major>.<minor>.<patch>``.
    :param local_host_ports: the bound addresses; like ``host_ports`` when absent.
    :param limit: bytes of the longest frame to accept.
    :param stranger_limit: the same before the right secret was shown, if that is required.
    :param require_authentication: refuse other commands before the right secret was shown.
    """

    __slots__ = (
        "_decoder",
        "_host_ports",
        "_local_host_ports",
        "_out",
        "_required",
        "_secret",
        "_stranger_limit",
        "_version",
        "authenticated",
        "closing",
        "tags",
    )

    def __init__(
        self,
        secret: str,
        host_ports: Sequence[str],
        version: str,
        local_host_ports: Sequence[str] | None = None,
        *,
        limit: int = DEFAULT_LIMIT,
        stranger_limit: int = DEFAULT_LIMIT,
        require_authentication: bool = False,
    ) -> None:
        self._secret = secret
        self._host_ports = ",".join(host_ports)
        self._local_host_ports = ",".join(
            host_ports if local_host_ports is None else local_host_ports
        )
        self._version = version
        self._required = require_authentication
        self._decoder = FrameDecoder(limit, max_digits=len(str(limit)))
        self._stranger_limit = stranger_limit
        self._out: list[bytes] = []
        self.authenticated = False
        self.closing = False
        """The connection is to be closed once what is to be sent was written."""
        self.tags: tuple[str, ...] = ()

    def receive(self, data: bytes) -> list[ServerSessionEvent]:
        """Take bytes that were read; return what the server has to act on, in order."""
        events: list[ServerSessionEvent] = []
        if self.closing:
            return events
        for payload in self._decoder.feed(data):
            message_id, command = parse_command(payload)
            if isinstance(command, Authenticate):
                # Tags count even before the secret was looked at, and add up.
                if command.tags:
                    self.tags = tuple(dict.fromkeys(self.tags + command.tags))[:_MOST_TAGS]
                if not _same(command.secret, self._secret):
                    self.refuse(message_id, "incorrect secret")
                    events.append(WrongSecret())
                    return events
                self.authenticated = True
                self.answer(
                    message_id, "OK", self._host_ports, self._version, self._local_host_ports
                )
                events.append(Signed(self.tags))
            elif isinstance(command, Malformed):
                self.refuse(message_id, command.problem)
                return events
            elif self._required and not self.authenticated:
                self.refuse(message_id, "not authenticated")
                return events
            elif isinstance(command, Ping):
                self.answer(message_id, "OK", "pong")
            else:
                events.append(Commanded(message_id, command))
        error = self._decoder.error
        if error is None and self._required and not self.authenticated:
            announced = self._decoder.announced
            if announced > self._stranger_limit:
                text = f"a frame of {announced} bytes before the secret"
                error = FrameError(f"{text} is over {self._stranger_limit}")
        if error is not None:
            self.closing = True
            events.append(Broken(error))
        return events

    def answer(self, message_id: str, verdict: str, *tokens: str, raw: bytes = b"") -> None:
        """Answer a command: ``OK``, ``NOK`` or ``NO``, further tokens, and a SIP message."""
        line = "|".join((new_id(), "response", message_id, verdict, *tokens))
        payload = line.encode("utf-8", "surrogateescape")
        self.send(b"%b\r\n%b" % (payload, raw) if raw else payload)

    def refuse(self, message_id: str, text: str) -> None:
        """Answer ``NO`` and close the connection."""
        self.answer(message_id, "NO", text)
        self.closing = True

    def send(self, payload: bytes) -> None:
        """Send a frame; there is no limit in this direction."""
        self._out.append(b"%d#%b" % (len(payload), payload))

    def data_to_send(self) -> bytes:
        """Return, once, all bytes that are to be written now."""
        out = self._out
        data = b"".join(out) if len(out) > 1 else (out[0] if out else b"")
        out.clear()
        return data


def _same(given: str, secret: str) -> bool:
    """Compare in a time that does not tell how much of it was right."""
    return compare_digest(
        given.encode("utf-8", "surrogateescape"), secret.encode("utf-8", "surrogateescape")
    )
