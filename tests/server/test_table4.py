"""What the server does for each timer of table 4 in RFC 3261, and those that other RFCs added.

Times are those of the real server: a request is repeated after 1 s for the first time instead of
T1, a called party may ring for 185 s, and nothing is repeated over streams. The machines by
themselves, with the RFC's times, are in tests/transactions/test_table4.py.
"""

from __future__ import annotations

from drachtwist.sip.message import Request, Response
from tests.server.doubles import request
from tests.server.test_uac import TARGET, reply
from tests.server.test_uas import ServerTestCase, transaction

FROM_1_DOUBLING = [1.0, 3.0, 7.0, 15.0, 31.0]
FROM_1 = [1.0, 3.0, 7.0, 11.0, 15.0, 19.0, 23.0, 27.0, 31.0]
FROM_T1_DOUBLING = [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
FROM_T1 = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
TRANSPORTS = ("udp", "tcp")


class TableTestCase(ServerTestCase):
    def begin(self) -> None:
        """Begin with a server that has nothing to do."""
        self.setUp()
        self.bench.confirm()
        self.bench.clock.advance(100.0)
        self.begun = self.bench.clock.seconds()

    def times(self, what: str, seconds: float) -> list[float]:
        """Let time pass; say when a message was sent, since the beginning of the test."""
        return [when - self.begun for when, sent in self.seen(seconds) if sent == what]

    def pass_until(self, when: float) -> None:
        """Let time pass until then, since the beginning of the test."""
        self.seen(when - (self.bench.clock.seconds() - self.begun))

    # The server asks

    def ask(self, method: str, protocol: str) -> Request:
        """Let the application send a request."""
        uri = f"{TARGET};transport={protocol}"
        self.app.command(f"sip||\r\n{method} {uri} SIP/2.0\r\n\r\n")
        [asked] = self.bench.take()
        assert isinstance(asked, Request)
        return asked

    def respond(self, asked: Request, status: int, protocol: str) -> list[str]:
        """Let a response come; give what the application is told."""
        self.bench.receive(reply(asked, status), 32071, protocol)
        return self.app.take()

    def told(self, status: int) -> None:
        """See that the application was told a status, and nothing else."""
        [frame] = self.app.take()
        self.assertIn(f"\r\nSIP/2.0 {status} ", frame)

    # The server is asked

    def offer(self, method: str, protocol: str, extra: str = "") -> str:
        """Let a request come; give its transaction id."""
        self.bench.receive(request(method, extra=extra), protocol=protocol)
        [frame] = self.app.take()
        self.bench.take()
        return transaction(frame)

    def answer(self, asked: str, status: int, extra: str = "") -> Response:
        """Let the application answer; give the answer as it was sent."""
        self.app.answer(asked, f"SIP/2.0 {status} Whatever{extra}")
        [answer] = self.bench.take()
        assert isinstance(answer, Response)
        return answer


class AskingTests(TableTestCase):
    """The server sends requests of the application."""

    def test_timers_a_and_b(self) -> None:
        """An INVITE without response: repeated over UDP, and 408 after 32 s."""
        for protocol, times in zip(TRANSPORTS, (FROM_1_DOUBLING, []), strict=True):
            self.begin()
            self.ask("INVITE", protocol)
            self.assertEqual(self.times("INVITE", 31.5), times)
            self.assertEqual(self.app.take(), [])
            self.assertEqual(self.times("INVITE", 0.5), [])
            self.told(408)
            self.nothing_left()

    def test_timer_c(self) -> None:
        """An INVITE that rings: cancelled 185 s after the last provisional, 408 32 s later."""
        for protocol, times in zip(TRANSPORTS, (FROM_1, []), strict=True):
            self.begin()
            invite = self.ask("INVITE", protocol)
            self.respond(invite, 100, protocol)
            self.pass_until(30.0)
            self.assertEqual(len(self.respond(invite, 180, protocol)), 1)
            sent = self.times("CANCEL", 186.0)
            self.assertEqual(sent[0], 215.0)
            self.assertEqual([when - 215.0 for when in sent[1:]], times[:1])
            self.seen(30.5)
            self.assertEqual(self.app.take(), [])
            self.seen(0.5)
            self.told(408)
            self.nothing_left()

    def test_timer_d(self) -> None:
        """A failure of an INVITE that comes again is acknowledged again for 32 s, over UDP."""
        for protocol in TRANSPORTS:
            self.begin()
            invite = self.ask("INVITE", protocol)
            self.assertEqual(len(self.respond(invite, 486, protocol)), 1)
            self.assertEqual(self.bench.heads(), ["ACK"])
            for when in (10.0, 31.5, 32.5):
                self.pass_until(when)
                self.assertEqual(self.respond(invite, 486, protocol), [])
                again = protocol == "udp" and when < 32
                self.assertEqual(self.bench.heads(), ["ACK"] if again else [], when)
            self.nothing_left()

    def test_timers_e_and_f(self) -> None:
        """Another request without response: repeated over UDP, and 408 after 32 s."""
        for protocol, times in zip(TRANSPORTS, (FROM_1, []), strict=True):
            self.begin()
            self.ask("OPTIONS", protocol)
            self.assertEqual(self.times("OPTIONS", 31.5), times)
            self.assertEqual(self.app.take(), [])
            self.seen(0.5)
            self.told(408)
            self.nothing_left()

    def test_timer_k(self) -> None:
        """A final response that comes again is told once."""
        for protocol in TRANSPORTS:
            self.begin()
            asked = self.ask("OPTIONS", protocol)
            self.assertEqual(len(self.respond(asked, 200, protocol)), 1)
            for when in (4.5, 5.5):
                self.pass_until(when)
                self.assertEqual(self.respond(asked, 200, protocol), [])
            counts = self.bench.core.counts()
            self.assertEqual((counts["client_transactions"], counts["deadlines"]), (0, 0))

    def test_timer_m(self) -> None:
        """A 200 that comes again within 32 s gets the application's ACK again."""
        for protocol in TRANSPORTS:
            self.begin()
            invite = self.ask("INVITE", protocol)
            [told] = self.respond(invite, 200, protocol)
            self.app.ask(told.split("|")[9], f"ACK {TARGET} SIP/2.0")
            [ack] = self.bench.take()
            for when in (0.5, 31.5, 32.5):
                self.pass_until(when)
                self.assertEqual(self.respond(invite, 200, protocol), [])
                again = [bytes(one) for one in self.bench.take()]
                self.assertEqual(again, [bytes(ack)] if when < 32 else [], when)
            self.assertEqual(self.bench.core.counts()["client_transactions"], 0)


class AnsweringTests(TableTestCase):
    """The server receives requests."""

    def test_timers_g_and_h(self) -> None:
        """A failure without ACK: repeated over UDP, and given up after 32 s."""
        for protocol, times in zip(TRANSPORTS, (FROM_T1, []), strict=True):
            self.begin()
            self.answer(self.offer("INVITE", protocol), 486)
            self.assertEqual(self.times("486 INVITE", 40.0), times)
            self.nothing_left()

    def test_timer_i(self) -> None:
        """The ACK ends that; copies of it are absorbed."""
        for protocol, times in zip(TRANSPORTS, ([0.5, 1.5], []), strict=True):
            self.begin()
            tag = self.answer(self.offer("INVITE", protocol), 486).to.tag or ""
            self.assertEqual(self.times("486 INVITE", 2.0), times)
            for when in (2.0, 6.5, 7.5):
                self.pass_until(when)
                self.bench.receive(request("ACK", branch="INVITE-1", to_tag=tag), protocol=protocol)
                left = self.bench.core.counts()["server_transactions"]
                self.assertEqual(left, int(protocol == "udp" and when < 7), when)
            self.assertEqual((self.app.take(), self.seen(30)), ([], []))

    def test_timer_j(self) -> None:
        """Another request that comes again within 32 s gets its response again, over UDP."""
        for protocol in TRANSPORTS:
            self.begin()
            self.answer(self.offer("OPTIONS", protocol), 200)
            for when in (0.5, 31.5):
                if protocol == "udp":
                    self.pass_until(when)
                    self.bench.receive(request("OPTIONS"))
                    self.assertEqual((self.bench.heads(), self.app.take()), (["200 OPTIONS"], []))
            self.pass_until(32.0)
            self.assertEqual(self.bench.core.counts()["server_transactions"], 0)

    def test_timer_l(self) -> None:
        """An INVITE that comes again within 32 s of its 200 gets that again, and makes no call."""
        for protocol in TRANSPORTS:
            self.begin()
            tag = self.answer(self.offer("INVITE", protocol), 200).to.tag or ""
            self.bench.receive(request("ACK", branch="a", to_tag=tag), protocol=protocol)
            self.app.take()
            for when in (0.5, 31.5):
                self.pass_until(when)
                self.bench.receive(request("INVITE"), protocol=protocol)
                self.assertEqual((self.bench.heads(), self.app.take()), (["200 INVITE"], []))
            self.pass_until(32.0)
            self.assertEqual(self.bench.core.counts()["server_transactions"], 0)

    # What user agents repeat

    def test_answer(self) -> None:
        """A 200 without ACK: repeated over UDP, and the call ended with a BYE after 32 s."""
        for protocol, times in zip(TRANSPORTS, (FROM_T1, []), strict=True):
            self.begin()
            self.answer(self.offer("INVITE", protocol), 200)
            self.assertEqual(self.times("200 INVITE", 31.5), times)
            self.assertEqual(self.app.take(), [])
            self.assertEqual(self.times("BYE", 0.5), [32.0])
            [frame] = self.app.take()
            self.assertIn('Reason: SIP;cause=200;text="ACK timeout"', frame)
            self.nothing_left()

    def test_reliable_provisional(self) -> None:
        """A reliable 183 without PRACK: repeated over UDP, and the call refused after 32 s."""
        for protocol, times in zip(TRANSPORTS, (FROM_T1_DOUBLING, []), strict=True):
            self.begin()
            invite = self.offer("INVITE", protocol, extra="Supported: 100rel")
            self.answer(invite, 183, "\r\nRequire: 100rel")
            self.assertEqual(self.times("183 INVITE", 31.5), times)
            self.assertEqual(self.app.take(), [])
            self.assertEqual(self.times("504 INVITE", 0.5), [32.0])
            self.assertIn('text="PRACK timeout"', self.app.take()[0])
            self.nothing_left()


class ForwardingTests(TableTestCase):
    """The server as a proxy: towards the target it begins with T1, as the real server does."""

    def forward(self, method: str, protocol: str) -> Request:
        """Let a request come, and forward it."""
        asked = self.offer(method, protocol)
        self.app.command(
            f"proxy|{asked}|remainInDialog|fullResponse|nofollow|serial|||"
            f"{TARGET};transport={protocol}\r\n{method} sip:x SIP/2.0\r\n\r\n"
        )
        [forwarded] = self.bench.take()
        assert isinstance(forwarded, Request)
        return forwarded

    def test_timers_a_and_b(self) -> None:
        """An INVITE that a target does not respond to: the caller gets 408 after 32 s."""
        for protocol, times in zip(TRANSPORTS, (FROM_T1_DOUBLING, []), strict=True):
            self.begin()
            self.forward("INVITE", protocol)
            self.assertEqual(self.times("INVITE", 31.5), times)
            self.assertEqual(self.times("408 INVITE", 0.5), [32.0])
            self.assertTrue(self.app.take()[-1].endswith("|OK|done"))
            self.nothing_left()

    def test_timer_c(self) -> None:
        """A target that rings: cancelled 185 s after the last provisional, 408 32 s later."""
        for protocol in TRANSPORTS:
            self.begin()
            invite = self.forward("INVITE", protocol)
            self.respond(invite, 180, protocol)
            self.pass_until(100.0)
            self.respond(invite, 180, protocol)
            self.bench.take()
            sent = self.seen(218.0)
            first = next(when for when, what in sent if what == "CANCEL")
            refused = next(when for when, what in sent if what == "408 INVITE")
            self.assertEqual((first - self.begun, refused - self.begun), (285.0, 317.0))
            self.nothing_left()

    def test_timers_e_and_f(self) -> None:
        """Another request that a target does not respond to: 408 after 32 s."""
        for protocol, times in zip(TRANSPORTS, (FROM_T1, []), strict=True):
            self.begin()
            self.forward("OPTIONS", protocol)
            self.assertEqual(self.times("OPTIONS", 31.5), times)
            self.assertEqual(self.times("408 OPTIONS", 0.5), [32.0])
            self.nothing_left()

    def test_timers_g_and_h(self) -> None:
        """A refusal of a target goes to the caller until its ACK comes, for 32 s."""
        for protocol, times in zip(TRANSPORTS, (FROM_T1, []), strict=True):
            self.begin()
            self.respond(self.forward("INVITE", protocol), 486, protocol)
            self.assertEqual(self.bench.heads(), ["ACK", "486 INVITE"])
            self.assertEqual(self.times("486 INVITE", 40.0), times)
            self.nothing_left()

    def test_timer_m(self) -> None:
        """Each 200 of a target goes to the caller, for 32 s; it is not repeated here."""
        for protocol in TRANSPORTS:
            self.begin()
            invite = self.forward("INVITE", protocol)
            for when in (0.0, 0.5, 31.5):
                self.pass_until(when)
                self.respond(invite, 200, protocol)
                self.assertEqual(self.bench.heads(), ["200 INVITE"], when)
            self.assertEqual(self.seen(40), [])
            self.nothing_left()
