"""Which ways there are: the addresses of a name, one after the other, and TCP for long requests.

A request that is longer than ``udp_mtu`` is sent over TCP where UDP is only the default, that is
when its URI names no transport (RFC 3261 section 18.1.1). If no connection can be made it goes
over UDP after all, and so do later ones to that address for some minutes, without trying again.
What happens to requests on their way is in :mod:`~drachtwist.server.attempts`.
"""

from __future__ import annotations

import math
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from drachtwist.errors import LocalProtocolError
from drachtwist.net.sip.flows import Flow, Target
from drachtwist.server.ports import Carriers, Resolver
from drachtwist.sip.locating import Hop, Place, Question, Records, Search, search

__all__ = ["Way", "Ways", "target_of"]

DEFAULT_LIMIT = 1300
"""Bytes of the longest request that goes over UDP: RFC 3261's for a path that is not known."""

CONNECT_WITHIN = 4.0
"""Seconds that a TCP connection may take to come up, when UDP would do as well."""

UNREACHABLE_FOR = 300.0
"""Seconds for which no TCP is tried where none was to be had."""

MAX_TARGETS = 16
"""How many places a request may be sent to, one after the other."""

_REMEMBERED = 1024
_UNSURE = 256


def target_of(hop: Hop) -> Target:
    """Return the target of a hop whose host is an address."""
    return _target(hop.protocol, hop.host, hop.port, hop)


def _target(protocol: str, host: str, port: int, hop: Hop) -> Target:
    if protocol not in ("tls", "wss"):
        return Target(protocol, host, port)
    return Target(protocol, host, port, hop.name, hop.secure)


class Way:
    """The targets of one request to a name, one after the other.

    :param names: what the name may stand for; the next one counts when the DNS has nothing at all
        for the one before.
    :param offered: see :func:`~drachtwist.sip.locating.search`.
    :param look_up: see :class:`~drachtwist.server.ports.Resolver`.
    """

    __slots__ = ("_found", "_look_up", "_names", "_offered", "_random", "_search", "hop", "tried")

    def __init__(
        self,
        hop: Hop,
        names: Sequence[str],
        offered: dict[str, tuple[str, ...]],
        look_up: Callable[[Question, Callable[[Records | None], object]], None],
        random: Callable[[], float],
    ) -> None:
        self.hop = hop
        self._names = iter(names)
        self._offered = offered
        self._look_up = look_up
        self._random = random
        self._search = self._search_for(next(self._names))
        # Whether there was any record.
        self._found = False
        self.tried = 0
        """How many targets there were so far."""

    def _search_for(self, name: str) -> Search:
        return search(self.hop._replace(host=name), self._offered, self._random)

    def next(self, found: Callable[[Target | None], object]) -> None:
        """Find the next target.

        :param found: is called with it, or with None when there is none any more; before this
            returns if everything that it takes is known.
        """
        if self.tried >= MAX_TARGETS:
            self._search.close()
        self._go_on(None, found)

    def _go_on(
        self, answers: list[Records | None] | None, found: Callable[[Target | None], object]
    ) -> None:
        """Search on, with the answers that it waited for, if it did."""
        while True:
            try:
                if answers is None:
                    step = next(self._search)
                elif None in answers:
                    # Nobody answers now, so it is of no use to ask for more.
                    self._search.close()
                    self._names = iter(())
                    found(None)
                    return
                else:
                    self._found = self._found or any(answers)
                    step = self._search.send(cast("list[Records]", answers))
            except StopIteration:
                name = None if self._found else next(self._names, None)
                if name is None:
                    found(None)
                    return
                self._search, answers = self._search_for(name), None
                continue
            if isinstance(step, Place):
                self.tried += 1
                found(_target(step.protocol, step.host, step.port, self.hop))
                return
            answers = self._ask(step, found)
            if answers is None:
                return

    def _ask(
        self, questions: tuple[Question, ...], found: Callable[[Target | None], object]
    ) -> list[Records | None] | None:
        """Return the answers; None if they are not all known: then the search goes on later."""
        answers: dict[int, Records | None] = {}
        later = False

        def told(at: int, records: Records | None) -> None:
            answers[at] = records
            if later and len(answers) == len(questions):
                self._go_on([answers[at] for at in range(len(questions))], found)

        for at, question in enumerate(questions):
            self._look_up(question, partial(told, at))
        later = True
        if len(answers) < len(questions):
            return None
        return [answers[at] for at in range(len(questions))]


