"""What an application does before it serves, and when it has stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Srf, StartFailed
from drachtwist.errors import ConnectionFailed
from drachtwist.net.endpoints import Connect, Listen
from tests.app.doubles import Transport


class Endpoint:
    """Counts who connects and who listens."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.used = 0

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect."""
        self.used += 1
        protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 9022))
        transport = Transport(self.clock)
        transport.protocol = protocol
        protocol.makeConnection(transport)
        return succeed(protocol)

    def listen(self, factory: Any) -> Deferred[Any]:
        """Listen."""
        self.used += 1
        return fail(OSError("no"))


class LifecycleTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Make an application."""
        self.clock = Clock()
        self.srf = Srf(reactor=self.clock)
        self.endpoint = Endpoint(self.clock)
        self.seen: list[Any] = []

    def connect(self) -> Any:
        """Connect somewhere."""
        endpoint: Any = self.endpoint
        where = Connect(endpoint, "memory", False)
        return self.srf.connect(where, secret="cymru", ping_interval=None)

    def stop(self) -> None:
        """Stop, for which time may have to pass."""
        stopping = self.srf.stop()
        self.clock.pump([1.0] * 20)
        self.assertIsNone(self.successResultOf(stopping))

    def note(self, name: str, waits: Deferred[None] | None = None) -> Any:
        """Make a handler that notes that it was called, and waits."""

        async def handler() -> None:
            self.seen.append(name)
            if waits is not None:
                await waits
                self.seen.append(f"{name} done")

        handler.__qualname__ = name
        return handler


class HandlerTests(LifecycleTestCase):
    def test_in_order(self) -> None:
        """Each handler is waited for before the next one, and all before anything is connected."""
        waits: Deferred[None] = Deferred()
        self.srf.on_start(self.note("a", waits))
        self.srf.on_start(lambda: self.seen.append("b"))
        connection = self.connect()
        self.assertEqual((self.seen, self.endpoint.used), (["a"], 0))
        waits.callback(None)
        self.assertEqual((self.seen, self.endpoint.used), (["a", "a done", "b"], 1))
        self.assertFalse(connection.ended)
        self.connect()
        self.assertEqual((self.seen, self.endpoint.used), (["a", "a done", "b"], 2))

    def test_listening(self) -> None:
        """The same for what listens."""
        waits: Deferred[None] = Deferred()
        self.srf.on_start(self.note("a", waits))
        endpoint: Any = self.endpoint
        listener = self.srf.listen(Listen(endpoint, "memory", False), secret="cymru")
        listening = listener.when_listening()
        self.assertEqual(self.endpoint.used, 0)
        waits.callback(None)
        self.assertEqual(self.endpoint.used, 1)
        self.failureResultOf(listening, ConnectionFailed)
        self.flushLoggedErrors()

    def test_nothing_to_do(self) -> None:
        """Without handlers everything is at once."""
        self.assertIsNone(self.successResultOf(self.srf.start()))
        self.connect()
        self.assertEqual(self.endpoint.used, 1)

    def test_stopping(self) -> None:
        """Handlers run in order when everything is closed; a failure hurts nobody else."""
        order: list[Any] = self.seen

        def failing() -> None:
            order.append("fails")
            raise KeyError("stop")

        self.srf.on_start(self.note("start"))
        self.srf.on_stop(failing)
        self.srf.on_stop(lambda: order.append(len(self.srf.links)))
        waits: Deferred[None] = Deferred()
        self.srf.on_stop(self.note("last", waits))
        self.connect()
        stopping = self.srf.stop()
        self.clock.pump([1.0] * 20)
        self.assertNoResult(stopping)
        self.assertEqual(order, ["start", "fails", 0, "last"])
        waits.callback(None)
        self.assertIsNone(self.successResultOf(stopping))
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)

    def test_not_started(self) -> None:
        """What was not started is not stopped."""
        self.srf.on_stop(self.note("stop"))
        self.stop()
        self.assertEqual(self.seen, [])

    def test_stop_handlers_alone(self) -> None:
        """An application without other handlers has started when it connects."""
        self.srf.on_stop(self.note("stop"))
        self.connect()
        self.stop()
        self.assertEqual(self.seen, ["stop"])

    def test_again(self) -> None:
        """After a stop everything may begin anew."""
        self.srf.on_start(self.note("start"))
        self.srf.on_stop(self.note("stop"))
        for _ in range(2):
            self.connect()
            self.stop()
        self.assertEqual(self.seen, ["start", "stop"] * 2)
        self.assertEqual(self.endpoint.used, 2)

    def test_failing(self) -> None:
        """A failure keeps the rest from being started, and says whose it was."""

        @self.srf.on_start
        async def open_database() -> None:
            raise OSError("no database")

        self.srf.on_start(self.note("never"))
        self.srf.on_stop(self.note("never"))
        errors: list[Exception] = []
        self.srf.on_error(errors.append)
        connection = self.connect()
        failure = self.failureResultOf(connection.when_connected(), StartFailed)
        self.assertEqual(str(failure.value), "open_database failed: OSError: no database")
        self.assertIsInstance(failure.value.__cause__, OSError)
        self.assertEqual([str(error) for error in errors], [str(failure.value)])
        self.assertEqual((self.endpoint.used, self.seen), (0, []))
        [logged] = self.flushLoggedErrors(OSError)
        self.assertIs(logged.value, failure.value.__cause__)
        self.stop()

    def test_failing_asked_for(self) -> None:
        """Who starts it learns of the failure, and may try again."""
        results = [fail(KeyError("x")), succeed(None)]
        self.srf.on_start(lambda: results.pop(0))
        failure = self.failureResultOf(self.srf.start(), StartFailed)
        self.assertIn("KeyError: 'x'", str(failure.value))
        self.assertIsNone(self.successResultOf(self.srf.start()))

    def test_stopped_while_starting(self) -> None:
        """A stop cancels what is being started."""
        waits: Deferred[None] = Deferred()

        @self.srf.on_start
        async def slow() -> None:
            try:
                await waits
            except CancelledError:
                self.seen.append("cancelled")
                raise

        connection = self.connect()
        connected = connection.when_connected()
        self.stop()
        self.assertEqual((self.seen, self.endpoint.used), (["cancelled"], 0))
        self.failureResultOf(connected, ConnectionFailed)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_methods(self) -> None:
        """The decorators return what they are given."""
        handler = self.note("x")
        self.assertIs(self.srf.on_start(handler), handler)
        self.assertIs(self.srf.on_stop(handler), handler)
        self.assertIs(self.srf.lifespan(manager), manager)


