#!/usr/bin/env python3
"""Count what a call costs the application: calls of functions, and what is allocated.

    python benchmarks/counting.py [--workloads uas,options,b2bua] [--tree ../other]

Unlike times, these numbers are the same however busy the machine is. The driver of the benchmarks and
`app.py` share a process, without sockets: each frame is handed over by itself, one call after another.
What is allocated is counted in the C library, in a process of its own for each workload, where Python
is told to ask it for all memory (`PYTHONMALLOC=malloc`); that takes a C compiler and glibc. What
Python keeps for the next time, such as frames of functions, is not asked for and not counted.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import driver
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

HERE = Path(__file__).resolve().parent
_WORKLOADS = ("options", "register", "uas", "uac", "b2bua", "proxy")


@implementer(IStreamClientEndpoint)
class Memory:
    """Connects the application to the driver in this process."""

    protocol: Any
    transport: StringTransport

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        self.transport = StringTransport()
        self.protocol = protocolFactory.buildProtocol(None)
        self.protocol.makeConnection(self.transport)
        return succeed(self.protocol)


class Meter:
    """What is counted while the application has its turn."""

    def __init__(self) -> None:
        self.functions = 0
        self.names: Counter[str] | None = None
        self.allocations = self.octets = 0
        counted = ctypes.CDLL(None) if "LD_PRELOAD" in os.environ else None
        self._look = counted and (counted.allocations, counted.allocated)
        for function in self._look or ():
            function.restype = ctypes.c_ulong

    def run(self, act: Any, *args: Any) -> None:
        if self._look:
            count, octets = self._look
            first, before = count(), octets()
            act(*args)
            self.allocations += count() - first
            self.octets += octets() - before
            return
        sys.setprofile(self._seen)
        try:
            act(*args)
        finally:
            sys.setprofile(None)

    def _seen(self, frame: Any, event: str, _: Any) -> None:
        if event == "call":
            self.functions += 1
            if self.names is not None:
                self.names[f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}"] += 1


class Gauge:
    """Nobody's processor time and memory."""

    def cpu(self) -> float:
        return 0.0

    def user_system(self) -> tuple[float, float]:
        return 0.0, 0.0

    def memory(self, name: str = "") -> int:
        return 0


class Joint:
    """The driver's socket: what it sends is received here, frame by frame."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def setsockopt(self, *args: object) -> None:
        pass

    def sendall(self, data: bytes) -> None:
        self.sent.append(data)

    def close(self) -> None:
        pass


class Counting(driver.Driver):
    """The driver, hand in hand with the application."""

    def __init__(self, args: argparse.Namespace, app: Any) -> None:
        super().__init__(args)
        self.each = True
        self.gauge = Gauge()
        self.meter = Meter()
        self._app = app
        self._memory = Memory()
        self._joint = Joint()

    def begin_counting(self) -> None:
        self.meter.functions = self.meter.allocations = self.meter.octets = 0
        if self.args.names:
            self.meter.names = Counter()

    def mark(self, name: str) -> None:
        super().mark(name)
        if name == "start":
            self.begin_counting()

    def on_close(self, link: Any) -> None:
        self.error("the application closed the connection")

    def turn(self, timeout: float) -> None:
        said = self._memory.transport.value()
        self._memory.transport.clear()
        if said:
            self.link.feed(said)
        self.link.flush()
        sent, self._joint.sent = self._joint.sent, []
        for data in sent:
            self.meter.run(self._memory.protocol.dataReceived, data)

    def count(self) -> int:
        """Play all calls, and return how many were counted."""
        from drachtwist.net.endpoints import Connect

        self.link = driver.Link(self._joint, self.on_frame, self.error, self.on_close, self.each)
        self.links.add(self.link)
        self._app.WORKLOADS[self.args.workload]()
        if self.args.workload == "uac":
            self._app.call_all(1)
        self._app.srf.connect(Connect(self._memory, "memory", False), secret=self.args.secret)
        while not self.ready:
            self.turn(0)
        self.moved = driver.now()
        self.saturate()
        if self.errors:
            raise SystemExit(f"{self.args.workload}: {self.samples}")
        return self.done - self.marks["start"]["done"]


def measure(args: argparse.Namespace) -> None:
    """Play one workload in this process, and print its numbers."""
    import gc

    import app

    from drachtwist import Srf

    gc.disable()
    # No time passes, so that no timer is counted.
    app.srf = Srf(reactor=Clock())
    counting = Counting(args, app)
    calls = counting.count()
    meter = counting.meter
    print(meter.functions / calls, meter.allocations / calls, meter.octets / calls)
    for name, number in (meter.names or Counter()).most_common():
        print(f"{number / calls:8.2f} {name}", file=sys.stderr)


def ask(workload: str, args: argparse.Namespace, library: Path | None) -> list[float]:
    """Let a process of its own count."""
    env = {**os.environ, "PYTHONPATH": str(args.tree), "PYTHONHASHSEED": "0"}
    if library is not None:
        env |= {"LD_PRELOAD": str(library), "PYTHONMALLOC": "malloc"}
    command = [sys.executable, __file__, "--one", workload, "--calls", str(args.calls)]
    if args.names and library is None:
        command.append("--names")
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    return [float(number) for number in done.stdout.split()]


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workloads", default="options,uas,b2bua", help="of " + ",".join(_WORKLOADS)
    )
    parser.add_argument(
        "--tree", type=Path, default=HERE.parent, help="whose drachtwist is counted"
    )
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--names", action="store_true", help="which functions, on standard error")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        vars(args).update(
            workload=args.one, warmup=args.calls, window=1, hold=None, rate=0, flush="each"
        )
        vars(args).update(patience=60, secret="cymru", listen=False, tls=False)
        measure(args)
        return
    compiler = shutil.which("cc")
    with tempfile.TemporaryDirectory() as scratch:
        library = Path(scratch, "counting.so") if compiler else None
        if library is not None:
            subprocess.run(
                [compiler, "-O2", "-shared", "-fPIC", "-o", library, HERE / "counting.c"],
                check=True,
            )
        print(f"{'a call':9}{'functions':>11}{'allocations':>13}{'octets':>10}")
        for workload in args.workloads.split(","):
            functions, *_ = ask(workload, args, None)
            row = f"{workload:9}{functions:11.1f}"
            if library is not None:
                _, allocations, octets = ask(workload, args, library)
                row += f"{allocations:13.1f}{octets:10.0f}"
            print(row)


if __name__ == "__main__":
    main()
