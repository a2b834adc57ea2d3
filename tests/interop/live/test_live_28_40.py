"""Recordings 28 to 40, lived again: outbound connections, losses, odd messages."""

from __future__ import annotations

from drachtwist.net.tls import TlsOptions
from tests.certificates import identity
from tests.interop.live.cases import LiveTestCase
from tests.interop.live.phones import SDP_ALICE, Caller, answering, talking
from tests.transcripts import transcript

ROUTE = '{"action": "route", "data": {"uri": "127.0.0.1:32131"}}'


def asking() -> Caller:
    """Call."""
    return Caller().request("INVITE", body=SDP_ALICE).got(100, optional=True)


def refused(status: int, *holding: str) -> Caller:
    """Call in vain."""
    return asking().got(status, holding=holding).refused_ack(3)


class LiveTests(LiveTestCase):
    application = "app_28_40.js"

    async def test_28(self) -> None:
        """The server connects to the application, for one call."""
        await self.begin(28, [(200, ROUTE)])
        await self.app(port=await self.relay_to_app(32131))
        phone = asking().got(200).request("ACK").pause(400)
        phone.request("INFO", 2, body=["hello"], kind="text/plain").got(200).pause(200)
        await self.caller(phone.request("BYE", 3).got(200))
        await self.compare()

    async def test_29(self) -> None:
        """The server connects to the application over TLS."""
        me = identity()
        (self.directory / "key.pem").write_bytes(me.key)
        (self.directory / "certificate.pem").write_bytes(me.certificate)
        tls = TlsOptions(key=me.key, certificate=me.certificate, ca=me.certificate)
        route = ROUTE.replace("32131", "32131;transport=tls")
        await self.begin(29, [(200, route)], tls=TlsOptions(ca=me.certificate))
        await self.app(port=await self.relay_to_app(32131, tls))
        await self.caller(talking(400))
        await self.compare()

    async def test_30(self) -> None:
        """The routing web server decides by itself; then it gives wrong answers; then none."""
        told = [line for line in transcript(30) if line.event == "response"]
        await self.begin(30, [(line.status, line.body) for line in told])
        await self.caller(refused(503, "^SIP/2.0 503 Max Calls Exceeded"))
        await self.caller(refused(404, "^SIP/2.0 404 Not Found"))
        carol = self.with_live_ports("Contact: <sip:carol@127.0.0.1:32073>")
        dave = self.with_live_ports("Contact: <?sip:dave@127.0.0.1:32074")
        await self.caller(refused(302, "^SIP/2.0 302 Moved", carol, dave))
        await self.caller(refused(500))
        bob = await self.callee(answering(vias=2))
        phone = asking().got(180).got(200, holding=["Record-Route:"]).request("ACK")
        await self.caller(phone.pause(100).request("BYE", 2).got(200))
        await self.succeeds(bob)
        for _ in range(4):
            await self.caller(refused(500))
        at = "[remote_ip]:[remote_port]"
        phone = Caller().request("REGISTER", uri=f"sip:{at}", to=f"<sip:alice@{at}>")
        await self.caller(phone.got(403))
        await self.web.stopListening()
        await self.caller(refused(500))
        await self.compare()

    async def test_31(self) -> None:
        """The server is to connect to an application that does not listen."""
        await self.begin(31, [(200, ROUTE.replace("32131", "32139"))])
        await self.caller(refused(480, "^SIP/2.0 480 Temporarily Unavailable"))
        await self.compare()

    async def test_32(self) -> None:
        """Applications are killed: one in a call, another when its phone rings."""
        await self.begin(32)
        app = await self.app()
        phone = asking().got(200).request("ACK").pause(1500)
        phone.request("INFO", 2, body=["hello"], kind="text/plain").got(481)
        call = self.calling(phone.request("BYE", 3).got(481))
        await self.app_ends(app, "KILL")
        await self.succeeds(call)
        app = await self.app("32-ringing")
        phone = Caller("ring").request("INVITE", body=SDP_ALICE).got(100, optional=True)
        phone.got(180).pause(1500).cancel(4).got(200).got(487).refused_ack(7)
        call = self.calling(phone, user="ring")
        await self.app_ends(app, "KILL")
        await self.succeeds(call)
        await self.caller(refused(503))
        await self.compare()
