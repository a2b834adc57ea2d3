"""How commands end: exit statuses that scripts can go by, and errors that are said in one line."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["CommandError", "Exit", "of_status"]


class Exit(IntEnum):
    """Exit statuses; those of refusals are the hundreds of the SIP status."""

    OK = 0
    """It worked: a 2xx, a call that was connected, an application without faults."""
    FAILED = 1
    """It could not be done, for a reason on this machine."""
    USAGE = 2
    """The command line cannot be understood."""
    REDIRECTED = 3
    """The final response is a 3xx."""
    REFUSED = 4
    """The final response is a 4xx."""
    BROKEN = 5
    """The final response is a 5xx."""
    DECLINED = 6
    """The final response is a 6xx."""
    NO_ANSWER = 7
    """Nobody answered: no way there, no response, or not in time."""
    INTERRUPTED = 130
    """Ctrl-C, or SIGTERM, before it was done."""


class CommandError(Exception):
    """A command cannot go on; the text is ready to be shown, its last line last.

    :param exit: the exit status.
    """

    def __init__(self, text: str, exit: Exit = Exit.FAILED) -> None:
        super().__init__(text)
        self.exit = exit


def of_status(status: int, *, made_up: bool = False) -> Exit:
    """Return the exit status that goes with a final response.

    :param made_up: whether it is the server's own, who got none.
    """
    if 200 <= status < 300:
        return Exit.OK
    if made_up:
        return Exit.NO_ANSWER
    return Exit(status // 100)
