"""The application that JsSIP registers with and calls. Who is called decides what happens."""

from __future__ import annotations

from drachtwist import Request, Response, SipError, Srf, couple, forward_in_dialog
from drachtwist.middleware import Registrar

# What a browser would say of its sound; nothing listens where it says.
SDP = "\r\n".join(
    [
        "v=0",
        "o=- 1700000000 1700000001 IN IP4 127.0.0.1",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 126",
        "c=IN IP4 127.0.0.1",
        "a=mid:0",
        "a=ice-ufrag:Zm9v",
        "a=ice-pwd:Zm9vYmFyYmF6cXV4cXV1eGNvcmdl",
        "a=fingerprint:sha-256 " + ":".join(["AB"] * 32),
        "a=setup:{setup}",
        "a=rtcp-mux",
        "a=sendrecv",
        "a=rtpmap:111 opus/48000/2",
        "a=rtpmap:126 telephone-event/8000",
        "",
    ]
)

srf = Srf()
registrar = Registrar()
srf.use("register", registrar)


async def place(name: str) -> str | None:
    """Say where somebody is registered."""
    places = await registrar.find(f"sip:{name}@drachtwist.example")
    return places[0].uri if places else None


@srf.invite
async def called(req: Request, res: Response) -> None:
    """Answer, answer and hang up, or connect with somebody: as two dialogs, or as a proxy."""
    who = req.called_number or ""
    if who in ("answer", "hangup"):
        res.send(180)
        call = await srf.create_uas(req, res, local_sdp=SDP.format(setup="passive"))
        call.on_info(lambda info, answer: answer.send(200, body=info.body, headers=_type_of(info)))
        if who == "hangup":
            await call.when_acked()
            await call.destroy()
        return
    to = await place(who)
    if to is None:
        res.send(480)
    elif "@proxy." in req.uri:
        result = await srf.proxy_request(req, to, record_route=True)
        print(f"proxied: {result.final_status}")
    else:
        try:
            caller, callee = await srf.create_b2bua(req, res, to)
        except SipError as refusal:
            print(f"refused: {refusal.status}")
        else:
            couple(caller, callee)
            forward_in_dialog(caller, callee)


def _type_of(req: Request) -> dict[str, str]:
    return {"Content-Type": req.get("Content-Type") or "text/plain"}


@srf.message
async def call_back(req: Request, res: Response) -> None:
    """Call whoever wrote; hang up at once if that is what was written."""
    res.send(202)
    to = await place(req.calling_number or "")
    assert to is not None
    call = await srf.create_uac(to, local_sdp=SDP.format(setup="actpass"))
    if req.text == "hang up":
        await call.destroy()
    else:
        await call.when_ended()
    print(f"called back: {req.text}")
