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
  once. Ports are those of the recording: ``uri('bob', 32071)`` is where that phone really is. When
  something has to wait for the test, ``await told('word')`` waits for :meth:`LiveTestCase.tell`.
* What the phones did is a chain of steps of ``phones.Caller`` and ``phones.Callee``, which send the
  headers that the recorded phones sent. Steps should wait for messages; pauses are for what has no
  other cause.
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
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from twisted.internet import reactor as _reactor
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.protocol import Protocol
from twisted.web.server import Site

from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.wire.frames import encode_frame
from tests.interop.live.compare import Names, differences
from tests.interop.live.phones import Callee, Caller
from tests.interop.live.relay import Log, Relay, RoutingServer
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
    patience = 20
    """Seconds that a call may take."""

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
        self.log = Log(reactor)
        found = b"".join(
            line.frame + line.query.encode() + line.body.encode() for line in self.recorded
        )
        ports = {int(port) for port in re.findall(rb"(?<!\d)32\d{3}(?!\d)", found)}
        self.ports = {port: free_port() for port in sorted(ports - _MEDIA | {SIP, CALLER})}
        if routing:
            settings["request_handlers"] = (RequestHandler(await self._routing(routing)),)
        self.server = DrachtioServer(
            ServerConfig(
                admin_port=0,
                contacts=(f"sip:127.0.0.1:{self.ports[SIP]};transport=udp,tcp",),
                version=_VERSION,
                **settings,
            ),
            reactor,
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
        listening = await endpoint.listen(Relay(self.log, opener, target))
        self.addCleanup(listening.stopListening)
        return cast(int, listening.getHost().port)

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
            await self.log.until(lambda: self.count_routes(self.log.lines, connection) >= routes, 5)
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

    def tell(self, app: Peer, word: str) -> None:
        """Let the application go on: it waits for a word."""
        cast(Any, app.transport).write(f"{word}\n".encode())

    async def app_ends(self, app: Peer, signal: str = "TERM") -> None:
        """Wait until all has happened that did on its connection, and end an application."""
        await self.settled()
        closes = sum(line.event == "close" for line in self.log.lines)
        still = self._count("open") > closes
        app.kill(signal)
        await app.ended
        if still:
            await self.log.until(lambda: self._count("close") > closes, 5)

    def _count(self, event: str) -> int:
        return sum(line.event == event for line in self.log.lines)

    async def settled(self, patience: float = 5.0) -> None:
        """Wait until all connections so far have as many frames as they had then."""

        def frames(lines: Sequence[Line]) -> int:
            return sum(
                line.connection <= self.log.connections
                for line in lines
                if line.event in ("frame", "bytes", "request", "response")
            )

        await self.log.until(lambda: frames(self.log.lines) >= frames(self.recorded), patience)
        await self.rest(0.1)  # for what should not come

    async def by_hand(self, connection: int) -> ByHand:
        """Connect a bare socket, to send what the recorded application sent.

        :param connection: the number of the recorded connection.
        """
        client = ByHand(self, connection)
        self._clients.append(client)
        await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", self.relay_port), client)
        return client

    # The phones

    def _scenario(self, name: str, phone: Caller | Callee) -> str:
        path = self.directory / f"{name}.xml"
        path.write_text(phone.xml(name), "utf-8")
        return str(path)

    def _phone(self, name: str, port: int, phone: Caller | Callee, *arguments: str) -> Peer:
        return self.spawn(
            name,
            need_sipp(),
            *arguments,
            *("-sf", self._scenario(name, phone), "-i", "127.0.0.1", "-p", str(port), "-m", "1"),
            *("-nostdin", "-timeout", f"{self.patience}s", "-timeout_error", "-trace_err"),
            TERM="dumb",
        )

    async def callee(self, phone: Callee | Caller, recorded: int = 32071) -> Peer:
        """Start a phone to be called, and wait until it listens.

        :param recorded: its port in the recording.
        """
        port = self.ports[recorded]
        peer = self._phone(f"callee{recorded}_{len(self._peers)}", port, phone)
        while peer.status is None and not is_bound(port, "udp"):
            await self.rest(0.01)
        return peer

    def calling(self, phone: Caller, *, recorded: int = CALLER, user: str = "app") -> Peer:
        """Start a caller, who begins at once."""
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
        await self.succeeds(self.calling(phone, **options))

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
        await self.log.until(lambda: self._count("close") >= self._count("open"), 5)
        live = {live: recorded for recorded, live in self.ports.items()}
        found = differences(self.recorded, self.log.lines, live)
        known = self.different.get(self.number, ())
        for entry in known:
            if any(re.search(entry.pattern, one) for one in found):
                self.assertIn(entry.documented, _documented())
            else:
                self.fail(f"not different any more: {entry.pattern}")
        left = [one for one in found if not any(re.search(entry.pattern, one) for entry in known)]
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


def _documented() -> str:
    text = (ROOT / "docs" / "differences.md").read_text("utf-8")
    return " ".join(text.split())


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
                await case.log.until(lambda count=count: self._heard() >= count, 5)  # type: ignore[misc]
                self._send(line, past)
            self._at += 1

    async def answered(self) -> None:
        """Wait until all that was sent was answered, or the connection was closed."""

        def done() -> bool:
            said = [(line, line.frame.split(b"|")) for line in self._said()]
            told = {tokens[2] for _, tokens in said if b"response" in tokens[1:2]}
            return self._asked <= told or any(line.event == "close" for line, _ in said)

        await self._case.log.until(done, 5)

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

    def _heard(self) -> int:
        return sum(
            line.sender == "server" and line.event in ("frame", "bytes") for line in self._said()
        )

    def close(self) -> None:
        """Close the connection."""
        if self.transport is not None:
            self.transport.loseConnection()
