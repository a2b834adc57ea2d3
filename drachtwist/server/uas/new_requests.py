"""New requests: what belongs to no dialog is looked at, and an application found for it.

What nobody can answer, or what is wrong with it, is refused at once (RFC 3261 section 8.2). Then it
is some application's turn (:mod:`~drachtwist.server.routing`): one that is connected, one that is
connected to for this, or whichever a web application names, which may also decide by itself. An
INVITE is answered 100 before anybody is looked for, and refused with 480 when 64 seconds have
passed without any response. As long as nobody has answered with anything, a request may be given to
the next application when the one that had it is gone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from drachtwist.server.checks import bad_header, scheme_is_known
from drachtwist.server.compose import in_brackets, new_tag, with_host
from drachtwist.server.dialogs import contact_of_flow, dialog_id
from drachtwist.server.incoming import Forwarder, Incoming
from drachtwist.server.orphans import MOST_HAND_OVERS, REASON, RETRY_AFTER
from drachtwist.server.routing import OFFERED, Ask, Connect, Give
from drachtwist.server.uas.invite import Invite, InviteState
from drachtwist.server.uas.responses import Responses
from drachtwist.server.uas.transactions import ServerTransactions
from drachtwist.sip.encoding import joined, status_line
from drachtwist.sip.status import reason_phrase
from drachtwist.transactions.server import trying
from drachtwist.wire.decisions import Decision, ProxyTo, Redirect, Reject, RouteTo

if TYPE_CHECKING:
    from drachtwist.server.clients import AppLink

__all__ = ["NewRequests"]

_REGISTER_AT_ADDRESS = re.compile(
    r"sips?:(?:[^@]*@)?(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?:[:;?]|$)", re.I
)
_NO_DECISION = "Server Internal Error"
_ALLOWED = OFFERED | {"ACK", "BYE", "CANCEL", "PRACK", "REFER", "UPDATE"}
_NO_ANSWER = 'SIP;cause=480;text="No answer of the application"'


class NewRequests:
    """Requests outside of dialogs.

    :param table: the requests.
    :param responses: what answers them.
    """

    __slots__ = ("core", "responses", "table")

    def __init__(self, table: ServerTransactions, responses: Responses) -> None:
        self.core = table.core
        self.table = table
        self.responses = responses

    # What is looked at

    def received(self, incoming: Incoming, to_tag: str | None) -> None:
        """Look at a request that belongs to no dialog."""
        if incoming.method == "ACK" or self._is_refused(incoming):
            return
        core = self.core
        request = incoming.request
        method = incoming.method
        if method == "INVITE":
            core.carriers.send(incoming.flow, trying(request))
            if to_tag is not None:
                self.responses.refuse(incoming, 481)
                return
            if core.config.always_send_180:
                incoming.to_tag = new_tag()
                raw = joined(status_line(180), incoming.lines(180))
                core.carriers.send(incoming.flow, raw)
            core.record("attempt", "network", request.raw)
        if method in ("INVITE", "SUBSCRIBE"):
            incoming.dialog_id = dialog_id(request.call_id, incoming.from_tag)
        self._offer(incoming)

    def _is_refused(self, incoming: Incoming) -> bool:
        """Refuse what no application is bothered with, or answer it; say whether it is that."""
        request = incoming.request
        self.table.register(incoming)
        refuse = self.responses.refuse
        if incoming.method not in OFFERED:
            self._refuse_method(incoming)
        elif not scheme_is_known(request):
            refuse(incoming, 416)
        elif status := self._status_without_application(incoming):
            refuse(incoming, status)
        elif problem := bad_header(request):
            refuse(incoming, 400, problem)
        else:
            return self.responses.requires_too_much(incoming)
        return True

    def _refuse_method(self, incoming: Incoming) -> None:
        """Answer a request that no application can be given outside of a dialog."""
        method = incoming.method
        if method in ("BYE", "PRACK", "UPDATE"):
            self.responses.refuse(incoming, 481)
        else:
            allowed = f"Allow: {', '.join(sorted(_ALLOWED))}"
            status = 405 if method == "REFER" else 501
            self.responses.refuse(incoming, status, lines=(allowed,))

    def _status_without_application(self, incoming: Incoming) -> int:
        """Return the status for what no application is bothered with; 0 for anything else."""
        config = self.core.config
        request = incoming.request
        if config.reject_register_with_no_realm and incoming.method == "REGISTER":
            return 403 if _REGISTER_AT_ADDRESS.match(request.uri) else 0
        if config.options_user_agent is not None and incoming.method == "OPTIONS":
            return 200 if request.get("User-Agent") == config.options_user_agent else 0
        return 0

    # Whose it is

    def _offer(self, incoming: Incoming) -> None:
        """Find the application whose turn it is."""
        core = self.core
        choice = core.router.choose(incoming.method)
        if isinstance(choice, (Give, Connect, Ask)):
            self.table.set_alarm(incoming, core.config.answer_within)
        if isinstance(choice, Give):
            self.give(incoming, choice.link)
        elif isinstance(choice, Connect):
            core.connector.connect(choice.address, incoming)
        elif isinstance(choice, Ask):
            core.connector.ask(choice.handler, incoming)
        elif core.clients.are_behind(incoming.method.lower()):
            core.alerts.note("behind", "all applications are far behind: new requests get 503")
            self.responses.refuse(incoming, 503, lines=(RETRY_AFTER,))
        else:
            self.responses.refuse(incoming, 503)

    def give(self, incoming: Incoming, link: AppLink) -> None:
        """Hand a new request to an application.

        One that was cancelled meanwhile is given with its CANCEL, so that the application knows.
        """
        if not incoming.is_open and not _is_withdrawn(incoming):
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
        if isinstance(incoming, Invite):
            incoming.given()

    def decided(self, incoming: Incoming, decision: Decision | None) -> None:
        """Do what a web application decided about a request.

        One that was cancelled meanwhile still goes to an application, with its CANCEL.

        :param decision: None when there is none, because it failed.
        """
        core = self.core
        if not incoming.is_open and not _is_withdrawn(incoming):
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
        self.responses.fix_tag(incoming, status, None)
        phrase = reason_phrase(status) if reason is None else reason
        phrase = re.sub("[\r\n\0]+", " ", phrase)
        if 200 <= status < 300 and incoming.method == "INVITE":
            contacts = (contact_of_flow(incoming.flow),)
        lines = incoming.lines(status) + [f"Contact: {contact}" for contact in contacts]
        raw = joined(status_line(status, phrase), lines)
        self.table.set_alarm(incoming, None)
        self.responses.send(incoming, status, raw, 0)
        if status >= 200:
            self.table.close(incoming)

    # What becomes of it

    def taken(self, incoming: Incoming, call: Forwarder) -> None:
        """Let a request be proxied: no application can answer it any more."""
        self.table.set_alarm(incoming, None)
        self.table.close(incoming)
        self.table.let_copies_in(incoming)
        incoming.proxied = call
        if isinstance(incoming, Invite):
            incoming.become(InviteState.PROXIED)

    def expired(self, incoming: Incoming) -> None:
        """End a request whose application let its time pass."""
        if incoming.method == "BYE":
            self.responses.refuse(incoming, 500)
        elif isinstance(incoming, Invite):
            self.responses.refuse(incoming, 480)
            incoming.tell_given_up("", _NO_ANSWER)
        else:
            # Whoever sent anything else gave up long ago, and wants no answer now (RFC 4320).
            self.table.forget(incoming)
            if incoming.method == "UPDATE":
                self.responses.update_over(incoming)

    def abandoned(self, link: AppLink) -> int:
        """Answer the requests that an application had which is gone, or give them to another.

        :returns: how many were answered.
        """
        count = 0
        refuse = self.responses.refuse
        for incoming in [one for one in self.table.open.values() if one.link is link]:
            if not incoming.is_open or incoming.transaction.status >= 200:
                continue
            if incoming.refreshes:
                self.responses.answer_for_gone(incoming, ends=incoming.method == "BYE")
            elif self._hand_on(incoming):
                continue
            elif incoming.untouched and not incoming.dialled and incoming.tag is None:
                refuse(incoming, 503, lines=(RETRY_AFTER,))
            else:
                refuse(incoming, 480, lines=(RETRY_AFTER, f"Reason: {REASON}"))
            count += 1
        return count

    def _hand_on(self, incoming: Incoming) -> bool:
        """Hand a new request to the next application, as long as nobody has touched it."""
        if incoming.dialled or not incoming.untouched or incoming.hand_overs >= MOST_HAND_OVERS:
            return False
        core = self.core
        link = core.clients.pick(incoming.method.lower(), incoming.tag)
        if link is None:
            return False
        core.handed_on += 1
        self.give(incoming, link)
        return True


def _is_withdrawn(incoming: Incoming) -> bool:
    """Say whether an application is to get a request only to learn that it was cancelled."""
    return isinstance(incoming, Invite) and incoming.state is InviteState.WITHDRAWN
