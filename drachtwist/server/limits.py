"""What peers may cost the server: every limit, its name, its default and what it is for.

A program gives them as ``limits`` of :class:`~drachtwist.server.config.ServerConfig`; a command
line, the environment and a configuration file have a setting for each.

How many connections there may be follows from how many files the process may have open
(``RLIMIT_NOFILE``), unless it is said. A quarter of them, 256 at most, is kept for what must not
fail: ports, name servers, the log. Of the others half are for phones that connect, a quarter for
connections to phones, and a quarter for applications. Where applications are connected to, or web
applications asked, for requests, it is a quarter, a quarter, and an eighth, and the rest for that.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import TypeVar

from drachtwist.errors import LocalProtocolError
from drachtwist.net.sip.flows import Limits

__all__ = [
    "ABOUT",
    "ServerLimits",
    "check_limit",
    "describe_limit",
    "open_files",
    "read_limit",
    "show_limit",
]

FEWEST_FILES = 64
"""Fewer open files than this count as this: with less nobody can be served."""

_WHOLE = re.compile("[0-9]{1,12}")
_SECONDS = re.compile("[0-9]{1,9}([.][0-9]{1,6})?")

_T = TypeVar("_T", int, float)


def open_files() -> int:
    """Return how many files this process may have open at a time."""
    try:
        import resource
    except ImportError:  # pragma: no cover - not on Windows
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else int(soft)


def _limit(default: _T, about: str) -> _T:
    """Declare a limit."""
    declared: _T = field(default=default, metadata={"about": about})
    return declared


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What peers may cost. Times are seconds, sizes bytes; :data:`ABOUT` says what each one is.

    The numbers of connections are 0 for what follows from the open files; see :meth:`settled`.

    :raises LocalProtocolError: for a negative one, or a 0 where that makes no sense.
    """

    # Applications
    secret_timeout: float = _limit(
        10.0, "seconds that a connection to an admin port has to show the secret, TLS included"
    )
    secret_frame: int = _limit(4096, "bytes of the longest frame before that")
    secret_delay: float = _limit(1.0, "seconds that a wrong secret waits for its answer")
    strangers: int = _limit(0, "connections to the admin ports that have not shown the secret")
    strangers_per_source: int = _limit(0, "of these, from one address")
    applications: int = _limit(0, "connections to the admin ports, all together")
    dialled: int = _limit(
        0,
        "connections to applications that are made for requests, and questions to web applications,"
        " all together; new requests get 503 beyond that",
    )
    unread: int = _limit(
        16 << 20,
        "bytes that an application may leave unread before its connection is cut; it gets nothing"
        " new from half of it on",
    )
    unread_timeout: float = _limit(
        30.0, "seconds in which an application has to read something of what waits for it"
    )
    # Streams that carry SIP
    connections: int = _limit(0, "connections of phones, all together")
    connections_per_source: int = _limit(0, "of these, from one address")
    outgoing: int = _limit(
        0, "connections to phones that the server makes; those that nobody uses make room"
    )
    first_message: float = _limit(
        60.0, "seconds to the first message of a connection, TLS and WebSockets included"
    )
    message: int = _limit(2 << 20, "bytes of the longest message on a connection")
    message_timeout: float = _limit(16.0, "seconds from the first octet of a message to its last")
    buffers: int = _limit(64 << 20, "bytes of messages that are not complete, all together")
    unsent: int = _limit(4 << 20, "bytes that a phone may leave unread before it is cut off")
    unsent_timeout: float = _limit(
        30.0, "seconds in which a phone has to read something of what waits for it"
    )
    idle: float = _limit(
        1800.0,
        "seconds without a message or keep-alive, or with keep-alives alone, until it is closed",
    )
    connect: float = _limit(30.0, "seconds that connecting to a phone may take")
    # SIP
    transactions: int = _limit(
        50_000, "requests of phones that are not forgotten yet; new ones get 503 beyond that"
    )
    transaction_bytes: int = _limit(
        128 << 20, "bytes of these requests, all together; new ones get 503 beyond that"
    )
    unconfirmed_repeats: int = _limit(
        3,
        "repeats over UDP to an address that has not shown that it receives us, if they are more"
        " than three times what came from there",
    )
    proxied_calls: int = _limit(
        50_000, "calls and subscriptions that are proxied; new ones get 503 beyond that"
    )
    # The process
    stop: float = _limit(5.0, "seconds that connections get to close when the server stops")

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            value = getattr(self, one.name)
            kinds = int if isinstance(one.default, int) else (int, float)
            is_number = isinstance(value, kinds) and not isinstance(value, bool)
            if not is_number or not math.isfinite(value) or value < 0:
                raise LocalProtocolError(f"the limit {one.name} {_is_none(one.name, value)}")
            problem = check_limit(one.name, value)
            if problem is not None:
                raise LocalProtocolError(f"the limit {one.name} {problem}")

    def settled(self, files: int | None = None, *, dials: bool = False) -> ServerLimits:
        """Work out the numbers of connections that are left open.

        :param files: how many files may be open at a time; asked of the system unless given.
        :param dials: whether applications are connected to, or asked, for requests.
        """
        files = max(FEWEST_FILES, open_files() if files is None else files)
        usable = files - min(256, files // 4)
        connections = self.connections or min(4096, usable // 4 if dials else usable // 2)
        applications = self.applications or min(1024, usable // 8 if dials else usable // 4)
        strangers = self.strangers or max(1, min(64, applications // 2))
        return dataclasses.replace(
            self,
            connections=connections,
            connections_per_source=self.connections_per_source or max(8, connections // 4),
            applications=applications,
            dialled=self.dialled or usable * 3 // 8,
            outgoing=self.outgoing or usable // 4,
            strangers=strangers,
            strangers_per_source=self.strangers_per_source or max(1, strangers // 4),
        )

    def of_transports(self) -> Limits:
        """Return those that the SIP transports keep."""
        return Limits(
            **{one.name: getattr(self, one.name) for one in dataclasses.fields(Limits)},
        )


def _is_none(name: str, value: object) -> str:
    if name in _WHOLE_NUMBERS:
        return f"{value!r} is no whole number from 0 on"
    return f"{value!r} is no number of seconds, like 2 or 0.5"


def check_limit(name: str, value: float) -> str | None:
    """Say what is wrong with a value of a limit; None if nothing is."""
    if not value and name not in _MAY_BE_0:
        return "has to be more than 0"
    return None


def read_limit(name: str, text: str) -> float:
    """Read the value of a limit: digits, and for times a fraction if there is one.

    :raises LocalProtocolError: when it is none; its text goes behind the name of the setting.
    """
    whole = name in _WHOLE_NUMBERS
    if (_WHOLE if whole else _SECONDS).fullmatch(text) is None:
        raise LocalProtocolError(_is_none(name, text))
    value = int(text) if whole else float(text)
    problem = check_limit(name, value)
    if problem is not None:
        raise LocalProtocolError(problem)
    return value


def describe_limit(name: str) -> str:
    """Say what a limit is, and what it is unless it is given."""
    return f"{ABOUT[name]}; {show_limit(_DEFAULTS[name])} unless given"


def show_limit(value: float) -> str:
    """Write the value of a limit down as people do."""
    return f"{value:g}" if isinstance(value, float) else str(value or "from the open files")


_MAY_BE_0 = frozenset(
    """
    strangers strangers_per_source applications dialled connections connections_per_source outgoing
    secret_delay stop unconfirmed_repeats
    """.split()
)

_WHOLE_NUMBERS = frozenset(
    one.name for one in dataclasses.fields(ServerLimits) if isinstance(one.default, int)
)
_DEFAULTS: dict[str, float] = dataclasses.asdict(ServerLimits())

ABOUT: dict[str, str] = {
    one.name: one.metadata["about"] for one in dataclasses.fields(ServerLimits)
}
"""What each limit is, by its name."""
