"""Requests of the network, and the responses of applications to them.

A new request gets a server transaction at once, goes to the application whose turn it is, and has
64 seconds until its first response; an INVITE that gets none is refused with 480. What the
application does not have to do itself: an INVITE is answered 100 before anybody is looked for; a
CANCEL ends it with 200 and 487; a 2xx is repeated until its ACK comes, and the call ended with a
BYE when it does not; a reliable provisional response is repeated until its PRACK comes, and the
INVITE refused when it does not; what crosses something of the same kind in a dialog is refused.

Which of several things that cross wins: whatever reaches the server first. A response that comes
after the CANCEL is refused, a CANCEL that comes after the 200 is answered 481.
"""

from __future__ import annotations

import os
import random
import re
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from drachtwist.errors import MessageError
from drachtwist.net.sip.flows import Flow
from drachtwist.server.checks import (
    ANY,
    bad_header,
    carries_session,
    scheme_is_known,
    unknown_extensions,
)
from drachtwist.server.compose import Draft, encode, in_brackets, new_tag, read_draft, with_host
from drachtwist.server.dialogs import (
    Dialog,
    DialogState,
    contact_of,
    contact_of_flow,
    dialog_id,
    place_uas,
    record_routes,
    refresh_target,
    uri_of,
)
from drachtwist.server.givingback import FLOOD, GivingBack
from drachtwist.server.incoming import Forwarder, Incoming, Reply
from drachtwist.server.orphans import MOST_HAND_OVERS, REASON, RETRY_AFTER
from drachtwist.server.owncontact import own_contact
from drachtwist.server.roles import Core
from drachtwist.server.routing import OFFERED, Ask, Connect, Give
from drachtwist.sip.derived import cancel_received, hung_up
from drachtwist.sip.encoding import joined, status_line
from drachtwist.sip.fields import RAck, tag_of
from drachtwist.sip.message import Request
from drachtwist.sip.options import RELIABLE, lists_option
from drachtwist.sip.status import reason_phrase
from drachtwist.sip.targets import request_uri_of
from drachtwist.transactions.machine import Effect
from drachtwist.transactions.matching import (
    MergeKey,
    ServerKey,
    cancelled_key,
    cancelled_keys,
    merge_key,
    server_key,
)
from drachtwist.transactions.retransmission import AnswerRepeater, ProvisionalRepeater
from drachtwist.transactions.server import InviteServer, NonInviteServer, trying
from drachtwist.transactions.timer import Timer
from drachtwist.wire.commands import UNSOLICITED
from drachtwist.wire.decisions import Decision, ProxyTo, Redirect, Reject, RouteTo
from drachtwist.wire.reports import response_echo
from drachtwist.wire.session import new_id

if TYPE_CHECKING:
    from drachtwist.server.clients import AppLink

__all__ = ["UserAgentServer"]

_STATUS_LINE = re.compile(r"SIP/2\.0 +([0-9]+)(?: (.*))?", re.IGNORECASE | re.DOTALL)
_REGISTER_AT_ADDRESS = re.compile(
    r"sips?:(?:[^@]*@)?(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:[:;?]|$)", re.I
)
_UNKNOWN = "Response not sent due to unknown transaction"
_NO_DECISION = "Server Internal Error"
_ALLOWED = OFFERED | {"ACK", "BYE", "CANCEL", "PRACK", "REFER", "UPDATE"}
_NO_ANSWER = 'SIP;cause=480;text="No answer of the application"'
_CANCELLED = 'SIP;cause=487;text="cancelled before the PRACK came"'
_LEFT = 'SIP;cause=487;text="The caller left"'
_PRACK_TIMEOUT = 'SIP;cause=504;text="PRACK timeout"'


