"""The torture messages of RFC 4475 and RFC 5118, sent to a running server over real sockets.

The manifest says what each kind of element makes of each message. The server is all of them, with
an application behind it that does honestly what only an application can: an endpoint, a registrar
with or without passwords, a proxy. A message is answered with a status that the manifest names for
the element, or it is processed where the manifest allows that; then the application has it as it
was sent, and the application's answer, which is marked, comes back, or the forwarded request
arrives. Nothing else is sent to anybody. After each one the server serves a call.

Two things are the server's whatever the application is: a method that nobody knows is answered 501,
and what belongs to a dialog that is not there 481. It forwards neither.

The responses among the messages belong to nothing here, and vanish; what becomes of them where they
are awaited is in :mod:`tests.server.test_torture_responses`.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.trial.unittest import TestCase

from drachtwist import CommandRefused, DrachtwistError, Request, Response, Srf, sip
from drachtwist.demo.phone import Phone
from drachtwist.middleware import DigestAuth, Registrar
from drachtwist.net.sip.flows import Flow, Limits
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.stream import Malformed, StreamParser
from drachtwist.transactions.matching import server_key
from tests.net.test_siptransports import ClockedReactor
from tests.server.phones import has_ipv6, ready
from tests.sip.test_torture import MESSAGES, octets, readings
from tests.websocket import WebSocketPeer, connect

_CALL_ID = re.compile(rb"^(?:call-id|i)[ \t]*:[ \t]*(\S+)", re.I | re.M)
_TOP_VIA = re.compile(rb"\r\nVia: [^\r]*")
_MARK = "X-Processed"
_SESSIONS = ["application/sdp", "multipart/mixed"]
_DOMAIN = "example.com"

REGISTRARS = ("registrar", "authenticating")
"""Applications that keep registrations."""
UNKNOWN_METHODS = ("intmeth", "esc02")
"""Messages whose method no application is given, so that they are not forwarded either."""
EXPLAINED = {401: "WWW-Authenticate", 405: "Allow", 406: "Warning", 415: "Accept"}
"""The header that a response with a status has to have."""
ECHOED = ("call_id", "cseq", "from", "to", "via_count", "via")
"""What the manifest says of a request that is true of its responses too."""
HOP_BY_HOP = {"via_received", "max_forwards", "content_length", "header_field_count"}
"""What the manifest says of a request that a proxy may change."""


def call_id(data: bytes) -> str:
    """Give the first Call-ID of a message; empty when there is none."""
    found = _CALL_ID.search(data)
    return "" if found is None else found[1].decode("utf-8", "surrogateescape")


def known_by(data: bytes) -> set[str]:
    """Give what a server recognises a message by."""
    try:
        return {call_id(data), server_key(sip.Request.from_bytes(data))}
    except DrachtwistError:
        return {call_id(data)}


def facts(entry: dict[str, Any]) -> dict[str, Any]:
    """Give what the manifest says of a message."""
    return entry.get("expect") or entry.get("recoverable") or {}


def without_notes(vias: list[Any]) -> list[Any]:
    """Leave out of the topmost Via what the one who received it writes into it."""
    top = dict(vias[0])
    top["params"] = {
        name: value for name, value in top["params"].items() if name not in ("received", "rport")
    }
    return [top, *vias[1:]]


@dataclass(frozen=True)
class Way:
    """How messages come to the server."""

    protocol: str
    host: str = "127.0.0.1"

    @property
    def is_stream(self) -> bool:
        """Whether only Content-Length separates messages."""
        return self.protocol == "tcp"

    @property
    def is_ipv6(self) -> bool:
        """Whether it is one of IPv6."""
        return ":" in self.host

    def __str__(self) -> str:
        return self.protocol + ("_ipv6" if self.is_ipv6 else "")


UDP = Way("udp")
TCP = Way("tcp")
WS = Way("ws")


@dataclass(frozen=True)
class Wanted:
    """What is right for a message."""

    statuses: set[int] = field(default_factory=set)
    processed: bool = False
    silent: bool = False
    """Whether it need not be answered."""
    closed: bool = False
    """Whether the connection has to end, and with it the message."""
    unanswered: tuple[str, ...] = ()
    """The methods of what is processed all the same."""
    unsupported: list[str] | None = None
    """What a 420 has to name."""

    @classmethod
    def of(cls, entry: dict[str, Any], role: str, way: Way) -> Wanted:
        """Read what the manifest says.

        :param role: ``endpoint``, ``registrar``, ``authenticating`` (a registrar) or ``proxy``.
        """
        if entry["kind"] == "response":
            return cls(silent=True)
        if entry["parser"] == "must_not_break":
            return cls({400}, silent=True)
        if way.is_stream and entry["name"] in ON_STREAMS:
            return ON_STREAMS[entry["name"]]
        known = _elements(entry, role, way)
        self = cls(processed=not known or bool(entry["lenient_accept"]))
        for element in known:
            action = element["action"]
            if action == "respond":
                self = replace(self, statuses=self.statuses | set(element["status"]))
            elif action == "process":
                self = replace(self, processed=True)
            else:
                self = replace(self, statuses={400}, silent=True, closed=action == "close")
            if "unsupported" in element:
                self = replace(self, unsupported=element["unsupported"])
        told = entry.get("expect") or {}
        if self.processed and (told.get("to") or {}).get("tag"):
            self = replace(self, processed=False, statuses=self.statuses | {481})
        if role == "proxy" and entry["name"] in UNKNOWN_METHODS:
            self = replace(self, processed=False, statuses={501})
        return self


ON_STREAMS = {
    # It has no Content-Length: what follows its head cannot be a message.
    "inv2543": Wanted({400}, closed=True),
    # Behind the REGISTER and the INVITE there is more, which is nothing; that ends the connection
    # before the application can have answered.
    "dblreq": Wanted(silent=True, closed=True, unanswered=("REGISTER", "INVITE")),
}
"""What becomes of messages that were written for datagrams."""
WAITING = "clerr"
"""The message whose end a stream waits for; it has a test of its own."""


def _elements(entry: dict[str, Any], role: str, way: Way) -> list[dict[str, Any]]:
    """Give what the manifest says about an element and a transport."""
    kind = "stream" if way.is_stream else "udp"
    name = "registrar" if role == "authenticating" else role
    found = []
    for element in entry["element"]:
        note = element.get("note", "")
        if element["role"] not in ("any", name) or element.get("transport", kind) != kind:
            continue
        if note.startswith("without authentication" if role == "authenticating" else "with auth"):
            continue
        found.append(element)
    return found


class Hearing:
    """One who sends messages to the server, and hears what comes back."""

    transport: Any
    port: int
    """Where it sends from."""

    def begin(self) -> None:
        """Begin to listen."""
        self.heard: list[bytes] = []
        """The messages that came, without those that came again."""
        self.aside: list[bytes] = []
        """Those of them that tell nothing."""
        self.is_gone = False
        """Whether the connection has ended."""
        self._watching: list[tuple[Callable[[], Any], Deferred[None]]] = []

    def emit(self, data: bytes) -> None:
        """Send."""
        raise NotImplementedError

    @property
    def responses(self) -> list[sip.Response]:
        """The responses that came."""
        return [sip.Response.from_bytes(raw) for raw in self.heard if raw not in self.aside]

    @property
    def finals(self) -> list[sip.Response]:
        """The final ones among them."""
        return [response for response in self.responses if response.status >= 200]

    def until(self, done: Callable[[], Any]) -> Deferred[None]:
        """Wait until something is true, which only messages and the end of a connection change."""
        waiting: Deferred[None] = Deferred()
        self._watching.append((done, waiting))
        self.changed()
        return waiting.addTimeout(10, cast(Any, reactor))

    def hear(self, raw: bytes) -> None:
        """Take a message."""
        if raw not in self.heard:
            self.heard.append(raw)
        self.changed()

    def end(self) -> None:
        """Learn that the connection has ended."""
        self.is_gone = True
        self.changed()

    def changed(self) -> None:
        """See who need not wait any more."""
        for entry in list(self._watching):
            if entry[0]():
                self._watching.remove(entry)
                entry[1].callback(None)

    async def see_through(self) -> None:
        """Wait until the server has seen what was sent: until it refuses something behind that."""
        own = secrets.token_hex(8)
        lines = [
            "BYE sip:nobody@127.0.0.1 SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{own}",
            "From: <sip:me@127.0.0.1>;tag=1",
            "To: <sip:nobody@127.0.0.1>;tag=2",
            f"Call-ID: {own}",
            "CSeq: 1 BYE",
            "Content-Length: 0",
        ]
        self.emit("\r\n".join(lines).encode() + b"\r\n\r\n")
        await self.until(lambda: own.encode() in b"".join(self.heard))
        self.aside = [raw for raw in self.heard if own.encode() in raw]


class DatagramHearing(DatagramProtocol, Hearing):
    """One with a socket for datagrams."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.begin()
        self._server = server

    def emit(self, data: bytes) -> None:
        """Send."""
        cast(Any, self.transport).write(data, self._server)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Take a message."""
        self.hear(datagram)


class StreamHearing(Protocol, Hearing):
    """One with a connection."""

    def __init__(self) -> None:
        self.begin()
        self._parser = StreamParser()

    def emit(self, data: bytes) -> None:
        """Send."""
        cast(Any, self.transport).write(data)

    def dataReceived(self, data: bytes) -> None:
        """Take octets."""
        for event in self._parser.feed(data):
            # What a bad request had in its headers is in the answer too.
            assert isinstance(event, (sip.Response, Malformed)), event
            self.hear(event.raw)

    def connectionLost(self, reason: Any = None) -> None:
        """Learn that the connection has ended."""
        self.end()


class WebSocketHearing(WebSocketPeer, Hearing):
    """One in a browser."""

    def __init__(self, host: str, subprotocols: list[str]) -> None:
        super().__init__(host, subprotocols)
        self.begin()

    def emit(self, data: bytes) -> None:
        """Send; as binary what is no text."""
        try:
            self.send(data.decode())
        except UnicodeDecodeError:
            self.send(data)

    def dataReceived(self, data: bytes) -> None:
        """Take octets."""
        super().dataReceived(data)
        for message in self.messages:
            self.hear(message.encode() if isinstance(message, str) else message)
        self.messages.clear()

    def connectionLost(self, reason: Any = None) -> None:
        """Learn that the connection has ended."""
        super().connectionLost(reason)
        self.end()


class Callee(DatagramProtocol):
    """Answers all requests that are forwarded to it."""

    def __init__(self) -> None:
        self.requests: list[sip.Request] = []
        """Those that came, without those that came again."""

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Take a request."""
        request = sip.Request.from_bytes(datagram)
        if request.method == "ACK":
            return
        if all(request.raw != other.raw for other in self.requests):
            self.requests.append(request)
        status = 486 if request.method == "INVITE" else 200
        lines = [f"SIP/2.0 {status} Whatever"]
        lines += [f"Via: {via}" for via in request.get_all("Via")]
        lines += [f"{name}: {request.get(name)}" for name in ("From", "Call-ID", "CSeq")]
        lines += [f"To: {request.get('To')};tag=callee", f"{_MARK}: yes", "Content-Length: 0"]
        text = "\r\n".join(lines) + "\r\n\r\n"
        cast(Any, self.transport).write(text.encode("utf-8", "surrogateescape"), addr)


