"""Tests of what applications import."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_origin

from twisted.trial.unittest import SynchronousTestCase

import drachtwist
import drachtwist.app
import drachtwist.errors


def _modules() -> Iterator[Any]:
    yield drachtwist
    for module in pkgutil.iter_modules(drachtwist.app.__path__, "drachtwist.app."):
        yield importlib.import_module(module.name)


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Give what a class defines for others, by name."""
    for name, value in vars(cls).items():
        if not name.startswith("_") and (
            inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
        ):
            yield f"{cls.__name__}.{name}", value


class PublicTests(SynchronousTestCase):
    def test_names(self) -> None:
        """Every public name exists, and stands in its list once."""
        for module in _modules():
            names = list(getattr(module, "__all__", ()))
            self.assertEqual(len(names), len(set(names)), module.__name__)
            for name in names:
                self.assertIsNotNone(getattr(module, name), f"{module.__name__}.{name}")
        # Constants first, as the linter wants it.
        names = sorted(drachtwist.__all__, key=lambda name: (not name.isupper(), name))
        self.assertEqual(drachtwist.__all__, names)

    def test_nothing_missing(self) -> None:
        """What is loaded when it is first used has a home, and nothing else has."""
        self.assertLessEqual(set(drachtwist._HOMES), set(drachtwist.__all__))
        for name in drachtwist.__all__:
            value = getattr(drachtwist, name)
            home = getattr(value, "__module__", "drachtwist")  # constants have none
            self.assertTrue(home.startswith(("drachtwist", "typing", "builtins")), name)
        self.assertLessEqual(set(drachtwist.__all__), set(dir(drachtwist)))

    def test_errors_are_public(self) -> None:
        """Every error that an application may see can be imported from the top."""
        for name in drachtwist.errors.__all__:
            if name not in ("FrameError", "FrameTooLarge"):
                self.assertIn(name, drachtwist.__all__)

    def test_unknown_names(self) -> None:
        """Other names are missing as they are everywhere."""
        with self.assertRaises(AttributeError):
            _ = drachtwist.Nonsense

    def test_documented(self) -> None:
        """Everything public says what it does."""
        silent = []
        for module in _modules():
            if module is not drachtwist and not module.__doc__:
                silent.append(module.__name__)
            for name in getattr(module, "__all__", ()):
                value = getattr(module, name)
                if get_origin(value) is not None:
                    continue  # an alias, with a string below it
                if inspect.isclass(value) and value.__module__.startswith("drachtwist"):
                    silent += [where for where, one in _members(value) if not inspect.getdoc(one)]
                if (inspect.isclass(value) or inspect.isfunction(value)) and not value.__doc__:
                    silent.append(f"{module.__name__}.{name}")
        self.assertEqual(silent, [])

    def test_no_reactor(self) -> None:
        """Importing the framework installs no reactor, so that one can still be chosen."""
        code = (
            "import sys, drachtwist\n"
            "[getattr(drachtwist, name) for name in drachtwist.__all__]\n"
            "drachtwist.Srf()\n"
            "sys.exit('twisted.internet.reactor' in sys.modules)"
        )
        self.assertEqual(subprocess.run([sys.executable, "-c", code], check=False).returncode, 0)
