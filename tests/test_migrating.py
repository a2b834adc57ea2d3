"""The table of names for those who come from drachtio-srf: what it promises is there."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

import drachtwist
from tests.interop.names import PAGE, source_names, table_names, table_rows, typed_names


def find(name: str) -> Any:
    """Give what a name in the table means.

    :raises AttributeError: when it means nothing.
    """
    name, _, rest = name.partition("(")
    first, *parts = name.split(".")
    if hasattr(drachtwist, first):
        found: Any = getattr(drachtwist, first)
    else:
        found = importlib.import_module(f"drachtwist.{first}")
    for part in parts:
        if inspect.ismodule(found) and not hasattr(found, part):
            found = importlib.import_module(f"{found.__name__}.{part}")
        else:
            annotated = getattr(found, "__annotations__", {})
            found = annotated[part] if part in annotated else getattr(found, part)
    for parameter in filter(None, re.split(r"[,) ]+", rest)):
        if parameter not in inspect.signature(found).parameters:
            raise AttributeError(f"{name} has no parameter {parameter}")
    return found


class TableTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Read the table."""
        self.rows = table_rows(PAGE.read_text("utf-8"))

    def test_names(self) -> None:
        """Every name on the right exists, with its parameters."""
        self.assertGreater(len(self.rows), 80)
        for theirs, ours, _ in self.rows:
            if ours.startswith("—"):
                continue
            names = re.findall(r"`([^`]+)`", ours)
            self.assertTrue(names, theirs)
            for name in names:
                with self.subTest(name=name):
                    self.assertIsNotNone(find(name))

    def test_tests(self) -> None:
        """Every row has a test, which exists; only what has no counterpart has none."""
        for theirs, ours, test in self.rows:
            if ours.startswith("—"):
                self.assertEqual(test, "—", theirs)
                continue
            module, case, method = test.strip("`").rsplit(".", 2)
            with self.subTest(test=test):
                self.assertTrue(
                    callable(getattr(getattr(importlib.import_module(module), case), method))
                )

    def test_few_without_counterpart(self) -> None:
        """What has no counterpart is a handful of rows, each with its reason."""
        without = [ours for _, ours, _ in self.rows if ours.startswith("—")]
        self.assertLessEqual(len(without), 4)
        self.assertTrue(all(len(reason) > 10 for reason in without))

    def test_missing(self) -> None:
        """A name that does not exist is noticed."""
        for name in ("Srf.nonsense", "Srf.create_uac(nonsense)", "Nonsense"):
            with self.assertRaises((AttributeError, ImportError)):
                find(name)


class ExtractionTests(SynchronousTestCase):
    def test_declarations(self) -> None:
        """Members, events, and callbacks of inline types are names; private ones are not."""
        text = """
  export class Dialog extends EventEmitter {
    onHold: boolean;
    destroy(opts?: { headers: string; }, callback?: () => void): void;
    on(messageType: "ack", callback: (msg: X) => void): this;
  }
"""
        found = typed_names(text)
        self.assertLessEqual({"onHold", "destroy", "'ack'"}, found)

    def test_sources(self) -> None:
        """Methods, options, properties and events are names; what a comment says is not."""
        text = """
class Srf extends Emitter {
  connect(opts) {
    // this.comment = 1
    this.ready = opts.host;
    this.emit('connect', 1);
    if (opts) { x(); }
  }
  _private() {
  }
}
"""
        self.assertEqual(source_names(text), {"connect", "ready", "host", "'connect'"})

    def test_table(self) -> None:
        """Names in the table count as code only."""
        page = "| `srf.on('x')`, `localSdp` | `Srf.y` | `t` |\n| word | `a` | `b` |\n"
        self.assertLessEqual({"'x'", "localSdp"}, table_names(page))
        self.assertNotIn("word", table_names(page))
