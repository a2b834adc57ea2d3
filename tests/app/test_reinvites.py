"""re-INVITEs: whose turn it is, who sees them, and what is in their ACK (RFC 3261 section 14)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from drachtwist import B2bua, ConnectionLost, Request, Response, SipError, forward_in_dialog
from drachtwist.app.forking import hunt, simring
from drachtwist.sip import Request as SipRequest
from drachtwist.sip.sdp import Sdp
from tests.app.calling import CallTestCase
from tests.app.test_b2bua import B2buaTestCase
from tests.server.doubles import head, request
from tests.whole import TARGET

A, B = 32070, 32071
SDP_TYPE = "Content-Type: application/sdp"


def sdp(name: str, version: int = 1, *lines: str) -> str:
    """Make a session description with one audio stream."""
    head = ["v=0", f"o={name} 7 {version} IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
    return "".join(f"{line}\r\n" for line in [*head, "m=audio 4000 RTP/AVP 0", *lines])


class TurnTests(CallTestCase):
    """One call of a phone; who may send a re-INVITE when."""

    def setUp(self) -> None:
        """Accept a call that is not acknowledged."""
        super().setUp()
        req, res = self.ring()
        accepting = self.srf.create_uas(req, res, local_sdp=sdp("app"))
        [self.answer] = self.whole.sent()  # type: ignore[assignment]
        self.dialog = self.successResultOf(accepting)

    def reinvite(self, number: int, body: str = "", **options: Any) -> None:
        """Let the phone send a re-INVITE."""
        self.from_a("INVITE", number, SDP_TYPE if body else "", body)

    def test_before_the_ack(self) -> None:
        """A re-INVITE waits for the ACK of our 200."""
        changing = self.dialog.modify(sdp("app", 2))
        self.assertEqual(self.whole.heads(), [])
        self.from_a("ACK", 1)
        asked = self.whole.request()
        self.assertEqual((asked.method, asked.text), ("INVITE", sdp("app", 2)))
        self.whole.respond(asked, 200, body=sdp("alice", 2), port=A)
        self.assertEqual(self.whole.heads(), ["ACK"])
        self.assertEqual(self.successResultOf(changing), sdp("alice", 2).encode())

    def test_before_the_answer(self) -> None:
        """A re-INVITE waits until that of the peer is answered, and acknowledged."""
        kept: list[Response] = []
        self.dialog.on_modify(lambda req, res: kept.append(res))
        self.from_a("ACK", 1)
        self.reinvite(2, sdp("alice", 2))
        changing = self.dialog.modify(sdp("app", 2))
        self.assertEqual(self.whole.heads(), ["100 INVITE"])
        kept[0].send(200, body=sdp("app"))
        self.assertEqual(self.whole.heads(), ["200 INVITE"])
        self.from_a("ACK", 2)
        asked = self.whole.request()
        self.assertEqual(asked.text, sdp("app", 2))
        self.whole.respond(asked, 200, body=sdp("alice", 3), port=A)
        self.successResultOf(changing)

    def test_behind_a_refusal(self) -> None:
        """So does one behind a re-INVITE that is refused."""
        kept: list[Response] = []
        self.dialog.on_modify(lambda req, res: kept.append(res))
        self.from_a("ACK", 1)
        self.reinvite(2, sdp("alice", 2))
        self.dialog.modify(sdp("app", 2)).addErrback(lambda failure: failure.trap(SipError))
        self.assertEqual(self.whole.heads(), ["100 INVITE"])
        kept[0].send(488)
        self.assertEqual(self.whole.heads(), ["488 INVITE", "INVITE"])

    def test_never_confirmed(self) -> None:
        """What is never confirmed holds nothing up for ever."""
        kept: list[Response] = []
        self.dialog.on_modify(lambda req, res: kept.append(res))
        self.from_a("ACK", 1)
        self.reinvite(2, sdp("alice", 2))
        self.whole.heads()
        changing = self.dialog.modify(sdp("app", 2))
        found = self.whole.pass_time(33)
        self.assertEqual([what for _, what in found][:1], ["INVITE"])
        self.assertNoResult(changing)
        self.whole.lose()
        self.failureResultOf(changing, ConnectionLost)

    def test_cut_short(self) -> None:
        """A re-INVITE that waits is over with the dialog, and is not sent behind destroy()."""
        changing = self.dialog.modify(sdp("app", 2))
        ended = self.dialog.destroy()
        self.from_a("ACK", 1)
        bye = self.whole.request()
        self.assertEqual(bye.method, "BYE")
        self.whole.respond(bye, 200, port=A)
        self.whole.pump()
        self.successResultOf(ended)
        self.assertEqual(self.failureResultOf(changing, SipError).value.status, 481)
        self.assertEqual(self.whole.pass_time(70), [])
        self.assertTrue(self.srf.idle)

    def test_one_of_ours_in_line(self) -> None:
        """While one of ours is in line, the peer gets 491."""
        changing = self.dialog.modify(sdp("app", 2))
        self.reinvite(2, sdp("alice", 2))
        self.assertEqual(self.whole.heads(), ["100 INVITE", "491 INVITE"])
        self.from_a("ACK", 1)
        self.whole.respond(self.whole.request(), 200, port=A)
        self.whole.pump()
        self.successResultOf(changing)

    def test_ack_of_this_answer(self) -> None:
        """In a handler of a re-INVITE the ACK of its answer is waited for, not an older one."""
        seen: list[str] = []

        @self.dialog.on_modify
        def changed(req: Request, res: Response) -> None:
            self.dialog.on_ack(lambda ack: seen.append(ack.get("CSeq") if ack else "at once"))
            res.send(200, body=sdp("app", 2))
            self.dialog.on_ack(lambda ack: seen.append(ack.get("CSeq") if ack else "at once"))

        self.from_a("ACK", 1)
        self.reinvite(2, sdp("alice", 2))
        self.assertEqual(seen, [])
        self.from_a("ACK", 1)  # it comes again
        self.assertEqual(seen, [])
        self.from_a("ACK", 2)
        self.assertEqual(seen, ["2 ACK", "2 ACK"])
        self.dialog.on_ack(lambda ack: seen.append("late" if ack is None else "?"))
        self.assertEqual(seen[2:], ["late"])

    def test_old_ack(self) -> None:
        """The answer in an ACK that comes again is not taken for a new one."""
        self.from_a("ACK", 1, SDP_TYPE, sdp("alice", 1))
        self.reinvite(2, sdp("alice", 2))
        self.from_a("ACK", 2)
        self.from_a("ACK", 1, SDP_TYPE, sdp("alice", 1))
        self.assertEqual(self.dialog.remote.sdp, sdp("alice", 2).encode())


class HoldTests(CallTestCase):
    """What a re-INVITE without a handler does to the media."""

    def changed(self, own: str, offer: str, number: int = 2) -> tuple[int, Sdp]:
        """Answer a call, and let the phone change it."""
        if number == 2:
            req, res = self.ring()
            accepting = self.srf.create_uas(req, res, local_sdp=own)
            [self.answer] = self.whole.sent()  # type: ignore[assignment]
            self.from_a("ACK", 1)
            self.dialog = self.successResultOf(accepting)
            self.told: list[str] = []
            self.dialog.on_hold(lambda req: self.told.append("hold"))
            self.dialog.on_unhold(lambda req: self.told.append("unhold"))
            self.dialog.on_refresh(lambda req: self.told.append("refresh"))
        self.from_a("INVITE", number, SDP_TYPE, offer)
        response: Any = self.whole.sent()[-1]
        return response.status, Sdp(response.body)

    def test_ice_restart(self) -> None:
        """A browser that restarts ICE holds nothing: its addresses are placeholders."""
        lines = "c=IN IP4 0.0.0.0\r\na=ice-ufrag:x\r\na=ice-pwd:y\r\na=sendrecv\r\n"
        own = sdp("app").replace("RTP/AVP", "UDP/TLS/RTP/SAVPF") + lines
        offer = own.replace("o=app 7 1", "o=- 8 2").replace("ufrag:x", "ufrag:z")
        status, answer = self.changed(own, offer)
        self.assertEqual((status, str(answer), self.told), (200, own, []))
        self.assertFalse(self.dialog.is_on_hold)

    def test_ipv6(self) -> None:
        """:: holds as 0.0.0.0 does."""
        status, answer = self.changed(sdp("app"), sdp("alice", 2, "c=IN IP6 ::"))
        self.assertEqual((status, answer.media[0].direction), (200, "recvonly"))
        self.assertEqual(self.told, ["hold"])
        status, answer = self.changed("", sdp("alice", 3), 3)
        self.assertEqual((self.told, answer.media[0].direction), (["hold", "unhold"], "sendrecv"))

    def test_other_codec(self) -> None:
        """An offer without a common codec is refused, and the session stays as it was."""
        offer = sdp("alice", 2, "a=sendonly").replace("AVP 0", "AVP 9")
        status, _ = self.changed(sdp("app"), offer)
        self.assertEqual((status, self.told, self.dialog.is_on_hold), (488, [], False))
        self.assertNotEqual(self.dialog.remote.sdp, offer.encode())

    def test_resumed(self) -> None:
        """What is resumed goes the way that it went before, not both ways in any case."""
        own = sdp("app", 1, "a=sendonly") + "m=video 4002 RTP/AVP 97\r\n"
        self.changed(own, sdp("alice", 2) + "m=video 4002 RTP/AVP 97\r\n")
        self.from_a("ACK", 2)
        for how, expected in (
            ("hold", ["inactive", "inactive"]),
            ("hold", ["inactive", "inactive"]),
            ("unhold", ["sendonly", "sendrecv"]),
        ):
            changing = self.dialog.modify(how)
            asked = self.whole.request()
            found = [one.direction for one in Sdp(asked.body).media]
            self.assertEqual(found, expected)
            self.whole.respond(asked, 200, body=sdp("alice", 3), port=A)
            self.whole.heads()
            self.successResultOf(changing)

    def test_no_streams_of_ours(self) -> None:
        """Who describes no stream is asked for nothing else: a refresh leaves the call up."""
        status, answer = self.changed(
            "v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nt=0 0\r\n", sdp("alice", 2)
        )
        self.assertEqual((status, [one.port for one in answer.media]), (200, [0]))

    def test_another_order(self) -> None:
        """Streams are answered in the order of the offer."""
        video = "m=video 4002 RTP/AVP 97\r\na=rtpmap:97 VP8/90000\r\n"
        own = sdp("app") + video
        start, audio = sdp("alice", 2).split("m=")
        status, answer = self.changed(own, f"{start}{video}m={audio}")
        self.assertEqual((status, [one.kind for one in answer.media]), (200, ["video", "audio"]))

    def test_own_description_stays(self) -> None:
        """A narrower answer does not narrow what we can do for the next offer."""
        own = sdp("app").replace("AVP 0", "AVP 0 8")
        _, answer = self.changed(own, sdp("alice", 2, "a=inactive"))
        self.assertEqual(answer.media[0].formats, ["0"])
        _, answer = self.changed("", sdp("alice", 3).replace("AVP 0", "AVP 8"), 3)
        self.assertEqual(answer.media[0].formats, ["8"])


class LateOfferTests(CallTestCase):
    """INVITEs without a description of ours: the 200 has the offer, the ACK the answer."""

    def called(self, **options: Any) -> Any:
        """Call a phone without an offer; the phone makes one."""
        calling = self.srf.create_uac(TARGET, **options)
        self.whole.respond(self.whole.request(), 200, body=sdp("bob"))
        self.whole.pump()
        return self.successResultOf(calling)

    def test_destroyed(self) -> None:
        """A call that owes its ACK gets it before the BYE, and it refuses the offer."""
        dialog = self.called()
        ended = dialog.destroy()
        ack, bye = [one for one in self.whole.sent() if isinstance(one, SipRequest)]
        self.assertEqual((ack.method, bye.method), ("ACK", "BYE"))
        self.assertEqual(ack.get("Content-Type"), "application/sdp")
        self.assertEqual([one.port for one in Sdp(ack.body).media], [0])
        self.whole.respond(bye, 200)
        self.whole.pump()
        self.successResultOf(ended)

    def test_bye(self) -> None:
        """So it is with a BYE by name, and when the answer was in the 200 the ACK is empty."""
        calling = self.srf.create_uac(TARGET, local_sdp=sdp("app"), no_ack=True)
        self.whole.respond(self.whole.request(), 200, body=sdp("bob"))
        self.whole.pump()
        self.successResultOf(calling).bye()
        ack, bye = self.whole.sent()
        self.assertEqual((head(ack), ack.body, head(bye)), ("ACK", b"", "BYE"))

    def test_crossing_a_cancel(self) -> None:
        """A 200 with an offer that crosses our CANCEL is refused in the ACK, and ended."""
        calling = self.srf.create_uac(TARGET)
        asked = self.whole.request()
        self.whole.respond(asked, 180)
        calling.cancel()
        self.whole.heads()
        self.whole.respond(asked, 200, body=sdp("bob"))
        ack, bye = [one for one in self.whole.sent() if isinstance(one, SipRequest)][:2]
        self.assertEqual((ack.method, bye.method), ("ACK", "BYE"))
        self.assertEqual([one.port for one in Sdp(ack.body).media], [0])
        self.failureResultOf(calling)

    def test_slip(self) -> None:
        """What cannot be sent is refused before the ACK is."""
        dialog = self.called()
        self.assertRaises(ValueError, dialog.destroy, {"X": "a\r\nb"})
        self.assertEqual(self.whole.heads(), [])
        dialog.ack(sdp("app"))
        self.assertEqual(self.whole.heads(), ["ACK"])

    def test_crossing(self) -> None:
        """A re-INVITE of ours waits for the ACK that we owe; the peer's gets 491 meanwhile."""
        dialog = self.called()
        changing = dialog.modify(sdp("app", 2))
        self.assertEqual(self.whole.heads(), [])
        dialog.ack(sdp("app"))
        ack, asked = self.whole.sent()
        self.assertEqual((head(ack), ack.text, head(asked)), ("ACK", sdp("app"), "INVITE"))
        assert isinstance(asked, SipRequest)
        self.whole.respond(asked, 200, body=sdp("bob", 2))
        self.whole.pump()
        self.successResultOf(changing)

    def test_reinvite(self) -> None:
        """A re-INVITE without a description is answered in the ACK with our last one."""
        dialog = self.answered_with_media()
        asking = dialog.invite()
        asked = self.whole.request()
        self.assertEqual(asked.body, b"")
        self.whole.respond(asked, 200, body=sdp("alice", 2, "a=sendonly"), port=A)
        ack = self.whole.request()
        self.assertEqual((ack.method, ack.text), ("ACK", sdp("app", 1, "a=recvonly")))
        self.assertEqual(self.successResultOf(asking).status, 200)
        self.assertEqual(dialog.remote.sdp, sdp("alice", 2, "a=sendonly").encode())

    def test_reinvite_left_to_the_application(self) -> None:
        """The ACK of a re-INVITE may be left to the application; destroy() does not forget it."""
        dialog = self.answered_with_media()
        asking = dialog.invite(no_ack=True)
        self.whole.respond(self.whole.request(), 200, body=sdp("alice", 2), port=A)
        self.assertEqual(self.whole.heads(), [])
        self.assertEqual(self.successResultOf(asking).text, sdp("alice", 2))
        dialog.ack(sdp("app", 2))
        ack = self.whole.request()
        self.assertEqual((ack.text, dialog.local.sdp), (sdp("app", 2), sdp("app", 2).encode()))
        dialog.invite(no_ack=True)
        self.whole.respond(self.whole.request(), 200, body=sdp("alice", 3), port=A)
        self.whole.heads()
        dialog.destroy()
        self.assertEqual(self.whole.heads(), ["ACK", "BYE"])

    def answered_with_media(self) -> Any:
        """Let a call come, and answer it."""
        req, res = self.ring()
        accepting = self.srf.create_uas(req, res, local_sdp=sdp("app"))
        [self.answer] = self.whole.sent()  # type: ignore[assignment]
        self.from_a("ACK", 1)
        return self.successResultOf(accepting)


