"""Tests of requests that come in and the responses to them."""

from __future__ import annotations

import gc
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import (
    CommandRefused,
    ConnectionLost,
    LocalProtocolError,
    Request,
    Response,
    SipError,
    sip,
)
from tests.app.doubles import ANSWER, HOST_PORTS, OFFER, VERSION, Bench, Server


class Kept:
    """A handler that keeps what it gets."""

    def __init__(self) -> None:
        self.req: Request
        self.res: Response

    def __call__(self, req: Request, res: Response) -> None:
        self.req = req
        self.res = res


class ExchangeTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect an application that takes every call and leaves it."""
        self.bench = Bench()
        self.kept = Kept()
        self.bench.srf.use(self.kept)
        self.server: Server = self.bench.connect()

    def arrive(self, method: str = "INVITE", **options: Any) -> tuple[Request, Response]:
        """Let a request come in."""
        self.txn = self.server.ask(method, **options)
        return self.kept.req, self.kept.res


class RequestTests(ExchangeTestCase):
    def test_envelope(self) -> None:
        """A request knows where it came from, when, and by which names the server knows it."""
        req, res = self.arrive()
        self.assertEqual(
            (req.source, req.protocol, req.source_address, req.source_port),
            ("network", "udp", "127.0.0.1", 32070),
        )
        self.assertEqual(req.stack_time, "01:02:03.000004")
        self.assertEqual((req.stack_txn_id, req.stack_dialog_id), (self.txn, ""))
        self.assertEqual(req.received_on, "127.0.0.1:32060")
        self.assertEqual(req.session_token, "")
        self.assertIs(req.srf, self.bench.srf)
        self.assertIs(req.link, self.bench.srf.links[0])
        self.assertIs(req.res, res)
        self.assertIs(res.req, req)
        self.assertIs(res.srf, req.srf)
        self.assertIs(res.link, req.link)

    def test_server(self) -> None:
        """A request knows the server that it came over."""
        server = self.arrive()[0].server
        self.assertEqual(server.address, "127.0.0.1")
        self.assertEqual(server.host_ports, tuple(HOST_PORTS.split(",")))
        self.assertEqual(server.local_host_ports, tuple(HOST_PORTS.split(",")))
        self.assertEqual(server.version, VERSION)

    def test_message(self) -> None:
        """A request is the SIP message, with its usual names for numbers."""
        req, _ = self.arrive(body=OFFER, uri="sip:+4930@127.0.0.1:32060")
        self.assertEqual(req.method, "INVITE")
        self.assertEqual(req.uri, "sip:+4930@127.0.0.1:32060")
        self.assertEqual(req.called_number, "+4930")
        self.assertEqual((req.calling_name, req.calling_number), ("Alice", "alice"))
        self.assertEqual(req.get("call-id"), "c1")
        self.assertEqual(req.text, OFFER)
        self.assertTrue(req.is_new_invite)

    def test_old_server(self) -> None:
        """What servers of old leave out is empty, and what they add is readable."""
        message = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\n\r\n"
        self.server.send(b"m|sip|network|10|udp|10.0.0.1||01:02:03.4|t9\r\n" + message)
        req = self.kept.req
        self.assertEqual((req.stack_txn_id, req.stack_dialog_id), ("t9", ""))
        self.assertEqual((req.source_port, req.received_on), (5060, ""))
        self.server.send(b"m|sip|network|10|udp|10.0.0.1|7|01:02:03.4|t8||h|5060|tok\r\n" + message)
        self.assertEqual(self.kept.req.session_token, "tok")

    def test_locals(self) -> None:
        """What handlers tell each other is the same at the request and at the response."""
        req, res = self.arrive()
        req.locals["who"] = "me"
        self.assertEqual(res.locals, {"who": "me"})


class SendTests(ExchangeTestCase):
    def test_as_sent(self) -> None:
        """The Deferred of a response fires with the response as the server sent it."""
        _, res = self.arrive()
        sending = res.send(200, headers={"X-A": "1"}, body="hello")
        sent = self.server.one()
        self.assertEqual(sent.transaction_id, self.txn)
        self.assertEqual(sent.dialog_id, "")
        self.assertNoResult(sending)
        self.server.confirm(sent, "c1;from-tag=a")
        message = self.successResultOf(sending)
        self.assertEqual(message.status, 200)
        self.assertEqual(message.get("To"), "<sip:app@127.0.0.1:32060>;tag=app")
        self.assertEqual((message.get("X-A"), message.body), ("1", b"hello"))

    def test_reason_and_length(self) -> None:
        """A phrase is sent as given, text as UTF-8, and the length counts bytes."""
        _, res = self.arrive("MESSAGE")
        res.send(488, "Nicht genehm", {"Warning": '399 a "ü"'}, "größer")
        response = self.server.one().response
        self.assertEqual((response.status, response.reason), (488, "Nicht genehm"))
        self.assertEqual(response.get("Warning"), '399 a "ü"')
        self.assertEqual(response.get("Content-Length"), "8")
        self.assertEqual(response.text, "größer")

    def test_status(self) -> None:
        """The response tells what was sent last, and whether that was final."""
        req, res = self.arrive()
        self.assertEqual((res.status, res.finished), (0, False))
        res.send(180)
        self.assertEqual((res.status, res.finished), (180, False))
        res.send(603)
        self.assertEqual((res.status, res.finished), (603, True))
        self.assertTrue(res.final_response_sent)
        self.assertTrue(res.headers_sent)
        self.assertEqual((req.res.status, req.res.finished), (603, True))
        self.assertEqual(self.server.heads(), ["180", "603"])

    def test_sticky_headers(self) -> None:
        """Headers set on the response go out with all of them; those given, with one only."""
        _, res = self.arrive()
        res.set("X-All", "yes")
        res.set("X-Both", "set")
        res.send(180, headers={"X-One": "1", "X-Both": "given"})
        res.send(200)
        first, second = (sent.response for sent in self.server.take())
        self.assertEqual(
            [first.get_all(name) for name in ("X-All", "X-One", "X-Both")],
            [["yes"], ["1"], ["given"]],
        )
        self.assertEqual(
            [second.get_all(name) for name in ("X-All", "X-One", "X-Both")], [["yes"], [], ["set"]]
        )

    def test_repeated_headers(self) -> None:
        """A header may be given several times."""
        _, res = self.arrive()
        res.send(302, headers=[("Contact", "<sip:a@h>"), ("Contact", "<sip:b@h>")])
        self.assertEqual(self.server.one().response.get_all("Contact"), ["<sip:a@h>", "<sip:b@h>"])

    def test_sticky_body(self) -> None:
        """A body that was set goes out unless another is given."""
        _, res = self.arrive()
        res.body = "set"
        res.send(183)
        res.send(200, body=b"given")
        self.assertEqual([sent.response.body for sent in self.server.take()], [b"set", b"given"])

    def test_any_status(self) -> None:
        """Every status from 100 to 699 can be sent, whoever has heard of it or not."""
        for status in (100, 199, 299, 399, 440, 469, 555, 607, 608, 699):
            _, res = self.arrive()
            res.send(status)
            self.assertEqual(self.server.one().response.status, status)

    def test_no_provisional(self) -> None:
        """Only a new INVITE has provisional responses: servers answer 500 behind any other."""
        _, res = self.arrive("OPTIONS")
        with self.assertRaises(LocalProtocolError):
            res.send(180)
        self.assertFalse(res.finished)
        res.send(200)
        self.assertEqual(self.server.heads(), ["200"])

    def test_nonsense(self) -> None:
        """What cannot be sent is refused at once, and the request can still be answered."""
        _, res = self.arrive()
        for arguments in ((99,), (700,), (200, "a\r\nb"), (200, None, {"X": "a\r\nb"})):
            with self.assertRaises(LocalProtocolError):
                res.send(*arguments)
        with self.assertRaises(LocalProtocolError):
            res.send(200, body="x" * 13_000)
        self.assertFalse(res.finished)
        self.assertEqual(self.server.heads(), [])
        res.send(200)
        self.assertEqual(self.server.heads(), ["200"])

    def test_twice(self) -> None:
        """After a final response nothing is sent, and whoever asks is told."""
        _, res = self.arrive()
        res.send(200)
        self.server.one()
        again = res.send(486)
        self.assertNoResult(again)
        self.bench.settle()
        self.failureResultOf(again, LocalProtocolError)
        self.assertEqual(self.server.heads(), [])
        self.assertEqual(res.status, 200)

    def test_refused(self) -> None:
        """What the server refuses is a failure with the server's words."""
        _, res = self.arrive("OPTIONS")
        sending = res.send(200)
        self.server.refuse(self.server.one(), "Unknown server error sending response")
        error = self.failureResultOf(sending, CommandRefused).value
        self.assertEqual(error.text, "Unknown server error sending response")

    def test_caller_gone(self) -> None:
        """An unknown transaction means that the caller has gone."""
        req, res = self.arrive()
        cancelled = req.when_cancelled()
        sending = res.send(180)
        self.server.gone(self.server.one())
        self.assertEqual(self.failureResultOf(sending, SipError).value.status, 487)
        self.assertTrue(req.canceled)
        self.assertTrue(res.finished)
        self.assertIsNone(self.successResultOf(cancelled))
        self.assertTrue(self.bench.srf.idle)

    def test_link_lost(self) -> None:
        """When the connection goes, so does the hope of an answer; later ones fail likewise."""
        _, res = self.arrive()
        sending = res.send(200)
        self.server.take()
        self.server.lose()
        self.failureResultOf(sending, ConnectionLost)
        again = res.send(200)
        self.bench.settle()
        self.failureResultOf(again, LocalProtocolError)

    def test_link_lost_before(self) -> None:
        """A response to a request whose connection is gone fails."""
        req, res = self.arrive()
        waiting = req.when_cancelled()
        self.server.lose()
        self.failureResultOf(waiting, ConnectionLost)
        sending = res.send(200)
        self.assertNoResult(sending)
        self.bench.settle()
        self.failureResultOf(sending, ConnectionLost)
        self.failureResultOf(req.when_cancelled(), ConnectionLost)

    def test_unheard_failures(self) -> None:
        """A failure that nobody listens to is a line of the log, not an unhandled error."""
        for words, level in (
            ("something else", LogLevel.warn),
            ("Response not sent due to unknown transaction", LogLevel.info),
        ):
            self.arrive("OPTIONS", call="call-7")[1].send(200)
            with capturedLogs() as logs:
                self.server.refuse(self.server.one(), words)
                gc.collect()
            [event] = logs
            self.assertEqual((event["log_level"], event["call_id"]), (level, "call-7"))
            self.assertIn(words, str(event["error"]))

    def test_unheard_link_loss(self) -> None:
        """A lost connection is told of in a line too."""
        self.arrive("OPTIONS")[1].send(200)
        with capturedLogs() as logs:
            self.server.lose()
            gc.collect()
        ours = [event for event in logs if event["log_namespace"].startswith("drachtwist.app")]
        self.assertEqual([event["log_level"] for event in ours], [LogLevel.info])

    def test_long_response(self) -> None:
        """A long response travels alone: what follows waits for its answer."""
        first = self.arrive("MESSAGE")[1]
        second = self.arrive("MESSAGE")[1]
        first.send(200, body="x" * 5_000)
        second.send(200)
        [long] = self.server.take()
        self.assertEqual(len(long.response.body), 5_000)
        self.server.confirm(long)
        self.assertEqual(self.server.heads(), ["200"])

    def test_one_write(self) -> None:
        """All that is sent while one read is worked on leaves in one write."""
        srf = self.bench.srf
        srf.options(lambda req, res: res.send(200))
        bench = Bench()
        bench.srf.options(lambda req, res: res.send(200))
        server = bench.connect()
        before = server.transport.writes
        with server.in_one_read():
            for _ in range(5):
                server.ask("OPTIONS")
        self.assertEqual(server.transport.writes - before, 1)
        self.assertEqual(server.heads(), ["200"] * 5)


