"""A hidden wait or socket fails a test that runs on made-up time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from drachtwist import Request, Response, Srf
from drachtwist.testing import HiddenWait, Network, SipTests


def attempts() -> dict[str, Callable[[], object]]:
    """Return what reaches for the real world, by what the error names."""
    from twisted.internet import reactor

    real: Any = reactor

    def over(name: str, *arguments: Any) -> Callable[[], object]:
        def attempt() -> None:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
                getattr(one, name)(*arguments)

        return attempt

    where = ("127.0.0.1", 9)
    return {
        "time.sleep": lambda: time.sleep(0),
        "reactor.callLater": lambda: deferLater(real, 0.01),
        "reactor.getThreadPool": lambda: deferToThread(int),
        "socket.bind": over("bind", ("127.0.0.1", 0)),
        "socket.connect": over("connect", where),
        "socket.connect_ex": over("connect_ex", where),
        "socket.sendto": over("sendto", b"x", where),
        "socket.listen": over("listen"),
        "socket.getaddrinfo": lambda: socket.getaddrinfo("example.net", 80),
        "socket.create_connection": lambda: socket.create_connection(where, 0.01),
    }


class GuardTests(SynchronousTestCase):
    def test_everything_is_out_of_reach(self) -> None:
        """Waiting on real time, threads and sockets is an error that says what to do instead."""
        found = attempts()
        with Network():
            for name, attempt in found.items():
                with self.subTest(name):
                    error = self.assertRaises(HiddenWait, attempt)
                    self.assertRegex(str(error), "srf.clock|srf.reactor|directly|Network.host")
                    if name != "socket.create_connection":
                        self.assertIn(name, str(error))

    def test_as_before(self) -> None:
        """Afterwards all is as it was, also after an error, and with networks in networks."""

        def seen() -> list[Any]:
            return [
                time.sleep,
                ReactorBase.callLater,
                vars(socket.socket).get("bind"),
                socket.getaddrinfo,
            ]

        before = seen()
        with self.assertRaises(ZeroDivisionError), Network():
            raise ZeroDivisionError
        self.assertEqual(seen(), before)
        with Network():
            with Network():
                self.assertRaises(HiddenWait, time.sleep, 0)
            self.assertRaises(HiddenWait, time.sleep, 0)
        self.assertEqual(seen(), before)
        time.sleep(0)

    def test_on_purpose(self) -> None:
        """What is meant is said: then the real world is there for a while."""
        with Network() as net:
            with net.real_world():
                time.sleep(0)
            self.assertRaises(HiddenWait, time.sleep, 0)

    def test_other_threads(self) -> None:
        """Other threads, those of a debugger or of a plugin, go on."""
        problems: list[Exception] = []

        def work() -> None:
            try:
                time.sleep(0)
            except Exception as error:
                problems.append(error)

        with Network():
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        self.assertEqual(problems, [])

    def test_without_a_guard(self) -> None:
        """A network may leave the real world alone."""
        with Network(guard=False):
            time.sleep(0)


class ApplicationTests(SipTests, SynchronousTestCase):
    def test_hidden_wait_of_a_handler(self) -> None:
        """A handler that waits on the reactor fails, with a traceback to where it does."""
        from twisted.internet import reactor

        real: Any = reactor
        srf = Srf()

        @srf.invite
        async def answer(req: Request, res: Response) -> None:
            await deferLater(real, 1)
            res.send(200)

        self.sip.serve(srf)
        self.assertEqual(self.sip.phone("alice").invite("x").status, 500)
        [failure] = self.sip.flush_errors(HiddenWait)
        self.assertIn("srf.clock", str(failure.value))
        self.assertIn("await deferLater(real, 1)", failure.getTraceback())
        self.assertEqual(len(self.flushLoggedErrors(HiddenWait)), 1)


class SameReactorTests(TestCase):
    async def test_afterwards(self) -> None:
        """The real reactor works on, after a network that was used while it runs."""
        from twisted.internet import reactor

        with Network() as net:
            self.assertRaises(HiddenWait, lambda: attempts()["reactor.callLater"]())
            waiting: Deferred[None] = deferLater(net.clock, 5)
            net.run(waiting)
        real: Any = reactor
        await deferLater(real, 0)
