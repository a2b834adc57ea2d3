"""What is tested about calls holds too where every coroutine is a task of asyncio."""

from __future__ import annotations

import unittest
from importlib import import_module

from twisted.trial.unittest import SynchronousTestCase, TestCase

from drachtwist.net import tasks
from tests.aio.cases import AsyncioTestCase

MODULES = """
app.test_router app.test_calls app.test_uac app.test_b2bua app.test_forking app.test_reinvites
app.test_transfer app.test_states app.test_early app.test_ready middleware.test_digest
middleware.test_registrar
"""


class InTheLoopTests(AsyncioTestCase):
    timeout = 120

    def synchronous(self, name: str) -> unittest.TestSuite:
        """Load the tests of a module that wait for nothing."""
        module = import_module(f"tests.{name}")
        suite = unittest.TestSuite()
        for kind in vars(module).values():
            if (
                isinstance(kind, type)
                and issubclass(kind, SynchronousTestCase)
                and not issubclass(kind, TestCase)
                and kind.__module__ == module.__name__
            ):
                suite.addTests(unittest.defaultTestLoader.loadTestsFromTestCase(kind))
        return suite

    async def test_all(self) -> None:
        """Coroutines begin and go on as under every reactor, so that the same tests hold."""
        begun = 0
        make = tasks.Driven.begin

        def count(driven: tasks.Driven) -> None:
            nonlocal begun
            begun += 1
            make(driven)

        self.patch(tasks.Driven, "begin", count)
        result = unittest.TestResult()
        for name in MODULES.split():
            for test in self.synchronous(name):
                test.run(result)
                await self.turn(1)
        self.assertEqual([text for _, text in result.failures + result.errors], [])
        self.assertGreater(result.testsRun, 300)
        self.assertGreater(begun, 200)
        await tasks.stop_all()
