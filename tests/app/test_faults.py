"""Faults that users of drachtio-srf 5.0.29 have met, one test each: they do not exist here."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReactorPluggableNameResolver
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides, providedBy

from drachtwist import (
    CallRecord,
    ConnectionFailed,
    ConnectionLost,
    Dialog,
    DialogEnd,
    Request,
    Response,
    SipError,
    Srf,
    TlsOptions,
)
from drachtwist.net.service import BackOff
from tests.app.calling import CallTestCase
from tests.app.doubles import ANSWER, OFFER, Bench, Server
from tests.server.doubles import head, request
from tests.whole import TARGET

DIALOG = "c1;from-tag=a"
PLAIN = OFFER.replace("a=sendrecv\r\n", "")
"""An offer that says nothing of directions, which means sendrecv."""

CHALLENGE = 'Digest realm="r", nonce="n", qop="auth", algorithm='


class Transport(StringTransport):
    """What a TCP connection has besides."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Send at once."""

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Look whether the peer is there."""


class FaultTestCase(SynchronousTestCase):
    """Has an application that accepts calls, and one server."""

    sdp = ANSWER

    def setUp(self) -> None:
        """Connect the application."""
        self.bench = Bench()
        self.srf = self.bench.srf
        self.dialogs: list[Dialog] = []
        self.kept: list[tuple[Request, Response]] = []
        self.failures: list[Failure] = []
        self.accepts = True

        @self.srf.invite
        def answer(req: Request, res: Response) -> None:
            self.kept.append((req, res))
            if self.accepts:
                accepting = self.srf.create_uas(req, res, local_sdp=self.sdp)
                accepting.addCallbacks(self.dialogs.append, self.failures.append)

        self.server = self.connected()

    def connected(self, **options: Any) -> Server:
        """Connect to one more server."""
        server = self.bench.connect(**options)
        server.take()
        return server

    def call(self, body: str = OFFER) -> Dialog:
        """Let a call come, and be established."""
        self.server.invite(body=body)
        self.server.confirm(self.server.one(), DIALOG)
        self.server.ask("ACK", dialog_id=DIALOG)
        return self.dialogs[-1]


class _Addresses:
    """Knows where addresses are, which older reactors for tests ask a thread for."""

    name = "nothing"

    def resolveHostName(self, receiver: Any, hostName: str, portNumber: int = 0, **_: Any) -> Any:
        receiver.resolutionBegan(self)
        receiver.addressResolved(IPv4Address("TCP", hostName, portNumber))
        receiver.resolutionComplete()
        return self


class LinkFaultTests(FaultTestCase):
    def test_tls_link_reopened_as_plain_tcp(self) -> None:
        """A TLS connection that was lost is opened again as TLS."""
        reactor: Any = MemoryReactorClock()
        reactor.nameResolver = _Addresses()
        directlyProvides(reactor, IReactorPluggableNameResolver, *providedBy(reactor))
        srf = Srf(reactor=reactor)
        connection = srf.connect(host="127.0.0.1", port=9023, tls=TlsOptions(), secret="cymru")
        waiting = connection.when_connected()
        waiting.addErrback(lambda _: None)
        for attempt in range(3):
            reactor.advance(60)
            self.assertEqual(len(reactor.tcpClients), attempt + 1)
            host, port, factory, *_ = reactor.tcpClients[attempt]
            self.assertEqual((host, port), ("127.0.0.1", 9023))
            protocol = factory.buildProtocol(None)
            transport = Transport()
            assert protocol is not None
            protocol.makeConnection(transport)
            self.assertEqual(transport.value()[:2], b"\x16\x03")  # a TLS handshake
            protocol.connectionLost(Failure(ConnectionDone()))
        connection.stop()

    def test_unbounded_back_off(self) -> None:
        """However often connecting failed, the next attempt is at most a minute away."""
        back_off = BackOff()
        self.assertLessEqual(max(back_off(failures) for failures in range(2_000)), 60.0)

    def test_missing_pong_ignored(self) -> None:
        """A server that does not answer the ping is left, and connected to anew."""
        server = self.connected(ping_interval=15.0, pong_timeout=10.0)
        self.bench.clock.advance(16)
        self.bench.clock.advance(11)
        self.assertTrue(server.closed)

    def test_promises_pending_after_link_loss(self) -> None:
        """Everything that waits for the server fails when the connection is lost."""
        self.accepts = False
        self.server.invite()
        sending = self.kept[0][1].send(180)
        calling = self.srf.create_uac("sip:bob@example.net", local_sdp=OFFER)
        asking = self.srf.request("sip:bob@example.net", method="OPTIONS")
        accepting = self.srf.create_uas(*self.kept[0], local_sdp=ANSWER)
        self.server.lose()
        self.bench.settle()
        for waiting in (sending, calling, asking, accepting):
            self.failureResultOf(waiting, ConnectionLost)

    def test_dialogs_kept_after_link_loss(self) -> None:
        """Dialogs of a connection that was lost are over, and forgotten."""
        dialog = self.call()
        told: list[Any] = []
        dialog.on_destroy(told.append)
        pending = dialog.info()
        self.server.lose()
        self.failureResultOf(pending, ConnectionLost)
        assert dialog.ended is not None
        self.assertIs(dialog.ended.reason, DialogEnd.LINK_LOST)
        self.assertEqual(told, [None])
        self.assertIsNone(self.srf.find_dialog_by_id(DIALOG))

    def test_garbage_frame_kills_the_process(self) -> None:
        """Garbage costs the connection that it came over, and nothing else."""
        other = self.connected()
        self.server.protocol.dataReceived(b"garbage#garbage")
        self.assertTrue(self.server.closed)
        other.invite(call="c2")
        self.assertEqual(other.heads(), ["200"])

    def test_request_before_connect_asserts(self) -> None:
        """Without a connection there is a typed error, not a failed assertion."""
        srf = Srf(reactor=self.bench.clock)
        with self.assertRaises(ConnectionFailed):
            srf.request("sip:bob@example.net", method="OPTIONS")
        with self.assertRaises(ConnectionFailed):
            srf.create_uac("sip:bob@example.net", local_sdp=OFFER)

    def test_end_session_marks_all_connections_closing(self) -> None:
        """Ending one session leaves the connections of all others alone."""
        self.bench.listen()
        first, second = self.bench.dial(), self.bench.dial()
        first.take(), second.take()
        first.invite(call="o1")
        first.take()
        second.invite(call="o2")
        second.take()
        self.srf.end_session(self.kept[-2][0])
        self.bench.settle()
        self.assertTrue(first.closed)
        self.assertFalse(second.closed)
        self.srf.request("sip:x@example.net", method="OPTIONS", link=self.kept[-1][0])
        self.assertEqual(second.heads(), ["OPTIONS"])

    def test_default_connection_of_another_server(self) -> None:
        """What a handler sends goes to the server that brought its request."""
        bench = Bench()
        bench.listen()
        bench.srf.invite(self._ask_back)
        self.asked = bench.srf
        first, second = bench.dial(), bench.dial()
        first.take(), second.take()
        second.invite(call="o2")
        self.assertEqual((first.heads(), second.heads()), ([], ["OPTIONS"]))
        first.invite(call="o1")
        self.assertEqual((first.heads(), second.heads()), (["OPTIONS"], []))

    async def _ask_back(self, req: Request, res: Response) -> None:
        self.asked.request("sip:x@example.net", method="OPTIONS")

    def test_routes_repeated(self) -> None:
        """Every route is asked for once, however many handlers there are."""
        self.srf.invite(lambda req, res: None)
        self.srf.options(lambda req, res: None)
        self.srf.options(lambda req, res: None)
        self.server.take()
        self.assertEqual(sorted(self.server.routes), ["invite", "options"])
        another = self.connected()
        self.assertEqual(sorted(another.routes), ["invite", "options"])

    def test_one_cdr_listener_only(self) -> None:
        """All handlers of an event get the record."""
        seen: list[tuple[int, str]] = []
        for number in (1, 2):

            def listen(record: CallRecord, number: int = number) -> None:
                seen.append((number, record.event))

            self.srf.on_cdr("attempt")(listen)
        self.server.take()
        invite = "INVITE sip:a@127.0.0.1 SIP/2.0\r\nCall-ID: c\r\nContent-Length: 0\r\n\r\n"
        self.server.send(f"m1|cdr:attempt|network|01:02:03.000004\r\n{invite}")
        self.assertEqual(seen, [(1, "attempt"), (2, "attempt")])


class DialogFaultTests(FaultTestCase):
    def refuse_modify(self, dialog: Dialog, status: int) -> Any:
        """Let a re-INVITE of ours be refused."""
        modifying = dialog.modify(OFFER)
        transaction = self.server.confirm(self.server.one())
        self.server.respond(transaction, status, method="INVITE", dialog_id=DIALOG)
        return modifying

    def test_modify_dead_after_refusal(self) -> None:
        """After a 488 the next modify is sent; after a 491 the same one is sent again."""
        dialog = self.call()
        self.failureResultOf(self.refuse_modify(dialog, 488), SipError)
        modifying = self.refuse_modify(dialog, 491)
        self.assertNoResult(modifying)
        self.bench.pass_time(5)
        transaction = self.server.confirm(self.server.one())
        self.server.respond(transaction, 200, method="INVITE", dialog_id=DIALOG, body=ANSWER)
        self.assertEqual(self.successResultOf(modifying), ANSWER.encode())
        self.assertEqual(self.server.heads(), ["ACK"])

    def test_stray_ack_after_failed_reinvite(self) -> None:
        """The server acknowledges a refusal by itself: the application sends no ACK."""
        modifying = self.refuse_modify(self.call(), 488)
        self.failureResultOf(modifying, SipError)
        self.assertEqual(self.server.heads(), [])

    def test_info_shortcut_broken(self) -> None:
        """``dialog.info()`` sends an INFO in the dialog, and gives the response."""
        asking = self.call().info(body="hello")
        sent = self.server.one()
        self.assertEqual((sent.head, sent.dialog_id), ("INFO", DIALOG))
        self.assertEqual(sent.request.body, b"hello")
        self.server.respond(self.server.confirm(sent), 200, dialog_id=DIALOG)
        self.assertEqual(self.successResultOf(asking).status, 200)

    def test_hold_unseen_without_sendrecv(self) -> None:
        """Hold is seen, and said, also where no description has an ``a=sendrecv``."""
        self.sdp = ANSWER.replace("a=sendrecv\r\n", "")
        dialog = self.call(PLAIN)
        held: list[Request] = []
        dialog.on_hold(held.append)
        body = PLAIN.replace("1001 1 IN", "1001 2 IN") + "a=sendonly\r\n"
        self.server.ask("INVITE", dialog_id=DIALOG, number=2, body=body)
        self.assertEqual(len(held), 1)
        self.assertTrue(dialog.is_on_hold)
        self.server.take()
        self.server.ask("ACK", dialog_id=DIALOG, number=2)  # a re-INVITE of ours waits for it
        dialog.modify("hold").addErrback(lambda failure: failure.trap(ConnectionLost))
        self.assertIn(b"a=inactive", self.server.one().request.body)

    def test_destroy_lost_in_one_read(self) -> None:
        """A BYE that comes in the same read as the 200's confirmation and the ACK is told."""
        told: list[Any] = []

        async def answer(req: Request, res: Response) -> None:
            dialog = await self.srf.create_uas(req, res, local_sdp=ANSWER)
            dialog.on_destroy(told.append)

        bench = Bench()
        bench.srf.invite(answer)
        self.srf = bench.srf
        server = bench.connect()
        server.take()
        server.invite()
        accepted = server.one()
        with server.in_one_read():
            server.confirm(accepted, DIALOG)
            server.ask("ACK", dialog_id=DIALOG)
            server.ask("BYE", dialog_id=DIALOG, number=2)
        self.assertEqual([bye.method for bye in told], ["BYE"])

    def test_subscriber_dialog_never_ends(self) -> None:
        """A NOTIFY that terminates the subscription ends the dialog of the subscriber."""
        subscribing = self.srf.create_uac(
            "sip:bob@example.net", method="SUBSCRIBE", headers={"Event": "presence"}
        )
        transaction = self.server.confirm(self.server.one())
        self.server.respond(transaction, 202, method="SUBSCRIBE", dialog_id="c1;from-tag=s")
        dialog = self.successResultOf(subscribing)
        told: list[Any] = []
        dialog.on_destroy(told.append)
        state = {"Event": "presence", "Subscription-State": "terminated;reason=timeout"}
        self.server.ask("NOTIFY", dialog_id="c1;from-tag=s", number=2, headers=dict(state))
        self.assertEqual(len(told), 1)
        self.assertFalse(dialog.connected)
        self.assertIsNone(self.srf.find_dialog_by_id("c1;from-tag=s"))


