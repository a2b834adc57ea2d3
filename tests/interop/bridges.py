"""The application between two phones: who is called decides what happens, CALLEE is the other."""

from __future__ import annotations

import os

from drachtwist import Request, Response, SipError, Srf, couple

CALLEE = os.environ["CALLEE"]

srf = Srf()


@srf.invite
async def called(req: Request, res: Response) -> None:
    """Connect the caller as two dialogs, or let the server forward the call."""
    if req.called_number == "proxy":
        result = await srf.proxy_request(req, CALLEE, record_route=True)
        print(f"proxied: {result.final_status}")
        return
    try:
        uas, uac = await srf.create_b2bua(req, res, CALLEE)
    except SipError as refusal:
        print(f"refused: {refusal.status}")
        return
    couple(uas, uac)


@srf.options
async def dial(req: Request, res: Response) -> None:
    """Call the other phone, hang up, and say how it went."""
    try:
        call = await srf.create_uac(CALLEE, local_sdp="v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\n")
        await call.destroy()
    except SipError as refusal:
        res.send(refusal.status)
    else:
        res.send(200)
