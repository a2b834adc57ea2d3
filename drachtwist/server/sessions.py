"""Session timers (RFC 4028), as the real server keeps them on behalf of applications.

A timer begins when a Session-Expires header is agreed on; the application need not know. Whoever
is the refresher has half the interval; the other side ends the call when the whole of it passes.
A refresh counts when it is accepted; one that is not answered yet has 64*T1 more for that.
A refresh of ours is a re-INVITE with the session description that the application sent last. One
that meets another INVITE is repeated soon (RFC 3261 section 14.1), one whose interval is too small
for the peer is repeated with a longer one.
"""

from __future__ import annotations

import random
from typing import Protocol

from drachtwist.net.clock import DeadlineClock
from drachtwist.server.compose import Draft
from drachtwist.server.config import ServerConfig
from drachtwist.server.dialogs import Dialog, Dialogs
from drachtwist.server.incoming import Incoming
from drachtwist.server.usages import Refreshing
from drachtwist.sip.fields import session_interval
from drachtwist.sip.message import Request, Response
from drachtwist.sip.options import lists_option
from drachtwist.transactions.machine import Effect
from drachtwist.transactions.timing import Timing

__all__ = ["SessionTimer", "Sessions"]

_SPREAD = 5.0
"""Seconds around the half of the interval in which a refresh is sent."""

_LATER = 2.0
"""Seconds until the next look when a refresh has to wait for something in the dialog."""

_EXPIRED = "Session timer expired"


class SessionTimer(Refreshing):
    """The deadline of a dialog's session.

    :param dialog: the dialog.
    :param interval: seconds.
    :param ours: whether the server is the refresher.
    :param now: when it begins.
    """

    __slots__ = ("ends", "interval", "raised", "sessions")

    def __init__(
        self, sessions: Sessions, dialog: Dialog, interval: int, ours: bool, now: float
    ) -> None:
        super().__init__()
        self.sessions = sessions
        self.owner = dialog
        self.interval = interval
        self.ours = ours
        self.raised = False
        self.ends = now + interval
        if ours:
            half = interval / 2
            spread = min(_SPREAD, half / 2)
            self.deadline = now + half + random.uniform(-spread, spread)
        else:
            self.deadline = self.ends

    def again(self, after: float, now: float) -> bool:
        """Try the refresh again; say whether there is time for that."""
        if now + after >= self.ends:
            return False
        self.deadline = now + after
        return True

    def tick(self, now: float) -> list[Effect]:
        """Act when the time has come."""
        self.deadline = None
        self.sessions.expired(self)
        return []


class Callers(Protocol):
    """What asks in dialogs: the UAC core."""

    def refresh(self, dialog: Dialog, draft: Draft, timer: Refreshing) -> None:
        """Send a re-INVITE."""

    def bye(self, dialog: Dialog, reason: str, cause: int = 200) -> None:
        """End a dialog, and tell the application."""


class Called(Protocol):
    """What is asked in dialogs: the UAS core."""

    def end(self, dialog: Dialog) -> None:
        """Forget a dialog."""


class SessionCore(Protocol):
    """What session timers need of the server."""

    @property
    def config(self) -> ServerConfig:
        """The settings."""
        ...

    @property
    def timing(self) -> Timing:
        """The timers of SIP."""
        ...

    @property
    def clock(self) -> DeadlineClock:
        """The time."""
        ...

    @property
    def dialogs(self) -> Dialogs:
        """The dialogs."""
        ...

    @property
    def uac(self) -> Callers:
        """What asks."""
        ...

    @property
    def uas(self) -> Called:
        """What is asked."""
        ...


