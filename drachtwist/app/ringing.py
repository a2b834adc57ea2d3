"""Who rings, when an INVITE of ours is not answered yet.

Each provisional response with another To tag, from another fork of the INVITE, makes an early
dialog (RFC 3261 section 12.1). What there is to say in one before the answer goes through its
:class:`~drachtwist.app.early.EarlyDialog`, which is made when somebody asks for it, or when a
description makes it necessary to remember who said what.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drachtwist.app.authentication import Realms
from drachtwist.app.connection import Connection
from drachtwist.app.early import EarlyDialog, target_of
from drachtwist.app.early_session import EarlySession
from drachtwist.app.received import ReceivedResponse
from drachtwist.sip.encoding import encoded_body
from drachtwist.sip.sdp import description_of

if TYPE_CHECKING:
    from drachtwist.app.outgoing_request import OutgoingRequest

__all__ = ["Ringing"]

_MANY = 16
"""More provisional responses than these are searched for those that others have followed."""


class Ringing:
    """The early dialogs of an INVITE of ours.

    :param state: its connection.
    :param offer: what it describes; empty when it leaves the offer to the callee.
    """

    __slots__ = ("_early", "_heard", "_offer", "_pracked", "_state", "ids")

    def __init__(self, state: Connection, offer: bytes | str) -> None:
        self._state = state
        self._offer = offer
        self.ids: list[str] = []
        """The server's names of the early dialogs."""
        # What rang, in its order: not looked into before there are several; handles by To tag.
        self._heard: list[ReceivedResponse] = []
        self._early: dict[str, EarlyDialog] = {}
        # Number and To of each reliable response.
        self._pracked: set[tuple[str, str]] = set()

    def rings(self, response: ReceivedResponse, dialog_id: str) -> bool:
        """Note a provisional response.

        :param dialog_id: of its early dialog.
        :returns: whether the server gave the early dialog a name that was not known.
        """
        heard = self._heard
        heard.append(response)
        if len(heard) > _MANY:
            self._heard = list(self._last().values())
        if dialog_id in self.ids:
            return False
        self.ids.append(dialog_id)
        return True

    def _last(self) -> dict[str, ReceivedResponse]:
        """Return the last response by To, the one that came last at the end."""
        last: dict[str, ReceivedResponse] = {}
        for response in self._heard:
            to = response.get("To") or ""
            last.pop(to, None)
            last[to] = response
        return last

    def is_repeated(self, number: str, response: ReceivedResponse) -> bool:
        """Return whether a reliable response came before; from now on it did (RFC 3262 section 4).

        :param number: its RSeq.
        """
        key = (number, response.get("To") or "")
        if key in self._pracked:
            return True
        self._pracked.add(key)
        return False

    def repeat(self) -> None:
        """Begin anew, since the INVITE is sent again."""
        self._pracked.clear()

    def early_dialog(
        self, tag: str, request: OutgoingRequest, realms: Realms | None
    ) -> EarlyDialog:
        """Return the early dialog with whom rings.

        :param tag: the To tag of one that rang; otherwise it is the last one that did.
        :param request: the INVITE as it was sent last.
        :param realms: what was answered to challenges.
        """
        response = next(
            (one for one in reversed(self._heard) if _tag_of(one) == tag),
            None,
        )
        if response is None:
            response = self._heard[-1]
            tag = _tag_of(response)
        early = self._early.get(tag)
        if early is None:
            session = EarlySession(local=encoded_body(self._offer))
            early = EarlyDialog(self._state, "uac", request, session, realms)
            early.id = response.stack_dialog_id
            self._early[tag] = early
        early.ends = (early.req.get("From") or "", response.get("To") or "")
        early.target = target_of(response) or early.req.uri
        if not early.session.settled:
            early.session.hint = description_of(response) or early.session.hint
        return early

    def early_of(self, response: ReceivedResponse) -> EarlyDialog | None:
        """Return the early dialog with whom a response is from, if it said anything there."""
        return self._early.get(_tag_of(response)) if self._early else None

    def stops(self, tag: str) -> bool:
        """Note that one of several that ring hung up.

        :returns: whether others ring.
        """
        last = self._last()
        if len(last) < 2 or all(_tag_of(one) != tag for one in last.values()):
            return False
        self._heard = [one for one in last.values() if _tag_of(one) != tag]
        early = self._early.pop(tag, None)
        if early is not None:
            early.end(answered=False)
        return True

    def end(self, *, answered: bool) -> None:
        """Forget who rings, since the INVITE has its outcome.

        :param answered: there is a dialog now.
        """
        early, self._early = self._early, {}
        self._heard = []
        for one in early.values():
            one.end(answered=answered)


def _tag_of(response: ReceivedResponse) -> str:
    return response.to_tag or ""
