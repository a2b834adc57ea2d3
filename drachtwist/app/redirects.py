"""Where a request goes when it is redirected (RFC 3261 section 8.1.3.4).

The contacts of a 3xx are tried by preference. If one redirects again its contacts come first, and
what is left of those before behind them. None is tried twice, and after four redirects the last one
is the answer.
"""

from __future__ import annotations

from drachtwist.app.received import ReceivedResponse
from drachtwist.app.targets import can_be_called
from drachtwist.errors import MessageError
from drachtwist.sip.targets import by_preference

__all__ = ["MAX_HOPS", "Redirects"]

MAX_HOPS = 4
"""How many redirects are followed."""


class Redirects:
    """The contacts that a request was redirected to.

    :param routed: whether the request goes to a proxy, which knows what to do with any URI.
    """

    __slots__ = ("_hops", "_routed", "_targets", "_tried", "refusal")

    refusal: ReceivedResponse
    """What came last: the outcome if nothing that is left can be tried."""

    def __init__(self, *, routed: bool) -> None:
        self._routed = routed
        self._hops = 0
        self._targets: list[str] = []
        self._tried: set[str] = set()

    def __bool__(self) -> bool:
        """Return whether a contact is left to be tried."""
        return bool(self._targets)

    def add(self, response: ReceivedResponse, asked: set[str]) -> bool:
        """Take the contacts of a redirect.

        :param asked: the URIs that the request was sent to.
        :returns: whether to try another one.
        """
        self.refusal = response
        self._hops += 1
        try:
            contacts = by_preference(response.contacts)
        except MessageError:
            contacts = []
        known = asked | self._tried
        targets = [
            one.uri
            for one in contacts
            if one.uri not in known and can_be_called(one.uri, routed=self._routed)
        ]
        self._tried.update(targets)
        self._targets = targets + self._targets
        return self._hops <= MAX_HOPS and bool(self._targets)

    def next(self, response: ReceivedResponse) -> str:
        """Return the contact to be tried now.

        :param response: what came last.
        """
        self.refusal = response
        return self._targets.pop(0)
