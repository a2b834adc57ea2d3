"""Requests that are answered without being remembered (RFC 3261 section 8.2.7).

That is how floods, scanners and nonsense are met: nothing is left of them here. So a repeat has to
get the very answer that the request got, which the To tag depends on alone. The ACK of a refused
INVITE needs no transaction either: its To tag names no dialog, and so it goes nowhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow
from drachtwist.server.ports import Carriers
from drachtwist.sip.encoding import joined, status_line
from drachtwist.sip.message import Request
from drachtwist.sip.replies import ReplyHead

__all__ = ["SendingAway", "stateless_tag"]

_KEY = os.urandom(16)


def stateless_tag(request: Request) -> str:
    """Make a To tag that every repeat of a request gets too."""
    via = request.get("Via") or ""
    branch = via.partition("branch=")[2].partition(";")[0]
    text = f"{branch}\n{request.get('Call-ID')}\n{request.get('CSeq')}"
    return hashlib.blake2b(
        text.encode("utf-8", "surrogateescape"), key=_KEY, digest_size=8
    ).hexdigest()


class SendingAway:
    """Answers requests and forgets them.

    :param carriers: what carries the answers.
    """

    __slots__ = ("_carriers", "counts")

    def __init__(self, carriers: Carriers) -> None:
        self._carriers = carriers
        self.counts: dict[int, int] = {}
        """How many requests were sent away, by status."""

    def __call__(
        self,
        request: Request,
        flow: Flow,
        status: int,
        reason: str | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        """Answer a request; an ACK gets no answer, nor does what says no way back.

        :param reason: the phrase, that of the status unless given.
        :param lines: further header lines.
        """
        try:
            if request.method == "ACK" or not request.has("Via"):
                return
        except MessageError:
            pass  # a method that cannot be read is no ACK
        self.counts[status] = self.counts.get(status, 0) + 1
        self._carriers.send(flow, _answer(request, status, reason, lines))


def _answer(request: Request, status: int, reason: str | None, lines: Sequence[str]) -> bytes:
    tag = stateless_tag(request) if request.has("To") and request.to_tag is None else ""
    return joined(status_line(status, reason), [*ReplyHead(request).lines(tag), *lines])
