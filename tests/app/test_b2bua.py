"""Calls with two sides: set up, refused, cancelled, held, ended."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    HIDE_IDENTITY,
    HIDE_TOPOLOGY,
    B2bua,
    LocalProtocolError,
    Request,
    Response,
    SipError,
    couple,
    forward_in_dialog,
)
from drachtwist.app.bridged_headers import chosen_headers
from drachtwist.sip import Request as SipRequest
from drachtwist.sip import Response as SipResponse
from tests.server.doubles import head, request
from tests.whole import TARGET, Whole

A, B = 32070, 32071
OFFER = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"
ANSWER = "v=0\r\no=bob 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"


class B2buaTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application that keeps the calls that come."""
        self.whole = Whole()
        self.srf = self.whole.srf
        self.kept: list[tuple[Request, Response]] = []

        @self.srf.invite
        def keep(req: Request, res: Response) -> None:
            self.kept.append((req, res))

        self.whole.pump()

    def bridge(self, extra: str = "", body: str = OFFER, **options: Any) -> Deferred[B2bua]:
        """Let a call come, and connect it with somebody."""
        self.whole.receive(request("INVITE", extra=extra, body=body), A)
        self.to_a()
        req, res = self.kept[-1]
        self.before = bytes(req.raw)
        return self.srf.create_b2bua(req, res, TARGET, **options)

    def split(self) -> tuple[list[Any], list[Any]]:
        """Take what was sent to both sides."""
        self.whole.pump()
        sent, self.whole.server.wire.sent = self.whole.server.wire.sent, []
        sides: dict[int, list[Any]] = {A: [], B: []}
        for flow, data in sent:
            kind: Any = SipResponse if data.startswith(b"SIP/2.0") else SipRequest
            sides[flow.remote_port].append(kind.from_bytes(data))
        return sides[A], sides[B]

    def to_a(self) -> list[Any]:
        """Take what was sent to the caller only."""
        a, b = self.split()
        self.assertEqual([head(one) for one in b], [])
        return a

    def to_b(self) -> list[Any]:
        """Take what was sent to the called party only."""
        a, b = self.split()
        self.assertEqual([head(one) for one in a], [])
        return b

    def invite_b(self) -> SipRequest:
        """Take the INVITE for the called party."""
        [invite] = self.to_b()
        assert isinstance(invite, SipRequest)
        return invite

    def up(self, **options: Any) -> B2bua:
        """Connect a call, up to both ACKs."""
        bridging = self.bridge(**options)
        self.whole.respond(self.invite_b(), 200, body=ANSWER)
        a, b = self.split()
        self.assertEqual([head(one) for one in b], ["ACK"])
        [self.answer] = a
        self.ack_from_a()
        return self.successResultOf(bridging)

    def ack_from_a(self, body: str = "") -> None:
        """Let the caller acknowledge the answer."""
        text = request("ACK", branch="ack", to_tag=self.answer.to.tag, body=body)
        self.whole.receive(text, A)

    def from_a(self, method: str, number: int = 2, extra: str = "", body: str = "") -> None:
        """Let the caller send a request in the dialog."""
        tag = self.answer.to.tag
        text = request(method, number=number, to_tag=tag, extra=extra, body=body)
        self.whole.receive(text, A)


