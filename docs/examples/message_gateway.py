"""Short messages between SIP and HTTP.

A MESSAGE that comes is posted to WEBHOOK; what is posted here, at HTTP_PORT on this machine, leaves
as a MESSAGE::

    WEBHOOK=http://127.0.0.1:9000/in HTTP_PORT=9001 \
        twist drachtio --app docs/examples/message_gateway.py

    curl -d '{"to": "sip:bob@192.0.2.2", "text": "Hello"}' http://127.0.0.1:9001/
"""

from __future__ import annotations

import json
import os
from io import BytesIO

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer
from twisted.web.http import Request as HttpRequest
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from drachtwist import DrachtwistError, ReceivedResponse, Request, Response, Srf

MAX_BODY = 10_000

log = Logger(namespace="gateway")
srf = Srf()
webhook = os.environ.get("WEBHOOK", "http://127.0.0.1:9000/")
http_port = int(os.environ.get("HTTP_PORT", "9001"))
ports: list[IListeningPort] = []


@srf.on_start
def prepare() -> None:
    """Have what asks the web."""
    srf.locals["agent"] = Agent(srf.reactor, connectTimeout=5)


@srf.message
async def received(req: Request, res: Response) -> None:
    """Post a MESSAGE to the web, and answer as the web does."""
    if len(req.body) > MAX_BODY:
        res.send(513)
        return
    body = {"from": req.from_.uri, "to": req.to.uri, "text": req.text}
    headers = Headers({"Content-Type": ["application/json"]})
    producer = FileBodyProducer(BytesIO(json.dumps(body).encode()))
    try:
        answer = await srf.locals["agent"].request(b"POST", webhook.encode(), headers, producer)
    except Exception as error:
        log.warn("{webhook} cannot be reached: {error}", webhook=webhook, error=error)
        res.send(503, headers={"Retry-After": "30"})
        return
    log.info("{sender}: {text!r}", sender=req.calling_number, text=req.text)
    res.send(202 if answer.code < 300 else 480)


class Outbox(Resource):
    """Sends what is posted to it."""

    isLeaf = True

    def render_POST(self, request: HttpRequest) -> int | bytes:
        """Send a MESSAGE, and answer with its status."""
        try:
            assert request.content is not None, "the request was read"
            wanted = json.loads(request.content.read(MAX_BODY))
            to, text = str(wanted["to"]), str(wanted["text"])
            sent = srf.request(
                to, method="MESSAGE", headers={"Content-Type": "text/plain"}, body=text
            )
        except (ValueError, KeyError, TypeError, DrachtwistError) as error:
            request.setResponseCode(400)
            return f"{error!r}\n".encode()

        def answered(response: ReceivedResponse) -> None:
            self.finish(request, 200 if response.status < 300 else 502, response.status)

        def failed(failure: Failure) -> None:
            failure.trap(DrachtwistError)
            self.finish(request, 503, failure.getErrorMessage())

        gone: Deferred[None] = request.notifyFinish()
        gone.addErrback(lambda _: None)
        sent.addCallback(answered).addErrback(failed)
        return NOT_DONE_YET

    def finish(self, request: HttpRequest, code: int, result: object) -> None:
        """Answer, if anybody still listens."""
        if request._disconnected:
            return
        request.setResponseCode(code)
        request.setHeader("Content-Type", "application/json")
        request.write(json.dumps({"result": result}).encode() + b"\n")
        request.finish()


@srf.on_connect
async def listen(link: object) -> None:
    """Take posts as soon as there is a server to send them to."""
    if not ports:
        endpoint = TCP4ServerEndpoint(srf.reactor, http_port, interface="127.0.0.1")
        ports.append(await endpoint.listen(Site(Outbox())))
        log.info("posts are taken at {place}", place=ports[0].getHost())


@srf.on_stop
async def close() -> None:
    """Take no more posts."""
    while ports:
        await maybeDeferred(ports.pop().stopListening)
