"""Two dialogs, one call: how a back-to-back user agent sets it up.

A is who called the application, B is who the application calls. Whatever happens on one side while
the call is set up is told to the other: ringing, early media, refusals, and A's giving up, which
cancels B at whatever moment it comes, with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app.authentication import Auth
from drachtwist.app.bridged_headers import BridgedHeaders, reasons_of
from drachtwist.app.bridged_offers import EarlyOffers, pass_late_answer, pass_offer
from drachtwist.app.coupling import pair
from drachtwist.app.descriptions import resolve, typed
from drachtwist.app.destinations import Target
from drachtwist.app.dialog import Dialog
from drachtwist.app.handover import hand_out
from drachtwist.app.interfaces import SdpHook
from drachtwist.app.mistakes import no_request
from drachtwist.app.option_types import check_options
from drachtwist.app.outcomes import started
from drachtwist.app.outgoing_request import OutgoingRequest
from drachtwist.app.ports import ConnectionFinder
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.app.uac import prepare_uac
from drachtwist.app.uas import create_uas, refuse_unreachable
from drachtwist.errors import DrachtwistError, LocalProtocolError, SipError
from drachtwist.net.logs import Logger
from drachtwist.sip.headers import Headers, HeadersLike
from drachtwist.sip.options import RELIABLE
from drachtwist.sip.sdp import Sdp, answer_with, description_of

__all__ = ["B2bua", "create_b2bua"]

_log = Logger(namespace="drachtwist.app.b2bua")


@dataclass(frozen=True, slots=True)
class B2bua:
    """Both dialogs of a call; may be unpacked: ``uas, uac = ...``."""

    uas: Dialog
    """The dialog with who called."""
    uac: Dialog
    """The dialog with who was called."""

    def __iter__(self) -> Iterator[Dialog]:
        return iter((self.uas, self.uac))


_NO_WISHES = (None,) * 5
_NOTHING_PASSED = ((), ())
_USUAL_SDP = (str, bytes, type(None))
# How those begin that tell what they are.
_PLAIN_BODIES = (b"v=0", b"")


def create_b2bua(
    connections: ConnectionFinder,
    req: Request,
    res: Response,
    uri: Target,
    *,
    local_sdp_a: SdpHook[ReceivedResponse] = None,
    local_sdp_b: SdpHook[Request] = None,
    headers: HeadersLike | Callable[[Request], HeadersLike] = None,
    response_headers: HeadersLike | Callable[[ReceivedResponse], HeadersLike] = None,
    proxy_request_headers: Sequence[str] = (),
    proxy_response_headers: Sequence[str] = (),
    pass_failure: bool = True,
    pass_provisional_responses: bool = True,
    proxy: str = "",
    auth: Auth | None = None,
    calling_number: str | None = None,
    calling_name: str | None = None,
    called_number: str | None = None,
    follow_redirects: bool = False,
    keep_uri_on_redirect: bool = False,
    timeout: float | None = None,
    on_request: Callable[[OutgoingRequest], Any] | None = None,
    on_provisional: Callable[[ReceivedResponse], Any] | None = None,
    on_uac: Callable[[Dialog], Any] | None = None,
    link: Any = None,
) -> Deferred[B2bua]:
    """Connect a caller with somebody; see :meth:`drachtwist.app.srf.Srf.create_b2bua`."""
    try:
        is_call = req.method == "INVITE"
    except AttributeError as error:
        raise no_request("create_b2bua", error, req, res) from None
    if not is_call:
        raise LocalProtocolError(f"a {req.method} makes no call")
    if (
        type(local_sdp_b) not in _USUAL_SDP
        or (local_sdp_a, headers, response_headers, on_provisional, on_uac) != _NO_WISHES
        or (proxy_request_headers, proxy_response_headers) != _NOTHING_PASSED
        or pass_failure is not True
        or pass_provisional_responses is not True
    ):
        check_options(
            local_sdp_a=local_sdp_a,
            local_sdp_b=local_sdp_b,
            headers=None if callable(headers) else headers,
            response_headers=None if callable(response_headers) else response_headers,
            proxy_request_headers=proxy_request_headers,
            proxy_response_headers=proxy_response_headers,
            pass_failure=pass_failure,
            pass_provisional_responses=pass_provisional_responses,
            on_provisional=on_provisional,
            on_uac=on_uac,
        )
    number, name = req.caller
    passing = BridgedHeaders(
        headers, response_headers, proxy_request_headers, proxy_response_headers
    )
    calling = prepare_uac(
        connections,
        uri,
        headers=passing.of_request(req),
        proxy=proxy,
        auth=auth,
        calling_number=number if calling_number is None else calling_number,
        calling_name=name if calling_name is None else calling_name,
        called_number=called_number,
        follow_redirects=follow_redirects,
        keep_uri_on_redirect=keep_uri_on_redirect,
        timeout=timeout,
        on_request=on_request,
        link=req if link is None else link,
    )
    calling.client.on_behalf = req
    bridge = _Bridge(
        req,
        res,
        calling,
        local_sdp_a,
        local_sdp_b,
        passing,
        pass_failure,
        pass_provisional_responses,
        on_provisional,
        on_uac,
    )
    return hand_out(bridge.build())


class _Bridge:
    """A call in the making."""

    __slots__ = (
        "_calling",
        "_local_sdp_a",
        "_local_sdp_b",
        "_made",
        "_offers",
        "_on_provisional",
        "_on_uac",
        "_pass_failure",
        "_pass_provisional",
        "_passing",
        "_req",
        "_res",
        "_updated",
    )

    def __init__(
        self,
        req: Request,
        res: Response,
        calling: Any,
        local_sdp_a: SdpHook[ReceivedResponse],
        local_sdp_b: SdpHook[Request],
        passing: BridgedHeaders,
        pass_failure: bool,
        pass_provisional: bool,
        on_provisional: Callable[[ReceivedResponse], Any] | None,
        on_uac: Callable[[Dialog], Any] | None,
    ) -> None:
        self._req = req
        self._res = res
        self._calling = calling
        self._local_sdp_a = local_sdp_a
        self._local_sdp_b = local_sdp_b
        self._passing = passing
        self._pass_failure = pass_failure
        self._pass_provisional = pass_provisional
        self._on_provisional = on_provisional
        self._on_uac = on_uac
        # What A gets for a description of B's: asked for once for each.
        self._made: tuple[bytes, bytes | str] | None = None
        # What B described in an UPDATE before it answered.
        self._updated = b""
        # What B offered in reliable responses, if A left the offer to B.
        self._offers: EarlyOffers | None = None

    async def build(self) -> B2bua:
        """Call B, and answer A when B answered."""
        req = self._req
        unreachable = refuse_unreachable(req, self._res)
        if unreachable is not None:
            raise unreachable
        offer = req.body
        sdp = self._local_sdp_b
        if sdp is None:
            sdp = offer
        elif type(sdp) is not bytes and type(sdp) is not str:
            sdp = await resolve(sdp, offer, req)
        if sdp is offer and offer[:3] not in _PLAIN_BODIES:
            self._calling.client.give(typed(self._calling.client.headers, req, sdp))
        req.on_cancel(self._cancelled)
        if req._extended().on_update is None:
            req.on_update(self._updated_by_a)
        client = self._calling.client
        client.on_provisional = self._provisional
        if client.on_update is None:
            client.on_update = self._updated_by_b
        try:
            uac: Dialog = await self._calling.start(sdp)
        except SipError as error:
            self._refuse(error)
            raise
        # What B says before A is up has to wait until there is somebody to tell.
        uac.hold_requests()
        try:
            if self._on_uac is not None:
                req._call(self._on_uac, uac)
            response = uac.res
            answer: Any = uac.remote.sdp
            early = req._extended().early
            settled = early is not None and early.session.settled
            # A has what was agreed on since the reliable response: unless something changed.
            changed = settled and (bool(self._updated) or self._is_another(response))
            if self._updated:
                uac._need_session().remote = answer = self._updated
            if self._local_sdp_a is not None:
                answer = await self._sdp_for_a(answer, response)
            headers = self._passing.of_response(response)
            if self._local_sdp_a is None and answer[:3] not in _PLAIN_BODIES:
                headers = typed(headers, response, answer)
            # One that answered our offer in its PRACK might take another one for a new offer.
            told = b"" if settled and not offer else answer
            uas = await create_uas(req, self._res, local_sdp=told, headers=headers)
        except BaseException:
            # A has gone, or there is no answer for A: nobody is left to talk to B.
            uac.destroy()
            raise
        # What A says has to wait as well, until somebody has both.
        uas.hold_requests()
        if changed:
            # In the 200 A takes no other description.
            changing = uas.when_acked().addCallback(lambda _: uas.modify(answer))
            changing.addErrback(self._not_changed)
        if uac._owes_ack:
            await pass_late_answer(uas, uac, self._local_sdp_b)
        pair(uas, uac)
        return B2bua(uas, uac)

    async def _sdp_for_a(self, theirs: bytes, response: Any) -> bytes | str:
        """Return what A gets in place of B's description."""
        made = self._made
        if made is not None and made[0] == theirs:
            return made[1]
        sdp = self._local_sdp_a
        found: Any = theirs if sdp is None else await resolve(sdp, theirs, response)
        self._made = (theirs, found)
        return found  # type: ignore[no-any-return]

    # What happens meanwhile

    def _cancelled(self, cancel: Request | None) -> None:
        """A gives up: so does the call to B."""
        self._calling.give_up(reasons_of(cancel))

    def _provisional(self, response: ReceivedResponse) -> Any:
        """B rings, or sends early media."""
        result = None
        if self._on_provisional is not None:
            result = self._on_provisional(response)
        if not self._pass_provisional or self._res.finished:
            return result
        if not response.body:
            if self._passing.is_plain:
                # Nothing to be waited for, as most of the time.
                self._res.send(response.status, response.reason, self._reliably(response))
                return result
        elif not self._calling.client.body and not isinstance(result, bytes | str):
            answer = self._offered(response)
            if answer is not None:
                return answer if result is None else started(_either(result, answer))
        passing = started(self._pass(response))
        passing.addErrback(self._not_passed)
        return result

    def _offered(self, response: ReceivedResponse) -> Deferred[bytes | str] | None:
        """B may make an offer, which A answers in its PRACK.

        :returns: the answer; None if this is no offer, or A cannot answer it there.
        """
        if not self._reliably(response):
            return None
        tag = response.to_tag or ""
        if not self._calling.client.early_dialog(tag).session.offered:
            return None
        offers = self._offers
        if offers is None:
            offers = self._offers = EarlyOffers(self._local_sdp_b, tag)
            waiting = offers.wait()
            passing = started(self._pass(response, offers.answered))
        else:
            waiting = offers.wait(description_of(response))
            passing = started(self._pass(response))

        def failed(failure: Failure) -> None:
            self._not_passed(failure)
            offers.give_up()

        passing.addErrback(failed)
        return waiting

    def _is_another(self, response: sip.Message) -> bool:
        """Return whether a response is from somebody else than A has the offer of."""
        return self._offers is not None and self._offers.tag != (response.to_tag or "")

    def _reliably(self, response: ReceivedResponse) -> HeadersLike:
        """Ask for a reliable response to A if B's was one, and A knows them."""
        if response.reliable_number is not None and self._req.supports(RELIABLE):
            return {"Require": RELIABLE}
        return None

    async def _pass(
        self, response: ReceivedResponse, on_prack: Callable[[Request], Any] | None = None
    ) -> None:
        headers = Headers(self._passing.of_response(response))
        sdp: bytes | str = b""
        if response.body and not self._is_another(response):
            sdp = await self._sdp_for_a(response.body, response)
        reliable = self._reliably(response)
        if reliable:
            headers.set("Require", RELIABLE)
        if sdp and not headers.has("Content-Type"):
            headers.set("Content-Type", response.get("Content-Type") or "application/sdp")
        if self._res.finished:
            return
        self._res.send(response.status, response.reason, headers.items(), sdp, on_prack=on_prack)
        early = self._req._extended().early
        if reliable and early is not None:
            early.on_request("PRACK", self._updated_by_a)

    async def _updated_by_a(self, update: Request, res: Response) -> None:
        """Pass on an offer that A changes before B has answered (RFC 3311)."""
        client = self._calling.client
        early = client.early_dialog() if client.rings else None
        await pass_offer(update, res, early, self._local_sdp_b, self._local_sdp_a)

    async def _updated_by_b(self, update: Request, res: Response) -> None:
        """B changes its early media.

        A server lets nobody ask A before A is answered (protocol.md 5.6), so B gets what it was
        offered before, and A hears of it with the answer, or in a re-INVITE behind it.
        """
        offer = update.body
        if not offer:
            res.send(200)
            return
        own = self._calling.client.early_dialog(update.from_tag or "").session.local
        self._updated = offer
        answer = bytes(answer_with(Sdp(own), Sdp(offer)))
        res.send(200, headers={"Content-Type": "application/sdp"}, body=answer)

    def _not_changed(self, failure: Failure) -> None:
        failure.trap(DrachtwistError)
        _log.info(
            "the caller does not take the new media: {error}, Call-ID {call_id}",
            error=failure.value,
            call_id=self._req.get("Call-ID"),
        )

    def _not_passed(self, failure: Failure) -> None:
        _log.failure(
            "a provisional response could not be passed on, Call-ID {call_id}",
            failure,
            call_id=self._req.get("Call-ID"),
        )

    def _refuse(self, error: SipError) -> None:
        """B did not answer: tell A, if that is wanted."""
        res = self._res
        if not self._pass_failure or res.finished:
            return
        res.send(error.status, error.reason or None, self._passing.of_refusal(error))


async def _either(own: Any, theirs: Deferred[bytes | str]) -> Any:
    """Return what a handler answers, sooner or later, else what somebody else does."""
    return await resolve(own) or await theirs
