"""Every way to a TLS peer, with the same certificates: who does not prove its name gets nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import protocol
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.logger import globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory

from drachtwist import Request, Response, Srf, TlsOptions
from drachtwist.errors import ConnectionLost, DrachtwistError
from drachtwist.net.tls import Credentials
from drachtwist.server.asking import WebAsker
from drachtwist.server.config import RequestHandler
from drachtwist.wire.decisions import Reject, RoutingQuery
from tests.certificates import Careless, Case, authority, cases, identity
from tests.server.phones import ServerCase

reactor: Any = installed_reactor
TEXT = {"Content-Type": "text/plain"}


class Listener(protocol.ServerFactory, protocol.Protocol):
    """Shows a certificate, keeps what it hears, and says something back once.

    :param says: what.
    :param at_once: say it before anything was heard.
    """

    noisy = False

    def __init__(self, says: bytes = b"", *, at_once: bool = False) -> None:
        self.says = says
        self.at_once = at_once
        self.heard = b""
        self.over: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> Any:
        return self

    def connectionMade(self) -> None:
        if self.at_once:
            self._say()

    def _say(self) -> None:
        assert self.transport is not None
        self.transport.write(self.says)
        self.says = b""

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        self._say()
        if not self.over.called:
            self.over.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        if not self.over.called:
            self.over.callback(None)


class PathsTestCase(ServerCase):
    """Each path goes through the whole set of certificates."""

    def setUp(self) -> None:
        self.said: list[str] = []
        hear: Any = self._hear
        globalLogPublisher.addObserver(hear)
        self.addCleanup(globalLogPublisher.removeObserver, hear)

    def _hear(self, event: Any) -> None:
        if event.get("log_namespace", "").startswith("drachtwist"):
            self.said.append(event["log_format"].format(**event))

    def listen(
        self, case: Case, says: bytes = b"", *, at_once: bool = False
    ) -> tuple[Listener, int]:
        """Be the peer that shows a certificate; give what it hears, and its port."""
        listener = Listener(says, at_once=at_once)
        factory = TLSMemoryBIOFactory(Careless(case.identity), False, listener)
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return listener, port.getHost().port

    async def all(self, path: Callable[[Case, str], Any]) -> None:
        """Try all certificates under the name and the address of this machine.

        :param path: connects to a peer; gives what that heard, and what an operator is told.
        """
        for case in cases():
            for host in ("127.0.0.1", "localhost"):
                heard, told = await path(case, host)
                about = (case.name, host, told)
                self.assertEqual(bool(heard), case.good, about)
                self.assertIn(case.problem, told, about)
        # A callback that fails is logged with a traceback, which none of these is a reason for.
        self.assertEqual(self.flushLoggedErrors(), [])


class ClientTests(PathsTestCase):
    """An application connects to a server."""

    async def test_inbound(self) -> None:
        """The secret goes to a server that proved its name, to nobody else."""

        async def connect(case: Case, host: str) -> tuple[bytes, str]:
            listener, port = self.listen(case)
            told: list[str] = []
            srf = Srf()
            srf.on_error(lambda error: told.append(str(error)))
            # A certificate of our own must make no difference.
            mine = identity()
            srf.connect(
                f"tls:{host}:{port}",
                secret="cymru",
                tls=TlsOptions(key=mine.key, certificate=mine.certificate, ca=case.trusted),
            )
            await listener.over
            await srf.stop()
            return listener.heard, " ".join(told)

        await self.all(connect)

    async def test_twisted_strings(self) -> None:
        """What Twisted's own strings stand for verifies as well."""

        async def connect(case: Case, host: str) -> tuple[bytes, str]:
            listener, port = self.listen(case)
            roots = Path(self.mktemp())
            roots.mkdir()
            (roots / "ca.pem").write_bytes(case.trusted)
            told: list[str] = []
            srf = Srf()
            srf.on_error(lambda error: told.append(str(error)))
            srf.connect(f"client:tls:{host}:{port}:trustRoots={roots}", secret="cymru")
            await listener.over
            await srf.stop()
            return listener.heard, " ".join(told)

        await self.all(connect)


class ApplicationTests(PathsTestCase):
    """A server connects to an application, or asks one over HTTPS."""

    async def test_outbound(self) -> None:
        """With verify_applications nobody else gets a frame, and the caller gets 480."""

        async def connect(case: Case, host: str) -> tuple[bytes, str]:
            listener, port = self.listen(case, b"20#m|authenticate|cymru", at_once=True)
            server = await self.serve(
                admin_port=None,
                request_handlers=(RequestHandler(f"tls://{host}:{port}"),),
                verify_applications=True,
                application_ca=case.trusted,
                contacts=("sip:127.0.0.1:0;transport=udp",),
            )
            self.said.clear()
            phone = self.talker("sip:127.0.0.1:0;transport=udp", server)
            asked = phone.ask("OPTIONS", "sip:a@127.0.0.1")
            await listener.over
            if not listener.heard:
                self.assertEqual((await phone.response(asked)).status, 480)
            said = " ".join(self.said)
            await phone.transports.stop()
            await server.stopService()
            return listener.heard, said

        await self.all(connect)

    async def test_web(self) -> None:
        """An HTTPS callback is asked under the same conditions."""
        body = b'{"action": "reject", "data": {"status": 486}}'
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

        async def ask(case: Case, host: str) -> tuple[bytes, str]:
            listener, port = self.listen(case, answer)
            trusting = Credentials(TlsOptions(ca=case.trusted))
            asker = WebAsker(reactor, f"https://{host}:{port}", credentials=trusting)
            told = ""
            try:
                self.assertEqual(await asker.ask(RoutingQuery("INVITE")), Reject(486))
            except DrachtwistError as error:
                told = str(error)
            await asker.close()
            return listener.heard, told

        await self.all(ask)


