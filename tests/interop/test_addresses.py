"""SIPp on IPv6, and on both sides of a NAT."""

from __future__ import annotations

from tests.interop.peers import HERE, InteropTestCase, free_port, need_sipp


class AddressTests(InteropTestCase):
    async def serve(self, *contact: str) -> None:
        """Start a server and an application."""
        need_sipp()
        admin = free_port()
        server = self.twistd(
            *("drachtio-server", "--noconfig", "--port", str(admin), "--contact", *contact)
        )
        await server.when_prints("listening")
        app = self.twistd(
            *("drachtio", "--app", str(HERE / "app.py"), "--endpoint", f"tcp:127.0.0.1:{admin}"),
            DRACHTIO_SECRET="cymru",
        )
        await app.when_prints("connected")

    async def call(self, server: str, host: str, transport: str = "udp") -> str:
        """Place calls from an address; give what SIPp sent and received."""
        messages = self.directory / f"{host.strip('[]')}-{transport}.log"
        await self.succeeds(
            self.spawn(
                f"sipp at {host} over {transport}",
                *(need_sipp(), "-sn", "uac", server, "-i", host, "-p", str(free_port())),
                *("-t", f"{transport[0]}1", "-m", "3", "-nostdin", "-timeout", "90s"),
                *("-timeout_error", "-trace_err", "-trace_msg", "-message_file", str(messages)),
                TERM="dumb",
            )
        )
        return messages.read_text("utf-8")

    async def test_ipv6(self) -> None:
        """Calls over IPv6, over UDP and TCP."""
        port = free_port()
        await self.serve(f"sip:[::1]:{port};transport=udp,tcp")
        for transport in ("udp", "tcp"):
            messages = await self.call(f"[::1]:{port}", "[::1]", transport)
            self.assertIn(f"Contact: <sip:[::1]:{port}", messages)

    async def test_nat(self) -> None:
        """Whoever calls from outside is told the external address, from inside the bound one."""
        port = free_port()
        await self.serve(
            f"sip:127.0.1.1:{port};transport=udp,tcp",
            *("--external-ip", "192.0.2.1", "--local-net", "127.0.1.0/24"),
        )
        for transport in ("udp", "tcp"):
            for host, own in (("127.0.3.5", "192.0.2.1"), ("127.0.1.5", "127.0.1.1")):
                messages = await self.call(f"127.0.1.1:{port}", host, transport)
                self.assertIn(f"Contact: <sip:{own}:{port}", messages)
