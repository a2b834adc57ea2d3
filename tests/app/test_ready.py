"""When an application gets requests, and what it hears when it does not."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import ConnectionFailed, Request, Response, Srf
from drachtwist.middleware import Registrar
from drachtwist.net.endpoints import Connect
from tests.server.doubles import request
from tests.whole import Whole


def alone() -> Whole:
    """Make a server without an application."""
    whole = Whole()
    [connection] = whole.srf._connections.endpoints.made
    connection.stop()
    whole.lose()
    return whole


class ReadyTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Begin to connect an application that takes OPTIONS."""
        self.whole = alone()
        self.srf = self.whole.srf = Srf(reactor=self.whole.clock)

        @self.srf.options
        def alive(req: Request, res: Response) -> None:
            res.send(200)

        endpoint: Any = self.whole
        self.connection = self.srf.connect(
            Connect(endpoint, "memory", False), secret="cymru", ping_interval=None
        )
        self.connected = self.connection.when_connected()
        self.ready = self.connection.when_ready()
        self.whole.clock.advance(0)

    def to_server(self) -> None:
        """Carry what the application wrote."""
        data = self.whole.transport.value()
        self.whole.transport.clear()
        self.whole.link.protocol.dataReceived(data)

    def to_application(self) -> None:
        """Carry what the server wrote."""
        data = self.whole.link.transport.value()
        self.whole.link.transport.clear()
        self.whole.protocol.dataReceived(data)

    def asked(self) -> list[str]:
        """Let a phone ask whether somebody is there, before anything else is carried."""
        self.whole.server.receive(request("OPTIONS", call="o"), 32070)
        return self.whole.server.heads()

    def test_behind_the_routes(self) -> None:
        """Connected is when the secret was accepted, ready when the server knows the routes."""
        self.to_server()
        self.to_application()
        link = self.successResultOf(self.connected)
        self.assertNoResult(self.ready)
        self.assertEqual(self.asked(), ["503 OPTIONS"])
        self.to_server()
        self.to_application()
        self.assertIs(self.successResultOf(self.ready), link)
        self.assertIs(self.successResultOf(self.connection.when_ready()), link)
        self.whole.receive(request("OPTIONS", call="later"))
        self.assertEqual(self.whole.heads(), ["200 OPTIONS"])

    def test_again(self) -> None:
        """After a loss it is ready when the routes were taken again; each time is told."""
        told: list[object] = []
        self.srf.on_ready(told.append)
        self.whole.pump()
        self.successResultOf(self.ready)
        self.whole.lose()
        again = self.connection.when_ready()
        self.assertNoResult(again)
        self.whole.clock.advance(1)
        self.assertNoResult(again)
        self.whole.pump()
        self.assertIs(self.successResultOf(again), self.connection.link)
        self.assertEqual((len(told), told[-1]), (2, self.connection.link))

    def test_lost_before(self) -> None:
        """A connection that is lost before the routes were taken is waited for again."""
        self.to_server()
        self.to_application()
        self.whole.lose()
        self.assertNoResult(self.ready)
        self.whole.clock.advance(1)
        self.whole.pump()
        self.successResultOf(self.ready)

    def test_stopped(self) -> None:
        """Nobody waits for what was stopped."""
        self.connection.stop()
        self.failureResultOf(self.ready, ConnectionFailed)
        self.failureResultOf(self.connected, ConnectionFailed)
        self.failureResultOf(self.connection.when_ready(), ConnectionFailed)

    def test_given_up(self) -> None:
        """Who does not want to wait any more may cancel."""
        self.ready.cancel()
        self.failureResultOf(self.ready)
        self.whole.pump()
        self.successResultOf(self.connected)


class SilenceTests(SynchronousTestCase):
    def heard(self, *handlers: Any) -> list[tuple[LogLevel, str]]:
        """Connect an application, and give what it logs about its routes."""
        whole = alone()
        events: list[LogEvent] = []
        observe: Any = events.append
        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        srf = whole.srf = Srf(reactor=whole.clock)
        for handler in handlers:
            srf.use(*handler)
        endpoint: Any = whole
        srf.connect(Connect(endpoint, "memory", False), secret="cymru", ping_interval=None)
        whole.clock.advance(0)
        whole.pump()
        return [
            (event["log_level"], event["log_format"])
            for event in events
            if event["log_namespace"] == "drachtwist.app.dispatch"
        ]

    def test_middleware_alone(self) -> None:
        """Handlers that are there for no method in particular get nothing, which is said aloud."""

        def everything(req: Request, res: Response) -> None:
            res.send(200)

        [(level, text)] = self.heard((everything,))
        self.assertEqual(level, LogLevel.warn)
        self.assertIn("no requests", text)

    def test_nothing_at_all(self) -> None:
        """An application that only calls others is told too, but that is usual."""
        [(level, _)] = self.heard()
        self.assertEqual(level, LogLevel.info)

    def test_some_method(self) -> None:
        """One method is enough, also that of a registrar."""
        self.assertEqual(self.heard((Registrar(),)), [])
        self.assertEqual(self.heard(("options", lambda req, res: None)), [])


class DecoratorTests(SynchronousTestCase):
    def test_use(self) -> None:
        """``use`` with nothing but a method decorates, as ``on_request`` does."""
        whole = Whole()

        def alive(req: Request, res: Response) -> None:
            res.send(200)

        decorate = whole.srf.use("options")
        self.assertIs(decorate(alive), alive)
        whole.pump()
        whole.receive(request("OPTIONS"))
        self.assertEqual(whole.heads(), ["200 OPTIONS"])


class ClockTests(SynchronousTestCase):
    def test_old_servers(self) -> None:
        """A server that knows no pings is ready as soon as it accepted the secret."""
        clock = Clock()
        whole = Whole({"version": "v0.8.0"}, clock)
        [connection] = whole.srf._connections.endpoints.made
        self.successResultOf(connection.when_ready())
