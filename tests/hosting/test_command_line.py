"""Help that can be read, and errors that can be found, of both plugins of twistd."""

from __future__ import annotations

import io
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.hosting import app_tap, server_tap

PLUGINS: dict[str, Any] = {
    "drachtio": app_tap.Options,
    "drachtio-server": server_tap.Options,
}


class Twistd(usage.Options):
    """What reads the options around those of a plugin."""

    subCommands = [[name, None, kind, "A plugin."] for name, kind in PLUGINS.items()]


def run(*words: str, kind: Any = Twistd) -> tuple[object, str, str]:
    """Let twistd read a command line; give exit status, output and errors."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        try:
            kind().parseOptions(list(words))
        except SystemExit as end:
            return end.code, out.getvalue(), errors.getvalue()
    raise AssertionError("it did not exit")


class HelpTests(SynchronousTestCase):
    def test_no_margins(self) -> None:
        """No margin of the source is left in the text, which fits the terminal."""
        self.patch(sys, "argv", ["/usr/bin/twistd"])
        for name in PLUGINS:
            status, out, errors = run(name, "--help")
            self.assertEqual((status, errors), (0, ""))
            for line in out.splitlines():
                if len(line.split()) > 1 and "  $ " not in line and not _is_example(line):
                    self.assertLessEqual(len(line), 80, line)
                text = line.strip()
                if not text.startswith("-"):
                    self.assertNotRegex(text, r"\S {2,}\S")

    def test_all_options(self) -> None:
        """Each option is explained, with its short form."""
        for name, kind in PLUGINS.items():
            options = kind()
            _, out, _ = run(name, "--help")
            for option in options.longOpt:
                self.assertRegex(out, rf"(?m)^  (-\w, |    )--{option}( |$)", (name, option))

    def test_examples(self) -> None:
        """There are examples, and their options exist."""
        for name, kind in PLUGINS.items():
            options = kind()
            _, out, _ = run(name, "--help")
            examples = out.partition("Examples:\n")[2].splitlines()
            self.assertGreater(len(examples), 1)
            known = {option.rstrip("=") for option in options.longOpt} | {"pidfile", "reactor"}
            for option in re.findall(r"--([a-z][a-z-]*)", "\n".join(examples)):
                self.assertIn(option, known)


def _is_example(line: str) -> bool:
    return "twist" in line


class ErrorTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Be called as people do."""
        self.patch(sys, "argv", ["/usr/bin/twistd", "-n"])

    def test_last_line(self) -> None:
        """The error is the last line, and of the options only the one that matters is shown."""
        for words, last, shown in (
            (
                ("drachtio", "--app", "a.py", "--drain", "soon"),
                "twistd drachtio: --drain 'soon' is no number of seconds",
                "  -d, --drain=",
            ),
            (
                ("drachtio-server", "--noconfig", "--port", "many"),
                "twistd drachtio-server: --port 'many' is no port number (0 to 65535)",
                "  -p, --port=",
            ),
            (
                ("drachtio", "--endpont", "tcp:a:1"),
                "twistd drachtio: there is no option --endpont; did you mean --endpoint?",
                "  -e, --endpoint=",
            ),
            (
                ("drachtio-server", "--drain"),
                "twistd drachtio-server: there is no option --drain;"
                " drachtio-server --help lists all",
                None,
            ),
        ):
            status, out, errors = run(*words)
            self.assertEqual((status, out), (2, ""), words)
            lines = errors.splitlines()
            self.assertEqual(lines[-1], last)
            self.assertEqual(lines[0] if shown is None else lines[0][: len(shown)], shown or last)
            self.assertLess(len(lines), 9)

    def test_every_way(self) -> None:
        """Whatever is wrong, the options of twistd are not listed."""
        for words in (
            ("drachtio", "word"),
            ("drachtio", "--drain"),
            ("drachtio", "--no-freeze=1"),
            ("drachtio", "--routing", "tcp:8080"),
            ("drachtio-server", "--noconfig", "word"),
            ("drachtio-server", "--noconfig", "--external-ip", "192.0.2.1"),
            ("drachtio-server", "--file", "/no/such/file.xml"),
        ):
            status, out, errors = run(*words)
            self.assertEqual((status, out), (2, ""), words)
            self.assertLess(errors.count("\n"), 9)
            self.assertRegex(errors.splitlines()[-1], r"^twistd drachtio(-server)?: \S")

    def test_programs(self) -> None:
        """A program that reads the options itself gets the error."""
        for kind in PLUGINS.values():
            options = kind()
            error = self.assertRaises(usage.UsageError, options.parseOptions, ["--nonsense"])
            self.assertIn("--nonsense", str(error))
