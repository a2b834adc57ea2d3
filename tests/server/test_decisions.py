"""What web applications decide about new requests, and what becomes of that."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import reactor
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.server import Site

from drachtwist import Request, Response, SipError, Srf
from drachtwist.demo.phone import Phone
from drachtwist.errors import LocalProtocolError
from drachtwist.middleware import webhook as routing
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.service import DrachtioServer
from drachtwist.sip import Response as SipResponse
from drachtwist.wire.decisions import (
    AppAddress,
    Decision,
    ProxyTo,
    Redirect,
    Reject,
    RouteTo,
    RoutingQuery,
)
from tests.server.doubles import Bench, request


class DecisionTests(SynchronousTestCase):
    def setUp(self) -> None:
        """A server that asks a web application about each INVITE."""
        handler = RequestHandler("http://127.0.0.1:4000/route", method="invite")
        self.bench = Bench(request_handlers=(handler,))
        self.bench.receive(request("INVITE"))
        [self.incoming] = self.bench.asked
        self.assertEqual(self.bench.heads(), ["100 INVITE"])

    def decide(self, decision: Decision | None) -> list[SipResponse]:
        """Decide, and give what the caller was sent."""
        self.bench.core.decided(self.incoming, decision)
        return [one for one in self.bench.take() if isinstance(one, SipResponse)]

    def test_reject(self) -> None:
        """A refusal has the phrase that was given, or the usual one."""
        [response] = self.decide(Reject(503, "Max Calls Exceeded"))
        self.assertEqual((response.status, response.reason), (503, "Max Calls Exceeded"))
        assert response.to.tag

    def test_usual_phrase(self) -> None:
        """Without a phrase it is the usual one."""
        [response] = self.decide(Reject(404))
        self.assertEqual((response.status, response.reason), (404, "Not Found"))

    def test_accept(self) -> None:
        """A call that nobody owns: it has a Contact, and ends when the caller hangs up."""
        [response] = self.decide(Reject(200))
        self.assertEqual((response.status, len(response.get_all("Contact"))), (200, 1))
        self.bench.receive(request("ACK", branch="ack", to_tag=response.to.tag or ""))
        self.bench.receive(request("BYE", number=2, to_tag=response.to.tag or ""))
        self.assertEqual(self.bench.heads(), ["200 BYE"])
        self.assertEqual(self.bench.core.counts()["dialogs"], 0)

    def test_redirect(self) -> None:
        """A redirect has a Contact for each URI."""
        [response] = self.decide(Redirect(("sip:a@127.0.0.2", "<sip:b@127.0.0.3>;q=0.5")))
        self.assertEqual((response.status, response.reason), (302, "Moved"))
        contacts = response.get_all("Contact")
        self.assertEqual(contacts, ["<sip:a@127.0.0.2>", "<sip:b@127.0.0.3>;q=0.5"])

    def test_proxy(self) -> None:
        """The server proxies without any application."""
        self.decide(ProxyTo(("sip:bob@127.0.0.1:32071",), record_route=True))
        self.bench.core.decided(self.incoming, None)
        self.bench.clock.advance(0.5)
        self.assertEqual(len(self.bench.core.uac.transactions), 1)

    def test_route(self) -> None:
        """The request goes to an application that listens there."""
        self.decide(RouteTo(AppAddress("127.0.0.1", 3001)))
        [(address, _)] = self.bench.wanted
        self.assertEqual(address, AppAddress("127.0.0.1", 3001))
        link = self.bench.dial()
        self.assertEqual(len(link.command("authenticate|cymru|")), 2)

    def test_tag(self) -> None:
        """The request goes to an application with the tag that routed the method."""
        links = []
        for tags in ("red", "blue", "blue,green"):
            link = self.bench.link()
            link.command(f"authenticate|cymru|{tags}")
            link.command("route|invite")
            links.append(link)
        self.decide(RouteTo(tag="green"))
        self.assertEqual([len(link.take()) for link in links], [0, 0, 1])

    def test_unknown_tag(self) -> None:
        """A tag that nobody has is 480."""
        [response] = self.decide(RouteTo(tag="red"))
        self.assertEqual(response.status, 480)

    def test_no_decision(self) -> None:
        """Without a decision the caller gets 500."""
        [response] = self.decide(None)
        self.assertEqual((response.status, response.reason), (500, "Server Internal Error"))

    def test_cancelled_meanwhile(self) -> None:
        """A call that was cancelled is not refused again, but an application gets to know it."""
        self.bench.receive(request("CANCEL"))
        self.bench.heads()
        self.assertEqual(self.decide(Reject(404)), [])
        self.decide(RouteTo(AppAddress("127.0.0.1", 3001)))
        _, invite, cancel = self.bench.dial().command("authenticate|cymru|")
        self.assertIn("\r\nINVITE ", invite)
        self.assertIn("\r\nCANCEL ", cancel)

    def test_handlers(self) -> None:
        """What is no handler is refused."""
        for bad in (
            "ftp://a",
            "http://",
            "http://a:b@",
            "http://a@/b",
            "tcp://a",
            "127.0.0.1:3001",
            " http://a",
        ):
            self.assertRaises(LocalProtocolError, RequestHandler, bad)
        self.assertRaises(LocalProtocolError, RequestHandler, "http://a", http_method="PUT")


class WebCallbackTests(TestCase):
    """A phone, a server, a web callback and a listening application, over real sockets."""

    timeout = 30

    async def start(self, decide: Any, **handler: Any) -> Phone:
        """Start all of them."""
        clock = cast(Any, reactor)
        site = Site(routing.RoutingResource(decide))
        web = clock.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(web.stopListening)
        uri = f"http://127.0.0.1:{web.getHost().port}"
        config = ServerConfig(
            admin_port=None,
            contacts=("sip:127.0.0.1:0;transport=udp",),
            request_handlers=(RequestHandler(uri, **handler),),
        )
        server = DrachtioServer(config, clock)
        server.startService()
        self.addCleanup(server.stopService)
        await server.when_listening()
        port = int(server.sip_addresses[0].rpartition(":")[2])
        phone = Phone(("127.0.0.1", port), clock=clock)
        listening = clock.listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return phone

    async def test_outbound_call(self) -> None:
        """The callback names the application, the server connects to it, the call is answered."""
        srf = Srf()
        closed: list[object] = []
        srf.on_close(closed.append)
        ended = []

        @srf.invite
        async def answer(req: Request, res: Response) -> None:
            dialog = await srf.create_uas(req, res, local_sdp=req.body)
            ended.append(await dialog.when_ended())
            srf.end_session(dialog)

        listener = srf.listen(port=0, host="127.0.0.1", secret="cymru")
        self.addCleanup(srf.stop)
        address: Any = await listener.when_listening()
        queries: list[RoutingQuery] = []

        def decide(query: RoutingQuery) -> Decision:
            queries.append(query)
            return routing.route(f"127.0.0.1:{address.port}")

        phone = await self.start(decide)
        call = await phone.call("sip:hello@127.0.0.1;x=1")
        await call.hang_up()
        self.assertEqual(len(ended), 1)
        [query] = queries
        found = (query.method, query.uri_user, query.from_user, query.protocol, query.content_type)
        self.assertEqual(found, ("INVITE", "hello", "phone", "udp", "application/sdp"))
        self.assertEqual((query.domain, query.uri_params), ("127.0.0.1", {"x": "1"}))

    async def test_refused(self) -> None:
        """The callback may refuse; POST takes the message along."""
        seen: list[str] = []

        def decide(query: RoutingQuery, message: Any) -> Decision:
            seen.append(message.get("User-Agent"))
            return routing.reject(486, "Not now")

        phone = await self.start(decide, http_method="POST")
        error: Any = await self.assertFailure(phone.call("sip:a@127.0.0.1"), SipError)
        self.assertEqual((error.status, error.reason), (486, "Not now"))
        self.assertEqual(seen, ["drachtwist phone"])

    async def test_failing_callback(self) -> None:
        """A callback that fails is a 500 for the caller."""

        def decide(query: RoutingQuery) -> Decision:
            raise ZeroDivisionError

        phone = await self.start(decide)
        error: Any = await self.assertFailure(phone.call("sip:a@127.0.0.1"), SipError)
        self.assertEqual(error.status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