class ReliableTests(ExchangeTestCase):
    def reliable(self, **options: Any) -> Deferred[sip.Response]:
        """Send a reliable provisional response, up to the echo."""
        _, res = self.arrive(headers={"Supported": "100rel"})
        sending = res.send(183, headers={"Require": "100rel"}, body=ANSWER, **options)
        self.server.confirm(self.server.one(), "c1;from-tag=a")
        return sending

    def prack(self) -> str:
        """Let the PRACK come in."""
        headers = {"RAck": "1 1 INVITE"}
        return self.server.ask("PRACK", dialog_id="c1;from-tag=a", number=2, headers=headers)

    def test_early_dialog_behind_a_refusal(self) -> None:
        """There is nothing to say in the early dialog once a final response is on its way."""
        req, res = self.arrive()
        res.send(180)
        self.server.confirm(self.server.one(), "c1;from-tag=a")
        self.assertIsNotNone(req.early_dialog)
        res.send(486)
        self.assertIsNone(req.early_dialog)

    def test_prack_without_handler(self) -> None:
        """A PRACK that no handler takes is answered 200."""
        bench = self.bench = Bench()
        bench.srf.invite(self.kept)
        self.server = bench.connect()
        self.successResultOf(self.reliable())
        txn = self.prack()
        sent = self.server.one()
        self.assertEqual((sent.head, sent.transaction_id), ("200", txn))

    def test_on_prack(self) -> None:
        """Whoever sends a reliable response may be told of its PRACK."""
        pracks: list[Request] = []
        self.reliable(on_prack=pracks.append)
        self.prack()
        self.assertEqual([prack.get("RAck") for prack in pracks], ["1 1 INVITE"])

    def test_waiting(self) -> None:
        """What is sent before the PRACK came waits for it."""
        self.reliable()
        res = self.kept.req.res
        final = res.send(200, body=ANSWER)
        self.assertEqual(self.server.heads(), [])
        self.prack()
        self.kept.res.send(200)
        sent = self.server.take()
        self.assertEqual([one.head for one in sent], ["200", "200"])
        self.assertEqual(sent[0].transaction_id, self.txn)
        self.server.confirm(sent[0], "c1;from-tag=a")
        self.assertEqual(self.successResultOf(final).status, 200)

    def test_one_after_the_other(self) -> None:
        """Of several reliable responses each waits for the PRACK of the one before."""
        pracks: list[str | None] = []

        def note(prack: Request) -> None:
            pracks.append(prack.get("CSeq"))

        self.reliable(on_prack=note)
        res = self.kept.req.res
        for _ in range(2):
            res.send(183, headers={"Require": "100rel"}, on_prack=note)
        final = res.send(200)
        for number, expected in ((1, "183"), (2, "183"), (3, "200")):
            self.prack()
            self.assertEqual(len(pracks), number)
            [sent] = self.server.take()
            self.assertEqual((sent.transaction_id, sent.head), (self.txn, expected))
            self.server.confirm(sent, "c1;from-tag=a")
        self.assertEqual(self.successResultOf(final).status, 200)
        self.bench.pass_time(33)  # which the PRACKs had, that nobody answers here
        self.assertEqual(self.bench.clock.getDelayedCalls(), [])

    def test_refused(self) -> None:
        """When the server does not send the reliable response, nothing waits for a PRACK."""
        _, res = self.arrive()
        sending = res.send(183, headers={"Require": "100rel"})
        final = res.send(200)
        self.server.refuse(self.server.one(), "Remote endpoint does not support 100rel")
        self.failureResultOf(sending, CommandRefused)
        self.server.confirm(self.server.one(), "c1;from-tag=a")
        self.assertEqual(self.successResultOf(final).status, 200)

    def test_no_prack(self) -> None:
        """A PRACK that does not come is not waited for for ever."""
        self.reliable()
        final = self.kept.req.res.send(200)
        self.bench.pass_time(33)
        self.server.gone(self.server.one())
        self.assertEqual(self.failureResultOf(final, SipError).value.status, 487)

    def test_too_long(self) -> None:
        """What waited, and turns out to be too long, fails."""
        self.reliable()
        final = self.kept.req.res.send(200, body="x" * 13_000)
        self.prack()
        self.kept.res.send(200)
        self.bench.settle()
        self.failureResultOf(final, LocalProtocolError)
        self.assertEqual(self.server.heads(), ["200"])

    def test_dialog_behind_a_prack(self) -> None:
        """Accepting a call waits for the PRACK too."""
        self.reliable()
        req = self.kept.req
        accepting = self.bench.srf.create_uas(req, req.res, local_sdp=ANSWER)
        self.assertEqual(self.server.heads(), [])
        self.prack()
        [sent] = [one for one in self.server.take() if one.transaction_id == self.txn]
        self.server.confirm(sent, "c1;from-tag=a")
        self.assertTrue(self.successResultOf(accepting).connected)

    def test_cancel_while_waiting(self) -> None:
        """What waits for a PRACK fails when the caller gives up."""
        self.reliable()
        final = self.kept.req.res.send(200)
        self.server.cancel(self.txn)
        self.bench.settle()
        self.assertEqual(self.failureResultOf(final, SipError).value.status, 487)
        self.assertEqual(self.server.heads(), [])

    def test_link_loss_while_waiting(self) -> None:
        """What waits for a PRACK fails when the connection goes."""
        self.reliable()
        final = self.kept.req.res.send(200)
        self.server.lose()
        self.bench.settle()
        self.failureResultOf(final, ConnectionLost)

    def test_bye_in_early_dialog(self) -> None:
        """A BYE before the answer is accepted, and counts as giving up."""
        self.reliable()
        cancelled = self.kept.req.when_cancelled()
        req = self.kept.req
        self.server.ask("BYE", dialog_id="c1;from-tag=a", number=2)
        self.assertEqual(self.server.heads(), ["200"])
        bye = self.successResultOf(cancelled)
        assert bye is not None
        self.assertEqual(bye.method, "BYE")
        self.assertTrue(req.canceled)


