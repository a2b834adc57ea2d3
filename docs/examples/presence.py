"""A presence server: who publishes his state is watched by those who subscribe to it.

::

    twist drachtio --app docs/examples/presence.py
"""

from __future__ import annotations

from html import escape

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from drachtwist import Dialog, DrachtwistError, Request, Response, Srf

PIDF = "application/pidf+xml"
MAX_EXPIRES = 3600

log = Logger(namespace="presence")
srf = Srf()
states: dict[str, str] = {}
watchers: dict[str, list[Dialog]] = {}


def unknown(user: str) -> str:
    """Write the state of somebody who has not published any."""
    return (
        '<?xml version="1.0"?>'
        f'<presence xmlns="urn:ietf:params:xml:ns:pidf" entity="pres:{escape(user)}">'
        '<tuple id="1"><status><basic>closed</basic></status></tuple></presence>'
    )


def seconds(req: Request) -> int:
    """Give the time that is asked for, within limits."""
    text = (req.get("Expires") or "").strip()
    return min(int(text), MAX_EXPIRES) if text.isdigit() else MAX_EXPIRES


def tell(user: str, dialog: Dialog, expires: int) -> None:
    """Send a watcher the state."""
    headers = {
        "Event": "presence",
        "Subscription-State": f"active;expires={expires}",
        "Content-Type": PIDF,
    }
    sent = dialog.notify(headers=headers, body=states.get(user, unknown(user)))
    sent.addErrback(lambda failure: failure.trap(DrachtwistError))


@srf.subscribe
async def subscribe(req: Request, res: Response) -> None:
    """Let somebody watch a user."""
    user = req.called_number or ""
    if (req.get("Event") or "").partition(";")[0].strip() != "presence":
        res.send(489, headers={"Allow-Events": "presence"})
        return
    expires = seconds(req)
    dialog = await srf.create_uas(req, res, headers={"Expires": expires})
    if not expires:
        dialog.destroy(body=states.get(user, unknown(user)), headers={"Content-Type": PIDF})
        return
    watchers.setdefault(user, []).append(dialog)
    log.info("{who} watches {user}", who=req.calling_number, user=user)
    timer: IDelayedCall = srf.clock.callLater(expires, dialog.destroy)

    @dialog.on_subscribe
    def refresh(again: Request, answer: Response) -> None:
        left = seconds(again)
        timer.reset(left)
        answer.send(200, headers={"Expires": left})
        tell(user, dialog, left)

    @dialog.on_unsubscribe
    def leave(last: Request) -> None:
        dialog.destroy({"Subscription-State": "terminated;reason=timeout"})

    tell(user, dialog, expires)
    await dialog.when_ended()
    if timer.active():
        timer.cancel()
    watchers[user].remove(dialog)
    if not watchers[user]:
        del watchers[user]


@srf.publish
def publish(req: Request, res: Response) -> None:
    """Take a state, and tell who watches it."""
    user = req.called_number or ""
    expires = seconds(req)
    if not expires:
        states.pop(user, None)
    elif req.body:
        states[user] = req.text
    res.send(200, headers={"SIP-ETag": f"{user}-1", "Expires": expires})
    for dialog in watchers.get(user, []):
        tell(user, dialog, MAX_EXPIRES)
