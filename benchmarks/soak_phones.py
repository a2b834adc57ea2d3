"""Phones, and garbage, for benchmarks/soak.py: UDP sockets and a little SIP of their own."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

TORTURE = Path(__file__).resolve().parent.parent / "tests" / "data" / "torture"
SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 9 RTP/AVP 0\r\n"
)

T1, T2 = 0.5, 4.0
PATIENCE = 64 * T1
"""Seconds that a request is repeated for, and has for its first response."""
RINGING = 90.0
"""Seconds that an INVITE has that was answered provisionally."""

# Messages


class Message:
    """A SIP message, as far as a phone cares."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.decode("utf-8", "replace").partition("\r\n\r\n")
        self.start, *lines = head.split("\r\n")
        self.headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.headers.setdefault(name.strip().lower(), []).append(value.strip())

    def get(self, name: str) -> str:
        return next(iter(self.headers.get(name.lower(), ())), "")

    @property
    def status(self) -> int:
        """Its status, 0 for a request."""
        return int(self.start.split(" ")[1]) if self.start.startswith("SIP/2.0 ") else 0

    @property
    def method(self) -> str:
        return self.get("CSeq").rpartition(" ")[2]

    @property
    def number(self) -> int:
        return int(self.get("CSeq").partition(" ")[0])

    @property
    def branch(self) -> str:
        found = re.search(r"branch=([^;,\s]+)", self.get("Via"))
        return found[1] if found else ""

    @property
    def contact(self) -> str:
        found = re.search(r"<([^>]*)>", self.get("Contact"))
        return found[1] if found else ""


class Failed(Exception):
    """A call came to something else than it has to."""


class Silence(Exception):
    """A phone was left alone."""


# Phones


class Phone(asyncio.DatagramProtocol):
    """A socket with many calls; what comes for nobody goes to ``strays``."""

    def __init__(self, server: tuple[str, int], chance: random.Random, garbage: Garbage) -> None:
        self.server = server
        self.chance = chance
        self.calls: dict[str, Call] = {}
        self.strays: Callable[[Message], None] = lambda message: None
        self._garbage = garbage

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.address = "{}:{}".format(*transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, addr: Any) -> None:
        message = Message(data)
        call = self.calls.get(message.get("Call-ID"))
        if call is not None:
            call.received(message)
        elif message.status == 0:
            self.strays(message)

    def send(self, text: str) -> None:
        self._transport.sendto(text.encode(), self.server)
        self._garbage.datagram()

    def answer(
        self, request: Message, status: int, tag: str, body: str = "", reason: str = "Whatever"
    ) -> str:
        """Write a response."""
        lines = [f"SIP/2.0 {status} {reason}"]
        for name in ("Via", "Record-Route", "From", "To", "Call-ID", "CSeq"):
            for value in request.headers.get(name.lower(), ()):
                if name == "To" and ";tag=" not in value and status > 100:
                    value += f";tag={tag}"
                lines.append(f"{name}: {value}")
        lines.append(f"Contact: <sip:phone@{self.address}>")
        if body:
            lines.append("Content-Type: application/sdp")
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body])


