"""Certificates are renewed while calls are up, and nobody notices."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from OpenSSL import crypto
from twisted.internet import protocol
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IHandshakeListener
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from drachtwist import SipError, Srf, TlsOptions
from drachtwist.demo.phone import Call, Phone
from drachtwist.server.config import RequestHandler
from drachtwist.server.spammers import Spammers
from tests.certificates import Identity, identity
from tests.interop.peers import InteropTestCase, free_port
from tests.server.phones import ServerCase

reactor: Any = installed_reactor
APP = """
from drachtwist import Srf
srf = Srf()
@srf.invite
async def answer(req, res):
    call = await srf.create_uas(req, res, local_sdp=req.body)
    print("in a call")
    await call.when_ended()
"""


@implementer(IHandshakeListener)
class Looker(protocol.ClientFactory, protocol.Protocol):
    """Looks at the certificate that a port shows."""

    noisy = False

    def __init__(self) -> None:
        self.seen: Deferred[bytes] = Deferred()

    def buildProtocol(self, addr: Any) -> Any:
        return self

    def handshakeCompleted(self) -> None:
        shown = cast(Any, self.transport).getPeerCertificate()
        self.seen.callback(crypto.dump_certificate(crypto.FILETYPE_PEM, shown))
        cast(Any, self.transport).abortConnection()


class Files:
    """A key and a certificate in files."""

    def __init__(self, directory: str | Path) -> None:
        self.key, self.certificate = Path(directory) / "key.pem", Path(directory) / "cert.pem"
        self.key.parent.mkdir(parents=True, exist_ok=True)

    def hold(self, made: Identity) -> None:
        self.key.write_bytes(made.key)
        self.certificate.write_bytes(made.certificate)

    def options(self, **more: Any) -> TlsOptions:
        return TlsOptions(key=self.key, certificate=self.certificate, **more)


async def shown(port: int | None) -> bytes:
    """Give the certificate that a port shows to new connections."""
    looker = Looker()
    creator = TlsOptions(verify=False).client_creator("127.0.0.1")
    endpoint = wrapClientTLS(creator, HostnameEndpoint(reactor, "127.0.0.1", port or 0))
    await endpoint.connect(looker)
    return await looker.seen


def pair() -> tuple[Identity, Identity]:
    """Make a certificate and the one that it is renewed by."""
    return identity("127.0.0.1", "localhost"), identity("localhost", "127.0.0.1")


class ServerTests(ServerCase):
    """An embedded server."""

    async def test_held_call(self) -> None:
        """A call over TLS goes on; new connections see the new certificate, on every port."""
        old, new = pair()
        files = Files(self.mktemp())
        files.hold(old)
        server = await self.serve(
            admin_tls_port=0,
            contacts=("sips:127.0.0.1:0",),
            tls=files.options(verify=False),
        )
        srf = Srf()
        self.answering(srf)
        self.addCleanup(srf.stop)
        tls = TlsOptions(ca=old.certificate)
        connection = srf.connect(f"tls:127.0.0.1:{server.admin_tls_port}", secret="cymru", tls=tls)
        link = await connection.when_connected()
        phone_tls = TlsOptions(key=old.key, certificate=old.certificate, ca=old.certificate)
        phone = self.talker("sips:127.0.0.1:0", server, tls=phone_tls)
        invite, answer = await phone.call("sips:a@127.0.0.1")
        sip = int(server.sip_addresses[0].rpartition(":")[2])

        files.hold(new)
        for port in (sip, server.admin_tls_port):
            self.assertEqual(await shown(port), old.certificate)
        self.assertEqual(server.reload(), [])
        for port in (sip, server.admin_tls_port):
            self.assertEqual(await shown(port), new.certificate)

        # What cannot be used leaves everything as it is, and is told.
        for name in ("key", "certificate"):
            files.hold(new)
            getattr(files, name).write_bytes(old.key if name == "key" else b"nothing")
            problems = server.reload()
            self.assertEqual(len(problems), 3)
            for port in (sip, server.admin_tls_port):
                self.assertEqual(await shown(port), new.certificate)

        await phone.hang_up(invite, answer)
        self.assertIs(connection.link, link)
        self.assertTrue(link.authenticated)

    async def test_outgoing(self) -> None:
        """Whom to trust is read again too: applications, and SIP peers."""
        mine, stranger = pair()
        ca = Path(self.mktemp())
        ca.write_bytes(stranger.certificate)
        app = Srf()
        app.options(lambda req, res: res.send(200))
        self.addCleanup(app.stop)
        listener = app.listen(
            port=0,
            host="127.0.0.1",
            secret="cymru",
            tls=TlsOptions(key=mine.key, certificate=mine.certificate),
        )
        address: Any = await listener.when_listening()
        callee = self.talker(
            "sips:127.0.0.1:0", tls=TlsOptions(key=mine.key, certificate=mine.certificate)
        )
        server = await self.serve(
            admin_port=0,
            request_handlers=(RequestHandler(f"tls://127.0.0.1:{address.port}", "OPTIONS"),),
            contacts=("sip:127.0.0.1:0;transport=udp", "sips:127.0.0.1:0"),
            tls=TlsOptions(key=mine.key, certificate=mine.certificate, verify=False),
            verify_applications=True,
            application_ca=ca,
            peer_ca=ca,
        )
        phone = self.talker("sip:127.0.0.1:0;transport=udp", server)
        srf = Srf()
        await self.connect(srf, server)
        for trusted, status in ((stranger, 480), (stranger, 480), (mine, 200)):
            ca.write_bytes(trusted.certificate)
            self.assertEqual(server.reload(), [])
            asked = phone.ask("OPTIONS", "sip:a@127.0.0.1")
            self.assertEqual((await phone.response(asked)).status, status)
            sending = srf.request(f"sips:b@{callee.address}", method="INFO")
            if status == 200:
                callee.answer(await callee.request("INFO"), 200)
            self.assertEqual((await sending).status, 503 if status == 480 else 200)
        ca.write_bytes(b"nothing")
        self.assertEqual(len(server.reload()), 2)
        asked = phone.ask("OPTIONS", "sip:a@127.0.0.1")
        self.assertEqual((await phone.response(asked)).status, 200)

    async def test_spammers(self) -> None:
        """The list of spammers changes at once."""
        server = await self.serve(contacts=("sip:127.0.0.1:0;transport=udp",))
        srf = Srf()
        srf.options(lambda req, res: res.send(200))
        await self.connect(srf, server)
        phone = self.talker("sip:127.0.0.1:0;transport=udp", server)
        pests = Spammers((("from", ("phone",)),), action="reject")
        for spammers, status in ((None, 200), (pests, 603), (None, 200)):
            config = dataclasses.replace(server.config, spammers=spammers, secret="other")
            self.assertEqual(server.reload(config), [])
            asked = phone.ask("OPTIONS", "sip:a@127.0.0.1")
            self.assertEqual((await phone.response(asked)).status, status)
        self.assertEqual(server.config.secret, "cymru")


class ApplicationTests(TestCase):
    """An application."""

    timeout = 20

    async def test_listener(self) -> None:
        """A listener shows the new certificate, or keeps the old one."""
        old, new = pair()
        files = Files(self.mktemp())
        files.hold(old)
        srf = Srf()
        self.addCleanup(srf.stop)
        listener = srf.listen(port=0, host="127.0.0.1", secret="cymru", tls=files.options())
        address: Any = await listener.when_listening()
        files.hold(new)
        self.assertEqual(srf.reload_tls(), [])
        self.assertEqual(await shown(address.port), new.certificate)
        files.certificate.unlink()
        [problem] = srf.reload_tls()
        self.assertIn("cert.pem", str(problem))
        self.assertEqual(await shown(address.port), new.certificate)


class SignalTests(InteropTestCase):
    """Real processes, and a real SIGHUP."""

    async def call(self, port: int) -> tuple[Phone, Call]:
        """Call an application that answers."""
        phone = Phone(("127.0.0.1", port), clock=reactor)
        listening = reactor.listenUDP(0, phone, interface="127.0.0.1")
        self.addCleanup(listening.stopListening)
        return phone, await phone.call(f"sip:a@127.0.0.1:{port}")

    async def test_server(self) -> None:
        """A server reads certificates and the list of spammers again; the call does not notice."""
        old, new = pair()
        files = Files(self.directory)
        files.hold(old)
        admin, admin_tls, sip = free_port(), free_port(), free_port()
        config = self.directory / "drachtio.conf.xml"

        def configure(spammers: str = "") -> None:
            config.write_text(
                f'<drachtio><admin port="{admin}" tls-port="{admin_tls}">127.0.0.1</admin><sip>'
                f"<contacts><contact>sip:127.0.0.1:{sip};transport=udp</contact></contacts>"
                f"<tls><key-file>{files.key}</key-file><cert-file>{files.certificate}</cert-file>"
                f"</tls>{spammers}</sip></drachtio>"
            )

        configure()
        peer = self.twistd("drachtio-server", "--file", str(config))
        await peer.when_prints("listening")
        (self.directory / "app.py").write_text(APP)
        app = self.twistd(
            *("drachtio", "--app", str(self.directory / "app.py")),
            *("--endpoint", f"tcp:127.0.0.1:{admin}"),
            DRACHTIO_SECRET="admin",
        )
        await app.when_prints("connected")
        phone, call = await self.call(sip)
        self.assertEqual(await shown(admin_tls), old.certificate)
        files.hold(new)
        configure(
            '<spammers action="reject"><header name="From">'
            f"<value>{phone.user}</value></header></spammers>"
        )
        peer.kill("HUP")
        await peer.when_prints("read again")
        self.assertEqual(await shown(admin_tls), new.certificate)
        asking = phone.request("OPTIONS", f"sip:a@127.0.0.1:{sip}")
        refusal: Any = await self.assertFailure(asking, SipError)
        self.assertEqual(refusal.status, 603)

        files.key.write_bytes(b"nothing")
        peer.kill("HUP")
        await peer.when_prints("everything stays as it was: cannot use the TLS key")
        self.assertEqual(await shown(admin_tls), new.certificate)
        config.write_text("<drachtio>")
        peer.kill("HUP")
        await peer.when_prints("everything stays as it was: " + str(config))

        self.assertEqual((await call.hang_up()).status, 200)
        for process in (app, peer):
            process.kill("TERM")
            self.assertEqual(await process.ended, 0, str(process))

    async def test_application(self) -> None:
        """So does an application, with the server in its process and the ports it listens on."""
        old, new = pair()
        files = Files(self.directory)
        files.hold(old)
        sip, sips, web = free_port(), free_port(), free_port()
        path = self.directory / "app.py"
        path.write_text(APP + "\n\ndef where(query):\n    return {}\n")
        peer = self.twistd(
            *("drachtio", "--app", str(path)),
            *("--contact", f"sip:127.0.0.1:{sip};transport=udp"),
            *("--contact", f"sips:127.0.0.1:{sips}"),
            *("--routing", f"tls:{web}:interface=127.0.0.1", "--routing-app", f"{path}:where"),
            *("--tls-key", str(files.key), "--tls-cert", str(files.certificate)),
        )
        await peer.when_prints("connected")
        _, call = await self.call(sip)
        for port in (sips, web):
            self.assertEqual(await shown(port), old.certificate)
        files.hold(new)
        peer.kill("HUP")
        await peer.when_prints("read again")
        for port in (sips, web):
            self.assertEqual(await shown(port), new.certificate)
        files.certificate.write_bytes(b"nothing")
        peer.kill("HUP")
        await peer.when_prints("what was read before is kept")
        for port in (sips, web):
            self.assertEqual(await shown(port), new.certificate)
        self.assertEqual((await call.hang_up()).status, 200)
        peer.kill("TERM")
        self.assertEqual(await peer.ended, 0, str(peer))
