"""Requests that go from one place to the next, and long ones that go over TCP."""

from __future__ import annotations

import re
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError
from drachtwist.net.sip.flows import Flow, Listener, Target
from drachtwist.server import ways
from drachtwist.sip.locating import Naptr, Records, Srv, hop_of
from drachtwist.sip.message import Request
from drachtwist.sip.uri import SipUri, Uri
from tests.server.doubles import HOST, PORT, Bench, Link, request
from tests.server.test_uac import TARGET, CallingTestCase, reply

NAME = "sip:bob@example.test"
ZONE: dict[tuple[str, str], Records] = {
    ("SRV", "_sip._udp.example.test"): [Srv(1, 0, 7001, "a.test"), Srv(2, 0, 7002, "b.test")],
    ("A", "a.test"): ["127.0.0.1"],
    ("A", "b.test"): ["127.0.0.1"],
}
ONE: dict[tuple[str, str], Records] = {("A", "example.test"): ["127.0.0.1"]}
LONG = "x" * 1300


def sent_to(bench: Bench) -> list[tuple[str, int, Request]]:
    """Take the requests that were sent: the transport, the port and the request."""
    sent, bench.wire.sent = bench.wire.sent, []
    found = []
    for flow, data in sent:
        message = Request.from_bytes(data)
        found.append((flow.protocol, flow.remote_port, message))
    return found


class NameTestCase(CallingTestCase):
    def setUp(self) -> None:
        """Connect an application; the zone is known."""
        super().setUp()
        self.bench.zone = dict(ZONE)

    def begin(self, method: str = "INVITE", uri: str = NAME, extra: str = "") -> Request:
        """Let the application ask; give what was sent to the first place."""
        [self.echo, *told] = self.app.command(f"sip||\r\n{method} {uri} SIP/2.0{extra}\r\n\r\n")
        self.assertEqual(told, [])
        [(_, self.port, sent)] = sent_to(self.bench)
        return sent

    def next(self) -> Request:
        """Give what was sent to the next place, of which nothing was sent before."""
        [(_, self.port, sent)] = sent_to(self.bench)
        return sent

    def refuse(self, sent: Request) -> None:
        """Let nobody listen where something was sent."""
        flow = self.bench.wire.flow(HOST, self.port)
        self.bench.core.sip_send_failed(flow, OSError("refused"), bytes(sent))

    def told(self) -> list[str]:
        """Take the status lines that the application is told."""
        return [frame.split("\r\n")[1] for frame in self.app.take()]


