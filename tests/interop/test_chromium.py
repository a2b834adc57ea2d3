"""Phones in a real browser: two tabs of Chromium, with its own WebRTC."""

from __future__ import annotations

from tests.interop.peers import HERE, InteropTestCase, free_port, need_chromium, need_node

STEPS = 2 + 2 * 6


class ChromiumTests(InteropTestCase):
    async def test_two_tabs(self) -> None:
        """They talk through a B2BUA, hold, resume and restart ICE; either side hangs up."""
        chromium = need_chromium()
        node = need_node("jssip", "playwright-core", "esbuild")
        port = free_port()
        app = self.twistd(
            "drachtio",
            *("--app", str(HERE / "webapp.py")),
            *("--contact", f"sip:127.0.0.1:{free_port()};transport=udp"),
            *("--contact", f"sip:127.0.0.1:{port};transport=ws"),
        )
        await app.when_prints("connected")
        peer = self.spawn(
            "chromium",
            node,
            str(HERE / "chromium.js"),
            *(chromium, f"ws://127.0.0.1:{port}", str(self.directory / "profile")),
        )
        await self.succeeds(peer)
        self.assertEqual(peer.output.count(b"\n"), STEPS, str(peer))
