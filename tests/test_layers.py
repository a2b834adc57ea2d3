"""Imports point one way: the core knows nothing of Twisted, and no circle of files is left.

The arrows of ``docs/architecture.md`` are checked here, imports for types alone included.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import drachtwist
from tests.imports import circles, imports_of, package_of

_CORE = {"errors", "sip"}
_NET = _CORE | {"wire", "transactions", "net"}
_APPLICATION = _NET | {"app", "middleware", "tracing"}

# Which packages (and modules right below the root) each of them may import, besides itself.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "version": set(),
    "sip": {"errors"},
    "wire": _CORE,
    "transactions": _CORE,
    "net": _NET,
    # What looks at the taps of net; a Trace is made by whoever has a tap to give.
    "tracing": _NET,
    "app": _NET | {"tracing"},
    "server": _NET | {"tracing", "version"},
    "middleware": _APPLICATION,
    # Applications, servers and phones in memory.
    "testing": _APPLICATION | {"server"},
    # Applications in somebody else's loop.
    "aio": _APPLICATION,
    # The face of the package.
    "": _APPLICATION,
    # What shows it off.
    "demo": _NET | {"tracing"},
    # What starts applications and servers as processes.
    "hosting": _APPLICATION | {"server", "demo", "version"},
    # What people type.
    "cli": _APPLICATION | {"server", "demo", "hosting", "version"},
    "__main__": {"cli"},
    # Names that plugins and programs know.
    "processes": {"hosting"},
    "server_tap": {"hosting"},
    "tap": {"hosting"},
}

# What public types say of each other: a request knows its application, which makes dialogs of it,
# its response and its early dialog. These arrows are for types alone, and count in no circle.
PUBLIC_TYPES = {
    ("drachtwist.app.interfaces", "drachtwist.app.request"),
    ("drachtwist.app.interfaces", "drachtwist.app.response"),
    ("drachtwist.app.received", "drachtwist.app.srf"),
    ("drachtwist.app.received", "drachtwist.app.early"),
    ("drachtwist.app.request", "drachtwist.app.early"),
    ("drachtwist.app.response", "drachtwist.app.request"),
    ("drachtwist.app.response", "drachtwist.app.srf"),
    ("drachtwist.app.dialog.core", "drachtwist.app.srf"),
    ("drachtwist.app.dialog.core", "drachtwist.app.dialog.face"),
}

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


class ImportTests(SynchronousTestCase):
    def test_arrows(self) -> None:
        """No package imports one that is above it or beside it, for types neither."""
        wrong = {
            (module, other)
            for module, others in imports_of().items()
            for other in others
            if package_of(module) != package_of(other)
            and package_of(other) not in ALLOWED[package_of(module)]
        }
        self.assertEqual(wrong, set())

    def test_app_and_server_do_not_meet(self) -> None:
        """The application and the server speak the protocol with each other, and nothing else."""
        self.assertNotIn("server", ALLOWED["app"])
        self.assertNotIn("app", ALLOWED["server"])

    def test_no_circles(self) -> None:
        """No file imports itself through others."""
        graph = {
            module: {other for other in others if (module, other) not in PUBLIC_TYPES}
            for module, others in imports_of().items()
        }
        self.assertEqual(circles(graph), [])

    def test_public_types_exist(self) -> None:
        """The list names arrows that are there, and nothing but types is imported along them."""
        root = Path(drachtwist.__file__).parent.parent
        for module, other in PUBLIC_TYPES:
            self.assertIn(other, imports_of()[module])
            source = (root / Path(*module.split("."))).with_suffix(".py").read_text("utf-8")
            line = f"from {other} import "
            self.assertIn(f"\n    {line}", source)
            self.assertNotIn(f"\n{line}", source)

    def test_circles_are_found(self) -> None:
        """Groups are found through others, and what only leads to one or from one is no part."""
        graph = {
            "a": {"b"},
            "b": {"c"},
            "c": {"b", "d"},
            "d": {"e"},
            "e": {"d"},
            "f": {"f"},
            "g": set(),
        }
        self.assertEqual(circles(graph), [{"b", "c"}, {"d", "e"}, {"f"}])
        self.assertEqual(circles({"a": {"b"}, "b": set()}), [])

    def test_types_count(self) -> None:
        """Imports for types, and those within functions, are arrows too."""
        arrows = imports_of()
        self.assertIn("drachtwist.net.sip.websocket", arrows["drachtwist.net.sip.transports"])
        self.assertIn("drachtwist.app.handlers", arrows["drachtwist.app.router"])
