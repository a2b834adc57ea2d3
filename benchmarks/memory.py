#!/usr/bin/env python3
"""Hold many dialogs, end them all, and do it again: does anything stay?

    python benchmarks/memory.py [--dialogs 10000] [--cycles 5]

An application on the embedded server, in memory: only sockets and time are made up. It prints what
is left after each cycle, and how much memory the process has; the exit status is 1 when something
is left, or the memory of the last cycle is above that of the second by more than two percent.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drachtwist import Request, Response
from tests.server.doubles import request
from tests.whole import Whole


def resident() -> int:
    """Give the bytes of memory in use, after everything that can be given back was."""
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        pass
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dialogs", type=int, default=10_000)
    parser.add_argument("--cycles", type=int, default=5)
    options = parser.parse_args()
    whole = Whole()
    ended = 0

    @whole.srf.invite
    async def answer(req: Request, res: Response) -> None:
        nonlocal ended
        dialog = await whole.srf.create_uas(req, res, local_sdp="v=0\r\n")
        await dialog.when_ended()
        ended += 1

    whole.pump()
    sizes = []
    failed = False
    for cycle in range(1, options.cycles + 1):
        tags = {}
        for number in range(options.dialogs):
            name = f"{cycle}-{number}"
            whole.receive(request("INVITE", call=name, body="v=0\r\n"), 32070)
            answered = next(one for one in whole.sent() if getattr(one, "status", 0) == 200)
            tags[name] = answered.to.tag or ""
            whole.receive(request("ACK", call=name, to_tag=tags[name], branch="a"), 32070)
        held = whole.server.core.counts()
        for name, tag in tags.items():
            whole.receive(request("BYE", call=name, number=2, to_tag=tag), 32070)
        whole.sent()
        whole.pass_time(64, 8.0)
        left = {key: count for key, count in whole.server.core.counts().items() if count}
        left["delayed calls"] = len(whole.clock.getDelayedCalls())
        left["dialogs of the application"] = sum(
            len(state.dialogs) for state in whole.srf._states.values()
        )
        sizes.append(resident())
        print(f"cycle {cycle}: held {held}, left {left}, {sizes[-1] / 1e6:.1f} MB", flush=True)
        applications = left.pop("applications", 0)
        failed = failed or applications != 1 or any(left.values())
        failed = failed or ended != cycle * options.dialogs
    growth = sizes[-1] / sizes[min(1, len(sizes) - 1)]
    print(f"memory of the last cycle to that of the second: {growth:.3f}")
    return int(failed or growth > 1.02)


if __name__ == "__main__":
    sys.exit(main())
