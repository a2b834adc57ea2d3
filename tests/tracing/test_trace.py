"""Calls that are seen: kept, related, drawn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response, couple
from drachtwist.tracing import ASCII, Passed, Place, Trace, draw_messages
from drachtwist.tracing.messages import call_id_of, header_of, session_of, summary_of
from drachtwist.tracing.ring import Ring
from tests.server.doubles import request
from tests.whole import TARGET, Whole

OFFER = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
ANSWER = "v=0\r\no=bob 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
NUMBERS = itertools.count()
PLACE = Place("udp", "127.0.0.1", 5070, "127.0.0.1", 5060)


def passed(raw: bytes, at: float = 0.0, sent: bool = False) -> Passed:
    return Passed(at, sent, PLACE, raw, call_id_of(raw), next(NUMBERS))


def invite(call_id: str, body: str = "") -> bytes:
    return f"INVITE sip:b@x SIP/2.0\r\nCall-ID: {call_id}\r\n\r\n{body}".encode()


class Bridge(Whole):
    """An application that connects whoever calls, and lets Bob answer."""

    def __init__(self) -> None:
        super().__init__()

        @self.srf.invite
        async def called(req: Request, res: Response) -> None:
            pair = await self.srf.create_b2bua(req, res, TARGET)
            couple(*pair)

        self.pump()

    def call(self) -> str:
        """Carry a call from the INVITE to the answer of the second BYE; give the other Call-ID."""
        self.receive(request("INVITE", body=OFFER), 32070)
        sent = self.request()
        self.respond(sent, 180)
        self.respond(sent, 200, body=ANSWER)
        answered = [one for one in self.sent() if getattr(one, "status", 0) == 200]
        tag = (answered[0].get("To") or "").rpartition("tag=")[2]
        self.receive(request("ACK", to_tag=tag), 32070)
        self.receive(request("BYE", number=2, to_tag=tag), 32070)
        [bye] = [one for one in self.sent() if getattr(one, "method", "") == "BYE"]
        assert not isinstance(bye, Response)
        self.respond(bye, 200)  # type: ignore[arg-type]
        return sent.get("Call-ID") or ""


class TraceTests(SynchronousTestCase):
    def test_at_the_server(self) -> None:
        """Both legs of a B2BUA are one ladder, also for a server that only sees the sockets."""
        bridge = Bridge()
        clock = bridge.clock
        trace = Trace(seconds=clock.seconds)
        bridge.server.wire.tap = trace
        other = bridge.call()
        self.assertEqual(trace.ring.related("c1"), ["c1", other])
        lines = trace.ladder(other, strokes=ASCII).split("\n")
        text = "\n".join(lines)
        self.assertEqual(lines[2].count("|"), 3)  # Alice, us, Bob
        for one in ("INVITE ", "180 ", "ACK ", "BYE "):
            self.assertEqual(sum(f" {one}" in line for line in lines), 2, one + text)
        self.assertEqual(trace.ladder("nobody"), "")

    def test_in_the_application(self) -> None:
        """An application sees what its server tells it, and what the server sent for it."""
        bridge = Bridge()
        trace = bridge.srf.trace
        self.assertIs(bridge.srf.trace, trace)
        trace.seconds = bridge.clock.seconds
        other = bridge.call()
        self.assertEqual(trace.call_ids, ["c1", other])
        lines = trace.ladder("c1", strokes=ASCII, width=120).split("\n")
        self.assertEqual(lines[2].count("|"), 3)
        for one in ("180 ", "ACK ", "BYE "):
            self.assertEqual(sum(f" {one}" in line for line in lines), 2, "\n".join(lines))

    def test_other_description(self) -> None:
        """Legs belong together because the application says so, whatever they describe."""
        whole = Whole()

        @whole.srf.invite
        async def called(req: Request, res: Response) -> None:
            await whole.srf.create_b2bua(req, res, TARGET, local_sdp_b=ANSWER)

        whole.pump()
        trace = whole.srf.trace
        trace.seconds = whole.clock.seconds
        whole.receive(request("INVITE", body=OFFER), 32070)
        other = whole.request().get("Call-ID") or ""
        self.assertEqual(trace.ring.related("c1"), ["c1", other])

    def test_sinks(self) -> None:
        """A sink that fails is told no more, and harms nobody."""
        trace = Trace(seconds=iter(range(9)).__next__)
        seen: list[str] = []

        class Bad:
            def passed(self, message: Passed) -> None:
                raise ValueError("no")

            def close(self) -> None:
                seen.append("bad closed")

        class Good(Bad):
            def passed(self, message: Passed) -> None:
                seen.append(message.summary)

            def close(self) -> None:
                seen.append("closed")

        trace.add(Bad())
        trace.add(Good())
        trace.sip_passed(PLACE, invite("c"), False)
        trace.sip_passed(PLACE, b"SIP/2.0 200 OK\r\nCall-ID: c\r\n\r\n", True)
        trace.close()
        trace.sip_passed(PLACE, invite("d"), False)
        self.assertEqual(seen, ["INVITE sip:b@x", "200 OK", "closed"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(trace.call_ids, ["c", "d"])


class RingTests(SynchronousTestCase):
    def test_bounded_in_calls(self) -> None:
        """Whoever was silent longest goes."""
        ring = Ring(calls=2)
        for call_id in ("a", "b", "a", "c"):
            ring.add(passed(invite(call_id)))
        self.assertEqual(ring.call_ids, ["a", "c"])
        self.assertEqual(len(ring.messages("a")), 2)

    def test_bounded_in_octets(self) -> None:
        """Octets count, and what is left is what fits; even one message may be too much."""
        ring = Ring(octets=5000)
        for number in range(50):
            ring.add(passed(invite(str(number), "x" * 1000)))
            self.assertLessEqual(ring.octets, 5000)
        self.assertEqual(ring.call_ids, ["47", "48", "49"])
        ring.add(passed(invite("long", "x" * 9000)))
        self.assertEqual((ring.call_ids, ring.octets), ([], 0))

    def test_long_call(self) -> None:
        """Of a call that goes on and on there is its beginning and its end."""
        ring = Ring()
        for number in range(1000):
            ring.add(passed(invite("a", str(number)), at=number))
        found = ring.messages("a")
        kept = ring.find("a")
        assert kept is not None
        self.assertEqual((len(found), kept.left_out), (96, 904))
        self.assertEqual((found[0].time, found[-1].time), (0, 999))
        self.assertEqual(ring.octets, sum(len(one.raw) + 400 for one in found))

    def test_others_push_out_no_call(self) -> None:
        """Registrations and the like have room of their own."""
        ring = Ring(calls=8)
        ring.add(passed(invite("a")))
        for number in range(100):
            ring.add(passed(invite(str(number)).replace(b"INVITE", b"OPTIONS")))
        self.assertEqual((ring.call_ids, len(ring)), (["a"], 3))
        self.assertEqual(len(ring.messages("99")), 1)

    def test_related_by_session(self) -> None:
        """An INVITE that leaves with the caller's description belongs to the caller's call."""
        ring = Ring()
        ring.add(passed(invite("a", OFFER)))
        ring.add(passed(invite("b", OFFER), sent=True))
        ring.add(passed(invite("c", ANSWER), sent=True))
        self.assertEqual(ring.related("b"), ["a", "b"])
        self.assertEqual(ring.related("c"), ["c"])

    def test_same_session_twice(self) -> None:
        """Callers that all call their session the same are not taken for one."""
        ring = Ring()
        ring.add(passed(invite("a", OFFER)))
        ring.add(passed(invite("b", OFFER)))
        ring.add(passed(invite("c", OFFER), sent=True))
        self.assertEqual(ring.related("c"), ["c"])

    def test_related_by_hand(self) -> None:
        """What is said to belong together does; what is gone is left out, and nothing fails."""
        ring = Ring(calls=3)
        for number, call_id in enumerate("abc"):
            ring.add(passed(invite(call_id), at=number))
        ring.relate("a", "b", "nobody")
        ring.relate("c", "b")
        self.assertEqual(ring.related("c"), ["a", "b", "c"])
        ring.add(passed(invite("d"), at=9))
        self.assertEqual(ring.related("c"), ["b", "c"])
        self.assertEqual([one.time for one in ring.messages("b")], [1, 2])
        ring.clear()
        self.assertEqual((len(ring), ring.octets, ring.related("c")), (0, 0, []))


class MessageTests(SynchronousTestCase):
    def shapes(self) -> Iterator[tuple[bytes, bytes]]:
        yield b"A b SIP/2.0\r\nCall-ID: x\r\n\r\n", b"x"
        yield b"A b SIP/2.0\r\nCALL-ID :\t x@y \r\n\r\n", b"x@y"
        yield b"A b SIP/2.0\ni:x\n\n", b"x"
        yield b"A b SIP/2.0\r\nCall-ID:\r\n x\r\n\r\n", b"x"
        yield b"A b SIP/2.0\r\nTo: y\r\n\r\ni:no", b""
        yield b"A b SIP/2.0\r\nCall-ID: ", b""
        yield b"A b SIP/2.0\r\nCall-ID: x", b"x"
        yield b"", b""
        yield b"\0\xff\r\n\r\n", b""

    def test_call_id(self) -> None:
        """The Call-ID is found however it is written, and nothing else is taken for one."""
        for raw, call_id in self.shapes():
            self.assertEqual(call_id_of(raw), call_id, raw)

    def test_summary(self) -> None:
        """A line says what a message is; of a response to something else what it answers."""
        for raw, text in (
            (invite("a", OFFER), "INVITE sip:b@x [SDP]"),
            (b"INVITE sip:b@x;transport=tcp SIP/2.0\r\n\r\n", "INVITE sip:b@x"),
            (b"SIP/2.0 200 OK\r\nCSeq: 1 INVITE\r\n\r\n", "200 OK"),
            (b"SIP/2.0 200 OK\r\nCSeq: 1 BYE\r\n\r\n", "200 OK (BYE)"),
            (b"SIP/2.0 486\r\n\r\n", "486"),
            (b"\x16\x03\x01", "\x16\x03\x01"),
            (b"", ""),
        ):
            self.assertEqual(summary_of(raw), text)
        self.assertEqual(header_of(invite("a b"), b"call-id"), "a b")
        self.assertEqual(session_of(b"o=1"), b"")

    def test_reads(self) -> None:
        """Method and status are those of what is a message."""
        one = passed(b"SIP/2.0 486 Busy\r\nCall-ID: x\r\n\r\n", sent=True)
        self.assertEqual((one.method, one.status, one.text[:3]), ("", 486, "SIP"))
        self.assertEqual((one.source[1], one.target[1]), (5060, 5070))
        self.assertEqual((passed(invite("a")).method, passed(invite("a")).status), ("INVITE", 0))
        self.assertEqual(passed(b"\0").method, "")

    def test_remarks(self) -> None:
        """Remarks stand where they happened; controls reach no terminal."""
        drawn = draw_messages(
            [passed(invite("a"), 1.0), passed(b"\x1b[31m \x07", 2.0, True)],
            remarks=[(1.5, "the handler failed"), (3.0, "late")],
            strokes=ASCII,
        )
        lines = [line for line in drawn.split("\n") if "." in line[:9]]
        self.assertIn("INVITE", lines[0])
        self.assertIn("the handler failed", lines[1])
        self.assertIn("?[31m ?", lines[2])
        self.assertIn("late", lines[3])
        self.assertEqual(draw_messages([]), "")
