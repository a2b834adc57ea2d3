"""Two phones that none of us wrote, with our application and our server between them."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.interop.peers import (
    HERE,
    InteropTestCase,
    Peer,
    free_port,
    need_sipp,
)
from tests.interop.phones import answering, talking


class BridgeTests(InteropTestCase):
    """SIPp calls, SIPp answers."""

    def setUp(self) -> Any:
        """Start the application, and the phone that answers."""
        super().setUp()
        need_sipp()
        return Deferred.fromCoroutine(self.start())

    async def start(self) -> None:
        """Start both."""
        self.port, self.callee = free_port(), free_port()
        self.app = self.twistd(
            "drachtio",
            *("--app", str(HERE / "bridges.py")),
            *("--contact", f"sip:127.0.0.1:{self.port};transport=udp,tcp"),
            CALLEE=f"sip:bob@127.0.0.1:{self.callee}",
        )
        await self.app.when_prints("connected")

    async def answers(self, calls: int, vias: int = 1) -> Peer:
        """Start the phone that answers so many calls, and wait until it listens."""
        return await self.called(self.callee, answering(vias), name="callee", calls=calls)

    async def calls(
        self,
        *scenario: str,
        service: str,
        number: int,
        rate: float,
        transport: str = "udp",
        vias: int = 1,
    ) -> None:
        """Place calls from one phone to the other, all of which must succeed on both."""
        callee = await self.answers(number, vias)
        caller = self.sipp(
            self.port, *scenario, service=service, calls=number, rate=rate, transport=transport
        )
        await gatherResults(
            [Deferred.fromCoroutine(self.succeeds(peer)) for peer in (caller, callee)],
            consumeErrors=True,
        )

    async def test_b2bua(self) -> None:
        """A hundred calls as two dialogs each, ended by the caller."""
        await self.calls("-sn", "uac", "-d", "200", service="bridge", number=100, rate=25)

    async def test_b2bua_tcp(self) -> None:
        """The caller may come over TCP, and the callee be reached over UDP."""
        await self.calls(
            *("-sn", "uac", "-d", "200"), service="bridge", number=20, rate=10, transport="tcp"
        )

    async def test_proxy(self) -> None:
        """Fifty calls through the proxy, which stays in the way of ACK and BYE.

        So slow that the server may stand still for a second without losing an ACK, which nobody
        would repeat before the BYE.
        """
        scenario = self.scenario("routed", talking())
        await self.calls("-sf", scenario, service="proxy", number=50, rate=12, vias=2)

    async def test_dial(self) -> None:
        """The application calls, and hangs up."""
        callee = await self.answers(1)
        asked = self.spawn("options", sys.executable, str(HERE / "options.py"), str(self.port))
        self.assertEqual(await asked.ended, 0, f"{asked}\n{self.app}")
        await self.succeeds(callee)

    async def test_nobody_there(self) -> None:
        """When nobody answers at the other end the caller is refused."""
        caller = self.sipp(self.port, "-sn", "uac", service="bridge", calls=1)
        self.assertEqual(await caller.ended, 1, str(caller))
        await self.app.when_prints("refused: 503")
