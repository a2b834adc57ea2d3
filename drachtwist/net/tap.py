"""Where what passes can be looked at: SIP at the sockets, frames at the links of an application.

There are two taps. ``SipTransports.tap`` sees each SIP message as it comes from a socket, before
anything is noted in it, and as it is written to one. ``DrachtioProtocol.tap`` sees each frame of an
application that carries SIP or is about it; what authenticates a link, its routes and its pings
pass by. Both are None unless somebody looks, which is all that they cost then.

A tap is called on the way of every message: it keeps what it needs and looks at it later. What it
raises would be taken for a fault of the message, so it raises nothing.
:class:`drachtwist.tracing.Trace` is a tap for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

__all__ = ["FrameTap", "SipTap", "Way"]


class Way(Protocol):
    """Between whom a message passes; a :class:`~drachtwist.net.sip.flows.Flow` is one."""

    @property
    def protocol(self) -> str:
        """``udp``, ``tcp``, ``tls``, ``ws`` or ``wss``."""
        ...

    @property
    def remote_host(self) -> str:
        """The peer's address, without brackets."""
        ...

    @property
    def remote_port(self) -> int:
        """The peer's port."""
        ...

    @property
    def local_host(self) -> str:
        """Our address as the peer sees it."""
        ...

    @property
    def local_port(self) -> int:
        """The port that we listen on with this transport."""
        ...


class SipTap(Protocol):
    """Looks at SIP."""

    def sip_passed(self, way: Way, raw: bytes, sent: bool) -> None:
        """Look at a message.

        :param raw: as it is on the wire, without the frames of a WebSocket. What is no message is
            shown too.
        :param sent: whether it was sent from here; otherwise it came in.
        """


class FrameTap(Protocol):
    """Looks at frames."""

    def frame_passed(self, link: Any, line: str | Sequence[str], raw: bytes, sent: bool) -> None:
        """Look at a frame.

        :param link: the :class:`~drachtwist.net.protocol.DrachtioProtocol`.
        :param line: the first line: of a frame that came in the tokens, the frame's id first
            (:mod:`drachtwist.wire.reports` names their places); of one that was sent the text
            behind its id.
        :param raw: the SIP message behind the line, or nothing. Of a message that is sent it is
            what the application gave; the answer that comes back has it as the server sent it.
        :param sent: whether the application sent it.
        """
