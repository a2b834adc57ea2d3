"""Several targets for one caller: at once, and one after the other."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import B2bua, LocalProtocolError, Request, Response, SipError
from drachtwist.app.forking import Simring, hunt, simring
from drachtwist.sip import Request as SipRequest
from drachtwist.sip import Response as SipResponse
from tests.server.doubles import head, request
from tests.whole import Whole

A = 32070
URIS = [f"sip:bob@127.0.0.1:{port}" for port in (32071, 32072, 32073)]
OFFER = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"
ANSWER = "v=0\r\no=bob 1 1 IN IP4 127.0.0.1\r\ns=-\r\n"


class ForkingTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        """Let a call come."""
        self.whole = Whole()
        self.srf = self.whole.srf
        self.kept: list[tuple[Request, Response]] = []

        @self.srf.invite
        def keep(req: Request, res: Response) -> None:
            self.kept.append((req, res))

        self.whole.pump()
        self.whole.receive(request("INVITE", body=OFFER), A)
        self.whole.heads()
        [(self.req, self.res)] = self.kept

    def sent(self) -> dict[int, list[Any]]:
        """Take what was sent to each phone, but for ACKs."""
        self.whole.pump()
        sent, self.whole.server.wire.sent = self.whole.server.wire.sent, []
        found: dict[int, list[Any]] = {}
        for flow, data in sent:
            kind: Any = SipResponse if data.startswith(b"SIP/2.0") else SipRequest
            if not data.startswith(b"ACK"):
                found.setdefault(flow.remote_port, []).append(kind.from_bytes(data))
        return found

    def heads(self) -> dict[int, list[str]]:
        """Take what was sent to each phone, in short."""
        return {port: [head(one) for one in found] for port, found in self.sent().items()}

    def respond(self, invite: SipRequest, status: int, port: int, **how: Any) -> None:
        """Let a phone respond."""
        self.whole.respond(invite, status, port=port, tag=str(port), **how)

    def failed(self, calling: Deferred[B2bua]) -> int:
        """See that nobody answered; give the status."""
        error: Any = self.failureResultOf(calling, SipError).value
        return int(error.status)


class SimringTests(ForkingTestCase):
    def ring(self, **options: Any) -> tuple[Deferred[B2bua], dict[int, SipRequest]]:
        """Call all, and give their INVITEs."""
        calling = simring(self.srf, self.req, self.res, URIS, **options)
        invites = {port: found[0] for port, found in self.sent().items()}
        self.assertEqual(list(invites), [32071, 32072, 32073])
        return calling, invites

    def test_first_wins(self) -> None:
        """The first answer connects; the others are cancelled, and the caller rings once."""
        calling, invites = self.ring()
        for port in (32071, 32072):
            self.respond(invites[port], 180, port)
        self.assertEqual(self.heads(), {A: ["180 INVITE"]})
        self.respond(invites[32072], 200, 32072, body=ANSWER)
        self.assertEqual(self.heads(), {A: ["200 INVITE"], 32071: ["CANCEL"]})
        uas, uac = self.successResultOf(calling)
        self.assertEqual((uac.remote.tag, uas.local.sdp), ("32072", ANSWER.encode()))
        # Who has not said anything yet is cancelled once he does, and hung up on if he answers.
        self.respond(invites[32073], 180, 32073)
        self.assertEqual(self.heads(), {32073: ["CANCEL"]})
        self.respond(invites[32071], 200, 32071, body=ANSWER)
        self.assertEqual(self.heads(), {32071: ["BYE"]})

    def test_nobody(self) -> None:
        """The caller gets the best of the refusals."""
        calling, invites = self.ring()
        for port, status in ((32071, 486), (32072, 407), (32073, 503)):
            self.respond(invites[port], status, port)
        self.assertEqual(self.heads(), {A: ["407 INVITE"]})
        self.assertEqual(self.failed(calling), 407)

    def test_decline(self) -> None:
        """A 6xx of one ends the others' ringing."""
        calling, invites = self.ring()
        self.respond(invites[32071], 180, 32071)
        self.respond(invites[32073], 180, 32073)
        self.sent()
        self.respond(invites[32072], 603, 32072)
        self.assertEqual(self.heads(), {32071: ["CANCEL"], 32073: ["CANCEL"]})
        for port in (32071, 32073):
            self.respond(invites[port], 487, port)
        self.assertEqual(self.heads(), {A: ["603 INVITE"]})
        self.assertEqual(self.failed(calling), 603)

    def test_cancelled(self) -> None:
        """When the caller gives up all are cancelled."""
        calling, invites = self.ring()
        for port in invites:
            self.respond(invites[port], 180, port)
        self.sent()
        self.whole.receive(request("CANCEL"), A)
        heads = self.heads()
        self.assertEqual(heads.pop(A), ["200 CANCEL", "487 INVITE"])
        self.assertEqual(set(map(tuple, heads.values())), {("CANCEL",)})
        for port in invites:
            self.respond(invites[port], 487, port)
        self.assertEqual(self.failed(calling), 487)

    def test_timeout(self) -> None:
        """A target has so long to answer."""
        calling, invites = self.ring(timeout=5)
        for port in invites:
            self.respond(invites[port], 180, port)
        self.sent()
        self.whole.clock.advance(5)
        heads = self.heads()
        self.assertEqual(heads.pop(A), ["408 INVITE"])
        self.assertEqual(set(map(tuple, heads.values())), {("CANCEL",)})
        self.assertEqual(self.failed(calling), 408)
        for port in invites:
            self.respond(invites[port], 487, port)
        self.assertEqual(self.heads(), {})

    def test_added_later(self) -> None:
        """A target may be added while others ring, but not when it is decided."""
        ring = Simring(self.srf, self.req, self.res, URIS[:1])
        calling = ring.start()
        [first] = self.sent()[32071]
        ring.hold()
        self.respond(first, 486, 32071)
        self.assertNoResult(calling)
        ring.add(URIS[1])
        ring.release()
        [second] = self.sent()[32072]
        self.respond(second, 200, 32072, body=ANSWER)
        self.successResultOf(calling)
        self.assertRaises(LocalProtocolError, ring.add, URIS[2])

    def test_caller_was_refused(self) -> None:
        """Who answers a caller that the application has refused meanwhile is hung up on."""
        calling, invites = self.ring()
        self.res.send(603)
        self.sent()
        self.respond(invites[32071], 200, 32071, body=ANSWER)
        self.assertEqual(self.heads(), {32071: ["BYE"]})
        self.failureResultOf(calling, LocalProtocolError)

    def test_nobody_can_be_called(self) -> None:
        """When no INVITE can be sent that is the outcome, at once."""
        calling = simring(self.srf, self.req, self.res, URIS, headers={"X-Bad": "a\r\nb"})
        self.failureResultOf(calling, LocalProtocolError)
        self.assertEqual(len(self.flushLoggedErrors(LocalProtocolError)), 3)
        self.assertEqual(self.heads(), {})

    def test_link_lost(self) -> None:
        """A connection that is lost fails the Deferred."""
        calling, _ = self.ring()
        self.whole.lose()
        self.failureResultOf(calling)


