"""A client and a server over a network that loses, doubles and reorders what it carries."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_message
from drachtwist.transactions import (
    AnswerRepeater,
    Deadlines,
    Deliver,
    Effect,
    InviteClient,
    InviteServer,
    Machine,
    NonInviteClient,
    NonInviteServer,
    RingTimedOut,
    State,
    Terminated,
    TimedOut,
    Timing,
    Transmit,
    cancel_for,
    client_key,
    failure_ack,
    request_client_key,
    server_key,
)
from tests.transactions.messages import request, response

SEEDS = st.integers(0, 2**32 - 1)
# When every final response gets lost behind a provisional one, only Timer C ends an INVITE.
TIMING = Timing(ring=180.0)


class Network:
    """Time, two ends and what is under way between them."""

    def __init__(self, seed: int, loss: float) -> None:
        self.random = random.Random(seed)
        self.loss = loss
        self.now = 0.0
        self.deadlines = Deadlines()
        self.clients: dict[str, InviteClient | NonInviteClient] = {}
        self.servers: dict[str, InviteServer | NonInviteServer] = {}
        self.repeaters: dict[str, AnswerRepeater] = {}
        self.results: dict[str, list[int | str]] = {}
        self.calls = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def later(self, delay: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._queue, (self.now + delay, self._count, what))

    def carry(self, data: bytes) -> None:
        for _ in range(2 if self.random.random() < 0.1 else 1):
            if self.random.random() >= self.loss:
                self.later(self.random.uniform(0.001, 0.7), lambda: self.arrive(data))

    def perform(self, machine: Machine, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Transmit):
                self.carry(effect.data)
            elif isinstance(effect, Deliver):
                self.delivered(machine, effect.message)
            elif isinstance(effect, TimedOut):
                self.timed_out(machine)
            elif isinstance(effect, RingTimedOut):
                assert isinstance(machine, InviteClient)
                self.cancel(machine)
            elif isinstance(effect, Terminated):
                self.ended(machine)
        self.deadlines.watch(machine)

    # Clients

    def call(self, message: Request, cancel_after: float | None = None) -> None:
        key = request_client_key(message)
        kind = InviteClient if message.method == "INVITE" else NonInviteClient
        client = self.clients[key] = kind(message, timing=TIMING)
        client.owner = key
        self.results[key] = []
        self.perform(client, client.start(self.now))
        if cancel_after is not None and isinstance(client, InviteClient):
            inviting = client
            self.later(cancel_after, lambda: self.cancel(inviting))

    def cancel(self, client: InviteClient) -> None:
        if client.state is not State.TERMINATED:
            for _ in client.cancel(self.now):
                self.call(cancel_for(client.request))
            self.deadlines.watch(client)

    def delivered(self, machine: Machine, message: Request | Response) -> None:
        if isinstance(message, Response) and message.status >= 200:
            self.results[machine.owner].append(message.status)
            if message.status < 300 and isinstance(machine, InviteClient):
                ack = parse_message(failure_ack(machine.request, message))
                ack.set("Via", f"SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKack{self._count}")
                self.carry(bytes(ack))

    def timed_out(self, machine: Machine) -> None:
        if isinstance(machine, InviteClient | NonInviteClient):
            self.results[machine.owner].append("timeout")

    def ended(self, machine: Machine) -> None:
        table: dict[str, Machine]
        for table in (self.clients, self.servers, self.repeaters):  # type: ignore[assignment]
            if table.get(machine.owner) is machine:
                del table[machine.owner]

    # Servers

    def arrive(self, data: bytes) -> None:
        message = parse_message(data)
        if isinstance(message, Response):
            client = self.clients.get(client_key(message))
            if client is not None:
                self.perform(client, client.receive(message, self.now))
            return
        key = server_key(message)
        server = self.servers.get(key)
        if server is not None:
            self.perform(server, server.receive(message, self.now))
        elif message.method == "ACK":
            repeater = self.repeaters.get(message.call_id)
            if repeater is not None:
                self.perform(repeater, repeater.confirm())
        else:
            self.asked(message, key)

    def asked(self, message: Request, key: str) -> None:
        if message.method == "INVITE":
            self.calls += 1
            inviting = self.servers[key] = InviteServer(message)
            inviting.owner = key
            if self.random.random() < 0.5:
                self.perform(inviting, inviting.respond(response(message, 180), self.now))
            final = self.random.choice((200, 200, 486))
            self.later(self.random.uniform(0, 20), lambda: self.answer(inviting, final))
            return
        server = self.servers[key] = NonInviteServer(message)
        server.owner = key
        if message.method == "CANCEL":
            self.perform(server, server.respond(response(message, 200), self.now))
            for invite in list(self.servers.values()):
                if isinstance(invite, InviteServer) and invite.state is State.PROCEEDING:
                    self.answer(invite, 487)
            return
        self.later(
            self.random.uniform(0, 3),
            lambda: self.perform(server, server.respond(response(message, 200), self.now)),
        )

    def answer(self, server: InviteServer, status: int) -> None:
        if server.state is not State.PROCEEDING:
            return
        reply = response(server.request, status)
        self.perform(server, server.respond(reply, self.now))
        if status < 300:
            repeater = AnswerRepeater(bytes(reply), self.now)
            repeater.owner = server.request.call_id
            self.repeaters[repeater.owner] = repeater
            self.deadlines.watch(repeater)

    def run(self) -> None:
        """Let time pass until nothing is due any more."""
        for _ in range(100_000):
            alarm = self.deadlines.next()
            if self._queue and (alarm is None or self._queue[0][0] <= alarm):
                self.now, _, what = heapq.heappop(self._queue)
                what()
            elif alarm is not None:
                self.now = max(self.now, alarm)
                for machine in self.deadlines.due(self.now):
                    self.perform(machine, machine.tick(self.now))
            else:
                return
        raise AssertionError("it never ends")


class LossyNetworkTests(SynchronousTestCase):
    def check_nothing_left(self, network: Network) -> None:
        self.assertEqual(
            (network.clients, network.servers, network.repeaters, len(network.deadlines)),
            ({}, {}, {}, 0),
        )

    @settings(max_examples=200)
    @given(SEEDS, st.sampled_from((0.0, 0.1, 0.3, 0.9, 1.0)))
    def test_invite(self, seed: int, loss: float) -> None:
        """An INVITE always ends with one final response or a timeout, and nothing is left."""
        network = Network(seed, loss)
        network.call(request())
        network.run()
        result = next(iter(network.results.values()))  # behind it maybe that of a CANCEL
        self.assertTrue(result)
        self.assertEqual(len(set(result)), 1, result)
        if result[0] != 200:
            self.assertEqual(len(result), 1)
        self.check_nothing_left(network)

    @settings(max_examples=200)
    @given(SEEDS, st.sampled_from((0.0, 0.1, 0.3, 0.9, 1.0)))
    def test_other_requests(self, seed: int, loss: float) -> None:
        """Any other request too, and without loss it is a response."""
        network = Network(seed, loss)
        network.call(request("OPTIONS"))
        network.run()
        (result,) = network.results.values()
        self.assertEqual(len(result), 1)
        if loss == 0.0:
            self.assertEqual(result, [200])
        self.check_nothing_left(network)

    @settings(max_examples=200)
    @given(SEEDS, st.sampled_from((0.0, 0.1, 0.5)), st.floats(0.0, 25.0))
    def test_cancel(self, seed: int, loss: float, after: float) -> None:
        """A cancelled INVITE ends as well, whenever the CANCEL comes."""
        network = Network(seed, loss)
        network.call(request(), cancel_after=after)
        network.run()
        self.assertTrue(all(network.results.values()))
        for result in network.results.values():
            self.assertEqual(len(set(result)), 1, result)
        self.check_nothing_left(network)

    def test_a_thousand_calls(self) -> None:
        """With 10% loss a thousand calls at once all end, and hardly one fails."""
        network = Network(2026, 0.1)
        for number in range(1000):
            message = request(branch=f"z9hG4bKcall{number}")
            message.set("Call-ID", f"call{number}")
            network.later(number * 0.01, lambda message=message: network.call(message))  # type: ignore[misc]
        network.run()
        ends = [result[0] for result in network.results.values()]
        self.assertEqual(len(ends), 1000)
        self.assertLess(ends.count("timeout"), 10)
        self.check_nothing_left(network)
