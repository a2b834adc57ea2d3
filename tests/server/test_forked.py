"""An INVITE of an application that several accept (RFC 3261 section 13.2.2.4)."""

from __future__ import annotations

from drachtwist.sip.message import Request
from tests.server.doubles import head, request
from tests.server.test_uac import TARGET, CallingTestCase, reply

OTHER = "sip:carol@127.0.0.1:32072"


class ForkedTests(CallingTestCase):
    def fork(self, invite: Request, tag: str = "c", extra: str = "", status: int = 200) -> None:
        """Let somebody else accept."""
        text = reply(invite, status, tag=tag, extra=extra).replace(TARGET, OTHER)
        self.bench.receive(text, port=32072)

    def sent(self) -> list[tuple[int, Request]]:
        """Give the requests that were sent since, and to which port."""
        ports = [flow.remote_port for flow, _ in self.bench.wire.sent]
        return list(zip(ports, map(self.request, self.bench.take()), strict=True))

    def assert_ended(self, invite: Request, tag: str = "c") -> Request:
        """See that the other call was acknowledged and ended; give the ACK."""
        (ack_port, ack), (bye_port, bye) = self.sent()
        self.assertEqual((ack_port, bye_port), (32072, 32072))
        self.assertEqual((ack.method, bye.method), ("ACK", "BYE"))
        number = invite.cseq.number
        self.assertEqual(ack.cseq.number, number)
        self.assertGreater(bye.cseq.number, number)
        for one in (ack, bye):
            self.assertEqual((one.uri, one.to.tag), (OTHER, tag))
            self.assertEqual(one.from_.tag, invite.from_.tag)
            self.assertEqual(one.call_id, invite.call_id)
        self.assertEqual(self.app.take(), [])
        self.bench.receive(reply(bye, 200), port=32072)
        self.assertEqual((self.app.take(), self.bench.take()), ([], []))
        return ack

    def assert_the_first_goes_on(self, dialog: str) -> None:
        """See that the application's call is still there."""
        self.app.ask(dialog, "INFO sip:placeholder SIP/2.0")
        [(port, info)] = self.sent()
        self.assertEqual((port, info.uri, info.to.tag), (32071, TARGET, "b"))

    def test_after_the_ack(self) -> None:
        """Whoever accepts second is acknowledged and hung up on; nobody is told."""
        invite = self.ask()
        [told] = self.respond(invite, 200)
        dialog = told.split("|")[9]
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        self.fork(invite)
        self.assert_ended(invite)
        self.assert_the_first_goes_on(dialog)

    def test_credentials(self) -> None:
        """The ACK has the credentials of the INVITE, which the proxies on its way want to see."""
        lines = ('Proxy-Authorization: Digest realm="p"', 'Authorization: Digest realm="b"')
        invite = self.ask(extra="\r\n".join(lines))
        [told] = self.respond(invite, 200)
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        self.fork(invite)
        ack = self.assert_ended(invite)
        for line in lines:
            name, _, value = line.partition(": ")
            self.assertEqual(ack.get_all(name), [value])

    def test_before_the_ack(self) -> None:
        """So it is while the application has not acknowledged the first."""
        invite = self.ask()
        [told] = self.respond(invite, 200)
        dialog = told.split("|")[9]
        self.fork(invite)
        self.assert_ended(invite)
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        [(port, ack)] = self.sent()
        self.assertEqual((port, ack.to.tag), (32071, "b"))
        self.assert_the_first_goes_on(dialog)

    def test_repeated(self) -> None:
        """A 2xx that comes again gets its own ACK again, and no second BYE."""
        invite = self.ask()
        [told] = self.respond(invite, 200)
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        [(_, first)] = self.sent()
        self.fork(invite)
        ack = self.assert_ended(invite)
        self.fork(invite)
        self.assertEqual([bytes(one) for _, one in self.sent()], [bytes(ack)])
        self.respond(invite, 200)
        self.assertEqual([bytes(one) for _, one in self.sent()], [bytes(first)])

    def test_route(self) -> None:
        """The other call is ended along its own route."""
        invite = self.ask()
        self.respond(invite, 200)
        self.fork(invite, extra="Record-Route: <sip:127.0.0.1:32095;lr>")
        sent = self.sent()
        self.assertEqual([port for port, _ in sent], [32095, 32095])
        for _, one in sent:
            self.assertEqual(one.get("Route"), "<sip:127.0.0.1:32095;lr>")

    def test_many(self) -> None:
        """Nobody makes the server send without end."""
        invite = self.ask()
        self.respond(invite, 200)
        for number in range(100):
            self.fork(invite, f"t{number}")
        self.assertEqual(len(self.sent()), 64)

    def test_call_is_over(self) -> None:
        """It makes no difference when the application's call is over already."""
        invite = self.ask()
        [told] = self.respond(invite, 200)
        dialog = told.split("|")[9]
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        self.app.ask(dialog, "BYE sip:placeholder SIP/2.0")
        bye = self.request(self.bench.take()[-1])
        self.respond(bye, 200)
        self.fork(invite)
        self.assert_ended(invite)

    def test_no_record(self) -> None:
        """There are no call detail records of calls that no application had."""
        from tests.server.doubles import Bench

        self.bench = Bench(cdrs=True)
        self.app = self.bench.link("cdr:attempt", "cdr:start", "cdr:stop")
        self.app.command(f"sip||\r\nINVITE {TARGET} SIP/2.0\r\n\r\n")
        invite = self.request(self.bench.take()[-1])
        self.respond(invite, 200)
        self.fork(invite)
        self.assert_ended(invite)

    def test_early_by_one_accepted_by_another(self) -> None:
        """The dialog is with whom accepts, though another one rang reliably."""
        invite = self.ask()
        [told] = self.respond(invite, 183, extra="Require: 100rel\nRSeq: 7")
        dialog = told.split("|")[9]
        self.app.ask(
            dialog, f"PRACK sip:placeholder SIP/2.0\r\nRAck: 7 {invite.cseq.number} INVITE"
        )
        [(port, prack)] = self.sent()
        self.assertEqual((port, prack.to.tag), (32071, "b"))
        self.fork(invite, extra="Record-Route: <sip:127.0.0.1:32095;lr>")
        self.assertEqual(len(self.app.take()), 1)
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        self.app.ask(dialog, "BYE sip:placeholder SIP/2.0")
        sent = self.sent()
        self.assertEqual([one.method for _, one in sent], ["ACK", "BYE"])
        for port, one in sent:
            self.assertEqual((port, one.uri, one.to.tag), (32095, OTHER, "c"))
        self.assertEqual(sent[1][1].cseq.number, prack.cseq.number + 1)
        self.respond(invite, 200)
        ended = self.sent()
        self.assertEqual(
            [(port, one.method) for port, one in ended], [(32071, "ACK"), (32071, "BYE")]
        )
        for _, one in ended:
            self.assertEqual((one.uri, one.to.tag), (TARGET, "b"))
        self.assertGreater(ended[1][1].cseq.number, prack.cseq.number)

    def test_two_ring_reliably(self) -> None:
        """Each PRACK goes to the one whose response it is for, in whatever order."""
        invite = self.ask()
        [told] = self.respond(invite, 183, extra="Require: 100rel\nRSeq: 7")
        dialog = told.split("|")[9]
        self.fork(invite, "c", "Require: 100rel\nRSeq: 900", 183)
        self.assertEqual(len(self.app.take()), 1)
        numbers = []
        for rseq, where in ((900, (32072, OTHER, "c")), (7, (32071, TARGET, "b"))):
            rack = f"RAck: {rseq} {invite.cseq.number} INVITE"
            self.app.ask(dialog, f"PRACK sip:placeholder SIP/2.0\r\n{rack}")
            [(port, prack)] = self.sent()
            self.assertEqual((port, prack.uri, prack.to.tag), where)
            numbers.append(prack.cseq.number - invite.cseq.number)
        self.assertEqual(numbers, [1, 2])

    def test_other_2xx(self) -> None:
        """Any 2xx makes the call, which the application acknowledges and ends."""
        invite = self.ask()
        [told] = self.respond(invite, 299)
        dialog = told.split("|")[9]
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        [(port, ack)] = self.sent()
        self.assertEqual((port, ack.method, ack.cseq.number), (32071, "ACK", invite.cseq.number))
        self.app.ask(dialog, "BYE sip:placeholder SIP/2.0")
        self.assertEqual(self.bench.heads(), ["BYE"])

    def test_nothing_left(self) -> None:
        """Of the other call nothing is remembered."""
        invite = self.ask()
        [told] = self.respond(invite, 200)
        dialog = told.split("|")[9]
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        self.fork(invite)
        self.app.ask(dialog, "BYE sip:placeholder SIP/2.0")
        for one in self.bench.take():
            if head(one) == "BYE":
                self.bench.receive(reply(self.request(one), 200))
        self.seen(70)
        counts = self.bench.core.counts()
        counts.pop("applications")
        self.assertEqual(set(counts.values()), {0}, counts)


