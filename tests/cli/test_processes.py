"""The first day of a new user, in real processes: a project, a call, a change, its tests."""

from __future__ import annotations

import sys

from tests.interop.peers import InteropTestCase, Peer, free_port

_PYTEST = ("-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider")


class FirstDayTests(InteropTestCase):
    def drachtwist(self, *words: str) -> Peer:
        """Run a command."""
        name = f"drachtwist {' '.join(words)}"
        return self.spawn(
            name, sys.executable, "-m", "drachtwist", *words, **{"PYTHONIOENCODING": "utf-8"}
        )

    async def test_first_day(self) -> None:
        """A project runs, is called and drawn, and starts again; its tests say what is broken."""
        peer = self.drachtwist("new", "shop")
        self.assertEqual(await peer.ended, 0, str(peer))
        self.directory /= "shop"
        port = free_port()
        running = self.drachtwist("run", "app.py", "--reload", "--port", str(port))
        await running.when_prints("connected to the server in this process")
        call = self.drachtwist("call", f"sip:hello@127.0.0.1:{port}", "--dtmf", "#")
        self.assertEqual(await call.ended, 0, str(call))
        self.assertIn(b"the other side hung up", call.output)
        await running.when_prints("200 OK (BYE)")  # of the ladder, once the call is over
        # A change that breaks something: the application starts again, and a test shows the ladder.
        app = self.directory / "app.py"
        app.write_text(app.read_text("utf-8").replace("res.send(180)", "res.send(183)"), "utf-8")
        tests = self.spawn("pytest", sys.executable, *_PYTEST, **{"PYTHONIOENCODING": "utf-8"})
        self.assertEqual(await tests.ended, 1, str(tests))
        self.assertIn("1 failed, 3 passed", tests.output.decode())
        self.assertIn("SIP ladder", tests.output.decode())
        self.assertIn("183 Session Progress", tests.output.decode())
        await running.when_prints("app.py has changed: starting again")
        running.output = running.output.partition(b"starting again")[2]
        await running.when_prints("connected to the server in this process")
        running.kill("INT")
        self.assertEqual(await running.ended, 0, str(running))
        self.assertNotIn(b"Traceback", running.output)

    async def test_one_directory(self) -> None:
        """What the documentation shows can be started twice from one directory."""
        (self.directory / "app.py").write_text("from drachtwist import Srf\nsrf = Srf()\n")
        twistd = ("-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
        peers = []
        for program in (("-m", "twisted", "--log-format=text"), twistd):
            contact = f"sip:127.0.0.1:{free_port()};transport=udp,tcp"
            words = ("drachtio", "--app", "app.py", "--contact", contact)
            peers.append(self.spawn(program[0], sys.executable, *program, *words))
        for peer in peers:
            await peer.when_prints("connected to the server in this process")
        self.assertEqual([one.name for one in self.directory.iterdir() if "pid" in one.name], [])
