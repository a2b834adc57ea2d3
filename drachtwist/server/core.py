"""The middle of the server: SIP on one side, applications on the other, time passing.

The core owns the tables and writes the frames; what requests of the network lead to is decided in
:mod:`~drachtwist.server.uas`, what requests of applications lead to in
:mod:`~drachtwist.server.uac.core`. It talks to sockets through
:class:`~drachtwist.server.ports.Carriers` and to applications through
:class:`~drachtwist.server.clients.AppLink`, so that tests run it on a
:class:`~twisted.internet.task.Clock` without any of them.

Nothing that a peer or an application sends may raise out of here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from drachtwist.errors import DrachtwistError, MessageError
from drachtwist.net.alerts import Alerts
from drachtwist.net.clock import DeadlineClock
from drachtwist.net.logs import Logger
from drachtwist.net.sip.flows import WEBSOCKETS, Flow
from drachtwist.server.amplification import Amplification
from drachtwist.server.attempts import Transacting
from drachtwist.server.clients import AppLink, Clients
from drachtwist.server.config import ServerConfig
from drachtwist.server.dialogs import Dialogs
from drachtwist.server.ended_calls import EndedCalls
from drachtwist.server.incoming import Incoming
from drachtwist.server.metrics import Metered, Metrics
from drachtwist.server.orphans import Orphans
from drachtwist.server.ports import Carriers
from drachtwist.server.proxy.core import ProxyServer
from drachtwist.server.registered import Registered
from drachtwist.server.roles import Connector
from drachtwist.server.routing import Router
from drachtwist.server.sendingaway import SendingAway
from drachtwist.server.sessions import Sessions
from drachtwist.server.uac.core import UserAgentClient
from drachtwist.server.uas.core import UserAgentServer
from drachtwist.server.ways import Ways
from drachtwist.sip.message import Request, Response
from drachtwist.sip.status import reason_phrase
from drachtwist.sip.stream import Malformed as BadMessage
from drachtwist.sip.uri import SipUri, Uri
from drachtwist.transactions.layer import TransactionLayer
from drachtwist.transactions.machine import Effect, Machine, Transmit
from drachtwist.transactions.matching import request_client_key
from drachtwist.wire import reports
from drachtwist.wire.commands import AddRoute, Proxy, RemoveRoute, SendMessage
from drachtwist.wire.decisions import Decision
from drachtwist.wire.session import Commanded, new_id

__all__ = ["ServerCore"]


class ServerCore:
    """The server without its sockets.

    :param clock: the reactor, or a Clock.
    :param wall: the time of day, in seconds since the epoch; it only appears in frames.
    :param alerts: where it is noted that a limit was reached.
    """

    log = Logger()

    def __init__(
        self,
        config: ServerConfig,
        carriers: Carriers,
        connector: Connector,
        clock: Any,
        wall: Callable[[], float] = time.time,
        alerts: Alerts | None = None,
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.timing = config.timing
        self.connector = connector
        self.clock = DeadlineClock(clock, self._perform)
        self.alerts = Alerts(self.log, self.clock.seconds) if alerts is None else alerts
        self.clients = Clients()
        self.router = Router(config.request_handlers, self.clients)
        self.dialogs = Dialogs()
        self.transactions: TransactionLayer[Incoming, Transacting] = TransactionLayer(self.clock)
        self.uas = UserAgentServer(self)
        self.uac = UserAgentClient(self)
        self.proxying = ProxyServer(self)
        self.sessions = Sessions(self)
        self.orphans = Orphans(self)
        self.calls: EndedCalls | None = None
        if config.log_calls:
            self.calls = EndedCalls(self.clock.seconds)
        self.handed_on = 0
        """New requests that went from an application that is gone to another one."""
        self.registered = Registered(self.clock.seconds)
        self.metrics: Metrics | None = None
        if config.prometheus_port is not None:
            self.metrics = Metrics(self, wall)
            carriers = Metered.around(carriers, self.metrics)
        self.amplification = Amplification(
            carriers, self.limits.unconfirmed_repeats, self.clock.seconds, self.alerts
        )
        """What keeps track of who receives what we send over UDP."""
        self.carriers: Carriers = self.amplification
        self.send_away = SendingAway(self.carriers)
        self.ways = Ways(config.udp_mtu, self.carriers, connector, self.clock.seconds)
        self._wall = wall
        self._second = -1
        self._second_text = ""
        # Connections that the server made, and the request that each one is for.
        self._expected: dict[AppLink, Incoming] = {}
        self.timeouts: dict[Flow, int] = {}
        """How many requests in a row nobody answered, by connection, if that is looked at."""
        self.stopped = False

    def stop(self) -> None:
        """Forget everything, without a word to anybody."""
        self.stopped = True
        self.clock.stop()
        self.transactions.clear()
        self.uas.stop()
        self.uac.stop()
        self.proxying.stop()
        self.ways.stop()
        self.dialogs = Dialogs()
        self.orphans = Orphans(self)
        self._expected.clear()

    def counts(self) -> dict[str, int]:
        """Say how many things there are."""
        return {
            "applications": len(self.clients),
            "dialogs": len(self.dialogs),
            "server_transactions": len(self.transactions.servers),
            "open_requests": len(self.uas.open),
            "client_transactions": len(self.transactions.clients),
            "orphans": len(self.orphans),
            "passing_calls": len(self.proxying.calls),
            "deadlines": len(self.clock),
        }

    def _perform(self, machine: Machine, effects: list[Effect]) -> None:
        owner = machine.owner
        if not effects or owner is None:
            return
        if type(effects[0]) is Transmit:
            # All that a machine sends when its time has come, it has sent before.
            self.amplification.repeat(owner.react, machine, effects)
        else:
            owner.react(machine, effects)

    # What the network does

    def sip_received(self, message: Request | Response, flow: Flow, size: int) -> None:
        """Take in a message that may be processed."""
        if self.stopped:
            return
        if self.metrics is not None:
            self.metrics.received(message)
        self.amplification.received(message, flow, size)
        if isinstance(message, Request):
            self.uas.received(message, flow, size)
        else:
            self.uac.received(message, flow, size)

    def sip_malformed(self, bad: BadMessage, flow: Flow, size: int) -> None:
        """Refuse a request that must not be processed; anything else vanishes."""
        message = bad.message
        self.complain(flow, bad.error)
        if self.metrics is not None:
            self.metrics.malformed(message)
        if self.stopped or not isinstance(message, Request):
            return
        status = bad.error.status
        reason = reason_phrase(status)
        if status == 400:
            reason = bad.error.phrase or reason
        elif status == 505:
            reason = "Version Not Supported"
        self.send_away(message, flow, status, reason)

    def complain(self, flow: Flow, error: Exception, cause: str = "bad_messages") -> None:
        """Take note of a message that nobody can be troubled with."""
        self.alerts.note(
            cause, "{peer} sends what is wrong: {error}", peer=flow.remote, error=error
        )

    def sip_send_failed(self, flow: Flow, error: Exception, data: bytes) -> None:
        """Note that a message did not reach its peer."""
        if self.stopped:
            return
        try:
            if data[:4].upper() == b"SIP/" or self.ways.send_failed(flow, data):
                return
            self.uac.failed(request_client_key(Request.from_bytes(data)))
        except MessageError:
            pass

    def sip_closed(self, flow: Flow, error: Exception | None) -> None:
        """Note that a connection is gone; only one that broke fails what waits on it."""
        self.timeouts.pop(flow, None)
        if error is not None and not self.stopped:
            self.uac.broken(flow)

    def timed_out(self, flow: Flow | None) -> None:
        """Note that nobody answered a request; a connection is closed when that happens often."""
        most = self.config.max_timeouts
        if not most or flow is None or not flow.reliable or not self.carriers.is_open(flow):
            return
        count = self.timeouts.get(flow, 0) + 1
        self.timeouts[flow] = count
        if count >= most:
            self.alerts.note(
                "silent_peers", "{peer} answers nothing: its connection is closed", peer=flow.remote
            )
            self.carriers.close(flow)

    # What applications do

    def signed(self, link: AppLink) -> None:
        """Admit an application that showed the right secret."""
        self.clients.add(link)
        incoming = self._expected.pop(link, None)
        if incoming is not None:
            incoming.dialled = True
            self.uas.give(incoming, link)

    def commanded(self, link: AppLink, event: Commanded) -> None:
        """Carry out the command of an application, and answer it."""
        if self.stopped:
            return
        if link not in self.clients:
            self.clients.add(link)
        command = event.command
        message_id = event.message_id
        try:
            if isinstance(command, SendMessage):
                self._send_message(link, message_id, command)
            elif isinstance(command, AddRoute):
                self.clients.route(link, command.verb)
                link.answer(message_id, "OK")
            elif isinstance(command, RemoveRoute):
                self.clients.unroute(link)
                link.answer(message_id, "OK")
            elif isinstance(command, Proxy):
                self.proxying.begin(link, message_id, command)
        except DrachtwistError as error:
            self.alerts.note("commands", "cannot carry out a command: {error}", error=error)
            link.answer(message_id, "NOK", f"Server error: {error}".replace("|", " "))
        except Exception:
            self.log.failure("a command made us fail")
            link.answer(message_id, "NOK", "Server error: internal error")

    def _send_message(self, link: AppLink, message_id: str, command: SendMessage) -> None:
        message = command.message
        transaction_id = command.transaction_id
        if message[:4] == b"SIP/":
            if not transaction_id:
                link.refuse(message_id, "transaction id missing")
            else:
                self.uas.answer(link, message_id, transaction_id, message)
        elif transaction_id and message[:7] == b"CANCEL ":
            self.uac.cancel(link, message_id, transaction_id, message)
        elif command.dialog_id:
            self.uac.ask_in_dialog(link, message_id, command.dialog_id, message)
        elif transaction_id:
            # The real server never answers this.
            link.answer(message_id, "NOK", "a request belongs to a dialog, not to a transaction")
        else:
            self.uac.ask(link, message_id, command.route, message)

    def gone(self, link: AppLink) -> None:
        """See to the work of an application whose connection is gone (see ``orphans``)."""
        self.clients.remove(link)
        incoming = self._expected.pop(link, None)
        if incoming is not None:
            self.unreachable(incoming)
        if self.stopped:
            return
        before = self.handed_on, self.orphans.lost
        answered = self.uas.abandoned(link)
        cancelled = self.uac.abandoned(link)
        for dialog in self.dialogs.of_link(link):
            if dialog.early:
                self.dialogs.hand_to(dialog, None)  # it ends with its INVITE
            elif not self.uac.hang_up_unconfirmed(dialog):
                self.orphans.add(dialog)
        handed_on, calls = self.handed_on - before[0], self.orphans.lost - before[1]
        if answered or handed_on or cancelled or calls:
            self.log.warn(
                "an application is gone: {calls} calls wait for somebody to take them, {handed_on}"
                " new requests went to others, {answered} requests were answered for it, and"
                " {cancelled} INVITEs cancelled",
                calls=calls,
                handed_on=handed_on,
                answered=answered,
                cancelled=cancelled,
            )

    def expect(self, link: AppLink, incoming: Incoming) -> None:
        """Remember which request a connection was made for."""
        self._expected[link] = incoming

    def decided(self, incoming: Incoming, decision: Decision | None) -> None:
        """Take in what a web application decided; None when it did not."""
        if not self.stopped:
            self.uas.decided(incoming, decision)

    def unreachable(self, incoming: Incoming, status: int = 480) -> None:
        """Note that an application cannot be had: no connection, or it was lost too early."""
        if not self.stopped and incoming.is_open:
            self.uas.refuse(incoming, status)

    # Frames

    def time_of_day(self) -> str:
        """Return the time as frames have it: ``HH:MM:SS.uuuuuu``, UTC."""
        now = self._wall()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((now - second) * 1e6):06d}"

    def deliver(
        self,
        link: AppLink | None,
        size: int,
        protocol: str,
        host: str,
        port: int,
        transaction_id: str,
        dialog: str,
        raw: bytes,
        tail: str = "",
        source: str = "network",
    ) -> None:
        """Hand a SIP message to an application; nothing happens when it is gone."""
        if link is None or link not in self.clients:
            return
        link.send(
            reports.delivery(
                new_id(),
                source,
                size,
                protocol,
                host,
                port,
                self.time_of_day(),
                transaction_id,
                dialog,
                raw,
                tail,
            )
        )

    def record(self, kind: str, source: str, raw: bytes, detail: str = "") -> None:
        """Write a call detail record, if anybody wants it."""
        if self.calls is not None:
            self.calls.recorded(kind, source, raw)
        if not self.config.cdrs:
            return
        link = self.clients.pick(f"cdr:{kind}")
        if link is None:
            return
        link.send(reports.record(new_id(), kind, source, self.time_of_day(), raw, detail))

    # Addresses

    def default_protocol(self) -> str:
        """Return the transport of the first contact, for URIs that leave it open.

        These are never WebSockets: phones do not listen for them.
        """
        for listener in self.carriers.listeners:
            if listener.protocol not in WEBSOCKETS:
                return listener.protocol
        return "udp"

    def is_own(self, uri: str) -> bool:
        """Return whether a URI is an address of this server."""
        try:
            parsed = Uri.parse(uri)
        except MessageError:
            return False
        if not isinstance(parsed, SipUri):
            return False
        host = parsed.address.lower()
        domain = self.config.local_domain
        if domain is not None and f".{host}".endswith(f".{domain.lower()}"):
            return True
        port = parsed.port or (5061 if parsed.secure else 5060)
        return any(
            listener.port == port and listener.is_named(host)
            for listener in self.carriers.listeners
        )

    def offers(self, protocol: str) -> bool:
        """Return whether a transport is listened on."""
        return any(listener.protocol == protocol for listener in self.carriers.listeners)
