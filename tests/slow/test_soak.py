"""The soak runs, and tells what is not well."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.interop.peers import ROOT

SCRIPT = ROOT / "benchmarks" / "soak.py"


class ShortTests(TestCase):
    """A few seconds of it, with real processes."""

    timeout = 300

    async def soak(self, *options: str) -> dict[str, str]:
        """Let it run; give its table."""
        command = [sys.executable, str(SCRIPT), "--rate", "15", "--hold", "2", "--grace", "2"]
        done = await deferToThread(
            subprocess.run, [*command, *options], capture_output=True, text=True, timeout=280
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        rows = re.findall(r"^\| (.+?) \| (.*) \|$", done.stdout, re.MULTILINE)
        return dict(rows)

    async def test_inbound(self) -> None:
        """Every call is answered, but for those that the cuts cost."""
        found = await self.soak("--duration", "12", "--cuts", "3:5")
        self.assertEqual(found["failed, otherwise"], "0")
        self.assertEqual(found["calls and requests of phones"], "180")
        self.assertGreater(int(found["cuts"]), 0)
        self.assertGreater(int(found["calls that phones got"]), 0)
        useful, garbage = map(int, found["datagrams of phones, garbage"].split(", "))
        self.assertTrue(0.01 < garbage / (useful + garbage) < 0.03, (useful, garbage))

    async def test_outbound(self) -> None:
        """So it is where the server connects."""
        found = await self.soak("--duration", "8", "--cuts", "2:3", "--outbound", "--seed", "7")
        self.assertEqual(found["failed, otherwise"], "0")
        self.assertGreater(int(found["cuts"]), 0)

    async def test_kept(self) -> None:
        """Calls that outlive the cuts go on, and end."""
        options = ("--cuts", "2:4", "--keep", "10", "--grace", "20")
        found = await self.soak("--duration", "10", *options)
        self.assertEqual(found["failed, otherwise"], "0")

    async def test_restarted(self) -> None:
        """An application that drains costs no call, and one that is killed leaves nobody alone."""
        faults = "application-drain,application-kill"
        found = await self.soak("--duration", "12", "--cuts", "1:3", "--faults", faults)
        self.assertEqual(found["failed, otherwise"], "0")
        self.assertGreater(int(found["cuts"]), 1)

    async def test_drained(self) -> None:
        """All calls go well while one application takes over from another."""
        options = ("--cuts", "1:3", "--faults", "application-drain")
        found = await self.soak("--duration", "10", *options)
        self.assertEqual((found["failed, by a cut"], found["failed, otherwise"]), ("0", "0"))

    async def test_server_restarted(self) -> None:
        """A server that is killed, or ended, is called again when it is back, and no Deferred of
        the application is left.
        """
        faults = "server-kill,server-term"
        found = await self.soak("--duration", "10", "--cuts", "1:3", "--faults", faults)
        self.assertEqual(found["failed, otherwise"], "0")


class VerdictTests(SynchronousTestCase):
    """What it makes of what it saw."""

    def setUp(self) -> None:
        """Load it, and make a run that was well."""
        directory = str(SCRIPT.parent)
        sys.path.insert(0, directory)
        self.addCleanup(sys.path.remove, directory)
        spec = importlib.util.spec_from_file_location("soak", SCRIPT)
        assert spec is not None
        assert spec.loader is not None
        self.soak: Any = importlib.util.module_from_spec(spec)
        sys.modules["soak"] = self.soak
        self.addCleanup(sys.modules.pop, "soak")
        spec.loader.exec_module(self.soak)
        self.programs: Any = sys.modules["soak_programs"]
        options = argparse.Namespace(duration=400.0, seed="1", outbound=False)
        self.run_: Any = self.soak.Soak(options, Path())
        self.run_.garbage = SimpleNamespace(useful=98, sent=2)
        self.run_.last = 400.0
        self.program = SimpleNamespace(name="server", samples=[])
        self.program.at = lambda seconds: self.programs.Program.at(self.program, seconds)
        self.run_.programs = [self.program]
        self.run_.cuts = [self.soak.Cut("closed", 50.0, 55.0)]
        self.grow(0, 0)

    def grow(self, memory: int, files: int) -> None:
        """Let a process have used more and more, by so much in each second."""
        self.program.samples = [
            self.programs.Sample(
                float(at), 30 * at, (60 << 20) + memory * at, 14 + files * at, 0.1 * at, 0.0
            )
            for at in range(401)
        ]

    def fail_call(self, began: float, over: float, *, silent: bool = False) -> None:
        """Let a call have failed."""
        self.run_.outcomes.append(self.soak.Outcome("answer", began, over, "503 INVITE", silent))

    def problems(self) -> list[str]:
        """Say what is not well."""
        list(self.run_.report())
        found: list[str] = self.run_.problems
        return found

    def test_well(self) -> None:
        """Nothing is wrong with a call that a cut cost, begun before or while it lasted."""
        self.fail_call(49.0, 50.5)
        self.fail_call(54.0, 54.1)
        self.fail_call(49.0, 70.0)
        self.assertEqual(self.problems(), [])

    def test_failed(self) -> None:
        """One that failed before or after it is not well, nor is a phone that was left alone."""
        self.fail_call(40.0, 49.9)
        self.fail_call(55.1, 55.2)
        self.fail_call(49.0, 90.0, silent=True)
        self.assertEqual(len(self.problems()), 3)

    def test_growing(self) -> None:
        """Nor is a process that grows all the time, be it by 2 KB a call."""
        self.grow(30 * 2048, 0)
        self.assertRegex("".join(self.problems()), "the server grew by .* KiB in .* calls")

    def test_files(self) -> None:
        """Nor is one that leaves files open, one a second say."""
        self.grow(0, 1)
        self.assertRegex("".join(self.problems()), "has .* more files open")

    def test_growing_at_first(self) -> None:
        """What grows in the first minutes only is well."""
        self.grow(1 << 20, 1)
        settled = self.program.samples[180]
        for one in self.program.samples[180:]:
            one.rss, one.files = settled.rss, settled.files
        self.assertEqual(self.problems(), [])

    def test_gone(self) -> None:
        """A process that went while another thread waits for it is not sampled."""
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait()
        program: Any = self.programs.Program.__new__(self.programs.Program)
        program.samples = []
        program.process = SimpleNamespace(pid=process.pid, poll=lambda: None)
        program.sample(1.0, 2)
        self.assertEqual(program.samples, [])

    def test_log(self) -> None:
        """What is logged as an error is found, and a warning is not."""
        log = Path(self.mktemp())
        program: Any = self.programs.Program.__new__(self.programs.Program)
        program.name, program.log = "server", log
        log.write_text("2026 [x#warn] a link\n2026 [x#info] a call\n")
        self.assertEqual(list(program.problems()), [])
        for text in ("2026 [x#error] bad", "2026 [x#critical] bad\nTraceback (most recent ...):"):
            log.write_text(f"2026 [x#info] good\n{text}\n")
            self.assertIn("bad", next(program.problems()))
