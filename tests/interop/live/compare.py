"""Compares two transcripts: the same frames, but for the names that are made up afresh each time.

Message and transaction ids, tags, branches, Call-IDs, nonces and the numbers that a server made up
stand for each other: what stood for X once has to stand for it always, and for nothing else.
Numbers keep their distance within one Call-ID. Times count for nothing; sizes that the server tells
count as differences from the size of the text.

Connections are compared in the order of their opening, and each direction for itself: what the
application sent, in order; the SIP messages that the server sent, in order; the answers to each
command, in order; the call records, in order. How the latter three are interleaved counts, too,
except that a record, or an answer about another transaction, may change places with what came
within a tenth of a second in the recording.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest

from tests.transcripts import Line

__all__ = ["Names", "differences", "title_of"]

_CLOSE_BY = 0.1
"""Seconds within which answers and records may come in either order."""

_NAMED = re.compile(
    r"""
      [0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}     # ids of messages and transactions, Call-IDs
    | (?<=branch=z9hG4bK)[^;,\s|]+
    | (?<=tag=)[^;,\s|>]+
    | (?<=^call-id:\ ).+
    | (?<=\|)[^|;\s]+(?=;from-tag=)
    | (?<=nonce=")[^"]+ | (?<=response=")[^"]+
    | (?<=^cseq:\ )\d{4,} | (?<=^rseq:\ )\d+ | (?<=^rack:\ )\d+ | (?<=\d\ )\d{4,}
    """,
    re.VERBOSE | re.IGNORECASE,
)
_TIME = re.compile(r"\b\d\d:\d\d:\d\d\.\d{6}\b")


class Names:
    """What stands for what."""

    def __init__(self) -> None:
        self._live: dict[str, str] = {}
        self._recorded: dict[str, str] = {}
        self._numbers: list[tuple[str, int, int]] = []

    def pair(self, recorded: str, live: str, call: str = "") -> str | None:
        """Let one name stand for another.

        :param call: the recorded Call-ID of the message that both are from.
        :returns: what contradicts that.
        """
        if recorded.isdigit() and live.isdigit():
            one, other = int(recorded), int(live)
            for known_call, known, ours in self._numbers:
                if known_call == call and abs(known - one) < 1000 and one - known != other - ours:
                    return f"{recorded} should be {ours + one - known}, not {live}"
            self._numbers.append((call, one, other))
            self._live[recorded] = live
            return None
        known_live = self._live.setdefault(recorded, live)
        known_recorded = self._recorded.setdefault(live, recorded)
        if known_live != live:
            return f"{recorded} is {known_live}, not {live}"
        if known_recorded != recorded:
            return f"{live} is {known_recorded}, not {recorded}"
        return None

    def live(self, text: str) -> str:
        """Put live names into what was recorded."""
        for recorded in sorted(self._live, key=len, reverse=True):
            text = text.replace(recorded, self._live[recorded])
        return text


@dataclass(frozen=True)
class Masked:
    """A line without the names in it, and the names."""

    shape: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, line: str) -> Masked:
        line = _TIME.sub("TIME", line)
        return cls(_NAMED.sub("*", line), tuple(_NAMED.findall(line)))


@dataclass(frozen=True)
class Frame:
    """A frame, taken apart."""

    line: Line
    position: int
    """Where it stands in the transcript."""
    tokens: list[str]
    start: str
    headers: list[str]
    body: str

    @classmethod
    def of(cls, line: Line, position: int, ports: dict[int, int]) -> Frame:
        """Take a frame apart.

        :param ports: what to write instead of these ports.
        """
        text = _with_ports(line.frame.decode("utf-8", "backslashreplace"), ports)
        if line.event != "frame":
            return cls(line, position, [line.event], text, [], "")
        first, _, text = text.partition("\r\n")
        head, _, body = text.partition("\r\n\r\n")
        start, *headers = head.split("\r\n")
        tokens = first.split("|")
        at = {"sip": 3, "response": 5}.get(tokens[1] if len(tokens) > 1 else "", 0)
        size = tokens[at] if len(tokens) > at else ""
        if text and line.sender == "server" and size.isdigit() and size != "0":
            tokens[at] = f"{int(size) - len(text.encode()):+d}"
        return cls(line, position, tokens, start, headers, body)

    @property
    def kind(self) -> str:
        """What sort of frame it is."""
        return self.tokens[1] if len(self.tokens) > 1 else self.tokens[0]

    def get(self, name: str) -> str:
        """Give the value of a header."""
        for header in self.headers:
            key, _, value = header.partition(":")
            if key.strip().lower() == name:
                return value.strip()
        return ""

    @property
    def title(self) -> str:
        """What it is, in short."""
        kind = self.kind
        if kind == "response":
            state = self.tokens[3] if len(self.tokens) < 5 else self.tokens[-1]
            kind = "answer " + (state if state in ("continue", "done") else self.tokens[3])
        elif kind == "route":
            kind = " ".join(self.tokens[1:3])
        if self.start.startswith("SIP/2.0 "):
            method = self.get("cseq").partition(" ")[2]
            kind += f" {self.start.split(' ')[1]} {method}"
        elif self.start:
            kind += f" {self.start.split(' ')[0]}"
        return kind

    @property
    def command(self) -> str:
        """The id of the command that it answers."""
        return self.tokens[2] if self.kind == "response" else ""

    @property
    def transaction(self) -> str:
        """The id of the transaction that it tells of."""
        at = 10 if self.kind == "response" else 8
        return self.tokens[at] if len(self.tokens) > at else ""

    @property
    def masked(self) -> list[Masked]:
        """The head, the first line and the headers; those of applications without their order."""
        lines = [Masked.of("|".join(self.tokens)), Masked.of(self.start)]
        headers = [Masked.of(header) for header in self.headers]
        if self.line.sender == "app":
            headers.sort(key=lambda header: header.shape)
        return lines + headers


def title_of(line: Line) -> str:
    """Tell in short what a line is."""
    return Frame.of(line, 0, {}).title if line.event == "frame" else line.event


def _with_ports(text: str, ports: dict[int, int]) -> str:
    for port, other in ports.items():
        text = re.sub(rf"(?<!\d){port}(?!\d)", str(other), text)
    return text


_Pairs = list[tuple[Frame, Frame]]


class _Comparison:
    def __init__(self, names: Names) -> None:
        self.names = names
        self.found: list[str] = []
        self._counts: Counter[str] = Counter()

    def align(
        self, where: str, recorded: Sequence[Frame], live: Sequence[Frame], what: str = ""
    ) -> _Pairs:
        """Find the counterparts of frames by their titles; the others are differences."""
        one, other = [frame.title for frame in recorded], [frame.title for frame in live]
        pairs: _Pairs = []
        matcher = SequenceMatcher(None, one, other, autojunk=False)
        for tag, first, last, begin, end in matcher.get_opcodes():
            if tag == "equal":
                pairs += zip(recorded[first:last], live[begin:end], strict=True)
                continue
            for frame in recorded[first:last]:
                self.found.append(f"{where}: not live: {what}{frame.title}")
            for frame in live[begin:end]:
                text = "|".join(frame.tokens[2 if frame.kind == "response" else 1 :])
                self.found.append(f"{where}: only live: {what}{frame.title} ({text})")
        return pairs

    def frames(self, where: str, recorded: Frame, live: Frame, what: str = "") -> None:
        """Compare two frames."""
        title = f"{where}: {what}{recorded.title}"
        self._counts[title] += 1
        title += f" #{self._counts[title]}"
        call = recorded.get("call-id")
        one, other = recorded.masked, live.masked
        matcher = SequenceMatcher(
            None, [line.shape for line in one], [line.shape for line in other], autojunk=False
        )
        for tag, first, last, begin, end in matcher.get_opcodes():
            if tag != "equal":
                theirs = " / ".join(line.shape for line in one[first:last])
                ours = " / ".join(line.shape for line in other[begin:end])
                self.found.append(f"{title}: recorded {theirs!r}, live {ours!r}")
                continue
            for line, our_line in zip(one[first:last], other[begin:end], strict=True):
                for name, our_name in zip(line.names, our_line.names, strict=True):
                    wrong = self.names.pair(name, our_name, call)
                    if wrong:
                        self.found.append(f"{title}: in {line.shape!r}: {wrong}")
        if recorded.body != live.body:
            self.found.append(f"{title}: recorded body {recorded.body!r}, live {live.body!r}")

    def order(self, where: str, pairs: _Pairs) -> None:
        """Look whether frames of the server changed places that may not."""
        pairs = sorted(pairs, key=lambda pair: pair[0].position)
        for at, (first, our_first) in enumerate(pairs):
            for second, our_second in pairs[at + 1 :]:
                if our_first.position < our_second.position:
                    continue
                close = second.line.time - first.line.time < _CLOSE_BY
                kinds = {first.kind, second.kind}
                record = any(kind.startswith("cdr:") for kind in kinds)
                same = first.transaction and first.transaction == second.transaction
                if not close or not (record or ("response" in kinds and not same)):
                    self.found.append(f"{where}: {first.title} came behind {second.title}")

    def connection(
        self, number: int, recorded: list[Line], live: list[Line], ports: dict[int, int]
    ) -> None:
        """Compare two connections."""
        where = f"connection {number}"
        for event in ("open", "close"):
            theirs = [line.sender for line in recorded if line.event == event]
            ours = [line.sender for line in live if line.event == event]
            if theirs != ours:
                self.found.append(f"{where}: {event}: recorded {theirs}, live {ours}")
        one, other = (
            [
                Frame.of(line, position, mapped)
                for position, line in enumerate(lines)
                if line.event in ("frame", "bytes")
            ]
            for lines, mapped in ((recorded, {}), (live, ports))
        )
        said = self.align(
            f"{where}, app",
            [frame for frame in one if frame.line.sender == "app"],
            [frame for frame in other if frame.line.sender == "app"],
        )
        heard: _Pairs = []
        one = [frame for frame in one if frame.line.sender == "server"]
        other = [frame for frame in other if frame.line.sender == "server"]
        where_server = f"{where}, server"

        def told(frame: Frame) -> bool:
            return not frame.command and not frame.kind.startswith("cdr:")

        def record(frame: Frame) -> bool:
            return frame.kind.startswith("cdr:")

        for choose in (told, record):
            heard += self.align(
                where_server,
                [frame for frame in one if choose(frame)],
                [frame for frame in other if choose(frame)],
            )
        what = {}
        left, our_left = {frame.command for frame in one}, {frame.command for frame in other}
        for command, our_command in said:
            key, our_key = command.tokens[0], our_command.tokens[0]
            left.discard(key)
            our_left.discard(our_key)
            what[key] = f"to {command.title}: "
            heard += self.align(
                where_server,
                [frame for frame in one if frame.command == key],
                [frame for frame in other if frame.command == our_key],
                what[key],
            )
        # Answers to commands that have no counterpart, or to garbage.
        heard += self.align(
            where_server,
            [frame for frame in one if frame.command and frame.command in left],
            [frame for frame in other if frame.command and frame.command in our_left],
        )
        both = sorted(said + heard, key=lambda pair: pair[0].position)
        for command, our_command in both:
            side = f"{where}, {command.line.sender}"
            self.frames(side, command, our_command, what.get(command.command, ""))
        self.order(where_server, heard)


def differences(
    recorded: Iterable[Line],
    live: Iterable[Line],
    ports: dict[int, int],
    names: Names | None = None,
) -> list[str]:
    """Tell in words how two transcripts differ.

    :param ports: the recorded ports for the live ones.
    """
    comparison = _Comparison(Names() if names is None else names)
    one, other = _connections(recorded), _connections(live)
    asked = [
        [f"{x.event} {x.status} {x.query}{x.body}" for x in y.pop(0, [])] for y in (one, other)
    ]
    asked[1] = [_with_ports(text, ports) for text in asked[1]]
    for first, second in zip_longest(*asked):
        if first != second:
            comparison.found.append(f"http: recorded {first!r}, live {second!r}")
    for number in sorted(one.keys() | other.keys()):
        if number not in other or number not in one:
            only = "not live" if number in one else "only live"
            comparison.found.append(f"connection {number}: {only}")
        else:
            comparison.connection(number, one[number], other[number], ports)
    return comparison.found


def _connections(lines: Iterable[Line]) -> dict[int, list[Line]]:
    found: dict[int, list[Line]] = {}
    for line in lines:
        found.setdefault(line.connection, []).append(line)
    return found
