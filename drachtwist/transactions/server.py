"""Server transactions: a request came, responses go back (RFC 3261 section 17.2, RFC 6026).

A request that comes again gets the last response again. A failure of an INVITE is repeated over
UDP (Timer G, doubling up to T2) until its ACK comes or Timer H gives up. A 2xx is not repeated by
Timer G: that is the business of the user agent core, for which there is
:class:`~drachtwist.transactions.retransmission.AnswerRepeater`; the transaction lets further 2xx
through and hands an ACK with its own branch up.

No machine limits how long the owner may take: PROCEEDING and TRYING have no deadline.
A response after the final one is dropped; so is anything but 2xx in ACCEPTED.
"""

from __future__ import annotations

from drachtwist.sip.encoding import joined, status_line
from drachtwist.sip.message import Request, Response
from drachtwist.sip.replies import ReplyHead
from drachtwist.transactions.machine import (
    TERMINATED,
    TIMED_OUT,
    TRANSPORT_FAILED,
    Deliver,
    Effect,
    State,
    Transaction,
    Transmit,
)
from drachtwist.transactions.timing import DEFAULT_TIMING, Timing

__all__ = ["InviteServer", "NonInviteServer", "trying"]

# Asked for with every message; up to Python 3.11 a look into an Enum takes a call.
_TRYING = State.TRYING
_PROCEEDING = State.PROCEEDING
_COMPLETED = State.COMPLETED
_CONFIRMED = State.CONFIRMED
_ACCEPTED = State.ACCEPTED
_TERMINATED = State.TERMINATED


class _Server(Transaction):
    """What both server transactions share: the last response."""

    __slots__ = ("_last", "request", "status")

    status: int
    """The status of the last response, 0 for none."""

    def __init__(self, state: State, request: Request, reliable: bool, timing: Timing) -> None:
        super().__init__(state, timing, reliable)
        self.request = request
        self.status = 0
        self._last: bytes | None = None

    @property
    def last_response(self) -> bytes | None:
        """The response that was sent last."""
        return self._last

    def respond(self, response: Response, now: float) -> list[Effect]:
        """Send a response."""
        return self.respond_bytes(response.status, bytes(response), now)

    def respond_bytes(self, status: int, data: bytes, now: float) -> list[Effect]:
        """Send a response that is bytes already.

        :param status: its status code.
        """
        raise NotImplementedError


class InviteServer(_Server):
    """Server side of an INVITE (RFC 3261 section 17.2.1, RFC 6026 section 7.1).

    :param request: the INVITE; it is not delivered again.
    :param reliable: whether the transport loses nothing (TCP, TLS, WebSocket).
    """

    TRANSITIONS = {
        State.PROCEEDING: {
            State.ACCEPTED: "2xx is sent",
            State.COMPLETED: "300-699 is sent",
            State.TERMINATED: "given up",
        },
        State.ACCEPTED: {State.TERMINATED: "Timer L"},
        State.COMPLETED: {
            State.CONFIRMED: "ACK, over UDP",
            State.TERMINATED: "Timer H: no ACK; ACK over streams",
        },
        State.CONFIRMED: {State.TERMINATED: "Timer I"},
        State.TERMINATED: {},
    }

    __slots__ = ()

    def __init__(
        self,
        request: Request,
        *,
        reliable: bool = False,
        timing: Timing = DEFAULT_TIMING,
    ) -> None:
        super().__init__(_PROCEEDING, request, reliable, timing)

    def respond_bytes(self, status: int, data: bytes, now: float) -> list[Effect]:
        """Send a response that is bytes already.

        :param status: its status code.
        """
        state = self.state
        if state is _ACCEPTED and 200 <= status < 300:
            self._last = data
            return [Transmit(data)]
        if state is not _PROCEEDING:
            return []
        self._last = data
        self.status = status
        effects: list[Effect] = [Transmit(data)]
        if status < 200:
            return effects
        timing = self.timing
        if status < 300:
            self._become(_ACCEPTED)
            self.lingers = True
            self._wait(None, now + timing.l)  # Timer L
            return effects
        self._become(_COMPLETED)
        self._interval = timing.g
        self._wait(None if self.reliable else now + self._interval, now + timing.h)
        return effects

    def receive(self, request: Request, now: float) -> list[Effect]:
        """Take in an INVITE that came again, or an ACK.

        See :func:`~drachtwist.transactions.matching.server_key`.
        """
        state = self.state
        if request.method == "ACK":
            if state is _ACCEPTED:
                return [Deliver(request)]
            if state is _COMPLETED:
                # Timer I
                until = None if self.reliable else now + self.timing.i
                return self._linger(_CONFIRMED, until)
            return []
        if self._last is None or request.method != "INVITE":
            return []
        if state is _CONFIRMED or state is _TERMINATED:
            return []
        return [Transmit(self._last)]

    def tick(self, now: float) -> list[Effect]:
        """Note the time."""
        if self._give_up_at is not None and now >= self._give_up_at:
            waiting = self.state is _COMPLETED  # Timer H
            self._terminate()
            return [TIMED_OUT, TERMINATED] if waiting else [TERMINATED]
        if self._repeat_at is None or now < self._repeat_at:
            return []
        assert self._last is not None
        self._interval = min(2 * self._interval, self.timing.t2)
        self._wait(now + self._interval, self._give_up_at)  # Timer G
        return [Transmit(self._last)]

    def transport_failed(self, now: float) -> list[Effect]:
        """Note that a response could not be sent; the transaction stays (RFC 6026)."""
        if self.state in (_TERMINATED, _CONFIRMED):
            return []
        return [TRANSPORT_FAILED]