class PeerTests(PathsTestCase):
    """A server sends to SIP peers."""

    async def send(
        self, case: Case, uri: str, host: str, *, strictly: bool = True, **settings: Any
    ) -> tuple[bytes, str]:
        """Let an application send a MESSAGE; give what the peer heard, and what was said."""
        listener, port = self.listen(case)
        mine = identity()
        server = await self.serve(
            contacts=("sip:127.0.0.1:0;transport=udp", "sips:127.0.0.1:0"),
            tls=TlsOptions(key=mine.key, certificate=mine.certificate, verify=strictly),
            peer_ca=case.trusted,
            **settings,
        )
        srf = Srf()
        await self.connect(srf, server)
        self.said.clear()
        sending = srf.request(
            uri.format(host=host, port=port), method="MESSAGE", headers=TEXT, body="hush"
        )
        await listener.over
        if not listener.heard:
            self.assertEqual((await sending).status, 503)
        said = " ".join(self.said)
        await server.stopService()
        if listener.heard:
            self.assertIn(b"hush", listener.heard)
            await self.assertFailure(sending, ConnectionLost)
        await srf.stop()
        return listener.heard, said

    async def test_sips(self) -> None:
        """What ``sips:`` leads to is verified, also where other peers are not."""

        async def path(case: Case, host: str) -> tuple[bytes, str]:
            return await self.send(case, "sips:bob@{host}:{port}", host, strictly=False)

        await self.all(path)

    async def test_transport_tls(self) -> None:
        """All TLS peers are, if that is wanted."""

        async def path(case: Case, host: str) -> tuple[bytes, str]:
            return await self.send(case, "sip:bob@{host}:{port};transport=tls", host)

        await self.all(path)

    async def test_not_verified(self) -> None:
        """Whoever is at the address is taken for the peer, if that is wanted."""
        for case in cases():
            for uri, settings in (
                ("sip:bob@{host}:{port};transport=tls", {}),
                ("sips:bob@{host}:{port}", {"verify_sips": False}),
            ):
                heard, _ = await self.send(case, uri, "localhost", strictly=False, **settings)
                self.assertTrue(heard, (case.name, uri))


class ListenerTests(PathsTestCase):
    """A server connects to an application that wants to know who that is."""

    async def test_clients(self) -> None:
        """A server that is vouched for, under the right name, gets the secret; nobody else does."""
        mine, ca = identity(), authority()
        sip, other, nobody = ca.sign("sip.example"), ca.sign("other.example"), ca.sign()
        stranger = identity("sip.example")
        for names, shown, good in (
            ((), other, True),
            (("sip.example",), sip, True),
            (("sip.example",), other, False),
            (("sip.example",), nobody, False),
            ((), stranger, False),
            (("sip.example",), stranger, False),
            ((), None, False),
        ):
            srf = Srf()

            @srf.options
            def answer(req: Request, res: Response) -> None:
                res.send(200)

            listener = srf.listen(
                port=0,
                host="127.0.0.1",
                secret="cymru",
                tls=TlsOptions(
                    key=mine.key,
                    certificate=mine.certificate,
                    ca=ca.certificate,
                    verify_clients=True,
                    client_names=names,
                ),
            )
            address: Any = await listener.when_listening()
            server = await self.serve(
                admin_port=None,
                request_handlers=(RequestHandler(f"tls://127.0.0.1:{address.port}"),),
                contacts=("sip:127.0.0.1:0;transport=udp",),
                tls=shown and TlsOptions(key=shown.key, certificate=shown.certificate),
            )
            phone = self.talker("sip:127.0.0.1:0;transport=udp", server)
            asked = phone.ask("OPTIONS", "sip:a@127.0.0.1")
            status = (await phone.response(asked)).status
            self.assertEqual(status, 200 if good else 480, (names, shown))
            await phone.transports.stop()
            await server.stopService()
            await srf.stop()

    async def test_addresses(self) -> None:
        """Who is not where servers are is closed before the secret is shown."""
        for allow, good in (("127.0.0.0/8", True), ("10.0.0.0/8", False)):
            srf = Srf()
            srf.options(lambda req, res: res.send(200))
            listener = srf.listen(port=0, host="127.0.0.1", secret="cymru", allow=[allow])
            address: Any = await listener.when_listening()
            heard = Listener()
            got: Any = await TCP4ClientEndpoint(reactor, "127.0.0.1", address.port).connect(heard)
            await heard.over
            self.assertEqual(b"cymru" in heard.heard, good)
            self.assertEqual((bool(heard.heard), listener.refused), (good, not good))
            got.transport.abortConnection()
            await srf.stop()
