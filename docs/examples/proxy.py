"""Forward calls by a table of names, and stay out of what follows::

    TABLE="sales=sip:ann@192.0.2.1 sip:bob@192.0.2.2,desk=sip:carol@192.0.2.3" \
        twist drachtio --app docs/examples/proxy.py

Several places for a name are rung at once.
"""

from __future__ import annotations

import os

from twisted.logger import Logger

from drachtwist import Request, Response, Srf

log = Logger(namespace="proxy")
srf = Srf()
table = {
    name: places.split()
    for name, _, places in (
        one.partition("=") for one in os.environ.get("TABLE", "").split(",") if one
    )
}


@srf.invite
async def forward(req: Request, res: Response) -> None:
    """Forward a call to where its name is."""
    places = table.get(req.called_number or "")
    if not places:
        res.send(404)
        return
    result = await srf.proxy_request(
        req, places, forking="simultaneous", record_route=True, provisional_timeout=5
    )
    for target in result.responses:
        for response in target.responses:
            log.info("{to}: {status}", to=target.address, status=response.status)
    log.info("connected" if result.connected else "nobody has answered")
