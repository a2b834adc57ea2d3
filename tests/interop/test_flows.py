"""Each way to connect phones that none of us wrote: SIPp on all sides, over each transport."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.interop.peers import HERE, InteropTestCase, free_port, need_sipp
from tests.interop.phones import (
    Callee,
    Caller,
    answering,
    calling,
    hanging_up,
    refusing,
    ringing,
    talking,
)

CALLS = 5


class _Flows(InteropTestCase):
    """The ways; subclasses say which transport is between all of them."""

    transport = "udp"

    def setUp(self) -> Any:
        """Start the application, which knows three phones."""
        super().setUp()
        need_sipp()
        return Deferred.fromCoroutine(self.start())

    async def start(self) -> None:
        """Start it."""
        self.port = free_port()
        self.ports = [free_port() for _ in range(3)]
        self.app = self.twistd(
            "drachtio",
            *("--app", str(HERE / "flows.py")),
            *("--contact", f"sip:127.0.0.1:{self.port};transport={self.transport}"),
            *self.tls_options(),
            PHONES=" ".join(map(self.uri, self.ports)),
        )
        await self.app.when_prints("connected")

    def uri(self, port: int) -> str:
        """Say how a phone is reached."""
        return f"sip:bob@127.0.0.1:{port};transport={self.transport}"

    async def run_calls(
        self, service: str, caller: Caller, *phones: Callee | None, calls: int = CALLS
    ) -> None:
        """Place calls, all of which must go as written, at every phone."""
        peers = [
            await self.called(
                self.ports[number],
                phone,
                name=f"phone{number}",
                transport=self.transport,
                calls=calls,
            )
            for number, phone in enumerate(phones)
            if phone is not None
        ]
        caller_peer = self.sipp(
            self.port,
            *("-sf", self.scenario("caller", caller, self.transport)),
            transport=self.transport,
            service=service,
            calls=calls,
            rate=10,
        )
        await gatherResults(
            [Deferred.fromCoroutine(self.succeeds(peer)) for peer in (caller_peer, *peers)],
            consumeErrors=True,
        )

    async def test_answered(self) -> None:
        """A call is connected as two dialogs, and ended by the caller."""
        await self.run_calls("bridge", talking(), answering())

    async def test_refused(self) -> None:
        """A refusal goes through to the caller."""
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True).got(486)
        await self.run_calls("bridge", caller.refused_ack(), refusing(486))

    async def test_cancelled(self) -> None:
        """A caller who gives up cancels the called phone."""
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True).got(180)
        caller.request("CANCEL").got(200).got(487).refused_ack()
        await self.run_calls("bridge", caller, ringing())

    async def test_challenged(self) -> None:
        """The called side's challenge is answered; the caller notices nothing."""
        nonce = 'Proxy-Authenticate: Digest realm="b",nonce="n[call_number]",qop="auth",algorithm='
        phone = (
            Callee()
            .got("INVITE")
            .answer(407, extra=[f"{nonce}MD5", f"{nonce}SHA-256"], repeat=True)
        )
        phone.got("ACK").got("INVITE").answer(180).answer(200, sdp=True, repeat=True)
        phone.got("ACK").got("BYE").ok()
        # One call only: the next would come with credentials, since the nonce is known then.
        await self.run_calls("bridge", talking(), phone, calls=1)

    async def test_redirected(self) -> None:
        """A redirect is followed to the other phone."""
        moved = redirecting(self.uri(self.ports[1]))
        await self.run_calls("bridge", talking(), moved, answering())

    async def test_early_media(self) -> None:
        """Early media, reliable at the called side, reach a caller who knows nothing of that."""
        reliable = ["Require: 100rel", "RSeq: 7"]
        phone = Callee().got("INVITE").answer(183, sdp=True, extra=reliable).got("PRACK").ok()
        phone.answer(200, sdp=True, repeat=True).got("ACK").got("BYE").ok()
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True).got(183)
        caller.got(200, with_route=True).request("ACK")
        await self.run_calls("bridge", caller.request("BYE", 2).got(200), phone)

    async def test_delayed_offer(self) -> None:
        """A call without an offer gets one in the 200, and answers it in the ACK."""
        caller = Caller().request("INVITE").got(100, optional=True).got(180, optional=True)
        caller.got(200, with_route=True).request("ACK", sdp=True)
        await self.run_calls("bridge", caller.request("BYE", 2).got(200), answering())

    async def test_in_dialog(self) -> None:
        """INFO and a re-INVITE go through, and their answers back."""
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True)
        caller.got(180, optional=True).got(200, with_route=True).request("ACK")
        caller.request("INFO", 2).got(200)
        caller.request("INVITE", 3, sdp=True, direction="sendonly").got(100, optional=True)
        caller.got(200).request("ACK", 3)
        phone = Callee().got("INVITE").answer(180).answer(200, sdp=True, repeat=True).got("ACK")
        phone.got("INFO").ok().got("INVITE").answer(200, sdp=True, repeat=True, in_dialog=True)
        await self.run_calls(
            "bridge", caller.request("BYE", 4).got(200), phone.got("ACK").got("BYE").ok()
        )

    async def test_simring(self) -> None:
        """Of three phones that ring the one that answers is connected, the others stop."""
        await self.run_calls("simring", talking(), ringing(), answering_late(), ringing())

    async def test_hunt(self) -> None:
        """Busy, then silent for too long, then answered."""
        await self.run_calls("hunt", talking(), refusing(), ringing(), answering())

    async def test_called_side_hangs_up(self) -> None:
        """The called phone ends the call, and the caller is told."""
        caller = calling()
        caller.asked("BYE")
        await self.run_calls("bridge", caller, hanging_up())

    # The application calls

    async def dial(self, service: str, status: int, *phones: Callee | None) -> None:
        """Let the application call a phone by itself, and say what came of it."""
        await self.run_calls(service, Caller().request("OPTIONS").got(status), *phones)

    async def test_dialled(self) -> None:
        """The application calls, and hangs up."""
        await self.dial("talk", 200, answering())

    async def test_dialled_and_hung_up_on(self) -> None:
        """The application calls, and is hung up on."""
        await self.dial("listen", 200, hanging_up())

    async def test_dialled_and_refused(self) -> None:
        """The application calls, and is refused."""
        await self.dial("talk", 603, refusing(603))

    async def test_dialled_in_vain(self) -> None:
        """The application calls, and gives up."""
        await self.dial("vain", 408, ringing())

    async def test_dialled_nobody(self) -> None:
        """Where nobody listens, the application knows at once."""
        await self.dial("talk", 503)

    # The server forwards

    async def test_forked_proxy(self) -> None:
        """Three phones ring; one answers, the others are cancelled; re-INVITE and BYE pass."""
        caller = calling().request("INVITE", 2, sdp=True, direction="sendonly")
        caller.got(100, optional=True).got(200).request("ACK", 2)
        await self.run_calls(
            "fork",
            caller.request("BYE", 3).got(200),
            ringing(vias=2),
            answering_late(vias=2, again=True),
            ringing(vias=2),
        )

    async def test_forked_proxy_cancelled(self) -> None:
        """The caller gives up while three phones ring: all of them stop."""
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True)
        caller.got(180, optional=True).got(183)
        caller.request("CANCEL").got(200).got(487).refused_ack()
        last = ringing_late(vias=2)
        await self.run_calls("fork", caller, ringing(vias=2), ringing(vias=2), last)

    async def test_forked_proxy_refused(self) -> None:
        """When all refuse, the caller gets the one of the lowest class (RFC 3261 section 16.7)."""
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True).got(302)
        phones = [refusing(status, vias=2) for status in (503, 486, 302)]
        await self.run_calls("fork", caller.refused_ack(), *phones)

    async def test_serial_proxy(self) -> None:
        """One phone refuses, the next rings for too long, the third answers; BYE passes."""
        await self.run_calls(
            "serial", talking(), refusing(vias=2), ringing(vias=2), answering(vias=2)
        )

    async def test_serial_proxy_silence(self) -> None:
        """A phone that says nothing is left for the next one."""
        kind = socket.SOCK_DGRAM if self.transport == "udp" else socket.SOCK_STREAM
        with socket.socket(type=kind) as silent:
            silent.bind(("127.0.0.1", self.ports[0]))
            if self.transport != "udp":
                silent.listen()
            await self.run_calls("serial", talking(), None, answering(vias=2))

    async def test_serial_proxy_redirected(self) -> None:
        """A redirect is followed by the server; the caller knows nothing of it."""
        moved = redirecting(self.uri(self.ports[2]), vias=2)
        await self.run_calls("serial", talking(), moved, None, answering(vias=2))

    async def test_held_by_the_application(self) -> None:
        """The application holds, resumes and hangs up."""
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True)
        caller.got(200, with_route=True).request("ACK")
        for _ in range(2):
            caller.asked("INVITE")
            caller.got_request("ACK")
        caller.asked("BYE")
        await self.run_calls("hold", caller)

    async def test_transfer(self) -> None:
        """A REFER is followed, and every step of it told."""
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True)
        caller.got(200, with_route=True).request("ACK")
        target = f"Refer-To: <{self.uri(self.ports[0])}>"
        caller.request("REFER", 2, extra=[target]).got(202)
        for method in ("NOTIFY", "NOTIFY", "NOTIFY", "BYE"):
            caller.asked(method)
        await self.run_calls("refer", caller, answering())

    async def test_subscription(self) -> None:
        """A subscription is accepted, told of, and ended by the subscriber."""
        event = ["Event: presence"]
        caller = Caller().request("SUBSCRIBE", extra=[*event, "Expires: 60"])
        caller.got(202, with_route=True).asked("NOTIFY")
        caller.request("SUBSCRIBE", 2, extra=[*event, "Expires: 0"]).got(202).asked("NOTIFY")
        await self.run_calls("presence", caller)

    async def test_message(self) -> None:
        """A MESSAGE goes through, outside of any dialog."""
        phone = Callee()
        phone.asked("MESSAGE")
        await self.run_calls("text", Caller().request("MESSAGE").got(200), phone)

    async def test_wrong_way(self) -> None:
        """A phone that sees something else than is written fails: the others would, too."""
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True).got(404)
        peer = self.sipp(
            self.port,
            *("-sf", self.scenario("wrong", caller.refused_ack(), self.transport)),
            transport=self.transport,
            service="hold",
        )
        self.assertEqual(await peer.ended, 1, str(peer))
        self.assertRegex(str(peer), "while expecting '404' .index [12]., received 'SIP/2.0 200 ")


