"""Where a proxy sends what it forwards, and what it says when it cancels."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import CommandRefused, LocalProtocolError, ProxyResult, Srf
from drachtwist.sip import Request, Response
from tests.app.calling import ANSWER, OFFER, A
from tests.app.doubles import Bench as AppBench
from tests.server.doubles import PORT, head, request
from tests.whole import TARGET, Whole

HERE = f"<sip:127.0.0.1:{PORT};lr>"
ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'
TARGETS = [f"sip:bob@127.0.0.1:{port}" for port in (32071, 32072)]


class ProxyTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application that keeps the requests that come."""
        self.start()

    def start(self, **settings: Any) -> None:
        """Start a server, with some settings."""
        self.whole = Whole(settings)
        self.srf: Srf = self.whole.srf
        self.kept: list[Any] = []

        @self.srf.invite
        @self.srf.message
        def keep(req: Any, res: Any) -> None:
            self.kept.append((req, res))

        self.whole.pump()

    def sent(self) -> list[tuple[str, Any]]:
        """Take what was sent since, but for 100: where to, and what."""
        self.whole.pump()
        sent, self.whole.server.wire.sent = self.whole.server.wire.sent, []
        found = []
        for flow, data in sent:
            kind: Any = Response if data.startswith(b"SIP/2.0") else Request
            message = kind.from_bytes(data)
            if not (isinstance(message, Response) and message.status == 100):
                found.append((f"{flow.protocol}:{flow.remote_host}:{flow.remote_port}", message))
        return found

    def arrive(self, extra: str = "") -> None:
        """Let a request come."""
        self.whole.receive(request("INVITE", extra=extra, body=OFFER), A)
        self.sent()

    def proxy(
        self, *targets: str, **options: Any
    ) -> tuple[Deferred[ProxyResult], list[tuple[str, Any]]]:
        """Have the last request proxied; give what was sent."""
        proxying = self.srf.proxy_request(self.kept[-1][0], list(targets) or TARGET, **options)
        return proxying, self.sent()


