"""Lines in the log that an operator can alert on: one for each cause and minute."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

import drachtwist
from drachtwist.errors import SHOWN, LocalProtocolError, MessageError
from drachtwist.server.limits import ServerLimits
from drachtwist.server.spammers import Spammers
from drachtwist.sip.stream import Malformed
from tests.server.doubles import request
from tests.server.test_proxying import ProxyTestCase

PACKAGE = Path(drachtwist.__file__).parent
DOCS = PACKAGE.parent / "docs"

OWN = {
    "the server cannot start: {error}": "an end, not a peer",
    "{count} connections to applications are cut": "once, when it stops",
    "what was read before is kept: {error}": "an operator asked for it",
    "an application is gone: {calls} calls wait for somebody to take them, {handed_on} new"
    " requests went to others, {answered} requests were answered for it, and {cancelled} INVITEs"
    " cancelled": "applications are trusted, and it needs work to be lost",
    "no answer from {peer}: {error}": "of a name server that was asked",
    "no answer from a name server: {error}": "the same over TCP",
    "no reports of refused datagrams: {error}": "once for a socket of ours",
    "cannot read from a UDP socket: {error}": "the system, not a peer",
    "the call {call_id}\n{drawn}": "so many a second, or because an operator asked for it",
    "the call {call_id} failed with {status}\n{drawn}": "an operator asked for ladders; as above",
    "the call {call_id} is over\n{drawn}": "the same",
    "{count} more calls ended, and are not drawn": "the same, once a second",
    "the system gives UDP buffers of {given} bytes instead of {size} (on Linux see"
    " net.core.rmem_max and wmem_max)": "at the start",
}
"""What is written each time, and why that may be."""


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Give what writes into the log in a module, each with what it is called on."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield f"{ast.unparse(node.func.value)}.{node.func.attr}", node


def modules() -> Iterator[Path]:
    """Give the modules that the server's peers reach."""
    yield from sorted((PACKAGE / "server").rglob("*.py"))
    yield from sorted((PACKAGE / "net" / "sip").glob("*.py"))
    yield from sorted((PACKAGE / "tracing").glob("*.py"))
    for name in ("udp", "tls", "names"):
        yield PACKAGE / "net" / f"{name}.py"
    yield PACKAGE / "sip" / "websocket.py"


def causes() -> set[str]:
    """Give all causes that the server notes."""
    found = set()
    for path in modules():
        for name, call in calls(path):
            if name.endswith("alerts.note"):
                cause = call.args[0]
                if isinstance(cause, ast.Constant):
                    found.add(str(cause.value))
            elif name.endswith(".complain") and len(call.args) > 2:
                found.add(ast.literal_eval(call.args[2]))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Turnstile":
                total, source, _, cause, *_ = node.args
                found.add(ast.literal_eval(cause))
                if ast.unparse(total) != ast.unparse(source):
                    found.add(f"{ast.literal_eval(cause)}_per_source")
    return found | {"bad_messages"}


class SourceTests(SynchronousTestCase):
    def test_nothing_else_is_written(self) -> None:
        """Whatever a peer can bring about goes through alerts, not straight into the log."""
        found = set()
        for path in modules():
            for name, call in calls(path):
                if re.search(r"log\.(debug|info|warn|error|critical)$", name):
                    found.add(ast.literal_eval(call.args[0]))
        self.assertEqual(found, set(OWN))

    def test_documented(self) -> None:
        """The operator finds them all in the documentation, and no others."""
        text = (DOCS / "security.md").read_text(encoding="utf-8")
        table = text.partition("| cause |")[2].partition("\n\n")[0]
        self.assertEqual(set(re.findall(r"^\| `([a-z_]+)` \|", table, re.M)), causes())


class ServerTests(ProxyTestCase):
    def setUp(self) -> None:
        """Look at the log."""
        self.lines: list[str] = []

        @implementer(ILogObserver)
        def observe(event: LogEvent) -> None:
            if "cause" in event:
                self.lines.append(formatEvent(event))

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        spammers = Spammers((("user-agent", ("scanner",)),))
        limits = ServerLimits(transactions=1, proxied_calls=1)
        self.start(spammers=spammers, limits=limits, max_timeouts=1, prometheus_port=0)

    def often(self, cause: str, happens: object) -> None:
        """Let something happen for two minutes: there are two lines about it, and a number."""
        assert callable(happens)
        for number in range(120):
            happens(number)
            self.bench.clock.advance(1)
        self.assertEqual(len(self.lines), 2, self.lines)
        self.assertIn(f"more since the last line about {cause})", self.lines[1])
        self.assertTrue(all(len(line) < SHOWN + 200 for line in self.lines))
        assert self.bench.core.metrics is not None
        text = self.bench.core.metrics.text().decode()
        self.assertIn(f'drachtio_alerts_total{{cause="{cause}"}} 120\n', text)

    def test_bad_messages(self) -> None:
        """What cannot be read, however long it is."""
        bad = Malformed(b"", MessageError("a" * 10_000), None)
        flow = self.bench.wire.flow("127.0.0.1", 32070)
        self.often("bad_messages", lambda number: self.bench.core.sip_malformed(bad, flow, 9))

    def test_no_from(self) -> None:
        """What lacks a header that it needs."""
        bad = request("OPTIONS").replace("From:", "X-From:")
        self.often("bad_messages", lambda number: self.bench.receive(bad))

    def test_bars(self) -> None:
        """Call-IDs that name another's dialog."""
        self.often("bad_messages", lambda number: self.receive(number, call=f"{number}|x"))

    def receive(self, number: int, **how: str) -> None:
        """Let an OPTIONS come."""
        self.bench.receive(request("OPTIONS", **{"call": f"c{number}", **how}))  # type: ignore[arg-type]

    def test_spammers(self) -> None:
        """Scanners."""
        self.often("spammers", lambda number: self.receive(number, extra="User-Agent: scanner"))

    def test_transactions(self) -> None:
        """Too many requests."""
        self.bench.core.limits = ServerLimits(transactions=1)
        self.bench.receive(request("INVITE", call="a"))
        self.bench.core.clock.stop()  # it stays
        self.often("transactions", self.receive)
        assert self.bench.core.metrics is not None
        text = self.bench.core.metrics.text().decode()
        self.assertIn('drachtio_requests_sent_away_total{code="503"} 120\n', text)

    def test_commands(self) -> None:
        """What an application wants and cannot have, should that not have been foreseen."""

        def fail(*about: object) -> None:
            raise LocalProtocolError("cannot be sent")

        self.patch(self.bench.core, "_send_message", fail)
        self.often("commands", lambda number: self.app.command("sip||\r\nINFO sip:a SIP/2.0"))

    def test_silent_peers(self) -> None:
        """Connections that answer nothing."""

        def silent(number: int) -> None:
            self.bench.core.timed_out(self.bench.wire.flow("127.0.0.1", 1000 + number, "tcp"))

        self.often("silent_peers", silent)
