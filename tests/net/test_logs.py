"""What the log shows of addresses, and of attempts to connect."""

from __future__ import annotations

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from drachtwist import Srf
from drachtwist.net.endpoints import Connect
from drachtwist.net.logs import Logger
from tests.whole import Whole

_log = Logger()


class ShownTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """An address is shown as people write it, also in the fields of the event."""
        for address, shown in (
            (IPv4Address("TCP", "192.0.2.1", 5060), "192.0.2.1:5060"),
            (IPv6Address("TCP", "2001:db8::1", 5060), "[2001:db8::1]:5060"),
            (UNIXAddress("/run/app.sock"), "/run/app.sock"),
            (UNIXAddress(None), "a UNIX socket"),
        ):
            with capturedLogs() as logs:
                _log.info("{peer} is here", peer=address)
            self.assertEqual(formatEvent(logs[0]), f"{shown} is here")
            self.assertEqual(logs[0]["peer"], shown)


class ConnectingTests(SynchronousTestCase):
    def lines(self, whole: Whole, seconds: float) -> list[str]:
        with capturedLogs() as logs:
            for _ in range(int(seconds)):
                whole.clock.advance(1)
                whole.pump()
        return [formatEvent(one) for one in logs]

    def test_trying_again(self) -> None:
        """Who is tried again, and when; no object is shown."""
        whole = Whole()
        whole.is_down = True
        with capturedLogs() as logs:
            whole.lose()
            whole.clock.advance(0)
        again = [formatEvent(one) for one in logs if "trying again" in one["log_format"]]
        self.assertEqual(len(again), 1)
        self.assertRegex(again[0], r"^memory: trying again in \d+ s$")
        lines = [formatEvent(one) for one in logs] + self.lines(whole, 60)
        self.assertEqual([one for one in lines if " object at " in one or "Address(" in one], [])

    def test_refused(self) -> None:
        """A refused secret is said once, and nothing is scheduled."""
        clock = Clock()
        whole = Whole(clock=clock)
        srf = Srf(reactor=clock)
        with capturedLogs() as logs:
            connection = srf.connect(
                Connect(whole, "elsewhere", False),  # type: ignore[arg-type]
                secret="wrong",
                ping_interval=None,
            )
            connection.when_connected().addErrback(lambda _: None)
            for _ in range(5):
                clock.advance(1)
                whole.pump()
        lines = [formatEvent(one) for one in logs]
        self.assertEqual(lines, ["elsewhere: the server refused the secret: incorrect secret"])
