"""Datagrams in memory, and the SIP that passes over connections, both noted in the history."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.error import ConnectError, ConnectionRefusedError

from drachtwist.errors import MessageError
from drachtwist.net.udp import DatagramHandler
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_message
from drachtwist.testing.clock import SimulatedClock
from drachtwist.testing.history import Address, History
from drachtwist.testing.links import Link

__all__ = ["Datagrams", "MemorySocket"]


class Receiver(Protocol):
    """Who gets datagrams."""

    def datagram_received(self, data: bytes, host: str, port: int) -> None:
        """Take in a datagram."""


class Datagrams:
    """Carries datagrams between addresses.

    :param clock: what they take their time on.
    :param history: where they are noted.
    """

    def __init__(self, clock: SimulatedClock, history: History) -> None:
        self._clock = clock
        self._history = history
        self.receivers: dict[Address, Receiver] = {}
        self.links: dict[Address, Link] = {}
        """What lies before an address, if it is not a perfect link."""

    def send(self, data: bytes, source: Address, target: Address) -> bool:
        """Send a datagram.

        :returns: False when nobody is there who could get it.
        """
        if target not in self.receivers:
            self._history.passed(source, target, data, "nobody is there")
            return False
        delays = [0.0]
        message: Request | Response | None = None
        for where in (source, target):
            link = self.links.get(where)
            if link is None or link.is_perfect:
                continue
            if message is None:
                message = _read(data)
            delays = [one + other for one in delays for other in link.fate(message)]
        fate = "" if len(delays) == 1 else "lost" if not delays else f"{len(delays)} times"
        if delays and any(delays):
            fate = f"{fate} {max(delays):g} s late".lstrip()
        self._history.passed(source, target, data, fate)
        for delay in delays:
            if delay:
                self._clock.callLater(delay, self._deliver, data, source, target)
            else:
                self._clock.soon(self._deliver, data, source, target)
        return True

    def _deliver(self, data: bytes, source: Address, target: Address) -> None:
        receiver = self.receivers.get(target)
        if receiver is not None:
            receiver.datagram_received(data, *source)


def _read(data: bytes) -> Request | Response | None:
    try:
        return parse_message(data)
    except MessageError:
        return None


class MemorySocket:
    """What a server has in place of a UDP socket.

    :param here: its address.
    :param handler: gets what comes in.
    """

    def __init__(
        self, clock: SimulatedClock, datagrams: Datagrams, here: Address, handler: DatagramHandler
    ) -> None:
        self._clock = clock
        self._datagrams = datagrams
        self._here = here
        self._handler = handler
        self._is_open = True
        datagrams.receivers[here] = handler

    def send(self, data: bytes, host: str, port: int) -> Exception | None:
        """Send a datagram; where nobody is, it is refused, as ICMP would tell."""
        if not self._is_open:
            return ConnectError(string="the socket is closed")
        if not self._datagrams.send(data, self._here, (host, port)):
            error = ConnectionRefusedError(string="nobody is there")
            self._clock.soon(self._handler.datagram_refused, data, host, port, error)
        return None

    def close(self) -> None:
        """Receive nothing more."""
        if self._is_open:
            self._is_open = False
            del self._datagrams.receivers[self._here]
