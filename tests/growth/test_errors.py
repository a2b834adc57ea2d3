"""However much a peer writes: what an error or the log says of it can be read at a glance."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

from twisted.logger import LogEvent, formatEvent, globalLogPublisher, textFileLogObserver
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import drachtwist
from drachtwist.errors import (
    CommandRefused,
    ConfigError,
    DrachtwistError,
    LocalProtocolError,
    MessageError,
    SdpError,
    SipError,
)
from drachtwist.net.logs import Logger
from tests.growth.measuring import Shape
from tests.growth.readers import Reader
from tests.growth.registry import READERS

MOST = 300
"""Characters of what an error says."""
LONG = 60_000
"""Octets of what peers write here."""
REPEATED = ("a", "9", '"', "\u00e9", ";a=b")
PLACES = 3
"""At how many places of each sample."""


def shapes(reader: Reader) -> Iterator[Shape]:
    """Give shapes that are likely to be refused."""
    found: dict[str, list[Shape]] = {}
    for shape in reader.shapes():
        found.setdefault(shape.repeated, []).append(shape)
    bases = next(iter(found.values()))
    bases = bases[:: max(1, len(bases) // PLACES)]
    for base in bases:
        for repeated in REPEATED:
            yield Shape(base.prefix, repeated, base.suffix)


class ErrorTests(SynchronousTestCase):
    """Those of all readers are made below."""

    def assert_short(self, error: BaseException) -> None:
        """See that an error can be read."""
        for text in (str(error), *map(str, error.args)):
            self.assertLessEqual(len(text), MOST, f"{type(error).__name__} {text[:100]}")
        self.assertLessEqual(len(repr(error)), 6 * MOST)

    def test_kinds(self) -> None:
        """Each kind shows the start and the end of a long text, and how much was left out."""
        long = f"not a number: {'9' * LONG} (in the end)"
        for error in (
            DrachtwistError(long),
            LocalProtocolError(long),
            MessageError(long, 416),
            SdpError(long, 3),
            ConfigError(long, 3),
            CommandRefused(long),
            SipError(486, long),
        ):
            self.assert_short(error)
            self.assertIn("not a number: 9999", str(error))
            self.assertIn("(in the end)", str(error))
            self.assertIn("characters", str(error))
        self.assertEqual(CommandRefused(long).text, long)
        self.assertEqual(SipError(486, long).reason, long)

    def test_short(self) -> None:
        """What is short is left as it is; so is what is no text."""
        self.assertEqual(str(DrachtwistError("x" * MOST)), "x" * MOST)
        self.assertEqual(DrachtwistError("a", 2).args, ("a", 2))
        self.assertEqual(DrachtwistError().args, ())


def _make(reader: Reader) -> Any:
    def test(self: ErrorTests) -> None:
        made: list[DrachtwistError] = []

        original = DrachtwistError.__init__

        def note(error: DrachtwistError, *args: object) -> None:
            original(error, *args)
            made.append(error)

        self.patch(DrachtwistError, "__init__", note)
        for shape in shapes(reader):
            reader.run(reader.write(shape.of(min(LONG, reader.largest))))
            for error in made:
                self.assert_short(error)
            made.clear()

    test.__doc__ = f"Errors of {reader.name} can be read."
    return test


for _number, _reader in enumerate(READERS):
    setattr(ErrorTests, f"test_{_number:02}_{_reader.name}".replace(".", "_"), _make(_reader))


class LogTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Look at the log."""
        self.lines: list[str] = []

        def observe(event: LogEvent) -> None:
            self.lines.append(formatEvent(event) or "")

        observer: Any = observe
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def test_fields(self) -> None:
        """Long texts, octets and errors are shortened where they are put into a line."""
        log = Logger()
        for value in ("x" * LONG, b"x" * LONG, ValueError("x" * LONG)):
            log.info("this came: {value}, and {number} more", value=value, number=3)
            self.assertTrue(self.lines[-1].startswith("this came: "))
            self.assertTrue(self.lines[-1].endswith(", and 3 more"))
            self.assertLess(len(self.lines[-1]), MOST + 50)

    def test_failures(self) -> None:
        """A failure keeps its traceback, and shows as little of what was written."""
        try:
            raise MessageError("x" * LONG)
        except MessageError:
            Logger().failure("{call_id} failed", call_id="c" * LONG)
        self.assertLess(len(self.lines[-1]), 3000)
        [failure] = self.flushLoggedErrors(MessageError)
        assert isinstance(failure, Failure)
        self.assertIn("test_failures", failure.getTraceback())

    def test_what_is_no_text(self) -> None:
        """Octets that are no UTF-8, and controls, are in the line, escaped: no file refuses it."""
        octets = BytesIO()
        file = TextIOWrapper(octets, "utf-8", newline="")
        observer: Any = textFileLogObserver(file)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        strange = b"a\xff\x1b[2J\rb\xc2\x9b".decode("utf-8", "surrogateescape")
        log = Logger()
        for value in (strange, ValueError(strange)):
            log.info("this came: {value}, and no more", value=value)
        try:
            raise MessageError(strange)
        except MessageError:
            log.failure("{call_id} failed", call_id=strange)
        self.assertEqual(len(self.flushLoggedErrors(MessageError)), 1)
        file.flush()
        lines = octets.getvalue().decode("utf-8").split("\n")
        shown = r"a\udcff\x1b[2J\rb\x9b"
        for line in lines[:2]:
            self.assertTrue(line.endswith(f"this came: {shown}, and no more"), line)
        self.assertTrue(lines[2].endswith(f"{shown} failed"), lines[2])
        self.assertTrue(any(line.endswith(f"MessageError: {shown}") for line in lines[3:]), lines)

    def test_namespace(self) -> None:
        """The log still says which module or class speaks."""
        self.assertEqual(Logger().namespace, __name__)
        self.assertEqual(_Speaker().log.namespace, f"{__name__}._Speaker")

    def test_nobody_else(self) -> None:
        """All of the package writes into the log that way."""
        root = Path(drachtwist.__file__).parent
        found = []
        for path in sorted(root.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module == "twisted.logger":
                    names = {one.name for one in node.names}
                    if "Logger" in names and path.name != "logs.py":
                        found.append(str(path.relative_to(root)))
        self.assertEqual(found, [])


class _Speaker:
    log = Logger()