class SetUpTests(B2buaTestCase):
    def test_answered(self) -> None:
        """Both sides get each other's session description; B is acknowledged first."""
        bridging = self.bridge()
        invite = self.invite_b()
        self.assertEqual((invite.uri, invite.text), (TARGET, OFFER))
        self.assertEqual((invite.calling_number, invite.calling_name), ("alice", "Alice"))
        self.whole.respond(invite, 180)
        self.assertEqual([head(one) for one in self.to_a()], ["180 INVITE"])
        self.whole.respond(invite, 200, body=ANSWER)
        a, b = self.split()
        self.assertEqual(
            ([head(one) for one in a], [head(one) for one in b]), (["200 INVITE"], ["ACK"])
        )
        self.assertEqual(a[0].text, ANSWER)
        uas, uac = self.successResultOf(bridging)
        self.assertEqual((uas.type, uac.type), ("uas", "uac"))
        self.assertEqual(bytes(uas.req.raw), self.before)

    def test_refused(self) -> None:
        """A refusal is passed on, with its phrase and the headers that are asked for."""
        bridging = self.bridge(proxy_response_headers=["Retry-After"])
        self.whole.respond(self.invite_b(), 486, headers={"Retry-After": "5", "X-A": "1"})
        a, b = self.split()
        self.assertEqual([head(one) for one in b], ["ACK"])
        [refusal] = a
        self.assertEqual((refusal.status, refusal.reason), (486, "Whatever"))
        self.assertEqual((refusal.get("Retry-After"), refusal.get("X-A")), ("5", None))
        self.assertEqual(self.failureResultOf(bridging, SipError).value.status, 486)

    def test_another_attempt(self) -> None:
        """A refusal may stay unsaid, and another one be called."""
        bridging = self.bridge(pass_failure=False)
        self.whole.respond(self.invite_b(), 503)
        self.failureResultOf(bridging, SipError)
        self.split()
        req, res = self.kept[-1]
        again = self.srf.create_b2bua(req, res, TARGET)
        self.whole.respond(self.invite_b(), 200, body=ANSWER)
        self.assertEqual([head(one) for one in self.split()[0]], ["200 INVITE"])
        self.successResultOf(again)

    def test_cancelled(self) -> None:
        """When A gives up B is cancelled, with A's reason."""
        bridging = self.bridge()
        invite = self.invite_b()
        self.whole.respond(invite, 180)
        self.split()
        self.whole.receive(request("CANCEL", extra='Reason: SIP;cause=200;text="elsewhere"'), A)
        a, b = self.split()
        self.assertEqual([head(one) for one in a], ["200 CANCEL", "487 INVITE"])
        [cancel] = b
        self.assertEqual(cancel.get("Reason"), 'SIP;cause=200;text="elsewhere"')
        self.whole.respond(invite, 487)
        self.assertEqual([head(one) for one in self.to_b()], ["ACK"])
        self.assertEqual(self.failureResultOf(bridging, SipError).value.status, 487)

    def test_cancelled_before_b_is_called(self) -> None:
        """When A gives up while its offer is prepared, B is never called."""
        later: Deferred[str] = Deferred()
        bridging = self.bridge(local_sdp_b=lambda sdp, req: later)
        self.whole.receive(request("CANCEL"), A)
        later.callback(OFFER)
        self.assertEqual(self.split()[1], [])
        self.failureResultOf(bridging, SipError)

    def test_cancel_crosses_the_answer(self) -> None:
        """When B answers as A gives up, B is hung up on."""
        bridging = self.bridge()
        invite = self.invite_b()
        self.whole.respond(invite, 180)
        self.split()
        self.whole.receive(request("CANCEL"), A)
        self.split()
        self.whole.respond(invite, 200, body=ANSWER)
        self.assertEqual([head(one) for one in self.to_b()][:2], ["ACK", "BYE"])
        self.failureResultOf(bridging, SipError)

    def test_early_media(self) -> None:
        """What A gets for B's early media is made once, and used for the answer too."""
        made: list[bytes] = []

        def for_a(sdp: bytes, response: Any) -> str:
            made.append(sdp)
            return "v=0\r\no=us\r\n"

        bridging = self.bridge(local_sdp_a=for_a)
        invite = self.invite_b()
        self.whole.respond(invite, 183, body=ANSWER)
        [early] = self.to_a()
        self.assertEqual((early.status, early.text), (183, "v=0\r\no=us\r\n"))
        self.whole.respond(invite, 200, body=ANSWER)
        self.assertEqual(self.split()[0][0].text, "v=0\r\no=us\r\n")
        self.assertEqual(made, [ANSWER.encode()])
        self.successResultOf(bridging)

    def test_no_provisional(self) -> None:
        """Provisional responses may be kept from A."""
        self.bridge(pass_provisional_responses=False)
        self.whole.respond(self.invite_b(), 180)
        self.assertEqual(self.to_a(), [])

    def test_delayed_offer(self) -> None:
        """Without an offer of A's, B makes one, and A's ACK answers it."""
        bridging = self.bridge(body="")
        invite = self.invite_b()
        self.assertEqual(invite.body, b"")
        self.whole.respond(invite, 200, body=ANSWER)
        [self.answer] = self.to_a()
        self.assertEqual(self.answer.text, ANSWER)
        self.assertNoResult(bridging)
        self.ack_from_a(OFFER)
        [ack] = self.to_b()
        self.assertEqual((ack.method, ack.text), ("ACK", OFFER))
        self.successResultOf(bridging)

    def test_reliable_both_ways(self) -> None:
        """A reliable response of B is acknowledged, and passed on as a reliable one."""
        self.bridge(extra="Supported: 100rel")
        invite = self.invite_b()
        self.whole.respond(invite, 183, headers={"Require": "100rel", "RSeq": "1"}, body=ANSWER)
        a, b = self.split()
        self.assertEqual([head(one) for one in b], ["PRACK"])
        self.assertEqual((a[0].get("Require"), a[0].has("RSeq")), ("100rel", True))

    def test_headers(self) -> None:
        """Headers go along as they are chosen, in both directions; A's request stays as it is."""
        self.bridge(
            "X-A: 1\nX-Drop: 2\nSubject: s",
            proxy_request_headers=["all", "-X-Drop"],
            headers=lambda req: {"X-Who": req.calling_number},
            response_headers=lambda res: {"X-B": res.get("X-C")},
        )
        invite = self.invite_b()
        found = [invite.get(name) for name in ("X-A", "X-Drop", "Subject", "X-Who")]
        self.assertEqual(found, ["1", None, "s", "alice"])
        self.assertEqual(len(invite.vias), 1)
        self.whole.respond(invite, 180, headers={"X-C": "3"})
        self.assertEqual(self.to_a()[0].get("X-B"), "3")
        self.assertEqual(bytes(self.kept[-1][0].raw), self.before)

    def test_failing_hook(self) -> None:
        """When there is no answer for A, B is hung up on, and A hears 500."""

        def fails(sdp: bytes, response: Any) -> str:
            raise ZeroDivisionError

        bridging = self.bridge(local_sdp_a=fails)
        self.whole.respond(self.invite_b(), 200, body=ANSWER)
        self.assertEqual([head(one) for one in self.to_b()], ["ACK", "BYE"])
        self.failureResultOf(bridging, ZeroDivisionError)


