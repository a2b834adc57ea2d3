"""Several targets for one caller: at once, or one after the other.

The caller hears the first ringing and is connected with who answers first; the others are
cancelled, and hung up on when they answer all the same. When nobody answers he gets the best of
the refusals (RFC 3261 section 16.7).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from drachtwist.app.b2bua import B2bua, create_b2bua
from drachtwist.app.bridged_headers import BridgedHeaders, reasons_of
from drachtwist.app.bridged_offers import pass_late_answer
from drachtwist.app.call_options import SimringOptions, TargetOptions, TriedOptions
from drachtwist.app.coupling import pair
from drachtwist.app.descriptions import resolve, typed
from drachtwist.app.destinations import Target
from drachtwist.app.dialog import Dialog
from drachtwist.app.handover import hand_out
from drachtwist.app.interfaces import SdpHook
from drachtwist.app.option_types import check_calling, check_options
from drachtwist.app.outcomes import started
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.app.uac import PlacedCall, prepare_uac
from drachtwist.app.uas import create_uas, refuse_unreachable
from drachtwist.errors import LocalProtocolError, SipError
from drachtwist.net.logs import Logger
from drachtwist.net.tasks import Awaited
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.replies import rank

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from drachtwist.app.srf import Srf

__all__ = ["RETRY_STATUSES", "Simring", "hunt", "simring"]

_log = Logger(namespace="drachtwist.app.forking")

RETRY_STATUSES = frozenset((*range(300, 400), *range(400, 600)))
"""After these :func:`hunt` tries the next target: all but 6xx, which counts for all."""


def best(errors: Iterable[SipError]) -> SipError | None:
    """Choose the refusal to pass on (RFC 3261 section 16.7); None when there is none."""
    return max(errors, key=lambda error: rank(error.status), default=None)


def _given_up() -> SipError:
    """Make the outcome of a call whose caller gave up, whatever others have said."""
    return SipError(487, "Request Terminated")


class Simring:
    """Calls several targets at once, for a caller.

    :param uris: whom to call.
    :param timeout: seconds that each target has to answer.
    :param local_sdp_a: what the caller gets instead of the description of who answered; as for
        ``create_b2bua``.
    :param local_sdp_b: what the targets are offered instead of the caller's description.
    :param headers: further headers for the targets, or a function of the request.
    :param response_headers: further headers for the caller, or a function of the response.
    :param proxy_request_headers: names of headers that are passed on to the targets; as for
        ``create_b2bua``.
    :param proxy_response_headers: the same for the caller.
    :param pass_failure: refuse the caller when nobody answers; otherwise the request stays open.
    :param pass_provisional_responses: let the caller hear that it rings.
    :param options: of ``create_uac``, for all targets.
    :raises LocalProtocolError: when it is no INVITE.
    """

    def __init__(
        self,
        srf: Srf,
        req: Request,
        res: Response,
        uris: Sequence[Target] = (),
        *,
        timeout: float | None = None,
        local_sdp_a: SdpHook[ReceivedResponse] = None,
        local_sdp_b: SdpHook[Request] = None,
        headers: HeadersLike | Callable[[Request], HeadersLike] = None,
        response_headers: HeadersLike | Callable[[ReceivedResponse], HeadersLike] = None,
        proxy_request_headers: Sequence[str] = (),
        proxy_response_headers: Sequence[str] = (),
        pass_failure: bool = True,
        pass_provisional_responses: bool = True,
        **options: Unpack[TargetOptions],
    ) -> None:
        if req.method != "INVITE":
            raise LocalProtocolError(f"a {req.method} makes no call")
        check_options(
            uris=uris,
            timeout=timeout,
            local_sdp_a=local_sdp_a,
            local_sdp_b=local_sdp_b,
            headers=None if callable(headers) else headers,
            response_headers=None if callable(response_headers) else response_headers,
            proxy_request_headers=proxy_request_headers,
            proxy_response_headers=proxy_response_headers,
            pass_failure=pass_failure,
            pass_provisional_responses=pass_provisional_responses,
        )
        check_calling(options)
        self._srf = srf
        self._req = req
        self._res = res
        self._timeout = timeout
        self._local_sdp_a = local_sdp_a
        self._local_sdp_b = local_sdp_b
        self._pass_failure = pass_failure
        self._pass_provisional = pass_provisional_responses
        self._passing = BridgedHeaders(
            headers, response_headers, proxy_request_headers, proxy_response_headers
        )
        self._headers = self._passing.of_request(req)
        self._options = options
        number, name = req.caller
        self._options.setdefault("calling_number", number)
        self._options.setdefault("calling_name", name)
        self._options.setdefault("link", req)
        self._calling: dict[PlacedCall, Target] = {}
        self._errors: list[SipError] = []
        self._failure: Failure | None = None
        self._offer: Any = None
        self._ready = False
        self._over = False
        self._held = 0
        self._waiting: list[Target] = list(uris)
        self._won: Deferred[Dialog] = Awaited(lambda _: self._cancel_all(None))

    def start(self) -> Deferred[B2bua]:
        """Call all targets.

        :returns: both dialogs. Fails with :exc:`SipError` when nobody answers or the caller gives
            up (487), and as ``create_b2bua`` does.
        """
        return hand_out(self._run())

    def add(self, uri: Target) -> None:
        """Call one more target, as long as nobody has answered.

        :raises LocalProtocolError: when it is decided already.
        """
        if self._over:
            raise LocalProtocolError("somebody has answered, or nobody did")
        if self._ready:
            self._call(uri)
        else:
            self._waiting.append(uri)

    def hold(self) -> None:
        """Do not give up while more targets are looked for, until :meth:`release`."""
        self._held += 1

    def release(self) -> None:
        """Undo :meth:`hold`."""
        self._held -= 1
        self._check()

    # Inside

    async def _run(self) -> B2bua:
        req, res = self._req, self._res
        unreachable = refuse_unreachable(req, res)
        if unreachable is not None:
            raise unreachable
        sdp = self._local_sdp_b
        self._offer = req.body if sdp is None else await resolve(sdp, req.body, req)
        if sdp is None:
            self._headers = typed(self._headers, req, self._offer)
        req.on_cancel(self._cancelled)
        self._ready = True
        waiting, self._waiting = self._waiting, []
        for uri in waiting:
            self._call(uri)
        self._check()
        try:
            uac = await self._won
        except SipError as error:
            if self._pass_failure and not res.finished:
                res.send(error.status, error.reason or None, self._passing.of_refusal(error))
            raise
        uac.hold_requests()
        try:
            answer: Any = uac.remote.sdp
            if self._local_sdp_a is not None:
                answer = await resolve(self._local_sdp_a, answer, uac.res)
            headers = self._passing.of_response(uac.res)
            if self._local_sdp_a is None:
                headers = typed(headers, uac.res, answer)
            uas = await create_uas(req, res, local_sdp=answer, headers=headers)
        except BaseException:
            uac.destroy()
            raise
        uas.hold_requests()
        if uac._owes_ack:
            await pass_late_answer(uas, uac, self._local_sdp_b)
        pair(uas, uac)
        return B2bua(uas, uac)

    def _call(self, uri: Target) -> None:
        try:
            calling = prepare_uac(
                self._srf._connections,
                uri,
                headers=self._headers,
                timeout=self._timeout,
                on_provisional=self._provisional,
                **self._options,
            )
            self._calling[calling] = uri
            answering = calling.start(self._offer)
        except Exception:
            self._failure = Failure()
            _log.failure(
                "cannot call {uri}, Call-ID {call_id}", uri=uri, call_id=self._req.get("Call-ID")
            )
            self._calling = {one: to for one, to in self._calling.items() if to != uri}
            return
        answering.addCallback(self._answered, calling)
        answering.addErrback(self._refused, calling)

    def _provisional(self, response: ReceivedResponse) -> None:
        """Let the caller hear that somebody's phone rings, once for each status."""
        res = self._res
        if not self._pass_provisional or res.finished or self._over:
            return
        if response.status > res.status:
            res.send(response.status, response.reason, self._passing.of_response(response))

    def _answered(self, dialog: Dialog, calling: PlacedCall) -> None:
        self._calling.pop(calling, None)
        if self._over:
            dialog.destroy()
            return
        self._over = True
        self._cancel_all({"Reason": 'SIP;cause=200;text="Call completed elsewhere"'})
        self._won.callback(dialog)

    def _refused(self, failure: Failure, calling: PlacedCall) -> None:
        self._calling.pop(calling, None)
        error = failure.value
        if isinstance(error, SipError):
            self._errors.append(error)
            if error.status >= 600 and not self._over:
                self._cancel_all(None)
        else:
            self._failure = failure
        self._check()

    def _check(self) -> None:
        """Give up when nobody is left who could answer."""
        if self._over or self._calling or self._held or not self._ready:
            return
        self._over = True
        chosen = _given_up() if self._req.canceled else best(self._errors)
        if chosen is not None:
            self._won.errback(Failure(chosen))
        elif self._failure is not None:
            self._won.errback(self._failure)
        else:
            self._won.errback(Failure(SipError(480, "Temporarily Unavailable")))

    def _cancelled(self, cancel: Request | None) -> None:
        """The caller gave up."""
        self._held = 0
        self._cancel_all(reasons_of(cancel))
        self._check()

    def _cancel_all(self, headers: HeadersLike) -> None:
        for calling in list(self._calling):
            calling.give_up(headers)


