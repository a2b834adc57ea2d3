"""Which module of the package imports which, read from the source: also imports for types alone."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

import drachtwist

__all__ = ["circles", "imports_of", "package_of"]

_ROOT = Path(drachtwist.__file__).parent


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(_ROOT.rglob("*.py")):
        parts = path.relative_to(_ROOT.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


@cache
def imports_of() -> dict[str, set[str]]:
    """Return the modules of the package that each module of the package imports.

    Imports under ``TYPE_CHECKING`` and within functions count. What a package's ``__init__``
    imports counts for it alone, not for whoever imports from another module of the package.
    """
    known = dict(_modules())
    found: dict[str, set[str]] = {}
    for name, path in known.items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names if alias.name in known)
            elif isinstance(node, ast.ImportFrom) and node.module in known:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    names.add(whole if whole in known else node.module)
        found[name] = names - {name}
    return found


def package_of(module: str) -> str:
    """Return the package or module right below the root that a module is in; the root is ``""``."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def circles(graph: Mapping[str, Collection[str]]) -> list[set[str]]:
    """Return the groups of modules that import each other, directly or through others."""
    reached: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for name in graph.get(waiting.pop(), ()):
                if name not in seen:
                    seen.add(name)
                    waiting.append(name)
        reached[start] = seen
    found: list[set[str]] = []
    for name, seen in reached.items():
        if name in seen and not any(name in group for group in found):
            found.append({one for one in seen if name in reached.get(one, ())})
    return found
