"""What the tests under asyncio's reactor have in common."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.task import deferLater
from twisted.trial.unittest import SkipTest, TestCase

from drachtwist import Srf
from tests.server.doubles import request
from tests.whole import Whole

timeout: Any = vars(asyncio).get("timeout")
"""``asyncio.timeout``, of Python 3.11 and later."""
TaskGroup: Any = vars(asyncio).get("TaskGroup")
"""``asyncio.TaskGroup``, of Python 3.11 and later."""


def need_new_asyncio() -> None:
    """Skip a test of what asyncio has since Python 3.11."""
    if sys.version_info < (3, 11):
        raise SkipTest("asyncio.timeout and TaskGroup came with Python 3.11")


class AsyncioTestCase(TestCase):
    """An application on a server, in memory, while asyncio's loop runs."""

    timeout = 60

    def setUp(self) -> Any:
        """Have the test run inside of the loop."""
        if not isinstance(reactor, AsyncioSelectorReactor):
            raise SkipTest("for the asyncio reactor; tests.aio.test_processes runs these")
        self.whole = Whole()
        self.srf: Srf = self.whole.srf
        self.seen: list[Any] = []
        return deferLater(reactor, 0, lambda: None)

    async def turn(self, turns: int = 4) -> None:
        """Let the loop turn, and frames pass."""
        for _ in range(turns):
            self.whole.pump()
            await deferLater(reactor, 0, lambda: None)

    async def until(self, condition: Callable[[], Any]) -> None:
        """Let the loop turn until something is so."""
        for _ in range(2000):
            if condition():
                return
            self.whole.pump()
            await deferLater(reactor, 0.002, lambda: None)
        self.fail(f"it does not happen: {self.seen}")

    def ask(self, method: str = "OPTIONS", **options: Any) -> None:
        """Let a phone ask for something."""
        self.whole.pump()
        self.whole.receive(request(method, **options))

    def asked(self, method: str) -> Any:
        """Take the request of a method that a phone was sent."""
        sent: Any = self.whole.sent()
        found = [one for one in sent if getattr(one, "method", "") == method]
        self.assertEqual(len(found), 1, sent)
        return found[0]
