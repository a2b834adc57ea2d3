"""Numbers about the server, for Prometheus, with the names that the real server gives them.

Three ideas keep them out of the way. Nobody who handles a message counts it: what comes in passes
:meth:`Metrics.received`, what goes out passes :class:`Metered`, and when numbers are not wanted
neither exists. What can be looked up, such as how many dialogs there are, is looked up when the
numbers are asked for. And a message counts once: its repeats are recognised by their hash, and
counted apart, as the real server does, whose stack keeps repeats to itself.

The text that Prometheus reads is a few lines of code; a library for it would be one more thing to
install, and would not be lighter in the path of every message.

Nobody outside can make the numbers grow without bound: methods that nobody knows are ``other``,
and hashes and calls are forgotten after a while.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Protocol, cast

from drachtwist.errors import MessageError
from drachtwist.net.alerts import Alerts
from drachtwist.net.clock import DeadlineClock
from drachtwist.net.sip.flows import Flow
from drachtwist.server.config import ServerConfig
from drachtwist.server.ports import Carriers
from drachtwist.server.sendingaway import SendingAway
from drachtwist.sip.message import Request, Response

__all__ = ["Counter", "Histogram", "Metered", "Metrics"]

METHODS = frozenset(
    (
        "ACK BYE CANCEL INFO INVITE MESSAGE NOTIFY OPTIONS PRACK PUBLISH REFER REGISTER SUBSCRIBE"
        " UPDATE"
    ).split()
)
"""The methods that are counted by name."""

REMEMBERED = 32.0
"""Seconds in which a message that comes or goes again is a repeat; twice as long at most."""

ANSWER_BUCKETS = (1.0, 3.0, 6.0, 10.0, 15.0, 20.0, 30.0, 60.0)
DELAY_BUCKETS = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0)

_MOST_CALLS = 50_000
_HEADER = re.compile(rb"\r\n(CSeq|Call-ID|i)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_TO_TAG = re.compile(rb"\r\n(?:To|t)[ \t]*:[^\r\n]*;[ \t]*tag[ \t]*=", re.IGNORECASE)


class Counter:
    """A number for each combination of labels.

    :param labels: the names of the labels.
    """

    __slots__ = ("about", "kind", "labels", "name", "values")

    def __init__(self, name: str, about: str, *labels: str, kind: str = "counter") -> None:
        self.name = name
        self.about = about
        self.kind = kind
        self.labels = labels
        self.values: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str) -> None:
        """Count one."""
        self.values[labels] = self.values.get(labels, 0) + 1

    def set(self, value: float, *labels: str) -> None:
        """Set a number."""
        self.values[labels] = value

    def lines(self) -> Iterator[str]:
        """Write it down."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in sorted(self.values.items()):
            yield f"{self.name}{_labels(self.labels, labels)} {_number(value)}"


class Histogram:
    """How often a duration was how long.

    :param bounds: upper bounds of the buckets, in ascending order.
    """

    __slots__ = ("about", "bounds", "counts", "name", "sum")

    def __init__(self, name: str, about: str, bounds: tuple[float, ...]) -> None:
        self.name = name
        self.about = about
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Take note of a duration."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def lines(self) -> Iterator[str]:
        """Write it down."""
        yield f"# HELP {self.name} {self.about}"
        yield f"# TYPE {self.name} histogram"
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            yield f'{self.name}_bucket{{le="{_number(bound)}"}} {total}'
        yield f"{self.name}_sum {_number(self.sum)}"
        yield f"{self.name}_count {total}"


def _labels(names: Iterable[str], values: Iterable[str]) -> str:
    pairs = [f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True)]
    return f"{{{','.join(pairs)}}}" if pairs else ""


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(value)


class _Seen:
    """Hashes of messages, for a while."""

    __slots__ = ("_newer", "_older", "_turn_at")

    def __init__(self) -> None:
        self._newer: set[int] = set()
        self._older: set[int] = set()
        self._turn_at = float("-inf")

    def again(self, data: object, now: float) -> bool:
        """Return whether something was seen before; from now on it was."""
        if now >= self._turn_at:
            idle = now >= self._turn_at + REMEMBERED
            self._older = set() if idle else self._newer
            self._newer = set()
            self._turn_at = now + REMEMBERED
        key = hash(data)
        if key in self._newer:
            return True
        self._newer.add(key)
        return key in self._older


class _Calls:
    """INVITEs that are under way in one direction, and how long they took."""

    __slots__ = ("_answer", "_began", "_delay")

    def __init__(self, answer: Histogram, delay: Histogram) -> None:
        self._answer = answer
        self._delay = delay
        # When it began, and whether it rang.
        self._began: dict[tuple[str, str], tuple[float, bool]] = {}

    def began(self, key: tuple[str, str], now: float) -> None:
        """Begin to measure an INVITE that came or went."""
        if len(self._began) >= _MOST_CALLS:
            del self._began[next(iter(self._began))]
        self._began.setdefault(key, (now, False))

    def answered(self, key: tuple[str, str], status: int, now: float) -> None:
        """Measure how long its response took, in seconds."""
        found = self._began.get(key)
        if found is None or status <= 100:
            return
        began, rang = found
        if not rang and status < 300:
            self._delay.observe(now - began)
        if status < 200:
            self._began[key] = (began, True)
            return
        del self._began[key]
        if status < 300:
            self._answer.observe(now - began)


