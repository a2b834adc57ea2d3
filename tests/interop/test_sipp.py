"""A phone that none of us wrote calls our application, and the Node reference client.

Both applications behave alike, and both are served by the embedded server, so each scenario is a
test of the server with two different clients, and of our framework with a real phone.
"""

from __future__ import annotations

import csv
import sys
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.interop.peers import (
    HERE,
    InteropTestCase,
    Peer,
    free_port,
    need_node,
    need_sipp,
)
from tests.interop.phones import Caller, calling

READY = "connected"


class _Calls(InteropTestCase):
    """The scenarios; subclasses say who answers."""

    port = tls_port = 0

    def setUp(self) -> Any:
        """Start the application."""
        super().setUp()
        need_sipp()
        return self._ready()

    async def _start(self) -> None:
        raise NotImplementedError

    def _ready(self) -> Any:
        return Deferred.fromCoroutine(self._start())

    async def all_scenarios(self, transport: str) -> None:
        """Run all scenarios side by side: they do not depend on each other."""
        port = self.tls_port if transport == "tls" else self.port
        peers = [self.sipp(port, "-sn", "uac", transport=transport, calls=5)]
        for caller, service in (
            (refused, "reject"),
            (giving_up, "ring"),
            (giving_up_late, "service"),
            (telling, "service"),
            (holding, "tell"),
            (hung_up_on, "hangup"),
        ):
            scenario = self.scenario(caller.__name__, caller(), transport)
            peers.append(
                self.sipp(port, "-sf", scenario, transport=transport, service=service, calls=3)
            )
        await gatherResults(
            [Deferred.fromCoroutine(self.succeeds(peer)) for peer in peers], consumeErrors=True
        )

    async def load(self, transport: str, calls: int = 1000, rate: float = 50) -> None:
        """Place many calls."""
        phone = self.sipp(
            self.tls_port if transport == "tls" else self.port,
            "-sn",
            "uac",
            "-trace_stat",
            "-stf",
            str(self.directory / "stat.csv"),
            "-fd",
            "1",
            transport=transport,
            calls=calls,
            rate=rate,
        )
        await self.succeeds(phone)
        with open(self.directory / "stat.csv", encoding="ascii") as file:
            last = list(csv.DictReader(file, delimiter=";"))[-1]
        self.assertEqual(last["SuccessfulCall(C)"], str(calls))
        self.assertEqual(last["FailedCall(C)"], "0")


class OurApplicationTests(_Calls):
    """``twistd drachtio`` with the embedded server inside."""

    async def _start(self) -> None:
        self.port, self.tls_port = free_port(), free_port()
        self.peer: Peer = self.twistd(
            "drachtio",
            *("--app", str(HERE / "app.py")),
            *("--contact", f"sip:127.0.0.1:{self.port};transport=udp,tcp"),
            *("--contact", f"sip:127.0.0.1:{self.tls_port};transport=tls"),
            *self.tls_options(),
        )
        await self.peer.when_prints(READY)

    async def test_udp(self) -> None:
        """Every scenario succeeds over UDP."""
        await self.all_scenarios("udp")

    async def test_tcp(self) -> None:
        """Every scenario succeeds over TCP."""
        await self.all_scenarios("tcp")

    async def test_tls(self) -> None:
        """Every scenario succeeds over TLS."""
        await self.all_scenarios("tls")

    async def test_load_udp(self) -> None:
        """A thousand calls over UDP, fifty a second, none of which fails."""
        await self.load("udp")

    async def test_load_tcp(self) -> None:
        """The same over TCP."""
        await self.load("tcp")

    async def test_load_tls(self) -> None:
        """Five hundred over TLS."""
        await self.load("tls", 500)

    async def test_load_fast(self) -> None:
        """Three thousand calls, a hundred a second, with the application in the same process."""
        await self.load("udp", 3000, 100)


