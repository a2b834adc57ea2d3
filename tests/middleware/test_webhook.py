"""Tests of the web callback, asked over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, FileBodyProducer
from twisted.web.server import Request as ServerRequest
from twisted.web.server import Site
from twisted.web.test.requesthelper import DummyChannel

from drachtwist.middleware.webhook import RoutingResource, proxy, redirect, reject, route
from drachtwist.sip.message import Request
from drachtwist.wire.decisions import Decision, RoutingQuery
from tests.web import body_of

INVITE = (
    b"INVITE sip:bob@127.0.0.1 SIP/2.0\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\n"
    b"From: <sip:a@b>;tag=1\r\nTo: <sip:bob@127.0.0.1>\r\nContent-Length: 0\r\n\r\n"
)


class RoutingResourceTests(TestCase):
    async def ask(
        self, decide: Callable[..., object], query: str, body: bytes | None = None
    ) -> tuple[int, Any]:
        """Serve ``decide`` on a free port, and ask it one question."""
        clock: Any = reactor
        port = clock.listenTCP(0, Site(RoutingResource(decide)), interface="127.0.0.1")
        try:
            response = await Agent(clock).request(
                b"GET" if body is None else b"POST",
                f"http://127.0.0.1:{port.getHost().port}/any/?{query}".encode(),
                bodyProducer=None if body is None else FileBodyProducer(BytesIO(body)),
            )
            text = await body_of(response)
            return response.code, json.loads(text) if response.code == 200 else text
        finally:
            await port.stopListening()

    async def test_decisions(self) -> None:
        """Every decision reaches the server as the JSON that it understands."""
        for decision, expected in (
            (reject(503, "Max Calls"), ("reject", {"status": 503, "reason": "Max Calls"})),
            (redirect("sip:a@b", "<sip:c@d>"), ("redirect", {"contact": ["sip:a@b", "<sip:c@d>"]})),
            (route("10.0.0.1:4000", tls=True), ("route", {"uri": "10.0.0.1:4000;transport=tls"})),
            (route(tag="blue"), ("route", {"tag": "blue"})),
            (
                proxy("sip:a@b", record_route=True, provisional_timeout=1.5),
                (
                    "proxy",
                    {
                        "destination": ["sip:a@b"],
                        "recordRoute": True,
                        "followRedirects": True,
                        "simultaneous": False,
                        "provisionalTimeout": "1500ms",
                    },
                ),
            ),
        ):
            code, answer = await self.ask(lambda query, result=decision: result, "method=INVITE")
            self.assertEqual(code, 200)
            self.assertEqual((answer["action"], answer["data"]), expected)

    async def test_query(self) -> None:
        """The function sees what the server knows about the request."""
        seen: list[RoutingQuery] = []

        def decide(query: RoutingQuery) -> Decision:
            seen.append(query)
            return reject(404)

        sent = RoutingQuery("INVITE", "example.com", "udp", "192.0.2.1", "alice", "b&b", "bob")
        await self.ask(decide, sent.encode())
        self.assertEqual(seen, [sent])

    async def test_message_of_a_post(self) -> None:
        """A function with two parameters gets the SIP request too, where the server sends it."""
        seen: list[Request | None] = []

        async def decide(query: RoutingQuery, message: Request | None) -> Decision:
            seen.append(message)
            return reject(404)

        await self.ask(decide, "method=INVITE")
        await self.ask(decide, "method=INVITE", INVITE)
        self.assertIsNone(seen[0])
        assert seen[1] is not None
        self.assertEqual(seen[1].get("call-id"), "c1")

    async def test_message_by_its_default(self) -> None:
        """A second parameter that has a default gets the request too."""
        seen: list[Request | None] = []

        def decide(query: RoutingQuery, request: Request | None = None) -> Decision:
            seen.append(request)
            return reject(404)

        def other(query: RoutingQuery, *, retries: int = 3) -> Decision:
            return reject(400 + retries)

        await self.ask(decide, "method=INVITE", INVITE)
        assert seen[0] is not None
        self.assertEqual(seen[0].get("call-id"), "c1")
        _, answer = await self.ask(other, "method=INVITE", INVITE)
        self.assertEqual(answer["data"]["status"], 403)

    async def test_later(self) -> None:
        """A Deferred is waited for."""

        def decide(query: RoutingQuery) -> Deferred[Decision]:
            return succeed(reject(480))

        self.assertEqual((await self.ask(decide, ""))[1]["data"], {"status": 480})

    async def test_server_has_gone(self) -> None:
        """A server that asks and goes away before there is a decision is answered nothing."""
        for outcome in (reject(480), None):
            later: Deferred[Decision] = Deferred()
            channel: Any = DummyChannel()
            asked = ServerRequest(channel, False)
            asked.content = BytesIO()
            asked.uri = b"/?method=INVITE"
            RoutingResource(lambda query, later=later: later).render_GET(asked)
            asked.connectionLost(Failure(ConnectionLost("gone")))
            if outcome is None:
                later.errback(KeyError("broken"))
            else:
                later.callback(outcome)
            self.assertEqual(channel.transport.written.getvalue(), b"")
        self.assertEqual(len(self.flushLoggedErrors()), 1)

    async def test_no_decision(self) -> None:
        """A function that raises or returns nonsense is logged, and gives no decision."""

        def broken(query: RoutingQuery) -> Decision:
            raise KeyError("broken")

        self.assertEqual(await self.ask(broken, ""), (500, b""))
        self.assertEqual(await self.ask(lambda query: "bob", ""), (500, b""))
        self.assertEqual(len(self.flushLoggedErrors(KeyError, TypeError)), 2)

    async def test_garbage_body(self) -> None:
        """A body that is no SIP message is refused, and the function is not asked."""
        code, _ = await self.ask(lambda query: self.fail("asked"), "", b"garbage")
        self.assertEqual(code, 400)
