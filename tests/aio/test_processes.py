"""The asyncio reactor needs a process of its own, since a process has one reactor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

HERE = Path(__file__).parent
CASES = ("driving", "in_the_loop", "own_loop", "packages", "pages")
"""The modules whose tests are for the asyncio reactor."""


class AsyncioReactorTests(SynchronousTestCase):
    def test_all(self) -> None:
        """What is tested under the asyncio reactor holds."""
        names = [f"tests.aio.{name}" for name in CASES]
        done = subprocess.run(
            [
                *(sys.executable, "-m", "twisted.trial", "--reactor=asyncio"),
                *("--temp-directory", os.path.abspath(self.mktemp()), *names),
            ],
            cwd=HERE.parent.parent,
            env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertRegex(done.stdout, r"PASSED \((skips=\d+, )?successes=\d\d+\)")

    def test_none_is_forgotten(self) -> None:
        """Every module with tests for the asyncio reactor is run."""
        found = {path.stem for path in HERE.glob("*.py") if "AsyncioTestCase)" in path.read_text()}
        self.assertEqual(found - {"test_processes"}, set(CASES))
