"""Ladder diagrams in a terminal."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.tracing.ladder import ASCII, Ladder, Rung

PARTIES = [("phone", "127.0.0.1:1"), ("server", "127.0.0.1:2")]


class LadderTests(SynchronousTestCase):
    def test_call(self) -> None:
        """Messages run both ways between the lifelines, a remark stands beside one."""
        ladder = Ladder(PARTIES, 42, ASCII)
        lines = [
            *ladder.head(),
            ladder.draw(Rung(0.0, 0, 1, "INVITE")),
            ladder.draw(Rung(1.25, 1, 0, "200 OK")),
            *ladder.foot(),
        ]
        self.assertEqual(
            lines,
            [
                "         phone                      server",
                "         127.0.0.1:1           127.0.0.1:2",
                "         |                               |",
                "  0.000  |----------- INVITE ----------->|",
                "  1.250  |<----------- 200 OK -----------|",
                "         |                               |",
            ],
        )

    def test_width(self) -> None:
        """No line is wider than the terminal, however long the labels and whoever speaks."""
        parties = [*PARTIES, ("other phone", "127.0.0.1:3")]
        for width in (60, 80, 120):
            ladder = Ladder(parties, width)
            lines = [
                *ladder.head(),
                *(ladder.draw(Rung(12.5, a, b, "x" * 300)) for a, b in ((0, 1), (2, 1), (0, 0))),
                *ladder.foot(),
            ]
            self.assertLessEqual(max(map(len, lines)), width)
            self.assertEqual([line.count("│") for line in ladder.foot()], [3])

    def test_columns(self) -> None:
        """The lifelines of all lines stand in the same columns."""
        ladder = Ladder([*PARTIES, ("c", "")], 100, ASCII)
        columns = [at for at, char in enumerate(ladder.foot()[0]) if char == "|"]
        for rung in (Rung(0.0, 0, 1, "a"), Rung(0.0, 1, 0, "bb"), Rung(0.0, 2, 1, "c")):
            line = ladder.draw(rung)
            self.assertEqual([line[at] for at in columns], ["|", "|", "|"])

    def test_cut(self) -> None:
        """A label that is too long is cut, and its end is marked."""
        line = Ladder(PARTIES, 40, ASCII).draw(Rung(0.0, 0, 1, "a" * 100))
        self.assertIn("a~", line)
        self.assertNotIn("a" * 40, line)

    def test_terminal_is_safe(self) -> None:
        """What a peer sends cannot steer the terminal."""
        line = Ladder(PARTIES, 80, ASCII).draw(Rung(0.0, 0, 1, "a\x1b[2Jb\rc\nd"))
        self.assertIn("a?[2Jb?c?d", line)

    def test_colour(self) -> None:
        """Colours add escape sequences, and move nothing."""
        import re

        plain, coloured = Ladder(PARTIES, 60, ASCII), Ladder(PARTIES, 60, ASCII, True)
        rung = Rung(0.5, 1, 0, "200 OK", 32)
        line = coloured.draw(rung)
        self.assertIn("\x1b[32m", line)
        self.assertEqual(re.sub(r"\x1b\[\d+m", "", line), plain.draw(rung))
