"""What becomes of a request that was sent: several that ring, ways that change, what crosses."""

from __future__ import annotations

import re

from drachtwist.server.attempts import SentState
from drachtwist.server.uac.invite import SentInvite
from drachtwist.sip.message import Request, Response
from tests.server.doubles import HOST, head, request
from tests.server.test_uac import TARGET, CallingTestCase, reply
from tests.server.test_uas import transaction
from tests.server.test_ways import LONG, sent_to

OTHER = "sip:carol@127.0.0.1:32072"
RELIABLE = "Require: 100rel\nRSeq: 7"


class SentTestCase(CallingTestCase):
    def other(self, asked: Request, status: int, extra: str = "") -> list[str]:
        """Let somebody else respond, whom the request was forked to."""
        text = reply(asked, status, tag="c", extra=extra).replace(TARGET, OTHER)
        self.bench.receive(text, port=32072)
        return self.app.take()

    def from_callee(self, method: str, asked: Request, tag: str, number: int = 1) -> list[str]:
        """Let a request of a callee come; give what the application is told."""
        text = request(
            method,
            call=asked.call_id,
            number=number,
            branch=f"{method}{tag}",
            to_tag=asked.from_.tag or "",
            from_tag=tag,
        )
        self.bench.receive(text)
        return self.app.take()

    def sent_in(self, dialog: str, method: str, extra: str = "") -> Request:
        """Let the application send a request in a dialog; give it as it left."""
        self.app.ask(dialog, f"{method} sip:placeholder SIP/2.0{extra}")
        return self.request(self.bench.take()[-1])


class RingingTests(SentTestCase):
    """An INVITE that rings at several."""

    def test_one_leaves(self) -> None:
        """A BYE of one that rings is no end for the others; that of the last one is."""
        invite = self.ask()
        self.respond(invite, 180)
        self.other(invite, 180)
        told = self.from_callee("BYE", invite, "b")
        self.assertEqual(len(told), 1)
        self.app.answer(transaction(told[0]), "SIP/2.0 200 OK")
        self.assertEqual(self.bench.heads(), ["200 BYE"])
        [told_again] = self.respond(invite, 180, tag="d")
        dialog = told_again.split("|")[9]
        self.assertEqual(self.sent_in(dialog, "INFO").to.tag, "d")
        for tag in ("c", "d"):
            self.assertNotIn("CANCEL", self.bench.heads())
            self.from_callee("BYE", invite, tag)
        self.assertIn("CANCEL", self.bench.heads())

    def test_reliable_stays(self) -> None:
        """Who rang reliably is not given up for another who only rings."""
        invite = self.ask()
        [told] = self.respond(invite, 183, extra=RELIABLE)
        self.other(invite, 180)
        self.assertEqual(self.sent_in(told.split("|")[9], "INFO").to.tag, "b")
        self.other(invite, 183, RELIABLE.replace("7", "9"))
        self.assertEqual(self.sent_in(told.split("|")[9], "INFO").to.tag, "c")

    def test_numbers_of_another(self) -> None:
        """Each callee counts by himself: that another's numbers are higher does not matter."""
        invite = self.ask()
        self.respond(invite, 183, extra=RELIABLE)
        self.assertEqual(len(self.from_callee("INFO", invite, "b", 100)), 1)
        [told] = self.other(invite, 200)
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        self.assertEqual(len(self.from_callee("INFO", invite, "c", 1)), 1)

    def test_what_is_left(self) -> None:
        """What there is while it rings is gone with the final response."""
        invite = self.ask()
        [sent] = self.bench.core.uac.invites.values()
        assert isinstance(sent, SentInvite)
        self.respond(invite, 183, extra=RELIABLE)
        self.assertTrue(sent.rang)
        self.respond(invite, 486)
        self.assertEqual((sent.state, sent.rang, sent._ringing), (SentState.OVER, False, None))


