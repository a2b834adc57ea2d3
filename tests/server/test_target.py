"""Where the requests of a dialog go once the peer has another Contact.

RFC 3261 sections 12.2.1.2 and 12.2.2, RFC 3311, RFC 6665 section 4.
"""

from __future__ import annotations

from typing import Any

from drachtwist.sip.message import Request, Response
from tests.server.doubles import request
from tests.server.test_uac import CallingTestCase, reply
from tests.server.test_uas import ServerTestCase, transaction

CONTACT = "Contact: <sip:alice@127.0.0.1:32070>"
MOVED = "Contact: <sip:alice@127.0.0.1:32088>"
DIALOG = "c1;from-tag=a"


class CalledTests(ServerTestCase):
    """Somebody calls the application, and moves from port 32070 to 32088."""

    def move(self, method: str, number: int, status: int = 200, **how: Any) -> None:
        """Let the caller ask with another Contact, and the application answer."""
        text = request(method, number=number, to_tag=self.tag).replace(CONTACT, MOVED)
        self.bench.receive(text, **how)
        [frame] = self.app.take()
        self.app.answer(transaction(frame), f"SIP/2.0 {status} Whatever")
        if method == "INVITE" and status < 300:
            self.bench.receive(request("ACK", number=number, branch="a", to_tag=self.tag), **how)
            self.app.take()
        self.bench.take()

    def target(self, dialog: str = DIALOG) -> tuple[str, int, str]:
        """Give the Request-URI of the next request, where it goes, and how."""
        self.app.ask(dialog, "INFO sip:placeholder SIP/2.0")
        flow, _ = self.bench.wire.sent[-1]
        info = self.bench.take()[-1]
        assert isinstance(info, Request)
        return info.uri, flow.remote_port, flow.protocol

    def assert_moved(self, dialog: str = DIALOG) -> None:
        """See that requests go to the new Contact."""
        self.assertEqual(self.target(dialog), ("sip:alice@127.0.0.1:32088", 32088, "udp"))

    def assert_stayed(self) -> None:
        """See that they go to the old one."""
        self.assertEqual(self.target(), ("sip:alice@127.0.0.1:32070", 32070, "udp"))

    def test_asked(self) -> None:
        """A re-INVITE and an UPDATE count when they are accepted, and only then."""
        for method in ("INVITE", "UPDATE"):
            self.setUp()
            self.tag = self.up()
            self.move(method, 2, 488, port=32088)
            self.assert_stayed()
            self.move(method, 3, port=32088)
            self.assert_moved()

    def test_not_before(self) -> None:
        """As long as it is not answered, nothing changes."""
        self.tag = self.up()
        text = request("INVITE", number=2, to_tag=self.tag).replace(CONTACT, MOVED)
        self.bench.receive(text, port=32088)
        self.assert_stayed()

    def test_others(self) -> None:
        """Other requests do not count in a call."""
        self.tag = self.up()
        for number, method in enumerate(("INFO", "NOTIFY", "MESSAGE", "OPTIONS", "REFER"), 2):
            self.move(method, number, port=32088)
            self.assert_stayed()

    def test_answered(self) -> None:
        """The Contact of a 2xx to our re-INVITE or UPDATE counts, that of a failure does not."""
        for method in ("INVITE", "UPDATE"):
            self.setUp()
            self.tag = self.up()
            for status in (488, 200):
                self.assert_stayed()
                self.app.ask(DIALOG, f"{method} sip:placeholder SIP/2.0")
                asked = self.bench.take()[-1]
                assert isinstance(asked, Request)
                text = reply(asked, status)
                text = text.replace("sip:bob@127.0.0.1:32071>", "sip:alice@127.0.0.1:32088>")
                self.bench.receive(text, port=32088)
                self.app.take()
                self.bench.take()
            if method == "INVITE":
                self.app.ask(DIALOG, "ACK sip:placeholder SIP/2.0")
                flow, raw = self.bench.wire.sent.pop()
                self.assertTrue(raw.startswith(b"ACK sip:alice@127.0.0.1:32088 SIP/2.0"))
                self.assertEqual(flow.remote_port, 32088)
            self.assert_moved()

    def test_behind_nat(self) -> None:
        """When the new Contact is not where the request came from, that is where to go."""
        self.tag = self.up()
        self.move("INVITE", 2, port=40123)
        self.assertEqual(self.target(), ("sip:alice@127.0.0.1:32088", 40123, "udp"))

    def test_over_another_connection(self) -> None:
        """A caller that comes back over a new connection is answered there."""
        self.tag = self.up()
        self.move("INVITE", 2, port=40123, protocol="tcp")
        self.assertEqual(self.target(), ("sip:alice@127.0.0.1:32088", 40123, "tcp"))

    def test_route_set(self) -> None:
        """The route set stays as it was."""
        route = "Record-Route: <sip:127.0.0.1:32090;lr>"
        invite = self.offered(request("INVITE", extra=route))
        self.app.answer(invite, "SIP/2.0 200 OK")
        answer = self.bench.take()[-1]
        assert isinstance(answer, Response)
        self.tag = answer.to.tag or ""
        self.bench.receive(request("ACK", branch="ack", to_tag=self.tag))
        self.app.take()
        other = "Record-Route: <sip:127.0.0.1:32091;lr>"
        text = request("INVITE", number=2, to_tag=self.tag, extra=other).replace(CONTACT, MOVED)
        self.bench.receive(text)
        [frame] = self.app.take()
        self.app.answer(transaction(frame), "SIP/2.0 200 OK")
        self.assertEqual(self.target(), ("sip:alice@127.0.0.1:32088", 32090, "udp"))

    def test_before_the_answer(self) -> None:
        """An UPDATE that is accepted while the call rings counts for the call."""
        invite, self.tag = self.ringing()
        self.move("UPDATE", 2, 200, port=32088)
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.bench.take()
        self.assert_moved()

    def test_refused_before_the_answer(self) -> None:
        """One that is refused does not."""
        invite, self.tag = self.ringing()
        self.move("UPDATE", 2, 500, port=32088)
        self.app.answer(invite, "SIP/2.0 200 OK")
        self.bench.take()
        self.assert_stayed()

    def test_subscriber(self) -> None:
        """A subscriber moves with the SUBSCRIBE that refreshes its subscription."""
        subscribe = self.offered(request("SUBSCRIBE", extra="Event: presence\nExpires: 60"))
        self.app.answer(subscribe, "SIP/2.0 202 Accepted\r\nExpires: 60")
        answer = self.bench.take()[-1]
        assert isinstance(answer, Response)
        self.tag = answer.to.tag or ""
        self.assert_stayed()
        self.move("SUBSCRIBE", 2, port=32088)
        self.assert_moved()


