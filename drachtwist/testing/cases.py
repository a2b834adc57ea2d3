"""Test cases with a network, for trial and unittest."""

from __future__ import annotations

import functools
import inspect
import sys
import unittest
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.testing.network import Network

__all__ = ["SipTestCase", "SipTests"]


class SipTests(unittest.TestCase):
    """A test case with a network, to be mixed into others, those of trial too.

    It stands before the other base class: ``class SalesTests(SipTests, SynchronousTestCase)``.
    Test methods may be ``async def``; what they await lets the time pass. A test that fails shows
    the ladder.
    """

    sip: Network
    """The network, from ``setUp`` on."""

    def setUp(self) -> None:
        """Make the network."""
        super().setUp()
        self.sip = Network()
        self.sip.open()
        self.addCleanup(self._end_network)

    def run(self, result: Any = None) -> Any:
        """Run the test."""
        # Now: unittest looks for the method before it calls setUp.
        name = self._testMethodName
        setattr(self, name, self._shown(getattr(self, name)))
        try:
            return super().run(result)
        finally:
            delattr(self, name)

    def _end_network(self) -> None:
        self.sip.close()
        if hasattr(self, "flushLoggedErrors"):
            return  # trial looks at the log itself
        self.sip.check_failures()

    def _shown(self, test: Callable[[], Any]) -> Callable[[], Any]:
        """Run a test; if it fails, show the ladder."""

        @functools.wraps(test)
        def run() -> None:
            try:
                result = test()
                if inspect.iscoroutine(result):
                    self.sip.run(result)
            except unittest.SkipTest:
                raise
            except AssertionError as error:
                error.args = (f"{error}\n\nWho sent what to whom:\n{self.sip.ladder()}",)
                raise
            except Exception:
                print(f"\n{self.id()}: who sent what to whom:", file=sys.stderr)
                print(self.sip.ladder(), file=sys.stderr)
                raise

        return run


class SipTestCase(SipTests, SynchronousTestCase):
    """A test case of trial with a network, which is its attribute ``sip``."""
