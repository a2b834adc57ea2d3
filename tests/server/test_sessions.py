"""Session timers: agreed on, refreshed by either side, and run out (RFC 4028)."""

from __future__ import annotations

from typing import Any

from drachtwist.errors import LocalProtocolError
from drachtwist.sip import Request
from tests.server.doubles import Bench, head, request
from tests.server.test_uac import CallingTestCase
from tests.server.test_uas import SDP, ServerTestCase, transaction


class CalledTests(ServerTestCase):
    """Somebody calls the application."""

    def session(self, asked: str = "", given: str = "") -> Any:
        """Let a call come up; give the 200."""
        extra = f"Session-Expires: {asked}" if asked else ""
        invite = self.offered(request("INVITE", extra=extra, body=SDP))
        self.bench.take()
        line = f"\r\nSession-Expires: {given}" if given else ""
        message = f"SIP/2.0 200 OK{line}\r\nContent-Type: application/sdp\r\n\r\nv=0 ours"
        self.app.command(f"sip|{invite}|\r\n{message}")
        answer: Any = self.bench.take()[0]
        self.tag = answer.to.tag or ""
        self.bench.receive(request("ACK", branch="ack", to_tag=self.tag))
        self.app.take()
        return answer

    def again(self, extra: str = "", number: int = 2, method: str = "INVITE") -> None:
        """Let the caller refresh."""
        text = request(method, number=number, to_tag=self.tag, extra=extra, body=SDP)
        self.bench.receive(text)

    def expires(self, at: float) -> None:
        """See that the call is ended at a time, and not before."""
        self.assertEqual(self.seen(at - self.bench.clock.seconds() - 0.5), [])
        self.assertEqual(self.seen(0.5), [(at, "BYE")])
        [frame] = self.app.take()
        self.assertIn("|unsolicited|c1;from-tag=a|\r\nBYE ", frame)
        self.assertIn('Reason: SIP;cause=200;text="Session timer expired"', frame)
        self.nothing_left()

    def test_none(self) -> None:
        """Without the header, or without a refresher in it, there is no timer."""
        self.assertFalse(self.session().has("Session-Expires"))
        self.assertEqual(self.bench.core.counts()["deadlines"], 1)

    def test_caller_refreshes(self) -> None:
        """A caller that wanted to refresh and does not, is hung up on."""
        answer = self.session("120;refresher=uac")
        self.assertEqual(answer.get("Session-Expires"), "120;refresher=uac")
        self.expires(120.0)

    def test_minimum(self) -> None:
        """No caller gets less than 90 seconds."""
        answer = self.session("30;refresher=uac")
        self.assertEqual(answer.get("Session-Expires"), "90;refresher=uac")
        self.expires(90.0)

    def test_application_asks(self) -> None:
        """The application may ask by itself; its header goes out as it is."""
        self.assertEqual(self.session("", "60").get("Session-Expires"), "60")
        self.expires(90.0)

    def test_refreshed(self) -> None:
        """A refresh begins the interval again, and the application sees it as any other."""
        self.session("120;refresher=uac")
        self.seen(100)
        self.again("Session-Expires: 120;refresher=uac")
        self.bench.take()
        [frame] = self.app.take()
        self.app.answer(transaction(frame), "SIP/2.0 200 OK")
        [answer] = self.bench.take()
        self.assertEqual(answer.get("Session-Expires"), "120;refresher=uac")
        self.bench.receive(request("ACK", number=2, branch="ack2", to_tag=self.tag))
        self.app.take()
        self.bench.take()
        self.expires(220.0)

    def test_switched_off(self) -> None:
        """A refresh without the header ends the timer."""
        self.session("120;refresher=uac")
        self.again(method="UPDATE")
        [frame] = self.app.take()
        self.app.answer(transaction(frame), "SIP/2.0 200 OK")
        self.bench.take()
        self.assertEqual(self.seen(200), [])

    def test_application_decides(self) -> None:
        """What the application's 200 to a refresh says counts."""
        for given, interval in (("1000;refresher=uac", 1000.0), ("60", 90.0)):
            self.setUp()
            self.session("120;refresher=uac")
            self.again("Session-Expires: 120;refresher=uac", method="UPDATE")
            [frame] = self.app.take()
            self.app.answer(transaction(frame), f"SIP/2.0 200 OK\r\nSession-Expires: {given}")
            self.bench.take()
            self.expires(interval)

    def test_refresh_answered(self) -> None:
        """The 200 to a refresh says what was agreed on, unless the application says it."""
        for asked, given, agreed in (
            ("120;refresher=uac", "", "120;refresher=uac"),
            ("120;refresher=uas", "", "120;refresher=uas"),
            ("120", "", "120;refresher=uas"),
            ("120;refresher=uac", "\r\nSession-Expires: 1000", "1000"),
            ("", "", None),
        ):
            self.setUp()
            self.session("120;refresher=uac")
            self.again(f"Session-Expires: {asked}" if asked else "", method="UPDATE")
            [frame] = self.app.take()
            self.app.answer(transaction(frame), f"SIP/2.0 200 OK{given}")
            [answer] = self.bench.take()
            self.assertEqual(answer.get("Session-Expires"), agreed)

    def test_refresh_requires(self) -> None:
        """A caller who refreshes learns that he has to (RFC 4028 section 9), and learns it once."""
        for given, required in (
            ("", {"timer"}),
            ("\r\nRequire: Timer", {"timer"}),
            ("\r\nRequire: x-timers", {"x-timers", "timer"}),
            ("\r\nRequire: x\r\nRequire: timer", {"x", "timer"}),
        ):
            self.setUp()
            self.session("120;refresher=uac")
            self.again("Session-Expires: 120;refresher=uac", method="UPDATE")
            [frame] = self.app.take()
            self.app.answer(transaction(frame), f"SIP/2.0 200 OK{given}")
            [answer] = self.bench.take()
            tags = [tag.lower() for tag in answer.get_parsed_header("Require") or []]
            self.assertEqual((set(tags), len(tags)), (required, len(required)), given)

    def test_other_minimum(self) -> None:
        """The shortest interval may be another one."""
        self.bench = Bench(shortest_session=20)
        self.app = self.bench.link("invite")
        self.assertEqual(self.session("7;refresher=uac").get("Session-Expires"), "20;refresher=uac")
        self.again("Session-Expires: 19;refresher=uac", method="UPDATE")
        [refusal] = self.bench.take()
        self.assertEqual((head(refusal), refusal.get("Min-SE")), ("422 UPDATE", "20"))
        self.again("Session-Expires: 20;refresher=uac", 3, method="UPDATE")
        self.app.answer(transaction(self.app.take()[0]), "SIP/2.0 200 OK")
        self.bench.take()
        self.expires(20.0)

    def test_no_minimum(self) -> None:
        """There is no session of no length."""
        self.assertRaises(LocalProtocolError, Bench, shortest_session=0)

    def test_too_brief(self) -> None:
        """An interval that is too small is refused here; the one that was agreed on goes on."""
        self.session("120;refresher=uac")
        self.again("Session-Expires: 60;refresher=uac")
        _, refusal = self.bench.take()
        self.assertEqual((refusal.status, refusal.get("Min-SE")), (422, "90"))  # type: ignore[union-attr]
        self.assertEqual(self.app.take(), [])
        self.bench.receive(request("ACK", number=2, branch="INVITE-2", to_tag=self.tag))
        self.expires(120.0)

    def test_refused(self) -> None:
        """A refresh that the application refuses changes nothing, whatever it asks for."""
        for method in ("INVITE", "UPDATE"):
            for asked in ("", "Session-Expires: 1000;refresher=uas"):
                self.setUp()
                self.session("120;refresher=uac")
                self.seen(60)
                self.again(asked, method=method)
                [frame] = self.app.take()
                self.app.answer(transaction(frame), "SIP/2.0 488 Not Acceptable Here")
                if method == "INVITE":
                    self.bench.receive(request("ACK", number=2, branch="INVITE-2", to_tag=self.tag))
                self.bench.take()
                self.expires(120.0)

    def test_application_gone(self) -> None:
        """Nor does one that nobody is there to answer."""
        self.bench = Bench(orphan_grace=None)
        self.app = self.bench.link("invite")
        self.session("120;refresher=uac")
        self.app.close()
        self.seen(100)
        self.again("Session-Expires: 120;refresher=uac", method="UPDATE")
        self.assertEqual(self.bench.heads(), ["500 UPDATE"])
        self.assertEqual(self.seen(20)[-1], (120.0, "BYE"))

    def test_answered_late(self) -> None:
        """A refresh that came in time may be answered after the end of the session."""
        for status, longer in ((200, 120), (488, 0)):
            self.setUp()
            self.session("120;refresher=uac")
            self.seen(119)
            self.again("Session-Expires: 120;refresher=uac", method="UPDATE")
            [frame] = self.app.take()
            self.assertEqual(self.seen(30.5), [])
            self.app.answer(transaction(frame), f"SIP/2.0 {status} Late")
            self.bench.take()
            self.expires(149.5 + longer if longer else 150.0)

    def test_never_answered(self) -> None:
        """It is not waited for without an end."""
        for refresher in ("uac", "uas"):
            self.setUp()
            self.session(f"120;refresher={refresher}")
            self.seen(50)
            self.again("Session-Expires: 120;refresher=uac")
            self.bench.take()
            self.app.take()
            self.seen(100)
            self.assertEqual((len(self.bench.core.dialogs), self.app.take()), (1, []))
            self.seen(4)
            self.assertIn("Session timer expired", self.app.take()[0])
            self.nothing_left()

    def test_server_refreshes(self) -> None:
        """A refresh of ours has the application's last session description; nobody is told."""
        self.session("90;refresher=uas")
        self.bench.wire.sent.clear()
        clock = self.bench.clock
        begun = clock.seconds()
        while not self.bench.wire.sent:
            clock.advance(0.5)
        self.assertTrue(40 <= clock.seconds() - begun <= 50, clock.seconds())
        [refresh] = self.bench.take()
        assert isinstance(refresh, Request)
        self.assertEqual((refresh.method, refresh.text), ("INVITE", "v=0 ours"))
        self.assertEqual(refresh.get("Session-Expires"), "90;refresher=uac")
        self.assertEqual(self.app.take(), [])
        self.respond(refresh, 200, "Session-Expires: 100;refresher=uac")
        self.assertEqual(self.bench.heads(), ["ACK"])
        begun = clock.seconds()
        while not self.bench.wire.sent:
            clock.advance(0.5)
        self.assertTrue(45 <= clock.seconds() - begun <= 55)
        [refresh] = self.bench.take()
        assert isinstance(refresh, Request)
        self.respond(refresh, 488)
        self.assertEqual(self.bench.heads(), ["ACK", "BYE"])
        [frame] = self.app.take()
        self.assertIn("Session timer expired", frame)

    def test_glare(self) -> None:
        """A refresh that meets a re-INVITE is repeated at once, or within two seconds."""
        self.session("90;refresher=uas")
        self.bench.take()
        for number in range(3):
            refresh, after = self.refresh()
            self.respond(refresh, 491)
            self.assertEqual(self.bench.heads(), ["ACK"])
            self.assertTrue(number == 0 or after <= 2.1, after)

    def test_come_later(self) -> None:
        """A refresh that is to come later comes then, unless the session is over."""
        self.session("90;refresher=uas")
        self.bench.take()
        begun = self.bench.clock.seconds()
        refresh, _ = self.refresh()
        self.respond(refresh, 500, "Retry-After: 7")
        self.bench.take()
        refresh, after = self.refresh()
        self.assertTrue(7 <= after <= 7.2, after)
        self.respond(
            refresh, 500, f"Retry-After: {int(begun + 90 - self.bench.clock.seconds()) + 1}"
        )
        self.assertEqual(self.bench.heads(), ["ACK", "BYE"])

    def test_longer(self) -> None:
        """A refresh whose interval is too small for the caller is repeated with a longer one."""
        self.session("90;refresher=uas")
        self.bench.take()
        refresh, _ = self.refresh()
        self.respond(refresh, 422, "Min-SE: 300")
        ack, again = self.bench.take()
        assert isinstance(again, Request)
        self.assertEqual(ack.cseq.method, "ACK")
        self.assertEqual(again.get("Session-Expires"), "300;refresher=uac")
        self.respond(again, 200, "Session-Expires: 300;refresher=uac")
        self.assertEqual(self.bench.heads(), ["ACK"])
        _, after = self.refresh()
        self.assertTrue(145 <= after <= 155.2, after)

    def test_ever_longer(self) -> None:
        """It is done once: a caller that wants ever more is hung up on."""
        self.session("90;refresher=uas")
        self.bench.take()
        refresh, _ = self.refresh()
        self.respond(refresh, 422, "Min-SE: 300")
        again = self.bench.take()[-1]
        assert isinstance(again, Request)
        self.respond(again, 422, "Min-SE: 400")
        self.assertEqual(self.bench.heads(), ["ACK", "BYE"])

    def test_something_under_way(self) -> None:
        """A refresh waits for an INVITE that is under way in the dialog."""
        self.session("90;refresher=uas")
        self.seen(30)
        self.again("Session-Expires: 90;refresher=uas")
        [frame] = self.app.take()
        self.assertEqual(self.bench.heads(), ["100 INVITE"])
        self.assertEqual(self.seen(50), [])
        self.app.answer(transaction(frame), "SIP/2.0 488 Not Acceptable Here")
        self.assertEqual(self.bench.heads(), ["488 INVITE"])
        self.bench.receive(request("ACK", number=2, branch="INVITE-2", to_tag=self.tag))
        _, after = self.refresh()
        self.assertLessEqual(after, 2.1)

    def test_not_confirmed(self) -> None:
        """A refresh waits for the ACK of a re-INVITE that was accepted (RFC 3261 section 14.1)."""
        self.bench = Bench(shortest_session=20)
        self.app = self.bench.link("invite")
        self.session("40;refresher=uas")
        self.again("Session-Expires: 40;refresher=uas")
        [frame] = self.app.take()
        self.app.answer(transaction(frame), "SIP/2.0 200 OK\r\nSession-Expires: 40;refresher=uas")
        self.bench.take()
        self.assertEqual({what for _, what in self.seen(28)}, {"200 INVITE"})
        self.bench.receive(request("ACK", number=2, branch="ack2", to_tag=self.tag))
        self.app.take()
        _, after = self.refresh()
        self.assertLessEqual(after, 2.1)

    def test_switched_off_meanwhile(self) -> None:
        """A refresh that crosses the end of the timer is acknowledged all the same."""
        self.session("90;refresher=uas")
        self.bench.take()
        refresh, _ = self.refresh()
        self.again(method="UPDATE")
        [frame] = self.app.take()
        self.app.answer(transaction(frame), "SIP/2.0 200 OK")
        self.bench.take()
        self.respond(refresh, 200, "Session-Expires: 90;refresher=uac")
        self.assertEqual(self.bench.heads(), ["ACK"])
        self.assertEqual(self.seen(200), [])

    def test_peer_takes_over(self) -> None:
        """The answer to a refresh may make the caller the refresher; he is waited for then."""
        self.session("90;refresher=uas")
        self.bench.take()
        refresh, _ = self.refresh()
        self.respond(refresh, 200, "Session-Expires: 100;refresher=uas")
        self.assertEqual(self.bench.heads(), ["ACK"])
        self.expires(self.bench.clock.seconds() + 100.0)

    def test_handed_over(self) -> None:
        """A re-INVITE of the caller may change who refreshes; without a word it stays with him."""
        for asked, ours in (
            ("90;refresher=uas", True),
            ("90;refresher=uac", False),
            ("90", True),
        ):
            self.setUp()
            self.session("120;refresher=uac")
            self.again(f"Session-Expires: {asked}")
            [frame] = self.app.take()
            self.app.answer(transaction(frame), "SIP/2.0 200 OK")
            self.bench.receive(request("ACK", number=2, branch="ack2", to_tag=self.tag))
            self.app.take()
            self.bench.take()
            if ours:
                self.assertEqual(self.refresh()[0].method, "INVITE", asked)
            else:
                self.expires(90.0)

    def refresh(self) -> tuple[Request, float]:
        """Wait for a refresh of ours; give it, and how long it took."""
        clock = self.bench.clock
        begun = clock.seconds()
        while not self.bench.wire.sent:
            clock.advance(0.1)
        [refresh] = self.bench.take()
        assert isinstance(refresh, Request)
        self.assertEqual((refresh.method, refresh.get("Supported")), ("INVITE", "timer"))
        return refresh, clock.seconds() - begun

    def respond(self, asked: Request, status: int, extra: str = "") -> None:
        """Let the caller respond to a refresh."""
        lines = [f"SIP/2.0 {status} Whatever"]
        for name in ("Via", "From", "To", "Call-ID", "CSeq"):
            lines.append(f"{name}: {asked.get(name)}")
        lines.append("Contact: <sip:alice@127.0.0.1:32070>")
        if extra:
            lines.append(extra)
        self.bench.receive("\n".join([*lines, "Content-Length: 0"]) + "\n\n")


