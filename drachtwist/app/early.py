"""The dialog of a call that rings: what comes in it, and what may be sent.

A provisional response with a To tag makes an early dialog (RFC 3261 section 12.1). Requests in it
are offered, in this order, to the handlers of the :class:`EarlyDialog`, to ``on_update`` if it is
an UPDATE, and to those of the application. What nobody takes is answered here, never with 481,
which ends the call of whoever gets it (RFC 3261 section 12.2.1.2):

=====================================  ============================================================
BYE                                    200; the call is over before it was answered
INFO, MESSAGE, NOTIFY, OPTIONS,        200
PRACK, PUBLISH, REFER
UPDATE                                 200; with an offer 491 while one of ours is not answered, 500
                                       with Retry-After while one of the peer's is not
                                       (RFC 3311 section 5.2)
anything else                          501
=====================================  ============================================================

A real server delivers an UPDATE under the name of the INVITE that it crosses, refuses most other
requests by itself before a reliable provisional response, and sends nothing there for the
application (protocol.md 5.6).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred

from drachtwist import sip
from drachtwist.app.authentication import Challenged, Realms
from drachtwist.app.connection import Connection
from drachtwist.app.dialog.requests import Requester
from drachtwist.app.dialog_table import Ends, Role, role_of
from drachtwist.app.early_session import EarlySession
from drachtwist.app.interfaces import AnyRequestHandler
from drachtwist.app.mistakes import no_handler, no_method
from drachtwist.app.outcomes import already_failed
from drachtwist.app.outgoing import PLACEHOLDER, WITH_CONTACT, DialogRequest
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import ANSWERED_OK, Response, answer_ok, come_again
from drachtwist.app.router import Chain, Ender
from drachtwist.app.targets import PRACK_BODIES, survives
from drachtwist.errors import LocalProtocolError, MessageError, SipError
from drachtwist.net.logs import Logger
from drachtwist.sip.encoding import encoded_body
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.sdp import Sdp, answer_with, description_of

if TYPE_CHECKING:
    from drachtwist.app.outgoing_request import OutgoingRequest

__all__ = ["EarlyDialog"]

_log = Logger(namespace="drachtwist.app.early")

_NOT_HERE = frozenset({"ACK", "BYE", "CANCEL", "INVITE", "PRACK"})


class RingingCall(Protocol):
    """An INVITE of ours that rings."""

    on_update: Callable[..., Any] | None

    @property
    def rings(self) -> bool:
        """Whether there is an early dialog."""
        ...

    def early_dialog(self, tag: str = "") -> EarlyDialog:
        """Return the early dialog with whom rings."""
        ...

    def hung_up(self, tag: str) -> None:
        """The callee ended an early dialog."""


class EarlyDialog(Requester):
    """A call that rings, for what there is to say before it is answered.

    Applications get it from a request that they answered with a provisional response
    (:attr:`Request.early_dialog`), or from a provisional response that came
    (:attr:`ReceivedResponse.early_dialog`).
    """

    __slots__ = (
        "_handlers",
        "_realms",
        "_requests",
        "_state",
        "_update",
        "ends",
        "id",
        "over",
        "req",
        "session",
        "target",
        "type",
    )

    id: str
    """The server's name of the dialog."""

    type: Role
    """``uas`` when the peer calls, ``uac`` when the application does."""

    req: Request | OutgoingRequest
    """The INVITE, the peer's or ours."""

    over: bool
    """Whether the INVITE has its final response, so that nothing can be sent here any more."""

    def __init__(
        self,
        state: Connection,
        type: Role,
        req: Request | OutgoingRequest,
        session: EarlySession,
        realms: Realms | None = None,
    ) -> None:
        self._state = state
        self.id = ""
        self.ends: Ends = ("", "")
        self.type = type
        self.req = req
        self.over = False
        self.session = session
        self.target = ""
        self._realms = realms
        self._handlers: dict[str, Callable[..., Any]] = {}
        self._requests: set[DialogRequest] = set()
        self._update: Request | None = None

    def __repr__(self) -> str:
        return f"<EarlyDialog {self.type} {self.id}{', over' if self.over else ''}>"

    @property
    def local_sdp(self) -> bytes:
        """The session description that we gave last, empty before there is one."""
        return self.session.local

    @property
    def remote_sdp(self) -> bytes:
        """The session description that the peer gave last, empty before there is one."""
        return self.session.remote or self.session.hint

    # What comes

    def on_request(self, method: str, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Call a handler, with (req, res), for each request of a method; it has to answer."""
        if not isinstance(method, str):
            raise no_method(method)
        if not callable(handler):
            raise no_handler(handler)
        self._handlers[method.upper()] = handler
        return handler

    def on_info(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle INFO requests, DTMF before the answer for example: ``handler(req, res)``."""
        return self.on_request("INFO", handler)

    def on_notify(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle NOTIFY requests: ``handler(req, res)``."""
        return self.on_request("NOTIFY", handler)

    def on_update(self, handler: AnyRequestHandler) -> AnyRequestHandler:
        """Handle UPDATE requests: ``handler(req, res)``."""
        return self.on_request("UPDATE", handler)

    # What is sent

    def request(
        self, method: str, *, headers: HeadersLike = None, body: bytes | str = b""
    ) -> Deferred[ReceivedResponse]:
        """Send a request in the early dialog.

        The embedded server sends it. A real one does so only for a caller, and only behind a
        reliable provisional response.

        :param body: text is sent as UTF-8; in an UPDATE, an offer.
        :returns: the final response; a refusal is a result too. Fails with :exc:`SipError` 481 when
            the INVITE was answered meanwhile, with :exc:`CommandRefused` when the server sends
            nothing in this dialog, with :exc:`ConnectionLost`.
        :raises LocalProtocolError: for a method that has no place here (an INVITE is cancelled, not
            ended), for an offer while another one waits for its answer (RFC 3311 section 5.1), and
            for what cannot be sent as one well-formed message.
        """
        if not isinstance(method, str):
            raise no_method(method)
        method = method.upper()
        if method in _NOT_HERE:
            raise LocalProtocolError(f"{method} has no place before the call is answered")
        if self.over:
            return already_failed(SipError(481, "Call/Transaction Does Not Exist"))
        sdp = b""
        if method == "UPDATE" and body:
            sdp = encoded_body(body)
            if self.session.offering or self.session.offered:
                raise LocalProtocolError("an offer waits for its answer: no other one now")
        request = self.prepare(method)
        if sdp:
            self.session.offering = True

            def over(result: ReceivedResponse | Exception) -> None:
                self._requests.discard(request)
                self.session.offering = False
                if isinstance(result, ReceivedResponse) and result.status < 300:
                    self.session.updated(sdp, description_of(result))

            request.over = over
        return request.send(headers, body).deferred

    # Inside

    def prepare(self, method: str) -> DialogRequest:
        """Make a request that is forgotten when it is over."""
        request = DialogRequest(self._state, self.id, method, ends=lambda: self.ends)
        request.early_target = self.target
        if method in WITH_CONTACT:
            request.contact = self._own_message().get("Contact") or ""
        if self._realms is not None:
            request.challenged = Challenged(self._realms)
        self._requests.add(request)
        request.over = lambda _: self._requests.discard(request)
        return request

    def _own_message(self) -> sip.Message:
        """Return what we sent: our INVITE, or the response that made the dialog."""
        if isinstance(self.req, Request):
            return sip.Response.from_bytes(self.req._extended().early_raw)
        return self.req

    def take(self, ender: Ender, req: Request, handler: Callable[..., Any] | None) -> bool:
        """Look at a request of the peer that is neither PRACK nor BYE.

        :param handler: of UPDATEs, unless one of this dialog takes them.
        :returns: whether a handler has it, or it is answered; otherwise it is for the application.
        """
        method = req.method
        if method == "UPDATE":
            pending = self._update
            if pending is not None and pending.is_open:
                come_again(req)
                return True
            self._update = req
            offer = description_of(req)
            extras = req._extended()
            told = extras.on_final

            def answered(it: Request, status: int, body: bytes | str | None) -> None:
                if offer:
                    self._answered(status, body, offer)
                if told is not None:
                    told(it, status, body)

            extras.on_final = answered
        handler = self._handlers.get(method, handler if method == "UPDATE" else None)
        if handler is None:
            return False
        Chain([(handler, 2, 0)], ender).run(req, req.res)
        return True

    def take_offer(self, ender: Ender, prack: Request) -> bool:
        """Look at a PRACK that makes an offer.

        :returns: whether a handler has it; otherwise it is for the application.
        """
        handler = self._handlers.get("PRACK")
        if handler is None:
            return False
        Chain([(handler, 2, 0)], ender).run(prack, prack.res)
        return True

    def _answered(self, status: int, body: bytes | str | None, offer: bytes) -> None:
        """An UPDATE of the peer with an offer was answered."""
        if status < 300:
            self.session.updated(encoded_body(body or b""), offer)

    def answer(self, req: Request) -> None:
        """Answer what no handler took."""
        res = req.res
        method = req.method
        if method in ANSWERED_OK:
            res.send(200)
            return
        if method != "UPDATE":
            res.send(501)
            return
        offer = description_of(req)
        session = self.session
        if not offer:
            res.send(200)
        elif session.offering:
            res.send(491)
        elif session.offered or not session.local:
            come_again(req)
        else:
            self._accept(res, offer)

    def _accept(self, res: Response, offer: bytes) -> None:
        """Accept an offer with what we described before, the directions turned round."""
        made = answer_with(Sdp(self.session.local), Sdp(offer))
        if made.carries_media:
            res.send(200, headers={"Content-Type": "application/sdp"}, body=bytes(made))
        else:
            res.send(488)

    def acknowledge(self, response: ReceivedResponse, sdp: bytes | str | None) -> None:
        """Send the PRACK of a reliable provisional response (RFC 3262 section 4).

        A real server sends it without a body. An answer is kept then, for the ACK: better late than
        never.

        :param sdp: the answer to the offer in it, or an offer.
        """
        try:
            cseq = response.cseq
        except MessageError:
            return
        headers = [("RAck", f"{response.get('RSeq')} {cseq.number} {cseq.method}")]
        request = self.prepare("PRACK")
        if sdp and not survives(self._state, PRACK_BODIES):
            _log.warn(
                "drachtio server {version} sends no body in a PRACK, Call-ID {call_id}",
                version=self._state.server.version,
                call_id=response.get("Call-ID"),
            )
            if self.session.offered:
                self.session.unsent = encoded_body(sdp)
            sdp = None
        if sdp:
            headers.append(("Content-Type", "application/sdp"))
            session = self.session
            session.sent(encoded_body(sdp), in_response=False)
            over = request.over

            def answered(result: ReceivedResponse | Exception) -> None:
                if isinstance(result, ReceivedResponse) and session.offering:
                    session.received(description_of(result), in_response=False)
                if over is not None:
                    over(result)

            request.over = answered
        request.send(headers, sdp or b"")

    def prack_came(self, prack: Request) -> bool:
        """Note what a PRACK describes.

        :returns: whether it makes an offer, which the response to it has to answer.
        """
        session = self.session
        before, settled = session.remote, session.settled
        session.received(description_of(prack), in_response=False)
        if not settled or not session.offered:
            return False

        def answered(it: Request, status: int, body: bytes | str | None) -> None:
            if status < 300:
                session.updated(encoded_body(body or b""), description_of(prack))
            else:
                session.refused(before)

        prack._extended().on_final = answered
        return True

    def answer_prack(self, res: Response) -> None:
        """Answer a PRACK that no handler took."""
        offer = description_of(res.req)
        if offer and self.session.offered and self.session.local:
            answer = bytes(answer_with(Sdp(self.session.local), Sdp(offer)))
            res.send(200, headers={"Content-Type": "application/sdp"}, body=answer)
        else:
            res.send(200)

    def end(self, *, answered: bool) -> None:
        """End it, since the INVITE has its final response.

        :param answered: there is a dialog now, in which what was sent is answered.
        """
        self.over = True
        self._handlers.clear()
        self._update = None
        if not answered:
            for request in tuple(self._requests):
                request.give_up_later()


def target_of(message: sip.Message) -> str:
    """Return the URI of a Contact, empty when there is none that requests may go to."""
    try:
        contacts = message.contacts
        if contacts and not contacts[0].is_wildcard:
            return str(sip.Uri.parse(contacts[0].uri))
    except MessageError:
        pass
    return ""


class EarlyDialogs:
    """Finds the early dialog of a call, and makes it when it is asked for first."""

    @staticmethod
    def of_caller(req: Request) -> EarlyDialog:
        """Return the early dialog of a caller, which begins with his INVITE."""
        extras = req._extended()
        if extras.early is None:
            session = EarlySession(remote=req.body)
            extras.early = EarlyDialog(req._state, "uas", req, session)
            extras.early.id = extras.early_id
        if extras.early_raw and not extras.early.ends[0]:
            sent = sip.Response.from_bytes(extras.early_raw)
            extras.early.ends = (sent.get("To") or "", sent.get("From") or "")
            extras.early.target = target_of(req) or PLACEHOLDER
        return extras.early

    @staticmethod
    def of_response(response: ReceivedResponse) -> EarlyDialog | None:
        """Return the early dialog with whom a provisional response is from; None without one."""
        client: RingingCall | None = response._state.calling.get(response.stack_dialog_id)
        if client is None or not 100 < response.status < 200 or not client.rings:
            return None
        try:
            tag = response.to.tag
        except MessageError:
            return None
        return client.early_dialog(tag) if tag else None


# What the connection delivers


class Dispatch(Ender, Protocol):
    """What knows the handlers of each method."""

    def chain(self, method: str) -> Chain:
        """Return the handlers that see the requests of a method."""
        ...


def find(state: Connection, req: Request, dialog_id: str) -> Request | RingingCall | None:
    """Find the INVITE, of a caller or ours, in whose early dialog a request is."""
    caller: Request | None = state.early.get(dialog_id)
    ours: RingingCall | None = state.calling.get(dialog_id)
    if caller is not None or ours is not None:
        role = role_of(dialog_id, req.raw, by_server=False)
        caller, ours = None if role == "uac" else caller, None if role == "uas" else ours
    if caller is None and ours is None:
        # The server has not confirmed the provisional response yet.
        pending = state.invites.get(req.stack_txn_id)
        return None if pending is None else pending._invite()
    return ours if caller is None else caller


def dialog_of(invite: Request | RingingCall, req: Request) -> EarlyDialog:
    """Return the early dialog that a request is in."""
    if isinstance(invite, Request):
        return EarlyDialogs.of_caller(invite)
    return invite.early_dialog(req.from_tag or "")


def take(
    dispatcher: Dispatch, state: Connection, req: Request, method: str, dialog_id: str
) -> bool:
    """Look at a request in a dialog whose INVITE is not answered yet.

    :returns: whether that was everything there is to do.
    """
    invite = find(state, req, dialog_id)
    if invite is None:
        return False
    if method == "PRACK":
        return isinstance(invite, Request) and _take_prack(dispatcher, state, invite, req)
    if method == "BYE":
        if not isinstance(invite, Request):
            state.link.uses += 1
            answer_ok(req)
            invite.hung_up(req.from_tag or "")
            return True
        if not invite._extras or not invite._extras.early_id:
            return False
        # The server refuses the INVITE by itself.
        state.link.uses += 1
        answer_ok(req)
        pending = state.invites.get(invite.stack_txn_id)
        if pending is not None:
            pending._cancelled(req)
        return True
    dialog = dialog_of(invite, req)
    handler = None
    if isinstance(invite, Request):
        if method == "UPDATE" and invite.is_open:
            invite._update_came(req)
        handler = invite._extras.on_update if invite._extras is not None else None
    else:
        handler = invite.on_update
    state.link.uses += 1
    if dialog.take(dispatcher, req, handler):
        return True
    state.link.uses -= 1
    return False


def _take_prack(dispatcher: Dispatch, state: Connection, invite: Request, prack: Request) -> bool:
    """Take a PRACK: what waited for it is sent."""
    extras = invite._extras
    if extras is None or not extras.early_id:
        return False
    waiting = extras.queue.on_prack if extras.queue is not None else None
    state.link.uses += 1
    early = extras.early
    taken = False
    if early is not None and early.prack_came(prack):
        invite._update_came(prack)
        taken = early.take_offer(dispatcher, prack)
    if not taken:
        dispatcher.chain("PRACK").run(prack, prack.res)
    if waiting is not None:
        prack._call(waiting, prack)
    invite._prack_over()
    return True
