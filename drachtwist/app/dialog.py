"""A dialog: a call, or a subscription, that is established.

What comes in is answered here unless the application has a handler for it, in the way that
drachtio applications are used to:

=====================================  ============================================================
BYE                                    200; the dialog is over
ACK                                    kept, with the answer it may carry
re-INVITE, UPDATE                      200 with our last session description, directions turned
                                       round, and what holds of the session timer; 488 when there
                                       is no common codec; 491 while a re-INVITE of ours is open,
                                       500 while one of the peer's is (RFC 3261 section 14.2)
INFO, MESSAGE, NOTIFY, OPTIONS,        200
PRACK, PUBLISH, REFER
SUBSCRIBE                              202 when it ends the subscription, 200 when it keeps it
                                       alive, 489 for another event
anything else                          501
BYE of the server itself               nothing, it must not be answered; the dialog is over
=====================================  ============================================================

A handler may be added at any time after the dialog was handed out; the end of the dialog and the
ACK are facts that it still learns when it comes late.
"""

from __future__ import annotations

import random
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Protocol

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app import sessiontimers, states
from drachtwist.app.challenges import Auth, Challenged, Realms
from drachtwist.app.connection import Connection, Server
from drachtwist.app.dialogs import Ends, Role
from drachtwist.app.handlers import AnyHandler, settle
from drachtwist.app.news import News
from drachtwist.app.outgoing import DialogRequest, encode_in_dialog, send_ack
from drachtwist.app.passing import reasons_of
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import AnswerState, Request, make_request
from drachtwist.app.response import Response, answer_ok
from drachtwist.app.sessiontimers import SessionTimer
from drachtwist.app.targets import check_request
from drachtwist.errors import (
    CommandRefused,
    ConnectionLost,
    LocalProtocolError,
    MessageError,
    SipError,
)
from drachtwist.sip.fields import is_terminated
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.sdp import Sdp, answer_with, description_of, refuse

if TYPE_CHECKING:
    from drachtwist.app.srf import Srf
    from drachtwist.app.uac import OutgoingRequest
    from drachtwist.net.protocol import DrachtioProtocol

__all__ = ["Dialog", "DialogEnd", "DialogEnded", "Party"]

_log = Logger(namespace="drachtwist.app.dialog")

