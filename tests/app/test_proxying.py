"""Requests that the server forwards: in turn, at once, and what the application learns of it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    CommandRefused,
    ConnectionLost,
    LocalProtocolError,
    ProxyResult,
    Request,
    Response,
    SipError,
)
from drachtwist.app.proxying import duration
from drachtwist.sip import Request as SipRequest
from drachtwist.sip import Response as SipResponse
from tests.app.doubles import Bench
from tests.server.doubles import head, request
from tests.whole import Whole

ONE, TWO, THREE = (f"sip:bob@127.0.0.1:{port}" for port in (32071, 32072, 32073))


class ProxyTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application that keeps what comes."""
        self.whole = Whole()
        self.srf = self.whole.srf
        self.kept: list[tuple[Request, Response]] = []

        @self.srf.use
        def keep(req: Request, res: Response) -> None:
            self.kept.append((req, res))

        for method in ("invite", "options"):
            getattr(self.srf, method)(keep)
        self.whole.pump()

    def proxy(
        self, *targets: str, method: str = "INVITE", extra: str = "", **options: Any
    ) -> Deferred[ProxyResult]:
        """Let a request come, and proxy it."""
        self.whole.receive(request(method, extra=extra), 32070)
        self.whole.heads()
        req, _ = self.kept[-1]
        return self.srf.proxy_request(req, list(targets), **options)

    def forwarded(self) -> dict[int, SipRequest]:
        """Take the requests that were sent to targets, by port."""
        self.whole.pump()
        sent, self.whole.server.wire.sent = self.whole.server.wire.sent, []
        self.others = [SipResponse.from_bytes(d) for f, d in sent if f.remote_port == 32070]
        return {
            flow.remote_port: SipRequest.from_bytes(data)
            for flow, data in sent
            if flow.remote_port != 32070 and not data.startswith(b"ACK")
        }

    def caller_got(self) -> list[str]:
        """Take what the caller was sent."""
        self.forwarded()
        return [head(one) for one in self.others]


