"""Nothing stays of calls that are over."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "memory.py"


class MemoryTests(SynchronousTestCase):
    timeout = 300

    def test_cycles(self) -> None:
        """Ten thousand dialogs are held and ended, five times: no object and no memory stays."""
        done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stdout.count(", left "), 5)
