"""The server as a proxy: an application hands a request back, and the server forwards it.

A stateful proxy as in RFC 3261 section 16, told what to do as drachtio's ``proxy`` command tells
it, and telling the application what it saw: each final response of a target, then ``done``. It
keeps to the RFC where the real server does not: every target is tried, failures are repeated until
they are acknowledged, a 6xx ends the search, the final timeout counts, and there always is a
``done``.

Here a request is looked at before it is forwarded (:mod:`~drachtwist.server.proxy.validation`), and
it is noted which calls the proxy stays in. The search for whoever accepts it is a
:class:`~drachtwist.server.proxy.response_context.ResponseContext`; what comes later, in the dialog,
is forwarded by :mod:`~drachtwist.server.proxy.stateless`.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from drachtwist.net.sip.flows import WEBSOCKETS, Flow
from drachtwist.server.checks import breadth_of
from drachtwist.server.dialogs import contact_of
from drachtwist.server.incoming import Forwarder, Incoming
from drachtwist.server.neighbours import is_adjacent, is_behind_nat
from drachtwist.server.orphans import RETRY_AFTER
from drachtwist.server.proxy.known_calls import KnownCall, KnownCalls
from drachtwist.server.proxy.response_context import ResponseContext
from drachtwist.server.proxy.stateless import StatelessProxy
from drachtwist.server.proxy.validation import came_back, mark_of, refusal_of
from drachtwist.server.registered import place_of
from drachtwist.server.roles import Core
from drachtwist.sip.message import Request, Response
from drachtwist.sip.status import reason_phrase
from drachtwist.wire.commands import Proxy, TransactionId
from drachtwist.wire.decisions import ProxyTo
from drachtwist.wire.reports import DONE

if TYPE_CHECKING:
    from drachtwist.server.clients import AppLink

__all__ = ["ProxyServer"]


class _Nobody:
    """Stands in for an application where there is none."""

    tags: tuple[str, ...] = ()
    paused = behind = False

    def send(self, payload: bytes) -> None:
        """Send nothing."""

    def answer(self, message_id: str, verdict: str, *tokens: str, raw: bytes = b"") -> None:
        """Answer nobody."""

    def refuse(self, message_id: str, text: str) -> None:
        """Refuse nobody."""


class ProxyServer:
    """The server as a proxy."""

    __slots__ = ("_key", "calls", "core", "stateless", "timing")

    def __init__(self, core: Core) -> None:
        self.core = core
        # The real server waits T1 here, unlike in what it sends for applications.
        self.timing = replace(core.timing, request_step=None)
        self._key = os.urandom(16)
        self.calls = KnownCalls(core.clock, core.timing, core.limits.proxied_calls)
        """Those whose requests may pass."""
        self.stateless = StatelessProxy(core, self.calls)
        """What forwards these."""

    def count(self) -> int:
        """Count the requests that are being proxied."""
        return sum(
            one.proxied is not None and one.transaction.status < 200
            for one in self.core.transactions.servers.values()
        )

    def begin(self, link: AppLink, message_id: str, command: Proxy) -> None:
        """Carry out a ``proxy`` command."""
        core = self.core
        incoming = core.uas.open.get(command.transaction_id)
        if incoming is None or not incoming.untouched:
            text = f"Unknown transaction id: {command.transaction_id}".replace("|", " ")
            link.answer(message_id, "NOK", text)
            return
        request = incoming.request
        mark = mark_of(request, self._key)
        breadth = breadth_of(request)
        call = ResponseContext(core, incoming, link, message_id, command, mark, breadth)
        core.uas.taken(incoming, call)
        refusal = refusal_of(request, breadth, core.config.extensions)
        if refusal is None and (len(command.destinations) > 1 or command.follow_redirects):
            refusal = came_back(request, mark)
        if refusal is None and command.record_route and self.calls.is_full(request):
            core.alerts.note("proxied_calls", "too many proxied calls are known: new ones get 503")
            refusal = 503, "too many calls", [RETRY_AFTER]
        if refusal is not None:
            status, why, lines = refusal
            core.uas.refuse(incoming, status, lines=lines)
            text = f"Rejected with {status} {reason_phrase(status)} due to {why}"
            link.answer(message_id, "NOK", text.replace("|", " "))
            return
        if command.record_route:
            call.known = self.calls.begun(request)
            if call.known is not None:
                adjacent = is_adjacent(request, core.is_own)
                self.learn(call.known, request, incoming.flow, adjacent)
        if not call.begin() and not call.branches:
            call.told = True
            core.uas.refuse(incoming, 500)
            link.answer(message_id, "NOK", "error proxying request to ")
        elif not command.full_response:
            call.told = True
            link.answer(message_id, "OK", DONE)

    def forward(self, incoming: Incoming, decision: ProxyTo) -> None:
        """Proxy a request because a web application decided so; nobody is told what comes of it."""
        command = Proxy(
            TransactionId(incoming.id),
            decision.destinations,
            record_route=decision.record_route,
            full_response=False,
            follow_redirects=decision.follow_redirects,
            simultaneous=decision.simultaneous,
            provisional_timeout=decision.provisional_timeout,
            final_timeout=decision.final_timeout,
        )
        self.begin(_Nobody(), "", command)

    def stop(self) -> None:
        """Forget everything."""
        self.calls.clear()

    def over(self, call: Forwarder) -> None:
        """Note that the transaction of a request that was proxied is gone."""
        call.let_go()
        if call.known is not None:
            self.calls.settled(call.known)

    def learn(
        self, known: KnownCall, message: Request | Response, flow: Flow, adjacent: bool
    ) -> None:
        """Take note of how somebody in a call is reached whose Contact leads nowhere.

        That is a browser, since nobody can connect to one, and whoever is behind a NAT.

        :param adjacent: whether there is no other proxy in between.
        """
        contact = contact_of(message)
        if flow.protocol not in WEBSOCKETS:
            nat = self.core.config.nat_detection
            if not adjacent or not is_behind_nat(contact, flow, nat):
                return
        key = None if contact is None else place_of(contact.uri)
        if key is not None:
            known.places = {**(known.places or {}), key: flow}
