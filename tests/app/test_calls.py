"""Tests of accepting calls and subscriptions: one outcome, whatever crosses."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    CommandRefused,
    ConnectionLost,
    Dialog,
    LocalProtocolError,
    Request,
    Response,
    SipError,
)
from tests.app.doubles import ANSWER, OFFER, Bench

DIALOG = "c1;from-tag=a"


class CallsTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application that leaves the answering to the test."""
        self.bench = Bench()
        self.srf = self.bench.srf
        self.kept: list[tuple[Request, Response]] = []

        @self.srf.use
        def keep(req: Request, res: Response) -> None:
            self.kept.append((req, res))

        self.server = self.bench.connect()

    def arrive(self, method: str = "INVITE", **options: Any) -> tuple[Request, Response]:
        """Let a request come in."""
        options.setdefault("body", OFFER if method == "INVITE" else "")
        self.txn = self.server.ask(method, **options)
        return self.kept[-1]

    def accept(self, **options: Any) -> Deferred[Dialog]:
        """Accept a new call."""
        req, res = self.arrive()
        options.setdefault("local_sdp", ANSWER)
        return self.srf.create_uas(req, res, **options)


class AcceptTests(CallsTestCase):
    def test_invite(self) -> None:
        """A call is answered 200, and there is a dialog as soon as the server said so."""
        accepting = self.accept(headers={"X-A": "1"})
        sent = self.server.one()
        self.assertEqual((sent.transaction_id, sent.response.status), (self.txn, 200))
        self.assertEqual((sent.response.text, sent.response.get("X-A")), (ANSWER, "1"))
        self.assertNoResult(accepting)
        self.server.confirm(sent, DIALOG)
        dialog = self.successResultOf(accepting)
        self.assertEqual((dialog.id, dialog.type, dialog.dialog_type), (DIALOG, "uas", "INVITE"))
        self.assertTrue(dialog.connected)
        self.assertIs(dialog.req, self.kept[0][0])
        self.assertEqual(dialog.res.status, 200)
        self.assertEqual(dialog.call_id, "c1")
        self.assertIs(dialog.srf, self.srf)
        self.assertIs(dialog.link, self.srf.links[0])
        self.assertEqual(dialog.server.address, "127.0.0.1")
        self.assertIsNone(dialog.subscribe_event)
        self.assertIsNone(dialog.ended)

    def test_sides(self) -> None:
        """A dialog knows both sides: tags, contacts and session descriptions."""
        accepting = self.accept()
        self.server.confirm(self.server.one(), DIALOG)
        dialog = self.successResultOf(accepting)
        local, remote = dialog.local, dialog.remote
        self.assertEqual((local.tag, remote.tag), ("app", "a"))
        self.assertEqual((local.sdp, remote.sdp), (ANSWER.encode(), OFFER.encode()))
        self.assertEqual(local.contact, "<sip:127.0.0.1:32060>")
        self.assertEqual(remote.contact, "<sip:alice@127.0.0.1:32070>")
        self.assertEqual(local.uri, "sip:127.0.0.1:32060")
        self.assertEqual(remote.uri, "sip:alice@127.0.0.1:32070")
        address = remote.address
        assert address is not None
        self.assertEqual(address.display, "Alice")

    def test_found_again(self) -> None:
        """A dialog is found by its id, and by Call-ID and tag, until it is over."""
        accepting = self.accept()
        self.assertIsNone(self.srf.find_dialog_by_id(DIALOG))
        self.server.confirm(self.server.one(), DIALOG)
        dialog = self.successResultOf(accepting)
        self.assertIs(self.srf.find_dialog_by_id(DIALOG), dialog)
        self.assertIs(self.srf.find_dialog_by_call_id_and_from_tag("c1", "a"), dialog)
        self.server.ask("BYE", dialog_id=DIALOG, number=2)
        self.assertIsNone(self.srf.find_dialog_by_id(DIALOG))

    def test_subscribe(self) -> None:
        """A subscription is accepted with 202."""
        req, res = self.arrive("SUBSCRIBE", headers={"Event": "presence", "Expires": "60"})
        accepting = self.srf.create_uas(req, res, headers={"Expires": "60"})
        sent = self.server.one()
        self.assertEqual((sent.response.status, sent.response.get("Expires")), (202, "60"))
        self.server.confirm(sent, DIALOG)
        dialog = self.successResultOf(accepting)
        self.assertEqual((dialog.dialog_type, dialog.subscribe_event), ("SUBSCRIBE", "presence"))

    def test_other_methods(self) -> None:
        """No other request makes a dialog."""
        req, res = self.arrive("OPTIONS")
        with self.assertRaises(LocalProtocolError):
            self.srf.create_uas(req, res)

    def test_answered_already(self) -> None:
        """A call that was refused cannot be accepted."""
        req, res = self.arrive()
        res.send(486)
        self.failureResultOf(self.srf.create_uas(req, res), LocalProtocolError)
        self.assertEqual(self.server.heads(), ["486"])

    def test_twice(self) -> None:
        """A call is accepted once."""
        req, res = self.arrive()
        first = self.srf.create_uas(req, res)
        self.failureResultOf(self.srf.create_uas(req, res), LocalProtocolError)
        self.server.confirm(self.server.one(), DIALOG)
        self.successResultOf(first)

    def test_nonsense(self) -> None:
        """What cannot be sent is refused at once, and the call can still be answered."""
        req, res = self.arrive()
        with self.assertRaises(LocalProtocolError):
            self.srf.create_uas(req, res, headers={"X": "a\r\nb"})
        self.assertEqual(self.server.heads(), [])
        accepting = self.srf.create_uas(req, res)
        self.server.confirm(self.server.one(), DIALOG)
        self.successResultOf(accepting)

    def test_no_dialog(self) -> None:
        """A server that names no dialog is a failure, not a dialog without a name."""
        accepting = self.accept()
        self.server.confirm(self.server.one())
        self.failureResultOf(accepting, CommandRefused)

    def test_refused(self) -> None:
        """What the server refuses is a failure with the server's words."""
        accepting = self.accept()
        self.server.refuse(self.server.one(), "bad luck")
        self.assertEqual(self.failureResultOf(accepting, CommandRefused).value.text, "bad luck")
        self.assertTrue(self.srf.idle)

    def test_after_provisional(self) -> None:
        """A call may ring before it is answered."""
        req, res = self.arrive()
        res.send(180)
        self.server.confirm(self.server.one())
        accepting = self.srf.create_uas(req, res)
        self.server.confirm(self.server.one(), DIALOG)
        self.successResultOf(accepting)


