"""Session timers with a phone that none of us wrote (RFC 4028), refreshed by either side.

The shortest session is four seconds here instead of ninety, so that real phones on real clocks see
several refreshes. What happens at which second of ninety is in tests/server/test_sessions.py.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from drachtwist import DialogEnd, Request, Response, SipError, Srf
from drachtwist.net.tls import TlsOptions
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from tests.certificates import identity
from tests.interop.peers import InteropTestCase, free_port, need_sipp
from tests.interop.phones import Callee, Caller

INTERVAL = 4
PAUSE = 2200
"""Milliseconds: two of them are longer than a session, one is much shorter."""
EXPIRED = {"Reason": "Session timer expired"}


def asks(refresher: str, seconds: int = INTERVAL) -> list[str]:
    """Write what asks for a timer."""
    return [f"Session-Expires: {seconds};refresher={refresher}", "Supported: timer"]


def has(refresher: str) -> dict[str, str]:
    """Say what a message has that agrees to one."""
    return {"Session-Expires": f"^ *{INTERVAL};refresher={refresher} *$"}


class _Timers(InteropTestCase):
    """Calls with timers; subclasses say over which transport."""

    transport = "udp"

    def setUp(self) -> Any:
        """Start a server and an application in this process."""
        super().setUp()
        need_sipp()
        return Deferred.fromCoroutine(self.start())

    async def start(self) -> None:
        """Start both."""
        me = identity()
        self.port = free_port()
        server = DrachtioServer(
            ServerConfig(
                admin_port=0,
                contacts=(f"sip:127.0.0.1:{self.port};transport={self.transport}",),
                tls=TlsOptions(key=me.key, certificate=me.certificate, ca=me.certificate),
                shortest_session=INTERVAL,
            ),
            reactor,
        )
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        self.srf = srf = Srf()
        self.ended: list[str] = []

        @srf.invite
        async def answer(req: Request, res: Response) -> None:
            dialog = await srf.create_uas(req, res, local_sdp=req.body)
            self.ended.append((await dialog.when_ended()).reason.value)

        assert server.admin_port is not None
        srf.connect(host="127.0.0.1", port=server.admin_port, secret="cymru")
        self.addCleanup(srf.stop)
        assert server.core is not None
        while server.core.clients.pick("invite") is None:
            await self.rest(0.01)

    async def calls(self, name: str, phone: Caller) -> None:
        """Let a phone call the application."""
        path = self.scenario(name, phone, self.transport)
        await self.succeeds(self.sipp(self.port, "-sf", path, transport=self.transport))

    async def is_called(self, name: str, phone: Callee) -> None:
        """Let the application call a phone, and talk until the phone or the server hangs up."""
        port = free_port()
        peer = await self.called(port, phone, name=name, transport=self.transport)
        try:
            dialog = await self.srf.create_uac(
                f"sip:bob@127.0.0.1:{port};transport={self.transport}",
                local_sdp="v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n",
                headers={"Session-Expires": str(INTERVAL), "Supported": "timer"},
            )
        except SipError as refusal:
            assert refusal.response is not None
            self.ended.append(f"{refusal.status} {refusal.response.get('Min-SE')}")
        else:
            self.ended.append((await dialog.when_ended()).reason.value)
        await self.succeeds(peer)

    # The phone calls

    async def we_refresh(self) -> None:
        """The caller leaves it to us: there is a re-INVITE in each half of the interval."""
        phone = Caller().request("INVITE", sdp=True, extra=asks("uas")).got(100, optional=True)
        phone.got(200, with_route=True, has=has("uas")).request("ACK")
        for _ in range(3):
            phone.got_request("INVITE", {**has("uac"), "Min-SE": str(INTERVAL)})
            phone.ok(sdp=True, extra=asks("uac")).got_request("ACK")
        await self.calls("we_refresh", phone.request("BYE", 2).got(200))

    async def our_refresh_is_refused(self) -> None:
        """A refresh of ours that is refused ends the call."""
        phone = Caller().request("INVITE", sdp=True, extra=asks("uas")).got(100, optional=True)
        phone.got(200, with_route=True).request("ACK").got_request("INVITE")
        phone.ok(status=488).got_request("ACK").got_request("BYE", EXPIRED).ok()
        await self.calls("our_refresh_is_refused", phone)

    async def caller_refreshes(self) -> None:
        """The caller refreshes, with re-INVITE and with UPDATE, and then does not any more."""
        phone = Caller().request("INVITE", sdp=True, extra=asks("uac")).got(100, optional=True)
        phone.got(200, with_route=True, has=has("uac")).request("ACK").wait(PAUSE)
        phone.request("INVITE", 2, sdp=True, extra=asks("uac")).got(100, optional=True)
        phone.got(200, has=has("uac")).request("ACK", 2).wait(PAUSE)
        phone.request("UPDATE", 3, extra=asks("uac")).got(200, has=has("uac"))
        phone.got_request("BYE", EXPIRED).ok()
        await self.calls("caller_refreshes", phone)

    async def too_brief(self) -> None:
        """A refresh with an interval that is too short is refused, and says which is not."""
        phone = Caller().request("INVITE", sdp=True, extra=asks("uac", 1)).got(100, optional=True)
        phone.got(200, with_route=True, has=has("uac")).request("ACK")
        for number, method in ((2, "UPDATE"), (3, "INVITE")):
            phone.request(method, number, sdp=method == "INVITE", extra=asks("uac", INTERVAL - 1))
            phone.got(100, optional=True).got(422, has={"Min-SE": f"^ *{INTERVAL} *$"})
        phone.refused_ack(3).request("UPDATE", 4, extra=asks("uac")).got(200, has=has("uac"))
        await self.calls("too_brief", phone.request("BYE", 5).got(200))

    # The application calls

    async def we_refresh_as_caller(self) -> None:
        """The phone that is called leaves it to us."""
        phone = Callee().got("INVITE").answer(200, sdp=True, extra=asks("uac"), repeat=True)
        phone.got("ACK")
        for _ in range(2):
            phone.got_request("INVITE", has("uac")).ok(sdp=True, extra=asks("uac")).got("ACK")
        await self.is_called("we_refresh_as_caller", phone.request("BYE").responded(200))

    async def callee_refreshes(self) -> None:
        """The phone that is called refreshes, and then does not any more."""
        phone = Callee().got("INVITE").answer(200, sdp=True, extra=asks("uas"), repeat=True)
        phone.got("ACK").wait(PAUSE).request("INVITE", 1, sdp=True, extra=asks("uac"))
        phone.responded(100, optional=True).responded(200, has=has("uac")).request("ACK", 1)
        phone.wait(PAUSE).request("UPDATE", 2, extra=asks("uac")).responded(200, has=has("uac"))
        phone.got_request("BYE", EXPIRED).ok()
        await self.is_called("callee_refreshes", phone)

    async def too_brief_for_callee(self) -> None:
        """The phone that is called refuses our interval; the application is told the shortest."""
        phone = Callee().got("INVITE").answer(422, extra=["Min-SE: 60"], repeat=True).got("ACK")
        await self.is_called("too_brief_for_callee", phone)

    async def test_timers(self) -> None:
        """All of them, side by side."""
        runs = (
            self.we_refresh,
            self.our_refresh_is_refused,
            self.caller_refreshes,
            self.too_brief,
            self.we_refresh_as_caller,
            self.callee_refreshes,
            self.too_brief_for_callee,
        )
        await gatherResults([Deferred.fromCoroutine(run()) for run in runs], consumeErrors=True)
        bye, expired = DialogEnd.REMOTE.value, DialogEnd.SERVER.value
        self.assertEqual(sorted(self.ended), sorted(["422 60", *[bye] * 3, *[expired] * 3]))
        self.assertTrue(self.srf.idle)


class UdpTimerTests(_Timers):
    """Over UDP."""


class TcpTimerTests(_Timers):
    """Over TCP."""

    transport = "tcp"


class TlsTimerTests(_Timers):
    """Over TLS."""

    transport = "tls"


del _Timers
