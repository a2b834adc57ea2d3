"""The messages of others as a proxy forwards them (RFC 3261 sections 16.6 and 16.7).

A request gets a Via of ours, one hop less, and our Record-Route if the proxy stays in the dialog;
where the two sides reach us at different addresses two of these (RFC 5658). A response loses our
Via. Everything else stays as it was written, but for what the application adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow
from drachtwist.server.compose import Draft, Field, encode, read_draft, via_of, with_host
from drachtwist.server.dialogs import uri_of
from drachtwist.sip.encoding import joined, request_line, status_line
from drachtwist.sip.fields import Address, parse_integer
from drachtwist.sip.message import Request, Response
from drachtwist.sip.replies import via_lines
from drachtwist.wire.commands import Proxy

__all__ = ["Forwarding", "headers_behind_via", "hops_of", "joined_vias", "without_top_via"]

_REPLACED = frozenset(
    """
    subject expires user-agent content-type session-expires min-se organization referred-by
    """.split()
)


class Target(Protocol):
    """Whom a request is forwarded to."""

    @property
    def uri(self) -> str:
        """The Request-URI for it, where that is the proxy's to choose."""
        ...

    @property
    def path(self) -> Sequence[Address] | None:
        """The Path that leads to it, None if there is none."""
        ...

    @property
    def method(self) -> str:
        """The method."""
        ...

    @property
    def branch(self) -> str:
        """The branch of the Via."""
        ...

    @property
    def breadth(self) -> int | None:
        """Its part of the Max-Breadth, None if there is none."""
        ...

    @property
    def instead(self) -> Flow | None:
        """The UDP flow that it would have taken, if it goes over TCP because it is long."""
        ...


class Forwarding:
    """Writes a request for each of its targets.

    :param request: as it came.
    :param flow: which way it came.
    :param routes: the Route that is left of it.
    :param command: says whether the proxy stays in the dialog, and which headers it adds.
    :param is_own: tells the addresses of this server.
    """

    __slots__ = ("_command", "_flow", "_is_own", "_request", "_routes")

    def __init__(
        self,
        request: Request,
        flow: Flow,
        routes: Sequence[Address],
        command: Proxy,
        is_own: Callable[[str], bool],
    ) -> None:
        self._request = request
        self._flow = flow
        self._routes = routes
        self._command = command
        self._is_own = is_own

    def write(self, branch: Target, flow: Flow) -> Request:
        """Write the request for a target and the flow that it takes (section 16.6)."""
        request = self._request
        # TCP that only the length of this request wants is nothing to route by.
        side = branch.instead or flow
        own = [f"<{uri_of(side.protocol, side.local)};lr>"]
        back = self._flow
        if (back.protocol, back.local) != (side.protocol, side.local):
            # Each side has to find the address that it can reach first (RFC 5658).
            own.append(f"<{uri_of(back.protocol, back.local)};lr>")
        uri, routes = self._way(branch)
        added = read_draft(self._command.message, checked=True) if self._command.message else None
        replaced = set()
        if added is not None:
            replaced = {one.name.lower() for one in added.fields if one.name.lower() in _REPLACED}
        lines = [f"Via: {via_of(flow.protocol, flow.local, branch.branch)}"]
        lines += via_lines(request)
        stays = self._command.record_route and branch.method != "REGISTER"
        if stays:
            lines += [f"Record-Route: {one}" for one in own]
        at = len(lines)
        requires = self._command.record_route and branch.method == "REGISTER"
        if requires:
            # Whoever stays on the way wants a registrar that keeps it (RFC 3327 section 5.2).
            lines.append(f"Path: {own[0]}")
            requires = not request.requires("path")
        lines += [f"Route: {one}" for one in routes]
        hops = "70"
        for name, value in headers_behind_via(request, 0):
            key = name.lower()
            if key == "route":
                continue
            if key == "max-forwards":
                hops = str(max(hops_of(value) - 1, 0))
            elif key == "max-breadth" and branch.breadth is not None:
                lines.append(f"{name}: {branch.breadth}")
            elif key == "require" and requires:
                requires = False
                lines.append(f"{name}: {value}, path" if value else f"{name}: path")
            elif key not in replaced and key != "content-length" and key != "l":
                lines.append(f"{name}: {value}")
        if requires:
            lines.append("Require: path")
        lines.insert(at, f"Max-Forwards: {hops}")
        fields = [] if added is None else _added(added, flow.local)
        start = request_line(branch.method, uri)
        return Request.from_bytes(encode(start, lines, fields, request.body))

    def _way(self, branch: Target) -> tuple[str, list[str]]:
        """Return the Request-URI and the Route for a target."""
        uri = self._request.uri
        if self._is_own(uri) or branch.uri[:3].lower() != "sip" or branch.path is not None:
            uri = branch.uri
        way = [*self._routes, *(branch.path or ())]
        routes = [str(one) for one in way]
        if way and not way[0].is_loose:
            # A strict router wants its own name in front (section 16.6, step 6).
            return way[0].uri, [*routes[1:], f"<{uri}>"]
        return uri, routes


def _added(draft: Draft, local: str) -> list[Field]:
    """Return the headers that an application adds, which has no say about the Contact.

    :param local: our address and port.
    """
    fields = []
    for one in draft.fields:
        if one.name == "P-Asserted-Identity":
            one = one._replace(value=with_host(one.value, local))
        if one.name != "Contact":
            fields.append(one)
    return fields


def hops_of(text: str) -> int:
    """Read a Max-Forwards; 70 of one that is none."""
    try:
        return parse_integer(text)
    except MessageError:
        return 70


def headers_behind_via(request: Request, routes: int) -> list[tuple[str, str]]:
    """Return the headers but for Via, without the topmost values of Route.

    :param routes: how many of these.
    """
    found = []
    for name, value in request.headers.items():
        key = name.lower()
        if key in ("via", "v"):
            continue
        if key == "route" and routes:
            try:
                values = Address.parse_list(value)
            except MessageError:
                values = []
            rest = values[routes:]
            routes -= len(values) - len(rest)
            if not rest:
                continue
            value = ", ".join(str(one) for one in rest)
        found.append((name, value))
    return found


def without_top_via(response: Response) -> bytes:
    """Take the proxy's own Via away."""
    lines = [f"Via: {via}" for via in response.vias[1:]]
    for name, value in response.headers.items():
        if name.lower() not in ("via", "v", "content-length", "l"):
            lines.append(f"{name}: {value}")
    return joined(status_line(response.status, response.reason), lines, response.body)


def joined_vias(raw: bytes) -> bytes:
    """Write all Via values into one line, as the real server reports responses."""
    response = Response.from_bytes(raw)
    vias = response.get_all("Via")
    if len(vias) < 2:
        return raw
    head, gap, body = raw.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    kept = []
    for line in lines:
        name = line.partition(b":")[0].strip().lower()
        if name in (b"via", b"v"):
            if vias:
                kept.append(("Via: " + ", ".join(vias)).encode("utf-8", "surrogateescape"))
                vias = []
            continue
        kept.append(line)
    return b"\r\n".join(kept) + gap + body
