"""Re-INVITEs: one at a time, ours and the peer's (RFC 3261 section 14).

Ours wait in a queue. The first of them is sent when no INVITE of either side is open: the one that
made the dialog has its ACK, and so have those behind it. That is waited for, but for 32 s at most,
as a peer may never send an ACK. If both sides ask at the same moment each answers 491, and
ours is repeated after a pause whose length depends on who made the Call-ID, so that they do not
meet again (section 14.1). See :class:`Turn` for the states of the first of the queue.

A re-INVITE of the peer is open until it is answered, and if that was with a 2xx until the ACK has
come: it may bear the answer to an offer of ours.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable, Mapping
from enum import Enum

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from drachtwist import sip
from drachtwist.app import session_timers
from drachtwist.app.dialog.parts import DialogParts
from drachtwist.app.outgoing import DialogRequest
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.errors import ConnectionLost, LocalProtocolError, MessageError
from drachtwist.net.observers import Observers
from drachtwist.net.tasks import Awaited
from drachtwist.sip.encoding import encoded_body
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.sdp import Sdp, description_of

__all__ = ["TRANSITIONS", "Modification", "Reinvites", "Turn", "number_of"]

_MAX_GLARES = 5

CONFIRMATION = 32.0
"""Seconds after which an INVITE that is not confirmed holds up no other one (64 times T1)."""

_CSEQ = re.compile(rb"\nCSeq[ \t]*:[ \t]*([0-9]{1,10})[ \t]", re.IGNORECASE).search


class Turn(Enum):
    """Where the first re-INVITE of ours is."""

    __hash__ = object.__hash__  # the one of Enum is written in Python, and slow

    IDLE = "there is none"
    WAITING = "another INVITE is not confirmed"
    SENT = "it has no final response"
    BACKING_OFF = "it met one of the peer (491), and is repeated later"


# They are asked for with every message; up to Python 3.11 a look into an Enum takes a call.
_IDLE, _WAITING, _SENT, _BACKING_OFF = Turn

TRANSITIONS: Mapping[Turn, Mapping[Turn, str]] = {
    Turn.IDLE: {
        Turn.SENT: "there is one to send",
        Turn.WAITING: "there is one, but an INVITE of either side is not confirmed",
    },
    Turn.WAITING: {
        Turn.SENT: "the ACK came, was sent, or is 32 s late",
        Turn.IDLE: "nobody wants it any more",
    },
    Turn.SENT: {
        Turn.IDLE: "a final response, or none will come",
        Turn.BACKING_OFF: "491, up to five times",
    },
    Turn.BACKING_OFF: {
        Turn.SENT: "the pause is over",
        Turn.WAITING: "it is over, but the peer's INVITE is not confirmed",
        Turn.IDLE: "nobody wants it any more",
    },
}
"""Which state may follow which, and why. The dialog may end in any; then there is none."""


class Reinvites:
    """The re-INVITEs of a dialog.

    :param dialog: forgets this when it ends.
    """

    __slots__ = (
        "_confirmed",
        "_confirming",
        "_dialog",
        "_incoming",
        "_queue",
        "_request",
        "_timer",
        "turn",
    )

    def __init__(self, dialog: DialogParts) -> None:
        self._dialog = dialog
        self.turn = _IDLE
        """Where the first of ours is."""
        self._queue: deque[Modification] = deque()
        # In SENT.
        self._request: DialogRequest | None = None
        # In WAITING and BACKING_OFF.
        self._timer: IDelayedCall | None = None
        # The peer's last one, which may be answered; the one that was accepted, without its ACK.
        self._incoming: Request | None = None
        self._confirming: Request | None = None
        self._confirmed: Observers[Request] = Observers()

    def _enter(self, turn: Turn) -> None:
        assert turn is self.turn or turn in TRANSITIONS[self.turn], f"{self.turn} to {turn}"
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        self._request = None
        self.turn = turn

    # Ours

    def add(self, modification: Modification) -> Deferred[ReceivedResponse]:
        """Send a re-INVITE when its turn comes."""
        self._queue.append(modification)
        if len(self._queue) == 1 and self.turn is _IDLE:
            self._next()
        return modification.deferred

    def _next(self, forced: bool = False) -> None:
        """Send the re-INVITE whose turn it is, or wait for what is in its way.

        :param forced: send it also while another INVITE is not confirmed.
        """
        dialog, queue = self._dialog, self._queue
        while queue and queue[0].deferred.called:
            queue.popleft()  # cancelled while it waited
        if not queue:
            self._enter(_IDLE)
            return
        if not forced and self.is_open:
            self._enter(_WAITING)
            clock = dialog._state.clock
            self._timer = clock.callLater(CONFIRMATION, self._waited_long_enough)
            return
        modification = queue[0]
        try:
            sdp = modification.offer(dialog)
            request = dialog._new_request("INVITE")
            request.over = lambda result: self._answered(request, modification, sdp, result)
            complete = session_timers.complete_request(dialog, modification.headers)
            dialog._send(request, complete, sdp)
        except LocalProtocolError as error:
            self._enter(_IDLE)
            self._finish(modification, error)
        else:
            self._enter(_SENT)
            self._request = request

    def confirmed(self) -> None:
        """Send a re-INVITE that waits, if nothing is in its way any more."""
        if self.turn is _WAITING and not self.is_open:
            if self._dialog.connected:
                self._next()
            else:
                self._enter(_IDLE)

    def _waited_long_enough(self) -> None:
        """Take it that what is in the way of a re-INVITE is never confirmed."""
        self._confirming = None
        if self._dialog.connected:
            self._next(forced=not self._dialog._owes_ack)
        else:
            self._enter(_IDLE)

    def _answered(
        self,
        request: DialogRequest,
        modification: Modification,
        sdp: bytes,
        result: ReceivedResponse | Exception,
    ) -> None:
        """The final response to a re-INVITE of ours came, or never will."""
        dialog = self._dialog
        dialog._need_session().invited = request.sent
        if isinstance(result, Exception) or dialog._end is not None:
            self._enter(_IDLE)
            self._finish(modification, result)
            return
        status = result.status
        if status == 408 and result.source == "application":
            # The server may have dropped a 200 behind a provisional response (see app/outgoing.py).
            dialog._send_ack()
        if status == 491 and modification.glares < _MAX_GLARES:
            modification.glares += 1
            self._enter(_BACKING_OFF)
            self._timer = dialog._state.clock.callLater(self._glare_delay(), self._next)
            return
        self._enter(_IDLE)
        if status < 300:
            self._accepted(modification, sdp, result)
        self._finish(modification, result)

    def _accepted(self, modification: Modification, sdp: bytes, response: ReceivedResponse) -> None:
        """Note what the peer agrees to, and acknowledge it."""
        dialog = self._dialog
        session = dialog._need_session()
        session_timers.note_answer(dialog, response)
        described = description_of(response)
        if described:
            session.remote = described
        if sdp:
            modification.succeeded(dialog, sdp)
        dialog._owes_ack = True
        session.offered = b"" if sdp else described
        if not modification.no_ack:
            own = dialog.local.sdp if session.own is None else session.own
            dialog.ack(dialog._answer_to(session.offered))
            if not sdp:
                session.own = own  # what the application described, not what was made of it

    def _glare_delay(self) -> float:
        """Choose the pause after a 491, in steps of 10 ms (RFC 3261 section 14.1)."""
        # Whoever made the Call-ID waits longer.
        low, high = (210, 400) if self._dialog.type == "uac" else (0, 200)
        return random.randint(low, high) / 100

    def _finish(self, modification: Modification, result: ReceivedResponse | Exception) -> None:
        """Tell who wanted a re-INVITE what came of it, and send the next one."""
        if self._queue and self._queue[0] is modification:
            self._queue.popleft()
        deferred = modification.deferred
        if not deferred.called:
            if isinstance(result, Exception):
                deferred.errback(result)
            else:
                deferred.callback(result)
        if (
            self._queue
            and self.turn is _IDLE
            and self._dialog._end is None
            and not isinstance(result, ConnectionLost)
        ):
            self._next()

    @property
    def is_sent(self) -> bool:
        """Whether one of ours has no final response."""
        return self.turn is _SENT

    @property
    def is_under_way(self) -> bool:
        """Whether one of ours has no final response, or is sent as soon as it may be."""
        return self.turn is _SENT or self.turn is _WAITING

    @property
    def is_idle(self) -> bool:
        """Whether there is none of either side, of which anything is still to come."""
        return self.turn is _IDLE and not self._queue and self.due is None

    # The peer's

    @property
    def is_asked(self) -> bool:
        """Whether a re-INVITE of the peer is not answered."""
        return self._incoming is not None and self._incoming.is_open

    @property
    def due(self) -> Request | None:
        """The re-INVITE of the peer that is not confirmed; None when there is none."""
        return self._incoming if self.is_asked else self._confirming

    @property
    def is_open(self) -> bool:
        """Whether an INVITE of either side is not confirmed yet (RFC 3261 section 14.1)."""
        dialog = self._dialog
        return dialog._owes_ack or dialog._is_unacked() or self.due is not None

    def asked(self, req: Request) -> None:
        """The peer sent a re-INVITE."""
        self._incoming = req

    def accepted(self, req: Request) -> None:
        """The re-INVITE of the peer was accepted, and is to be confirmed."""
        self._confirming = req

    def is_confirmed_by(self, ack: Request) -> bool:
        """Return whether an ACK is that of the re-INVITE which is to be confirmed."""
        # Otherwise it is that of an INVITE before it, once more.
        confirming = self._confirming
        return confirming is not None and number_of(ack) == number_of(confirming)

    def take_ack(self, ack: Request) -> None:
        """Note that the re-INVITE of the peer is confirmed."""
        self._confirming = None
        self._confirmed.fire(ack)

    def when_confirmed(self) -> Deferred[Request]:
        """Wait for the ACK of the peer's re-INVITE that was accepted last."""
        return self._confirmed.wait()

    # The end

    def stop(self) -> None:
        """Send nothing any more, since the dialog is over."""
        self._confirming = self._incoming = None
        request = self._request
        self._enter(_IDLE)
        if request is not None:
            request.terminate()

    def close(self, make_error: Callable[[], Exception]) -> None:
        """Tell those who wait that nothing comes of it.

        :param make_error: makes the failure of each.
        """
        self._confirmed.fail(make_error)
        while self._queue:
            self._finish(self._queue[0], make_error())


