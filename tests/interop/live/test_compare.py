"""What the comparison of transcripts finds, and what it does not mind."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.live.compare import differences
from tests.transcripts import Line, numbers, transcript

_Change = Callable[[str], str]


class ComparisonTests(SynchronousTestCase):
    def found(self, lines: list[Line], number: int = 4) -> list[str]:
        """Compare something with a recording."""
        return differences(transcript(number), lines, {})

    def changed(self, position: int, old: str, new: str, number: int = 4) -> list[str]:
        """Compare a recording with itself, but for one place in one of its lines."""
        lines = list(transcript(number))
        text = lines[position].frame.decode()
        self.assertIn(old, text)
        lines[position] = replace(lines[position], frame=text.replace(old, new, 1).encode())
        return self.found(lines, number)

    def test_same(self) -> None:
        """Each recording is like itself."""
        for number in numbers():
            self.assertEqual(self.found(list(transcript(number)), number), [], str(number))

    def test_other_names(self) -> None:
        """Other ids, tags, branches, times and ports make no difference."""

        def rename(text: str) -> str:
            text = re.sub(r"\b([0-9a-f])(?=[0-9a-f]{7}-[0-9a-f]{4}-)", r"0\1", text)
            text = re.sub(r"\b0([0-9a-f]{7})[0-9a-f](?=-)", r"f\1", text)
            text = text.replace("04-1-1@", "98765@").replace("a7401t1", "other").replace("g6p", "x")
            return text.replace("z9hG4bK-", "z9hG4bKq").replace("01:51:", "23:00:")

        lines = []
        for line in transcript(4):
            text = rename(line.frame.decode()).replace("32070", "12345")
            head, _, message = text.partition("\r\n")
            tokens = head.split("|")
            at = {"sip": 3, "response": 5}.get(tokens[1] if len(tokens) > 1 else "", 99)
            if line.sender == "server" and message and tokens[at] != "0":
                before = line.frame.decode().partition("\r\n")[2]
                tokens[at] = str(int(tokens[at]) + len(message) - len(before))
            lines.append(
                replace(
                    line,
                    frame=f"{'|'.join(tokens)}{text[len(head) : len(head) + 2]}{message}".encode(),
                )
            )
        self.assertEqual(differences(transcript(4), lines, {12345: 32070}), [])

    def test_header_order(self) -> None:
        """The order of headers counts in frames of the server, not in those of applications."""
        old = 'from: "Alice" <sip:alice@127.0.0.1:32070>;tag=a7401t1\r\n'
        self.assertEqual(
            self.changed(6, f"cseq: 1 INVITE\r\n{old}", f"{old}cseq: 1 INVITE\r\n"), []
        )
        old = "Call-ID: 04-1-1@127.0.0.1\r\n"
        swapped = self.changed(5, f"{old}CSeq: 1 INVITE\r\n", f"CSeq: 1 INVITE\r\n{old}")
        self.assertNotEqual(swapped, [])

    def test_wrong_transaction(self) -> None:
        """An ACK with a transaction of its own is not the same as one with that of the INVITE."""
        [one] = self.changed(10, "2e1f6812", "2e1f6813")
        self.assertRegex(one, "sip ACK #1: in .*2e1f6812.* is .*, not")

    def test_wrong_tag(self) -> None:
        """Nor is a BYE with another tag."""
        [one] = self.changed(11, "g6pNjyrX1BvmS", "NoneOfTheTags")
        self.assertIn("sip BYE #1: in 'To: ", one)

    def test_wrong_number(self) -> None:
        """Large numbers have to keep their distance."""
        [one] = self.changed(11, "123145555", "123145556", number=9)
        self.assertIn("123145555 should be 123145555, not 123145556", one)

    def test_details(self) -> None:
        """A token, a size, a header and a body that differ are told."""
        for old, new, told in (
            ("|udp|", "|tcp|", "|tcp|"),
            ("|507|", "|506|", "|-13|"),
            ("Max-Forwards: 70", "Max-Forwards: 69", "Max-Forwards: 69"),
            ("s=-", "s=x", "s=x"),
        ):
            [one] = self.changed(5, old, new)
            self.assertIn(told, one)

    def test_missing(self) -> None:
        """So are a frame that is missing, and one that is too many."""
        lines = list(transcript(4))
        ack = lines.pop(10)
        self.assertEqual(self.found(lines), ["connection 1, server: not live: sip ACK"])
        lines = list(transcript(4))
        lines.insert(11, ack)
        [one] = self.found(lines)
        self.assertIn("connection 1, server: only live: sip ACK", one)

    def test_order(self) -> None:
        """An answer may change places with what came close by, but not if both are of one call."""
        lines = list(transcript(16))
        places = [
            at
            for at, (one, other) in enumerate(pairwise(lines))
            if one.sender == other.sender == "server"
            and b"|response|" in one.frame
            and b"|sip|" in other.frame
            and other.time < one.time + 0.1
        ]
        self.assertNotEqual(places, [])
        for at in places:
            lines[at : at + 2] = lines[at + 1], lines[at]
            same = lines[at].frame.split(b"|")[8] in lines[at + 1].frame.split(b"|")
            self.assertEqual(len(self.found(lines, 16)), same, lines[at])
            lines[at : at + 2] = lines[at + 1], lines[at]

    def test_connections(self) -> None:
        """Who opens and who closes counts."""
        lines = list(transcript(4))
        lines[-1] = replace(lines[-1], sender="server")
        self.assertEqual(
            self.found(lines), ["connection 1: close: recorded ['app'], live ['server']"]
        )
        self.assertEqual(self.found([]), ["connection 1: not live"])

    def test_http(self) -> None:
        """What was asked of the web server, and its answer, count."""
        lines = list(transcript(28))
        lines[0] = replace(lines[0], query="method=BYE")
        [one] = self.found(lines, 28)
        self.assertIn("method=BYE", one)
        self.assertEqual(len(self.found(lines[1:], 28)), 2)
