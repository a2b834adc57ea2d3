"""Tests of the application as a whole: connections, routes, several servers, and stopping."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from drachtwist import (
    AuthenticationError,
    CallRecord,
    ConnectionFailed,
    ConnectionLost,
    Dialog,
    DialogEnd,
    LocalProtocolError,
    Request,
    Response,
    Srf,
    TlsOptions,
)
from drachtwist.app.connections import STOP_TIMEOUT, UNUSED_TIMEOUT
from tests.app.doubles import ANSWER, HOST_PORTS, VERSION, Bench, Server

DIALOG = "c1;from-tag=a"


class SrfTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Make an application; tests connect it."""
        self.bench = Bench(tags=["blue"])
        self.srf = self.bench.srf
        self.dialogs: list[Dialog] = []

    def answering(self) -> None:
        """Let the application take calls."""

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            self.dialogs.append(await self.srf.create_uas(req, res, local_sdp=ANSWER))

    def ignore(self, req: Request, res: Response) -> None:
        """Take a request, and leave it."""

    def hang_up(self, server: Server, dialog_id: str = DIALOG) -> None:
        """Let the caller hang up, up to the confirmation of our 200."""
        server.ask("BYE", dialog_id=dialog_id, number=2)
        server.confirm(server.one())


class ConnectTests(SrfTestCase):
    def test_authenticates(self) -> None:
        """The secret and the tags are shown, then the routes are asked for."""
        self.srf.invite(self.ignore)
        self.srf.options(self.ignore)
        server = self.bench.connect(secret="geheim")
        self.assertEqual((server.secret, server.tags), ("geheim", ["blue"]))
        self.assertEqual(server.routes, ["invite", "options"])
        [link] = self.srf.links
        self.assertEqual(link.host_ports, tuple(HOST_PORTS.split(",")))
        self.assertEqual(link.server_version, VERSION)
        self.assertIs(self.successResultOf(self.bench.connection.when_connected()), link)

    def test_own_tags(self) -> None:
        """A connection may have tags of its own."""
        self.assertEqual(self.bench.connect(tags=["red", "green"]).tags, ["red", "green"])

    def test_bad_tags(self) -> None:
        """Tags that no server takes are refused."""
        for tags in (["a b"], ["x" * 33], ["x"] * 21, "text"):
            with self.assertRaises(LocalProtocolError):
                Srf(tags=tags)
            with self.assertRaises(LocalProtocolError):
                self.srf.connect(_memory(self.bench), secret="x", tags=tags)
            with self.assertRaises(LocalProtocolError):
                self.srf.listen(secret="x", tags=tags)

    def test_wrong_secret(self) -> None:
        """A wrong secret is told once, and not tried again."""
        errors: list[Exception] = []
        self.srf.on_error(errors.append)
        self.srf.connect(_memory(self.bench), secret="wrong")
        self.bench.clock.advance(0)
        [server] = self.bench.servers
        [frame] = server.frames()
        server.send(f"r|response|{frame.decode().partition('|')[0]}|NO|incorrect secret")
        self.bench.clock.advance(0)
        self.bench.clock.advance(3600)
        self.assertEqual(len(self.bench.servers), 1)
        [error] = errors
        self.assertIsInstance(error, AuthenticationError)
        self.assertIn("incorrect secret", str(error))
        self.assertEqual(self.srf.links, [])

    def test_wrong_secret_tried_again(self) -> None:
        """Unless that is wanted: then it is tried again, after the longest wait."""
        self.srf.connect(_memory(self.bench), secret="wrong", retry_refused=True)
        self.bench.clock.advance(0)
        [server] = self.bench.servers
        [frame] = server.frames()
        server.send(f"r|response|{frame.decode().partition('|')[0]}|NO|incorrect secret")
        self.bench.clock.advance(0)
        self.bench.clock.advance(14)
        self.bench.clock.advance(0)
        self.assertEqual(len(self.bench.servers), 1)
        self.bench.clock.advance(17)
        self.bench.clock.advance(0)
        self.assertEqual(len(self.bench.servers), 2)

    def test_events(self) -> None:
        """Applications learn of connections that come up, go, and are tried again."""
        seen: list[Any] = []
        self.srf.on_connect(lambda link: seen.append(("up", link)))
        self.srf.on_close(lambda link: seen.append(("down", link)))
        self.srf.on_reconnecting(lambda delay: seen.append(("wait", delay)))
        server = self.bench.connect(back_off=lambda failures: 2.0 * failures)
        [link] = self.srf.links
        server.lose()
        self.assertEqual(seen, [("up", link), ("down", link), ("wait", 2.0)])
        self.bench.pass_time(2)
        self.bench.settle()
        [again] = self.srf.links
        self.assertIsNot(again, link)
        self.assertEqual(seen[3:], [("up", again)])

    def test_reconnects_with_routes(self) -> None:
        """Routes are asked for again after every authentication."""
        self.srf.invite(self.ignore)
        self.bench.connect().lose()
        self.bench.pass_time(1)
        self.bench.settle()
        self.assertEqual(self.bench.servers[1].routes, ["invite"])

    def test_handler_that_adds_a_handler(self) -> None:
        """A handler that is added by a handler is called the next time."""
        seen: list[int] = []

        @self.srf.on_connect
        def first(link: object) -> None:
            number = len(seen)
            seen.append(number)
            self.srf.on_connect(lambda link: seen.append(100 + number))

        self.bench.connect()
        self.assertEqual(seen, [0])
        self.bench.connect()
        self.assertEqual(seen, [0, 1, 100])

    def test_failing_event_handler(self) -> None:
        """A handler of an event that fails is logged, and harms nothing."""

        @self.srf.on_connect
        def fail(link: Any) -> None:
            raise ZeroDivisionError

        seen: list[Any] = []
        self.srf.on_connect(seen.append)
        self.bench.connect()
        self.assertEqual(len(seen), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_failing_coroutine_as_event_handler(self) -> None:
        """So is a coroutine."""

        @self.srf.on_connect
        async def fail(link: Any) -> None:
            raise ZeroDivisionError

        self.bench.connect()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_pings(self) -> None:
        """A silent server is asked whether it is there, and given up when it does not answer."""
        lost: list[Any] = []
        self.srf.on_close(lost.append)
        server = self.bench.connect(ping_interval=5.0, pong_timeout=3.0)
        self.bench.pass_time(5)
        [ping] = server.frames()
        self.assertTrue(ping.endswith(b"|ping"))
        server.send(f"r|response|{ping.decode().partition('|')[0]}|OK|pong")
        self.bench.pass_time(5)
        self.assertEqual(len(server.frames()), 1)
        self.bench.pass_time(3)
        self.bench.clock.advance(0)
        self.assertEqual(len(lost), 1)

    def test_endpoints(self) -> None:
        """Endpoints are strings, hosts and ports, or endpoints; the wrong kind is refused."""
        srf = Srf(reactor=_Reactor())
        for arguments, text in _ENDPOINTS:
            connection = srf.connect(secret="x", **arguments)
            self.assertEqual(connection.endpoint, text)
            self.assertEqual(connection.tls, text.startswith("tls"))
            connection.stop()
        for endpoint in ("tcp:9023", "tcp:9023:interface=127.0.0.1", "nonsense", "udp:h:1"):
            with self.assertRaises(LocalProtocolError):
                srf.connect(endpoint, secret="x")
        for endpoint in ("tcp:h:9022", "nonsense", "tls:9023"):
            with self.assertRaises(LocalProtocolError):
                srf.listen(endpoint, secret="x")

    def test_secret_stays_hidden(self) -> None:
        """No ``repr`` shows the secret."""
        self.bench.connect(secret="geheim")
        for thing in (self.srf, self.bench.connection, self.srf.links[0]):
            self.assertNotIn("geheim", repr(thing))


class RouteTests(SrfTestCase):
    def setUp(self) -> None:
        """Connect."""
        super().setUp()
        self.srf.invite(self.ignore)
        self.server = self.bench.connect()

    def routes(self) -> list[str]:
        """Give the routes of the connection as it is now."""
        self.server.take()
        return self.server.routes

    def test_added_later(self) -> None:
        """A handler that is added while connected is routed at once, the others not again."""
        self.srf.options(self.ignore)
        self.assertEqual(
            [frame.partition(b"|")[2] for frame in self.server.frames()], [b"route|options"]
        )

    def test_once(self) -> None:
        """A method is routed once however many handlers it has."""
        self.srf.invite(self.ignore)
        self.srf.use("invite", self.ignore)
        self.assertEqual(self.server.frames(), [])

    def test_never_offered(self) -> None:
        """Methods that servers never offer outside of dialogs are not routed."""
        for method in ("ack", "bye", "cancel", "prack", "refer", "update"):
            getattr(self.srf, method)(self.ignore)
        self.srf.use(self.ignore)
        self.assertEqual(self.server.frames(), [])

    def test_cdr(self) -> None:
        """Records are routed when somebody wants them."""
        self.srf.on_cdr("start")(lambda record: None)
        self.assertEqual(self.routes(), ["invite", "cdr:start"])

    def test_every_connection(self) -> None:
        """A route goes to every connection that the application made."""
        other = self.bench.connect()
        self.srf.message(self.ignore)
        other.take()
        self.assertEqual(self.routes(), ["invite", "message"])
        self.assertEqual(other.routes, ["invite", "message"])

    def test_withdrawn(self) -> None:
        """A route can be withdrawn; as that takes all away, the rest is asked for again."""
        self.srf.options(lambda req, res: res.send(200))
        self.srf.message(self.ignore)
        self.routes()
        self.srf.unregister_for_messages("options")
        self.assertEqual(self.routes(), ["invite", "message"])
        self.server.ask("OPTIONS")
        self.assertEqual(self.server.heads(), ["200"])
        self.srf.reregister_for_messages("options")
        self.assertEqual(self.routes(), ["invite", "message", "options"])

    def test_withdrawn_for_good(self) -> None:
        """It stays withdrawn when the connection comes back, and when handlers are added."""
        self.srf.unregister_for_messages("INVITE")
        self.assertEqual(self.routes(), [])
        self.srf.invite(self.ignore)
        self.srf.message(self.ignore)
        self.server.lose()
        self.bench.pass_time(1)
        self.bench.settle()
        self.assertEqual(self.bench.servers[-1].routes, ["message"])


class CdrTests(SrfTestCase):
    def record(self, rest: str) -> None:
        """Let a record come."""
        self.bench.servers[0].send(f"m|cdr:{rest}|\r\nINVITE sip:a@b SIP/2.0\r\nCall-ID: x\r\n\r\n")

    def test_records(self) -> None:
        """Every handler of an event gets its records, as values."""
        seen: list[CallRecord] = []
        for event in ("attempt", "start", "stop"):
            self.srf.on_cdr(event)(seen.append)
        self.srf.on_cdr("start")(seen.append)
        self.bench.connect()
        self.record("attempt|network|01:02:03.4")
        self.record("start|network|01:02:03.4|uas")
        self.record("stop|application|01:02:03.4|normal-release")
        self.assertEqual(
            [(one.event, one.source, one.role, one.reason) for one in seen],
            [
                ("attempt", "network", "", ""),
                ("start", "network", "uas", ""),
                ("start", "network", "uas", ""),
                ("stop", "application", "", "normal-release"),
            ],
        )
        self.assertEqual(seen[0].time, "01:02:03.4")
        self.assertEqual(seen[0].message.get("Call-ID"), "x")
        self.assertIs(seen[0].link, self.srf.links[0])

    def test_failing_handler(self) -> None:
        """A handler that fails is logged; the others get theirs."""
        seen: list[CallRecord] = []

        @self.srf.on_cdr("start")
        def fail(record: CallRecord) -> None:
            raise ZeroDivisionError

        self.srf.on_cdr("start")(seen.append)
        self.bench.connect()
        self.record("start|network|01:02:03.4|uas")
        self.assertEqual(len(seen), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_unknown_event(self) -> None:
        """There are no other events."""
        with self.assertRaises(LocalProtocolError):
            self.srf.on_cdr("end")


class SeveralServersTests(SrfTestCase):
    def setUp(self) -> None:
        """Connect to two servers, and listen."""
        super().setUp()
        self.answering()
        self.first = self.bench.connect()
        self.second = self.bench.connect()
        self.bench.listen()

    def test_each_its_own(self) -> None:
        """Each call is answered over the connection that it came over."""
        third = self.bench.dial()
        for number, server in enumerate((self.first, self.second, third)):
            server.establish(f"call-{number}")
        self.assertEqual([dialog.link for dialog in self.dialogs], self.srf.links)
        for dialog, server in zip(self.dialogs, (self.first, self.second, third), strict=True):
            dialog.info()
            self.assertEqual(server.one().dialog_id, dialog.id)

    def test_same_ids(self) -> None:
        """The names of one server mean nothing to another."""
        self.first.establish()
        self.second.establish()
        one, other = self.dialogs
        self.hang_up(self.second)
        self.assertTrue(one.connected)
        self.assertFalse(other.connected)
        txn = self.first.invite(call="c2", transaction_id="t100")
        self.second.cancel(txn, call="c2")
        self.first.confirm(self.first.one(), "c2;from-tag=a")
        self.assertEqual(len(self.dialogs), 3)

    def test_loss_of_one(self) -> None:
        """The loss of one connection ends its calls, and no others."""
        self.first.establish()
        self.second.establish("c2")
        self.second.lose()
        one, other = self.dialogs
        self.assertTrue(one.connected)
        ended = other.ended
        assert ended is not None
        self.assertEqual(ended.reason, DialogEnd.LINK_LOST)
        self.assertIs(self.srf.find_dialog_by_id(DIALOG), one)
        self.assertIsNone(self.srf.find_dialog_by_id("c2;from-tag=a"))

    def test_default(self) -> None:
        """Requests outside of dialogs go to the oldest connection that the application made."""
        self.bench.dial()
        waiting = self.srf.request("sip:bob@example.net", method="OPTIONS")
        self.assertEqual(self.first.heads(), ["OPTIONS"])
        self.first.lose()
        self.failureResultOf(waiting, ConnectionLost)
        self.srf.request("sip:bob@example.net", method="OPTIONS")
        self.assertEqual(self.second.heads(), ["OPTIONS"])

    def test_chosen(self) -> None:
        """They go where something else is, when that is said."""
        third = self.bench.dial()
        third.establish()
        [dialog] = self.dialogs
        for link in (dialog, dialog.req, dialog.link):
            self.srf.request("sip:bob@example.net", method="OPTIONS", link=link)
            self.assertEqual(third.heads(), ["OPTIONS"])

    def test_none(self) -> None:
        """Without a connection they fail at once."""
        with self.assertRaises(ConnectionFailed):
            Srf().request("sip:bob@example.net", method="OPTIONS")

    def test_server_that_asked(self) -> None:
        """Behind a request that a server connected for, they go to that server."""
        bench = Bench()
        bench.listen()
        later: list[Deferred[None]] = []

        @bench.srf.options
        async def ask(req: Request, res: Response) -> None:
            bench.srf.request("sip:bob@example.net", method="MESSAGE").addErrback(lambda _: None)
            later.append(Deferred())
            await later[-1]
            bench.srf.request("sip:bob@example.net", method="INFO").addErrback(lambda _: None)
            res.send(200)

        servers = [bench.dial(), bench.dial()]
        for number, server in enumerate(servers):
            server.ask("OPTIONS", call=f"c{number}")
        self.assertEqual([server.heads() for server in servers], [["MESSAGE"], ["MESSAGE"]])
        for waiting in reversed(later):
            waiting.callback(None)
        self.assertEqual([server.heads() for server in servers], [["INFO", "200"]] * 2)

    def test_server_that_ends_what_nobody_knows(self) -> None:
        """A BYE of the server's own for a dialog that is not known is answered nothing."""
        self.first.ask("BYE", source="application", dialog_id="x;from-tag=y", call="x")
        self.assertEqual(self.first.heads(), [])
        self.assertTrue(self.srf.idle)

    def test_server_before_listener(self) -> None:
        """A connection that a server made is used when there is no other."""
        bench = Bench()
        bench.listen()
        server = bench.dial()
        bench.srf.request("sip:bob@example.net", method="OPTIONS")
        self.assertEqual(server.heads(), ["OPTIONS"])

    def test_gone(self) -> None:
        """A connection that is gone cannot be chosen."""
        self.first.establish()
        self.first.lose()
        with self.assertRaises(ConnectionLost):
            self.srf.request("sip:b@c", method="OPTIONS", link=self.dialogs[0])


class OutboundTests(SrfTestCase):
    def setUp(self) -> None:
        """Listen, and let a server connect."""
        super().setUp()
        self.answering()
        self.srf.options(lambda req, res: res.send(200))
        self.listened: list[Any] = []
        self.srf.on_listening(self.listened.append)
        self.bench.listen(secret="geheim", tags=["red"])
        self.server = self.bench.dial()

    def pass_moment(self) -> None:
        """Let what is due happen."""
        self.bench.clock.advance(0)
        self.bench.clock.advance(0)

    def test_authenticates(self) -> None:
        """The application shows secret and tags, and asks for no routes."""
        self.assertEqual((self.server.secret, self.server.tags), ("geheim", ["red"]))
        self.assertEqual(self.server.routes, [])
        self.assertTrue(self.srf.links[0].outbound)
        self.srf.message(self.ignore)
        self.server.take()
        self.assertEqual(self.server.routes, [])

    def test_listening(self) -> None:
        """Applications learn of the address."""
        self.assertEqual(self.listened, [self.bench.listener.address])

    def test_call(self) -> None:
        """The connection closes by itself when the call is over and our 200 confirmed."""
        self.server.establish()
        self.pass_moment()
        self.assertFalse(self.server.closed)
        self.server.ask("BYE", dialog_id=DIALOG, number=2)
        sent = self.server.one()
        self.pass_moment()
        self.assertFalse(self.server.closed)
        self.server.confirm(sent)
        self.pass_moment()
        self.assertTrue(self.server.closed)
        self.assertEqual(self.srf.links, [])

    def test_transaction(self) -> None:
        """It closes when a transaction is over that makes no dialog."""
        self.server.ask("OPTIONS")
        self.server.confirm(self.server.one())
        self.pass_moment()
        self.assertTrue(self.server.closed)

    def test_refusal(self) -> None:
        """It closes when the answer was refused, because the caller has gone."""
        self.server.invite()
        self.server.gone(self.server.one())
        self.pass_moment()
        self.assertTrue(self.server.closed)

    def test_cancel(self) -> None:
        """It closes when the caller gave up."""
        bench = Bench()
        bench.srf.invite(self.ignore)
        bench.listen()
        server = bench.dial()
        server.cancel(server.invite())
        bench.clock.advance(0)
        self.assertTrue(server.closed)

    def test_unhandled(self) -> None:
        """It closes when nobody took the request."""
        self.server.ask("MESSAGE")
        self.server.confirm(self.server.one())
        self.pass_moment()
        self.assertTrue(self.server.closed)

    def test_same_read(self) -> None:
        """What comes in the same read as the last answer may use it again."""
        self.server.ask("OPTIONS")
        sent = self.server.one()
        with self.server.in_one_read():
            self.server.confirm(sent)
            self.server.ask("OPTIONS", call="c2")
        self.pass_moment()
        self.assertFalse(self.server.closed)
        self.server.confirm(self.server.one())
        self.pass_moment()
        self.assertTrue(self.server.closed)

    def test_slow_handler(self) -> None:
        """It stays open while a handler is at work, even when the request is over."""
        wait: Deferred[None] = Deferred()

        @self.srf.message
        async def slow(req: Request, res: Response) -> None:
            res.send(202)
            await wait

        self.server.ask("MESSAGE")
        self.server.confirm(self.server.one())
        self.pass_moment()
        self.assertFalse(self.server.closed)
        wait.callback(None)
        self.pass_moment()
        self.assertTrue(self.server.closed)

    def test_destroyed(self) -> None:
        """It closes when the application has hung up."""
        self.server.establish()
        self.dialogs[0].destroy()
        self.server.respond(self.server.confirm(self.server.one()), 200, method="BYE")
        self.pass_moment()
        self.assertTrue(self.server.closed)

    def test_held(self) -> None:
        """It stays open while it is held."""
        self.server.establish()
        dialog = self.dialogs[0]
        self.srf.hold_session(dialog)
        self.hang_up(self.server)
        self.bench.pass_time(1000)
        self.assertFalse(self.server.closed)
        self.srf.release_session(dialog)
        self.pass_moment()
        self.assertTrue(self.server.closed)

    def test_held_at_last(self) -> None:
        """It stays open, too, if it is held in the moment in which it becomes unused."""
        self.server.establish()
        self.hang_up(self.server)
        self.srf.hold_session(self.dialogs[0])
        self.pass_moment()
        self.assertFalse(self.server.closed)

    def test_released_in_use(self) -> None:
        """Releasing it while it is in use closes nothing."""
        self.server.establish()
        self.srf.hold_session(self.dialogs[0])
        self.srf.release_session(self.dialogs[0])
        self.pass_moment()
        self.assertFalse(self.server.closed)

    def test_end_session(self) -> None:
        """``end_session`` closes it once everything is written; it takes what belongs to it."""
        self.server.establish()

        @self.dialogs[0].on_destroy
        def over(bye: Request | None) -> None:
            self.srf.end_session(self.dialogs[0])

        self.server.ask("BYE", dialog_id=DIALOG, number=2)
        self.assertEqual(self.server.heads(), ["200"])
        self.assertTrue(self.server.closed)
        self.pass_moment()
        self.srf.end_session(self.dialogs[0])
        for what in ("req", "res"):
            server = self.bench.dial()
            server.invite(call=what)
            dialog_id = f"{what};from-tag=a"
            server.confirm(server.one(), dialog_id)
            self.srf.end_session(getattr(self.dialogs[-1], what))
            self.assertTrue(server.closed)

    def test_end_session_inbound(self) -> None:
        """It changes nothing at a connection that the application made."""
        server = self.bench.connect()
        server.establish()
        self.srf.end_session(self.dialogs[0])
        self.pass_moment()
        self.assertFalse(server.closed)
        self.assertEqual(len(self.srf.links), 2)

    def test_others_stay(self) -> None:
        """It closes one connection, not all of them."""
        other = self.bench.dial()
        other.establish("c2")
        self.server.establish()
        self.srf.end_session(self.dialogs[1])
        self.pass_moment()
        self.assertTrue(self.server.closed)
        self.assertFalse(other.closed)

    def test_never_used(self) -> None:
        """One that brings no request is closed when the server has forgotten it."""
        self.bench.pass_time(UNUSED_TIMEOUT - 1)
        self.assertFalse(self.server.closed)
        self.bench.pass_time(1)
        self.assertTrue(self.server.closed)

    def test_used_for_long(self) -> None:
        """One that brings a request is not."""
        self.server.establish()
        self.bench.pass_time(10 * UNUSED_TIMEOUT)
        self.assertFalse(self.server.closed)

    def test_lost(self) -> None:
        """One that is lost leaves nothing behind, and is not made again."""
        self.server.establish()
        self.server.lose()
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])
        self.assertEqual(self.srf.links, [])

    def test_inbound_stays_open(self) -> None:
        """A connection that the application made stays open when its calls are over."""
        server = self.bench.connect()
        server.establish()
        self.hang_up(server)
        self.bench.pass_time(10 * UNUSED_TIMEOUT)
        self.assertFalse(server.closed)

    def test_pings(self) -> None:
        """Silent servers are asked whether they are there, unless that is not wanted."""
        bench = Bench()
        bench.listen(ping_interval=15.0)
        server = bench.dial()
        bench.pass_time(15)
        self.assertTrue(server.frames()[0].endswith(b"|ping"))


