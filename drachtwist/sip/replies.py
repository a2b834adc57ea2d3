"""What every response has in common with its request, and which of several refusals goes on.

A response repeats the Vias, From, To, Call-ID and CSeq of its request (RFC 3261 section 8.2.6.2),
and one that makes a dialog its Record-Routes (section 12.1.1). Its To has a tag, but for a 100.
"""

from __future__ import annotations

from drachtwist.sip.message import Message, Request

__all__ = ["ReplyHead", "rank", "via_lines"]

_HELPFUL = frozenset((401, 407, 415, 420, 484))


def via_lines(message: Message) -> list[str]:
    """Write the Vias of a message as header lines, as they are."""
    return [f"Via: {via}" for via in message.get_all("Via")]


class ReplyHead:
    """The header lines that all responses to a request begin with.

    A header that the request lacks is left out.

    :param request: the request, with ``received`` and ``rport`` filled in.
    :param to: what To says, if not what it says in the request.
    """

    __slots__ = ("_before", "_request", "_tail", "_to")

    def __init__(self, request: Request, to: str | None = None) -> None:
        get = request.get
        self._request = request
        self._before = before = via_lines(request)
        value = get("From")
        if value is not None:
            before.append(f"From: {value}")
        if to is None:
            to = get("To")
        self._to = None if to is None else f"To: {to}"
        self._tail: list[str] = []
        tail = self._tail
        value = get("Call-ID")
        if value is not None:
            tail.append(f"Call-ID: {value}")
        value = get("CSeq")
        if value is not None:
            tail.append(f"CSeq: {value}")

    def lines(self, to_tag: str = "", *, routes: bool = False) -> list[str]:
        """Write the lines of one response.

        :param to_tag: the tag that To gets; none for a 100, and where To has one.
        :param routes: whether the response makes a dialog, and so repeats the Record-Routes.
        """
        to = self._to
        if to is None:
            lines = [*self._before, *self._tail]
        elif to_tag:
            lines = [*self._before, f"{to};tag={to_tag}", *self._tail]
        else:
            lines = [*self._before, to, *self._tail]
        if routes:
            found = self._request.get_all("Record-Route")
            if found:
                at = len(self._before) - 1  # before From
                lines[at:at] = [f"Record-Route: {route}" for route in found]
        return lines


def rank(status: int) -> int:
    """Say how good a failure is to be passed on; of several the highest (RFC 3261 section 16.7).

    6xx, which counts for all, comes first, then the lowest class. Of 4xx those come first that say
    how to try again, and last that nobody answered (408, 487); a 503 comes last of all, since it
    is about one server.
    """
    if status >= 600:
        return 7
    if status < 400:
        return 6
    if status < 500:
        return 5 if status in _HELPFUL else 3 if status in (408, 487) else 4
    return 1 if status == 503 else 2
