"""JsSIP, the client of many web pages, over WebSockets: registers, calls, is called."""

from __future__ import annotations

from pathlib import Path

from tests.certificates import identity
from tests.interop.peers import HERE, InteropTestCase, free_port, need_jssip

STEPS = 2 * 7 + 4


class JsSipTests(InteropTestCase):
    def setUp(self) -> None:
        """Write a certificate."""
        super().setUp()
        self.node = need_jssip()
        me = identity()
        self.key, self.certificate = self.file("key", me.key), self.file("cert", me.certificate)
        self.ws, self.wss = free_port(), free_port()
        self.contacts = (
            *("--contact", f"sip:127.0.0.1:{free_port()};transport=udp,tcp"),
            *("--contact", f"sip:127.0.0.1:{self.ws};transport=ws"),
            *("--contact", f"sip:127.0.0.1:{self.wss};transport=wss"),
        )

    def file(self, name: str, content: bytes) -> str:
        """Write a file into the test's directory."""
        path = Path(self.directory) / f"{name}.pem"
        path.write_bytes(content)
        return str(path)

    async def jssip(self, *urls: str) -> None:
        """Let Ann and Bob do all that they do, at these URLs."""
        peer = self.spawn(
            "jssip", self.node, str(HERE / "jssip.js"), *urls, self.certificate, TZ="UTC"
        )
        await self.succeeds(peer)
        self.assertEqual(peer.output.count(b"\n"), STEPS, str(peer))

    async def test_one_process(self) -> None:
        """Ann over ``ws`` and Bob over ``wss``; server and application are one process."""
        app = self.twistd(
            "drachtio",
            *("--app", str(HERE / "webapp.py")),
            *self.contacts,
            *("--tls-key", self.key, "--tls-cert", self.certificate),
        )
        await app.when_prints("connected")
        await self.jssip(f"ws://127.0.0.1:{self.ws}", f"wss://127.0.0.1:{self.wss}")
        await app.when_prints("proxied: 200")

    async def test_two_processes(self) -> None:
        """Ann over ``wss`` and Bob over ``ws``; the application is a process of its own."""
        admin = free_port()
        server = self.twistd(
            "drachtio-server",
            *("--port", str(admin), *self.contacts),
            *("--key-file", self.key, "--cert-file", self.certificate),
        )
        await server.when_prints("listening")
        app = self.twistd(
            "drachtio",
            *("--app", str(HERE / "webapp.py"), "--endpoint", f"tcp:127.0.0.1:{admin}"),
            DRACHTIO_SECRET="cymru",
        )
        await app.when_prints("connected")
        await self.jssip(f"wss://127.0.0.1:{self.wss}", f"ws://127.0.0.1:{self.ws}")
        await app.when_prints("proxied: 200")
