"""Requests that are answered without being remembered."""

from __future__ import annotations

from dataclasses import replace

from drachtwist.errors import MessageError
from drachtwist.server.spammers import Spammers
from drachtwist.sip.message import Request, Response
from drachtwist.sip.stream import Malformed
from tests.server.doubles import request, sip
from tests.server.test_proxying import ROUTE, ProxyTestCase

SPAMMERS = Spammers((("user-agent", ("scanner",)),), "reject", "reject")


class SendingAwayTests(ProxyTestCase):
    """One answer for all copies, nothing for an ACK, a number for each, and nothing left."""

    def setUp(self) -> None:
        """Proxy a call, and let there be no more room."""
        self.start(spammers=SPAMMERS)
        self.up()
        core = self.bench.core
        core.limits = replace(core.limits, transactions=1)

    def sent_away(self, text: str, status: int, *, bad: bool = False) -> Response:
        """Let a request come twice; it has to be sent away with a status both times.

        :param bad: whether it is one that cannot be read.
        """
        core = self.bench.core
        before = core.counts(), core.send_away.counts.get(status, 0)
        answers = []
        for _ in range(2):
            if bad:
                found = Malformed(b"", MessageError("bad"), Request.from_bytes(sip(text)))
                core.sip_malformed(found, self.bench.wire.flow("127.0.0.1", 32070), 9)
            else:
                self.bench.receive(text)
            answers += self.bench.take()
        [first, second] = answers
        assert isinstance(first, Response)
        self.assertEqual((first.status, bytes(first)), (status, bytes(second)))
        after = core.counts(), core.send_away.counts[status] - 2
        self.assertEqual((after, self.app.take()), (before, []))
        self.assertTrue(first.to.tag)
        return first

    def refused_invite(self, call: str, status: int, extra: str = "") -> None:
        """The same for an INVITE; its ACK gets no answer and goes nowhere."""
        refusal = self.sent_away(request("INVITE", call=call, extra=extra), status)
        tag = refusal.to.tag or ""
        self.bench.receive(request("ACK", call=call, branch="INVITE-1", to_tag=tag, extra=extra))
        self.assertEqual((self.bench.take(), self.app.take()), ([], []))

    def test_too_many(self) -> None:
        """What is too much."""
        self.refused_invite("c2", 503)
        for method in ("MESSAGE", "CANCEL"):
            self.sent_away(request(method, call="c2"), 503)

    def test_spammers(self) -> None:
        """Scanners."""
        self.refused_invite("c2", 603, "User-Agent: scanner")

    def test_names(self) -> None:
        """What would take over another's call."""
        self.refused_invite("c1|x", 400)

    def test_hops(self) -> None:
        """What comes by in the dialog of a proxied call and has gone far enough."""
        text = request("INFO", to_tag="b", extra=ROUTE)
        self.sent_away(text.replace("Max-Forwards: 70", "Max-Forwards: 0"), 483)

    def test_malformed(self) -> None:
        """What cannot be read."""
        self.sent_away(request("INVITE", call="c2"), 400, bad=True)

    def test_no_way_back(self) -> None:
        """What does not say where an answer would go gets none, nor does an ACK."""
        core = self.bench.core
        flow = self.bench.wire.flow("127.0.0.1", 32070)
        for text in (request("ACK"), "OPTIONS sip:a SIP/2.0\nCall-ID: 1"):
            core.send_away(Request.from_bytes(sip(text)), flow, 400)
        self.assertEqual((self.bench.take(), core.send_away.counts), ([], {}))