class WayTests(SentTestCase):
    """Where the requests of a dialog go."""

    def test_private_route(self) -> None:
        """Through a proxy behind a NAT only the flow of the answer leads, however long they are."""
        invite = self.ask()
        [told] = self.respond(invite, 200, extra="Record-Route: <sip:192.168.1.1;lr>")
        dialog = told.split("|")[9]
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        self.bench.take()
        self.app.command(f"sip||{dialog}\r\nINFO x SIP/2.0\r\nContent-Type: a/b\r\n\r\n{LONG}")
        self.assertEqual([one[:2] for one in sent_to(self.bench)], [("udp", 32071)])

    def test_registered_again(self) -> None:
        """A callee whose connection is gone is reached over the one that he has registered over."""
        app = self.bench.link("register")
        contact = "sip:bob@phone.invalid;transport=tcp"

        def register(port: int) -> None:
            text = request("REGISTER", call=f"r{port}", port=port)
            text = re.sub(r"Contact: .*", f"Contact: <{contact}>", text)
            self.bench.receive(text, port, "tcp")
            [frame] = app.take()
            accepted = f"SIP/2.0 200 OK\r\nContact: <{contact}>\r\nExpires: 600"
            app.answer(transaction(frame), accepted)
            self.bench.take()

        register(40001)
        invite = self.ask(uri=contact)
        text = reply(invite, 200).replace(f"<{TARGET}>", f"<{contact}>")
        self.bench.receive(text, 40001, "tcp")
        [told] = self.app.take()
        dialog = told.split("|")[9]
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        self.assertEqual([one[:2] for one in sent_to(self.bench)], [("tcp", 40001)])
        self.bench.wire.close(self.bench.wire.flow(HOST, 40001, "tcp"))
        register(40002)
        self.app.ask(dialog, "INFO sip:placeholder SIP/2.0")
        self.assertEqual([one[:2] for one in sent_to(self.bench)], [("tcp", 40002)])

    def test_cancelled_while_looked_for(self) -> None:
        """A re-INVITE that the BYE overtakes on its way to the DNS is not sent any more."""
        invite = self.ask()
        text = reply(invite, 200, extra="Record-Route: <sip:proxy.test;lr>")
        self.bench.receive(text, port=32071)
        [told] = self.app.take()
        dialog = told.split("|")[9]
        self.bench.zone = {("A", "proxy.test"): ["127.0.0.9"]}
        self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
        self.bench.zone = None
        self.app.ask(dialog, "INVITE sip:placeholder SIP/2.0")
        self.bench.take()
        self.app.ask(dialog, "BYE sip:placeholder SIP/2.0")
        self.bench.answer_all({("A", "proxy.test"): ["127.0.0.9"]})
        self.assertEqual(self.bench.heads(), ["BYE"])
        self.assertEqual(len([one for one in self.app.take() if "SIP/2.0 487 " in one]), 1)


class OutcomeTests(SentTestCase):
    """The end of a request, made up or not."""

    def test_somebody_works_on_it(self) -> None:
        """A request that somebody works on goes nowhere else, and ends with his silence."""
        self.bench.zone = {("A", "example.test"): ["127.0.0.8", "127.0.0.9"]}
        asked = self.ask("MESSAGE", "sip:bob@example.test")
        self.bench.receive(reply(asked, 183), host="127.0.0.8", port=5060)
        self.assertEqual(len(self.app.take()), 1)
        self.bench.wire.sent.clear()
        self.bench.clock.pump([1.0] * 33)
        self.assertEqual({flow.remote_host for flow, _ in self.bench.wire.sent}, {"127.0.0.8"})
        self.assertIn("SIP/2.0 408 ", self.app.take()[0])

    def test_silence_in_a_dialog(self) -> None:
        """A final response that is made up in a dialog has the tags of the dialog."""
        info = self.sent_in(self.up(), "INFO")
        self.seen(33)
        [told] = self.app.take()
        made = Response.from_bytes(told.partition("\r\n")[2].encode())
        self.assertEqual((made.status, made.get("To")), (408, info.get("To")))

    def test_challenged_unsubscribing(self) -> None:
        """A subscription whose end is challenged goes on, so that credentials may follow."""
        for status, goes_on in ((401, True), (407, True), (403, False)):
            self.setUp()
            [told] = self.respond(self.ask("SUBSCRIBE", extra="Event: dialog"), 200)
            dialog = told.split("|")[9]
            last = self.sent_in(dialog, "SUBSCRIBE", "\r\nEvent: dialog\r\nExpires: 0")
            self.respond(last, status)
            self.assertEqual(len(self.bench.core.dialogs), goes_on, status)

    def test_contact_of_a_cancel(self) -> None:
        """A CANCEL has no Contact, whatever the application writes."""
        self.respond(self.ask(), 180)
        self.app.command(
            f"sip|{self.asked_id}|\r\nCANCEL {TARGET} SIP/2.0\r\n"
            "Contact: <sip:me@x>\r\nX-Why: b\r\n\r\n"
        )
        [cancel] = self.bench.take()
        self.assertEqual((cancel.get("Contact"), cancel.get("X-Why")), (None, "b"))

    def test_cancelled_and_gone(self) -> None:
        """What an application has cancelled is not cancelled again when it is gone."""
        invite = self.ask()
        self.app.command(
            f"sip|{self.asked_id}|\r\nCANCEL {TARGET} SIP/2.0\r\nReason: SIP;cause=200\r\n\r\n"
        )
        self.app.close()
        self.bench.receive(reply(invite, 180), port=32071)
        [cancel] = self.bench.take()
        self.assertEqual((head(cancel), cancel.get("Reason")), ("CANCEL", "SIP;cause=200"))

    def test_gone_while_looked_for(self) -> None:
        """An INVITE of an application that is gone is over at once when nobody has it."""
        self.app.command("sip||\r\nINVITE sip:bob@example.test SIP/2.0\r\n\r\n")
        uac = self.bench.core.uac
        self.assertEqual(len(uac.invites), 1)
        self.app.close()
        self.assertEqual(len(uac.invites), 0)
        self.bench.answer_all({("A", "example.test"): ["127.0.0.9"]})
        self.assertEqual(self.bench.take(), [])

    def test_one_record(self) -> None:
        """However many places a BYE is sent to, there is one record of it."""
        self.bench = type(self.bench)(cdrs=True)
        self.app = self.bench.link("notify")
        records = self.bench.link("cdr:stop")
        self.bench.zone = {("A", "proxy.test"): ["127.0.0.8", "127.0.0.9"]}
        invite = self.ask()
        text = reply(invite, 200, extra="Record-Route: <sip:proxy.test;lr>")
        self.bench.receive(text, port=32071)
        [told] = self.app.take()
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        self.app.ask(told.split("|")[9], "BYE sip:placeholder SIP/2.0")
        for flow, data in self.bench.wire.sent[-1:]:
            self.bench.core.sip_send_failed(flow, OSError("refused"), data)
        byes = [one for one in self.bench.take() if head(one) == "BYE"]
        self.assertEqual(len(byes), 2)
        self.assertEqual(len(records.take()), 1)


