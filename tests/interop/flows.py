"""The application between phones: each way to connect them is one user part of the URI."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from drachtwist import (
    Request,
    Response,
    SipError,
    Srf,
    accept_refer,
    couple,
    forward_in_dialog,
    hunt,
    simring,
)

PHONES = os.environ["PHONES"].split()
PATIENCE = 2.5
"""Seconds that a phone has to answer, where somebody else is to be called then."""
LITTLE_PATIENCE = 0.5
"""The same where nobody is to answer."""

srf = Srf()


async def bridge(req: Request, res: Response) -> None:
    """Connect both, and pass on what they say."""
    uas, uac = await srf.create_b2bua(
        req,
        res,
        PHONES[0],
        auth=("app", "open-sesame"),
        follow_redirects=True,
        proxy_response_headers=["X-Why"],
    )
    couple(uas, uac)
    forward_in_dialog(uas, uac)


async def ring_all(req: Request, res: Response) -> None:
    """Ring all phones."""
    couple(*await simring(srf, req, res, PHONES))


async def ring_each(req: Request, res: Response) -> None:
    """Ring one phone after the other."""
    couple(*await hunt(srf, req, res, PHONES, timeout=PATIENCE))


async def fork(req: Request, res: Response) -> None:
    """Let the server ring all phones."""
    await srf.proxy_request(req, PHONES, forking="simultaneous", record_route=True)


async def serial(req: Request, res: Response) -> None:
    """Let the server ring one phone after the other."""
    await srf.proxy_request(
        req,
        PHONES,
        record_route=True,
        follow_redirects=True,
        provisional_timeout=PATIENCE,
        final_timeout=PATIENCE,
    )


async def hold(req: Request, res: Response) -> None:
    """Put the caller on hold, take him back, and hang up."""
    dialog = await srf.create_uas(req, res, local_sdp=req.body)
    await dialog.when_acked()
    await dialog.modify("hold")
    await dialog.modify("unhold")
    await dialog.destroy()


async def transferred(req: Request, res: Response) -> None:
    """Call whom the caller names in a REFER, tell him how it went, and hang up on both."""
    dialog = await srf.create_uas(req, res, local_sdp=req.body)

    @dialog.on_refer
    async def refer(req: Request, res: Response) -> None:
        target = await accept_refer(dialog, req, res).follow(local_sdp=dialog.remote.sdp)
        await target.destroy()
        await dialog.destroy()


@srf.subscribe
async def subscribe(req: Request, res: Response) -> None:
    """Accept a subscription, and end it when that is wanted."""
    dialog = await srf.create_uas(req, res, headers={"Expires": "60"})
    dialog.on_unsubscribe(lambda last: dialog.destroy())
    await dialog.notify(headers={"Event": "presence", "Subscription-State": "active;expires=60"})


@srf.options
async def dial(req: Request, res: Response) -> None:
    """Call a phone: hang up, wait for its BYE, or call in vain; say how it went."""
    sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    try:
        timeout = LITTLE_PATIENCE if req.called_number == "vain" else None
        dialog = await srf.create_uac(PHONES[0], local_sdp=sdp, timeout=timeout)
    except SipError as refusal:
        res.send(refusal.status)
        return
    if req.called_number == "listen":
        await dialog.when_ended()
    else:
        await dialog.destroy()
    res.send(200)


@srf.message
async def message(req: Request, res: Response) -> None:
    """Pass a text on."""
    headers = {"Content-Type": "text/plain"}
    response = await srf.request(PHONES[0], method="MESSAGE", headers=headers, body=req.body)
    res.send(response.status)


WAYS: dict[str | None, Callable[[Request, Response], Awaitable[None]]] = {
    "bridge": bridge,
    "simring": ring_all,
    "hunt": ring_each,
    "fork": fork,
    "serial": serial,
    "hold": hold,
    "refer": transferred,
}


@srf.invite
async def called(req: Request, res: Response) -> None:
    """Connect the caller."""
    try:
        await WAYS[req.called_number](req, res)
    except SipError as refusal:
        print(f"refused: {refusal.status}")
