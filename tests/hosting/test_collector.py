"""What lives long is kept out of the way of Python's collector."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from drachtwist.hosting import app_tap, server_tap
from drachtwist.hosting.app_service import ApplicationService
from drachtwist.hosting.collector import ENOUGH, LOOK_EVERY, Collector
from drachtwist.hosting.server_service import ServerService
from tests.interop.peers import free_port


class Circle:
    """Something that holds on to itself."""

    def __init__(self) -> None:
        self.itself = self


class CollectorTests(SynchronousTestCase):
    """Collections are made by hand."""

    def setUp(self) -> None:
        """Let the collector of Python stand still but for that."""
        self.calls = True
        self.clock = Clock()
        self.collector = Collector(self.clock, lambda: not self.calls, anyway=3600.0)
        gc.disable()
        self.addCleanup(gc.enable)
        self.addCleanup(self.collector.stop)
        self.collector.start()

    def collect(self, times: int = ENOUGH) -> None:
        """Let there be some collections of the middle generation."""
        for _ in range(times):
            gc.collect(1)

    def is_frozen(self, thing: Any) -> bool:
        """Say whether the collector does not look at something."""
        return not any(thing is one for one in gc.get_objects())

    def test_start(self) -> None:
        """What is there at the beginning, code for the most part, is frozen."""
        self.assertTrue(self.is_frozen(CollectorTests.__dict__["test_start"]))

    def test_survivors(self) -> None:
        """What survives several small collections is not looked at again."""
        held = Circle()
        self.collect(ENOUGH - 1)
        self.assertFalse(self.is_frozen(held))
        self.collect(1)
        self.assertTrue(self.is_frozen(held))

    def test_young(self) -> None:
        """The smallest collections freeze nothing."""
        held = Circle()
        for _ in range(3 * ENOUGH):
            gc.collect(0)
        self.assertFalse(self.is_frozen(held))

    def test_freed(self) -> None:
        """What is frozen is freed as soon as nobody has it."""
        freed: list[int] = []

        class Thing:
            def __del__(self) -> None:
                freed.append(1)

        held = Thing()
        self.collect()
        self.assertTrue(self.is_frozen(held))
        del held
        self.assertEqual(freed, [1])

    def frozen_circle(self) -> list[int]:
        """Freeze something that holds on to itself, and give it up; tell when it is freed."""
        freed: list[int] = []

        class Thing(Circle):
            def __del__(self) -> None:
                freed.append(1)

        held = Thing()
        self.collect()
        del held
        gc.collect()
        self.assertEqual(freed, [])
        return freed

    def test_thawed_when_idle(self) -> None:
        """Without calls everything is looked at."""
        freed = self.frozen_circle()
        self.clock.advance(LOOK_EVERY)
        self.assertEqual(freed, [])
        self.calls = False
        self.clock.advance(LOOK_EVERY)
        self.assertEqual(freed, [1])

    def test_thawed_anyway(self) -> None:
        """So it is with calls, after an hour; what is still there is frozen again."""
        held = Circle()
        freed = self.frozen_circle()
        self.clock.pump([LOOK_EVERY] * 59)
        self.assertEqual(freed, [])
        self.clock.advance(LOOK_EVERY)
        self.assertEqual(freed, [1])
        self.assertTrue(self.is_frozen(held))

    def test_nothing_new(self) -> None:
        """Nothing is thawed when nothing was frozen since."""
        self.calls = False
        held = Circle()
        self.clock.pump([LOOK_EVERY] * 100)
        self.assertFalse(self.is_frozen(held))

    def test_stopped(self) -> None:
        """Behind it the collector is as before, and nobody is woken."""
        held = Circle()
        self.collect()
        self.collector.stop()
        self.assertFalse(self.is_frozen(held))
        self.collect()
        self.assertFalse(self.is_frozen(held))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class PluginTests(TestCase):
    """Who freezes."""

    def server(self, *flags: str) -> ServerService:
        """Make the service of the server."""
        options = server_tap.Options()
        words = ["--noconfig", "--contact", "sip:127.0.0.1:0", "--port", str(free_port())]
        options.parseOptions([*flags, *words, "--secret", "hush-hush"])
        service = server_tap.makeService(options)
        assert isinstance(service, ServerService)
        return service

    def application(self, *flags: str) -> ApplicationService:
        """Make the service of an application."""
        path = self.mktemp() + ".py"
        Path(path).write_text("from drachtwist import Srf\nsrf = Srf()\n", encoding="utf-8")
        options = app_tap.Options()
        options.parseOptions([*flags, "--app", path])
        service = app_tap.makeService(options)
        assert isinstance(service, ApplicationService)
        return service

    def test_by_default(self) -> None:
        """Both plugins do, unless they are told not to."""
        for make in (self.server, self.application):
            self.assertIsNotNone(make().collector)
            self.assertIsNone(make("--no-freeze").collector)

    async def test_runs(self) -> None:
        """It runs as long as the service does."""
        service = self.server()
        assert service.collector is not None
        self.addCleanup(service.collector.stop)
        before = len(gc.callbacks)
        service.startService()
        await service.server.when_listening()
        self.assertEqual((len(gc.callbacks), service.is_idle), (before + 1, True))
        await service.stopService()
        self.assertEqual(len(gc.callbacks), before)
