"""Applications in processes of their own are killed; what their phones hear then (docs/server.md).

The server runs in the process of the tests, so that these see what it knows; its ports, the phones'
and the applications are real. Nothing here hangs on how fast anything is: what is waited for is
told, by a process, a phone or the server, and has plenty of time. A grace that must not end lasts
for an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drachtwist.net.sip.flows import Target
from drachtwist.server.config import RequestHandler
from drachtwist.server.orphans import REASON
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.message import Request, Response
from tests.interop.peers import PATIENCE, InteropTestCase, Peer, free_port
from tests.server.phones import ServerCase, Talker

HOUR = 3600.0
SHORT = 0.5

APP = """
import os
from drachtwist import DrachtwistError, Srf, couple

srf = Srf()
NAME, PHONE = os.environ["NAME"], os.environ.get("PHONE", "")


@srf.invite
async def called(req, res):
    what = req.called_number
    print(NAME, "has", req.get("Call-ID"), flush=True)
    if what == "hold":
        return
    if what == "ring":
        res.send(180)
        req.on_cancel(lambda cancel: cancel or print(NAME + ": nobody is there to be answered"))
        try:
            await srf.create_uac(PHONE, local_sdp=req.body)
        except DrachtwistError as error:
            print(NAME + ": calling failed with", type(error).__name__, flush=True)
        return
    elif what == "bridge":
        both = await srf.create_b2bua(req, res, PHONE)
        couple(both.uas, both.uac)
        call = both.uas
    else:
        call = await srf.create_uas(req, res, local_sdp=req.body)
    call.when_ended().addCallback(
        lambda end: print(NAME + ": a call ended with", end.reason.name.lower(), flush=True)
    )
    call.on_info(lambda req, res: print(NAME, "has an INFO", flush=True))


@srf.options
def asked(req, res):
    print(NAME, "has", req.get("Call-ID"), flush=True)


@srf.message
def told(req, res):
    res.send(202, headers={"X-Name": NAME})
