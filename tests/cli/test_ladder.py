"""``drachtwist ladder``: the calls in a capture file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.cli.outcomes import Exit
from drachtwist.tracing import Passed, Place
from drachtwist.tracing.messages import call_id_of
from drachtwist.tracing.pcapng import write_pcapng
from tests.cli.test_entry import run
from tests.tracing.test_pcapng import NOON, call, text
from tests.tracing.test_trace import OFFER

CALLER = Place("udp", "192.0.2.1", 5070, "192.0.2.9", 5060)
CALLEE = replace(CALLER, remote_host="192.0.2.2")


def passed(at: float, place: Place, raw: bytes, sent: bool = False) -> Passed:
    """Make a message that passed."""
    return Passed(NOON + at, sent, place, raw, call_id_of(raw))


class LadderTests(SynchronousTestCase):
    def write(self, *messages: Passed) -> str:
        """Write a file."""
        path: str = self.mktemp()
        Path(path).write_bytes(write_pcapng(list(messages)))
        return path

    def test_call(self) -> None:
        """A call is drawn, under its Call-ID; nothing else of the file is."""
        register = text("REGISTER sip:example.net SIP/2.0", "other", "7 REGISTER")
        path = self.write(passed(-1, CALLER, register), *call("udp", *self.ends()))
        status, out, errors = run("ladder", path)
        self.assertEqual((status, errors), (Exit.OK, ""))
        self.assertTrue(out.startswith("Call-ID c1\n"))
        at = 0
        for part in ("192.0.2.1:5070", "INVITE sip:bob", "180 Ringing", "200 OK [SDP]", "ACK"):
            at = out.index(part, at)
        self.assertNotIn("REGISTER", out)
        self.assertIn("REGISTER", run("ladder", path, "--all")[1])

    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Give our end and the caller's."""
        return ("192.0.2.9", 5060), ("192.0.2.1", 5070)

    def test_legs(self) -> None:
        """Both legs of a call that was connected stand side by side; another call does not."""
        invite = text("INVITE sip:bob@example.net SIP/2.0", "a", body=OFFER)
        onward = text("INVITE sip:bob@192.0.2.2 SIP/2.0", "b", body=OFFER)
        other = text("INVITE sip:carol@example.net SIP/2.0", "c")
        path = self.write(
            passed(0, CALLER, invite),
            passed(0.1, CALLEE, onward, True),
            passed(0.2, CALLER, other),
            passed(0.3, CALLER, text("SIP/2.0 486 Busy Here", "c"), True),
        )
        _, out, _ = run("ladder", path)
        first, second = out.split("Call-ID ")[1:]
        self.assertIn("192.0.2.2:5070", first)
        self.assertIn("INVITE sip:carol", second)
        _, out, _ = run("ladder", path, "--list")
        self.assertEqual(
            out.splitlines(),
            [
                "a  INVITE sip:bob@example.net [SDP]  no answer  0.100 s  2 messages",
                "c  INVITE sip:carol@example.net  486  0.100 s  2 messages",
            ],
        )

    def test_chosen(self) -> None:
        """One call is chosen by the beginning of its Call-ID, and shown in full if wanted."""
        path = self.write(
            passed(0, CALLER, text("INVITE sip:bob@a SIP/2.0", "12345@a")),
            passed(1, CALLER, text("INVITE sip:bob@b SIP/2.0", "54321@b")),
        )
        _, out, _ = run("ladder", path, "--call-id", "543", "-v")
        self.assertNotIn("12345", out)
        self.assertIn("0.000 from 192.0.2.1:5070\n    INVITE sip:bob@b SIP/2.0\n    Via: ", out)

    def test_harmless(self) -> None:
        """What is in a file cannot upset the terminal."""
        path = self.write(passed(0, CALLER, text("INVITE sip:\x1b[31m SIP/2.0", "\x1b]0;x")))
        for words in (("--all",), ("--all", "--list"), ("--all", "-v")):
            self.assertNotIn("\x1b", run("ladder", path, *words)[1], words)

    def test_refused(self) -> None:
        """What is no capture, or has no call, is said in a line."""
        Path("text").write_text("no capture")
        empty = self.write()
        for words, problem in (
            (("/no/such/file",), "cannot read /no/such/file: No such file or directory"),
            (("text",), "text is no pcapng or pcap file"),
            ((empty,), f"there is no call in {empty}"),
            ((empty, "--call-id", "a"), f"there is no call with the Call-ID a in {empty}"),
        ):
            self.assertEqual(
                run("ladder", *words), (Exit.FAILED, "", f"drachtwist ladder: {problem}\n")
            )
