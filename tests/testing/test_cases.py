"""The test cases for trial and unittest."""

from __future__ import annotations

import contextlib
import io
import unittest

from twisted.trial.reporter import TestResult
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response, SipError, Srf
from drachtwist.testing import SipTestCase, SipTests


def application() -> Srf:
    """Make an application that refuses, or fails."""
    srf = Srf()

    @srf.invite
    def refuse(req: Request, res: Response) -> None:
        if req.called_number == "broken":
            raise ZeroDivisionError("of the handler")
        res.send(480)

    return srf


def case(*bases: type[unittest.TestCase]) -> type[unittest.TestCase]:
    """Make a test case; made here, so that nobody takes its tests for some of ours."""

    class Case(*bases):  # type: ignore[misc]
        def test_passes(self) -> None:
            self.sip.serve(application())
            assert self.sip.phone("alice").invite("x").status == 480

        def test_fails(self) -> None:
            self.sip.serve(application())
            self.assertEqual(self.sip.phone("alice").invite("x").status, 200)

        async def test_raises(self) -> None:
            self.sip.serve(application())
            await self.sip.phone("alice").invite("x").when_answered()

        def test_handler_fails(self) -> None:
            self.sip.serve(application())
            self.sip.phone("alice").invite("broken")

        def test_skips(self) -> None:
            raise unittest.SkipTest("not today")

    return Case


class CaseTests(SynchronousTestCase):
    def run_one(self, kind: type[unittest.TestCase], name: str) -> tuple[str, str]:
        """Run a test; return what became of it, and what was printed."""
        result = TestResult() if issubclass(kind, SynchronousTestCase) else unittest.TestResult()
        printed = io.StringIO()
        with contextlib.redirect_stderr(printed):
            kind(name).run(result)
        for what in ("failures", "errors"):
            found = getattr(result, what)
            if found:
                problem = found[0][1]
                text = problem if isinstance(problem, str) else problem.getTraceback()
                return f"{what}: {text}", printed.getvalue()
        skipped = getattr(result, "skips", None) or result.skipped
        return ("skipped" if skipped else "passed"), printed.getvalue()

    def test_both(self) -> None:
        """Tests pass, fail with the ladder, and fail when a handler does, with each base class."""
        for bases in ((SipTestCase,), (SipTests,), (SipTests, SynchronousTestCase)):
            with self.subTest(str(bases)):
                kind = case(*bases)
                self.assertEqual(self.run_one(kind, "test_passes")[0], "passed")
                self.assertEqual(self.run_one(kind, "test_skips")[0], "skipped")
                failed, _ = self.run_one(kind, "test_fails")
                self.assertRegex(failed, "^failures: ")
                self.assertIn("480 Temporarily Unavailable (INVITE)", failed)
                raised, printed = self.run_one(kind, "test_raises")
                self.assertRegex(raised, "^errors: ")
                self.assertIn(SipError.__name__, raised)
                self.assertIn("480 Temporarily Unavailable (INVITE)", printed)
                broken, _ = self.run_one(kind, "test_handler_fails")
                self.assertIn("ZeroDivisionError", broken)
                self.flushLoggedErrors(ZeroDivisionError)
