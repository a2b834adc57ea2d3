"""The face of a dialog: what applications do with it, and where its parts meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app import session_timers
from drachtwist.app.bridged_headers import reasons_of
from drachtwist.app.connection import Connection
from drachtwist.app.dialog import ending, incoming
from drachtwist.app.dialog.parts import DialogParts
from drachtwist.app.dialog.ports import OpenInvites
from drachtwist.app.dialog.reinvites import Modification, Reinvites, number_of
from drachtwist.app.dialog.requests import EstablishedRequester
from drachtwist.app.dialog.state import DialogEnd, DialogEnded, why_over
from drachtwist.app.interfaces import AnyToldOfEnd
from drachtwist.app.mistakes import no_handler, no_method
from drachtwist.app.notify_queue import NotifyQueue
from drachtwist.app.option_types import check_modification
from drachtwist.app.outcomes import already_failed
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.session_timers import SessionTimer
from drachtwist.app.targets import check_request
from drachtwist.errors import ConnectionLost, LocalProtocolError, SipError
from drachtwist.net.tasks import Awaited
from drachtwist.sip.encoding import encoded_body
from drachtwist.sip.fields import is_terminated
from drachtwist.sip.headers import HeadersLike

__all__ = ["Dialog"]


class Dialog(DialogParts, EstablishedRequester):
    """An established dialog.

    Applications get dialogs from ``create_uas`` and its relatives, and do not make them.
    """

    __slots__ = ()

    # Events

    def on_destroy(self, handler: AnyToldOfEnd) -> AnyToldOfEnd:
        """Call a handler when the dialog ends, unless :meth:`destroy` ended it.

        It gets the BYE or NOTIFY that ended it, None when the connection was lost; :attr:`ended`
        tells more. It is called at once when the dialog is over already.
        """
        if not callable(handler):
            raise no_handler(handler)
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

    def on_ack(self, handler: AnyToldOfEnd) -> AnyToldOfEnd:
        """Call a handler with each ACK; with None, at once, when the first came already.

        While a re-INVITE of the peer is being answered, the ACK of that answer is waited for.
        """
        if not callable(handler):
            raise no_handler(handler)
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
            return already_failed(why_over(self._end))
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
            body = encoded_body(sdp)
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
        if not isinstance(method, str):
            raise no_method(method)
        method = method.upper()
        if method in ("ACK", "CANCEL"):
            raise LocalProtocolError(f"{method} gets no response: it is no request for itself")
        if not self.connected:
            return already_failed(why_over(self._end))
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
        check_modification(sdp)
        if not self.connected:
            return already_failed(why_over(self._end))
        modification = Modification(sdp, headers)
        answered: Deferred[bytes] = Awaited(lambda _: modification.deferred.cancel())

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

    def _tell_peer(self, headers: HeadersLike, body: str) -> None:
        """Send a NOTIFY when the peer has answered those before it; see :class:`NotifyQueue`."""
        traffic = self._need_traffic()
        if traffic.notifies is None:
            traffic.notifies = NotifyQueue(self)
        traffic.notifies.send(headers, body)

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

    def _need_reinvites(self) -> OpenInvites:
        if self._reinvites is None:
            self._reinvites = Reinvites(self)
        return self._reinvites

    # Inside: what comes in

    # Functions that are methods: a dialog is what they take first.
    _delivered = incoming.deliver
    _run = incoming.run

    def _is_asked(self) -> bool:
        """Return whether a re-INVITE of the peer is not answered."""
        return self._reinvites is not None and self._reinvites.is_asked

    def _when_confirmed(self) -> Deferred[Request]:
        """Wait for the ACK of the peer's re-INVITE that was accepted last.

        :returns: the ACK. Fails as :meth:`when_acked` does.
        """
        if self._end is not None:
            return already_failed(why_over(self._end))
        return self._need_reinvites().when_confirmed()

    # Inside: the end

    def _on_ending(self, handler: Callable[[HeadersLike], None]) -> None:
        """Call a handler, with the Reason headers, once the dialog ends or begins to be ended."""
        if self.connected:
            self._need_ending().on_begun(handler)
        else:
            handler(reasons_of(self._end_request))

    _last_answered = ending.last_answered
    _over = ending.over

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
