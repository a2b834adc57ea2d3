"""A web site beside an application, in one process: see the calls that are up, and end them.

The site is made with klein (``pip install klein``), and is a service among the others of a `.tac`
file, which this is too::

    HTTP_PORT=8080 twistd -ny docs/examples/switchboard.py

    curl http://127.0.0.1:8080/calls
    curl -X DELETE http://127.0.0.1:8080/calls/1
"""

from __future__ import annotations

import itertools
import json
import os

from klein import Klein
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.web.server import Request as HttpRequest
from twisted.web.server import Site

from drachtwist import Dialog, Request, Response, Srf, SrfService
from drachtwist.server.config import ServerConfig
from drachtwist.server.service import DrachtioServer

http_port = int(os.environ.get("HTTP_PORT", "8080"))
admin_port = int(os.environ.get("ADMIN_PORT", "9022"))
contact = os.environ.get("CONTACT", "sip:127.0.0.1:5060;transport=udp,tcp")

numbers = itertools.count(1)
calls: dict[int, Dialog] = {}
srf = Srf()
site = Klein()


@srf.invite
async def answer(req: Request, res: Response) -> None:
    """Answer, and keep the call in the list as long as it is up."""
    call = await srf.create_uas(req, res, local_sdp=req.body)
    number = next(numbers)
    calls[number] = call
    await call.when_ended()
    del calls[number]


@site.route("/calls", methods=["GET"])
def listed(request: HttpRequest) -> bytes:
    """Say who is calling."""
    request.setHeader("Content-Type", "application/json")
    return json.dumps({number: call.req.calling_number for number, call in calls.items()}).encode()


@site.route("/calls/<int:number>", methods=["DELETE"])
async def hang_up(request: HttpRequest, number: int) -> bytes:
    """Send a BYE; the answer waits for that to be answered."""
    if number not in calls:
        request.setResponseCode(404)
        return b"no such call\n"
    await calls[number].destroy()
    request.setResponseCode(204)
    return b""


application = Application("switchboard")
DrachtioServer(ServerConfig(admin_port=admin_port, contacts=[contact])).setServiceParent(
    application
)
SrfService(srf, f"tcp:127.0.0.1:{admin_port}", secret="cymru").setServiceParent(application)
endpoint = TCP4ServerEndpoint(srf.reactor, http_port, interface="127.0.0.1")
StreamServerEndpointService(endpoint, Site(site.resource())).setServiceParent(application)