def simring(
    srf: Srf,
    req: Request,
    res: Response,
    uris: Sequence[Target],
    **options: Unpack[SimringOptions],
) -> Deferred[B2bua]:
    """Call several targets at once, and connect the caller with who answers first.

    :param options: of :class:`Simring`.
    :returns: both dialogs; see :meth:`Simring.start`.
    """
    return Simring(srf, req, res, uris, **options).start()


def hunt(
    srf: Srf,
    req: Request,
    res: Response,
    uris: Sequence[Target],
    *,
    timeout: float | None = 20.0,
    retry_statuses: Collection[int] = RETRY_STATUSES,
    pass_failure: bool = True,
    **options: Unpack[TriedOptions],
) -> Deferred[B2bua]:
    """Call several targets one after the other, and connect the caller with who answers.

    :param timeout: seconds that each target has to answer; None for as long as it rings.
    :param retry_statuses: the refusals after which the next target is called.
    :param pass_failure: refuse the caller when nobody answers; otherwise the request stays open.
    :param options: of ``create_b2bua``.
    :returns: both dialogs. Fails with the best refusal as :exc:`SipError` when nobody answers, and
        as ``create_b2bua`` does.
    :raises LocalProtocolError: when there is nobody to call.
    """
    if not uris:
        raise LocalProtocolError("nobody to call")
    check_options(uris=uris, timeout=timeout, pass_failure=pass_failure)
    check_calling(options)
    passing = BridgedHeaders(
        response_headers=options.get("response_headers"),
        response_names=options.get("proxy_response_headers", ()),
    )

    async def call() -> B2bua:
        errors: list[SipError] = []
        for uri in uris:
            try:
                return await create_b2bua(
                    srf._connections, req, res, uri, timeout=timeout, pass_failure=False, **options
                )
            except SipError as error:
                errors.append(error)
                if req.canceled or error.status not in retry_statuses:
                    break
        chosen = _given_up() if req.canceled else best(errors)
        assert chosen is not None, "somebody refused, or there would be a call"
        if pass_failure and not res.finished:
            res.send(chosen.status, chosen.reason or None, passing.of_refusal(chosen))
        raise chosen

    return started(call())