class UpTests(B2buaTestCase):
    def test_coupled(self) -> None:
        """The end of one side is the end of the other, with its Reason."""
        uas, uac = self.up()
        couple(uas, uac)
        self.from_a("BYE", extra="Reason: Q.850;cause=16")
        a, b = self.split()
        self.assertEqual([head(one) for one in a], ["200 BYE"])
        [bye] = b
        self.assertEqual((bye.method, bye.get("Reason")), ("BYE", "Q.850;cause=16"))
        self.whole.respond(bye, 200)
        self.whole.pass_time(80, 1.0)
        self.assertTrue(self.srf.idle)

    def test_forwarded(self) -> None:
        """Requests in one dialog go on in the other, and their responses come back."""
        uas, uac = self.up()
        forward_in_dialog(uas, uac)
        self.from_a("INFO", extra="Content-Type: text/plain\nX-A: 1", body="5")
        [info] = self.to_b()
        self.assertEqual((info.method, info.text, info.get("X-A")), ("INFO", "5", "1"))
        self.assertEqual(info.get("Content-Type"), "text/plain")
        self.whole.respond(info, 415, headers={"Accept": "a/b"})
        [refusal] = self.to_a()
        self.assertEqual((head(refusal), refusal.get("Accept")), ("415 INFO", "a/b"))

    def test_reinvite_is_forwarded(self) -> None:
        """A re-INVITE is forwarded with a session description that may be changed."""
        uas, uac = self.up()
        forward_in_dialog(uas, uac, sdp={uac: lambda sdp: sdp.replace(b"alice", b"us")})
        self.from_a("INVITE", body=OFFER.replace("1 1", "1 2"))
        a, b = self.split()
        self.assertEqual([head(one) for one in a], ["100 INVITE"])
        [invite] = b
        self.assertEqual(invite.text, OFFER.replace("1 1", "1 2").replace("alice", "us"))
        self.whole.respond(invite, 200, body=ANSWER)
        a, b = self.split()
        self.assertEqual([head(one) for one in b], ["ACK"])
        self.assertEqual([(head(one), one.text) for one in a], [("200 INVITE", ANSWER)])


