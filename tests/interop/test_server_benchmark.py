"""The tool that measures the server works; how fast the server is, is not asked here."""

from __future__ import annotations

import re
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.peers import ROOT, need_sipp


class ServerBenchmarkTests(SynchronousTestCase):
    def test_short(self) -> None:
        """Some calls, none of which fails: costs are told, and where the time goes."""
        need_sipp()
        script = str(ROOT / "benchmarks" / "server.py")
        arguments = ["--seconds", "1", "--rate", "40", "--no-highest", "--rings", "--profile"]
        done = subprocess.run(
            [sys.executable, script, *arguments], capture_output=True, text=True, timeout=220
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = re.findall(r"\| in (the same|another) process \| (.*) \| (\d+) \|  \|", done.stdout)
        self.assertEqual([row[0] for row in rows], ["the same", "another"])
        # Small costs may be told as 0: systems count in hundredths of a second.
        named = [re.sub(r"\d+ us", "cost", costs) for _, costs, _ in rows]
        self.assertEqual(named, ["server and application cost", "server cost, application cost"])
        for name in ("server and application", "server", "application"):
            self.assertRegex(done.stdout, rf"\n{name}, [0-9.]+ s\n")
        self.assertIn("| drachtwist.server.uas |", done.stdout)
