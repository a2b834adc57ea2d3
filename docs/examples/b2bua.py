"""Connect callers with somebody, and let only some codecs through::

    CALLEE=sip:bob@192.0.2.2 CODECS=PCMU,telephone-event \
        twist drachtio --app docs/examples/b2bua.py

Nothing about this side's network is passed on, and who hangs up ends the call for both.
"""

from __future__ import annotations

import os

from twisted.logger import Logger

from drachtwist import HIDE_TOPOLOGY, Request, Response, SipError, Srf, couple
from drachtwist.sip.sdp import Sdp

log = Logger(namespace="b2bua")
srf = Srf()
callee = os.environ.get("CALLEE", "sip:bob@127.0.0.1:5070")
codecs = os.environ.get("CODECS", "PCMU,PCMA,telephone-event").split(",")


def filtered(sdp: bytes, message: object) -> bytes:
    """Drop the codecs that are not wanted; what cannot be read stays for the others to judge."""
    description = Sdp(sdp)
    description.keep_codecs(*codecs)
    return bytes(description)


@srf.invite
async def connect(req: Request, res: Response) -> None:
    """Connect a caller."""
    try:
        caller, called = await srf.create_b2bua(
            req,
            res,
            callee,
            local_sdp_b=filtered,
            proxy_request_headers=HIDE_TOPOLOGY,
            proxy_response_headers=HIDE_TOPOLOGY,
        )
    except SipError as refusal:
        log.info("{who} was refused: {status}", who=req.calling_number, status=refusal.status)
        return
    couple(caller, called)
    log.info("{who} is connected", who=req.calling_number)
    ended = await caller.when_ended()
    log.info("the call of {who} is over: {why}", who=req.calling_number, why=ended.reason.value)
