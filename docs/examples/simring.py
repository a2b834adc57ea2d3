"""Ring several phones at once, and connect the caller with the first that answers::

    PHONES="sip:ann@192.0.2.1 sip:bob@192.0.2.2" twist drachtio --app docs/examples/simring.py

When none does within the time (TIMEOUT, 20 seconds), those of SECOND are tried one after the other.
"""

from __future__ import annotations

import os

from twisted.logger import Logger

from drachtwist import Request, Response, SipError, Srf, couple, hunt, simring

log = Logger(namespace="simring")
srf = Srf()
phones = os.environ.get("PHONES", "sip:ann@127.0.0.1:5070").split()
second = os.environ.get("SECOND", "").split()
timeout = float(os.environ.get("TIMEOUT", "20"))


@srf.invite
async def ring(req: Request, res: Response) -> None:
    """Ring the phones."""
    try:
        try:
            pair = await simring(srf, req, res, phones, timeout=timeout, pass_failure=not second)
        except SipError:
            if not second or req.canceled:
                raise
            log.info("nobody of the first has answered")
            pair = await hunt(srf, req, res, second, timeout=timeout)
    except SipError as refusal:
        log.info("nobody has answered: {status}", status=refusal.status)
        return
    couple(*pair)
    log.info("{who} has answered", who=pair.uac.remote.uri)
