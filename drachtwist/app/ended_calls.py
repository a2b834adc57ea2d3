"""What the log says of calls that are over, of all that the application knows about them.

A bridged call is one call, and told once: when the first of its legs ends. So is one that was
placed for a caller who is not answered, as ``create_b2bua`` and ``simring`` do: what becomes of the
caller's request is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drachtwist.app.dialog.state import DialogEnd
from drachtwist.app.request import Request
from drachtwist.errors import SipError
from drachtwist.tracing.story import Story
from drachtwist.wire.reports import DIALOG_ID, TIME

if TYPE_CHECKING:
    from drachtwist.app.client_request import ClientRequest
    from drachtwist.app.dialog.face import Dialog

__all__ = ["EndedCalls"]

_DAY = 86400.0


class EndedCalls:
    """Tells of calls that are over.

    :param story: what writes the lines.
    """

    __slots__ = ("_story",)

    def __init__(self, story: Story) -> None:
        self._story = story

    def dialog_over(self, dialog: Dialog, end: DialogEnd) -> None:
        """A call that was up is over."""
        other = dialog._other
        if dialog.dialog_type != "INVITE" or (other is not None and other._end is not None):
            return  # it was told when the other one ended
        first = dialog
        if dialog.type == "uac" and other is not None and other.type == "uas":
            first = other  # who called whom is what its INVITE says
        invite = first.req.raw
        seconds = max(self._story.seconds() - first._since, 0.0)
        other_call_id = ""
        if other is not None:
            other_call_id = (other if first is dialog else dialog).call_id
        if end is DialogEnd.LOCAL:
            self._story.over(invite, "the application", seconds, other_call_id)
        elif end is DialogEnd.REMOTE:
            by = "the caller" if dialog.type == "uas" else "the callee"
            self._story.over(invite, by, seconds, other_call_id)
        else:
            ended = dialog.ended
            problem = end.value if ended is None or not ended.text else ended.text
            self._story.failed(invite, problem, seconds, other_call_id)

    def refused(self, req: Request, status: int, time: str, reason: str = "") -> None:
        """An INVITE was refused.

        :param time: when, as the server says it.
        """
        if _begins_a_call(req):
            self._story.refused(req.raw, status, reason, _elapsed(req._token(TIME), time))

    def cancelled(self, req: Request, cancel: Request | None) -> None:
        """A caller gave up."""
        if _begins_a_call(req):
            time = "" if cancel is None else cancel._token(TIME)
            self._story.refused(req.raw, 487, "", _elapsed(req._token(TIME), time))

    def lost(self, req: Request, reason: Exception) -> None:
        """The connection of an INVITE that was not answered is gone."""
        if req.is_open and _begins_a_call(req):
            self._story.failed(req.raw, reason)

    def not_placed(self, client: ClientRequest, error: Exception) -> None:
        """A call of the application came to nothing."""
        request, caller = client.request, client.on_behalf
        if client.method != "INVITE" or request is None:
            return
        if caller is not None and not 200 <= caller._final_status < 300:
            return  # what becomes of him is told
        if not isinstance(error, SipError):
            self._story.failed(request.raw, error)
            return
        time = error.response._token(TIME) if error.response is not None else ""  # type: ignore
        seconds = _elapsed(request._token(TIME), time)
        self._story.refused(request.raw, error.status, error.reason, seconds)


def _begins_a_call(req: Request) -> bool:
    return req.method == "INVITE" and not req._token(DIALOG_ID) and req.to_tag is None


def _elapsed(begun: str, ended: str) -> float | None:
    """Return the seconds between two times of the day: ``HH:MM:SS.uuuuuu``."""
    start, end = _seconds(begun), _seconds(ended)
    return None if start is None or end is None else (end - start) % _DAY


def _seconds(text: str) -> float | None:
    hours, _, rest = text.partition(":")
    minutes, _, seconds = rest.partition(":")
    try:
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except ValueError:
        return None
