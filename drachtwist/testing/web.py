"""Web requests in memory: what an application serves is asked over the connections of a network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from drachtwist.testing.hosts import Host

__all__ = ["WebResponse", "fetch"]


@dataclass(frozen=True, slots=True)
class WebResponse:
    """What a web server answered."""

    status: int
    headers: Mapping[str, str]
    """By name in small letters; of several of one name the last."""
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Read the body as JSON.

        :raises ValueError: when it is none.
        """
        return json.loads(self.body)


class _Body(Protocol):
    def __init__(self) -> None:
        self.whole: Deferred[bytes] = Deferred()
        self._pieces: list[bytes] = []

    def dataReceived(self, data: bytes) -> None:
        self._pieces.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if reason.check(ResponseDone, PotentialDataLoss):
            self.whole.callback(b"".join(self._pieces))
        else:
            self.whole.errback(reason)


async def fetch(
    host: Host, method: str, url: str, body: bytes, headers: Mapping[str, str]
) -> WebResponse:
    """Ask a web server.

    :param host: the machine that asks.
    """
    agent = Agent(host)
    given = Headers({name: [value] for name, value in headers.items()})
    producer = FileBodyProducer(BytesIO(body)) if body else None
    response: Any = await agent.request(method.encode(), url.encode(), given, producer)
    read = _Body()
    response.deliverBody(read)
    found = {
        name.decode("latin-1").lower(): values[-1].decode("latin-1")
        for name, values in response.headers.getAllRawHeaders()
    }
    return WebResponse(response.code, found, await read.whole)
