"""Plays recordings to applications.

What a server sent then is sent again, with the names of our commands in place of those recorded;
what the application sent then is what it has to send now. A server tells by its echoes what it made
of a message, so that those of our messages that differ in words, but not in meaning, from those
recorded are compared in meaning: start line, body, and the headers that the application gave.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app.srf import Srf
from drachtwist.net.endpoints import Connect, Listen
from drachtwist.sip import digest
from drachtwist.testing.clock import SimulatedClock
from drachtwist.testing.recording import Line, read_recording
from drachtwist.testing.streams import address
from drachtwist.wire.frames import FrameDecoder, encode_frame

__all__ = ["READS", "Mismatch", "Player"]

READS = ("single", "together", "batched", "cut")
"""How the frames of the server come: each in a read of its own, those together that came together,
all up to the application's next word, and cut into small pieces."""

# What the server supplies, so that applications of different make differ in it.
_SUPPLIED = frozenset({"call-id", "cseq", "from", "to", "content-length"})

# Words that say nothing: a body that begins with v=0 is SDP, whether somebody says so or not.
_SDP = "application/sdp"


class Mismatch(AssertionError):
    """The application said something else than was recorded."""


class _End(StringTransport):
    """The application's end of a connection; it closes a moment after it was asked to."""

    def __init__(self, clock: Clock, protocol: Any) -> None:
        super().__init__(peerAddress=address("10.0.0.1", 9022))
        self._clock = clock
        self._protocol: Any = protocol

    def loseConnection(self) -> None:
        """Close, but let what was read be worked on first."""
        if not self.disconnecting:
            super().loseConnection()
            self._clock.callLater(0, self.lose)

    def abortConnection(self) -> None:
        """Close, whatever is still to be written."""
        self.disconnecting = True
        self._clock.callLater(0, self.lose)

    def lose(self) -> None:
        """Tell the protocol that the connection is gone."""
        if self.connected:
            self.connected = False
            protocol, self._protocol = self._protocol, None
            protocol.connectionLost(Failure(ConnectionDone()))


class _Link:
    """One connection of a recording."""

    def __init__(self, player: Player, protocol: Any) -> None:
        self.protocol = protocol
        self.transport = _End(player.clock, protocol)
        self._decoder = FrameDecoder()
        self.pending: list[str] = []
        """What our application sent, and nothing of what was recorded matched yet."""
        self.routes: list[str] = []
        protocol.makeConnection(self.transport)

    def collect(self) -> None:
        """Take what our application sent."""
        data = self.transport.value()
        self.transport.clear()
        self.pending += [frame.decode("utf-8") for frame in self._decoder.feed(data)]


