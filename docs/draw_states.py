"""Draw the machines of the package into docs/architecture.md, from the tables that they go by.

A machine says in ``TRANSITIONS`` what may follow what: in its module, or in its class where a
module has several. It maps each state, a member of an Enum, to those that may follow, or to what
leads to each of them. ``python docs/draw_states.py`` writes the drawings; a test sees that they are
those of the code.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"

_DRAWING = re.compile(r"<!-- states of ([\w.]+) -->\n.*?<!-- end of states -->", re.DOTALL)


def machines() -> Iterator[str]:
    """Find what has a table: the dotted names of modules and classes, in the order of the files."""
    for path in sorted((ROOT / "drachtwist").rglob("*.py")):
        text = path.read_text("utf-8")
        if "TRANSITIONS" not in text:
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for node in ast.parse(text).body:
            if _has_table(node):
                yield module
            elif isinstance(node, ast.ClassDef) and any(map(_has_table, node.body)):
                yield f"{module}.{node.name}"


def _has_table(node: ast.AST) -> bool:
    """Say whether a statement gives the table a value."""
    if isinstance(node, ast.AnnAssign):
        targets = [node.target] if node.value is not None else []
    else:
        targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(one, ast.Name) and one.id == "TRANSITIONS" for one in targets)


def table_of(name: str) -> Mapping[Enum, Any]:
    """Import the table of a machine."""
    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, kind = name.rpartition(".")
        found = getattr(importlib.import_module(module), kind)
    return found.TRANSITIONS


def drawing(table: Mapping[Enum, Any]) -> str:
    """Draw a table: each state, and below it what may follow, and why where that is said."""
    lines = []
    states = list(next(iter(table)).__class__) if table else []
    for state in (one for one in states if one in table):
        following = table[state]
        if isinstance(following, Mapping):
            arrows = [(why, after.name) for after, why in following.items()]
        else:
            arrows = [("", after.name) for after in states if after in following]
        reached = any(state in rest for rest in table.values())
        ends = "" if arrows else "  (the end)"
        lines.append(f"{state.name}{ends}" if reached else f"{state.name}  (the beginning){ends}")
        width = max((len(why) for why, _ in arrows), default=0)
        for at, (why, after) in enumerate(arrows):
            corner = "└" if at == len(arrows) - 1 else "├"
            shaft = f"─ {why} ".ljust(width + 3, "─") if width else "─"
            lines.append(f"  {corner}{shaft}─> {after}")
    return "\n".join(lines)


def drawn(text: str) -> str:
    """Return the page with its drawings made anew."""

    def draw(found: re.Match[str]) -> str:
        picture = drawing(table_of(found[1]))
        head, end = f"<!-- states of {found[1]} -->", "<!-- end of states -->"
        return f"{head}\n\n```text\n{picture}\n```\n\n{end}"

    return _DRAWING.sub(draw, text)


def shown(text: str) -> list[str]:
    """Return the machines that the page shows."""
    return [found[1] for found in _DRAWING.finditer(text)]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    before = PAGE.read_text("utf-8")
    PAGE.write_text(drawn(before), "utf-8")
    missing = sorted(set(machines()) - set(shown(before)))
    sys.exit(f"{PAGE.name} does not show {', '.join(missing)}" if missing else None)
