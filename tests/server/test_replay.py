"""Recordings of a real server, played to ours: what the network and the application sent then.

The recordings were made between server and application, so what came from the network is known
from what the server handed on. Names that a server makes (transaction ids, tags, branches,
Call-IDs, numbers) differ; they are learnt from the answers, and what was recorded is told in our
names.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.server.config import RequestHandler
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_message
from tests.server.doubles import Bench, Link
from tests.transcripts import Line, transcript

# Header lines that tell sizes.
_MADE = ("content-length",)

TALKATIVE = frozenset((38, 41))
"""Recordings in which the real server died or fell silent, where ours answers."""

DIFFERENT = {
    # The final NOTIFY of a subscription may be answered; the real server has answered it 500.
    (22, "Response not sent due to unknown transaction"),
}
"""Refusals of the real server that ours does not share."""


MOVED = {18: ("sip:alice@127.0.0.1:32070", "sip:bob@127.0.0.1:32070")}
"""Recordings in which the peer gives another Contact later: the real server goes on with the first,
ours with the new one."""


class Player:
    """Plays one recording."""

    def __init__(self, test: ReplayTests, number: int) -> None:
        self.test = test
        self.number = number
        self.lines = transcript(number)
        handlers: tuple[RequestHandler, ...] = ()
        if any(line.event == "open" and line.sender == "server" for line in self.lines):
            handlers = (RequestHandler("tcp://127.0.0.1:3001"),)
        cdrs = any(b"|cdr:" in line.frame for line in self.lines)
        self.bench = Bench(
            request_handlers=handlers,
            cdrs=cdrs,
            version="v0.9.10-1-g9c2dd4cb6a",
            # The real server sends long requests over UDP, in recording 38.
            udp_mtu=None,
        )
        self.names: dict[str, str] = {}
        self.links: dict[int, Link] = {}
        self.pending: dict[int, list[str]] = {}
        self.fed: set[int] = set()
        self.protocols: dict[str, str] = {}
        self.compared = 0
        self.acknowledged = 0

    # Names

    def ours(self, text: str) -> str:
        """Put our names into what was recorded."""
        for theirs in sorted(self.names, key=len, reverse=True):
            text = text.replace(theirs, self.names[theirs])
        return text

    def learn(self, theirs: str | None, ours: str | None) -> None:
        """Take note of two names for one thing."""
        if theirs and ours and theirs != ours:
            self.names[theirs] = ours

    def learn_message(self, theirs: str, ours: str) -> None:
        """Take note of the names in a message that both servers sent."""
        one, other = parse_message(theirs.encode()), parse_message(ours.encode())
        if isinstance(one, Request) and one.method != "CANCEL":
            self.learn(one.vias[0].branch, other.vias[0].branch) if one.has("Via") else None
            self.learn(one.get("Call-ID"), other.get("Call-ID"))
            number = str(one.cseq.number)
            if len(number) > 6:
                self.learn(number, str(other.cseq.number))
            self.learn(one.from_.tag, other.from_.tag)
        elif isinstance(one, Response):
            self.learn(one.vias[0].branch, other.vias[0].branch)
            self.learn(one.to.tag, other.to.tag)
            self.learn(one.get("RSeq"), other.get("RSeq"))

    # Playing

    def play(self) -> None:
        """Play all."""
        clock = self.bench.clock
        for at, line in enumerate(self.lines):
            if clock.seconds() < line.time:
                clock.advance(line.time - clock.seconds())
                self.collect()
            event = line.event
            if event == "open":
                self.open(at, line)
            elif event == "close":
                # Where the real server died, ours goes on; the application was gone all the same.
                self.links[line.connection].close()
            elif event == "bytes":
                self.links[line.connection].protocol.dataReceived(line.frame)
            elif event == "frame" and line.sender == "app":
                self.say(line)
            elif event == "frame":
                self.hear(at, line)
            self.collect()
        self.collect()
        left = [frame for frames in self.pending.values() for frame in frames]
        if self.number not in TALKATIVE:
            self.test.assertEqual(left, [], "the server said more than was recorded")
        self.test.assertGreater(self.compared, 0)

    def open(self, at: int, line: Line) -> None:
        """Open a connection; before the server does, there is the request that it is for."""
        conn = line.connection
        self.pending[conn] = []
        if line.sender == "app":
            self.links[conn] = self.bench.link()
            return
        for later in range(at, len(self.lines)):
            frame = self.lines[later]
            if frame.connection == conn and b"|sip|network|" in frame.frame:
                self.feed(later, frame.frame.decode("utf-8"))
                break
        self.links[conn] = self.bench.dial()

    def say(self, line: Line) -> None:
        """Let the application send what it sent then."""
        frame = self.ours(line.frame.decode("utf-8"))
        self.links[line.connection].send(frame.encode())

    def collect(self) -> None:
        """Take what our server says."""
        self.acknowledge()
        for conn, link in self.links.items():
            self.pending[conn] += link.take()

    def acknowledge(self) -> None:
        """Acknowledge failures as every phone does; that is nowhere recorded."""
        sent = self.bench.wire.sent
        while self.acknowledged < len(sent):
            flow, data = sent[self.acknowledged]
            self.acknowledged += 1
            message = parse_message(data)
            if not isinstance(message, Response) or message.status < 300:
                continue
            if message.cseq.method == "INVITE":
                ack = Request("ACK", f"sip:app@127.0.0.1:{flow.local_port}")
                for name in ("Via", "From", "To", "Call-ID"):
                    ack.set(name, message.get(name) or "")
                ack.set("CSeq", f"{message.cseq.number} ACK")
                self.bench.core.sip_received(ack, flow, len(bytes(ack)))

    def feed(self, at: int, frame: str) -> None:
        """Let come from the network what came then."""
        if at in self.fed:
            return
        self.fed.add(at)
        head, _, text = frame.partition("\r\n")
        tokens = head.split("|")
        port = int(tokens[6])
        protocol = tokens[4] or self.protocols.get(tokens[6], "udp")
        self.protocols[tokens[6]] = protocol
        raw = self.ours(text).encode("utf-8", "surrogateescape")
        self.bench.receive(raw, port, protocol, int(tokens[3]))

    def feed_target(self, frame: str, size: int, port: int) -> None:
        """Let the target of a proxied request respond as it did then."""
        text = frame.partition("\r\n")[2]
        sent = [
            Request.from_bytes(data)
            for flow, data in self.bench.wire.sent
            if flow.remote_port == port and not data.startswith(b"SIP/2.0")
        ]
        invite = [one for one in sent if one.method == "INVITE"][-1]
        theirs = re.search(r"branch=([^;, ]+)", text)
        assert theirs is not None, text
        self.learn(theirs[1], invite.vias[0].branch)
        raw = self.ours(text).encode("utf-8", "surrogateescape")
        self.bench.receive(raw, port, "udp", size)
        self.collect()

    def feed_next(self, at: int) -> bool:
        """Feed what came from the network next: a record may have been written before it."""
        for later in range(at + 1, min(at + 4, len(self.lines))):
            line = self.lines[later]
            frame = line.frame.decode("utf-8", "replace")
            if later not in self.fed and re.match(r"[^|]*\|sip\|network\|[1-9]", frame):
                self.feed(later, frame)
                self.collect()
                return True
            tokens = frame.partition("\r\n")[0].split("|")
            if later not in self.fed and tokens[-1] == "continue":
                self.fed.add(later)
                self.feed_target(frame, int(tokens[5]), int(tokens[8]))
                return True
        frame = self.lines[at].frame.decode("utf-8", "replace")
        if at not in self.fed and re.match(r"[^|]*\|cdr:stop\|network\|[^\r]*\r\nBYE ", frame):
            # Of a call that is proxied the application sees no BYE; but the record has it.
            self.fed.add(at)
            text = self.ours(frame.partition("\r\n")[2])
            text = text.replace("\r\nFrom:", "\r\nRoute: <sip:127.0.0.1:32060;lr>\r\nFrom:", 1)
            self.bench.receive(text.encode("utf-8", "surrogateescape"), 32070)
            self.collect()
            return True
        return False

    def hear(self, at: int, line: Line) -> None:
        """Expect of our server what the real one said."""
        frame = line.frame.decode("utf-8")
        if "|response|ppp" in frame:
            return  # what is left of a frame that the real server overwrote
        tokens = frame.partition("\r\n")[0].split("|")
        if tokens[1] == "sip" and tokens[2] == "network":
            if tokens[3] == "0":
                self.fail(frame)
            else:
                self.feed(at, frame)
            self.collect()
        if tokens[1] == "response" and tokens[-1] == "continue" and at not in self.fed:
            self.feed_target(frame, int(tokens[5]), int(tokens[8]))
        key = self.ours(tokens[2]) if tokens[1] == "response" else None
        expected = self.ours(frame)
        waiting = self.pending[line.connection]
        while True:
            for index, got in enumerate(waiting):
                if self.fits(expected, got, key):
                    del waiting[index]
                    self.compare(frame, got)
                    return
            if not self.feed_next(at):
                break
        self.test.fail(f"the server did not say\n{expected}\nbut only\n" + "\n".join(waiting))

    def fail(self, frame: str) -> None:
        """Let a request fail as it did then."""
        if " 408 " in frame:
            return  # time does that
        if "503 DNS Error" in frame:
            self.bench.answer_all({})
            return
        flow, data = self.bench.wire.sent[-1]
        self.bench.core.sip_send_failed(flow, OSError("refused"), data)

    def fits(self, expected: str, got: str, key: str | None) -> bool:
        """Whether a frame of ours is the counterpart of one that was recorded."""
        line, _, text = got.partition("\r\n")
        tokens = line.split("|")
        if key is not None:
            return tokens[1] == "response" and tokens[2] == key
        other, _, wanted = expected.partition("\r\n")
        return tokens[1] == other.split("|")[1] and (
            text.partition("\r\n")[0] == wanted.partition("\r\n")[0]
        )

    def compare(self, recorded: str, got: str) -> None:
        """Compare two frames, but for the names that a server makes."""
        self.compared += 1
        if (self.number, recorded.rpartition("|")[2]) in DIFFERENT:
            self.test.assertIn("|OK|", got)
            return
        one, _, theirs = recorded.partition("\r\n")
        other, _, ours = got.partition("\r\n")
        tokens, mine = one.split("|"), other.split("|")
        if tokens[1] == "sip" and not self.names.get(tokens[8]):
            self.learn(tokens[8], mine[8])
        if tokens[1] == "response" and len(tokens) > 10:
            self.learn(tokens[10], mine[10])
        old, new = MOVED.get(self.number, ("", ""))
        if new and new in ours.partition("\r\n")[0]:
            theirs = theirs.replace(old, new, 1)
        if theirs:
            self.learn_message(theirs, ours)
        left = [self.ours(token) for token in tokens]
        for index in (0, 7) if tokens[1] == "sip" else (0, 9) if len(tokens) > 9 else (0,):
            left[index] = mine[index]
        if tokens[1] == "sip" and tokens[2] == "application":
            left[3] = mine[3]
        if tokens[1].startswith("cdr:"):
            left[3] = mine[3]
        if tokens[1] == "response" and len(tokens) > 9:
            # The length depends on the names; only nothing sent is nothing sent.
            left[5] = mine[5] if (tokens[5] == "0") == (mine[5] == "0") else left[5]
        self.test.assertEqual("|".join(mine), "|".join(left), recorded)
        if theirs:
            self.test.assertEqual(_shape(ours), _shape(self.ours(theirs)), recorded)


def _shape(text: str) -> list[str]:
    """Give what counts of a message: its lines, the headers in any order."""
    head, _, body = text.partition("\r\n\r\n")
    start, *lines = head.split("\r\n")
    lines = [re.sub(r"\s*:\s*", ": ", line, count=1) for line in lines]
    # The real server puts a blank behind the commas of credentials.
    lines = [
        re.sub(r",(?=[a-z])", ", ", line) if "uthorization: " in line else line for line in lines
    ]
    # Whether an address without a name stands in brackets makes no difference.
    lines = [re.sub(r"^To: (sip:[^;]*)", r"To: <\1>", line) for line in lines]
    # The real server passes requests of proxied dialogs on without counting Max-Forwards down.
    if start.startswith("BYE ") and sum(line.startswith("Via") for line in lines) > 1:
        lines = [line for line in lines if not line.startswith("Max-Forwards")]
    kept = [line for line in lines if line.partition(":")[0].lower() not in _MADE]
    return [start, *sorted(kept, key=str.lower), body]


class ReplayTests(SynchronousTestCase):
    """One test for each recording."""

    maxDiff = None

    def play(self, number: int) -> None:
        """Play a recording."""
        Player(self, number).play()


def _add(number: int) -> None:
    def test(self: ReplayTests) -> None:
        self.play(number)

    test.__doc__ = f"Recording {number:02d}: our server says what the real one said."
    setattr(ReplayTests, f"test_{number:02d}", test)


NUMBERS = [*range(1, 29)]
NUMBERS += [32, 33, 34, 35, 36, 37, 38, 39, 40, 41]
for _number in NUMBERS:
    _add(_number)
