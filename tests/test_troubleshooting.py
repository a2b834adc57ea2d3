"""The page about troubles is true: what it quotes is what the package says."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from twisted.logger import capturedLogs, formatEvent
from twisted.scripts import _twistd_unix
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Request, Response, Srf
from drachtwist.testing import SipTests

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")

ANY = "…"
"""What stands on the page for what differs from case to case."""


@cache
def said() -> frozenset[str]:
    """Find all texts of the package, its docstrings aside, with what differs as on the page."""
    files = (ROOT / "drachtwist").rglob("*.py")
    return frozenset(text for path in files for text in texts_of(path.read_text("utf-8")))


def texts_of(source: str) -> Iterator[str]:
    """Find the texts of a module: strings, f-strings, and formats of the log."""
    nodes = list(ast.walk(ast.parse(source)))
    aside = {id(one.value) for one in nodes if isinstance(one, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            aside.update(map(id, node.values))
    for node in nodes:
        if id(node) in aside:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = [one.value if isinstance(one, ast.Constant) else ANY for one in node.values]
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        yield re.sub(f"{ANY}+", ANY, re.sub(r"\{\w*(?:[:!][^{}]*)?\}", ANY, text))


def quoted(heading: str) -> list[str]:
    """Give what is quoted in the first column of the tables with this heading."""
    found, inside = [], False
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            inside = False
        elif line.startswith(f"| {heading} |"):
            inside = True
        elif inside:
            found += re.findall(r"`([^`]+)`", line.split(" | ")[0])
    return found


class TroubleshootingTests(SynchronousTestCase):
    def test_texts(self) -> None:
        """Each line of the log and each error that is quoted is one of the package."""
        texts = said()
        seen = quoted("log line or error")
        self.assertGreater(len(seen), 55)
        unknown = [one for one in seen if not any(one in text for text in texts)]
        self.assertEqual(unknown, [])

    def test_texts_elsewhere(self) -> None:
        """So is what is quoted in the other columns as a warning or a line."""
        texts = said()
        known = [
            "listening: SIP on …",
            "no application at …: …",
            "… sends what is wrong: …",
            "wrong credentials of … from …",
            "no requests will come from …",
        ]
        for one in known:
            self.assertIn(f"`{one}`", PAGE)
            self.assertTrue(any(one in text for text in texts), one)

    def test_texts_of_twisted(self) -> None:
        """What Twisted says it does say."""
        [text] = quoted("what Twisted says")
        self.assertIn(text, inspect.getsource(_twistd_unix))

    def test_reading(self) -> None:
        """Texts are found however they are written; docstrings are none."""
        source = '"""No."""\nlog.warn("lost {peer}, " "{seconds:.0f} s")\nraise E(f"no {a!r}{b}")\n'
        self.assertEqual(list(texts_of(source)), ["lost …, … s", "no …"])


class StatusTests(SipTests, SynchronousTestCase):
    """What a phone gets, as the table says: each with the least application that does it."""

    def called(self, srf: Srf | None) -> int | None:
        """Call an application, and wait for longer than anybody does; give the last status."""
        if srf is not None:
            self.sip.serve(srf)
        else:
            self.sip.server()
        call = self.sip.phone("alice").invite("sales")
        self.sip.advance(70)
        return call.status

    def reasons(self) -> dict[str, str]:
        """Give what the page says about each status."""
        rows = re.findall(r"^\| (\d[^|]*) \| ([^|]*) \|", PAGE, re.M)
        return dict(rows)

    def test_nobody_there(self) -> None:
        """Without an application: 503."""
        self.assertIn("no application is connected", self.reasons()["503 at once"])
        self.assertEqual(self.called(None), 503)

    def test_nobody_takes_it(self) -> None:
        """All handlers hand it on: 404."""
        srf = Srf()
        srf.invite(lambda req, res, next: next())
        self.assertIn("`next()`", self.reasons()["404"])
        self.assertEqual(self.called(srf), 404)

    def test_silence(self) -> None:
        """A handler that answers nothing: 480 after 64 seconds, and its name in the log."""
        srf = Srf()

        @srf.invite
        def forgetful(req: Request, res: Response) -> None:
            """Do nothing."""

        self.assertIn("480 after 64 seconds", "".join(self.reasons()))
        with capturedLogs() as logs:
            self.assertEqual(self.called(srf), 480)
        self.assertIn("forgetful", "".join(map(str, map(formatEvent, logs))))

    def test_failure(self) -> None:
        """A handler that fails: 500."""
        srf = Srf()

        @srf.invite
        def broken(req: Request, res: Response) -> None:
            raise ZeroDivisionError

        self.assertEqual(self.reasons()["500"], "the handler failed")
        self.assertEqual(self.called(srf), 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_method(self) -> None:
        """A method without a handler: 405 of an application that the server connects to for it, and
        503 of the server where applications connect and say what they want.
        """
        for mode, status in (("inbound", 503), ("outbound", 405)):
            srf = Srf()
            srf.use("message", lambda req, res, next: next())
            self.sip.serve(srf, server=mode, mode=mode)
            answer = self.sip.phone(f"{mode}phone", server=mode).options("sales")
            self.assertEqual(answer.status, status, mode)
        self.assertIn("outbound", self.reasons()["405"])
        self.assertIn("wants the method", self.reasons()["503 at once"])

    def test_extension(self) -> None:
        """An extension that nobody knows is required: 420."""
        self.sip.serve(Srf())
        answer = self.sip.phone("alice").options("sales", headers={"Require": "telepathy"})
        self.assertIn("extension", self.reasons()["420"])
        self.assertEqual(answer.status, 420)

    def test_call_that_is_over(self) -> None:
        """A BYE in a call that nobody knows: 481."""
        self.sip.serve(Srf())
        to = {"To": "<sip:sales@10.0.0.1>;tag=gone"}
        answer = self.sip.phone("alice").request("BYE", "sales", headers=to)
        self.assertIn("a call that is over", self.reasons()["481"])
        self.assertEqual(answer.status, 481)

    def test_no_acknowledgement(self) -> None:
        """The ACK does not arrive: the call ends with a BYE after half a minute."""
        srf = Srf()

        @srf.invite
        async def answer(req: Request, res: Response) -> None:
            await srf.create_uas(req, res, local_sdp=req.body)

        self.assertIn(
            "the ACK does not arrive", self.reasons()["200, then BYE after half a minute"]
        )
        self.sip.serve(srf)
        phone = self.sip.phone("alice")
        phone.link.lose(None, "ACK")
        call = phone.invite("sales")
        self.sip.advance(30)
        self.assertTrue(call.up)
        self.sip.advance(5)
        self.assertTrue(call.over)
        self.assertEqual(call.requests[-1].method, "BYE")
