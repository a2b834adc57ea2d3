"""Applications and servers as services, and on endpoints that somebody else made."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXServerEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer
from zope.interface.verify import verifyObject

from drachtwist import Request, Response, Srf, SrfService, TlsOptions
from drachtwist.errors import LocalProtocolError
from drachtwist.net.protocol import DrachtioServerFactory
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.service import DrachtioServer
from tests.certificates import identity
from tests.interop.peers import free_port
from tests.server.phones import ServerCase, Talker, ready

reactor: Any = installed_reactor
SIP = "sip:127.0.0.1:0;transport=udp"


def answering() -> Srf:
    """Make an application that answers OPTIONS and calls."""
    srf = Srf()
    srf.options(lambda req, res: res.send(200))

    @srf.invite
    async def answer(req: Request, res: Response) -> None:
        await srf.create_uas(req, res, local_sdp="v=0\r\n")

    return srf


class ServiceTests(ServerCase):
    def phone_for(self, server: DrachtioServer) -> Talker:
        """Make a phone that calls a server."""
        return self.talker(SIP, server)

    def server(self, **options: Any) -> DrachtioServer:
        """Make a server that is not started."""
        self.admin = free_port()
        options.setdefault("admin_port", self.admin)
        return DrachtioServer(ServerConfig(contacts=(SIP,), **options), reactor)

    async def together(self, *services: Any) -> MultiService:
        """Start services in one parent."""
        parent = MultiService()
        for service in services:
            verifyObject(IService, service)
            service.setServiceParent(parent)
        parent.privilegedStartService()
        parent.startService()
        self.addCleanup(lambda: parent.stopService() if parent.running else None)
        return parent

    async def up(self, srf: Srf) -> None:
        """Wait until a server knows the routes of an application."""
        [connection] = srf._connections.endpoints.made
        await ready(await connection.when_connected())

    async def test_together(self) -> None:
        """They start in order, and calls are hung up on before everything is closed."""
        server, srf = self.server(), answering()
        parent = await self.together(
            server, SrfService(srf, f"tcp:127.0.0.1:{self.admin}", secret="cymru")
        )
        failures: list[Exception] = []
        srf.on_error(failures.append)
        await server.when_listening()
        await self.up(srf)
        self.assertEqual(failures, [])  # the first attempt found the server
        phone = self.phone_for(server)
        await phone.call("sip:a@127.0.0.1")
        stopping: Deferred[Any] = parent.stopService()
        bye = await phone.request("BYE")
        self.assertIsNotNone(server.transports)
        phone.answer(bye, 200)
        await stopping
        self.assertEqual((server.transports, srf.links), (None, []))

    async def test_again(self) -> None:
        """What was stopped can be started again."""
        server, srf = self.server(), answering()
        parent = await self.together(
            server, SrfService(srf, f"tcp:127.0.0.1:{self.admin}", secret="cymru")
        )
        for _ in range(3):
            await server.when_listening()
            await self.up(srf)
            phone = self.phone_for(server)
            asked = phone.ask("OPTIONS", "sip:a@127.0.0.1")
            self.assertEqual((await phone.response(asked)).status, 200)
            await phone.transports.stop()
            await parent.stopService()
            parent.startService()

    async def test_it_connected_itself(self) -> None:
        """An application that has connected itself is stopped, and drained, all the same."""
        server, srf = self.server(), answering()
        service = SrfService(srf, drain=60)
        parent = await self.together(server, service)
        await server.when_listening()
        srf.connect(f"tcp:127.0.0.1:{self.admin}", secret="cymru")
        await self.up(srf)
        phone = self.phone_for(server)
        invite, answer = await phone.call("sip:a@127.0.0.1")
        stopping = parent.stopService()
        self.assertIsNotNone(service.stopping)
        await phone.hang_up(invite, answer)
        await stopping
        self.assertEqual((server.transports, srf.links, service.stopping), (None, [], None))

    async def test_one_alone(self) -> None:
        """Taking a server out of a parent does not wait for an application that goes on."""
        server, srf = self.server(), answering()
        service = SrfService(srf, f"tcp:127.0.0.1:{self.admin}", secret="cymru")
        await self.together(server, service)
        await server.when_listening()
        await self.up(srf)
        await server.disownServiceParent()
        self.assertIsNone(server.transports)
        await service.disownServiceParent()
        self.assertEqual(srf.links, [])

    async def test_listening(self) -> None:
        """It listens too, before privileges are given up."""
        port, srf = free_port(), answering()
        service = SrfService(
            srf, f"tcp:{port}:interface=127.0.0.1", secret="cymru", allow=["127.0.0.1"]
        )
        service.privilegedStartService()
        [listener] = srf._connections.endpoints.listeners
        self.assertIsNotNone(listener.address)
        service.startService()
        self.assertEqual(srf._connections.endpoints.listeners, [listener])
        server = self.server(
            admin_port=None, request_handlers=(RequestHandler(f"tcp://127.0.0.1:{port}"),)
        )
        parent = await self.together(server)
        await server.when_listening()
        phone = self.phone_for(server)
        asked = phone.ask("OPTIONS", "sip:a@127.0.0.1")
        self.assertEqual((await phone.response(asked)).status, 200)
        await service.stopService()
        await parent.stopService()

    def test_refused(self) -> None:
        """What cannot be meant is refused when it is written, not when it is started."""
        srf = Srf()
        for wrong in (
            lambda: SrfService(srf, "tcp:a:9022"),
            lambda: SrfService(srf, secret="cymru"),
            lambda: SrfService(srf, "udp:9022", secret="cymru"),
            lambda: SrfService(srf, "tls:9023", secret="cymru"),
            lambda: SrfService(srf, "tcp:9022", secret="cymru", allow=["all"]),
            lambda: SrfService(srf, 9022, secret="cymru"),  # type: ignore[arg-type]
        ):
            make: Callable[[], Any] = wrong
            self.assertRaises(LocalProtocolError, make)

    async def test_taken_port(self) -> None:
        """A server that cannot start says so, although nobody asks."""
        first = self.server()
        await self.together(first)
        await first.when_listening()
        second = DrachtioServer(dataclasses.replace(first.config), reactor)
        said: list[str] = []
        hear: Any = lambda event: said.append(str(event.get("log_format")))  # noqa: E731
        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)
        second.startService()
        self.assertTrue(any("the server cannot start" in line for line in said))
        await second.stopService()


class EndpointTests(ServerCase):
    """Endpoints of Twisted, made by whoever uses them."""

    async def check(self, srf: Srf, server: DrachtioServer) -> None:
        """Ask the application through the server."""
        phone = self.talker(SIP, server)
        asked = phone.ask("OPTIONS", "sip:a@127.0.0.1")
        self.assertEqual((await phone.response(asked)).status, 200)

    async def test_client_endpoints(self) -> None:
        """An application connects through any endpoint, with TLS that somebody else wrapped too."""
        me = identity()
        server = await self.serve(
            contacts=(SIP,),
            admin_tls_port=0,
            tls=TlsOptions(key=me.key, certificate=me.certificate),
        )
        tls = TlsOptions(ca=me.certificate).client_creator("127.0.0.1")
        wrapped = HostnameEndpoint(reactor, "127.0.0.1", server.admin_tls_port or 0)
        for endpoint, encrypted in (
            (TCP4ClientEndpoint(reactor, "127.0.0.1", server.admin_port or 0), False),
            (HostnameEndpoint(reactor, "localhost", server.admin_port or 0), False),
            (wrapClientTLS(tls, wrapped), True),
        ):
            srf = answering()
            connection = srf.connect(endpoint, secret="cymru")
            await ready(await connection.when_connected())
            self.assertEqual(connection.tls, encrypted)
            self.assertIn("Endpoint", connection.endpoint)
            await self.check(srf, server)
            await srf.stop()

    async def test_server_endpoints(self) -> None:
        """And it listens on any endpoint."""
        me = identity()
        creator = TlsOptions(key=me.key, certificate=me.certificate).server_context()

        @implementer(IStreamServerEndpoint)
        class Wrapped:
            """TLS that somebody else wrapped."""

            def listen(self, protocolFactory: Any) -> Any:
                plain = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
                return plain.listen(TLSMemoryBIOFactory(creator, False, protocolFactory))

        for scheme, endpoint in (
            ("tcp", TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")),
            ("tls", Wrapped()),
        ):
            for allow, status in (((), 200), (("10.0.0.0/8",), 480)):
                srf = answering()
                listener = srf.listen(endpoint, secret="cymru", allow=allow)
                address: Any = await listener.when_listening()
                handler = RequestHandler(f"{scheme}://127.0.0.1:{address.port}")
                server = await self.serve(
                    contacts=(SIP,), admin_port=None, request_handlers=(handler,)
                )
                phone = self.talker(SIP, server)
                asked = phone.ask("OPTIONS", "sip:a@127.0.0.1")
                self.assertEqual((await phone.response(asked)).status, status)
                await server.stopService()
                await srf.stop()

    async def test_unix(self) -> None:
        """A socket of the file system has no host and no port, and serves as well."""
        server = await self.serve(contacts=(SIP,))
        path = Path(self.mktemp()).absolute()
        # Paths of sockets are short.
        short = Path("/tmp") / f"drachtwist-{path.name[-12:]}"
        self.addCleanup(lambda: short.unlink(missing_ok=True))
        factory: DrachtioServerFactory = server._factory
        port: Any = await UNIXServerEndpoint(reactor, str(short)).listen(factory)
        self.addCleanup(port.stopListening)
        srf = answering()
        connection = srf.connect(f"unix:{short}", secret="cymru")
        await ready(await connection.when_connected())
        await self.check(srf, server)
        await srf.stop()
