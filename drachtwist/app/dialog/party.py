"""The two sides of a dialog, as its messages name them."""

from __future__ import annotations

from typing import Protocol

from drachtwist import sip
from drachtwist.errors import MessageError
from drachtwist.sip.sdp import description_of

__all__ = ["Party"]


class _Session(Protocol):
    """What the two sides described, beyond those messages."""

    local: bytes | None
    remote: bytes | None


class _Dialog(Protocol):
    """Has the messages that made a dialog."""

    @property
    def _session(self) -> _Session | None:
        """What changed since."""
        ...

    def _message(self, is_local: bool) -> sip.Message:
        """Return the message that tells about a side."""
        ...


class Party:
    """One side of a dialog."""

    __slots__ = ("_dialog", "_is_local")

    def __init__(self, dialog: _Dialog, is_local: bool) -> None:
        self._dialog = dialog
        self._is_local = is_local

    def __repr__(self) -> str:
        return f"<Party {self.uri}>"

    def _message(self) -> sip.Message:
        return self._dialog._message(self._is_local)

    @property
    def address(self) -> sip.Address | None:
        """The From or To of this side; None when it cannot be read."""
        message = self._message()
        try:
            return message.from_ if isinstance(message, sip.Request) else message.to
        except MessageError:
            return None

    @property
    def tag(self) -> str:
        """The tag of this side; empty when it gave none."""
        address = self.address
        return "" if address is None else address.tag or ""

    @property
    def contact(self) -> str:
        """The Contact header of this side; empty when it gave none."""
        return self._message().get("Contact") or ""

    @property
    def uri(self) -> str:
        """The URI of the Contact, or of From or To when there is no usable Contact."""
        try:
            contacts = self._message().contacts
        except MessageError:
            contacts = []
        if contacts:
            return contacts[0].uri
        address = self.address
        return "" if address is None else address.uri

    @property
    def sdp(self) -> bytes:
        """The session description that this side gave last; empty when it gave none."""
        session = self._dialog._session
        if session is not None:
            sdp = session.local if self._is_local else session.remote
            if sdp is not None:
                return sdp
        return description_of(self._message())
