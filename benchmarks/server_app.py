"""The application that benchmarks/server.py has called: it answers, and the caller hangs up."""

from __future__ import annotations

import os

from drachtwist import Request, Response, Srf

SDP = "\r\n".join(
    [
        "v=0",
        "o=- 1700000000 1700000001 IN IP4 127.0.0.1",
        "s=bench",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        "m=audio 40000 RTP/AVP 0",
        "a=rtpmap:0 PCMU/8000",
        "",
    ]
)

RINGS = bool(os.environ.get("RINGS"))

srf = Srf()


@srf.invite
async def answer(req: Request, res: Response) -> None:
    """Answer a call."""
    if RINGS:
        res.send(180)
    await srf.create_uas(req, res, local_sdp=SDP)