class BridgedTests(B2buaTestCase):
    """re-INVITEs between the two sides of a call."""

    def from_b(self, method: str, number: int, body: str = "", extra: str = "") -> None:
        """Let the called party send something in its dialog."""
        invite = self.invite
        lines = [
            f"{method} sip:127.0.0.1:32060 SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{B};branch=z9hG4bK-b-{method}-{number}",
            f"From: {invite.get('To')};tag=b",
            f"To: {invite.get('From')}",
            f"Call-ID: {invite.get('Call-ID')}",
            f"CSeq: {number} {method}",
            "Max-Forwards: 70",
            f"Contact: <{TARGET}>",
            *extra.splitlines(),
            *([SDP_TYPE] if body else []),
            f"Content-Length: {len(body)}",
        ]
        self.whole.receive("\n".join(lines) + "\n\n" + body, B)

    def connect(self, how: str, **options: Any) -> Deferred[B2bua]:
        """Let a call come, and connect it in one of several ways; forward once both are there."""
        self.whole.receive(request("INVITE", body=sdp("alice")), A)
        self.to_a()
        req, res = self.kept[-1]
        if how == "simring":
            calling = simring(self.srf, req, res, [TARGET])
        elif how == "hunt":
            calling = hunt(self.srf, req, res, [TARGET])
        else:
            calling = self.srf.create_b2bua(req, res, TARGET, **options)

        async def call() -> B2bua:
            both = await calling
            forward_in_dialog(both.uas, both.uac)
            return both

        bridging = Deferred.fromCoroutine(call())
        self.invite = self.invite_b()
        return bridging

    def up_with_media(self, **options: Any) -> B2bua:
        """Connect a call, up to both ACKs."""
        bridging = self.connect("b2bua", **options)
        self.whole.respond(self.invite, 200, body=sdp("bob"))
        a, _ = self.split()
        [self.answer] = a
        self.ack_from_a()
        return self.successResultOf(bridging)

    def test_at_once(self) -> None:
        """B's re-INVITE right behind its 200 reaches A, when A's ACK has come."""
        for how in ("b2bua", "simring", "hunt"):
            self.setUp()
            bridging = self.connect(how)
            pump = self.whole.pump
            self.whole.pump = lambda: None  # type: ignore[method-assign]
            self.whole.respond(self.invite, 200, body=sdp("bob"))
            self.from_b("INVITE", 1, sdp("bob", 2, "a=sendonly"))
            self.from_b("INFO", 2)
            self.whole.pump = pump  # type: ignore[method-assign]
            a, b = self.split()
            self.assertEqual([head(one) for one in a], ["200 INVITE", "INFO"], how)
            self.assertEqual([head(one) for one in b], ["100 INVITE", "ACK"], how)
            self.answer = a[0]
            self.ack_from_a()
            [asked] = self.to_a()
            self.assertEqual(asked.text, sdp("bob", 2, "a=sendonly"))
            self.whole.respond(asked, 200, body=sdp("alice", 2, "a=recvonly"), port=A)
            a, b = self.split()
            self.assertEqual([head(one) for one in a], ["ACK"])
            self.assertEqual(
                [(head(one), one.text) for one in b][:1],
                [("200 INVITE", sdp("alice", 2, "a=recvonly"))],
            )
            self.assertEqual(self.successResultOf(bridging).uac.connected, True)

    def test_while_the_answer_is_made(self) -> None:
        """What B asks while A's answer is made is seen by handlers that come with the pair."""
        later: Deferred[str] = Deferred()
        bridging = self.connect("b2bua", local_sdp_a=lambda sdp, response: later)
        self.whole.respond(self.invite, 200, body=sdp("bob"))
        self.from_b("INFO", 1)
        self.assertEqual([head(one) for one in self.to_b()], ["ACK"])
        later.callback(sdp("us"))
        a, b = self.split()
        self.assertEqual(([head(one) for one in a], b), (["200 INVITE", "INFO"], []))
        self.successResultOf(bridging)

    def test_late_offer_at_the_beginning(self) -> None:
        """With a late offer A's ACK comes first; what A asks behind it is seen, too."""
        self.whole.receive(request("INVITE"), A)
        self.to_a()
        req, res = self.kept[-1]
        later: Any = ""
        calling = self.srf.create_b2bua(req, res, TARGET, local_sdp_b=lambda sdp, _: later)
        calling.addCallback(lambda both: forward_in_dialog(both.uas, both.uac))
        self.invite = self.invite_b()
        self.whole.respond(self.invite, 200, body=sdp("bob"))
        [self.answer] = self.to_a()
        later = Deferred()
        self.ack_from_a(sdp("alice"))
        self.from_a("INFO", 2)
        self.assertEqual(self.split(), ([], []))
        later.callback(sdp("alice"))
        self.assertEqual([head(one) for one in self.to_b()], ["ACK", "INFO"])

    def test_late_offer_for_several(self) -> None:
        """So it is when several targets are called."""
        self.whole.receive(request("INVITE"), A)
        self.to_a()
        req, res = self.kept[-1]
        calling = simring(self.srf, req, res, [TARGET])
        self.whole.respond(self.invite_b(), 200, body=sdp("bob"))
        [self.answer] = self.to_a()
        self.assertEqual(self.answer.text, sdp("bob"))
        self.ack_from_a(sdp("alice"))
        [ack] = self.to_b()
        self.assertEqual((head(ack), ack.text), ("ACK", sdp("alice")))
        self.successResultOf(calling)

    def test_late_offer_that_fails(self) -> None:
        """When no answer can be made, both sides are hung up on."""

        def fails(sdp: bytes, req: Any) -> bytes:
            return b"" if not sdp else sdp[9999]  # type: ignore[return-value]

        self.whole.receive(request("INVITE"), A)
        self.to_a()
        req, res = self.kept[-1]
        calling = self.srf.create_b2bua(req, res, TARGET, local_sdp_b=fails)
        self.whole.respond(self.invite_b(), 200, body=sdp("bob"))
        [self.answer] = self.to_a()
        self.ack_from_a(sdp("alice"))
        a, b = self.split()
        self.assertEqual([head(one) for one in a], ["BYE"])
        self.assertEqual([head(one) for one in b], ["ACK", "BYE"])
        self.failureResultOf(calling, IndexError)

    def test_late_offer(self) -> None:
        """A re-INVITE without a description: B's offer goes to A, and A's answer to B's ACK."""
        uas, uac = self.up_with_media()
        self.from_a("INVITE")
        a, b = self.split()
        self.assertEqual([head(one) for one in a], ["100 INVITE"])
        [asked] = b
        self.assertEqual((head(asked), asked.body), ("INVITE", b""))
        self.whole.respond(asked, 200, body=sdp("bob", 2))
        a, b = self.split()
        self.assertEqual(b, [])
        self.assertEqual([(head(one), one.text) for one in a], [("200 INVITE", sdp("bob", 2))])
        text = request(
            "ACK",
            number=2,
            branch="ack2",
            to_tag=self.answer.to.tag,
            extra=SDP_TYPE,
            body=sdp("alice", 2),
        )
        self.whole.receive(text, A)
        [ack] = self.to_b()
        self.assertEqual((ack.method, ack.text), ("ACK", sdp("alice", 2)))
        self.assertEqual(ack.cseq.number, asked.cseq.number)
        self.assertEqual(uas.remote.sdp, sdp("alice", 2).encode())
        self.assertEqual(uac.local.sdp, sdp("alice", 2).encode())
        self.assertEqual(uac.remote.sdp, sdp("bob", 2).encode())

    def test_late_offer_without_an_answer(self) -> None:
        """When A's ACK has no answer, or never comes, B gets what it had."""
        self.up_with_media()
        for number, acked in ((2, True), (3, False)):
            self.from_a("INVITE", number)
            _, [asked] = self.split()
            self.whole.respond(asked, 200, body=sdp("bob", number))
            self.split()
            if acked:
                text = request("ACK", number=2, branch="ack2", to_tag=self.answer.to.tag)
                self.whole.receive(text, A)
            else:
                self.whole.clock.pump([0.5] * 45)
            _, b = self.split()
            self.assertEqual([(head(one), one.text) for one in b], [("ACK", sdp("alice"))])

    def test_late_offer_cut_short(self) -> None:
        """When A hangs up instead of answering, B gets its ACK all the same."""
        uas, uac = self.up_with_media()
        self.from_a("INVITE")
        _, [asked] = self.split()
        self.whole.respond(asked, 200, body=sdp("bob", 2))
        self.split()
        self.from_a("BYE", 3)
        _, b = self.split()
        self.assertEqual([head(one) for one in b], ["ACK"])
        self.assertFalse(uas.connected)
        self.assertTrue(uac.connected)

    def test_both_at_once(self) -> None:
        """Two re-INVITEs that meet in the application do not wait for each other."""
        later: list[Deferred[bytes]] = []

        def slowly(sdp: bytes) -> Deferred[bytes]:
            later.append(Deferred())
            return later[-1]

        bridging = self.bridge(body=sdp("alice"))
        self.invite = self.invite_b()
        self.whole.respond(self.invite, 200, body=sdp("bob"))
        [self.answer], _ = self.split()
        self.ack_from_a()
        uas, uac = self.successResultOf(bridging)
        forward_in_dialog(uas, uac, sdp={uas: slowly, uac: slowly})
        self.from_a("INVITE", extra=SDP_TYPE, body=sdp("alice", 2))
        self.from_b("INVITE", 1, sdp("bob", 2))
        a, b = self.split()
        self.assertEqual([head(one) for one in a], ["100 INVITE"])
        self.assertEqual([head(one) for one in b], ["100 INVITE", "491 INVITE"])
        [hook] = later
        hook.callback(sdp("alice", 2).encode())
        a, b = self.split()
        self.assertEqual([head(one) for one in b], ["INVITE"])
        self.whole.respond(b[0], 200, body=sdp("bob", 1))
        later[1].callback(sdp("bob", 1).encode())
        a, b = self.split()
        self.assertEqual(
            ([head(one) for one in a], [head(one) for one in b]), (["200 INVITE"], ["ACK"])
        )

    def test_given_up(self) -> None:
        """The pair may be given up while it is made; nobody is left behind."""
        later: Deferred[str] = Deferred()
        bridging = self.connect("b2bua", local_sdp_a=lambda sdp, response: later)
        bridging.addErrback(lambda failure: None)
        self.whole.respond(self.invite, 200, body=sdp("bob"))
        self.split()
        bridging.cancel()
        _, b = self.split()
        self.assertEqual([head(one) for one in b], ["BYE"])