class Dialled(Protocol):
    """What knows how many dialogs there are."""

    def established(self) -> tuple[int, int]:
        """Count those that are established: of calls that came, and that were made."""
        ...


class Orphaned(Sized, Protocol):
    """What knows of dialogs whose application is gone, and how they ended."""

    claimed: int
    left: int
    ended: int


class Forwarding(Protocol):
    """What knows how many requests are forwarded."""

    def count(self) -> int:
        """Count those that are being forwarded."""
        ...


class Measured(Protocol):
    """What there are numbers about: the core of a server."""

    @property
    def clock(self) -> DeadlineClock:
        """The time."""
        ...

    @property
    def config(self) -> ServerConfig:
        """The settings."""
        ...

    @property
    def alerts(self) -> Alerts:
        """What operators were told."""
        ...

    @property
    def send_away(self) -> SendingAway:
        """What was answered without being remembered."""
        ...

    @property
    def handed_on(self) -> int:
        """How many requests went from one application to the next."""
        ...

    @property
    def registered(self) -> Sized:
        """Who registered over a connection."""
        ...

    @property
    def dialogs(self) -> Dialled:
        """The dialogs."""
        ...

    @property
    def orphans(self) -> Orphaned:
        """Those without an application."""
        ...

    @property
    def proxying(self) -> Forwarding:
        """What is forwarded."""
        ...

    def counts(self) -> dict[str, int]:
        """Say how many things there are."""
        ...


