"""What lies between a phone and the others: it loses, delays, repeats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Union

from drachtwist.sip.message import Request, Response

__all__ = ["Link", "Message", "What", "matcher"]

Message = Union[Request, Response]  # noqa: UP007 - evaluated on Python 3.10

What = Union[str, int, Callable[[Message], bool], None]  # noqa: UP007 - evaluated on Python 3.10
"""Which messages: a method (``"INVITE"``), a status (``200``), both (``"200 INVITE"``), a function
of the message, or None for all."""


def matcher(what: What) -> Callable[[Message], bool]:
    """Return what says whether a message is meant.

    :raises ValueError: when it says nothing that a message could be.
    """
    if what is None:
        return lambda message: True
    if callable(what):
        return what
    words = str(what).split()
    status = int(words.pop(0)) if words and words[0].isdigit() else None
    method = words.pop(0) if words else None
    if (
        words
        or (status is None and method is None)
        or (method is not None and not method.isupper())
    ):
        raise ValueError(f"say 'INVITE', '200' or '200 INVITE', not {what!r}")

    def matches(message: Message) -> bool:
        if status is None:
            return isinstance(message, Request) and message.method == method
        if not isinstance(message, Response) or message.status != status:
            return False
        return method is None or message.cseq.method == method

    return matches


class _Rule:
    """What happens to some messages."""

    def __init__(self, count: int | None, what: What, copies: int, delay: float) -> None:
        self.left = count
        self.matches = matcher(what)
        self.copies = copies
        self.delay = delay


class Link:
    """The way between a phone and everybody else, over UDP.

    Over TCP nothing is lost or repeated; what is delayed there delays what comes after it.
    """

    def __init__(self) -> None:
        self.delay = 0.0
        """Seconds that each message takes, each way."""
        self.is_cut = False
        """Whether nothing passes."""
        self._rules: list[_Rule] = []

    def lose(self, count: int | None = 1, what: What = None) -> None:
        """Lose the next messages, either way.

        :param count: how many; None for all from now on.
        :param what: which ones: ``"INVITE"``, ``200``, ``"200 BYE"``, a function, or all.
        :raises ValueError: when that is none of these.
        """
        self._rules.append(_Rule(count, what, 0, 0.0))

    def duplicate(self, count: int | None = 1, what: What = None) -> None:
        """Deliver the next messages twice."""
        self._rules.append(_Rule(count, what, 2, 0.0))

    def hold_back(self, seconds: float, count: int | None = 1, what: What = None) -> None:
        """Deliver the next messages late, and so after others."""
        self._rules.append(_Rule(count, what, 1, seconds))

    def cut(self) -> None:
        """Let nothing pass."""
        self.is_cut = True

    def restore(self) -> None:
        """Let everything pass again, and forget what was to happen to single messages."""
        self.is_cut = False
        self.delay = 0.0
        self._rules.clear()

    def fate(self, message: Message | None) -> list[float]:
        """Return after how many seconds a message arrives, once for each copy."""
        if self.is_cut:
            return []
        if message is not None:
            for rule in self._rules:
                if rule.matches(message):
                    if rule.left is not None:
                        rule.left -= 1
                        if not rule.left:
                            self._rules.remove(rule)
                    return [self.delay + rule.delay] * rule.copies
        return [self.delay]

    @property
    def is_perfect(self) -> bool:
        """Whether everything passes at once."""
        return not (self._rules or self.is_cut or self.delay)
