"""Phones behind a NAT: they register a private address, and are reached where they came from."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Dialog, Request, Response, hunt, simring
from drachtwist.middleware import Binding, Registrar
from drachtwist.sip import Request as SipRequest
from drachtwist.sip import Response as SipResponse
from drachtwist.sip.parsing import parse_message
from tests.app.calling import ANSWER, OFFER
from tests.server.doubles import request, sip
from tests.whole import Whole

NAT = ("203.0.113.7", 40001)
"""Where the phone's packets come from, and the only place from which it can be reached."""
PRIVATE = "192.168.1.5:5060"
CALLER = ("198.51.100.2", 5060)


class NatTestCase(SynchronousTestCase):
    """Has a registrar, a phone behind a NAT, and somebody who calls it."""

    def start(self, settings: dict[str, Any] | None = None, **options: Any) -> None:
        """Use a registrar."""
        self.whole = Whole({"host": "198.51.100.1", **(settings or {})})
        self.srf = self.whole.srf
        self.registrar = Registrar(**options)
        self.srf.use(self.registrar)
        self.made: list[Deferred[Any]] = []
        self.elsewhere: list[str] = []

    def connect(self, how: Any) -> None:
        """Connect callers with the phone."""

        @self.srf.invite
        async def connect(req: Request, res: Response) -> None:
            places = await self.registrar.find("sip:app@127.0.0.1")
            self.made.append(how(req, res, places))

        self.whole.pump()

    def arrive(self, text: str, source: tuple[str, int], protocol: str = "udp") -> None:
        """Let something come from an address."""
        host, port = source
        message = parse_message(sip(text))
        core = self.whole.server.core
        core.sip_received(message, self.whole.server.wire.flow(host, port, protocol), len(text))
        self.whole.pump()

    def register(
        self,
        contact: str = f"<sip:app@{PRIVATE}>",
        number: int = 1,
        protocol: str = "udp",
        extra: str = "",
        source: tuple[str, int] = NAT,
    ) -> SipResponse:
        """Let the phone register."""
        self.whole.pump()
        self.arrive(
            "\n".join(
                (
                    "REGISTER sip:127.0.0.1 SIP/2.0",
                    f"Via: SIP/2.0/{protocol.upper()} {PRIVATE};rport={source[1]};"
                    f"received={source[0]};branch=z9hG4bKr{number}",
                    "From: <sip:app@127.0.0.1>;tag=p",
                    "To: <sip:app@127.0.0.1>",
                    "Call-ID: r",
                    f"CSeq: {number} REGISTER",
                    f"Contact: {contact}",
                    "Max-Forwards: 70",
                    *extra.splitlines(),
                    "Content-Length: 0",
                )
            )
            + "\n\n",
            source,
            protocol,
        )
        [answer] = [one for one in self.at(source) if isinstance(one, SipResponse)]
        return answer

    def call(self, **options: Any) -> None:
        """Call the phone."""
        self.arrive(request("INVITE", body=OFFER, **options), CALLER)

    def at(self, place: tuple[str, int]) -> list[SipRequest | SipResponse]:
        """Take what reached an address; what went anywhere else is lost."""
        self.whole.pump()
        wire = self.whole.server.wire
        sent, wire.sent = wire.sent, []
        found = []
        for flow, data in sent:
            message = parse_message(data)
            where = (flow.remote_host, flow.remote_port)
            if where == place:
                found.append(message)
            elif where != CALLER:
                self.elsewhere.append(f"{data[:40]!r} to {where}")
            else:
                self.caller.append(message)
        return found

    def setUp(self) -> None:
        """Nothing was heard."""
        self.caller: list[SipRequest | SipResponse] = []

    def answer(
        self, asked: SipRequest, status: int = 200, protocol: str = "udp", body: str = ""
    ) -> None:
        """Let the phone respond, with its private address for a Contact."""
        to = asked.get("To") or ""
        lines = [
            f"SIP/2.0 {status} OK",
            *(f"Via: {via}" for via in asked.get_all("Via")),
            f"From: {asked.get('From')}",
            f"To: {to}" + ("" if "tag=" in to else ";tag=phone"),
            f"Call-ID: {asked.get('Call-ID')}",
            f"CSeq: {asked.get('CSeq')}",
            f"Contact: <sip:app@{PRIVATE}>",
            *(["Content-Type: application/sdp"] if body else []),
            f"Content-Length: {len(body)}",
        ]
        self.arrive("\n".join(lines) + "\n\n" + body, NAT, protocol)

    def whole_call(self, protocol: str = "udp") -> None:
        """Call the phone, talk, and hang up; everything has to reach it."""
        self.call()
        [invite] = self.at(NAT)
        assert isinstance(invite, SipRequest)
        self.answer(invite, 200, protocol, ANSWER)
        [ack] = self.at(NAT)
        assert isinstance(ack, SipRequest)
        self.assertEqual(ack.method, "ACK")
        _, uac = self.successResultOf(self.made[0])
        informed = uac.info()
        [info] = self.at(NAT)
        assert isinstance(info, SipRequest)
        self.answer(info, 200, protocol)
        self.assertEqual(self.successResultOf(informed).status, 200)
        uac.destroy()
        [bye] = self.at(NAT)
        assert isinstance(bye, SipRequest)
        self.assertEqual((invite.method, info.method, bye.method), ("INVITE", "INFO", "BYE"))
        self.assertEqual(self.elsewhere, [])
        statuses = [one.status for one in self.caller if isinstance(one, SipResponse)]
        self.assertEqual(statuses, [100, 200])


