"""Client transactions: a request goes out, responses come back (RFC 3261 section 17.1).

Over UDP the request is repeated: an INVITE until any response comes (Timer A, doubling without a
limit, until Timer B gives up), the others until the final response comes (Timer E, doubling up to
T2, always T2 once there was a provisional one, until Timer F gives up). Over a transport that loses
nothing the request goes out once, and nothing is absorbed at the end.

Whoever is late loses: when a repeat and the end are due at the same time, it is the end.

An INVITE may be cancelled only after a provisional response (section 9.1), so the machine keeps the
wish, says with :class:`~drachtwist.transactions.machine.SendCancel` when its time has come, and
then waits 64*T1 for the 487 before it gives up.
"""

from __future__ import annotations

from drachtwist.sip.derived import failure_ack
from drachtwist.sip.message import Request, Response
from drachtwist.transactions.machine import (
    RING_TIMED_OUT,
    SEND_CANCEL,
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

__all__ = ["InviteClient", "NonInviteClient"]

# Asked for with every message; up to Python 3.11 a look into an Enum takes a call.
_CALLING = State.CALLING
_TRYING = State.TRYING
_PROCEEDING = State.PROCEEDING
_COMPLETED = State.COMPLETED
_ACCEPTED = State.ACCEPTED
_TERMINATED = State.TERMINATED


class InviteClient(Transaction):
    """Client side of an INVITE (RFC 3261 section 17.1.1, RFC 6026 section 7.2).

    :param request: the INVITE as it is to be sent, with its own Via on top.
    :param reliable: whether the transport loses nothing (TCP, TLS, WebSocket).
    """

    TRANSITIONS = {
        State.CALLING: {
            State.PROCEEDING: "1xx",
            State.ACCEPTED: "2xx",
            State.COMPLETED: "300-699, over UDP: sends the ACK",
            State.TERMINATED: "Timer B; 300-699 over streams, after the ACK; transport fails",
        },
        State.PROCEEDING: {
            State.ACCEPTED: "2xx",
            State.COMPLETED: "300-699, over UDP: sends the ACK",
            State.TERMINATED: "64*T1 after a CANCEL; 300-699 over streams; transport fails",
        },
        State.ACCEPTED: {State.TERMINATED: "Timer M"},
        State.COMPLETED: {State.TERMINATED: "Timer D; transport fails"},
        State.TERMINATED: {},
    }

    __slots__ = ("_ack", "_cancel", "_data", "request")

    def __init__(
        self, request: Request, *, reliable: bool = False, timing: Timing = DEFAULT_TIMING
    ) -> None:
        super().__init__(_CALLING, timing, reliable)
        self.request = request
        self._data = bytes(request)
        self._ack: bytes | None = None
        # Whether the owner wants to cancel; a wish that was carried out counts as none.
        self._cancel = False

    def start(self, now: float) -> list[Effect]:
        """Send the request."""
        timing = self.timing
        self._interval = timing.a
        self._wait(None if self.reliable else now + self._interval, now + timing.b)
        return [Transmit(self._data)]

    def receive(self, response: Response, now: float) -> list[Effect]:
        """Take in a response, found by its key (see :mod:`~drachtwist.transactions.matching`)."""
        status = response.status
        state = self.state
        if state is _CALLING or state is _PROCEEDING:
            if status < 200:
                return self._provisional(response, now)
            if status < 300:
                self._become(_ACCEPTED)
                self.lingers = True
                self._wait(None, now + self.timing.m)  # Timer M
                return [Deliver(response)]
            self._ack = failure_ack(self.request, response)
            effects: list[Effect] = [Transmit(self._ack), Deliver(response)]
            # Timer D
            until = None if self.reliable else now + self.timing.d
            return effects + self._linger(_COMPLETED, until)
        if state is _ACCEPTED and 200 <= status < 300:
            return [Deliver(response)]
        if state is _COMPLETED and status >= 300:
            assert self._ack is not None
            return [Transmit(self._ack)]
        return []

    def _provisional(self, response: Response, now: float) -> list[Effect]:
        effects: list[Effect] = [Deliver(response)]
        first = self.state is _CALLING
        self._become(_PROCEEDING)
        if self._cancel:
            self._cancel = False
            self._wait(None, now + self.timing.lifetime)
            effects.append(SEND_CANCEL)
        elif first or self._repeat_at is not None:
            # In this state "repeat" is Timer C; none is left once the INVITE is cancelled.
            ring = self.timing.c
            self._wait(None if ring is None else now + ring, None)
        return effects

    def cancel(self, now: float) -> list[Effect]:
        """Cancel as soon as a provisional response has come (RFC 3261 section 9.1).

        :class:`~drachtwist.transactions.machine.SendCancel` comes now, or with the first
        provisional response, or never if there was a final one. Once it came, the transaction
        gives up after 64*T1.
        """
        if self.state is _CALLING:
            self._cancel = True
        elif self.state is _PROCEEDING and self._give_up_at is None:
            self._wait(None, now + self.timing.lifetime)
            return [SEND_CANCEL]
        return []

    def tick(self, now: float) -> list[Effect]:
        """Note the time."""
        if self._give_up_at is not None and now >= self._give_up_at:
            waiting = self.state in (_CALLING, _PROCEEDING)
            self._terminate()
            return [TIMED_OUT, TERMINATED] if waiting else [TERMINATED]
        if self._repeat_at is None or now < self._repeat_at:
            return []
        if self.state is _PROCEEDING:  # Timer C
            self._wait(None, None)
            return [RING_TIMED_OUT]
        self._interval *= 2
        self._wait(now + self._interval, self._give_up_at)  # Timer A
        return [Transmit(self._data)]

    def transport_failed(self, now: float) -> list[Effect]:
        """Note that the request, or the ACK, could not be sent."""
        if self.state in (_TERMINATED, _ACCEPTED):
            return []
        self._terminate()
        return [TRANSPORT_FAILED, TERMINATED]


class NonInviteClient(Transaction):
    """Client side of any other request (RFC 3261 section 17.1.2).

    :param request: the request as it is to be sent, with its own Via on top.
    :param reliable: whether the transport loses nothing.
    """

    TRANSITIONS = {
        State.TRYING: {
            State.PROCEEDING: "1xx",
            State.COMPLETED: "200-699, over UDP",
            State.TERMINATED: "Timer F; 200-699 over streams; transport fails",
        },
        State.PROCEEDING: {
            State.COMPLETED: "200-699, over UDP",
            State.TERMINATED: "Timer F; 200-699 over streams; transport fails",
        },
        State.COMPLETED: {State.TERMINATED: "Timer K"},
        State.TERMINATED: {},
    }

    __slots__ = ("_data", "request")

    def __init__(
        self, request: Request, *, reliable: bool = False, timing: Timing = DEFAULT_TIMING
    ) -> None:
        super().__init__(_TRYING, timing, reliable)
        self.request = request
        self._data = bytes(request)

    def start(self, now: float) -> list[Effect]:
        """Send the request."""
        timing = self.timing
        self._interval = timing.e
        self._wait(None if self.reliable else now + self._interval, now + timing.f)
        return [Transmit(self._data)]

    def receive(self, response: Response, now: float) -> list[Effect]:
        """Take in a response, found by its key (see :mod:`~drachtwist.transactions.matching`)."""
        if self.state is not _TRYING and self.state is not _PROCEEDING:
            return []
        effects: list[Effect] = [Deliver(response)]
        if response.status < 200:
            self._become(_PROCEEDING)
            return effects
        # Timer K
        return effects + self._linger(_COMPLETED, None if self.reliable else now + self.timing.k)

    def tick(self, now: float) -> list[Effect]:
        """Note the time."""
        if self._give_up_at is not None and now >= self._give_up_at:
            waiting = self.state is not _COMPLETED
            self._terminate()
            return [TIMED_OUT, TERMINATED] if waiting else [TERMINATED]
        if self._repeat_at is None or now < self._repeat_at:
            return []
        t2 = self.timing.t2
        self._interval = t2 if self.state is _PROCEEDING else min(2 * self._interval, t2)
        self._wait(now + self._interval, self._give_up_at)  # Timer E
        return [Transmit(self._data)]

    def transport_failed(self, now: float) -> list[Effect]:
        """Note that the request could not be sent."""
        if self.state in (_TERMINATED, _COMPLETED):
            return []
        self._terminate()
        return [TRANSPORT_FAILED, TERMINATED]
