"""Real peers for tests: processes with captured output, SIPp and the Node reference client.

Where a peer is not installed its tests are skipped; with ``DRACHTWIST_REQUIRE_INTEROP=1`` in the
environment, as in CI, they fail instead.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
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
_CALL_ID = re.compile(r"^Call-ID: *(\S+)", re.MULTILINE | re.IGNORECASE)
_ABORTED = re.compile(r"[^\n]*Call-Id '(.*?)': .*", re.DOTALL)
_LOGGED = re.compile(r"^-{20,} \d{4}-.*$", re.MULTILINE)
PATIENCE = 90
"""Seconds that a process has for what it is to print."""
ENOUGH = 150
"""Seconds that a process has to end well: less than a test has, which could not tell of it then."""
REQUIRED = os.environ.get("DRACHTWIST_REQUIRE_INTEROP") == "1"


def missing(what: str) -> None:
    """Skip the test, or fail where peers are required."""
    if REQUIRED:
        raise AssertionError(f"{what} is required here")
    raise SkipTest(f"{what} is not installed")


def need_sipp() -> str:
    """Give the path of SIPp."""
    return need_program("sipp", "sip-tester")


def need_program(name: str, package: str) -> str:
    """Give the path of a program.

    :param package: of Debian, where it is from.
    """
    path = shutil.which(name)
    if path is None:
        missing(f"{name} (Debian: {package})")
    return cast(str, path)


def need_chromium() -> str:
    """Give the path of Chromium."""
    return need_program("chromium", "chromium")


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


_BLOCK = 1000
"""Ports that a process has: systems keep those of closed connections for a minute."""


def _own_ports() -> Iterator[int]:
    """Give ports of a block that no other process gives ports of, again and again."""
    blocks = range(12_000, 32_000, _BLOCK)
    for first in _chance.sample(blocks, len(blocks)):
        with socket.socket() as claim:
            try:
                claim.bind(("127.0.0.1", first))
            except OSError:
                continue
            while True:
                yield from range(first + 1, first + _BLOCK)
    raise AssertionError("too many processes run tests at the same time: there are no ports left")


_ports = _own_ports()


def free_port() -> int:
    """Give a port that is free on loopback for both TCP and UDP right now.

    It is none of those that systems give to connections by themselves, and none that tests in
    another process may be given: somebody else would have taken such a one before the process that
    it is for has started.
    """
    while True:
        port = next(_ports)
        with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            try:
                stream.bind(("127.0.0.1", port))
                datagram.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def free_ports(count: int) -> int:
    """Give the first of some ports in a row that are free, and nobody else's."""
    first = last = free_port()
    while last - first < count - 1:
        port = free_port()
        first, last = (first if port == last + 1 else port), port
    return first


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


def _messages_of(log: str, call: str) -> str:
    """Give what a message log of SIPp has of one call."""
    entries = zip(_LOGGED.findall(log), _LOGGED.split(log)[1:], strict=True)
    return "".join(time.strip("- ") + one for time, one in entries if call in _CALL_ID.findall(one))