class CallerTests(CallingTestCase):
    """The application calls somebody."""

    def test_server_refreshes(self) -> None:
        """The called party may leave the refreshing to us, at any interval."""
        invite = self.ask()
        [told] = self.respond(invite, 200, extra="Session-Expires: 30;refresher=uac")
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        clock = self.bench.clock
        begun = clock.seconds()
        while not self.bench.wire.sent:
            clock.advance(0.5)
        self.assertTrue(10 <= clock.seconds() - begun <= 20.5)
        self.assertEqual(self.bench.heads(), ["INVITE"])
        self.assertEqual(self.app.take(), [])

    def test_glare(self) -> None:
        """Who made the call waits longer than the other side, when both refresh at once (14.1)."""
        invite = self.ask()
        [told] = self.respond(invite, 200, extra="Session-Expires: 90;refresher=uac")
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        clock = self.bench.clock
        for number in range(3):
            begun = clock.seconds()
            while not self.bench.wire.sent:
                clock.advance(0.1)
            after = clock.seconds() - begun
            refresh = self.request(self.bench.take()[0])
            self.assertTrue(number == 0 or 2.0 < after < 4.2, after)
            self.respond(refresh, 491)
            self.assertEqual(self.bench.heads(), ["ACK"])

    def test_callee_refreshes(self) -> None:
        """When the called party is to refresh, it is waited for, and refreshes by UPDATE too."""
        invite = self.ask()
        [told] = self.respond(invite, 200, extra="Session-Expires: 100;refresher=uas")
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        self.assertEqual(self.seen(80), [])
        update = request(
            "UPDATE",
            call=invite.call_id,
            from_tag="b",
            to_tag=invite.from_.tag or "",
            extra="Session-Expires: 100;refresher=uac",
        )
        self.bench.receive(update, port=32071)
        [frame] = self.app.take()
        self.app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
        self.bench.take()
        self.assertEqual(self.seen(99.5), [])
        self.assertEqual([what for _, what in self.seen(0.5)], ["BYE"])
        self.assertIn("Session timer expired", self.app.take()[0])

    def test_small_interval(self) -> None:
        """A refresh never says that less than its own interval is too little."""
        invite = self.ask()
        [told] = self.respond(invite, 200, extra="Session-Expires: 30")
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        while not self.bench.wire.sent:
            self.bench.clock.advance(0.5)
        [refresh] = self.bench.take()
        self.assertEqual(refresh.get("Session-Expires"), "30;refresher=uac")
        self.assertEqual(refresh.get("Min-SE"), "30")

    def test_refused_by_the_callee(self) -> None:
        """A 422 to the application's INVITE is the application's to deal with."""
        invite = self.ask(extra="Session-Expires: 90")
        [told] = self.respond(invite, 422, extra="Min-SE: 300")
        self.assertIn("\r\nMin-SE: 300\r\n", told)

    def test_silence(self) -> None:
        """A refresh that nobody answers ends the call after 32 seconds."""
        invite = self.ask()
        [told] = self.respond(invite, 200, extra="Session-Expires: 30;refresher=uac")
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        sent = self.seen(60)
        self.assertIn("BYE", [what for _, what in sent])
        self.assertIn("Session timer expired", self.app.take()[0])
