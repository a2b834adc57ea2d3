#!/usr/bin/env python3
"""Hold many dialogs, end them all, and do it again: does anything stay?

    python benchmarks/memory.py [--dialogs 10000] [--cycles 5] [--mixed]

An application on the embedded server, in memory: only sockets and time are made up. Phones call it,
and hang up; with ``--mixed`` half of the calls are its own, and it ends half of all. It prints what
is left after each cycle, and how much memory the process has; the exit status is 1 when fewer
dialogs were held, something is left, or the memory of the last cycle is above that of the second by
more than two percent.

It lets Python take each object from the system (PYTHONMALLOC=malloc), so that everything that was
given up can be given back: Python's own pools keep some megabytes more or less, by chance.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import sys
from pathlib import Path

from twisted.internet.defer import Deferred

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from drachtwist import Dialog, Request, Response
from tests.server.doubles import request
from tests.whole import TARGET, Whole

SDP = "v=0\r\n"


def resident() -> int:
    """Return the bytes of memory in use, after everything that can be given back was."""
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
    parser.add_argument("--mixed", action="store_true", help="let the application call and end too")
    options = parser.parse_args()
    whole = Whole()
    ended = 0

    async def talk(dialog: Dialog) -> None:
        nonlocal ended
        await dialog.when_ended()
        ended += 1

    @whole.srf.invite
    async def answer(req: Request, res: Response) -> None:
        await talk(await whole.srf.create_uas(req, res, local_sdp=SDP))

    async def call() -> None:
        await talk(await whole.srf.create_uac(TARGET, local_sdp=SDP))

    def called(name: str) -> None:
        """Let a phone call the application."""
        whole.receive(request("INVITE", call=name, body=SDP), 32070)
        answered = next(one for one in whole.sent() if getattr(one, "status", 0) == 200)
        tag = answered.to.tag or ""
        whole.receive(request("ACK", call=name, to_tag=tag, branch="a"), 32070)
        byes.append(request("BYE", call=name, number=2, to_tag=tag))

    def calling(name: str) -> None:
        """Let the application call a phone."""
        Deferred.fromCoroutine(call())
        invite = whole.request()
        whole.respond(invite, 200, body=SDP)
        tag = invite.from_.tag or ""
        byes.append(
            request("BYE", call=invite.call_id, from_tag="b", to_tag=tag, branch=name, port=32071)
        )

    def hang_up(dialog: Dialog) -> None:
        """Let the application end a dialog."""
        dialog.destroy()
        whole.respond(whole.request(), 200)

    def own_dialogs() -> list[Dialog]:
        return [one for state in whole.srf._connections.table.values() for one in state.dialogs]

    whole.pump()
    byes: list[str] = []
    dialog: Dialog | None
    sizes: list[int] = []
    failed = False
    for cycle in range(1, options.cycles + 1):
        for number in range(options.dialogs):
            (calling if options.mixed and number % 2 else called)(f"{cycle}-{number}")
            whole.sent()
        held = whole.server.core.counts()
        failed = failed or held["dialogs"] != options.dialogs
        for number, bye in enumerate(byes):
            if not options.mixed or number % 4 < 2:
                whole.receive(bye)
        whole.sent()
        byes.clear()
        for dialog in own_dialogs():
            hang_up(dialog)
        dialog = None
        whole.pass_time(64, 8.0)
        left = {key: count for key, count in whole.server.core.counts().items() if count}
        left["delayed calls"] = len(whole.clock.getDelayedCalls())
        left["dialogs of the application"] = len(own_dialogs())
        sizes.append(resident())
        print(f"cycle {cycle}: held {held}, left {left}, {sizes[-1] / 1e6:.1f} MB", flush=True)
        applications = left.pop("applications", 0)
        failed = failed or applications != 1 or any(left.values())
        failed = failed or ended != cycle * options.dialogs
    growth = sizes[-1] / sizes[min(1, len(sizes) - 1)]
    print(f"memory of the last cycle to that of the second: {growth:.3f}")
    return int(failed or growth > 1.02)


if __name__ == "__main__":
    if os.environ.get("PYTHONMALLOC") != "malloc":
        environment = {**os.environ, "PYTHONMALLOC": "malloc"}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    sys.exit(main())
