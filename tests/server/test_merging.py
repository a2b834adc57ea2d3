"""Requests that come twice by different ways (RFC 3261 section 8.2.2.2)."""

from __future__ import annotations

from drachtwist.sip.message import Response
from tests.server.doubles import request
from tests.server.test_uas import ServerTestCase


class MergingTests(ServerTestCase):
    def arrivals(self) -> int:
        """Count what is remembered to recognise copies."""
        return len(self.bench.core.uas._arrivals)

    def test_copy(self) -> None:
        """A copy with another branch is refused with 482, whatever its method is."""
        for method in ("INVITE", "OPTIONS", "MESSAGE", "SUBSCRIBE"):
            self.offered(request(method, call=method))
            self.bench.take()
            self.bench.receive(request(method, call=method, branch="elsewhere"))
            [refusal] = self.bench.take()
            assert isinstance(refusal, Response)
            self.assertEqual((refusal.status, refusal.reason), (482, "Loop Detected"))
            self.assertTrue(refusal.to.tag)
            self.assertEqual(self.app.take(), [])

    def test_refusal_is_a_transaction(self) -> None:
        """The 482 to an INVITE is repeated until its ACK comes, which no application sees."""
        self.offered(request("INVITE"))
        self.bench.take()
        self.bench.receive(request("INVITE", branch="elsewhere"))
        [refusal] = self.bench.take()
        assert isinstance(refusal, Response)
        self.assertEqual(self.seen(1), [(0.5, "482 INVITE")])
        self.bench.receive(request("ACK", branch="elsewhere", to_tag=refusal.to.tag or ""))
        self.assertEqual((self.seen(10), self.app.take()), ([], []))

    def test_the_first_goes_on(self) -> None:
        """The request that came first is answered as if nothing had been; so is its copy."""
        invite, _ = self.ringing()
        copy = request("INVITE", branch="elsewhere")
        self.bench.receive(copy)
        self.assertEqual(self.bench.heads(), ["482 INVITE"])
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 INVITE"])
        self.bench.receive(copy)
        self.assertEqual(self.bench.heads(), ["482 INVITE"])

    def test_behind_the_200(self) -> None:
        """A copy that is late is refused too; an INVITE that is no copy is still a 491."""
        self.answered()
        self.bench.receive(request("INVITE", branch="elsewhere"))
        self.assertEqual(self.bench.heads(), ["482 INVITE"])
        self.bench.receive(request("INVITE", number=2))
        self.assertEqual(self.bench.heads(), ["100 INVITE", "491 INVITE"])

    def test_repeats(self) -> None:
        """A request that is only repeated is absorbed."""
        self.offered(request("OPTIONS"))
        self.bench.receive(request("OPTIONS"))
        self.assertEqual((self.bench.take(), self.app.take()), ([], []))

    def test_no_copies(self) -> None:
        """With another number, tag or Call-ID it is another request."""
        self.offered(request("OPTIONS"))
        self.offered(request("OPTIONS", number=2))
        self.offered(request("OPTIONS", from_tag="b", branch="other"))
        self.offered(request("OPTIONS", call="c2"))

    def test_with_credentials(self) -> None:
        """A request that is repeated with credentials has another number."""
        invite = self.offered(request("INVITE"))
        self.app.answer(invite, 'SIP/2.0 401 No\r\nWWW-Authenticate: Digest realm="r", nonce="n"')
        self.bench.take()
        self.offered(request("INVITE", number=2))
        self.assertEqual(self.bench.heads(), ["100 INVITE"])

    def test_cancel(self) -> None:
        """A CANCEL is no copy of its INVITE, nor is its ACK."""
        self.ringing()
        self.bench.receive(request("CANCEL"))
        self.assertEqual(self.bench.heads(), ["200 CANCEL", "487 INVITE"])

    def test_through_the_proxy(self) -> None:
        """A request that was forwarded, and comes back for somebody else, is no copy."""
        invite = self.offered(request("INVITE"))
        self.bench.take()
        self.app.command(f"proxy|{invite}||fullResponse||serial|||sip:bob@127.0.0.1:32060\r\n")
        [(flow, raw)] = self.bench.wire.sent
        self.assertEqual(flow.remote_port, 32060)
        self.bench.receive(raw, port=32060)
        [frame] = self.app.take()
        self.assertIn("\r\nINVITE sip:bob@127.0.0.1:32060 SIP/2.0\r\n", frame)

    def test_forgotten(self) -> None:
        """What is over, or was never answered, is taken anew."""
        self.offered(request("INVITE"))
        options = self.offered(request("OPTIONS"))
        self.app.answer(options, "SIP/2.0 200 OK")
        self.assertEqual(self.arrivals(), 2)
        self.seen(100)
        self.assertEqual(self.arrivals(), 0)
        self.app.take()
        for method in ("INVITE", "OPTIONS"):
            self.offered(request(method, branch=f"{method}-elsewhere"))
