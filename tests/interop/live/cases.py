"""Tests that live through recordings again: real client, real phones, our server.

Each recording in ``tests/data/transcripts`` has a test that does with our server what was done
with the real one: the Node reference client (or, where that was so, a bare socket) is the
application, SIPp the phones. A relay in the test's process stands between application and server
and writes down what passes; :mod:`compare` compares that with the recording.

To add a recording:

* Tests, applications and known differences are in three parts, by number: ``test_live_01_14.py``
  with ``app_01_14.js``, and likewise ``15_27`` and ``28_40``.
* What the application did is a function in ``app_...js``, under the number of the recording. It
  makes an ``Srf`` with ``connect()`` or ``listen()`` of ``common.js`` and hooks up its handlers at
  once: those of a dialog in the callback that gets it, since what the peer sends next may come in
  the same read. Ports are those of the recording: ``uri('bob', 32071)`` is where that phone really
  is. What the application did of its own accord waits for :meth:`LiveTestCase.tell`, as in
  ``await told('sip INVITE')``.
* What the phones did is a chain of steps of ``phones.Caller`` and ``phones.Callee``, which send the
  headers that the recorded phones sent. What a phone sends of its own accord, and not because of a
  message, it sends after ``then()``: when all has come that came before that in the recording, and
  the application has dealt with it. There are no pauses: a pause that is long enough here is too
  short on a busy machine.
* For the same reason the server's clock stands still, but for what :meth:`LiveTestCase.later` lets
  pass, and phones send nothing twice.
* The test itself begins with :meth:`LiveTestCase.begin`, starts called phones
  (:meth:`~LiveTestCase.callee`), then the application (:meth:`~LiveTestCase.app`, which returns
  when its routes are known), then callers (:meth:`~LiveTestCase.caller`, which returns when the
  call is over), and ends with :meth:`~LiveTestCase.compare`. Where a recording has several
  connections, one after the other, :meth:`~LiveTestCase.app_ends` stands between them.
* A recorded application that was no Node client is replayed by :meth:`LiveTestCase.by_hand`, in
  the names of the live run.
* A difference that is meant to be goes into ``different`` of the test case, as a pattern of the
  complaint and as words of ``docs/differences.md`` that explain it. An entry that matches nothing
  fails, too.
"""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.python.failure import Failure
from twisted.web.server import Site

from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.wire.frames import encode_frame
from tests.interop.live.compare import Names, differences, title_of
from tests.interop.live.phones import Callee, Caller, Turn
from tests.interop.live.relay import Log, Relay, RoutingServer
from tests.interop.live.standing import StandingReactor
from tests.interop.peers import (
    ROOT,
    InteropTestCase,
    Peer,
    free_port,
    is_bound,
    need_node,
    need_sipp,
)
from tests.transcripts import Line, transcript

__all__ = ["ByHand", "Different", "LiveTestCase"]

HERE = Path(__file__).parent
reactor = cast(Any, _reactor)

SIP, CALLER, WEB = 32060, 32070, 0
_MEDIA = frozenset((32400, 32410, 32500, 32600, 32700))
_VERSION = "v0.9.10-1-g9c2dd4cb6a"
_PATIENCE = 60.0
"""Seconds after which nothing comes any more; only a test that fails waits so long."""


class Different(NamedTuple):
    """A difference that is meant to be."""

    pattern: str
    """What to find in the complaint, a regular expression."""
    documented: str
    """Words of ``docs/differences.md`` that explain it."""


