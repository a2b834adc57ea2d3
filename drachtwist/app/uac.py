"""Calls and subscriptions of the application: a dialog in the making.

:class:`PlacedCall` waits for the session description, sends the request
(:class:`~drachtwist.app.client_request.ClientRequest`), and makes a dialog of the 2xx. Four things
may come between: the application gives up, its time is over, the callee hangs up before answering,
nothing can be sent in the dialog that would come of it. A 200 that comes all the same is
acknowledged and ended with a BYE (RFC 3261 section 13.2.2.4); if it has the offer, the ACK refuses
that.
"""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app.authentication import Auth
from drachtwist.app.client_request import ClientRequest
from drachtwist.app.destinations import Target, way_to
from drachtwist.app.dialog import Dialog
from drachtwist.app.interfaces import SdpSource
from drachtwist.app.option_types import SDP_BEGINS, check_description, check_options
from drachtwist.app.outcomes import Outcome, started
from drachtwist.app.outgoing_request import OutgoingRequest
from drachtwist.app.ports import ConnectionFinder
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.app.targets import complete_uri
from drachtwist.app.validation import BAR, names
from drachtwist.errors import LocalProtocolError, RemoteProtocolError, SipError
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.numbers import sip_uri
from drachtwist.sip.sdp import description_of

__all__ = ["PendingCall", "PlacedCall", "prepare_uac"]


def calling_headers(
    headers: HeadersLike,
    calling_number: str | None,
    calling_name: str | None,
    called_number: str | None,
) -> tuple[list[tuple[str, Any]], bool]:
    """Complete headers by who calls whom.

    :returns: the headers, and whether a Contact with the calling number is among them.
    """
    if headers is None:
        joined: list[tuple[str, Any]] = []
    else:
        is_mapping = type(headers) is dict or isinstance(headers, Mapping)
        joined = list(headers.items()) if is_mapping else list(headers)  # type: ignore
    try:
        named = {name.lower() for name, _ in joined}
    except (AttributeError, TypeError, ValueError):
        check_options(headers=joined)
        raise
    shows_number = False
    # Nobody's From and Contact are the server's own.
    if calling_number or calling_name:
        uri = sip_uri(calling_number, "localhost")
        if not named & _FROM:
            sender: Any = f"<{uri}>"
            if calling_name and '"' not in calling_name and "\\" not in calling_name:
                sender = f'"{calling_name}" <{uri}>'
            elif calling_name:
                sender = sip.Address(calling_name, uri)
            joined.append(("From", sender))
        if calling_number and not named & _CONTACT:
            joined.append(("Contact", f"<{uri}>"))
            shows_number = True
    if called_number is not None and not named & _TO:
        joined.append(("To", f"<{sip_uri(called_number, 'localhost')}>"))
    return joined, shows_number


_PLAIN = (str, type(None))
_USUAL_HEADERS = (dict, list, type(None))
_USUAL_WAY = ("", False, False, False)
_NO_WISHES = (None,) * 5
_FROM = frozenset(("from", "f"))
_TO = frozenset(("to", "t"))
_CONTACT = frozenset(("contact", "m"))


