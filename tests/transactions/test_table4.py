"""Table 4 of RFC 3261, row by row, and the timers that other RFCs added to it.

Every machine runs on a Clock, over a transport that may lose things (UDP) and over one that does
not (TCP). What stands here are the seconds at which something is sent or ends, beginning with the
first message; tests/server/test_table4.py has the same for the whole server.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.net.clock import DeadlineClock
from drachtwist.sip.message import Request, Response
from drachtwist.transactions import (
    DEFAULT_TIMING,
    AnswerRepeater,
    Effect,
    InviteClient,
    InviteServer,
    Machine,
    NonInviteClient,
    NonInviteServer,
    ProvisionalRepeater,
    State,
    Timing,
)
from tests.transactions.messages import kinds, request, response

_M = TypeVar("_M", bound=Machine)

DOUBLING = [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
"""T1, and twice as long each time, until 64*T1."""
UP_TO_T2 = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
"""The same, but never longer than T2."""
UDP, TCP = False, True


class Timeline:
    """A machine on a Clock, and what it did when."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.seen: list[tuple[float, str]] = []
        self._alarm = DeadlineClock(self.clock, self._note)

    def _note(self, machine: Machine, effects: list[Effect]) -> None:
        self.seen += [(self.clock.seconds(), what) for what in kinds(effects)]

    def at(self, when: float, machine: Machine, step: Callable[[float], list[Effect]]) -> None:
        """Let time pass until then, and something happen to the machine."""
        self.until(when)
        self._note(machine, step(when))
        self._alarm.watch(machine)

    def until(self, when: float) -> None:
        """Let time pass, from one deadline to the next."""
        while self.clock.getDelayedCalls():
            (call,) = self.clock.getDelayedCalls()
            if call.getTime() > when:
                break
            self.clock.advance(call.getTime() - self.clock.seconds())
        self.clock.advance(when - self.clock.seconds())

    def times(self, what: str) -> list[float]:
        """Say when something was seen, until nothing is left to wait for; 0 does not count."""
        self.until(self.clock.seconds() + 1000)
        return [when for when, kind in self.seen if kind == what and when > 0]


class TableTestCase(SynchronousTestCase):
    def invite_client(
        self, reliable: bool, timing: Timing = DEFAULT_TIMING
    ) -> tuple[Timeline, InviteClient]:
        """Send an INVITE."""
        timeline = Timeline()
        client = InviteClient(request(), reliable=reliable, timing=timing)
        timeline.at(0, client, client.start)
        return timeline, client

    def other_client(
        self, reliable: bool, timing: Timing = DEFAULT_TIMING
    ) -> tuple[Timeline, NonInviteClient]:
        """Send another request."""
        timeline = Timeline()
        client = NonInviteClient(request("OPTIONS"), reliable=reliable, timing=timing)
        timeline.at(0, client, client.start)
        return timeline, client

    def responds(
        self, timeline: Timeline, client: InviteClient | NonInviteClient, status: int, at: float
    ) -> None:
        """Let a response come."""
        message = response(client.request, status)
        timeline.at(at, client, lambda now: client.receive(message, now))

    def invite_server(
        self, reliable: bool, status: int, timing: Timing = DEFAULT_TIMING
    ) -> tuple[Timeline, InviteServer]:
        """Respond to an INVITE."""
        timeline = Timeline()
        server = InviteServer(request(), reliable=reliable, timing=timing)
        message = response(server.request, status)
        timeline.at(0, server, lambda now: server.respond(message, now))
        return timeline, server

    def comes_again(
        self,
        timeline: Timeline,
        server: InviteServer | NonInviteServer,
        message: Request,
        at: float,
    ) -> None:
        """Let a request come to a server transaction that is there."""
        timeline.at(at, server, lambda now: server.receive(message, now))