class StopTests(SrfTestCase):
    def setUp(self) -> None:
        """Take a call over each kind of connection."""
        super().setUp()
        self.answering()
        self.server = self.bench.connect()
        self.bench.listen()
        self.outbound = self.bench.dial()
        self.server.establish()
        self.outbound.establish("c2")

    def pass_moment(self) -> None:
        """Let what is due happen."""
        self.bench.clock.advance(0)
        self.bench.clock.advance(0)

    def test_at_once(self) -> None:
        """Routes are withdrawn, calls get a BYE, and then everything is closed."""
        stopping = self.srf.stop()
        for server in (self.server, self.outbound):
            sent = server.one()
            self.assertEqual(sent.head, "BYE")
            self.pass_moment()
            self.assertFalse(server.closed)
            self.assertNoResult(stopping)
            server.respond(server.confirm(sent), 200, method="BYE")
        self.assertEqual(self.server.routes, [])
        self.assertEqual(self.bench.endpoint.stopped, 1)
        self.pass_moment()
        self.successResultOf(stopping)
        self.assertTrue(self.server.closed and self.outbound.closed)
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])
        self.assertEqual(self.srf.links, [])

    def test_drain(self) -> None:
        """Calls get time to end by themselves; when they did, nothing more is waited for."""
        stopping = self.srf.stop(drain=60)
        self.assertEqual(self.server.take(), [])
        self.assertEqual(self.server.routes, [])
        self.bench.pass_time(30)
        self.hang_up(self.server)
        self.assertNoResult(stopping)
        self.hang_up(self.outbound, "c2;from-tag=a")
        self.pass_moment()
        self.successResultOf(stopping)
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_drain_is_over(self) -> None:
        """Calls that did not end meanwhile get a BYE."""
        stopping = self.srf.stop(drain=60)
        self.hang_up(self.server)
        self.bench.pass_time(60)
        sent = self.outbound.one()
        self.assertEqual(sent.head, "BYE")
        self.outbound.respond(self.outbound.confirm(sent), 200, method="BYE")
        self.pass_moment()
        self.successResultOf(stopping)

    def test_hurried(self) -> None:
        """Who stops again, without time for the calls, ends the time that they were given."""
        first = self.srf.stop(drain=60)
        self.assertEqual((self.server.take(), self.srf.draining), ([], True))
        second = self.srf.stop()
        for server in (self.server, self.outbound):
            sent = server.one()
            self.assertEqual(sent.head, "BYE")
            server.respond(server.confirm(sent), 200, method="BYE")
        self.pass_moment()
        self.successResultOf(first)
        self.successResultOf(second)
        self.assertEqual((self.srf.draining, self.bench.clock.getDelayedCalls()), (False, []))

    def test_silent_peers(self) -> None:
        """The answers to BYEs are not waited for for ever."""
        stopping = self.srf.stop()
        for server in (self.server, self.outbound):
            server.confirm(server.one())
        self.bench.pass_time(STOP_TIMEOUT)
        self.pass_moment()
        self.successResultOf(stopping)
        self.assertEqual(self.srf.links, [])

    def test_silent_server(self) -> None:
        """Nor are those of a server that says nothing at all."""
        stopping = self.srf.stop()
        self.bench.pass_time(STOP_TIMEOUT)
        self.pass_moment()
        self.successResultOf(stopping)

    def test_unanswered_calls(self) -> None:
        """Calls that nobody answered yet are refused."""
        bench = Bench()
        bench.srf.invite(self.ignore)
        server = bench.connect()
        server.invite()
        stopping = bench.srf.stop()
        sent = server.one()
        self.assertEqual(sent.head, "503")
        server.confirm(sent)
        bench.clock.advance(0)
        bench.clock.advance(0)
        self.successResultOf(stopping)

    def test_calls_that_just_come_up(self) -> None:
        """A call that was being answered is ended as soon as it is up."""
        self.server.invite(call="c3")
        accepted = self.server.one()
        self.srf.stop()
        self.server.confirm(accepted, "c3;from-tag=a")
        byes = [sent.dialog_id for sent in self.server.take() if sent.head == "BYE"]
        self.assertEqual(byes, [DIALOG, "c3;from-tag=a"])

    def test_own_calls(self) -> None:
        """Calls of our own that nobody answered yet are cancelled."""
        self.srf.create_uac("sip:bob@example.net").addErrback(lambda failure: None)
        self.server.confirm(self.server.one())
        self.srf.stop()
        self.assertEqual(sorted(self.server.heads()), ["BYE", "CANCEL"])

    def test_nothing_new(self) -> None:
        """What comes meanwhile is refused, but calls that are up go on."""
        self.srf.stop(drain=60)
        self.server.invite(call="c3")
        response = self.server.one().response
        self.assertEqual((response.status, response.get("Retry-After")), (503, "5"))
        self.server.ask("INFO", dialog_id=DIALOG, number=2)
        self.assertEqual(self.server.heads(), ["200"])
        self.server.ask("BYE", dialog_id="c9;from-tag=a")
        self.assertEqual(self.server.heads(), ["481"])

    def test_no_routes_after_reconnecting(self) -> None:
        """A connection that comes back meanwhile brings no new calls."""
        self.srf.stop(drain=60)
        self.server.lose()
        self.bench.pass_time(1)
        self.bench.settle()
        self.assertIsNot(self.bench.servers[-1], self.outbound)
        self.assertEqual(self.bench.servers[-1].routes, [])

    def test_handlers_meanwhile(self) -> None:
        """A handler that is added meanwhile brings no routes."""
        self.srf.stop(drain=60)
        self.srf.message(self.ignore)
        self.server.take()
        self.assertEqual(self.server.routes, [])

    def test_twice(self) -> None:
        """Stopping twice is stopping once."""
        first, second = self.srf.stop(), self.srf.stop(drain=60)
        for server in (self.server, self.outbound):
            server.respond(server.confirm(server.one()), 200, method="BYE")
        self.pass_moment()
        self.successResultOf(first)
        self.successResultOf(second)

    def test_idle(self) -> None:
        """An application without calls stops at once."""
        bench = Bench()
        bench.listen()
        server = bench.connect()
        self.assertTrue(bench.srf.idle)
        stopping = bench.srf.stop(drain=60)
        bench.clock.advance(0)
        bench.clock.advance(0)
        self.successResultOf(stopping)
        self.assertTrue(server.closed)
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_never_connected(self) -> None:
        """So does one that was never connected."""
        self.successResultOf(Srf(reactor=Clock()).stop())

    def test_unreachable_server(self) -> None:
        """An application that tries to reach a server stops trying."""
        bench = Bench()
        bench.endpoint.refusing = True
        bench.srf.connect(_memory(bench), secret="x")
        bench.pass_time(10)
        stopping = bench.srf.stop()
        bench.clock.advance(0)
        self.successResultOf(stopping)
        self.assertEqual(bench.clock.getDelayedCalls(), [])

    def test_refused_secret(self) -> None:
        """So does one whose secret was refused."""
        bench = Bench()
        bench.srf.connect(_memory(bench), secret="wrong")
        bench.clock.advance(0)
        [server] = bench.servers
        [frame] = server.frames()
        server.send(f"r|response|{frame.decode().partition('|')[0]}|NO|incorrect secret")
        bench.clock.advance(0)
        bench.clock.advance(0)
        self.successResultOf(bench.srf.stop())

    def test_stuck_connection(self) -> None:
        """A connection that cannot be closed in order is cut."""
        bench = Bench()
        server = bench.connect()
        server.transport.is_stuck = True
        stopping = bench.srf.stop()
        bench.clock.advance(0)
        self.assertNoResult(stopping)
        bench.clock.advance(STOP_TIMEOUT)
        bench.clock.advance(0)
        self.successResultOf(stopping)

    def test_again(self) -> None:
        """Afterwards the application can connect again, with its routes."""
        self.srf.stop()
        self.bench.pass_time(STOP_TIMEOUT)
        self.pass_moment()
        server = self.bench.connect()
        self.assertEqual(server.routes, ["invite"])
        server.establish("c4")
        self.assertEqual(self.dialogs[-1].id, "c4;from-tag=a")

    def test_late_server(self) -> None:
        """A server that connected too late is sent away."""
        bench = Bench()
        bench.listen()
        address = IPv4Address("TCP", "127.0.0.1", 9022)
        protocol: Any = bench.endpoint.factories[0].buildProtocol(address)
        stopping = bench.srf.stop()
        bench.clock.advance(0)
        self.successResultOf(stopping)
        server = Server(bench, protocol)
        server.take()
        self.assertTrue(server.closed)

    def test_late_server_while_calls_are_ended(self) -> None:
        """So is one that comes while the calls that were up get their BYE."""
        address = IPv4Address("TCP", "127.0.0.1", 9022)
        protocol: Any = self.bench.endpoint.factories[0].buildProtocol(address)
        self.srf.stop()
        late = Server(self.bench, protocol)
        late.take()
        self.assertTrue(late.closed)


