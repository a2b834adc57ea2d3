"""A registrar that asks for passwords, and connects who is registered.

Register two softphones at this address, as ann (password: open-sesame) and bob (mellon), and let
one call the other::

    twist drachtio --app docs/examples/registrar.py --contact "sip:*:5060;transport=udp,tcp"

Give other people other passwords with PASSWORDS=ann:secret,bob:secret in the environment.
"""

from __future__ import annotations

import os

from twisted.logger import Logger

from drachtwist import Request, Response, SipError, Srf, couple, forward_in_dialog
from drachtwist.middleware import Binding, DigestAuth, Registrar

log = Logger(namespace="registrar")
srf = Srf()
people = os.environ.get("PASSWORDS", "ann:open-sesame,bob:mellon")
passwords = dict(one.split(":", 1) for one in people.split(","))


def changed(address: str, bindings: list[Binding]) -> None:
    """Tell who has come or gone."""
    where = ", ".join(binding.uri for binding in bindings) or "nowhere"
    log.info("{address} is at {where}", address=address, where=where)


registrar = Registrar(on_change=changed)
srf.use("register", DigestAuth("drachtwist", lambda user, realm: passwords.get(user)))
srf.use(registrar)


@srf.invite
async def connect(req: Request, res: Response) -> None:
    """Connect the caller with whoever is registered under the name."""
    places = await registrar.find(req.uri)
    if not places:
        log.info("{uri} is not registered", uri=req.uri)
        res.send(480)
        return
    try:
        caller, called = await srf.create_b2bua(req, res, places[0])
    except SipError as refusal:
        log.info("{uri} does not answer: {status}", uri=req.uri, status=refusal.status)
        return
    couple(caller, called)
    forward_in_dialog(caller, called)  # what one does (hold, transfer) the other hears of
    log.info("{uri} has answered", uri=req.uri)
