"""Who described what in an early dialog, and who owes whom an answer.

A description in the INVITE, in a reliable provisional response, in the PRACK and in an UPDATE is an
offer, or the answer to one (RFC 3262 section 5, RFC 3311 section 5, RFC 6337 section 2). One in
another provisional response is neither: it only says what the answer will be.
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["EarlySession"]


class _Dialog(Protocol):
    """A dialog that is up."""

    @property
    def is_caller(self) -> bool:
        """Whether the application called."""
        ...

    def _need_session(self) -> Any:
        """Return what the two sides described."""
        ...


class EarlySession:
    """The session of a call that is not answered.

    :param local: the description in our INVITE, if it is ours.
    :param remote: the description in the peer's INVITE, if it is the peer's.
    """

    __slots__ = ("changed", "hint", "local", "offered", "offering", "remote", "settled", "unsent")

    def __init__(self, *, local: bytes = b"", remote: bytes = b"") -> None:
        self.local = local
        """What we described last."""
        self.remote = remote
        """What the peer described last."""
        self.offering = bool(local)
        """Whether an offer of ours waits for its answer."""
        self.offered = bool(remote)
        """Whether an offer of the peer's waits for its answer."""
        self.settled = False
        """Whether an offer was answered."""
        self.changed = False
        """Whether an UPDATE, or a PRACK, changed what was agreed on."""
        self.unsent = b""
        """An answer to the peer's offer that a server does not send in a PRACK."""
        self.hint = b""
        """What the peer described in a response that is not reliable."""

    def sent(self, sdp: bytes, *, in_response: bool) -> None:
        """Note a description of ours.

        :param in_response: it was in a reliable response, which repeats what was agreed on before,
            if anything was; otherwise in a PRACK.
        """
        if not sdp or (in_response and self.settled):
            return
        self.local = sdp
        if self.offered:
            self.offered = False
            self.settled = True
        else:
            self.offering = True

    def received(self, sdp: bytes, *, in_response: bool) -> None:
        """Note a description of the peer, as :meth:`sent` does ours."""
        if not sdp or (in_response and self.settled and not self.offering):
            return
        self.remote = sdp
        if self.offering:
            self.offering = False
            self.settled = True
        else:
            self.offered = True

    def refused(self, remote: bytes) -> None:
        """Note that an offer of the peer, in a PRACK, was refused.

        :param remote: what the peer described before.
        """
        self.remote = remote
        self.offered = False

    def updated(self, local: bytes, remote: bytes) -> None:
        """Note what an UPDATE, or a PRACK, with an offer has led to."""
        self.local = local or self.local
        self.remote = remote or self.remote
        self.offering = self.offered = False
        self.settled = self.changed = True

    def hand_over(self, dialog: _Dialog, body: bytes) -> None:
        """Tell the dialog of the call what was agreed on before.

        What the 200 says counts as long as no UPDATE came behind the answer; one without a
        description confirms what there is (RFC 3261 section 13.2.1).

        :param body: the description in the 200.
        """
        if not self.settled:
            if self.offered and not body and dialog.is_caller:
                session = dialog._need_session()
                session.remote = session.offered = self.remote  # for the ACK to answer
            elif self.hint and not body and dialog.is_caller:
                dialog._need_session().remote = self.hint
            return
        session = dialog._need_session()
        is_caller = dialog.is_caller
        if self.changed or is_caller or not body:
            session.local = session.own = self.local
        if self.changed or not is_caller or not body:
            session.remote = self.remote
        if is_caller:
            session.offered = b""  # whatever the 200 describes, the ACK owes no answer
