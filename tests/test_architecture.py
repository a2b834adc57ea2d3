"""The page about the architecture is true: its drawings are those of the code, its files exist."""

from __future__ import annotations

import enum
import importlib.util
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("draw_states", ROOT / "docs" / "draw_states.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class ArchitectureTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Load the script."""
        self.script = _script()

    def test_drawings(self) -> None:
        """The drawings are made of the tables; if not, run docs/draw_states.py."""
        self.assertEqual(self.script.drawn(PAGE), PAGE)

    def test_all_machines(self) -> None:
        """Every machine that has a table is shown."""
        found = list(self.script.machines())
        self.assertIn("drachtwist.transactions.client.InviteClient", found)
        self.assertEqual(set(found) - set(self.script.shown(PAGE)), set())

    def test_files(self) -> None:
        """Every file that the page names is there."""
        named = re.findall(r"`([\w./]+(?:\.py|\.md|/))`", PAGE)
        self.assertGreater(len(named), 50)
        missing = {
            name
            for name in named
            if not any((base / name).exists() for base in (ROOT / "drachtwist", ROOT))
        }
        self.assertEqual(missing, set())

    def test_drawing(self) -> None:
        """A drawing has each state with what may follow, and why where that is said."""

        class Door(enum.Enum):
            OPEN = "open"
            SHUT = "shut"
            GONE = "gone"

        table = {
            Door.OPEN: {Door.SHUT: "pushed", Door.GONE: "fire"},
            Door.SHUT: frozenset({Door.GONE}),
            Door.GONE: {},
        }
        self.assertEqual(
            self.script.drawing(table),
            "OPEN  (the beginning)\n"
            "  ├─ pushed ─> SHUT\n"
            "  └─ fire ───> GONE\n"
            "SHUT\n"
            "  └──> GONE\n"
            "GONE  (the end)",
        )