class CallTests(NatTestCase):
    def test_binding(self) -> None:
        """The binding tells where the phone is, and how it gets there."""
        self.start()
        self.register()
        [place] = self.successResultOf(
            Deferred.fromCoroutine(self.registrar.find("sip:app@127.0.0.1"))
        )
        self.assertEqual(place.uri, f"sip:app@{PRIVATE}")
        self.assertEqual((place.source, place.protocol), ("203.0.113.7:40001", "udp"))
        self.assertTrue(place.behind_nat)
        self.assertEqual(place.route, "sip:203.0.113.7:40001")

    def test_b2bua(self) -> None:
        """``create_b2bua`` takes a binding, and the call goes all its way."""
        self.start()
        self.register()
        self.connect(lambda req, res, places: self.srf.create_b2bua(req, res, places[0]))
        self.whole_call()

    def test_simring(self) -> None:
        """``simring`` takes bindings."""
        self.start()
        self.register()
        self.connect(lambda req, res, places: simring(self.srf, req, res, places))
        self.whole_call()

    def test_hunt(self) -> None:
        """``hunt`` takes bindings."""
        self.start()
        self.register()
        self.connect(lambda req, res, places: hunt(self.srf, req, res, places))
        self.whole_call()

    def test_uac(self) -> None:
        """``create_uac`` takes a binding."""
        self.start()
        self.register()
        [place] = self.successResultOf(
            Deferred.fromCoroutine(self.registrar.find("sip:app@127.0.0.1"))
        )
        calling = self.srf.create_uac(place, local_sdp=OFFER)
        [invite] = self.at(NAT)
        assert isinstance(invite, SipRequest)
        self.assertEqual(invite.uri, f"sip:app@{PRIVATE}")
        self.answer(invite, body=ANSWER)
        dialog: Dialog = self.successResultOf(calling)
        self.assertTrue(dialog.connected)
        sent = self.srf.request(
            place, method="MESSAGE", body="hello", headers={"Content-Type": "text/plain"}
        )
        [_, message] = self.at(NAT)
        assert isinstance(message, SipRequest)
        self.answer(message)
        self.assertEqual(self.successResultOf(sent).status, 200)

    def test_proxied(self) -> None:
        """``proxy_request`` takes bindings."""
        self.start()
        self.register()
        self.connect(
            lambda req, res, places: self.srf.proxy_request(req, places, record_route=True)
        )
        self.call()
        [invite] = self.at(NAT)
        assert isinstance(invite, SipRequest)
        self.assertEqual(invite.method, "INVITE")
        self.assertEqual(self.elsewhere, [])

    def test_over_tcp(self) -> None:
        """Over a stream the phone is reached through the connection that it made."""
        self.start()
        contact = f"<sip:app@{PRIVATE};transport=tcp>"
        self.register(contact, protocol="tcp")
        self.connect(lambda req, res, places: self.srf.create_b2bua(req, res, places[0]))
        self.call()
        [invite] = self.at(NAT)
        assert isinstance(invite, SipRequest)
        self.assertEqual(invite.vias[0].transport, "TCP")
        self.assertEqual(self.elsewhere, [])

    def test_open(self) -> None:
        """A phone without a NAT is called where it says."""
        self.start()
        self.register("<sip:app@203.0.113.9:5070>", source=("192.168.1.5", 5060))
        self.connect(lambda req, res, places: self.srf.create_b2bua(req, res, places[0]))
        self.call()
        [invite] = self.at(("203.0.113.9", 5070))
        self.assertIsInstance(invite, SipRequest)

    def test_own_opinion(self) -> None:
        """Who knows his network better says himself who is behind a NAT."""
        self.start(behind_nat=lambda req, uri: False)
        self.register()
        self.connect(lambda req, res, places: self.srf.create_b2bua(req, res, places[0]))
        self.call()
        self.assertEqual(self.at(NAT), [])


