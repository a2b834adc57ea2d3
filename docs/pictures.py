"""Draw the pictures of the pages, as SVG that stands in the page itself.

A page asks for one with the directive ``picture``, and with ``ladder`` for the ladder of a call,
which is made for it. Nothing is loaded from anywhere; lines and letters have the colour of the text
around them, in the light and in the dark. What a picture shows of the code it takes from the tables
of the pages, which tests compare with the code. ``python docs/pictures.py NAME`` prints one.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent

LETTER = 6.9
"""Pixels that a letter is wide at most, on average."""


class Picture:
    """A drawing in the making.

    :param title: what it shows, for those who cannot see it.
    """

    def __init__(self, title: str, width: int, height: int) -> None:
        self.title = title
        self.width = width
        self.height = height
        self._parts: list[str] = []

    def box(self, x: float, y: float, width: float, height: float, *lines: str) -> None:
        """Draw a box with text in its middle; the first line is bold.

        :raises ValueError: when the text does not fit, or the box is not inside the picture.
        """
        self._inside(x, y)
        self._inside(x + width, y + height)
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"'
            ' fill="currentColor" fill-opacity="0.06" stroke="currentColor"/>'
        )
        if len(lines) * 17 > height:
            raise ValueError(f"{len(lines)} lines are too high for the box of {lines[0]!r}")
        top = y + height / 2 - 17 * (len(lines) - 1) / 2 + 4.5
        for at, line in enumerate(lines):
            self.text(x + width / 2, top + 17 * at, line, room=width - 8, bold=at == 0)

    def text(self, x: float, y: float, text: str, *, room: float = 0, bold: bool = False) -> None:
        """Write text around a point.

        :param room: pixels that there are; 0 for as many as the picture has.
        :raises ValueError: when there are too few.
        """
        wide = len(text) * LETTER
        if wide > (room or 2 * min(x, self.width - x)):
            raise ValueError(f"no room for {text!r}")
        weight = ' font-weight="600"' if bold else ""
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" text-anchor="middle"{weight}>{escape(text)}</text>'
        )

    def arrow(
        self, x1: float, y1: float, x2: float, y2: float, *, both: bool = False, thin: bool = False
    ) -> None:
        """Draw an arrow, with a head at its end, or at both.

        :param thin: with a dashed line.
        """
        self._inside(x1, y1)
        self._inside(x2, y2)
        dashes = ' stroke-dasharray="4 4"' if thin else ""
        self._parts.append(
            f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="currentColor" fill="none"{dashes}/>'
        )
        self._head(x1, y1, x2, y2)
        if both:
            self._head(x2, y2, x1, y1)

    def _head(self, x1: float, y1: float, x2: float, y2: float) -> None:
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
        along, across = ((x2 - x1) / length, (y2 - y1) / length), (0.0, 0.0)
        across = (-along[1], along[0])
        corners = " ".join(
            f"{x2 - 9 * along[0] + side * across[0]:g},{y2 - 9 * along[1] + side * across[1]:g}"
            for side in (4, -4)
        )
        self._parts.append(f'<polygon points="{x2:g},{y2:g} {corners}" fill="currentColor"/>')

    def _inside(self, x: float, y: float) -> None:
        if not (0 <= x <= self.width and 0 <= y <= self.height):
            raise ValueError(f"{x:g}, {y:g} is outside of the picture")

    def __str__(self) -> str:
        """The picture as SVG."""
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}"'
            f' width="{self.width}" role="img" font-family="inherit" font-size="13"'
            f' fill="currentColor"><title>{escape(self.title)}</title>{"".join(self._parts)}</svg>'
        )


def rows_of(page: str, first: str) -> list[list[str]]:
    """Return the cells of the table of a page whose first heading is this, without its quotes."""
    lines = (DOCS / page).read_text("utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if re.match(rf"\| *{first} *\|", line))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def inbound() -> Picture:
    """Draw an application that connects to a server."""
    picture = Picture("An inbound connection: the application connects to the server", 700, 150)
    picture.box(10, 40, 120, 70, "phones", "and carriers")
    picture.box(260, 40, 130, 70, "drachtio server", "port 9022")
    picture.box(560, 40, 130, 70, "application", "srf.connect(...)")
    picture.arrow(130, 75, 260, 75, both=True)
    picture.text(195, 67, "SIP")
    picture.arrow(560, 60, 390, 60)
    picture.text(475, 52, "connects, at its start")
    picture.arrow(390, 90, 560, 90, both=True, thin=True)
    picture.text(475, 108, "all requests, answers")
    picture.text(475, 136, "one connection, as long as the application runs")
    return picture


def outbound() -> Picture:
    """Draw a server that connects to an application for a request."""
    picture = Picture(
        "An outbound connection: the server asks a web application, and connects to the application"
        " that it names, for one request",
        700,
        250,
    )
    picture.box(10, 155, 120, 70, "phones", "and carriers")
    picture.box(260, 155, 130, 70, "drachtio server", "request handler")
    picture.box(260, 15, 130, 60, "web application", "yours")
    picture.box(560, 155, 130, 70, "application", "srf.listen(...)")
    picture.arrow(130, 190, 260, 190)
    picture.text(195, 182, "1. INVITE")
    picture.arrow(300, 155, 300, 75)
    picture.text(220, 112, "2. who takes it? (HTTP)", room=160)
    picture.arrow(350, 75, 350, 155)
    picture.text(440, 112, "3. host and port (JSON)", room=165)
    picture.arrow(390, 175, 560, 175)
    picture.text(475, 167, "4. connects")
    picture.arrow(390, 205, 560, 205, both=True, thin=True)
    picture.text(475, 222, "5. this request")
    picture.text(475, 242, "until its work is done")
    return picture


def modes() -> Picture:
    """Draw the four endpoints, and who connects to whom."""
    picture = Picture("The four ways in which application and server meet", 700, 290)
    for at, (endpoint, meaning) in enumerate(rows_of("connections.md", "endpoint")):
        x, y = 10 + 350 * (at % 2), 10 + 145 * (at // 2)
        short = re.sub(r":privateKey.*", ":...", endpoint)
        picture.text(x + 165, y + 14, short, room=330, bold=True)
        picture.box(x, y + 30, 100, 50, "application")
        picture.box(x + 230, y + 30, 100, 50, "server")
        start, end = (x + 100, x + 230) if meaning.startswith("inbound") else (x + 230, x + 100)
        picture.arrow(start, y + 55, end, y + 55)
        picture.text(x + 165, y + 47, "TLS" if "TLS" in meaning else "TCP")
        picture.text(x + 165, y + 102, meaning.replace(":", ",", 1), room=340)
    return picture


def layers() -> Picture:
    """Draw the packages, each above those that it may import: the table of layers."""
    rows: list[list[str]] = []
    above: list[str] = []
    for package, _, may in rows_of("architecture.md", "package"):
        if rows and not may_import(may, rows[-1], above):
            rows[-1].append(package)
        else:
            rows.append([package])
        above.append(package)
    picture = Picture(
        "The layers: each may import what is below it, but for what the table says",
        560,
        40 * len(rows) + 10,
    )
    for at, row in enumerate(reversed(rows)):
        wide = (540 - 10 * (len(row) - 1)) / len(row)
        for place, package in enumerate(row):
            picture.box(10 + place * (wide + 10), 10 + 40 * at, wide, 30, package.rstrip("/"))
    return picture


def may_import(may: str, packages: Sequence[str], above: Sequence[str]) -> bool:
    """Return whether the third column of the table of layers lets any of these packages in."""
    named = set(re.findall(r"\w+", may))
    if may.startswith(("all above", "everything")):
        return any(re.sub(r"\W.*", "", one) not in named for one in packages if one in above)
    return any(re.sub(r"\W.*", "", one) in named for one in packages)


def b2bua() -> str:
    """Run a call through a B2BUA, in memory, and draw its ladder."""
    from drachtwist import Request, Response, Srf, couple
    from drachtwist.testing import Network

    srf = Srf()

    @srf.invite
    async def connect(req: Request, res: Response) -> None:
        couple(*await srf.create_b2bua(req, res, "sip:bob@10.0.1.2"))

    with Network() as network:
        network.serve(srf)
        alice, bob = network.phone("alice"), network.phone("bob", answers=200, rings=2)
        call = alice.invite(bob)
        network.advance(5)
        call.hang_up()
        network.assert_idle()
        return network.ladder()


PICTURES: dict[str, Callable[[], Picture]] = {
    "inbound": inbound,
    "outbound": outbound,
    "modes": modes,
    "layers": layers,
}

LADDERS: dict[str, Callable[[], str]] = {"b2bua": b2bua}
"""What is drawn with letters: calls that are made for it."""


def setup(app: Any) -> None:
    """Add the directives."""
    from docutils import nodes
    from docutils.parsers.rst import Directive

    class Directed(Directive):
        required_arguments = 1

        def run(self) -> list[Any]:
            name = self.arguments[0]
            if name not in PICTURES:
                raise self.error(f"there is no picture {name!r}")
            return [nodes.raw("", f'<div class="picture">{PICTURES[name]()}</div>', format="html")]

    class Called(Directive):
        required_arguments = 1

        def run(self) -> list[Any]:
            name = self.arguments[0]
            if name not in LADDERS:
                raise self.error(f"there is no ladder {name!r}")
            text = LADDERS[name]()
            return [nodes.literal_block(text, text, language="text")]

    app.add_directive("picture", Directed)
    app.add_directive("ladder", Called)


if __name__ == "__main__":
    print({**PICTURES, **LADDERS}[sys.argv[1]]())
