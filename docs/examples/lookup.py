"""Ask a web service where a call goes, and keep the calls in a database, all with asyncio.

It needs ``pip install httpx aiosqlite``, Python 3.11, and Twisted's asyncio reactor::

    twist --reactor=asyncio drachtio --app docs/examples/lookup.py

``GET /number`` of the web service DIRECTORY gives ``{"uri": "sip:...", "ring_for": 30}``, or 404.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import aiosqlite
import httpx
from twisted.logger import Logger

from drachtwist import Request, Response, SipError, Srf, couple

log = Logger(namespace="lookup")
srf = Srf()


@srf.lifespan
async def resources() -> AsyncIterator[None]:
    """Open what calls need before the first one comes, and close it behind the last one."""
    async with (
        httpx.AsyncClient(base_url=os.environ.get("DIRECTORY", "http://127.0.0.1:8080")) as web,
        aiosqlite.connect(os.environ.get("DATABASE", "calls.sqlite")) as database,
    ):
        await database.execute("create table if not exists calls (caller text, callee text)")
        srf.locals.update(web=web, database=database)
        log.info("the database is open")
        yield
    log.info("the database is closed")


@srf.invite
async def connect(req: Request, res: Response) -> None:
    """Call who is meant, and connect the caller with him."""
    async with asyncio.timeout(5):
        found = await srf.locals["web"].get(f"/{req.called_number}")
    if found.status_code != 200:
        res.send(404)
        return
    person = found.json()
    calling = srf.create_uac(person["uri"], local_sdp=req.body)
    req.on_cancel(lambda cancel: calling.cancel())
    try:
        async with asyncio.timeout(person["ring_for"]):
            callee = await calling
    except TimeoutError:
        res.send(480, "No answer")
        return
    except SipError as refusal:
        if not req.canceled:
            res.send(refusal.status)
        return
    try:
        caller = await srf.create_uas(req, res, local_sdp=callee.remote.sdp)
    except SipError:  # the caller gave up at the last moment
        await callee.destroy()
        return
    couple(caller, callee)
    database = srf.locals["database"]
    await database.execute(
        "insert into calls values (?, ?)", (req.calling_number, req.called_number)
    )
    await database.commit()
    log.info("{callee} is in a call", callee=req.called_number)