class RouteTests(ProxyTestCase):
    """RFC 3261 sections 16.4 and 16.6, steps 6 and 7."""

    def test_followed(self) -> None:
        """A Route that is left leads on, whatever target there is."""
        for extra in (
            f"Route: {HERE}\nRoute: <sip:127.0.0.9;lr>",
            f"Route: {HERE}, <sip:127.0.0.9;lr>",
            "Route: <sip:us.example.test;lr>, <sip:127.0.0.9;lr>",
            f"Route: {HERE}, {HERE}, <sip:127.0.0.9;lr>",
        ):
            self.arrive(extra)
            _, [(where, sent)] = self.proxy()
            self.assertEqual((where, sent.uri), ("udp:127.0.0.9:5060", TARGET), extra)
            self.assertEqual(sent.get_all("Route"), ["<sip:127.0.0.9;lr>"], extra)
            self.setUp()

    def test_its_way(self) -> None:
        """The Route says the transport too."""
        self.arrive(f"Route: {HERE}\nRoute: <sip:127.0.0.9:7000;transport=tcp;lr>")
        _, [(where, _)] = self.proxy()
        self.assertEqual(where, "tcp:127.0.0.9:7000")

    def test_only_ours(self) -> None:
        """Ours are taken off; without others the target says where."""
        for route in (HERE, f"{HERE}, {HERE}", "<sip:us.example.test;lr>"):
            self.arrive(f"Route: {route}")
            _, [(where, sent)] = self.proxy()
            self.assertEqual((where, sent.get_all("Route")), ("udp:127.0.0.1:32071", []))
            self.setUp()

    def test_strict(self) -> None:
        """A strict router gets the request in its own name, the target at the end of the Route."""
        self.arrive(f"Route: {HERE}\nRoute: <sip:127.0.0.9>\nRoute: <sip:127.0.0.10;lr>")
        _, [(where, sent)] = self.proxy()
        self.assertEqual((where, sent.uri), ("udp:127.0.0.9:5060", "sip:127.0.0.9"))
        self.assertEqual(sent.get_all("Route"), ["<sip:127.0.0.10;lr>", f"<{TARGET}>"])

    def test_outbound_proxy(self) -> None:
        """The outbound proxy of the server comes before all."""
        self.start(outbound_proxy="sip:127.0.0.99")
        self.arrive(f"Route: {HERE}\nRoute: <sip:127.0.0.9;lr>")
        _, [(where, _)] = self.proxy()
        self.assertEqual(where, "udp:127.0.0.99:5060")

    def test_illegible(self) -> None:
        """A Route that leads nowhere ends in a refusal."""
        self.arrive(f"Route: {HERE}\nRoute: <tel:+1;lr>")
        proxying, sent = self.proxy()
        self.failureResultOf(proxying, CommandRefused)
        self.assertEqual([head(one) for _, one in sent], ["500 INVITE"])

    def test_other_schemes(self) -> None:
        """``tel:`` and ``urn:`` go where a Route leads; without one nobody knows where."""
        for uri in ("tel:+15551212", "urn:service:sos"):
            self.start()
            self.arrive(f"Route: {HERE}\nRoute: <sip:127.0.0.9;lr>")
            _, [(where, sent)] = self.proxy(uri)
            self.assertEqual((where, sent.uri), ("udp:127.0.0.9:5060", uri))
            self.start()
            self.arrive()
            self.assertRaises(LocalProtocolError, self.srf.proxy_request, self.kept[-1][0], uri)

    def test_asked_for(self) -> None:
        """A request for such a URI goes where its Route leads, and is refused without one."""
        for uri in ("tel:+15551212", "urn:service:sos"):
            self.start()
            text = request("INVITE", extra=f"Route: {HERE}\nRoute: <sip:127.0.0.9;lr>", body=OFFER)
            self.whole.receive(text.replace("sip:app@127.0.0.1:32060 SIP", f"{uri} SIP"), A)
            self.sent()
            self.srf.proxy_request(self.kept[-1][0])
            [(where, sent)] = self.sent()
            self.assertEqual((where, sent.uri), ("udp:127.0.0.9:5060", uri))

    def test_headers_of_a_target(self) -> None:
        """Headers of a target, or of a contact that it redirects to, are not in a Request-URI."""
        self.arrive()
        _, [(_, sent)] = self.proxy(f"{TARGET}?Subject=x", follow_redirects=True)
        self.assertEqual(sent.uri, TARGET)
        contact = {
            "Contact": "<sip:c@127.0.0.1:32073?Subject=x>;q=0.1, <sip:d@127.0.0.1:32074?a=b>"
        }
        self.whole.respond(sent, 302, headers=contact)
        (_, _), (where, sent) = self.sent()
        self.assertEqual((where, sent.uri), ("udp:127.0.0.1:32074", "sip:d@127.0.0.1:32074"))
        self.whole.respond(sent, 404, port=32074)
        (_, _), (where, sent) = self.sent()
        self.assertEqual((where, sent.uri), ("udp:127.0.0.1:32073", "sip:c@127.0.0.1:32073"))


class ReasonTests(ProxyTestCase):
    """Whoever is cancelled is told why (RFC 3326)."""

    def ringing(self, **options: Any) -> dict[str, Request]:
        """Let both targets ring; give their INVITEs."""
        self.arrive()
        _, sent = self.proxy(*TARGETS, forking="simultaneous", **options)
        for where, invite in sent:
            self.whole.respond(invite, 180, port=int(where[-5:]))
        self.sent()
        return dict(sent)

    def cancels(self) -> list[tuple[str, list[str]]]:
        """Take the CANCELs that were sent: where to, and the reasons."""
        return [
            (where[-5:], one.get_all("Reason"))
            for where, one in self.sent()
            if isinstance(one, Request) and one.method == "CANCEL"
        ]

    def test_of_the_caller(self) -> None:
        """The caller's reasons are handed on, those that can be read."""
        self.ringing()
        reasons = ["SIP;cause=487", 'Q.850;cause=16;text="x"']
        extra = "\n".join(f"Reason: {one}" for one in (*reasons, ";;"))
        self.whole.receive(request("CANCEL", extra=extra), A)
        self.assertEqual(self.cancels(), [("32071", reasons), ("32072", reasons)])

    def test_of_nobody(self) -> None:
        """Without one there is none."""
        self.ringing()
        self.whole.receive(request("CANCEL"), A)
        self.assertEqual(self.cancels(), [("32071", []), ("32072", [])])

    def test_elsewhere(self) -> None:
        """Losers hear that the call was completed elsewhere, so that nobody shows it as missed."""
        invites = self.ringing()
        self.whole.respond(invites["udp:127.0.0.1:32072"], 200, port=32072, body=ANSWER)
        self.assertEqual(self.cancels(), [("32071", [ELSEWHERE])])

    def test_declined(self) -> None:
        """So do those whom a 6xx of another ends."""
        invites = self.ringing()
        self.whole.respond(invites["udp:127.0.0.1:32072"], 603, port=32072)
        self.assertEqual(self.cancels(), [("32071", ['SIP;cause=603;text="Decline"'])])

    def test_too_late(self) -> None:
        """So does one that lets its time pass."""
        self.ringing(final_timeout=5)
        self.whole.clock.advance(5)
        timeout = ['SIP;cause=408;text="Request Timeout"']
        self.assertEqual(self.cancels(), [("32071", timeout), ("32072", timeout)])


