"""The numbers about a server: what counts, what does not, and how they are written."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent

from drachtwist.errors import MessageError
from drachtwist.server.config import ServerConfig
from drachtwist.server.metrics import Counter, Histogram, Metered, Metrics
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.message import Request
from drachtwist.sip.stream import Malformed
from tests.server.doubles import Bench, request, sip
from tests.server.test_uac import reply
from tests.web import body_of

NAMES = """
drachtio_alerts_total drachtio_app_connections drachtio_build_info drachtio_call_answer_seconds_in
drachtio_call_answer_seconds_out drachtio_call_pdd_seconds_in drachtio_call_pdd_seconds_out
drachtio_orphans drachtio_orphans_ended_total
drachtio_proxy_cores drachtio_registered_endpoints
drachtio_requests_handed_on_total drachtio_requests_sent_away_total drachtio_sip_requests_in_total
drachtio_sip_requests_out_total drachtio_sip_responses_in_total drachtio_sip_responses_out_total
drachtio_sofia_bad_msgs_recv drachtio_sofia_bad_reqs_recv drachtio_sofia_client_txns
drachtio_sofia_dialogs drachtio_sofia_msgs_recv drachtio_sofia_msgs_sent
drachtio_sofia_requests_recv_total drachtio_sofia_requests_sent
drachtio_sofia_retransmitted_requests drachtio_sofia_retransmitted_responses
drachtio_sofia_server_txns drachtio_stable_dialogs drachtio_time_started
""".split()
"""What the real server serves too, but for orphans, alerts, and what was handed on or sent away;
sizes of hash tables have no meaning here."""


class WritingTests(SynchronousTestCase):
    def test_counter(self) -> None:
        """A counter is written with its labels, in order, and odd characters are escaped."""
        counter = Counter("calls_total", "calls", "who", "code")
        counter.add("bob", "200")
        counter.add('al"\\\n', "200")
        counter.add("bob", "200")
        self.assertEqual(
            list(counter.lines()),
            [
                "# HELP calls_total calls",
                "# TYPE calls_total counter",
                'calls_total{who="al\\"\\\\\\n",code="200"} 1',
                'calls_total{who="bob",code="200"} 2',
            ],
        )

    def test_histogram(self) -> None:
        """The buckets of a histogram hold what is smaller, or equal."""
        histogram = Histogram("wait", "waiting", (1.0, 2.5))
        for value in (0.5, 1.0, 2.0, 9.0):
            histogram.observe(value)
        self.assertEqual(
            list(histogram.lines()),
            [
                "# HELP wait waiting",
                "# TYPE wait histogram",
                'wait_bucket{le="1"} 2',
                'wait_bucket{le="2.5"} 3',
                'wait_bucket{le="+Inf"} 4',
                "wait_sum 12.5",
                "wait_count 4",
            ],
        )


class CoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make a server that counts."""
        self.bench = Bench(prometheus_port=0)
        self.app = self.bench.link("invite", "options")

    def value(self, sample: str) -> float | None:
        """Give a number."""
        return self.values().get(sample)

    def values(self) -> dict[str, float]:
        """Give all numbers."""
        metrics = self.bench.core.metrics
        assert metrics is not None
        found: dict[str, float] = {}
        for line in metrics.text().decode().splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found

    def calls(self, kind: str, direction: str) -> tuple[float | None, float | None]:
        """Give count and sum of a histogram."""
        name = f"drachtio_call_{kind}_seconds_{direction}"
        return self.value(f"{name}_count"), self.value(f"{name}_sum")

    def test_names(self) -> None:
        """The names are those of the real server, each with its type and its help."""
        metrics = self.bench.core.metrics
        assert metrics is not None
        text = metrics.text().decode()
        self.assertTrue(text.endswith("\n"))
        found = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        self.assertEqual(sorted(found), NAMES)
        self.assertEqual(text.count("# HELP"), len(NAMES))

    def test_orphans(self) -> None:
        """What an application leaves behind is counted, and what became of it."""
        bench = Bench(prometheus_port=0)
        app = bench.link("invite")
        bench.receive(request("INVITE"))
        app.answer(app.take()[0].split("|")[8], "SIP/2.0 200 OK")
        *_, answer = bench.take()
        tag = answer.to.tag or ""
        other = bench.link("invite")
        bench.receive(request("INVITE", call="c2"))
        while not app.take():
            bench.receive(request("INVITE", call="c3"))
        app.close()
        self.assertTrue(other.take())
        metrics = bench.core.metrics
        assert metrics is not None
        lines = metrics.text().decode().splitlines()
        self.assertIn("drachtio_orphans 1", lines)
        self.assertIn("drachtio_requests_handed_on_total 1", lines)
        bench.receive(request("BYE", number=2, to_tag=tag))
        lines = metrics.text().decode().splitlines()
        self.assertIn("drachtio_orphans 0", lines)
        self.assertIn('drachtio_orphans_ended_total{by="peer"} 1', lines)

    def test_start(self) -> None:
        """Version and start are there from the beginning."""
        self.assertEqual(self.value('drachtio_build_info{version="v0.9.10"}'), 1)
        self.assertEqual(self.value("drachtio_time_started"), 0)
        self.assertEqual(self.value("drachtio_app_connections"), 1)

    def test_off(self) -> None:
        """Nothing is counted, and nothing is in the way, unless it is wanted."""
        bench = Bench()
        self.assertIsNone(bench.core.metrics)
        self.assertIs(bench.core.amplification._carriers, bench.wire)

    def test_call_that_comes(self) -> None:
        """An incoming call counts messages, ringing, answer and dialog."""
        bench = self.bench
        bench.receive(request("INVITE"))
        [frame] = self.app.take()
        self.assertEqual(self.value("drachtio_sofia_server_txns"), 1)
        bench.clock.advance(2)
        self.app.answer(frame.split("|")[8], "SIP/2.0 180 Ringing")
        bench.clock.advance(3)
        self.app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
        tag = bench.take()[-1].to.tag or ""
        bench.receive(request("ACK", branch="ack", to_tag=tag))
        values = self.values()
        for sample, value in (
            ('drachtio_sip_requests_in_total{method="INVITE"}', 1),
            ('drachtio_sip_requests_in_total{method="ACK"}', 1),
            ('drachtio_sip_responses_out_total{method="INVITE",code="100"}', 1),
            ('drachtio_sip_responses_out_total{method="INVITE",code="180"}', 1),
            ('drachtio_sip_responses_out_total{method="INVITE",code="200"}', 1),
            ('drachtio_stable_dialogs{type="inbound"}', 1),
            ('drachtio_stable_dialogs{type="outbound"}', 0),
            ("drachtio_sofia_msgs_recv", 2),
            ("drachtio_sofia_msgs_sent", 3),
        ):
            self.assertEqual(values.get(sample), value, sample)
        self.assertEqual(self.calls("pdd", "in"), (1, 2))
        self.assertEqual(self.calls("answer", "in"), (1, 5))
        self.assertEqual(values['drachtio_call_answer_seconds_in_bucket{le="6"}'], 1)
        self.assertEqual(values['drachtio_call_answer_seconds_in_bucket{le="3"}'], 0)

    def test_call_that_goes(self) -> None:
        """So does an outgoing one."""
        bench = self.bench
        self.app.command("sip||\r\nINVITE sip:bob@127.0.0.1:32071 SIP/2.0\r\n\r\n")
        invite = bench.take()[-1]
        assert isinstance(invite, Request)
        self.assertEqual(self.value("drachtio_sofia_client_txns"), 1)
        bench.clock.advance(0.25)
        bench.receive(reply(invite, 200), port=32071)
        values = self.values()
        self.assertEqual(values['drachtio_sip_requests_out_total{method="INVITE"}'], 1)
        self.assertEqual(values['drachtio_sip_responses_in_total{method="INVITE",code="200"}'], 1)
        self.assertEqual(values['drachtio_stable_dialogs{type="outbound"}'], 1)
        self.assertEqual(self.calls("pdd", "out"), (1, 0.25))
        self.assertEqual(self.calls("answer", "out"), (1, 0.25))

    def test_failures(self) -> None:
        """A call that is refused was neither ringing nor answered."""
        self.bench.receive(request("INVITE"))
        [frame] = self.app.take()
        self.app.answer(frame.split("|")[8], "SIP/2.0 486 Busy Here")
        self.assertEqual(self.calls("pdd", "in"), (0, 0))
        self.assertEqual(self.calls("answer", "in"), (0, 0))

    def test_repeats(self) -> None:
        """A repeat counts as one, not as another message; after a while it is new."""
        for _ in range(3):
            self.bench.receive(request("INVITE"))
        [frame] = self.app.take()
        self.app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
        self.bench.clock.advance(0.5)
        values = self.values()
        self.assertEqual(values['drachtio_sip_requests_in_total{method="INVITE"}'], 1)
        self.assertEqual(values["drachtio_sofia_requests_recv_total"], 3)
        self.assertEqual(values['drachtio_sip_responses_out_total{method="INVITE",code="200"}'], 1)
        self.assertEqual(values["drachtio_sofia_retransmitted_responses"], 1)
        self.bench.clock.advance(200)
        self.bench.receive(request("INVITE"))
        self.assertEqual(self.value('drachtio_sip_requests_in_total{method="INVITE"}'), 2)

    def test_requests_that_are_repeated(self) -> None:
        """Our own repeats are counted apart."""
        self.app.command("sip||\r\nOPTIONS sip:bob@127.0.0.1:32071 SIP/2.0\r\n\r\n")
        for _ in range(6):
            self.bench.clock.advance(0.5)
        values = self.values()
        self.assertEqual(values['drachtio_sip_requests_out_total{method="OPTIONS"}'], 1)
        self.assertEqual(values["drachtio_sofia_retransmitted_requests"], 2)
        self.assertEqual(values["drachtio_sofia_requests_sent"], 3)

    def test_unknown_methods(self) -> None:
        """Nobody can make up numbers by making up methods."""
        for method in ("FOO", "BAR"):
            self.bench.receive(request(method))
        self.assertEqual(self.value('drachtio_sip_requests_in_total{method="other"}'), 2)

    def test_bad_messages(self) -> None:
        """Messages that cannot be used are counted apart."""
        flow = self.bench.wire.flow("127.0.0.1", 32070)
        bad = Request.from_bytes(sip(request("INVITE")))
        self.bench.core.sip_malformed(Malformed(b"", MessageError("bad"), bad), flow, 9)
        self.bench.core.sip_malformed(Malformed(b"", MessageError("bad"), None), flow, 9)
        values = self.values()
        self.assertEqual(values["drachtio_sofia_bad_msgs_recv"], 2)
        self.assertEqual(values["drachtio_sofia_bad_reqs_recv"], 1)

    def test_proxied(self) -> None:
        """A request is counted as proxied until it is over."""
        self.bench.receive(request("OPTIONS"))
        [frame] = self.app.take()
        self.app.command(
            f"proxy|{frame.split('|')[8]}|remainInDialog|fullResponse|followRedirects|serial"
            "|1s|9s|sip:bob@127.0.0.1:32071\r\n"
        )
        asked = self.bench.take()[-1]
        assert isinstance(asked, Request)
        self.assertEqual(self.value("drachtio_proxy_cores"), 1)
        self.bench.receive(reply(asked, 200), port=32071)
        self.assertEqual(self.value("drachtio_proxy_cores"), 0)

    def test_lost_messages(self) -> None:
        """What could not be sent is not counted."""
        flow = self.bench.wire.flow("127.0.0.1", 32070, "tcp")
        self.bench.wire.closed.add(flow)
        self.bench.receive(request("OPTIONS"), protocol="tcp")
        [frame] = self.app.take()
        self.app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
        self.assertEqual(self.value("drachtio_sofia_msgs_sent"), 0)

    def test_carriers(self) -> None:
        """Counted carriers are carriers in every other way."""
        carriers: Any = Metered(self.bench.wire, self.bench.core.metrics)  # type: ignore[arg-type]
        self.assertIs(carriers.listeners, self.bench.wire.listeners)

    def test_memory(self) -> None:
        """Messages are forgotten after a while, so that memory does not grow."""
        metrics = Metrics(self.bench.core, lambda: 0.0)
        clock = self.bench.clock
        assert isinstance(clock, Clock)
        for turn in range(10):
            for number in range(20):
                metrics.sent(f"OPTIONS sip:a SIP/2.0\r\nCSeq: {turn} X{number}\r\n\r\n".encode())
            clock.advance(40)
        seen = metrics._sent
        self.assertLessEqual(len(seen._newer) + len(seen._older), 40)