class TimerTests(TableTestCase):
    """RFC 3261, appendix A."""

    def test_t1(self) -> None:
        """T1, 500 ms: the round trip; whatever is repeated, is first repeated after it."""
        for t1 in (0.5, 0.25):
            timing = Timing() if t1 == 0.5 else Timing(t1=t1)
            invite, _ = self.invite_client(UDP, timing)
            other, _ = self.other_client(UDP, timing)
            failure, _ = self.invite_server(UDP, 486, timing)
            self.assertEqual(invite.times("send INVITE")[0], t1)
            self.assertEqual(other.times("send OPTIONS")[0], t1)
            self.assertEqual(failure.times("send 486")[0], t1)

    def test_t2(self) -> None:
        """T2, 4 s: the longest interval between repeats, but for those of an INVITE."""
        for t2 in (4.0, 2.0):
            timing = Timing(t2=t2)
            other, _ = self.other_client(UDP, timing)
            failure, _ = self.invite_server(UDP, 486, timing)
            for times in (other.times("send OPTIONS"), failure.times("send 486")):
                gaps = [later - sooner for sooner, later in pairwise(times)]
                self.assertEqual(max(gaps), t2)

    def test_t4(self) -> None:
        """T4, 5 s: how long a message stays in the network; only Timers I and K are as long."""
        self.assertEqual((DEFAULT_TIMING.t4, DEFAULT_TIMING.i, DEFAULT_TIMING.k), (5.0, 5.0, 5.0))

    def test_timer_a(self) -> None:
        """Timer A, at first T1: repeats of an INVITE, over UDP only."""
        for reliable, times in ((UDP, DOUBLING), (TCP, [])):
            timeline, _ = self.invite_client(reliable)
            self.assertEqual(timeline.times("send INVITE"), times)

    def test_timer_a_ends(self) -> None:
        """Timer A ends with the first response of any kind."""
        for status in (100, 180, 200, 486):
            timeline, client = self.invite_client(UDP)
            self.responds(timeline, client, status, 2.0)
            self.assertEqual(timeline.times("send INVITE"), [0.5, 1.5])

    def test_timer_b(self) -> None:
        """Timer B, 64*T1: an INVITE without any response fails."""
        for reliable in (UDP, TCP):
            timeline, client = self.invite_client(reliable)
            self.assertEqual(timeline.times("TimedOut"), [32.0])
            self.assertIs(client.state, State.TERMINATED)

    def test_timer_c(self) -> None:
        """Timer C, more than 3 minutes: an INVITE that rings, restarted by each provisional."""
        timing = Timing(ring=181.0)
        for reliable in (UDP, TCP):
            timeline, client = self.invite_client(reliable, timing)
            self.responds(timeline, client, 100, 1.0)
            self.responds(timeline, client, 180, 31.0)
            self.responds(timeline, client, 180, 200.0)
            self.assertEqual(timeline.times("RingTimedOut"), [381.0])

    def test_timer_c_of_user_agents(self) -> None:
        """Only proxies have Timer C: without it an INVITE may ring for ever."""
        timeline, client = self.invite_client(UDP)
        self.responds(timeline, client, 180, 1.0)
        timeline.until(1e6)
        self.assertIs(client.state, State.PROCEEDING)

    def test_timer_d(self) -> None:
        """Timer D, 32 s and more over UDP, none over TCP: copies of a failure get the ACK again."""
        timeline, client = self.invite_client(UDP)
        for when in (2.0, 2.5, 33.9, 34.1):
            self.responds(timeline, client, 486, when)
        self.assertEqual(timeline.times("send ACK"), [2.0, 2.5, 33.9])
        self.assertEqual(timeline.times("deliver 486"), [2.0])
        self.assertEqual(timeline.times("Terminated"), [34.0])
        timeline, client = self.invite_client(TCP)
        self.responds(timeline, client, 486, 2.0)
        self.assertEqual(timeline.times("send ACK"), [2.0])
        self.assertEqual(timeline.times("Terminated"), [2.0])

    def test_timer_e(self) -> None:
        """Timer E, at first T1, then up to T2: repeats of other requests, over UDP only."""
        for reliable, times in ((UDP, UP_TO_T2), (TCP, [])):
            timeline, _ = self.other_client(reliable)
            self.assertEqual(timeline.times("send OPTIONS"), times)

    def test_timer_e_after_provisional(self) -> None:
        """Timer E is T2 once a provisional response came, but does not begin again with it."""
        timeline, client = self.other_client(UDP)
        self.responds(timeline, client, 100, 2.0)
        self.assertEqual(
            timeline.times("send OPTIONS"), [0.5, 1.5, 3.5, *[7.5 + 4 * more for more in range(7)]]
        )

    def test_timer_f(self) -> None:
        """Timer F, 64*T1: another request without final response fails."""
        for reliable in (UDP, TCP):
            for status in (0, 100):
                timeline, client = self.other_client(reliable)
                if status:
                    self.responds(timeline, client, status, 20.0)
                self.assertEqual(timeline.times("TimedOut"), [32.0])
                self.assertIs(client.state, State.TERMINATED)

    def test_timer_g(self) -> None:
        """Timer G, at first T1, then up to T2: repeats of a failure, over UDP only."""
        for reliable, times in ((UDP, UP_TO_T2), (TCP, [])):
            for status in (302, 486, 603):
                timeline, _ = self.invite_server(reliable, status)
                self.assertEqual(timeline.times(f"send {status}"), times)

    def test_timer_h(self) -> None:
        """Timer H, 64*T1: the ACK of a failure does not come."""
        for reliable in (UDP, TCP):
            timeline, server = self.invite_server(reliable, 486)
            self.assertEqual(timeline.times("TimedOut"), [32.0])
            self.assertIs(server.state, State.TERMINATED)

    def test_timer_i(self) -> None:
        """Timer I, T4 over UDP, none over TCP: copies of the ACK are absorbed."""
        for reliable, end in ((UDP, 7.0), (TCP, 2.0)):
            timeline, server = self.invite_server(reliable, 486)
            ack = request("ACK")
            self.comes_again(timeline, server, ack, 2.0)
            self.comes_again(timeline, server, ack, 2.0)
            self.assertEqual(timeline.times("send 486"), [] if reliable else [0.5, 1.5])
            self.assertEqual(timeline.times("deliver ACK"), [])
            self.assertEqual(timeline.times("Terminated"), [end])

    def test_timer_j(self) -> None:
        """Timer J, 64*T1 over UDP, none over TCP: copies of another request get its response."""
        for reliable, again, end in ((UDP, [10.0, 31.9], [32.0]), (TCP, [], [])):
            timeline = Timeline()
            server = NonInviteServer(request("OPTIONS"), reliable=reliable)
            answer = response(server.request, 200)
            timeline.at(0, server, lambda now, s=server, a=answer: s.respond(a, now))  # type: ignore[misc]
            for when in (10.0, 31.9, 32.1):
                self.comes_again(timeline, server, server.request, when)
            self.assertEqual(timeline.times("send 200"), again)
            self.assertEqual(timeline.times("Terminated"), end)
            self.assertIs(server.state, State.TERMINATED)

    def test_timer_k(self) -> None:
        """Timer K, T4 over UDP, none over TCP: copies of a final response are absorbed."""
        for reliable, end in ((UDP, 7.0), (TCP, 2.0)):
            timeline, client = self.other_client(reliable)
            self.responds(timeline, client, 200, 2.0)
            self.responds(timeline, client, 200, 2.5)
            self.assertEqual(timeline.times("deliver 200"), [2.0])
            self.assertEqual(timeline.times("Terminated"), [end])