class AnswerFaultTests(FaultTestCase):
    def test_statuses_refused(self) -> None:
        """Every status from 100 to 699 can be sent, registered or not."""
        self.accepts = False
        for status in (607, 608, 440, 469, 555, 699):
            self.server.invite(call=f"c{status}")
            self.kept[-1][1].send(status)
            self.assertEqual(self.server.heads(), [str(status)])

    def test_create_uas_without_contact(self) -> None:
        """An INVITE without Contact is refused: nobody could end its call."""
        outcomes: list[Any] = []
        self.accepts = False
        self.server.invite(headers={"Contact": None})
        self.srf.create_uas(*self.kept[0], local_sdp=ANSWER).addBoth(outcomes.append)
        self.assertEqual(self.server.heads(), ["400"])
        self.bench.pass_time(60)
        [failure] = outcomes
        self.assertEqual(failure.trap(SipError) and failure.value.status, 400)

    def test_cancel_during_answer(self) -> None:
        """A CANCEL that crosses the answer gives one outcome: 487."""
        transaction = self.server.invite()
        accepted = self.server.one()
        cancels: list[Any] = []
        self.kept[0][0].on_cancel(cancels.append)
        self.server.cancel(transaction)
        self.server.gone(accepted)
        self.assertEqual((len(cancels), self.dialogs), (1, []))
        [failure] = self.failures
        assert isinstance(failure.value, SipError)
        self.assertEqual(failure.value.status, 487)

    def test_content_length_in_characters(self) -> None:
        """Lengths are counted in bytes, on the wire and in the message."""
        self.accepts = False
        self.server.invite()
        self.kept[0][1].send(486, headers={"Content-Type": "text/plain"}, body="dåvåå ☎")
        sent = self.server.one()
        self.assertEqual(sent.response.body.decode(), "dåvåå ☎")
        length = sent.response.get("Content-Length")
        self.assertIn(length, (None, str(len("dåvåå ☎".encode()))))