class UserAgentServer:
    """The server as the one who is asked: the UAS core."""

    __slots__ = ("_arrivals", "core", "early", "giving_back", "held", "open", "transactions")

    def __init__(self, core: Core) -> None:
        self.core = core
        self.held = 0
        """Bytes of all requests whose repeats have to be recognised."""
        self.giving_back = GivingBack(core.clock, lambda: self.held)
        self.transactions: dict[ServerKey, Incoming] = {}
        """All requests whose repeats have to be recognised."""
        self.open: dict[str, Incoming] = {}
        """The requests that applications may answer, by transaction id."""
        self.early: dict[str, Incoming] = {}
        """INVITEs that were answered with provisional responses only, by dialog id."""
        self._arrivals: dict[MergeKey, Incoming] = {}

    def stop(self) -> None:
        """Forget everything."""
        self.transactions.clear()
        self.held = 0
        self.open.clear()
        self.early.clear()
        self._arrivals.clear()

    # Requests

    def received(self, request: Request, flow: Flow, size: int) -> None:
        """Take in a request."""
        method = request.method
        try:
            key = server_key(request)
            if method == "ACK":
                self._ack(request, key, flow, size)
                return
            known = self.transactions.get(key)
            if known is not None:
                self._run(known, known.transaction.receive(request, self.core.clock.seconds()))
                return
            if method == "CANCEL":
                if cancelled_key(request) in self.transactions or not self._spam(request, flow):
                    self._cancel(request, key, flow, size)
                return
            call_id = request.call_id
            from_tag = request.from_.tag or ""
            to_tag = request.to.tag
            if "|" in call_id or "|" in from_tag:
                self._refuse_name(request, "From" if "|" in from_tag else "Call-ID", flow)
                return
            arrival = merge_key(request, from_tag) if to_tag is None else None
        except MessageError as error:
            self.core.complain(flow, error)
            return
        if arrival in self._arrivals:
            if not self._refused_for_load(request, flow):
                self._merged(request, key, flow, size)
            return
        dialog = self.core.dialogs.of_request(call_id, from_tag, to_tag)
        if (
            dialog is None
            and to_tag is not None
            and self.core.proxying.stateless.passes(request, flow)
        ):
            return
        if dialog is None and self._spam(request, flow):
            return
        incoming = Incoming(self, request, method, flow, size)
        incoming.key = key
        incoming.arrival = arrival
        incoming.from_tag = from_tag
        if dialog is not None:
            if not self._refused_for_load(request, flow, dialog, of_a_call=True):
                self._in_dialog(incoming, dialog, to_tag)
            return
        if to_tag is not None:
            early = self.early.get(dialog_id(call_id, from_tag))
            if early is not None and early.to_tag == to_tag:
                if not self._refused_for_load(request, flow, of_a_call=True):
                    self._in_early(incoming, early)
                return
            outgoing = self.core.uac.forming(dialog_id(call_id, to_tag))
            if self._refused_for_load(request, flow, of_a_call=outgoing is not None):
                return
            if outgoing is not None and outgoing.method == "SUBSCRIBE":
                if method == "NOTIFY" and self.core.uac.hold(outgoing, incoming):
                    self._register(incoming)
                    return
            elif outgoing is not None and (
                outgoing.rang if method == "BYE" else method != "INVITE"
            ):
                self._register(incoming)
                incoming.refreshes = True
                if self._requires_too_much(incoming):
                    return
                if method == "UPDATE" and outgoing.offers and carries_session(request):
                    self.refuse(incoming, 491)
                    return
                incoming.link = outgoing.link
                incoming.dialog_id = outgoing.dialog_id
                self._hand_over(incoming)
                if method == "BYE":
                    incoming.dialog_id = ""
                    self._set_alarm(incoming, self.core.timing.lifetime)
                    self.core.uac.left(outgoing, from_tag)
                return
        if not self._refused_for_load(request, flow):
            self._outside(incoming, from_tag, to_tag)

    def _register(self, incoming: Incoming) -> None:
        """Begin the transaction of a request."""
        kind: Any = InviteServer if incoming.method == "INVITE" else NonInviteServer
        core = self.core
        incoming.transaction = transaction = kind(
            incoming.request, reliable=incoming.flow.reliable, timing=core.timing
        )
        transaction.owner = incoming
        self.transactions[incoming.key] = incoming
        self.held += incoming.size
        if self.held >= FLOOD:
            self.giving_back.began()
        self.open[incoming.id] = incoming
        if incoming.arrival is not None:
            self._arrivals[incoming.arrival] = incoming

    def _refused_for_load(
        self, request: Request, flow: Flow, dialog: Dialog | None = None, *, of_a_call: bool = False
    ) -> bool:
        """Send a request away if there are too many; say whether it is (RFC 3261 section 8.2.7).

        What belongs to a call may fill as much again, so that a flood of others does not harm it;
        and beyond that a BYE still ends its dialog, of which there is one for each.

        :param dialog: the one that it is in, if there is one.
        :param of_a_call: whether it belongs to a call, one that is being set up too.
        """
        core = self.core
        limits = core.limits
        most = 2 if of_a_call else 1
        if (
            len(self.transactions) < most * limits.transactions
            and self.held < most * limits.transaction_bytes
        ):
            return False
        if dialog is not None and _is_sure_to_end(dialog, request):
            return False
        core.alerts.note(
            "transactions",
            "too many transactions: new requests get 503, the last from {peer}",
            peer=flow.remote_host,
        )
        core.send_away(request, flow, 503, lines=(RETRY_AFTER,))
        return True

    def _refuse_name(self, request: Request, header: str, flow: Flow) -> None:
        """Refuse a Call-ID or tag that would shift the tokens of frames, and name another's dialog.

        Nothing is remembered of it: a repeat gets the same answer again.
        """
        self.core.complain(flow, MessageError(f"a bar in the {header} of {request.method}"))
        self.core.send_away(request, flow, 400, f"Bad {header} Header")

    def _merged(self, request: Request, key: ServerKey, flow: Flow, size: int) -> None:
        """Refuse a request that came here before, by another way (RFC 3261 section 8.2.2.2)."""
        incoming = Incoming(self, request, request.method, flow, size)
        incoming.key = key
        self._register(incoming)
        self.refuse(incoming, 482, record=False)

    def _requires_too_much(self, incoming: Incoming) -> bool:
        """Refuse a request that requires what nobody knows (section 8.2.2.3); say whether it is."""
        known = self.core.config.extensions
        if ANY in known:
            return False
        unknown = unknown_extensions(incoming.request, "Require", known)
        if unknown:
            self.refuse(incoming, 420, lines=(f"Unsupported: {', '.join(unknown)}",))
        return bool(unknown)

    def _hand_over(self, incoming: Incoming) -> None:
        """Hand a request of a dialog to the owner of the dialog."""
        flow = incoming.flow
        self.core.deliver(
            incoming.link,
            incoming.size,
            flow.reported,
            flow.remote_host,
            flow.remote_port,
            incoming.id,
            incoming.dialog_id,
            incoming.request.raw,
        )

    def _outside(self, incoming: Incoming, from_tag: str, to_tag: str | None) -> None:
        """Look at a request that belongs to no dialog."""
        method = incoming.method
        request = incoming.request
        core = self.core
        if method in ("BYE", "UPDATE"):
            self._register(incoming)
            self.refuse(incoming, 481)
            return
        if method not in OFFERED:
            self._refuse_method(incoming)
            return
        if not scheme_is_known(request):
            self._register(incoming)
            self.refuse(incoming, 416)
            return
        if self._answered_alone(incoming):
            return
        problem = bad_header(request)
        if problem is not None:
            self._register(incoming)
            self.refuse(incoming, 400, problem)
            return
        self._register(incoming)
        if self._requires_too_much(incoming):
            return
        if method == "INVITE":
            core.carriers.send(incoming.flow, trying(request))
            if to_tag is not None:
                self.refuse(incoming, 481)
                return
            if core.config.always_send_180:
                incoming.to_tag = new_tag()
                raw = joined(status_line(180), incoming.lines(180))
                core.carriers.send(incoming.flow, raw)
            core.record("attempt", "network", request.raw)
        if method in ("INVITE", "SUBSCRIBE"):
            incoming.dialog_id = dialog_id(request.call_id, from_tag)
        choice = core.router.choose(method)
        if isinstance(choice, Give):
            self._set_alarm(incoming, core.config.answer_within)
            self.give(incoming, choice.link)
        elif isinstance(choice, Connect):
            self._set_alarm(incoming, core.config.answer_within)
            core.connector.connect(choice.address, incoming)
        elif isinstance(choice, Ask):
            self._set_alarm(incoming, core.config.answer_within)
            core.connector.ask(choice.handler, incoming)
        elif core.clients.are_behind(method.lower()):
            core.alerts.note("behind", "all applications are far behind: new requests get 503")
            self.refuse(incoming, 503, lines=(RETRY_AFTER,))
        else:
            self.refuse(incoming, 503)

    def _spam(self, request: Request, flow: Flow) -> bool:
        """Do away with a request of a spammer, without a transaction; say whether it was one."""
        core = self.core
        spammers = core.config.spammers
        found = None if spammers is None else spammers.find(request)
        if found is None or spammers is None:
            return False
        core.complain(flow, MessageError(f"a spammer, by its {found}"), "spammers")
        if spammers.rejects(reliable=flow.reliable):
            core.send_away(request, flow, 603, "Decline")
        return True

    def _refuse_method(self, incoming: Incoming) -> None:
        """Answer a request that no application can be given outside of a dialog."""
        method = incoming.method
        if method == "ACK":
            return
        self._register(incoming)
        if method == "PRACK":
            self.refuse(incoming, 481)
        else:
            allowed = f"Allow: {', '.join(sorted(_ALLOWED))}"
            self.refuse(incoming, 405 if method == "REFER" else 501, lines=(allowed,))

    def _answered_alone(self, incoming: Incoming) -> bool:
        """Answer what no application is bothered with; say whether it was that."""
        config = self.core.config
        request = incoming.request
        if config.reject_register_with_no_realm and incoming.method == "REGISTER":
            status = 403 if _REGISTER_AT_ADDRESS.match(request.uri) else 0
        elif config.options_user_agent is not None and incoming.method == "OPTIONS":
            status = 200 if request.get("User-Agent") == config.options_user_agent else 0
        else:
            return False
        if status:
            self._register(incoming)
            self.refuse(incoming, status)
        return status != 0

    def give(self, incoming: Incoming, link: AppLink) -> None:
        """Give a new request to an application.

        One that was cancelled meanwhile is given with its CANCEL, so that the application knows.
        """
        cancelled = incoming.cancelled
        if not incoming.is_open and cancelled is None:
            return
        incoming.link = link
        incoming.hand_overs += 1
        flow = incoming.flow
        self.core.deliver(
            link,
            incoming.size,
            flow.reported,
            flow.remote_host,
            flow.remote_port,
            incoming.id,
            "",
            incoming.request.raw,
            f"{flow.local_host}|{flow.local_port}|",
        )
        if cancelled is not None:
            incoming.cancelled = None
            self._tell_cancelled(incoming, *cancelled, "")

    def _too_brief(self, incoming: Incoming) -> None:
        """Refuse a session interval (RFC 4028 section 6)."""
        status = 422
        self._fix_tag(incoming, status, None)
        lines = [*incoming.lines(status), f"Min-SE: {self.core.sessions.minimum}"]
        self._send(incoming, status, joined(status_line(status), lines), 0)
        self._close(incoming)

    def decided(self, incoming: Incoming, decision: Decision | None) -> None:
        """Do what a web application decided about a request.

        One that was cancelled meanwhile still goes to an application, with its CANCEL.

        :param decision: None when there is none, because it failed.
        """
        core = self.core
        if not incoming.is_open and incoming.cancelled is None:
            return
        if isinstance(decision, RouteTo):
            if decision.address is not None:
                core.connector.connect(decision.address, incoming)
                return
            link = core.clients.pick(incoming.method.lower(), decision.tag)
            if link is not None:
                incoming.tag = decision.tag
                self.give(incoming, link)
                return
            decision = Reject(480)
        if not incoming.is_open:
            return
        if isinstance(decision, Reject):
            self._say(incoming, decision.status, decision.reason, ())
        elif isinstance(decision, Redirect):
            contacts = [with_host(one, incoming.flow.local) for one in decision.contacts]
            bracketed = [in_brackets(one) for one in contacts]
            if None in bracketed:
                self._say(incoming, 500, _NO_DECISION, ())
            else:
                self._say(incoming, 302, "Moved", bracketed)  # type: ignore[arg-type]
        elif isinstance(decision, ProxyTo):
            core.proxying.forward(incoming, decision)
        else:
            self._say(incoming, 500, _NO_DECISION, ())

    def _say(
        self, incoming: Incoming, status: int, reason: str | None, contacts: Sequence[str]
    ) -> None:
        """Answer a request as a web application decided."""
        self._fix_tag(incoming, status, None)
        phrase = reason_phrase(status) if reason is None else reason
        phrase = re.sub("[\r\n\0]+", " ", phrase)
        if 200 <= status < 300 and incoming.method == "INVITE":
            contacts = (contact_of_flow(incoming.flow),)
        lines = incoming.lines(status) + [f"Contact: {contact}" for contact in contacts]
        raw = joined(status_line(status, phrase), lines)
        self._set_alarm(incoming, None)
        self._send(incoming, status, raw, 0)
        if status >= 200:
            self._close(incoming)

    def admit(self, incoming: Incoming) -> None:
        """Look again at a NOTIFY that came before the answer to its SUBSCRIBE.

        It does overtake that answer, and is as good as it (RFC 6665 section 4.1.3).
        """
        request = incoming.request
        dialog = self.core.dialogs.of_request(request.call_id, incoming.from_tag, request.to.tag)
        if dialog is None:
            self.refuse(incoming, 481)
        else:
            self._in_dialog(incoming, dialog, request.to.tag)

    def _in_dialog(self, incoming: Incoming, dialog: Dialog, to_tag: str | None) -> None:
        """Look at a request in a dialog."""
        method = incoming.method
        request = incoming.request
        core = self.core
        if incoming.key not in self.transactions:
            self._register(incoming)
        incoming.refreshes = True
        if method == "INVITE":
            core.carriers.send(incoming.flow, trying(request))
            if to_tag is None:
                incoming.to_tag = new_tag()
                self.refuse(incoming, 491)
                return
        elif to_tag is None:
            incoming.to_tag = dialog.local_tag
        number = request.cseq.number
        if number < dialog.peer_seq:
            self.refuse(incoming, 500)
            return
        dialog.peer_seq = number
        if self._requires_too_much(incoming):
            return
        if method == "INVITE" and not request.has("Contact"):
            self.refuse(incoming, 400, "Bad Request")
            return
        if method in ("INVITE", "UPDATE") and self._has_to_wait(incoming, dialog):
            return
        if method in ("INVITE", "UPDATE") and core.sessions.is_too_short(request):
            self._too_brief(incoming)
            return
        if method == "PRACK" and dialog.early and isinstance(dialog.origin, Incoming):
            self._prack(incoming, dialog.origin)
            return
        if dialog.link is None or dialog.link not in core.clients:
            self._answer_for_gone(incoming, dialog)
            return
        incoming.link = dialog.link
        incoming.dialog = dialog
        incoming.dialog_id = dialog.id
        if method == "BYE":
            self._hand_over(incoming)
            self.end(dialog)
            incoming.dialog_id = ""
            self._set_alarm(incoming, core.timing.lifetime)
            outgoing = core.uac.forming(dialog.id) if dialog.early else None
            if outgoing is not None:
                core.uac.left(outgoing, incoming.from_tag)
            else:
                core.record("stop", "network", request.raw, "normal-release")
            return
        if method == "NOTIFY" and dialog.method == "SUBSCRIBE" and request.subscription_is_over:
            self._hand_over(incoming)
            self.end(dialog)
            return
        dialog.open.append(incoming)
        self._hand_over(incoming)

    def _answer_for_gone(self, incoming: Incoming, dialog: Dialog | None = None) -> None:
        """Answer a request in a dialog whose application is gone, so that the dialog goes on.

        :param dialog: the one that it came in, if it ends that.
        """
        method = incoming.method
        ends = method == "BYE"
        if dialog is not None and method == "NOTIFY" and dialog.method == "SUBSCRIBE":
            ends = incoming.request.subscription_is_over
        if ends and dialog is not None:
            self.end(dialog)
            if method == "BYE":
                self.core.record("stop", "network", incoming.request.raw, "normal-release")
        if ends or method == "PRACK":
            self.refuse(incoming, 200)
        else:
            self.refuse(incoming, 500, lines=(RETRY_AFTER,))

    def abandoned(self, link: AppLink) -> int:
        """Answer the requests that an application had which is gone, or give them to another.

        :returns: how many were answered.
        """
        count = 0
        for incoming in [one for one in self.open.values() if one.link is link]:
            if not incoming.is_open or incoming.transaction.status >= 200:
                continue
            if incoming.refreshes:
                self._answer_for_gone(incoming)
            elif self._hand_on(incoming):
                continue
            elif incoming.untouched and not incoming.dialled and incoming.tag is None:
                self.refuse(incoming, 503, lines=(RETRY_AFTER,))
            else:
                self.refuse(incoming, 480, lines=(RETRY_AFTER, f"Reason: {REASON}"))
            count += 1
        return count

    def _hand_on(self, incoming: Incoming) -> bool:
        """Give a new request to the next application, as long as nobody has touched it."""
        if incoming.dialled or not incoming.untouched or incoming.hand_overs >= MOST_HAND_OVERS:
            return False
        core = self.core
        link = core.clients.pick(incoming.method.lower(), incoming.tag)
        if link is None:
            return False
        core.handed_on += 1
        self.give(incoming, link)
        return True

    def _has_to_wait(self, incoming: Incoming, dialog: Dialog) -> bool:
        """Refuse what crosses something of the same kind; say whether it does.

        What is under way from here is a 491, what is under way from the peer a 500 with
        Retry-After (RFC 3261 section 14.2, RFC 3311 section 5.2).
        """
        method = incoming.method
        offers = carries_session(incoming.request)
        invites = method == "INVITE"
        if any(
            (invites and one.method == "INVITE") or ((invites or offers) and one.offers)
            for one in dialog.asked
        ):
            self.refuse(incoming, 491)
        elif any(
            one.method == method
            or (offers and one.method in ("INVITE", "UPDATE") and carries_session(one.request))
            for one in dialog.open
        ):
            self._refuse_for_now(incoming)
        else:
            return False
        return True

    def _refuse_for_now(self, incoming: Incoming) -> None:
        """Let the peer ask once more, within ten seconds."""
        self.refuse(incoming, 500, lines=(f"Retry-After: {random.randint(0, 10)}",))

    def _in_early(self, incoming: Incoming, invite: Incoming) -> None:
        """Look at a request in a call of the peer that is not answered finally."""
        method = incoming.method
        self._register(incoming)
        incoming.refreshes = True
        number = incoming.request.cseq.number
        if number < (invite.peer_seq or invite.request.cseq.number):
            self.refuse(incoming, 500)
            return
        invite.peer_seq = number
        if self._requires_too_much(incoming):
            return
        if method == "PRACK":
            self._prack(incoming, invite)
        elif method == "BYE":
            self._left(incoming, invite)
        elif method == "INVITE":
            self.core.carriers.send(incoming.flow, trying(incoming.request))
            self._refuse_for_now(incoming)
        else:
            if method == "UPDATE":
                if self._has_to_wait_early(incoming, invite):
                    return
                invite.update = incoming
                self._set_alarm(incoming, self.core.timing.lifetime)
            incoming.link = invite.link
            incoming.dialog_id = invite.dialog_id
            self._hand_over(incoming)

    def _left(self, bye: Incoming, invite: Incoming) -> None:
        """End a call that its caller leaves before it is answered (RFC 3261 section 15.1.2).

        The application hears what it hears of every caller that gives up. Behind a PRACK it gets
        the BYE too, as from the real server, and answers that.
        """
        accepted = invite.accepted
        was_open = invite.is_open
        if invite.pracked and not accepted:
            bye.link = invite.link
            bye.dialog_id = invite.dialog_id
            self._hand_over(bye)
            bye.dialog_id = ""
            self._set_alarm(bye, self.core.timing.lifetime)
        else:
            self.refuse(bye, 200)
        self.refuse(invite, 487)
        if invite.proxied is not None:
            invite.proxied.caller_cancelled(bye.request)
        elif not was_open:
            return
        elif accepted:
            self._tell_ended(invite, _LEFT)
        else:
            self._tell_given_up(invite, invite.dialog_id, *bye.request.get_all("Reason"))

    def early_dialog(self, name: str) -> Dialog | None:
        """Return the dialog of a caller whose INVITE is not finally answered; None without one."""
        invite = self.early.get(name)
        if invite is None or invite.transaction.status >= 200:
            return None
        if invite.early_dialog is None:
            invite.early_dialog = dialog = Dialog()
            dialog.contact = contact_of_flow(invite.flow)
            self._fill(dialog, invite)
        return invite.early_dialog

    def _has_to_wait_early(self, update: Incoming, invite: Incoming) -> bool:
        """Refuse an UPDATE that crosses an offer or another UPDATE; say whether it does.

        A description in a response that was not reliable is taken as the answer, too.
        """
        offers = carries_session(update.request)
        asked = () if invite.early_dialog is None else invite.early_dialog.asked
        if offers and (invite.offering or any(one.offers for one in asked)):
            self.refuse(update, 491)
        elif (invite.update is not None and invite.update.transaction.status < 200) or (
            offers and not invite.described and carries_session(invite.request)
        ):
            self._refuse_for_now(update)
        else:
            return False
        return True

    def _prack(self, incoming: Incoming, invite: Incoming) -> None:
        """Look at a PRACK for a response to an INVITE (RFC 3262 section 3)."""
        repeater = invite.repeater
        try:
            # As the real server, this takes it that more follows: phones write the method twice.
            words = (incoming.request.get("RAck") or "").split(None, 3)
            rack = RAck.parse(" ".join(words[:3]))
            fits = (
                type(repeater) is ProvisionalRepeater
                and rack.rseq == repeater.rseq
                and rack.cseq == invite.request.cseq.number
                and rack.method == "INVITE"
            )
        except MessageError:
            fits = False
        if not fits:
            self.refuse(incoming, 481)
            return
        assert repeater is not None
        self._confirm(invite)
        invite.offering = False
        if invite.silent:
            self.refuse(incoming, 200)
        else:
            invite.pracked = True
            incoming.link = invite.link
            incoming.dialog_id = invite.dialog_id
            self._hand_over(incoming)
        self._send_waiting(invite)

    def _send_waiting(self, invite: Incoming) -> None:
        """Send the responses to an INVITE that waited, up to the next reliable one."""
        queue = invite.queue
        while queue and not invite.has_to_wait(queue[0].status):
            self._reply(invite, queue.popleft())

    def _ack(self, request: Request, key: ServerKey, flow: Flow, size: int) -> None:
        """Look at an ACK: it ends the repeats of a response, and belongs to a dialog if 2xx."""
        core = self.core
        known = self.transactions.get(key)
        if known is not None and known.transaction.status >= 300:
            self._close(known)
            self._run(known, known.transaction.receive(request, core.clock.seconds()))
            return
        call_id = request.call_id
        dialog = core.dialogs.of_request(call_id, request.from_.tag or "", request.to.tag)
        if dialog is None:
            core.proxying.stateless.passes(request, flow)
            return
        transaction_id = ""
        invite = dialog.answers
        if isinstance(invite, Incoming) and invite.request.cseq.number == request.cseq.number:
            dialog.answers = None
            if not invite.refreshes:
                transaction_id = invite.id
            self._confirm(invite)
            self._close(invite)
        core.deliver(
            dialog.link,
            size,
            "",
            flow.remote_host,
            flow.remote_port,
            transaction_id or new_id(),
            dialog.id,
            request.raw,
        )

    def _cancel(self, request: Request, key: ServerKey, flow: Flow, size: int) -> None:
        """Look at a CANCEL (RFC 3261 section 9.2)."""
        invite = self.transactions.get(cancelled_key(request))
        if invite is None:
            found = map(self.transactions.get, cancelled_keys(request))
            invite = next((one for one in found if one is not None), None)
        if invite is None and (
            self.core.proxying.stateless.passes(request, flow)
            or self._refused_for_load(request, flow)
        ):
            return
        cancel = Incoming(self, request, "CANCEL", flow, size)
        named = request.to_tag is not None  # SIPp writes the tag of the 180 that it has seen
        cancel.key = key
        self._register(cancel)
        status = 0 if invite is None else invite.transaction.status
        if invite is None or (invite.method == "INVITE" and 200 <= status < 300):
            if invite is not None and not named:
                cancel.to_tag = invite.to_tag
            self.refuse(cancel, 481)
            return
        if invite.method != "INVITE":
            # It has no effect, but is answered (section 9.2).
            self.refuse(cancel, 200)
            return
        if not invite.to_tag and not invite.refreshes:
            invite.to_tag = new_tag()
        if not named:
            cancel.to_tag = invite.to_tag
        self.refuse(cancel, 200)
        if status >= 300:
            return
        self._set_alarm(invite, None)
        was_open = invite.is_open
        self.refuse(invite, 487, record=False)
        core = self.core
        if invite.proxied is not None:
            core.record("stop", "application", invite.request.raw, "call-rejected")
            invite.proxied.caller_cancelled(request)
            return
        if invite.refreshes or not was_open:
            return
        core.record("stop", "network", invite.request.raw, "call-canceled")
        if invite.link is None:
            invite.cancelled = (size, request.raw)
        elif invite.accepted:
            self._tell_ended(invite, _CANCELLED)
        elif status == 0:
            self._tell_cancelled(invite, size, request.raw, "")
        else:
            self._tell_cancelled(invite, invite.size, request.raw, invite.dialog_id)

    def _tell_cancelled(self, invite: Incoming, size: int, raw: bytes, name: str) -> None:
        flow = invite.flow
        self.core.deliver(
            invite.link,
            size,
            flow.reported,
            flow.remote_host,
            flow.remote_port,
            invite.id,
            name,
            raw,
        )

    def _tell_given_up(self, invite: Incoming, name: str, *reasons: str) -> None:
        """Tell an application that an INVITE is over without a CANCEL.

        That looks as if the caller had cancelled, which every application understands.
        """
        self._tell_cancelled(invite, 0, cancel_received(invite.request, reasons), name)

    def _tell_ended(self, invite: Incoming, reason: str) -> None:
        """End a call for an application that takes it for accepted: its 200 was never sent."""
        request, flow = invite.request, invite.flow
        contact = contact_of(request)
        uri = f"sip:{flow.remote}" if contact is None else contact.uri
        raw = hung_up(request, invite.to_tag, uri, reason)
        self.core.deliver(
            invite.link,
            len(raw),
            flow.reported,
            flow.local_host,
            flow.local_port,
            UNSOLICITED,
            invite.dialog_id,
            raw,
            source="application",
        )

    # Responses

    def answer(self, link: AppLink, message_id: str, transaction_id: str, message: bytes) -> None:
        """Send a response of an application, and answer the command."""
        incoming = self.open.get(transaction_id)
        if incoming is None:
            text = _UNKNOWN
            head = message.partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
            if re.search(r"\ncseq[ \t]*:[ \t]*\d+[ \t]+CANCEL\b", head, re.IGNORECASE):
                text = "200 OK to incoming CANCEL is automatically generated by the stack"
            link.answer(message_id, "NOK", text)
            return
        draft = read_draft(message, checked=False)
        found = _STATUS_LINE.fullmatch(draft.start.strip())
        status = int(found[1]) if found is not None and len(found[1]) < 6 else 0
        if found is None or not 100 <= status <= 699:
            link.answer(message_id, "NOK", "Unknown server error sending response")
            if status >= 700:
                self.refuse(incoming, 500)
            return
        if incoming.link is None or incoming.link not in self.core.clients:
            incoming.link = link
        transaction = incoming.transaction
        if transaction.status >= 200:
            raw = transaction.last_response
            assert raw is not None
            self._echo(link, message_id, incoming, raw, "")
            return
        if not self.core.carriers.is_open(incoming.flow):
            text = "transport for response has been shutdown or closed"
            if transaction.status == 0:
                text = _UNKNOWN
            link.answer(message_id, "NOK", text)
            self._set_alarm(incoming, None)
            self._close(incoming)
            self.early.pop(incoming.dialog_id, None)
            self.forget(incoming)
            return
        reason = found[2] or ""
        problem = self._respond(link, message_id, incoming, status, reason, draft)
        if problem is not None:
            link.answer(message_id, "NOK", problem)

    def _respond(
        self,
        link: AppLink,
        message_id: str,
        incoming: Incoming,
        status: int,
        reason: str,
        draft: Draft,
    ) -> str | None:
        """Complete and send a response; say what is wrong, if anything."""
        method = incoming.method
        flow = incoming.flow
        request = incoming.request
        initial = not incoming.refreshes
        if not draft.complete_type():
            draft.add("Content-Type", "application/octet-stream")
        self._fix_tag(incoming, status, draft)
        reliable = silent = False
        if initial and method == "INVITE":
            if 100 < status < 200:
                asked = lists_option(draft.values("require"), RELIABLE)
                required = request.requires(RELIABLE)
                if asked and not request.supports(RELIABLE):
                    return "Remote endpoint does not support 100rel"
                reliable = asked or required
                silent = reliable and not asked
            elif 200 <= status < 300 and self.core.dialogs.uas(incoming.dialog_id) is not None:
                self.refuse(incoming, 480)
                return "dialog already exists, rejecting this request"
        self._set_alarm(incoming, None)
        secure = request.uri[:5].lower() == "sips:"
        if draft.contact is not None:
            draft.change_contacts(
                lambda one: (
                    own_contact(one, flow.protocol, flow.local, secure=secure)
                    if "localhost" in one
                    else one
                )
            )
        if draft.contact is None and self._needs_contact(incoming, status, reliable):
            dialog = incoming.dialog
            ours = contact_of_flow(flow, secure=secure) if dialog is None else dialog.contact
            draft.add("Contact", ours)
        session = None
        if initial and method == "INVITE" and 200 <= status < 300:
            session = self.core.sessions.offer_answered(incoming, draft)
        elif incoming.dialog is not None and method in ("INVITE", "UPDATE") and 200 <= status < 300:
            self.core.sessions.refresh_answered(incoming.dialog, request, draft)
        if reliable:
            if not incoming.rseq:
                incoming.rseq = 1 + int.from_bytes(os.urandom(4), "big") % 0x3FFFFFFF
            else:
                incoming.rseq += 1
            draft.add("RSeq", str(incoming.rseq))
            if silent:
                draft.add("Require", RELIABLE)
        start = status_line(status, reason)
        raw = encode(start, incoming.lines(status), draft.fields, draft.body)
        reply = Reply(status, raw, incoming.rseq if reliable else 0, silent, draft.body, session)
        name = incoming.dialog_id
        if incoming.has_to_wait(status):
            # It counts as sent.
            if incoming.queue is None:
                incoming.queue = deque()
            incoming.queue.append(reply)
        else:
            self._reply(incoming, reply)
        self._echo(link, message_id, incoming, raw, name)
        return None

    def _reply(self, incoming: Incoming, reply: Reply) -> None:
        """Send a response of the application, and begin what it agrees on."""
        status = reply.status
        incoming.silent = reply.silent
        if reply.body and not incoming.described:
            incoming.described = True
            incoming.offering = reply.rseq != 0 and not carries_session(incoming.request)
        self._send(incoming, status, reply.raw, reply.rseq)
        dialog = incoming.dialog
        if dialog is not None and incoming.method in ("INVITE", "UPDATE") and 200 <= status < 300:
            if reply.body:
                dialog.sdp = reply.body
            if reply.session is not None:
                self.core.sessions.begin(dialog, *reply.session)

    def _needs_contact(self, incoming: Incoming, status: int, reliable: bool) -> bool:
        method = incoming.method
        if method == "INVITE":
            if incoming.refreshes:
                return status > 100
            # The real server leaves it out when the application did not ask for a reliable one;
            # then no PRACK finds its way through a proxy.
            return reliable or 200 <= status < 300
        if method == "SUBSCRIBE":
            return incoming.refreshes or 200 <= status < 300
        return False

    def _fix_tag(self, incoming: Incoming, status: int, draft: Draft | None) -> None:
        """See to the To tag: the application's in its first response, or one of ours."""
        if incoming.to_tag or status <= 100:
            return
        request = incoming.request
        if request.to_tag is not None:
            return
        if draft is not None:
            incoming.to_tag = tag_of(draft.apart.get("to")) or ""
        if not incoming.to_tag:
            incoming.to_tag = new_tag()

    def _send(self, incoming: Incoming, status: int, raw: bytes, rseq: int = 0) -> None:
        """Send a complete response, and do what follows from it.

        :param rseq: its RSeq, 0 when it has none.
        """
        core = self.core
        now = core.clock.seconds()
        transaction = incoming.transaction
        initial = not incoming.refreshes
        if incoming.method == "INVITE":
            if status >= 200:
                if type(incoming.repeater) is ProvisionalRepeater:
                    self._confirm(incoming)
                if initial:
                    self.early.pop(incoming.dialog_id, None)
            elif status > 100 and initial:
                self.early.setdefault(incoming.dialog_id, incoming)
                if rseq:
                    incoming.repeater = repeater = ProvisionalRepeater(
                        raw, now, rseq, timing=core.timing, repeat=not incoming.flow.reliable
                    )
                    repeater.owner = incoming
                    core.watch(repeater)
            if initial and 200 <= status < 300:
                self._establish(incoming, raw, now)
            elif 200 <= status < 300 and incoming.dialog is not None:
                # The real server repeats this only when asked; but the 200 may get lost.
                self._repeat(incoming, raw, now, incoming.dialog)
            if status >= 300 and initial:
                reason = "call-canceled" if status == 487 else "call-rejected"
                core.record("stop", "application", raw, reason)
        else:
            if status in (200, 202) and initial and incoming.method == "SUBSCRIBE":
                self._make_dialog(incoming, raw)
                core.registered.accepted(incoming.request, incoming.flow, raw)
            elif status == 200 and initial and incoming.method == "REGISTER":
                core.registered.accepted(incoming.request, incoming.flow, raw)
        if not initial and 200 <= status < 300:
            self._refresh_target(incoming)
        if status >= 200:
            # The ACK of a failure, or of a 200, comes later; nothing comes for any other.
            if incoming.method != "INVITE" or (status < 300 and incoming.dialog is None):
                self._close(incoming)
            dialog = incoming.dialog
            if dialog is not None and incoming in dialog.open:
                dialog.open.remove(incoming)
        self._run(incoming, transaction.respond_bytes(status, raw, now))
        if status >= 200 and incoming.method == "UPDATE" and incoming.dialog is None:
            self._update_over(incoming)

    def _update_over(self, update: Incoming) -> None:
        """An UPDATE in an early dialog is answered, or nobody waits for that any more."""
        invite = self.early.get(update.dialog_id)
        if invite is not None and invite.update is update:
            invite.update = None
            self._send_waiting(invite)

    def _refresh_target(self, incoming: Incoming) -> None:
        """Go where the Contact of an accepted request says from now on (section 12.2.2)."""
        dialog = incoming.dialog
        if dialog is not None:
            if dialog.is_refreshed_by(incoming.method):
                nat = self.core.config.nat_detection
                refresh_target(dialog, incoming.request, incoming.flow, nat)
        elif incoming.method == "UPDATE":
            invite = self.early.get(incoming.dialog_id)
            contact = contact_of(incoming.request)
            if invite is not None and contact is not None:
                invite.target = (contact, incoming.flow)

    def _establish(self, invite: Incoming, raw: bytes, now: float) -> None:
        """Begin the dialog of a call that is answered."""
        dialog = self._make_dialog(invite, raw)
        self._repeat(invite, raw, now, dialog)
        self.core.record("start", "application", raw, "uas")

    def _repeat(self, invite: Incoming, raw: bytes, now: float, dialog: Dialog) -> None:
        """Repeat a 2xx until its ACK comes."""
        core = self.core
        if isinstance(dialog.answers, Incoming):
            self._confirm(dialog.answers)
        dialog.answers = invite
        invite.repeater = repeater = AnswerRepeater(
            raw, now, timing=core.timing, repeat=not invite.flow.reliable
        )
        repeater.owner = invite
        core.watch(repeater)

    def _make_dialog(self, incoming: Incoming, raw: bytes) -> Dialog:
        dialog = incoming.early_dialog
        incoming.early_dialog = None
        if dialog is None:
            dialog = Dialog()
        dialog.become(DialogState.CONFIRMED)
        self._fill(dialog, incoming)
        head = Request.from_bytes(raw)
        dialog.contact = head.get("Contact") or contact_of_flow(incoming.flow)
        incoming.dialog = dialog
        core = self.core
        core.dialogs.add(dialog)
        if dialog.link is None or dialog.link not in core.clients:
            core.orphans.add(dialog)
        return dialog

    def _fill(self, dialog: Dialog, incoming: Incoming) -> None:
        """Fill a dialog with what the request says that makes it."""
        request = incoming.request
        dialog.id = incoming.dialog_id
        dialog.is_uas = True
        dialog.method = incoming.method
        dialog.link = incoming.link
        dialog.call_id = request.call_id
        to = request.get("To") or ""
        dialog.local = f"{in_brackets(to) or to};tag={incoming.to_tag}"
        remote = request.get("From") or ""
        dialog.remote = in_brackets(remote) or remote
        dialog.local_tag = incoming.to_tag
        dialog.remote_tag = incoming.from_tag
        number = request.cseq.number
        dialog.seq = max(number, dialog.seq)
        dialog.peer_seq = max(number, incoming.peer_seq)
        contact, flow = incoming.target or (contact_of(request), incoming.flow)
        if contact is None:
            dialog.target = uri_of(flow.protocol, flow.remote)
        else:
            dialog.target = request_uri_of(contact.uri)
        dialog.routes = record_routes(request)
        dialog.origin = incoming
        dialog.flow = None
        place_uas(dialog, flow, contact, self.core.config.nat_detection)

    def refuse(
        self,
        incoming: Incoming,
        status: int,
        reason: str | None = None,
        *,
        record: bool = True,
        lines: Sequence[str] = (),
    ) -> None:
        """Answer a request without an application; it is over for applications."""
        transaction = incoming.transaction
        self._set_alarm(incoming, None)
        self._close(incoming)
        if transaction.status >= 200:
            return
        self._fix_tag(incoming, status, None)
        raw = joined(status_line(status, reason), [*incoming.lines(status), *lines])
        if record or incoming.method != "INVITE":
            self._send(incoming, status, raw)
            return
        if type(incoming.repeater) is ProvisionalRepeater:
            self._confirm(incoming)
        self.early.pop(incoming.dialog_id, None)
        if incoming.dialog is not None and incoming in incoming.dialog.open:
            incoming.dialog.open.remove(incoming)
        self._run(incoming, transaction.respond_bytes(status, raw, self.core.clock.seconds()))

    def _echo(
        self, link: AppLink, message_id: str, incoming: Incoming, raw: bytes, name: str
    ) -> None:
        flow = incoming.flow
        link.answer(
            message_id,
            "OK",
            *response_echo(
                len(raw),
                flow.reported if incoming.method == "INVITE" else "",
                flow.remote_host,
                flow.remote_port,
                self.core.time_of_day(),
                incoming.id,
                name,
            ),
            raw=raw,
        )

    # Ends

    def end(self, dialog: Dialog) -> None:
        """Forget a dialog; what the application has not answered in it is answered 500."""
        self.core.dialogs.remove(dialog)
        self.core.sessions.end(dialog)
        if dialog.link is None:
            self.core.orphans.over(dialog)
        answers = dialog.answers
        if isinstance(answers, Incoming):
            dialog.answers = None
            self._confirm(answers)
            self._close(answers)
        dialog.origin = None
        for incoming in [one for one in dialog.open if isinstance(one, Incoming)]:
            self.refuse(incoming, 500)
        dialog.open.clear()

    def expired(self, incoming: Incoming) -> None:
        """An application let its time pass."""
        if incoming.method == "BYE":
            self.refuse(incoming, 500)
            return
        if incoming.method == "INVITE":
            self.refuse(incoming, 480)
            self._tell_given_up(incoming, "", _NO_ANSWER)
            return
        # Whoever sent anything else gave up long ago, and wants no answer now (RFC 4320).
        self.forget(incoming)
        if incoming.method == "UPDATE":
            self._update_over(incoming)

    def unconfirmed(self, incoming: Incoming) -> None:
        """The ACK of a 2xx, or the PRACK of a provisional response, did not come."""
        core = self.core
        if type(incoming.repeater) is ProvisionalRepeater:
            incoming.repeater = None
            if incoming.transaction.status >= 200:
                return
            self.refuse(incoming, 504)
            if incoming.accepted:
                self._tell_ended(incoming, _PRACK_TIMEOUT)
            else:
                self._tell_given_up(incoming, incoming.dialog_id, _PRACK_TIMEOUT)
            return
        incoming.repeater = None
        self._close(incoming)
        dialog = incoming.dialog
        if dialog is None or dialog.answers is not incoming:
            return
        dialog.answers = None
        core.uac.bye(dialog, "ACK timeout")
        self.end(dialog)

    def taken(self, incoming: Incoming, call: Forwarder) -> None:
        """Let a request be proxied: no application can answer it any more."""
        self._set_alarm(incoming, None)
        self._close(incoming)
        self._let_copies_in(incoming)
        incoming.proxied = call

    def forget(self, incoming: Incoming) -> None:
        """Forget a transaction, and let it go: nothing may be left to the collector."""
        self._close(incoming)
        self._let_copies_in(incoming)
        self._set_alarm(incoming, None)
        self.core.clock.forget(incoming.transaction)
        incoming.transaction.owner = None
        known = self.transactions.pop(incoming.key, None)
        if known is not None:
            self.held -= known.size
        early, incoming.early_dialog = incoming.early_dialog, None
        if early is not None:
            early.origin = None
        proxied, incoming.proxied = incoming.proxied, None
        if proxied is not None:
            self.core.proxying.over(proxied)

    def _let_copies_in(self, incoming: Incoming) -> None:
        """Take what has everything but the branch in common with a request for another one."""
        if incoming.arrival is not None:
            self._arrivals.pop(incoming.arrival, None)
            incoming.arrival = None

    def _close(self, incoming: Incoming) -> None:
        """Let no application answer a request any more."""
        if incoming.is_open:
            incoming.is_open = False
            self.open.pop(incoming.id, None)

    def _confirm(self, incoming: Incoming) -> None:
        """Stop repeating a response."""
        repeater = incoming.repeater
        if repeater is not None:
            incoming.repeater = None
            repeater.confirm()
            self.core.watch(repeater)

    def _set_alarm(self, incoming: Incoming, after: float | None) -> None:
        clock = self.core.clock
        if incoming.alarm is not None:
            clock.forget(incoming.alarm)
            incoming.alarm = None
        if after is not None:
            incoming.alarm = alarm = Timer(incoming, clock.seconds() + after)
            clock.watch(alarm)

    def _run(self, incoming: Incoming, effects: list[Effect]) -> None:
        transaction = incoming.transaction
        if effects:
            incoming.react(transaction, effects)
        self.core.watch(transaction)


def _is_sure_to_end(dialog: Dialog, request: Request) -> bool:
    """Whether a request is a BYE that nothing can be wrong with."""
    return (
        request.method == "BYE"
        and request.cseq.number >= dialog.peer_seq
        and not request.has("Require")
    )
