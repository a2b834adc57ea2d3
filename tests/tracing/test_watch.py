"""Calls that end, shown in the log."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.tracing import ASCII, Passed, Place, Trace
from drachtwist.tracing.hiding import without_secrets
from drachtwist.tracing.recent import Recent
from drachtwist.tracing.watch import CallWatch, is_failure
from tests.server.doubles import request
from tests.tracing.test_trace import OFFER, Bridge

PLACE = Place("udp", "192.0.2.1", 5070, "192.0.2.9", 5060)


def message(start: str, call_id: str, method: str = "INVITE", extra: str = "") -> bytes:
    lines = [start, f"Call-ID: {call_id}", f"CSeq: 1 {method}", *extra.split("\n")]
    return ("\r\n".join(line for line in lines if line) + "\r\n\r\n").encode()


class WatchTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Watch what passes."""
        self.clock = Clock()
        self.trace = Trace(seconds=self.clock.seconds)
        self.watch = CallWatch(self.trace, self.clock, strokes=ASCII, width=80)
        self.trace.add(self.watch)

    def passes(self, *raws: bytes, sent: bool = False) -> None:
        for raw in raws:
            self.trace.sip_passed(PLACE, raw, sent)

    def told(self, seconds: float) -> list[tuple[LogLevel, str]]:
        """Let time pass, and give what is logged meanwhile."""
        with capturedLogs() as logs:
            for _ in range(int(seconds * 2)):
                self.clock.advance(0.5)
        return [(event["log_level"], formatEvent(event)) for event in logs]

    def test_over(self) -> None:
        """A call that ends with a BYE is drawn a moment later, once, without its messages."""
        self.passes(message("INVITE sip:b@x SIP/2.0", "a"))
        self.passes(message("SIP/2.0 200 OK", "a"), sent=True)
        self.assertEqual(self.told(60), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.passes(message("BYE sip:b@x SIP/2.0", "a", "BYE"))
        self.passes(message("SIP/2.0 200 OK", "a", "BYE"), sent=True)
        [(level, text)] = self.told(5)
        self.assertEqual((level, text.split("\n")[0]), (LogLevel.info, "the call a is over"))
        self.assertIn("- 200 OK (BYE) -", text)
        self.assertNotIn("CSeq", text)
        self.assertEqual((self.told(60), self.clock.getDelayedCalls()), ([], []))

    def test_failed(self) -> None:
        """One that failed is drawn with its messages, without secrets; controls are harmless."""
        secret = 'Authorization: Digest username="a", response="0123"\nSubject: \x1b[31m'
        self.passes(message("INVITE sip:b:pw@x SIP/2.0", "a", extra=secret))
        self.passes(message("SIP/2.0 500 Oops", "a"), sent=True)
        self.passes(message("ACK sip:b@x SIP/2.0", "a", "ACK"))
        [(level, text)] = self.told(5)
        self.assertEqual(level, LogLevel.warn)
        self.assertEqual(text.split("\n")[0], "the call a failed with 500")
        self.assertIn("--- udp 192.0.2.1:5070 to 192.0.2.9:5060\n    INVITE sip:b:(hidden)@x", text)
        self.assertIn('    Authorization: Digest username="a", response=(hidden)\n', text)
        for secret in ("pw", "0123", "\x1b", "\r"):
            self.assertNotIn(secret, text)

    def test_challenged(self) -> None:
        """A challenge is not the end of a call whose INVITE comes again."""
        invite = message("INVITE sip:b@x SIP/2.0", "a")
        self.passes(invite, message("SIP/2.0 401 Unauthorized", "a"), invite)
        self.assertEqual(self.told(60), [])
        self.passes(message("SIP/2.0 486 Busy Here", "a"))
        [(level, _)] = self.told(5)
        self.assertEqual(level, LogLevel.info)

    def test_re_invite(self) -> None:
        """What is refused in a call that is up does not end it."""
        self.passes(message("INVITE sip:b@x SIP/2.0", "a"), message("SIP/2.0 200 OK", "a"))
        self.passes(message("INVITE sip:b@x SIP/2.0", "a"), message("SIP/2.0 488 No", "a"))
        self.passes(message("SIP/2.0 481 No", "a", "INFO"))
        self.assertEqual(self.told(60), [])

    def test_both_legs(self) -> None:
        """Legs that belong together are one drawing, which waits for the last of them."""
        bridge = Bridge()
        trace = Trace(seconds=bridge.clock.seconds)
        trace.add(CallWatch(trace, bridge.clock, strokes=ASCII))
        bridge.server.wire.tap = trace
        bridge.call()
        with capturedLogs() as logs:
            bridge.pass_time(5)
        drawn = [formatEvent(one) for one in logs if one["log_namespace"] == "drachtwist.trace"]
        self.assertEqual(len(drawn), 1)
        self.assertEqual(drawn[0].count(" BYE sip:"), 2)

    def test_leg_that_stays(self) -> None:
        """A leg that has ended is shown at last, although the other one stays."""
        for one, sent in (("a", False), ("b", True)):
            raw = message("INVITE sip:b@x SIP/2.0", one, extra=f"\r\n{OFFER}")
            self.passes(raw, message("SIP/2.0 200 OK", one), sent=sent)
        self.trace.relate("a", "b")
        self.passes(message("BYE sip:b@x SIP/2.0", "a", "BYE"))
        self.assertEqual(self.told(5), [])
        self.assertEqual(len(self.told(10)), 1)

    def test_many(self) -> None:
        """Of many that end at once some are drawn, and the rest counted."""
        for number in range(50):
            self.passes(message("INVITE sip:b@x SIP/2.0", str(number)))
            self.passes(message("SIP/2.0 486 Busy Here", str(number)), sent=True)
        told = [text.split("\n")[0] for _, text in self.told(5)]
        self.assertEqual(len(told), 21)
        self.assertEqual(told[-1], "30 more calls ended, and are not drawn")

    def test_closed(self) -> None:
        """What has ended is shown when nothing comes any more, and no timer is left."""
        self.passes(message("INVITE sip:b@x SIP/2.0", "a"), message("SIP/2.0 603 No", "a"))
        with capturedLogs() as logs:
            self.trace.close()
        self.assertEqual([event["call_id"] for event in logs], ["a"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_bounded(self) -> None:
        """Calls that never end are not watched for ever."""
        for number in range(10_100):
            self.watch.passed(self.trace_message(str(number)))
        self.assertEqual(len(self.watch._calls), 10_000)

    def trace_message(self, call_id: str) -> Passed:
        return Passed(
            0.0, False, PLACE, message("INVITE sip:b@x SIP/2.0", call_id), call_id.encode()
        )

    def test_failures(self) -> None:
        """What people and routing say is no failure."""
        self.assertEqual(
            [
                status
                for status in (302, 401, 404, 408, 486, 487, 488, 500, 503, 603)
                if is_failure(status)
            ],
            [408, 488, 500, 503],
        )


class RecentTests(SynchronousTestCase):
    def test_as_a_ring(self) -> None:
        """What was kept without a look at it is found by call, legs together."""
        bridge = Bridge()
        trace = Trace(Recent(), seconds=bridge.clock.seconds)
        bridge.server.wire.tap = trace
        other = bridge.call()
        self.assertEqual(trace.call_ids, ["c1", other])
        self.assertEqual(trace.ring.related("c1"), ["c1", other])
        self.assertEqual(trace.ladder("c1").count(" BYE sip:"), 2)
        self.assertEqual(trace.ladder(other), trace.ladder("c1"))
        self.assertEqual(len(trace.messages("c1")), 13)
        kept = trace.ring.find("c1")
        assert kept is not None
        self.assertEqual(len(kept.first), 7)
        trace.ring.clear()
        self.assertEqual((len(trace.ring), trace.ring.octets, trace.call_ids), (0, 0, []))

    def test_related(self) -> None:
        """What is said to belong together does."""
        trace = Trace(Recent())
        for call_id in "ab":
            trace.sip_passed(PLACE, message("INVITE sip:b@x SIP/2.0", call_id), False)
        trace.relate("a", "b")
        self.assertEqual(trace.ring.related("b"), ["a", "b"])

    def test_bounded(self) -> None:
        """The oldest go, whatever they belong to; a bound of nothing keeps nothing."""
        recent = Recent(5000)
        for number in range(100):
            recent.keep(0.0, False, PLACE, message("INVITE x SIP/2.0", str(number)), number)
            self.assertLessEqual(recent.octets, 5000)
        self.assertEqual(recent.call_ids[-1], "99")
        self.assertEqual(
            recent.octets,
            sum(len(m.raw) + 400 for c in recent.call_ids for m in recent.messages(c)),
        )
        nothing = Recent(0)
        nothing.keep(0.0, False, PLACE, b"x", 1)
        self.assertEqual((len(nothing), nothing.octets), (0, 0))


class FailedTests(SynchronousTestCase):
    def test_handler(self) -> None:
        """The ladder of a call whose handler failed is logged, unasked; not each time."""
        bridge = Bridge()
        trace = Trace(Recent(), seconds=bridge.clock.seconds)
        bridge.server.wire.tap = trace
        trace.at_sockets = True
        bridge.srf.trace = trace

        @bridge.srf.message
        def called(req: object, res: object) -> None:
            raise ValueError("oops")

        bridge.pump()
        with capturedLogs() as logs:
            for call_id in "xyz":
                bridge.receive(request("MESSAGE", call=call_id), 32070)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 3)
        [event] = [one for one in logs if one["log_namespace"] == "drachtwist.trace"]
        text = formatEvent(event)
        self.assertEqual(event["call_id"], "x")
        self.assertIn(" MESSAGE sip:app@", text)
        self.assertIn("the handler of MESSAGE failed", text)


class HidingTests(SynchronousTestCase):
    def test_secrets(self) -> None:
        """What somebody could use is hidden, all else is as it was."""
        for text, shown in (
            (
                'Authorization: Digest username="a",response="0",nc=1',
                'Authorization: Digest username="a",response=(hidden),nc=1',
            ),
            ("proxy-authorization:Basic YWJj", "proxy-authorization:Basic (hidden)"),
            (
                "Authorization: Digest a=b,\r\n response=0\r\nX: response=0",
                "Authorization: Digest a=b,\r\n response=(hidden)\r\nX: response=0",
            ),
            ("Cookie: a=b", "Cookie: (hidden)"),
            (
                "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:abc|2^20",
                "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:(hidden)|2^20",
            ),
            ("k=clear:abc", "k=clear:(hidden)"),
            ("To: <sip:a:b@c>, sips:d:e@f", "To: <sip:a:(hidden)@c>, sips:d:(hidden)@f"),
            ("To: sip:a@b:5060;x=sip:c@d", "To: sip:a@b:5060;x=sip:c@d"),
            (
                "WWW-Authenticate: Digest realm=a, nonce=b",
                "WWW-Authenticate: Digest realm=a, nonce=b",
            ),
        ):
            self.assertEqual(without_secrets(text), shown)