class ScrapeTests(TestCase):
    timeout = 30

    async def get(self, port: int | None, path: bytes) -> tuple[int, bytes | None, bytes]:
        """Fetch a page; give status, type and body."""
        url = b"http://127.0.0.1:%d%b" % (port or 0, path)
        response: Any = await Agent(reactor).request(b"GET", url)
        body = await body_of(response)
        (kind,) = response.headers.getRawHeaders(b"content-type") or [None]
        return response.code, kind, body

    def test_page(self) -> Deferred[None]:
        """The numbers are served at /metrics, and nothing else is; stopping closes the port."""

        async def run() -> None:
            server = DrachtioServer(
                ServerConfig(
                    admin_port=0, contacts=("sip:127.0.0.1:0;transport=udp",), prometheus_port=0
                ),
                reactor,
            )
            server.startService()
            try:
                await server.when_listening()
                status, kind, body = await self.get(server.prometheus_port, b"/metrics")
                self.assertEqual((status, kind), (200, b"text/plain; version=0.0.4; charset=utf-8"))
                self.assertIn(b'drachtio_build_info{version="v0.9.10"} 1\n', body)
                status, _, _ = await self.get(server.prometheus_port, b"/other")
                self.assertEqual(status, 404)
            finally:
                await server.stopService()
            self.assertIsNone(server.prometheus_port)

        return Deferred.fromCoroutine(run())
