"""Tests of the routing question and its answers."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from drachtwist.errors import LocalProtocolError, RemoteProtocolError
from drachtwist.wire.decisions import (
    ANSWER_LIMIT,
    AppAddress,
    Decision,
    ProxyTo,
    Redirect,
    Reject,
    RouteTo,
    RoutingQuery,
    format_decision,
    parse_decision,
)

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0|"), max_size=20)
DECISIONS: st.SearchStrategy[Decision] = st.one_of(
    st.builds(Reject, st.integers(100, 699), st.none() | TEXTS),
    st.builds(Redirect, st.lists(TEXTS, max_size=3).map(tuple)),
    st.builds(
        ProxyTo,
        st.lists(TEXTS, min_size=1, max_size=3).map(tuple),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.sampled_from(["5s", "1500ms"]),
        st.sampled_from(["", "30s"]),
    ),
    st.builds(RouteTo, st.builds(AppAddress, st.just("::1"), st.integers(1, 65535), st.booleans())),
    st.builds(RouteTo, st.none(), TEXTS),
)


class DecisionTests(SynchronousTestCase):
    @given(DECISIONS)
    def test_round_trip(self, decision: Decision) -> None:
        """What is written is read as the same decision."""
        self.assertEqual(parse_decision(format_decision(decision)), decision)

    @given(st.binary(max_size=200))
    def test_anything_may_come(self, body: bytes) -> None:
        """Garbage raises nothing but the documented error."""
        try:
            decision = parse_decision(body)
        except RemoteProtocolError:
            return
        self.assertIsInstance(decision, (Reject, Redirect, ProxyTo, RouteTo))

    def test_short_answer(self) -> None:
        """The answer of drachtio's documentation is a route."""
        decision = parse_decision(b'{"uri": "10.32.100.2:808;transport=tls"}')
        self.assertEqual(decision, RouteTo(AppAddress("10.32.100.2", 808, tls=True)))

    def test_defaults_of_a_proxy(self) -> None:
        """Values of the wrong type count as absent."""
        data = {
            "destination": "sip:a@b",
            "provisionalTimeout": 1,
            "finalTimeout": 2,
            "recordRoute": "yes",
            "followRedirects": 0,
            "simultaneous": None,
        }
        body = {"action": "proxy", "data": data, "more": [1]}
        self.assertEqual(parse_decision(json.dumps(body).encode()), ProxyTo(("sip:a@b",)))

    def test_uri_wins(self) -> None:
        """Of an address and a tag the address counts, if it is a text."""
        for uri, expected in (
            ("10.0.0.5:4000", RouteTo(AppAddress("10.0.0.5", 4000))),
            (4000, RouteTo(tag="red")),
        ):
            body = {"action": "route", "data": {"uri": uri, "tag": "red"}}
            self.assertEqual(parse_decision(json.dumps(body).encode()), expected)

    def test_refused(self) -> None:
        """What the real server answers with a 500 is an error here."""
        for body in (
            b"",
            b"[]",
            b"{}",
            b'{"action": "reject"}',
            b'{"action": "reject", "data": {}}',
            b'{"action": "reject", "data": {"status": "486"}}',
            b'{"action": "reject", "data": {"status": 486.5}}',
            b'{"action": "reject", "data": {"status": -1}}',
            b'{"action": "reject", "data": {"status": true}}',
            b'{"action": "redirect", "data": {"contacts": ["sip:a@b"]}}',
            b'{"action": "proxy", "data": {"destinations": ["sip:a@b"]}}',
            b'{"action": "proxy", "data": {"destination": []}}',
            b'{"action": "proxy", "data": {"destination": ["sip:a@b", 1]}}',
            b'{"action": "route", "data": {}}',
            b'{"action": "route", "data": {"uri": "10.0.0.5"}}',
            b'{"action": "route", "data": {"uri": "tcp://10.0.0.5:4000"}}',
            b'{"action": "route", "data": {"uri": "10.0.0.5:4000;transport=udp"}}',
            b'{"action": "route", "data": {"uri": "10.0.0.5:4000;x=1;transport=tls"}}',
            b'{"action": "route", "data": {"uri": "10.0.0.5:0"}}',
            b'{"action": "route", "data": {"uri": "10.0.0.5:65536"}}',
            b'{"action": "route", "data": {"uri": ""}}',
            b'{"action": "route", "data": {"uri": " 10.0.0.5:4000"}}',
            b'{"action": "route", "data": {"uri": "sip:10.0.0.5:4000"}}'.replace(b"sip:", b"//"),
            b'{"action": "route", "data": {"uri": "joe@10.0.0.5:4000"}}',
            b'{"action": "route", "data": {"uri": "a..b:4000"}}',
            b'{"action": "route", "data": {"uri": 4000}}',
            b'{"action": "route", "data": {"tag": ["red"]}}',
            b'{"action": "route", "data": "10.0.0.5:4000"}',
            b'{"action": 1, "data": {}}',
            b'{"action": "Route", "data": {"tag": "red"}}',
            b'{"url": "10.0.0.5:4000"}',
            b'{"uri": 4000}',
            b'{"action": "redirect", "data": {"contact": 5}}',
            b'{"action": "redirect", "data": {"contact": {"uri": "sip:a@b"}}}',
            b'\xef\xbb\xbf{"action": "reject", "data": {"status": 486}}',
            b'{"action": "dance", "data": {}}',
            b'{"action": "reject", "data": {"status": 486}} and more',
            b'{"a": "' + b"x" * ANSWER_LIMIT + b'"}',
            b"[" * 10_000,
            # Half a character can be sent to nobody.
            b'{"action": "redirect", "data": {"contact": ["sip:\\ud800@b"]}}',
            b'{"action": "proxy", "data": {"destination": "sip:\\udcff@b"}}',
            b'{"action": "route", "data": {"uri": "\\ud800:4000"}}',
            b'{"action": "route", "data": {"tag": "\\ud800"}}',
        ):
            with self.assertRaises(RemoteProtocolError, msg=repr(body[:80])):
                parse_decision(body)

    def test_reject_without_usable_reason(self) -> None:
        """A reason that could split the response is dropped, the status is kept."""
        for reason in (b"a\\r\\nX: y", b"\\ud800", b"a\\u0000"):
            body = b'{"action": "reject", "data": {"status": 503, "reason": "%b"}}' % reason
            self.assertEqual(parse_decision(body), Reject(503))

    def test_no_server_could_obey(self) -> None:
        """Impossible decisions are refused before they are sent."""
        for decision in (
            Reject(99),
            Reject(486, "a\r\nb"),
            ProxyTo(()),
            RouteTo(),
            Redirect(("sip:a\n@b",)),
            Reject(486, "\udcff"),
            Redirect(("sip:\udcff@b",)),
            ProxyTo(("sip:\udcff@b",)),
            RouteTo(tag="\udcff"),
        ):
            with self.assertRaises(LocalProtocolError):
                format_decision(decision)

    def test_addresses(self) -> None:
        """IPv6 addresses work with brackets and without; the empty host is this machine."""
        self.assertEqual(AppAddress.parse("::1:4000"), AppAddress("::1", 4000))
        self.assertEqual(AppAddress.parse("[::1]:4000"), AppAddress("::1", 4000))
        self.assertEqual(AppAddress.parse(":4000"), AppAddress("", 4000))
        for rest in ("/path", " ", ";transport=tcp /x", "\r\n"):
            self.assertEqual(AppAddress.parse(f"10.0.0.5:4000{rest}"), AppAddress("10.0.0.5", 4000))
        self.assertEqual(
            AppAddress.parse("app.example.com:4000;transport=TLS"),
            AppAddress("app.example.com", 4000, tls=True),
        )


class RoutingQueryTests(SynchronousTestCase):
    def test_as_a_real_server_asks(self) -> None:
        """Keys, order and percent-coding are those of the recorded query."""
        query = RoutingQuery(
            "INVITE",
            "127.0.0.1",
            "udp",
            "127.0.0.1",
            "alice",
            "+1 é",
            "app",
            "application/sdp",
            "sip:app@127.0.0.1:32060;lr",
            {"lr": ""},
        )
        self.assertEqual(
            query.encode(),
            "method=INVITE&domain=127.0.0.1&protocol=udp&source_address=127.0.0.1&fromUser=alice"
            "&toUser=%2b1%20%c3%a9&uriUser=app&contentType=application%2fsdp"
            "&uri=sip%3aapp%40127.0.0.1%3a32060%3blr&lr=",
        )

    def test_decode(self) -> None:
        """Known keys fill the fields, the others are parameters of the URI."""
        query = RoutingQuery.decode({"method": "MESSAGE", "uri": "sip:a@b;x=1", "x": "1"})
        self.assertEqual(query, RoutingQuery("MESSAGE", uri="sip:a@b;x=1", uri_params={"x": "1"}))
