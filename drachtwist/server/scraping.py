"""Where Prometheus reads the numbers of a server: ``/metrics`` on a port of its own."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from drachtwist.server.metrics import Metrics

__all__ = ["listen"]

_CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_IDLE = 60


class _Numbers(Resource):
    isLeaf = True

    def __init__(self, metrics: Metrics) -> None:
        super().__init__()
        self._metrics = metrics

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", _CONTENT_TYPE)
        return self._metrics.text()


class _Root(Resource):
    def getChild(self, path: bytes, request: Request) -> IResource:
        return notFound()


class _Quiet(Site):
    """Writes no line into the log for every look."""

    noisy = False

    def log(self, request: Any) -> None:
        """Write nothing."""


def listen(reactor: Any, host: str, port: int, metrics: Metrics) -> Deferred[IListeningPort]:
    """Serve numbers.

    :param host: the address; ``*`` and ``0.0.0.0`` are all.
    :param port: 0 for any free one.
    :returns: the port; fails with :exc:`~twisted.internet.error.CannotListenError`.
    """
    root = _Root()
    root.putChild(b"metrics", _Numbers(metrics))
    kind = TCP6ServerEndpoint if ":" in host else TCP4ServerEndpoint
    interface = "" if host in ("*", "0.0.0.0") else host
    endpoint: IStreamServerEndpoint = kind(reactor, port, interface=interface)
    return endpoint.listen(_Quiet(root, timeout=_IDLE))
