"""Tests of dialogs that are up: what comes in, what goes out, and the end."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    CommandRefused,
    ConnectionLost,
    Dialog,
    DialogEnd,
    LocalProtocolError,
    Request,
    Response,
    SipError,
)
from tests.app.doubles import ANSWER, OFFER, Bench, Sent

DIALOG = "c1;from-tag=a"
HELD = OFFER.replace("1001 1 ", "1001 2 ").replace("sendrecv", "sendonly")
RESUMED = OFFER.replace("1001 1 ", "1001 3 ")


class DialogTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Take a call, up to the ACK."""
        self.bench = Bench()
        self.srf = self.bench.srf
        self.dialogs: list[Dialog] = []

        @self.srf.invite
        async def answer(req: Request, res: Response) -> None:
            self.dialogs.append(await self.srf.create_uas(req, res, local_sdp=ANSWER))

        self.server = self.bench.connect()
        self.server.establish()
        [self.dialog] = self.dialogs

    def ask(self, method: str, **options: Any) -> str:
        """Let a request of the peer come in."""
        options.setdefault("dialog_id", DIALOG)
        options.setdefault("number", 2)
        return self.server.ask(method, **options)

    def answer(self) -> tuple[int, Response]:
        """Take the only response that was sent."""
        response: Any = self.server.one().response
        return response.status, response

    def expect(self, method: str) -> Sent:
        """Take the only request that was sent in the dialog."""
        sent = self.server.one()
        self.assertEqual((sent.head, sent.dialog_id), (method, DIALOG))
        self.assertEqual(sent.transaction_id, "")
        return sent


