"""A call, end to end, on this machine: twistd hosts an application, a phone calls it.

The application and its server run in a process of their own, exactly as the command that is shown
starts them; the phone is in this process, and speaks to them over UDP.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.internet.task import deferLater, react
from twisted.python.failure import Failure

from drachtwist.demo.phone import Phone
from drachtwist.errors import DrachtwistError, SipError
from drachtwist.net.observers import Observers
from drachtwist.net.steady import steady
from drachtwist.sip import Request, Response
from drachtwist.tracing.ladder import ASCII, UNICODE, Ladder, Rung

__all__ = ["example", "run"]

ROOT = Path(__file__).parent.parent.parent
"""Where this package was found."""
HOST = "127.0.0.1"
USUAL_PORT = 5060
START_WITHIN = 30.0
"""Seconds that the application has to start."""
TALK = 0.3
"""Seconds between the things that the caller does."""


class DemoError(Exception):
    """The demo cannot go on; the text is ready to be shown."""


def example() -> Path:
    """Find the application that is shown.

    :raises DemoError: when it was not installed.
    """
    places = [
        ROOT / "docs" / "examples" / "answer.py",
        Path(sysconfig.get_path("data")) / "share/doc/drachtwist/examples/answer.py",
    ]
    for place in places:
        if place.is_file():
            return place
    raise DemoError(f"the example is missing: {' nor '.join(map(str, places))} is there")


def run(port: int | None = None, *, once: bool = False, out: TextIO | None = None) -> int:
    """Show a call.

    :param port: the port to serve SIP on; None for the usual one if it is free, 0 for any.
    :param once: stop after the call.
    :returns: the exit status.
    """
    demo = Demo(port, once, sys.stdout if out is None else out)
    try:
        react(demo.show)
    except SystemExit as error:
        return int(error.code or 0) or int(not demo.shown)
    return 0


def host() -> None:
    """Be the process that the demo starts: twistd, which lives no longer than the demo."""
    # Ctrl-C reaches both processes; the demo ends this one in good order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        # Nothing is ever written there: the end comes when the demo is gone, however it went.
        os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
    from twisted.scripts.twistd import run

    run()


class Hosted(ProcessProtocol):
    """twistd, whose output is read line by line.

    :param on_line: called with each line.
    """

    def __init__(self, on_line: Callable[[str], object]) -> None:
        self._on_line = on_line
        self._rest = ""
        self._waiting: list[tuple[str, Deferred[None]]] = []
        self.lines: list[str] = []
        self._until_ended: Observers[int] = Observers()
        self.status: int | None = None

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Take what it prints, on either stream."""
        *lines, self._rest = (self._rest + data.decode("utf-8", "replace")).split("\n")
        for line in lines:
            self.lines.append(line)
            self._on_line(line)
            for item in [item for item in self._waiting if item[0] in line]:
                self._waiting.remove(item)
                item[1].callback(None)

    def processEnded(self, reason: Failure) -> None:
        """Take note of its end."""
        done = reason.check(ProcessDone, ProcessTerminated) is not None
        code = getattr(reason.value, "exitCode", None) if done else None
        self.status = status = 1 if code is None else code
        waiting, self._waiting = self._waiting, []
        for _, each in waiting:
            each.errback(self.ended_early())
        self._until_ended.fire(status)

    def when_ended(self) -> Deferred[int]:
        """Wait for its end.

        :returns: the exit status.
        """
        return self._until_ended.wait() if self.status is None else succeed(self.status)

    def when_prints(self, text: str) -> Deferred[None]:
        """Wait for a line with a text in it."""
        waiting: Deferred[None] = Deferred()
        if any(text in line for line in self.lines):
            waiting.callback(None)
        elif self.status is not None:
            waiting.errback(self.ended_early())
        else:
            self._waiting.append((text, waiting))
        return waiting

    def ended_early(self) -> DemoError:
        """Make the error that says how it ended."""
        return DemoError("\n".join(["twistd ended:", *self.lines[-12:]]))

    def stop(self) -> None:
        """End it in good order."""
        if self.status is None and self.transport is not None:
            try:
                self.transport.signalProcess("TERM")
            except Exception:
                pass  # it ended a moment ago