class InviteTests(ProxyTestCase):
    def test_accepted(self) -> None:
        """A target accepts: the caller gets its answer, the application the result."""
        proxying = self.proxy(ONE)
        [(port, invite)] = self.forwarded().items()
        self.assertEqual((port, invite.uri), (32071, ONE))
        self.assertEqual([len(invite.vias), invite.get("Max-Forwards")], [2, "69"])
        self.assertFalse(invite.has("Record-Route"))
        self.whole.respond(invite, 180)
        self.assertEqual(self.caller_got(), ["180 INVITE"])
        self.whole.respond(invite, 200, body="v=0\r\n")
        self.assertEqual(self.caller_got(), ["200 INVITE"])
        [answer] = self.others
        self.assertEqual((len(answer.vias), answer.text), (1, "v=0\r\n"))
        result = self.successResultOf(proxying)
        self.assertEqual((result.connected, result.final_status), (True, 200))
        [target] = result.responses
        self.assertEqual(
            (target.address, target.port, target.protocol), ("127.0.0.1", 32071, "udp")
        )
        self.assertEqual([one.status for one in target.responses], [200])
        self.whole.pass_time(80, 1.0)
        self.assertTrue(self.srf.idle)

    def test_serial(self) -> None:
        """One after the other is tried, until one accepts."""
        proxying = self.proxy(ONE, TWO, THREE)
        for port, status in ((32071, 404), (32072, 486), (32073, 200)):
            [(got, invite)] = self.forwarded().items()
            self.assertEqual(got, port)
            self.whole.respond(invite, status, port=port)
        self.assertEqual(self.caller_got(), ["200 INVITE"])
        result = self.successResultOf(proxying)
        statuses = [one.status for target in result.responses for one in target.responses]
        self.assertEqual((result.connected, statuses), (True, [404, 486, 200]))

    def test_all_fail(self) -> None:
        """The caller gets the best of the failures."""
        proxying = self.proxy(ONE, TWO)
        for status in (401, 503):
            [(port, invite)] = self.forwarded().items()
            self.whole.respond(invite, status, port=port)
        self.assertEqual(self.caller_got(), ["401 INVITE"])
        result = self.successResultOf(proxying)
        self.assertEqual((result.connected, result.final_status), (False, 503))

    def test_provisional_timeout(self) -> None:
        """A silent target is left for the next one."""
        self.proxy(ONE, TWO, provisional_timeout=0.4)
        self.assertEqual(list(self.forwarded()), [32071])
        self.whole.clock.advance(0.4)
        self.assertEqual(list(self.forwarded()), [32072])

    def test_final_timeout(self) -> None:
        """A target that rings for too long is cancelled, and the next one tried."""
        self.proxy(ONE, TWO, final_timeout="3s")
        invite = self.forwarded()[32071]
        self.whole.respond(invite, 180)
        self.forwarded()
        self.whole.clock.advance(3)
        sent = self.forwarded()
        self.assertEqual([one.method for one in sent.values()], ["CANCEL", "INVITE"])

    def test_nobody_answers(self) -> None:
        """Silence is 408 for the caller, and an end for the application."""
        proxying = self.proxy(ONE)
        self.forwarded()
        self.whole.clock.advance(32)
        self.assertEqual(self.caller_got(), ["408 INVITE"])
        self.assertIsNone(self.successResultOf(proxying).final_status)

    def test_simultaneous(self) -> None:
        """All are tried at once; who does not win is cancelled."""
        proxying = self.proxy(ONE, TWO, THREE, forking="simultaneous")
        invites = self.forwarded()
        self.assertEqual(list(invites), [32071, 32072, 32073])
        self.whole.respond(invites[32071], 180)
        self.whole.respond(invites[32072], 200, port=32072)
        sent = self.forwarded()
        self.assertEqual({port: one.method for port, one in sent.items()}, {32071: "CANCEL"})
        self.assertTrue(self.successResultOf(proxying).connected)
        self.whole.respond(invites[32073], 180, port=32073)
        self.assertEqual({one.method for one in self.forwarded().values()}, {"CANCEL"})

    def test_decline_ends_the_search(self) -> None:
        """A 6xx counts for all."""
        self.proxy(ONE, TWO)
        self.whole.respond(self.forwarded()[32071], 603)
        self.assertEqual(self.caller_got(), ["603 INVITE"])

    def test_redirect(self) -> None:
        """The contacts of a redirect are tried if that is wanted."""
        self.proxy(ONE, follow_redirects=True)
        contact = {"Contact": f"<{TWO}>, <{THREE}>"}
        self.whole.respond(self.forwarded()[32071], 302, headers=contact)
        [(port, invite)] = self.forwarded().items()
        self.assertEqual(port, 32072)
        self.whole.respond(invite, 486, port=32072)
        self.assertEqual(list(self.forwarded()), [32073])

    def test_cancelled(self) -> None:
        """When the caller gives up, so do the calls to the targets."""
        proxying = self.proxy(ONE, TWO)
        invite = self.forwarded()[32071]
        self.whole.respond(invite, 180)
        self.forwarded()
        self.whole.receive(request("CANCEL"), 32070)
        sent = self.forwarded()
        self.assertEqual([head(one) for one in self.others], ["200 CANCEL", "487 INVITE"])
        self.assertEqual([one.method for one in sent.values()], ["CANCEL"])
        self.whole.respond(invite, 487)
        self.assertFalse(self.successResultOf(proxying).connected)

    def test_record_route(self) -> None:
        """A proxy that stays in the way forwards the requests of the dialog."""
        self.proxy(ONE, record_route=True)
        invite = self.forwarded()[32071]
        self.assertEqual(invite.get("Record-Route"), "<sip:127.0.0.1:32060;lr>")
        self.whole.respond(invite, 200, headers={"Record-Route": invite.get("Record-Route") or ""})
        self.forwarded()
        route = "Route: <sip:127.0.0.1:32060;lr>, <sip:127.0.0.1:32071;lr>"
        for method, number in (("ACK", 1), ("BYE", 2)):
            text = request(method, number=number, to_tag="b", branch=method, extra=route)
            self.whole.receive(text, 32070)
            self.whole.pump()
            [(flow, data)] = self.whole.server.wire.sent
            self.whole.server.wire.sent = []
            passed = SipRequest.from_bytes(data)
            self.assertEqual((flow.remote_port, passed.method), (32071, method))
            self.assertEqual(passed.get_all("Route"), ["<sip:127.0.0.1:32071;lr>"])
        self.whole.respond(passed, 200)
        self.assertEqual(self.caller_got(), ["200 BYE"])

    def test_no_relay(self) -> None:
        """Requests of calls that were not proxied here are not forwarded."""
        route = "Route: <sip:127.0.0.1:32060;lr>, <sip:127.0.0.1:32071;lr>"
        self.whole.receive(request("BYE", to_tag="b", extra=route), 32070)
        self.assertEqual(self.forwarded(), {})
        self.assertEqual([head(one) for one in self.others], ["481 BYE"])

    def test_headers(self) -> None:
        """Headers may be added."""
        self.proxy(ONE, headers={"X-A": "1"})
        self.assertEqual(self.forwarded()[32071].get("X-A"), "1")


