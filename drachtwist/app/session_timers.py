"""Session timers, as far as an application has to speak of them (RFC 4028).

The server keeps the timers (protocol.md 5.8); but a real one leaves it to the application to answer
a refresh. A peer that finds no Session-Expires in the answer takes the timer for off (section 7.2),
while the server's goes on, so that the server hangs up. The same holds for a re-INVITE or UPDATE of
ours, which says anew whether there is a timer (section 7.4). So both say what was agreed on, unless
the application does.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from drachtwist import sip
from drachtwist.sip.fields import parse_tokens, session_interval
from drachtwist.sip.headers import HeadersLike

__all__ = ["SessionTimer", "agreed_at_first", "complete_answer", "complete_request", "note_answer"]

_NAME = "Session-Expires"
_KNOWN = {"session-expires", "x"}


class SessionTimer(NamedTuple):
    """What the two sides of a dialog have agreed on."""

    interval: int
    """Seconds."""
    ours: bool
    """Whether this side refreshes, which is the server's work."""


class _Dialog(Protocol):
    """A dialog that is up."""

    @property
    def _timer(self) -> SessionTimer | None:
        """What was agreed on; None for no timer."""
        ...

    @_timer.setter
    def _timer(self, timer: SessionTimer | None) -> None: ...

    @property
    def is_caller(self) -> bool:
        """Whether the application called."""
        ...

    @property
    def res(self) -> sip.Message:
        """The response that established it."""
        ...

    def _local_response(self) -> sip.Response:
        """Return that of ours as it was sent."""
        ...


def agreed_at_first(dialog: _Dialog) -> SessionTimer | None:
    """Return what the response says that established a dialog; None for no timer."""
    if not dialog.is_caller:
        # The server completes the 200; a refresher that it does not name is the caller.
        said = session_interval(dialog._local_response().get(_NAME))
        return None if said is None else SessionTimer(said[0], said[1] == "uas")
    said = session_interval(dialog.res.get(_NAME))
    return None if said is None else SessionTimer(said[0], said[1] != "uas")


def complete_answer(dialog: _Dialog, req: sip.Request, headers: HeadersLike) -> HeadersLike:
    """Let a 2xx to a re-INVITE or UPDATE of the peer say what holds from now on.

    :param headers: of the response; what they say counts.
    """
    asked = session_interval(req.get(_NAME))
    if asked is None and type(headers) is dict and _KNOWN.isdisjoint(map(str.lower, headers)):
        dialog._timer = None
        return headers  # as most of the time
    given = sip.Headers(headers)
    if given.has(_NAME):
        said = session_interval(given.get(_NAME))
        dialog._timer = None if said is None else SessionTimer(said[0], said[1] == "uas")
        return given.items()
    if asked is None:
        # Whoever asks without one wants none any more.
        dialog._timer = None
        return given.items()
    interval, refresher = asked
    if refresher not in ("uac", "uas"):
        # As servers take it: who did it before does not go on.
        before = dialog._timer
        refresher = "uac" if before is not None and before.ours else "uas"
    dialog._timer = SessionTimer(interval, refresher == "uas")
    given.add(_NAME, f"{interval};refresher={refresher}")
    if refresher == "uac":
        _list(given, "Require")  # section 9
    return given.items()


def complete_request(dialog: _Dialog, headers: HeadersLike) -> HeadersLike:
    """Let a re-INVITE or UPDATE of ours go on with the timer that there is.

    :param headers: of the request; what they say counts.
    """
    timer = dialog._timer
    if timer is None:
        return headers
    given = sip.Headers(headers)
    if not given.has(_NAME):
        given.add(_NAME, f"{timer.interval};refresher={'uac' if timer.ours else 'uas'}")
        _list(given, "Supported")
    return given.items()


def note_answer(dialog: _Dialog, response: sip.Response) -> None:
    """Note what the 2xx to a re-INVITE or UPDATE of ours says.

    One that says nothing changes nothing for servers, so that ours goes on to say it.
    """
    said = session_interval(response.get(_NAME))
    if said is not None:
        dialog._timer = SessionTimer(said[0], said[1] != "uas")


def _list(headers: sip.Headers, name: str) -> None:
    listed = [tag.lower() for value in headers.get_all(name) for tag in parse_tokens(value)]
    if "timer" not in listed:
        headers.add(name, "timer")