class GivenUpTests(CallTestCase):
    """The server ends by itself what the application has not."""

    def test_no_prack(self) -> None:
        """A call whose caller wants reliable responses, and acknowledges none, is over."""
        req, res = self.ring("Require: 100rel")
        res.send(180)
        self.whole.sent()
        gone = req.when_cancelled()
        self.assertIn((32.0, "504 INVITE"), self.whole.pass_time(33))
        cancel = self.successResultOf(gone)
        assert cancel is not None
        self.assertIn("PRACK timeout", cancel.get("Reason") or "")
        self.assertTrue(req.canceled)
        self.assertTrue(self.srf.idle)

    def test_accepted_without_prack(self) -> None:
        """So it is when it was accepted meanwhile."""
        req, res = self.ring("Require: 100rel")
        res.send(180)
        dialog = self.successResultOf(self.after_pump(self.srf.create_uas(req, res)))
        self.whole.pass_time(33)
        ended = dialog.ended
        assert ended is not None
        self.assertEqual((ended.reason, ended.text), (DialogEnd.SERVER, "PRACK timeout"))
        self.assertTrue(self.srf.idle)

    def after_pump(self, accepting: Any) -> Any:
        """Let the server hear of it."""
        self.whole.pump()
        return accepting


class DigestFaultTests(CallTestCase):
    def credentials(self, *challenges: str) -> list[str]:
        """Give the credentials that answer these challenges."""
        asking = self.srf.request(TARGET, method="OPTIONS", auth=("bob", "secret"))
        both = "\nWWW-Authenticate: ".join(challenges)
        self.whole.respond(self.whole.request(), 401, headers={"WWW-Authenticate": both})
        repeated = self.whole.request()
        self.whole.respond(repeated, 200)
        self.assertEqual(self.successResultOf(asking).status, 200)
        return repeated.get_all("Authorization")

    def test_sha256_answered_with_md5(self) -> None:
        """A SHA-256 challenge gets a SHA-256 answer: 64 hexadecimal digits."""
        [credentials] = self.credentials(CHALLENGE + "SHA-256")
        self.assertIn("algorithm=SHA-256", credentials)
        self.assertRegex(credentials, r'response="[0-9a-f]{64}"')

    def test_two_challenges_merged(self) -> None:
        """Of two challenges for a realm one is answered, the stronger, with its own nonce."""
        weak = CHALLENGE.replace('"n"', '"weak"') + "MD5"
        strong = CHALLENGE.replace('"n"', '"strong"') + "SHA-256"
        [credentials] = self.credentials(weak, strong)
        self.assertIn('nonce="strong"', credentials)
        self.assertNotIn("weak", credentials)
        self.assertIn("algorithm=SHA-256", credentials)