class ReferTests(B2buaTestCase):
    """A REFER has another number on the other side, and NOTIFYs name it by its number."""

    def setUp(self) -> None:
        """Pass two REFERs of A on, of which B has not answered the second."""
        super().setUp()
        forward_in_dialog(*self.up())
        self.refers = [self.refer(7), self.refer(9)]
        self.whole.respond(self.refers[0], 202)
        self.assertEqual([head(one) for one in self.to_a()], ["202 REFER"])

    def refer(self, number: int) -> SipRequest:
        """Let A send a REFER, and take what B gets."""
        self.from_a("REFER", number=number, extra="Refer-To: <sip:carol@127.0.0.1>")
        [refer] = self.to_b()
        assert isinstance(refer, SipRequest)
        self.assertNotEqual(refer.cseq.number, number)
        return refer

    def notify(self, event: str, number: int) -> None:
        """Let B send a NOTIFY in its dialog."""
        [refer, *_] = self.refers
        body = "SIP/2.0 200 OK\r\n"
        lines = [
            f"NOTIFY {refer.contacts[0].uri} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:{B};branch=z9hG4bKnotify{number}",
            "Max-Forwards: 70",
            f"From: {refer.get('To')}",
            f"To: {refer.get('From')}",
            f"Call-ID: {refer.get('Call-ID')}",
            f"CSeq: {number} NOTIFY",
            f"Contact: <sip:bob@127.0.0.1:{B}>",
            f"Event: {event}",
            "Subscription-State: active;expires=60",
            "Content-Type: message/sipfrag",
            f"Content-Length: {len(body)}",
        ]
        self.whole.receive("\n".join(lines) + "\n\n" + body, B)

    def told(self) -> list[str | None]:
        """Say which REFERs A is told of."""
        return [one.get("Event") for one in self.to_a()]

    def test_named_as_it_was_sent(self) -> None:
        """A NOTIFY names the REFER of the side that it goes to; others stay as they are."""
        number = self.refers[0].cseq.number
        for at, (event, told) in enumerate(
            [
                (f"refer;id={number}", "refer;id=7"),
                ("refer", "refer"),
                ("presence;id=7", "presence;id=7"),
            ]
        ):
            self.notify(event, at + 1)
            self.assertEqual(self.told(), [told])

    def test_overtaking(self) -> None:
        """A NOTIFY that comes before the response to its REFER waits for it."""
        self.notify(f"refer;id={self.refers[1].cseq.number}", 1)
        self.assertEqual(self.to_a(), [])
        self.whole.respond(self.refers[1], 202)
        found = self.to_a()
        self.assertEqual([head(one) for one in found], ["202 REFER", "NOTIFY"])
        self.assertEqual(found[1].get("Event"), "refer;id=9")

    def test_refused(self) -> None:
        """A NOTIFY about a REFER that was refused goes on as it came."""
        event = f"refer;id={self.refers[1].cseq.number}"
        self.notify(event, 1)
        self.whole.respond(self.refers[1], 603)
        found = self.to_a()
        self.assertEqual([head(one) for one in found], ["603 REFER", "NOTIFY"])
        self.assertEqual(found[1].get("Event"), event)


class HeaderTests(SynchronousTestCase):
    def test_chosen(self) -> None:
        """A list chooses headers by name, or all but some; what belongs to one side stays there."""
        message = SipRequest("INVITE", "sip:a@b")
        for name, value in (("X-A", "1"), ("X-A", "2"), ("v", "x"), ("Call-ID", "c"), ("X-B", "3")):
            message.add(name, value)
        both = [("X-A", "1"), ("X-A", "2")]
        self.assertEqual(chosen_headers(message, ["x-a"]), [("x-a", "1"), ("x-a", "2")])
        self.assertEqual(chosen_headers(message, ["all", "-x-b"]), both)
        self.assertEqual(chosen_headers(message, []), [])


