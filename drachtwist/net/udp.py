"""A UDP socket that also tells which of its datagrams were refused.

A socket that talks to everybody learns nothing of ICMP errors, unless the system is asked to keep
them (``IP_RECVERR``, on Linux). They then lie in a queue of their own, with the address that was
sent to and the first octets of the datagram. A waiting error shows itself in three ways: the poll
says "error", the next read fails, or the next write does, whomever it was for. None of these means
that anything is wrong with the socket, which is why Twisted's own UDP port, for which they end the
socket, is not used here. Elsewhere than on Linux the socket works the same, but such errors are
not reported.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any, Protocol

from twisted.internet.error import (
    CannotListenError,
    ConnectError,
    ConnectionRefusedError,
    MessageLengthError,
    NoRouteError,
)
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

from drachtwist.net.logs import Logger

__all__ = ["DatagramHandler", "DatagramSocket", "UdpSocket", "listening_socket"]

_IP_RECVERR = 11
_IPV6_RECVERR = 25
_ERROR_QUEUE = getattr(socket, "MSG_ERRQUEUE", 0)
_EXTENDED_ERROR = struct.Struct("=IBBBBII")
_LARGEST = 65535
# How many datagrams are read before others get their turn.
_AT_ONCE = 64

# What RFC 3261 section 18.4 wants reported: host, network, port and protocol unreachable, and bad
# parameters. Others, like "too big to go unfragmented", solve themselves.
_REPORTED = frozenset(
    (
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EPROTO,
        errno.EACCES,
    )
)


class DatagramHandler(Protocol):
    """What a :class:`UdpSocket` calls."""

    def datagram_received(self, data: bytes, host: str, port: int) -> None:
        """Take in a datagram."""

    def datagram_refused(self, data: bytes, host: str, port: int, error: Exception) -> None:
        """Note that a datagram did not arrive; of its data only the start may be known."""


class DatagramSocket(Protocol):
    """What sends datagrams: a :class:`UdpSocket`, or a stand-in."""

    def send(self, data: bytes, host: str, port: int) -> Exception | None:
        """Send a datagram; return what is wrong, when it certainly cannot arrive."""
        ...

    def close(self) -> None:
        """Close the socket; nothing is received any more."""


def listening_socket(kind: int, host: str, port: int, backlog: int = 512) -> socket.socket:
    """Bind a socket to an address; an IPv6 socket carries IPv6 only.

    :param kind: ``socket.SOCK_DGRAM`` or ``socket.SOCK_STREAM``.
    :param backlog: how many connections may wait to be accepted.
    :raises CannotListenError: when the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.socket(family, kind)
    except OSError as error:
        raise CannotListenError(host, port, error) from None
    try:
        bound.setblocking(False)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            if os.name == "posix":
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, port))
            bound.listen(backlog)
        else:
            bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise CannotListenError(host, port, error) from None
    return bound


@implementer(IReadDescriptor, IHalfCloseableDescriptor)
class UdpSocket:
    """Sends and receives datagrams on one address.

    :param reactor: a reactor with ``IReactorFDSet``.
    :param bound: a bound socket.
    """

    _log = Logger()

    def __init__(self, reactor: Any, bound: socket.socket, handler: DatagramHandler) -> None:
        self._reactor = reactor
        self._socket: socket.socket | None = bound
        self._handler = handler
        self._level, self._option = socket.IPPROTO_IP, _IP_RECVERR
        if bound.family == socket.AF_INET6:
            self._level, self._option = socket.IPPROTO_IPV6, _IPV6_RECVERR
        self.reports_refusals = False
        """Whether the system tells which datagrams were refused."""
        if _ERROR_QUEUE:
            try:
                bound.setsockopt(self._level, self._option, 1)
                self.reports_refusals = True
            except OSError as error:
                self._log.info("no reports of refused datagrams: {error}", error=error)
        reactor.addReader(self)

    def send(self, data: bytes, host: str, port: int) -> Exception | None:
        """Send a datagram; one that finds the system's buffer full is lost, as UDP may lose any.

        :returns: what is wrong, when it certainly cannot arrive.
        """
        if self._socket is None:
            return ConnectError(string="the socket is closed")
        failed: OSError | None = None
        for _ in range(4):
            try:
                self._socket.sendto(data, (host, port))
                return None
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                failed = error
                # It may well be an old one, of a datagram to somebody else.
                if not self._read_errors():
                    break
        assert failed is not None
        return _described(failed.errno)

    def close(self) -> None:
        """Close the socket; nothing is received any more."""
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    # What the reactor calls.

    def fileno(self) -> int:
        """Name the socket to the reactor."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """Name the socket in logs."""
        return "UdpSocket"

    def doRead(self) -> None:
        """Read what is there."""
        for _ in range(_AT_ONCE):
            if self._socket is None:
                return
            try:
                data, address = self._socket.recvfrom(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if not self._read_errors() and error.errno not in _REPORTED:
                    self._log.warn("cannot read from a UDP socket: {error}", error=error)
                    return
                continue
            try:
                self._handler.datagram_received(data, address[0], address[1])
            except Exception:
                self._log.failure("a datagram from {peer} made us fail", peer=address[0])

    def readConnectionLost(self, reason: Failure) -> None:
        """Note that errors are waiting and nothing else, which takes us off the reactor."""
        self._read_errors()
        if self._socket is not None:
            self._reactor.addReader(self)

    def writeConnectionLost(self, reason: Failure) -> None:
        """Do nothing: nobody waits for a UDP socket to become writable."""

    def connectionLost(self, reason: Failure) -> None:
        """Close when the reactor ends."""
        self.close()

    def _read_errors(self) -> bool:
        """Report what lies in the error queue; say whether there was anything."""
        found = False
        while self.reports_refusals and self._socket is not None:
            try:
                data, extra, _, address = self._socket.recvmsg(
                    2048, 512, _ERROR_QUEUE | socket.MSG_DONTWAIT
                )
            except OSError:
                break
            found = True
            for level, kind, value in extra:
                if (level, kind) != (self._level, self._option):
                    continue
                number = _EXTENDED_ERROR.unpack_from(value)[0]
                if number in _REPORTED:
                    # Never from within somebody's send().
                    self._reactor.callLater(
                        0,
                        self._handler.datagram_refused,
                        data,
                        address[0],
                        address[1],
                        _described(number),
                    )
        return found


def _described(number: int | None) -> Exception:
    """Return the exception that Twisted has for a system error."""
    text = os.strerror(number or 0)
    if number == errno.ECONNREFUSED:
        return ConnectionRefusedError(number, text)
    if number in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return NoRouteError(number, text)
    if number == errno.EMSGSIZE:
        return MessageLengthError(text)
    return ConnectError(number, text)
