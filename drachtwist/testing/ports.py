"""What parts of the kit need of each other, so that they need not know each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from drachtwist.sip.headers import Headers, HeadersLike
from drachtwist.sip.message import Request, Response
from drachtwist.testing.agent import ClientTransaction
from drachtwist.testing.datagrams import Datagrams
from drachtwist.testing.exchange import Exchange
from drachtwist.testing.history import Address, History
from drachtwist.testing.hosts import Host, Internet
from drachtwist.testing.media import OwnSdp
from drachtwist.transactions.machine import Machine

__all__ = ["Surroundings", "Telephone"]


class Surroundings(Protocol):
    """What a phone needs of its network."""

    number: int
    internet: Internet
    datagrams: Datagrams
    history: History

    def settle(self) -> None:
        """Let happen what takes no time."""

    def carry_keys(self, call: Any, keys: str) -> None:
        """Carry keys that are pressed in the sound of a call."""


class Telephone(Protocol):
    """What a call needs of its phone."""

    name: str
    host: Host
    sdp: OwnSdp
    headers: Headers

    @property
    def uri(self) -> str:
        """Its Contact."""
        ...

    @property
    def aor(self) -> str:
        """The address of its user."""
        ...

    @property
    def server_address(self) -> Address:
        """Where requests go that belong to no dialog."""
        ...

    def uri_of(self, to: Any) -> str:
        """Write whom a request is for as a URI."""
        ...

    def via(self) -> str:
        """Write a Via with a new branch."""
        ...

    def now(self) -> float:
        """Return the time."""
        ...

    def next_media_port(self) -> int:
        """Return a port for the sound of a call."""
        ...

    def next_hop(self, uri: str) -> Address:
        """Return where a URI leads."""
        ...

    def transmit(self, data: bytes, target: Address) -> None:
        """Send octets."""

    def ask(
        self, request: Request, target: Address, told: Callable[[Response | None], object]
    ) -> ClientTransaction:
        """Send a request."""
        ...

    def send_in(self, call: Any, request: Request) -> Exchange:
        """Send a request in the dialog of a call."""
        ...

    def reply_to(self, request: Request) -> int | None:
        """Return what the test wants to be answered; None for nothing."""
        ...

    def with_credentials(self, request: Request, response: Response) -> Request | None:
        """Make a request again, with an answer to the challenge; None when that is no use."""
        ...

    def follow(self, call: Any, request: Request) -> None:
        """Call whom a REFER names, and tell how that goes."""

    def carry_keys(self, call: Any, keys: str) -> None:
        """Carry keys that are pressed in the sound of a call."""

    def watch(self, machine: Machine) -> None:
        """Watch the deadline of a machine."""

    def forget(self, machine: Machine) -> None:
        """Watch it no more."""

    def settle(self) -> None:
        """Let happen what takes no time."""

    def remark(self, text: str) -> None:
        """Put a remark into the ladder."""

    def invite(self, to: Any, *, sdp: OwnSdp = None, headers: HeadersLike = None) -> Any:
        """Call somebody."""
        ...
