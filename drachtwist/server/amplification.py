"""How much somebody who forges the source of a datagram can make the server send.

Over UDP anybody can send a small request in the name of somebody else, who then gets all that
comes of it: the answer, and each repeat of the answer, since no ACK will ever come (RFC 3261
section 26.1.5). So what goes to an address that has not shown that it receives us is sent once, and
repeated a few times only. Two things are never held back: whatever is sent for the first time, and
the answer to a request that comes again.

An address is *confirmed* by what only somebody can know who received what went there: the tag of
one of our responses, in an ACK, a PRACK or any other request of a dialog; the nonce of a challenge;
the branch of a request, in the response to it. All of these count only if they come from the very
address that they were sent to: otherwise somebody could learn them at his own address. From then
on everything is repeated as RFC 3261 says.

While an address is not confirmed, repeats are sent as long as all that went there is not more than
:data:`FACTOR` times what came from there (the factor of RFC 9000 section 8.1), and otherwise
``unconfirmed_repeats`` of :class:`~drachtwist.server.limits.ServerLimits` of them, all together.
Held back repeats are lost, as anything may be over UDP: nobody waits longer or shorter for that.

Where an application calls to is its own decision, so its requests are repeated as always. Not so
what the server sends on behalf of an unconfirmed source, which may have named the place: requests
that are proxied for it, and those in a dialog that it began (see :meth:`Amplification.suspect`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow, Listener, Target
from drachtwist.sip.message import Request, Response

if TYPE_CHECKING:
    from drachtwist.net.alerts import Alerts
    from drachtwist.server.ports import Carriers

__all__ = ["FACTOR", "Amplification"]

FACTOR = 3
"""How many times as many bytes go to an unconfirmed address as came from there before repeats are
counted."""

LIFETIME = 90.0
"""Seconds without a datagram after which an unconfirmed address is forgotten; twice at most."""

CONFIRMED_FOR = 3600.0
"""Seconds that an address stays confirmed after it showed it once more; twice at most."""

MOST_UNCONFIRMED = 10_000
"""How many unconfirmed addresses are known in :data:`LIFETIME`."""

MOST_CONFIRMED = 50_000
"""How many confirmed addresses are known in :data:`CONFIRMED_FOR`."""

_MOST_CREDIT = 1 << 16
# Tags and nonces that are remembered of an address.
_MOST_SECRETS = 64

_CHALLENGES = frozenset((b"401", b"407"))
_NONCE = re.compile(
    rb'\r\n(?:WWW|Proxy)-Authenticate[ \t]*:[^\r\n]*?[ \t,]nonce="([^"\r\n]+)"', re.IGNORECASE
)
_GIVEN_NONCE = re.compile(r'\bnonce[ \t]*=[ \t]*"([^"]*)"', re.IGNORECASE)

_Address = tuple[str, int]


class _Account:
    """What went to an unconfirmed address, and what came from there."""

    __slots__ = ("credit", "repeats", "secrets")

    def __init__(self) -> None:
        self.credit = 0
        """Bytes that may still be sent before repeats are counted."""
        self.repeats = 0
        """How many repeats were sent."""
        # What only the receiver of what was sent knows, the oldest first.
        self.secrets: dict[str, None] = {}

    def share(self, secret: str) -> None:
        """Remember what only the receiver of a message knows."""
        secrets = self.secrets
        if secret not in secrets:
            if len(secrets) >= _MOST_SECRETS:
                del secrets[next(iter(secrets))]
            secrets[secret] = None


class Amplification:
    """Carriers that hold back repeats to UDP addresses that are not confirmed.

    :param carriers: what carries.
    :param most: how many repeats an unconfirmed address gets.
    :param seconds: the time.
    :param alerts: where it is noted that a repeat was held back.
    """

    def __init__(
        self, carriers: Carriers, most: int, seconds: Callable[[], float], alerts: Alerts
    ) -> None:
        self._carriers = carriers
        self._most = most
        self._repeating = False
        self._seconds = seconds
        self._alerts = alerts
        # In two generations each: the newer one becomes the older one when it is full or old.
        self._confirmed: set[_Address] = set()
        self._confirmed_before: set[_Address] = set()
        self._confirmed_until = seconds() + CONFIRMED_FOR
        self._accounts: dict[_Address, _Account] = {}
        self._accounts_before: dict[_Address, _Account] = {}
        self._accounts_until = seconds() + LIFETIME

    def __len__(self) -> int:
        """Return how many addresses are known, confirmed or not."""
        return (
            len(self._confirmed)
            + len(self._confirmed_before)
            + len(self._accounts)
            + len(self._accounts_before)
        )

    # What is none of its business

    @property
    def listeners(self) -> Sequence[Listener]:
        """What is listened on."""
        return self._carriers.listeners

    def is_open(self, flow: Flow) -> bool:
        """Return whether a flow can still be sent over."""
        return self._carriers.is_open(flow)

    def flow_to(
        self, target: Target, listener: Listener | None = None, timeout: float | None = None
    ) -> Flow:
        """Find or make the flow to an address."""
        return self._carriers.flow_to(target, listener, timeout)

    def open_flow(self, protocol: str, host: str, port: int) -> Flow | None:
        """Find the connection whose other end has this address, if there is one."""
        return self._carriers.open_flow(protocol, host, port)

    def listener_for(self, protocol: str, host: str) -> Listener | None:
        """Choose our address for talking to another."""
        return self._carriers.listener_for(protocol, host)

    def close(self, flow: Flow) -> None:
        """Close the connection of a flow."""
        self._carriers.close(flow)

    # What is asked

    def is_confirmed(self, flow: Flow) -> bool:
        """Return whether whoever a flow leads to has shown that it receives us."""
        if flow.protocol != "udp":
            return True
        address = (flow.remote_host, flow.remote_port)
        return address in self._confirmed or address in self._confirmed_before

    # What happens

    def received(self, message: object, flow: Flow, size: int) -> None:
        """Take note of a datagram."""
        if flow.protocol != "udp":
            return
        address = (flow.remote_host, flow.remote_port)
        if address in self._confirmed or address in self._confirmed_before:
            return
        account = self._account(address)
        if account is None:
            if not isinstance(message, Request):
                return
            account = self._open(address)
        elif account.secrets and isinstance(message, Request) and _knows(message, account.secrets):
            self.confirm(flow)
            return
        account.credit = min(account.credit + FACTOR * size, _MOST_CREDIT)

    def tagged(self, flow: Flow, tag: str) -> None:
        """Take note of a tag that we made, in a response that is sent over a flow."""
        if not self.is_confirmed(flow):
            account = self._account((flow.remote_host, flow.remote_port))
            if account is not None:
                account.share(tag)

    def passed(self, flow: Flow, raw: bytes) -> None:
        """Take note of the tag in somebody else's response that is sent over a flow."""
        if not self.is_confirmed(flow):
            try:
                tag = Response.from_bytes(raw).to.tag
            except MessageError:
                return
            if tag:
                self.tagged(flow, tag)

    def responded(self, flow: Flow, asked: Flow | None) -> None:
        """Take note of a response to a request of ours: it has the branch of that.

        :param flow: how it came.
        :param asked: where the request was sent.
        """
        if asked is not None and (asked.remote_host, asked.remote_port) == (
            flow.remote_host,
            flow.remote_port,
        ):
            self.confirm(flow)

    def suspect(self, flow: Flow, cause: Flow) -> None:
        """Take note that a request is about to be sent on behalf of somebody.

        :param flow: where to.
        :param cause: where that comes from; nothing happens if it is confirmed.
        """
        if self.is_confirmed(cause) or self.is_confirmed(flow):
            return
        address = (flow.remote_host, flow.remote_port)
        if self._account(address) is None:
            self._open(address)

    def confirm(self, flow: Flow) -> None:
        """Take note that whoever a flow leads to receives us."""
        if flow.protocol != "udp":
            return
        address = (flow.remote_host, flow.remote_port)
        if address in self._confirmed:
            return
        now = self._seconds()
        if len(self._confirmed) >= MOST_CONFIRMED or now >= self._confirmed_until:
            self._confirmed_before, self._confirmed = self._confirmed, set()
            self._confirmed_until = now + CONFIRMED_FOR
        self._confirmed.add(address)
        self._accounts.pop(address, None)
        self._accounts_before.pop(address, None)

    def send(self, flow: Flow, data: bytes) -> bool:
        """Send over a flow; False when its connection is gone.

        A repeat that is held back counts as sent, as one that gets lost.
        """
        if flow.protocol == "udp" and not self._lets_out(flow, data):
            return True
        return self._carriers.send(flow, data)

    def repeat(self, act: Callable[..., object], *args: object) -> None:
        """Do something; what it sends are repeats that nobody asked for."""
        self._repeating = True
        try:
            act(*args)
        finally:
            self._repeating = False

    # Inside

    def _lets_out(self, flow: Flow, data: bytes) -> bool:
        address = (flow.remote_host, flow.remote_port)
        if address in self._confirmed or address in self._confirmed_before:
            return True
        account = self._account(address)
        is_response = data[:4] == b"SIP/"
        if account is None:
            if not is_response:
                return True
            account = self._open(address)
        size = len(data)
        if self._repeating:
            if account.repeats >= self._most and account.credit < size:
                self._alerts.note(
                    "unconfirmed_repeats",
                    "{peer} has not shown that it receives us: it gets no more repeats",
                    peer=flow.remote,
                )
                return False
            account.repeats += 1
        elif is_response and data[8:11] in _CHALLENGES:
            for nonce in _NONCE.findall(data):
                account.share(nonce.decode("latin-1"))
        account.credit -= size
        return True

    def _account(self, address: _Address) -> _Account | None:
        if self._seconds() >= self._accounts_until:
            self._turn()
        account = self._accounts.get(address)
        if account is None and address in self._accounts_before:
            account = self._accounts_before.pop(address)
            self._enter(address, account)
        return account

    def _open(self, address: _Address) -> _Account:
        account = _Account()
        self._enter(address, account)
        return account

    def _enter(self, address: _Address, account: _Account) -> None:
        if len(self._accounts) >= MOST_UNCONFIRMED:
            self._turn()
        self._accounts[address] = account

    def _turn(self) -> None:
        """Begin a new generation of unconfirmed addresses."""
        now = self._seconds()
        idle = now >= self._accounts_until + LIFETIME
        self._accounts_before = {} if idle else self._accounts
        self._accounts = {}
        self._accounts_until = now + LIFETIME


def _knows(request: Request, secrets: dict[str, None]) -> bool:
    """Return whether a request has a tag or nonce that was sent where it comes from."""
    try:
        if request.to.tag in secrets:
            return True
        for name in ("Authorization", "Proxy-Authorization"):
            for value in request.get_all(name):
                found = _GIVEN_NONCE.search(value)
                if found is not None and found[1] in secrets:
                    return True
    except MessageError:
        pass
    return False
