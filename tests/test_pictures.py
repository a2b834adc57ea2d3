"""The pictures of the pages: what is drawn is whole, stands alone, and says what the pages say."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("pictures", ROOT / "docs" / "pictures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class PictureTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Load the script."""
        self.script = _script()

    def texts(self, name: str) -> list[str]:
        """Draw a picture; give the texts in it, its title aside."""
        drawn = ElementTree.fromstring(str(self.script.PICTURES[name]()))
        return ["".join(one.itertext()) for one in drawn.iter(f"{SVG}text")]

    def test_alone(self) -> None:
        """Each is XML with a title, loads nothing, and has no colours of its own, for the dark."""
        for name, draw in self.script.PICTURES.items():
            text = str(draw())
            drawn = ElementTree.fromstring(text)
            self.assertTrue(drawn.findtext(f"{SVG}title"), name)
            self.assertNotIn("href", text, name)
            self.assertNotIn("url(", text, name)
            colours = set(re.findall(r'(?:fill|stroke)="([^"]*)"', text))
            self.assertEqual(colours, {"currentColor", "none"} & colours, name)

    def test_shown(self) -> None:
        """Each is on a page, and the pages ask for no other."""
        pages = "".join(one.read_text("utf-8") for one in (ROOT / "docs").glob("*.md"))
        self.assertEqual(
            sorted(re.findall(r"^:::\{picture\} (\w+)\n:::$", pages, re.M)),
            sorted(self.script.PICTURES),
        )

    def test_ladders(self) -> None:
        """Ladders are of calls that are made when they are drawn; each is on a page."""
        pages = "".join(one.read_text("utf-8") for one in (ROOT / "docs").glob("*.md"))
        shown = re.findall(r"^:::\{ladder\} (\w+)\n:::$", pages, re.M)
        self.assertEqual(sorted(shown), sorted(self.script.LADDERS))
        lines = self.script.b2bua().splitlines()
        self.assertEqual(lines[0].split(), ["alice", "server", "bob"])
        self.assertEqual(sum("BYE ─" in line for line in lines), 2)

    def test_modes(self) -> None:
        """The four modes are those of the page about connections, with arrows as it says."""
        texts = self.texts("modes")
        for endpoint in ("tcp:HOST:9022", "tls:HOST:9023", "tcp:9022", "tls:9023:..."):
            self.assertIn(endpoint, texts)
        self.assertEqual([texts.count("TCP"), texts.count("TLS")], [2, 2])

    def test_layers(self) -> None:
        """Every package of the table has its box, and none stands above what may import it."""
        page = ROOT / "docs" / "architecture.md"
        named = re.findall(r"^\| `(\w+(?:\.py)?)/?` \|", page.read_text("utf-8"), re.M)
        drawn = ElementTree.fromstring(str(self.script.layers()))
        height = {
            "".join(one.itertext()): -float(one.attrib["y"]) for one in drawn.iter(f"{SVG}text")
        }
        self.assertLess({"errors.py", "sip", "app", "server", "cli"}, set(named))
        self.assertEqual(set(height), set(named))
        self.assertLess(height["errors.py"], height["sip"])
        self.assertEqual(height["wire"], height["transactions"])
        self.assertLess(height["net"], height["app"])
        self.assertEqual(height["app"], height["server"])
        self.assertLess(height["app"], height["middleware"])
        self.assertEqual(max(height, key=height.__getitem__), "cli")

    def test_no_room(self) -> None:
        """Text that would stand over its box is not drawn, nor what is outside of the picture."""
        picture = self.script.Picture("a picture", 100, 50)
        for box in ((0, 0, 40, 20, "application"), (0, 0, 90, 20, "a", "b"), (0, 0, 101, 20)):
            with self.assertRaises(ValueError):
                picture.box(*box)
        with self.assertRaises(ValueError):
            picture.text(10, 10, "application")