class Demo:
    """The whole show.

    :param port: see :func:`run`.
    """

    def __init__(self, port: int | None, once: bool, out: TextIO) -> None:
        self._port = port
        self._once = once
        self._out = out
        self._start: float | None = None
        self._calling = False
        self._stopping = False
        self.shown = False
        """Whether the call was shown to its end."""
        self._reactor: Any = None
        encoding = (getattr(out, "encoding", None) or "ascii").lower()
        self._strokes = UNICODE if encoding.startswith("utf") else ASCII
        self._colour = out.isatty() and "NO_COLOR" not in os.environ
        self._ladder: Ladder | None = None

    def show(self, reactor: Any) -> Deferred[None]:
        """Run on a reactor."""
        self._reactor = reactor
        return Deferred.fromCoroutine(self._show(reactor)).addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        """Say what is wrong, if it is nothing that should never happen."""
        if self._stopping:
            return  # of course it does not go on
        failure.trap(DemoError, TimeoutError)
        text = "the application does not start" if failure.check(TimeoutError) else failure.value
        print(f"drachtwist demo: {text}", file=sys.stderr)
        raise SystemExit(1)

    async def _show(self, reactor: Any) -> None:
        application = example()
        port = self._choose_port()
        contact = f"sip:{HOST}:{port};transport=udp,tcp"
        shown = os.path.relpath(application)
        if len(shown) > len(str(application)):
            shown = str(application)
        self._say(f"$ twistd -n --pidfile= drachtio --app {shown} --contact '{contact}'")
        hosted = Hosted(self._heard)
        reactor.spawnProcess(hosted, sys.executable, _command(application, contact), env=_environ())

        def stop() -> Deferred[None]:
            self._stopping = True
            return Deferred.fromCoroutine(self._end(hosted))

        trigger = reactor.addSystemEventTrigger("before", "shutdown", stop)
        try:
            await hosted.when_prints("connected").addTimeout(START_WITHIN, reactor)
            await self._call(reactor, port)
            if self._once:
                return
            self._explain(shown, port)
            status = await hosted.when_ended()
            if status and not self._stopping:
                raise hosted.ended_early()
        finally:
            if reactor.running:
                reactor.removeSystemEventTrigger(trigger)
            await self._end(hosted)

    async def _end(self, hosted: Hosted) -> None:
        hosted.stop()
        if hosted.status is None:
            await hosted.when_ended()

    def _choose_port(self) -> int:
        if self._port is not None:
            if self._port and not _is_free(self._port):
                raise DemoError(f"port {self._port} is taken; --port names another one")
            return self._port or _free_port()
        if _is_free(USUAL_PORT):
            return USUAL_PORT
        port = _free_port()
        self._say(f"(Port {USUAL_PORT} is taken, so SIP is served on port {port}.)")
        return port

    async def _call(self, reactor: Any, port: int) -> None:
        phone = Phone((HOST, port), "alice", "Alice", clock=reactor, watcher=self._watch)
        listening = reactor.listenUDP(0, phone, interface=HOST)
        width = shutil.get_terminal_size().columns
        self._ladder = Ladder(
            [("Alice's phone", phone.address), ("drachtwist", f"{HOST}:{port}, UDP")],
            min(width, 80),
            self._strokes,
            self._colour,
        )
        self._say("")
        for line in self._ladder.head():
            self._say(line)
        try:
            self._calling = True
            call = await phone.call(f"sip:hello@{HOST}:{port}")
            await deferLater(reactor, TALK)
            await call.press("5")
            await deferLater(reactor, TALK)
            await call.hang_up()
        except SipError as error:
            raise DemoError(f"the call failed: {error}") from None
        except DrachtwistError as error:
            raise DemoError(str(error)) from None
        finally:
            self._calling = False
            await listening.stopListening()
        for line in self._ladder.foot():
            self._say(line)
        self._say("")
        self.shown = True

    def _watch(self, sent: bool, message: Request | Response) -> None:
        """Draw a message."""
        if isinstance(message, Request):
            label, colour = f"{message.method} {_short(message.uri)}", 36
            if message.method in ("ACK", "BYE", "INFO"):
                label = message.method
        else:
            label = f"{message.status} {message.reason} ({message.cseq.method})"
            colour = 33 if message.status < 200 else 32 if message.status < 300 else 31
        if message.content_type is not None and message.body:
            label += f" [{message.content_type.essence.rpartition('/')[2]}]"
        self._draw(Rung(self._time(), 0 if sent else 1, 1 if sent else 0, label, colour))

    def _draw(self, rung: Rung) -> None:
        assert self._ladder is not None, "drawn once the phone listens"
        self._say(self._ladder.draw(rung))

    def _time(self) -> float:
        now: float = steady(self._reactor).seconds()
        if self._start is None:
            self._start = now
        return now - self._start

    def _heard(self, line: str) -> None:
        """Show what the application says, beside the ladder or below it."""
        marker = "[answer#info]"
        if marker not in line:
            if "#error" in line or "#critical" in line or "#warn" in line:
                self._say(line)
            return
        text = line.partition(marker)[2].strip()
        if self._calling:
            self._draw(Rung(self._time(), 1, 1, text, 2))
        else:
            self._say(f"  {text}")

    def _explain(self, shown: str, port: int) -> None:
        self._say(
            f"Now call it yourself: sip:hello@{HOST}:{port}, from any softphone on this machine"
        )
        self._say("(no account, no registration, UDP or TCP; there is no sound). Ctrl-C stops it.")
        self._say("")
        self._say(f"The application is {shown}: change it, and start again.")
        self._say("To run it on a real drachtio server instead:")
        self._say("")
        self._say("    DRACHTIO_SECRET=cymru twist drachtio \\")
        self._say(f"        --app {shown} --endpoint tcp:HOST:9022")
        self._say("")

    def _say(self, text: str) -> None:
        try:
            print(text, file=self._out, flush=True)
        except BrokenPipeError:
            os.kill(os.getpid(), signal.SIGTERM)


def _command(application: Path, contact: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        "from drachtwist.demo.demo import host; host()",
        "-n",
        "--pidfile=",
        "drachtio",
        "--app",
        str(application),
        "--contact",
        contact,
    ]


def _environ() -> dict[str, str]:
    # The secret of the server in the process is its own affair.
    environ = {name: text for name, text in os.environ.items() if name != "DRACHTIO_SECRET"}
    # Where this package was found, twistd has to find its plugins too.
    paths = [str(ROOT), *filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _short(uri: str) -> str:
    return uri.partition(";")[0]


def _is_free(port: int) -> bool:
    with socket.socket() as stream, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            stream.bind((HOST, port))
            datagram.bind((HOST, port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    for _ in range(32):
        with socket.socket() as stream:
            stream.bind((HOST, 0))
            port: int = stream.getsockname()[1]
        if _is_free(port):
            return port
    raise DemoError("no port is free")
