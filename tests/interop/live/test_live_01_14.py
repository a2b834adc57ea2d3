"""Recordings 01 to 14, lived again: authentication, single legs."""

from __future__ import annotations

from tests.interop.live.cases import LiveTestCase
from tests.interop.live.phones import SDP_ALICE, Caller, answering, talking


class LiveTests(LiveTestCase):
    application = "app_01_14.js"

    async def test_01(self) -> None:
        """Two tags; routes added, removed and added again, with an OPTIONS between the steps."""

        async def ask(status: int) -> None:
            await self.caller(Caller().request("OPTIONS").got(status))

        await self.begin(1)
        app = await self.app(routes=5)
        self.tell(app, "add")
        await self.log.until(lambda: self.routed() == 11, 5)
        await ask(200)
        self.tell(app, "remove")
        await self.log.until(lambda: b"remove_route" in self.log.lines[-2].frame, 5)
        await ask(503)
        self.tell(app, "restore")
        await self.log.until(lambda: self.routed() == 17, 5)
        await ask(200)
        await self.compare()

    def routed(self) -> int:
        """Count confirmed routes."""
        return self.count_routes(self.log.lines, 1)

    async def test_04(self) -> None:
        """The application answers, the caller hangs up."""
        await self.begin(4)
        await self.app()
        await self.caller(talking())
        await self.compare()

    async def test_06(self) -> None:
        """The application is busy."""
        await self.begin(6)
        await self.app()
        phone = Caller().request("INVITE", body=SDP_ALICE).got(100, optional=True)
        await self.caller(phone.got(486).refused_ack(3))
        await self.compare()

    async def test_09(self) -> None:
        """The application calls, and hangs up."""
        await self.begin(9)
        phone = await self.callee(answering())
        await self.app()
        await self.compare(phone)
