"""The page about testing: what it shows runs, as it stands there, in pytest and in trial."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import unittest
from functools import cache
from pathlib import Path
from types import ModuleType
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Srf
from drachtwist.testing import Network
from tests.testing.applications import answering

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "testing.md"

SALES = """
from drachtwist import Request, Response, Srf, couple, simring

srf = Srf()
PHONES = ["sip:bob@10.0.1.1:5060", "sip:carol@10.0.1.2:5060"]


@srf.invite
async def sales(req: Request, res: Response) -> None:
    couple(*await simring(srf, req, res, PHONES))
"""


def block(name: str) -> str:
    """Return the text of a block of the page."""
    found = re.search(
        rf"<!-- example: {name} -->\n```\w+\n(.*?)^```$", PAGE.read_text(), re.M | re.S
    )
    assert found is not None, name
    return found[1]


def run_pytest(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest as somebody does who has drachtwist, with every warning an error."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = [sys.executable, "-W", "error", "-m", "pytest", "-W", "error"]
    command += ["-p", "drachtwist.testing.pytest_plugin", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command,
        cwd=directory,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@cache
def tests_that_passed() -> str:
    """Run all examples of the page for pytest together; return what it says of each."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        first = block("first-test")
        (directory / "app.py").write_text(first.partition("def test_")[0])
        (directory / "sales.py").write_text(SALES)
        (directory / "test_first_test.py").write_text(first)
        for name in ("links", "async-test"):
            (directory / f"test_{name.replace('-', '_')}.py").write_text(block(name))
        phones = block("phones").replace("from app", "from sales")
        (directory / "test_phones.py").write_text(phones)
        result = run_pytest(directory, "-v")
    return result.stdout + result.stderr


class TestingPageTests(SynchronousTestCase):
    def module(self, name: str, srf: Srf) -> None:
        """Let there be a module ``app`` with an application."""
        module = ModuleType("app")
        module.srf = srf  # type: ignore[attr-defined]
        # In the dictionary itself: what is imported already is looked up in that, whatever is
        # called ``sys.modules`` meanwhile; and somebody may have left an ``app`` of his there.
        patch = mock.patch.dict(sys.modules, {"app": module})
        patch.start()
        self.addCleanup(patch.stop)

    def passes(self, name: str) -> None:
        """See that pytest runs a file of the page, and that it passes."""
        self.assertIn(f"test_{name}.py::test_", tests_that_passed())
        self.assertRegex(tests_that_passed(), rf"(?m)^test_{name}\.py::\w+ PASSED")
        self.assertNotRegex(tests_that_passed(), rf"(?m)^test_{name}\.py::\w+ (FAILED|ERROR)")

    def test_first_test(self) -> None:
        """The first example passes, with nothing to set up."""
        self.passes("first_test")

    def test_phones(self) -> None:
        """The phones do what the page says."""
        self.passes("phones")

    def test_links(self) -> None:
        """Links lose what the page says, and that is repeated."""
        self.passes("links")

    def test_async_test(self) -> None:
        """An async test needs no other plugin."""
        self.passes("async_test")

    def test_test_ladder(self) -> None:
        """The ladder is the one that is drawn."""
        with Network() as net:
            net.serve(answering())
            net.phone("alice").invite("closed")
            self.assertEqual(net.ladder().rstrip() + "\n", block("test-ladder"))

    def test_a_network(self) -> None:
        """A network is a context manager."""
        self.module("app", answering())
        exec(compile(block("a-network"), "a-network", "exec"), {})

    def test_trial(self) -> None:
        """The test case passes in trial."""
        self.module("app", answering())
        found: dict[str, type[unittest.TestCase]] = {}
        exec(compile(block("trial"), "trial", "exec"), found)
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(found["SalesTests"]).run(result)
        self.assertEqual((result.testsRun, result.failures, result.errors), (2, [], []))

    def test_player(self) -> None:
        """A run that was recorded is played."""
        path = self.mktemp()
        with Network() as net:
            net.record(path)
            net.serve(answering())
            net.phone("alice").invite("x").hang_up()
        self.module("app", answering())
        exec(compile(block("player").replace("run.jsonl", path), "player", "exec"), {})