"""


class KilledTestCase(ServerCase, InteropTestCase):
    """Has a server, phones, and applications that can be killed."""

    timeout = 180

    async def begin(self, grace: float = HOUR, **options: Any) -> None:
        """Start a server, a phone that calls, and one that is called."""
        self.server = await self.serve(
            contacts=("sip:127.0.0.1:0;transport=udp",), orphan_grace=grace, **options
        )
        self.caller = self.phone(self.server)
        self.callee = self.phone(self.server)

    def phone(self, server: DrachtioServer) -> Talker:
        """Make a phone that is patient."""
        phone = self.talker("sip:127.0.0.1:0;transport=udp", server)
        phone.patience = PATIENCE
        return phone

    async def application(self, name: str, endpoint: str = "") -> Peer:
        """Start an application, and wait until it is ready."""
        path = self.directory / "app.py"
        path.write_text(APP, "utf-8")
        peer = self.twistd(
            *("drachtio", "--app", str(path)),
            *("--endpoint", endpoint or f"tcp:127.0.0.1:{self.server.admin_port}"),
            DRACHTIO_SECRET="cymru",
            NAME=name,
            PHONE=self.callee.uri,
        )
        listens = not endpoint.startswith("tcp:127") and endpoint
        await peer.when_prints("listening for" if listens else "connected to")
        return peer

    async def until(self, holds: Callable[[], bool], what: str, peer: Peer) -> None:
        """Wait for something that the server knows."""
        await self.comes_true(holds, what, peer)

    async def gone(self, peer: Peer, name: str = "KILL") -> None:
        """Kill an application, and wait until it is gone."""
        peer.kill(name)
        await peer.ended

    def ask(self, method: str, user: str) -> Request:
        """Let the caller send a new request."""
        return self.caller.ask(method, f"sip:{user}@127.0.0.1", body="v=0\r\n")

    def says_why(self, message: Request | Response) -> None:
        """See that a message has the Reason of the server."""
        self.assertEqual(message.get("Reason"), REASON, message)

    async def hung_up(self, phone: Talker) -> Request:
        """Wait for the BYE of the server, and answer it."""
        bye = await phone.request("BYE")
        self.says_why(bye)
        phone.answer(bye, 200)
        return bye

    def nothing_left(self) -> None:
        """See that the server has no calls, and nothing to answer."""
        assert self.server.core is not None
        counts = self.server.core.counts()
        left = {name: counts[name] for name in ("dialogs", "open_requests", "orphans")}
        self.assertEqual(left, dict.fromkeys(left, 0))

    @property
    def core(self) -> Any:
        """The core of the server."""
        return self.server.core


class NewRequestTests(KilledTestCase):
    """An application is killed that had a new request."""

    async def test_another_one(self) -> None:
        """A request that it never read goes to another application."""
        await self.begin()
        first = await self.application("first")
        first.kill("STOP")
        asked = [self.ask("INVITE", "answer"), self.ask("MESSAGE", "anybody")]
        await self.until(lambda: len(self.core.uas.open) == 2, "both requests", first)
        second = await self.application("second")
        await self.gone(first)
        answers = [await self.caller.response(one) for one in asked]
        self.assertEqual([one.status for one in answers], [200, 202])
        self.assertEqual(answers[1].get("X-Name"), "second")
        self.caller.acknowledge(asked[0], answers[0])
        await self.caller.hang_up(asked[0], answers[0])
        self.assertEqual(self.core.handed_on, 2)
        self.assertIn(b"second has", second.output)
        self.nothing_left()

    async def test_nobody(self) -> None:
        """One that it had read, and not answered, is refused when there is no other."""
        await self.begin()
        peer = await self.application("only")
        asked = [self.ask("INVITE", "hold"), self.ask("OPTIONS", "hold")]
        for one in asked:
            await peer.when_prints(f"only has {one.call_id}")
        await self.gone(peer)
        for one in asked:
            answer = await self.caller.response(one)
            self.assertEqual((answer.status, answer.get("Retry-After")), (503, "5"))
        self.nothing_left()

    async def test_connected_to(self) -> None:
        """Nor does one go elsewhere whose application was connected to for it alone."""
        port = free_port()
        await self.begin(request_handlers=(RequestHandler(f"tcp://127.0.0.1:{port}", "INVITE"),))
        peer = await self.application("listening", f"tcp:{port}:interface=127.0.0.1")
        invite = self.ask("INVITE", "hold")
        await peer.when_prints(f"listening has {invite.call_id}")
        await self.gone(peer)
        answer = await self.caller.response(invite)
        self.assertEqual((answer.status, answer.get("Retry-After")), (480, "5"))
        self.nothing_left()


class RingingTests(KilledTestCase):
    """An application is killed while a call rings that it passes on."""

    async def test_ringing(self) -> None:
        """The caller is refused, and the callee rings no more."""
        await self.begin()
        peer = await self.application("only")
        invite = self.ask("INVITE", "ring")
        ringing = await self.callee.request("INVITE")
        self.callee.answer(ringing, 180)
        await self.until(
            lambda: any(one.link is not None for one in self.core.uac.invites.values()),
            "the call to ring",
            peer,
        )
        await self.gone(peer)
        answer = await self.caller.response(invite)
        self.assertEqual((answer.status, answer.get("Retry-After")), (480, "5"))
        self.says_why(answer)
        cancel = await self.callee.request("CANCEL")
        self.says_why(cancel)
        self.callee.answer(cancel, 200)
        self.callee.answer(ringing, 487)
        await self.callee.request("ACK")
        self.nothing_left()

    async def test_accepted_all_the_same(self) -> None:
        """Who accepts when it is too late is hung up on."""
        await self.begin()
        peer = await self.application("only")
        self.ask("INVITE", "ring")
        ringing = await self.callee.request("INVITE")
        self.callee.answer(ringing, 180)
        await self.gone(peer)
        self.callee.answer(await self.callee.request("CANCEL"), 200)
        self.callee.answer(ringing, 200, body="v=0\r\n")
        await self.callee.request("ACK")
        await self.hung_up(self.callee)
        self.nothing_left()


class CallTests(KilledTestCase):
    """An application is killed that has calls."""

    async def up(self, user: str) -> tuple[Peer, Request, Response]:
        """Have a call, bridged to the callee or not; give application, INVITE and answer."""
        peer = await self.application("only")
        invite = self.ask("INVITE", user)
        if user == "bridge":
            await self.callee.pick_up()
            await self.callee.request("ACK")
        answer = await self.caller.response(invite)
        self.assertEqual(answer.status, 200)
        self.caller.acknowledge(invite, answer)
        await self.until(self.confirmed, "the ACK", peer)
        return peer, invite, answer

    def confirmed(self) -> bool:
        """Whether nothing waits for an ACK."""
        return not any(one.answers for one in [*self.core.dialogs._uas.values()])

    async def test_called(self) -> None:
        """A phone that called it gets a BYE when the grace is over."""
        await self.begin(SHORT)
        peer, _, _ = await self.up("answer")
        peer.kill("KILL")
        await self.hung_up(self.caller)
        self.assertEqual((self.core.orphans.lost, self.core.orphans.ended), (1, 1))
        self.nothing_left()

    async def test_bridged(self) -> None:
        """Both phones get one, if it bridged them."""
        await self.begin(SHORT)
        peer, _, _ = await self.up("bridge")
        peer.kill("KILL")
        calls = {(await self.hung_up(phone)).call_id for phone in (self.caller, self.callee)}
        self.assertEqual(len(calls), 2)
        self.nothing_left()

    async def test_many(self) -> None:
        """So does everybody, of many."""
        await self.begin(SHORT)
        peer = await self.application("only")
        calls = {(await self.caller.call("sip:answer@127.0.0.1"))[0].call_id for _ in range(120)}
        await self.until(self.confirmed, "the last ACK", peer)
        peer.kill("KILL")
        self.assertEqual({(await self.hung_up(self.caller)).call_id for _ in calls}, calls)
        await self.until(lambda: not len(self.core.dialogs), "the end of all", peer)
        self.nothing_left()

    async def test_phone_hangs_up(self) -> None:
        """A phone that hangs up before that is answered."""
        await self.begin()
        peer, invite, answer = await self.up("answer")
        await self.gone(peer)
        await self.until(lambda: len(self.core.orphans) == 1, "the loss", peer)
        await self.caller.hang_up(invite, answer)
        self.assertEqual((self.core.orphans.left, self.core.orphans.ended), (1, 0))
        self.nothing_left()

    async def test_bye_on_its_way(self) -> None:
        """A BYE that it had, and had not answered, is; the other phone gets one in time."""
        await self.begin(SHORT)
        peer, invite, answer = await self.up("bridge")
        peer.kill("STOP")
        bye = self.caller.inside("BYE", invite, answer, 2)
        self.caller.send(bye)
        await self.until(lambda: len(self.core.uas.open) == 1, "the BYE", peer)
        await self.gone(peer)
        self.assertEqual((await self.caller.response(bye)).status, 200)
        await self.hung_up(self.callee)
        self.nothing_left()

    async def test_request_on_its_way(self) -> None:
        """Another request is refused for now, and the call goes on for as long as it may."""
        await self.begin()
        peer, invite, answer = await self.up("answer")
        for number, read in ((2, True), (3, False)):
            if not read:
                peer.kill("STOP")
            info = self.caller.inside("INFO", invite, answer, number)
            self.caller.send(info)
            if read:
                await peer.when_prints("has an INFO")
            else:
                await self.until(lambda: len(self.core.uas.open) == 2, "the INFO", peer)
        await self.gone(peer)
        refused = await self.caller.response(info)
        self.assertEqual((refused.status, refused.get("Retry-After")), (500, "5"))
        again = self.caller.inside("OPTIONS", invite, answer, 4)
        self.caller.send(again)
        self.assertEqual((await self.caller.response(again)).status, 500)
        await self.caller.hang_up(invite, answer, number=5)
        self.nothing_left()


class ServerTests(KilledTestCase):
    """The server is a process too, and that is killed, or ended."""

    async def start_server(self) -> Peer:
        """Start the server, always on the same ports."""
        peer = self.twistd(
            *("drachtio-server", "--noconfig", "--port", str(self.admin)),
            *("--contact", f"sip:127.0.0.1:{self.sip};transport=udp"),
            DRACHTIO_SECRET="cymru",
        )
        await peer.when_prints("listening")
        return peer

    async def lose(self, signal: str) -> None:
        """Lose a server that has a call, one that rings, and one of the application's own."""
        self.admin, self.sip = free_port(), free_port()
        server = await self.start_server()
        self.caller = self.talker("sip:127.0.0.1:0;transport=udp")
        self.callee = self.talker("sip:127.0.0.1:0;transport=udp")
        for phone in (self.caller, self.callee):
            phone.patience = PATIENCE
            phone.server = Target("udp", "127.0.0.1", self.sip)
        peer = await self.application("only", f"tcp:127.0.0.1:{self.admin}")
        invite, answer = await self.caller.call("sip:answer@127.0.0.1")
        ringing = self.ask("INVITE", "ring")
        await peer.when_prints(f"only has {ringing.call_id}")
        await self.callee.request("INVITE")
        server.kill(signal)
        self.assertEqual(await server.ended, {"KILL": -9, "TERM": 0}[signal], str(server))
        await peer.when_prints("only: a call ended with link_lost")
        await peer.when_prints("only: nobody is there to be answered")
        await peer.when_prints("only: calling failed with ConnectionLost")

        # The phone hangs up before it is back, and after.
        bye = self.caller.inside("BYE", invite, answer, 2)
        self.caller.send(bye)
        await self.start_server()
        self.caller.send(bye)
        self.assertEqual((await self.caller.response(bye)).status, 481)
        await self.until(
            lambda: peer.output.count(b"connected to") == 2, "the application to be back", peer
        )
        again, answer = await self.caller.call("sip:answer@127.0.0.1")
        await self.caller.hang_up(again, answer)
        await peer.when_prints("only: a call ended with remote")
        peer.kill("TERM")
        self.assertEqual(await peer.ended, 0, str(peer))
        for text in (b"Traceback", b"Unhandled"):
            self.assertNotIn(text, peer.output)

    async def test_killed(self) -> None:
        """The application hears of it in each of its calls, and goes on when the server is back."""
        await self.lose("KILL")

    async def test_ended(self) -> None:
        """So it does when the server ends in good order, which is said to nobody."""
        await self.lose("TERM")
