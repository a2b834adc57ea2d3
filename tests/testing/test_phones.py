"""Phones of the kit: each thing that they can do is done with a real application and server."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Dialog, Request, Response, SipError, Srf, accept_refer, transfer
from drachtwist.middleware import DigestAuth, Registrar
from drachtwist.sip import Request as SipRequest
from drachtwist.sip import Response as SipResponse
from drachtwist.sip.sdp import Sdp
from drachtwist.testing import Call, PhoneError, SipTests
from tests.testing.applications import answering, switch


def heads(messages: list[SipRequest | SipResponse]) -> list[str]:
    """Return methods and statuses."""
    return [one.method if isinstance(one, SipRequest) else str(one.status) for one in messages]


class CallerTests(SipTests, SynchronousTestCase):
    def test_refused(self) -> None:
        """A call that is refused is over, and says with what."""
        self.sip.serve(answering())
        call = self.sip.phone("alice").invite("closed")
        self.assertEqual((call.state, call.status, call.ended_by), ("over", 480, "peer"))
        self.assertEqual([one.status for one in call.responses], [100, 480])
        self.assertEqual(self.failureResultOf(call.when_answered(), SipError).value.status, 480)

    def test_given_up(self) -> None:
        """Who hangs up while it rings sends a CANCEL, and gets 487."""
        self.sip.serve(switch(self.sip))
        alice, bob = self.sip.phone("alice"), self.sip.phone("bob")
        call = alice.invite("bob")
        bob.ring()
        self.assertEqual((call.state, bob.call.state), ("ringing", "ringing"))
        call.hang_up()
        self.assertEqual((call.status, bob.call.status), (487, 487))
        self.assertEqual((call.ended_by, bob.call.ended_by), ("self", "peer"))
        self.sip.assert_idle()

    def test_nobody_answers(self) -> None:
        """A phone that nobody answers repeats its INVITE, and gives up after 32 s."""
        self.sip.serve(answering())
        alice = self.sip.phone("alice")
        alice.link.cut()
        call = alice.invite("x")
        self.sip.advance(31)
        self.assertEqual((call.state, heads(alice.sent)), ("calling", ["INVITE"] * 6))
        self.sip.advance(2)
        self.assertEqual((call.state, call.status, call.ended_by), ("over", 408, None))

    def test_password(self) -> None:
        """A phone with a password answers who asks, and repeats its credentials in the ACK."""
        srf = Srf()
        srf.use(DigestAuth("example.net", lambda user, realm: {"alice": "secret"}.get(user)))
        srf.use(answering())
        self.sip.serve(srf)
        call = self.sip.phone("alice", password="secret").invite("x")
        self.assertEqual([one.status for one in call.responses], [100, 401, 100, 180, 200])
        self.assertTrue(call.up)
        self.assertEqual(self.sip.phone("bob", password="wrong").invite("x").status, 401)
        self.assertEqual(self.sip.phone("carol").invite("x").status, 401)

    def test_late_offer(self) -> None:
        """A call without an offer gets one in the answer, and answers it in the ACK."""
        srf = Srf()
        acks: list[str] = []

        @srf.invite
        async def answer(req: Request, res: Response) -> None:
            offer = "v=0\r\no=- 1 1 IN IP4 10.9.9.9\r\ns=-\r\nc=IN IP4 10.9.9.9\r\nt=0 0\r\n"
            call = await srf.create_uas(
                req, res, local_sdp=offer + "m=audio 1000 RTP/AVP 0\r\na=sendonly\r\n"
            )
            ack = await call.when_acked()
            acks.append("" if ack is None else ack.text)

        self.sip.serve(srf)
        call = self.sip.phone("alice").invite("x", sdp="")
        [ack] = acks
        self.assertEqual(Sdp(ack).media[0].direction, "recvonly")
        self.assertEqual(call.invite.body, b"")
        self.assertEqual(str(call.remote_sdp).count("10.9.9.9"), 2)

    def test_own_description(self) -> None:
        """A phone, or a call, may have a session description of its own."""
        own = "v=0\r\no=me 1 1 IN IP4 1.2.3.4\r\ns=-\r\nc=IN IP4 1.2.3.4\r\nt=0 0\r\n"
        self.sip.serve(switch(self.sip))
        alice = self.sip.phone("alice")
        bob = self.sip.phone("bob", answers=200, sdp=own + "m=audio 9 RTP/AVP 0\r\n")
        call = alice.invite("bob", sdp=lambda one: own + f"m=audio {one.port} RTP/AVP 8\r\n")
        self.assertEqual(bob.call.remote_sdp and bob.call.remote_sdp.media[0].formats, ["8"])
        self.assertEqual(call.remote_sdp and call.remote_sdp.media[0].port, 9)

    def test_headers(self) -> None:
        """Headers of a call replace those of the phone, which all its calls have."""
        srf = Srf()
        seen: list[list[str]] = []

        @srf.invite
        def refuse(req: Request, res: Response) -> None:
            seen.append([*req.get_all("X-A"), *req.get_all("X-B"), *req.get_all("From")])
            res.send(486, headers={"Retry-After": "5"})

        self.sip.serve(srf)
        alice = self.sip.phone("alice", headers={"X-A": "phone", "X-B": "phone"})
        call = alice.invite("x", headers={"X-A": ["1", "2"], "From": "<sip:a@b>;tag=9"})
        self.assertEqual(seen, [["1", "2", "phone", "<sip:a@b>;tag=9"]])
        self.assertEqual(call.response and call.response.get("Retry-After"), "5")


class CalledTests(SipTests, SynchronousTestCase):
    def calling(self, **options: object) -> tuple[Srf, Deferred[Dialog]]:
        """Let an application call bob."""
        srf = Srf()
        self.sip.serve(srf)
        self.sip.phone("bob", **options)  # type: ignore[arg-type]
        offer = "v=0\r\no=- 1 1 IN IP4 10.9.9.9\r\ns=-\r\nc=IN IP4 10.9.9.9\r\nt=0 0\r\n"
        offer += "m=audio 1000 RTP/AVP 8 0\r\n"
        calling = srf.create_uac(self.sip.phones["bob"].uri, local_sdp=offer)
        self.addCleanup(calling.addErrback, lambda _: None)
        self.sip.settle()
        return srf, calling

    def test_by_hand(self) -> None:
        """A phone that waits rings and answers when it is told."""
        _, calling = self.calling()
        bob = self.sip.phones["bob"]
        self.assertEqual((bob.call.state, bob.call.outgoing), ("calling", False))
        bob.ring(183, sdp=True)
        self.assertNoResult(calling)
        bob.answer()
        dialog = self.successResultOf(calling)
        self.assertEqual(Sdp(dialog.remote.sdp).media[0].formats, ["8", "0"])
        self.assertEqual((bob.call.state, bob.call.acked), ("up", True))
        dialog.destroy()
        self.sip.settle()
        self.assertEqual((bob.call.state, bob.call.ended_by), ("over", "peer"))
        self.sip.assert_idle()

    def test_waiting_long(self) -> None:
        """A phone that waits says 100 after a moment, so that the INVITE is not repeated."""
        self.calling()
        self.sip.advance(20)
        bob = self.sip.phones["bob"]
        self.assertEqual((heads(bob.received), heads(bob.sent)), (["INVITE"], ["100"]))

    def test_statuses_in_order(self) -> None:
        """Several statuses come in their order, the final one after the ringing."""
        _, calling = self.calling(answers=(181, 183, 486), rings=2)
        self.sip.advance(1)
        self.assertNoResult(calling)
        self.sip.advance(1)
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 486)
        self.assertEqual(heads(self.sip.phones["bob"].sent), ["181", "183", "486"])

    def test_function(self) -> None:
        """A function decides call by call."""

        def decide(call: Call) -> None:
            call.refuse(302, headers={"Contact": "<sip:carol@10.0.1.2>"})

        srf, calling = self.calling(answers=decide)
        error = self.failureResultOf(calling, SipError).value
        self.assertEqual(
            (error.status, error.response.get("Contact")), (302, "<sip:carol@10.0.1.2>")
        )
        carol = self.sip.phone("carol", answers=200)
        calling = srf.create_uac(self.sip.phones["bob"].uri, local_sdp="", follow_redirects=True)
        self.sip.settle()
        self.successResultOf(calling)
        self.assertTrue(carol.call.up)

    def test_reliable(self) -> None:
        """A reliable 183 is repeated until its PRACK comes."""
        srf = Srf()
        self.sip.serve(srf)
        bob = self.sip.phone("bob")
        bob.link.lose(1, "PRACK")
        srf.create_uac(bob.uri, local_sdp="", headers={"Supported": "100rel"}).addErrback(
            lambda _: None
        )
        self.sip.settle()
        bob.ring(183, reliable=True)
        self.sip.advance(3)
        self.assertIn("PRACK", heads(bob.received))
        number = bob.call.invite.cseq.number
        self.assertEqual([one.get("RAck") for one in bob.call.requests], [f"1 {number} INVITE"])
        sent = len(bob.sent)
        self.sip.advance(20)
        self.assertEqual(len(bob.sent), sent)

    def test_answer_is_repeated(self) -> None:
        """A 200 is repeated until the ACK comes, and the call ended when it does not."""
        self.sip.serve(switch(self.sip))
        alice, bob = self.sip.phone("alice"), self.sip.phone("bob")
        alice.invite("bob")
        bob.link.lose(2, "ACK")
        bob.answer()
        self.assertEqual((bob.call.acked, bob.call.up), (False, True))
        self.sip.advance(2)
        self.assertEqual((bob.call.acked, heads(bob.sent).count("200")), (True, 3))
        bob.hang_up()
        alice.invite("bob")
        bob.link.lose(None, "ACK")
        bob.answer()
        self.sip.advance(33)
        self.assertEqual((bob.call.state, bob.call.ended_by), ("over", "self"))

    def test_wrong_moments(self) -> None:
        """What a call cannot do now is an error that says why."""
        self.calling(answers=200)
        bob = self.sip.phones["bob"]
        call = bob.call
        for wrong, text in (
            (call.answer, "bob cannot answer: the call from .*: it is up"),
            (call.ring, "cannot ring: .*: it is up"),
            (call.refuse, "cannot refuse"),
            (lambda: call.press("x"), "'x' are no keys"),
            (lambda: call.press("1", by="voice"), "'info' or by 'rfc4733'"),
            (lambda: call.press("1", by="rfc4733"), "telephone-event was not agreed on"),
            (bob.ring, "bob has no call to ring: <Call of bob from"),
        ):
            with self.subTest(text):
                self.assertRegex(str(self.assertRaises(PhoneError, wrong)), text)
        call.hang_up()
        self.assertRegex(str(self.assertRaises(PhoneError, call.hang_up)), "it is over")
        self.assertRegex(str(self.assertRaises(PhoneError, call.reinvite)), "it is over")
        self.assertRegex(str(self.assertRaises(PhoneError, bob.refer, "x")), "no call to transfer")


class InCallTests(SipTests, SynchronousTestCase):
    def setUp(self) -> None:
        """Let alice talk to bob."""
        super().setUp()
        self.sip.serve(switch(self.sip))
        self.alice = self.sip.phone("alice")
        self.bob = self.sip.phone("bob", answers=200)
        self.call = self.alice.invite("bob")
        self.assertTrue(self.call.talks_to(self.bob.call))

    def test_keys(self) -> None:
        """Keys arrive as INFO requests, and as events where the sound leads."""
        self.call.press("1#")
        self.assertEqual(self.bob.call.pressed, "1#")
        self.assertEqual([one.method for one in self.bob.call.requests], ["ACK", "INFO", "INFO"])
        self.assertEqual(self.call.telephone_event, "101")
        self.bob.press("5", by="rfc4733")
        self.assertEqual(self.call.pressed, "5")

    def test_hold(self) -> None:
        """Who is on hold hears, and is not heard; it ends with another offer."""
        self.assertEqual(self.call.hold().status, 200)
        self.assertEqual(
            (self.call.hears(self.bob.call), self.bob.call.hears(self.call)), (False, True)
        )
        self.assertTrue(self.bob.call.on_hold)
        self.bob.press("5", by="rfc4733")  # nobody listens
        self.assertEqual(self.call.pressed, "")
        self.call.resume()
        self.assertTrue(self.call.talks_to(self.bob.call))
        self.assertFalse(self.bob.call.on_hold)

    def test_requests(self) -> None:
        """Any request may be sent, and answered otherwise than with 200."""
        self.bob.replies["INFO"] = 415
        exchange = self.call.request("INFO", body="x", content_type="text/plain")
        self.assertEqual(exchange.status, 415)
        self.assertEqual(self.bob.call.requests[-1].text, "x")
        self.bob.replies["INVITE"] = lambda request: 488
        self.assertEqual(self.call.reinvite().status, 488)
        self.assertTrue(self.call.up)

    def test_awaiting_an_exchange(self) -> None:
        """An exchange may be awaited: it gives the final response, or fails when there is none."""

        async def ask() -> int:
            return (await self.call.request("INFO")).status

        self.assertEqual(self.sip.run(ask()), 200)
        self.alice.link.cut()
        with self.assertRaisesRegex(PhoneError, "nobody answered the INFO"):
            self.sip.run(ask())

    def test_ends(self) -> None:
        """Whoever hangs up, both know who did, and nothing is left."""
        self.bob.hang_up()
        self.assertEqual((self.call.ended_by, self.bob.call.ended_by), ("peer", "self"))
        self.assertIs(self.successResultOf(self.call.when_ended()), self.call)
        self.sip.assert_idle()


class TransferTests(SipTests, SynchronousTestCase):
    def test_by_the_application(self) -> None:
        """A phone that is transferred calls the target, and tells how that goes."""
        srf = Srf()
        dialogs: list[Dialog] = []

        @srf.invite
        async def answer(req: Request, res: Response) -> None:
            if req.called_number == "carol":
                await srf.proxy_request(req, req.uri)
            else:
                dialogs.append(await srf.create_uas(req, res, local_sdp=req.body))

        self.sip.serve(srf)
        alice, carol = self.sip.phone("alice"), self.sip.phone("carol", answers=200)
        alice.invite("x")
        outcome = transfer(dialogs[0], carol.uri)
        self.sip.settle()
        self.assertEqual(self.successResultOf(outcome).status, 200)
        self.assertEqual([one.state for one in alice.calls], ["up", "up"])
        self.assertTrue(alice.call.talks_to(carol.call))

    def test_by_a_phone(self) -> None:
        """A phone transfers, and hears how it goes."""
        srf = Srf()

        @srf.invite
        async def answer(req: Request, res: Response) -> None:
            dialog = await srf.create_uas(req, res, local_sdp=req.body)

            @dialog.on_refer
            async def refer(req: Request, res: Response) -> None:
                try:
                    await accept_refer(dialog, req, res).follow(local_sdp="")
                except SipError:
                    return

        self.sip.serve(srf)
        alice, carol = self.sip.phone("alice"), self.sip.phone("carol", answers=486)
        call = alice.invite("x")
        self.assertEqual(call.refer(carol.uri).status, 202)
        self.assertEqual(call.transfer[-1], 486)
        self.assertEqual(carol.call.status, 486)

    def test_replaces(self) -> None:
        """A phone lets a call that names one of its calls take that one's place."""
        self.sip.serve(switch(self.sip))
        alice, bob, carol = (self.sip.phone(name) for name in ("alice", "bob", "carol"))
        bob.answers = 200
        call = alice.invite("bob")
        old = bob.call
        replaced = f"{old.call_id};to-tag={old.local_tag};from-tag={old.remote_tag}"
        carol.send(
            f"INVITE {bob.uri} SIP/2.0\n"
            f"Via: SIP/2.0/UDP {carol.host.host}:5060;branch=z9hG4bKraw\n"
            "From: <sip:carol@x>;tag=raw\nTo: <sip:bob@x>\nCall-ID: raw\nCSeq: 1 INVITE\n"
            f"Contact: <{carol.uri}>\nReplaces: {replaced}\nMax-Forwards: 70\n"
            "Content-Length: 0\n\n",
            (bob.host.host, 5060),
        )
        self.assertEqual((old.state, bob.call.state, call.state), ("over", "up", "over"))


