"""A switch whose people can transfer their calls::

    CALLEE=sip:bob@192.0.2.2 twist drachtio --app docs/examples/transfer.py

When one side of a call sends a REFER, the switch calls the target, tells how that goes, and
connects the other side, which only notices that the voice is another one.
"""

from __future__ import annotations

import os

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from drachtwist import Dialog, MessageError, Request, Response, SipError, Srf, accept_refer

log = Logger(namespace="transfer")
srf = Srf()
callee = os.environ.get("CALLEE", "sip:bob@127.0.0.1:5070")


class Call:
    """Two people who talk, whoever they are by now."""

    def __init__(self, *legs: Dialog) -> None:
        self.legs = list(legs)
        for leg in legs:
            self.watch(leg)

    def watch(self, leg: Dialog) -> None:
        """Listen to a leg."""
        leg.when_ended().addCallback(lambda ended: self.over(leg))

        @leg.on_refer
        async def refer(req: Request, res: Response) -> None:
            await self.refer(leg, req, res)

    def over(self, leg: Dialog) -> None:
        """A leg is over: so is the call, unless the leg had left it."""
        if leg in self.legs:
            self.legs.remove(leg)
            for other in self.legs:
                other.destroy()

    async def refer(self, leg: Dialog, req: Request, res: Response) -> None:
        """Connect the other leg with whom this one names."""
        if len(self.legs) < 2:
            res.send(491)  # it is being transferred
            return
        try:
            referral = accept_refer(leg, req, res)
        except MessageError:
            return  # it was refused
        [other] = [one for one in self.legs if one is not leg]
        self.legs = [other]  # who transfers may hang up now
        log.info("a transfer to {target}", target=referral.target)
        calling = referral.follow(local_sdp=other.remote.sdp)
        other.when_ended().addCallback(lambda ended: calling.cancel())
        try:
            target = await calling
        except (CancelledError, SipError) as refusal:
            log.info("{target}: {refusal}", target=referral.target, refusal=refusal)
            up = [one for one in (leg, other) if one.connected]
            self.legs = up if len(up) == 2 else []
            if not self.legs:
                for one in up:
                    one.destroy()
            return  # the two may go on talking
        self.legs = [other, target]
        self.watch(target)
        if leg.connected:
            leg.destroy()
        await other.modify(target.remote.sdp)
        log.info("transferred to {target}", target=referral.target)


@srf.invite
async def connect(req: Request, res: Response) -> None:
    """Connect a caller."""
    try:
        Call(*await srf.create_b2bua(req, res, callee))
    except SipError as refusal:
        log.info("refused: {status}", status=refusal.status)