class SessionDescriptionTests(CallsTestCase):
    def test_text_or_bytes(self) -> None:
        """A session description is text or bytes."""
        self.accept(local_sdp=ANSWER.encode())
        self.assertEqual(self.server.one().response.text, ANSWER)

    def test_function(self) -> None:
        """A function gives it, and is asked once."""
        asked: list[int] = []

        def make() -> str:
            asked.append(1)
            return ANSWER

        self.accept(local_sdp=make)
        self.assertEqual(self.server.one().response.text, ANSWER)
        self.assertEqual(asked, [1])

    def test_deferred(self) -> None:
        """A Deferred gives it later, and the answer waits."""
        made: Deferred[str] = Deferred()
        accepting = self.accept(local_sdp=lambda: made)
        self.assertEqual(self.server.heads(), [])
        made.callback(ANSWER)
        sent = self.server.one()
        self.assertEqual(sent.response.text, ANSWER)
        self.server.confirm(sent, DIALOG)
        self.successResultOf(accepting)

    def test_coroutine(self) -> None:
        """A coroutine gives it later."""
        made: Deferred[str] = Deferred()

        async def make() -> str:
            return await made

        self.accept(local_sdp=make())
        self.assertEqual(self.server.heads(), [])
        made.callback(ANSWER)
        self.assertEqual(self.server.one().response.text, ANSWER)

    def test_failure(self) -> None:
        """When it fails, so does the accepting, and the call can still be answered."""
        made: Deferred[str] = Deferred()
        accepting = self.accept(local_sdp=made)
        made.errback(ZeroDivisionError())
        self.failureResultOf(accepting, ZeroDivisionError)
        self.kept[0][1].send(500)
        self.assertEqual(self.server.heads(), ["500"])

    def test_function_that_raises(self) -> None:
        """When the function raises, the Deferred fails likewise."""

        def make() -> str:
            raise ZeroDivisionError

        self.failureResultOf(self.accept(local_sdp=make), ZeroDivisionError)
        self.kept[0][1].send(500)
        self.assertEqual(self.server.heads(), ["500"])

    def test_nonsense_later(self) -> None:
        """One that is too long fails the Deferred; nothing was sent."""
        made: Deferred[str] = Deferred()
        accepting = self.accept(local_sdp=made)
        made.callback("x" * 13_000)
        self.failureResultOf(accepting, LocalProtocolError)
        self.kept[0][1].send(500)
        self.assertEqual(self.server.heads(), ["500"])

    def test_cancelled_meanwhile(self) -> None:
        """When the caller gives up meanwhile, nothing is sent when it comes."""
        made: Deferred[str] = Deferred()
        accepting = self.accept(local_sdp=made)
        self.server.cancel(self.txn)
        self.assertEqual(self.failureResultOf(accepting, SipError).value.status, 487)
        made.callback(ANSWER)
        self.assertEqual(self.server.heads(), [])
        self.assertTrue(self.srf.idle)

    def test_link_lost_meanwhile(self) -> None:
        """When the connection goes meanwhile, the accepting fails at once."""
        made: Deferred[str] = Deferred()
        accepting = self.accept(local_sdp=made)
        self.server.lose()
        self.failureResultOf(accepting, ConnectionLost)
        made.callback(ANSWER)
        self.bench.settle()

    def test_link_lost_meanwhile_for_subscriptions(self) -> None:
        """That holds for subscriptions too."""
        req, res = self.arrive("SUBSCRIBE", headers={"Event": "x"})
        accepting = self.srf.create_uas(req, res, local_sdp=Deferred())
        self.server.lose()
        self.failureResultOf(accepting, ConnectionLost)

    def test_answered_meanwhile(self) -> None:
        """When the call was refused meanwhile, the accepting fails."""
        made: Deferred[str] = Deferred()
        accepting = self.accept(local_sdp=made)
        self.kept[0][1].send(486)
        made.callback(ANSWER)
        self.failureResultOf(accepting, LocalProtocolError)
        self.assertEqual(self.server.heads(), ["486"])


