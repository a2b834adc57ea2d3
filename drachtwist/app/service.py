"""An application as a service of Twisted: in a ``.tac`` file, in a ``MultiService``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Union

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint

from drachtwist.app.srf import Srf
from drachtwist.errors import LocalProtocolError
from drachtwist.net.endpoints import Connect, Listen, parse_endpoint, to_connect, to_listen
from drachtwist.net.tasks import Awaited
from drachtwist.net.tls import TlsOptions

__all__ = ["AnyEndpoint", "SrfService"]

AnyEndpoint = Union[  # noqa: UP007 - evaluated on Python 3.10
    str, Connect, Listen, IStreamClientEndpoint, IStreamServerEndpoint
]
"""Where to connect to, or where to listen: a string, or an endpoint of ours or of Twisted."""


class SrfService(Service):
    """An application that starts and stops with the other services of a program.

    With endpoints it connects and listens when it is started, in the order in which its parent
    starts services: behind a server in the same parent, say. Without any the application has called
    :meth:`Srf.connect` or :meth:`Srf.listen` itself, and the service only stops it.

    When it is stopped, it takes no new calls, lets those that are up end, hangs up, and closes
    everything. A :class:`~drachtwist.server.service.DrachtioServer` in the same parent waits for
    that. It may be started again if it has endpoints.

    :param srf: the application.
    :param endpoints: where to connect to and where to listen.
    :param secret: the secret of all servers; needed with endpoints.
    :param tls: what endpoint strings do not say.
    :param allow: see :meth:`Srf.listen`.
    :param tags: instead of those of the application.
    :param drain: seconds that calls get to end by themselves.
    :raises LocalProtocolError: for an endpoint that is none, TLS files that cannot be used, and
        endpoints without a secret.
    """

    def __init__(
        self,
        srf: Srf,
        *endpoints: AnyEndpoint,
        secret: str | None = None,
        tls: TlsOptions | None = None,
        allow: Iterable[str] = (),
        tags: Sequence[str] | None = None,
        drain: float = 0.0,
    ) -> None:
        if bool(endpoints) != (secret is not None):
            raise LocalProtocolError("endpoints and secret= belong together")
        self.srf = srf
        """The application."""
        self.drain = drain
        """Seconds that calls get to end by themselves."""
        self.stopping: Deferred[None] | None = None
        """While it stops: fires when everything is closed, for whoever has to wait for that."""
        self._secret = secret or ""
        self._tags = tags
        self._listens: list[Listen] = []
        self._connects: list[Connect] = []
        self._listening = False
        for endpoint in endpoints:
            self._add(endpoint, tls, tuple(allow))

    def __repr__(self) -> str:
        return f"<SrfService {self.srf!r}>"

    def _add(self, endpoint: AnyEndpoint, tls: TlsOptions | None, allow: tuple[str, ...]) -> None:
        reactor = self.srf._connections.reactor
        found: Any = endpoint
        if isinstance(endpoint, str):
            found = parse_endpoint(reactor, endpoint, tls)
        if isinstance(found, Listen) or IStreamServerEndpoint.providedBy(found):
            self._listens.append(to_listen(reactor, found, allow=allow))
        else:
            self._connects.append(to_connect(reactor, found))

    def privilegedStartService(self) -> None:
        """Listen, before privileges are given up."""
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        """Listen and connect."""
        self.srf._is_hosted()
        super().startService()
        self._listen()
        for connect in self._connects:
            self.srf.connect(connect, secret=self._secret, tags=self._tags)

    def _listen(self) -> None:
        if not self._listening:
            self._listening = True
            for listen in self._listens:
                self.srf.listen(listen, secret=self._secret, tags=self._tags)

    def stopService(self) -> Deferred[None]:
        """Stop the application.

        :returns: fires when everything is closed.
        """
        super().stopService()
        self._listening = False
        stopped = self.srf.stop(self.drain)
        over: Deferred[None] = Awaited()
        self.stopping = over

        def done(_: object) -> None:
            if self.stopping is over:
                self.stopping = None
            over.callback(None)

        return stopped.addCallback(done)
