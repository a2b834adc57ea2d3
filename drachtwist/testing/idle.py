"""What is left of calls: nothing may be, when they are over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from drachtwist.app.srf import Srf
from drachtwist.testing.clock import SimulatedClock
from drachtwist.testing.phone import Phone
from drachtwist.testing.serving import Server

__all__ = ["LINGER", "left_at_once", "left_in_the_end"]

LINGER = 70.0
"""Seconds after which no transaction waits for repeats any more, nor a server for an application:
twice 64*T1 (RFC 3261 table 4), and some."""

# Whose timers are no part of a call: transactions are counted, and connections are.
_HOUSEKEEPING = (
    "drachtwist.net.",
    "drachtwist.server.",
    "drachtwist.testing.",
    "drachtwist.app.silence.",
    "twisted.application.",
    "twisted.web.",
)


class Network(Protocol):
    """What is looked through."""

    clock: SimulatedClock

    @property
    def phones(self) -> Mapping[str, Phone]:
        """The phones."""
        ...

    @property
    def servers(self) -> Mapping[str, Server]:
        """The servers."""
        ...

    @property
    def applications(self) -> Mapping[str, Srf]:
        """The applications."""
        ...

    def other_connections(self) -> list[str]:
        """Name the connections that carry neither frames nor SIP."""
        ...


def left_at_once(net: Network) -> list[str]:
    """Say what has no business to be there when the calls are over."""
    found = []
    for phone in net.phones.values():
        found += [f"a call: {call!r}" for call in phone.calls if not call.over]
    for name, srf in net.applications.items():
        for state in srf._connections.table.values():
            found += [f"a dialog of {name}: {dialog!r}" for dialog in state.dialogs]
    for server in net.servers.values():
        core = server.service.core
        if core is not None and len(core.dialogs):
            found.append(f"{_many(len(core.dialogs), 'dialog')} of {server.name}")
    return found


def left_in_the_end(net: Network) -> list[str]:
    """Say what is still there when all transactions have had their time."""
    found = left_at_once(net)
    for phone in net.phones.values():
        if phone.agent.transactions:
            found.append(f"{_many(phone.agent.transactions, 'transaction')} of {phone.name}")
    for server in net.servers.values():
        core = server.service.core
        counts = {} if core is None else core.counts()
        for what in ("server_transactions", "client_transactions", "open_requests", "orphans"):
            if counts.get(what):
                found.append(f"{_many(counts[what], what[:-1].replace('_', ' '))} of {server.name}")
    for name, srf in net.applications.items():
        if not srf.idle:
            found.append(f"transactions of {name}")
        found += [
            f"a connection that {name} was given for a request: {link!r}"
            for link in srf.links
            if link.outbound
        ]
    found += [
        f"a timer: {_described(call, net)}"
        for call in net.clock.getDelayedCalls()
        if not _is_ours(call)
    ]
    found += [f"a connection: {one}" for one in net.other_connections()]
    return found


def _many(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")


def _function(call: Any) -> Any:
    what = call.func
    return getattr(what, "func", what)


def _is_ours(call: Any) -> bool:
    what = _function(call)
    owner = getattr(what, "__self__", None)
    module = type(owner).__module__ if owner is not None else getattr(what, "__module__", "")
    return f"{module}.".startswith(_HOUSEKEEPING)


def _described(call: Any, net: Network) -> str:
    what = _function(call)
    owner = getattr(what, "__self__", None)
    loop = getattr(owner, "f", None)
    if loop is not None:
        what, owner = loop, None  # a LoopingCall
    name = getattr(what, "__qualname__", "") or repr(what)
    return f"{name}, due in {call.getTime() - net.clock.seconds():g} s" + (
        f" ({owner!r})" if owner is not None else ""
    )