class NodeApplicationTests(_Calls):
    """``twistd drachtio-server`` with the Node reference client connected to it."""

    async def _start(self) -> None:
        node = need_node()
        self.port, admin = free_port(), free_port()
        server = self.twistd(
            "drachtio-server",
            "--address",
            "127.0.0.1",
            "--port",
            str(admin),
            "--secret",
            "cymru",
            "--contact",
            f"sip:127.0.0.1:{self.port};transport=udp,tcp",
        )
        await server.when_prints("listening")
        app = self.spawn(
            "node app.js", node, str(HERE / "app.js"), "127.0.0.1", str(admin), "cymru"
        )
        await app.when_prints(READY)
        # Its routes are sent behind that; a question that is answered shows that they arrived.
        for _ in range(50):
            asked = self.spawn("options", sys.executable, str(HERE / "options.py"), str(self.port))
            if await asked.ended == 0:
                break

    async def test_udp(self) -> None:
        """Every scenario succeeds over UDP."""
        await self.all_scenarios("udp")

    async def test_tcp(self) -> None:
        """Every scenario succeeds over TCP."""
        await self.all_scenarios("tcp")

    async def test_load(self) -> None:
        """A thousand calls, fifty a second, none of which fails."""
        await self.load("udp")


class UnacknowledgedTests(InteropTestCase):
    """The caller never acknowledges the answer."""

    timeout = 180

    async def test_no_ack(self) -> None:
        """After 32 seconds the server ends the call, over each transport."""
        need_sipp()
        port, tls_port = free_port(), free_port()
        app = self.twistd(
            "drachtio",
            *("--app", str(HERE / "app.py")),
            *("--contact", f"sip:127.0.0.1:{port};transport=udp,tcp"),
            *("--contact", f"sip:127.0.0.1:{tls_port};transport=tls"),
            *self.tls_options(),
        )
        await app.when_prints(READY)
        await gatherResults(
            [
                Deferred.fromCoroutine(self.passes("no_ack", to, transport=transport))
                for transport, to in (("udp", port), ("tcp", port), ("tls", tls_port))
            ],
            consumeErrors=True,
        )


del _Calls


def refused() -> Caller:
    """Call, and be refused."""
    return ringing().got(486).refused_ack()


def giving_up() -> Caller:
    """Give up while it rings."""
    phone = Caller().request("INVITE", sdp=True).got(100, optional=True).got(180)
    reason = 'Reason: SIP;cause=487;text="gave up"'
    return phone.request("CANCEL", extra=[reason]).got(200).got(487).refused_ack()


def giving_up_late() -> Caller:
    """Send the CANCEL behind the answer: it is refused, and the call goes on."""
    phone = ringing().got(200, with_route=True).request("CANCEL").got(481)
    return phone.request("ACK").request("BYE", 2).got(200)


def telling() -> Caller:
    """Send INFO and OPTIONS in the dialog."""
    phone = calling().request("INFO", 2, dtmf="5").got(200)
    return phone.request("OPTIONS", 3).got(200).request("BYE", 4).got(200)


def holding() -> Caller:
    """Hold the call, and take it back, once the application has told that it knows the call.

    The Node reference client loses what comes before, and takes for a hold only what differs from
    the first offer in the direction.
    """
    phone = calling("sendrecv")
    phone.asked("INFO")
    for number, ours, theirs in ((2, "sendonly", "recvonly"), (3, "sendrecv", "sendrecv")):
        phone.request("INVITE", number, sdp=True, direction=ours).got(100, optional=True)
        phone.got(200, direction=theirs).request("ACK", number)
    return phone.request("BYE", 4).got(200)


def hung_up_on() -> Caller:
    """Wait for the BYE."""
    phone = calling()
    phone.asked("BYE")
    return phone


def ringing() -> Caller:
    """Call, whether it rings or not."""
    phone = Caller().request("INVITE", sdp=True).got(100, optional=True)
    return phone.got(180, optional=True)
