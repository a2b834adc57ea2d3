"""What stands before all that listens, and lets in not everybody.

It is asked before a byte is read or sent, and before TLS begins: whoever is kept out is cut off,
and costs nothing more. Who that is, others know: :class:`~drachtwist.net.census.Turnstile` counts,
:class:`~drachtwist.net.admission.Admission` looks at addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet import protocol
from twisted.internet.interfaces import IAddress, ILoggingContext, IProtocolFactory
from zope.interface import implementer

__all__ = ["Gate", "Refused"]


class Refused(protocol.Protocol):
    """Somebody who is not let in."""

    def connectionMade(self) -> None:
        """Cut the connection."""
        cast(Any, self.transport).abortConnection()


@implementer(IProtocolFactory, ILoggingContext)
class Gate(protocol.ServerFactory):
    """A factory of protocols that lets in not everybody.

    :param factory: makes the protocols of those who are let in.
    :param refuses: says of an address whether it is kept out.
    :param name: what comes in there, as the log calls it.
    """

    noisy = False

    def __init__(
        self, factory: IProtocolFactory, refuses: Callable[[Any], bool], name: str
    ) -> None:
        self._factory = factory
        self._refuses = refuses
        self._name = name

    def logPrefix(self) -> str:
        """Name it in the log."""
        return self._name

    def doStart(self) -> None:
        """Tell the factory that a port uses it."""
        super().doStart()
        self._factory.doStart()

    def doStop(self) -> None:
        """Tell the factory that a port uses it no more."""
        super().doStop()
        self._factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Make the protocol of one connection."""
        if self._refuses(addr):
            return Refused()
        return self._factory.buildProtocol(cast(Any, addr))