class BoundTests(SrfTestCase):
    """What strangers can make the application remember."""

    def test_methods(self) -> None:
        """Handlers are kept picked out for so many methods; all others are handled as well."""
        seen: list[str] = []

        @self.srf.use
        def see(req: Request, res: Response, next: Any) -> Any:
            seen.append(req.method)
            return next()

        server = self.bench.connect()
        for number in range(200):
            server.ask(f"METHOD{number}", call=f"c{number}")
            server.confirm(server.one())
        self.assertEqual(len(seen), 200)
        self.assertLessEqual(len(self.srf._dispatcher._chains), 64)
        self.assertTrue(self.srf.idle)

    def test_strays(self) -> None:
        """Responses that overtake the name of their transaction are kept, but not all of any."""
        server = self.bench.connect()
        asking = self.srf.request("sip:bob@127.0.0.1:32071", method="OPTIONS")
        sent = server.one()
        for number in range(100):
            server.respond(f"nobody{number}", 200, method="OPTIONS")
        [state] = self.srf._connections.table.values()
        self.assertLessEqual(len(state.strays), 32)
        server.respond(server.confirm(sent), 200, method="OPTIONS")
        self.successResultOf(asking)


class SettingsTests(SrfTestCase):
    def test_settings(self) -> None:
        """Settings and locals are kept for the application."""
        self.srf.set("a", 1)
        self.assertEqual((self.srf.get("a"), self.srf.get("b"), self.srf.get("b", 2)), (1, None, 2))
        self.srf.locals["x"] = 1
        self.assertEqual(self.srf.locals, {"x": 1})

    def test_garbage(self) -> None:
        """Frames that mean nothing are ignored; the connection lives."""
        self.srf.options(lambda req, res: res.send(200))
        server = self.bench.connect()
        for garbage in (
            "",
            "x",
            "x|y",
            "x|sip|y",
            "x|response|no|OK",
            "x|sip|a|b|c|d|e|f|g|h|",
        ):
            server.send(garbage)
        server.send("m|sip|network|1|udp|127.0.0.1|1|01:02:03.4|t1||\r\nno SIP at all")
        server.respond("t77", 200)
        server.ask("OPTIONS")
        self.assertIn("200", server.heads())
        self.assertFalse(server.closed)
        self.flushLoggedErrors()


_ENDPOINTS: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "tcp:127.0.0.1:9022"),
    ({"host": "sip.example", "port": 9}, "tcp:sip.example:9"),
    ({"host": "h", "tls": True}, "tls:h:9022"),
    ({"host": "h", "tls": TlsOptions(verify=False)}, "tls:h:9022"),
    ({"endpoint": "tcp:h:1"}, "tcp:h:1"),
    ({"endpoint": "tls:h:1"}, "tls:h:1"),
)


@implementer(IReactorPluggableNameResolver)
class _Reactor(Clock):
    """A reactor whose network knows nobody."""

    @property
    def nameResolver(self) -> Any:
        """Look up no names."""
        return self

    def resolveHostName(self, receiver: Any, *_: Any, **__: Any) -> None:
        """Find nothing."""
        receiver.resolutionBegan(self)
        receiver.resolutionComplete()

    def installNameResolver(self, resolver: Any) -> Any:
        """Stay as it is."""


def _memory(bench: Bench) -> Any:
    from drachtwist.net.endpoints import Connect

    endpoint: Any = bench.endpoint
    return Connect(endpoint, "memory", False)