class Ways:
    """Finds ways for all requests.

    :param mtu: bytes of the longest request over UDP where there is a choice; 0 for the usual
        number, None for no limit.
    :param carriers: what sends.
    :param resolver: what knows what names stand for.
    :param seconds: tells the time.
    :param chance: gives numbers from 0 to 1, but not 1.
    """

    __slots__ = (
        "_carriers",
        "_chance",
        "_instead",
        "_resolver",
        "_seconds",
        "_stopped",
        "_unreachable",
        "limit",
    )

    def __init__(
        self,
        mtu: int | None,
        carriers: Carriers,
        resolver: Resolver,
        seconds: Callable[[], float],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.limit: float = math.inf if mtu is None else mtu or DEFAULT_LIMIT
        """Bytes of the longest request that goes over UDP where there is a choice."""
        self._carriers = carriers
        self._resolver = resolver
        self._seconds = seconds
        self._stopped = False
        self._chance = chance
        # Addresses that no TCP connection could be made to, the oldest first, and until when.
        self._unreachable: OrderedDict[tuple[str, int], float] = OrderedDict()
        # What was sent over TCP without a transaction, and how it goes over UDP, if it has to.
        self._instead: OrderedDict[bytes, tuple[Flow, bytes]] = OrderedDict()

    def stop(self) -> None:
        """Forget everything, and look for nothing more."""
        self._stopped = True
        self._unreachable.clear()
        self._instead.clear()

    def of(self, hop: Hop) -> Way:
        """Begin to look for the targets of a name."""
        offered: dict[str, tuple[str, ...]] = {}
        for listener in self._carriers.listeners:
            kind = "AAAA" if listener.ipv6 else "A"
            kinds = offered.get(listener.protocol, ())
            if kind not in kinds:
                offered[listener.protocol] = tuple(sorted((*kinds, kind)))
        names = self._resolver.full_names(hop.host)
        return Way(hop, names, offered, self._resolver.look_up, self._chance)

    def over_tcp(self, hop: Hop, flow: Flow, size: int) -> Flow | None:
        """Return the TCP flow that a request takes because it is long; None if it takes none.

        :param hop: what led to the flow that it would take otherwise.
        """
        if size <= self.limit or not hop.open or flow.protocol != "udp":
            return None
        address = (flow.remote_host, flow.remote_port)
        until = self._unreachable.get(address)
        if until is not None:
            if self._seconds() < until:
                return None
            del self._unreachable[address]
        try:
            return self._carriers.flow_to(Target("tcp", *address), timeout=CONNECT_WITHIN)
        except LocalProtocolError:
            return None  # TCP is not served

    def unreachable(self, flow: Flow) -> None:
        """Take note that no TCP connection could be made."""
        self._unreachable[flow.remote_host, flow.remote_port] = self._seconds() + UNREACHABLE_FOR
        if len(self._unreachable) > _REMEMBERED:
            self._unreachable.popitem(last=False)

    def send(self, hop: Hop, write: Callable[[Flow], bytes]) -> None:
        """Send what has no transaction: there is one attempt.

        :param write: writes the message for a flow; it may be called more than once.
        """
        if hop.numeric:
            self._send_to(hop, target_of(hop), write)
            return
        way = self.of(hop)
        way.next(partial(self._found, way, write))

    def _found(self, way: Way, write: Callable[[Flow], bytes], target: Target | None) -> None:
        """Send to a place that was found, or look for the next one."""
        if target is None or self._stopped:
            return
        if not self._send_to(way.hop, target, write):
            way.next(partial(self._found, way, write))

    def _send_to(self, hop: Hop, target: Target, write: Callable[[Flow], bytes]) -> bool:
        """Send to an address; say whether that could be tried."""
        try:
            flow = self._carriers.flow_to(target)
        except LocalProtocolError:
            return False
        self.send_over(flow, write, hop)
        return True

    def send_over(self, flow: Flow, write: Callable[[Flow], bytes], hop: Hop | None) -> None:
        """Send what has no transaction over a flow, or over TCP if it is too long for it.

        :param write: see :meth:`send`.
        :param hop: what led to the flow; None for no other transport.
        """
        raw = write(flow)
        tcp = None if hop is None else self.over_tcp(hop, flow, len(raw))
        if tcp is not None:
            longer = write(tcp)
            if self._carriers.send(tcp, longer):
                self._instead[longer] = (flow, raw)
                if len(self._instead) > _UNSURE:
                    self._instead.popitem(last=False)
                return
            raw = write(flow)
        self._carriers.send(flow, raw)

    def send_failed(self, flow: Flow, data: bytes) -> bool:
        """Send over UDP what could not be sent over TCP; say whether it was such a message."""
        instead = self._instead.pop(data, None) if self._instead else None
        if instead is None:
            return False
        self.unreachable(flow)
        self._carriers.send(*instead)
        return True
