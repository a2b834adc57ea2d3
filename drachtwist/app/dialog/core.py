"""What a dialog is: its messages, where it is between its beginning and its end, and its parts.

Most dialogs are calls that come, are answered, and end; they are this object alone. What only some
need is made when it is needed first: descriptions of a session that changes, re-INVITEs, those who
wait for the end, what is under way. Applications see :class:`~drachtwist.app.dialog.face.Dialog`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from drachtwist import sip
from drachtwist.app.authentication import Auth, Challenged, Realms
from drachtwist.app.connection import Connection, Server
from drachtwist.app.dialog.party import Party
from drachtwist.app.dialog.ports import OpenInvites
from drachtwist.app.dialog.requests import Traffic
from drachtwist.app.dialog.session import Session
from drachtwist.app.dialog.state import (
    TRANSITIONS,
    DialogEnd,
    DialogEnded,
    Ending,
    State,
    words_for,
)
from drachtwist.app.dialog.subscriptions import Subscriptions
from drachtwist.app.dialog_table import Ends, Role
from drachtwist.app.outgoing import WITH_CONTACT, DialogRequest, send_ack
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.sdp import Sdp, answer_with, description_of, refuse

if TYPE_CHECKING:
    from drachtwist.app.dialog.face import Dialog
    from drachtwist.app.outgoing_request import OutgoingRequest
    from drachtwist.app.srf import Srf
    from drachtwist.net.protocol import DrachtioProtocol

__all__ = ["DialogCore"]

_UP = State.UP


class DialogCore:
    """A dialog, without what applications do with it."""

    __slots__ = (
        "_acked",
        "_end",
        "_end_request",
        "_ending",
        "_handlers",
        "_on_destroy",
        "_other",
        "_owes_ack",
        "_reinvites",
        "_sent",
        "_session",
        "_since",
        "_stage",
        "_state",
        "_subscriptions",
        "_traffic",
        "auth",
        "id",
        "is_on_hold",
        "req",
        "type",
    )

    id: str
    """The server's name of the dialog. Both sides of a call to oneself have the same; together with
    :attr:`type` it is unique."""

    type: Role
    """``uas`` when the peer began the dialog, ``uac`` when the application did."""

    req: Request | OutgoingRequest
    """The request that began the dialog, the peer's or ours."""

    auth: Auth | None
    """User name and password, or a function that gives them, for requests that are challenged."""

    is_on_hold: bool
    """Whether the peer, or :meth:`modify`, put the media on hold."""

    def __init__(
        self,
        state: Connection,
        dialog_id: str,
        type: Role,
        req: Request | OutgoingRequest,
        sent: bytes,
    ) -> None:
        self._state = state
        self.id = dialog_id
        self.type = type
        self.req = req
        # What we sent to make it: the response of a call that came, the request of one of ours.
        self._sent = sent
        self.is_on_hold = False
        self.auth = None
        # Whether the ACK that makes it certain for the peer came; of calls of ours it is our own.
        self._acked = False
        # Whether a 200 to an INVITE of ours waits for the application to acknowledge it.
        self._owes_ack = False
        self._since = state.link.session.heard  # what makes it was read just now
        self._stage = _UP
        # In ENDED.
        self._end: DialogEnd | None = None
        self._end_request: Request | None = None
        self._handlers: dict[str, tuple[Callable[..., Any], ...]] | None = None
        self._on_destroy: tuple[Callable[[Request | None], Any], ...] = ()
        # Made when they are needed first.
        self._ending: Ending | None = None
        self._session: Session | None = None
        self._reinvites: OpenInvites | None = None
        self._traffic: Traffic | None = None
        self._subscriptions: Subscriptions | None = None
        # The dialog at the other side of a bridged call.
        self._other: Dialog | None = None

    def __repr__(self) -> str:
        end = "" if self._end is None else f", over: {self._end.value}"
        return f"<Dialog {self.type} {self.id}{end}>"

    # Facts

    @property
    def res(self) -> Response | ReceivedResponse:
        """The response that established the dialog, ours or the peer's."""
        res = self.req.res
        assert res is not None, "there is no dialog without one"
        return res

    @property
    def dialog_type(self) -> str:
        """``INVITE`` or ``SUBSCRIBE``."""
        return self.req.method

    @property
    def subscribe_event(self) -> str | None:
        """The event that a subscription is about; None for calls."""
        return self.req.get("Event") if self.dialog_type == "SUBSCRIBE" else None

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """The events that are subscribed to in this dialog, ``presence`` or ``presence;id=2``.

        Servers forget the dialog with the first that is terminated, so that the
        others end with it.
        """
        if self._end is not None or self.dialog_type != "SUBSCRIBE":
            return ()
        return self._subscribed().keys

    @property
    def other(self) -> Dialog | None:
        """The other dialog of a bridged call, as long as this one lasts."""
        return self._other

    @property
    def is_caller(self) -> bool:
        """Whether the application called, or subscribed."""
        return self.type == "uac"

    @property
    def call_id(self) -> str:
        """The Call-ID."""
        return self.req.get("Call-ID") or ""

    @property
    def local(self) -> Party:
        """Our side: ``uri``, ``tag``, ``sdp``, ``contact``."""
        return Party(self, True)

    @property
    def remote(self) -> Party:
        """The peer's side: ``uri``, ``tag``, ``sdp``, ``contact``."""
        return Party(self, False)

    @property
    def link(self) -> DrachtioProtocol:
        """The connection that the dialog lives on."""
        return self._state.link

    @property
    def server(self) -> Server:
        """The server that the dialog lives on."""
        return self._state.server

    @property
    def srf(self) -> Srf:
        """The application that the dialog belongs to."""
        srf: Srf = self._state.owner.srf
        return srf

    @property
    def ended(self) -> DialogEnded | None:
        """How the dialog ended; None while it did not."""
        if self._end is None:
            return None
        text = self._ending.text if self._ending is not None else ""
        bye = self._end_request
        return DialogEnded(self._end, bye, text or words_for(self._end, bye))

    @property
    def connected(self) -> bool:
        """Whether the dialog is up: it did not end, and is not being ended."""
        return self._stage is _UP

    # Sending

    def _ends(self) -> Ends:
        """Return the From and To of our requests."""
        if self.type == "uac":
            return self.req.get("From") or "", self.res.get("To") or ""
        sent = self._local_response()
        return sent.get("To") or "", sent.get("From") or ""

    def _send_ack(self, headers: HeadersLike = None, body: bytes | str = b"") -> None:
        """Acknowledge the 200 to our last INVITE."""
        invite = None if self._session is None else self._session.invited
        if invite is None:
            invite = self.req.raw if self.type == "uac" else b""
        send_ack(self._state, self.id, headers, body, ends=self._ends, invite=invite)

    def _new_request(self, method: str, is_last: bool = False) -> DialogRequest:
        request = DialogRequest(self._state, self.id, method, is_last, ends=self._ends)
        if method in WITH_CONTACT:
            request.contact = self.local.contact
        if self.auth is not None:
            traffic = self._need_traffic()
            if traffic.realms is None or traffic.realms.auth != self.auth:
                traffic.realms = Realms(self.auth)
            request.challenged = Challenged(traffic.realms)
        return request

    def _send(
        self, request: DialogRequest, headers: HeadersLike, body: bytes | str
    ) -> DialogRequest:
        request.send(headers, body)
        requests = self._need_traffic().requests
        requests.add(request)
        over = request.over

        def forget(result: ReceivedResponse | Exception) -> None:
            requests.discard(request)
            if over is not None:
                over(result)

        request.over = forget
        return request

    def _is_unacked(self) -> bool:
        return self.type == "uas" and not self._acked and self.dialog_type == "INVITE"

    def _answer_to(self, offer: bytes) -> bytes:
        """Answer an offer that came in a 200 with what we described last."""
        if not offer:
            return b""
        session = self._session
        own = self.local.sdp if session is None or session.own is None else session.own
        return bytes(answer_with(Sdp(own), Sdp(offer)) if own else refuse(Sdp(offer)))

    def _last_offer(self) -> bytes:
        """Return what the peer offered in a 200 whose ACK we owe; empty when it answered."""
        session = self._session
        if session is not None and session.offered is not None:
            return session.offered
        return b"" if self.req.body else description_of(self.res)

    def _need_handlers(self) -> dict[str, tuple[Callable[..., Any], ...]]:
        if self._handlers is None:
            self._handlers = {}
        return self._handlers

    def _need_ending(self) -> Ending:
        if self._ending is None:
            self._ending = Ending()
        return self._ending

    def _need_session(self) -> Session:
        if self._session is None:
            self._session = Session()
        return self._session

    def _need_traffic(self) -> Traffic:
        if self._traffic is None:
            self._traffic = Traffic()
        return self._traffic

    def _subscribed(self) -> Subscriptions:
        if self._subscriptions is None:
            self._subscriptions = Subscriptions(self.req.get("Event"))
        return self._subscriptions

    def _message(self, is_local: bool) -> sip.Message:
        """Return the message that tells about a side: the peer's request, or our response."""
        if self.type == "uac":
            return self.req if is_local else self.res
        if is_local:
            return sip.Response.from_bytes(self._sent)
        return self.req

    def _local_response(self) -> sip.Response:
        """Return the response of ours that established the dialog."""
        return sip.Response.from_bytes(self._sent)

    @property
    def _is_plain(self) -> bool:
        """Whether nobody wants to know of an ACK, and it can change nothing."""
        return (
            self._handlers is None
            and self._ending is None
            and self._session is None
            and self._reinvites is None
        )

    def _enter(self, stage: State) -> None:
        assert stage in TRANSITIONS[self._stage], f"{self._stage} does not become {stage}"
        self._stage = stage