class OutsideTests(SipTests, SynchronousTestCase):
    def test_registration(self) -> None:
        """A phone registers with its password, and is found by its user until it leaves."""
        srf = Srf()
        registrar = Registrar()
        srf.use("register", DigestAuth("example.net", lambda user, realm: "secret"))
        srf.use(registrar)

        @srf.invite
        async def connect(req: Request, res: Response) -> None:
            places = await registrar.find(req.uri)
            if not places:
                res.send(404)
                return
            await srf.create_b2bua(req, res, places[0])

        self.sip.serve(srf)
        alice = self.sip.phone("alice")
        bob = self.sip.phone("bob", password="secret", answers=200)
        self.assertEqual(alice.invite("bob").status, 404)
        self.assertEqual(bob.register(expires=120).status, 200)
        self.assertTrue(alice.invite(bob).talks_to(bob.call))
        self.sip.advance(121)
        self.assertEqual(alice.invite(bob).status, 404)
        self.assertEqual(bob.register().status, 200)
        self.assertEqual(bob.register(expires=0).status, 200)
        self.assertEqual(alice.invite(bob).status, 404)
        self.assertEqual(alice.register().status, 401)

    def test_requests(self) -> None:
        """Messages, OPTIONS and subscriptions go out, and what comes is answered and kept."""
        srf = Srf()
        subscriptions: list[Dialog] = []

        @srf.message
        def text(req: Request, res: Response) -> None:
            res.send(202, headers={"X-Text": req.text})

        @srf.subscribe
        async def subscribe(req: Request, res: Response) -> None:
            dialog = await srf.create_uas(req, res, headers={"Expires": "60"})
            subscriptions.append(dialog)
            headers = {
                "Event": "presence",
                "Subscription-State": "active",
                "Content-Type": "text/plain",
            }
            dialog.notify(headers=headers, body="on")

        self.sip.serve(srf)
        alice = self.sip.phone("alice", replies={"OPTIONS": 486})
        exchange = alice.message("x", "hello")
        self.assertEqual(exchange.response and exchange.response.get("X-Text"), "hello")
        self.assertEqual(alice.options("x").status, 503)
        self.assertEqual(alice.subscribe("x", "presence").status, 202)
        self.assertEqual([one.text for one in alice.requests], ["on"])
        asked = srf.request(alice.uri, method="OPTIONS")
        self.sip.settle()
        self.assertEqual(self.successResultOf(asked).status, 486)
        asked = srf.request(alice.uri, method="PUBLISH")
        self.sip.settle()
        self.assertEqual(self.successResultOf(asked).status, 405)

    def test_nothing_by_itself(self) -> None:
        """A phone that is not automatic sends only what it is told, and keeps what comes."""
        self.sip.serve(answering())
        mallory = self.sip.phone("mallory", automatic=False)
        mallory.send(
            "INVITE sip:closed@10.0.0.1 SIP/2.0\n"
            "Via: SIP/2.0/UDP 10.0.1.1:5060;branch=z9hG4bK1\n"
            "From: <sip:m@x>;tag=1\nTo: <sip:x@x>\nCall-ID: 1\nCSeq: 1 INVITE\n"
            "Contact: <sip:m@10.0.1.1>\nMax-Forwards: 70\nContent-Length: 0"
        )
        self.assertEqual(heads(mallory.received), ["100", "480"])
        self.sip.advance(1)
        self.assertEqual(heads(mallory.received), ["100", "480", "480"])
        mallory.send(b"nonsense\r\n\r\n")
        self.assertEqual(heads(mallory.received), ["100", "480", "480"])
        self.assertIn("nonsense", self.sip.ladder())

    def test_nonsense_comes(self) -> None:
        """What is no message is kept, stands in the ladder, and harms no phone."""
        self.sip.serve(answering())
        alice, mallory = self.sip.phone("alice"), self.sip.phone("mallory", automatic=False)
        alice.ignore(1, "BYE")
        for data in (b"nonsense", b"SIP/2.0 200\r\n\r\n", b"INVITE x SIP/2.0\r\n\r\n", b"\r\n"):
            mallory.send(data, (alice.host.host, 5060))
        self.assertEqual(len(alice.received), 3)
        self.assertEqual(self.sip.ladder().count("not understood"), 3)
        self.assertTrue(alice.invite("x").up)

    def test_ignoring(self) -> None:
        """A phone that hangs does nothing with what comes."""
        srf = Srf()
        self.sip.serve(srf)
        bob = self.sip.phone("bob", answers=200)
        bob.ignore(what="BYE")
        calling = srf.create_uac(bob.uri, local_sdp="")
        self.sip.settle()
        self.successResultOf(calling).destroy()
        self.sip.advance(3)
        self.assertTrue(bob.call.up)
        self.assertGreater(heads(bob.received).count("BYE"), 1)

    def test_leaving(self) -> None:
        """Where a phone was there is nobody, and who calls it learns that at once."""
        srf = Srf()
        self.sip.serve(srf)
        for transport in ("udp", "tcp"):
            phone = self.sip.phone(f"by_{transport}", transport=transport)
            phone.leave()
            calling = srf.create_uac(phone.uri, local_sdp="")
            self.sip.settle()
            self.assertEqual(self.failureResultOf(calling, SipError).value.status, 503)


