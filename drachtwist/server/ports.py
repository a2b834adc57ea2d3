"""What parts of the server need of the whole, so that they need not know it.

Whoever takes one of these runs against whatever has it: sockets, or a double in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from drachtwist.net.sip.flows import Flow, Listener, Target
from drachtwist.sip.locating import Question, Records

__all__ = ["Carriers", "Resolver"]


class Carriers(Protocol):
    """What carries SIP: :class:`~drachtwist.net.sip.transports.SipTransports`, or a stand-in."""

    @property
    def listeners(self) -> Sequence[Listener]:
        """What is listened on."""
        ...

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send over a flow; False when its connection is gone."""
        ...

    def is_open(self, flow: Flow) -> bool:
        """Return whether a flow can still be sent over."""
        ...

    def flow_to(
        self, target: Target, listener: Listener | None = None, timeout: float | None = None
    ) -> Flow:
        """Find or make the flow to an address."""
        ...

    def open_flow(self, protocol: str, host: str, port: int) -> Flow | None:
        """Find the connection whose other end has this address, if there is one."""
        ...

    def listener_for(self, protocol: str, host: str) -> Listener | None:
        """Choose our address for talking to another."""
        ...

    def close(self, flow: Flow) -> None:
        """Close the connection of a flow."""


class Resolver(Protocol):
    """What asks the DNS."""

    def look_up(self, question: Question, told: Callable[[Records | None], object]) -> None:
        """Find the answer to a question; None when nobody answers.

        What is known is told before this returns.
        """

    def full_names(self, host: str) -> Sequence[str]:
        """Return what a name may stand for, the first choice first."""
        ...
