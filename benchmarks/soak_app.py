"""The application that benchmarks/soak.py calls. Whom a request is for says what happens to it.

It counts the Deferreds that it was given and that have fired; a MESSAGE to ``counts`` tells.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from drachtwist import Dialog, DrachtwistError, Request, Response, Srf, couple

SDP = "\r\n".join(
    [
        "v=0",
        "o=- 1700000000 1700000001 IN IP4 127.0.0.1",
        "s=soak",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        "m=audio 40000 RTP/AVP 0",
        "a=rtpmap:0 PCMU/8000",
        "",
    ]
)
CALLEE = os.environ.get("CALLEE", "")
T = TypeVar("T")

KEEP = os.environ.get("KEEP")

srf = Srf(keep_calls=float(KEEP) if KEEP else None)
counts: Counter[str] = Counter()


def watched(name: str, deferred: Deferred[T]) -> Deferred[T]:
    """Count a Deferred, and count it again when it fires."""
    counts[f"{name} given"] += 1

    def fired(result: Any) -> Any:
        counts[f"{name} fired"] += 1
        return result

    return deferred.addBoth(fired)


async def waited(name: str, deferred: Deferred[T]) -> T | None:
    """Wait for what may fail when the connection to the server is cut."""
    try:
        return await watched(name, deferred)
    except DrachtwistError as error:
        counts[f"{name} failed with {type(error).__name__}"] += 1
        return None


@srf.invite
async def called(req: Request, res: Response) -> None:
    """Answer, refuse, ring, connect with another phone; hang up if that is wanted."""
    what, _, seconds = (req.called_number or "").partition("-")
    if what == "busy":
        await waited("send", res.send(486))
    elif what == "ring":
        await waited("send", res.send(180))
        await waited("cancel", req.when_cancelled())
    elif what == "bridge":
        bridging = srf.create_b2bua(req, res, CALLEE)
        both = await waited("create_b2bua", bridging)
        if both is not None:
            couple(both.uas, both.uac)
            await ended(both.uas)
            await ended(both.uac)
    elif what in ("answer", "hangup"):
        res.send(180)
        call = await waited("create_uas", srf.create_uas(req, res, local_sdp=SDP))
        if call is None:
            return
        if what == "hangup":
            from twisted.internet import reactor

            timer: Any = reactor
            timer.callLater(float(seconds), hang_up, call)
        await ended(call)
    else:
        res.send(404)


async def ended(call: Dialog) -> None:
    """Wait for the end of a call."""
    await waited("when_ended", call.when_ended())


def hang_up(call: Dialog) -> None:
    """End a call, if it is still up."""
    if call.connected:
        Deferred.fromCoroutine(waited("destroy", call.destroy()))


@srf.options
def asked(req: Request, res: Response) -> None:
    """Answer a keep-alive."""
    res.send(200)


@srf.message
def told(req: Request, res: Response) -> None:
    """Take a message, or tell what was counted."""
    if req.called_number == "counts":
        res.send(200, headers={"Content-Type": "application/json"}, body=json.dumps(counts))
    else:
        res.send(200)