class CrossingTests(CallsTestCase):
    """Exactly one outcome, in whichever order things come."""

    def setUp(self) -> None:
        """Accept a call, and count the outcomes."""
        super().setUp()
        self.outcomes: list[Any] = []
        self.cancels: list[Request | None] = []
        req, res = self.arrive()
        req.on_cancel(self.cancels.append)
        self.accepting = self.srf.create_uas(req, res, local_sdp=ANSWER)
        self.accepting.addCallbacks(self.outcomes.append, lambda f: self.outcomes.append(f.value))

    def check_cancelled(self, cancels: int = 1) -> None:
        """The caller gave up, once, and nothing is left."""
        [error] = self.outcomes
        self.assertIsInstance(error, SipError)
        self.assertEqual(error.status, 487)
        self.assertEqual(len(self.cancels), cancels)
        self.assertIsNone(self.srf.find_dialog_by_id(DIALOG))
        self.assertTrue(self.srf.idle)

    def test_cancel_then_refusal(self) -> None:
        """A CANCEL that crosses the 200 is the outcome; the refusal of the 200 adds nothing."""
        sent = self.server.one()
        self.server.cancel(self.txn)
        self.server.gone(sent)
        self.check_cancelled()

    def test_refusal_then_cancel(self) -> None:
        """A refusal of the 200 is the outcome; the CANCEL that explains it adds nothing."""
        self.server.gone(self.server.one())
        self.server.cancel(self.txn)
        self.check_cancelled()
        self.assertEqual(self.cancels, [None])

    def test_cancel_then_dialog(self) -> None:
        """A dialog that comes into being after the CANCEL was told of is ended."""
        sent = self.server.one()
        with self.server.in_one_read():
            self.server.cancel(self.txn)
            self.server.confirm(sent, DIALOG)
        bye = self.server.one()
        self.assertEqual((bye.head, bye.dialog_id), ("BYE", DIALOG))
        self.assertFalse(self.srf.idle)
        self.server.respond(self.server.confirm(bye), 200, method="BYE")
        self.check_cancelled()

    def test_dialog_then_cancel(self) -> None:
        """A CANCEL that comes after the dialog came into being does nothing."""
        with self.server.in_one_read():
            self.server.confirm(self.server.one(), DIALOG)
            self.server.cancel(self.txn)
        [dialog] = self.outcomes
        self.assertIsInstance(dialog, Dialog)
        self.assertEqual(self.cancels, [])
        self.assertTrue(dialog.connected)

    def test_deferred_cancelled(self) -> None:
        """Whoever cancels the Deferred does not want the dialog: it is ended."""
        sent = self.server.one()
        self.accepting.cancel()
        self.assertIsInstance(self.outcomes[0], CancelledError)
        self.server.confirm(sent, DIALOG)
        bye = self.server.one()
        self.assertEqual((bye.head, bye.dialog_id), ("BYE", DIALOG))
        self.server.respond(self.server.confirm(bye), 200, method="BYE")
        self.assertTrue(self.srf.idle)
        self.assertEqual(len(self.outcomes), 1)

    def test_link_lost(self) -> None:
        """A connection that goes is the outcome, and the end of the INVITE."""
        self.server.take()
        self.server.lose()
        [error] = self.outcomes
        self.assertIsInstance(error, ConnectionLost)
        self.assertEqual(self.cancels, [None])

    def test_cancel_then_link_lost(self) -> None:
        """A connection that goes after the CANCEL adds nothing."""
        self.server.take()
        self.server.cancel(self.txn)
        self.server.lose()
        [error] = self.outcomes
        self.assertIsInstance(error, SipError)

    def test_same_read(self) -> None:
        """A call that comes with its CANCEL in one read is over before it is answered."""
        with self.server.in_one_read():
            txn = self.server.invite(call="c2")
            self.server.cancel(txn, call="c2")
        req, res = self.kept[-1]
        self.failureResultOf(self.srf.create_uas(req, res), SipError)
        self.assertEqual([sent.transaction_id for sent in self.server.take()], [self.txn])


