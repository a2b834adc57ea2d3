"""A network that loses, doubles and reorders, and people at five servers who call each other.

Ann calls, subscribes and writes; Bob, Carol and Dave are called, and the one in the middle passes
calls on: through a back-to-back user agent, or through a proxy that rings one or all of the three.
What they do, and when, is chance, and so is what becomes of each datagram; the same seed does the
same again.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock, deferLater

from drachtwist import Dialog, DrachtwistError, Request, Response, SipError, couple
from drachtwist.sip.parsing import parse_datagram
from tests.server.doubles import PORT
from tests.whole import Whole

ANN, MIDDLE = "127.0.0.2", "127.0.0.3"
BOB, CAROL, DAVE = CALLED = ("127.0.0.4", "127.0.0.5", "127.0.0.6")
SESSION = 20
"""Seconds of the shortest session: long calls are refreshed once or more."""
PATIENCE = 300.0
"""Seconds after which anybody hangs up, stops ringing, or does without a subscription."""


@dataclass(frozen=True)
class Conditions:
    """What the network does to a datagram."""

    loss: float = 0.0
    """How many get lost."""
    doubles: float = 0.0
    """How many arrive twice."""
    nearest: float = 0.01
    farthest: float = 0.01
    """Seconds that one takes; what was sent later may arrive sooner."""


def sdp(name: str, version: int = 1) -> str:
    """Write a session description."""
    return (
        f"v=0\r\no={name} 1 {version} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        "m=audio 40000 RTP/AVP 0\r\n"
    )


class Network:
    """Time, the sites, and what is under way between them."""

    def __init__(self, seed: int, conditions: Conditions) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.conditions = conditions
        self.clock = Clock()
        settings: dict[str, Any] = {"shortest_session": SESSION, "default_refresher": "uac"}
        self.sites = {
            host: Whole({"host": host, **settings}, self.clock) for host in (ANN, MIDDLE, *CALLED)
        }
        self.outcomes: Counter[str] = Counter()
        self.begun = self.done = self.lonely = 0
        """What Ann did, what of it is over, and dialogs that one side had to give up alone."""
        for host in CALLED:
            srf = self.sites[host].srf
            srf.invite(self._on_site(host, self._called))
            srf.subscribe(self._on_site(host, self._subscribed))
            for route in (srf.message, srf.options, srf.info):
                route(self._on_site(host, self._asked))
        self.sites[MIDDLE].srf.invite(self._passed_on)
        self.sites[MIDDLE].srf.message(self._forwarded)
        self.turn()

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.conditions}: {dict(self.outcomes)}"

    def _on_site(
        self, host: str, what: Callable[[str, Request, Response], Awaitable[None]]
    ) -> Callable[[Request, Response], Awaitable[None]]:
        return lambda req, res: what(host, req, res)

    # The network

    def turn(self) -> None:
        """Carry what was sent: within sites at once, between them as the conditions are."""
        conditions = self.conditions
        busy = True
        while busy:
            busy = False
            for host, site in self.sites.items():
                site.pump()
                sent, site.server.wire.sent = site.server.wire.sent, []
                busy = busy or bool(sent)
                for flow, data in sent:
                    for _ in range(2 if self.random.random() < conditions.doubles else 1):
                        if self.random.random() >= conditions.loss:
                            delay = self.random.uniform(conditions.nearest, conditions.farthest)
                            self.clock.callLater(delay, self._arrive, flow.remote_host, host, data)

    def _arrive(self, to: str, source: str, data: bytes) -> None:
        server = self.sites[to].server
        server.core.sip_received(parse_datagram(data), server.wire.flow(source, PORT), len(data))

    def run(self, seconds: float) -> None:
        """Let time pass, from one event to the next."""
        until = self.clock.seconds() + seconds
        while True:
            calls = self.clock.getDelayedCalls()
            next_at = min((call.getTime() for call in calls), default=until + 1)
            if next_at > until:
                return
            self.clock.advance(max(next_at - self.clock.seconds(), 0.0))
            self.turn()

    def left(self) -> dict[str, Any]:
        """Say what is left of all that has been, on any site; empty when nothing is."""
        found: dict[str, Any] = {}
        for host, site in self.sites.items():
            counts = site.server.core.counts()
            counts["applications"] -= 1
            counts["invites"] = len(site.server.core.uac.invites)
            counts["early"] = len(site.server.core.uas.early)
            counts["busy"] = int(not site.srf.idle)
            found.update({f"{host} {name}": count for name, count in counts.items() if count})
        if self.clock.getDelayedCalls():
            found["delayed calls"] = self.clock.getDelayedCalls()
        if self.done != self.begun:
            found["stuck"] = self.begun - self.done
        return found

    def failures(self) -> int:
        """Count what did not come out as whoever was called wanted it; forks may do anything."""
        return sum(
            count
            for outcome, count in self.outcomes.items()
            if not any(re.fullmatch(pattern, outcome) for pattern in _AS_WANTED)
        )

    def chance(self, share: float) -> bool:
        """Let it happen in some cases."""
        return self.random.random() < share

    def sleep(self, longest: float) -> Deferred[None]:
        """Wait for a while."""
        return deferLater(self.clock, self.random.uniform(0.0, longest), lambda: None)

    # Those who are called

    async def _called(self, host: str, req: Request, res: Response) -> None:
        """Do what the number says: ``answer``, ``refuse``, ``ring`` or ``silent``."""
        what = (req.called_number or "").partition("-")[0]
        try:
            if self.chance(0.5) or what == "ring":
                res.send(180)
            if what != "silent" and self.chance(0.4) and "100rel" in str(req.get("Supported")):
                await self.sleep(1)
                res.send(183, headers={"Require": "100rel"}, body=sdp("bob") if req.body else "")
            if what == "refuse":
                await self.sleep(2)
                await res.send(self.random.choice((302, 404, 486, 503, 603)))
                return
            if what in ("ring", "silent"):
                stop = self.clock.callLater(PATIENCE, res.send, 480)
                await req.when_cancelled()
                if stop.active():
                    stop.cancel()
                return
            await self.sleep(2)
            dialog = await self.sites[host].srf.create_uas(req, res, local_sdp=sdp("bob"))
            await dialog.when_acked()
        except DrachtwistError:
            return  # cancelled meanwhile, not acknowledged, or its 183 was not
        await self._talk(dialog, "bob", "-b" in (req.called_number or ""))

    async def _subscribed(self, host: str, req: Request, res: Response) -> None:
        """Accept a subscription, tell something, and end it perhaps."""
        try:
            dialog = await self.sites[host].srf.create_uas(req, res, headers={"Expires": "600"})
        except DrachtwistError:
            return
        dialog.on_unsubscribe(lambda last: dialog.destroy())
        dialog.on_subscribe(lambda req, res: res.send(202, headers={"Expires": "600"}))
        for number in range(self.random.randrange(4)):
            await self._try(dialog.notify(headers=_STATE, body=f"state {number}"))
            await self.sleep(2)
        if "-b" in (req.called_number or ""):
            await self.sleep(5)
            await self._try(dialog.destroy())
        await self._end_of(dialog)

    async def _asked(self, host: str, req: Request, res: Response) -> None:
        """Answer a request outside of calls, sooner or later."""
        if self.chance(0.3):
            await self.sleep(5)
        res.send(200)

    # The one in the middle

    async def _passed_on(self, req: Request, res: Response) -> None:
        """Pass a call on, as the number says."""
        srf = self.sites[MIDDLE].srf
        number = req.called_number or ""
        way = number[0]
        targets = [f"sip:{number[1:]}@{host}:{PORT}" for host in CALLED]
        try:
            if way == "b":
                uas, uac = await srf.create_b2bua(req, res, targets[0])
                couple(uas, uac)
                await self._end_of(uas)
                await self._try(uac.destroy())
            elif way == "p":
                await srf.proxy_request(req, targets[0], record_route=True)
            elif way == "s":
                # The first two do something else than the number says.
                others = [f"sip:{self._other()}@{host}:{PORT}" for host in (CAROL, DAVE)]
                await srf.proxy_request(
                    req,
                    [*others, targets[0]],
                    record_route=True,
                    provisional_timeout=self.random.choice((None, 1.5, 3)),
                    final_timeout=self.random.choice((4, 6)),
                )
            else:
                others = [f"sip:{self._other()}@{host}:{PORT}" for host in (CAROL, DAVE)]
                await srf.proxy_request(
                    req, [*others, targets[0]], record_route=True, forking="simultaneous"
                )
        except DrachtwistError:
            pass  # the caller was told, or has given up

    def _other(self) -> str:
        return self.random.choices(("refuse", "ring", "silent", "answer-b"), (4, 2, 1, 1))[0]

    async def _forwarded(self, req: Request, res: Response) -> None:
        """Let the server pass a text on."""
        await self._try(self.sites[MIDDLE].srf.proxy_request(req, f"sip:x@{BOB}:{PORT}"))

    # Everybody in a call

    async def _talk(self, dialog: Dialog, name: str, hangs_up: bool) -> None:
        """Say and change this and that, and hang up, or be hung up on."""
        dialog.on_info(lambda req, res: res.send(200))
        dialog.on_message(lambda req, res: res.send(200))
        for version in range(self.random.choice((0, 0, 1, 2))):
            await self.sleep(3)
            what = self.random.randrange(6)
            if what < 3:
                await self._try(dialog.modify(sdp(name, 2 + version)))
            elif what == 3:
                await self._try(dialog.update(body=sdp(name, 2 + version)))
            elif what == 4:
                await self._try(dialog.info())
            else:
                await self._try(dialog.message(body="hello"))
        if hangs_up or self.chance(0.05):  # both at once, sometimes
            await self.sleep(60 if self.chance(0.1) else 10)
            await self._try(dialog.destroy())
        await self._end_of(dialog)

    async def _end_of(self, dialog: Dialog) -> None:
        """Wait for the end, but not for ever: the other side may be gone, and its BYE lost."""

        def give_up() -> None:
            self.lonely += 1
            dialog.destroy().addErrback(lambda failure: failure.trap(DrachtwistError))

        timer = self.clock.callLater(PATIENCE, give_up)
        await dialog.when_ended()
        if timer.active():
            timer.cancel()

    async def _try(self, doing: Awaitable[Any]) -> None:
        try:
            await doing
        except DrachtwistError:
            pass  # refused, crossed, or over

    # Ann

    def act(self) -> None:
        """Let Ann do something: call, mostly."""
        what = self.random.choices((self._call, self._subscribe, self._write), (8, 1, 1))[0]
        self.begun += 1

        def over(result: Any) -> Any:
            self.done += 1
            return result

        Deferred.fromCoroutine(what()).addBoth(over)

    async def _call(self) -> None:
        way = self.random.choice("dbpsf")
        what = self.random.choices(("answer", "refuse", "ring", "silent"), (8, 2, 1, 1))[0]
        who = self.random.choice("ab")
        host, prefix = (BOB, "") if way == "d" else (MIDDLE, way)
        headers: dict[str, str] = {}
        if self.chance(0.4):
            headers[self.random.choice(("Supported", "Supported", "Require"))] = "100rel"
            headers.setdefault("Supported", "100rel")
        if self.chance(0.3):
            refresher = self.random.choice(("", ";refresher=uac", ";refresher=uas"))
            headers["Session-Expires"] = f"{self.random.randint(10, 30)}{refresher}"
        offers = not self.chance(0.15)
        calling = self.sites[ANN].srf.create_uac(
            f"sip:{prefix}{what}-{who}@{host}:{PORT}",
            headers=headers,
            local_sdp=sdp("ann") if offers else None,
            timeout=8 if what in ("ring", "silent") else 60,
        )
        if self.chance(0.15):  # before anything came, on the way, while it rings, or too late
            after = self.random.choice((0.0, 0.1, 4.0)) * self.random.random()
            self.clock.callLater(after, calling.cancel)
        try:
            dialog = await calling
        except CancelledError:
            self.outcomes["given up"] += 1
            return
        except SipError as error:
            self.outcomes[f"{way} {what} {error.status}"] += 1
            return
        self.outcomes[f"{way} {what} 200"] += 1
        if not offers:
            dialog.ack(sdp("ann"))
        await self._talk(dialog, "ann", who == "a")

    async def _subscribe(self) -> None:
        who = self.random.choice("ab")
        headers = {"Event": "presence", "Expires": "600"}
        try:
            dialog = await self.sites[ANN].srf.create_uac(
                f"sip:state-{who}@{BOB}:{PORT}", method="SUBSCRIBE", headers=headers
            )
        except SipError as error:
            self.outcomes[f"subscription {error.status}"] += 1
            return
        self.outcomes["subscription 202"] += 1
        dialog.on_notify(lambda req, res: res.send(200))
        if self.chance(0.3):
            await self._try(dialog.subscribe(headers=headers))
        if who == "a":
            await self.sleep(10)
            await self._try(dialog.destroy())
        await self._end_of(dialog)

    async def _write(self) -> None:
        method = self.random.choice(("MESSAGE", "OPTIONS", "INFO"))
        host = MIDDLE if method == "MESSAGE" and self.chance(0.5) else BOB
        response = await self.sites[ANN].srf.request(f"sip:bob@{host}:{PORT}", method=method)
        self.outcomes[f"{method} {response.status}"] += 1


_AS_WANTED = (
    r"[dbp] answer 200",
    r"[dbp] refuse (302|404|486|503|603)",
    r"[dbp] (ring|silent) 408",
    r"[sf] \w+ (200|302|404|408|486|503|603)",
    r"given up",
    r"subscription 202",
    r"(MESSAGE|OPTIONS|INFO) 200",
)
_STATE = {"Event": "presence", "Subscription-State": "active;expires=600"}