class NonInviteServer(_Server):
    """Server side of any other request (RFC 3261 section 17.2.2).

    :param request: the request; it is not delivered again.
    :param reliable: whether the transport loses nothing.
    """

    TRANSITIONS = {
        State.TRYING: {
            State.PROCEEDING: "1xx is sent",
            State.COMPLETED: "200-699 is sent, over UDP",
            State.TERMINATED: "200-699 is sent over streams; transport fails",
        },
        State.PROCEEDING: {
            State.COMPLETED: "200-699 is sent, over UDP",
            State.TERMINATED: "200-699 is sent over streams; transport fails",
        },
        State.COMPLETED: {State.TERMINATED: "Timer J; transport fails"},
        State.TERMINATED: {},
    }

    __slots__ = ()

    def __init__(
        self, request: Request, *, reliable: bool = False, timing: Timing = DEFAULT_TIMING
    ) -> None:
        super().__init__(_TRYING, request, reliable, timing)

    def respond_bytes(self, status: int, data: bytes, now: float) -> list[Effect]:
        """Send a response that is bytes already.

        :param status: its status code.
        """
        if self.state is not _TRYING and self.state is not _PROCEEDING:
            return []
        self._last = data
        self.status = status
        effects: list[Effect] = [Transmit(data)]
        if status < 200:
            self._become(_PROCEEDING)
            return effects
        # Timer J
        return effects + self._linger(_COMPLETED, None if self.reliable else now + self.timing.j)

    def receive(self, request: Request, now: float) -> list[Effect]:
        """Take in the request once more."""
        if self._last is None or self.state is _TERMINATED:
            return []
        return [Transmit(self._last)]

    def tick(self, now: float) -> list[Effect]:
        """Note the time."""
        if self._give_up_at is None or now < self._give_up_at:
            return []
        self._terminate()
        return [TERMINATED]

    def transport_failed(self, now: float) -> list[Effect]:
        """Note that a response could not be sent."""
        if self.state is _TERMINATED:
            return []
        self._terminate()
        return [TRANSPORT_FAILED, TERMINATED]


def trying(request: Request) -> bytes:
    """Write the 100 to a request (RFC 3261 section 8.2.6): no tag, no Contact, a Timestamp if sent.

    :param request: the request with ``received`` and ``rport`` filled in.
    """
    lines = ReplyHead(request).lines()
    timestamp = request.get("Timestamp")
    if timestamp is not None:
        lines.append(f"Timestamp: {timestamp}")
    return joined(status_line(100), lines)
