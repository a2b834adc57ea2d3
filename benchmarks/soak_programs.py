"""The processes that benchmarks/soak.py watches, and the link between them, which can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from server import processor_time

ROOT = Path(__file__).resolve().parent.parent
SECRET = "cymru"
JUDGED = 30.0
"""Seconds behind the warm-up that memory can be judged from."""
GROWTH = 2 << 20, 300
"""Bytes that memory may grow by between the first and the last third behind the warm-up: so many,
and so many for each call in between."""
# The link between server and application


class Relay:
    """Carries bytes between those who connect and a port, until it cuts them off."""

    def __init__(self, to: int) -> None:
        self.to = to
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0

    async def start(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            onward, there = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, there}
        await asyncio.gather(self._pump(reader, there), self._pump(onward, writer))
        self._open -= {writer, there}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def cut(self, stall: float, refuse: float) -> None:
        """Let nothing through, close everything, and take no connection for some time."""
        self._flowing.clear()
        if stall:
            await asyncio.sleep(stall)
        assert self._server is not None
        if refuse:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        self._flowing.set()
        if refuse:
            await asyncio.sleep(refuse)
            await self.start()

    def close(self) -> None:
        """End."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()


# Processes


@dataclass
class Sample:
    """What a process had at some time."""

    at: float
    calls: int
    rss: int
    files: int
    cpu: float
    waited: float
    """Seconds that it could have computed in, and others did."""


class Program:
    """A process of twistd that is watched."""

    def __init__(self, name: str, log: Path, word: str, *arguments: str, **more: str) -> None:
        self.name = name
        self.log = log
        self.samples: list[Sample] = []
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        command += ["-n", "--pidfile=", f"--logfile={self.log}", *arguments]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "DRACHTIO_SECRET": SECRET, **more}
        self.process = subprocess.Popen(command, cwd=log.parent, env=environment)
        until = time.monotonic() + 60
        while not self.log.exists() or word not in self.text():
            if self.process.poll() is not None or time.monotonic() > until:
                self.process.kill()
                raise SystemExit(f"the {name} does not start:\n{self.text()}")
            time.sleep(0.05)

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def sample(self, at: float, calls: int) -> None:
        """Note what it has, unless it has ended."""
        if (sample := self.look(at, calls)) is not None:
            self.samples.append(sample)

    def look(self, at: float, calls: int) -> Sample | None:
        """Return what it has, or None once it has ended.

        Another thread may be waiting for the process (`stop`, `kill`): `poll` does not know the end
        then, and what the system tells of the process can go at any moment.
        """
        if self.process.poll() is not None:
            return None
        directory = Path(f"/proc/{self.process.pid}")
        try:
            pages = int((directory / "statm").read_text().split()[1])
            return Sample(
                at,
                calls,
                pages * os.sysconf("SC_PAGE_SIZE"),
                len(os.listdir(directory / "fd")),
                processor_time(self.process),
                int((directory / "schedstat").read_text().split()[1]) / 1e9,
            )
        except (FileNotFoundError, ProcessLookupError):
            return None

    def at(self, seconds: float) -> Sample:
        """Return the first sample from some time on, or else the last one."""
        return next((one for one in self.samples if one.at >= seconds), self.samples[-1])

    def problems(self) -> Iterator[str]:
        """Say what it logged as an error."""
        lines = self.text().splitlines()
        for number, line in enumerate(lines):
            if re.search(r"#(error|critical)\]|Traceback|Unhandled", line):
                yield f"the {self.name} logged: " + "\n".join(lines[number : number + 20])

    def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        self.process.wait()

    def stop(self, seconds: float) -> str | None:
        """End it; say what was wrong.

        :param seconds: that it has.
        """
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return f"the {self.name} did not end"
        return f"the {self.name} ended with status {status}" if status else None


def dropped(port: int) -> int:
    """Return how many datagrams the system threw away because a socket had no room for them."""
    lines = Path("/proc/net/udp").read_text(encoding="ascii").splitlines()[1:]
    return sum(int(one.split()[-1]) for one in lines if one.split()[1].endswith(f":{port:04X}"))


def waiting(samples: list[Sample]) -> tuple[float, float]:
    """Return the largest part of ten seconds that a process waited for a processor, and when."""
    found = (0.0, 0.0)
    for first, last in zip(samples, samples[10:], strict=False):
        part = (last.waited - first.waited) / (last.at - first.at)
        found = max(found, (part, first.at))
    return found


def growth(
    samples: list[Sample], warm_up: float, last: float
) -> tuple[float, float, int, int] | None:
    """Compare the first with the last third behind the warm-up.

    :returns: bytes of memory more, bytes that it may be more, open files more, and calls in
        between; None when there is too little to compare.
    """
    judged = [one for one in samples if warm_up <= one.at <= last]
    third = len(judged) // 3
    if last - warm_up < JUDGED or not third:
        return None
    first, end = judged[:third], judged[-third:]
    calls = end[third // 2].calls - first[third // 2].calls
    more = statistics.median(one.rss for one in end) - statistics.median(one.rss for one in first)
    files = max(one.files for one in end) - max(one.files for one in first)
    return more, GROWTH[0] + GROWTH[1] * calls, files, calls
