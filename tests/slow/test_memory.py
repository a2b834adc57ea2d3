"""Nothing stays of calls that are over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "memory.py"


class MemoryTests(SynchronousTestCase):
    timeout = 300

    def cycles(self, *arguments: str) -> None:
        """Hold dialogs and end them, five times: nothing stays."""
        command = [sys.executable, str(SCRIPT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count(", left "), 5)

    def test_called(self) -> None:
        """Ten thousand dialogs are held and ended, five times: no object and no memory stays."""
        self.cycles()

    def test_mixed(self) -> None:
        """So it is when half of the calls are the application's own, and it ends half of all."""
        self.cycles("--mixed", "--dialogs", "2000")
