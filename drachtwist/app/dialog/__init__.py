"""A dialog: a call, or a subscription, that is established.

What comes in is answered here unless the application has a handler for it, in the way that
drachtio applications are used to:

=====================================  ============================================================
BYE                                    200; the dialog is over
ACK                                    kept, with the answer it may carry
re-INVITE, UPDATE                      200 with our last session description, directions turned
                                       round, and what holds of the session timer; 488 when there
                                       is no common codec; 491 while a re-INVITE of ours is open,
                                       500 while one of the peer's is (RFC 3261 section 14.2)
INFO, MESSAGE, NOTIFY, OPTIONS,        200
PRACK, PUBLISH, REFER
SUBSCRIBE                              202 when it ends the subscription, 200 when it keeps it
                                       alive, 489 for another event
anything else                          501
BYE of the server itself               nothing, it must not be answered; the dialog is over
=====================================  ============================================================

A handler may be added at any time after the dialog was handed out; the end of the dialog and the
ACK are facts that it still learns when it comes late.

Where what is: :mod:`.face` what applications see, :mod:`.incoming` who takes a request of the peer,
:mod:`.offers` how offers are answered, :mod:`.reinvites` INVITEs of either side in the dialog,
:mod:`.requests` what we send, :mod:`.subscriptions` what is subscribed to, :mod:`.ending` the end.
"""

from __future__ import annotations

from drachtwist.app.dialog.face import Dialog
from drachtwist.app.dialog.party import Party
from drachtwist.app.dialog.state import DialogEnd, DialogEnded

__all__ = ["Dialog", "DialogEnd", "DialogEnded", "Party"]