class EarlyUpdateTests(B2buaTestCase):
    def early(self) -> Any:
        """Ring with early media, reliably on both sides.

        :returns: the INVITE for B.
        """
        self.bridging = self.bridge("Supported: 100rel, timer\n")
        invite = self.invite_b()
        reliable = {"Require": "100rel", "RSeq": "7"}
        self.whole.respond(invite, 183, headers=reliable, body=ANSWER)
        a, b = self.split()
        self.assertEqual([head(one) for one in b], ["PRACK"])
        [self.answer] = a
        self.assertEqual(head(self.answer), "183 INVITE")
        self.whole.respond(b[0], 200)
        self.from_a("PRACK", 2, f"RAck: {self.answer.get('RSeq')} 1 INVITE\n")
        self.assertEqual([head(one) for one in self.to_a()], ["200 PRACK"])
        return invite

    def test_from_b(self) -> None:
        """B changes its early media: it is answered, and A learns of it when it can."""
        changed = ANSWER.replace("bob 1 1", "bob 1 2")
        invite = self.early()
        lines = [
            "UPDATE sip:127.0.0.1:32060 SIP/2.0",
            "Via: SIP/2.0/UDP 127.0.0.1:32071;branch=z9hG4bK-update",
            f"From: {invite.get('To')};tag=b",
            f"To: {invite.get('From')}",
            f"Call-ID: {invite.get('Call-ID')}",
            "CSeq: 5 UPDATE",
            "Max-Forwards: 70",
            f"Contact: <{TARGET}>",
            "Content-Type: application/sdp",
            f"Content-Length: {len(changed)}",
        ]
        self.whole.receive("\n".join(lines) + "\n\n" + changed, B)
        [answer] = self.to_b()
        self.assertEqual((head(answer), answer.text), ("200 UPDATE", OFFER))
        self.whole.respond(invite, 200)
        a, b = self.split()
        self.assertEqual([head(one) for one in b], ["ACK"])
        [self.answer] = a
        self.assertEqual(head(self.answer), "200 INVITE")
        self.ack_from_a()
        uas, uac = self.successResultOf(self.bridging)
        [change] = self.to_a()
        self.assertEqual((head(change), change.text), ("INVITE", changed))
        self.assertEqual(uac.remote.sdp, changed.encode())
        self.whole.respond(change, 488, port=A)
        self.assertTrue(uas.connected)

    def test_from_a(self) -> None:
        """A changes its offer before B has answered: B is asked."""
        self.early()
        self.from_a("UPDATE", 3, "Content-Type: application/sdp\n", OFFER)
        [update] = self.to_b()
        self.assertEqual((head(update), update.text), ("UPDATE", OFFER))
        self.whole.respond(update, 200, body=ANSWER)
        [answer] = self.to_a()
        self.assertEqual((head(answer), answer.text), ("200 UPDATE", ANSWER))


class HidingTests(B2buaTestCase):
    def test_topology(self) -> None:
        """The presets pass headers on, but nothing that tells of networks, or of the caller."""
        extra = (
            "User-Agent: x\nX-Account: 7\nP-Asserted-Identity: <sip:a@b>\nHistory-Info: <sip:c@d>\n"
        )
        for preset, identity in ((HIDE_TOPOLOGY, "<sip:a@b>"), (HIDE_IDENTITY, None)):
            bridging = self.bridge(extra, proxy_request_headers=preset)
            bridging.addErrback(lambda failure: failure.trap(SipError))
            invite = self.invite_b()
            found = [invite.get(name) for name in ("User-Agent", "History-Info", "X-Account")]
            self.assertEqual(found, [None, None, "7"])
            self.assertEqual(invite.get("P-Asserted-Identity"), identity)
            self.whole.respond(invite, 486)
            self.split()
            self.whole.receive(request("ACK", to_tag="x"), A)
            self.whole.clock.advance(40)
            self.split()


