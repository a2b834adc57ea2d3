"""What happens to requests when there are too many already."""

from __future__ import annotations

from dataclasses import replace

from drachtwist.sip.message import Request, Response
from tests.server.doubles import request
from tests.server.test_proxying import ROUTE, ProxyTestCase
from tests.server.test_uac import CallingTestCase
from tests.server.test_uas import ServerTestCase

METHODS = (
    "INVITE BYE CANCEL OPTIONS MESSAGE REGISTER SUBSCRIBE NOTIFY INFO PRACK UPDATE REFER PUBLISH"
    " BREW"
).split()


class ManyTests(ServerTestCase):
    """There are only so many transactions at a time (RFC 3261 section 8.2.7)."""

    def fill(self, most: int) -> None:
        """Let no more transactions be than there are."""
        self.assertEqual(len(self.bench.core.uas.transactions), most)
        self.bench.core.limits = replace(self.bench.core.limits, transactions=most)

    def refused(self, text: str, what: object, protocol: str = "udp") -> str:
        """Let a request come that is told to come later, without a trace; give the To tag."""
        core = self.bench.core
        before = dict(core.uas.transactions), len(core.clock), len(core.uas.open)
        self.bench.receive(text, protocol=protocol)
        [answer] = self.bench.take()
        assert isinstance(answer, Response), what
        self.assertEqual((answer.status, answer.get("Retry-After")), (503, "5"), what)
        after = dict(core.uas.transactions), len(core.clock), len(core.uas.open)
        self.assertEqual((after, self.app.take()), (before, []), what)
        self.assertTrue(answer.to.tag, what)
        return answer.to.tag or ""

    def test_refused_without_a_trace(self) -> None:
        """Beyond the limit new requests are told to come later; what is known goes on."""
        _, tag = self.answered()
        self.offered(request("INVITE", call="c2"))
        self.bench.take()
        self.fill(2)
        for method in ("INVITE", "SUBSCRIBE", "REGISTER", "MESSAGE", "OPTIONS"):
            self.refused(request(method, call=f"flood-{method}"), method)
        self.bench.receive(request("CANCEL", call="c2"))
        self.assertEqual(self.bench.heads(), ["200 CANCEL", "487 INVITE"])
        self.bench.receive(request("ACK", branch="ack", to_tag=tag))
        self.app.take()
        self.bench.receive(request("BYE", number=2, to_tag=tag))
        [frame] = self.app.take()
        self.assertIn("\r\nBYE ", frame)
        self.assertEqual(self.bench.core.alerts.counts["transactions"], 5)

    def test_whatever_it_claims(self) -> None:
        """It helps nobody to claim to belong to a call: of all methods, over UDP and streams."""
        self.offered(request("INVITE"))
        self.bench.take()
        self.fill(1)
        for protocol in ("udp", "tcp"):
            for method in METHODS:
                for claimed in ("", "made-up"):
                    what = (protocol, method, claimed)
                    call = "-".join(what)
                    again = [
                        self.refused(request(method, call=call, to_tag=claimed), what, protocol)
                        for _ in range(2)
                    ]
                    self.assertEqual(again[0], again[1], what)
                    self.assertEqual(again[0] == claimed, bool(claimed), what)
                    ack = request("ACK", call=call, branch=f"{method}-1", to_tag=again[0])
                    self.bench.receive(ack, protocol=protocol)
                    self.assertEqual((self.bench.take(), self.app.take()), ([], []), what)
        self.assertEqual(len(self.bench.core.uas.transactions), 1)

    def test_claiming_a_call(self) -> None:
        """Nor does it help to know the Call-ID of a call, or one's own tag in it."""
        tag = self.up()
        self.ringing(call="c2")
        self.fill(2)
        for method in METHODS:
            for call in ("c1", "c2"):
                for own, to_tag in (("a", "made-up"), ("b", tag)):
                    text = request(
                        method, call=call, number=7, branch=method, from_tag=own, to_tag=to_tag
                    )
                    self.refused(text, (method, call, own))

    def test_copies(self) -> None:
        """A request that came before by another way is sent away, too."""
        self.offered(request("MESSAGE"))
        self.fill(1)
        self.refused(request("MESSAGE", branch="another way"), "copy")

    def test_calls_go_on(self) -> None:
        """What belongs to a call that is up, or being set up, gets through."""
        tag = self.up()
        _, ringing = self.ringing(call="c2")
        for number in range(18):
            self.offered(request("MESSAGE", call=f"other-{number}"))
        self.fill(20)
        for number, method in enumerate(("INFO", "UPDATE", "OPTIONS", "BYE"), 2):
            self.offered(request(method, number=number, to_tag=tag))
        for number, method in enumerate(("UPDATE", "INFO", "OPTIONS"), 2):
            self.offered(request(method, call="c2", number=number, to_tag=ringing))
        self.bench.take()
        self.bench.receive(request("BYE", call="c2", number=9, to_tag=ringing))
        self.assertEqual(self.bench.heads(), ["200 BYE", "487 INVITE"])

    def test_bytes(self) -> None:
        """It counts how long the requests are, too, until they are forgotten."""
        core = self.bench.core
        core.limits = replace(core.limits, transaction_bytes=10_000)
        for number in range(3):
            self.offered(request("MESSAGE", call=f"c{number}", body="x" * 4000))
        self.refused(request("MESSAGE", call="c4"), "bytes")
        self.bench.clock.advance(65)
        self.bench.take()
        self.assertEqual((core.uas.held, len(core.uas.transactions)), (0, 0))
        for number, protocol in enumerate(("udp", "tcp")):
            text = request("MESSAGE", call=f"d{number}", body="x" * 4000)
            self.app.answer(self.offered(text, protocol=protocol), "SIP/2.0 200 OK")
        self.bench.clock.advance(33)
        self.assertEqual(core.uas.held, 0)

    def test_one_call_is_no_way_round(self) -> None:
        """Who has a call up may fill as much again; then only what ends calls gets through."""
        tag = self.up()
        self.offered(request("MESSAGE", call="c2"))
        self.fill(2)
        for number in (2, 3):
            self.offered(request("INFO", number=number, to_tag=tag))
        for method in METHODS:
            if method not in ("BYE", "CANCEL"):
                text = request(method, number=4, branch=f"f-{method}", to_tag=tag)
                self.refused(text, method)
        for extra, number in (("", 1), ("Require: nothing", 4)):
            text = request("BYE", number=number, branch=f"f-{number}", to_tag=tag, extra=extra)
            self.refused(text, extra)
        self.bench.take()
        self.offered(request("BYE", number=5, to_tag=tag))


