"""Requests of applications: how they leave, how often, and what becomes of them."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.server.dialogs import DialogState
from drachtwist.sip.message import Request
from tests.server.doubles import Bench, head, request

TARGET = "sip:bob@127.0.0.1:32071"


def reply(asked: Request, status: int, *, tag: str = "b", extra: str = "", body: str = "") -> str:
    """Write the response of a callee."""
    lines = [f"SIP/2.0 {status} Whatever"]
    lines += [f"Via: {via}" for via in asked.get_all("Via")]
    to = asked.get("To") or ""
    if status > 100 and "tag=" not in to:
        to += f";tag={tag}"
    lines += [
        f"From: {asked.get('From')}",
        f"To: {to}",
        f"Call-ID: {asked.get('Call-ID')}",
        f"CSeq: {asked.get('CSeq')}",
        f"Contact: <{TARGET}>",
    ]
    lines += [line for line in extra.split("\n") if line]
    return "\n".join([*lines, f"Content-Length: {len(body)}"]) + "\n\n" + body


class CallingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application."""
        self.bench = Bench()
        self.app = self.bench.link("notify")

    def ask(self, method: str = "INVITE", uri: str = TARGET, extra: str = "") -> Request:
        """Let the application send a request; give it as it left."""
        line = f"\r\n{extra}" if extra else ""
        [self.echo] = self.app.command(f"sip||\r\n{method} {uri} SIP/2.0{line}\r\n\r\n")
        sent = self.bench.take()
        return self.request(sent[-1])

    def request(self, message: object) -> Request:
        """See that it is a request."""
        assert isinstance(message, Request)
        return message

    @property
    def asked_id(self) -> str:
        """The transaction id of what was asked."""
        return self.echo.split("|")[10]

    def respond(self, asked: Request, status: int, **how: str) -> list[str]:
        """Let the callee respond; give what the application is told."""
        self.bench.receive(reply(asked, status, **how), port=32071)
        return self.app.take()

    def seen(self, seconds: float, step: float = 0.5) -> list[tuple[float, str]]:
        """Let time pass; give what was sent, and when."""
        found = []
        clock = self.bench.clock
        until = clock.seconds() + seconds
        while clock.seconds() < until:
            clock.advance(step)
            found += [(clock.seconds(), head(message)) for message in self.bench.take()]
        return found

    def up(self) -> str:
        """Set a call up; give its dialog id."""
        invite = self.ask()
        [told] = self.respond(invite, 200)
        dialog = told.split("|")[9]
        [echo] = self.app.ask(dialog, f"ACK {TARGET} SIP/2.0")
        self.assertIn("|Msg sent:|\r\nACK ", echo)
        self.assertEqual(self.bench.heads(), ["ACK"])
        return dialog