_ANSWERED_OK = frozenset({"INFO", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER"})
_CSEQ = re.compile(rb"\nCSeq[ \t]*:[ \t]*([0-9]{1,10})[ \t]", re.IGNORECASE).search
_MAX_GLARES = 5
_UNREACHABLE = "unable to find"
"""Part of the refusals (of a route, of the dialog) after which nobody can end a dialog."""
_CONFIRMATION = 32.0
"""Seconds after which an INVITE that is not confirmed holds up no other one (64 times T1)."""


class DialogEnd(Enum):
    """How a dialog came to its end."""

    REMOTE = "the peer ended it"
    LOCAL = "the application ended it"
    SERVER = "the server ended it"
    LINK_LOST = "the connection to the server was lost"


@dataclass(frozen=True, slots=True)
class DialogEnded:
    """The end of a dialog."""

    reason: DialogEnd
    request: Request | None
    """The BYE or NOTIFY that ended it, if one came in."""
    text: str
    """What is known about the cause: the text of the Reason header of who ended it, or the failure
    of the connection; otherwise who ended it."""


class _Referral(Protocol):
    """A REFER of ours whose outcome is not known yet."""

    def notified(self, req: Request) -> bool: ...

    def dialog_over(self, end: DialogEnd) -> None: ...


class _More:
    """What only few dialogs need."""

    __slots__ = (
        "ack_waiting",
        "back_off",
        "confirming",
        "confirming_waiting",
        "destroying",
        "end_text",
        "end_waiting",
        "ending",
        "handlers",
        "incoming_invite",
        "invite",
        "invited",
        "local_sdp",
        "modifications",
        "news",
        "offered",
        "other",
        "own_sdp",
        "queue",
        "realms",
        "referrals",
        "refers",
        "remote_sdp",
        "requests",
        "subscriptions",
        "timer",
        "turn",
        "unheld",
    )

    def __init__(self) -> None:
        # By method, or by name of the event ("hold", ...), which is in lower case.
        self.handlers: dict[str, tuple[Callable[..., Any], ...]] = {}
        self.ack_waiting: list[Deferred[Request | None]] = []
        self.end_waiting: list[Deferred[DialogEnded]] = []
        # Told once, with the Reason, when the dialog ends or begins to be ended.
        self.ending: list[Callable[[HeadersLike], None]] = []
        self.destroying: list[Deferred[ReceivedResponse | None]] = []
        self.end_text = ""
        self.local_sdp: bytes | None = None
        self.remote_sdp: bytes | None = None
        # What the application described last; what was sent may differ in direction.
        self.own_sdp: bytes | None = None
        self.modifications: deque[_Modification] = deque()
        # The offer in the 200 to a re-INVITE of ours whose ACK is due; None for the first INVITE.
        self.offered: bytes | None = None
        self.invite: DialogRequest | None = None
        # Our last re-INVITE as it was sent.
        self.invited: bytes | None = None
        self.back_off: IDelayedCall | None = None
        self.incoming_invite: Request | None = None
        # The peer's re-INVITE that was accepted, and whose ACK has not come; who waits for it.
        self.confirming: Request | None = None
        self.confirming_waiting: list[Deferred[Request]] = []
        # What we described before modify("hold").
        self.unheld: bytes | None = None
        # When a re-INVITE of ours waits no longer for the INVITE before it.
        self.turn: IDelayedCall | None = None
        # The session timer; False until somebody looks.
        self.timer: SessionTimer | Literal[False] | None = False
        self.requests: set[DialogRequest] = set()
        self.news: News | None = None
        self.queue: list[Request] | None = None
        # What was answered to challenges, from the INVITE on.
        self.realms: Realms | None = None
        # REFERs: ours that are under way, and how many came.
        self.referrals: list[_Referral] = []
        self.refers = 0
        # The dialog at the other side of a bridged call.
        self.other: Dialog | None = None
        # What is subscribed to, by package and id; None until somebody looks.
        self.subscriptions: list[str] | None = None

    def due(self) -> Request | None:
        """Give the re-INVITE of the peer that is not confirmed; None when there is none."""
        pending = self.incoming_invite
        return pending if pending is not None and pending.is_open else self.confirming


class Party:
    """One side of a dialog."""

    __slots__ = ("_dialog", "_is_local")

    def __init__(self, dialog: Dialog, is_local: bool) -> None:
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
        more = self._dialog._more
        if more is not None:
            sdp = more.local_sdp if self._is_local else more.remote_sdp
            if sdp is not None:
                return sdp
        return description_of(self._message())


class Dialog:
    """An established dialog.

    Applications get dialogs from ``create_uas`` and its relatives, and do not make them.
    """

    __slots__ = (
        "_acked",
        "_end",
        "_end_request",
        "_more",
        "_on_destroy",
        "_owes_ack",
        "_sent",
        "_state",
        "auth",
        "connected",
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

    connected: bool
    """Whether the dialog is up: it did not end, and is not being ended."""

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
        self._sent = sent
        self.connected = True
        self.is_on_hold = False
        self._acked = False
        self._owes_ack = False
        self.auth = None
        self._end: DialogEnd | None = None
        self._end_request: Request | None = None
        self._on_destroy: tuple[Callable[[Request | None], Any], ...] = ()
        self._more: _More | None = None

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
        return tuple(self._subscribed())

    @property
    def other(self) -> Dialog | None:
        """The other dialog of a bridged call, as long as this one lasts."""
        return None if self._more is None else self._more.other

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
        text = self._more.end_text if self._more is not None else ""
        return DialogEnded(self._end, self._end_request, text or self._end_words())

    def _end_words(self) -> str:
        """Say why it ended: in the words of whoever ended it, or else who that was."""
        assert self._end is not None
        bye = self._end_request
        if bye is not None and bye.has("Reason"):
            try:
                reasons: list[sip.Reason] = bye.get_parsed_header("Reason")
            except MessageError:
                reasons = []
            for reason in reasons:
                if reason.text:
                    return reason.text
        return self._end.value

    # Events

    def on_destroy(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler when the dialog ends, unless :meth:`destroy` ended it.

        It gets the BYE or NOTIFY that ended it, None when the connection was lost; :attr:`ended`
        tells more. It is called at once when the dialog is over already.
        """
        if self._end is None:
            self._on_destroy += (handler,)
        elif self._end is not DialogEnd.LOCAL:
            self.req._call(handler, self._end_request)
        return handler

    def when_ended(self) -> Deferred[DialogEnded]:
        """Wait for the dialog to end, whoever ends it.

        :returns: how it ended; it never fails.
        """
        ended = self.ended
        if ended is not None:
            return succeed(ended)
        more = self._extended()
        waiting: Deferred[DialogEnded] = Deferred(lambda it: _remove(more.end_waiting, it))
        more.end_waiting.append(waiting)
        return waiting

    def on_ack(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler with each ACK; with None, at once, when the first came already.

        While a re-INVITE of the peer is being answered, the ACK of that answer is waited for.
        """
        due = None if self._more is None else self._more.due()
        if due is not None:
            number = _number_of(due)

            def told(ack: Request) -> Any:
                return handler(ack) if _number_of(ack) >= number else None

            self._add("ACK", told)
            return handler
        if self._acked:
            self.req._call(handler, None)
        return self._add("ACK", handler)

    def when_acked(self) -> Deferred[Request | None]:
        """Wait for the ACK of the 200 that established the call.

        :returns: the ACK, or None when it came before anybody asked. Fails with :exc:`SipError`
            when the dialog ends first, with :exc:`ConnectionLost` when the connection does.
        """
        if self._acked:
            return succeed(None)
        if self._end is not None:
            return fail(self._why_over())
        more = self._extended()
        waiting: Deferred[Request | None] = Deferred(lambda it: _remove(more.ack_waiting, it))
        more.ack_waiting.append(waiting)
        return waiting

    def on_request(self, method: str, handler: Any = None) -> Any:
        """Call a handler, with (req, res), for each request of a method; it has to answer.

        Without a handler it decorates one: ``@dialog.on_request("FOO")``.

        The handlers of INVITE (:meth:`on_modify`) and UPDATE see what changes the session; they
        are not asked when :meth:`on_hold`, :meth:`on_unhold` or :meth:`on_refresh` fits better.
        """
        if handler is None:
            return lambda handler: self._add(method.upper(), handler)
        return self._add(method.upper(), handler)

    def on_info(self, handler: AnyHandler) -> AnyHandler:
        """Handle INFO requests: ``handler(req, res)``."""
        return self._add("INFO", handler)

    def on_message(self, handler: AnyHandler) -> AnyHandler:
        """Handle MESSAGE requests: ``handler(req, res)``."""
        return self._add("MESSAGE", handler)

    def on_notify(self, handler: AnyHandler) -> AnyHandler:
        """Handle NOTIFY requests: ``handler(req, res)``."""
        return self._add("NOTIFY", handler)

    def on_options(self, handler: AnyHandler) -> AnyHandler:
        """Handle OPTIONS requests: ``handler(req, res)``."""
        return self._add("OPTIONS", handler)

    def on_prack(self, handler: AnyHandler) -> AnyHandler:
        """Handle PRACK requests: ``handler(req, res)``."""
        return self._add("PRACK", handler)

    def on_publish(self, handler: AnyHandler) -> AnyHandler:
        """Handle PUBLISH requests: ``handler(req, res)``."""
        return self._add("PUBLISH", handler)

    def on_refer(self, handler: AnyHandler) -> AnyHandler:
        """Handle REFER requests: ``handler(req, res)``."""
        return self._add("REFER", handler)

    def on_subscribe(self, handler: AnyHandler) -> AnyHandler:
        """Handle SUBSCRIBE requests that keep a subscription alive: ``handler(req, res)``."""
        return self._add("SUBSCRIBE", handler)

    def on_unsubscribe(self, handler: AnyHandler) -> AnyHandler:
        """Learn that the peer ends a subscription, which is accepted already: ``handler(req)``.

        A last NOTIFY is due (:meth:`destroy` sends it).
        """
        return self._add("unsubscribe", handler)

    def on_update(self, handler: AnyHandler) -> AnyHandler:
        """Handle UPDATE requests: ``handler(req, res)``."""
        return self._add("UPDATE", handler)

    def on_modify(self, handler: AnyHandler) -> AnyHandler:
        """Handle re-INVITEs: ``handler(req, res)``."""
        return self._add("INVITE", handler)

    def on_refresh(self, handler: AnyHandler) -> AnyHandler:
        """Learn of re-INVITEs that change nothing, which are accepted already: ``handler(req)``."""
        return self._add("refresh", handler)

    def on_hold(self, handler: AnyHandler) -> AnyHandler:
        """Learn that the peer wants no media, which is accepted already: ``handler(req)``."""
        return self._add("hold", handler)

    def on_unhold(self, handler: AnyHandler) -> AnyHandler:
        """Learn that the peer wants media again, which is accepted already: ``handler(req)``."""
        return self._add("unhold", handler)

    # What the application does

    def ack(self, sdp: bytes | str = b"", *, headers: HeadersLike = None) -> None:
        """Send the ACK that ``create_uac`` or :meth:`invite` left to the application.

        That is so when the INVITE of ``create_uac`` went out without a session description, so that
        the 200 has the offer and the ACK the answer, and when it was asked to (``no_ack``).

        :param sdp: the answer to the offer.
        :raises LocalProtocolError: when there is nothing to acknowledge, or it was done.
        """
        if not self._owes_ack:
            raise LocalProtocolError("there is no 200 that waits for its ACK")
        self._owes_ack = False
        given = sip.Headers(headers)
        if sdp:
            if not given.has("Content-Type"):
                given.set("Content-Type", "application/sdp")
            body = sdp if isinstance(sdp, bytes) else sdp.encode("utf-8", "surrogateescape")
            more = self._extended()
            more.local_sdp = more.own_sdp = body
        self._send_ack(given.items(), sdp)
        self._turn_came()

    def destroy(
        self, headers: HeadersLike = None, *, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse | None]:
        """End the dialog: with a BYE, a subscription with a last NOTIFY (or SUBSCRIBE).

        The dialog is over with the response, whichever it is, unless the peer wants credentials for
        the BYE (401, 407). A call that was not acknowledged yet gets its BYE behind the ACK; an ACK
        that is left to the application (:meth:`ack`) is sent first, and refuses what was offered.

        :param headers: further headers of that request.
        :returns: the response; None when the dialog was over, or being ended, before. Fails with
            :exc:`ConnectionLost`, or with :exc:`CommandRefused` when the server refuses the
            request, after which the dialog is still up, unless the server cannot reach the peer.
        :raises LocalProtocolError: for what cannot be sent as one well-formed message.
        """
        if self._end is not None:
            return succeed(None)
        if not self.connected:
            more = self._extended()
            over: Deferred[ReceivedResponse | None] = Deferred(
                lambda it: _remove(more.destroying, it)
            )
            more.destroying.append(over)
            return over
        method, extra = "BYE", headers
        if self.dialog_type == "SUBSCRIBE":
            given = sip.Headers(headers)
            if not given.has("Event") and self.subscribe_event is not None:
                given.add("Event", self.subscribe_event)
            if self.type == "uas":
                method = "NOTIFY"
                if not given.has("Subscription-State"):
                    given.add("Subscription-State", "terminated")
            else:
                method = "SUBSCRIBE"
                given.set("Expires", "0")
            extra = given.items()
        return self._send_last(method, extra, body, True)

    def request(
        self,
        method: str,
        *,
        headers: HeadersLike = None,
        body: bytes | str = b"",
        no_ack: bool = False,
    ) -> Deferred[ReceivedResponse]:
        """Send a request in the dialog.

        A BYE ends the dialog, as :meth:`destroy` does; an INVITE waits for its turn, and its 200
        is acknowledged. To one without a session description the 200 has the offer, which is
        answered in the ACK with our last description.

        :param no_ack: leave the ACK of an INVITE's 200 to :meth:`ack`.
        :returns: the final response; a refusal is a result too. Fails with :exc:`SipError` 481 when
            the dialog is over, with :exc:`CommandRefused` when the server does not send the
            request, with :exc:`ConnectionLost`.
        :raises LocalProtocolError: for what cannot be sent as one well-formed message.
        """
        method = method.upper()
        if method in ("ACK", "CANCEL"):
            raise LocalProtocolError(f"{method} gets no response: it is no request for itself")
        if not self.connected:
            return fail(self._why_over())
        if method == "INVITE":
            return self._modify(_Modification(body, headers, no_ack))
        if method == "BYE":
            return self._send_last(method, headers, body, False)
        if method == "REGISTER":
            headers = sip.Headers(headers).items()
            check_request(self._state, method, "sip:", headers)
        request = self._new_request(method)
        if method == "UPDATE":
            headers = sessiontimers.complete_request(self, headers)
            request.over = self._updated
        if method == "NOTIFY" and self.dialog_type == "SUBSCRIBE":
            given = sip.Headers(headers)
            contact = self.local.contact
            if contact and not given.has("Contact"):
                given.add("Contact", contact)  # RFC 6665 section 4.1.3; servers add none
            headers = given.items()
            if is_terminated(given.get("Subscription-State")):
                request.over = self._destroyed
        return self._send(request, headers, body).deferred

    def info(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send an INFO; see :meth:`request`."""
        return self.request("INFO", headers=headers, body=body)

    def invite(
        self, *, headers: HeadersLike = None, body: bytes | str = b"", no_ack: bool = False
    ) -> Deferred[ReceivedResponse]:
        """Send a re-INVITE and acknowledge its 200; see :meth:`request` and :meth:`modify`."""
        return self.request("INVITE", headers=headers, body=body, no_ack=no_ack)

    def message(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a MESSAGE; see :meth:`request`."""
        return self.request("MESSAGE", headers=headers, body=body)

    def notify(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a NOTIFY; see :meth:`request`."""
        return self.request("NOTIFY", headers=headers, body=body)

    def options(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send an OPTIONS; see :meth:`request`."""
        return self.request("OPTIONS", headers=headers, body=body)

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

    def update(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send an UPDATE; see :meth:`request`."""
        return self.request("UPDATE", headers=headers, body=body)

    def bye(
        self, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a BYE; :meth:`destroy` does the same, and more kindly."""
        return self.request("BYE", headers=headers, body=body)

    def modify(self, sdp: bytes | str, *, headers: HeadersLike = None) -> Deferred[bytes]:
        """Change the session with a re-INVITE, and acknowledge its 200.

        Only one re-INVITE is on its way at a time; others wait, also for an INVITE of the peer, or
        that which began the call, to be acknowledged, for 32 s at most. When the peer answers 491,
        because it sent one at the same time, it is repeated after the time that RFC 3261 section
        14.1 names. A refusal changes nothing: the dialog goes on as it was.

        :param sdp: a session description, or ``hold`` or ``unhold``: our last one, all media
            inactive, and back.
        :param headers: further headers.
        :returns: the peer's session description. Fails with :exc:`SipError` when the peer refuses
            or the dialog is over, with :exc:`LocalProtocolError` for ``unhold`` of a session that
            is not on hold, with :exc:`CommandRefused` and :exc:`ConnectionLost`.
        :raises LocalProtocolError: for headers that cannot be sent.
        """
        if not self.connected:
            return fail(self._why_over())
        modification = _Modification(sdp, headers)
        answered: Deferred[bytes] = Deferred(lambda _: modification.deferred.cancel())

        def judge(response: ReceivedResponse) -> None:
            if response.status < 300:
                answered.callback(response.body)
            else:
                answered.errback(SipError(response.status, response.reason, response))

        def failed(failure: Failure) -> None:
            if not answered.called:
                answered.errback(failure)

        self._modify(modification).addCallback(judge).addErrback(failed)
        return answered

    # Inside: sending

    def _extended(self) -> _More:
        if self._more is None:
            self._more = _More()
        return self._more

    def _add(self, event: str, handler: AnyHandler) -> AnyHandler:
        handlers = self._extended().handlers
        handlers[event] = (*handlers.get(event, ()), handler)
        return handler

    def _handlers(self, event: str) -> tuple[Callable[..., Any], ...]:
        return () if self._more is None else self._more.handlers.get(event, ())

    def _ends(self) -> Ends:
        """Give the From and To of our requests."""
        if self.type == "uac":
            return self.req.get("From") or "", self.res.get("To") or ""
        sent = self._local_response()
        return sent.get("To") or "", sent.get("From") or ""

    def _send_ack(self, headers: HeadersLike = None, body: bytes | str = b"") -> None:
        """Acknowledge the 200 to our last INVITE."""
        invite = None if self._more is None else self._more.invited
        if invite is None:
            invite = self.req.raw if self.type == "uac" else b""
        send_ack(self._state, self.id, headers, body, ends=self._ends, invite=invite)

    def _new_request(self, method: str, is_last: bool = False) -> DialogRequest:
        request = DialogRequest(self._state, self.id, method, is_last, ends=self._ends)
        if self.auth is not None:
            more = self._extended()
            if more.realms is None or more.realms.auth != self.auth:
                more.realms = Realms(self.auth)
            request.challenged = Challenged(more.realms)
        return request

    def _send_last(
        self, method: str, headers: HeadersLike, body: bytes | str, or_none: bool
    ) -> Deferred[Any]:
        """Send the request that ends the dialog."""
        request = self._new_request(method, or_none)
        request.over = self._destroyed
        if method == "BYE" and self._owes_ack:
            # The peer must not be left without it (RFC 3261 section 13.2.2.4).
            encode_in_dialog(method, headers, body)
            offer = self._last_offer()
            self.ack(bytes(refuse(Sdp(offer))) if offer else b"")
        if method == "BYE" and self._must_wait():
            encode_in_dialog(method, headers, body)  # what cannot be sent is refused now
            self._may_end().addCallbacks(
                lambda _: request.send(headers, body), lambda failure: request.skip(failure.value)
            )
        else:
            request.send(headers, body)
        self.connected = False
        self._tell_ending(_reasons(headers))
        return request.deferred

    def _must_wait(self) -> bool:
        """Whether something has to come before a BYE may be sent.

        That is the ACK (RFC 3261 section 15): the peer may not know of the dialog yet; it would
        refuse the BYE, and hear the 200 later. And the answers to what it is told of a transfer.
        """
        if self._state.owner.is_closing:
            return False
        return self._is_unacked() or (
            self._more is not None and self._more.news is not None and not self._more.news.told
        )

    def _is_unacked(self) -> bool:
        return self.type == "uas" and not self._acked and self.dialog_type == "INVITE"

    def _may_end(self) -> Deferred[None]:
        """Wait for what has to come before a BYE."""
        more = self._extended()
        if self._is_unacked():
            acked: Deferred[Request | None] = Deferred()
            more.ack_waiting.append(acked)
            return acked.addCallback(lambda _: self._may_end())
        return succeed(None) if more.news is None else more.news.when_told()

    def _tell_peer(self, headers: HeadersLike, body: str) -> None:
        """Send a NOTIFY when the peer has answered those before it; see :meth:`News.tell`."""
        more = self._extended()
        if more.news is None:
            more.news = News(self)
        more.news.tell(headers, body)

    def _send(
        self, request: DialogRequest, headers: HeadersLike, body: bytes | str
    ) -> DialogRequest:
        request.send(headers, body)
        requests = self._extended().requests
        requests.add(request)
        over = request.over

        def forget(result: ReceivedResponse | Exception) -> None:
            requests.discard(request)
            if over is not None:
                over(result)

        request.over = forget
        return request

    def _destroyed(self, result: ReceivedResponse | Exception) -> None:
        """The request that was to end the dialog is over."""
        if (isinstance(result, CommandRefused) and _UNREACHABLE not in result.text) or (
            # The server keeps the dialog, so that the BYE can be repeated with credentials.
            isinstance(result, ReceivedResponse)
            and result.status in (401, 407)
            and self.dialog_type == "INVITE"
        ):
            self.connected = self._end is None
            self._tell_destroyers()
        elif not isinstance(result, ConnectionLost):
            self._over(DialogEnd.LOCAL)

    def _tell_destroyers(self) -> None:
        """Tell those who wanted to end the dialog while it was being ended."""
        if self._more is not None and self._more.destroying:
            waiting, self._more.destroying = self._more.destroying, []
            for waiter in waiting:
                waiter.callback(None)

    def _why_over(self) -> Exception:
        """Make the failure of what came too late."""
        if self._end is DialogEnd.LINK_LOST:
            return ConnectionLost("the connection that the dialog lived on is gone")
        return SipError(481, "Call/Transaction Does Not Exist")

    def _modify(self, modification: _Modification) -> Deferred[ReceivedResponse]:
        more = self._extended()
        more.modifications.append(modification)
        if len(more.modifications) == 1:
            self._reinvite()
        return modification.deferred

    def _reinvite(self, forced: bool = False) -> None:
        """Send the re-INVITE whose turn it is.

        :param forced: also while another INVITE is not confirmed.
        """
        more = self._extended()
        more.back_off = None
        modifications = more.modifications
        while modifications and modifications[0].deferred.called:
            modifications.popleft()  # cancelled while it waited
        if not modifications or more.turn is not None:
            return
        if not forced and self._is_inviting():
            more.turn = self._state.clock.callLater(_CONFIRMATION, self._turn_due)
            return
        modification = modifications[0]
        try:
            sdp = modification.prepare(self)
            headers = sip.Headers(modification.headers)
            contact = self.local.contact
            if contact and not headers.has("Contact"):
                headers.add("Contact", contact)
            request = self._new_request("INVITE")
            request.over = lambda result: self._reinvited(modification, sdp, result)
            self._send(request, sessiontimers.complete_request(self, headers.items()), sdp)
            more.invite = request
        except LocalProtocolError as error:
            self._finish_modification(modification, error)

    def _is_inviting(self) -> bool:
        """Whether an INVITE of either side is not confirmed yet (RFC 3261 section 14.1)."""
        return (
            self._owes_ack
            or self._is_unacked()
            or (self._more is not None and self._more.due() is not None)
        )

    def _is_asked(self) -> bool:
        """Whether a re-INVITE of the peer is not answered."""
        more = self._more
        return (
            more is not None and more.incoming_invite is not None and more.incoming_invite.is_open
        )

    def _turn_came(self) -> None:
        """Send a re-INVITE that waits, if nothing is in its way any more."""
        more = self._more
        if more is not None and more.turn is not None and not self._is_inviting():
            more.turn.cancel()
            more.turn = None
            if self.connected:
                self._reinvite()

    def _turn_due(self) -> None:
        """Take it that what is in the way of a re-INVITE is never confirmed."""
        more = self._extended()
        more.turn = more.confirming = None
        if self.connected:
            self._reinvite(forced=not self._owes_ack)

    def _reinvited(
        self, modification: _Modification, sdp: bytes, result: ReceivedResponse | Exception
    ) -> None:
        """The final response to our re-INVITE came, or never will."""
        more = self._extended()
        if more.invite is not None:
            more.invited = more.invite.sent
        more.invite = None
        if isinstance(result, Exception) or self._end is not None:
            self._finish_modification(modification, result)
            return
        status = result.status
        if status == 408 and result.source == "application":
            # The server may have dropped a 200 behind a provisional response (see outgoing).
            self._send_ack()
        if status == 491 and modification.glares < _MAX_GLARES:
            modification.glares += 1
            more.back_off = self._state.clock.callLater(self._glare_delay(), self._reinvite)
            return
        if status < 300:
            sessiontimers.note_answer(self, result)
            described = description_of(result)
            if described:
                more.remote_sdp = described
            if sdp:
                modification.succeeded(self, sdp)
            self._owes_ack = True
            more.offered = b"" if sdp else described
            if not modification.no_ack:
                own = more.own_sdp
                self.ack(self._answer_to(more.offered))
                more.own_sdp = own if not sdp else more.own_sdp
        self._finish_modification(modification, result)

    def _updated(self, result: ReceivedResponse | Exception) -> None:
        """The final response to an UPDATE of ours came, or never will."""
        if not isinstance(result, Exception) and result.status < 300:
            sessiontimers.note_answer(self, result)

    def _answer_to(self, offer: bytes) -> bytes:
        """Answer an offer that came in a 200 with what we described last."""
        if not offer:
            return b""
        more = self._extended()
        own = self.local.sdp if more.own_sdp is None else more.own_sdp
        return bytes(answer_with(Sdp(own), Sdp(offer)) if own else refuse(Sdp(offer)))

    def _last_offer(self) -> bytes:
        """Give what the peer offered in the 200 whose ACK we owe; empty when it was the answer."""
        more = self._more
        if more is not None and more.offered is not None:
            return more.offered
        return b"" if self.req.body else description_of(self.res)

    @property
    def _timer(self) -> SessionTimer | None:
        """What was agreed on about the session timer; None for no timer."""
        more = self._extended()
        if more.timer is False:
            more.timer = sessiontimers.agreed_at_first(self)
        return more.timer

    @_timer.setter
    def _timer(self, timer: SessionTimer | None) -> None:
        self._extended().timer = timer

    def _glare_delay(self) -> float:
        """Choose the pause after a 491, in steps of 10 ms (RFC 3261 section 14.1)."""
        # Whoever made the Call-ID waits longer.
        low, high = (210, 400) if self.type == "uac" else (0, 200)
        return random.randint(low, high) / 100

    def _finish_modification(
        self, modification: _Modification, result: ReceivedResponse | Exception
    ) -> None:
        more = self._extended()
        if more.modifications and more.modifications[0] is modification:
            more.modifications.popleft()
        deferred = modification.deferred
        if not deferred.called:
            if isinstance(result, Exception):
                deferred.errback(result)
            else:
                deferred.callback(result)
        if (
            more.modifications
            and more.invite is None
            and more.back_off is None
            and self._end is None
            and not isinstance(result, ConnectionLost)
        ):
            self._reinvite()

    # Inside: what comes in

    def _message(self, is_local: bool) -> sip.Message:
        """Give the message that tells about a side: the peer's request, or our response."""
        if self.type == "uac":
            return self.req if is_local else self.res
        if is_local:
            return sip.Response.from_bytes(self._sent)
        return self.req

    def _delivered(self, state: Connection, tokens: Sequence[str], raw: bytes) -> None:
        """Take a request of the peer."""
        if raw.startswith(b"ACK "):
            if self._more is None and self._acked is False and raw.endswith(b"\r\n\r\n"):
                self._acked = True
            else:
                self._ack_came(make_request(state, tokens, raw))
            return
        req = make_request(state, tokens, raw)
        if tokens[2] == "application":
            req._not_to_be_answered()
            if req.method == "BYE":
                self._over(DialogEnd.SERVER, req, _reason_text(req))
            return
        state.link.uses += 1
        if self._more is not None and self._more.queue is not None and req.method != "BYE":
            self._more.queue.append(req)
            return
        self._handle(req)

    def _handle(self, req: Request) -> None:
        method = req.method
        if method == "BYE":
            answer_ok(req)
            self._over(DialogEnd.REMOTE, req)
        elif method in ("INVITE", "UPDATE"):
            self._session_request(req, method)
        elif method == "SUBSCRIBE":
            self._subscribe_came(req)
        elif method == "CANCEL":
            req._not_to_be_answered()  # the server has answered it
            self._state.release()
        elif method == "NOTIFY" and self._more is not None and self._refer_notified(req):
            answer_ok(req)
        else:
            handlers = self._handlers(method)
            if handlers:
                self._run(handlers, req)
            elif method in _ANSWERED_OK:
                answer_ok(req)
            else:
                req.res.send(501)
            if method == "NOTIFY" and self.dialog_type == "SUBSCRIBE" and req.subscription_is_over:
                self._over(DialogEnd.REMOTE, req)

    def _refer_notified(self, req: Request) -> bool:
        """Take a NOTIFY that tells what became of a REFER of ours."""
        more = self._extended()
        event = (req.get("Event") or "").partition(";")[0]
        if not more.referrals or event.strip().lower() != "refer":
            return False
        return any(referral.notified(req) for referral in tuple(more.referrals))

    def _run(self, handlers: Sequence[Callable[..., Any]], req: Request) -> None:
        """Run handlers that have to answer a request; when one fails, 500 is the answer."""
        res = req.res
        state = self._state
        for handler in handlers:

            def done(failure: Failure | None) -> None:
                if failure is not None:
                    state.owner.handler.failed(req, res, failure)

            try:
                result = handler(req, res)
            except Exception:
                done(Failure())
            else:
                if result is not None:
                    settle(result, done)

    def _tell(self, event: str, req: Request) -> None:
        for handler in self._handlers(event):
            req._call(handler, req)

    def _ack_came(self, ack: Request) -> None:
        """Note the ACK, and the answer in it if the offer was ours."""
        first = not self._acked
        self._acked = True
        ack._not_to_be_answered()
        more = self._extended()
        confirmed = more.confirming
        if confirmed is not None and _number_of(ack) != _number_of(confirmed):
            confirmed = None  # that of an INVITE before it, once more
        if (first or confirmed is not None) and ack.body:
            more.remote_sdp = description_of(ack)
        if first:
            waiting, more.ack_waiting = more.ack_waiting, []
            for waiter in waiting:
                waiter.callback(ack)
        if confirmed is not None:
            more.confirming = None
            confirming, more.confirming_waiting = more.confirming_waiting, []
            for each in confirming:
                each.callback(ack)
        self._tell("ACK", ack)
        self._turn_came()

    def _when_confirmed(self) -> Deferred[Request]:
        """Wait for the ACK of the peer's re-INVITE that was accepted last.

        :returns: the ACK. Fails as :meth:`when_acked` does.
        """
        if self._end is not None:
            return fail(self._why_over())
        more = self._extended()
        waiting: Deferred[Request] = Deferred(lambda it: _remove(more.confirming_waiting, it))
        more.confirming_waiting.append(waiting)
        return waiting

    def _subscribe_came(self, req: Request) -> None:
        """Keep a subscription alive, or end it."""
        if (req.get("Expires") or "").strip() == "0":
            req.res.send(202)
            self._tell("unsubscribe", req)
            return
        handlers = self._handlers("SUBSCRIBE")
        if handlers:
            event = req.get("Event")
            req._extended().on_final = lambda _, status, body: self._accepted_event(status, event)
            self._run(handlers, req)
        elif _event_key(req.get("Event")) in self._subscribed():
            req.res.send(200)
        else:
            req.res.send(489)

    def _subscribed(self) -> list[str]:
        more = self._extended()
        if more.subscriptions is None:
            more.subscriptions = [_event_key(self.req.get("Event"))]
        return more.subscriptions

    def _accepted_event(self, status: int, event: str | None) -> None:
        """The application answered a SUBSCRIBE in the dialog."""
        key = _event_key(event)
        if status < 300 and key not in self._subscribed():
            self._subscribed().append(key)

    def _session_request(self, req: Request, method: str) -> None:
        """Answer a re-INVITE or UPDATE."""
        more = self._extended()
        res = req.res
        if method == "INVITE":
            if more.invite is not None or more.turn is not None or self._owes_ack:
                res.send(491)
                return
            pending = more.incoming_invite
            if pending is not None and not pending.res.finished:
                res.send(500, headers={"Retry-After": str(random.randint(0, 10))})
                return
            more.incoming_invite = req
        req._extended().complete = lambda it, headers: sessiontimers.complete_answer(
            self, it, headers
        )
        handlers = self._handlers(method)
        offer = description_of(req)
        described = Sdp(offer)
        if method == "UPDATE" and offer:
            # One offer at a time (RFC 3311 section 5.2); real servers let them through.
            if more.invite is not None:
                res.send(491)
                return
            if self._is_asked() or self._owes_ack:
                res.send(500, headers={"Retry-After": str(random.randint(0, 10))})
                return
        held = self.is_on_hold
        event = ""
        if offer:
            was_held, held = held, described.is_hold
            if _repeats(described, self.remote.sdp):
                event = "refresh"
            elif held and not was_held:
                event = "hold"
            elif was_held and not held:
                event = "unhold"
        # What it says holds once it is accepted.
        req._extended().on_final = lambda it, status, body: self._session_answered(
            it, status, body, offer, held
        )
        if handlers and (method == "UPDATE" or not self._handlers(event)):
            self._run(handlers, req)
            return
        own = more.own_sdp
        if own is None:
            more.own_sdp = own = self.local.sdp
        headers = {}
        body = own if method == "INVITE" else b""
        if offer and own:
            ours = Sdp(own)
            made = answer_with(ours, described)
            if described.carries_media and ours.carries_media and not made.carries_media:
                res.send(488)  # the session stays as it is (RFC 3261 section 14.2)
                return
            body = bytes(made)
        if body:
            headers["Content-Type"] = "application/sdp"
        contact = self.local.contact
        if contact:
            headers["Contact"] = contact
        res.send(200, headers=headers, body=body)
        more.own_sdp = own  # what the application described, not what was made of it
        if event:
            self._tell(event, req)

    def _session_answered(
        self, req: Request, status: int, body: bytes | str | None, offer: bytes, held: bool
    ) -> None:
        """A re-INVITE or UPDATE got its final response."""
        more = self._extended()
        if status < 300:
            if req.method == "INVITE":
                more.confirming = req
            if offer:
                more.remote_sdp = offer
                self.is_on_hold = held
            if body:
                sdp = body if isinstance(body, bytes) else body.encode("utf-8", "surrogateescape")
                more.local_sdp = more.own_sdp = sdp
        else:
            self._turn_came()

    # Inside: for those who couple dialogs

    def _on_ending(self, handler: Callable[[HeadersLike], None]) -> None:
        """Call a handler, with the Reason headers, once the dialog ends or begins to be ended."""
        if self.connected:
            self._extended().ending.append(handler)
        else:
            handler(reasons_of(self._end_request))

    def _tell_ending(self, why: HeadersLike) -> None:
        more = self._more
        if more is not None and more.ending:
            handlers, more.ending = more.ending, []
            for handler in handlers:
                handler(why)

    def hold_requests(self) -> None:
        """Let requests of the peer wait, until :meth:`release_requests`; a BYE does not."""
        more = self._extended()
        if more.queue is None:
            more.queue = []

    def release_requests(self) -> None:
        """Handle the requests that wait, and wait no longer."""
        more = self._more
        if more is not None and more.queue is not None:
            queue, more.queue = more.queue, None
            for req in queue:
                self._handle(req)

    # Inside: the end

    def _over(self, end: DialogEnd, req: Request | None = None, text: str = "") -> None:
        """The dialog is over."""
        if self._end is not None:
            return
        self._end = end
        self._end_request = req
        self.connected = False
        state = self._state
        state.dialogs.remove(self)
        handlers, self._on_destroy = self._on_destroy, ()
        if text:
            self._extended().end_text = text
        if self._more is not None:
            self._give_up(self._more, end)
        if state.events.dialog_state.handlers and self.dialog_type == "INVITE":
            self._report_end(end)
        if self._more is not None and self._more.ending:
            self._tell_ending(reasons_of(req))
        if end is not DialogEnd.LOCAL:
            teller = self.req if req is None else req
            for handler in handlers:
                teller._call(handler, req)
        more = self._more
        if more is not None:
            more.handlers = {}
            more.other = None
            waiting, more.end_waiting = more.end_waiting, []
            ended = self.ended
            for waiter in waiting:
                waiter.callback(ended)  # type: ignore[arg-type]
            self._tell_destroyers()
        state.release()

    def _report_end(self, end: DialogEnd) -> None:
        """Tell those who watch the states of calls."""
        event = {DialogEnd.REMOTE: "remote-bye", DialogEnd.LOCAL: "local-bye"}.get(end, "error")
        direction = states.RECIPIENT if self.type == "uas" else states.INITIATOR
        request = self.req
        response = self.res if self.type == "uac" else self._local_response()
        states.report(
            self._state.events.dialog_state.emit,
            "terminated",
            request,
            direction,
            response,
            event=event,
        )

    def _local_response(self) -> sip.Response:
        """Give the response of ours that established the dialog."""
        return sip.Response.from_bytes(self._sent)

    def _give_up(self, more: _More, end: DialogEnd) -> None:
        """Nothing in the dialog gets an answer any more."""
        if more.back_off is not None and more.back_off.active():
            more.back_off.cancel()
        more.back_off = None
        if more.turn is not None:
            more.turn.cancel()
            more.turn = None
        more.confirming = more.incoming_invite = None
        for referral in tuple(more.referrals):
            referral.dialog_over(end)
        queue, more.queue = more.queue, None
        for req in queue or ():
            req._settle(AnswerState.DROPPED, 481)
            self._state.release()
        if more.invite is not None:
            more.invite.terminate()
        for request in list(more.requests):
            request.give_up_later()
        waiting: list[Deferred[Any]] = [*more.ack_waiting, *more.confirming_waiting]
        more.ack_waiting, more.confirming_waiting = [], []
        for waiter in waiting:
            waiter.errback(self._why_over())
        if more.news is not None:
            more.news.give_up(self._why_over())
        while more.modifications:
            self._finish_modification(more.modifications[0], self._why_over())

    def _is_settled(self) -> bool:
        """Whether a lost connection leaves nothing undecided in a call that is up."""
        more = self._more
        return (
            self.connected
            and self.dialog_type == "INVITE"
            and not self._is_inviting()
            and not self._is_asked()
            and (
                more is None
                or not (
                    more.modifications
                    or more.referrals
                    or more.queue is not None
                    or (more.news is not None and not more.news.told)
                )
            )
        )

    def _moved(self, state: Connection) -> None:
        """The dialog lives on another connection to its server from now on."""
        self._state = state
        state.dialogs.add(self)
        state.use()

    def _link_lost(self, reason: ConnectionLost) -> None:
        """The connection is gone, and the dialog with it as far as we can tell."""
        self._over(DialogEnd.LINK_LOST, None, str(reason))


class _Modification:
    """A re-INVITE of ours that was not sent, or not answered, yet."""

    __slots__ = ("deferred", "glares", "headers", "no_ack", "sdp")

    def __init__(self, sdp: bytes | str, headers: HeadersLike, no_ack: bool = False) -> None:
        self.sdp = sdp
        self.no_ack = no_ack
        self.headers = sip.Headers(headers).items()
        self.deferred: Deferred[ReceivedResponse] = Deferred()
        self.glares = 0

    def prepare(self, dialog: Dialog) -> bytes:
        """Make the offer.

        :raises LocalProtocolError: when there is nothing to be resumed.
        """
        sdp = self.sdp
        local = dialog.local.sdp
        if sdp == "hold":
            return _changed(local)
        if sdp == "unhold":
            if not dialog.is_on_hold:
                raise LocalProtocolError("the session is not on hold")
            return _changed(local, dialog._extended().unheld or b"")
        return sdp if isinstance(sdp, bytes) else sdp.encode("utf-8", "surrogateescape")

    def succeeded(self, dialog: Dialog, offered: bytes) -> None:
        """Note what was agreed on."""
        more = dialog._extended()
        if self.sdp == "hold" and more.unheld is None:
            more.unheld = dialog.local.sdp
        more.local_sdp = more.own_sdp = offered
        if self.sdp in ("hold", "unhold"):
            dialog.is_on_hold = self.sdp == "hold"
        if self.sdp != "hold":
            more.unheld = None


def _changed(sdp: bytes, unheld: bytes | None = None) -> bytes:
    """Offer other directions, and a version that is higher by one.

    :param unheld: what was described before the hold, whose directions come back; None to hold.
    """
    made = Sdp(sdp)
    made.set_direction("inactive" if unheld is None else "sendrecv")
    if unheld is not None:
        for stream, before in zip(made.media, Sdp(unheld).media, strict=False):
            if before.direction != "sendrecv":
                stream.direction = before.direction
    try:
        made.bump_version()
    except MessageError:
        pass  # there is none that could be read
    return bytes(made)


def _repeats(described: Sdp, before: bytes) -> bool:
    """Whether a description says by its origin that it is the one before."""
    origin = described.value("o")
    if origin is None or f"o={origin}".encode("utf-8", "surrogateescape") not in before:
        return False
    return described.is_refresh_of(Sdp(before))


def _number_of(message: sip.Request) -> int:
    """Give the number in the CSeq, 0 when it cannot be read."""
    found = _CSEQ(message.raw)
    if found is not None:
        return int(found[1])  # without the trouble to read all headers of an ACK
    try:
        return message.cseq.number
    except MessageError:
        return 0


def _event_key(event: str | None) -> str:
    """Name a subscription: its package, and the id if there is one (RFC 6665 section 4.4.1)."""
    package, *params = [part.strip() for part in (event or "").split(";")]
    ids = [param for param in params if param.lower().startswith("id=")]
    return ";".join([package, *ids[:1]])


def _reasons(headers: HeadersLike) -> HeadersLike:
    """Give the Reason headers of those that an application gave."""
    given = [("Reason", value) for value in sip.Headers(headers).get_all("Reason")]
    return given or None


def _remove(waiting: list[Any], deferred: Any) -> None:
    if deferred in waiting:
        waiting.remove(deferred)


def _reason_text(req: Request) -> str:
    reason = req.get("Reason") or ""
    _, found, rest = reason.partition('text="')
    return rest.partition('"')[0] if found else reason
