"""The torture messages of RFC 4475 and RFC 5118, sent to a running server over real sockets.

The manifest says what each kind of element makes of each message. The server is all of them, with
an application behind it that does honestly what only an application can: an endpoint, a registrar
with or without passwords, a proxy. A message is answered with a status that the manifest names for
the element, or it is processed where the manifest allows that; then the application's answer, which
is marked, comes back, or the forwarded request arrives. After each one the server serves a call.

Two things are the server's whatever the application is: a method that nobody knows is answered 501,
and what belongs to a dialog that is not there 481. It forwards neither.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import DatagramProtocol, Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from drachtwist import CommandRefused, DrachtwistError, Request, Response, Srf, sip
from drachtwist.middleware import DigestAuth, Registrar
from drachtwist.phone import Phone
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.stream import Malformed, StreamParser
from drachtwist.transactions.matching import server_key
from tests.sip.test_torture import MESSAGES, octets

_PORTS = re.compile(rb":[ \t]*([0-9]{1,5})(?=[;, \t\r\n])")
_CALL_ID = re.compile(rb"^(?:call-id|i)[ \t]*:[ \t]*(\S+)", re.I | re.M)
_MARK = "X-Processed"
_SESSIONS = ("application/sdp", "multipart/mixed")

HERE = f"127.77.{os.getpid() // 250 % 250}.{os.getpid() % 250 + 1}"
"""An address of this machine's own, so that responses to any port can be received."""

UNKNOWN_METHODS = ("intmeth", "esc02")
"""Messages whose method no application is given, so that they are not forwarded either."""


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


@dataclass
class Wanted:
    """What is right for a message."""

    statuses: set[int] = field(default_factory=set)
    processed: bool = False
    silent: bool = False
    closed: bool = False
    unsupported: list[str] | None = None
    """What a 420 has to name."""

    @classmethod
    def of(cls, entry: dict[str, Any], role: str, stream: bool) -> Wanted:
        """Read what the manifest says.

        :param role: ``endpoint``, ``registrar``, ``authenticating`` (a registrar) or ``proxy``.
        """
        self = cls()
        if entry["kind"] == "response":
            self.silent = True
            return self
        if entry["parser"] == "must_not_break":
            self.silent, self.statuses = True, {400}
            return self
        if stream and entry["name"] in ON_STREAMS:
            return ON_STREAMS[entry["name"]]
        known = _elements(entry, role, stream)
        self.processed = not known or bool(entry["lenient_accept"])
        for element in known:
            action = element["action"]
            if action == "respond":
                self.statuses.update(element["status"])
            elif action == "process":
                self.processed = True
            else:
                self.silent = True
                self.closed = action == "close"
            self.unsupported = element.get("unsupported", self.unsupported)
        told = entry.get("expect") or {}
        if self.processed and (told.get("to") or {}).get("tag"):
            self.processed = False
            self.statuses.add(481)
        if role == "proxy" and entry["name"] in UNKNOWN_METHODS:
            self.processed, self.statuses = False, {501}
        return self


ON_STREAMS = {
    # It has no Content-Length: what follows its head cannot be a message.
    "inv2543": Wanted({400}),
    # Behind the REGISTER and the INVITE there is more, which is nothing; that ends the connection
    # before the application can have answered.
    "dblreq": Wanted(silent=True, closed=True),
}
"""What becomes of messages that were written for datagrams."""


def _elements(entry: dict[str, Any], role: str, stream: bool) -> list[dict[str, Any]]:
    """Give what the manifest says about an element and a transport."""
    kind = "stream" if stream else "udp"
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


class _Ear(DatagramProtocol):
    """Hears what comes to one port."""

    def __init__(self, heard: list[bytes]) -> None:
        self.heard = heard

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.heard.append(datagram)


class _Callee(DatagramProtocol):
    """Answers all requests that are forwarded to it."""

    def __init__(self) -> None:
        self.requests: list[sip.Request] = []

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        request = sip.Request.from_bytes(datagram)
        if request.method == "ACK":
            return
        self.requests.append(request)
        status = 486 if request.method == "INVITE" else 200
        lines = [f"SIP/2.0 {status} Whatever"]
        lines += [f"Via: {via}" for via in request.get_all("Via")]
        lines += [f"{name}: {request.get(name)}" for name in ("From", "Call-ID", "CSeq")]
        lines += [f"To: {request.get('To')};tag=callee", f"{_MARK}: yes", "Content-Length: 0"]
        text = "\r\n".join(lines) + "\r\n\r\n"
        cast(Any, self.transport).write(text.encode("utf-8", "surrogateescape"), addr)