class AcceptedTests(TableTestCase):
    """RFC 6026, sections 7.1 and 7.2."""

    def test_timer_l(self) -> None:
        """Timer L, 64*T1: copies of an INVITE that was accepted make no second call."""
        for reliable in (UDP, TCP):
            timeline, server = self.invite_server(reliable, 200)
            for when in (1.0, 31.9):
                self.comes_again(timeline, server, server.request, when)
            self.assertEqual(timeline.times("send 200"), [1.0, 31.9])
            self.assertEqual(timeline.times("TimedOut"), [])
            self.assertEqual(timeline.times("Terminated"), [32.0])

    def test_timer_m(self) -> None:
        """Timer M, 64*T1: further 2xx, of the same or another fork, are handed up."""
        for reliable in (UDP, TCP):
            timeline, client = self.invite_client(reliable)
            for when in (2.0, 2.5, 33.9, 34.1):
                self.responds(timeline, client, 200, when)
            self.assertEqual(timeline.times("deliver 200"), [2.0, 2.5, 33.9])
            self.assertEqual(timeline.times("Terminated"), [34.0])


class RepeaterTests(TableTestCase):
    """What user agents repeat by themselves."""

    def begun(self, make: Callable[[Response], _M]) -> tuple[Timeline, _M]:
        """Begin to repeat a response that was just sent."""
        timeline = Timeline()
        machine = make(response(request(), 200))
        timeline.at(0, machine, lambda now: [])
        return timeline, machine

    def test_answer(self) -> None:
        """RFC 3261 section 13.3.1.4: a 2xx after T1, up to T2, for 64*T1, over any transport."""
        timeline, _ = self.begun(lambda answer: AnswerRepeater(bytes(answer), 0.0))
        self.assertEqual(timeline.times("send 200"), UP_TO_T2)
        self.assertEqual(timeline.times("TimedOut"), [32.0])

    def test_acknowledged_answer(self) -> None:
        """The ACK ends it."""
        timeline, repeater = self.begun(lambda answer: AnswerRepeater(bytes(answer), 0.0))
        timeline.at(8.0, repeater, lambda now: repeater.confirm())
        self.assertEqual(timeline.times("send 200"), [0.5, 1.5, 3.5, 7.5])
        self.assertEqual(timeline.times("TimedOut"), [])

    def test_reliable_provisional(self) -> None:
        """RFC 3262 section 3: a reliable provisional after T1, without a limit, for 64*T1."""
        timeline, _ = self.begun(lambda answer: ProvisionalRepeater(bytes(answer), 0.0, 1))
        self.assertEqual(timeline.times("send 200"), DOUBLING)
        self.assertEqual(timeline.times("TimedOut"), [32.0])

    def test_pracked(self) -> None:
        """The PRACK ends it."""
        timeline, repeater = self.begun(lambda answer: ProvisionalRepeater(bytes(answer), 0.0, 1))
        timeline.at(8.0, repeater, lambda now: repeater.confirm())
        self.assertEqual(timeline.times("send 200"), [0.5, 1.5, 3.5, 7.5])
        self.assertEqual(timeline.times("TimedOut"), [])