class Tap:
    """Carriers of which one sees what they are given to send."""

    def __init__(self, carriers: Any) -> None:
        self._carriers = carriers
        self._known: set[bytes] = set()
        self.sent: list[tuple[int, bytes]] = []
        """The port that each message was sent to, and the message, without what is sent again."""

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send over a flow."""
        sent: bool = self._carriers.send(flow, data)
        if sent and data not in self._known:
            self._known.add(data)
            self.sent.append((flow.remote_port, data))
        return sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._carriers, name)


class TortureCase(TestCase):
    """Has a server, an application and a phone."""

    timeout = 120
    registered: dict[str, set[str]]
    """The Contacts that were registered for each address."""

    async def start(self, role: str, way: Way, its_reactor: Any = reactor) -> None:
        """Start them."""
        self.way = way
        shown = f"[{way.host}]" if way.is_ipv6 else way.host
        contacts = ["sip:127.0.0.1:0;transport=udp,tcp"]
        if way not in (UDP, TCP):
            contacts.append(f"sip:{shown}:0;transport={way.protocol}")
        config = ServerConfig(
            admin_port=0,
            contacts=tuple(contacts),
            extensions=frozenset("*") if role == "proxy" else frozenset(),
        )
        self.server = DrachtioServer(config, its_reactor)
        self.server.startService()
        await self.server.when_listening()
        core = self.server.core
        assert core is not None
        self.tap = Tap(core.carriers)
        core.carriers = cast(Any, self.tap)
        self.callee = Callee()
        self.callee_line = cast(Any, reactor).listenUDP(0, self.callee, interface="127.0.0.1")
        self.srf = self.application(role)
        link = await self.srf.connect(
            f"tcp:127.0.0.1:{self.server.admin_port}", secret="cymru"
        ).when_connected()
        await ready(link)
        self.port = self.port_of(UDP)
        self.phone = Phone(("127.0.0.1", self.port), clock=reactor)
        self.line = cast(Any, reactor).listenUDP(0, self.phone, interface="127.0.0.1")
        await self.call()

    def application(self, role: str) -> Srf:
        """Make an application of some kind."""
        srf = Srf()
        self.taken: list[Request] = []
        self.registered = {}
        at = f"sip:127.0.0.1:{self.callee_line.getHost().port}"

        def take(req: Request, res: Response, next: Any) -> None:
            if req.called_number != "service":
                self.taken.append(req)
            next()

        async def answer(req: Request, res: Response) -> None:
            if req.called_number == "service":
                await srf.create_uas(req, res, local_sdp="v=0\r\n")
            elif role == "proxy":
                try:
                    await srf.proxy_request(req, at)
                except CommandRefused:
                    pass  # so was the caller
            else:
                self.respond(req, res)

        srf.use(take)
        if role == "authenticating":
            srf.use(DigestAuth(_DOMAIN, lambda user, realm: None, methods=["REGISTER"]))
        for method in ("invite", "options", "message", "publish", "notify", "info"):
            getattr(srf, method)(answer)
        srf.register(Registrar() if role in ("registrar", "authenticating") else answer)
        return srf

    def respond(self, req: Request, res: Response) -> None:
        """Do what an endpoint does that is no registrar and takes no calls."""
        mark = {_MARK: "yes"}
        if req.method == "REGISTER":
            res.send(405, headers={**mark, "Allow": "INVITE, ACK, CANCEL, OPTIONS, MESSAGE, BYE"})
        elif req.method != "INVITE":
            res.send(200, headers=mark)
        elif (req.get("Content-Type") or "").partition(";")[0].strip().lower() not in _SESSIONS:
            res.send(415, headers={**mark, "Accept": ", ".join(_SESSIONS)})
        elif "application/sdp" not in (req.get("Accept") or "application/sdp"):
            warning = '399 here "the answer would be a session description"'
            res.send(406, headers={**mark, "Warning": warning})
        else:
            res.send(486, headers=mark)

    async def stop(self) -> None:
        """Stop them."""
        await self.line.stopListening()
        await self.callee_line.stopListening()
        await self.srf.stop()
        await self.server.stopService()

    async def call(self) -> None:
        """See that the server serves a call."""
        call = await self.phone.call(f"sip:service@127.0.0.1:{self.port}")
        await call.hang_up()

    def port_of(self, way: Way) -> int:
        """Give the port that the server listens on for a way."""
        assert self.server.transports is not None
        for listener in self.server.transports.listeners:
            if (listener.protocol, listener.host) == (way.protocol, way.host):
                return listener.port
        raise AssertionError(f"no {way}")

    async def sender(self) -> Hearing:
        """Make one who sends to the server."""
        way, port = self.way, self.port_of(self.way)
        if way.protocol == "udp":
            datagrams = DatagramHearing((way.host, port))
            # It stays, as whoever listens for what is sent again would.
            line = cast(Any, reactor).listenUDP(
                0, datagrams, interface=way.host, maxPacketSize=65536
            )
            self.addCleanup(line.stopListening)
            datagrams.port = line.getHost().port
            return datagrams
        made: Hearing
        if way.protocol == "ws":
            made = cast(WebSocketHearing, await connect(port, way.host, kind=WebSocketHearing))
        else:
            endpoint = HostnameEndpoint(reactor, way.host, port)
            made = await connectProtocol(endpoint, StreamHearing())
        made.port = made.transport.getHost().port
        self.addCleanup(self.leave, made)
        return made

    def leave(self, sender: Hearing) -> Deferred[None]:
        """Close a connection, if it is there."""
        if isinstance(sender, Protocol) and not sender.is_gone:
            sender.transport.abortConnection()
        return sender.until(lambda: sender.is_gone or isinstance(sender, DatagramHearing))


class TortureTests(TortureCase):
    async def run_all(self, role: str, way: Way, entries: Iterable[dict[str, Any]]) -> None:
        """Send messages to a server with such an application."""
        seen: set[str] = set()
        await self.start(role, way)
        try:
            for entry in entries:
                if way.is_stream and entry["name"] == WAITING:
                    continue
                known = known_by(octets(entry))
                if not seen.isdisjoint(known):
                    # It would be a repeat, or a copy, of another one.
                    await self.stop()
                    await self.start(role, way)
                    seen.clear()
                seen |= known
                await self.run_one(entry, role)
        finally:
            await self.stop()

    async def run_one(self, entry: dict[str, Any], role: str) -> None:
        """Send a message, and look at what becomes of it."""
        wanted = Wanted.of(entry, role, self.way)
        sender = await self.sender()
        self.taken.clear()
        self.callee.requests.clear()
        self.tap.sent.clear()
        sender.emit(octets(entry))
        if wanted.closed:
            await sender.until(lambda: sender.is_gone)
        elif wanted.silent:
            await sender.see_through()
        else:
            await sender.until(lambda: sender.finals)
        await self.call()
        self.judge(entry, role, wanted, sender)
        await self.leave(sender)

    def judge(self, entry: dict[str, Any], role: str, wanted: Wanted, sender: Hearing) -> None:
        """Compare what became of a message with what is wanted."""
        heard = sender.finals
        name = f"{entry['name']}, {role}, {self.way}: {heard}, not {wanted}"
        self.assertLessEqual(len(heard), 1, name)
        self.assertEqual(sender.is_gone, wanted.closed, name)
        self.assert_nothing_else(entry, sender, name)
        self.assert_taken_as_sent(entry, name)
        if role in REGISTRARS and self.taken and (not heard or heard[0].status == 200):
            contacts = self.registered.setdefault(facts(entry)["to"]["uri"], set())
            contacts.update(contact["uri"] for contact in facts(entry)["contact"])
        if not heard:
            self.assertTrue(wanted.silent, name)
            self.assert_met(wanted.unanswered, role, name)
            return
        [final] = heard
        self.assert_answers(entry, final, name)
        if wanted.processed and final.status not in wanted.statuses:
            self.assert_processed(entry, role, final, name)
            return
        self.assertIn(final.status, wanted.statuses, name)
        if final.has(_MARK):
            self.assertEqual(len(self.taken), 1, name)
        elif role == "endpoint":
            self.assert_met((), role, name)
        self.assertEqual(self.callee.requests, [], name)
        if final.status in EXPLAINED:
            self.assertTrue(final.has(EXPLAINED[final.status]), name)
        if final.status == 415:
            self.assertEqual([str(one) for one in final.get_parsed_header("Accept")], _SESSIONS)
        if wanted.unsupported is not None:
            self.assertEqual(final.get_parsed_header("Unsupported"), wanted.unsupported, name)
        if entry["name"] in UNKNOWN_METHODS:
            allowed = final.get_parsed_header("Allow")
            self.assertIn("INVITE", allowed, name)
            self.assertNotIn(entry["expect"]["method"], allowed, name)

    def assert_nothing_else(self, entry: dict[str, Any], sender: Hearing, name: str) -> None:
        """See that the server sent nothing but what the sender and the callee got."""
        others = {self.line.getHost().port}  # it had a call meanwhile
        if self.callee.requests:
            others.add(self.callee_line.getHost().port)
        heard = [(sender.port, raw) for raw in sender.heard]
        rest = [one for one in self.tap.sent if one not in heard and one[0] not in others]
        self.assertEqual(rest, [], name)
        trying = [response.status for response in sender.responses if response.status < 200]
        self.assertIn(trying, ([], [100]) if b"INVITE sip" in octets(entry) else ([],), name)

    def assert_met(self, methods: tuple[str, ...], role: str, name: str) -> None:
        """See that no other requests reached the application, and the callee through it."""
        self.assertEqual(tuple(req.method for req in self.taken), methods, name)
        forwarded = methods if role == "proxy" else ()
        self.assertEqual(tuple(req.method for req in self.callee.requests), forwarded, name)

    def assert_taken_as_sent(self, entry: dict[str, Any], name: str) -> None:
        """See that the application got what the manifest says."""
        if not self.taken:
            return
        req = self.taken[0]
        for key, found, stated in readings(req, facts(entry), {"via_received"}):
            if key == "via":
                found, stated = without_notes(found), without_notes(stated)
            self.assertEqual(found, stated, f"{key} of {name}")

    def assert_answers(self, entry: dict[str, Any], final: sip.Response, name: str) -> None:
        """See that a response has of its request what it should."""
        told = {key: value for key, value in facts(entry).items() if key in ECHOED}
        for key, found, stated in readings(final, told):
            if key == "via":
                found, stated = without_notes(found), without_notes(stated)
            elif isinstance(stated, list):
                stated = stated[0]  # what has to be there once is there once in the answer
            if key == "to" and stated is not None:
                self.assertTrue(found["tag"], name)
                stated = {**stated, "tag": stated["tag"] or found["tag"]}
            self.assertEqual(found, stated, f"{key} of {name}")

    def assert_processed(
        self, entry: dict[str, Any], role: str, final: sip.Response, name: str
    ) -> None:
        """See that an answer is the application's, or that of whom the request was forwarded to."""
        self.assertEqual(len(self.taken), 1, name)
        if role in REGISTRARS:
            self.assertEqual(final.status, 200, name)
            contacts = self.registered[facts(entry)["to"]["uri"]]
            self.assertEqual(sorted(one.uri for one in final.contacts), sorted(contacts), name)
            return
        self.assertTrue(final.has(_MARK), name)
        if role == "proxy":
            [forwarded] = self.callee.requests
            self.assert_forwarded(entry, forwarded, name)

    def assert_forwarded(self, entry: dict[str, Any], forwarded: sip.Request, name: str) -> None:
        """See that a request was forwarded as it was sent, apart from what a proxy does to it."""
        told = facts(entry)
        sent = sip.Request.from_bytes(_TOP_VIA.sub(b"", forwarded.raw, count=1))
        for key, found, stated in readings(sent, told, HOP_BY_HOP):
            if key == "via":
                found, stated = without_notes(found), without_notes(stated)
            self.assertEqual(found, stated, f"{key} of {name}")
        self.assertEqual(forwarded.get("Content-Length"), str(len(forwarded.body)), name)
        hops = told.get("max_forwards")
        self.assertEqual(forwarded.get("Max-Forwards"), "70" if hops is None else str(hops - 1))


