"""Recordings 01 to 14, lived again: authentication, single legs."""

from __future__ import annotations

from tests.interop.live.cases import LiveTestCase
from tests.interop.live.phones import SDP_ALICE, SDP_BOB, Callee, Caller, answering, talking

_CHALLENGE = 'Digest realm="drachtwist.test", nonce="n0nce1234", algorithm=MD5'
_QOP = ', qop="auth", opaque="5ccc"'


def calling() -> Caller:
    """Begin to call."""
    return Caller().request("INVITE", body=SDP_ALICE).got(100, optional=True)


def refusing(status: int, reason: str, extra: str) -> Callee:
    """Refuse a call."""
    return Callee().got("INVITE").answer(status, reason, extra=[extra]).got("ACK")


def then_answering(phone: Callee) -> Callee:
    """Take the next INVITE of the call, and wait for the BYE."""
    phone.got("INVITE").answer(180, "Ringing").then().answer(200, "OK", body=SDP_BOB)
    return phone.got("ACK").got("BYE").ok()


class LiveTests(LiveTestCase):
    application = "app_01_14.js"

    async def test_01(self) -> None:
        """Two tags; routes added, removed and added again, with an OPTIONS between the steps."""

        async def ask(status: int, **options: bool) -> None:
            await self.caller(Caller().request("OPTIONS").got(status), **options)

        await self.begin(1)
        app = await self.app(routes=5)
        await self.tell(app, "route invite")
        await ask(200)
        await self.tell(app, "remove_route")
        await self.before("app", "route invite")
        await ask(503, at_once=True)
        await self.tell(app, "route invite")
        await ask(200)
        await self.compare()

    async def test_02(self) -> None:
        """A wrong secret, again and again: fourteen times."""
        await self.begin(2)
        await self.app(secret="not-the-secret", prints="refused")
        await self.until(lambda: self.log.connections == 14)
        await self.stop_listening()
        await self.compare()

    async def test_03(self) -> None:
        """Two pings."""
        await self.begin(3)
        await self.app()
        await self.compare()

    async def test_04(self) -> None:
        """The application answers, the caller hangs up."""
        await self.begin(4)
        await self.app()
        await self.caller(talking())
        await self.compare()

    async def test_05(self) -> None:
        """The application answers, and hangs up."""
        await self.begin(5)
        await self.app()
        phone = calling().got(200).request("ACK")
        phone.got_request("BYE")
        await self.caller(phone.answers())
        await self.compare()

    async def test_06(self) -> None:
        """The application is busy."""
        await self.begin(6)
        await self.app()
        await self.caller(calling().got(486).refused_ack())
        await self.compare()

    async def test_07(self) -> None:
        """The caller gives up while it rings."""
        await self.begin(7)
        await self.app()
        phone = calling().got(180).then().cancel().got(200).got(487)
        await self.caller(phone.refused_ack())
        await self.compare()

    async def test_08(self) -> None:
        """A reliable 183, with its PRACK."""
        await self.begin(8)
        await self.app()
        phone = Caller().request("INVITE", body=SDP_ALICE, extra=["Supported: 100rel"])
        phone.got(100, optional=True).got_reliable(183).prack(2).got(200)
        phone.got(200).request("ACK").then()
        await self.caller(phone.request("BYE", 3).got(200))
        await self.compare()

    async def test_09(self) -> None:
        """The application calls, and hangs up."""
        await self.begin(9)
        phone = await self.callee(answering())
        await self.app()
        await self.compare(phone)

    async def test_10(self) -> None:
        """The application calls, and nobody is there."""
        await self.begin(10)
        phone = refusing(404, "Not Found", 'Warning: 399 127.0.0.1 "no such user here"')
        peer = await self.callee(phone)
        await self.app()
        await self.compare(peer)

    async def test_11(self) -> None:
        """The application calls, and gives up while it rings."""
        await self.begin(11)
        phone = Callee().got("INVITE").answer(180, "Ringing").got("CANCEL").ok(contact=False)
        phone = phone.answer(487, "Request Terminated").got("ACK")
        peer = await self.callee(phone)
        await self.app()
        await self.compare(peer)

    async def test_12(self) -> None:
        """Four calls are challenged: 401 with qop, 407 without, a wrong password, none."""
        await self.begin(12)
        app = await self.app()
        asking = f"WWW-Authenticate: {_CHALLENGE}{_QOP}"
        again = asking.replace("1234", "5678")

        def unauthorized() -> Callee:
            return refusing(401, "Unauthorized", asking)

        async def call(phone: Callee) -> None:
            peer = await self.callee(phone)
            await self.tell(app, "sip INVITE")
            await self.succeeds(peer)

        await call(then_answering(unauthorized()))
        proxy = "Proxy Authentication Required"
        phone = refusing(407, proxy, f"Proxy-Authenticate: {_CHALLENGE}")
        await call(then_answering(phone))
        phone = unauthorized().got("INVITE").answer(401, "Unauthorized", extra=[again])
        await call(phone.got("ACK"))
        await call(unauthorized())
        await self.compare()

    async def test_13(self) -> None:
        """Nobody answers: at a closed port, UDP and TCP, and at a silent one."""
        await self.begin(13)
        self.silent(32078)
        await self.app()
        await self.before("server", "sip 408 INVITE")
        self.later(32)
        await self.compare()

    async def test_14(self) -> None:
        """A called phone has moved: that is reported, then followed."""
        await self.begin(14)
        app = await self.app()
        contact = f"Contact: <{self.with_live_ports('sip:bob@127.0.0.1:32072')}>;expires=60"
        moved = refusing(302, "Moved Temporarily", contact)
        first = await self.callee(moved)
        await self.tell(app, "sip INVITE")
        await self.succeeds(first)
        second = await self.callee(moved)
        third = await self.callee(then_answering(Callee()), 32072)
        await self.tell(app, "sip INVITE")
        await self.compare(second, third)
