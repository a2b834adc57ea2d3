"""Call transfer: REFER, the NOTIFYs that tell of its progress, and Replaces.

A REFER begins a subscription in the dialog that it is sent in (RFC 3515); its NOTIFYs carry the
first line of the response that the other call got, as ``message/sipfrag``. Here they become
:class:`Progress`. Both sides are covered: :func:`transfer` sends the REFER, :func:`accept_refer`
answers one. A transfer to somebody whom we talk to already (attended, RFC 5589 section 7) names
that dialog in a Replaces header (RFC 3891), which :func:`find_replaced_dialog` looks up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from drachtwist import sip
from drachtwist.app.call_options import CallOptions
from drachtwist.app.dialog import Dialog, DialogEnd
from drachtwist.app.dialog_table import Role
from drachtwist.app.interfaces import SdpSource
from drachtwist.app.mistakes import no_dialogs, said
from drachtwist.app.outcomes import already_failed
from drachtwist.app.received import ReceivedResponse
from drachtwist.app.request import Request
from drachtwist.app.response import Response
from drachtwist.app.targets import referred_to
from drachtwist.errors import (
    CommandRefused,
    ConnectionLost,
    DrachtwistError,
    LocalProtocolError,
    MessageError,
    SipError,
)
from drachtwist.net.tasks import Awaited
from drachtwist.sip.encoding import status_line
from drachtwist.sip.headers import HeadersLike
from drachtwist.sip.registry import is_legible
from drachtwist.sip.status import reason_phrase
from drachtwist.sip.targets import request_uri_of, split_headers
from drachtwist.sip.uri import is_sip_uri

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from drachtwist.app.srf import Srf

__all__ = [
    "Progress",
    "Referral",
    "accept_refer",
    "find_replaced_dialog",
    "transfer",
]

_EVENT_ID = re.compile(r";\s*id\s*=\s*([0-9]+)", re.IGNORECASE)
_STATUS_LINE = re.compile(rb"SIP/2\.0 ([1-6][0-9][0-9])(?: ([^\r\n]*))?")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer has come."""

    status: int
    """The status of the call to the transfer target; 0 when the peer ended the subscription, or the
    call, without telling."""
    reason: str


def _replaced(text: str) -> sip.Replaces:
    """Read a Replaces header.

    :raises MessageError: also when it lacks a tag (RFC 3891 section 6.1).
    """
    replaces = sip.Replaces.parse(text)
    if not replaces.to_tag or not replaces.from_tag:
        raise MessageError(f"Replaces needs both tags: {text!r}")
    return replaces


def find_replaced_dialog(srf: Srf, req: Request) -> Dialog | None:
    """Return the dialog that an INVITE wants to take the place of.

    :returns: None when there is no Replaces header, or no such dialog (answer 481 then, RFC 3891
        section 3).
    :raises MessageError: for a header that cannot be read, or two of them (400).
    """
    values = req.get_all("Replaces")
    if not values:
        return None
    if len(values) > 1:
        raise MessageError("two Replaces headers")
    wanted = _replaced(values[0])
    # The server names a dialog by the From tag of the request that began it: the peer's, or ours.
    named: tuple[tuple[Role, str | None], ...] = (
        ("uas", wanted.from_tag),
        ("uac", wanted.to_tag),
    )
    for role, tag in named:
        if not tag:
            continue
        dialog = srf.find_dialog_by_call_id_and_from_tag(wanted.call_id, tag, type=role)
        if (
            dialog is not None
            and dialog.local.tag == wanted.to_tag
            and dialog.remote.tag == wanted.from_tag
            and not wanted.early_only
        ):
            return dialog
    return None


# Sending a REFER