class Modification:
    """A re-INVITE of ours that was not sent, or not answered, yet.

    :param sdp: the offer; ``hold`` or ``unhold`` to make it of what was described last; empty for
        none.
    :param headers: further headers.
    :param no_ack: leave the ACK of its 200 to the application.
    :raises LocalProtocolError: for headers that cannot be sent.
    """

    __slots__ = ("deferred", "glares", "headers", "no_ack", "sdp")

    def __init__(self, sdp: bytes | str, headers: HeadersLike, no_ack: bool = False) -> None:
        self.sdp = sdp
        self.no_ack = no_ack
        self.headers = sip.Headers(headers).items()
        self.deferred: Deferred[ReceivedResponse] = Awaited()
        self.glares = 0
        """How often it met one of the peer."""

    def offer(self, dialog: DialogParts) -> bytes:
        """Make the offer.

        :raises LocalProtocolError: when there is nothing to be resumed.
        """
        sdp = self.sdp
        local = dialog.local.sdp
        if sdp == "hold":
            return _changed(local)
        if sdp == "unhold":
            if not dialog.is_on_hold:
                raise LocalProtocolError("the session is not on hold")
            return _changed(local, dialog._need_session().unheld or b"")
        return encoded_body(sdp)

    def succeeded(self, dialog: DialogParts, offered: bytes) -> None:
        """Note what was agreed on."""
        session = dialog._need_session()
        if self.sdp == "hold" and session.unheld is None:
            session.unheld = dialog.local.sdp
        session.local = session.own = offered
        if self.sdp in ("hold", "unhold"):
            dialog.is_on_hold = self.sdp == "hold"
        if self.sdp != "hold":
            session.unheld = None


def _changed(sdp: bytes, unheld: bytes | None = None) -> bytes:
    """Offer other directions, and a version that is higher by one.

    :param unheld: what was described before the hold, whose directions come back; None to hold.
    """
    made = Sdp(sdp)
    made.set_direction("inactive" if unheld is None else "sendrecv")
    if unheld is not None:
        for stream, before in zip(made.media, Sdp(unheld).media, strict=False):
            if before.direction != "sendrecv":
                stream.direction = before.direction
    try:
        made.bump_version()
    except MessageError:
        pass  # there is none that could be read
    return bytes(made)


def number_of(message: sip.Request) -> int:
    """Return the number in the CSeq, 0 when it cannot be read."""
    found = _CSEQ(message.raw)
    if found is not None:
        return int(found[1])  # without the trouble to read all headers of an ACK
    try:
        return message.cseq.number
    except MessageError:
        return 0
