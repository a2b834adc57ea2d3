"""Client transactions against RFC 3261 section 17.1 (table 4) and RFC 6026."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from drachtwist.sip.derived import cancel_for, failure_ack
from drachtwist.sip.message import Request
from drachtwist.sip.parsing import parse_message
from drachtwist.transactions.client import InviteClient, NonInviteClient
from drachtwist.transactions.machine import State, Transmit
from drachtwist.transactions.timing import Timing
from tests.transactions.messages import kinds, request, response, run, times

REAL = Timing(request_step=1.0, ring=185.0)
OVER = [(32.0, "TimedOut"), (32.0, "Terminated")]


class InviteClientTests(SynchronousTestCase):
    def proceeding(self, timing: Timing = REAL) -> InviteClient:
        client = InviteClient(request(), timing=timing)
        client.start(0.0)
        client.receive(response(client.request, 180), 1.0)
        return client

    def test_timers_a_and_b(self) -> None:
        """An INVITE over UDP goes out again after T1, 3 T1, 7 T1 ... and fails after 64 T1."""
        client = InviteClient(request())
        self.assertEqual(kinds(client.start(0.0)), ["send INVITE"])
        seen = run(client)
        self.assertEqual(times(seen, "send INVITE"), [0.5, 1.5, 3.5, 7.5, 15.5, 31.5])
        self.assertEqual(seen[-2:], OVER)
        self.assertIs(client.state, State.TERMINATED)

    def test_first_step_of_a_drachtio_server(self) -> None:
        """With a first step of one second the repeats are those that were recorded."""
        client = InviteClient(request(), timing=REAL)
        client.start(0.0)
        seen = run(client)
        self.assertEqual(times(seen, "send INVITE"), [1, 3, 7, 15, 31])
        self.assertEqual(seen[-2:], OVER)

    def test_other_t1(self) -> None:
        """All times follow T1."""
        client = InviteClient(request(), timing=Timing(t1=0.125))
        client.start(100.0)
        seen = run(client, 100.0)
        self.assertEqual(times(seen, "send INVITE"), [0.125, 0.375, 0.875, 1.875, 3.875, 7.875])
        self.assertEqual(times(seen, "TimedOut"), [8.0])

    def test_nothing_is_repeated_over_tcp(self) -> None:
        """A transport that loses nothing carries the INVITE once; Timer B is the same."""
        client = InviteClient(request(), reliable=True)
        client.start(0.0)
        self.assertEqual(run(client), OVER)

    def test_repeats_are_the_same_object(self) -> None:
        """A repeat costs no encoding: the bytes are kept."""
        client = InviteClient(request())
        (first,) = client.start(0.0)
        (second,) = client.tick(0.5)
        assert isinstance(first, Transmit) and isinstance(second, Transmit)
        self.assertIs(first.data, second.data)

    def test_an_early_tick_does_nothing(self) -> None:
        """Time that has not come yet changes nothing."""
        client = InviteClient(request())
        client.start(0.0)
        self.assertEqual(client.tick(0.4), [])
        self.assertEqual(client.deadline, 0.5)

    def test_a_late_tick_repeats_once(self) -> None:
        """A process that slept sends one repeat, not all that it missed."""
        client = InviteClient(request())
        client.start(0.0)
        self.assertEqual(kinds(client.tick(9.0)), ["send INVITE"])
        self.assertEqual(client.deadline, 10.0)

    def test_provisional_stops_the_repeats(self) -> None:
        """After a 1xx the INVITE is not repeated, and without Timer C it may ring for ever."""
        client = InviteClient(request())
        client.start(0.0)
        self.assertEqual(kinds(client.receive(response(client.request, 100), 0.2)), ["deliver 100"])
        self.assertIs(client.state, State.PROCEEDING)
        self.assertIsNone(client.deadline)

    def test_ringing_too_long(self) -> None:
        """Timer C counts from the last provisional response; then a CANCEL gets 64 T1."""
        client = self.proceeding()
        client.receive(response(client.request, 183), 50.0)
        self.assertEqual(run(client), [(235.0, "RingTimedOut")])
        self.assertEqual(kinds(client.cancel(235.0)), ["SendCancel"])
        client.receive(response(client.request, 180), 240.0)
        self.assertEqual(run(client), [(267.0, "TimedOut"), (267.0, "Terminated")])

    def test_failure_over_udp(self) -> None:
        """A failure is delivered once, each copy gets the ACK, and Timer D ends it."""
        client = self.proceeding()
        busy = response(client.request, 486)
        self.assertEqual(kinds(client.receive(busy, 2.0)), ["send ACK", "deliver 486"])
        self.assertIs(client.state, State.COMPLETED)
        self.assertEqual(kinds(client.receive(busy, 3.0)), ["send ACK"])
        self.assertEqual(client.receive(response(client.request, 180), 3.0), [])
        self.assertEqual(run(client), [(34.0, "Terminated")])
        self.assertEqual(client.receive(busy, 35.0), [])

    def test_failure_over_tcp(self) -> None:
        """Nothing comes twice over TCP, so the failure ends the transaction."""
        client = InviteClient(request(), reliable=True)
        client.start(0.0)
        effects = client.receive(response(client.request, 404), 1.0)
        self.assertEqual(kinds(effects), ["send ACK", "deliver 404", "Terminated"])
        self.assertIsNone(client.deadline)

    def test_every_2xx_is_delivered(self) -> None:
        """Copies of a 2xx and those of other branches are handed up until Timer M."""
        for reliable in (False, True):
            client = InviteClient(request(), reliable=reliable)
            client.start(0.0)
            for now, tag in ((1.0, "b1"), (1.5, "b1"), (9.0, "b2")):
                ok = response(client.request, 200, tag=tag)
                self.assertEqual(kinds(client.receive(ok, now)), ["deliver 200"])
            self.assertEqual(client.receive(response(client.request, 486), 10.0), [])
            self.assertEqual(run(client), [(33.0, "Terminated")])

    def test_failed_transport(self) -> None:
        """A transport error ends the transaction at once, and is told once."""
        client = InviteClient(request())
        client.start(0.0)
        self.assertEqual(kinds(client.transport_failed(0.1)), ["TransportFailed", "Terminated"])
        self.assertEqual(client.transport_failed(0.2), [])

    def test_failed_transport_after_2xx(self) -> None:
        """An accepted INVITE has nothing to send any more that could fail."""
        client = InviteClient(request())
        client.start(0.0)
        client.receive(response(client.request, 200), 1.0)
        self.assertEqual(client.transport_failed(2.0), [])
        self.assertIs(client.state, State.ACCEPTED)

    def test_cancel_waits_for_a_provisional(self) -> None:
        """A CANCEL must not overtake its INVITE, which goes on being repeated."""
        client = InviteClient(request(), timing=REAL)
        client.start(0.0)
        self.assertEqual(client.cancel(0.5), [])
        self.assertEqual(kinds(client.tick(1.0)), ["send INVITE"])
        effects = client.receive(response(client.request, 100), 1.2)
        self.assertEqual(kinds(effects), ["deliver 100", "SendCancel"])
        self.assertEqual(client.cancel(2.0), [])
        effects = client.receive(response(client.request, 487), 2.0)
        self.assertEqual(kinds(effects), ["send ACK", "deliver 487"])

    def test_cancel_after_a_provisional(self) -> None:
        """Then it goes out at once, and the INVITE has 64 T1 to end."""
        client = self.proceeding()
        self.assertEqual(kinds(client.cancel(5.0)), ["SendCancel"])
        self.assertEqual(run(client), [(37.0, "TimedOut"), (37.0, "Terminated")])

    def test_cancel_without_any_response(self) -> None:
        """A silent peer ends a cancelled INVITE as any other."""
        client = InviteClient(request())
        client.start(0.0)
        client.cancel(1.0)
        self.assertEqual(run(client)[-2:], OVER)

    def test_cancel_too_late(self) -> None:
        """Nothing is cancelled after a final response."""
        client = self.proceeding()
        client.receive(response(client.request, 200), 2.0)
        self.assertEqual(client.cancel(3.0), [])

    def test_abandon(self) -> None:
        """An owner may end a transaction without a word."""
        client = InviteClient(request())
        client.start(0.0)
        self.assertEqual(kinds(client.abandon()), ["Terminated"])
        self.assertEqual(client.abandon(), [])
        self.assertIsNone(client.deadline)

    def test_ack_to_a_failure(self) -> None:
        """The ACK has the INVITE's Via, Route, From, Call-ID and number, and the response's To."""
        invite = request()
        ack = parse_message(failure_ack(invite, response(invite, 486)))
        assert isinstance(ack, Request)
        self.assertEqual((ack.method, ack.uri), ("ACK", invite.uri))
        for name in ("Via", "Route", "From", "Call-ID"):
            self.assertEqual(ack.get_all(name), invite.get_all(name))
        self.assertEqual(ack.to.tag, "b1")
        self.assertEqual(str(ack.cseq), "7 ACK")

    def test_ack_has_only_the_topmost_via(self) -> None:
        """Even when a proxy wrote all Vias into one line."""
        invite = request()
        via = invite.get("Via")
        invite.set("Via", f"{via}, SIP/2.0/UDP 192.0.2.77;branch=z9hG4bKother")
        ack = parse_message(failure_ack(invite, response(invite, 486)))
        self.assertEqual(ack.get_all("Via"), [via])

    def test_cancel_request(self) -> None:
        """The CANCEL has the branch and the To of the INVITE; more headers may be added."""
        invite = request()
        cancel = cancel_for(invite)
        cancel.set("Reason", 'SIP;cause=200;text="elsewhere"')
        self.assertEqual((cancel.method, cancel.uri), ("CANCEL", invite.uri))
        for name in ("Via", "Route", "From", "To", "Call-ID"):
            self.assertEqual(cancel.get_all(name), invite.get_all(name))
        self.assertEqual(str(cancel.cseq), "7 CANCEL")


class NonInviteClientTests(SynchronousTestCase):
    def test_timers_e_and_f(self) -> None:
        """A request over UDP is repeated after T1, doubling up to T2, and fails after 64 T1."""
        client = NonInviteClient(request("OPTIONS"))
        self.assertEqual(kinds(client.start(0.0)), ["send OPTIONS"])
        seen = run(client)
        self.assertEqual(
            times(seen, "send OPTIONS"),
            [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5],
        )
        self.assertEqual(seen[-2:], OVER)

    def test_first_step_of_a_drachtio_server(self) -> None:
        """With a first step of one second the repeats are those that were recorded."""
        client = NonInviteClient(request("BYE"), timing=REAL)
        client.start(0.0)
        seen = run(client)
        self.assertEqual(times(seen, "send BYE"), [1, 3, 7, 11, 15, 19, 23, 27, 31])
        self.assertEqual(seen[-2:], OVER)

    def test_provisional_slows_the_repeats(self) -> None:
        """After a 1xx the next interval is T2, and Timer F still counts."""
        client = NonInviteClient(request("OPTIONS"))
        client.start(0.0)
        client.tick(0.5)
        self.assertEqual(kinds(client.receive(response(client.request, 182), 0.6)), ["deliver 182"])
        seen = run(client)
        self.assertEqual(times(seen, "send OPTIONS"), [1.5, 5.5, 9.5, 13.5, 17.5, 21.5, 25.5, 29.5])
        self.assertEqual(seen[-2:], OVER)

    def test_timer_k(self) -> None:
        """Copies of the final response are absorbed for T4."""
        client = NonInviteClient(request("OPTIONS"))
        client.start(0.0)
        ok = response(client.request, 200)
        self.assertEqual(kinds(client.receive(ok, 1.0)), ["deliver 200"])
        self.assertEqual(client.receive(ok, 1.1), [])
        self.assertEqual(run(client), [(6.0, "Terminated")])

    def test_tcp(self) -> None:
        """Over TCP nothing is repeated and nothing absorbed."""
        client = NonInviteClient(request("OPTIONS"), reliable=True)
        client.start(0.0)
        self.assertEqual(client.deadline, 32.0)
        effects = client.receive(response(client.request, 200), 1.0)
        self.assertEqual(kinds(effects), ["deliver 200", "Terminated"])

    def test_failed_transport(self) -> None:
        """A transport error ends it at once, unless the final response is here already."""
        client = NonInviteClient(request("OPTIONS"))
        client.start(0.0)
        self.assertEqual(kinds(client.transport_failed(0.1)), ["TransportFailed", "Terminated"])
        client = NonInviteClient(request("OPTIONS"))
        client.start(0.0)
        client.receive(response(client.request, 200), 1.0)
        self.assertEqual(client.transport_failed(1.1), [])
