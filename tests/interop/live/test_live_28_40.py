"""Recordings 28 to 40, lived again: outbound connections, losses, odd messages."""

from __future__ import annotations

from tests.interop.live.cases import LiveTestCase
from tests.interop.live.phones import SDP_ALICE, Caller

ROUTE = '{"action": "route", "data": {"uri": "127.0.0.1:32131"}}'


class LiveTests(LiveTestCase):
    application = "app_28_40.js"

    async def test_28(self) -> None:
        """The server connects to the application, for one call."""
        await self.begin(28, [(200, ROUTE)])
        await self.app(port=await self.relay_to_app(32131))
        phone = Caller().request("INVITE", body=SDP_ALICE).got(100, optional=True)
        phone.got(200).request("ACK").pause(400)
        phone.request("INFO", 2, body=["hello"], kind="text/plain").got(200).pause(200)
        await self.caller(phone.request("BYE", 3).got(200))
        await self.compare()
