"""The responses among the torture messages of RFC 4475, where somebody waits for them.

Each is sent as the answer to a request of an application, or to one that is forwarded for a caller:
with what makes it an answer to that, and otherwise as it is.
"""

from __future__ import annotations

from typing import Any

from drachtwist import SipError, Srf
from drachtwist.sip.message import Request, Response
from drachtwist.sip.parsing import parse_datagram
from tests.server.phones import ServerCase, Talker
from tests.server.test_uac import CallingTestCase
from tests.sip.test_torture import MESSAGES, octets, readings

RESPONSES = {entry["name"]: entry for entry in MESSAGES if entry["kind"] == "response"}
OWN = {"via", "from", "to", "call_id", "cseq", "contact"}
"""What the manifest says of a response that is not true of an answer to something else."""


def answer(asked: Request, name: str, contact: str, status: int | None = None) -> bytes:
    """Make a torture message the answer to a request; what is wrong with it stays.

    :param contact: its Contact, so that what follows comes back here.
    :param status: another one.
    """
    head, _, body = octets(RESPONSES[name]).partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    if status is not None:
        start = b"SIP/2.0 %d %s" % (status, start.split(b" ", 2)[2])
    own = {
        b"Via": ", ".join(asked.get_all("Via")),
        b"From": asked.get("From"),
        b"To": f"{asked.get('To')};tag=callee",
        b"Call-ID": asked.get("Call-ID"),
        b"Contact": f"<{contact}>",
    }
    if name != "scalarlg":  # whose CSeq is what is wrong
        own[b"CSeq"] = asked.get("CSeq")
    for at, line in enumerate(lines):
        key = line.partition(b":")[0]
        if key in own:
            # A second Via is left as it is.
            lines[at] = key + f": {own.pop(key)}".encode()
    return b"\r\n".join([start, *lines]) + b"\r\n\r\n" + body


def respond(phone: Talker, asked: Request, name: str, status: int | None = None) -> None:
    """Let a phone answer a request with a torture message."""
    assert phone.flow is not None
    phone.transports.send(phone.flow, answer(asked, name, phone.uri, status))


class AwaitedTests(ServerCase):
    def assert_as_sent(self, response: Response, name: str) -> None:
        """See that a response is as the manifest says."""
        for key, found, stated in readings(response, RESPONSES[name]["expect"], OWN):
            self.assertEqual(found, stated, f"{key} of {name}")

    async def start(self, transport: str) -> Talker:
        """Start a server, an application, and a phone that is called."""
        self.server = await self.serve(contacts=(f"sip:127.0.0.1:0;transport={transport}",))
        self.phone = self.talker(f"sip:127.0.0.1:0;transport={transport}", self.server)
        self.srf = Srf()
        self.forwarding(self.srf, self.phone)
        await self.connect(self.srf, self.server)
        return self.phone

    async def told(self, transport: str) -> None:
        """The application is told status and reason, whatever stands there."""
        phone = await self.start(transport)
        rang: list[Any] = []
        calling = self.srf.create_uac(phone.uri, local_sdp="v=0\r\n", on_provisional=rang.append)
        invite = await phone.request("INVITE")
        respond(phone, invite, "noreason")
        respond(phone, invite, "noreason", 183)
        respond(phone, invite, "unreason")
        call = await calling
        await phone.request("ACK")
        assert isinstance(call.res, Response)
        self.assert_as_sent(call.res, "unreason")
        # Nobody is told of a 100.
        self.assertEqual([(one.status, one.reason) for one in rang], [(183, "")])
        ending = call.destroy()
        phone.answer(await phone.request("BYE"), 200)
        await ending

    async def told_of_failure(self, transport: str) -> None:
        """A failure without a reason is one."""
        phone = await self.start(transport)
        calling = self.srf.create_uac(phone.uri, local_sdp="v=0\r\n")
        respond(phone, await phone.request("INVITE"), "noreason", 486)
        failure: Any = await self.assertFailure(calling, SipError)
        self.assertEqual((failure.status, failure.reason), (486, ""))
        await phone.request("ACK")

    async def discarded(self, transport: str, name: str) -> None:
        """What is to be discarded is no answer: the request is answered by what comes then."""
        phone = await self.start(transport)
        asking = self.srf.request(phone.uri, method="OPTIONS")
        asked = await phone.request("OPTIONS")
        respond(phone, asked, name)
        phone.answer(asked, 480)
        self.assertEqual((await asking).status, 480)

    async def forwarded(self, transport: str, name: str) -> None:
        """The caller of a call that is proxied gets status and reason as they were sent."""
        callee = await self.start(transport)
        caller = self.talker(f"sip:127.0.0.1:0;transport={transport}", self.server)
        invite = caller.ask("INVITE", f"sip:bob@{callee.address}", body="v=0\r\n")
        arrived = await callee.request("INVITE")
        respond(callee, arrived, "noreason")
        if name == "unreason":
            respond(callee, arrived, name)
            self.assert_as_sent(await caller.response(invite), name)
            return
        respond(callee, arrived, name, 486)
        final = await caller.response(invite)
        self.assertEqual((final.status, final.reason), (486, ""))
        await callee.request("ACK")


def _add(what: str, transport: str, *more: str) -> None:
    async def test(self: Any) -> None:
        await getattr(self, what)(transport, *more)

    test.__doc__ = getattr(AwaitedTests, what).__doc__
    setattr(AwaitedTests, "_".join(("test", what, transport, *more)), test)


for _transport in ("udp", "tcp"):
    _add("told", _transport)
    _add("told_of_failure", _transport)
    for _name in ("scalarlg", "bigcode", "bcast"):
        _add("discarded", _transport, _name)
    for _name in ("unreason", "noreason"):
        _add("forwarded", _transport, _name)


class ScheduleTests(CallingTestCase):
    def test_trying_without_reason(self) -> None:
        """A 100 without a reason keeps an INVITE from being sent again."""
        invite = self.ask()
        raw = answer(invite, "noreason", "sip:bob@127.0.0.1:32071")
        flow = self.bench.wire.flow("127.0.0.1", 32071)
        self.bench.core.sip_received(parse_datagram(raw), flow, len(raw))
        self.assertEqual((self.seen(40), self.app.take()), ([], []))
