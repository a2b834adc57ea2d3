"""Requests in the dialogs of calls that were proxied pass through, and their responses back."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.sip.message import Request
from tests.server.doubles import HOST, PORT, Bench, request
from tests.server.test_uac import reply

CALLER, BEHIND, CALLEE = 32070, 40001, 32071
ROUTE = f"Route: <sip:{HOST}:{PORT};transport=tcp;lr>"


class PassingTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Proxy a call of somebody over TCP whose connection comes from a port of its own."""
        self.bench = Bench()
        app = self.bench.link("invite")
        self.receive(request("INVITE"))
        [frame] = app.take()
        transaction = frame.split("|")[8]
        app.command(
            f"proxy|{transaction}|remainInDialog|fullResponse|nofollow|serial|||"
            f"sip:bob@{HOST}:{CALLEE};transport=tcp\r\nINVITE sip:x SIP/2.0\r\n\r\n"
        )
        self.answer(200)

    def receive(self, text: str) -> None:
        """Let a request come from the caller, as a transport hands it over."""
        text = text.replace("SIP/2.0/UDP", "SIP/2.0/TCP").replace("rport=32070", f"rport={BEHIND}")
        self.bench.receive(text, BEHIND, "tcp")

    def answer(self, status: int) -> None:
        """Let the callee answer what was passed on."""
        asked = self.bench.take()[-1]
        assert isinstance(asked, Request)
        self.bench.receive(reply(asked, status), CALLEE, "tcp")

    def test_over_the_same_connection(self) -> None:
        """A response goes back over the connection that its request came on."""
        for method, number in (("INFO", 2), ("BYE", 3)):
            self.bench.take()
            self.receive(request(method, number=number, to_tag="b", extra=ROUTE))
            self.answer(200)
            [(flow, _)] = self.bench.wire.sent
            self.assertEqual((flow.protocol, flow.remote_port), ("tcp", BEHIND))

    def test_connection_is_gone(self) -> None:
        """When that was closed, it goes where the caller listens (RFC 3261 section 18.2.2)."""
        self.bench.take()
        self.receive(request("BYE", number=2, to_tag="b", extra=ROUTE))
        self.bench.wire.closed.add(self.bench.wire.flow(HOST, BEHIND, "tcp"))
        self.answer(200)
        [(flow, _)] = self.bench.wire.sent
        self.assertEqual((flow.protocol, flow.remote_port), ("tcp", CALLER))