class HoleTests(NatTestCase):
    """Keeps the way through the NAT open."""

    def test_short_times(self) -> None:
        """Phones behind a NAT may be given a shorter time, others not."""
        self.start(nat_expires=45)
        answer = self.register(extra="Expires: 3600")
        self.assertEqual(answer.get("Contact"), f"<sip:app@{PRIVATE}>;expires=45")
        self.registrar.store.save("sip:app@127.0.0.1", ())
        answer = self.register(
            "<sip:app@203.0.113.9>", 2, extra="Expires: 3600", source=("192.168.1.5", 5060)
        )
        self.assertEqual(answer.get("Contact"), "<sip:app@203.0.113.9>;expires=3600")

    def pings(self, seconds: float) -> list[SipRequest]:
        """Let time pass; answer the OPTIONS that come meanwhile."""
        found = []
        until = self.whole.clock.seconds() + seconds
        while self.whole.clock.seconds() < until:
            self.whole.clock.advance(0.5)
            for one in self.at(NAT):
                assert isinstance(one, SipRequest)
                found.append(one)
                self.answer(one)
        return found

    def test_kept_open(self) -> None:
        """They may be asked for a sign of life, as long as they are registered."""
        self.start(nat_keep_alive=25.0)
        self.register(extra="Expires: 100")
        found = self.pings(60)
        self.assertEqual([one.method for one in found], ["OPTIONS", "OPTIONS"])
        self.assertEqual(found[0].uri, f"sip:app@{PRIVATE}")
        self.register(number=2, extra="Expires: 100")
        self.assertEqual(len(self.pings(99)), 3)
        self.assertEqual(self.pings(300), [])
        self.assertEqual(self.elsewhere, [])

    def test_no_longer(self) -> None:
        """Who unregisters is left alone."""
        self.start(nat_keep_alive=25.0)
        self.register()
        self.register(f"<sip:app@{PRIVATE}>;expires=0", 2)
        self.assertEqual(self.pings(100), [])

    def test_not_there(self) -> None:
        """Who does not answer is asked on; nothing else happens."""
        self.start(nat_keep_alive=25.0)
        self.register()
        self.whole.clock.advance(25)
        self.whole.pass_time(40)
        self.whole.clock.advance(10)
        self.assertNotEqual(self.at(NAT), [])


class PathTests(NatTestCase):
    """A proxy at the edge stands between (RFC 3327)."""

    EDGE = ("203.0.113.50", 5060)

    def test_through_the_edge(self) -> None:
        """Requests take the Path of the REGISTER, in its order."""
        self.start()
        answer = self.register(
            extra="Path: <sip:203.0.113.50;lr>, <sip:203.0.113.51;lr>\nSupported: path",
        )
        self.assertEqual(answer.get("Path"), "<sip:203.0.113.50;lr>, <sip:203.0.113.51;lr>")
        self.connect(lambda req, res, places: self.srf.create_b2bua(req, res, places[0]))
        self.call()
        [invite] = self.at(self.EDGE)
        assert isinstance(invite, SipRequest)
        self.assertEqual(invite.uri, f"sip:app@{PRIVATE}")
        self.assertEqual(
            [str(one) for one in invite.get_parsed_header("Route")],
            ["<sip:203.0.113.50;lr>", "<sip:203.0.113.51;lr>"],
        )

    def test_outbound(self) -> None:
        """A flow over a stream is kept as RFC 5626 has it, which the phone is told."""
        self.start()
        contact = f'<sip:app@{PRIVATE};transport=tcp>;+sip.instance="<urn:uuid:1>";reg-id=1'
        answer = self.register(contact, protocol="tcp", extra="Supported: path, outbound")
        self.assertEqual(answer.get("Require"), "outbound")
        answer = self.register(contact, 2, extra="Supported: path, outbound")
        self.assertEqual(answer.get("Require"), None)


class BindingTests(SynchronousTestCase):
    def test_routes(self) -> None:
        """Where a binding leads."""
        common: dict[str, Any] = {"expires_at": 1.0, "q": None, "call_id": "c", "cseq": 1}
        for options, route, place in (
            ({}, "", "sip:a@10.0.0.1:5062;x"),
            (
                {"source": "192.0.2.1:7000", "protocol": "udp", "behind_nat": True},
                "sip:192.0.2.1:7000",
                "sip:a@192.0.2.1:7000;x",
            ),
            (
                {"source": "[2001:db8::1]:7000", "protocol": "udp", "behind_nat": True},
                "sip:[2001:db8::1]:7000",
                "sip:a@[2001:db8::1]:7000;x",
            ),
            (
                {"source": "192.0.2.1:7000", "protocol": "tcp", "behind_nat": True},
                "",
                "sip:a@192.0.2.1:7000;x;transport=tcp",
            ),
            ({"path": ("<sip:edge;lr>",)}, "sip:edge;lr", "sip:a@10.0.0.1:5062;x"),
        ):
            binding = Binding("sip:a@10.0.0.1:5062;x", **common, **options)
            self.assertEqual((binding.route, binding.place), (route, place), options)
        browser = Binding(
            "sip:a@x.invalid;transport=ws",
            **common,
            source="192.0.2.1:7",
            protocol="tcp",
            behind_nat=True,
        )
        self.assertEqual((browser.route, browser.place), ("", browser.uri))