class GoneTests(B2buaTestCase):
    """Who has gone, or was answered otherwise, is asked for nothing and told nothing more."""

    def setUp(self) -> None:
        super().setUp()
        self.logged: list[Any] = []
        observer: Any = self.logged.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def unsent(self) -> list[str]:
        """Take what the log says of responses that were not sent."""
        formats = [str(event.get("log_format")) for event in self.logged]
        return [one for one in formats if "sent" in one or "passed" in one]

    def test_early_media_for_nobody(self) -> None:
        """Early media of B's that cross the CANCEL are not made into anything for A."""
        made: list[bytes] = []

        def for_a(sdp: bytes, response: Any) -> bytes:
            made.append(sdp)
            return sdp

        bridging = self.bridge(local_sdp_a=for_a)
        invite = self.invite_b()
        self.whole.receive(request("CANCEL"), A)
        self.split()
        self.whole.respond(invite, 180)
        self.whole.respond(invite, 183, body=ANSWER)
        self.whole.respond(invite, 487)
        self.whole.clock.advance(0)
        self.failureResultOf(bridging, SipError)
        self.assertEqual((made, self.unsent()), ([], []))

    def test_gone_while_early_media_are_made(self) -> None:
        """A gives up while its early media are being made: they are thrown away."""
        later: Deferred[bytes] = Deferred()
        bridging = self.bridge(local_sdp_a=lambda sdp, response: later)
        invite = self.invite_b()
        self.whole.respond(invite, 183, body=ANSWER)
        self.whole.receive(request("CANCEL"), A)
        later.callback(ANSWER.encode())
        self.whole.respond(invite, 487)
        self.whole.clock.advance(0)
        self.failureResultOf(bridging, SipError)
        self.assertEqual(self.unsent(), [])

    def test_answered_by_the_application(self) -> None:
        """An application that refuses A by itself has done so; B's refusal is not passed on."""
        bridging = self.bridge()
        invite = self.invite_b()
        self.kept[-1][1].send(603)
        self.assertEqual([head(one) for one in self.to_a()], ["603 INVITE"])
        self.whole.respond(invite, 486)
        self.whole.clock.advance(0)
        self.assertEqual([head(one) for one in self.to_b()], ["ACK"])
        self.assertEqual(self.failureResultOf(bridging, SipError).value.status, 486)
        self.assertEqual(self.unsent(), [])

    def test_given_up_by_the_application(self) -> None:
        """An application that cancels what it waits for cancels B, and hears of it once."""
        bridging = self.bridge()
        invite = self.invite_b()
        self.whole.respond(invite, 180)
        self.split()
        bridging.cancel()
        self.assertEqual([head(one) for one in self.to_b()], ["CANCEL"])
        self.failureResultOf(bridging)
        self.whole.respond(invite, 487)
        self.split()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_late_offer(self) -> None:
        """B's late offer is refused in the ACK, before the BYE, when A has gone (RFC 3261
        section 13.2.2.4).
        """
        bridging = self.bridge(body="")
        invite = self.invite_b()
        self.kept[-1][1].send(480)
        self.to_a()
        offer = ANSWER + "t=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
        self.whole.respond(invite, 200, body=offer)
        ack, bye = self.to_b()
        self.assertEqual((head(ack), head(bye)), ("ACK", "BYE"))
        self.assertIn("m=audio 0 RTP/AVP 0", ack.text)
        self.failureResultOf(bridging, LocalProtocolError)

    def test_late_offer_without_ack(self) -> None:
        """B's late offer is refused, too, when A is answered and never acknowledges."""
        bridging = self.bridge(body="")
        invite = self.invite_b()
        self.whole.respond(invite, 200, body=ANSWER + "m=audio 4000 RTP/AVP 0\r\n")
        self.assertEqual([head(one) for one in self.to_a()], ["200 INVITE"])
        to_b: list[Any] = []
        for _ in range(70):
            self.whole.clock.advance(0.5)
            to_b += self.split()[1]
        self.assertEqual([head(one) for one in to_b][:2], ["ACK", "BYE"])
        self.assertIn("m=audio 0 RTP/AVP 0", to_b[0].text)
        self.failureResultOf(bridging)


class RedirectTests(B2buaTestCase):
    """Redirects of B's: followed, in order, or told to A."""

    NEXT, LAST = "sip:carol@127.0.0.1:32072", "sip:dave@127.0.0.1:32071"

    def test_followed(self) -> None:
        """The contacts are called, the best first, with A's offer; A hears nothing of it."""
        bridging = self.bridge(follow_redirects=True)
        invite = self.invite_b()
        contacts = [f"<{self.LAST}>;q=0.2", f"<{TARGET};user=phone>;q=0.7"]
        self.whole.respond(invite, 302, headers={"Contact": contacts})
        ack, second = self.to_b()
        self.assertEqual((head(ack), second.uri), ("ACK", f"{TARGET};user=phone"))
        self.assertEqual(second.text, OFFER)
        self.whole.respond(second, 486)
        ack, third = self.to_b()
        self.assertEqual((head(ack), third.uri), ("ACK", self.LAST))
        self.whole.respond(third, 200, body=ANSWER)
        a, b = self.split()
        self.assertEqual([head(one) for one in (*a, *b)], ["200 INVITE", "ACK"])
        self.successResultOf(bridging)

    def test_given_up_meanwhile(self) -> None:
        """A redirect that crosses A's CANCEL is followed nowhere."""
        bridging = self.bridge(follow_redirects=True)
        invite = self.invite_b()
        self.whole.respond(invite, 180)
        self.split()
        self.whole.receive(request("CANCEL"), A)
        self.split()
        self.whole.respond(invite, 302, headers={"Contact": f"<{self.LAST}>"})
        self.assertEqual([head(one) for one in self.to_b()], ["ACK"])
        self.failureResultOf(bridging, SipError)

    def test_told(self) -> None:
        """What nobody follows is told to A, with its contacts, whatever headers are passed on."""
        bridging = self.bridge(proxy_response_headers=["X-Why"])
        contacts = [f"<{self.NEXT}>", f"<{self.LAST}>;q=0.5"]
        headers: dict[str, Any] = {"Contact": contacts, "X-Why": "moved", "X-Not": "1"}
        self.whole.respond(self.invite_b(), 302, headers=headers)
        [redirect] = self.split()[0]
        self.assertEqual((head(redirect), redirect.get_all("Contact")), ("302 INVITE", contacts))
        self.assertEqual((redirect.get("X-Why"), redirect.has("X-Not")), ("moved", False))
        self.failureResultOf(bridging, SipError)


