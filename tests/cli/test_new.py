"""``drachtwist new``: the project is complete, and right."""

from __future__ import annotations

import json
import os
import re
import shlex
from importlib import import_module
from pathlib import Path

from twisted.application.twist._options import TwistOptions
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.cli.new import FILES, make_project
from drachtwist.cli.outcomes import CommandError, Exit
from drachtwist.hosting import app_tap
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

    def test_commands(self) -> None:
        """What README and Dockerfile run are commands and options that there are."""
        make_project(Path("shop"))
        os.chdir("shop")
        blocks = re.findall(r"```sh\n(.*?)```", Path("README.md").read_text("utf-8"), re.S)
        lines = [shlex.split(line, comments=True) for line in "".join(blocks).splitlines()]
        found = re.search(r"(?m)^CMD (.*)$", Path("Dockerfile").read_text("utf-8"))
        assert found is not None
        lines.append(json.loads(found[1]))
        self.patch(app_tap.Options, "environment", {"DRACHTIO_SECRET": "cymru"})
        seen = []
        for line in lines:
            words = [word for word in line if not re.fullmatch(r"[A-Z_]+=.*", word)]
            seen.append(words[0])
            if words[0] == "drachtwist":
                import_module(f"drachtwist.cli.{words[1]}").read(words[2:])
            elif words[0] == "twist":
                options = TwistOptions()
                options.parseOptions(words[1:])
                self.assertEqual(options.subOptions["settings"].app, "app.py")
        self.assertEqual(seen.count("drachtwist"), 3)
        self.assertEqual(seen.count("twist"), 3)
        self.assertLessEqual(set(seen), {"drachtwist", "twist", "pip", "pytest", "docker"})

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
