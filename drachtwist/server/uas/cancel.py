"""CANCEL: what it meets, and what it is answered (RFC 3261 section 9.2).

=====================================  ===========================================================
nothing, or an INVITE with its 2xx     481: the call goes on, and is the caller's to end with a BYE
an INVITE that was refused, or any     200, and nothing else
other request
an INVITE without a final response     200, and the INVITE is refused with 487; what its application
                                       is told depends on how far it is (``Invite.cancelled``)
=====================================  ===========================================================

All that counts is what the server has sent. A 2xx of the application that still waits for a PRACK
was not sent (:mod:`~drachtwist.server.uas.invite`).
"""

from __future__ import annotations

from drachtwist.server.compose import new_tag
from drachtwist.server.incoming import Incoming
from drachtwist.server.uas.invite import Invite
from drachtwist.server.uas.responses import Responses

__all__ = ["answer_cancel"]


def answer_cancel(responses: Responses, cancel: Incoming, found: Incoming | None) -> None:
    """Answer a CANCEL, and end what it is for.

    :param cancel: the CANCEL.
    :param found: what it is for, None for nothing.
    """
    named = cancel.request.to_tag is not None  # SIPp writes the tag of the 180 that it has seen
    if found is None:
        responses.refuse(cancel, 481)
        return
    if not isinstance(found, Invite):
        responses.refuse(cancel, 200)
        return
    status = found.transaction.status
    if not 200 <= status < 300 and not found.to_tag and not found.refreshes:
        found.to_tag = new_tag()
    if not named:
        cancel.to_tag = found.to_tag
    if 200 <= status < 300:
        responses.refuse(cancel, 481)
        return
    responses.refuse(cancel, 200)
    if status < 200:
        found.cancelled(cancel.request, cancel.size)
