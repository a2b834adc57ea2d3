"""The application between phones: each way to connect them is one user part of the URI."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from drachtwist import (
    Request,
    Response,
    SipError,
    Srf,
    couple,
    forward_in_dialog,
    hunt,
    simring,
)

PHONES = os.environ["PHONES"].split()

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
    couple(*await hunt(srf, req, res, PHONES, timeout=0.5))


async def fork(req: Request, res: Response) -> None:
    """Let the server ring all phones."""
    await srf.proxy_request(req, PHONES, forking="simultaneous", record_route=True)


async def serial(req: Request, res: Response) -> None:
    """Let the server ring one phone after the other."""
    await srf.proxy_request(req, PHONES, record_route=True)


WAYS: dict[str | None, Callable[[Request, Response], Awaitable[None]]] = {
    "bridge": bridge,
    "simring": ring_all,
    "hunt": ring_each,
    "fork": fork,
    "serial": serial,
}


@srf.invite
async def called(req: Request, res: Response) -> None:
    """Connect the caller."""
    try:
        await WAYS[req.called_number](req, res)
    except SipError as refusal:
        print(f"refused: {refusal.status}")
