"""Tests of both ends of a connection, without any I/O."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import (
    AuthenticationError,
    ConnectionLost,
    FrameError,
    FrameTooLarge,
    LocalProtocolError,
)
from drachtwist.wire.commands import AddRoute, Answer, Delivery, RemoveRoute, SendMessage
from drachtwist.wire.frames import FrameDecoder, encode_frame
from drachtwist.wire.session import (
    ApplicationSession,
    Authenticated,
    Broken,
    Commanded,
    ServerSession,
    SessionEvent,
    Signed,
    WrongSecret,
    new_id,
)
from tests.transcripts import connections

HOST_PORTS = ["udp/127.0.0.1:5060"]


def pair(**options: object) -> tuple[ApplicationSession, ServerSession]:
    """Give both ends of a connection, authenticated."""
    app = ApplicationSession("cymru", **options)  # type: ignore[arg-type]
    server = ServerSession("cymru", HOST_PORTS, "v0.9.10")
    app.start(0.0)
    server.receive(app.data_to_send())
    app.receive(server.data_to_send(), 0.0)
    return app, server


def commands(server: ServerSession, app: ApplicationSession) -> list[object]:
    """Let the server read; give the commands that came."""
    events = server.receive(app.data_to_send())
    return [event.command for event in events if isinstance(event, Commanded)]


def sip(size: int) -> bytes:
    """Make a command of about so many bytes."""
    return bytes(SendMessage(b"x" * (size - 44)))


class IdTests(SynchronousTestCase):
    def test_ids(self) -> None:
        """Ids look like random UUIDs, and do not repeat."""
        ids = [new_id() for _ in range(70_000)]
        self.assertEqual(len(set(ids)), len(ids))
        shape = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-a[0-9a-f]{3}-[0-9a-f]{12}"
        self.assertTrue(all(re.fullmatch(shape, item) for item in ids[::999]))


class AuthenticationTests(SynchronousTestCase):
    def test_accepted(self) -> None:
        """The application speaks first, and learns who the server is."""
        app = ApplicationSession("cymru", ["a", "b"])
        server = ServerSession("cymru", HOST_PORTS, "v0.9.10", ["udp/10.0.0.1:5060"])
        app.start(0.0)
        self.assertEqual(server.receive(app.data_to_send()), [Signed(("a", "b"))])
        events = app.receive(server.data_to_send(), 0.0)
        self.assertEqual(
            events, [Authenticated(tuple(HOST_PORTS), "v0.9.10", ("udp/10.0.0.1:5060",))]
        )

    def test_refused(self) -> None:
        """A wrong secret is an AuthenticationError, and the server closes."""
        app = ApplicationSession("wrong")
        server = ServerSession("cymru", HOST_PORTS, "v0.9.10")
        app.start(0.0)
        self.assertEqual(server.receive(app.data_to_send()), [WrongSecret()])
        self.assertTrue(server.closing)
        [event] = app.receive(server.data_to_send(), 0.0)
        assert isinstance(event, Broken)
        self.assertIsInstance(event.error, AuthenticationError)
        self.assertIn("incorrect secret", str(event.error))

    def test_recorded(self) -> None:
        """The recorded refusal of a real server is understood."""
        lines = connections(2)[1]
        app = ApplicationSession("wrong")
        app.start(0.0)
        [payload] = FrameDecoder().feed(app.data_to_send())
        own_id = payload.split(b"|")[0]
        [their_id] = [line.frame.split(b"|")[0] for line in lines if line.sender == "app"][1:2]
        answer = next(
            line.frame for line in lines if line.event == "frame" and line.sender == "server"
        )
        [event] = app.receive(encode_frame(answer.replace(their_id, own_id)), 0.0)
        assert isinstance(event, Broken)
        self.assertIsInstance(event.error, AuthenticationError)

    def test_commands_wait(self) -> None:
        """Commands given before the server accepted the secret go out after it did."""
        app = ApplicationSession("cymru", routes=["invite"])
        server = ServerSession("cymru", HOST_PORTS, "v0.9.10")
        app.start(0.0)
        app.command(b"sip||\r\nOPTIONS", None)
        server.receive(app.data_to_send())
        app.receive(server.data_to_send(), 0.0)
        self.assertEqual(commands(server, app), [AddRoute("invite"), SendMessage(b"OPTIONS")])

    def test_silent_server(self) -> None:
        """A server that never answers the authentication is given up."""
        app = ApplicationSession("cymru", pong_timeout=5.0, ping_interval=None)
        app.start(1.0)
        self.assertEqual(app.deadline, 6.0)
        self.assertEqual(app.tick(5.9), [])
        [event] = app.tick(6.0)
        assert isinstance(event, Broken)
        self.assertIsInstance(event.error, ConnectionLost)

    def test_old_servers_say_less(self) -> None:
        """Missing tokens of the answer count as empty."""
        app = ApplicationSession("cymru")
        app.start(0.0)
        message_id = FrameDecoder().feed(app.data_to_send())[0].split(b"|")[0]
        events = app.receive(encode_frame(b"i|response|" + message_id + b"|OK|udp/h:1"), 0.0)
        self.assertEqual(events, [Authenticated(("udp/h:1",), "", ())])


class RouteTests(SynchronousTestCase):
    def test_sent_once(self) -> None:
        """Each verb is routed once, however often it is asked for."""
        app, server = pair(routes=["invite", "invite"])
        self.assertEqual(commands(server, app), [AddRoute("invite")])
        app.add_route("invite")
        app.add_route("options")
        app.set_routes(["options", "invite", "message"])
        self.assertEqual(commands(server, app), [AddRoute("options"), AddRoute("message")])

    def test_removed(self) -> None:
        """Removing one verb removes all at the server, so the others are sent again."""
        app, server = pair(routes=["invite", "options", "message"])
        commands(server, app)
        app.remove_route("options")
        app.remove_route("never")
        self.assertEqual(
            commands(server, app),
            [RemoveRoute("invite"), AddRoute("invite"), AddRoute("message")],
        )
        app.set_routes([])
        self.assertEqual(commands(server, app), [RemoveRoute("all")])


class AnswerTests(SynchronousTestCase):
    def test_matched_by_id(self) -> None:
        """Answers may come in any order; each goes to its own waiter."""
        app, server = pair()
        first, second = app.command(b"sip||\r\nA", "one"), app.command(b"sip||\r\nB", "two")
        commands(server, app)
        server.answer(second, "OK")
        server.answer(first, "NOK", "no")
        events = app.receive(server.data_to_send(), 0.0)
        self.assertEqual(waiters(events), [("two", True), ("one", False)])
        self.assertEqual(app.pending, 0)

    def test_unknown_answers(self) -> None:
        """An answer that nobody waits for is ignored."""
        app, _ = pair()
        self.assertEqual(app.receive(encode_frame(b"i|response|nobody|OK|x"), 0.0), [])

    def test_proxy_has_several(self) -> None:
        """The waiter of a proxy command stays until the last answer."""
        app, server = pair()
        message_id = app.command(b"proxy|t||fullResponse||serial|||sip:a@b", "proxy")
        commands(server, app)
        more = ["network", "3", "udp", "h", "1", "t", "", "", "continue"]
        server.answer(message_id, "OK", *more, raw=b"SIP")
        server.answer(message_id, "OK", *more, raw=b"SIP")
        server.answer(message_id, "OK", "done")
        server.answer(message_id, "OK", "done")
        events = app.receive(server.data_to_send(), 0.0)
        self.assertEqual(waiters(events), [("proxy", True)] * 3)

    def test_lost(self) -> None:
        """When the connection goes, every waiter is given back, and nothing can be sent."""
        app, _ = pair()
        app.command(b"sip||\r\nA", "one")
        app.command(b"sip||\r\nB", None)
        self.assertEqual(app.connection_lost(), ["one"])
        self.assertRaises(LocalProtocolError, app.command, b"ping", None)
        self.assertIsNone(app.deadline)


def waiters(events: list[SessionEvent]) -> list[tuple[object, bool]]:
    """Give whose answers came, and whether they were good."""
    return [
        (event[0], event[1].ok)
        for event in events
        if isinstance(event, tuple) and isinstance(event[1], Answer)
    ]


class LongFrameTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """A frame that a real server could not receive never leaves, and nothing waits for it."""
        app, _ = pair()
        self.assertRaises(FrameTooLarge, app.command, sip(12_229), "x")
        self.assertEqual((app.pending, app.data_to_send()), (0, b""))
        app.command(sip(12_228), "x")
        unlimited, _ = pair(max_payload=None, lone_payload=None)
        unlimited.command(sip(50_000), "x")
        self.assertGreater(len(unlimited.data_to_send()), 50_000)

    def test_nothing_follows(self) -> None:
        """Behind a long frame nothing is sent until it was answered."""
        app, server = pair()
        message_id = app.command(sip(5_000), "long")
        app.command(sip(100), "short")
        self.assertEqual(len(commands(server, app)), 1)
        server.answer(message_id, "OK")
        app.receive(server.data_to_send(), 0.0)
        self.assertEqual(len(commands(server, app)), 1)

    def test_fenced(self) -> None:
        """A long frame waits until the server has read what went before."""
        app, server = pair()
        app.command(b"proxy|t||||serial|||sip:a@b", "never answered")
        app.command(sip(5_000), "long")
        data = app.data_to_send()
        payloads = FrameDecoder().feed(data)
        self.assertEqual([payload.split(b"|")[1] for payload in payloads], [b"proxy", b"ping"])
        server.receive(data)
        app.receive(server.data_to_send(), 0.0)
        [command] = commands(server, app)
        self.assertIsInstance(command, SendMessage)

    def test_at_once_when_quiet(self) -> None:
        """Without anything unanswered a long frame leaves at once."""
        app, server = pair()
        app.command(sip(12_000), "long")
        self.assertEqual(len(commands(server, app)), 1)

    def test_long_proxy(self) -> None:
        """A proxy command that may never be answered must not block the connection."""
        app, _ = pair()
        long = b"proxy|t||||serial|||sip:a@b\r\n" + b"x" * 5000
        self.assertRaises(LocalProtocolError, app.command, long, None)

    @given(st.lists(st.integers(60, 12_228), max_size=12))
    def test_order_is_kept(self, sizes: list[int]) -> None:
        """Everything arrives, in order, whatever the sizes, and long frames travel alone."""
        app, server = pair()
        for size in sizes:
            app.command(sip(size), size)
        arrived = []
        while data := app.data_to_send():
            payloads = FrameDecoder().feed(data)
            if any(len(payload) > 4_000 for payload in payloads[:-1]):
                self.fail("something follows a long frame")
            for event in server.receive(data):
                if isinstance(event, Commanded) and isinstance(event.command, SendMessage):
                    arrived.append(len(event.command.message) + 44)
                    server.answer(event.message_id, "OK")
            app.receive(server.data_to_send(), 0.0)
        self.assertEqual(arrived, sizes)


class PingTests(SynchronousTestCase):
    def test_when_idle(self) -> None:
        """A ping is sent after an interval of silence, and its pong keeps the link."""
        app, server = pair(ping_interval=15.0, pong_timeout=10.0)
        self.assertEqual(app.deadline, 15.0)
        app.receive(encode_frame(b"i|sip|network|1|udp|h|1|t|x||\r\nBYE"), 10.0)
        self.assertEqual(app.tick(15.0), [])
        self.assertEqual(app.data_to_send(), b"")
        self.assertEqual(app.deadline, 25.0)
        app.tick(25.0)
        self.assertEqual(server.receive(app.data_to_send()), [])
        self.assertEqual(app.deadline, 35.0)
        app.receive(server.data_to_send(), 26.0)
        self.assertEqual(app.deadline, 41.0)

    def test_no_pong(self) -> None:
        """A link whose pong does not come is dead, whatever else comes."""
        app, _ = pair(ping_interval=15.0, pong_timeout=10.0)
        app.tick(15.0)
        app.receive(encode_frame(b"i|sip|network|1|udp|h|1|t|x||\r\nBYE"), 24.0)
        [event] = app.tick(25.0)
        assert isinstance(event, Broken)
        self.assertIsInstance(event.error, ConnectionLost)
        self.assertIn("ping", str(event.error))

    def test_old_servers(self) -> None:
        """Servers that know no ping are not asked."""
        app = ApplicationSession("cymru", ping_interval=15.0)
        server = ServerSession("cymru", HOST_PORTS, "v0.8.1")
        app.start(0.0)
        server.receive(app.data_to_send())
        app.receive(server.data_to_send(), 0.0)
        self.assertIsNone(app.deadline)


class GarbageTests(SynchronousTestCase):
    def test_frames_before_it_count(self) -> None:
        """What was understood before the framing was lost is still delivered."""
        app, _ = pair()
        good = encode_frame(b"i|sip|network|1|udp|h|1|t|x||\r\nBYE")
        delivery, broken = app.receive(good + b"garbage", 0.0)
        self.assertIsInstance(delivery, Delivery)
        assert isinstance(broken, Broken)
        self.assertIsInstance(broken.error, FrameError)
        self.assertEqual(app.receive(good, 0.0), [])

    def test_server_refuses_what_breaks_real_ones(self) -> None:
        """Commands that crash a real server are refused, and the connection is closed."""
        for payload, words in (
            (b"x|sip", b"Invalid message format"),
            (b"x|route", b"Invalid message format"),
            (b"x|authenticate", b"incorrect secret"),
            (b"x|proxy|t|u", b"Invalid proxy request: not enough information provided"),
            (b"x|frobnicate", b"Unknown message type"),
        ):
            server = ServerSession("cymru", HOST_PORTS, "v0.9.10")
            server.receive(encode_frame(payload))
            [answer] = FrameDecoder().feed(server.data_to_send())
            self.assertTrue(answer.endswith(b"|response|x|NO|" + words), answer)
            self.assertTrue(server.closing)

    def test_before_authentication(self) -> None:
        """Like a real server ours obeys unauthenticated commands, unless told not to."""
        server = ServerSession("cymru", HOST_PORTS, "v0.9.10")
        self.assertEqual(len(server.receive(encode_frame(b"x|route|invite"))), 1)
        strict = ServerSession("cymru", HOST_PORTS, "v0.9.10", require_authentication=True)
        self.assertEqual(strict.receive(encode_frame(b"x|route|invite")), [])
        self.assertTrue(strict.closing)

    def test_another_secret_later(self) -> None:
        """A wrong secret is refused also of whoever has shown the right one before."""
        server = ServerSession("cymru", HOST_PORTS, "v0.9.10")
        [signed] = server.receive(encode_frame(b"x|authenticate|cymru"))
        self.assertIsInstance(signed, Signed)
        [wrong] = server.receive(encode_frame(b"y|authenticate|wales"))
        self.assertIsInstance(wrong, WrongSecret)
        self.assertTrue(server.closing)

    @given(st.lists(st.binary(max_size=40)))
    def test_arbitrary_frames(self, payloads: list[bytes]) -> None:
        """Arbitrary frames raise nothing at either end."""
        app, server = pair()
        data = b"".join(map(encode_frame, payloads))
        app.receive(data, 1.0)
        server.receive(data)
        self.assertIsInstance(app.data_to_send(), bytes)
        self.assertIsInstance(server.data_to_send(), bytes)
