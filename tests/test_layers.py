"""Imports point one way: the core knows nothing of Twisted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import drachtwist

_SCRIPT = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        importlib.import_module(found.name)
print("\\n".join(sorted(sys.modules)))
"""


class LayerTests(SynchronousTestCase):
    def modules_after_importing(self, *names: str) -> set[str]:
        root = str(Path(drachtwist.__file__).parent.parent)
        result = subprocess.run(
            [sys.executable, "-c", _SCRIPT, *names],
            env={**os.environ, "PYTHONPATH": root},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        return set(result.stdout.split())

    def test_core_loads_no_twisted(self) -> None:
        """Messages, wire, transactions and errors work without Twisted in the process."""
        loaded = self.modules_after_importing(
            "drachtwist.errors", "drachtwist.sip", "drachtwist.wire", "drachtwist.transactions"
        )
        self.assertIn("drachtwist.sip.message", loaded)
        self.assertEqual({name for name in loaded if name.split(".")[0] == "twisted"}, set())

    def test_sip_loads_no_other_layer(self) -> None:
        """SIP text is the lowest layer; it knows the errors and nothing else of the package."""
        loaded = self.modules_after_importing("drachtwist.sip")
        ours = {name.split(".")[1] for name in loaded if name.startswith("drachtwist.")}
        self.assertEqual(ours, {"errors", "sip"})

    def test_websockets_are_not_loaded_unless_wanted(self) -> None:
        """The server works without the package that WebSockets need."""
        loaded = self.modules_after_importing("drachtwist.server.service", "drachtwist.server_tap")
        self.assertEqual(
            {name for name in loaded if name.split(".")[0] in ("wsproto", "h11")}, set()
        )
