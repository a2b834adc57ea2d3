"""A browser and a phone whose Contacts differ in nothing but the port."""

from __future__ import annotations

from twisted.internet.defer import ensureDeferred

from drachtwist import Srf
from tests.server.phones import ServerCase


class AlikeTests(ServerCase):
    async def test_bye_of_the_browser(self) -> None:
        """In a call that is proxied, the browser's BYE reaches the phone, not the browser."""
        contacts = ("sip:127.0.0.1:0;transport=ws", "sip:127.0.0.1:0;transport=udp")
        server = await self.serve(contacts=contacts)
        browser = self.talker(contacts[0], server)
        phone = self.talker(contacts[1], server, 1)
        srf = Srf()
        self.forwarding(srf, phone)
        await self.connect(srf, server)
        assert server.transports is not None
        port = server.transports.listeners[0].port
        calling = ensureDeferred(browser.call(f"sip:x@127.0.0.1:{port}"))
        await phone.pick_up()
        invite, answer = await calling
        browser.send(browser.inside("BYE", invite, answer, 2))
        bye = await phone.request("BYE")
        self.assertEqual(bye.call_id, invite.call_id)