class LateEventTests(CallsTestCase):
    """Handlers that are attached when the dialog is handed out miss nothing."""

    def test_info_with_the_echo(self) -> None:
        """An INFO in the same read as the answer to the 200 finds its handler."""
        accepting = self.accept()
        seen: list[str] = []

        def hook(dialog: Dialog) -> None:
            @dialog.on_info
            def info(req: Request, res: Response) -> None:
                seen.append(req.text)
                res.send(200)

        accepting.addCallback(hook)
        sent = self.server.one()
        with self.server.in_one_read():
            self.server.confirm(sent, DIALOG)
            txn = self.server.ask("INFO", dialog_id=DIALOG, number=2, body="hello")
            self.server.ask("ACK", dialog_id=DIALOG, transaction_id=self.txn)
        self.assertEqual(seen, ["hello"])
        answer = self.server.one()
        self.assertEqual((answer.head, answer.transaction_id), ("200", txn))

    def test_bye_with_the_ack(self) -> None:
        """A BYE in the same read as the ACK is not lost: coroutines attach their handlers first."""
        seen: list[str] = []

        async def answer(req: Request, res: Response) -> None:
            dialog = await self.srf.create_uas(req, res, local_sdp=ANSWER)
            dialog.on_destroy(lambda bye: seen.append(bye.method))
            await dialog.when_acked()
            seen.append("acked")

        self.srf = self.bench.srf
        bench = Bench()
        self.bench = bench
        self.srf = bench.srf
        bench.srf.invite(answer)
        server = bench.connect()
        txn = server.invite()
        sent = server.one()
        with server.in_one_read():
            server.confirm(sent, DIALOG)
            server.ask("ACK", dialog_id=DIALOG, transaction_id=txn)
            server.ask("BYE", dialog_id=DIALOG, number=2)
        self.assertEqual(seen, ["acked", "BYE"])
        self.assertEqual(server.heads(), ["200"])

    def test_attached_later(self) -> None:
        """A handler that is attached after the end is told of the end at once."""
        accepting = self.accept()
        with self.server.in_one_read():
            self.server.confirm(self.server.one(), DIALOG)
            self.server.ask("ACK", dialog_id=DIALOG, transaction_id=self.txn)
            self.server.ask("BYE", dialog_id=DIALOG, number=2)
        dialog = self.successResultOf(accepting)
        seen: list[Request | None] = []
        dialog.on_destroy(seen.append)
        [bye] = seen
        assert bye is not None
        self.assertEqual(bye.method, "BYE")
        self.assertIsNone(self.successResultOf(dialog.when_acked()))
        acks: list[Request | None] = []
        dialog.on_ack(acks.append)
        self.assertEqual(acks, [None])