class _Stream(Protocol):
    """Hears what comes over a connection."""

    def __init__(self) -> None:
        self.heard = b""
        self.gone: Deferred[None] = Deferred()
        self.is_gone = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.is_gone = True
        self.gone.callback(None)


class TortureTests(TestCase):
    timeout = 120

    async def start(self, role: str) -> None:
        """Start a server, an application, and a phone."""
        config = ServerConfig(
            admin_port=0,
            contacts=("sip:127.0.0.1:0;transport=udp,tcp",),
            extensions=frozenset("*") if role == "proxy" else frozenset(),
        )
        self.server = DrachtioServer(config, reactor)
        self.server.startService()
        await self.server.when_listening()
        self.port = int(self.server.sip_addresses[0].rpartition(":")[2])
        self.srf = srf = Srf()
        if role == "authenticating":
            srf.use(DigestAuth("example.com", lambda user, realm: None, methods=["REGISTER"]))

        async def answer(req: Request, res: Response) -> None:
            if req.called_number == "service":
                await srf.create_uas(req, res, local_sdp="v=0\r\n")
            elif role == "proxy":
                try:
                    await srf.proxy_request(req, f"sip:127.0.0.1:{self.callee_port}")
                except CommandRefused:
                    pass  # so was the caller
            else:
                self.respond(req, res)

        for method in ("invite", "options", "message", "publish", "notify", "info"):
            getattr(srf, method)(answer)
        srf.register(Registrar() if role in ("registrar", "authenticating") else answer)
        link = srf.connect(f"tcp:127.0.0.1:{self.server.admin_port}", secret="cymru")
        await link.when_connected()
        # Commands are carried out in order: behind an answer the routes are there.
        asking = srf.request("sip:127.0.0.1:9", method="OPTIONS")
        await asking.addErrback(lambda failure: failure.trap(DrachtwistError))
        self.phone = Phone(("127.0.0.1", self.port), clock=reactor)
        self.line = cast(Any, reactor).listenUDP(0, self.phone, interface="127.0.0.1")
        await self.call()

    async def stop(self) -> None:
        """Stop them."""
        await self.line.stopListening()
        await self.srf.stop()
        await self.server.stopService()

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

    async def call(self) -> None:
        """See that the server serves a call."""
        call = await self.phone.call(f"sip:service@127.0.0.1:{self.port}")
        await call.hang_up()

    def judge(
        self, entry: dict[str, Any], role: str, heard: list[sip.Response], closed: bool | None
    ) -> None:
        """Compare what was heard with what is wanted.

        :param closed: whether the connection was closed; None over UDP.
        """
        name = f"{entry['name']}, {role}, {'udp' if closed is None else 'tcp'}"
        wanted = Wanted.of(entry, role, closed is not None)
        finals = [response for response in heard if response.status >= 200]
        statuses = {response.status for response in finals}
        name = f"{name}: {sorted(statuses)}, not {wanted}"
        if wanted.silent:
            self.assertTrue(
                statuses <= (wanted.statuses | ({400} if wanted.closed else set())), name
            )
            self.assertTrue(closed or not wanted.closed, name)
            return
        self.assertEqual(len(statuses), 1, name)
        final = finals[0]
        if wanted.processed and not statuses & wanted.statuses:
            self.assert_processed(entry, role, final, name)
            return
        self.assertTrue(statuses <= wanted.statuses, name)
        if wanted.unsupported is not None:
            self.assertEqual(final.get_parsed_header("Unsupported"), wanted.unsupported, name)
        if final.status == 405 or entry["name"] in UNKNOWN_METHODS:
            self.assertTrue(final.has("Allow"), name)
        if role == "proxy":
            self.assertEqual(self.callee.requests, [], name)

    def assert_processed(
        self, entry: dict[str, Any], role: str, final: sip.Response, name: str
    ) -> None:
        """See that an answer is the application's, or that of whom the request was forwarded to."""
        if role in ("registrar", "authenticating"):
            self.assertEqual(final.status, 200, name)
            sent = sip.Request.from_bytes(octets(entry))
            expected = {contact.uri for contact in sent.contacts}
            self.assertLessEqual(expected, {contact.uri for contact in final.contacts}, name)
            return
        self.assertTrue(final.has(_MARK), name)
        if role == "proxy":
            sent, [forwarded] = sip.Request.from_bytes(octets(entry)), self.callee.requests
            self.assertEqual(forwarded.method, sent.method, name)
            self.assertEqual(forwarded.uri.strip("<>"), sent.uri.strip("<>"), name)
            self.assertEqual(len(forwarded.vias), len(sent.vias) + 1, name)
            self.assertEqual(forwarded.body, sent.body[: len(forwarded.body)], name)

    async def run_all(self, role: str, stream: bool, names: tuple[str, ...] = ()) -> None:
        """Send the messages to a server with such an application.

        :param names: which ones; all if there is none.
        """
        self.callee = _Callee()
        port = cast(Any, reactor).listenUDP(0, self.callee, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.callee_port = port.getHost().port
        seen: set[str] = set()
        await self.start(role)
        try:
            for entry in MESSAGES:
                data = octets(entry)
                if names and entry["name"] not in names:
                    continue
                if not seen.isdisjoint(known_by(data)):
                    # It would be a repeat, or a copy, of another one.
                    await self.stop()
                    await self.start(role)
                    seen.clear()
                seen |= known_by(data)
                self.callee.requests.clear()
                if stream:
                    await self.over_tcp(entry, role)
                else:
                    await self.over_udp(entry, role)
        finally:
            await self.stop()

    async def wait(self, entry: dict[str, Any], role: str, stream: bool, done: Any) -> None:
        """Wait for the answer: the call goes another way, which may be shorter."""
        wanted = Wanted.of(entry, role, stream)
        if wanted.silent and not wanted.closed:
            return
        for _ in range(1000):
            if done():
                return
            await deferLater(cast(Any, reactor), 0.002)

    async def over_udp(self, entry: dict[str, Any], role: str) -> None:
        """Send a message as a datagram."""
        name = call_id(octets(entry))

        def heard() -> list[sip.Response]:
            found = [sip.Response.from_bytes(one) for one in self.heard if one[:4] == b"SIP/"]
            # What is repeated of others' does not count.
            return [one for one in found if (one.get("Call-ID") or "") == name]

        self.heard.clear()
        self.ears[5060].write(octets(entry), ("127.0.0.1", self.port))
        await self.call()
        await self.wait(entry, role, False, lambda: any(one.status >= 200 for one in heard()))
        self.judge(entry, role, heard(), None)

    async def over_tcp(self, entry: dict[str, Any], role: str) -> None:
        """Send a message on a connection of its own."""
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
        stream: _Stream = await connectProtocol(endpoint, _Stream())

        def heard() -> list[sip.Response]:
            # What a bad request had in its headers is in the answer too.
            found: list[Any] = StreamParser().feed(stream.heard)
            found = [one.message if isinstance(one, Malformed) else one for one in found]
            return [one for one in found if isinstance(one, sip.Response)]

        transport = cast(Any, stream.transport)
        transport.write(octets(entry))
        await self.call()
        await self.wait(
            entry,
            role,
            True,
            lambda: stream.is_gone or any(one.status >= 200 for one in heard()),
        )
        self.judge(entry, role, heard(), stream.is_gone)
        transport.loseConnection()
        await stream.gone

    def listen(self) -> None:
        """Listen on all ports that responses may go to."""
        self.heard: list[bytes] = []
        ports = {5060, 5061}
        for entry in MESSAGES:
            ports.update(int(port) for port in _PORTS.findall(octets(entry)) if int(port) < 65536)
        self.ears = {}
        for port in sorted(ports - {0}):
            self.ears[port] = cast(Any, reactor).listenUDP(
                port, _Ear(self.heard), interface=HERE, maxPacketSize=65536
            )
            self.addCleanup(self.ears[port].stopListening)


def _add(role: str, stream: bool, names: tuple[str, ...] = ()) -> None:
    async def test(self: TortureTests) -> None:
        if not stream:
            self.listen()
        await self.run_all(role, stream, names)

    way = "tcp" if stream else "udp"
    test.__doc__ = f"Each message over {way.upper()}, to {role}."
    setattr(TortureTests, f"test_{role}_{way}", test)


_REGISTERS = tuple(
    entry["name"] for entry in MESSAGES if (entry.get("expect") or {}).get("method") == "REGISTER"
)
for _stream in (False, True):
    _add("endpoint", _stream)
    _add("proxy", _stream)
    _add("registrar", _stream, _REGISTERS)
    _add("authenticating", _stream, ("regaut01",))
