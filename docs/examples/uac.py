"""Click to dial: call two people, and connect them with each other (RFC 3725, flow I).

The first is called without an offer, so that his phone makes one; the second gets that offer, and
the first the second's answer, in his ACK::

    CALLER=sip:ann@192.0.2.1 CALLEE=sip:bob@192.0.2.2 twist drachtio --app docs/examples/uac.py
"""

from __future__ import annotations

import os

from twisted.logger import Logger

from drachtwist import Dialog, SipError, Srf, couple

log = Logger(namespace="uac")
srf = Srf()


async def dial(caller: str, callee: str) -> tuple[Dialog, Dialog] | None:
    """Connect two people; give both dialogs, or None when one of them does not want to."""
    try:
        first = await srf.create_uac(caller, calling_name="Click to dial", timeout=30)
    except SipError as refusal:
        log.info("{caller} does not answer: {status}", caller=caller, status=refusal.status)
        return None
    first.on_destroy(lambda bye: log.info("{caller} has hung up", caller=caller))
    try:
        second = await srf.create_uac(callee, local_sdp=first.remote.sdp, timeout=30)
    except SipError as refusal:
        log.info("{callee} does not answer: {status}", callee=callee, status=refusal.status)
        first.ack()
        await first.destroy({"Reason": f'SIP;cause={refusal.status};text="No answer"'})
        return None
    first.ack(second.remote.sdp)
    couple(first, second)
    log.info("{caller} is talking to {callee}", caller=caller, callee=callee)
    return first, second


@srf.on_connect
async def connected(link: object) -> None:
    """Dial when the server is there."""
    await dial(os.environ["CALLER"], os.environ["CALLEE"])
