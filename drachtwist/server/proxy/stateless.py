"""Requests in the dialogs of calls that were proxied, forwarded without any state.

If the proxy asked to stay in a call (Record-Route), the requests in its dialog come by. Only those
of calls that were proxied here pass (:mod:`~drachtwist.server.proxy.known_calls`): this is no open
relay. Repeats have to look alike, and so have the CANCEL and the ACK of a request, so that the
branch is made of what they have in common (RFC 3261 section 16.11).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import WEBSOCKETS, Flow
from drachtwist.net.sip.via import response_hop
from drachtwist.server.checks import breadth_of
from drachtwist.server.compose import via_of
from drachtwist.server.proxy.forwarding import headers_behind_via, hops_of, without_top_via
from drachtwist.server.proxy.known_calls import KnownCalls
from drachtwist.server.proxy.validation import refusal_of
from drachtwist.server.registered import place_of
from drachtwist.server.roles import Core
from drachtwist.sip.encoding import joined, request_line
from drachtwist.sip.fields import Address
from drachtwist.sip.locating import hop_of
from drachtwist.sip.message import Request, Response
from drachtwist.sip.replies import via_lines
from drachtwist.sip.uri import SipUri, Uri

__all__ = ["StatelessProxy"]

_STATELESS = "z9hG4bKst"


class StatelessProxy:
    """Forwards what passes in calls that are known.

    :param core: what sends.
    :param calls: those whose requests may pass.
    """

    __slots__ = ("calls", "core")

    def __init__(self, core: Core, calls: KnownCalls) -> None:
        self.core = core
        self.calls = calls

    def passes(self, request: Request, flow: Flow) -> bool:
        """Forward a request in the dialog of a call that was proxied; say whether it is one."""
        if not self.calls or not request.has("Route"):
            return False
        call = self.calls.find(request.get("Call-ID") or "")
        if call is None:
            return False
        try:
            routes: list[Address] = request.get_parsed_header("Route") or []
            if request.to_tag is None or not routes[0].is_loose:
                return False
            if not self.core.is_own(routes[0].uri):
                return False
            # There are two of ours where the two sides reach us at different addresses.
            own = 1
            while own < len(routes) and self.core.is_own(routes[own].uri):
                own += 1
            following = routes[own].uri if len(routes) > own else request.uri
            uri = Uri.parse(following)
        except (MessageError, IndexError):
            return False
        if not isinstance(uri, SipUri):
            return False
        refusal = refusal_of(request, breadth_of(request), self.core.config.extensions)
        if refusal is not None:
            status, _, lines = refusal
            self.core.send_away(request, flow, status, lines=lines)
            return True
        self.calls.passed(call, request)
        if request.method == "BYE":
            plain = Request.from_bytes(request.raw)
            plain.remove("Route")
            self.core.record("stop", "network", bytes(plain), "normal-release")
        known = None if call.places is None else call.places.get(place_of(following) or "")
        if known is not None and not self.core.carriers.is_open(known):
            moved = self.core.registered.find(following)
            # To one behind a NAT a new connection may do; to a browser it never does.
            known = moved or (known if known.protocol in WEBSOCKETS else None)
        if known is None:
            hop = hop_of(uri, self.core.default_protocol())
            self.core.ways.send(hop, self._passing(request, own))
        elif self.core.carriers.is_open(known):
            self.core.ways.send_over(known, self._passing(request, own), None)
        else:
            self.core.send_away(request, flow, 410)
        return True

    def _passing(self, request: Request, own: int) -> Callable[[Flow], bytes]:
        """Return what writes a request as it is forwarded.

        :param own: how many of its Route values are this server's.
        """
        core = self.core
        via = request.get("Via") or ""
        digest = hashlib.sha1(f"{via} {request.cseq.number}".encode("utf-8", "replace"))
        branch = _STATELESS + digest.hexdigest()[:20]
        lines = via_lines(request)
        for name, value in headers_behind_via(request, own):
            key = name.lower()
            if key == "max-forwards":
                lines.append(f"{name}: {max(hops_of(value) - 1, 0)}")
            elif key not in ("content-length", "l"):
                lines.append(f"{name}: {value}")
        if not request.has("Max-Forwards"):
            lines.append("Max-Forwards: 70")
        start = request_line(request.method, request.uri)
        recorded = request.method != "BYE"

        def write(flow: Flow) -> bytes:
            nonlocal recorded
            own = f"Via: {via_of(flow.protocol, flow.local, branch)}"
            raw = joined(start, [own, *lines], request.body)
            if not recorded:
                recorded = True
                core.record("stop", "application", raw, "normal-release")
            return raw

        return write

    def returns(self, response: Response) -> bool:
        """Send the response to such a request back; say whether it is one."""
        call = self.calls.find(response.get("Call-ID") or "")
        if call is None:
            return False
        try:
            vias = response.vias
            if len(vias) < 2 or not (vias[0].branch or "").startswith(_STATELESS):
                return False
            self.calls.answered(call, response)
        except MessageError:
            return False
        raw = without_top_via(response)
        via = vias[1]
        hop = response_hop(via)
        if hop.numeric and hop.protocol != "udp" and via.rport:
            # Its other end is what was noted in the Via then; where the sender listens may be
            # elsewhere.
            flow = self.core.carriers.open_flow(hop.protocol, hop.host, via.rport)
            if flow is not None:
                self.core.carriers.send(flow, raw)
                return True
        self.core.ways.send(hop, lambda flow: raw)
        return True
