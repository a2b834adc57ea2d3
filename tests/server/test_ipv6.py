"""The server on IPv6: calls in both directions and through it, over each transport."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from drachtwist import Srf
from drachtwist.net.tls import TlsOptions
from drachtwist.server.service import DrachtioServer
from tests.certificates import identity
from tests.server.phones import ServerCase, has_ipv6

ME = identity("::1")
TLS = TlsOptions(key=ME.key, certificate=ME.certificate, verify=False)


class Ipv6Tests(ServerCase):
    def setUp(self) -> None:
        """Make an application."""
        if not has_ipv6():
            self.skipTest("no IPv6 here")
        self.srf = Srf()

    async def start(self, transport: str) -> DrachtioServer:
        """Start the server, and connect the application."""
        server = await self.serve(contacts=(f"sip:[::1]:0;transport={transport}",), tls=TLS)
        self.link = await self.connect(self.srf, server)
        assert server.transports is not None
        self.port = server.transports.listeners[0].port
        return server

    async def both_directions(self, transport: str) -> None:
        """A phone calls, and is called; every address of the server has its brackets."""
        self.answering(self.srf)
        server = await self.start(transport)
        own = f"[::1]:{self.port}"
        self.assertEqual(server.sip_addresses, (f"{transport}/{own}",))
        self.assertEqual(self.link.host_ports, (f"{transport}/{own}",))
        phone = self.talker(f"sip:[::1]:0;transport={transport}", server, tls=TLS)
        invite, answer = await phone.call(f"sip:app@{own}")
        self.assertTrue((answer.get("Contact") or "").startswith(f"<sip:{own}"))
        await phone.hang_up(invite, answer)
        for one in await self.call_phone(self.srf, phone):
            self.assertTrue(
                (one.get("Via") or "").startswith(f"SIP/2.0/{transport.upper()} {own};")
            )
            self.assertIn(f"<sip:{own}>", one.get("From") or "")

    async def proxied(self, transport: str) -> None:
        """A call through the server, that each side ends once."""
        callee = self.talker(f"sip:[::1]:0;transport={transport}", tls=TLS)
        self.forwarding(self.srf, callee)
        server = await self.start(transport)
        caller = self.talker(f"sip:[::1]:0;transport={transport}", server, tls=TLS)
        callee.server = caller.server
        parameter = "" if transport == "udp" else f";transport={transport}"
        route = f"<sip:[::1]:{self.port}{parameter};lr>"
        for by_callee in (False, True):
            calling = Deferred.fromCoroutine(caller.call(f"sip:bob@[::1]:{self.port}"))
            arrived = await callee.pick_up()
            self.assertEqual(arrived.get_all("Record-Route"), [route])
            self.assertEqual(arrived.uri, callee.uri)
            invite, answer = await calling
            await callee.request("ACK")
            if by_callee:
                bye = callee.make(
                    "BYE",
                    caller.uri,
                    call=invite.call_id,
                    from_=f"{arrived.get('To')};tag=callee",
                    to=invite.get("From") or "",
                    routes=(route,),
                )
                callee.send(bye)
                caller.answer(await caller.request("BYE"), 200)
                self.assertEqual((await callee.response(bye)).status, 200)
            else:
                ending = Deferred.fromCoroutine(caller.hang_up(invite, answer))
                callee.answer(await callee.request("BYE"), 200)
                await ending


def _add(what: str, transport: str) -> None:
    async def test(self: Any) -> None:
        await getattr(self, what)(transport)

    test.__doc__ = f"{what.replace('_', ' ').capitalize()}, over {transport.upper()}."
    setattr(Ipv6Tests, f"test_{what}_{transport}", test)


for _transport in ("udp", "tcp", "tls"):
    _add("both_directions", _transport)
    _add("proxied", _transport)