class Call:
    """One side of a call, or of another exchange.

    :param phone: whose.
    :param uri: whom it is for.
    :param invite: what began it, if the other side did.
    :param extra: a header of its requests.
    """

    def __init__(
        self, phone: Phone, uri: str, invite: Message | None = None, extra: str = ""
    ) -> None:
        self.phone = phone
        self._extra = [extra] if extra else []
        self.target = uri
        self.tag = secrets.token_hex(6)
        self.call_id = secrets.token_hex(10) if invite is None else invite.get("Call-ID")
        self.local = f"<sip:phone@{phone.address}>;tag={self.tag}"
        self.remote = f"<{uri}>"
        self.number = 0
        self.heard = invite is not None
        """Whether anything has come from the server."""
        self.over: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        """Fires with the BYE, or CANCEL, of the other side."""
        self.acknowledged = asyncio.Event()
        self._acks: dict[int, str] = {}
        self._waiting: dict[tuple[str, str], asyncio.Queue[Message]] = {}
        phone.calls[self.call_id] = self

    def received(self, message: Message) -> None:
        """Take a message."""
        self.heard = True
        if message.status:
            if message.method == "INVITE" and 200 <= message.status < 300:
                ack = self._acks.get(message.number)
                if ack is not None:
                    self.phone.send(ack)
                    return
            queue = self._waiting.get((message.branch, message.method))
            if queue is not None:
                queue.put_nowait(message)
            return
        method = message.method
        if method == "ACK":
            self.acknowledged.set()
            return
        self.phone.send(self.phone.answer(message, 200, self.tag))
        if method in ("BYE", "CANCEL") and not self.over.done():
            self.over.set_result(message)

    def write(self, method: str, branch: str, number: int, body: str = "") -> str:
        """Write a request."""
        lines = [
            f"{method} {self.target} SIP/2.0",
            f"Via: SIP/2.0/UDP {self.phone.address};branch={branch};rport",
            "Max-Forwards: 70",
            f"From: {self.local}",
            f"To: {self.remote}",
            f"Call-ID: {self.call_id}",
            f"CSeq: {number} {method}",
            f"Contact: <sip:phone@{self.phone.address}>",
            *self._extra,
        ]
        if body:
            kind = "application/sdp" if body.startswith("v=") else "text/plain"
            lines.append(f"Content-Type: {kind}")
        return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body])

    async def ask(
        self,
        method: str,
        body: str = "",
        cancel: float | None = None,
        expected: tuple[int, ...] = (200,),
    ) -> Message:
        """Send a request, and again, until its final response comes.

        :param cancel: seconds after the first provisional response until an INVITE is cancelled.
        """
        self.number += 1
        number, branch = self.number, f"z9hG4bK{secrets.token_hex(8)}"
        request = self.write(method, branch, number, body)
        final = await self._exchange(method, branch, request, number, cancel)
        if method == "INVITE":
            if final.status < 300:
                self.remote = final.get("To")
                self.target = final.contact or self.target
                ack = self.write("ACK", f"z9hG4bK{secrets.token_hex(8)}", number)
                self._acks[number] = ack
            else:
                to, self.remote = self.remote, final.get("To")
                ack = self.write("ACK", branch, number)
                self.remote = to
            self.phone.send(ack)
        if final.status not in expected:
            reason = final.get("Reason")
            raise Failed(f"{final.status} {method}" + (f" ({reason})" if reason else ""))
        return final

    async def _exchange(
        self, method: str, branch: str, request: str, number: int, cancel: float | None = None
    ) -> Message:
        queue: asyncio.Queue[Message] = asyncio.Queue()
        key = branch, method
        self._waiting[key] = queue
        loop = asyncio.get_running_loop()
        interval, until, rings = T1, loop.time() + PATIENCE, False
        cancelling: asyncio.Task[Any] | None = None
        try:
            self.phone.send(request)
            while True:
                left = until - loop.time()
                if left <= 0:
                    raise Silence(f"no {'final ' if rings else ''}response to {method}")
                try:
                    wait = left if rings else min(interval, left)
                    message = await asyncio.wait_for(queue.get(), wait)
                except asyncio.TimeoutError:
                    if not rings:
                        interval = interval * 2 if method == "INVITE" else min(T2, interval * 2)
                        self.phone.send(request)
                    continue
                if message.status >= 200:
                    return message
                if method == "INVITE":
                    if not rings:
                        until = loop.time() + RINGING
                    rings = True
                    # Not behind a 180 alone, which is sent once and may be lost.
                    if cancel is not None and cancelling is None:
                        cancelling = asyncio.ensure_future(self._cancel(branch, number, cancel))
        finally:
            del self._waiting[key]
            if cancelling is not None:
                if cancelling.done():
                    cancelling.result()
                cancelling.cancel()

    async def _cancel(self, branch: str, number: int, after: float) -> None:
        await asyncio.sleep(after)
        await self._exchange("CANCEL", branch, self.write("CANCEL", branch, number), number)

    async def stays(self, seconds: float) -> None:
        """Be in the call for some time."""
        with contextlib.suppress(asyncio.TimeoutError):
            bye = await asyncio.wait_for(asyncio.shield(self.over), seconds)
            raise Failed(f"hung up on ({bye.get('Reason') or 'no reason'})")

    async def hung_up(self, seconds: float) -> Message:
        """Wait for the other side to hang up."""
        try:
            return await asyncio.wait_for(asyncio.shield(self.over), seconds)
        except asyncio.TimeoutError:
            raise Silence("left up") from None

    def forget(self) -> None:
        """Hear nothing any more."""
        self.phone.calls.pop(self.call_id, None)


# Garbage


class Garbage(asyncio.DatagramProtocol):
    """Sends what nobody should.

    :param share: of all datagrams.
    """

    def __init__(self, server: tuple[str, int], chance: random.Random, share: float) -> None:
        self._server = server
        self._chance = chance
        self._share = share
        self._torture = sorted(TORTURE.glob("rfc*/*.dat"))
        self.sent = self.useful = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._address = "{}:{}".format(*transport.get_extra_info("sockname"))

    def datagram(self) -> None:
        """A useful datagram was sent."""
        self.useful += 1
        while self.sent < self._share / (1 - self._share) * self.useful:
            self.sent += 1
            self._transport.sendto(self._make()[:65_000], self._server)

    def _make(self) -> bytes:
        chance = self._chance
        kind = chance.random()
        if kind < 0.35 and self._torture:
            return chance.choice(self._torture).read_bytes()
        if kind < 0.45:
            return chance.randbytes(chance.choice((0, 1, 4, 60, 1400)))
        method = chance.choice(("INVITE", "OPTIONS", "BYE", "MESSAGE", "CANCEL", "ACK", "INFO"))
        data = bytearray(
            f"{method} sip:garbage@127.0.0.1 SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {self._address};branch=z9hG4bK{chance.getrandbits(64):x};rport\r\n"
            f"From: <sip:garbage@127.0.0.1>;tag={chance.getrandbits(32):x}\r\n"
            f"To: <sip:garbage@127.0.0.1>\r\nCall-ID: garbage-{chance.getrandbits(64):x}\r\n"
            f"CSeq: 1 {method}\r\nMax-Forwards: 70\r\nContact: <sip:garbage@{self._address}>\r\n"
            f"Content-Length: {len(SDP)}\r\n\r\n{SDP}".encode()
        )
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            what = chance.random()
            if what < 0.5:
                data[at] = chance.randrange(256)
            elif what < 0.7:
                del data[at : at + chance.randint(1, 30)]
            elif what < 0.9:
                data[at:at] = data[at : at + chance.randint(1, 60)]
            else:
                data[at:at] = bytes([chance.choice(b'\r\n\0\t;,<"\\ ')]) * chance.randint(1, 400)
            if not data:
                break
        return bytes(data)
