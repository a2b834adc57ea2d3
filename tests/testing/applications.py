"""Applications that the tests of the kit call."""

from __future__ import annotations

from drachtwist import Request, Response, SipError, Srf, couple, forward_in_dialog
from drachtwist.testing import Network


def answering() -> Srf:
    """Make an application that answers calls, but for some that it refuses."""
    srf = Srf()

    @srf.invite
    async def answer(req: Request, res: Response) -> None:
        if req.called_number == "closed":
            res.send(480)
            return
        res.send(180)
        await srf.create_uas(req, res, local_sdp=req.body)

    return srf


def switch(net: Network) -> Srf:
    """Make an application that connects callers with the phone of the name that they call."""
    srf = Srf()

    @srf.invite
    async def connect(req: Request, res: Response) -> None:
        try:
            caller, called = await srf.create_b2bua(req, res, net.phones[req.called_number].uri)
        except SipError:
            return
        couple(caller, called)
        forward_in_dialog(caller, called)

    return srf
