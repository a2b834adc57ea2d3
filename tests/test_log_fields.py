"""What events of the log carry: of a call its Call-ID, of a connection the peer, all documented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from string import Formatter

from twisted.trial.unittest import SynchronousTestCase

import drachtwist
from drachtwist.net.logs import LEVELS

PACKAGE = Path(drachtwist.__file__).parent
PAGE = PACKAGE.parent / "docs" / "logging.md"

_EMITS = re.compile(r"(?:log|alerts)\.(?:debug|info|warn|error|critical|failure|emit|note)$|_tell$")
_OF_A_CALL = {"method", "dialog_id", "status"}
"""Fields of events that are about a request."""

OF_A_STORY = {"caller", "callee", "ended_by", "reason", "other_call_id", "left_out"}
"""Fields of the lines about calls that are over, whose formats are put together."""

WITHOUT_CALL_ID = {
    "no decision about {method} {uri}": "the question of a server says none",
}
"""What is about a request, and has none."""


def _text(node: ast.expr) -> str | None:
    """Return a constant text, however it is put together."""
    try:
        value = ast.literal_eval(node)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


@cache
def events() -> tuple[tuple[Path, str, frozenset[str]], ...]:
    """Give the file, the format and the fields of whatever writes into the log."""
    return tuple(_events())


def _events() -> Iterator[tuple[Path, str, frozenset[str]]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            name = f"{ast.unparse(node.func.value)}.{node.func.attr}"
            if _EMITS.search(name) is None:
                continue
            texts = [text for text in map(_text, node.args[:2]) if text and " " in text]
            if texts:
                yield path, texts[0], frozenset(one.arg for one in node.keywords if one.arg)


def named(text: str) -> set[str]:
    """Return the fields that a format shows."""
    return {re.split(r"[.!:\[]", name)[0] for _, name, *_ in Formatter().parse(text) if name}


class FieldTests(SynchronousTestCase):
    def test_found(self) -> None:
        """They are found, and say what they carry."""
        found = list(events())
        self.assertGreater(len(found), 80)
        for path, text, fields in found:
            self.assertLessEqual(
                named(text) - {"failure"}, fields | {"left_out"}, f"{path}: {text}"
            )

    def test_call_id(self) -> None:
        """Whatever is about a request carries its Call-ID."""
        missing = {
            text
            for path, text, fields in events()
            if fields & _OF_A_CALL and "call_id" not in fields and path.parent.name != "tracing"
        }
        self.assertEqual(missing, set(WITHOUT_CALL_ID))

    def test_names(self) -> None:
        """A Call-ID is ``call_id`` everywhere, and who sends something is ``peer``."""
        for path, text, fields in events():
            self.assertEqual(
                fields & {"callid", "call", "address", "source", "client"}, set(), text
            )
            if "Call-ID" in text:
                self.assertIn("call_id", fields, f"{path}: {text}")

    def test_documented(self) -> None:
        """The page has all fields, and no others."""
        table = PAGE.read_text(encoding="utf-8").partition("| field |")[2].partition("\n\n")[0]
        told = {
            name
            for row in re.findall(r"^\| (`[^|]*) \|", table, re.M)
            for name in re.findall("`([a-z_]+)`", row)
        }
        carried = {field for _, _, fields in events() for field in fields}
        self.assertEqual(told, carried | OF_A_STORY | {"cause", "untold"})

    def test_namespaces(self) -> None:
        """The page has the namespaces that are no names of modules."""
        found = set()
        for path in PACKAGE.rglob("*.py"):
            found |= set(
                re.findall(r'Logger\(namespace="([^"]+)"', path.read_text(encoding="utf-8"))
            )
        special = {
            name
            for name in found
            if not (PACKAGE.parent / (name.replace(".", "/") + ".py")).exists()
        }
        told = set(
            re.findall(r"^\| `(drachtwist[a-z.]*)` \|", PAGE.read_text(encoding="utf-8"), re.M)
        )
        self.assertEqual(told, special)

    def test_levels(self) -> None:
        """The page has the levels of ``--loglevel``."""
        text = PAGE.read_text(encoding="utf-8")
        for level in LEVELS:
            self.assertIn(f"`{level}`", text)