class FailOverTests(NameTestCase):
    def test_silent(self) -> None:
        """Who does not answer in time is followed by the next one; the application sees nothing."""
        for method in ("INVITE", "OPTIONS"):
            first = self.begin(method)
            self.assertEqual(self.port, 7001)
            self.bench.clock.advance(31.9)
            self.bench.take()
            self.bench.clock.advance(0.1)
            second = self.next()
            self.assertEqual(self.port, 7002)
            self.assertEqual(self.app.take(), [])
            self.assertNotEqual(first.vias[0].branch, second.vias[0].branch)
            for name in ("From", "To", "Call-ID", "CSeq", "Contact"):
                self.assertEqual(first.get(name), second.get(name))
            self.bench.receive(reply(second, 200), port=7002)
            [frame] = self.app.take()
            self.assertEqual(frame.split("|")[8], self.asked_id)

    def test_repeats_begin_anew(self) -> None:
        """The next one gets all repeats."""
        self.begin()
        self.bench.clock.advance(32)
        self.next()
        times = [when for when, _ in self.seen(31)]
        self.assertEqual(times, [33.0, 35.0, 39.0, 47.0, 63.0])

    def test_all_silent(self) -> None:
        """When nobody answers at all it is 503 DNS Error, as with the real server."""
        self.begin()
        self.seen(63.5)
        self.assertEqual(self.app.take(), [])
        self.seen(0.5)
        self.assertEqual(self.told(), ["SIP/2.0 503 DNS Error"])
        self.assertEqual(self.bench.core.counts()["client_transactions"], 0)
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_one_silent(self) -> None:
        """A name that leads to one place is told as an address is: 408, or 503."""
        self.bench.zone = dict(ONE)
        self.begin()
        self.seen(32)
        self.assertEqual(self.told(), ["SIP/2.0 408 Request Timeout"])
        self.refuse(self.begin())
        self.assertEqual(self.told(), ["SIP/2.0 503 Service Unavailable"])

    def test_refused(self) -> None:
        """Where nobody listens the next one is tried at once."""
        self.refuse(self.begin("OPTIONS"))
        second = self.next()
        self.bench.receive(reply(second, 200), port=7002)
        self.assertEqual(self.told(), ["SIP/2.0 200 Whatever"])

    def test_unavailable(self) -> None:
        """So it is after a 503, which is acknowledged as often as it comes."""
        first = self.begin()
        self.bench.receive(reply(first, 503), port=7001)
        [(_, port, ack), (_, self.port, second)] = sent_to(self.bench)
        self.assertEqual(
            (ack.method, port, second.method, self.port), ("ACK", 7001, "INVITE", 7002)
        )
        self.assertEqual(ack.vias[0].branch, first.vias[0].branch)
        self.bench.receive(reply(first, 503), port=7001)
        self.assertEqual(self.bench.heads(), ["ACK"])
        self.bench.receive(reply(second, 180), port=7002)
        self.bench.receive(reply(second, 486), port=7002)
        self.assertEqual(self.told(), ["SIP/2.0 180 Whatever", "SIP/2.0 486 Whatever"])
        self.bench.take()
        self.seen(70)
        self.assertEqual(self.bench.core.counts()["client_transactions"], 0)

    def test_all_unavailable(self) -> None:
        """The last 503 is told as it came."""
        for method in ("INVITE", "OPTIONS"):
            self.bench.receive(reply(self.begin(method), 503, tag="one"), port=7001)
            second = self.bench.take()[-1]
            assert isinstance(second, Request)
            self.bench.receive(reply(second, 503, tag="two"), port=7002)
            [frame] = self.app.take()
            self.assertIn("SIP/2.0 503 Whatever", frame)
            self.assertIn(";tag=two", frame)
            self.bench.take()

    def test_other_failures(self) -> None:
        """Another failure is an answer, and nobody else is asked."""
        for status in (500, 408, 404, 603):
            first = self.begin("OPTIONS")
            self.bench.receive(reply(first, status), port=7001)
            self.assertEqual(self.told(), [f"SIP/2.0 {status} Whatever"])
            self.assertEqual(self.bench.take(), [])

    def test_ringing(self) -> None:
        """Where it rang is no other attempt, whatever comes then."""
        first = self.begin()
        self.bench.receive(reply(first, 180), port=7001)
        self.bench.receive(reply(first, 503), port=7001)
        self.assertEqual(self.told(), ["SIP/2.0 180 Whatever", "SIP/2.0 503 Whatever"])
        self.assertEqual(self.bench.heads(), ["ACK"])

    def test_trying_is_no_ringing(self) -> None:
        """A 100 alone stands in the way of nothing."""
        first = self.begin("OPTIONS")
        self.bench.receive(reply(first, 100), port=7001)
        self.refuse(first)
        self.next()

    def test_cancel(self) -> None:
        """What was cancelled makes no further attempt; it ends as the one that was made."""
        first = self.begin()
        [echo] = self.app.command(f"sip|{self.asked_id}|\r\nCANCEL {NAME} SIP/2.0\r\n\r\n")
        self.assertIn("|OK|", echo)
        self.seen(33)
        self.assertEqual(self.told(), ["SIP/2.0 408 Request Timeout"])
        first = self.begin()
        self.app.command(f"sip|{self.asked_id}|\r\nCANCEL {NAME} SIP/2.0\r\n\r\n")
        self.bench.receive(reply(first, 503), port=7001)
        self.assertEqual(self.told(), ["SIP/2.0 503 Whatever"])
        self.assertEqual(self.bench.heads(), ["ACK"])

    def test_cancel_at_the_second(self) -> None:
        """The second attempt is cancelled as a first one is: with its own branch."""
        self.refuse(self.begin())
        second = self.next()
        self.bench.receive(reply(second, 180), port=7002)
        self.app.command(f"sip|{self.asked_id}|\r\nCANCEL {NAME} SIP/2.0\r\n\r\n")
        cancel = self.next()
        self.assertEqual((cancel.method, self.port), ("CANCEL", 7002))
        self.assertEqual(cancel.get("Via"), second.get("Via"))

    def test_cancel_while_looking(self) -> None:
        """What is cancelled while its next place is looked for is over at once: 487."""
        first = self.begin()
        self.bench.zone = None
        self.refuse(first)
        frames = self.app.command(f"sip|{self.asked_id}|\r\nCANCEL {NAME} SIP/2.0\r\n\r\n")
        self.assertIn("|OK|application|0|", frames[0])
        self.assertIn("\r\nSIP/2.0 487 Request Terminated\r\n", frames[1])
        self.bench.answer_all(ZONE)
        self.assertEqual((self.bench.take(), self.app.take()), ([], []))

    def test_unreachable_family(self) -> None:
        """A place that no transport leads to is passed over."""
        assert self.bench.zone is not None
        self.bench.zone["A", "a.test"] = ["127.0.0.9"]
        usual = self.bench.wire.flow_to

        def flow_to(target: Target, *more: Any, **other: Any) -> Flow:
            if target.host == "127.0.0.9":
                raise LocalProtocolError("no transport")
            return usual(target, *more, **other)

        self.patch(self.bench.wire, "flow_to", flow_to)
        self.begin()
        self.assertEqual(self.port, 7002)

    def test_bounded(self) -> None:
        """A name with a thousand addresses is not tried for ever."""
        self.bench.zone = {("A", "example.test"): [f"127.0.1.{n}" for n in range(1, 200)]}
        self.begin("OPTIONS", f"{NAME}:7001")
        for _ in range(ways.MAX_TARGETS):
            self.assertEqual(self.app.take(), [])
            self.bench.clock.advance(32)
        self.assertEqual(self.told(), ["SIP/2.0 503 DNS Error"])