class LiveTestCase(InteropTestCase):
    """Runs recordings live."""

    application = ""
    """The file of the Node applications."""
    different: Mapping[int, Sequence[Different]] = {}
    """The differences that are meant to be, for each recording."""
    timeout = 180
    # The stage

    async def begin(
        self, number: int, routing: Sequence[tuple[int, str]] = (), **settings: Any
    ) -> None:
        """Start server and relay for a recording.

        :param routing: what the routing web server answers: a status and a body, in which ports
            are those of the recording. With any, the server connects to the application.
        :param settings: more of the server's.
        """
        need_sipp()
        need_node()
        self.number = number
        self._clients: list[ByHand] = []
        self._held: dict[Peer, Deferred[None]] = {}
        self._asked = 0
        self.log = Log(reactor)
        found = b"".join(
            line.frame + line.query.encode() + line.body.encode() for line in self.recorded
        )
        ports = {int(port) for port in re.findall(rb"(?<!\d)32\d{3}(?!\d)", found)}
        self.ports = {port: free_port() for port in sorted(ports - _MEDIA | {SIP, CALLER})}
        if routing:
            settings["request_handlers"] = (RequestHandler(await self._routing(routing)),)
        self._reactor = StandingReactor(reactor)
        self.server = DrachtioServer(
            ServerConfig(
                admin_port=0,
                contacts=(f"sip:127.0.0.1:{self.ports[SIP]};transport=udp,tcp",),
                version=_VERSION,
                **settings,
            ),
            self._reactor,
        )
        self.server.startService()
        self.addCleanup(self.server.stopService)
        await self.server.when_listening()
        assert self.server.admin_port is not None
        self.target = TCP4ClientEndpoint(reactor, "127.0.0.1", self.server.admin_port)
        self.relay_port = await self.relay("app", self.target)

    @property
    def recorded(self) -> tuple[Line, ...]:
        """The recording."""
        return transcript(self.number)

    async def relay(self, opener: str, target: Any, port: int = 0, endpoint: Any = None) -> int:
        """Put a relay in between, and give its port.

        :param opener: who connects to it: ``app`` or ``server``.
        :param target: the endpoint of the other one.
        :param port: where to listen; at any if 0.
        :param endpoint: where to listen, instead, if it is no TCP port.
        """
        if endpoint is None:
            endpoint = TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")
        self._listening = await endpoint.listen(Relay(self.log, opener, target))
        self.addCleanup(self._listening.stopListening)
        return cast(int, self._listening.getHost().port)

    async def stop_listening(self) -> None:
        """Let nobody connect any more."""
        await maybeDeferred(self._listening.stopListening)

    async def relay_to_app(self, recorded: int, tls: TlsOptions | None = None) -> int:
        """Put a relay before a listening application.

        :param recorded: the port that the recorded server connected to.
        :param tls: with these both sides speak TLS to the relay.
        :returns: the port for the application.
        """
        port = free_port()
        target: Any = TCP4ClientEndpoint(reactor, "127.0.0.1", port)
        endpoint = None
        if tls is not None:
            target = wrapClientTLS(tls.client_creator("127.0.0.1"), target)
            endpoint = SSL4ServerEndpoint(
                reactor, self.ports[recorded], tls.server_context(), interface="127.0.0.1"
            )
        await self.relay("server", target, self.ports[recorded], endpoint)
        return port

    async def _routing(self, answers: Sequence[tuple[int, str]]) -> str:
        told = [(status, self.with_live_ports(body)) for status, body in answers]
        site = Site(RoutingServer(self.log, told))
        site.displayTracebacks = False
        self.web = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(site)
        self.addCleanup(self.web.stopListening)
        return f"http://127.0.0.1:{self.web.getHost().port}/"

    def with_live_ports(self, text: str) -> str:
        """Write real ports for recorded ones."""
        for recorded, live in self.ports.items():
            text = re.sub(rf"(?<!\d){recorded}(?!\d)", str(live), text)
        return text

    # The application

    async def app(
        self,
        scenario: str = "",
        *,
        port: int = 0,
        routes: int | None = None,
        secret: str = "cymru",
        prints: str = "connected",
    ) -> Peer:
        """Start the Node application, and wait until it is ready.

        :param scenario: its name; the number of the recording unless given.
        :param port: where it is to listen; it connects to the server unless given.
        :param routes: how many commands it sends to be ready; as many as it did then unless given.
        :param prints: what it prints when it is ready.
        """
        scenario = scenario or f"{self.number:02d}"
        connection = self.log.connections + 1
        app = self.spawn(
            f"node {self.application} {scenario}",
            need_node(),
            str(HERE / self.application),
            scenario,
            "127.0.0.1",
            str(port or self.relay_port),
            secret,
            json.dumps(self.ports),
        )
        app.ended.addCallback(self._app_ended)
        await app.when_prints("listening" if port else prints)
        if not port:
            if routes is None:
                routes = self.count_routes(self.recorded, connection)
            await self.until(lambda: self.count_routes(self.log.lines, connection) >= routes)
        return app

    def _app_ended(self, status: int) -> int:
        if status > 0:  # it crashed; the phones would wait for it
            for peer in self._peers:
                peer.kill()
        return status

    def count_routes(self, lines: Sequence[Line], connection: int) -> int:
        """Count the routes that a server has confirmed."""
        on = [line.frame for line in lines if line.connection == connection]
        asked = {frame.split(b"|")[0] for frame in on if b"|route|" in frame[:60]}
        return sum(frame.split(b"|")[2] in asked for frame in on if b"|response|" in frame[:60])

    async def tell(self, app: Peer, title: str) -> None:
        """Let the application go on, as soon as all has come that came before it did.

        :param title: what it sends then, which is also the word that it waits for.
        """
        await self.before("app", title)
        cast(Any, app.transport).write(f"{title}\n".encode())

    async def idle(self) -> None:
        """Wait until the applications have dealt with all that has come for them."""
        for _ in range(5):  # turns of the reactor, for it to leave the relay
            await self.rest()
        for app in self._peers:
            if app.name.startswith("node ") and app.status is None:
                self._asked += 1
                cast(Any, app.transport).write(f"idle {self._asked}\n".encode())
                await app.when_prints(f"idle {self._asked}.")

    async def app_ends(self, app: Peer, signal: str = "TERM") -> None:
        """Wait until all has happened that did on its connection, and end an application."""
        await self.settled()
        closes = self._count("close")
        still = self._count("open") > closes
        app.kill(signal)
        await app.ended
        if still:
            await self.until(lambda: self._count("close") > closes)
            await self.noticed()

    async def noticed(self) -> None:
        """Wait until the server has noticed which connections are closed."""
        core = self.server.core
        assert core is not None
        while len(core.clients) > self._count("open") - self._count("close"):
            await self.rest(0.01)

    def _count(self, event: str) -> int:
        return sum(line.event == event for line in self.log.lines)

    # What has come

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to have passed the relay; if it never does, others will complain."""
        await self.log.until(condition, _PATIENCE)

    async def before(self, sender: str, title: str) -> None:
        """Wait until all has come that came before a certain line of the recording.

        :param sender: whose it is: ``app`` or ``server``.
        :param title: what it is, as :mod:`compare` tells it; it is the first one of these that has
            not come yet.
        """
        if not await self._before(sender, title, self._titles(sender)[title]):
            self.fail(f"nothing like {title!r} comes from {sender} any more in the recording")

    async def _before(self, sender: str, title: str, number: int) -> bool:
        """Wait likewise.

        :param number: how many such lines precede it.
        :returns: False, at once, if there is no such line: nobody saw what it would be about.
        """
        wanted = Counter[tuple[int, str]]()
        for line in self.recorded:
            told = title_of(line)
            if (line.sender, told) == (sender, title):
                if not number:
                    break
                number -= 1
            if _is_awaited(told) and 0 < line.connection <= self.log.connections:
                wanted[line.connection, line.sender] += 1
        else:
            return False

        def come() -> bool:
            lines = (line for line in self.log.lines if _is_awaited(title_of(line)))
            return Counter((line.connection, line.sender) for line in lines) >= wanted

        await self.until(come)
        return True

    def _titles(self, sender: str) -> Counter[str]:
        return Counter(title_of(line) for line in self.log.lines if line.sender == sender)

    async def settled(self) -> None:
        """Wait until all has come that is to come on the connections so far."""
        looked_at, end = 0, reactor.seconds() + _PATIENCE
        while reactor.seconds() < end:
            lines = list(self.log.lines)
            if len(lines) > looked_at:
                looked_at = len(lines)
                last = self.log.connections
                closed = {line.connection for line in lines if line.event == "close"}
                # Whoever is still connected will be closed by the test.
                for number in sorted(set(range(1, last + 1)) - closed):
                    lines.append(Line(0.0, number, "app", "close"))
                recorded = [line for line in self.recorded if line.connection <= last]
                left, missing = self._judged(recorded, lines)
                if not left and not (missing and len(recorded) == len(self.recorded)):
                    break
            await self.rest(0.02)
        await self.rest(0.1)  # for what should not come

    def _judged(
        self, recorded: Sequence[Line], lines: Sequence[Line]
    ) -> tuple[list[str], list[Different]]:
        """Compare.

        :returns: differences that are not meant to be, and differences that should be there.
        """
        found = differences(recorded, lines, {live: port for port, live in self.ports.items()})
        known = self.different.get(self.number, ())
        left = [one for one in found if not any(re.search(entry.pattern, one) for entry in known)]
        missing = [
            entry for entry in known if not any(re.search(entry.pattern, one) for one in found)
        ]
        return left, missing

    async def by_hand(self, connection: int) -> ByHand:
        """Connect a bare socket, to send what the recorded application sent.

        :param connection: the number of the recorded connection.
        """
        client = ByHand(self, connection)
        self._clients.append(client)
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.relay_port), client)
        return client

    # The phones

    def later(self, seconds: float) -> None:
        """Let time pass for the server's transactions."""
        self._reactor.clock.advance(seconds)

    def _phone(self, name: str, port: int, phone: Caller | Callee, *arguments: str) -> Peer:
        before = self._titles("server")
        peer = self.spawn(
            name,
            need_sipp(),
            *arguments,
            *("-sf", self.scenario(name, phone), "-i", "127.0.0.1", "-p", str(port), "-m", "1"),
            *("-nostdin", "-timeout", f"{_PATIENCE:.0f}s", "-timeout_error", "-trace_err"),
            *("-trace_logs", "-log_file", str(self._said(name))),
            TERM="dumb",
        )
        if not all(turn.freely for turn in phone.turns):
            self._held[peer] = Deferred()
        leading = Deferred.fromCoroutine(self._lead(peer, port, phone.turns, before))
        leading.addErrback(self._lost, peer)
        return peer

    def _said(self, name: str) -> Path:
        """Where a phone writes what it tells the test."""
        return self.directory / f"{name}_says.log"

    async def heard(self, peer: Peer, word: str) -> str:
        """Wait until a phone has said something.

        :param word: the first ones of a line.
        :returns: what follows on that line; empty if the phone is gone.
        """
        path = self._said(peer.name)
        while peer.status is None:
            text = path.read_text("utf-8") if path.exists() else ""
            for line in text.split("\n")[:-1]:
                if line.startswith(word):
                    return line[len(word) :]
            await self.rest(0.01)
        return ""

    async def _lead(
        self, peer: Peer, port: int, turns: Sequence[Turn], before: Counter[str]
    ) -> None:
        """Let a phone go on whenever it waits."""
        for at, turn in enumerate(turns):
            call_id = await self.heard(peer, f"waits {at} ")
            if peer.status is not None:
                return
            if turn.freely:
                await self._before("server", turn.title, before[turn.title] + turn.number)
                await self.idle()
            else:
                await self._held[peer]
            lines = [
                "GO sip:phone SIP/2.0",
                f"Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK-go{at}",
                "From: <sip:test@127.0.0.1>;tag=go",
                "To: <sip:phone@127.0.0.1>",
                f"Call-ID: {call_id}",
                f"CSeq: {at + 1} GO",
                "Content-Length: 0",
            ]
            with socket.socket(type=socket.SOCK_DGRAM) as sender:
                sender.sendto("\r\n".join([*lines, "", ""]).encode(), ("127.0.0.1", port))

    def _lost(self, failure: Failure, peer: Peer) -> None:
        peer.output += f"\n{failure}".encode()
        peer.kill("KILL")

    def go(self, peer: Peer) -> None:
        """Let a phone go on that waits for the test."""
        self._held[peer].callback(None)

    def silent(self, recorded: int) -> Silent:
        """Start a phone that never answers.

        :param recorded: its port in the recording.
        """
        phone = Silent()
        port = reactor.listenUDP(self.ports[recorded], phone, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return phone

    async def callee(self, phone: Callee | Caller, recorded: int = 32071) -> Peer:
        """Start a phone to be called, and wait until it listens.

        :param recorded: its port in the recording.
        """
        port = self.ports[recorded]
        peer = self._phone(f"callee{recorded}_{len(self._peers)}", port, phone)
        while peer.status is None and not is_bound(port, "udp"):
            await self.rest(0.01)
        return peer

    async def calling(
        self, phone: Caller, *, recorded: int = CALLER, user: str = "app", at_once: bool = False
    ) -> Peer:
        """Start a caller, who begins when all has come that came before that in the recording.

        :param at_once: to begin in any case.
        """
        if not at_once:
            await self._before("server", phone.begins, self._titles("server")[phone.begins])
        return self._phone(
            f"caller_{len(self._peers)}",
            self.ports[recorded],
            phone,
            f"127.0.0.1:{self.ports[SIP]}",
            "-s",
            user,
        )

    async def caller(self, phone: Caller, **options: Any) -> None:
        """Run a caller, who has to succeed."""
        await self.succeeds(await self.calling(phone, **options))

    # The end

    async def compare(self, *peers: Peer) -> None:
        """End what runs, and compare with the recording.

        :param peers: phones that have to succeed first.
        """
        for peer in peers:
            await self.succeeds(peer)
        await self.settled()
        for client in self._clients:
            client.close()
        for peer in self._peers:
            if peer.name.startswith("node ") and peer.status is None:
                peer.kill()
                await peer.ended
        await self.until(lambda: self._count("close") >= self._count("open"))
        left, missing = self._judged(self.recorded, self.log.lines)
        for entry in self.different.get(self.number, ()):
            self.assertIn(entry.documented, _documented())
        if missing:
            self.fail("\n".join(f"not different any more: {one.pattern}" for one in missing))
        if left:
            self.fail("\n".join([f"{len(left)} differences:", *left, self.story()]))

    def story(self) -> str:
        """Tell what happened, for one who looks for a fault."""
        told = [
            f"--- {line.time:.3f} {line.connection or ''} {line.sender} {line.event} "
            f"{line.query or line.body}\n{line.frame.decode('utf-8', 'replace').rstrip()}"
            for line in self.log.lines
        ]
        return "\n".join([*told, *(str(peer) for peer in self._peers if peer.status)])

    async def succeeds(self, peer: Peer) -> None:
        """Wait for a process to end well."""
        status = await peer.ended
        self.assertEqual(status, 0, f"{peer}\n{self.story()}")


def _is_awaited(title: str) -> bool:
    """Whether something has to come before what follows; a record may be about what follows."""
    return not title.startswith("cdr:")


def _documented() -> str:
    text = (ROOT / "docs" / "differences.md").read_text("utf-8")
    return " ".join(text.split())


class Silent(DatagramProtocol):
    """A phone that never answers."""

    def __init__(self) -> None:
        self._calls: list[bytes] = []
        self._awaited: list[Deferred[None]] = []

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """Take note of a call, which may come again."""
        [call] = re.findall(rb"(?im)^Call-ID: *(.+)\r$", datagram)
        if call not in self._calls:
            self._calls.append(call)
            awaited, self._awaited = self._awaited, []
            for each in awaited:
                each.callback(None)

    async def called(self, times: int) -> None:
        """Wait until it has been called so often."""
        while len(self._calls) < times:
            self._awaited.append(Deferred())
            await self._awaited[-1]


class ByHand(Protocol):
    """A bare socket that sends what a recorded application sent, in the names of the live run."""

    def __init__(self, case: LiveTestCase, connection: int) -> None:
        self._case = case
        self._number = case.log.connections + 1
        self._recorded = [
            replace(line, connection=1) for line in case.recorded if line.connection == connection
        ]
        self._names = Names()
        self._at = 0
        self._asked: set[bytes] = set()

    async def play(self, frames: int = 1000) -> None:
        """Send the next frames, or all that are left.

        Each is sent when as many frames have come from the server as had come then.
        """
        case = self._case
        while self._at < len(self._recorded) and frames:
            line = self._recorded[self._at]
            if line.sender == "app" and line.event in ("frame", "bytes"):
                frames -= 1
                past = self._recorded[: self._at]
                count = sum(one.sender == "server" and one.event != "close" for one in past)
                await case.until(lambda count=count: self._heard(count))  # type: ignore[misc]
                self._send(line, past)
            self._at += 1

    async def answered(self) -> None:
        """Wait until all that was sent was answered, or the connection was closed."""

        def done() -> bool:
            said = [(line, line.frame.split(b"|")) for line in self._said()]
            told = {tokens[2] for _, tokens in said if b"response" in tokens[1:2]}
            return self._asked <= told or any(line.event == "close" for line, _ in said)

        await self._case.until(done)

    def _send(self, line: Line, past: list[Line]) -> None:
        said = [replace(one, connection=1) for one in self._said()]
        ports = {live: recorded for recorded, live in self._case.ports.items()}
        differences(past, said, ports, self._names)  # learns the names
        text = self._case.with_live_ports(line.frame.decode("utf-8"))
        data = self._names.live(text).encode("utf-8")
        if data:
            self._asked.add(data.partition(b"|")[0])
        if self.transport is not None:
            self.transport.write(encode_frame(data, None) if line.event == "frame" else data)

    def _said(self) -> list[Line]:
        return [line for line in self._case.log.lines if line.connection == self._number]

    def _heard(self, count: int) -> bool:
        """Whether so many frames have come from the server, or no more will."""
        said = self._said()
        come = sum(line.sender == "server" and line.event in ("frame", "bytes") for line in said)
        return come >= count or any(line.event == "close" for line in said)

    def close(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            self.transport.loseConnection()

    async def closed(self) -> None:
        """Close the connection, and wait until the server has noticed."""
        self.close()
        await self._case.until(lambda: any(line.event == "close" for line in self._said()))
        await self._case.noticed()