class Metrics:
    """All numbers of a server.

    :param core: whose they are.
    :param wall: the time of day, in seconds since the epoch.
    """

    def __init__(self, core: Measured, wall: Callable[[], float]) -> None:
        self._core = core
        self._seconds = core.clock.seconds
        self._received = _Seen()
        self._sent = _Seen()
        self.requests_in = Counter(
            "drachtio_sip_requests_in_total", "SIP requests received", "method"
        )
        self.requests_out = Counter(
            "drachtio_sip_requests_out_total", "SIP requests sent", "method"
        )
        self.responses_in = Counter(
            "drachtio_sip_responses_in_total", "SIP responses received", "method", "code"
        )
        self.responses_out = Counter(
            "drachtio_sip_responses_out_total", "SIP responses sent", "method", "code"
        )
        build = Counter("drachtio_build_info", "version whose behaviour this is", "version")
        build.set(1, core.config.version.partition("+")[0])
        started = Counter(
            "drachtio_time_started", "when the server started, since the epoch", kind="gauge"
        )
        started.set(int(wall()))
        self.answer_in = Histogram(
            "drachtio_call_answer_seconds_in",
            "seconds until calls that were received were answered",
            ANSWER_BUCKETS,
        )
        self.answer_out = Histogram(
            "drachtio_call_answer_seconds_out",
            "seconds until calls that were sent were answered",
            ANSWER_BUCKETS,
        )
        self.delay_in = Histogram(
            "drachtio_call_pdd_seconds_in",
            "seconds until the first ringing of calls that were received",
            DELAY_BUCKETS,
        )
        self.delay_out = Histogram(
            "drachtio_call_pdd_seconds_out",
            "seconds until the first ringing of calls that were sent",
            DELAY_BUCKETS,
        )
        self._calls_in = _Calls(self.answer_in, self.delay_in)
        self._calls_out = _Calls(self.answer_out, self.delay_out)
        self._messages_received = self._messages_sent = 0
        self._all_requests_received = self._all_requests_sent = 0
        self._bad_messages = self._bad_requests = 0
        self._repeated_requests = self._repeated_responses = 0
        self._fixed: tuple[Counter | Histogram, ...] = (
            self.requests_in,
            self.requests_out,
            self.responses_in,
            self.responses_out,
            build,
            started,
            self.answer_in,
            self.answer_out,
            self.delay_in,
            self.delay_out,
        )

    # What happens

    def received(self, message: Request | Response) -> None:
        """Take note of a message that came."""
        now = self._seconds()
        self._messages_received += 1
        is_request = isinstance(message, Request)
        if is_request:
            self._all_requests_received += 1
        if self._received.again(message.raw, now):
            return
        try:
            cseq = message.cseq
            key = (message.call_id, str(cseq.number))
            if isinstance(message, Request):
                method = message.method
                self.requests_in.add(_known(method))
                if method == "INVITE" and message.to.tag is None:
                    self._calls_in.began(key, now)
            else:
                self.responses_in.add(_known(cseq.method), str(message.status))
                if cseq.method == "INVITE":
                    self._calls_out.answered(key, message.status, now)
        except MessageError:
            return

    def malformed(self, message: object) -> None:
        """Take note of a message that cannot be used."""
        self._messages_received += 1
        self._bad_messages += 1
        if isinstance(message, Request):
            self._all_requests_received += 1
            self._bad_requests += 1

    def sent(self, data: bytes) -> None:
        """Take note of a message that went."""
        now = self._seconds()
        self._messages_sent += 1
        is_request = data[:4] != b"SIP/"
        if is_request:
            self._all_requests_sent += 1
        if self._sent.again(data, now):
            if is_request:
                self._repeated_requests += 1
            else:
                self._repeated_responses += 1
            return
        number = method = call = ""
        end = data.find(b"\r\n\r\n")
        if end < 0:
            end = len(data)
        for name, value in _HEADER.findall(data, 0, end):
            text = value.decode("utf-8", "surrogateescape").strip()
            if name[:1] in b"Cc" and len(name) == 4:
                number, _, method = text.partition(" ")
                method = method.strip()
            else:
                call = text
        if is_request:
            self.requests_out.add(_known(method))
            if method == "INVITE" and _TO_TAG.search(data, 0, end) is None:
                self._calls_out.began((call, number), now)
            return
        code = data[8:11].decode("ascii", "replace")
        self.responses_out.add(_known(method), code)
        if method == "INVITE" and code.isdigit():
            self._calls_in.answered((call, number), int(code), now)

    # What they are

    def text(self) -> bytes:
        """Write all numbers in the text format of Prometheus, version 0.0.4."""
        lines: list[str] = []
        for one in (*self._fixed, *self._looked_up()):
            lines += one.lines()
        return ("\n".join(lines) + "\n").encode()

    def _looked_up(self) -> Iterator[Counter]:
        core = self._core
        counts = core.counts()
        dialogs = Counter(
            "drachtio_stable_dialogs", "dialogs that are established", "type", kind="gauge"
        )
        inbound, outbound = core.dialogs.established()
        dialogs.set(inbound, "inbound")
        dialogs.set(outbound, "outbound")
        yield dialogs
        orphans = core.orphans
        ended = Counter(
            "drachtio_orphans_ended_total",
            "dialogs whose application was gone and that wait no more",
            "by",
        )
        for by, number in (
            ("application", orphans.claimed),
            ("peer", orphans.left),
            ("server", orphans.ended),
        ):
            ended.set(number, by)
        yield ended
        handed_on = Counter(
            "drachtio_requests_handed_on_total", "requests whose application was gone, to another"
        )
        handed_on.set(core.handed_on)
        yield handed_on
        sent_away = Counter(
            "drachtio_requests_sent_away_total",
            "requests answered without being remembered",
            "code",
        )
        for status, number in core.send_away.counts.items():
            sent_away.set(number, str(status))
        yield sent_away
        alerts = Counter(
            "drachtio_alerts_total", "how often a limit was reached, or a peer misbehaved", "cause"
        )
        for cause, number in core.alerts.counts.items():
            alerts.set(number, cause)
        yield alerts
        for name, about, value in (
            ("orphans", "dialogs whose application is gone, and that wait", len(orphans)),
            ("proxy_cores", "requests that are being proxied", core.proxying.count()),
            (
                "registered_endpoints",
                "clients that are reached over their own connection",
                len(core.registered),
            ),
            ("app_connections", "connections to applications", counts["applications"]),
            ("sofia_server_txns", "server transactions", counts["server_transactions"]),
            ("sofia_client_txns", "client transactions", counts["client_transactions"]),
            ("sofia_dialogs", "dialogs, early ones too", counts["dialogs"]),
            ("sofia_msgs_recv", "SIP messages received", self._messages_received),
            ("sofia_msgs_sent", "SIP messages sent", self._messages_sent),
            (
                "sofia_requests_recv_total",
                "SIP requests received, with repeats",
                self._all_requests_received,
            ),
            ("sofia_requests_sent", "SIP requests sent, with repeats", self._all_requests_sent),
            ("sofia_bad_msgs_recv", "SIP messages that could not be used", self._bad_messages),
            ("sofia_bad_reqs_recv", "SIP requests that could not be used", self._bad_requests),
            ("sofia_retransmitted_requests", "SIP requests sent again", self._repeated_requests),
            ("sofia_retransmitted_responses", "SIP responses sent again", self._repeated_responses),
        ):
            gauge = Counter(f"drachtio_{name}", about, kind="gauge")
            gauge.set(value)
            yield gauge


def _known(method: str) -> str:
    return method if method in METHODS else "other"


class Metered:
    """Carriers that count what they send.

    :param carriers: what carries.
    """

    def __init__(self, carriers: Carriers, metrics: Metrics) -> None:
        self._carriers = carriers
        self._metrics = metrics

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send over a flow; False when its connection is gone."""
        sent = self._carriers.send(flow, data)
        if sent:
            self._metrics.sent(data)
        return sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._carriers, name)

    @classmethod
    def around(cls, carriers: Carriers, metrics: Metrics) -> Carriers:
        """Let carriers be counted."""
        return cast("Carriers", cls(carriers, metrics))