def transfer(
    dialog: Dialog,
    target: str | Dialog,
    *,
    headers: HeadersLike = None,
    referred_by: str | None = None,
    timeout: float | None = 180.0,
    on_progress: Callable[[Progress], Any] | None = None,
) -> Deferred[Progress]:
    """Ask the peer of a dialog to call somebody else instead.

    The dialog stays up: end it when the transfer has succeeded, unless the peer does. Cancelling
    the Deferred stops waiting; a REFER cannot be taken back.

    :param target: a URI for a blind transfer, also ``tel:``, in brackets or not, and ``sip:`` may
        be left out; for an attended one the dialog with the target, which the new call is to
        replace.
    :param headers: further headers of the REFER.
    :param referred_by: the URI of the Referred-By header (RFC 3892); that of our side of the dialog
        if None, no header if empty.
    :param timeout: seconds that the whole transfer has.
    :param on_progress: called with each NOTIFY's news.
    :returns: the last news: a 2xx, or a status of 0 when the peer hung up without telling more.
        Fails with :exc:`SipError` when the REFER or the call to the target is refused, 408 after
        ``timeout``, and with :exc:`ConnectionLost` and :exc:`CommandRefused`.
    :raises LocalProtocolError: for a dialog that is over, for a number without a domain, and for
        what cannot be sent.
    """
    try:
        is_up = dialog.connected and dialog.dialog_type == "INVITE"
    except AttributeError as error:
        raise no_dialogs("transfer", error, dialog) from None
    if not isinstance(target, str | Dialog):
        if isinstance(target, Deferred):
            raise LocalProtocolError("the dialog with the target was not awaited")
        raise LocalProtocolError(
            f"the target of a transfer is a URI as text, or a dialog, not {said(target)}"
        )
    if not is_up:
        raise LocalProtocolError("only a call that is up can be transferred")
    if isinstance(target, Dialog):
        if not target.connected:
            raise LocalProtocolError("the dialog with the transfer target is over")
        # Seen from the target: its own tag is the to-tag.
        tags = f"to-tag={target.remote.tag};from-tag={target.local.tag}"
        replaces = quote(f"{target.call_id};{tags}", safe="")
        to = f"{request_uri_of(target.remote.uri)}?Replaces={replaces}"
    else:
        to = referred_to(target)
    given = sip.Headers(headers)
    if not given.has("Refer-To"):
        given.add("Refer-To", f"<{to}>")
    if referred_by is None:
        address = dialog.local.address
        referred_by = "" if address is None else address.uri
    if referred_by and not given.has("Referred-By"):
        given.add("Referred-By", f"<{referred_by}>")
    referring = _Referring(dialog, on_progress)
    return referring.start(given.items(), timeout)


class _Referring:
    """A REFER of ours, and the subscription that it began."""

    __slots__ = ("_deferred", "_dialog", "_number", "_on_progress", "_timer")

    def __init__(self, dialog: Dialog, on_progress: Callable[[Progress], Any] | None) -> None:
        self._dialog = dialog
        self._on_progress = on_progress
        self._number = ""  # of the REFER, once it is known
        self._timer: IDelayedCall | None = None
        self._deferred: Deferred[Progress] = Awaited(lambda _: self._leave())

    def start(self, headers: HeadersLike, timeout: float | None) -> Deferred[Progress]:
        dialog = self._dialog
        try:
            sent = dialog.request("REFER", headers=headers)
        except LocalProtocolError:
            del self._deferred  # it knows us, and nobody else has it
            raise
        dialog._need_traffic().referrals.append(self)
        if timeout is not None:
            self._timer = dialog.srf.clock.callLater(timeout, self._timed_out)
        sent.addCallbacks(self._answered, self._failed)
        return self._deferred

    def _answered(self, response: ReceivedResponse) -> None:
        if response.status >= 300:
            self._fail(SipError(response.status, response.reason, response))
            return
        try:
            self._number = str(response.cseq.number)
        except MessageError:
            self._number = ""

    def _failed(self, failure: Failure) -> None:
        self._leave()
        if not self._deferred.called:
            self._deferred.errback(failure)

    def notified(self, req: Request) -> bool:
        """Take a NOTIFY of the subscription to a REFER.

        :returns: whether it is for this one.
        """
        named = _EVENT_ID.search(req.get("Event") or "")
        if named is not None and self._number and named[1] != self._number:
            return False
        found = _STATUS_LINE.match(req.body.lstrip())
        over = req.subscription_is_over
        progress = Progress(0, "")
        if found is not None:
            text = (found[2] or b"").decode("utf-8", "replace")
            progress = Progress(int(found[1]), text)
            if self._on_progress is not None:
                req._call(self._on_progress, progress)
        if progress.status >= 300:
            self._fail(SipError(progress.status, progress.reason))
        elif progress.status >= 200 or over:
            self._succeed(progress)
        return True

    def dialog_over(self, end: DialogEnd) -> None:
        """The call is over before the subscription was."""
        if end is DialogEnd.LINK_LOST:
            self._fail(ConnectionLost("the connection that the dialog lived on is gone"))
        else:
            self._succeed(Progress(0, ""))

    def _timed_out(self) -> None:
        self._fail(SipError(408, "Request Timeout"))

    def _succeed(self, progress: Progress) -> None:
        self._leave()
        if not self._deferred.called:
            self._deferred.callback(progress)

    def _fail(self, error: DrachtwistError) -> None:
        self._leave()
        if not self._deferred.called:
            self._deferred.errback(Failure(error))

    def _leave(self) -> None:
        traffic = self._dialog._need_traffic()
        if self in traffic.referrals:
            traffic.referrals.remove(self)
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()


