"""What drachtio-srf users look for by name, as far as no other test shows it."""

from __future__ import annotations

from typing import Any

from drachtwist import Dialog, Request, Response, couple, sip
from tests.app.calling import ANSWER, CallTestCase
from tests.server.doubles import request
from tests.whole import TARGET


class DialogTests(CallTestCase):
    def test_other(self) -> None:
        """Bridged dialogs know each other, until one of them is over."""
        req, res = self.ring()
        bridging = self.srf.create_b2bua(req, res, TARGET)
        self.whole.respond(self.whole.request(), 200, body=ANSWER)
        self.answer = next(one for one in self.whole.sent() if isinstance(one, sip.Response))
        uas, uac = self.successResultOf(bridging)
        self.assertIs(uas.other, uac)
        self.assertIs(uac.other, uas)
        seen: list[Dialog | None] = []
        uas.on_destroy(lambda bye: seen.append(uas.other))
        self.from_a("ACK", 1)
        self.from_a("BYE", 2)
        self.assertEqual(seen, [uac])
        self.assertIsNone(uas.other)

    def test_coupled(self) -> None:
        """So do dialogs that are coupled."""
        one = self.answered()
        calling = self.srf.create_uac(TARGET, local_sdp=ANSWER)
        self.whole.respond(self.whole.request(), 200, body=ANSWER)
        other = self.successResultOf(calling)
        couple(one, other)
        self.assertIs(one.other, other)

    def test_queue(self) -> None:
        """Requests in a dialog can be made to wait."""
        dialog = self.answered()
        seen: list[str] = []

        @dialog.on_info
        def info(req: Request, res: Response) -> None:
            seen.append(req.method)
            res.send(200)

        dialog.hold_requests()
        self.from_a("INFO", 2)
        self.assertEqual(seen, [])
        dialog.release_requests()
        self.assertEqual(seen, ["INFO"])

    def test_ids(self) -> None:
        """Call-ID and tags are those of the messages."""
        dialog = self.answered()
        self.assertEqual(dialog.call_id, self.answer.get("Call-ID"))
        self.assertEqual(dialog.local.tag, self.answer.to.tag)
        self.assertEqual(dialog.remote.tag, self.answer.from_.tag)
        self.assertIs(self.srf.find_dialog_by_id(dialog.id), dialog)

    def test_subscriptions(self) -> None:
        """Each event that is accepted counts; the dialog is over with the first that ends."""
        accepted: list[Dialog] = []

        @self.srf.subscribe
        async def subscribe(req: Request, res: Response) -> None:
            dialog = await self.srf.create_uas(req, res, headers={"Expires": "60"})
            dialog.on_subscribe(lambda req, res: res.send(200, headers={"Expires": "60"}))
            accepted.append(dialog)

        self.whole.pump()
        self.whole.receive(request("SUBSCRIBE", extra="Event: presence\nExpires: 60\n"), 32070)
        [self.answer] = [one for one in self.whole.sent() if isinstance(one, sip.Response)]
        [dialog] = accepted
        self.assertEqual(dialog.subscriptions, ("presence",))
        self.from_a("SUBSCRIBE", 2, "Event: dialog;id=7\nExpires: 60\n")
        self.assertEqual(self.whole.heads(), ["200 SUBSCRIBE"])
        self.assertEqual(dialog.subscriptions, ("presence", "dialog;id=7"))
        headers = {"Event": "presence", "Subscription-State": "terminated"}
        notifying = dialog.notify(headers=headers)
        self.whole.respond(self.whole.request(), 200, port=32070)
        self.assertEqual(self.successResultOf(notifying).status, 200)
        self.assertEqual((dialog.subscriptions, dialog.connected), ((), False))


class MessageTests(CallTestCase):
    def test_request(self) -> None:
        """A request tells how it came, and what it is."""
        req, res = self.ring("X-A: 1\n")
        self.assertEqual((req.source, req.protocol), ("network", "udp"))
        self.assertEqual((req.source_address, req.source_port), ("127.0.0.1", 32070))
        self.assertTrue(req.stack_txn_id)
        self.assertTrue(req.is_new_invite)
        self.assertTrue(req.can_form_dialog)
        self.assertEqual(req.get_header_name("x-a"), "X-A")
        self.assertTrue(req.vias[0].params.get("branch"))
        self.assertIs(req.srf, self.srf)
        self.assertIs(req.res, res)
        self.assertEqual(req.server.version, req.link.server_version)

    def test_headers_of_a_response(self) -> None:
        """Headers can be set on a response, looked at, and taken back, before it is sent."""
        _, res = self.ring()
        res.set("X-A", "1")
        res.set("X-B", "2")
        res.remove("X-B")
        self.assertEqual((res.get("X-A"), res.has("X-B")), ("1", False))
        self.assertFalse(res.headers_sent)
        sending = res.send(486)
        [refusal] = self.whole.sent()
        self.assertEqual((refusal.get("X-A"), refusal.get("X-B")), ("1", None))
        self.assertTrue(res.finished and res.headers_sent and res.final_response_sent)
        self.assertEqual(self.successResultOf(sending).status, 486)

    def test_disconnect(self) -> None:
        """Who stops is disconnected, which is told."""
        seen: list[Any] = []
        self.srf.on_close(seen.append)
        stopping = self.srf.stop()
        self.whole.clock.advance(0)
        self.assertEqual(len(seen), 1)
        self.successResultOf(stopping)


class HangUpTests(CallTestCase):
    def test_behind_the_ack(self) -> None:
        """A BYE waits for the ACK: before that the caller may not know of the call."""
        req, res = self.ring()
        accepting = self.srf.create_uas(req, res, local_sdp=ANSWER)
        [self.answer] = [one for one in self.whole.sent() if isinstance(one, sip.Response)]
        dialog = self.successResultOf(accepting)
        ending = dialog.destroy()
        self.assertEqual(self.whole.heads(), [])
        self.assertFalse(dialog.connected)
        self.from_a("ACK", 1)
        bye = self.whole.request()
        self.assertEqual(bye.method, "BYE")
        self.whole.respond(bye, 200, port=32070)
        response = self.successResultOf(ending)
        assert response is not None
        self.assertEqual(response.status, 200)
        self.assertTrue(self.srf.idle)

    def test_no_ack_at_all(self) -> None:
        """When the ACK never comes the server ends the call, and the waiting with it."""
        req, res = self.ring()
        accepting = self.srf.create_uas(req, res, local_sdp=ANSWER)
        self.whole.pump()
        dialog = self.successResultOf(accepting)
        ending = dialog.destroy()
        self.whole.pass_time(40)
        self.assertIsNone(self.successResultOf(ending))
        self.assertTrue(self.srf.idle)

    def test_caller_is_faster(self) -> None:
        """A caller who hangs up meanwhile ends it too."""
        req, res = self.ring()
        accepting = self.srf.create_uas(req, res, local_sdp=ANSWER)
        [self.answer] = [one for one in self.whole.sent() if isinstance(one, sip.Response)]
        dialog = self.successResultOf(accepting)
        ending = dialog.destroy()
        self.from_a("BYE", 2)
        self.assertIsNone(self.successResultOf(ending))
        self.assertTrue(self.srf.idle)
