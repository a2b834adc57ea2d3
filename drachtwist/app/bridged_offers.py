"""Offers and answers that pass through a bridged call before it is up.

Whoever is offered something answers in one place only (RFC 6337 section 2.2). The callee's offer in
a reliable response is answered in the PRACK of that response; so its PRACK waits for the caller's.
An offer in the caller's PRACK, and one in an UPDATE, go to the callee as an UPDATE, whose response
has the answer. An offer that nobody has answered before the call is, is answered in the ACK.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from drachtwist.app.descriptions import keep_type, resolve
from drachtwist.app.dialog import Dialog
from drachtwist.app.early import EarlyDialog
from drachtwist.app.interfaces import SdpHook
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.errors import CommandRefused, LocalProtocolError, SipError
from drachtwist.sip.headers import Headers
from drachtwist.sip.sdp import Sdp, answer_with, description_of

__all__ = ["EarlyOffers", "pass_late_answer", "pass_offer"]


class EarlyOffers:
    """What callees offered in reliable responses to an INVITE without an offer.

    The caller has one dialog, and gets one offer. Others, of another fork of the INVITE, are
    answered with the caller's answer as far as it fits them.

    :param hook: makes of the caller's answer what the callee gets; see ``local_sdp_b``.
    """

    __slots__ = ("_answer", "_hook", "_waiting", "tag")

    tag: str
    """The To tag of the callee whose offer the caller has."""

    def __init__(self, hook: SdpHook[Request], tag: str) -> None:
        self._hook = hook
        self._answer: bytes | str | None = None
        self._waiting: list[tuple[bytes, Deferred[bytes | str]]] = []
        self.tag = tag

    def wait(self, offer: bytes = b"") -> Deferred[bytes | str]:
        """Wait for the answer.

        :param offer: another one than the caller has.
        :returns: the answer, empty when there is none. Fails when the hook does.
        """
        waiting: Deferred[bytes | str] = Deferred()
        self._waiting.append((offer, waiting))
        if self._answer is not None:
            self._tell(self._answer)
        return waiting

    async def answered(self, prack: Request) -> None:
        """Take the caller's PRACK, which has the answer."""
        answer: bytes | str = description_of(prack)
        if answer and callable(self._hook):
            try:
                answer = await resolve(self._hook, answer, prack)
            except Exception as error:
                waiting, self._waiting = self._waiting, []
                for _, deferred in waiting:
                    deferred.errback(error)
                return
        self._tell(answer)

    def give_up(self) -> None:
        """Take it that there is no answer before the call is up."""
        self._tell(b"")

    def _tell(self, answer: bytes | str) -> None:
        self._answer = answer
        waiting, self._waiting = self._waiting, []
        for offer, deferred in waiting:
            made = answer
            if offer and answer:
                own = answer.encode() if isinstance(answer, str) else answer
                made = bytes(answer_with(Sdp(own), Sdp(offer)))
            deferred.callback(made)


async def pass_offer(
    req: Request,
    res: Response,
    early: EarlyDialog | None,
    there: SdpHook[Request],
    back: SdpHook[ReceivedResponse],
) -> None:
    """Pass an UPDATE, or the offer of a PRACK, on in the early dialog of the other side.

    :param res: gets the response.
    :param early: that dialog; without one, and while nothing is agreed on in it, it is too early.
    :param there: makes of the offer what the other side gets, if it is a function.
    :param back: the same for the answer.
    """
    if early is None or (req.body and not early.session.settled):
        res.send(500, headers={"Retry-After": "5"})  # RFC 3311 section 5.2
        return
    body: Any = req.body
    if body and callable(there):
        body = await resolve(there, body, req)
    given = Headers()
    keep_type(given, req, body)
    try:
        response = await early.update(headers=given.items(), body=body)
    except (CommandRefused, LocalProtocolError, SipError):
        if not res.finished:  # it crosses something, or the server sends nothing there yet
            res.send(500, headers={"Retry-After": "5"})
        return
    answer: Any = response.body
    if answer and callable(back):
        answer = await resolve(back, answer, response)
    returned = Headers()
    keep_type(returned, response, answer)
    res.send(response.status, response.reason, returned.items(), answer)


async def pass_late_answer(uas: Dialog, uac: Dialog, hook: SdpHook[Request]) -> None:
    """Acknowledge a 200 that had the offer with the answer that is in the caller's ACK.

    :param hook: ``local_sdp_b``: if it is a function, it makes of the answer what the called party
        gets. When it fails, or the caller does not acknowledge, both dialogs are ended.
    """
    try:
        await uas.when_acked()
        answer: Any = uas.remote.sdp
        if callable(hook):
            answer = await resolve(hook, answer, uas.req)
        uac.ack(answer)
    except BaseException:
        uac.destroy()
        uas.destroy()
        raise