class LinkTests(SipTests, SynchronousTestCase):
    def setUp(self) -> None:
        """Have an application that answers, and a phone."""
        super().setUp()
        self.sip.serve(answering())
        self.alice = self.sip.phone("alice")

    def test_lost(self) -> None:
        """What is lost is sent again; what does not match passes."""
        self.alice.link.lose(2, "200 INVITE")
        self.alice.link.lose(1, "INVITE")
        call = self.alice.invite("x")
        self.assertEqual(call.status, None)
        self.sip.advance(0.5)
        self.assertEqual((call.status, call.up), (180, False))
        self.sip.advance(0.5)
        self.assertFalse(call.up)
        self.sip.advance(1)
        self.assertTrue(call.up)
        self.assertEqual(self.sip.ladder().count("<lost>"), 3)

    def test_twice(self) -> None:
        """What comes twice is known, and answered twice."""
        self.alice.link.duplicate(None)
        call = self.alice.invite("x")
        self.assertTrue(call.up)
        call.hang_up()
        self.assertEqual(heads(self.alice.received).count("180"), 2)
        self.assertEqual(heads(self.alice.sent).count("ACK"), 2)
        self.sip.assert_idle()

    def test_late(self) -> None:
        """A message that is held back comes after others."""
        self.alice.link.hold_back(5, 1, "180")
        call = self.alice.invite("x")
        self.assertEqual(heads(self.alice.received), ["100", "200"])
        self.sip.advance(5)
        self.assertEqual(heads(self.alice.received), ["100", "200", "180"])
        self.assertTrue(call.up)

    def test_cut(self) -> None:
        """Nothing passes a link that is cut, until it is restored."""
        self.alice.link.cut()
        exchange = self.alice.options("x")
        self.sip.advance(10)
        self.assertEqual(self.alice.received, [])
        self.alice.link.restore()
        self.sip.advance(10)
        self.assertEqual(exchange.status, 503)

    def test_delay(self) -> None:
        """Each message takes its time."""
        self.alice.link.delay = 0.2
        call = self.alice.invite("x")
        self.sip.advance(0.39)
        self.assertIsNone(call.status)
        self.sip.advance(0.02)
        self.assertTrue(call.up)

    def test_function(self) -> None:
        """A function says which messages are meant."""
        self.alice.link.lose(None, lambda one: one.call_id.startswith("nobody"))
        self.assertTrue(self.alice.invite("x").up)