class Player:
    """Plays one recording to one application.

    :param recording: the file, or what :func:`read_recording` made of it.
    :param srf: the application, which is not connected; :meth:`start` connects it.
    :param reads: how frames are put into reads, one of :data:`READS`.
    :raises ValueError: for a file that is no recording, and for other reads.
    """

    def __init__(
        self,
        recording: str | os.PathLike[str] | Sequence[Line],
        srf: Srf,
        *,
        reads: str = "single",
    ) -> None:
        if reads not in READS:
            raise ValueError(f"reads are one of {', '.join(READS)}, not {reads!r}")
        if isinstance(recording, str | os.PathLike):
            recording = read_recording(Path(recording))
        self.srf = srf
        self.reads = reads
        self.clock = SimulatedClock()
        """The time of the application."""
        self.lines = recording
        self.opened: list[_Link] = []
        self.links: dict[int, _Link] = {}
        self.listening: list[Any] = []
        self.ids: dict[str, str] = {}
        self.needless = _needless(recording)
        self.compared = 0
        """How many commands were compared."""
        self.skipped: list[str] = []
        """Recorded commands that ours does without."""
        self.extra: list[str] = []
        """Commands of ours that were not recorded, and may be there."""
        self._before = srf._connections.run_on(self.clock)
        self._started = False

    # What applications use

    def sleep(self, seconds: float) -> Deferred[None]:
        """Wait."""
        return deferLater(self.clock, seconds, lambda: None)

    def start(self, **options: Any) -> None:
        """Connect, or listen, as the recording has it; :meth:`play` does that otherwise.

        :param options: of :meth:`Srf.connect` or :meth:`Srf.listen`.
        """
        self._started = True
        options.setdefault("secret", "cymru")
        options.setdefault("ping_interval", None)
        endpoint: Any = self
        if any(line.event == "open" and line.sender == "server" for line in self.lines):
            self.srf.listen(Listen(endpoint, "memory", False), **options)
        else:
            self.srf.connect(Connect(endpoint, "memory", False), **options)

    # The endpoint

    def connect(self, factory: Any) -> Deferred[Any]:
        """Make a connection."""
        protocol = factory.buildProtocol(address("127.0.0.1", 9022))
        self.opened.append(_Link(self, protocol))
        return succeed(protocol)

    def listen(self, factory: Any) -> Deferred[Any]:
        """Wait for connections."""
        self.listening.append(factory)
        return succeed(self)

    def getHost(self) -> Any:
        """Return the address."""
        return address("127.0.0.1", 9023)

    def stopListening(self) -> None:
        """Wait no more."""

    # Playing

    def play(self) -> None:
        """Play all; nothing may be left in the end.

        :raises Mismatch: when the application says something else than was recorded.
        """
        if not self._started:
            self.start(secret=self._secret())
        lines = [line for line in self.lines if line.sender != "http"]
        at = 0
        while at < len(lines):
            line = lines[at]
            self.advance(line.time)
            at += 1
            if line.event == "open":
                self.open(line)
            elif line.event == "close":
                self.close(line)
            elif line.sender == "app":
                self.expect(line)
            else:
                batch = [line]
                while at < len(lines) and self.belongs(batch[-1], lines[at]):
                    batch.append(lines[at])
                    at += 1
                self.feed(batch)
        left = [frame for link in self.links.values() for frame in link.pending]
        heads = [head_of(frame) for frame in left]
        if heads != self.extra:
            raise Mismatch(f"the application said more than was recorded: {heads}")

    def stop(self) -> None:
        """Stop the application; it may be connected elsewhere then."""
        self.srf.stop().addErrback(lambda _: None)
        self.clock.advance(60)
        self.srf._connections.run_on(self._before)

    def _secret(self) -> str:
        """Return the secret that was shown."""
        for line in self.lines:
            words = line.frame.split(b"|")
            if line.sender == "app" and words[1:2] == [b"authenticate"]:
                return words[2].decode("utf-8", "surrogateescape")
        return "cymru"

    def belongs(self, one: Line, other: Line) -> bool:
        """Return whether two frames come in one read."""
        if other.event != "frame" or other.sender != "server":
            return False
        if one.connection != other.connection or self.reads in ("single", "cut"):
            return False
        return self.reads == "batched" or other.time - one.time < 0.002

    def advance(self, time: float) -> None:
        """Let time pass."""
        if time > self.clock.seconds():
            self.clock.advance(time - self.clock.seconds())
        for link in self.links.values():
            link.collect()

    def open(self, line: Line) -> None:
        """Take the connection that our application made, or make one."""
        if line.sender == "server":
            self.connect(self.listening[0])
        if not self.opened:
            self.advance(line.time + 1)  # it takes more time than Node to come back
        self.links[line.connection] = self.opened.pop(0)

    def close(self, line: Line) -> None:
        """Lose a connection."""
        link = self.links[line.connection]
        link.collect()
        link.transport.lose()

    def feed(self, batch: list[Line]) -> None:
        """Let the server say something."""
        link = self.links[batch[0].connection]
        payloads = []
        for line in batch:
            frame = line.frame.decode("utf-8")
            tokens = frame.split("|", 3)
            if tokens[1] == "response":
                ours = self.ids.get(tokens[2])
                if ours is None:
                    continue  # the answer to what we do not send
                tokens[2] = ours
                frame = "|".join(tokens)
            payloads.append(frame.encode())
        data = b"".join(encode_frame(payload, limit=None) for payload in payloads)
        if self.reads == "cut":
            for start in range(0, len(data), 11):
                link.protocol.dataReceived(data[start : start + 11])
        elif data:
            link.protocol.dataReceived(data)
        link.collect()

    def expect(self, line: Line) -> None:
        """See to it that our application says what was said then.

        :raises Mismatch: when it does not.
        """
        link = self.links[line.connection]
        link.collect()
        frame = line.frame.decode("utf-8")
        message_id, _, recorded = frame.partition("|")
        if message_id in self.needless:
            self.skipped.append(recorded)
            return
        for at, pending in enumerate(link.pending):
            our_id, _, ours = pending.partition("|")
            if self.matches(recorded, ours):
                del link.pending[at]
                self.ids[message_id] = our_id
                if recorded.startswith("route|"):
                    link.routes.append(recorded[6:])
                elif recorded.startswith("remove_route|"):
                    link.routes.clear()
                elif recorded.startswith("sip|"):
                    self.compare(recorded, ours)
                self.compared += 1
                return
        if recorded.startswith("route|") and recorded[6:] in (*link.routes, "bye"):
            self.skipped.append(recorded)  # routes are not repeated; one for BYE does nothing
            return
        pending = "\n".join(link.pending) or "nothing"
        raise Mismatch(f"expected\n{recorded}\nbut there is\n{pending}")

    def matches(self, recorded: str, ours: str) -> bool:
        """Return whether a command of ours is the counterpart of one that was recorded."""
        if not recorded.startswith("sip|"):
            if recorded.startswith("remove_route|"):
                return ours.startswith("remove_route|")  # the server does not look further
            return recorded == ours
        line, _, message = recorded.partition("\r\n")
        other, _, text = ours.partition("\r\n")
        return line == other and _start(line, message) == _start(other, text)

    def compare(self, recorded: str, ours: str) -> None:
        """Compare two messages in meaning.

        :raises Mismatch: when they differ.
        """
        theirs, mine = message_of(recorded), message_of(ours)
        in_dialog = not recorded.startswith("sip|||") and not recorded.startswith("sip||\r\n")
        given = _given(mine, in_dialog)
        if in_dialog and _says_where(theirs) and not theirs.has("Contact"):
            # Node leaves it to the server, which writes none there.
            given = [one for one in given if one[0] != "contact"]
        for what, ours_is, theirs_is in (
            ("body", mine.body, theirs.body),
            ("Content-Length", mine.get("Content-Length"), str(len(mine.body))),
            ("headers", given, _given(theirs, in_dialog)),
        ):
            if ours_is != theirs_is:
                raise Mismatch(
                    f"another {what}: {ours_is!r} instead of {theirs_is!r}\n{recorded}"
                    f"\n--- ours:\n{ours}"
                )


