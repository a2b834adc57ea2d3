"""What there is of a call between its first provisional response and its final one.

That is the early dialog as the UAS core has it (RFC 3261 section 12, RFC 3262, RFC 3311): what the
caller has to acknowledge, which offer has no answer, what the caller sent in it, and what the
application asked in it. With the final response all of it is over, or goes into the dialog.
"""

from __future__ import annotations

import os
from collections import deque
from typing import NamedTuple

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow
from drachtwist.server.checks import carries_session
from drachtwist.server.dialogs import Dialog
from drachtwist.server.incoming import Incoming
from drachtwist.sip.fields import Address, RAck
from drachtwist.sip.message import Request
from drachtwist.transactions.retransmission import ProvisionalRepeater

__all__ = ["EarlyCall", "Reply"]


class Reply(NamedTuple):
    """A response of an application, complete."""

    status: int
    raw: bytes
    rseq: int
    """Its RSeq, 0 when it has none."""
    silent: bool
    """Whether its PRACK is answered here."""
    body: bytes
    session: tuple[int, bool] | None
    """The session timer that it agrees on: the interval, and whether the server refreshes."""


class EarlyCall:
    """A call of a peer that is not finally answered."""

    __slots__ = (
        "described",
        "dialog",
        "offering",
        "peer_seq",
        "pracked",
        "queue",
        "rseq",
        "silent",
        "target",
        "unconfirmed",
        "update",
    )

    unconfirmed: ProvisionalRepeater | None
    """The reliable response whose PRACK did not come."""
    rseq: int
    """The RSeq of the last reliable response, 0 before the first."""
    silent: bool
    """Whether the PRACK of the last response is answered here."""
    pracked: bool
    """Whether a PRACK was handed to the application."""
    queue: deque[Reply] | None
    """Responses of the application that wait; for it they are sent."""
    described: bool
    """Whether a response had a session description."""
    offering: bool
    """Whether that was an offer, which no PRACK has answered."""
    update: Incoming | None
    """The UPDATE of the caller that the application has not answered."""
    target: tuple[Address, Flow] | None
    """The Contact of an UPDATE that was accepted, and where it came from."""
    peer_seq: int
    """The highest CSeq of what came in it, 0 before the first."""
    dialog: Dialog | None
    """The dialog that the application asks in, if it does."""

    def __init__(self) -> None:
        self.unconfirmed = None
        self.rseq = 0
        self.silent = False
        self.pracked = False
        self.queue = None
        self.described = False
        self.offering = False
        self.update = None
        self.target = None
        self.peer_seq = 0
        self.dialog = None

    def next_number(self) -> int:
        """Return the RSeq of the next reliable response (RFC 3262 section 3)."""
        if self.rseq:
            self.rseq += 1
        else:
            self.rseq = 1 + int.from_bytes(os.urandom(4), "big") % 0x3FFFFFFF
        return self.rseq

    def holds_back(self, status: int) -> bool:
        """Return whether a response has to wait for a PRACK, or for the answer to an UPDATE.

        Refusals never wait. A 2xx that overtakes the answer to an UPDATE would make the offer in
        that one in the dialog.
        """
        return status < 300 and (
            self.unconfirmed is not None or (status >= 200 and self.update is not None)
        )

    def says(self, reply: Reply, invite: Request) -> None:
        """Take note of a response that is about to be sent."""
        self.silent = reply.silent
        if reply.body and not self.described:
            self.described = True
            self.offering = reply.rseq != 0 and not carries_session(invite)

    def hold(self, reply: Reply) -> None:
        """Let a response wait."""
        if self.queue is None:
            self.queue = deque()
        self.queue.append(reply)

    def next_reply(self) -> Reply | None:
        """Take the first response that waited and need not wait any more; None without one."""
        queue = self.queue
        return queue.popleft() if queue and not self.holds_back(queue[0].status) else None

    def is_confirmed_by(self, prack: Request, number: int) -> bool:
        """Return whether a PRACK is for the response that waits for one (RFC 3262 section 3).

        As the real server, this takes it that more follows: phones write the method twice.

        :param number: the CSeq of the INVITE.
        """
        waiting = self.unconfirmed
        if waiting is None:
            return False
        try:
            words = (prack.get("RAck") or "").split(None, 3)
            rack = RAck.parse(" ".join(words[:3]))
        except MessageError:
            return False
        return rack.rseq == waiting.rseq and rack.cseq == number and rack.method == "INVITE"
