#!/usr/bin/env python3
"""How many calls a second does the embedded server take, and where does its time go?

    python benchmarks/server.py [--seconds 10] [--rate 300] [--rings] [--profile]

SIPp calls over UDP on loopback: INVITE, 200, ACK, BYE, 200, with ``--rings`` a 180 before the 200.
An application answers, once in the process of the server and once in a process of its own. Measured
are the processor time of each process for each call at a fixed rate, and the highest rate at which
no call fails, nothing is repeated, and SIPp keeps its pace; what fails is tried once more. The exit
status is 1 when a call fails at the fixed rate.

It needs SIPp (Debian: sip-tester) and Linux, and a machine with nothing else to do. Server and
application share one core, and SIPp has another one, if there are two.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import pstats
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TICKS = os.sysconf("SC_CLK_TCK")
KEPT_PACE = 0.97
"""The part of the wanted rate that SIPp has to reach."""


def free_port() -> int:
    """Return a port that is free for UDP and TCP."""
    with socket.socket() as stream:
        stream.bind(("127.0.0.1", 0))
        return int(stream.getsockname()[1])


def processor_time(process: subprocess.Popen[bytes]) -> float:
    """Return the seconds that a process has computed."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def give_core(process: subprocess.Popen[bytes], number: int) -> None:
    """Let a process have one of our cores alone, if we have several."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(process.pid, {cores[number]})


@dataclass
class Run:
    """What came of some calls."""

    rate: float
    """Calls a second, as they were placed."""
    calls: int
    failed: int
    repeated: int
    cost: dict[str, float]
    """Processor time of each process in microseconds a call."""

    @property
    def is_clean(self) -> bool:
        """Whether all went well at once."""
        return not self.failed and not self.repeated


class Bench:
    """Processes that are called.

    :param apart: whether the application has a process of its own.
    :param rings: whether it sends a 180 first.
    :param profile: whether the time of each process is taken down.
    """

    def __init__(
        self, apart: bool, directory: Path, rings: bool = False, profile: bool = False
    ) -> None:
        self.directory = directory
        self._rings = "1" if rings else ""
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._profile = profile
        app = ["--app", str(HERE / "server_app.py")]
        contact = ["--contact", f"sip:127.0.0.1:{self.port};transport=udp"]
        if not apart:
            self._start("server and application", "connected", "drachtio", *app, *contact)
            return
        admin = str(free_port())
        self._start("server", "listening", "drachtio-server", "--noconfig", "-p", admin, *contact)
        self._start("application", "connected", "drachtio", *app, "-e", f"tcp:127.0.0.1:{admin}")

    def _start(self, name: str, word: str, *arguments: str) -> None:
        log = self.directory / f"{name}.log"
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        command += ["-n", "--pidfile=", f"--logfile={log}"]
        if self._profile:
            command += ["--profiler=cprofile", "--savestats", f"--profile={self._stats(name)}"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "DRACHTIO_SECRET": "cymru"}
        environment["RINGS"] = self._rings
        process = subprocess.Popen([*command, *arguments], cwd=self.directory, env=environment)
        give_core(process, 0)
        self.processes[name] = process
        until = time.monotonic() + 30
        while not log.exists() or word not in log.read_text():
            if process.poll() is not None or time.monotonic() > until:
                text = log.read_text() if log.exists() else "nothing"
                raise SystemExit(f"{name} does not start:\n{text}")
            time.sleep(0.05)

    def _stats(self, name: str) -> Path:
        return self.directory / f"{name}.stats"

    def run(self, rate: int, seconds: float) -> Run:
        """Place calls for some time."""
        calls = max(int(rate * seconds), 1)
        table = self.directory / "calls.csv"
        table.unlink(missing_ok=True)
        before = {name: processor_time(one) for name, one in self.processes.items()}
        command = ["sipp", f"127.0.0.1:{self.port}", "-sn", "uac", "-d", "0", "-nostdin"]
        command += ["-i", "127.0.0.1", "-p", str(free_port()), "-m", str(calls), "-r", str(rate)]
        command += ["-l", str(rate * 4), "-timeout", f"{int(seconds) + 40}s", "-timeout_error"]
        command += ["-trace_stat", "-stf", str(table), "-fd", "1"]
        sipp = subprocess.Popen(
            command,
            cwd=self.directory,
            env={**os.environ, "TERM": "dumb"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_core(sipp, 1)
        sipp.wait()
        with table.open(encoding="ascii") as file:
            rows = list(csv.DictReader(file, delimiter=";"))
        last = rows[-1]
        done = int(last["SuccessfulCall(C)"])
        cost = {
            name: (processor_time(one) - before[name]) / max(done, 1) * 1e6
            for name, one in self.processes.items()
        }
        return Run(
            float(last["CallRate(C)"]),
            done,
            calls - done,
            int(last["Retransmissions(C)"]),
            cost,
        )

    def stop(self) -> None:
        """End the processes."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            process.wait(30)

    def profile(self) -> Iterator[str]:
        """Say where the time went, process by process; to be asked when they have ended."""
        for name in self.processes:
            stats = pstats.Stats(str(self._stats(name)))
            places: Counter[str] = Counter()
            functions: Counter[str] = Counter()
            for (path, _, function), (_, calls, own, _, _) in stats.stats.items():  # type: ignore[attr-defined]
                place = _place(path, function)
                places[place] += own
                functions[f"{place} {function} ({calls} calls)"] += own
            total = sum(places.values()) - places.pop("waiting", 0.0)
            yield f"\n{name}, {total:.1f} s\n"
            yield "| where | part of the time |\n|---|---|"
            for place, own in places.most_common(25):
                yield f"| {place} | {own / total:.1%} |"
            yield ""
            for function, own in functions.most_common(26):
                if not function.startswith("waiting"):
                    yield f"{own / total:6.1%}  {function}"