class CallingTests(CallingTestCase):
    def test_invite_schedule(self) -> None:
        """An INVITE without response is repeated at 1, 3, 7, 15 and 31 seconds; then 408."""
        self.ask()
        self.assertEqual([when for when, _ in self.seen(33)], [1.0, 3.0, 7.0, 15.0, 31.0])
        [told] = self.app.take()
        self.assertIn("|sip|network|0|udp||0|", told)
        self.assertIn("\r\nSIP/2.0 408 Request Timeout\r\n", told)

    def test_other_schedule(self) -> None:
        """Other requests are repeated every 4 seconds in the end; then 408."""
        self.ask("OPTIONS")
        times = [when for when, _ in self.seen(33)]
        self.assertEqual(times, [1.0, 3.0, 7.0, 11.0, 15.0, 19.0, 23.0, 27.0, 31.0])
        self.assertIn("SIP/2.0 408 ", self.app.take()[0])

    def test_refused(self) -> None:
        """Where nobody listens the application is told 503 at once."""
        self.ask("OPTIONS")
        self.ask("OPTIONS")
        flow = self.bench.wire.flow("127.0.0.1", 32071)
        invite = self.ask()
        self.bench.core.sip_send_failed(flow, OSError(), bytes(invite))
        [told] = self.app.take()
        self.assertIn("\r\nSIP/2.0 503 Service Unavailable\r\n", told)

    def test_broken_connection(self) -> None:
        """A connection that breaks fails what waits on it."""
        self.ask("OPTIONS", f"{TARGET};transport=tcp")
        flow = self.bench.wire.flow("127.0.0.1", 32071, "tcp")
        self.bench.core.sip_closed(flow, OSError("reset"))
        self.assertIn("SIP/2.0 503 ", self.app.take()[0])

    def test_name(self) -> None:
        """A name is looked up first; the request goes to its address."""
        self.app.command("sip||\r\nOPTIONS sip:bob@example.test:32071 SIP/2.0\r\n\r\n")
        self.assertEqual(self.bench.take(), [])
        asked = self.bench.answer_all({("A", "example.test"): ["127.0.0.9"]})
        [(flow, _)] = self.bench.wire.sent
        self.assertEqual((asked, flow.remote), (["A example.test"], "127.0.0.9:32071"))

    def test_route(self) -> None:
        """A request goes to the route that was given, with its own Request-URI."""
        command = "sip|||sip:127.0.0.1:32099\r\nOPTIONS sip:bob@example.test SIP/2.0\r\n\r\n"
        self.app.command(command)
        [(flow, data)] = self.bench.wire.sent
        self.assertEqual(flow.remote_port, 32099)
        self.assertTrue(data.startswith(b"OPTIONS sip:bob@example.test SIP/2.0\r\n"))

    def test_route_over_tcp(self) -> None:
        """The parameters of a route are those of its URI, with or without brackets."""
        for route in ("sip:127.0.0.1:32099;transport=tcp", "<sip:127.0.0.1:32099;transport=tcp>"):
            self.app.command(f"sip|||{route}\r\nOPTIONS sip:bob@example.test SIP/2.0\r\n\r\n")
            flow, data = self.bench.wire.sent.pop()
            self.assertEqual((flow.protocol, flow.remote_port), ("tcp", 32099))
            self.assertIn(b"\r\nVia: SIP/2.0/TCP ", data)

    def test_credentials(self) -> None:
        """The parts of credentials are set apart by commas with a blank; quoted text stays."""
        given = r'Digest username="a,b\",c",realm="r",  nc=00000001,uri="sip:x,y'
        invite = self.ask(extra=f"Authorization: {given}")
        wanted = r'Digest username="a,b\",c", realm="r", nc=00000001, uri="sip:x,y'
        self.assertEqual(invite.get("Authorization"), wanted)

    def test_refer_to(self) -> None:
        """What the address of a Refer-To has behind its question mark is not looked at."""
        for value in ("sip:carol@x?Replaces%3D1%40y", "<sip:carol@x?Replaces>;a=b"):
            asked = self.ask("REFER", extra=f"Refer-To: {value}\r\nX-Last: 1")
            self.assertEqual((asked.get("Refer-To"), asked.get("X-Last")), (value, "1"))
        asked = self.ask("REFER", extra="Refer-To: <sip:carol@x\r\nX-Last: 1")
        self.assertEqual((asked.get("Refer-To"), asked.get("X-Last")), (None, None))

    def test_no_transport(self) -> None:
        """A transport that is not served is refused; sips without TLS is answered 416."""
        [answer] = self.app.command(f"sip||\r\nOPTIONS {TARGET};transport=ws SIP/2.0\r\n\r\n")
        self.assertIn("|NOK|requested protocol/transport not available", answer)
        told = self.app.command("sip||\r\nOPTIONS sips:bob@127.0.0.1 SIP/2.0\r\n\r\n")
        self.assertIn("SIP/2.0 416 ", told[-1])

    def test_failure_is_acknowledged(self) -> None:
        """A failure of an INVITE is acknowledged here, each time, and told once."""
        invite = self.ask()
        self.assertEqual(len(self.respond(invite, 486)), 1)
        self.assertEqual(self.bench.heads(), ["ACK"])
        self.assertEqual(self.respond(invite, 486), [])
        self.assertEqual(self.bench.heads(), ["ACK"])

    def test_trying_is_not_told(self) -> None:
        """A 100 is not told, and ends the repeats."""
        self.assertEqual(self.respond(self.ask(), 100), [])
        self.assertEqual(self.seen(20), [])

    def test_response_for_somebody_else(self) -> None:
        """One that has further Vias is not for a client, and changes nothing."""
        asked = self.ask("OPTIONS")
        own = asked.get("Via") or ""
        other = "SIP/2.0/UDP 255.255.255.255;branch=z9hG4bKx"
        for vias, told in (
            (f"{own}, {other}", 0),
            (f"{own}\nVia: {other}", 0),
            (f'{own};of="a, b"', 1),
        ):
            self.bench.receive(reply(asked, 200).replace(own, vias, 1), port=32071)
            self.assertEqual(len(self.app.take()), told, vias)
        self.assertEqual(self.bench.take(), [])

    def test_repeated_200(self) -> None:
        """A 200 that comes again is acknowledged with the ACK of the application, not told."""
        invite = self.ask()
        [told] = self.respond(invite, 200)
        self.app.ask(told.split("|")[9], f"ACK {TARGET} SIP/2.0")
        [ack] = self.bench.take()
        self.assertEqual(self.respond(invite, 200), [])
        self.assertEqual([bytes(one) for one in self.bench.take()], [bytes(ack)])

    def test_numbers(self) -> None:
        """In a dialog the numbers count up, and the ACK has that of its INVITE."""
        dialog = self.up()
        numbers = []
        for method in ("INFO", "INVITE", "ACK", "BYE"):
            self.app.ask(dialog, f"{method} sip:placeholder SIP/2.0")
            [sent] = [self.request(one) for one in self.bench.take()]
            numbers.append(sent.cseq.number)
            if method == "INVITE":
                self.respond(sent, 200)
        first = numbers[0]
        self.assertEqual(numbers, [first, first + 1, first + 1, first + 2])

    def test_bye_ends(self) -> None:
        """The final response to a BYE ends the dialog, but not a challenge."""
        dialog = self.up()
        for status, still in ((401, True), (200, False)):
            self.app.ask(dialog, "BYE sip:placeholder SIP/2.0")
            bye = self.request(self.bench.take()[-1])
            self.assertEqual(len(self.respond(bye, status)), 1)
            self.assertEqual(len(self.bench.core.dialogs) == 1, still)

    def test_silent_bye(self) -> None:
        """A BYE that nobody answers ends the dialog too, with 408."""
        dialog = self.up()
        self.app.ask(dialog, "BYE sip:placeholder SIP/2.0")
        self.seen(33)
        self.assertIn("SIP/2.0 408 ", self.app.take()[0])
        self.assertEqual(len(self.bench.core.dialogs), 0)
        self.seen(40)
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_provisional_then_final(self) -> None:
        """In a dialog the final response is told also when a provisional one came first."""
        dialog = self.up()
        self.app.ask(dialog, "INVITE sip:placeholder SIP/2.0")
        invite = self.request(self.bench.take()[-1])
        self.assertEqual(len(self.respond(invite, 180)), 1)
        self.assertEqual(len(self.respond(invite, 200)), 1)

    def test_cancel(self) -> None:
        """A CANCEL has the branch of its INVITE; its own response is not told, the 487 is."""
        invite = self.ask()
        self.respond(invite, 180)
        command = (
            f"sip|{self.asked_id}|\r\nCANCEL {TARGET} SIP/2.0\r\nReason: SIP;cause=200\r\n\r\n"
        )
        [echo] = self.app.command(command)
        self.assertIn("|Msg sent:|\r\nCANCEL ", echo)
        [cancel] = [self.request(one) for one in self.bench.take()]
        self.assertEqual(cancel.get("Via"), invite.get("Via"))
        self.assertEqual(cancel.get("Reason"), "SIP;cause=200")
        self.assertEqual(self.respond(cancel, 200), [])
        [told] = self.respond(invite, 487)
        self.assertIn("SIP/2.0 487 ", told)

    def test_early_cancel(self) -> None:
        """A CANCEL waits for the first provisional response."""
        invite = self.ask()
        [echo] = self.app.command(f"sip|{self.asked_id}|\r\nCANCEL {TARGET} SIP/2.0\r\n\r\n")
        self.assertIn("|OK|application|0|", echo)
        self.assertEqual(self.bench.take(), [])
        self.assertEqual(len(self.respond(invite, 180)), 1)
        self.assertEqual(self.bench.heads(), ["CANCEL"])

    def test_second_cancel(self) -> None:
        """An INVITE is cancelled once; what is not there is not."""
        self.respond(self.ask(), 180)
        cancel = f"sip|{self.asked_id}|\r\nCANCEL {TARGET} SIP/2.0\r\n\r\n"
        self.app.command(cancel)
        self.assertIn("|NOK|internal server error canceling", self.app.command(cancel)[0])

    def test_cancel_crosses(self) -> None:
        """A 200 that crosses the CANCEL is told; the ACK of it is followed by a BYE."""
        invite = self.ask()
        self.respond(invite, 180)
        self.app.command(f"sip|{self.asked_id}|\r\nCANCEL {TARGET} SIP/2.0\r\n\r\n")
        [told] = self.respond(invite, 200)
        self.bench.take()
        frames = self.app.ask(told.split("|")[9], f"ACK {TARGET} SIP/2.0")
        self.assertEqual(self.bench.heads(), ["ACK", "BYE"])
        self.assertIn("ACK-BYE due to cancel race condition", frames[-1])
        self.assertEqual(len(self.bench.core.dialogs), 0)

    def test_states(self) -> None:
        """A dialog rings, is accepted or crossed by that, and is confirmed by the ACK."""
        for cancelled, accepted in ((False, DialogState.ACCEPTED), (True, DialogState.CROSSED)):
            self.setUp()
            invite = self.ask()
            [told] = self.respond(invite, 180)
            name = told.split("|")[9]
            [dialog] = self.bench.core.dialogs.named(name)
            self.assertIs(dialog.state, DialogState.EARLY)
            if cancelled:
                self.app.command(f"sip|{self.asked_id}|\r\nCANCEL {TARGET} SIP/2.0\r\n\r\n")
            self.respond(invite, 200)
            self.assertIs(dialog.state, accepted)
            self.app.ask(name, f"ACK {TARGET} SIP/2.0")
            self.assertIs(dialog.state, DialogState.CONFIRMED)
            self.assertIs(self.bench.core.dialogs.knows(dialog), not cancelled)
            self.assertRaises(AssertionError, dialog.become, DialogState.EARLY)

    def test_cancelled_for_ever(self) -> None:
        """An INVITE that was cancelled and that nobody ends is told 408 after 32 seconds."""
        self.respond(self.ask(), 180)
        self.app.command(f"sip|{self.asked_id}|\r\nCANCEL {TARGET} SIP/2.0\r\n\r\n")
        self.seen(33)
        self.assertIn("SIP/2.0 408 ", self.app.take()[0])

    def test_rings_for_ever(self) -> None:
        """After 185 seconds of ringing an INVITE is cancelled; 32 seconds later it is told 408."""
        self.respond(self.ask(), 180)
        sent = self.seen(230, 1.0)
        self.assertEqual(sent[0], (185.0, "CANCEL"))
        [told] = self.app.take()
        self.assertIn("SIP/2.0 408 ", told)

    def test_reliable(self) -> None:
        """A reliable response makes the dialog usable: PRACK and BYE go by its name."""
        invite = self.ask()
        [told] = self.respond(invite, 183, extra="Require: 100rel\nRSeq: 7")
        dialog = told.split("|")[9]
        rack = f"RAck: 7 {invite.cseq.number} INVITE"
        self.app.ask(dialog, f"PRACK sip:placeholder SIP/2.0\r\n{rack}")
        self.assertEqual(self.bench.heads(), ["PRACK"])
        self.app.ask(dialog, "BYE sip:placeholder SIP/2.0")
        self.assertEqual(self.bench.heads(), ["CANCEL", "BYE"])

    def test_unknown_dialog(self) -> None:
        """Nothing is sent in a dialog that is not there."""
        [answer] = self.app.ask("nothing", "INFO sip:placeholder SIP/2.0")
        self.assertIn("|NOK|Server error: unable to find dialog for dialog id provided", answer)

    def test_record_route(self) -> None:
        """The route set is the Record-Route of the answer, backwards."""
        extra = "Record-Route: <sip:10.0.0.2;lr>\nRecord-Route: <sip:10.0.0.1;lr>"
        invite = self.ask()
        [told] = self.respond(invite, 200, extra=extra)
        self.app.ask(told.split("|")[9], f"ACK {TARGET} SIP/2.0")
        [ack] = self.bench.take()
        self.assertEqual(ack.get_all("Route"), ["<sip:10.0.0.1;lr>", "<sip:10.0.0.2;lr>"])

    def test_strict_routing(self) -> None:
        """A router that is not loose gets requests in its name, the target last in the Route."""
        extra = "Record-Route: <sip:10.0.0.2;lr>\nRecord-Route: <sip:10.0.0.1>"
        invite = self.ask()
        [told] = self.respond(invite, 200, extra=extra)
        for method in ("ACK", "INFO", "BYE"):
            self.app.ask(told.split("|")[9], f"{method} {TARGET} SIP/2.0")
            [sent] = self.bench.take()
            self.assertEqual(self.request(sent).uri, "sip:10.0.0.1")
            self.assertEqual(sent.get_all("Route"), ["<sip:10.0.0.2;lr>", f"<{TARGET}>"])

    def notify(self, asked: Request, number: int, state: str = "active", tag: str = "b") -> None:
        """Let a NOTIFY of a subscription come."""
        text = request(
            "NOTIFY",
            call=asked.call_id,
            number=number,
            from_tag=tag,
            to_tag=asked.from_.tag or "",
            port=32071,
            extra=f"Event: presence\nSubscription-State: {state}",
        )
        self.bench.receive(text, 32071)

    def test_notified_before_the_answer(self) -> None:
        """A NOTIFY that overtakes the answer to the SUBSCRIBE waits for it (RFC 6665 4.1.3)."""
        asked = self.ask("SUBSCRIBE", extra="Event: presence")
        for number in (1, 1, 2):
            self.notify(asked, number)
        self.assertEqual((self.bench.take(), self.app.take()), ([], []))
        answer, *notifies = self.respond(asked, 202)
        self.assertIn("\r\nSIP/2.0 202 ", answer)
        self.assertEqual(len(notifies), 2)
        for frame in notifies:
            self.assertIn(f"|{asked.call_id};from-tag={asked.from_.tag}|\r\nNOTIFY ", frame)
            self.app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 NOTIFY", "200 NOTIFY"])

    def test_terminated_before_the_answer(self) -> None:
        """One that ends the subscription does so."""
        asked = self.ask("SUBSCRIBE", extra="Event: presence")
        self.notify(asked, 1, "terminated")
        self.assertEqual(len(self.respond(asked, 202)), 2)
        self.assertEqual(len(self.bench.core.dialogs), 0)

    def test_unsubscribed(self) -> None:
        """A subscription that is given up ends with a last NOTIFY, or without it after a while."""
        for status, seconds in ((202, 32.0), (481, 0.0), (0, 32.0)):
            self.setUp()
            [told] = self.respond(self.ask("SUBSCRIBE", extra="Event: presence"), 202)
            dialog = told.split("|")[9]
            self.app.ask(dialog, f"SUBSCRIBE {TARGET} SIP/2.0\r\nEvent: presence\r\nExpires: 0")
            last = self.request(self.bench.take()[-1])
            if status:
                self.respond(last, status)
            if seconds:
                self.seen(seconds - 0.5)
                self.assertEqual(len(self.bench.core.dialogs), 1)
                self.seen(0.5)
            self.assertEqual(len(self.bench.core.dialogs), 0)
            self.seen(10)
            self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_notified_in_vain(self) -> None:
        """Without such an answer, or from somebody else, a NOTIFY is refused then."""
        for status, tag in ((486, "b"), (0, "b"), (202, "other")):
            self.setUp()
            asked = self.ask("SUBSCRIBE", extra="Event: presence")
            self.notify(asked, 1, tag=tag)
            self.assertEqual(self.bench.heads(), [])
            if status:
                self.respond(asked, status)
                self.assertEqual(self.bench.heads(), ["481 NOTIFY"])
            else:
                self.assertIn("481 NOTIFY", [what for _, what in self.seen(33)])

    def test_notified_too_often(self) -> None:
        """Only so many may wait."""
        asked = self.ask("SUBSCRIBE", extra="Event: presence")
        for number in range(1, 20):
            self.notify(asked, number)
        self.assertEqual(len(self.app.take()), 11)  # as new requests, which it has routed
        self.assertEqual(len(self.respond(asked, 202)), 9)

    def test_subscription(self) -> None:
        """The last NOTIFY ends the dialog; it is answered by the application."""
        subscribe = self.ask("SUBSCRIBE", extra="Event: presence")
        [told] = self.respond(subscribe, 202)
        dialog = told.split("|")[9]
        notify = request(
            "NOTIFY",
            call=subscribe.call_id,
            from_tag="b",
            to_tag=subscribe.from_.tag or "",
            extra="Event: presence\nSubscription-State: terminated",
        )
        self.bench.receive(notify, port=32071)
        [frame] = self.app.take()
        self.assertEqual(frame.split("|")[9], dialog)
        self.app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 NOTIFY"])
        self.assertEqual(len(self.bench.core.dialogs), 0)