class NatTests(ProxyTestCase):
    """Behind a NAT a Contact leads nowhere: requests go where messages come from."""

    INSIDE = "<sip:bob@10.0.0.5:5060>"

    def up(self, contact: str, port: int = 32071, **settings: Any) -> Response:
        """Let a call be proxied and accepted; give the answer as the caller has it."""
        self.start(**settings)
        self.arrive()
        _, [(_, invite)] = self.proxy(record_route=True)
        headers = {"Contact": contact, "Record-Route": invite.get_all("Record-Route")}
        self.whole.respond(invite, 200, headers=headers, port=port, body=ANSWER)
        [(_, answer)] = self.sent()
        assert isinstance(answer, Response)
        return answer

    def from_a(self, answer: Response, method: str, number: int = 1) -> None:
        """Let the caller send a request in the dialog."""
        uri = answer.contacts[0].uri
        text = request(method, number=number, to_tag=answer.to.tag or "", branch=method)
        text = text.replace("sip:app@127.0.0.1:32060 SIP", f"{uri} SIP")
        routes = "".join(f"Route: {one}\n" for one in answer.get_all("Record-Route"))
        self.whole.receive(text.replace("Max-Forwards", f"{routes}Max-Forwards"), A)

    def test_target(self) -> None:
        """A target gets its ACK and BYE at the address that it answered from."""
        for contact in (self.INSIDE, "<sip:bob@10.0.0.5>", "<sip:bob@127.0.0.1:5099>"):
            answer = self.up(contact)
            for method, number in (("ACK", 1), ("INFO", 2), ("BYE", 3)):
                self.from_a(answer, method, number)
                [(where, sent)] = self.sent()
                self.assertEqual(where, "udp:127.0.0.1:32071", f"{method} {contact}")
                self.assertEqual(f"<{sent.uri}>", contact)

    def test_redirected(self) -> None:
        """Whom a redirect names is found there, not where the redirect comes from."""
        self.arrive()
        _, [(_, invite)] = self.proxy(record_route=True, follow_redirects=True)
        moved = "<sip:bob@127.0.0.1:32072>"
        headers: Any = {"Contact": moved, "Record-Route": invite.get_all("Record-Route")}
        self.whole.respond(invite, 302, headers=headers)
        [invite] = [one for _, one in self.sent() if one.method == "INVITE"]
        headers["Record-Route"] = invite.get_all("Record-Route")
        self.whole.respond(invite, 200, headers=headers, port=32072, body=ANSWER)
        [(_, answer)] = self.sent()
        self.from_a(answer, "ACK")
        [(where, _)] = self.sent()
        self.assertEqual(where, "udp:127.0.0.1:32072")

    def test_no_nat(self) -> None:
        """One whose Contact is right, or a name, is found there."""
        answer = self.up("<sip:bob@127.0.0.1:32071>", 32071)
        self.from_a(answer, "ACK")
        [(where, _)] = self.sent()
        self.assertEqual(where, "udp:127.0.0.1:32071")

    def test_another_proxy(self) -> None:
        """With another proxy in between the Route leads there."""
        self.arrive()
        _, [(_, invite)] = self.proxy(record_route=True)
        routes = ["<sip:127.0.0.9;lr>", *invite.get_all("Record-Route")]
        headers: Any = {"Contact": self.INSIDE, "Record-Route": routes}
        self.whole.respond(invite, 200, headers=headers, body=ANSWER)
        [(_, answer)] = self.sent()
        self.from_a_reversed(answer)

    def from_a_reversed(self, answer: Response) -> None:
        """Let the caller send an ACK by the route of an answer."""
        routes = answer.get_all("Record-Route")[::-1]
        text = request("ACK", to_tag=answer.to.tag or "", branch="ack")
        text = text.replace("sip:app@127.0.0.1:32060 SIP", f"{answer.contacts[0].uri} SIP")
        lines = "".join(f"Route: {one}\n" for one in routes)
        self.whole.receive(text.replace("Max-Forwards", f"{lines}Max-Forwards"), A)
        [(where, _)] = self.sent()
        self.assertEqual(where, "udp:127.0.0.9:5060")

    def test_switched_off(self) -> None:
        """Who does not want that gets what the Contact says."""
        answer = self.up("<sip:bob@127.0.0.1:5099>", nat_detection="off")
        self.from_a(answer, "ACK")
        [(where, _)] = self.sent()
        self.assertEqual(where, "udp:127.0.0.1:5099")

    def test_caller(self) -> None:
        """So it is with the caller."""
        text = request("INVITE", body=OFFER)
        text = text.replace("Contact: <sip:alice@127.0.0.1:32070>", "Contact: <sip:alice@10.0.0.7>")
        self.whole.receive(text, A)
        self.sent()
        _, [(_, invite)] = self.proxy(record_route=True)
        routes = {"Record-Route": invite.get_all("Record-Route")}
        self.whole.respond(invite, 200, headers=routes, body=ANSWER)
        [(_, answer)] = self.sent()
        lines = [
            "BYE sip:alice@10.0.0.7 SIP/2.0",
            "Via: SIP/2.0/UDP 127.0.0.1:32071;branch=z9hG4bKbye",
            *[f"Route: {one}" for one in answer.get_all("Record-Route")],
            f"From: {answer.get('To')}",
            f"To: {answer.get('From')}",
            f"Call-ID: {answer.call_id}",
            "CSeq: 1 BYE",
            "Content-Length: 0",
        ]
        self.whole.receive("\n".join(lines) + "\n\n", 32071)
        [(where, _)] = self.sent()
        self.assertEqual(where, f"udp:127.0.0.1:{A}")


