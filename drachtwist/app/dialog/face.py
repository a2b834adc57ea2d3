"""The face of a dialog: what applications see of it, and where its parts meet.

Most dialogs are calls that come, are answered, and end; they are this object alone. What only some
need is made when it is needed first: descriptions of a session that changes, re-INVITEs, those who
wait for the end, what is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app import session_timers
from drachtwist.app.authentication import Auth, Challenged, Realms
from drachtwist.app.bridged_headers import reasons_of
from drachtwist.app.connection import Connection, Server
from drachtwist.app.dialog import ending, incoming
from drachtwist.app.dialog.ending import TRANSITIONS, DialogEnd, DialogEnded, Ending, State
from drachtwist.app.dialog.listener import Listener
from drachtwist.app.dialog.party import Party
from drachtwist.app.dialog.reinvites import Modification, Reinvites, number_of
from drachtwist.app.dialog.requests import EstablishedRequester, Traffic
from drachtwist.app.dialog.session import Session
from drachtwist.app.dialog.subscriptions import Subscriptions
from drachtwist.app.dialog_table import Ends, Role
from drachtwist.app.handlers import AnyHandler
from drachtwist.app.notify_queue import NotifyQueue
from drachtwist.app.outcomes import already_failed
from drachtwist.app.outgoing import DialogRequest, send_ack
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.app.session_timers import SessionTimer
from drachtwist.app.targets import check_request
from drachtwist.errors import ConnectionLost, LocalProtocolError, SipError
from drachtwist.sip.fields import is_terminated
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.sdp import Sdp, answer_with, description_of, refuse

if TYPE_CHECKING:
    from drachtwist.app.client_request import OutgoingRequest
    from drachtwist.app.srf import Srf
    from drachtwist.net.protocol import DrachtioProtocol

__all__ = ["Dialog"]


class Dialog(EstablishedRequester, Listener):
    """An established dialog.

    Applications get dialogs from ``create_uas`` and its relatives, and do not make them.
    """

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
        self._stage = State.UP
        # In ENDED.
        self._end: DialogEnd | None = None
        self._end_request: Request | None = None
        self._handlers = None
        self._on_destroy: tuple[Callable[[Request | None], Any], ...] = ()
        # Made when they are needed first.
        self._ending: Ending | None = None
        self._session: Session | None = None
        self._reinvites: Reinvites | None = None
        self._traffic: Traffic | None = None
        self._subscriptions: Subscriptions | None = None
        # The dialog at the other side of a bridged call.
        self._other: Dialog | None = None

    def __repr__(self) -> str:
        end = "" if self._end is None else f", over: {self._end.value}"
        return f"<Dialog {self.type} {self.id}{end}>"

    # Facts

    @property
    def connected(self) -> bool:
        """Whether the dialog is up: it did not end, and is not being ended."""
        return self._stage is State.UP

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
        return DialogEnded(self._end, bye, text or ending.words_for(self._end, bye))

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
        return self._need_ending().ended.wait()

    def on_ack(self, handler: AnyHandler) -> AnyHandler:
        """Call a handler with each ACK; with None, at once, when the first came already.

        While a re-INVITE of the peer is being answered, the ACK of that answer is waited for.
        """
        due = None if self._reinvites is None else self._reinvites.due
        if due is not None:
            number = number_of(due)

            def told(ack: Request) -> Any:
                return handler(ack) if number_of(ack) >= number else None

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
            return already_failed(ending.why_over(self._end))
        return self._need_ending().acked.wait()

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
            session = self._need_session()
            session.local = session.own = body
        self._send_ack(given.items(), sdp)
        if self._reinvites is not None:
            self._reinvites.confirmed()

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
            return self._need_ending().destroyed.wait()
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
        return ending.send_last(self, method, extra, body, True)

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
            return already_failed(ending.why_over(self._end))
        if method == "INVITE":
            return self._need_reinvites().add(Modification(body, headers, no_ack))
        if method == "BYE":
            return ending.send_last(self, method, headers, body, False)
        if method == "REGISTER":
            headers = sip.Headers(headers).items()
            check_request(self._state, method, "sip:", headers)
        request = self._new_request(method)
        if method == "UPDATE":
            headers = session_timers.complete_request(self, headers)
            request.over = self._updated
        if method == "NOTIFY" and self.dialog_type == "SUBSCRIBE":
            given = sip.Headers(headers)
            contact = self.local.contact
            if contact and not given.has("Contact"):
                given.add("Contact", contact)  # RFC 6665 section 4.1.3; servers add none
            headers = given.items()
            if is_terminated(given.get("Subscription-State")):
                request.over = self._last_answered
        return self._send(request, headers, body).deferred

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
            return already_failed(ending.why_over(self._end))
        modification = Modification(sdp, headers)
        answered: Deferred[bytes] = Deferred(lambda _: modification.deferred.cancel())

        def judge(response: ReceivedResponse) -> None:
            if response.status < 300:
                answered.callback(response.body)
            else:
                answered.errback(SipError(response.status, response.reason, response))

        def failed(failure: Failure) -> None:
            if not answered.called:
                answered.errback(failure)

        self._need_reinvites().add(modification).addCallback(judge).addErrback(failed)
        return answered

    def hold_requests(self) -> None:
        """Let requests of the peer wait, until :meth:`release_requests`; a BYE does not."""
        traffic = self._need_traffic()
        if traffic.held is None:
            traffic.held = []

    def release_requests(self) -> None:
        """Handle the requests that wait, and wait no longer."""
        traffic = self._traffic
        if traffic is not None and traffic.held is not None:
            held, traffic.held = traffic.held, None
            for req in held:
                incoming.handle(self, req)

    # Inside: sending

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
        if self.auth is not None:
            traffic = self._need_traffic()
            if traffic.realms is None or traffic.realms.auth != self.auth:
                traffic.realms = Realms(self.auth)
            request.challenged = Challenged(traffic.realms)
        return request

    def _tell_peer(self, headers: HeadersLike, body: str) -> None:
        """Send a NOTIFY when the peer has answered those before it; see :class:`NotifyQueue`."""
        traffic = self._need_traffic()
        if traffic.notifies is None:
            traffic.notifies = NotifyQueue(self)
        traffic.notifies.send(headers, body)

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

    def _updated(self, result: ReceivedResponse | Exception) -> None:
        """The final response to an UPDATE of ours came, or never will."""
        if not isinstance(result, Exception) and result.status < 300:
            session_timers.note_answer(self, result)

    @property
    def _timer(self) -> SessionTimer | None:
        """What was agreed on about the session timer; None for no timer."""
        session = self._need_session()
        if session.timer is False:
            session.timer = session_timers.agreed_at_first(self)
        return session.timer

    @_timer.setter
    def _timer(self, timer: SessionTimer | None) -> None:
        self._need_session().timer = timer

    # Inside: parts that are made when they are needed first

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

    def _need_reinvites(self) -> Reinvites:
        if self._reinvites is None:
            self._reinvites = Reinvites(self)
        return self._reinvites

    def _need_traffic(self) -> Traffic:
        if self._traffic is None:
            self._traffic = Traffic()
        return self._traffic

    def _subscribed(self) -> Subscriptions:
        if self._subscriptions is None:
            self._subscriptions = Subscriptions(self.req.get("Event"))
        return self._subscriptions

    # Inside: what comes in

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

    def _delivered(self, state: Connection, tokens: Sequence[str], raw: bytes) -> None:
        """Take a request of the peer."""
        incoming.deliver(self, state, tokens, raw)

    def _run(self, handlers: Sequence[Callable[..., Any]], req: Request) -> None:
        """Run handlers that have to answer a request."""
        incoming.run(self, handlers, req)

    def _is_asked(self) -> bool:
        """Whether a re-INVITE of the peer is not answered."""
        return self._reinvites is not None and self._reinvites.is_asked

    def _when_confirmed(self) -> Deferred[Request]:
        """Wait for the ACK of the peer's re-INVITE that was accepted last.

        :returns: the ACK. Fails as :meth:`when_acked` does.
        """
        if self._end is not None:
            return already_failed(ending.why_over(self._end))
        return self._need_reinvites().when_confirmed()

    # Inside: the end

    def _on_ending(self, handler: Callable[[HeadersLike], None]) -> None:
        """Call a handler, with the Reason headers, once the dialog ends or begins to be ended."""
        if self.connected:
            self._need_ending().on_begun(handler)
        else:
            handler(reasons_of(self._end_request))

    def _enter(self, stage: State) -> None:
        assert stage in TRANSITIONS[self._stage], f"{self._stage} does not become {stage}"
        self._stage = stage

    def _last_answered(self, result: ReceivedResponse | Exception) -> None:
        """The request that was to end the dialog is over."""
        ending.last_answered(self, result)

    def _over(self, end: DialogEnd, req: Request | None = None, text: str = "") -> None:
        """The dialog is over."""
        ending.over(self, end, req, text)

    @property
    def _is_settled(self) -> bool:
        """Whether it can outlive its connection; see :mod:`drachtwist.app.keeping`."""
        return ending.is_settled(self)

    def _moved(self, state: Connection) -> None:
        """The dialog lives on another connection to its server from now on."""
        self._state = state
        state.dialogs.add(self)
        state.use()

    def _link_lost(self, reason: ConnectionLost) -> None:
        """The connection is gone, and the dialog with it as far as we can tell."""
        ending.over(self, DialogEnd.LINK_LOST, None, str(reason))
