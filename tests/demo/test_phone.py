"""The phone of the demo, on a socket and a clock that are made up."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.demo.phone import Call, Phone
from drachtwist.errors import SipError
from drachtwist.sip import Request, Response, parse_datagram

SERVER = ("127.0.0.1", 5060)
URI = "sip:hello@127.0.0.1:5060"


class Socket:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def write(self, data: bytes, address: tuple[str, int]) -> None:
        """Keep a datagram."""
        assert address == SERVER
        self.sent.append(parse_datagram(data))

    def getHost(self) -> IPv4Address:
        """Say where it is bound."""
        return IPv4Address("UDP", "127.0.0.1", 6000)

    def take(self) -> list[str]:
        """Give what was sent since, as the starts of the messages."""
        sent, self.sent = self.sent, []
        return [
            one.method if isinstance(one, Request) else f"{one.status} {one.cseq.method}"
            for one in sent
        ]


class PhoneTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a phone."""
        self.clock = Clock()
        self.socket = Socket()
        self.watched: list[tuple[bool, str]] = []
        self.phone = Phone(SERVER, "alice", "Alice", clock=self.clock, watcher=self.watch)
        transport: Any = self.socket
        self.phone.transport = transport

    def watch(self, sent: bool, message: Request | Response) -> None:
        """Note which message went which way."""
        name = message.method if isinstance(message, Request) else str(message.status)
        self.watched.append((sent, name))

    def answer(self, request: Request, status: int, **headers: str) -> None:
        """Answer a request of the phone."""
        response = Response(status)
        for name in ("Via", "From", "Call-ID", "CSeq"):
            response.add(name, request.get(name) or "")
        response.add("To", f"{request.get('To')};tag=far")
        for name, value in headers.items():
            response.add(name.replace("_", "-"), value)
        self.phone.datagramReceived(bytes(response), SERVER)

    def ask(self, call: Call, method: str, number: int = 1) -> None:
        """Send a request to the phone, in a call."""
        assert call.ack is not None
        request = Request(
            method,
            self.phone.uri,
            [
                ("Via", f"SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK{method}{number}"),
                ("From", call.ack.get("To") or ""),
                ("To", call.ack.get("From") or ""),
                ("Call-ID", call.call_id),
                ("CSeq", f"{number} {method}"),
            ],
        )
        self.phone.datagramReceived(bytes(request), SERVER)

    def connected(self, **headers: str) -> Call:
        """Place a call that is answered."""
        calling = self.phone.call(URI)
        self.answer(self.socket.sent[-1], 200, **headers)
        self.socket.take()
        call: Call = self.successResultOf(calling)
        return call

    def test_answered(self) -> None:
        """A call offers media, is told that it rings, and its answer is acknowledged."""
        heard: list[int] = []
        calling = self.phone.call(URI, on_provisional=lambda one: heard.append(one.status))
        invite = self.socket.sent[0]
        self.assertIn(b"m=audio", invite.body)
        self.assertEqual(invite.uri, URI)
        self.answer(invite, 180)
        self.assertNoResult(calling)
        self.answer(invite, 200, Contact="<sip:far@127.0.0.1:7000>")
        self.successResultOf(calling)
        ack = self.socket.sent[-1]
        self.assertEqual((ack.method, ack.uri), ("ACK", "sip:far@127.0.0.1:7000"))
        self.assertEqual(ack.cseq.number, invite.cseq.number)
        self.assertNotEqual(ack.vias[0].branch, invite.vias[0].branch)
        self.assertEqual(heard, [180])
        self.assertEqual(
            self.watched, [(True, "INVITE"), (False, "180"), (False, "200"), (True, "ACK")]
        )

    def test_refused(self) -> None:
        """A refusal is acknowledged in its transaction, and fails the call."""
        calling = self.phone.call(URI)
        invite = self.socket.sent[0]
        self.answer(invite, 486)
        failure = self.failureResultOf(calling, SipError)
        self.assertEqual(failure.value.status, 486)
        ack = self.socket.sent[-1]
        self.assertEqual(ack.method, "ACK")
        self.assertEqual(ack.vias[0].branch, invite.vias[0].branch)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_repeats(self) -> None:
        """An INVITE that nobody hears is sent again, in growing steps, until the phone gives up."""
        calling = self.phone.call(URI)
        times = []
        while self.clock.seconds() < 40:
            if self.socket.take():
                times.append(self.clock.seconds())
            self.clock.advance(0.5)
        self.assertEqual(times, [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5])
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 408)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_ringing_is_not_repeated(self) -> None:
        """An INVITE that was heard is not sent again, however long it rings."""
        calling = self.phone.call(URI)
        self.answer(self.socket.sent[0], 100)
        self.socket.take()
        self.clock.advance(100)
        self.assertEqual(self.socket.take(), [])
        self.assertNoResult(calling)

    def test_repeated_answer(self) -> None:
        """Each repetition of the 200 gets the ACK again: the first may have been lost."""
        calling = self.phone.call(URI)
        invite = self.socket.sent[0]
        self.answer(invite, 200)
        self.answer(invite, 200)
        self.assertEqual(self.socket.take(), ["INVITE", "ACK", "ACK"])
        self.successResultOf(calling)

    def test_requests_in_the_call(self) -> None:
        """Keys and the BYE go along the route of the call, numbered upwards."""
        call = self.connected(
            Contact="<sip:far@127.0.0.1:7000>", Record_Route="<sip:proxy@127.0.0.1:7001;lr>"
        )
        pressing = call.press("5")
        info = self.socket.sent[-1]
        self.assertIn(b"Signal=5\r\n", info.body)
        self.answer(info, 200)
        self.assertEqual(self.successResultOf(pressing).status, 200)
        leaving = call.hang_up()
        bye = self.socket.sent[-1]
        self.assertEqual((info.method, bye.method), ("INFO", "BYE"))
        self.assertEqual((info.cseq.number, bye.cseq.number), (2, 3))
        self.assertEqual(bye.get("Route"), "<sip:proxy@127.0.0.1:7001;lr>")
        self.assertIn(";tag=far", bye.get("To") or "")
        self.answer(bye, 200)
        self.successResultOf(leaving)
        self.assertIsNone(self.successResultOf(call.when_ended()))

    def test_other_side_hangs_up(self) -> None:
        """A BYE is answered, and ends the call."""
        call = self.connected()
        ended: Deferred[Request | None] = call.when_ended()
        self.assertNoResult(ended)
        self.ask(call, "BYE")
        self.assertEqual(self.socket.take(), ["200 BYE"])
        for each in (ended, call.when_ended()):
            bye = self.successResultOf(each)
            assert bye is not None
            self.assertEqual(bye.method, "BYE")

    def test_strangers(self) -> None:
        """A request of a call that the phone does not know gets 481, garbage gets nothing."""
        call = self.connected()
        call.call_id = "unknown"
        self.ask(call, "INFO")
        self.assertEqual(self.socket.take(), ["481 INFO"])
        self.phone.datagramReceived(b"what?", SERVER)
        self.assertEqual(self.socket.take(), [])

    def test_outside_of_calls(self) -> None:
        """Other requests need no call; they are repeated every four seconds at most."""
        asking = self.phone.request("OPTIONS", URI)
        options = self.socket.sent[0]
        times = []
        while self.clock.seconds() < 12:
            if self.socket.take():
                times.append(self.clock.seconds())
            self.clock.advance(0.5)
        self.assertEqual(times, [0.0, 0.5, 1.5, 3.5, 7.5, 11.5])
        self.answer(options, 200)
        self.assertEqual(self.successResultOf(asking).status, 200)
        self.assertEqual(self.clock.getDelayedCalls(), [])