class UnfinishedTests(TortureCase):
    async def test_unfinished(self) -> None:
        """What never ends is waited for on a stream, for a time, and harms nobody meanwhile."""
        [entry] = [one for one in MESSAGES if one["name"] == WAITING]
        clocked = ClockedReactor()
        await self.start("endpoint", TCP, clocked)
        try:
            sender = await self.sender()
            self.tap.sent.clear()
            sender.emit(octets(entry))
            await self.call()
            patience = Limits().message_timeout
            clocked.clock.pump([patience / 4] * 3)
            await self.call()
            self.assertFalse(sender.is_gone)
            clocked.clock.pump([patience / 4] * 2)
            await sender.until(lambda: sender.is_gone)
            await self.call()
            phones = self.line.getHost().port
            self.assertEqual([raw for port, raw in self.tap.sent if port != phones], [])
            self.assertEqual((sender.heard, self.taken), ([], []))
        finally:
            stopped = Deferred.fromCoroutine(self.stop())
            clocked.clock.advance(10)
            await stopped


def _add(role: str, way: Way, entries: list[dict[str, Any]]) -> None:
    async def test(self: TortureTests) -> None:
        if way.is_ipv6 and not has_ipv6():
            self.skipTest("no IPv6 here")
        await self.run_all(role, way, entries)

    family = " and IPv6" if way.is_ipv6 else ""
    test.__doc__ = f"Each message over {way.protocol.upper()}{family}, to {role}."
    setattr(TortureTests, f"test_{role}_{way}", test)


def _of_method(method: str, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry for entry in entries if (entry.get("expect") or {}).get("method") == method]


_IPV6 = [entry for entry in MESSAGES if entry["rfc"] == 5118]
for _way in (UDP, TCP, WS):
    _add("endpoint", _way, MESSAGES)
    _add("proxy", _way, MESSAGES)
    _add("registrar", _way, _of_method("REGISTER", MESSAGES))
    _add("authenticating", _way, [one for one in MESSAGES if one["name"] == "regaut01"])
for _way in (Way("udp", "::1"), Way("tcp", "::1"), Way("ws", "::1")):
    _add("endpoint", _way, _IPV6)
    _add("proxy", _way, _IPV6)
    _add("registrar", _way, _of_method("REGISTER", _IPV6))
