"""The connection to the server is lost at each step of a call that the application places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import ConnectionLost, PendingCall, SipError
from tests.app.doubles import ANSWER, OFFER, Bench, Server

DIALOG = "c1;from-tag=a"
TARGET = "sip:bob@127.0.0.1:32071"
ENDS = {
    "From": "<sip:app@127.0.0.1>;tag=a",
    "To": "<sip:bob@127.0.0.1>",
    "Call-ID": "c1",
    "CSeq": "1 INVITE",
}
RUNG = {"From": ENDS["From"], "To": "<sip:bob@127.0.0.1>;tag=b", "Contact": f"<{TARGET}>"}
ASKED = {**RUNG, "WWW-Authenticate": 'Digest realm="a",nonce="n"'}


class LostTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Connect the application."""
        self.bench = Bench()
        self.srf = self.bench.srf
        self.server: Server = self.bench.connect()

    def place(self, **options: Any) -> PendingCall:
        """Place a call."""
        options.setdefault("local_sdp", OFFER)
        return self.srf.create_uac(TARGET, headers=ENDS, **options)

    def sent(self) -> str:
        """Let the server say that it sent the INVITE; give its transaction."""
        return self.server.confirm(self.server.one())

    def rings(self, transaction_id: str) -> None:
        """Let it ring, so that there is an early dialog."""
        self.server.respond(
            transaction_id, 180, method="INVITE", dialog_id=DIALOG, headers=dict(RUNG)
        )

    def lose(self, calling: PendingCall) -> None:
        """Lose the connection: the call fails with that, and nothing is left of it."""
        self.server.lose()
        self.bench.settle()
        self.failureResultOf(calling, ConnectionLost)
        self.nothing_left()

    def nothing_left(self) -> None:
        """See that nothing waits any more."""
        self.bench.connection.stop()
        self.bench.settle()
        self.assertEqual([str(call) for call in self.bench.clock.getDelayedCalls()], [])
        self.assertTrue(self.srf.idle)


class LostTests(LostTestCase):
    def test_at_each_step(self) -> None:
        """It fails with the connection, however far it had come, and keeps no timer."""

        def asks(status: int, headers: dict[str, str]) -> Callable[[], PendingCall]:
            def step() -> PendingCall:
                calling = self.place(auth=("u", "p"), follow_redirects=True)
                self.server.respond(self.sent(), status, method="INVITE", headers=headers)
                self.server.one()  # again, with credentials or elsewhere
                return calling

            return step

        def handed_over() -> PendingCall:
            calling = self.place()
            self.server.one()
            return calling

        def on_its_way() -> PendingCall:
            calling = self.place()
            self.sent()
            return calling

        def ringing() -> PendingCall:
            calling = self.place()
            self.rings(self.sent())
            return calling

        def cancelled() -> PendingCall:
            calling = self.place()
            self.rings(self.sent())
            calling.cancel_request()
            self.server.confirm(self.server.one())
            return calling

        def cancelled_before_it_is_named() -> PendingCall:
            calling = self.place()
            self.server.one()
            calling.cancel_request()
            return calling

        def timed() -> PendingCall:
            calling = self.place(timeout=60)
            self.rings(self.sent())
            return calling

        def reliable() -> PendingCall:
            calling = self.place()
            self.server.respond(
                self.sent(),
                183,
                method="INVITE",
                dialog_id=DIALOG,
                headers={**RUNG, "Require": "100rel", "RSeq": "1"},
                body=ANSWER,
            )
            self.assertEqual(self.server.heads(), ["PRACK"])
            return calling

        steps: list[Callable[[], PendingCall]] = [
            handed_over,
            on_its_way,
            ringing,
            cancelled,
            cancelled_before_it_is_named,
            timed,
            reliable,
            asks(401, ASKED),
            asks(302, {**RUNG, "Contact": "<sip:carol@127.0.0.1:32072>"}),
        ]
        for step in steps:
            self.setUp()
            self.lose(step())
        self.assertEqual(len(steps), 9)

    def test_before_the_offer_is_there(self) -> None:
        """Who makes the offer meanwhile finds the connection gone."""
        offering: Deferred[str] = Deferred()
        calling = self.place(local_sdp=lambda: offering)
        self.server.lose()
        self.assertNoResult(calling)
        offering.callback(OFFER)
        self.bench.settle()
        self.failureResultOf(calling, ConnectionLost)
        self.nothing_left()

    def test_while_credentials_are_fetched(self) -> None:
        """Who fetches credentials meanwhile does so for nobody."""
        fetching: Deferred[tuple[str, str]] = Deferred()
        calling = self.place(auth=lambda *_: fetching)
        self.server.respond(self.sent(), 401, method="INVITE", headers=dict(ASKED))
        self.server.lose()
        fetching.callback(("u", "p"))
        self.bench.settle()
        self.failureResultOf(calling, ConnectionLost)
        self.nothing_left()

    def test_while_the_answer_to_a_reliable_response_is_made(self) -> None:
        """The answer that comes afterwards goes nowhere, and no PRACK is tried."""
        answering: Deferred[str] = Deferred()
        calling = self.place(local_sdp=None, on_provisional=lambda _: answering)
        self.server.respond(
            self.sent(),
            183,
            method="INVITE",
            dialog_id=DIALOG,
            headers={**RUNG, "Require": "100rel", "RSeq": "1"},
            body=OFFER,
        )
        self.server.lose()
        self.bench.settle()
        self.failureResultOf(calling, ConnectionLost)
        answering.callback(ANSWER)
        self.bench.settle()
        self.nothing_left()

    def test_behind_the_200(self) -> None:
        """A call that is up ends with the connection; its ACK may still be owed."""
        calling = self.place(local_sdp=None)
        self.server.respond(
            self.sent(), 200, method="INVITE", dialog_id=DIALOG, headers=dict(RUNG), body=OFFER
        )
        dialog = self.successResultOf(calling)
        self.server.lose()
        self.bench.settle()
        ended = dialog.ended
        assert ended is not None
        self.assertEqual(ended.reason.name, "LINK_LOST")
        dialog.ack(ANSWER)  # which nobody gets
        self.failureResultOf(dialog.request("INFO"), ConnectionLost)
        self.nothing_left()


class RefusedTests(LostTestCase):
    def test_redirected_to_where_the_server_does_not_send(self) -> None:
        """A contact that the server refuses leaves the redirect as the outcome."""
        calling = self.place(follow_redirects=True)
        contact = {"Contact": "<sip:carol@127.0.0.1:32072>"}
        self.server.respond(self.sent(), 302, method="INVITE", headers={**RUNG, **contact})
        self.server.refuse(self.server.one(), "no route")
        error = self.failureResultOf(calling, SipError).value
        self.assertEqual(error.status, 302)
        self.nothing_left()


class SilentServerTests(LostTestCase):
    def test_final_response_after_all(self) -> None:
        """A server that forgot an INVITE: what it says when nobody waits changes nothing."""
        calling = self.place()
        transaction_id = self.sent()
        self.rings(transaction_id)
        self.bench.pass_time(240)
        self.assertEqual(self.failureResultOf(calling, SipError).value.status, 408)
        cancel = self.server.one()
        self.assertEqual(cancel.head, "CANCEL")
        self.server.confirm(cancel)
        self.server.respond(transaction_id, 487, method="INVITE", headers=dict(RUNG))
        self.assertTrue(self.srf.idle)
        self.nothing_left()
