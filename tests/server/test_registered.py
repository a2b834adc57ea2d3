"""Clients that can only be reached over the connection that they made."""

from __future__ import annotations

from typing import Any

from drachtwist.sip import Request
from tests.server.doubles import request
from tests.server.test_uas import ServerTestCase, transaction


class RegisteredTests(ServerTestCase):
    def register(
        self, *, expires: str = "Expires: 60", protocol: str = "tcp", answer: str = "200 OK"
    ) -> None:
        """Let a client register, and accept that."""
        self.bench.clock.advance(0.25)
        text = request("REGISTER", call=f"r{self.bench.clock.seconds()}{expires}")
        text = text.replace("<sip:alice@127.0.0.1:32070>", "<sip:alice@phone.invalid>")
        self.bench.receive(text, 40000, protocol)
        [frame] = self.app.take()
        contact = "Contact: <sip:alice@phone.invalid>"
        self.app.answer(transaction(frame), f"SIP/2.0 {answer}\r\n{contact}\r\n{expires}")
        self.bench.take()

    def call(
        self, method: str = "INVITE", uri: str = "sip:alice@phone.invalid;transport=tcp"
    ) -> Any:
        """Let the application send a request; give what comes back."""
        return self.app.command(f"sip||\r\n{method} {uri} SIP/2.0\r\n\r\n")

    def test_over_its_connection(self) -> None:
        """A call takes the connection of the registration; nothing is looked up."""
        self.register()
        [echo] = self.call()
        self.assertIn("|OK|application|", echo)
        [(flow, data)] = self.bench.wire.sent
        self.assertEqual((flow.protocol, flow.remote_port), ("tcp", 40000))
        invite = Request.from_bytes(data)
        self.assertEqual(invite.uri, "sip:alice@phone.invalid;transport=tcp")
        self.assertEqual(self.bench.looked_up, [])

    def test_contact_expires(self) -> None:
        """The expiry of the Contact counts more."""
        self.register(expires="X: y")
        self.call()
        self.assertEqual(len(self.bench.looked_up), 1)

    def test_gone(self) -> None:
        """When the connection is closed the application is told 410."""
        self.register()
        self.bench.wire.closed.add(self.bench.wire.flow("127.0.0.1", 40000, "tcp"))
        _, told = self.call()
        self.assertIn("\r\nSIP/2.0 410 Gone\r\n", told)

    def test_expired(self) -> None:
        """After its time a registration is forgotten, and so it is when it is taken back."""
        self.register()
        self.bench.clock.advance(60)
        self.call()
        self.assertEqual(len(self.bench.looked_up), 1)
        self.register()
        self.register(expires="Expires: 0")
        self.call()
        self.assertEqual(len(self.bench.looked_up), 2)

    def test_not_accepted(self) -> None:
        """Only a 200 registers somebody: 202 is none to a REGISTER."""
        self.register(answer="202 Accepted")
        self.call()
        self.assertEqual(len(self.bench.looked_up), 1)

    def test_not_for_all(self) -> None:
        """Registrations over UDP are not remembered, and not all methods look for them."""
        self.register(protocol="udp")
        self.call()
        self.assertEqual(len(self.bench.looked_up), 1)
        self.register()
        self.call("INFO")
        self.assertEqual(len(self.bench.looked_up), 2)
