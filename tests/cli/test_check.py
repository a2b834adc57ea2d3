"""``drachtwist check``: what an application handles, and what cannot be meant."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response, Router, Srf
from drachtwist.app.interfaces import Next
from drachtwist.cli.check import Report, examine
from drachtwist.cli.outcomes import Exit
from drachtwist.middleware import DigestAuth, Registrar
from tests.cli.test_entry import run


def answer(req: Request, res: Response) -> None:
    """Answer."""


def other(req: Request, res: Response) -> None:
    """Answer too."""


def pass_on(req: Request, res: Response, next: Next) -> None:
    """Pass on."""


def rescue(error: BaseException, req: Request, res: Response, next: Next) -> None:
    """Take an error."""


class ExamineTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make an application that OPTIONS find."""
        self.srf = Srf()
        self.srf.options(answer)

    def report(self) -> Report:
        """Look at it."""
        return examine(self.srf)

    def test_complete(self) -> None:
        """Handlers are listed in order, at their depth, with their places."""
        router = Router()
        router.message(other)
        self.srf.use(pass_on)
        self.srf.use("register", DigestAuth("here", lambda user, realm: None))
        self.srf.use(Registrar())
        self.srf.use(router)
        self.srf.use(rescue)
        report = self.report()
        self.assertEqual((report.faults, report.hints), ([], []))
        self.assertEqual(
            [(one.method, one.name, one.kind, one.depth) for one in report.handlers],
            [
                ("OPTIONS", "answer", "handler", 0),
                ("*", "pass_on", "middleware", 0),
                ("REGISTER", "DigestAuth", "middleware", 0),
                ("REGISTER", "Registrar", "middleware", 0),
                ("MESSAGE", "other", "handler", 1),
                ("*", "rescue", "error handler", 0),
            ],
        )
        self.assertEqual(report.routes, ("message", "options", "register"))
        self.assertRegex(report.handlers[0].place, r"test_check\.py:\d+$|^tests\.cli\.test_check$")
        self.assertEqual(report.handlers[2].place, "drachtwist.middleware.digest")

    def test_unreachable(self) -> None:
        """What stands behind a handler that ends the chain is never asked."""
        self.srf.invite(answer)
        self.srf.invite(pass_on)
        router = Router()
        router.invite(other)
        self.srf.use(router)
        first, second = self.report().faults
        self.assertIn("is never asked about INVITE: answer stands before it", first)
        self.assertTrue(second.startswith("other"))

    def test_error_handlers(self) -> None:
        """An error handler in front of everything takes nothing; so does one of another method."""
        srf = Srf()
        srf.use(rescue)
        srf.invite(answer)
        srf.use("message", rescue)
        faults = examine(srf).faults
        self.assertEqual(len(faults), 2)
        self.assertIn("an error handler stands behind what may fail", faults[0])

    def test_routers(self) -> None:
        """A router that nobody mounted is missed; one in another that is mounted is not."""
        inner, outer, lost = Router(), Router(), Router()
        inner.message(answer)
        outer.use(inner)
        lost.notify(answer)
        self.srf.use(outer)
        around = [("app.inner", inner), ("app.outer", outer), ("app.lost", lost)]
        self.assertEqual(
            examine(self.srf, around).faults, ["the router app.lost is not mounted: srf.use(lost)"]
        )

    def test_hints(self) -> None:
        """What most applications have is missed."""
        self.assertIn("handles nothing", examine(Srf()).hints[0])
        srf = Srf()
        srf.use(pass_on)
        hints = " ".join(examine(srf).hints)
        self.assertIn("no handler behind it", hints)
        srf = Srf()
        srf.register(answer)
        srf.cancel(answer)
        hints = " ".join(examine(srf).hints)
        for hint in ("OPTIONS has no handler", "anybody may register", "req.on_cancel"):
            self.assertIn(hint, hints)


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Go to an empty directory, with the modules and the path of now."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(directory)
        path, modules = list(sys.path), set(sys.modules)

        def restore() -> None:
            sys.path[:] = path
            for name in set(sys.modules) - modules:
                del sys.modules[name]

        self.addCleanup(restore)

    def test_shown(self) -> None:
        """The list has files and lines; a fault makes the exit status 1, a hint only if strict."""
        Path("phones.py").write_text(
            "from drachtwist import Srf\n"
            "srf = Srf(['a', 'b'])\n"
            "@srf.invite\n"
            "async def answer(req, res):\n"
            "    pass\n"
        )
        status, out, errors = run("check", "phones.py")
        self.assertEqual((status, errors), (Exit.OK, ""))
        lines = out.splitlines()
        self.assertEqual(lines[0], "phones.py: tags a, b")
        self.assertEqual(lines[1].split(), ["INVITE", "answer", "handler", "phones.py:3"])
        self.assertEqual(lines[2], "servers are asked for: invite")
        self.assertEqual(lines[3], "perhaps missing:")
        self.assertEqual(run("check", "phones.py", "--strict")[0], Exit.FAILED)

    def test_broken(self) -> None:
        """What cannot be imported is shown from the user's own line on, the reason last."""
        Path("app.py").write_text("1/0\n")
        status, out, errors = run("check")
        self.assertEqual((status, out), (Exit.FAILED, ""))
        self.assertIn("1/0", errors)
        self.assertNotIn("importlib", errors)
        self.assertEqual(errors.splitlines()[-1], "cannot load the application app.py")
        self.assertIn("there is no file other.py", run("check", "other.py")[2])

    def test_function(self) -> None:
        """An application may be made by a function."""
        Path("made.py").write_text("from drachtwist import Srf\ndef make():\n    return Srf()\n")
        status, out, _ = run("check", "made.py:make")
        self.assertEqual(status, Exit.OK)
        self.assertIn("it can only call", out)
