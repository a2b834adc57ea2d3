"""Requests of ours in a dialog: those that any dialog can send, and what is under way.

:class:`Requester` is what early dialogs and those that are up have in common.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twisted.internet.defer import Deferred

from drachtwist.app.dialog.state import DialogEnd
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.sip.headers import HeadersLike

if TYPE_CHECKING:
    from drachtwist.app.authentication import Realms
    from drachtwist.app.notify_queue import NotifyQueue
    from drachtwist.app.outgoing import DialogRequest

__all__ = ["EstablishedRequester", "Requester", "Traffic"]


class Requester:
    """Sends requests of the methods that fit any dialog."""

    __slots__ = ()

    def request(
        self, method: str, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a request."""
        raise NotImplementedError

    def info(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send an INFO; see :meth:`request`."""
        return self.request("INFO", headers=headers, body=body)

    def message(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a MESSAGE; see :meth:`request`."""
        return self.request("MESSAGE", headers=headers, body=body)

    def notify(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a NOTIFY; with ``Event: talk`` many phones answer. See :meth:`request`."""
        return self.request("NOTIFY", headers=headers, body=body)

    def options(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send an OPTIONS; see :meth:`request`."""
        return self.request("OPTIONS", headers=headers, body=body)

    def update(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send an UPDATE (RFC 3311); see :meth:`request`."""
        return self.request("UPDATE", headers=headers, body=body)


class EstablishedRequester(Requester):
    """Sends requests of the methods that fit a dialog which is up."""

    __slots__ = ()

    def request(
        self,
        method: str,
        *,
        headers: HeadersLike = None,
        body: bytes | str = b"",
        no_ack: bool = False,
    ) -> Deferred[ReceivedResponse]:
        """Send a request."""
        raise NotImplementedError

    def invite(
        self, *, headers: HeadersLike = None, body: bytes | str = b"", no_ack: bool = False
    ) -> Deferred[ReceivedResponse]:
        """Send a re-INVITE and acknowledge its 200; see :meth:`request` and :meth:`modify`."""
        return self.request("INVITE", headers=headers, body=body, no_ack=no_ack)

    def prack(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a PRACK; see :meth:`request`."""
        return self.request("PRACK", headers=headers, body=body)

    def publish(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a PUBLISH; see :meth:`request`."""
        return self.request("PUBLISH", headers=headers, body=body)

    def refer(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a REFER; see :meth:`request`."""
        return self.request("REFER", headers=headers, body=body)

    def register(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a REGISTER; see :meth:`request`."""
        return self.request("REGISTER", headers=headers, body=body)

    def subscribe(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a SUBSCRIBE; see :meth:`request`."""
        return self.request("SUBSCRIBE", headers=headers, body=body)

    def bye(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a BYE; :meth:`destroy` does the same, and more kindly."""
        return self.request("BYE", headers=headers, body=body)


class Referral(Protocol):
    """A REFER of ours whose outcome is not known yet."""

    def notified(self, req: Request) -> bool:
        """Take a NOTIFY, if it is about this one."""
        ...

    def dialog_over(self, end: DialogEnd) -> None:
        """The dialog is over, and with it the subscription."""


class Traffic:
    """What is under way in a dialog, besides what changes its session."""

    __slots__ = ("held", "notifies", "realms", "referrals", "refers", "requests")

    def __init__(self) -> None:
        self.requests: set[DialogRequest] = set()
        """Requests of ours without a final response."""
        self.realms: Realms | None = None
        """What was answered to challenges, from the INVITE on."""
        self.notifies: NotifyQueue | None = None
        """NOTIFYs that are sent one after the other."""
        self.referrals: list[Referral] = []
        """REFERs of ours that are under way."""
        self.refers = 0
        """How many REFERs came."""
        self.held: list[Request] | None = None
        """Requests of the peer that wait until somebody has the dialog; None when none has to."""
