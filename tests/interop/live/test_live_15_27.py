"""Recordings 15 to 27, lived again: bridged calls, requests in dialogs and without, proxies."""

from __future__ import annotations

from tests.interop.live.cases import LiveTestCase
from tests.interop.live.phones import SDP_ALICE, SDP_BOB, Callee, Caller


class LiveTests(LiveTestCase):
    application = "app_15_27.js"

    async def test_24(self) -> None:
        """A call is proxied: staying in the dialog, not staying, without all responses."""
        await self.begin(24)

        def phones(stays: bool) -> tuple[Caller, Callee]:
            caller = Caller().request("INVITE", body=SDP_ALICE).got(100, optional=True)
            caller.got(180).got(200).request("ACK")
            callee = Callee(vias=2).got("INVITE").answer(180, "Ringing").pause(200)
            callee.answer(200, "OK", body=SDP_BOB, repeat=stays)
            if stays:
                callee.got("ACK").got("BYE").ok()
                caller.pause(100).request("BYE", 2).got(200)
            return caller, callee

        for scenario, stays in (("24", True), ("24-not-staying", False)):
            caller, callee = phones(stays)
            peer = await self.callee(callee)
            app = await self.app(scenario)
            await self.caller(caller)
            await self.succeeds(peer)
            await self.app_ends(app)
        caller, callee = phones(stays=True)
        peer = await self.callee(callee)
        client = await self.by_hand(3)
        await client.play(2)
        call = self.calling(caller)
        await client.play(1)
        await self.compare(call, peer)