class LookingTests(NameTestCase):
    def test_known(self) -> None:
        """When the answers are there already the echo says which way it goes."""
        self.begin("OPTIONS")
        tokens = self.echo.partition("\r\n")[0].split("|")
        self.assertEqual(tokens[3:5] + tokens[6:9], ["OK", "application", "udp", HOST, str(PORT)])
        self.assertIn("\r\nVia: SIP/2.0/UDP", self.echo)

    def test_not_known(self) -> None:
        """When they are not it says so, and has no Via."""
        self.bench.zone = None
        [echo] = self.app.command(f"sip||\r\nOPTIONS {NAME} SIP/2.0\r\n\r\n")
        self.assertIn("|OK|application|0|unknown||0|", echo)
        self.assertNotIn("\r\nVia:", echo)
        asked = self.bench.answer_all(ZONE)
        self.assertEqual(
            asked,
            [
                "NAPTR example.test",
                "SRV _sip._udp.example.test",
                "SRV _sip._tcp.example.test",
                "A a.test",
            ],
        )
        self.assertIn("SIP/2.0/UDP", self.next().get("Via") or "")

    def test_no_address(self) -> None:
        """A name without addresses is told after the command was answered."""
        self.bench.zone = {}
        [echo, told] = self.app.command(f"sip||\r\nINVITE {NAME} SIP/2.0\r\n\r\n")
        self.assertIn("|OK|application|0|unknown||0|", echo)
        self.assertIn("|sip|network|0|unknown||0|", told)
        self.assertIn("SIP/2.0 503 DNS Error", told)

    def test_nobody_answers(self) -> None:
        """So is a DNS that does not answer; nothing further is asked then."""
        self.bench.zone = None
        self.app.command(f"sip||\r\nINVITE {NAME} SIP/2.0\r\n\r\n")
        [(_, answer)] = self.bench.looked_up
        self.bench.looked_up.clear()
        answer(None)
        self.assertEqual(self.told(), ["SIP/2.0 503 DNS Error"])
        self.assertEqual(self.bench.looked_up, [])

    def test_stopped_meanwhile(self) -> None:
        """What is found when the server has stopped is not sent any more."""
        self.bench.zone = None
        ways = self.bench.core.ways
        uri = Uri.parse("sip:proxy.test")
        assert isinstance(uri, SipUri)
        hop = hop_of(uri)
        ways.send(hop, lambda flow: b"ACK sip:a SIP/2.0\r\n\r\n")
        self.bench.answer_all({("A", "proxy.test"): ["10.0.0.1"]})
        self.assertEqual(self.bench.heads(), ["ACK"])
        ways.send(hop, lambda flow: b"ACK sip:a SIP/2.0\r\n\r\n")
        self.bench.core.stop()
        self.bench.answer_all({("A", "proxy.test"): ["10.0.0.1"]})
        self.assertEqual(self.bench.take(), [])

    def test_one_of_two_answers(self) -> None:
        """Of questions that go out together all have to be answered."""
        self.bench.zone = None
        self.app.command(f"sip||\r\nINVITE {NAME} SIP/2.0\r\n\r\n")
        self.bench.looked_up.pop()[1](())
        first, second = self.bench.looked_up
        second[1](())
        self.assertEqual(self.app.take(), [])
        first[1](None)
        self.assertEqual(self.told(), ["SIP/2.0 503 DNS Error"])

    def test_cancel(self) -> None:
        """What is cancelled before it was sent is not sent."""
        self.bench.zone = None
        [echo] = self.app.command(f"sip||\r\nINVITE {NAME} SIP/2.0\r\n\r\n")
        name = echo.split("|")[10]
        frames = self.app.command(f"sip|{name}|\r\nCANCEL {NAME} SIP/2.0\r\n\r\n")
        self.assertEqual(len(frames), 2)
        self.assertIn("SIP/2.0 487 Request Terminated", frames[1])
        self.bench.answer_all(ZONE)
        self.assertEqual(self.bench.take(), [])
        self.seen(40)
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """Answers that come after the server was stopped do nothing."""
        self.bench.zone = None
        self.app.command(f"sip||\r\nINVITE {NAME} SIP/2.0\r\n\r\n")
        self.bench.core.stop()
        self.bench.answer_all(ZONE)
        self.assertEqual(self.bench.take(), [])

    def test_other_transport(self) -> None:
        """NAPTR records choose the transport, and the Via says so."""
        assert self.bench.zone is not None
        self.bench.zone |= {
            ("NAPTR", "example.test"): [Naptr(1, 1, "s", "SIP+D2T", "", "_sip._tcp.example.test")],
            ("SRV", "_sip._tcp.example.test"): [Srv(1, 0, 7003, "a.test")],
        }
        [echo] = self.app.command(f"sip||\r\nOPTIONS {NAME} SIP/2.0\r\n\r\n")
        self.assertIn("|tcp|127.0.0.1|7003|", echo)
        [(protocol, port, sent)] = sent_to(self.bench)
        self.assertEqual((protocol, port), ("tcp", 7003))
        self.assertTrue((sent.get("Via") or "").startswith(f"SIP/2.0/TCP {HOST}:{PORT};branch="))

    def test_domains(self) -> None:
        """A name without a dot is looked for in one domain after the other, with all records."""
        self.bench.zone = None
        self.bench.domains = ["a.test", "b.test", "c.test"]
        self.app.command("sip||\r\nOPTIONS sip:proxy SIP/2.0\r\n\r\n")
        services = ["_sip._udp", "_sip._tcp"]
        self.assertEqual(
            self.bench.answer_all({("A", "proxy.b.test"): ["127.0.0.1"]}),
            [
                question
                for name in ("proxy.a.test", "proxy.b.test")
                for question in (
                    f"NAPTR {name}",
                    *[f"SRV {service}.{name}" for service in services],
                    f"A {name}",
                )
            ],
        )
        self.assertEqual(self.bench.heads(), ["OPTIONS"])

    def test_service_that_is_not(self) -> None:
        """A domain that says that it has no such service, or whose server fails, is the one."""
        for target, sent in ((".", 0), ("a.test", 1)):
            self.setUp()
            self.bench.domains = ["a.test", "b.test"]
            self.bench.zone = {
                ("SRV", "_sip._udp.proxy.a.test"): [Srv(1, 1, 7001, target)],
                ("A", "a.test"): ["127.0.0.1"],
                ("A", "proxy.b.test"): ["127.0.0.1"],
            }
            self.app.command("sip||\r\nOPTIONS sip:proxy;transport=udp SIP/2.0\r\n\r\n")
            found = sent_to(self.bench)
            self.assertEqual([port for _, port, _ in found], [7001] * sent)
            self.bench.clock.advance(33)
            self.assertNotIn(5060, [port for _, port, _ in sent_to(self.bench)])

    def test_nowhere(self) -> None:
        """A name that is in none of the domains has no address; a silent DNS ends the search."""
        self.bench.domains = ["a.test"]
        self.bench.zone = {}
        [_, told] = self.app.command("sip||\r\nOPTIONS sip:proxy:1 SIP/2.0\r\n\r\n")
        self.assertIn("SIP/2.0 503 DNS Error", told)
        self.bench.zone = None
        self.app.command("sip||\r\nOPTIONS sip:proxy:1 SIP/2.0\r\n\r\n")
        [(question, answer)] = self.bench.looked_up
        self.assertEqual(question.name, "proxy.a.test")
        self.bench.looked_up.clear()
        answer(None)
        self.assertEqual(self.told(), ["SIP/2.0 503 DNS Error"])
        self.assertEqual(self.bench.looked_up, [])

    def test_families(self) -> None:
        """Each transport is offered in the families that it is listened on with."""
        self.bench.wire.listeners.append(Listener("udp", "::1", PORT))
        asked: list[str] = []

        def look_up(question: Any, told: Any) -> None:
            asked.append(f"{question.kind} {question.name}")
            told(())

        self.patch(self.bench, "look_up", look_up)
        for protocol, expected in (("udp", ["A h.test", "AAAA h.test"]), ("tcp", ["A h.test"])):
            uri = Uri.parse(f"sip:h.test:1;transport={protocol}")
            assert isinstance(uri, SipUri)
            self.bench.core.ways.of(hop_of(uri)).next(lambda target: None)
            self.assertEqual(asked, expected)
            asked.clear()