class AcceptedTests(SentTestCase):
    """An INVITE from its 2xx on."""

    def test_late_ack(self) -> None:
        """An ACK that comes when the transaction is gone is waited for no more."""
        [told] = self.respond(self.ask(), 200)
        self.seen(33)
        counts = self.bench.core.counts()
        self.assertEqual((counts["client_transactions"], counts["deadlines"]), (0, 1))
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        self.assertEqual(self.bench.heads(), ["ACK"])
        self.assertEqual(self.bench.core.counts()["deadlines"], 0)

    def test_description_of_a_refresh(self) -> None:
        """A refresh of the server has the description that the application sent last."""
        timer = "Session-Expires: 90;refresher=uac"
        first, second = ("v=0\r\no=- 1 1 IN IP4 h\r\n", "v=0\r\no=- 1 2 IN IP4 h\r\n")
        for bodies, expected in (((first, ""), first), ((first, second), second)):
            self.setUp()
            dialog = ""
            for body in bodies:
                route = dialog or ""
                self.app.command(f"sip||{route}\r\nINVITE {TARGET} SIP/2.0\r\n\r\n{body}")
                invite = self.request(self.bench.take()[-1])
                self.assertEqual(invite.body, body.encode())
                [told] = self.respond(invite, 200, extra=timer)
                dialog = told.split("|")[9]
                self.app.ask(dialog, "ACK sip:placeholder SIP/2.0")
                self.bench.take()
            self.bench.clock.pump([1.0] * 60)
            refresh = self.request(self.bench.take()[0])
            self.assertEqual((refresh.method, refresh.body), ("INVITE", expected.encode()))

    def test_answered_bye(self) -> None:
        """A BYE of the server that was answered goes to no other place, whatever comes later."""
        self.bench.zone = {("A", "proxy.test"): ["127.0.0.8", "127.0.0.9"]}
        invite = self.ask()
        self.respond(invite, 180)
        self.app.command(f"sip|{self.asked_id}|\r\nCANCEL {TARGET} SIP/2.0\r\n\r\n")
        [told] = self.respond(invite, 200, extra="Record-Route: <sip:proxy.test;lr>")
        self.bench.take()
        self.app.ask(told.split("|")[9], "ACK sip:placeholder SIP/2.0")
        flow, data = self.bench.wire.sent[-1]
        bye = self.request(self.bench.take()[-1])
        self.assertEqual((bye.method, flow.remote_host), ("BYE", "127.0.0.8"))
        self.bench.receive(reply(bye, 200), port=5060, host="127.0.0.8")
        self.bench.core.sip_send_failed(flow, OSError("refused"), data)
        self.assertEqual(self.bench.take(), [])
