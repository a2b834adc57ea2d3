"""Where a dialog is between its beginning and its end, and who wants to know of that end.

Two may end a dialog at the same moment, each with a BYE; the server may have forgotten it; the
connection may go. Whatever comes first is the end (:class:`DialogEnd`), and there is one: what
comes behind it finds the dialog ended and changes nothing. Between the wish of the application and
the end lies :attr:`State.ENDING`, from which there is a way back (see
:mod:`drachtwist.app.dialog.ending`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from drachtwist import sip
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.errors import ConnectionLost, MessageError, SipError
from drachtwist.net.observers import Observers
from drachtwist.sip.headers import HeadersLike

__all__ = ["TRANSITIONS", "DialogEnd", "DialogEnded", "Ending", "State", "why_over", "words_for"]


class State(Enum):
    """Where the application is with a dialog. Those before the 200 are early dialogs."""

    UP = "both sides are in it"
    ENDING = "the application ends it: its last request is on the way, or waits for the ACK"
    ENDED = "it is over"

    __hash__ = object.__hash__  # there is one of each; Enum's own takes a call


TRANSITIONS: Mapping[State, Mapping[State, str]] = {
    State.UP: {
        State.ENDING: "the application sends the last request, or lets it wait",
        State.ENDED: "BYE or last NOTIFY of the peer, BYE of the server, connection lost",
    },
    State.ENDING: {
        State.UP: "the server refuses to send it, or the peer wants credentials for a BYE",
        State.ENDED: "any other response, no dialog any more, or as in UP",
    },
    State.ENDED: {},
}
"""Which state may follow which, and why."""


class DialogEnd(Enum):
    """How a dialog came to its end."""

    REMOTE = "the peer ended it"
    LOCAL = "the application ended it"
    SERVER = "the server ended it"
    LINK_LOST = "the connection to the server was lost"


@dataclass(frozen=True, slots=True)
class DialogEnded:
    """The end of a dialog."""

    reason: DialogEnd
    request: Request | None
    """The BYE or NOTIFY that ended it, if one came in."""
    text: str
    """What is known about the cause: the text of the Reason header of who ended it, or the failure
    of the connection; otherwise who ended it."""


class Ending:
    """Who wants to be told of the end of a dialog, or of what comes before it."""

    __slots__ = ("_begun", "acked", "destroyed", "ended", "text")

    def __init__(self) -> None:
        self.acked: Observers[Request | None] = Observers()
        """Wait for the ACK of the 200 that made the dialog."""
        self.ended: Observers[DialogEnded] = Observers()
        """Wait for the end."""
        self.destroyed: Observers[ReceivedResponse | None] = Observers()
        """Wanted to end it while it was being ended."""
        self.text = ""
        """What the server, or the connection, said about the cause."""
        self._begun: list[Callable[[HeadersLike], None]] = []

    def on_begun(self, handler: Callable[[HeadersLike], None]) -> None:
        """Call a handler once, with the Reason, when the dialog ends or begins to be ended."""
        self._begun.append(handler)

    @property
    def is_awaited(self) -> bool:
        """Whether somebody has to be told that the dialog begins to be ended."""
        return bool(self._begun)

    def begun(self, why: HeadersLike) -> None:
        """Tell those who wait that the dialog ends, or begins to be ended."""
        if self._begun:
            handlers, self._begun = self._begun, []
            for handler in handlers:
                handler(why)


def why_over(end: DialogEnd | None) -> Exception:
    """Make the failure of what came too late."""
    if end is DialogEnd.LINK_LOST:
        return ConnectionLost("the connection that the dialog lived on is gone")
    return SipError(481, "Call/Transaction Does Not Exist")


def words_for(end: DialogEnd, request: Request | None) -> str:
    """Say why a dialog ended: in the words of whoever ended it, or else who that was.

    :param request: the BYE or NOTIFY that ended it.
    """
    if request is not None and request.has("Reason"):
        try:
            reasons: list[sip.Reason] = request.get_parsed_header("Reason")
        except MessageError:
            reasons = []
        for reason in reasons:
            if reason.text:
                return reason.text
    return end.value