class WithoutTlsTests(ProxyTestCase):
    def test_alone(self) -> None:
        """A ``sips:`` target of a server without TLS is an error; the caller is answered."""
        self.arrive()
        self.assertRaises(
            LocalProtocolError, self.srf.proxy_request, self.kept[-1][0], "sips:bob@127.0.0.1"
        )

        self.start()
        self.srf.options(lambda req, res: self.srf.proxy_request(req, "sips:bob@127.0.0.1"))
        self.whole.pump()
        self.whole.receive(request("OPTIONS", call="o"), A)
        self.assertEqual([head(one) for _, one in self.sent()], ["500 OPTIONS"])
        self.flushLoggedErrors(LocalProtocolError)

    def test_among_others(self) -> None:
        """Among others it is passed over."""
        self.arrive()
        _, [(where, _)] = self.proxy("sips:bob@127.0.0.1", TARGET)
        self.assertEqual(where, "udp:127.0.0.1:32071")

    def test_a_real_server(self) -> None:
        """A real one would never say anything of it, nor try another one."""
        bench = AppBench()
        server = bench.connect()
        kept: list[Any] = []
        bench.srf.invite(lambda req, res: kept.append(req))
        bench.settle()
        server.take()
        server.invite()
        [req] = kept
        self.assertRaises(LocalProtocolError, bench.srf.proxy_request, req, "sips:bob@h")
        bench.srf.proxy_request(req, ["sips:bob@h", "sip:carol@h"])
        [command] = server.take()
        self.assertIn("sip:carol@h", str(command))
        self.assertNotIn("sips:bob@h", str(command))