class CallerTests(CallingTestCase):
    """The application calls, and the called party moves from port 32071 to 32088."""

    def peer(self, asked: Request, method: str, extra: str = "") -> None:
        """Let the called party ask with another Contact, and the application accept."""
        text = request(
            method,
            call=asked.call_id,
            from_tag="b",
            to_tag=asked.from_.tag or "",
            extra=extra,
        )
        self.bench.receive(text.replace(CONTACT, MOVED), port=32088)
        [frame] = self.app.take()
        self.app.answer(transaction(frame), "SIP/2.0 200 OK")
        self.bench.take()

    def target(self, dialog: str) -> tuple[str, int]:
        """Give the Request-URI of the next request, and where it goes."""
        self.app.ask(dialog, "INFO sip:placeholder SIP/2.0")
        flow, _ = self.bench.wire.sent[-1]
        return self.request(self.bench.take()[-1]).uri, flow.remote_port

    def test_asked(self) -> None:
        """A re-INVITE of the called party counts."""
        invite = self.ask()
        [told] = self.respond(invite, 200)
        dialog = told.split("|")[9]
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        self.assertEqual(self.target(dialog), ("sip:bob@127.0.0.1:32071", 32071))
        self.peer(invite, "INVITE")
        self.assertEqual(self.target(dialog), ("sip:alice@127.0.0.1:32088", 32088))

    def test_notifier(self) -> None:
        """So does the NOTIFY of a notifier."""
        subscribe = self.ask("SUBSCRIBE", extra="Event: presence")
        [told] = self.respond(subscribe, 200)
        self.peer(subscribe, "NOTIFY", "Event: presence\nSubscription-State: active")
        self.assertEqual(self.target(told.split("|")[9]), ("sip:alice@127.0.0.1:32088", 32088))

    def test_refresh_of_ours(self) -> None:
        """The answer to a refresh that the server sends by itself counts too."""
        invite = self.ask()
        [told] = self.respond(invite, 200, extra="Session-Expires: 90;refresher=uac")
        dialog = told.split("|")[9]
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        while not self.bench.wire.sent:
            self.bench.clock.advance(0.5)
        refresh = self.request(self.bench.take()[-1])
        text = reply(refresh, 200, extra="Session-Expires: 90;refresher=uac")
        self.bench.receive(text.replace(":32071>", ":32088>"), port=32088)
        flow, raw = self.bench.wire.sent.pop()
        self.assertEqual((raw[:4], flow.remote_port), (b"ACK ", 32088))
        self.assertEqual(self.target(dialog), ("sip:bob@127.0.0.1:32088", 32088))
