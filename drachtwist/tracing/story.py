"""One line in the log for each call, when it is over: who, whom, how long, and how it ended.

A call that ended as calls do is told at the level info, one that failed as a warning. There are so
many lines a second; what goes beyond is counted, and told with the next line.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from drachtwist.net.logs import Logger
from drachtwist.sip.status import reason_phrase
from drachtwist.tracing.hiding import without_secrets
from drachtwist.tracing.messages import call_id_of, end_of_head
from drachtwist.tracing.watch import is_failure

__all__ = ["AT_ONCE", "Story", "party_of"]

AT_ONCE = 200
"""Lines in one second."""

_FROM = re.compile(rb"\n(?:from|f)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_TO = re.compile(rb"\n(?:to|t)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)


class Story:
    """Tells of the calls that are over.

    :param seconds: the time.
    """

    _log = Logger(namespace="drachtwist.calls")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        """The time."""
        self._second = 0
        self._told = 0
        self._left_out = 0

    def over(
        self, invite: bytes, ended_by: str, seconds: float | None = None, other_call_id: str = ""
    ) -> None:
        """Tell of a call that was up.

        :param invite: the INVITE that it began with.
        :param ended_by: who ended it, in words.
        :param seconds: how long it was up; None when nobody knows.
        :param other_call_id: of the other leg, if it had one.
        """
        if self._may():
            text = "call from {caller} to {callee} was ended by {ended_by}"
            self._tell(False, text, invite, seconds, other_call_id, ended_by=ended_by)

    def refused(
        self, invite: bytes, status: int, reason: str = "", seconds: float | None = None
    ) -> None:
        """Tell of a call that was not answered, for a status."""
        if self._may():
            failed = is_failure(status)
            verb = "failed with" if failed else "was refused with"
            if status == 487:
                verb = "was given up:"
            text = f"call from {{caller}} to {{callee}} {verb} {{status}} {{reason}}"
            reason = reason or reason_phrase(status)
            self._tell(failed, text, invite, seconds, status=status, reason=reason)

    def failed(
        self, invite: bytes, problem: object, seconds: float | None = None, other_call_id: str = ""
    ) -> None:
        """Tell of a call that ended for another reason than that somebody wanted it to.

        :param problem: why, in words or as an exception.
        """
        if self._may():
            text = "call from {caller} to {callee} failed: {problem}"
            self._tell(True, text, invite, seconds, other_call_id, problem=problem)

    def _may(self) -> bool:
        """Return whether there is room for a line in this second."""
        second = int(self.seconds())
        if second != self._second:
            self._second, self._told = second, 0
        if self._told >= AT_ONCE:
            self._left_out += 1
            return False
        self._told += 1
        return True

    def _tell(
        self,
        failed: bool,
        text: str,
        invite: bytes,
        seconds: float | None,
        other_call_id: str = "",
        **fields: object,
    ) -> None:
        fields["call_id"] = call_id_of(invite).decode("utf-8", "surrogateescape")
        fields["caller"] = party_of(invite, caller=True)
        fields["callee"] = party_of(invite, caller=False)
        if seconds is not None:
            text += " after {seconds:.1f} s"
            fields["seconds"] = seconds
        text += ", Call-ID {call_id}"
        if other_call_id:
            text += " (other leg {other_call_id})"
            fields["other_call_id"] = other_call_id
        if self._left_out:
            text += "; {left_out} more calls were over in between"
            fields["left_out"], self._left_out = self._left_out, 0
        (self._log.warn if failed else self._log.info)(text, **fields)


def party_of(message: bytes, *, caller: bool) -> str:
    """Return the URI in From or To of what may be a message, without parameters and password."""
    found = (_FROM if caller else _TO).search(message, 0, end_of_head(message))
    if found is None:
        return "nobody"
    value = found[1]
    start = value.find(b"<")
    if start >= 0:
        value = value[start + 1 :].partition(b">")[0]
    text = value.partition(b";")[0].strip().decode("utf-8", "replace")
    # A password is behind the user's name, in front of the last "@".
    user, at, _ = text.rpartition("@")
    return without_secrets(text) if at and user.count(":") > 1 else text