class UpdateTests(ExchangeTestCase):
    def setUp(self) -> None:
        """Connect an application that has a handler for calls only."""
        super().setUp()
        self.bench = Bench()
        self.bench.srf.invite(self.kept)
        self.server = self.bench.connect()

    def test_too_early(self) -> None:
        """An offer before the answer is told to come later, unless somebody handles it."""
        self.arrive()
        # Such an UPDATE has the transaction id of the INVITE.
        self.server.ask(
            "UPDATE", transaction_id=self.txn, dialog_id="c1;from-tag=a", number=2, body=OFFER
        )
        response = self.server.one().response
        self.assertEqual(response.status, 500)
        self.assertIn(response.get("Retry-After"), [str(seconds) for seconds in range(11)])
        self.assertEqual(response.get("CSeq"), "2 UPDATE")
        self.assertFalse(self.kept.res.finished)

    def test_handled(self) -> None:
        """The handler of the INVITE's request answers the UPDATE; the INVITE stays open."""
        req, res = self.arrive()
        req.on_update(lambda update, answer: answer.send(200, body=ANSWER))
        self.server.ask("UPDATE", transaction_id=self.txn, dialog_id="c1;from-tag=a", number=2)
        response = self.server.one().response
        self.assertEqual((response.status, response.get("CSeq")), (200, "2 UPDATE"))
        self.assertEqual(response.get("Content-Type"), "application/sdp")
        res.send(200)
        self.assertEqual(self.server.heads(), ["200"])

    def pending(self) -> tuple[Request, Response, Response]:
        """Let a call come, and an UPDATE that is not answered; give the latter's response."""
        req, res = self.arrive()
        kept: list[Response] = []
        req.on_update(lambda update, answer: kept.append(answer))
        self.server.ask("UPDATE", transaction_id=self.txn, dialog_id="c1;from-tag=a", number=2)
        self.assertEqual(self.server.heads(), [])
        return req, res, kept[0]

    def test_acceptance_waits(self) -> None:
        """A 200 to the INVITE does not overtake the answer to an UPDATE."""
        for accept in (
            lambda req, res: res.send(200, body=ANSWER),
            lambda req, res: self.bench.srf.create_uas(req, res, local_sdp=ANSWER),
        ):
            self.setUp()
            req, res, update = self.pending()
            accepting = accept(req, res)
            self.assertEqual(self.server.heads(), [])
            res.send(180)
            self.assertEqual(self.server.heads(), ["180"])
            update.send(200, body=ANSWER)
            first, second = self.server.take()
            self.assertEqual(first.response.get("CSeq"), "2 UPDATE")
            self.assertEqual(second.response.get("CSeq"), None)
            self.server.confirm(second, "c1;from-tag=a")
            self.successResultOf(accepting)
            self.assertTrue(res.finished)

    def test_refusal_of_the_update(self) -> None:
        """It goes out behind a refusal of the UPDATE just as well."""
        _, res, update = self.pending()
        res.send(200, body=ANSWER)
        update.send(488)
        self.assertEqual(self.server.heads(), ["488", "200"])

    def test_refusal_does_not_wait(self) -> None:
        """A refusal of the INVITE waits for nothing."""
        _, res, _ = self.pending()
        res.send(486)
        self.assertEqual(self.server.heads(), ["486"])

    def test_update_never_answered(self) -> None:
        """An UPDATE that nobody answers holds the 200 up for 32 seconds."""
        _, res, _ = self.pending()
        sending = res.send(200, body=ANSWER)
        self.bench.clock.advance(31)
        self.assertEqual(self.server.heads(), [])
        self.bench.clock.advance(1)
        self.server.confirm(self.server.one())
        self.successResultOf(sending)

    def test_over_while_waiting(self) -> None:
        """A 200 that waits fails when the caller gives up, or the connection is lost."""
        for end, error in (
            (lambda: self.server.cancel(self.txn), SipError),
            (lambda: self.server.lose(), ConnectionLost),
        ):
            self.setUp()
            req, res, _ = self.pending()
            sending = res.send(200, body=ANSWER)
            accepting = self.bench.srf.create_uas(req, res, local_sdp=ANSWER)
            end()
            self.bench.settle()
            self.failureResultOf(sending, error)
            self.failureResultOf(accepting, error)
            if error is SipError:
                self.bench.clock.advance(40)
                self.assertEqual(self.bench.clock.getDelayedCalls(), [])


