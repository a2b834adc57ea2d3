"""``twistd drachtio-server`` as a process, and what its command line refuses."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.server_tap import ELSEWHERE, MISSING, Options
from drachtwist.version import VERSION
from tests.certificates import identity
from tests.interop.peers import InteropTestCase, Peer, free_port


class OptionsTests(SynchronousTestCase):
    def parse(self, *words: str, **environment: str) -> Options:
        """Read a command line."""
        options = Options()
        options.environment = environment
        options.parseOptions(list(words))
        return options

    def test_flags_of_the_real_server(self) -> None:
        """A flag that only the real server has is refused by name, in every spelling."""
        known = {name for name, *_ in Options.optParameters}
        self.assertEqual(known & (MISSING | set(ELSEWHERE)), set())
        for name in sorted(MISSING | set(ELSEWHERE)):
            flag = f"--{name}" if len(name) > 1 else f"-{name}"
            for words in ((flag, "value"), (f"{flag}=value",)):
                error = self.assertRaises(usage.UsageError, self.parse, *words)
                self.assertIn(flag, str(error))

    def test_secret_is_hidden(self) -> None:
        """The secret is shown neither by the options nor by the settings."""
        options = self.parse("--secret", "hush-hush")
        self.assertEqual(options["config"].secret, "hush-hush")
        self.assertNotIn("hush-hush", repr(dict(options)) + repr(options["config"]))

    def test_other_machines(self) -> None:
        """A server that other machines reach serves them once it has a secret."""
        options = self.parse("--address", "0.0.0.0", DRACHTIO_SECRET="s")
        self.assertEqual(options["config"].admin_host, "0.0.0.0")

    def test_unreadable_key(self) -> None:
        """TLS files that cannot be used are refused at the start, not at the first call."""
        missing = self.mktemp()
        error = self.assertRaises(
            usage.UsageError,
            self.parse,
            *("--tls-port", "1", "--key-file", missing, "--cert-file", missing),
        )
        self.assertIn("cannot read the TLS", str(error))

    def test_version(self) -> None:
        """The version is that of the package."""
        shown = io.StringIO()
        with redirect_stdout(shown):
            self.assertRaises(SystemExit, self.parse, "--version")
        self.assertEqual(shown.getvalue(), f"drachtwist {VERSION}\n")


class ProcessTests(InteropTestCase):
    """Real processes."""

    def server(self, *words: str, sip: int = 0) -> Peer:
        """Start a server."""
        contact = f"sip:127.0.0.1:{sip or free_port()};transport=udp,tcp"
        return self.twistd(
            "drachtio-server", "--contact", contact, *words, DRACHTIO_SECRET="hush-hush"
        )

    async def test_stops(self) -> None:
        """It says where it listens, and SIGTERM ends it with exit status 0."""
        sip, admin = free_port(), free_port()
        peer = self.server("--port", str(admin), sip=sip)
        await peer.when_prints("listening")
        await peer.when_prints(f"SIP on udp/127.0.0.1:{sip}, tcp/127.0.0.1:{sip}")
        await peer.when_prints(f"applications on tcp:{admin}")
        peer.kill("TERM")
        self.assertEqual(await peer.ended, 0, str(peer))
        self.assertNotIn(b"hush-hush", peer.output)

    async def test_both_ports(self) -> None:
        """TCP and TLS are served side by side."""
        me = identity()
        key, certificate = Path(self.directory, "key.pem"), Path(self.directory, "cert.pem")
        key.write_bytes(me.key)
        certificate.write_bytes(me.certificate)
        tcp, tls = free_port(), free_port()
        peer = self.server(
            *("--port", str(tcp), "--tls-port", str(tls)),
            *("--key-file", str(key), "--cert-file", str(certificate)),
        )
        await peer.when_prints(f"applications on tcp:{tcp}, tls:{tls}")

    async def test_taken_ports(self) -> None:
        """A port that is taken ends it with status 1 and a line, not with a traceback."""
        sip, admin = free_port(), free_port()
        first = self.server("--port", str(admin), sip=sip)
        await first.when_prints("listening")
        for words, port in ((("--port", str(free_port())), sip), (("--port", str(admin)), 0)):
            second = self.server(*words, sip=port)
            self.assertEqual(await second.ended, 1, str(second))
            self.assertIn(b"the server cannot start", second.output)
            self.assertIn(b"in use", second.output)
            self.assertNotIn(b"Traceback", second.output)
