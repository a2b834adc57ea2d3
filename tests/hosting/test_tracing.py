"""Tracing, as ``twistd`` starts it."""

from __future__ import annotations

import os
import signal
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.demo.phone import Phone
from drachtwist.hosting.tracing import TraceSettings, Tracing, open_trace
from drachtwist.net.logs import LEVELS, Logger, set_level
from drachtwist.tracing import Place, Trace
from drachtwist.tracing.pcapng import read_pcapng
from drachtwist.tracing.recent import Recent
from drachtwist.tracing.ring import Ring
from tests.hosting.test_tap import HELLO
from tests.interop.peers import InteropTestCase, free_port
from tests.tracing.test_trace import invite

PLACE = Place("udp", "192.0.2.1", 5070, "192.0.2.9", 5060)


class TracingTests(SynchronousTestCase):
    def use(self, *settings: Any) -> Tracing:
        tracing = Tracing(TraceSettings(*settings), Clock())
        tracing.use()
        return tracing

    def test_what_is_kept(self) -> None:
        """The last messages, or whole calls if they are drawn; nothing if nothing is wanted."""
        self.assertIsNone(self.use(False, None, 0).trace)
        for settings, kind in (((), Recent), ((True,), Ring), ((True, None, 0), Ring)):
            trace = self.use(*settings).trace
            assert trace is not None
            self.assertIsInstance(trace.ring, kind)

    def test_trace_of_the_application(self) -> None:
        """What sees messages already goes on, and does what the settings say besides."""
        path = self.mktemp()
        tracing = Tracing(TraceSettings(False, path, 0), Clock())
        mine = Trace()
        self.assertIs(tracing.use(mine), mine)
        mine.sip_passed(PLACE, invite("a"), False)
        self.assertEqual(len(read_pcapng(path)), 1)
        tracing.stop()

    def test_file_that_cannot_be_written(self) -> None:
        """The process ends with a line that says why."""
        path = os.path.join(self.mktemp(), "x.pcapng")
        error = self.assertRaises(SystemExit, open_trace, TraceSettings(False, path), Clock())
        self.assertEqual(str(error), f"cannot write {path}: No such file or directory")

    def test_last_calls(self) -> None:
        """When somebody asks, the last calls are shown, the newest last, each once."""
        tracing = self.use()
        trace = tracing.trace
        assert trace is not None
        for number in range(30):
            trace.sip_passed(PLACE, invite(str(number)), False)
        trace.relate("28", "29")
        with capturedLogs() as logs:
            tracing.show()
        texts = [formatEvent(one).split("\n")[0] for one in logs]
        self.assertEqual(texts[0], "the last 20 calls:")
        expected = [f"the call {number}" for number in [*range(9, 28), 29]]
        self.assertEqual(texts[1:], expected)
        with capturedLogs() as logs:
            self.use(False, None, 0).show()
        self.assertEqual(logs, [])


class LevelTests(SynchronousTestCase):
    def test_levels(self) -> None:
        """What matters less than the level is not logged; what matters more is."""
        log = Logger()
        self.addCleanup(set_level, "debug")
        for expected, name in enumerate(LEVELS, 1):
            set_level(name)
            with capturedLogs() as logs:
                for tell in (log.debug, log.info, log.warn, log.error, log.critical):
                    tell("x")
            self.assertEqual(len(logs), expected, name)


class ProcessTests(InteropTestCase):
    async def test_everything(self) -> None:
        """A call is in the log when it is over, when somebody asks, and in the file."""
        directory = self.directory
        (directory / "app.py").write_text(HELLO)
        path = str(directory / "calls.pcapng")
        port = free_port()
        contact = f"sip:127.0.0.1:{port};transport=udp,tcp"
        host = self.twistd(
            *("drachtio", "--app", str(directory / "app.py"), "--contact", contact),
            *("--trace", "--trace-file", path),
        )
        await host.when_prints("connected to the server in this process")
        self.assertNotIn(b"_StreamFactory", host.output)
        phone = Phone(("127.0.0.1", port), "alice", clock=reactor)
        listening = cast(Any, reactor).listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        call = await phone.call(f"sip:bob@127.0.0.1:{port}")
        await call.hang_up()
        await host.when_prints("200 OK (BYE)")
        assert host.pid is not None
        os.kill(host.pid, signal.SIGUSR2)
        await host.when_prints("the last 1 calls:")
        host.kill()
        self.assertEqual(await host.ended, 0)
        heads = [one.method or one.status for one in read_pcapng(path)]
        self.assertEqual(heads, ["INVITE", 100, 200, "ACK", "BYE", 200])
