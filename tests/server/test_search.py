"""What a proxy makes of the answers of several targets (RFC 3261 sections 16.6 and 16.7)."""

from __future__ import annotations

from drachtwist.sip.message import Request
from tests.server.doubles import head, request
from tests.server.test_proxying import CALLEE, ProxyTestCase
from tests.server.test_uac import reply

SECOND = "sip:carol@127.0.0.1:32072"


class SearchTests(ProxyTestCase):
    def begin(self, *targets: str, way: str = "serial") -> list[Request]:
        """Let a call be proxied; give the INVITEs that were sent."""
        self.bench.receive(request("INVITE"))
        [frame] = self.app.take()
        self.proxy(frame, *targets, way=way)
        return [one for one in self.bench.take() if isinstance(one, Request)]

    def test_declined_everywhere(self) -> None:
        """A 6xx ends the search: whoever was not asked is not asked any more."""
        [first] = self.begin(CALLEE, SECOND)
        self.bench.receive(reply(first, 603), port=32071)
        self.assertEqual(self.bench.heads(), ["ACK", "603 INVITE"])

    def test_every_challenge_once(self) -> None:
        """The challenges of all are passed on, and none of them twice."""
        line = 'WWW-Authenticate: Digest realm="one", nonce="1"'
        invites = self.begin(CALLEE, SECOND, way="simultaneous")
        self.bench.receive(reply(invites[0], 486), port=32071)
        self.bench.receive(reply(invites[1], 401, extra=line), port=32072)
        [refusal] = self.answers()
        self.assertEqual(refusal.get_all("WWW-Authenticate"), [line.partition(": ")[2]])

    def test_made_up(self) -> None:
        """A refusal that is the proxy's own has a To tag."""
        for port in (32071, 32072):
            self.bench.wire.close(self.bench.wire.flow("127.0.0.1", port))
        self.bench.receive(request("INVITE"))
        [frame] = self.app.take()
        self.proxy(frame, CALLEE, SECOND)
        [refusal] = self.answers()
        self.assertEqual(refusal.status, 500)
        self.assertTrue(refusal.to.tag)

    def test_repeated(self) -> None:
        """A 2xx that is repeated goes to the caller again, and into no further record."""
        self.start(cdrs=True)
        records = self.bench.link("cdr:start")
        [invite] = self.begin(CALLEE)
        for _ in range(3):
            self.bench.receive(reply(invite, 200), port=32071)
        self.assertEqual([head(one) for one in self.answers()], ["200 INVITE"] * 3)
        self.assertEqual(len(records.take()), 2)  # one for either side

    def test_cancelled_before_it_was_sent(self) -> None:
        """What is cancelled before anybody has it is over at once, and so is the search."""
        self.bench.receive(request("INVITE"))
        [frame] = self.app.take()
        self.proxy(frame, "sip:bob@example.test")
        self.bench.receive(request("CANCEL"))
        self.assertEqual(self.app.take()[-1].rpartition("|")[2], "done")