class HuntTests(ForkingTestCase):
    def test_one_after_the_other(self) -> None:
        """The next target is called when one refuses or does not answer in time."""
        calling = hunt(self.srf, self.req, self.res, URIS, timeout=5)
        [first] = self.sent()[32071]
        self.respond(first, 486, 32071)
        [second] = self.sent()[32072]
        self.respond(second, 180, 32072)
        self.sent()
        self.whole.clock.advance(5)
        sent = self.sent()
        self.assertEqual([head(one) for one in sent.pop(32072)], ["CANCEL"])
        [third] = sent.pop(32073)  # who does not answer is not waited for
        self.respond(second, 487, 32072)
        self.assertEqual((sent, self.sent()), ({}, {}))
        self.respond(third, 200, 32073, body=ANSWER)
        self.assertEqual(self.heads(), {A: ["200 INVITE"]})
        self.successResultOf(calling)

    def test_nobody(self) -> None:
        """When all refuse the caller gets the best refusal."""
        calling = hunt(self.srf, self.req, self.res, URIS[:2])
        for port, status in ((32071, 404), (32072, 503)):
            [invite] = self.sent()[port]
            self.respond(invite, status, port)
        self.assertEqual(self.heads(), {A: ["404 INVITE"]})
        self.assertEqual(self.failed(calling), 404)

    def test_final_refusals(self) -> None:
        """Some refusals end the hunt."""
        calling = hunt(self.srf, self.req, self.res, URIS, retry_statuses=(503,))
        [invite] = self.sent()[32071]
        self.respond(invite, 486, 32071)
        self.assertEqual(self.heads(), {A: ["486 INVITE"]})
        self.assertEqual(self.failed(calling), 486)

    def test_cancelled(self) -> None:
        """When the caller gives up nobody else is called."""
        calling = hunt(self.srf, self.req, self.res, URIS)
        [invite] = self.sent()[32071]
        self.respond(invite, 180, 32071)
        self.whole.receive(request("CANCEL"), A)
        self.sent()
        self.respond(invite, 487, 32071)
        self.assertEqual(self.heads(), {})
        self.assertEqual(self.failed(calling), 487)

    def test_nobody_to_call(self) -> None:
        """A hunt needs a target."""
        self.assertRaises(LocalProtocolError, hunt, self.srf, self.req, self.res, [])
