"""The example applications: each does what it says, between real servers over loopback."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, FileBodyProducer
from twisted.web.resource import Resource
from twisted.web.server import Site

from drachtwist import Dialog, Progress, Request, Response, SipError, Srf, transfer
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.sip.sdp import Sdp
from tests.web import body_of

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


def description(name: str, codecs: str = "0 8 101") -> str:
    """Write a session description of somebody."""
    return (
        f"v=0\r\no={name} 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=audio 40000 RTP/AVP {codecs}\r\na=rtpmap:101 telephone-event/8000\r\n"
    )


class Person:
    """Somebody with a phone: an application and a server of his own."""

    def __init__(self, name: str, srf: Srf, server: DrachtioServer) -> None:
        self.name = name
        self.srf = srf
        self.uri = f"sip:{name}@{server.sip_addresses[0].partition('/')[2]}"
        self.sdp = description(name)
        self.calls: list[Dialog] = []
        self.requests: list[Request] = []
        self.status = 200
        srf.invite(self.called)

    async def called(self, req: Request, res: Response) -> None:
        """Answer, or refuse."""
        self.requests.append(req)
        if self.status == 180:
            res.send(180)
        elif self.status != 200:
            res.send(self.status)
        else:
            res.send(180)
            self.calls.append(await self.srf.create_uas(req, res, local_sdp=self.sdp))


class ExampleTests(TestCase):
    timeout = 30

    async def serve(self, srf: Srf) -> DrachtioServer:
        """Give an application a server."""
        config = ServerConfig(admin_port=0, contacts=("sip:127.0.0.1:0;transport=udp",))
        server = DrachtioServer(config, reactor)
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        self.addCleanup(srf.stop)
        await srf.connect(f"tcp:127.0.0.1:{server.admin_port}", secret="cymru").when_connected()
        return server

    async def person(self, name: str) -> Person:
        """Let somebody come."""
        srf = Srf()
        server = await self.serve(srf)
        person = Person(name, srf, server)
        await self.ready(srf)
        return person

    async def ready(self, srf: Srf) -> None:
        """Wait until the server knows the routes: it answers commands in their order."""
        asking = srf.request("sip:127.0.0.1:9", method="OPTIONS")
        asking.addErrback(lambda failure: failure.trap(Exception))
        await asking

    async def example(self, name: str, **environ: str) -> tuple[ModuleType, str]:
        """Load an example and give it a server; give the example and its address too."""
        self.patch(os, "environ", {**os.environ, **environ})
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        server = await self.serve(module.srf)
        await self.ready(module.srf)
        return module, server.sip_addresses[0].partition("/")[2]

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait until something holds; the timeout of the test ends that."""
        while not holds():
            await deferLater(cast(Any, reactor), 0.005)

    async def refused(self, calling: Deferred[Any]) -> int:
        """Give the status of a refusal."""
        error = await self.assertFailure(calling, SipError)
        return cast(int, error.status)

    async def test_uac(self) -> None:
        """Two people are called and connected; the one who hangs up ends it for both."""
        ann, bob = await self.person("ann"), await self.person("bob")
        await self.example("uac", CALLER=ann.uri, CALLEE=bob.uri)
        await self.until(lambda: ann.calls and bob.calls)
        self.assertEqual(ann.requests[0].body, b"")
        self.assertEqual(bob.requests[0].text, ann.sdp)
        await ann.calls[0].when_acked()
        self.assertEqual(ann.calls[0].remote.sdp.decode(), bob.sdp)
        await bob.calls[0].destroy()
        await ann.calls[0].when_ended()

    async def test_uac_refused(self) -> None:
        """When the second does not want to, the first is let go."""
        ann, bob = await self.person("ann"), await self.person("bob")
        bob.status = 486
        module, _ = await self.example("uac", CALLER=ann.uri, CALLEE=bob.uri)
        await self.until(lambda: ann.calls)
        await ann.calls[0].when_ended()
        await self.until(lambda: module.srf.idle)

    async def test_b2bua(self) -> None:
        """Only the codecs that are wanted get through, and the end of one is that of the other."""
        ann, bob = await self.person("ann"), await self.person("bob")
        _, place = await self.example("b2bua", CALLEE=bob.uri, CODECS="PCMU,telephone-event")
        call = await ann.srf.create_uac(
            f"sip:x@{place}", local_sdp=ann.sdp, headers={"User-Agent": "secret", "X-A": "1"}
        )
        self.assertEqual(Sdp.parse(bob.requests[0].body).media[0].formats, ["0", "101"])
        self.assertEqual(
            (bob.requests[0].get("X-A"), bob.requests[0].get("User-Agent")), ("1", None)
        )
        await call.destroy()
        await self.until(lambda: bob.calls and bob.calls[0].ended)

    async def test_proxy(self) -> None:
        """A call goes to the first who answers of those that a name stands for."""
        ann, bob, carol = [await self.person(name) for name in ("ann", "bob", "carol")]
        bob.status = 486
        table = f"sales={bob.uri} {carol.uri}"
        _, place = await self.example("proxy", TABLE=table)
        self.assertEqual(await self.refused(ann.srf.create_uac(f"sip:x@{place}")), 404)
        call = await ann.srf.create_uac(f"sip:sales@{place}", local_sdp=ann.sdp)
        self.assertEqual(call.remote.sdp.decode(), carol.sdp)
        await self.until(lambda: carol.calls)
        await call.destroy()
        await carol.calls[0].when_ended()
        self.assertEqual(len(bob.requests), 1)

    async def test_simring(self) -> None:
        """The first who answers gets the call; when nobody does, the others are tried."""
        ann, bob, carol = [await self.person(name) for name in ("ann", "bob", "carol")]
        bob.status = 180
        module, place = await self.example("simring", PHONES=f"{bob.uri} {carol.uri}")
        call = await ann.srf.create_uac(f"sip:x@{place}", local_sdp=ann.sdp)
        self.assertEqual(call.remote.sdp.decode(), carol.sdp)
        await self.until(lambda: bob.requests[0].canceled)
        await call.destroy()
        await self.until(lambda: carol.calls and carol.calls[0].ended)
        carol.status = 486
        bob.status = 603
        dora = await self.person("dora")
        module.second[:] = [dora.uri]
        call = await ann.srf.create_uac(f"sip:x@{place}", local_sdp=ann.sdp)
        self.assertEqual(call.remote.sdp.decode(), dora.sdp)
        await call.destroy()
        await self.until(lambda: dora.calls and dora.calls[0].ended)

    async def test_transfer(self) -> None:
        """Who is transferred talks to the target; who transferred him is out, and knows why."""
        ann, bob, carol = [await self.person(name) for name in ("ann", "bob", "carol")]
        _, place = await self.example("transfer", CALLEE=bob.uri)
        call = await ann.srf.create_uac(f"sip:x@{place}", local_sdp=ann.sdp)
        await self.until(lambda: bob.calls)
        seen: list[Progress] = []
        outcome = await transfer(bob.calls[0], carol.uri, on_progress=seen.append)
        self.assertEqual(outcome.status, 200)
        self.assertEqual([one.status for one in seen], [100, 180, 200])
        await bob.calls[0].when_ended()
        await self.until(lambda: call.remote.sdp.decode() == carol.sdp)
        self.assertEqual(carol.requests[0].text, ann.sdp)
        self.assertTrue(call.connected)
        await carol.calls[0].destroy()
        await call.when_ended()

    async def test_transfer_refused(self) -> None:
        """When the target is busy, the two go on talking."""
        ann, bob, carol = [await self.person(name) for name in ("ann", "bob", "carol")]
        carol.status = 486
        _, place = await self.example("transfer", CALLEE=bob.uri)
        call = await ann.srf.create_uac(f"sip:x@{place}", local_sdp=ann.sdp)
        await self.until(lambda: bob.calls)
        self.assertEqual(await self.refused(transfer(bob.calls[0], carol.uri)), 486)
        self.assertTrue(call.connected and bob.calls[0].connected)
        await call.destroy()
        await bob.calls[0].when_ended()

    async def test_recorder(self) -> None:
        """A recording session is accepted, to receive only, and its people are known."""
        ann = await self.person("ann")
        module, place = await self.example("recorder")
        metadata = (
            '<recording xmlns="urn:ietf:params:xml:ns:recording:1"><participant id="1">'
            '<nameID aor="sip:bob@example.net"/></participant><participant id="2">'
            '<nameID aor="sip:carol@example.net"/></participant></recording>'
        )
        offer = description("client") + "a=sendonly\r\n"
        body = (
            f"--b\r\nContent-Type: application/sdp\r\n\r\n{offer}\r\n"
            f"--b\r\nContent-Type: application/rs-metadata+xml\r\n\r\n{metadata}\r\n--b--\r\n"
        )
        headers = {"Content-Type": "multipart/mixed;boundary=b", "Require": "siprec"}
        call = await ann.srf.create_uac(f"sip:x@{place}", local_sdp=body, headers=headers)
        [stream] = Sdp.parse(call.remote.sdp).media
        self.assertEqual((stream.direction, stream.formats), ("recvonly", ["0", "8", "101"]))
        people = ["sip:bob@example.net", "sip:carol@example.net"]
        await self.until(lambda: module.sessions)
        self.assertEqual(list(module.sessions.values()), [people])
        await call.destroy()
        await self.until(lambda: not module.sessions)
        self.assertEqual(await self.refused(ann.srf.create_uac(f"sip:x@{place}")), 488)

    async def test_presence(self) -> None:
        """A watcher hears the state at once, whenever it changes, and a last time."""
        ann = await self.person("ann")
        module, place = await self.example("presence")
        told: list[tuple[str, str]] = []
        target = f"sip:bob@{place}"
        watching = await ann.srf.create_uac(
            target, method="SUBSCRIBE", headers={"Event": "presence", "Expires": "60"}
        )

        @watching.on_notify
        def notified(req: Request, res: Response) -> None:
            told.append((req.get("Subscription-State") or "", req.text))
            res.send(200)

        await self.until(lambda: told)
        self.assertIn("<basic>closed</basic>", told[0][1])
        state = module.unknown("bob").replace("closed", "open")
        published = await ann.srf.request(
            target,
            method="PUBLISH",
            headers={"Event": "presence", "Content-Type": module.PIDF},
            body=state,
        )
        self.assertEqual(published.status, 200)
        await self.until(lambda: len(told) == 2)
        self.assertEqual(told[1][1], state)
        await watching.destroy()
        await self.until(lambda: not module.watchers)
        wrong = ann.srf.create_uac(target, method="SUBSCRIBE", headers={"Event": "x"})
        self.assertEqual(await self.refused(wrong), 489)

    async def test_message_gateway(self) -> None:
        """Messages go both ways, and what cannot be sent is refused."""
        ann = await self.person("ann")
        texts: list[str] = []

        @ann.srf.message
        def texted(req: Request, res: Response) -> None:
            texts.append(req.text)
            res.send(200)

        await self.ready(ann.srf)
        posts: list[Any] = []

        class Inbox(Resource):
            isLeaf = True

            def render_POST(self, request: Any) -> bytes:
                posts.append(json.loads(request.content.read()))
                return b"ok"

        listen = cast(Any, reactor).listenTCP
        inbox = listen(0, Site(Inbox()), interface="127.0.0.1")
        self.addCleanup(inbox.stopListening)
        webhook = f"http://127.0.0.1:{inbox.getHost().port}/"
        module, place = await self.example("message_gateway", WEBHOOK=webhook, HTTP_PORT="0")
        await self.until(lambda: module.ports)
        self.addCleanup(module.ports[0].stopListening)
        response = await ann.srf.request(
            f"sip:x@{place}", method="MESSAGE", headers={"Content-Type": "text/plain"}, body="Hi ☎"
        )
        self.assertEqual((response.status, posts[0]["text"]), (202, "Hi ☎"))
        agent = Agent(reactor)
        url = f"http://127.0.0.1:{module.ports[0].getHost().port}/".encode()

        async def post(body: bytes) -> tuple[int, bytes]:
            answer = await agent.request(b"POST", url, bodyProducer=FileBodyProducer(BytesIO(body)))
            return answer.code, await body_of(answer)

        good = json.dumps({"to": ann.uri, "text": "Hello"}).encode()
        self.assertEqual(await post(good), (200, b'{"result": 200}\n'))
        self.assertEqual(texts, ["Hello"])
        self.assertEqual((await post(b"nonsense"))[0], 400)
        self.assertEqual((await post(b'{"to": "tel:+15551234567", "text": ""}'))[0], 400)

    def test_all_tested(self) -> None:
        """Every example has a test, here or where the demo, services and asyncio are tested."""
        elsewhere = {"answer", "switchboard", "click_to_call", "lookup"}
        names = {path.stem for path in EXAMPLES.glob("*.py")} - elsewhere
        tested = {name[5:] for name in dir(self) if name.startswith("test_")}
        self.assertLessEqual(names, tested)

    async def test_registrar(self) -> None:
        """Who registers with the right password can be called; others cannot."""
        ann, bob = await self.person("ann"), await self.person("bob")
        module, place = await self.example("registrar", PASSWORDS="bob:pw")
        headers = {
            "From": f"<sip:bob@{place}>",
            "To": f"<sip:bob@{place}>",
            "Contact": f"<{bob.uri}>",
        }
        for auth, status in ((("bob", "wrong"), 401), (("bob", "pw"), 200)):
            response = await bob.srf.request(
                f"sip:{place}", method="REGISTER", headers=headers, auth=auth
            )
            self.assertEqual(response.status, status)
        call = await ann.srf.create_uac(f"sip:bob@{place}", local_sdp=ann.sdp)
        self.assertEqual(call.remote.sdp.decode(), bob.sdp)
        self.assertEqual(await self.refused(ann.srf.create_uac(f"sip:eve@{place}")), 480)
        await call.destroy()
        await self.until(lambda: bob.calls and bob.calls[0].ended)
        self.assertEqual(len(module.registrar.store), 1)