class Sessions:
    """The session timers of all dialogs."""

    __slots__ = ("core", "minimum")

    def __init__(self, core: SessionCore) -> None:
        self.core = core
        self.minimum = core.config.shortest_session
        """The shortest interval that is accepted of a caller, in seconds."""

    # What begins and ends them

    def offer_answered(self, incoming: Incoming, draft: Draft) -> tuple[int, bool] | None:
        """Look at the 200 that an application gives to an INVITE, and complete it.

        :returns: the interval and whether the server is the refresher; None for no timer.
        """
        given = draft.value("session-expires")
        if given is not None:
            asked = session_interval(given)
            if asked is None:
                return None
            return max(asked[0], self.minimum), asked[1] == "uas"
        asked = _of(incoming.request)
        if asked is None:
            return None
        interval = max(asked[0], self.minimum)
        refresher = asked[1] or self.core.config.default_refresher
        if refresher is None:
            return None
        draft.add("Session-Expires", f"{interval};refresher={refresher}")
        return interval, refresher == "uas"

    def begin(self, dialog: Dialog, interval: int, ours: bool) -> None:
        """Begin a timer, in place of the one that there is."""
        self.end(dialog)
        now = self.core.clock.seconds()
        dialog.timer = timer = SessionTimer(self, dialog, interval, ours, now)
        self.core.clock.watch(timer)

    def end(self, dialog: Dialog) -> None:
        """Have no timer any more."""
        timer, dialog.timer = dialog.timer, None
        if timer is not None:
            self.core.clock.forget(timer)

    def answered(self, dialog: Dialog, response: Response) -> None:
        """Look at the 200 of a peer to an INVITE of ours."""
        asked = _of(response)
        if asked is not None and asked[0] > 0:
            self.begin(dialog, asked[0], asked[1] != "uas")

    def is_too_short(self, request: Request) -> bool:
        """Return whether a re-INVITE or UPDATE of a peer asks for too small an interval."""
        asked = _of(request)
        return asked is not None and asked[0] < self.minimum

    def refresh_answered(self, dialog: Dialog, request: Request, draft: Draft) -> None:
        """Look at the 2xx that an application gives to a re-INVITE or UPDATE, and complete it.

        What it says counts, or else what the request asks for; a refresh that is refused changes
        nothing. The real server leaves the header to the application. A peer that does not find it
        may take it that there is no timer any more (RFC 4028 section 7.2), and would be hung up on.
        """
        given = draft.value("session-expires")
        asked = _of(request) if given is None else session_interval(given)
        if asked is None:
            self.end(dialog)
            return
        interval, refresher = max(asked[0], self.minimum), asked[1]
        if given is not None:
            ours = refresher == "uas"
        elif refresher is None:
            ours = dialog.timer is None or not dialog.timer.ours
        else:
            ours = refresher != "uac"
        if given is None:
            draft.add("Session-Expires", f"{interval};refresher={'uas' if ours else 'uac'}")
            if not ours and not lists_option(draft.values("require"), "timer"):
                draft.add("Require", "timer")  # RFC 4028 section 9
        self.begin(dialog, interval, ours)

    # What they do

    def expired(self, timer: SessionTimer) -> None:
        """End the call, since the peer did not refresh it; or refresh it, since it is our turn."""
        dialog: Dialog = timer.owner
        if dialog.timer is not timer:
            return
        if not timer.ours:
            self._over(dialog, timer)
        elif _is_inviting(dialog):
            self._later(dialog, timer, _LATER)
        else:
            self._refresh(dialog, timer)

    def _refresh(self, dialog: Dialog, timer: SessionTimer) -> None:
        draft = Draft("", dialog.sdp)
        draft.add("Contact", dialog.contact)
        draft.add("Supported", "timer")
        draft.add("Session-Expires", f"{timer.interval};refresher=uac")
        draft.add("Min-SE", str(min(timer.interval, self.minimum)))
        draft.complete_type()
        self.core.uac.refresh(dialog, draft, timer)

    def _later(self, dialog: Dialog, timer: SessionTimer, after: float) -> None:
        """Refresh after some seconds; when the session is over by then, end the call."""
        if timer.again(after, self.core.clock.seconds()):
            self.core.clock.watch(timer)
        else:
            self._over(dialog, timer)

    def _over(self, dialog: Dialog, timer: SessionTimer) -> None:
        """End the call, unless a refresh came in time that the application is about to answer."""
        now = self.core.clock.seconds()
        came = any(one.method in ("INVITE", "UPDATE") for one in dialog.open)
        if came and now < timer.ends + self.core.timing.lifetime:
            timer.deadline = now + _LATER
            self.core.clock.watch(timer)
        else:
            self._hang_up(dialog)

    def refreshed(
        self, dialog: Dialog, timer: Refreshing, status: int, response: Response | None
    ) -> None:
        """Look at the final response to a refresh of ours; None for one that was made up."""
        if not isinstance(timer, SessionTimer) or dialog.timer is not timer:
            return
        longer = pause = None
        if response is not None:
            longer = _of(response, "Min-SE")
            pause = _of(response, "Retry-After")
        if status < 300:
            asked = None if response is None else _of(response)
            if asked is None:
                self.end(dialog)
            else:
                self.begin(dialog, asked[0], asked[1] != "uas")
        elif status == 491:
            # Whoever chose the Call-ID waits longer (RFC 3261 section 14.1).
            after = random.uniform(0, 2.0) if dialog.is_uas else random.uniform(2.1, 4.0)
            self._later(dialog, timer, after)
        elif status == 500 and pause is not None:
            self._later(dialog, timer, pause[0])
        elif status == 422 and longer is not None and longer[0] > timer.interval:
            if timer.raised:
                self._hang_up(dialog)
            else:
                timer.interval, timer.raised = longer[0], True
                self._refresh(dialog, timer)
        else:
            self._hang_up(dialog)

    def _hang_up(self, dialog: Dialog) -> None:
        self.end(dialog)
        self.core.uac.bye(dialog, _EXPIRED)
        self.core.uas.end(dialog)


def _is_inviting(dialog: Dialog) -> bool:
    """Return whether an INVITE of either side is not confirmed yet (RFC 3261 section 14.1)."""
    return (
        dialog.answers is not None
        or dialog.unconfirmed is not None
        or any(one.method == "INVITE" for one in dialog.asked)
        or any(one.method == "INVITE" for one in dialog.open)
    )


def _of(
    message: Request | Response, name: str = "Session-Expires"
) -> tuple[int, str | None] | None:
    """Return the seconds and the refresher in a header; None when there is no legible one."""
    return session_interval(message.get(name))