def _place(path: str, function: str) -> str:
    """Return the module that a function of a profile is in; of a package below, that package."""
    if "epoll" in function and "poll" in function and path == "~":
        return "waiting"
    if path == "~":
        if "socket" in function and ("send" in function or "recv" in function):
            return "sockets"
        return "built in"
    for top in ("drachtwist", "twisted"):
        if f"/{top}/" in path:
            name = path.rpartition(f"/{top}/")[2].removesuffix(".py").split("/")
            return ".".join([top, *name[:2]]) if top == "drachtwist" else "twisted"
    return "standard library" if path.startswith(("<", sys.base_prefix)) else "others"


def highest(bench: Bench, seconds: float, start: int) -> int:
    """Find the highest rate that all goes well at: up by a quarter, then closer in two steps."""
    good, bad, rate = 0, 0, start
    while not bad or bad - good > good * 0.05:
        for _ in range(2):
            run = bench.run(rate, seconds)
            well = run.is_clean and run.rate >= KEPT_PACE * rate
            print(f"  {rate}/s: {'all went well' if well else run}", file=sys.stderr, flush=True)
            if well:
                break
            time.sleep(2)
        if well:
            good = rate
        else:
            bad = rate
        if not good and rate < 20:
            return 0
        rate = (good + bad) // 2 if bad else rate * 5 // 4
    return good


@contextlib.contextmanager
def benching(apart: bool, rings: bool, profile: bool = False) -> Iterator[Bench]:
    """Start processes, and end them."""
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(apart, Path(directory), rings, profile)
        try:
            yield bench
        finally:
            bench.stop()


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to call each time")
    parser.add_argument("--rate", type=int, default=300, help="calls a second that cost is told at")
    parser.add_argument("--no-highest", action="store_true", help="do not look for the highest")
    parser.add_argument("--rings", action="store_true", help="send 180 before each 200")
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    options = parser.parse_args()
    if shutil.which("sipp") is None:
        parser.error("SIPp is not installed (Debian: sip-tester)")
    failed = 0
    print("| the application is | processor time a call | calls/s a core | highest rate seen |")
    print("|---|---|---|---|")
    for apart in (False, True):
        with benching(apart, options.rings) as bench:
            bench.run(options.rate, 1.0)  # to warm up
            run = bench.run(options.rate, options.seconds)
            failed += run.failed
            top = "" if options.no_highest else highest(bench, options.seconds, options.rate)
        costs = ", ".join(f"{name} {cost:.0f} us" for name, cost in run.cost.items())
        where = "in another process" if apart else "in the same process"
        core = 1e6 / max(sum(run.cost.values()), 1.0)  # little may be counted as nothing
        print(f"| {where} | {costs} | {core:.0f} | {top} |", flush=True)
    if options.profile:
        for apart in (False, True):
            with benching(apart, options.rings, True) as bench:
                bench.run(options.rate, options.seconds)
                bench.stop()
                for line in bench.profile():
                    print(line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
