"""Which headers of one side of a call the other side gets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from drachtwist import sip
from drachtwist.errors import SipError
from drachtwist.sip.grammar import COMPACT_FORMS
from drachtwist.sip.headers import Headers, HeadersLike
from drachtwist.sip.registry import is_legible

__all__ = ["HIDE_IDENTITY", "HIDE_TOPOLOGY", "BridgedHeaders", "chosen_headers", "reasons_of"]

_OWN = frozenset(
    """
    via from to call-id cseq contact max-forwards record-route route content-length content-type
    rseq rack require supported proxy-require session-expires min-se timestamp
    authorization proxy-authorization www-authenticate proxy-authenticate authentication-info
    """.split()
)
"""Headers that belong to one side of a call: ``all`` does not include them."""

HIDE_TOPOLOGY = (
    "all",
    *(
        f"-{name}"
        for name in """
        User-Agent Server Organization Warning Error-Info Call-Info Alert-Info Reply-To In-Reply-To
        Path Service-Route History-Info P-Charging-Vector P-Charging-Function-Addresses
        P-Access-Network-Info P-Visited-Network-ID P-Associated-URI P-Called-Party-ID
        Session-ID Replaces Refer-To Referred-By
        """.split()
    ),
)
"""A choice of headers (``proxy_request_headers``, ...) that tells nothing about the network behind:
neither its addresses nor its products (RFC 5853 section 3.1)."""

HIDE_IDENTITY = (
    *HIDE_TOPOLOGY,
    *(
        f"-{name}"
        for name in """
        P-Asserted-Identity P-Preferred-Identity Remote-Party-ID Identity Identity-Info Diversion
        Subject Geolocation User-to-User
        """.split()
    ),
)
"""The same, and nothing about who is calling (RFC 3323)."""

HeadersHook = HeadersLike | Callable[[Any], HeadersLike]
"""Headers, or a function that gives them for a message of the other side."""


class BridgedHeaders:
    """What the application wants the two sides to get.

    :param headers: for the called party, or a function of the caller's request.
    :param response_headers: for the caller, or a function of the response.
    :param request_names: what the called party gets of the caller's request, as for
        :func:`chosen_headers`.
    :param response_names: what the caller gets of each response.
    """

    __slots__ = ("_headers", "_request_names", "_response_headers", "_response_names")

    def __init__(
        self,
        headers: HeadersHook = None,
        response_headers: HeadersHook = None,
        request_names: Sequence[str] = (),
        response_names: Sequence[str] = (),
    ) -> None:
        self._headers = headers
        self._response_headers = response_headers
        self._request_names = tuple(request_names)
        self._response_names = tuple(response_names)

    @property
    def is_plain(self) -> bool:
        """Whether the caller gets no headers at all."""
        return self._response_headers is None and not self._response_names

    def of_request(self, req: sip.Request) -> HeadersLike:
        """Return the headers for the called party."""
        return _joined(self._headers, req, self._request_names)

    def of_response(self, response: sip.Message) -> HeadersLike:
        """Return the headers for the caller."""
        return _joined(self._response_headers, response, self._response_names)

    def of_refusal(self, error: SipError) -> HeadersLike:
        """Return the headers of a refusal; those of a redirect have the contacts."""
        response = error.response
        if not isinstance(response, sip.Response):
            return None
        headers = self.of_response(response)
        if not 300 <= error.status < 400:
            return headers
        joined = Headers(headers)
        joined.add_missing([*_legible("Contact", response)])
        return joined.items()


def _joined(given: HeadersHook, message: sip.Message, names: Sequence[str]) -> HeadersLike:
    headers: HeadersLike = given(message) if callable(given) else given
    if not names:
        return headers
    joined = Headers(headers)
    joined.add_missing(chosen_headers(message, names))
    return joined.items()


def _legible(name: str, message: sip.Message) -> Iterable[tuple[str, str]]:
    """Return the lines of a header that a server would not drop."""
    return [(name, value) for value in message.get_all(name) if is_legible(name, value)]


def reasons_of(message: sip.Message | None) -> HeadersLike:
    """Return the Reason headers of what ends something, one for each protocol (RFC 3326)."""
    return None if message is None else [*_legible("Reason", message)] or None


def chosen_headers(message: sip.Message, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the headers of a message that a list chooses, in the order of the message.

    :param names: names; ``all`` for all that do not belong to one side of the call alone, and
        ``-Name`` for one that is left out.
    """
    names = list(names)
    if not names:
        return []
    without = {_key(name[1:]) for name in names if name.startswith("-")}
    wanted = {_key(name): name for name in reversed(names)}
    wants_all = "all" in wanted
    return [
        (wanted.get(key, name), value)
        for name, value in message.headers.items()
        if (key := _key(name)) not in without
        and (key in wanted or (wants_all and key not in _OWN))
        and is_legible(key, value)  # a server would drop it, and what is behind it
    ]


def _key(name: str) -> str:
    name = name.lower()
    return COMPACT_FORMS.get(name, name)
