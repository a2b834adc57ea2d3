"""The page about troubles is true: what it quotes is what the package says."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twisted.scripts import _twistd_unix
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")

ANY = "…"
"""What stands on the page for what differs from case to case."""


@cache
def said() -> frozenset[str]:
    """Find all texts of the package, its docstrings aside, with what differs as on the page."""
    files = (ROOT / "drachtwist").rglob("*.py")
    return frozenset(text for path in files for text in texts_of(path.read_text("utf-8")))


def texts_of(source: str) -> Iterator[str]:
    """Find the texts of a module: strings, f-strings, and formats of the log."""
    nodes = list(ast.walk(ast.parse(source)))
    aside = {id(one.value) for one in nodes if isinstance(one, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            aside.update(map(id, node.values))
    for node in nodes:
        if id(node) in aside:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [one.value if isinstance(one, ast.Constant) else ANY for one in node.values]
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        yield re.sub(f"{ANY}+", ANY, re.sub(r"\{\w*(?:[:!][^{}]*)?\}", ANY, text))


def quoted(heading: str) -> list[str]:
    """Give what is quoted in the first column of the tables with this heading."""
    found, inside = [], False
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            inside = False
        elif line.startswith(f"| {heading} |"):
            inside = True
        elif inside:
            found += re.findall(r"`([^`]+)`", line.split(" | ")[0])
    return found


class TroubleshootingTests(SynchronousTestCase):
    def test_texts(self) -> None:
        """Each line of the log and each error that is quoted is one of the package."""
        texts = said()
        seen = quoted("log line or error")
        self.assertGreater(len(seen), 55)
        unknown = [one for one in seen if not any(one in text for text in texts)]
        self.assertEqual(unknown, [])

    def test_texts_elsewhere(self) -> None:
        """So is what is quoted in the other columns as a warning or a line."""
        texts = said()
        known = [
            "listening: SIP on …",
            "no application at …: …",
            "… sends what is wrong: …",
            "wrong credentials of … from …",
            "no requests will come from …",
        ]
        for one in known:
            self.assertIn(f"`{one}`", PAGE)
            self.assertTrue(any(one in text for text in texts), one)

    def test_texts_of_twisted(self) -> None:
        """What Twisted says it does say."""
        [text] = quoted("what Twisted says")
        self.assertIn(text, inspect.getsource(_twistd_unix))

    def test_reading(self) -> None:
        """Texts are found however they are written; docstrings are none."""
        source = '"""No."""\nlog.warn("lost {peer}, " "{seconds:.0f} s")\nraise E(f"no {a!r}{b}")\n'
        self.assertEqual(list(texts_of(source)), ["lost …, … s", "no …"])