class CalledTests(CallingTestCase):
    """What a callee sends, before it answers and afterwards, belongs to a call."""

    def fill(self) -> None:
        """Let there be no room."""
        core = self.bench.core
        core.uas.transactions.clear()
        self.bench.receive(request("NOTIFY", call="other"))
        self.bench.take()
        self.app.take()
        core.limits = replace(core.limits, transactions=1)

    def from_callee(self, asked: Request, method: str) -> str:
        """Write a request of the callee."""
        return request(method, call=asked.call_id, from_tag="b", to_tag=asked.from_.tag or "")

    def test_early(self) -> None:
        """While it rings."""
        invite = self.ask()
        self.respond(invite, 180)
        self.fill()
        self.bench.receive(self.from_callee(invite, "INFO"))
        [frame] = self.app.take()
        self.assertIn("\r\nINFO ", frame)

    def test_up(self) -> None:
        """When it has answered."""
        invite = self.ask()
        self.respond(invite, 200)
        self.fill()
        self.bench.receive(self.from_callee(invite, "BYE"))
        [frame] = self.app.take()
        self.assertIn("\r\nBYE ", frame)

    def test_early_notify(self) -> None:
        """A NOTIFY that overtakes the answer to its SUBSCRIBE waits for it, and is given on."""
        subscribe = self.ask("SUBSCRIBE")
        self.fill()
        self.bench.receive(self.from_callee(subscribe, "NOTIFY"))
        self.assertEqual(self.bench.take(), [])
        self.assertIn("\r\nNOTIFY ", "".join(self.respond(subscribe, 202)))


class ProxiedTests(ProxyTestCase):
    def test_up(self) -> None:
        """What belongs to a call that was proxied passes."""
        self.up()
        core = self.bench.core
        core.limits = replace(core.limits, transactions=1)
        for number, method in enumerate(("ACK", "INFO", "BYE"), 1):
            self.bench.receive(request(method, number=number, to_tag="b", extra=ROUTE))
            self.assertEqual(self.bench.heads(), [method])
        self.assertEqual(len(core.uas.transactions), 1)
