#!/usr/bin/env python3
"""Hold many calls while others come and go: how long does Python's collector stop everything?

    python benchmarks/pauses.py [--dialogs 10000 20000] [--calls 4000]

An application on the embedded server, in memory: only sockets and time are made up. For each number
of calls that stay up it prints the longest collection while further calls are answered and ended,
first as Python does it, then with what survives frozen (``hosting/collector.py``), and what the
collector found to free. Times are those of the processor.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drachtwist import Dialog, Request, Response
from tests.server.doubles import request
from tests.whole import Whole

SDP = "v=0\r\n"


class Watch:
    """Takes the time of full collections."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.full = self.freed = 0
        self._began = 0.0

    def __call__(self, phase: str, info: dict[str, Any]) -> None:
        """Note that a collection begins, or is over."""
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.freed += info["collected"]
            self.took.append(time.thread_time() - self._began)
            self.full += info["generation"] == 2

    def report(self) -> str:
        """Say what there was since."""
        longest = max(self.took, default=0.0)
        text = f"{len(self.took):4} collections, {self.full} of them full, the longest"
        text += f" {1000 * longest:6.1f} ms, {1000 * sum(self.took):7.1f} ms in all,"
        text += f" {self.freed} objects freed"
        self.took, self.full, self.freed = [], 0, 0
        return text


def measure(dialogs: int, calls: int, freezing: bool) -> None:
    """Hold some calls, and let others come and go."""
    whole = Whole()
    held: list[Dialog] = []

    @whole.srf.invite
    async def answer(req: Request, res: Response) -> None:
        held.append(await whole.srf.create_uas(req, res, local_sdp=SDP))

    def call(name: str) -> str:
        whole.receive(request("INVITE", call=name, body=SDP), 32070)
        answered = next(one for one in whole.sent() if getattr(one, "status", 0) == 200)
        tag = answered.to.tag or ""
        whole.receive(request("ACK", call=name, to_tag=tag, branch="a"), 32070)
        return tag

    whole.pump()
    watch = Watch()
    if freezing:
        from drachtwist.hosting.collector import Collector

        Collector(whole.clock).start()
    gc.callbacks.insert(0, watch)
    for number in range(dialogs):
        call(f"held-{number}")
        whole.clock.advance(0.02)
    print(f"{dialogs:6} calls begin:      {watch.report()}", flush=True)
    whole.pass_time(40.0, 1.0)
    watch.report()
    for number in range(calls):
        name = f"passing-{number}"
        tag = call(name)
        whole.receive(request("BYE", call=name, number=2, to_tag=tag))
        whole.sent()
        held.pop()
        whole.clock.advance(0.02)
    print(f"{calls:6} come and go then: {watch.report()}", flush=True)


def main() -> None:
    """Run it, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dialogs", type=int, nargs="+", default=[10_000, 20_000])
    parser.add_argument("--calls", type=int, default=4_000)
    parser.add_argument("--only", choices=["plain", "freezing"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only is not None:
        measure(options.dialogs[0], options.calls, options.only == "freezing")
        return
    for dialogs in options.dialogs:
        for kind in ("plain", "freezing"):
            print(f"{kind}, {dialogs} calls held", flush=True)
            words = ["--only", kind, "--dialogs", str(dialogs), "--calls", str(options.calls)]
            subprocess.run([sys.executable, __file__, *words], check=True)


if __name__ == "__main__":
    main()