class UdpFlowTests(_Flows):
    """Everybody speaks UDP."""

    async def test_proxied_callee_hangs_up(self) -> None:
        """A BYE of the called phone passes to the caller.

        Not over TLS, where nothing listens at the Contact of a caller.
        """
        caller = calling()
        caller.asked("BYE")
        await self.run_calls("serial", caller, hanging_up(vias=2))


class TcpFlowTests(UdpFlowTests):
    """Everybody speaks TCP."""

    transport = "tcp"


class TlsFlowTests(_Flows):
    """Everybody speaks TLS."""

    transport = "tls"


del _Flows


def answering_late(vias: int = 1, again: bool = False) -> Callee:
    """Ring for a while before answering, so that all others ring too.

    :param again: whether there is a re-INVITE.
    """
    phone = Callee(vias=vias).got("INVITE").answer(180).wait(300).answer(200, sdp=True, repeat=True)
    phone.got("ACK")
    if again:
        phone.got("INVITE").answer(200, sdp=True, repeat=True, in_dialog=True).got("ACK")
    return phone.got("BYE").ok()


def ringing_late(vias: int) -> Callee:
    """Ring as the last of all, with another response, until the caller gives up."""
    phone = Callee("l", vias).got("INVITE").wait(200).answer(183).got("CANCEL").ok()
    return phone.answer(487, repeat=True).got("ACK")


def redirecting(*uris: str, vias: int = 1) -> Callee:
    """Send the caller elsewhere."""
    contacts = [f"Contact: <{uri}>" for uri in uris]
    phone = Callee("m", vias).got("INVITE")
    phone.answer(302, extra=["X-Why: moved", *contacts], repeat=True, contact=False)
    return phone.got("ACK")
