"""Whatever a peer writes, reading it takes time in proportion to its length, and fails cleanly."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.growth.exempt import EXEMPT
from tests.growth.measuring import MOST, Shape, growth, quiet, seconds
from tests.growth.readers import Reader
from tests.growth.registry import MODULES, READERS

SHORT, LONG = 1024, 8192
"""Octets of the texts that all shapes, and the slowest of them, are tried with."""

SUSPECT = (LONG / SHORT) ** 1.2
"""What takes this many times longer with the long text is measured properly."""

NOTICED = 0.0002
"""Seconds for the long text from which on it is looked at at all."""


def slowest(reader: Reader) -> Iterator[tuple[float, Shape]]:
    """Give, of each repeated part, the shape that takes the longest."""
    found: dict[str, tuple[float, Shape]] = {}
    for shape in reader.shapes():
        spent = seconds(reader.run, reader.write(shape.of(SHORT)))
        if spent > found.get(shape.repeated, (0, shape))[0]:
            found[shape.repeated] = (spent, shape)
    yield from sorted(found.values(), key=lambda one: -one[0])


def problems(reader: Reader) -> list[str]:
    """Say which shapes take more time than in proportion to their length."""
    found = []
    with quiet():
        for at, (spent, shape) in enumerate(slowest(reader)):
            longer = seconds(reader.run, reader.write(shape.of(LONG)))
            if longer < NOTICED or (at and longer < SUSPECT * spent):
                continue
            exponent, most = growth(reader, shape)
            if exponent >= MOST:
                found.append(f"{reader.name}: n^{exponent:.2f}, {most:.2f} s for {shape}")
    return found


class GrowthTests(SynchronousTestCase):
    """Time and errors; the tests are made below, one for each reader."""


def _make(reader: Reader) -> Any:
    def test(self: GrowthTests) -> None:
        self.assertEqual(problems(reader), [])

    test.__doc__ = f"The time that {reader.name} takes is in proportion to the text."
    return test


for _at, _reader in enumerate(READERS):
    _name = "".join(c if c.isalnum() else "_" for c in _reader.name)
    setattr(GrowthTests, f"test_{_at:02}_{_name}", _make(_reader))


class MeasureTests(SynchronousTestCase):
    """The measure itself."""

    def test_quadratic(self) -> None:
        """What takes the square of the length is found."""

        def read(text: str) -> None:
            for at in range(0, len(text), 16):
                text[at:].count("y")

        exponent, _ = growth(Reader("x", read, (), largest=1 << 16), Shape("", "x", ""))
        self.assertGreater(exponent, MOST)

    def test_linear(self) -> None:
        """What takes its length, is not."""

        def read(text: str) -> None:
            for one in text:
                one.isalpha()

        exponent, _ = growth(Reader("x", read, (), largest=1 << 16), Shape("", "x", ""))
        self.assertLess(exponent, MOST)


class RegistryTests(SynchronousTestCase):
    """Nothing public is forgotten."""

    def test_every_public_reader_is_registered(self) -> None:
        """Every public function of the modules is run by a reader, or is known to read nothing."""
        ran: set[CodeType] = set()

        def note(frame: FrameType, event: str, _: object) -> None:
            if event == "call":
                ran.add(frame.f_code)

        before = sys.getprofile()
        sys.setprofile(note)
        try:
            for reader in READERS:
                for sample in reader.samples:
                    reader.run(reader.write(sample))
        finally:
            sys.setprofile(before)
        public = dict(_public())
        missing = {name for name, code in public.items() if code not in ran}
        self.assertEqual(missing - EXEMPT, set(), "register a reader for these, or exempt them")
        self.assertEqual(EXEMPT - public.keys(), set(), "there are no such names (any more)")


def _public() -> Iterator[tuple[str, CodeType]]:
    """Give the public functions, methods and properties of all modules."""
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        short = module_name.removeprefix("drachtwist.")
        for name, value in vars(module).items():
            if name[0] == "_" or getattr(value, "__module__", "") != module_name:
                continue
            if inspect.isfunction(value):
                yield f"{short}.{name}", value.__code__
            elif inspect.isclass(value):
                for each, member in vars(value).items():
                    member = getattr(member, "fget", getattr(member, "__func__", member))
                    if each[0] != "_" and inspect.isfunction(member):
                        yield f"{short}.{name}.{each}", member.__code__
