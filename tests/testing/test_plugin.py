"""The plugin of pytest: what it shows of tests that fail, and what it leaves alone."""

from __future__ import annotations

import configparser
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.testing.test_page import ROOT, run_pytest

APPLICATION = """
from drachtwist import Srf

srf = Srf()


@srf.invite
async def answer(req, res):
    if req.called_number == "broken":
        raise ZeroDivisionError("of the handler")
    res.send(480)
"""

TESTS = """
import asyncio
import time

import pytest
from twisted.internet.defer import Deferred

from app import srf
from drachtwist.testing import HiddenWait
from drachtwist.testing.pytest_plugin import pytest_addoption


def test_fails(sip):
    sip.serve(srf)
    assert sip.phone("alice").invite("x").status == 200


async def test_fails_async(sip):
    sip.serve(srf)
    await sip.phone("carol").invite("x").when_answered()


def test_handler_fails(sip):
    sip.serve(srf)
    assert sip.phone("bob").invite("broken").status == 500


def test_handler_fails_as_expected(sip):
    sip.serve(srf)
    assert sip.phone("bob").invite("broken").status == 500
    assert len(sip.flush_errors(ZeroDivisionError)) == 1


async def test_waits_for_ever(sip):
    await Deferred()


async def test_asyncio(sip):
    await asyncio.sleep(1)


def test_sleeps(sip):
    time.sleep(1)


def test_fails_without_it():
    assert False


@pytest.mark.parametrize("number", [1, 2])
async def test_with_more(sip, number, tmp_path):
    assert number and tmp_path
    sip.advance(number)
    assert sip.seconds == number


def test_not_rewritten(pytestconfig):
    # Marked as where the package is installed; a checkout may not be.
    hook = pytestconfig.pluginmanager.rewrite_hook
    assert "drachtwist" not in hook._must_rewrite
    hook._must_rewrite.update(("drachtwist", "another"))
    pytest_addoption(None, pytestconfig.pluginmanager)
    assert "another" in hook._must_rewrite and "drachtwist" not in hook._must_rewrite


class TestClass:
    async def test_method(self, sip):
        assert sip.seconds == 0
"""


@cache
def report() -> str:
    """Run the tests once; return what pytest says of them."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        (directory / "app.py").write_text(APPLICATION)
        (directory / "test_app.py").write_text(TESTS)
        result = run_pytest(directory, "-v", "-rfE")
    return result.stdout + result.stderr


class PluginTests(SynchronousTestCase):
    def section(self, name: str) -> str:
        """Return what is said of a test that failed."""
        _, _, rest = report().partition(f"_ {name} _")
        return rest.partition("\n____")[0]

    def test_ladder(self) -> None:
        """A test that fails shows the ladder, an async one too; another test does not."""
        for name, phone in (("test_fails", "alice"), ("test_fails_async", "carol")):
            text = self.section(name)
            self.assertIn("- SIP ladder -", text)
            self.assertIn(phone, text)
            self.assertIn("480 Temporarily Unavailable (INVITE)", text)
        self.assertNotIn("SIP ladder", self.section("test_fails_without_it"))

    def test_failures_of_handlers(self) -> None:
        """A handler that fails makes the test fail, with its traceback, unless it is expected."""
        text = self.section("ERROR at teardown of test_handler_fails")
        self.assertIn("the application failed while the test ran", text)
        self.assertIn("ZeroDivisionError: of the handler", text)
        self.assertIn("ERROR test_app.py::test_handler_fails -", report())
        self.assertIn("test_handler_fails_as_expected PASSED", report())

    def test_async(self) -> None:
        """Async tests run, in classes and with other fixtures too, and with no other plugin."""
        for name in ("test_with_more[1]", "test_with_more[2]", "TestClass::test_method"):
            self.assertIn(f"{name} PASSED", report())

    def test_what_never_comes(self) -> None:
        """What would wait for ever, or for real, fails at once and says why."""
        self.assertIn("no timer is set", self.section("test_waits_for_ever"))
        self.assertIn("no running event loop", self.section("test_asyncio"))
        self.assertIn("HiddenWait: time.sleep", self.section("test_sleeps"))

    def test_modules_stay_as_they_are(self) -> None:
        """Asserts in the package are not rewritten, which takes seconds: they are no tests."""
        self.assertIn("test_not_rewritten PASSED", report())

    def test_installed(self) -> None:
        """The package tells pytest of the plugin."""
        settings = configparser.ConfigParser()
        settings.read(ROOT / "setup.cfg")
        self.assertEqual(
            settings["options.entry_points"]["pytest11"].strip(),
            "drachtwist = drachtwist.testing.pytest_plugin",
        )

    def test_loads_little(self) -> None:
        """Who does not test telephony pays for nothing: neither Twisted nor the kit is loaded."""
        script = (
            "import sys, drachtwist.testing.pytest_plugin;"
            "print([name for name in sys.modules if name.startswith(('twisted', 'drachtwist.'))])"
        )
        result = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
        )
        expected = ["drachtwist.testing", "drachtwist.testing.pytest_plugin"]
        self.assertEqual(result.stdout.strip(), str(expected))
