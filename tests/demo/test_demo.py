"""The demo, where it does not go as planned."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import cast

from twisted.internet import reactor
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.demo import demo
from drachtwist.sip import Request
from tests.interop.peers import ROOT, InteropTestCase, Peer


class HostedTests(SynchronousTestCase):
    """The output of twistd is read line by line."""

    def setUp(self) -> None:
        """Make a process that is none."""
        self.heard: list[str] = []
        self.hosted = demo.Hosted(self.heard.append)

    def test_lines(self) -> None:
        """A line counts once it is complete, and however it was cut."""
        waiting = self.hosted.when_prints("connected")
        for part in (b"one\ntw", b"o\nnow conn", b"ected"):
            self.hosted.childDataReceived(1, part)
        self.assertNoResult(waiting)
        self.hosted.childDataReceived(1, b"\n")
        self.successResultOf(waiting)
        self.assertEqual(self.heard, ["one", "two", "now connected"])

    def test_early_end(self) -> None:
        """A process that ends fails what waits for its output, and shows the last of it."""
        waiting, ended = self.hosted.when_prints("connected"), self.hosted.when_ended()
        self.hosted.childDataReceived(2, b"no such thing\n")
        self.hosted.processEnded(Failure(ProcessTerminated(1)))
        failure = self.failureResultOf(waiting, demo.DemoError)
        self.assertIn("no such thing", str(failure.value))
        self.assertEqual(self.successResultOf(ended), 1)
        self.failureResultOf(self.hosted.when_prints("connected"), demo.DemoError)

    def test_good_end(self) -> None:
        """The status of a process that ended well is zero, for whoever asks afterwards too."""
        self.hosted.processEnded(Failure(ProcessDone(0)))
        self.assertEqual(self.successResultOf(self.hosted.when_ended()), 0)


class DrawingTests(SynchronousTestCase):
    def shown(self, *lines: str, calling: bool) -> str:
        """Give what the demo shows of twistd's output."""
        out = io.StringIO()
        show = demo.Demo(None, True, out)
        show._calling = calling
        for line in lines:
            show._heard(line)
        return out.getvalue()

    def test_log(self) -> None:
        """Of the log, what the application says and what goes wrong is shown."""
        text = self.shown(
            "2026-01-01T00:00:00+0000 [twisted.internet.base#info] Main loop terminated.",
            "2026-01-01T00:00:00+0000 [answer#info] Alice pressed 5",
            "2026-01-01T00:00:00+0000 [drachtwist#warn] something odd",
            calling=False,
        )
        self.assertEqual(
            text, "  Alice pressed 5\n2026-01-01T00:00:00+0000 [drachtwist#warn] something odd\n"
        )

    def test_short_uris(self) -> None:
        """The parameters of an address do not clutter the ladder."""
        self.assertEqual(demo._short("sip:a@b;transport=udp"), "sip:a@b")
        self.assertEqual(Request("INVITE", "sip:a@b").uri, demo._short("sip:a@b"))


class ExampleTests(SynchronousTestCase):
    def test_example(self) -> None:
        """The example that is shown is the one of the documentation."""
        self.assertEqual(demo.example(), ROOT / "docs" / "examples" / "answer.py")

    def test_missing(self) -> None:
        """An example that was not installed is missed with its path."""
        self.patch(demo, "ROOT", Path("/nowhere"))
        self.patch(sysconfig, "get_path", lambda name: "/nowhere")
        error = self.assertRaises(demo.DemoError, demo.example)
        self.assertIn("/nowhere/share/doc/drachtwist/examples/answer.py", str(error))


def _children(pid: int) -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True)
    return [int(word) for word in listed.stdout.split()]


class ProcessTests(InteropTestCase):
    """Real processes."""

    async def up(self) -> tuple[Peer, int]:
        """Start a demo that stays; give the process of its application too."""
        peer = self.spawn("demo", sys.executable, "-m", "drachtwist.cli", "demo", "--port", "0")
        await peer.when_prints("--endpoint tcp:HOST:9022")
        assert peer.transport is not None
        (hosted,) = _children(cast(int, peer.transport.pid))
        return peer, hosted

    async def gone(self, pid: int) -> bool:
        """Wait for the end of a process that is not our child."""
        for _ in range(100):
            status = Path(f"/proc/{pid}/stat")
            if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
            await deferLater(cast(IReactorTime, reactor), 0.1)
        return False

    async def test_term(self) -> None:
        """SIGTERM ends the application too."""
        peer, hosted = await self.up()
        peer.kill("TERM")
        self.assertEqual(await peer.ended, 0, str(peer))
        self.assertTrue(await self.gone(hosted))

    async def test_ctrl_c(self) -> None:
        """Ctrl-C, which reaches both processes, is no failure of the application."""
        peer, hosted = await self.up()
        os.kill(hosted, signal.SIGINT)
        peer.kill("INT")
        self.assertEqual(await peer.ended, 0, str(peer))
        self.assertNotIn(b"twistd ended", peer.output)
        self.assertTrue(await self.gone(hosted))

    async def test_killed(self) -> None:
        """A demo that is killed leaves no application behind."""
        peer, hosted = await self.up()
        peer.kill("KILL")
        await peer.ended
        self.assertTrue(await self.gone(hosted))

    async def test_application_dies(self) -> None:
        """An application that dies ends the demo, with what it printed last."""
        peer, hosted = await self.up()
        os.kill(hosted, signal.SIGKILL)
        self.assertEqual(await peer.ended, 1, str(peer))
        self.assertIn(b"twistd ended", peer.output)