class Peer(ProcessProtocol):
    """A process whose output is kept."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.output = b""
        self.ended: Deferred[int] = Deferred()
        self._waiting: list[tuple[bytes, Deferred[None]]] = []
        self.status: int | None = None
        self.pid: int | None = None

    def connectionMade(self) -> None:
        """The process runs."""
        self.pid = cast(Any, self.transport).pid

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
        """Wait until the process has printed a text; fails when it ends, or never does."""
        waiting: Deferred[None] = Deferred()
        if text.encode() in self.output:
            waiting.callback(None)
        elif self.status is not None:
            waiting.errback(AssertionError(f"{self} ended before it printed {text!r}"))
        else:
            self._waiting.append((text.encode(), waiting))

        def give_up(*_: object) -> None:
            raise AssertionError(f"{self} has not printed {text!r}")

        return waiting.addTimeout(PATIENCE, cast(Any, reactor), give_up)

    def kill(self, name: str = "TERM") -> None:
        """Send a signal, if the process still runs."""
        if self.status is None and self.transport is not None:
            try:
                self.transport.signalProcess(name)
            except error.ProcessExitedAlready:
                pass

    def told(self, length: int) -> str:
        """Give the end of what it printed."""
        text = self.output[-length:].decode("utf-8", "replace")
        return f"{self.name} (status {self.status}), which printed:\n{text}\n"

    def __str__(self) -> str:
        return self.told(6000)


class InteropTestCase(TestCase):
    """Runs peers, and leaves none of them behind."""

    timeout = 180

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

    def scenario(self, name: str, text: str | Caller | Callee, transport: str = "udp") -> str:
        """Write a scenario into the directory of the test."""
        path = self.directory / f"{name}.xml"
        path.write_text(text if isinstance(text, str) else text.xml(name, transport), "utf-8")
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
            calls,
            f"127.0.0.1:{port}",
            *("-s", service, "-r", str(rate)),
            *arguments,
        )

    def _sipp(self, name: str, transport: str, port: int, calls: int, *arguments: str) -> Peer:
        return self.spawn(
            name,
            need_sipp(),
            *("-i", "127.0.0.1", "-p", str(port), "-t", "u1" if transport == "udp" else "t1"),
            *("-m", str(calls), "-nostdin", "-timeout", "90s", "-timeout_error", "-trace_err"),
            *(["-trace_msg"] if calls <= 100 else []),
            # What comes while it stands still is lost when there is no more room.
            *("-buff_size", "1000000"),
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
        text = phone.xml(name, transport)
        own = port
        if transport == "tls":
            own = free_port()
            self._relays.append(Relay.before_phone(own, port))
            text = spoken(text, local=port)
        path = self.scenario(name, text)
        peer = self._sipp(name, transport, own, calls, "-sf", path)
        while peer.status is None and not is_bound(own, transport):
            await self.rest(0.02)
        return peer

    async def succeeds(self, peer: Peer) -> None:
        """Wait for a process to end well; end it when it takes too long."""
        timer = cast(Any, reactor).callLater(ENOUGH, peer.kill, "KILL")
        status = await peer.ended
        if timer.active():
            timer.cancel()
        if status != 0:
            self.fail(self.account(peer))

    def account(self, failed: Peer) -> str:
        """Tell what every process did: of the failed one all, of the others the last."""
        others = [other for other in self._peers if other is not failed]
        told = [f"{failed.name} failed (status {failed.status}). The others:"]
        told += [f"- {other.name}: status {other.status}" for other in others]
        # The messages of the first call that failed; where it has another name, the last ones.
        aborted = _ABORTED.search(self._log(failed, "errors"))
        for peer in (failed, *others):
            length = 6000 if peer is failed else 2000
            told.append(peer.told(length))
            errors, log = self._log(peer, "errors"), self._log(peer, "messages")
            if errors:
                unexpected = _ABORTED.search(errors)
                text = unexpected[0] if unexpected else errors
                told.append(f"--- its errors:\n{text[:length]}")
            if log:
                about = _messages_of(log, aborted[1]) if aborted else ""
                told.append(f"--- its messages:\n{(about or log)[-length:]}")
        return "\n".join(told)

    def _log(self, peer: Peer, kind: str) -> str:
        """Read a log that SIPp has written."""
        found = self.directory.glob(f"*_{peer.pid}_{kind}.log")
        return "".join(path.read_text("utf-8", "replace") for path in found)

    async def passes(self, scenario: str, port: int, **options: Any) -> None:
        """Run a scenario of ours, which must succeed."""
        await self.succeeds(self.sipp(port, "-sf", str(SCENARIOS / f"{scenario}.xml"), **options))

    async def comes_true(self, holds: Callable[[], bool], what: str, peer: Peer) -> None:
        """Wait until something holds that only looking can tell.

        :param what: it is, for the error.
        :param peer: who is told of then.
        """
        for _ in range(PATIENCE * 20):
            if holds():
                return
            if peer.status is not None:
                break
            await self.rest(0.05)
        self.fail(f"waited in vain for {what}: {self.account(peer)}")

    async def rest(self, seconds: float = 0.0) -> None:
        """Let the reactor turn."""
        await deferLater(cast(Any, reactor), seconds)
