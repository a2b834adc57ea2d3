"""Applications that the server turns to for a request: it connects to one, or asks one of the web.

An application that is connected anyway is none of these. For one that is to be connected to there
is an address, of a route or of a request handler; it has to show the secret in time. A web
application decides in an answer (:mod:`~drachtwist.server.asking`).

There are only so many of such connections and questions at a time: a peer who sends requests must
not make the server open all the files that there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from drachtwist.errors import LocalProtocolError
from drachtwist.net.alerts import Alerts
from drachtwist.net.logs import Logger
from drachtwist.net.protocol import DrachtioServerFactory, DrachtioServerProtocol
from drachtwist.net.tls import Credentials, describe_tls_failure
from drachtwist.server.asking import WebAsker
from drachtwist.server.config import RequestHandler
from drachtwist.server.core import ServerCore
from drachtwist.server.http_routing import query_of
from drachtwist.server.incoming import Incoming
from drachtwist.server.orphans import RETRY_AFTER
from drachtwist.wire.decisions import AppAddress

__all__ = ["CONNECT_TIMEOUT", "Applications", "described"]

CONNECT_TIMEOUT = 30.0
"""Seconds that connecting to an application may take."""

_REMEDY = "see verify_applications and application_ca, or --app-ca"


class Applications:
    """Connects to applications, and asks those of the web.

    :param core: is told what comes of it.
    :param clock: what deadlines hang on.
    :param most: connections and questions that there may be at a time.
    :param factory: makes the protocol of a connection.
    """

    _log = Logger()

    def __init__(
        self,
        core: ServerCore,
        reactor: Any,
        clock: Any,
        alerts: Alerts,
        most: int,
        factory: DrachtioServerFactory,
    ) -> None:
        self._core = core
        self._reactor = reactor
        self._clock = clock
        self._alerts = alerts
        self._most = most
        self._factory = factory
        self.tls: Credentials | None = None
        """What connections with TLS are made with; it is read at the start."""
        self.dialled: set[DrachtioServerProtocol] = set()
        """The connections that were made."""
        self.unsigned: dict[DrachtioServerProtocol, IDelayedCall] = {}
        """Those of them whose application has not shown the secret, and until when it may."""
        self._pending: set[Deferred[Any]] = set()
        self._askers: dict[RequestHandler, WebAsker] = {}

    def stop(self) -> None:
        """Connect to nobody any more, and wait for no answer."""
        for pending in list(self._pending):
            pending.cancel()

    def close(self) -> Iterator[Deferred[None]]:
        """Close the connections to web applications, one after the other."""
        askers, self._askers = self._askers, {}
        for asker in askers.values():
            yield asker.close()

    # Connections

    def connect(self, address: AppAddress, incoming: Incoming) -> None:
        """Connect to an application for a request."""
        core = self._core
        if self._dials_too_much(incoming):
            return
        endpoint: Any = HostnameEndpoint(
            self._reactor, address.host or "127.0.0.1", address.port, timeout=CONNECT_TIMEOUT
        )
        if address.tls:
            assert self.tls is not None, "it is read at the start"
            handler = core.router.handler_for(incoming.method)
            verify = core.config.verify_applications or (
                handler is not None and handler.verify_peer
            )
            try:
                creator = self.tls.client_creator(address.host or "localhost", verify=verify)
            except LocalProtocolError as error:
                self._no_application(address, error)
                core.unreachable(incoming)
                return
            endpoint = wrapClientTLS(creator, endpoint)
        connecting = endpoint.connect(self._factory)

        def connected(link: DrachtioServerProtocol) -> None:
            # Over TLS the protocol is wrapped.
            link = getattr(link, "wrappedProtocol", link)
            if core.stopped:
                link.close()
                return
            # Later nobody waits for it any more.
            patience = core.config.answer_within
            self.unsigned[link] = self._clock.callLater(patience, link.abort)
            core.expect(link, incoming)

        def failed(failure: Failure) -> None:
            if not core.stopped:
                self._no_application(address, described(failure.value))
                core.unreachable(incoming, 500 if failure.check(DNSLookupError) else 480)

        self._wait(connecting)
        connecting.addCallbacks(connected, failed)
        connecting.addErrback(
            lambda failure: self._log.failure(
                "connecting to {to} made us fail", failure, to=address
            )
        )

    def signed(self, link: DrachtioServerProtocol) -> bool:
        """Wait for the secret no longer; say whether that was waited for."""
        patience = self.unsigned.pop(link, None)
        if patience is None:
            return False
        if patience.active():
            patience.cancel()
        return True

    def gone(self, link: DrachtioServerProtocol) -> bool:
        """Let go of a connection; say whether its application had not shown the secret."""
        self.dialled.discard(link)
        return self.signed(link)

    def _no_application(self, address: AppAddress, why: object) -> None:
        self._alerts.note(
            "no_application", "no application at {peer}: {error}", peer=str(address), error=why
        )

    # Questions

    def ask(self, handler: RequestHandler, incoming: Incoming) -> None:
        """Ask a web application about a request."""
        core = self._core
        if self._dials_too_much(incoming):
            return
        asker = self._askers.get(handler)
        if asker is None:
            self._askers[handler] = asker = WebAsker(
                self._reactor,
                handler.uri,
                post=handler.http_method == "POST",
                agent=f"Drachtio/{core.config.version.partition('+')[0]}",
                credentials=self.tls,
            )
        request = incoming.request
        asking = asker.ask(query_of(request, incoming.flow), request.raw)

        def failed(failure: Failure) -> None:
            if not core.stopped:
                self._alerts.note(
                    "no_decision",
                    "{uri} does not decide: {error}",
                    uri=str(handler),
                    error=failure.getErrorMessage(),
                )
                core.decided(incoming, None)

        self._wait(asking)
        asking.addCallbacks(lambda decision: core.decided(incoming, decision), failed)
        asking.addErrback(
            lambda failure: self._log.failure(
                "a decision of {uri} made us fail", failure, uri=str(handler)
            )
        )

    # Both

    def _dials_too_much(self, incoming: Incoming) -> bool:
        """Refuse a request that nobody more may be connected to for; say whether it is."""
        most = self._most
        if len(self._pending) + len(self.dialled) < most:
            return False
        self._alerts.note(
            "dialled", "{most} connections were made for requests: new ones get 503", most=most
        )
        if incoming.is_open:
            self._core.uas.refuse(incoming, 503, lines=(RETRY_AFTER,))
        return True

    def _wait(self, waiting: Deferred[Any]) -> None:
        """Count what is waited for, until it is settled."""
        self._pending.add(waiting)

        def settled(result: Any) -> Any:
            self._pending.discard(waiting)
            return result

        waiting.addBoth(settled)


def described(error: BaseException | None) -> str:
    """Say why there is no connection to an application."""
    found = describe_tls_failure(error, "the application's", _REMEDY)
    return found or str(error) or type(error).__name__