class InDialogTests(NameTestCase):
    def routed(self) -> str:
        """Set a call up that goes on over a proxy with a name; give its dialog id."""
        invite = self.begin()
        extra = "Record-Route: <sip:example.test;lr>"
        self.bench.receive(reply(invite, 200, extra=extra), port=7001)
        [frame] = self.app.take()
        return frame.split("|")[9]

    def test_ack(self) -> None:
        """The ACK goes where the name of the route leads, and so do its repeats."""
        invite = self.begin()
        extra = "Record-Route: <sip:example.test;lr>"
        self.bench.receive(reply(invite, 200, extra=extra), port=7001)
        [frame] = self.app.take()
        [echo] = self.app.ask(frame.split("|")[9], f"ACK {TARGET} SIP/2.0")
        self.assertIn("|OK|application|", echo)
        self.assertIn("|udp|", echo)
        ack = self.next()
        self.assertEqual((ack.method, self.port), ("ACK", 7001))
        self.bench.receive(reply(invite, 200, extra=extra), port=7001)
        again = self.next()
        self.assertEqual((bytes(again), self.port), (bytes(ack), 7001))

    def test_late_ack(self) -> None:
        """An ACK whose way is not known leaves when it is."""
        dialog = self.routed()
        self.bench.zone = None
        [echo] = self.app.ask(dialog, f"ACK {TARGET} SIP/2.0")
        self.assertIn("|OK|application|0|unknown||0|", echo)
        self.bench.answer_all(ZONE)
        self.assertEqual((self.next().method, self.port), ("ACK", 7001))

    def test_next_place(self) -> None:
        """Requests in a dialog go to the next place too, with the same number."""
        dialog = self.routed()
        self.app.ask(dialog, "INFO sip:placeholder SIP/2.0")
        first = self.next()
        self.refuse(first)
        second = self.next()
        self.assertEqual((self.port, first.cseq), (7002, second.cseq))
        self.bench.receive(reply(second, 200), port=7002)
        self.assertEqual(self.told(), ["SIP/2.0 200 Whatever"])

    def test_bye(self) -> None:
        """A BYE that reaches nobody has been tried everywhere, then the dialog is over."""
        dialog = self.routed()
        self.app.ask(dialog, "BYE sip:placeholder SIP/2.0")
        self.refuse(self.next())
        self.refuse(self.next())
        self.assertEqual(self.told(), ["SIP/2.0 503 DNS Error"])
        self.assertEqual(len(self.bench.core.dialogs), 0)


