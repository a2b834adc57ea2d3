"""The timers of RFC 3261 (section 17, table 4), RFC 6026 and RFC 3262 as one value."""

from __future__ import annotations

from dataclasses import dataclass

from drachtwist.errors import LocalProtocolError

__all__ = ["DEFAULT_TIMING", "Timing"]


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a transaction waits for what, in seconds.

    The defaults are those of RFC 3261. A drachtio server waits one second, not T1, before it
    repeats a request for the first time (responses start at T1), and gives up on a called party
    that rings for 185 s: ``Timing(request_step=1.0, ring=185.0)``.

    :raises LocalProtocolError: for a time that is not positive.
    """

    t1: float = 0.5
    """An estimate of the round trip."""
    t2: float = 4.0
    """The longest interval between repeats of a non-INVITE request or of a final response."""
    t4: float = 5.0
    """How long a message may live in the network."""
    t1x64: float | None = None
    """The life of most transactions, None for 64 times T1."""
    request_step: float | None = None
    """The wait before the first repeat of a request, None for T1."""
    ring: float | None = None
    """Timer C: how long an INVITE may ring after its last provisional response, None for ever."""

    def __post_init__(self) -> None:
        for name in ("t1", "t2", "t4", "t1x64", "request_step", "ring"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise LocalProtocolError(f"{name} has to be more than 0 seconds, not {value!r}")

    @property
    def lifetime(self) -> float:
        """64 times T1: when whoever got no answer gives up."""
        return 64 * self.t1 if self.t1x64 is None else self.t1x64

    @property
    def a(self) -> float:
        """Timer A: the first interval between repeats of an INVITE; it doubles."""
        return self.t1 if self.request_step is None else self.request_step

    @property
    def b(self) -> float:
        """Timer B: how long an INVITE waits for its first response."""
        return self.lifetime

    @property
    def c(self) -> float | None:
        """Timer C: how long an INVITE may ring; None for ever."""
        return self.ring

    @property
    def d(self) -> float:
        """Timer D: how long the client absorbs repeats of a failure; 32 s with the defaults."""
        return self.lifetime

    @property
    def e(self) -> float:
        """Timer E: the first interval between repeats of a request; it doubles up to T2."""
        return self.t1 if self.request_step is None else self.request_step

    @property
    def f(self) -> float:
        """Timer F: how long a request other than INVITE waits for its final response."""
        return self.lifetime

    @property
    def g(self) -> float:
        """Timer G: the first interval between repeats of a failure; it doubles up to T2."""
        return self.t1

    @property
    def h(self) -> float:
        """Timer H: how long the server waits for an ACK."""
        return self.lifetime

    @property
    def i(self) -> float:
        """Timer I: how long the server absorbs repeats of the ACK."""
        return self.t4

    @property
    def j(self) -> float:
        """Timer J: how long the server answers repeats of a request other than INVITE."""
        return self.lifetime

    @property
    def k(self) -> float:
        """Timer K: how long the client absorbs repeats of a final response."""
        return self.t4

    @property
    def l(self) -> float:  # noqa: E743 - the RFC's name for it
        """Timer L: how long an INVITE transaction stays to pass 2xx responses (RFC 6026)."""
        return self.lifetime

    @property
    def m(self) -> float:
        """Timer M: how long a client accepts further 2xx responses (RFC 6026)."""
        return self.lifetime


DEFAULT_TIMING = Timing()
"""T1 0.5 s, T2 4 s, T4 5 s."""
