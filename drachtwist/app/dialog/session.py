"""The session of a call: who described what.

Three descriptions of ours have to be told apart: what was sent last (:attr:`Session.local`), what
the application described last (:attr:`Session.own`, of which an automatic answer may be only a
part: a hold must not be held for ever), and what was described before :meth:`Dialog.modify` put the
media on hold (:attr:`Session.unheld`).
"""

from __future__ import annotations

from typing import Literal

from drachtwist.app.session_timers import SessionTimer

__all__ = ["Session"]


class Session:
    """What the two sides of a dialog described, beyond the messages that made it."""

    __slots__ = ("invited", "local", "offered", "own", "remote", "timer", "unheld")

    def __init__(self) -> None:
        self.local: bytes | None = None
        """What we described last; None when it is in the message that made the dialog."""
        self.remote: bytes | None = None
        """What the peer described last, likewise."""
        self.own: bytes | None = None
        """What the application described last; what was sent may differ in direction."""
        self.unheld: bytes | None = None
        """What we described before the media were put on hold; None when we did not do that."""
        self.offered: bytes | None = None
        """The offer in the 200 to a re-INVITE of ours whose ACK is due, empty when there was none;
        None for the first INVITE."""
        self.invited: bytes | None = None
        """Our last re-INVITE as it was sent."""
        self.timer: SessionTimer | Literal[False] | None = False
        """What was agreed on about the session timer; False until somebody looks."""