class OtherTests(ProxyTestCase):
    def test_options(self) -> None:
        """Other requests are forwarded as well."""
        proxying = self.proxy(ONE, method="OPTIONS")
        self.whole.respond(self.forwarded()[32071], 200)
        self.assertEqual(self.caller_got(), ["200 OPTIONS"])
        self.assertEqual(self.successResultOf(proxying).final_status, 200)

    def test_too_many_hops(self) -> None:
        """A request that came too far is refused."""
        self.whole.receive(request("INVITE").replace("Max-Forwards: 70", "Max-Forwards: 0"), 32070)
        self.whole.heads()
        proxying = self.srf.proxy_request(self.kept[-1][0], ONE)
        self.assertEqual(self.whole.heads(), ["483 INVITE"])
        error = self.failureResultOf(proxying, CommandRefused).value
        self.assertIn("483", str(error))

    def test_nowhere(self) -> None:
        """When no target can be reached the caller gets 500, and the application the refusal."""
        proxying = self.proxy(f"{ONE};transport=ws")
        self.assertEqual(self.whole.heads(), ["500 INVITE"])
        self.failureResultOf(proxying, CommandRefused)

    def test_answered_before(self) -> None:
        """What was answered or cancelled cannot be proxied."""
        self.whole.receive(request("INVITE"), 32070)
        req, res = self.kept[-1]
        res.send(486)
        proxying = self.srf.proxy_request(req, ONE)
        self.whole.clock.advance(0)
        self.failureResultOf(proxying, LocalProtocolError)
        self.whole.receive(request("INVITE", call="c2"), 32070)
        self.whole.receive(request("CANCEL", call="c2"), 32070)
        proxying = self.srf.proxy_request(self.kept[-1][0], ONE)
        self.whole.clock.advance(0)
        self.failureResultOf(proxying, SipError)

    def test_link_lost(self) -> None:
        """A connection that is lost fails the Deferred."""
        proxying = self.proxy(ONE)
        self.whole.pump()
        self.whole.lose()
        self.failureResultOf(proxying, ConnectionLost)

    def test_secure_destinations(self) -> None:
        """A server without TLS is not asked for ``sips:``, behind which it would try nobody."""
        self.proxy("sips:bob@example.net", ONE)
        self.assertEqual(list(self.forwarded()), [32071])
        with self.assertRaises(LocalProtocolError):
            self.srf.proxy_request(self.kept[-1][0], "sips:bob@example.net")

    def test_late_refusal(self) -> None:
        """Who accepted has: the refusals of others that come later change nothing of that."""
        proxying = self.proxy(ONE, TWO, forking="simultaneous")
        invites = self.forwarded()
        self.whole.respond(invites[32072], 180, port=32072)
        self.whole.respond(invites[32071], 200, port=32071, body="v=0\r\n")
        self.whole.respond(invites[32072], 487, port=32072)
        self.forwarded()
        result = self.successResultOf(proxying)
        self.assertTrue(result.connected)

    def test_silent_server(self) -> None:
        """A server that says nothing behind a CANCEL is not waited for longer than 40 s."""
        bench = Bench()
        results: list[ProxyResult] = []

        @bench.srf.invite
        def forward(req: Request, res: Response) -> None:
            bench.srf.proxy_request(req, ONE).addCallback(results.append)

        server = bench.connect()
        transaction = server.invite()
        self.assertIn("proxy", server.one().text)
        server.cancel(transaction)
        bench.pass_time(39.9)
        self.assertEqual(results, [])
        bench.pass_time(0.2)
        [result] = results
        self.assertEqual(
            (result.cancelled, result.connected, result.final_status), (True, False, None)
        )
        self.assertTrue(bench.srf.idle)

    def test_bad_destinations(self) -> None:
        """Destinations that a server would silently ignore are refused at once."""
        self.whole.receive(request("INVITE"), 32070)
        req, _ = self.kept[-1]
        for bad in ("tel:+1", "http://a", "<sip:a@b>", "", ["sip:a@b"] * 11, []):
            with self.assertRaises(LocalProtocolError):
                self.srf.proxy_request(req, bad)
        with self.assertRaises(LocalProtocolError):
            self.srf.proxy_request(req, ONE, forking="maybe")

    def test_durations(self) -> None:
        """Times are seconds, or drachtio's words."""
        self.assertEqual([duration(1.5), duration("2s"), duration(None)], ["1500ms", "2s", ""])
        for bad in (0, -1, "2", "1.5s", "abc"):
            self.assertRaises(LocalProtocolError, duration, bad)