def prepare_uac(
    connections: ConnectionFinder,
    uri: Target,
    *,
    method: str = "INVITE",
    headers: HeadersLike = None,
    calling_number: str | None = None,
    calling_name: str | None = None,
    called_number: str | None = None,
    no_ack: bool = False,
    timeout: float | None = None,
    auth: Auth | None = None,
    link: Any = None,
    proxy: str = "",
    follow_redirects: bool = False,
    keep_uri_on_redirect: bool = False,
    on_request: Callable[[OutgoingRequest], Any] | None = None,
    on_provisional: Callable[[ReceivedResponse], Any] | None = None,
    on_update: Callable[[Request, Response], Any] | None = None,
) -> PlacedCall:
    """Make a call that waits for :meth:`PlacedCall.start`.

    The parameters are those of :meth:`drachtwist.app.srf.Srf.create_uac`.

    :raises ConnectionFailed: when there is no connection.
    :raises LocalProtocolError: for what cannot be sent as one well-formed message.
    """
    if (
        type(uri) is not str
        or type(calling_number) not in _PLAIN
        or type(calling_name) not in _PLAIN
        or type(called_number) not in _PLAIN
        or type(headers) not in _USUAL_HEADERS
        or (proxy, no_ack, follow_redirects, keep_uri_on_redirect) != _USUAL_WAY
        or (auth, timeout, on_request, on_provisional, on_update) != _NO_WISHES
    ):
        check_options(
            uri=uri,
            calling_number=calling_number,
            calling_name=calling_name,
            called_number=called_number,
            headers=headers,
            auth=auth,
            timeout=timeout,
            proxy=proxy,
            no_ack=no_ack,
            follow_redirects=follow_redirects,
            keep_uri_on_redirect=keep_uri_on_redirect,
            on_request=on_request,
            on_provisional=on_provisional,
            on_update=on_update,
        )
    if method != "INVITE":
        check_options(method=method)
        method = method.upper()
        if method not in ("INVITE", "SUBSCRIBE"):
            raise LocalProtocolError(f"a {method} makes no dialog")
    address, proxy, headers = way_to(uri, proxy, headers)
    joined, shows_number = calling_headers(headers, calling_number, calling_name, called_number)
    client = ClientRequest(
        connections.find(link),
        method,
        complete_uri(address, bool(proxy)),
        headers=joined,
        proxy=proxy,
        auth=auth,
        follow_redirects=follow_redirects,
        keep_uri_on_redirect=keep_uri_on_redirect,
        on_request=on_request,
        on_provisional=on_provisional,
        on_update=on_update,
    )
    client.shows_number = shows_number
    client.on_behalf = link if type(link) is Request else None
    return PlacedCall(client, no_ack, timeout, auth)


class PendingCall(Outcome[Dialog]):
    """A call that was placed: fires with its dialog.

    Cancelling it, also by ``addTimeout``, cancels the INVITE, and nobody waits any more.
    """

    def __init__(self, calling: PlacedCall) -> None:
        super().__init__(_cancel_call)
        # Weakly, since it knows us: it is kept by what it waits for, up to the end.
        self._calling = weakref.ref(calling)

    def cancel_request(self, headers: HeadersLike = None) -> None:
        """Cancel the INVITE (RFC 3261 section 9.1), and wait for what comes of it.

        :param headers: headers of the CANCEL, Reason for example (RFC 3326).
        """
        calling = self._calling()
        if calling is not None:
            calling.give_up(headers)
        elif not self.called:
            self.errback(SipError(487, "Request Terminated"))


def _cancel_call(pending: Deferred[Dialog]) -> None:
    """Cancel a call that nobody waits for any more."""
    calling = pending._calling() if isinstance(pending, PendingCall) else None
    if calling is not None:
        calling.cancel()


