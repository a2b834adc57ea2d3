"""``drachtwist new``: the project is complete, and right."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.cli.new import FILES, make_project
from drachtwist.cli.outcomes import CommandError, Exit
from tests.cli.test_entry import run


class NewTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Go to an empty directory."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(directory)

    def test_files(self) -> None:
        """All files are there, with the name in them, and nothing that was to be filled in."""
        status, out, errors = run("new", "shop")
        self.assertEqual((status, errors), (Exit.OK, ""))
        found = {
            str(path.relative_to("shop")) for path in Path("shop").rglob("*") if path.is_file()
        }
        self.assertEqual(found, set(FILES))
        for path in found:
            self.assertNotIn("{{", (Path("shop") / path).read_text("utf-8"))
        self.assertIn('name = "shop"', (Path("shop") / "pyproject.toml").read_text("utf-8"))
        self.assertIn("cd shop\n", out)

    def test_checked(self) -> None:
        """There is nothing to complain about."""
        make_project(Path("shop"))
        os.chdir("shop")
        status, out, errors = run("check", "--strict")
        self.assertEqual((status, errors), (Exit.OK, ""))
        self.assertIn("servers are asked for: invite, options\nnothing is missing\n", out)

    def test_refused(self) -> None:
        """Nothing is overwritten; names that no package can have are refused."""
        Path("shop").mkdir()
        make_project(Path("shop"))
        (Path("shop") / "app.py").write_text("mine")
        status, _, errors = run("new", "shop")
        self.assertEqual((status, (Path("shop") / "app.py").read_text()), (Exit.FAILED, "mine"))
        self.assertEqual(errors, "drachtwist new: there is something in shop already\n")
        for name in ("2shop", "a b", "a.b", "a--b", "-"):
            error = self.assertRaises(CommandError, make_project, Path(name))
            self.assertEqual(error.exit, Exit.USAGE, name)
        Path("file").write_text("")
        self.assertIn("cannot write", run("new", "file")[2])
