"""Each limit of the server has a flag, a variable, an element and rows in the documentation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import ConfigError, LocalProtocolError
from drachtwist.hosting.server_tap import Options
from drachtwist.server.configfile import ConfigFile
from drachtwist.server.limits import ABOUT, ServerLimits, open_files, read_limit, show_limit
from tests.hosting.test_server_tap import check, read

DOCS = Path(__file__).parent.parent.parent / "docs"
DEFAULTS = dataclasses.asdict(ServerLimits())


def file(name: str, text: str) -> ConfigFile:
    """Read a configuration file with one limit."""
    words = f"<limits><{name}>\n{text}\n</{name}></limits>"
    return ConfigFile.parse(f"<drachtio><admin>127.0.0.1</admin>\n{words}</drachtio>".encode())


class SettingTests(SynchronousTestCase):
    def test_everywhere(self) -> None:
        """A flag wins over a variable, a variable over the file, the file over the default."""
        for name, default in DEFAULTS.items():
            words = name.replace("_", "-")
            path = self.mktemp()
            Path(path).write_text(
                f"<drachtio><admin>127.0.0.1</admin><limits><{words}>7</{words}></limits></drachtio>"
            )
            variable = {f"DRACHTIO_LIMIT_{name.upper()}": "8"}
            for arguments, environment, expected in (
                ((), {}, default),
                (("-f", path), {}, 7),
                (("-f", path), variable, 8),
                (("-f", path, f"--limit-{words}", "9"), variable, 9),
            ):
                limits = read(*arguments, **environment)["config"].limits
                self.assertEqual(limits, dataclasses.replace(ServerLimits(), **{name: expected}))
                self.assertIs(type(getattr(limits, name)), type(default))

    def test_help(self) -> None:
        """What a flag says is what the limit is, and what it is unless given."""
        for name, default in DEFAULTS.items():
            [about] = [
                row[3]
                for row in Options.optParameters
                if row[0] == f"limit-{name}".replace("_", "-")
            ]
            self.assertIn(ABOUT[name], about)
            self.assertIn(f"; {show_limit(default)} unless given.", about)

    def test_documented(self) -> None:
        """The tables have them all, as they are."""
        server = (DOCS / "server.md").read_text(encoding="utf-8")
        security = (DOCS / "security.md").read_text(encoding="utf-8")
        for name, default in DEFAULTS.items():
            words = name.replace("_", "-")
            shown = show_limit(default)
            self.assertIn(f"\n| `{name}` | {shown} | {ABOUT[name]} |\n", security)
            self.assertIn(
                f"\n| `limits/{words}` | `--limit-{words}` | `LIMIT_{name.upper()}` |"
                f" {ABOUT[name]}; {shown} unless given |\n",
                server,
            )

    def test_reread(self) -> None:
        """Nothing changes while the server runs."""
        options = read("--limit-transactions", "9")
        self.assertEqual(options.reread().limits, options["config"].limits)

    def test_fractions(self) -> None:
        """Times may have a fraction; what is counted may not."""
        self.assertEqual(read("--limit-secret-timeout", "0.5")["config"].limits.secret_timeout, 0.5)
        error = self.assertRaises(usage.UsageError, read, "--limit-transactions", "0.5")
        self.assertIn("--limit-transactions '0.5' is no whole number", str(error))

    def test_none(self) -> None:
        """What is no number is refused, with where it stands; so is a 0 that makes no sense."""
        for name, default in DEFAULTS.items():
            words = name.replace("_", "-")
            texts = [
                "-1",
                "many",
                "1e3",
                "٣",
                "inf",
                "nan",
                "",
                " ",
                "9" * 20,
                "1,5",
                "0x10",
                "1_0",
            ]
            if default:
                texts += ["1."] if isinstance(default, float) else ["1.0"]
            for text in texts:
                self.assertRaises(LocalProtocolError, read_limit, name, text)
                if not text.strip():
                    continue
                error = self.assertRaises(usage.UsageError, read, f"--limit-{words}", text)
                self.assertIn(f"--limit-{words} {text!r} is no ", str(error))
                variable = f"DRACHTIO_LIMIT_{name.upper()}"
                error = self.assertRaises(usage.UsageError, read, **{variable: text})
                self.assertIn(f"{variable} {text!r} is no ", str(error))
                wrong = self.assertRaises(ConfigError, file, words, text)
                self.assertIn(f"limits/{words} {text!r} is no ", str(wrong))
                self.assertEqual(wrong.line, 2)
            if default and name not in ("secret_delay", "stop", "unconfirmed_repeats"):
                error = self.assertRaises(usage.UsageError, read, f"--limit-{words}", "0")
                self.assertIn(f"--limit-{words} has to be more than 0", str(error))
                wrong = self.assertRaises(ConfigError, file, words, "0")
                self.assertIn(f"limits/{words} has to be more than 0", str(wrong))
            else:
                self.assertEqual(
                    read(f"--limit-{words}", "0")["config"].limits.settled(),
                    (dataclasses.replace(ServerLimits(), **{name: 0}).settled()),
                )

    def test_values(self) -> None:
        """A program gets the same."""
        for value in (-1, float("inf"), float("nan"), "5", True, None):
            for name in DEFAULTS:
                self.assertRaises(LocalProtocolError, ServerLimits, **{name: value})
        self.assertRaises(LocalProtocolError, ServerLimits, transactions=1.5)
        self.assertEqual(ServerLimits(idle=5).idle, 5)

    def test_more_than_there_can_be(self) -> None:
        """Connections that no file is left for are reported: the real limit is the system's."""
        many = str(open_files())
        [finding] = read("--limit-connections", many)["findings"]
        self.assertIn(f"--limit-connections: this process may open only {many} files", str(finding))
        self.assertEqual(read("--limit-connections", "5")["findings"], [])

    def test_shown(self) -> None:
        """--check-config shows them."""
        status, shown, _ = check("--limit-transactions", "123")
        self.assertEqual(status, 0)
        self.assertIn("\nlimits: ", shown)
        self.assertIn("transactions 123", shown)

    def test_strange_elements(self) -> None:
        """A limit that nobody knows is reported; of two the first one counts."""
        found = ConfigFile.parse(
            b"<drachtio><admin>127.0.0.1</admin><limits><patience>1</patience>"
            b"<idle>5</idle><idle>6</idle></limits></drachtio>"
        )
        self.assertEqual(
            [str(one) for one in found.findings],
            [
                "line 1: limits/patience: unknown element",
                "line 1: limits/idle: given twice, the first one counts",
            ],
        )
        self.assertEqual(found.limits, {"idle": 5.0})
