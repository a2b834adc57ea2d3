"""What happens to requests of spammers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.server.spammers import Spammers
from drachtwist.sip.message import Request, Response
from tests.server.doubles import Bench, request, sip

SCANNER = "User-Agent: friendly-scanner/2"


class FindingTests(SynchronousTestCase):
    def found(self, text: str, **patterns: tuple[str, ...]) -> str | None:
        """Say what betrays the sender of a request."""
        headers = tuple((name.replace("_", "-"), values) for name, values in patterns.items())
        return Spammers(headers).find(Request.from_bytes(sip(text)))

    def test_user_agent(self) -> None:
        """A part of the User-Agent is enough, but capitals matter."""
        text = request("OPTIONS", extra=SCANNER)
        self.assertEqual(
            self.found(text, user_agent=("nmap", "scanner")), "user-agent: friendly-scanner/2"
        )
        self.assertIsNone(self.found(text, user_agent=("Scanner",)))
        self.assertIsNone(self.found(request("OPTIONS"), user_agent=("scanner",)))

    def test_users(self) -> None:
        """Of To and From only the user counts, not the name or the host."""
        text = request("OPTIONS")
        self.assertEqual(self.found(text, From=("lic",)), "from: alice")
        self.assertEqual(self.found(text, to=("app",)), "to: app")
        for pattern in ("Alice", "127", "sip"):
            self.assertIsNone(self.found(text, From=(pattern,), to=(pattern,)), pattern)

    def test_what_cannot_be_read(self) -> None:
        """A header that is missing, or no URI of SIP, betrays nobody."""
        text = request("OPTIONS").replace("<sip:app@127.0.0.1:32060>", "<tel:110>")
        self.assertIsNone(self.found(text, to=("1",)))
        self.assertIsNone(self.found("OPTIONS sip:a SIP/2.0\nCall-ID: 1", to=("a",)))

    def test_refused(self) -> None:
        """Other headers and actions are refused."""
        self.assertRaises(LocalProtocolError, Spammers, (("subject", ("x",)),))
        self.assertRaises(LocalProtocolError, Spammers, (("to", "pest"),))
        self.assertRaises(LocalProtocolError, Spammers, (), "shout")
        self.assertRaises(LocalProtocolError, Spammers, (), "reject", "shout")


class ServerTests(SynchronousTestCase):
    def bench(self, action: str = "reject", tcp_action: str = "discard") -> Bench:
        """Make a server that knows a spammer."""
        spammers = Spammers((("user-agent", ("scanner",)),), action, tcp_action)
        bench = Bench(spammers=spammers)
        self.app = bench.link("invite", "options", "register", "message")
        return bench

    def test_rejected(self) -> None:
        """A spammer gets 603 with a To tag; no application sees it, nothing remembers it."""
        bench = self.bench()
        for method in ("INVITE", "OPTIONS", "REGISTER", "BYE", "REFER", "CANCEL"):
            bench.receive(request(method, call=method, extra=SCANNER))
            [response] = bench.take()
            assert isinstance(response, Response)
            self.assertEqual((response.status, response.reason), (603, "Decline"))
            self.assertTrue(response.to.tag)
            self.assertEqual(response.cseq.method, method)
        self.assertEqual(self.app.take(), [])
        self.assertEqual(bench.core.counts()["server_transactions"], 0)
        self.assertEqual(bench.core.counts()["deadlines"], 0)

    def test_repeats(self) -> None:
        """Every copy of a request gets the same response, and the ACK of it nothing."""
        bench = self.bench()
        bench.receive(request("INVITE", extra=SCANNER))
        bench.receive(request("INVITE", extra=SCANNER))
        first, second = bench.take()
        self.assertEqual(first.raw, second.raw)
        bench.receive(request("INVITE", call="c2", extra=SCANNER))
        [other] = bench.take()
        self.assertNotEqual(first.to.tag, other.to.tag)
        bench.receive(request("ACK", branch="INVITE-1", to_tag=first.to.tag or "", extra=SCANNER))
        self.assertEqual(bench.take(), [])

    def test_discarded(self) -> None:
        """What is discarded is met with silence."""
        bench = self.bench("discard")
        for method in ("INVITE", "OPTIONS", "CANCEL"):
            bench.receive(request(method, extra=SCANNER))
        self.assertEqual((bench.take(), self.app.take()), ([], []))

    def test_connections(self) -> None:
        """Over connections the other action counts."""
        bench = self.bench("reject", "discard")
        bench.receive(request("OPTIONS", extra=SCANNER), protocol="tcp")
        self.assertEqual(bench.take(), [])
        bench = self.bench("discard", "reject")
        bench.receive(request("OPTIONS", extra=SCANNER), protocol="tcp")
        self.assertEqual(bench.heads(), ["603 OPTIONS"])

    def test_others(self) -> None:
        """Nobody else is bothered."""
        bench = self.bench()
        bench.receive(request("OPTIONS", extra="User-Agent: phone"))
        self.assertEqual(len(self.app.take()), 1)

    def test_calls_that_are_up(self) -> None:
        """Requests in a dialog are not looked at, nor is the CANCEL of a call."""
        bench = self.bench()
        bench.receive(request("INVITE"))
        [frame] = self.app.take()
        self.app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
        tag = bench.take()[-1].to.tag or ""
        bench.receive(request("ACK", branch="ack", to_tag=tag, extra=SCANNER))
        bench.receive(request("BYE", number=2, to_tag=tag, extra=SCANNER))
        self.assertEqual(len(self.app.take()), 2)
        bench.receive(request("INVITE", call="c2"))
        bench.take()
        bench.receive(request("CANCEL", call="c2", extra=SCANNER))
        self.assertIn("200 CANCEL", bench.heads())