class CancelTests(ExchangeTestCase):
    def test_cancel(self) -> None:
        """A CANCEL is told to the INVITE's request, and neither of the two is answered."""
        req, res = self.arrive()
        seen: list[Request | None] = []
        req.on_cancel(seen.append)
        waiting = req.when_cancelled()
        self.server.cancel(self.txn, headers={"Reason": "SIP;cause=200"})
        [cancel] = seen
        assert cancel is not None
        self.assertEqual((cancel.method, cancel.get("Reason")), ("CANCEL", "SIP;cause=200"))
        self.assertIs(self.successResultOf(waiting), cancel)
        self.assertTrue(req.canceled)
        self.assertTrue(res.finished)
        self.assertEqual(self.server.heads(), [])
        late = res.send(200)
        self.bench.settle()
        self.assertEqual(self.failureResultOf(late, SipError).value.status, 487)
        self.assertEqual(self.server.heads(), [])

    def test_late_handler(self) -> None:
        """A handler that comes too late is called at once."""
        req, _ = self.arrive()
        self.server.cancel(self.txn)
        seen: list[Request | None] = []
        req.on_cancel(seen.append)
        self.assertEqual([one.method for one in seen if one], ["CANCEL"])
        cancel = self.successResultOf(req.when_cancelled())
        assert cancel is not None
        self.assertEqual(cancel.method, "CANCEL")

    def test_twice(self) -> None:
        """A CANCEL that comes twice is told once."""
        req, _ = self.arrive()
        seen: list[Request | None] = []
        req.on_cancel(seen.append)
        self.server.cancel(self.txn)
        self.server.cancel(self.txn)
        self.assertEqual(len(seen), 1)

    def test_answered_instead(self) -> None:
        """When the call is answered, whoever waits for a CANCEL learns that there is none."""
        req, res = self.arrive()
        seen: list[Request | None] = []
        req.on_cancel(seen.append)
        waiting = req.when_cancelled()
        res.send(486)
        self.assertNoResult(waiting)
        self.server.confirm(self.server.one())
        self.assertIsNone(self.successResultOf(waiting))
        self.assertIsNone(self.successResultOf(req.when_cancelled()))
        self.server.cancel(self.txn)
        self.assertEqual(seen, [])
        self.assertFalse(req.canceled)

    def test_crossing(self) -> None:
        """A CANCEL that crosses the 200 wins: the server did not send the 200."""
        req, res = self.arrive()
        seen: list[Request | None] = []
        req.on_cancel(seen.append)
        sending = res.send(200)
        sent = self.server.one()
        with self.server.in_one_read():
            self.server.cancel(self.txn)
            self.server.gone(sent)
        self.assertEqual(self.failureResultOf(sending, SipError).value.status, 487)
        self.assertEqual(len(seen), 1)
        self.assertTrue(req.canceled)
        self.assertTrue(self.bench.srf.idle)

    def test_failing_handler(self) -> None:
        """A handler that fails is logged, and the others are called all the same."""
        req, _ = self.arrive()
        seen: list[Request | None] = []

        def fail(cancel: Request | None) -> None:
            raise RuntimeError("oops")

        req.on_cancel(fail)
        req.on_cancel(seen.append)
        self.server.cancel(self.txn)
        self.assertEqual(len(seen), 1)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_cancelling_the_wait(self) -> None:
        """Whoever waits for a CANCEL may stop to."""
        req, _ = self.arrive()
        waiting = req.when_cancelled()
        waiting.addErrback(lambda failure: None)
        waiting.cancel()
        self.server.cancel(self.txn)
        self.assertTrue(req.canceled)