# Answering one


def accept_refer(dialog: Dialog, req: Request, res: Response) -> Referral:
    """Accept a REFER that came in a dialog (202), and tell the peer that it is tried.

    :raises MessageError: when Refer-To is missing, or cannot be read; the REFER is answered 400
        then (RFC 3515 section 2.4.2).
    """
    try:
        values = req.get_all("Refer-To")
        if len(values) != 1:
            raise MessageError("a REFER has one Refer-To header")
        address = sip.Address.parse_with_headers(values[0])
        uri, escaped = split_headers(address.uri)
        sip.Uri.parse(uri)
        replaces = None
        for header in escaped.split("&"):
            name, _, value = header.partition("=")
            if name.lower() == "replaces":
                replaces = _replaced(unquote(value))
    except MessageError:
        res.send(400, "Bad Refer-To Header")
        raise
    res.send(202)
    traffic = dialog._need_traffic()
    traffic.refers += 1
    # The first needs no id (RFC 3515 section 2.4.6).
    event = "refer" if traffic.refers == 1 else f"refer;id={req.cseq.number}"
    referral = Referral(dialog, req, uri, replaces, event)
    referral.notify(100)
    return referral


class Referral:
    """A REFER that was accepted."""

    __slots__ = ("_dialog", "_event", "over", "replaces", "req", "target")

    def __init__(
        self, dialog: Dialog, req: Request, target: str, replaces: sip.Replaces | None, event: str
    ) -> None:
        self._dialog = dialog
        self._event = event
        self.req = req
        """The REFER."""
        self.target = target
        """The URI to be called."""
        self.replaces = replaces
        """The dialog that the new call is to replace there; None for a blind transfer."""
        self.over = False
        """Whether the peer was told the outcome."""

    def notify(self, status: int, reason: str | None = None) -> None:
        """Tell the peer what became of the call; nothing happens once it knows the outcome.

        The peer is told one thing after the other: each when it has answered the one before. A BYE
        of ours waits until it has answered the last.
        """
        if self.over or not self._dialog.connected:
            return
        self.over = status >= 200
        state = "terminated;reason=noresource" if self.over else "active;expires=180"
        phrase = reason_phrase(status) if reason is None else reason
        headers = {
            "Event": self._event,
            "Subscription-State": state,
            "Content-Type": "message/sipfrag;version=2.0",
        }
        self._dialog._tell_peer(headers, status_line(status, phrase).rstrip() + "\r\n")

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers that belong into the INVITE: Replaces and Referred-By."""
        found = []
        if self.replaces is not None:
            found.append(("Replaces", str(self.replaces)))
        referred_by = self.req.get("Referred-By")
        if referred_by and is_legible("Referred-By", referred_by):
            found.append(("Referred-By", referred_by))
        return found

    def follow(
        self,
        *,
        local_sdp: SdpSource = None,
        headers: HeadersLike = None,
        **options: Unpack[CallOptions],
    ) -> Deferred[Dialog]:
        """Call the target, and keep the peer informed.

        :param local_sdp: the offer.
        :param headers: further headers of the INVITE.
        :param options: of :meth:`drachtwist.Srf.create_uac`.
        :returns: the dialog with the target. Fails as ``create_uac`` does, which the peer is told;
            with :exc:`SipError` 416 for a target that is no SIP URI, and 503 for one that the
            server cannot send to: the peer chose it.
        """
        joined = sip.Headers(headers)
        joined.add_missing(self.headers)
        asked = options.get("on_provisional")

        def provisional(response: ReceivedResponse) -> Any:
            if response.status > 100:
                self.notify(response.status, response.reason)
            return None if asked is None else asked(response)

        def done(dialog: Dialog) -> Dialog:
            self.notify(dialog.res.status, dialog.res.reason)
            return dialog

        def failed(failure: Failure) -> Failure:
            error = failure.value
            if isinstance(error, SipError):
                self.notify(error.status, error.reason or None)
            else:
                self.notify(503)
            if isinstance(error, CommandRefused):
                raise SipError(503, reason_phrase(503)) from error
            return failure

        options["on_provisional"] = provisional
        options.setdefault("link", self._dialog)
        try:
            calling = self._dialog.srf.create_uac(
                self.target,
                local_sdp=local_sdp,
                headers=joined.items(),
                **options,
            )
        except LocalProtocolError as error:
            if is_sip_uri(self.target):
                self.notify(503)
                raise
            self.notify(416)
            refusal = SipError(416, reason_phrase(416))
            refusal.__cause__ = error
            return already_failed(refusal)
        except DrachtwistError:
            self.notify(503)
            raise
        return calling.addCallbacks(done, failed)