class PlacedCall:
    """A dialog in the making."""

    __slots__ = (
        "__weakref__",
        "_auth",
        "_given_up",
        "_no_ack",
        "_timeout",
        "_timer",
        "client",
        "deferred",
    )

    def __init__(
        self, client: ClientRequest, no_ack: bool, timeout: float | None, auth: Auth | None
    ) -> None:
        self.client = client
        self._no_ack = no_ack
        self._auth = auth
        self._timeout = timeout
        self._timer: IDelayedCall | None = None
        self._given_up = False
        self.deferred = PendingCall(self)

    def start(self, local_sdp: SdpSource) -> PendingCall:
        """Send the request as soon as there is a session description."""
        if local_sdp is None or type(local_sdp) in (bytes, str):
            self._send(local_sdp)  # type: ignore[arg-type]
            return self.deferred
        made: Any = local_sdp() if callable(local_sdp) else local_sdp
        if isinstance(made, Deferred | Awaitable):
            waiting = made if isinstance(made, Deferred) else started(made)

            def failed(failure: Failure) -> None:
                if not self.deferred.called:
                    self.deferred.errback(failure)

            waiting.addCallback(self._send).addErrback(failed)
        else:
            self._send(made)
        return self.deferred

    def _send(self, sdp: bytes | str | None) -> None:
        client = self.client
        if self._given_up or self.deferred.called:
            client.forget()
            return
        if sdp and sdp[:3] not in SDP_BEGINS:
            check_description(sdp, client.headers)
        client.body = sdp or b""
        client.on_final = self._final
        client.on_bye = self._hung_up
        try:
            client.send()
        except LocalProtocolError:
            client.forget()
            raise
        if self._timeout is not None and not client.over:
            clock = client.state.clock
            self._timer = clock.callLater(self._timeout, self._timeout_reached)

    def _timeout_reached(self) -> None:
        """Fail at once; the rest is done behind it, as when nobody waits any more."""
        self._timer = None
        self.client.cancel({"Reason": 'SIP;cause=408;text="Request Timeout"'})
        self._fail(SipError(408, "Request Timeout"))

    def give_up(self, headers: HeadersLike = None) -> None:
        """Cancel the call; the Deferred fails when it is over.

        :param headers: headers of the CANCEL.
        """
        if self.client.request is None and not self.client.sent:
            self._given_up = True
            self._fail(SipError(487, "Request Terminated"))
        self.client.cancel(headers)

    def cancel(self) -> None:
        """Cancel it: the Deferred fails at once, the rest is done behind it."""
        self._given_up = True
        self.client.cancel()

    def _hung_up(self) -> None:
        """The callee ended the call before it has answered; what may still come is done behind."""
        self._given_up = True
        self.client.cancel()
        self._fail(SipError(487, "Request Terminated"))

    def _final(self, outcome: ReceivedResponse | Exception) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        client = self.client
        if isinstance(outcome, Exception):
            self._fail(outcome)
            return
        status = outcome.status
        established = status == 200 or (status == 202 and client.method == "SUBSCRIBE")
        if not established:
            self._fail(SipError(status, outcome.reason, outcome))
            return
        request = client.request
        assert request is not None, "a response comes behind the answer"
        state = client.state
        dialog_id = outcome.stack_dialog_id
        if not dialog_id or (BAR in outcome.raw and not names(dialog_id, outcome)):
            text = f"not the name of this dialog: {dialog_id!r}"
            self._fail(RemoteProtocolError(text))
            return
        dialog = Dialog(state, dialog_id, "uac", request, request.raw)
        request.res = outcome
        state.dialogs.add(dialog)
        state.link.uses += 1
        dialog.auth = self._auth
        if client.challenged is not None and client.challenged.realms:
            realms = client.challenged.realms
            realms.uri = dialog.remote.uri
            dialog._need_traffic().realms = realms
        if client.state.events.dialog_state.handlers:
            client.report("confirmed", outcome)
        invite = client.method == "INVITE"
        late = invite and not client.body and bool(outcome.body)
        early = client.early_of(outcome)
        if early is not None:
            early.session.hand_over(dialog, description_of(outcome))
            owed = late or early.session.offered
            late = invite and not client.body and owed and not early.session.settled
        if client.cancelled or self.deferred.called:
            # The 200 crossed our CANCEL.
            if late:
                dialog._owes_ack = True  # which refuses the offer, and is sent first
            elif invite:
                dialog._send_ack()
            dialog.destroy()
            self._fail(SipError(487, "Request Terminated", outcome))
            return
        if invite and b"\nContact:" not in outcome.raw and not outcome.has("Contact"):
            # Nothing can be sent in it, not to everybody at least: it is ended as well as can be.
            dialog._acked = True
            dialog._send_ack()
            dialog.destroy()
            self._fail(SipError(500, "Missing Contact Header", outcome))
            return
        if invite:
            dialog._acked = True  # there is none to wait for
            if late and early is not None and early.session.unsent:
                dialog._owes_ack = True
                dialog.ack(early.session.unsent)
            elif late or self._no_ack:
                dialog._owes_ack = True
            else:
                dialog._send_ack()
        self.deferred.callback(dialog)

    def _fail(self, error: Exception) -> None:
        client = self.client
        if client.state.events.dialog_state.handlers and client.told != "confirmed":
            status = error.status if isinstance(error, SipError) else 0
            event = {0: "error", 408: "timeout", 487: "cancelled"}.get(status, "rejected")
            client.report("terminated", event=event, status=status)
        if client.state.events.calls is not None:
            client.state.events.calls.not_placed(client, error)
        if not self.deferred.called:
            self.deferred.errback(Failure(error))