class UnacknowledgedTests(CallingTestCase):
    """Calls whose ACK the application does not give."""

    def accepted(self) -> tuple[Request, str]:
        """Let a call be accepted; give its INVITE and its dialog id."""
        invite = self.ask()
        [told] = self.respond(invite, 200)
        return invite, told.split("|")[9]

    def assert_ended(self, at: float, reason: str) -> None:
        """See that the call is acknowledged and ended at a time, not before."""
        self.assertEqual(self.seen(at - self.bench.clock.seconds() - 0.5), [])
        self.assertEqual(self.seen(0.5), [(at, "ACK"), (at, "BYE")])
        [frame] = self.app.take()
        self.assertIn("|unsolicited|", frame)
        self.assertIn(f'Reason: SIP;cause=200;text="{reason}"', frame)
        self.assertEqual(len(self.bench.core.dialogs), 0)

    def test_never(self) -> None:
        """After 64 seconds the server does it, hangs up, and tells the application."""
        self.accepted()
        self.assert_ended(64.0, "ACK timeout")
        self.seen(100)
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_cancelled(self) -> None:
        """A call that was to be cancelled has half of that."""
        invite = self.ask()
        self.respond(invite, 180)
        self.app.command(f"sip|{self.asked_id}|\r\nCANCEL {TARGET} SIP/2.0\r\n\r\n")
        cancel = self.request(self.bench.take()[-1])
        self.respond(cancel, 200)
        self.respond(invite, 200)
        self.assert_ended(32.0, "ACK-BYE due to cancel race condition")

    def test_late(self) -> None:
        """An ACK that is late counts as any other."""
        _, dialog = self.accepted()
        self.seen(41)
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        self.assertEqual(self.bench.heads(), ["ACK"])
        self.assertEqual(self.seen(100), [])
        self.assertEqual(len(self.bench.core.dialogs), 1)

    def test_ended_by_the_peer(self) -> None:
        """A peer that waited long enough hangs up by itself; then there is nothing to do."""
        invite, _ = self.accepted()
        self.seen(33)
        bye = request("BYE", call=invite.call_id, from_tag="b", to_tag=invite.from_.tag or "")
        self.bench.receive(bye, port=32071)
        [frame] = self.app.take()
        self.app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
        self.bench.take()
        self.assertEqual(self.seen(100), [])

    def test_application_gone(self) -> None:
        """A call that is accepted when its application is gone is ended at once."""
        invite = self.ask()
        self.app.close()
        self.bench.receive(reply(invite, 200), port=32071)
        self.assertEqual(self.bench.heads(), ["ACK", "BYE"])

    def test_reinvite(self) -> None:
        """So it is with a 2xx to a re-INVITE, whoever called; not with a refusal of one."""
        for called in (False, True):
            for status, ends in ((200, True), (299, True), (488, False)):
                self.setUp()
                dialog = self.up() if not called else self.called()
                self.seen(100)
                begun = self.bench.clock.seconds()
                self.app.ask(dialog, "INVITE sip:placeholder SIP/2.0")
                [again] = map(self.request, self.bench.take())
                self.assertEqual(len(self.respond(again, status)), 1)
                if ends:
                    self.assert_ended(begun + 64.0, "ACK timeout")
                else:
                    self.assertEqual(self.bench.heads(), ["ACK"])
                    self.assertEqual(self.seen(100), [])

    def test_reinvite_acknowledged(self) -> None:
        """A call whose re-INVITEs are acknowledged goes on, however many there are."""
        dialog = self.up()
        for _ in range(7):
            self.app.ask(dialog, "INVITE sip:placeholder SIP/2.0")
            [again] = map(self.request, self.bench.take())
            self.respond(again, 200)
            self.seen(10.5)
            self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
            self.assertEqual(self.bench.heads(), ["ACK"])
        self.assertEqual(self.seen(100), [])
        self.assertEqual(len(self.bench.core.dialogs), 1)

    def called(self) -> str:
        """Let somebody call the application, and the call come up; give its dialog id."""
        self.app.command("route|invite")
        self.bench.receive(request("INVITE", port=32071), port=32071)
        [frame] = self.app.take()
        self.app.answer(frame.split("|")[8], "SIP/2.0 200 OK")
        answer = self.bench.take()[-1]
        ack = request("ACK", branch="ack", to_tag=answer.to.tag or "", port=32071)
        self.bench.receive(ack, port=32071)
        self.app.take()
        return "c1;from-tag=a"

    def test_ended_while_it_rang(self) -> None:
        """A 2xx that crosses the BYE to an early dialog is acknowledged, and the call ended."""
        for acknowledges in (True, False):
            self.setUp()
            invite = self.ask()
            [told] = self.respond(invite, 183, extra="Require: 100rel\nRSeq: 7")
            dialog = told.split("|")[9]
            self.app.ask(dialog, "BYE sip:placeholder SIP/2.0")
            cancel, bye = map(self.request, self.bench.take())
            self.assertEqual((cancel.method, bye.method), ("CANCEL", "BYE"))
            self.respond(cancel, 200)
            self.assertEqual(len(self.respond(bye, 200)), 1)
            self.assertEqual(len(self.respond(invite, 200)), 1)
            if acknowledges:
                self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
                ack, bye = map(self.request, self.bench.take())
                self.assertEqual((ack.method, bye.method), ("ACK", "BYE"))
                self.respond(bye, 200)
            else:
                self.assert_ended(32.0, "ACK-BYE due to cancel race condition")
            self.seen(100)
            counts = self.bench.core.counts()
            counts.pop("applications")
            self.assertEqual(set(counts.values()), {0}, counts)
