"""Finding the application that a command line names."""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Srf
from drachtwist.hosting.loading import ApplicationError, load_application, make_application

_numbers = count()


class LoadingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Stand in an empty directory, and forget what is imported there."""
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(self.directory)
        self.patch(sys, "path", [*sys.path])
        self.patch(sys, "modules", sys.modules)
        before = set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(name) for name in set(sys.modules) - before])

    def write(self, text: str, directory: str = ".") -> str:
        """Write a module, and give its name, which no other test uses."""
        name = f"application_under_test_{next(_numbers)}"
        Path(directory).mkdir(exist_ok=True)
        Path(directory, f"{name}.py").write_text(f"from drachtwist import Srf\n{text}\n")
        return name

    def refused(self, name: str) -> str:
        """See that an application cannot be loaded; give the reason."""
        return str(self.assertRaises(ApplicationError, load_application, name))


class FoundTests(LoadingTestCase):
    def test_module(self) -> None:
        """A module of the current directory is found, and its attribute may be left out."""
        name = self.write("srf = Srf()\nother = Srf()")
        self.assertIsInstance(load_application(name), Srf)
        self.assertIs(load_application(f"{name}:srf"), load_application(name))
        self.assertIsNot(load_application(f"{name}:other"), load_application(name))

    def test_file(self) -> None:
        """A file is found wherever it is, and may import its neighbours."""
        neighbour = self.write("it = Srf()", "elsewhere")
        name = self.write(f"from {neighbour} import it as srf", "elsewhere")
        self.assertIsInstance(load_application(f"elsewhere/{name}.py"), Srf)
        self.assertIsInstance(load_application(f"elsewhere/{name}.py:srf"), Srf)

    def test_file_like_a_module(self) -> None:
        """A file that is called like a module in use hides it from nobody."""
        Path("json.py").write_text("from drachtwist import Srf\nsrf = Srf()\n")
        import json

        self.assertIsInstance(load_application("json.py"), Srf)
        self.assertIs(sys.modules["json"], json)

    def test_dotted_attribute(self) -> None:
        """The attribute may be one of an object."""
        name = self.write("class inside: srf = Srf()")
        self.assertIsInstance(load_application(f"{name}:inside.srf"), Srf)


class RefusedTests(LoadingTestCase):
    def test_nowhere(self) -> None:
        """What does not exist is named."""
        self.assertIn("there is no file nowhere.py", self.refused("nowhere.py"))
        self.assertIn("there is no module 'nowhere'", self.refused("nowhere:srf"))
        self.assertIn("there is no module 'nowhere'", self.refused("nowhere.below"))

    def test_no_name(self) -> None:
        """Text that names nothing is refused with the right form."""
        for name in (":srf", "a:", "a:b-c", "a:b."):
            self.assertIn("module:attribute", self.refused(name))

    def test_missing_attribute(self) -> None:
        """The applications that the module has are proposed."""
        name = self.write("application = Srf()")
        self.assertIn("did you mean application?", self.refused(name))
        name = self.write("def srfs(): ...\nsrg = 5")
        self.assertIn("did you mean srfs?", self.refused(name))
        name = self.write("pass")
        self.assertTrue(self.refused(name).endswith("has no attribute 'srf'"))

    def test_something_else(self) -> None:
        """What is neither an application nor a function is told by its type."""
        self.assertIn("of type int, not an Srf", self.refused(self.write("srf = 5")))
        self.assertIn("is None, not an Srf", self.refused(self.write("srf = None")))

    def test_traceback(self) -> None:
        """What fails on import shows the user's lines, and none of the machinery."""
        name = self.write("def broken():\n    return {}['colour']\nbroken()")
        for asked in (name, f"{name}.py"):
            text = self.refused(asked)
            self.assertIn("in broken", text)
            self.assertIn("KeyError: 'colour'", text)
            self.assertIn(f"cannot load the application {asked}", text)
            self.assertNotIn("importlib", text)
            self.assertNotIn("drachtwist/hosting/loading.py", text)

    def test_failure_leaves_nothing(self) -> None:
        """A file that failed can be loaded once it is repaired."""
        name = self.write("1 / 0")
        self.refused(f"{name}.py")
        self.assertNotIn(name, sys.modules)
        Path(f"{name}.py").write_text("from drachtwist import Srf\nrepaired_srf = Srf()\n")
        self.assertIsInstance(load_application(f"{name}.py:repaired_srf"), Srf)

    def test_missing_dependency(self) -> None:
        """A module that the application misses is not taken for the application itself."""
        text = self.refused(self.write("import missing_dependency"))
        self.assertIn("No module named 'missing_dependency'", text)
        self.assertIn("Traceback", text)

    def test_syntax_error(self) -> None:
        """A slip of the pen is shown with its line."""
        text = self.refused(self.write("def broken(:"))
        self.assertIn("SyntaxError", text)
        self.assertIn("def broken(:", text)


class MadeTests(SynchronousTestCase):
    def test_itself(self) -> None:
        """An application is what it is."""
        srf = Srf()
        self.assertIs(make_application(srf, "a"), srf)

    def test_function(self) -> None:
        """A function is called for it."""
        srf = Srf()
        self.assertIs(make_application(lambda: srf, "a"), srf)

    def test_later(self) -> None:
        """A Deferred and a coroutine are waited for."""
        srf = Srf()
        waiting: Deferred[Srf] = Deferred()

        async def make() -> Srf:
            return await waiting

        first = make_application(make, "a")
        assert isinstance(first, Deferred)
        self.assertNoResult(first)
        waiting.callback(srf)
        self.assertIs(self.successResultOf(first), srf)

    def test_failures(self) -> None:
        """A function that fails shows the user's traceback, at once or later."""

        def now() -> Srf:
            raise KeyError("colour")

        async def later() -> Srf:
            raise KeyError("colour")

        at_once = str(self.assertRaises(ApplicationError, make_application, now, "a"))
        made = make_application(later, "a")
        assert isinstance(made, Deferred)
        afterwards = str(self.failureResultOf(made, ApplicationError).value)
        for text, function in ((at_once, "in now"), (afterwards, "in later")):
            self.assertIn(function, text)
            self.assertIn("KeyError: 'colour'", text)
            self.assertNotIn("drachtwist/hosting/loading.py", text)

    def test_something_else(self) -> None:
        """A function that returns something else is refused."""
        error = self.assertRaises(ApplicationError, make_application, lambda: None, "a")
        self.assertEqual(str(error), "a returned None, not an Srf")
