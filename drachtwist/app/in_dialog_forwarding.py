"""Passing requests of one dialog on in another, and their responses back.

An offer that comes in a 200 is answered in the ACK, which is waited for; requests that would wait
for each other are refused (491); what is told of a REFER keeps the number that the REFER had where
it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import TimeoutError
from twisted.python.failure import Failure

from drachtwist.app.bridged_headers import (
    chosen_headers,
)
from drachtwist.app.descriptions import keep_type, resolve
from drachtwist.app.dialog import Dialog
from drachtwist.app.mistakes import no_dialogs
from drachtwist.app.outgoing import WITH_CONTACT
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.refer_ids import ReferIds
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.errors import (
    ConnectionLost,
    DrachtwistError,
    SipError,
)
from drachtwist.net.logs import Logger
from drachtwist.sip.headers import Headers

if TYPE_CHECKING:
    pass

__all__ = ["forward_in_dialog"]

_log = Logger(namespace="drachtwist.app.in_dialog_forwarding")

_ACK_TIMEOUT = 20.0
"""Seconds that the ACK of a re-INVITE without an offer has: the other side waits for it, too."""


def forward_in_dialog(
    a: Dialog,
    b: Dialog,
    methods: Iterable[str] = ("INFO", "MESSAGE", "REFER", "NOTIFY", "INVITE", "UPDATE"),
    *,
    headers: Sequence[str] = ("all",),
    sdp: Mapping[Dialog, Callable[[bytes], Any]] | None = None,
) -> None:
    """Pass requests that come in one dialog on in the other, and their responses back.

    :param methods: which ones; INVITE means re-INVITEs.
    :param headers: which headers go along, as for ``proxy_request_headers``.
    :param sdp: for a dialog, a function of what its peer gets: called with the other peer's
        session description, it gives the one to send, now or later.
    """
    hooks = dict(sdp or {})
    refers = {a: ReferIds(), b: ReferIds()}
    try:
        for source, target in ((a, b), (b, a)):
            for method in methods:
                _forward(source, target, method.upper(), tuple(headers), hooks, refers)
    except AttributeError as error:
        raise no_dialogs("forward_in_dialog", error, a, b) from None


def _forward(
    source: Dialog,
    target: Dialog,
    method: str,
    names: tuple[str, ...],
    hooks: Mapping[Dialog, Callable[[bytes], Any]],
    refers: Mapping[Dialog, ReferIds],
) -> None:
    async def forward(req: Request, res: Response) -> ReceivedResponse | None:
        if method == "INVITE" and target._is_asked():
            # Each would wait for the other (RFC 3261 section 14.2).
            res.send(491)
            return None
        body = await _translated(req, hooks.get(target))
        given = Headers(chosen_headers(req, names))
        keep_type(given, req, body)
        if method in WITH_CONTACT:
            given.remove("Contact")  # ours is written there
        late = method == "INVITE" and not body
        event = given.get("Event")
        if event is not None and method == "NOTIFY":
            given.set("Event", await refers[target].back(event))
        elif event is not None and method == "SUBSCRIBE":
            given.set("Event", refers[source].on(event))
        try:
            response = await target.request(method, headers=given.items(), body=body, no_ack=late)
        except SipError as error:
            res.send(error.status)
            return None
        except ConnectionLost:
            if not res.finished:
                res.send(503)
            return None
        try:
            answer = await _translated(response, hooks.get(source))
            back = Headers(chosen_headers(response, names))
            keep_type(back, response, answer)
            sending = res.send(response.status, response.reason, back.items(), answer)
            if late and response.status < 300:
                sending.addErrback(_not_answered, req)
                body = await _late_answer(source, hooks.get(target))
        finally:
            # Whatever becomes of the answer, the peer must not be left without the ACK.
            if late and response.status < 300 and target.ended is None and target._owes_ack:
                target.ack(body or target._answer_to(response.body))
        return response

    async def refer(req: Request, res: Response) -> None:
        with refers[source].passing(req.cseq.number) as answered:
            answered(await forward(req, res))

    source.on_request(method, refer if method == "REFER" else forward)


async def _late_answer(source: Dialog, hook: Callable[[bytes], Any] | None) -> bytes | str:
    """Wait for the ACK of a re-INVITE without an offer; give the answer in it, if there is one."""
    acked = source._when_confirmed()
    acked.addTimeout(_ACK_TIMEOUT, source.srf.clock)
    try:
        return await _translated(await acked, hook)
    except (SipError, ConnectionLost, TimeoutError):
        return b""


def _not_answered(failure: Failure, req: Request) -> None:
    failure.trap(DrachtwistError)
    _log.info(
        "the answer to {method} could not be passed on: {error}, Call-ID {call_id}",
        method=req.method,
        error=failure.value,
        call_id=req.get("Call-ID"),
    )


async def _translated(
    message: Request | ReceivedResponse, hook: Callable[[bytes], Any] | None
) -> bytes | str:
    body = message.body
    if hook is None or not body.startswith(b"v=0"):
        return body
    return await resolve(hook, body)  # type: ignore[no-any-return]
