"""The application that SIPp calls. Who is called decides what happens; see app.js, its twin."""

from __future__ import annotations

from drachtwist import Request, Response, Srf

SDP = "\r\n".join(
    [
        "v=0",
        "o=- 1700000000 1700000001 IN IP4 127.0.0.1",
        "s=interop",
        "c=IN IP4 127.0.0.1",
        "t=0 0",
        "m=audio 40000 RTP/AVP 0 101",
        "a=rtpmap:0 PCMU/8000",
        "a=rtpmap:101 telephone-event/8000",
        "a=sendrecv",
        "",
    ]
)

srf = Srf(tags=["interop"])


@srf.invite
async def called(req: Request, res: Response) -> None:
    """Refuse, ring for ever, or answer: and hang up, or tell that the call is known."""
    who = req.called_number
    if who == "reject":
        res.send(486)
        return
    res.send(180)
    if who == "ring":
        return
    dialog = await srf.create_uas(req, res, local_sdp=SDP)
    dialog.on_destroy(lambda bye: srf.end_session(dialog))
    if who == "hangup":
        await dialog.when_acked()
        await dialog.destroy()
    elif who == "tell":
        await dialog.when_acked()
        await dialog.info()


@srf.options
def asked(req: Request, res: Response) -> None:
    """Answer a keep-alive."""
    res.send(200, headers={"Accept": "application/sdp"})
