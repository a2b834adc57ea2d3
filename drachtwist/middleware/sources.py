"""Who may ask at all: by network, by how often, by what the client calls itself."""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from drachtwist.app.interfaces import Next
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.errors import LocalProtocolError
from drachtwist.middleware.outside import may_refuse
from drachtwist.net.logs import Logger

__all__ = ["SCANNERS", "BlockScanners", "RateLimit", "SourceFilter"]

_log = Logger(namespace="drachtwist.middleware.sources")

SCANNERS = (
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sundayddr",
    "sipcli",
    "sip-scan",
    "sipsak",
    "siparmyknife",
    "smap",
    "iWar",
    "VaxSIPUserAgent",
    "VaxIPUserAgent",
    "pplsip",
    "eyeBeam release 3006o",
    "Test Agent",
    "CSipSimple exploit",
    "sipptk",
    "Ozeki",
)
"""What clients call themselves that look for open doors; parts of the User-Agent, in any case."""


def _networks(texts: Iterable[str]) -> list[Any]:
    found = []
    for text in texts:
        try:
            found.append(ip_network(text, strict=False))
        except ValueError as error:
            raise LocalProtocolError(f"no network: {text!r}") from error
    return found


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class SourceFilter:
    """Lets only some networks in.

    The narrowest network that an address is in decides; ``deny`` when both name the same.

    :param allow: addresses and networks (``10.0.0.0/8``, ``2001:db8::/32``). With any given, all
        others are refused.
    :param deny: those that are refused.
    :param status: the refusal.
    :raises LocalProtocolError: for what is no network.
    """

    def __init__(
        self, allow: Iterable[str] = (), deny: Iterable[str] = (), *, status: int = 403
    ) -> None:
        self._allow = _networks(allow)
        self._deny = _networks(deny)
        self._status = status

    def allows(self, address: str) -> bool:
        """Return whether an address may ask."""
        source = _address(address)
        if source is None:
            return not self._allow
        allowed = _narrowest(self._allow, source)
        denied = _narrowest(self._deny, source)
        if denied < 0:
            return allowed >= 0 or not self._allow
        return allowed > denied

    def __call__(self, req: Request, res: Response, next: Next) -> Any:
        """Refuse those who may not ask."""
        if self.allows(req.source_address) or not may_refuse(req):
            return next()
        _log.info(
            "refused {method} from {peer}, Call-ID {call_id}",
            method=req.method,
            peer=req.source_address,
            call_id=req.get("Call-ID"),
        )
        res.send(self._status)
        return None


def _narrowest(networks: Iterable[Any], source: IPv4Address | IPv6Address) -> int:
    """Return the prefix length of the narrowest network with an address; -1 for none."""
    return max((one.prefixlen for one in networks if source in one), default=-1)


class RateLimit:
    """Lets each source make only so many requests.

    Each has a bucket of ``burst`` tokens that fills again at ``rate`` a second.

    :param rate: requests a second, in the long run.
    :param burst: requests at once; as many as in a second, and at least one, if None.
    :param key: gives what to count by for a request; the address it came from if None.
    :param methods: which methods count; all if None.
    :param status: the refusal, which comes with Retry-After.
    :param max_sources: how many sources are remembered; one that is forgotten starts anew.
    :raises LocalProtocolError: for numbers that make no sense.
    """

    def __init__(
        self,
        rate: float,
        *,
        burst: float | None = None,
        key: Callable[[Request], Any] | None = None,
        methods: Iterable[str] | None = None,
        status: int = 503,
        max_sources: int = 100_000,
    ) -> None:
        self._rate = rate
        self._burst = max(rate, 1.0) if burst is None else burst
        if rate <= 0 or self._burst < 1 or max_sources < 1:
            raise LocalProtocolError("a rate has to be positive, and a burst at least 1")
        self._key = key
        self._methods = None if methods is None else {method.upper() for method in methods}
        self._status = status
        self._max = max_sources
        # Tokens, and when they were counted, by source; what was used last stands last.
        self._buckets: OrderedDict[Any, tuple[float, float]] = OrderedDict()

    def __call__(self, req: Request, res: Response, next: Next) -> Any:
        """Refuse what is too much."""
        if not may_refuse(req) or (self._methods is not None and req.method not in self._methods):
            return next()
        key = req.source_address if self._key is None else self._key(req)
        now = req.srf.clock.seconds()
        tokens, counted = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - counted) * self._rate)
        enough = tokens >= 1
        self._buckets[key] = (tokens - 1 if enough else tokens, now)
        if len(self._buckets) > self._max:
            self._buckets.popitem(last=False)
        if enough:
            return next()
        wait = max(math.ceil((1 - tokens) / self._rate), 1)
        res.send(self._status, headers={"Retry-After": str(wait)})
        return None


class BlockScanners:
    """Refuses clients that look for open doors.

    :param patterns: regular expressions for the User-Agent, in any case.
    :param status: the refusal.
    :raises LocalProtocolError: for a pattern that is none.
    """

    def __init__(self, patterns: Iterable[str] = SCANNERS, *, status: int = 403) -> None:
        try:
            joined = "|".join(f"(?:{pattern})" for pattern in patterns)
            self._pattern = re.compile(joined or "(?!)", re.IGNORECASE)
        except re.error as error:
            raise LocalProtocolError(f"bad pattern: {error}") from error
        self._status = status

    def __call__(self, req: Request, res: Response, next: Next) -> Any:
        """Refuse a scanner."""
        agent = req.get("User-Agent")
        if agent is None or self._pattern.search(agent) is None or not may_refuse(req):
            return next()
        _log.info(
            "refused the scanner {agent} from {peer}, Call-ID {call_id}",
            agent=agent,
            peer=req.source_address,
            call_id=req.get("Call-ID"),
        )
        res.send(self._status)
        return None
