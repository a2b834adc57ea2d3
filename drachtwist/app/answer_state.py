"""What becomes of the answer to a request from the network.

Each request begins OPEN and leaves that state once. Several would like to be the one who moves it:
the application with a final response, the caller with a CANCEL (or a BYE, in an early dialog), the
server that forwards the request, the dialog that ends before a request in it was looked at. Who
comes first wins; whoever comes later is told why nothing was sent
(:meth:`Request._why_not_sent`). That somebody gave up is a fact besides (``canceled``): a CANCEL
may cross a final response, or meet a request that the server forwards, and changes neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

__all__ = ["TRANSITIONS", "AnswerState"]


class AnswerState(Enum):
    """What has become of the answer to a request."""

    OPEN = "no final response yet"
    ANSWERED = "the application, or the server for it, sent a final response"
    CANCELLED = "the caller gave up first, and the server answered 487"
    PROXIED = "the server forwards the request, and answers it"
    UNANSWERABLE = "it gets no response: an ACK, a CANCEL, a request of the server's own"
    DROPPED = "its dialog ended while it waited, and with it the transaction"

    __hash__ = object.__hash__  # there is one of each; Enum's own takes a call


TRANSITIONS: Mapping[AnswerState, Mapping[AnswerState, str]] = {
    AnswerState.OPEN: {
        AnswerState.ANSWERED: "a final response is handed to the server",
        AnswerState.CANCELLED: "CANCEL, BYE in the early dialog, or the transaction is gone",
        AnswerState.PROXIED: "the server is told to forward it",
        AnswerState.UNANSWERABLE: "it is an ACK, a CANCEL, or the server's own",
        AnswerState.DROPPED: "the dialog ends before anybody has looked at it",
    },
    # A CANCEL meanwhile changes nothing: the server passes it on, and answers in the end.
    AnswerState.PROXIED: {AnswerState.ANSWERED: "the server tells how it ended"},
    AnswerState.ANSWERED: {},
    AnswerState.CANCELLED: {},
    AnswerState.UNANSWERABLE: {},
    AnswerState.DROPPED: {},
}
"""Which state may follow which, and why."""
