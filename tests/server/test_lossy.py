"""Three servers with their applications, over a network that loses, doubles and reorders.

Ann's application calls Bob's, directly, through a back-to-back user agent or through a proxy.
Calls are answered, refused, let ring until the caller gives up, changed by either side, and hung up
by either side, as chance wants. However much is lost on the way, every call comes to an end, and
nothing stays of it.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Dialog, DrachtwistError, Request, Response, SipError, couple
from drachtwist.errors import MessageError
from drachtwist.sip.message import parse_datagram
from tests.server.doubles import PORT
from tests.whole import Whole

ANN, MIDDLE, BOB = "127.0.0.2", "127.0.0.3", "127.0.0.4"
LOSS, DOUBLES = 0.1, 0.05


def sdp(name: str, version: int = 1) -> str:
    """Write a session description."""
    return (
        f"v=0\r\no={name} 1 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        "m=audio 40000 RTP/AVP 0\r\n"
    )


class Network:
    """Time, the three sites, and what is under way between them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.clock = Clock()
        self.sites = {host: Whole({"host": host}, self.clock) for host in (ANN, MIDDLE, BOB)}
        self.outcomes: Counter[str] = Counter()
        self.begun = self.done = 0
        bob, middle = self.sites[BOB].srf, self.sites[MIDDLE].srf
        bob.invite(self.called)
        middle.invite(self.passed_on)
        self.turn()

    # The network

    def turn(self) -> None:
        """Carry what was sent, within sites at once, between them as chance wants."""
        busy = True
        while busy:
            busy = False
            for host, site in self.sites.items():
                site.pump()
                sent, site.server.wire.sent = site.server.wire.sent, []
                busy = busy or bool(sent)
                for flow, data in sent:
                    for _ in range(2 if self.random.random() < DOUBLES else 1):
                        if self.random.random() >= LOSS:
                            delay = self.random.uniform(0.001, 0.3)
                            self.clock.callLater(delay, self.arrive, flow.remote_host, host, data)

    def arrive(self, to: str, source: str, data: bytes) -> None:
        """A datagram is there."""
        server = self.sites[to].server
        flow = server.wire.flow(source, PORT)
        try:
            message = parse_datagram(data)
        except MessageError as error:  # pragma: no cover - our own messages can be read
            raise AssertionError(data) from error
        server.core.sip_received(message, flow, len(data))

    def run(self, seconds: float) -> None:
        """Let time pass, from one event to the next."""
        until = self.clock.seconds() + seconds
        while True:
            calls = self.clock.getDelayedCalls()
            if not calls:
                return
            next_at = min(call.getTime() for call in calls)
            if next_at > until:
                return
            self.clock.advance(max(next_at - self.clock.seconds(), 0.0))
            self.turn()

    # The people

    def sleep(self, longest: float) -> Deferred[None]:
        """Wait for a while."""
        return deferLater(self.clock, self.random.uniform(0.0, longest), lambda: None)

    async def called(self, req: Request, res: Response) -> None:
        """Bob does what the number says."""
        what = req.called_number or ""
        if "ring" in what or self.random.random() < 0.5:
            res.send(180)
        if "refuse" in what:
            await self.sleep(2)
            res.send(486)
            return
        if "ring" in what:
            await req.when_cancelled()
            return
        await self.sleep(2)
        dialog = await self.sites[BOB].srf.create_uas(req, res, local_sdp=sdp("bob"))
        try:
            await dialog.when_acked()  # before that no BYE may be sent (RFC 3261 section 15)
        except SipError:
            return
        await self.talk(dialog, "b" in what.partition("-")[2])

    async def passed_on(self, req: Request, res: Response) -> None:
        """The one in the middle passes a call on, one way or the other."""
        srf = self.sites[MIDDLE].srf
        target = f"sip:{req.called_number}@{BOB}:{PORT}"
        if (req.called_number or "").startswith("p"):
            await srf.proxy_request(req, target, record_route=True)
            return
        try:
            couple(*await srf.create_b2bua(req, res, target))
        except SipError:
            pass  # the caller was told

    async def talk(self, dialog: Dialog, hangs_up: bool) -> None:
        """Talk, change the session perhaps, and hang up, or be hung up on."""
        if self.random.random() < 0.3:
            await self.sleep(3)
            try:
                await dialog.modify(sdp("x", 2))
            except DrachtwistError:
                pass  # refused, crossed, or over
        if hangs_up:
            await self.sleep(10)
            await dialog.destroy()
        await dialog.when_ended()

    def call(self) -> None:
        """Let Ann call Bob."""
        way = self.random.choice("dbp")
        what = self.random.choices(("answer", "refuse", "ring"), (6, 2, 1))[0]
        who = self.random.choice("ab")
        host = BOB if way == "d" else MIDDLE
        uri = f"sip:{way}{what}-{who}@{host}:{PORT}"
        self.begun += 1

        async def calling() -> None:
            try:
                dialog = await self.sites[ANN].srf.create_uac(
                    uri, local_sdp=sdp("ann"), timeout=8 if what == "ring" else 60
                )
            except SipError as error:
                self.outcomes[f"{what} {error.status}"] += 1
            else:
                self.outcomes[f"{what} 200"] += 1
                await self.talk(dialog, who == "a")

        def over(result: Any) -> Any:
            self.done += 1
            return result

        Deferred.fromCoroutine(calling()).addBoth(over)


class LossyNetworkTests(SynchronousTestCase):
    def calls(self, seed: int, number: int) -> None:
        """Make so many calls, and see that all of them come to an end."""
        network = Network(seed)
        for _ in range(number):
            network.call()
            network.turn()
            network.run(network.random.uniform(0.0, 0.4))
        network.run(1000.0)
        self.assertEqual(network.done, number, network.outcomes)
        for host, site in network.sites.items():
            left = {name: count for name, count in site.server.core.counts().items() if count}
            self.assertEqual(left, {"applications": 1}, host)
            self.assertTrue(site.srf.idle, host)
        self.assertEqual(network.clock.getDelayedCalls(), [])
        answered = network.outcomes["answer 200"]
        self.assertGreater(answered, number * 0.5)
        self.assertEqual(self.flushLoggedErrors(), [])


def _add(seed: int) -> None:
    def test(self: LossyNetworkTests) -> None:
        self.calls(seed, 250)

    test.__doc__ = f"250 calls, as the seed {seed} wants them: none is stuck, nothing stays."
    setattr(LossyNetworkTests, f"test_seed_{seed}", test)


for _seed in (1, 2, 3, 4):
    _add(_seed)