class FailingHookTests(B2buaTestCase):
    """What the application makes of descriptions fails: nobody is left in half a call."""

    LATE = ANSWER + "t=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"

    @staticmethod
    async def fails(*args: Any) -> bytes:
        """Fail, a moment later as it were."""
        raise ZeroDivisionError

    def test_offer(self) -> None:
        """Without an offer for B nobody is called, and A can still be answered."""
        bridging = self.bridge(local_sdp_b=self.fails)
        self.assertEqual(self.split(), ([], []))
        self.failureResultOf(bridging, ZeroDivisionError)
        self.kept[-1][1].send(480)
        self.assertEqual([head(one) for one in self.to_a()], ["480 INVITE"])

    def test_headers(self) -> None:
        """A function of headers that fails does so at once; A can still be answered."""

        def fails(req: Request) -> None:
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            self.bridge(headers=fails)
        self.assertEqual(self.split(), ([], []))
        self.kept[-1][1].send(480)
        self.assertEqual([head(one) for one in self.to_a()], ["480 INVITE"])

    def test_early_media(self) -> None:
        """Early media that A cannot get are logged; the call goes on."""
        made: list[bytes] = []

        def once(sdp: bytes, response: Any) -> bytes:
            made.append(sdp)
            if len(made) == 1:
                raise ZeroDivisionError
            return sdp

        bridging = self.bridge(local_sdp_a=once)
        invite = self.invite_b()
        self.whole.respond(invite, 183, body=ANSWER)
        self.assertEqual(self.split(), ([], []))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.whole.respond(invite, 200, body=ANSWER)
        a, b = self.split()
        self.assertEqual([head(one) for one in (*a, *b)], ["200 INVITE", "ACK"])
        self.successResultOf(bridging)

    def test_late_answer(self) -> None:
        """Without an answer for B's late offer it is refused in the ACK, and both are hung up."""
        bridging = self.bridge(body="", local_sdp_b=lambda sdp, req: self.fails() if sdp else b"")
        self.whole.respond(self.invite_b(), 200, body=self.LATE)
        [self.answer] = self.to_a()
        self.ack_from_a(OFFER)
        a, b = self.split()
        self.assertEqual([head(one) for one in b], ["ACK", "BYE"])
        self.assertIn("m=audio 0 RTP/AVP 0", b[0].text)
        self.assertEqual([head(one) for one in a], ["BYE"])
        self.failureResultOf(bridging, ZeroDivisionError)

    def test_who_is_told(self) -> None:
        """``on_uac`` that fails is logged; the call goes on."""

        def fails(dialog: Any) -> None:
            raise ZeroDivisionError

        self.up(on_uac=fails)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_forwarded(self) -> None:
        """A re-INVITE without an offer whose answer cannot be made still gets its ACK."""
        uas, uac = self.up()
        forward_in_dialog(uas, uac, sdp={uas: self.fails})
        self.from_a("INVITE", 2)
        [invite] = [one for one in self.split()[1] if isinstance(one, SipRequest)]
        self.whole.respond(invite, 200, body=self.LATE)
        a, b = self.split()
        self.assertEqual([head(one) for one in b], ["ACK"])
        self.assertEqual([head(one) for one in a][-1:], ["500 INVITE"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(uas.connected and uac.connected)