@asynccontextmanager
async def manager() -> AsyncIterator[None]:
    """Do nothing."""
    yield


class LifespanTests(LifecycleTestCase):
    def lifespan(self, name: str) -> None:
        """Add a part that is there as long as the application."""

        @self.srf.lifespan
        async def part() -> AsyncIterator[None]:
            self.seen.append(f"{name} begins")
            try:
                yield
            finally:
                self.seen.append(f"{name} ends")

    def test_around(self) -> None:
        """Parts begin in order, and end in the other one, behind what on_stop added."""
        self.lifespan("a")
        self.srf.on_start(self.note("start"))
        self.lifespan("b")
        self.srf.on_stop(self.note("stop"))
        self.connect()
        began = ["a begins", "start", "b begins"]
        self.assertEqual(self.seen, began)
        self.stop()
        self.assertEqual(self.seen, [*began, "stop", "b ends", "a ends"])

    def test_what_began_ends(self) -> None:
        """What has begun ends when a later part cannot begin."""
        self.lifespan("a")

        @self.srf.on_start
        def bad() -> None:
            raise ValueError("b")

        self.failureResultOf(self.srf.start(), StartFailed)
        self.assertEqual(self.seen, ["a begins", "a ends"])

    def test_managers(self) -> None:
        """A function may also return a context manager."""

        @self.srf.lifespan
        @asynccontextmanager
        async def part() -> AsyncIterator[None]:
            self.seen.append("begins")
            yield
            self.seen.append("ends")

        self.connect()
        self.stop()
        self.assertEqual(self.seen, ["begins", "ends"])

    def test_no_manager(self) -> None:
        """Anything else is refused by its name."""

        @self.srf.lifespan
        def part() -> int:
            return 1

        failure = self.failureResultOf(self.srf.start(), StartFailed)
        self.assertIn("part failed: TypeError: a lifespan is", str(failure.value))

    def test_failing_end(self) -> None:
        """A part that fails when it ends is logged; those before it end all the same."""
        self.lifespan("a")

        @self.srf.lifespan
        async def part() -> AsyncIterator[None]:
            yield
            raise KeyError("end")

        self.connect()
        self.stop()
        self.assertEqual(self.seen, ["a begins", "a ends"])
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
