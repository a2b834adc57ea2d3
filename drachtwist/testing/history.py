"""What passed: every message, and remarks beside them, for ladders and for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from drachtwist.errors import MessageError
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_message

__all__ = ["Address", "History", "Passed"]

Address = tuple[str, int]
"""Host and port."""


@dataclass(slots=True)
class Passed:
    """A message that was sent, or a remark."""

    time: float
    """Seconds since the network began."""
    source: Address
    target: Address
    """The same as the source for a remark."""
    data: bytes
    """The message as it was sent; a remark in UTF-8."""
    fate: str = ""
    """``lost``, ``twice``, ``late``, or nothing when it arrived as usual."""
    remark: bool = False

    @property
    def message(self) -> Request | Response | None:
        """The message; None for a remark, and for what is no message."""
        if self.remark:
            return None
        try:
            return parse_message(self.data)
        except MessageError:
            return None


class History:
    """Everything that passed, the oldest first; of very many, the latest.

    :param seconds: tells the time.
    """

    MOST = 20_000

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.entries: list[Passed] = []
        self.forgotten = 0

    def passed(self, source: Address, target: Address, data: bytes, fate: str = "") -> None:
        """Note a message."""
        self._add(Passed(self._seconds(), source, target, data, fate))

    def remark(self, where: Address, text: str) -> None:
        """Note something beside the messages."""
        data = text.encode("utf-8", "replace")
        self._add(Passed(self._seconds(), where, where, data, remark=True))

    def _add(self, entry: Passed) -> None:
        self.entries.append(entry)
        if len(self.entries) > self.MOST:
            half = self.MOST // 2
            del self.entries[:half]
            self.forgotten += half
