"""Recordings 15 to 27, lived again: bridged calls, requests in dialogs and without, proxies."""

from __future__ import annotations

from collections.abc import Sequence

from tests.interop.live.cases import Different, LiveTestCase
from tests.interop.live.phones import (
    SDP_ALICE,
    SDP_BOB,
    Callee,
    Caller,
    answering,
    calling,
    sdp_alice,
    talking,
)

_LAST_NOTIFY = "The last NOTIFY of a subscription may be answered"
_CONTACT = "The peer's new Contact counts"


class LiveTests(LiveTestCase):
    application = "app_15_27.js"
    different = {
        # The caller's phone accepts the first change by the application with another Contact.
        18: (
            Different(
                "to sip ACK: answer OK ACK #1: recorded 'ACK sip:alice@127.0.0.1:32070 SIP/2.0', "
                "live 'ACK sip:bob@127.0.0.1:32070 SIP/2.0'$",
                _CONTACT,
            ),
            Different(
                "to sip INVITE: answer OK INVITE #2: "
                "recorded 'INVITE sip:alice@127.0.0.1:32070 SIP/2.0', "
                "live 'INVITE sip:bob@127.0.0.1:32070 SIP/2.0'$",
                _CONTACT,
            ),
        ),
        22: (
            Different("not live: to sip 200 NOTIFY: answer NOK", _LAST_NOTIFY),
            Different("only live: to sip 200 NOTIFY: answer OK 200", _LAST_NOTIFY),
        ),
        25: (
            Different("not live: to proxy INVITE: answer continue 480", "the final timeout counts"),
        ),
    }

    async def test_15(self) -> None:
        """Two bridged calls: the caller ends the first, the called phone the second."""
        await self.begin(15)
        await self.app()
        phone = Callee().got("INVITE").answer(180, "Ringing", extra=["X-Bob: ringing here"])
        phone.then().answer(200, "OK", extra=["X-Bob: picked up"], body=SDP_BOB)
        peer = await self.callee(phone.got("ACK").got("BYE").ok())
        extra = ["Subject: lunch", "X-Trace: abc-123", "X-Private: stays on leg A"]
        await self.caller(talking(extra=extra))
        await self.succeeds(peer)
        phone = Callee().got("INVITE").answer(200, "OK", body=SDP_BOB).got("ACK").then()
        phone.request("BYE", 11, contact=False).responded(200)
        peer = await self.callee(phone)
        await self.caller(calling().got_request("BYE").answers())
        await self.compare(peer)

    async def test_16(self) -> None:
        """A called phone is busy; another refuses quietly, and a third answers."""
        await self.begin(16)
        await self.app()
        phone = Callee().got("INVITE").answer(180, "Ringing").then()
        phone.answer(486, "Busy Here", extra=["Retry-After: 20"])
        busy = await self.callee(phone.got("ACK"))
        await self.caller(inviting(180).got(486).refused_ack())
        await self.succeeds(busy)
        phone = Callee().got("INVITE").answer(503, "Service Unavailable")
        refusing = await self.callee(phone.got("ACK"))
        third = await self.callee(answering(), 32072)
        await self.caller(talking())
        await self.compare(refusing, third)

    async def test_17(self) -> None:
        """The caller gives up while the called phone rings."""
        await self.begin(17)
        await self.app()
        peer = await self.callee(cancelled())
        await self.caller(inviting(180).then().cancel().got(200).got(487).refused_ack())
        await self.compare(peer)

    async def test_18(self) -> None:
        """Hold and un-hold by the caller; then two changes by the application, one refused."""
        await self.begin(18)
        await self.app()
        phone = calling()
        for number, direction in ((2, "sendonly"), (3, "sendrecv")):
            phone.then().request("INVITE", number, body=sdp_alice(number, direction))
            phone.got(100, optional=True).got(200).request("ACK", number)
        phone.got_request("INVITE").answers(body=sdp_alice(4)).got_request("ACK")
        phone.got_request("INVITE").answers(488, "Not Acceptable Here", contact=False)
        phone.got_request("ACK").then()
        await self.caller(phone.request("BYE", 4).got(200))
        await self.compare()

    async def test_19(self) -> None:
        """INFO, MESSAGE, OPTIONS and UPDATE in a dialog, both ways."""
        await self.begin(19)
        await self.app()
        phone = calling().then()
        dtmf = ["Signal=1", "Duration=100"]
        phone.request("INFO", 2, body=dtmf, kind="application/dtmf-relay").got(200)
        phone.request("MESSAGE", 3, body=["hi from alice"], kind="text/plain").got(202)
        phone.request("OPTIONS", 4).got(200)
        phone.request("UPDATE", 5, body=sdp_alice(2)).got(200)
        phone.got_request("INFO").answers()
        accept = ["Accept: text/html"]
        phone.got_request("MESSAGE").answers(415, "Unsupported Media Type", extra=accept)
        allow = ["Allow: INVITE, ACK, BYE, CANCEL, INFO"]
        phone.got_request("OPTIONS").answers(extra=allow)
        phone.got_request("UPDATE").answers(body=sdp_alice(3)).then()
        await self.caller(phone.request("BYE", 6).got(200))
        await self.compare()

    async def test_20(self) -> None:
        """Registrations: the right password, and a wrong one."""
        await self.begin(20)
        await self.app()
        for password, status in (("sesame", 200), ("wrong", 403)):
            phone = register(Caller(), extra=["Expires: 300"]).challenged(401)
            answer = f"[authentication username=alice password={password}]"
            await self.caller(register(phone, 2, extra=["Expires: 300", answer]).got(status))
        await self.compare()

    async def test_21(self) -> None:
        """OPTIONS from a phone, and to one."""
        await self.begin(21)
        await self.app()
        allow = ["Allow: INVITE, ACK, BYE, CANCEL"]
        phone = await self.callee(Callee().got("OPTIONS").ok(extra=allow, tag=True))
        await self.caller(Caller().request("OPTIONS").got(200))
        await self.compare(phone)

    async def test_22(self) -> None:
        """The application is subscribed to, and subscribes."""
        await self.begin(22)
        app = await self.app()
        phone = Callee().got("SUBSCRIBE")
        phone.answer(200, "OK", extra=["Expires: 60"])
        for number, state, text in (
            (1, "active;expires=60", "open"),
            (2, "terminated;reason=deactivated", "closed"),
        ):
            extra = ["Event: presence", f"Subscription-State: {state}"]
            phone.then().request("NOTIFY", number, extra=extra, body=[text], kind="text/plain")
            phone.responded(200)
        notifier = await self.callee(phone)
        subscriber = Caller()
        for number, expires, status in ((1, 120, 202), (2, 120, 200), (3, 0, 202)):
            extra = ["Event: presence", f"Expires: {expires}"]
            if number > 1:
                subscriber.then()
            subscriber.request("SUBSCRIBE", number, extra=extra).got(status)
            if number != 2:
                subscriber.got_request("NOTIFY").answers()
        await self.caller(subscriber)
        await self.tell(app, "sip SUBSCRIBE")
        await self.compare(notifier)

    async def test_23(self) -> None:
        """REFER in a dialog, both ways, with its NOTIFYs."""
        await self.begin(23)
        await self.app()
        target = ["Refer-To: " + self.with_live_ports("<sip:carol@127.0.0.1:32073>")]
        phone = calling().then().request("REFER", 2, extra=target).got(202)
        phone.got_request("NOTIFY").answers().got_request("NOTIFY").answers()
        phone.got_request("REFER").answers(202, "Accepted")
        for number, state, status in (
            (3, "active;expires=60", "100 Trying"),
            (4, "terminated;reason=noresource", "200 OK"),
        ):
            extra = ["Event: refer", f"Subscription-State: {state}"]
            body = [f"SIP/2.0 {status}"]
            phone.request("NOTIFY", number, extra=extra, body=body, kind="message/sipfrag")
            phone.got(200).then()
        await self.caller(phone.request("BYE", 5).got(200))
        await self.compare()

    async def test_24(self) -> None:
        """A call is proxied: staying in the dialog, not staying, without all responses."""
        await self.begin(24)

        def phones(stays: bool) -> tuple[Caller, Callee]:
            caller = Caller().request("INVITE", body=SDP_ALICE).got(100, optional=True)
            caller.got(180).got(200).request("ACK")
            callee = Callee(vias=2).got("INVITE").answer(180, "Ringing")
            callee.answer(200, "OK", body=SDP_BOB)
            if stays:
                callee.got("ACK").got("BYE").ok()
                caller.request("BYE", 2).got(200)
            return caller, callee

        for scenario, stays in (("24", True), ("24-not-staying", False)):
            caller, callee = phones(stays)
            peer = await self.callee(callee)
            app = await self.app(scenario)
            await self.caller(caller)
            await self.succeeds(peer)
            await self.app_ends(app)
        caller, callee = phones(stays=True)
        peer = await self.callee(callee)
        client = await self.by_hand(3)
        await client.play(2)
        call = await self.calling(caller)
        await client.play(1)
        await self.compare(call, peer)

    async def test_25(self) -> None:
        """A call is proxied to one phone after the other: refused, silence, and another."""
        await self.begin(25)
        await self.app()
        silent = self.silent(32072)

        def refusing() -> Callee:
            return Callee(vias=2).got("INVITE").answer(404, "Not Found").got("ACK")

        first = await self.callee(refusing())
        phone = Callee(vias=2).got("INVITE").answer(180, "Ringing")
        third = await self.callee(phone.answer(200, "OK", body=SDP_BOB), 32073)
        call = await self.calling(calling())
        await silent.called(1)
        self.later(1.5)
        for peer in (call, first, third):
            await self.succeeds(peer)
        first = await self.callee(refusing())
        third = await self.callee(cancelled(vias=2), 32073)
        call = await self.calling(inviting(180).says("rings").got(404).refused_ack())
        await silent.called(2)
        self.later(1.5)
        await self.heard(call, "rings")
        self.later(3)
        await self.compare(call, first, third)

    async def test_26(self) -> None:
        """A call is proxied to two phones: one answers; then both refuse."""
        await self.begin(26)
        await self.app()
        loser = await self.callee(cancelled(vias=2))
        phone = Callee(vias=2).got("INVITE").answer(180, "Ringing").then(freely=False)
        winner = await self.callee(phone.answer(200, "OK", body=SDP_BOB), 32072)
        caller = inviting(180).got(180).says("both ring").got(200).request("ACK")
        call = await self.calling(caller)
        await self.heard(call, "both ring")
        self.go(winner)
        for peer in (call, loser, winner):
            await self.succeeds(peer)
        phone = Callee(vias=2).got("INVITE").then()
        slow = await self.callee(phone.answer(486, "Busy Here").got("ACK"))
        phone = Callee(vias=2).got("INVITE").answer(404, "Not Found").got("ACK")
        quick = await self.callee(phone, 32072)
        await self.caller(inviting(404).refused_ack())
        await self.compare(slow, quick)

    async def test_27(self) -> None:
        """Nobody has routed what is asked for, except REGISTER."""
        await self.begin(27)
        await self.app()
        await self.caller(inviting(503).refused_ack())
        for method in ("OPTIONS", "MESSAGE", "SUBSCRIBE"):
            await self.caller(Caller().request(method).got(503))
        await self.caller(register(Caller(), name="").got(200))
        await self.compare()


def inviting(status: int) -> Caller:
    """Call, until this response comes."""
    return Caller().request("INVITE", body=SDP_ALICE).got(100, optional=True).got(status)


def register(
    phone: Caller, number: int = 1, *, name: str = '"Alice" ', extra: Sequence[str] = ()
) -> Caller:
    """Register."""
    to = f"{name}<sip:alice@[local_ip]:[local_port]>"
    uri = "sip:[remote_ip]:[remote_port]"
    return phone.request("REGISTER", number, uri=uri, to=to, extra=extra, in_dialog=False)


def cancelled(vias: int = 1) -> Callee:
    """Ring until the CANCEL comes."""
    phone = Callee(vias=vias).got("INVITE").answer(180, "Ringing").got("CANCEL").ok(contact=False)
    return phone.answer(487, "Request Terminated").got("ACK")
