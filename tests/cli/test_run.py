"""``drachtwist run``: its options, its log, and which files it looks at."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from twisted.logger import LogLevel
from twisted.python import usage
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.cli import run as command
from drachtwist.cli.outcomes import Exit
from drachtwist.cli.picture import Screen
from drachtwist.cli.run import Console, RunOptions
from drachtwist.cli.watching import Watch, files_below, loaded_files
from tests.cli.test_entry import run


class DirectoryTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Go to an empty directory."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(directory)


class WatchTests(DirectoryTestCase):
    def test_changes(self) -> None:
        """A file of another time or length has changed; a new one, or one that is gone, has not."""
        Path("a.py").write_text("1")
        Path("b.py").write_text("1")
        watch = Watch()
        self.assertEqual(watch.add(["a.py", "b.py"]), [])
        self.assertEqual(watch.add(["a.py", "b.py"]), [])
        Path("a.py").write_text("12")
        self.assertEqual(watch.add(["a.py", "b.py"]), ["a.py"])
        os.utime("b.py", (1, 1))
        self.assertEqual(watch.add(["b.py"]), ["b.py"])
        watch = Watch()
        watch.add(["a.py"])
        Path("a.py").unlink()
        self.assertEqual(watch.add(["a.py", "c.py"]), [])
        self.assertIn("a.py", watch)
        self.assertNotIn("c.py", watch)

    def test_below(self) -> None:
        """Files that are written by hand are found, and no others."""
        for name in ("app.py", "calls/menu.py", "calls/notes.txt"):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text("")
        for name in (".git/hook.py", "venv/lib/x.py", "node_modules/x.py", "__pycache__/app.py"):
            Path(name).parent.mkdir(parents=True)
            Path(name).write_text("")
        Path("venv/pyvenv.cfg").write_text("")
        found = {os.path.relpath(file) for file in files_below(Path.cwd())}
        self.assertEqual(found, {"app.py", "calls/menu.py"})

    def test_loaded(self) -> None:
        """Modules of the user's own count; those of Python and of packages do not."""
        module = ModuleType("of_their_own")
        module.__file__ = str(Path.cwd() / "of_their_own.py")
        sys.modules["of_their_own"] = module
        self.addCleanup(sys.modules.pop, "of_their_own")
        found = set(loaded_files())
        self.assertIn(module.__file__, found)
        others = [sys.modules[name] for name in ("os", "twisted", "drachtwist.app.srf")]
        for other in others:
            self.assertNotIn(other.__file__, found)


class DirectoryTests(DirectoryTestCase):
    def test_directories(self) -> None:
        """The files of an application are beside its own, or below the current directory."""
        here = Path.cwd()
        for app, directory in (
            ("app.py", here),
            ("calls/menu.py", here / "calls"),
            ("calls/menu.py:make", here / "calls"),
            ("calls.menu:make", here),
            ("calls.menu", here),
            (None, here),
        ):
            self.assertEqual(command._directory(app), directory, app)

    def test_addresses(self) -> None:
        """What can be called is said, unless the port is chosen later."""
        for contact, address in (
            ("sip:127.0.0.1:5070;transport=udp,tcp", "sip:hello@127.0.0.1:5070"),
            ("sip:*;transport=udp", "sip:hello@127.0.0.1:5060"),
            ("sip:[::1]:5070", "sip:hello@[::1]:5070"),
            ("sip:127.0.0.1:0", None),
        ):
            self.assertEqual(command._address(contact), address)


class OptionsTests(DirectoryTestCase):
    def parse(self, *words: str) -> Any:
        """Read the words of the command."""
        options = RunOptions()
        options.environment = {}
        options.parseOptions(list(words))
        return options

    def test_application(self) -> None:
        """It is named, or app.py; never twice."""
        self.assertEqual(self.parse("calls.menu:make")["settings"].app, "calls.menu:make")
        self.assertEqual(self.parse("--app", "a.py")["settings"].app, "a.py")
        for words in (("a.py", "b.py"), ("a.py", "--app", "b.py")):
            self.assertRaises(usage.UsageError, self.parse, *words)
        Path("app.py").write_text("")
        self.assertEqual(self.parse()["settings"].app, "app.py")

    def test_port(self) -> None:
        """A port is short for a contact on this machine; other contacts may stand beside it."""
        server = self.parse("a.py", "--port", "5070", "-c", "sip:127.0.0.1:5071")["settings"].server
        self.assertEqual(
            [one.uri for one in server.contacts],
            ["sip:127.0.0.1:5070;transport=udp,tcp", "sip:127.0.0.1:5071"],
        )

    def test_ladders(self) -> None:
        """Calls are drawn unless that is not wanted."""
        self.assertTrue(self.parse("a.py")["trace"])
        self.assertFalse(self.parse("a.py", "--no-ladders").get("trace"))

    def test_wrong(self) -> None:
        """An error is the last line, behind the option that it is about."""
        for words, shown, last in (
            (("--port", "x"), "  -p, --port=", "--port 'x' is no port number (0 to 65535)"),
            (
                ("--relaod",),
                "  -r, --reload",
                "there is no option --relaod; did you mean --reload?",
            ),
            (("--reactor", "none"), "      --reactor=", "--reactor 'none' is none of "),
            (("a", "b"), "drachtwist run: ", "what is 'b'? There is one application"),
            ((), "      --app", "which application? --app"),
        ):
            status, out, errors = run("run", *words)
            self.assertEqual((status, out), (Exit.USAGE, ""))
            lines = errors.splitlines()
            self.assertTrue(lines[-1].startswith(f"drachtwist run: {last}"), errors)
            self.assertIn(shown.strip(), lines[0])

    def test_broken(self) -> None:
        """An application that cannot be imported is shown, and ends it unless it is to reload."""
        Path("broken.py").write_text("1/0\n")
        status, out, errors = run("run", "broken.py")
        self.assertEqual((status, out), (Exit.FAILED, ""))
        self.assertIn("ZeroDivisionError", errors)
        self.assertEqual(errors.splitlines()[-1], "cannot load the application broken.py")


class ConsoleTests(SynchronousTestCase):
    def shown(self, text: str, level: Any = LogLevel.info, **more: Any) -> str:
        """Give what is shown of an event."""
        out = io.StringIO()
        event = {"log_format": "{text}", "text": text, "log_level": level, "log_time": 0.0, **more}
        Console(Screen(cast(Any, out)))(event)
        return out.getvalue()

    def test_log(self) -> None:
        """What the application and the server say is shown; what Twisted says of itself is not."""
        self.assertRegex(self.shown("alice: the peer ended it"), r"^\d\d:\d\d:\d\d  alice: the")
        self.assertRegex(self.shown("slow", LogLevel.warn), r"  warn: slow\n$")
        self.assertEqual(self.shown("fine", LogLevel.debug), "")
        for noise in (
            "SIP over tcp starting on 5060",
            "applications over tcp starting on 37207",
            "(TCP Port 5060 Closed)",
            "Starting factory <drachtwist.net.gate.Gate object at 0x7f>",
            "Main loop terminated.",
        ):
            self.assertEqual(self.shown(noise), "", noise)
        try:
            raise ValueError("a slip")
        except ValueError:
            text = self.shown("a handler failed", LogLevel.critical, log_failure=Failure())
        self.assertIn("critical: a handler failed\nTraceback", text)
        self.assertTrue(text.endswith("ValueError: a slip\n"))
