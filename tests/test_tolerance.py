"""What phones really send, and what becomes of it: a phone, the server, and an application."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    Dialog,
    LocalProtocolError,
    MessageError,
    Referral,
    Request,
    Response,
    SipError,
    accept_refer,
)
from drachtwist.middleware import Registrar
from drachtwist.sip import Request as SipRequest
from drachtwist.sip import Response as SipResponse
from drachtwist.sip.parsing import parse_datagram, read_leniently
from drachtwist.sip.sdp import sdp_of
from drachtwist.sip.stream import Malformed
from tests.app.calling import ANSWER, OFFER, A, CallTestCase
from tests.server.doubles import request, sip
from tests.whole import TARGET, Whole


class PhoneTestCase(SynchronousTestCase):
    """Has an application on a server, and phones that speak over UDP as they do."""

    def setUp(self) -> None:
        """Connect the application."""
        self.whole = Whole()
        self.srf = self.whole.srf

    def arrive(self, text: str, port: int = A) -> None:
        """Let a datagram come, looked at as any from the network."""
        raw = sip(text)
        core = self.whole.server.core
        flow = self.whole.server.wire.flow("127.0.0.1", port)
        try:
            message = parse_datagram(raw)
        except MessageError as error:
            core.sip_malformed(Malformed(raw, error, read_leniently(raw)), flow, len(raw))
        else:
            core.sip_received(message, flow, len(raw))
        self.whole.pump()

    def response(self) -> SipResponse:
        """Take the last response that was sent."""
        return [one for one in self.whole.sent() if isinstance(one, SipResponse)][-1]


class RegisteredTests(PhoneTestCase):
    def setUp(self) -> None:
        """Use a registrar, and call whoever registered."""
        super().setUp()
        self.registrar = Registrar()
        self.srf.use(self.registrar)
        self.calls: list[Deferred[Any]] = []

        @self.srf.invite
        async def connect(req: Request, res: Response) -> None:
            [place] = await self.registrar.find(req.uri)
            self.calls.append(self.srf.create_b2bua(req, res, place.uri))

        self.whole.pump()

    def register(self, contact: str, call: str) -> SipResponse:
        """Register ``app@127.0.0.1``."""
        text = request("REGISTER", call=call)
        self.arrive(
            text.replace(f"<sip:alice@127.0.0.1:{A}>", contact, 2).replace(
                f'From: "Alice" {contact}', 'From: "Alice" <sip:alice@127.0.0.1>'
            )
        )
        return self.response()

    def test_accepted_is_callable(self) -> None:
        """Whatever Contact is accepted can be called, and the call goes all its way."""
        for number, uri in enumerate(
            (
                "sip:2@127.0.0.1:32071;transport=udp;",
                'sip:3@127.0.0.1:32071;thinfo="VG8+/w="',
                "sip:4@127.0.0.1:;x",
                "sip:5@127.0.0.1:32071;;x",
                "sip:6@127.0.0.1:032071",
            )
        ):
            self.assertEqual(self.register(f"<{uri}>", f"r{number}").status, 200, uri)
            self.arrive(request("INVITE", call=f"i{number}", body=OFFER))
            [invite] = [one for one in self.whole.sent() if isinstance(one, SipRequest)]
            self.assertEqual((invite.method, invite.uri), ("INVITE", uri))
            self.assertEqual(str(parse_datagram(invite.raw).uri), uri)  # type: ignore[union-attr]
            self.whole.respond(invite, 200, headers={"Contact": f"<{uri}>"}, body=ANSWER)
            sent = self.whole.sent()
            [ack] = [one for one in sent if isinstance(one, SipRequest)]
            self.assertEqual((ack.method, ack.uri), ("ACK", uri))
            self.assertIn(
                "200 INVITE",
                [f"{one.status} {one.cseq.method}" for one in sent if isinstance(one, SipResponse)],
            )
            _, uac = self.successResultOf(self.calls[-1])
            uac.destroy()
            self.assertEqual(self.whole.request().uri, uri)
            self.registrar.store.save("sip:app@127.0.0.1", ())

    def test_dangerous(self) -> None:
        """A URI that nobody can send to is refused, and the phrase names the header."""
        for number, uri in enumerate(
            ("sip:a b@h", "sip:a@h;x y", "sip:a@h:70000", "sip:a@1.2.3.444")
        ):
            answer = self.register(f"<{uri}>", f"d{number}")
            self.assertEqual((answer.status, answer.reason), (400, "Bad Contact Header"), uri)
        self.assertEqual(self.registrar.store.find("sip:app@127.0.0.1"), [])

    def test_other_schemes(self) -> None:
        """What is no SIP URI cannot be called, and is no binding."""
        answer = self.register("<mailto:a@h>", "m")
        self.assertEqual((answer.status, answer.get("Contact")), (200, None))

    def test_dates(self) -> None:
        """A REGISTER whose Expires is a date counts, as it did in RFC 2543; other words do not."""
        for number, (text, status) in enumerate(
            (("Thu, 01 Dec 2044 16:00:00 GMT", 200), ("Thursday", 400), ("3600", 200))
        ):
            wanted = request("REGISTER", call=f"e{number}", extra=f"Expires: {text}")
            self.arrive(wanted)
            answer = self.response()
            self.assertEqual(answer.status, status, text)
            if status == 400:
                self.assertEqual(answer.reason, "Bad Expires Header")


class RequestTests(PhoneTestCase):
    def setUp(self) -> None:
        """Accept calls."""
        super().setUp()
        self.seen: list[Request] = []
        self.dialogs: list[Deferred[Dialog]] = []

        @self.srf.invite
        def answer(req: Request, res: Response) -> None:
            self.seen.append(req)
            self.dialogs.append(self.srf.create_uas(req, res, local_sdp=ANSWER))

        self.whole.pump()

    def test_odd_requests(self) -> None:
        """These are calls like others."""
        plain = request("INVITE", body=OFFER)
        for number, (old, new) in enumerate(
            (
                ("sip:app@127.0.0.1:32060 SIP", "sip:app@127.0.0.1:32060; SIP"),
                ("sip:app@127.0.0.1:32060 SIP", "sip:app@127.0.0.1:32060;;x SIP"),
                ("sip:app@127.0.0.1:32060 SIP", 'sip:app@127.0.0.1:32060;x="y" SIP'),
                ("Max-Forwards", "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx,\nMax-Forwards"),
                ("Via: SIP", "Via: , SIP"),
                ("Contact: <sip:alice@127.0.0.1:32070>", "Contact: <sip:alice@127.0.0.1:32070>,"),
                ("Contact: <sip:alice@127.0.0.1:32070>", "Contact: <sip:alice@127.0.0.1:32070;>;"),
                ("Max-Forwards", "Record-Route: <sip:127.0.0.1:32079;lr>,,\nMax-Forwards"),
                ("Max-Forwards", "Content-Type: application / sdp\nMax-Forwards"),
                ("Max-Forwards", "Content-Type: application/sdp;\nMax-Forwards"),
                (";tag=a\n", ";tag=a;\n"),
            )
        ):
            text = plain.replace("c1", f"odd{number}").replace(old, new, 1)
            self.arrive(text)
            self.assertEqual(self.whole.heads(), ["100 INVITE", "200 INVITE"], new)
            dialog = self.successResultOf(self.dialogs[-1])
            self.assertEqual(dialog.remote.sdp, OFFER.encode(), new)
            dialog.when_ended().addErrback(lambda failure: None)

    def test_odd_responses(self) -> None:
        """A call is up, and acknowledged, whatever the 200 has for a Contact and lists."""
        for contact, target in (
            ("<sip:bob@127.0.0.1:32071;>", "sip:bob@127.0.0.1:32071;"),
            ("<sip:bob@127.0.0.1:32071>,", "sip:bob@127.0.0.1:32071"),
            (",<sip:bob@127.0.0.1:32071>", "sip:bob@127.0.0.1:32071"),
        ):
            calling = self.srf.create_uac(TARGET, local_sdp=OFFER)
            invite = self.whole.request()
            self.whole.respond(
                invite,
                200,
                headers={"Contact": contact, "Record-Route": "<sip:127.0.0.1:32079;lr>,"},
                body=ANSWER,
            )
            ack = self.whole.request()
            self.assertEqual((ack.method, ack.uri), ("ACK", target))
            self.assertEqual(ack.get_all("Route"), ["<sip:127.0.0.1:32079;lr>"])
            self.successResultOf(calling)

    def test_phrases(self) -> None:
        """A 400 says which header is bad."""
        plain = request("INVITE", body=OFFER)
        for number, (old, new, name) in enumerate(
            (
                ('From: "Alice" <', 'From: "Alice <', "From"),
                ("To: <", "To: <<", "To"),
                ("CSeq: 1", "CSeq: x", "CSeq"),
                ("Contact: <", "Contact: <<", "Contact"),
                ("Via: SIP/2.0/UDP 1", "Via: nonsense\nVia: SIP/2.0/UDP 1", "Via"),
                ("Max-Forwards: 70", "Max-Forwards: many", "Max-Forwards"),
                ("Max-Forwards: 70", "Max-Forwards: 256", "Max-Forwards"),
                (f"Content-Length: {len(OFFER)}", "Content-Length: x", "Content-Length"),
            )
        ):
            self.arrive(plain.replace("c1", f"bad{number}").replace(old, new, 1))
            answer = self.response()
            self.assertEqual((answer.status, answer.reason), (400, f"Bad {name} Header"))


class OfferTests(SynchronousTestCase):
    def sdp(self, body: str, kind: str = "multipart/mixed;boundary=x") -> bytes | None:
        """Give the description that is found."""
        message = SipRequest(
            "INVITE", "sip:a@h", {"Content-Type": kind}, body.replace("\n", "\r\n")
        )
        found = sdp_of(message)
        return None if found is None else bytes(found)

    def test_seen(self) -> None:
        """An offer that is there is seen, whatever stands beside it."""
        part = "Content-Type: application/sdp\n\nv=0\n"
        inner = f"Content-Type: multipart/alternative;boundary=y\n\n--y\n{part}\n--y--\n"
        for body in (
            f"--x\n{part}\n--x\n",
            f"--x\n{part}\n--x",
            f"--x\n{part}",
            f"--x\n{inner}\n--x--\n",
            f"--x\nContent-Type: nonsense\n\nhello\n--x\n{part}\n--x--\n",
            f"--x\nContent-Type: multipart/mixed\n\nhello\n--x\n{part}\n--x--\n",
            f"--x\nhello\n--x\n{part}\n--x--\n",
            f"--x\nContent-Disposition: ;;=\n{part}\n--x--\n",
            f"--x\nno header\n{part}\n--x--\n",
        ):
            found = self.sdp(body)
            self.assertEqual((found or b"").rstrip(), b"v=0", body)

    def test_type_unreadable(self) -> None:
        """A description alone is known by its first line."""
        for kind in ("nonsense", "application/sdp;;", "application / sdp", "multipart/mixed"):
            self.assertEqual(self.sdp("v=0\n", kind), b"v=0\r\n", kind)

    def test_deep(self) -> None:
        """Parts in parts are looked into, but not without end."""
        body = "--x\nContent-Type: multipart/mixed;boundary=x\n\n" * 2000
        self.assertIsNone(self.sdp(body))


class ReferralTests(CallTestCase):
    def refer(self, target: str) -> None:
        """Let the phone send a REFER, which is accepted."""
        self.dialog = self.answered()
        self.found: list[Referral] = []

        @self.dialog.on_refer
        def refer(req: Request, res: Response) -> None:
            try:
                self.found.append(accept_refer(self.dialog, req, res))
            except MessageError:
                pass

        self.from_a("REFER", 2, f"Refer-To: {target}\n")

    def told(self) -> list[str]:
        """Take what the phone is told of the call, and answer it."""
        found = []
        for _ in range(3):
            for one in self.whole.sent():
                if isinstance(one, SipRequest) and one.method == "NOTIFY":
                    found.append(one.text.strip())
                    self.whole.respond(one, 200, port=A)
        return found

    def test_refused(self) -> None:
        """A URI that is none is refused at once."""
        for target in ("<sip:c@h:70000>", "<sip:c d@h>", "<sip:c@1.2.3.444>"):
            self.setUp()
            self.refer(target)
            answer = [one for one in self.whole.sent() if isinstance(one, SipResponse)][-1]
            self.assertEqual((answer.status, answer.reason), (400, "Bad Refer-To Header"))
            self.assertEqual(self.found, [])

    def test_followed_nowhere(self) -> None:
        """A URI that cannot be called is a failure of the call, not of the application."""
        for target, status in (
            ("<tel:+12015550123>", 416),
            ("<mailto:c@h>", 416),
            (f"<{TARGET};transport=sctp>", 503),
        ):
            self.setUp()
            self.refer(target)
            [referral] = self.found
            following = referral.follow(local_sdp=OFFER)
            self.whole.pump()
            self.assertEqual(self.failureResultOf(following, SipError).value.status, status, target)
            self.assertIn(f"SIP/2.0 {status}", self.told()[-1])
            self.assertTrue(self.dialog.connected)

    def test_followed(self) -> None:
        """Oddly written ones are called."""
        for target in (
            f"<{TARGET};transport=udp;>",
            f"{TARGET}?Replaces=a%22b%3Bto-tag%3D1%3Bfrom-tag%3D2",
        ):
            self.setUp()
            self.refer(target)
            self.told()
            self.found[0].follow(local_sdp=OFFER).addErrback(lambda failure: None)
            invite = self.whole.request()
            self.assertEqual(invite.method, "INVITE")
            if "Replaces" in target:
                self.assertEqual(invite.get("Replaces"), 'a"b;to-tag=1;from-tag=2')

    def test_own_slip(self) -> None:
        """What the application does wrong stays its own fault."""
        self.refer(f"<{TARGET}>")
        with self.assertRaises(LocalProtocolError):
            self.found[0].follow(local_sdp=OFFER, headers={"X": "a\r\nb"})


class ProxyTests(PhoneTestCase):
    def test_uri_of_the_caller(self) -> None:
        """A Request-URI that cannot be proxied is a refusal, which the caller gets."""

        @self.srf.message
        async def forward(req: Request, res: Response) -> None:
            await self.srf.proxy_request(req)

        self.whole.pump()
        self.arrive(request("MESSAGE").replace("sip:app@127.0.0.1:32060 SIP", "im:app@h SIP", 1))
        self.assertEqual(self.response().status, 416)
        self.assertEqual(len(self.flushLoggedErrors(SipError)), 1)
