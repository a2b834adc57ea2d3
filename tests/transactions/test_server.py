"""Server transactions against RFC 3261 section 17.2 (table 4), RFC 6026 and RFC 3262."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.sip.message import Request
from drachtwist.sip.parsing import parse_message
from drachtwist.transactions.machine import State, Transmit
from drachtwist.transactions.retransmission import AnswerRepeater, ProvisionalRepeater
from drachtwist.transactions.server import InviteServer, NonInviteServer, trying
from tests.transactions.messages import kinds, request, response, run, times

CAPPED = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
OVER = [(32.0, "TimedOut"), (32.0, "Terminated")]


class InviteServerTests(SynchronousTestCase):
    def failed(self, *, reliable: bool = False) -> InviteServer:
        server = InviteServer(request(), reliable=reliable)
        effects = server.respond(response(server.request, 486), 0.0)
        self.assertEqual(kinds(effects), ["send 486"])
        return server

    def test_nothing_to_repeat_yet(self) -> None:
        """An INVITE that comes again before any response is absorbed; there is no deadline."""
        server = InviteServer(request())
        self.assertEqual(server.receive(server.request, 1.0), [])
        self.assertIsNone(server.deadline)

    def test_last_provisional_is_repeated(self) -> None:
        """An INVITE that comes again gets the last provisional response."""
        server = InviteServer(request())
        server.respond_bytes(100, trying(server.request), 0.0)
        self.assertEqual(kinds(server.receive(server.request, 0.5)), ["send 100"])
        server.respond(response(server.request, 180), 1.0)
        self.assertEqual(kinds(server.receive(server.request, 1.5)), ["send 180"])
        self.assertIs(server.state, State.PROCEEDING)
        self.assertEqual(server.status, 180)

    def test_timers_g_and_h(self) -> None:
        """A failure without ACK is repeated after T1, doubling up to T2, for 64 T1."""
        seen = run(self.failed())
        self.assertEqual(times(seen, "send 486"), CAPPED)
        self.assertEqual(seen[-2:], OVER)

    def test_failure_over_tcp(self) -> None:
        """Over TCP a failure is not repeated, but its ACK is waited for."""
        server = self.failed(reliable=True)
        self.assertEqual(server.deadline, 32.0)
        self.assertEqual(kinds(server.receive(request("ACK"), 1.0)), ["Terminated"])
        self.assertEqual(run(self.failed(reliable=True)), OVER)

    def test_ack_ends_the_repeats(self) -> None:
        """The ACK, and its copies for T4, are absorbed."""
        server = self.failed()
        self.assertEqual(kinds(server.tick(0.5)), ["send 486"])
        self.assertEqual(server.receive(request("ACK"), 0.6), [])
        self.assertIs(server.state, State.CONFIRMED)
        self.assertEqual(server.receive(request("ACK"), 0.7), [])
        self.assertEqual(server.receive(server.request, 0.8), [])
        self.assertEqual(run(server), [(5.6, "Terminated")])

    def test_invite_after_failure(self) -> None:
        """An INVITE that comes again gets the failure at once."""
        server = self.failed()
        self.assertEqual(kinds(server.receive(server.request, 0.1)), ["send 486"])
        self.assertEqual(server.deadline, 0.5)

    def test_accepted(self) -> None:
        """A 2xx is not repeated by the transaction, further ones pass, and Timer L ends it."""
        server = InviteServer(request())
        ok = response(server.request, 200)
        self.assertEqual(kinds(server.respond(ok, 0.0)), ["send 200"])
        self.assertIs(server.state, State.ACCEPTED)
        self.assertEqual(kinds(server.respond(ok, 0.5)), ["send 200"])
        self.assertEqual(kinds(server.receive(server.request, 0.6)), ["send 200"])
        self.assertEqual(kinds(server.receive(request("ACK"), 1.0)), ["deliver ACK"])
        self.assertEqual(run(server), [(32.0, "Terminated")])

    def test_one_final_response(self) -> None:
        """Whatever the owner sends after a final response is dropped."""
        server = self.failed()
        for status in (180, 200, 500):
            self.assertEqual(server.respond(response(server.request, status), 1.0), [])
        server = InviteServer(request())
        server.respond(response(server.request, 200), 0.0)
        for status in (180, 500):
            self.assertEqual(server.respond(response(server.request, status), 1.0), [])
        self.assertEqual(server.status, 200)

    def test_failed_transport(self) -> None:
        """The owner learns of it, and the transaction stays as it is."""
        server = self.failed()
        self.assertEqual(kinds(server.transport_failed(0.1)), ["TransportFailed"])
        self.assertIs(server.state, State.COMPLETED)
        server.abandon()
        self.assertEqual(server.transport_failed(0.2), [])

    def test_repeats_are_the_same_object(self) -> None:
        """A repeat costs no encoding: the bytes are kept."""
        data = bytes(response(request(), 486))
        server = InviteServer(request())
        server.respond_bytes(486, data, 0.0)
        (effect,) = server.tick(0.5)
        assert isinstance(effect, Transmit)
        self.assertIs(effect.data, data)

    def test_trying(self) -> None:
        """A 100 has all Vias, From, To, Call-ID, CSeq and Timestamp, and nothing else."""
        invite = request()
        invite.add("Via", "SIP/2.0/UDP 192.0.2.8;branch=z9hG4bKlow")
        invite.set("Timestamp", "54")
        message = parse_message(trying(invite))
        self.assertEqual(
            [name for name, _ in message.headers.items()],
            ["Via", "Via", "From", "To", "Call-ID", "CSeq", "Timestamp", "Content-Length"],
        )
        self.assertEqual(message.get_all("Via"), invite.get_all("Via"))
        self.assertIsNone(message.to.tag)


class NonInviteServerTests(SynchronousTestCase):
    def test_copies(self) -> None:
        """A request that comes again gets the last response, or nothing if there is none."""
        server = NonInviteServer(request("OPTIONS"))
        self.assertEqual(server.receive(server.request, 0.5), [])
        self.assertIsNone(server.deadline)
        server.respond(response(server.request, 182), 0.6)
        self.assertEqual(kinds(server.receive(server.request, 0.7)), ["send 182"])
        server.respond(response(server.request, 200), 1.0)
        self.assertEqual(kinds(server.receive(server.request, 1.1)), ["send 200"])
        self.assertEqual(server.respond(response(server.request, 500), 1.2), [])

    def test_timer_j(self) -> None:
        """Copies are answered for 64 T1 over UDP, and not at all over TCP."""
        server = NonInviteServer(request("OPTIONS"))
        server.respond(response(server.request, 200), 1.0)
        self.assertEqual(run(server), [(33.0, "Terminated")])
        server = NonInviteServer(request("OPTIONS"), reliable=True)
        effects = server.respond(response(server.request, 200), 1.0)
        self.assertEqual(kinds(effects), ["send 200", "Terminated"])

    def test_failed_transport(self) -> None:
        """A transport error ends it."""
        server = NonInviteServer(request("OPTIONS"))
        server.respond(response(server.request, 200), 1.0)
        self.assertEqual(kinds(server.transport_failed(1.1)), ["TransportFailed", "Terminated"])
        self.assertEqual(server.transport_failed(1.2), [])
        self.assertEqual(server.receive(server.request, 1.3), [])


class RepeaterTests(SynchronousTestCase):
    def test_answer(self) -> None:
        """A 2xx without ACK is repeated after T1, doubling up to T2, for 64 T1."""
        seen = run(AnswerRepeater(bytes(response(request(), 200)), 0.0))
        self.assertEqual(times(seen, "send 200"), CAPPED)
        self.assertEqual(seen[-2:], OVER)

    def test_answer_over_tcp(self) -> None:
        """Without repeats it still waits for the ACK."""
        repeater = AnswerRepeater(bytes(response(request(), 200)), 0.0, repeat=False)
        self.assertEqual(run(repeater), OVER)
        self.assertTrue(repeater.done)

    def test_ack(self) -> None:
        """The ACK ends it, and a second one does nothing."""
        repeater = AnswerRepeater(bytes(response(request(), 200)), 0.0)
        repeater.tick(0.5)
        self.assertEqual(kinds(repeater.confirm()), ["Terminated"])
        self.assertEqual(repeater.confirm(), [])
        self.assertEqual(repeater.tick(40.0), [])

    def test_stop_repeating(self) -> None:
        """Once a BYE came the answer is not repeated, but the end of the wait is told."""
        repeater = AnswerRepeater(bytes(response(request(), 200)), 0.0)
        repeater.tick(0.5)
        repeater.stop_repeating()
        self.assertEqual(run(repeater), OVER)

    def test_reliable_provisional(self) -> None:
        """A reliable provisional is repeated with intervals that double without a limit."""
        repeater = ProvisionalRepeater(bytes(response(request(), 183)), 0.0, 17)
        self.assertEqual(repeater.rseq, 17)
        seen = run(repeater)
        self.assertEqual(times(seen, "send 183"), [0.5, 1.5, 3.5, 7.5, 15.5, 31.5])
        self.assertEqual(seen[-2:], OVER)

    def test_prack(self) -> None:
        """The PRACK ends it."""
        repeater = ProvisionalRepeater(bytes(response(request(), 183)), 0.0, 17)
        self.assertEqual(kinds(repeater.confirm()), ["Terminated"])
        self.assertEqual(run(repeater), [])


class RequestKept(SynchronousTestCase):
    def test_owner_and_request(self) -> None:
        """A machine keeps its request, and a place for whoever runs it."""
        message = request()
        for machine in (InviteServer(message), NonInviteServer(message)):
            self.assertIsInstance(machine.request, Request)
            machine.owner = self
            self.assertIs(machine.owner, self)
