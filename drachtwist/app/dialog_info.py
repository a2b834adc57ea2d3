"""States of calls, as RFC 4235 names them, for lamps that show who is on the phone.

====================  =============================================================================
``trying``            the INVITE was sent, or came
``proceeding``        a provisional response without a To tag
``early``             a provisional response with one
``confirmed``         the 200
``terminated``        the end; :attr:`DialogState.event` says how it came
====================  =============================================================================

Each is reported once for each call. A call that is proxied is never more than ``trying`` here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from drachtwist import sip
from drachtwist.errors import MessageError

__all__ = ["DialogState", "dialog_info"]

INITIATOR = "initiator"
RECIPIENT = "recipient"


@dataclass(frozen=True, slots=True)
class DialogState:
    """What a call has come to (RFC 4235 section 3.7.1)."""

    state: str
    """``trying``, ``proceeding``, ``early``, ``confirmed`` or ``terminated``."""
    event: str
    """Of ``terminated``: ``cancelled``, ``rejected``, ``timeout``, ``local-bye``, ``remote-bye`` or
    ``error``; otherwise empty."""
    direction: str
    """``initiator`` when the application called, ``recipient`` when it was called."""
    status: int
    """The status of the response that brought the state; 0 when it was none."""
    call_id: str
    local_tag: str
    remote_tag: str
    """Empty while it is not known."""
    local_uri: str
    remote_uri: str

    @property
    def id(self) -> str:
        """A name of this side of a call, the same in all its states; a call to oneself has two."""
        tag = self.local_tag if self.direction == INITIATOR else self.remote_tag
        return f"{self.call_id};from-tag={tag};{self.direction}"


def _side(message: sip.Message | None, name: str) -> tuple[str, str]:
    """Return URI and tag of From or To."""
    if message is None:
        return "", ""
    try:
        address = message.from_ if name == "from" else message.to
    except MessageError:
        return "", ""
    return address.uri, address.tag or ""


def report(
    tell: Callable[[DialogState], object],
    state: str,
    request: sip.Request,
    direction: str,
    response: sip.Message | None = None,
    *,
    event: str = "",
    status: int = 0,
) -> None:
    """Tell those who watch what a call has come to.

    :param tell: called with the state.
    """
    calling, from_tag = _side(request, "from")
    called, to_tag = _side(request, "to")
    if response is not None:
        to_tag = _side(response, "to")[1] or to_tag
    local, remote = (calling, from_tag), (called, to_tag)
    if direction == RECIPIENT:
        local, remote = remote, local
    tell(
        DialogState(
            state,
            event,
            direction,
            status,
            request.get("Call-ID") or "",
            local[1],
            remote[1],
            local[0],
            remote[0],
        ),
    )


def dialog_info(
    entity: str, version: int, states: Iterable[DialogState], *, full: bool = True
) -> str:
    """Write an ``application/dialog-info+xml`` document (RFC 4235 section 4).

    :param entity: the URI that the document is about.
    :param version: one more than that of the document before, from 0 on.
    :param states: one for each call.
    :param full: whether these are all calls; otherwise only those that changed.
    """
    lines = [
        '<?xml version="1.0"?>',
        '<dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" '
        f'version="{version}" state="{"full" if full else "partial"}" entity={quoteattr(entity)}>',
    ]
    for one in states:
        tags = f"call-id={quoteattr(one.call_id)}"
        if one.local_tag:
            tags += f" local-tag={quoteattr(one.local_tag)}"
        if one.remote_tag:
            tags += f" remote-tag={quoteattr(one.remote_tag)}"
        lines.append(f'  <dialog id={quoteattr(one.id)} {tags} direction="{one.direction}">')
        attributes = f' event="{one.event}"' if one.event else ""
        if one.status:
            attributes += f' code="{one.status}"'
        lines.append(f"    <state{attributes}>{one.state}</state>")
        for side, uri in (("local", one.local_uri), ("remote", one.remote_uri)):
            if uri:
                lines.append(f"    <{side}><identity>{escape(uri)}</identity></{side}>")
        lines.append("  </dialog>")
    lines.append("</dialog-info>")
    return "\n".join(lines) + "\n"
