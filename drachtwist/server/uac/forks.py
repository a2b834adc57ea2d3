"""Further ones that accept an INVITE (RFC 3261 section 13.2.2.4).

The application has one dialog, that of the first 2xx. The others are acknowledged and ended: each
gets an ACK and a BYE, and the ACK again for every 2xx that it repeats. Whoever rang reliably before
has had the PRACK, with a number of the application's dialog; the BYE comes behind that.
"""

from __future__ import annotations

from drachtwist.net.sip.flows import Flow
from drachtwist.server.compose import Draft
from drachtwist.server.dialogs import Dialog
from drachtwist.server.uac.acks import acknowledge, acknowledge_again
from drachtwist.server.uac.dialog import dialog_with
from drachtwist.server.uac.in_dialog import dispatch
from drachtwist.server.uac.request import OwnRequest, SentRequest
from drachtwist.sip.message import Response

__all__ = ["MAX_FORKS", "Forks"]

MAX_FORKS = 32
"""Further ones that accept an INVITE are left alone."""


class Forks:
    """The calls that others accepted too, by their To tags."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: dict[str, Dialog] = {}

    def accepted(self, sent: SentRequest, tag: str, response: Response, flow: Flow) -> None:
        """Acknowledge and end a call that one more accepted; no application can have it."""
        core = sent.core
        dialog = self._calls.get(tag)
        if dialog is not None:
            acknowledge_again(core, dialog)
        elif len(self._calls) < MAX_FORKS:
            self._calls[tag] = dialog = dialog_with(core, sent, response, flow)
            acknowledge(core, dialog, sent.request)
            dialog.seq = 1 + (dialog if sent.dialog is None else sent.dialog).seq
            dispatch(core, OwnRequest(sent.side, "BYE"), dialog, Draft("", b""), "")
