"""What the three roles of the server know of each other, and of the core that joins them.

They are the UAS core (:mod:`~drachtwist.server.uas`), the UAC core
(:mod:`~drachtwist.server.uac.core`) and the proxy core (:mod:`~drachtwist.server.proxy.core`), in
the words of RFC 3261.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from drachtwist.net.alerts import Alerts
from drachtwist.net.clock import DeadlineClock
from drachtwist.net.sip.flows import Flow
from drachtwist.server.attempts import Transacting
from drachtwist.server.clients import AppLink, Clients
from drachtwist.server.compose import Draft
from drachtwist.server.config import RequestHandler, ServerConfig
from drachtwist.server.dialogs import Dialog, Dialogs
from drachtwist.server.incoming import Carrying, Forwarder, Incoming
from drachtwist.server.limits import ServerLimits
from drachtwist.server.orphans import Orphans
from drachtwist.server.ports import Resolver
from drachtwist.server.proxy.known_calls import KnownCall, KnownCalls
from drachtwist.server.registered import Registered
from drachtwist.server.routing import Router
from drachtwist.server.sendingaway import SendingAway
from drachtwist.server.sessions import Sessions
from drachtwist.server.usages import Refreshing
from drachtwist.server.ways import Ways
from drachtwist.sip.message import Request, Response
from drachtwist.transactions.layer import TransactionLayer
from drachtwist.transactions.timing import Timing
from drachtwist.wire.decisions import AppAddress, ProxyTo

__all__ = ["Connector", "Core", "ProxyCore", "UacCore", "UasCore"]


class Connector(Resolver, Protocol):
    """What reaches applications and asks the DNS."""

    def connect(self, address: AppAddress, incoming: Incoming) -> None:
        """Connect to an application for a request.

        Either ``ServerCore.unreachable`` follows, or ``ServerCore.expect`` is told of the
        connection, and then ``ServerCore.signed`` or ``ServerCore.gone``.
        """

    def ask(self, handler: RequestHandler, incoming: Incoming) -> None:
        """Ask a web application about a request; ``ServerCore.decided`` follows."""


class UasCore(Protocol):
    """What is asked by the network."""

    @property
    def open(self) -> dict[str, Incoming]:
        """The requests that applications may answer, by transaction id."""
        ...

    def early_dialog(self, name: str) -> Dialog | None:
        """Return the dialog of a caller whose INVITE is not finally answered."""
        ...

    def admit(self, incoming: Incoming) -> None:
        """Look again at a NOTIFY that came before the answer to its SUBSCRIBE."""

    def end(self, dialog: Dialog) -> None:
        """Forget a dialog."""

    def refuse(
        self,
        incoming: Incoming,
        status: int,
        reason: str | None = None,
        *,
        record: bool = True,
        lines: Sequence[str] = (),
    ) -> None:
        """Answer a request without an application."""

    def taken(self, incoming: Incoming, call: Forwarder) -> None:
        """Let a request be forwarded."""


class Forming(Protocol):
    """An INVITE or SUBSCRIBE of this side that may become a dialog."""

    @property
    def method(self) -> str:
        """Its method."""
        ...

    @property
    def link(self) -> AppLink | None:
        """The application that asked."""
        ...

    @property
    def dialog_id(self) -> str:
        """What applications call the dialog to come."""
        ...

    @property
    def rang(self) -> bool:
        """Whether somebody rings."""
        ...

    @property
    def offers(self) -> bool:
        """Whether it waits for the answer to a session description."""
        ...


class UacCore(Protocol):
    """What asks on behalf of applications."""

    def forming(self, name: str) -> Forming | None:
        """Find the INVITE or SUBSCRIBE that may become the dialog of this name."""
        ...

    def hold(self, sent: Forming, incoming: Incoming) -> bool:
        """Let a NOTIFY wait for the answer to its SUBSCRIBE."""
        ...

    def left(self, sent: Forming, tag: str) -> None:
        """Cancel a call whose callee, who rang, has sent a BYE."""

    def cancel_pending(self, dialog: Dialog) -> None:
        """Cancel the INVITEs of this side in a dialog."""

    def bye(self, dialog: Dialog, reason: str, cause: int = 200) -> None:
        """End a dialog because of the server itself."""

    def refresh(self, dialog: Dialog, draft: Draft, timer: Refreshing) -> None:
        """Send a re-INVITE by ourselves."""


class Stateless(Protocol):
    """What forwards in the dialogs of calls that were proxied."""

    def passes(self, request: Request, flow: Flow) -> bool:
        """Forward a request; say whether it is in such a dialog."""
        ...

    def returns(self, response: Response) -> bool:
        """Send the response to such a request back; say whether it is one."""
        ...


class ProxyCore(Protocol):
    """What forwards."""

    @property
    def timing(self) -> Timing:
        """The timers of what is forwarded."""
        ...

    @property
    def calls(self) -> KnownCalls:
        """Those whose requests may pass."""
        ...

    def count(self) -> int:
        """Count the requests that are being forwarded."""
        ...

    @property
    def stateless(self) -> Stateless:
        """What forwards these."""
        ...

    def forward(self, incoming: Incoming, decision: ProxyTo) -> None:
        """Forward a request as a web application decided."""

    def over(self, call: Forwarder) -> None:
        """Note that the transaction of a request that was forwarded is gone."""

    def learn(
        self, known: KnownCall, message: Request | Response, flow: Flow, adjacent: bool
    ) -> None:
        """Take note of how somebody in a call is reached."""


class Core(Carrying, Protocol):
    """What joins them: :class:`~drachtwist.server.core.ServerCore`."""

    handed_on: int

    @property
    def alerts(self) -> Alerts:
        """What tells operators."""
        ...

    @property
    def clients(self) -> Clients:
        """The applications."""
        ...

    @property
    def clock(self) -> DeadlineClock:
        """The time."""
        ...

    @property
    def config(self) -> ServerConfig:
        """The settings."""
        ...

    @property
    def connector(self) -> Connector:
        """What reaches applications."""
        ...

    @property
    def dialogs(self) -> Dialogs:
        """The dialogs."""
        ...

    @property
    def limits(self) -> ServerLimits:
        """What peers may cost."""
        ...

    @property
    def orphans(self) -> Orphans:
        """Dialogs whose application is gone."""
        ...

    @property
    def proxying(self) -> ProxyCore:
        """The proxy core."""
        ...

    @property
    def registered(self) -> Registered:
        """Who registered over a connection."""
        ...

    @property
    def router(self) -> Router:
        """Which application gets a new request."""
        ...

    @property
    def send_away(self) -> SendingAway:
        """What answers without remembering."""
        ...

    @property
    def sessions(self) -> Sessions:
        """The session timers."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether the server has stopped."""
        ...

    @property
    def timeouts(self) -> dict[Flow, int]:
        """How many requests in a row nobody answered, by connection."""
        ...

    @property
    def timing(self) -> Timing:
        """The timers of SIP."""
        ...

    @property
    def transactions(self) -> TransactionLayer[Incoming, Transacting]:
        """The transactions of all three."""
        ...

    @property
    def uac(self) -> UacCore:
        """The UAC core."""
        ...

    @property
    def uas(self) -> UasCore:
        """The UAS core."""
        ...

    @property
    def ways(self) -> Ways:
        """What finds where requests go."""
        ...

    def complain(self, flow: Flow, error: Exception, cause: str = "bad_messages") -> None:
        """Tell operators that a peer misbehaves."""

    def record(self, kind: str, source: str, raw: bytes, detail: str = "") -> None:
        """Write a call detail record, if anybody wants it."""

    def time_of_day(self) -> str:
        """Return the time as frames have it."""
        ...

    def timed_out(self, flow: Flow | None) -> None:
        """Take note that nobody answered over a flow."""

    def offers(self, protocol: str) -> bool:
        """Say whether a transport is listened on."""
        ...

    def default_protocol(self) -> str:
        """Return the transport for URIs that leave it open."""
        ...

    def is_own(self, uri: str) -> bool:
        """Say whether a URI is an address of this server."""
        ...
