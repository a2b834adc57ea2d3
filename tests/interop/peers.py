"""Real peers for tests: processes with captured output, SIPp and the Node reference client.

Where a peer is not installed its tests are skipped; with ``DRACHTWIST_REQUIRE_INTEROP=1`` in the
environment, as in CI, they fail instead.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

from twisted.internet import error, reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, TestCase

from tests.certificates import identity
from tests.interop.phones import Callee, Caller, spoken
from tests.interop.relay import Relay

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SCENARIOS = HERE / "scenarios"
_chance = random.Random(os.urandom(8))
REQUIRED = os.environ.get("DRACHTWIST_REQUIRE_INTEROP") == "1"


def missing(what: str) -> None:
    """Skip the test, or fail where peers are required."""
    if REQUIRED:
        raise AssertionError(f"{what} is required here")
    raise SkipTest(f"{what} is not installed")


def need_sipp() -> str:
    """Give the path of SIPp."""
    path = shutil.which("sipp")
    if path is None:
        missing("SIPp (Debian: sip-tester)")
    return cast(str, path)


@cache
def _has(node: str, packages: tuple[str, ...]) -> bool:
    script = "".join(f"require('{package}');" for package in packages)
    done = subprocess.run([node, "-e", script], capture_output=True, timeout=30)
    return done.returncode == 0


def need_node(*packages: str) -> str:
    """Give the path of Node, with packages where it finds them (NODE_PATH).

    :param packages: drachtio-srf unless given.
    """
    path = shutil.which("node")
    if path is None:
        missing("Node.js")
    node = cast(str, path)
    packages = packages or ("drachtio-srf",)
    if not _has(node, packages):
        names = " ".join(packages)
        missing(f"{names} (npm install {names}, and NODE_PATH)")
    return node


def need_jssip() -> str:
    """Give the path of Node, with JsSIP and what it needs outside of a browser."""
    return need_node("jssip", "ws", "@roamhq/wrtc")


def _own_ports() -> Iterator[int]:
    """Give 99 ports, round and round, that other processes which run tests do not take.

    They are none of those that systems give to connections by themselves: somebody else would have
    taken such a one before the process that it is for has started.
    """
    while True:
        first = _chance.randrange(12_000, 32_000, 100)
        reserved = socket.socket()  # says that those behind it are ours, as long as we live
        try:
            reserved.bind(("127.0.0.1", first))
        except OSError:
            reserved.close()
            continue
        while True:
            yield from range(first + 1, first + 100)


_ports = _own_ports()


def free_port() -> int:
    """Give a port that is free on loopback for both TCP and UDP right now."""
    while True:
        port = next(_ports)
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            try:
                stream.bind(("127.0.0.1", port))
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def is_bound(port: int, transport: str) -> bool:
    """Whether somebody listens on a port; looking must not take it away from SIPp."""
    name = "udp" if transport == "udp" else "tcp"
    sockets = Path(f"/proc/net/{name}").read_text(encoding="ascii").splitlines()[1:]
    listening = "07" if name == "udp" else "0A"
    for line in sockets:
        _, local, _, state, *_ = line.split()
        if local.endswith(f":{port:04X}") and state == listening:
            return True
    return False


class Peer(ProcessProtocol):
    """A process whose output is kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.output = b""
        self.ended: Deferred[int] = Deferred()
        self._waiting: list[tuple[bytes, Deferred[None]]] = []
        self.status: int | None = None

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Keep what the process prints, on either stream."""
        self.output += data
        for item in [item for item in self._waiting if item[0] in self.output]:
            self._waiting.remove(item)
            item[1].callback(None)

    def processEnded(self, reason: Failure) -> None:
        """The process is gone; a signal counts as its negative number."""
        value: Any = reason.value
        self.status = value.exitCode if value.exitCode is not None else -(value.signal or 0)
        waiting, self._waiting = self._waiting, []
        for text, waiter in waiting:
            waiter.errback(AssertionError(f"{self} ended before it printed {text!r}"))
        self.ended.callback(self.status)

    def when_prints(self, text: str) -> Deferred[None]:
        """Wait until the process has printed a text."""
        waiting: Deferred[None] = Deferred()
        if text.encode() in self.output:
            waiting.callback(None)
        elif self.status is not None:
            waiting.errback(AssertionError(f"{self} ended before it printed {text!r}"))
        else:
            self._waiting.append((text.encode(), waiting))
        return waiting

    def kill(self, name: str = "TERM") -> None:
        """Send a signal, if the process still runs."""
        if self.status is None and self.transport is not None:
            try:
                self.transport.signalProcess(name)
            except error.ProcessExitedAlready:
                pass

    def __str__(self) -> str:
        text = self.output[-6000:].decode("utf-8", "replace")
        return f"{self.name} (status {self.status}), which printed:\n{text}\n"


class InteropTestCase(TestCase):
    """Runs peers, and leaves none of them behind."""

    timeout = 90

    def setUp(self) -> None:
        """Begin without any process."""
        self._peers: list[Peer] = []
        self._relays: list[Relay] = []
        self.directory = Path(self.mktemp()).absolute()
        self.directory.mkdir(parents=True)

    def tearDown(self) -> Any:
        """End all processes, by force if need be."""
        return Deferred.fromCoroutine(self._end())

    async def _end(self) -> None:
        for peer in self._peers:
            peer.kill("TERM")
        for peer in self._peers:
            if peer.status is None:
                timer = cast(Any, reactor).callLater(5, peer.kill, "KILL")
                await peer.ended
                if timer.active():
                    timer.cancel()
        for relay in self._relays:
            await relay.stop()

    def tls_options(self) -> tuple[str, ...]:
        """Write our certificate into the directory of the test, and give twistd's flags for it."""
        me = identity()
        key, certificate = self.directory / "key.pem", self.directory / "cert.pem"
        key.write_bytes(me.key)
        certificate.write_bytes(me.certificate)
        flags = (("--tls-key", key), ("--tls-cert", certificate), ("--tls-ca", certificate))
        return tuple(word for name, path in flags for word in (name, str(path)))

    def scenario(self, name: str, text: str | Caller | Callee) -> str:
        """Write a scenario into the directory of the test."""
        path = self.directory / f"{name}.xml"
        path.write_text(text if isinstance(text, str) else text.xml(name), "utf-8")
        return str(path)

    def spawn(self, name: str, *arguments: str, **environment: str) -> Peer:
        """Start a process."""
        peer = Peer(name)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        cast(Any, reactor).spawnProcess(
            peer,
            arguments[0],
            list(arguments),
            {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment},
            str(self.directory),
        )
        self._peers.append(peer)
        return peer

    def twistd(self, *arguments: str, **environment: str) -> Peer:
        """Start ``twistd -n`` with a plugin and its options."""
        return self.spawn(
            f"twistd -n {' '.join(arguments)}",
            sys.executable,
            "-c",
            "from twisted.scripts.twistd import run; run()",
            "-n",
            "--pidfile=",
            *arguments,
            **environment,
        )

    def sipp(
        self,
        port: int,
        *arguments: str,
        transport: str = "udp",
        service: str = "service",
        calls: int = 1,
        rate: float = 10.0,
    ) -> Peer:
        """Start SIPp as a caller; give ``-sn uac`` or ``-sf FILE`` among the arguments.

        :param port: where it calls, with this transport.
        """
        if transport == "tls":
            arguments = self._over_tls(arguments, port)
            self._relays.append(Relay.before_server(port))
            port = self._relays[-1].port
        return self._sipp(
            f"sipp {' '.join(arguments)} over {transport}",
            transport,
            free_port(),
            f"127.0.0.1:{port}",
            *("-s", service, "-m", str(calls), "-r", str(rate)),
            *arguments,
        )

    def _sipp(self, name: str, transport: str, port: int, *arguments: str) -> Peer:
        return self.spawn(
            name,
            need_sipp(),
            *("-i", "127.0.0.1", "-p", str(port), "-t", "u1" if transport == "udp" else "t1"),
            *("-nostdin", "-timeout", "60s", "-timeout_error", "-trace_err"),
            *arguments,
            TERM="dumb",
        )

    def _over_tls(self, arguments: tuple[str, ...], remote: int) -> tuple[str, ...]:
        """Take a scenario that says TLS in place of the one that is given."""
        (place,) = (at for at, word in enumerate(arguments) if word in ("-sf", "-sn"))
        kind, name = arguments[place : place + 2]
        if kind == "-sf":
            text = Path(name).read_text("utf-8")
        else:
            done = subprocess.run([need_sipp(), "-sd", name], capture_output=True, timeout=30)
            text = done.stdout.decode("iso-8859-1")
        path = self.scenario(f"{Path(name).stem}-tls", spoken(text, remote=remote))
        return (*arguments[:place], "-sf", path, *arguments[place + 2 :])

    async def called(
        self, port: int, phone: Callee, *, name: str, transport: str = "udp", calls: int = 1
    ) -> Peer:
        """Start SIPp as a phone that is called, and wait until it listens.

        :param port: where; with TLS it listens elsewhere, behind a relay on this port.
        """
        text = phone.xml(name)
        own = port
        if transport == "tls":
            own = free_port()
            self._relays.append(Relay.before_phone(own, port))
            text = spoken(text, local=port)
        path = self.scenario(name, text)
        peer = self._sipp(name, transport, own, "-sf", path, "-m", str(calls))
        while peer.status is None and not is_bound(own, transport):
            await self.rest(0.02)
        return peer

    async def succeeds(self, peer: Peer) -> None:
        """Wait for a process to end well."""
        status = await peer.ended
        errors = "".join(
            path.read_text("utf-8", "replace")[-4000:] for path in self.directory.glob("*errors*")
        )
        others = "\n".join(str(other) for other in self._peers if other is not peer)
        self.assertEqual(status, 0, f"{peer}\n{errors}\n{others}")

    async def passes(self, scenario: str, port: int, **options: Any) -> None:
        """Run a scenario of ours, which must succeed."""
        await self.succeeds(self.sipp(port, "-sf", str(SCENARIOS / f"{scenario}.xml"), **options))

    async def rest(self, seconds: float = 0.0) -> None:
        """Let the reactor turn."""
        await deferLater(cast(Any, reactor), seconds)