class IncomingTests(DialogTestCase):
    def test_automatic_answers(self) -> None:
        """Requests without a handler are answered 200, unknown ones 501."""
        for method in ("INFO", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER"):
            txn = self.ask(method)
            sent = self.server.one()
            self.assertEqual((sent.head, sent.transaction_id, sent.dialog_id), ("200", txn, ""))
        self.ask("FOO")
        self.assertEqual(self.server.heads(), ["501"])
        self.ask("REGISTER")
        self.assertEqual(self.server.heads(), ["501"])

    def test_handlers(self) -> None:
        """Each method can have handlers, which answer."""
        seen: list[tuple[str, str]] = []
        adders: dict[str, Callable[[Any], Any]] = {
            "INFO": self.dialog.on_info,
            "MESSAGE": self.dialog.on_message,
            "NOTIFY": self.dialog.on_notify,
            "OPTIONS": self.dialog.on_options,
            "PRACK": self.dialog.on_prack,
            "PUBLISH": self.dialog.on_publish,
            "REFER": self.dialog.on_refer,
            "SUBSCRIBE": self.dialog.on_subscribe,
            "UPDATE": self.dialog.on_update,
            "INVITE": self.dialog.on_modify,
        }
        for method, add in adders.items():

            def handler(req: Request, res: Response) -> None:
                seen.append((req.method, req.text))
                res.send(202)

            self.assertIs(add(handler), handler)
            self.ask(method, body="x")
            self.server.confirm(self.server.one(), DIALOG)
        self.assertEqual(seen, [(method, "x") for method in adders])
        self.assertEqual(len(seen), 10)

    def test_any_method(self) -> None:
        """A handler can be for a method that nobody has heard of."""
        self.dialog.on_request("foo", lambda req, res: res.send(299))
        self.ask("FOO")
        self.assertEqual(self.server.heads(), ["299"])

    def test_coroutine(self) -> None:
        """A handler may be a coroutine, and take its time."""
        wait: Deferred[None] = Deferred()

        @self.dialog.on_info
        async def info(req: Request, res: Response) -> None:
            await wait
            res.send(200)

        self.ask("INFO")
        self.assertEqual(self.server.heads(), [])
        wait.callback(None)
        self.assertEqual(self.server.heads(), ["200"])

    def test_failing_handler(self) -> None:
        """A handler that fails is logged with the Call-ID, and 500 is the answer."""

        @self.dialog.on_info
        def info(req: Request, res: Response) -> None:
            raise ZeroDivisionError

        self.ask("INFO")
        self.assertEqual(self.server.heads(), ["500"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertTrue(self.dialog.connected)

    def test_failing_coroutine(self) -> None:
        """A coroutine that fails later is answered likewise."""
        wait: Deferred[None] = Deferred()

        @self.dialog.on_info
        async def info(req: Request, res: Response) -> None:
            await wait

        self.ask("INFO")
        wait.errback(ZeroDivisionError())
        self.assertEqual(self.server.heads(), ["500"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_cancel_of_a_modification(self) -> None:
        """The CANCEL of a re-INVITE is not answered."""
        self.ask("CANCEL")
        self.assertEqual(self.server.heads(), [])
        self.assertTrue(self.dialog.connected)

    def test_ack_again(self) -> None:
        """Each ACK is told to whoever wants to know; the wait is over with the first."""
        acks: list[Request | None] = []
        self.dialog.on_ack(acks.append)
        self.assertEqual(acks, [None])
        self.ask("ACK", number=3)
        assert acks[1] is not None
        self.assertEqual(acks[1].method, "ACK")
        self.assertEqual(self.server.heads(), [])

    def test_queue(self) -> None:
        """Requests can be held back until somebody is ready; a BYE is not."""
        seen: list[str] = []

        @self.dialog.on_info
        def info(req: Request, res: Response) -> None:
            seen.append(req.text)
            res.send(200)

        self.dialog.hold_requests()
        self.ask("INFO", body="1")
        self.ask("INFO", body="2")
        self.assertEqual((seen, self.server.heads()), ([], []))
        self.dialog.release_requests()
        self.assertEqual((seen, self.server.heads()), (["1", "2"], ["200", "200"]))
        self.dialog.hold_requests()
        self.ask("INFO")
        self.ask("BYE")
        self.assertEqual(self.server.heads(), ["200"])
        self.assertIsNotNone(self.dialog.ended)


class FirstAckTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Take a call, up to the answer."""
        self.bench = Bench()
        self.dialogs: list[Dialog] = []

        @self.bench.srf.invite
        async def answer(req: Request, res: Response) -> None:
            self.dialogs.append(await self.bench.srf.create_uas(req, res, local_sdp=OFFER))

        self.server = self.bench.connect()
        self.txn = self.server.invite(body="")
        self.server.confirm(self.server.one(), DIALOG)
        [self.dialog] = self.dialogs

    def ack(self, body: str = "") -> None:
        """Let the ACK come in."""
        self.server.ask("ACK", dialog_id=DIALOG, transaction_id=self.txn, body=body)

    def test_waiting(self) -> None:
        """The ACK can be waited for."""
        waiting = self.dialog.when_acked()
        self.assertNoResult(waiting)
        self.ack()
        ack = self.successResultOf(waiting)
        assert ack is not None
        self.assertEqual(ack.method, "ACK")
        self.assertIsNone(self.successResultOf(self.dialog.when_acked()))

    def test_answer_in_the_ack(self) -> None:
        """When the offer was ours, the answer is in the ACK."""
        self.assertEqual(self.dialog.remote.sdp, b"")
        self.ack(ANSWER)
        self.assertEqual(self.dialog.remote.sdp, ANSWER.encode())

    def test_link_lost(self) -> None:
        """The wait ends when the connection does."""
        waiting = self.dialog.when_acked()
        self.server.lose()
        self.failureResultOf(waiting, ConnectionLost)
        self.failureResultOf(self.dialog.when_acked(), ConnectionLost)

    def test_never(self) -> None:
        """The wait ends when the server gives up, with a BYE that is not answered."""
        waiting = self.dialog.when_acked()
        seen: list[Any] = []
        self.dialog.on_destroy(seen.append)
        self.server.ask(
            "BYE",
            dialog_id=DIALOG,
            transaction_id="unsolicited",
            source="application",
            headers={"Reason": 'SIP;cause=200;text="ACK timeout"'},
        )
        self.assertEqual(self.failureResultOf(waiting, SipError).value.status, 481)
        self.assertEqual(self.server.heads(), [])
        ended = self.dialog.ended
        assert ended is not None
        self.assertEqual((ended.reason, ended.text), (DialogEnd.SERVER, "ACK timeout"))
        self.assertEqual(seen, [ended.request])
        self.assertTrue(self.bench.srf.idle)

    def test_stop_waiting(self) -> None:
        """Whoever waits may stop to."""
        waiting = self.dialog.when_acked()
        waiting.addErrback(lambda failure: None)
        waiting.cancel()
        self.ack()
        self.assertIsNone(self.successResultOf(self.dialog.when_acked()))

    def test_request_before_the_ack(self) -> None:
        """The dialog is up before the ACK: requests are answered, and can be sent."""
        self.server.ask("INFO", dialog_id=DIALOG, number=2)
        self.assertEqual(self.server.heads(), ["200"])
        self.dialog.info()
        self.assertEqual(self.server.heads(), ["INFO"])


class EndTests(DialogTestCase):
    def test_bye(self) -> None:
        """The peer's BYE is answered, and ends the dialog."""
        seen: list[Any] = []
        self.dialog.on_destroy(seen.append)
        waiting = self.dialog.when_ended()
        txn = self.ask("BYE")
        sent = self.server.one()
        self.assertEqual((sent.head, sent.transaction_id), ("200", txn))
        self.assertEqual([bye.method for bye in seen], ["BYE"])
        ended = self.successResultOf(waiting)
        self.assertEqual((ended.reason, ended.request), (DialogEnd.REMOTE, seen[0]))
        self.assertEqual(self.dialog.ended, ended)
        self.assertFalse(self.dialog.connected)
        self.assertFalse(self.srf.idle)
        self.server.confirm(sent)
        self.assertTrue(self.srf.idle)
        self.assertEqual(self.successResultOf(self.dialog.when_ended()), ended)

    def test_text(self) -> None:
        """What is known of the end can be shown to people: the BYE's own words, if it has any."""
        self.ask("BYE")
        ended = self.dialog.ended
        assert ended is not None
        self.assertEqual(ended.text, "the peer ended it")

    def test_text_of_the_peer(self) -> None:
        """A Reason of the BYE tells more (RFC 3326)."""
        self.ask("BYE", headers={"Reason": 'Q.850;cause=16;text="Normal call clearing"'})
        ended = self.dialog.ended
        assert ended is not None
        self.assertEqual(ended.text, "Normal call clearing")

    def test_destroy(self) -> None:
        """The application ends a dialog with a BYE; its handlers are not called for that."""
        seen: list[Any] = []
        self.dialog.on_destroy(seen.append)
        waiting = self.dialog.when_ended()
        destroying = self.dialog.destroy({"Reason": "SIP;cause=200"})
        sent = self.expect("BYE")
        self.assertEqual(sent.request.get("Reason"), "SIP;cause=200")
        self.assertFalse(self.dialog.connected)
        self.assertIsNone(self.dialog.ended)
        txn = self.server.confirm(sent)
        self.assertNoResult(destroying)
        self.server.respond(txn, 200, method="BYE", dialog_id=DIALOG)
        response = self.successResultOf(destroying)
        assert response is not None
        self.assertEqual(response.status, 200)
        self.assertEqual(self.successResultOf(waiting).reason, DialogEnd.LOCAL)
        self.assertEqual(seen, [])
        self.dialog.on_destroy(seen.append)
        self.assertEqual(seen, [])
        self.assertTrue(self.srf.idle)
        self.assertIsNone(self.srf.find_dialog_by_id(DIALOG))

    def test_destroy_any_response(self) -> None:
        """A BYE that is refused ends the dialog too."""
        destroying = self.dialog.destroy()
        self.server.respond(self.server.confirm(self.expect("BYE")), 481, method="BYE")
        response = self.successResultOf(destroying)
        assert response is not None
        self.assertEqual(response.status, 481)
        self.assertIsNotNone(self.dialog.ended)

    def test_destroy_challenged(self) -> None:
        """A peer that wants credentials for the BYE keeps the dialog, and so does the server."""
        destroying = self.dialog.destroy()
        other = self.dialog.destroy()
        self.server.respond(self.server.confirm(self.expect("BYE")), 407, method="BYE")
        response = self.successResultOf(destroying)
        assert response is not None
        self.assertEqual(response.status, 407)
        self.assertIsNone(self.successResultOf(other))
        self.assertTrue(self.dialog.connected)
        again = self.dialog.destroy({"Proxy-Authorization": "Digest x=y"})
        self.server.respond(self.server.confirm(self.expect("BYE")), 200, method="BYE")
        self.successResultOf(again)
        self.assertIsNotNone(self.dialog.ended)

    def test_destroy_twice(self) -> None:
        """Only one BYE is sent; who comes second waits for the first."""
        first, second = self.dialog.destroy(), self.dialog.destroy()
        sent = self.expect("BYE")
        self.assertNoResult(second)
        self.server.respond(self.server.confirm(sent), 200, method="BYE")
        self.assertIsNotNone(self.successResultOf(first))
        self.assertIsNone(self.successResultOf(second))
        self.assertIsNone(self.successResultOf(self.dialog.destroy()))
        self.assertEqual(self.server.heads(), [])

    def test_destroy_crossing(self) -> None:
        """Two BYEs that cross: ours gets its answer, the peer's is answered."""
        destroying = self.dialog.destroy()
        txn = self.server.confirm(self.expect("BYE"))
        self.ask("BYE")
        self.assertEqual(self.server.heads(), ["200"])
        self.server.respond(txn, 481, method="BYE")
        self.assertIsNotNone(self.successResultOf(destroying))

    def test_destroy_unknown(self) -> None:
        """That the server does not know the dialog any more is as good as its end."""
        destroying = self.dialog.destroy()
        self.server.refuse(
            self.expect("BYE"), "Server error: unable to find dialog for dialog id provided"
        )
        self.assertIsNone(self.successResultOf(destroying))
        self.assertIsNotNone(self.dialog.ended)

    def test_destroy_refused(self) -> None:
        """When the server does not send the BYE the dialog is still up."""
        destroying = self.dialog.destroy(body="x")
        self.server.refuse(self.expect("BYE"), "Server error: missing content-type")
        self.failureResultOf(destroying, CommandRefused)
        self.assertTrue(self.dialog.connected)
        self.dialog.destroy()
        self.expect("BYE")

    def test_destroy_nonsense(self) -> None:
        """Headers that cannot be sent are refused, and the dialog is still up."""
        with self.assertRaises(LocalProtocolError):
            self.dialog.destroy({"X": "a\r\nb"})
        self.assertTrue(self.dialog.connected)
        self.assertEqual(self.server.heads(), [])

    def test_destroy_link_lost(self) -> None:
        """A BYE on its way fails when the connection goes."""
        destroying = self.dialog.destroy()
        self.server.take()
        self.server.lose()
        self.failureResultOf(destroying, ConnectionLost)
        ended = self.dialog.ended
        assert ended is not None
        self.assertEqual(ended.reason, DialogEnd.LINK_LOST)

    def test_destroy_unheard(self) -> None:
        """Nobody has to look at what becomes of a BYE."""
        self.dialog.destroy()
        self.server.take()
        self.server.lose()
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_bye_method(self) -> None:
        """A BYE can be sent by its name."""
        response = self.dialog.bye(headers={"X": "1"})
        self.server.respond(self.server.confirm(self.expect("BYE")), 200, method="BYE")
        self.assertEqual(self.successResultOf(response).status, 200)
        self.assertIsNotNone(self.dialog.ended)
        self.assertEqual(self.failureResultOf(self.dialog.bye(), SipError).value.status, 481)

    def test_failing_handler(self) -> None:
        """A handler of the end that fails is logged; the others are called."""
        seen: list[Any] = []

        @self.dialog.on_destroy
        def fail(bye: Request | None) -> None:
            raise ZeroDivisionError

        self.dialog.on_destroy(seen.append)
        self.ask("BYE")
        self.assertEqual(len(seen), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_after_the_end(self) -> None:
        """Nothing can be sent in a dialog that is over."""
        self.ask("BYE")
        self.server.take()
        for sending in (self.dialog.info(), self.dialog.invite(), self.dialog.modify("hold")):
            self.assertEqual(self.failureResultOf(sending, SipError).value.status, 481)
        self.assertEqual(self.server.heads(), [])

    def test_late_requests(self) -> None:
        """What comes in a dialog that is over is answered 481."""
        self.ask("BYE")
        self.server.take()
        self.ask("INFO", number=3)
        self.assertEqual(self.server.heads(), ["481"])

    def test_stop_waiting(self) -> None:
        """Whoever waits for the end may stop to."""
        waiting = self.dialog.when_ended()
        waiting.addErrback(lambda failure: None)
        waiting.cancel()
        self.ask("BYE")
        self.assertIsNotNone(self.dialog.ended)


class LinkLossTests(DialogTestCase):
    def test_told(self) -> None:
        """Every dialog of a connection that goes learns it."""
        self.server.establish("c2")
        seen: list[Any] = []
        waits = []
        for dialog in self.dialogs:
            dialog.on_destroy(seen.append)
            waits.append(dialog.when_ended())
        self.server.lose()
        self.assertEqual(seen, [None, None])
        for wait in waits:
            ended = self.successResultOf(wait)
            self.assertEqual((ended.reason, ended.request), (DialogEnd.LINK_LOST, None))
            self.assertIn("closed cleanly", ended.text)
        self.assertFalse(self.dialog.connected)
        self.assertEqual(self.srf.links, [])

    def test_pending_requests(self) -> None:
        """Requests on their way fail, sent, confirmed or ringing."""
        sent, confirmed, provisional = (self.dialog.info() for _ in range(3))
        modified = self.dialog.modify(ANSWER)
        queued = self.dialog.modify("hold")
        commands = self.server.take()
        self.assertEqual([one.head for one in commands], ["INFO", "INFO", "INFO", "INVITE"])
        self.server.confirm(commands[1])
        self.server.respond(self.server.confirm(commands[2]), 180)
        self.server.confirm(commands[3])
        self.server.lose()
        for waiting in (sent, confirmed, provisional, modified, queued):
            self.failureResultOf(waiting, ConnectionLost)
        self.bench.connection.stop()
        self.bench.settle()
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_afterwards(self) -> None:
        """What is sent in such a dialog later fails likewise."""
        self.server.lose()
        self.failureResultOf(self.dialog.info(), ConnectionLost)
        self.assertIsNone(self.successResultOf(self.dialog.destroy()))

    def test_nobody_listens(self) -> None:
        """Failures that nobody listens to are no unhandled errors."""
        self.dialog.info()
        self.server.confirm(self.server.one())
        self.server.lose()
        gc.collect()
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_farewell(self) -> None:
        """The peer of a call that outlived its connection gets a BYE over the next one."""
        self.server.lose()
        self.bench.pass_time(1)
        self.bench.settle()
        server = self.bench.servers[-1]
        self.assertIsNot(server, self.server)
        sent = server.one()
        self.assertEqual((sent.head, sent.dialog_id), ("BYE", DIALOG))
        self.assertIn("cause=503", sent.request.get("Reason") or "")
        server.refuse(sent, "Server error: unable to find dialog for dialog id provided")
        self.assertTrue(self.srf.idle)


class RequestTests(DialogTestCase):
    def test_methods(self) -> None:
        """Each method can be sent, with headers and a body."""
        for method in (
            "info",
            "message",
            "notify",
            "options",
            "prack",
            "publish",
            "refer",
            "register",
            "subscribe",
            "update",
        ):
            waiting = getattr(self.dialog, method)(headers={"X-A": "1"}, body="größe")
            sent = self.expect(method.upper())
            request = sent.request
            self.assertEqual((request.get("X-A"), request.text), ("1", "größe"))
            self.assertEqual(request.get("Content-Length"), "7")
            self.assertNoResult(waiting)
            txn = self.server.confirm(sent)
            self.server.respond(txn, 202, dialog_id=DIALOG, body="yes")
            response = self.successResultOf(waiting)
            self.assertEqual((response.status, response.body), (202, b"yes"))
            self.assertEqual((response.stack_txn_id, response.source), (txn, "network"))

    def test_refusal_is_a_result(self) -> None:
        """A final failure is a result, and the dialog goes on."""
        waiting = self.dialog.info()
        self.server.respond(self.server.confirm(self.expect("INFO")), 415)
        self.assertEqual(self.successResultOf(waiting).status, 415)
        self.assertTrue(self.dialog.connected)

    def test_same_read(self) -> None:
        """The response may come in the same read as the answer to the command, or before it."""
        first, second = self.dialog.info(), self.dialog.message()
        one, other = self.server.take()
        with self.server.in_one_read():
            self.server.respond(self.server.confirm(one), 200)
        self.successResultOf(first)
        with self.server.in_one_read():
            self.server.respond("t99", 200)
            self.server.send(
                f"r|response|{other.id}|OK|application|1|udp|127.0.0.1|32060|01:02:03.4|t99|"
                "Msg sent:|\r\nMESSAGE sip:x SIP/2.0\r\n\r\n"
            )
        self.successResultOf(second)

    def test_several_at_once(self) -> None:
        """Answers and responses may come in any order."""
        first, second = self.dialog.info(), self.dialog.info()
        one, other = self.server.take()
        txn_other, txn_one = self.server.confirm(other), self.server.confirm(one)
        self.server.respond(txn_other, 202)
        self.server.respond(txn_one, 203)
        self.assertEqual(self.successResultOf(first).status, 203)
        self.assertEqual(self.successResultOf(second).status, 202)

    def test_provisional(self) -> None:
        """A provisional response is no result; as the server then forgets, 408 is made up."""
        waiting = self.dialog.info()
        self.server.respond(self.server.confirm(self.expect("INFO")), 180)
        self.assertNoResult(waiting)
        self.bench.pass_time(32)
        response = self.successResultOf(waiting)
        self.assertEqual((response.status, response.source), (408, "application"))

    def test_server_forgot(self) -> None:
        """A dialog that the server does not know is a failure 481."""
        waiting = self.dialog.info()
        self.server.refuse(
            self.expect("INFO"), "Server error: unable to find dialog for dialog id provided"
        )
        self.assertEqual(self.failureResultOf(waiting, SipError).value.status, 481)

    def test_server_refused(self) -> None:
        """What the server does not send is a failure with the server's words."""
        waiting = self.dialog.message(body="x")
        self.server.refuse(self.expect("MESSAGE"), "Server error: missing content-type")
        error = self.failureResultOf(waiting, CommandRefused).value
        self.assertEqual(error.text, "Server error: missing content-type")
        self.assertTrue(self.dialog.connected)

    def test_end_while_waiting(self) -> None:
        """When the dialog ends, the response may still come, but is not waited for for ever."""
        heard, unheard = self.dialog.info(), self.dialog.info()
        one, other = self.server.take()
        txn = self.server.confirm(one)
        self.server.confirm(other)
        self.ask("BYE")
        self.server.respond(txn, 200)
        self.assertEqual(self.successResultOf(heard).status, 200)
        self.assertNoResult(unheard)
        self.bench.pass_time(32)
        self.assertEqual(self.successResultOf(unheard).status, 408)

    def test_no_requests(self) -> None:
        """ACK and CANCEL are no requests of their own."""
        for method in ("ack", "CANCEL"):
            with self.assertRaises(LocalProtocolError):
                self.dialog.request(method)

    def test_nonsense(self) -> None:
        """What cannot be sent is refused at once."""
        for arguments in (("BAD METHOD", {}), ("INFO", {"headers": {"X": "a\nb"}})):
            with self.assertRaises(LocalProtocolError):
                self.dialog.request(arguments[0], **arguments[1])  # type: ignore[arg-type]
        self.assertEqual(self.server.heads(), [])
        self.ask("BYE")
        self.server.confirm(self.server.one())
        self.assertTrue(self.srf.idle)


class ModifiedByPeerTests(DialogTestCase):
    def modify(self, sdp: str, **options: Any) -> Any:
        """Let a re-INVITE come in, and take its answer."""
        self.ask("INVITE", body=sdp, **options)
        sent = self.server.one()
        self.server.confirm(sent, DIALOG)
        return sent.response

    def test_hold(self) -> None:
        """Being put on hold is accepted, told, and remembered; so is the end of it."""
        seen: list[str] = []
        self.dialog.on_hold(lambda req: seen.append(f"hold {req.cseq.number}"))
        self.dialog.on_unhold(lambda req: seen.append("unhold"))
        response = self.modify(HELD)
        self.assertEqual(response.status, 200)
        self.assertEqual(response.get("Content-Type"), "application/sdp")
        self.assertEqual(response.get("Contact"), "<sip:127.0.0.1:32060>")
        self.assertEqual(response.text, ANSWER.replace("sendrecv", "recvonly"))
        self.assertTrue(self.dialog.is_on_hold)
        self.assertEqual(self.dialog.remote.sdp, HELD.encode())
        self.assertEqual(self.modify(RESUMED).text, ANSWER)
        self.assertFalse(self.dialog.is_on_hold)
        self.assertEqual(seen, ["hold 2", "unhold"])
        self.assertEqual(self.dialog.local.sdp, ANSWER.encode())

    def test_refresh(self) -> None:
        """A re-INVITE with the same version changes nothing."""
        seen: list[str] = []
        self.dialog.on_refresh(lambda req: seen.append("refresh"))
        self.dialog.on_hold(lambda req: seen.append("hold"))
        self.assertEqual(self.modify(OFFER).text, ANSWER)
        self.assertEqual(seen, ["refresh"])

    def test_handler(self) -> None:
        """A handler of modifications answers, except holding that has a handler of its own."""
        other = ANSWER.replace("32500", "32600")

        @self.dialog.on_modify
        def modify(req: Request, res: Response) -> None:
            res.send(200, body=other)

        holds: list[Any] = []
        self.assertEqual(self.modify(RESUMED).text, other)
        self.assertEqual(self.dialog.local.sdp, other.encode())
        self.dialog.on_hold(holds.append)
        self.assertEqual(self.modify(HELD).text, other.replace("sendrecv", "recvonly"))
        self.assertEqual(len(holds), 1)

    def test_refused_by_handler(self) -> None:
        """A handler may refuse; the dialog goes on as it was."""
        self.dialog.on_modify(lambda req, res: res.send(488))
        self.assertEqual(self.modify(RESUMED).status, 488)
        self.assertTrue(self.dialog.connected)
        self.assertEqual(self.dialog.local.sdp, ANSWER.encode())
        self.assertEqual(self.dialog.remote.sdp, OFFER.encode())
        self.assertFalse(self.dialog.is_on_hold)

    def test_hold_refused_by_handler(self) -> None:
        """A hold that was refused does not hold."""
        self.dialog.on_modify(lambda req, res: res.send(488))
        self.modify(HELD)
        self.assertFalse(self.dialog.is_on_hold)
        self.assertEqual(self.dialog.remote.sdp, OFFER.encode())

    def test_without_offer(self) -> None:
        """A re-INVITE without an offer gets ours, and the answer comes in the ACK."""
        self.assertEqual(self.modify("").text, ANSWER)
        self.ask("ACK", body=RESUMED, number=2)
        self.assertEqual(self.dialog.remote.sdp, RESUMED.encode())

    def test_glare(self) -> None:
        """While a re-INVITE of ours is open, one of the peer's is answered 491."""
        self.dialog.modify(ANSWER)
        self.expect("INVITE")
        self.assertEqual(self.modify(HELD).status, 491)

    def test_two_of_the_peer(self) -> None:
        """While one of the peer's is open, another is answered 500 with Retry-After."""
        kept: list[Response] = []
        self.dialog.on_modify(lambda req, res: kept.append(res))
        self.ask("INVITE", body=HELD)
        self.ask("INVITE", body=HELD, number=3)
        response = self.server.one().response
        self.assertEqual(response.status, 500)
        self.assertIn(int(response.get("Retry-After") or "-1"), range(11))
        kept[0].send(200)
        self.server.take()
        self.ask("INVITE", body=RESUMED, number=4)
        self.assertEqual((len(kept), self.server.heads()), (2, []))

    def test_update(self) -> None:
        """An UPDATE is answered likewise; without an offer, without a description."""
        self.ask("UPDATE", body=HELD)
        self.assertEqual(self.server.one().response.text, ANSWER.replace("sendrecv", "recvonly"))
        self.assertTrue(self.dialog.is_on_hold)
        self.ask("UPDATE")
        response = self.server.one().response
        self.assertEqual((response.status, response.body), (200, b""))

    def test_provisional(self) -> None:
        """A modification has no provisional responses: servers would answer it 500."""
        failed: list[Exception] = []

        @self.dialog.on_modify
        def modify(req: Request, res: Response) -> None:
            try:
                res.send(180)
            except LocalProtocolError as error:
                failed.append(error)
            res.send(200)

        self.assertEqual(self.modify(RESUMED).status, 200)
        self.assertEqual(len(failed), 1)


class ModifyTests(DialogTestCase):
    def accept(self, sent: Sent, sdp: str = RESUMED) -> None:
        """Let the peer accept our re-INVITE."""
        self.server.respond(self.server.confirm(sent), 200, method="INVITE", body=sdp)

    def test_accepted(self) -> None:
        """A re-INVITE that is accepted is acknowledged; both descriptions are the new ones."""
        other = ANSWER.replace("32500", "32600")
        waiting = self.dialog.modify(other, headers={"X-A": "1"})
        sent = self.expect("INVITE")
        self.assertEqual((sent.request.text, sent.request.get("X-A")), (other, "1"))
        self.assertEqual(sent.request.get("Contact"), "<sip:127.0.0.1:32060>")
        self.accept(sent)
        self.assertEqual(self.successResultOf(waiting), RESUMED.encode())
        self.expect("ACK")
        self.assertEqual(self.dialog.local.sdp, other.encode())
        self.assertEqual(self.dialog.remote.sdp, RESUMED.encode())

    def test_refused(self) -> None:
        """A refusal is a failure, and is not acknowledged; the dialog can be used as before."""
        waiting = self.dialog.modify(ANSWER.replace("32500", "32600"))
        self.server.respond(self.server.confirm(self.expect("INVITE")), 488, method="INVITE")
        error = self.failureResultOf(waiting, SipError).value
        self.assertEqual((error.status, error.response.status), (488, 488))
        self.assertEqual(self.server.heads(), [])
        self.assertEqual(self.dialog.local.sdp, ANSWER.encode())
        again = self.dialog.modify(ANSWER)
        self.accept(self.expect("INVITE"))
        self.successResultOf(again)

    def test_hold(self) -> None:
        """``hold`` and ``unhold`` offer the last description with other directions."""
        self.failureResultOf(self.dialog.modify("unhold"), LocalProtocolError)
        self.dialog.modify("hold")
        sent = self.expect("INVITE")
        held = ANSWER.replace("77 1 ", "77 2 ").replace("sendrecv", "inactive")
        self.assertEqual(sent.request.text, held)
        self.assertFalse(self.dialog.is_on_hold)
        self.accept(sent, HELD)
        self.assertTrue(self.dialog.is_on_hold)
        self.server.take()
        self.dialog.modify("unhold")
        sent = self.expect("INVITE")
        self.assertEqual(sent.request.text, ANSWER.replace("77 1 ", "77 3 "))
        self.accept(sent)
        self.assertFalse(self.dialog.is_on_hold)

    def test_one_after_the_other(self) -> None:
        """Only one re-INVITE is open at a time."""
        first, second = self.dialog.modify("hold"), self.dialog.modify(ANSWER)
        one = self.expect("INVITE")
        self.accept(one)
        self.successResultOf(first)
        ack, other = self.server.take()
        self.assertEqual((ack.head, other.head), ("ACK", "INVITE"))
        self.assertEqual(other.request.text, ANSWER)
        self.accept(other)
        self.successResultOf(second)

    def test_glare(self) -> None:
        """After a 491 the re-INVITE is repeated, by who did not make the call within 2 s."""
        waiting = self.dialog.modify(ANSWER)
        self.server.respond(self.server.confirm(self.expect("INVITE")), 491, method="INVITE")
        self.assertNoResult(waiting)
        self.bench.pass_time(2)
        self.accept(self.expect("INVITE"))
        self.successResultOf(waiting)

    def test_the_peer_was_faster(self) -> None:
        """When the pause is over the peer's own re-INVITE comes first, up to its ACK."""
        self.dialog.modify(RESUMED).addErrback(lambda failure: failure.trap(SipError))
        txn = self.server.confirm(self.expect("INVITE"))
        self.server.respond(txn, 491, method="INVITE", dialog_id=DIALOG)
        self.ask("INVITE", body=HELD, number=5)
        self.assertEqual(self.answer()[0], 200)
        self.bench.pass_time(4)
        self.assertEqual(self.server.heads(), [])
        self.ask("ACK", number=5)
        self.expect("INVITE")

    def test_endless_glare(self) -> None:
        """It is not repeated for ever."""
        waiting = self.dialog.modify(ANSWER)
        for _ in range(6):
            self.server.respond(self.server.confirm(self.expect("INVITE")), 491, method="INVITE")
            self.bench.pass_time(2)
        self.assertEqual(self.failureResultOf(waiting, SipError).value.status, 491)
        self.assertEqual(self.server.heads(), [])

    def test_end_meanwhile(self) -> None:
        """The end of the dialog ends open re-INVITEs, and those that wait."""
        open_one, waiting = self.dialog.modify("hold"), self.dialog.modify(ANSWER)
        self.server.confirm(self.expect("INVITE"))
        self.ask("BYE")
        self.assertEqual(self.failureResultOf(open_one, SipError).value.status, 487)
        self.assertEqual(self.failureResultOf(waiting, SipError).value.status, 481)
        self.server.confirm(self.server.one())
        self.assertTrue(self.srf.idle)

    def test_end_during_back_off(self) -> None:
        """The end of the dialog ends the pause after a 491."""
        waiting = self.dialog.modify(ANSWER)
        self.server.respond(self.server.confirm(self.expect("INVITE")), 491, method="INVITE")
        self.ask("BYE")
        self.assertEqual(self.failureResultOf(waiting, SipError).value.status, 481)
        self.bench.pass_time(5)
        self.assertEqual(self.server.heads(), ["200"])

    def test_invite(self) -> None:
        """A re-INVITE by its name gives the response, a refusal too."""
        waiting = self.dialog.invite(body=ANSWER)
        self.accept(self.expect("INVITE"))
        self.assertEqual(self.successResultOf(waiting).status, 200)
        self.expect("ACK")
        waiting = self.dialog.invite(body=ANSWER)
        self.server.respond(self.server.confirm(self.expect("INVITE")), 488, method="INVITE")
        self.assertEqual(self.successResultOf(waiting).status, 488)

    def test_given_up(self) -> None:
        """A modification that waits may be given up before it is sent."""
        self.dialog.modify("hold")
        waiting = self.dialog.modify(ANSWER)
        waiting.addErrback(lambda failure: None)
        waiting.cancel()
        self.accept(self.expect("INVITE"))
        self.assertEqual(self.server.heads(), ["ACK"])

    def test_ringing(self) -> None:
        """A 200 behind a provisional response never comes, so it is acknowledged unseen."""
        waiting = self.dialog.modify(ANSWER)
        self.server.respond(self.server.confirm(self.expect("INVITE")), 180, method="INVITE")
        self.bench.pass_time(32)
        self.assertEqual(self.failureResultOf(waiting, SipError).value.status, 408)
        self.expect("ACK")


class SubscriptionTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Accept a subscription."""
        self.bench = Bench()
        self.dialogs: list[Dialog] = []

        @self.bench.srf.subscribe
        async def accept(req: Request, res: Response) -> None:
            self.dialogs.append(
                await self.bench.srf.create_uas(req, res, headers={"Expires": "60"})
            )

        self.server = self.bench.connect()
        self.server.ask("SUBSCRIBE", headers={"Event": "presence", "Expires": "60"})
        self.server.confirm(self.server.one(), DIALOG)
        [self.dialog] = self.dialogs

    def ask(self, method: str, **headers: str) -> None:
        """Let a request of the subscriber come in."""
        self.server.ask(method, dialog_id=DIALOG, number=2, headers=headers)

    def test_destroy(self) -> None:
        """The notifier ends a subscription with a last NOTIFY."""
        destroying = self.dialog.destroy(body="bye")
        sent = self.server.one()
        self.assertEqual((sent.head, sent.dialog_id), ("NOTIFY", DIALOG))
        request = sent.request
        self.assertEqual(request.get("Event"), "presence")
        self.assertEqual(request.get("Subscription-State"), "terminated")
        self.assertEqual(request.text, "bye")
        self.server.respond(self.server.confirm(sent), 200, method="NOTIFY")
        self.successResultOf(destroying)
        self.assertIsNotNone(self.dialog.ended)

    def test_last_notify(self) -> None:
        """A NOTIFY that says so ends the subscription too; others do not."""
        for state, over in (("active;expires=60", False), ("terminated;reason=x", True)):
            self.dialog.notify(headers={"Event": "presence", "Subscription-State": state})
            self.server.respond(self.server.confirm(self.server.one()), 200, method="NOTIFY")
            self.assertEqual(self.dialog.ended is not None, over)

    def test_contact(self) -> None:
        """A NOTIFY has our Contact, which servers do not add (RFC 6665 section 4.1.3)."""
        contact = self.dialog.local.contact
        self.assertEqual(contact, "<sip:127.0.0.1:32060>")
        self.dialog.notify(headers={"Event": "presence", "Subscription-State": "active"})
        self.assertEqual(self.server.one().request.get_all("Contact"), [contact])
        own = "<sip:app@127.0.0.1:32061>"
        self.dialog.notify(headers={"Subscription-State": "active", "Contact": own})
        self.assertEqual(self.server.one().request.get_all("Contact"), [own])

    def test_unsubscribe(self) -> None:
        """A SUBSCRIBE that ends it is accepted and told."""
        seen: list[Any] = []
        self.dialog.on_unsubscribe(seen.append)
        self.ask("SUBSCRIBE", Expires="0", Event="presence")
        self.assertEqual(self.server.heads(), ["202"])
        self.assertEqual(len(seen), 1)
        self.assertTrue(self.dialog.connected)

    def test_refresh(self) -> None:
        """A SUBSCRIBE that keeps it alive is accepted, and may be handled."""
        self.ask("SUBSCRIBE", Expires="60", Event="presence")
        self.assertEqual(self.server.heads(), ["200"])
        self.ask("SUBSCRIBE", Expires="60", Event="dialog")
        self.assertEqual(self.server.heads(), ["489"])
        self.dialog.on_subscribe(lambda req, res: res.send(200, headers={"Expires": "60"}))
        self.ask("SUBSCRIBE", Expires="60", Event="presence")
        self.assertEqual(self.server.heads(), ["200"])

    def test_final_notify_of_the_peer(self) -> None:
        """A last NOTIFY of the peer ends it; that the server refuses our 200 is no matter."""
        seen: list[Any] = []
        self.dialog.on_destroy(seen.append)
        self.ask("NOTIFY", **{"Subscription-State": "terminated;reason=timeout"})
        self.server.gone(self.server.one())
        self.assertEqual([one.method for one in seen], ["NOTIFY"])
        self.assertEqual(self.flushLoggedErrors(), [])
        self.assertTrue(self.bench.srf.idle)


class CrossingOffersTests(DialogTestCase):
    """Servers that let everything through: one offer at a time (RFC 3311 section 5.2)."""

    def test_ours_under_way(self) -> None:
        """An UPDATE with an offer gets 491 while a re-INVITE of ours is under way."""
        changing = self.dialog.modify(ANSWER)
        changing.addErrback(lambda failure: failure.trap(SipError))
        txn = self.server.confirm(self.expect("INVITE"))
        self.ask("UPDATE", body=HELD)
        self.assertEqual(self.answer()[0], 491)
        self.assertFalse(self.dialog.is_on_hold)
        self.ask("UPDATE", number=3)
        self.assertEqual(self.answer()[0], 200)
        self.server.respond(txn, 488, method="INVITE", dialog_id=DIALOG)
        self.ask("UPDATE", body=HELD, number=4)
        self.assertEqual(self.answer()[0], 200)

    def test_ack_of_another(self) -> None:
        """The ACK of an INVITE before it, once more, does not confirm a re-INVITE of the peer."""
        self.ask("INVITE", body=RESUMED, number=5)
        self.assertEqual(self.answer()[0], 200)
        self.dialog.modify(ANSWER).addErrback(lambda failure: failure.trap(SipError))
        self.ask("ACK", number=1, body=HELD)
        self.assertEqual(self.server.heads(), [])
        self.assertEqual(self.dialog.remote.sdp, RESUMED.encode())
        self.ask("ACK", number=5)
        self.expect("INVITE")

    def test_ours_is_to_be_acknowledged(self) -> None:
        """A re-INVITE waits for an ACK that is left to the application, however long that takes."""
        self.dialog.invite(no_ack=True)
        txn = self.server.confirm(self.expect("INVITE"))
        self.server.respond(txn, 200, method="INVITE", dialog_id=DIALOG, body=OFFER)
        self.dialog.modify(ANSWER).addErrback(lambda failure: failure.trap(SipError))
        self.bench.pass_time(33)
        self.assertEqual(self.server.heads(), [])
        self.dialog.ack(ANSWER)
        self.assertEqual(self.server.heads(), ["ACK", "INVITE"])

    def test_answer_to_a_late_offer(self) -> None:
        """Directions that we gave an offer of the peer's hold for that offer only."""
        self.dialog.invite()
        txn = self.server.confirm(self.expect("INVITE"))
        self.server.respond(txn, 200, method="INVITE", dialog_id=DIALOG, body=HELD)
        ack = self.expect("ACK")
        self.assertIn(b"a=recvonly", ack.request.body)
        self.ask("INVITE", body=RESUMED, number=5)
        status, response = self.answer()
        self.assertEqual((status, b"a=sendrecv" in response.body), (200, True))

    def test_requests_that_wait(self) -> None:
        """Requests that wait when the dialog ends are dropped, and keep nothing open."""
        self.dialog.hold_requests()
        self.ask("INFO")
        self.ask("INFO", number=3)
        self.assertEqual(self.server.heads(), [])
        self.ask("BYE", number=4)
        self.server.confirm(self.server.one())
        self.dialog.release_requests()
        self.assertEqual(self.server.heads(), [])
        self.assertTrue(self.srf.idle)

    def test_theirs_under_way(self) -> None:
        """It gets 500 while one of the peer's is not answered."""
        kept: list[Response] = []
        self.dialog.on_modify(lambda req, res: kept.append(res))
        self.ask("INVITE", body=RESUMED)
        self.ask("UPDATE", body=HELD, number=3)
        status, response = self.answer()
        self.assertEqual((status, response.has("Retry-After")), (500, True))
        kept[0].send(200, body=ANSWER)
        self.assertEqual(self.server.heads(), ["200"])
