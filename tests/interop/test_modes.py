"""The four ways to be connected, between two processes over real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.certificates import identity
from tests.interop.peers import HERE, InteropTestCase, Peer, free_port, need_sipp

READY = "connected"


class ModeTests(InteropTestCase):
    """An application under twistd, and the embedded server under another twistd."""

    def setUp(self) -> None:
        """Write a certificate for both sides."""
        super().setUp()
        need_sipp()
        me = identity()
        self.key, self.certificate = (
            self.file("key.pem", me.key),
            self.file("cert.pem", me.certificate),
        )
        self.sip = free_port()

    def file(self, name: str, content: bytes) -> str:
        """Write a file into the test's directory."""
        path = Path(self.directory) / name
        path.write_bytes(content)
        return str(path)

    async def server(self, *arguments: str, contact: int = 0) -> Peer:
        """Start a server process."""
        peer = self.twistd(
            "drachtio-server",
            "--address",
            "127.0.0.1",
            "--contact",
            f"sip:127.0.0.1:{contact or self.sip};transport=udp,tcp",
            *arguments,
            DRACHTIO_SECRET="cymru",
        )
        await peer.when_prints("listening")
        return peer

    def app(self, *endpoints: str, arguments: tuple[str, ...] = ()) -> Peer:
        """Start an application process."""
        options: list[str] = []
        for endpoint in endpoints:
            options += ["--endpoint", endpoint]
        return self.twistd(
            "drachtio",
            *options,
            "--app",
            str(HERE / "app.py"),
            *arguments,
            DRACHTIO_SECRET="cymru",
        )

    async def call(self, port: int = 0, **options: Any) -> None:
        """Place calls, which must succeed."""
        await self.succeeds(self.sipp(port or self.sip, "-sn", "uac", calls=3, **options))

    async def test_inbound_tcp(self) -> None:
        """tcp:host:port"""
        admin = free_port()
        await self.server("--port", str(admin))
        await self.app(f"tcp:127.0.0.1:{admin}").when_prints(READY)
        await self.call()

    async def test_inbound_tls(self) -> None:
        """tls:host:port, with a certificate that is trusted by naming it."""
        admin = free_port()
        await self.server(
            "--tls-port",
            str(admin),
            "--port",
            "0",
            "--key-file",
            self.key,
            "--cert-file",
            self.certificate,
        )
        app = self.app(f"tls:127.0.0.1:{admin}", arguments=("--tls-ca", self.certificate))
        await app.when_prints(READY)
        await self.call()

    async def test_untrusted(self) -> None:
        """A certificate that was not named is refused, with a message that says so."""
        admin = free_port()
        await self.server(
            "--tls-port",
            str(admin),
            "--port",
            "0",
            "--key-file",
            self.key,
            "--cert-file",
            self.certificate,
        )
        app = self.app(f"tls:127.0.0.1:{admin}")
        await app.when_prints("not trusted")

    async def test_outbound_tcp(self) -> None:
        """tcp:port: the server connects for each call, and end_session closes the connection."""
        port = free_port()
        app = self.app(f"tcp:{port}:interface=127.0.0.1")
        await app.when_prints("listening")
        await self.server("--port", "0", "--http-handler", f"tcp://127.0.0.1:{port}")
        await self.call()

    async def test_outbound_tls(self) -> None:
        """tls:port:privateKey=...:certKey=..."""
        port = free_port()
        app = self.app(
            f"tls:{port}:interface=127.0.0.1:privateKey={self.key}:certKey={self.certificate}"
        )
        await app.when_prints("listening")
        await self.server("--port", "0", "--http-handler", f"tls://127.0.0.1:{port}")
        await self.call()

    async def test_both_at_once(self) -> None:
        """One Srf with an inbound and an outbound endpoint serves both."""
        port, admin, other = free_port(), free_port(), free_port()
        await self.server("--port", str(admin))
        app = self.app(f"tcp:127.0.0.1:{admin}", f"tcp:{port}:interface=127.0.0.1")
        await app.when_prints(READY)
        await self.server("--port", "0", "--http-handler", f"tcp://127.0.0.1:{port}", contact=other)
        await self.call()
        await self.call(other)

    async def test_server_comes_back(self) -> None:
        """A server that was killed and started again is used again, TLS still TLS."""
        admin = free_port()
        arguments = (
            "--tls-port",
            str(admin),
            "--port",
            "0",
            "--key-file",
            self.key,
            "--cert-file",
            self.certificate,
        )
        server = await self.server(*arguments)
        app = self.app(f"tls:127.0.0.1:{admin}", arguments=("--tls-ca", self.certificate))
        await app.when_prints(READY)
        await self.call()
        server.kill("KILL")
        await server.ended
        app.output = b""
        await self.server(*arguments)
        await app.when_prints(READY)
        await self.call()
