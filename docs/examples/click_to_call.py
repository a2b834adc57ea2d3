"""Click to call: a page where two people are connected with each other, served by FastAPI.

It needs ``pip install fastapi uvicorn``, Python 3.11, and a drachtio server::

    DRACHTIO=tcp:127.0.0.1:9022 uvicorn --app-dir docs/examples click_to_call:api

The loop is uvicorn's, and Twisted uses it. Who is called first is called without an offer, and his
phone makes one for the second (RFC 3725, flow I).
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from drachtwist import ConnectionFailed, Dialog, LocalProtocolError, SipError, Srf, aio, couple

PAGE = """<!doctype html><title>Click to call</title>
<form id=form><input name=caller placeholder="sip:ann@192.0.2.1" required>
<input name=callee placeholder="sip:bob@192.0.2.2" required><button>Call</button></form>
<output id=said></output>
<script>
form.onsubmit = async event => {
  event.preventDefault()
  said.value = "calling..."
  const response = await fetch("calls", {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(Object.fromEntries(new FormData(form)))
  })
  said.value = response.ok ? "they are talking" : (await response.json()).detail
}
</script>"""

srf = Srf()
numbers = itertools.count(1)
calls: dict[int, Dialog] = {}


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Run the application as long as the web server does."""
    endpoint = os.environ.get("DRACHTIO", "tcp:127.0.0.1:9022")
    secret = os.environ.get("DRACHTIO_SECRET", "cymru")
    async with aio.serving(srf, endpoint, secret=secret):
        yield


api = FastAPI(lifespan=lifespan)


class Call(BaseModel):
    """Who is to talk with whom."""

    caller: str
    callee: str


async def dial(call: Call) -> int:
    """Connect two people; give the number of their call."""
    first = await srf.create_uac(call.caller, calling_name="Click to call")
    try:
        second = await srf.create_uac(call.callee, local_sdp=first.remote.sdp)
    except BaseException:  # a refusal, or nobody waits for it any more
        first.ack()
        first.destroy()
        raise
    first.ack(second.remote.sdp)
    couple(first, second)
    number = next(numbers)
    calls[number] = first
    first.when_ended().addCallback(lambda _: calls.pop(number, None))
    return number


@api.get("/", response_class=HTMLResponse)
async def page() -> str:
    """Show the form."""
    return PAGE


@api.post("/calls", status_code=201)
async def place(call: Call) -> dict[str, int]:
    """Call both; the answer comes when they are connected."""
    try:
        async with asyncio.timeout(60):
            return {"call": await aio.wait(dial(call))}
    except TimeoutError:
        raise HTTPException(504, "nobody has answered") from None
    except SipError as refusal:
        raise HTTPException(502, f"refused: {refusal}") from None
    except ConnectionFailed as error:
        raise HTTPException(503, str(error)) from None
    except LocalProtocolError as error:
        raise HTTPException(422, str(error)) from None


@api.delete("/calls/{number}", status_code=204)
async def hang_up(number: int) -> None:
    """End a call."""
    if number not in calls:
        raise HTTPException(404, "no such call")
    await calls[number].destroy()
