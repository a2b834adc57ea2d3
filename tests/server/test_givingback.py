"""Memory that a flood took goes back to the system."""

from __future__ import annotations

import subprocess
import sys
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.server.givingback import FLOOD, GivingBack, give_back
from tests.server.doubles import Bench, request

SCRIPT = """
from tests.server.doubles import Bench, request

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

bench = Bench()
app = bench.link("message")
bench.receive(request("MESSAGE"))
before = resident()
body = "x" * 20_000
kept = []
for number in range(5000):
    bench.receive(request("MESSAGE", call=f"c{number}", body=body))
    kept.append(f"{number}" * 40)  # what lives longer lies between
    bench.take()
    app.take()
peak = resident()
for _ in range(150):
    bench.clock.advance(1)
    bench.take()
assert not bench.core.uas.transactions
print(before, peak, resident())
"""


class GivingBackTests(SynchronousTestCase):
    def test_once_for_each_flood(self) -> None:
        """It is asked for when most of a flood is forgotten, once, and again after the next."""
        bench = Bench()
        held = 0
        trimmed: list[float] = []
        clock = bench.core.clock
        giving = GivingBack(clock, lambda: held, lambda: trimmed.append(clock.seconds()))
        for expected in (1, 2):
            held = FLOOD
            giving.began()
            giving.began()
            bench.clock.pump([1] * 60)
            self.assertEqual((len(trimmed), giving.waits), (expected - 1, True))
            held = 0
            bench.clock.pump([1] * 60)
            self.assertEqual((len(trimmed), giving.waits), (expected, False))
            self.assertEqual(len(clock), 0)

    def test_usual(self) -> None:
        """Nothing looks for floods where there is none."""
        bench = Bench()
        bench.link("message")
        bench.receive(request("MESSAGE"))
        self.assertFalse(bench.core.uas.giving_back.waits)

    @skipUnless(sys.platform == "linux" and give_back(), "another C library")
    def test_memory(self) -> None:
        """A hundred megabytes of requests leave next to nothing behind."""
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        before, peak, after = map(int, done.stdout.split())
        self.assertGreater(peak - before, 80 << 20)
        self.assertLess(after - before, (peak - before) // 4)