class BridgeFaultTests(CallTestCase):
    def test_sleeps_in_the_b2bua(self) -> None:
        """A call is bridged without any time passing: nothing is waited for by the clock."""
        req, res = self.ring()
        bridging = self.srf.create_b2bua(req, res, TARGET)
        invite = self.whole.request()
        self.whole.respond(invite, 183, body=ANSWER)
        self.whole.respond(invite, 200, body=ANSWER)
        heads = self.whole.heads()
        self.assertEqual(self.whole.clock.seconds(), 0.0)
        self.assertEqual(sorted(heads), ["183 INVITE", "200 INVITE", "ACK"])
        self.successResultOf(bridging)

    def test_all_list_deletes_from_the_original(self) -> None:
        """``all`` and its exceptions choose headers; the caller's request stays as it came."""
        req, res = self.ring("X-Drop: 1\nX-Keep: 2\n")
        before = bytes(req.raw)
        bridging = self.srf.create_b2bua(req, res, TARGET, proxy_request_headers=["all", "-X-Drop"])
        bridging.addErrback(lambda failure: failure.trap(SipError))
        invite = self.whole.request()
        self.assertEqual((invite.get("X-Keep"), invite.get("X-Drop")), ("2", None))
        self.assertEqual((req.get("X-Drop"), bytes(req.raw)), ("1", before))
        self.assertEqual(head(invite), "INVITE")
        self.whole.receive(request("CANCEL"), 32070)