class TcpTests(CallingTestCase):
    def long(self, uri: str = TARGET, method: str = "MESSAGE") -> list[tuple[str, int, Request]]:
        """Let the application send a long request; give what was sent."""
        text = f"{method} {uri} SIP/2.0\r\nContent-Type: text/plain\r\n\r\n{LONG}"
        self.echo = self.app.command(f"sip||\r\n{text}")[0]
        return sent_to(self.bench)

    def lose(self, sent: Request, port: int = 32071) -> None:
        """Let no connection come up."""
        flow = self.bench.wire.flow(HOST, port, "tcp")
        self.bench.core.sip_send_failed(flow, OSError("refused"), bytes(sent))

    def test_long(self) -> None:
        """A long request goes over TCP, to the same port; its Via and its echo say so."""
        [(protocol, port, sent)] = self.long()
        self.assertEqual((protocol, port), ("tcp", 32071))
        self.assertTrue((sent.get("Via") or "").startswith(f"SIP/2.0/TCP {HOST}:{PORT};branch="))
        self.assertIn("|tcp|127.0.0.1|32071|", self.echo)
        self.bench.receive(reply(sent, 200), port=32071, protocol="tcp")
        self.assertIn("SIP/2.0 200 ", self.app.take()[0])

    def test_short(self) -> None:
        """What has 1300 bytes does not."""
        sent = self.ask("MESSAGE", extra="CSeq: 100 MESSAGE\r\nNote: ")
        self.ask("MESSAGE", extra=f"CSeq: 100 MESSAGE\r\nNote: {'x' * (1300 - len(bytes(sent)))}")
        size = int(self.echo.split("|")[5])
        self.assertEqual((size, self.echo.split("|")[6]), (1300, "udp"))
        self.ask("MESSAGE", extra=f"CSeq: 100 MESSAGE\r\nNote: {'x' * (1301 - len(bytes(sent)))}")
        self.assertEqual(self.echo.split("|")[6], "tcp")

    def test_transport_in_the_uri(self) -> None:
        """Who names the transport gets it."""
        [(protocol, _, _)] = self.long(f"{TARGET};transport=udp")
        self.assertEqual(protocol, "udp")

    def test_limit(self) -> None:
        """The length is a setting, which may be without limit."""
        for mtu, expected in ((0, "tcp"), (1300, "tcp"), (4000, "udp"), (None, "udp")):
            self.bench = Bench(udp_mtu=mtu)
            self.app = self.bench.link()
            [(protocol, _, _)] = self.long()
            self.assertEqual(protocol, expected)

    def test_no_tcp_served(self) -> None:
        """Where TCP is not served there is none."""
        usual = self.bench.wire.flow_to

        def flow_to(target: Target, *more: Any, **other: Any) -> Flow:
            if target.protocol == "tcp":
                raise LocalProtocolError("no transport")
            return usual(target, *more, **other)

        self.patch(self.bench.wire, "flow_to", flow_to)
        [(protocol, _, _)] = self.long()
        self.assertEqual(protocol, "udp")

    def test_refused(self) -> None:
        """Without a connection it goes over UDP, as do those behind it for five minutes."""
        [(_, _, over_tcp)] = self.long()
        self.lose(over_tcp)
        [(protocol, port, sent)] = sent_to(self.bench)
        self.assertEqual((protocol, port), ("udp", 32071))
        self.assertTrue((sent.get("Via") or "").startswith(f"SIP/2.0/UDP {HOST}:{PORT};rport;"))
        self.assertNotEqual(sent.vias[0].branch, over_tcp.vias[0].branch)
        self.assertEqual(self.app.take(), [])
        self.bench.receive(reply(sent, 200), port=32071)
        self.assertIn("SIP/2.0 200 ", self.app.take()[0])
        self.assertEqual(self.long()[0][0], "udp")
        self.assertEqual(self.long(TARGET.replace("32071", "32072"))[0][0], "tcp")
        self.bench.clock.advance(301)
        self.bench.take()
        self.assertEqual(self.long()[0][0], "tcp")

    def test_broken(self) -> None:
        """So does one whose connection broke before there was an answer."""
        self.long(method="INVITE")
        self.bench.core.sip_closed(self.bench.wire.flow(HOST, 32071, "tcp"), OSError("reset"))
        self.assertEqual([one[0] for one in sent_to(self.bench)], ["udp"])

    def test_both_refused(self) -> None:
        """When UDP fails too that is told, once."""
        self.lose(self.long()[0][2])
        [(_, _, sent)] = sent_to(self.bench)
        flow = self.bench.wire.flow(HOST, 32071)
        self.bench.core.sip_send_failed(flow, OSError("refused"), bytes(sent))
        self.assertEqual(len(self.app.take()), 1)

    def test_silent_over_tcp(self) -> None:
        """Who takes the connection and says nothing has not answered: 408."""
        self.long()
        self.bench.clock.advance(32)
        self.assertEqual(sent_to(self.bench), [])
        self.assertIn("SIP/2.0 408 ", self.app.take()[0])

    def test_names(self) -> None:
        """The next place of a name is tried behind both transports of the first."""
        self.bench.zone = dict(ZONE)
        [(protocol, port, sent)] = self.long(NAME)
        self.assertEqual((protocol, port), ("tcp", 7001))
        self.lose(sent, 7001)
        [(protocol, port, sent)] = sent_to(self.bench)
        self.assertEqual((protocol, port), ("udp", 7001))
        flow = self.bench.wire.flow(HOST, 7001)
        self.bench.core.sip_send_failed(flow, OSError("refused"), bytes(sent))
        [(protocol, port, sent)] = sent_to(self.bench)
        self.assertEqual((protocol, port), ("tcp", 7002))

    def test_remembered_addresses_are_bounded(self) -> None:
        """Only so many addresses without TCP are remembered."""
        self.patch(ways, "_REMEMBERED", 3)
        for port in range(7000, 7009):
            self.lose(self.long(f"sip:bob@{HOST}:{port}")[0][2], port)
        self.assertEqual(len(self.bench.core.ways._unreachable), 3)

    def test_dialog(self) -> None:
        """A dialog that a long INVITE made goes on over UDP, but for what is long itself."""
        [(_, _, invite)] = self.long(method="INVITE")
        self.bench.receive(reply(invite, 200), port=32071, protocol="tcp")
        [told] = self.app.take()
        dialog = told.split("|")[9]
        self.app.ask(dialog, f"ACK {TARGET} SIP/2.0")
        self.app.ask(dialog, "INFO sip:placeholder SIP/2.0")
        self.app.command(
            f"sip||{dialog}\r\nINFO {TARGET} SIP/2.0\r\nContent-Type: a/b\r\n\r\n{LONG}"
        )
        found = [(method.method, protocol) for protocol, _, method in sent_to(self.bench)]
        self.assertEqual(found, [("ACK", "udp"), ("INFO", "udp"), ("INFO", "tcp")])

    def test_long_ack(self) -> None:
        """A long ACK goes over TCP too, and over UDP if there is no connection."""
        invite = self.ask()
        [told] = self.respond(invite, 200)
        dialog = told.split("|")[9]
        self.app.command(
            f"sip||{dialog}\r\nACK {TARGET} SIP/2.0\r\nContent-Type: a/b\r\n\r\n{LONG}"
        )
        [(protocol, _, ack)] = sent_to(self.bench)
        self.assertEqual(protocol, "tcp")
        self.lose(ack)
        [(protocol, _, again)] = sent_to(self.bench)
        self.assertEqual((protocol, again.method), ("udp", "ACK"))
        self.assertIn("SIP/2.0/UDP", again.get("Via") or "")

    def test_behind_a_nat(self) -> None:
        """Where a NAT is in between the UDP flow is the only way."""
        invite = self.ask()
        answer = reply(invite, 200).replace(f"<{TARGET}>", "<sip:bob@10.0.0.1:5060>")
        self.bench.receive(answer, port=32071)
        [told] = self.app.take()
        dialog = told.split("|")[9]
        self.app.ask(dialog, f"ACK {TARGET} SIP/2.0")
        self.app.command(
            f"sip||{dialog}\r\nINFO {TARGET} SIP/2.0\r\nContent-Type: a/b\r\n\r\n{LONG}"
        )
        self.assertEqual([protocol for protocol, _, _ in sent_to(self.bench)], ["udp", "udp"])


class ProxyTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Let an application be called."""
        self.bench = Bench(cdrs=True)
        self.bench.zone = dict(ZONE)
        self.app = self.bench.link("invite")
        self.records = self.bench.link("cdr:attempt", "cdr:stop")

    def proxy(
        self, *targets: str, body: str = "", how: str = "serial", final: str = ""
    ) -> list[str]:
        """Let a call come in, and be proxied; give what the application is told at once."""
        self.bench.receive(request("INVITE", body=body))
        [frame] = self.app.take()
        self.bench.take()
        return self.app.command(
            f"proxy|{frame.split('|')[8]}|remainInDialog|fullResponse|followRedirects|{how}"
            f"||{final}|{'|'.join(targets)}"
        )

    def refuse(self, port: int, sent: Request, protocol: str = "udp") -> None:
        """Let nobody listen there."""
        flow = self.bench.wire.flow(HOST, port, protocol)
        self.bench.core.sip_send_failed(flow, OSError("refused"), bytes(sent))

    def test_next_place(self) -> None:
        """Within a target the next place is tried, and nobody is told."""
        self.assertEqual(self.proxy(NAME), [])
        [(_, port, first)] = sent_to(self.bench)
        self.assertEqual(port, 7001)
        self.refuse(port, first)
        [(_, port, second)] = sent_to(self.bench)
        self.assertEqual(port, 7002)
        self.assertNotEqual(first.vias[0].branch, second.vias[0].branch)
        self.assertEqual(first.vias[1:], second.vias[1:])
        self.assertEqual(self.app.take(), [])
        self.bench.receive(reply(second, 200), port=7002)
        self.assertEqual(self.bench.heads(), ["200 INVITE"])
        self.assertEqual(self.app.take()[-1].rpartition("|")[2], "done")
        kinds = re.findall(r"\|cdr:(\w+)\|(\w+)", " ".join(self.records.take()))
        self.assertEqual(kinds, [("attempt", "network"), ("attempt", "application")])

    def test_unavailable(self) -> None:
        """A 503 is followed by the next place; the last one by the next target."""
        self.proxy(NAME, TARGET)
        [(_, _, first)] = sent_to(self.bench)
        self.bench.receive(reply(first, 503), port=7001)
        [(_, _, ack), (_, port, second)] = sent_to(self.bench)
        self.assertEqual((ack.method, port), ("ACK", 7002))
        self.assertEqual(self.app.take(), [])
        self.bench.receive(reply(second, 503), port=7002)
        self.assertEqual(len(self.app.take()), 1)
        [(_, _, ack), (_, port, third)] = sent_to(self.bench)
        self.assertEqual(port, 32071)
        self.bench.receive(reply(third, 486), port=32071)
        self.assertEqual(self.bench.heads(), ["ACK", "486 INVITE"])

    def test_all_silent(self) -> None:
        """When no place answers the target has failed."""
        self.proxy(NAME)
        for _ in range(130):
            self.bench.clock.advance(0.5)
        self.assertEqual(self.app.take()[-1].rpartition("|")[2], "done")
        self.assertIn("500 INVITE", self.bench.heads())

    def test_no_address(self) -> None:
        """A name without addresses has failed at once, whether that is known or not."""
        for known in (True, False):
            self.setUp()
            self.bench.zone = {} if known else None
            told = self.proxy(NAME, TARGET)
            self.bench.answer_all({})
            self.assertEqual(told, [])
            [(_, port, _)] = sent_to(self.bench)
            self.assertEqual(port, 32071)

    def test_only_names_without_addresses(self) -> None:
        """When no target has an address the caller is told, one after the other or all at once."""
        for how in ("serial", "simultaneous"):
            self.setUp()
            self.bench.zone = {}
            self.proxy(NAME, "sip:nobody.test", how=how)
            self.assertEqual(self.bench.heads(), ["500 INVITE"])

    def test_many_targets_at_once(self) -> None:
        """There may be more targets than are tried."""
        targets = [f"sip:bob@127.0.0.1:{port}" for port in range(7000, 7040)]
        self.proxy(*targets, how="simultaneous")
        self.assertEqual(len(sent_to(self.bench)), 32)

    def test_cancelled(self) -> None:
        """A caller who gives up ends it, also while the next place is looked for."""
        self.proxy(NAME)
        [(_, port, first)] = sent_to(self.bench)
        self.bench.zone = None
        self.refuse(port, first)
        self.bench.receive(request("CANCEL"))
        self.assertEqual(self.bench.heads(), ["200 CANCEL", "487 INVITE"])
        self.bench.answer_all(ZONE)
        self.assertEqual(self.bench.take(), [])
        self.assertEqual(self.app.take()[-1].rpartition("|")[2], "done")

    def test_late_between_places(self) -> None:
        """A target whose next place is not found in its time has failed, and the caller is told."""
        self.proxy(NAME, final="5s")
        [(_, port, first)] = sent_to(self.bench)
        self.bench.zone = None
        self.refuse(port, first)
        self.bench.clock.advance(5.0)
        self.assertEqual(self.bench.heads(), ["408 INVITE"])
        self.assertEqual(self.app.take()[-1].rpartition("|")[2], "done")
        self.bench.answer_all(ZONE)
        self.assertEqual(self.bench.take(), [])

    def test_cancelled_while_silent(self) -> None:
        """Nor is the next place tried when the first one does not answer."""
        self.proxy(NAME)
        sent_to(self.bench)
        self.bench.receive(request("CANCEL"))
        self.bench.take()
        for _ in range(70):
            self.bench.clock.advance(0.5)
        self.assertNotIn(7002, [flow.remote_port for flow, _ in self.bench.wire.sent])

    def test_long(self) -> None:
        """What is long goes over TCP, and over UDP when there is no connection."""
        self.proxy(TARGET, body=LONG)
        [(protocol, port, sent)] = sent_to(self.bench)
        self.assertEqual((protocol, port), ("tcp", 32071))
        self.assertIn("SIP/2.0/TCP", sent.get("Via") or "")
        self.assertEqual(sent.get("Record-Route"), f"<sip:{HOST}:{PORT};lr>")
        self.refuse(32071, sent, "tcp")
        [(protocol, _, sent)] = sent_to(self.bench)
        self.assertEqual(protocol, "udp")
        self.assertIn("SIP/2.0/UDP", sent.get("Via") or "")

    def test_in_dialog(self) -> None:
        """Requests in the dialog find their way by the same means, and so do their responses."""
        self.proxy(TARGET)
        [(_, _, invite)] = sent_to(self.bench)
        self.bench.receive(reply(invite, 200), port=32071)
        self.bench.take()
        long = (
            request(
                "INFO",
                number=2,
                to_tag="b",
                extra=f"Route: <sip:{HOST}:{PORT};lr>, <sip:example.test;lr>",
                body=LONG,
            )
            .replace(f"{HOST}:32070;branch", "example.test;branch")
            .replace(";rport=32070", "")
        )
        self.bench.receive(long)
        [(protocol, port, info)] = sent_to(self.bench)
        self.assertEqual((protocol, port), ("tcp", 7001))
        self.refuse(7001, info, "tcp")
        [(protocol, port, info)] = sent_to(self.bench)
        self.assertEqual((protocol, port, info.body), ("udp", 7001, LONG.encode()))
        self.bench.receive(reply(info, 200), port=7001)
        [(flow, _)] = self.bench.wire.sent
        self.assertEqual(flow.remote_port, 7001)


class LinkTests(SynchronousTestCase):
    def test_link_gone_while_looking(self) -> None:
        """When an application is gone meanwhile, its INVITE is not sent any more."""
        bench = Bench()
        app: Link = bench.link()
        app.command(f"sip||\r\nINVITE {NAME} SIP/2.0\r\n\r\n")
        app.close()
        bench.answer_all(ZONE)
        self.assertEqual(bench.heads(), [])
