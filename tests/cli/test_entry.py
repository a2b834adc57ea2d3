"""``drachtwist`` itself: help that helps, errors that are the last line, exit statuses."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.cli import main
from drachtwist.cli.entry import COMMANDS
from drachtwist.cli.outcomes import CommandError, Exit, of_status
from drachtwist.version import VERSION


def run(*words: str) -> tuple[int, str, str]:
    """Run a command; give exit status, output and errors."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            status = main(words)
        except SystemExit as end:
            assert isinstance(end.code, int)
            status = end.code
    return status, out.getvalue(), errors.getvalue()


class EntryTests(SynchronousTestCase):
    def test_help(self) -> None:
        """All commands are listed; without one it is help, and wrong usage."""
        for words, expected in (((), 2), (("--help",), 0), (("-h",), 0), (("help",), 0)):
            status, out, errors = run(*words)
            self.assertEqual((status, errors), (expected, ""))
            for name, about in COMMANDS.items():
                self.assertRegex(out, rf"(?m)^  {name} +{about}$")

    def test_version(self) -> None:
        """It knows its version."""
        self.assertEqual(run("--version"), (0, f"drachtwist {VERSION}\n", ""))

    def test_commands(self) -> None:
        """Each command has help with examples of itself, without a margin; none loads a reactor."""
        before = sys.modules.pop("twisted.internet.reactor", None)
        if before is not None:
            self.addCleanup(sys.modules.__setitem__, "twisted.internet.reactor", before)
        for name in COMMANDS:
            status, out, errors = run(name, "--help")
            self.assertEqual((status, errors), (0, ""), name)
            usage, examples = re.split("(?i)examples:\n", out)
            self.assertRegex(examples, rf"^  drachtwist {name}\b")
            self.assertNotRegex(usage.partition("\n\n")[2].partition("\n\n")[0], r"(?m)^ ")
            self.assertEqual(run("help", name), (0, out, ""))
            self.assertNotIn("twisted.internet.reactor", sys.modules, name)

    def test_unknown(self) -> None:
        """A command that there is not is not confused with what was meant."""
        status, out, errors = run("cal", "sip:bob@127.0.0.1")
        self.assertEqual((status, out), (2, ""))
        self.assertEqual(errors, "drachtwist: there is no command 'cal'; did you mean call?\n")
        self.assertIn("there are new, ", run("xyzzy")[2])

    def test_errors_are_last(self) -> None:
        """What is wrong is the last line, behind the option that matters, or else the usage."""
        for words, shown, last in (
            (
                ("call", "sip:a@b", "--hodl"),
                "  --hold [SECONDS]",
                "drachtwist call: there is no option --hodl; did you mean --hold?",
            ),
            (
                ("call", "sip:a@b", "--hold", "long"),
                "  --hold [SECONDS]",
                "drachtwist call: --hold: 'long' is no number of seconds",
            ),
            (
                ("call", "sip:a@b", "--dtmf", "1x"),
                "  --dtmf KEYS",
                "drachtwist call: --dtmf: 'X' is no key: 0123456789*#ABCD",
            ),
            (
                ("call",),
                "usage: drachtwist call",
                "drachtwist call: the following arguments are required: URI",
            ),
            (
                ("options", "sip:a@b", "more"),
                "usage: drachtwist options",
                "drachtwist options: what is 'more'?",
            ),
        ):
            status, out, errors = run(*words)
            self.assertEqual((status, out), (2, ""), words)
            lines = errors.splitlines()
            self.assertEqual(lines[-1], last)
            self.assertEqual(lines[0][: len(shown)], shown)
            self.assertLess(len(lines), 14)

    def test_interrupted(self) -> None:
        """Ctrl-C anywhere is no traceback."""
        module = import_module("drachtwist.cli.new")

        def interrupted(words: object) -> int:
            raise KeyboardInterrupt

        self.patch(module, "main", interrupted)
        self.assertEqual(run("new", "x"), (130, "", ""))


class OutcomeTests(SynchronousTestCase):
    def test_statuses(self) -> None:
        """The exit status of a refusal is the hundred of its SIP status."""
        self.assertEqual([of_status(s) for s in (200, 202)], [Exit.OK, Exit.OK])
        self.assertEqual([of_status(s) for s in (302, 404, 503, 603)], [3, 4, 5, 6])
        self.assertEqual(of_status(408, made_up=True), Exit.NO_ANSWER)
        self.assertEqual(CommandError("no").exit, Exit.FAILED)
