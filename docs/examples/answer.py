"""Answer every call, report the keys that are pressed, and hang up after a minute or at #.

Run it on a server of its own, and call sip:hello@127.0.0.1 with any softphone::

    twist drachtio --app docs/examples/answer.py

or on a drachtio server that runs already::

    DRACHTIO_SECRET=cymru twist drachtio --app docs/examples/answer.py \
        --endpoint tcp:127.0.0.1:9022

There is no sound: SIP sets calls up, and what carries sound is a media server's work. So a caller
sees the call ring, be answered and end; calls to sip:busy@... are refused.
"""

from __future__ import annotations

from twisted.internet.task import deferLater
from twisted.logger import Logger

from drachtwist import Dialog, Request, Response, SipError, Srf

RING_FOR = 1.0
HANG_UP_AFTER = 60.0

log = Logger(namespace="answer")
srf = Srf()


@srf.invite
async def answer(req: Request, res: Response) -> None:
    """Ring for a moment, then answer."""
    caller = req.calling_name or req.calling_number or "somebody"
    if req.called_number == "busy":
        log.info("{caller} called sip:busy@...: refused", caller=caller)
        res.send(486)
        return
    log.info("{caller} is calling from {address}", caller=caller, address=req.source_address)
    res.send(180)
    await deferLater(srf.clock, RING_FOR)
    try:
        call = await srf.create_uas(req, res, local_sdp=silent_answer(req.text))
    except SipError:
        log.info("{caller} gave up", caller=caller)
        return
    log.info("{caller} is connected; # hangs up", caller=caller)
    await attend(call, caller)


async def attend(call: Dialog, caller: str) -> None:
    """Listen to keys, and see to it that the call ends."""
    timer = srf.clock.callLater(HANG_UP_AFTER, call.destroy)

    @call.on_info
    def pressed(req: Request, res: Response) -> None:
        key = key_in(req)
        log.info("{caller} pressed {key}", caller=caller, key=key)
        res.send(200)
        if key == "#":
            call.destroy()

    ended = await call.when_ended()
    if timer.active():
        timer.cancel()
    log.info("the call of {caller} is over: {why}", caller=caller, why=ended.reason.value)


def key_in(req: Request) -> str:
    """Read the key out of an INFO, in either of the two usual forms."""
    for line in req.text.splitlines():
        name, equals, value = line.partition("=")
        if equals and name.strip().lower() == "signal":
            return value.strip()
    return req.text.strip() or "nothing"


def silent_answer(offer: str) -> str:
    """Accept what is offered, and say that nothing will be sent or received."""
    lines = ["v=0", "o=answer 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0"]
    for line in offer.splitlines():
        if line.startswith("m="):
            media, _, rest = line.partition(" ")
            lines += [f"{media} 9 {rest.partition(' ')[2]}", "a=inactive"]
    return "\r\n".join([*lines, ""])