def _says_where(message: sip.Message) -> bool:
    """Say whether a message should have a Contact (RFC 3311 section 5, RFC 6665 section 4.1.3)."""
    if isinstance(message, sip.Request):
        return message.method in ("NOTIFY", "UPDATE")
    return (message.get("CSeq") or "").endswith("UPDATE")


def _start(line: str, message: str) -> str:
    """Return what counts of a start line: the server replaces the URIs of requests in dialogs."""
    start = message.partition("\r\n")[0]
    method, second, *_ = start.split(" ", 2)
    if method == "SIP/2.0":
        # Node calls the 183 otherwise than everybody else.
        return start.replace("Session in Progress", "Session Progress")
    return method if line.split("|")[2] else f"{method} {second}"


def _needless(lines: Sequence[Line]) -> set[str]:
    """Return the ids of the ACKs that the server refused, because it sends those by itself."""
    return {
        line.frame.decode("utf-8").split("|")[2]
        for line in lines
        if b"|NOK|Server error: ACK for non-success" in line.frame
    }


def head_of(frame: str) -> str:
    """Return the method or the status of a message; of other commands the whole."""
    line, _, message = frame.partition("\r\n")
    return message.split(" ", 2)[0 if not message.startswith("SIP/") else 1] or line


def message_of(command: str) -> sip.Request | sip.Response:
    """Return the message of a command."""
    return sip.parse_message(command.partition("\r\n")[2].encode())


def _given(message: sip.Message, in_dialog: bool) -> list[tuple[str, str]]:
    """Return the headers that the application gave."""
    left_out = _SUPPLIED if in_dialog else {"content-length"}
    found: list[tuple[str, str]] = []
    for name, value in message.headers.items():
        name = name.lower()
        if name in left_out or (name == "content-type" and value == _SDP):
            continue
        if name.endswith("authorization"):
            if in_dialog:
                continue  # what the INVITE was asked for is kept for its dialog, not so in Node
            value = _proof(value)
        if name == "subscription-state" and any(one == name for one, _ in found):
            continue  # Node's ``destroy`` sends a second one, which no reader takes notice of
        found.append((name, value))
    return sorted(found)


def _proof(value: str) -> str:
    """Return what of credentials does not depend on chance."""
    given = digest.Credentials.parse(value)
    kept = {
        name: given.params.text(name)
        for name in ("username", "realm", "nonce", "uri", "algorithm", "qop", "nc", "opaque")
    }
    if given.cnonce is None:
        kept["response"] = given.response
    return f"{given.scheme} {kept}"
