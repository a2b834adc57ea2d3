"""What the application framework hands out can be awaited in tasks of asyncio."""

from __future__ import annotations

import ast
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import drachtwist

ROOT = Path(drachtwist.__file__).parent
OF_TWISTED = {"Deferred", "DeferredList", "gatherResults", "maybeDeferred", "fromCoroutine"}
"""What makes Deferreds that plain tasks cannot await; Awaited and from_coroutine make others."""
INSIDE = {
    ("app/bridged_offers.py", "Deferred"): "a description that the framework waits for",
    ("app/lifecycle.py", "Deferred"): "what the one who runs the application waits for",
    ("app/server_endpoints.py", "DeferredList"): "what stop() waits for",
    ("middleware/cred.py", "maybeDeferred"): "what a checker of Twisted returns",
}
"""Those that nobody is handed, and what they are."""


def made() -> set[tuple[str, str]]:
    """Find where Deferreds are made that plain tasks cannot await."""
    found = set()
    for part in ("app", "middleware", "aio.py", "net/observers.py", "net/service.py"):
        where = ROOT / part
        for path in sorted(where.rglob("*.py")) if where.is_dir() else [where]:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Call):
                    function = node.func
                    if isinstance(function, ast.Subscript):
                        function = function.value
                    name = getattr(function, "attr", getattr(function, "id", ""))
                    if name in OF_TWISTED:
                        found.add((path.relative_to(ROOT).as_posix(), name))
    return found


class HandedOutTests(SynchronousTestCase):
    def test_all_are_awaited_in_tasks(self) -> None:
        """No Deferred of Twisted's own is made where applications get it."""
        self.assertEqual(made(), set(INSIDE))
