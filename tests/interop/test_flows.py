"""Each way to connect two phones that none of us wrote: SIPp on both sides, real sockets."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from tests.interop.peers import HERE, InteropTestCase, Peer, free_port, need_sipp
from tests.interop.phones import Callee, Caller, answering, refusing, ringing, talking
from tests.interop.test_bridges import _is_bound

CALLS = 5


class FlowTests(InteropTestCase):
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
            *("--contact", f"sip:127.0.0.1:{self.port};transport=udp,tcp"),
            PHONES=" ".join(f"sip:bob@127.0.0.1:{port}" for port in self.ports),
        )
        await self.app.when_prints("connected")

    def scenario(self, name: str, phone: Caller | Callee) -> str:
        """Write a scenario into the directory of the test."""
        path = self.directory / f"{name}.xml"
        path.write_text(phone.xml(name), "utf-8")
        return str(path)

    async def answers(self, number: int, phone: Callee, calls: int = CALLS) -> Peer:
        """Start a called phone, and wait until it listens."""
        port = self.ports[number]
        peer = self.spawn(
            f"phone {number}",
            need_sipp(),
            *("-sf", self.scenario(f"phone{number}", phone), "-i", "127.0.0.1", "-p", str(port)),
            *("-m", str(calls), "-nostdin", "-timeout", "30s", "-timeout_error", "-trace_err"),
            TERM="dumb",
        )
        while peer.status is None and not _is_bound(port):
            await self.rest(0.02)
        return peer

    async def run_calls(
        self, service: str, caller: Caller, *phones: Callee | None, calls: int = CALLS
    ) -> None:
        """Place calls, all of which must go as written, at every phone."""
        peers = [
            await self.answers(number, phone, calls)
            for number, phone in enumerate(phones)
            if phone is not None
        ]
        caller_peer = self.sipp(
            self.port,
            *("-sf", self.scenario("caller", caller)),
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
        await self.run_calls("bridge", caller.refused_ack(3), refusing(486))

    async def test_cancelled(self) -> None:
        """A caller who gives up cancels the called phone."""
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True).got(180)
        caller.wait(30)
        caller.request("CANCEL", branch="[branch-4]").got(200).got(487).refused_ack(7)
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
        moved = refusing(302, [f"X-Why: moved\nContact: <sip:bob@127.0.0.1:{self.ports[1]}>"])
        moved._steps = [
            step.replace("Contact: <sip:bob@[local_ip]:[local_port]>\n", "")
            for step in moved._steps
        ]
        await self.run_calls("bridge", talking(), moved, answering())

    async def test_early_media(self) -> None:
        """Early media, reliable at the called side, reach a caller who knows nothing of that."""
        reliable = ["Require: 100rel", "RSeq: 7"]
        phone = Callee().got("INVITE").answer(183, sdp=True, extra=reliable).got("PRACK").ok()
        phone.answer(200, sdp=True, repeat=True).got("ACK").got("BYE").ok()
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True).got(183)
        caller.got(200, with_route=True).request("ACK")
        caller.wait(50)
        await self.run_calls("bridge", caller.request("BYE", 2).got(200), phone)

    async def test_delayed_offer(self) -> None:
        """A call without an offer gets one in the 200, and answers it in the ACK."""
        caller = Caller().request("INVITE").got(100, optional=True).got(180, optional=True)
        caller.got(200, with_route=True).request("ACK", sdp=True)
        caller.wait(100)
        await self.run_calls("bridge", caller.request("BYE", 2).got(200), answering())

    async def test_in_dialog(self) -> None:
        """INFO and a re-INVITE go through, and their answers back."""
        caller = Caller().request("INVITE", sdp=True).got(100, optional=True)
        caller.got(180, optional=True).got(200, with_route=True).request("ACK")
        caller.wait(150)
        caller.request("INFO", 2).got(200)
        caller.request("INVITE", 3, sdp=True, direction="sendonly").got(100, optional=True)
        caller.got(200).request("ACK", 3)
        caller.wait(100)
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

    async def test_forked_proxy(self) -> None:
        """The server rings three phones; one answers, the others are cancelled."""
        await self.run_calls(
            "fork", talking(), ringing(vias=2), answering_late(vias=2), ringing(vias=2)
        )

    async def test_serial_proxy(self) -> None:
        """The server tries one phone after the other."""
        await self.run_calls("serial", talking(), refusing(vias=2), answering(vias=2))

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
        caller.wait(100)
        target = f"Refer-To: <sip:bob@127.0.0.1:{self.ports[0]}>"
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
        peer = self.sipp(self.port, "-sf", self.scenario("wrong", caller), service="hold", calls=1)
        self.assertNotEqual(await peer.ended, 0)


def answering_late(vias: int = 1) -> Callee:
    """Ring for a while before answering, so that all others ring too."""
    phone = Callee(vias=vias).got("INVITE").answer(180)
    phone.wait(300)
    phone.answer(200, sdp=True, repeat=True)
    return phone.got("ACK").got("BYE").ok()
