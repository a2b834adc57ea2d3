"""Glare: requests in a dialog that cross each other (RFC 3261 section 14.2, RFC 3311 section 5.2).

Two INVITEs, or two offers, must not be under way in a dialog at the same time. Who asks all the
same is refused: with 491 when what he crosses comes from this side, after which each side waits for
a time of its own and asks again; with 500 and a Retry-After when it is an earlier one of his own
that the application has not answered yet.
"""

from __future__ import annotations

from drachtwist.server.checks import carries_session
from drachtwist.server.dialogs import Dialog
from drachtwist.server.incoming import Incoming
from drachtwist.server.roles import Forming
from drachtwist.server.uas.early_call import EarlyCall

__all__ = ["crossing", "crossing_before_answer", "crossing_while_ringing"]


def crossing(incoming: Incoming, dialog: Dialog) -> int:
    """Say what an INVITE or UPDATE in a dialog crosses.

    :returns: 491, 500, or 0 for nothing.
    """
    method = incoming.method
    offers = carries_session(incoming.request)
    invites = method == "INVITE"
    if any(
        (invites and one.method == "INVITE") or ((invites or offers) and one.offers)
        for one in dialog.asked
    ):
        return 491
    if any(
        one.method == method
        or (offers and one.method in ("INVITE", "UPDATE") and carries_session(one.request))
        for one in dialog.open
    ):
        return 500
    return 0


def crossing_before_answer(update: Incoming, invite: Incoming, call: EarlyCall) -> int:
    """Say what an UPDATE of a caller crosses whose INVITE is not finally answered.

    A description in a response that was not reliable is taken as the answer, too.

    :returns: 491, 500, or 0 for nothing.
    """
    offers = carries_session(update.request)
    asked = () if call.dialog is None else call.dialog.asked
    if offers and (call.offering or any(one.offers for one in asked)):
        return 491
    if call.update is not None or (
        offers and not call.described and carries_session(invite.request)
    ):
        return 500
    return 0


def crossing_while_ringing(incoming: Incoming, outgoing: Forming) -> bool:
    """Say whether an UPDATE of somebody who rings crosses the offer in our INVITE: a 491."""
    return incoming.method == "UPDATE" and outgoing.offers and carries_session(incoming.request)
