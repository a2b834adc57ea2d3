"""A SIPREC recorder: accept recording sessions, and note who takes part (RFC 7866, RFC 7865).

::

    twist drachtio --app docs/examples/recorder.py

The INVITE of a recording client has two parts, the session description and the metadata. This
answers with descriptions that only receive; to keep what is received is a media server's work,
whose address and ports go into ADDRESS and FIRST_PORT.
"""

from __future__ import annotations

import os
from xml.etree import ElementTree

from twisted.logger import Logger

from drachtwist import Dialog, Request, Response, SipError, Srf
from drachtwist.sip.sdp import answer, sdp_of

METADATA = "application/rs-metadata"
NAMESPACE = "{urn:ietf:params:xml:ns:recording:1}"

log = Logger(namespace="recorder")
srf = Srf()
address = os.environ.get("ADDRESS", "127.0.0.1")
first_port = int(os.environ.get("FIRST_PORT", "40000"))
sessions: dict[str, list[str]] = {}


def participants(req: Request) -> list[str]:
    """Read who takes part out of the metadata; nobody when there are none that can be read."""
    for part in req.parts:
        kind = str(part.content_type).partition(";")[0].lower()
        if kind not in (METADATA, f"{METADATA}+xml") or b"<!DOCTYPE" in part.body:
            continue
        try:
            root = ElementTree.fromstring(part.body)
        except ElementTree.ParseError:
            log.warn("metadata that cannot be read, Call-ID {call_id}", call_id=req.call_id)
            continue
        return [
            name.get("aor") or "somebody"
            for person in root.iter(f"{NAMESPACE}participant")
            for name in person.iter(f"{NAMESPACE}nameID")
        ]
    return []


@srf.invite
async def record(req: Request, res: Response) -> None:
    """Accept a recording session."""
    offer = sdp_of(req)
    if offer is None:
        res.send(488)
        return
    ports = [first_port + 2 * number for number, _ in enumerate(offer.media)]
    made = answer(offer, address, ports=ports, willing="recvonly")
    if all(stream.is_rejected for stream in made.media):
        res.send(488)
        return
    people = participants(req)
    try:
        session = await srf.create_uas(
            req, res, local_sdp=bytes(made), headers={"Require": "siprec"}
        )
    except SipError:
        return  # the client gave up
    sessions[session.id] = people
    log.info("recording {people}", people=" and ".join(people) or "somebody")
    await watch(session)


async def watch(session: Dialog) -> None:
    """Note who comes and goes while a session lasts."""

    @session.on_update
    def changed(req: Request, res: Response) -> None:
        sessions[session.id] = participants(req) or sessions[session.id]
        res.send(200)

    await session.when_ended()
    people = sessions.pop(session.id)
    log.info("recorded {people}", people=" and ".join(people) or "somebody")
